"""Training: of a network, and of many at once."""

from typing import Any

from numpy.typing import ArrayLike

from fastmlp.network import MLP
from fastmlp.rows import Stream
from fastmlp.runs import History, RunState
from fastmlp.training.jobs import alone, engine_rows, prepare, train
from fastmlp.training.many import fit_many
from fastmlp.training.windows import Windows

__all__ = ["History", "RunState", "fit", "fit_many"]


def fit(network: MLP, X: ArrayLike | Stream, y: ArrayLike | None = None, **arguments: Any) -> History:
    """Train a network: `fastmlp.MLP.fit`, which documents the arguments and has their defaults.

    Examples
    --------
    >>> import fastmlp
    >>> fastmlp.MLP((2, 2)).fit([[0, 1], [1, 0]], [0, 1], epochs=3, verbose=False)  # doctest: +ELLIPSIS
    History(epochs=3, loss=...)
    """

    def prepare_and_train() -> History:
        job = prepare(network, X, y, **arguments)
        return train(job, None if isinstance(job.data.examples, Windows) else engine_rows(job))

    return alone(network, prepare_and_train)
