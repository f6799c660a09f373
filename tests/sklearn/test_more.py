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
from sklearn.metrics import f1_score, get_scorer

import fastmlp
from fastmlp import sklearn as ours
from fastmlp.losses import Huber, Quantile
from fastmlp.sklearn import MLPClassifier, MLPRegressor
from fastmlp.sklearn.growth import grow

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


def test_clipping_by_value(iris):
    first = MLPClassifier(max_iter=1, random_state=0, learning_rate_init=1e-12).fit(*iris)
    step = {"max_iter": 1, "random_state": 0, "solver": "sgd", "learning_rate_init": 1.0, "alpha": 0.0}
    clipped = MLPClassifier(clip_value=1e-3, nesterovs_momentum=False, **step).fit(*iris)
    assert np.abs(clipped.coefs_[0] - first.coefs_[0]).max() == pytest.approx(1e-3, rel=1e-2)
    for name in ("clip_value", "clip_norm"):
        with pytest.raises(ValueError, match=f"'{name}' parameter"):
            MLPClassifier(**{name: 0.0}).fit(*iris)


@pytest.mark.parametrize("kind", ["MLPClassifier", "MLPRegressor"])
def test_dropout(iris, kind):
    model = getattr(ours, kind)(hidden_layer_sizes=(40, 30), dropout=(0.5, 0.2), max_iter=60, random_state=0, tol=0)
    model.set_params(learning_rate_init=0.02).fit(*iris)
    assert model.network_.dropout == (0.5, 0.2)
    assert model.score(*iris) > 0.85
    plain = clone(model).set_params(dropout=0.0).fit(*iris)
    assert plain.loss_ < model.loss_
    assert np.array_equal(clone(model).set_params(n_threads=1).fit(*iris).coefs_[0], model.coefs_[0])
    other = clone(model).set_params(random_state=1).fit(*iris)
    assert other.network_.seed != model.network_.seed
    # None of it, and the bits are those without.
    assert np.array_equal(clone(model).set_params(dropout=[0, 0]).fit(*iris).coefs_[0], plain.coefs_[0])
    for dropout, match in ((1.0, "dropout"), ((0.5,), "dropout must be one, or one for each"), ((2, 0), "dropout")):
        with pytest.raises(ValueError, match=match):
            clone(model).set_params(dropout=dropout).fit(*iris)


def test_batch_norm(iris):
    X, y = iris
    X = 1e3 * X + 5e3  # which without normalisation is hard to learn from
    parameters = {"max_iter": 40, "random_state": 0, "learning_rate_init": 0.01, "batch_size": 30}
    plain, normalised = (MLPClassifier((30,), batch_norm=norm, **parameters).fit(X, y) for norm in (False, True))
    assert normalised.score(X, y) > max(0.9, plain.score(X, y))
    assert [layer.normalised for layer in normalised.network_.layers] == [True, False]
    early = MLPClassifier((30,), batch_norm=True, early_stopping=True, **parameters).fit(X, y)
    assert early.best_validation_score_ == max(early.validation_scores_)
    np.testing.assert_allclose(normalised.to_sklearn().predict_proba(X), normalised.predict_proba(X), atol=1e-3)
    with pytest.raises(ValueError, match="batch_size must be at least 2 with batch_norm"):
        MLPClassifier(batch_norm=True, batch_size=1).fit(X, y)
    with pytest.raises(ValueError, match="batch_norm must not be asked for with solver='lbfgs'"):
        MLPClassifier(batch_norm=True, solver="lbfgs").fit(X, y)
    with pytest.raises(ValueError, match="'batch_norm' parameter"):
        MLPClassifier(batch_norm="yes").fit(X, y)


