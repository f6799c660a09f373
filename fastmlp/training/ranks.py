"""The processes that train one network, and what they tell each other, over MPI."""

from __future__ import annotations

import os
import pickle
import sys
import time
from typing import Any, NoReturn, Protocol, TypeVar

import numpy as np

from fastmlp.arrays import Array

__all__ = ["Communicator", "Ranks", "leave", "world"]

T = TypeVar("T", bound=Array)

# Seconds that a rank waits for the others; and then for their answers to who is still there.
TIMEOUT = 600.0
ANSWER = 5.0
_ANSWERS = 7121  # the tag of these
# In which variables of the environment MPICH, Open MPI and Slurm say how many ranks they have started.
_STARTED = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_NTASKS")


def world() -> Communicator:
    """Return the communicator of all processes that mpiexec has started.

    Raises
    ------
    ImportError
        mpi4py, or an MPI for it, is missing.
    ValueError
        mpiexec has started none, or another MPI's has.

    Examples
    --------
    >>> from fastmlp.training.ranks import world
    >>> world().rank  # doctest: +SKIP
    0
    """
    try:
        from mpi4py import MPI  # noqa: PLC0415 - an extra
    except (ImportError, RuntimeError) as error:  # the latter for want of an MPI
        reason = str(error).partition("\n")[0]
        raise ImportError(f"MPI needs mpi4py and an MPI: pip install 'fastmlp[mpi]' mpich ({reason})") from None
    communicator: Communicator = MPI.COMM_WORLD
    started = [os.environ[name] for name in _STARTED if name in os.environ]
    if communicator.size == 1 and not started:
        raise ValueError("MPI is for processes that mpiexec starts, as by mpiexec -n 4 fastmlp train --mpi")
    if communicator.size == 1 and started[0] != "1":
        raise ValueError(f"mpiexec has started {started[0]} processes, of which mpi4py knows one: they are of two MPIs")
    return communicator


def leave(status: int) -> int:
    """Return the status with which a process ends; where it is one of several ranks, end the others: they would wait.

    Examples
    --------
    >>> from fastmlp.training.ranks import leave
    >>> leave(2)
    2
    """
    MPI = sys.modules.get("mpi4py.MPI")
    if MPI is not None and MPI.COMM_WORLD.size > 1:
        MPI.COMM_WORLD.Abort(status)
    return status


class Communicator(Protocol):
    """What `fit` asks of its `communicator`, and those of mpi4py have.

    Examples
    --------
    >>> from mpi4py import MPI  # doctest: +SKIP
    >>> from fastmlp.training.ranks import Communicator
    >>> world: Communicator = MPI.COMM_WORLD  # doctest: +SKIP
    """

    rank: int
    size: int

    def Iallreduce(self, sendbuf: Array, recvbuf: Array) -> Any:  # noqa: N802
        """Begin to add up the arrays of all ranks."""

    def Isend(self, buf: Array, dest: int, tag: int) -> Any:  # noqa: N802
        """Begin to send an array."""

    def Irecv(self, buf: Array, source: int, tag: int) -> Any:  # noqa: N802
        """Begin to receive one."""

    def Abort(self, errorcode: int) -> Any:  # noqa: N802
        """End all ranks."""


def _is_communicator(thing: Any) -> bool:
    """Whether it is one of processes that all take part in a sum, as those between two groups do not."""
    try:
        named = all(hasattr(thing, name) for name in ("Iallreduce", "Isend", "Irecv", "Abort"))
        return named and isinstance(thing.rank, int) and thing.size > 0 and not getattr(thing, "is_inter", False)
    except Exception:  # MPI's, of a communicator that is none, or has been freed
        return False


