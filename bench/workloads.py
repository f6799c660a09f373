"""The workloads: what is trained and what is predicted, on which rows, and how much arithmetic that is."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["LEARNING_RATE", "PREDICTION", "TRAINING", "Prediction", "Problem", "Training", "flop_of_training"]

LEARNING_RATE = 1e-3
QUICK_BATCHES = 4
# Values of a row of text, about; and what a CSR array is made of.
WORDS = 67
CSR = ("data", "indices", "indptr", "shape")


@dataclass(frozen=True)
class Problem:
    """What a peer is given: rows, labels, and the weights to start from; every bias starts at 0.

    Attributes
    ----------
    layer_sizes : tuple of int
    activation : {"relu", "tanh"}
        Of the hidden layers; the outputs are softmax, the loss is cross-entropy.
    batch_size : int
        Divides the number of rows.
    X : float32 array (n, k), or SciPy's CSR array
    y : int64 array (n,)
    weights : list of float32 arrays (n_in, n_out)
    """

    layer_sizes: tuple[int, ...]
    activation: str
    batch_size: int
    X: Any
    y: NDArray[np.int64]
    weights: list[NDArray[np.float32]]

    @classmethod
    def make(cls, layer_sizes: tuple[int, ...], activation: str, data: str, rows: int, batch_size: int) -> Problem:
        """Make the problem: the same arrays whenever it is called."""
        X, y = _mnist() if data == "mnist" else MAKERS[data](rows, layer_sizes[0], layer_sizes[-1])
        gain = 2 if activation == "relu" else 1
        generator = np.random.default_rng(1)
        weights = [
            generator.standard_normal((k, m), dtype=np.float32) * np.float32(math.sqrt(gain / k))
            for k, m in pairwise(layer_sizes)
        ]
        return cls(layer_sizes, activation, batch_size, X[:rows], y[:rows], weights)

    def save(self, path: Path) -> None:
        """Write the problem for another process."""
        arrays: dict[str, Any] = {f"weights{i}": w for i, w in enumerate(self.weights)}
        if isinstance(self.X, np.ndarray):
            arrays["X"] = self.X
        else:
            arrays |= {part: getattr(self.X, part) for part in CSR}
        np.savez(path, activation=self.activation, batch_size=self.batch_size, y=self.y, **arrays)

    @classmethod
    def load(cls, path: Path) -> Problem:
        """Read what `save` wrote."""
        with np.load(path) as file:
            weights = [file[f"weights{i}"] for i in range(sum(name.startswith("weights") for name in file.files))]
            sizes = (*map(len, weights), weights[-1].shape[1])
            X = file["X"] if "X" in file.files else _csr(*(file[part] for part in CSR))
            return cls(sizes, str(file["activation"]), int(file["batch_size"]), X, file["y"], weights)


@dataclass(frozen=True)
class Training:
    """A network to train with Adam, learning rate 1e-3.

    Attributes
    ----------
    data : {"mnist", "random", "text"}
        Random rows are dense, from N(0, 1), with the labels of a fixed random network. Text is sparse.
    epochs : int
        Epochs of a call that is timed.
    target : float
        How many times faster than the best peer fastmlp is to be.
    """

    name: str
    layer_sizes: tuple[int, ...]
    activation: str
    data: str
    rows: int
    batch_size: int
    epochs: int
    target: float

    @property
    def sparse(self) -> bool:
        """Whether the rows are SciPy's CSR."""
        return self.data == "text"

    @property
    def flop(self) -> int:
        """Floating-point operations of the dense arithmetic of an epoch; of sparse rows, those of their values."""
        inputs = WORDS if self.sparse else self.layer_sizes[0]
        return flop_of_training((inputs, *self.layer_sizes[1:]), self.rows)

    def quick(self) -> Training:
        """Return the same network on a few rows."""
        return replace(self, rows=min(self.rows, QUICK_BATCHES * self.batch_size), epochs=2)

    def problem(self) -> Problem:
        """Return rows, labels and first weights."""
        return Problem.make(self.layer_sizes, self.activation, self.data, self.rows, self.batch_size)


@dataclass(frozen=True)
class Prediction:
    """Labels to predict, from a NumPy array to a NumPy array.

    Attributes
    ----------
    target_seconds : float or None
        How long fastmlp is to take for a call.
    target : float or None
        How many times faster than the best peer it is to be.
    """

    name: str
    layer_sizes: tuple[int, ...]
    data: str
    rows: int
    target_seconds: float | None = None
    target: float | None = None

    def problem(self) -> Problem:
        """Return the rows to predict, and the weights."""
        return Problem.make(self.layer_sizes, "relu", self.data, self.rows, self.rows)


