"""Schedules: learning rates that change from step to step. Any function of (step, n_steps) is one, too."""

import math
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastmlp import checks
from fastmlp.arrays import Float64

__all__ = [
    "SCHEDULES",
    "Cosine",
    "Exponential",
    "LinearToZero",
    "OneCycle",
    "Rate",
    "Schedule",
    "Step",
    "checked_rate",
    "rates",
    "try_rates",
]

# What an optimizer's learning_rate may be.
Rate: TypeAlias = float | Callable[[int, int], float]

# So many steps of a user's own function are looked at before training begins.
TRIED_STEPS = 10_000


class Schedule:
    """Base of all schedules: a share of a learning rate for each step, and a linear warm-up before them.

    Step i of a warm-up of w steps, from 0, has (i + 1) / (w + 1) of the rate that it leads to; the schedule has the
    steps that are left. `n_steps` are those of the call of `fit`, epochs times batches.

    Parameters
    ----------
    learning_rate : float
        Greater than 0.
    warmup : int or float, default 0
        Steps of the warm-up; a float in [0, 1) is a share of all steps.

    Raises
    ------
    TypeError, ValueError
        An argument is not a number, or out of its range.

    Examples
    --------
    >>> from fastmlp.schedules import LinearToZero
    >>> schedule = LinearToZero(0.1, warmup=1)
    >>> [round(schedule(step, n_steps=5), 3) for step in range(5)]
    [0.05, 0.1, 0.075, 0.05, 0.025]
    """

    def __init__(self, learning_rate: float, *, warmup: float = 0) -> None:
        self.learning_rate = checks.number("learning_rate", learning_rate, "greater than 0", lambda x: x > 0)
        self.warmup = _checked_span("warmup", warmup, "in [0, 1)", lambda x: 0 <= x < 1)

    def __call__(self, step: int, n_steps: int) -> float:
        """Return the rate of a step, counted from 0."""
        return float(self.rates(np.array([step]), n_steps)[0])

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((type(self), *vars(self).values()))

    def __repr__(self) -> str:
        rate, *others = vars(self).items()
        return f"{type(self).__name__}({', '.join([repr(rate[1]), *(f'{name}={value!r}' for name, value in others)])})"

    def rates(self, steps: NDArray[np.int64], n_steps: int) -> Float64:
        """Return the rates of steps (n,), counted from 0; float64 (n,)."""
        warmup = round(_length(self.warmup, n_steps))
        rise = np.minimum((steps + 1) / (warmup + 1), 1)
        return self.learning_rate * rise * self._shares(np.maximum(steps - warmup, 0), max(n_steps - warmup, 1))

    def _shares(self, steps: NDArray[np.int64], n_steps: int) -> Float64:
        """Return the share of the learning rate at steps (n,) after the warm-up, of which there are n_steps."""
        raise NotImplementedError


