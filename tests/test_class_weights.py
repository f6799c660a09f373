"""Weights of classes: the same training as with the rows' own weights."""

import numpy as np
import pytest

from fastmlp import MLP
from fastmlp.class_weights import weights_of_rows
from fastmlp.rows import Targets

X = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
Y = np.random.default_rng(1).choice(3, 60, p=[0.7, 0.2, 0.1])


def fit(y=Y, *, m=3, loss="cross_entropy", **options):
    net = MLP((4, 6, m), loss=loss)
    net.fit(X, y, epochs=2, batch_size=10, verbose=False, **options)
    return net.parameters


def test_balanced_weights_are_those_of_scikit_learn():
    utils = pytest.importorskip("sklearn.utils", reason="compares with scikit-learn")
    expected = utils.compute_sample_weight("balanced", Y)
    np.testing.assert_array_equal(fit(class_weight="balanced"), fit(sample_weight=expected))
    by_class = utils.compute_class_weight("balanced", classes=np.arange(3), y=Y)
    np.testing.assert_array_equal(fit(class_weight=dict(enumerate(by_class))), fit(sample_weight=expected))
    assert not np.array_equal(fit(), fit(class_weight="balanced"))


@pytest.mark.filterwarnings("ignore:y has no row of class")
def test_classes_without_a_row_do_not_count():
    np.testing.assert_array_equal(
        fit(m=5, class_weight="balanced"), fit(m=5, sample_weight=(60 / 3 / np.bincount(Y))[Y])
    )


def test_they_multiply_the_rows_own_weights():
    own = np.linspace(0, 2, 60, dtype=np.float32)
    weights = np.array([0.5, 1, 4])
    expected = fit(sample_weight=own * weights[Y])
    np.testing.assert_array_equal(fit(class_weight={0: 0.5, 1: 1, 2: 4}, sample_weight=own), expected)
    np.testing.assert_array_equal(
        fit(class_weight={np.int64(2): 4, 0: np.float32(0.5), 1: 1}, sample_weight=own), expected
    )


def test_one_hot_rows_and_yes_or_no():
    weights = {0: 1, 1: 2, 2: 4}
    np.testing.assert_array_equal(fit(np.eye(3)[Y], class_weight=weights), fit(np.eye(3)[Y], sample_weight=2.0**Y))
    yes = (Y > 0).astype(np.float32)
    task = {"m": 1, "loss": "binary_cross_entropy"}
    expected = fit(yes, sample_weight=1 + 2 * yes, **task)
    np.testing.assert_array_equal(fit(yes, class_weight={0: 1, 1: 3}, **task), expected)
    np.testing.assert_array_equal(fit(yes[:, None], class_weight={0: 1, 1: 3}, **task), expected)


def test_weights_of_rows():
    weights = weights_of_rows({0: 2, 1: 0.5}, Targets(np.array([1, 0]), None), 2, "cross_entropy", np.float32([4, 1]))
    assert weights.dtype == np.float32
    np.testing.assert_array_equal(weights, [2, 2])


@pytest.mark.parametrize(
    ("class_weight", "message"),
    [
        ({0: 1, 1: 1}, "class_weight must have a weight for each label of y; 2 has none"),
        ({0: 1, 1: 1, 2: 1, 3: 1}, "class_weight must have labels from 0 to 2; it has 3"),
        ({0: 1, 1: 1, 2: 1, -1: 1}, "labels from 0 to 2; it has -1"),
        ({0: 1, 1: 1, 2: 1, "2": 1}, "labels from 0 to 2; it has '2'"),
        ({0: 1, True: 1, 2: 1}, "labels from 0 to 2; it has True"),
        ({0: 1, 1: -1, 2: 1}, r"class_weight\[1\] must be finite and at least 0, not -1"),
        ({0: 1, 1: np.nan, 2: 1}, r"class_weight\[1\] must be finite"),
        ({0: 1, 1: None, 2: 1}, r"class_weight\[1\] must be a number, not None"),
        ({0: 0, 1: 0, 2: 0}, "class_weight must have a weight above 0 among the rows to learn from"),
        ({0: 1e300, 1: 0, 2: 0}, "weights that are finite in float32"),
        ({}, "a weight for each label of y; 0 has none"),
        ("balance", "class_weight must be one of balanced; not 'balance'"),
        ([1, 1, 1], r"class_weight must be 'balanced' or a dictionary of labels' weights, not \[1, 1, 1\]"),
    ],
)
def test_wrong_weights_are_refused_before_training(class_weight, message):
    net = MLP((4, 6, 3))
    with pytest.raises((TypeError, ValueError), match=message):
        net.fit(X, Y, class_weight=class_weight, verbose=False)
    assert net._state is None


@pytest.mark.parametrize(
    ("loss", "y"),
    [
        ("squared_error", np.eye(3)[Y]),
        ("binary_cross_entropy", np.eye(3)[Y]),
        ("cross_entropy", np.full((60, 3), 1 / 3)),
        ("cross_entropy", np.eye(3)[Y] * 0.9 + 0.1 / 3),
    ],
)
def test_what_has_no_classes(loss, y):
    with pytest.raises(ValueError, match="class_weight needs a y of labels, of one-hot rows or"):
        fit(y, loss=loss, class_weight="balanced")
