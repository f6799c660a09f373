from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fastmlp.engine.rows import Rows
from fastmlp.engine.team import Team

MOST_CHAIN_PARAMETERS: int

class Trainer(Team):
    step: int
    averaged: int
    batch: int
    n_batches: int
    at_cut: bool
    at_gradient: bool
    is_over: bool
    batch_size: int
    forms: list[bool]
    cost: float
    total_cost: float
    cost_before: float
    def __init__(
        self,
        layers: Sequence[tuple[int, int, int, bool, bool, int, int | None, float, float]],
        loss: object,
        batch_size: int,
        n_threads: int,
        *,
        max_norm: float | None = None,
        cut_at_gradient: bool = False,
    ) -> None: ...
    def load(
        self, values: NDArray[np.float32], moments: Sequence[NDArray[np.float32]], step: int | None = None
    ) -> None: ...
    def load_averages(self, averages: NDArray[np.float32], averaged: int) -> None: ...
    def store(
        self,
        values: NDArray[np.float32],
        moments: Sequence[NDArray[np.float32]],
        averages: NDArray[np.float32] | None = None,
    ) -> None: ...
    def store_gradient(self, gradient: NDArray[np.float32]) -> None: ...
    def load_gradient(self, gradient: NDArray[np.float32]) -> None: ...
    def set_optimizer(self, optimizer: object, rates: NDArray[np.float64] | None = None) -> None: ...
    def is_finite(self) -> bool: ...
    def start_epoch(
        self,
        rows: Rows,
        order: NDArray[np.int64],
        key: int = 0,
        *,
        is_last: bool = True,
        n_batches: int = 0,
        first: int = 0,
        batch: int = 0,
        total_cost: float = 0.0,
        forms: Sequence[bool] = (),
    ) -> None: ...
    def run(self, most: int = ...) -> None: ...
    def phase_times(self) -> list[tuple[Counter[tuple[str, int]], list[float], list[float]]]: ...
    def cut_rows(self) -> NDArray[np.int64]: ...
    def logits(self) -> NDArray[np.float32]: ...
    def set_losses(self, losses: NDArray[np.float32], dlogits: NDArray[np.float32]) -> None: ...
