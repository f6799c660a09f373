"""Images, and what a network or a distortion makes of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from fastmlp.augment import Distortion
from fastmlp.plots.page import Tile, page, squares

__all__ = ["LEGEND", "digits", "distortions", "worst_mistakes"]

LEGEND = "Below: what each was read as (and is, if that is wrong), and how surely"


def digits(
    images: npt.ArrayLike, labels: npt.ArrayLike, predictions: npt.ArrayLike, probabilities: npt.ArrayLike
) -> Figure:
    """Draw the first 50 images with what the network says of each; the wrong ones are framed in red.

    Parameters
    ----------
    images : array, shape (n, k) with k a square number, or (n, side, side)
        Rows as the network takes them; the largest value is drawn darkest.
    labels : array, shape (n,)
        The truth.
    predictions : array, shape (n,)
        What ``predict`` says.
    probabilities : array, shape (n, m)
        What ``predict_proba`` says; the largest of a row is shown.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If shapes do not agree, there is no row, or the images are not square.

    Examples
    --------
    >>> from fastmlp.plots import digits
    >>> images = [[0, 0, 1, 1], [1, 0, 0, 1]]
    >>> figure = digits(images, labels=[0, 1], predictions=[0, 0], probabilities=[[0.9, 0.1], [0.6, 0.4]])
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['0', '90.0%', '0, is 1', '60.0%']
    """
    images, labels, predictions, probabilities = _checked(images, labels, predictions, probabilities)
    shown = range(min(len(images), 50))
    wrong = labels != predictions
    tiles = [
        Tile(
            images[i],
            f"{predictions[i]}{f', is {labels[i]}' if wrong[i] else ''}",
            _percent(probabilities[i].max()),
            framed=bool(wrong[i]),
        )
        for i in shown
    ]
    title = f"The first {len(shown)} rows: {np.count_nonzero(wrong[: len(shown)])} wrong. {LEGEND}"
    return page(tiles, title, columns=10)


def worst_mistakes(
    images: npt.ArrayLike, labels: npt.ArrayLike, predictions: npt.ArrayLike, probabilities: npt.ArrayLike
) -> Figure:
    """Draw the 24 wrong answers that the network was surest of, the surest first.

    Parameters
    ----------
    images, labels, predictions, probabilities : array
        As for `digits`.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        As for `digits`.

    Examples
    --------
    >>> from fastmlp.plots import worst_mistakes
    >>> images = [[0, 0, 1, 1], [1, 0, 0, 1]]
    >>> figure = worst_mistakes(images, [0, 1], predictions=[0, 0], probabilities=[[0.9, 0.1], [0.6, 0.4]])
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['0, is 1', '60.0%, row 1']
    """
    images, labels, predictions, probabilities = _checked(images, labels, predictions, probabilities)
    wrong = np.flatnonzero(labels != predictions)
    confidence = probabilities.max(axis=1)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:24]
    tiles = [
        Tile(images[i], f"{predictions[i]}, is {labels[i]}", f"{_percent(confidence[i])}, row {i}", framed=True)
        for i in worst
    ]
    title = f"{len(wrong):,} of {len(images):,} rows are wrong"
    if len(wrong) > len(worst):
        title += f"; the {len(worst)} surest of them"
    title += f". {LEGEND}" if len(worst) else ""
    return page(tiles, title, columns=6)


def distortions(images: npt.ArrayLike, augment: Distortion, seed: int = 0) -> Figure:
    """Draw the first five images, and beside each what a network with this seed sees of it in its first nine epochs.

    Parameters
    ----------
    images : array
        As for `digits`; the first rows of X.
    augment : fastmlp.augment.Affine, Elastic or Compose
    seed : int, default 0

    Returns
    -------
    matplotlib.figure.Figure

    Examples
    --------
    >>> from fastmlp import augment, plots
    >>> figure = plots.distortions([[0, 0, 1, 1]], augment.Affine(rotation=15))
    >>> len(figure.axes[0].images)
    10
    """
    pixels = squares("images", images)[:5]
    forms = np.stack([pixels, *(augment(pixels, seed, epoch=epoch) for epoch in range(9))], axis=1)
    captions = ["as it is", *(f"epoch {epoch}" for epoch in range(1, 10))]
    tiles = [Tile(form, name) for row in forms for form, name in zip(row, captions, strict=True)]
    title = f"The first {len(pixels)} rows, and what training sees in their place"
    return page(tiles, title, columns=10)


def _checked(
    images: npt.ArrayLike, labels: npt.ArrayLike, predictions: npt.ArrayLike, probabilities: npt.ArrayLike
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Return the four as arrays that agree, the images as (n, side, side)."""
    pixels, chances = squares("images", images), np.asarray(probabilities)
    n = len(pixels)
    truth, guess = np.asarray(labels), np.asarray(predictions)
    for name, array in (("labels", truth), ("predictions", guess)):
        if array.shape != (n,):
            raise ValueError(f"{name} must be ({n},), one for each image: got shape {array.shape}")
    if chances.ndim != 2 or len(chances) != n:
        raise ValueError(f"probabilities must be ({n}, m), a row for each image: got shape {chances.shape}")
    return pixels, truth, guess, chances


def _percent(probability: float) -> str:
    """Return a probability to a tenth of a percent, but certainty only where there is certainty."""
    return ">99.9%" if 0.9995 <= probability < 1 else f"{probability:.1%}"
