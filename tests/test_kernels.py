"""Every public kernel against the specification, in the instruction set in use; test_isa.py goes through the others."""

import inspect
import os
import re
from collections.abc import Callable
from functools import partial
from itertools import product
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmlp import kernels, reference
from fastmlp.activations import ACTIVATIONS
from fastmlp.engine import operations, table
from fastmlp.losses import LOSSES

SIZES = (1, 2, 3, 7, 63, 64, 65, 100, 129)
# Enough elements and rows for the threads to share, with a remainder
LARGE = ((1, 1, 16_384), (5, 1, 3277), (2, 1, 20_000), (9000, 1, 2), (193, 121, 65), (400, 241, 100))


@pytest.fixture
def threads_for_any_work(monkeypatch):
    """n_threads=2 means two, however small the work."""
    monkeypatch.setattr("fastmlp.threads._WORTH_A_THREAD", 1e-15)


def normal(rng, *shape):
    return rng.standard_normal(shape, dtype=np.float32)


def probabilities(rng, n, m):
    return rng.dirichlet(np.ones(m), n).astype(np.float32).reshape(n, m)


class Kernel(NamedTuple):
    """A kernel that returns new arrays, and how to try it."""

    tolerance: str
    draw: Callable  # (rng, n, k, m) -> the arrays it takes
    run: Callable
    expected: Callable
    summed: Callable = lambda n, k, m: 1
    terms: float = 0  # what cancels: a probability and a target, in a gradient that may be small
    takes_out: bool = True
    takes_n_threads: bool = True
    in_place: bool = True  # `out` may be the first array


def activation(name, run):
    return Kernel(name, lambda rng, n, k, m: (5 * normal(rng, n, m),), run, ACTIVATIONS[name].forward)


def softmax_cross_entropy(targets):
    return Kernel(
        "softmax_cross_entropy",
        lambda rng, n, k, m: (5 * normal(rng, n, m), targets(rng, n, m)),
        kernels.softmax_cross_entropy,
        reference.softmax_cross_entropy,
        summed=lambda n, k, m: m,
        terms=1,
    )


