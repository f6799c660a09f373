# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: freethreading_compatible=True
"""The fused training step.

Weights and activations are kept in panels of 64 columns. A step is a program: a list of phases, each a list of
independent tasks, which the threads share out; no sum is ever split, so that any number of threads gives the same bits.
"""

cimport cython
from libc.math cimport isfinite
from libc.stdint cimport int64_t, uint64_t

import numpy as np

from fastmlp.engine.program import chained_step, constraint, layered_step

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
# A batch has at most so many chains, as each has a gradient of its own: at most 16 MB together.
cdef Py_ssize_t MOST_CHAINS = 256
# Bytes of a hidden layer and its transpose beyond which a batch goes in parts; and a part's rows. So
# memory is bounded for any batch, and 2048 units by 1024 rows, 16 MB, are one part.
cdef Py_ssize_t PART_BYTES = 32 << 20
cdef Py_ssize_t FEWEST_PART_ROWS = 256
cdef Py_ssize_t MOST_PART_ROWS = 4096


cdef Py_ssize_t chains_of(Py_ssize_t rows) noexcept:
    """How many chains take a batch of so many rows."""
    return min((rows + CHAIN_ROWS - 1) // CHAIN_ROWS, MOST_CHAINS)


cdef Py_ssize_t capacity_of(Parameters parameters, Py_ssize_t batch_size):
    """Rows of a part of such a batch, at most; a network that is normalised takes its statistics from the whole."""
    cdef Py_ssize_t l, widest = 1
    if parameters.n_running > 0:
        return batch_size
    for l in range(1, parameters.n_layers):
        widest = max(widest, parameters.layers[l].k)
    return min(batch_size, max(FEWEST_PART_ROWS, min(MOST_PART_ROWS, PART_BYTES // (8 * widest))))


cdef bint worth_chaining(Parameters parameters, Rows rows):
    """Whether the network is small, and no layer waits for all rows."""
    return (not rows.listed and not rows.masked and parameters.n_running == 0
            and parameters.count <= CHAIN_PARAMETERS)


cdef check_order(const int64_t[::1] order, Py_ssize_t n):
    """Refuse an order that is empty, or has numbers that none of n rows has."""
    cdef int64_t least = 0, most = 0
    cdef Py_ssize_t i
    for i in range(order.shape[0]):
        least, most = min(least, order[i]), max(most, order[i])
    if order.shape[0] == 0 or least < 0 or most >= n:
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
        Cut each step before the optimizer takes the gradient, which `store_gradient` gives.
    """

    cdef Parameters parameters
    cdef Batch at_hand                      # rows of the batch, or of a part of it
    cdef readonly Py_ssize_t batch, n_batches   # of the epoch: how many are done, and are to be as far as is known
    cdef readonly bint at_cut               # the step at hand waits for Python
    cdef Py_ssize_t batch_size
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
    # The program for a whole batch and, where the last one is smaller, for that one; and where it stands
    cdef Program whole, last
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
        self.rows, self.whole, self.last, self.clipped = rows, None, None, self.parameters.clip_norm > 0
        self.chained = (self.loss.how.kind >= 0 and not self.cut_at_gradient and not self.clipped
                        and worth_chaining(self.parameters, rows))
        if self.chained:
            capacity, chains = self.batch_size, chains_of(self.batch_size)
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
        if self.chained:
            phases = chained_step(rows, chains_of(rows), self.parameters.slabs())
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

    def start_epoch(self, Rows rows, const int64_t[::1] order, uint64_t key=0, *, bint is_last=True):
        """Begin an epoch over these of the rows, in this order; what is drawn in it is a function of the key.

        Where they are not its last ones, their number must be a multiple of the batch's, and `continue_epoch` follows.

        Raises
        ------
        ValueError
            There is none, or one that the rows do not have; or rows are left that make no batch.
        """
        self.begin_part(rows, order, key, is_last, 0)

    def continue_epoch(self, Rows rows, const int64_t[::1] order, uint64_t key=0, *, bint is_last=True):
        """Go on with other rows, once the batches of those before are done.

        Raises
        ------
        RuntimeError
            Some are not, or there are to be no others.
        ValueError
            As `start_epoch` does.
        """
        if self.is_last or self.batch < self.n_batches:
            raise RuntimeError("an epoch goes on when its batches so far are done, and others are to come")
        self.begin_part(rows, order, key, is_last, self.batch)

    cdef begin_part(self, Rows rows, const int64_t[::1] order, uint64_t key, bint is_last, Py_ssize_t first):
        """Rows of the epoch from batch `first` on, in this order."""
        cdef Py_ssize_t n = order.shape[0], i
        cdef uint64_t denormals
        check_order(order, rows.n)
        if not is_last and n % self.batch_size > 0:
            raise ValueError(f"rows must be a multiple of {self.batch_size} where others are to come, not {n}")
        if rows is not self.rows or self.clipped != (self.parameters.clip_norm > 0):
            self.make_room(rows)
        self.first, self.is_last = first, is_last
        self.n_batches = first + (n + self.batch_size - 1) // self.batch_size
        i = n - (self.n_batches - first - 1) * self.batch_size
        if self.whole is None:
            self.whole = self.program_for(self.batch_size)
        if self.last is None or i != self.last_rows:
            self.last, self.last_rows = self.whole if i == self.batch_size else self.program_for(i), i
        self.at_hand.draw_by(key)
        self.order = order
        self.batch, self.at_cut = first, False
        if first == 0:
            self.total_cost = 0
        fm_flush_denormals(&denormals)  # as where the other batches begin
        self.begin()
        fm_restore_denormals(&denormals)

    def run(self):
        """Take a slice of steps, about 10 ms of work, without the GIL; or up to the next cut.

        Raises
        ------
        RuntimeError
            The epoch has ended.
        """
        if self.batch >= self.n_batches:
            raise RuntimeError("the epoch, or its part, has ended: start_epoch begins another one")
        self.at_cut = False
        self.run_slice(1 if self.loss.how.kind < 0 or self.cut_at_gradient else self.n_batches - self.batch)

    def phase_times(self):
        """Return `Program.take_times` of the whole batches, after `time_phases`."""
        return self.whole.take_times()

    cdef bint advance(self) noexcept nogil:
        """To the next phase; at a cut, past it, and the slice ends."""
        if self.now.tasks[0].kind == NORM:
            self.parameters.choose_clip()
        if not self.enter(self.phase + 1):
            self.batch += 1
            self.parameters.end_step(self.rows_from(self.place(self.batch - 1)))
            self.steps -= 1
            if self.batch < self.n_batches:
                self.begin()
            return self.batch < self.n_batches and self.steps > 0
        if self.now.tasks[0].kind == CUT:
            self.at_cut = self.enter(self.phase + 1)
            return False
        return True

    cdef bint enter(self, Py_ssize_t phase) noexcept nogil:
        """Make a phase of the batch the one at hand, if there is such a one."""
        cdef bint is_last = self.batch == self.n_batches - 1
        if phase == (self.last.n_phases if is_last else self.whole.n_phases):
            return False
        self.phase, self.now = phase, (self.last.phases if is_last else self.whole.phases) + phase
        self.times = self.now.times
        return True

    cdef void begin(self) noexcept nogil:
        """The batch's first phase, the scale of its losses, the optimizer's constants, which lists are worth making."""
        cdef Py_ssize_t place = self.place(self.batch)
        self.enter(0)
        self.cost_before = self.total_cost
        self.at_hand.weigh(&self.order[place], self.rows_from(place))
        self.parameters.begin_step(self.batch, self.at_hand.row_scale)
        self.at_hand.choose_forms(self.part_rows if self.batch > self.first else 0)

    cdef Py_ssize_t place(self, Py_ssize_t batch) noexcept nogil:
        """Where in the order a batch begins."""
        return (batch - self.first) * self.batch_size

    cdef Py_ssize_t rows_from(self, Py_ssize_t place) noexcept nogil:
        """How many rows the batch has that begins there."""
        return min(self.batch_size, self.order.shape[0] - place)

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
        if self.loss.how.kind >= 0 or task == NULL or task.kind in (NORM, APPLY):
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
