"""The optimizers: their hyper-parameters, and their steps against `fastmlp.reference` and against PyTorch."""

import copy
import functools
import inspect
import pickle

import numpy as np
import pytest

import fastmlp
from fastmlp import MLP, SGD, Adam, AdamW, reference

# ---- Hyper-parameters

DEFAULTS = {
    SGD: {"learning_rate": 0.01, "momentum": 0.0, "nesterov": False},
    Adam: {"learning_rate": 1e-3, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8},
}
for values in DEFAULTS.values():
    values |= {"l2": 0.0, "clip_norm": None, "clip_value": None, "ema": None}
DEFAULTS[AdamW] = {**DEFAULTS[Adam], "weight_decay": 0.01}
BEYOND = {
    "learning_rate": [0, -0.1],
    "momentum": [-0.1, 1, 1.5],
    "beta_1": [-0.1, 1],
    "beta_2": [-0.1, 1],
    "epsilon": [0, -1e-8, 1e-46],
    "weight_decay": [-0.01],
    "l2": [-1e-9],
    "clip_norm": [0, -1],
    "clip_value": [0, -1, 1e-50],
    "ema": [-0.1, 1, 2],
}
WRONG = ["0.1", None, True, 1j, [0.1], np.ones(1)]
NAMES = [(optimizer, name) for optimizer, values in DEFAULTS.items() for name in values]


@pytest.mark.parametrize("optimizer", DEFAULTS)
def test_defaults(optimizer):
    assert vars(optimizer()) == DEFAULTS[optimizer]


@pytest.mark.parametrize(("optimizer", "name"), NAMES)
def test_a_value_of_the_wrong_type(optimizer, name):
    wrong = [1, 0, "yes", None] if name == "nesterov" else WRONG
    for value in wrong:
        if DEFAULTS[optimizer][name] is None and value is None:
            continue
        with pytest.raises(TypeError, match=rf"{name} must be (a number|True or False), not "):
            optimizer(**{name: value})


@pytest.mark.parametrize(("optimizer", "name"), [pair for pair in NAMES if pair[1] != "nesterov"])
def test_a_value_out_of_range(optimizer, name):
    for value in [*BEYOND[name], np.nan, np.inf, -np.inf, 10**400, 10**5000]:
        with pytest.raises(ValueError, match=rf"{name} must be finite and .*, not "):
            optimizer(**{name: value})


@pytest.mark.parametrize("optimizer", DEFAULTS)
def test_what_is_set_later_is_checked_too(optimizer):
    instance = optimizer()
    instance.learning_rate = 0.5
    assert instance.learning_rate == 0.5
    with pytest.raises(ValueError, match="learning_rate must be finite and greater than 0, not -1"):
        instance.learning_rate = -1
    with pytest.raises(TypeError, match="learning_rate must be a number, not '1'"):
        instance.learning_rate = "1"
    with pytest.raises(AttributeError, match=f"{optimizer.__name__} has no lr; it has learning_rate, "):
        instance.lr = 0.1
    assert instance.learning_rate == 0.5


@pytest.mark.parametrize("number", [1, np.float32(0.5), np.float64(0.5), np.int64(1)])
def test_any_real_number_will_do(number):
    rate = Adam(learning_rate=number).learning_rate
    assert type(rate) is float
    assert rate == number


@pytest.mark.parametrize("clip_norm", [None, 0.5])
@pytest.mark.parametrize("optimizer", DEFAULTS)
def test_repr_copy_and_pickle(optimizer, clip_norm):
    instance = optimizer(learning_rate=0.25, clip_norm=clip_norm)
    assert repr(eval(repr(instance), {"SGD": SGD, "Adam": Adam, "AdamW": AdamW})) == repr(instance)
    for twin in (copy.copy(instance), copy.deepcopy(instance), pickle.loads(pickle.dumps(instance))):
        assert type(twin) is optimizer
        assert vars(twin) == vars(instance)