def losses(name):
    targets = {
        "classes": probabilities,
        "probabilities": lambda rng, n, m: rng.random((n, m), dtype=np.float32),
        "values": lambda rng, n, m: normal(rng, n, m // LOSSES[name].outputs_a_target),
        "counts": lambda rng, n, m: rng.poisson(3, (n, m)).astype(np.float32),
    }[LOSSES[name].targets]
    each = LOSSES[name].outputs_a_target
    reach = 1 if LOSSES[name].targets == "counts" else 5  # of logarithms
    return Kernel(
        "losses",
        lambda rng, n, k, m: (reach * normal(rng, n, each * m), targets(rng, n, each * m)),
        partial(kernels.losses, loss=name),
        LOSSES[name].value,
        summed=lambda n, k, m: 2 * each * m,
        terms=1,
        takes_out=False,
    )


KERNELS = {
    "matmul_bias": Kernel(
        "matmul_bias",
        lambda rng, n, k, m: (normal(rng, n, k), normal(rng, k, m), normal(rng, m)),
        kernels.matmul_bias,
        reference.matmul_bias,
        summed=lambda n, k, m: k + 1,
        terms=1,
        in_place=False,
    ),
    "relu": activation("relu", kernels.relu),
    "relu_backward": Kernel(
        "relu_backward",
        lambda rng, n, k, m: (normal(rng, n, m), np.maximum(normal(rng, n, m), 0)),
        kernels.relu_backward,
        reference.relu_backward,
    ),
    **{f"activate-{name}": activation(name, partial(kernels.activate, activation=name)) for name in ACTIVATIONS},
    "softmax": Kernel(
        "softmax",
        lambda rng, n, k, m: (5 * normal(rng, n, m),),
        kernels.softmax,
        LOSSES["cross_entropy"].output.forward,
        summed=lambda n, k, m: m,
        takes_n_threads=False,
    ),
    "softmax_cross_entropy-labels": softmax_cross_entropy(lambda rng, n, m: rng.integers(m, size=n)),
    "softmax_cross_entropy-probabilities": softmax_cross_entropy(probabilities),
    **{f"losses-{name}": losses(name) for name in LOSSES},
}
each_kernel = pytest.mark.parametrize("name", KERNELS)
each_threaded = pytest.mark.parametrize("name", [name for name in KERNELS if KERNELS[name].takes_n_threads])
each_with_out = pytest.mark.parametrize("name", [name for name in KERNELS if KERNELS[name].takes_out])


def arrays_of(result):
    return result if isinstance(result, tuple) else (result,)


def draw(name, shape, seed=0):
    return KERNELS[name].draw(np.random.default_rng(seed), *shape)


def assert_right(assert_close, name, shape, result, inputs):
    kernel = KERNELS[name]
    for actual, expected in zip(arrays_of(result), arrays_of(kernel.expected(*inputs)), strict=True):
        assert actual.dtype == np.float32
        assert_close(actual, expected, kernel.tolerance, kernel.summed(*shape), kernel.terms)


def bits(arrays):
    return [array.tobytes() for array in arrays_of(arrays)]


# ---- Right results ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("threads_for_any_work")
@each_kernel
def test_kernel_follows_the_specification(name, assert_close):
    kernel = KERNELS[name]
    for shape in (*product(SIZES, SIZES if name == "matmul_bias" else (1,), SIZES), *LARGE):
        inputs = draw(name, shape)
        for array in inputs:
            array.flags.writeable = False
        before = bits(inputs)
        # Two threads at the corners of the small shapes, and where they find something to share
        for n_threads in (1, 2) if shape in LARGE or set(shape) <= {1, 129} else (1,):
            result = kernel.run(*inputs, **({"n_threads": n_threads} if kernel.takes_n_threads else {}))
            assert_right(assert_close, name, shape, result, inputs)
        assert bits(inputs) == before


@each_kernel
def test_the_comparison_notices_an_error_of_one_percent(name, assert_close):
    kernel, shape = KERNELS[name], (7, 65, 65)
    inputs = draw(name, shape)
    for place, array in enumerate(arrays_of(kernel.run(*inputs))):
        # In the largest entry, and in the smallest that is a hundredth of it
        magnitudes = np.abs(array).ravel()
        entries = magnitudes.argmax(), np.where(magnitudes < magnitudes.max() / 100, np.inf, magnitudes).argmin()
        off = [array.copy() for _ in entries]
        for wrong, entry in zip(off, entries, strict=True):
            wrong.flat[entry] *= 1.01
        for wrong in (*off, np.zeros_like(array), np.full_like(array, np.nan), array[::-1]):
            result = list(arrays_of(kernel.run(*inputs)))
            result[place] = wrong
            with pytest.raises(AssertionError, match=kernel.tolerance):
                assert_right(assert_close, name, shape, tuple(result), inputs)


@each_kernel
def test_no_rows(name):
    result = KERNELS[name].run(*draw(name, (0, 3, 4)))
    assert all(array.shape in [(0,), (0, 4)] for array in arrays_of(result))


def test_product_of_no_terms_is_the_bias():
    bias = np.arange(70, dtype=np.float32)
    out = kernels.matmul_bias(np.empty((3, 0), np.float32), np.empty((0, 70), np.float32), bias)
    np.testing.assert_array_equal(out, np.tile(bias, (3, 1)))
    empty = kernels.matmul_bias(np.ones((3, 2), np.float32), np.ones((2, 0), np.float32), np.ones(0, np.float32))
    assert empty.shape == (3, 0)


@pytest.mark.usefixtures("threads_for_any_work")
@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(0, 40), st.integers(0, 150), st.integers(0, 150)),
    n_threads=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
)
def test_product_of_any_shape(assert_close, shape, n_threads, seed):
    inputs = draw("matmul_bias", shape, seed)
    result = kernels.matmul_bias(*inputs, n_threads=n_threads)
    assert_right(assert_close, "matmul_bias", shape, result, inputs)


def test_product_of_small_integers_is_exact():
    rng = np.random.default_rng(0)
    x, weights, bias = (rng.integers(-8, 8, size).astype(np.float32) for size in ((50, 300), (300, 130), 130))
    np.testing.assert_array_equal(kernels.matmul_bias(x, weights, bias), reference.matmul_bias(x, weights, bias))


