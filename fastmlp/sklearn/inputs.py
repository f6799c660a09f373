"""X and y, checked as scikit-learn checks them: arrays that are plain and sound at once, all others by its functions.

Its own checks take some 200 us, in which the engine trains several epochs of a small network.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
from sklearn.utils.validation import validate_data

from fastmlp import threads
from fastmlp.arrays import Array, are_floats
from fastmlp.engine import operations
from fastmlp.sparse import SparseRows, is_sparse

__all__ = ["Fingerprint", "as_rows", "examples", "fingerprint", "rows"]

Fingerprint: TypeAlias = tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]

FLOATS = np.dtype(np.float64), np.dtype(np.float32)
SPARSE = ("csr", "csc")
# Bytes that a thread reads and adds up in a second, at a guess; ten times that, since OpenMP's own threads, which do
# it, cost more to wake than the engine's.
BYTES_A_SECOND = 10 * 10e9
COPIED_ROWS = 1024


def rows(estimator: Any, X: Any) -> Any:
    """Return X, checked, with the columns that the estimator has been fitted to.

    Examples
    --------
    >>> from fastmlp.sklearn import MLPRegressor
    >>> from fastmlp.sklearn.inputs import rows
    >>> rows(MLPRegressor().partial_fit([[0.0], [1.0]], [0.0, 1.0]), [[2]])
    array([[2]])
    """
    if _is_plain(X) and _is_finite(X) and _has_its_columns(estimator, X, reset=False):
        return X
    return validate_data(estimator, X, accept_sparse=SPARSE, reset=False)


def examples(
    estimator: Any, X: Any, y: Any, *, reset: bool, known: bool = False, y_numeric: bool = False
) -> tuple[Any, Any]:
    """Return X and y, checked; with `reset` the estimator notes the columns, otherwise they must be those noted.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
    X, y : anything
    reset : bool
    known : bool
        X has the `fingerprint` of one that was good.
    y_numeric : bool
        y are to be numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp.sklearn import MLPRegressor
    >>> from fastmlp.sklearn.inputs import examples
    >>> regressor = MLPRegressor()
    >>> examples(regressor, np.eye(2), [1, 2], reset=True)[1], regressor.n_features_in_
    (array([1, 2]), 2)
    """
    plain = _is_plain(X) and _is_plain_target(y, "biuf" if y_numeric else "biuU") and len(X) == len(y)
    if plain and (known or _is_finite(X)) and _has_its_columns(estimator, X, reset=reset):
        return X, y
    return tuple(
        validate_data(estimator, X, y, accept_sparse=SPARSE, multi_output=True, y_numeric=y_numeric, reset=reset)
    )


def as_rows(X: Any) -> Array | SparseRows:
    """Return X, checked, as the engine reads it.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp.sklearn.inputs import as_rows
    >>> as_rows(np.zeros((2, 3))).shape
    (2, 3)
    """
    return SparseRows(X) if is_sparse(X) else X


def fingerprint(X: Any) -> Fingerprint | None:
    """Return what rows have and hardly any others: types, shapes and checksums of 64 bits; None of what has none.

    It is computed in about a twentieth of the time that the engine takes to list the rows.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp.sklearn.inputs import fingerprint
    >>> X = np.eye(3)
    >>> fingerprint(X) == fingerprint(X.copy()), fingerprint(X) == fingerprint(X[::-1].copy())
    (True, False)
    """
    arrays: list[Any] = [getattr(X, name, None) for name in ("data", "indices", "indptr")] if is_sparse(X) else [X]
    if not all(type(array) is np.ndarray and array.dtype.kind in "biuf" for array in arrays):
        return None
    kind = getattr(X, "format", "dense"), X.shape, ()
    return kind, *((array.dtype.str, array.shape, tuple(_checksums(array))) for array in arrays)


def _checksums(array: Array) -> Iterator[int]:
    """Yield that of an array or, where its rows do not lie in memory as words of 32 bits, those of some at a time."""
    n_threads = threads.choose(None, array.nbytes / BYTES_A_SECOND)
    has_words = array.itemsize % 4 == 0
    if has_words and array.flags.aligned:
        if array.flags.c_contiguous:
            array = array.reshape(1, -1)
        if array.strides[-1] == array.itemsize:
            yield operations.checksum(array.view(np.uint32), n_threads)
            return
    for first in range(0, len(array), COPIED_ROWS):
        rows = np.require(array[first : first + COPIED_ROWS], None if has_words else np.float32, ["C", "A"])
        yield operations.checksum(rows.reshape(1, -1).view(np.uint32), n_threads)


def _is_plain(X: Any) -> bool:
    return type(X) is np.ndarray and X.dtype in FLOATS and X.ndim == 2 and X.size > 0


def _is_plain_target(y: Any, kinds: str) -> bool:
    return type(y) is np.ndarray and y.dtype.kind in kinds and y.ndim == 1 and (y.dtype.kind != "f" or _is_finite(y))


def _is_finite(array: Array) -> bool:
    """Whether there is neither NaN nor infinity; False also where only float32, or the sum of all, is infinite."""
    if are_floats(array):
        return operations.is_finite(array.reshape(-1))
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(array.sum()))


def _has_its_columns(estimator: Any, X: Array, *, reset: bool) -> bool:
    """Note the columns, which have no names, or see that they are those noted."""
    own = vars(estimator)
    if reset:
        own.pop("feature_names_in_", None)
        estimator.n_features_in_ = X.shape[1]
    return "feature_names_in_" not in own and own.get("n_features_in_") == X.shape[1]
