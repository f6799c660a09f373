"""What acts when a value of the history is better, or has not been for some epochs."""

from __future__ import annotations

import math
from typing import Any

from fastmlp import checks
from fastmlp.callbacks.protocol import Callback, Progress

__all__ = ["EarlyStopping", "ReduceOnPlateau"]

# The ends of names whose values are to fall; those of scikit-learn's errors are among them.
FALLING = ("loss", "error", "deviance", "mse", "rmse", "mae")


class _Monitor(Callback):
    """Base of both: says when the monitored value is better, and when it has not been for `patience` epochs."""

    def __init__(self, monitor: str, patience: int, min_delta: float, mode: str) -> None:
        if not isinstance(monitor, str):
            raise TypeError(f"monitor must be the name of a value of the history, not {monitor!r:.80}")
        self.monitor = monitor
        self.patience = checks.integer("patience", patience, least=1)
        self.min_delta = checks.number("min_delta", min_delta, "at least 0", lambda x: x >= 0)
        self.mode = checks.one_of("mode", mode, ("auto", "min", "max"))
        self.best: float | None = None
        self.waited = 0

    def on_fit_begin(self, progress: Progress) -> None:
        """Check the monitor, and begin anew, if this is no run that goes on."""
        if self.monitor not in progress.history:
            names = ", ".join(progress.history)
            need = "; validation_data is missing" if self.monitor.startswith("validation_") else ""
            raise ValueError(f"monitor must be one of this training's {names}; not {self.monitor!r:.80}{need}")
        if not progress.history.loss:
            self.best, self.waited = None, 0

    def on_epoch_end(self, progress: Progress) -> None:
        """Look at the epoch's value."""
        value = progress.history[self.monitor][-1]
        if self._is_better(value):
            self.best, self.waited = value, 0
            self._on_better(progress)
        else:
            self.waited += 1
            if self.waited >= self.patience:
                self._on_end_of_patience(progress)

    def get_state(self) -> dict[str, Any]:
        """Return the best value, and how long ago it was."""
        return {"best": self.best, "waited": self.waited}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take them."""
        self.best, self.waited = state["best"], state["waited"]

    def _is_better(self, value: float) -> bool:
        if self.best is None:
            return not math.isnan(value)
        if self.mode == "min" or (self.mode == "auto" and self.monitor.endswith(FALLING)):
            return value < self.best - self.min_delta
        return value > self.best + self.min_delta

    def _on_better(self, progress: Progress) -> None:
        pass

    def _on_end_of_patience(self, progress: Progress) -> None:
        raise NotImplementedError


class EarlyStopping(_Monitor):
    """End training when a value of the history gets no better, and give the network the parameters of its best epoch.

    It gets them at the end of `fit`, whatever ends it; the optimizer's state stays that of the last epoch. Where the
    optimizer has `ema`, they are the averages, and those of `MLP.averaged`, too. `best` and `best_epoch`, from 1, are
    for reading.

    Parameters
    ----------
    monitor : str, default "validation_loss"
        A value of the history, such as "loss", "validation_accuracy" or "validation_" with the name of a metric.
    patience : int, default 10
        Epochs in a row that are not better, after which training ends.
    min_delta : float, default 0.0
        By how much a better value is better, at least.
    mode : {"auto", "min", "max"}, default "auto"
        Whether the value is to fall or to rise. "auto": to fall, where its name ends in loss, error, deviance, mse,
        rmse or mae; others, as an accuracy, are to rise.

    Raises
    ------
    TypeError, ValueError
        An argument is wrong; or, from `fit` and before training, the history has no such value.

    Examples
    --------
    >>> import numpy as np, fastmlp
    >>> X, y = np.random.default_rng(0).normal(size=(90, 5)), np.arange(90) % 3  # nothing to be learned
    >>> stop = fastmlp.callbacks.EarlyStopping(patience=3)
    >>> data = {"validation_data": (X[60:], y[60:]), "callbacks": [stop], "verbose": False}
    >>> history = fastmlp.MLP((5, 50, 3)).fit(X[:60], y[:60], epochs=1000, **data)
    >>> len(history.loss) - stop.best_epoch, stop.best == min(history.validation_loss)
    (3, True)
    """

    def __init__(
        self, monitor: str = "validation_loss", patience: int = 10, min_delta: float = 0.0, mode: str = "auto"
    ) -> None:
        super().__init__(monitor, patience, min_delta, mode)
        self.best_epoch = 0
        self._values: Any = None

    def on_fit_begin(self, progress: Progress) -> None:
        """Check the monitor. A run that had ended goes no further."""
        super().on_fit_begin(progress)
        if self.best is None:
            self.best_epoch, self._values = 0, None
        progress.stop |= self.waited >= self.patience

    def on_fit_end(self, progress: Progress) -> None:
        """Restore the best parameters."""
        if self._values is not None:
            network = progress.network
            network._values[:] = self._values
            if network._state is not None and network._state.averages is not None:
                network._state.averages[:] = network.parameters

    def get_state(self) -> dict[str, Any]:
        """Return the best value, how long ago it was, and the network's values of then."""
        kept = {} if self._values is None else {"values": self._values}
        return {**super().get_state(), "best_epoch": self.best_epoch, **kept}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take them."""
        super().set_state(state)
        self.best_epoch, self._values = state["best_epoch"], state.get("values")

    def _on_better(self, progress: Progress) -> None:
        self.best_epoch, self._values = len(progress.history.loss), progress.network._judged()._values.copy()

    def _on_end_of_patience(self, progress: Progress) -> None:
        progress.stop = True


class ReduceOnPlateau(_Monitor):
    """Multiply the learning rate by a factor whenever a value of the history has got no better for some epochs.

    Parameters
    ----------
    monitor : str, default "validation_loss"
        As in `EarlyStopping`.
    factor : float, default 0.1
        In (0, 1).
    patience : int, default 5
        Epochs in a row that are not better, after which the rate is reduced; then they are counted anew.
    min_delta : float, default 0.0
        As in `EarlyStopping`.
    mode : {"auto", "min", "max"}, default "auto"
        As in `EarlyStopping`.
    min_learning_rate : float, default 0.0
        The rate is not reduced below it.

    Raises
    ------
    TypeError, ValueError
        An argument is wrong; or, from `fit` and before training, the history has no such value, or the optimizer a
        schedule for its learning rate.

    Examples
    --------
    >>> import numpy as np, fastmlp
    >>> X, y = np.random.default_rng(0).normal(size=(90, 5)), np.arange(90) % 3  # nothing to be learned
    >>> reduce = fastmlp.callbacks.ReduceOnPlateau(patience=3)
    >>> data = {"validation_data": (X[60:], y[60:]), "callbacks": [reduce], "verbose": False}
    >>> history = fastmlp.MLP((5, 50, 3)).fit(X[:60], y[:60], epochs=50, **data)
    >>> history.learning_rate[0], history.learning_rate[-1] < 1e-4
    (0.001, True)
    """

    def __init__(
        self,
        monitor: str = "validation_loss",
        factor: float = 0.1,
        patience: int = 5,
        min_delta: float = 0.0,
        mode: str = "auto",
        *,
        min_learning_rate: float = 0.0,
    ) -> None:
        super().__init__(monitor, patience, min_delta, mode)
        self.factor = checks.number("factor", factor, "in (0, 1)", lambda x: 0 < x < 1)
        self.min_learning_rate = checks.number("min_learning_rate", min_learning_rate, "at least 0", lambda x: x >= 0)

    def on_fit_begin(self, progress: Progress) -> None:
        """Check the monitor and the optimizer."""
        super().on_fit_begin(progress)
        self._rate(progress)

    def _on_end_of_patience(self, progress: Progress) -> None:
        rate = self._rate(progress)
        progress.optimizer.learning_rate = max(rate * self.factor, min(rate, self.min_learning_rate))
        self.waited = 0

    def _rate(self, progress: Progress) -> float:
        rate = progress.optimizer.learning_rate
        if callable(rate):
            raise ValueError(f"ReduceOnPlateau needs a learning_rate that is a number, not {rate!r:.80}")
        return rate
