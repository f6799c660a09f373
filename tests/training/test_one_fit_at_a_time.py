"""What fit asks for before it trains."""

import copy
import os
import pickle
import threading

import numpy as np
import pytest

from fastmlp import MLP
from fastmlp.callbacks import Callback
from fastmlp.training.jobs import _RUNNING

X, Y = np.eye(4, dtype=np.float32), np.arange(4) % 2
RUNNING = "fit is already running on this network"


def fit(net, **options):
    return net.fit(X, Y, **{"epochs": 2, "verbose": False, **options})


def test_read_only_parameters_are_refused_before_training():
    net = MLP((4, 2))
    net.parameters.flags.writeable = False
    with pytest.raises(ValueError, match="parameters of the network must be writable"):
        fit(net, epochs=10**9)
    assert net._state is None
    assert fit(copy.deepcopy(net)).loss  # as the message says


# ---- One fit at a time


class During(Callback):
    """Does something after the first epoch."""

    def __init__(self, action):
        self.action = action

    def on_epoch_end(self, progress):
        if len(progress.history.loss) == 1:
            self.action(progress.network)


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_second_fit_on_a_network_is_refused_and_the_first_one_unharmed(elsewhere):
    def second(net):
        with pytest.raises(RuntimeError, match=RUNNING):
            fit(net)
        refused.append(net)

    def beside(net):
        thread = threading.Thread(target=second, args=[net])
        thread.start()
        thread.join()

    refused, net, alone = [], MLP((4, 2)), MLP((4, 2))
    assert fit(net, callbacks=[During(beside if elsewhere else second)]).loss == fit(alone).loss
    assert refused == [net]
    assert pickle.dumps([net.parameters, net._state]) == pickle.dumps([alone.parameters, alone._state])
    fit(net)


def test_other_networks_may_be_fitted_meanwhile():
    copies = []

    def others(net):
        for other in (MLP((4, 2)), copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
            copies.append(fit(other))

    fit(MLP((4, 2)), callbacks=[During(others)])
    assert len(copies) == 3


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, SystemExit])
def test_a_fit_that_fails_is_over(error):
    def fail(net):
        raise error

    net = MLP((4, 2))
    with pytest.raises(error):
        fit(net, callbacks=[During(fail)])
    with pytest.raises(ValueError, match="X"):
        net.fit(np.full((4, 4), np.nan), Y, verbose=False)
    assert not _RUNNING
    fit(net)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_forked_during_a_fit_may_fit(run_python):
    program = """
import os, threading, warnings
import numpy as np, fastmlp

class Fork(fastmlp.callbacks.Callback):
    def on_epoch_end(self, progress):
        begun.set()
        forked.wait()

warnings.simplefilter("ignore", DeprecationWarning)  # of forking where there are threads
begun, forked, net = threading.Event(), threading.Event(), fastmlp.MLP((4, 2))
options = {"epochs": 1, "verbose": False}
thread = threading.Thread(target=net.fit, args=(np.eye(4), [0, 1, 0, 1]), kwargs={"callbacks": [Fork()], **options})
thread.start()
begun.wait()
child = os.fork()
if not child:
    net.fit(np.eye(4), [0, 1, 0, 1], **options)
    os._exit(net._state.epoch)
forked.set()
thread.join()
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert run_python(program).stdout == "2\n"
