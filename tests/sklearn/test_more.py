"""What scikit-learn's users asked for in vain, each by its effect; and the way from scikit-learn and back."""

import pickle
import time

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is the other side")

from scipy.sparse import csr_matrix
from sklearn import neural_network as theirs
from sklearn.base import clone
from sklearn.datasets import load_iris, make_multilabel_classification, make_regression
from sklearn.exceptions import NotFittedError

import fastmlp
from fastmlp import sklearn as ours
from fastmlp.sklearn import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def iris():
    X, y = load_iris(return_X_y=True)
    return (X - X.mean(axis=0)) / X.std(axis=0), y


def test_class_weight(iris):
    X, y = iris
    weights = {0: 1.0, 1: 5.0, 2: 0.5}
    by_class = MLPClassifier(max_iter=5, random_state=0, class_weight=weights).fit(X, y)
    by_row = MLPClassifier(max_iter=5, random_state=0).fit(X, y, np.array([1.0, 5.0, 0.5])[y])
    assert np.array_equal(by_class.coefs_[0], by_row.coefs_[0])
    both = MLPClassifier(max_iter=5, random_state=0, class_weight=weights).fit(X, y, np.full(150, 2.0))
    np.testing.assert_allclose(both.predict_proba(X), by_row.predict_proba(X), atol=1e-3)
    rare = np.r_[50:100, 100:105]
    plain, balanced = (
        MLPClassifier(10, max_iter=40, random_state=0, class_weight=weight).fit(X[rare][:, :2], y[rare])
        for weight in (None, "balanced")
    )
    found = [model.predict_proba(X[100:150, :2])[:, 1].mean() for model in (plain, balanced)]
    assert found[1] > found[0] + 0.02
    with pytest.raises(ValueError, match="class_weight"):
        MLPClassifier(class_weight="heavy").fit(X, y)


@pytest.mark.parametrize("kind", ["MLPClassifier", "MLPRegressor"])
def test_rows_to_validate_by(iris, kind):
    X, y = iris
    rows, held_out = np.arange(0, 150, 2), np.arange(1, 150, 2)
    parameters = {"max_iter": 30, "random_state": 0, "learning_rate_init": 0.05}
    given = {"X_val": X[held_out], "y_val": y[held_out]}
    model = getattr(ours, kind)(early_stopping=True, **parameters).fit(X[rows], y[rows], **given)
    assert model.best_validation_score_ == pytest.approx(model.score(X[held_out], y[held_out]), abs=1e-6)
    assert model.best_validation_score_ == max(model.validation_scores_)
    assert len(model.validation_loss_curve_) == len(model.loss_curve_) == model.n_iter_
    watched = getattr(ours, kind)(**parameters).fit(X[rows], y[rows], **given)
    alone = getattr(ours, kind)(**parameters).fit(X[rows], y[rows])
    assert np.array_equal(watched.coefs_[0], alone.coefs_[0])
    assert watched.validation_scores_[-1] == pytest.approx(alone.score(X[held_out], y[held_out]), abs=1e-6)
    assert alone.validation_loss_curve_ == []
    weights = np.random.default_rng(0).random(75)
    weighted = getattr(ours, kind)(**parameters).fit(X[rows], y[rows], **given, sample_weight_val=weights)
    expected = alone.score(X[held_out], y[held_out], weights)
    assert weighted.validation_scores_[-1] == pytest.approx(expected, abs=1e-6)


def test_rows_to_validate_by_are_checked(iris):
    X, y = iris
    with pytest.raises(ValueError, match="X_val and y_val must be given together"):
        MLPClassifier().fit(X, y, X_val=X)
    with pytest.raises(ValueError, match="X_val must be None for solver='lbfgs'"):
        MLPClassifier(solver="lbfgs").fit(X, y, X_val=X, y_val=y)
    with pytest.raises(ValueError, match="features"):
        MLPClassifier().fit(X, y, X_val=X[:, :2], y_val=y)
    with pytest.raises(ValueError, match="has classes not in"):
        MLPClassifier().fit(X, y, X_val=X, y_val=y + 1)
    MLPClassifier(max_iter=2).fit(X, y, X_val=X[:50], y_val=y[:50])
    MLPClassifier(max_iter=2, warm_start=True).fit(X, y, X_val=csr_matrix(X[:50]), y_val=y[:50]).fit(X, y)


def test_callbacks_and_time(iris):
    class Stop(fastmlp.callbacks.Callback):
        def on_epoch_end(self, progress):
            progress.stop = len(progress.history.loss) == 3

    model = MLPClassifier(callbacks=[Stop()], random_state=0).fit(*iris)
    assert model.n_iter_ == len(model.loss_curve_) == 3
    assert len(clone(model).callbacks) == 1
    began = time.monotonic()
    slow = MLPClassifier(max_iter=10**9, n_iter_no_change=np.inf, max_time=0.2).fit(*iris)
    assert slow.n_iter_ > 1
    assert time.monotonic() - began < 60


