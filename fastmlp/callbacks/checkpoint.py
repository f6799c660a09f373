"""A run on disk, from which it can go on."""

from __future__ import annotations

import errno
import os
import time

from fastmlp import checks
from fastmlp.callbacks.protocol import Callback, Progress
from fastmlp.runs import SavedRun

__all__ = ["Checkpoint"]


class Checkpoint(Callback):
    """Write the network and the run's state to a file, which `fit(resume=path)` goes on from and `fastmlp.load` reads.

    That is done after all other callbacks have heard of the epoch, and the file appears whole or not at all.

    Parameters
    ----------
    path : path-like
        The file, replaced if it exists.
    every : int, default 1
        Epochs between two of them; the last epoch of a training is written in any case.
    seconds : float, optional
        Write within an epoch, too: so long after the last time, and where training ends within it, as by Ctrl-C or
        `TimeLimit`. For epochs that take long. Of several ranks of MPI none is written within an epoch.

    Raises
    ------
    TypeError, ValueError
        An argument is wrong.
    OSError
        From `fit`: the file cannot be written; before training, if its folder is missing.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np, fastmlp
    >>> path = os.path.join(tempfile.mkdtemp(), "run.safetensors")
    >>> keep = fastmlp.callbacks.Checkpoint(path)
    >>> options = {"callbacks": [keep], "resume": path, "verbose": False}
    >>> _ = fastmlp.MLP((2, 2)).fit(np.eye(2), [0, 1], epochs=3, **options)
    >>> len(fastmlp.MLP((2, 2)).fit(np.eye(2), [0, 1], epochs=5, **options).loss)  # of which the last two are new
    5
    """

    def __init__(self, path: str | bytes | os.PathLike[str], every: int = 1, *, seconds: float | None = None) -> None:
        self.path = checks.path("path", path)
        self.every = checks.integer("every", every, least=1)
        self.seconds = None if seconds is None else checks.number("seconds", seconds, "at least 0", lambda x: x >= 0)
        self._written_at = 0.0

    @property
    def is_due(self) -> bool:
        """Whether it is time to write within an epoch."""
        return self.seconds is not None and time.monotonic() - self._written_at >= self.seconds

    def on_fit_begin(self, progress: Progress) -> None:
        """See that there is a folder for the file."""
        self._written_at = time.monotonic()
        folder = os.path.dirname(os.path.realpath(self.path))
        if not os.path.isdir(folder):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), folder)

    def on_epoch_end(self, progress: Progress) -> None:
        """Write the file, if it is the epoch's turn."""
        done = len(progress.history.loss)
        if done % self.every == 0 or done == progress.epochs or progress.stop:
            self._write(progress)

    def on_batches(self, progress: Progress) -> None:
        """Write the file, if it is time."""
        if self.is_due and 0 < progress.position.batch == progress.batch:
            self._write(progress)

    def on_fit_end(self, progress: Progress) -> None:
        """Write the file, if training ends within an epoch."""
        if self.seconds is not None and progress.position.batch:
            self._write(progress)

    def _write(self, progress: Progress) -> None:
        from fastmlp.files import checkpoint  # noqa: PLC0415 - json is imported with it

        states = [(type(callback).__name__, callback.get_state()) for callback in progress.callbacks]
        run = SavedRun(
            progress.history,
            type(progress.optimizer).__name__,
            progress.changes(),
            [(name, state) for name, state in states if state],
            progress.position,
        )
        checkpoint.save(self.path, progress.network, run)
        self._written_at = time.monotonic()
