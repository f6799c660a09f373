"""Many networks at once, over the same rows: one a thread, or as tasks of joblib."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from numpy.typing import ArrayLike

from fastmlp import checks, hints, threads
from fastmlp.callbacks import Callback, Checkpoint, CSVLog
from fastmlp.callbacks.bar import epoch_line
from fastmlp.engine.rows import Rows
from fastmlp.errors import FitError
from fastmlp.network import MLP
from fastmlp.rows import Stream
from fastmlp.runs import History
from fastmlp.training.data import Once
from fastmlp.training.jobs import Job, alone, defaults, engine_rows, prepare, train, with_threads
from fastmlp.training.state import commit

__all__ = ["fit_many"]


def fit_many(
    networks: Iterable[MLP],
    X: ArrayLike,
    y: ArrayLike | None = None,
    *,
    rows: Sequence[ArrayLike] | None = None,
    n_threads: int | None = None,
    parallel: Callable[..., Any] | None = None,
    verbose: bool = True,
    **arguments: Any,
) -> list[History]:
    """Train many networks on the same rows at once: other seeds, sizes, optimizers, folds.

    Each comes to the same bits as by a `fit` of its own. X is checked, and brought to the form that the engine reads,
    once for all of them; each network has a thread and, where there are fewer networks than threads, its share of the
    others. Large ones begin first.

    Parameters
    ----------
    networks : iterable of MLP
        All with as many inputs as X has columns; no network twice.
    X, y : array
        As in `MLP.fit`, but no stream.
    rows : sequence of int arrays, one for each network; or None
        Numbers of the rows that it learns from, as often as they are there: folds, bootstrap samples. None: all rows.
        The bits are those of ``fit(X[rows[i]], y[rows[i]])``, but dropout and noise are drawn by a row's number in X.
    n_threads : int or None, default None
        Of all networks together, whatever their own `n_threads`; as many as `MLP` would use by default. Not of a
        `parallel`, each of whose tasks has its network's.
    parallel : joblib.Parallel or None
        Train each network as a task of it: in other processes or, where its backend is Dask's, on a cluster. Networks
        and histories come back; what callbacks keep does not. Where Ctrl-C ends the call, tasks that have begun may go
        on where they are.
    verbose : bool, default True
        Print a line for each network that is trained, with its last epoch.
    **arguments
        All others of `MLP.fit`: one value for all networks, or a list of one for each: of what is a list itself, as
        callbacks are, a list of lists. Each callback, and its file, belongs to one network. Networks have copies of
        their optimizers.

    Returns
    -------
    list of History
        In the order of `networks`.

    Raises
    ------
    TypeError, ValueError
        An argument is not as described, of which network the message says; all networks are as they were.
    FitError
        Some networks failed, as by `DivergenceError`: `errors` says which and by what. The others are trained, unless
        it was `parallel` itself that failed; ``network.history`` is each one's own.
    KeyboardInterrupt
        On Ctrl-C: all networks are as after a whole batch, those that had not begun as they were.

    Examples
    --------
    >>> import numpy as np, fastmlp
    >>> X, y = fastmlp.load_mnist("validation")
    >>> folds = np.array_split(np.arange(len(X)), 3)
    >>> nets = [fastmlp.MLP((784, 64, 10), seed=seed) for seed in range(3)]
    >>> others = [np.setdiff1d(np.arange(len(X)), fold) for fold in folds]
    >>> held_out = [(X[fold], y[fold]) for fold in folds]
    >>> histories = fastmlp.fit_many(nets, X, y, rows=others, validation_data=held_out, epochs=2, verbose=False)
    >>> min(history.validation_accuracy[-1] for history in histories) > 0.8
    True
    """
    networks = _checked_networks(networks)
    if isinstance(X, Stream):
        raise TypeError("X must be rows in memory, which all networks share; fit each network on a Stream alone")
    if not (parallel is None or callable(parallel)):
        raise TypeError(f"parallel must be a joblib.Parallel or None, not {parallel!r:.80}")
    n_threads = threads.available() if n_threads is None else checks.integer("n_threads", n_threads, least=1)
    verbose = checks.boolean("verbose", verbose)
    own = _arguments_of_each({**arguments, "rows": _rows_of_each(rows)}, len(networks))
    jobs, once = [], Once()
    for i, network in enumerate(networks):
        with _naming(i):
            jobs.append(prepare(network, X, y, **own[i], once=once))
    _require_own_callbacks(jobs)
    if parallel is None:
        errors = _train_in_threads(jobs, n_threads, verbose)
    else:
        errors = _train_elsewhere(parallel, networks, [(X, y, one) for one in own], verbose)
    if errors:
        raise FitError(dict(sorted(errors.items()))) from errors[min(errors)]
    return [network.history for network in networks]


# ---- Arguments


def _checked_networks(networks: object) -> list[MLP]:
    found = list(networks) if isinstance(networks, Iterable) else None
    if found is None or not all(isinstance(network, MLP) for network in found):
        raise TypeError(f"networks must be a list of fastmlp.MLP, not {networks!r:.80}")
    if not found:
        raise ValueError("networks must have at least one network")
    if len({id(network) for network in found}) < len(found):
        raise ValueError("networks must have no network twice; copy.deepcopy(network) is another one")
    return found


def _rows_of_each(rows: object) -> list[Any] | None:
    if not (rows is None or isinstance(rows, Iterable)):
        raise TypeError(f"rows must be a list of numbers of rows for each network, or None; not {rows!r:.80}")
    return None if rows is None else list(rows)


def _arguments_of_each(arguments: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """The keyword arguments of `prepare` for each network: an argument that is a list has one for each."""
    import copy  # noqa: PLC0415 - with queue, below: 2 ms, which only many networks are worth

    known = {**defaults(), "verbose": False, "rows": None}
    for name, value in arguments.items():
        if name not in known:
            names = ["networks", "X", "y", "n_threads", "parallel", *known]
            raise TypeError(hints.for_argument("fit_many", name, names))
        if isinstance(value, list):
            _require_one_for_each(name, value, count)
    values = {**known, **arguments}
    own = [{name: one[i] if isinstance(one, list) else one for name, one in values.items()} for i in range(count)]
    return [{**one, "optimizer": copy.copy(one["optimizer"])} for one in own]


def _require_one_for_each(name: str, values: list[Any], count: int) -> None:
    for value in values:
        if isinstance(value, Callback) or (name == "metrics" and callable(value)):
            raise TypeError(f"{name} must be a list of a list for each network, not a list of {type(value).__name__}")
    if len(values) != count:
        raise ValueError(
            f"{name} must be one for all networks, or a list of one for each of the {count}; not a list of "
            f"{len(values)}. A tuple or an array is one for all"
        )


def _require_own_callbacks(jobs: list[Job]) -> None:
    told = [callback for job in jobs for callback in job.progress.callbacks]
    if len({id(callback) for callback in told}) < len(told):
        raise ValueError("callbacks must be a list of a list for each network, as a callback belongs to one network")
    files = [os.path.realpath(one.path) for one in told if isinstance(one, (Checkpoint, CSVLog))]
    for path in files:
        if files.count(path) > 1:
            raise ValueError(f"callbacks of several networks must not write to one file, {path}")


@contextmanager
def _naming(i: int) -> Iterator[None]:
    """Say in a message of a wrong argument whose it is."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise type(error)(f"networks[{i}]: {error}") from None


