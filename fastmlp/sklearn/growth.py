"""Classes that come while a classifier learns row by row: its network gets outputs for them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state

from fastmlp.arrays import Float32
from fastmlp.layers import n_parameters
from fastmlp.network import MLP

__all__ = ["grow"]


def grow(estimator: Any, classes: NDArray[Any]) -> str:
    """Add classes to those that a classifier knows; return its kind, "binary" or "multiclass".

    Hidden layers and the outputs of known classes stay what they are, optimizer state included; the weights of the new
    ones are drawn like first weights. One logistic output becomes two whose difference it is, so that the probabilities
    of the two classes keep their ratio, but the optimizer forgets it.

    Examples
    --------
    >>> from fastmlp.sklearn import MLPClassifier
    >>> classifier = MLPClassifier(4, grow_classes=True).partial_fit([[0.0], [1.0]], ["b", "c"])
    >>> classifier.partial_fit([[2.0]], ["a"]).classes_.tolist()
    ['a', 'b', 'c']
    """
    known, network = estimator.classes_, vars(estimator).get("network_")
    together = np.union1d(known, classes)
    kind = "binary" if len(together) <= 2 else "multiclass"
    if len(together) == len(known):
        return kind
    estimator.classes_ = together
    if network is not None:
        estimator.network_ = _wider(estimator, kind, len(known), np.searchsorted(together, known))
    return kind


def _wider(estimator: Any, kind: str, n_known: int, places: NDArray[np.int64]) -> MLP:
    """Return the network with an output for each class, where known ones have these places."""
    network, n_classes = estimator.network_, len(estimator.classes_)
    outputs, estimator._kind = (1 if kind == "binary" else n_classes), kind
    wider = MLP._unfilled(**estimator._arguments((*network.layer_sizes[:-1], outputs)), n_threads=network.n_threads)
    wider.seed = network.seed
    units, before = network.layers[-1].inputs, network.layer_sizes[-1]
    random = check_random_state(estimator.random_state)
    bound = np.sqrt(6 / (units + outputs))

    def filled(values: Float32, new: Float32, *, keeps: bool) -> Float32:
        """The same with the last layer's weights and bias (units + 1, n_classes) in the place of its own."""
        end = n_parameters(network.layers[:-1])
        if keeps:
            new[:, places] = _by_class(values[end : end + (units + 1) * before].reshape(-1, before), n_known)
        last = new[:, 1:] - new[:, :1] if kind == "binary" else new
        return np.concatenate([values[:end], last.ravel(), values[n_parameters(network.layers) :]], dtype=np.float32)

    drawn = random.uniform(-bound, bound, (units + 1, n_classes)).astype(np.float32)
    wider._few_rows[:] = filled(network._values, drawn, keeps=True)
    if network._state is not None:
        nothing = np.zeros_like(drawn)
        first, second = (filled(moment, nothing.copy(), keeps=before > 1) for moment in network._state.moments)
        wider._state = network._state._replace(moments=(first, second))
    return wider


def _by_class(last: Float32, n_classes: int) -> Float32:
    """What one logistic output means as a logit of each class."""
    return last if last.shape[1] > 1 else np.hstack([-last / 2, last / 2], dtype=np.float32)[:, :n_classes]
