"""fastmlp, through its public names only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

import bench.peers
import fastmlp
from bench.workloads import LEARNING_RATE, Problem


class Peer(bench.peers.Peer):
    """One call of `MLP.fit`, which looks through the rows for zeros before it trains."""

    def __init__(self, problem: Problem, form: str, threads: int) -> None:  # noqa: ARG002
        self.problem = problem
        self.threads = threads
        self.reset()

    def reset(self) -> None:
        """Make the network anew."""
        problem = self.problem
        self.network = fastmlp.MLP(problem.layer_sizes, activation=problem.activation, n_threads=self.threads)
        for weights, first in zip(self.network.weights, problem.weights, strict=True):
            weights[...] = first

    def fit(self, epochs: int, shuffle: bool) -> list[float]:
        """Train."""
        history = self.network.fit(
            self.problem.X,
            self.problem.y,
            epochs=epochs,
            batch_size=self.problem.batch_size,
            optimizer=fastmlp.Adam(LEARNING_RATE),
            shuffle=shuffle,
            verbose=False,
        )
        self.epoch_seconds = history.seconds
        return history.loss

    def predict(self, X: NDArray[np.float32]) -> NDArray[Any]:
        """Predict labels."""
        return self.network.predict(X)
