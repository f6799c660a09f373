"""The table of activations: what stands between two layers, and its derivative.

``code`` is the number by which the engine knows the activation (``enum fm_activation`` in ``src/fastmlp.h``).
All functions work elementwise, on anything NumPy can read, and return float64.
"""

from collections.abc import Callable
from typing import NamedTuple

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
        h -> dh/dz. It takes the *output*, so that z need not be kept for the backward pass.
    init : str
        The initialisation that keeps the size of what passes through such layers: a name of `fastmlp.initial.INITS`.
    makes_zeros : bool
        Whether many outputs are exactly 0, which the engine then leaves out of the next products.

    Examples
    --------
    >>> from fastmlp.activations import ACTIVATIONS
    >>> list(ACTIVATIONS)
    ['relu', 'tanh', 'logistic', 'identity']
    >>> relu = ACTIVATIONS["relu"]
    >>> h = relu.forward([-2, 0, 3])
    >>> h.tolist(), relu.derivative(h).tolist()
    ([0.0, 0.0, 3.0], [0.0, 0.0, 1.0])
    """

    code: int
    forward: Callable[[ArrayLike], Float64]
    derivative: Callable[[ArrayLike], Float64]
    init: str
    makes_zeros: bool = False


ACTIVATIONS: dict[str, Activation] = {
    # max(z, 0), with derivative 0 at 0. Nair & Hinton 2010, "Rectified linear units improve restricted
    # Boltzmann machines".
    "relu": Activation(
        code=1,
        forward=lambda z: np.maximum(float64(z), 0.0),
        derivative=lambda h: float64(np.greater(h, 0)),
        init="he",
        makes_zeros=True,
    ),
    # LeCun et al. 1998, "Efficient BackProp", section 4.4, without its scaling constants.
    "tanh": Activation(
        code=2,
        forward=lambda z: np.tanh(float64(z)),
        derivative=lambda h: 1.0 - float64(h) ** 2,
        init="glorot",
    ),
    # 1 / (1 + exp(-z)). Rumelhart, Hinton & Williams 1986, equation 2. Written as exp(-log(1 + exp(-z))):
    # exp(-z) alone overflows from z = -710 down.
    "logistic": Activation(
        code=3,
        forward=lambda z: np.exp(-np.logaddexp(0.0, -float64(z))),
        derivative=lambda h: float64(h) * (1.0 - float64(h)),
        init="glorot",
    ),
    "identity": Activation(
        code=0,
        forward=lambda z: +float64(z),
        derivative=lambda h: np.ones_like(float64(h)),
        init="glorot",
    ),
}


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
