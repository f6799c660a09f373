"""Networks that answer together."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastmlp.arrays import Array, Float32
from fastmlp.losses import Loss, loss_of
from fastmlp.network import MLP
from fastmlp.rows import Stream
from fastmlp.runs import History
from fastmlp.sparse import SparseRows
from fastmlp.training.many import fit_many

__all__ = ["Ensemble"]


class Ensemble:
    """Networks whose outputs are averaged: probabilities or, of losses of values, the values.

    Networks of several seeds are wrong about different rows, so that their mean is right more often than any of them
    (Hansen & Salamon 1990); and its loss is never above the mean of theirs, as long as the loss is convex.

    Parameters
    ----------
    networks : iterable of MLP
        At least one, with the same numbers of inputs and outputs, and the same loss; what is between may differ. They
        are not copied: train one of them further, and the ensemble has changed.

    Raises
    ------
    TypeError, ValueError
        There is no network, one is none, or they do not agree.

    Examples
    --------
    >>> import numpy as np, fastmlp
    >>> X, y = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32), np.array([0, 1, 1, 0])
    >>> ensemble = fastmlp.Ensemble(fastmlp.MLP((2, 16, 2), seed=seed) for seed in range(3))
    >>> _ = ensemble.fit(X, y, epochs=200, optimizer=fastmlp.Adam(learning_rate=0.01), verbose=False)
    >>> ensemble.predict(X)
    array([0, 1, 1, 0])
    """

    __slots__ = ("__weakref__", "_networks")

    def __init__(self, networks: Iterable[MLP]) -> None:
        if not isinstance(networks, Iterable):
            raise TypeError(f"networks must be a list of fastmlp.MLP, not {networks!r:.80}")
        self._networks = tuple(networks)
        if not self._networks:
            raise ValueError("networks must hold at least one network; there is none")
        for network in self._networks:
            if not isinstance(network, MLP):
                raise TypeError(f"networks must hold instances of fastmlp.MLP, not {network!r:.80}")
        first, *others = self._networks
        for i, other in enumerate(others, start=1):
            if _task(other) != _task(first):
                raise ValueError(
                    "networks must have the same inputs, outputs and loss: networks[0] has {}, {} and {!r}, "
                    "networks[{}] has {}, {} and {!r}".format(*_task(first), i, *_task(other))
                )

    def __repr__(self) -> str:
        return f"Ensemble({list(self.networks)!r})"

    @property
    def networks(self) -> tuple[MLP, ...]:
        """The networks."""
        return self._networks

    @property
    def loss(self) -> str | Loss:
        """The loss of all networks, as `MLP.loss`."""
        return self.networks[0].loss

    @property
    def n_threads(self) -> int | tuple[int | None, ...] | None:
        """Threads that a call uses at most, of each network where that differs; to set it sets that of all networks."""
        each = tuple(network.n_threads for network in self.networks)
        return each[0] if len(set(each)) == 1 else each

    @n_threads.setter
    def n_threads(self, n_threads: int | None) -> None:
        for network in self.networks:
            network.n_threads = n_threads

    def fit(self, X: ArrayLike, y: ArrayLike, **arguments: Any) -> list[History]:
        """Train all networks at once, each by itself: `fastmlp.fit_many`, which has these arguments, and its errors.

        Parameters
        ----------
        X, y : array
        **arguments
            Those of `fit_many`, and so of `MLP.fit`: one value for all networks, or a list of one for each; ``rows``
            are those that each learns from, as of bootstrap samples.

        Returns
        -------
        list of History
            In the order of `networks`.

        Examples
        --------
        >>> import numpy as np, fastmlp
        >>> X, y = np.eye(4, dtype=np.float32), np.array([0, 1, 0, 1])
        >>> ensemble = fastmlp.Ensemble([fastmlp.MLP((4, 2)), fastmlp.MLP((4, 3, 2), seed=1)])
        >>> samples = [[0, 1, 1, 3], [2, 0, 3, 3]]
        >>> [len(history.loss) for history in ensemble.fit(X, y, rows=samples, epochs=3, verbose=False)]
        [3, 3]
        """
        return fit_many(self.networks, X, y, **arguments)

    def logits(self, X: ArrayLike | Stream) -> Float32:
        """Return the logits of the averaged outputs, float32 (n, m): of probabilities their logarithms.

        Of one question each, "binary_cross_entropy", they are log(p / (1 - p)); of "poisson" the logarithms of the
        rates; of values the values.

        Parameters
        ----------
        X : array or SciPy sparse matrix (n, k), or fastmlp.rows.Stream

        Raises
        ------
        TypeError, ValueError
            X is not a matrix (n, k) of finite numbers.

        Examples
        --------
        >>> import numpy as np, fastmlp
        >>> ensemble = fastmlp.Ensemble([fastmlp.MLP((3, 4, 2)), fastmlp.MLP((3, 4, 2), seed=1)])
        >>> np.exp(ensemble.logits([[0, 0, 0]]))
        array([[0.5, 0.5]], dtype=float32)
        """
        few = [found for network in self.networks if (found := network._few_rows.logits(X)) is not None]
        if len(few) == len(self.networks):
            return self._pool(few)
        outputs: Float32 = self.networks[0]._of_rows(X, self._logits)
        return outputs

    def predict_proba(self, X: ArrayLike | Stream) -> Float32:
        """Return the mean of the networks' probabilities, float32 (n, m): of each class, or of each output being 1.

        Parameters
        ----------
        X : array or SciPy sparse matrix (n, k), or fastmlp.rows.Stream

        Raises
        ------
        TypeError, ValueError
            As `MLP.predict_proba`.

        Examples
        --------
        >>> import fastmlp
        >>> fastmlp.Ensemble([fastmlp.MLP((3, 4, 2))]).predict_proba([[0, 0, 0]])
        array([[0.5, 0.5]], dtype=float32)
        """
        if not loss_of(self.loss).output.is_probability:
            raise ValueError(f"predict_proba needs networks with probabilities; these have loss={self.loss!r}")
        return self.networks[0]._probabilities(self.logits(X))

    def predict(self, X: ArrayLike | Stream) -> NDArray[Any]:
        """Return what the averaged outputs say of each row: labels, answers or values, as `MLP.predict`.

        Parameters
        ----------
        X : array or SciPy sparse matrix (n, k), or fastmlp.rows.Stream

        Raises
        ------
        TypeError, ValueError
            X is not a matrix (n, k) of finite numbers.

        Examples
        --------
        >>> import fastmlp
        >>> fastmlp.Ensemble([fastmlp.MLP((3, 4, 2))]).predict([[0, 0, 0]])
        array([0])
        """
        return self.networks[0]._decide(self.logits(X))

    def evaluate(self, X: ArrayLike | Stream, y: ArrayLike | None = None) -> dict[str, float]:
        """Return how well the averaged outputs predict y: the mean loss, and the accuracy or R2, as `MLP.evaluate`.

        Parameters
        ----------
        X : array or SciPy sparse matrix (n, k), or fastmlp.rows.Stream
        y : array
            As in `MLP.fit`; at least one row. A stream has its own.

        Raises
        ------
        TypeError, ValueError
            X or y is not as described.

        Examples
        --------
        >>> import fastmlp
        >>> scores = fastmlp.Ensemble([fastmlp.MLP((3, 4, 2))]).evaluate([[0, 0, 0]], [0])
        >>> round(scores["loss"], 4), scores["accuracy"]
        (0.6931, 1.0)
        """
        return self.networks[0]._scores(X, y, self._logits)

    def save(self, path: str | bytes | os.PathLike[str], *, fold: bool = False) -> None:
        """Write all networks to one safetensors file, which `fastmlp.load` makes an ensemble of again.

        Its tensors are named as those of PyTorch's ``ModuleList`` of such ``Sequential`` as `MLP.save` writes.

        Parameters
        ----------
        path : path-like
        fold : bool, default False
            As in `MLP.save`.

        Raises
        ------
        TypeError, ValueError
            An argument is not as described; a parameter is not finite.
        OSError
            The file cannot be written.

        Examples
        --------
        >>> import fastmlp, tempfile, os
        >>> path = os.path.join(tempfile.mkdtemp(), "both.safetensors")
        >>> fastmlp.Ensemble([fastmlp.MLP((3, 4, 2)), fastmlp.MLP((3, 5, 2))]).save(path)
        >>> len(fastmlp.load(path).networks)
        2
        """
        from fastmlp.files import ensemble  # noqa: PLC0415 - upward, as in `MLP.save`

        ensemble.save(self, path, fold=fold)

    def _logits(self, rows: Array | SparseRows) -> Float32:
        return self._pool([network._logits(rows) for network in self.networks])

    def _pool(self, outputs: Sequence[Float32]) -> Float32:
        return loss_of(self.loss).output.pool(outputs).astype(np.float32)


def _task(network: MLP) -> tuple[int, int, str | Loss]:
    """Inputs, outputs and loss."""
    return network.layer_sizes[0], network.layer_sizes[-1], network.loss
