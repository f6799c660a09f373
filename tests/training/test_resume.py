"""A run that goes on from a checkpoint comes to the same bits as one that was never stopped."""

import copy
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

import fastmlp
from fastmlp import MLP, SGD, Adam, AdamW, FileFormatError, threads
from fastmlp.callbacks import Callback, Checkpoint, CSVLog, EarlyStopping, ReduceOnPlateau, TimeLimit
from fastmlp.schedules import OneCycle

X = np.random.default_rng(0).normal(size=(103, 5)).astype(np.float32)
Y = np.random.default_rng(1).integers(0, 3, 103)  # nothing to be learned: validation is soon at its best
RUN = {"batch_size": 10, "validation_data": (X[80:], Y[80:]), "verbose": False}


class Stop(Exception):  # noqa: N818
    pass


class StopAt(Callback):
    def __init__(self, epoch, occasion="on_epoch_end"):
        def stop(progress):
            if len(progress.history.loss) == epoch:
                raise Stop

        setattr(self, occasion, stop)


class Counter(Callback):
    """Has a state, as a user writes it."""

    def __init__(self):
        self.count = 0

    def on_epoch_end(self, progress):
        self.count += 1
        progress.network.parameters[0] = self.count

    def get_state(self):
        return {"count": self.count, "array": np.full(3, self.count, np.float64)}

    def set_state(self, state):
        self.count = state["count"]
        np.testing.assert_array_equal(state["array"], np.full(3, self.count))


def fit(net, path=None, **options):
    callbacks = [*options.pop("callbacks", []), *([Checkpoint(path, every=2)] if path else [])]
    return net.fit(X[:80], Y[:80], **{"epochs": 9, **RUN, "callbacks": callbacks, "resume": path, **options})


def network(n_threads=1, **options):
    return MLP((5, 70, 3), n_threads=n_threads, **options)


JOBS = {
    "adam": lambda: {"optimizer": Adam(0.01)},
    "momentum": lambda: {"optimizer": SGD(0.1, 0.9, nesterov=True, clip_norm=0.5), "shuffle": False},
    "schedule": lambda: {"optimizer": AdamW(OneCycle(0.05, warmup=3))},
    "function": lambda: {"optimizer": AdamW(lambda step, n: 0.1 / (1 + step) + 0.1 / n)},
    "weights": lambda: {"class_weight": "balanced", "sample_weight": np.linspace(0.5, 2, 80)},
    "metrics": lambda: {"metrics": {"zeros": lambda y_true, y_pred: np.mean(y_pred == 0)}},
    "plateau": lambda: {"optimizer": Adam(0.01), "callbacks": [ReduceOnPlateau(factor=0.5, patience=1)]},
    "early stopping": lambda: {"optimizer": Adam(0.1), "callbacks": [EarlyStopping(patience=4)]},
    "own callback": lambda: {"callbacks": [Counter()]},
}


@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize(("epoch", "occasion"), [(1, "on_epoch_end"), (5, "on_epoch_end"), (4, "on_batches")])
def test_the_same_bits_as_a_run_that_was_never_stopped(tmp_path, job, epoch, occasion, *, state, without_seconds):
    path = str(tmp_path / "run")
    whole, stopped, resumed = network(), network(), network()
    expected = fit(whole, **JOBS[job]())
    options = JOBS[job]()
    if len(expected.loss) > epoch:
        with pytest.raises(Stop):
            fit(stopped, path, **{**options, "callbacks": [*options.get("callbacks", []), StopAt(epoch, occasion)]})
    history = fit(resumed, path, **JOBS[job]())
    assert without_seconds(history) == without_seconds(expected)
    assert len(history.seconds) == len(history.loss)
    assert state(resumed) == state(whole)
    assert fit(resumed, epochs=2).loss == fit(whole, epochs=2).loss


@pytest.mark.parametrize("n_threads", [1, 2])
def test_on_any_number_of_threads_and_from_sparse_rows(monkeypatch, tmp_path, n_threads, state):
    sparse = pytest.importorskip("scipy.sparse").csr_array
    monkeypatch.setattr(threads, "_WORTH_A_THREAD", 1e-15)
    path, rows = str(tmp_path / "run"), sparse(X[:80] * (X[:80] > 1))
    options = {**RUN, "optimizer": AdamW(OneCycle(0.01)), "class_weight": {0: 1, 1: 2, 2: 0.5}}
    whole, stopped, resumed = (network(n) for n in (1, 3 - n_threads, n_threads))
    whole.fit(rows, Y[:80], epochs=5, **options)
    with pytest.raises(Stop):
        stopped.fit(rows, Y[:80], epochs=5, callbacks=[Checkpoint(path), StopAt(3)], **options)
    resumed.fit(rows, Y[:80], epochs=5, resume=path, **options)
    assert state(resumed) == state(whole)


