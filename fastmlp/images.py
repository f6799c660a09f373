"""Files to rows: an image file, a ``.npy`` array or an IDX file becomes what a network takes."""

from __future__ import annotations

import math
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.datasets import read_idx
from fastmlp.errors import FileFormatError

__all__ = ["read_rows"]


def read_rows(path: str | os.PathLike[str], n_inputs: int) -> npt.NDArray[np.float32]:
    """Read the rows of an image file, a ``.npy`` file or an IDX file (gzipped or not).

    What a file is, its first bytes say, not its name. Pixels go from 0 (black) to 1 (white), so a network
    trained on MNIST expects light ink on dark paper; images are neither resized nor inverted.

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
    with path.open("rb") as file:
        start = file.read(4)
    if start == b"\x93NUM":
        array = _read_npy(path)
    elif start[:2] == b"\x1f\x8b" or _is_idx(start):
        array = read_idx(path)
    else:
        array = _read_image(path, n_inputs)
    return _scaled(path, _flat(path, array, n_inputs))


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


def _read_image(path: Path, n_inputs: int) -> npt.NDArray[Any]:
    try:
        from PIL import Image, UnidentifiedImageError  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ImportError(f"{path}: image files need Pillow: pip install 'fastmlp[images]'") from error

    with warnings.catch_warnings():
        # what Pillow warns of (very large images, odd metadata) is refused below or does not matter
        warnings.simplefilter("ignore")
        try:
            with Image.open(path) as image:
                width, height = image.size
                if _is_image((height, width), n_inputs):
                    return _grey(image)
        except UnidentifiedImageError as error:
            raise FileFormatError(f"{path}: neither an image, nor a .npy file, nor an IDX file") from error
        # Pillow's decoders meet damaged files with exceptions of many types
        except Exception as error:
            raise FileFormatError(f"{path}: not a readable image: {error}") from error
    side = math.isqrt(n_inputs)
    wanted = f"{side}x{side}" if side * side == n_inputs else f"{n_inputs} pixels in all"
    raise ValueError(f"{path}: the image is {width}x{height}, the network takes {wanted}")


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


def _flat(path: Path, array: npt.NDArray[Any], n_inputs: int) -> npt.NDArray[Any]:
    """Return the array as (n, k), having checked its shape."""
    shape = array.shape
    if shape == (n_inputs,) or shape[1:] == (n_inputs,) or _is_image(shape, n_inputs) or _is_image(shape[1:], n_inputs):
        return array.reshape(-1, n_inputs)
    side = math.isqrt(n_inputs)
    images = (
        f", ({side}, {side}) or (n, {side}, {side})" if side * side == n_inputs else f" or images of {n_inputs} pixels"
    )
    raise ValueError(f"{path}: the shape is {shape}, the network takes ({n_inputs},), (n, {n_inputs}){images}")


def _scaled(path: Path, rows: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    if rows.dtype == np.uint8:
        return np.asarray(rows / np.float32(255), np.float32)
    if rows.dtype.kind != "f":
        raise ValueError(f"{path}: the dtype is {rows.dtype}, wanted uint8 (0 to 255) or floats in [0, 1]")
    # written so that NaN is refused
    if not np.all((rows >= 0) & (rows <= 1)):
        raise ValueError(
            f"{path}: the values go from {rows.min():g} to {rows.max():g}, wanted floats in [0, 1] or uint8 (0 to 255)"
        )
    return np.ascontiguousarray(rows, dtype=np.float32)
