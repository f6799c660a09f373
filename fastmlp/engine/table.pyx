# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: freethreading_compatible=True
"""The choice of the instruction set: one table of kernels is in use, and every other module takes it from here."""

import os

cdef extern from *:
    """
    #ifdef _OPENMP
    #define FM_OPENMP 1
    #else
    #define FM_OPENMP 0
    #endif
    """
    const int FM_OPENMP
    const char *__VERSION__

OPENMP = bool(FM_OPENMP)
COMPILER = __VERSION__.decode()


cdef bint _runs(const fm_kernels *table) noexcept:
    cdef int runs = 0
    fm_runs(&runs, table)
    return runs != 0


def _choose(wanted):
    """Point `kernels` at the table called `wanted`, or at the best one that runs here where `wanted` is None."""
    global kernels
    cdef const fm_kernels *table
    cdef Py_ssize_t i = 0
    names = []
    while fm_compiled[i] != NULL:
        table = fm_compiled[i]
        name = table.name.decode()
        names.append(name)
        if wanted == name or (wanted is None and _runs(table)):
            if not _runs(table):
                raise ImportError(f"FASTMLP_ISA={wanted}: this processor cannot run {wanted} instructions")
            kernels = table
            return
        i += 1
    raise ImportError(f"FASTMLP_ISA={wanted}: not compiled in; this build has {', '.join(names)}")


_choose(os.environ.get("FASTMLP_ISA") or None)


def isa():
    """Name of the instruction set in use."""
    return kernels.name.decode()


def isas():
    """The instruction sets compiled in, best first: name -> whether this processor runs it."""
    cdef Py_ssize_t i = 0
    found = {}
    while fm_compiled[i] != NULL:
        found[fm_compiled[i].name.decode()] = _runs(fm_compiled[i])
        i += 1
    return found
