"""Searches of scikit-learn in threads: the same results, and no more threads than processors."""

import threading

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed")
import joblib
from sklearn.model_selection import GridSearchCV

from fastmlp import threads
from fastmlp.callbacks import Callback
from fastmlp.sklearn import MLPClassifier, MLPRegressor

generator = np.random.default_rng(0)
X = generator.normal(size=(90, 5))
GRID = {"hidden_layer_sizes": [(4,), (20, 3)], "alpha": [1e-4, 1.0]}
SEEN = []


class Note(Callback):
    """Notes which thread of Python's trains, and with how many of the engine's; copies write to one list."""

    def on_fit_begin(self, progress):
        SEEN.append((threading.current_thread().name, threads.available()))


def search(estimator, **arguments):
    model = estimator(max_iter=3, tol=0.0, random_state=0, callbacks=[Note()])
    return GridSearchCV(model, GRID, cv=3, refit=False, error_score="raise", **arguments)


@pytest.mark.filterwarnings("ignore:.*Maximum iterations")
@pytest.mark.parametrize("estimator", [MLPClassifier, MLPRegressor])
@pytest.mark.parametrize(("n_jobs", "share"), [(2, 4), (3, 2), (16, 1)])
def test_a_search_in_threads(monkeypatch, estimator, n_jobs, share):
    y = X[:, 0] if estimator is MLPRegressor else (X[:, 0] > 0).astype(int)
    here = search(estimator).fit(X, y)
    SEEN.clear()
    monkeypatch.setattr(threads, "cpus", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with joblib.parallel_config("fastmlp", n_jobs=n_jobs):
        there = search(estimator).fit(X, y)
    for name in ("mean_test_score", "rank_test_score", "split2_test_score"):
        np.testing.assert_array_equal(here.cv_results_[name], there.cv_results_[name])
    assert len(SEEN) == 12
    assert {found for _, found in SEEN} == {share}
    assert threading.current_thread().name not in {name for name, _ in SEEN}
    assert threads.available() == 8  # here


def test_as_many_as_there_are_processors():
    with joblib.parallel_config("fastmlp"):
        assert joblib.effective_n_jobs(-1) == joblib.cpu_count()
        assert joblib.Parallel().n_jobs == -1


@pytest.mark.filterwarnings("ignore:.*Maximum iterations")
def test_an_error_is_its_own():
    with joblib.parallel_config("fastmlp", n_jobs=2), pytest.raises(ValueError, match="alpha"):
        search(MLPClassifier).set_params(param_grid={"alpha": [-1.0]}).fit(X, X[:, 0] > 0)
