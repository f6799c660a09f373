"""What a normalised network is in prediction: a plain one, by its running statistics."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastmlp.arrays import Float32
from fastmlp.layers import Layer, views

__all__ = ["EPSILON", "fold"]

# What normalisation adds to a variance, as PyTorch does.
EPSILON = 1e-5


def fold(layers: Sequence[Layer], values: Float32) -> None:
    """In place: weights and biases become those of plain layers that compute what normalised ones do in prediction.

    Ioffe & Szegedy 2015, "Batch normalization: accelerating deep network training by reducing internal covariate
    shift", algorithm 2, lines 10 and 11. The factors are made in float64. Scales and running statistics stay where
    they are, and are of no use any more.

    Parameters
    ----------
    layers : sequence of Layer
    values : float32 array
        All of `fastmlp.layers.layout`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp.layers import Layer, views
    >>> from fastmlp.normalisation import fold
    >>> layers = [Layer(1, 1, "relu", normalised=True)]
    >>> values = np.float32([1, 10, 2, 3, 4])  # weight, bias, scale, running mean, running variance
    >>> fold(layers, values)
    >>> views(layers, values, "weights")[0].round(3), views(layers, values, "bias")[0].round(3)
    (array([[1.]], dtype=float32), array([7.], dtype=float32))
    """
    normalised = [i for i, layer in enumerate(layers) if layer.normalised]
    weights, biases = (views(layers, values, name) for name in ("weights", "bias"))
    statistics = (views(layers, values, name) for name in ("scale", "running_mean", "running_variance"))
    for i, scale, mean, variance in zip(normalised, *statistics, strict=True):
        factor = scale / np.sqrt(np.float64(variance) + EPSILON)
        weights[i][...] *= factor.astype(np.float32)
        biases[i][...] -= mean * factor