@pytest.mark.usefixtures("threads_for_any_work")
@each_threaded
def test_same_bits_for_any_number_of_threads(name):
    kernel = KERNELS[name]
    for shape in ((97, 129, 100), *LARGE):
        inputs = draw(name, shape)
        assert len({tuple(bits(kernel.run(*inputs, n_threads=n))) for n in (1, 2, 3, 5, None)}) == 1


@pytest.mark.usefixtures("threads_for_any_work")
def test_threads_do_not_mix_up_their_tasks():
    """Many tasks of a few instructions each: what one thread writes down for itself must not reach another one."""
    x, weights, bias = draw("matmul_bias", (20_000, 1, 16))
    expected = kernels.matmul_bias(x, weights, bias, n_threads=1)
    for _ in range(100):
        np.testing.assert_array_equal(kernels.matmul_bias(x, weights, bias, n_threads=2), expected)


@pytest.mark.parametrize("n", [1, 2, 3, 7, 64, 1000, 1024, 1025, 2049, 100_000])
def test_order_follows_the_specification(n):
    keys = np.random.default_rng(n).integers(2**32, size=6, dtype=np.uint32)
    keys.flags.writeable = False
    order = np.full(n + 1, -1)
    operations.shuffle(order[:n], keys)
    np.testing.assert_array_equal(order[:n], reference.shuffle(n, keys))
    assert order[n] == -1
    changed = keys.copy()
    changed[-1] ^= 1
    assert n < 3 or not np.array_equal(order[:n], reference.shuffle(n, changed))


# ---- Where results go ------------------------------------------------------------------------------------------------


def surrounded(shape):
    """An array to write to, and a function that tells whether its neighbours in memory are untouched."""
    size = int(np.prod(shape))
    memory = np.full(size + 64, 12345, np.float32)
    return memory[32 : 32 + size].reshape(shape), lambda: bool(
        (memory[:32] == 12345).all() & (memory[-32:] == 12345).all()
    )


@each_with_out
def test_out_takes_the_result(name, assert_close):
    kernel = KERNELS[name]
    for shape in (*product((1, 3, 65), (1, 65), (1, 7, 64, 100)), *LARGE):
        inputs = draw(name, shape)
        out, neighbours_are_untouched = surrounded((shape[0], shape[2]))
        result = kernel.run(*inputs, out=out)
        assert arrays_of(result)[-1] is out
        assert neighbours_are_untouched()
        assert_right(assert_close, name, shape, result, inputs)


@pytest.mark.parametrize("name", [name for name in KERNELS if KERNELS[name].takes_out and KERNELS[name].in_place])
def test_out_may_be_the_input(name):
    kernel = KERNELS[name]
    for shape in (*product((1, 3, 65), (1,), (1, 7, 64, 100)), *LARGE):
        inputs = draw(name, shape)
        expected = bits(kernel.run(*inputs))
        result = kernel.run(*inputs, out=inputs[0])
        assert arrays_of(result)[-1] is inputs[0]
        assert bits(result) == expected


def test_out_may_overlap_the_input():
    memory = np.linspace(-2, 2, 101, dtype=np.float32)
    expected = kernels.activate(memory[:-1].copy(), "tanh")
    np.testing.assert_array_equal(kernels.activate(memory[:-1], "tanh", out=memory[1:]), expected)


def test_arrays_of_any_number_of_dimensions(assert_close):
    for shape in ((), (5,), (2, 3, 4)):
        z = normal(np.random.default_rng(0), *shape)
        result = kernels.activate(np.asarray(z, np.float32), "logistic")
        assert_close(result, ACTIVATIONS["logistic"].forward(z), "logistic")


def test_nothing_beyond_the_inputs_is_read(at_the_end):
    for name, kernel in KERNELS.items():
        for shape in product((1, 3, 97), (1, 7, 65) if name == "matmul_bias" else (1,), (1, 7, 63, 65, 100)):
            inputs = draw(name, shape)
            expected = bits(kernel.run(*inputs))
            assert bits(kernel.run(*map(at_the_end, inputs))) == expected


