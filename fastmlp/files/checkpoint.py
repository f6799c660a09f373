"""A checkpoint: a network's file with the state of a run beside the weights."""

from __future__ import annotations

import json
import zlib
from io import BufferedIOBase
from typing import Any

import numpy as np

from fastmlp.files import safetensors
from fastmlp.files.atomic import replacing
from fastmlp.files.network import RUN, contents, read, reading
from fastmlp.losses import Loss
from fastmlp.network import MLP
from fastmlp.optimizers import RULES
from fastmlp.runs import History, Position, RunState, SavedRun

__all__ = ["load", "save"]

_FORMAT = 2
_FIELDS = {
    "format": int,
    "rule": str,
    "step": int,
    "epoch": int,
    "averaged": int,
    "history": list,
    "optimizer": str,
    "changes": dict,
    "callbacks": list,
    "position": dict,
    "crc32": int,
}


def save(path: str, network: MLP, run: SavedRun) -> None:
    """Save a network that has been trained, with its state and the run's.

    The file is that of `fastmlp.files.save`, with more tensors: the moments, averages and the history, and the arrays
    of the callbacks. All else is JSON in the metadata key ``"fastmlp.run"``, with a checksum. It appears whole or not
    at all.

    Raises
    ------
    ValueError
        A callback's state is not of JSON's values and arrays of floats, or a parameter is not finite.
    OSError
        The file cannot be written.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np, fastmlp
    >>> from fastmlp.files import checkpoint
    >>> from fastmlp.runs import SavedRun
    >>> net = fastmlp.MLP((2, 2))
    >>> history = net.fit(np.eye(2), [0, 1], epochs=3, verbose=False)
    >>> path = os.path.join(tempfile.mkdtemp(), "run.safetensors")
    >>> checkpoint.save(path, net, SavedRun(history, "Adam", {}, []))
    >>> network, run = checkpoint.load(path)
    >>> network._state.step, run.history == history
    (3, True)
    """
    parameters, state = network._snapshot()
    assert state is not None
    tensors = {f"moments.{i}": moment for i, moment in enumerate(state.moments)}
    if state.averages is not None:
        tensors["averages"] = state.averages
    tensors["history"] = np.array(list(run.history.values()), np.float64)
    plain: list[tuple[str, dict[str, Any]]] = []
    for i, (name, values) in enumerate(run.callbacks):
        arrays = {key: value for key, value in values.items() if isinstance(value, np.ndarray)}
        for key, array in arrays.items():
            if array.dtype not in (np.float32, np.float64):
                raise ValueError(f"the state of {name} has {key!r}, an array of {array.dtype}, not of floats")
            tensors[f"callbacks.{i}.{key}"] = array
        plain.append((name, {key: value for key, value in values.items() if key not in arrays}))
    others = {"history": list(run.history), "optimizer": run.optimizer, "changes": run.changes, "callbacks": plain}
    counts = {"step": state.step, "epoch": state.epoch, "averaged": state.averaged}
    fields = {"format": _FORMAT, "rule": state.rule, **counts, **others, "position": run.position._asdict()}
    try:
        text = json.dumps(fields)
    except (TypeError, ValueError) as error:
        raise ValueError(f"a checkpoint cannot hold what callbacks have set or keep: {error}") from error
    fields["crc32"] = _crc32(text, tensors)
    weights, metadata = contents(network, parameters)
    with replacing(path) as stream:
        named = {f"{RUN}.{name}": tensor for name, tensor in tensors.items()}
        safetensors.write(stream, {**weights, **named}, {**metadata, RUN: json.dumps(fields)})


