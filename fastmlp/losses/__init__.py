"""The losses: what a row's loss is, what it compares with what, and what a network says by its logits.

A loss is a number per row, summed over the m outputs; the cost of a batch is the weighted mean over its rows. `LOSSES`
is the table of those that have a name: by it a loss is meant that has its default parameters. Each says what it is in
float64; ``code`` is the number by which the engine knows it (``enum fm_loss_kind`` in ``src/fastmlp.h``).
"""

from fastmlp import checks
from fastmlp.losses.base import EXPONENTIAL, IDENTITY, LOGISTIC, SOFTMAX, Loss, Output
from fastmlp.losses.classes import BinaryCrossEntropy, CrossEntropy, Focal
from fastmlp.losses.custom import Custom
from fastmlp.losses.values import AbsoluteError, Huber, Poisson, Quantile, SquaredError

__all__ = [
    "EXPONENTIAL",
    "IDENTITY",
    "LOGISTIC",
    "LOSSES",
    "SOFTMAX",
    "AbsoluteError",
    "BinaryCrossEntropy",
    "CrossEntropy",
    "Custom",
    "Focal",
    "Huber",
    "Loss",
    "Output",
    "Poisson",
    "Quantile",
    "SquaredError",
    "loss_of",
    "short",
]

# Those that a name is enough for, with their default parameters.
LOSSES: dict[str, Loss] = {
    loss.name: loss
    for loss in (
        *(CrossEntropy(), BinaryCrossEntropy(), SquaredError(), Focal()),
        *(AbsoluteError(), Huber(), Quantile(), Poisson()),
    )
}


def loss_of(loss: object) -> Loss:
    """Return a loss, or the one of a name with its default parameters.

    Examples
    --------
    >>> from fastmlp.losses import loss_of
    >>> loss_of("huber")
    Huber(delta=1.0)
    """
    return loss if isinstance(loss, Loss) else LOSSES[checks.one_of("loss", loss, LOSSES)]


def short(loss: Loss) -> str | Loss:
    """Return the name of a loss that has its default parameters, any other as it is.

    Examples
    --------
    >>> from fastmlp.losses import Huber, short
    >>> short(Huber()), short(Huber(delta=2))
    ('huber', Huber(delta=2.0))
    """
    return loss.name if loss == LOSSES.get(loss.name) else loss
