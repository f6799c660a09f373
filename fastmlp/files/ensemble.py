"""An ensemble's file: those of its networks in one."""

from __future__ import annotations

import json
import os
from io import BufferedIOBase
from typing import Any

from fastmlp import checks
from fastmlp.arrays import Float32
from fastmlp.ensemble import Ensemble
from fastmlp.files import safetensors
from fastmlp.files.atomic import replacing
from fastmlp.files.network import contents, read

__all__ = ["ENSEMBLE", "read_ensemble", "save"]

_FORMAT = 1
# The metadata key that such a file has in the place of a network's.
ENSEMBLE = "fastmlp.ensemble"


def save(ensemble: Ensemble, path: str | bytes | os.PathLike[str], *, fold: bool = False) -> None:
    """Save an ensemble to a safetensors file.

    The tensors of network i, from 0, have the names that they have in a file of its own behind ``"i."``; the metadata
    key ``"fastmlp.ensemble"`` has a list of what the metadata of such files say, as JSON. So PyTorch's ``ModuleList``
    of ``Sequential`` takes the file as it stands. It appears whole or not at all.

    Parameters
    ----------
    ensemble
    path
        The file, replaced if it exists. No extension is added.
    fold
        Write the plain networks that normalised ones are in prediction.

    Raises
    ------
    TypeError, ValueError
        The path is none, or fold no bool; or a value is NaN or infinite.
    OSError
        The file cannot be written.

    Examples
    --------
    >>> import os, tempfile
    >>> import fastmlp
    >>> path = os.path.join(tempfile.mkdtemp(), "both.safetensors")
    >>> fastmlp.Ensemble([fastmlp.MLP((3, 2)), fastmlp.MLP((3, 2), seed=1)]).save(path)
    >>> [network.seed for network in fastmlp.load(path).networks]
    [0, 1]
    """
    path, fold = checks.path("path", path), checks.boolean("fold", fold)
    tensors: dict[str, Float32] = {}
    described: list[dict[str, Any]] = []
    for i, network in enumerate(ensemble.networks):
        own, metadata = contents(network, network._few_rows.read(), fold=fold)
        tensors |= {f"{i}.{name}": tensor for name, tensor in own.items()}
        described.append(json.loads(metadata["fastmlp"]))
    with replacing(path) as stream:
        safetensors.write(stream, tensors, {ENSEMBLE: json.dumps({"format": _FORMAT, "networks": described})})


def read_ensemble(stream: BufferedIOBase, header: safetensors.Header, given: dict[str, Any]) -> Ensemble:
    """Return the ensemble in a file with such a header; a loss in Python, which is not in the file, is `given`.

    Raises
    ------
    ValueError
        Something is missing, damaged or too much; or the networks are none of one ensemble.

    Examples
    --------
    >>> from fastmlp.files.ensemble import ENSEMBLE, read_ensemble
    >>> from fastmlp.files.safetensors import Header
    >>> read_ensemble(None, Header({ENSEMBLE: '{"format": 1, "networks": []}'}, {}), {})
    Traceback (most recent call last):
    ValueError: networks must hold at least one network; there is none
    """
    described = _parse(header.metadata[ENSEMBLE])
    tensors: list[dict[str, safetensors.Tensor]] = [{} for _ in described]
    places = {str(i): own for i, own in enumerate(tensors)}
    for name, tensor in header.tensors.items():
        number, _, own_name = name.partition(".")
        if number not in places:
            raise ValueError(f"tensor {name!r:.80} belongs to none of {len(described)} networks")
        places[number][own_name] = tensor
    networks = []
    for i, (fields, own) in enumerate(zip(described, tensors, strict=True)):
        try:
            networks.append(read(stream, safetensors.Header({"fastmlp": json.dumps(fields)}, own), given))
        except ValueError as error:
            raise ValueError(f"network {i} of {len(described)}: {error}") from error
    return Ensemble(networks)


def _parse(text: str) -> list[Any]:
    """Return the networks' metadata, each of which is yet to be looked at."""
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"metadata key {ENSEMBLE!r} is not JSON: {error}") from error
    if type(fields) is not dict or fields.keys() != {"format", "networks"} or type(fields["networks"]) is not list:
        raise ValueError(f"metadata key {ENSEMBLE!r} must hold format and networks, a list; got {fields!r:.80}")
    if type(fields["format"]) is not int or fields["format"] != _FORMAT:
        raise ValueError(f"metadata key {ENSEMBLE!r} must have format {_FORMAT}, the one that is known")
    return fields["networks"]
