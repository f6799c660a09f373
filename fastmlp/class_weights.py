"""Weights of classes, as weights of the rows that are of them."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp import checks
from fastmlp.arrays import Float32, Float64
from fastmlp.losses import Loss, loss_of
from fastmlp.rows import Targets

__all__ = ["balanced", "counts_of", "weights_of_rows"]


def weights_of_rows(
    class_weight: Mapping[int, float] | str, targets: Targets, m: int, loss: str | Loss, sample_weight: Float32 | None
) -> Float32:
    """Return the weight of each row's class, float32 (n,), times the row's own.

    Parameters
    ----------
    class_weight : mapping or "balanced"
        Label to weight; or n / (number of classes in y * rows of the class), as scikit-learn has it.
    targets : Targets
        Labels, one-hot rows or, of one output, answers that are 0 or 1.
    m : int
        Outputs of the network.
    loss : str or fastmlp.losses.Loss
    sample_weight : float32 array (n,) or None

    Raises
    ------
    TypeError, ValueError
        A weight is not a number or negative; a label of y has none, or one that the network does not know has one; or
        the targets are no classes.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp.class_weights import weights_of_rows
    >>> from fastmlp.rows import Targets
    >>> weights_of_rows("balanced", Targets(np.array([0, 0, 0, 1]), None), 2, "cross_entropy", None)
    array([0.6666667, 0.6666667, 0.6666667, 2.       ], dtype=float32)
    """
    labels, counts = _labels(targets, m, loss)
    if isinstance(class_weight, str):
        checks.one_of("class_weight", class_weight, ("balanced",))
        class_weight = balanced(counts)
    weights = _table(class_weight, counts)
    with np.errstate(over="ignore"):
        rows = np.asarray(weights[labels] * (1.0 if sample_weight is None else sample_weight), np.float32)
    if not np.isfinite(rows).all():
        raise ValueError("class_weight must leave rows with weights that are finite in float32")
    return rows


def counts_of(targets: Targets, m: int, loss: str | Loss) -> NDArray[np.int64]:
    """Return how many rows each label has, int64 (number of labels,), of targets as `weights_of_rows` takes them.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp.class_weights import counts_of
    >>> from fastmlp.rows import Targets
    >>> counts_of(Targets(np.array([0, 0, 2]), None), 3, "cross_entropy")
    array([2, 0, 1])
    """
    return _labels(targets, m, loss)[1]


def balanced(counts: NDArray[np.int64]) -> dict[int, float]:
    """Return the weight of each label by which all that have rows weigh the same: n / (number of those * its rows).

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp.class_weights import balanced
    >>> balanced(np.array([3, 1]))
    {0: 0.6666666666666666, 1: 2.0}
    """
    weights = counts.sum() / (np.count_nonzero(counts) * np.maximum(counts, 1))
    return dict(enumerate(weights.tolist()))


def _labels(targets: Targets, m: int, loss: str | Loss) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the label of each row, (n,), and the rows of each label that can be."""
    labels, n_classes = _classes(targets, m, loss)
    return labels, np.bincount(labels, minlength=n_classes)


def _classes(targets: Targets, m: int, loss: str | Loss) -> tuple[NDArray[np.int64], int]:
    """Return the label of each row, (n,), and how many labels there can be."""
    kind, given = loss_of(loss).targets, targets.given
    if targets.labels is not None:
        return targets.labels, m
    if kind == "classes" and np.array_equal(given.max(axis=1), given.sum(axis=1)):
        return given.argmax(axis=1), m
    if kind == "probabilities" and m == 1 and np.isin(given, (0, 1)).all():
        return given[:, 0].astype(np.int64), 2
    raise ValueError(
        f"class_weight needs a y of labels, of one-hot rows or, of one output, of 0 and 1; for loss={loss!r} and "
        "others, give rows their own weights by sample_weight"
    )


def _table(class_weight: Any, counts: NDArray[np.int64]) -> Float64:
    """Return the weight of each label that may be, (n_classes,)."""
    if not isinstance(class_weight, Mapping):
        raise TypeError(f"class_weight must be 'balanced' or a dictionary of labels' weights, not {class_weight!r:.80}")
    weights = np.zeros(len(counts))
    given = set()
    for label, weight in class_weight.items():
        if isinstance(label, bool) or not isinstance(label, Integral) or not 0 <= int(label) < len(counts):
            raise ValueError(f"class_weight must have labels from 0 to {len(counts) - 1}; it has {label!r:.80}")
        weights[int(label)] = checks.number(f"class_weight[{label}]", weight, "at least 0", lambda x: x >= 0)
        given.add(int(label))
    missing = sorted(set(np.flatnonzero(counts).tolist()) - given)
    if missing:
        raise ValueError(f"class_weight must have a weight for each label of y; {missing[0]} has none")
    return weights