def test_fit_leaves_the_optimizer_as_it_is():
    optimizer = Adam(learning_rate=0.1)
    before = dict(vars(optimizer))
    MLP((2, 2)).fit(np.eye(2), [0, 1], epochs=3, optimizer=optimizer, verbose=False)
    assert vars(optimizer) == before


# ---- Steps

OPTIMIZERS = [
    SGD(learning_rate=0.1),
    SGD(learning_rate=0.05, momentum=0.9),
    SGD(learning_rate=0.05, momentum=0.9, nesterov=True),
    Adam(learning_rate=0.01),
    Adam(learning_rate=0.02, beta_1=0.5, beta_2=0.9, epsilon=1e-3),
    AdamW(learning_rate=0.01, weight_decay=0.2),
    SGD(learning_rate=0.05, momentum=0.9, nesterov=True, clip_norm=0.3),
    Adam(learning_rate=0.01, clip_norm=0.2),
    AdamW(learning_rate=0.01, weight_decay=0.2, clip_norm=0.01),
    SGD(learning_rate=0.05, momentum=0.9, l2=0.1),
    SGD(learning_rate=0.05, momentum=0.9, nesterov=True, l2=0.1, clip_norm=0.3),
    Adam(learning_rate=0.01, l2=0.1),
    AdamW(learning_rate=0.01, weight_decay=0.2, l2=0.1, clip_norm=0.01),
    SGD(learning_rate=0.05, momentum=0.9, clip_value=0.01),
    SGD(learning_rate=0.05, momentum=0.9, nesterov=True, l2=0.1, clip_norm=0.3, clip_value=0.02),
    Adam(learning_rate=0.01, clip_value=0.003),
]
# What is not the update's own.
AROUND = ("l2", "clip_norm", "clip_value")


def update(optimizer, step):
    """The same update in the reference."""
    own = {name: value for name, value in vars(optimizer).items() if name not in (*AROUND, "ema")}
    if isinstance(optimizer, SGD):
        return functools.partial(reference.sgd, **own)
    return functools.partial(reference.adam, step=step, **own)


def follow(net, X, y, optimizer, *, epochs, batch_size):
    """Train the network's copy in the reference, rows in order: each epoch's cost, and all parameters, flat."""
    weights, biases = net.weights, net.biases
    state = [(0.0 * p,) * (1 if isinstance(optimizer, SGD) else 2) for p in [*weights, *biases]]
    costs, step = [], 0
    for _ in range(epochs):
        batch_costs = []
        for first in range(0, len(X), batch_size):
            step += 1
            cost, weights, biases, state = reference.train_step(
                weights,
                biases,
                state,
                X[first : first + batch_size],
                y[first : first + batch_size],
                activation=net.activation,
                loss=net.loss,
                update=update(optimizer, step),
                max_norm=net.max_norm,
                **{name: getattr(optimizer, name) for name in AROUND},
            )
            batch_costs.append(cost)
        costs.append(np.mean(batch_costs))
    flat = [array.ravel() for pair in zip(weights, biases, strict=True) for array in pair]
    return costs, np.concatenate(flat)


def problem(sizes, n=50):
    generator = np.random.default_rng(5)
    X = generator.normal(size=(n, sizes[0])).astype(np.float32)
    return X, generator.integers(0, sizes[-1], n)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
