from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from fastmlp.engine.rows import Rows

PREDICT_ROWS: int

class FewRows:
    def __init__(
        self,
        layers: Sequence[tuple[int, int, int, bool, bool, int, int | None, float, float]],
        parameters: NDArray[np.float32],
    ) -> None: ...
    def logits(self, X: object) -> NDArray[np.float32] | None: ...
    def read(self) -> NDArray[np.float32]: ...
    def read_with(self, *arrays: NDArray[np.float32]) -> list[NDArray[np.float32]]: ...
    def __setitem__(
        self, where: slice, values: NDArray[np.float32] | Callable[[NDArray[np.float32]], None]
    ) -> None: ...

class Predictor:
    def __init__(
        self,
        layers: Sequence[tuple[int, int, int, bool, bool, int, int | None, float, float]],
        parameters: NDArray[np.float32],
        n_threads: int,
        rows: Rows | None = None,
    ) -> None: ...
    def logits(
        self, out: NDArray[np.float32], X: NDArray[np.float32] | NDArray[np.float64] | None = None, first: int = 0
    ) -> bool: ...
