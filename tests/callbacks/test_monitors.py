"""Early stopping, and the learning rate that is reduced on a plateau."""

import copy
import pickle

import numpy as np
import pytest

from fastmlp import MLP, SGD, Adam, DivergenceError
from fastmlp.callbacks import Callback, EarlyStopping, ReduceOnPlateau
from fastmlp.runs import History
from fastmlp.schedules import Cosine

X = np.random.default_rng(0).normal(size=(90, 5)).astype(np.float32)
Y = np.random.default_rng(1).integers(0, 3, 90)  # nothing to be learned: validation is soon at its best
DATA = {"epochs": 200, "batch_size": 10, "validation_data": (X[60:], Y[60:]), "verbose": False}


def fit(net, *callbacks, **options):
    return net.fit(X[:60], Y[:60], **{**DATA, "callbacks": callbacks, **options})


class Parameters(Callback):
    def __init__(self):
        self.seen = []

    def on_epoch_end(self, progress):
        self.seen.append(progress.network.parameters.copy())


def played(callback, values, monitor="validation_loss"):
    """Tell a callback a history epoch by epoch; return how many there were until it stopped training."""

    class Progress:
        network = MLP((1, 2))
        optimizer = SGD(1.0)
        history = History({monitor: [], "loss": [], "learning_rate": []})
        stop = False

    progress = Progress()
    callback.on_fit_begin(progress)
    for value in values:
        if progress.stop:
            break
        progress.history.add({monitor: value, "loss": 0.0, "learning_rate": progress.optimizer.learning_rate})
        callback.on_epoch_end(progress)
    return progress.history


# ---- Early stopping


@pytest.mark.parametrize("patience", [1, 3])
@pytest.mark.parametrize(
    ("monitor", "best_of"), [("validation_loss", min), ("validation_accuracy", max), ("loss", min)]
)
def test_the_network_has_the_parameters_of_its_best_epoch(patience, monitor, best_of):
    net, stop, parameters = MLP((5, 40, 3)), EarlyStopping(monitor, patience), Parameters()
    history = fit(net, parameters, stop, optimizer=Adam(0.02))
    assert stop.best == best_of(history[monitor])
    assert stop.best_epoch == history[monitor].index(stop.best) + 1
    assert len(history.loss) == min(200, stop.best_epoch + patience)
    np.testing.assert_array_equal(net.parameters, parameters.seen[stop.best_epoch - 1])
    if monitor != "loss":
        assert net.evaluate(X[60:], Y[60:])[monitor.removeprefix("validation_")] == stop.best


@pytest.mark.parametrize(
    ("monitor", "options", "values", "best", "epochs"),
    [
        ("validation_loss", {}, [3, 2, 2, 2, 1], 2, 4),
        ("validation_loss", {"min_delta": 0.5}, [3, 2.6, 2.4, 2.1, 1.9, 1.8, 1.7], 2.4, 5),
        ("validation_loss", {"mode": "max"}, [3, 2, 1, 4], 3, 3),
        ("validation_accuracy", {}, [0.5, 0.6, 0.6, 0.5, 0.7], 0.6, 4),
        ("validation_f1", {}, [0.5, 0.6, 0.6, 0.5, 0.7], 0.6, 4),
        ("validation_f1", {"mode": "min"}, [0.5, 0.4, 0.6, 0.5, 0.7], 0.4, 4),
        ("validation_mean_squared_error", {}, [3, 2, 2, 2, 1], 2, 4),
        ("validation_rmse", {}, [3, 2, 2, 2, 1], 2, 4),
        ("validation_loss", {}, [np.nan, 5, np.nan, 4, 3], 3, 5),
        ("validation_loss", {}, [np.nan, np.nan, 1], None, 2),
    ],
)
def test_what_is_better(monitor, options, values, best, epochs):
    stop = EarlyStopping(monitor, patience=2, **options)
    assert len(played(stop, values, monitor).loss) == epochs
    assert stop.best == best


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, DivergenceError])
def test_the_best_parameters_whatever_ends_the_training(error):
    def fail(progress):
        if len(progress.history.loss) == 25:
            raise error

    net, stop, parameters, failing = MLP((5, 40, 3)), EarlyStopping(patience=100), Parameters(), Callback()
    failing.on_batches = fail
    with pytest.raises(error):
        fit(net, parameters, stop, failing, optimizer=Adam(0.02))
    assert stop.best_epoch < 20
    np.testing.assert_array_equal(net.parameters, parameters.seen[stop.best_epoch - 1])
    assert stop.best == min(net.history.validation_loss)


