"""Any picture of a digit becomes what MNIST's pictures are: light ink on black, of MNIST's size, centred by mass."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Prepared", "prepare"]

Floats: TypeAlias = npt.NDArray[np.float32]
Mask: TypeAlias = npt.NDArray[np.bool_]

# MNIST's digits were scaled to fit a box of 20 pixels, in pictures of 28.
BOX = 20 / 28
# Larger pictures are halved, divided by three ... until they are not: digits need no more.
LARGEST = 600
# A digit is looked for in at most so many cells each way.
CELLS = 100
# Parts of the share of the strongest ink are looked at, and of them those of the share of the heaviest kept.
FAINT = 0.3
LIGHT = 0.1
# A digit is in one part or a few; noise, or a page of text, is in many.
MOST_PARTS = 10
# Of [0, 1]: what differs less from the ground is no ink, and colours that differ less are one.
NO_INK = 4 / 255
ONE_COLOUR = 0.15


class Prepared(NamedTuple):
    """What `prepare` returns.

    Attributes
    ----------
    pixels : array of float32, shape (side, side)
        From 0, the ground, to 1, the ink.
    how : str
        What was done, as in "inverted, scaled to 28x28".

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp.images import Prepared
    >>> Prepared(np.zeros((28, 28), np.float32), "inverted").how
    'inverted'
    """

    pixels: Floats
    how: str


def prepare(image: Any, side: int = 28) -> Prepared:
    """Make any picture of a digit one as MNIST has: light on black, scaled to its box, centred by mass.

    The ground is what the picture's edge shows, evenly lit or not, or what is transparent; all that differs from it
    is ink, whatever the colours. The ink is cropped, scaled with its proportions kept to a box of 20/28 of the side,
    and moved by whole pixels until its centre of mass is in the middle. Specks and what cuts into the picture from
    its edge are left out.

    Parameters
    ----------
    image : PIL.Image.Image or array
        A picture of any size and mode; what its camera says of its rotation is heeded. Or an array of shape (h, w),
        (h, w, 3) or (h, w, 4), grey, RGB or RGBA: uint8, or floats in [0, 1].
    side : int, default 28
        Of the square returned.

    Returns
    -------
    Prepared
        ``pixels``, float32 of shape (side, side) in [0, 1], and ``how``, what was done in words.

    Raises
    ------
    ValueError
        If there is no ink, or too much for one digit, or an array has another shape, dtype or range.
    ImportError
        If Pillow is not installed (the extra ``images``).

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp.images import prepare
    >>> paper = np.full((100, 200), 255, np.uint8)
    >>> paper[10:90, 20:28] = 0  # a black 1
    >>> pixels, how = prepare(paper)
    >>> pixels.shape, how
    ((28, 28), 'inverted, scaled to 28x28')
    >>> ink = np.argwhere(pixels > 0.5)  # 20 pixels high, 2 wide
    >>> ink.min(axis=0).tolist(), ink.max(axis=0).tolist()
    ([4, 13], [23, 14])
    """
    try:
        import PIL  # noqa: F401, PLC0415 - an extra
    except ImportError as error:
        raise ImportError("prepare needs Pillow: pip install 'fastmlp[images]'") from error

    colours, alpha = _colours(image)
    ink, words = _ink(colours, alpha)
    if ink.max(initial=0) < NO_INK:
        raise ValueError("the picture is empty: nothing in it differs from its ground")
    ink, (top, bottom, left, right) = _digit(ink)
    unit = max(bottom - top, right - left) / max(1, round(side * BOX))
    pixels = _centred(ink, (top, left), unit, side)
    if unit != 1:
        words.append(f"scaled to {side}x{side}")
    return Prepared(pixels, ", ".join(words) or "as it is")


def unit_interval(array: npt.NDArray[Any]) -> Floats:
    """Return uint8 divided by 255, and floats in [0, 1] as they are; refuse everything else."""
    if array.dtype == np.uint8:
        return np.asarray(array / np.float32(255), np.float32)
    if array.dtype.kind != "f":
        raise ValueError(f"the dtype is {array.dtype}, wanted uint8 (0 to 255) or floats in [0, 1]")
    # written so that NaN is refused
    if not np.all((array >= 0) & (array <= 1)):
        raise ValueError(
            f"the values go from {array.min():g} to {array.max():g}, wanted floats in [0, 1] or uint8 (0 to 255)"
        )
    return np.ascontiguousarray(array, dtype=np.float32)


def _colours(image: Any) -> tuple[Floats, Floats | None]:
    """Return the colours, (h, w, channels) in [0, 1], and the opacity, (h, w), if there is one."""
    array = image if isinstance(image, np.ndarray) else _decoded(image)
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))) or not array.size:
        raise ValueError(f"the shape is {array.shape}, wanted (h, w), (h, w, 3) or (h, w, 4)")
    array = np.atleast_3d(_cells(unit_interval(array), -(-max(array.shape[:2]) // LARGEST)))
    return (array[..., :3], array[..., 3]) if array.shape[2] == 4 else (array, None)


def _decoded(image: Any) -> npt.NDArray[Any]:
    from PIL import ImageOps  # noqa: PLC0415 - an extra

    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        return np.asarray(image)
    if image.mode.startswith("I"):
        # 16 bits a pixel: Pillow's own conversion to 8 would clip them
        return np.asarray(image) / np.float32(65535)
    transparent = image.getbands()[-1] in "Aa" or "transparency" in image.info
    image = image.convert("RGBA" if transparent else "RGB")
    return np.asarray(image.reduce(-(-max(image.size) // LARGEST)))


def _cells(array: Floats, size: int) -> Floats:
    """Return the means of squares of size x size pixels; the last ones are filled up with the edge."""
    if size == 1:
        return array
    height, width, *_ = array.shape
    padding = [(0, -height % size), (0, -width % size), (0, 0)]
    array = np.pad(array, padding[: array.ndim], "edge")
    height, width, *channels = array.shape
    # one axis after the other is faster than both
    rows = array.reshape(height // size, size, width, *channels).mean(axis=1)
    return np.asarray(rows.reshape(height // size, width // size, size, *channels).mean(axis=2), np.float32)


# ---- ink and ground


def _ink(colours: Floats, alpha: Floats | None) -> tuple[Floats, list[str]]:
    """Return how far each pixel is from the ground, in [0, 1], and what was done in words."""
    if alpha is not None and alpha.min() < alpha.max() / 2:
        opaque = alpha > alpha.max() / 2
        ground = np.median(colours[opaque], axis=0)
        if _is_stencil(opaque, np.abs(colours - ground).max(axis=2)):
            return alpha, ["transparency taken as ground"]
        colours = np.where(opaque[..., None], colours, ground)
    ground = _ground(colours)
    difference = colours - ground
    ink = np.sqrt(np.einsum("hwc,hwc->hw", difference, difference) / difference.shape[2])
    rim = _rim(ink)
    noise = np.median(rim) + 4 * np.median(np.abs(rim - np.median(rim)))
    ink = np.maximum(ink - noise, 0)
    words = []
    if np.einsum("hw,hw,hwc->", ink, ink, difference) < 0:
        words.append("inverted")
    if np.ptp(ground, axis=(0, 1)).max() > ONE_COLOUR:
        words.append("ground evened")
    return ink, words


def _is_stencil(opaque: Mask, distance: Floats) -> bool:
    """Whether what is opaque is the digit itself, and not a card with a digit on it."""
    top, bottom, left, right = _extent(opaque)
    one_colour = np.mean(distance[opaque] > ONE_COLOUR) < 0.1
    # a disc covers pi/4 of its box
    return bool(one_colour or np.mean(opaque[top:bottom, left:right]) < 0.75)


def _rim(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the values along the edge, one after the other."""
    return np.concatenate([array[0], array[-1], array[1:-1, 0], array[1:-1, -1]])


