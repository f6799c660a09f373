"""The estimators as scikit-learn's users use them: what scikit-learn's own tests ask, and their tools."""

import copy
import pickle
import threading
import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn's tools are what is tried")

import joblib
from scipy.sparse import csr_array, csr_matrix
from sklearn import config_context
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_diabetes, load_digits, load_iris, make_multilabel_classification
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning, NotFittedError
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastmlp
from fastmlp.sklearn import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def iris():
    X, y = load_iris(return_X_y=True)
    return StandardScaler().fit_transform(X), y


@pytest.fixture(scope="module")
def diabetes():
    X, y = load_diabetes(return_X_y=True)
    return StandardScaler().fit_transform(X), (y - y.mean()) / y.std()


# -- Reached, and refused


def test_reached_from_the_package_and_not_imported_with_it(run_python):
    program = "import sys, fastmlp; assert 'sklearn' not in sys.modules and 'scipy' not in sys.modules"
    assert run_python(program).returncode == 0
    assert fastmlp.MLPClassifier is MLPClassifier
    assert fastmlp.MLPRegressor is MLPRegressor
    assert fastmlp.sklearn.MLPRegressor is MLPRegressor


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["sklearn", "scipy"])
def test_without_scikit_learn_the_extra_is_named(run_python, missing):
    done = run_python(f"import sys, fastmlp; sys.modules['{missing}'] = None; fastmlp.MLPClassifier")
    assert done.returncode == 1
    assert "ImportError" in done.stderr
    assert "pip install 'fastmlp[sklearn]'" in done.stderr


# -- Estimators among estimators


def test_what_they_are():
    assert is_classifier(MLPClassifier())
    assert is_regressor(MLPRegressor())
    assert repr(MLPClassifier((5,), alpha=1.0)) == "MLPClassifier(alpha=1.0, hidden_layer_sizes=(5,))"
    assert "MLPRegressor" in MLPRegressor()._repr_html_()


def test_clone_of_a_fitted_one_is_new(iris):
    classifier = MLPClassifier((7,), max_iter=3, random_state=1).fit(*iris)
    other = clone(classifier)
    assert other.get_params() == classifier.get_params()
    assert not hasattr(other, "coefs_")
    assert not hasattr(other, "classes_")
    assert np.array_equal(other.fit(*iris).coefs_[0], classifier.coefs_[0])


