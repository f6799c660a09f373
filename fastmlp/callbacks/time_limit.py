"""An end to training by the clock."""

from __future__ import annotations

import time

from fastmlp import checks
from fastmlp.callbacks.protocol import Callback, Progress

__all__ = ["TimeLimit"]


class TimeLimit(Callback):
    """End training after some time: between two batches, up to some 10 ms late.

    What is done of the epoch at hand stays in the network; the history lacks it.

    Parameters
    ----------
    seconds : float
        From the beginning of `fit`, greater than 0.

    Examples
    --------
    >>> import numpy as np, fastmlp
    >>> limit = fastmlp.callbacks.TimeLimit(seconds=0.05)
    >>> history = fastmlp.MLP((2, 2)).fit(np.eye(2), [0, 1], epochs=10**9, callbacks=[limit], verbose=False)
    >>> len(history.loss) > 1
    True
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = checks.number("seconds", seconds, "greater than 0", lambda x: x > 0)
        self._end = 0.0

    def on_fit_begin(self, progress: Progress) -> None:
        """Start the clock."""
        self._end = time.monotonic() + self.seconds

    def on_batches(self, progress: Progress) -> None:
        """Look at the clock."""
        progress.stop |= time.monotonic() >= self._end

    def on_epoch_end(self, progress: Progress) -> None:
        """Look at the clock, for validation takes time, too."""
        self.on_batches(progress)
