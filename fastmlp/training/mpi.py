"""One network in many processes, each with its share of the rows: a step is one Allreduce."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import closing
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastmlp import checks, threads
from fastmlp.arrays import Array
from fastmlp.callbacks import Checkpoint, CSVLog, ProgressBar, TensorBoard
from fastmlp.class_weights import balanced, counts_of, weights_of_rows
from fastmlp.errors import DivergenceError, RankError
from fastmlp.losses import loss_of
from fastmlp.network import MLP
from fastmlp.rows import Stream, Targets
from fastmlp.runs import History, Position
from fastmlp.schedules import try_rates
from fastmlp.training.jobs import Job, prepare, train, with_threads
from fastmlp.training.loop import Epoch, Run
from fastmlp.training.ranks import Communicator, Ranks
from fastmlp.training.windows import Windows

__all__ = ["SharedRun", "fit"]

# Of rank 0 alone, as they print and write files.
_WRITING = (CSVLog, Checkpoint, ProgressBar, TensorBoard)
# What rank 0 alone is asked for; and what is each rank's own.
_OF_RANK_0 = ("validation_data", "metrics", "resume", "verbose")
_OF_EACH = ("sample_weight", "callbacks")


class SharedRun(Run):
    """The run of one rank: as any other's, but that the ranks' gradients, or parameters, are brought to their mean.

    Parameters
    ----------
    ranks : Ranks
    job : Job
        Of this rank.
    sync_every : int
        1: each step is that of all ranks' rows. More: a rank takes steps of its own, and so many of them later all have
        the mean of the parameters (local SGD: Stich 2019).
    *arguments, **named
        Those of `Run`.

    Examples
    --------
    Each process of ``mpiexec -n 4 python -m mpi4py program.py`` has one:

    >>> import fastmlp
    >>> from mpi4py import MPI  # doctest: +SKIP
    >>> X, y = fastmlp.load_mnist("train")  # doctest: +SKIP
    >>> share = slice(MPI.COMM_WORLD.rank, None, MPI.COMM_WORLD.size)  # doctest: +SKIP
    >>> net = fastmlp.MLP((784, 256, 10))
    >>> net.fit(X[share], y[share], batch_size=25, communicator=MPI.COMM_WORLD)  # doctest: +SKIP
    """

    def __init__(self, *arguments: Any, ranks: Ranks, job: Job, sync_every: int, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.ranks, self.job, self.sync_every = ranks, job, sync_every
        shared = self.network.parameters if sync_every == 1 else self.network._values
        # What is shared, and behind it cost, weight, and whether a callback wants to stop.
        self._own, self._total = (np.zeros(shared.size + 3, np.float32) for _ in range(2))
        self._stop = False

    # -- Epochs

    def train(self, epochs: Iterable[Epoch]) -> None:
        """Train these epochs of this rank's rows."""
        super().train(self._agreeing(epochs))

    def _agreeing(self, epochs: Iterable[Epoch]) -> Iterator[Epoch]:
        self._agree()
        for epoch in epochs:
            yield self._weighed(epoch)
            self._agree()

    def _weighed(self, epoch: Epoch) -> Epoch:
        """An epoch of as many batches as that of the rank with the most; of each part note its batches' weights."""
        self._weights = np.zeros(0)
        with closing(epoch):
            for part in epoch:
                weights = None if part.rows.weights is None else np.asarray(part.rows.weights)[part.order]
                batches = np.arange(len(part.order)) // self.job.batch_size
                n_batches = self.progress.n_batches if part.is_last else 0
                found = np.bincount(batches, weights, max(0, n_batches - part.first))
                self._weights = np.concatenate([self._weights, found])
                yield part._replace(n_batches=n_batches)

    def _agree(self) -> None:
        """See that all ranks have the same parameters, and whether all go on."""
        said = self.ranks.gather((zlib.crc32(self.network._values.data), self.progress.stop))
        self._stop = any(stop for _, stop in said)
        others = [str(rank) for rank, (checksum, _) in enumerate(said) if checksum != said[0][0]]
        if others:
            raise RankError(
                f"after epoch {self.state.epoch} the parameters on rank {', '.join(others)} are not those on rank 0; "
                "what callbacks write to them must be the same on all ranks"
            )

    def _stopped(self) -> bool:
        return self._stop

    def _judge(self) -> dict[str, float]:
        """Rank 0's values of the epoch."""
        epoch: dict[str, float] = self.ranks.gather(super()._judge() if self.ranks.rank == 0 else None)[0]
        return epoch

    def _keep(self) -> None:
        super()._keep()
        # Within an epoch each rank has running statistics, and it may be parameters, of its own.
        self.progress.position = Position()

    def _run_parts(self, epoch: Epoch) -> None:
        self._cost, self._own_cost, self._shared = 0.0, 0.0, 0  # and the batches that are in the first one
        super()._run_parts(epoch)
        self._meet()

    @property
    def cost(self) -> float:
        """Mean of the costs of the epoch's batches, each of all ranks' rows."""
        return self._cost / max(1, self._shared)

    # -- Steps

    def _run_slice(self, targets: Targets) -> None:
        trainer = self.trainer
        trainer.run(self.sync_every - trainer.batch % self.sync_every)
        while trainer.at_cut:
            if trainer.at_gradient:
                self._share_gradient()
            else:
                self._compute_losses(targets)
            trainer.run()
        if self.sync_every > 1 and (trainer.batch % self.sync_every == 0 or trainer.is_over):
            self._share_parameters()

    def _compute_losses(self, targets: Targets) -> None:
        try:
            super()._compute_losses(targets)
        except DivergenceError:  # which the others see in the cost
            losses = np.full(len(self.trainer.cut_rows()), np.nan, np.float32)
            self.trainer.set_losses(losses, np.repeat(losses[:, None], self.network.layer_sizes[-1], axis=1))

    def _share_gradient(self) -> None:
        """Have the optimizer take the gradient of all ranks' rows."""
        gradient, weight = self._own[:-3], self._weights[self.trainer.batch]
        if weight > 0:
            self.trainer.store_gradient(gradient)
        else:
            gradient[:] = 0
        mean = self._share(gradient, weight, self.trainer.total_cost - self.trainer.cost_before)
        self.trainer.load_gradient(self._total[:-3] if mean is None else mean)
        self._shared += 1

    def _share_parameters(self) -> None:
        """Have all ranks take the mean of the parameters that their steps have led to."""
        weights = self._weights[self._shared : self.trainer.batch]
        values, moments = self._stored()
        cost = (self.trainer.total_cost - self._own_cost) / max(1, int(np.count_nonzero(weights)))
        mean = self._share(values, weights.sum(), cost, len(weights))
        if mean is not None:
            self.trainer.load(mean, moments)
        self._shared, self._own_cost = self.trainer.batch, self.trainer.total_cost

    def _share(self, values: Array, weight: float, cost: float, batches: int = 1) -> Array | None:
        """Return the mean of the ranks' values by their weights, or None if these are 0; note what comes with it."""
        own = self._own
        with np.errstate(over="ignore", invalid="ignore"):  # of a run that diverges
            np.multiply(values, np.float32(weight), out=own[:-3])
            own[-3:] = cost * weight, weight, self.progress.stop
            total = self.ranks.sum(own, self._total)
            total_cost, total_weight, stop = (float(one) for one in total[-3:])
            self._stop = stop > 0
            if total_weight == 0:
                return None
            self._cost += batches * (total_cost / total_weight)
            mean = total[:-3]
            mean *= np.float32(1 / total_weight)
        return mean

    def _stored(self) -> tuple[Array, tuple[Array, Array]]:
        """Copies of the engine's values and moments."""
        first, second = (np.empty_like(moment) for moment in self.state.moments)
        values = np.empty_like(self.network._values)
        self.trainer.store(values, (first, second))
        return values, (first, second)

    def _meet(self) -> None:
        """Bring to their mean, by the ranks' rows, what each rank has changed for itself in the epoch.

        Those are the running statistics; where steps were each rank's own, the optimizer's moments and averages, too.
        """
        values, moments = self._stored()
        averages = None
        if self.trainer.averaged and self.sync_every > 1:
            averages = np.empty_like(moments[0])
            self.trainer.store(values, moments, averages)
        own = [values[self.network.parameters.size :]]
        if self.sync_every > 1:
            own += [*moments, *([] if averages is None else [averages])]
        flat = np.concatenate([*own, [1]]).astype(np.float32) * np.float32(self.job.data.n or 0)
        if flat.size == 1:
            return
        total = self.ranks.sum(flat)
        for one, mean in zip(own, np.split(total[:-1] / total[-1], np.cumsum([len(one) for one in own])), strict=False):
            one[:] = mean
        self.trainer.load(values, moments)
        if averages is not None:
            self.trainer.load_averages(averages, self.trainer.averaged)


