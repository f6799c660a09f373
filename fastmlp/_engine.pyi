from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fastmlp._inputs import Inputs

class Trainer:
    step: int
    batch: int
    n_batches: int
    cost: float
    def __init__(
        self,
        layer_sizes: Sequence[int],
        parameters: NDArray[np.float32],
        moments: Sequence[NDArray[np.float32]],
        activation: int,
        loss: int,
        inputs: Inputs,
        labels: NDArray[np.int64] | None,
        targets: NDArray[np.float32] | None,
        sample_weight: NDArray[np.float32] | None,
        batch_size: int,
        optimizer: object,
        step: int,
        n_threads: int,
    ) -> None: ...
    def load(self, parameters: NDArray[np.float32], moments: Sequence[NDArray[np.float32]]) -> None: ...
    def set_optimizer(self, optimizer: object) -> None: ...
    def is_finite(self) -> bool: ...
    def store(self, parameters: NDArray[np.float32], moments: Sequence[NDArray[np.float32]]) -> None: ...
    def start_epoch(self, order: NDArray[np.int64]) -> None: ...
    def run(self) -> None: ...
