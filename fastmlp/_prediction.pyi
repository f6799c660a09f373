from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

class FewRows:
    def __init__(self, layer_sizes: Sequence[int], parameters: NDArray[np.float32], activation: int) -> None: ...
    def logits(self, X: object) -> NDArray[np.float32] | None: ...

def logits(
    out: NDArray[np.float32],
    layer_sizes: Sequence[int],
    parameters: NDArray[np.float32],
    activation: int,
    X: NDArray[np.float32],
    n_threads: int,
) -> None: ...
