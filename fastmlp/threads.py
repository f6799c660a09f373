"""How many threads a call uses: what the process may have, and what the work is worth."""

import functools
import os
import sys
from contextvars import ContextVar

from fastmlp.engine.table import OPENMP
from fastmlp.engine.team import forked
from fastmlp.engine.trainer import MOST_CHAIN_PARAMETERS

__all__ = ["MAX_THREADS", "RATE", "available", "choose", "choose_for_steps", "cpus", "limit", "phase_seconds"]

# Multiply-adds a second of one thread, for choosing the number of threads: a cautious figure, as an
# overestimate of the work would start threads that cost more than they do.
RATE = 50e9

# Beyond any machine; a process that asks for more threads than it may start is ended by OpenMP.
MAX_THREADS = 1024

# A thread that joins costs the others a rendezvous, and a sleeping one some 50 us to wake; below this many
# seconds of work for each, one thread is faster. Measured with two threads.
_WORTH_A_THREAD = 20e-6


_limit = ContextVar("_limit", default=MAX_THREADS)


class _Pool:
    """Threads of this process, its first one with them, that are known to be had."""

    started = 1


def available() -> int:
    """Return the number of threads that ``n_threads=None`` may use at most.

    ``OMP_NUM_THREADS`` where it is set, but 1024 at most; otherwise the CPUs that this process may run on, within the
    limit of its control group; no more than the `limit` of Python's thread. 1 where the package was built without
    OpenMP, and in a process that was forked from one that had imported this package: OpenMP's threads do not survive a
    fork, whichever library had started them, and waiting for them would hang.

    Examples
    --------
    >>> import fastmlp.threads
    >>> fastmlp.threads.available() >= 1
    True
    """
    if not OPENMP or forked():
        return 1
    wanted = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip().lstrip("0")
    most = min(int(wanted[:9]), MAX_THREADS) if wanted.isascii() and wanted.isdecimal() else cpus()
    return min(most, _limit.get())


def limit(n: int) -> None:
    """Let the calls of this thread of Python's have n threads at most, as others call beside it.

    Examples
    --------
    >>> import threading
    >>> from fastmlp.threads import available, limit
    >>> def work():
    ...     limit(1)
    ...     print(available())
    >>> thread = threading.Thread(target=work)
    >>> thread.start(); thread.join()
    1
    """
    _limit.set(n)


def cpus() -> int:
    """Return how many CPUs this process may use: those that it may run on, within the limit of its control group.

    Examples
    --------
    >>> import fastmlp.threads
    >>> fastmlp.threads.cpus() >= 1
    True
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(allowed, _cgroup_limit()))


def phase_seconds(rows: int, n_parameters: int, n_layers: int) -> float:
    """Return the time of one thread for a phase of a step, at a guess.

    Of so many rows: forward, input gradient and weight gradient, in phases that the threads share.

    Examples
    --------
    >>> from fastmlp.threads import phase_seconds
    >>> phase_seconds(100, n_parameters=1_000_000, n_layers=3)
    0.00075
    """
    return _step_seconds(rows, n_parameters) / (2 * n_layers + 2)


def _step_seconds(rows: int, n_parameters: int) -> float:
    return 3 * rows * n_parameters / RATE


def choose_for_steps(n_threads: int | None, rows: int, n_parameters: int, n_layers: int, beside: float = 0.0) -> int:
    """Return how many threads to use for steps of training that take so many rows each.

    A quarter of the work is worth a thread, as none falls asleep between two steps; and a `Trainer` measures whether it
    is. `beside`: seconds of what else the rows need, between two rendezvous.

    Examples
    --------
    >>> from fastmlp.threads import choose_for_steps
    >>> choose_for_steps(2, rows=10, n_parameters=1000, n_layers=2)
    1
    """
    if n_parameters <= MOST_CHAIN_PARAMETERS:  # it is chained, mostly: threads meet twice in a step
        seconds = _step_seconds(rows, n_parameters) / 2
    else:
        seconds = phase_seconds(rows, n_parameters, n_layers)
    return choose(n_threads, 4 * max(seconds, beside))


def choose(n_threads: int | None, seconds: float) -> int:
    """Return how many threads to use for `seconds` of work between two rendezvous, at most `n_threads`.

    Examples
    --------
    >>> import fastmlp.threads
    >>> fastmlp.threads.choose(2, 1e-6)
    1
    """
    most = available() if n_threads is None else 1 if forked() or not OPENMP else n_threads
    chosen = max(1, min(most, MAX_THREADS, int(seconds / _WORTH_A_THREAD)))
    if chosen > _Pool.started:
        _Pool.started = max(_Pool.started, _startable(chosen))
    return min(chosen, _Pool.started)


def _startable(n: int) -> int:
    """Return how many of n threads the system grants. OpenMP ends the process where it gets fewer than it asks for."""
    import threading  # noqa: PLC0415 - 2 ms, which one thread need not wait for

    done = threading.Event()
    others = [threading.Thread(target=done.wait) for _ in range(n - 1)]
    granted = 1
    try:
        for thread in others:
            thread.start()
            granted += 1
    except (RuntimeError, MemoryError):
        pass
    finally:
        done.set()
        for thread in others[: granted - 1]:
            thread.join()
    return granted


@functools.cache
def _cgroup_limit() -> int:
    """CPUs that the tightest of this process's control groups grants, rounded up."""
    limits = [os.cpu_count() or 1]
    # The roots too: in a container they may be the group itself, which has another name outside.
    for line in ["0::/", "0:cpu:/", *_read("/proc/self/cgroup").splitlines()]:
        controllers, _, group = line.partition(":")[2].partition(":")
        while not controllers or "cpu" in controllers.split(","):
            limits.append(_granted("/sys/fs/cgroup/cpu" if controllers else "/sys/fs/cgroup", group))
            if group == os.path.dirname(group):
                break
            group = os.path.dirname(group)
    return min(limits)


def _granted(root: str, group: str) -> int:
    """CPUs that one control group grants, by the files of version 2 or of version 1."""
    folder = os.path.join(root, group.lstrip("/"))
    files = ("cpu.max",) if root == "/sys/fs/cgroup" else ("cpu.cfs_quota_us", "cpu.cfs_period_us")
    try:
        quota, period = map(int, " ".join(_read(os.path.join(folder, name)) for name in files).split())
    except ValueError:  # "max", or no file
        return sys.maxsize
    return max(1, -(-quota // period)) if quota > 0 and period > 0 else sys.maxsize


def _read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read()
    except (OSError, UnicodeDecodeError):
        return ""
