"""What `MLP.evaluate` says of a network's outputs: the mean loss, and what a reader makes more of."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp import kernels
from fastmlp.arrays import Float32, Float64
from fastmlp.losses import Custom, Loss, loss_of
from fastmlp.rows import Targets

__all__ = ["scores"]

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
    loss, given = loss_of(loss), targets.given
    rows = loss.evaluated(logits, given)[0] if isinstance(loss, Custom) else kernels.losses(logits, given, loss)
    found = {"loss": _mean(rows, weights)}
    if "accuracy" in loss.scores:
        found["accuracy"] = _mean(_is_right(loss.output.decide(logits), targets), weights)
    elif "mse" in loss.scores:
        errors = _squares(loss.output.decide(logits), given, weights)
        total = len(logits) if weights is None else weights.sum(dtype=np.float64)
        found |= {"mse": float(errors.sum() / (total * logits.shape[1])), "r2": _r2(errors, given, weights)}
    return found


def _mean(values: NDArray[Any], weights: Float32 | None) -> float:
    return float(np.average(values.astype(np.float64), weights=weights))


def _is_right(decided: NDArray[np.int64], targets: Targets) -> NDArray[np.bool_]:
    """Whether each row's label, or all of its answers, are what the targets come nearest to."""
    if decided.ndim == 2:
        return np.asarray((decided == (targets.given > 0.5)).all(axis=1))
    return np.asarray(decided == (targets.given.argmax(axis=1) if targets.labels is None else targets.labels))


def _r2(errors: Float64, values: Float32, weights: Float32 | None) -> float:
    """Mean over the outputs of 1 - errors / spread; an output without spread counts 1 if it has no errors, else 0."""
    if len(values) < 2:
        return float("nan")
    # The mean of equal float32 values is exact in float64: without spread is a spread of 0.
    if weights is None:
        mean = values.mean(axis=0, dtype=np.float64)
    else:
        mean = np.average(values.astype(np.float64), axis=0, weights=weights)
    spread = _squares(values, np.broadcast_to(mean, values.shape), weights)
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
