# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: freethreading_compatible=True
"""The fused training step.

Weights and activations are kept in panels of 64 columns. A step is a program: a list of phases, each a list of
independent tasks, which the threads share out; no sum is ever split, so that any number of threads gives the same bits.
"""

cimport cython
from libc.math cimport isfinite, pow, sqrt
from libc.stdint cimport int64_t

import numpy as np

from fastmlp.engine.program import chained_step, layered_step

from fastmlp.engine.table cimport FM_ADAM, FM_NESTEROV, FM_PANEL, FM_SGD, aligned, fm_step, kernels
from fastmlp.engine.layer cimport (
    Layer, backward, block_gradient, forward, make_layers, pack, panel_floats, unpack, update, whole_gradient,
)
from fastmlp.engine.matrix cimport (
    Buffers, Matrix, add_column_lists, drop_full_lists, list_columns, make_panels, make_rows, panels_of, worth_listing,
)
from fastmlp.engine.program cimport (
    ADD_GRADIENT, APPLY, BACKWARD, CHAIN, COLUMNS, COST, CUT, FORWARD, GATHER, LOSS, NORM, SLAB, SUM, UPDATE,
    Kind,
)
from fastmlp.engine.rows cimport Rows
from fastmlp.engine.team cimport Team

# A network of at most so many parameters stays in the caches near a core, and so do CHAIN_ROWS rows of its activations:
# then each thread takes rows through all layers and back by itself.
cdef Py_ssize_t CHAIN_PARAMETERS = 16384
cdef Py_ssize_t CHAIN_ROWS = 128
# A batch has at most so many chains, as each has a gradient of its own: at most 16 MB together.
cdef Py_ssize_t MOST_CHAINS = 256
# Bytes of a hidden layer's lists, if every value were listed, beyond which a batch goes in parts; and a part's rows. So
# memory is bounded for any batch, and 2048 units by 1024 rows, 16 MB, are one part.
cdef Py_ssize_t PART_LISTS = 32 << 20
cdef Py_ssize_t FEWEST_PART_ROWS = 256
cdef Py_ssize_t MOST_PART_ROWS = 4096

RULES = {"sgd": FM_SGD, "nesterov": FM_NESTEROV, "adam": FM_ADAM}

cdef struct Task:
    Kind kind
    Py_ssize_t layer, index     # index: of a panel, a block or a slab
    Py_ssize_t first, n         # rows

cdef struct Phase:
    Py_ssize_t first, count     # of tasks
    Py_ssize_t base             # row of the batch from which its rows are counted

cdef struct Program:
    Py_ssize_t n_phases
    Phase *phases
    Task *tasks


