# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: freethreading_compatible=True
"""The fused training step and the prediction path.

Weights and activations are kept in panels of 64 columns. A step is a program: a list of phases, each a list of
independent tasks, which the threads share out; no sum is ever split, so that any number of threads gives the same bits.
"""

cimport cython
from cython.parallel cimport parallel, prange, threadid
from libc.math cimport isfinite, pow, sqrt
from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.string cimport memcpy, memset

import time

import numpy as np

from fastmlp.sparse import SparseRows

from fastmlp._kernels cimport (
    FM_ADAM, FM_IDENTITY, FM_NESTEROV, FM_PAD, FM_PANEL, FM_RELU, FM_SGD, FM_STORE, aligned, fm_dense, fm_entry,
    fm_flush_denormals, fm_loss_gradient, fm_restore_denormals, fm_sparse, fm_step, kernels, loss_kernel,
)

cdef extern from *:
    """
    #ifdef _OPENMP
    #include <omp.h>
    #else
    #define omp_get_num_threads() 1
    #endif
    """
    int omp_get_num_threads() noexcept nogil

cdef extern from "_rendezvous.h" nogil:
    ctypedef struct Run:
        pass
    ctypedef struct Rendezvous:
        Run *runs
    void open_rendezvous(Rendezvous *r)
    void close_rendezvous(Rendezvous *r)
    void deal(Rendezvous *r, int n_runs, ptrdiff_t count)
    ptrdiff_t claim(Rendezvous *r, int thread)
    bint arrive(Rendezvous *r, int n_threads)
    void release(Rendezvous *r)

# Rows of weights that the sparse product reads at a time, about: 160 rows of 256 bytes. Blocks of 112, which fit the L1
# cache whole, took 8 % longer (more rows to begin), blocks of 264 as long.
cdef Py_ssize_t BLOCK = 160
# Rows of a batch that a list by column spans: 112 rows of dz, 28 KB, stay in a 32 KB L1 cache.
cdef Py_ssize_t CHUNK = 112
# Rows of a weight gradient made before the optimizer takes them, while they are in L1: four register tiles.
cdef Py_ssize_t UPDATE_ROWS = 24
# Above this share of non-zero values the dense product is faster: it runs at the chip's peak, the sparse one at 70 %.
cdef double SPARSE_DENSITY = 0.65
# Bytes of a batch's lists of a hidden layer at most, if every value were listed: 2048 units by 1024 rows take 16 MB,
# and are worth it; a batch of 55,000 rows had better keep its memory.
cdef Py_ssize_t HIDDEN_LISTS = 32 << 20
# A network of at most so many parameters stays in the caches near a core, and so do CHAIN_ROWS rows of its activations:
# then each thread takes rows through all layers and back by itself.
cdef Py_ssize_t CHAIN_PARAMETERS = 16384
cdef Py_ssize_t CHAIN_ROWS = 128
# Rows of a task at most: 128 rows of a panel of outputs, 32 KB, are added to while blocks of weights pass.
cdef Py_ssize_t TASK_ROWS = 128
# Rows that one thread takes through the whole network when it predicts.
cdef Py_ssize_t PREDICT_ROWS = 96
cdef enum:
    SLAB = 1024  # parameters whose gradients are added up, and which are then updated, at a time
# Seconds of steps between two looks at signals and the clock.
cdef double SLICE = 0.01
# Two slices in so many try another number of threads. Fewer than all are tried seldom: where they would be faster,
# because other processes are at work, the slices with all threads show it by themselves.
cdef Py_ssize_t EXPLORE = 20
cdef Py_ssize_t EXPLORE_FEWER = 200

# Rows that are predicted one by one: beyond some 16, filling panels pays.
cdef Py_ssize_t FEW_ROWS = 16
# Networks whose rows fit the stack
cdef enum:
    MOST_LAYERS = 16
    WIDEST = 4096

FLOAT32 = np.dtype(np.float32)

cdef enum Kind:
    GATHER
    FORWARD
    LOSS
    COST
    COLUMNS
    BACKWARD
    UPDATE
    CHAIN
    SUM

RULES = {"store": FM_STORE, "sgd": FM_SGD, "nesterov": FM_NESTEROV, "adam": FM_ADAM}

cdef struct Layer:
    Py_ssize_t k, m, panels
    Py_ssize_t ld               # between rows of a panel, and the panel's width but for the last one
    int activation
    # [panel][k + 1][ld]: the bias is the row after the weights, since its input is always 1
    float *weights
    float *first
    float *second

cdef struct Matrix:
    # n rows of activations or of their gradients; element (i, j) is data[(j / 64) * panel + i * row + j % 64]
    float *data
    Py_ssize_t row, panel
    # Non-zero values of row i, columns [b * block, (b + 1) * block): begin and end [b * capacity + i], where listed
    bint listed
    Py_ssize_t block, blocks, capacity
    fm_entry *entries
    ptrdiff_t *begin
    ptrdiff_t *end
    # The same by column, `chunk` rows at a time: for chunk c of block b, column_begin and column_end
    # [(b * chunks + c) * block + j]
    Py_ssize_t chunk, chunks
    fm_entry *column_entries
    ptrdiff_t *column_begin
    ptrdiff_t *column_end

cdef struct Task:
    Kind kind
    Py_ssize_t layer, index     # index: of a panel or a block
    Py_ssize_t first, n         # rows

cdef struct Phase:
    Py_ssize_t first, count     # of tasks


# ---- Sizes -----------------------------------------------------------------------------------------------------------

cdef inline Py_ssize_t padded(Py_ssize_t m) noexcept nogil:
    return (m + FM_PAD - 1) // FM_PAD * FM_PAD


cdef inline Py_ssize_t panels_of(Py_ssize_t m) noexcept nogil:
    return (m + FM_PANEL - 1) // FM_PANEL


cdef inline Py_ssize_t width_of(Py_ssize_t m, Py_ssize_t panel) noexcept nogil:
    return min(<Py_ssize_t>FM_PANEL, padded(m) - panel * FM_PANEL)


