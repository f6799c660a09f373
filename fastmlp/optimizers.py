"""The optimizers: their hyper-parameters. The arithmetic is in the engine, and specified in `fastmlp.reference`."""

from collections.abc import Callable
from typing import Literal, NamedTuple

from fastmlp import checks, hints
from fastmlp.schedules import Rate, checked_rate

__all__ = ["OPTIMIZERS", "RULES", "SGD", "Adam", "AdamW", "Optimizer", "Rule", "checked_optimizer"]


class Rule(NamedTuple):
    """How an update is made of a gradient.

    Attributes
    ----------
    code : int
        The engine's number for it (`enum fm_rule` in `src/fastmlp.h`).
    moments : {"velocity", "means"}
        What it remembers of earlier gradients: one velocity, or the means of them and of their squares. Rules that
        remember the same go on with each other's moments.

    Examples
    --------
    >>> from fastmlp.optimizers import RULES
    >>> RULES["sgd"].moments == RULES["nesterov"].moments
    True
    """

    code: int
    moments: Literal["velocity", "means"]


RULES = {"sgd": Rule(0, "velocity"), "nesterov": Rule(1, "velocity"), "adam": Rule(2, "means")}


class Optimizer:
    """Base of all optimizers: hyper-parameters, checked whenever they are set, and the rule that they belong to.

    Attributes
    ----------
    alpha : float
        The `l2` of scikit-learn, which depends on the batch: alpha / n is added to `l2` for a batch of n rows, or of
        `sample_weight` that sum to n. At least 0, and 0 until it is set.
    epsilon_hat : bool
        Adam's epsilon as scikit-learn and Keras mean it, beside the root before its correction (Kingma & Ba 2015, end
        of section 2): in the first steps it counts for more. False until it is set.

    Examples
    --------
    >>> import fastmlp
    >>> optimizer = fastmlp.Adam()
    >>> optimizer.learning_rate = 3e-4
    >>> optimizer.rule
    'adam'
    """

    learning_rate: Rate
    l2: float
    clip_norm: float | None
    clip_value: float | None
    ema: float | None
    alpha: float = 0.0
    epsilon_hat: bool = False

    @property
    def rule(self) -> str:
        """A name of `RULES`."""
        raise NotImplementedError

    @property
    def code(self) -> int:
        """The engine's number for the rule."""
        return RULES[self.rule].code

    def __setattr__(self, name: str, value: object) -> None:
        if name not in _CHECKS:
            raise AttributeError(f"{type(self).__name__} has no {name}; it has {', '.join(vars(self))}")
        super().__setattr__(name, _CHECKS[name](name, value))

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in vars(self).items() if value is not None)
        return f"{type(self).__name__}({values})"


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum where it is asked for.

    v = momentum * v + g, then w -= learning_rate * v or, with Nesterov's momentum (Sutskever et al. 2013, in the
    form of Bengio et al. 2013), w -= learning_rate * (g + momentum * v).

    Parameters
    ----------
    learning_rate : float or schedule, default 0.01
        Greater than 0; or one of `fastmlp.schedules`, or another function of (step, n_steps) that returns a rate.
    momentum : float, default 0.0
        In [0, 1).
    nesterov : bool, default False
    l2 : float, default 0.0
        At least 0: the cost that is minimised also has l2 / 2 times the sum of the squares of all weights, so that
        their gradient grows by l2 * w. Biases are left out, and the loss that is reported is without it. For `SGD` that
        is PyTorch's ``weight_decay``, for biases too; Keras's ``L2`` of a layer is half as large a number.
    clip_norm : float or None, default None
        Greater than 0: where the norm of a batch's gradient, over all parameters, is above it, the gradient is
        multiplied down to it before the step (Pascanu, Mikolov & Bengio 2013, algorithm 1). None: as it is.
        A callback that sets it where it was None clips from the next epoch on.
    clip_value : float or None, default None
        At least 1e-30: each component of the gradient is held within -clip_value and clip_value, after `clip_norm` and
        before `l2` is added. None: as it is.
    ema : float or None, default None
        In [0, 1): the parameters are averaged over all steps, each step weighing `ema` times the next one: an
        exponential moving average, by Adam's correction without the bias of its beginning (Polyak & Juditsky 1992, in
        the form of Kingma & Ba 2015, section 7.2). Validation is by the averages, ``network.averaged()`` is a network
        that has them; the network itself keeps the parameters of the last step, from which training goes on. 0.999
        averages over some 1,000 steps. A call of `fit` with None forgets the averages.

    Raises
    ------
    TypeError, ValueError
        A hyper-parameter is not a number, or out of its range.

    Examples
    --------
    >>> import fastmlp
    >>> fastmlp.SGD(learning_rate=0.1, momentum=0.9)
    SGD(learning_rate=0.1, momentum=0.9, nesterov=False, l2=0.0)
    """

    @hints.for_arguments
    def __init__(
        self,
        learning_rate: Rate = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        *,
        l2: float = 0.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        ema: float | None = None,
    ) -> None:
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.nesterov = nesterov
        self.l2 = l2
        self.clip_norm = clip_norm
        self.clip_value = clip_value
        self.ema = ema

    @property
    def rule(self) -> str:
        """A name of `RULES`."""
        return "nesterov" if self.nesterov else "sgd"


class Adam(Optimizer):
    """Adam: steps scaled by running means of the gradient and of its square.

    Algorithm 1 of Kingma & Ba (2015, arXiv:1412.6980), with epsilon added to the corrected root, as in PyTorch.

    Parameters
    ----------
    learning_rate : float or schedule, default 0.001
        As in `SGD`.
    beta_1, beta_2 : float, default 0.9 and 0.999
        Decay of the two means a step, in [0, 1).
    epsilon : float, default 1e-8
        At least 1e-30: float32 must tell it from 0.
    l2 : float, default 0.0
    clip_norm, clip_value, ema : float or None, default None
        As in `SGD`.

    Raises
    ------
    TypeError, ValueError
        A hyper-parameter is not a number, or out of its range.

    Examples
    --------
    >>> import fastmlp
    >>> fastmlp.Adam(learning_rate=3e-4)
    Adam(learning_rate=0.0003, beta_1=0.9, beta_2=0.999, epsilon=1e-08, l2=0.0)
    """

    @hints.for_arguments
    def __init__(
        self,
        learning_rate: Rate = 1e-3,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        *,
        l2: float = 0.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        ema: float | None = None,
    ) -> None:
        self.learning_rate = learning_rate
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.l2 = l2
        self.clip_norm = clip_norm
        self.clip_value = clip_value
        self.ema = ema

    @property
    def rule(self) -> str:
        """A name of `RULES`."""
        return "adam"


class AdamW(Adam):
    """Adam with decoupled weight decay: each step also takes learning_rate * weight_decay * w off every parameter.

    Loshchilov & Hutter (2019, arXiv:1711.05101), in PyTorch's form; the biases decay too.

    Parameters
    ----------
    learning_rate, beta_1, beta_2, epsilon
        As in `Adam`.
    weight_decay : float, default 0.01
        At least 0.
    l2 : float, default 0.0
    clip_norm, clip_value, ema : float or None, default None
        As in `SGD`.

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

    @hints.for_arguments
    def __init__(
        self,
        learning_rate: Rate = 1e-3,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.01,
        *,
        l2: float = 0.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        ema: float | None = None,
    ) -> None:
        super().__init__(
            learning_rate, beta_1, beta_2, epsilon, l2=l2, clip_norm=clip_norm, clip_value=clip_value, ema=ema
        )
        self.weight_decay = weight_decay


