# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: freethreading_compatible=True
"""The rows that a network reads, and what they are to become: dense, lists of what is not zero, or made on the way."""

cimport cython
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

import numpy as np

from fastmlp.engine.distortion cimport Distortion
from fastmlp.engine.lists cimport Lists, list_dense, list_sparse
from fastmlp.engine.matrix cimport (
    Buffers, Matrix, add_column_lists, add_counted_column_lists, add_lists, add_transpose, column_lists_bytes,
    make_matrix, make_panels, mask_panel, padded, panels_of, set_chunks, sparse_enough, worth_listing,
    worth_masking, worth_skipping,
)
from fastmlp.engine.noise cimport make_noise, set_key
from fastmlp.engine.table cimport FM_PANEL, fm_entry, fm_noise, kernels

# Bytes that the lists by column of a batch take at most without a look at how many values each column has.
cdef Py_ssize_t COLUMN_LISTS = 32 << 20


@cython.final
cdef class Rows:
    """Rows of X: dense as they are or, where most values are zero, as lists of the others, made once.

    Rows that are distorted or noisy are made anew each time that a batch is gathered, of X as it is; lists remain lists
    where their entries may be dropped.

    Any number of trainers may read them at once: which rows, and in which order, each says when its epoch starts.

    Parameters
    ----------
    X : array (n, k), fastmlp.sparse.SparseRows, Lists or Rows
        Of an array's real numbers, read as float32. Of other rows that it `suits`, what they have made of theirs.
    units : int
        Of the layer that reads them.
    n_threads : int
    labels : int64 array (n,) or None
    targets : float32 array (n, m) or None
    weights : float32 array (n,) or None
    distortion : Distortion or None
        Of rows that are images.
    dropout, noise : float
        Of the values, in training: the share that is dropped, and the standard deviation of what is added before.
    first : int
        Number of the first row, where X is some rows of more: what is drawn for a row is drawn by its number.

    Raises
    ------
    ValueError
        Another thread writes into X meanwhile, or the arrays of sparse rows contradict each other.
    """

    def __init__(self, X, Py_ssize_t units, int n_threads, labels=None, targets=None, weights=None,
                 Distortion distortion=None, double dropout=0, double noise=0, uint64_t first=0):
        cdef Lists lists = None
        cdef Py_ssize_t i
        self.n, self.k = (X.n, X.k) if isinstance(X, (Rows, Lists)) else X.shape
        self.block, self.blocks = FM_PANEL, panels_of(self.k)
        self.sparse = hasattr(X, "begin")
        self.searched = not self.sparse and worth_listing(self.k, units) and distortion is None and noise == 0
        self.labels, self.targets, self.weights = labels, targets, weights
        for array in (labels, targets, weights):
            if array is not None and len(array) != self.n:
                raise ValueError(f"labels, targets and weights must have {self.n} rows, not {len(array)}")
        if isinstance(X, Rows):
            self.share(X)
        elif isinstance(X, Lists):
            self.n_entries = X.n_entries
            if sparse_enough(self.n_entries, self.n, self.k):
                lists = X
            else:
                X = X.dense()
        elif self.sparse:
            if sparse_enough(len(X.values), self.n, self.k):
                lists = list_sparse(X.begin, X.columns, X.values, self.n, self.k)
            else:
                X = X.dense(0, self.n)
        elif self.searched:
            lists = list_dense(X, &self.n_entries, n_threads)
        if lists is not None:
            self.point_to(lists)
        elif not isinstance(X, Rows):
            self.X = np.require(X, np.float32, "CA")
        self.masked = (self.searched and not self.listed and worth_skipping(self.k, units)
                       and worth_masking(self.n_entries, self.n, self.k, units))
        self.distortion, self.noise, self.noise.first = distortion, make_noise(dropout, noise), <uint32_t>first
        self.made = distortion is not None or noise > 0 or (dropout > 0 and not self.listed)
        if self.made:
            self.scratch = 2 * padded(self.k) + (distortion.scratch if distortion is not None else 0)
            self.listed, self.masked = False, worth_skipping(self.k, units)
        elif dropout > 0:
            for i in range(self.n):
                self.longest = max(self.longest, self.begin[(i + 1) * (self.blocks + 1) - 1]
                                   - self.begin[i * (self.blocks + 1)])

    def suits(self, Py_ssize_t units, distortion, double noise):
        """Whether rows that are to be so would make of X what these have made of it."""
        return self.sparse or self.searched == (worth_listing(self.k, units) and distortion is None and noise == 0)

    cdef share(self, Rows other):
        """Read X as another one has it."""
        self.X, self.sparse, self.searched, self.n_entries = other.X, other.sparse, other.searched, other.n_entries
        if other.lists is not None:
            self.point_to(other.lists)

    cdef point_to(self, Lists lists):
        """Read these."""
        self.lists, self.listed, self.n_entries = lists, True, lists.n_entries
        self.block, self.blocks, self.entries, self.begin = lists.block, lists.blocks, lists.entries, lists.begin

    cdef check(self, Py_ssize_t k, Py_ssize_t m, Py_ssize_t outputs_a_target, bint labelled):
        """Refuse rows that a network of k inputs and m outputs, so many a target, cannot learn from."""
        cdef Py_ssize_t width = m // outputs_a_target, i
        if self.k != k:
            raise ValueError(f"rows must have {k} columns, not {self.k}")
        if self.targets is not None and (self.targets.shape[1] != width or width * outputs_a_target != m):
            raise ValueError(f"targets must have {width} columns, not {self.targets.shape[1]}")
        if self.labels is not None:
            for i in range(self.n):
                if not 0 <= self.labels[i] < m:
                    raise ValueError(f"labels must be from 0 to {m - 1}, not {self.labels[i]}")
        elif self.targets is None and labelled:
            raise ValueError("rows must have labels or targets")

    cdef Matrix matrix(self, Py_ssize_t capacity, bint by_column, Buffers buffers):
        """Room for a batch (capacity, k), with what a gradient reads by column where there is one."""
        cdef Matrix x
        if self.listed:
            x = make_matrix(capacity, self.k, self.block, self.blocks)
            x.entries = self.entries
            if self.noise.dropped > 0:
                x.entries = <fm_entry *>buffers.allocate(sizeof(fm_entry) * capacity * self.longest)
            add_lists(&x, buffers)
            if by_column:
                # Longer chunks where columns have few values: some 16 in a chunk pay for beginning with it.
                set_chunks(&x, 16 * self.n * self.k // (self.n_entries + 1))
                if column_lists_bytes(&x) <= COLUMN_LISTS:
                    add_column_lists(&x, buffers)
                else:
                    add_counted_column_lists(&x, self.count_columns(), buffers)
        else:
            x = make_panels(capacity, self.k, self.masked, buffers)
            if x.masked and by_column:
                add_transpose(&x, buffers)
        return x

    cdef int32_t *count_columns(self) except NULL:
        """How many entries each column has, (blocks * block)."""
        cdef Py_ssize_t _
        cdef ptrdiff_t place
        cdef const ptrdiff_t *begin = self.begin
        if self.counts == NULL:
            self.held_counts = Buffers()
            self.counts = <int32_t *>self.held_counts.allocate(sizeof(int32_t) * self.blocks * self.block)
            for _ in range(self.n):
                for place in range(begin[0], begin[self.blocks]):
                    self.counts[self.entries[place].index] += 1
                begin += self.blocks + 1
        return self.counts

    cdef void gather(self, Matrix *x, Py_ssize_t place, const int64_t *rows, Py_ssize_t n, uint64_t key,
                     float *scratch) noexcept nogil:
        """Row rows[i] of X (self.n, k) becomes row place + i of x, for rows (n); what is drawn has the epoch's key."""
        cdef fm_noise noise = self.noise
        cdef int64_t first = 0
        cdef Py_ssize_t i
        set_key(&noise, key, 0)
        if self.listed:
            for i in range(n):
                if noise.dropped > 0:
                    self.thin(x, place + i, rows[i], &noise)
                else:
                    point(x, place + i, self.begin + rows[i] * (self.blocks + 1))
            return
        if self.distortion is not None or self.entries != NULL:
            for i in range(n):
                self.make(scratch, rows[i], key, scratch + padded(self.k))
                kernels.gather(x.data + (place + i) * x.ld, x.ld, x.ld_panel, scratch, &first, 1, self.k)
        else:
            kernels.gather(x.data + place * x.ld, x.ld, x.ld_panel, &self.X[0, 0], rows, n, self.k)
        for i in range(x.blocks):
            disturb(x, i, place, rows, n, self.k, &noise)
            if x.masks != NULL:
                mask_panel(x, i, place, n)

    cdef void thin(self, Matrix *x, Py_ssize_t i, Py_ssize_t row, const fm_noise *noise) noexcept nogil:
        """The lists of a row, less what is dropped, become row i of x."""
        cdef const ptrdiff_t *begin = self.begin + row * (self.blocks + 1)
        cdef ptrdiff_t place = i * self.longest, count
        cdef Py_ssize_t b
        for b in range(x.blocks):
            kernels.drop_entries(x.entries + place, &count, self.entries + begin[b], begin[b + 1] - begin[b], row,
                                 noise)
            x.begin[b * x.capacity + i], x.end[b * x.capacity + i] = place, place + count
            place += count

    cdef void make(self, float *out, Py_ssize_t row, uint64_t key, float *scratch) noexcept nogil:
        """Write what becomes of a row (k) in the epoch that has this key."""
        cdef const float *x = scratch
        cdef const ptrdiff_t *begin = self.begin + row * (self.blocks + 1)
        cdef ptrdiff_t place
        if self.entries == NULL:
            x = &self.X[0, 0] + row * self.k
        else:
            memset(scratch, 0, 4 * self.k)
            for place in range(begin[0], begin[self.blocks]):
                scratch[self.entries[place].index] = self.entries[place].value
        if self.distortion is None:
            memcpy(out, x, 4 * self.k)
        else:
            self.distortion.distort(out, scratch + padded(self.k), x, key, row + self.noise.first)

    cdef void take(self, Matrix *x, Py_ssize_t first, Py_ssize_t n) noexcept nogil:
        """Listed rows [first, first + n) of X (self.n, k) become those of x from 0 on."""
        cdef Py_ssize_t i
        for i in range(n):
            point(x, i, self.begin + (first + i) * (self.blocks + 1))


cdef inline void disturb(const Matrix *x, Py_ssize_t panel, Py_ssize_t place, const int64_t *rows, Py_ssize_t n,
                         Py_ssize_t k, const fm_noise *noise) noexcept nogil:
    """Noise and dropout of a panel of n rows of x (., k), from `place` on, which are these of X."""
    cdef float *values = x.data + panel * x.ld_panel + place * x.ld
    cdef Py_ssize_t columns = min(<Py_ssize_t>FM_PANEL, k - panel * FM_PANEL)
    if noise.deviation > 0:
        kernels.add_noise(values, x.ld, rows, noise, panel, n, columns)
    if noise.dropped > 0:
        kernels.drop(values, x.ld, rows, noise, panel, n, columns)


cdef inline void point(Matrix *x, Py_ssize_t i, const ptrdiff_t *begin) noexcept nogil:
    """The lists between these places, begin (blocks + 1), become row i of x."""
    cdef Py_ssize_t b
    for b in range(x.blocks):
        x.begin[b * x.capacity + i], x.end[b * x.capacity + i] = begin[b], begin[b + 1]
