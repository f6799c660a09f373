# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: freethreading_compatible=True
"""Layers in panels of 64 outputs, and what a thread does with one panel: forward, backward, update."""

from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

from fastmlp.engine.matrix cimport (
    Buffers, Matrix, columns_masked, columns_of, mask_panel, padded, panels_of, rows_masked, rows_of, width_of,
)
from fastmlp.engine.noise cimport make_noise
from fastmlp.engine.table cimport FM_IDENTITY, FM_PANEL, aligned, fm_apart, fm_dense, fm_step, kernels

cdef enum:
    DERIVED = 1024  # values that two passes in a row take while they are in L1


cdef float no_bias[64]  # FM_PANEL


cdef Layer *make_layers(layers, Buffers buffers) except NULL:
    """The layers that `fastmlp.layers.engine_layers` describes, without memory for their parameters."""
    cdef Layer *made = <Layer *>buffers.allocate(sizeof(Layer) * len(layers))
    cdef Py_ssize_t l
    for l, (k, m, activation, makes_zeros, reads_sum, offset, statistics, dropout, noise) in enumerate(layers):
        made[l].k, made[l].m, made[l].panels, made[l].ld = k, m, panels_of(m), width_of(m, 0)
        made[l].activation, made[l].makes_zeros, made[l].reads_sum = activation, makes_zeros, reads_sum
        made[l].normalised, made[l].rows = statistics is not None, k + 1 + (statistics is not None)
        made[l].offset, made[l].statistics = offset, statistics or 0
        made[l].noise = make_noise(dropout, noise)
    return made


cdef Py_ssize_t panel_floats(const Layer *layer) noexcept nogil:
    """Length of a layer's panels, [panel][rows][ld]."""
    return layer.panels * layer.rows * layer.ld


cdef void pack(float *panels, const Layer *layer, const float *flat, Py_ssize_t rows) noexcept nogil:
    """Rows of numbers of a layer's units, (rows, m) row-major, to panels [panel][rows][ld]."""
    cdef Py_ssize_t p
    for p in range(layer.panels):
        kernels.copy(panels + p * rows * layer.ld, layer.ld, flat + p * FM_PANEL, layer.m, rows,
                     min(<Py_ssize_t>FM_PANEL, layer.m - p * FM_PANEL))


cdef void unpack(float *flat, const Layer *layer, const float *panels, Py_ssize_t rows) noexcept nogil:
    """The other way round: panels [panel][rows][ld] to (rows, m)."""
    cdef Py_ssize_t p
    for p in range(layer.panels):
        kernels.copy(flat + p * FM_PANEL, layer.m, panels + p * rows * layer.ld, layer.ld, rows,
                     min(<Py_ssize_t>FM_PANEL, layer.m - p * FM_PANEL))


cdef void forward(const Layer *layer, const Matrix *x, const Matrix *h, const int64_t *rows, Py_ssize_t group,
                  Py_ssize_t first, Py_ssize_t n) noexcept nogil:
    """A group of panels of h (n, m) = activation(x (n, k) weights (k, m) + bias (m)), rows [first, first + n).

    In training with the layer's noise and dropout: rows [first + n] of X are those of x. Without them rows is NULL. Of
    a layer that is normalised the sums alone, without bias.
    """
    cdef Py_ssize_t panel = group * x.group, end = min(panel + x.group, layer.panels)
    cdef Py_ssize_t floats = layer.rows * layer.ld, place = panel * h.ld_panel + first * h.ld
    cdef const float *w = layer.weights + panel * floats
    cdef fm_apart apart
    apart.c, apart.b = h.ld_panel, floats
    if layer.normalised:
        apart.start = 0
        product(h.normalised + place, h.ld, no_bias, 0, x, first, n, 0, w, layer.ld, apart, layer.k,
                width_between(layer.m, panel, end))
        return
    apart.start = floats
    product(h.data + place, h.ld, w + layer.k * layer.ld, 0, x, first, n, 0, w, layer.ld, apart, layer.k,
            width_between(layer.m, panel, end))
    for panel in range(panel, end):
        activate(layer, h, rows, panel, first, n)


cdef Py_ssize_t width_between(Py_ssize_t m, Py_ssize_t panel, Py_ssize_t end) noexcept nogil:
    """Columns of panels [panel, end) of a matrix with m of them, padding included."""
    return min(end * FM_PANEL, padded(m)) - panel * FM_PANEL


