"""JAX: an epoch is one jitted `lax.scan` over the batches, with optax's Adam, its buffers donated."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray

import bench.peers
from bench.workloads import LEARNING_RATE, Problem


class Peer(bench.peers.Peer):
    """The rows lie in a JAX array; each step gathers its batch by index."""

    def __init__(self, problem: Problem, form: str, threads: int) -> None:  # noqa: ARG002
        self.problem = problem
        self.X, self.y = jnp.asarray(problem.X), jnp.asarray(problem.y, jnp.int32)
        self.generator = np.random.default_rng(2)
        self.optimizer = optax.adam(LEARNING_RATE)
        activation = {"relu": jax.nn.relu, "tanh": jnp.tanh}[problem.activation]

        def logits(parameters: Any, X: Any) -> Any:
            for weights, bias in parameters[:-1]:
                X = activation(X @ weights + bias)
            weights, bias = parameters[-1]
            return X @ weights + bias

        def loss(parameters: Any, X: Any, y: Any) -> Any:
            return optax.softmax_cross_entropy_with_integer_labels(logits(parameters, X), y).mean()

        def step(carry: Any, rows: Any, X: Any, y: Any) -> Any:
            parameters, state = carry
            cost, gradient = jax.value_and_grad(loss)(parameters, X[rows], y[rows])
            updates, state = self.optimizer.update(gradient, state)
            return (optax.apply_updates(parameters, updates), state), cost

        def epoch(carry: Any, order: Any, X: Any, y: Any) -> Any:
            carry, costs = jax.lax.scan(functools.partial(step, X=X, y=y), carry, order)
            return carry, costs.mean()

        self.epoch = jax.jit(epoch, donate_argnums=0)
        self.labels = jax.jit(lambda parameters, X: logits(parameters, X).argmax(axis=1))
        self.reset()

    def reset(self) -> None:
        """Take the first weights."""
        parameters = [(jnp.array(w), jnp.zeros(w.shape[1])) for w in self.problem.weights]
        self.carry = parameters, self.optimizer.init(parameters)

    def fit(self, epochs: int, shuffle: bool) -> list[float]:
        """Train."""
        n = len(self.problem.X)
        costs = []
        for _ in range(epochs):
            order = self.generator.permutation(n) if shuffle else np.arange(n)
            batches = order.astype(np.int32).reshape(-1, self.problem.batch_size)
            self.carry, cost = self.epoch(self.carry, batches, self.X, self.y)
            costs.append(cost)
        jax.block_until_ready(self.carry)
        return [float(cost) for cost in costs]

    def predict(self, X: NDArray[np.float32]) -> NDArray[Any]:
        """Predict labels."""
        return np.asarray(self.labels(self.carry[0], X))
