"""How often each label was taken for each."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.figure import Figure

from fastmlp.plots.figure import GREY, PALE, Picture

__all__ = ["confusion_matrix"]


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
