# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: freethreading_compatible=True
"""Threads that take the tasks of a program, phase after phase, a slice of steps at a time."""

from cython.parallel cimport parallel, threadid
from libc.stdint cimport int64_t, uint64_t

import os
import time

from fastmlp.engine.table cimport fm_flush_denormals, fm_restore_denormals

cdef extern from *:
    """
    #ifdef _OPENMP
    #include <omp.h>
    #else
    #define omp_get_num_threads() 1
    #endif
    """
    int omp_get_num_threads() noexcept nogil

# Seconds of steps between two looks at signals and the clock.
cdef double SLICE = 0.01
# One slice in so many, and a short one, tries another number of threads: more of them often, so that a fit is back at
# full speed some 40 ms after another process has left. Fewer than all are tried seldom: where they would be faster,
# because other processes are at work, the slices with all threads show it by themselves.
cdef Py_ssize_t EXPLORE = 5
cdef Py_ssize_t EXPLORE_FEWER = 100
cdef double EXPLORING = 0.1  # of a slice

# OpenMP's threads do not survive a fork, and waiting for them would hang, whoever started them: another library may
# have used the same OpenMP. So a child that was forked has one thread.
cdef bint after_fork = False


def _note_fork():
    global after_fork
    after_fork = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


def forked():
    """Whether this process was forked from one that had loaded fastmlp."""
    return after_fork


cdef inline int64_t lap(int64_t *total, int64_t since) noexcept nogil:
    """Add what has passed since then; return the time now."""
    cdef int64_t now = nanoseconds()
    total[0] += now - since
    return now


cdef class Team:
    """Threads at work on the program of a subclass, of which they measure how many are the fastest.

    A step is a list of phases, a phase a number of independent tasks. A subclass says how many tasks the phase at hand
    has (`count_tasks`), does one (`run_task`), and goes on to the next phase while no thread is at work (`advance`,
    which returns whether the slice goes on, and counts the steps that are left of it). Where the team is `timed`, it
    also has `times` be those of the phase at hand. While it is `crowded`, as another thread of the process has work
    that it waits for, it leaves a processor to that, and learns nothing of its own speed.
    """

    def __cinit__(self, *_, **__):
        open_rendezvous(&self.rendezvous)

    def __dealloc__(self):
        close_rendezvous(&self.rendezvous)

    cdef start_team(self, int n_threads):
        """Have up to so many threads, of whose speed nothing is known; where they are as many as before, what was."""
        if self.runs is not None and self.counts[0] == n_threads:
            return
        self.runs = Buffers()
        self.rendezvous.runs = <Run *>self.runs.allocate(sizeof(Run) * n_threads)
        self.n_counts, self.slices = 0, 0
        while n_threads > 0:
            self.counts[self.n_counts], self.seconds[self.n_counts] = n_threads, 0
            self.n_counts += 1
            n_threads = 0 if self.timed else n_threads // 2

    def time_phases(self):
        """Note where the time goes, and let all threads take all steps; to be called before the first epoch."""
        self.timed = True

    cdef int timed_threads(self):
        """How many threads need a place for their times."""
        return self.counts[0] if self.timed else 0

    cdef run_slice(self, Py_ssize_t most):
        """Take some steps, about 10 ms of work but at most so many, without the GIL; less where the program is cut."""
        cdef bint first_look = self.slices < 2 * self.n_counts and not self.crowded
        cdef Py_ssize_t best = self.fastest(), i = best, steps
        if not self.crowded:
            i = self.slices // 2 if first_look else self.choose_count(best)
        cdef int n_threads = 1 if after_fork else max(1, self.counts[i] - self.crowded)
        cdef double seconds = self.seconds[i] if self.seconds[i] > 0 else SLICE
        cdef double slice = SLICE if i == best or first_look else EXPLORING * SLICE
        steps = max(<Py_ssize_t>1, min(most, <Py_ssize_t>(slice / seconds)))
        self.steps, self.going = steps, True
        deal(&self.rendezvous, n_threads, self.count_tasks())
        started = time.perf_counter()
        if n_threads == 1:  # and no parallel region, which a forked child could not enter
            with nogil:
                self.work(0, 1)
        else:
            with nogil, parallel(num_threads=n_threads):
                self.work(threadid(), omp_get_num_threads())
        if self.crowded:
            return
        seconds = (time.perf_counter() - started) / max(<Py_ssize_t>1, steps - self.steps)
        # Down at once and up slowly: one slice that was interrupted is no reason to change.
        self.seconds[i] = min(seconds, 1.25 * self.seconds[i]) if self.seconds[i] > 0 else seconds
        self.slices += 1
        if self.slices == 2 and seconds > SLICE:  # a large step is not for fewer threads; time will show
            for i in range(1, self.n_counts):
                self.seconds[i] = 2 * seconds
            self.slices = 2 * self.n_counts

    cdef Py_ssize_t fastest(self) noexcept:
        """Which number of threads was the fastest so far."""
        cdef Py_ssize_t i, best = 0
        for i in range(1, self.n_counts):
            if self.seconds[i] < self.seconds[best]:
                best = i
        return best

    cdef Py_ssize_t choose_count(self, Py_ssize_t best) noexcept:
        """Which number of threads takes the next slice: mostly the fastest so far, now and then another one.

        The bits do not depend on it, so it can follow what is measured: a small network is faster on one thread, and
        so is a large one while another process has the other processors.
        """
        cdef Py_ssize_t every = EXPLORE if best > 0 else EXPLORE_FEWER
        if self.n_counts == 1 or self.slices % every > 0:
            return best
        if best == 0 or (best < self.n_counts - 1 and self.slices // every % 2):
            return best + 1
        return best - 1

    cdef void work(self, int thread, int n_threads) noexcept nogil:
        """One thread's part of a slice. The last thread to arrive at the end of a phase begins the next one."""
        cdef Py_ssize_t task
        cdef uint64_t denormals
        cdef Times *times
        cdef int64_t mark = nanoseconds()
        fm_flush_denormals(&denormals)
        while self.going:
            times = self.times  # the last thread to arrive goes on to those of the next phase
            task = claim(&self.rendezvous, thread)
            while task >= 0:
                self.run_task(task, thread)
                task = claim(&self.rendezvous, thread)
            if times != NULL:
                mark = lap(&times[thread].busy, mark)
            if arrive(&self.rendezvous, n_threads):
                self.going = self.advance()
                if self.going:
                    deal(&self.rendezvous, n_threads, self.count_tasks())
                release(&self.rendezvous)
            if times != NULL:
                mark = lap(&times[thread].waiting, mark)
        fm_restore_denormals(&denormals)

    cdef Py_ssize_t count_tasks(self) noexcept nogil:
        return 0

    cdef void run_task(self, Py_ssize_t task, int thread) noexcept nogil:
        pass

    cdef bint advance(self) noexcept nogil:
        return False
