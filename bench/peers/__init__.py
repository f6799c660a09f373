"""The peers: each a module here with a class `Peer`, in the forms in which that library may be fastest."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.workloads import Problem

__all__ = ["PEERS", "Entry", "Peer"]


class Peer(ABC):
    """A network in some library, with its data at hand in the form that the library likes best.

    Parameters
    ----------
    problem : Problem
    form : str
        One of the peer's `Entry.forms`.
    threads : int
        Threads to use. The process is confined to as many processors.
    """

    # What the library itself says that the epochs of the last `fit` took, where it says so.
    epoch_seconds: list[float] | None = None

    @abstractmethod
    def __init__(self, problem: Problem, form: str, threads: int) -> None: ...

    @abstractmethod
    def reset(self) -> None:
        """Take the problem's weights and forget the optimizer's state; not timed."""

    @abstractmethod
    def fit(self, epochs: int, shuffle: bool) -> list[float]:
        """Train on from where the network stands; return each epoch's mean cost.

        A new random order of the rows each epoch, or the order that they have. This call is timed.
        """

    @abstractmethod
    def predict(self, X: NDArray[np.float32]) -> NDArray[Any]:
        """Return the labels (n,) of the rows X (n, k)."""


@dataclass(frozen=True)
class Entry:
    """A peer in the list.

    Attributes
    ----------
    requires : tuple of str
        The modules that it needs.
    forms : tuple of str
        The one that is soonest ready first.
    sparse : tuple of str
        Those for sparse rows.
    left_out : str
        Where it has none for sparse rows: why.
    """

    requires: tuple[str, ...]
    forms: tuple[str, ...]
    sparse: tuple[str, ...] = ()
    left_out: str = ""

    def missing(self) -> list[str]:
        """Return the modules that are not installed."""
        return [module for module in self.requires if importlib.util.find_spec(module) is None]


PEERS = {
    "fastmlp": Entry(("fastmlp",), ("fit",), ("fit",)),
    "pytorch": Entry(("torch",), ("eager", "compile"), ("bag",)),
    "jax": Entry(("jax", "optax"), ("scan",), ("gather",)),
    "keras": Entry(
        ("tensorflow", "keras"), ("fit", "epoch"), left_out="XLA, which compiles its forms here, has no sparse tensors"
    ),
    "sklearn": Entry(("sklearn",), ("fit",), ("fit",)),
    "numpy": Entry(("numpy",), ("loop",), ("loop",)),
}
