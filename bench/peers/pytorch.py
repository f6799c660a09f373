"""PyTorch: data as tensors, batches by index; eager with fused Adam, or the whole step in one `torch.compile`."""

from __future__ import annotations

import os
from typing import Any

# Compile in this process: the pool of compilers would outlive the compilation beside what is timed.
os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

import bench.peers
from bench.workloads import LEARNING_RATE, Problem

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8


class Peer(bench.peers.Peer):
    """Functions over a list of parameters, which skip the overhead of modules.

    In the form "compile" forward, backward and Adam are one graph: on small networks four times faster than compiling
    the loss, or the loss and `optimizer.step`, and on large ones as fast.

    In the form "bag" rows are sparse: the first layer is an `embedding_bag`, which weighs rows of the weights by the
    values, and its gradient is dense. `torch.sparse.mm` is as fast or slower; compiled, a step takes twice as long.
    """

    def __init__(self, problem: Problem, form: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self.problem = problem
        self.X = Bags(problem.X) if form == "bag" else torch.from_numpy(problem.X)
        self.y = torch.from_numpy(problem.y)
        self.activation = {"relu": torch.relu, "tanh": torch.tanh}[problem.activation]
        self.first = [torch.from_numpy(weights.T) for weights in problem.weights]
        if form == "bag":
            self.first[0] = self.first[0].T
        self.parameters: list[Any] = []
        for weights, first in zip(problem.weights, self.first, strict=True):
            self.parameters += [torch.empty(first.shape), torch.empty(weights.shape[1])]
        if form == "compile":
            self.means = [torch.empty_like(parameter) for parameter in self.parameters]
            self.squares = [torch.empty_like(parameter) for parameter in self.parameters]
            self.count = torch.zeros(())
            self.step, self.logits = torch.compile(self._compiled_step), torch.compile(self._logits)
        else:
            for parameter in self.parameters:
                parameter.requires_grad = True
            self.optimizer = torch.optim.Adam(self.parameters, lr=LEARNING_RATE, fused=True)
            self.step, self.logits = self._eager_step, self._logits
        self.form = form
        self.reset()

    def reset(self) -> None:
        """Take the first weights; the optimizer's tensors stay, so that nothing is compiled again."""
        with torch.no_grad():
            for weights, bias, first in zip(self.parameters[::2], self.parameters[1::2], self.first, strict=True):
                weights.copy_(first)
                bias.zero_()
        if self.form == "compile":
            state = [*self.means, *self.squares, self.count]
        else:
            state = [tensor for tensors in self.optimizer.state.values() for tensor in tensors.values()]
        for tensor in state:
            tensor.zero_()

    def fit(self, epochs: int, shuffle: bool) -> list[float]:
        """Train."""
        n, costs = len(self.y), []
        for _ in range(epochs):
            order = torch.randperm(n) if shuffle else torch.arange(n)
            batches = order.split(self.problem.batch_size)
            total = torch.zeros(())
            for rows in batches:
                total += self.step(self.X, self.y, rows)
            costs.append(total.item() / len(batches))
        return costs

    def predict(self, X: NDArray[np.float32]) -> NDArray[Any]:
        """Predict labels."""
        with torch.inference_mode():
            return np.asarray(self.logits(self.parameters, torch.from_numpy(X)).argmax(dim=1).numpy())

    def _logits(self, parameters: list[Any], X: Any) -> Any:
        if self.form == "bag":
            columns, begin, values = X
            weights, bias, *parameters = parameters
            z = functional.embedding_bag(columns, weights, begin, mode="sum", per_sample_weights=values)
            X = self.activation(z + bias)
        for weights, bias in zip(parameters[:-2:2], parameters[1:-2:2], strict=True):
            X = self.activation(functional.linear(X, weights, bias))
        return functional.linear(X, *parameters[-2:])

    def _cost(self, parameters: list[Any], X: Any, y: Any) -> Any:
        return functional.cross_entropy(self._logits(parameters, X), y)

    def _eager_step(self, X: Any, y: Any, rows: Any) -> Any:
        cost = self._cost(self.parameters, X[rows], y[rows])
        cost.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return cost.detach()

    def _compiled_step(self, X: Any, y: Any, rows: Any) -> Any:
        gradients, cost = torch.func.grad_and_value(self._cost)(self.parameters, X[rows], y[rows])
        self.count += 1
        correction = torch.sqrt(1 - BETA_2**self.count)
        rate = LEARNING_RATE * correction / (1 - BETA_1**self.count)
        for p, g, m, v in zip(self.parameters, gradients, self.means, self.squares, strict=True):
            m.lerp_(g, 1 - BETA_1)
            v.mul_(BETA_2).addcmul_(g, g, value=1 - BETA_2)
            p.sub_(rate * m / (v.sqrt() + EPSILON * correction))
        return cost


class Bags:
    """Sparse rows, of which `bags[rows]` has the columns, where each row begins in them, and the values."""

    def __init__(self, X: Any) -> None:
        self.columns, self.values = torch.from_numpy(X.indices.astype(np.int64)), torch.from_numpy(X.data)
        begin = torch.from_numpy(X.indptr.astype(np.int64))
        self.begin, self.lengths = begin[:-1], begin.diff()

    def __getitem__(self, rows: Any) -> tuple[Any, Any, Any]:
        lengths = self.lengths[rows]
        begin = lengths.cumsum(0) - lengths
        places = torch.arange(int(lengths.sum())) + torch.repeat_interleave(self.begin[rows] - begin, lengths)
        return self.columns[places], begin, self.values[places]
