"""Rows as lists of their values that are not zero."""

cimport cython
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int32_t, int64_t

from fastmlp.engine.matrix cimport Buffers
from fastmlp.engine.table cimport fm_entry


@cython.final
cdef class Lists:
    cdef readonly Py_ssize_t n, k
    cdef readonly ptrdiff_t n_entries
    cdef Py_ssize_t most            # rows
    cdef ptrdiff_t room             # for entries
    cdef Py_ssize_t block, blocks   # of columns
    cdef fm_entry *entries
    cdef ptrdiff_t *begin           # [row][blocks + 1]
    cdef Buffers held, held_entries
    cdef make_room(self, ptrdiff_t room)
    cdef void part(self, Py_ssize_t i, ptrdiff_t place, ptrdiff_t end) noexcept nogil

cdef Lists list_dense(X, ptrdiff_t *n_entries, int n_threads)
cdef Lists list_sparse(const int64_t[::1] begin, const int32_t[::1] columns, const float[::1] values, Py_ssize_t n,
                       Py_ssize_t k)