cdef void activate(const Layer *layer, const Matrix *h, const int64_t *rows, Py_ssize_t panel, Py_ssize_t first,
                   Py_ssize_t n) noexcept nogil:
    """A panel of h (n, m) becomes activation(h), with noise and dropout if rows tells which, and is masked."""
    cdef Py_ssize_t place = panel * h.ld_panel + first * h.ld
    cdef Py_ssize_t units = min(<Py_ssize_t>FM_PANEL, layer.m - panel * FM_PANEL)
    if rows != NULL and layer.noise.deviation > 0:
        kernels.add_noise(h.data + place, h.ld, rows + first, &layer.noise, panel, n, units)
    if h.sums != NULL:
        memcpy(h.sums + place, h.data + place, sizeof(float) * n * h.ld)
    if layer.activation != FM_IDENTITY:
        kernels.activate(h.data + place, n * h.ld, layer.activation)
    if rows != NULL and layer.noise.dropped > 0:
        kernels.drop(h.data + place, h.ld, rows + first, &layer.noise, panel, n, units)
    if h.masks != NULL:
        mask_panel(h, panel, first, n)


cdef void normalise(const Layer *layer, const Matrix *h, const int64_t *rows, Py_ssize_t panel,
                    Py_ssize_t n) noexcept nogil:
    """A panel of h (n, m) = activation(scale (m) * its sums (n, m), normalised, + bias (m)): all rows of the batch."""
    cdef float *batch = layer.batch + 2 * panel * layer.ld
    cdef const float *bias = layer.weights + (panel * layer.rows + layer.k) * layer.ld
    kernels.normalise(h.normalised + panel * h.ld_panel, h.data + panel * h.ld_panel, h.ld, batch, batch + layer.ld,
                      layer.inverse + panel * layer.ld, bias + layer.ld, bias, n, width_of(layer.m, panel))
    activate(layer, h, rows, panel, 0, n)


cdef void normalise_backward(const Layer *layer, const Matrix *h, const Matrix *dz, Py_ssize_t panel,
                             Py_ssize_t n) noexcept nogil:
    """A panel of dz (n, m), the gradient before the activation of h (n, m), becomes that of the sums."""
    cdef float *dbias = layer.dtail + 2 * panel * layer.ld
    kernels.normalise_backward(dz.data + panel * dz.ld_panel, dz.ld, dbias, dbias + layer.ld,
                               h.normalised + panel * h.ld_panel, layer.inverse + panel * layer.ld,
                               layer.weights + (panel * layer.rows + layer.k + 1) * layer.ld, n,
                               width_of(layer.m, panel))


cdef void backward(const Layer *layer, const Layer *below, const Matrix *dz, const Matrix *h, const Matrix *dz_below,
                   const float *zeros, Py_ssize_t group, Py_ssize_t first, Py_ssize_t n) noexcept nogil:
    """A group of panels of dz_below (n, k) = (dz (n, m) weights^T (m, k)) * activation'(h (n, k)), rows [first,
    first + n).

    The weights are transposed a block of 64 by 64 at a time, which stays in L1 for all rows.
    """
    cdef float memory[2 * 64 * 64 + 16]
    cdef float *transposed = aligned(memory)
    cdef Py_ssize_t panel = group * dz.group, end = min(panel + dz.group, panels_of(layer.k)), k = layer.k
    cdef float *c = dz_below.data + panel * dz_below.ld_panel + first * dz_below.ld
    cdef Py_ssize_t width = width_between(k, panel, end), p, i, columns, place
    cdef fm_apart apart
    apart.c, apart.start, apart.b = dz_below.ld_panel, 0, FM_PANEL * FM_PANEL
    if panel * FM_PANEL + width > k:
        memset(transposed, 0, sizeof(float) * (end - panel) * apart.b)
    for p in range(layer.panels):
        columns = min(<Py_ssize_t>FM_PANEL, layer.m - p * FM_PANEL)
        for i in range(panel, end):
            kernels.transpose(transposed + (i - panel) * apart.b, FM_PANEL,
                              layer.weights + (p * layer.rows + i * FM_PANEL) * layer.ld, layer.ld,
                              min(<Py_ssize_t>FM_PANEL, k - i * FM_PANEL), columns)
        product(c, dz_below.ld, <const float *>c if p else zeros, dz_below.ld if p else 0, dz, first, n, p,
                transposed, FM_PANEL, apart, columns, width)
        apart.start = apart.c
    for panel in range(panel, end):
        c, place = dz_below.data + panel * dz_below.ld_panel + first * dz_below.ld, panel * h.ld_panel + first * h.ld
        derive(c, h.data + place, h.sums + place if h.sums != NULL else NULL, n * h.ld, below)
        if dz_below.masks != NULL:
            mask_panel(dz_below, panel, first, n)


