"""Batch normalisation: the specification against PyTorch, the engine against the specification."""

import pickle
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest
import scipy.sparse

import fastmlp
from fastmlp import MLP, SGD, Adam, AdamW, DivergenceError, reference, threads
from fastmlp.activations import ACTIVATIONS
from fastmlp.callbacks import Callback
from fastmlp.engine.rows import Rows
from fastmlp.engine.trainer import Trainer
from fastmlp.layers import Layer, engine_layers, layout, n_parameters, n_values, views
from fastmlp.losses import CrossEntropy

# One unit, both sides of a panel's 64, several panels, lists and masks, several layers
SHAPES = ((5, 1, 2), (3, 2, 2), (7, 65, 3), (20, 64, 130, 65, 3), (100, 64, 64, 10), (30, 16, 70, 5))


class Problem(NamedTuple):
    """A network whose hidden layers are normalised, and what it is to learn."""

    layers: tuple
    values: np.ndarray  # float32, flat: parameters and running statistics
    X: np.ndarray
    labels: np.ndarray
    sample_weight: np.ndarray | None = None


def problem(sizes, n, *, activation="relu", zeros=0.0, shift=0.0):
    """Draw a network and n rows, of whose values a share of `zeros` is zero."""
    rng = np.random.default_rng([n, *sizes])
    last = len(sizes) - 2
    layers = tuple(
        Layer(k, m, "identity" if i == last else activation, normalised=i < last)
        for i, (k, m) in enumerate(pairwise(sizes))
    )
    values = np.zeros(n_values(layers), np.float32)
    for weights in views(layers, values, "weights"):
        weights[...] = rng.standard_normal(weights.shape) / np.sqrt(len(weights))
    for name, mean in {"bias": 0, "scale": 1, "running_mean": 0, "running_variance": 2}.items():
        for view in views(layers, values, name):
            view[...] = mean + 0.3 * rng.standard_normal(view.shape)
    X = (shift + rng.standard_normal((n, sizes[0]))) * (rng.random((n, sizes[0])) >= zeros)
    return Problem(layers, values, X.astype(np.float32), rng.integers(sizes[-1], size=n))


def weights_and_biases(layers, values):
    """In float64, as the reference takes them: (m,), or (2, m) with the scale, a layer."""
    values = np.asarray(values, np.float64)
    scales = iter(views(layers, values, "scale"))
    biases = [
        np.stack([bias, next(scales)]) if layer.normalised else bias
        for layer, bias in zip(layers, views(layers, values, "bias"), strict=True)
    ]
    return list(views(layers, values, "weights")), biases


def join(weights, biases):
    return np.concatenate([part.ravel() for layer in zip(weights, biases, strict=True) for part in layer])


def train(case, optimizer, batch_size, *, epochs=1, n_threads=1, **options):
    """Return values, moments, cost and trainer after some epochs in the rows' own order."""
    trainer = Trainer(engine_layers(case.layers), CrossEntropy(), batch_size, n_threads, **options)
    values, moments = case.values.copy(), [np.zeros(n_parameters(case.layers), np.float32) for _ in range(2)]
    trainer.load(values, moments, 0)
    trainer.set_optimizer(optimizer)
    rows = Rows(case.X, case.layers[0].units, n_threads, case.labels, None, case.sample_weight)
    for _ in range(epochs):
        trainer.start_epoch(rows, np.arange(len(case.X)))
        while trainer.batch < trainer.n_batches:
            trainer.run()
    trainer.store(values, moments)
    return values, moments, trainer.cost


