"""The epochs of a run, and the slices of an epoch."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from math import isfinite
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastmlp import draws
from fastmlp.callbacks import ONLY_WATCHING, Callback, Checkpoint, Progress
from fastmlp.engine.rows import Rows
from fastmlp.engine.trainer import Trainer
from fastmlp.errors import DivergenceError
from fastmlp.losses import Custom
from fastmlp.network import MLP
from fastmlp.rows import Targets
from fastmlp.runs import Position, RunState
from fastmlp.schedules import Rate, rates
from fastmlp.training.state import collect, commit, diverged

__all__ = ["Epoch", "Judge", "Part", "Run", "orders", "whole"]


class Part(NamedTuple):
    """Rows of an epoch that are in memory at once: of rows in memory all of them.

    Attributes
    ----------
    rows : Rows
    targets : Targets
        For a loss in Python.
    order : int64 array
        Which of the rows are taken, one after the other; a multiple of the batch where other parts come.
    is_last : bool
    is_crowded : callable
        Whether the engine is to leave a processor to the thread that makes the next part.
    n_batches : int
        That the epoch has up to its end, at least: the last ones may have no rows.
    window, first : int
        How many parts of the epoch, and how many batches, are before it.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp.engine.rows import Rows
    >>> from fastmlp.rows import Targets
    >>> from fastmlp.training.loop import Part
    >>> targets = Targets(np.array([0, 1]), None)
    >>> Part(Rows(np.eye(2), 3, 1, targets.labels), targets, np.array([1, 0])).is_last
    True
    """

    rows: Rows
    targets: Targets
    order: NDArray[np.int64]
    is_last: bool = True
    is_crowded: Callable[[], bool] = bool
    n_batches: int = 0
    window: int = 0
    first: int = 0


Epoch: TypeAlias = Generator[Part, None, None]


def whole(
    rows: Rows, targets: Targets, orders: Iterable[NDArray[np.int64]], n_batches: int = 0
) -> Generator[Epoch, None, None]:
    """Yield an epoch of one part, and of so many batches at least, for each order of the rows.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp.engine.rows import Rows
    >>> from fastmlp.rows import Targets
    >>> from fastmlp.training.loop import whole
    >>> targets = Targets(np.array([0, 1]), None)
    >>> epochs = whole(Rows(np.eye(2), 3, 1, targets.labels), targets, [np.array([1, 0])])
    >>> [part.order for part in next(epochs)]
    [array([1, 0])]
    """
    for order in orders:
        yield (part for part in [Part(rows, targets, order, n_batches=n_batches)])


class Judge(Protocol):
    """Who says what a network is worth after an epoch, as `fastmlp.training.validation.Validation` does.

    Examples
    --------
    >>> from fastmlp.training.loop import Judge
    >>> class Nobody:
    ...     def judge(self, network):
    ...         return {}
    >>> judge: Judge = Nobody()
    """

    def judge(self, network: MLP) -> Mapping[str, float]:
        """Return values by their names; the history takes those that it has a column for."""


class Run:
    """A call of `fit`, once its arguments are checked and the engine stands.

    Parameters
    ----------
    trainer : Trainer
    progress : Progress
        With the history that the run writes, and the optimizer, which is read before each epoch and after each slice:
        callbacks may change its numbers.
    state : RunState
        That the engine began with.
    validation : Judge or None

    Examples
    --------
    >>> import fastmlp
    >>> fastmlp.MLP((2, 2)).fit([[0, 1], [1, 0]], [0, 1], epochs=3, verbose=False)  # doctest: +ELLIPSIS
    History(epochs=3, loss=...)
    """

    def __init__(
        self,
        trainer: Trainer,
        progress: Progress,
        *,
        state: RunState,
        validation: Judge | None,
    ) -> None:
        self.network = progress.network
        self.trainer = trainer
        self.optimizer = progress.optimizer
        self.learning_rate: Rate | None = None  # the one for which `rates` are
        # State and, if callbacks may write them, values that engine and network have in common since they met.
        self.state = state
        self.progress = progress
        self.callbacks = progress.callbacks
        self.watched = any(_watches_batches(callback) for callback in self.callbacks)
        self.written = any(type(callback) not in ONLY_WATCHING for callback in self.callbacks)
        self.values = self.network._values.copy() if self.written else None
        self.validation = validation
        self.checkpoints = [one for one in self.callbacks if isinstance(one, Checkpoint) and one.seconds is not None]
        self.waiting = False  # for rows, between two batches
        self.seconds = 0.0  # that the epoch's batches took, waiting for rows included

    def train(self, epochs: Iterable[Epoch]) -> None:
        """Train these epochs."""
        told: list[Callback] = []  # who heard of the beginning hears of the end
        try:
            try:
                for callback in self.callbacks:
                    told.append(callback)
                    callback.on_fit_begin(self.progress)
                self._load()
                self._train_epochs(epochs)
            except KeyboardInterrupt:
                with suppress(DivergenceError):  # then there is nothing to keep
                    self._keep()
                raise
        except BaseException as error:
            _tell_the_end(told, self.progress, error)
            raise
        _tell_the_end(told, self.progress, None)

    @property
    def cost(self) -> float:
        """Mean of the costs of the epoch's batches so far."""
        return self.trainer.cost

    def _stopped(self) -> bool:
        return self.progress.stop

    def _train_epochs(self, epochs: Iterable[Epoch]) -> None:
        for epoch in epochs:
            done = self.state.epoch
            if self._stopped():
                break
            self._train_epoch(epoch)
            if self.state.epoch == done:  # stopped within it, or, by another thread, before its first batch
                break
            self._record()
            for callback in self.callbacks:
                callback.on_epoch_end(self.progress)
            self._load()

    def _train_epoch(self, epoch: Epoch) -> None:
        """Train an epoch, or as much of it as callbacks want."""
        progress = self.progress
        # Else an epoch that fails writes nothing.
        before = (self.network._snapshot(), progress.position) if self.watched or self.checkpoints else None
        try:
            with closing(epoch):
                self._run_parts(epoch)
            self._keep()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if self.waiting or (self.trainer.at_cut and not isinstance(error, DivergenceError)):
                self._keep()  # rows cannot be read, or a loss in Python has failed: the network is as before the batch
            elif before is not None:
                commit(self.network, *before[0])
                progress.position = before[1]
            raise

    def _compute_losses(self, targets: Targets) -> None:
        """Let a loss in Python say what the rows that wait for it cost."""
        logits = self.trainer.logits()
        if not np.isfinite(logits).all():
            raise diverged("its logits are not finite", self.trainer, self.state)
        loss = self.network.loss
        assert isinstance(loss, Custom)
        self.trainer.set_losses(*loss.evaluated(logits, targets.given[self.trainer.cut_rows()]))

    def _record(self) -> None:
        """Add an epoch to the history."""
        epoch, history = self._judge(), self.progress.history
        history.add({name: epoch[name] for name in history})

    def _judge(self) -> dict[str, float]:
        """Return what the epoch took, and what the network is worth after it."""
        epoch = {"loss": self.cost, "learning_rate": float(self.rates[-1]), "seconds": self.seconds}
        if self.validation is not None:
            epoch.update(self.validation.judge(self.network._judged()))
        return epoch

    def _run_parts(self, epoch: Epoch) -> None:
        """Take the parts of an epoch as they come, from where the run stands in it."""
        position = self.progress.position
        self.seconds = position.seconds
        self._choose_rates()
        self.trainer.set_optimizer(self.optimizer, self.rates)
        while not self._stopped():
            started = time.perf_counter()
            self.waiting = True
            part = next(epoch, None)
            self.waiting = False
            if part is None:
                break
            key = draws.epoch_key(self.network.seed, self.state.epoch, part.window)
            self.trainer.start_epoch(
                part.rows,
                part.order,
                key,
                is_last=part.is_last,
                n_batches=part.n_batches,
                first=part.first,
                batch=position.batch,
                total_cost=position.total_cost,
                forms=position.forms,
            )
            self.progress.n_batches = max(self.progress.n_batches, self.trainer.n_batches)
            self.seconds += time.perf_counter() - started
            self._run_batches(part)
            position = self._position()

    def _run_batches(self, part: Part) -> None:
        """Take a part's batches in slices; between two of them Python handles signals."""
        while self.trainer.batch < self.trainer.n_batches and not self._stopped():
            started = time.perf_counter()
            self.trainer.crowded = part.is_crowded()
            self._run_slice(part.targets)
            self.seconds += time.perf_counter() - started
            if not isfinite(self.cost):
                raise diverged(f"its loss is {self.cost}", self.trainer, self.state)
            if self.watched or any(one.is_due for one in self.checkpoints):
                with suppress(DivergenceError):  # of a parameter: the next cost says so, or the epoch's end
                    self._keep()
            self.progress.batch = self.trainer.batch
            if self.callbacks:
                self._tell_batches()

    def _run_slice(self, targets: Targets) -> None:
        self.trainer.run()
        while self.trainer.at_cut:
            self._compute_losses(targets)
            self.trainer.run()

    def _tell_batches(self) -> None:
        """Let callbacks see a slice of batches, and take what they change."""
        for callback in self.callbacks:
            callback.on_batches(self.progress)
        if self.watched:
            self._load()
        if self.optimizer.learning_rate is not self.learning_rate:
            self._choose_rates()
        self.trainer.set_optimizer(self.optimizer, self.rates)

    def _choose_rates(self) -> None:
        """The learning rates of the epoch's batches, by what the optimizer has for one now."""
        if self.optimizer.learning_rate is self.learning_rate and not callable(self.learning_rate):
            return
        self.learning_rate = self.optimizer.learning_rate
        n, done = self.progress.n_batches, len(self.progress.history.loss)
        self.rates = rates(self.learning_rate, range(done * n, (done + 1) * n), self.progress.epochs * n)

    def _keep(self) -> None:
        """Give the network what the engine has done since they met."""
        if self.trainer.step > self.state.step:
            values, state = collect(self.trainer, self.optimizer.rule, self.state)
            commit(self.network, values, state)
            self.state, self.progress.position = state, self._position()
            if self.written:
                self.values = self.network._few_rows.read()

    def _position(self) -> Position:
        """Where in the epoch the engine stands."""
        trainer = self.trainer
        if trainer.is_over:
            return Position()
        total_cost = trainer.cost_before if trainer.at_cut else trainer.total_cost  # of whole batches
        return Position(trainer.batch, trainer.batch_size, total_cost, self.seconds, trainer.forms)

    def _load(self) -> None:
        """Give the engine what callbacks wrote to the network since they met."""
        values = self.network._values
        if self.values is None or np.array_equal(values, self.values):
            return
        if not np.isfinite(values).all():
            values[:] = self.values
            raise ValueError(
                "parameters of the network must be finite; a callback wrote NaN or infinity to them, and the network "
                "has them as before"
            )
        self.values = values.copy()
        self.trainer.load(self.values, self.state.moments)


