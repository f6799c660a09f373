"""The parameters of a network in training, in panels, and the optimizer that changes them."""

cimport cython

from fastmlp.engine.table cimport fm_step
from fastmlp.engine.layer cimport Layer
from fastmlp.engine.matrix cimport Buffers, Matrix


cdef void correct_bias(fm_step *constants, double learning_rate, double beta_1, double beta_2, double epsilon,
                       Py_ssize_t t) noexcept nogil


@cython.final
cdef class Parameters:
    cdef readonly Py_ssize_t step           # of the optimizer, over its whole life
    cdef Py_ssize_t n_layers
    cdef Layer *layers
    cdef Py_ssize_t count                   # in panels, with their padding: the layers' lie one after the other
    cdef Py_ssize_t n_flat                  # in the caller's arrays
    cdef Py_ssize_t n_values                # the same with running statistics
    cdef Py_ssize_t n_running               # running statistics of normalised layers, with their padding
    cdef float *weights
    cdef float *moment_1
    cdef float *moment_2
    cdef float *averages                    # of the weights over steps, or NULL
    cdef readonly Py_ssize_t averaged       # steps that are in them
    cdef float *running                     # of all normalised layers, one after the other
    cdef float *batch                       # the same of the last batch
    cdef float *zeros                       # FM_PANEL of them
    cdef float *gradients                   # of each chain, or of the batch where that is wanted as a whole
    cdef Py_ssize_t n_gradients
    cdef double *squares                    # of each slab's gradients
    cdef float clip                         # by which they are multiplied
    cdef fm_step constants, bias_constants
    cdef const double[:] rates              # of an epoch's batches
    cdef double weight_decay, beta_1, beta_2, epsilon, clip_norm, l2, alpha, row_scale, ema
    cdef float average_rate, max_norm       # max_norm: 0 for none
    cdef bint epsilon_hat
    cdef Buffers buffers, gradient_buffers, average_buffers
    cdef load(self, const float[::1] values, moments, step)
    cdef load_averages(self, const float[::1] averages, averaged)
    cdef store(self, float[::1] values, moments, averages)
    cdef set_averages(self, bint wanted)
    cdef void pack_like_weights(self, float *panels, const float[::1] array) noexcept
    cdef void unpack_like_weights(self, float[::1] array, const float *panels) noexcept
    cdef store_gradient(self, float[::1] gradient)
    cdef load_gradient(self, const float[::1] gradient)
    cdef bint is_finite(self)
    cdef set_optimizer(self, optimizer, rates, Py_ssize_t batch)
    cdef Py_ssize_t outputs(self) noexcept nogil
    cdef void update_block(self, Py_ssize_t l, const Matrix *x, const Matrix *dz, Py_ssize_t i,
                           Py_ssize_t n) noexcept nogil
    cdef void make_gradient(self, Py_ssize_t l, const Matrix *x, const Matrix *dz, Py_ssize_t i, Py_ssize_t n,
                            bint add) noexcept nogil
    cdef make_gradients(self, Py_ssize_t n)
    cdef Py_ssize_t slabs(self) noexcept nogil
    cdef void begin_step(self, Py_ssize_t batch, double row_scale) noexcept nogil
    cdef void end_step(self, Py_ssize_t n) noexcept nogil
    cdef void take(self, Py_ssize_t first, const float *gradient, Py_ssize_t count) noexcept nogil
    cdef void sum(self, Py_ssize_t slab, Py_ssize_t n) noexcept nogil
    cdef void apply(self, Py_ssize_t slab) noexcept nogil
    cdef void constrain(self, Py_ssize_t l, Py_ssize_t panel) noexcept nogil
    cdef void average(self, Py_ssize_t first, Py_ssize_t count) noexcept nogil
    cdef void add_squares(self, Py_ssize_t slab) noexcept nogil
    cdef void choose_clip(self) noexcept nogil