def follow(case, optimizer, batch_size, *, epochs=1):
    """Compute in float64 what `train` is to compute: values, and the mean cost of the last epoch."""
    weights, biases = weights_and_biases(case.layers, case.values)
    activation = [layer.activation for layer in case.layers[:-1]]
    means, variances = (
        [np.float64(view) for view in views(case.layers, case.values, f"running_{name}")]
        for name in ("mean", "variance")
    )
    numbers = {name: value for name, value in vars(optimizer).items() if name in HYPER_PARAMETERS}
    state = [(np.zeros_like(p),) * (2 if optimizer.rule == "adam" else 1) for p in [*weights, *biases]]
    step, costs = 0, []
    for _ in range(epochs):
        costs = []
        for first in range(0, len(case.X), batch_size):
            batch, step = slice(first, first + batch_size), step + 1
            inputs = [case.X[batch], *reference.forward(weights, biases, case.X[batch], activation)]
            for i, (h, w) in enumerate(zip(inputs, weights[:-1], strict=False)):
                means[i], variances[i] = reference.running_statistics(means[i], variances[i], h @ w)
            adam = partial(reference.adam, step=step, **numbers)
            cost, weights, biases, state = reference.train_step(
                weights,
                biases,
                state,
                case.X[batch],
                case.labels[batch],
                activation=activation,
                loss="cross_entropy",
                update=adam if optimizer.rule == "adam" else partial(reference.sgd, **numbers),
                sample_weight=None if case.sample_weight is None else case.sample_weight[batch],
            )
            costs.append(cost)
    statistics = [part for pair in zip(means, variances, strict=True) for part in pair]
    return np.concatenate([join(weights, biases), *statistics]), np.mean(costs)


HYPER_PARAMETERS = {"learning_rate", "momentum", "nesterov", "beta_1", "beta_2", "epsilon", "weight_decay"}

# The velocity of its first step is the gradient.
GRADIENT = SGD(learning_rate=1.0, momentum=0.5)


# ---- The specification -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="compares with PyTorch")


def pytorchs(torch, case):
    """The network in PyTorch, float64, with BatchNorm1d."""
    modules = []
    weights, biases = weights_and_biases(case.layers, case.values)
    statistics = zip(
        *(views(case.layers, case.values, f"running_{name}") for name in ("mean", "variance")), strict=True
    )
    kinds = {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh, "logistic": torch.nn.Sigmoid, "identity": torch.nn.Identity}
    for layer, w, b in zip(case.layers, weights, biases, strict=True):
        dense = torch.nn.Linear(layer.inputs, layer.units, bias=not layer.normalised, dtype=torch.float64)
        dense.weight.data[...] = torch.tensor(w.T)
        modules.append(dense)
        if layer.normalised:
            norm = torch.nn.BatchNorm1d(layer.units, dtype=torch.float64)
            norm.bias.data[...], norm.weight.data[...] = torch.tensor(b)
            norm.running_mean[...], norm.running_var[...] = (torch.tensor(np.float64(s)) for s in next(statistics))
            modules.append(norm)
        else:
            dense.bias.data[...] = torch.tensor(b)
        modules.append(kinds[layer.activation]())
    return torch.nn.Sequential(*modules)


def flat_of(case, model):
    """Values of such a network in the order of `layout`."""
    dense = [module for module in model if hasattr(module, "in_features")]
    norms = [module for module in model if hasattr(module, "running_mean")]
    found = {
        "weights": lambda i: dense[i].weight.T,
        "bias": lambda i: norms[i].bias if case.layers[i].normalised else dense[i].bias,
        "scale": lambda i: norms[i].weight,
        "running_mean": lambda i: norms[i].running_mean,
        "running_variance": lambda i: norms[i].running_var,
    }
    parts = [found[name](layer).detach().numpy().ravel() for layer, name, *_ in layout(case.layers)]
    return np.concatenate(parts)


@pytest.mark.parametrize("sizes", [(5, 1, 2), (7, 65, 3), (4, 6, 5, 3)], ids=str)
@pytest.mark.parametrize("activation", ["relu", "tanh", "logistic", "identity"])
def test_the_specification_trains_as_pytorch_does(torch, activation, sizes):
    case = problem(sizes, 23, activation=activation)
    model = pytorchs(torch, case)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.5)
    for _ in range(5):
        for first in range(0, 23, 9):
            optimizer.zero_grad()
            logits = model(torch.tensor(np.float64(case.X[first : first + 9])))
            cost = torch.nn.functional.cross_entropy(logits, torch.tensor(case.labels[first : first + 9]))
            cost.backward()
            optimizer.step()
    values, _ = follow(case, SGD(learning_rate=0.1, momentum=0.5), 9, epochs=5)
    np.testing.assert_allclose(values, flat_of(case, model), rtol=1e-7, atol=1e-9)


