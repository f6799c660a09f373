# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: freethreading_compatible=True
"""The fused training step.

Weights and activations are kept in panels of 64 columns. A step is a program: a list of phases, each a list of
independent tasks, which the threads share out; no sum is ever split, so that any number of threads gives the same bits.
"""

cimport cython
from cython.parallel cimport parallel, threadid
from libc.math cimport isfinite, pow, sqrt
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int64_t, uint64_t

import time

from fastmlp._inputs cimport Inputs
from fastmlp._kernels cimport (
    FM_ADAM, FM_IDENTITY, FM_NESTEROV, FM_PANEL, FM_RELU, FM_SGD, FM_STORE, aligned, fm_flush_denormals,
    fm_loss_gradient, fm_restore_denormals, fm_step, kernels, loss_kernel,
)
from fastmlp._layers cimport (
    UPDATE_ROWS, Layer, backward, forward, make_layer, pack, panel_floats, unpack, update, whole_gradient,
)
from fastmlp._panels cimport (
    Buffers, Matrix, add_column_lists, drop_full_lists, list_columns, make_panels, make_rows, panels_of,
    worth_listing_hidden,
)

cdef extern from *:
    """
    #ifdef _OPENMP
    #include <omp.h>
    #else
    #define omp_get_num_threads() 1
    #endif
    """
    int omp_get_num_threads() noexcept nogil

cdef extern from "_rendezvous.h" nogil:
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

# A network of at most so many parameters stays in the caches near a core, and so do CHAIN_ROWS rows of its activations:
# then each thread takes rows through all layers and back by itself.
cdef Py_ssize_t CHAIN_PARAMETERS = 16384
cdef Py_ssize_t CHAIN_ROWS = 128
# A batch has at most so many chains, as each has a gradient of its own: at most 16 MB together.
cdef Py_ssize_t MOST_CHAINS = 256
# Rows of a task at most: 128 rows of a panel of outputs, 32 KB, are added to while blocks of weights pass.
cdef Py_ssize_t TASK_ROWS = 128
cdef enum:
    SLAB = 1024  # parameters whose gradients are added up, and which are then updated, at a time
# Seconds of steps between two looks at signals and the clock.
cdef double SLICE = 0.01
# Two slices in so many try another number of threads. Fewer than all are tried seldom: where they would be faster,
# because other processes are at work, the slices with all threads show it by themselves.
cdef Py_ssize_t EXPLORE = 20
cdef Py_ssize_t EXPLORE_FEWER = 200

cdef enum Kind:
    GATHER
    FORWARD
    LOSS
    COST
    COLUMNS
    BACKWARD
    UPDATE
    CHAIN
    SUM

RULES = {"store": FM_STORE, "sgd": FM_SGD, "nesterov": FM_NESTEROV, "adam": FM_ADAM}

cdef struct Task:
    Kind kind
    Py_ssize_t layer, index     # index: of a panel or a block
    Py_ssize_t first, n         # rows

cdef struct Phase:
    Py_ssize_t first, count     # of tasks


