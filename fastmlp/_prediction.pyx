# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: freethreading_compatible=True
"""The prediction path: many rows in panels, a few rows with the parameters as they are."""

cimport cython
from cython.parallel cimport prange, threadid
from libc.stddef cimport ptrdiff_t

import numpy as np

from fastmlp._kernels cimport FM_PAD, FM_PANEL, fm_entry, kernels
from fastmlp._layers cimport Layer, forward, make_layers, pack, panel_floats
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


def logits(float[:, ::1] out, layers, const float[::1] parameters, const float[:, ::1] X, int n_threads):
    """Write the network's outputs before the loss's own activation to out (n, m)."""
    cdef Py_ssize_t n_layers = len(layers), n = X.shape[0], rows = min(n, PREDICT_ROWS), l, task, thread
    cdef Buffers buffers = Buffers()
    cdef Layer *network = make_layers(layers, buffers)
    # One set of activations a thread
    cdef Matrix *h = <Matrix *>buffers.get(sizeof(Matrix) * (n_layers + 1) * n_threads)
    for l in range(n_layers):
        network[l].weights = buffers.floats(panel_floats(&network[l]))
        pack(network[l].weights, &network[l], parameters)
    for thread in range(n_threads):
        add_activations(h + thread * (n_layers + 1), network, n_layers, rows, buffers)
    for task in prange((n + rows - 1) // rows, nogil=True, num_threads=n_threads, schedule="dynamic"):
        predict_rows(&out[task * rows, 0], network, n_layers, h + threadid() * (n_layers + 1), &X[task * rows, 0],
                     min(rows, n - task * rows))


cdef add_activations(Matrix *h, const Layer *layers, Py_ssize_t n_layers, Py_ssize_t rows, Buffers buffers):
    """Room for the activations of so many rows."""
    cdef Py_ssize_t l
    h[0] = make_input(rows, layers[0].k, layers[0].m, buffers)
    for l in range(1, n_layers):
        h[l] = make_panels(rows, layers[l].k, layers[l - 1].makes_zeros and worth_listing(layers[l].k, layers[l].m),
                           buffers)
    h[n_layers] = make_rows(rows, layers[n_layers - 1].m, buffers)


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
    layers : list
        As `fastmlp.layers.engine_layers` gives it.
    parameters : float32 array
    """

    cdef const float[::1] parameters
    cdef Buffers buffers
    cdef Layer *layers
    cdef Py_ssize_t n_layers
    cdef bint small

    def __init__(self, layers, const float[::1] parameters):
        self.parameters, self.buffers, self.n_layers = parameters, Buffers(), len(layers)
        self.layers = make_layers(layers, self.buffers)
        self.small = self.n_layers <= MOST_LAYERS and max(m for _, m, *_ in layers) <= WIDEST

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
        if not 0 < rows.shape[0] <= FEW_ROWS or rows.shape[1] != self.layers[0].k or not is_finite(rows):
            return None
        outputs = np.empty((rows.shape[0], self.layers[self.n_layers - 1].m), FLOAT32)
        out = outputs
        with nogil:
            for i in range(rows.shape[0]):
                self.predict(&out[i, 0], &rows[i, 0])
        return outputs if is_finite(out) else None

    cdef void predict(self, float *out, const float *x) noexcept nogil:
        cdef float h[2][WIDEST]
        cdef Py_ssize_t l
        cdef const Layer *layer
        cdef const float *weights
        for l in range(self.n_layers):
            layer, weights = &self.layers[l], &self.parameters[self.layers[l].offset]
            if l == self.n_layers - 1:
                kernels.row(out, x, weights, layer.k, layer.m)
            else:
                kernels.row(h[l % 2], x, weights, layer.k, layer.m)
                kernels.activate(h[l % 2], layer.m, layer.activation)
                x = h[l % 2]


cdef bint is_finite(const float[:, ::1] rows) noexcept nogil:
    cdef int finite
    kernels.is_finite(&finite, &rows[0, 0], rows.shape[0] * rows.shape[1])
    return finite
