"""MLP: its parameters and what it predicts, against `fastmlp.reference`."""

import copy
import itertools
import pickle
import sys
import tracemalloc
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastmlp
from fastmlp import MLP, reference, threads
from fastmlp.activations import ACTIVATIONS
from fastmlp.losses import LOSSES

CLASSIFIERS = [
    (name, m * loss.outputs_a_target)
    for (name, loss), m in itertools.product(LOSSES.items(), (1, 2, 10))
    if m >= loss.least_outputs
]


def rows(n, k, density=1.0, seed=0):
    generator = np.random.default_rng(seed)
    return (generator.normal(size=(n, k)) * (generator.random((n, k)) < density)).astype(np.float32)


def expected_logits(net, X):
    return reference.forward(net.weights, net.biases, X, net.activation)[-1]


# ---- Parameters


@pytest.mark.parametrize("sizes", [(1, 1), (3, 2), (2, 1, 3), (784, 256, 256, 10), (5, 64, 65, 63, 1), (2,) * 30])
def test_shapes(sizes):
    net = MLP(sizes, loss="squared_error")
    assert net.layer_sizes == sizes
    assert [w.shape for w in net.weights] == list(itertools.pairwise(sizes))
    assert [b.shape for b in net.biases] == [(m,) for m in sizes[1:]]
    assert {a.dtype for a in [net.parameters, *net.weights, *net.biases]} == {np.dtype(np.float32)}
    assert net.parameters.shape == (sum((k + 1) * m for k, m in itertools.pairwise(sizes)),)
    flat = [a.ravel() for pair in zip(net.weights, net.biases, strict=True) for a in pair]
    np.testing.assert_array_equal(net.parameters, np.concatenate(flat))


@pytest.mark.parametrize("sizes", [(3, 4, 2), [3, 4, 2], np.array([3, 4, 2]), range(4, 1, -1), (np.int8(3), 4, 2)])
def test_layer_sizes_may_be_any_sequence_of_whole_numbers(sizes):
    net = MLP(sizes)
    assert net.layer_sizes == tuple(int(size) for size in sizes)
    assert all(type(size) is int for size in net.layer_sizes)


def test_writing_to_a_view_changes_the_network(assert_close):
    net = MLP((3, 4, 2))
    X = rows(5, 3)
    net.weights[0][1, 2] = 7
    net.biases[1][:] = [3, -3]
    assert_close(net.logits(X), expected_logits(net, X), "logits", 4)
    net.weights[1][...] = 0
    np.testing.assert_array_equal(net.logits(X), np.tile([3, -3], (5, 1)))
    net.parameters[:] = 0
    assert not net.logits(X).any()
    assert not any(view.any() for view in [*net.weights, *net.biases])


def test_what_the_parameters_stand_for_cannot_be_changed():
    net = MLP((3, 4, 2))
    for name, value in [("layer_sizes", (3, 9, 2)), ("activation", "tanh"), ("loss", "squared_error")]:
        with pytest.raises(AttributeError):
            setattr(net, name, value)
    for name in ("parameters", "weights", "biases"):
        with pytest.raises(AttributeError):
            setattr(net, name, np.zeros(3))


@pytest.mark.parametrize(
    ("init", "std"),
    [
        ("he", lambda k, m: np.sqrt(2 / k)),
        ("glorot", lambda k, m: np.sqrt(2 / (k + m))),
        ("lecun", lambda k, m: np.sqrt(1 / k)),
        ("normal", lambda k, m: 1.0),
    ],
)
def test_initial_weights(init, std):
    net = MLP((900, 400, 500), init=init, seed=3)
    for weights in net.weights:
        wanted = std(*weights.shape)
        # Six standard errors of a mean and of a standard deviation
        assert abs(weights.mean()) < 6 * wanted / np.sqrt(weights.size)
        assert abs(weights.std() / wanted - 1) < 6 / np.sqrt(2 * weights.size)
        kurtosis = np.mean(weights.astype(float) ** 4) / wanted**4
        assert kurtosis == pytest.approx(9 / 5 if init == "glorot" else 3, abs=0.06)
        if init == "glorot":
            assert np.abs(weights).max() <= np.float32(np.sqrt(3) * wanted)
    biases = np.concatenate(net.biases)
    if init == "normal":
        assert abs(biases.mean()) < 6 / np.sqrt(900)
        assert abs(biases.std() - 1) < 6 / np.sqrt(1800)
    else:
        assert not biases.any()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_first_weights_fit_the_activation(activation):
    net = MLP((20, 30, 5), activation=activation)
    assert net.init == ACTIVATIONS[activation].init
    np.testing.assert_array_equal(net.parameters, MLP((20, 30, 5), init=net.init).parameters)