@pytest.mark.parametrize("classes", [2, 3])
def test_label_smoothing(iris, classes):
    X, y = iris[0][: 50 * classes], iris[1][: 50 * classes]
    plain, smoothed = (
        MLPClassifier(30, max_iter=400, learning_rate_init=0.02, label_smoothing=s, random_state=0, tol=0).fit(X, y)
        for s in (0.0, 0.3)
    )
    sure = 1 - 0.3 + 0.3 / classes
    assert plain.predict_proba(X[:50]).max(axis=1).mean() > 0.99
    assert smoothed.predict_proba(X[:50]).max(axis=1).mean() == pytest.approx(sure, abs=0.03)
    assert smoothed.score(X, y) > 0.95
    with pytest.raises(ValueError, match="'label_smoothing' parameter"):
        MLPClassifier(label_smoothing=1.0).fit(X, y)


def test_label_smoothing_of_several_answers():
    X, y = make_multilabel_classification(random_state=0)
    model = MLPClassifier(30, max_iter=300, learning_rate_init=0.02, label_smoothing=0.2, random_state=0).fit(X, y)
    answers = model.predict_proba(X)
    assert answers[y == 1].mean() == pytest.approx(0.9, abs=0.07)
    assert answers[y == 0].mean() == pytest.approx(0.1, abs=0.07)


def test_scoring(iris):
    X, y = iris
    parameters = {"early_stopping": True, "max_iter": 30, "random_state": 0, "learning_rate_init": 0.05}
    given = {"X_val": X[::2], "y_val": y[::2]}
    by_f1 = MLPClassifier(scoring="f1_macro", **parameters).fit(X, y, **given)
    assert by_f1.best_validation_score_ == pytest.approx(f1_score(y[::2], by_f1.predict(X[::2]), average="macro"))
    by_loss = MLPClassifier(scoring="loss", **parameters).fit(X, y, **given)
    assert by_loss.validation_scores_ == pytest.approx([-loss for loss in by_loss.validation_loss_curve_])
    calls = []

    def negative_errors(estimator, X, y):
        calls.append(len(X))
        return -float((estimator.predict(X) != y).sum())

    by_function = MLPClassifier(scoring=negative_errors, **parameters).fit(X, y)
    assert calls == [15] * by_function.n_iter_
    assert by_function.best_validation_score_ <= 0
    weights = np.random.default_rng(0).random(75)
    weighted = MLPClassifier(scoring="balanced_accuracy", max_iter=3, random_state=0)
    weighted.fit(X, y, **given, sample_weight_val=weights)
    expected = get_scorer("balanced_accuracy")(weighted, X[::2], y[::2], sample_weight=weights)
    assert weighted.validation_scores_[-1] == pytest.approx(expected)
    regressor = MLPRegressor(scoring="neg_mean_absolute_error", **parameters).fit(X, y)
    assert regressor.best_validation_score_ < 0
    with pytest.raises(ValueError, match="'scoring' parameter"):
        MLPClassifier(scoring="beauty").fit(X, y)


def test_scoring_of_a_data_frame(iris):
    pandas = pytest.importorskip("pandas", reason="its frames have names of columns")
    X = pandas.DataFrame(iris[0], columns=list("abcd"))
    model = MLPClassifier(scoring="f1_macro", early_stopping=True, max_iter=3, random_state=0).fit(X, iris[1])
    assert model.feature_names_in_.tolist() == list("abcd")


# -- Losses of the regressor


def skewed():
    generator = np.random.default_rng(0)
    X = generator.uniform(-1, 1, (2000, 1))
    return X, generator.exponential(1 + (X[:, 0] > 0))


LOSSES = ("squared_error", "absolute_error", "huber", "poisson")
LOSS = {"hidden_layer_sizes": (20,), "max_iter": 60, "learning_rate_init": 0.01, "random_state": 0, "tol": 0}


def test_absolute_error_is_the_median():
    X, y = skewed()
    mean, median = (MLPRegressor(loss, **LOSS).fit(X, y).predict([[-0.5], [0.5]]) for loss in LOSSES[:2])
    np.testing.assert_allclose(mean, [1, 2], rtol=0.15)
    np.testing.assert_allclose(median, [np.log(2), 2 * np.log(2)], rtol=0.15)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_losses(loss, solver):
    X, y = skewed()
    model = MLPRegressor(loss, solver=solver, **{**LOSS, "hidden_layer_sizes": 5, "max_iter": 20}).fit(X, y)
    assert 0 < model.predict(X).mean() < 3
    assert model.network_.loss == loss
    assert np.isfinite(model.loss_)


