"""Many networks in one call come to the bits of each alone."""

import copy
import os
import pickle
import signal
import threading
import time

import numpy as np
import pytest

import fastmlp
from fastmlp import MLP, SGD, Adam, DivergenceError, FitError, fit_many
from fastmlp.callbacks import Callback, Checkpoint, CSVLog, EarlyStopping, ReduceOnPlateau
from fastmlp.engine.rows import Rows
from fastmlp.rows import Stream
from fastmlp.training.jobs import defaults, engine_rows, prepare


@pytest.fixture(scope="module")
def data(digits):
    return digits(230, k=70)


QUIET = {"epochs": 3, "batch_size": 16, "verbose": False}

NETWORKS = {
    "seeds": lambda: [MLP((70, 12, 10), seed=seed) for seed in range(5)],
    "sizes": lambda: [MLP((70, *hidden, 10)) for hidden in [(), (3,), (64, 65), (200,), (17, 4)]],
    "regularisers": lambda: [
        MLP((70, 66, 10), dropout=0.3),
        MLP((70, 66, 10), input_dropout=0.2),
        MLP((70, 66, 10), input_noise=0.1, noise=0.1),
        MLP((70, 66, 10), max_norm=0.5),
        MLP((70, 66, 10), batch_norm=True),
    ],
    "losses": lambda: [MLP((70, 8, 10)), MLP((70, 8, 10), loss="focal")],
    "one": lambda: [MLP((70, 64, 10))],
}
ARGUMENTS = {
    "nothing": lambda count: {},
    "optimizers": lambda count: {"optimizer": [Adam(0.001 * (i + 1), l2=1e-4 * i) for i in range(count)]},
    "epochs": lambda count: {"epochs": list(range(1, count + 1)), "batch_size": [7 + i for i in range(count)]},
    "weights": lambda count: {"class_weight": ["balanced", None, *[dict.fromkeys(range(10), 2.0)] * count][:count]},
    "no shuffle": lambda count: {"shuffle": False},
}


def of(arguments, i):
    return {name: value[i] if isinstance(value, list) else value for name, value in arguments.items()}


@pytest.mark.parametrize("arguments", ARGUMENTS)
@pytest.mark.parametrize("networks", NETWORKS)
@pytest.mark.parametrize("sparse", [False, True])
def test_the_same_bits_as_each_alone(data, networks, arguments, sparse, state):
    X, y = data
    if sparse:
        X = pytest.importorskip("scipy.sparse").csr_array(X)
    together, alone = NETWORKS[networks](), NETWORKS[networks]()
    arguments = {**QUIET, **ARGUMENTS[arguments](len(alone))}
    histories = fit_many(together, X, y, n_threads=3, **arguments)
    for i, net in enumerate(alone):
        history = net.fit(X, y, **of(arguments, i))
        assert history.loss == histories[i].loss == together[i].history.loss
        assert state(net) == state(together[i])


@pytest.mark.parametrize("networks", ["seeds", "sizes"])
@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_folds_are_rows_of_their_own(data, networks, class_weight, state):
    X, y = data
    together, alone = NETWORKS[networks](), NETWORKS[networks]()
    generator = np.random.default_rng(0)
    rows = [generator.integers(0, len(X), 150 + i) for i in range(len(alone))]  # some twice, as in a bootstrap sample
    held_out = [(X[:9], y[:9])] * len(alone)
    weights = np.linspace(0.5, 2, len(X))
    arguments = {**QUIET, "class_weight": class_weight}
    fit_many(together, X, y, rows=rows, validation_data=held_out, sample_weight=weights, **arguments)
    for net, other, own in zip(alone, together, rows, strict=True):
        net.fit(X[own], y[own], validation_data=held_out[0], sample_weight=weights[own], **arguments)
        assert net.history.validation_loss == other.history.validation_loss
        assert state(net) == state(other)


@pytest.mark.parametrize("n_threads", [1, 2, 7])
def test_any_number_of_threads_gives_the_same_bits(data, n_threads, state):
    nets = [MLP((70, 64, 10), seed=seed, dropout=0.2, n_threads=5) for seed in range(3)]
    others = copy.deepcopy(nets)
    fit_many(nets, *data, n_threads=n_threads, **QUIET)
    fit_many(others, *data, **QUIET)
    assert list(map(state, nets)) == list(map(state, others))
    assert [net.n_threads for net in nets] == [5, 5, 5]


