"""fit: what it learns, that it goes on exactly, and what it leaves behind when it is cut short."""

import tracemalloc

import numpy as np
import pytest

import fastmlp
from fastmlp import MLP, SGD, Adam, AdamW, reference, threads
from fastmlp.callbacks import Callback
from fastmlp.engine.table import OPENMP
from fastmlp.losses import LOSSES

QUIET = {"verbose": False}


def targets_of(loss, labels, m):
    """Return labels, or rows that are one-hot, as the loss takes them, and how many outputs there are for them."""
    if LOSSES[loss].targets == "classes":
        return labels, m
    return np.eye(m)[labels], m * LOSSES[loss].outputs_a_target


# ---- It learns


def test_exclusive_or():
    X, y = np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), np.array([0, 1, 1, 0])
    net = MLP((2, 16, 2), seed=1)
    history = net.fit(X, y, epochs=300, optimizer=Adam(learning_rate=0.02), **QUIET)
    np.testing.assert_array_equal(net.predict(X), y)
    assert history.loss[-1] < 0.05 < history.loss[0]


@pytest.mark.parametrize(
    "optimizer", [SGD(0.1), SGD(0.05, 0.9), SGD(0.05, 0.9, True), Adam(0.01), AdamW(0.01)], ids=repr
)
@pytest.mark.parametrize("activation", ["relu", "tanh", "logistic"])
def test_classes(optimizer, activation, blobs):
    X, y = blobs(600, k=5, m=4)
    net = MLP((5, 32, 4), activation=activation)
    history = net.fit(X[:500], y[:500], epochs=30, batch_size=20, optimizer=optimizer, **QUIET)
    assert net.evaluate(X[500:], y[500:])["accuracy"] > 0.9
    assert history.loss[-1] < history.loss[0]


def test_a_regression():
    X = np.linspace(-2, 2, 200, dtype=np.float32).reshape(-1, 1)
    y = np.sin(2 * X[:, 0])
    net = MLP((1, 32, 32, 1), activation="tanh", loss="squared_error", init="glorot")
    net.fit(X, y, epochs=300, batch_size=20, optimizer=Adam(0.01), **QUIET)
    assert np.abs(net.predict(X) - y).max() < 0.1


def test_several_yes_or_no_questions():
    generator = np.random.default_rng(0)
    X = generator.normal(size=(600, 3)).astype(np.float32)
    y = np.stack([X[:, 0] > 0, X[:, 1] + X[:, 2] > 0], axis=1)
    net = MLP((3, 16, 2), loss="binary_cross_entropy")
    net.fit(X, y, epochs=30, batch_size=20, optimizer=Adam(0.01), **QUIET)
    assert net.evaluate(X, y)["accuracy"] > 0.95


def test_labels_and_their_one_hot_rows_are_the_same(blobs):
    X, y = blobs(100)
    nets = [MLP((2, 20, 3)) for _ in range(2)]
    histories = [
        net.fit(X, t, epochs=5, batch_size=10, **QUIET) for net, t in zip(nets, (y, np.eye(3)[y]), strict=True)
    ]
    np.testing.assert_allclose(histories[0].loss, histories[1].loss, rtol=1e-5)
    np.testing.assert_allclose(nets[0].parameters, nets[1].parameters, rtol=1e-4, atol=1e-5)


def test_probability_rows_are_learned():
    X = np.eye(3)
    y = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.25, 0.25, 0.5]])
    net = MLP((3, 3), loss="cross_entropy")
    net.fit(X, y, epochs=500, optimizer=Adam(0.05), **QUIET)
    np.testing.assert_allclose(net.predict_proba(X), y, atol=0.01)


# ---- What a history says


