"""A network's file: float32 tensors, named and laid out as PyTorch's ``Sequential`` does, and what they are for."""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import BufferedIOBase
from typing import Any

import numpy as np

from fastmlp import checks
from fastmlp.activations import ACTIVATIONS
from fastmlp.arrays import Float32
from fastmlp.errors import FileFormatError
from fastmlp.files import safetensors
from fastmlp.files.atomic import replacing
from fastmlp.files.sequential import NORMALISATION, Dense, dense_layers
from fastmlp.layers import Layer, layers_of, views
from fastmlp.losses import LOSSES, Custom, Loss
from fastmlp.network import MLP
from fastmlp.normalisation import fold as fold_in

__all__ = ["RUN", "contents", "read", "reading", "save"]


_FORMAT = 1
# The metadata key of a checkpoint's run, with which the names of its own tensors begin.
RUN = "fastmlp.run"
# Arguments of MLP, and what they are in JSON. A list of such has one for each layer.
_ARGUMENTS = {
    "layer_sizes": (list,),
    "activation": (str, list),
    "loss": (str, dict),
    "init": (str, list),
    "seed": (int,),
}
_FIELDS: dict[str, tuple[type, ...]] = {**_ARGUMENTS, "crc32": (int,)}
# Those that are there where they are not 0.
_OPTIONAL: dict[str, tuple[type, ...]] = {
    "batch_norm": (bool,),
    "dropout": (float, list),
    "input_dropout": (float,),
    "noise": (float, list),
    "input_noise": (float,),
    "max_norm": (float,),
}


def save(network: MLP, path: str | bytes | os.PathLike[str], *, fold: bool = False) -> None:
    """Save a network to a safetensors file.

    The file holds float32 tensors ``"0.weight"`` (m, k), ``"0.bias"`` (m,), ``"2.weight"`` and so on. Its metadata key
    ``"fastmlp"`` has the constructor's arguments as JSON, and a checksum of them and of the tensors, by which ``load``
    finds damage. PyTorch's ``Sequential(Linear, ReLU, Linear, ...)`` takes the file as it stands:
    ``model.load_state_dict(safetensors.torch.load_file(path))``.

    With ``batch_norm`` it is that of ``Sequential(Linear, BatchNorm1d, ReLU, Linear, ...)``: ``"1.weight"`` and
    ``"1.bias"``, the scale and the shift, ``"1.running_mean"`` and ``"1.running_var"``, all (m,), then ``"3.weight"``
    and so on; ``"0.bias"``, which the normalisation would take off again, is zeros.

    The file appears whole or not at all: an interrupted save leaves the one that was there. What the save of a
    process that was killed has left in the folder, ``fastmlp-*.tmp``, the next save there removes.

    Parameters
    ----------
    network
        The network. The state of its optimizer is not saved. Its parameters are copied first, and no more memory is
        taken than that.
    path
        The file, replaced if it exists. No extension is added.
    fold
        Write the plain network that a normalised one is in prediction.

    Raises
    ------
    TypeError, ValueError
        The path is none, or fold no bool; or a value is NaN or infinite: what ``load`` would refuse is not written.
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
    path, fold = checks.path("path", path), checks.boolean("fold", fold)
    # A copy of one epoch, so that what is checked, summed up and written is the same, even where another thread trains.
    tensors, metadata = contents(network, network._few_rows.read(), fold=fold)
    with replacing(path) as stream:
        safetensors.write(stream, tensors, metadata)


def contents(network: MLP, values: Float32, *, fold: bool = False) -> tuple[dict[str, Float32], dict[str, str]]:
    """Return the tensors and the metadata of a network's file, with these values for its own.

    Examples
    --------
    >>> import fastmlp
    >>> from fastmlp.files.network import contents
    >>> network = fastmlp.MLP((4, 3, 2))
    >>> list(contents(network, network.parameters)[0])
    ['0.weight', '0.bias', '2.weight', '2.bias']
    """
    layers = network.layers
    fields = {"format": _FORMAT, **{name: getattr(network, name) for name in _ARGUMENTS}, "loss": _field(network.loss)}
    fields |= {name: getattr(network, name) for name in _OPTIONAL if getattr(network, name)}
    names = _names(layers)
    if fold and fields.pop("batch_norm", False):
        fold_in(layers, values)
        names = _names(layer._replace(normalised=False) for layer in layers)
    tensors = {str(name): view for name, view in _views(layers, names, values)}
    crc32 = _crc32(fields)
    for name, tensor in tensors.items():
        _check_finite(name, tensor)
        crc32 = zlib.crc32(np.ascontiguousarray(tensor, "<f4").data, crc32)
    return tensors, {"fastmlp": json.dumps({**fields, "crc32": crc32})}


@contextlib.contextmanager
def reading(path: str) -> Iterator[BufferedIOBase]:
    """Open a file; a ValueError within the block becomes a FileFormatError that names it.

    Examples
    --------
    >>> import os
    >>> from fastmlp.files.network import reading
    >>> with reading(os.devnull):
    ...     raise ValueError("it is empty")
    Traceback (most recent call last):
    fastmlp.errors.FileFormatError: /dev/null (0 bytes): it is empty
    """
    with open(path, "rb") as stream:
        try:
            yield stream
        except ValueError as error:
            size = os.fstat(stream.fileno()).st_size
            raise FileFormatError(f"{path} ({size} bytes): {error}") from error


def read(stream: BufferedIOBase, header: safetensors.Header, given: dict[str, Any]) -> MLP:
    """Return the network in a file with such a header; what another program's does not say is `given`.

    Examples
    --------
    >>> import tempfile
    >>> import fastmlp
    >>> from fastmlp.files.network import contents, read
    >>> from fastmlp.files.safetensors import read_header, write
    >>> network = fastmlp.MLP((4, 3, 2))
    >>> with tempfile.TemporaryFile() as stream:
    ...     write(stream, *contents(network, network.parameters))
    ...     _ = stream.seek(0)
    ...     read(stream, read_header(stream), {}).layer_sizes
    (4, 3, 2)
    """
    metadata, tensors = header
    if RUN in metadata:
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(RUN)}
    if "fastmlp" not in metadata:
        layers, arguments = _foreign(tensors, given)
        network = MLP._unfilled(**arguments)
        _fill(network, layers, stream, tensors)
        return network
    fields = _parse(metadata["fastmlp"])
    _check(tensors, fields["layer_sizes"], fields.get("batch_norm", False))
    arguments = {name: fields[name] for name in (*_ARGUMENTS, *_OPTIONAL) if name in fields}
    network = MLP._unfilled(**{**arguments, "loss": _loss(fields["loss"], given.get("loss"))})
    crc32 = fields.pop("crc32")
    if _fill(network, _names(network.layers), stream, tensors, _crc32(fields)) != crc32:
        raise ValueError("the checksum is wrong: a parameter or a metadata key has changed since the file was saved")
    return network


def _fill(
    network: MLP,
    names: Iterable[Dense],
    stream: BufferedIOBase,
    tensors: Mapping[str, safetensors.Tensor],
    crc32: int = 0,
) -> int:
    """Read a network's values; return the checksum that goes on from `crc32`."""
    for name, view in _views(network.layers, names, network._values):
        if name is None:
            view[...] = 0
            continue
        values = safetensors.read_tensor(stream, name, tensors[name])
        _check_finite(name, values)
        if name.endswith("running_var") and (values < 0).any():
            raise ValueError(f"tensor {name!r:.80} has negative values, which no variance is")
        view[...] = values
        crc32 = zlib.crc32(values.data, crc32)
    return crc32


