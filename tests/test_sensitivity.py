"""The gradient of a row's loss by its inputs: against central differences of the reference, and against PyTorch."""

import numpy as np
import pytest

from fastmlp import MLP, reference
from fastmlp.activations import ACTIVATIONS
from fastmlp.losses import LOSSES


def problem(sizes, n, loss="cross_entropy"):
    rng = np.random.default_rng(4)
    X = rng.normal(size=(n, sizes[0])).astype(np.float32)
    if LOSSES[loss].targets == "classes":
        return X, rng.integers(0, sizes[-1], n)
    return X, rng.random((n, sizes[-1] // LOSSES[loss].outputs_a_target)).astype(np.float32)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients_are_central_differences_of_the_reference(activation, loss):
    sizes, n, step = (3, 5, 4, 3), 4, 1e-5
    X, y = problem(sizes, n, loss)
    net = MLP(sizes, activation=activation, loss=loss, seed=2)

    def losses(X):
        given = {"activation": activation, "loss": loss}
        return [reference.cost(net.weights, net.biases, X[i : i + 1], y[i : i + 1], **given) for i in range(n)]

    expected = np.empty((n, 3))
    for j in range(3):
        moved = step * (np.arange(3) == j)
        expected[:, j] = np.subtract(losses(X + moved), losses(X - moved)) / (2 * step)
    gradient = net.input_gradient(X, y)
    assert gradient.dtype == np.float32
    np.testing.assert_allclose(gradient, expected, atol=2e-5 * np.abs(expected).max())
    with pytest.raises(AssertionError):  # a gradient that is off by 1 % is seen
        np.testing.assert_allclose(1.01 * gradient, expected, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize(("sizes", "n"), [((2, 3), 1), ((70, 130, 65, 10), 33), ((5, 300, 1, 3), 9000)])
def test_gradients_are_those_of_pytorch_on_any_number_of_threads(sizes, n, batch_norm, assert_close):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    X, y = problem(sizes, n)
    net = MLP(sizes, activation="tanh", init="glorot", batch_norm=batch_norm, seed=1)
    h = inputs = torch.tensor(X, dtype=torch.float64, requires_grad=True)
    for i, (w, b) in enumerate(zip(net.weights, net.biases, strict=True)):
        h = h @ torch.tensor(w, dtype=torch.float64) + torch.tensor(b, dtype=torch.float64)
        if i < len(net.weights) - 1:  # statistics as they begin: mean 0, variance 1
            h = torch.tanh(h / np.sqrt(1 + 1e-5) if batch_norm else h)
    torch.nn.functional.cross_entropy(h, torch.tensor(y), reduction="sum").backward()
    gradients = []
    for net.n_threads in (1, 2, 3):
        gradients.append(net.input_gradient(X, y))
    assert_close(gradients[0], inputs.grad.numpy(), "gradient", max(sizes))
    assert gradients[0].tobytes() == gradients[1].tobytes() == gradients[2].tobytes()


def test_a_sparse_matrix_has_the_gradients_of_the_array():
    sparse = pytest.importorskip("scipy.sparse", reason="sparse matrices are SciPy's")
    X, y = problem((200, 30, 3), 50)
    X *= np.random.default_rng(0).random(X.shape) < 0.1
    net = MLP((200, 30, 3))
    np.testing.assert_array_equal(net.input_gradient(sparse.csr_array(X), y), net.input_gradient(X, y))


def test_bad_input_is_refused():
    net = MLP((2, 3))
    with pytest.raises(ValueError, match="X must have"):
        net.input_gradient(np.zeros((1, 3)), [0])
    with pytest.raises(ValueError, match="y must"):
        net.input_gradient(np.zeros((1, 2)), [3])
