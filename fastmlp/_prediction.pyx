# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: freethreading_compatible=True
"""The prediction path: many rows in panels, a few rows with the parameters as they are."""

cimport cython
from cython.parallel cimport prange, threadid
from libc.stddef cimport ptrdiff_t

import numpy as np

from fastmlp._kernels cimport FM_IDENTITY, FM_PAD, FM_PANEL, FM_RELU, fm_entry, kernels
from fastmlp._layers cimport Layer, forward, make_layer, pack, panel_floats
from fastmlp._panels cimport (
    BLOCK, Buffers, Matrix, add_lists, list_row, make_matrix, make_panels, make_rows, panels_of, set_blocks,
    sparse_enough, worth_listing,
)

# Rows that one thread takes through the whole network.
cdef Py_ssize_t PREDICT_ROWS = 96
# Rows that are predicted one by one: beyond some 16, filling panels pays.
cdef Py_ssize_t FEW_ROWS = 16
# Networks whose rows fit the stack
cdef enum:
    MOST_LAYERS = 16
    WIDEST = 4096

FLOAT32 = np.dtype(np.float32)


def logits(float[:, ::1] out, layer_sizes, const float[::1] parameters, int activation, const float[:, ::1] X,
           int n_threads):
    """Write the network's outputs before the loss's own activation to out (n, m)."""
    cdef Py_ssize_t n_layers = len(layer_sizes) - 1, n = X.shape[0], rows = min(n, PREDICT_ROWS)
    cdef Py_ssize_t l, offset = 0, task, thread, m = layer_sizes[n_layers]
    cdef Buffers buffers = Buffers()
    cdef Layer *layers = <Layer *>buffers.get(sizeof(Layer) * n_layers)
    # One set of activations a thread
    cdef Matrix *h = <Matrix *>buffers.get(sizeof(Matrix) * (n_layers + 1) * n_threads)
    for l in range(n_layers):
        layers[l] = make_layer(layer_sizes[l], layer_sizes[l + 1], FM_IDENTITY if l == n_layers - 1 else activation)
        layers[l].weights = buffers.floats(panel_floats(&layers[l]))
        pack(layers[l].weights, &layers[l], &parameters[offset])
        offset += (layers[l].k + 1) * layers[l].m
    for thread in range(n_threads):
        h[thread * (n_layers + 1)] = make_input(rows, layers[0].k, layers[0].m, buffers)
        for l in range(n_layers):
            h[thread * (n_layers + 1) + l + 1] = (
                make_rows(rows, m, buffers) if l == n_layers - 1 else
                make_panels(rows, layers[l].m, activation == FM_RELU and worth_listing(layers[l].m, layer_sizes[l + 2]),
                            buffers))
    for task in prange((n + rows - 1) // rows, nogil=True, num_threads=n_threads, schedule="dynamic"):
        predict_rows(&out[task * rows, 0], layers, n_layers, h + threadid() * (n_layers + 1), &X[task * rows, 0],
                     min(rows, n - task * rows))


cdef Matrix make_input(Py_ssize_t capacity, Py_ssize_t k, Py_ssize_t m, Buffers buffers):
    """Rows of X as they stand, with room for lists of them where those are worth it."""
    cdef Matrix x = make_matrix(capacity, k, FM_PANEL, panels_of(k))
    x.row, x.panel = k, FM_PANEL
    if worth_listing(k, m):
        set_blocks(&x.block, &x.blocks, k, BLOCK)
        x.entries = <fm_entry *>buffers.get(sizeof(fm_entry) * (capacity * k + FM_PAD))
        add_lists(&x, buffers)
    return x


cdef void read_rows(Matrix *x, const float *rows, Py_ssize_t n) noexcept nogil:
    """Take n rows for the input, as lists if they have enough zeros."""
    cdef Py_ssize_t i, k = x.row
    cdef ptrdiff_t count, place = 0
    x.data = <float *>rows
    if x.entries != NULL:
        kernels.count_nonzero(&count, rows, n * k)
        x.listed = sparse_enough(count, n, k)
        if x.listed:
            for i in range(n):
                place = list_row(x.entries, x.begin + i, x.end + i, x.capacity, place, rows + i * k, k, x.block,
                                 x.blocks)


cdef void predict_rows(float *out, const Layer *layers, Py_ssize_t n_layers, Matrix *h, const float *x,
                       Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t l, panel, m = layers[n_layers - 1].m
    read_rows(h, x, n)
    for l in range(n_layers):
        for panel in range(layers[l].panels):
            forward(&layers[l], h + l, h + l + 1, panel, 0, n)
    kernels.copy(out, m, h[n_layers].data, h[n_layers].row, n, m)


@cython.final
cdef class FewRows:
    """Prediction of a few rows from the flat parameters as they are, without panels to fill or threads to wake.

    Parameters
    ----------
    layer_sizes : sequence of int
    parameters : float32 array
    activation : int
        Its code.
    """

    cdef const float[::1] parameters
    cdef int activation
    cdef Py_ssize_t n_layers
    cdef Py_ssize_t sizes[MOST_LAYERS + 1]
    cdef bint small

    def __init__(self, layer_sizes, const float[::1] parameters, int activation):
        self.parameters, self.activation, self.n_layers = parameters, activation, len(layer_sizes) - 1
        self.small = self.n_layers <= MOST_LAYERS and max(layer_sizes[1:]) <= WIDEST
        if self.small:
            for i, size in enumerate(layer_sizes):
                self.sizes[i] = size

    def logits(self, X):
        """Outputs before the loss's own activation, (n, m).

        None where X is not a few sound rows of float32 or the outputs are not finite: the caller's own checks say why.
        """
        cdef const float[:, ::1] rows
        cdef float[:, ::1] out
        cdef Py_ssize_t i
        if not self.small or type(X) is not np.ndarray or X.dtype is not FLOAT32:
            return None
        try:
            rows = X
        except ValueError:  # another shape or layout
            return None
        if not 0 < rows.shape[0] <= FEW_ROWS or rows.shape[1] != self.sizes[0] or not is_finite(rows):
            return None
        outputs = np.empty((rows.shape[0], self.sizes[self.n_layers]), FLOAT32)
        out = outputs
        with nogil:
            for i in range(rows.shape[0]):
                self.predict(&out[i, 0], &rows[i, 0])
        return outputs if is_finite(out) else None

    cdef void predict(self, float *out, const float *x) noexcept nogil:
        cdef float h[2][WIDEST]
        cdef const float *weights = &self.parameters[0]
        cdef Py_ssize_t l, k, m
        for l in range(self.n_layers):
            k, m = self.sizes[l], self.sizes[l + 1]
            if l == self.n_layers - 1:
                kernels.row(out, x, weights, k, m)
            else:
                kernels.row(h[l % 2], x, weights, k, m)
                kernels.activate(h[l % 2], m, self.activation)
                x = h[l % 2]
            weights += (k + 1) * m


cdef bint is_finite(const float[:, ::1] rows) noexcept nogil:
    cdef int finite
    kernels.is_finite(&finite, &rows[0, 0], rows.shape[0] * rows.shape[1])
    return finite
