"""One network in many processes, each with its share of the rows: a step is one Allreduce."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from contextlib import closing
from functools import partial
from math import isfinite
from typing import Any

import numpy as np

from fastmlp import checks
from fastmlp.arrays import Array
from fastmlp.errors import DivergenceError, RankError
from fastmlp.network import MLP
from fastmlp.rows import Targets
from fastmlp.runs import History, Position
from fastmlp.training.agreement import agreed
from fastmlp.training.jobs import Job, prepare, train, with_threads
from fastmlp.training.loop import Epoch, Run
from fastmlp.training.ranks import Communicator, Ranks

__all__ = ["SharedRun", "fit"]


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
        self._cost, self._own_cost, self._shared = 0.0, 0.0, 0  # of an epoch, and the batches that are in the first one

    # -- Epochs

    def train(self, epochs: Iterable[Epoch]) -> None:
        """Train these epochs of this rank's rows."""
        try:
            super().train(self._agreeing(epochs))
        except DivergenceError as error:
            if not (isfinite(self.cost) and np.isfinite(self._stored()[0]).all()):  # else a callback has raised it
                self.ranks.shared_error = error
            raise

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
            self.ranks.shared_error = RankError(
                f"after epoch {self.state.epoch} the parameters on rank {', '.join(others)} are not those on rank 0; "
                "what callbacks write to them, and learning rates, must be the same on all ranks"
            )
            raise self.ranks.shared_error

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
        self._cost, self._own_cost, self._shared = 0.0, 0.0, 0
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
    if ranks.size == 1:
        checks.integer("sync_every", sync_every, least=1)
        return train(prepare(network, X, y, **arguments))
    job, n_threads = agreed(ranks, network, X, y, {**arguments, "sync_every": sync_every})
    try:
        run = partial(SharedRun, ranks=ranks, job=job, sync_every=sync_every)
        with with_threads(network, n_threads):
            return train(job, kind=run, cut_at_gradient=sync_every == 1)
    except BaseException as error:
        if error is ranks.shared_error:
            raise
        ranks.fail(error)