@pytest.mark.parametrize("sizes", [(4, 9, 3), (5, 70, 66, 3)])
def test_steps_are_those_of_the_reference(assert_close, optimizer, sizes):
    # tanh has no kink, at which rounding could take a step another way.
    X, y = problem(sizes)
    net = MLP(sizes, activation="tanh", init="normal", seed=2)
    costs, parameters = follow(net, X, y, optimizer, epochs=3, batch_size=8)
    history = net.fit(X, y, epochs=3, batch_size=8, optimizer=optimizer, shuffle=False, verbose=False)
    assert_close(history.loss, costs, "cost", 3 * max(sizes))
    # The error of a step stays, and further steps add theirs: 21 steps.
    assert_close(net.parameters, parameters, "steps", 21 * max(sizes))


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_steps_are_those_of_pytorch(assert_close, optimizer):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    sizes = (4, 20, 12, 3)
    X, y = problem(sizes, n=40)
    net = MLP(sizes, activation="tanh", init="glorot", seed=3)
    modules = []
    for weights, bias in zip(net.weights, net.biases, strict=True):
        linear = torch.nn.Linear(*weights.shape, dtype=torch.float64)
        linear.load_state_dict({"weight": torch.tensor(weights.T.copy()), "bias": torch.tensor(bias.copy())})
        modules += [linear, torch.nn.Tanh()]
    model = torch.nn.Sequential(*modules[:-1])
    # Their decay is ours where the update is not AdamW's, of which it is another one.
    groups = [
        {"params": [linear.weight for linear in model[::2]], "weight_decay": optimizer.l2},
        {"params": [linear.bias for linear in model[::2]]},
    ]
    theirs = {
        SGD: lambda o: torch.optim.SGD(groups, o.learning_rate, o.momentum, nesterov=o.nesterov),
        Adam: lambda o: torch.optim.Adam(groups, o.learning_rate, (o.beta_1, o.beta_2), o.epsilon),
        AdamW: lambda o: torch.optim.AdamW(
            model.parameters(), o.learning_rate, (o.beta_1, o.beta_2), o.epsilon, o.weight_decay
        ),
    }[type(optimizer)](optimizer)
    costs, norms = [], []
    for first in [*range(0, 40, 16)] * 2:
        theirs.zero_grad()
        batch = slice(first, first + 16)
        loss = torch.nn.functional.cross_entropy(
            model(torch.tensor(X[batch], dtype=torch.float64)), torch.tensor(y[batch])
        )
        loss.backward()
        if optimizer.clip_norm is not None:
            norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), optimizer.clip_norm).item())
        if optimizer.clip_value is not None:
            torch.nn.utils.clip_grad_value_(model.parameters(), optimizer.clip_value)
        if isinstance(optimizer, AdamW):
            for linear in model[::2]:
                linear.weight.grad += optimizer.l2 * linear.weight.detach()
        theirs.step()
        costs.append(loss.item())
    assert all(norm > optimizer.clip_norm for norm in norms), "nothing was clipped"
    history = net.fit(X, y, epochs=2, batch_size=16, optimizer=optimizer, shuffle=False, verbose=False)
    assert_close(history.loss, np.reshape(costs, (2, 3)).mean(axis=1), "cost", 20)
    for ours, linear in zip(zip(net.weights, net.biases, strict=True), model[::2], strict=True):
        assert_close(ours[0], linear.weight.detach().numpy().T, "steps", 6 * 20)
        assert_close(ours[1], linear.bias.detach().numpy(), "steps", 6 * 20)


def test_an_optimizer_matters(assert_close):
    """The comparisons above would see a slip: a decay of 1 % less, Nesterov's momentum taken for the plain one."""
    X, y = problem((4, 9, 3))
    for optimizer, slip in [
        (AdamW(learning_rate=0.01, weight_decay=0.2), AdamW(learning_rate=0.01, weight_decay=0.198)),
        (SGD(learning_rate=0.05, momentum=0.9, nesterov=True), SGD(learning_rate=0.05, momentum=0.9)),
        (Adam(learning_rate=0.01), Adam(learning_rate=0.01, epsilon=1e-5)),
        (SGD(learning_rate=0.05, clip_norm=0.1), SGD(learning_rate=0.05, clip_norm=0.101)),
        (Adam(learning_rate=0.01, l2=0.1), Adam(learning_rate=0.01, l2=0.101)),
        (SGD(learning_rate=0.05, clip_value=0.1), SGD(learning_rate=0.05, clip_value=0.101)),
    ]:
        net = MLP((4, 9, 3), activation="tanh", init="normal", seed=2)
        _, parameters = follow(net, X, y, slip, epochs=3, batch_size=8)
        net.fit(X, y, epochs=3, batch_size=8, optimizer=optimizer, shuffle=False, verbose=False)
        with pytest.raises(AssertionError, match=r"steps: \d+ entries"):
            assert_close(net.parameters, parameters, "steps", 21 * 9)