def test_the_specification_folds_as_pytorch_predicts(torch):
    case = problem((7, 65, 4, 3), 23)
    folded = folded_by_reference(case)
    expected = pytorchs(torch, case).eval()(torch.tensor(np.float64(case.X))).detach().numpy()
    np.testing.assert_allclose(reference.forward(*folded, case.X, "relu")[-1], expected, rtol=1e-10, atol=1e-12)


def folded_by_reference(case):
    weights, biases = weights_and_biases(case.layers, case.values)
    statistics = zip(
        *(views(case.layers, case.values, f"running_{name}") for name in ("mean", "variance")), strict=True
    )
    for i, statistic in enumerate(statistics):
        weights[i], biases[i] = reference.fold(weights[i], biases[i], *statistic)
    return weights, biases


@pytest.mark.parametrize("activation", ["tanh", "logistic", "identity"])
def test_gradients_are_those_of_central_differences(activation):
    case = problem((4, 3, 3, 2), 7, activation=activation)
    batch = {"X": case.X, "targets": case.labels, "activation": activation, "loss": "cross_entropy"}
    parameters = np.float64(case.values[: n_parameters(case.layers)])

    def cost(parameters):
        return reference.cost(*weights_and_biases(case.layers, parameters), **batch)

    _, *gradients = reference.gradients(*weights_and_biases(case.layers, parameters), **batch)
    shifts = 1e-5 * np.eye(len(parameters))
    expected = [(cost(parameters + shift) - cost(parameters - shift)) / 2e-5 for shift in shifts]
    np.testing.assert_allclose(join(*gradients), expected, rtol=0, atol=2e-9)


def test_one_row_becomes_the_bias():
    z, bias = [[3.0, -2.0]], [[0.5, 1.0], [2.0, 2.0]]
    np.testing.assert_array_equal(reference.normalise(z, bias), [[0.5, 1.0]])
    dz, dbias = reference.normalise_backward([[1.0, 2.0]], z, bias)
    np.testing.assert_array_equal(dz, 0)
    np.testing.assert_array_equal(dbias, [[1, 2], [0, 0]])
    assert [part.tolist() for part in reference.running_statistics([1.0], [2.0], [[9.0]])] == [[1.0], [2.0]]


# ---- The engine ------------------------------------------------------------------------------------------------------


def check_one_step(assert_close, case, n_threads=1):
    values, moments, cost = train(case, GRADIENT, len(case.X), n_threads=n_threads)
    weights, biases = weights_and_biases(case.layers, case.values)
    expected_cost, *gradients = reference.gradients(
        weights,
        biases,
        case.X,
        case.labels,
        activation=[layer.activation for layer in case.layers[:-1]],
        loss="cross_entropy",
        sample_weight=case.sample_weight,
    )
    summed = max(len(case.X), *(layer.inputs for layer in case.layers))
    assert_close(cost, expected_cost, "cost", summed, terms=1)
    count = n_parameters(case.layers)
    assert_close(moments[0], join(*gradients), "normalised", summed)
    np.testing.assert_array_equal(values[:count], case.values[:count] - moments[0])
    expected, _ = follow(case, GRADIENT, len(case.X))
    assert_close(values[count:], expected[count:], "normalised", summed)
    return values, moments, cost