def test_huber_lies_between():
    X, y = skewed()
    small, large = (MLPRegressor(Huber(delta), **LOSS).fit(X, y).predict(X).mean() for delta in (0.05, 50.0))
    assert small < 0.85 * large


def test_quantiles():
    X, y = skewed()
    model = MLPRegressor(Quantile((0.1, 0.5, 0.9)), **LOSS).fit(X, y)
    predicted = model.predict(X)
    assert predicted.shape == (2000, 3)
    np.testing.assert_allclose((y[:, None] < predicted).mean(axis=0), [0.1, 0.5, 0.9], atol=0.04)
    early = MLPRegressor(Quantile((0.9,)), early_stopping=True, **LOSS).fit(X, y)
    assert early.predict(X).shape == (2000,)
    assert early.best_validation_score_ == -min(early.validation_loss_curve_)


@pytest.mark.slow
def test_poisson_is_scikit_learns():
    X, y = skewed()
    y = np.random.default_rng(1).poisson(y).astype(float)
    parameters = {**LOSS, "max_iter": 10, "batch_size": 64}
    pair = [module.MLPRegressor("poisson", **parameters) for module in (theirs, ours)]
    for weights in (None, np.random.default_rng(2).random(2000)):
        for solver in ("adam", "sgd"):
            expected, actual = (m.set_params(solver=solver, learning_rate_init=0.003).fit(X, y, weights) for m in pair)
            np.testing.assert_allclose(actual.predict(X), expected.predict(X), rtol=1e-2)
            if weights is None:
                np.testing.assert_allclose(actual.loss_curve_, expected.loss_curve_, rtol=3e-3)
        expected, actual = (m.set_params(solver="lbfgs").fit(X, y, weights) for m in pair)
        assert actual.loss_ == pytest.approx(expected.loss_, rel=1e-2)
    assert actual.out_activation_ == expected.out_activation_
    np.testing.assert_allclose(actual.to_sklearn().predict(X), actual.predict(X), rtol=1e-4)
    several = np.column_stack([y, y + 1])
    expected, actual = (m.set_params(solver="adam", early_stopping=True).fit(X, several) for m in pair)
    np.testing.assert_allclose(actual.loss_curve_, expected.loss_curve_, rtol=3e-3)
    np.testing.assert_allclose(actual.validation_scores_, expected.validation_scores_, atol=0.01)


def test_bad_losses(iris):
    with pytest.raises(ValueError, match="y must hold counts or rates, from 0 on, for loss='poisson'"):
        MLPRegressor("poisson").fit(iris[0], -(iris[0][:, 0] ** 2))
    with pytest.raises(ValueError, match="'loss' parameter"):
        MLPRegressor("cross_entropy").fit(*iris)
    with pytest.raises(ValueError, match="loss must be one of values"):
        MLPRegressor(fastmlp.losses.CrossEntropy()).fit(*iris)
    with pytest.raises(ValueError, match="'loss' parameter"):  # scikit-learn's
        MLPRegressor("huber", max_iter=2).fit(*iris).to_sklearn()


# -- Classes that come later


def test_classes_that_come_later(iris):
    X, y = iris
    names = np.array(["b", "c", "a"])[y]
    model = MLPClassifier(20, grow_classes=True, random_state=0, learning_rate_init=0.02)
    two = y < 2
    for _ in range(60):
        model.partial_fit(X[two], names[two])
    assert model.classes_.tolist() == ["b", "c"]
    assert model.score(X[two], names[two]) == 1
    before = model.predict_proba(X)
    hidden, step = model.coefs_[0].copy(), model.network_._state.step
    model.partial_fit(X[:1], ["a"])
    assert model.classes_.tolist() == ["a", "b", "c"]
    assert model.network_.layer_sizes == (4, 20, 3)
    assert model.network_._state.step == step + 1
    assert np.abs(model.coefs_[0] - hidden).max() < 0.1
    after = model.predict_proba(X[two])[:, 1:]
    np.testing.assert_allclose(after / after.sum(axis=1, keepdims=True), before[two], atol=0.2)
    for _ in range(100):
        model.partial_fit(X, names)
    assert model.score(X, names) > 0.9
    model.partial_fit(X[:2], ["d", "e"], classes=None)
    assert model.network_.layer_sizes[-1] == 5
    assert pickle.loads(pickle.dumps(model)).partial_fit(X, names).predict(X).shape == (150,)