def test_adamw_clipping_and_schedules(iris):
    plain = MLPClassifier(max_iter=20, random_state=0, solver="adamw", weight_decay=0.0, alpha=0).fit(*iris)
    adam = MLPClassifier(max_iter=20, random_state=0, alpha=0).fit(*iris)
    assert np.array_equal(plain.coefs_[0], adam.coefs_[0])
    decayed = clone(plain).set_params(weight_decay=20.0).fit(*iris)
    assert np.abs(decayed.coefs_[0]).sum() < 0.9 * np.abs(plain.coefs_[0]).sum()
    still = MLPClassifier(max_iter=2, random_state=0, solver="sgd", clip_norm=1e-6).fit(*iris)
    moved = MLPClassifier(max_iter=2, random_state=0, solver="sgd").fit(*iris)
    first = MLPClassifier(max_iter=1, random_state=0, learning_rate_init=1e-12).fit(*iris)
    assert np.abs(still.coefs_[1] - first.coefs_[1]).max() < 1e-6 < np.abs(moved.coefs_[1] - first.coefs_[1]).max()
    rates = []

    class Rates(fastmlp.callbacks.Callback):
        def on_epoch_end(self, progress):
            rates.append(progress.history.learning_rate[-1])

    schedule = fastmlp.schedules.LinearToZero(0.01)
    MLPClassifier(max_iter=10, tol=0, learning_rate_init=schedule, callbacks=[Rates()]).fit(*iris)
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < rates[0] / 5
    with pytest.raises(ValueError, match="learning_rate_init must be a number for partial_fit"):
        MLPClassifier(learning_rate_init=schedule).partial_fit(*iris, classes=[0, 1, 2])


def test_activations_of_each_layer(iris):
    model = MLPClassifier((8, 6), activation=("gelu", "mish"), max_iter=60, learning_rate_init=0.02, random_state=0)
    assert model.fit(*iris).score(*iris) > 0.9
    assert [layer.activation for layer in model.network_.layers] == ["gelu", "mish", "identity"]
    with pytest.raises(ValueError, match="activation"):
        MLPClassifier((8, 6), activation=("gelu", "gulp")).fit(*iris)


def test_optimizer_is_kept_when_asked(iris):
    X, y = iris
    whole = MLPClassifier(max_iter=12, random_state=np.random.RandomState(0), shuffle=False, tol=0).fit(X, y)
    parts = MLPClassifier(
        max_iter=6, random_state=np.random.RandomState(0), shuffle=False, tol=0, warm_start=True, keep_optimizer=True
    )
    parts.fit(X, y).fit(X, y)
    assert np.array_equal(parts.coefs_[0], whole.coefs_[0])
    assert parts.loss_curve_ == whole.loss_curve_
    assert not np.array_equal(parts.set_params(keep_optimizer=False).fit(X, y).coefs_[0], whole.coefs_[0])


# -- From scikit-learn, and back


def cases():
    X, y = load_iris(return_X_y=True)
    yield "MLPClassifier", X, y, {}
    yield "MLPClassifier", X[:100], np.array(["no", "yes"])[y[:100]], {"activation": "tanh"}
    X, y = make_multilabel_classification(random_state=0)
    yield "MLPClassifier", X, y, {"early_stopping": True}
    yield "MLPClassifier", csr_matrix(X), csr_matrix(y), {}
    X, y = make_regression(n_samples=60, n_features=4, n_targets=2, random_state=0)
    yield "MLPRegressor", X, y, {"hidden_layer_sizes": (5, 4)}
    yield "MLPRegressor", X, y[:, 0], {"solver": "lbfgs"}


@pytest.mark.parametrize(("kind", "X", "y", "parameters"), list(cases()))
def test_exchange(kind, X, y, parameters):
    original = getattr(theirs, kind)(max_iter=8, random_state=0, **parameters).fit(X, y)
    model = getattr(ours, kind).from_sklearn(original)
    back = model.to_sklearn()
    back = pickle.loads(pickle.dumps(back))
    for other in (model, back):
        for name in ("predict_proba", "predict"):
            if hasattr(original, name):
                expected, actual = getattr(original, name)(X), getattr(other, name)(X)
                if hasattr(expected, "toarray"):
                    expected, actual = expected.toarray(), actual.toarray()
                if expected.dtype.kind == "f":
                    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-4)
                else:
                    assert (actual == expected).mean() > 0.98
        assert other.n_iter_ == original.n_iter_
        assert other.get_params()["max_iter"] == 8
    assert type(back) is type(original)
    for other in (model, back):  # and both go on
        other.set_params(warm_start=True, max_iter=3).fit(X, y)


def test_exchange_is_refused(iris):
    with pytest.raises(TypeError, match="scikit-learn's MLPClassifier"):
        MLPClassifier.from_sklearn(theirs.MLPRegressor())
    with pytest.raises(NotFittedError):
        MLPRegressor.from_sklearn(theirs.MLPRegressor())
    with pytest.raises(NotFittedError):
        MLPRegressor().to_sklearn()
    with pytest.raises(ValueError, match="activation"):
        MLPClassifier(activation="mish", max_iter=2).fit(*iris).to_sklearn()
