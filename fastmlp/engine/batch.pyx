# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: freethreading_compatible=True
"""A batch of rows, or a part of one, on its way through the network and back."""

cimport cython
from libc.stdint cimport int64_t, uint64_t

import numpy as np

from fastmlp.engine.table cimport FM_PANEL, fm_loss, kernels
from fastmlp.engine.layer cimport Layer, backward, blocks_of, forward, panel_floats, whole_gradient
from fastmlp.engine.matrix cimport (
    Buffers, Matrix, add_transpose, choose_group, choose_masks, column_tasks, groups_of, make_panels, make_rows,
    panels_of, worth_skipping,
)
from fastmlp.engine.noise cimport set_key
from fastmlp.engine.parameters cimport Parameters
from fastmlp.engine.rows cimport Rows


@cython.final
cdef class RowLoss:
    """A loss as its kernel reads it, from the `code` and the `parameters` of a Loss; of None as Python computes it."""

    def __init__(self, loss):
        self.how.kind, self.outputs_a_target = -1, 1
        if loss is not None:
            self.how.kind, self.outputs_a_target = loss.code, loss.outputs_a_target
            self.parameters = np.array(loss.parameters, np.float32)
            self.how.n_parameters = self.parameters.shape[0]
            self.how.parameters = &self.parameters[0] if self.how.n_parameters > 0 else NULL

    cdef check(self, Rows rows, Py_ssize_t k, Py_ssize_t m):
        """Refuse rows that a network of k inputs and m outputs cannot learn from by it."""
        rows.check(k, m, self.outputs_a_target, self.how.kind >= 0)


