"""What `fit` learns from and is judged by, checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastmlp import cautions
from fastmlp.arrays import Array, Float32
from fastmlp.augment import Distortion
from fastmlp.class_weights import weights_of_rows
from fastmlp.engine.distortion import Distortion as EngineDistortion
from fastmlp.losses import loss_of
from fastmlp.network import MLP
from fastmlp.rows import Targets, checked_examples, checked_numbers, checked_shapes, checked_weights, column_names
from fastmlp.sparse import SparseRows
from fastmlp.training.validation import Metric, Validation, checked_metrics

__all__ = ["Data", "Once", "checked_data"]


class Data(NamedTuple):
    """What a network learns from and is judged by, checked.

    Attributes
    ----------
    X : array or SparseRows
    targets : Targets
    weights : float32 array (n,) or None
    chosen : int64 array or None
        Numbers of the rows to learn from, where that is not all of them.
    validation : Validation or None
    distortion : Distortion or None

    Examples
    --------
    >>> import fastmlp
    >>> from fastmlp.training.data import checked_data
    >>> checked_data(fastmlp.MLP((2, 2)), [[0, 1], [1, 0]], [0, 1]).targets.labels
    array([0, 1])
    """

    X: Array | SparseRows
    targets: Targets
    weights: Float32 | None
    chosen: NDArray[np.int64] | None
    validation: Validation | None
    distortion: EngineDistortion | None

    @property
    def n(self) -> int:
        """How many rows it learns from."""
        return len(self.X if self.chosen is None else self.chosen)


def checked_data(
    network: MLP,
    X: ArrayLike,
    y: ArrayLike,
    rows: ArrayLike | None = None,
    *,
    sample_weight: ArrayLike | None = None,
    class_weight: Mapping[int, float] | str | None = None,
    validation_data: tuple[ArrayLike, ArrayLike] | None = None,
    metrics: Mapping[str, Metric] | Sequence[Metric] | None = None,
    augment: Distortion | None = None,
    shuffle: bool = True,
    once: Once | None = None,
) -> Data:
    """Return all that `fit` learns from and is judged by: all shapes are checked before any value.

    Examples
    --------
    >>> import fastmlp
    >>> from fastmlp.training.data import checked_data
    >>> checked_data(fastmlp.MLP((2, 2)), [[0, 1], [1, 0]], [0, 1], rows=[1]).n
    1
    """
    once = once or Once()
    functions = checked_metrics(metrics, validation_data)
    names, validation_names = ("X", "y"), ("validation_data[0]", "validation_data[1]")
    task = (network.layer_sizes[0], network.layer_sizes[-1]), network.loss
    columns = once(column_names, X)
    shaped = once(checked_shapes, names, X, y, *task)
    n, k = shaped[0].shape
    if shuffle and n > 2**32:
        raise ValueError(f"shuffle must be False for more than 2**32 rows; X has {n}")
    pair = None if validation_data is None else _pair(validation_data)
    held_out = None if pair is None else once(checked_shapes, validation_names, *pair, *task)
    weights = once(checked_weights, sample_weight, n)
    if not (augment is None or isinstance(augment, Distortion)):
        raise TypeError(f"augment must be fastmlp.augment.Affine, Elastic or Compose, or None; not {augment!r:.80}")
    distortion = None if augment is None else augment.engine_distortion("X", k)
    chosen = None if rows is None else checked_numbers("rows", rows, n)
    examples = None if held_out is None else once(checked_examples, validation_names, *held_out, *task)
    checked, targets = once(checked_examples, names, *shaped, *task)
    weights = _weights(network, targets, weights, class_weight, chosen)
    validation = None if examples is None else Validation(network, examples[0], examples[1], functions)
    if network._state is None:
        _caution(network, checked, columns, targets, once)
    return Data(checked, targets, weights, chosen, validation, distortion)


def _weights(
    network: MLP,
    targets: Targets,
    weights: Float32 | None,
    class_weight: Mapping[int, float] | str | None,
    chosen: NDArray[np.int64] | None,
) -> Float32 | None:
    """The weight of each row: its own times that of its class among those that are learned from."""
    everything = slice(None) if chosen is None else chosen
    own = None if weights is None else weights[everything]
    if class_weight is not None:
        labels, values = targets
        some = Targets(None if labels is None else labels[everything], None if values is None else values[everything])
        own = weights_of_rows(class_weight, some, network.layer_sizes[-1], network.loss, own)
    elif own is not None and not own.any():
        raise ValueError("sample_weight must have a weight above 0 among the rows to learn from; all are 0")
    if own is None or chosen is None:
        return own
    weights = np.zeros(len(targets.given), np.float32)
    weights[chosen] = own
    return weights


def _caution(network: MLP, rows: Array | SparseRows, columns: Sequence[Any], targets: Targets, once: Once) -> None:
    """Warn, in a network's first fit alone, of what it will hardly learn from."""
    once(cautions.about_inputs, rows, columns)
    if targets.labels is not None:
        once(cautions.about_classes, targets.labels, network.layer_sizes[-1])
    elif loss_of(network.loss).targets == "values":
        once(cautions.about_values, targets.given)


def _pair(data: tuple[ArrayLike, ArrayLike]) -> tuple[ArrayLike, ArrayLike]:
    if not isinstance(data, (tuple, list)):
        raise TypeError(f"validation_data must be a pair (X, y), not {type(data).__name__}")
    if len(data) != 2:
        raise TypeError(f"validation_data must be a pair (X, y), not a {type(data).__name__} of {len(data)}")
    return data[0], data[1]


class Once:
    """Calls functions, but once for the same arguments: what many networks that learn from the same rows ask of them.

    Examples
    --------
    >>> from fastmlp.training.data import Once
    >>> once = Once()
    >>> once(print, "twice the same"), once(print, "twice the same")
    twice the same
    (None, None)
    """

    def __init__(self) -> None:
        self._results: dict[Any, Any] = {}

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return what the function returns, or has returned: for the same arrays, and equal names and numbers."""
        key = (function, *(one if isinstance(one, (str, int, tuple)) else id(one) for one in arguments))
        if key not in self._results:
            self._results[key] = function(*arguments), arguments  # which are to live, as their identities do
        return self._results[key][0]
