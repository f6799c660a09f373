"""Ten datasets that scikit-learn ships or makes: as good as its own estimators, within the noise of ten seeds."""

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is the judge")

from sklearn import datasets, neural_network
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import scale

from fastmlp import sklearn as ours

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")]

# What is fitted, to what, and how.
CLASSES = {
    "iris": lambda: datasets.load_iris(return_X_y=True),
    "wine": lambda: datasets.load_wine(return_X_y=True),
    "breast cancer": lambda: datasets.load_breast_cancer(return_X_y=True),
    "digits": lambda: [array[:900] for array in datasets.load_digits(return_X_y=True)],
    "moons": lambda: datasets.make_moons(400, noise=0.25, random_state=0),
    "classes": lambda: datasets.make_classification(400, n_informative=6, n_classes=4, flip_y=0.05, random_state=0),
}
VALUES = {
    "diabetes": lambda: datasets.load_diabetes(return_X_y=True),
    "friedman 1": lambda: datasets.make_friedman1(400, noise=1.0, random_state=0),
    "friedman 2": lambda: datasets.make_friedman2(400, noise=30.0, random_state=0),
    "several values": lambda: datasets.make_regression(300, 10, n_targets=3, noise=20.0, random_state=0),
}
PARAMETERS = {
    "adam": {"learning_rate_init": 0.01},
    "sgd": {"solver": "sgd", "learning_rate_init": 0.02, "learning_rate": "adaptive"},
    "early stopping": {"learning_rate_init": 0.01, "early_stopping": True, "validation_fraction": 0.2},
    "lbfgs": {"solver": "lbfgs", "alpha": 0.1},
}
SEEDS = 10


def scores(module, name, first_seed, **parameters):
    """Of ten estimators, on rows that they have not seen."""
    X, y = {**CLASSES, **VALUES}[name]()
    kind = "MLPClassifier" if name in CLASSES else "MLPRegressor"
    X, y = scale(X), y if name in CLASSES else scale(y)
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.4, random_state=0)
    parameters = {"hidden_layer_sizes": (20,), "max_iter": 40, "batch_size": 50, **parameters}
    estimator = getattr(module, kind)
    seeds = range(first_seed, first_seed + SEEDS)
    return np.array([estimator(random_state=s, **parameters).fit(X, y).score(X_test, y_test) for s in seeds])


def distance(a, b):
    """Between the means, in standard errors (Welch 1947); a row of the test set, some 0.5 %, is noise in any case."""
    error = np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / SEEDS + 0.002**2)
    return abs(a.mean() - b.mean()) / error


@pytest.mark.parametrize("parameters", PARAMETERS.values(), ids=PARAMETERS)
@pytest.mark.parametrize("name", [*CLASSES, *VALUES])
def test_as_good_as_scikit_learn(name, parameters):
    # Other seeds for each, since from the same ones they would be all but equal.
    theirs, mine = scores(neural_network, name, 0, **parameters), scores(ours, name, 100, **parameters)
    assert theirs.mean() > 0.1
    assert distance(theirs, mine) < 4


@pytest.mark.parametrize("name", [*CLASSES, *VALUES])
def test_parameters_that_mean_something_else_would_be_seen(name):
    theirs = scores(neural_network, name, 0, **PARAMETERS["adam"])
    assert distance(theirs, scores(ours, name, 100, **PARAMETERS["adam"], alpha=100.0)) > 4