@cython.final
cdef class Batch:
    """Room for rows of activations and their gradients, and for what the rows are to become.

    Parameters
    ----------
    parameters : Parameters
        Of the network.
    rows : Rows
        Of which it takes some.
    capacity : int
        Rows that it has at most.
    strip : int
        Rows that a set of activations has at most.
    sets : int
    n_threads : int
        That may gather rows at once.
    masks : bool
        Whether activations with many zeros have masks.
    """

    def __init__(self, Parameters parameters, Rows rows, Py_ssize_t capacity, Py_ssize_t strip, int sets, int n_threads,
                 bint masks):
        cdef Py_ssize_t i
        self.buffers, self.rows = Buffers(), rows
        self.layers, self.n_layers = parameters.layers, parameters.n_layers
        self.m = parameters.outputs()
        self.width = rows.targets.shape[1] if rows.targets is not None else 0
        self.h = <Matrix *>self.buffers.allocate(sizeof(Matrix) * (self.n_layers + 1) * sets)
        self.dz = <Matrix *>self.buffers.allocate(sizeof(Matrix) * (self.n_layers + 1) * sets)
        for i in range(sets):
            self.add_activations(i, strip, masks, n_threads)
        self.labels = <int64_t *>self.buffers.allocate(8 * capacity)
        self.targets = self.buffers.floats(capacity * self.width)
        self.scale, self.losses = self.buffers.floats(capacity), self.buffers.floats(capacity)
        self.scratch = self.buffers.floats(n_threads * rows.scratch)

    def add_activations(self, int set, Py_ssize_t rows, bint masks, int n_threads):
        """Room for the activations of so many rows, and for their gradients."""
        cdef Py_ssize_t l
        cdef bint here
        cdef Layer *layer
        cdef Matrix *h = self.h_of(set)
        cdef Matrix *dz = self.dz_of(set)
        h[0] = self.rows.matrix(rows, True, self.buffers)
        for l in range(1, self.n_layers):
            layer = &self.layers[l]
            here = masks and (self.layers[l - 1].makes_zeros or self.layers[l - 1].noise.dropped > 0)
            h[l] = make_panels(rows, layer.k, here and worth_skipping(layer.k, layer.m), self.buffers)
            if self.layers[l - 1].reads_sum:
                h[l].sums = self.buffers.floats(h[l].blocks * h[l].ld_panel)
            if self.layers[l - 1].normalised:
                h[l].normalised = self.buffers.floats(h[l].blocks * h[l].ld_panel)
            if h[l].masked:
                add_transpose(&h[l], self.buffers)
            here = here and l > 1 and worth_skipping(layer.k, self.layers[l - 1].k)
            if self.layers[l - 1].normalised:  # which leaves no zeros in the gradient of its sums
                here = False
            dz[l] = make_panels(rows, layer.k, here, self.buffers)
        h[self.n_layers] = make_rows(rows, self.m, self.buffers)
        dz[self.n_layers] = h[self.n_layers]
        for l in range(self.n_layers):
            choose_group(&h[l], &h[l + 1], n_threads)
            choose_group(&dz[l + 1], &dz[l], n_threads)

    cdef Matrix *h_of(self, int thread) noexcept nogil:
        return self.h + thread * (self.n_layers + 1)

    cdef Matrix *dz_of(self, int thread) noexcept nogil:
        return self.dz + thread * (self.n_layers + 1)

    cdef shapes(self):
        """What `fastmlp.engine.program.layered_step` asks of each layer."""
        cdef const Layer *layer
        cdef const Matrix *x
        found = []
        for l in range(self.n_layers):
            layer, x = &self.layers[l], &self.h[l]
            found.append((panels_of(layer.k), layer.panels, blocks_of(layer, x), column_tasks(x), layer.normalised,
                          groups_of(panels_of(layer.k), &self.dz[l + 1]), groups_of(layer.panels, x)))
        return found

    # -- Rows, and what they are to become

    cdef void draw_by(self, uint64_t key) noexcept nogil:
        """Begin an epoch that has this key."""
        cdef Py_ssize_t l
        self.key = key
        for l in range(self.n_layers):
            set_key(&self.layers[l].noise, key, l + 1)
            self.layers[l].noise.first = self.rows.noise.first

    cdef void weigh(self, const int64_t *order, Py_ssize_t n) noexcept nogil:
        """The scale of the losses of these n rows, which are the whole batch: one by their weights' sum."""
        cdef double total = n
        cdef Py_ssize_t i
        if self.rows.weights is not None:
            total = 0
            for i in range(n):
                total += self.rows.weights[order[i]]
        self.row_scale = 1 / total if total > 0 else 0

    cdef void gather(self, Matrix *x, Py_ssize_t place, const int64_t *order, Py_ssize_t first,
                     Py_ssize_t n, int thread) noexcept nogil:
        """Rows order[first:first + n] to rows of x from `place` on; their targets and weights to the batch's."""
        cdef const int64_t *rows = order + first
        cdef const int64_t *label_of
        cdef int64_t *labels = self.labels + first
        cdef float *scale = self.scale + first
        cdef float row_scale = self.row_scale
        cdef Py_ssize_t i
        self.rows.gather(x, place, rows, n, self.key, self.scratch + thread * self.rows.scratch)
        if self.rows.labels is not None:
            label_of = &self.rows.labels[0]
            for i in range(n):
                labels[i] = label_of[rows[i]]
        elif self.rows.targets is not None:
            kernels.gather(self.targets + first * self.width, self.width, FM_PANEL, &self.rows.targets[0, 0], rows, n,
                           self.width)
        for i in range(n):
            scale[i] = row_scale
        if self.rows.weights is not None:
            for i in range(n):
                scale[i] = self.rows.weights[rows[i]] * self.row_scale

    cdef void compute_loss(self, const fm_loss *loss, const Matrix *logits, Py_ssize_t place, Py_ssize_t first,
                           Py_ssize_t n) noexcept nogil:
        """The losses of rows [first, first + n); their gradients take the place of the logits."""
        kernels.loss(logits.data + place * logits.ld, self.losses + first, logits.ld,
                     self.labels + first if self.rows.labels is not None else NULL, self.targets + first * self.width,
                     self.scale + first, n, self.m, loss)

    cdef double cost(self, Py_ssize_t n) noexcept nogil:
        """The sum of n rows' losses, in their order."""
        cdef double cost = 0
        cdef Py_ssize_t i
        for i in range(n):
            cost += <double>self.scale[i] * self.losses[i]
        return cost

    cdef void chain(self, Parameters parameters, const fm_loss *loss, const int64_t *order, Py_ssize_t i,
                    Py_ssize_t first, Py_ssize_t n, int thread) noexcept nogil:
        """Rows [first, first + n) through all layers and back, to the i-th gradient."""
        cdef Py_ssize_t l, group
        cdef const Layer *layers = self.layers
        cdef Matrix *h = self.h_of(thread)
        cdef Matrix *dz = self.dz_of(thread)
        cdef float *gradient = parameters.gradients + i * parameters.count
        self.gather(h, 0, order, first, n, thread)
        for l in range(self.n_layers):
            for group in range(groups_of(layers[l].panels, h + l)):
                forward(&layers[l], h + l, h + l + 1, order + first, group, 0, n)
        self.compute_loss(loss, h + self.n_layers, 0, first, n)
        for l in range(self.n_layers - 1, 0, -1):
            for group in range(groups_of(panels_of(layers[l].k), dz + l + 1)):
                backward(&layers[l], &layers[l - 1], dz + l + 1, h + l, dz + l, parameters.zeros, group, 0, n)
        for l in range(self.n_layers):
            whole_gradient(gradient, &layers[l], h + l, dz + l + 1, parameters.zeros, n)
            gradient += panel_floats(&layers[l])

    # -- Masks of what is not zero in the hidden layers, and in inputs that are made

    cdef void choose_forms(self, Py_ssize_t n) noexcept nogil:
        """Go by them where the n rows before had zeros enough; none, as an epoch begins, had."""
        cdef Py_ssize_t l
        for l in range(self.first_masked(), self.n_layers):
            choose_masks(&self.h[l], n, self.layers[l].k, self.layers[l].m)
            if l > 0:
                choose_masks(&self.dz[l], n, self.layers[l].k, self.layers[l - 1].k)

    cdef Py_ssize_t first_masked(self) noexcept nogil:
        """The first layer whose inputs may have them."""
        return 0 if self.rows.made else 1

    cdef forms(self):
        """Return where it goes by them: for each of these layers, of its inputs and of their gradient."""
        cdef Py_ssize_t l
        found = []
        for l in range(self.first_masked(), self.n_layers):
            found += [bool(self.h[l].masked), bool(self.dz[l].masked)]
        return found

    cdef set_forms(self, forms):
        """Go by them there, where they are kept."""
        cdef Py_ssize_t l
        found = iter(forms)
        for l in range(self.first_masked(), self.n_layers):
            self.h[l].masked = next(found, False) and self.h[l].masks != NULL
            self.dz[l].masked = next(found, False) and self.dz[l].masks != NULL

    # -- A loss of Python's own

    cdef logits(self, Py_ssize_t n):
        """Return the outputs of n rows before the loss, float32 (n, m)."""
        cdef const Matrix *outputs = &self.h[self.n_layers]
        cdef float[:, ::1] found = np.empty((n, self.m), np.float32)
        kernels.copy(&found[0, 0], self.m, outputs.data, outputs.ld, n, self.m)
        return np.asarray(found)

    cdef set_losses(self, const float[::1] losses, const float[:, ::1] dlogits, Py_ssize_t n):
        """Take n rows' losses (n,), and the gradients of their logits (n, m)."""
        cdef Matrix *outputs = &self.h[self.n_layers]
        cdef Py_ssize_t i, j
        if losses.shape[0] != n or dlogits.shape[0] != n or dlogits.shape[1] != self.m:
            raise ValueError(f"losses must have shape ({n},), dlogits ({n}, {self.m})")
        for i in range(n):
            self.losses[i] = losses[i]
            for j in range(self.m):
                outputs.data[i * outputs.ld + j] = dlogits[i, j] * self.scale[i]