@pytest.mark.parametrize("sizes", SHAPES, ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradient_of_every_activation(activation, sizes, assert_close):
    check_one_step(assert_close, problem(sizes, 23, activation=activation))


@pytest.mark.parametrize("n", [5, 64, 65, 129, 700])
@pytest.mark.parametrize("zeros", [0.0, 0.5, 0.85])
def test_gradient_of_every_batch_size_whatever_the_threads(zeros, n, assert_close):
    for sizes in ((70, 65, 64, 5), (5, 17, 2)):
        case = problem(sizes, n, activation="tanh", zeros=zeros)
        runs = [check_one_step(assert_close, case, n_threads) for n_threads in (1, 2, 3)]
        assert len({(values.tobytes(), moments[0].tobytes(), cost) for values, moments, cost in runs}) == 1


def test_the_comparison_notices_a_gradient_that_is_off_by_one_percent(assert_close, monkeypatch):
    case, backward = problem((7, 65, 3), 23), reference.normalise_backward
    check_one_step(assert_close, case)
    for wrong in (
        lambda dy, z, bias: (1.01 * backward(dy, z, bias)[0], backward(dy, z, bias)[1]),
        lambda dy, z, bias: (backward(dy, z, bias)[0], [[1], [1.01]] * backward(dy, z, bias)[1]),
        lambda dy, z, bias: (dy / z.std(axis=0), backward(dy, z, bias)[1]),
    ):
        monkeypatch.setattr(reference, "normalise_backward", wrong)
        with pytest.raises(AssertionError, match="normalised"):
            check_one_step(assert_close, case)


@pytest.mark.parametrize("shift", [100.0, 10_000.0])
def test_statistics_of_columns_far_from_zero(shift):
    """A sum of squares would cancel here, and lose all that the columns say."""
    case = problem((1, 5, 2), 500, activation="tanh")
    views(case.layers, case.values, "weights")[0][...] = 1
    case.X[...] = shift + np.arange(500)[:, None] / 512  # exact
    values, _, cost = train(case, GRADIENT, 500)
    expected, expected_cost = follow(case, GRADIENT, 500)
    np.testing.assert_allclose(cost, expected_cost, rtol=1e-5)
    for name in ("bias", "scale", "running_mean", "running_variance"):
        for actual, wanted in zip(views(case.layers, values, name), views(case.layers, expected, name), strict=True):
            np.testing.assert_allclose(actual, wanted, rtol=1e-4, atol=1e-5)


def test_sample_weights_leave_the_statistics_alone(assert_close):
    case = problem((7, 65, 3), 23)
    weighted = case._replace(sample_weight=np.linspace(0, 2, 23, dtype=np.float32))
    values, _, _ = check_one_step(assert_close, weighted)
    count = n_parameters(case.layers)
    np.testing.assert_array_equal(values[count:], train(case, GRADIENT, 23)[0][count:])


def test_a_batch_of_one_row_learns_no_weights_below(assert_close):
    case = problem((7, 65, 3), 21)
    values, *_ = train(case, GRADIENT, 20)
    assert np.isfinite(values).all()
    expected, _ = follow(case, GRADIENT, 20)
    assert_close(values, expected, "normalised", 4 * 65)


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("sizes", [(7, 65, 3), (70, 64, 64, 10)], ids=str)
@pytest.mark.parametrize(
    "optimizer",
    [
        SGD(learning_rate=0.125),
        SGD(learning_rate=0.03125, momentum=0.9, nesterov=True),
        Adam(learning_rate=0.0625, epsilon=0.01),
        AdamW(learning_rate=0.0625, epsilon=0.01, weight_decay=0.5),
    ],
    ids=["sgd", "nesterov", "adam", "adamw"],
)
def test_training_follows_the_specification(optimizer, sizes, n_threads, assert_close):
    case = problem(sizes, 105, activation="tanh", zeros=0.5)
    values, _, cost = train(case, optimizer, 25, epochs=3, n_threads=n_threads)
    expected, expected_cost = follow(case, optimizer, 25, epochs=3)
    assert_close(values, expected, "normalised", 15 * 105)
    assert_close(cost, expected_cost, "cost", 15 * 105)


def test_a_gradient_as_a_whole_is_the_same(assert_close):
    case = problem((70, 65, 64, 5), 50)
    fused = train(case, Adam(), 50, epochs=2)
    whole = train(case, Adam(clip_norm=1e9), 50, epochs=2)
    assert_close(whole[0], fused[0], "normalised", 50)


def test_a_large_batch_is_not_parted():
    """Statistics are of the whole batch, also where a plain network would take it in parts."""
    case = problem((3, 1030, 2), 5000, activation="identity")
    values, *_ = train(case, GRADIENT, 5000)
    mean = (np.float64(case.X) @ views(case.layers, np.float64(case.values), "weights")[0]).mean(axis=0)
    expected = 0.9 * views(case.layers, case.values, "running_mean")[0] + 0.1 * mean
    np.testing.assert_allclose(views(case.layers, values, "running_mean")[0], expected, atol=1e-6)


def test_where_parameters_and_statistics_lie():
    layers = (Layer(3, 4, "relu", normalised=True), Layer(4, 5, "relu"), Layer(5, 6, "relu", normalised=True))
    assert [(layer, name, offset) for layer, name, offset, _ in layout(layers)] == [
        (0, "weights", 0),
        (0, "bias", 12),
        (0, "scale", 16),
        (1, "weights", 20),
        (1, "bias", 40),
        (2, "weights", 45),
        (2, "bias", 75),
        (2, "scale", 81),
        (0, "running_mean", 87),
        (0, "running_variance", 91),
        (2, "running_mean", 95),
        (2, "running_variance", 101),
    ]
    assert (n_parameters(layers), n_values(layers)) == (87, 107)


# ---- The network -----------------------------------------------------------------------------------------------------


def network_of(case, **options):
    sizes = case.layers[0].inputs, *(layer.units for layer in case.layers)
    net = MLP(sizes, activation=case.layers[0].activation, batch_norm=True, **options)
    net._values[:] = case.values
    return net


def blobs(n, classes=3):
    rng = np.random.default_rng(0)
    y = rng.integers(classes, size=n)
    return (4 * np.eye(classes, 6)[y] + rng.standard_normal((n, 6))).astype(np.float32), y


QUIET = {"verbose": False}


def state(net):
    return pickle.dumps([net._values, net._state])


def test_what_a_new_network_has():
    net, plain = MLP((6, 20, 10, 3), batch_norm=True), MLP((6, 20, 10, 3))
    assert (net.batch_norm, plain.batch_norm) == (True, False)
    assert [layer.normalised for layer in net.layers] == [True, True, False]
    assert net.parameters.size == plain.parameters.size + 30
    assert "batch_norm=True" in repr(net)
    for own, others in zip(net.weights, plain.weights, strict=True):
        np.testing.assert_array_equal(own, others)
    for name, value in {"scales": 1, "running_means": 0, "running_variances": 1}.items():
        assert [view.tolist() for view in getattr(net, name)] == [[value] * 20, [value] * 10]
        assert getattr(plain, name) == ()
    net.scales[0][:] = 2
    assert net.parameters[6 * 20 + 20] == 2
    net.running_means[1][0] = 5
    assert 5 not in net.parameters


@pytest.mark.parametrize("n", [1, 5, 200])
@pytest.mark.parametrize("sizes", SHAPES, ids=str)
def test_prediction_goes_by_running_statistics(sizes, n, assert_close):
    case = problem(sizes, n, activation="tanh", zeros=0.5)
    expected = reference.forward(*folded_by_reference(case), case.X, "tanh")[-1]
    net = network_of(case)
    assert_close(net.logits(case.X), expected, "logits", 4 * max(sizes))
    assert_close(net.logits(scipy.sparse.csr_array(case.X)), expected, "logits", 4 * max(sizes))


def test_fit_follows_the_specification(assert_close):
    case = problem((7, 65, 20, 3), 105, activation="tanh")
    net = network_of(case)
    history = net.fit(
        case.X, case.labels, epochs=3, batch_size=25, optimizer=Adam(epsilon=0.01), shuffle=False, verbose=False
    )
    expected, cost = follow(case, Adam(epsilon=0.01), 25, epochs=3)
    assert_close(net._values, expected, "normalised", 15 * 105)
    assert_close(history.loss[-1], cost, "cost", 15 * 105)


def test_fit_trains_as_pytorch_does(torch, assert_close):
    """Several epochs with a last batch that is smaller: parameters, running statistics, predictions."""
    case = problem((6, 33, 17, 3), 120)
    net, model = network_of(case), pytorchs(torch, case)
    net.fit(case.X, case.labels, epochs=6, batch_size=32, optimizer=SGD(0.05, 0.9), shuffle=False, verbose=False)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    X, y = torch.tensor(np.float64(case.X)), torch.tensor(case.labels)
    for _ in range(6):
        for first in range(0, 120, 32):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(X[first : first + 32]), y[first : first + 32]).backward()
            optimizer.step()
    np.testing.assert_allclose(net._values, flat_of(case, model), rtol=0, atol=2e-3)
    np.testing.assert_allclose(net.logits(case.X), model.eval()(X).detach().numpy(), rtol=0, atol=1e-2)


