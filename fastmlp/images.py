"""Files to rows: an image file, a ``.npy`` array or an IDX file becomes what a network takes.

An image file is taken as it is, or prepared first: see `prepare`.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.datasets import read_idx
from fastmlp.errors import FileFormatError
from fastmlp.pictures import Prepared, prepare, unit_interval

__all__ = ["Prepared", "prepare", "read_prepared", "read_rows"]


def read_rows(path: str | os.PathLike[str], n_inputs: int) -> npt.NDArray[np.float32]:
    """Read the rows of an image file, a ``.npy`` file or an IDX file (gzipped or not).

    What a file is, its first bytes say, not its name. Pixels go from 0 (black) to 1 (white), so a network
    trained on MNIST expects light ink on dark paper. Images are taken as they are; `read_prepared` makes them so.

    Parameters
    ----------
    path : path-like
        An image file is one row: it becomes greyscale, what is transparent becomes black, and of an animation
        the first frame counts. Arrays may be one row, ``(k,)`` or ``(side, side)``, or several, ``(n, k)`` or
        ``(n, side, side)``: uint8 is divided by 255, floats must lie in [0, 1] already.
    n_inputs : int
        k, the number of inputs of the network. If k is a square number, images must be square; if not, images
        of any height and width with k pixels are taken.

    Returns
    -------
    array of float32, shape (n, k)

    Raises
    ------
    ValueError
        If the shape, the dtype or the range is not one of those above.
    FileFormatError
        If the file is damaged, or of no kind named above.
    ImportError
        If an image file is to be read and Pillow is not installed (the extra ``images``).

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from fastmlp.images import read_rows
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "two.npy"
    ...     np.save(file, np.full((2, 28, 28), 51, np.uint8))
    ...     rows = read_rows(file, 784)
    >>> rows.shape, rows.dtype, round(float(rows[1, 0]), 3)
    ((2, 784), dtype('float32'), 0.2)
    """
    path = Path(path)
    array = _read_array(path)
    if array is None:
        with _opened(path) as image:
            if not _is_image(image.size[::-1], n_inputs):
                side = math.isqrt(n_inputs)
                wanted = f"{side}x{side}" if side * side == n_inputs else f"{n_inputs} pixels in all"
                raise ValueError(f"{path}: the image is {image.width}x{image.height}, the network takes {wanted}")
            with _decoding(path):
                array = _grey(image)
    return _rows(path, array, n_inputs)


def read_prepared(path: str | os.PathLike[str], n_inputs: int) -> tuple[npt.NDArray[np.float32], str]:
    """Read a file as `read_rows` does, but `prepare` what is an image file, if n_inputs is a square number.

    Parameters
    ----------
    path : path-like
        An image file, a ``.npy`` file or an IDX file: arrays are taken as they are.
    n_inputs : int
        The number of inputs of the network.

    Returns
    -------
    rows : array of float32, shape (n, n_inputs)
    how : str
        What was done, as `Prepared.how` tells it; empty where nothing was prepared.

    Raises
    ------
    ValueError, FileFormatError, ImportError
        As those of `read_rows`; also if there is no ink in an image.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from fastmlp.images import read_prepared
    >>> paper = Image.new("RGB", (60, 40), "white")
    >>> paper.paste("navy", (10, 10, 14, 30))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "one.png"
    ...     paper.save(file)
    ...     rows, how = read_prepared(file, 784)
    >>> rows.shape, how
    ((1, 784), 'inverted')
    """
    path = Path(path)
    array = _read_array(path)
    if array is not None:
        return _rows(path, array, n_inputs), ""
    side = math.isqrt(n_inputs)
    if side * side != n_inputs:
        return read_rows(path, n_inputs), ""
    with _opened(path) as image:
        with _decoding(path):
            image.load()
        try:
            pixels, how = prepare(image, side)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    return pixels.reshape(1, n_inputs), how


def _read_array(path: Path) -> npt.NDArray[Any] | None:
    """Return the array of a .npy or an IDX file, or None for a file that is neither."""
    with path.open("rb") as file:
        start = file.read(4)
    if start == b"\x93NUM":
        return _read_npy(path)
    return read_idx(path) if start[:2] == b"\x1f\x8b" or _is_idx(start) else None


def _is_idx(start: bytes) -> bool:
    """Two zero bytes, the code of a dtype, the number of dimensions: zero there would be a TGA image."""
    return start[:2] == b"\0\0" and start[2:3] in b"\x08\x09\x0b\x0c\x0d\x0e" and start[3:4] > b"\0"


def _read_npy(path: Path) -> npt.NDArray[Any]:
    try:
        # mapped, so that an array of a wrong shape is refused before it is read
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, SyntaxError) as error:
        raise FileFormatError(f"{path}: not a readable .npy file: {error}") from error
    return np.asarray(array)


def _opened(path: Path) -> Any:
    try:
        from PIL import Image  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ImportError(f"{path}: image files need Pillow: pip install 'fastmlp[images]'") from error

    with _decoding(path):
        return Image.open(path)


@contextmanager
def _decoding(path: Path) -> Iterator[None]:
    """Make the errors of Pillow those of the file."""
    from PIL import UnidentifiedImageError  # noqa: PLC0415 - an extra

    with warnings.catch_warnings():
        # what Pillow warns of (very large images, odd metadata) is refused elsewhere or does not matter
        warnings.simplefilter("ignore")
        try:
            yield
        except UnidentifiedImageError as error:
            raise FileFormatError(f"{path}: neither an image, nor a .npy file, nor an IDX file") from error
        # Pillow's decoders meet damaged files with exceptions of many types
        except Exception as error:
            raise FileFormatError(f"{path}: not a readable image: {error}") from error


def _grey(image: Any) -> npt.NDArray[Any]:
    from PIL import Image  # noqa: PLC0415 - an extra

    if image.mode == "F":
        return np.asarray(image)
    if image.mode.startswith("I"):
        # 16 bits a pixel: Pillow's own conversion to 8 would clip them
        return np.asarray(image) / np.float32(65535)
    if "A" in image.getbands() or "transparency" in image.info:
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image.convert("RGBA"))
    return np.asarray(image.convert("L"))


def _is_image(shape: tuple[int, ...], n_inputs: int) -> bool:
    side = math.isqrt(n_inputs)
    return shape == (side, side) if side * side == n_inputs else len(shape) == 2 and math.prod(shape) == n_inputs


def _rows(path: Path, array: npt.NDArray[Any], n_inputs: int) -> npt.NDArray[np.float32]:
    try:
        return unit_interval(_flat(array, n_inputs))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _flat(array: npt.NDArray[Any], n_inputs: int) -> npt.NDArray[Any]:
    """Return the array as (n, k), having checked its shape."""
    shape = array.shape
    if shape == (n_inputs,) or shape[1:] == (n_inputs,) or _is_image(shape, n_inputs) or _is_image(shape[1:], n_inputs):
        return array.reshape(-1, n_inputs)
    side = math.isqrt(n_inputs)
    images = (
        f", ({side}, {side}) or (n, {side}, {side})" if side * side == n_inputs else f" or images of {n_inputs} pixels"
    )
    raise ValueError(f"the shape is {shape}, the network takes ({n_inputs},), (n, {n_inputs}){images}")
