"""The lines of the epochs, and a bar over their batches."""

from __future__ import annotations

import math
import sys
import time
import warnings
from typing import Any

from fastmlp import checks
from fastmlp.callbacks.protocol import Callback, Progress
from fastmlp.runs import History

__all__ = ["ProgressBar", "epoch_line"]

SECONDS_APART = 0.5  # of lines, so that many quick epochs do not fill a page


class ProgressBar(Callback):
    """A line for an epoch on standard output and, on a terminal or in a notebook, a bar over the epoch's batches.

    The first and the last epoch of a `fit` have their line in any case.

    Parameters
    ----------
    every : int, optional
        A line every so many epochs; lines at least half a second apart by default.
    label : str, default ""
        What each line begins with, to tell networks apart that are trained at once; there is no bar then.

    Examples
    --------
    >>> import numpy as np, fastmlp
    >>> bar = fastmlp.callbacks.ProgressBar(every=10)
    >>> net = fastmlp.MLP((2, 2))
    >>> _ = net.fit(np.eye(2), [0, 1], epochs=15, callbacks=[bar], verbose=False)  # doctest: +ELLIPSIS
    Epoch: 1 cost=... seconds=...
    Epoch: 10 cost=... seconds=...
    Epoch: 15 cost=... seconds=...
    """

    def __init__(self, every: int | None = None, *, label: str = "") -> None:
        self.every = None if every is None else checks.integer("every", every, least=1)
        self.label = label
        self._bar: Any = None
        self._told = 0
        self._told_at = -math.inf

    def on_fit_begin(self, progress: Progress) -> None:
        """Open the bar."""
        self._bar = None if self.label else _bar(progress.n_batches)
        self._told, self._told_at = 0, -math.inf

    def on_batches(self, progress: Progress) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.set_description(f"Epoch {len(progress.history.loss) + 1}/{progress.epochs}", refresh=False)
            self._bar.total = progress.n_batches  # which grows where it is not known
            if progress.batch <= self._bar.n:  # a new epoch; tqdm's reset would draw the bar for each
                self._bar.update(-self._bar.n)
            self._bar.update(progress.batch - self._bar.n)

    def on_epoch_end(self, progress: Progress) -> None:
        """Print the epoch's line, if it is its turn."""
        epoch = len(progress.history.loss)
        if self.every is None:
            its_turn = time.perf_counter() - self._told_at >= SECONDS_APART
        else:
            its_turn = epoch == 1 or epoch % self.every == 0
        if its_turn:
            self._tell(progress.history)

    def on_fit_end(self, progress: Progress) -> None:
        """Close the bar, and print the last epoch's line if it was not its turn."""
        if self._bar is not None:
            self._bar.close()
        if self._told < len(progress.history.loss):
            self._tell(progress.history)

    def _tell(self, history: History) -> None:
        self._told, self._told_at = len(history.loss), time.perf_counter()
        if self._bar is not None:
            self._bar.clear()
        print(f"{self.label}{epoch_line(history)}\n", end="", flush=True)  # whole, beside other threads' lines
        if self._bar is not None:
            self._bar.refresh()


def _bar(total: int) -> Any:
    """Return a bar of tqdm, on a terminal's standard error or in a notebook; elsewhere None."""
    notebook = _in_notebook()
    if not notebook and (sys.stderr is None or not sys.stderr.isatty()):
        return None
    with warnings.catch_warnings():
        # of the choice being experimental, and of a notebook without ipywidgets, which gets the bar of a terminal
        warnings.simplefilter("ignore")
        from tqdm.autonotebook import tqdm  # noqa: PLC0415 - 30 ms, which only a bar is worth

    # a notebook shows the two outputs apart, which would tear the bar and the lines
    output = sys.stdout if notebook else sys.stderr
    return tqdm(total=total, unit="batch", leave=False, dynamic_ncols=True, file=output)


def _in_notebook() -> bool:
    """Whether this process is the kernel of a notebook: a shell of IPython that has one."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return getattr(shell, "kernel", None) is not None


def epoch_line(history: History) -> str:
    """Return the last epoch in a line, as the tutorial prints it.

    Examples
    --------
    >>> from fastmlp.callbacks.bar import epoch_line
    >>> from fastmlp.training import History
    >>> epoch_line(History(loss=[0.25], seconds=[1.5]))
    'Epoch: 1 cost=0.2500 seconds=1.50'
    """
    values = {
        "cost": f"{history.loss[-1]:.4f}",
        **{name: f"{values[-1]:.4f}" for name, values in history.items() if name.startswith("validation_")},
        "seconds": f"{history.seconds[-1]:.2f}",
    }
    return f"Epoch: {len(history.loss)} " + " ".join(f"{name}={value}" for name, value in values.items())
