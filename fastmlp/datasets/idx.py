"""The IDX file format: an array of any type and rank, as MNIST is distributed."""

from __future__ import annotations

import math
import os
from io import BufferedIOBase
from typing import Any

import numpy as np

from fastmlp.errors import FileFormatError

__all__ = ["read_idx"]

_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_GZIP_MAGIC = b"\x1f\x8b"
_DEFLATE_MAX_RATIO = 1032  # 258 bytes out of 2 bits
_CHUNK = 1 << 20


def read_idx(path: str | os.PathLike[str]) -> np.ndarray[Any, Any]:
    r"""Read an IDX file, compressed with gzip or not.

    An IDX file is two zero bytes, a byte for the type of the items, a byte for the number of dimensions,
    the dimensions as big-endian 32-bit numbers, and the items, big-endian, in row-major order. Whether the
    file is compressed is told from its first two bytes, whatever its name. Memory is used for bytes that
    are in the file, never for bytes that its header only promises.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    numpy.ndarray
        A new array of the file's shape: uint8, int8, int16, int32, float32 or float64 in native byte order.

    Raises
    ------
    FileFormatError
        The file is not IDX, is truncated or goes on after its data, or its gzip stream is broken.
        The message names the byte, for a compressed IDX file the byte of the decompressed data.
    OSError
        The file cannot be opened or read; ``FileNotFoundError`` when there is none.

    References
    ----------
    Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of handwritten digits", section
    "File formats", http://yann.lecun.com/exdb/mnist/

    Examples
    --------
    >>> import os, tempfile
    >>> from fastmlp.datasets import read_idx
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "two-shorts.idx")
    ...     with open(path, "wb") as file:
    ...         _ = file.write(b"\x00\x00\x0b\x01" b"\x00\x00\x00\x02" b"\x00\x07\xff\xff")
    ...     read_idx(path)
    array([ 7, -1], dtype=int16)
    """
    path = os.fspath(path)
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if not file.peek(2).startswith(_GZIP_MAGIC):
            return _parse(file, at_most=size, name=path)

        import gzip  # noqa: PLC0415 - plain files need neither
        import zlib  # noqa: PLC0415

        try:
            with gzip.GzipFile(fileobj=file) as stream:
                return _parse(stream, at_most=size * _DEFLATE_MAX_RATIO, name=f"{path}, decompressed")
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise FileFormatError(
                f"{path}: broken gzip data at or before byte {file.tell()} of {size}: {error}"
            ) from error


def _parse(stream: BufferedIOBase, at_most: int, name: str) -> np.ndarray[Any, Any]:
    """Read one IDX array from ``stream``, which can hold no more than ``at_most`` bytes, and its end."""
    magic = stream.read(4)
    if len(magic) < 4:
        raise FileFormatError(f"{name}: ends at byte {len(magic)}, within the 4 bytes that begin an IDX file")
    if magic[:2] != b"\0\0":
        raise FileFormatError(f"{name}: bytes 0 and 1 are 0x{magic[:2].hex()}, an IDX file begins with 0x0000")
    if magic[2] not in _DTYPES:
        known = ", ".join(f"0x{code:02x}" for code in _DTYPES)
        raise FileFormatError(f"{name}: byte 2 is 0x{magic[2]:02x}, the IDX types are {known}")
    dtype, rank = np.dtype(_DTYPES[magic[2]]), magic[3]

    start = 4 + 4 * rank
    dimensions = stream.read(4 * rank)
    if len(dimensions) < 4 * rank:
        raise FileFormatError(
            f"{name}: ends at byte {4 + len(dimensions)}, the sizes of {rank} dimensions take {start} bytes"
        )
    shape = tuple(int(size) for size in np.frombuffer(dimensions, ">u4"))

    # Python's integers: the product of the dimensions of a hostile header does not wrap around.
    end = start + math.prod(shape) * dtype.itemsize
    declared = f"shape {shape} of {dtype.name} from byte 4 on"
    if end > at_most:
        raise FileFormatError(f"{name}: {declared} needs {end} bytes, the file can hold no more than {at_most}")
    data = bytearray()
    while missing := end - start - len(data):
        chunk = stream.read(min(missing, _CHUNK))
        if not chunk:
            raise FileFormatError(f"{name}: ends at byte {start + len(data)}, {declared} needs {end} bytes")
        data += chunk
    if stream.read(1):
        raise FileFormatError(f"{name}: goes on after byte {end}, where {declared} ends")

    try:
        array: np.ndarray[Any, Any] = np.frombuffer(data, dtype).reshape(shape)
    except ValueError as error:
        raise FileFormatError(f"{name}: {declared} is too much for NumPy: {error}") from error
    return array.astype(dtype.newbyteorder("="), copy=False)
