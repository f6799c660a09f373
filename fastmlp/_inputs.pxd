"""The rows that training reads."""

cimport cython
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int32_t, int64_t

from fastmlp._kernels cimport fm_entry
from fastmlp._panels cimport Buffers, Matrix


@cython.final
cdef class Inputs:
    cdef const float[:, ::1] X
    cdef Py_ssize_t n, k, block, blocks
    cdef readonly bint listed
    cdef Buffers buffers
    cdef fm_entry *entries
    cdef ptrdiff_t *begin       # [row][blocks + 1]
    cdef take_lists(self, const int64_t[::1] begin, const int32_t[::1] columns, const float[::1] values)
    cdef start_lists(self, Py_ssize_t total)
    cdef list_rows(self, int n_threads)
    cdef void list_chunk(self, Py_ssize_t first, Py_ssize_t n, ptrdiff_t place) noexcept nogil
    cdef Matrix matrix(self, Py_ssize_t capacity, Buffers buffers)
    cdef void gather(self, Matrix *x, Py_ssize_t place, const int64_t *rows, Py_ssize_t n) noexcept nogil