# ---- Adam ------------------------------------------------------------------------------------------------------------

HYPER_PARAMETERS = (
    {},
    {"learning_rate": 0.5, "beta_1": 0.5, "beta_2": 0.9, "epsilon": 0.1},
    {"learning_rate": 0.1, "weight_decay": 0.5},
    {"beta_1": 0.0, "beta_2": 0.0},
)


@pytest.mark.usefixtures("threads_for_any_work")
@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("hyper_parameters", HYPER_PARAMETERS)
def test_adam_follows_the_specification(hyper_parameters, n_threads, assert_close):
    for step, shape in product((1, 2, 1000, 1_000_000), (*SIZES, (), (3, 7), 16_385)):
        rng = np.random.default_rng(step)
        before = [np.asarray(rng.standard_normal(shape), np.float32) for _ in range(4)]
        before[2] **= 2
        after = [array.copy() for array in before]
        after[3].flags.writeable = False
        assert kernels.adam(*after, step, n_threads=n_threads, **hyper_parameters) is None
        expected = reference.adam(*before, step, **hyper_parameters)
        for actual, wanted, old in zip(after, expected, before, strict=False):
            assert_close(actual, wanted, "adam")
            # ... and the comparison notices a change that is wrong by 1 %
            if hyper_parameters.get("learning_rate", 0) > 0.01 and np.size(wanted) > 1 and step < 10:
                wrong = actual.copy()
                entry = np.argmax(np.abs(wanted - old))
                wrong.flat[entry] += 0.01 * (wanted - old).flat[entry]
                with pytest.raises(AssertionError, match="adam"):
                    assert_close(wrong, wanted, "adam")
        assert bits(after[3]) == bits(before[3])


@pytest.mark.usefixtures("threads_for_any_work")
def test_adam_has_the_same_bits_for_any_number_of_threads():
    results = set()
    for n_threads in (1, 2, 3, 5, None):
        arrays = [np.abs(normal(np.random.default_rng(seed), 50_001)) for seed in range(4)]
        kernels.adam(*arrays, 3, n_threads=n_threads)
        results.add(tuple(bits(tuple(arrays))))
    assert len(results) == 1


def test_adam_leaves_neighbours_alone():
    for size in (1, 7, 63, 65):
        places = [surrounded(size) for _ in range(4)]
        kernels.adam(*(array for array, _ in places), 1)
        assert all(neighbours_are_untouched() for _, neighbours_are_untouched in places)


# ---- Extremes --------------------------------------------------------------------------------------------------------


def units_in_the_last_place(actual, exact):
    # Below the smallest normal number the places stay as far apart as there.
    return np.abs(actual - exact) / np.spacing(np.abs(exact).astype(np.float32)).astype(np.float64)


@pytest.mark.parametrize(("name", "most"), [("tanh", 2), ("logistic", 3), ("elu", 3), ("selu", 4), ("softplus", 4)])
def test_elementary_functions_are_exact_to_some_units_in_the_last_place(name, most):
    largest = np.float32(3e38).view(np.uint32)  # 1.05 times it is still a number
    magnitudes = np.arange(0, largest, 1021, dtype=np.uint32)  # 8216 of each power of two, and the denormals
    edges = np.array([1, 0x7FFFFF, 0x800000, largest], np.uint32)  # smallest, largest denormal; smallest normal
    magnitudes = np.concatenate([magnitudes, edges]).view(np.float32)
    for z in (magnitudes, -magnitudes):
        exact = ACTIVATIONS[name].forward(z)
        error = units_in_the_last_place(kernels.activate(z, name), exact)
        worst = np.argmax(error)
        assert error[worst] <= most, f"{error[worst]:.2f} at {z[worst]!r}"
        # The judge itself: 4 units off would be seen.
        assert units_in_the_last_place((exact * (1 + 5e-7)).astype(np.float32), exact).max() > most