def _names(layers: Iterable[Layer]) -> Iterator[Dense]:
    """Yield the names in a file of such a network, in which an activation has a number, and a normalisation one."""
    number = 0
    for layer in layers:
        yield Dense(f"{number}.weight", f"{number}.bias", f"{number + 1}" if layer.normalised else None)
        number += 2 + layer.normalised


def _views(layers: Sequence[Layer], names: Iterable[Dense], values: Float32) -> Iterator[tuple[str | None, Float32]]:
    """Yield the name and the values of each tensor, shaped as in the file."""
    weights, biases = (views(layers, values, name) for name in ("weights", "bias"))
    normalisations = zip(*(views(layers, values, name) for name in NORMALISATION), strict=True)
    for name, weight, bias in zip(names, weights, biases, strict=True):
        yield name.weight, weight.T
        if name.norm is None:
            yield name.bias, bias
            continue
        normalisation = dict(zip(NORMALISATION, next(normalisations), strict=True))
        for kind, view in normalisation.items():
            yield f"{name.norm}.{NORMALISATION[kind]}", view
        # What a layer adds to its sums, if another program's file has that, their mean has, too.
        added = np.zeros_like(bias)
        yield name.bias, added
        normalisation["running_mean"] -= added


def _shapes(layers: Sequence[Layer]) -> Iterator[tuple[str, list[int]]]:
    """Yield the name and the shape of each tensor in the file of such a network."""
    for layer, name in zip(layers, _names(layers), strict=True):
        yield name.weight, [layer.units, layer.inputs]
        yield str(name.bias), [layer.units]
        for kind in NORMALISATION.values() if name.norm else ():
            yield f"{name.norm}.{kind}", [layer.units]


