"""Training: what `fit` asks of its arguments, and what it makes of them: an engine, and the loop around it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from numpy.typing import ArrayLike

from fastmlp import cautions, checks, threads
from fastmlp.arrays import Array, Float32
from fastmlp.augment import PIXEL, Distortion
from fastmlp.callbacks import Callback, Checkpoint, Progress, ProgressBar
from fastmlp.class_weights import weights_of_rows
from fastmlp.engine.distortion import Distortion as EngineDistortion
from fastmlp.engine.rows import Rows
from fastmlp.engine.trainer import Trainer
from fastmlp.layers import engine_layers
from fastmlp.losses import Custom, loss_of
from fastmlp.network import MLP
from fastmlp.optimizers import Optimizer, checked_optimizer
from fastmlp.rows import Targets, checked_examples, checked_shapes, checked_weights, column_names
from fastmlp.runs import History, Listener, RunState
from fastmlp.schedules import try_rates
from fastmlp.sparse import SparseRows
from fastmlp.training.loop import PythonLoss, Run, orders
from fastmlp.training.resume import go_on, saved_run
from fastmlp.training.state import first_state
from fastmlp.training.validation import Metric, Validation, checked_metrics

__all__ = ["History", "RunState", "checked_callbacks", "fit"]


# The calls of fit that run, by process (a child that is forked meanwhile has none) and network.
_RUNNING: dict[tuple[int, int], object] = {}


class _Data(NamedTuple):
    rows: Array | SparseRows
    targets: Targets
    weights: Float32 | None
    validation: Validation | None
    distortion: EngineDistortion | None


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
    listeners, verbose = checked_callbacks(callbacks), checks.verbosity(verbose)
    if verbose:
        listeners = [*listeners, ProgressBar(None if verbose is True else verbose)]
    key, call = (os.getpid(), id(network)), object()
    try:
        if _RUNNING.setdefault(key, call) is not call:
            raise RuntimeError("fit is already running on this network, in another thread or around this callback")
        network._require_finite()
        network._require_writable()
        saved = None if resume is None else saved_run(checks.path("resume", resume), network, optimizer)
        data = _data(
            network,
            X,
            y,
            sample_weight=sample_weight,
            class_weight=class_weight,
            validation_data=validation_data,
            metrics=metrics,
            augment=augment,
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


def checked_callbacks(callbacks: object) -> Sequence[Callback]:
    """Return callbacks in the order in which they are told: each checkpoint has what the others make of an epoch.

    Examples
    --------
    >>> from fastmlp.training import checked_callbacks
    >>> checked_callbacks(())
    []
    """
    if not isinstance(callbacks, Sequence):
        raise TypeError(f"callbacks must be a sequence of fastmlp.callbacks.Callback, not {callbacks!r:.80}")
    for callback in callbacks:
        if not isinstance(callback, Callback):
            raise TypeError(f"callbacks must hold instances of fastmlp.callbacks.Callback, not {callback!r:.80}")
    return sorted(callbacks, key=lambda callback: isinstance(callback, Checkpoint))


def _data(
    network: MLP,
    X: ArrayLike,
    y: ArrayLike,
    *,
    sample_weight: ArrayLike | None,
    class_weight: Mapping[int, float] | str | None,
    validation_data: tuple[ArrayLike, ArrayLike] | None,
    metrics: Mapping[str, Metric] | Sequence[Metric] | None,
    augment: Distortion | None,
    shuffle: bool,
) -> _Data:
    """All that fit learns from and is judged by, checked: all shapes before any value."""
    functions = checked_metrics(metrics, validation_data)
    names, validation_names = ("X", "y"), ("validation_data[0]", "validation_data[1]")
    task = network.layer_sizes, network.loss
    columns = column_names(X)
    X, y = checked_shapes(names, X, y, *task)
    if shuffle and X.shape[0] > 2**32:
        raise ValueError(f"shuffle must be False for more than 2**32 rows; X has {X.shape[0]}")
    held_out = None if validation_data is None else checked_shapes(validation_names, *_pair(validation_data), *task)
    weights = checked_weights(sample_weight, X.shape[0])
    if not (augment is None or isinstance(augment, Distortion)):
        raise TypeError(f"augment must be fastmlp.augment.Affine, Elastic or Compose, or None; not {augment!r:.80}")
    distortion = None if augment is None else augment.engine_distortion("X", X.shape[1])
    examples = None if held_out is None else checked_examples(validation_names, *held_out, *task)
    rows, targets = checked_examples(names, X, y, *task)
    if class_weight is not None:
        weights = weights_of_rows(class_weight, targets, network.layer_sizes[-1], network.loss, weights)
    validation = None if examples is None else Validation(network, *examples, functions)
    _caution(network, rows, columns, targets)
    return _Data(rows, targets, weights, validation, distortion)


def _caution(network: MLP, rows: Array | SparseRows, columns: Sequence[Any], targets: Targets) -> None:
    """Warn, in a network's first fit alone, of what it will hardly learn from."""
    if network._state is not None:
        return
    cautions.about_inputs(rows, columns)
    if targets.labels is not None:
        cautions.about_classes(targets.labels, network.layer_sizes[-1])
    elif loss_of(network.loss).targets == "values":
        cautions.about_values(targets.given)


