"""What a run leaves in the network: parameters and state of one moment, whenever Ctrl-C comes."""

import copy
import linecache
import os
import pickle
import re
import signal
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

import fastmlp
from fastmlp import MLP, SGD, Adam, DivergenceError, threads
from fastmlp import training as package
from fastmlp.callbacks import Callback
from fastmlp.training import loop
from fastmlp.training.jobs import _RUNNING
from fastmlp.training.loop import orders
from fastmlp.training.state import commit

X = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
Y = (X.sum(axis=1) > 0).astype(int)
QUIET = {"verbose": False}
SOURCES = os.path.dirname(package.__file__)


def fit(net, X=X, Y=Y, **options):
    return net.fit(X, Y, **{"epochs": 2, "batch_size": 10, "optimizer": Adam(0.1), "verbose": False, **options})


@pytest.fixture(scope="module")
def moments(state):
    """Every state between two batches of two epochs, and how many batches led to it."""
    states = {state(MLP((4, 6, 2))): 0}
    for epochs in (0, 1):
        net = MLP((4, 6, 2))
        if epochs:
            fit(net, epochs=epochs)
        first_batch = next(orders(20, net.seed, epochs, shuffle=True))[:10]
        whole = copy.deepcopy(net)
        fit(net, X[first_batch], Y[first_batch], epochs=1, shuffle=False)
        net._state = net._state._replace(epoch=epochs)
        fit(whole, epochs=1)
        states |= {state(net): 2 * epochs + 1, state(whole): 2 * epochs + 2}
    assert sorted(states.values()) == [0, 1, 2, 3, 4]
    return states


class Interrupt(Callback):
    """Ctrl-C when some batches are done, as far as slices allow; and how many of the epoch were done by then."""

    def __init__(self, batches):
        self.batches = batches

    def on_batches(self, progress):
        if len(progress.history.loss) * progress.n_batches + progress.batch >= self.batches:
            self.batches, self.batch = 1 << 60, progress.batch
            signal.raise_signal(signal.SIGINT)


def test_callbacks_see_the_state_between_two_batches(moments, state):
    seen = []

    class Look(Callback):
        def on_batches(self, progress):
            seen.append((len(progress.history.loss) * progress.n_batches + progress.batch, state(progress.network)))

    fit(MLP((4, 6, 2)), callbacks=[Look()])
    assert [moments[bytes_] for _, bytes_ in seen] == [batches for batches, _ in seen]
    assert len(seen) > 1


class Lines:
    """Raises KeyboardInterrupt in place of one line of the training loop, counted from when it is called."""

    def __init__(self, line):
        self.line = line

    def __call__(self, frame, event, argument):
        if not frame.f_code.co_filename.startswith(SOURCES):
            return None
        # fit's last line has no call, so that no signal is handled there.
        if event == "line" and "_RUNNING[key]" not in linecache.getline(frame.f_code.co_filename, frame.f_lineno):
            self.line -= 1
            if self.line < 0:
                raise KeyboardInterrupt
        return self

    def fit(self, net, callbacks):
        """Whether the interrupt came before the end of the call."""
        tracing = sys.gettrace()
        sys.settrace(self)
        try:
            fit(net, callbacks=callbacks)
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(tracing)
        return False


@pytest.mark.slow
@pytest.mark.parametrize("first", [None, 1, 2, 3, 4, 5])
def test_ctrl_c_at_any_line_leaves_the_state_of_one_moment(moments, first, state):
    """Once, or a second time while the first one is answered; `first` is the batch after which that came (5: never)."""
    reached = set()
    for line in range(10**6):
        net = MLP((4, 6, 2))
        lines = Lines(line)
        Lines.fit(lines, net, [] if first is None else [Interrupt(first)])
        assert state(net) in moments, line
        assert not _RUNNING
        reached.add(moments[state(net)])
        if lines.line >= 0:  # the call ended before
            break
    assert line > 30
    assert len(reached) > 1
    assert first is None or min(reached) <= first


def test_an_epoch_is_counted_when_its_last_batch_is_done(state):
    class AtTheEnd(Callback):
        def on_batches(self, progress):
            if progress.batch == progress.n_batches:
                raise KeyboardInterrupt

    net, whole = MLP((4, 6, 2)), MLP((4, 6, 2))
    with pytest.raises(KeyboardInterrupt):
        fit(net, callbacks=[AtTheEnd()])
    fit(whole, epochs=1)
    assert net._state.epoch == 1
    assert state(net) == state(whole)


def test_a_pickle_or_a_copy_that_was_taken_stays_as_it_is(state):
    net = MLP((4, 6, 2))
    fit(net)
    kept = state(net)
    copies = [copy.copy(net), copy.deepcopy(net), pickle.loads(pickle.dumps(net))]
    fit(net)
    assert [state(each) for each in copies] == [kept] * 3
    assert state(net) != kept


def test_what_pickle_is_given_is_of_one_moment():
    net = MLP((4, 6, 2))
    fit(net)
    given = net.__getstate__()
    fit(net)
    assert given["_state"].epoch == net._state.epoch - 2
    own, others = (net.parameters, *net._state.moments), (given["_values"], *given["_state"].moments)
    for mine, its in zip(own, others, strict=True):
        assert not np.shares_memory(mine, its)
        assert (mine != its).any()