@pytest.mark.parametrize(("name", "most"), [("gelu", 8), ("silu", 4), ("mish", 5)])
def test_products_of_z_are_exact_to_some_units_in_the_last_place(name, most):
    """Down to where a product of a denormal begins: the tails, too, keep their relative precision."""
    z = np.concatenate([np.linspace(-12, 12, 100_001), np.geomspace(1e-30, 1, 20_000)]).astype(np.float32)
    error = units_in_the_last_place(kernels.activate(z, name), ACTIVATIONS[name].forward(z))
    assert error.max() <= most, f"{error.max():.2f} at {z[np.argmax(error)]!r}"


def test_elementary_functions_of_special_values():
    z = np.array([-np.inf, np.inf, np.nan, -0.0, 0.0, -1e-45, 1e-45], np.float32)
    tanh, logistic, relu = (kernels.activate(z, name) for name in ("tanh", "logistic", "relu"))
    np.testing.assert_array_equal(tanh, np.array([-1, 1, np.nan, -0.0, 0.0, -1e-45, 1e-45], np.float32))
    assert np.signbit(tanh[3])
    np.testing.assert_array_equal(logistic, np.array([0, 1, np.nan, 0.5, 0.5, 0.5, 0.5], np.float32))
    np.testing.assert_array_equal(relu, np.array([0, np.inf, np.nan, 0, 0, 0, 1e-45], np.float32))
    # In every lane of a vector, and in the remainder
    for name, size in product(ACTIVATIONS, (1, 15, 16, 17)):
        assert np.isnan(kernels.activate(np.full(size, np.nan, np.float32), name)).all()


def test_relu_backward_of_special_values():
    h = np.array([np.nan, 0, -0.0, 1e-45, np.inf], np.float32)
    dh = np.full(5, np.inf, np.float32)
    np.testing.assert_array_equal(kernels.relu_backward(dh, h), np.float32([0, 0, 0, np.inf, np.inf]))


def test_a_product_lets_nan_and_infinity_through():
    x, weights, bias = np.zeros((9, 70), np.float32), np.zeros((70, 70), np.float32), np.zeros(70, np.float32)
    weights[40, 66] = np.inf
    out = kernels.matmul_bias(x, weights, bias)
    assert np.isnan(out[:, 66]).all()  # 0 times infinity
    assert not np.delete(out, 66, axis=1).any()


@pytest.mark.parametrize("m", [2, 10, 65])
def test_cross_entropy_of_large_logits(m, assert_close):
    logits = np.where(np.random.default_rng(0).random((20, m)) < 0.5, -1e5, 1e5).astype(np.float32)
    labels = np.arange(20) % m
    for targets in (labels, np.eye(m, dtype=np.float32)[labels]):
        loss, dlogits = kernels.softmax_cross_entropy(logits, targets)
        expected_loss, expected_dlogits = reference.softmax_cross_entropy(logits, labels)
        assert_close(loss, expected_loss, "losses", m)
        assert_close(dlogits, expected_dlogits, "softmax_cross_entropy", m)
    np.testing.assert_allclose(kernels.softmax(logits).sum(axis=1), 1, rtol=1e-6)


def test_binary_cross_entropy_of_large_logits():
    logits = np.array([[1e5], [1e5], [-1e5], [-1e5], [0]], np.float32)
    targets = np.array([[1], [0], [1], [0], [0]], np.float32)
    loss = kernels.losses(logits, targets, "binary_cross_entropy")
    np.testing.assert_array_equal(loss, np.float32([0, 1e5, 1e5, 0, np.log(2)]))


def test_cross_entropy_keeps_small_losses():
    """The loss of a sure and right row is e^-z, not 0 and not rounded by the size of the logits."""
    loss = kernels.losses(np.array([[12, 0]], np.float32), np.array([0]), "cross_entropy")
    np.testing.assert_allclose(loss, np.log1p(np.exp(-12.0)), atol=1.2e-7)


