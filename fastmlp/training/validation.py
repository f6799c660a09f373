"""What a network is judged by after each epoch: its loss, its accuracy, and metrics of the user's own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any, TypeAlias

import numpy as np

from fastmlp.arrays import Array
from fastmlp.losses import loss_of
from fastmlp.metrics import scores
from fastmlp.network import MLP
from fastmlp.rows import Targets
from fastmlp.sparse import SparseRows

__all__ = ["Validation", "checked_metrics"]

Metric: TypeAlias = Callable[[Any, Any], float]


def checked_metrics(
    metrics: Mapping[str, Metric] | Sequence[Metric] | None, validation_data: object
) -> dict[str, Metric]:
    """Return functions by their names; they need validation data.

    Examples
    --------
    >>> from fastmlp.training.validation import checked_metrics
    >>> def error(y_true, y_pred):
    ...     return (y_true != y_pred).mean()
    >>> data = [[0.5]], [1]
    >>> list(checked_metrics([error], data)), list(checked_metrics({"wrong": error}, data))
    (['error'], ['wrong'])
    """
    if metrics is None:
        return {}
    if isinstance(metrics, (str, bytes)) or not isinstance(metrics, (Mapping, Sequence)):
        raise TypeError(
            f"metrics must be a dictionary of functions by their names, or a list of them, not {metrics!r:.80}"
        )
    pairs = list(metrics.items()) if isinstance(metrics, Mapping) else [(_name(metric), metric) for metric in metrics]
    for name, metric in pairs:
        if not callable(metric):
            raise TypeError(f"metrics must hold functions of (y_true, y_pred), not {metric!r:.80}")
        if not isinstance(name, str) or not name or name in ("loss", "accuracy"):
            raise ValueError(f"metrics must have names, which loss and accuracy are not free for; not {name!r:.80}")
    if pairs and validation_data is None:
        raise ValueError("metrics are computed on validation_data, which is missing")
    if len(dict(pairs)) < len(pairs):
        raise ValueError(f"metrics must have names of their own; they have {', '.join(name for name, _ in pairs)}")
    return dict(pairs)


class Validation:
    """Rows that are not learned from, what they are, and what is computed of them.

    Parameters
    ----------
    network : MLP
        The kind of network that it judges.
    rows : array or SparseRows
    targets : Targets
    metrics : dict of str to function
        Of (y_true, y_pred): labels (n,), or what `predict` returns. A function whose second argument has a name that
        begins with y_prob or y_score gets what `predict_proba` returns, of one output (n,).

    Raises
    ------
    ValueError
        A metric, tried on y_true as its own prediction, does not return a number, or wants probabilities that the
        network does not have.

    Examples
    --------
    >>> import numpy as np, fastmlp
    >>> from fastmlp.rows import Targets
    >>> from fastmlp.training.validation import Validation
    >>> metrics = {"wrong": lambda y_true, y_pred: sum(y_true != y_pred)}
    >>> rows, targets = np.eye(2, dtype=np.float32), Targets(np.array([0, 1]), None)
    >>> net = fastmlp.MLP((2, 2))
    >>> list(Validation(net, rows, targets, metrics).judge(net))
    ['validation_loss', 'validation_accuracy', 'validation_wrong']
    """

    def __init__(self, network: MLP, rows: Array | SparseRows, targets: Targets, metrics: Mapping[str, Metric]) -> None:
        self.network = network
        self.rows = rows
        self.targets = targets
        self.metrics = metrics
        self.truth = self._truth()
        for name, metric in metrics.items():
            _value(name, metric(self.truth, self._certainty() if self._wants_probabilities(name) else self.truth))

    @property
    def names(self) -> list[str]:
        """What `judge` computes."""
        accuracy = ["accuracy"] if "accuracy" in loss_of(self.network.loss).scores else []
        return [f"validation_{name}" for name in ("loss", *accuracy, *self.metrics)]

    def judge(self, network: MLP) -> dict[str, float]:
        """Return all values for a network of the same kind as it is, by their names in the history."""
        logits = network._logits(self.rows)
        values = scores(logits, self.targets, self.network.loss)
        for name, metric in self.metrics.items():
            if self._wants_probabilities(name):
                predicted = network._probabilities(logits.copy())
                predicted = predicted[:, 0] if predicted.shape[1] == 1 else predicted
            else:
                predicted = network._decide(logits)
            values[name] = _value(name, metric(self.truth, predicted))
        return {name: values[name.removeprefix("validation_")] for name in self.names}

    def _truth(self) -> Array:
        """What `predict` should return: of classes the labels, of yes or no 0 and 1 as whole numbers."""
        if self.targets.labels is not None:
            return self.targets.labels
        values, kind = self.targets.given, loss_of(self.network.loss).targets
        if kind == "classes":
            return np.asarray(values.argmax(axis=1))
        values = values[:, 0] if values.shape[1:] == (1,) else values
        return values.astype(np.int64) if kind == "probabilities" and np.isin(values, (0, 1)).all() else values

    def _certainty(self) -> Array:
        """The truth as `predict_proba` would tell it."""
        if self.targets.labels is not None:
            return np.eye(self.network.layer_sizes[-1], dtype=np.float32)[self.targets.labels]
        return self.targets.given.reshape(self.truth.shape) if self.network.layer_sizes[-1] == 1 else self.targets.given

    def _wants_probabilities(self, name: str) -> bool:
        try:
            arguments = list(inspect.signature(self.metrics[name]).parameters)
        except ValueError:  # a function of C that does not tell
            return False
        wants = arguments[1:] != [] and arguments[1].startswith(("y_prob", "y_score"))
        if wants and not loss_of(self.network.loss).output.is_probability:
            raise ValueError(f"metrics[{name!r}] wants probabilities, which loss={self.network.loss!r} does not have")
        return wants


def _name(metric: object) -> str:
    name = getattr(metric, "__name__", "")
    if not name.isidentifier():  # a lambda, a partial
        raise ValueError(f"metrics must be a dictionary where functions have no names of their own, as {metric!r:.80}")
    return name


def _value(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ValueError(f"metrics[{name!r}] must return a number, not {value!r:.80}")
    return float(value)