# name: layer sizes, rows, batch size: of fused and stored gradients, of dense, listed and masked rows
ROADS = {
    "chained": ((20, 64, 32, 3), 300, 300),
    "layered": ((70, 130, 65, 7), 100, 64),
    "listed": ((300, 256, 130, 10), 130, 100),
    "parts": ((30, 3000, 2), 1500, 1400),
}


@pytest.fixture(params=ROADS)
def road(request):
    """Return (network, X, y, batch size), for each road that a step may take."""
    sizes, n, batch_size = ROADS[request.param]
    X, y = problem(sizes, n)
    if request.param == "listed":
        X[np.random.default_rng(0).random(X.shape) < 0.8] = 0
    return MLP(sizes, activation="relu", init="glorot", seed=1), X, y, batch_size


@pytest.mark.parametrize("clip_norm", [None, 1e-4])
def test_weights_alone_are_penalised(road, clip_norm, assert_close):
    """A step of plain SGD takes learning_rate * l2 * w more off the weights, and nothing off the biases."""
    net, X, y, batch_size = road
    net.biases[0][...] = 0.5
    plain, penalised = copy.deepcopy(net), copy.deepcopy(net)
    for network, l2 in ((plain, 0.0), (penalised, 0.5)):
        optimizer = SGD(0.25, l2=l2, clip_norm=clip_norm)
        network.fit(X[:batch_size], y[:batch_size], epochs=1, batch_size=batch_size, optimizer=optimizer, verbose=False)
    for before, without, with_l2 in zip(net.weights, plain.weights, penalised.weights, strict=True):
        assert_close(with_l2, without - 0.125 * before.astype(np.float64), "steps")
    for without, with_l2 in zip(plain.biases, penalised.biases, strict=True):
        np.testing.assert_array_equal(with_l2, without)


@pytest.mark.parametrize("weighted", [False, True])
def test_alpha_is_that_of_scikit_learn(weighted, assert_close):
    """Batches of n rows take alpha / n of the weights, the last and smaller one too; or by the sum of sample_weight."""
    neural_network = pytest.importorskip("sklearn.neural_network", reason="compares with scikit-learn")
    X, y = problem((4, 9, 3))
    given = {"sample_weight": np.random.default_rng(1).random(50) + 0.5} if weighted else {}
    theirs = neural_network.MLPClassifier(
        (9,), "tanh", solver="sgd", alpha=3.0, batch_size=16, learning_rate_init=0.125, momentum=0.0, shuffle=False
    )
    if weighted and "sample_weight" not in inspect.signature(theirs.partial_fit).parameters:
        pytest.skip("this scikit-learn has no sample weights")
    X = X.astype(np.float64)
    theirs.partial_fit(X, y, classes=[0, 1, 2])  # makes the network
    net = MLP((4, 9, 3), activation="tanh")
    for own, other in zip([*net.weights, *net.biases], [*theirs.coefs_, *theirs.intercepts_], strict=True):
        own[...] = other
        other[...] = own
    optimizer = SGD(0.125)
    optimizer.alpha = 3.0
    theirs.partial_fit(X, y, **given)
    net.fit(X, y, epochs=1, batch_size=16, optimizer=optimizer, shuffle=False, verbose=False, **given)
    for own, other in zip([*net.weights, *net.biases], [*theirs.coefs_, *theirs.intercepts_], strict=True):
        assert_close(own, other, "steps", 4 * 9)


EVERYTHING = {"l2": 0.01, "clip_norm": 1.0, "clip_value": 0.1, "ema": 0.9}


@pytest.mark.parametrize("options", [{"l2": 0.01, "ema": 0.9}, EVERYTHING], ids=["fused", "everything"])
@pytest.mark.parametrize("max_norm", [None, 1.25])
def test_any_number_of_threads_gives_the_same_bits(road, max_norm, options):
    net, X, y, batch_size = road
    nets = [MLP(net.layer_sizes, max_norm=max_norm, seed=1, n_threads=n_threads) for n_threads in (1, 2, 3)]
    for network in nets:
        network.fit(X, y, epochs=3, batch_size=batch_size, optimizer=Adam(**options), verbose=False)
    first, *others = (pickle.dumps([network.parameters, network._state]) for network in nets)
    assert all(other == first for other in others)


