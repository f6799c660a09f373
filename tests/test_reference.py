"""The specification against calculus, SciPy, PyTorch and scikit-learn, and against its own laws."""

import re
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fastmlp import reference
from fastmlp.activations import ACTIVATIONS
from fastmlp.losses import LOSSES
from fastmlp.optimizers import RULES

N, K, M = 7, 5, 3
HIDDEN = {1: (), 2: (6,), 3: (6, 4)}


def make_network(sizes, seed=0):
    rng = np.random.default_rng(seed)
    weights = [rng.normal(size=shape) / np.sqrt(shape[0]) for shape in pairwise(sizes)]
    return weights, [rng.normal(size=size) for size in sizes[1:]]


def make_targets(loss, n=N, m=M, seed=1):
    rng = np.random.default_rng(seed)
    return {
        "classes": rng.dirichlet(np.ones(m), size=n),
        "probabilities": rng.uniform(size=(n, m)),
        "values": rng.normal(size=(n, m // LOSSES[loss].outputs_a_target)),
        "counts": rng.poisson(2, size=(n, m)).astype(float),
    }[LOSSES[loss].targets]


def make_inputs(n=N, k=K, seed=2):
    return np.random.default_rng(seed).normal(size=(n, k))


def central_differences(function, parameters, h=1e-5):
    """Derivatives of function(parameters) by every entry of a list of arrays."""
    derivatives = [np.empty_like(p) for p in parameters]
    for i, parameter in enumerate(parameters):
        for index in np.ndindex(parameter.shape):
            low, high = (
                function([*parameters[:i], shift_entry(parameter, index, s), *parameters[i + 1 :]]) for s in (-h, h)
            )
            derivatives[i][index] = (high - low) / (2 * h)
    return derivatives


def shift_entry(array, index, shift):
    shifted = array.copy()
    shifted[index] += shift
    return shifted


def assert_gradients_agree(actual, expected):
    # Central differences with h = 1e-5 err by about h**2 = 1e-10, and 1e-16 / h = 1e-11 for rounding.
    assert all(np.abs(a - e).max() < 2e-9 for a, e in zip(actual, expected, strict=True))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("depth", HIDDEN)
@pytest.mark.parametrize(
    ("activation", "loss"),
    [*((activation, "cross_entropy") for activation in ACTIVATIONS), *(("tanh", loss) for loss in list(LOSSES)[1:])],
)
def test_gradients_are_those_of_central_differences(activation, loss, depth, weighted):
    weights, biases = make_network((K, *HIDDEN[depth], M))
    batch = {
        "X": make_inputs(),
        "targets": make_targets(loss),
        "activation": activation,
        "loss": loss,
        "sample_weight": np.array([2, 0, 1, 0.5, 3, 1, 1]) if weighted else None,
    }
    cost, dweights, dbiases = reference.gradients(weights, biases, **batch)
    assert cost == reference.cost(weights, biases, **batch)

    expected = central_differences(lambda p: reference.cost(p[:depth], p[depth:], **batch), [*weights, *biases])
    actual = [*dweights, *dbiases]
    assert_gradients_agree(actual, expected)

    # The negative controls: the same check fails for gradients of which all, or one entry, are off by 1 %.
    with pytest.raises(AssertionError):
        assert_gradients_agree([1.01 * a for a in actual], expected)
    for i, array in enumerate(actual):
        for index in np.argwhere(np.abs(array) > 1e-6):
            entry = tuple(index)
            wrong = [*actual[:i], shift_entry(array, entry, 0.01 * array[entry]), *actual[i + 1 :]]
            with pytest.raises(AssertionError):
                assert_gradients_agree(wrong, expected)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_derivatives_of_activations(activation):
    f = ACTIVATIONS[activation]
    z = np.linspace(-5, 5, 100)  # even, so that ReLU's corner at 0 is left out
    expected = (f.forward(z + 1e-5) - f.forward(z - 1e-5)) / 2e-5
    assert_gradients_agree([f.derivative(z)], [expected])


def test_relu_has_derivative_zero_at_zero():
    assert ACTIVATIONS["relu"].derivative(np.zeros(1)) == 0
    assert reference.relu_backward(np.ones(1), np.zeros(1)) == 0


LIMITS = {  # what -1e5 and 1e5 become
    **dict.fromkeys(("relu", "gelu", "gelu_tanh", "silu", "mish", "softplus"), (0, 1e5)),
    "leaky_relu": (-1e3, 1e5),
    "elu": (-1, 1e5),
    "selu": (-1.0507009873554805 * 1.6732632423543772, 1.0507009873554805e5),
    "tanh": (-1, 1),
    "logistic": (0, 1),
    "identity": (-1e5, 1e5),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_of_large_arguments(name):
    assert ACTIVATIONS[name].forward([-1e5, 1e5]).tolist() == pytest.approx(LIMITS[name], rel=1e-15, abs=0)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_and_their_derivatives_are_pytorchs(torch, name):
    if name == "identity":
        pytest.skip("PyTorch has no such function")
    arguments = {"approximate": "tanh"} if name == "gelu_tanh" else {}
    f = getattr(torch.nn.functional, {"logistic": "sigmoid", "gelu_tanh": "gelu"}.get(name, name))
    values = np.concatenate([np.linspace(-30, 30, 1001), [0.0, -0.0, -1e-9, 1e-9, -1e3, 1e3]])
    z = torch.tensor(values, requires_grad=True)
    h = f(z, **arguments)
    h.sum().backward()
    near = 3e-9 if name == "softplus" else 1e-14  # its softplus is z itself from 20 on
    np.testing.assert_allclose(ACTIVATIONS[name].forward(values), h.detach().numpy(), rtol=1e-12, atol=near)
    np.testing.assert_allclose(ACTIVATIONS[name].derivative(values), z.grad.numpy(), rtol=1e-12, atol=near)


def test_logistic_keeps_its_relative_precision():
    z = np.linspace(-700, 700, 1401)
    np.testing.assert_allclose(ACTIVATIONS["logistic"].forward(z), scipy.special.expit(z), rtol=1e-12)


CODES = {
    "fm_activation": {name: row.code for name, row in ACTIVATIONS.items()},
    "fm_loss_kind": {name: row.code for name, row in LOSSES.items()},
    "fm_rule": {name: row.code for name, row in RULES.items()},
}


@pytest.mark.parametrize("enum", CODES)
def test_codes_are_those_of_the_engine(enum):
    header = (Path(__file__).parents[1] / "src" / "fastmlp.h").read_text()
    names = re.search(rf"enum {enum} {{(.*?)}}", header, re.DOTALL)[1].split(",")
    assert {f"FM_{name.upper()}": code for name, code in CODES[enum].items()} == {
        name.strip(): code for code, name in enumerate(names)
    }


SCIPY = {  # name: (value, output)
    "cross_entropy": (
        lambda z, t: -(t * scipy.special.log_softmax(z, axis=1)).sum(axis=1),
        lambda z: scipy.special.softmax(z, axis=1),
    ),
    "binary_cross_entropy": (
        lambda z, t: -(t * scipy.special.log_expit(z) + (1 - t) * scipy.special.log_expit(-z)).sum(axis=1),
        scipy.special.expit,
    ),
    "squared_error": (lambda z, t: np.linalg.norm(z - t, axis=1) ** 2 / 2, lambda z: z),
    "focal": (
        lambda z, t: (t * (1 - scipy.special.softmax(z, axis=1)) ** 2 * -scipy.special.log_softmax(z, axis=1)).sum(1),
        lambda z: scipy.special.softmax(z, axis=1),
    ),
    "absolute_error": (lambda z, t: np.linalg.norm(z - t, ord=1, axis=1), lambda z: z),
    "huber": (lambda z, t: scipy.special.huber(1, z - t).sum(axis=1), lambda z: z),
    "quantile": (
        lambda z, t: sum(
            np.maximum(q * (t - z[:, i::3]), (q - 1) * (t - z[:, i::3])).sum(axis=1)
            for i, q in enumerate((0.1, 0.5, 0.9))
        ),
        lambda z: z,
    ),
    "poisson": (lambda z, t: np.exp(z).sum(axis=1) - (t * z).sum(axis=1), np.exp),
}


@pytest.mark.parametrize("scale", [1, 30, 1e5])
@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_those_of_scipy(name, scale):
    if name == "poisson" and scale > 30:
        pytest.skip("its loss is beyond float64")
    logits, targets = scale * make_inputs(50, M), make_targets(name, n=50)
    value, output = SCIPY[name]
    rtol = 1e-9 if name == "focal" else 1e-12  # SciPy's softmax has not the digits of 1 - p
    np.testing.assert_allclose(LOSSES[name].value(logits, targets), value(logits, targets), rtol=rtol)
    np.testing.assert_allclose(LOSSES[name].output.forward(logits), output(logits), rtol=1e-12)


def test_cross_entropies_are_those_of_the_textbook():
    logits, targets = make_inputs(50, M), np.eye(M)[np.arange(50) % M]
    softmax, logistic = (LOSSES[name].output.forward(logits) for name in ("cross_entropy", "binary_cross_entropy"))
    np.testing.assert_allclose(
        LOSSES["cross_entropy"].value(logits, targets),
        -scipy.special.xlogy(targets, softmax).sum(axis=1),
        rtol=1e-12,
    )
    np.testing.assert_allclose(
        LOSSES["binary_cross_entropy"].value(logits, targets),
        -(scipy.special.xlogy(targets, logistic) + scipy.special.xlog1py(1 - targets, -logistic)).sum(axis=1),
        rtol=1e-12,
    )


@pytest.mark.parametrize("name", ["cross_entropy", "binary_cross_entropy"])
def test_cross_entropies_of_large_logits(name):
    loss, logits, right, wrong = LOSSES[name], [[1e5, -1e5]], [[1, 0]], [[0, 1]]
    assert loss.value(logits, right).tolist() == [0]
    assert loss.value(logits, wrong).tolist() == [2e5]
    assert loss.gradient(logits, right).tolist() == [[0, 0]]
    assert loss.gradient(logits, wrong).tolist() == [[1, -1]]


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="compares with PyTorch")


def torch_row_losses(torch, loss, logits, targets):
    functional = torch.nn.functional
    if loss == "cross_entropy":
        return functional.cross_entropy(logits, targets, reduction="none")
    if loss == "binary_cross_entropy":
        return functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(dim=1)
    if loss == "focal":
        log_p = functional.log_softmax(logits, dim=1)
        return -(targets * (1 - log_p.exp()) ** 2 * log_p).sum(dim=1)
    if loss == "quantile":
        levels, t = torch.tensor([0.1, 0.5, 0.9], dtype=logits.dtype), targets.repeat_interleave(3, dim=1)
        return torch.maximum(levels * (t - logits), (levels - 1) * (t - logits)).sum(dim=1)
    function = {
        "squared_error": lambda z, t, reduction: functional.mse_loss(z, t, reduction=reduction) / 2,
        "absolute_error": functional.l1_loss,
        "huber": functional.huber_loss,
        "poisson": functional.poisson_nll_loss,
    }[loss]
    return function(logits, targets, reduction="none").sum(dim=1)


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_and_gradients_are_those_of_pytorch(torch, loss):
    logits, targets = 3 * make_inputs(N, M), make_targets(loss)
    z = torch.tensor(logits, requires_grad=True)
    rows = torch_row_losses(torch, loss, z, torch.tensor(targets))
    rows.sum().backward()
    np.testing.assert_allclose(LOSSES[loss].value(logits, targets), rows.detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(LOSSES[loss].gradient(logits, targets), z.grad.numpy(), rtol=1e-12, atol=1e-14)


def test_softmax_cross_entropy_of_labels_is_pytorchs(torch):
    logits, labels = 3 * make_inputs(N, M), np.arange(N) % M
    z = torch.tensor(logits, requires_grad=True)
    rows = torch.nn.functional.cross_entropy(z, torch.tensor(labels), reduction="none")
    rows.sum().backward()
    loss_rows, dlogits = reference.softmax_cross_entropy(logits, labels)
    np.testing.assert_allclose(loss_rows, rows.detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(dlogits, z.grad.numpy(), rtol=1e-12, atol=1e-14)


OPTIMIZERS = [  # (the class in torch.optim, our hyper-parameters, PyTorch's)
    ("SGD", {"learning_rate": 0.1}, {"lr": 0.1}),
    ("SGD", {"momentum": 0.9}, {"lr": 0.01, "momentum": 0.9}),
    ("SGD", {"momentum": 0.9, "nesterov": True}, {"lr": 0.01, "momentum": 0.9, "nesterov": True}),
    ("Adam", {}, {}),
    ("Adam", {"beta_1": 0.8, "beta_2": 0.95, "epsilon": 0.01}, {"betas": (0.8, 0.95), "eps": 0.01}),
    ("AdamW", {"learning_rate": 0.05, "weight_decay": 0.1}, {"lr": 0.05, "weight_decay": 0.1}),
]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("optimizer", "ours", "theirs"), OPTIMIZERS)
def test_training_follows_pytorch(torch, optimizer, ours, theirs, loss):
    weights, biases = make_network((K, 6, 4, M))
    state = [(np.zeros_like(p),) * (1 if optimizer == "SGD" else 2) for p in weights + biases]
    parameters = [torch.tensor(p, requires_grad=True) for p in weights + biases]
    torch_optimizer = getattr(torch.optim, optimizer)(parameters, **theirs)

    for step in range(1, 21):
        X, targets = make_inputs(seed=step), make_targets(loss, seed=step)
        sample_weight = np.random.default_rng(step).uniform(size=N)

        h, w = torch.tensor(X), torch.tensor(sample_weight)
        for i in range(3):
            z = h @ parameters[i] + parameters[3 + i]
            h = torch.tanh(z)
        torch_cost = (w * torch_row_losses(torch, loss, z, torch.tensor(targets))).sum() / w.sum()
        torch_optimizer.zero_grad()
        torch_cost.backward()
        torch_optimizer.step()

        update = partial(reference.sgd, **ours) if optimizer == "SGD" else partial(reference.adam, step=step, **ours)
        cost, weights, biases, state = reference.train_step(
            weights,
            biases,
            state,
            X,
            targets,
            activation="tanh",
            loss=loss,
            update=update,
            sample_weight=sample_weight,
        )
        np.testing.assert_allclose(cost, torch_cost.item(), rtol=1e-11)
        for actual, expected in zip(weights + biases, parameters, strict=True):
            np.testing.assert_allclose(actual, expected.detach().numpy(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("activation", ["relu", "tanh", "logistic", "identity"])
@pytest.mark.parametrize(
    ("estimator", "loss", "m"),
    [
        ("MLPClassifier", "cross_entropy", 3),
        ("MLPClassifier", "binary_cross_entropy", 1),
        ("MLPRegressor", "squared_error", 2),
    ],
)
def test_a_step_of_gradient_descent_is_scikit_learns(estimator, loss, m, activation):
    neural_network = pytest.importorskip("sklearn.neural_network", reason="compares with scikit-learn")
    X = make_inputs()
    y = {
        "cross_entropy": np.arange(N) % 3,
        "binary_cross_entropy": np.arange(N) % 2,
        "squared_error": make_targets(loss, m=m),
    }[loss]
    net = getattr(neural_network, estimator)(
        hidden_layer_sizes=(6, 4),
        activation=activation,
        solver="sgd",
        alpha=0,
        batch_size=N,
        learning_rate_init=0.5,
        momentum=0,
        shuffle=False,
        random_state=0,
    )
    net.partial_fit(X, y, **({"classes": np.unique(y)} if estimator == "MLPClassifier" else {}))
    weights, biases = [w.copy() for w in net.coefs_], [b.copy() for b in net.intercepts_]
    net.partial_fit(X, y)

    cost, weights, biases, _ = reference.train_step(
        weights,
        biases,
        [(np.zeros_like(p),) for p in weights + biases],
        X,
        y[:, np.newaxis] if loss == "binary_cross_entropy" else y,
        activation=activation,
        loss=loss,
        update=partial(reference.sgd, learning_rate=0.5),
    )
    np.testing.assert_allclose(net.loss_, cost / m if loss == "squared_error" else cost, rtol=1e-12)
    for actual, expected in zip(weights + biases, net.coefs_ + net.intercepts_, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-14)


finite_logits = arrays(float, (4, M), elements=st.floats(-1e3, 1e3))
labels = arrays(int, 4, elements=st.integers(0, M - 1))


@settings(deadline=None)
@given(finite_logits, labels)
def test_gradients_of_softmax_cross_entropy_sum_to_zero(logits, labels):
    loss_rows, dlogits = reference.softmax_cross_entropy(logits, labels)
    assert (loss_rows >= 0).all()
    np.testing.assert_allclose(dlogits.sum(axis=1), 0, atol=1e-12)


@settings(deadline=None)
@given(finite_logits, labels, arrays(float, (4, 1), elements=st.floats(-1e3, 1e3)))
def test_softmax_cross_entropy_ignores_a_shift_of_all_logits(logits, labels, shift):
    for shifted, plain in zip(
        reference.softmax_cross_entropy(logits + shift, labels),
        reference.softmax_cross_entropy(logits, labels),
        strict=True,
    ):
        np.testing.assert_allclose(shifted, plain, rtol=0, atol=1e-11)


@settings(deadline=None)
@given(arrays(int, N, elements=st.integers(0, 3)), st.sampled_from([1, 0.01]), st.sampled_from(list(LOSSES)))
def test_sample_weights_are_relative_numbers_of_copies(copies, scale, loss):
    network, X, targets = make_network((K, 4, M)), make_inputs(), make_targets(loss)
    names = {"activation": "relu", "loss": loss}
    cost, dweights, dbiases = reference.gradients(*network, X, targets, **names, sample_weight=scale * copies)
    X, targets = np.repeat(X, copies, axis=0), np.repeat(targets, copies, axis=0)
    copied_cost, copied_dweights, copied_dbiases = reference.gradients(*network, X, targets, **names)
    np.testing.assert_allclose(cost, copied_cost, rtol=1e-12)
    for a, b in zip(dweights + dbiases, copied_dweights + copied_dbiases, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-13)


def test_weights_that_sum_to_zero_cost_nothing():
    network = make_network((K, 4, M))
    cost, dweights, dbiases = reference.gradients(
        *network,
        make_inputs(),
        make_targets("squared_error"),
        activation="relu",
        loss="squared_error",
        sample_weight=np.zeros(N),
    )
    assert cost == 0
    assert not any(d.any() for d in dweights + dbiases)


def test_labels_are_one_hot_rows():
    network = make_network((K, 4, M))
    labels = np.arange(N) % M
    names = {"activation": "tanh", "loss": "cross_entropy"}
    from_labels = reference.gradients(*network, make_inputs(), labels, **names)
    from_rows = reference.gradients(*network, make_inputs(), np.eye(M)[labels], **names)
    assert from_labels[0] == from_rows[0]
    assert all((a == b).all() for i in (1, 2) for a, b in zip(from_labels[i], from_rows[i], strict=True))


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8])
def test_everything_is_float64_and_leaves_its_arguments_alone(dtype):
    def computed(array, labels):
        network = [array, array.T], [array[0], array[:, 0]]
        names = {"activation": "relu", "loss": "cross_entropy"}
        return [
            reference.matmul_bias(array, array.T, array[:, 0]),
            reference.relu(array),
            reference.relu_backward(array, array),
            *reference.softmax_cross_entropy(array, labels),
            *reference.adam(array, array, abs(array), array, 1),
            *reference.sgd(array, array, array),
            *reference.forward(*network, array, "relu"),
            *(g for gs in reference.gradients(*network, array, labels, **names)[1:] for g in gs),
            *(f(array) for a in ACTIVATIONS.values() for f in (a.forward, a.derivative)),
            *(loss.output.forward(array) for loss in LOSSES.values()),
            *(loss.value(array, array[:, : 3 // loss.outputs_a_target]) for loss in LOSSES.values()),
        ]

    array, labels = np.array([[1, -2, 3], [0, 5, -1], [1, 1, 2]], dtype), np.array([2, 0, 1])
    read_only = array.astype(float)
    read_only.setflags(write=False)
    results = computed(array, labels)
    assert all(a.dtype == np.float64 for a in results)
    assert all((a == b).all() for a, b in zip(results, computed(read_only, labels), strict=True))


@pytest.mark.parametrize(
    ("targets", "error", "message"),
    [
        ([0, 3], ValueError, "targets must be labels from 0 to 2, got 0 to 3"),
        ([-1, 2], ValueError, "targets must be labels from 0 to 2, got -1 to 2"),
        ([0.0, 1.0], TypeError, "targets .* got dtype float64"),
        ([0, 1, 2], ValueError, r"targets must have .* \(2, 3\), got \(3,\)"),
        (np.zeros((2, 4)), ValueError, r"targets must have .* \(2, 3\), got \(2, 4\)"),
    ],
)
def test_bad_targets_are_refused(targets, error, message):
    with pytest.raises(error, match=message):
        reference.softmax_cross_entropy(np.zeros((2, 3)), targets)


def test_labels_are_for_cross_entropy_only():
    with pytest.raises(ValueError, match=r"targets must have .* \(7, 3\), got \(7,\)"):
        reference.cost(*make_network((K, M)), make_inputs(), np.zeros(N, int), activation="relu", loss="squared_error")


def test_bad_sample_weights_are_refused():
    with pytest.raises(ValueError, match=r"sample_weight must have shape \(7,\), got \(7, 1\)"):
        reference.cost(
            *make_network((K, M)),
            make_inputs(),
            np.zeros(N, int),
            activation="relu",
            loss="cross_entropy",
            sample_weight=np.ones((N, 1)),
        )
