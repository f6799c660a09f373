"""The random states of scikit-learn, in less time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

__all__ = ["random_state"]

# Those that no fit has at the moment. To make one takes 150 us, as much as three epochs of a small network: NumPy asks
# the system for a seed first, and then takes the given one.
_IDLE: list[np.random.RandomState] = []


@contextmanager
def random_state(seed: Any) -> Iterator[np.random.RandomState]:
    """Have what `sklearn.utils.check_random_state` returns, within the block only.

    Examples
    --------
    >>> from fastmlp.sklearn.draws import random_state
    >>> with random_state(0) as random:
    ...     random.randint(100)
    44
    """
    if not isinstance(seed, Integral):
        yield check_random_state(seed)
        return
    random = None
    with suppress(IndexError):
        random = _IDLE.pop()
    random = random or np.random.RandomState()
    random.seed(int(seed))
    yield random
    _IDLE.append(random)
