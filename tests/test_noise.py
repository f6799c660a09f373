"""Dropout and noise in training: the draws, the engine against `fastmlp.reference` with the same ones, and PyTorch."""

import copy
import pickle
from functools import partial
from itertools import product

import numpy as np
import pytest

import fastmlp
from fastmlp import SGD, Adam, reference
from fastmlp.activations import ACTIVATIONS
from fastmlp.draws import epoch_key
from fastmlp.engine import operations
from fastmlp.training.loop import orders

KEY = 0xFEDCBA9876543210
ROWS = np.array([5, 3, 2**31 + 7, 0, 1], np.int64)


# ---- The draws -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.0, 1e-6, 0.2, 0.5, 0.999, 1 - 1e-9])
def test_dropout_is_that_of_the_specification(rate):
    for panel, width in product((0, 1, 5), (16, 32, 48, 64)):
        h = np.ones((len(ROWS), width), np.float32)
        h[:, 1], h[:, 2] = -0.0, -3
        operations.drop(h, ROWS, KEY, rate, 2, panel)
        mask = reference.dropout(reference.layer_key(KEY, 2), ROWS, 64 * panel + width, rate)[:, 64 * panel :]
        expected = mask * [1, 0, -3, *[1] * (width - 3)]
        np.testing.assert_array_equal(h, expected.astype(np.float32))
        # what is dropped is -0, and nothing else is
        np.testing.assert_array_equal(np.signbit(h) & (h == 0), mask == 0)


def test_other_keys_rows_and_panels_have_other_draws():
    def drawn(key=KEY, rows=ROWS, layer=1, panel=0):
        h = np.ones((len(rows), 64), np.float32)
        operations.drop(h, rows, key, 0.5, layer, panel)
        z = np.zeros((len(rows), 64), np.float32)
        operations.add_noise(z, rows, key, 1, layer, panel)
        return h.tobytes() + z.tobytes()

    assert drawn() == drawn()
    changed = [drawn(key=KEY + 1), drawn(key=KEY ^ 1 << 63), drawn(rows=ROWS[::-1].copy())]
    assert len({drawn(), *changed, drawn(layer=2), drawn(panel=1)}) == 6


def test_normal_numbers_are_those_of_the_specification():
    for panel, width in product((0, 1, 5), (1, 5, 16, 17, 33, 64)):
        z = np.full((len(ROWS), width), 2, np.float32)
        operations.add_noise(z, ROWS, KEY, 0.25, 2, panel)
        expected = 2 + 0.25 * reference.normals(reference.layer_key(KEY, 2), ROWS, 64 * panel + width)[:, 64 * panel :]
        np.testing.assert_allclose(z, expected, atol=5e-7)


def test_draws_are_uniform_and_independent():
    stats = pytest.importorskip("scipy.stats")
    n, m = 4000, 128
    bits = reference.draws(KEY, np.arange(n), np.arange(m))
    for half in (bits & 0xFFFF, bits >> 16):
        assert 1e-4 < stats.chisquare(np.bincount(half.ravel() >> 8, minlength=256)).pvalue < 1 - 1e-4

    def signs(key):
        return 2.0 * (reference.dropout(key, np.arange(n), m, 0.5) > 0) - 1

    drawn = signs(KEY)
    scores = [drawn.sum(), *((drawn * signs(key)).sum() for key in (KEY + 1, reference.layer_key(KEY, 0)))]
    for lag in (1, 2, 4, 8, 16, 32, 64):
        scores += [(drawn[lag:] * drawn[:-lag]).sum(), (drawn[:, lag:] * drawn[:, :-lag]).sum()]
    assert np.abs(scores).max() < 4 * np.sqrt(n * m)
    for correlations, length in ((drawn.T @ drawn, n), (drawn[:500] @ drawn[:500].T, m)):
        np.fill_diagonal(correlations, 0)
        assert np.abs(correlations).max() < 5.5 * np.sqrt(length)  # of any two units, or rows


