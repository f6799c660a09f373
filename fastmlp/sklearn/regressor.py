"""The regressor: values in, and values out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import xlogy
from sklearn.base import RegressorMixin
from sklearn.utils import column_or_1d
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metaestimators import available_if

from fastmlp.arrays import Float32
from fastmlp.callbacks import Callback
from fastmlp.losses import LOSSES, Loss, loss_of
from fastmlp.rows import Targets
from fastmlp.sklearn import inputs
from fastmlp.sklearn.base import BaseMLP, is_stochastic
from fastmlp.sklearn.parameters import checking

__all__ = ["MLPRegressor"]

KINDS = ("values", "counts")
LOSS_NAMES = [name for name, loss in LOSSES.items() if loss.targets in KINDS]


class MLPRegressor(RegressorMixin, BaseMLP):
    """scikit-learn's MLPRegressor, trained by fastmlp: its parameters, its attributes, its results.

    What is said of `MLPClassifier` holds for it as well.

    Parameters
    ----------
    loss : str or fastmlp.losses.Loss, default "squared_error"
        "squared_error" (half of it) and "poisson" (half of its deviance, with an exponential output) as in
        scikit-learn; and "absolute_error", "huber", "quantile", or an object of `fastmlp.losses` with parameters, as
        ``Huber(delta=2.0)``. For ``Quantile(levels)`` of several levels `predict` returns a column for each, and
        `score` has no meaning.
    hidden_layer_sizes, activation, solver, alpha, batch_size, learning_rate, learning_rate_init, power_t, max_iter, \
shuffle, random_state, tol, verbose, warm_start, momentum, nesterovs_momentum, early_stopping, validation_fraction, \
beta_1, beta_2, epsilon, n_iter_no_change, max_fun, n_threads, weight_decay, clip_norm, clip_value, dropout, \
batch_norm, scoring, keep_optimizer, max_time, callbacks
        As in `MLPClassifier`; `early_stopping` judges epochs by R2.

    Attributes
    ----------
    network_, coefs_, intercepts_, loss_, best_loss_, loss_curve_, validation_loss_curve_, validation_scores_, \
best_validation_score_, n_iter_, t_, n_layers_, n_outputs_, out_activation_, n_features_in_, feature_names_in_
        As in `MLPClassifier`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp.sklearn import MLPRegressor
    >>> X = np.linspace(-1, 1, 50).reshape(-1, 1)
    >>> regressor = MLPRegressor(hidden_layer_sizes=20, solver="lbfgs", random_state=0).fit(X, X[:, 0] ** 2)
    >>> regressor.score(X, X[:, 0] ** 2) > 0.99
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseMLP._parameter_constraints,
        "loss": [StrOptions(set(LOSS_NAMES)), Loss],
    }

    def __init__(
        self,
        loss: str | Loss = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: str = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool | int = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        n_threads: int | None = None,
        weight_decay: float = 0.01,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        dropout: float | Sequence[float] = 0.0,
        batch_norm: bool = False,
        scoring: Any = None,
        keep_optimizer: bool = False,
        max_time: float | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        self._take(locals())

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the value of each row, (n,); of several outputs, (n, n_outputs). float32 for such X, else float64.

        Parameters
        ----------
        X : array or SciPy sparse matrix (n, k)
        """
        outputs = self._outputs(X)
        return outputs[:, 0] if outputs.shape[1] == 1 else outputs

    @available_if(is_stochastic)
    @checking
    def partial_fit(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> MLPRegressor:
        """Train for one epoch of these rows, from where training stands, optimizer included.

        Parameters
        ----------
        X : array or SciPy sparse matrix (n, k)
        y : array (n,) or (n, n_outputs)
        sample_weight : array (n,) or None

        Returns
        -------
        self
        """
        self._fit(X, y, sample_weight, incremental=True)
        return self

    def _loss(self) -> str | Loss:
        loss: str | Loss = self.loss
        return loss

    def _loss_terms(self, targets: NDArray[Any], weights: Float32 | None) -> tuple[float, float]:
        if loss_of(self.loss).targets != "counts":
            return 1 / self.n_outputs_, 0.0  # a mean over the outputs, where the network's is a sum
        # Half of the deviance, which is 0 where all is right.
        least = np.average(xlogy(targets, targets, dtype=np.float64) - targets, axis=0, weights=weights)
        return 1.0, float(least.sum())

    def _validated(self, X: Any, y: Any, *, classes: str, reset: bool, known: bool) -> tuple[Any, Any, Any]:  # noqa: ARG002
        if loss_of(self.loss).targets not in KINDS:
            raise ValueError(
                f"loss must be one of values: {', '.join(LOSS_NAMES)}, or such a Loss; not {self.loss!r:.80}"
            )
        X, y = inputs.examples(self, X, y, reset=reset, known=known, y_numeric=True)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if loss_of(self.loss).targets == "counts" and y.min() < 0:
            raise ValueError(f"y must hold counts or rates, from 0 on, for loss={self.loss!r}; it has {y.min()}")
        return X, y, None

    def _targets(self, y: Any) -> Targets:
        with np.errstate(over="ignore"):
            return Targets(None, np.require(y.reshape(len(y), -1), np.float32, ["C", "A"]))
