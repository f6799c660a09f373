"""The safetensors format: eight bytes with the length of a header, the header in JSON, and the tensors' bytes.

Written and read here, a tensor at a time. The format's own library needs several times the memory of what it writes
and, where it gets none, ends the process; and it maps the file that it reads, so that the process dies if the file is
cut meanwhile. The tests hold the two against each other.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from io import BufferedIOBase
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["DTYPES", "Header", "Tensor", "read_header", "read_tensor", "write"]

# Of the format's types those that can become float32 values; BF16 is the upper half of one.
DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}

# Enough for 50,000 tensors; as Python's objects it takes up to 20 times as much memory.
MAX_HEADER = 4 << 20


class Tensor(NamedTuple):
    """What a header says of a tensor, and the byte of the file at which its values start.

    Examples
    --------
    >>> from fastmlp.files.safetensors import Tensor
    >>> Tensor("F32", [3, 2], start=136).shape
    [3, 2]
    """

    dtype: str
    shape: list[int]
    start: int


class Header(NamedTuple):
    """What a file says of its contents.

    Examples
    --------
    >>> from fastmlp.files.safetensors import Header, Tensor
    >>> header = Header({"author": "me"}, {"0.bias": Tensor("F32", [3], start=120)})
    >>> list(header.tensors)
    ['0.bias']
    """

    metadata: dict[str, str]
    tensors: dict[str, Tensor]


def write(stream: BinaryIO, tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> None:
    """Write a file of float32 and float64 tensors, in their order.

    Raises
    ------
    ValueError
        The header would be longer than `read_header` takes.

    Examples
    --------
    >>> import io
    >>> import numpy as np
    >>> from fastmlp.files import safetensors
    >>> stream = io.BytesIO()
    >>> safetensors.write(stream, {"0.bias": np.zeros(3, np.float32)}, {})
    >>> stream.getvalue()[8:80]
    b'{"__metadata__":{},"0.bias":{"dtype":"F32","shape":[3],"data_offsets":[0'
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.nbytes
        header[name] = {"dtype": f"F{8 * tensor.itemsize}", "shape": tensor.shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the values are aligned
    if len(text) > MAX_HEADER:
        raise ValueError(f"{len(tensors)} tensors have a header of {len(text)} bytes; at most {MAX_HEADER} are read")
    stream.write(len(text).to_bytes(8, "little") + text)
    for tensor in tensors.values():
        stream.write(np.ascontiguousarray(tensor, tensor.dtype.newbyteorder("<")).data)


def read_header(stream: BufferedIOBase) -> Header:
    """Read the header of a file, and see that it describes every byte of the file once.

    Raises
    ------
    ValueError
        It does not, or the file is none of this format.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from fastmlp.files import safetensors
    >>> with tempfile.TemporaryFile() as stream:
    ...     safetensors.write(stream, {"0.bias": np.zeros(3, np.float32)}, {"author": "me"})
    ...     _ = stream.seek(0)
    ...     safetensors.read_header(stream)
    Header(metadata={'author': 'me'}, tensors={'0.bias': Tensor(dtype='F32', shape=[3], start=104)})
    """
    size = os.fstat(stream.fileno()).st_size
    first = stream.read(8)
    length = int.from_bytes(first, "little")
    start = 8 + length
    if len(first) < 8:
        raise ValueError("is no safetensors file: it ends within the 8 bytes that such a file begins with")
    if first.startswith((b"PK\3\4", b"\x80\2")) and start > size:
        raise ValueError(
            "is no safetensors file, but perhaps one of torch.save: read it with torch.load, and write the model's "
            "state_dict() with safetensors.torch.save_file"
        )
    if start > size:
        raise ValueError(f"is no safetensors file, or cut short: a header of {length} bytes would follow its first 8")
    if length > MAX_HEADER:
        raise ValueError(f"the header must have at most {MAX_HEADER} bytes, it has {length}")
    entries = _parse(stream.read(length))
    metadata = entries.pop("__metadata__", {})
    if type(metadata) is not dict or not all(type(value) is str for value in metadata.values()):
        raise ValueError("header key '__metadata__' must hold an object of strings")
    return Header(metadata, _tensors(entries, start, size))


def read_tensor(stream: BufferedIOBase, name: str, tensor: Tensor, dtype: type[Any] = np.float32) -> NDArray[Any]:
    """Read the values of a tensor of one of the `DTYPES`, as float32 or float64.

    Raises
    ------
    ValueError
        The file has been cut since its header was read.

    Examples
    --------
    >>> import io
    >>> from fastmlp.files.safetensors import Tensor, read_tensor
    >>> read_tensor(io.BytesIO(bytes([0x80, 0x3F, 0, 0xC0])), "0.bias", Tensor("BF16", [2], start=0))
    array([ 1., -2.], dtype=float32)
    """
    values: NDArray[Any] = np.empty(tensor.shape, DTYPES[tensor.dtype])
    stream.seek(tensor.start)
    if stream.readinto(values.reshape(-1).view(np.uint8).data) != values.nbytes:
        raise ValueError(f"tensor {name!r:.80} is no longer there: the file has become shorter while it was read")
    if tensor.dtype == "BF16":
        values = (values.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(over="ignore"):  # an infinity, which the caller looks for anyway
        return values.astype(dtype, copy=False)


def _parse(text: bytes) -> dict[str, Any]:
    """Return the object that is written in a header, more strictly than the json module does."""
    if not text.startswith(b"{"):
        raise ValueError(f"is no safetensors file: its header begins with {text[:8]!r}, not with '{{'")
    try:
        header: dict[str, Any] = json.loads(text.decode(), object_pairs_hook=_object, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is no safetensors file: its header is not JSON: {error}") from error
    return header


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries: dict[str, Any] = {}
    for name, value in pairs:
        if name in entries:
            raise ValueError(f"key {name!r:.80} is there twice")
        entries[name] = value
    return entries


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is no JSON")


def _tensors(entries: dict[str, Any], start: int, size: int) -> dict[str, Tensor]:
    """Return what the header says of each tensor; they lie from byte `start` to byte `size`, without gaps."""
    for name, entry in entries.items():
        if type(entry) is not dict or entry.keys() != {"dtype", "shape", "data_offsets"}:
            raise ValueError(f"tensor {name!r:.80} must have dtype, shape and data_offsets, got {entry!r:.80}")
        shape, offsets = entry["shape"], entry["data_offsets"]
        if type(entry["dtype"]) is not str:
            raise ValueError(f"tensor {name!r:.80} must have the name of a dtype, got {entry['dtype']!r:.80}")
        if not _are_sizes(shape) or len(shape) > 64:
            raise ValueError(f"tensor {name!r:.80} must have a shape of whole numbers, got {shape!r:.80}")
        if not _are_sizes(offsets) or len(offsets) != 2:
            raise ValueError(f"tensor {name!r:.80} must have data_offsets of two whole numbers, got {offsets!r:.80}")
        dtype = DTYPES.get(entry["dtype"])
        if dtype and math.prod(shape) * dtype.itemsize != offsets[1] - offsets[0]:
            raise ValueError(
                f"tensor {name!r:.80} of {entry['dtype']} {shape!r:.80} cannot have data_offsets {offsets}"
            )
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1]["data_offsets"]):
        offsets = entry["data_offsets"]
        if offsets[0] != end or offsets[1] < end:
            raise ValueError(f"tensor {name!r:.80} must start at byte {end} of the tensors, got data_offsets {offsets}")
        end = offsets[1]
    if start + end != size:
        raise ValueError(f"the tensors must end where the file does, at byte {size}; they end at byte {start + end}")
    return {
        name: Tensor(entry["dtype"], entry["shape"], start + entry["data_offsets"][0])
        for name, entry in entries.items()
    }


def _are_sizes(value: Any) -> bool:
    return type(value) is list and all(type(number) is int and 0 <= number < 2**63 for number in value)