def test_each_layer_may_have_its_own_init():
    net = MLP((20, 30, 10, 5), activation=("tanh", "relu"))
    assert net.init == ("glorot", "he", "he")
    np.testing.assert_array_equal(net.weights[0], MLP((20, 30, 5), init="glorot").weights[0])
    assert MLP((20, 30, 5), init=["normal", "normal"]).init == "normal"
    assert (MLP((3, 2)).init, MLP((3, 2), activation=()).init) == ("he", "glorot")


def test_each_hidden_layer_may_have_its_own_activation(assert_close):
    activation = tuple(ACTIVATIONS)
    net = MLP((6, *(70,) * len(activation), 4), activation=activation, init="glorot")
    assert net.activation == activation
    assert [layer.activation for layer in net.layers] == [*activation, "identity"]
    for n in (3, 40):
        X = rows(n, 6)
        assert_close(net.logits(X), expected_logits(net, X), "logits", 70 * len(activation))
    assert MLP((3, 4, 5, 2), activation=["tanh", "tanh"]).activation == "tanh"


@pytest.mark.parametrize("init", ["he", "glorot", "lecun", "normal"])
def test_the_seed_determines_the_parameters(init):
    drawn = [MLP((20, 30, 5), init=init, seed=seed).parameters for seed in (0, 0, 1, 2**64 - 1)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    for a, b in itertools.combinations(drawn[1:], 2):
        assert not np.array_equal(a, b)
    square = MLP((20, 20, 20), init=init)
    assert not np.array_equal(square.weights[0], square.weights[1])


def test_the_seed_alone_draws():
    np.random.seed(0)  # noqa: NPY002 - the global state is what must neither matter nor move
    first = MLP((4, 5, 2)).parameters
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    np.testing.assert_array_equal(MLP((4, 5, 2)).parameters, first)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


@pytest.mark.parametrize("name", ["weights", "biases"])
def test_an_array_cannot_be_put_in_the_place_of_a_view(name):
    net = MLP((3, 4, 2))
    before = net.parameters.copy()
    with pytest.raises(TypeError, match="tuple"):
        getattr(net, name)[0] = np.ones_like(getattr(net, name)[0])
    with pytest.raises(AttributeError, match=name):
        setattr(net, name, getattr(net, name))
    np.testing.assert_array_equal(net.parameters, before)


@pytest.mark.parametrize(
    "name", ["learning_rate", "n_thread", "layer_sizes", "activation", "loss", "init", "parameters"]
)
def test_what_has_no_effect_cannot_be_set(name):
    with pytest.raises(AttributeError, match=name):
        setattr(MLP((3, 4, 2)), name, 1)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("n_threads", "a", TypeError),
        ("n_threads", 2.5, TypeError),
        ("n_threads", -5, ValueError),
        ("n_threads", 0, ValueError),
        ("n_threads", 10**6, ValueError),
        ("seed", "a", TypeError),
        ("seed", None, TypeError),
        ("seed", -1, ValueError),
        ("seed", 2**64, ValueError),
    ],
)
def test_an_attribute_is_checked_when_it_is_set(name, value, error):
    net = MLP((3, 4, 2), seed=1, n_threads=1)
    with pytest.raises(error, match=f"^{name} must be "):
        setattr(net, name, value)
    assert (net.seed, net.n_threads) == (1, 1)
    setattr(net, name, 2)
    assert getattr(net, name) == 2


def test_a_seed_that_is_set_orders_the_rows():
    X, y = rows(50, 4), np.arange(50) % 3
    nets = [MLP((4, 16, 3)) for _ in range(3)]
    nets[0].seed = nets[1].seed = 5
    losses = [net.fit(X, y, epochs=1, batch_size=8, verbose=False).loss for net in nets]
    assert losses[0] == losses[1] != losses[2]