@pytest.mark.filterwarnings("ignore:y has no row of class")  # where there are fewer rows than classes
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("n", "batch_size"), [(50, 8), (50, 50), (50, 1), (3, 100), (1, 1), (64, 16)])
def test_the_cost_is_the_mean_of_the_batches_costs(assert_close, loss, n, batch_size, blobs):
    # A rate so small that the parameters stay as they are: every batch is then judged by the first ones.
    X, y = blobs(n, m=2)
    y, m = targets_of(loss, y, 2)
    net = MLP((2, 20, m), loss=loss, init="glorot")
    batches = [slice(first, first + batch_size) for first in range(0, n, batch_size)]
    costs = [reference.cost(net.weights, net.biases, X[b], y[b], activation="relu", loss=loss) for b in batches]
    history = net.fit(X, y, epochs=2, batch_size=batch_size, optimizer=SGD(1e-12), shuffle=False, **QUIET)
    assert_close(history.loss, [np.mean(costs)] * 2, "cost", 20)
    if n == 50 and batch_size == 8:  # the last batch, of two rows, counts as a whole one
        assert abs(np.mean(costs) - net.evaluate(X, y)["loss"]) > 1e-4


def test_an_epoch_follows_the_reference(assert_close, blobs):
    X, y = blobs(50)
    net = MLP((2, 20, 3), activation="tanh", init="glorot")
    weights, biases = net.weights, net.biases
    costs = []
    for first in range(0, 50, 8):
        batch = X[first : first + 8], y[first : first + 8]
        cost, dweights, dbiases = reference.gradients(weights, biases, *batch, activation="tanh", loss=net.loss)
        weights = [w - 0.1 * dw for w, dw in zip(weights, dweights, strict=True)]
        biases = [b - 0.1 * db for b, db in zip(biases, dbiases, strict=True)]
        costs.append(cost)
    history = net.fit(X, y, epochs=1, batch_size=8, optimizer=SGD(0.1), shuffle=False, **QUIET)
    assert_close(history.loss, [np.mean(costs)], "cost", 20)
    for ours, theirs in zip([*net.weights, *net.biases], [*weights, *biases], strict=True):
        assert_close(ours, theirs, "steps", 7 * 20)


def test_one_value_an_epoch(blobs):
    X, y = blobs(60)
    net = MLP((2, 8, 3))
    history = net.fit(X, y, epochs=4, batch_size=7, validation_data=(X[:20], y[:20]), **QUIET)
    assert list(history) == ["loss", "validation_loss", "validation_accuracy", "learning_rate", "seconds"]
    for values in history.values():
        assert len(values) == 4
        assert all(type(value) is float for value in values)
    assert all(seconds > 0 for seconds in history.seconds)
    assert repr(history) == f"History(epochs=4, loss={history.loss[-1]:.4f})"
    history = net.fit(X, y, epochs=1, **QUIET)
    assert {name: len(values) for name, values in history.items()} == {"loss": 1, "learning_rate": 1, "seconds": 1}
    assert history.validation_loss == history.validation_accuracy == []
    assert repr(fastmlp.training.History()) == "History(epochs=0)"


@pytest.mark.parametrize("loss", LOSSES)
def test_validation_is_evaluate_after_each_epoch(loss, blobs):
    X, y = blobs(80)
    y, m = targets_of(loss, y, 3)
    held_out = X[60:], y[60:]

    class Evaluations(Callback):
        def __init__(self):
            self.scores = []

        def on_epoch_end(self, progress):
            self.scores.append(progress.network.evaluate(*held_out))

    net, evaluations = MLP((2, 12, m), loss=loss), Evaluations()
    history = net.fit(X[:60], y[:60], epochs=3, validation_data=held_out, callbacks=[evaluations], **QUIET)
    assert history.validation_loss == [scores["loss"] for scores in evaluations.scores]
    assert len(set(history.validation_loss)) == 3
    if "accuracy" not in LOSSES[loss].scores:
        assert history.validation_accuracy == []
    else:
        assert history.validation_accuracy == [scores["accuracy"] for scores in evaluations.scores]


def test_validation_does_not_touch_the_training(blobs, state):
    X, y = blobs(80)
    nets = [MLP((2, 12, 3)) for _ in range(2)]
    nets[0].fit(X, y, epochs=3, **QUIET)
    nets[1].fit(X, y, epochs=3, validation_data=[X[:7].tolist(), y[:7].tolist()], **QUIET)
    assert state(nets[0]) == state(nets[1])


# ---- The same bits