TRAINING = {
    workload.name: workload
    for workload in (
        Training("seed", (784, 256, 256, 10), "relu", "mnist", 55_000, 100, 5, target=3.0),
        Training("wide", (784, 1024, 1024, 10), "relu", "mnist", 20_480, 256, 3, target=2.4),
        Training("big", (784, 2048, 2048, 10), "relu", "mnist", 10_240, 1024, 3, target=2.2),
        Training("higgs", (28, 300, 300, 300, 300, 300, 2), "tanh", "random", 20_000, 100, 5, target=1.4),
        Training("tiny", (20, 64, 32, 3), "relu", "random", 6_400, 32, 20, target=3.6),
        Training("micro", (4, 32, 16, 4), "relu", "random", 200_000, 10_000, 20, target=4.0),
        Training("table", (50, 500, 250, 125, 8), "relu", "random", 20_000, 500, 5, target=1.0),
        Training("text", (50_000, 64, 20), "relu", "text", 20_000, 200, 5, target=1.0),
    )
}
PREDICTION = {
    workload.name: workload
    for workload in (
        Prediction("seed-row", (784, 256, 256, 10), "mnist", 1, target_seconds=6e-6),
        Prediction("tiny-row", (20, 64, 32, 3), "random", 1, target_seconds=1.7e-6),
        Prediction("seed-rows", (784, 256, 256, 10), "mnist", 10_000, target=3.0),
    )
}


def flop_of_training(layer_sizes: tuple[int, ...], rows: int) -> int:
    """Return the operations of an epoch: 2 n k m each for outputs, input gradient and weight gradient.

    The first layer needs no input gradient. Biases, activations and the optimizer are left out, a few per cent.
    """
    products = [k * m for k, m in pairwise(layer_sizes)]
    return rows * (6 * sum(products) - 2 * products[0])


@functools.cache
def _mnist() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    from fastmlp import load_mnist  # noqa: PLC0415 - the workers of the peers import this module without fastmlp

    return load_mnist("train")


def _taught(n: int, k: int, m: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Random rows with labels that a network can learn: those of a random network with 16 tanh units."""
    generator = np.random.default_rng(0)
    hidden = generator.standard_normal((k, 16)) / math.sqrt(k)
    output = generator.standard_normal((16, m))
    X = generator.standard_normal((n, k), dtype=np.float32)
    logits = np.tanh(2 * X @ hidden) @ output
    return X, logits.argmax(axis=1)


def _texts(n: int, k: int, m: int) -> tuple[Any, NDArray[np.int64]]:
    """Rows like those of texts by TF-IDF, CSR (n, k): k words, few of them common; a tenth are from a class's own."""
    generator = np.random.default_rng(0)
    y = generator.integers(m, size=n)
    row = np.repeat(np.arange(n), generator.poisson(1.05 * WORDS, n) + 1)
    column = generator.permutation(k)[_ranks(generator, k, len(row))]
    own = generator.random(len(row)) < 0.1
    column[own] = generator.integers(k, size=(m, 500))[y[row[own]], _ranks(generator, 500, int(own.sum()))]
    places, counts = np.unique(row * k + column, return_counts=True)
    row, column = np.divmod(places, k)
    values = (1 + np.log(counts)) * np.log(n / np.bincount(column, minlength=k)[column] + 1)
    values /= np.sqrt(np.bincount(row, values**2))[row]
    indptr = np.searchsorted(row, np.arange(n + 1))
    return _csr(values.astype(np.float32), column.astype(np.int32), indptr.astype(np.int32), (n, k)), y


def _ranks(generator: np.random.Generator, size: int, count: int) -> NDArray[np.int64]:
    """Draw numbers below `size`, i about as often as 1 / (i + 5): as words are by their rank (Zipf)."""
    shares = np.cumsum(1 / (5 + np.arange(size)))
    found: NDArray[np.int64] = np.searchsorted(shares, shares[-1] * generator.random(count))
    return found


def _csr(data: Any, indices: Any, indptr: Any, shape: Any) -> Any:
    import scipy.sparse  # noqa: PLC0415 - few workloads need it

    return scipy.sparse.csr_array((data, indices, indptr), tuple(shape))


MAKERS = {"random": _taught, "text": _texts}
