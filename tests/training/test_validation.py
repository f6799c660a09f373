"""Metrics of the user's own: what they get, when, and what is said of wrong ones."""

import functools

import numpy as np
import pytest

from fastmlp import MLP
from fastmlp.callbacks import EarlyStopping

X = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
LABELS = np.random.default_rng(1).integers(0, 3, 60)
YES = (X[:, 0] > 0).astype(int)


def fit(metrics, y=LABELS, m=3, loss="cross_entropy", **options):
    net = MLP((4, 6, m), loss=loss)
    data = {"epochs": 3, "batch_size": 10, "validation_data": (X[40:], y[40:]), "verbose": False}
    return net, net.fit(X[:40], y[:40], **{**data, "metrics": metrics, **options})


def test_functions_of_scikit_learn_as_they_are():
    sklearn = pytest.importorskip("sklearn.metrics", reason="its functions are the metrics")
    net, history = fit([sklearn.accuracy_score, sklearn.balanced_accuracy_score])
    assert history.validation_accuracy_score == history.validation_accuracy
    assert history.validation_balanced_accuracy_score[-1] == sklearn.balanced_accuracy_score(
        LABELS[40:], net.predict(X[40:])
    )
    net, history = fit([sklearn.f1_score, sklearn.roc_auc_score], YES, 1, "binary_cross_entropy")
    assert history.validation_f1_score[-1] == sklearn.f1_score(YES[40:], net.predict(X[40:]))
    assert history.validation_roc_auc_score[-1] == sklearn.roc_auc_score(YES[40:], net.predict_proba(X[40:])[:, 0])
    net, history = fit({"f1": sklearn.f1_score, "r2": sklearn.r2_score}, YES, 2)
    assert history.validation_f1[-1] == sklearn.f1_score(YES[40:], net.predict(X[40:]))
    net, history = fit([sklearn.r2_score, sklearn.mean_absolute_error], X[:, :2] ** 2, 2, "squared_error")
    assert history.validation_r2_score[-1] == pytest.approx(net.evaluate(X[40:], X[40:, :2] ** 2)["r2"], rel=1e-5)


CASES = {
    "labels": (LABELS, 3, "cross_entropy"),
    "one-hot": (np.eye(3)[LABELS], 3, "cross_entropy"),
    "yes or no": (YES, 1, "binary_cross_entropy"),
    "several": (np.column_stack([YES, 1 - YES]), 2, "binary_cross_entropy"),
    "value": (X[:, 0], 1, "squared_error"),
    "values": (X[:, :2], 2, "squared_error"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_they_get(case):
    def look(y_true, y_pred):
        seen.append((y_true, y_pred))
        return 1

    def look_at_probabilities(y_true, y_proba):
        probabilities.append(y_proba)
        return 2.0

    seen, probabilities = [], []
    y, m, loss = CASES[case]
    metrics = [look] if loss == "squared_error" else [look, look_at_probabilities]
    net, history = fit(metrics, y, m, loss)
    assert history.validation_look == [1.0] * 3
    y_true, y_pred = seen[-1]
    np.testing.assert_array_equal(y_pred, net.predict(X[40:]))
    assert y_true.shape == y_pred.shape
    assert y_true.dtype == y_pred.dtype
    np.testing.assert_array_equal(y_true, (LABELS if case == "one-hot" else y)[40:])
    np.testing.assert_array_equal(seen[0][0], seen[0][1])  # tried before training
    if probabilities:
        expected = net.predict_proba(X[40:])
        np.testing.assert_array_equal(probabilities[-1], expected[:, 0] if m == 1 else expected)
        assert probabilities[0].shape == probabilities[-1].shape
        assert history.validation_look_at_probabilities == [2.0] * 3


def test_order_and_keys(capsys):
    _, history = fit({"b": lambda y_true, y_pred: 1, "a": lambda y_true, y_pred: np.float32(0.5)}, verbose=True)
    judged = ["validation_loss", "validation_accuracy", "validation_b", "validation_a"]
    assert list(history) == ["loss", *judged, "learning_rate", "seconds"]
    assert all(type(value) is float for value in history.validation_a)
    assert "validation_b=1.0000 validation_a=0.5000 seconds=" in capsys.readouterr().out


def test_early_stopping_by_ones_own_metric():
    values = iter([0, 1, 5, 4, 3, 2, 1])  # the first is for the trial
    stop = EarlyStopping("validation_own", patience=2)
    _, history = fit({"own": lambda y_true, y_pred: next(values)}, epochs=9, callbacks=[stop])
    assert history.validation_own == [1, 5, 4, 3]
    assert (stop.best, stop.best_epoch) == (5, 2)


def zero(y_true, y_pred):
    return 0


def probability(y_true, y_score):
    return 0


def fails(y_true, y_pred):
    return 1 / 0


@pytest.mark.parametrize(
    ("metrics", "kind", "message"),
    [
        (zero, TypeError, "metrics must be a dictionary of functions by their names, or a list of them, not <function"),
        ("f1", TypeError, "metrics must be a dictionary of functions by their names, or a list of them, not 'f1'"),
        (["f1"], (TypeError, ValueError), "metrics must .*'f1'"),
        ({"f1": "f1"}, TypeError, r"metrics must hold functions of \(y_true, y_pred\), not 'f1'"),
        ({"loss": zero}, ValueError, "not 'loss'"),
        ({"accuracy": zero}, ValueError, "not 'accuracy'"),
        ({"": zero}, ValueError, "not ''"),
        ({1: zero}, ValueError, "not 1"),
        ([zero, zero], ValueError, "metrics must have names of their own; they have zero, zero"),
        ([lambda y_true, y_pred: 0], ValueError, "metrics must be a dictionary where functions have no names"),
        ([functools.partial(zero)], ValueError, "metrics must be a dictionary where functions have no names"),
        ({"own": lambda y_true, y_pred: None}, ValueError, r"metrics\['own'\] must return a number, not None"),
        ({"own": lambda y_true, y_pred: [0]}, ValueError, r"metrics\['own'\] must return a number, not \[0\]"),
        ([fails], ZeroDivisionError, "by zero"),
    ],
)
def test_wrong_metrics_are_refused_before_training(metrics, kind, message):
    net = MLP((4, 6, 3))
    with pytest.raises(kind, match=message):
        net.fit(X, LABELS, validation_data=(X, LABELS), metrics=metrics, verbose=False)
    assert net._state is None


def test_metrics_need_validation_data_and_some_need_probabilities():
    with pytest.raises(ValueError, match="metrics are computed on validation_data, which is missing"):
        fit([zero], validation_data=None)
    with pytest.raises(ValueError, match=r"metrics\['probability'\] wants probabilities, which loss='squared_error'"):
        fit([probability], X[:, 0], 1, "squared_error")


def test_a_metric_that_fails_later_ends_training_in_order():
    values = iter([0.5, 0.5, "bad"])
    net = MLP((4, 6, 3))
    with pytest.raises(ValueError, match=r"metrics\['own'\] must return a number, not 'bad'"):
        net.fit(X, LABELS, validation_data=(X, LABELS), metrics={"own": lambda *_: next(values)}, verbose=False)
    assert net.history.validation_own == [0.5]
    assert net._state.epoch == 2