def fit(network: MLP, X: Any, y: Any, *, communicator: Communicator, sync_every: int, **arguments: Any) -> History:
    """Train a network as one of the ranks of a communicator: `fastmlp.MLP.fit`, which documents the arguments.

    Examples
    --------
    With one rank it is the `fit` without MPI, to the bit:

    >>> import fastmlp
    >>> from mpi4py import MPI  # doctest: +SKIP
    >>> net = fastmlp.MLP((2, 2))
    >>> net.fit([[0, 1], [1, 0]], [0, 1], epochs=3, verbose=False, communicator=MPI.COMM_WORLD)  # doctest: +SKIP
    History(epochs=3, loss=...)
    """
    ranks = Ranks(communicator)
    sync_every = checks.integer("sync_every", sync_every, least=1)
    if ranks.size == 1:
        return train(prepare(network, X, y, **arguments))
    job, n_threads = _agreed(ranks, network, X, y, {**arguments, "sync_every": sync_every})
    try:
        run = partial(SharedRun, ranks=ranks, job=job, sync_every=sync_every)
        with with_threads(network, n_threads):
            return train(job, kind=run, cut_at_gradient=sync_every == 1)
    except (DivergenceError, RankError):  # all ranks raise it
        raise
    except BaseException as error:
        ranks.fail(error)


