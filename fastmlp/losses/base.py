"""What a loss is, and what the logits mean that it judges."""

import math
from collections.abc import Callable
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastmlp.activations import ACTIVATIONS, float64
from fastmlp.arrays import Float32, Float64

__all__ = ["EXPONENTIAL", "IDENTITY", "LOGISTIC", "SOFTMAX", "Canonical", "Loss", "Output", "log_softmax"]


def log_softmax(logits: ArrayLike) -> Float64:
    """Return the logarithm of the softmax of each row, (..., m); shifted by its maximum, so that exp cannot overflow.

    Examples
    --------
    >>> from fastmlp.losses.base import log_softmax
    >>> log_softmax([[0, 1000]]).tolist()
    [[-1000.0, 0.0]]
    """
    z = float64(logits)
    shifted = z - z.max(axis=-1, keepdims=True)
    logarithm: Float64 = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return logarithm


class Output(NamedTuple):
    """What the logits (n, m) of a network mean.

    Attributes
    ----------
    name : str
        "softmax", "exponential", or the activation's.
    forward : callable
        logits (n, m) -> probabilities or values, (n, m), in float64.
    decide : callable
        float32 logits (n, m) -> what the network says of each row: labels (n,), or answers or values (n, m).
    pool : callable
        Logits of K networks, (K, n, m) -> logits of the mean of their outputs, (n, m), in float64.
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
    >>> np.exp(SOFTMAX.pool([[[0, 1000]], [[0, 0]]])).tolist()
    [[0.25, 0.75]]
    """

    name: str
    forward: Callable[[ArrayLike], Float64]
    decide: Callable[[Float32], NDArray[Any]]
    pool: Callable[[ArrayLike], Float64]
    is_probability: bool = True


def _exponential(logits: Float32) -> Float32:
    with np.errstate(over="ignore"):
        return np.exp(logits)


def _log_mean(logarithms: Float64) -> Float64:
    """Return the logarithm of the mean over the first axis, by logarithms: also of what is 0 in any float."""
    return np.asarray(np.logaddexp.reduce(logarithms, axis=0) - math.log(len(logarithms)))


def _log_logistic(logits: ArrayLike) -> Float64:
    return np.asarray(-np.logaddexp(0, -float64(logits)))


# One of m classes.
SOFTMAX = Output(
    "softmax",
    forward=lambda z: np.exp(log_softmax(z)),
    decide=lambda z: z.argmax(axis=1),
    pool=lambda each: _log_mean(log_softmax(each)),
)

# Answers to m questions, yes from probabilities above 0.5 on: logits above 0.
LOGISTIC = Output(
    "logistic",
    forward=ACTIVATIONS["logistic"].forward,
    decide=lambda z: (z > 0).astype(np.int64),
    pool=lambda each: _log_mean(_log_logistic(each)) - _log_mean(_log_logistic(-float64(each))),
)

# Rates, of which the logits are the logarithms.
EXPONENTIAL = Output(
    "exponential",
    forward=lambda z: np.exp(float64(z)),
    decide=_exponential,
    pool=lambda each: _log_mean(float64(each)),
    is_probability=False,
)

IDENTITY = Output(
    "identity",
    forward=ACTIVATIONS["identity"].forward,
    decide=lambda z: z,
    pool=lambda each: np.asarray(float64(each).mean(axis=0)),
    is_probability=False,
)


class Loss:
    """A loss of logits (n, m) against targets: its parameters, which do not change, and what follows from its kind.

    Attributes
    ----------
    name : str
        By which it is known with its default parameters.
    code : int or None
        The engine's number for it; None: it is a Python function.
    targets : {"classes", "probabilities", "counts", "values", "any"}
        What it compares the outputs with: "classes" are rows of probabilities that sum to 1 or, in their place,
        labels (n,); "probabilities" are in [0, 1], each for itself; "counts" are not negative; "values" are any
        numbers; "any" is what the function takes.
    output : Output
        What the logits mean.
    least_outputs : int
        The smallest m for which it says anything.
    outputs_a_target : int
        How many outputs are about the same target.
    scores : tuple of str
        What `MLP.evaluate` tells.
    parameters : tuple of float
        The numbers that the engine wants to know.

    Examples
    --------
    >>> from fastmlp.losses import CrossEntropy
    >>> loss = CrossEntropy(label_smoothing=0.1)
    >>> loss.targets, loss.output.name, loss.parameters
    ('classes', 'softmax', (0.1,))
    >>> loss == CrossEntropy()
    False
    """

    name: ClassVar[str]
    code: ClassVar[int | None]
    targets: ClassVar[Literal["classes", "probabilities", "counts", "values", "any"]] = "values"
    output: ClassVar[Output] = IDENTITY
    least_outputs: ClassVar[int] = 1
    scores: ClassVar[tuple[str, ...]] = ("loss", "mse", "r2")

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a loss does not change; {type(self).__name__}({name}={value!r:.80}) makes another one")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((type(self), *vars(self).values()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"

    @property
    def outputs_a_target(self) -> int:
        """How many outputs are about the same target."""
        return 1

    @property
    def parameters(self) -> tuple[float, ...]:
        """The numbers that the engine wants to know."""
        return tuple(vars(self).values())

    def value(self, logits: ArrayLike, targets: ArrayLike) -> Float64:
        """Return the loss of each row, (n,).

        Computed from the logits, never from the logarithm of a probability that may have rounded to 0: finite for any
        logits up to 1e300, but where it is itself larger.
        """
        raise NotImplementedError

    def gradient(self, logits: ArrayLike, targets: ArrayLike) -> Float64:
        """Return the derivative of each row's loss by its logits, (n, m)."""
        raise NotImplementedError


class Canonical(Loss):
    """A loss whose output is its canonical one: Bishop 2006, section 4.3.6.

    Examples
    --------
    >>> from fastmlp.losses import Poisson
    >>> Poisson().gradient([[0]], [[3]]).tolist()
    [[-2.0]]
    """

    def gradient(self, logits: ArrayLike, targets: ArrayLike) -> Float64:
        """Return output - t, (n, m); rows of "classes" must sum to 1 for it."""
        return self.output.forward(logits) - float64(targets)
