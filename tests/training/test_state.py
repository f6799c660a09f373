"""What a run leaves in the network: parameters and state of one moment, whenever Ctrl-C comes."""

import copy
import linecache
import os
import pickle
import sys

import numpy as np
import pytest

from fastmlp import MLP, Adam
from fastmlp import training as package
from fastmlp.callbacks import Callback
from fastmlp.training import _RUNNING
from fastmlp.training.loop import orders
from fastmlp.training.state import commit

X = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
Y = (X.sum(axis=1) > 0).astype(int)
SOURCES = os.path.dirname(package.__file__)


def fit(net, X=X, Y=Y, **options):
    return net.fit(X, Y, **{"epochs": 2, "batch_size": 10, "optimizer": Adam(0.1), "verbose": False, **options})


def state(net):
    """Everything that training changes, as bytes."""
    return pickle.dumps([net.parameters, net._state])


@pytest.fixture(scope="module")
def moments():
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
    """Ctrl-C at the first occasion after some batches."""

    def __init__(self, batches):
        self.batches = batches

    def on_batches(self, progress):
        if len(progress.history.loss) * progress.n_batches + progress.batch >= self.batches:
            self.batches = 1 << 60
            raise KeyboardInterrupt


def test_callbacks_see_the_state_between_two_batches(moments):
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


@pytest.mark.parametrize("first", [None, 1, 2, 3, 4, 5])
def test_ctrl_c_at_any_line_leaves_the_state_of_one_moment(moments, first):
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


def test_an_epoch_is_counted_when_its_last_batch_is_done():
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


def test_a_state_that_was_taken_stays_as_it_is():
    net = MLP((4, 6, 2))
    fit(net)
    taken, kept = net._state, copy.deepcopy(net._state)
    fit(net)
    assert pickle.dumps(taken) == pickle.dumps(kept) != pickle.dumps(net._state)


def test_a_commit_that_fails_changes_nothing():
    net, other = MLP((4, 6, 2)), MLP((4, 6, 2), seed=1)
    fit(other)
    before = state(net)
    net.parameters.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        commit(net, other.parameters, other._state)
    assert state(net) == before
