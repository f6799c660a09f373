"""Threads that take the tasks of a program, phase after phase."""

from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int64_t

from fastmlp.engine.matrix cimport Buffers

cdef extern from "rendezvous.h" nogil:
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
    int64_t nanoseconds()


# What a thread spent in a phase, in nanoseconds: a cache line, so that noting it disturbs no other thread.
cdef struct Times:
    int64_t busy, waiting
    int64_t apart[6]


cdef class Team:
    # Numbers of threads to choose from, and the seconds that a step takes with each
    cdef int counts[32]
    cdef double seconds[32]
    cdef Py_ssize_t n_counts, slices
    cdef Py_ssize_t steps           # left of the slice
    cdef bint going                 # the slice
    cdef bint timed
    cdef public bint crowded
    cdef Times *times               # of the phase at hand, one a thread; NULL where nobody asked
    cdef Rendezvous rendezvous
    cdef Buffers runs
    cdef start_team(self, int n_threads)
    cdef run_slice(self, Py_ssize_t most)
    cdef int timed_threads(self)
    cdef Py_ssize_t fastest(self) noexcept
    cdef Py_ssize_t choose_count(self, Py_ssize_t best) noexcept
    cdef void work(self, int thread, int n_threads) noexcept nogil
    # What a subclass has: the tasks of the phase at hand, and the way to the next one
    cdef Py_ssize_t count_tasks(self) noexcept nogil
    cdef void run_task(self, Py_ssize_t task, int thread) noexcept nogil
    cdef bint advance(self) noexcept nogil
