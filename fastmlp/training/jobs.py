"""What `fit` asks of its arguments, and what it makes of them: an engine, and the loop around it."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from typing import Any, NamedTuple

from numpy.typing import ArrayLike

from fastmlp import checks, threads
from fastmlp.augment import PIXEL, Distortion
from fastmlp.callbacks import Callback, Checkpoint, Progress, ProgressBar
from fastmlp.engine.rows import Rows
from fastmlp.engine.trainer import Trainer
from fastmlp.layers import engine_layers
from fastmlp.losses import loss_of
from fastmlp.network import MLP
from fastmlp.optimizers import Optimizer, checked_optimizer
from fastmlp.rows import Examples, Stream
from fastmlp.runs import History, Listener, SavedRun
from fastmlp.schedules import try_rates
from fastmlp.training.data import Data, Once, checked_data
from fastmlp.training.loop import Epoch, Run, orders, whole
from fastmlp.training.resume import go_on, saved_run
from fastmlp.training.state import first_state
from fastmlp.training.validation import Metric
from fastmlp.training.windows import Windows, rows_of

__all__ = ["Job", "alone", "checked_callbacks", "defaults", "engine_rows", "prepare", "train", "with_threads"]


# The calls of fit that run, by process (a child that is forked meanwhile has none) and network.
_RUNNING: dict[tuple[int, int], object] = {}


class Job(NamedTuple):
    """A call of `fit` whose arguments are checked.

    Attributes
    ----------
    progress : Progress
        With the network.
    data : Data
    batch_size : int
    shuffle : bool
    saved : (MLP, SavedRun) or None
        What it goes on from.
    part, first : int
        Which part of the rows these are, where others have the others; and how many rows are in the parts before.

    Examples
    --------
    >>> import fastmlp
    >>> from fastmlp.training.jobs import Job, defaults, prepare
    >>> isinstance(prepare(fastmlp.MLP((2, 2)), [[0, 1], [1, 0]], [0, 1], **defaults()), Job)
    True
    """

    progress: Progress
    data: Data
    batch_size: int
    shuffle: bool
    saved: tuple[MLP, SavedRun] | None
    part: int = 0
    first: int = 0

    @property
    def rows_of_a_batch(self) -> int:
        """As many as it is to have, or there are."""
        return self.batch_size if self.data.n is None else max(1, min(self.batch_size, self.data.n))


def defaults() -> dict[str, Any]:
    """Return the arguments of `prepare` that `MLP.fit` has defaults for.

    Examples
    --------
    >>> from fastmlp.training.jobs import defaults
    >>> defaults()["epochs"]
    15
    """
    taken, parameters = inspect.signature(prepare).parameters, inspect.signature(MLP.fit).parameters.values()
    return {one.name: one.default for one in parameters if one.kind is one.KEYWORD_ONLY and one.name in taken}


def alone(network: MLP, train: Callable[[], History]) -> History:
    """Train a network that nobody else trains.

    Raises
    ------
    RuntimeError
        Somebody does.

    Examples
    --------
    >>> import fastmlp
    >>> from fastmlp.training.jobs import alone
    >>> alone(fastmlp.MLP((2, 2)), lambda: fastmlp.training.History(loss=[0.5]))
    History(epochs=1, loss=0.5000)
    """
    key, call = (os.getpid(), id(network)), object()
    try:
        if _RUNNING.setdefault(key, call) is not call:
            raise RuntimeError("fit is already running on this network, in another thread or around this callback")
        return train()
    finally:
        # Without a call: Python would handle a signal there, and the network would be in training for ever.
        if key in _RUNNING and _RUNNING[key] is call:
            del _RUNNING[key]


def prepare(
    network: MLP,
    X: ArrayLike | Stream,
    y: ArrayLike | None,
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
    rows: ArrayLike | None = None,
    once: Once | None = None,
    cautious: bool = True,
    is_share: bool = False,
) -> Job:
    """Check the arguments of `fit`, all shapes before any value, and change nothing.

    The network is to learn from `rows` alone, by their numbers. `cautious`: warn of what it will hardly learn from.
    `is_share`: others have more rows; all weights of these may be 0.

    Examples
    --------
    >>> import fastmlp
    >>> nets = [fastmlp.MLP((2, 2), seed=seed) for seed in (0, 1)]
    >>> fastmlp.fit_many(nets, [[0, 1], [1, 0]], [0, 1], epochs=3, verbose=False)  # doctest: +ELLIPSIS
    [History(epochs=3, loss=...), History(epochs=3, loss=...)]
    """
    epochs, batch_size = checks.integer("epochs", epochs, least=1), checks.integer("batch_size", batch_size, least=1)
    shuffle, optimizer = checks.boolean("shuffle", shuffle), checked_optimizer(optimizer)
    listeners, verbose = checked_callbacks(callbacks), checks.verbosity(verbose)
    listeners = [*listeners, *([ProgressBar(None if verbose is True else verbose)] if verbose else [])]
    network._require_finite()
    network._require_writable()
    saved = None if resume is None else saved_run(checks.path("resume", resume), network, optimizer)
    data = checked_data(
        network,
        X,
        y,
        rows,
        sample_weight=sample_weight,
        class_weight=class_weight,
        validation_data=validation_data,
        metrics=metrics,
        augment=augment,
        epochs=epochs,
        batch_size=batch_size,
        shuffle=shuffle,
        once=once,
        cautious=cautious,
        is_share=is_share,
    )
    progress = _progress(network, data, epochs, batch_size, optimizer=optimizer, callbacks=listeners)
    return Job(progress, data, batch_size, shuffle, saved)


def checked_callbacks(callbacks: object) -> Sequence[Callback]:
    """Return callbacks in the order in which they are told.

    Each checkpoint has what the others make of an epoch, and is there when the epoch's line says that it is done.

    Examples
    --------
    >>> from fastmlp.training.jobs import checked_callbacks
    >>> checked_callbacks(())
    []
    """
    if not isinstance(callbacks, Sequence):
        raise TypeError(f"callbacks must be a sequence of fastmlp.callbacks.Callback, not {callbacks!r:.80}")
    for callback in callbacks:
        if not isinstance(callback, Callback):
            raise TypeError(f"callbacks must hold instances of fastmlp.callbacks.Callback, not {callback!r:.80}")
    return sorted(callbacks, key=lambda callback: (isinstance(callback, ProgressBar), isinstance(callback, Checkpoint)))


def _progress(
    network: MLP, data: Data, epochs: int, batch_size: int, *, optimizer: Optimizer, callbacks: Sequence[Callback]
) -> Progress:
    """Where training stands before it begins: a history of no epoch yet, with a column for all that there will be."""
    if network.batch_norm and 1 in (batch_size, data.n):
        raise ValueError(
            f"batch_size must be at least 2 with batch_norm, and X have 2 rows: got batch_size={batch_size} for "
            f"{data.n}; one row is its own mean"
        )
    if data.n is None and callable(optimizer.learning_rate):
        raise ValueError(
            "n must be given, Stream(chunks, n=...), where the learning_rate is a schedule: it goes by the number of "
            "steps, which the chunks do not say"
        )
    n_batches = 1 if data.n is None else -(-data.n // batch_size)
    try_rates(optimizer.learning_rate, epochs * n_batches)
    judged = [] if data.validation is None else data.validation.names
    history = History({name: [] for name in ("loss", *judged, "learning_rate", "seconds")})
    return Progress(network, history, epochs=epochs, n_batches=n_batches, optimizer=optimizer, callbacks=callbacks)


def engine_rows(job: Job, others: Sequence[Rows] = ()) -> Rows:
    """Return the rows of a job as the engine reads them; from others of the same X, what these have made of it.

    Examples
    --------
    >>> import fastmlp
    >>> from fastmlp.training.jobs import defaults, engine_rows, prepare
    >>> engine_rows(prepare(fastmlp.MLP((2, 2)), [[0, 1], [1, 0]], [0, 1], **defaults())).n
    2
    """
    network, data = job.progress.network, job.data
    assert isinstance(data.examples, Examples)
    like: Any = next(
        (rows for rows in others if rows.suits(network.layers[0].units, data.distortion, network.input_noise)), None
    )
    examples = data.examples if like is None else data.examples._replace(rows=like)
    return rows_of(network, examples, data.distortion, _n_threads(job), job.first)


def train(
    job: Job, rows: Rows | None = None, kind: Callable[..., Run] = Run, *, cut_at_gradient: bool = False
) -> History:
    """Build the engine, and run it by a run of some kind: on these rows, or on what it makes of the job's.

    Examples
    --------
    >>> import fastmlp
    >>> from fastmlp.training.jobs import defaults, prepare, train
    >>> job = prepare(fastmlp.MLP((2, 2)), [[0, 1], [1, 0]], [0, 1], **{**defaults(), "epochs": 3, "verbose": False})
    >>> train(job)  # doctest: +ELLIPSIS
    History(epochs=3, loss=...)
    """
    if rows is None and isinstance(job.data.examples, Examples):
        rows = engine_rows(job)  # first: what cannot be read leaves the network as it is
    progress = job.progress
    if job.saved is not None:
        go_on(progress, *job.saved, job.rows_of_a_batch, job.data.n)
    network, history = progress.network, progress.history
    state = first_state(network, progress.optimizer)
    trainer = _trainer(job, cut_at_gradient)
    trainer.load(network._values, state.moments, state.step)
    if state.averages is not None:
        trainer.load_averages(state.averages, state.averaged)
    run = kind(trainer, progress, state=state, validation=job.data.validation)
    network._history = history
    epochs = max(0, progress.epochs - len(history.loss))
    with closing(_epochs(job, rows, state.epoch, epochs)) as found:
        run.train(found)
    return history


def _epochs(job: Job, rows: Rows | None, epoch: int, n: int) -> Generator[Epoch, None, None]:
    """Return n epochs from this one on."""
    data = job.data
    if isinstance(data.examples, Windows):
        batches = job.progress.position.batch
        return data.examples.epochs(epoch, n, batches, part=job.part, first_row=job.first)
    assert rows is not None
    chosen = data.chosen
    found = islice(orders(data.n or 0, job.progress.network.seed, epoch, job.shuffle, job.part), n)
    numbers = found if chosen is None else (chosen[order] for order in found)
    return whole(rows, data.examples.targets, numbers, job.progress.n_batches)


@contextmanager
def with_threads(network: MLP, n_threads: int) -> Iterator[None]:
    """Give a network so many threads, whatever it had before and has again.

    Examples
    --------
    >>> import fastmlp
    >>> from fastmlp.training.jobs import with_threads
    >>> net = fastmlp.MLP((2, 2), n_threads=3)
    >>> with with_threads(net, 1):
    ...     print(net.n_threads)
    1
    >>> net.n_threads
    3
    """
    before = network.n_threads
    network.n_threads = n_threads
    try:
        yield
    finally:
        network.n_threads = before


def _trainer(job: Job, cut_at_gradient: bool) -> Trainer:
    """The engine for its batches."""
    network, batch_size = job.progress.network, job.rows_of_a_batch
    loss = loss_of(network.loss)
    in_engine = None if loss.code is None else loss
    layers, max_norm = engine_layers(network.layers), network.max_norm
    return Trainer(layers, in_engine, batch_size, _n_threads(job), max_norm=max_norm, cut_at_gradient=cut_at_gradient)


def _n_threads(job: Job) -> int:
    """How many threads are to have a share of a batch."""
    network, batch_size = job.progress.network, job.rows_of_a_batch
    distorting = 0.0 if job.data.distortion is None else batch_size * network.layer_sizes[0] * PIXEL
    sizes = batch_size, network.parameters.size, len(network.layers)
    return threads.choose_for_steps(network.n_threads, *sizes, distorting)
