"""What a normalised network is in prediction: a plain one, by its running statistics."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastmlp.arrays import Float32
from fastmlp.layers import Layer, n_parameters, views

__all__ = ["EPSILON", "folded"]

# What normalisation adds to a variance, as PyTorch does.
EPSILON = 1e-5


def folded(layers: Sequence[Layer], values: Float32) -> tuple[tuple[Layer, ...], Float32]:
    """Return plain layers, and their parameters, that compute what normalised ones do by their running statistics.

    Ioffe & Szegedy 2015, "Batch normalization: accelerating deep network training by reducing internal covariate
    shift", algorithm 2, lines 10 and 11. The factors are made in float64, and rounded with the products.

    Parameters
    ----------
    layers : sequence of Layer
    values : float32 array
        All of `fastmlp.layers.layout`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp.layers import Layer
    >>> from fastmlp.normalisation import folded
    >>> layer = Layer(1, 1, "relu", normalised=True)
    >>> _, parameters = folded([layer], np.float32([1, 10, 2, 3, 4]))  # weight, bias, scale, mean, variance
    >>> parameters.round(3)
    array([1., 7.], dtype=float32)
    """
    plain = tuple(layer._replace(normalised=False) for layer in layers)
    parameters = np.empty(n_parameters(plain), np.float32)
    weights, biases = (views(plain, parameters, name) for name in ("weights", "bias"))
    names = ("scale", "running_mean", "running_variance")
    statistics = zip(*(views(layers, values, name) for name in names), strict=True)
    for i, layer in enumerate(layers):
        weights[i][...] = views(layers, values, "weights")[i]
        biases[i][...] = views(layers, values, "bias")[i]
        if layer.normalised:
            scale, mean, variance = (np.float64(statistic) for statistic in next(statistics))
            factor = scale / np.sqrt(variance + EPSILON)
            weights[i][...] *= np.float32(factor)
            biases[i][...] -= mean * factor
    return plain, parameters
