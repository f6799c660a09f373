"""How a run goes on from a checkpoint."""

from __future__ import annotations

import os

from fastmlp.callbacks import Progress
from fastmlp.network import MLP
from fastmlp.optimizers import Optimizer
from fastmlp.runs import SavedRun
from fastmlp.training.state import commit

__all__ = ["go_on", "saved_run"]


def saved_run(path: str, network: MLP, optimizer: Optimizer) -> tuple[MLP, SavedRun] | None:
    """Return the network and the run in a checkpoint, which are like these; None where there is no file.

    Raises
    ------
    ValueError
        The checkpoint is of another network, or of another kind of optimizer.
    FileFormatError, OSError
        The file is no checkpoint, or cannot be read.

    Examples
    --------
    >>> import fastmlp
    >>> from fastmlp.training.resume import saved_run
    >>> saved_run("no such file", fastmlp.MLP((2, 2)), fastmlp.Adam())
    """
    if not os.path.exists(path):
        return None
    from fastmlp.files import checkpoint  # noqa: PLC0415 - json is imported with it

    loaded, run = checkpoint.load(path, network.loss)
    if repr(loaded) != repr(network):
        raise ValueError(f"resume must name a checkpoint of {network!r}; {path} has one of {loaded!r}")
    if run.optimizer != type(optimizer).__name__:
        raise ValueError(f"resume goes on with {run.optimizer}, as in {path}; not with {optimizer!r:.80}")
    return loaded, run


def go_on(progress: Progress, loaded: MLP, run: SavedRun, batch_size: int, n: int | None) -> None:
    """Bring network, history, optimizer and callbacks to where the run was, for batches of n rows, if they are counted.

    Raises
    ------
    ValueError
        Its epochs were judged by other values than those that come, or it stands within one of other batches.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np, fastmlp
    >>> path = os.path.join(tempfile.mkdtemp(), "run.safetensors")
    >>> for epochs in (2, 3):
    ...     options = {"callbacks": [fastmlp.callbacks.Checkpoint(path)], "resume": path, "verbose": False}
    ...     len(fastmlp.MLP((2, 2)).fit(np.eye(2), [0, 1], epochs=epochs, **options).loss)
    2
    3
    """
    history = progress.history
    if list(run.history) != list(history):
        raise ValueError(
            f"resume must name a checkpoint of a run with the same validation_data and metrics: its history has "
            f"{', '.join(run.history)}, not {', '.join(history)}"
        )
    position = run.position
    if position.batch:
        where = f"resume goes on within an epoch, after {position.batch} batches of {position.batch_size}"
        if batch_size != position.batch_size:
            raise ValueError(f"{where}; batch_size must be that, not {batch_size}")
        if n is not None and n <= position.batch * batch_size:
            raise ValueError(f"{where}; X has {n} rows")
    commit(progress.network, loaded._values, loaded._state)
    history.update(run.history)
    progress.position = position
    for name, value in run.changes.items():
        setattr(progress.optimizer, name, value)
    states: dict[str, list[dict[str, object]]] = {}
    for name, state in run.callbacks:
        states.setdefault(name, []).append(state)
    for callback in progress.callbacks:
        of_its_kind = states.get(type(callback).__name__)
        if of_its_kind:
            callback.set_state(of_its_kind.pop(0))