cdef void derive(float *dh, const float *h, const float *sums, Py_ssize_t count, const Layer *layer) noexcept nogil:
    """In place: the gradient of a layer's outputs h (count) becomes that of its sums (count), NULL where not kept."""
    cdef float plain[DERIVED]   # h before dropout
    cdef Py_ssize_t i, some
    if layer.noise.dropped == 0:
        kernels.activate_backward(dh, h if sums == NULL else sums, count, layer.activation)
        return
    for i from 0 <= i < count by DERIVED:
        some = min(<Py_ssize_t>DERIVED, count - i)
        kernels.drop_backward(dh + i, plain, h + i, some, &layer.noise)
        kernels.activate_backward(dh + i, <const float *>plain if sums == NULL else sums + i, some, layer.activation)


cdef void update(const Layer *layer, const Matrix *x, const Matrix *dz, const float *zeros, const fm_step *step,
                 const fm_step *bias_step, Py_ssize_t panel, Py_ssize_t end, Py_ssize_t block,
                 Py_ssize_t n) noexcept nogil:
    """Gradient x^T (k, n) dz (n, m) of a block of rows of panels [panel, end) of weights, and the optimizer's step on
    them.

    The last block also has the bias, and the scale, which take a step of their own.
    """
    cdef Py_ssize_t i
    if x.masked and width_between(layer.m, panel, end) == 2 * FM_PANEL:
        update_two(layer, x, dz, zeros, step, panel, block, n)
    else:
        for i in range(panel, end):
            update_panel(layer, x, dz, zeros, step, i, block, n)
    if block == blocks_of(layer, x) - 1:
        for i in range(panel, end):
            update_tail(layer, dz, bias_step, i, n)


cdef void update_two(const Layer *layer, const Matrix *x, const Matrix *dz, const float *zeros, const fm_step *step,
                     Py_ssize_t panel, Py_ssize_t block, Py_ssize_t n) noexcept nogil:
    """Gradient of a block of rows of two panels by masks: that of all rows but the last ones is stored in tiles."""
    cdef float memory[2 * 64 * 64 + 16]
    cdef float *tiles = aligned(memory)
    cdef const float *start = zeros
    cdef Py_ssize_t row = block * FM_PANEL, rows = min(<Py_ssize_t>FM_PANEL, layer.k - row), last = panels_of(n) - 1
    cdef Py_ssize_t offset = (panel * layer.rows + row) * layer.ld, ld_start = 0, i
    cdef const float *dz_panel = dz.data + panel * dz.ld_panel
    cdef fm_apart apart
    apart.c, apart.start, apart.b = FM_PANEL * FM_PANEL, 0, dz.ld_panel
    for i in range(last):
        kernels.masked_two(tiles, start, ld_start, columns_masked(x, block, i, 0),
                           dz_panel + i * FM_PANEL * FM_PANEL, apart, rows, FM_PANEL)
        start, ld_start, apart.start = tiles, FM_PANEL, apart.c
    apart.c = layer.rows * layer.ld
    kernels.masked_update_two(layer.weights + offset, layer.moment_1 + offset, layer.moment_2 + offset, start,
                              ld_start, columns_masked(x, block, last, 0), dz_panel + last * FM_PANEL * FM_PANEL,
                              apart, rows, n - last * FM_PANEL, step)


