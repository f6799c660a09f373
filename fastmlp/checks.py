"""What every call asks of its arguments that are no arrays: numbers, choices, names and paths."""

import math
import os
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any, TypeVar

import numpy as np

from fastmlp import hints

T = TypeVar("T")

__all__ = ["boolean", "integer", "number", "number_or_each", "one_of", "one_or_each", "path", "verbosity"]


def integer(name: str, value: object, least: int, most: int | None = None) -> int:
    """Return a whole number from `least` to `most`.

    Examples
    --------
    >>> from fastmlp.checks import integer
    >>> integer("epochs", 3, least=1)
    3
    """
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be a whole number, not {value!r:.80}")
    number = int(value)
    if number < least or (most is not None and number > most):
        wanted = f"at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} must be {wanted}, not {number}")
    return number


def number(name: str, value: object, wanted: str, valid: Callable[[float], bool], otherwise: str = "") -> float:
    """Return a finite number for which `valid` holds, as `wanted` says; a message of a wrong type ends in `otherwise`.

    Examples
    --------
    >>> from fastmlp.checks import number
    >>> number("momentum", 0, "in [0, 1)", lambda x: 0 <= x < 1)
    0.0
    """
    if type(value) is not float and (isinstance(value, (bool, np.bool_)) or not isinstance(value, Real)):
        raise TypeError(f"{name} must be a number, not {value!r:.80}{otherwise}")
    try:
        number = float(value)
    except OverflowError:  # a whole number beyond float's
        number = math.inf
    if not (math.isfinite(number) and valid(number)):
        raise ValueError(f"{name} must be finite and {wanted}, not {number!r}")
    return number


def boolean(name: str, value: object) -> bool:
    """Return True or False; nothing else is taken for one of them.

    Examples
    --------
    >>> from fastmlp.checks import boolean
    >>> boolean("shuffle", False)
    False
    """
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, not {value!r:.80}")
    return bool(value)


def verbosity(value: object) -> bool | int:
    """Return True, False, or a number of epochs; 1 is one epoch, and not True.

    Examples
    --------
    >>> from fastmlp.checks import verbosity
    >>> verbosity(True), verbosity(10)
    (True, 10)
    """
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if not isinstance(value, Integral):
        raise TypeError(f"verbose must be True, False or a whole number of epochs, not {value!r:.80}")
    return integer("verbose", value, least=0)


def path(name: str, value: str | bytes | os.PathLike[str]) -> str:
    """Return a path of the file system as a string.

    Examples
    --------
    >>> from fastmlp.checks import path
    >>> path("path", b"digits.safetensors")
    'digits.safetensors'
    """
    try:
        path = os.fsdecode(value)
    except TypeError:
        raise TypeError(f"{name} must be a path, not {value!r:.80}") from None
    if not path or "\0" in path:
        raise ValueError(f"{name} must not be empty, nor have a NUL in it; it is {path!r:.80}")
    return path


def one_of(name: str, value: object, names: Any) -> str:
    """Return a name that is in the table `names`.

    Examples
    --------
    >>> from fastmlp.checks import one_of
    >>> one_of("init", "he", ("he", "glorot", "normal"))
    'he'
    """
    if not isinstance(value, str):
        hint = hints.for_value(value, names)
        raise TypeError(f"{name} must be a string, one of {', '.join(names)}; not {value!r:.80}{hint}")
    if value not in names:
        hint = hints.for_value(value, names)
        raise ValueError(f"{name} must be one of {', '.join(names)}; not {value!r:.80}{hint}")
    return value


def one_or_each(name: str, value: object, names: Any, count: int | None, of: str) -> str | tuple[str, ...]:
    """Return a name in the table `names` for all of `count` things, or one for each of them where those differ.

    A `count` of None is any.

    Examples
    --------
    >>> from fastmlp.checks import one_or_each
    >>> one_or_each("activation", ["relu", "tanh"], ("relu", "tanh"), 2, "hidden layers")
    ('relu', 'tanh')
    >>> one_or_each("activation", ["relu", "relu"], ("relu", "tanh"), 2, "hidden layers")
    'relu'
    """
    return _one_or_each(name, value, lambda name, one: one_of(name, one, names), count, of)


def number_or_each(
    name: str, value: object, kind: tuple[str, Callable[[float], bool]], count: int, of: str
) -> float | tuple[float, ...]:
    """Return a `number` of a kind (wanted, valid) for all of `count` things, or one for each where those differ.

    Examples
    --------
    >>> from fastmlp.checks import number_or_each
    >>> number_or_each("noise", [0, 0.5], ("at least 0", lambda x: x >= 0), 2, "hidden layers")
    (0.0, 0.5)
    """
    return _one_or_each(name, value, lambda name, one: number(name, one, *kind), count, of)


def _one_or_each(
    name: str, value: object, check: Callable[[str, object], T], count: int | None, of: str
) -> T | tuple[T, ...]:
    if isinstance(value, str) or not isinstance(value, (Sequence, np.ndarray)) or np.ndim(value) == 0:
        return check(name, value)
    each = tuple(check(f"{name}[{i}]", one) for i, one in enumerate(value))
    if count is not None and len(each) != count:
        raise ValueError(f"{name} must be one, or one for each of the {count} {of}; not {len(each)}: {each!r:.80}")
    return each[0] if len(set(each)) == 1 else each
