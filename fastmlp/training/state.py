"""What a run leaves behind: its history, and all of it that is not a parameter."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fastmlp.arrays import Float32
from fastmlp.errors import DivergenceError
from fastmlp.optimizers import Optimizer

if TYPE_CHECKING:
    from fastmlp.engine.trainer import Trainer
    from fastmlp.network import MLP

__all__ = ["History", "RunState", "collect", "commit", "first_state"]


class History:
    """What a call of `fit` saw, one value an epoch.

    Attributes
    ----------
    loss : list of float
        Mean over the epoch's batches of each batch's mean loss, as the parameters moved.
    validation_loss, validation_accuracy : list of float
        After the epoch, on the validation data; empty where there were none. No accuracy for "squared_error".
    seconds : list of float
        Time of the epoch's training, without validation and callbacks.

    Examples
    --------
    >>> from fastmlp.training import History
    >>> History().loss
    []
    """

    def __init__(self) -> None:
        self.loss: list[float] = []
        self.validation_loss: list[float] = []
        self.validation_accuracy: list[float] = []
        self.seconds: list[float] = []

    def __repr__(self) -> str:
        last = f", loss={self.loss[-1]:.4f}" if self.loss else ""
        return f"History(epochs={len(self.loss)}{last})"


class RunState(NamedTuple):
    """All of a run that is not a parameter: with it and the parameters, training goes on exactly.

    Training makes a new one, and `commit` puts it in the old one's place. The moments are the network's own memory,
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


# Optimizers whose one moment is the same velocity.
_MOMENTUM = {"sgd", "nesterov"}


def first_state(network: MLP, optimizer: Optimizer) -> RunState:
    """Return the network's own state, or a new one where its moments mean something else.

    Examples
    --------
    >>> import fastmlp
    >>> from fastmlp.training.state import first_state
    >>> first_state(fastmlp.MLP((2, 2)), fastmlp.SGD()).step
    0
    """
    state = network._state
    if state is None or not (state.rule == optimizer.rule or {state.rule, optimizer.rule} == _MOMENTUM):
        # Without zeros_like, which would write them.
        first, second = (np.zeros(network.parameters.size, np.float32) for _ in range(2))
        return RunState(optimizer.rule, (first, second), step=0, epoch=state.epoch if state else 0)
    return state


def collect(trainer: Trainer, rule: str, before: RunState) -> tuple[Callable[[Float32], None], RunState]:
    """Return, for `commit`, what a run by `rule` has reached since it was at `before`.

    That is a function that writes parameters and moments, for which there is no room but the network's, and the state.

    Raises
    ------
    DivergenceError
        They, or the cost, are not finite.

    Examples
    --------
    A run does so after each epoch, and commits what it gets:

    >>> import fastmlp
    >>> net = fastmlp.MLP((2, 2))
    >>> _ = net.fit([[0, 1], [1, 0]], [0, 1], epochs=3, verbose=False)
    >>> net._state.epoch
    3
    """
    if not trainer.is_finite():
        raise DivergenceError(
            f"training diverged in epoch {before.epoch + 1}: its loss is {trainer.cost}, by batch {trainer.batch} of "
            f"{trainer.n_batches}, and the network keeps the parameters of the last finite epoch; a smaller "
            "learning_rate or inputs of a smaller scale may help"
        )
    epoch = before.epoch + (trainer.batch == trainer.n_batches)
    state = RunState(rule, before.moments, trainer.step, epoch)
    return partial(trainer.store, moments=state.moments), state


def commit(network: MLP, parameters: Float32 | Callable[[Float32], None], state: RunState | None) -> None:
    """Make parameters and state the network's own: both of them, whenever Ctrl-C comes.

    The parameters are an array, or a function that writes them, as `collect` returns it.

    Examples
    --------
    >>> import fastmlp
    >>> from fastmlp.training.state import commit
    >>> net, other = fastmlp.MLP((2, 2)), fastmlp.MLP((2, 2), seed=1)
    >>> commit(net, other.parameters, other._state)
    >>> bool((net.parameters == other.parameters).all())
    True
    """
    # Python handles signals, and changes threads, at calls and where it jumps back, so at none of what this line does.
    network._few_rows[:], network._state = parameters, state