def test_no_epoch_no_best():
    def fail(progress):
        raise RuntimeError

    net, failing = MLP((5, 40, 3)), Callback()
    failing.on_batches = fail
    with pytest.raises(RuntimeError):
        fit(net, EarlyStopping(), failing)
    np.testing.assert_array_equal(net.parameters, MLP((5, 40, 3)).parameters)


def test_it_begins_anew_with_each_fit():
    stop, seen = EarlyStopping(patience=3), []
    for _ in range(2):
        net = MLP((5, 40, 3))
        fit(net, stop, optimizer=Adam(0.02))
        seen.append((stop.best, stop.best_epoch, net.parameters.tobytes(), net.history.loss))
    assert seen[0] == seen[1]


def test_copies_and_pickles():
    stop = EarlyStopping(patience=3)
    fit(MLP((5, 40, 3)), stop, optimizer=Adam(0.02))
    for twin in (copy.deepcopy(stop), pickle.loads(pickle.dumps(stop))):
        assert (twin.best, twin.best_epoch) == (stop.best, stop.best_epoch)


# ---- The learning rate


def test_the_rate_is_reduced_after_so_many_epochs_that_are_not_better():
    reduce = ReduceOnPlateau(factor=0.5, patience=2, min_learning_rate=0.2)
    history = played(reduce, [3, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1])
    assert history.learning_rate == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.2, 0.2]


def test_a_rate_below_the_least_is_left_alone():
    assert played(ReduceOnPlateau(patience=1, min_learning_rate=2), [1] * 4).learning_rate == [1] * 4


@pytest.mark.slow
def test_a_reduced_rate_is_that_of_pytorch():
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    values = np.random.default_rng(0).random(60).tolist()
    optimizer = torch.optim.SGD([torch.zeros(1)], 1.0)
    # PyTorch bears one epoch more
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.3, patience=2, threshold=0.05, threshold_mode="abs", eps=0
    )
    expected = []
    for value in values:
        expected.append(optimizer.param_groups[0]["lr"])
        scheduler.step(value)
    ours = played(ReduceOnPlateau(factor=0.3, patience=3, min_delta=0.05), values).learning_rate
    assert ours[-1] < 1e-6
    np.testing.assert_allclose(ours, expected, rtol=1e-12)


def test_training_goes_on_with_the_reduced_rate():
    net, other, optimizer = MLP((5, 40, 3)), MLP((5, 40, 3)), Adam(0.02)
    history = fit(net, ReduceOnPlateau(patience=2, factor=0.5), optimizer=optimizer, epochs=20)
    assert optimizer.learning_rate <= history.learning_rate[-1] < 0.01
    for rate in history.learning_rate:
        fit(other, optimizer=Adam(rate), epochs=1)
    np.testing.assert_array_equal(net.parameters, other.parameters)


# ---- What is refused


@pytest.mark.parametrize("kind", [EarlyStopping, ReduceOnPlateau])
def test_an_unknown_monitor_is_refused_before_training(kind):
    net = MLP((5, 40, 3))
    names = "loss, validation_loss, validation_accuracy, learning_rate, seconds"
    with pytest.raises(ValueError, match=f"monitor must be one of this training's {names}; not 'val_loss'"):
        fit(net, kind("val_loss"))
    with pytest.raises(ValueError, match="not 'validation_loss'; validation_data is missing"):
        fit(net, kind(), validation_data=None)
    np.testing.assert_array_equal(net.parameters, MLP((5, 40, 3)).parameters)
    assert net._state is None


def test_a_schedule_cannot_be_reduced():
    with pytest.raises(ValueError, match="ReduceOnPlateau needs a learning_rate that is a number, not Cosine"):
        fit(MLP((5, 3)), ReduceOnPlateau(), optimizer=SGD(Cosine(0.1)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EarlyStopping(3), "monitor must be the name of a value of the history, not 3"),
        (lambda: EarlyStopping(patience=0), "patience must be at least 1, not 0"),
        (lambda: EarlyStopping(patience=2.5), "patience must be a whole number, not 2.5"),
        (lambda: EarlyStopping(min_delta=-1), "min_delta must be finite and at least 0"),
        (lambda: EarlyStopping(mode="down"), "mode must be one of auto, min, max; not 'down'"),
        (lambda: ReduceOnPlateau(factor=1), r"factor must be finite and in \(0, 1\), not 1.0"),
        (lambda: ReduceOnPlateau(min_learning_rate=np.nan), "min_learning_rate must be finite"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()
