"""Batches of rows in panels of 64 columns, dense or as lists of their values that are not zero."""

cimport cython
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int32_t, uint64_t

from fastmlp.engine.table cimport FM_PAD, FM_PANEL, fm_entry, fm_masked, fm_sparse

cdef enum:
    # Rows of weights that the sparse product reads at a time, about: 160 rows of 256 bytes. Blocks of 112, which fit
    # the L1 cache whole, took 8 % longer (more rows to begin), blocks of 264 as long.
    BLOCK = 160

cdef struct Matrix:
    # n rows of activations or of their gradients; element (i, j) is data[(j / 64) * ld_panel + i * ld + j % 64]
    float *data
    Py_ssize_t ld, ld_panel, capacity
    # What a hidden layer was made of, in the same places, where the derivative of its activation reads that
    float *sums
    # Of a layer that is normalised: its sums, normalised, in the same places
    float *normalised
    # Columns go in blocks of `block`: a panel, or as many as lists are parted by
    Py_ssize_t block, blocks
    # Panels of what it is multiplied by that a task takes at once
    Py_ssize_t group

    # Hidden layers, and X with fewer zeros than pay for lists: which values of a row's panel are not zero,
    # masks[panel * capacity + i], where they are kept, and
    # whether products go by them; and the same for the transpose, which a weight gradient reads, in tiles of 64 by 64
    # [panel][tile][j][i]
    bint masked
    uint64_t *masks
    float *transposed
    uint64_t *transposed_masks

    # Inputs: lists of what is not zero in row i, columns [b * block, (b + 1) * block): begin and end [b * capacity + i]
    bint listed
    fm_entry *entries
    ptrdiff_t *begin
    ptrdiff_t *end
    # The same by column, `chunk` rows at a time: for chunk c of block b, column_begin and column_end
    # [(b * chunks + c) * block + j]
    Py_ssize_t chunk, chunks
    fm_entry *column_entries
    ptrdiff_t *column_begin
    ptrdiff_t *column_end


cdef inline Py_ssize_t padded(Py_ssize_t m) noexcept nogil:
    return (m + FM_PAD - 1) // FM_PAD * FM_PAD


cdef inline Py_ssize_t panels_of(Py_ssize_t m) noexcept nogil:
    return (m + FM_PANEL - 1) // FM_PANEL


cdef inline Py_ssize_t width_of(Py_ssize_t m, Py_ssize_t panel) noexcept nogil:
    return min(<Py_ssize_t>FM_PANEL, padded(m) - panel * FM_PANEL)


cdef inline Py_ssize_t groups_of(Py_ssize_t panels, const Matrix *x) noexcept nogil:
    """Tasks that so many panels make, which x is multiplied by."""
    return (panels + x.group - 1) // x.group


@cython.final
cdef class Buffers:
    cdef list held
    cdef void *allocate(self, Py_ssize_t n_bytes) except NULL
    cdef float *floats(self, Py_ssize_t count) except NULL


cdef Matrix make_matrix(Py_ssize_t capacity, Py_ssize_t columns, Py_ssize_t block, Py_ssize_t blocks) noexcept
cdef void set_chunks(Matrix *x, Py_ssize_t rows) noexcept nogil
cdef Matrix make_panels(Py_ssize_t capacity, Py_ssize_t m, bint masks, Buffers buffers)
cdef Matrix make_rows(Py_ssize_t capacity, Py_ssize_t m, Buffers buffers)

cdef add_transpose(Matrix *x, Buffers buffers)
cdef void choose_group(Matrix *x, const Matrix *c, int n_threads) noexcept nogil
cdef void mask_panel(const Matrix *x, Py_ssize_t panel, Py_ssize_t first, Py_ssize_t n) noexcept nogil
cdef bint worth_masking(ptrdiff_t count, Py_ssize_t n, Py_ssize_t k, Py_ssize_t m) noexcept nogil
cdef void choose_masks(Matrix *x, Py_ssize_t n, Py_ssize_t k, Py_ssize_t m) noexcept nogil
cdef fm_masked rows_masked(const Matrix *x, Py_ssize_t first, Py_ssize_t panel) noexcept nogil
cdef fm_masked columns_masked(const Matrix *x, Py_ssize_t panel, Py_ssize_t tile, Py_ssize_t column) noexcept nogil

cdef Py_ssize_t column_tasks(const Matrix *x) noexcept nogil
cdef void turn(const Matrix *x, Py_ssize_t i, Py_ssize_t n) noexcept nogil

cdef bint worth_listing(Py_ssize_t k, Py_ssize_t m) noexcept nogil
cdef bint worth_skipping(Py_ssize_t k, Py_ssize_t m) noexcept nogil
cpdef bint sparse_enough(ptrdiff_t count, Py_ssize_t n, Py_ssize_t k) noexcept nogil

cdef void set_blocks(Py_ssize_t *block, Py_ssize_t *blocks, Py_ssize_t k, Py_ssize_t width) noexcept nogil
cdef add_lists(Matrix *x, Buffers buffers)
cdef add_column_lists(Matrix *x, Buffers buffers)
cdef add_counted_column_lists(Matrix *x, const int32_t *counts, Buffers buffers)
cdef Py_ssize_t column_lists_bytes(const Matrix *x) noexcept nogil
cdef ptrdiff_t list_row(fm_entry *entries, ptrdiff_t *begin, ptrdiff_t *end, Py_ssize_t stride, ptrdiff_t place,
                        const float *x, Py_ssize_t k, Py_ssize_t block, Py_ssize_t blocks) noexcept nogil
cdef fm_sparse rows_of(const Matrix *x, Py_ssize_t first, Py_ssize_t block) noexcept nogil
cdef fm_sparse columns_of(const Matrix *x, Py_ssize_t block, Py_ssize_t chunk, Py_ssize_t column) noexcept nogil