@pytest.mark.slow
def test_grid_search_in_processes(iris):
    X, y = iris
    pipe = make_pipeline(StandardScaler(), MLPClassifier(max_iter=60, random_state=0, learning_rate_init=0.01))
    grid = {"mlpclassifier__hidden_layer_sizes": [(5,), (10, 5)], "mlpclassifier__alpha": [1e-4, 1.0]}
    search = GridSearchCV(pipe, grid, n_jobs=2, cv=3).fit(X, y)
    assert search.best_score_ > 0.9
    alone = GridSearchCV(pipe, grid, cv=3).fit(X, y)
    np.testing.assert_allclose(search.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"])


@pytest.mark.parametrize(
    "around",
    [
        lambda mlp: BaggingClassifier(mlp, n_estimators=3),
        lambda mlp: CalibratedClassifierCV(mlp, cv=3),
        OneVsRestClassifier,
        lambda mlp: StackingClassifier([("mlp", mlp), ("linear", LogisticRegression())], cv=3),
        lambda mlp: VotingClassifier([("mlp", mlp), ("linear", LogisticRegression())], voting="soft"),
    ],
)
def test_in_meta_estimators(iris, around):
    mlp = MLPClassifier((20,), max_iter=50, learning_rate_init=0.01, random_state=0)
    assert around(mlp).fit(*iris).score(*iris) > 0.9


def test_in_others(iris, diabetes):
    X, y = iris
    mlp = MLPClassifier((20,), max_iter=50, learning_rate_init=0.01, random_state=0)
    several = MultiOutputClassifier(mlp).fit(X, np.column_stack([y, y == 1]))
    assert several.predict(X).shape == (150, 2)
    assert permutation_importance(mlp.fit(X, y), X, y, n_repeats=2, random_state=0).importances_mean.shape == (4,)
    X, y = diabetes
    regressor = MLPRegressor(hidden_layer_sizes=5, solver="lbfgs", alpha=10, max_iter=30, random_state=0)
    target = TransformedTargetRegressor(regressor, transformer=StandardScaler())
    assert cross_val_score(target, X, y, cv=3).mean() > 0.3


def test_metadata_routing(iris):
    with config_context(enable_metadata_routing=True):
        mlp = MLPClassifier(max_iter=2).set_fit_request(sample_weight=True).set_score_request(sample_weight=False)
        pipe = make_pipeline(StandardScaler().set_fit_request(sample_weight=True), mlp)
        pipe.fit(*iris, sample_weight=np.ones(150))
        assert mlp.set_partial_fit_request(classes=True) is mlp


# -- Before fit, and after


def test_before_fit():
    for estimator in (MLPClassifier(), MLPRegressor()):
        for name in ("coefs_", "intercepts_", "n_layers_", "n_outputs_", "out_activation_", "loss_curve_", "classes_"):
            assert not hasattr(estimator, name)
        with pytest.raises(NotFittedError, match="not fitted yet"):
            estimator.predict([[0.0]])
    with pytest.raises(NotFittedError):
        MLPClassifier().predict_proba([[0.0]])


def test_weights_are_the_networks_own_memory(iris):
    X, y = iris
    classifier = MLPClassifier((6,), max_iter=5, random_state=0).fit(X, y)
    before = classifier.predict_proba(X)
    assert isinstance(classifier.coefs_, list)
    assert [w.shape for w in classifier.coefs_] == [(4, 6), (6, 3)]
    classifier.coefs_[1][:] = 0
    classifier.intercepts_[1][:] = 0
    np.testing.assert_allclose(classifier.predict_proba(X), 1 / 3)
    classifier.coefs_ = [np.ones((4, 6)), 2 * np.ones((6, 3))]
    classifier.intercepts_[1] = [0, 1, 0]
    assert (classifier.coefs_[1] == 2).all()
    assert (classifier.predict(X) == 1).all()
    assert not np.allclose(before, classifier.predict_proba(X))
    with pytest.raises(ValueError, match="shape"):
        classifier.coefs_[0] = np.ones((6, 4))
    with pytest.raises(ValueError, match="argument"):
        classifier.coefs_ = [np.ones((4, 6))]
    coefs = classifier.coefs_ + classifier.intercepts_
    assert len(coefs) == 4


def test_pruning_by_item(iris):
    classifier = MLPClassifier((6,), max_iter=5, random_state=0).fit(*iris)
    for i, weights in enumerate(classifier.coefs_):
        classifier.coefs_[i] = np.where(np.abs(weights) < 0.1, 0, weights)
    assert all((np.abs(w[w != 0]) >= 0.1).all() for w in classifier.network_.weights)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_go_on_alike(iris, copied, tmp_path):
    X, y = iris
    classifier = MLPClassifier((6,), random_state=0).partial_fit(X, y, classes=[0, 1, 2])
    other = copied(classifier)
    joblib.dump(classifier, tmp_path / "mlp.joblib")
    third = joblib.load(tmp_path / "mlp.joblib")
    for estimator in (classifier, other, third):
        estimator.partial_fit(X, y)
    assert np.array_equal(classifier.coefs_[0], other.coefs_[0])
    assert np.array_equal(classifier.coefs_[0], third.coefs_[0])
    assert np.array_equal(classifier.predict(X), other.predict(X))


def test_same_bits_for_any_number_of_threads(iris):
    X, y = load_digits(return_X_y=True)
    for solver in ("adam", "sgd", "lbfgs"):
        one, four = (
            MLPClassifier((50, 20), solver=solver, max_iter=4, random_state=0, n_threads=n).fit(X, y) for n in (1, 4)
        )
        assert all(np.array_equal(a, b) for a, b in zip(one.coefs_, four.coefs_, strict=True))
        assert one.loss_ == four.loss_


# -- X and y


@pytest.mark.parametrize(
    "y", [["a", "b", "c"], [True, False, True], [2.0, 7.0, 2.0], np.array(["x", "y", "x"], object)]
)
def test_labels_of_any_kind(y):
    X = np.eye(3)
    y = np.asarray(y)
    classifier = MLPClassifier(8, solver="lbfgs", max_iter=200, alpha=1e-6, random_state=0).fit(X, y)
    assert np.array_equal(classifier.predict(X), y)
    assert classifier.predict(X).dtype == classifier.classes_.dtype
    assert np.array_equal(classifier.classes_, np.unique(y))
    assert classifier.predict_proba(X).shape == (3, len(np.unique(y)))
    np.testing.assert_allclose(classifier.predict_log_proba(X), np.log(classifier.predict_proba(X)))


def test_one_class_only():
    classifier = MLPClassifier(max_iter=3).fit([[0.0], [1.0]], ["a", "a"])
    assert classifier.predict([[3.0]]).tolist() == ["a"]


def test_sparse_answers_come_back_sparse():
    X, y = make_multilabel_classification(random_state=0)
    dense = MLPClassifier(max_iter=5, random_state=0).fit(X, y)
    sparse = MLPClassifier(max_iter=5, random_state=0).fit(csr_matrix(X), csr_matrix(y))
    assert np.array_equal(sparse.predict(X).toarray(), dense.predict(X))
    assert dense.predict(csr_array(X)).dtype.kind == "i"
    np.testing.assert_allclose(dense.predict_proba(X), sparse.predict_proba(csr_array(X)), atol=1e-5)


def test_multiclass_multioutput_is_refused(iris):
    with pytest.raises(ValueError, match="Multioutput target data is not supported"):
        MLPClassifier().fit(iris[0], np.column_stack([iris[1], iris[1]]))
    with pytest.raises(ValueError, match="Unknown label type"):
        MLPClassifier().fit(iris[0], iris[1] + 0.5)


def test_a_column_of_y_is_a_row_with_a_warning(iris):
    X, y = iris
    for estimator in (MLPClassifier(max_iter=2), MLPRegressor(max_iter=2)):
        with pytest.warns(DataConversionWarning):
            estimator.fit(X, y.reshape(-1, 1))
        assert estimator.predict(X).shape == (150,)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint8, bool])