@pytest.mark.parametrize("m", [1, 3, 100])
def test_binary_cross_entropy_keeps_small_losses(m):
    """log(1 + e) for e far below 1, where 1 + e is 1, is e; each value by its own magnitude."""
    logits = np.linspace(-80, 0, 2001, dtype=np.float32)
    rows = np.full((len(logits), m), -1000, np.float32)  # of loss 0
    rows[:, m // 2] = logits
    loss = kernels.losses(rows, np.zeros_like(rows), "binary_cross_entropy")
    exact = np.log1p(np.exp(np.float64(logits)))
    assert units_in_the_last_place(loss, exact).max() <= 4
    assert units_in_the_last_place(np.log(1 + np.exp(logits)), exact).max() > 1000  # what the test is about


@pytest.mark.parametrize("m", [1, 3, 10, 65])
def test_binary_cross_entropy_of_a_row_does_not_depend_on_the_others(m):
    logits, targets = draw("losses-binary_cross_entropy", (70, 1, m))
    loss = kernels.losses(logits, targets, "binary_cross_entropy")
    alone = [
        kernels.losses(z, t, "binary_cross_entropy") for z, t in zip(logits[:, None], targets[:, None], strict=True)
    ]
    np.testing.assert_array_equal(loss, np.concatenate(alone))


# ---- What the kernels refuse -----------------------------------------------------------------------------------------


def unaligned(array):
    """A copy that starts between two values."""
    memory = bytearray(array.nbytes + 1)
    copy = np.frombuffer(memory, array.dtype, array.size, 1).reshape(array.shape)
    copy[...] = array
    assert not copy.flags.aligned
    assert copy.flags.c_contiguous
    return copy


ONES = {shape: np.ones(shape, np.float32) for shape in ((4,), (3,), (4, 4), (3, 4), (4, 3))}
X, WEIGHTS = (np.ones((4, 4), np.float32) for _ in range(2))
OUT = np.full((4, 4), 7, np.float32)
READ_ONLY = np.ones((4, 4), np.float32)
READ_ONLY.flags.writeable = False
LABELS = np.zeros(4, np.int64)
# What each kernel takes gladly
GOOD = {
    kernels.matmul_bias: {"x": X, "weights": WEIGHTS, "bias": ONES[4,], "out": OUT, "n_threads": 1},
    kernels.relu: {"z": X, "out": OUT, "n_threads": 1},
    kernels.relu_backward: {"dh": X, "h": WEIGHTS, "out": OUT, "n_threads": 1},
    kernels.activate: {"z": X, "activation": "tanh", "out": OUT, "n_threads": 1},
    kernels.softmax: {"logits": X, "out": OUT},
    kernels.softmax_cross_entropy: {"logits": X, "targets": LABELS, "out": OUT, "n_threads": 1},
    kernels.losses: {"logits": X, "targets": WEIGHTS, "loss": "squared_error", "n_threads": 1},
    kernels.adam: {**{name: np.ones(4, np.float32) for name in ("weights", "m", "v", "gradient")}, "step": 1},
}
# ... and with one argument changed, refuses
BAD = [
    (kernels.matmul_bias, "x", [[1.0]], TypeError, "x must be an array of float32, not list"),
    (kernels.matmul_bias, "x", np.ones((4, 4)), TypeError, "x must be an array of float32, not an array of float64"),
    (kernels.matmul_bias, "x", X.astype(X.dtype.newbyteorder()), TypeError, "x must be an array of float32, not"),
    (kernels.matmul_bias, "x", ONES[4,], ValueError, "x must have shape (any, any), not (4,)"),
    (kernels.matmul_bias, "x", np.ones((4, 8), np.float32)[:, ::2], ValueError, "x must be C-contiguous"),
    (kernels.matmul_bias, "weights", WEIGHTS.astype(np.float16), TypeError, "weights must be an array of float32, not"),
    (kernels.matmul_bias, "weights", ONES[3, 4], ValueError, "weights must have shape (4, any), not (3, 4)"),
    (kernels.matmul_bias, "weights", ONES[3, 4].T, ValueError, "weights must be C-contiguous"),
    (kernels.matmul_bias, "bias", ONES[3,], ValueError, "bias must have shape (4), not (3,)"),
    (kernels.matmul_bias, "out", ONES[3, 4], ValueError, "out must have shape (4, 4), not (3, 4)"),
    (
        kernels.matmul_bias,
        "out",
        np.ones((4, 4)),
        TypeError,
        "out must be an array of float32, not an array of float64",
    ),
    (kernels.matmul_bias, "out", READ_ONLY, ValueError, "out must be writable"),
    (kernels.matmul_bias, "out", X, ValueError, "out must not share memory with x"),
    (kernels.matmul_bias, "out", WEIGHTS, ValueError, "out must not share memory with weights"),
    (kernels.matmul_bias, "bias", OUT[2], ValueError, "out must not share memory with bias"),
    (kernels.matmul_bias, "n_threads", 0, ValueError, "n_threads must be from 1 to 1024, not 0"),
    (kernels.relu, "z", 1.0, TypeError, "z must be an array of float32, not float"),
    (kernels.relu, "z", LABELS, TypeError, "z must be an array of float32, not an array of int64"),
    (kernels.relu, "z", ONES[4, 3].T, ValueError, "z must be C-contiguous"),
    (kernels.relu, "out", ONES[4, 3], ValueError, "out must have shape (4, 4), not (4, 3)"),
    (kernels.relu, "z", unaligned(X), ValueError, "z must be C-contiguous and aligned; z.copy() is"),
    (kernels.relu, "z", np.ma.masked_equal(X, 0), TypeError, "z must be an array of float32, not MaskedArray"),
    (kernels.relu, "z", X.view(np.matrix), TypeError, "z must be an array of float32, not matrix"),
    (kernels.relu, "out", unaligned(X), ValueError, "out must be C-contiguous and aligned"),
    (kernels.relu, "n_threads", "2", TypeError, "n_threads must be a whole number, not '2'"),
    (kernels.relu, "n_threads", 2.5, TypeError, "n_threads must be a whole number, not 2.5"),
    (kernels.relu, "n_threads", True, TypeError, "n_threads must be a whole number, not True"),
    (kernels.relu, "n_threads", 10**6, ValueError, "n_threads must be from 1 to 1024, not 1000000"),
    (kernels.relu, "n_threads", -1, ValueError, "n_threads must be from 1 to 1024, not -1"),
    (kernels.relu_backward, "h", ONES[3, 4], ValueError, "h must have shape (4, 4), not (3, 4)"),
    (kernels.relu_backward, "out", WEIGHTS, ValueError, "out must not share memory with h"),
    (kernels.relu_backward, "n_threads", 0, ValueError, "n_threads must be from 1 to 1024, not 0"),
    (kernels.activate, "activation", "swoosh", ValueError, "logistic, identity; not 'swoosh'"),
    (kernels.activate, "activation", ["tanh"], TypeError, "activation must be a string, one of relu, "),
    (kernels.activate, "out", READ_ONLY, ValueError, "out must be writable"),
    (kernels.activate, "n_threads", 0, ValueError, "n_threads must be from 1 to 1024, not 0"),
    (kernels.softmax, "logits", ONES[4,], ValueError, "logits must have shape (any, any), not (4,)"),
    (kernels.softmax, "out", READ_ONLY, ValueError, "out must be writable"),
    (kernels.softmax_cross_entropy, "targets", LABELS.astype(np.int32), TypeError, "targets must be an array of int64"),
    (kernels.softmax_cross_entropy, "targets", LABELS[:3], ValueError, "targets must have shape (4), not (3,)"),
    (kernels.softmax_cross_entropy, "targets", LABELS + 4, ValueError, "labels from 0 to 3; they are 4 to 4"),
    (kernels.softmax_cross_entropy, "targets", LABELS - 1, ValueError, "labels from 0 to 3; they are -1 to -1"),
    (
        kernels.softmax_cross_entropy,
        "targets",
        unaligned(LABELS),
        ValueError,
        "targets must be C-contiguous and aligned",
    ),
    (
        kernels.softmax_cross_entropy,
        "targets",
        np.ma.masked_equal(LABELS - 1, -1),  # -1 is hidden from min and max, not from C
        TypeError,
        "targets must be an array of int64, not MaskedArray",
    ),
    (kernels.softmax_cross_entropy, "targets", ONES[4, 3], ValueError, "targets must have shape (4, 4), not (4, 3)"),
    (kernels.softmax_cross_entropy, "logits", X[:, :0].copy(), ValueError, "at least one column; it has shape (4, 0)"),
    (kernels.softmax_cross_entropy, "n_threads", 0, ValueError, "n_threads must be from 1 to 1024, not 0"),
    (kernels.losses, "loss", "hinge", ValueError, "quantile, poisson; not 'hinge'"),
    (kernels.losses, "targets", LABELS, TypeError, "targets must be an array of float32, not an array of int64"),
    (kernels.losses, "n_threads", 0, ValueError, "n_threads must be from 1 to 1024, not 0"),
    (kernels.adam, "step", 0, ValueError, "step must be from 1 to 9007199254740992, not 0"),
    (kernels.adam, "step", 1.5, TypeError, "step must be a whole number, not 1.5"),
    (kernels.adam, "v", unaligned(ONES[4,]), ValueError, "v must be C-contiguous and aligned"),
    (kernels.adam, "weights", READ_ONLY[0], ValueError, "weights must be writable"),
    (kernels.adam, "v", READ_ONLY[0], ValueError, "v must be writable"),
    (kernels.adam, "m", ONES[3,], ValueError, "m must have shape (4), not (3,)"),
    (kernels.adam, "gradient", np.ones(4), TypeError, "gradient must be an array of float32, not an array of float64"),
    (kernels.adam, "n_threads", 0, ValueError, "n_threads must be from 1 to 1024, not 0"),
    (kernels.softmax_cross_entropy, "targets", OUT, ValueError, "out must not share memory with targets"),
    (kernels.softmax, "logits", X[:, :0].copy(), ValueError, "at least one column; it has shape (4, 0)"),
    (kernels.adam, "gradient", GOOD[kernels.adam]["weights"], ValueError, "must not share memory with"),
    (kernels.adam, "m", GOOD[kernels.adam]["v"], ValueError, "must not share memory with"),
]


@pytest.mark.parametrize(("kernel", "name", "value", "error", "message"), BAD)
def test_a_bad_argument_is_refused_before_anything_changes(kernel, name, value, error, message):
    arguments = {**GOOD[kernel], name: value}
    before = {name: array.tobytes() for name, array in arguments.items() if isinstance(array, np.ndarray)}
    with pytest.raises(error, match=re.escape(message)):
        kernel(**arguments)
    assert before == {name: array.tobytes() for name, array in arguments.items() if isinstance(array, np.ndarray)}


def test_the_good_arguments_are_taken():
    for kernel, arguments in GOOD.items():
        kernel(**{name: value.copy() if isinstance(value, np.ndarray) else value for name, value in arguments.items()})


def test_a_memory_mapped_file_is_taken(tmp_path):
    z = np.memmap(tmp_path / "z", np.float32, "w+", shape=(4, 4))
    z[...] = -1
    assert kernels.relu(z, out=z) is z
    assert not z.any()
    labels = np.memmap(tmp_path / "labels", np.int64, "w+", shape=4)
    np.testing.assert_array_equal(kernels.losses(z, labels, "cross_entropy"), np.full(4, np.log(4), np.float32))


def test_labels_are_read_once(monkeypatch):
    """Memory is addressed by them: what another thread writes after the check must not reach the kernel."""
    labels = np.zeros(4, np.int64)
    loss_gradient = operations.loss_gradient

    def after_a_change(*arguments):
        labels[:] = 3
        loss_gradient(*arguments)

    monkeypatch.setattr(operations, "loss_gradient", after_a_change)
    logits = np.eye(4, dtype=np.float32)[:1].repeat(4, axis=0)
    loss = kernels.losses(logits, labels, "cross_entropy")
    np.testing.assert_allclose(loss, np.log(np.e + 3) - 1, rtol=1e-6)
    assert labels.all()


def test_signatures_are_short():
    for kernel in GOOD:
        assert "Float32" in str(inspect.signature(kernel))
        assert "numpy" not in str(inspect.signature(kernel))


# ---- The instruction set ---------------------------------------------------------------------------------------------


def test_instruction_set_in_use_is_the_one_asked_for():
    best = next(name for name, runs in table.isas().items() if runs)
    assert kernels.isa() == (os.environ.get("FASTMLP_ISA") or best)
