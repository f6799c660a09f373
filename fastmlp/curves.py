"""The curves of a training: losses, accuracy and learning rate (needs matplotlib, the extra ``plot``)."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

try:
    from matplotlib.figure import Figure
    from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullFormatter
except ImportError as error:
    raise ImportError("plots need matplotlib: pip install 'fastmlp[plot]'") from error

from fastmlp.runs import History

__all__ = ["BLUE", "GREY", "PALE", "RED", "Picture", "learning_curves"]

BLUE, RED, GREY, PALE = "#2166ac", "#b2182b", "#666666", "#e3e3e3"
DOTS: dict[str, Any] = {"marker": "o", "markersize": 3.5}
RING: dict[str, Any] = {"marker": "o", "markersize": 9, "markerfacecolor": "none", "linestyle": "none", "color": RED}


class Picture(Figure):  # type: ignore[misc, unused-ignore]  # misc where matplotlib is missing
    """A figure that a notebook shows without pyplot; where pyplot has taken over the showing, it has the word.

    Examples
    --------
    >>> from fastmlp.curves import Picture
    >>> Picture()._repr_png_()[1:4]
    b'PNG'
    """

    def _repr_png_(self) -> bytes:
        page = io.BytesIO()
        self.savefig(page, format="png")
        return page.getvalue()


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
    panels = [(_losses, "Loss")]
    if history.validation_accuracy:
        panels.append((_accuracy, "Accuracy on the validation set, %"))
    if history.learning_rate:
        panels.append((_rates, "Learning rate"))
    figure = Picture(figsize=(5 * len(panels), 4), dpi=150, layout="constrained")
    epochs = np.arange(1, len(history.loss) + 1)
    for ax, (draw, title) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        ax.set_title(title, loc="left", fontsize=11)
        ax.set_xlabel("epoch")
        ax.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True, min_n_ticks=1))
        ax.grid(color=PALE)
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
        draw(ax, epochs, history)
    return figure


def _losses(ax: Any, epochs: Any, history: History) -> None:
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
    losses = [*history.loss, *history.validation_loss]
    if min(losses, default=0) > 0 and max(losses) > 10 * min(losses):
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter(FormatStrFormatter("%g"))
        ax.yaxis.set_minor_formatter(NullFormatter())
    ax.legend(frameon=False)


def _accuracy(ax: Any, epochs: Any, history: History) -> None:
    percent = 100 * np.asarray(history.validation_accuracy)
    best = int(percent.argmax())
    ax.plot(epochs, percent, **DOTS, color=RED, label=f"{percent[-1]:.2f}% at the end")
    ax.plot(epochs[best], percent[best], **RING, label=f"best: {percent[best]:.2f}% in epoch {epochs[best]}")
    ax.legend(frameon=False, loc="lower right")


def _rates(ax: Any, epochs: Any, history: History) -> None:
    ax.plot(epochs, history.learning_rate, **DOTS, color=GREY)
    ax.set_ylim(bottom=0)