cdef void update_panel(const Layer *layer, const Matrix *x, const Matrix *dz, const float *zeros, const fm_step *step,
                       Py_ssize_t panel, Py_ssize_t block, Py_ssize_t n) noexcept nogil:
    """Gradient of a block of rows of one panel, and the step on them."""
    cdef float memory[64 * 64 + 16]
    cdef float *tile = aligned(memory)
    cdef const float *dz_panel = dz.data + panel * dz.ld_panel
    cdef Py_ssize_t width = width_of(layer.m, panel), row = block * x.block, end = min(layer.k, row + x.block)
    cdef Py_ssize_t offset = (panel * layer.rows + row) * layer.ld, rows, tiles, most, i = 0
    cdef float *w = layer.weights + offset
    cdef float *moment_1 = layer.moment_1 + offset
    cdef float *moment_2 = layer.moment_2 + offset
    cdef const float *start = zeros
    if x.listed and x.chunks == 1:
        kernels.sparse_update(w, moment_1, moment_2, layer.ld, columns_of(x, block, 0, 0), dz_panel, dz.ld, end - row,
                              width, step)
    elif x.masked:
        # All rows but the last ones pass for a gradient that is stored; those go on from it, straight into the update.
        tiles = (panels_of(n) - 1) // SPAN * SPAN
        if tiles > 0:
            start = tile
            gradient(tile, FM_PANEL, False, x, dz_panel, dz.ld, zeros, block, 0, end - row, tiles * FM_PANEL, width)
        kernels.masked_update(w, moment_1, moment_2, start, FM_PANEL if tiles > 0 else 0,
                              columns_masked(x, block, tiles, 0), dz_panel + tiles * FM_PANEL * dz.ld, dz.ld,
                              end - row, n - tiles * FM_PANEL, width, step)
    else:
        if width < layer.ld:
            memset(tile, 0, 4 * 64 * 64)
        # Where several parts of dz pass for each tile, it had better be large.
        most = FM_PANEL if x.listed or n > SPAN * FM_PANEL else UPDATE_ROWS
        while i < end - row:
            rows, offset = min(most, end - row - i), i * layer.ld
            gradient(tile, layer.ld, False, x, dz_panel, dz.ld, zeros, block, i, rows, n, width)
            kernels.update(w + offset, moment_1 + offset, moment_2 + offset, tile, rows * layer.ld, step)
            i = i + rows


cdef void update_tail(const Layer *layer, const Matrix *dz, const fm_step *step, Py_ssize_t panel,
                      Py_ssize_t n) noexcept nogil:
    """Gradient of what follows a panel's weights, and the step on it."""
    cdef float tail[2 * 64]
    cdef Py_ssize_t offset = (panel * layer.rows + layer.k) * layer.ld
    tail_gradient(tail, layer, dz.data + panel * dz.ld_panel, dz.ld, panel, n)
    kernels.update(layer.weights + offset, layer.moment_1 + offset, layer.moment_2 + offset, tail,
                   (layer.rows - layer.k) * layer.ld, step)


cdef void whole_gradient(float *out, const Layer *layer, const Matrix *x, const Matrix *dz, const float *zeros,
                         Py_ssize_t n) noexcept nogil:
    """x^T (k, n) dz (n, m) and, after it, the gradient of the bias, in panels [panel][rows][ld] like the weights."""
    cdef Py_ssize_t panel, block
    for panel in range(layer.panels):
        for block in range(x.blocks):
            block_gradient(out, layer, x, dz, zeros, panel, block, n, False)


cdef void block_gradient(float *out, const Layer *layer, const Matrix *x, const Matrix *dz, const float *zeros,
                         Py_ssize_t panel, Py_ssize_t block, Py_ssize_t n, bint add) noexcept nogil:
    """A block of rows of one panel of x^T (k, n) dz (n, m), with the last one the bias's gradient: stored or added."""
    cdef float tail[2 * 64]
    cdef const float *dz_panel = dz.data + panel * dz.ld_panel
    cdef Py_ssize_t width = width_of(layer.m, panel), row = block * x.block, end = min(layer.k, row + x.block), j
    out += (panel * layer.rows + row) * layer.ld
    gradient(out, layer.ld, add, x, dz_panel, dz.ld, zeros, block, 0, end - row, n, width)
    if end == layer.k:
        out += (end - row) * layer.ld
        tail_gradient(<float *>tail if add else out, layer, dz_panel, dz.ld, panel, n)
        for j in range((layer.rows - layer.k) * layer.ld if add else 0):
            out[j] += tail[j]


cdef void tail_gradient(float *out, const Layer *layer, const float *dz, Py_ssize_t ld_dz, Py_ssize_t panel,
                        Py_ssize_t n) noexcept nogil:
    """Gradient of what follows a panel's weights, bias and scale (rows - k, ld), of a panel of dz (n, ld)."""
    if layer.normalised:  # the sums of dz itself are 0
        memcpy(out, layer.dtail + 2 * panel * layer.ld, 2 * sizeof(float) * layer.ld)
    else:
        memset(out, 0, sizeof(float) * layer.ld)  # the padding stays 0
        kernels.column_sums(out, dz, ld_dz, n, width_of(layer.m, panel))