@cython.final
cdef class Trainer(Team):
    """One run of training: the network in panels, the buffers of a batch, and the program of a step.

    Parameters
    ----------
    layers : list
        As `fastmlp.layers.engine_layers` gives it.
    loss : int or None
        Its code. None cuts each step after the forward pass: `run` returns there, `logits` has the outputs of the rows
        `cut_rows`, and `set_losses` takes their losses and gradients before the next `run`.
    batch_size : int
    n_threads : int
        At most; the trainer measures which number is the fastest.
    cut_at_gradient : bool
        Cut each step before the optimizer takes the gradient, which `store_gradient` gives.
    """

    cdef readonly Py_ssize_t step           # of the optimizer, over its whole life
    cdef readonly Py_ssize_t batch          # of the epoch: how many are done
    cdef readonly Py_ssize_t n_batches
    cdef Py_ssize_t m, n_layers, batch_size
    cdef Py_ssize_t capacity, part_rows     # rows of a part of a batch, at most; of a whole batch's last part
    cdef int n_threads
    cdef bint cut_at_gradient
    cdef Buffers buffers
    cdef Layer *layers
    cdef Py_ssize_t n_parameters            # in panels, with their padding: the layers' lie one after the other
    cdef Py_ssize_t n_flat                  # in the caller's arrays
    cdef float *weights
    cdef float *moment_1
    cdef float *moment_2
    cdef float *zeros
    cdef int loss                           # its code; -1: Python's
    cdef fm_step constants
    cdef double learning_rate, beta_1, beta_2, epsilon, clip_norm
    # The epoch
    cdef Rows rows
    cdef const int64_t[::1] order
    cdef double total_cost
    # The batch: one set of activations or, where threads take rows through all layers, one a thread
    cdef Buffers batch_buffers
    cdef bint chained
    cdef Matrix *h                          # h[l]: inputs of layer l; h[n_layers]: the logits, then their gradient
    cdef Matrix *dz                         # dz[l]: gradient of h[l] before its activation; dz[n_layers] is h[n_layers]
    cdef float *gradients                   # of each chain, or of the batch where that is wanted as a whole
    cdef double *squares                    # of each slab's gradients
    cdef float clip                         # by which they are multiplied
    cdef int64_t *labels
    cdef float *targets
    cdef float *scale
    cdef double row_scale                   # of a row of weight 1
    cdef float *losses
    # The program for a whole batch and, where the last one is smaller, for that one; and where it stands
    cdef Program programs[2]
    cdef Buffers program_buffers
    cdef bint programmed                    # for these rows and this optimizer
    cdef Py_ssize_t last_rows
    cdef Py_ssize_t phase
    cdef const Phase *now
    cdef const Task *tasks

    def __init__(self, layers, loss, Py_ssize_t batch_size, int n_threads, *, cut_at_gradient=False):
        cdef Py_ssize_t l, widest = 1, offset = 0, parts
        self.buffers = Buffers()
        self.layers, self.n_layers = make_layers(layers, self.buffers), len(layers)
        self.m, self.batch_size, self.n_threads = self.layers[self.n_layers - 1].m, batch_size, n_threads
        self.cut_at_gradient = cut_at_gradient
        self.loss = -1 if loss is None else loss
        for l in range(self.n_layers):
            self.n_parameters += panel_floats(&self.layers[l])
            self.n_flat += (self.layers[l].k + 1) * self.layers[l].m
            if l > 0:
                widest = max(widest, self.layers[l].k)
        self.capacity = min(batch_size, max(FEWEST_PART_ROWS, min(MOST_PART_ROWS, PART_LISTS // (8 * widest))))
        parts = (batch_size + self.capacity - 1) // self.capacity
        self.part_rows = batch_size - batch_size * (parts - 1) // parts
        self.weights = self.buffers.floats(self.n_parameters)
        self.moment_1 = self.buffers.floats(self.n_parameters)
        self.moment_2 = self.buffers.floats(self.n_parameters)
        for l in range(self.n_layers):
            self.layers[l].weights, self.layers[l].moment_1 = self.weights + offset, self.moment_1 + offset
            self.layers[l].moment_2 = self.moment_2 + offset
            offset += panel_floats(&self.layers[l])
        self.zeros, self.clip = self.buffers.floats(FM_PANEL), 1
        self.squares = <double *>self.buffers.allocate(sizeof(double) * self.slabs())

    cdef Py_ssize_t slabs(self) noexcept:
        return (self.n_parameters + SLAB - 1) // SLAB

    # -- State: between the caller's flat arrays and panels

    def load(self, const float[::1] parameters, moments, step=None):
        """Read the network, the optimizer's state and, where it is given, the number of its steps."""
        cdef const float[::1] first = moments[0], second = moments[1]
        cdef Py_ssize_t l
        self.check_length(parameters, first, second)
        for l in range(self.n_layers):
            pack(self.layers[l].weights, &self.layers[l], parameters)
            pack(self.layers[l].moment_1, &self.layers[l], first)
            pack(self.layers[l].moment_2, &self.layers[l], second)
        if step is not None:
            self.step = step

    def store(self, float[::1] parameters, moments):
        """Write the network and the optimizer's state as they are after the last whole batch."""
        cdef float[::1] first = moments[0], second = moments[1]
        cdef Py_ssize_t l
        self.check_length(parameters, first, second)
        for l in range(self.n_layers):
            unpack(parameters, &self.layers[l], self.layers[l].weights)
            unpack(first, &self.layers[l], self.layers[l].moment_1)
            unpack(second, &self.layers[l], self.layers[l].moment_2)

    def store_gradient(self, float[::1] gradient):
        """Write the gradient of the batch whose step is cut before the optimizer takes it."""
        cdef Layer layer
        cdef Py_ssize_t l, offset = 0
        self.check_length(gradient, gradient, gradient)
        for l in range(self.n_layers):
            layer = self.layers[l]
            unpack(gradient, &layer, self.gradients + offset)
            offset += panel_floats(&layer)

    cdef check_length(self, const float[::1] first, const float[::1] second, const float[::1] third):
        if not first.shape[0] == second.shape[0] == third.shape[0] == self.n_flat:
            raise ValueError(f"arrays of parameters must have {self.n_flat} values")

    def is_finite(self):
        """Whether the network, the optimizer's state and the cost are."""
        cdef int weights, first, second
        kernels.is_finite(&weights, self.weights, self.n_parameters)
        kernels.is_finite(&first, self.moment_1, self.n_parameters)
        kernels.is_finite(&second, self.moment_2, self.n_parameters)
        return weights and first and second and isfinite(self.cost)

    def set_optimizer(self, optimizer):
        """Take an optimizer's hyper-parameters: `rule` ("sgd", "nesterov", "adam") and those that it has."""
        cdef int rule = RULES[optimizer.rule]
        clip_norm = getattr(optimizer, "clip_norm", None) or 0.0
        if (clip_norm > 0) != (self.clip_norm > 0):
            self.programmed = False  # from the next epoch on, with room for the gradient or without
        self.clip_norm = clip_norm
        self.constants.rule = rule
        self.learning_rate = optimizer.learning_rate
        self.beta_1 = optimizer.beta_1 if rule == FM_ADAM else optimizer.momentum
        self.beta_2 = optimizer.beta_2 if rule == FM_ADAM else 0.0
        self.epsilon = optimizer.epsilon if rule == FM_ADAM else 0.0
        self.constants.rate = self.learning_rate
        self.constants.decay = 1 - self.learning_rate * getattr(optimizer, "weight_decay", 0.0)
        self.constants.beta_1, self.constants.one_minus_beta_1 = self.beta_1, 1 - self.beta_1
        self.constants.beta_2, self.constants.one_minus_beta_2 = self.beta_2, 1 - self.beta_2
        self.constants.epsilon = self.epsilon
        self.correct_bias()

    cdef void correct_bias(self) noexcept nogil:
        """What the number of the next step changes about Adam's constants."""
        cdef Py_ssize_t t = self.step + 1
        cdef double correction
        if self.constants.rule == FM_ADAM:
            correction = sqrt(1 - pow(self.beta_2, t))
            self.constants.rate = self.learning_rate * correction / (1 - pow(self.beta_1, t))
            self.constants.epsilon = self.epsilon * correction

    # -- Room for a batch of these rows, and its program

    cdef make_room(self, Rows rows):
        cdef Py_ssize_t sets = 1, strip = self.capacity, i
        cdef int n_threads = self.n_threads
        cdef bint whole = self.cut_at_gradient or self.clip_norm > 0 or self.capacity < self.batch_size
        cdef Buffers buffers = Buffers()
        self.check_rows(rows)
        self.batch_buffers, self.rows, self.program_buffers, self.programmed = buffers, rows, None, True
        self.chained = (not rows.listed and self.n_parameters <= CHAIN_PARAMETERS and self.loss >= 0
                        and not self.cut_at_gradient and self.clip_norm <= 0)
        if self.chained:
            strip = max(min(self.batch_size, CHAIN_ROWS), (self.batch_size + MOST_CHAINS - 1) // MOST_CHAINS)
            n_threads = sets = min(n_threads, self.chains(self.batch_size))
            self.gradients = buffers.floats(self.chains(self.batch_size) * self.n_parameters)
        elif whole:
            self.gradients = buffers.floats(self.n_parameters)
        self.h = <Matrix *>buffers.allocate(sizeof(Matrix) * (self.n_layers + 1) * sets)
        self.dz = <Matrix *>buffers.allocate(sizeof(Matrix) * (self.n_layers + 1) * sets)
        for i in range(sets):
            self.add_activations(self.h + i * (self.n_layers + 1), self.dz + i * (self.n_layers + 1), strip)
        i = self.batch_size if self.chained else self.capacity
        self.labels = <int64_t *>buffers.allocate(8 * i)
        self.targets = buffers.floats(i * self.m if rows.targets is not None else 0)
        self.scale, self.losses = buffers.floats(i), buffers.floats(i)
        self.start_team(n_threads)

    cdef check_rows(self, Rows rows):
        """Refuse rows that this network does not fit."""
        cdef Py_ssize_t i
        if rows.k != self.layers[0].k:
            raise ValueError(f"rows must have {self.layers[0].k} columns, not {rows.k}")
        if rows.targets is not None and rows.targets.shape[1] != self.m:
            raise ValueError(f"targets must have {self.m} columns, not {rows.targets.shape[1]}")
        if rows.labels is not None:
            for i in range(rows.n):
                if not 0 <= rows.labels[i] < self.m:
                    raise ValueError(f"labels must be from 0 to {self.m - 1}, not {rows.labels[i]}")
        elif rows.targets is None and self.loss >= 0:
            raise ValueError("rows must have labels or targets")

    cdef Py_ssize_t chains(self, Py_ssize_t rows) noexcept:
        return min((rows + CHAIN_ROWS - 1) // CHAIN_ROWS, MOST_CHAINS)

    cdef add_activations(self, Matrix *h, Matrix *dz, Py_ssize_t rows):
        """Room for the activations of so many rows, and for their gradients."""
        cdef Py_ssize_t l
        cdef bint lists
        cdef Layer *layer
        cdef Buffers buffers = self.batch_buffers
        h[0] = self.rows.matrix(rows, True, buffers)
        for l in range(1, self.n_layers):
            layer = &self.layers[l]
            lists = self.layers[l - 1].makes_zeros and not self.chained
            h[l] = make_panels(rows, layer.k, lists and worth_listing(layer.k, layer.m), buffers)
            if h[l].listed:
                add_column_lists(&h[l], buffers)
            lists = l > 1 and lists and worth_listing(layer.k, self.layers[l - 1].k)
            dz[l] = make_panels(rows, layer.k, lists, buffers)
        h[self.n_layers] = make_rows(rows, self.m, buffers)
        dz[self.n_layers] = h[self.n_layers]

    cdef write_programs(self, Py_ssize_t last_rows):
        """The programs of a whole batch, and of the epoch's last one."""
        self.program_buffers, self.last_rows = Buffers(), last_rows
        self.write_program(&self.programs[0], self.batch_size)
        self.write_program(&self.programs[1], last_rows)

    cdef write_program(self, Program *program, Py_ssize_t rows):
        cdef Py_ssize_t i, end = 0
        cdef Task *task
        if self.chained:
            phases = chained_step(rows, self.chains(rows), self.slabs())
        else:
            # A smaller batch that would not need parts takes the road of the others: their gradients are rounded alike.
            phases = layered_step(
                self.shapes(), rows, self.capacity, self.n_threads, self.slabs(),
                whole=self.capacity < self.batch_size, norm=self.clip_norm > 0, cut_at_loss=self.loss < 0,
                cut_at_gradient=self.cut_at_gradient,
            )
        program.n_phases = len(phases)
        program.phases = <Phase *>self.program_buffers.allocate(sizeof(Phase) * len(phases))
        program.tasks = <Task *>self.program_buffers.allocate(sizeof(Task) * sum(len(tasks) for _, tasks in phases))
        for i, (base, tasks) in enumerate(phases):
            program.phases[i].first, program.phases[i].count, program.phases[i].base = end, len(tasks), base
            for kind, l, index, first, n in tasks:
                task = &program.tasks[end]
                task.kind, task.layer, task.index, task.first, task.n = kind, l, index, first, n
                end += 1

    cdef shapes(self):
        """What `layered_step` asks of each layer."""
        cdef Py_ssize_t l
        found = []
        for l in range(self.n_layers):
            found.append((
                panels_of(self.layers[l].k), self.layers[l].panels,
                (self.layers[l].k + self.h[l].block - 1) // self.h[l].block,
                self.h[l].blocks * self.h[l].chunks if self.h[l].column_entries != NULL else 0,
            ))
        return found

    # -- Running

    def start_epoch(self, Rows rows, const int64_t[::1] order):
        """Begin an epoch over these of the rows, in this order.

        Raises
        ------
        ValueError
            There is none, or one that the rows do not have.
        """
        cdef Py_ssize_t n = order.shape[0], i
        cdef int64_t least = 0, most = 0
        for i in range(n):
            least, most = min(least, order[i]), max(most, order[i])
        if n == 0 or least < 0 or most >= rows.n:
            raise ValueError(f"order must have at least one row, all from 0 to {rows.n - 1}")
        if rows is not self.rows or not self.programmed:
            self.make_room(rows)
        self.n_batches = (n + self.batch_size - 1) // self.batch_size
        i = n - (self.n_batches - 1) * self.batch_size
        if self.program_buffers is None or i != self.last_rows:
            self.write_programs(i)
        self.order = order
        self.batch, self.total_cost = 0, 0
        self.begin()

    def run(self):
        """Take a slice of steps, about 10 ms of work, without the GIL; or up to the next cut.

        Raises
        ------
        RuntimeError
            The epoch has ended.
        """
        if self.batch >= self.n_batches:
            raise RuntimeError("the epoch has ended: start_epoch begins another one")
        self.run_slice(1 if self.loss < 0 or self.cut_at_gradient else self.n_batches - self.batch)

    @property
    def cost(self):
        """Mean of the costs of the epoch's batches so far."""
        return self.total_cost / self.batch

    cdef bint advance(self) noexcept nogil:
        """To the next phase; at a cut, past it, and the slice ends."""
        cdef Py_ssize_t i
        cdef double squares = 0
        if self.tasks[0].kind == NORM:
            for i in range(self.now.count):
                squares += self.squares[i]
            self.clip = self.clip_norm / sqrt(squares) if squares > self.clip_norm * self.clip_norm > 0 else 1
        self.phase += 1
        if self.phase == self.program().n_phases:
            self.batch += 1
            self.step += 1
            self.steps -= 1
            if self.batch < self.n_batches:
                self.begin()
            return self.batch < self.n_batches and self.steps > 0
        self.enter()
        if self.tasks[0].kind == CUT:
            self.phase += 1
            self.enter()
            return False
        return True

    cdef const Program *program(self) noexcept nogil:
        return &self.programs[self.batch == self.n_batches - 1]

    cdef void enter(self) noexcept nogil:
        """Make the phase the one at hand."""
        cdef const Program *program = self.program()
        self.now = program.phases + self.phase
        self.tasks = program.tasks + self.now.first

    cdef void begin(self) noexcept nogil:
        """The batch's first phase, the scale of its losses, the optimizer's constants, which lists are worth making."""
        cdef Py_ssize_t n = self.order.shape[0], first = self.batch * self.batch_size
        cdef Py_ssize_t end = min(n, first + self.batch_size), i, l
        cdef double total = end - first
        self.phase = 0
        self.enter()
        if self.rows.weights is not None:
            total = 0
            for i in range(first, end):
                total += self.rows.weights[self.order[i]]
        self.row_scale = 1 / total if total > 0 else 0

        self.correct_bias()

        if not self.chained:
            for l in range(1, self.n_layers):
                if self.batch == 0:
                    self.h[l].listed, self.dz[l].listed = self.h[l].entries != NULL, self.dz[l].entries != NULL
                else:
                    drop_full_lists(&self.h[l], self.part_rows, self.layers[l].k)
                    drop_full_lists(&self.dz[l], self.part_rows, self.layers[l].k)

    cdef Py_ssize_t count_tasks(self) noexcept nogil:
        return self.now.count

    cdef void run_task(self, Py_ssize_t i, int thread) noexcept nogil:
        cdef const Task *task = self.tasks + i
        cdef Py_ssize_t l = task.layer, blocks
        if task.kind == CHAIN:
            self.chain(self.h + thread * (self.n_layers + 1), self.dz + thread * (self.n_layers + 1), task)
        elif task.kind == SUM:
            self.sum(task.index * SLAB, task.n)
        elif task.kind == GATHER:
            self.gather(self.h, task.first, task.first, task.n)
        elif task.kind == FORWARD:
            forward(&self.layers[l], &self.h[l], &self.h[l + 1], task.index, task.first, task.n)
        elif task.kind == LOSS:
            self.compute_loss(&self.h[l], task.first, task.first, task.n)
        elif task.kind == COST:
            self.add_cost(task.n)
        elif task.kind == COLUMNS:
            if self.h[l].listed:
                list_columns(&self.h[l], task.index // self.h[l].chunks, task.index % self.h[l].chunks, task.n)
        elif task.kind == BACKWARD:
            backward(&self.layers[l], &self.layers[l - 1], &self.dz[l + 1], &self.h[l], &self.dz[l], self.zeros,
                     task.index, task.first, task.n)
        elif task.kind == APPLY:
            self.apply(task.index * SLAB)
        elif task.kind == NORM:
            self.add_squares(task.index)
        else:
            blocks = (self.layers[l].k + self.h[l].block - 1) // self.h[l].block
            if task.kind == UPDATE:
                update(&self.layers[l], &self.h[l], &self.dz[l + 1], self.zeros, &self.constants, task.index // blocks,
                       task.index % blocks, task.n)
            else:
                block_gradient(self.gradients + (self.layers[l].weights - self.weights), &self.layers[l], &self.h[l],
                               &self.dz[l + 1], self.zeros, task.index // blocks, task.index % blocks, task.n,
                               task.kind == ADD_GRADIENT)

    # -- Tasks of its own; those of a panel are in layer.pyx

    cdef void chain(self, Matrix *h, Matrix *dz, const Task *task) noexcept nogil:
        """Rows of the batch through all layers and back."""
        cdef Py_ssize_t l, panel, n = task.n
        cdef float *gradients = self.gradients + task.index * self.n_parameters
        self.gather(h, 0, task.first, n)
        for l in range(self.n_layers):
            for panel in range(self.layers[l].panels):
                forward(&self.layers[l], h + l, h + l + 1, panel, 0, n)
        self.compute_loss(h + self.n_layers, 0, task.first, n)
        for l in range(self.n_layers - 1, 0, -1):
            for panel in range(panels_of(self.layers[l].k)):
                backward(&self.layers[l], &self.layers[l - 1], dz + l + 1, h + l, dz + l, self.zeros, panel, 0, n)
        for l in range(self.n_layers):
            whole_gradient(gradients, &self.layers[l], h + l, dz + l + 1, self.zeros, n)
            gradients += panel_floats(&self.layers[l])

    cdef void sum(self, Py_ssize_t first, Py_ssize_t n) noexcept nogil:
        """The sum of n gradients of a slab of parameters, and the optimizer's step on it."""
        cdef float memory[SLAB + 16]
        cdef float *sums = aligned(memory)
        cdef Py_ssize_t count = min(<Py_ssize_t>SLAB, self.n_parameters - first)
        kernels.column_sums(sums, self.gradients + first, self.n_parameters, n, count)
        kernels.update(self.weights + first, self.moment_1 + first, self.moment_2 + first, sums, count, &self.constants)

    cdef void apply(self, Py_ssize_t first) noexcept nogil:
        """The optimizer's step on a slab of parameters."""
        cdef Py_ssize_t count = min(<Py_ssize_t>SLAB, self.n_parameters - first)
        if self.clip < 1:
            kernels.scale(self.gradients + first, self.clip, count)
        kernels.update(self.weights + first, self.moment_1 + first, self.moment_2 + first, self.gradients + first,
                       count, &self.constants)

    cdef void add_squares(self, Py_ssize_t slab) noexcept nogil:
        cdef const float *gradient = self.gradients + slab * SLAB
        cdef Py_ssize_t i
        self.squares[slab] = 0
        for i in range(min(<Py_ssize_t>SLAB, self.n_parameters - slab * SLAB)):
            self.squares[slab] += <double>gradient[i] * gradient[i]

    cdef void gather(self, Matrix *x, Py_ssize_t place, Py_ssize_t first, Py_ssize_t n) noexcept nogil:
        """Rows [first, first + n) of the batch's part to rows of x from `place` on; their targets and weights."""
        cdef const int64_t *rows = &self.order[self.batch * self.batch_size + self.now.base + first]
        cdef const int64_t *label_of
        cdef int64_t *labels = self.labels + first
        cdef float *scale = self.scale + first
        cdef float row_scale = self.row_scale
        cdef Py_ssize_t i
        self.rows.gather(x, place, rows, n)
        if self.rows.labels is not None:
            label_of = &self.rows.labels[0]
            for i in range(n):
                labels[i] = label_of[rows[i]]
        elif self.rows.targets is not None:
            kernels.gather(self.targets + first * self.m, &self.rows.targets[0, 0], rows, n, self.m)
        for i in range(n):
            scale[i] = row_scale
        if self.rows.weights is not None:
            for i in range(n):
                scale[i] = self.rows.weights[rows[i]] * self.row_scale

    cdef void compute_loss(self, const Matrix *logits, Py_ssize_t place, Py_ssize_t first,
                           Py_ssize_t n) noexcept nogil:
        """The losses of rows [first, first + n); their gradients take the place of the logits."""
        kernels.loss(logits.data + place * logits.ld, self.losses + first, logits.ld,
                     self.labels + first if self.rows.labels is not None else NULL, self.targets + first * self.m,
                     self.scale + first, n, self.m, self.loss)

    cdef void add_cost(self, Py_ssize_t n) noexcept nogil:
        cdef double cost = 0
        cdef Py_ssize_t i
        for i in range(n):
            cost += <double>self.scale[i] * self.losses[i]
        self.total_cost += cost

    # -- A loss of Python's own, in the cut after the forward pass

    def cut_rows(self):
        """Return the rows whose logits wait for their losses, int64 (n,)."""
        cdef Py_ssize_t first = self.batch * self.batch_size + self.now.base
        return np.array(self.order[first:first + self.tasks[0].n])

    def logits(self):
        """Return the outputs of these rows before the loss, float32 (n, m)."""
        cdef const Matrix *outputs = &self.h[self.n_layers]
        cdef Py_ssize_t n = self.tasks[0].n
        cdef float[:, ::1] found = np.empty((n, self.m), np.float32)
        kernels.copy(&found[0, 0], self.m, outputs.data, outputs.ld, n, self.m)
        return np.asarray(found)

    def set_losses(self, const float[::1] losses, const float[:, ::1] dlogits):
        """Take these rows' losses (n,), and the gradients of their logits (n, m)."""
        cdef Matrix *outputs = &self.h[self.n_layers]
        cdef Py_ssize_t n = self.tasks[0].n, i, j
        if losses.shape[0] != n or dlogits.shape[0] != n or dlogits.shape[1] != self.m:
            raise ValueError(f"losses must have shape ({n},), dlogits ({n}, {self.m})")
        for i in range(n):
            self.losses[i] = losses[i]
            for j in range(self.m):
                outputs.data[i * outputs.ld + j] = dlogits[i, j] * self.scale[i]
