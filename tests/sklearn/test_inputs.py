"""What is checked of X and y, at once or by scikit-learn; and rows that come again are listed once."""

import copy
import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn's checks are those meant")

from scipy.sparse import csr_matrix
from sklearn import config_context
from sklearn.datasets import load_digits

from fastmlp.engine import operations
from fastmlp.sklearn import MLPClassifier, MLPRegressor
from fastmlp.sklearn.inputs import fingerprint

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X[:500] / 16, y[:500]


# -- Marks of rows


def checksum(words, n_threads=1):
    return operations.checksum(words.reshape(1, -1), n_threads)


@pytest.mark.parametrize("n", [0, 1, 2, 7, 16, 1000, 16384, 16385, 50_000])
def test_a_checksum_tells_words_and_places(n):
    words = np.random.default_rng(n).integers(2**32, size=n, dtype=np.uint32)
    expected = checksum(words)
    assert checksum(words.copy(), n_threads=2) == checksum(words, n_threads=3) == expected
    for i in {0, n // 3, n - 1} if n else ():
        for bit in range(32):
            other = words.copy()
            other[i] ^= np.uint32(1) << np.uint32(bit)
            assert checksum(other) != expected
    if n > 1:
        assert checksum(words[::-1].copy()) != expected


def test_a_checksum_is_what_it_is_said_to_be():
    words = np.random.default_rng(0).integers(2**32, size=40_000, dtype=np.uint32)
    keys = np.arange(1, 20_001, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    keyed = words.view(np.uint64) + (keys ^ keys >> np.uint64(29))
    expected = ((keyed & np.uint64(2**32 - 1)) * (keyed >> np.uint64(32)) + keyed).sum(dtype=np.uint64)
    assert checksum(words) == int(expected)


@pytest.mark.parametrize("k", [1, 2, 7, 64, 16384, 16387])
def test_a_checksum_of_rows_that_lie_apart(k):
    words = np.random.default_rng(k).integers(2**32, size=(9, k + 1), dtype=np.uint32)
    apart = words[:, :k]
    expected = operations.checksum(apart, 1)
    assert operations.checksum(apart, 2) == operations.checksum(apart.copy(), 1) == expected
    assert operations.checksum(apart[::-1], 1) != expected
    if k % 2 == 0:
        assert checksum(apart.reshape(-1)) == expected


def test_rows_of_few_values_in_another_order_have_another_mark():
    X = np.random.default_rng(0).integers(2, size=(300, 8)).astype(np.float64)
    seen = {fingerprint(X): X.tobytes()}
    generator = np.random.default_rng(1)
    for _ in range(500):
        other = X.copy()
        i, j = generator.choice(300, 2, replace=False)
        other[[i, j]] = other[[j, i]]
        assert seen.setdefault(fingerprint(other), other.tobytes()) == other.tobytes()
    assert len(seen) > 400


def test_marks_tell_types_and_shapes(digits):
    X = digits[0]
    others = [X.astype(np.float32), X.reshape(250, 128), csr_matrix(X), csr_matrix(X).tocsc(), X[:-1].copy()]
    marks = [fingerprint(rows) for rows in (X, *others)]
    assert len(set(marks)) == len(marks)
    assert fingerprint(csr_matrix(X)) == marks[3]
    for rows in (X.tolist(), X.astype(object), X.astype(str), X + 1j, None):
        assert fingerprint(rows) is None


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.uint8, np.int64, bool])
@pytest.mark.parametrize("layout", [np.array, np.asfortranarray, lambda X: np.hstack([X, X])[:, :8], lambda X: X[::-1]])
def test_marks_of_other_types_and_layouts(dtype, layout):
    X = layout(np.random.default_rng(0).integers(2, size=(3000, 8)).astype(dtype))
    expected = fingerprint(X)
    assert fingerprint(layout(X.copy())[:] if layout is np.array else X) == expected
    for i in (0, 1023, 1024, 2999):
        X[i, 7] = 1 - X[i, 7]
        assert fingerprint(X) != expected
        X[i, 7] = 1 - X[i, 7]
    assert fingerprint(X) == expected


# -- Rows that come again


def partial_fits(X, y, change=lambda X, y, call: (X, y), **parameters):
    classifier = MLPClassifier(20, random_state=0, **parameters)
    for call in range(4):
        classifier.partial_fit(*change(X, y, call), classes=np.arange(10))
    return classifier


@pytest.mark.parametrize("as_given", [np.array, csr_matrix, lambda X: X.astype(np.float32), np.asfortranarray])
def test_kept_rows_change_nothing(digits, as_given):
    X, y = as_given(digits[0]), digits[1]
    kept = partial_fits(X, y)
    anew = MLPClassifier(20, random_state=0)
    for _ in range(4):
        anew = pickle.loads(pickle.dumps(anew))  # which has no rows
        anew.partial_fit(X, y, classes=np.arange(10))
    assert all(np.array_equal(a, b) for a, b in zip(kept.coefs_, anew.coefs_, strict=True))
    assert kept.loss_curve_ == anew.loss_curve_


