"""The loop: the order of the rows, and that what callbacks write holds."""

import pickle
from itertools import islice

import numpy as np
import pytest
from scipy import stats

from fastmlp import MLP, SGD, Adam, DivergenceError
from fastmlp.callbacks import Callback, ProgressBar
from fastmlp.training.loop import orders

X = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
Y = (X.sum(axis=1) > 0).astype(int)
OPTIMIZERS = [SGD(0.1), SGD(0.1, 0.9), SGD(0.1, 0.9, nesterov=True), Adam(0.01)]


def network():
    return MLP((4, 6, 2), activation="tanh")


def fit(net, optimizer, **options):
    return net.fit(X, Y, **{"epochs": 2, "batch_size": 10, "optimizer": optimizer, "verbose": False, **options})


def copy(optimizer):
    return pickle.loads(pickle.dumps(optimizer))


class Once(Callback):
    """Does something at the first of these occasions; of slices, at the one that ends an epoch."""

    def __init__(self, occasion, action):
        def act(progress):
            if not self.done and (occasion != "on_batches" or progress.batch == progress.n_batches):
                self.done = True
                action(progress.network)

        self.done = False
        setattr(self, occasion, act)


def halve(net):
    net.parameters[:] *= 0.5


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
@pytest.mark.parametrize("occasion", ["on_fit_begin", "on_batches", "on_epoch_end"])
def test_what_a_callback_writes_to_the_parameters_holds(occasion, optimizer, state):
    net, by_hand = network(), network()
    history = fit(net, optimizer, callbacks=[Once(occasion, halve)])
    if occasion == "on_fit_begin":
        halve(by_hand)
        losses = fit(by_hand, optimizer).loss
    else:
        losses = fit(by_hand, optimizer, epochs=1).loss
        halve(by_hand)
        losses += fit(by_hand, optimizer, epochs=1).loss
    assert history.loss == losses
    assert state(net) == state(by_hand)


CHANGES = {"learning_rate": 1e-3, "momentum": 0.5, "nesterov": True, "beta_1": 0.5}


@pytest.mark.parametrize("occasion", ["on_batches", "on_epoch_end"])
@pytest.mark.parametrize(
    ("optimizer", "name"), [(each, name) for each in OPTIMIZERS for name in CHANGES if hasattr(each, name)], ids=repr
)
def test_what_a_callback_changes_about_the_optimizer_holds(optimizer, name, occasion, state):
    value = CHANGES[name]
    changed, constant, by_hand = copy(optimizer), copy(optimizer), copy(optimizer)
    nets = [network() for _ in range(3)]
    fit(nets[0], changed, callbacks=[Once(occasion, lambda net: setattr(changed, name, value))])
    fit(nets[1], constant)
    fit(nets[2], by_hand, epochs=1)
    setattr(by_hand, name, value)
    fit(nets[2], by_hand, epochs=1)
    assert state(nets[0]) == state(nets[2])
    if getattr(optimizer, name) != value and (name != "nesterov" or optimizer.momentum):
        assert not np.array_equal(nets[0].parameters, nets[1].parameters)


def test_a_rate_that_changes_within_an_epoch_holds_from_the_next_slice():
    seen, optimizer = [], SGD(0.1)

    class Stop(Callback):
        def on_batches(self, progress):
            optimizer.learning_rate = 1e-30
            seen.append(progress.network.parameters.copy())

    net = network()
    fit(net, optimizer, epochs=1, batch_size=1, callbacks=[Stop()])
    assert len(seen) > 1
    np.testing.assert_array_equal(seen[0], net.parameters)
    assert not np.array_equal(seen[0], network().parameters)


@pytest.mark.parametrize("occasion", ["on_batches", "on_epoch_end"])
def test_stop_ends_training_after_the_batch_at_hand(occasion):
    """What is done of an epoch is kept, which a callback's exception would undo."""

    class Stop(Callback):
        def stop(self, progress):
            done.append(progress.network._state.step)
            progress.stop = len(done) == 2

    done, stop = [], Stop()
    setattr(stop, occasion, stop.stop)
    net, other = network(), network()
    history = fit(net, SGD(0.1), epochs=9, batch_size=1, callbacks=[stop])
    whole, rest = divmod(done[-1], 40)
    assert len(done) == 2
    assert history == net.history
    assert len(history.loss) == len(history.learning_rate) == len(history.seconds) == whole
    assert (net._state.step, net._state.epoch) == (done[-1], whole)
    for epoch in range(whole + 1):
        order = next(orders(40, 0, epoch, shuffle=True))[: 40 if epoch < whole else rest]
        if len(order):
            other.fit(X[order], Y[order], epochs=1, batch_size=1, optimizer=SGD(0.1), shuffle=False, verbose=False)
    np.testing.assert_array_equal(net.parameters, other.parameters)


