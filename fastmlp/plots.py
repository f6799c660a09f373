"""Pictures of a training, and of what a network makes of a data set (needs matplotlib, the extra ``plot``).

Every function returns a ``matplotlib.figure.Figure`` of its own: pyplot, and with it the choice of a display,
is not touched. ``figure.savefig("name.png")`` writes one; a notebook shows it where it is a cell's last value, or by
``display(figure)``.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

try:
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle
except ImportError as error:
    raise ImportError("plots need matplotlib: pip install 'fastmlp[plot]'") from error

from fastmlp.augment import Distortion
from fastmlp.curves import GREY, PALE, RED, Picture, learning_curves
from fastmlp.runs import History

__all__ = ["confusion_matrix", "digits", "distortions", "learning_curves", "worst_mistakes", "write_all"]

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
    captions = [
        (f"{predictions[i]}{f', is {labels[i]}' if wrong[i] else ''}", _percent(probabilities[i].max())) for i in shown
    ]
    title = f"The first {len(shown)} rows: {np.count_nonzero(wrong[: len(shown)])} wrong. {LEGEND}"
    return _page(images[: len(shown)], captions, wrong, title, columns=10)


def confusion_matrix(y_true: npt.ArrayLike, y_pred: npt.ArrayLike) -> Figure:
    """Draw how often each label was predicted as each, with the share of every label that was recognised.

    Right answers are on the diagonal, in blue: the paler, the smaller the share of that label that was recognised,
    beside the other labels. The redder a cell, the more frequent that mistake.

    Parameters
    ----------
    y_true, y_pred : array, shape (n,)
        The labels, and what ``predict`` says.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If the two are not of one length, or empty.

    Examples
    --------
    >>> from fastmlp.plots import confusion_matrix
    >>> figure = confusion_matrix([3, 5, 5, 5], [3, 5, 5, 3])
    >>> figure.axes[0].get_title(loc="left")
    '3 of 4 right (75.00%)'
    """
    truth, guess = np.asarray(y_true), np.asarray(y_pred)
    if truth.ndim != 1 or truth.shape != guess.shape or not truth.size:
        raise ValueError(f"y_true and y_pred must both be (n,), n > 0: got {truth.shape} and {guess.shape}")
    names, codes = np.unique(np.concatenate([truth, guess]), return_inverse=True)
    m = len(names)
    counts = np.bincount(codes[: len(truth)] * m + codes[len(truth) :], minlength=m * m).reshape(m, m)
    right, total = counts.trace(), counts.sum()
    diagonal = np.eye(m, dtype=bool)
    mistakes = np.where(diagonal, 0, counts)
    # the square root lets rare mistakes be seen beside frequent ones
    redness = np.sqrt(mistakes / max(mistakes.max(), 1))

    colours = colormaps["Reds"](0.05 + 0.7 * redness)
    of_label = counts.sum(axis=1)
    missed = 1 - counts.diagonal() / np.maximum(of_label, 1)
    colours[diagonal] = colormaps["Blues"](0.6 - 0.5 * missed / (missed.max() or 1))
    colours[counts == 0] = 1

    # shrinks for very many labels, so that the picture stays of a size that can be drawn
    cell = min(0.6, 18 / m)
    figure = Picture(figsize=(cell * (m + 1) + 1.4, cell * m + 1.4), dpi=150, layout="constrained")
    ax = figure.subplots()
    ax.set_title(f"{right:,} of {total:,} right ({right / total:.2%})", loc="left", fontsize=11, pad=10)
    ax.imshow(colours, interpolation="nearest")
    points = cell * 17
    text: dict[str, Any] = {"va": "center", "fontsize": points}
    for i, j in np.ndindex(m, m):
        colour = "white" if redness[i, j] > 0.8 else "#222222" if counts[i, j] else "#cccccc"
        # outside the layout, which would measure each
        ax.text(j, i, f"{counts[i, j]:,}", ha="center", color=colour, in_layout=False, **text)
    ax.text(m - 0.4, -0.8, "recognised", color=GREY, **text)
    for i in range(m):
        share = f"{1 - missed[i]:.1%}" if of_label[i] else "none"
        ax.text(m - 0.4, i, share, color=GREY, **text)
    ax.set_xlabel("prediction")
    ax.set_ylabel("label")
    ax.set_xticks(range(m), names, fontsize=points)
    ax.set_yticks(range(m), names, fontsize=points)
    ax.set_xticks(np.arange(1, m) - 0.5, minor=True)
    ax.set_yticks(np.arange(1, m) - 0.5, minor=True)
    ax.grid(which="minor", color=PALE, linewidth=1)
    ax.tick_params(which="both", length=0)
    ax.spines[:].set_color(PALE)
    return figure


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
    captions = [(f"{predictions[i]}, is {labels[i]}", f"{_percent(confidence[i])}, row {i}") for i in worst]
    title = f"{len(wrong):,} of {len(images):,} rows are wrong"
    if len(wrong) > len(worst):
        title += f"; the {len(worst)} surest of them"
    title += f". {LEGEND}" if len(worst) else ""
    return _page(images[worst], captions, np.ones(len(worst), bool), title, columns=6)


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
    pixels = _squares(images)[:5]
    forms = np.stack([pixels, *(augment(pixels, seed, epoch=epoch) for epoch in range(9))], axis=1)
    captions = [("as it is", ""), *((f"epoch {epoch}", "") for epoch in range(1, 10))] * len(pixels)
    title = f"The first {len(pixels)} rows, and what training sees in their place"
    return _page(forms.reshape(-1, *pixels.shape[1:]), captions, np.zeros(len(captions), bool), title, columns=10)


def write_all(
    directory: str | os.PathLike[str],
    history: History,
    images: npt.ArrayLike,
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
) -> list[str]:
    """Write the four pictures as PNG files: learning curves, digits, confusion matrix and worst mistakes.

    Parameters
    ----------
    directory : path-like
        Where; it is created when it is not there.
    history : History
        What ``fit`` returned.
    images, labels, probabilities : array
        As for `digits`; the label of the largest probability counts as the prediction.

    Returns
    -------
    list of str
        The names of the files written. ``digits.png`` and ``worst_mistakes.png`` are left out when the rows
        are not square images.

    Examples
    --------
    >>> import tempfile
    >>> from fastmlp.plots import write_all
    >>> from fastmlp.training import History
    >>> history = History(loss=[0.5, 0.2])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_all(folder, history, [[0.0, 1.0, 0.5]], labels=[1], probabilities=[[0.2, 0.8]])
    ['learning_curves.png', 'confusion_matrix.png']
    """
    rows, chances = np.asarray(images), np.asarray(probabilities)
    predictions = chances.argmax(axis=1)
    figures = {
        "learning_curves.png": learning_curves(history),
        "confusion_matrix.png": confusion_matrix(labels, predictions),
    }
    if math.isqrt(rows[0].size) ** 2 == rows[0].size:
        figures["digits.png"] = digits(rows, labels, predictions, chances)
        figures["worst_mistakes.png"] = worst_mistakes(rows, labels, predictions, chances)
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(directory / name)
    return list(figures)


def _checked(
    images: npt.ArrayLike, labels: npt.ArrayLike, predictions: npt.ArrayLike, probabilities: npt.ArrayLike
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Return the four as arrays that agree, the images as (n, side, side)."""
    pixels, chances = _squares(images), np.asarray(probabilities)
    n = len(pixels)
    truth, guess = np.asarray(labels), np.asarray(predictions)
    for name, array in (("labels", truth), ("predictions", guess)):
        if array.shape != (n,):
            raise ValueError(f"{name} must be ({n},), one for each image: got shape {array.shape}")
    if chances.ndim != 2 or len(chances) != n:
        raise ValueError(f"probabilities must be ({n}, m), a row for each image: got shape {chances.shape}")
    return pixels, truth, guess, chances


