"""What the two estimators have in common: parameters and their ranges, `fit`, and what a fitted one shows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import _check_sample_weight, check_is_fitted

from fastmlp.arrays import Float32
from fastmlp.layers import layout
from fastmlp.losses import Loss, loss_of
from fastmlp.network import MLP
from fastmlp.rows import Targets, checked_rows, checked_weights
from fastmlp.sklearn import inputs, parameters, solvers
from fastmlp.sklearn.draws import random_state
from fastmlp.sklearn.fitted import Fitted

__all__ = ["BaseMLP", "is_stochastic"]

# First weights are uniform within the root of this factor / (fan_in + fan_out): Glorot & Bengio 2010, equation 16, for
# activations of slope 1 at 0.
FACTORS = {"logistic": 2.0}


class BaseMLP(Fitted, BaseEstimator):
    """Base of the estimators: all but what y is, and what is said of it.

    Examples
    --------
    >>> from fastmlp.sklearn import MLPRegressor
    >>> from fastmlp.sklearn.base import BaseMLP
    >>> isinstance(MLPRegressor(), BaseMLP)
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = parameters.CONSTRAINTS

    network_: MLP
    classes_: NDArray[Any]
    n_iter_: int
    t_: int

    def _take(self, arguments: Mapping[str, Any]) -> None:
        """Keep the constructor's arguments, its `locals()`, as they are: scikit-learn checks them in `fit`."""
        for name, value in arguments.items():
            if name not in ("self", "__class__"):
                setattr(self, name, value)

    def _validate_params(self) -> None:
        parameters.check(self)

    def __getstate__(self) -> dict[str, Any]:
        return solvers.without_kept(super().__getstate__())

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    # -- Training

    @parameters.checking
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: ArrayLike | None = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: ArrayLike | None = None,
    ) -> Any:
        """Train, from new weights or, with `warm_start`, from those of the last call.

        Parameters
        ----------
        X : array or SciPy sparse matrix (n, k)
        y : array (n,) or (n, n_outputs)
            Class labels or, of a regressor, values; (n, n_outputs) of a classifier are answers, 0 or 1.
        sample_weight : array (n,) or None
            Not negative.
        X_val, y_val, sample_weight_val : arrays or None
            Rows by which epochs are judged: with `early_stopping` in the place of `validation_fraction`, and without it
            for `validation_scores_` and `validation_loss_curve_` alone. Not of solver "lbfgs".

        Returns
        -------
        self

        Raises
        ------
        ValueError
            An argument or a parameter is not what it should be, or training diverged.

        Warns
        -----
        ConvergenceWarning
            `max_iter` came before the end.
        """
        if (X_val is None) != (y_val is None) or (X_val is None and sample_weight_val is not None):
            raise ValueError("X_val and y_val must be given together, and sample_weight_val with them")
        if self.solver == "lbfgs":
            solvers.require_plain(self, X_val)
        held_out = None if X_val is None else (X_val, y_val, sample_weight_val)
        return self._fit(X, y, sample_weight, incremental=False, held_out=held_out)

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: ArrayLike | None,
        *,
        incremental: bool,
        held_out: tuple[Any, Any, ArrayLike | None] | None = None,
    ) -> Any:
        if incremental and self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        hidden = _hidden_sizes(self.hidden_layer_sizes)
        first = not hasattr(self, "network_") or not (self.warm_start or incremental)
        classes = "more" if incremental else "new" if first else "same"
        data = self._data(X, y, sample_weight, classes=classes, reset=first, repeated=incremental or self.warm_start)
        held_out_data = None if held_out is None else self._data(*held_out, classes="known", reset=False)
        values = data.targets.values
        outputs = len(self.classes_) if values is None else values.shape[1] * loss_of(self._loss()).outputs_a_target
        arguments = self._arguments((data.X.shape[1], *hidden, outputs))
        try:
            # What float32 cannot hold the costs tell.
            with np.errstate(over="ignore"), random_state(self.random_state) as random:
                if first:
                    self._begin(arguments, random)
                else:
                    self._require_same(arguments)
                self.network_.n_threads = self.n_threads
                solvers.train(self, data, held_out_data, random, incremental=incremental)
        except ArithmeticError:
            raise ValueError(
                "Solver produced non-finite parameter weights. The input data may contain large values and need to be "
                "preprocessed."
            ) from None
        return self

    def _data(
        self, X: Any, y: Any, sample_weight: Any, *, classes: str, reset: bool, repeated: bool = False
    ) -> solvers.Data:
        """What has been checked, with weights of the rows where there are some; rows that may come again are marked."""
        mark = inputs.fingerprint(X) if repeated else None
        X, y, weights = self._validated(X, y, classes=classes, reset=reset, known=solvers.are_kept(self, mark))
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X)
            weights = sample_weight if weights is None else weights * sample_weight
        return solvers.Data(X, y, self._targets(y), checked_weights(weights, X.shape[0]), mark)

    def _validated(self, X: Any, y: Any, *, classes: str, reset: bool, known: bool) -> tuple[Any, Any, Any]:
        """X and y checked, and what the rows weigh by their classes, or None.

        The classes of y are "new", the "same" as before, some that are "known", or these and perhaps "more". `known`
        rows are known to be good.
        """
        raise NotImplementedError

    def _targets(self, y: Any) -> Targets:
        """What the network is to say of rows that have these y."""
        raise NotImplementedError

    def _loss(self) -> str | Loss:
        """The network's loss."""
        raise NotImplementedError

    def _loss_terms(self, targets: NDArray[Any], weights: Float32 | None) -> tuple[float, float]:  # noqa: ARG002
        """By what the network's mean loss of these targets is multiplied, and what is added, for scikit-learn's."""
        return 1.0, 0.0

    # -- The network

    def _arguments(self, sizes: tuple[int, ...]) -> dict[str, Any]:
        """By which `fastmlp.MLP` makes the network."""
        each = {name: getattr(self, name) for name in ("activation", "dropout")}
        each = {name: tuple(value) if isinstance(value, list) else value for name, value in each.items()}
        return {"layer_sizes": sizes, "loss": self._loss(), "batch_norm": bool(self.batch_norm), **each}

    def _begin(self, arguments: dict[str, Any], random: np.random.RandomState) -> None:
        """Make a new network, of the weights that scikit-learn draws from this random state, and new attributes."""
        self.network_ = network = MLP._unfilled(**arguments, n_threads=self.n_threads)
        for i, name, offset, shape in layout(network.layers):
            layer = network.layers[i]
            values = network._values[offset : offset + math.prod(shape)]
            if name in ("weights", "bias"):
                bound = math.sqrt(FACTORS.get(str(network.activation), 6.0) / (layer.inputs + layer.units))
                values[:] = random.uniform(-bound, bound, values.size)
            else:
                values[:] = name != "running_mean"
        if any(layer.dropout for layer in network.layers):
            network.seed = int(random.randint(2**31))
        solvers.begin(self)

    def _require_same(self, arguments: dict[str, Any]) -> None:
        """Refuse to go on with a network that is not the one that the parameters ask for."""
        network = self.network_
        if any(getattr(network, name) != value for name, value in arguments.items()):
            wanted = MLP._unfilled(**arguments)
            if any(getattr(network, name) != getattr(wanted, name) for name in arguments):
                raise ValueError(
                    f"the parameters, X and y ask for a network {wanted!r}, and there is {network!r}; fit with "
                    "warm_start=False makes a new one"
                )

    # -- Prediction

    def _logits(self, X: Any) -> Float32:
        """Outputs before the last activation, (n, n_outputs)."""
        if "network_" not in vars(self):
            check_is_fitted(self)
        network = self.network_
        with np.errstate(over="ignore"):  # what float32 cannot hold, which is told below
            if type(X) is np.ndarray and X.dtype in (np.float64, np.float32) and not hasattr(self, "feature_names_in_"):
                logits = network._few_rows.logits(X.astype(np.float32, copy=False))
                if logits is not None:  # they are a few, and sound
                    return logits
            X = inputs.rows(self, X)
            logits = network._logits(inputs.as_rows(X))
        if not np.isfinite(logits).all():
            checked_rows("X", X, network.layer_sizes[0])
        return logits

    def _outputs(self, X: Any) -> NDArray[Any]:
        """What the network says, (n, n_outputs): float32 where X is so, else float64."""
        logits = self._logits(X)
        outputs = loss_of(self.network_.loss).output.forward(logits)
        return outputs.astype(np.float32) if getattr(X, "dtype", None) == np.float32 else outputs


def _hidden_sizes(sizes: Any) -> list[int]:
    found = list(sizes) if isinstance(sizes, Iterable) else [sizes]
    if any(size <= 0 for size in found):
        raise ValueError(f"hidden_layer_sizes must be > 0, got {found}.")
    return found


def is_stochastic(estimator: BaseMLP) -> bool:
    """Whether an estimator has `partial_fit`; an AttributeError says why it has not.

    Examples
    --------
    >>> from fastmlp.sklearn import MLPClassifier
    >>> hasattr(MLPClassifier(solver="lbfgs"), "partial_fit")
    False
    """
    if estimator.solver == "lbfgs":
        raise AttributeError("partial_fit is only available for stochastic optimizers. lbfgs is not stochastic.")
    return True