@cython.final
cdef class Trainer:
    """One run of training: the network in panels, the buffers of a batch, and the program of a step.

    Parameters
    ----------
    layer_sizes : sequence of int
    parameters : float32 array
        Flat, each layer's weights (k, m) and then its bias; read now, written by `store`.
    moments : list of two float32 arrays like `parameters`
        The optimizer's state; read now, written by `store`.
    activation, loss : int
        Their codes.
    inputs : Inputs
    labels : int64 array (n,) or None
    targets : float32 array (n, m) or None
        Given where labels is None.
    sample_weight : float32 array (n,) or None
    batch_size : int
    optimizer : object
        With `rule` ("sgd", "nesterov", "adam") and its hyper-parameters.
    step : int
        Steps that the optimizer has taken before.
    n_threads : int
        At most; the trainer measures which number is the fastest.
    """

    cdef readonly Py_ssize_t step           # of the optimizer, over its whole life
    cdef readonly Py_ssize_t batch          # of the epoch: how many are done
    cdef readonly Py_ssize_t n_batches
    cdef Py_ssize_t n, m, n_layers, batch_size
    cdef int n_threads
    # Numbers of threads to choose from, and the seconds that a batch takes with each
    cdef int counts[32]
    cdef double seconds[32]
    cdef Py_ssize_t n_counts, slices
    cdef Buffers buffers
    cdef Inputs inputs
    cdef Layer *layers
    cdef Py_ssize_t n_parameters            # in panels, with their padding: the layers' lie one after the other
    cdef float *weights
    cdef float *first
    cdef float *second
    # One set or, where threads take rows through all layers, one a thread
    cdef Matrix *h                          # h[l]: inputs of layer l; h[n_layers]: the logits, then their gradient
    cdef Matrix *dz                         # dz[l]: gradient of h[l] before its activation; dz[n_layers] is h[n_layers]
    cdef bint chained
    cdef float *gradients                   # of each CHAIN task
    cdef float *zeros
    cdef fm_loss_gradient *loss
    cdef fm_step constants
    cdef double learning_rate, beta_1, beta_2, epsilon
    # The batch
    cdef const int64_t[::1] order, label_of
    cdef const float[:, ::1] target_of
    cdef const float[::1] weight_of
    cdef int64_t *labels
    cdef float *targets
    cdef float *scale
    cdef double unit                        # scale of a row of weight 1
    cdef float *losses
    cdef double total_cost
    # The program for a whole batch and, where the last one is smaller, for that one
    cdef Task *tasks[2]
    cdef Phase *phases[2]
    cdef Py_ssize_t n_phases
    cdef Rendezvous rendezvous

    def __cinit__(self, *arguments):
        open_rendezvous(&self.rendezvous)

    def __dealloc__(self):
        close_rendezvous(&self.rendezvous)

    def __init__(self, layer_sizes, const float[::1] parameters, moments, int activation, int loss, Inputs inputs,
                 labels, targets, sample_weight, Py_ssize_t batch_size, optimizer, Py_ssize_t step, int n_threads):
        cdef Py_ssize_t l, k, m, i, sets, rows
        cdef Buffers buffers = Buffers()
        self.buffers, self.inputs, self.n_threads, self.step = buffers, inputs, n_threads, step
        self.rendezvous.runs = <Run *>buffers.get(sizeof(Run) * n_threads)
        self.n_layers = len(layer_sizes) - 1
        self.n, self.m, self.batch_size = inputs.n, layer_sizes[self.n_layers], min(batch_size, inputs.n)
        self.n_batches = (self.n + self.batch_size - 1) // self.batch_size
        self.batch = self.n_batches
        self.label_of, self.target_of, self.weight_of = labels, targets, sample_weight

        self.layers = <Layer *>buffers.get(sizeof(Layer) * self.n_layers)
        for l in range(self.n_layers):
            k, m = layer_sizes[l], layer_sizes[l + 1]
            self.layers[l] = make_layer(k, m, FM_IDENTITY if l == self.n_layers - 1 else activation)
            self.n_parameters += panel_floats(&self.layers[l])
        self.weights = buffers.floats(self.n_parameters)
        self.first, self.second = buffers.floats(self.n_parameters), buffers.floats(self.n_parameters)
        k = 0
        for l in range(self.n_layers):
            self.layers[l].weights, self.layers[l].first = self.weights + k, self.first + k
            self.layers[l].second = self.second + k
            k += panel_floats(&self.layers[l])

        self.chained = not inputs.listed and self.n_parameters <= CHAIN_PARAMETERS
        sets, rows = 1, self.batch_size
        if self.chained:
            rows = max(min(rows, CHAIN_ROWS), (rows + MOST_CHAINS - 1) // MOST_CHAINS)
            self.n_threads = sets = min(n_threads, self.chains(self.batch_size))
            self.gradients = buffers.floats(self.chains(self.batch_size) * self.n_parameters)
        self.h = <Matrix *>buffers.get(sizeof(Matrix) * (self.n_layers + 1) * sets)
        self.dz = <Matrix *>buffers.get(sizeof(Matrix) * (self.n_layers + 1) * sets)
        for i in range(sets):
            self.add_activations(self.h + i * (self.n_layers + 1), self.dz + i * (self.n_layers + 1), rows)
        self.zeros = buffers.floats(FM_PANEL)
        self.load(parameters, moments)

        self.loss = loss_kernel(loss)
        self.set_optimizer(optimizer)
        self.labels = <int64_t *>buffers.get(8 * self.batch_size)
        self.targets = buffers.floats(self.batch_size * self.m)
        self.scale, self.losses = buffers.floats(self.batch_size), buffers.floats(self.batch_size)
        n_threads = self.n_threads
        while n_threads > 0:
            self.counts[self.n_counts] = n_threads
            self.n_counts += 1
            n_threads //= 2
        self.write_program(0, self.batch_size)
        self.write_program(1, self.n - (self.n_batches - 1) * self.batch_size)

    cdef Py_ssize_t chains(self, Py_ssize_t rows):
        return min((rows + CHAIN_ROWS - 1) // CHAIN_ROWS, MOST_CHAINS)

    cdef add_activations(self, Matrix *h, Matrix *dz, Py_ssize_t rows):
        """Room for the activations of so many rows, and for their gradients."""
        cdef bint lists = self.layers[0].activation == FM_RELU and not self.chained
        cdef Py_ssize_t l
        cdef Layer *layer
        h[0] = self.inputs.matrix(rows, self.buffers)
        for l in range(1, self.n_layers):
            layer = &self.layers[l]
            h[l] = make_panels(rows, layer.k, lists and worth_listing_hidden(rows, layer.k, layer.m), self.buffers)
            if h[l].listed:
                add_column_lists(&h[l], self.buffers)
            dz[l] = make_panels(rows, layer.k, l > 1 and lists and
                                worth_listing_hidden(rows, layer.k, self.layers[l - 1].k), self.buffers)
        h[self.n_layers] = make_rows(rows, self.m, self.buffers)
        dz[self.n_layers] = h[self.n_layers]

    # -- State: between the caller's flat arrays and panels

    def load(self, const float[::1] parameters, moments):
        """Take over a network and an optimizer's state, at the beginning or between two slices."""
        cdef const float[::1] first = moments[0], second = moments[1]
        cdef Py_ssize_t l, offset = 0
        for l in range(self.n_layers):
            pack(self.layers[l].weights, &self.layers[l], &parameters[offset])
            pack(self.layers[l].first, &self.layers[l], &first[offset])
            pack(self.layers[l].second, &self.layers[l], &second[offset])
            offset += (self.layers[l].k + 1) * self.layers[l].m

    def store(self, float[::1] parameters, moments):
        """Write the network and the optimizer's state as they are after the last whole batch."""
        cdef float[::1] first = moments[0], second = moments[1]
        cdef Py_ssize_t l, offset = 0
        for l in range(self.n_layers):
            unpack(&parameters[offset], &self.layers[l], self.layers[l].weights)
            unpack(&first[offset], &self.layers[l], self.layers[l].first)
            unpack(&second[offset], &self.layers[l], self.layers[l].second)
            offset += (self.layers[l].k + 1) * self.layers[l].m

    def is_finite(self):
        """Whether the network, the optimizer's state and the cost are."""
        cdef int weights, first, second
        kernels.is_finite(&weights, self.weights, self.n_parameters)
        kernels.is_finite(&first, self.first, self.n_parameters)
        kernels.is_finite(&second, self.second, self.n_parameters)
        return weights and first and second and isfinite(self.cost)

    def set_optimizer(self, optimizer):
        """Take over the optimizer's rule and numbers, at the beginning or between two slices."""
        cdef int rule = RULES[optimizer.rule]
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

    # -- The program

    cdef write_program(self, int which, Py_ssize_t rows):
        phases = self.chain_phases(rows) if self.chained else self.layer_phases(rows)
        self.n_phases = len(phases)
        self.phases[which] = <Phase *>self.buffers.get(sizeof(Phase) * self.n_phases)
        self.tasks[which] = <Task *>self.buffers.get(sizeof(Task) * sum(map(len, phases)))
        cdef Py_ssize_t i, end = 0
        cdef Task *task
        for i, tasks in enumerate(phases):
            self.phases[which][i].first, self.phases[which][i].count = end, len(tasks)
            for kind, l, index, first, n in tasks:
                task = &self.tasks[which][end]
                task.kind, task.layer, task.index, task.first, task.n = kind, l, index, first, n
                end += 1

    def chain_phases(self, Py_ssize_t rows):
        """Rows through all layers and back, and then the sum of their gradients: for small networks."""
        cdef Py_ssize_t count = self.chains(rows), i
        return [
            [(CHAIN, 0, i, rows * i // count, rows * (i + 1) // count - rows * i // count) for i in range(count)],
            [(COST, 0, 0, 0, rows)] + [(SUM, 0, i, 0, count) for i in range((self.n_parameters + SLAB - 1) // SLAB)],
        ]

    def layer_phases(self, Py_ssize_t rows):
        """One layer after the other, the threads sharing its panels."""
        phases = [self.row_tasks(GATHER, 0, 1, rows)]
        for l in range(self.n_layers):
            phases.append(self.row_tasks(FORWARD, l, self.layers[l].panels, rows))
        phases.append(self.row_tasks(LOSS, self.n_layers, 1, rows))
        between = [(COST, 0, 0, 0, rows)]
        for l in range(self.n_layers):
            if self.h[l].listed:
                between += [(COLUMNS, l, block, 0, rows) for block in range(self.h[l].blocks * self.h[l].chunks)]
        phases.append(between)
        for l in range(self.n_layers - 1, 0, -1):
            phases.append(self.row_tasks(BACKWARD, l, panels_of(self.layers[l].k), rows))
        for l in range(self.n_layers):
            blocks = (self.layers[l].k + self.h[l].block - 1) // self.h[l].block
            phases.append([(UPDATE, l, panel * blocks + block, 0, rows)
                           for panel in range(self.layers[l].panels) for block in range(blocks)])
        return phases

    def row_tasks(self, int kind, Py_ssize_t layer, Py_ssize_t panels, Py_ssize_t rows):
        """Panels by blocks of at most TASK_ROWS rows, of more blocks where these do not share out evenly."""
        cdef Py_ssize_t blocks = (rows + TASK_ROWS - 1) // TASK_ROWS, tasks, block
        cdef Py_ssize_t most = max(blocks, rows // UPDATE_ROWS)
        while blocks < most:
            tasks = panels * blocks
            if (tasks + self.n_threads - 1) // self.n_threads * self.n_threads <= 1.1 * tasks:
                break
            blocks += 1
        return [(kind, layer, panel, rows * block // blocks, rows * (block + 1) // blocks - rows * block // blocks)
                for panel in range(panels) for block in range(blocks)]

    cdef void run_task(self, const Task *task, int thread) noexcept nogil:
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
            self.lose(&self.h[l], task.first, task.first, task.n)
        elif task.kind == COST:
            self.add_cost(task.n)
        elif task.kind == COLUMNS:
            if self.h[l].listed:
                list_columns(&self.h[l], task.index // self.h[l].chunks, task.index % self.h[l].chunks, task.n)
        elif task.kind == BACKWARD:
            backward(&self.layers[l], &self.layers[l - 1], &self.dz[l + 1], &self.h[l], &self.dz[l], self.zeros,
                     task.index, task.first, task.n)
        else:
            blocks = (self.layers[l].k + self.h[l].block - 1) // self.h[l].block
            update(&self.layers[l], &self.h[l], &self.dz[l + 1], self.zeros, &self.constants,
                   task.index // blocks, task.index % blocks, task.n)

    cdef void chain(self, Matrix *h, Matrix *dz, const Task *task) noexcept nogil:
        """Rows through all layers and back."""
        cdef Py_ssize_t l, panel, n = task.n
        cdef float *gradients = self.gradients + task.index * self.n_parameters
        self.gather(h, 0, task.first, n)
        for l in range(self.n_layers):
            for panel in range(self.layers[l].panels):
                forward(&self.layers[l], h + l, h + l + 1, panel, 0, n)
        self.lose(h + self.n_layers, 0, task.first, n)
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
        kernels.update(self.weights + first, self.first + first, self.second + first, sums, count, &self.constants)

    cdef void gather(self, Matrix *x, Py_ssize_t place, Py_ssize_t first, Py_ssize_t n) noexcept nogil:
        """Rows [first, first + n) of the batch to rows of x from `place` on; their targets and weights."""
        cdef const int64_t *rows = &self.order[self.batch * self.batch_size + first]
        cdef const int64_t *label_of
        cdef int64_t *labels = self.labels + first
        cdef float *scale = self.scale + first
        cdef float unit = self.unit
        cdef Py_ssize_t i
        self.inputs.gather(x, place, rows, n)
        if self.label_of is not None:
            label_of = &self.label_of[0]
            for i in range(n):
                labels[i] = label_of[rows[i]]
        else:
            kernels.gather(self.targets + first * self.m, &self.target_of[0, 0], rows, n, self.m)
        for i in range(n):
            scale[i] = unit
        if self.weight_of is not None:
            for i in range(n):
                scale[i] = self.weight_of[rows[i]] * self.unit

    cdef void lose(self, const Matrix *logits, Py_ssize_t place, Py_ssize_t first, Py_ssize_t n) noexcept nogil:
        """The losses of rows [first, first + n) of the batch; their gradients take the place of the logits."""
        self.loss(logits.data + place * logits.row, self.losses + first, logits.row,
                  self.labels + first if self.label_of is not None else NULL, self.targets + first * self.m,
                  self.scale + first, n, self.m)

    # -- The batch as a whole, while no thread is at work

    cdef void begin(self) noexcept nogil:
        """The scale of the losses, the optimizer's constants, and which lists are worth making."""
        cdef Py_ssize_t first = self.batch * self.batch_size, end = min(self.n, first + self.batch_size)
        cdef Py_ssize_t i, l
        cdef double total = end - first
        if self.weight_of is not None:
            total = 0
            for i in range(first, end):
                total += self.weight_of[self.order[i]]
        self.unit = 1 / total if total > 0 else 0

        self.correct_bias()

        for l in range(1, self.n_layers):
            if self.batch == 0:
                self.h[l].listed, self.dz[l].listed = self.h[l].entries != NULL, self.dz[l].entries != NULL
            else:
                drop_full_lists(&self.h[l], self.batch_size, self.layers[l].k)
                drop_full_lists(&self.dz[l], self.batch_size, self.layers[l].k)

    cdef void add_cost(self, Py_ssize_t n) noexcept nogil:
        cdef double cost = 0
        cdef Py_ssize_t i
        for i in range(n):
            cost += <double>self.scale[i] * self.losses[i]
        self.total_cost += cost

    # -- Running

    def start_epoch(self, const int64_t[::1] order):
        """Begin an epoch over the rows in this order."""
        self.order = order
        self.batch, self.total_cost = 0, 0
        self.begin()

    def run(self):
        """Take a slice of steps, about 10 ms of work, without the GIL."""
        cdef bint first_look = self.slices < 2 * self.n_counts
        cdef Py_ssize_t i = self.slices // 2 if first_look else self.choose_count(), batches
        cdef int n_threads = self.counts[i]
        cdef double seconds = self.seconds[i] if self.seconds[i] > 0 else SLICE
        batches = max(<Py_ssize_t>1, min(self.n_batches - self.batch, <Py_ssize_t>(SLICE / seconds)))
        deal(&self.rendezvous, n_threads, self.phase(0).count)
        started = time.perf_counter()
        if n_threads == 1:  # and no parallel region, which a forked child could not enter
            with nogil:
                self.work(0, 1, batches)
        else:
            with nogil, parallel(num_threads=n_threads):
                self.work(threadid(), omp_get_num_threads(), batches)
        seconds = (time.perf_counter() - started) / batches
        # Down at once and up slowly: one slice that was interrupted is no reason to change.
        self.seconds[i] = min(seconds, 1.1 * self.seconds[i]) if self.seconds[i] > 0 else seconds
        self.slices += 1
        if self.slices == 2 and seconds > SLICE:  # a large step is not for fewer threads; time will show
            for i in range(1, self.n_counts):
                self.seconds[i] = 2 * seconds
            self.slices = 2 * self.n_counts

    cdef Py_ssize_t choose_count(self) noexcept:
        """Which number of threads takes the next slice: mostly the fastest so far, now and then another one.

        The bits do not depend on it, so it can follow what is measured: a small network is faster on one thread, and
        so is a large one while another process has the other processors.
        """
        cdef Py_ssize_t i, best = 0, every
        for i in range(1, self.n_counts):
            if self.seconds[i] < self.seconds[best]:
                best = i
        every = EXPLORE if best > 0 else EXPLORE_FEWER
        if self.n_counts == 1 or self.slices % every > 1:
            return best
        if best == 0 or (best < self.n_counts - 1 and self.slices // every % 2):
            return best + 1
        return best - 1

    cdef void work(self, int thread, int n_threads, Py_ssize_t batches) noexcept nogil:
        """One thread's part of some batches. The last thread to arrive at the end of a phase begins the next one."""
        cdef Py_ssize_t _, i, t
        cdef const Phase *phase
        cdef const Task *tasks
        cdef uint64_t denormals
        fm_flush_denormals(&denormals)
        for _ in range(batches):
            for i in range(self.n_phases):
                phase = self.phase(i)
                tasks = self.tasks[self.batch == self.n_batches - 1] + phase.first
                t = claim(&self.rendezvous, thread)
                while t >= 0:
                    self.run_task(&tasks[t], thread)
                    t = claim(&self.rendezvous, thread)
                if arrive(&self.rendezvous, n_threads):
                    if i < self.n_phases - 1:
                        deal(&self.rendezvous, n_threads, self.phase(i + 1).count)
                    else:
                        self.batch += 1
                        self.step += 1
                        if self.batch < self.n_batches:
                            self.begin()
                            deal(&self.rendezvous, n_threads, self.phase(0).count)
                    release(&self.rendezvous)
        fm_restore_denormals(&denormals)

    cdef const Phase *phase(self, Py_ssize_t i) noexcept nogil:
        return &self.phases[self.batch == self.n_batches - 1][i]

    @property
    def cost(self):
        """Mean of the costs of the epoch's batches so far."""
        return self.total_cost / self.batch
