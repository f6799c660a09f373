"""Layers in panels of 64 outputs, and what a thread does with one panel: forward, backward, update."""

from libc.stdint cimport int64_t

from fastmlp.engine.matrix cimport Buffers, Matrix
from fastmlp.engine.table cimport fm_noise, fm_step

cdef enum:
    # Rows of a weight gradient made before the optimizer takes them, while they are in L1: four register tiles.
    UPDATE_ROWS = 24
    # Panels of weights or of dz, 16 KB each, that a product passes for all of its rows before it takes the next ones.
    SPAN = 2

cdef struct Layer:
    Py_ssize_t k, m, panels
    Py_ssize_t rows             # of a panel: k of weights, one of the bias, and one of the scale where it is normalised
    Py_ssize_t ld               # between them, and the panel's width but for the last one
    int activation
    bint makes_zeros            # the activation: many of its outputs
    bint reads_sum              # its derivative: what it was made of, not its output
    bint normalised             # its sums, before the activation
    Py_ssize_t offset           # of the weights in the caller's flat array
    fm_noise noise              # of the units, in training
    Py_ssize_t statistics       # of the running mean, which the running variance follows
    # [panel][rows][ld]: the bias is the row after the weights, since its input is always 1
    float *weights
    float *moment_1
    float *moment_2
    # Where it is normalised: mean and variance, running and of the last batch, and gradients of bias and scale,
    # [panel][2][ld] each; 1 / deviation of that batch, [panel][ld]
    float *running
    float *batch
    float *dtail
    float *inverse


cdef inline Py_ssize_t blocks_of(const Layer *layer, const Matrix *x) noexcept nogil:
    """Blocks of a panel of weights, each as long as a block of the columns of x that it meets."""
    return (layer.k + x.block - 1) // x.block


cdef Layer *make_layers(layers, Buffers buffers) except NULL
cdef Py_ssize_t panel_floats(const Layer *layer) noexcept nogil
cdef void pack(float *panels, const Layer *layer, const float *flat, Py_ssize_t rows) noexcept nogil
cdef void unpack(float *flat, const Layer *layer, const float *panels, Py_ssize_t rows) noexcept nogil

cdef void forward(const Layer *layer, const Matrix *x, const Matrix *h, const int64_t *rows, Py_ssize_t group,
                  Py_ssize_t first, Py_ssize_t n) noexcept nogil
cdef void normalise(const Layer *layer, const Matrix *h, const int64_t *rows, Py_ssize_t panel,
                    Py_ssize_t n) noexcept nogil
cdef void normalise_backward(const Layer *layer, const Matrix *h, const Matrix *dz, Py_ssize_t panel,
                             Py_ssize_t n) noexcept nogil
cdef void backward(const Layer *layer, const Layer *below, const Matrix *dz, const Matrix *h, const Matrix *dz_below,
                   const float *zeros, Py_ssize_t group, Py_ssize_t first, Py_ssize_t n) noexcept nogil
cdef void update(const Layer *layer, const Matrix *x, const Matrix *dz, const float *zeros, const fm_step *step,
                 const fm_step *bias_step, Py_ssize_t panel, Py_ssize_t end, Py_ssize_t block,
                 Py_ssize_t n) noexcept nogil
cdef void whole_gradient(float *out, const Layer *layer, const Matrix *x, const Matrix *dz, const float *zeros,
                         Py_ssize_t n) noexcept nogil
cdef void block_gradient(float *out, const Layer *layer, const Matrix *x, const Matrix *dz, const float *zeros,
                         Py_ssize_t panel, Py_ssize_t block, Py_ssize_t n, bint add) noexcept nogil
