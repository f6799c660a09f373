"""What a network is judged by after each epoch: its loss, its accuracy, and metrics of the user's own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Real
from typing import Any, TypeAlias

import numpy as np

from fastmlp.arrays import Array
from fastmlp.chunks import chunks_ahead
from fastmlp.losses import loss_of
from fastmlp.metrics import Scores
from fastmlp.network import MLP
from fastmlp.rows import Examples, Stream, Targets

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
    data : Examples or Stream
        A stream is read anew each time; for metrics, the targets and predictions of all its rows are in memory.
        Weights of rows, if it has some, count in loss and accuracy.
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
    >>> from fastmlp.rows import Examples, Targets
    >>> from fastmlp.training.validation import Validation
    >>> metrics = {"wrong": lambda y_true, y_pred: sum(y_true != y_pred)}
    >>> data = Examples(np.eye(2, dtype=np.float32), Targets(np.array([0, 1]), None))
    >>> net = fastmlp.MLP((2, 2))
    >>> list(Validation(net, data, metrics).judge(net))
    ['validation_loss', 'validation_accuracy', 'validation_wrong']
    """

    def __init__(self, network: MLP, data: Examples | Stream, metrics: Mapping[str, Metric]) -> None:
        self.network = network
        self.data = data
        self.metrics = metrics
        if metrics:
            targets = next(self._chunks()).targets
            truth, certainty = self._truth(targets), self._certainty(targets)
            for name, metric in metrics.items():
                _value(name, metric(truth, certainty if self._wants_probabilities(name) else truth))

    def _chunks(self) -> Iterator[Examples]:
        if not isinstance(self.data, Stream):
            return iter([self.data])
        return chunks_ahead(self.data, self.network.layer_sizes, self.network.loss)

    @property
    def names(self) -> list[str]:
        """What `judge` computes."""
        accuracy = ["accuracy"] if "accuracy" in loss_of(self.network.loss).scores else []
        return [f"validation_{name}" for name in ("loss", *accuracy, *self.metrics)]

    def judge(self, network: MLP) -> dict[str, float]:
        """Return all values for a network of the same kind as it is, by their names in the history."""
        found = Scores(self.network.loss)
        truth, decided, certain = [], [], []
        for rows, targets, weights in self._chunks():
            logits = network._logits(rows)
            found.add(logits, targets, weights)
            if self.metrics:
                truth.append(self._truth(targets))
                decided.append(network._decide(logits))
            if any(map(self._wants_probabilities, self.metrics)):
                certain.append(network._probabilities(logits))
        values = found.values()
        for name, metric in self.metrics.items():
            predicted = np.concatenate(certain if self._wants_probabilities(name) else decided)
            predicted = predicted[:, 0] if predicted.shape[1:] == (1,) else predicted
            values[name] = _value(name, metric(np.concatenate(truth), predicted))
        return {name: values[name.removeprefix("validation_")] for name in self.names}

    def _truth(self, targets: Targets) -> Array:
        """What `predict` should return: of classes the labels, of yes or no 0 and 1 as whole numbers."""
        if targets.labels is not None:
            return targets.labels
        values, kind = targets.given, loss_of(self.network.loss).targets
        if kind == "classes":
            return np.asarray(values.argmax(axis=1))
        values = values[:, 0] if values.shape[1:] == (1,) else values
        return values.astype(np.int64) if kind == "probabilities" and np.isin(values, (0, 1)).all() else values

    def _certainty(self, targets: Targets) -> Array:
        """The truth as `predict_proba` would tell it."""
        if targets.labels is not None:
            return np.eye(self.network.layer_sizes[-1], dtype=np.float32)[targets.labels]
        return targets.given.reshape(-1) if self.network.layer_sizes[-1] == 1 else targets.given

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
