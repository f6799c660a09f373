# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: freethreading_compatible=True
"""Layers in panels of 64 outputs, and what a thread does with one panel: forward, backward, update."""

from libc.string cimport memset

from fastmlp._kernels cimport FM_IDENTITY, FM_PANEL, aligned, fm_dense, fm_sparse, fm_step, kernels
from fastmlp._panels cimport Buffers, Matrix, columns_of, list_panel, panels_of, rows_of, width_of


cdef Layer *make_layers(layers, Buffers buffers) except NULL:
    """The layers that `fastmlp.layers.engine_layers` describes, without memory for their parameters."""
    cdef Layer *made = <Layer *>buffers.get(sizeof(Layer) * len(layers))
    cdef Py_ssize_t l
    for l, (k, m, activation, makes_zeros, offset) in enumerate(layers):
        made[l].k, made[l].m, made[l].panels, made[l].ld = k, m, panels_of(m), width_of(m, 0)
        made[l].activation, made[l].makes_zeros, made[l].offset = activation, makes_zeros, offset
    return made


cdef Py_ssize_t panel_floats(const Layer *layer) noexcept nogil:
    return layer.panels * (layer.k + 1) * layer.ld


cdef void pack(float *panels, const Layer *layer, const float[::1] parameters) noexcept nogil:
    """A layer's weights and bias, (k + 1, m) row-major, to panels; the bias follows the weights in both."""
    cdef const float *flat = &parameters[layer.offset]
    cdef Py_ssize_t p
    for p in range(layer.panels):
        kernels.copy(panels + p * (layer.k + 1) * layer.ld, layer.ld, flat + p * FM_PANEL, layer.m, layer.k + 1,
                     min(<Py_ssize_t>FM_PANEL, layer.m - p * FM_PANEL))


cdef void unpack(float[::1] parameters, const Layer *layer, const float *panels) noexcept nogil:
    """The other way round."""
    cdef float *flat = &parameters[layer.offset]
    cdef Py_ssize_t p
    for p in range(layer.panels):
        kernels.copy(flat + p * FM_PANEL, layer.m, panels + p * (layer.k + 1) * layer.ld, layer.ld, layer.k + 1,
                     min(<Py_ssize_t>FM_PANEL, layer.m - p * FM_PANEL))


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
        rows = min(<Py_ssize_t>FM_PANEL if x.listed else <Py_ssize_t>UPDATE_ROWS, end - row)
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
