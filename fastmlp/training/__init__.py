"""Training: what `fit` asks of its arguments, and what it makes of them: an engine, and the loop around it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import islice

from numpy.typing import ArrayLike

from fastmlp import checks, threads
from fastmlp.augment import PIXEL, Distortion
from fastmlp.callbacks import Callback, Checkpoint, Progress, ProgressBar
from fastmlp.engine.trainer import Trainer
from fastmlp.layers import engine_layers
from fastmlp.losses import loss_of
from fastmlp.network import MLP
from fastmlp.optimizers import Optimizer, checked_optimizer
from fastmlp.rows import Stream
from fastmlp.runs import History, Listener, RunState
from fastmlp.schedules import try_rates
from fastmlp.training.data import Data, checked_data
from fastmlp.training.loop import Run, orders, whole
from fastmlp.training.resume import go_on, saved_run
from fastmlp.training.state import first_state
from fastmlp.training.validation import Metric
from fastmlp.training.windows import Windows, engine_rows

__all__ = ["History", "RunState", "fit"]


# The calls of fit that run, by process (a child that is forked meanwhile has none) and network.
_RUNNING: dict[tuple[int, int], object] = {}


def fit(
    network: MLP,
    X: ArrayLike | Stream,
    y: ArrayLike | None = None,
    *,
    epochs: int,
    batch_size: int,
    optimizer: Optimizer | None,
    validation_data: tuple[ArrayLike, ArrayLike] | Stream | None,
    sample_weight: ArrayLike | None,
    class_weight: Mapping[int, float] | str | None,
    metrics: Mapping[str, Metric] | Sequence[Metric] | None,
    augment: Distortion | None,
    shuffle: bool,
    callbacks: Sequence[Listener],
    resume: str | bytes | os.PathLike[str] | None,
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
    optimizer = checked_optimizer(optimizer)
    listeners = _listeners(callbacks, checks.verbosity(verbose))
    key, call = (os.getpid(), id(network)), object()
    try:
        if _RUNNING.setdefault(key, call) is not call:
            raise RuntimeError("fit is already running on this network, in another thread or around this callback")
        network._require_finite()
        network._require_writable()
        saved = None if resume is None else saved_run(checks.path("resume", resume), network, optimizer)
        data = checked_data(
            network,
            X,
            y,
            sample_weight=sample_weight,
            class_weight=class_weight,
            validation_data=validation_data,
            metrics=metrics,
            augment=augment,
            epochs=epochs,
            batch_size=batch_size,
            shuffle=shuffle,
        )
        progress = _progress(network, data, epochs, batch_size, optimizer=optimizer, callbacks=listeners)
        if saved is not None:
            go_on(progress, *saved)
        return _train(progress, data, batch_size, shuffle=shuffle)
    finally:
        # Without a call: Python would handle a signal there, and the network would be in training for ever.
        if key in _RUNNING and _RUNNING[key] is call:
            del _RUNNING[key]


def _listeners(callbacks: object, verbose: bool | int) -> Sequence[Callback]:
    if not isinstance(callbacks, Sequence):
        raise TypeError(f"callbacks must be a sequence of fastmlp.callbacks.Callback, not {callbacks!r:.80}")
    for callback in callbacks:
        if not isinstance(callback, Callback):
            raise TypeError(f"callbacks must hold instances of fastmlp.callbacks.Callback, not {callback!r:.80}")
    # Each checkpoint has what the others make of an epoch.
    told = sorted(callbacks, key=lambda callback: isinstance(callback, Checkpoint))
    return [*told, ProgressBar(None if verbose is True else verbose)] if verbose else told


def _progress(
    network: MLP, data: Data, epochs: int, batch_size: int, *, optimizer: Optimizer, callbacks: Sequence[Callback]
) -> Progress:
    """Where training stands before it begins: a history of no epoch yet, with a column for all that there will be."""
    n_batches = 1 if data.n is None else -(-data.n // batch_size)
    if data.n is None and callable(optimizer.learning_rate):
        raise ValueError(
            "n must be given, Stream(chunks, n=...), where the learning_rate is a schedule: it goes by the number of "
            "steps, which the chunks do not say"
        )
    try_rates(optimizer.learning_rate, epochs * n_batches)
    judged = [] if data.validation is None else data.validation.names
    history = History({name: [] for name in ("loss", *judged, "learning_rate", "seconds")})
    return Progress(network, history, epochs=epochs, n_batches=n_batches, optimizer=optimizer, callbacks=callbacks)


def _train(progress: Progress, data: Data, batch_size: int, *, shuffle: bool) -> History:
    """Build the engine, and run it."""
    network, history = progress.network, progress.history
    state = first_state(network, progress.optimizer)
    trainer, n_threads = _engine(network, data, batch_size)
    if isinstance(data.examples, Windows):
        epochs = data.examples.epochs(state.epoch)
    else:
        rows = engine_rows(network, data.examples, data.distortion, n_threads)
        epochs = whole(rows, data.examples.targets, orders(rows.n, network.seed, state.epoch, shuffle))
    trainer.load(network._values, state.moments, state.step)
    if state.averages is not None:
        trainer.load_averages(state.averages, state.averaged)
    run = Run(trainer, progress, state=state, validation=data.validation)
    network._history = history
    run.train(islice(epochs, max(0, progress.epochs - len(history.loss))))
    return history


def _engine(network: MLP, data: Data, batch_size: int) -> tuple[Trainer, int]:
    """The engine for batches of these rows, and how many threads it has at most."""
    batch = batch_size if data.n is None else min(batch_size, data.n)
    if network.batch_norm and batch == 1:
        raise ValueError(
            f"batch_size must be at least 2 with batch_norm, and X have 2 rows: got batch_size={batch_size} for "
            f"{data.n}; one row is its own mean"
        )
    seconds = threads.phase_seconds(batch, network.parameters.size, len(network.layers))
    if data.distortion is not None:
        seconds = max(seconds, batch * network.layer_sizes[0] * PIXEL)
    n_threads = threads.choose(network.n_threads, seconds)
    loss = loss_of(network.loss)
    in_engine = None if loss.code is None else loss
    return Trainer(engine_layers(network.layers), in_engine, batch, n_threads, max_norm=network.max_norm), n_threads
