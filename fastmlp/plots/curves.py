"""The curves of a training, or of several: losses, accuracy and learning rate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullFormatter

from fastmlp.plots.figure import BLUE, GREY, PALE, RED, Picture
from fastmlp.runs import History

__all__ = ["learning_curves", "spread"]

DOTS: dict[str, Any] = {"marker": "o", "markersize": 3.5}
RING: dict[str, Any] = {"marker": "o", "markersize": 9, "markerfacecolor": "none", "linestyle": "none", "color": RED}


def learning_curves(history: History) -> Figure:
    """Draw the losses of every epoch, the accuracy on the validation set where there is one, and the learning rate.

    The epochs of the lowest validation loss and of the highest accuracy are marked. The losses are on a logarithmic
    scale when they differ by more than a factor of 10.

    Parameters
    ----------
    history : History
        What ``fit`` returned.

    Returns
    -------
    matplotlib.figure.Figure

    Examples
    --------
    >>> from fastmlp.plots import learning_curves
    >>> from fastmlp.training import History
    >>> figure = learning_curves(History(loss=[0.5, 0.2], learning_rate=[0.01, 0.001]))
    >>> [panel.get_title(loc="left") for panel in figure.axes]
    ['Loss', 'Learning rate']
    """
    panels: list[_Panel] = [("Loss", "epoch", lambda ax: _losses(ax, history))]
    if history.validation_accuracy:
        panels.append(("Accuracy on the validation set, %", "epoch", lambda ax: _accuracy(ax, history)))
    if history.learning_rate:
        panels.append(("Learning rate", "epoch", lambda ax: _rates(ax, history)))
    return _drawn(panels)


def spread(histories: Sequence[History], accuracies: npt.ArrayLike, together: float) -> Figure:
    """Draw how far the networks of an ensemble are apart: their curves, and their accuracies beside the ensemble's.

    Parameters
    ----------
    histories : sequence of History
        One for each network.
    accuracies : array, shape (number of networks,)
        Of each network on the test images, from 0 to 1.
    together : float
        That of the ensemble.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        There is no network, or not one accuracy for each.

    Examples
    --------
    >>> from fastmlp.plots import spread
    >>> from fastmlp.training import History
    >>> figure = spread([History(loss=[0.5, 0.2]), History(loss=[0.6, 0.3])], [0.97, 0.98], together=0.985)
    >>> [panel.get_title(loc="left") for panel in figure.axes]
    ['Loss', 'Accuracy on the test set, %']
    """
    percent = 100 * np.asarray(accuracies, float)
    if not histories or percent.shape != (len(histories),):
        raise ValueError(f"accuracies must be ({len(histories)},), one for each history: got shape {percent.shape}")
    panels: list[_Panel] = [("Loss", "epoch", lambda ax: _all_losses(ax, histories))]
    if all(history.validation_accuracy for history in histories):
        panels.append(("Accuracy on the validation set, %", "epoch", lambda ax: _all_accuracies(ax, histories)))
    panels.append(("Accuracy on the test set, %", "network", lambda ax: _members(ax, percent, 100 * together)))
    return _drawn(panels)


# Title, what is to the right, and what draws it.
_Panel: TypeAlias = tuple[str, str, Callable[[Any], None]]


def _drawn(panels: Sequence[_Panel]) -> Figure:
    figure = Picture(figsize=(5 * len(panels), 4), dpi=150, layout="constrained")
    for ax, (title, right, draw) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        ax.set_title(title, loc="left", fontsize=11)
        ax.set_xlabel(right)
        ax.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True, min_n_ticks=1))
        ax.grid(color=PALE)
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
        draw(ax)
    return figure


def _epochs(values: Sequence[float]) -> npt.NDArray[Any]:
    return np.arange(1, len(values) + 1)


def _losses(ax: Any, history: History) -> None:
    epochs = _epochs(history.loss)
    for name, colour, values in (
        ("training", BLUE, history.loss),
        ("validation", RED, history.validation_loss),
    ):
        if values:
            ax.plot(epochs, values, **DOTS, color=colour, label=f"{name}: {values[-1]:.4g} at the end")
    if history.validation_loss:
        best = int(np.argmin(history.validation_loss))
        ax.axvline(epochs[best], color=GREY, linewidth=0.8, linestyle=":")
        label = f"best: {history.validation_loss[best]:.4g} in epoch {epochs[best]}"
        ax.plot(epochs[best], history.validation_loss[best], **RING, label=label)
    _scale(ax, [*history.loss, *history.validation_loss])
    ax.legend(frameon=False)


def _all_losses(ax: Any, histories: Sequence[History]) -> None:
    for name, colour in (("loss", BLUE), ("validation_loss", RED)):
        curves = [getattr(history, name) for history in histories]
        if all(curves):
            kind = "validation" if name == "validation_loss" else "training"
            ends = [curve[-1] for curve in curves]
            _bundle(ax, curves, colour, f"{kind}: {min(ends):.4g} to {max(ends):.4g} at the end")
    _scale(ax, [loss for history in histories for loss in (*history.loss, *history.validation_loss)])
    ax.legend(frameon=False)


def _all_accuracies(ax: Any, histories: Sequence[History]) -> None:
    curves = [100 * np.asarray(history.validation_accuracy) for history in histories]
    ends = [curve[-1] for curve in curves]
    _bundle(ax, curves, RED, f"{min(ends):.2f} to {max(ends):.2f}% at the end")
    ax.legend(frameon=False, loc="lower right")


def _bundle(ax: Any, curves: Sequence[Any], colour: str, label: str) -> None:
    """Draw thin curves of one kind, with one label."""
    style: dict[str, Any] = {"color": colour, "linewidth": 1, "marker": ".", "markersize": 3, "alpha": 0.6}
    for i, curve in enumerate(curves):
        ax.plot(_epochs(curve), curve, **style, label=label if i == 0 else None)


def _members(ax: Any, percent: npt.NDArray[Any], together: float) -> None:
    numbers, mean = np.arange(1, len(percent) + 1), percent.mean()
    ax.axhline(together, color=RED, label=f"the ensemble: {together:.2f}%")
    ax.axhline(mean, color=GREY, linewidth=0.8, linestyle=":", label=f"mean of the networks: {mean:.2f}%")
    ax.plot(numbers, percent, color=BLUE, marker="o", linestyle="none", label="each network")
    ax.set_xlim(0.5, len(percent) + 0.5)
    lowest, highest = min(percent.min(), together), max(percent.max(), together)
    room = (highest - lowest) or 1.0
    ax.set_ylim(lowest - 0.4 * room, highest + 0.05 * room)  # the words below all dots
    ax.legend(frameon=False, loc="lower right")


def _scale(ax: Any, losses: Sequence[float]) -> None:
    """Make the scale a logarithmic one where the losses differ by more than a factor of 10."""
    if min(losses, default=0) > 0 and max(losses) > 10 * min(losses):
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter(FormatStrFormatter("%g"))
        ax.yaxis.set_minor_formatter(NullFormatter())


def _accuracy(ax: Any, history: History) -> None:
    epochs = _epochs(history.validation_accuracy)
    percent = 100 * np.asarray(history.validation_accuracy)
    best = int(percent.argmax())
    ax.plot(epochs, percent, **DOTS, color=RED, label=f"{percent[-1]:.2f}% at the end")
    ax.plot(epochs[best], percent[best], **RING, label=f"best: {percent[best]:.2f}% in epoch {epochs[best]}")
    ax.legend(frameon=False, loc="lower right")


def _rates(ax: Any, history: History) -> None:
    ax.plot(_epochs(history.learning_rate), history.learning_rate, **DOTS, color=GREY)
    ax.set_ylim(bottom=0)
