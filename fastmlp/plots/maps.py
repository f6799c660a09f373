"""What a network looks at: gradients by its inputs, and the weights of its first layer, as pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from fastmlp.plots.page import Tile, page, squares

__all__ = ["first_weights", "input_gradients"]


def input_gradients(images: npt.ArrayLike, labels: npt.ArrayLike, gradients: npt.ArrayLike) -> Figure:
    """Draw the first 20 images, and beside each how its loss changes with its pixels.

    Where the map is red, more ink would raise the loss, and mislead the network; where it is blue, ink supports the
    label. Each map has its own scale, the number below it: of images that a network is sure of, gradients are small.

    Parameters
    ----------
    images : array, shape (n, k) with k a square number, or (n, side, side)
    labels : array, shape (n,)
    gradients : array, of the shape of images
        What ``net.input_gradient(images, labels)`` returns.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If shapes do not agree, there is no row, or the images are not square.

    Examples
    --------
    >>> import fastmlp
    >>> from fastmlp.plots import input_gradients
    >>> images, labels = [[0, 0, 1, 1], [1, 0, 0, 1]], [0, 1]
    >>> gradients = fastmlp.MLP((4, 2)).input_gradient(images, labels)
    >>> figure = input_gradients(images, labels, gradients)
    >>> len(figure.axes[0].images)
    4
    """
    pixels, maps, truth = squares("images", images), squares("gradients", gradients), np.asarray(labels)
    if maps.shape != pixels.shape or truth.shape != (len(pixels),):
        raise ValueError(
            f"images, labels and gradients must have as many rows and pixels: got shapes {pixels.shape}, "
            f"{truth.shape} and {maps.shape}"
        )
    shown = range(min(len(pixels), 20))
    tiles = [tile for i in shown for tile in (Tile(pixels[i], f"{truth[i]}"), _signed(maps[i], ""))]
    title = f"The first {len(shown)} rows, and what changes their loss: ink in the red raises it, in the blue lowers it"
    return page(tiles, title, columns=10)


def first_weights(weights: npt.ArrayLike) -> Figure:
    """Draw the weights into the first 60 units of a first layer, each as a picture: red positive, blue negative.

    Each picture has its own scale, the number below it. Pixels that are never lit keep the weights that they were
    drawn with, or lose them to weight decay.

    Parameters
    ----------
    weights : array, shape (k, m) with k a square number
        ``net.weights[0]``.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If the inputs are no square image.

    Examples
    --------
    >>> import fastmlp
    >>> from fastmlp.plots import first_weights
    >>> figure = first_weights(fastmlp.MLP((16, 3, 2)).weights[0])
    >>> [text.get_text() for text in figure.axes[0].texts[::2]]
    ['unit 1', 'unit 2', 'unit 3']
    """
    array = np.asarray(weights)
    if array.ndim != 2:
        raise ValueError(f"weights must be (k, m), those of a first layer: got shape {array.shape}")
    pictures = squares("weights, of each unit,", array.T)
    tiles = [_signed(picture, f"unit {unit}") for unit, picture in enumerate(pictures[:60], start=1)]
    which = f"the first {len(tiles)} of {len(pictures)}" if len(pictures) > len(tiles) else f"{len(tiles)}"
    return page(tiles, f"Weights into {which} units: red positive, blue negative", columns=10)


def _signed(picture: npt.NDArray[Any], name: str) -> Tile:
    """Return a picture of values about 0, which is white, with its scale below it."""
    largest = float(np.abs(picture).max())
    limit = largest or 1.0
    return Tile(picture, name, f"±{largest:.2g}", (-limit, limit), colours="RdBu_r")
