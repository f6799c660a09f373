"""What the ranks of MPI say of themselves before they train one network, and whether it agrees."""

from __future__ import annotations

import os
import re
import zlib
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastmlp import checks, threads
from fastmlp.callbacks import Checkpoint, CSVLog, ProgressBar, TensorBoard
from fastmlp.class_weights import balanced, counts_of, weights_of_rows
from fastmlp.errors import RankError
from fastmlp.losses import loss_of
from fastmlp.network import MLP
from fastmlp.rows import Stream, Targets, checked_rows, column_names
from fastmlp.schedules import try_rates
from fastmlp.training.data import Once, caution
from fastmlp.training.jobs import Job, checked_callbacks, prepare
from fastmlp.training.ranks import Ranks
from fastmlp.training.windows import Windows

__all__ = ["agreed"]

# Of rank 0 alone, as they print and write files.
_WRITING = (CSVLog, Checkpoint, ProgressBar, TensorBoard)
# What rank 0 alone is asked for; and what is each rank's own.
_OF_RANK_0 = ("validation_data", "metrics", "resume", "verbose")
_OF_EACH = ("sample_weight", "callbacks")


class _Said(NamedTuple):
    """What a rank says of itself before training."""

    arguments: dict[str, str]
    n: int
    n_batches: int
    has_weight: bool  # above 0, in a row
    counts: NDArray[np.int64] | None  # of its rows' classes; of a stream where weights are to be balanced
    columns: list[str]  # of the history
    saved: Any
    host: str
    cpus: set[int]


def agreed(ranks: Ranks, network: MLP, X: Any, y: Any, arguments: dict[str, Any]) -> tuple[Job, int]:
    """Return this rank's job, as all ranks together need it, and how many threads it may have.

    Raises
    ------
    Exception
        An argument of this rank is wrong.
    RankError
        One of another rank is.
    ValueError
        Ranks have different arguments.

    Examples
    --------
    >>> import fastmlp
    >>> from mpi4py import MPI  # doctest: +SKIP
    >>> from fastmlp.training.agreement import agreed
    >>> from fastmlp.training.jobs import defaults
    >>> from fastmlp.training.ranks import Ranks
    >>> arguments = {**defaults(), "sync_every": 1}
    >>> job, n_threads = agreed(Ranks(MPI.COMM_WORLD), fastmlp.MLP((2, 2)), [[0, 1]], [0], arguments)  # doctest: +SKIP
    """
    said: Any
    try:
        checks.integer("sync_every", arguments["sync_every"], least=1)
        job = _own_job(ranks.rank, network, X, y, dict(arguments))
        said = _say(job, arguments)
    except Exception as error:
        ranks.gather(f"{type(error).__name__}: {error}")
        raise
    except BaseException as error:
        ranks.fail(error)
    everybody = ranks.gather(said)
    for rank, one in enumerate(everybody):
        if isinstance(one, str):
            raise RankError(f"rank {rank} of {ranks.size} failed: {one}")
    _require_same([one.arguments for one in everybody])
    if not any(one.n for one in everybody):
        raise ValueError("X must have at least one row on one of the ranks")
    if not any(one.has_weight for one in everybody):
        raise ValueError("sample_weight or class_weight must have a weight above 0 on one of the ranks; all are 0")
    saved = everybody[0].saved
    if saved is not None and saved[1].position.batch:
        raise ValueError("resume must name a checkpoint of the end of an epoch, with several ranks; this is within one")
    progress = job.progress
    progress.n_batches = max(one.n_batches for one in everybody)
    try_rates(progress.optimizer.learning_rate, progress.epochs * progress.n_batches)
    progress.history.clear()
    progress.history.update({name: [] for name in everybody[0].columns})
    counts = sum((one.counts for one in everybody if one.counts is not None), np.zeros(network.layer_sizes[-1], int))
    if arguments["class_weight"] == "balanced" and said.n:
        job = _balanced(job, counts)
    if ranks.rank == 0 and network._state is None:
        try:
            _caution(network, X, job, counts)
        except BaseException as error:  # a warning that is made one
            ranks.fail(error)
    first = sum(one.n for one in everybody[: ranks.rank])
    return job._replace(part=ranks.rank, first=first, saved=saved), _n_threads(network, said, everybody)