def test_types_of_rows(dtype):
    X, y = load_digits(return_X_y=True)
    X = X[:300].astype(dtype)
    expected = np.float32 if dtype is np.float32 else np.float64
    regressor = MLPRegressor(hidden_layer_sizes=5, max_iter=3, random_state=0).fit(X, y[:300])
    assert regressor.predict(X).dtype == expected
    assert regressor.predict(X[:1]).dtype == expected
    classifier = MLPClassifier(5, max_iter=3, random_state=0).fit(np.asfortranarray(X), y[:300])
    assert classifier.predict_proba(X).dtype == expected
    assert classifier.predict_proba(X[:1]).dtype == expected
    np.testing.assert_allclose(classifier.predict_proba(X).sum(axis=1), 1, rtol=1e-6)


def test_few_rows_and_many_agree(iris):
    X, y = iris
    classifier = MLPClassifier(max_iter=5, random_state=0).fit(X, y)
    for rows in (X, X.astype(np.float32), np.asfortranarray(X), X[::2], X[:, ::-1][:, ::-1]):
        alone = np.vstack([classifier.predict_proba(row[None]) for row in rows])
        np.testing.assert_allclose(alone, classifier.predict_proba(rows), atol=1e-6)
    assert classifier.predict(X[:1].tolist()).tolist() == [0]


@pytest.mark.parametrize("X", [[[np.nan] * 4], [[np.inf, 0, 0, 0]], [[1e300, 0, 0, 0]], [[0, 0]], [0, 0, 0, 0], [[]]])
def test_bad_rows_to_predict(iris, X):
    classifier = MLPClassifier(max_iter=2).fit(*iris)
    with pytest.raises(ValueError, match=r"NaN|infinity|finite|feature|2D array"):
        classifier.predict(np.array(X, float))


def test_values_beyond_float32(iris):
    message = "Solver produced non-finite parameter weights. The input data may contain large values"
    for solver in ("adam", "sgd", "lbfgs"):
        with pytest.raises(ValueError, match=message):
            MLPRegressor(solver=solver).fit(1e300 * iris[0], iris[1])
        with pytest.raises(ValueError, match=message):
            MLPRegressor(solver=solver).fit(iris[0], 1e300 * (1.0 + iris[1]))


def test_early_stopping_survives_divergence(iris):
    regressor = MLPRegressor(
        activation="identity", solver="sgd", learning_rate_init=1, max_iter=20, early_stopping=True
    )
    regressor.set_params(random_state=0).fit(50 * iris[0], iris[1])
    assert np.isnan(regressor.validation_scores_[-1])
    assert np.isfinite(regressor.predict(iris[0])).all()


def test_feature_names(iris):
    pandas = pytest.importorskip("pandas", reason="feature names come from its frames")
    X = pandas.DataFrame(iris[0], columns=list("abcd"))
    classifier = MLPClassifier(max_iter=2, early_stopping=True).fit(X, iris[1])
    assert classifier.feature_names_in_.tolist() == list("abcd")
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        classifier.predict(iris[0][:1])


# -- How training goes


def test_ctrl_c_leaves_a_model(iris):
    X, y = iris

    class Interrupt(fastmlp.callbacks.Callback):
        def on_batches(self, progress):
            if len(progress.history.loss) == 4:
                raise KeyboardInterrupt

    classifier = MLPClassifier(random_state=0, callbacks=[Interrupt()])
    with pytest.warns(UserWarning, match="Training interrupted by user"):
        classifier.fit(X, y)
    assert classifier.n_iter_ == len(classifier.loss_curve_) == 4
    assert classifier.predict(X).shape == (150,)


