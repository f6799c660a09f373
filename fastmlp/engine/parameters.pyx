# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: freethreading_compatible=True
"""The parameters of a network in training, in panels, and the optimizer that changes them."""

cimport cython
from libc.math cimport pow, sqrt

import numpy as np

from fastmlp.engine.table cimport FM_ADAM, FM_PANEL, aligned, fm_step, kernels
from fastmlp.engine.layer cimport (
    Layer, block_gradient, blocks_of, make_layers, pack, panel_floats, unpack, update,
)
from fastmlp.engine.matrix cimport Buffers, Matrix, width_of
from fastmlp.engine.program cimport SLAB


cdef void correct_bias(fm_step *constants, double learning_rate, double beta_1, double beta_2, double epsilon,
                       Py_ssize_t t) noexcept nogil:
    """Take Adam's bias corrections of step t out of its loop: the last lines of section 2 of Kingma & Ba (2015)."""
    cdef double correction = sqrt(1 - pow(beta_2, t))
    constants.rate = learning_rate * correction / (1 - pow(beta_1, t))
    constants.epsilon = epsilon * correction


# Share of a batch's statistics in the running ones, as in PyTorch.
cdef float MOMENTUM = 0.1


@cython.final
cdef class Parameters:
    """Weights, biases and scales with their two moments, (rows, m) a layer, in panels of 64 columns; and averages.

    Of normalised layers also the running means and variances (2, m), which are not the optimizer's.

    Parameters
    ----------
    layers : list
        As `fastmlp.layers.engine_layers` gives it.
    max_norm : float or None
        Of the weights of a unit.
    """

    def __init__(self, layers, max_norm=None):
        cdef Py_ssize_t l, offset = 0, floats
        cdef Layer *layer
        self.max_norm = max_norm or 0
        self.buffers, self.n_layers, self.clip = Buffers(), len(layers), 1
        self.layers = make_layers(layers, self.buffers)
        for l in range(self.n_layers):
            self.count += panel_floats(&self.layers[l])
            self.n_flat += self.layers[l].rows * self.layers[l].m
            if self.layers[l].normalised:
                self.n_running += 2 * self.layers[l].panels * self.layers[l].ld
                self.n_values += 2 * self.layers[l].m
        self.n_values += self.n_flat
        self.weights, self.moment_1 = self.buffers.floats(self.count), self.buffers.floats(self.count)
        self.moment_2 = self.buffers.floats(self.count)
        for l in range(self.n_layers):
            self.layers[l].weights, self.layers[l].moment_1 = self.weights + offset, self.moment_1 + offset
            self.layers[l].moment_2 = self.moment_2 + offset
            offset += panel_floats(&self.layers[l])
        self.running, self.batch = self.buffers.floats(self.n_running), self.buffers.floats(self.n_running)
        offset = 0
        for l in range(self.n_layers):
            layer = &self.layers[l]
            if layer.normalised:
                floats = layer.panels * layer.ld
                layer.running, layer.batch = self.running + offset, self.batch + offset
                layer.dtail, layer.inverse = self.buffers.floats(2 * floats), self.buffers.floats(floats)
                offset += 2 * floats
        self.zeros = self.buffers.floats(FM_PANEL)
        self.squares = <double *>self.buffers.allocate(sizeof(double) * self.slabs())

    # -- Between the caller's flat arrays and panels

    cdef load(self, const float[::1] values, moments, step):
        """Read parameters and running statistics, moments and, where given, the number of steps that made them."""
        cdef const float[::1] first = moments[0], second = moments[1]
        cdef const Layer *layer
        cdef Py_ssize_t l
        self.check_lengths(values, first, second)
        self.pack_like_weights(self.weights, values)
        self.pack_like_weights(self.moment_1, first)
        self.pack_like_weights(self.moment_2, second)
        for l in range(self.n_layers):
            layer = &self.layers[l]
            if layer.normalised:
                pack(layer.running, layer, &values[layer.statistics], 2)
        if step is not None:
            self.step = step

    cdef load_averages(self, const float[::1] averages, averaged):
        """Read the averages of so many steps."""
        self.check_length(averages)
        self.set_averages(True)
        self.pack_like_weights(self.averages, averages)
        self.averaged = averaged

    cdef store(self, float[::1] values, moments, averages):
        """Write parameters and running statistics, moments and, where there is an array for them, averages."""
        cdef float[::1] first = moments[0], second = moments[1]
        cdef const Layer *layer
        cdef Py_ssize_t l
        self.check_lengths(values, first, second)
        if averages is not None:
            self.check_length(averages)
            self.unpack_like_weights(averages, self.averages)
        self.unpack_like_weights(values, self.weights)
        self.unpack_like_weights(first, self.moment_1)
        self.unpack_like_weights(second, self.moment_2)
        for l in range(self.n_layers):
            layer = &self.layers[l]
            if layer.normalised:
                unpack(&values[layer.statistics], layer, layer.running, 2)

    cdef store_gradient(self, float[::1] gradient):
        """Write the gradient of the batch, where that was made as a whole."""
        if self.gradients == NULL:
            raise RuntimeError("no gradient is kept")
        self.check_length(gradient)
        self.unpack_like_weights(gradient, self.gradients)

    cdef load_gradient(self, const float[::1] gradient):
        """Read what the gradient of the batch is to be in its place."""
        if self.gradients == NULL:
            raise RuntimeError("no gradient is kept")
        self.check_length(gradient)
        self.pack_like_weights(self.gradients, gradient)

    cdef void pack_like_weights(self, float *panels, const float[::1] array) noexcept:
        """Read all parameters, or what an array has for each of them, to panels that lie as the weights do."""
        cdef const Layer *layer
        cdef Py_ssize_t l
        for l in range(self.n_layers):
            layer = &self.layers[l]
            pack(panels + (layer.weights - self.weights), layer, &array[layer.offset], layer.rows)

    cdef void unpack_like_weights(self, float[::1] array, const float *panels) noexcept:
        """The other way round."""
        cdef const Layer *layer
        cdef Py_ssize_t l
        for l in range(self.n_layers):
            layer = &self.layers[l]
            unpack(&array[layer.offset], layer, panels + (layer.weights - self.weights), layer.rows)

    def check_length(self, const float[::1] array):
        """Refuse an array that is not of the parameters' number."""
        if array.shape[0] != self.n_flat:
            raise ValueError(f"an array of parameters' averages or gradients must have {self.n_flat} values")

    def check_lengths(self, const float[::1] values, const float[::1] first, const float[::1] second):
        """Refuse arrays that are not of the parameters' number."""
        if values.shape[0] != self.n_values or not first.shape[0] == second.shape[0] == self.n_flat:
            raise ValueError(f"arrays of parameters must have {self.n_values} values, moments {self.n_flat}")

    cdef bint is_finite(self):
        """Whether parameters, running statistics and moments are."""
        cdef int weights, running, first, second
        kernels.is_finite(&weights, self.weights, self.count)
        kernels.is_finite(&running, self.running, self.n_running)
        kernels.is_finite(&first, self.moment_1, self.count)
        kernels.is_finite(&second, self.moment_2, self.count)
        return weights and running and first and second

    cdef Py_ssize_t outputs(self) noexcept nogil:
        """Units of the last layer."""
        return self.layers[self.n_layers - 1].m

    # -- The optimizer

    cdef set_optimizer(self, optimizer, rates, Py_ssize_t batch):
        """Take its hyper-parameters, the `code` of its rule (an fm_rule) and those that it has, for a batch at hand.

        The learning rates, (n,), are those of an epoch's batches, the last one of all after it, too.
        """
        cdef int rule = optimizer.code
        self.rates = np.asarray(rates, np.float64)
        self.clip_norm = optimizer.clip_norm or 0.0
        self.constants.rule = rule
        self.weight_decay = getattr(optimizer, "weight_decay", 0.0)
        self.beta_1 = optimizer.beta_1 if rule == FM_ADAM else optimizer.momentum
        self.beta_2 = optimizer.beta_2 if rule == FM_ADAM else 0.0
        self.epsilon = optimizer.epsilon if rule == FM_ADAM else 0.0
        self.constants.beta_1, self.constants.one_minus_beta_1 = self.beta_1, 1 - self.beta_1
        self.constants.beta_2, self.constants.one_minus_beta_2 = self.beta_2, 1 - self.beta_2
        self.constants.epsilon = self.epsilon
        self.constants.clip_value = optimizer.clip_value or 0.0
        self.l2, self.alpha, self.epsilon_hat = optimizer.l2, optimizer.alpha, optimizer.epsilon_hat
        self.ema = optimizer.ema or 0.0
        self.set_averages(optimizer.ema is not None)
        self.begin_step(batch, self.row_scale)

    cdef void begin_step(self, Py_ssize_t batch, double row_scale) noexcept nogil:
        """Take what the next step changes about the constants: that batch's learning rate and the scale of its rows,
        and the number of the step."""
        cdef double learning_rate = self.rates[min(batch, self.rates.shape[0] - 1)]
        self.row_scale, self.clip = row_scale, 1
        self.average_rate = (1 - self.ema) / (1 - pow(self.ema, self.averaged + 1))
        self.constants.rate = learning_rate
        self.constants.decay = 1 - learning_rate * self.weight_decay
        if self.constants.rule == FM_ADAM:
            correct_bias(&self.constants, learning_rate, self.beta_1, self.beta_2, self.epsilon, self.step + 1)
            if self.epsilon_hat:
                self.constants.epsilon = self.epsilon
        self.constants.l2 = self.l2 + self.alpha * row_scale
        self.bias_constants = self.constants
        self.bias_constants.l2 = 0

    cdef void end_step(self, Py_ssize_t n) noexcept nogil:
        """Count the step, and take the statistics of its n rows into the running ones; a single row has no variance."""
        self.step += 1
        if self.averages != NULL:
            self.averaged += 1
        if n > 1:
            kernels.blend(self.running, self.batch, MOMENTUM, self.n_running)

    cdef set_averages(self, bint wanted):
        """Begin to average the parameters over the steps, go on, or forget their averages."""
        if not wanted:
            self.average_buffers, self.averages, self.averaged = None, NULL, 0
        elif self.averages == NULL:
            self.average_buffers = Buffers()
            self.averages = self.average_buffers.floats(self.count)

    # -- Gradients: straight into their update, or stored

    cdef void update_block(self, Py_ssize_t l, const Matrix *x, const Matrix *dz, Py_ssize_t i,
                           Py_ssize_t n) noexcept nogil:
        """The gradient x^T dz of the i-th block of a layer's weights, of a group of panels, and the step on them."""
        cdef const Layer *layer = &self.layers[l]
        cdef Py_ssize_t blocks = blocks_of(layer, x), row = i % blocks * x.block
        cdef Py_ssize_t rows = x.block if row + x.block < layer.k else layer.rows - row  # the last ones with the bias
        cdef Py_ssize_t panel = i // blocks * x.group, end = min(panel + x.group, layer.panels)
        update(layer, x, dz, self.zeros, &self.constants, &self.bias_constants, panel, end, i % blocks, n)
        if self.max_norm == 0:
            for panel in range(panel, end):
                self.average(layer.weights - self.weights + (panel * layer.rows + row) * layer.ld, rows * layer.ld)

    cdef void make_gradient(self, Py_ssize_t l, const Matrix *x, const Matrix *dz, Py_ssize_t i, Py_ssize_t n,
                            bint add) noexcept nogil:
        """The same gradient stored, or added to what is."""
        cdef const Layer *layer = &self.layers[l]
        cdef Py_ssize_t blocks = blocks_of(layer, x), panel = i // blocks * x.group
        for panel in range(panel, min(panel + x.group, layer.panels)):
            block_gradient(self.gradients + (layer.weights - self.weights), layer, x, dz, self.zeros, panel,
                           i % blocks, n, add)

    cdef make_gradients(self, Py_ssize_t n):
        """Room for n of them."""
        if n != self.n_gradients:
            self.gradient_buffers, self.n_gradients = Buffers(), n
            self.gradients = self.gradient_buffers.floats(n * self.count)

    cdef Py_ssize_t slabs(self) noexcept nogil:
        """Tasks in which all parameters are gone through."""
        return (self.count + SLAB - 1) // SLAB

    cdef void take(self, Py_ssize_t first, const float *gradient, Py_ssize_t count) noexcept nogil:
        """The optimizer's step on parameters [first, first + count), in runs of weights and of biases with scales."""
        cdef const Layer *layer = self.layers
        cdef Py_ssize_t begin = first
        cdef Py_ssize_t place, n
        cdef bint is_bias
        while count > 0:
            while first >= layer.weights - self.weights + panel_floats(layer):
                layer += 1
            place = (first - (layer.weights - self.weights)) % (layer.rows * layer.ld)
            is_bias = place >= layer.k * layer.ld
            n = min(count, (layer.rows if is_bias else layer.k) * layer.ld - place)
            kernels.update(self.weights + first, self.moment_1 + first, self.moment_2 + first, gradient, n,
                           &self.bias_constants if is_bias else &self.constants)
            first, gradient, count = first + n, gradient + n, count - n
        if self.max_norm == 0:
            self.average(begin, first - begin)

    cdef void constrain(self, Py_ssize_t l, Py_ssize_t panel) noexcept nogil:
        """Hold the norms of a panel's columns of weights within max_norm: the last that is done to them in a step."""
        cdef const Layer *layer = &self.layers[l]
        cdef Py_ssize_t floats = layer.rows * layer.ld
        kernels.constrain(layer.weights + panel * floats, layer.ld, layer.k, width_of(layer.m, panel), self.max_norm)
        self.average(layer.weights - self.weights + panel * floats, floats)

    cdef void average(self, Py_ssize_t first, Py_ssize_t count) noexcept nogil:
        """Take parameters [first, first + count), as the step leaves them, into their averages, where these are wanted.

        With the weight that makes them the mean over all steps so far, each weighing ema times the next one.
        """
        if self.averages != NULL:
            kernels.blend(self.averages + first, self.weights + first, self.average_rate, count)

    cdef void sum(self, Py_ssize_t slab, Py_ssize_t n) noexcept nogil:
        """The sum of n gradients of a slab of parameters, and the optimizer's step on it."""
        cdef float memory[SLAB + 16]
        cdef float *sums = aligned(memory)
        cdef Py_ssize_t first = slab * SLAB, count = min(<Py_ssize_t>SLAB, self.count - first)
        kernels.column_sums(sums, self.gradients + first, self.count, n, count)
        self.take(first, sums, count)

    cdef void apply(self, Py_ssize_t slab) noexcept nogil:
        """The optimizer's step on a slab of parameters."""
        cdef Py_ssize_t first = slab * SLAB, count = min(<Py_ssize_t>SLAB, self.count - first)
        if self.clip < 1:
            kernels.scale(self.gradients + first, self.clip, count)
        self.take(first, self.gradients + first, count)

    cdef void add_squares(self, Py_ssize_t slab) noexcept nogil:
        """The sum of the squares of a slab of gradients."""
        cdef const float *gradient = self.gradients + slab * SLAB
        cdef double total = 0
        cdef Py_ssize_t i
        for i in range(min(<Py_ssize_t>SLAB, self.count - slab * SLAB)):
            total += <double>gradient[i] * gradient[i]
        self.squares[slab] = total

    cdef void choose_clip(self) noexcept nogil:
        """By what gradients are multiplied for a norm of clip_norm at most: Pascanu et al. 2013, algorithm 1."""
        cdef double total = 0
        cdef Py_ssize_t slab
        for slab in range(self.slabs()):
            total += self.squares[slab]
        self.clip = self.clip_norm / sqrt(total) if total > self.clip_norm * self.clip_norm > 0 else 1
