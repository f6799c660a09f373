"""What evaluate says of regression, against scikit-learn."""

import tracemalloc

import numpy as np
import pytest

from fastmlp import MLP, metrics
from fastmlp.rows import Targets


def scores(outputs, values):
    outputs, values = (np.asarray(array, np.float32) for array in (outputs, values))
    return metrics.scores(outputs, Targets(labels=None, values=values), "squared_error")


CASES = {
    "one output": lambda rng: (rng.normal(size=(101, 1)), rng.normal(size=(101, 1))),
    "outputs of several scales": lambda rng: (rng.normal(size=(50, 4)), rng.normal(size=(50, 4)) * [1e-3, 1, 9, 1e4]),
    "near": lambda rng: (
        np.linspace(0, 1, 30)[:, None],
        np.linspace(0, 1, 30)[:, None] + 1e-4 * rng.normal(size=(30, 1)),
    ),
    "two rows": lambda rng: (rng.normal(size=(2, 3)), rng.normal(size=(2, 3))),
    "far from zero": lambda rng: (1e6 + rng.normal(size=(40, 2)), 1e6 + rng.normal(size=(40, 2))),
    "perfect": lambda rng: 2 * (rng.normal(size=(9, 2)),),
    "an output that is the same in all rows": lambda rng: (rng.normal(size=(33, 2)), np.tile([[0.1, 0.7]], (33, 1))),
    "the same and met": lambda rng: 2 * (np.full((33, 1), 0.1),),
    "the same but for one row": lambda rng: (rng.normal(size=(33, 1)), 0.1 + (np.arange(33) == 7)[:, None]),
    "many rows": lambda rng: (rng.normal(size=(2**18 + 5, 2)), rng.normal(size=(2**18 + 5, 2)) + 5),
}


@pytest.mark.parametrize("case", CASES)
def test_mse_and_r2_are_those_of_scikit_learn(case):
    sklearn = pytest.importorskip("sklearn.metrics", reason="compares with scikit-learn")
    outputs, values = (np.float32(array) for array in CASES[case](np.random.default_rng(0)))
    wanted = [f(np.float64(values), np.float64(outputs)) for f in (sklearn.mean_squared_error, sklearn.r2_score)]
    got = scores(outputs, values)
    assert [got["mse"], got["r2"]] == pytest.approx(wanted, rel=1e-9, abs=1e-12)
    assert got["mse"] == pytest.approx(2 * got["loss"] / values.shape[1], rel=1e-5)


def test_r2_by_hand():
    values = [[0, 5], [1, 5], [2, 5]]
    assert scores(values, values)["r2"] == 1
    assert scores([[1, 5]] * 3, values)["r2"] == 0.5  # the mean of the first output, and all of the second
    assert scores([[1, 4]] * 3, values)["r2"] == 0
    assert scores([[2, 5], [1, 5], [0, 5]], values)["r2"] == -1  # (-3 + 1) / 2


def test_a_single_row_has_no_r2():
    for outputs in ([[1, 2]], [[0, 0]]):
        assert np.isnan(scores(outputs, [[1, 2]])["r2"])


def test_r2_does_not_depend_on_the_scale_of_y():
    X = np.linspace(-1, 1, 64).reshape(-1, 1)
    y = X[:, 0] ** 2
    net = MLP((1, 8, 1), activation="tanh", loss="squared_error")
    net.fit(X, y, epochs=5, verbose=False)
    scaled = MLP((1, 8, 1), activation="tanh", loss="squared_error")
    scaled.parameters[:] = net.parameters
    scaled.weights[-1][:] *= 1000
    scaled.biases[-1][:] = 1000 * net.biases[-1] + 300
    assert scaled.evaluate(X, 1000 * y + 300)["r2"] == pytest.approx(net.evaluate(X, y)["r2"], rel=1e-4)
    assert net.evaluate(X, y) == net.evaluate(X, y.reshape(-1, 1))


def test_no_float64_copy_of_y():
    outputs, values = np.zeros((2, 100_000, 20), np.float32)
    values[::2] = 1
    tracemalloc.start()
    try:
        assert scores(outputs, values)["r2"] == -1
        assert tracemalloc.get_traced_memory()[1] < 1.5 * values.nbytes  # the loss makes an array like them
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy", "squared_error"])
def test_weights_are_those_of_repeated_rows(loss):
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(20, 3)).astype(np.float32)
    values = generator.random((20, 3)).astype(np.float32)
    weights = generator.integers(0, 4, 20)
    labels = generator.integers(3, size=20)
    targets = (
        (lambda rows: Targets(labels[rows], None))
        if loss == "cross_entropy"
        else (lambda rows: Targets(None, values[rows]))
    )
    repeated = np.repeat(np.arange(20), weights)
    expected = metrics.scores(logits[repeated], targets(repeated), loss)
    assert metrics.scores(logits, targets(slice(None)), loss, weights.astype(np.float32)) == pytest.approx(expected)