@pytest.mark.parametrize("order", [["a", "b"], ["b", "a"]])
def test_a_second_class_comes_later(order):
    X = np.array([[0.0], [1.0]])
    model = MLPClassifier(8, grow_classes=True, random_state=0, learning_rate_init=0.05)
    for _ in range(30):
        model.partial_fit(X[:1], order[:1])
    assert model.predict(X[:1]).tolist() == order[:1]
    model.partial_fit(X[:1], order[:1])
    for _ in range(100):
        model.partial_fit(X, order)
    assert model.predict(X).tolist() == order
    assert model.network_.layer_sizes[-1] == 1


def test_known_outputs_stay_what_they_are():
    X = np.random.default_rng(0).standard_normal((50, 3))
    y = np.repeat([1, 3, 5, 7, 9], 10)
    model = MLPClassifier(6, random_state=0, grow_classes=True).partial_fit(X, y)
    before, moments = model._logits(X), model.network_._state.moments
    assert grow(model, np.array([0, 4, 9])) == "multiclass"
    assert model.classes_.tolist() == [0, 1, 3, 4, 5, 7, 9]
    np.testing.assert_allclose(model._logits(X)[:, [1, 2, 4, 5, 6]], before, rtol=1e-5)
    wider = model.network_._state.moments[0]
    last = wider[-7 * 7 :].reshape(7, 7)
    assert np.array_equal(last[:, [1, 2, 4, 5, 6]].ravel(), moments[0][-7 * 5 :])
    assert not last[:, [0, 3]].any()


def test_classes_come_later_only_where_they_may(iris):
    X, y = iris
    model = MLPClassifier(grow_classes=True).partial_fit(X, y)
    with pytest.raises(ValueError, match="has classes not in"):
        MLPClassifier(grow_classes=True, max_iter=2).fit(X, y, X_val=X, y_val=y + 1)
    with pytest.raises(ValueError, match="has classes not in"):
        model.set_params(grow_classes=False).partial_fit(X, y + 1)
    X, y = make_multilabel_classification(random_state=0)
    model = MLPClassifier(grow_classes=True).partial_fit(X, y, classes=np.arange(5))
    assert model.partial_fit(X, y).predict(X).shape == y.shape


def test_a_history_has_what_was_held_out(iris):
    histories = []

    class Keep(fastmlp.callbacks.Callback):
        def on_fit_end(self, progress):
            histories.append(progress.history)

    stop = fastmlp.callbacks.EarlyStopping(patience=3)
    model = MLPClassifier(callbacks=[Keep(), stop], early_stopping=True, max_iter=5, random_state=0).fit(*iris)
    assert histories[0]["validation_loss"] == model.validation_loss_curve_
    assert histories[0]["validation_score"] == histories[0]["validation_accuracy"] == model.validation_scores_
    MLPRegressor(callbacks=[Keep()], max_iter=2).fit(*iris, X_val=iris[0], y_val=iris[1])
    assert "validation_r2" in histories[1]


def test_a_progress_bar(iris, capsys):
    MLPClassifier(callbacks=[fastmlp.callbacks.ProgressBar(every=5)], max_iter=10, random_state=0).fit(*iris)
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == ["1", "5", "10"]


@pytest.mark.parametrize("callbacks", [None, [1], fastmlp.callbacks.TimeLimit(1)])
def test_bad_callbacks(iris, callbacks):
    with pytest.raises(TypeError, match="callbacks must"):
        MLPClassifier(callbacks=callbacks).fit(*iris)


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
