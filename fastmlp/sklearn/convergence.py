"""When a stochastic solver slows down or ends: scikit-learn's rules, by which the engine's epochs are judged."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import check_scoring

from fastmlp import metrics
from fastmlp.callbacks import Progress
from fastmlp.engine.trainer import Trainer
from fastmlp.layers import squared_norm
from fastmlp.losses import loss_of
from fastmlp.network import MLP
from fastmlp.sklearn import inputs

__all__ = ["Convergence", "Validation"]

SMALLEST_RATE = 1e-6  # with which "adaptive" ends


class Validation:
    """Rows that are held out, and how well the network says what they should be.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
        Whose `scoring` is the score: a scorer of scikit-learn's or its name, "loss" for minus the loss, or None for the
        accuracy or R2 and, of losses that have neither, minus the loss.
    data : Data

    Examples
    --------
    >>> import numpy as np, fastmlp
    >>> from fastmlp.rows import Targets
    >>> from fastmlp.sklearn import MLPClassifier
    >>> from fastmlp.sklearn.convergence import Validation
    >>> from fastmlp.sklearn.solvers import Data
    >>> y = np.array([0, 1])
    >>> data = Data(np.zeros((2, 3)), y, Targets(y, None), None)
    >>> Validation(MLPClassifier(), data).judge(fastmlp.MLP((3, 2)))["validation_accuracy"]
    0.5
    """

    def __init__(self, estimator: Any, data: Any) -> None:
        self.data = data
        rows = inputs.as_rows(data.X)
        self.rows = np.require(rows, np.float32, ["C", "A"]) if isinstance(rows, np.ndarray) else rows
        self.factor, self.constant = estimator._loss_terms(data.targets.given, data.weights)
        self.estimator = estimator
        self.scorer: Any = None
        if estimator.scoring not in (None, "loss"):
            self.scorer = check_scoring(estimator, estimator.scoring)

    def judge(self, network: MLP) -> dict[str, float]:
        """Return the mean loss, the score and what else there is to say, by their names in a history."""
        found = metrics.scores(network._logits(self.rows), self.data.targets, network.loss, self.data.weights)
        score = -found["loss"]
        if self.scorer is not None:
            score = self._scored()
        elif self.estimator.scoring is None:
            score = found.get("accuracy", found.get("r2", score))
        return {f"validation_{name}": value for name, value in found.items()} | {"validation_score": score}

    def _scored(self) -> float:
        # A copy, since what is held out of a data frame has lost the names of its columns.
        estimator = copy.copy(self.estimator)
        vars(estimator).pop("feature_names_in_", None)
        weights = {} if self.data.weights is None else {"sample_weight": self.data.weights}
        return float(self.scorer(estimator, self.data.X, self.data.y, **weights))


class Convergence:
    """Write an estimator's records after each epoch, and say when to end.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
    data : Data
    learned : int64 array (n,)
        Those of its rows that are learned from.
    trainer : Trainer
    batch_size : int
    validation : Validation or None

    Attributes
    ----------
    progress : Progress
        Of the run.

    Examples
    --------
    A stochastic solver has one:

    >>> from fastmlp.sklearn import MLPRegressor
    >>> regressor = MLPRegressor(hidden_layer_sizes=4, n_iter_no_change=3, tol=1e9)  # nothing gains so much
    >>> regressor.fit([[0.0], [1.0]], [0.0, 1.0]).n_iter_
    5
    """

    progress: Progress

    def __init__(
        self,
        estimator: Any,
        data: Any,
        learned: NDArray[np.int64],
        trainer: Trainer,
        *,
        batch_size: int,
        validation: Validation | None,
    ) -> None:
        self.estimator = estimator
        self.trainer = trainer
        self.n = n = len(learned)
        self.short = (-n) % batch_size  # rows by which the last batch is smaller
        self.batch_size = batch_size
        weights = None if data.weights is None else data.weights[learned]
        total = n if weights is None else float(weights.sum(dtype=np.float64))
        self.factor, self.constant = estimator._loss_terms(data.targets.given[learned], weights)
        # What the squared norm of the weights adds to the loss.
        self.decay = estimator.alpha / 2 * -(-n // batch_size) / total
        self.validation = validation
        self.weights = estimator.network_.weights
        self.norm = squared_norm(self.weights)

    @property
    def names(self) -> list[str]:
        """What `judge` computes."""
        if self.validation is None:
            return []
        return [f"validation_{name}" for name in (*loss_of(self.estimator.network_.loss).scores, "score")]

    def judge(self, network: MLP) -> dict[str, float]:
        """Record the epoch, and judge it; return what the rows held out say, by its name in the history."""
        estimator, found = self.estimator, {}
        estimator.n_iter_ += 1
        estimator.t_ += self.n
        estimator.loss_ = self._loss()
        estimator.loss_curve_.append(estimator.loss_)
        if estimator.verbose:
            print(f"Iteration {estimator.n_iter_}, loss = {estimator.loss_:.8f}")
        if self.validation is not None:
            found = self.validation.judge(network)
            self._record(self.validation, found)
        improved = self._improved_score(network) if estimator.early_stopping else self._improved_loss()
        estimator._no_improvement_count = 0 if improved else estimator._no_improvement_count + 1
        if estimator.solver == "sgd" and estimator.learning_rate == "invscaling":
            self._set_rate(estimator.learning_rate_init / (estimator.t_ + 1) ** estimator.power_t)
        if estimator._no_improvement_count > estimator.n_iter_no_change:
            self._stop_or_slow()
        return found

    def _loss(self) -> float:
        """The mean over the epoch's rows; the weights are those of its beginning and end, on average."""
        total, last = self.trainer.total_cost, self.trainer.total_cost - self.trainer.cost_before
        mean = (total * self.batch_size - last * self.short) / self.n
        before, self.norm = self.norm, squared_norm(self.weights)
        return self.factor * mean + self.constant + self.decay * (before + self.norm) / 2

    def _record(self, validation: Validation, found: dict[str, float]) -> None:
        estimator = self.estimator
        loss, score = found["validation_loss"], found["validation_score"]
        estimator.validation_loss_curve_.append(validation.factor * loss + validation.constant)
        if estimator.validation_scores_ is None:
            estimator.validation_scores_ = []
        estimator.validation_scores_.append(score)
        if estimator.verbose:
            print(f"Validation score: {score:f}")

    def _improved_loss(self) -> bool:
        estimator = self.estimator
        best = estimator.best_loss_
        estimator.best_loss_ = min(best, estimator.loss_)
        return not estimator.loss_ > best - estimator.tol

    def _improved_score(self, network: MLP) -> bool:
        estimator = self.estimator
        score, best = estimator.validation_scores_[-1], estimator.best_validation_score_
        if score > best:
            estimator.best_validation_score_ = score
            estimator._best_values = network._values.copy()
        return not score < best + estimator.tol

    def _stop_or_slow(self) -> None:
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
            self.progress.stop = True
            message += " Learning rate too small. Stopping." if adaptive else " Stopping."
        if estimator.verbose:
            print(message)

    def _set_rate(self, rate: float) -> None:
        """Take another learning rate; scikit-learn's velocity has the old one in it, and keeps its length."""
        optimizer, network = self.estimator._optimizer, self.estimator.network_
        velocity, nothing = network._state.moments
        velocity *= np.float32(optimizer.learning_rate / rate)
        optimizer.learning_rate = rate
        self.trainer.load(network._values, (velocity, nothing))
