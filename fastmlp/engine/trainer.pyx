# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: freethreading_compatible=True
"""The fused training step.

Weights and activations are kept in panels of 64 columns. A step is a program: a list of phases, each a list of
independent tasks, which the threads share out; no sum is ever split, so that any number of threads gives the same bits.
"""

cimport cython
from cpython.pyport cimport PY_SSIZE_T_MAX
from libc.math cimport isfinite
from libc.stdint cimport int64_t, uint64_t

import numpy as np

from fastmlp.engine.program import chained_step, constraint, empty_step, layered_step

from fastmlp.engine.batch cimport Batch, RowLoss
from fastmlp.engine.layer cimport Layer, backward, forward, normalise, normalise_backward
from fastmlp.engine.matrix cimport Matrix, turn
from fastmlp.engine.parameters cimport Parameters
from fastmlp.engine.program cimport (
    ADD_GRADIENT, APPLY, BACKWARD, CHAIN, COLUMNS, CONSTRAIN, COST, CUT, FORWARD, GATHER, LOSS, NORM, NORMALISE,
    NORMALISE_BACKWARD, OUTPUT, SUM, UPDATE, Phase, Program, Task,
)
from fastmlp.engine.rows cimport Rows
from fastmlp.engine.table cimport fm_flush_denormals, fm_restore_denormals
from fastmlp.engine.team cimport Team

# A network of at most so many parameters stays in the caches near a core, and so do CHAIN_ROWS rows of its activations:
# then each thread takes rows through all layers and back by itself.
cdef Py_ssize_t CHAIN_PARAMETERS = 16384
cdef Py_ssize_t CHAIN_ROWS = 128
# Two chains of 32 rows or more, or four of 48, share a batch between threads, where each has so much work: some 20 us.
cdef Py_ssize_t CHAIN_WORK = 500000     # rows times parameters
# Threads of several chains need not meet after each layer: up to so many parameters two of them take 0.65 to 0.95 of
# the time, and one 0.8 to 1.1. But layers of more units, and those with dropout, gain more by masks.
MOST_CHAIN_PARAMETERS = 65536
cdef Py_ssize_t MOST_CHAIN_UNITS = 191
# A batch has at most so many chains of such a network, as each has a gradient of its own: at most 16 MB together.
cdef Py_ssize_t MOST_CHAINS = 256
# Bytes of a hidden layer and its transpose beyond which a batch goes in parts; and a part's rows. So
# memory is bounded for any batch, and 2048 units by 1024 rows, 16 MB, are one part.
cdef Py_ssize_t PART_BYTES = 32 << 20
cdef Py_ssize_t FEWEST_PART_ROWS = 256
cdef Py_ssize_t MOST_PART_ROWS = 4096


