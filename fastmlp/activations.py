"""The table of activations: what stands between two layers, and its derivative.

``code`` is the number by which the engine knows the activation (``enum fm_activation`` in ``src/fastmlp.h``).
All functions work elementwise, on anything NumPy can read, and return float64.
"""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from fastmlp.arrays import Float64

__all__ = ["ACTIVATIONS", "Activation", "float64"]


class Activation(NamedTuple):
    """An elementwise function h = f(z) and its derivative.

    Attributes
    ----------
    code : int
        The engine's number for it.
    forward : callable
        z -> h, for an array of any shape.
    derivative : callable
        z -> dh/dz; at a corner what PyTorch has.
    init : str
        The initialisation that keeps the size of what passes through such layers: a name of `fastmlp.initial.INITS`.
    reads : {"output", "sum"}
        What the engine computes the derivative from: h, so that z need not be kept for the backward pass, or z, where h
        does not say which z it came from.
    makes_zeros : bool
        Whether many outputs are exactly 0, which the engine then leaves out of the next products.

    Examples
    --------
    >>> from fastmlp.activations import ACTIVATIONS
    >>> " ".join(ACTIVATIONS)
    'relu leaky_relu elu selu gelu gelu_tanh silu mish softplus tanh logistic identity'
    >>> relu = ACTIVATIONS["relu"]
    >>> relu.forward([-2, 0, 3]).tolist(), relu.derivative([-2, 0, 3]).tolist()
    ([0.0, 0.0, 3.0], [0.0, 0.0, 1.0])
    """

    code: int
    forward: Callable[[ArrayLike], Float64]
    derivative: Callable[[ArrayLike], Float64]
    init: str
    reads: Literal["output", "sum"] = "output"
    makes_zeros: bool = False


def float64(values: ArrayLike) -> Float64:
    """Read values as a float64 array: the precision in which the specification computes.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp.activations import float64
    >>> float64(np.float32([0.5, 2])).dtype
    dtype('float64')
    """
    return np.asarray(values, dtype=np.float64)


def _logistic(z: ArrayLike) -> Float64:
    """1 / (1 + exp(-z)), written as exp(-log(1 + exp(-z))): exp(-z) alone overflows from z = -710 down."""
    return np.exp(-_softplus(-float64(z)))


def _logistic_derivative(z: ArrayLike) -> Float64:
    return _logistic(z) * _logistic(-float64(z))


def _softplus(z: ArrayLike) -> Float64:
    return np.logaddexp(0.0, float64(z))


def _bent(slope: float, limit: float) -> tuple[Callable[[ArrayLike], Float64], Callable[[ArrayLike], Float64]]:
    """Return slope z above 0 and limit (exp(z) - 1) up to it, and the derivative of that."""

    def forward(z: ArrayLike) -> Float64:
        return slope * np.maximum(float64(z), 0.0) + limit * np.expm1(np.minimum(float64(z), 0.0))

    def derivative(z: ArrayLike) -> Float64:
        return np.where(np.greater(z, 0), slope, limit * np.exp(np.minimum(float64(z), 0.0)))

    return forward, derivative


# NumPy has no erfc.
_erfc = np.frompyfunc(math.erfc, 1, 1)


def _normal(z: ArrayLike) -> Float64:
    """Phi, the distribution of a standard normal variable."""
    return float64(_erfc(-float64(z) / math.sqrt(2))) / 2


def _gelu_derivative(z: ArrayLike) -> Float64:
    density = np.exp(-(float64(z) ** 2) / 2) / math.sqrt(2 * math.pi)
    derivative: Float64 = _normal(z) + float64(z) * density
    return derivative


def _gelu_argument(z: ArrayLike) -> Float64:
    return math.sqrt(2 / math.pi) * (float64(z) + 0.044715 * float64(z) ** 3)


def _gelu_tanh_derivative(z: ArrayLike) -> Float64:
    inner = math.sqrt(2 / math.pi) * (1.0 + 3 * 0.044715 * float64(z) ** 2)
    u = 2 * _gelu_argument(z)
    return _logistic(u) + float64(z) * _logistic_derivative(u) * 2 * inner


