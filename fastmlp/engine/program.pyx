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
    "gather", "forward", "normalise", "output", "loss", "cost", "columns", "backward", "normalise backward", "update",
    "gradient", "add gradient", "norm", "apply", "constrain", "chain", "sum", "cut",
)

# Rows of a task at most, about: 512 rows of a panel of outputs, 128 KB, are added to while blocks of weights pass. With
# 128 rows wide layers took 5 % longer: weights come from beyond the caches, and are transposed, for each strip.
cdef Py_ssize_t STRIP_ROWS = 512
# And at least, about: four register tiles.
cdef Py_ssize_t FEWEST_ROWS = 24
# Strips begin at multiples of so many rows: of a register tile, and of the pairs that the product by masks takes. Which
# rows are a pair must not depend on the number of threads.
cdef Py_ssize_t TILE_ROWS = 6


def chained_step(rows, chains, slabs):
    """Rows through all layers and back, and then the sum of their gradients: for small networks."""
    strips = [(CHAIN, 0, i, *strip(rows, i, chains)) for i in range(chains)]
    return [(0, strips), (0, [(COST, 0, 0, 0, rows)] + [(SUM, 0, slab, 0, chains) for slab in range(slabs)])]


def layered_step(layers, rows, capacity, n_threads, slabs, *, whole=False, norm=False, cut_at_loss=False,
                 cut_at_gradient=False):
    """One layer after the other, the threads sharing its panels.

    `layers` has, for each, the panels of its inputs and of its units, the blocks of its weights' rows, the tasks that
    list its inputs by column, whether it is normalised, and in how many groups of panels its inputs go back, and its
    units forward. A batch of more rows than `capacity` goes in parts, whose gradients are added up, and so does one
    whose gradient is wanted as a whole; of any other, each gradient goes straight into its update.
    """
    parts = -(-rows // capacity)
    whole = whole or norm or cut_at_gradient or parts > 1
    phases = []
    for part in range(parts):
        base, n = strip(rows, part, parts)
        kind = (ADD_GRADIENT if part else GRADIENT) if whole else UPDATE
        for lists in [*forward_phases(layers, n, n_threads, cut_at_loss), *backward_phases(layers, n, n_threads, kind)]:
            phases.append((base, beside(lists, n_threads)))
    return phases + (apply_phases(rows, slabs, norm, cut_at_gradient) if whole else [])


def empty_step(slabs, *, norm=False, cut_at_gradient=False):
    """A step without rows: by a gradient that Python has from elsewhere or, where there is no cut for it, by none."""
    costless = (0, [(COST, 0, 0, 0, 0)])
    return [costless, *(apply_phases(0, slabs, norm, True) if cut_at_gradient else [])]


def apply_phases(rows, slabs, norm, cut_at_gradient):
    """Phases that take a whole gradient."""
    phases = [(0, [(CUT, 0, 0, 0, 0)])] if cut_at_gradient else []
    for kind in [NORM] * norm + [APPLY]:
        phases.append((0, [(kind, 0, slab, 0, rows) for slab in range(slabs)]))
    return phases


def constraint(layers):
    """The phase that ends a step where the norm of each unit's weights is bounded."""
    return 0, [(CONSTRAIN, l, panel, 0, 0) for l, (_, panels, *_) in enumerate(layers) for panel in range(panels)]


def forward_phases(layers, n, n_threads, cut_at_loss):
    """Phases, of lists of tasks, that take n rows forward and through the loss.

    Beside each layer its inputs are made ready for their gradient, by column. The statistics of a normalised layer are
    of all rows: one task a panel.
    """
    last = len(layers) - 1
    yield [strips(GATHER, 0, 1, n, n_threads)]
    for l, (_, panels, _, columns, normalised, _, groups) in enumerate(layers):
        turned = [(COLUMNS, l, i, 0, n) for i in range(columns)]
        if normalised:
            yield [strips(FORWARD, l, groups, n, n_threads)]
            yield [[(NORMALISE, l, panel, 0, n) for panel in range(panels)], turned]
            continue
        # A narrow output goes straight into the loss: a strip of rows has it whole.
        kind = OUTPUT if l == last and panels == 1 and not cut_at_loss else FORWARD
        yield [strips(kind, l, groups, n, n_threads), turned]
    if cut_at_loss:
        yield [[(CUT, 0, 0, 0, 0)]]
    elif layers[last][1] > 1:
        yield [strips(LOSS, len(layers), 1, n, n_threads)]


def backward_phases(layers, n, n_threads, kind):
    """Phases, of lists of tasks, that take n rows back.

    The weights of a layer, through which they have gone, take their gradient beside what comes next.
    """
    ready = [(COST, 0, 0, 0, n)]
    for l in range(len(layers) - 1, 0, -1):
        yield [ready, strips(BACKWARD, l, layers[l][5], n, n_threads)]
        ready = weight_tasks(layers, l, n, kind)
        if layers[l - 1][4]:
            yield [[(NORMALISE_BACKWARD, l - 1, panel, 0, n) for panel in range(layers[l][0])], ready]
            ready = []
    yield [ready, weight_tasks(layers, 0, n, kind)]


def weight_tasks(layers, l, n, kind):
    """Tasks for all blocks of a layer's weights."""
    _, _, blocks, _, _, _, groups = layers[l]
    return [(kind, l, i, 0, n) for i in range(groups * blocks)]


def beside(lists, n_threads):
    """Lists of tasks as one, so that each thread's run of it has its share of every list."""
    return [task for i in range(n_threads) for tasks in lists for task in share(tasks, i, n_threads)]


def share(tasks, i, count):
    """The i-th of `count` about equal runs of tasks."""
    first, n = strip(len(tasks), i, count)
    return tasks[first : first + n]


def strips(kind, layer, panels, n, n_threads):
    """Panels by strips of about STRIP_ROWS rows at most; those that do not share out evenly, by more strips."""
    count = -(-n // STRIP_ROWS)
    most = max(count, n // FEWEST_ROWS)
    whole = panels // n_threads * n_threads
    more = next((more for more in range(count, most) if (panels - whole) * more % n_threads == 0), most)
    first, rest = (
        [(kind, layer, panel, *strip(n, i, parts, TILE_ROWS)) for panel in range(begin, end) for i in range(parts)]
        for begin, end, parts in ((0, whole, count), (whole, panels, more))
    )
    return beside([first, rest], n_threads)


def strip(n, i, count, step=1):
    """(first, number of rows) of the i-th of `count` about equal strips of n rows, which begin at multiples of step."""
    first, end = (n * j // count // step * step if j < count else n for j in (i, i + 1))
    return first, end - first


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