MEMORY = """
import sys, tracemalloc
import numpy as np, scipy.sparse, fastmlp
class Watch(fastmlp.callbacks.Callback):
    def on_batches(self, progress): pass
X = scipy.sparse.random(200, 50_000, 0.001, format="csr", dtype=np.float32, random_state=0)
net = fastmlp.MLP((50_000, 64, 2))
tracemalloc.start()
net.fit(X, np.arange(200) % 2, epochs=2, batch_size=10, callbacks=[Watch()] * int(sys.argv[1]), verbose=False)
print(tracemalloc.get_traced_memory()[1] / net.parameters.nbytes)
"""


@pytest.mark.slow
def test_training_takes_memory_of_five_times_the_parameters(run_python):
    # The engine's own and its two moments, and the network's two moments; callbacks that may write have it keep more.
    plain, watched = (float(run_python(["-c", MEMORY, str(n)]).stdout) for n in (0, 1))
    assert 5 < plain < 5.5
    assert watched > 6


def test_a_commit_that_fails_changes_nothing(state):
    net, other = MLP((4, 6, 2)), MLP((4, 6, 2), seed=1)
    fit(other)
    before = state(net)
    net.parameters.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        commit(net, other.parameters, other._state)
    assert state(net) == before


# ---- Divergence


def test_divergence_keeps_the_last_finite_epoch(blobs, state):
    X, y = blobs(60)
    options = {"batch_size": 10, "shuffle": True, **QUIET}
    net, steady = MLP((2, 20, 3), loss="squared_error"), MLP((2, 20, 3), loss="squared_error")
    y = np.eye(3)[y]
    for each in (net, steady):
        each.fit(X, y, epochs=2, optimizer=SGD(0.01, 0.9), **options)
    kept = state(net)
    with pytest.raises(DivergenceError, match=r"diverged in epoch 3: its loss is (nan|inf), .* learning_rate"):
        net.fit(X, y, epochs=5, optimizer=SGD(1e10, 0.9), **options)
    assert state(net) == kept
    assert np.isfinite(net.predict(X)).all()
    histories = [each.fit(X, y, epochs=2, optimizer=SGD(0.01, 0.9), **options).loss for each in (net, steady)]
    assert histories[0] == histories[1]
    assert state(net) == state(steady)


def test_divergence_is_noticed_within_the_epoch():
    net = MLP((1, 1), loss="squared_error")
    X = np.ones((100_000, 1), np.float32)
    with pytest.raises(DivergenceError, match=r"in epoch 1: its loss is (nan|inf), by batch \d+ of 100000,") as raised:
        net.fit(X, X, epochs=1, batch_size=1, optimizer=SGD(1e10), **QUIET)
    assert int(re.search(r"by batch (\d+)", str(raised.value))[1]) < 100_000


def test_divergence_with_another_optimizer_keeps_the_first_ones_state(blobs, state):
    X, y = blobs(60)
    net = MLP((2, 20, 3), loss="squared_error")
    net.fit(X, np.eye(3)[y], epochs=2, optimizer=Adam(), **QUIET)
    kept = state(net)
    with pytest.raises(DivergenceError):
        net.fit(X, np.eye(3)[y], epochs=5, batch_size=10, optimizer=SGD(1e20), **QUIET)
    assert state(net) == kept


def test_divergence_in_a_later_epoch_keeps_the_earlier_ones(state):
    # One weight, which each of ten batches an epoch multiplies by 1 - 17: 1e12 an epoch, beyond float32 in the second
    # (the loss is its square).
    X, y = np.ones((10, 1)), np.zeros(10)
    nets = [MLP((1, 1), loss="squared_error", seed=1) for _ in range(2)]
    for net in nets:
        net.biases[0][:] = 0
    options = {"batch_size": 1, "optimizer": SGD(8.5), **QUIET}
    nets[0].fit(X, y, epochs=1, **options)
    with pytest.raises(DivergenceError, match="in epoch 2"):
        nets[1].fit(X, y, epochs=3, **options)
    assert state(nets[0]) == state(nets[1])


@pytest.mark.filterwarnings("ignore:y is unscaled")
def test_a_cost_that_overflows_is_a_divergence():
    net = MLP((1, 1), loss="squared_error")
    before = net.parameters.copy()
    with pytest.raises(DivergenceError, match="its loss is inf"):
        net.fit([[1.0]], [1e30], epochs=1, optimizer=SGD(1e-20), **QUIET)
    np.testing.assert_array_equal(net.parameters, before)
    assert net._state is None


# ---- Ctrl-C


def after(net, X, y, *, epochs, batches, batch_size):
    """The network trained for so many whole epochs and batches, the way fit visits the rows."""
    if epochs:
        net.fit(X, y, epochs=epochs, batch_size=batch_size, **QUIET)
    rows = next(orders(len(X), net.seed, epochs, shuffle=True))[: batches * batch_size]
    net.fit(X[rows], y[rows], epochs=1, batch_size=batch_size, shuffle=False, **QUIET)
    return net


