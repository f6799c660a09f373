"""The history in files, an epoch at a time, while training goes."""

from __future__ import annotations

import os
from typing import Any

from fastmlp import checks
from fastmlp.callbacks.protocol import Callback, Progress

__all__ = ["CSVLog", "TensorBoard"]


class CSVLog(Callback):
    """Write the history to a CSV file, a line after each epoch: its number, from 1, and all values of the history.

    Parameters
    ----------
    path : path-like
        The file, replaced if it exists. Where a run is resumed, the lines of its earlier epochs are written again.

    Raises
    ------
    TypeError, ValueError
        The path is none.
    OSError
        From `fit`, before training: the file cannot be written.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np, fastmlp
    >>> path = os.path.join(tempfile.mkdtemp(), "log.csv")
    >>> log = fastmlp.callbacks.CSVLog(path)
    >>> _ = fastmlp.MLP((2, 2)).fit(np.eye(2), [0, 1], epochs=3, callbacks=[log], verbose=False)
    >>> with open(path) as lines:
    ...     next(lines).strip(), len(list(lines))
    ('epoch,loss,learning_rate,seconds', 3)
    """

    def __init__(self, path: str | bytes | os.PathLike[str]) -> None:
        self.path = checks.path("path", path)
        self._file: Any = None

    def on_fit_begin(self, progress: Progress) -> None:
        """Open the file."""
        self._file = open(self.path, "w", encoding="utf-8", newline="")  # noqa: SIM115 - on_fit_end closes it
        self._write("epoch", *progress.history)
        for epoch, values in enumerate(zip(*progress.history.values(), strict=True), start=1):
            self._write(epoch, *values)

    def on_epoch_end(self, progress: Progress) -> None:
        """Write the epoch's line."""
        history = progress.history
        self._write(len(history.loss), *(values[-1] for values in history.values()))

    def on_fit_end(self, progress: Progress) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _write(self, *values: object) -> None:
        import csv  # noqa: PLC0415 - few trainings need it

        csv.writer(self._file, lineterminator="\n").writerow(values)
        self._file.flush()


class TensorBoard(Callback):
    """Write the history as scalars that TensorBoard shows, by their names and the epochs' numbers, from 1.

    Needs tensorboardX, the extra ``tensorboard``; to look at it, ``tensorboard --logdir DIRECTORY``.

    Parameters
    ----------
    directory : path-like
        Where each `fit` writes a file of its own; it is made where it is missing.

    Raises
    ------
    ImportError
        tensorboardX is not installed.
    TypeError, ValueError
        The path is none.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np, fastmlp
    >>> board = fastmlp.callbacks.TensorBoard(tempfile.mkdtemp())  # doctest: +SKIP
    >>> _ = fastmlp.MLP((2, 2)).fit(np.eye(2), [0, 1], callbacks=[board], verbose=False)  # doctest: +SKIP
    """

    def __init__(self, directory: str | bytes | os.PathLike[str]) -> None:
        try:
            import tensorboardX  # noqa: F401, PLC0415 - an extra
        except ImportError as error:
            raise ImportError("TensorBoard needs tensorboardX: pip install 'fastmlp[tensorboard]'") from error
        self.directory = checks.path("directory", directory)
        self._writer: Any = None

    def on_fit_begin(self, progress: Progress) -> None:
        """Open a file; what a run that is resumed had written beyond this epoch no longer counts."""
        from tensorboardX import SummaryWriter  # noqa: PLC0415 - an extra

        done = len(progress.history.loss)
        self._writer = SummaryWriter(self.directory, purge_step=done + 1 if done else None)

    def on_epoch_end(self, progress: Progress) -> None:
        """Write the epoch's values."""
        for name, values in progress.history.items():
            self._writer.add_scalar(name, values[-1], len(values))
        self._writer.flush()

    def on_fit_end(self, progress: Progress) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()