@pytest.mark.parametrize("sparse", [False, True])
def test_the_same_bits_for_any_number_of_threads(monkeypatch, sparse):
    monkeypatch.setattr(threads, "_WORTH_A_THREAD", 1e-15)
    rng = np.random.default_rng(0)
    X = (rng.random((301, 100)) * (rng.random((301, 100)) < 0.2)).astype(np.float32)
    X, y = scipy.sparse.csr_array(X) if sparse else X, rng.integers(3, size=301)
    nets = [MLP((100, 70, 65, 3), batch_norm=True, n_threads=n_threads) for n_threads in (1, 2, 3)]
    for net in nets:
        net.fit(X, y, epochs=3, batch_size=32, **QUIET)
    assert len({state(net) for net in nets}) == 1
    assert len({net.logits(X).tobytes() for net in nets}) == 1


def test_training_goes_on_as_if_never_stopped():
    X, y = blobs(100)
    net, whole = (MLP((6, 20, 3), batch_norm=True) for _ in range(2))
    net.fit(X, y, epochs=2, batch_size=8, **QUIET)
    net = pickle.loads(pickle.dumps(net))
    net.fit(X, y, epochs=1, batch_size=8, **QUIET)
    whole.fit(X, y, epochs=3, batch_size=8, **QUIET)
    assert state(net) == state(whole)
    net.fit(X, y, epochs=30, batch_size=8, **QUIET)
    assert net.evaluate(X, y)["accuracy"] > 0.9


