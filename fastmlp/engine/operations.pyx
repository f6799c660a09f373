# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: freethreading_compatible=True
"""Single operations over typed memoryviews; `fastmlp.kernels` is their public face and checks what comes in."""

from cython.parallel cimport prange
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memset

from fastmlp.engine.matrix cimport padded, panels_of
from fastmlp.engine.noise cimport make_noise, set_key
from fastmlp.engine.parameters cimport correct_bias
from fastmlp.engine.table cimport FM_ADAM, FM_PANEL, aligned, fm_dense, fm_loss, fm_noise, fm_step, kernels

# Elements that a thread takes at a time in elementwise kernels: 64 KB, which stay in the L2 cache.
cdef Py_ssize_t CHUNK = 16384
cdef enum:
    PRODUCT_ROWS = 96  # of a task of the product: a multiple of the tile's six
    NARROWED = 2048    # values of float64 that are made float32 at a time, in the L1 cache


def matmul_bias(float[:, ::1] out, const float[:, ::1] x, const float[:, ::1] weights, const float[::1] bias,
                float[::1] packed, int n_threads):
    """out (n, m) = x (n, k) weights (k, m) + bias (m).

    The weights are copied to panels first, into `packed` of `packed_size` floats. Read in place, with rows 1 KB apart,
    they fall into a few sets of the cache, and with AVX2 the product ran at 54 to 81 % of the peak.
    """
    cdef Py_ssize_t n = x.shape[0], k = x.shape[1], m = weights.shape[1], task
    cdef Py_ssize_t panels = panels_of(m), blocks = (n + PRODUCT_ROWS - 1) // PRODUCT_ROWS
    cdef float *panel = aligned(&packed[0])
    if n == 0 or m == 0:
        return
    for task in prange(panels, nogil=True, num_threads=n_threads, schedule="static"):
        pack_panel(panel + task * (k + 1) * FM_PANEL, weights, bias, task * FM_PANEL)
    for task in prange(panels * blocks, nogil=True, num_threads=n_threads, schedule="static"):
        product_panel(out, x, panel + task // blocks * (k + 1) * FM_PANEL, task // blocks * FM_PANEL,
                      task % blocks * PRODUCT_ROWS,
                      min(n, (task % blocks + 1) * <Py_ssize_t>PRODUCT_ROWS))


def packed_size(Py_ssize_t k, Py_ssize_t m):
    """Floats that `matmul_bias` needs for its panels [panel][k + 1][64], wherever they begin."""
    return panels_of(m) * FM_PANEL * (k + 1) + 16


cdef void pack_panel(float *panel, const float[:, ::1] weights, const float[::1] bias, Py_ssize_t j) noexcept nogil:
    """panel (k + 1, 64): columns [j, j + 64) of weights (k, m) and, in the row after them, of bias (m)."""
    cdef Py_ssize_t k = weights.shape[0], columns = min(<Py_ssize_t>FM_PANEL, weights.shape[1] - j)
    if columns < FM_PANEL:
        memset(panel, 0, 4 * (k + 1) * FM_PANEL)
    if k > 0:
        kernels.copy(panel, FM_PANEL, &weights[0, j], weights.shape[1], k, columns)
    kernels.copy(panel + k * FM_PANEL, FM_PANEL, &bias[j], 0, 1, columns)