# ---- The norm of a unit's weights


@pytest.mark.parametrize("optimizer", [Adam(0.01), SGD(0.1, clip_norm=1.0, ema=0.5)], ids=["fused", "stored"])
def test_no_unit_has_weights_above_the_norm(road, optimizer, assert_close):
    net, X, y, batch_size = road
    constrained = MLP(net.layer_sizes, max_norm=0.75, seed=1)
    constrained.biases[-1][...] = 2.0
    constrained.fit(X, y, epochs=2, batch_size=batch_size, optimizer=optimizer, verbose=False)
    largest = [np.linalg.norm(weights.astype(np.float64), axis=0).max() for weights in constrained.weights]
    assert_close(max(largest), 0.75, "steps")
    assert np.abs(constrained.biases[-1]).max() > 1.5, "biases are left alone"


@pytest.mark.parametrize("optimizer", [Adam(0.05), SGD(0.5, momentum=0.9, l2=0.01, clip_norm=1.0)], ids=repr)
@pytest.mark.parametrize("sizes", [(4, 9, 3), (5, 70, 66, 3), (300, 130, 5)])
def test_the_norm_is_that_of_the_reference(sizes, optimizer, assert_close):
    X, y = problem(sizes)
    net = MLP(sizes, activation="tanh", init="glorot", max_norm=1.0, seed=2)
    costs, parameters = follow(net, X, y, optimizer, epochs=3, batch_size=8)
    history = net.fit(X, y, epochs=3, batch_size=8, optimizer=optimizer, shuffle=False, verbose=False)
    assert_close(history.loss, costs, "cost", 3 * max(sizes))
    assert_close(net.parameters, parameters, "steps", 21 * max(sizes))


def test_a_norm_out_of_range():
    for value in (0, -1, np.nan, np.inf):
        with pytest.raises(ValueError, match="max_norm must be finite and at least 1e-30, not "):
            MLP((2, 2), max_norm=value)
    with pytest.raises(TypeError, match="max_norm must be a number, not 'large'"):
        MLP((2, 2), max_norm="large")
    assert MLP((2, 2), max_norm=3).max_norm == 3.0


def test_the_norm_is_kept_in_files_and_pickles(tmp_path):
    for max_norm in (None, 2.5):
        net = MLP((2, 3, 2), max_norm=max_norm)
        net.save(tmp_path / "net")
        assert fastmlp.load(tmp_path / "net").max_norm == pickle.loads(pickle.dumps(net)).max_norm == max_norm


# ---- Averages


@pytest.mark.parametrize("max_norm", [None, 0.5])
def test_averages_are_those_of_the_reference_and_of_pytorch(max_norm, road, assert_close):
    """After every step, of those that SGD takes in PyTorch, with its own averages and renorm."""
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    net, X, y, batch_size = road
    ema, steps = 0.75, 4
    net = MLP(net.layer_sizes, activation="tanh", init="glorot", max_norm=max_norm, seed=1)
    modules = []
    for weights, bias in zip(net.weights, net.biases, strict=True):
        linear = torch.nn.Linear(*weights.shape, dtype=torch.float64)
        linear.load_state_dict({"weight": torch.tensor(weights.T.copy()), "bias": torch.tensor(bias.copy())})
        modules += [linear, torch.nn.Tanh()]
    model = torch.nn.Sequential(*modules[:-1])
    theirs = torch.optim.SGD(model.parameters(), 0.25)
    # Theirs begins as a copy of the first step's, and is told how many are in it.
    averaged = torch.optim.swa_utils.AveragedModel(
        model, avg_fn=lambda mean, now, n: mean + (1 - ema) / (1 - ema ** (n.item() + 1)) * (now - mean)
    )
    expected = np.zeros(net.parameters.size)
    X, y = X[:batch_size], y[:batch_size]
    for step in range(1, steps + 1):
        theirs.zero_grad()
        torch.nn.functional.cross_entropy(model(torch.tensor(X, dtype=torch.float64)), torch.tensor(y)).backward()
        theirs.step()
        if max_norm is not None:
            for linear in model[::2]:
                linear.weight.data = torch.renorm(linear.weight.data, 2, 0, max_norm)
        averaged.update_parameters(model)
        net.fit(X, y, epochs=1, batch_size=batch_size, optimizer=SGD(0.25, ema=ema), verbose=False, shuffle=False)
        expected = reference.average(expected, net.parameters, step, ema)
    assert net._state.averaged == steps
    ours = net.averaged()
    assert_close(ours.parameters, expected, "steps", steps)
    for weights, bias, linear in zip(ours.weights, ours.biases, averaged.module[::2], strict=True):
        assert_close(weights, linear.weight.detach().numpy().T, "steps", steps * max(net.layer_sizes))
        assert_close(bias, linear.bias.detach().numpy(), "steps", steps * max(net.layer_sizes), terms=0.1)