def _watches_batches(callback: Callback) -> bool:
    """Whether it does anything at `on_batches` that it could need the parameters for."""
    does_nothing = getattr(callback.on_batches, "__func__", None) is Callback.on_batches
    return not does_nothing and type(callback) not in ONLY_WATCHING


def _tell_the_end(callbacks: Iterable[Callback], progress: Progress, error: BaseException | None) -> None:
    """Tell every callback, whatever another one raises; the first error is the one that leaves fit."""
    remaining, first = iter(callbacks), None
    while True:
        try:
            for callback in remaining:
                callback.on_fit_end(progress)
            break
        except BaseException as raised:
            if error is None:
                error = first = raised
            elif sys.version_info >= (3, 11):
                error.add_note(f"while callbacks heard on_fit_end, {raised!r:.80} was raised, too")
    if first is not None:
        raise first


def orders(n: int, seed: int, epoch: int, shuffle: bool, part: int = 0) -> Iterator[NDArray[np.int64]]:
    """Yield the rows in the order of this epoch and of those after it, in one array.

    The order of an epoch is a function of the seed, its number and, where rows are in parts, that of the part alone.

    Examples
    --------
    >>> from fastmlp.training.loop import orders
    >>> next(orders(4, seed=0, epoch=0, shuffle=False))
    array([0, 1, 2, 3])
    """
    order = np.arange(n)
    bits = draws.random_bits(seed, draws.ROWS, epoch, part=part)
    while True:
        if shuffle:
            draws.shuffle(order, bits)
        yield order
