"""The kernels as functions over float32 arrays: what the engine is made of, for use on its own.

Every array is float32, C-contiguous and aligned, and may be read-only where it is an input. `out` may be an input
where the docstring says so; without it a new array is returned. `n_threads` is the number of threads to use at most,
up to 1024, None for `fastmlp.threads.available()`; the result has the same bits for any number. The same functions in
float64 NumPy, without `out` and `n_threads`, are in `fastmlp.reference`.
"""

from __future__ import annotations

import numpy as np

from fastmlp import arrays, checks, threads
from fastmlp.activations import ACTIVATIONS
from fastmlp.arrays import Array, Float32
from fastmlp.engine import operations, table
from fastmlp.losses import CrossEntropy, Loss, loss_of

__all__ = [
    "activate",
    "adam",
    "isa",
    "losses",
    "matmul_bias",
    "relu",
    "relu_backward",
    "softmax",
    "softmax_cross_entropy",
]

# Seconds of one thread for an element that is read, changed and written.
_ELEMENT = 1 / 2e9

isa = table.isa


def matmul_bias(
    x: Float32, weights: Float32, bias: Float32, *, out: Float32 | None = None, n_threads: int | None = None
) -> Float32:
    """Return x weights + bias: the dense layer.

    Parameters
    ----------
    x : float32 array (n, k)
    weights : float32 array (k, m)
    bias : float32 array (m,)
    out : float32 array (n, m), optional
        Not one of the inputs.
    n_threads : int, optional

    Returns
    -------
    float32 array (n, m)
        `out` where it was given.

    Raises
    ------
    TypeError, ValueError
        An array has another type, shape or layout.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp import kernels
    >>> kernels.matmul_bias(np.ones((1, 3), np.float32), np.ones((3, 2), np.float32), np.zeros(2, np.float32))
    array([[3., 3.]], dtype=float32)
    """
    arrays.check("x", x, (None, None))
    n, k = x.shape
    arrays.check("weights", weights, (k, None))
    m = weights.shape[1]
    arrays.check("bias", bias, (m,))
    out = arrays.out_of((n, m), out)
    arrays.apart("out", out, x=x, weights=weights, bias=bias)
    packed = np.empty(operations.packed_size(k, m), np.float32)
    operations.matmul_bias(out, x, weights, bias, packed, _threads(n_threads, n * k * m / threads.RATE))
    return out


def relu(z: Float32, *, out: Float32 | None = None, n_threads: int | None = None) -> Float32:
    """Return max(z, 0), elementwise; NaN stays NaN.

    Parameters
    ----------
    z : float32 array
        Of any shape.
    out : float32 array of that shape, optional
        May be z.
    n_threads : int, optional

    Returns
    -------
    float32 array

    Raises
    ------
    TypeError, ValueError
        An array has another type, shape or layout.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp import kernels
    >>> kernels.relu(np.array([-1, 2], np.float32))
    array([0., 2.], dtype=float32)
    """
    return activate(z, "relu", out=out, n_threads=n_threads)


def relu_backward(dh: Float32, h: Float32, *, out: Float32 | None = None, n_threads: int | None = None) -> Float32:
    """Return dz: dh where the output h is above 0, and 0 elsewhere.

    Parameters
    ----------
    dh : float32 array
        Gradient of ReLU's output, of any shape.
    h : float32 array of that shape
        ReLU's output (its input serves as well).
    out : float32 array of that shape, optional
        May be dh, not h.
    n_threads : int, optional

    Returns
    -------
    float32 array

    Raises
    ------
    TypeError, ValueError
        An array has another type, shape or layout.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp import kernels
    >>> kernels.relu_backward(np.array([5, 5], np.float32), np.array([0, 2], np.float32))
    array([0., 5.], dtype=float32)
    """
    arrays.check("dh", dh, None)
    arrays.check("h", h, dh.shape)
    out = arrays.out_of(dh.shape, out)
    arrays.apart("out", out, h=h)
    n_threads = _threads(n_threads, dh.size * _ELEMENT)
    _copy(out, dh)
    operations.activate_backward(out.reshape(-1), h.reshape(-1), ACTIVATIONS["relu"].code, n_threads)
    return out


