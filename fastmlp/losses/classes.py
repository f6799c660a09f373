"""Losses of networks that give probabilities: of classes, and of yes or no."""

import numpy as np
from numpy.typing import ArrayLike

from fastmlp import checks
from fastmlp.activations import float64
from fastmlp.arrays import Float64
from fastmlp.losses.base import LOGISTIC, SOFTMAX, Canonical, Loss, log_softmax

__all__ = ["BinaryCrossEntropy", "CrossEntropy", "Focal"]


class CrossEntropy(Canonical):
    """Of m classes, one of which is right: -sum_j t_j log softmax(z)_j, for a label c -log softmax(z)_c.

    Bishop 2006, "Pattern Recognition and Machine Learning", equation 4.108; label smoothing: Szegedy et al. 2016,
    "Rethinking the Inception architecture for computer vision", section 7, as in PyTorch.

    Parameters
    ----------
    label_smoothing : float, default 0.0
        In [0, 1): the share of each target that goes to all classes alike, t = (1 - s) t + s / m.

    Raises
    ------
    TypeError, ValueError
        It is no such number.

    Examples
    --------
    >>> from fastmlp.losses import CrossEntropy
    >>> CrossEntropy().value([[0, 100_000]], [[1, 0]]).tolist()
    [100000.0]
    >>> CrossEntropy().gradient([[0, 0]], [[1, 0]]).tolist()
    [[-0.5, 0.5]]
    """

    name = "cross_entropy"
    code = 0
    targets = "classes"
    output = SOFTMAX
    least_outputs = 2
    scores = ("loss", "accuracy")

    label_smoothing: float

    def __init__(self, label_smoothing: float = 0.0) -> None:
        vars(self)["label_smoothing"] = checks.number(
            "label_smoothing", label_smoothing, "in [0, 1)", lambda s: 0 <= s < 1
        )

    def value(self, logits: ArrayLike, targets: ArrayLike) -> Float64:
        """Return the loss of each row, (n,), for rows of probabilities (n, m)."""
        losses: Float64 = -(self._smoothed(targets) * log_softmax(logits)).sum(axis=1)
        return losses

    def gradient(self, logits: ArrayLike, targets: ArrayLike) -> Float64:
        """Return softmax(z) - t, (n, m), for rows that sum to 1."""
        return super().gradient(logits, self._smoothed(targets))

    def _smoothed(self, targets: ArrayLike) -> Float64:
        t, s = float64(targets), self.label_smoothing
        smoothed: Float64 = (1.0 - s) * t + s / t.shape[1]
        return smoothed


class BinaryCrossEntropy(Canonical):
    """Of m yes-or-no questions: -sum_j (t_j log s_j + (1 - t_j) log(1 - s_j)), s = logistic(z).

    Bishop 2006, equation 4.90. With log s = -log(1 + exp(-z)) and log(1 - s) = -log(1 + exp(z)).

    Examples
    --------
    >>> from fastmlp.losses import BinaryCrossEntropy
    >>> BinaryCrossEntropy().gradient([[0]], [[1]]).tolist()
    [[-0.5]]
    """

    name = "binary_cross_entropy"
    code = 1
    targets = "probabilities"
    output = LOGISTIC
    scores = ("loss", "accuracy")

    def value(self, logits: ArrayLike, targets: ArrayLike) -> Float64:
        """Return the loss of each row, (n,)."""
        z, t = float64(logits), float64(targets)
        losses: Float64 = (t * np.logaddexp(0.0, -z) + (1.0 - t) * np.logaddexp(0.0, z)).sum(axis=1)
        return losses


class Focal(Loss):
    """Cross-entropy in which what is already right counts less: -sum_j t_j (1 - p_j)^gamma log p_j, p = softmax(z).

    Lin et al. 2017, "Focal loss for dense object detection", equation 4, with the softmax of m classes in the place of
    their logistic function, and without weights of the classes.

    Parameters
    ----------
    gamma : float, default 2.0
        From 0, where it is the cross-entropy, to 100.

    Raises
    ------
    TypeError, ValueError
        It is no such number.

    Examples
    --------
    >>> from fastmlp.losses import Focal
    >>> Focal().value([[0, 0]], [[1, 0]]).round(4).tolist()
    [0.1733]
    """

    name = "focal"
    code = 3
    targets = "classes"
    output = SOFTMAX
    least_outputs = 2
    scores = ("loss", "accuracy")

    gamma: float

    def __init__(self, gamma: float = 2.0) -> None:
        vars(self)["gamma"] = checks.number("gamma", gamma, "from 0 to 100", lambda gamma: 0 <= gamma <= 100)

    def value(self, logits: ArrayLike, targets: ArrayLike) -> Float64:
        """Return the loss of each row, (n,), for rows of probabilities (n, m)."""
        log_p = log_softmax(logits)
        losses: Float64 = -(float64(targets) * (-np.expm1(log_p)) ** self.gamma * log_p).sum(axis=1)
        return losses

    def gradient(self, logits: ArrayLike, targets: ArrayLike) -> Float64:
        """Return t a - p sum(t a), (n, m), where a is the derivative of -(1 - p)^gamma log p by log p."""
        log_p = log_softmax(logits)
        p, rest = np.exp(log_p), -np.expm1(log_p)
        # log p / (1 - p), which is -1 where p is 1
        ratio = np.divide(log_p, rest, out=np.full(p.shape, -1.0), where=rest > 0)
        ta = float64(targets) * rest**self.gamma * (self.gamma * p * ratio - 1.0)
        gradient: Float64 = ta - p * ta.sum(axis=1, keepdims=True)
        return gradient
