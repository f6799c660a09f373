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
from fastmlp.losses import Loss, loss_of
from fastmlp.network import MLP
from fastmlp.rows import (
    Examples,
    Stream,
    Targets,
    checked_examples,
    checked_numbers,
    checked_shapes,
    column_names,
    weights_from_0,
)
from fastmlp.sparse import SparseRows
from fastmlp.streams import as_stream
from fastmlp.training.validation import Metric, Validation, checked_metrics
from fastmlp.training.windows import Windows

__all__ = ["Data", "Once", "caution", "checked_data"]


class Data(NamedTuple):
    """What a network learns from and is judged by, checked.

    Attributes
    ----------
    examples : Examples or Windows
        In memory, or of a stream.
    chosen : int64 array or None
        Numbers of the rows to learn from, where that is not all of them.
    validation : Validation or None
    distortion : Distortion or None

    Examples
    --------
    >>> import fastmlp
    >>> from fastmlp.training.data import checked_data
    >>> checked_data(fastmlp.MLP((2, 2)), [[0, 1], [1, 0]], [0, 1]).examples.targets.labels
    array([0, 1])
    """

    examples: Examples | Windows
    chosen: NDArray[np.int64] | None
    validation: Validation | None
    distortion: EngineDistortion | None

    @property
    def n(self) -> int | None:
        """How many rows it learns from; None where a stream's are not counted."""
        if isinstance(self.examples, Windows):
            return self.examples.stream.n
        return len(self.examples.rows if self.chosen is None else self.chosen)


def checked_data(
    network: MLP,
    X: ArrayLike | Stream,
    y: ArrayLike | None,
    rows: ArrayLike | None = None,
    *,
    sample_weight: ArrayLike | None = None,
    class_weight: Mapping[int, float] | str | None = None,
    validation_data: tuple[ArrayLike, ArrayLike] | Stream | None = None,
    metrics: Mapping[str, Metric] | Sequence[Metric] | None = None,
    augment: Distortion | None = None,
    epochs: int = 1,
    batch_size: int = 1,
    shuffle: bool = True,
    once: Once | None = None,
    cautious: bool = True,
    is_share: bool = False,
) -> Data:
    """Return all that `fit` learns from and is judged by: all shapes are checked before any value.

    Of a stream nothing is read yet, but for the weights of classes that are to be balanced.

    Examples
    --------
    >>> import fastmlp
    >>> from fastmlp.training.data import checked_data
    >>> checked_data(fastmlp.MLP((2, 2)), [[0, 1], [1, 0]], [0, 1], rows=[1]).n
    1
    """
    functions = checked_metrics(metrics, validation_data)
    stream = as_stream(X, y, sample_weight) if once is None else None  # many networks learn from rows in memory
    once = once or Once()
    shaped = _shaped(network, X, y, sample_weight, once, shuffle=shuffle) if stream is None else None
    held_out = _held_out(network, validation_data, once)
    distortion = _distortion(augment, network.layer_sizes[0])
    chosen = checked_numbers("rows", rows, shaped[0].shape[0]) if shaped and rows is not None else None
    validation = None if held_out is None else Validation(network, _examples(network, held_out, once), functions)
    if shaped is None:
        assert stream is not None
        _require_readable(stream, epochs)
        windows = Windows(
            network,
            stream,
            batch_size,
            shuffle=shuffle,
            class_weight=class_weight,
            distortion=distortion,
            cautious=cautious,
        )
        return Data(windows, None, validation, distortion)
    *arrays, own = shaped
    checked, targets = once(checked_examples, ("X", "y"), *arrays, *_task(network))
    weights = _weights(network, targets, own, class_weight, chosen)
    if not (is_share or weights is None or weights.any()):
        name = "sample_weight" if class_weight is None or not (own is None or own.any()) else "class_weight"
        where = "" if chosen is None and name == "sample_weight" else " among the rows to learn from"
        raise ValueError(f"{name} must have a weight above 0{where}; all are 0")
    if cautious and network._state is None:
        caution(network, checked, once(column_names, X), targets, once)
    return Data(Examples(checked, targets, weights), chosen, validation, distortion)