def test_repr_says_what_it_is():
    net = MLP((3, 4, 2), activation="tanh", loss="binary_cross_entropy", seed=5)
    assert repr(net) == "MLP((3, 4, 2), activation='tanh', loss='binary_cross_entropy', seed=5)"
    assert repr(eval(repr(net), {"MLP": MLP})) == repr(net)


# ---- Copies


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
@pytest.mark.parametrize("trained", [False, True])
def test_a_copy_goes_on_as_the_original_would(duplicate, trained):
    X, y = rows(50, 4), np.arange(50) % 3
    net = MLP((4, 16, 3), activation="tanh", init="glorot", seed=7, n_threads=1)
    fit = {"epochs": 2, "batch_size": 8, "verbose": False}
    if trained:
        net.fit(X, y, **fit)
    twin = duplicate(net)
    assert repr(twin) == repr(net)
    assert (twin.init, twin.n_threads) == (net.init, net.n_threads)
    np.testing.assert_array_equal(twin.parameters, net.parameters)

    before = net.parameters.copy()
    history = twin.fit(X, y, **fit)
    np.testing.assert_array_equal(net.parameters, before)  # nothing is shared
    assert net.fit(X, y, **fit).loss == history.loss
    np.testing.assert_array_equal(twin.parameters, net.parameters)
    twin.biases[0][:] = 1
    assert twin.parameters[4 * 16] == 1  # the views are still views


class Named(MLP):
    """A network with an attribute of its own."""

    def __init__(self, layer_sizes, name):
        super().__init__(layer_sizes)
        self.name = name


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_a_copy_of_a_subclass_has_its_attributes(duplicate):
    net = Named((3, 4, 2), "digits")
    twin = duplicate(net)
    assert (type(twin), twin.name) == (Named, "digits")
    np.testing.assert_array_equal(twin.logits(rows(5, 3)), net.logits(rows(5, 3)))
    assert weakref.ref(twin)() is twin


# ---- Predictions


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize(("loss", "m"), CLASSIFIERS)
def test_predictions_are_those_of_the_reference(assert_close, activation, loss, m):
    net = MLP((7, 20, 9, m), activation=activation, loss=loss, init="normal")
    X = rows(101, 7)
    logits = expected_logits(net, X)
    assert_close(net.logits(X), logits, "logits", 20)
    assert net.logits(X).dtype == np.float32
    clear = np.abs(logits) > 1e-4  # far enough from the border that rounding cannot decide

    if not LOSSES[loss].output.is_probability:
        outputs = LOSSES[loss].output.decide(net.logits(X))
        np.testing.assert_array_equal(net.predict(X), outputs[:, 0] if m == 1 else outputs)
        assert net.predict(X).dtype == np.float32
        with pytest.raises(ValueError, match=f"predict_proba .* loss='{loss}'"):
            net.predict_proba(X)
        return
    probabilities = net.predict_proba(X)
    assert probabilities.dtype == np.float32
    assert_close(probabilities, LOSSES[loss].output.forward(net.logits(X)), "softmax", m)
    labels = net.predict(X)
    assert labels.dtype == np.int64
    if LOSSES[loss].targets == "classes":
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
        np.testing.assert_array_equal(labels, logits.argmax(axis=1))
    else:
        assert labels.shape == ((101,) if m == 1 else (101, m))
        decided = (logits > 0)[:, 0] if m == 1 else logits > 0
        np.testing.assert_array_equal(labels[clear.reshape(labels.shape)], decided[clear.reshape(labels.shape)])


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 140), min_size=2, max_size=5),
    n=st.integers(1, 210),
    density=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    activation=st.sampled_from(list(ACTIVATIONS)),
    n_threads=st.integers(1, 3),
)
def test_logits_of_any_shape(assert_close, *, sizes, n, density, activation, n_threads):
    net = MLP(sizes, activation=activation, loss="squared_error", init="glorot", n_threads=n_threads)
    X = rows(n, sizes[0], density)
    terms = np.abs(net.weights[-1]).max()  # of the only output there may be, which may be nearly 0
    assert_close(net.logits(X), expected_logits(net, X), "logits", max(sizes), terms)


def test_a_deep_network(assert_close):
    net = MLP((6, *(33,) * 50, 4), activation="tanh", init="glorot")
    X = rows(20, 6)
    assert_close(net.logits(X), expected_logits(net, X), "logits", 50 * 33)


