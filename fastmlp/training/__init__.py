"""Training: of a network, and of many at once."""

from typing import Any

from numpy.typing import ArrayLike

from fastmlp import checks
from fastmlp.network import MLP
from fastmlp.rows import Stream
from fastmlp.runs import History, RunState
from fastmlp.training.jobs import alone, prepare, train
from fastmlp.training.many import fit_many
from fastmlp.training.ranks import Communicator

__all__ = ["History", "RunState", "fit", "fit_many"]


def fit(
    network: MLP,
    X: ArrayLike | Stream,
    y: ArrayLike | None = None,
    *,
    communicator: Communicator | None,
    sync_every: int,
    **arguments: Any,
) -> History:
    """Train a network: `fastmlp.MLP.fit`, which documents the arguments and has their defaults.

    Examples
    --------
    >>> import fastmlp
    >>> fastmlp.MLP((2, 2)).fit([[0, 1], [1, 0]], [0, 1], epochs=3, verbose=False)  # doctest: +ELLIPSIS
    History(epochs=3, loss=...)
    """

    def prepare_and_train() -> History:
        if communicator is not None:
            from fastmlp.training import mpi  # noqa: PLC0415 - zlib is imported with it, and few need it

            return mpi.fit(network, X, y, communicator=communicator, sync_every=sync_every, **arguments)
        checks.integer("sync_every", sync_every, least=1)
        return train(prepare(network, X, y, **arguments))

    return alone(network, prepare_and_train)
