"""Keras on TensorFlow, compiled by XLA: `fit`, or a training loop of one's own over an epoch."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

import bench.peers
from bench.workloads import LEARNING_RATE, Problem


class Peer(bench.peers.Peer):
    """In the form "fit", an execution is an epoch; in the form "epoch", a `tf.function` loops over the batches."""

    def __init__(self, problem: Problem, form: str, threads: int) -> None:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        self.problem = problem
        self.form = form
        self.n_batches = len(problem.X) // problem.batch_size
        hidden = [keras.layers.Dense(m, activation=problem.activation) for m in problem.layer_sizes[1:-1]]
        inputs = keras.Input((problem.layer_sizes[0],))
        self.model = keras.Sequential([inputs, *hidden, keras.layers.Dense(problem.layer_sizes[-1])])
        self.optimizer = keras.optimizers.Adam(LEARNING_RATE, epsilon=1e-8)
        self.optimizer.build(self.model.trainable_variables)
        self.first_state = [variable.numpy() for variable in self.optimizer.variables]
        self.model.compile(
            self.optimizer,
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            jit_compile=True,
            steps_per_execution=self.n_batches,
        )
        self.X, self.y = tf.constant(problem.X), tf.constant(problem.y)
        self.generator = np.random.default_rng(2)
        self.epoch = tf.function(self._epoch, jit_compile=True)
        self.labels = tf.function(lambda X: tf.argmax(self.model(X, training=False), axis=1), jit_compile=True)
        self.reset()

    def reset(self) -> None:
        """Take the first weights."""
        arrays = []
        for weights in self.problem.weights:
            arrays += [weights, np.zeros(weights.shape[1], np.float32)]
        self.model.set_weights(arrays)
        for variable, value in zip(self.optimizer.variables, self.first_state, strict=True):
            variable.assign(value)

    def fit(self, epochs: int, shuffle: bool) -> list[float]:
        """Train."""
        if self.form == "fit":
            history = self.model.fit(
                self.problem.X,
                self.problem.y,
                batch_size=self.problem.batch_size,
                epochs=epochs,
                shuffle=shuffle,
                verbose=0,
            )
            return [float(cost) for cost in history.history["loss"]]
        n, costs = len(self.problem.X), []
        for _ in range(epochs):
            order = self.generator.permutation(n) if shuffle else np.arange(n)
            costs.append(float(self.epoch(tf.constant(order.reshape(self.n_batches, -1), tf.int32))))
        return costs

    def predict(self, X: NDArray[np.float32]) -> NDArray[Any]:
        """Predict labels."""
        return np.asarray(self.labels(X).numpy())

    def _epoch(self, order: Any) -> Any:
        total = tf.constant(0.0)
        variables = self.model.trainable_variables
        for i in tf.range(self.n_batches):
            rows = order[i]
            with tf.GradientTape() as tape:
                logits = self.model(tf.gather(self.X, rows), training=True)
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.gather(self.y, rows), logits)
                cost = tf.reduce_mean(losses)
            self.optimizer.apply(tape.gradient(cost, variables), variables)
            total += cost
        return total / self.n_batches