@pytest.mark.parametrize("kind", ["dense", "listed", "sparse", "float64"])
def test_x_is_brought_to_the_engines_form_once(digits, kind):
    """Rows of all sizes, weights and noise that read X alike share it, and are what they would be alone."""
    X, y = digits(100, k=70, density=0.9 if kind == "dense" else 0.1)
    if kind == "sparse":
        X = pytest.importorskip("scipy.sparse").csr_array(X)
    elif kind == "float64":
        X = X.astype(np.float64)
    nets = [MLP((70, units, 10), **how) for units in (64, 100) for how in ({}, {"input_dropout": 0.5})]
    arguments = {**defaults(), **QUIET}
    jobs = [prepare(net, X, y, **arguments) for net in nets]
    first = engine_rows(jobs[0])
    for job in jobs:
        assert first.suits(job.progress.network.layers[0].units, None, 0)
        shared, own = engine_rows(job, [first]), engine_rows(job)
        assert [getattr(shared, name) for name in ("n", "k", "listed", "masked", "made")] == [
            getattr(own, name) for name in ("n", "k", "listed", "masked", "made")
        ]
    assert first.suits(16, None, 0) == first.suits(64, None, 1.0) == (kind == "sparse")


def test_x_is_checked_once(data, monkeypatch):
    looked = []
    is_finite = fastmlp.rows.operations.is_finite
    monkeypatch.setattr(fastmlp.rows.operations, "is_finite", lambda array: looked.append(array) or is_finite(array))
    fit_many([MLP((70, 4, 10), seed=seed) for seed in range(4)], *data, validation_data=data, **QUIET)
    assert len(looked) == 2  # X, and X of validation


def test_what_is_warned_of_is_warned_of_once():
    X = np.array([[0.25, 1000], [0.5, 9000]], np.float32)
    with pytest.warns(UserWarning, match="unscaled") as caught:
        fit_many([MLP((2, 2), seed=seed) for seed in range(3)], X, [0, 1], **QUIET)
    assert len(caught) == 1


def test_optimizers_and_callbacks_are_each_networks_own(data):
    X, y = data
    optimizer = Adam(0.01)
    reduce = [[ReduceOnPlateau("loss", patience=1, min_delta=1e9, factor=0.1 * (i + 1))] for i in range(3)]
    nets = [MLP((70, 4, 10)) for _ in range(3)]
    histories = fit_many(nets, X, y, optimizer=optimizer, callbacks=reduce, **{**QUIET, "epochs": 4})
    assert [round(history.learning_rate[-1] / history.learning_rate[-2], 3) for history in histories] == [0.1, 0.2, 0.3]
    assert optimizer.learning_rate == 0.01


def test_early_stopping_ends_one_and_not_the_others(data):
    X, y = data
    stops = [[EarlyStopping("loss", patience=1, min_delta=1e9)], []]
    histories = fit_many([MLP((70, 10)), MLP((70, 10))], X, y, callbacks=stops, **{**QUIET, "epochs": 9})
    assert [len(history.loss) for history in histories] == [2, 9]


def test_lines_say_which_network(data, capsys):
    fit_many([MLP((70, 10)), MLP((70, 5, 10))], *data, epochs=2)
    lines = sorted(capsys.readouterr().out.splitlines())
    assert [line.split(" cost")[0] for line in lines] == ["networks[0] Epoch: 2", "networks[1] Epoch: 2"]


# ---- What goes wrong


class Raise(Callback):
    def __init__(self, error):
        self.error = error

    def on_epoch_end(self, progress):
        raise self.error


def test_one_that_fails_is_named_and_the_others_are_trained(data, state):
    X, y = data
    nets, alone = [MLP((70, 4, 10), seed=seed) for seed in range(4)], MLP((70, 4, 10), seed=3)
    rates = [0.1, 1e30, 0.1, 0.1]
    callbacks = [[], [], [Raise(ZeroDivisionError("of mine"))], []]
    with pytest.raises(FitError) as caught:
        fit_many(nets, X, y, optimizer=[SGD(rate) for rate in rates], callbacks=callbacks, **QUIET)
    assert [type(error) for error in caught.value.errors.values()] == [DivergenceError, ZeroDivisionError]
    assert list(caught.value.errors) == [1, 2]
    assert str(caught.value).startswith("networks[1], networks[2] failed; networks[1] by DivergenceError: training div")
    assert [len(net.history.loss) for net in nets] == [3, 0, 1, 3]
    alone.fit(X, y, optimizer=SGD(0.1), **QUIET)
    assert state(nets[3]) == state(alone)
    assert pickle.loads(pickle.dumps(caught.value)).errors.keys() == {1, 2}


