"""What X, y and sample weights may be, checked and brought to the form that the engine reads.

First types and shapes, which cost nothing to look at, and only then values, smallest array first: an argument that
is not what it should be is found before anything of its size is made.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastmlp.arrays import Array, Float32, are_floats
from fastmlp.engine import operations
from fastmlp.losses import Loss, loss_of
from fastmlp.sparse import SparseRows, is_sparse
from fastmlp.streams import Stream

__all__ = [
    "Examples",
    "Stream",
    "Targets",
    "checked_examples",
    "checked_numbers",
    "checked_rows",
    "checked_shapes",
    "checked_weights",
    "column_names",
    "rows_to_predict",
    "weights_from_0",
]


class Targets(NamedTuple):
    """What a network is to learn: labels (n,), or rows of values (n, m); the other one is None.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp.rows import Targets
    >>> Targets(labels=np.array([1, 0]), values=None).given
    array([1, 0])
    """

    labels: NDArray[np.int64] | None
    values: Float32 | None

    @property
    def given(self) -> Array:
        """The one that is not None."""
        given = self.values if self.labels is None else self.labels
        assert given is not None
        return given


class Examples(NamedTuple):
    """Rows (n, k), what is to be learned of them, and their weights (n,) if they have some.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp.rows import Examples, Targets
    >>> Examples(np.eye(2), Targets(np.array([0, 1]), None)).weights is None
    True
    """

    rows: Array | SparseRows
    targets: Targets
    weights: Float32 | None = None

    def part(self, first: int, end: int) -> Examples:
        """Return rows [first, end), as views where these are no lists.

        Examples
        --------
        >>> import numpy as np
        >>> from fastmlp.rows import Examples, Targets
        >>> Examples(np.eye(3), Targets(np.array([0, 1, 2]), None)).part(1, 3).targets.labels
        array([1, 2])
        """
        here, rows = slice(first, end), self.rows
        labels, values = self.targets
        return Examples(
            rows.part(first, end) if isinstance(rows, SparseRows) else rows[here],
            Targets(None if labels is None else labels[here], None if values is None else values[here]),
            None if self.weights is None else self.weights[here],
        )


def checked_rows(name: str, X: ArrayLike, k: int) -> Array | SparseRows:
    """Return X as rows of k real numbers that are finite as float32, of any type and layout: the engine reads them so.

    SciPy's sparse matrices become `SparseRows`.

    Examples
    --------
    >>> from fastmlp.rows import checked_rows
    >>> checked_rows("X", [[1, 2], [3, 4]], k=2).shape
    (2, 2)
    """
    return _finite_rows(name, _rows(name, X, k))


def rows_to_predict(name: str, X: ArrayLike, k: int) -> Array | SparseRows:
    """Return what `checked_rows` does, but with values that are not finite where the engine sees them as it predicts.

    Examples
    --------
    >>> from fastmlp.rows import rows_to_predict
    >>> rows_to_predict("X", [[1.0, float("nan")]], k=2)
    array([[ 1., nan]])
    """
    array: Array = _rows(name, X, k)
    return array if isinstance(array, np.ndarray) and are_floats(array) else _finite_rows(name, array)


def checked_shapes(
    names: tuple[str, str], X: ArrayLike, y: ArrayLike, layer_sizes: Sequence[int], loss: str | Loss
) -> tuple[Array, Array]:
    """Return X and y as arrays of the right types and shapes, for `checked_examples` to read; values may be wrong.

    A sparse X stays what it is.

    Examples
    --------
    >>> from fastmlp.rows import checked_shapes
    >>> checked_shapes(("X", "y"), [[1, 2]], [0.5], layer_sizes=(2, 1), loss="squared_error")
    (array([[1, 2]]), array([0.5]))
    """
    array = _rows(names[0], X, layer_sizes[0])
    if not array.shape[0]:
        raise ValueError(f"{names[0]} must have at least one row; it has shape {array.shape}")
    return array, _targets(names[1], y, array.shape[0], layer_sizes[-1], loss)


def checked_examples(
    names: tuple[str, str], X: Array, y: Array, layer_sizes: Sequence[int], loss: str | Loss
) -> tuple[Array | SparseRows, Targets]:
    """Return what `checked_shapes` gave as rows and what the loss compares their outputs with.

    Examples
    --------
    >>> from fastmlp.rows import checked_examples, checked_shapes
    >>> network = {"layer_sizes": (1, 3), "loss": "cross_entropy"}
    >>> names = ("X", "y")
    >>> rows, targets = checked_examples(names, *checked_shapes(names, [[1], [2]], [2, 0], **network), **network)
    >>> targets.labels
    array([2, 0])
    """
    m, kind, width = layer_sizes[-1], loss_of(loss).targets, _width(layer_sizes[-1], loss)
    if kind == "any":
        targets = Targets(None, y if y.dtype.kind in "biu" else _finite_float32(names[1], y))
    elif kind == "classes" and y.ndim == 1:
        targets = Targets(_labels(names[1], y, m), None)
    else:
        targets = Targets(None, _values(names[1], y, kind).reshape(-1, width))
    return _finite_rows(names[0], X), targets


def column_names(X: object) -> list[Any]:
    """Return the names of a data frame's columns; of anything else nothing.

    Examples
    --------
    >>> from fastmlp.rows import column_names
    >>> column_names([[1, 2]])
    []
    """
    return [name for name, _ in _columns(X)]


def checked_weights(weights: ArrayLike | None, n: int) -> Float32 | None:
    """Return n weights that are finite and not negative, with a sum above 0.

    Examples
    --------
    >>> from fastmlp.rows import checked_weights
    >>> checked_weights([1, 2], n=2)
    array([1., 2.], dtype=float32)
    """
    if weights is None:
        return None
    array = weights_from_0("sample_weight", weights, n)
    if not array.any():
        raise ValueError("sample_weight must have a weight above 0; all are 0")
    return array


def weights_from_0(name: str, weights: ArrayLike, n: int) -> Float32:
    """Return n weights as `checked_weights` takes them, but all may be 0.

    Examples
    --------
    >>> from fastmlp.rows import weights_from_0
    >>> weights_from_0("weight", [0, 0], n=2)
    array([0., 0.], dtype=float32)
    """
    array = _numbers(name, weights)
    if array.shape != (n,):
        raise ValueError(f"{name} must have shape ({n},), a weight for each row of X; it has {array.shape}")
    array = _finite_float32(name, array)
    if array.min() < 0:
        raise ValueError(f"{name} must not be negative; row {int(array.argmin())} has {array.min()}")
    return array


def checked_numbers(name: str, numbers: ArrayLike, n: int) -> NDArray[np.int64]:
    """Return numbers of some of n rows, at least one.

    Examples
    --------
    >>> from fastmlp.rows import checked_numbers
    >>> checked_numbers("rows", [2, 0, 2], n=3)
    array([2, 0, 2])
    """
    try:
        array = np.asarray(numbers)
    except ValueError:  # lists of several lengths
        array = np.array(numbers, object)
    if array.ndim != 1 or (array.dtype.kind not in "iu" and len(array)):
        hint = "; np.flatnonzero makes numbers of a mask" if array.dtype == bool else ""
        raise TypeError(f"{name} must hold numbers of rows, (n,) of integers; not {array.dtype} {array.shape}{hint}")
    if not len(array):
        raise ValueError(f"{name} must have at least one row")
    if array.min() < 0 or array.max() >= n:
        raise ValueError(f"{name} must hold numbers from 0 to {n - 1}; it has {array.min()} to {array.max()}")
    return array.astype(np.int64)  # a copy: the engine finds places in memory by them


_READING = "; np.array({}, float) reads numbers that are text or objects"


def _numbers(name: str, values: Any, remedy: str = "") -> Array:
    """An array of real numbers; the remedy is what to say where they are text or objects."""
    came = type(values).__name__
    if hasattr(values, "toarray"):  # scipy's sparse matrices
        raise TypeError(f"{name} must be a dense array, not a sparse {came}; its toarray() makes one")
    if hasattr(values, "filled"):  # numpy.ma, which is not imported for this; asarray would drop the mask
        raise TypeError(f"{name} must be an array without a mask, not a {came}; {name}.filled(value) makes one")
    try:
        # A data frame whose columns are numbers of several types would become one of objects.
        array = np.asarray(values, np.float64 if _is_mixed(values) else None)
    except ValueError as error:  # rows of unequal length
        raise ValueError(f"{name} must be an array of real numbers: {error}") from None
    except (RuntimeError, TypeError) as error:  # PyTorch's tensors with a gradient, or on a GPU
        raise TypeError(f"{name} must be an array of real numbers: {error}") from None
    if array.dtype.kind not in "biuf":
        remedy = remedy if array.ndim and array.dtype.kind in "OSUT" else ""
        raise TypeError(f"{name} must be an array of real numbers, not {came} of {array.dtype}{remedy}")
    return array


def _columns(values: Any) -> list[tuple[Any, Any]]:
    """Name and type of each column of a pandas data frame (pandas is not imported for it), else nothing."""
    dtypes: Any = getattr(values, "dtypes", None)
    return list(dtypes.items()) if hasattr(values, "columns") and hasattr(dtypes, "items") else []


def _is_mixed(values: Any) -> bool:
    dtypes = [dtype for _, dtype in _columns(values)]
    return len(set(dtypes)) > 1 and all(dtype.kind in "biuf" for dtype in dtypes)


def _rows(name: str, X: Any, k: int) -> Any:
    if is_sparse(X) and X.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be a matrix of real numbers, not {type(X).__name__} of {X.dtype}")
    odd = [f"{column!r} is {dtype}" for column, dtype in _columns(X) if dtype.kind not in "biuf"]
    if odd:
        more = f", and {len(odd) - 3} more" if len(odd) > 3 else ""
        raise TypeError(
            f"{name} must have columns of numbers: {', '.join(odd[:3])}{more}; "
            "pandas.get_dummies or scikit-learn's OneHotEncoder makes numbers of categories"
        )
    array = X if is_sparse(X) else _numbers(name, X, _READING.format(name))
    if array.ndim != 2 or array.shape[1] != k:
        # a single row, a single column, images
        rowlike = array.shape == (k,) or (array.ndim == 1 and k == 1) or math.prod(array.shape[1:]) == k
        hint = f"; np.reshape({name}, (-1, {k})) makes rows of it" if array.ndim and rowlike else ""
        raise ValueError(f"{name} must have shape (n, {k}), as the network has {k} inputs; it has {array.shape}{hint}")
    return array


# How labels of any kind become those that a network takes, and where they belong.
_NUMBERING = (
    "; classes, y = np.unique(y, return_inverse=True) numbers labels from 0, "
    "np.searchsorted(classes, labels) those of other rows"
)
_CLASSES = "; labels want loss='cross_entropy' and an output for each class"


def _width(m: int, loss: str | Loss) -> int:
    """Targets of a row, for m outputs."""
    return m // loss_of(loss).outputs_a_target


def _targets(name: str, y: ArrayLike, n: int, m: int, loss: str | Loss) -> Array:
    """Labels (n,), or values (n, m) or, for one output, (n,); for several outputs a target fewer columns."""
    kind, m = loss_of(loss).targets, _width(m, loss)
    classes = kind == "classes"
    array = _numbers(name, y, _NUMBERING if kind in ("classes", "probabilities") else _READING.format(name))
    if kind == "any":
        if array.shape[:1] != (n,):
            raise ValueError(f"{name} must have a row for each input row, {n}; it has shape {array.shape}")
        return array
    if classes and array.shape == (n, 1):
        array = array.reshape(n)  # a network with classes has two outputs or more, so that these are labels
    if array.shape not in [(n, m), *([(n,)] if classes or m == 1 else [])]:
        wanted = f"({n},) labels or ({n}, {m})" if classes else f"({n}, {m})"
        wanted += f" or ({n},)" if m == 1 else ""
        hint = _CLASSES if array.shape == (n,) and array.dtype.kind in "iu" else ""
        raise ValueError(f"{name} must have shape {wanted}, a row for each input row; it has {array.shape}{hint}")
    if classes and array.ndim == 1 and array.dtype.kind == "f":
        raise TypeError(
            f"{name} must hold labels of an integer type for loss={loss!r}, not {array.dtype}; "
            "for labels, y.astype(int); for values to predict, loss='squared_error'"
        )
    return array


def _labels(name: str, array: Array, m: int) -> NDArray[np.int64]:
    if not (array.min() >= 0 and array.max() < m):
        n_classes = len(np.unique(array))
        raise ValueError(
            f"{name} must hold labels from 0 to {m - 1}, as the network has {m} outputs; "
            f"it has {array.min()} to {array.max()}"
            + (_NUMBERING if n_classes <= m else f", {n_classes} classes: layer_sizes must end in as many")
        )
    # A copy: the engine finds places in memory by labels, so what was checked must not change under it.
    return np.array(array, dtype=np.int64, order="C")


def _values(name: str, array: Array, kind: str) -> Float32:
    values = _finite_float32(name, array)
    if kind == "counts" and values.min() < 0:
        raise ValueError(f"{name} must hold counts or rates, from 0 on; it has {values.min()}")
    if kind in ("classes", "probabilities") and not (values.min() >= 0 and values.max() <= 1):
        hint = ""
        if kind == "probabilities":
            two = len(np.unique(values)) == 2
            hint = f"; np.equal(y, {values.max():g}) makes answers of its two values" if two else _CLASSES
        raise ValueError(f"{name} must hold probabilities in [0, 1]; it has {values.min()} to {values.max()}{hint}")
    if kind == "classes":
        sums = values.sum(axis=1)
        row = int(np.abs(sums - 1).argmax())
        if abs(sums[row] - 1) > 1e-3:
            raise ValueError(f"{name} must have rows that sum to 1; row {row} sums to {sums[row]:g}")
    return values


def _finite_rows(name: str, X: Any) -> Array | SparseRows:
    if not is_sparse(X):
        array: Array = X
        _require_finite(name, array)
        return array
    try:
        sparse = SparseRows(X)
    except ValueError as error:
        raise ValueError(f"{name} must be a sound sparse matrix: {error}") from None
    if not operations.is_finite(sparse.values):
        i = int(np.isfinite(sparse.values).argmin())
        row, column = sparse.place(i)
        raise ValueError(f"{name} must be finite in float32; {name}[{row}, {column}] is not")
    return sparse


def _finite_float32(name: str, array: Array) -> Float32:
    _require_finite(name, array)
    return np.require(array, np.float32, ["C", "A"])


def _require_finite(name: str, array: Array) -> None:
    if array.dtype.kind in "biu" or (are_floats(array) and operations.is_finite(array.reshape(-1))):
        return  # no pass, or one, where the extremes below take two
    # NaN and what float32 cannot hold both show in the extremes, which need no other array as large as this one.
    if array.size and not _fits([array.min(), array.max()]).all():
        row = next(i for i, values in enumerate(array) if not _fits(values).all())
        place = (row, int(_fits(array[row]).argmin())) if array.ndim == 2 else (row,)
        raise ValueError(f"{name} must be finite in float32; {name}[{', '.join(map(str, place))}] is {array[place]}")


def _fits(values: ArrayLike) -> NDArray[np.bool_]:
    with np.errstate(over="ignore"):
        return np.isfinite(np.asarray(values, dtype=np.float32))
