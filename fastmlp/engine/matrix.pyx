# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: freethreading_compatible=True
"""Batches of rows in panels of 64 columns: dense, with masks of what is not zero, or as lists of that."""

cimport cython
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int32_t, uint64_t
from libc.string cimport memcpy, memset

import numpy as np

from fastmlp.engine.table cimport FM_PAD, FM_PANEL, fm_entry, fm_masked, fm_sparse, kernels

cdef extern from *:
    int popcount "__builtin_popcountll"(uint64_t mask) noexcept nogil

# Rows of a batch that a list by column spans: 112 rows of dz, 28 KB, stay in a 32 KB L1 cache.
cdef Py_ssize_t CHUNK = 112
# Up to this share of non-zero values lists are faster than masks, whose runs are then short; and X takes less memory.
cdef double LISTED_DENSITY = 0.3


@cython.final
cdef class Buffers:
    """Memory that lives as long as this object, zeroed, each piece at the start of a cache line."""

    def __init__(self):
        self.held = []

    cdef void *allocate(self, Py_ssize_t n_bytes) except NULL:
        array = np.zeros(n_bytes + 64, np.uint8)
        self.held.append(array)
        cdef size_t address = array.__array_interface__["data"][0]
        return <void *>((address + 63) // 64 * 64)

    cdef float *floats(self, Py_ssize_t count) except NULL:
        return <float *>self.allocate(4 * count)


cdef Matrix make_panels(Py_ssize_t capacity, Py_ssize_t m, bint masks, Buffers buffers):
    """A batch (capacity, m) of activations, or of their gradients, in panels [panel][capacity][ld]."""
    cdef Matrix x = make_matrix(capacity, m, FM_PANEL, panels_of(m))
    x.data = buffers.floats(x.blocks * x.ld_panel)
    if masks:
        x.masks = <uint64_t *>buffers.allocate(sizeof(uint64_t) * x.blocks * capacity)
        x.masked = True
    return x


cdef Matrix make_rows(Py_ssize_t capacity, Py_ssize_t m, Buffers buffers):
    """The output layer (capacity, m): whole rows, `padded(m)` apart, for the loss to read."""
    cdef Matrix x = make_matrix(capacity, m, FM_PANEL, panels_of(m))
    x.ld, x.ld_panel = padded(m), FM_PANEL
    x.data = buffers.floats(capacity * x.ld)
    return x


cdef Matrix make_matrix(Py_ssize_t capacity, Py_ssize_t columns, Py_ssize_t block, Py_ssize_t blocks) noexcept:
    """A batch (capacity, columns), as yet without memory, neither masked nor listed."""
    cdef Matrix x
    memset(&x, 0, sizeof(Matrix))
    x.ld = width_of(columns, 0)
    x.ld_panel = capacity * x.ld
    x.block, x.blocks, x.capacity, x.group = block, blocks, capacity, 1
    return x


cdef void set_chunks(Matrix *x, Py_ssize_t rows) noexcept nogil:
    """Chunks of about equal length, of `rows` rows at most, but CHUNK where that is less."""
    rows = max(rows, CHUNK)
    x.chunks = max(<Py_ssize_t>1, (x.capacity + rows - 1) // rows)
    x.chunk = (x.capacity + x.chunks - 1) // x.chunks


cdef bint worth_listing(Py_ssize_t k, Py_ssize_t m) noexcept nogil:
    """To find X's zeros costs a pass over n * k values, and pays by the n * k * m multiplications that are left out."""
    return k >= FM_PANEL and m > FM_PAD


cdef bint worth_skipping(Py_ssize_t k, Py_ssize_t m) noexcept nogil:
    """As `worth_listing`, of a layer's values, which are new in each step."""
    return k >= FM_PANEL and m >= FM_PANEL


# ---- Masks -----------------------------------------------------------------------------------------------------------

cdef add_transpose(Matrix *x, Buffers buffers):
    """Room for the transpose of a masked batch, which a weight gradient reads."""
    cdef Py_ssize_t tiles = x.blocks * panels_of(x.capacity)
    x.transposed = buffers.floats(tiles * FM_PANEL * FM_PANEL)
    x.transposed_masks = <uint64_t *>buffers.allocate(sizeof(uint64_t) * tiles * FM_PANEL)


cdef void mask_panel(const Matrix *x, Py_ssize_t panel, Py_ssize_t first, Py_ssize_t n) noexcept nogil:
    """The masks of rows [first, first + n) of a panel."""
    kernels.mask(x.masks + panel * x.capacity + first, x.data + panel * x.ld_panel + first * FM_PANEL, n)


cdef void transpose_tile(const Matrix *x, Py_ssize_t panel, Py_ssize_t tile, Py_ssize_t n) noexcept nogil:
    """Transpose the rows [64 tile, 64 (tile + 1)) of n of a panel, and mask what came of them."""
    cdef Py_ssize_t first = tile * FM_PANEL, rows = min(<Py_ssize_t>FM_PANEL, n - first), j
    cdef Py_ssize_t place = (panel * panels_of(x.capacity) + tile) * FM_PANEL
    cdef float *transposed = x.transposed + place * FM_PANEL
    cdef uint64_t *masks = x.transposed_masks + place
    if rows <= 0:
        return
    kernels.transpose(transposed, FM_PANEL, x.data + panel * x.ld_panel + first * FM_PANEL, FM_PANEL, rows, FM_PANEL)
    kernels.mask(masks, transposed, FM_PANEL)
    if rows < FM_PANEL:  # the tile has other rows from a larger batch before
        for j in range(FM_PANEL):
            masks[j] &= (<uint64_t>1 << rows) - 1


cdef bint worth_masking(ptrdiff_t count, Py_ssize_t n, Py_ssize_t k, Py_ssize_t m) noexcept nogil:
    """Whether masks make the product (n, k) x (k, m) faster than a dense one, with `count` values that are not zero.

    To find a value and its row costs as much as to multiply it by a panel: measured with AVX-512, the two are equally
    fast at densities of 0.52, 0.44, 0.34 and 0.2 for 64, 48, 32 and 16 columns; with AVX2 at 0.58, 0.45, 0.6 and 0.4.
    The search for two whole panels at once counts as one and a half, which means a density of 0.57: training was as
    fast with one, 0.67. Whatever number of threads shares the product: the bits must not depend on that.
    """
    cdef Py_ssize_t pairs = padded(m) // (2 * FM_PANEL)
    return count * (padded(m) + FM_PANEL * panels_of(m) - FM_PANEL // 2 * pairs) <= padded(m) * n * k


cdef void choose_group(Matrix *x, const Matrix *c, int n_threads) noexcept nogil:
    """By masks, make two panels at once of c, a product of x, where it is in panels and no thread is left without one.

    The masks are gone through once for both, if they are whole. The bits are the same. Of three panels two would be
    one thread's, and one another's.
    """
    if x.masks != NULL and c.ld == FM_PANEL and c.blocks >= n_threads and c.blocks != 3:
        x.group = 2


cdef void choose_masks(Matrix *x, Py_ssize_t n, Py_ssize_t k, Py_ssize_t m) noexcept nogil:
    """Go by masks, where they are kept, if the last x (n, k) had zeros enough; else over to the dense product."""
    cdef Py_ssize_t panel, i, count = 0
    if x.masks != NULL:
        for panel in range(x.blocks):
            for i in range(panel * x.capacity, panel * x.capacity + n):
                count += popcount(x.masks[i])
        x.masked = worth_masking(count, n, k, m)


cdef fm_masked rows_masked(const Matrix *x, Py_ssize_t first, Py_ssize_t panel) noexcept nogil:
    """Rows from `first` on of a masked x, from a panel on: (capacity - first, 64 (blocks - panel))."""
    cdef fm_masked rows
    rows.data, rows.ld_panel = x.data + panel * x.ld_panel + first * FM_PANEL, x.ld_panel
    rows.masks, rows.ld_masks = x.masks + panel * x.capacity + first, x.capacity
    return rows


cdef fm_masked columns_masked(const Matrix *x, Py_ssize_t panel, Py_ssize_t tile, Py_ssize_t column) noexcept nogil:
    """The transpose of a panel of x, from `column` and row 64 tile on: (64 - column, capacity - 64 tile)."""
    cdef fm_masked columns
    cdef Py_ssize_t place = (panel * panels_of(x.capacity) + tile) * FM_PANEL + column
    columns.data, columns.ld_panel = x.transposed + place * FM_PANEL, FM_PANEL * FM_PANEL
    columns.masks, columns.ld_masks = x.transposed_masks + place, FM_PANEL
    return columns


# ---- Both, by column -------------------------------------------------------------------------------------------------

cdef Py_ssize_t column_tasks(const Matrix *x) noexcept nogil:
    """Tasks in which a batch is made ready for a weight gradient, by column."""
    if x.transposed != NULL:
        return x.blocks * panels_of(x.capacity)
    return x.blocks * x.chunks if x.column_entries != NULL else 0


cdef void turn(const Matrix *x, Py_ssize_t i, Py_ssize_t n) noexcept nogil:
    """The i-th of these tasks, for a batch of n rows."""
    if x.masked:
        transpose_tile(x, i // panels_of(x.capacity), i % panels_of(x.capacity), n)
    elif x.listed:
        list_columns(x, i // x.chunks, i % x.chunks, n)


# ---- Lists -----------------------------------------------------------------------------------------------------------

cpdef bint sparse_enough(ptrdiff_t count, Py_ssize_t n, Py_ssize_t k) noexcept nogil:
    """Whether lists make the product fastest for n rows of k values, `count` of them not zero."""
    return count <= LISTED_DENSITY * n * k


cdef void set_blocks(Py_ssize_t *block, Py_ssize_t *blocks, Py_ssize_t k, Py_ssize_t width) noexcept nogil:
    """Blocks of equal width, of about `width` columns each, but not less than BLOCK."""
    width = max(width, BLOCK)
    blocks[0] = (k + width - 1) // width
    block[0] = padded((k + blocks[0] - 1) // blocks[0])


cdef add_lists(Matrix *x, Buffers buffers):
    """Where rows begin and end, [blocks][capacity] each; the entries themselves are the caller's."""
    x.listed = True
    x.begin = <ptrdiff_t *>buffers.allocate(sizeof(ptrdiff_t) * x.capacity * x.blocks)
    x.end = <ptrdiff_t *>buffers.allocate(sizeof(ptrdiff_t) * x.capacity * x.blocks)


cdef Py_ssize_t column_lists_bytes(const Matrix *x) noexcept nogil:
    """Memory that `add_column_lists` takes for entries."""
    return x.blocks * x.chunks * x.block * x.chunk * <Py_ssize_t>sizeof(fm_entry)


cdef add_column_lists(Matrix *x, Buffers buffers):
    """Room [blocks][chunks][block][chunk] for the lists by column, which a weight gradient reads: for any values."""
    cdef Py_ssize_t i
    start_column_lists(x, x.blocks * x.chunks * x.block * x.chunk, buffers)
    for i in range(x.blocks * x.chunks * x.block):
        x.column_begin[i] = i * x.chunk


cdef add_counted_column_lists(Matrix *x, const int32_t *counts, Buffers buffers):
    """The same where, of all rows that may come, counts[j] have column j; counts (blocks * block)."""
    cdef Py_ssize_t b, c, j, total = 0
    for j in range(x.blocks * x.block):
        total += x.chunks * min(x.chunk, <Py_ssize_t>counts[j])
    start_column_lists(x, total, buffers)
    total = 0
    for b in range(x.blocks):
        for c in range(x.chunks):
            for j in range(x.block):
                x.column_begin[(b * x.chunks + c) * x.block + j] = total
                total += min(x.chunk, <Py_ssize_t>counts[b * x.block + j])


cdef start_column_lists(Matrix *x, Py_ssize_t total, Buffers buffers):
    """Room for `total` entries; where the columns' lists begin and end, [blocks][chunks][block] each."""
    cdef Py_ssize_t columns = x.blocks * x.chunks * x.block
    x.column_entries = <fm_entry *>buffers.allocate(sizeof(fm_entry) * total)
    x.column_begin = <ptrdiff_t *>buffers.allocate(sizeof(ptrdiff_t) * columns)
    x.column_end = <ptrdiff_t *>buffers.allocate(sizeof(ptrdiff_t) * columns)


cdef ptrdiff_t list_row(fm_entry *entries, ptrdiff_t *begin, ptrdiff_t *end, Py_ssize_t stride, ptrdiff_t place,
                        const float *x, Py_ssize_t k, Py_ssize_t block, Py_ssize_t blocks) noexcept nogil:
    """List x (k) from entries[place] on, block after block; begin, end [b * stride]; return where its entries end."""
    cdef Py_ssize_t b, column, whole, rest
    cdef ptrdiff_t count
    cdef float tail[16]
    for b in range(blocks):
        column = b * block
        rest = max(<Py_ssize_t>0, min(block, k - column))
        whole = rest // FM_PAD * FM_PAD
        rest = rest - whole
        begin[b * stride] = place
        kernels.list(entries + place, &count, x + column, whole, <int>column)
        place += count
        if rest > 0:
            memset(tail, 0, sizeof(tail))
            memcpy(tail, x + column + whole, 4 * rest)
            kernels.list(entries + place, &count, tail, FM_PAD, <int>(column + whole))
            place += count
        end[b * stride] = place
    return place


cdef void list_columns(const Matrix *x, Py_ssize_t block, Py_ssize_t chunk, Py_ssize_t n) noexcept nogil:
    """The lists by column of a block of columns, for rows [chunk * x.chunk, (chunk + 1) * x.chunk) of n."""
    cdef Py_ssize_t first = chunk * x.chunk, place = (block * x.chunks + chunk) * x.block
    kernels.list_columns(x.column_entries, x.column_end + place, x.column_begin + place, rows_of(x, first, block),
                         max(<Py_ssize_t>0, min(x.chunk, n - first)), x.block, <int>(block * x.block))


cdef fm_sparse rows_of(const Matrix *x, Py_ssize_t first, Py_ssize_t block) noexcept nogil:
    """Rows from `first` on of a block of x, as lists by row: (capacity - first, block)."""
    cdef fm_sparse lists
    lists.entries = x.entries
    lists.begin = x.begin + block * x.capacity + first
    lists.end = x.end + block * x.capacity + first
    return lists


cdef fm_sparse columns_of(const Matrix *x, Py_ssize_t block, Py_ssize_t chunk, Py_ssize_t column) noexcept nogil:
    """Columns from `column` on of a block of x, for a chunk of rows, as lists by column: (block - column, chunk)."""
    cdef fm_sparse lists
    cdef Py_ssize_t place = (block * x.chunks + chunk) * x.block + column
    lists.entries = x.column_entries
    lists.begin = x.column_begin + place
    lists.end = x.column_end + place
    return lists