def test_validation_is_by_the_averages(road):
    net, X, y, batch_size = road
    history = net.fit(
        X, y, epochs=3, batch_size=batch_size, optimizer=Adam(0.01, ema=0.9), validation_data=(X, y), verbose=False
    )
    assert history.validation_loss[-1] == net.averaged().evaluate(X, y)["loss"] != net.evaluate(X, y)["loss"]


def test_training_is_the_same_with_averages(road):
    net, X, y, batch_size = road
    plain = copy.deepcopy(net)
    for network, ema in ((net, 0.5), (plain, None)):
        network.fit(X, y, epochs=2, batch_size=batch_size, optimizer=Adam(ema=ema), verbose=False)
    np.testing.assert_array_equal(net.parameters, plain.parameters)


def test_averages_go_on_after_a_pickle(road):
    net, X, y, batch_size = road
    options = {"batch_size": batch_size, "optimizer": Adam(0.01, ema=0.9), "verbose": False}
    whole = copy.deepcopy(net)
    whole.fit(X, y, epochs=4, **options)
    net.fit(X, y, epochs=2, **options)
    net = pickle.loads(pickle.dumps(net))
    net.fit(X, y, epochs=2, **options)
    assert net.averaged().parameters.tobytes() == whole.averaged().parameters.tobytes()


def test_the_averaged_network_is_one_of_its_own(tmp_path):
    X, y = problem((4, 9, 3))
    net = MLP((4, 9, 3), activation="tanh", max_norm=2.0, seed=7)
    net.fit(X, y, epochs=2, optimizer=Adam(ema=0.5), verbose=False)
    averaged = net.averaged()
    assert (averaged.activation, averaged.seed, averaged.max_norm) == ("tanh", 7, 2.0)
    before = net.averaged().parameters.copy()
    averaged.parameters[...] = 0
    np.testing.assert_array_equal(net.averaged().parameters, before)
    net.averaged().save(tmp_path / "net")
    np.testing.assert_array_equal(fastmlp.load(tmp_path / "net").parameters, before)


def test_there_are_averages_only_where_the_last_fit_made_them():
    X, y = problem((4, 9, 3))
    net = MLP((4, 9, 3))
    with pytest.raises(ValueError, match=r"averaged needs a fit whose optimizer has ema, as fastmlp.Adam\(ema=0.999\)"):
        net.averaged()
    net.fit(X, y, epochs=1, optimizer=Adam(ema=0.5), verbose=False)
    net.averaged()
    net.fit(X, y, epochs=1, optimizer=SGD(ema=0.5), verbose=False)  # other moments, the same averages
    assert net._state.averaged == 2
    net.fit(X, y, epochs=1, optimizer=SGD(), verbose=False)
    with pytest.raises(ValueError, match="averaged needs a fit"):
        net.averaged()


def test_a_callback_may_begin_to_average():
    class Average(fastmlp.callbacks.Callback):
        def on_epoch_end(self, progress):
            progress.optimizer.ema = 0.5

    X, y = problem((4, 9, 3))
    net = MLP((4, 9, 3))
    net.fit(X, y, epochs=3, batch_size=10, optimizer=Adam(), callbacks=[Average()], verbose=False)
    assert net._state.averaged == 10