def _ground(colours: Floats) -> Floats:
    """Return the ground's colour at each pixel: one, or for uneven light a quadratic function of the place."""
    small = _cells(colours, -(-max(colours.shape[:2]) // CELLS))
    rim = _rim(small)
    flat = np.median(rim, axis=0)
    spread = np.median(np.abs(rim - flat).mean(axis=1))
    if spread < NO_INK:
        return np.broadcast_to(flat, colours.shape)
    terms = _quadratic(small.shape)
    # least absolute errors along the edge, so that ink there counts little; then all that is near what they give
    edge, fit = _rim(terms), np.zeros((6, len(flat)))
    error = np.ones(len(rim))
    for _ in range(20):
        fit = _least_squares(edge, rim, 1 / error)
        error = np.maximum(np.abs(rim - edge @ fit).mean(axis=1), NO_INK)
    near = 4 * np.median(error)
    for _ in range(10):
        kept = np.abs(small - terms @ fit).mean(axis=2) < near
        fit = _least_squares(terms[kept], small[kept])
    return _quadratic(colours.shape) @ fit.astype(np.float32)


def _quadratic(shape: tuple[int, ...]) -> Floats:
    """Return 1, x, y, xx, xy, yy at each pixel, x and y from -1 to 1."""
    y = np.linspace(-1, 1, shape[0], dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, shape[1], dtype=np.float32)
    terms = np.ones((*shape[:2], 6), np.float32)
    for i, term in enumerate((x, y, x * x, x * y, y * y), start=1):
        terms[..., i] = term
    return terms


def _least_squares(terms: Floats, values: Floats, weights: Any = 1) -> npt.NDArray[np.float64]:
    weighted = terms.T.astype(np.float64) * weights
    return np.asarray(np.linalg.lstsq(weighted @ terms, weighted @ values, rcond=None)[0])


# ---- the digit


def _digit(ink: Floats) -> tuple[Floats, tuple[int, int, int, int]]:
    """Return the picture around the digit with all else 0 and the digit's ink 1; and where its strong ink is."""
    while True:
        size = -(-max(ink.shape) // CELLS)
        cells = _cells(ink, size)
        strong = _strong(cells)
        near = _grown(_grown(strong))
        ink = ink * _pixels(near, ink.shape, size)
        top, bottom, left, right = (size * end for end in _extent(near))
        if size == 1 or max(bottom - top, right - left) > 0.7 * max(ink.shape):
            break
        ink = ink[top:bottom, left:right]
    level = np.percentile(ink[_pixels(strong, ink.shape, size) & (ink > FAINT * ink.max())], 90)
    top, bottom, left, right = (size * end for end in _extent(strong))
    return np.minimum(ink / level, 1), (top, min(bottom, ink.shape[0]), left, min(right, ink.shape[1]))


def _pixels(cells: Mask, shape: tuple[int, ...], size: int) -> Mask:
    """Undo `_cells`."""
    return cells.repeat(size, axis=0).repeat(size, axis=1)[: shape[0], : shape[1]]


def _strong(cells: Floats) -> Mask:
    """Return where the parts of the digit are: strong ink that is connected and weighs enough."""
    parts = _parts(cells > FAINT * cells.max())
    names, index = np.unique(parts, return_inverse=True)
    index = np.reshape(index, parts.shape)  # flat in some versions of NumPy
    mass = np.bincount(index.ravel(), cells.ravel()) * (names > 0)
    inner = mass.copy()
    inner[_rim(index)] = 0
    if inner.max() > LIGHT * mass.max():
        mass = inner
    heavy = np.asarray(mass > LIGHT * mass.max())
    if heavy.sum() > MOST_PARTS:
        raise ValueError(
            f"the picture shows no single digit: {heavy.sum()} marks of like size stand out from its ground"
        )
    return np.asarray(heavy[index])


def _parts(mask: Mask) -> npt.NDArray[np.int64]:
    """Give each connected part of the mask a number of its own; what is not in the mask has 0."""
    parts = np.where(mask, np.arange(1, mask.size + 1).reshape(mask.shape), 0)
    while True:
        spread = _highest_around(parts) * mask
        if np.array_equal(spread, parts):
            return parts
        parts = spread


def _highest_around(array: Any) -> Any:
    """Return the maximum of each pixel and its eight neighbours."""
    array = np.pad(array, 1)
    rows = np.maximum(np.maximum(array[:-2], array[1:-1]), array[2:])
    return np.maximum(np.maximum(rows[:, :-2], rows[:, 1:-1]), rows[:, 2:])


def _grown(mask: Mask) -> Mask:
    return np.asarray(_highest_around(mask), bool)


def _extent(mask: Mask) -> tuple[int, int, int, int]:
    """Return top, bottom, left, right of what is in the mask, the bottom and the right being the first without."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return rows[0], rows[-1] + 1, columns[0], columns[-1] + 1


def _centred(ink: Floats, corner: tuple[int, int], unit: float, side: int) -> Floats:
    """Return the ink scaled by 1/unit, its centre of mass in the middle, the corner still on whole pixels."""
    from PIL import Image  # noqa: PLC0415 - an extra

    margin = math.ceil((side / 2 + 2) * unit)
    padded = np.pad(ink, margin)
    starts = []
    for axis, first in enumerate(corner):
        mass = padded.sum(axis=1 - axis, dtype=np.float64)
        centre = mass @ (np.arange(len(mass)) + 0.5) / mass.sum() - first - margin
        # MNIST's own centres are from half a pixel before the middle of pixel 14 to half a pixel behind it; what is
        # symmetric is at the very limit, where rounding errors must not move it
        starts.append(first + margin - math.ceil(side / 2 - centre / unit - 1e-3) * unit)
    y, x = starts
    box = (x, y, x + side * unit, y + side * unit)
    scaled = np.asarray(Image.fromarray(padded).resize((side, side), Image.Resampling.LANCZOS, box=box))
    return np.asarray(np.clip(scaled / scaled.max(), 0, 1))