def load(path: str, loss: str | Loss | None = None) -> tuple[MLP, SavedRun]:
    """Load a network, with its state, and the run's; a loss in Python is not in the file, and is taken from `loss`.

    Raises
    ------
    FileFormatError
        The file is not a checkpoint, or damaged: the message names the key and what is wrong.
    OSError
        The file cannot be read.

    Examples
    --------
    >>> import os
    >>> from fastmlp.files import checkpoint
    >>> checkpoint.load(os.devnull)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    fastmlp.errors.FileFormatError: /dev/null (0 bytes): is no safetensors file: ...
    """
    with reading(path) as stream:
        header = safetensors.read_header(stream)
        network = read(stream, header, {"loss": loss})
        fields, tensors = _read_run(stream, header)
        first, second = (tensors.pop(f"moments.{i}", np.empty(0, np.float32)) for i in range(2))
        if not first.shape == second.shape == network.parameters.shape:
            raise ValueError(f"tensors '{RUN}.moments' must be two, of {network.parameters.size} values")
        averages = tensors.pop("averages", None)
        if averages is not None and averages.shape != network.parameters.shape:
            raise ValueError(f"tensor '{RUN}.averages' must have {network.parameters.size} values")
        history = tensors.pop("history", np.empty(0))
        if len(history) != len(fields["history"]) or history.ndim != 2:
            raise ValueError(f"tensor '{RUN}.history' must have a row for each of {fields['history']}")
        if fields["rule"] not in RULES:
            raise ValueError(f"metadata key {RUN!r} must have a rule of {', '.join(RULES)}, got {fields['rule']!r:.80}")
        position = _position(fields["position"])
    network._state = RunState(
        fields["rule"], (first, second), fields["step"], fields["epoch"], averages, fields["averaged"]
    )
    callbacks = [(name, dict(values)) for name, values in fields["callbacks"]]
    for name, tensor in tensors.items():
        _, i, key = name.split(".", 2)
        callbacks[int(i)][1][key] = tensor
    columns = History(zip(fields["history"], history.tolist(), strict=True))
    return network, SavedRun(columns, fields["optimizer"], fields["changes"], callbacks, position)


def _read_run(stream: BufferedIOBase, header: safetensors.Header) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the fields of the run, and its tensors."""
    metadata, tensors = header
    if RUN not in metadata:
        raise ValueError(f"metadata key {RUN!r} is missing: it is a network without a run; fastmlp.load reads it")
    try:
        fields = json.loads(metadata[RUN])
    except (ValueError, RecursionError) as error:
        raise ValueError(f"metadata key {RUN!r} is not JSON: {error}") from error
    if type(fields) is not dict or fields.keys() != _FIELDS.keys():
        raise ValueError(f"metadata key {RUN!r} must hold an object of {', '.join(_FIELDS)}, got {fields!r:.80}")
    for name, wanted in _FIELDS.items():
        if type(fields[name]) is not wanted:
            raise ValueError(f"metadata key {RUN!r} must have {name} of {wanted.__name__}, got {fields[name]!r:.80}")
    if fields["format"] != _FORMAT:
        raise ValueError(f"metadata key {RUN!r} must have format {_FORMAT}, the one that is known")
    found = {}
    for name, tensor in tensors.items():
        if name.startswith(RUN):
            dtype = np.float64 if tensor.dtype == "F64" else np.float32
            found[name.removeprefix(RUN + ".")] = safetensors.read_tensor(stream, name, tensor, dtype)
    if fields.pop("crc32") != _crc32(json.dumps(fields), found):
        raise ValueError(f"the checksum of {RUN!r} is wrong: the run's state has changed since the file was saved")
    return fields, found


def _position(fields: dict[str, Any]) -> Position:
    known = Position(forms=[])._asdict()
    if {name: type(value) for name, value in fields.items()} != {name: type(value) for name, value in known.items()}:
        raise ValueError(f"metadata key {RUN!r} must have a position of {', '.join(known)}, got {fields!r:.80}")
    return Position(**fields)


def _crc32(text: str, tensors: dict[str, Any]) -> int:
    crc32 = zlib.crc32(text.encode())
    for name, tensor in tensors.items():
        little = np.ascontiguousarray(tensor, tensor.dtype.newbyteorder("<"))
        crc32 = zlib.crc32(little.data, zlib.crc32(name.encode(), crc32))
    return crc32
