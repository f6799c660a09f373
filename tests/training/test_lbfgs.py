"""L-BFGS: the cost and the gradient of all rows, and where the minimiser takes them."""

import numpy as np
import pytest

pytest.importorskip("scipy", reason="the minimiser is SciPy's")

import fastmlp
from fastmlp.engine.rows import Rows
from fastmlp.training.lbfgs import Objective, minimize


def problem(n, n_threads=1, weights=None, activation="tanh"):
    generator = np.random.default_rng(0)
    net = fastmlp.MLP((5, 7, 3), activation=activation, n_threads=n_threads)
    X = generator.normal(size=(n, 5)).astype(np.float32)
    labels = generator.integers(3, size=n)
    return net, X, labels, Rows(X, 7, n_threads, labels, weights=weights)


@pytest.mark.parametrize("n", [1, 33, 1000])
@pytest.mark.parametrize("l2", [0.0, 0.3])
def test_cost_and_gradient(n, l2):
    net, _, _, rows = problem(n)
    objective = Objective(net, rows, l2)
    at = net.parameters.astype(np.float64)
    cost, gradient = objective(at)
    for i in range(0, len(at), 7):
        step = np.zeros_like(at)
        step[i] = 1e-2
        difference = (objective(at + step)[0] - objective(at - step)[0]) / 2e-2
        assert gradient[i] == pytest.approx(difference, abs=2e-3)
    assert cost == pytest.approx(objective(at)[0])


def test_weights_are_those_of_repeated_rows():
    weights = np.array([2, 0, 1, 3], np.float32)
    net, X, labels, rows = problem(4, weights=weights)
    repeats = weights.astype(int)
    repeated = Rows(np.repeat(X, repeats, axis=0), 7, 1, np.repeat(labels, repeats))
    at = net.parameters.astype(np.float64)
    (cost, gradient), (other_cost, other) = (Objective(net, given)(at) for given in (rows, repeated))
    assert cost == pytest.approx(other_cost, rel=1e-6)
    np.testing.assert_allclose(gradient, other, atol=1e-6)


def test_the_same_bits_for_any_number_of_threads():
    found = []
    for n_threads in (1, 2, 4):
        net, _, _, rows = problem(3000, n_threads, activation="relu")
        result = minimize(Objective(net, rows, 1e-3), max_iter=15, max_evaluations=100, tolerance=1e-6)
        found.append((net.parameters.copy(), result.fun))
    assert all(np.array_equal(found[0][0], parameters) and fun == found[0][1] for parameters, fun in found)


def test_it_reports_and_stops():
    net, _, _, rows = problem(50)
    seen = []
    objective = Objective(net, rows)
    result = minimize(
        objective, max_iter=4, max_evaluations=100, tolerance=0, callback=lambda i, cost: seen.append((i, cost))
    )
    assert [i for i, _ in seen] == [1, 2, 3, 4]
    assert [cost for _, cost in seen] == sorted((cost for _, cost in seen), reverse=True)
    assert result.nit == 4
    assert not result.success
    assert objective(net.parameters.astype(np.float64))[0] == pytest.approx(result.fun)
    few = minimize(Objective(net, rows), max_iter=50, max_evaluations=3, tolerance=0)
    assert few.nfev <= 5
