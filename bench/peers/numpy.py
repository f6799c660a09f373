"""The training loop that one writes by hand in NumPy, float32, with in-place updates.

Sparse rows are SciPy's own, whose products are called likewise.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

import bench.peers
from bench.workloads import LEARNING_RATE, Problem

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8

Float32 = NDArray[np.float32]


class Peer(bench.peers.Peer):
    """Forward, backward and Adam, a NumPy call each operation."""

    def __init__(self, problem: Problem, form: str, threads: int) -> None:  # noqa: ARG002
        self.problem = problem
        self.generator = np.random.default_rng(2)
        self.reset()

    def reset(self) -> None:
        """Take the first weights."""
        self.parameters = [w.copy() for w in self.problem.weights]
        self.parameters += [np.zeros(w.shape[1], np.float32) for w in self.problem.weights]
        self.means = [np.zeros_like(p) for p in self.parameters]
        self.squares = [np.zeros_like(p) for p in self.parameters]
        self.step = 0

    def fit(self, epochs: int, shuffle: bool) -> list[float]:
        """Train."""
        n = self.problem.X.shape[0]
        batches = n // self.problem.batch_size
        costs = []
        for _ in range(epochs):
            order = self.generator.permutation(n) if shuffle else np.arange(n)
            cost = 0.0
            for rows in np.split(order, batches):
                cost += self._train(self.problem.X[rows], self.problem.y[rows])
            costs.append(cost / batches)
        return costs

    def predict(self, X: Float32) -> NDArray[Any]:
        """Predict labels."""
        return np.asarray(self._forward(X)[-1].argmax(axis=1))

    def _layers(self) -> list[tuple[Float32, Float32]]:
        half = len(self.parameters) // 2
        return list(zip(self.parameters[:half], self.parameters[half:], strict=True))

    def _forward(self, X: Any) -> list[Float32]:
        outputs = [X]
        layers = self._layers()
        for i, (weights, bias) in enumerate(layers):
            z = outputs[-1] @ weights
            z += bias
            if i < len(layers) - 1:
                if self.problem.activation == "relu":
                    np.maximum(z, 0, out=z)
                else:
                    np.tanh(z, out=z)
            outputs.append(z)
        return outputs

    def _train(self, X: Any, y: NDArray[np.int64]) -> float:
        outputs = self._forward(X)
        n, rows = len(y), np.arange(len(y))
        logits = outputs[-1]
        logits -= logits.max(axis=1, keepdims=True)
        chosen = logits[rows, y]
        dz = np.exp(logits, out=logits)
        totals = dz.sum(axis=1, keepdims=True)
        cost = float((np.log(totals[:, 0]) - chosen).mean())
        dz /= totals
        dz[rows, y] -= 1
        dz /= n
        gradients: list[tuple[Float32, Float32]] = []
        for i, (weights, _) in reversed(list(enumerate(self._layers()))):
            h = outputs[i]
            gradients.append((h.T @ dz, dz.sum(axis=0)))
            if i:
                dz = dz @ weights.T
                if self.problem.activation == "relu":
                    dz *= h > 0
                else:
                    dz *= 1 - h * h
        gradients.reverse()
        self._adam([dw for dw, _ in gradients] + [db for _, db in gradients])
        return cost

    def _adam(self, gradients: list[Float32]) -> None:
        self.step += 1
        correction = math.sqrt(1 - BETA_2**self.step)
        rate = LEARNING_RATE * correction / (1 - BETA_1**self.step)
        for arrays in zip(self.parameters, gradients, self.means, self.squares, strict=True):
            _update(*arrays, rate=rate, epsilon=EPSILON * correction)


def _update(p: Float32, g: Float32, m: Float32, v: Float32, *, rate: float, epsilon: float) -> None:
    m *= BETA_1
    m += (1 - BETA_1) * g
    v *= BETA_2
    g *= g
    g *= 1 - BETA_2
    v += g
    root = np.sqrt(v)
    root += epsilon
    np.divide(m, root, out=root)
    root *= rate
    p -= root
