"""Sparse rows: SciPy's matrices, checked, in the form that the engine reads."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.engine.matrix import sparse_enough

__all__ = ["SparseRows", "is_sparse"]


def is_sparse(X: object) -> bool:
    """Whether X is one of SciPy's sparse matrices or arrays. SciPy is not imported for it: its owner has done so.

    Examples
    --------
    >>> from fastmlp.sparse import is_sparse
    >>> is_sparse([[0, 1]])
    False
    """
    scipy_sparse = sys.modules.get("scipy.sparse")
    return scipy_sparse is not None and bool(scipy_sparse.issparse(X))


class SparseRows:
    """Rows of a matrix as lists of their values: row i has values[begin[i]:begin[i + 1]], in these columns.

    Parameters
    ----------
    matrix : SciPy sparse matrix or array (n, k)
        In CSR format with sorted columns it is read as it is; else a copy is brought into that form.

    Attributes
    ----------
    begin : int64 array (n + 1,)
    columns : int32 array
        Increasing within a row.
    values : float32 array
    shape : tuple of int
        (n, k).

    Raises
    ------
    ValueError
        The matrix contradicts itself, as with a column beyond its shape.

    Examples
    --------
    >>> import scipy.sparse
    >>> from fastmlp.sparse import SparseRows
    >>> rows = SparseRows(scipy.sparse.csr_array([[0.0, 2.0], [0.0, 0.0], [3.0, 0.0]]))
    >>> rows.begin, rows.columns, rows.values
    (array([0, 1, 1, 2]), array([1, 0], dtype=int32), array([2., 3.], dtype=float32))
    """

    def __init__(self, matrix: Any) -> None:
        matrix = matrix.tocsr()
        matrix.check_format(full_check=True)
        if not _increasing(matrix):
            matrix = matrix.copy()
            matrix.has_canonical_format = matrix.has_sorted_indices = False
            matrix.sum_duplicates()
        self.shape: tuple[int, int] = matrix.shape
        self.begin = np.asarray(matrix.indptr, np.int64)
        self.columns = np.asarray(matrix.indices[: self.begin[-1]], np.int32)
        with np.errstate(over="ignore"):
            self.values = np.asarray(matrix.data[: self.begin[-1]], np.float32)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def is_sparse(self) -> bool:
        """Whether they have enough zeros for the engine to leave out."""
        return sparse_enough(len(self.values), *self.shape)

    def place(self, i: int) -> tuple[int, int]:
        """Return the row and column of values[i].

        Examples
        --------
        >>> import scipy.sparse
        >>> from fastmlp.sparse import SparseRows
        >>> SparseRows(scipy.sparse.csr_array([[0.0, 2.0], [0.0, 0.0], [3.0, 0.0]])).place(1)
        (2, 0)
        """
        return int(np.searchsorted(self.begin, i, side="right")) - 1, int(self.columns[i])

    def dense(self, first: int, end: int) -> NDArray[np.float32]:
        """Return rows [first, end) as a float32 array.

        Examples
        --------
        >>> import scipy.sparse
        >>> from fastmlp.sparse import SparseRows
        >>> SparseRows(scipy.sparse.csr_array([[0.0, 2.0], [3.0, 0.0]])).dense(1, 2)
        array([[3., 0.]], dtype=float32)
        """
        rows = np.zeros((end - first, self.shape[1]), np.float32)
        i = np.repeat(np.arange(end - first), np.diff(self.begin[first : end + 1]))
        here = slice(self.begin[first], self.begin[end])
        rows[i, self.columns[here]] = self.values[here]
        return rows


def _increasing(matrix: Any) -> bool:
    """Whether the columns increase within each row; what the matrix itself remembers of it may be out of date."""
    columns = matrix.indices[: matrix.indptr[-1]]
    increases = columns[1:] > columns[:-1]
    starts = matrix.indptr[1:-1]
    increases[starts[(starts > 0) & (starts < len(columns))] - 1] = True
    return bool(increases.all())
