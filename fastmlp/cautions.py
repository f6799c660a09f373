"""What `fit` warns of: inputs and targets that are sound, but from which a network will hardly learn."""

import sys
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.arrays import Array, Float32
from fastmlp.sparse import SparseRows

__all__ = ["about_classes", "about_inputs", "about_values"]

# Columns may differ in spread by this factor. Pixels of 8 bits do so by 255 at most, however rare their ink.
MOST_RATIO = 1e3

# So many columns are pixels or the like. Of these the faintest fifth says nothing: turned or blurred images have
# corners that are all but constant.
MANY_COLUMNS = 100

# Values from these sizes on are large: of inputs, and of values to predict. Adam's default steps take hundreds of
# epochs of a small table to reach the latter.
LARGE = 1e4
LARGE_TARGET = 1e3

# A spread below this part of a column's values is their rounding: such a column is constant.
ROUNDING = 1e-6

# Only a sample is looked at: a pass over all rows can take a fifth of an epoch.
SAMPLE_ROWS = 1000
SAMPLE_VALUES = 1 << 18


def about_inputs(rows: Array | SparseRows, names: Sequence[Any] = ()) -> None:
    """Warn of columns whose spreads differ widely, or whose values are large; of sparse rows, of large values alone.

    Spread is the range of a column's values. Their deviation would not do: it is tiny where most of them are equal.

    Parameters
    ----------
    rows : array (n, k) of real numbers, or SparseRows
    names : sequence
        Of the columns; empty where they have only numbers.

    Examples
    --------
    >>> import numpy as np, warnings
    >>> from fastmlp.cautions import about_inputs
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     about_inputs(np.float32([[0.25, 100], [0.5, 900]]), ["share", "price"])
    >>> print(caught[0].message)  # doctest: +ELLIPSIS
    X is unscaled: the values of column 'price' spread over 800, of column 'share' over 0.25; ...
    """
    sparse = isinstance(rows, SparseRows)
    found = _of_sparse(rows) if isinstance(rows, SparseRows) else _of_dense(_sample(rows))
    if found:
        what, *columns = found
        named = [f"column '{names[j]}'" if len(names) else f"column {j}" for j in columns]
        _warn(
            f"X is unscaled: {what.format(*named)}; networks learn badly from such columns, and scikit-learn's "
            f"StandardScaler{'(with_mean=False)' if sparse else ''} brings all to one scale"
        )


def about_classes(labels: NDArray[np.int64], m: int) -> None:
    """Warn of classes without a row.

    Examples
    --------
    >>> import numpy as np, warnings
    >>> from fastmlp.cautions import about_classes
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     about_classes(np.array([1, 2, 3]), m=4)
    >>> print(caught[0].message)  # doctest: +ELLIPSIS
    y has no row of class 0, of the 4 that the network has outputs for; ...
    """
    missing = np.flatnonzero(np.bincount(labels, minlength=m) == 0)
    if missing.size:
        others = f" and {missing.size - 1} other{'s' * (missing.size > 2)}" if missing.size > 1 else ""
        _warn(
            f"y has no row of class {missing[0]}{others}, of the {m} that the network has outputs for; "
            "if labels do not count from 0, classes, y = np.unique(y, return_inverse=True) makes them do so"
        )


def about_values(values: Float32) -> None:
    """Warn of values to predict that are large.

    Examples
    --------
    >>> import numpy as np, warnings
    >>> from fastmlp.cautions import about_values
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     about_values(np.float32([[125_000], [250_000]]))
    >>> print(caught[0].message)  # doctest: +ELLIPSIS
    y is unscaled: it has values of 2.5e+05; ...
    """
    size = np.abs(_sample(values)).max()
    if size >= LARGE_TARGET:
        _warn(
            f"y is unscaled: it has values of {size:.3g}; a network learns (y - y.mean()) / y.std() sooner, "
            "and what it predicts is scaled back"
        )


def _sample(rows: Array) -> Array:
    n = min(SAMPLE_ROWS, max(1, SAMPLE_VALUES // rows.shape[1]))
    return rows[:: -(-len(rows) // n)]


def _of_dense(sample: Array) -> tuple[Any, ...] | None:
    """What is wrong, with a place for each column's name, and these columns."""
    low, high = sample.min(axis=0).astype(np.float64), sample.max(axis=0).astype(np.float64)
    spreads, sizes = high - low, np.maximum(-low, high)
    varying = np.flatnonzero(spreads > ROUNDING * sizes)
    if varying.size:
        varying = varying[spreads[varying].argsort()]
        narrow, wide = varying[varying.size // 5 if varying.size >= MANY_COLUMNS else 0], varying[-1]
        if spreads[wide] > MOST_RATIO * spreads[narrow]:
            what = f"the values of {{}} spread over {spreads[wide]:.3g}, of {{}} over {spreads[narrow]:.3g}"
            return what, wide, narrow
    return _large(sizes.max(), sizes.argmax())


def _of_sparse(rows: SparseRows) -> tuple[Any, ...] | None:
    step = -(-len(rows.values) // SAMPLE_VALUES)
    if not step:
        return None
    sizes = np.abs(rows.values[::step])
    return _large(sizes.max(), rows.place(int(sizes.argmax()) * step)[1])


def _large(size: float, column: int) -> tuple[Any, ...] | None:
    return (f"{{}} has values of {size:.3g}", column) if size >= LARGE else None


def _warn(message: str) -> None:
    """Warn at the line outside the package that has led here."""
    frame, level = sys._getframe(), 1
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] == __package__:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, UserWarning, stacklevel=level)