def activate(z: Float32, activation: str, *, out: Float32 | None = None, n_threads: int | None = None) -> Float32:
    """Return the activation of z, elementwise, within 4 units in the last place.

    Mish is so within 5, and GELU within 8; its tanh form is within 1e-6, and coarser are only products of denormals.

    Parameters
    ----------
    z : float32 array
        Of any shape.
    activation : str, a name of `fastmlp.activations.ACTIVATIONS`
    out : float32 array of that shape, optional
        May be z.
    n_threads : int, optional

    Returns
    -------
    float32 array

    Raises
    ------
    TypeError, ValueError
        An array has another type, shape or layout, or the activation is unknown.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp import kernels
    >>> kernels.activate(np.array([0, 100], np.float32), "logistic")
    array([0.5, 1. ], dtype=float32)
    """
    code = ACTIVATIONS[checks.one_of("activation", activation, ACTIVATIONS)].code
    arrays.check("z", z, None)
    out = arrays.out_of(z.shape, out)
    n_threads = _threads(n_threads, z.size * _ELEMENT)
    _copy(out, z)
    operations.activate(out.reshape(-1), code, n_threads)
    return out


def softmax(logits: Float32, *, out: Float32 | None = None) -> Float32:
    """Return the softmax of each row; stable for logits of any size.

    Parameters
    ----------
    logits : float32 array (n, m)
    out : float32 array (n, m), optional
        May be `logits`.

    Returns
    -------
    float32 array (n, m)

    Raises
    ------
    TypeError, ValueError
        An array has another type, shape or layout.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp import kernels
    >>> kernels.softmax(np.array([[1e5, 1e5]], np.float32))
    array([[0.5, 0.5]], dtype=float32)
    """
    _rows(logits)
    out = arrays.out_of(logits.shape, out)
    _copy(out, logits)
    operations.softmax(out)
    return out


def softmax_cross_entropy(
    logits: Float32, targets: Array, *, out: Float32 | None = None, n_threads: int | None = None
) -> tuple[Float32, Float32]:
    """Return the cross-entropy of each row's softmax, and its gradient by the logits.

    Parameters
    ----------
    logits : float32 array (n, m)
        Finite; stable at any size.
    targets : int64 array (n,) or float32 array (n, m)
        Labels in [0, m), or rows of probabilities.
    out : float32 array (n, m), optional
        Takes the gradient; may be `logits`.
    n_threads : int, optional

    Returns
    -------
    loss : float32 array (n,)
    dlogits : float32 array (n, m)
        softmax(logits) - targets, of each row's own loss: not divided by n.

    Raises
    ------
    TypeError, ValueError
        An array has another type, shape or layout, or a label is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp import kernels
    >>> loss, dlogits = kernels.softmax_cross_entropy(np.zeros((1, 2), np.float32), np.array([1]))
    >>> loss.round(4), dlogits
    (array([0.6931], dtype=float32), array([[ 0.5, -0.5]], dtype=float32))
    """
    return _loss_gradient(logits, targets, CrossEntropy(), out, n_threads)


def losses(logits: Float32, targets: Array, loss: str | Loss, *, n_threads: int | None = None) -> Float32:
    """Return the loss of each row.

    Parameters
    ----------
    logits : float32 array (n, m)
        Finite.
    targets : int64 array (n,) or float32 array (n, m)
        Labels only where the loss has classes; for `Quantile` (n, m / len(levels)).
    loss : str or fastmlp.losses.Loss, but no `Custom` one
    n_threads : int, optional

    Returns
    -------
    float32 array (n,)

    Raises
    ------
    TypeError, ValueError
        An array has another type, shape or layout, a label is out of range, or the loss is unknown.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp import kernels
    >>> kernels.losses(np.ones((1, 2), np.float32), np.zeros((1, 2), np.float32), "squared_error")
    array([1.], dtype=float32)
    """
    return _loss_gradient(logits, targets, loss_of(loss), None, n_threads)[0]


