"""What a run leaves in its network: where it begins, what it has reached, and both of them in one line."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from fastmlp.arrays import Float32
from fastmlp.engine.trainer import Trainer
from fastmlp.errors import DivergenceError
from fastmlp.network import MLP
from fastmlp.optimizers import RULES, Optimizer
from fastmlp.runs import RunState

__all__ = ["collect", "commit", "diverged", "first_state"]


def first_state(network: MLP, optimizer: Optimizer) -> RunState:
    """Return the network's own state, or a new one where its moments mean something else; averages only if wanted.

    Examples
    --------
    >>> import fastmlp
    >>> from fastmlp.training.state import first_state
    >>> first_state(fastmlp.MLP((2, 2)), fastmlp.SGD()).step
    0
    """
    before = state = network._state
    if state is None or RULES[state.rule].moments != RULES[optimizer.rule].moments:
        # Without zeros_like, which would write them.
        first, second = (np.zeros(network.parameters.size, np.float32) for _ in range(2))
        state = RunState(optimizer.rule, (first, second), step=0, epoch=state.epoch if state else 0)
    if before is not None and before.averages is not None and optimizer.ema is not None:
        return state._replace(averages=before.averages, averaged=before.averaged)
    return state._replace(averages=None, averaged=0)


def collect(trainer: Trainer, rule: str, before: RunState) -> tuple[Callable[[Float32], None], RunState]:
    """Return, for `commit`, what a run by `rule` has reached since it was at `before`.

    That is a function that writes values, moments and averages, for the first two of which there is no room but the
    network's, and the state.

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
        raise diverged(f"its loss is {trainer.cost}", trainer, before)
    epoch = before.epoch + trainer.is_over
    averages = before.averages
    if trainer.averaged == 0:
        averages = None
    elif averages is None:
        averages = np.empty_like(before.moments[0])
    state = RunState(rule, before.moments, trainer.step, epoch, averages, trainer.averaged)
    return partial(trainer.store, moments=state.moments, averages=averages), state


def diverged(what: str, trainer: Trainer, before: RunState) -> DivergenceError:
    """Return the error that says so.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> import fastmlp
    >>> from fastmlp.training.state import diverged, first_state
    >>> before = first_state(fastmlp.MLP((2, 2)), fastmlp.SGD())
    >>> diverged("its loss is nan", SimpleNamespace(batch=2, n_batches=5), before)  # doctest: +ELLIPSIS
    DivergenceError('training diverged in epoch 1: its loss is nan, by batch 2 of 5, and ...')
    """
    return DivergenceError(
        f"training diverged in epoch {before.epoch + 1}: {what}, by batch {trainer.batch} of {trainer.n_batches}, and "
        "the network keeps the parameters of the last finite epoch; a smaller learning_rate or inputs of a smaller "
        "scale may help"
    )


def commit(network: MLP, values: Float32 | Callable[[Float32], None], state: RunState | None) -> None:
    """Make values and state the network's own: both of them, whenever Ctrl-C comes.

    The values, parameters and running statistics, are an array, or a function that writes them, as `collect` returns
    it.

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
    network._few_rows[:], network._state = values, state