cdef Py_ssize_t chains_of(Py_ssize_t rows, Py_ssize_t parameters) noexcept:
    """How many chains take a batch of so many rows: one, or an even number for two threads to share out."""
    cdef Py_ssize_t least = (rows + CHAIN_ROWS - 1) // CHAIN_ROWS
    cdef Py_ssize_t more = min(4, 1 + 2 * rows // CHAIN_ROWS, rows * parameters // CHAIN_WORK)
    return min(max(least + (least > 1 and least % 2), more - more % 2, 1), MOST_CHAINS)


cdef Py_ssize_t capacity_of(Parameters parameters, Py_ssize_t batch_size):
    """Rows of a part of such a batch, at most; a network that is normalised takes its statistics from the whole."""
    cdef Py_ssize_t l, widest = 1
    if parameters.n_running > 0:
        return batch_size
    for l in range(1, parameters.n_layers):
        widest = max(widest, parameters.layers[l].k)
    return min(batch_size, max(FEWEST_PART_ROWS, min(MOST_PART_ROWS, PART_BYTES // (8 * widest))))


cdef bint worth_chaining(Parameters parameters, Rows rows, Py_ssize_t batch_size):
    """Whether the network is small, and no layer waits for all rows."""
    cdef Py_ssize_t count = parameters.count, chains = chains_of(batch_size, count), l
    if rows.listed or rows.masked or parameters.n_running > 0:
        return False
    if count <= CHAIN_PARAMETERS:
        return True
    for l in range(parameters.n_layers - 1):
        if parameters.layers[l].m > MOST_CHAIN_UNITS or parameters.layers[l].noise.dropped > 0:
            return False
    return count <= MOST_CHAIN_PARAMETERS and chains > 1 and chains * count <= MOST_CHAINS * CHAIN_PARAMETERS


cdef check_order(const int64_t[::1] order, Py_ssize_t n, bint may_be_empty):
    """Refuse an order that is empty but may not be, or has numbers that none of n rows has."""
    cdef int64_t least = 0, most = 0
    cdef Py_ssize_t i
    for i in range(order.shape[0]):
        least, most = min(least, order[i]), max(most, order[i])
    if (order.shape[0] == 0 and not may_be_empty) or least < 0 or most >= n:
        raise ValueError(f"order must have at least one row, all from 0 to {n - 1}")


@cython.final
cdef class Trainer(Team):
    """One run of training: the network in panels, the buffers of a batch, and the program of a step.

    Parameters
    ----------
    layers : list
        As `fastmlp.layers.engine_layers` gives it.
    loss : Loss or None
        None cuts each step after the forward pass: `run` returns with `at_cut` set, `logits` has the outputs of rows
        `cut_rows`, and `set_losses` takes their losses and gradients before the next `run`.
    batch_size : int
    n_threads : int
        At most; the trainer measures which number is the fastest.
    max_norm : float or None
        Of the weights of each unit, after each step.
    cut_at_gradient : bool
        Cut each step before the optimizer takes the gradient, which `store_gradient` gives, and `load_gradient` takes.
    """

    cdef Parameters parameters
    cdef Batch at_hand                      # rows of the batch, or of a part of it
    cdef readonly Py_ssize_t batch, n_batches   # of the epoch: how many are done, and are to be as far as is known
    cdef readonly bint at_cut               # the step at hand waits for Python
    cdef readonly Py_ssize_t batch_size
    cdef Py_ssize_t capacity, part_rows     # rows of a part of a batch, at most; of a whole batch's last part
    cdef int n_threads
    cdef RowLoss loss
    cdef bint cut_at_gradient, clipped, chained
    # The epoch, or a part of it that begins with some batch
    cdef Rows rows
    cdef const int64_t[::1] order
    cdef Py_ssize_t first
    cdef bint is_last
    cdef readonly double total_cost, cost_before    # of its batches so far; without the last one
    # The program for a whole batch; where the last one that has rows is smaller, for that one; for those beyond it; and
    # where it stands
    cdef Program whole, last, empty
    cdef Py_ssize_t filled                  # the epoch's batches up to there have rows
    cdef Py_ssize_t last_rows, phase
    cdef const Phase *now

    def __init__(self, layers, loss, Py_ssize_t batch_size, int n_threads, *, max_norm=None, cut_at_gradient=False):
        cdef Py_ssize_t parts
        self.parameters, self.loss = Parameters(layers, max_norm), RowLoss(loss)
        self.batch_size, self.n_threads, self.cut_at_gradient = batch_size, n_threads, cut_at_gradient
        self.capacity = capacity_of(self.parameters, batch_size)
        parts = (batch_size + self.capacity - 1) // self.capacity
        self.part_rows = batch_size - batch_size * (parts - 1) // parts

    # -- State

    @property
    def step(self):
        """Steps that the optimizer has taken, over its whole life."""
        return self.parameters.step

    @property
    def is_over(self):
        """Whether the epoch's last batch is done."""
        return self.is_last and self.batch == self.n_batches

    @property
    def cost(self):
        """Mean of the costs of the epoch's batches so far."""
        return self.total_cost / self.batch

    @property
    def forms(self):
        """Which values of the batch at hand are taken by masks, as `start_epoch` needs to go on there: bools."""
        return self.at_hand.forms()

    @property
    def averaged(self):
        """Steps that are in the averages of the parameters."""
        return self.parameters.averaged

    def load(self, values, moments, step=None):
        """Read the network, the optimizer's state and, where it is given, the number of its steps."""
        self.parameters.load(values, moments, step)

    def load_averages(self, averages, averaged):
        """Read the averages of the parameters over so many steps."""
        self.parameters.load_averages(averages, averaged)

    def store(self, values, moments, averages=None):
        """Write the network, the optimizer's state and averages as they are after the last whole batch."""
        self.parameters.store(values, moments, averages)

    def store_gradient(self, gradient):
        """Write the gradient of the batch whose step is cut before the optimizer takes it."""
        self.parameters.store_gradient(gradient)

    def load_gradient(self, gradient):
        """Have the optimizer take this one in its place."""
        self.parameters.load_gradient(gradient)

    @property
    def at_gradient(self):
        """Whether the step at hand waits for that."""
        return self.at_cut and self.now.tasks[0].kind in (NORM, APPLY)

    def is_finite(self):
        """Whether the network, the optimizer's state and the cost are."""
        return self.parameters.is_finite() and isfinite(self.cost)

    def set_optimizer(self, optimizer, rates=None):
        """Take its hyper-parameters, and the batches' own learning rates; clipping begins, or ends, with an epoch."""
        self.parameters.set_optimizer(optimizer, [optimizer.learning_rate] if rates is None else rates, self.batch)

    # -- Room for a batch of these rows, and its program

    cdef make_room(self, Rows rows):
        cdef Py_ssize_t sets = 1, strip = self.capacity, capacity = self.capacity, chains
        self.loss.check(rows, self.parameters.layers[0].k, self.parameters.outputs())
        self.rows, self.clipped = rows, self.parameters.clip_norm > 0
        self.whole = self.last = self.empty = None
        self.chained = (self.loss.how.kind >= 0 and not self.cut_at_gradient and not self.clipped
                        and worth_chaining(self.parameters, rows, self.batch_size))
        if self.chained:
            capacity, chains = self.batch_size, chains_of(self.batch_size, self.parameters.count)
            strip = max(min(capacity, CHAIN_ROWS), (capacity + MOST_CHAINS - 1) // MOST_CHAINS)
            sets = min(self.n_threads, chains)
            self.parameters.make_gradients(chains)
        elif self.cut_at_gradient or self.clipped or self.capacity < self.batch_size:
            self.parameters.make_gradients(1)
        self.at_hand = Batch(self.parameters, rows, capacity, strip, sets, self.n_threads, not self.chained)
        self.start_team(sets if self.chained else self.n_threads)

    cdef Program program_for(self, Py_ssize_t rows):
        """What a batch of so many rows goes through."""
        shapes = self.at_hand.shapes()
        if rows == 0:
            phases = empty_step(self.parameters.slabs(), norm=self.clipped, cut_at_gradient=self.cut_at_gradient)
        elif self.chained:
            phases = chained_step(rows, chains_of(rows, self.parameters.count), self.parameters.slabs())
        else:
            # A smaller batch that would not need parts takes the road of the others: their gradients are rounded alike.
            phases = layered_step(
                shapes, rows, self.capacity, self.n_threads, self.parameters.slabs(),
                whole=self.capacity < self.batch_size, norm=self.clipped, cut_at_loss=self.loss.how.kind < 0,
                cut_at_gradient=self.cut_at_gradient,
            )
        if self.parameters.max_norm > 0:
            phases.append(constraint(shapes))
        return Program(phases, self.timed_threads())

    # -- Running

    def start_epoch(self, Rows rows, const int64_t[::1] order, uint64_t key=0, *, bint is_last=True,
                    Py_ssize_t n_batches=0, Py_ssize_t first=0, Py_ssize_t batch=0, double total_cost=0.0, forms=()):
        """Begin an epoch over these of the rows, in this order; what is drawn in it is a function of the key.

        Where they are not its last ones, their number must be a multiple of the batch's, and a call with those from
        batch `first` on follows, and with the cost so far. A run that was stopped goes on at a batch after that, with
        the forms that it had. The epoch has at least `n_batches`: those for which no rows are left have none, and no
        gradient of their own.

        Raises
        ------
        ValueError
            There is no row, or one that the rows do not have; or rows are left that make no batch; or they have not
            the batch that it is to go on at.
        """
        cdef Py_ssize_t n = order.shape[0], i
        cdef uint64_t denormals
        check_order(order, rows.n, n_batches > 0)
        if not is_last and n % self.batch_size > 0:
            raise ValueError(f"rows must be a multiple of {self.batch_size} where others are to come, not {n}")
        if rows is not self.rows or self.clipped != (self.parameters.clip_norm > 0):
            self.make_room(rows)
        self.first, self.is_last = first, is_last
        self.filled = first + (n + self.batch_size - 1) // self.batch_size
        self.n_batches = max(self.filled, n_batches)
        if batch >= self.n_batches:
            raise ValueError(f"the epoch has {self.n_batches} batches, and cannot go on after {batch}")
        i = n - (self.filled - first - 1) * self.batch_size
        if self.whole is None:
            self.whole = self.program_for(self.batch_size)
        if n > 0 and (self.last is None or i != self.last_rows):
            self.last, self.last_rows = self.whole if i == self.batch_size else self.program_for(i), i
        if self.filled < self.n_batches and self.empty is None:
            self.empty = self.program_for(0)
        self.at_hand.draw_by(key)
        self.order, self.total_cost = order, total_cost
        self.batch, self.at_cut = max(first, batch), False
        fm_flush_denormals(&denormals)  # as where the other batches begin
        self.begin(0)
        fm_restore_denormals(&denormals)
        if batch > first:
            self.at_hand.set_forms(forms)

    def run(self, Py_ssize_t most=PY_SSIZE_T_MAX):
        """Take a slice of steps, about 10 ms of work but at most so many, without the GIL; or up to the next cut.

        Raises
        ------
        RuntimeError
            The epoch has ended.
        """
        if self.batch >= self.n_batches:
            raise RuntimeError("the epoch, or its part, has ended: start_epoch begins another one")
        self.at_cut = False
        self.run_slice(1 if self.loss.how.kind < 0 or self.cut_at_gradient else min(most, self.n_batches - self.batch))

    def phase_times(self):
        """Return `Program.take_times` of the whole batches, after `time_phases`."""
        return self.whole.take_times()

    cdef bint advance(self) noexcept nogil:
        """To the next phase; at a cut, past it, and the slice ends."""
        if self.now.tasks[0].kind == NORM:
            self.parameters.choose_clip()
        if not self.enter(self.phase + 1):
            self.parameters.end_step(self.rows_from(self.place(self.batch)))
            self.batch += 1
            self.steps -= 1
            if self.batch < self.n_batches:
                self.begin(self.part_rows)
            return self.batch < self.n_batches and self.steps > 0
        if self.now.tasks[0].kind == CUT:
            self.at_cut = self.enter(self.phase + 1)
            return False
        return True

    cdef bint enter(self, Py_ssize_t phase) noexcept nogil:
        """Make a phase of the batch the one at hand, if there is such a one."""
        cdef Py_ssize_t n_phases = self.whole.n_phases
        cdef const Phase *phases = self.whole.phases
        if self.batch >= self.filled:
            n_phases, phases = self.empty.n_phases, self.empty.phases
        elif self.batch == self.filled - 1:
            n_phases, phases = self.last.n_phases, self.last.phases
        if phase == n_phases:
            return False
        self.phase, self.now = phase, phases + phase
        self.times = self.now.times
        return True

    cdef void begin(self, Py_ssize_t seen) noexcept nogil:
        """The batch's first phase, the scale of its losses, the optimizer's constants, which masks are worth it.

        Of the batch before, so many rows are seen, by which that is decided.
        """
        cdef Py_ssize_t place = self.place(self.batch)
        self.enter(0)
        self.cost_before = self.total_cost
        self.at_hand.weigh(&self.order[place], self.rows_from(place))
        self.parameters.begin_step(self.batch, self.at_hand.row_scale)
        self.at_hand.choose_forms(seen)

    cdef Py_ssize_t place(self, Py_ssize_t batch) noexcept nogil:
        """Where in the order a batch begins."""
        return (batch - self.first) * self.batch_size

    cdef Py_ssize_t rows_from(self, Py_ssize_t place) noexcept nogil:
        """How many rows the batch has that begins there."""
        return max(<Py_ssize_t>0, min(self.batch_size, self.order.shape[0] - place))

    cdef const int64_t *part(self) noexcept nogil:
        """The rows from which those of the phase at hand are counted."""
        return &self.order[self.place(self.batch) + self.now.base]

    cdef Py_ssize_t count_tasks(self) noexcept nogil:
        return self.now.count

    cdef void run_task(self, Py_ssize_t i, int thread) noexcept nogil:
        cdef const Task *task = self.now.tasks + i
        cdef Py_ssize_t l = task.layer, index = task.index
        cdef Layer *layer = &self.parameters.layers[l]
        cdef Matrix *h = self.at_hand.h
        cdef Matrix *dz = self.at_hand.dz
        if task.kind == CHAIN:
            self.at_hand.chain(self.parameters, &self.loss.how, self.part(), index, task.first, task.n, thread)
        elif task.kind == SUM:
            self.parameters.sum(index, task.n)
        elif task.kind == GATHER:
            self.at_hand.gather(h, task.first, self.part(), task.first, task.n, thread)
        elif task.kind == FORWARD:
            forward(layer, &h[l], &h[l + 1], self.part(), index, task.first, task.n)
        elif task.kind == NORMALISE:
            normalise(layer, &h[l + 1], self.part(), index, task.n)
        elif task.kind == OUTPUT:
            forward(layer, &h[l], &h[l + 1], self.part(), 0, task.first, task.n)
            self.at_hand.compute_loss(&self.loss.how, &h[l + 1], task.first, task.first, task.n)
        elif task.kind == LOSS:
            self.at_hand.compute_loss(&self.loss.how, &h[l], task.first, task.first, task.n)
        elif task.kind == COST:
            self.total_cost += self.at_hand.cost(task.n)
        elif task.kind == COLUMNS:
            turn(&h[l], index, task.n)
        elif task.kind == BACKWARD:
            backward(layer, layer - 1, &dz[l + 1], &h[l], &dz[l], self.parameters.zeros, index, task.first, task.n)
        elif task.kind == NORMALISE_BACKWARD:
            normalise_backward(layer, &h[l + 1], &dz[l + 1], index, task.n)
        elif task.kind == APPLY:
            self.parameters.apply(index)
        elif task.kind == NORM:
            self.parameters.add_squares(index)
        elif task.kind == CONSTRAIN:
            self.parameters.constrain(l, index)
        elif task.kind == UPDATE:
            self.parameters.update_block(l, &h[l], &dz[l + 1], index, task.n)
        else:
            self.parameters.make_gradient(l, &h[l], &dz[l + 1], index, task.n, task.kind == ADD_GRADIENT)

    # -- A loss of Python's own, in the cut after the forward pass

    cdef Py_ssize_t cut_n(self) except -1:
        """How many rows wait for their losses."""
        cdef const Task *task = self.now.tasks if self.at_cut else NULL
        if self.loss.how.kind >= 0 or task == NULL or self.at_gradient:
            raise RuntimeError("no step is cut at its loss")
        while task.kind != COST:
            task += 1
        return task.n

    def cut_rows(self):
        """Return the rows whose logits wait for their losses, int64 (n,)."""
        cdef Py_ssize_t n = self.cut_n(), first = self.place(self.batch) + self.now.base
        return np.array(self.order[first:first + n])

    def logits(self):
        """Return the outputs of these rows before the loss, float32 (n, m)."""
        return self.at_hand.logits(self.cut_n())

    def set_losses(self, losses, dlogits):
        """Take these rows' losses (n,), and the gradients of their logits (n, m)."""
        self.at_hand.set_losses(losses, dlogits, self.cut_n())
