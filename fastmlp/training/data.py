"""What `fit` learns from and is judged by: arrays in memory or a stream, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from numpy.typing import ArrayLike

from fastmlp import cautions
from fastmlp.arrays import Array, Float32
from fastmlp.augment import Distortion
from fastmlp.class_weights import weights_of_rows
from fastmlp.engine.distortion import Distortion as EngineDistortion
from fastmlp.losses import loss_of
from fastmlp.network import MLP
from fastmlp.rows import Examples, Stream, checked_examples, checked_shapes, checked_weights, column_names
from fastmlp.streams import as_stream
from fastmlp.training.validation import Metric, Validation, checked_metrics
from fastmlp.training.windows import Windows

__all__ = ["Data", "checked_data"]


class Data(NamedTuple):
    """What a run has: rows in memory, or the windows of a stream; what judges it; how images are distorted.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp.rows import Examples, Targets
    >>> from fastmlp.training.data import Data
    >>> Data(Examples(np.eye(2), Targets(np.array([0, 1]), None)), None, None).n
    2
    """

    examples: Examples | Windows
    validation: Validation | None
    distortion: EngineDistortion | None

    @property
    def n(self) -> int | None:
        """Rows; None where a stream's are not counted."""
        return self.examples.stream.n if isinstance(self.examples, Windows) else len(self.examples.rows)


def checked_data(
    network: MLP,
    X: ArrayLike | Stream,
    y: ArrayLike | None,
    *,
    sample_weight: ArrayLike | None,
    class_weight: Mapping[int, float] | str | None,
    validation_data: tuple[ArrayLike, ArrayLike] | Stream | None,
    metrics: Mapping[str, Metric] | Sequence[Metric] | None,
    augment: Distortion | None,
    epochs: int,
    batch_size: int,
    shuffle: bool,
) -> Data:
    """Return what the arguments of `fit` are; of a stream in memory nothing is read yet.

    Examples
    --------
    >>> import numpy as np, fastmlp
    >>> from fastmlp.training.data import checked_data
    >>> none = dict.fromkeys(("sample_weight", "class_weight", "validation_data", "metrics", "augment"))
    >>> data = checked_data(fastmlp.MLP((2, 2)), np.eye(2), [0, 1], epochs=1, batch_size=1, shuffle=True, **none)
    >>> data.n
    2
    """
    functions = checked_metrics(metrics, validation_data)
    stream = as_stream(X, y, sample_weight)
    if stream is None:
        shaped = _shaped(network, X, y, sample_weight, shuffle=shuffle)
    else:
        _require_readable(stream, epochs)
    held_out = _held_out(network, validation_data)
    distortion = _distortion(augment, network.layer_sizes[0])
    validation = _validation(network, held_out, functions)
    examples: Examples | Windows
    if stream is None:
        examples = _examples(network, *shaped, class_weight)
        _caution(network, examples, column_names(X))
    else:
        examples = Windows(
            network, stream, batch_size, shuffle=shuffle, class_weight=class_weight, distortion=distortion
        )
    return Data(examples, validation, distortion)


def _require_readable(stream: Stream, epochs: int) -> None:
    if stream.n == 0:
        raise ValueError("X must have at least one row; the stream has 0")
    if stream.one_shot and epochs > 1:
        raise ValueError(
            f"chunks is an iterator, which can be read once, and epochs is {epochs}: a function that returns a new "
            "iterator each time can be read as often as it takes"
        )


def _shaped(
    network: MLP, X: Any, y: Any, sample_weight: ArrayLike | None, *, shuffle: bool
) -> tuple[Array, Array, Float32 | None]:
    """Rows in memory and their targets, of the right shapes, and their weights."""
    if y is None:
        raise TypeError("y must be an array of real numbers, not None: only a fastmlp.rows.Stream has its own")
    X, y = checked_shapes(("X", "y"), X, y, network.layer_sizes, network.loss)
    if shuffle and X.shape[0] > 2**32:
        raise ValueError(f"shuffle must be False for more than 2**32 rows; X has {X.shape[0]}")
    return X, y, checked_weights(sample_weight, X.shape[0])


def _examples(
    network: MLP, X: Array, y: Array, weights: Float32 | None, class_weight: Mapping[int, float] | str | None
) -> Examples:
    """What `_shaped` gave, with sound values, and weights that have those of the classes in them."""
    rows, targets = checked_examples(("X", "y"), X, y, network.layer_sizes, network.loss)
    if class_weight is not None:
        weights = weights_of_rows(class_weight, targets, network.layer_sizes[-1], network.loss, weights)
        if not weights.any():
            raise ValueError("class_weight must leave rows with weights above 0; all are 0")
    return Examples(rows, targets, weights)


def _distortion(augment: Distortion | None, k: int) -> EngineDistortion | None:
    if not (augment is None or isinstance(augment, Distortion)):
        raise TypeError(f"augment must be fastmlp.augment.Affine, Elastic or Compose, or None; not {augment!r:.80}")
    return None if augment is None else augment.engine_distortion("X", k)


_VALIDATION = "validation_data[0]", "validation_data[1]"


def _held_out(network: MLP, data: Any) -> Any:
    """Validation data of the right shapes, or a stream of it."""
    if data is None or isinstance(data, Stream):
        if data is not None and data.one_shot:
            raise ValueError("validation_data must be a stream that can be read after each epoch, not of an iterator")
        return data
    if not isinstance(data, (tuple, list)):
        raise TypeError(f"validation_data must be a pair (X, y), not {type(data).__name__}; or a fastmlp.rows.Stream")
    if len(data) != 2:
        raise TypeError(f"validation_data must be a pair (X, y), not a {type(data).__name__} of {len(data)}")
    X, y = data
    return as_stream(X, y) or checked_shapes(_VALIDATION, X, y, network.layer_sizes, network.loss)


def _validation(network: MLP, held_out: Any, functions: Mapping[str, Metric]) -> Validation | None:
    if held_out is None:
        return None
    if not isinstance(held_out, Stream):
        X, y = held_out
        held_out = Examples(*checked_examples(_VALIDATION, X, y, network.layer_sizes, network.loss))
    return Validation(network, held_out, functions)


def _caution(network: MLP, examples: Examples, columns: Sequence[Any]) -> None:
    """Warn, in a network's first fit alone, of what it will hardly learn from."""
    if network._state is not None:
        return
    cautions.about_inputs(examples.rows, columns)
    if examples.targets.labels is not None:
        cautions.about_classes(examples.targets.labels, network.layer_sizes[-1])
    elif loss_of(network.loss).targets == "values":
        cautions.about_values(examples.targets.given)
