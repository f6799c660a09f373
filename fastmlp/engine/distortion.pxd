"""Images put out of shape."""

cimport cython
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport uint64_t

from fastmlp.engine.matrix cimport Buffers
from fastmlp.engine.table cimport fm_distortion


@cython.final
cdef class Distortion:
    cdef fm_distortion how
    cdef Buffers buffers
    cdef Py_ssize_t scratch         # floats that a thread needs for an image
    cdef float *smoothing(self, const float[:, ::1] matrix, Py_ssize_t size, Py_ssize_t ld) except NULL
    cdef void distort(self, float *out, float *scratch, const float *image, uint64_t key,
                      Py_ssize_t row) noexcept nogil
