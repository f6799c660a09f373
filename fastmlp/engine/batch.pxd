"""A batch of rows, or a part of one, on its way through the network and back."""

cimport cython
from libc.stdint cimport int64_t, uint64_t

from fastmlp.engine.layer cimport Layer
from fastmlp.engine.matrix cimport Buffers, Matrix
from fastmlp.engine.parameters cimport Parameters
from fastmlp.engine.rows cimport Rows
from fastmlp.engine.table cimport fm_loss


@cython.final
cdef class RowLoss:
    cdef fm_loss how                        # of kind -1: Python's
    cdef const float[::1] parameters
    cdef Py_ssize_t outputs_a_target
    cdef check(self, Rows rows, Py_ssize_t k, Py_ssize_t m)


@cython.final
cdef class Batch:
    cdef Rows rows
    cdef Buffers buffers
    cdef Layer *layers
    cdef Py_ssize_t n_layers, m
    cdef Py_ssize_t width                   # of a row of targets
    # One set of activations or, where each thread takes rows through all layers, one a thread
    cdef Matrix *h                          # h[l]: inputs of layer l; h[n_layers]: the logits, then their gradient
    cdef Matrix *dz                         # dz[l]: gradient of h[l] before its activation; dz[n_layers] is h[n_layers]
    cdef int64_t *labels
    cdef float *targets
    cdef float *scale
    cdef double row_scale                   # of a row of weight 1
    cdef float *losses
    cdef float *scratch                     # to make rows, a piece a thread
    cdef uint64_t key                       # of what is drawn in the epoch
    cdef shapes(self)
    cdef Matrix *h_of(self, int thread) noexcept nogil
    cdef Matrix *dz_of(self, int thread) noexcept nogil
    cdef void draw_by(self, uint64_t key) noexcept nogil
    cdef void weigh(self, const int64_t *order, Py_ssize_t n) noexcept nogil
    cdef void gather(self, Matrix *x, Py_ssize_t place, const int64_t *order, Py_ssize_t first,
                     Py_ssize_t n, int thread) noexcept nogil
    cdef void compute_loss(self, const fm_loss *loss, const Matrix *logits, Py_ssize_t place, Py_ssize_t first,
                           Py_ssize_t n) noexcept nogil
    cdef void chain(self, Parameters parameters, const fm_loss *loss, const int64_t *order, Py_ssize_t i,
                    Py_ssize_t first, Py_ssize_t n, int thread) noexcept nogil
    cdef double cost(self, Py_ssize_t n) noexcept nogil
    cdef void choose_forms(self, Py_ssize_t n) noexcept nogil
    cdef Py_ssize_t first_masked(self) noexcept nogil
    cdef forms(self)
    cdef set_forms(self, forms)
    cdef logits(self, Py_ssize_t n)
    cdef set_losses(self, const float[::1] losses, const float[:, ::1] dlogits, Py_ssize_t n)
