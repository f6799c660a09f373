# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: freethreading_compatible=True
"""Rows as lists of their values that are not zero: of an array, of a sparse matrix, or of arrays that come in turn."""

cimport cython
from cython.parallel cimport prange
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memcpy

import numpy as np

from fastmlp.engine.matrix cimport Buffers, list_row, padded, set_blocks, sparse_enough, worth_listing
from fastmlp.engine.table cimport fm_entry, kernels

cdef Py_ssize_t LISTED_ROWS = 512   # of a task
cdef Py_ssize_t ADDED_ROWS = 64     # that are counted and then listed, still in the cache
cdef Py_ssize_t READ_ROWS = 1024    # that are brought to float32 at a time: a multiple of those


@cython.final
cdef class Lists:
    """Rows (n, k) as lists, a block of columns after the other; none at first.

    Parameters
    ----------
    most, k : int
        Rows that there may be, and their values.
    count : int
        How many values of so many rows are not zero: at a guess, where `add` makes the lists. It sets the blocks, which
        the speed depends on, but no result.
    """

    def __init__(self, Py_ssize_t most, Py_ssize_t k, ptrdiff_t count):
        self.most, self.k, self.held = most, k, Buffers()
        # Where rows have few values, wider blocks: some 16 values a row and block pay for beginning with it.
        set_blocks(&self.block, &self.blocks, k, 16 * most * k // (count + 1))
        self.begin = <ptrdiff_t *>self.held.allocate(sizeof(ptrdiff_t) * most * (self.blocks + 1))

    cdef make_room(self, ptrdiff_t room):
        """Memory for so many entries, of which there are some."""
        cdef Buffers held = Buffers()
        cdef fm_entry *entries = <fm_entry *>held.allocate(sizeof(fm_entry) * room)
        if self.n_entries > 0:
            memcpy(entries, self.entries, sizeof(fm_entry) * self.n_entries)
        self.entries, self.room, self.held_entries = entries, room, held

    def add(self, const float[:, ::1] X):
        """List the rows of X (n, k), after those that are there.

        Raises
        ------
        ValueError
            They are too many, or of another width; or another thread writes into X meanwhile.
        """
        cdef Py_ssize_t first, n
        cdef ptrdiff_t count = 0, room
        cdef bint fits = True
        if X.shape[1] != self.k or self.n + X.shape[0] > self.most:
            raise ValueError(f"X must have at most {self.most - self.n} rows of {self.k} values")
        for first in range(0, X.shape[0], ADDED_ROWS):
            n = min(ADDED_ROWS, X.shape[0] - first)
            with nogil:
                kernels.count_nonzero(&count, &X[first, 0], n * self.k)
            room = self.n_entries + count + padded(self.k)
            if room > self.room:
                # A tenth more than all rows need that are as those so far.
                self.make_room(room + <ptrdiff_t>(1.1 * room * (self.most - self.n - n) / (self.n + n)))
            with nogil:
                fits = list_task(self.entries, self.begin + self.n * (self.blocks + 1), self.n_entries, self.room,
                                 &X[first, 0], n, self.k, self.block, self.blocks)
            if not fits:
                raise_written()
            self.n += n
            self.n_entries = self.begin[self.n * (self.blocks + 1) - 1]

    cdef void part(self, Py_ssize_t i, ptrdiff_t place, ptrdiff_t end) noexcept nogil:
        """Note where the blocks begin of row i, whose entries are [place, end)."""
        cdef ptrdiff_t *parts = self.begin + i * (self.blocks + 1)
        cdef Py_ssize_t b = 0
        while place < end:
            while b * self.block <= self.entries[place].index:
                parts[b] = place
                b += 1
            place += 1
        for b in range(b, self.blocks + 1):
            parts[b] = end

    def dense(self):
        """Return the rows as an array, float32 (n, k)."""
        cdef Py_ssize_t i
        cdef ptrdiff_t place
        cdef float[:, ::1] out = np.zeros((self.n, self.k), np.float32)
        for i in range(self.n):
            for place in range(self.begin[i * (self.blocks + 1)], self.begin[(i + 1) * (self.blocks + 1) - 1]):
                out[i, self.entries[place].index] = self.entries[place].value
        return np.asarray(out)


def lists_like(X, Py_ssize_t most, Py_ssize_t units):
    """Return lists that may come to `most` rows, for a layer of so many units; None if for rows like X they don't pay.

    X is float32 (n, k).
    """
    cdef const float[:, ::1] rows = X
    cdef Py_ssize_t n = rows.shape[0], k = rows.shape[1]
    cdef ptrdiff_t count = 0
    if not worth_listing(k, units) or n == 0:
        return None
    with nogil:
        kernels.count_nonzero(&count, &rows[0, 0], n * k)
    return Lists(most, k, count * most // n) if sparse_enough(count, n, k) else None


cdef Lists list_dense(X, ptrdiff_t *n_entries, int n_threads):
    """Lists of the rows of an array, or None where they have not enough zeros for it; and how many values are not zero.

    The array is read twice, so room is made for what was counted, and each row is asked whether it still fits: another
    thread may write into it.
    """
    cdef Py_ssize_t n = X.shape[0], k = X.shape[1], chunks = (n + LISTED_ROWS - 1) // LISTED_ROWS, c, first
    cdef const float[:, ::1] piece
    cdef Buffers scratch = Buffers()
    cdef ptrdiff_t *place = <ptrdiff_t *>scratch.allocate(8 * (chunks + 1))
    cdef ptrdiff_t count, room = 0
    cdef Lists lists
    for first, piece in pieces(X):
        c = first // LISTED_ROWS
        count_nonzero(place + c, piece, n_threads)
    for c in range(chunks):
        n_entries[0] += place[c]
    if not sparse_enough(n_entries[0], n, k):
        return None
    for c in range(chunks):
        # A vector writes all of its entries and keeps some: room for one row more between two threads' entries.
        count, place[c] = place[c], room
        room += count + padded(k)
    place[chunks] = room
    lists = Lists(n, k, n_entries[0])
    lists.make_room(room)
    lists.n, lists.n_entries = n, n_entries[0]
    for first, piece in pieces(X):
        if not list_rows(lists.entries, lists.begin + first * (lists.blocks + 1), place + first // LISTED_ROWS, piece,
                         lists.block, lists.blocks, n_threads):
            raise_written()
    return lists


cdef raise_written():
    raise ValueError("another thread has written into X while it was read")


cdef Lists list_sparse(const int64_t[::1] begin, const int32_t[::1] columns, const float[::1] values, Py_ssize_t n,
                       Py_ssize_t k):
    """The lists of sparse rows, begin (n + 1) of columns and values (count).

    Raises
    ------
    ValueError
        The arrays contradict each other.
    """
    cdef Py_ssize_t i
    cdef ptrdiff_t place = 0, total = columns.shape[0]
    cdef Lists lists = None
    cdef bint sound = begin.shape[0] == n + 1 and values.shape[0] == total and begin[n] == total
    if sound:
        lists = Lists(n, k, total)
        lists.make_room(total)
        lists.n, lists.n_entries = n, total
    for i in range(n if sound else 0):
        sound = begin[i] == place and place <= begin[i + 1] <= total
        while sound and place < begin[i + 1]:
            sound = 0 <= columns[place] < k and (place == begin[i] or columns[place] > columns[place - 1])
            lists.entries[place].index, lists.entries[place].value = columns[place], values[place]
            place += 1
        if not sound:
            break
        lists.part(i, begin[i], place)
    if not sound:
        raise ValueError("sparse rows must have columns within the matrix, which increase within a row")
    return lists


def pieces(X):
    """Yield (first row, rows) of an array as float32 in C order: all at once where they are so, else some at a time."""
    if X.dtype == np.float32 and X.flags.c_contiguous and X.flags.aligned:
        yield 0, X
        return
    for first in range(0, len(X), READ_ROWS):
        yield first, np.require(X[first : first + READ_ROWS], np.float32, "CA")


cdef void count_nonzero(ptrdiff_t *counts, const float[:, ::1] X, int n_threads) noexcept:
    """How many values are not zero in each task's rows of X (n, k): counts (tasks)."""
    cdef Py_ssize_t n = X.shape[0], k = X.shape[1], c
    for c in prange((n + LISTED_ROWS - 1) // LISTED_ROWS, nogil=True, num_threads=n_threads, schedule="static"):
        kernels.count_nonzero(&counts[c], &X[c * LISTED_ROWS, 0], min(LISTED_ROWS, n - c * LISTED_ROWS) * k)


cdef bint list_rows(fm_entry *entries, ptrdiff_t *begin, const ptrdiff_t *place, const float[:, ::1] X,
                    Py_ssize_t block, Py_ssize_t blocks, int n_threads) noexcept:
    """List the rows of X (n, k), of task c in [place[c], place[c + 1]), begin [n][blocks + 1]; whether they fit."""
    cdef Py_ssize_t n = X.shape[0], k = X.shape[1], c, fits = 0, tasks = (n + LISTED_ROWS - 1) // LISTED_ROWS
    for c in prange(tasks, nogil=True, num_threads=n_threads, schedule="static"):
        fits += list_task(entries, begin + c * LISTED_ROWS * (blocks + 1), place[c], place[c + 1],
                          &X[c * LISTED_ROWS, 0], min(LISTED_ROWS, n - c * LISTED_ROWS), k, block, blocks)
    return fits == tasks


cdef bint list_task(fm_entry *entries, ptrdiff_t *begin, ptrdiff_t place, ptrdiff_t end, const float *x, Py_ssize_t n,
                    Py_ssize_t k, Py_ssize_t block, Py_ssize_t blocks) noexcept nogil:
    """List the rows of x (n, k) in [place, end); whether they fit there; begin [n][blocks + 1]."""
    cdef Py_ssize_t i
    for i in range(n):
        if place + padded(k) > end:
            return False
        place = list_row(entries, begin, begin + 1, 1, place, x + i * k, k, block, blocks)
        begin += blocks + 1
    return True
