"""Callbacks: what is told how training goes, while it goes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastmlp.network import MLP
    from fastmlp.training import History

__all__ = ["Callback", "Progress", "ProgressBar"]


class Progress:
    """Where a call of `fit` stands.

    Attributes
    ----------
    network : MLP
    history : History
        Of the epochs that are done.
    epochs, n_batches : int
        Epochs of this call, and batches of an epoch.
    batch : int
        Batches done of the current epoch.

    Examples
    --------
    >>> import fastmlp
    >>> from fastmlp.callbacks import Progress
    >>> from fastmlp.training import History
    >>> Progress(fastmlp.MLP((2, 2)), History(), epochs=3, n_batches=10).batch
    0
    """

    def __init__(self, network: MLP, history: History, epochs: int, n_batches: int) -> None:
        self.network = network
        self.history = history
        self.epochs = epochs
        self.n_batches = n_batches
        self.batch = 0


class Callback:
    """Base of all callbacks: does nothing at any of the four occasions.

    What it writes to the network's parameters or to the optimizer holds from the next batch on; the optimizer's moments
    stay. Parameters that are not finite are a `ValueError`, and an exception within an epoch undoes the epoch.

    Examples
    --------
    >>> import numpy as np, fastmlp
    >>> class Costs(fastmlp.callbacks.Callback):
    ...     def on_epoch_end(self, progress):
    ...         print("epoch", len(progress.history.loss))
    >>> net = fastmlp.MLP((2, 2))
    >>> _ = net.fit(np.eye(2), [0, 1], epochs=2, callbacks=[Costs()], verbose=False)
    epoch 1
    epoch 2
    """

    def on_fit_begin(self, progress: Progress) -> None:
        """Before the first batch."""

    def on_batches(self, progress: Progress) -> None:
        """After a slice of batches, some 10 ms of work; the network has the parameters as they are then."""

    def on_epoch_end(self, progress: Progress) -> None:
        """After an epoch and its validation; the network has the epoch's parameters."""

    def on_fit_end(self, progress: Progress) -> None:
        """After the last epoch, or the exception that ends training: heard by all who heard `on_fit_begin`."""


class ProgressBar(Callback):
    """A line an epoch on standard output, and on a terminal a bar over the epoch's batches on standard error.

    Examples
    --------
    >>> import numpy as np, fastmlp
    >>> net = fastmlp.MLP((2, 2), init="normal")
    >>> _ = net.fit(np.zeros((4, 2)), [0, 1, 0, 1], epochs=1, verbose=True)  # doctest: +ELLIPSIS
    Epoch: 1 cost=... seconds=...
    """

    def __init__(self) -> None:
        self._bar: Any = None

    def on_fit_begin(self, progress: Progress) -> None:
        """Open the bar."""
        if sys.stderr is not None and sys.stderr.isatty():
            from tqdm import tqdm  # noqa: PLC0415 - 30 ms, which only a bar is worth

            self._bar = tqdm(total=progress.n_batches, unit="batch", leave=False, dynamic_ncols=True)

    def on_batches(self, progress: Progress) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.set_description(f"Epoch {len(progress.history.loss) + 1}/{progress.epochs}", refresh=False)
            self._bar.update(progress.batch - self._bar.n)

    def on_epoch_end(self, progress: Progress) -> None:
        """Print the epoch's line."""
        if self._bar is not None:
            self._bar.clear()
        print(epoch_line(progress.history), flush=True)
        if self._bar is not None:
            self._bar.reset()

    def on_fit_end(self, progress: Progress) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()


def epoch_line(history: History) -> str:
    """Return the last epoch in a line, as the tutorial prints it.

    Examples
    --------
    >>> from fastmlp.callbacks import epoch_line
    >>> from fastmlp.training import History
    >>> history = History()
    >>> history.loss, history.seconds = [0.25], [1.5]
    >>> epoch_line(history)
    'Epoch: 1 cost=0.2500 seconds=1.50'
    """
    values = {
        "cost": f"{history.loss[-1]:.4f}",
        **{
            name: f"{getattr(history, name)[-1]:.4f}"
            for name in ("validation_loss", "validation_accuracy")
            if getattr(history, name)
        },
        "seconds": f"{history.seconds[-1]:.2f}",
    }
    return f"Epoch: {len(history.loss)} " + " ".join(f"{name}={value}" for name, value in values.items())
