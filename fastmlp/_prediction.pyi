from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

class FewRows:
    def __init__(self, layers: Sequence[tuple[int, int, int, bool, int]], parameters: NDArray[np.float32]) -> None: ...
    def logits(self, X: object) -> NDArray[np.float32] | None: ...

def logits(
    out: NDArray[np.float32],
    layers: Sequence[tuple[int, int, int, bool, int]],
    parameters: NDArray[np.float32],
    X: NDArray[np.float32],
    n_threads: int,
) -> None: ...
