"""The rows that a network reads, and what they are to become."""

cimport cython
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int32_t, int64_t, uint64_t

from fastmlp.engine.distortion cimport Distortion
from fastmlp.engine.lists cimport Lists
from fastmlp.engine.matrix cimport Buffers, Matrix
from fastmlp.engine.table cimport fm_entry, fm_noise


@cython.final
cdef class Rows:
    cdef readonly Py_ssize_t n, k
    cdef readonly bint listed, masked   # in a batch
    cdef readonly bint made             # as a batch is gathered
    cdef bint sparse, searched          # how X came; whether its zeros were looked for
    cdef Distortion distortion          # of images; or None
    cdef fm_noise noise                 # without a key: an epoch has one
    cdef Py_ssize_t longest             # row of lists, where their entries may be dropped
    cdef Py_ssize_t scratch             # floats that a thread needs to make a row
    cdef const float[:, ::1] X      # where they are not listed
    cdef Lists lists                # or None; and what it has, to be at hand
    cdef Py_ssize_t block, blocks
    cdef fm_entry *entries
    cdef ptrdiff_t *begin           # [row][blocks + 1]
    cdef int32_t *counts            # of each column's entries; NULL until asked for
    cdef Buffers held_counts
    cdef ptrdiff_t n_entries        # values that are not zero, where they were looked for
    cdef const int64_t[::1] labels
    cdef const float[:, ::1] targets
    cdef readonly const float[::1] weights
    cdef share(self, Rows other)
    cdef point_to(self, Lists lists)
    cdef check(self, Py_ssize_t k, Py_ssize_t m, Py_ssize_t outputs_a_target, bint labelled)
    cdef Matrix matrix(self, Py_ssize_t capacity, bint by_column, Buffers buffers)
    cdef int32_t *count_columns(self) except NULL
    cdef void gather(self, Matrix *x, Py_ssize_t place, const int64_t *rows, Py_ssize_t n, uint64_t key,
                     float *scratch) noexcept nogil
    cdef void thin(self, Matrix *x, Py_ssize_t i, Py_ssize_t row, const fm_noise *noise) noexcept nogil
    cdef void make(self, float *out, Py_ssize_t row, uint64_t key, float *scratch) noexcept nogil
    cdef void take(self, Matrix *x, Py_ssize_t first, Py_ssize_t n) noexcept nogil