def _squares(images: npt.ArrayLike) -> npt.NDArray[Any]:
    """Return images as an array (n, side, side)."""
    pixels = np.asarray(images)
    if pixels.ndim == 0 or len(pixels) == 0:
        raise ValueError(f"images must have at least one row: got shape {pixels.shape}")
    n, side = len(pixels), math.isqrt(pixels[0].size)
    if pixels.shape not in {(n, side * side), (n, side, side)}:
        raise ValueError(f"images must be square, (n, side * side) or (n, side, side): got shape {pixels.shape}")
    return pixels.reshape(n, side, side)


def _percent(probability: float) -> str:
    """Return a probability to a tenth of a percent, but certainty only where there is certainty."""
    return ">99.9%" if 0.9995 <= probability < 1 else f"{probability:.1%}"


def _page(
    images: npt.NDArray[Any],
    captions: list[tuple[str, str]],
    wrong: npt.NDArray[np.bool_],
    title: str,
    columns: int,
) -> Figure:
    """Draw the images (n, side, side) in lines of some columns; of a caption, half is left and half right."""
    lines = max(1, math.ceil(len(images) / columns))
    # inches; all else is in units of an image's side
    side, gap = 10 / columns, 0.08
    height = 1 + 0.24 / side
    size = (columns * side * (1 + gap), lines * side * (height + gap) + 0.45)
    figure = Picture(figsize=size, dpi=150)
    ax = figure.add_axes((0.01, 0.005, 0.98, 1 - 0.4 / size[1]))
    ax.set_title(title, loc="left", fontsize=11)
    ax.set_axis_off()
    for i, (image, (left, right)) in enumerate(zip(images, captions, strict=True)):
        x, y = i % columns * (1 + gap), i // columns * (height + gap)
        ax.imshow(
            image,
            cmap="gray_r",
            vmin=images.min(),
            vmax=images.max(),
            extent=(x, x + 1, y + 1, y),
            aspect="auto",
        )
        colour, frame = (RED, RED) if wrong[i] else (GREY, PALE)
        ax.add_patch(Rectangle((x, y), 1, 1, fill=False, edgecolor=frame, linewidth=1.5 if wrong[i] else 0.8))
        below: dict[str, Any] = {"y": y + 1 + 0.16 / side, "va": "baseline", "color": colour}
        ax.text(x, s=left, fontsize=9.5, fontweight="bold", **below)
        ax.text(x + 1, s=right, fontsize=8, ha="right", **below)
    ax.set_xlim(-0.02, columns * (1 + gap) - gap + 0.02)
    ax.set_ylim(lines * (height + gap) - gap, -0.02)
    return figure