def test_running_statistics_go_on_and_are_restored(tmp_path, state):
    path, nets, stops = str(tmp_path / "run"), [network(batch_norm=True) for _ in range(3)], []
    for net, file, epochs in ((nets[0], None, 60), (nets[1], path, 3), (nets[2], path, 60)):
        stops.append(EarlyStopping(patience=2))
        fit(net, file, epochs=epochs, optimizer=Adam(0.05), callbacks=[stops[-1]])
    assert nets[0]._values.tobytes() == nets[2]._values.tobytes()
    assert state(nets[0]) == state(nets[2])
    assert nets[2].evaluate(X[80:], Y[80:])["loss"] == stops[2].best == stops[0].best


def test_a_resumed_run_that_had_ended_stays_as_it_ended(tmp_path, state):
    path, stopped = str(tmp_path / "run"), []
    nets = [network() for _ in range(3)]
    for net in nets:
        stop = EarlyStopping(patience=2)
        stopped.append((fit(net, path, epochs=500, optimizer=Adam(0.05), callbacks=[stop]), stop.best, stop.best_epoch))
    assert len(stopped[0][0].loss) < 500
    assert stopped[1:] == stopped[:1] * 2
    assert {state(net) for net in nets} == {state(nets[0])}


def test_epochs_are_counted_in_all(tmp_path):
    path = str(tmp_path / "run")
    assert len(fit(network(), path, epochs=3).loss) == 3
    net = network()
    net.fit(X, Y, epochs=2, verbose=False)  # what the network had learned is forgotten
    history = fit(net, path, epochs=5)
    assert len(history.loss) == len(net.history.loss) == net._state.epoch == 5
    assert len(fit(network(), path, epochs=2).loss) == 5


def test_a_checkpoint_is_a_network_too(tmp_path):
    path, net = tmp_path / "run", network()
    fit(net, str(path))
    loaded = fastmlp.load(path)
    np.testing.assert_array_equal(loaded.parameters, net.parameters)
    assert loaded._state is None
    torch = pytest.importorskip("safetensors.numpy")
    tensors = torch.load_file(path)
    np.testing.assert_array_equal(tensors["0.weight"], net.weights[0].T)


def test_checkpoints_have_what_other_callbacks_make_of_the_epoch(tmp_path):
    path, net = str(tmp_path / "run"), network()
    fit(net, callbacks=[Checkpoint(path), Counter()], epochs=3)
    assert fastmlp.load(path).parameters[0] == 3


@pytest.mark.parametrize(("every", "epochs", "kept"), [(1, 3, 3), (2, 3, 3), (5, 3, 3), (2, 7, 6)])
def test_every_so_many_epochs_and_the_last_one(tmp_path, every, epochs, kept):
    path = str(tmp_path / "run")
    stop = [] if kept == epochs else [StopAt(epochs)]
    try:
        fit(network(), callbacks=[Checkpoint(path, every), *stop], epochs=epochs + len(stop))
    except Stop:
        assert stop
    assert len(fit(network(), None, resume=path, epochs=1).loss) == kept


def test_a_time_limit_may_be_followed_by_more_time(tmp_path, state):
    path, nets = str(tmp_path / "run"), [network(), network()]
    fit(nets[0], epochs=60)
    for _ in range(1000):
        history = fit(network(), path, epochs=60, callbacks=[TimeLimit(0.004)])
        if len(history.loss) == 60:
            break
    history = fit(nets[1], path, epochs=60)
    assert state(nets[0]) == state(nets[1])


def test_a_log_goes_on(tmp_path):
    path, log = str(tmp_path / "run"), tmp_path / "log.csv"
    with pytest.raises(Stop):
        fit(network(), path, callbacks=[CSVLog(log), StopAt(5)])
    assert len(log.read_text().splitlines()) == 6  # one epoch more than the checkpoint has
    history = fit(network(), path, callbacks=[CSVLog(log)])
    lines = log.read_text().splitlines()
    assert [int(line.split(",")[0]) for line in lines[1:]] == list(range(1, 10))
    assert [float(line.split(",")[1]) for line in lines[1:]] == history.loss


