"""The same results as scikit-learn's, epoch by epoch: weights, orders, updates, rules."""

import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is the judge")

from scipy.sparse import csc_array, csr_matrix
from sklearn import neural_network as theirs
from sklearn.datasets import load_diabetes, load_digits, load_iris, make_multilabel_classification, make_regression
from sklearn.exceptions import ConvergenceWarning

from fastmlp import sklearn as ours

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def data(name):
    """The estimators' name, X and y."""
    if name == "binary":
        X, y = load_iris(return_X_y=True)
        return "MLPClassifier", X[:100], y[:100]
    if name == "multiclass":
        X, y = load_digits(return_X_y=True)
        return "MLPClassifier", X[:200, 16:48] / 16, y[:200]
    if name == "multilabel":
        return "MLPClassifier", *make_multilabel_classification(random_state=0)
    if name == "values":
        X, y = load_diabetes(return_X_y=True)
        return "MLPRegressor", X, y / 100
    X, y = make_regression(n_samples=150, n_features=5, n_targets=3, random_state=0)
    return "MLPRegressor", X, y / 100


DATA = ("binary", "multiclass", "multilabel", "values", "several values")
PARAMETERS = {
    "adam": {},
    "epsilon": {"epsilon": 1e-2, "beta_1": 0.8, "beta_2": 0.99},
    "sgd": {"solver": "sgd", "learning_rate_init": 0.05},
    "no Nesterov": {"solver": "sgd", "learning_rate_init": 0.05, "nesterovs_momentum": False, "momentum": 0.5},
    "invscaling": {"solver": "sgd", "learning_rate_init": 0.1, "learning_rate": "invscaling", "power_t": 0.3},
    "adaptive": {
        "solver": "sgd",
        "learning_rate_init": 0.05,
        "learning_rate": "adaptive",
        "tol": 1e9,
        "n_iter_no_change": 2,
    },
    "alpha": {"alpha": 3.0, "batch_size": 64},
    "alpha, sgd": {"alpha": 3.0, "batch_size": 64, "solver": "sgd", "momentum": 0.0},
    "early stopping": {"early_stopping": True, "n_iter_no_change": 3, "max_iter": 40},
    "tolerance": {"tol": 1e-2, "n_iter_no_change": 2, "max_iter": 60},
    "logistic": {"activation": "logistic", "hidden_layer_sizes": (20, 10), "solver": "sgd"},
    "tanh": {"activation": "tanh", "hidden_layer_sizes": 30, "shuffle": False, "batch_size": 33},
    "identity": {"activation": "identity", "hidden_layer_sizes": [7], "solver": "sgd"},
    "no hidden layer": {"hidden_layer_sizes": (), "batch_size": 50},
}


def both(kind, X, y, fit=lambda estimator, X, y: estimator.fit(X, y), **parameters):
    for module in (theirs, ours):
        yield fit(
            getattr(module, kind)(**{"hidden_layer_sizes": 20, "max_iter": 12, "random_state": 3, **parameters}), X, y
        )


def assert_same(expected, actual, rtol=3e-3):
    np.testing.assert_allclose(actual.loss_curve_, expected.loss_curve_, rtol)
    for name in ("n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_", "n_features_in_"):
        assert getattr(actual, name) == getattr(expected, name)
    for name in ("coefs_", "intercepts_"):
        for a, e in zip(getattr(actual, name), getattr(expected, name), strict=True):
            np.testing.assert_allclose(a, e, atol=0.05 * np.abs(e).max())
            assert np.abs(a - e).mean() < 2e-3 * np.abs(e).max()
    if expected.best_loss_ is None:
        assert actual.best_loss_ is None
        np.testing.assert_allclose(actual.validation_scores_, expected.validation_scores_, atol=0.02)
        assert actual.best_validation_score_ == pytest.approx(expected.best_validation_score_, abs=0.02)
    else:
        assert actual.best_loss_ == pytest.approx(expected.best_loss_, rel=rtol)
        assert actual.validation_scores_ is None
        assert actual.best_validation_score_ is None


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("parameters", PARAMETERS.values(), ids=PARAMETERS)
def test_epochs(name, parameters):
    kind, X, y = data(name)
    expected, actual = both(kind, X, y, **parameters)
    assert_same(expected, actual)
    assert actual.score(X, y) == pytest.approx(expected.score(X, y), abs=0.02)
    assert np.shape(actual.predict(X)) == np.shape(expected.predict(X))
    assert actual.predict(X).dtype == expected.predict(X).dtype
    if kind == "MLPClassifier":
        np.testing.assert_allclose(actual.predict_proba(X), expected.predict_proba(X), atol=0.02)
        assert np.array_equal(actual.classes_, expected.classes_)


