import numpy as np
from numpy.typing import NDArray

def is_finite(x: NDArray[np.float32] | NDArray[np.float64]) -> bool: ...
def checksum(words: NDArray[np.uint32], n_threads: int) -> int: ...
def matmul_bias(
    out: NDArray[np.float32],
    x: NDArray[np.float32],
    weights: NDArray[np.float32],
    bias: NDArray[np.float32],
    packed: NDArray[np.float32],
    n_threads: int,
) -> None: ...
def packed_size(k: int, m: int) -> int: ...
def activate(h: NDArray[np.float32], activation: int, n_threads: int) -> None: ...
def activate_backward(dz: NDArray[np.float32], h: NDArray[np.float32], activation: int, n_threads: int) -> None: ...
def loss_gradient(
    logits: NDArray[np.float32],
    losses: NDArray[np.float32],
    labels: NDArray[np.int64] | None,
    targets: NDArray[np.float32] | None,
    scale: NDArray[np.float32],
    kind: int,
    parameters: NDArray[np.float32],
    n_threads: int,
) -> None: ...
def softmax(probabilities: NDArray[np.float32]) -> None: ...
def adam(
    weights: NDArray[np.float32],
    moment_1: NDArray[np.float32],
    moment_2: NDArray[np.float32],
    dweights: NDArray[np.float32],
    t: int,
    learning_rate: float,
    beta_1: float,
    beta_2: float,
    epsilon: float,
    weight_decay: float,
    n_threads: int,
) -> None: ...
def shuffle(order: NDArray[np.int64], keys: NDArray[np.uint32]) -> None: ...
def drop(h: NDArray[np.float32], rows: NDArray[np.int64], key: int, rate: float, layer: int, panel: int) -> None: ...
def drop_backward(dh: NDArray[np.float32], plain: NDArray[np.float32], h: NDArray[np.float32], rate: float) -> None: ...
def add_noise(
    z: NDArray[np.float32], rows: NDArray[np.int64], key: int, deviation: float, layer: int, panel: int
) -> None: ...