def _silu_derivative(z: ArrayLike) -> Float64:
    return _logistic(z) + float64(z) * _logistic_derivative(z)


def _mish_derivative(z: ArrayLike) -> Float64:
    t = np.tanh(_softplus(z))
    return t + float64(z) * (1.0 - t**2) * _logistic(z)


_ELU, _SELU = _bent(1.0, 1.0), _bent(1.0507009873554805, 1.0507009873554805 * 1.6732632423543772)

ACTIVATIONS: dict[str, Activation] = {
    # max(z, 0). Nair & Hinton 2010, "Rectified linear units improve restricted Boltzmann machines".
    "relu": Activation(
        code=1,
        forward=lambda z: np.maximum(float64(z), 0.0),
        derivative=lambda z: float64(np.greater(z, 0)),
        init="he",
        makes_zeros=True,
    ),
    # z, but z / 100 below 0. Maas, Hannun & Ng 2013, "Rectifier nonlinearities improve neural network acoustic models".
    "leaky_relu": Activation(
        code=4,
        forward=lambda z: np.maximum(float64(z), 0.01 * float64(z)),
        derivative=lambda z: np.where(np.greater(z, 0), 1.0, 0.01),
        init="he",
    ),
    # z, but exp(z) - 1 below 0. Clevert, Unterthiner & Hochreiter 2016, "Fast and accurate deep network learning by
    # exponential linear units", equation 15, with alpha = 1.
    "elu": Activation(code=5, forward=_ELU[0], derivative=_ELU[1], init="he"),
    # scale times z or, below 0, alpha (exp(z) - 1). Klambauer et al. 2017, "Self-normalizing neural networks",
    # equations 2 and 14.
    "selu": Activation(code=6, forward=_SELU[0], derivative=_SELU[1], init="lecun"),
    # z Phi(z). Hendrycks & Gimpel 2016, "Gaussian error linear units", section 2.
    "gelu": Activation(
        code=7,
        forward=lambda z: float64(z) * _normal(z),
        derivative=_gelu_derivative,
        init="he",
        reads="sum",
    ),
    # Their z / 2 (1 + tanh(sqrt(2 / pi) (z + 0.044715 z^3))), which is near: PyTorch's GELU(approximate="tanh"), and
    # what jax.nn.gelu computes. 1/2 (1 + tanh(u)) is logistic(2 u).
    "gelu_tanh": Activation(
        code=8,
        forward=lambda z: float64(z) * _logistic(2 * _gelu_argument(z)),
        derivative=_gelu_tanh_derivative,
        init="he",
        reads="sum",
    ),
    # z logistic(z), also called swish. Ramachandran, Zoph & Le 2017, "Searching for activation functions".
    "silu": Activation(
        code=9,
        forward=lambda z: float64(z) * _logistic(z),
        derivative=_silu_derivative,
        init="he",
        reads="sum",
    ),
    # z tanh(softplus(z)). Misra 2020, "Mish: a self regularized non-monotonic activation function".
    "mish": Activation(
        code=10,
        forward=lambda z: float64(z) * np.tanh(_softplus(z)),
        derivative=_mish_derivative,
        init="he",
        reads="sum",
    ),
    # log(1 + exp(z)). Dugas et al. 2001, "Incorporating second-order functional knowledge for better option pricing".
    "softplus": Activation(code=11, forward=_softplus, derivative=_logistic, init="glorot"),
    # LeCun et al. 1998, "Efficient BackProp", section 4.4, without its scaling constants.
    "tanh": Activation(
        code=2,
        forward=lambda z: np.tanh(float64(z)),
        derivative=lambda z: 1.0 - np.tanh(float64(z)) ** 2,
        init="glorot",
    ),
    # 1 / (1 + exp(-z)). Rumelhart, Hinton & Williams 1986, equation 2.
    "logistic": Activation(code=3, forward=_logistic, derivative=_logistic_derivative, init="glorot"),
    "identity": Activation(
        code=0,
        forward=lambda z: +float64(z),
        derivative=lambda z: np.ones_like(float64(z)),
        init="glorot",
    ),
}