@pytest.mark.parametrize("epoch", [0, 2])
@pytest.mark.parametrize("batches", [1, 5])
@pytest.mark.parametrize("n_threads", [1, 2])
def test_an_interrupt_leaves_the_last_whole_batch(monkeypatch, tmp_path, blobs, state, *, epoch, batches, n_threads):
    monkeypatch.setattr(threads, "_WORTH_A_THREAD", 1e-15)
    X, y = blobs(400)
    net, interrupt = MLP((2, 20, 3), n_threads=n_threads), Interrupt(50 * epoch + batches)
    with pytest.raises(KeyboardInterrupt):
        net.fit(X, y, epochs=4, batch_size=8, callbacks=[interrupt], **QUIET)
    twin = after(MLP((2, 20, 3)), X, y, epochs=epoch, batches=interrupt.batch, batch_size=8)
    np.testing.assert_array_equal(net.parameters, twin.parameters)
    np.testing.assert_array_equal(net._state.moments, twin._state.moments)
    assert net._state.step == twin._state.step == epoch * 50 + interrupt.batch
    assert net._state.epoch == epoch + (interrupt.batch == 50)

    # It can be used, saved and trained further
    np.testing.assert_array_equal(net.predict(X), twin.predict(X))
    net.save(tmp_path / "net")
    np.testing.assert_array_equal(fastmlp.load(tmp_path / "net").parameters, net.parameters)
    twin._state = twin._state._replace(epoch=net._state.epoch)  # an epoch that was cut short is not counted
    histories = [each.fit(X, y, epochs=2, batch_size=8, **QUIET).loss for each in (net, twin)]
    assert histories[0] == histories[1]
    assert state(net) == state(twin)


@pytest.mark.parametrize("occasion", ["on_fit_begin", "on_epoch_end", "on_fit_end"])
def test_an_interrupt_between_epochs(occasion, blobs, state):
    X, y = blobs(60)

    def interrupt(progress):
        raise KeyboardInterrupt

    callback = Callback()
    setattr(callback, occasion, interrupt)
    net, whole = MLP((2, 20, 3)), MLP((2, 20, 3))
    with pytest.raises(KeyboardInterrupt):
        net.fit(X, y, epochs=1, callbacks=[callback], **QUIET)
    if occasion != "on_fit_begin":
        whole.fit(X, y, epochs=1, **QUIET)
    assert state(net) == state(whole)


@pytest.fixture
def interrupt_at_the_clock(monkeypatch):
    """Return interrupt_at_the_clock(n): Ctrl-C comes at the loop's nth look at the time, before or after a slice."""
    clock, calls = time.perf_counter, []

    def patch(n):
        def interrupted():
            calls.append(1)
            if len(calls) == n:
                raise KeyboardInterrupt
            return clock()

        monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=interrupted))

    return patch


def test_an_interrupt_before_the_first_batch_of_an_epoch(interrupt_at_the_clock, blobs, state):
    """Between the start of an epoch and its first batch there is no cost yet."""
    X, y = blobs(60)
    net, twin = MLP((2, 20, 3)), MLP((2, 20, 3))
    twin.fit(X, y, epochs=1, **QUIET)
    interrupt_at_the_clock(7)
    with pytest.raises(KeyboardInterrupt):
        net.fit(X, y, epochs=3, **QUIET)
    assert state(net) == state(twin)


def test_an_interrupt_of_a_training_that_diverged(interrupt_at_the_clock, blobs, state):
    X, y = blobs(400)
    net = MLP((2, 20, 3), loss="squared_error")
    net.fit(X, np.eye(3)[y], epochs=1, optimizer=SGD(0.01), **QUIET)
    kept = state(net)
    interrupt_at_the_clock(4)
    with pytest.raises(KeyboardInterrupt):
        net.fit(X, 100 * np.eye(3)[y], epochs=1, batch_size=400, optimizer=SGD(1e38), **QUIET)
    assert state(net) == kept


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer that sends a signal")
@pytest.mark.parametrize("n_threads", [1, 2])
def test_a_signal(monkeypatch, n_threads, digits):
    monkeypatch.setattr(threads, "_WORTH_A_THREAD", 1e-15)
    X, y = digits(5000)
    net = MLP((100, 64, 10), n_threads=n_threads)
    seen = []

    class Progress(Callback):
        def on_batches(self, progress):
            seen.append((len(progress.history.loss), progress.batch))

    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(KeyboardInterrupt):
            net.fit(X, y, epochs=10**6, batch_size=100, callbacks=[Progress()], **QUIET)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(seen) > 1
    # The signal may come before a slice is seen, or after: the network is at the last slice seen or one later.
    epoch, batch = seen[-1]
    assert net._state.step >= epoch * 50 + batch
    assert np.isfinite(net.parameters).all()
    accuracy = net.evaluate(X, y)["accuracy"]
    assert accuracy > 0.1
    history = net.fit(X, y, epochs=1, **QUIET)
    assert np.isfinite(history.loss[0])
