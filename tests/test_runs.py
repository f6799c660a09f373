"""History: a dictionary of lists, of whole epochs only, whatever ends the training."""

import copy
import pickle

import numpy as np
import pytest

from fastmlp import MLP, SGD, DivergenceError
from fastmlp.callbacks import Callback
from fastmlp.runs import History

X = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
Y = (X.sum(axis=1) > 0).astype(int)


def fit(net, **options):
    return net.fit(X, Y, **{"epochs": 3, "batch_size": 10, "validation_data": (X, Y), "verbose": False, **options})


def test_columns_are_keys_and_attributes():
    history = fit(MLP((4, 2)))
    assert list(history) == ["loss", "validation_loss", "validation_accuracy", "learning_rate", "seconds"]
    for name, values in history.items():
        assert getattr(history, name) is values
        assert len(values) == 3
    with pytest.raises(AttributeError, match="History has no 'val_loss'; it has loss, validation_loss, "):
        history.val_loss  # noqa: B018


def test_pandas_takes_it_as_it_is():
    pandas = pytest.importorskip("pandas", reason="makes a data frame")
    history = fit(MLP((4, 2)))
    table = pandas.DataFrame(history)
    assert table.shape == (3, 5)
    assert table["loss"].tolist() == history.loss


def test_copies_and_pickles():
    net = MLP((4, 2))
    assert net.history == {}
    history = fit(net)
    for twin in (copy.copy(history), copy.deepcopy(history), pickle.loads(pickle.dumps(history))):
        assert type(twin) is History
        assert twin == history
    assert pickle.loads(pickle.dumps(net)).history == history


def test_a_network_has_that_of_the_last_fit():
    net = MLP((4, 2))
    fit(net)
    history = fit(net, epochs=1)
    assert net.history is history
    with pytest.raises(ValueError, match="epochs must be at least 1"):
        fit(net, epochs=0)
    assert net.history is history


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize(("occasion", "epochs"), [("on_batches", 1), ("on_epoch_end", 2), ("on_fit_begin", 0)])
def test_it_outlasts_what_ends_the_training(occasion, error, epochs):
    def fail(progress):
        if occasion == "on_fit_begin" or len(progress.history.loss) == epochs:
            raise error

    callback, net, whole = Callback(), MLP((4, 2)), MLP((4, 2))
    setattr(callback, occasion, fail)
    with pytest.raises(error):
        fit(net, callbacks=[callback])
    assert {len(values) for values in net.history.values()} == {epochs}
    assert net.history.loss == fit(whole).loss[:epochs]


def test_it_outlasts_a_divergence():
    class Rush(Callback):
        def on_epoch_end(self, progress):
            progress.optimizer.learning_rate = 1e38

    net = MLP((4, 2), loss="squared_error")
    with pytest.raises(DivergenceError):
        net.fit(X, np.eye(2)[Y], batch_size=9, optimizer=SGD(0.1), callbacks=[Rush()], verbose=False)
    assert {len(values) for values in net.history.values()} == {1}
    assert net.history.learning_rate == [0.1]
