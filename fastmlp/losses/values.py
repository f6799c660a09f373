"""Losses of networks that give values: errors, quantiles, rates."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from fastmlp import checks
from fastmlp.activations import float64
from fastmlp.arrays import Float64
from fastmlp.losses.base import EXPONENTIAL, Canonical, Loss

__all__ = ["AbsoluteError", "Huber", "Poisson", "Quantile", "SquaredError"]


class SquaredError(Canonical):
    """1/2 sum_j (z_j - t_j)^2: the half makes the gradient z - t. Rumelhart, Hinton & Williams 1986, equation 3.

    PyTorch's MSELoss, a mean over rows and outputs without the half, is 2/m times the cost. scikit-learn follows the
    gradient of this cost, but reports 1/m of its value.

    Examples
    --------
    >>> from fastmlp.losses import SquaredError
    >>> SquaredError().value([[3]], [[1]]).tolist()
    [2.0]
    """

    name = "squared_error"
    code = 2

    def value(self, logits: ArrayLike, targets: ArrayLike) -> Float64:
        """Return the loss of each row, (n,)."""
        losses: Float64 = 0.5 * ((float64(logits) - float64(targets)) ** 2).sum(axis=1)
        return losses


class AbsoluteError(Loss):
    """sum_j |z_j - t_j|, whose best guess is the median.

    Examples
    --------
    >>> from fastmlp.losses import AbsoluteError
    >>> AbsoluteError().gradient([[3, 1, 0]], [[1, 1, 1]]).tolist()
    [[1.0, 0.0, -1.0]]
    """

    name = "absolute_error"
    code = 4

    def value(self, logits: ArrayLike, targets: ArrayLike) -> Float64:
        """Return the loss of each row, (n,)."""
        losses: Float64 = np.abs(float64(logits) - float64(targets)).sum(axis=1)
        return losses

    def gradient(self, logits: ArrayLike, targets: ArrayLike) -> Float64:
        """Return the sign of z - t, (n, m): 0 where they are equal."""
        return np.sign(float64(logits) - float64(targets))


class Huber(Loss):
    """sum_j of d^2 / 2 or, for |d| above delta, delta (|d| - delta / 2), where d = z_j - t_j.

    Huber 1964, "Robust estimation of a location parameter". PyTorch's HuberLoss is 1/m of it.

    Parameters
    ----------
    delta : float, default 1.0
        Above 0.

    Raises
    ------
    TypeError, ValueError
        It is no such number.

    Examples
    --------
    >>> from fastmlp.losses import Huber
    >>> Huber(delta=1).value([[0.5], [3]], [[0], [0]]).tolist()
    [0.125, 2.5]
    """

    name = "huber"
    code = 5

    delta: float

    def __init__(self, delta: float = 1.0) -> None:
        vars(self)["delta"] = checks.number("delta", delta, "from 1e-30 to 1e30", lambda delta: 1e-30 <= delta <= 1e30)

    def value(self, logits: ArrayLike, targets: ArrayLike) -> Float64:
        """Return the loss of each row, (n,)."""
        d, g = float64(logits) - float64(targets), self.gradient(logits, targets)
        losses: Float64 = (g * (d - g / 2)).sum(axis=1)
        return losses

    def gradient(self, logits: ArrayLike, targets: ArrayLike) -> Float64:
        """Return z - t, within delta of 0, (n, m)."""
        return np.clip(float64(logits) - float64(targets), -self.delta, self.delta)


class Quantile(Loss):
    """The pinball loss of several quantiles at once: max(q d, (q - 1) d) for the level q, where d = t - z.

    Koenker & Bassett 1978, "Regression quantiles". A network has an output for each target and level: for the first
    target all levels in their order, then for the second. So ``predict(X).reshape(n, -1, len(levels))`` has the targets
    in its second place. Of levels that are far from the data's middle the quantiles may cross.

    Parameters
    ----------
    levels : sequence of float, default (0.1, 0.5, 0.9)
        Each between 0 and 1.

    Raises
    ------
    TypeError, ValueError
        They are no such numbers.

    Examples
    --------
    >>> from fastmlp.losses import Quantile
    >>> Quantile(levels=(0.25, 0.75)).value([[0, 0]], [[4]]).tolist()
    [4.0]
    """

    name = "quantile"
    code = 6
    scores = ("loss",)

    levels: tuple[float, ...]

    def __init__(self, levels: Sequence[float] = (0.1, 0.5, 0.9)) -> None:
        try:
            given = tuple(levels)
        except TypeError:
            raise TypeError(f"levels must be a sequence of numbers, not {levels!r:.80}") from None
        if not given:
            raise ValueError("levels must have at least one number; there is none")
        vars(self)["levels"] = tuple(
            checks.number(f"levels[{i}]", q, "between 0 and 1", lambda q: 0 < q < 1) for i, q in enumerate(given)
        )

    @property
    def outputs_a_target(self) -> int:
        """One for each level."""
        return len(self.levels)

    @property
    def parameters(self) -> tuple[float, ...]:
        """The levels."""
        return self.levels

    def value(self, logits: ArrayLike, targets: ArrayLike) -> Float64:
        """Return the loss of each row, (n,), for targets (n, m / len(levels))."""
        z, t, levels = self._outputs(logits, targets)
        losses: Float64 = np.maximum(levels * (t - z), (levels - 1.0) * (t - z)).sum(axis=1)
        return losses

    def gradient(self, logits: ArrayLike, targets: ArrayLike) -> Float64:
        """Return -q where z is below t, 1 - q above, and 0 where they are equal, (n, m)."""
        z, t, levels = self._outputs(logits, targets)
        return np.where(z > t, 1.0 - levels, np.where(z < t, -levels, 0.0))

    def _outputs(self, logits: ArrayLike, targets: ArrayLike) -> tuple[Float64, Float64, Float64]:
        """Logits, and the target and the level of each, (n, m)."""
        z, t = float64(logits), np.repeat(float64(targets), len(self.levels), axis=1)
        return z, t, np.broadcast_to(np.tile(self.levels, t.shape[1] // len(self.levels)), t.shape)


class Poisson(Canonical):
    """Of counts or rates t >= 0, by the logarithm z of the rate: sum_j exp(z_j) - t_j z_j.

    Minus the logarithm of the likelihood, without its constant log t!. PyTorch's PoissonNLLLoss is 1/m of it. `predict`
    gives the rate exp(z).

    Examples
    --------
    >>> from fastmlp.losses import Poisson
    >>> Poisson().gradient([[0]], [[3]]).tolist()
    [[-2.0]]
    """

    name = "poisson"
    code = 7
    targets = "counts"
    output = EXPONENTIAL

    def value(self, logits: ArrayLike, targets: ArrayLike) -> Float64:
        """Return the loss of each row, (n,)."""
        losses: Float64 = (np.exp(float64(logits)) - float64(targets) * float64(logits)).sum(axis=1)
        return losses
