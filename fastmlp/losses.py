"""The table of losses: what a row's loss is, what it compares with what, and what a network says by its logits.

``code`` is the number by which the engine knows the loss (``enum fm_loss`` in ``src/fastmlp.h``).
A loss is a number per row, summed over the m outputs; the cost of a batch is the weighted mean over its rows.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastmlp.activations import ACTIVATIONS, float64
from fastmlp.arrays import Float32, Float64

__all__ = ["IDENTITY", "LOGISTIC", "LOSSES", "SOFTMAX", "Loss", "Output"]


class Output(NamedTuple):
    """What the logits (n, m) of a network mean.

    Attributes
    ----------
    name : str
        "softmax", or the activation's.
    forward : callable
        logits (n, m) -> probabilities or values, (n, m), in float64.
    decide : callable
        float32 logits (n, m) -> what the network says of each row: labels (n,), or answers or values (n, m).
    is_probability : bool
        Whether `forward` gives probabilities.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp.losses import SOFTMAX
    >>> SOFTMAX.forward([[0, 0]]).tolist()
    [[0.5, 0.5]]
    >>> SOFTMAX.decide(np.float32([[0, 1], [3, 2]])).tolist()
    [1, 0]
    """

    name: str
    forward: Callable[[ArrayLike], Float64]
    decide: Callable[[Float32], NDArray[Any]]
    is_probability: bool = True


# One of m classes.
SOFTMAX = Output("softmax", forward=lambda z: np.exp(_log_softmax(z)), decide=lambda z: z.argmax(axis=1))

# Answers to m questions, yes from probabilities above 0.5 on: logits above 0.
LOGISTIC = Output("logistic", ACTIVATIONS["logistic"].forward, decide=lambda z: (z > 0).astype(np.int64))

IDENTITY = Output("identity", ACTIVATIONS["identity"].forward, decide=lambda z: z, is_probability=False)


class Loss(NamedTuple):
    """A loss of logits (n, m) against targets (n, m), computed in float64.

    Attributes
    ----------
    code : int
        The engine's number for it.
    targets : {"classes", "probabilities", "values"}
        What it compares the outputs with: "classes" are rows of probabilities that sum to 1 or, in their place,
        labels (n,); "probabilities" are in [0, 1], each for itself; "values" are any numbers.
    output : Output
        What the logits mean.
    value : callable
        logits (n, m), targets (n, m) -> loss of each row, (n,). Computed from the logits, never from the
        logarithm of a probability that may have rounded to 0: finite for any logits up to 1e300.
    least_outputs : int
        The smallest m for which it says anything.

    Examples
    --------
    >>> from fastmlp.losses import LOSSES
    >>> list(LOSSES)
    ['cross_entropy', 'binary_cross_entropy', 'squared_error']
    >>> loss = LOSSES["cross_entropy"]
    >>> loss.targets, loss.output.name
    ('classes', 'softmax')
    >>> loss.value([[0, 100_000]], [[1, 0]]).tolist()
    [100000.0]
    >>> loss.gradient([[0, 0]], [[1, 0]]).tolist()
    [[-0.5, 0.5]]
    """

    code: int
    targets: Literal["classes", "probabilities", "values"]
    output: Output
    value: Callable[[ArrayLike, ArrayLike], Float64]
    least_outputs: int = 1

    def gradient(self, logits: ArrayLike, targets: ArrayLike) -> Float64:
        """Return the derivative of each row's loss by its logits, (n, m): output - targets.

        The same for every loss here, because each is paired with its canonical output (Bishop 2006, "Pattern
        Recognition and Machine Learning", section 4.3.6). Rows of "classes" must sum to 1 for it.
        """
        return self.output.forward(logits) - float64(targets)


LOSSES: dict[str, Loss] = {
    # -sum_j t_j log softmax(z)_j for rows t of probabilities, one-hot for labels: m classes, one of which is
    # right. Bishop 2006, equation 4.108.
    "cross_entropy": Loss(
        code=0,
        targets="classes",
        output=SOFTMAX,
        value=lambda z, t: -(float64(t) * _log_softmax(z)).sum(axis=1),
        least_outputs=2,
    ),
    # -sum_j (t_j log s_j + (1 - t_j) log(1 - s_j)), s = logistic(z): m yes-or-no questions. Bishop 2006,
    # equation 4.90. With log s = -log(1 + exp(-z)) and log(1 - s) = -log(1 + exp(z)).
    "binary_cross_entropy": Loss(
        code=1,
        targets="probabilities",
        output=LOGISTIC,
        value=lambda z, t: (
            float64(t) * np.logaddexp(0.0, -float64(z)) + (1.0 - float64(t)) * np.logaddexp(0.0, float64(z))
        ).sum(axis=1),
    ),
    # 1/2 sum_j (z_j - t_j)^2: the half makes the gradient z - t. Rumelhart, Hinton & Williams 1986, eq. 3.
    # PyTorch's MSELoss, a mean over rows and outputs without the half, is 2/m times the cost. scikit-learn
    # follows the gradient of this cost, but reports 1/m of its value.
    "squared_error": Loss(
        code=2,
        targets="values",
        output=IDENTITY,
        value=lambda z, t: 0.5 * ((float64(z) - float64(t)) ** 2).sum(axis=1),
    ),
}


def _log_softmax(logits: ArrayLike) -> Float64:
    """Logarithm of the softmax of each row; shifted by the row's maximum, so that exp cannot overflow."""
    z = float64(logits)
    shifted = z - z.max(axis=1, keepdims=True)
    log_softmax: Float64 = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return log_softmax
