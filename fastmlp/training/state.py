"""What a run leaves behind: its history, and all of it that is not a parameter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastmlp.errors import DivergenceError
from fastmlp.optimizers import Optimizer

if TYPE_CHECKING:
    from fastmlp._engine import Trainer
    from fastmlp.network import MLP

__all__ = ["History", "TrainingState", "first_state", "keep"]


class History:
    """What a call of `fit` saw, one value an epoch.

    Attributes
    ----------
    loss : list of float
        Mean over the epoch's batches of each batch's mean cost, as the parameters moved.
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


class TrainingState:
    """All of a run that is not a parameter: with it and the parameters, training goes on exactly.

    Attributes
    ----------
    rule : str
        The optimizer's update that the moments belong to.
    moments : list of two float32 arrays (n_parameters,)
        The optimizer's running means, or its velocity and nothing.
    step : int
        Steps taken with these moments.
    epoch : int
        Epochs trained, which number the shuffles.

    Examples
    --------
    >>> from fastmlp.training import TrainingState
    >>> TrainingState("adam", n_parameters=3).moments
    [array([0., 0., 0.], dtype=float32), array([0., 0., 0.], dtype=float32)]
    """

    def __init__(self, rule: str, n_parameters: int, epoch: int = 0) -> None:
        self.rule = rule
        self.moments = [np.zeros(n_parameters, np.float32) for _ in range(2)]
        self.step = 0
        self.epoch = epoch


def first_state(network: MLP, optimizer: Optimizer) -> TrainingState:
    """Return the network's own state, or a new one where its moments mean something else.

    Examples
    --------
    >>> import fastmlp
    >>> from fastmlp.training.state import first_state
    >>> first_state(fastmlp.MLP((2, 2)), fastmlp.SGD()).step
    0
    """
    state = network._state
    if state is None or state.rule != optimizer.rule:
        return TrainingState(optimizer.rule, network.parameters.size, state.epoch if state else 0)
    return state


def keep(network: MLP, state: TrainingState, trainer: Trainer) -> None:
    """Take over parameters and moments from the engine if they are finite.

    Examples
    --------
    >>> import fastmlp
    >>> net = fastmlp.MLP((2, 2))
    >>> _ = net.fit([[0, 1], [1, 0]], [0, 1], epochs=3, verbose=False)  # which keeps each epoch
    >>> net._state.step
    3
    """
    if not trainer.is_finite():
        raise DivergenceError(
            f"training diverged in epoch {state.epoch + 1}: its cost is {trainer.cost}, and the network keeps the "
            "parameters of the last finite epoch; a smaller learning_rate or inputs of a smaller scale may help"
        )
    trainer.store(network.parameters, state.moments)
    network._state = state
    state.step = trainer.step
