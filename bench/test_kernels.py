"""Micro-benchmarks of the public kernels on one thread, for pytest-benchmark.

``OMP_NUM_THREADS=1 python -m pytest bench/test_kernels.py``: the variable holds NumPy to one thread as well, which has
its way of doing the same beside most of them. `extra_info` in the JSON has GFLOP/s or GB/s of the fastest call.
"""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fastmlp import kernels

pytest.importorskip("pytest_benchmark", reason="pytest-benchmark times the kernels")

# Rows, inputs, outputs: the layers of the workloads.
SHAPES = [(100, 784, 256), (100, 256, 256), (1024, 784, 2048), (100, 300, 300), (32, 20, 64)]
SIZES = [(100, 256), (1024, 2048)]


def draw(*shape: int) -> NDArray[np.float32]:
    """Draw from N(0, 1), the same each time."""
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def rate(benchmark: Any, name: str, amount: float) -> None:
    """Note the amount of work a nanosecond of the fastest call."""
    if benchmark.stats is not None:  # None with --benchmark-disable
        benchmark.extra_info[name] = round(1e-9 * amount / benchmark.stats.stats.min, 1)


@pytest.mark.parametrize("library", ["fastmlp", "numpy"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_matmul_bias(benchmark: Any, shape: tuple[int, int, int], library: str) -> None:
    """A dense layer."""
    n, k, m = shape
    x, weights, bias, out = draw(n, k), draw(k, m), draw(m), np.empty((n, m), np.float32)
    benchmark.group = f"matmul_bias {shape}"
    if library == "fastmlp":
        benchmark(kernels.matmul_bias, x, weights, bias, out=out, n_threads=1)
    else:
        benchmark(lambda: np.add(np.matmul(x, weights, out=out), bias, out=out))
    rate(benchmark, "GFLOP/s", 2 * n * k * m)
    np.testing.assert_allclose(out, x @ weights + bias, atol=1e-5 * k)


@pytest.mark.parametrize("library", ["fastmlp", "numpy"])
@pytest.mark.parametrize("name", ["relu", "tanh"])
@pytest.mark.parametrize("shape", SIZES, ids=str)
def test_activate(benchmark: Any, shape: tuple[int, int], name: str, library: str) -> None:
    """An activation over a batch's outputs."""
    z, out = draw(*shape), np.empty(shape, np.float32)
    plain = {"relu": lambda: np.maximum(z, 0, out=out), "tanh": lambda: np.tanh(z, out=out)}[name]
    benchmark.group = f"{name} {shape}"
    if library == "fastmlp":
        benchmark(kernels.activate, z, name, out=out, n_threads=1)
    else:
        benchmark(plain)
    rate(benchmark, "GB/s", 2 * z.nbytes)
    np.testing.assert_allclose(out, np.maximum(z, 0) if name == "relu" else np.tanh(z), rtol=1e-6)


@pytest.mark.parametrize("library", ["fastmlp", "numpy"])
@pytest.mark.parametrize("shape", SIZES, ids=str)
def test_relu_backward(benchmark: Any, shape: tuple[int, int], library: str) -> None:
    """The gradient through ReLU."""
    dh, h, out = draw(*shape), draw(*shape)[::-1].copy(), np.empty(shape, np.float32)
    benchmark.group = f"relu_backward {shape}"
    if library == "fastmlp":
        benchmark(kernels.relu_backward, dh, h, out=out, n_threads=1)
    else:
        benchmark(lambda: np.multiply(dh, h > 0, out=out))
    rate(benchmark, "GB/s", 3 * dh.nbytes)
    np.testing.assert_array_equal(out, dh * (h > 0))


@pytest.mark.parametrize("n", [100, 10_000])
def test_softmax_cross_entropy(benchmark: Any, n: int) -> None:
    """Loss and gradient of ten classes."""
    logits, targets = draw(n, 10), np.arange(n) % 10
    benchmark.group = f"softmax_cross_entropy {(n, 10)}"
    loss, _ = benchmark(kernels.softmax_cross_entropy, logits, targets, n_threads=1)
    rate(benchmark, "GB/s", 2 * logits.nbytes)
    exact = np.log(np.exp(logits.astype(np.float64)).sum(axis=1)) - logits[np.arange(n), targets]
    np.testing.assert_allclose(loss, exact, atol=1e-5)


@pytest.mark.parametrize("size", [784 * 256, 2048 * 2048])
def test_adam(benchmark: Any, size: int) -> None:
    """An update: four arrays read, three written."""
    weights, m, v, gradient = draw(size), np.zeros(size, np.float32), np.zeros(size, np.float32), draw(size)
    benchmark.group = f"adam {size}"
    benchmark(kernels.adam, weights, m, v, gradient, step=10, n_threads=1)
    rate(benchmark, "GB/s", 7 * weights.nbytes)
    assert np.isfinite(weights).all()
