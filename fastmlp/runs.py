"""What passes between a network and the training of it: who listens, what a run saw, and what the next one needs."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from fastmlp.arrays import Float32

__all__ = ["History", "Listener", "Position", "RunState", "SavedRun"]


class Listener(Protocol):
    """Whom `fit` tells how training goes, as a network sees it; `fastmlp.callbacks.Callback` is what users derive from.

    Examples
    --------
    >>> from fastmlp.callbacks import Callback
    >>> from fastmlp.runs import Listener
    >>> listener: Listener = Callback()
    """

    def on_fit_begin(self, progress: Any) -> None:
        """Before the first batch."""

    def on_batches(self, progress: Any) -> None:
        """After a slice of batches."""

    def on_epoch_end(self, progress: Any) -> None:
        """After an epoch."""

    def on_fit_end(self, progress: Any) -> None:
        """After the last epoch."""


class History(dict[str, list[float]]):
    """What a call of `fit` saw: a dictionary of lists with one value an epoch, which are attributes, too.

    pandas takes it as it is: ``pandas.DataFrame(history)``.

    Attributes
    ----------
    loss : list of float
        Mean over the epoch's batches of each batch's mean loss, as the parameters moved.
    validation_loss, validation_accuracy : list of float
        After the epoch, on the validation data; empty, and no keys, where there were none. No accuracy for
        "squared_error". A metric of the user's own is validation_<its name>.
    learning_rate : list of float
        Of the epoch's last batch.
    seconds : list of float
        Time of the epoch's training, without validation and callbacks.

    Examples
    --------
    >>> from fastmlp.training import History
    >>> history = History(loss=[0.5, 0.25])
    >>> history.loss is history["loss"], history.validation_loss
    (True, [])
    """

    def __getattr__(self, name: str) -> list[float]:
        if name in self:
            return self[name]
        if name in ("loss", "validation_loss", "validation_accuracy", "learning_rate", "seconds"):
            return []
        raise AttributeError(f"History has no {name!r}; it has {', '.join(self)}")

    def __setattr__(self, name: str, values: list[float]) -> None:
        self[name] = values

    def add(self, epoch: dict[str, float]) -> None:
        """Take a whole epoch's values, one for each key."""
        columns = [self[name] for name in epoch]
        # In one call of C, within which no Ctrl-C is heard.
        deque(map(list.append, columns, epoch.values()), maxlen=0)

    def __repr__(self) -> str:
        last = f", loss={self.loss[-1]:.4f}" if self.loss else ""
        return f"History(epochs={len(self.loss)}{last})"


class RunState(NamedTuple):
    """All of a run that is not a parameter: with it and the parameters, training goes on exactly.

    Training makes a new one, and puts it in the old one's place. The moments are the network's own memory,
    like its parameters: each new state has the same arrays, written anew.

    Attributes
    ----------
    rule : str
        The optimizer's update that the moments belong to.
    moments : tuple of two float32 arrays (n_parameters,)
        The optimizer's running means, or its velocity and nothing.
    step : int
        Steps taken with these moments.
    epoch : int
        Epochs trained, which number the shuffles.
    averages : float32 array (n_parameters,) or None
        Of the parameters over the steps, where the optimizer wants them: the network's own memory, too.
    averaged : int
        Steps that are in them.

    Examples
    --------
    >>> import fastmlp
    >>> net = fastmlp.MLP((2, 2))
    >>> _ = net.fit([[0, 1], [1, 0]], [0, 1], epochs=3, batch_size=1, verbose=False)
    >>> net._state.rule, net._state.step, net._state.epoch
    ('adam', 6, 3)
    """

    rule: str
    moments: tuple[Float32, Float32]
    step: int
    epoch: int
    averages: Float32 | None = None
    averaged: int = 0


class Position(NamedTuple):
    """Where in an epoch a run stands, between two batches.

    Attributes
    ----------
    batch : int
        Batches done.
    batch_size : int
    total_cost : float
        Sum of their mean losses.
    seconds : float
        That they took.
    forms : sequence of bool
        Which values of the next batch the engine takes by masks: how many of the last batch's were zero decides it.

    Examples
    --------
    >>> from fastmlp.runs import Position
    >>> Position().batch
    0
    """

    batch: int = 0
    batch_size: int = 0
    total_cost: float = 0.0
    seconds: float = 0.0
    forms: Sequence[bool] = ()


class SavedRun(NamedTuple):
    """What a checkpoint keeps of a run beside the network and its `RunState`.

    Attributes
    ----------
    history : History
    optimizer : str
        Its class.
    changes : dict
        What callbacks have set about the optimizer, by name.
    callbacks : list of (str, dict)
        Their classes, and what their `get_state` returned: of those that have something to keep, in their order.
    position : Position
        Of an epoch that is not over.

    Examples
    --------
    >>> from fastmlp.runs import History, SavedRun
    >>> SavedRun(History(loss=[0.5]), "Adam", changes={"learning_rate": 1e-4}, callbacks=[]).history.loss
    [0.5]
    """

    history: History
    optimizer: str
    changes: dict[str, Any]
    callbacks: list[tuple[str, dict[str, Any]]]
    position: Position = Position()
