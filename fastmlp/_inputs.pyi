import numpy as np
from numpy.typing import NDArray

from fastmlp.sparse import SparseRows

class Inputs:
    listed: bool
    def __init__(self, X: NDArray[np.float32] | SparseRows, m: int, n_threads: int) -> None: ...