def adam(
    weights: Float32,
    m: Float32,
    v: Float32,
    gradient: Float32,
    step: int,
    *,
    learning_rate: float = 1e-3,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-8,
    weight_decay: float = 0.0,
    n_threads: int | None = None,
) -> None:
    """Take one step of Adam, in place; with `weight_decay`, of AdamW.

    Algorithm 1 of Kingma & Ba (2015, arXiv:1412.6980); weight decay as in Loshchilov & Hutter (2019,
    arXiv:1711.05101).

    Parameters
    ----------
    weights, m, v : float32 arrays of one shape
        Parameters and the running means of the gradient and of its square; all three are changed.
    gradient : float32 array of that shape
    step : int
        Number of this step, from 1.
    learning_rate, beta_1, beta_2, epsilon, weight_decay : float
    n_threads : int, optional

    Raises
    ------
    TypeError, ValueError
        An array has another type, shape or layout, or cannot be written; `step` is not from 1 to 2**53.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp import kernels
    >>> weights, m, v = np.float32([1]), np.float32([0]), np.float32([0])
    >>> kernels.adam(weights, m, v, np.float32([5]), step=1, learning_rate=0.5)
    >>> weights
    array([0.5], dtype=float32)
    """
    arrays.check("weights", weights, None, writable=True)
    for name, array in (("m", m), ("v", v)):
        arrays.check(name, array, weights.shape, writable=True)
    arrays.check("gradient", gradient, weights.shape)
    arrays.apart("weights", weights, m=m, v=v, gradient=gradient)
    arrays.apart("m", m, v=v, gradient=gradient)
    arrays.apart("v", v, gradient=gradient)
    step = checks.integer("step", step, least=1, most=2**53)
    operations.adam(
        weights.reshape(-1),
        m.reshape(-1),
        v.reshape(-1),
        gradient.reshape(-1),
        step,
        learning_rate,
        beta_1,
        beta_2,
        epsilon,
        weight_decay,
        _threads(n_threads, weights.size * _ELEMENT),
    )


def _loss_gradient(
    logits: Float32, targets: Array, loss: Loss, out: Float32 | None, n_threads: int | None
) -> tuple[Float32, Float32]:
    if loss.code is None:
        raise ValueError(f"loss must be one that the engine has, not {loss!r:.80}")
    n, m = _rows(logits)
    if m % loss.outputs_a_target:
        raise ValueError(f"logits must have {loss.outputs_a_target} columns for each target; they have {m}")
    labels = values = None
    if loss.targets == "classes" and np.ndim(targets) == 1:
        arrays.check("targets", targets, (n,), np.int64)
        # A copy: memory is addressed by labels, so what is checked must not change under the kernel.
        labels = targets.copy()
        if n and not (labels.min() >= 0 and labels.max() < m):
            raise ValueError(f"targets must be labels from 0 to {m - 1}; they are {labels.min()} to {labels.max()}")
    else:
        arrays.check("targets", targets, (n, m // loss.outputs_a_target))
        values = targets
    out = arrays.out_of((n, m), out)
    arrays.apart("out", out, targets=targets)
    n_threads = _threads(n_threads, 10 * n * m * _ELEMENT)
    _copy(out, logits)
    loss_rows, scale = np.empty(n, np.float32), np.ones(n, np.float32)
    if n:
        parameters = np.array(loss.parameters, np.float32)
        operations.loss_gradient(out, loss_rows, labels, values, scale, loss.code, parameters, n_threads)
    return loss_rows, out


def _rows(logits: Float32) -> tuple[int, int]:
    """Check rows of logits, and return their shape."""
    arrays.check("logits", logits, (None, None))
    n, m = logits.shape
    if m == 0:
        raise ValueError(f"logits must have at least one column; it has shape {logits.shape}")
    return n, m


def _copy(out: Float32, values: Float32) -> None:
    if out is not values:
        out[...] = values


def _threads(n_threads: int | None, seconds: float) -> int:
    if n_threads is not None:
        n_threads = checks.integer("n_threads", n_threads, least=1, most=threads.MAX_THREADS)
    return threads.choose(n_threads, seconds)