cdef void product_panel(float[:, ::1] out, const float[:, ::1] x, const float *panel, Py_ssize_t j, Py_ssize_t first,
                        Py_ssize_t end) noexcept nogil:
    """Rows [first, end) and columns [j, j + 64) of out (n, m) = x (n, k) panel (k, 64) + its bias."""
    cdef float edge[PRODUCT_ROWS * 64]  # of out, where its last panel is no whole number of vectors
    cdef Py_ssize_t n = end - first, k = x.shape[1], m = out.shape[1], columns = min(<Py_ssize_t>FM_PANEL, m - j)
    cdef Py_ssize_t width = padded(columns)
    cdef float *c = &out[first, j] if width == columns else edge
    cdef Py_ssize_t ldc = m if width == columns else FM_PANEL
    cdef fm_dense operand
    operand.data = &x[first, 0] if k > 0 else NULL
    operand.ld, operand.column, operand.ld_panel = k, 1, FM_PANEL
    kernels.dense(c, ldc, panel + k * FM_PANEL, 0, operand, panel, FM_PANEL, n, k, width)
    if width != columns:
        kernels.copy(&out[first, j], m, edge, FM_PANEL, n, columns)


def is_finite(x):
    """Whether x (n), float32 or float64, has neither NaN nor what is infinite in float32."""
    cdef const float[::1] values
    cdef const double[::1] wide
    cdef int finite
    if not len(x):
        return True
    if x.dtype.itemsize == sizeof(double):
        wide = x
        with nogil:
            finite = fits(&wide[0], wide.shape[0])
    else:
        values = x
        with nogil:
            kernels.is_finite(&finite, &values[0], values.shape[0])
    return bool(finite)


cdef int fits(const double *x, Py_ssize_t n) noexcept nogil:
    """Whether x (n) is finite in float32."""
    cdef float rounded[NARROWED]
    cdef int finite = 1
    cdef Py_ssize_t first = 0, count
    while finite and first < n:
        count = min(<Py_ssize_t>NARROWED, n - first)
        kernels.narrow(rounded, x + first, count)
        kernels.is_finite(&finite, rounded, count)
        first += count
    return finite


