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
    """The rows lie in JAX arrays; each step gathers its batch by index.

    In the form "gather" rows are sparse: columns and values, filled up to the longest row, which weigh the rows of the
    weights. BCSR and BCOO take as long or half as long again; a dense batch takes six times as long.
    """

    def __init__(self, problem: Problem, form: str, threads: int) -> None:  # noqa: ARG002
        self.problem = problem
        self.X = jnp.asarray(problem.X) if form == "scan" else tuple(map(jnp.asarray, _filled_up(problem.X)))
        self.y = jnp.asarray(problem.y, jnp.int32)
        self.generator = np.random.default_rng(2)
        self.optimizer = optax.adam(LEARNING_RATE)
        activation = {"relu": jax.nn.relu, "tanh": jnp.tanh}[problem.activation]

        def logits(parameters: Any, X: Any) -> Any:
            for weights, bias in parameters[:-1]:
                X = activation(product(X, weights) + bias)
            weights, bias = parameters[-1]
            return product(X, weights) + bias

        def product(X: Any, weights: Any) -> Any:
            return X @ weights if isinstance(X, jax.Array) else jnp.einsum("nl,nlm->nm", X[1], weights[X[0]])

        def loss(parameters: Any, X: Any, y: Any) -> Any:
            return optax.softmax_cross_entropy_with_integer_labels(logits(parameters, X), y).mean()

        def step(carry: Any, rows: Any, X: Any, y: Any) -> Any:
            parameters, state = carry
            cost, gradient = jax.value_and_grad(loss)(parameters, jax.tree.map(lambda part: part[rows], X), y[rows])
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
        n = len(self.problem.y)
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


def _filled_up(X: Any) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return columns and values of sparse rows, the shorter ones filled up with zeros."""
    lengths = np.diff(X.indptr)
    taken = np.arange(lengths.max()) < lengths[:, None]
    columns, values = np.zeros(taken.shape, np.int32), np.zeros(taken.shape, np.float32)
    columns[taken], values[taken] = X.indices, X.data
    return columns, values