# ---- Before training


class _Said(NamedTuple):
    """What a rank says of itself before training."""

    arguments: dict[str, str]
    n: int
    n_batches: int
    counts: NDArray[np.int64] | None  # of its rows' classes, where weights are to be balanced
    columns: list[str]  # of the history
    saved: Any
    host: str
    cpus: set[int]


def _agreed(ranks: Ranks, network: MLP, X: Any, y: Any, arguments: dict[str, Any]) -> tuple[Job, int]:
    """Return this rank's job, as all ranks together need it, and how many threads it may have.

    Raises
    ------
    Exception
        An argument of this rank is wrong.
    RankError
        One of another rank is.
    ValueError
        Ranks have different arguments.
    """
    said: Any
    try:
        job = _own_job(ranks.rank, network, X, y, dict(arguments))
        said = _say(job, arguments)
    except Exception as error:
        ranks.gather(f"{type(error).__name__}: {error}")
        raise
    everybody = ranks.gather(said)
    for rank, one in enumerate(everybody):
        if isinstance(one, str):
            raise RankError(f"rank {rank} of {ranks.size} failed: {one}")
    _require_same([one.arguments for one in everybody])
    if not any(one.n for one in everybody):
        raise ValueError("X must have at least one row on one of the ranks")
    saved = everybody[0].saved
    if saved is not None and saved[1].position.batch:
        raise ValueError("resume must name a checkpoint of the end of an epoch, with several ranks; this is within one")
    progress = job.progress
    progress.n_batches = max(one.n_batches for one in everybody)
    try_rates(progress.optimizer.learning_rate, progress.epochs * progress.n_batches)
    progress.history.clear()
    progress.history.update({name: [] for name in everybody[0].columns})
    if said.counts is not None and said.n:
        job = _balanced(job, sum(one.counts for one in everybody))
    first = sum(one.n for one in everybody[: ranks.rank])
    beside = [one for one in everybody if one.host == said.host and one.cpus & said.cpus]
    job = job._replace(part=ranks.rank, first=first, saved=saved)
    return job, max(1, threads.available() // len(beside))


def _balanced(job: Job, counts: NDArray[np.int64]) -> Job:
    """A job whose rows are weighed so that all classes, of so many rows on all ranks, weigh the same."""
    network, examples = job.progress.network, job.data.examples
    table = balanced(counts)
    if isinstance(examples, Windows):
        examples.class_weight = table
        return job
    weights = weights_of_rows(table, examples.targets, network.layer_sizes[-1], network.loss, examples.weights)
    return job._replace(data=job.data._replace(examples=examples._replace(weights=weights)))


def _own_job(rank: int, network: MLP, X: Any, y: Any, arguments: dict[str, Any]) -> Job:
    """A rank's own arguments, checked; one without rows gets two in their place, which nothing is learned from."""
    del arguments["sync_every"]
    if rank > 0:
        arguments |= {"validation_data": None, "metrics": None, "resume": None, "verbose": False}
        arguments["callbacks"] = [one for one in arguments["callbacks"] if not isinstance(one, _WRITING)]
    if isinstance(arguments["class_weight"], str):
        checks.one_of("class_weight", arguments["class_weight"], ("balanced",))
        arguments["class_weight"] = None  # which all ranks' rows decide
    n = X.n if isinstance(X, Stream) else X.shape[0] if hasattr(X, "shape") else len(X)
    if n is None:
        raise ValueError("n must be given, Stream(chunks, n=...), with several ranks: they take as many steps")
    if n > 0:
        return prepare(network, X, y, **arguments, cautious=False)
    if y is not None and len(y):
        raise ValueError(f"y must have a row for each row of X, which has none; it has {len(y)}")
    k, m, loss = network.layer_sizes[0], network.layer_sizes[-1], loss_of(network.loss)
    values = np.zeros(1, int) if loss.targets == "classes" else np.zeros((1, m // loss.outputs_a_target))
    arguments |= {"class_weight": None, "sample_weight": None}
    job = prepare(network, np.zeros((2, k), np.float32), np.repeat(values, 2, axis=0), **arguments, cautious=False)
    return job._replace(data=job.data._replace(chosen=np.empty(0, np.int64)))


def _say(job: Job, arguments: dict[str, Any]) -> _Said:
    network, n = job.progress.network, job.data.n or 0
    same = {name: value for name, value in arguments.items() if name not in (*_OF_RANK_0, *_OF_EACH)}
    same["optimizer"] = job.progress.optimizer
    same["callbacks"] = [type(one).__name__ for one in job.progress.callbacks if not isinstance(one, _WRITING)]
    checksum = zlib.crc32(network._values.data)
    if network._state is not None:
        for moment in network._state.moments:
            checksum = zlib.crc32(moment.data, checksum)
    # Without the addresses of functions, which are others in each process.
    texts = {name: re.sub(r" at 0x\w+", "", repr(value)) for name, value in same.items()}
    texts["network"] = re.sub(r" at 0x\w+", "", f"{network!r} of checksum {checksum:08x}")
    counts = None
    if arguments["class_weight"] == "balanced":
        examples, task = job.data.examples, (network.layer_sizes[-1], network.loss)
        found = examples.counts() if isinstance(examples, Windows) else counts_of(examples.targets, *task)
        counts = found * (n > 0)
    cpus = set(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else {0}
    columns = list(job.progress.history)
    return _Said(texts, n, job.progress.n_batches * (n > 0), counts, columns, job.saved, os.uname().nodename, cpus)


def _require_same(arguments: list[dict[str, str]]) -> None:
    for name, expected in arguments[0].items():
        for rank, own in enumerate(arguments):
            if own[name] != expected:
                both = f"{expected:.200} on rank 0, {own[name]:.200} on rank {rank}"
                raise ValueError(f"{name} must be the same on all ranks; it is {both}")
