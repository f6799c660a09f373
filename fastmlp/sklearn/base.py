"""What the two estimators have in common: parameters and their ranges, `fit`, and what a fitted one shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, _fit_context
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from fastmlp.activations import ACTIVATIONS
from fastmlp.arrays import Float32
from fastmlp.layers import layout
from fastmlp.losses import loss_of
from fastmlp.network import MLP
from fastmlp.rows import Targets, checked_rows, checked_weights
from fastmlp.sklearn import exchange, solvers

__all__ = ["BaseMLP", "is_stochastic"]

NONNEGATIVE = Interval(Real, 0, None, closed="left")
POSITIVE = Interval(Real, 0, None, closed="neither")
COUNT = Interval(Integral, 1, None, closed="left")
DECAY = Interval(Real, 0, 1, closed="left")

# First weights are uniform within the root of this factor / (fan_in + fan_out): Glorot & Bengio 2010, equation 16, for
# activations of slope 1 at 0.
FACTORS = {"logistic": 2.0}


# What the parameters may be, in scikit-learn's own terms.
CONSTRAINTS: dict[str, list[Any]] = {
    "hidden_layer_sizes": ["array-like", COUNT],
    "activation": [StrOptions(set(ACTIVATIONS)), tuple, list],
    "solver": [StrOptions({"lbfgs", "sgd", "adam", "adamw"})],
    "alpha": [NONNEGATIVE],
    "batch_size": [StrOptions({"auto"}), COUNT],
    "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"})],
    "learning_rate_init": [POSITIVE, callable],
    "power_t": [NONNEGATIVE],
    "max_iter": [COUNT],
    "shuffle": ["boolean"],
    "random_state": ["random_state"],
    "tol": [NONNEGATIVE],
    "verbose": ["verbose"],
    "warm_start": ["boolean"],
    "momentum": [Interval(Real, 0, 1, closed="both")],
    "nesterovs_momentum": ["boolean"],
    "early_stopping": ["boolean"],
    "validation_fraction": [DECAY],
    "beta_1": [DECAY],
    "beta_2": [DECAY],
    "epsilon": [POSITIVE],
    "n_iter_no_change": [COUNT, Options(Real, {np.inf})],
    "max_fun": [COUNT],
    "n_threads": [COUNT, None],
    "weight_decay": [NONNEGATIVE],
    "clip_norm": [POSITIVE, None],
    "keep_optimizer": ["boolean"],
    "max_time": [POSITIVE, None],
    "callbacks": [tuple, list],
}


class Arrays(list[Float32]):
    """Arrays of a network's own memory: what takes the place of one is written into it.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp.sklearn.base import Arrays
    >>> array = np.zeros(2, np.float32)
    >>> arrays = Arrays([array])
    >>> arrays[0] = [1, 2]
    >>> array
    array([1., 2.], dtype=float32)
    """

    def __setitem__(self, which: Any, values: Any) -> None:
        """Write values, of the same shape, into an array, or into some."""
        if not isinstance(which, slice):
            which, values = slice(which, which + 1 or None), [values]
        for array, new in zip(self[which], values, strict=True):
            if np.shape(new) != array.shape:
                raise ValueError(f"an array of shape {array.shape} cannot take values of shape {np.shape(new)}")
            array[...] = new


class BaseMLP(BaseEstimator):
    """Base of the estimators: all but what y is, and what is said of it.

    Examples
    --------
    >>> from fastmlp.sklearn import MLPRegressor
    >>> from fastmlp.sklearn.base import BaseMLP
    >>> isinstance(MLPRegressor(), BaseMLP)
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = CONSTRAINTS

    network_: MLP
    classes_: NDArray[Any]
    n_iter_: int
    t_: int

    def _take(self, arguments: Mapping[str, Any]) -> None:
        """Keep the constructor's arguments, its `locals()`, as they are: scikit-learn checks them in `fit`."""
        for name, value in arguments.items():
            if name not in ("self", "__class__"):
                setattr(self, name, value)

    # -- What a fitted one shows

    @property
    def coefs_(self) -> Arrays:
        """Weights of each layer, float32 (n_in, n_out): the network's own memory, which may be written to."""
        return Arrays(self._network().weights)

    @coefs_.setter
    def coefs_(self, values: Iterable[ArrayLike]) -> None:
        self.coefs_[:] = list(values)

    @property
    def intercepts_(self) -> Arrays:
        """Bias of each layer, float32 (n_out,), as `coefs_`."""
        return Arrays(self._network().biases)

    @intercepts_.setter
    def intercepts_(self, values: Iterable[ArrayLike]) -> None:
        self.intercepts_[:] = list(values)

    @property
    def n_layers_(self) -> int:
        """Layers, inputs and outputs included."""
        return len(self._network().layer_sizes)

    @property
    def n_outputs_(self) -> int:
        """Outputs of the network."""
        return self._network().layer_sizes[-1]

    @property
    def out_activation_(self) -> str:
        """Activation of the outputs."""
        return loss_of(self._network().loss).output.name

    def _network(self) -> MLP:
        """The network; before `fit` an AttributeError, so that its attributes are not there."""
        try:
            network: MLP = vars(self)["network_"]
        except KeyError:
            raise AttributeError(f"this {type(self).__name__} is not fitted yet") from None
        return network

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    # -- Training

    @_fit_context(prefer_skip_nested_validation=True)
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
        if X_val is not None and self.solver == "lbfgs":
            raise ValueError("X_val must be None for solver='lbfgs', which has no epochs to judge")
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
        data = self._data(X, y, sample_weight, incremental=incremental, reset=first)
        held_out_data = None if held_out is None else self._data(*held_out, incremental=True, reset=False)
        random = check_random_state(self.random_state)
        values = data.targets.values
        sizes = (data.X.shape[1], *hidden, len(self.classes_) if values is None else values.shape[1])
        activation = self.activation if isinstance(self.activation, str) else tuple(self.activation)
        if first:
            self._begin(sizes, activation, random)
        elif sizes != self.network_.layer_sizes or activation != self.network_.activation:
            raise ValueError(
                f"the network has layers of {self.network_.layer_sizes} with {self.network_.activation!r} between "
                f"them, and now hidden_layer_sizes, activation, X and y ask for {sizes} with {activation!r}; "
                "fit with warm_start=False makes a new one"
            )
        self.network_.n_threads = self.n_threads
        try:
            with np.errstate(over="ignore"):  # what float32 cannot hold: the costs tell
                solvers.train(self, data, held_out_data, random, incremental=incremental)
        except ArithmeticError:
            raise ValueError(
                "Solver produced non-finite parameter weights. The input data may contain large values and need to be "
                "preprocessed."
            ) from None
        return self

    def _data(self, X: Any, y: Any, sample_weight: Any, *, incremental: bool, reset: bool) -> solvers.Data:
        """What scikit-learn has checked, with weights of the rows where there are some."""
        X, targets, weights = self._validated(X, y, incremental=incremental, reset=reset)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X)
            weights = sample_weight if weights is None else weights * sample_weight
        return solvers.Data(X, targets, checked_weights(weights, X.shape[0]))

    def _validated(self, X: Any, y: Any, *, incremental: bool, reset: bool) -> tuple[Any, Targets, Any]:
        """X checked, what the network is to say of its rows, and what they weigh by their classes, or None."""
        raise NotImplementedError

    def _loss(self) -> str:
        """The network's loss, a name of `fastmlp.losses.LOSSES`."""
        raise NotImplementedError

    def _loss_scale(self) -> float:
        """What scikit-learn's loss is, of the network's."""
        return 1.0

    def _begin(self, sizes: tuple[int, ...], activation: str | tuple[str, ...], random: np.random.RandomState) -> None:
        """Make a new network, of the weights that scikit-learn draws from this random state, and new attributes."""
        self.network_ = network = MLP._unfilled(
            sizes, activation=activation, loss=self._loss(), n_threads=self.n_threads
        )
        factor = FACTORS.get(activation if isinstance(activation, str) else "", 6.0)
        for i, _, offset, shape in layout(network.layers):
            layer = network.layers[i]
            bound = np.sqrt(factor / (layer.inputs + layer.units))
            network.parameters[offset : offset + np.prod(shape)] = random.uniform(-bound, bound, shape).ravel()
        solvers.begin(self)

    # -- Exchange

    @classmethod
    def from_sklearn(cls, fitted: Any) -> Any:
        """Return an estimator that predicts, to the rounding of float32, what scikit-learn's fitted one does.

        It has its parameters and records; training goes on with a new optimizer.

        Raises
        ------
        TypeError
            `fitted` is not scikit-learn's estimator of this name.
        NotFittedError
            It is not fitted.
        """
        return exchange.from_sklearn(cls, fitted)

    def to_sklearn(self) -> Any:
        """Return scikit-learn's own estimator, fitted, with the parameters that it has; it predicts the same.

        Raises
        ------
        ValueError
            scikit-learn does not have the activation, the solver or the loss.
        """
        return exchange.to_sklearn(self)

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
            X = validate_data(self, X, accept_sparse=["csr", "csc"], reset=False)
            logits = network._logits(solvers.as_rows(X))
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
