"""The table of initialisations: how a layer's first parameters are drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from fastmlp.arrays import Float32
from fastmlp.layers import Layer

__all__ = ["INITS", "initial_parameters"]


def initial_parameters(layers: Iterable[Layer], init: str, seed: int) -> Float32:
    """Return the first parameters of all layers, flat, drawn layer by layer from the seed.

    Examples
    --------
    >>> from fastmlp.initial import initial_parameters
    >>> from fastmlp.layers import layers_of
    >>> initial_parameters(layers_of((3, 4, 2), "relu"), "he", seed=0).shape
    (26,)
    """
    generator = np.random.Generator(np.random.Philox(key=np.array([seed, 0], np.uint64)))
    return np.concatenate([INITS[init](generator, layer.inputs, layer.units) for layer in layers])


def _he(generator: np.random.Generator, k: int, m: int) -> Float32:
    weights = generator.standard_normal(k * m, dtype=np.float32) * np.float32(np.sqrt(2 / k))
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
    "he": _he,
    # Glorot & Bengio 2010, "Understanding the difficulty of training deep feedforward neural networks", equation 16.
    "glorot": _glorot,
    # As the tutorial does.
    "normal": _normal,
}