KILLED = """
import os, signal, sys
import numpy as np, fastmlp
class Kill(fastmlp.callbacks.Callback):
    def on_batches(self, progress):
        if len(progress.history.loss) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
X = np.random.default_rng(0).normal(size=(103, 5)).astype(np.float32)
Y = np.random.default_rng(1).integers(0, 3, 103)
net = fastmlp.MLP((5, 70, 3), n_threads=1)
callbacks = [fastmlp.callbacks.Checkpoint(sys.argv[1], every=2), *([Kill()] if sys.argv[2:] else [])]
net.fit(X[:80], Y[:80], epochs=9, batch_size=10, validation_data=(X[80:], Y[80:]), callbacks=callbacks,
        resume=sys.argv[1], verbose=False)
sys.stdout.buffer.write(net.parameters.tobytes())
"""


@pytest.mark.slow
def test_a_process_that_is_killed(tmp_path):
    command, whole = [sys.executable, "-c", KILLED, str(tmp_path / "run")], network()
    assert subprocess.run([*command, "kill"], check=False, timeout=60).returncode == -signal.SIGKILL
    finished = subprocess.run(command, check=True, timeout=60, capture_output=True)
    fit(whole)
    assert finished.stdout == whole.parameters.tobytes()
    assert os.listdir(tmp_path) == ["run"]


# ---- What is refused


def refused(net, path, kind, message, **options):
    before = copy.deepcopy(net)
    with pytest.raises(kind, match=message):
        fit(net, None, resume=path, **options)
    np.testing.assert_array_equal(net.parameters, before.parameters)
    assert net.history == before.history


@pytest.fixture
def path(tmp_path):
    path = str(tmp_path / "run")
    fit(network(), path, epochs=2)
    return path


def test_no_file_is_a_new_run(tmp_path):
    assert len(fit(network(), None, resume=tmp_path / "none", epochs=2).loss) == 2


def test_what_is_no_path():
    refused(network(), 3, TypeError, "resume must be a path, not 3")
    refused(network(), "", ValueError, "resume must not be empty")


def test_another_network(path):
    refused(MLP((5, 60, 3)), path, ValueError, r"resume must name a checkpoint of MLP\(\(5, 60, 3\), .* has one of MLP")
    refused(network(seed=1), path, ValueError, "resume must name a checkpoint of MLP.*seed=1")
    refused(network(activation="tanh"), path, ValueError, "resume must name a checkpoint of MLP")


def test_another_optimizer(path):
    refused(
        network(),
        path,
        ValueError,
        r"resume goes on with Adam, as in .*; not with SGD",
        optimizer=SGD(),
    )
    refused(network(), path, ValueError, "not with AdamW", optimizer=AdamW())


def test_other_values_of_the_history(path):
    message = "resume must name a checkpoint of a run with the same validation_data and metrics: its history has loss, "
    refused(network(), path, ValueError, message, validation_data=None)
    refused(network(), path, ValueError, message, metrics={"sum": lambda y_true, y_pred: 0.0})


def test_a_network_without_a_run(tmp_path):
    network().save(tmp_path / "net")
    message = r"net \(\d+ bytes\): metadata key 'fastmlp.run' is missing: it is a network without a run; fastmlp.load"
    refused(network(), tmp_path / "net", FileFormatError, message)
    refused(network(), tmp_path, OSError, "directory")


def test_a_folder_that_is_missing_is_refused_before_training(tmp_path):
    net = network()
    with pytest.raises(FileNotFoundError, match="nowhere"):
        fit(net, callbacks=[Checkpoint(tmp_path / "nowhere" / "run")])
    assert net._state is None


def test_what_a_checkpoint_cannot_hold(tmp_path):
    class Schedules(Callback):
        def on_epoch_end(self, progress):
            progress.optimizer.learning_rate = OneCycle(0.1)

    class Odd(Callback):
        def get_state(self):
            return {"numbers": np.arange(3)}

    with pytest.raises(ValueError, match="cannot hold what callbacks have set or keep: Object of type OneCycle"):
        fit(network(), callbacks=[Checkpoint(tmp_path / "run"), Schedules()])
    with pytest.raises(ValueError, match="the state of Odd has 'numbers', an array of int64, not of floats"):
        fit(network(), callbacks=[Checkpoint(tmp_path / "run"), Odd()])
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("arguments", [("",), (3,), ("run", 0), ("run", 1.5)])
def test_wrong_arguments(arguments):
    with pytest.raises((TypeError, ValueError), match=r"(path|every) must "):
        Checkpoint(*arguments)