def test_an_epoch_that_diverges_leaves_the_averages_as_they_were():
    X, y = problem((4, 9, 3))
    net = MLP((4, 9, 3))
    net.fit(X, y, epochs=1, optimizer=SGD(ema=0.5), verbose=False)
    before = net.averaged().parameters
    with pytest.raises(fastmlp.DivergenceError):
        net.fit(X * 1e20, y, epochs=1, batch_size=10, optimizer=SGD(1e20, ema=0.5), verbose=False)
    np.testing.assert_array_equal(net.averaged().parameters, before)


def test_a_norm_that_no_gradient_reaches_changes_nothing(assert_close):
    X, y = problem((4, 9, 3))
    plain, clipped = (MLP((4, 9, 3), seed=2) for _ in range(2))
    for net, clip_norm in ((plain, None), (clipped, 1e3)):
        net.fit(X, y, epochs=3, batch_size=8, optimizer=SGD(0.1, clip_norm=clip_norm), verbose=False)
    assert_close(clipped.parameters, plain.parameters, "steps", 21 * 9)


def test_a_callback_may_begin_to_clip():
    class Clip(fastmlp.callbacks.Callback):
        def on_epoch_end(self, progress):
            optimizer.clip_norm = 0.1

    X, y = problem((4, 9, 3))
    net, expected = (MLP((4, 9, 3), activation="tanh", seed=2) for _ in range(2))
    for clip_norm in (None, 0.1):
        expected.fit(X, y, epochs=1, batch_size=8, optimizer=SGD(0.1, clip_norm=clip_norm), verbose=False)
    optimizer = SGD(0.1)
    net.fit(X, y, epochs=2, batch_size=8, optimizer=optimizer, callbacks=[Clip()], verbose=False)
    np.testing.assert_array_equal(net.parameters, expected.parameters)


def test_the_smallest_epsilon_does_not_divide_by_zero():
    X = np.zeros((8, 3))  # no gradient for the weights at all: 0 / (0 + epsilon)
    net = MLP((3, 4, 2))
    before = net.weights[0].copy()
    net.fit(X, [0, 1] * 4, epochs=5, optimizer=Adam(epsilon=1e-30), verbose=False)
    np.testing.assert_array_equal(net.weights[0], before)


@pytest.mark.filterwarnings("ignore:y has no row of class")
def test_the_first_step_of_adam_is_as_long_as_the_learning_rate():
    net = MLP((2, 2), init="glorot")
    before = net.biases[0].copy()
    net.fit([[1.0, 2.0]], [0], epochs=1, optimizer=Adam(learning_rate=0.125), verbose=False)
    np.testing.assert_allclose(np.abs(net.biases[0] - before), 0.125, rtol=1e-5)


def test_the_public_names():
    assert (fastmlp.SGD, fastmlp.Adam, fastmlp.AdamW) == (SGD, Adam, AdamW)


def test_epsilon_hat_stands_beside_the_root_before_its_correction():
    """The first step is learning_rate * g / (|g| + epsilon / sqrt(1 - beta_2)), Kingma & Ba's end of section 2."""
    X, y = np.ones((4, 1), np.float32), np.zeros((4, 1), np.float32)
    for hat, factor in ((False, 1.0), (True, 1 / np.sqrt(1 - 0.999))):
        net = fastmlp.MLP((1, 1), loss="squared_error")
        net.parameters[:] = 0.5, 0.0
        optimizer = Adam(0.125, epsilon=0.01)
        optimizer.epsilon_hat = hat
        net.fit(X, y, epochs=1, batch_size=4, optimizer=optimizer, verbose=False)
        moved = 0.125 * 0.5 / (0.5 + 0.01 * factor)
        np.testing.assert_allclose(net.parameters, [0.5 - moved, -moved], rtol=1e-5)
    with pytest.raises(TypeError, match="epsilon_hat must be True or False"):
        optimizer.epsilon_hat = 1
