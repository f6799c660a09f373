"""What fit warns of, and that it says nothing of sound data."""

import re
import warnings

import numpy as np
import pytest
import scipy.sparse

import fastmlp
from fastmlp import MLP, cautions
from fastmlp.sparse import SparseRows

GENERATOR = np.random.default_rng(0)
TABLE = GENERATOR.normal(size=(2500, 6)).astype(np.float32)  # more rows than the sample has
LABELS = np.arange(2500) % 3


def said(call, *arguments):
    """What is warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call(*arguments)
    assert all(warning.category is UserWarning for warning in caught)
    return [str(warning.message) for warning in caught]


def scaled(column, factor, shift=0):
    X = TABLE.copy()
    X[:, column] = X[:, column] * factor + shift
    return X


# ---- Inputs


@pytest.mark.parametrize(
    ("X", "names", "message"),
    [
        (scaled(2, 2000), (), r"column 2 spread over 1.*e\+04, of column \d over \d"),
        (scaled(2, 1 / 2000), (), r"of column \d spread over \d.*, of column 2 over 0.003"),
        (scaled(2, 2000), list("abcdef"), r"of column 'c' spread over .*, of column '[abdef]' over"),
        (scaled(4, 1, 50_000), (), r"column 4 has values of 5e\+04"),
        (scaled(4, 1, -50_000), (), r"column 4 has values of 5e\+04"),
        (TABLE * 1e6, (), r"column \d has values of [\d.]+e\+06"),
        (np.full((1, 6), 2e4, np.float32), (), r"column 0 has values of 2e\+04"),
        (np.float32([[3e38, 1], [-3e38, 2]]), (), r"column 0 spread over 6e\+38, of column 1 over 1"),
    ],
)
def test_unscaled_columns(X, names, message):
    (warning,) = said(cautions.about_inputs, X, names)
    assert warning.startswith("X is unscaled: ")
    assert warning.endswith("and scikit-learn's StandardScaler brings all to one scale")
    assert re.search(message, warning)


FINE = {
    "standardised": TABLE,
    "a factor below 1,000": scaled(2, 100),
    "values below 10,000": scaled(2, 1, 9_000),
    "a constant column": scaled(2, 0, 7),
    "a column that is constant but for rounding": scaled(2, 1e-4, 1000),
    "rare indicators": np.column_stack([TABLE, GENERATOR.random((2500, 90)) < 1e-3]).astype(np.float32),
    "zeros": np.zeros((4, 3), np.float32),
    "a single row": TABLE[:1],
}


@pytest.mark.parametrize("case", FINE)
def test_sound_columns(case):
    assert said(cautions.about_inputs, FINE[case]) == []


@pytest.mark.slow
@pytest.mark.parametrize("n", [60, 1000, 1001, 5000])
def test_images_are_sound(n):
    """Though pixels at the border have little ink, and in blurred images next to none."""
    X, _ = fastmlp.load_mnist("validation")
    blurred = sum(np.roll(X.reshape(-1, 28, 28), shift, axis=2) * 0.1 ** abs(shift) for shift in (-4, -2, 0, 2, 4))
    for rows in (X[:n], 255 * X[:n], np.ascontiguousarray(blurred.reshape(-1, 784)[:n])):
        assert said(cautions.about_inputs, rows) == []
    wide = X[:n].copy()
    wide[:, 300] *= 9000
    assert "column 300" in said(cautions.about_inputs, wide)[0]


def test_sparse_rows():
    matrix = scipy.sparse.random(300, 50, 0.1, format="lil", random_state=0)
    assert said(cautions.about_inputs, SparseRows(matrix)) == []
    assert said(cautions.about_inputs, SparseRows(scipy.sparse.csr_array((3, 4)))) == []
    matrix[7, 9] = -3e4
    (warning,) = said(cautions.about_inputs, SparseRows(matrix))
    assert warning.startswith("X is unscaled: column 9 has values of 3e+04; ")
    assert "StandardScaler(with_mean=False)" in warning


def test_data_frames_have_names_for_columns():
    class Frame:
        columns = ("price", "share")
        dtypes = dict.fromkeys(columns, np.dtype(float))

        def __array__(self, dtype=None, copy=None):
            return np.array([[100, 0.25], [900, 0.5]])

    (warning,) = said(lambda: MLP((2, 2)).fit(Frame(), [0, 1], epochs=1, verbose=False))
    assert "column 'price' spread over 800, of column 'share' over 0.25; " in warning


# ---- Targets


@pytest.mark.parametrize(
    ("labels", "m", "message"),
    [
        ([1, 2, 3], 4, "y has no row of class 0, of the 4 that the network has outputs for; "),
        ([0, 2], 4, "y has no row of class 1 and 1 other, of the 4 that the network has outputs for; "),
        ([7], 50_000, "y has no row of class 0 and 49998 others, of the 50000 that the network has outputs for; "),
    ],
)
def test_classes_without_a_row(labels, m, message):
    (warning,) = said(cautions.about_classes, np.array(labels), m)
    assert warning.startswith(message)
    assert len(warning) < 200
    assert said(cautions.about_classes, np.arange(m), m) == []


def test_large_values_to_predict():
    assert said(cautions.about_values, np.float32([[999], [-999]])) == []
    (warning,) = said(cautions.about_values, np.float32([[3], [-2_500]]))
    assert warning.startswith("y is unscaled: it has values of 2.5e+03; a network learns (y - y.mean()) / y.std()")


# ---- In fit


def test_fit_warns_at_the_line_that_called_it():
    net = MLP((6, 8, 4))
    with pytest.warns(UserWarning, match="y has no row of class 3, of the 4") as caught:
        net.fit(TABLE, LABELS, epochs=1, verbose=False)
    assert caught[0].filename == __file__


def test_fit_warns_of_everything_at_once_and_never_again():
    net = MLP((6, 8, 4))
    fit = {"epochs": 1, "verbose": False}
    assert len(said(lambda: net.fit(scaled(2, 2000), LABELS, **fit))) == 2
    assert said(lambda: net.fit(scaled(2, 2000), LABELS, **fit)) == []
    net = MLP((6, 8, 1), loss="squared_error")
    assert len(said(lambda: net.fit(TABLE * 1e4, TABLE[:, :1] * 1e3, **fit))) == 2


def test_fit_does_not_warn_of_what_it_does_not_learn_from():
    held_out = scaled(2, 2000), np.zeros(2500, int)
    assert said(lambda: MLP((6, 3)).fit(TABLE, LABELS, epochs=1, validation_data=held_out, verbose=False)) == []
    answers = np.eye(4)[LABELS]  # rows of probabilities, of which a column may well be 0
    assert said(lambda: MLP((6, 4)).fit(TABLE, answers, epochs=1, verbose=False)) == []


def test_a_warning_that_is_an_error_leaves_the_network_as_it_was():
    net = MLP((6, 8, 4))
    before = net.parameters.copy()
    with pytest.raises(UserWarning, match="y has no row of class 3"):
        net.fit(TABLE, LABELS, verbose=False)
    np.testing.assert_array_equal(net.parameters, before)
    assert net._state is None