@pytest.mark.parametrize("name", DATA)
def test_a_small_difference_would_be_seen(name):
    kind, X, y = data(name)
    expected, actual = both(kind, X, y, batch_size=50, alpha=1.0)
    assert_same(expected, actual)
    other = getattr(ours, kind)(max_iter=12, random_state=3, batch_size=50, alpha=1.3, hidden_layer_sizes=20).fit(X, y)
    with pytest.raises(AssertionError):
        assert_same(expected, other)


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_lbfgs(name, alpha):
    kind, X, y = data(name)
    expected, actual = both(kind, X, y, solver="lbfgs", alpha=alpha, max_iter=8, activation="tanh")
    assert actual.loss_ == pytest.approx(expected.loss_, rel=1e-3)
    assert actual.n_iter_ == expected.n_iter_ == 8
    assert not hasattr(actual, "loss_curve_")
    assert actual.t_ == expected.t_ == 0


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_sample_weight(name, solver):
    kind, X, y = data(name)
    weights = np.random.default_rng(0).random(len(X)) + 0.1
    for early_stopping in (False, True):
        expected, actual = both(
            *(kind, X, y, lambda estimator, X, y: estimator.fit(X, y, weights)),
            solver=solver,
            alpha=1e-3,
            batch_size=64,
            early_stopping=early_stopping,
        )
        assert_same(expected, actual)


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("parameters", [{}, {"solver": "sgd", "learning_rate": "invscaling"}], ids=["adam", "sgd"])
def test_partial_fit(name, parameters):
    kind, X, y = data(name)

    def fit(estimator, X, y):
        classes = {"classes": np.unique(y) if y.ndim == 1 else [0, 1, 2, 3, 4]} if kind == "MLPClassifier" else {}
        for first in (0, 30, 0, 60):
            estimator.partial_fit(X[first : first + 90], y[first : first + 90], **classes)
        return estimator

    expected, actual = both(kind, X, y, fit, **parameters)
    assert_same(expected, actual)


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("early_stopping", [False, True])
def test_warm_start(name, early_stopping):
    kind, X, y = data(name)

    def fit(estimator, X, y):
        estimator.fit(X, y)
        return estimator.set_params(max_iter=5).fit(X, y)

    expected, actual = both(kind, X, y, fit, warm_start=True, early_stopping=early_stopping)
    if early_stopping:  # scikit-learn's best weights move on with the second fit, which writes into the same arrays
        np.testing.assert_allclose(actual.loss_curve_, expected.loss_curve_, 3e-3)
        np.testing.assert_allclose(actual.validation_scores_, expected.validation_scores_, atol=0.02)
    else:
        assert_same(expected, actual)
    assert len(actual.loss_curve_) == actual.n_iter_ + 12


@pytest.mark.parametrize("sparse", [csr_matrix, csc_array])
@pytest.mark.parametrize("name", DATA)
def test_sparse(name, sparse):
    kind, X, y = data(name)
    X = np.where(np.abs(X) > np.median(np.abs(X)), X, 0)
    expected, actual = both(kind, sparse(X), y, batch_size=64, early_stopping=True)
    assert_same(expected, actual)
    dense = getattr(ours, kind)(
        batch_size=64, early_stopping=True, max_iter=12, random_state=3, hidden_layer_sizes=20
    ).fit(X, y)
    np.testing.assert_allclose(dense.predict(X), actual.predict(sparse(X)), atol=1e-2)


