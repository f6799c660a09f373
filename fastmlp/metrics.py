"""What `MLP.evaluate` says of a network's outputs: the mean loss, and what a reader makes more of."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp import kernels
from fastmlp.arrays import Float32, Float64
from fastmlp.losses import Custom, Loss, loss_of
from fastmlp.rows import Targets

__all__ = ["Scores", "scores"]

# Values that are made float64 at a time.
FLOAT64_VALUES = 1 << 16


def scores(logits: Float32, targets: Targets, loss: str | Loss, weights: Float32 | None = None) -> dict[str, float]:
    """Return the mean loss and what else the loss has for scores: the accuracy, or the mean squared error and R2.

    Parameters
    ----------
    logits : float32 array (n, m)
        At least one row.
    targets : Targets
    loss : str or fastmlp.losses.Loss
    weights : float32 array (n,) or None
        Of the rows, with a sum above 0.

    Returns
    -------
    dict
        The `scores` of the loss: `MLP.evaluate` says what each one is.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp.rows import Targets
    >>> from fastmlp.metrics import scores
    >>> values = np.array([[1], [2], [3]], np.float32)
    >>> scores(values + 0.5, Targets(labels=None, values=values), "squared_error")
    {'loss': 0.125, 'mse': 0.25, 'r2': 0.625}
    """
    found = Scores(loss)
    found.add(logits, targets, weights)
    return found.values()


class Scores:
    """The `scores` of rows that come some at a time: means that are brought up to date with each lot.

    Spreads are merged as Chan, Golub & LeVeque (1983) do it.

    Parameters
    ----------
    loss : str or fastmlp.losses.Loss

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp.rows import Targets
    >>> from fastmlp.metrics import Scores
    >>> found = Scores("squared_error")
    >>> for values in (np.float32([[1], [2]]), np.float32([[3]])):
    ...     found.add(values + 0.5, Targets(labels=None, values=values))
    >>> found.values()
    {'loss': 0.125, 'mse': 0.25, 'r2': 0.625}
    """

    def __init__(self, loss: str | Loss) -> None:
        self.loss = loss_of(loss)
        self.n, self.total = 0, 0.0
        self.mean_loss = self.accuracy = 0.0
        self.errors: Any = 0.0  # of each output, and so the others
        self.mean: Any = 0.0
        self.spread: Any = 0.0

    def add(self, logits: Float32, targets: Targets, weights: Float32 | None = None) -> None:
        """Take the outputs of rows (n, m), at least one, and their weights (n,)."""
        given = targets.given
        total = float(len(logits)) if weights is None else float(weights.sum(dtype=np.float64))
        self.n += len(logits)
        if total == 0:
            return
        before, self.total = self.total, self.total + total
        share = total / self.total
        loss = self.loss
        losses = loss.evaluated(logits, given)[0] if isinstance(loss, Custom) else kernels.losses(logits, given, loss)
        self.mean_loss += share * (_mean(losses, weights) - self.mean_loss)
        if "accuracy" in self.loss.scores:
            right = _is_right(self.loss.output.decide(logits), targets)
            self.accuracy += share * (_mean(right, weights) - self.accuracy)
        elif "mse" in self.loss.scores:
            self.errors = self.errors + _squares(self.loss.output.decide(logits), given, weights)
            mean = _means(given, weights)
            away = mean - self.mean
            self.spread = self.spread + _squares(given, np.broadcast_to(mean, given.shape), weights)
            self.spread = self.spread + before * share * away**2
            self.mean = self.mean + share * away

    def values(self) -> dict[str, float]:
        """Return the scores of all rows that came."""
        found = {"loss": self.mean_loss}
        if "accuracy" in self.loss.scores:
            found["accuracy"] = self.accuracy
        elif "mse" in self.loss.scores:
            mse = float(np.sum(self.errors) / (self.total * np.size(self.errors)))
            found |= {"mse": mse, "r2": _r2(self.errors, self.spread) if self.n > 1 else float("nan")}
        return found


def _mean(values: NDArray[Any], weights: Float32 | None) -> float:
    return float(np.average(values.astype(np.float64), weights=weights))


def _is_right(decided: NDArray[np.int64], targets: Targets) -> NDArray[np.bool_]:
    """Whether each row's label, or all of its answers, are what the targets come nearest to."""
    if decided.ndim == 2:
        return np.asarray((decided == (targets.given > 0.5)).all(axis=1))
    return np.asarray(decided == (targets.given.argmax(axis=1) if targets.labels is None else targets.labels))


def _means(values: Float32, weights: Float32 | None) -> Float64:
    """The mean of each column, float64 (m,): that of equal float32 values is exact, so that their spread is 0."""
    if weights is None:
        return np.asarray(values.mean(axis=0, dtype=np.float64))
    return np.asarray(np.average(values.astype(np.float64), axis=0, weights=weights))


def _r2(errors: Float64, spread: Float64) -> float:
    """Mean over the outputs of 1 - errors / spread; an output without spread counts 1 if it has no errors, else 0."""
    r2 = np.where(errors == 0, 1.0, 0.0)
    varies = spread > 0
    r2[varies] = 1 - errors[varies] / spread[varies]
    return float(r2.mean())


def _squares(a: Float32, b: Float32 | Float64, weights: Float32 | None) -> Float64:
    """Sum over the rows of (a - b)**2, float64 (m,); some rows at a time, for an array of such a type is twice a's."""
    sums = np.zeros(a.shape[1])
    step = max(1, FLOAT64_VALUES // a.shape[1])
    for first in range(0, len(a), step):
        here = slice(first, first + step)
        squares = np.subtract(a[here], b[here], dtype=np.float64) ** 2
        sums += squares.sum(axis=0) if weights is None else weights[here] @ squares
    return sums
