"""Which tensors of a file that another program wrote, PyTorch above all, are the dense layers of a network."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from itertools import pairwise
from typing import NamedTuple

from fastmlp.files.safetensors import DTYPES, Tensor

__all__ = ["NORMALISATION", "Dense", "dense_layers"]

# What `fastmlp.layers` calls the numbers of a normalised layer, and PyTorch's BatchNorm1d.
NORMALISATION = {
    "scale": "weight",
    "bias": "bias",
    "running_mean": "running_mean",
    "running_variance": "running_var",
}
# How many batches it has seen, which nothing depends on.
COUNTER = "num_batches_tracked"


class Dense(NamedTuple):
    """The names of a layer's tensors: weights (m, k) and bias (m,), where it has one.

    And, where a normalisation comes after it, what stands before ".weight" and so on in the names of that.

    Examples
    --------
    >>> from fastmlp.files.sequential import Dense
    >>> Dense("0.weight", bias=None)
    Dense(weight='0.weight', bias=None, norm=None)
    """

    weight: str
    bias: str | None
    norm: str | None = None


def dense_layers(tensors: Mapping[str, Tensor]) -> tuple[list[Dense], list[int]]:
    """Return the layers in their order, and the layer sizes that they make.

    The names are those of PyTorch's state: "0.weight", "0.bias", "2.weight" or "net.fc1.weight" and so on, equal but
    for their numbers, which give the order.

    Raises
    ------
    ValueError
        A tensor is none of such a layer, or does not fit the one before.

    Examples
    --------
    >>> from fastmlp.files.safetensors import Tensor
    >>> from fastmlp.files.sequential import dense_layers
    >>> shapes = {"fc1.weight": [4, 3], "fc1.bias": [4], "fc2.weight": [2, 4]}
    >>> layers, layer_sizes = dense_layers({name: Tensor("F32", shape, 0) for name, shape in shapes.items()})
    >>> layers[1], layer_sizes
    (Dense(weight='fc2.weight', bias=None, norm=None), [3, 4, 2])
    """
    stems = _stems(tensors)
    layers: list[Dense] = []
    for stem in sorted(stems, key=_numbers):
        names = stems[stem]
        if "weight" not in names:
            raise ValueError(f"tensor {min(names.values())!r:.80} has no weight beside it")
        if "running_mean" not in names:
            layers.append(Dense(names["weight"], names.get("bias")))
        elif missing := set(NORMALISATION.values()) - names.keys():
            raise ValueError(f"normalisation {stem!r:.80} has no {' and no '.join(sorted(missing))}")
        elif not layers or layers[-1].norm is not None:
            raise ValueError(f"normalisation {stem!r:.80} must come after a dense layer")
        else:
            layers[-1] = layers[-1]._replace(norm=stem)
    _check_types(tensors, {f"{layer.norm}.weight" for layer in layers})
    _check_shapes(tensors, layers)
    return layers, [tensors[layers[0].weight].shape[1], *(tensors[layer.weight].shape[0] for layer in layers)]


def _stems(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, str]]:
    """Return, for what stands before ".weight" and ".bias", the whole names of the two."""
    if not tensors:
        raise ValueError("there are no tensors")
    stems: dict[str, dict[str, str]] = {}
    for name in tensors:
        stem, _, kind = name.rpartition(".")
        if kind not in (*NORMALISATION.values(), COUNTER):
            raise ValueError(f"tensor {name!r:.80} is neither the weight nor the bias of a dense layer")
        stems.setdefault(stem, {})[kind] = name
    first = min(stems)
    for stem in stems:
        if re.split("[0-9]+", stem) != re.split("[0-9]+", first):
            raise ValueError(
                f"layers {first!r:.80} and {stem!r:.80} must differ in numbers alone, which give their order"
            )
    return stems


def _check_types(tensors: Mapping[str, Tensor], scales: Container[str]) -> None:
    for name, tensor in tensors.items():
        if name.endswith(f".{COUNTER}"):
            continue
        if tensor.dtype not in DTYPES:
            raise ValueError(f"tensor {name!r:.80} must be one of {', '.join(DTYPES)}, got {tensor.dtype:.80}")
        wanted = ["m", "k"] if name.endswith("weight") and name not in scales else ["m"]
        if len(tensor.shape) != len(wanted):
            raise ValueError(
                f"tensor {name!r:.80} must have shape [{', '.join(wanted)}], as in a dense layer, got {tensor.shape}"
            )


def _check_shapes(tensors: Mapping[str, Tensor], layers: list[Dense]) -> None:
    if layers[-1].norm is not None or len({layer.norm is None for layer in layers[:-1]}) > 1:
        raise ValueError("normalisation must come after every dense layer but the last, or after none")
    for weight, bias, norm in layers:
        m = tensors[weight].shape[0]
        for name in [bias, *(f"{norm}.{kind}" for kind in NORMALISATION.values() if norm)]:
            if name and tensors[name].shape != [m]:
                raise ValueError(
                    f"tensor {name!r:.80} must have shape [{m}], as {weight!r:.80}, got {tensors[name].shape}"
                )
    for before, after in pairwise(layers):
        m, k = tensors[before.weight].shape[0], tensors[after.weight].shape[1]
        if k != m:
            raise ValueError(f"tensor {after.weight!r:.80} takes {k} inputs, and {before.weight!r:.80} has {m} outputs")


def _numbers(stem: str) -> tuple[list[tuple[int, str]], str]:
    """Return what to sort by: the numbers in a name, as text, since those in a damaged file may be very long."""
    digits = [text.lstrip("0") for text in re.findall("[0-9]+", stem)]
    return [(len(text), text) for text in digits], stem