def test_normal_numbers_are_normal_and_independent():
    stats = pytest.importorskip("scipy.stats")
    z = np.zeros((4000, 64), np.float32)
    operations.add_noise(z, np.arange(4000), KEY, 1, 1, 3)
    assert stats.kstest(z.ravel(), "norm").pvalue > 1e-3
    assert abs(z.mean()) < 4 / np.sqrt(z.size)
    assert abs(z.var() - 1) < 4 * np.sqrt(2 / z.size)
    assert np.abs(z).max() > 4
    for values in (z, z**2):
        correlations = np.corrcoef(values.T) - np.eye(64)
        assert np.abs(correlations).max() < 5 / np.sqrt(4000)


# ---- The engine, with the specification's draws ----------------------------------------------------------------------


def problem(sizes, n, *, zeros=0.0, **options):
    rng = np.random.default_rng([n, *sizes])
    X = (rng.standard_normal((n, sizes[0])) * (rng.random((n, sizes[0])) >= zeros)).astype(np.float32)
    net = fastmlp.MLP(sizes, seed=3, **options)
    net.parameters[:] += rng.uniform(-0.1, 0.1, net.parameters.size)
    return net, X, rng.integers(sizes[-1], size=n)


def each(value, count):
    return value if isinstance(value, tuple) else (value,) * count


def drawn(net, epoch, rows):
    """What reference.train_step takes for these rows in this epoch."""
    hidden = len(net.layers) - 1
    keys = [reference.layer_key(epoch_key(net.seed, epoch), layer) for layer in range(hidden + 1)]
    rates = net.input_dropout, *each(net.dropout, hidden)
    deviations = net.input_noise, *each(net.noise, hidden)
    return [
        (deviation * reference.normals(key, rows, units), reference.dropout(key, rows, units, rate))
        for key, units, rate, deviation in zip(keys, net.layer_sizes[:-1], rates, deviations, strict=True)
    ]


def follow(net, X, y, optimizer, *, batch_size, epochs):
    """Compute in float64 what fit is to do: the parameters, and the epochs' losses."""
    weights, biases = net.weights, net.biases
    state = [(np.zeros_like(p),) for p in (*weights, *biases)]
    order_of, losses = orders(len(X), net.seed, 0, shuffle=True), []
    for epoch in range(epochs):
        costs = []
        order = next(order_of)
        for batch in np.split(order, range(batch_size, len(order), batch_size)):
            cost, weights, biases, state = reference.train_step(
                weights,
                biases,
                state,
                X[batch],
                y[batch],
                activation=net.activation,
                loss=net.loss,
                update=partial(reference.sgd, learning_rate=optimizer.learning_rate, momentum=optimizer.momentum),
                noise=drawn(net, epoch, batch),
            )
            costs.append(cost)
        losses.append(np.mean(costs))
    return np.concatenate([np.r_[w.ravel(), b] for w, b in zip(weights, biases, strict=True)]), losses


