# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: freethreading_compatible=True
"""Images put out of shape: what is drawn for each, and the work on one of them."""

cimport cython
from cython.parallel cimport prange
from libc.stdint cimport uint32_t, uint64_t

from fastmlp.engine.matrix cimport Buffers, padded
from fastmlp.engine.table cimport FM_AFFINE, kernels

cdef Py_ssize_t TASKS = 4   # for each thread, so that all end at about the same time


@cython.final
cdef class Distortion:
    """How images (height, width) are put out of shape; `fastmlp.augment` says what the numbers mean.

    Parameters
    ----------
    height, width : int
    ranges : sequence of 6 pairs
        Lowest and highest rotation, factors of width and of height, shear, and shifts to the right and down.
    along_columns, along_rows : float32 arrays (height, height), (width, width), or None
        What the fields of displacements are multiplied by, from the left and from the right.
    """

    def __init__(self, Py_ssize_t height, Py_ssize_t width, ranges, along_columns=None, along_rows=None):
        cdef Py_ssize_t i
        self.buffers = Buffers()
        self.how.height, self.how.width = height, width
        self.scratch = 4 * height * padded(width) + padded((height + 2) * (width + 2))
        for i in range(FM_AFFINE):
            self.how.low[i], self.how.high[i] = ranges[i][0], ranges[i][1]
        if along_rows is not None:
            self.how.along_columns = self.smoothing(along_columns, height, height)
            self.how.along_rows = self.smoothing(along_rows, width, padded(width))

    cdef float *smoothing(self, const float[:, ::1] matrix, Py_ssize_t size, Py_ssize_t ld) except NULL:
        """A matrix (size, size) in the engine's own memory, its rows ld apart."""
        cdef float *own = self.buffers.floats(size * ld)
        kernels.copy(own, ld, &matrix[0, 0], size, size, size)
        return own

    cdef void distort(self, float *out, float *scratch, const float *image, uint64_t key,
                      Py_ssize_t row) noexcept nogil:
        """Write what becomes of the image of a row (height, width) in the epoch that has this key."""
        cdef uint32_t epoch[2]
        epoch[0], epoch[1] = <uint32_t>key, <uint32_t>(key >> 32)
        kernels.distort(out, scratch, image, &self.how, epoch, <uint32_t>row)


def distort(float[:, ::1] out, const float[:, ::1] images, Distortion distortion, uint64_t key, int n_threads):
    """Write to out (n, k) what becomes of images (n, k) in the epoch that has this key."""
    cdef Py_ssize_t n = images.shape[0], tasks = min(n, TASKS * n_threads), task, i
    cdef Buffers buffers = Buffers()
    cdef float *scratch = buffers.floats(tasks * distortion.scratch)
    for task in prange(tasks, nogil=True, num_threads=n_threads, schedule="static"):
        for i in range(n * task // tasks, n * (task + 1) // tasks):
            distortion.distort(&out[i, 0], scratch + task * distortion.scratch, &images[i, 0], key, i)
