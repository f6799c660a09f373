"""Sparse rows: SciPy's matrices, checked, in the form that the engine reads."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastmlp.arrays import Array, Float32
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
        In CSR format with sorted columns and float32 values, these are read as they are; else a copy is brought into
        that form. What says where they belong is copied always.

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
        self.shape: tuple[int, int] = matrix.shape
        # Copies: the engine finds places in memory by these, so what was checked must not change under it.
        begin, columns = np.array(matrix.indptr, order="C"), np.array(matrix.indices, order="C")
        values = np.asarray(matrix.data)
        _require_sound(begin, columns, values, self.shape)
        columns, values = columns[: begin[-1]], values[: begin[-1]]
        if not _increasing(begin, columns):
            own = type(matrix)((values.copy(), columns, begin), shape=self.shape)
            own.has_canonical_format = own.has_sorted_indices = False
            own.sum_duplicates()
            begin, columns, values = own.indptr, own.indices, own.data
        self.begin = begin.astype(np.int64, copy=False)
        self.columns = columns.astype(np.int32, copy=False)
        with np.errstate(over="ignore"):
            self.values = np.require(values, np.float32, ["C", "A"])

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

    def part(self, first: int, end: int) -> SparseRows:
        """Return rows [first, end), in memory of their own.

        Examples
        --------
        >>> import scipy.sparse
        >>> from fastmlp.sparse import SparseRows
        >>> SparseRows(scipy.sparse.csr_array([[0.0, 2.0], [3.0, 0.0]])).part(1, 2).values
        array([3.], dtype=float32)
        """
        begin = self.begin[first : end + 1]
        here = slice(begin[0], begin[-1])
        return self._of(begin - begin[0], self.columns[here].copy(), self.values[here].copy(), self.shape[1])

    @classmethod
    def joined(cls, parts: Sequence[SparseRows]) -> SparseRows:
        """Return the rows of all parts, one after the other.

        Examples
        --------
        >>> import scipy.sparse
        >>> from fastmlp.sparse import SparseRows
        >>> rows = SparseRows(scipy.sparse.csr_array([[0.0, 2.0], [3.0, 0.0]]))
        >>> SparseRows.joined([rows, rows]).begin
        array([0, 1, 2, 3, 4])
        """
        lengths = np.concatenate([[0], *(np.diff(part.begin) for part in parts)])
        columns, values = ([getattr(part, name) for part in parts] for name in ("columns", "values"))
        return cls._of(np.cumsum(lengths), np.concatenate(columns), np.concatenate(values), parts[0].shape[1])

    @classmethod
    def _of(cls, begin: Array, columns: Array, values: Float32, k: int) -> SparseRows:
        rows = cls.__new__(cls)
        rows.shape = len(begin) - 1, k
        rows.begin, rows.columns, rows.values = begin, columns, values
        return rows

    def dense(self, first: int, end: int) -> Float32:
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


def _require_sound(begin: Array, columns: Array, values: Array, shape: tuple[int, int]) -> None:
    """Check that every row's list lies within the arrays, and its columns within the shape."""
    n, k = shape
    most = min(len(columns), len(values))
    if len(begin) != n + 1 or begin[0] != 0 or begin[-1] > most or (begin[1:] < begin[:-1]).any():
        raise ValueError(f"its indptr must be {n + 1} numbers that rise from 0 to at most {most}, its number of values")
    columns = columns[: begin[-1]]
    if len(columns) and not (columns.min() >= 0 and columns.max() < k):
        raise ValueError(f"its indices must be from 0 to {k - 1}; they are {columns.min()} to {columns.max()}")


def _increasing(begin: Array, columns: Array) -> bool:
    """Whether the columns increase within each row; what the matrix itself remembers of it may be out of date."""
    increases = columns[1:] > columns[:-1]
    starts = begin[1:-1]
    increases[starts[(starts > 0) & (starts < len(columns))] - 1] = True
    return bool(increases.all())