class Step(Schedule):
    """The rate is multiplied by `factor` every so many steps: PyTorch's `StepLR`.

    Parameters
    ----------
    learning_rate : float
    every : int or float, default 0.3
        Steps between two drops, from 1 on; a float in (0, 1) is a share of the steps after the warm-up.
    factor : float, default 0.1
        In (0, 1].
    warmup : int or float, default 0
        As in `Schedule`.

    Examples
    --------
    >>> from fastmlp.schedules import Step
    >>> schedule = Step(0.5, every=2, factor=0.5)
    >>> [schedule(step, n_steps=6) for step in range(6)]
    [0.5, 0.5, 0.25, 0.25, 0.125, 0.125]
    """

    def __init__(self, learning_rate: float, every: float = 0.3, factor: float = 0.1, *, warmup: float = 0) -> None:
        super().__init__(learning_rate, warmup=warmup)
        self.every = _checked_span("every", every, "in (0, 1)", lambda x: 0 < x < 1, least=1)
        self.factor = checks.number("factor", factor, "in (0, 1]", lambda x: 0 < x <= 1)

    def _shares(self, steps: NDArray[np.int64], n_steps: int) -> Float64:
        return np.asarray(self.factor ** (steps // _length(self.every, n_steps)))


class Exponential(Schedule):
    """The rate falls by the same factor each step, to `end` times what it was: PyTorch's `ExponentialLR`.

    Parameters
    ----------
    learning_rate : float
    end : float, default 0.01
        Share of the learning rate after the last step, in (0, 1].
    warmup : int or float, default 0
        As in `Schedule`.

    Examples
    --------
    >>> from fastmlp.schedules import Exponential
    >>> schedule = Exponential(0.5, end=0.0625)
    >>> [schedule(step, n_steps=4) for step in range(4)]
    [0.5, 0.25, 0.125, 0.0625]
    """

    def __init__(self, learning_rate: float, end: float = 0.01, *, warmup: float = 0) -> None:
        super().__init__(learning_rate, warmup=warmup)
        self.end = checks.number("end", end, "in (0, 1]", lambda x: 0 < x <= 1)

    def _shares(self, steps: NDArray[np.int64], n_steps: int) -> Float64:
        return np.asarray(self.end ** (steps / n_steps))


class Cosine(Schedule):
    """The rate falls along half a cosine to `end` times what it was: PyTorch's `CosineAnnealingLR`.

    Loshchilov & Hutter (2017, arXiv:1608.03983), equation 5, without restarts.

    Parameters
    ----------
    learning_rate : float
    end : float, default 0.0
        Share of the learning rate after the last step, in [0, 1].
    warmup : int or float, default 0
        As in `Schedule`.

    Examples
    --------
    >>> from fastmlp.schedules import Cosine
    >>> schedule = Cosine(0.1)
    >>> [round(schedule(step, n_steps=4), 4) for step in range(4)]
    [0.1, 0.0854, 0.05, 0.0146]
    """

    def __init__(self, learning_rate: float, end: float = 0.0, *, warmup: float = 0) -> None:
        super().__init__(learning_rate, warmup=warmup)
        self.end = checks.number("end", end, "in [0, 1]", lambda x: 0 <= x <= 1)

    def _shares(self, steps: NDArray[np.int64], n_steps: int) -> Float64:
        return _between(1.0, self.end, steps / n_steps)


class OneCycle(Schedule):
    """The rate rises to its height and falls to almost nothing, both along half a cosine: PyTorch's `OneCycleLR`.

    Smith & Topin (2018, arXiv:1708.07120), in PyTorch's form; the momentum stays as it is.

    Parameters
    ----------
    learning_rate : float
        The highest, PyTorch's max_lr.
    rise : float, default 0.3
        Share of the steps after the warm-up in which it rises, in (0, 1); PyTorch's pct_start.
    start : float, default 0.04
        Share of the learning rate at the first step, in (0, 1]; 1 / div_factor of PyTorch's.
    end : float, default 4e-6
        Share of the learning rate at the last step, in [0, 1]; 1 / (div_factor * final_div_factor).
    warmup : int or float, default 0
        As in `Schedule`; it leads to `start`.

    Examples
    --------
    >>> from fastmlp.schedules import OneCycle
    >>> schedule = OneCycle(0.1)
    >>> [round(schedule(step, n_steps=10), 4) for step in range(10)]
    [0.004, 0.052, 0.1, 0.095, 0.0812, 0.0611, 0.0389, 0.0188, 0.005, 0.0]
    """

    def __init__(
        self, learning_rate: float, rise: float = 0.3, start: float = 0.04, end: float = 4e-6, *, warmup: float = 0
    ) -> None:
        super().__init__(learning_rate, warmup=warmup)
        self.rise = checks.number("rise", rise, "in (0, 1)", lambda x: 0 < x < 1)
        self.start = checks.number("start", start, "in (0, 1]", lambda x: 0 < x <= 1)
        self.end = checks.number("end", end, "in [0, 1]", lambda x: 0 <= x <= 1)

    def _shares(self, steps: NDArray[np.int64], n_steps: int) -> Float64:
        top, last = self.rise * n_steps - 1, n_steps - 1
        if top <= 0:  # too few steps to rise
            return _between(1.0, self.end, steps / max(last, 1))
        rising = _between(self.start, 1.0, np.minimum(steps / top, 1))
        return np.where(steps <= top, rising, _between(1.0, self.end, (steps - top) / (last - top)))


class LinearToZero(Schedule):
    """The rate falls by the same amount each step, to nothing after the last one: PyTorch's `LinearLR`, from 1 to 0.

    Parameters
    ----------
    learning_rate : float
    warmup : int or float, default 0
        As in `Schedule`.

    Examples
    --------
    >>> from fastmlp.schedules import LinearToZero
    >>> schedule = LinearToZero(1.0)
    >>> [schedule(step, n_steps=4) for step in range(4)]
    [1.0, 0.75, 0.5, 0.25]
    """

    def _shares(self, steps: NDArray[np.int64], n_steps: int) -> Float64:
        return 1 - steps / n_steps


# By their names in the `fastmlp` command.
SCHEDULES: dict[str, type[Schedule]] = {
    "step": Step,
    "exponential": Exponential,
    "cosine": Cosine,
    "one_cycle": OneCycle,
    "linear": LinearToZero,
}


def checked_rate(name: str, value: object) -> Rate:
    """Return what an optimizer may have for its learning rate: a number greater than 0, or a function.

    Examples
    --------
    >>> from fastmlp.schedules import Cosine, checked_rate
    >>> checked_rate("learning_rate", 1), checked_rate("learning_rate", Cosine(0.1))
    (1.0, Cosine(0.1, warmup=0, end=0.0))
    """
    if isinstance(value, type) and issubclass(value, Schedule):
        raise TypeError(
            f"{name} must be a number, not the class {value.__name__}; {value.__name__}(0.001) is a schedule"
        )
    if callable(value):
        return value
    return checks.number(
        name, value, "greater than 0", lambda x: x > 0, "; or a schedule, a function of (step, n_steps)"
    )


def rates(learning_rate: Rate, steps: range, n_steps: int) -> Float64:
    """Return the learning rates of some of a call's n_steps steps, float64 (len(steps),).

    Raises
    ------
    ValueError
        A rate is not a number, not finite or negative.

    Examples
    --------
    >>> from fastmlp.schedules import rates
    >>> rates(lambda step, n_steps: 1 - step / n_steps, range(2, 4), n_steps=4)
    array([0.5 , 0.25])
    """
    if not callable(learning_rate):
        return np.full(len(steps), learning_rate, np.float64)
    if isinstance(learning_rate, Schedule):
        found = learning_rate.rates(np.arange(steps.start, steps.stop, steps.step), n_steps)
    else:
        found = np.array([_number(learning_rate(step, n_steps)) for step in steps])
    wrong = np.flatnonzero(~((found >= 0) & (found < math.inf)))
    if wrong.size:
        raise ValueError(
            "learning_rate must be a function that returns finite numbers from 0 on; "
            f"of step {steps[wrong[0]]} of {n_steps} it returned {found[wrong[0]]}"
        )
    return found


def try_rates(learning_rate: Rate, n_steps: int) -> None:
    """Ask for the rates of all steps or, of very many, for some of them from the first to the last: `rates` may raise.

    Examples
    --------
    >>> from fastmlp.schedules import try_rates
    >>> try_rates(lambda step, n_steps: 0.1 - step, n_steps=10)
    Traceback (most recent call last):
    ValueError: learning_rate must be a function that returns finite numbers from 0 on; of step 1 of 10 it returned -0.9
    """
    rates(learning_rate, range(0, n_steps, -(-n_steps // TRIED_STEPS)), n_steps)
    rates(learning_rate, range(n_steps - 1, n_steps), n_steps)


def _number(rate: object) -> float:
    if isinstance(rate, bool) or not isinstance(rate, Real):
        raise ValueError(f"learning_rate must be a function that returns numbers; it returned {rate!r:.80}")
    return float(rate)


def _checked_span(name: str, value: object, wanted: str, valid: Callable[[float], bool], least: int = 0) -> float:
    """Return a number of steps, or a share of them."""
    if isinstance(value, Integral):
        return checks.integer(name, value, least=least)
    return checks.number(name, value, f"{wanted} where it is a share of the steps and not their number", valid)


def _length(span: float, n_steps: int) -> float:
    return span if isinstance(span, int) else span * n_steps


def _between(first: float, last: float, way: NDArray[np.floating[Any]]) -> Float64:
    """From the first share to the last one along half a cosine."""
    return np.asarray(last + (first - last) / 2 * (1 + np.cos(np.pi * way)))