def test_a_row_does_not_depend_on_its_neighbours(assert_close):
    net = MLP((70, 130, 66, 5), init="normal")
    X = rows(300, 70, density=0.3)
    whole = net.logits(X)
    for part in (slice(100, 101), slice(100, 107), slice(None, None, -1)):
        assert_close(net.logits(X[part]), whole[part], "logits", 130)


@pytest.mark.parametrize("n_threads", [2, 3])
def test_the_same_bits_on_any_number_of_threads(monkeypatch, n_threads):
    monkeypatch.setattr(threads, "_WORTH_A_THREAD", 1e-15)
    X = rows(1000, 80, density=0.5)
    one, several = (MLP((80, 100, 70, 10), n_threads=count).logits(X) for count in (1, n_threads))
    np.testing.assert_array_equal(one, several)


def test_a_row_takes_few_calls_of_python():
    """A call takes 0.1 us or more, and a small network's row 1.5 us: what needs more of them was for an epoch."""
    calls = []
    net, X = MLP((20, 64, 32, 3)), rows(1, 20)
    sys.setprofile(lambda frame, event, argument: calls.append(frame.f_code.co_name) if event == "call" else None)
    try:
        net.predict(X)
    finally:
        sys.setprofile(None)
    assert len(calls) <= 4, calls


@pytest.mark.parametrize("loss", LOSSES)
def test_no_rows_are_no_answers(loss):
    net = MLP((3, 4, 6), loss=loss)
    X = np.empty((0, 3))
    assert net.logits(X).shape == (0, 6)
    assert net.predict(X).shape == ((0,) if LOSSES[loss].targets == "classes" else (0, 6))
    if LOSSES[loss].output.is_probability:
        assert net.predict_proba(X).shape == (0, 6)


FORMS = {
    "float64": lambda X: X.astype(np.float64),
    "float16": lambda X: X.astype(np.float16),
    "int64": lambda X: X.astype(np.int64),
    "uint8": lambda X: X.astype(np.uint8),
    "big-endian": lambda X: X.astype(">f4"),
    "list": lambda X: X.tolist(),
    "tuple of arrays": tuple,
    "Fortran order": np.asfortranarray,
    "every second row": lambda X: np.repeat(X, 2, axis=0)[::2],
    "every second column": lambda X: np.repeat(X, 2, axis=1)[:, ::2],
    "backwards": lambda X: np.ascontiguousarray(X[::-1, ::-1])[::-1, ::-1],
    "memoryview": memoryview,
}


@pytest.mark.parametrize("form", FORMS)
def test_any_form_of_the_same_numbers(form):
    X = np.random.default_rng(0).integers(0, 5, size=(40, 6)).astype(np.float32)
    net = MLP((6, 20, 3))
    wanted = net.logits(X)
    np.testing.assert_array_equal(net.logits(FORMS[form](X)), wanted)
    np.testing.assert_array_equal(net.predict(FORMS[form](X)), wanted.argmax(axis=1))


@pytest.mark.parametrize("density", [0.1, 1.0])
@pytest.mark.parametrize("n_threads", [1, 2])
def test_rows_in_float64_are_rounded_as_they_are_read(density, n_threads):
    random = np.random.default_rng(0)
    X = random.normal(size=(2000, 300)) * (random.random((2000, 300)) < density)
    net = MLP((300, 64, 3), n_threads=n_threads)
    wanted = net.logits(X.astype(np.float32))
    tracemalloc.start()
    try:
        outputs = net.logits(X)
        assert tracemalloc.get_traced_memory()[1] < X.size * 4 / 2
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(outputs, wanted)