CONFIGURATIONS = {
    "small": ({"layer_sizes": (2, 20, 3)}, ("blobs", 70), {"batch_size": 8}),
    "sparse": ({"layer_sizes": (100, 130, 70, 10)}, ("digits", 300), {"batch_size": 32, "optimizer": AdamW(0.01)}),
    "dense": ({"layer_sizes": (100, 66, 10), "activation": "tanh"}, ("digits", 300, 100, 10, 1), {"batch_size": 100}),
    "momentum": ({"layer_sizes": (2, 20, 3)}, ("blobs", 70), {"batch_size": 70, "optimizer": SGD(0.05, 0.9, True)}),
}


@pytest.fixture(params=CONFIGURATIONS)
def configuration(request, blobs, digits):
    network, (kind, *arguments), options = CONFIGURATIONS[request.param]
    return network, {"blobs": blobs, "digits": digits}[kind](*arguments), options


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_second_fit_goes_on_exactly(configuration, shuffle, state):
    network, data, options = configuration
    whole, halves = MLP(**network), MLP(**network)
    history = whole.fit(*data, epochs=4, shuffle=shuffle, **options, **QUIET)
    first = halves.fit(*data, epochs=2, shuffle=shuffle, **options, **QUIET)
    assert state(halves) != state(whole)
    second = halves.fit(*data, epochs=2, shuffle=shuffle, **options, **QUIET)
    assert first.loss + second.loss == history.loss
    assert state(halves) == state(whole)


def test_the_optimizers_state_matters_to_a_second_fit(blobs):
    X, y = blobs(70)
    kept, fresh = MLP((2, 20, 3)), MLP((2, 20, 3))
    for net in (kept, fresh):
        net.fit(X, y, epochs=2, shuffle=False, **QUIET)
    fresh._state = None
    for net in (kept, fresh):
        net.fit(X, y, epochs=1, shuffle=False, **QUIET)
    assert not np.array_equal(kept.parameters, fresh.parameters)


@pytest.mark.parametrize(
    ("first", "second", "carries"),
    [
        (Adam(0.1), Adam(0.01), True),
        (Adam(0.01), AdamW(0.01, weight_decay=0.1), True),
        (SGD(0.1, 0.9), SGD(0.1, 0.5), True),
        (SGD(0.1, 0.9), Adam(0.01), False),
        (Adam(0.01), SGD(0.1), False),
    ],
)
def test_the_state_carries_on_within_one_kind_of_optimizer(first, second, carries, blobs):
    X, y = blobs(70)
    net = MLP((2, 20, 3))
    net.fit(X, y, epochs=2, batch_size=10, optimizer=first, shuffle=False, **QUIET)
    assert net._state.step == 14
    fresh = MLP((2, 20, 3))
    fresh.parameters[:] = net.parameters
    for trained in (net, fresh):
        trained.fit(X, y, epochs=1, batch_size=10, optimizer=second, shuffle=False, **QUIET)
    assert net._state.step == (21 if carries else 7)
    assert net._state.epoch == 3
    assert np.array_equal(net.parameters, fresh.parameters) != carries


def test_other_seeds_give_other_orders_and_the_same_seed_the_same(blobs, state):
    X, y = blobs(100)
    nets = [MLP((2, 20, 3), seed=seed) for seed in (0, 0, 1)]
    nets[2].parameters[:] = nets[0].parameters
    histories = [net.fit(X, y, epochs=2, batch_size=10, **QUIET) for net in nets]
    assert histories[0].loss == histories[1].loss
    assert state(nets[0]) == state(nets[1])
    assert histories[0].loss != histories[2].loss


@pytest.mark.parametrize("n_threads", [2, 3])
def test_the_same_bits_on_any_number_of_threads(monkeypatch, configuration, n_threads, state):
    monkeypatch.setattr(threads, "_WORTH_A_THREAD", 1e-15)
    assert threads.choose(n_threads, 1e-9) == (n_threads if OPENMP else 1)
    network, data, options = configuration
    one, several = MLP(**network, n_threads=1), MLP(**network, n_threads=n_threads)
    histories = [net.fit(*data, epochs=3, **options, **QUIET) for net in (one, several)]
    assert histories[0].loss == histories[1].loss
    assert state(one) == state(several)


# ---- Batches and weights


