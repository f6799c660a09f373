"""Who is told how training goes, and what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastmlp.network import MLP
from fastmlp.optimizers import Optimizer
from fastmlp.runs import History, Position

__all__ = ["Callback", "Progress"]


class Progress:
    """Where a call of `fit` stands.

    Attributes
    ----------
    network : MLP
    history : History
        Of the epochs that are done.
    epochs, n_batches : int
        Epochs of this call, and batches of an epoch: of a stream whose rows are not counted, as far as they are known.
    batch : int
        Batches done of the current epoch.
    position : Position
        Where in the epoch the network's parameters are from, for a checkpoint of them.
    optimizer : SGD, Adam or AdamW
        What is set about it holds from the next batch on: a learning rate in the place of a schedule, too.
    callbacks : sequence of Callback
        All that are told, in their order.
    stop : bool
        False. True ends training: at an epoch's end, or within the epoch after the batch at hand; the history then
        lacks that epoch.

    Examples
    --------
    >>> import fastmlp
    >>> from fastmlp.callbacks import Progress
    >>> from fastmlp.training import History
    >>> network, optimizer = fastmlp.MLP((2, 2)), fastmlp.SGD()
    >>> Progress(network, History(), epochs=3, n_batches=10, optimizer=optimizer, callbacks=[]).batch
    0
    """

    def __init__(
        self,
        network: MLP,
        history: History,
        *,
        epochs: int,
        n_batches: int,
        optimizer: Optimizer,
        callbacks: Sequence[Callback],
    ) -> None:
        self.network = network
        self.history = history
        self.epochs = epochs
        self.n_batches = n_batches
        self.batch = 0
        self.position = Position()
        self.optimizer = optimizer
        self.callbacks = callbacks
        self._given = dict(vars(optimizer))
        self.stop = False

    def changes(self) -> dict[str, Any]:
        """Return what has been set about the optimizer since `fit` was called, by name."""
        return {name: value for name, value in vars(self.optimizer).items() if value != self._given.get(name)}


class Callback:
    """Base of all callbacks: does nothing at any of the four occasions, and has nothing to keep in a checkpoint.

    What it writes to the network's parameters or to the optimizer holds from the next batch on; the optimizer's moments
    stay. Parameters that are not finite are a `ValueError`, and an exception within an epoch undoes the epoch.
    `progress.stop = True` ends training.

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

    def get_state(self) -> dict[str, Any]:
        """Return what a checkpoint is to keep: values of JSON, and arrays of float32 or float64, by name."""
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take what `get_state` returned when the checkpoint was written; then comes `on_fit_begin`."""
