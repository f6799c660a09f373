# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: freethreading_compatible=True
"""The prediction path: many rows in panels, a few rows with the parameters as they are."""

cimport cython
from cython.parallel cimport prange, threadid
from libc.stddef cimport ptrdiff_t
from libc.string cimport memcpy

import numpy as np

from fastmlp.engine.layer cimport Layer, forward, make_layers, pack, panel_floats
from fastmlp.engine.rows cimport Rows
from fastmlp.engine.matrix cimport (
    BLOCK, Buffers, Matrix, add_lists, choose_group, groups_of, list_row, make_matrix, make_panels, make_rows,
    panels_of, set_blocks, worth_skipping,
)
from fastmlp.engine.table cimport FM_PAD, FM_PANEL, fm_entry, kernels

# Rows that one thread takes through the whole network.
cdef enum:
    STRIP = 96
PREDICT_ROWS = STRIP
# Rows that are predicted one by one: beyond some 16, filling panels pays.
cdef Py_ssize_t FEW_ROWS = 16
# Networks whose rows fit the stack
cdef enum:
    MOST_LAYERS = 16
    WIDEST = 4096

# Up to this share of non-zero values lists are faster than the dense product. Masks would want the rows copied.
cdef double SPARSE_DENSITY = 0.35

# Multiply-adds that are done without giving up the GIL, some 50 us: to get it back from a busy thread takes 5 ms.
cdef Py_ssize_t KEEP_GIL = 1000000

FLOAT32 = np.dtype(np.float32)


@cython.final
cdef class Predictor:
    """The network in panels, as it is now, for any number of rows.

    Parameters
    ----------
    layers : list
        As `fastmlp.layers.engine_layers` gives it.
    parameters : float32 array
    n_threads : int
    rows : Rows or None
        Listed rows, where those are to be predicted and not arrays.
    """

    cdef Buffers buffers
    cdef Layer *layers
    cdef Py_ssize_t n_layers
    cdef Matrix *h              # one set of activations a thread
    cdef float *narrowed        # rows of float64 made float32, a strip a thread
    cdef int n_threads
    cdef Rows rows

    def __init__(self, layers, const float[::1] parameters, int n_threads, Rows rows=None):
        cdef Py_ssize_t l, thread
        self.buffers, self.n_layers, self.n_threads, self.rows = Buffers(), len(layers), n_threads, rows
        self.layers = make_layers(layers, self.buffers)
        self.h = <Matrix *>self.buffers.allocate(sizeof(Matrix) * (self.n_layers + 1) * n_threads)
        for l in range(self.n_layers):
            self.layers[l].weights = self.buffers.floats(panel_floats(&self.layers[l]))
        for thread in range(n_threads):
            self.add_activations(self.h + thread * (self.n_layers + 1), STRIP)
        # At once, without another look at what Python does meanwhile: of a network in training this is one whole epoch.
        for l in range(self.n_layers):
            pack(self.layers[l].weights, &self.layers[l], &parameters[self.layers[l].offset], self.layers[l].rows)

    cdef add_activations(self, Matrix *h, Py_ssize_t rows):
        """Room for the activations of so many rows: h (n_layers + 1), h[l] (rows, k of layer l)."""
        cdef Py_ssize_t l
        cdef const Layer *layer
        if self.rows is None:
            h[0] = make_input(rows, self.layers[0].k, self.layers[0].m, self.buffers)
        else:
            h[0] = self.rows.matrix(rows, False, self.buffers)
        for l in range(1, self.n_layers):
            layer = &self.layers[l]
            h[l] = make_panels(rows, layer.k, self.layers[l - 1].makes_zeros and worth_skipping(layer.k, layer.m),
                               self.buffers)
        h[self.n_layers] = make_rows(rows, self.layers[self.n_layers - 1].m, self.buffers)
        for l in range(1, self.n_layers):
            choose_group(&h[l], &h[l + 1], 1)

    def logits(self, float[:, ::1] out, X=None, Py_ssize_t first=0):
        """Write the outputs before the loss's activation to out (n, m).

        Of X (n, k), float32 or float64, or of the listed rows from `first` on. Returns whether all of X is finite in
        float32, which is seen on the way, while the rows are in the caches.
        """
        cdef Py_ssize_t n = out.shape[0], task, tasks = (n + STRIP - 1) // STRIP, finite = 0
        cdef const float[:, ::1] rows
        cdef const double[:, ::1] wide_rows
        cdef const float *x = NULL
        cdef const double *wide = NULL
        cdef int n_threads = min(self.n_threads, max(<Py_ssize_t>1, tasks))
        if out.shape[1] != self.layers[self.n_layers - 1].m:
            raise ValueError("out must have a column for each output")
        if self.rows is None:
            if X is None or X.shape != (n, self.layers[0].k):
                raise ValueError("X must have a row for each row of out, and a column for each input")
            if n > 0 and X.dtype.itemsize == sizeof(double):
                wide_rows = X
                wide = &wide_rows[0, 0]
                if self.narrowed == NULL:
                    self.narrowed = self.buffers.floats(self.n_threads * STRIP * self.layers[0].k)
            elif n > 0:
                rows = X
                x = &rows[0, 0]
        elif not 0 <= first <= self.rows.n - n:
            raise ValueError("out must not have more rows than there are")
        for task in prange(tasks, nogil=True, num_threads=n_threads, schedule="dynamic"):
            finite += self.predict(&out[task * STRIP, 0], threadid(), x, wide, first, task * STRIP,
                                   min(<Py_ssize_t>STRIP, n - task * STRIP))
        return finite == tasks

    cdef bint predict(self, float *out, int thread, const float *x, const double *wide, Py_ssize_t first,
                      Py_ssize_t row, Py_ssize_t n) noexcept nogil:
        """Rows [row, row + n) of those asked for to out (n, m): of x or wide (., k), or listed ones.

        Returns whether they are finite.
        """
        cdef Matrix *h = self.h + thread * (self.n_layers + 1)
        cdef Py_ssize_t l, group, k = self.layers[0].k, m = self.layers[self.n_layers - 1].m
        cdef float *narrowed
        cdef int finite = 1
        if self.rows is not None:
            self.rows.take(h, first + row, n)
        else:
            if wide != NULL:
                narrowed = self.narrowed + thread * STRIP * k
                kernels.narrow(narrowed, wide + row * k, n * k)
                x = narrowed
            else:
                x = x + row * k
            kernels.is_finite(&finite, x, n * k)
            read_rows(h, x, n)
        for l in range(self.n_layers):
            for group in range(groups_of(self.layers[l].panels, h + l)):
                forward(&self.layers[l], h + l, h + l + 1, NULL, group, 0, n)
        kernels.copy(out, m, h[self.n_layers].data, h[self.n_layers].ld, n, m)
        return finite