@pytest.mark.parametrize("parameters", [{}, {"early_stopping": True}, {"solver": "sgd", "learning_rate": "adaptive"}])
def test_what_is_printed(parameters, capsys):
    X, y = load_iris(return_X_y=True)
    list(both("MLPClassifier", X, y, verbose=True, tol=0.3, n_iter_no_change=1, **parameters))
    lines = capsys.readouterr().out.splitlines()
    half = len(lines) // 2
    assert [line[:25] for line in lines[:half]] == [line[:25] for line in lines[half:]]


def test_random_states_are_used_up_alike():
    X, y = load_iris(return_X_y=True)
    states = np.random.RandomState(5), np.random.RandomState(5)
    for module, state in zip((theirs, ours), states, strict=True):
        module.MLPClassifier(random_state=state, early_stopping=True, max_iter=3, tol=0).fit(X, y)
    assert states[0].randint(1000) == states[1].randint(1000)
    np.random.seed(7)  # noqa: NPY002 - the state that random_state=None means
    expected = theirs.MLPClassifier(max_iter=1).fit(X, y).coefs_[0]
    np.random.seed(7)  # noqa: NPY002 - the state that random_state=None means
    np.testing.assert_allclose(ours.MLPClassifier(max_iter=1).fit(X, y).coefs_[0], expected, atol=1e-5)


@pytest.mark.parametrize("name", ["MLPClassifier", "MLPRegressor"])
def test_parameters(name):
    expected, actual = (getattr(module, name)().get_params() for module in (theirs, ours))
    assert {key: actual[key] for key in expected} == expected
    shared = [key for key in _order(getattr(ours, name)) if key in expected]
    assert shared == _order(getattr(theirs, name))


def _order(estimator):
    return [name for name in estimator.__init__.__code__.co_varnames if name not in ("self", "arguments")][
        : estimator.__init__.__code__.co_argcount + estimator.__init__.__code__.co_kwonlyargcount - 1
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("hidden_layer_sizes", -1), ("hidden_layer_sizes", (3, 0)), ("activation", "cosine"), ("solver", "hadoken")],
        *[("alpha", -1), ("batch_size", 0), ("batch_size", "large"), ("learning_rate", "converging"), ("tol", -1)],
        *[("learning_rate_init", 0), ("power_t", -1), ("max_iter", 0), ("shuffle", "yes"), ("random_state", "now")],
        *[("momentum", 2), ("momentum", -0.5), ("early_stopping", 3), ("validation_fraction", 1.0), ("beta_1", 1)],
        *[("beta_2", -0.5), ("epsilon", 0), ("n_iter_no_change", 0), ("max_fun", 0), ("warm_start", 2)],
    ],
)
@pytest.mark.parametrize("kind", ["MLPClassifier", "MLPRegressor"])
def test_refused_alike(kind, name, value):
    X, y = load_iris(return_X_y=True)
    messages = []
    for module in (theirs, ours):
        estimator = getattr(module, kind)(**{name: value})
        with pytest.raises(ValueError, match=name) as caught:
            estimator.fit(X, y)
        messages.append((type(caught.value), str(caught.value)[:40]))  # what may be differs: there is more here
    assert messages[0] == messages[1]


def test_no_other_warning_than_theirs():
    X, y = load_iris(return_X_y=True)
    found = []
    for module in (theirs, ours):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            module.MLPClassifier(max_iter=2, batch_size=500).fit(1e5 * X, y)
            module.MLPClassifier(max_iter=2, solver="lbfgs").fit(X, y)
        found.append([(warning.category, str(warning.message)[:60]) for warning in caught])
    assert found[0] == found[1]
    assert {category for category, _ in found[1]} == {UserWarning, ConvergenceWarning}