NET = MLP((70, 10))
WRONG = {
    "none": (([],), {}, ValueError, "networks must have at least one network"),
    "not a sequence": ((NET,), {}, TypeError, "networks must be a list of fastmlp.MLP"),
    "not networks": (([1],), {}, TypeError, "networks must be a list of fastmlp.MLP"),
    "twice": (([NET, NET],), {}, ValueError, "networks must have no network twice"),
    "other inputs": (([NET, MLP((3, 10))],), {}, ValueError, r"networks\[1\]: X must have shape \(n, 3\)"),
    "a late argument": (([NET, MLP((70, 10))],), {"epochs": [1, 0]}, ValueError, r"networks\[1\]: epochs must be at"),
    "a short list": (([NET],), {"epochs": [1, 2]}, ValueError, "epochs must be one for all networks, or a list of one"),
    "weights in a list": (([NET],), {"sample_weight": [1.0] * 230}, ValueError, "not a list of 230. A tuple or an arr"),
    "callbacks in a list": (([NET],), {"callbacks": [EarlyStopping("loss")]}, TypeError, "a list of a list for each"),
    "metrics in a list": (([NET],), {"metrics": [max]}, TypeError, "metrics must be a list of a list for each network"),
    "not parallel": (([NET],), {"parallel": 2}, TypeError, "parallel must be a joblib.Parallel or None, not 2"),
    "a number of rows": (([NET],), {"rows": 5}, TypeError, "rows must be a list of numbers of rows for each network"),
    "ragged rows": (([NET],), {"rows": [[[0, 1], [2]]]}, TypeError, r"rows must hold numbers of rows, \(n,\) of int"),
    "no such argument": (([NET],), {"n_jobs": 2}, TypeError, "fit_many has no argument 'n_jobs'; it is called n_thr"),
    "fit's verbose": (([NET],), {"verbose": 3}, TypeError, "verbose must be True or False"),
    "no thread": (([NET],), {"n_threads": 0}, ValueError, "n_threads must be at least 1"),
    "few rows": (([NET],), {"rows": []}, ValueError, "rows must be one for all networks, or a list of one for each"),
    "empty rows": (([NET],), {"rows": [[]]}, ValueError, r"networks\[0\]: rows must have at least one row"),
    "a mask": (([NET],), {"rows": [np.ones(230, bool)]}, TypeError, "flatnonzero makes numbers of a mask"),
    "rows beyond": (([NET],), {"rows": [[0, 230]]}, ValueError, "rows must hold numbers from 0 to 229; it has 0 to"),
    "rows below": (([NET],), {"rows": [[-1]]}, ValueError, "rows must hold numbers from 0 to 229"),
    "a weightless fold": (
        ([NET],),
        {"rows": [[0, 1]], "sample_weight": np.r_[0, 0, np.ones(228)]},
        ValueError,
        "sample_weight must have a weight above 0 among the rows to learn from",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments_change_nothing(data, case):
    positional, arguments, kind, message = WRONG[case]
    with pytest.raises(kind, match=message):
        fit_many(*positional, *data, **{**QUIET, **arguments})
    assert NET._state is None


def test_a_callback_of_two_networks_is_refused(data):
    shared = EarlyStopping("loss")
    for callbacks in [(shared,), [[shared], [shared]]]:
        with pytest.raises(ValueError, match="callbacks must be a list of a list for each network"):
            fit_many([MLP((70, 10)), MLP((70, 10))], *data, callbacks=callbacks, **QUIET)


@pytest.mark.parametrize("writer", [Checkpoint, CSVLog])
def test_a_file_of_two_networks_is_refused(data, tmp_path, writer):
    callbacks = [[writer(tmp_path / "one")], [writer(tmp_path / ".." / tmp_path.name / "one")]]
    with pytest.raises(ValueError, match=r"callbacks of several networks must not write to one file, .*one$"):
        fit_many([MLP((70, 10)), MLP((70, 10))], *data, callbacks=callbacks, **QUIET)


def test_a_stream_is_refused(data):
    with pytest.raises(TypeError, match="X must be rows in memory, which all networks share; fit each network on a"):
        fit_many([MLP((70, 10))], Stream(*data), **QUIET)


def test_rows_in_tuples(data):
    """As of zip(*pairs); their arrays cannot be told by their values."""
    X, y = data
    nets = [MLP((70, 10)), MLP((70, 10))]
    fit_many(nets, tuple(X), tuple(y), validation_data=(tuple(X), tuple(y)), **QUIET)
    lists = MLP((70, 10))
    lists.fit(tuple(map(tuple, X.tolist())), tuple(y.tolist()), **QUIET)
    assert nets[0].parameters.tobytes() == nets[1].parameters.tobytes() == lists.parameters.tobytes()


@pytest.mark.parametrize("how", [{}, {"parallel": lambda calls: [function(*of_it) for function, of_it, _ in calls]}])
def test_a_network_that_is_in_training_is_left_alone(data, how):
    class During(Callback):
        def on_epoch_end(self, progress):
            with pytest.raises(FitError, match="fit is already running on this network"):
                fit_many([progress.network], *data, **how, **QUIET)

    assert MLP((70, 10)).fit(*data, callbacks=[During()], **QUIET).loss


def require_no_thread():
    """One that was about to start when Ctrl-C came ends as soon as it has."""
    deadline = time.monotonic() + 10
    while any("fit_many" in thread.name for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.001)


class Press(Callback):
    """Presses Ctrl-C after the first epoch."""

    def on_epoch_end(self, progress):
        if len(progress.history.loss) == 1:
            os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_stops_all(data, state):
    nets = [MLP((70, 4, 10), seed=seed) for seed in range(5)]
    callbacks = [[Press()], [], [], [], []]
    with pytest.raises(KeyboardInterrupt):
        fit_many(nets, *data, callbacks=callbacks, n_threads=2, **{**QUIET, "epochs": 10**7})
    require_no_thread()
    assert all(np.isfinite(net.parameters).all() for net in nets)
    assert [net._state is None for net in nets[2:]] == [True, True, True]  # which had not begun
    fit_many(nets, *data, **QUIET)


def test_a_callbacks_own_interrupt_stops_all(data):
    nets = [MLP((70, 4, 10), seed=seed) for seed in range(3)]
    with pytest.raises(KeyboardInterrupt):
        fit_many(
            nets,
            *data,
            callbacks=[[Raise(KeyboardInterrupt())], [], []],
            n_threads=2,
            **{**QUIET, "epochs": [10**7, 10**7, 10**7]},
        )


def test_one_row_and_one_unit():
    histories = fit_many([MLP((1, 1, 1), loss="squared_error"), MLP((1, 1), loss="poisson")], [[1.0]], [2.0], **QUIET)
    assert [len(history.loss) for history in histories] == [3, 3]


# ---- Tasks of joblib


def test_tasks_in_the_place_of_threads(data, state):
    """Whatever calls the tasks: here one after the other, with what pickle makes of them, as joblib does."""

    def parallel(calls):
        return [function(*positional, **named) for function, positional, named in pickle.loads(pickle.dumps(calls))]

    X, y = data
    rates = {"optimizer": [SGD(0.1), SGD(1e30), SGD(0.2)]}
    together, here = NETWORKS["seeds"]()[:3], NETWORKS["seeds"]()[:3]
    for nets, how in [(together, {"parallel": parallel}), (here, {})]:
        with pytest.raises(FitError, match=r"networks\[1\] failed"):
            fit_many(nets, X, y, rows=[np.arange(100 + i) for i in range(3)], **rates, **how, **QUIET)
    assert list(map(state, together)) == list(map(state, here))
    assert [net.history.loss for net in together] == [net.history.loss for net in here]


def test_tasks_come_back_in_any_order(data, state):
    def backwards(calls):
        return [function(*positional) for function, positional, _ in reversed(calls)]

    together, here = NETWORKS["sizes"](), NETWORKS["sizes"]()
    fit_many(together, *data, parallel=backwards, **QUIET)
    fit_many(here, *data, **QUIET)
    assert list(map(state, together)) == list(map(state, here))


def test_tasks_that_do_not_come_back(data):
    def first(calls):
        for function, positional, _ in calls[:1]:
            yield function(*positional)

    def first_alone(calls):
        yield from first(calls)
        raise OSError("lost")

    for parallel, reason in [(first, "RuntimeError: parallel has not returned it"), (first_alone, "OSError: lost")]:
        nets = [MLP((70, 10), seed=seed) for seed in range(3)]
        with pytest.raises(FitError, match=rf"networks\[1\], networks\[2\] failed; networks\[1\] by {reason}"):
            fit_many(nets, *data, parallel=parallel, **QUIET)
        assert [len(net.history.loss) for net in nets] == [3, 0, 0]


def test_what_pickle_cannot_bring_back_is_told(data):
    error = ArithmeticError("with a lock")
    error.lock = threading.Lock()

    def parallel(calls):
        return [pickle.loads(pickle.dumps(function(*positional))) for function, positional, _ in calls]

    with pytest.raises(FitError, match=r"networks\[0\] by RuntimeError: ArithmeticError: with a lock") as caught:
        fit_many([MLP((70, 10))], *data, callbacks=[[Raise(error)]], parallel=parallel, **QUIET)
    assert caught.value.__cause__ is caught.value.errors[0]


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_joblib(data, backend, state):
    joblib = pytest.importorskip("joblib")
    together, here = NETWORKS["seeds"](), NETWORKS["seeds"]()
    fit_many(together, *data, parallel=joblib.Parallel(2, backend=backend), **QUIET)
    fit_many(here, *data, **QUIET)
    assert list(map(state, together)) == list(map(state, here))


def test_rows_of_rows_are_rows(digits):
    X, y = digits(50, k=70)
    first = Rows(X, 64, 1, y)
    assert (first.n, first.k, first.listed) == (50, 70, True)
    second = Rows(first, 100, 1, y, dropout=0.5)
    assert (second.n, second.k, second.listed, second.made) == (50, 70, True, False)
