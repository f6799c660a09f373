"""Many networks on a cluster of Dask's, by way of joblib: here its workers are processes of this machine."""

import os
from pathlib import Path

import numpy as np
import pytest

import fastmlp
from fastmlp import MLP, Adam, fit_many
from fastmlp.callbacks import Callback

pytestmark = [
    pytest.mark.slow,
    # of Dask's and Tornado's own, which come and go with their versions
    *(
        pytest.mark.filterwarnings(f"ignore::{kind}")
        for kind in ("DeprecationWarning", "ResourceWarning", "FutureWarning")
    ),
]
QUIET = {"epochs": 3, "batch_size": 16, "verbose": False}


@pytest.fixture(scope="module")
def joblib():
    """Return joblib, whose backend "dask" has two workers."""
    joblib = pytest.importorskip("joblib")
    distributed = pytest.importorskip("distributed", reason="distributed is missing: pip install 'dask[distributed]'")
    how = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(**how) as cluster, distributed.Client(cluster) as client:
        client.amm.stop()  # else the rows that are scattered soon lie on one worker, and are lost with it
        yield joblib


@pytest.fixture(scope="module")
def data():
    generator = np.random.default_rng(0)
    X = generator.normal(size=(300, 20)).astype(np.float32)
    return X, (X[:, :3] @ generator.normal(size=(3, 3))).argmax(axis=1)


def networks():
    return [MLP((20, units, 3), seed=seed) for seed in range(2) for units in (5, 20)]


class DieOnce(Callback):
    """Ends the worker that it is in; the second time, which a file tells of, it does not."""

    def __init__(self, path):
        self.path = path

    def on_epoch_end(self, progress):
        if not Path(self.path).exists():
            Path(self.path).touch()
            os._exit(1)


def trained_there(joblib, data, **arguments):
    nets = networks()
    with joblib.parallel_config(backend="dask", scatter=list(data)):
        fit_many(nets, *data, parallel=joblib.Parallel(), **QUIET, **arguments)
    return nets


def assert_same(nets, others):
    for net, other in zip(nets, others, strict=True):
        assert net.parameters.tobytes() == other.parameters.tobytes()
        assert net.history.loss == other.history.loss
        assert net._state.step == other._state.step


def test_fit_many(joblib, data):
    rates = [Adam(0.001 * (i + 1)) for i in range(4)]
    folds = [np.setdiff1d(np.arange(300), fold) for fold in np.array_split(np.arange(300), 4)]
    here = networks()
    fit_many(here, *data, optimizer=rates, rows=folds, **QUIET)
    assert_same(trained_there(joblib, data, optimizer=rates, rows=folds), here)


def test_a_worker_that_dies_does_not_end_it(joblib, data, tmp_path):
    here, callbacks = networks(), [[], [DieOnce(str(tmp_path / "died"))], [], []]
    fit_many(here, *data, **QUIET)
    assert_same(trained_there(joblib, data, callbacks=callbacks), here)
    assert (tmp_path / "died").exists()


def test_one_that_fails_is_named(joblib, data):
    with pytest.raises(fastmlp.FitError, match=r"networks\[2\] failed; networks\[2\] by DivergenceError"):
        trained_there(joblib, data, optimizer=[Adam(), Adam(), fastmlp.SGD(1e30), Adam()])


def test_incremental_of_dask_ml(joblib, data):
    wrappers = pytest.importorskip("dask_ml.wrappers", reason="dask_ml is missing: pip install dask-ml")
    from dask import array  # noqa: PLC0415 - an extra

    from fastmlp.sklearn import MLPClassifier  # noqa: PLC0415 - an extra

    X, y = data
    here = MLPClassifier((20,), random_state=0)
    there = wrappers.Incremental(MLPClassifier((20,), random_state=0), scoring="accuracy", shuffle_blocks=False)
    chunks = array.from_array(X, chunks=(100, -1)), array.from_array(y, chunks=100)
    for _ in range(3):
        there.partial_fit(*chunks, classes=[0, 1, 2])
        for i in range(0, 300, 100):
            here.partial_fit(X[i : i + 100], y[i : i + 100], classes=[0, 1, 2])
    for own, other in zip(here.coefs_, there.estimator_.coefs_, strict=True):
        np.testing.assert_array_equal(own, other)
    np.testing.assert_array_equal(there.predict(chunks[0]).compute(), here.predict(X))


@pytest.mark.parametrize("dies", [False, True])
def test_a_grid_search_of_scikit_learn(joblib, data, tmp_path, dies):
    model_selection = pytest.importorskip("sklearn.model_selection")
    from fastmlp.sklearn import MLPClassifier  # noqa: PLC0415 - an extra

    grid = {"hidden_layer_sizes": [(5,), (20,)], "alpha": [1e-4, 1.0]}
    # As lists, which go with each task: joblib would put arrays on one worker.
    folds = [(np.arange(first, 300, 2).tolist(), np.arange(1 - first, 300, 2).tolist()) for first in (0, 1)]

    def search(*callbacks):
        estimator = MLPClassifier(max_iter=5, random_state=0, tol=0.0, n_iter_no_change=100, callbacks=callbacks)
        return model_selection.GridSearchCV(estimator, grid, cv=folds, error_score="raise")

    here, there = search(), search(*[DieOnce(str(tmp_path / "died"))] * dies)
    with pytest.warns(Warning, match="Maximum iterations"):
        here.fit(*data)
    with joblib.parallel_config(backend="dask", scatter=list(data)), pytest.warns(Warning, match="Maximum iterations"):
        there.fit(*data)
    assert (tmp_path / "died").exists() == dies
    np.testing.assert_array_equal(here.cv_results_["mean_test_score"], there.cv_results_["mean_test_score"])
    assert here.best_params_ == there.best_params_