def _task(network: MLP) -> tuple[tuple[int, int], str | Loss]:
    """What checks of rows ask of a network: its inputs and outputs, and its loss."""
    return (network.layer_sizes[0], network.layer_sizes[-1]), network.loss


def _shaped(
    network: MLP, X: Any, y: Any, sample_weight: ArrayLike | None, once: Once, *, shuffle: bool
) -> tuple[Array, Array, Float32 | None]:
    """Rows in memory and their targets, of the right shapes, and the weights that the rows have of their own."""
    if y is None:
        raise TypeError("y must be an array of real numbers, not None: only a fastmlp.rows.Stream has its own")
    X, y = once(checked_shapes, ("X", "y"), X, y, *_task(network))
    if shuffle and X.shape[0] > 2**32:
        raise ValueError(f"shuffle must be False for more than 2**32 rows; X has {X.shape[0]}")
    own = None if sample_weight is None else once(weights_from_0, "sample_weight", sample_weight, X.shape[0])
    return X, y, own


def _require_readable(stream: Stream, epochs: int) -> None:
    if stream.n == 0:
        raise ValueError("X must have at least one row; the stream has 0")
    if stream.one_shot and epochs > 1:
        raise ValueError(
            f"chunks is an iterator, which can be read once, and epochs is {epochs}: a function that returns a new "
            "iterator each time can be read as often as it takes"
        )


def _distortion(augment: Distortion | None, k: int) -> EngineDistortion | None:
    if not (augment is None or isinstance(augment, Distortion)):
        raise TypeError(f"augment must be fastmlp.augment.Affine, Elastic or Compose, or None; not {augment!r:.80}")
    return None if augment is None else augment.engine_distortion("X", k)


_VALIDATION = "validation_data[0]", "validation_data[1]"


def _held_out(network: MLP, data: Any, once: Once) -> Any:
    """Validation data, of the right shapes; or a stream of it."""
    if isinstance(data, Stream):
        if data.n == 0:
            raise ValueError("validation_data must have at least one row; the stream has 0")
        if data.one_shot:
            raise ValueError("validation_data must be a stream that can be read after each epoch, not of an iterator")
        return data
    if data is None:
        return None
    if not isinstance(data, (tuple, list)):
        raise TypeError(f"validation_data must be a pair (X, y), not {type(data).__name__}; or a fastmlp.rows.Stream")
    if len(data) != 2:
        raise TypeError(f"validation_data must be a pair (X, y), not a {type(data).__name__} of {len(data)}")
    return as_stream(*data) or once(checked_shapes, _VALIDATION, *data, *_task(network))


def _examples(network: MLP, held_out: Any, once: Once) -> Examples | Stream:
    """What `_held_out` gave, with sound values; those of a stream are looked at as they are read."""
    if isinstance(held_out, Stream):
        return held_out
    return Examples(*once(checked_examples, _VALIDATION, *held_out, *_task(network)))


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
    if own is None or chosen is None:
        return own
    weights = np.zeros(len(targets.given), np.float32)
    weights[chosen] = own
    return weights


def caution(network: MLP, rows: Array | SparseRows, columns: Sequence[Any], targets: Targets, once: Once) -> None:
    """Warn, in a network's first fit alone, of what it will hardly learn from.

    Examples
    --------
    >>> import numpy as np, fastmlp
    >>> from fastmlp.rows import Targets
    >>> from fastmlp.training.data import Once, caution
    >>> caution(fastmlp.MLP((2, 2)), np.eye(2, dtype=np.float32), [], Targets(np.array([0, 1]), None), Once())
    """
    once(cautions.about_inputs, rows, columns)
    if targets.labels is not None:
        once(cautions.about_classes, targets.labels, network.layer_sizes[-1])
    elif loss_of(network.loss).targets == "values":
        once(cautions.about_values, targets.given)


def _identity(argument: Any) -> Any:
    """What tells an argument from others: names and numbers themselves, and short tuples of them."""
    own = argument if isinstance(argument, tuple) and len(argument) <= 2 else (argument,)
    return argument if all(type(one) in (str, int) for one in own) else id(argument)


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
        key = (function, *map(_identity, arguments))
        if key not in self._results:
            self._results[key] = function(*arguments), arguments  # which are to live, as their identities do
        return self._results[key][0]
