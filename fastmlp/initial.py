"""The table of initialisations: how a layer's first parameters are drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from fastmlp.activations import ACTIVATIONS
from fastmlp.arrays import Float32
from fastmlp.draws import WEIGHTS, random_bits
from fastmlp.layers import Layer

__all__ = ["INITS", "fitting", "initial_values"]


def fitting(activation: str | Sequence[str]) -> str | tuple[str, ...]:
    """Return the initialisation that suits the hidden layers' activation: of all layers, or of each where they differ.

    The last layer is drawn as the one before it.

    Examples
    --------
    >>> from fastmlp.initial import fitting
    >>> fitting("relu"), fitting(("relu", "tanh"))
    ('he', ('he', 'glorot', 'glorot'))
    """
    if isinstance(activation, str):
        return ACTIVATIONS[activation].init
    return tuple(ACTIVATIONS[name].init for name in (*activation, *(activation[-1:] or ["identity"])))


def initial_values(layers: Sequence[Layer], init: str | Sequence[str], seed: int) -> Float32:
    """Return the first parameters of all layers, flat, drawn layer by layer from the seed: by one init, or each by its.

    Scales are 1. Running statistics, which follow them, are those of sums that need no normalisation.

    Examples
    --------
    >>> from fastmlp.initial import initial_values
    >>> from fastmlp.layers import layers_of
    >>> initial_values(layers_of((3, 4, 2), "relu"), "he", seed=0).shape
    (26,)
    """
    generator = np.random.Generator(random_bits(seed, WEIGHTS))
    inits = [init] * len(layers) if isinstance(init, str) else init
    parts = []
    for name, layer in zip(inits, layers, strict=True):
        parts.append(INITS[name](generator, layer.inputs, layer.units))
        parts.append(np.ones(layer.units * layer.normalised, np.float32))
    for layer in layers:
        parts.append(np.repeat(np.array([0, 1], np.float32), layer.units * layer.normalised))
    return np.concatenate(parts)


def _by_fan_in(gain: float, generator: np.random.Generator, k: int, m: int) -> Float32:
    weights = generator.standard_normal(k * m, dtype=np.float32) * np.float32(np.sqrt(gain / k))
    return np.concatenate([weights, np.zeros(m, np.float32)])


def _glorot(generator: np.random.Generator, k: int, m: int) -> Float32:
    limit = np.float32(np.sqrt(6 / (k + m)))
    weights = (2 * generator.random(k * m, dtype=np.float32) - 1) * limit
    return np.concatenate([weights, np.zeros(m, np.float32)])


def _normal(generator: np.random.Generator, k: int, m: int) -> Float32:
    return generator.standard_normal((k + 1) * m, dtype=np.float32)


# Each takes a generator and a layer's k inputs and m units, and gives its weights, row by row, and then its bias.
INITS: dict[str, Callable[[np.random.Generator, int, int], Float32]] = {
    # He et al. 2015, "Delving deep into rectifiers", section 2.2.
    "he": partial(_by_fan_in, 2),
    # Glorot & Bengio 2010, "Understanding the difficulty of training deep feedforward neural networks", equation 16.
    "glorot": _glorot,
    # LeCun et al. 1998, "Efficient BackProp", equation 16; for SELU, Klambauer et al. 2017, section 2.
    "lecun": partial(_by_fan_in, 1),
    # As the tutorial does.
    "normal": _normal,
}
