"""Networks in safetensors files, with the tensors named and laid out as PyTorch's ``Sequential`` does."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as serialize

from fastmlp import checks
from fastmlp.errors import FileFormatError
from fastmlp.files.atomic import replacing
from fastmlp.network import MLP

__all__ = ["load", "save"]

_FORMAT = 1
_ARGUMENTS = {"layer_sizes": list, "activation": str, "loss": str, "init": str, "seed": int}  # of MLP


def save(network: MLP, path: str | bytes | os.PathLike[str]) -> None:
    """Save a network to a safetensors file.

    The file holds float32 tensors ``"0.weight"`` (m, k), ``"0.bias"`` (m,), ``"2.weight"``, ``"2.bias"``
    and so on, numbered by twice the layer, and the constructor's arguments as JSON under the metadata key
    ``"fastmlp"``. So PyTorch's ``Sequential(Linear, ReLU, Linear, ...)`` takes it as it stands:
    ``model.load_state_dict(safetensors.torch.load_file(path))``.

    The file appears whole or not at all: an interrupted save leaves the one that was there.

    Parameters
    ----------
    network
        The network. The state of its optimizer is not saved.
    path
        The file, replaced if it exists. No extension is added.

    Raises
    ------
    TypeError
        The path is none.
    ValueError
        A weight or a bias is NaN or infinite: what ``load`` would refuse is not written.
    OSError
        The file cannot be written.

    Examples
    --------
    >>> import os, tempfile
    >>> import fastmlp
    >>> network = fastmlp.MLP((4, 3, 2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "small.safetensors")
    ...     network.save(path)
    ...     fastmlp.load(path).layer_sizes
    (4, 3, 2)
    """
    path = checks.path("path", path)
    tensors = {name: np.ascontiguousarray(_finite(name, view)) for name, view in _views(network)}
    arguments = {name: getattr(network, name) for name in _ARGUMENTS}
    metadata = {"fastmlp": json.dumps({"format": _FORMAT, **arguments})}
    with replacing(path) as stream:
        stream.write(serialize(tensors, metadata=metadata))


def load(path: str | bytes | os.PathLike[str]) -> MLP:
    """Load a network that ``save`` wrote.

    Nothing in the file is executed, and no more memory is used than a network of the file's size takes.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    MLP
        A network that computes the same bits as the one that was saved.

    Raises
    ------
    TypeError
        The path is none.
    FileFormatError
        The file is not a safetensors file or not a network: the message names the key and what is wrong.
    OSError
        The file cannot be read; ``FileNotFoundError`` when there is none.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> import fastmlp
    >>> network = fastmlp.MLP((4, 3, 2), activation="tanh", seed=1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "small.safetensors")
    ...     network.save(path)
    ...     loaded = fastmlp.load(path)
    >>> loaded.activation, np.array_equal(loaded.parameters, network.parameters)
    ('tanh', True)
    """
    path = checks.path("path", path)
    with open(path, "rb") as stream:  # for the operating system's own errors, which safetensors rewords
        size = os.fstat(stream.fileno()).st_size
    try:
        with safe_open(path, framework="numpy") as file:
            arguments = _parse(file.metadata() or {})
            _check(file, arguments["layer_sizes"])
            network = MLP(**arguments)
            for name, view in _views(network):
                view[...] = _finite(name, file.get_tensor(name))
            return network
    except (SafetensorError, ValueError) as error:
        raise FileFormatError(f"{path} ({size} bytes): {error}") from error


def _views(network: MLP) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    """Yield the name and the values of each tensor, shaped as in the file."""
    for layer, (weight, bias) in enumerate(zip(network.weights, network.biases, strict=True)):
        yield f"{2 * layer}.weight", weight.T
        yield f"{2 * layer}.bias", bias


def _shapes(layer_sizes: list[int]) -> Iterator[tuple[str, list[int]]]:
    """Yield the name and the shape of each tensor in the file of such a network."""
    for layer, (k, m) in enumerate(pairwise(layer_sizes)):
        yield f"{2 * layer}.weight", [m, k]
        yield f"{2 * layer}.bias", [m]


def _parse(metadata: dict[str, str]) -> dict[str, Any]:
    """Return the arguments of ``MLP``, of the right types; ``MLP`` itself judges their values."""
    if "fastmlp" not in metadata:
        raise ValueError("metadata key 'fastmlp' is missing: no network saved by fastmlp")
    try:
        fields = json.loads(metadata["fastmlp"])
    except (ValueError, RecursionError) as error:
        raise ValueError(f"metadata key 'fastmlp' is not JSON: {error}") from error
    if type(fields) is not dict:
        raise ValueError(f"metadata key 'fastmlp' must hold a JSON object, got {fields!r:.80}")

    version = fields.pop("format", None)
    if type(version) is not int or version != _FORMAT:
        raise ValueError(f"metadata key 'format' must be {_FORMAT}, the one that is known, got {version!r:.80}")
    if wrong := fields.keys() ^ _ARGUMENTS.keys():
        raise ValueError(f"metadata keys must be {', '.join(_ARGUMENTS)}; missing or unknown: {sorted(wrong)}")
    for name, wanted in _ARGUMENTS.items():
        if type(fields[name]) is not wanted:
            raise ValueError(f"metadata key {name!r} must be {wanted.__name__}, got {fields[name]!r:.80}")
    if len(fields["layer_sizes"]) < 2 or not all(type(n) is int and n > 0 for n in fields["layer_sizes"]):
        raise ValueError(f"metadata key 'layer_sizes' must be two sizes or more, got {fields['layer_sizes']!r:.80}")
    return fields


def _check(file: Any, layer_sizes: list[int]) -> None:
    """Compare the tensors in the file with what the network needs, before anything of its size exists."""
    left = set(file.keys())
    for name, shape in _shapes(layer_sizes):
        if name not in left:
            raise ValueError(f"tensor {name!r} is missing")
        left.remove(name)
        tensor = file.get_slice(name)
        if tensor.get_dtype() != "F32":
            raise ValueError(f"tensor {name!r} must be F32, got {tensor.get_dtype()}")
        if tensor.get_shape() != shape:
            raise ValueError(f"tensor {name!r} must have shape {shape} by 'layer_sizes', got {tensor.get_shape()}")
    if left:
        raise ValueError(f"tensor {min(left)!r} does not belong to a network of {len(layer_sizes)} layer sizes")


def _finite(name: str, tensor: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    if not np.isfinite(tensor).all():
        raise ValueError(f"tensor {name!r} has NaN or infinity")
    return tensor
