"""What a fitted estimator shows of its network, and how it goes elsewhere and comes back."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastmlp.arrays import Float32
from fastmlp.losses import loss_of
from fastmlp.network import MLP
from fastmlp.sklearn import exchange, files

__all__ = ["Arrays", "Fitted"]


class Arrays(list[Float32]):
    """Arrays of a network's own memory: what takes the place of one is written into it.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp.sklearn.fitted import Arrays
    >>> array = np.zeros(2, np.float32)
    >>> arrays = Arrays([array])
    >>> arrays[0] = [1, 2]
    >>> array
    array([1., 2.], dtype=float32)
    """

    def __setitem__(self, which: Any, values: Any) -> None:
        """Write values, of the same shape, into an array, or into some."""
        if not isinstance(which, slice):
            which, values = slice(which, which + 1 or None), [values]
        for array, new in zip(self[which], values, strict=True):
            if np.shape(new) != array.shape:
                raise ValueError(f"an array of shape {array.shape} cannot take values of shape {np.shape(new)}")
            array[...] = new


class Fitted:
    """What all estimators have once they are fitted.

    Examples
    --------
    >>> from fastmlp.sklearn import MLPRegressor
    >>> MLPRegressor(hidden_layer_sizes=3).partial_fit([[0.0], [1.0]], [0.0, 1.0]).n_layers_
    3
    """

    @property
    def coefs_(self) -> Arrays:
        """Weights of each layer, float32 (n_in, n_out): the network's own memory, which may be written to."""
        return Arrays(self._network().weights)

    @coefs_.setter
    def coefs_(self, values: Iterable[ArrayLike]) -> None:
        self.coefs_[:] = list(values)

    @property
    def intercepts_(self) -> Arrays:
        """Bias of each layer, float32 (n_out,), as `coefs_`."""
        return Arrays(self._network().biases)

    @intercepts_.setter
    def intercepts_(self, values: Iterable[ArrayLike]) -> None:
        self.intercepts_[:] = list(values)

    @property
    def n_layers_(self) -> int:
        """Layers, inputs and outputs included."""
        return len(self._network().layer_sizes)

    @property
    def n_outputs_(self) -> int:
        """Outputs of the network."""
        return self._network().layer_sizes[-1]

    @property
    def out_activation_(self) -> str:
        """Activation of the outputs, by scikit-learn's name."""
        name = loss_of(self._network().loss).output.name
        return {"exponential": "exp"}.get(name, name)

    def _network(self) -> MLP:
        """The network; before `fit` an AttributeError, so that its attributes are not there."""
        try:
            network: MLP = vars(self)["network_"]
        except KeyError:
            raise AttributeError(f"this {type(self).__name__} is not fitted yet") from None
        return network

    # -- To elsewhere, and back

    @classmethod
    def from_sklearn(cls, fitted: Any) -> Any:
        """Return an estimator that predicts, to the rounding of float32, what scikit-learn's fitted one does.

        It has its parameters and records; training goes on with a new optimizer.

        Raises
        ------
        TypeError
            `fitted` is not scikit-learn's estimator of this name.
        NotFittedError
            It is not fitted.
        """
        return exchange.from_sklearn(cls, fitted)

    def to_sklearn(self) -> Any:
        """Return scikit-learn's own estimator, fitted, with the parameters that it has; it predicts the same.

        Raises
        ------
        ValueError
            scikit-learn does not have the activation, the solver or the loss.
        """
        return exchange.to_sklearn(self)

    def save(self, path: str | bytes | os.PathLike[str]) -> None:
        """Write the estimator to a safetensors file, which `load` reads, and `fastmlp.load` as its network.

        Parameters that are functions or objects, such as schedules, scorers, callbacks and random states, are not in
        the file, nor is the optimizer's state: a pickle has them.

        Raises
        ------
        NotFittedError
            It is not fitted.
        ValueError
            A parameter of the network is not finite.
        OSError
            The file cannot be written.
        """
        files.save(self, path)

    @classmethod
    def load(cls, path: str | bytes | os.PathLike[str]) -> Any:
        """Return the estimator in a file of `save`: with the same bits for predictions, and nothing executed.

        Raises
        ------
        FileFormatError
            The file is none, of another estimator, or damaged.
        OSError
            The file cannot be read.
        """
        return files.load(cls, path)