def test_the_engine_is_kept(digits):
    X, y = digits
    classifier = partial_fits(X, y)
    trainer = classifier._kept.trainer
    assert classifier.partial_fit(X, y)._kept.trainer is trainer
    assert classifier.partial_fit(X.copy(), y.copy())._kept.trainer is trainer
    assert classifier.partial_fit(X, y[::-1])._kept.trainer is not trainer
    assert classifier.partial_fit(X, y, np.ones(500))._kept.data.weights is not None
    for copied in (copy.deepcopy(classifier), copy.copy(classifier)):
        assert "_kept" not in vars(copied)
    assert classifier.fit(X, y)._kept is None
    assert classifier.set_params(warm_start=True).fit(X, y)._kept is not None


def test_an_array_that_was_changed_in_place_is_read_anew(digits):
    def change(X, y, call):
        if call == 1:
            X[:] = X[::-1].copy()
        elif call == 2:
            X[3, 7] = np.nextafter(X[3, 7], 1)
        else:
            y[:] = (y + call) % 10
        return X, y

    kept = partial_fits(digits[0].copy(), digits[1].copy(), change)
    copies = partial_fits(digits[0].copy(), digits[1].copy(), lambda X, y, call: [a.copy() for a in change(X, y, call)])
    anew = partial_fits(digits[0].copy(), digits[1].copy(), lambda X, y, call: [change(X, y, call)[0].tolist(), y])
    unchanged = partial_fits(*digits)
    for other in (copies, anew):
        assert np.array_equal(kept.coefs_[0], other.coefs_[0])
    assert not np.array_equal(kept.coefs_[0], unchanged.coefs_[0])


def test_nan_in_place_is_seen(digits):
    X, y = digits[0].copy(), digits[1]
    classifier = partial_fits(X, y)
    X[7, 3] = np.nan
    before = classifier.coefs_[0].copy()
    with pytest.raises(ValueError, match="NaN"):
        classifier.partial_fit(X, y)
    assert np.array_equal(classifier.coefs_[0], before)


def test_options_that_change_are_followed(digits):
    X, y = digits
    whole = MLPClassifier(20, random_state=0, batch_size=50).partial_fit(X, y, classes=np.arange(10))
    for batch_size in (50, 100, 100, 33):
        whole.set_params(batch_size=batch_size).partial_fit(X, y)
    other = MLPClassifier(20, random_state=0, batch_size=50).partial_fit(X, y, classes=np.arange(10))
    for batch_size in (50, 100, 100, 33):
        other = copy.deepcopy(other).set_params(batch_size=batch_size).partial_fit(X, y)
    assert np.array_equal(whole.coefs_[0], other.coefs_[0])


# -- Plain arrays are checked at once, and all others by scikit-learn: to the same results, with the same errors


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_plain_and_other_inputs_agree(digits, kind):
    X, y = digits
    parameters = {"hidden_layer_sizes": 8, "max_iter": 3, "random_state": 0}
    expected = kind(**parameters).fit(X, y)
    for rows, values in ((X.tolist(), y.tolist()), (np.asfortranarray(X), y), (X, list(y)), (X, y.astype(np.int16))):
        estimator = kind(**parameters).fit(rows, values)
        assert np.array_equal(estimator.coefs_[0], expected.coefs_[0])
        assert estimator.n_features_in_ == 64


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda X, y: (X[:-1], y), "inconsistent numbers of samples"),
        (lambda X, y: (X[:0], y[:0]), "minimum of 1|0 sample"),
        (lambda X, y: (np.where(X[0, 3] == X, np.nan, X), y), "contains NaN"),
        (lambda X, y: (np.where(X[0, 3] == X, -np.inf, X).astype(np.float32), y), "contains infinity"),
        (lambda X, y: (X[:, 0], y), "Expected 2D array"),
        (lambda X, y: (X, np.where(np.arange(500) == 3, np.nan, y)), "contains NaN"),
        (lambda X, y: (X, None), "requires y to be passed"),
        (lambda X, y: (X + 1j, y), "Complex data"),
    ],
)
def test_errors_are_scikit_learns(digits, kind, change, match):
    with pytest.raises(ValueError, match=match):
        kind(max_iter=2).fit(*change(*digits))


def test_columns_are_those_of_fit(digits):
    X, y = digits
    classifier = MLPClassifier(8, max_iter=2).fit(X, y)
    for predict in (classifier.predict, classifier.predict_proba):
        for rows in (X[:, 1:], X[:1, 1:], X[:, :1].astype(np.float32)):
            with pytest.raises(ValueError, match="features, but MLPClassifier is expecting 64 features"):
                predict(rows)


def test_parameters_are_checked_each_time(digits):
    classifier = MLPClassifier(8, max_iter=2).fit(*digits)
    for name, value in (("max_iter", 2.0), ("shuffle", 2), ("tol", -1.0), ("alpha", "1"), ("max_iter", True - 1)):
        with pytest.raises(ValueError, match=f"The '{name}' parameter of MLPClassifier must be"):
            classifier.set_params(**{name: value}).fit(*digits)
        classifier.set_params(max_iter=2, shuffle=True, tol=1e-4, alpha=1e-4).fit(*digits)
    with config_context(skip_parameter_validation=True):
        classifier.set_params(n_iter_no_change=2.5).fit(*digits)
    with pytest.raises(ValueError, match="n_iter_no_change"):
        classifier.fit(*digits)