def test_convergence_warning(iris):
    with pytest.warns(ConvergenceWarning, match=r"Maximum iterations \(3\) reached"):
        MLPClassifier(max_iter=3).fit(*iris)
    with pytest.warns(ConvergenceWarning, match="lbfgs failed to converge"):
        MLPClassifier(max_iter=3, solver="lbfgs").fit(*iris)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MLPClassifier(max_iter=3, tol=1e9, n_iter_no_change=1).fit(*iris)
        MLPClassifier(max_iter=500, solver="lbfgs").fit(*iris)


def test_best_weights_are_kept(iris):
    X, y = iris
    classifier = MLPClassifier(early_stopping=True, random_state=0, learning_rate_init=0.5, max_iter=30).fit(X, y)
    assert max(classifier.validation_scores_) == classifier.best_validation_score_
    assert classifier.best_loss_ is None
    assert classifier.best_validation_score_ > min(classifier.validation_scores_[3:])


def test_partial_fit_and_classes(iris):
    X, y = iris
    with pytest.raises(ValueError, match="classes must be passed on the first call to partial_fit"):
        MLPClassifier().partial_fit(X, y)
    classifier = MLPClassifier().partial_fit(X[:50], y[:50], classes=[0, 1, 2])
    with pytest.raises(ValueError, match="is not the same as on last call"):
        classifier.partial_fit(X, y, classes=[0, 1])
    with pytest.raises(ValueError, match="has classes not in"):
        classifier.partial_fit(X, y + 1)
    with pytest.raises(ValueError, match="partial_fit does not support early_stopping=True"):
        MLPClassifier(early_stopping=True).partial_fit(X, y, classes=[0, 1, 2])
    for estimator in (MLPClassifier(solver="lbfgs"), MLPRegressor(solver="lbfgs")):
        assert not hasattr(estimator, "partial_fit")
    assert hasattr(MLPRegressor(solver="sgd"), "partial_fit")


def test_a_network_of_another_shape_is_not_gone_on_with(iris):
    X, y = iris
    classifier = MLPClassifier((5,), warm_start=True, max_iter=2).fit(X, y)
    kept = classifier.coefs_[0].copy()
    with pytest.raises(ValueError, match=r"ask for .*\(4, 6, 3\).*there is .*\(4, 5, 3\)"):
        classifier.set_params(hidden_layer_sizes=(6,)).fit(X, y)
    with pytest.raises(ValueError, match=r"tanh.*relu"):
        classifier.set_params(hidden_layer_sizes=(5,), activation="tanh").fit(X, y)
    with pytest.raises(ValueError, match="warm_start can only be used where `y` has the same classes"):
        classifier.set_params(activation="relu").fit(X[:100], y[:100])
    with pytest.raises(ValueError, match="features"):
        classifier.fit(X[:, :3], y)
    assert np.array_equal(classifier.coefs_[0], kept)


def test_weights_stand_for_repeated_rows(iris):
    """What scikit-learn's check asks to 1e-7, to the rounding of float32."""
    X, y = iris
    weights = np.random.default_rng(0).integers(0, 4, len(X))
    repeated = np.repeat(X, weights, axis=0), np.repeat(y, weights)
    for kind, tolerance in ((MLPClassifier, 1e-3), (MLPRegressor, 1e-3)):
        parameters = {"solver": "lbfgs", "alpha": 1.0, "max_iter": 30, "random_state": 0, "activation": "tanh"}
        by_weight = kind(**parameters).fit(X, y, sample_weight=weights)
        by_rows = kind(**parameters).fit(*repeated)
        assert by_weight.loss_ == pytest.approx(by_rows.loss_, rel=1e-3)
        np.testing.assert_allclose(by_weight.predict(X), by_rows.predict(X), atol=tolerance)


@pytest.mark.parametrize("weights", [np.zeros(150), -np.ones(150), np.ones(149), np.full(150, np.nan), "many"])
def test_bad_weights(iris, weights):
    with pytest.raises((ValueError, TypeError), match=r"sample_weight|Sample weight|could not convert"):
        MLPClassifier(max_iter=2).fit(*iris, sample_weight=weights)


def test_threads_fit_side_by_side(iris):
    X, y = iris
    expected = MLPClassifier(max_iter=20, random_state=0).fit(X, y)
    estimators = [MLPClassifier(max_iter=20, random_state=0) for _ in range(3)]
    threads = [threading.Thread(target=estimator.fit, args=(X, y)) for estimator in estimators]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for estimator in estimators:
        assert np.array_equal(estimator.coefs_[0], expected.coefs_[0])