# ---- Threads


def _train_in_threads(jobs: list[Job], n_threads: int, verbose: bool) -> dict[int, Exception]:
    """Train all, as many at once as there are threads. Return what went wrong, by the numbers of the jobs."""
    from queue import SimpleQueue  # noqa: PLC0415
    from threading import Thread  # noqa: PLC0415

    rows: list[Rows] = []
    for job in jobs:
        rows.append(engine_rows(job, rows))
    at_once = min(n_threads, len(jobs))
    waiting, done = iter(_large_first(jobs)), SimpleQueue[tuple[int, BaseException | None]]()

    def work() -> None:
        for i in waiting:
            if jobs[i].progress.stop:
                return
            error = None
            try:
                _train(jobs[i], rows[i], n_threads // at_once)
            except BaseException as raised:
                error = raised
            done.put((i, error))

    workers = [Thread(target=work, name=f"fit_many {i}") for i in range(at_once)]
    errors: dict[int, Exception] = {}
    try:
        for worker in workers:
            worker.start()
        for _ in jobs:
            i, error = done.get()
            if isinstance(error, Exception):
                errors[i] = error
            elif error is not None:  # a callback's KeyboardInterrupt
                raise error
            elif verbose:
                _tell(i, jobs[i].progress.history)
    finally:  # after Ctrl-C, too, which this thread alone hears of
        for job in jobs:
            job.progress.stop = True
        for worker in workers:
            if worker.is_alive():
                worker.join()
    return errors


def _large_first(jobs: list[Job]) -> list[int]:
    """The jobs' numbers, those that take long first: while one that begins last goes on, other threads have no work."""
    work = [(job.data.n or 0) * job.progress.epochs * job.progress.network.parameters.size for job in jobs]
    return sorted(range(len(jobs)), key=lambda i: -work[i])


def _train(job: Job, rows: Rows, n_threads: int) -> History:
    """Train a network with so many threads."""
    network = job.progress.network
    with with_threads(network, n_threads):
        return alone(network, lambda: train(job, rows))


def _tell(i: int, history: History) -> None:
    print(f"networks[{i}] {epoch_line(history)}" if history.loss else f"networks[{i}]", flush=True)


# ---- Tasks of joblib


def _train_elsewhere(
    parallel: Callable[..., Any], networks: list[MLP], tasks: list[tuple[Any, ...]], verbose: bool
) -> dict[int, Exception]:
    """Train all as tasks of joblib, and take over what comes back. Return what went wrong."""
    calls: list[tuple[Any, ...]] = [
        (_train_there, (i, network, *task), {}) for i, (network, task) in enumerate(zip(networks, tasks, strict=True))
    ]
    errors: dict[int, Exception] = {}
    missing = set(range(len(networks)))
    try:
        for i, trained, error in parallel(calls):
            missing.remove(i)
            network = networks[i]
            commit(network, trained._values, trained._state)
            network._history = trained.history
            if error is not None:
                errors[i] = error
            elif verbose:
                _tell(i, network.history)
    except Exception as error:  # parallel's own, as of a cluster whose workers have died
        return {**errors, **dict.fromkeys(missing, error)}
    return {**errors, **{i: RuntimeError("parallel has not returned it") for i in missing}}


def _train_there(
    i: int, network: MLP, X: ArrayLike, y: ArrayLike, arguments: dict[str, Any]
) -> tuple[int, MLP, Exception | None]:
    """Train a network, which may be in a process of its own. Return its number, itself, and what went wrong."""
    try:
        alone(network, lambda: train(prepare(network, X, y, **arguments, once=Once(), cautious=False)))
    except Exception as error:
        return i, network, _sendable(error)
    return i, network, None


def _sendable(error: Exception) -> Exception:
    """Return the error, or one that says as much where pickle cannot bring it to another process."""
    import pickle  # noqa: PLC0415 - for errors alone

    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
