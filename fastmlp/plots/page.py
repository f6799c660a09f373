"""Small square pictures in lines, with words below each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from fastmlp.plots.figure import GREY, PALE, RED, Picture

__all__ = ["Tile", "page", "squares"]


class Tile(NamedTuple):
    """A picture (side, side), the words below it on its left and on its right, and how its values become colours.

    The limits are the values of the first and of the last colour; None: the least and the largest value of all tiles
    without limits.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp.plots.page import Tile
    >>> Tile(np.eye(2), "7", "99.0%").colours
    'gray_r'
    """

    pixels: npt.NDArray[Any]
    left: str = ""
    right: str = ""
    limits: tuple[float, float] | None = None
    colours: str = "gray_r"
    framed: bool = False


def page(tiles: Sequence[Tile], title: str, columns: int) -> Figure:
    """Draw tiles in lines of some columns; those that are framed in red.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp.plots.page import Tile, page
    >>> len(page([Tile(np.eye(2))] * 3, "Three", columns=2).axes[0].images)
    3
    """
    lines = max(1, math.ceil(len(tiles) / columns))
    # inches; all else is in units of a tile's side
    side, gap = 10 / columns, 0.08
    height = 1 + 0.24 / side
    size = (columns * side * (1 + gap), lines * side * (height + gap) + 0.45)
    figure = Picture(figsize=size, dpi=150)
    ax = figure.add_axes((0.01, 0.005, 0.98, 1 - 0.4 / size[1]))
    ax.set_title(title, loc="left", fontsize=11)
    ax.set_axis_off()
    free = [tile.pixels for tile in tiles if tile.limits is None]
    common = (np.min(free), np.max(free)) if free else (0.0, 1.0)
    for i, tile in enumerate(tiles):
        x, y = i % columns * (1 + gap), i // columns * (height + gap)
        low, high = tile.limits or common
        place = (x, x + 1, y + 1, y)
        ax.imshow(tile.pixels, cmap=tile.colours, vmin=low, vmax=high, extent=place, aspect="auto")
        colour, frame = (RED, RED) if tile.framed else (GREY, PALE)
        ax.add_patch(Rectangle((x, y), 1, 1, fill=False, edgecolor=frame, linewidth=1.5 if tile.framed else 0.8))
        below: dict[str, Any] = {"y": y + 1 + 0.16 / side, "va": "baseline", "color": colour}
        ax.text(x, s=tile.left, fontsize=9.5, fontweight="bold", **below)
        ax.text(x + 1, s=tile.right, fontsize=8, ha="right", **below)
    ax.set_xlim(-0.02, columns * (1 + gap) - gap + 0.02)
    ax.set_ylim(lines * (height + gap) - gap, -0.02)
    return figure


def squares(name: str, images: npt.ArrayLike) -> npt.NDArray[Any]:
    """Return images as an array (n, side, side).

    Examples
    --------
    >>> from fastmlp.plots.page import squares
    >>> squares("images", [[0, 1, 1, 0]]).tolist()
    [[[0, 1], [1, 0]]]
    """
    pixels = np.asarray(images)
    if pixels.ndim == 0 or len(pixels) == 0:
        raise ValueError(f"{name} must have at least one row: got shape {pixels.shape}")
    n, side = len(pixels), math.isqrt(pixels[0].size)
    if pixels.shape not in {(n, side * side), (n, side, side)}:
        raise ValueError(f"{name} must be square, (n, side * side) or (n, side, side): got shape {pixels.shape}")
    return pixels.reshape(n, side, side)