def _pair(data: tuple[ArrayLike, ArrayLike]) -> tuple[ArrayLike, ArrayLike]:
    if not isinstance(data, (tuple, list)):
        raise TypeError(f"validation_data must be a pair (X, y), not {type(data).__name__}")
    if len(data) != 2:
        raise TypeError(f"validation_data must be a pair (X, y), not a {type(data).__name__} of {len(data)}")
    return data[0], data[1]


def _progress(
    network: MLP, data: _Data, epochs: int, batch_size: int, *, optimizer: Optimizer, callbacks: Sequence[Callback]
) -> Progress:
    """Where training stands before it begins: a history of no epoch yet, with a column for all that there will be."""
    n_batches = -(-len(data.rows) // batch_size)
    try_rates(optimizer.learning_rate, epochs * n_batches)
    judged = [] if data.validation is None else data.validation.names
    history = History({name: [] for name in ("loss", *judged, "learning_rate", "seconds")})
    return Progress(network, history, epochs=epochs, n_batches=n_batches, optimizer=optimizer, callbacks=callbacks)


def _train(progress: Progress, data: _Data, batch_size: int, *, shuffle: bool) -> History:
    """Build the engine, and run it."""
    network, history = progress.network, progress.history
    state = first_state(network, progress.optimizer)
    trainer, rows = _engine(network, data, batch_size)
    trainer.load(network._values, state.moments, state.step)
    if state.averages is not None:
        trainer.load_averages(state.averages, state.averaged)
    loss = _python_loss(network, data.targets)
    run = Run(trainer, progress, rows=rows, state=state, validation=data.validation, loss=loss)
    network._history = history
    epochs = max(0, progress.epochs - len(history.loss))
    run.train(islice(orders(rows.n, network.seed, state.epoch, shuffle), epochs))
    return history


def _python_loss(network: MLP, targets: Targets) -> PythonLoss | None:
    """What a loss in Python says of rows, by their numbers."""
    loss = network.loss
    return (lambda logits, rows: loss.evaluated(logits, targets.given[rows])) if isinstance(loss, Custom) else None


def _engine(network: MLP, data: _Data, batch_size: int) -> tuple[Trainer, Rows]:
    """The engine for batches of these rows, and the rows as it reads them."""
    batch = min(batch_size, len(data.rows))
    if network.batch_norm and batch == 1:
        raise ValueError(
            f"batch_size must be at least 2 with batch_norm, and X have 2 rows: got batch_size={batch_size} for "
            f"{len(data.rows)}; one row is its own mean"
        )
    seconds = threads.phase_seconds(batch, network.parameters.size, len(network.layers))
    if data.distortion is not None:
        seconds = max(seconds, batch * data.rows.shape[1] * PIXEL)
    n_threads = threads.choose(network.n_threads, seconds)
    loss = loss_of(network.loss)
    labels, values = (None, None) if loss.code is None else data.targets
    rows = Rows(
        data.rows,
        network.layers[0].units,
        n_threads,
        labels,
        values,
        data.weights,
        data.distortion,
        network.input_dropout,
        network.input_noise,
    )
    in_engine = None if loss.code is None else loss
    return Trainer(engine_layers(network.layers), in_engine, batch, n_threads, max_norm=network.max_norm), rows