# By their names in the `fastmlp` command.
OPTIMIZERS: dict[str, type[SGD] | type[Adam]] = {"sgd": SGD, "adam": Adam, "adamw": AdamW}


def checked_optimizer(optimizer: object) -> Optimizer:
    """Return an optimizer; for None, Adam with its defaults.

    Examples
    --------
    >>> from fastmlp.optimizers import checked_optimizer
    >>> checked_optimizer(None)
    Adam(learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-08, l2=0.0)
    """
    if optimizer is None:
        return Adam()
    if not isinstance(optimizer, Optimizer):
        *others, last = (kind.__name__ for kind in OPTIMIZERS.values())
        raise TypeError(f"optimizer must be a fastmlp.{', '.join(others)} or {last}, not {optimizer!r:.80}")
    return optimizer


def _number(wanted: str, valid: Callable[[float], bool]) -> Callable[[str, object], float]:
    return lambda name, value: checks.number(name, value, wanted, valid)


def _number_or_none(wanted: str, valid: Callable[[float], bool]) -> Callable[[str, object], float | None]:
    check = _number(wanted, valid)
    return lambda name, value: None if value is None else check(name, value)


_CHECKS: dict[str, Callable[[str, object], object]] = {
    "learning_rate": checked_rate,
    "momentum": _number("in [0, 1)", lambda x: 0 <= x < 1),
    "nesterov": checks.boolean,
    "beta_1": _number("in [0, 1)", lambda x: 0 <= x < 1),
    "beta_2": _number("in [0, 1)", lambda x: 0 <= x < 1),
    "epsilon": _number("at least 1e-30", lambda x: x >= 1e-30),
    "weight_decay": _number("at least 0", lambda x: x >= 0),
    "l2": _number("at least 0", lambda x: x >= 0),
    "alpha": _number("at least 0", lambda x: x >= 0),
    "epsilon_hat": checks.boolean,
    "clip_norm": _number_or_none("greater than 0", lambda x: x > 0),
    "clip_value": _number_or_none("at least 1e-30", lambda x: x >= 1e-30),
    "ema": _number_or_none("in [0, 1)", lambda x: 0 <= x < 1),
}
