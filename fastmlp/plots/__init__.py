"""Pictures of a training, and of what a network makes of a data set (needs matplotlib, the extra ``plot``).

Every function returns a ``matplotlib.figure.Figure`` of its own: pyplot, and with it the choice of a display,
is not touched. ``figure.savefig("name.png")`` writes one; a notebook shows it where it is a cell's last value, or by
``display(figure)``.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

try:
    from matplotlib.figure import Figure
except ImportError as error:
    raise ImportError("plots need matplotlib: pip install 'fastmlp[plot]'") from error

from fastmlp.arrays import Array
from fastmlp.ensemble import Ensemble
from fastmlp.network import MLP
from fastmlp.plots.confusion import confusion_matrix
from fastmlp.plots.curves import learning_curves, spread
from fastmlp.plots.images import digits, distortions, worst_mistakes
from fastmlp.plots.maps import first_weights, input_gradients
from fastmlp.runs import History

__all__ = [
    "confusion_matrix",
    "digits",
    "distortions",
    "first_weights",
    "input_gradients",
    "learning_curves",
    "spread",
    "worst_mistakes",
    "write_all",
]


def write_all(
    directory: str | os.PathLike[str],
    history: History,
    images: npt.ArrayLike,
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    *,
    model: MLP | Ensemble | None = None,
) -> list[str]:
    """Write pictures as PNG files: learning curves, digits, confusion matrix, worst mistakes and, of a model, more.

    Those are the gradients of the images' loss by their pixels, the weights of the first layer and, of an ensemble,
    the spread of its networks.

    Parameters
    ----------
    directory : path-like
        Where; it is created when it is not there.
    history : History
        What ``fit`` returned.
    images, labels, probabilities : array
        As for `digits`; the label of the largest probability counts as the prediction.
    model : MLP or Ensemble, optional
        What gave the probabilities. Of an ensemble the gradients are the mean of its networks', and the weights those
        of the first one; ``learning_curves.png`` is left out, and ``ensemble.png`` has the curves of all.

    Returns
    -------
    list of str
        The names of the files written. Pictures of images are left out when the rows are not square images.

    Examples
    --------
    >>> import tempfile
    >>> from fastmlp.plots import write_all
    >>> from fastmlp.training import History
    >>> history = History(loss=[0.5, 0.2])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_all(folder, history, [[0.0, 1.0, 0.5]], labels=[1], probabilities=[[0.2, 0.8]])
    ['confusion_matrix.png', 'learning_curves.png']
    """
    figures = _figures(history, np.asarray(images), np.asarray(labels), np.asarray(probabilities), model)
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(directory / name)
    return list(figures)


def _figures(
    history: History, rows: Array, truth: Array, chances: Array, model: MLP | Ensemble | None
) -> dict[str, Figure]:
    """Return the pictures by the names of their files."""
    predictions, inputs = chances.argmax(axis=1), rows.reshape(len(rows), -1)
    networks = model.networks if isinstance(model, Ensemble) else () if model is None else (model,)
    figures = {"confusion_matrix.png": confusion_matrix(truth, predictions)}
    if isinstance(model, Ensemble):
        accuracies = [np.mean(network.predict(inputs) == truth) for network in networks]
        histories = [network.history for network in networks]
        figures["ensemble.png"] = spread(histories, accuracies, float(np.mean(predictions == truth)))
    else:
        figures["learning_curves.png"] = learning_curves(history)
    if math.isqrt(inputs.shape[1]) ** 2 != inputs.shape[1]:
        return figures
    figures["digits.png"] = digits(rows, truth, predictions, chances)
    figures["worst_mistakes.png"] = worst_mistakes(rows, truth, predictions, chances)
    if networks:
        first = inputs[:20], truth[:20]
        gradients = np.mean([network.input_gradient(*first) for network in networks], axis=0)
        figures["input_gradients.png"] = input_gradients(*first, gradients)
        figures["first_weights.png"] = first_weights(networks[0].weights[0])
    return figures
