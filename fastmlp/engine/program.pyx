# cython: language_level=3
# cython: freethreading_compatible=True
"""The phases of a step, as plain lists, from what the layers are and what the step is to do.

A phase is (base, tasks): its rows are counted from row `base` of the batch, its tasks are independent of each other.
A task is (kind, layer, index, first, n): of a panel, a block or a slab by its index, of rows [first, first + n). What
it adds up depends on the network and the batch alone, so that any number of threads gives the same bits.
"""

cimport cython

from collections import Counter

from fastmlp.engine.matrix cimport Buffers

KINDS = (
    "gather", "forward", "loss", "cost", "columns", "backward", "update", "gradient", "add gradient", "norm", "apply",
    "chain", "sum", "cut",
)

# Rows of a task at most: 128 rows of a panel of outputs, 32 KB, are added to while blocks of weights pass.
cdef Py_ssize_t STRIP_ROWS = 128
# And at least, about: four register tiles.
cdef Py_ssize_t FEWEST_ROWS = 24


def chained_step(rows, chains, slabs):
    """Rows through all layers and back, and then the sum of their gradients: for small networks."""
    strips = [(CHAIN, 0, i, *strip(rows, i, chains)) for i in range(chains)]
    return [(0, strips), (0, [(COST, 0, 0, 0, rows)] + [(SUM, 0, slab, 0, chains) for slab in range(slabs)])]


def layered_step(layers, rows, capacity, n_threads, slabs, *, whole=False, norm=False, cut_at_loss=False,
                 cut_at_gradient=False):
    """One layer after the other, the threads sharing its panels.

    `layers` has, for each, the panels of its inputs and of its units, the blocks of its weights' rows, and the tasks
    that list its inputs by column. A batch of more rows than `capacity` goes in parts, whose gradients are added up,
    and so does one whose gradient is wanted as a whole; of any other, each gradient goes straight into its update.
    """
    parts = -(-rows // capacity)
    whole = whole or norm or cut_at_gradient or parts > 1
    phases = []
    for part in range(parts):
        base, n = strip(rows, part, parts)
        phases += [(base, tasks) for tasks in passes(layers, n, n_threads, cut_at_loss)]
        gradients = weight_tasks(layers, n, (ADD_GRADIENT if part else GRADIENT) if whole else UPDATE)
        phases += [(base, tasks) for tasks in gradients]
    if cut_at_gradient:
        phases.append((0, [(CUT, 0, 0, 0, 0)]))
    for kind in (NORM, APPLY) if norm else (APPLY,) if whole else ():
        phases.append((0, [(kind, 0, slab, 0, rows) for slab in range(slabs)]))
    return phases


def passes(layers, n, n_threads, cut_at_loss):
    """Lists of tasks that take n rows forward, through the loss, and back."""
    yield strips(GATHER, 0, 1, n, n_threads)
    for l, (_, panels, _, _) in enumerate(layers):
        yield strips(FORWARD, l, panels, n, n_threads)
    yield [(CUT, 0, 0, 0, 0)] if cut_at_loss else strips(LOSS, len(layers), 1, n, n_threads)
    yield [(COST, 0, 0, 0, n)] + [(COLUMNS, l, i, 0, n) for l, layer in enumerate(layers) for i in range(layer[3])]
    for l in range(len(layers) - 1, 0, -1):
        yield strips(BACKWARD, l, layers[l][0], n, n_threads)


def weight_tasks(layers, n, kind):
    """Lists of tasks, a layer each, for all blocks of its weights."""
    for l, (_, panels, blocks, _) in enumerate(layers):
        yield [(kind, l, i, 0, n) for i in range(panels * blocks)]


def strips(kind, layer, panels, n, n_threads):
    """Panels by strips of at most STRIP_ROWS rows, of more strips where these do not share out evenly."""
    count = -(-n // STRIP_ROWS)
    most = max(count, n // FEWEST_ROWS)
    while count < most:
        tasks = panels * count
        if -(-tasks // n_threads) * n_threads <= 1.1 * tasks:
            break
        count += 1
    return [(kind, layer, panel, *strip(n, i, count)) for panel in range(panels) for i in range(count)]


def strip(n, i, count):
    """(first, number of rows) of the i-th of `count` about equal strips of n rows."""
    return n * i // count, n * (i + 1) // count - n * i // count


@cython.final
cdef class Program:
    """Such phases, as the threads read them, with room for the times of so many threads."""

    def __init__(self, phases, int timed_threads=0):
        cdef Py_ssize_t i
        cdef Task *task
        self.buffers, self.n_phases, self.timed_threads = Buffers(), len(phases), timed_threads
        self.phases = <Phase *>self.buffers.allocate(sizeof(Phase) * len(phases))
        task = <Task *>self.buffers.allocate(sizeof(Task) * sum([len(tasks) for _, tasks in phases]))
        for i, (base, tasks) in enumerate(phases):
            self.phases[i].tasks, self.phases[i].count, self.phases[i].base = task, len(tasks), base
            if timed_threads:
                self.phases[i].times = <Times *>self.buffers.allocate(sizeof(Times) * timed_threads)
            for kind, l, index, first, n in tasks:
                task.kind, task.layer, task.index, task.first, task.n = kind, l, index, first, n
                task += 1

    def take_times(self):
        """Return what each phase took since the last call: how many tasks of which (kind, layer); each thread's busy
        seconds; and those in which it waited for the others."""
        cdef Py_ssize_t i, j
        cdef Phase *phase
        taken = []
        for i in range(self.n_phases):
            phase, busy, waiting = self.phases + i, [], []
            for j in range(self.timed_threads):
                busy.append(1e-9 * phase.times[j].busy)
                waiting.append(1e-9 * phase.times[j].waiting)
                phase.times[j].busy = phase.times[j].waiting = 0
            tasks = Counter([(KINDS[phase.tasks[j].kind], phase.tasks[j].layer) for j in range(phase.count)])
            taken.append((tasks, busy, waiting))
        return taken