def _foreign(tensors: Mapping[str, safetensors.Tensor], given: dict[str, Any]) -> tuple[list[Dense], dict[str, Any]]:
    """Return the layers in another program's file, and the arguments of ``MLP`` for them."""
    try:
        layers, layer_sizes = dense_layers(tensors)
    except ValueError as error:
        raise ValueError(f"metadata key 'fastmlp' is missing, and these are not dense layers alone: {error}") from error
    if "activation" not in given:
        raise ValueError(
            "metadata key 'fastmlp' is missing: for dense layers that another program saved, such as PyTorch, "
            f"give activation=, one of {', '.join(ACTIVATIONS)}"
        )
    return layers, {"layer_sizes": layer_sizes, "batch_norm": layers[0].norm is not None, **given}


def _field(loss: str | Loss) -> str | dict[str, Any]:
    """Return what a file says of a loss: its name, or that and its parameters."""
    if isinstance(loss, Loss):
        return loss.name if isinstance(loss, Custom) else {"name": loss.name, **vars(loss)}
    return loss


def _loss(field: str | dict[str, Any], given: str | Loss | None) -> str | Loss:
    """Return the loss that a file means; one of Python's is not in it."""
    if field == Custom.name:
        if not isinstance(given, Custom):
            raise ValueError("the network was trained by a loss in Python: load(path, loss=losses.Custom(function))")
        return given
    if isinstance(field, str):
        return field
    parameters = dict(field)
    name = parameters.pop("name", None)
    if not isinstance(name, str) or name not in LOSSES:
        raise ValueError(f"metadata key 'loss' must name one of {', '.join(LOSSES)}, got {name!r:.80}")
    try:
        return type(LOSSES[name])(**parameters)
    except TypeError as error:
        raise ValueError(f"metadata key 'loss' must have the parameters of {name}: {error}") from error


def _parse(text: str) -> dict[str, Any]:
    """Return the fields of the metadata, of the right types; ``MLP`` itself judges the values of its arguments."""
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"metadata key 'fastmlp' is not JSON: {error}") from error
    if type(fields) is not dict:
        raise ValueError(f"metadata key 'fastmlp' must hold a JSON object, got {fields!r:.80}")

    version = fields.get("format")
    if type(version) is not int or version != _FORMAT:
        raise ValueError(f"metadata key 'format' must be {_FORMAT}, the one that is known, got {version!r:.80}")
    if wrong := (fields.keys() - _OPTIONAL.keys()) ^ {"format", *_FIELDS}:
        raise ValueError(f"metadata keys must be {', '.join(_FIELDS)}; missing or unknown: {sorted(wrong)}")
    for name, wanted in {**_FIELDS, **_OPTIONAL}.items():
        if name in fields and type(fields[name]) not in wanted:
            types = " or ".join(kind.__name__ for kind in wanted)
            raise ValueError(f"metadata key {name!r} must be {types}, got {fields[name]!r:.80}")
        of, *lists = wanted
        if lists and type(fields.get(name)) is list and not all(type(one) is of for one in fields[name]):
            raise ValueError(f"metadata key {name!r} must be a list of {of.__name__}, got {fields[name]!r:.80}")
    if len(fields["layer_sizes"]) < 2 or not all(type(n) is int and n > 0 for n in fields["layer_sizes"]):
        raise ValueError(f"metadata key 'layer_sizes' must be two sizes or more, got {fields['layer_sizes']!r:.80}")
    return fields


def _check(tensors: Mapping[str, safetensors.Tensor], layer_sizes: list[int], batch_norm: bool) -> None:
    """Compare the tensors in the file with what the network needs, before anything of its size exists."""
    left = set(tensors)
    for name, shape in _shapes(layers_of(layer_sizes, "identity", batch_norm=batch_norm)):
        if name not in left:
            raise ValueError(f"tensor {name!r} is missing")
        left.remove(name)
        if tensors[name].dtype != "F32":
            raise ValueError(f"tensor {name!r} must be F32, got {tensors[name].dtype:.80}")
        if tensors[name].shape != shape:
            raise ValueError(f"tensor {name!r} must have shape {shape} by 'layer_sizes', got {tensors[name].shape}")
    if left:
        raise ValueError(f"tensor {min(left)!r:.80} does not belong to a network of {len(layer_sizes)} layer sizes")


def _check_finite(name: str, tensor: Float32) -> None:
    if not np.isfinite(tensor).all():
        raise ValueError(f"tensor {name!r:.80} has NaN or infinity, as float32")


def _crc32(fields: Mapping[str, Any]) -> int:
    """Return the checksum of the metadata, with which that of the tensors goes on."""
    return zlib.crc32(json.dumps(fields).encode())