def checksum(const uint32_t[:, :] words, int n_threads):
    """64 bits that words (n, k) have, and hardly any others, nor the same in another order; for any number of threads.

    The words of a row lie side by side. Somebody who wants other words to be mistaken for them will find some.
    """
    cdef Py_ssize_t k = words.shape[1], pairs = (k + 1) // 2, parts = (k + CHUNK - 1) // CHUNK, task, row, first
    cdef uint64_t total = 0
    for task in prange(words.shape[0] * parts, nogil=True, num_threads=n_threads, schedule="static"):
        row, first = task // parts, task % parts * CHUNK
        total += checksum_part(&words[row, first], min(CHUNK, k - first), row * pairs + first // 2)
    return total


cdef uint64_t checksum_part(const uint32_t *words, Py_ssize_t n, uint64_t first) noexcept nogil:
    """The part of the checksum of words (n), the first pair of which has this place among all."""
    cdef uint64_t sum
    kernels.checksum(&sum, words, n, first)
    return sum


def activate(float[::1] h, int activation, int n_threads):
    """In place: z (count) becomes h."""
    cdef Py_ssize_t count = h.shape[0], task
    for task in prange((count + CHUNK - 1) // CHUNK, nogil=True, num_threads=n_threads, schedule="static"):
        kernels.activate(&h[task * CHUNK], min(CHUNK, count - task * CHUNK), activation)


def activate_backward(float[::1] dz, const float[::1] read, int activation, int n_threads):
    """In place: dh (count) becomes dz; read (count) is h or, where the activation's derivative reads that, z."""
    cdef Py_ssize_t count = dz.shape[0], task
    for task in prange((count + CHUNK - 1) // CHUNK, nogil=True, num_threads=n_threads, schedule="static"):
        kernels.activate_backward(&dz[task * CHUNK], &read[task * CHUNK], min(CHUNK, count - task * CHUNK),
                                  activation)


def loss_gradient(float[:, ::1] logits, float[::1] losses, const int64_t[::1] labels, const float[:, ::1] targets,
                  const float[::1] scale, int kind, const float[::1] parameters, int n_threads):
    """In place: logits (n, m) become the gradient; losses, scale (n); one of labels (n) and targets (n, .) is None."""
    cdef Py_ssize_t n = logits.shape[0], m = logits.shape[1], width, rows, task
    cdef fm_loss how
    cdef const int64_t *label = &labels[0] if labels is not None else NULL
    cdef const float *target = &targets[0, 0] if targets is not None else NULL
    how.kind, how.n_parameters = kind, parameters.shape[0]
    how.parameters = &parameters[0] if how.n_parameters > 0 else NULL
    width = targets.shape[1] if targets is not None else 0
    rows = max(<Py_ssize_t>1, CHUNK // m)
    for task in prange((n + rows - 1) // rows, nogil=True, num_threads=n_threads, schedule="static"):
        kernels.loss(&logits[task * rows, 0], &losses[task * rows], m,
                     label + task * rows if label != NULL else NULL,
                     target + task * rows * width if target != NULL else NULL, &scale[task * rows],
                     min(rows, n - task * rows), m, &how)


def softmax(float[:, ::1] probabilities):
    """In place: logits (n, m) become probabilities."""
    if probabilities.shape[0]:
        with nogil:
            kernels.softmax(&probabilities[0, 0], probabilities.shape[1], probabilities.shape[0],
                            probabilities.shape[1])


def adam(float[::1] weights, float[::1] moment_1, float[::1] moment_2, const float[::1] dweights, Py_ssize_t t,
         double learning_rate, double beta_1, double beta_2, double epsilon, double weight_decay, int n_threads):
    """In place: step t of Adam on four arrays (count)."""
    cdef Py_ssize_t count = weights.shape[0], task, i
    cdef fm_step step
    step.rule, step.decay = FM_ADAM, 1 - learning_rate * weight_decay
    step.clip_value = step.l2 = 0
    step.beta_1, step.one_minus_beta_1 = beta_1, 1 - beta_1
    step.beta_2, step.one_minus_beta_2 = beta_2, 1 - beta_2
    correct_bias(&step, learning_rate, beta_1, beta_2, epsilon, t)
    for task in prange((count + CHUNK - 1) // CHUNK, nogil=True, num_threads=n_threads, schedule="static"):
        i = task * CHUNK
        kernels.update(&weights[i], &moment_1[i], &moment_2[i], &dweights[i], min(CHUNK, count - i), &step)


def shuffle(int64_t[::1] order, const uint32_t[::1] keys):
    """Write the rows from 0 to n - 1 to order (n), as keys (6) decide: `fastmlp.reference.shuffle`."""
    if order.shape[0]:
        with nogil:
            kernels.shuffle(&order[0], &keys[0], order.shape[0])


def drop(float[:, ::1] h, const int64_t[::1] rows, uint64_t key, double rate, Py_ssize_t layer, Py_ssize_t panel):
    """In place: dropout of h (n, 16, 32, 48 or 64), the units of a panel: `fastmlp.reference.dropout`, and -0 for 0."""
    cdef fm_noise noise = make_noise(rate, 0)
    set_key(&noise, key, layer)
    kernels.drop(&h[0, 0], h.shape[1], &rows[0], &noise, panel, h.shape[0], h.shape[1])


def drop_backward(float[::1] dh, float[::1] plain, const float[::1] h, double rate):
    """In place: the gradient of dropped h (count) becomes that of what h was, which `plain` is where it was kept."""
    cdef fm_noise noise = make_noise(rate, 0)
    kernels.drop_backward(&dh[0], &plain[0], &h[0], h.shape[0], &noise)


def add_noise(float[:, ::1] z, const int64_t[::1] rows, uint64_t key, double deviation, Py_ssize_t layer,
              Py_ssize_t panel):
    """In place: noise on z (n, up to 64), the units of a panel: `fastmlp.reference.normals`."""
    cdef fm_noise noise = make_noise(0, deviation)
    set_key(&noise, key, layer)
    kernels.add_noise(&z[0, 0], z.shape[1], &rows[0], &noise, panel, z.shape[0], z.shape[1])