cdef Matrix make_input(Py_ssize_t capacity, Py_ssize_t k, Py_ssize_t m, Buffers buffers):
    """Rows (capacity, k) of X as they stand, with room for lists of them where m units make those worth it."""
    cdef Matrix x = make_matrix(capacity, k, FM_PANEL, panels_of(k))
    x.ld, x.ld_panel = k, FM_PANEL
    if worth_skipping(k, m):
        set_blocks(&x.block, &x.blocks, k, BLOCK)
        x.entries = <fm_entry *>buffers.allocate(sizeof(fm_entry) * (capacity * k + FM_PAD))
        add_lists(&x, buffers)
    return x


cdef void read_rows(Matrix *x, const float *rows, Py_ssize_t n) noexcept nogil:
    """Take rows (n, k) for the input, as lists if they have enough zeros."""
    cdef Py_ssize_t i, k = x.ld
    cdef ptrdiff_t count, place = 0
    x.data = <float *>rows
    if x.entries != NULL:
        kernels.count_nonzero(&count, rows, n * k)
        x.listed = count <= SPARSE_DENSITY * n * k
        if x.listed:
            for i in range(n):
                place = list_row(x.entries, x.begin + i, x.end + i, x.capacity, place, rows + i * k, k, x.block,
                                 x.blocks)


