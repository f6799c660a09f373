"""The optimizers: their hyper-parameters. The arithmetic is in the engine, and specified in `fastmlp.reference`."""

import math
from collections.abc import Callable
from numbers import Real
from typing import ClassVar, TypeAlias

__all__ = ["SGD", "Adam", "AdamW", "Optimizer"]


class SGD:
    """Stochastic gradient descent, with momentum where it is asked for.

    v = momentum * v + g, then w -= learning_rate * v or, with Nesterov's momentum (Sutskever et al. 2013, in the
    form of Bengio et al. 2013), w -= learning_rate * (g + momentum * v).

    Parameters
    ----------
    learning_rate : float, default 0.01
        Greater than 0.
    momentum : float, default 0.0
        In [0, 1).
    nesterov : bool, default False

    Raises
    ------
    TypeError, ValueError
        A hyper-parameter is not a number, or out of its range.

    Examples
    --------
    >>> import fastmlp
    >>> fastmlp.SGD(learning_rate=0.1, momentum=0.9)
    SGD(learning_rate=0.1, momentum=0.9, nesterov=False)
    """

    def __init__(self, learning_rate: float = 0.01, momentum: float = 0.0, nesterov: bool = False) -> None:
        self.learning_rate = _number("learning_rate", learning_rate, "greater than 0", lambda x: x > 0)
        self.momentum = _number("momentum", momentum, "in [0, 1)", _is_share)
        if not isinstance(nesterov, bool):
            raise TypeError(f"nesterov must be True or False, not {nesterov!r}")
        self.nesterov = nesterov

    @property
    def rule(self) -> str:
        """The engine's name for the update."""
        return "nesterov" if self.nesterov else "sgd"

    def __repr__(self) -> str:
        return _repr(self)


class Adam:
    """Adam: steps scaled by running means of the gradient and of its square.

    Algorithm 1 of Kingma & Ba (2015, arXiv:1412.6980), with epsilon added to the corrected root, as in PyTorch.

    Parameters
    ----------
    learning_rate : float, default 0.001
        Greater than 0.
    beta_1, beta_2 : float, default 0.9 and 0.999
        Decay of the two means a step, in [0, 1).
    epsilon : float, default 1e-8
        Greater than 0.

    Raises
    ------
    TypeError, ValueError
        A hyper-parameter is not a number, or out of its range.

    Examples
    --------
    >>> import fastmlp
    >>> fastmlp.Adam(learning_rate=3e-4)
    Adam(learning_rate=0.0003, beta_1=0.9, beta_2=0.999, epsilon=1e-08)
    """

    rule: ClassVar[str] = "adam"

    def __init__(
        self, learning_rate: float = 1e-3, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-8
    ) -> None:
        self.learning_rate = _number("learning_rate", learning_rate, "greater than 0", lambda x: x > 0)
        self.beta_1 = _number("beta_1", beta_1, "in [0, 1)", _is_share)
        self.beta_2 = _number("beta_2", beta_2, "in [0, 1)", _is_share)
        self.epsilon = _number("epsilon", epsilon, "greater than 0", lambda x: x > 0)

    def __repr__(self) -> str:
        return _repr(self)


class AdamW(Adam):
    """Adam with decoupled weight decay: each step also takes learning_rate * weight_decay * w off every parameter.

    Loshchilov & Hutter (2019, arXiv:1711.05101), in PyTorch's form; the biases decay too.

    Parameters
    ----------
    learning_rate, beta_1, beta_2, epsilon : float
        As in `Adam`.
    weight_decay : float, default 0.01
        At least 0.

    Raises
    ------
    TypeError, ValueError
        A hyper-parameter is not a number, or out of its range.

    Examples
    --------
    >>> import fastmlp
    >>> fastmlp.AdamW(weight_decay=0.1).weight_decay
    0.1
    """

    def __init__(
        self,
        learning_rate: float = 1e-3,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(learning_rate, beta_1, beta_2, epsilon)
        self.weight_decay = _number("weight_decay", weight_decay, "at least 0", lambda x: x >= 0)


Optimizer: TypeAlias = SGD | Adam


def _is_share(x: float) -> bool:
    return 0 <= x < 1


def _number(name: str, value: object, wanted: str, valid: Callable[[float], bool]) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, not {value!r}")
    number = float(value)
    if not (math.isfinite(number) and valid(number)):
        raise ValueError(f"{name} must be finite and {wanted}, not {value!r}")
    return number


def _repr(optimizer: object) -> str:
    values = ", ".join(f"{name}={value!r}" for name, value in vars(optimizer).items())
    return f"{type(optimizer).__name__}({values})"