cdef void gradient(float *tile, Py_ssize_t ld, bint add, const Matrix *x, const float *dz, Py_ssize_t ld_dz,
                   const float *zeros, Py_ssize_t block, Py_ssize_t row, Py_ssize_t rows, Py_ssize_t n,
                   Py_ssize_t width) noexcept nogil:
    """tile (rows, width) = x^T (rows, n) dz (n, width), from column `row` of a block of x on; stored or added."""
    cdef fm_dense dense
    cdef Py_ssize_t chunk, i, steps
    cdef const float *start = <const float *>tile if add else zeros
    cdef Py_ssize_t ld_start = ld if add else 0
    if x.listed:
        for chunk in range(x.chunks):
            kernels.sparse(tile, ld, start, ld_start, columns_of(x, block, chunk, row), dz + chunk * x.chunk * ld_dz,
                           ld_dz, rows, width)
            start, ld_start = tile, ld
        return
    for i from 0 <= i < panels_of(n) by SPAN:
        steps = min(<Py_ssize_t>SPAN * FM_PANEL, n - i * FM_PANEL)
        if x.masked:
            kernels.masked(tile, ld, start, ld_start, columns_masked(x, block, i, row), dz + i * FM_PANEL * ld_dz,
                           ld_dz, rows, steps, width)
        else:
            dense.data = x.data + block * x.ld_panel + i * FM_PANEL * x.ld + row
            dense.ld, dense.column, dense.ld_panel = 1, x.ld, FM_PANEL * x.ld
            kernels.dense(tile, ld, start, ld_start, dense, dz + i * FM_PANEL * ld_dz, ld_dz, rows, steps, width)
        start, ld_start = tile, ld


cdef void product(float *c, Py_ssize_t ldc, const float *start, Py_ssize_t ld_start, const Matrix *x,
                  Py_ssize_t first, Py_ssize_t n, Py_ssize_t panel, const float *b, Py_ssize_t ldb, fm_apart apart,
                  Py_ssize_t k, Py_ssize_t width) noexcept nogil:
    """c (n, width) = start + rows [first, first + n) of k columns of x, from a panel on, times b (k, width).

    Of listed rows all columns. Panels of c, start and b are `apart`.
    """
    cdef Py_ssize_t i
    if x.masked and width == 2 * FM_PANEL:
        for i in range(panels_of(k)):
            kernels.masked_two(c, start, ld_start, rows_masked(x, first, panel + i), b + i * FM_PANEL * ldb, apart, n,
                               min(<Py_ssize_t>FM_PANEL, k - i * FM_PANEL))
            start, ld_start, apart.start = c, ldc, apart.c
        return
    while width > 0:
        panel_product(c, ldc, start, ld_start, x, first, n, panel, b, ldb, k, min(<Py_ssize_t>FM_PANEL, width))
        c, start, b, width = c + apart.c, start + apart.start, b + apart.b, width - FM_PANEL


cdef void panel_product(float *c, Py_ssize_t ldc, const float *start, Py_ssize_t ld_start, const Matrix *x,
                        Py_ssize_t first, Py_ssize_t n, Py_ssize_t panel, const float *b, Py_ssize_t ldb, Py_ssize_t k,
                        Py_ssize_t width) noexcept nogil:
    """The same for one panel."""
    cdef fm_dense dense
    cdef Py_ssize_t i, steps
    if x.listed:
        for i in range(x.blocks):
            kernels.sparse(c, ldc, start, ld_start, rows_of(x, first, i), b, ldb, n, width)
            start, ld_start = c, ldc
        return
    for i from 0 <= i < panels_of(k) by SPAN:
        steps = min(<Py_ssize_t>SPAN * FM_PANEL, k - i * FM_PANEL)
        if x.masked:
            kernels.masked(c, ldc, start, ld_start, rows_masked(x, first, panel + i), b + i * FM_PANEL * ldb, ldb, n,
                           steps, width)
        else:
            dense.data = x.data + (panel + i) * x.ld_panel + first * x.ld
            dense.ld, dense.column, dense.ld_panel = x.ld, 1, x.ld_panel
            kernels.dense(c, ldc, start, ld_start, dense, b + i * FM_PANEL * ldb, ldb, n, steps, width)
        start, ld_start = c, ldc