def check_steps(assert_close, net, X, y, *, batch_size, epochs=2):
    optimizer = SGD(learning_rate=0.0625, momentum=0.5)
    expected, losses = follow(net, X, y, optimizer, batch_size=batch_size, epochs=epochs)
    net = copy.deepcopy(net)
    history = net.fit(X, y, epochs=epochs, batch_size=batch_size, optimizer=optimizer, verbose=False)
    summed = epochs * -(-len(X) // batch_size) * max(*net.layer_sizes, batch_size)
    assert_close(history.loss, losses, "cost", summed, terms=1)
    assert_close(net.parameters, expected, "steps", summed, terms=1)
    return net, expected, summed


SHAPES = ((70, 128, 65, 5), (20, 64, 32, 3), (7, 5, 2), (65, 100, 64, 64, 10), (5, 200, 130, 2), (1, 1, 2))


@pytest.mark.parametrize("sizes", SHAPES, ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_steps_with_dropout(activation, sizes, assert_close):
    net, X, y = problem(sizes, 70, activation=activation, dropout=0.5)
    check_steps(assert_close, net, X, y, batch_size=30)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("zeros", [0.0, 0.5, 0.8])
def test_steps_with_rates_of_each_layer(zeros, activation, assert_close):
    net, X, y = problem((100, 130, 70, 65, 5), 70, zeros=zeros, activation=activation, dropout=(0.9, 0.0, 0.2))
    net, expected, summed = check_steps(assert_close, net, X, y, batch_size=30)
    wrong = copy.deepcopy(net)
    wrong.parameters[np.abs(expected).argmax()] *= 1.01
    with pytest.raises(AssertionError, match="steps"):
        assert_close(wrong.parameters, expected, "steps", summed, terms=1)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("sizes", SHAPES, ids=str)
def test_steps_with_noise(sizes, activation, assert_close):
    net, X, y = problem(sizes, 40, activation=activation, noise=0.5)
    check_steps(assert_close, net, X, y, batch_size=25)


def test_steps_with_dropout_and_noise_of_each_layer(assert_close):
    net, X, y = problem((100, 130, 70, 65, 5), 70, dropout=(0.0, 0.3, 0.6), noise=(0.2, 0.0, 0.4))
    check_steps(assert_close, net, X, y, batch_size=30)


def test_a_sum_of_minus_zero_is_not_taken_for_a_dropped_unit(assert_close):
    net, X, y = problem((3, 64, 2), 40, activation="tanh", dropout=0.5)
    net.weights[0][...] = 0
    net.biases[0][...] = -0.0
    X[...] = -0.0
    check_steps(assert_close, net, X, y, batch_size=40, epochs=1)


OF_INPUTS = ({"input_dropout": 0.4}, {"input_noise": 0.3}, {"input_dropout": 0.4, "input_noise": 0.3})
# X that is dense, narrow, masked or listed
INPUTS = (((100, 70, 5), 0.0), ((20, 64, 3), 0.0), ((130, 64, 5), 0.5), ((300, 64, 5), 0.8), ((64, 64, 3), 0.95))


@pytest.mark.parametrize(
    "options", [{"input_dropout": 0.4}, {"input_noise": 0.3}, {"input_dropout": 0.4, "input_noise": 0.3}]
)
@pytest.mark.parametrize(("sizes", "zeros"), INPUTS, ids=str)
def test_steps_with_noise_of_the_input(sizes, zeros, options, assert_close):
    net, X, y = problem(sizes, 70, zeros=zeros, **options)
    check_steps(assert_close, net, X, y, batch_size=30)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [{"input_dropout": 0.4}, {"input_noise": 0.3}, {"input_dropout": 0.4, "input_noise": 0.3}]
)
@pytest.mark.parametrize("density", [0.05, 0.5])
def test_sparse_rows_have_the_noise_of_dense_ones(density, options):
    sparse = pytest.importorskip("scipy.sparse")
    net, X, y = problem((300, 64, 5), 70, zeros=1 - density, **options)
    assert trained(net, sparse.csr_array(X), y) == trained(net, X, y)


def test_distorted_images_have_noise(assert_close):
    net, X, y = problem((100, 64, 5), 70, input_dropout=0.4, input_noise=0.3)
    other, plain = copy.deepcopy(net), fastmlp.MLP(net.layer_sizes, seed=3)
    plain.parameters[:] = net.parameters
    options = {"epochs": 2, "batch_size": 30, "verbose": False, "optimizer": SGD()}
    net.fit(X, y, augment=fastmlp.augment.Affine(shift=0), **options)  # which changes nothing
    other.fit(X, y, **options)
    plain.fit(X, y, **options)
    assert_close(net.parameters, other.parameters, "steps", 300)
    assert np.abs(net.parameters - plain.parameters).max() > 1e-3


def test_a_batch_in_parts(assert_close):
    net, X, y = problem((66, 70, 64, 3), 5000, dropout=0.25)
    check_steps(assert_close, net, X, y, batch_size=5000)


# ---- What is promised ------------------------------------------------------------------------------------------------


def trained(net, X, y, **options):
    net = copy.deepcopy(net)
    net.fit(X, y, **{"epochs": 2, "batch_size": 64, "optimizer": Adam(), "verbose": False, **options})
    return net.parameters.tobytes()


ALL = {"dropout": 0.5, "noise": 0.3, "input_dropout": 0.2, "input_noise": 0.1}


@pytest.mark.parametrize(("sizes", "n", "zeros"), [((130, 100, 70, 10), 250, 0.8), ((20, 64, 32, 3), 900, 0.0)])
def test_same_bits_for_any_number_of_threads(sizes, n, zeros, monkeypatch):
    monkeypatch.setattr("fastmlp.threads._WORTH_A_THREAD", 1e-15)
    for options in (ALL, {"input_dropout": 0.5}):
        net, X, y = problem(sizes, n, zeros=zeros, **options)
        found = set()
        for net.n_threads in (1, 2, 3):
            found.add(trained(net, X, y))
        assert len(found) == 1


def test_other_seeds_and_epochs_have_other_draws():
    net, X, y = problem((7, 64, 2), 50, **ALL)
    found = {trained(net, X, y, shuffle=False, epochs=1)}
    net.seed += 1
    found.add(trained(net, X, y, shuffle=False, epochs=1))
    assert len(found) == 2
    assert len({epoch_key(seed, epoch) for seed in range(50) for epoch in range(50)}) == 2500


@pytest.mark.parametrize("sizes", [(100, 70, 65, 5), (7, 64, 2)], ids=str)
def test_training_goes_on_to_the_same_bits(sizes):
    net, X, y = problem(sizes, 200, **ALL)
    once = trained(net, X, y, epochs=4)
    net.fit(X, y, epochs=1, batch_size=64, verbose=False)
    net = pickle.loads(pickle.dumps(net))
    assert trained(net, X, y, epochs=3) == once


def test_predictions_have_no_noise():
    net, X, y = problem((100, 70, 65, 5), 200, **ALL)
    plain = fastmlp.MLP(net.layer_sizes)
    plain.parameters[:] = net.parameters
    np.testing.assert_array_equal(net.logits(X), plain.logits(X))
    np.testing.assert_array_equal(net.logits(X[:1]), plain.logits(X[:1]))
    assert net.evaluate(X, y) == plain.evaluate(X, y)
    history = net.fit(X, y, epochs=1, batch_size=200, validation_data=(X, y), optimizer=SGD(1e-30), verbose=False)
    assert history.validation_loss[0] == pytest.approx(plain.evaluate(X, y)["loss"], rel=1e-6)
    assert abs(history.loss[0] - history.validation_loss[0]) > 1e-3


def test_dropout_holds_a_network_back_from_learning_by_heart():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((200, 20), np.float32), rng.integers(2, size=200)
    loss = {}
    for rate in (0.0, 0.5):
        net = fastmlp.MLP((20, 128, 128, 2), dropout=rate)
        net.fit(X, y, epochs=100, batch_size=50, verbose=False)
        loss[rate] = net.evaluate(X, y)["loss"]
    assert loss[0.5] > 3 * loss[0.0]


def test_pytorch_with_the_same_masks_has_the_same_gradients(assert_close):
    torch = pytest.importorskip("torch")
    net, X, y = problem(
        (30, 70, 64, 5), 40, activation="tanh", dropout=(0.5, 0.2), noise=(0.3, 0.1), input_noise=0.2, input_dropout=0.1
    )
    parameters = [torch.tensor(p, dtype=torch.float64, requires_grad=True) for p in (*net.weights, *net.biases)]
    noise = drawn(net, 0, np.arange(40))
    h = torch.tensor(X, dtype=torch.float64)
    for i in range(3):
        h = (h + torch.tensor(noise[i][0])) * torch.tensor(noise[i][1]) if i == 0 else h
        h = h @ parameters[i] + parameters[3 + i]
        if i < 2:
            h = torch.tanh(h + torch.tensor(noise[i + 1][0])) * torch.tensor(noise[i + 1][1])
    torch.nn.functional.cross_entropy(h, torch.tensor(y)).backward()
    before = net.parameters.copy()
    net.fit(X, y, epochs=1, batch_size=40, shuffle=False, optimizer=SGD(learning_rate=1.0), verbose=False)
    weights, biases = parameters[:3], parameters[3:]
    gradient = np.concatenate([np.r_[w.grad.ravel(), b.grad] for w, b in zip(weights, biases, strict=True)])
    assert_close(before - net.parameters, gradient, "gradient", 70, terms=1)


# ---- The arguments ---------------------------------------------------------------------------------------------------


def test_a_network_says_what_it_has():
    net = fastmlp.MLP((3, 4, 5, 2), dropout=[0.5, 0], noise=np.array([0.25, 0.25]), input_dropout=0.1)
    assert (net.dropout, net.noise, net.input_dropout, net.input_noise) == ((0.5, 0.0), 0.25, 0.1, 0.0)
    assert [(layer.dropout, layer.noise) for layer in net.layers] == [(0.5, 0.25), (0.0, 0.25), (0.0, 0.0)]
    expected = "activation='relu', loss='cross_entropy', dropout=(0.5, 0.0), input_dropout=0.1, noise=0.25, seed=0)"
    assert repr(net) == f"MLP((3, 4, 5, 2), {expected}"
    assert "dropout" not in repr(fastmlp.MLP((3, 2), dropout=0.0))


def test_a_network_keeps_what_it_has(tmp_path):
    net = fastmlp.MLP((3, 4, 5, 2), dropout=(0.5, 0), noise=0.25, input_dropout=0.1, input_noise=0.3)
    net.save(tmp_path / "net")
    for again in (fastmlp.load(tmp_path / "net"), pickle.loads(pickle.dumps(net)), copy.deepcopy(net)):
        assert repr(again) == repr(net)
        assert again.layers == net.layers
        assert (again.input_dropout, again.input_noise) == (0.1, 0.3)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"dropout": 1.0}, ValueError, r"dropout must be finite and in \[0, 1\), not 1.0"),
        ({"dropout": -0.1}, ValueError, r"dropout must be finite and in \[0, 1\), not -0.1"),
        ({"dropout": (0.5, 2)}, ValueError, r"dropout\[1\] must be finite and in \[0, 1\), not 2.0"),
        ({"dropout": (0.5,)}, ValueError, "dropout must be one, or one for each of the 2 hidden layers; not 1"),
        ({"dropout": ()}, ValueError, "dropout must be one, or one for each of the 2 hidden layers; not 0"),
        ({"dropout": "half"}, TypeError, "dropout must be a number, not 'half'"),
        ({"dropout": True}, TypeError, "dropout must be a number, not True"),
        ({"input_dropout": 1}, ValueError, r"input_dropout must be finite and in \[0, 1\), not 1.0"),
        ({"input_dropout": (0.5, 0.5)}, TypeError, "input_dropout must be a number"),
        ({"noise": -1}, ValueError, "noise must be finite and at least 0, not -1.0"),
        ({"noise": np.nan}, ValueError, "noise must be finite and at least 0, not nan"),
        ({"noise": (0.1, 0.1, 0.1)}, ValueError, "noise must be one, or one for each of the 2 hidden layers; not 3"),
        ({"input_noise": np.inf}, ValueError, "input_noise must be finite and at least 0, not inf"),
        ({"input_noise": None}, TypeError, "input_noise must be a number, not None"),
    ],
    ids=str,
)
def test_what_is_out_of_range_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        fastmlp.MLP((3, 4, 5, 2), **options)