def test_a_batch_larger_than_the_data_is_the_data(blobs, state):
    X, y = blobs(30)
    nets = [MLP((2, 20, 3)) for _ in range(3)]
    for net, batch_size in zip(nets, (30, 31, 10**30), strict=True):
        net.fit(X, y, epochs=3, batch_size=batch_size, **QUIET)
        assert net._state.step == 3
        assert state(net) == state(nets[0])


def test_without_shuffle_the_rows_come_in_order(blobs):
    X, y = blobs(40)
    nets = [MLP((2, 20, 3)) for _ in range(2)]
    order = np.random.default_rng(0).permutation(40)
    losses = [
        nets[0].fit(X, y, epochs=1, batch_size=10, shuffle=False, **QUIET).loss,
        nets[1].fit(X[order], y[order], epochs=1, batch_size=10, shuffle=False, **QUIET).loss,
    ]
    assert losses[0] != losses[1]


@pytest.mark.parametrize("loss", LOSSES)
def test_a_weight_of_two_is_a_row_twice(assert_close, loss, blobs):
    X, y = blobs(20)
    y, m = targets_of(loss, y, 3)
    weights = np.where(np.arange(20) % 3, 1, 2)
    nets = [MLP((2, 16, m), activation="tanh", loss=loss) for _ in range(2)]
    options = {"epochs": 10, "optimizer": SGD(0.1), "shuffle": False, **QUIET}
    histories = [
        nets[0].fit(X, y, sample_weight=weights, **options),
        nets[1].fit(np.repeat(X, weights, axis=0), np.repeat(y, weights, axis=0), **options),
    ]
    assert_close(histories[0].loss, histories[1].loss, "cost", 10 * 27)
    assert_close(nets[0].parameters, nets[1].parameters, "steps", 10 * 27)


def test_a_weight_of_zero_leaves_a_row_out(assert_close, blobs):
    X, y = blobs(30)
    keep = np.arange(30) % 4 != 0
    nets = [MLP((2, 16, 3), activation="tanh") for _ in range(2)]
    options = {"epochs": 10, "optimizer": SGD(0.1), "shuffle": False, **QUIET}
    histories = [
        nets[0].fit(X, y, sample_weight=keep, **options),
        nets[1].fit(X[keep], y[keep], **options),
    ]
    assert_close(histories[0].loss, histories[1].loss, "cost", 10 * 30)
    assert_close(nets[0].parameters, nets[1].parameters, "steps", 10 * 30)


def test_only_the_proportions_of_weights_count(assert_close, blobs):
    X, y = blobs(30)
    weights = np.random.default_rng(0).random(30)
    nets = [MLP((2, 16, 3), activation="tanh") for _ in range(3)]
    for net, scale in zip(nets, (1, 1e30, 1e-30), strict=True):
        net.fit(X, y, epochs=5, sample_weight=scale * weights, optimizer=SGD(0.1), shuffle=False, **QUIET)
    for net in nets[1:]:
        assert_close(net.parameters, nets[0].parameters, "steps", 5 * 30)


def test_a_batch_without_weight_costs_nothing_and_teaches_nothing(blobs):
    X, y = blobs(20)
    weights = np.repeat([1.0, 0.0], 10)
    nets = [MLP((2, 16, 3)) for _ in range(2)]
    options = {"epochs": 1, "batch_size": 10, "optimizer": SGD(0.1), "shuffle": False, **QUIET}
    half = nets[0].fit(X, y, sample_weight=weights, **options)
    whole = nets[1].fit(X[:10], y[:10], **options)
    assert half.loss[0] == whole.loss[0] / 2
    np.testing.assert_array_equal(nets[0].parameters, nets[1].parameters)


# ---- Any form of the same numbers


def test_the_form_of_the_arrays_does_not_matter(blobs, state):
    X, y = blobs(50)
    X = np.round(X)
    forms = {
        "float32": (X, y),
        "float64": (X.astype(np.float64), y.astype(np.uint8)),
        "integers": (X.astype(int), y.astype(np.int32)),
        "lists": (X.tolist(), y.tolist()),
        "Fortran": (np.asfortranarray(X), y[::-1][::-1]),
        "slices": (np.repeat(X, 3, axis=0)[::3], np.repeat(y, 2)[::2]),
    }
    nets = {form: MLP((2, 20, 3)) for form in forms}
    for form, net in nets.items():
        net.fit(*forms[form], epochs=2, batch_size=8, **QUIET)
        assert state(net) == state(nets["float32"]), form