def test_a_callback_sees_and_writes_statistics():
    X, y = blobs(100)
    seen = []

    class Reset(Callback):
        def on_epoch_end(self, progress):
            seen.append(progress.network.running_means[0].copy())
            progress.network.running_means[0][:] = 100

    net = MLP((6, 20, 3), batch_norm=True)
    net.fit(X, y, epochs=2, batch_size=50, callbacks=[Reset()], **QUIET)
    assert np.abs(seen[0]).max() < 50
    np.testing.assert_allclose(seen[1], 81, atol=10)  # two batches later
    assert (net.running_means[0] == 100).all()


@pytest.mark.parametrize("watched", [False, True])
def test_an_epoch_that_fails_leaves_statistics_as_they_were(watched):
    class Failing(Callback):
        def on_batches(self, progress):
            raise RuntimeError("no")

        def on_epoch_end(self, progress):
            raise RuntimeError("no")

    X, y = blobs(100)
    net = MLP((6, 20, 3), batch_norm=True)
    net.fit(X, y, epochs=1, **QUIET)
    before = state(net)
    if watched:
        with pytest.raises(RuntimeError):
            net.fit(X, y, callbacks=[Failing()], batch_size=8, **QUIET)
    else:
        with pytest.raises(DivergenceError):
            net.fit(X, y, optimizer=SGD(1e38), batch_size=8, **QUIET)
    assert state(net) == before


@pytest.mark.filterwarnings("ignore:y has no row")
def test_batches_of_one_row():
    X, y = blobs(9)
    net = MLP((6, 20, 3), batch_norm=True)
    for options in ({"batch_size": 1}, {"batch_size": 8, "rows": 1}):
        rows = options.pop("rows", 9)
        with pytest.raises(ValueError, match="batch_size must be at least 2 with batch_norm"):
            net.fit(X[:rows], y[:rows], **{"batch_size": 100, **options}, **QUIET)
    net.fit(X, y, batch_size=8, epochs=3, **QUIET)  # and a last one of one row
    assert np.isfinite(net._values).all()
    MLP((6, 3), batch_norm=True).fit(X, y, batch_size=8, **QUIET)  # where there is no hidden layer


def test_batch_norm_is_yes_or_no():
    with pytest.raises(TypeError, match="batch_norm must be True or False"):
        MLP((6, 20, 3), batch_norm="yes")


