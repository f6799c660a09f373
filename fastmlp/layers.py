"""What a layer is, and where each of its parameters lies in the network's flat array: the one home of that layout."""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, pairwise, repeat
from typing import Any, NamedTuple

import numpy as np

from fastmlp import checks
from fastmlp.activations import ACTIVATIONS
from fastmlp.arrays import Float32

__all__ = [
    "Layer",
    "Parameter",
    "checked_sizes",
    "engine_layers",
    "layers_of",
    "layout",
    "n_parameters",
    "n_values",
    "views",
]


class Layer(NamedTuple):
    """A dense layer: h = activation(x weights + bias), or activation(scale * normalised(x weights) + bias).

    Attributes
    ----------
    inputs, units : int
        Values of a row that it reads (k), and that it makes (m).
    activation : str
        A name of `fastmlp.activations.ACTIVATIONS`.
    normalised : bool
        Whether its sums are normalised over the batch, as `fastmlp.reference.normalise` does; its bias is then that
        of the normalised sums.
    dropout : float
        Share of its units that are left out in training, the others multiplied by 1 / (1 - dropout).
    noise : float
        Standard deviation of Gaussian noise on its sums before the activation, in training.

    Examples
    --------
    >>> from fastmlp.layers import Layer
    >>> Layer(inputs=784, units=256, activation="relu").units
    256
    """

    inputs: int
    units: int
    activation: str
    normalised: bool = False
    dropout: float = 0.0
    noise: float = 0.0


class Parameter(NamedTuple):
    """A matrix or a row of parameters within the flat array, or of a normalised layer's running statistics.

    Attributes
    ----------
    layer : int
        Its layer, from 0.
    name : {"weights", "bias", "scale", "running_mean", "running_variance"}
    offset : int
        Of its first value.
    shape : tuple of int
        (inputs, units), row by row; or (units,).

    Examples
    --------
    >>> from fastmlp.layers import layers_of, layout
    >>> list(layout(layers_of((3, 4, 2), "relu")))[1]
    Parameter(layer=0, name='bias', offset=12, shape=(4,))
    """

    layer: int
    name: str
    offset: int
    shape: tuple[int, ...]


def checked_sizes(layer_sizes: Sequence[int]) -> tuple[int, ...]:
    """Return sizes that layers can stand between: two at least, from 1 on, and no more parameters than arrays can hold.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp.layers import checked_sizes
    >>> checked_sizes(np.array([784, 256, 10]))
    (784, 256, 10)
    """
    listed = isinstance(layer_sizes, (Sequence, np.ndarray)) and not isinstance(layer_sizes, (str, bytes))
    if not listed or getattr(layer_sizes, "ndim", 1) == 0:
        raise TypeError(
            f"layer_sizes must be a sequence of whole numbers, not {layer_sizes!r:.80}; as in MLP((784, 256, 10))"
        )
    sizes = tuple(
        checks.integer(f"layer_sizes[{i}]", size, least=1, most=2**31 - 1) for i, size in enumerate(layer_sizes)
    )
    if len(sizes) < 2:
        raise ValueError(f"layer_sizes must have at least inputs and outputs, not {sizes}")
    count = n_parameters(layers_of(sizes, "identity"))
    if count >= 2**60:  # 4 bytes each: no array can be longer
        raise ValueError(f"layer_sizes must make less than 2**60 parameters; {sizes} makes {count}")
    return sizes


def layers_of(
    layer_sizes: Sequence[int],
    activation: str | Sequence[str],
    *,
    batch_norm: bool = False,
    dropout: float | Sequence[float] = 0.0,
    noise: float | Sequence[float] = 0.0,
) -> tuple[Layer, ...]:
    """Return layers between these sizes; activation, dropout and noise are one for all hidden ones or one for each.

    With batch_norm the hidden ones are normalised. The last layer's outputs are the loss's logits.

    Examples
    --------
    >>> from fastmlp.layers import layers_of
    >>> [(layer.activation, layer.dropout) for layer in layers_of((3, 4, 4, 2), ("tanh", "relu"), dropout=0.5)]
    [('tanh', 0.5), ('relu', 0.5), ('identity', 0.0)]
    """

    def each(value: Any, of_outputs: Any) -> Iterator[Any]:
        hidden = value if isinstance(value, (tuple, list)) else repeat(value, len(layer_sizes) - 2)
        return chain(hidden, [of_outputs])

    columns = each(activation, "identity"), each(batch_norm, False), each(dropout, 0.0), each(noise, 0.0)
    return tuple(Layer(k, m, *own) for (k, m), *own in zip(pairwise(layer_sizes), *columns, strict=True))


