"""The losses: their tables, their parameters, and those that are written in Python."""

import ast
import pickle
import re
from pathlib import Path

import numpy as np
import pytest

import fastmlp
from fastmlp import MLP, SGD, kernels, reference
from fastmlp.activations import ACTIVATIONS
from fastmlp.callbacks import Callback
from fastmlp.losses import (
    LOGISTIC,
    LOSSES,
    SOFTMAX,
    AbsoluteError,
    CrossEntropy,
    Custom,
    Focal,
    Huber,
    Poisson,
    Quantile,
    SquaredError,
    loss_of,
)

PACKAGE = Path(fastmlp.__file__).parent


def compared_names(tree):
    """Names of losses or activations among what a module compares."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Compare, ast.MatchValue)):
            strings = {leaf.value for leaf in ast.walk(node) if isinstance(leaf, ast.Constant)}
            yield from strings & {*LOSSES, *ACTIVATIONS}


def test_no_name_is_compared_outside_the_tables():
    found = {
        path.name: names
        for path in PACKAGE.rglob("*.py")
        if (names := set(compared_names(ast.parse(path.read_text(encoding="utf-8")))))
    }
    assert found == {}


@pytest.mark.parametrize("line", ['if loss == "cross_entropy": pass', 'x = 1 if loss in ("a", "squared_error") else 2'])
def test_a_name_that_is_compared_would_be_found(line):
    assert list(compared_names(ast.parse(line)))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("m", [2, 3])
def test_what_is_decided_is_the_likelier(loss, m):
    logits = np.random.default_rng(m).normal(size=(50, m)).astype(np.float32)
    output = LOSSES[loss].output
    outputs, decided = output.forward(logits), output.decide(logits)
    if output is SOFTMAX:
        np.testing.assert_array_equal(decided, outputs.argmax(axis=1))
    elif output is LOGISTIC:
        np.testing.assert_array_equal(decided, outputs > 0.5)
    else:
        np.testing.assert_allclose(decided, outputs, rtol=1e-6)


# ---- Parameters

OTHERS = [
    CrossEntropy(label_smoothing=0.2),
    Focal(gamma=0),
    Focal(gamma=0.5),
    Focal(gamma=3.5),
    Huber(delta=0.25),
    Quantile(levels=[0.5]),
    Quantile(levels=(0.05, 0.25, 0.75, 0.95)),
]
each_loss = pytest.mark.parametrize("loss", [*(LOSSES[name] for name in LOSSES), *OTHERS], ids=repr)


def drawn(loss, n=40, m=4, scale=3.0):
    rng = np.random.default_rng(0)
    each = loss.outputs_a_target
    targets = {
        "classes": lambda: rng.dirichlet(np.ones(each * m), n),
        "probabilities": lambda: rng.random((n, m)),
        "counts": lambda: rng.poisson(2, (n, m)),
        "values": lambda: rng.normal(size=(n, m)),
    }[loss.targets]()
    return (scale * rng.normal(size=(n, each * m))).astype(np.float32), targets.astype(np.float32)


@each_loss
def test_gradients_are_those_of_central_differences(loss):
    logits, targets = (array.astype(np.float64) for array in drawn(loss))
    if loss.targets == "classes":
        targets /= targets.sum(axis=1, keepdims=True)
    gradient = loss.gradient(logits, targets)
    for j in range(logits.shape[1]):
        step = 1e-6 * np.eye(logits.shape[1])[j]
        slope = (loss.value(logits + step, targets) - loss.value(logits - step, targets)) / 2e-6
        np.testing.assert_allclose(gradient[:, j], slope, rtol=1e-6, atol=1e-7)
        assert not np.allclose(1.01 * gradient[:, j], slope, rtol=1e-6, atol=1e-7)


@each_loss
@pytest.mark.parametrize("m", [1, 4, 20])
def test_the_engine_computes_them(loss, m, assert_close):
    m = max(m, loss.least_outputs)
    logits, targets = drawn(loss, m=m)
    if loss.targets == "counts":
        logits /= 3
    assert_close(kernels.losses(logits, targets, loss), loss.value(logits, targets), "losses", 4 * m, terms=1)
    net = MLP((len(logits), logits.shape[1]), loss=loss)
    net.weights[0][...] = logits
    before = net.parameters.copy()
    X = np.eye(len(logits))
    net.fit(X, targets, epochs=1, batch_size=len(X), optimizer=SGD(learning_rate=1.0), verbose=False)
    wanted = reference.gradients([before[: logits.size].reshape(logits.shape)], [np.zeros(logits.shape[1])], X, targets,
                                 activation="relu", loss=loss)  # fmt: skip
    assert_close(before[: logits.size].reshape(logits.shape) - net.weights[0], wanted[1][0], "steps", 4 * m, terms=3)


@pytest.mark.parametrize(
    "loss", [CrossEntropy(), CrossEntropy(label_smoothing=0.2), Focal(), Focal(gamma=0.5)], ids=repr
)
@pytest.mark.parametrize("m", [2, 5, 40])
def test_labels_are_one_hot_rows(loss, m, assert_close):
    logits = 5 * np.random.default_rng(m).normal(size=(70, m)).astype(np.float32)
    labels = np.arange(70) % m
    rows = np.eye(m, dtype=np.float32)[labels]
    assert_close(kernels.losses(logits, labels, loss), loss.value(logits, rows), "losses", m, terms=1)
    assert_close(kernels.losses(logits, rows, loss), loss.value(logits, rows), "losses", m, terms=1)
    nets = []
    for y in (labels, rows):
        nets.append(MLP((m, m), loss=loss))
        nets[-1].fit(logits, y, epochs=2, batch_size=16, verbose=False)
    assert_close(nets[0].parameters, nets[1].parameters.astype(np.float64), "steps", m, terms=1)


def test_label_smoothing_is_pytorchs():
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    logits = 4 * np.random.default_rng(1).normal(size=(30, 7))
    labels = np.arange(30) % 7
    z = torch.tensor(logits, requires_grad=True)
    rows = torch.nn.functional.cross_entropy(z, torch.tensor(labels), reduction="none", label_smoothing=0.3)
    rows.sum().backward()
    loss = CrossEntropy(label_smoothing=0.3)
    np.testing.assert_allclose(loss.value(logits, np.eye(7)[labels]), rows.detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(loss.gradient(logits, np.eye(7)[labels]), z.grad.numpy(), rtol=1e-10, atol=1e-14)


@each_loss
def test_large_logits_have_finite_losses(loss):
    logits, targets = drawn(loss, scale=1e6)
    if loss.targets == "counts":
        logits = -np.abs(logits)
    assert np.isfinite(kernels.losses(logits, targets, loss)).all()
    np.testing.assert_allclose(kernels.losses(logits, targets, loss), loss.value(logits, targets), rtol=1e-5)


def test_a_focal_loss_of_sure_rows():
    logits = np.float32([[0, 30], [0, 100], [0, 1e30], [30, 0]])
    labels = np.array([1, 1, 1, 1])
    for gamma in (0.25, 2, 5):
        loss = Focal(gamma=gamma)
        found = kernels.losses(logits, labels, loss)
        np.testing.assert_allclose(found[3], 30, rtol=1e-6)
        assert (found[:3] >= 0).all()
        assert (found[:3] < 1e-8).all()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: CrossEntropy(label_smoothing=1), ValueError, "label_smoothing must be finite and in [0, 1), not 1.0"),
        (lambda: CrossEntropy(label_smoothing="a"), TypeError, "label_smoothing must be a number, not 'a'"),
        (lambda: Focal(gamma=-1), ValueError, "gamma must be finite and from 0 to 100, not -1.0"),
        (lambda: Focal(gamma=np.nan), ValueError, "gamma must be finite"),
        (lambda: Huber(delta=0), ValueError, "delta must be finite and from"),
        (lambda: Quantile(levels=0.5), TypeError, "levels must be a sequence of numbers, not 0.5"),
        (lambda: Quantile(levels=()), ValueError, "levels must have at least one number"),
        (lambda: Quantile(levels=(0.5, 1)), ValueError, "levels[1] must be finite and between 0 and 1, not 1.0"),
        (lambda: Custom("mse"), TypeError, "function must be callable"),
        (lambda: MLP((2, 4), loss=Quantile()), ValueError, "layer_sizes must end in 3 outputs for each target"),
        (lambda: MLP((2, 1), loss=Focal()), ValueError, "layer_sizes must end in at least 2 outputs"),
        (lambda: MLP((2, 1), loss=Huber), TypeError, "loss must be a string, one of cross_entropy, "),
    ],
)
def test_wrong_parameters(make, error, message):
    with pytest.raises(error, match=re.escape(message)):
        make()


def test_a_name_is_a_loss_of_default_parameters():
    assert MLP((2, 2)).loss == MLP((2, 2), loss=CrossEntropy()).loss == "cross_entropy"
    assert MLP((2, 2), loss=Huber(delta=2)).loss == Huber(delta=2.0)
    for loss in (*OTHERS, *LOSSES):
        assert loss_of(loss) == loss_of(loss)
        assert pickle.loads(pickle.dumps(loss_of(loss))) == loss_of(loss)
    with pytest.raises(AttributeError):
        Huber().delta = 3


@each_loss
def test_networks_keep_their_loss_in_files_and_pickles(loss, tmp_path):
    net = MLP((3, 4 * loss.outputs_a_target), loss=loss)
    net.save(tmp_path / "net")
    for twin in (
        fastmlp.load(tmp_path / "net"),
        fastmlp.load(tmp_path / "net", loss=loss),
        pickle.loads(pickle.dumps(net)),
    ):
        assert twin.loss == net.loss
        assert loss_of(twin.loss) == loss
    with pytest.raises(ValueError, match="loss must be"):
        fastmlp.load(tmp_path / "net", loss=Huber(delta=77))


# ---- What a network makes of them


def test_quantiles_are_learned():
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (4000, 1))
    y = X[:, 0] + rng.normal(size=4000) * 0.5
    net = MLP((1, 16, 3), activation="tanh", loss="quantile")
    net.fit(X, y, epochs=20, batch_size=50, optimizer=fastmlp.Adam(0.01), verbose=False)
    below = (y[:, None] < net.predict(X)).mean(axis=0)
    np.testing.assert_allclose(below, [0.1, 0.5, 0.9], atol=0.04)
    assert list(net.evaluate(X, y)) == ["loss"]


def test_several_targets_have_their_quantiles_side_by_side(assert_close):
    loss, levels = Quantile(levels=(0.25, 0.75)), (0.25, 0.75)
    logits, targets = drawn(loss, m=3)
    parts = [Quantile(levels=[q]) for q in levels]
    wanted = sum(part.value(logits[:, i::2], targets) for i, part in enumerate(parts))
    assert_close(kernels.losses(logits, targets, loss), wanted, "losses", 6)


def test_poisson_predicts_rates():
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (3000, 2))
    y = rng.poisson(np.exp(X[:, 0] - X[:, 1] / 2 + 1))
    net = MLP((2, 1), loss=Poisson())
    net.fit(X, y, epochs=60, batch_size=100, optimizer=fastmlp.Adam(0.02), verbose=False)
    np.testing.assert_allclose([*net.weights[0][:, 0], *net.biases[0]], [1, -0.5, 1], atol=0.08)
    np.testing.assert_allclose(net.predict(X), np.exp(net.logits(X)[:, 0]), rtol=1e-6)
    with pytest.raises(ValueError, match="y must hold counts or rates, from 0 on; it has -1"):
        net.fit(X, y - 1.0 * (y == 0), verbose=False)


# ---- Losses in Python


def half_square(logits, targets):
    difference = logits - targets.reshape(logits.shape)
    return (difference**2).sum(axis=1) / 2, difference


def example(n=60, k=5, m=2):
    rng = np.random.default_rng(3)
    return rng.normal(size=(n, k)).astype(np.float32), rng.normal(size=(n, m)).astype(np.float32)


@pytest.mark.parametrize("batch_size", [7, 60])
@pytest.mark.parametrize("n_threads", [1, 2])
def test_a_custom_loss_trains_as_the_one_that_it_computes(batch_size, n_threads, assert_close):
    X, y = example()
    fit = {"epochs": 3, "batch_size": batch_size, "verbose": False, "validation_data": (X, y)}
    nets = [MLP((5, 8, 2), loss=loss, n_threads=n_threads) for loss in (Custom(half_square), "squared_error")]
    histories = [net.fit(X, y, sample_weight=np.arange(60), **fit) for net in nets]
    assert_close(nets[0].parameters, nets[1].parameters.astype(np.float64), "steps", 60, terms=1)
    np.testing.assert_allclose(histories[0].loss, histories[1].loss, rtol=1e-5)
    np.testing.assert_allclose(histories[0].validation_loss, histories[1].validation_loss, rtol=1e-5)
    assert nets[0].evaluate(X, y) == {"loss": pytest.approx(nets[1].evaluate(X, y)["loss"], rel=1e-5)}
    np.testing.assert_array_equal(nets[0].predict(X), nets[0].logits(X))


def test_targets_of_a_custom_loss_may_be_anything_with_a_row_for_each():
    seen = []

    def survival(logits, targets):  # an exponential hazard: the time, and whether it ended
        seen.append((targets.dtype, targets.shape[1:]))
        rate = np.exp(logits[:, 0])
        return rate * targets[:, 0] - targets[:, 1] * logits[:, 0], (rate * targets[:, 0] - targets[:, 1])[:, None]

    X, y = example()
    for values in (np.abs(y), np.ones((60, 2), int)):
        history = MLP((5, 1), loss=Custom(survival)).fit(X, values, epochs=5, verbose=False)
        assert history.loss[-1] < history.loss[0]
    assert {dtype for dtype, _ in seen} == {np.dtype(np.float32), np.dtype(int)}
    assert {shape for _, shape in seen} == {(2,)}
    with pytest.raises(ValueError, match="y must have a row for each input row, 60; it has shape"):
        MLP((5, 1), loss=Custom(survival)).fit(X, y[1:])


WRONG = {
    "nothing": (lambda z, t: None, "must return losses and dlogits; it returned None"),
    "losses": (lambda z, t: (z, z), r"must return losses of shape \(20,\); they have \(20, 2\)"),
    "dlogits": (lambda z, t: (z[:, 0], z[:, 0]), r"must return dlogits of shape \(20, 2\); they have \(20,\)"),
    "NaN": (lambda z, t: (z[:, 0] * np.nan, z), "must return finite losses"),
    "infinity": (lambda z, t: (z[:, 0], z * np.float32(np.inf)), "must return finite dlogits"),
    "too large": (lambda z, t: (z[:, 0], np.full(z.shape, 1e300)), "must return finite dlogits"),
    "text": (lambda z, t: ("a", z), "must return arrays of numbers; losses: "),
}


@pytest.mark.parametrize("watch", [False, True])
@pytest.mark.parametrize("case", [*WRONG, "an exception"])
def test_a_custom_loss_that_fails_leaves_the_network_as_before_the_batch(case, watch):
    wrong, message = WRONG.get(case, (None, "own words"))
    X, y = example()
    calls = []

    def fails_at_last(logits, targets):
        calls.append(logits.copy())
        if len(calls) < 5:  # in the second batch of the second epoch
            return half_square(logits, targets)
        if wrong is None:
            raise LookupError("own words")
        return wrong(logits, targets)

    class Watcher(Callback):
        def on_batches(self, progress):
            pass

    net, twin = MLP((5, 2), loss=Custom(fails_at_last)), MLP((5, 2), loss=Custom(half_square))
    fit = {"batch_size": 20, "shuffle": False, "verbose": False}
    with pytest.raises(ValueError if wrong else LookupError, match=message):
        net.fit(X, y, epochs=3, callbacks=[Watcher()] if watch else [], **fit)
    twin.fit(X, y, epochs=1, **fit)
    twin.fit(X[:20], y[:20], epochs=1, **fit)
    np.testing.assert_array_equal(net.parameters, twin.parameters)
    np.testing.assert_array_equal(net.logits(X[20:40]), calls[-1])


def test_a_custom_loss_may_diverge():
    X, y = example()
    net = MLP((5, 2), loss=Custom(half_square))
    with pytest.raises(fastmlp.DivergenceError, match="training diverged in epoch"), np.errstate(over="ignore"):
        net.fit(100 * X, y, epochs=50, optimizer=SGD(learning_rate=1e38), verbose=False)
    assert np.isfinite(net.parameters).all()


def test_a_custom_loss_in_files_and_pickles(tmp_path):
    X, y = example()
    net = MLP((5, 2), loss=Custom(half_square))
    net.fit(X, y, epochs=1, verbose=False)
    twin = pickle.loads(pickle.dumps(net))
    for each in (net, twin):
        each.fit(X, y, epochs=1, verbose=False)
    np.testing.assert_array_equal(net.parameters, twin.parameters)
    net.save(tmp_path / "net")
    loaded = fastmlp.load(tmp_path / "net", loss=Custom(half_square))
    np.testing.assert_array_equal(loaded.predict(X), net.predict(X))
    for loss in (None, "squared_error", SquaredError(), AbsoluteError()):
        with pytest.raises(fastmlp.FileFormatError, match="by a loss in Python: load"):
            fastmlp.load(tmp_path / "net", loss=loss)
    with pytest.raises(ValueError, match="loss must be one that the engine has"):
        kernels.losses(y, y, net.loss)


def test_a_custom_loss_is_validated_and_resumed(tmp_path):
    X, y = example(m=1)
    options = {"batch_size": 20, "verbose": False, "validation_data": (X, y[:, 0])}
    nets = []
    for epochs in ((2, 4), (4,)):
        path = tmp_path / f"run {len(epochs)}"
        for count in epochs:
            net = MLP((5, 3, 1), loss=Custom(half_square))
            callbacks = [fastmlp.callbacks.Checkpoint(path)]
            history = net.fit(X, y[:, 0], epochs=count, callbacks=callbacks, **{**options, "resume": path})
        assert len(history.validation_loss) == 4
        nets.append(net)
    np.testing.assert_array_equal(nets[0].parameters, nets[1].parameters)
