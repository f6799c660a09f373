from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.engine.distortion import Distortion

class Rows:
    n: int
    k: int
    listed: bool
    masked: bool
    made: bool
    weights: memoryview | None
    def __init__(
        self,
        X: Any,
        units: int,
        n_threads: int,
        labels: NDArray[np.int64] | None = None,
        targets: NDArray[np.float32] | None = None,
        weights: NDArray[np.float32] | None = None,
        distortion: Distortion | None = None,
        dropout: float = 0.0,
        noise: float = 0.0,
        first: int = 0,
    ) -> None: ...
    def suits(self, units: int, distortion: Distortion | None, noise: float) -> bool: ...
