"""scikit-learn's MLPClassifier: one `fit` of several epochs, started from the given weights."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

import bench.peers
from bench.workloads import LEARNING_RATE, Problem


class Peer(bench.peers.Peer):
    """`MLPClassifier.fit` with `warm_start`, which keeps the weights and starts a new optimizer."""

    def __init__(self, problem: Problem, form: str, threads: int) -> None:  # noqa: ARG002
        # It stops only after max_iter, and says so in a warning.
        warnings.simplefilter("ignore", ConvergenceWarning)
        self.problem = problem
        n_classes = problem.layer_sizes[-1]
        # Two classes would get one logistic output; as rows of a label matrix they get two, as everywhere else.
        self.y = problem.y if n_classes > 2 else np.eye(n_classes, dtype=np.int64)[problem.y]
        self.model = MLPClassifier(
            problem.layer_sizes[1:-1],
            activation=problem.activation,
            alpha=0,
            batch_size=problem.batch_size,
            learning_rate_init=LEARNING_RATE,
            random_state=np.random.RandomState(2),
            n_iter_no_change=np.inf,
        )
        rows = slice(problem.batch_size)
        self.model.partial_fit(problem.X[rows], self.y[rows], classes=np.arange(n_classes))
        self.model.out_activation_ = "softmax"
        # Only now, as with it every call must bring all classes.
        self.model.set_params(warm_start=True)
        self.reset()

    def reset(self) -> None:
        """Take the first weights."""
        self.model.coefs_ = [w.copy() for w in self.problem.weights]
        self.model.intercepts_ = [np.zeros(w.shape[1], np.float32) for w in self.problem.weights]

    def fit(self, epochs: int, shuffle: bool) -> list[float]:
        """Train."""
        self.model.set_params(max_iter=epochs, shuffle=shuffle)
        self.model.fit(self.problem.X, self.y)
        return [float(cost) for cost in self.model.loss_curve_[-epochs:]]

    def predict(self, X: NDArray[np.float32]) -> NDArray[Any]:
        """Predict labels."""
        return np.asarray(self.model.predict(X))