class Ranks:
    """The processes that train a network, seen from one of them: what they tell each other.

    All of it are sums over the ranks, which all take in the same order. A rank that waits in vain ends all of them.

    Parameters
    ----------
    communicator : Communicator

    Raises
    ------
    TypeError
        It is none.

    Examples
    --------
    >>> from mpi4py import MPI  # doctest: +SKIP
    >>> from fastmlp.training.ranks import Ranks
    >>> ranks = Ranks(MPI.COMM_WORLD)  # doctest: +SKIP
    >>> ranks.gather(ranks.rank)  # of three  # doctest: +SKIP
    [0, 1, 2]
    """

    def __init__(self, communicator: Communicator) -> None:
        if not _is_communicator(communicator):
            raise TypeError(
                f"communicator must be one of mpi4py's, as mpi4py.MPI.COMM_WORLD, or None; not {communicator!r:.80}"
            )
        self.communicator = communicator
        self.rank, self.size = communicator.rank, communicator.size
        self.shared_error: BaseException | None = None  # that all ranks have come to, each by itself

    def sum(self, array: T, out: T | None = None) -> T:
        """Return the sum of the ranks' arrays, all of one shape and type."""
        total = np.empty_like(array) if out is None else out
        self._wait(self.communicator.Iallreduce(array, total))
        return total

    def gather(self, thing: Any) -> list[Any]:
        """Return what each of the ranks has, on all of them."""
        own = np.frombuffer(pickle.dumps(thing), np.uint8)
        lengths = np.zeros(self.size, np.int64)
        lengths[self.rank] = len(own)
        ends = self.sum(lengths).cumsum()
        everything = np.zeros(ends[-1], np.uint8)
        everything[ends[self.rank] - len(own) : ends[self.rank]] = own
        return [pickle.loads(one.tobytes()) for one in np.split(self.sum(everything), ends[:-1])]

    def fail(self, error: BaseException) -> NoReturn:
        """End all ranks because of an error that the others do not know of, and wait for."""
        if isinstance(error, KeyboardInterrupt):
            self._end("was interrupted")
        import traceback  # noqa: PLC0415 - for what only a rank that fails needs

        traceback.print_exception(type(error), error, error.__traceback__)
        self._end(f"failed: {type(error).__name__}: {error}")

    def _wait(self, request: Any) -> None:
        end = time.monotonic() + TIMEOUT
        while not request.Test():
            os.sched_yield()
            if time.monotonic() > end:
                self._end(f"has waited {TIMEOUT:g} seconds for {self._silent()}")

    def _silent(self) -> str:
        """Which ranks do not answer that they wait, too."""
        import threading  # noqa: PLC0415 - for the end alone

        # Open MPI's first message to a rank that is cut off waits for it, and would do so for ever.
        why = f"has waited {TIMEOUT:g} seconds for ranks that it does not reach"
        watch = threading.Timer(2 * ANSWER, self._leave, [why])
        watch.daemon = True
        watch.start()
        try:
            silent = self._without_answer()
        finally:
            watch.cancel()
        return f"rank {', '.join(map(str, silent))}" if silent else "no rank that is silent"

    def _without_answer(self) -> list[int]:
        others = [rank for rank in range(self.size) if rank != self.rank]
        answers = {rank: self.communicator.Irecv(np.empty(1), rank, _ANSWERS) for rank in others}
        questions = [self.communicator.Isend(np.zeros(1), rank, _ANSWERS) for rank in others]
        end = time.monotonic() + ANSWER
        silent = others
        while silent and time.monotonic() < end:
            time.sleep(0.01)
            silent = [rank for rank in silent if not answers[rank].Test()]
        del questions  # which were to live until then
        return silent

    def _end(self, why: str) -> NoReturn:
        self._tell(why)
        time.sleep(0.1)  # mpiexec ends at once where a rank aborts: MPICH's has then lost what it had not read
        self.communicator.Abort(1)
        raise SystemExit(1)

    def _leave(self, why: str) -> None:
        """End this process, whatever it waits for; mpiexec ends the others."""
        self._tell(why)
        os._exit(1)

    def _tell(self, why: str) -> None:
        line = f"fastmlp: rank {self.rank} of {self.size} {why}; all ranks end\n"
        print(line, end="", file=sys.stderr, flush=True)  # in one piece: ranks write beside each other
