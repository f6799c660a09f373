# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: freethreading_compatible=True
"""The kernels over typed memoryviews; `fastmlp.kernels` is their public face and checks what comes in."""

from cython.parallel cimport prange

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

OPENMP = bool(FM_OPENMP)

# Elements that a thread takes at a time in elementwise kernels: 64 KB, which stay in the L2 cache.
cdef Py_ssize_t CHUNK = 16384
# Rows of a task of the product: a multiple of the tile's six, so that only the last one has a remainder.
cdef Py_ssize_t PRODUCT_ROWS = 96


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


def matmul_bias(float[:, ::1] out, const float[:, ::1] x, const float[:, ::1] weights, const float[::1] bias,
                Py_ssize_t columns, int n_threads):
    """The first `columns` columns (a multiple of 16) of out = x weights + bias."""
    cdef Py_ssize_t n = x.shape[0], k = x.shape[1], i, j, task
    cdef Py_ssize_t panels = (columns + FM_PANEL - 1) // FM_PANEL, blocks = (n + PRODUCT_ROWS - 1) // PRODUCT_ROWS
    if n == 0 or columns == 0:
        return
    if k == 0:
        for i in range(n):
            for j in range(columns):
                out[i, j] = bias[j]
        return
    for task in prange(panels * blocks, nogil=True, num_threads=n_threads, schedule="static"):
        product_panel(out, x, weights, bias, columns, task // blocks * FM_PANEL, task % blocks * PRODUCT_ROWS)


cdef void product_panel(float[:, ::1] out, const float[:, ::1] x, const float[:, ::1] weights,
                        const float[::1] bias, Py_ssize_t columns, Py_ssize_t j, Py_ssize_t i) noexcept nogil:
    cdef fm_dense operand
    operand.data, operand.row, operand.column, operand.panel = &x[i, 0], x.shape[1], 1, FM_PANEL
    kernels.dense(&out[i, j], out.shape[1], &bias[j], 0, operand, &weights[0, j], weights.shape[1],
                  min(PRODUCT_ROWS, x.shape[0] - i), x.shape[1], min(<Py_ssize_t>FM_PANEL, columns - j))


def is_finite(const float[::1] x):
    """Whether x has neither NaN nor infinity."""
    cdef int finite = 1
    if x.shape[0]:
        with nogil:
            kernels.is_finite(&finite, &x[0], x.shape[0])
    return bool(finite)


def activate(float[::1] h, int activation, int n_threads):
    """In place: z becomes h."""
    cdef Py_ssize_t count = h.shape[0], task
    for task in prange((count + CHUNK - 1) // CHUNK, nogil=True, num_threads=n_threads, schedule="static"):
        kernels.activate(&h[task * CHUNK], min(CHUNK, count - task * CHUNK), activation)


def activate_backward(float[::1] dz, const float[::1] h, int activation, int n_threads):
    """In place: dh becomes dz."""
    cdef Py_ssize_t count = h.shape[0], task
    for task in prange((count + CHUNK - 1) // CHUNK, nogil=True, num_threads=n_threads, schedule="static"):
        kernels.activate_backward(&dz[task * CHUNK], &h[task * CHUNK], min(CHUNK, count - task * CHUNK), activation)


def loss_gradient(float[:, ::1] logits, float[::1] loss, const int64_t[::1] labels, const float[:, ::1] targets,
                  const float[::1] scale, int kind, int n_threads):
    """In place: logits become the gradient; one of `labels` and `targets` is None."""
    cdef Py_ssize_t n = logits.shape[0], m = logits.shape[1], rows, task
    cdef const int64_t *label = &labels[0] if labels is not None else NULL
    cdef const float *target = &targets[0, 0] if targets is not None else NULL
    cdef fm_loss_gradient *kernel = loss_kernel(kind)
    rows = max(<Py_ssize_t>1, CHUNK // m)
    for task in prange((n + rows - 1) // rows, nogil=True, num_threads=n_threads, schedule="static"):
        kernel(&logits[task * rows, 0], &loss[task * rows], m,
               label + task * rows if label != NULL else NULL, target + task * rows * m if target != NULL else NULL,
               &scale[task * rows], min(rows, n - task * rows), m)


cdef fm_loss_gradient *loss_kernel(int kind) noexcept nogil:
    if kind == FM_CROSS_ENTROPY:
        return kernels.cross_entropy
    if kind == FM_BINARY_CROSS_ENTROPY:
        return kernels.binary_cross_entropy
    return kernels.squared_error


def softmax(float[:, ::1] probabilities):
    """In place: logits become probabilities."""
    if probabilities.shape[0]:
        with nogil:
            kernels.softmax(&probabilities[0, 0], probabilities.shape[1], probabilities.shape[0],
                            probabilities.shape[1])


def adam(float[::1] weights, float[::1] first, float[::1] second, const float[::1] dweights,
         float rate, float decay, double beta_1, double beta_2, float epsilon, int n_threads):
    """In place: one step of Adam with the bias corrections in `rate` and `epsilon`."""
    cdef Py_ssize_t count = weights.shape[0], task, i
    cdef fm_step step
    step.rule, step.rate, step.decay, step.epsilon = FM_ADAM, rate, decay, epsilon
    step.beta_1, step.one_minus_beta_1 = beta_1, 1 - beta_1
    step.beta_2, step.one_minus_beta_2 = beta_2, 1 - beta_2
    for task in prange((count + CHUNK - 1) // CHUNK, nogil=True, num_threads=n_threads, schedule="static"):
        i = task * CHUNK
        kernels.update(&weights[i], &first[i], &second[i], &dweights[i], min(CHUNK, count - i), &step)
