# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: freethreading_compatible=True
"""The rows that training reads: dense as they are, or as lists of their values that are not zero."""

cimport cython
from cython.parallel cimport prange
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int32_t, int64_t

from fastmlp.sparse import SparseRows

from fastmlp._kernels cimport FM_PAD, FM_PANEL, fm_entry, kernels
from fastmlp._panels cimport (
    Buffers, Matrix, add_column_lists, add_lists, list_row, make_matrix, panels_of, set_blocks, sparse_enough,
    worth_listing,
)


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

    def __init__(self, X, Py_ssize_t m, int n_threads):
        self.n, self.k = X.shape
        self.block, self.blocks = FM_PANEL, panels_of(self.k)
        self.buffers = Buffers()
        if isinstance(X, SparseRows) and sparse_enough(len(X.values), self.n, self.k):
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
        if not sparse_enough(total - chunks * FM_PAD, self.n, self.k):
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
        if self.listed:
            x.entries = self.entries
            add_lists(&x, buffers)
            add_column_lists(&x, buffers)
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
