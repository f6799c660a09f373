"""The phases of a step, and their tasks."""

cimport cython

from fastmlp.engine.matrix cimport Buffers
from fastmlp.engine.team cimport Times

cdef enum Kind:
    GATHER          # rows of the batch
    FORWARD         # a strip of rows of a panel of outputs
    NORMALISE       # a panel of them, which were sums alone, and the activation
    OUTPUT          # a strip of rows of the outputs, their loss and its gradient
    LOSS            # of a strip of rows, and its gradient
    COST            # the sum of a part's losses
    COLUMNS         # inputs made ready for their gradient: lists, or a tile transposed
    BACKWARD        # a strip of rows of a panel of gradients
    NORMALISE_BACKWARD  # a panel of them, back through the normalisation
    UPDATE          # gradient of a block of weights, and the optimizer's step on them
    GRADIENT        # the same gradient, stored
    ADD_GRADIENT    # or added to what is stored
    NORM            # sum of the squares of a slab of gradients
    APPLY           # the optimizer's step on a slab of parameters
    CONSTRAIN       # a panel's units held to a norm of their weights
    CHAIN           # rows through all layers and back
    SUM             # of the chains' gradients for a slab of parameters, and the optimizer's step
    CUT             # no task: the slice ends here, and Python has its turn

cdef enum:
    SLAB = 1024  # parameters whose gradients are added up, and which are then updated, at a time

cdef struct Task:
    Kind kind
    Py_ssize_t layer, index     # index: of a panel, a block or a slab
    Py_ssize_t first, n         # rows

cdef struct Phase:
    const Task *tasks
    Py_ssize_t count
    Py_ssize_t base             # row of the batch from which its rows are counted
    Times *times                # one a thread, or NULL


@cython.final
cdef class Program:
    cdef Buffers buffers
    cdef Py_ssize_t n_phases
    cdef Phase *phases
    cdef int timed_threads
