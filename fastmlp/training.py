"""Training: the epoch loop around the engine, and what it leaves behind."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastmlp import _engine, _inputs, _kernels, checks, threads
from fastmlp.activations import ACTIVATIONS
from fastmlp.callbacks import Callback, Progress, ProgressBar
from fastmlp.errors import DivergenceError
from fastmlp.losses import LOSSES
from fastmlp.network import RATE
from fastmlp.optimizers import SGD, Adam, Optimizer

if TYPE_CHECKING:
    from fastmlp.network import MLP

__all__ = ["History", "TrainingState", "fit"]


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


def fit(
    network: MLP,
    X: ArrayLike,
    y: ArrayLike,
    *,
    epochs: int,
    batch_size: int,
    optimizer: Optimizer | None,
    validation_data: tuple[ArrayLike, ArrayLike] | None,
    sample_weight: ArrayLike | None,
    shuffle: bool,
    callbacks: Sequence[Callback],
    verbose: bool | int,
) -> History:
    """Train a network: `fastmlp.MLP.fit`, which documents the arguments.

    Examples
    --------
    >>> import fastmlp
    >>> fastmlp.MLP((2, 2)).fit([[0, 1], [1, 0]], [0, 1], epochs=3, verbose=False)  # doctest: +ELLIPSIS
    History(epochs=3, loss=...)
    """
    epochs = checks.integer("epochs", epochs, least=1)
    batch_size = checks.integer("batch_size", batch_size, least=1)
    shuffle = checks.boolean("shuffle", shuffle)
    verbose = checks.verbosity(verbose)
    optimizer = Adam() if optimizer is None else optimizer
    if not isinstance(optimizer, (SGD, Adam)):
        raise TypeError(f"optimizer must be a fastmlp.SGD, Adam or AdamW, not {optimizer!r:.80}")
    callbacks = _callbacks(callbacks)
    network._require_finite()
    names, validation_names = ("X", "y"), ("validation_data[0]", "validation_data[1]")
    task = network.layer_sizes, network.loss
    X, y = checks.shapes(names, X, y, *task)
    held_out = None if validation_data is None else checks.shapes(validation_names, *_pair(validation_data), *task)
    weights = checks.sample_weights(sample_weight, X.shape[0])
    validation = None if held_out is None else checks.examples(validation_names, *held_out, *task)
    rows, targets = checks.examples(names, X, y, *task)

    state = _state(network, optimizer)
    batch = min(batch_size, len(rows))
    # Forward, input gradient and weight gradient, in phases that the threads share.
    work = 3 * batch * network.parameters.size / RATE
    n_threads = threads.choose(network.n_threads, work / (2 * len(network.layer_sizes)))
    trainer = _engine.Trainer(
        network.layer_sizes,
        network.parameters,
        state.moments,
        ACTIVATIONS[network.activation].code,
        LOSSES[network.loss].code,
        _inputs.Inputs(rows, network.layer_sizes[1], n_threads),
        targets.labels,
        targets.values,
        weights,
        batch,
        optimizer,
        state.step,
        n_threads,
    )
    progress = Progress(network, History(), epochs, trainer.n_batches)
    callbacks = [*callbacks, ProgressBar(None if verbose is True else verbose)] if verbose else list(callbacks)
    for callback in callbacks:
        callback.on_fit_begin(progress)
    try:
        for order in islice(_orders(len(rows), network.seed, state.epoch, shuffle), epochs):
            seconds = _run_epoch(trainer, order, progress, callbacks)
            _keep(network, state, trainer)
            state.epoch += 1
            progress.history.seconds.append(seconds)
            progress.history.loss.append(trainer.cost)
            if validation is not None:
                scores = network._evaluate(*validation)
                progress.history.validation_loss.append(scores["loss"])
                if "accuracy" in scores:
                    progress.history.validation_accuracy.append(scores["accuracy"])
            for callback in callbacks:
                callback.on_epoch_end(progress)
    except KeyboardInterrupt:
        # Before the first batch of an epoch, and after a divergence, there is nothing new to keep.
        with suppress(DivergenceError):
            _keep(network, state, trainer)
        raise
    finally:
        for callback in callbacks:
            callback.on_fit_end(progress)
    return progress.history


def _callbacks(callbacks: object) -> Sequence[Callback]:
    if not isinstance(callbacks, Sequence):
        raise TypeError(f"callbacks must be a sequence of fastmlp.callbacks.Callback, not {callbacks!r:.80}")
    for callback in callbacks:
        if not isinstance(callback, Callback):
            raise TypeError(f"callbacks must hold instances of fastmlp.callbacks.Callback, not {callback!r:.80}")
    return callbacks


def _pair(data: tuple[ArrayLike, ArrayLike]) -> tuple[ArrayLike, ArrayLike]:
    if not isinstance(data, (tuple, list)):
        raise TypeError(f"validation_data must be a pair (X, y), not {type(data).__name__}")
    if len(data) != 2:
        raise TypeError(f"validation_data must be a pair (X, y), not a {type(data).__name__} of {len(data)}")
    return data[0], data[1]


def _state(network: MLP, optimizer: Optimizer) -> TrainingState:
    """The network's own state, or a new one where its moments mean something else."""
    state = network._state
    if state is None or state.rule != optimizer.rule:
        return TrainingState(optimizer.rule, network.parameters.size, state.epoch if state else 0)
    return state


def _orders(n: int, seed: int, epoch: int, shuffle: bool) -> Iterator[NDArray[np.int64]]:
    """Yield the rows in the order of this epoch and of those after it, in one array.

    The order of an epoch is a function of the seed and its number alone.
    """
    order = np.arange(n)
    # Counter-based (Salmon et al. 2011): stream 1 of the seed, of which each epoch has a block of four numbers.
    philox = np.random.Philox(key=np.array([seed, 1], np.uint64), counter=epoch)
    while True:
        if shuffle:
            _kernels.shuffle(order, philox.random_raw(4)[:3].view(np.uint32))
        yield order


def _run_epoch(trainer: Any, order: NDArray[np.int64], progress: Progress, callbacks: Sequence[Callback]) -> float:
    """Train an epoch in slices; between two of them Python handles signals. Return its seconds of training."""
    seconds = 0.0
    trainer.start_epoch(order)
    while trainer.batch < trainer.n_batches:
        started = time.perf_counter()
        trainer.run()
        seconds += time.perf_counter() - started
        progress.batch = trainer.batch
        for callback in callbacks:
            callback.on_batches(progress)
    return seconds


def _keep(network: MLP, state: TrainingState, trainer: Any) -> None:
    """Take over parameters and moments from the engine if they are finite."""
    if not trainer.is_finite():
        raise DivergenceError(
            f"training diverged in epoch {state.epoch + 1}: its loss is {trainer.cost}, and the network keeps the "
            "parameters of the last finite epoch; a smaller learning_rate or inputs of a smaller scale may help"
        )
    trainer.store(network.parameters, state.moments)
    network._state = state
    state.step = trainer.step