def test_stop_before_the_first_batch(state):
    class Stop(Callback):
        def on_fit_begin(self, progress):
            progress.stop = True

    net = network()
    assert fit(net, SGD(0.1), callbacks=[Stop()]) == {"loss": [], "learning_rate": [], "seconds": []}
    assert state(net) == state(network())


def test_stop_as_an_epoch_begins_records_none():
    """As another thread may set it: that of `fit_many` which hears of Ctrl-C."""

    class Notes(Callback):
        def on_fit_begin(self, progress):
            begun.append(progress)

    def rate(step, n_steps):
        for progress in begun:
            progress.stop = step >= 2 * n_steps // 3
        return 0.1

    begun, net = [], network()
    history = fit(net, SGD(rate), epochs=3, callbacks=[Notes()])
    assert len(history.loss) == net._state.epoch == 2


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("occasion", ["on_fit_begin", "on_batches", "on_epoch_end"])
def test_what_is_not_finite_is_refused_and_taken_back(occasion, value, state):
    def spoil(net):
        net.parameters[3] = value

    net, alone = network(), network()
    with pytest.raises(ValueError, match="parameters of the network must be finite; a callback wrote NaN or infinity"):
        fit(net, SGD(0.1), callbacks=[Once(occasion, spoil)])
    if occasion == "on_epoch_end":
        fit(alone, SGD(0.1), epochs=1)
    assert state(net) == state(alone)


def test_a_callback_that_only_looks_changes_no_bit(state):
    class Look(Callback):
        def on_batches(self, progress):
            progress.network.predict(X)

    nets = [network() for _ in range(3)]
    for net, callbacks in zip(nets, ([], [Look()], [ProgressBar()]), strict=True):
        fit(net, Adam(0.01), callbacks=callbacks)
        assert state(net) == state(nets[0])


def test_callbacks_do_not_see_parameters_that_diverged():
    seen = []

    class Look(Callback):
        def on_batches(self, progress):
            seen.append(progress.network.parameters.copy())

    net = MLP((4, 2), loss="squared_error")
    first = net.parameters.copy()
    with pytest.raises(DivergenceError):  # the first batch costs little, and its step makes the parameters infinite
        net.fit(X, 100 * np.eye(2)[Y], epochs=1, batch_size=10, optimizer=SGD(1e38), callbacks=[Look()], verbose=False)
    np.testing.assert_array_equal(seen, [first])


# ---- Orders


def order(n, seed, epoch):
    return next(orders(n, seed, epoch, shuffle=True))


def test_orders():
    drawn = [order(1000, seed, epoch) for seed, epoch in [(0, 0), (0, 1), (1, 0), (2**64 - 1, 10**6)]]
    for i, rows in enumerate(drawn):
        np.testing.assert_array_equal(np.sort(rows), np.arange(1000))
        for other in drawn[:i]:
            assert np.sum(rows == other) < 20  # as many rows stay in place by chance: 1 on average
    np.testing.assert_array_equal(order(1000, 0, 1), drawn[1])
    later = islice(orders(1000, 0, 0, shuffle=True), 1, None)
    np.testing.assert_array_equal(next(later), drawn[1])
    np.testing.assert_array_equal(next(later), order(1000, 0, 2))
    np.testing.assert_array_equal(next(orders(1000, 0, 0, shuffle=False)), np.arange(1000))


@pytest.mark.slow
@pytest.mark.parametrize("n", [4, 10, 1500])
def test_every_row_is_as_likely_in_every_place(n):
    drawn = np.array([rows.copy() for rows in islice(orders(n, 3, 0, shuffle=True), 20 * n)])
    for place in (0, 1, n // 2, n - 1):
        assert stats.chisquare(np.bincount(drawn[:, place], minlength=n)).pvalue > 1e-4
    steps = (drawn[:, 1] - drawn[:, 0]) % n
    assert stats.chisquare(np.bincount(steps, minlength=n)[1:]).pvalue > 1e-4