# ---- Files -----------------------------------------------------------------------------------------------------------


def trained():
    X, y = blobs(100)
    net = MLP((6, 20, 10, 3), activation=("relu", "tanh"), batch_norm=True)
    net.fit(X, y, epochs=2, batch_size=8, **QUIET)
    return net, X


def test_a_file_holds_scales_and_statistics(tmp_path):
    net, X = trained()
    net.save(tmp_path / "net")
    loaded = fastmlp.load(tmp_path / "net")
    np.testing.assert_array_equal(loaded._values, net._values)
    assert repr(loaded) == repr(net)
    assert loaded.logits(X).tobytes() == net.logits(X).tobytes()


def test_a_folded_file_is_a_plain_network(tmp_path, assert_close):
    net, X = trained()
    net.save(tmp_path / "net", fold=True)
    loaded = fastmlp.load(tmp_path / "net")
    assert not loaded.batch_norm
    np.testing.assert_array_equal(loaded.logits(X), net.logits(X))
    assert_close(loaded.logits(X[:3]), net.logits(X[:3]), "logits", 80)
    MLP((2, 3, 2)).save(tmp_path / "plain", fold=True)
    with pytest.raises(TypeError, match="fold must be True or False"):
        net.save(tmp_path / "net", fold="yes")


def test_pytorch_takes_the_file_and_gives_it_back(torch, tmp_path):
    safetensors = pytest.importorskip("safetensors.torch", reason="reads files as PyTorch does")
    net, X = trained()
    net.save(tmp_path / "net")
    nn = torch.nn
    model = nn.Sequential(
        *(nn.Linear(6, 20), nn.BatchNorm1d(20), nn.ReLU()),
        *(nn.Linear(20, 10), nn.BatchNorm1d(10), nn.Tanh()),
        nn.Linear(10, 3),
    )
    model.load_state_dict(safetensors.load_file(tmp_path / "net"))
    np.testing.assert_allclose(model.eval()(torch.tensor(X)).detach(), net.logits(X), rtol=0, atol=1e-4)

    # Where the layers have biases of their own
    with torch.no_grad():
        for place in 0, 3:
            model[place].bias[...] = torch.randn(len(model[place].bias))
    safetensors.save_file(model.state_dict(), tmp_path / "model")
    loaded = fastmlp.load(tmp_path / "model", activation=("relu", "tanh"))
    np.testing.assert_allclose(loaded.logits(X), model(torch.tensor(X)).detach(), rtol=0, atol=1e-4)
    bare = {name: tensor for name, tensor in model.state_dict().items() if name not in ("0.bias", "3.bias")}
    safetensors.save_file(bare, tmp_path / "bare")
    np.testing.assert_array_equal(
        fastmlp.load(tmp_path / "bare", activation="relu").running_means[0], model[1].running_mean
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"1.running_mean": None}, "normalisation '1' has no running_mean|must have shape"),
        ({"1.running_var": None}, "'1' has no running_var"),
        ({"1.running_var": np.float32([1, -1])}, "'1.running_var' has negative values"),
        ({"1.weight": np.ones(3, np.float32)}, r"'1.weight' must have shape \[2\]"),
        ({f"1.{name}": None for name in ("weight", "bias", "running_mean", "running_var")}, "or after none"),
    ],
)
def test_files_of_others_that_are_not_as_they_should_be(tmp_path, change, said):
    safetensors = pytest.importorskip("safetensors.numpy", reason="writes files as others do")
    tensors = {f"{i}.weight": np.ones((2, 2), np.float32) for i in (0, 3, 6)}
    for i in (1, 4):
        tensors |= {f"{i}.{name}": np.ones(2, np.float32) for name in ("weight", "bias", "running_mean", "running_var")}
    safetensors.save_file(tensors, tmp_path / "right")
    assert fastmlp.load(tmp_path / "right", activation="relu").batch_norm
    changed = {name: tensor for name, tensor in {**tensors, **change}.items() if tensor is not None}
    safetensors.save_file(changed, tmp_path / "wrong")
    with pytest.raises(fastmlp.FileFormatError, match=said):
        fastmlp.load(tmp_path / "wrong", activation="relu")
