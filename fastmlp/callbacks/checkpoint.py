"""A run on disk, from which it can go on."""

from __future__ import annotations

import errno
import os

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

    def __init__(self, path: str | bytes | os.PathLike[str], every: int = 1) -> None:
        self.path = checks.path("path", path)
        self.every = checks.integer("every", every, least=1)

    def on_fit_begin(self, progress: Progress) -> None:
        """See that there is a folder for the file."""
        folder = os.path.dirname(os.path.realpath(self.path))
        if not os.path.isdir(folder):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), folder)

    def on_epoch_end(self, progress: Progress) -> None:
        """Write the file, if it is the epoch's turn."""
        done = len(progress.history.loss)
        if done % self.every == 0 or done == progress.epochs or progress.stop:
            from fastmlp.files import checkpoint  # noqa: PLC0415 - json is imported with it

            states = [(type(callback).__name__, callback.get_state()) for callback in progress.callbacks]
            run = SavedRun(
                progress.history,
                type(progress.optimizer).__name__,
                progress.changes(),
                [(name, state) for name, state in states if state],
            )
            checkpoint.save(self.path, progress.network, run)
