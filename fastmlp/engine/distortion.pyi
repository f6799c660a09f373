from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

class Distortion:
    def __init__(
        self,
        height: int,
        width: int,
        ranges: Sequence[tuple[float, float]],
        along_columns: NDArray[np.float32] | None = None,
        along_rows: NDArray[np.float32] | None = None,
    ) -> None: ...

def distort(
    out: NDArray[np.float32], images: NDArray[np.float32], distortion: Distortion, key: int, n_threads: int
) -> None: ...