def layout(layers: Iterable[Layer]) -> Iterator[Parameter]:
    """Yield the parameters of each layer in their order: its weights and, right after them, bias and scale.

    After all parameters, which an optimizer changes, come the running statistics of normalised layers.

    Examples
    --------
    >>> from fastmlp.layers import layers_of, layout
    >>> [parameter.offset for parameter in layout(layers_of((3, 4, 2), "relu"))]
    [0, 12, 16, 24]
    """
    offset, layers = 0, tuple(layers)
    for i, layer in enumerate(layers):
        yield Parameter(i, "weights", offset, (layer.inputs, layer.units))
        offset += layer.inputs * layer.units
        for name in ("bias", "scale") if layer.normalised else ("bias",):
            yield Parameter(i, name, offset, (layer.units,))
            offset += layer.units
    for i, layer in enumerate(layers):
        for name in ("running_mean", "running_variance") if layer.normalised else ():
            yield Parameter(i, name, offset, (layer.units,))
            offset += layer.units


def views(layers: Iterable[Layer], values: Float32, name: str) -> tuple[Float32, ...]:
    """Return all "weights", or each "bias" and so on, within the flat array.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp.layers import layers_of, views
    >>> views(layers_of((1, 1, 2), "relu"), np.arange(6, dtype=np.float32), "bias")
    (array([1.], dtype=float32), array([4., 5.], dtype=float32))
    """
    return tuple(
        values[offset : offset + math.prod(shape)].reshape(shape)
        for _, found, offset, shape in layout(layers)
        if found == name
    )


def squared_norm(weights: Iterable[Float32]) -> float:
    """Return the sum of the squares of all weights.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp.layers import squared_norm
    >>> squared_norm([np.float32([[3, 4]]), np.float32([[1]])])
    26.0
    """
    return float(sum(np.vdot(matrix, matrix) for matrix in weights))


def n_parameters(layers: Iterable[Layer]) -> int:
    """Return how many parameters the layers have.

    Examples
    --------
    >>> from fastmlp.layers import layers_of, n_parameters
    >>> n_parameters(layers_of((3, 4, 2), "relu"))
    26
    """
    return sum((layer.inputs + 1 + layer.normalised) * layer.units for layer in layers)


def n_values(layers: Iterable[Layer]) -> int:
    """Return how long the flat array is: the parameters and the running statistics.

    Examples
    --------
    >>> from fastmlp.layers import Layer, n_parameters, n_values
    >>> layers = [Layer(3, 4, "relu", normalised=True)]
    >>> n_parameters(layers), n_values(layers)
    (20, 28)
    """
    layers = tuple(layers)
    return n_parameters(layers) + sum(2 * layer.units for layer in layers if layer.normalised)


def engine_layers(
    layers: Sequence[Layer], *, folded: bool = False
) -> list[tuple[int, int, int, bool, bool, int, int | None, float, float]]:
    """Return what the engine reads of each layer: inputs, units, its activation, offsets, dropout, noise.

    The activation is its code, whether it makes zeros, and whether its derivative reads the sum before it. The offsets
    are that of the weights, which bias and scale follow, and that of the running mean, which the running variance
    follows; None where the layer is not normalised, or where `fastmlp.normalisation.fold` has made it a plain one.

    Examples
    --------
    >>> from fastmlp.layers import engine_layers, layers_of
    >>> engine_layers(layers_of((3, 4, 2), "relu"))
    [(3, 4, 1, True, False, 0, None, 0.0, 0.0), (4, 2, 0, False, False, 16, None, 0.0, 0.0)]
    """
    offsets = {(parameter.layer, parameter.name): parameter.offset for parameter in layout(layers)}
    found = []
    for i, layer in enumerate(layers):
        f = ACTIVATIONS[layer.activation]
        places = offsets[i, "weights"], None if folded else offsets.get((i, "running_mean"))
        activation = f.code, f.makes_zeros, f.reads == "sum"
        found.append((layer.inputs, layer.units, *activation, *places, layer.dropout, layer.noise))
    return found