@cython.final
cdef class Buffers:
    """Memory that lives as long as this object, zeroed, each piece at the start of a cache line."""

    cdef list held

    def __init__(self):
        self.held = []

    cdef void *get(self, Py_ssize_t n_bytes) except NULL:
        array = np.zeros(n_bytes + 64, np.uint8)
        self.held.append(array)
        cdef unsigned char[::1] view = array
        cdef size_t address = <size_t>&view[0]
        return <void *>((address + 63) // 64 * 64)

    cdef float *floats(self, Py_ssize_t count) except NULL:
        return <float *>self.get(4 * count)


# ---- Layers: between the user's flat row-major buffer and panels -----------------------------------------------------

cdef Py_ssize_t panel_floats(const Layer *layer) noexcept nogil:
    return layer.panels * (layer.k + 1) * layer.ld


cdef Layer make_layer(Py_ssize_t k, Py_ssize_t m, int activation) noexcept nogil:
    cdef Layer layer
    memset(&layer, 0, sizeof(Layer))
    layer.k, layer.m, layer.panels, layer.activation = k, m, panels_of(m), activation
    layer.ld = width_of(m, 0)
    return layer


cdef void pack(float *panels, const Layer *layer, const float *flat) noexcept nogil:
    """(k + 1, m) row-major to panels; the bias follows the weights in both."""
    cdef Py_ssize_t p
    for p in range(layer.panels):
        kernels.copy(panels + p * (layer.k + 1) * layer.ld, layer.ld, flat + p * FM_PANEL, layer.m, layer.k + 1,
                     min(<Py_ssize_t>FM_PANEL, layer.m - p * FM_PANEL))


cdef void unpack(float *flat, const Layer *layer, const float *panels) noexcept nogil:
    cdef Py_ssize_t p
    for p in range(layer.panels):
        kernels.copy(flat + p * FM_PANEL, layer.m, panels + p * (layer.k + 1) * layer.ld, layer.ld, layer.k + 1,
                     min(<Py_ssize_t>FM_PANEL, layer.m - p * FM_PANEL))


# ---- The product, with its start and its epilogue --------------------------------------------------------------------

cdef fm_sparse rows_of(const Matrix *x, Py_ssize_t first, Py_ssize_t block) noexcept nogil:
    cdef fm_sparse lists
    lists.entries = x.entries
    lists.begin = x.begin + block * x.capacity + first
    lists.end = x.end + block * x.capacity + first
    return lists


cdef fm_sparse columns_of(const Matrix *x, Py_ssize_t block, Py_ssize_t chunk, Py_ssize_t column) noexcept nogil:
    cdef fm_sparse lists
    cdef Py_ssize_t place = (block * x.chunks + chunk) * x.block + column
    lists.entries = x.column_entries
    lists.begin = x.column_begin + place
    lists.end = x.column_end + place
    return lists


cdef void product(float *c, Py_ssize_t ldc, const float *start, Py_ssize_t ld_start, const Matrix *x,
                  Py_ssize_t first, Py_ssize_t n, Py_ssize_t block, Py_ssize_t end, const float *b, Py_ssize_t ldb,
                  Py_ssize_t k, Py_ssize_t width) noexcept nogil:
    """c = start + rows [first, first + n) and blocks [block, end), k columns, of x times b (k, width)."""
    cdef fm_dense dense
    cdef Py_ssize_t i
    if x.listed:
        b = b - block * x.block * ldb  # the entries' indices count from the first column of x
        for i in range(block, end):
            kernels.sparse(c, ldc, start, ld_start, rows_of(x, first, i), b, ldb, n, width)
            start, ld_start = c, ldc
    else:
        dense.data = x.data + block * x.panel + first * x.row
        dense.row, dense.column, dense.panel = x.row, 1, x.panel
        kernels.dense(c, ldc, start, ld_start, dense, b, ldb, n, k, width)


cdef void list_panel(const Matrix *x, Py_ssize_t panel, Py_ssize_t first, Py_ssize_t n,
                     Py_ssize_t width) noexcept nogil:
    cdef Py_ssize_t place = panel * x.capacity + first
    kernels.list(x.entries, x.end + place, x.begin + place, x.data + panel * x.panel + first * x.row, x.row, n, width,
                 <int>(panel * FM_PANEL))


cdef void forward(const Layer *layer, const Matrix *x, const Matrix *h, Py_ssize_t panel, Py_ssize_t first,
                  Py_ssize_t n) noexcept nogil:
    """A panel of h = activation(x weights + bias)."""
    cdef const float *w = layer.weights + panel * (layer.k + 1) * layer.ld
    cdef float *c = h.data + panel * h.panel + first * h.row
    cdef Py_ssize_t width = width_of(layer.m, panel)
    product(c, h.row, w + layer.k * layer.ld, 0, x, first, n, 0, x.blocks, w, layer.ld, layer.k, width)
    if layer.activation != FM_IDENTITY:
        kernels.activate(c, n * h.row, layer.activation)
    if h.listed:
        list_panel(h, panel, first, n, width)


cdef void backward(const Layer *layer, const Layer *below, const Matrix *dz, const Matrix *h, const Matrix *dz_below,
                   const float *zeros, Py_ssize_t panel, Py_ssize_t first, Py_ssize_t n) noexcept nogil:
    """A panel of dz_below = (dz weights^T) * activation'(h).

    The weights are transposed a block of 64 by 64 at a time, which stays in L1 for all rows.
    """
    cdef float memory[64 * 64 + 16]
    cdef float *block = aligned(memory)
    cdef float *c = dz_below.data + panel * dz_below.panel + first * dz_below.row
    cdef const float *w = layer.weights + panel * FM_PANEL * layer.ld
    cdef Py_ssize_t width = width_of(layer.k, panel), rows = min(<Py_ssize_t>FM_PANEL, layer.k - panel * FM_PANEL)
    cdef Py_ssize_t p, columns
    if rows < width:
        memset(block, 0, 4 * 64 * 64)
    for p in range(layer.panels):
        columns = min(<Py_ssize_t>FM_PANEL, layer.m - p * FM_PANEL)
        kernels.transpose(block, FM_PANEL, w + p * (layer.k + 1) * layer.ld, layer.ld, rows, columns)
        product(c, dz_below.row, <const float *>c if p else zeros, dz_below.row if p else 0, dz, first, n, p, p + 1,
                block, FM_PANEL, columns, width)
    kernels.activate_backward(c, h.data + panel * h.panel + first * h.row, n * h.row, below.activation)
    if dz_below.listed:
        list_panel(dz_below, panel, first, n, width)


cdef void update(const Layer *layer, const Matrix *x, const Matrix *dz, const float *zeros, const fm_step *step,
                 Py_ssize_t panel, Py_ssize_t block, Py_ssize_t n) noexcept nogil:
    """Gradient of a block of rows of one panel of weights, x^T dz, and the optimizer's step on them.

    The last block also has the bias.
    """
    cdef float memory[64 * 64 + 16]
    cdef float *tile = aligned(memory)
    cdef const float *dz_panel = dz.data + panel * dz.panel
    cdef Py_ssize_t width = width_of(layer.m, panel)
    cdef Py_ssize_t row = block * x.block, end = min(layer.k, row + x.block), offset, rows
    cdef fm_sparse columns
    if x.listed and x.chunks == 1:
        columns = columns_of(x, block, 0, 0)
        offset = (panel * (layer.k + 1) + row) * layer.ld
        kernels.sparse_update(layer.weights + offset, layer.first + offset, layer.second + offset, layer.ld, columns,
                              dz_panel, dz.row, end - row, width, step)
        row = end
    if width < layer.ld:
        memset(tile, 0, 4 * 64 * 64)
    while row < end:
        # Several chunks of dz pass for each tile, so that it had better be large.
        rows = min(<Py_ssize_t>FM_PANEL if x.listed else UPDATE_ROWS, end - row)
        gradient(tile, layer.ld, x, dz_panel, dz.row, zeros, block, row - block * x.block, rows, n, width)
        offset = (panel * (layer.k + 1) + row) * layer.ld
        kernels.update(layer.weights + offset, layer.first + offset, layer.second + offset, tile, rows * layer.ld,
                       step)
        row = row + rows
    if end == layer.k:
        kernels.column_sums(tile, dz_panel, dz.row, n, width)
        offset = (panel * (layer.k + 1) + layer.k) * layer.ld
        kernels.update(layer.weights + offset, layer.first + offset, layer.second + offset, tile, layer.ld, step)


cdef void whole_gradient(float *out, const Layer *layer, const Matrix *x, const Matrix *dz, const float *zeros,
                         Py_ssize_t n) noexcept nogil:
    """x^T dz and, after it, the gradient of the bias, in panels like the weights."""
    cdef Py_ssize_t panel, block, width
    cdef const float *dz_panel
    for panel in range(layer.panels):
        width, dz_panel = width_of(layer.m, panel), dz.data + panel * dz.panel
        for block in range(x.blocks):
            gradient(out + block * x.block * layer.ld, layer.ld, x, dz_panel, dz.row, zeros, block, 0,
                     min(x.block, layer.k - block * x.block), n, width)
        kernels.column_sums(out + layer.k * layer.ld, dz_panel, dz.row, n, width)
        out += (layer.k + 1) * layer.ld


cdef void gradient(float *tile, Py_ssize_t ld, const Matrix *x, const float *dz, Py_ssize_t ld_dz, const float *zeros,
                   Py_ssize_t block, Py_ssize_t row, Py_ssize_t rows, Py_ssize_t n, Py_ssize_t width) noexcept nogil:
    """x^T dz for some columns of a block of x: rows of the gradient, each from `row` of the block on."""
    cdef fm_dense dense
    cdef Py_ssize_t chunk
    if x.listed:
        for chunk in range(x.chunks):
            kernels.sparse(tile, ld, <const float *>tile if chunk else zeros, ld if chunk else 0,
                           columns_of(x, block, chunk, row), dz + chunk * x.chunk * ld_dz, ld_dz, rows, width)
    else:
        dense.data = x.data + block * x.panel + row
        dense.row, dense.column, dense.panel = 1, x.row, FM_PANEL * x.row
        kernels.dense(tile, ld, zeros, 0, dense, dz, ld_dz, rows, n, width)


# ---- The rows that training and prediction read ----------------------------------------------------------------------

@cython.final
cdef class Inputs:
    """The rows of X: dense as they are or, where most values are zero, as lists of the others, made once.

    Parameters
    ----------
    X : float32 array (n, k) or fastmlp.sparse.SparseRows
    m : int
        Outputs of the layer that reads them.
    n_threads : int
    """

    cdef const float[:, ::1] X
    cdef Py_ssize_t n, k, block, blocks
    cdef readonly bint listed
    cdef Buffers buffers
    cdef fm_entry *entries
    cdef ptrdiff_t *begin       # [row][blocks + 1]

    def __init__(self, X, Py_ssize_t m, int n_threads):
        self.n, self.k = X.shape
        self.block, self.blocks = FM_PANEL, panels_of(self.k)
        self.buffers = Buffers()
        if isinstance(X, SparseRows) and len(X.values) <= SPARSE_DENSITY * self.n * self.k:
            self.take_lists(X.begin, X.columns, X.values)
            return
        self.X = X.dense(0, self.n) if isinstance(X, SparseRows) else X
        if worth_listing(self.k, m):
            self.list_rows(n_threads)

    cdef take_lists(self, const int64_t[::1] begin, const int32_t[::1] columns, const float[::1] values):
        """The lists of sparse rows, parted at the blocks' ends."""
        cdef Py_ssize_t i, b, place, total = values.shape[0]
        self.start_lists(total)
        for i in range(total):
            self.entries[i].index, self.entries[i].value = columns[i], values[i]
        for i in range(self.n):
            place = begin[i]
            for b in range(self.blocks):
                while place < begin[i + 1] and columns[place] < b * self.block:
                    place += 1
                self.begin[i * (self.blocks + 1) + b] = place
            self.begin[i * (self.blocks + 1) + self.blocks] = begin[i + 1]

    cdef start_lists(self, Py_ssize_t total):
        """Room for so many entries."""
        self.listed = True
        # Where rows have few values, wider blocks: some 16 values a row and block pay for beginning with it.
        set_blocks(&self.block, &self.blocks, self.k, 16 * self.n * self.k // (total + 1))
        self.entries = <fm_entry *>self.buffers.get(sizeof(fm_entry) * total)
        self.begin = <ptrdiff_t *>self.buffers.get(sizeof(ptrdiff_t) * self.n * (self.blocks + 1))

    cdef list_rows(self, int n_threads):
        cdef Py_ssize_t rows = 512, chunks = (self.n + 511) // 512, c, total = 0, count
        cdef Buffers scratch = Buffers()
        cdef ptrdiff_t *place = <ptrdiff_t *>scratch.get(8 * (chunks + 1))
        for c in prange(chunks, nogil=True, num_threads=n_threads, schedule="static"):
            kernels.count_nonzero(&place[c], &self.X[c * rows, 0], min(rows, self.n - c * rows) * self.k)
        for c in range(chunks):
            count = place[c]
            # A vector writes all of its entries and keeps some: one vector's room between two threads' entries.
            place[c], total = total, total + count + FM_PAD
        if total - chunks * FM_PAD > SPARSE_DENSITY * self.n * self.k:
            return
        self.start_lists(total)
        for c in prange(chunks, nogil=True, num_threads=n_threads, schedule="static"):
            self.list_chunk(c * rows, min(rows, self.n - c * rows), place[c])

    cdef void list_chunk(self, Py_ssize_t first, Py_ssize_t n, ptrdiff_t place) noexcept nogil:
        cdef Py_ssize_t i
        cdef ptrdiff_t *begin
        for i in range(first, first + n):
            begin = self.begin + i * (self.blocks + 1)
            place = list_row(self.entries, begin, begin + 1, 1, place, &self.X[i, 0], self.k, self.block, self.blocks)

    cdef Matrix matrix(self, Py_ssize_t capacity, Buffers buffers):
        """Room for a batch of up to `capacity` rows."""
        cdef Matrix x = make_matrix(capacity, self.k, self.block, self.blocks)
        x.listed = self.listed
        if self.listed:
            x.entries = self.entries
            add_lists(&x, capacity, buffers)
        else:
            x.row, x.panel = self.k, FM_PANEL
            x.data = buffers.floats(capacity * self.k)
        return x

    cdef void gather(self, Matrix *x, Py_ssize_t place, const int64_t *rows, Py_ssize_t n) noexcept nogil:
        """Row rows[i] of X becomes row place + i of x, for n rows."""
        cdef Py_ssize_t i, b
        cdef const ptrdiff_t *begin
        if not self.listed:
            kernels.gather(x.data + place * self.k, &self.X[0, 0], rows, n, self.k)
            return
        for i in range(n):
            begin = self.begin + rows[i] * (self.blocks + 1)
            for b in range(self.blocks):
                x.begin[b * x.capacity + place + i], x.end[b * x.capacity + place + i] = begin[b], begin[b + 1]


cdef void set_blocks(Py_ssize_t *block, Py_ssize_t *blocks, Py_ssize_t k, Py_ssize_t width) noexcept nogil:
    """Blocks of equal width, of about `width` columns each, but not less than BLOCK."""
    width = max(width, BLOCK)
    blocks[0] = (k + width - 1) // width
    block[0] = padded((k + blocks[0] - 1) // blocks[0])


cdef ptrdiff_t list_row(fm_entry *entries, ptrdiff_t *begin, ptrdiff_t *end, Py_ssize_t stride, ptrdiff_t place,
                        const float *x, Py_ssize_t k, Py_ssize_t block, Py_ssize_t blocks) noexcept nogil:
    """List a row of k values from entries[place] on, block after block; return where its entries end."""
    cdef Py_ssize_t b, column, whole, rest
    cdef ptrdiff_t next
    cdef float tail[16]
    for b in range(blocks):
        column = b * block
        rest = max(<Py_ssize_t>0, min(block, k - column))
        whole = rest // FM_PAD * FM_PAD
        rest = rest - whole
        begin[b * stride] = place
        kernels.list(entries, &next, &place, x + column, k, 1, whole, <int>column)
        place = next
        if rest > 0:
            memset(tail, 0, sizeof(tail))
            memcpy(tail, x + column + whole, 4 * rest)
            kernels.list(entries, &next, &place, tail, FM_PAD, 1, FM_PAD, <int>(column + whole))
            place = next
        end[b * stride] = place
    return place


cdef bint worth_listing(Py_ssize_t k, Py_ssize_t m) noexcept nogil:
    """Lists cost a pass over n * k values, and pay by the n * k * m multiplications they leave out."""
    return k >= FM_PANEL and m >= FM_PANEL


cdef bint worth_listing_hidden(Py_ssize_t n, Py_ssize_t k, Py_ssize_t m) noexcept:
    """Lists that leave the caches take longer to read than the dense product takes: 784-2048-2048-10, 1024 rows."""
    return worth_listing(k, m) and n * k * <Py_ssize_t>sizeof(fm_entry) <= HIDDEN_LISTS


cdef Matrix make_matrix(Py_ssize_t capacity, Py_ssize_t columns, Py_ssize_t block, Py_ssize_t blocks) noexcept:
    cdef Matrix x
    memset(&x, 0, sizeof(Matrix))
    x.row = width_of(columns, 0)
    x.panel = capacity * x.row
    x.block, x.blocks, x.capacity = block, blocks, capacity
    x.chunks = (capacity + CHUNK - 1) // CHUNK
    x.chunk = (capacity + x.chunks - 1) // x.chunks
    return x


cdef add_lists(Matrix *x, Py_ssize_t capacity, Buffers buffers):
    """Where rows begin and end, and room for the lists by column."""
    cdef Py_ssize_t i, columns = x.blocks * x.chunks * x.block
    x.begin = <ptrdiff_t *>buffers.get(sizeof(ptrdiff_t) * capacity * x.blocks)
    x.end = <ptrdiff_t *>buffers.get(sizeof(ptrdiff_t) * capacity * x.blocks)
    x.column_entries = <fm_entry *>buffers.get(sizeof(fm_entry) * columns * x.chunk)
    x.column_begin = <ptrdiff_t *>buffers.get(sizeof(ptrdiff_t) * columns)
    x.column_end = <ptrdiff_t *>buffers.get(sizeof(ptrdiff_t) * columns)
    for i in range(columns):
        x.column_begin[i] = i * x.chunk


cdef Matrix make_panels(Py_ssize_t capacity, Py_ssize_t m, bint lists, Buffers buffers):
    """A batch of up to `capacity` rows of m activations, or of their gradients."""
    cdef Matrix x = make_matrix(capacity, m, FM_PANEL, panels_of(m))
    cdef Py_ssize_t i
    x.data = buffers.floats(x.blocks * x.panel)
    if lists:
        x.listed = True
        add_lists(&x, capacity, buffers)
        x.entries = <fm_entry *>buffers.get(sizeof(fm_entry) * capacity * x.blocks * FM_PANEL)
        for i in range(capacity * x.blocks):
            x.begin[i] = i * FM_PANEL
    return x


cdef Matrix make_rows(Py_ssize_t capacity, Py_ssize_t m, Buffers buffers):
    """The output layer: whole rows, for the loss to read."""
    cdef Matrix x = make_matrix(capacity, m, FM_PANEL, panels_of(m))
    x.row, x.panel = padded(m), FM_PANEL
    x.data = buffers.floats(capacity * x.row)
    return x


cdef void list_columns(const Matrix *x, Py_ssize_t block, Py_ssize_t chunk, Py_ssize_t n) noexcept nogil:
    """The lists by column of a block of columns, for rows [chunk * x.chunk, ...) of n."""
    cdef Py_ssize_t first = chunk * x.chunk, place = (block * x.chunks + chunk) * x.block
    kernels.list_columns(x.column_entries, x.column_end + place, x.column_begin + place, rows_of(x, first, block),
                         max(<Py_ssize_t>0, min(x.chunk, n - first)), x.block, <int>(block * x.block))


# ---- Training --------------------------------------------------------------------------------------------------------

@cython.final
cdef class Trainer:
    """One run of training: the network in panels, the buffers of a batch, and the program of a step.

    Parameters
    ----------
    layer_sizes : sequence of int
    parameters : float32 array
        Flat, each layer's weights (k, m) and then its bias; read now, written by `store`.
    moments : list of two float32 arrays like `parameters`
        The optimizer's state; read now, written by `store`.
    activation, loss : int
        Their codes.
    inputs : Inputs
    labels : int64 array (n,) or None
    targets : float32 array (n, m) or None
        Given where labels is None.
    sample_weight : float32 array (n,) or None
    batch_size : int
    optimizer : object
        With `rule` ("sgd", "nesterov", "adam") and its hyper-parameters.
    step : int
        Steps that the optimizer has taken before.
    n_threads : int
        At most; the trainer measures which number is the fastest.
    """

    cdef readonly Py_ssize_t step           # of the optimizer, over its whole life
    cdef readonly Py_ssize_t batch          # of the epoch: how many are done
    cdef readonly Py_ssize_t n_batches
    cdef Py_ssize_t n, m, n_layers, batch_size
    cdef int n_threads
    # Numbers of threads to choose from, and the seconds that a batch takes with each
    cdef int counts[32]
    cdef double seconds[32]
    cdef Py_ssize_t n_counts, slices
    cdef Buffers buffers
    cdef Inputs inputs
    cdef Layer *layers
    cdef Py_ssize_t n_parameters            # in panels, with their padding: the layers' lie one after the other
    cdef float *weights
    cdef float *first
    cdef float *second
    # One set or, where threads take rows through all layers, one a thread
    cdef Matrix *h                          # h[l]: inputs of layer l; h[n_layers]: the logits, then their gradient
    cdef Matrix *dz                         # dz[l]: gradient of h[l] before its activation; dz[n_layers] is h[n_layers]
    cdef bint chained
    cdef float *gradients                   # of each CHAIN task
    cdef float *zeros
    cdef fm_loss_gradient *loss
    cdef fm_step constants
    cdef double learning_rate, beta_1, beta_2, epsilon
    # The batch
    cdef const int64_t[::1] order, label_of
    cdef const float[:, ::1] target_of
    cdef const float[::1] weight_of
    cdef int64_t *labels
    cdef float *targets
    cdef float *scale
    cdef double unit                        # scale of a row of weight 1
    cdef float *losses
    cdef double total_cost
    # The program for a whole batch and, where the last one is smaller, for that one
    cdef Task *tasks[2]
    cdef Phase *phases[2]
    cdef Py_ssize_t n_phases
    cdef Rendezvous rendezvous

    def __cinit__(self, *arguments):
        open_rendezvous(&self.rendezvous)

    def __dealloc__(self):
        close_rendezvous(&self.rendezvous)

    def __init__(self, layer_sizes, const float[::1] parameters, moments, int activation, int loss, Inputs inputs,
                 labels, targets, sample_weight, Py_ssize_t batch_size, optimizer, Py_ssize_t step, int n_threads):
        cdef Py_ssize_t l, k, m, i, sets, rows
        cdef Buffers buffers = Buffers()
        self.buffers, self.inputs, self.n_threads, self.step = buffers, inputs, n_threads, step
        self.rendezvous.runs = <Run *>buffers.get(sizeof(Run) * n_threads)
        self.n_layers = len(layer_sizes) - 1
        self.n, self.m, self.batch_size = inputs.n, layer_sizes[self.n_layers], min(batch_size, inputs.n)
        self.n_batches = (self.n + self.batch_size - 1) // self.batch_size
        self.batch = self.n_batches
        self.label_of, self.target_of, self.weight_of = labels, targets, sample_weight

        self.layers = <Layer *>buffers.get(sizeof(Layer) * self.n_layers)
        for l in range(self.n_layers):
            k, m = layer_sizes[l], layer_sizes[l + 1]
            self.layers[l] = make_layer(k, m, FM_IDENTITY if l == self.n_layers - 1 else activation)
            self.n_parameters += panel_floats(&self.layers[l])
        self.weights = buffers.floats(self.n_parameters)
        self.first, self.second = buffers.floats(self.n_parameters), buffers.floats(self.n_parameters)
        k = 0
        for l in range(self.n_layers):
            self.layers[l].weights, self.layers[l].first = self.weights + k, self.first + k
            self.layers[l].second = self.second + k
            k += panel_floats(&self.layers[l])

        self.chained = not inputs.listed and self.n_parameters <= CHAIN_PARAMETERS
        sets, rows = 1, self.batch_size
        if self.chained:
            rows = min(rows, CHAIN_ROWS)
            self.n_threads = sets = min(n_threads, self.chains(self.batch_size))
            self.gradients = buffers.floats(self.chains(self.batch_size) * self.n_parameters)
        self.h = <Matrix *>buffers.get(sizeof(Matrix) * (self.n_layers + 1) * sets)
        self.dz = <Matrix *>buffers.get(sizeof(Matrix) * (self.n_layers + 1) * sets)
        for i in range(sets):
            self.add_activations(self.h + i * (self.n_layers + 1), self.dz + i * (self.n_layers + 1), rows)
        self.zeros = buffers.floats(FM_PANEL)
        self.load(parameters, moments)

        self.loss = loss_kernel(loss)
        self.set_optimizer(optimizer)
        self.labels = <int64_t *>buffers.get(8 * self.batch_size)
        self.targets = buffers.floats(self.batch_size * self.m)
        self.scale, self.losses = buffers.floats(self.batch_size), buffers.floats(self.batch_size)
        n_threads = self.n_threads
        while n_threads > 0:
            self.counts[self.n_counts] = n_threads
            self.n_counts += 1
            n_threads //= 2
        self.write_program(0, self.batch_size)
        self.write_program(1, self.n - (self.n_batches - 1) * self.batch_size)

    cdef Py_ssize_t chains(self, Py_ssize_t rows):
        return (rows + CHAIN_ROWS - 1) // CHAIN_ROWS

    cdef add_activations(self, Matrix *h, Matrix *dz, Py_ssize_t rows):
        """Room for the activations of so many rows, and for their gradients."""
        cdef bint lists = self.layers[0].activation == FM_RELU and not self.chained
        cdef Py_ssize_t l
        cdef Layer *layer
        h[0] = self.inputs.matrix(rows, self.buffers)
        for l in range(1, self.n_layers):
            layer = &self.layers[l]
            h[l] = make_panels(rows, layer.k, lists and worth_listing_hidden(rows, layer.k, layer.m), self.buffers)
            dz[l] = make_panels(rows, layer.k, l > 1 and lists and
                                worth_listing_hidden(rows, layer.k, self.layers[l - 1].k), self.buffers)
        h[self.n_layers] = make_rows(rows, self.m, self.buffers)
        dz[self.n_layers] = h[self.n_layers]

    # -- State: between the caller's flat arrays and panels

    cdef load(self, const float[::1] parameters, moments):
        cdef const float[::1] first = moments[0], second = moments[1]
        cdef Py_ssize_t l, offset = 0
        for l in range(self.n_layers):
            pack(self.layers[l].weights, &self.layers[l], &parameters[offset])
            pack(self.layers[l].first, &self.layers[l], &first[offset])
            pack(self.layers[l].second, &self.layers[l], &second[offset])
            offset += (self.layers[l].k + 1) * self.layers[l].m

    def store(self, float[::1] parameters, moments):
        """Write the network and the optimizer's state as they are after the last whole batch."""
        cdef float[::1] first = moments[0], second = moments[1]
        cdef Py_ssize_t l, offset = 0
        for l in range(self.n_layers):
            unpack(&parameters[offset], &self.layers[l], self.layers[l].weights)
            unpack(&first[offset], &self.layers[l], self.layers[l].first)
            unpack(&second[offset], &self.layers[l], self.layers[l].second)
            offset += (self.layers[l].k + 1) * self.layers[l].m

    def is_finite(self):
        """Whether the network, the optimizer's state and the cost are."""
        cdef int weights, first, second
        kernels.is_finite(&weights, self.weights, self.n_parameters)
        kernels.is_finite(&first, self.first, self.n_parameters)
        kernels.is_finite(&second, self.second, self.n_parameters)
        return weights and first and second and isfinite(self.cost)

    cdef set_optimizer(self, optimizer):
        cdef int rule = RULES[optimizer.rule]
        self.constants.rule = rule
        self.learning_rate = optimizer.learning_rate
        self.beta_1 = optimizer.beta_1 if rule == FM_ADAM else optimizer.momentum
        self.beta_2 = optimizer.beta_2 if rule == FM_ADAM else 0.0
        self.epsilon = optimizer.epsilon if rule == FM_ADAM else 0.0
        self.constants.rate = self.learning_rate
        self.constants.decay = 1 - self.learning_rate * getattr(optimizer, "weight_decay", 0.0)
        self.constants.beta_1, self.constants.one_minus_beta_1 = self.beta_1, 1 - self.beta_1
        self.constants.beta_2, self.constants.one_minus_beta_2 = self.beta_2, 1 - self.beta_2
        self.constants.epsilon = self.epsilon

    # -- The program

    cdef write_program(self, int which, Py_ssize_t rows):
        phases = self.chain_phases(rows) if self.chained else self.layer_phases(rows)
        self.n_phases = len(phases)
        self.phases[which] = <Phase *>self.buffers.get(sizeof(Phase) * self.n_phases)
        self.tasks[which] = <Task *>self.buffers.get(sizeof(Task) * sum(map(len, phases)))
        cdef Py_ssize_t i, end = 0
        cdef Task *task
        for i, tasks in enumerate(phases):
            self.phases[which][i].first, self.phases[which][i].count = end, len(tasks)
            for kind, l, index, first, n in tasks:
                task = &self.tasks[which][end]
                task.kind, task.layer, task.index, task.first, task.n = kind, l, index, first, n
                end += 1

    def chain_phases(self, Py_ssize_t rows):
        """Rows through all layers and back, and then the sum of their gradients: for small networks."""
        cdef Py_ssize_t count = self.chains(rows), i
        return [
            [(CHAIN, 0, i, rows * i // count, rows * (i + 1) // count - rows * i // count) for i in range(count)],
            [(COST, 0, 0, 0, rows)] + [(SUM, 0, i, 0, count) for i in range((self.n_parameters + SLAB - 1) // SLAB)],
        ]

    def layer_phases(self, Py_ssize_t rows):
        """One layer after the other, the threads sharing its panels."""
        phases = [self.row_tasks(GATHER, 0, 1, rows)]
        for l in range(self.n_layers):
            phases.append(self.row_tasks(FORWARD, l, self.layers[l].panels, rows))
        phases.append(self.row_tasks(LOSS, self.n_layers, 1, rows))
        between = [(COST, 0, 0, 0, rows)]
        for l in range(self.n_layers):
            if self.h[l].listed:
                between += [(COLUMNS, l, block, 0, rows) for block in range(self.h[l].blocks * self.h[l].chunks)]
        phases.append(between)
        for l in range(self.n_layers - 1, 0, -1):
            phases.append(self.row_tasks(BACKWARD, l, panels_of(self.layers[l].k), rows))
        for l in range(self.n_layers):
            blocks = (self.layers[l].k + self.h[l].block - 1) // self.h[l].block
            phases.append([(UPDATE, l, panel * blocks + block, 0, rows)
                           for panel in range(self.layers[l].panels) for block in range(blocks)])
        return phases

    def row_tasks(self, int kind, Py_ssize_t layer, Py_ssize_t panels, Py_ssize_t rows):
        """Panels by blocks of at most TASK_ROWS rows, of more blocks where these do not share out evenly."""
        cdef Py_ssize_t blocks = (rows + TASK_ROWS - 1) // TASK_ROWS, tasks, block
        cdef Py_ssize_t most = max(blocks, rows // UPDATE_ROWS)
        while blocks < most:
            tasks = panels * blocks
            if (tasks + self.n_threads - 1) // self.n_threads * self.n_threads <= 1.1 * tasks:
                break
            blocks += 1
        return [(kind, layer, panel, rows * block // blocks, rows * (block + 1) // blocks - rows * block // blocks)
                for panel in range(panels) for block in range(blocks)]

    cdef void run_task(self, const Task *task, int thread) noexcept nogil:
        cdef Py_ssize_t l = task.layer, blocks
        if task.kind == CHAIN:
            self.chain(self.h + thread * (self.n_layers + 1), self.dz + thread * (self.n_layers + 1), task)
        elif task.kind == SUM:
            self.sum(task.index * SLAB, task.n)
        elif task.kind == GATHER:
            self.gather(self.h, task.first, task.first, task.n)
        elif task.kind == FORWARD:
            forward(&self.layers[l], &self.h[l], &self.h[l + 1], task.index, task.first, task.n)
        elif task.kind == LOSS:
            self.lose(&self.h[l], task.first, task.first, task.n)
        elif task.kind == COST:
            self.add_cost(task.n)
        elif task.kind == COLUMNS:
            if self.h[l].listed:
                list_columns(&self.h[l], task.index // self.h[l].chunks, task.index % self.h[l].chunks, task.n)
        elif task.kind == BACKWARD:
            backward(&self.layers[l], &self.layers[l - 1], &self.dz[l + 1], &self.h[l], &self.dz[l], self.zeros,
                     task.index, task.first, task.n)
        else:
            blocks = (self.layers[l].k + self.h[l].block - 1) // self.h[l].block
            update(&self.layers[l], &self.h[l], &self.dz[l + 1], self.zeros, &self.constants,
                   task.index // blocks, task.index % blocks, task.n)

    cdef void chain(self, Matrix *h, Matrix *dz, const Task *task) noexcept nogil:
        """Rows through all layers and back."""
        cdef Py_ssize_t l, panel, n = task.n
        cdef float *gradients = self.gradients + task.index * self.n_parameters
        self.gather(h, 0, task.first, n)
        for l in range(self.n_layers):
            for panel in range(self.layers[l].panels):
                forward(&self.layers[l], h + l, h + l + 1, panel, 0, n)
        self.lose(h + self.n_layers, 0, task.first, n)
        for l in range(self.n_layers - 1, 0, -1):
            for panel in range(panels_of(self.layers[l].k)):
                backward(&self.layers[l], &self.layers[l - 1], dz + l + 1, h + l, dz + l, self.zeros, panel, 0, n)
        for l in range(self.n_layers):
            whole_gradient(gradients, &self.layers[l], h + l, dz + l + 1, self.zeros, n)
            gradients += panel_floats(&self.layers[l])

    cdef void sum(self, Py_ssize_t first, Py_ssize_t n) noexcept nogil:
        """The sum of n gradients of a slab of parameters, and the optimizer's step on it."""
        cdef float memory[SLAB + 16]
        cdef float *sums = aligned(memory)
        cdef Py_ssize_t count = min(<Py_ssize_t>SLAB, self.n_parameters - first)
        kernels.column_sums(sums, self.gradients + first, self.n_parameters, n, count)
        kernels.update(self.weights + first, self.first + first, self.second + first, sums, count, &self.constants)

    cdef void gather(self, Matrix *x, Py_ssize_t place, Py_ssize_t first, Py_ssize_t n) noexcept nogil:
        """Rows [first, first + n) of the batch to rows of x from `place` on; their targets and weights."""
        cdef const int64_t *rows = &self.order[self.batch * self.batch_size + first]
        cdef const int64_t *label_of
        cdef int64_t *labels = self.labels + first
        cdef float *scale = self.scale + first
        cdef float unit = self.unit
        cdef Py_ssize_t i
        self.inputs.gather(x, place, rows, n)
        if self.label_of is not None:
            label_of = &self.label_of[0]
            for i in range(n):
                labels[i] = label_of[rows[i]]
        else:
            kernels.gather(self.targets + first * self.m, &self.target_of[0, 0], rows, n, self.m)
        for i in range(n):
            scale[i] = unit
        if self.weight_of is not None:
            for i in range(n):
                scale[i] = self.weight_of[rows[i]] * self.unit

    cdef void lose(self, const Matrix *logits, Py_ssize_t place, Py_ssize_t first, Py_ssize_t n) noexcept nogil:
        """The losses of rows [first, first + n) of the batch; their gradients take the place of the logits."""
        self.loss(logits.data + place * logits.row, self.losses + first, logits.row,
                  self.labels + first if self.label_of is not None else NULL, self.targets + first * self.m,
                  self.scale + first, n, self.m)

    # -- The batch as a whole, while no thread is at work

    cdef void begin(self) noexcept nogil:
        """The scale of the losses, the optimizer's constants, and which lists are worth making."""
        cdef Py_ssize_t first = self.batch * self.batch_size, end = min(self.n, first + self.batch_size)
        cdef Py_ssize_t i, l, t = self.step + 1
        cdef double total = end - first, correction
        if self.weight_of is not None:
            total = 0
            for i in range(first, end):
                total += self.weight_of[self.order[i]]
        self.unit = 1 / total if total > 0 else 0

        if self.constants.rule == FM_ADAM:
            correction = sqrt(1 - pow(self.beta_2, t))
            self.constants.rate = self.learning_rate * correction / (1 - pow(self.beta_1, t))
            self.constants.epsilon = self.epsilon * correction

        for l in range(1, self.n_layers):
            if self.batch == 0:
                self.h[l].listed, self.dz[l].listed = self.h[l].entries != NULL, self.dz[l].entries != NULL
            else:
                drop_full_lists(&self.h[l], self.batch_size, self.layers[l].k)
                drop_full_lists(&self.dz[l], self.batch_size, self.layers[l].k)

    cdef void add_cost(self, Py_ssize_t n) noexcept nogil:
        cdef double cost = 0
        cdef Py_ssize_t i
        for i in range(n):
            cost += <double>self.scale[i] * self.losses[i]
        self.total_cost += cost

    # -- Running

    def start_epoch(self, const int64_t[::1] order):
        """Begin an epoch over the rows in this order."""
        self.order = order
        self.batch, self.total_cost = 0, 0
        self.begin()

    def run(self):
        """Take a slice of steps, about 10 ms of work, without the GIL."""
        cdef bint first_look = self.slices < 2 * self.n_counts
        cdef Py_ssize_t i = self.slices // 2 if first_look else self.choose_count(), batches
        cdef int n_threads = self.counts[i]
        cdef double seconds = self.seconds[i] if self.seconds[i] > 0 else SLICE
        batches = max(<Py_ssize_t>1, min(self.n_batches - self.batch, <Py_ssize_t>(SLICE / seconds)))
        deal(&self.rendezvous, n_threads, self.phase(0).count)
        started = time.perf_counter()
        if n_threads == 1:  # and no parallel region, which a forked child could not enter
            with nogil:
                self.work(0, 1, batches)
        else:
            with nogil, parallel(num_threads=n_threads):
                self.work(threadid(), omp_get_num_threads(), batches)
        seconds = (time.perf_counter() - started) / batches
        # Down at once and up slowly: one slice that was interrupted is no reason to change.
        self.seconds[i] = min(seconds, 1.1 * self.seconds[i]) if self.seconds[i] > 0 else seconds
        self.slices += 1
        if self.slices == 2 and seconds > SLICE:  # a large step is not for fewer threads; time will show
            for i in range(1, self.n_counts):
                self.seconds[i] = 2 * seconds
            self.slices = 2 * self.n_counts

    cdef Py_ssize_t choose_count(self) noexcept:
        """Which number of threads takes the next slice: mostly the fastest so far, now and then another one.

        The bits do not depend on it, so it can follow what is measured: a small network is faster on one thread, and
        so is a large one while another process has the other processors.
        """
        cdef Py_ssize_t i, best = 0, every
        for i in range(1, self.n_counts):
            if self.seconds[i] < self.seconds[best]:
                best = i
        every = EXPLORE if best > 0 else EXPLORE_FEWER
        if self.n_counts == 1 or self.slices % every > 1:
            return best
        if best == 0 or (best < self.n_counts - 1 and self.slices // every % 2):
            return best + 1
        return best - 1

    cdef void work(self, int thread, int n_threads, Py_ssize_t batches) noexcept nogil:
        """One thread's part of some batches. The last thread to arrive at the end of a phase begins the next one."""
        cdef Py_ssize_t _, i, t
        cdef const Phase *phase
        cdef const Task *tasks
        cdef uint64_t denormals
        fm_flush_denormals(&denormals)
        for _ in range(batches):
            for i in range(self.n_phases):
                phase = self.phase(i)
                tasks = self.tasks[self.batch == self.n_batches - 1] + phase.first
                t = claim(&self.rendezvous, thread)
                while t >= 0:
                    self.run_task(&tasks[t], thread)
                    t = claim(&self.rendezvous, thread)
                if arrive(&self.rendezvous, n_threads):
                    if i < self.n_phases - 1:
                        deal(&self.rendezvous, n_threads, self.phase(i + 1).count)
                    else:
                        self.batch += 1
                        self.step += 1
                        if self.batch < self.n_batches:
                            self.begin()
                            deal(&self.rendezvous, n_threads, self.phase(0).count)
                    release(&self.rendezvous)
        fm_restore_denormals(&denormals)

    cdef const Phase *phase(self, Py_ssize_t i) noexcept nogil:
        return &self.phases[self.batch == self.n_batches - 1][i]

    @property
    def cost(self):
        """Mean of the costs of the epoch's batches so far."""
        return self.total_cost / self.batch


cdef void drop_full_lists(Matrix *x, Py_ssize_t n, Py_ssize_t m) noexcept nogil:
    """Go over to the dense product, until the epoch ends, where the last batch had too few zeros for lists."""
    cdef Py_ssize_t b, i
    cdef ptrdiff_t count = 0
    if x.listed:
        for b in range(x.blocks):
            for i in range(b * x.capacity, b * x.capacity + n):
                count += x.end[i] - x.begin[i]
        x.listed = count <= SPARSE_DENSITY * n * m


# ---- Prediction ------------------------------------------------------------------------------------------------------

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
        x.begin = <ptrdiff_t *>buffers.get(sizeof(ptrdiff_t) * capacity * x.blocks)
        x.end = <ptrdiff_t *>buffers.get(sizeof(ptrdiff_t) * capacity * x.blocks)
    return x


cdef void read_rows(Matrix *x, const float *rows, Py_ssize_t n) noexcept nogil:
    """Take n rows for the input, as lists if they have enough zeros."""
    cdef Py_ssize_t i, k = x.row
    cdef ptrdiff_t count, place = 0
    x.data = <float *>rows
    if x.entries != NULL:
        kernels.count_nonzero(&count, rows, n * k)
        x.listed = count <= SPARSE_DENSITY * n * k
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