@cython.final
cdef class FewRows:
    """Prediction of a few rows from the flat parameters as they are, without panels to fill or threads to wake.

    It also reads and writes the parameters as a whole. While one thread predicts, another may train: what is predicted,
    read or written is one whole epoch, since each of them is done without giving up the GIL, or again.

    Parameters
    ----------
    layers : list
        As `fastmlp.layers.engine_layers` gives it.
    parameters : float32 array
    """

    cdef object array           # which knows whether it is read-only
    cdef const float[::1] parameters
    cdef Buffers buffers
    cdef Layer *layers
    cdef Py_ssize_t n_layers, writes
    cdef bint small

    def __init__(self, layers, parameters):
        self.array = self.parameters = parameters
        self.buffers, self.n_layers = Buffers(), len(layers)
        self.layers = make_layers(layers, self.buffers)
        self.small = self.n_layers <= MOST_LAYERS and max(m for _, m, *_ in layers) <= WIDEST

    def logits(self, X):
        """Outputs before the loss's own activation, (n, m), of X (n, k).

        None where X is not a few sound rows of float32 or the outputs are not finite: the caller's own checks say why.
        """
        cdef const float[:, ::1] rows
        cdef float[:, ::1] out
        cdef Py_ssize_t writes
        if not self.small or type(X) is not np.ndarray or X.dtype is not FLOAT32:
            return None
        try:
            rows = X
        except ValueError:  # another shape or layout
            return None
        if not 0 < rows.shape[0] <= FEW_ROWS or rows.shape[1] != self.layers[0].k:
            return None
        if <size_t>&rows[0, 0] % sizeof(float) or not is_finite(rows):
            return None
        outputs = np.empty((rows.shape[0], self.layers[self.n_layers - 1].m), FLOAT32)
        out = outputs
        if self.parameters.shape[0] * rows.shape[0] < KEEP_GIL:
            self.predict_rows(out, rows)
        else:
            writes = -1
            while writes != self.writes:  # again, where training has written meanwhile
                writes = self.writes
                with nogil:
                    self.predict_rows(out, rows)
        return outputs if is_finite(out) else None

    def read(self):
        """Return a copy of the parameters."""
        return self.read_with()[0]

    def read_with(self, *arrays):
        """Return copies of the parameters and of other float32 arrays (n,), all of one moment."""
        arrays = self.array, *arrays
        copies = [np.empty(len(array), FLOAT32) for array in arrays]
        cdef const float[::1] source
        cdef float[::1] copy
        for array, out in zip(arrays, copies, strict=True):
            source, copy = array, out
            memcpy(&copy[0], &source[0], sizeof(float) * source.shape[0])
        return copies

    def __setitem__(self, where, values):
        """Write to all of the parameters; `where` is [:].

        The values are an array, or a function of C that writes them to the one that it is called with.
        """
        cdef const float[::1] source
        if not self.array.flags.writeable:
            raise ValueError("the parameters are read-only")
        if callable(values):
            values(self.array)
        else:
            source = values
            if source.shape[0] != self.parameters.shape[0]:
                raise ValueError(f"there are {self.parameters.shape[0]} parameters, not {source.shape[0]}")
            memcpy(<float *>&self.parameters[0], &source[0], sizeof(float) * source.shape[0])
        self.writes += 1

    cdef void predict_rows(self, float[:, ::1] out, const float[:, ::1] rows) noexcept nogil:
        """Outputs out (n, m) of rows (n, k), one by one."""
        cdef Py_ssize_t i
        for i in range(rows.shape[0]):
            self.predict(&out[i, 0], &rows[i, 0])

    cdef void predict(self, float *out, const float *x) noexcept nogil:
        """Outputs out (m) of one row x (k)."""
        cdef float h[2][WIDEST]
        cdef Py_ssize_t l
        cdef const Layer *layer
        cdef const float *weights
        cdef const float *bias
        cdef const float *statistics
        for l in range(self.n_layers):
            layer, weights = &self.layers[l], &self.parameters[self.layers[l].offset]
            if l == self.n_layers - 1:
                kernels.row_product(out, x, weights, layer.k, layer.m)
            else:
                kernels.row_product(h[l % 2], x, weights, layer.k, layer.m)
                if layer.normalised:
                    bias, statistics = weights + layer.k * layer.m, &self.parameters[layer.statistics]
                    kernels.normalise_row(h[l % 2], bias, bias + layer.m, statistics, statistics + layer.m, layer.m)
                kernels.activate(h[l % 2], layer.m, layer.activation)
                x = h[l % 2]


cdef bint is_finite(const float[:, ::1] rows) noexcept nogil:
    """Whether rows (n, k) have neither NaN nor infinity."""
    cdef int finite
    kernels.is_finite(&finite, &rows[0, 0], rows.shape[0] * rows.shape[1])
    return finite