@pytest.mark.parametrize("loss", ["binary_cross_entropy", "squared_error"])
def test_a_column_and_a_list_of_targets_are_the_same_for_one_output(loss, blobs, state):
    X, y = blobs(50, m=2)
    nets = [MLP((2, 20, 1), loss=loss) for _ in range(2)]
    for net, targets in zip(nets, (y, y[:, np.newaxis]), strict=True):
        net.fit(X, targets, epochs=2, batch_size=8, **QUIET)
    assert state(nets[0]) == state(nets[1])


def test_the_arrays_may_be_read_only_and_stay_as_they_are(digits):
    X, y = digits(60)
    weights = np.ones(60, np.float32)
    given = X, y, weights, X[:9].copy(), y[:9].copy()
    copies = [array.copy() for array in given]
    for array in given:
        array.flags.writeable = False
    MLP((100, 70, 10)).fit(X, y, epochs=2, batch_size=7, sample_weight=weights, validation_data=given[3:], **QUIET)
    for array, copy in zip(given, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("density", [0.19, 0.6, 1.0])  # of MNIST, of masked rows, of rows without zeros
@pytest.mark.parametrize("batch_size", [100, 8000])
def test_memory(dtype, density, batch_size):
    X = np.random.default_rng(0).random((8000, 784), np.float32)
    X *= density > X
    y, size = np.arange(len(X)) % 10, X.nbytes
    X = X.astype(dtype)
    net = MLP((784, 64, 10))
    net.fit(X[:500], y[:500], epochs=1, **QUIET)  # what is loaded on first use is no part of it
    tracemalloc.start()
    try:
        net.fit(X, y, epochs=1, batch_size=batch_size, **QUIET)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.5 * size + (8 if batch_size == 100 else 64) * 2**20  # with the buffers of a batch
    if dtype == np.float32 and density == 1 and batch_size == 100:
        assert peak < 0.1 * size  # such rows are read where they are
    assert peak > 100_000  # NumPy's arrays are traced, else this measured nothing


def test_labels_that_change_while_they_are_learned(blobs):
    """The engine writes where a label points: it must not follow one that was not checked."""
    X, y = blobs(400)
    nets = [MLP((2, 20, 3)) for _ in range(2)]
    kept = y.copy()

    class Spoil(Callback):
        def on_batches(self, progress):
            y[:] = 10**12

    histories = [
        nets[0].fit(X, y, epochs=3, batch_size=8, callbacks=[Spoil()], **QUIET),
        nets[1].fit(X, kept, epochs=3, batch_size=8, **QUIET),
    ]
    assert histories[0].loss == histories[1].loss
    assert (y == 10**12).all()


# ---- Beside other libraries


def test_steps_are_those_of_scikit_learn(blobs):
    sklearn = pytest.importorskip("sklearn.neural_network", reason="compares with scikit-learn")
    X, y = blobs(40)
    peer = sklearn.MLPClassifier(
        (20,),
        activation="tanh",
        solver="sgd",
        alpha=0,
        learning_rate_init=0.1,
        momentum=0,
        batch_size=40,
        random_state=0,
    )
    peer.partial_fit(X, y, classes=[0, 1, 2])
    net = MLP((2, 20, 3), activation="tanh")
    for ours, theirs in zip([*net.weights, *net.biases], [*peer.coefs_, *peer.intercepts_], strict=True):
        ours[...] = theirs
    np.testing.assert_allclose(net.predict_proba(X), peer.predict_proba(X), atol=1e-6)
    for _ in range(5):
        peer.partial_fit(X, y)
        history = net.fit(X, y, epochs=1, batch_size=40, optimizer=SGD(0.1), **QUIET)
        assert history.loss[0] == pytest.approx(peer.loss_, rel=1e-5)
    np.testing.assert_allclose(net.predict_proba(X), peer.predict_proba(X), atol=1e-5)