def _n_threads(network: MLP, said: _Said, everybody: list[_Said]) -> int:
    """A rank's share of the CPUs that it may use together with others, within what the user says."""
    beside = [one for one in everybody if one.host == said.host and one.cpus & said.cpus]
    most = threads.available() if network.n_threads is None else network.n_threads
    return max(1, min(most, threads.cpus() // len(beside)))


def _caution(network: MLP, X: Any, job: Job, counts: NDArray[np.int64]) -> None:
    """Warn of what a network will hardly learn from, by rank 0's rows in memory, and all ranks' classes."""
    examples = job.data.examples
    if isinstance(examples, Windows) or not job.data.n:
        return
    targets = examples.targets
    if targets.labels is not None:
        targets = Targets(np.flatnonzero(counts), None)
    caution(network, examples.rows, column_names(X), targets, Once())


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
        arguments["callbacks"] = [
            one for one in checked_callbacks(arguments["callbacks"]) if not isinstance(one, _WRITING)
        ]
    if isinstance(arguments["class_weight"], str):
        checks.one_of("class_weight", arguments["class_weight"], ("balanced",))
        arguments["class_weight"] = None  # which all ranks' rows decide
    n = X.n if isinstance(X, Stream) else _length(X)
    if n is None:
        raise ValueError("n must be given, Stream(chunks, n=...), with several ranks: they take as many steps")
    if n > 0:
        return prepare(network, X, y, **arguments, cautious=False, is_share=True)
    if y is not None and len(y):
        raise ValueError(f"y must have a row for each row of X, which has none; it has {len(y)}")
    k, m, loss = network.layer_sizes[0], network.layer_sizes[-1], loss_of(network.loss)
    if len(getattr(X, "shape", ())) == 2:
        checked_rows("X", X, k)
    values = np.zeros(1, int) if loss.targets == "classes" else np.zeros((1, m // loss.outputs_a_target))
    arguments |= {"class_weight": None, "sample_weight": None}
    job = prepare(network, np.zeros((2, k), np.float32), np.repeat(values, 2, axis=0), **arguments, cautious=False)
    return job._replace(data=job.data._replace(chosen=np.empty(0, np.int64)))


def _length(X: Any) -> int:
    """How many rows it says to have; of what is no array 1, so that it is refused."""
    if getattr(X, "shape", ()):
        return int(X.shape[0])
    return len(X) if hasattr(X, "__len__") and not hasattr(X, "shape") else 1


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
    texts["learning_rate"] = _code(job.progress.optimizer.learning_rate)
    texts["loss"] = _code(getattr(network.loss, "function", None))
    texts["network"] = re.sub(r" at 0x\w+", "", f"{network!r} of checksum {checksum:08x}")
    counts, has_weight, examples = None, n > 0, job.data.examples
    if isinstance(examples, Windows):
        counts = examples.counts() if arguments["class_weight"] == "balanced" else None
    else:
        if arguments["class_weight"] == "balanced" or examples.targets.labels is not None:
            counts = counts_of(examples.targets, network.layer_sizes[-1], network.loss) * (n > 0)
        has_weight = n > 0 and (examples.weights is None or bool(examples.weights.any()))
    cpus = set(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else {0}
    columns = list(job.progress.history)
    n_batches = job.progress.n_batches * (n > 0)
    return _Said(texts, n, n_batches, has_weight, counts, columns, job.saved, os.uname().nodename, cpus)


def _code(thing: Any) -> str:
    """What a function of Python does, as far as its own code tells; of anything else nothing."""
    code = getattr(thing, "__code__", None)
    if code is None:
        return ""
    constants = re.sub(r" at 0x\w+", "", repr(code.co_consts))
    return f"{thing.__qualname__} of code {zlib.crc32(code.co_code + constants.encode()):08x}"


def _require_same(arguments: list[dict[str, str]]) -> None:
    for name, expected in arguments[0].items():
        for rank, own in enumerate(arguments):
            if own[name] != expected:
                both = f"{expected:.200} on rank 0, {own[name]:.200} on rank {rank}"
                raise ValueError(f"{name} must be the same on all ranks; it is {both}")
