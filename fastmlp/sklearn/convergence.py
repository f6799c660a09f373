"""When a stochastic solver slows down or ends: scikit-learn's rules, as a callback of the engine's epochs."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from fastmlp import metrics
from fastmlp.arrays import Array, Float32
from fastmlp.callbacks import Callback, Progress
from fastmlp.engine.trainer import Trainer
from fastmlp.layers import squared_norm
from fastmlp.network import MLP
from fastmlp.rows import Targets
from fastmlp.sparse import SparseRows

__all__ = ["Convergence", "Validation"]

SMALLEST_RATE = 1e-6  # with which "adaptive" ends


class Validation:
    """Rows that are held out, and how well the network says what they should be.

    Parameters
    ----------
    rows : array (n, k) or SparseRows
    targets : Targets
    weights : float32 array (n,) or None

    Examples
    --------
    >>> import numpy as np, fastmlp
    >>> from fastmlp.rows import Targets
    >>> from fastmlp.sklearn.convergence import Validation
    >>> rows, labels = np.zeros((2, 3), np.float32), np.array([0, 1])
    >>> Validation(rows, Targets(labels, None), None).scores(fastmlp.MLP((3, 2)))[1]
    0.5
    """

    def __init__(self, rows: Array | SparseRows, targets: Targets, weights: Float32 | None) -> None:
        self.rows = rows
        self.targets = targets
        self.weights = weights

    def scores(self, network: MLP) -> tuple[float, float]:
        """Return the mean loss, and the accuracy or, of values, R2."""
        found = metrics.scores(network._logits(self.rows), self.targets, network.loss, self.weights)
        return found["loss"], found["accuracy" if "accuracy" in found else "r2"]


class Convergence(Callback):
    """Write an estimator's records after each epoch, and say when to end.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
    trainer : Trainer
    n : int
        Rows of an epoch.
    batch_size : int
    decay : float
        What the squared norm of the weights adds to the loss.
    scale : float
        Of scikit-learn's loss by that of the network.
    validation : Validation or None

    Examples
    --------
    A stochastic solver has one:

    >>> from fastmlp.sklearn import MLPRegressor
    >>> regressor = MLPRegressor(hidden_layer_sizes=4, n_iter_no_change=3, tol=1e9)  # nothing gains so much
    >>> regressor.fit([[0.0], [1.0]], [0.0, 1.0]).n_iter_
    5
    """

    def __init__(
        self,
        estimator: Any,
        trainer: Trainer,
        n: int,
        *,
        batch_size: int,
        decay: float,
        scale: float,
        validation: Validation | None,
    ) -> None:
        self.estimator = estimator
        self.trainer = trainer
        self.n = n
        self.short = (-n) % batch_size  # rows by which the last batch is smaller
        self.batch_size = batch_size
        self.decay = decay
        self.scale = scale
        self.validation = validation
        self.norm = squared_norm(estimator.network_.layers, estimator.network_.parameters)
        self.began = time.monotonic()

    def on_epoch_end(self, progress: Progress) -> None:
        """Record the epoch, and judge it."""
        estimator = self.estimator
        estimator.n_iter_ += 1
        estimator.t_ += self.n
        estimator.loss_ = self._loss(progress.network)
        estimator.loss_curve_.append(estimator.loss_)
        if estimator.verbose:
            print(f"Iteration {estimator.n_iter_}, loss = {estimator.loss_:.8f}")
        improved = self._improved_loss() if self.validation is None else self._judge(self.validation, progress.network)
        estimator._no_improvement_count = 0 if improved else estimator._no_improvement_count + 1
        if estimator.solver == "sgd" and estimator.learning_rate == "invscaling":
            self._set_rate(estimator.learning_rate_init / (estimator.t_ + 1) ** estimator.power_t)
        if estimator._no_improvement_count > estimator.n_iter_no_change:
            self._stop_or_slow(progress)
        if estimator.max_time is not None and time.monotonic() - self.began > estimator.max_time:
            progress.stop = True

    def _loss(self, network: MLP) -> float:
        """The mean over the epoch's rows; the weights are those of its beginning and end, on average."""
        total, last = self.trainer.total_cost, self.trainer.total_cost - self.trainer.cost_before
        mean = (total * self.batch_size - last * self.short) / self.n
        before, self.norm = self.norm, squared_norm(network.layers, network.parameters)
        return self.scale * mean + self.decay * (before + self.norm) / 2

    def _judge(self, validation: Validation, network: MLP) -> bool:
        """Record what the rows held out say; whether they, or the losses of the others, say that the epoch gained."""
        estimator = self.estimator
        loss, score = validation.scores(network)
        estimator.validation_loss_curve_.append(self.scale * loss)
        if estimator.validation_scores_ is None:
            estimator.validation_scores_ = []
        estimator.validation_scores_.append(score)
        if estimator.verbose:
            print(f"Validation score: {score:f}")
        return self._improved_score(score, network) if estimator.early_stopping else self._improved_loss()

    def _improved_loss(self) -> bool:
        estimator = self.estimator
        best = estimator.best_loss_
        estimator.best_loss_ = min(best, estimator.loss_)
        return not estimator.loss_ > best - estimator.tol

    def _improved_score(self, score: float, network: MLP) -> bool:
        estimator = self.estimator
        best = estimator.best_validation_score_
        if score > best:
            estimator.best_validation_score_ = score
            estimator._best_parameters = network.parameters.copy()
        return not score < best + estimator.tol

    def _stop_or_slow(self, progress: Progress) -> None:
        estimator = self.estimator
        what = "Validation score" if estimator.early_stopping else "Training loss"
        message = (
            f"{what} did not improve more than tol={estimator.tol:f} for {estimator.n_iter_no_change} consecutive "
            "epochs."
        )
        rate = estimator._optimizer.learning_rate
        adaptive = estimator.solver == "sgd" and estimator.learning_rate == "adaptive"
        if adaptive and rate > SMALLEST_RATE:
            self._set_rate(rate / 5)
            estimator._no_improvement_count = 0
            message += f" Setting learning rate to {rate / 5:f}"
        else:
            progress.stop = True
            message += " Learning rate too small. Stopping." if adaptive else " Stopping."
        if estimator.verbose:
            print(message)

    def _set_rate(self, rate: float) -> None:
        """Take another learning rate; scikit-learn's velocity has the old one in it, and keeps its length."""
        optimizer, network = self.estimator._optimizer, self.estimator.network_
        velocity, nothing = network._state.moments
        velocity *= np.float32(optimizer.learning_rate / rate)
        optimizer.learning_rate = rate
        self.trainer.load(network.parameters, (velocity, nothing))