@pytest.mark.parametrize("density", [0.1, 1.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_value_is_refused_wherever_the_engine_sees_it(density, dtype):
    random = np.random.default_rng(0)
    sound = np.asarray(random.random((2000, 300)) < density, dtype)
    net = MLP((300, 64, 3))
    for row, column, value in ((0, 0, np.nan), (1000, 7, -np.inf), (1999, 299, np.inf)):
        X = sound.copy()
        X[row, column] = value
        with pytest.raises(ValueError, match=rf"X must be finite in float32; X\[{row}, {column}\] is {value}"):
            net.predict_proba(X)


def test_booleans_are_numbers():
    X = np.array([[True, False], [False, True]])
    net = MLP((2, 8, 2))
    np.testing.assert_array_equal(net.logits(X), net.logits(X.astype(np.float32)))


def test_inputs_may_be_read_only_and_stay_as_they_are():
    X = rows(30, 4)
    y = np.arange(30) % 3
    copies = X.copy(), y.copy()
    X.flags.writeable = y.flags.writeable = False
    net = MLP((4, 8, 3))
    before = net.parameters.copy()
    net.logits(X), net.predict(X), net.predict_proba(X), net.evaluate(X, y)
    np.testing.assert_array_equal(X, copies[0])
    np.testing.assert_array_equal(y, copies[1])
    np.testing.assert_array_equal(net.parameters, before)


def test_the_parameters_may_be_read_only():
    net = MLP((4, 8, 3))
    wanted = net.logits(rows(5, 4))
    net.parameters.flags.writeable = False
    np.testing.assert_array_equal(net.logits(rows(5, 4)), wanted)


def test_probabilities_of_extreme_logits():
    net = MLP((1, 2), seed=0)
    net.weights[0][:] = [[1, -1]]
    np.testing.assert_array_equal(net.predict_proba([[1e30], [-1e30]]), [[1, 0], [0, 1]])
    net = MLP((1, 1), loss="binary_cross_entropy")
    net.weights[0][:] = 1
    np.testing.assert_array_equal(net.predict_proba([[1e30], [-1e30], [0]]), [[1], [0], [0.5]])


# ---- Evaluation


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize(("loss", "m"), CLASSIFIERS)
def test_the_loss_is_that_of_the_reference(activation, loss, m):
    net = MLP((5, 12, m), activation=activation, loss=loss)
    X = rows(333, 5)
    generator = np.random.default_rng(1)
    kinds = {
        "classes": lambda: [generator.integers(0, m, 333), generator.dirichlet(np.ones(m), 333)],
        "probabilities": lambda: [generator.integers(0, 2, (333, m)), generator.random((333, m))],
        "values": lambda: [generator.normal(size=(333, m // LOSSES[loss].outputs_a_target))],
        "counts": lambda: [generator.poisson(3, (333, m))],
    }
    for y in kinds[LOSSES[loss].targets]():
        wanted = reference.cost(net.weights, net.biases, X, y, activation=activation, loss=loss)
        scores = net.evaluate(X, y)
        assert scores["loss"] == pytest.approx(wanted, rel=1e-5)
        assert tuple(scores) == LOSSES[loss].scores
        if y.shape[1:] == (1,):
            assert net.evaluate(X, y[:, 0]) == scores


def fixed(loss, logits):
    """A network whose logits are these, one row for each one-hot input."""
    net = MLP(np.shape(logits), loss=loss)
    net.weights[0][:] = logits
    return net, np.eye(len(logits))


def test_accuracy_of_classes_is_the_share_of_right_labels():
    net, X = fixed("cross_entropy", [[1, 0, 0], [0, 1, 0], [0, 0, 1], [3, 2, 1]])
    assert net.evaluate(X, [0, 1, 2, 1])["accuracy"] == 0.75
    assert net.evaluate(X, np.eye(3)[[0, 1, 1, 1]])["accuracy"] == 0.5
    # A row of probabilities counts by its largest one
    assert net.evaluate(X, [[0.4, 0.3, 0.3], [0.6, 0.4, 0], [0, 0, 1], [0, 1, 0]])["accuracy"] == 0.5


def test_accuracy_of_yes_and_no_needs_every_output_right():
    net, X = fixed("binary_cross_entropy", [[1, 1], [1, -1], [-1, 1], [-1, -1]])
    assert net.evaluate(X, [[1, 1], [1, 0], [0, 1], [0, 0]])["accuracy"] == 1
    assert net.evaluate(X, [[1, 1], [1, 1], [0, 0], [0, 0]])["accuracy"] == 0.5
    assert net.evaluate(X, [[0.9, 0.6], [0.6, 0.4], [0.4, 0.4], [1, 1]])["accuracy"] == 0.5
    net, X = fixed("binary_cross_entropy", [[2], [-2], [1]])
    assert net.evaluate(X, [1, 0, 0])["accuracy"] == pytest.approx(2 / 3)


def test_the_loss_stays_finite_where_a_probability_rounds_to_zero():
    net, X = fixed("cross_entropy", [[0, 1000]])
    assert net.evaluate(X, [0]) == {"loss": 1000, "accuracy": 0}
    net, X = fixed("binary_cross_entropy", [[-1000]])
    assert net.evaluate(X, [1]) == {"loss": 1000, "accuracy": 0}


# Rows of three outputs, on one of which the network is 1 off: what help(MLP) and help(MLP.evaluate) say of each loss
ONE_OFF = {
    "cross_entropy": ([0, 0, 0], [1, 0, 0], {"loss": np.log(3), "accuracy": 1}),
    "binary_cross_entropy": ([0, 0, 0], [1, 0, 0], {"loss": 3 * np.log(2), "accuracy": 0}),
    "squared_error": ([1, 0, 0], [0, 0, 0], {"loss": 1 / 2, "mse": 1 / 3, "r2": np.nan}),
    "focal": ([0, 0, 0], [1, 0, 0], {"loss": 4 / 9 * np.log(3), "accuracy": 1}),
    "absolute_error": ([1, 0, 0], [0, 0, 0], {"loss": 1, "mse": 1 / 3, "r2": np.nan}),
    "huber": ([3, 0, 0], [0, 0, 0], {"loss": 2.5, "mse": 3, "r2": np.nan}),
    "quantile": ([1, 0, -1], [0], {"loss": 0.9 + 0.9}),
    "poisson": ([0, 0, 0], [3, 1, 1], {"loss": 3, "mse": 4 / 3, "r2": np.nan}),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_are_sums_over_the_outputs(loss):
    logits, targets, wanted = ONE_OFF[loss]
    net, X = fixed(loss, [logits])
    assert net.evaluate(X, [targets]) == pytest.approx(wanted, rel=1e-6, nan_ok=True)
    assert net.evaluate([*X, *X], [targets, targets])["loss"] == pytest.approx(wanted["loss"])  # a mean over the rows


# ---- A network that is no longer finite


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_parameters_that_are_not_finite_give_an_error_and_no_answer(value):
    net = MLP((3, 4, 2))
    X, y = rows(5, 3), [0, 1, 0, 1, 0]
    net.biases[1][0] = value
    for call in (net.logits, net.predict, net.predict_proba, lambda X: net.evaluate(X, y)):
        with pytest.raises(ValueError, match="parameters of the network must be finite"):
            call(X)


def test_load_gives_the_network_that_was_saved(tmp_path):
    net = MLP((4, 70, 3), activation="logistic", loss="squared_error", init="normal", seed=9)
    net.save(tmp_path / "net")
    loaded = fastmlp.load(tmp_path / "net")
    assert repr(loaded) == repr(net)
    np.testing.assert_array_equal(loaded.logits(rows(9, 4)), net.logits(rows(9, 4)))


def test_parameters_from_memory_of_any_alignment():
    """As from a mapped file, where pickle hands the memory over as it lies."""
    net, memories = fastmlp.MLP((5, 3)), []
    pickled = pickle.dumps(net, protocol=5, buffer_callback=memories.append)
    shifted = [memoryview(b"." + memory.raw())[1:] for memory in memories]
    assert shifted
    assert not np.frombuffer(shifted[0], np.float32).flags.aligned
    twin = pickle.loads(pickled, buffers=shifted)
    assert twin.parameters.flags.aligned
    np.testing.assert_array_equal(twin.parameters, net.parameters)


def test_a_pickle_holds_the_state_of_the_optimizer_and_a_file_does_not(tmp_path):
    X, y = rows(50, 4), np.arange(50) % 3
    fit = {"epochs": 1, "batch_size": 8, "verbose": False}
    net = MLP((4, 16, 3))
    net.fit(X, y, **fit)
    net.save(tmp_path / "net")
    fresh = MLP((4, 16, 3))
    fresh.parameters[:] = net.parameters
    loaded, unpickled = fastmlp.load(tmp_path / "net"), pickle.loads(pickle.dumps(net))
    net_cost, fresh_cost, loaded_cost, unpickled_cost = (
        each.fit(X, y, **fit).loss for each in (net, fresh, loaded, unpickled)
    )
    assert (unpickled_cost, loaded_cost) == (net_cost, fresh_cost)
    assert loaded_cost != net_cost
