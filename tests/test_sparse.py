"""SciPy's sparse matrices in the place of X: the same results as with its zeros written out, and what is refused."""

import tracemalloc

import numpy as np
import pytest
from scipy import sparse

import fastmlp
from fastmlp import network as network_module
from fastmlp.engine.prediction import Predictor
from fastmlp.sparse import SparseRows, is_sparse

QUIET = {"epochs": 2, "batch_size": 32, "verbose": False}
FORMATS = [sparse.csr_matrix, sparse.csr_array, sparse.csc_array, sparse.coo_array, sparse.lil_array, sparse.bsr_array]


def problem(n, k, density, seed=0):
    generator = np.random.default_rng(seed)
    X = generator.standard_normal((n, k), np.float32) * (generator.random((n, k)) < density)
    X[n // 2] = 0
    return X, generator.integers(3, size=n)


def trained(X, y, layer_sizes, **options):
    network = fastmlp.MLP(layer_sizes, **options)
    network.fit(X, y, **QUIET, validation_data=(X[:20], y[:20]))
    return network


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize(
    ("layer_sizes", "density"),
    [((1, 3), 0.5), ((10, 8, 3), 0.2), ((100, 70, 3), 0.3), ((700, 130, 66, 3), 0.1), ((5000, 9, 3), 0.005)],
)
def test_training_gives_the_same_bits_as_on_the_dense_rows(layer_sizes, density, n_threads):
    """Zeros change no sum, and both ways add in the order of the columns."""
    X, y = problem(100, layer_sizes[0], density)
    expected = trained(X, y, layer_sizes, n_threads=1)
    network = trained(sparse.csr_array(X), y, layer_sizes, n_threads=n_threads)
    np.testing.assert_array_equal(network.parameters, expected.parameters)


def test_mostly_nonzero_rows():
    X, y = problem(100, 80, 0.9)
    network, expected = trained(sparse.csr_array(X), y, (80, 70, 3)), trained(X, y, (80, 70, 3))
    np.testing.assert_array_equal(network.parameters, expected.parameters)


@pytest.mark.parametrize("of", FORMATS)
def test_every_format(of):
    X, y = problem(100, 90, 0.2)
    network, expected = trained(sparse.csr_array(X), y, (90, 70, 3)), fastmlp.MLP((90, 70, 3))
    expected.parameters[:] = network.parameters
    matrix = of(X)
    for rows in (matrix, matrix.astype(np.float64), of(X[:1]), of(X[:0])):
        dense = rows.toarray().astype(np.float32)
        np.testing.assert_array_equal(network.logits(rows), expected.logits(dense))
        np.testing.assert_array_equal(network.predict_proba(rows), expected.predict_proba(dense))
        np.testing.assert_array_equal(network.predict(rows), expected.predict(dense))
    assert network.evaluate(matrix, y) == expected.evaluate(X, y)


@pytest.mark.slow
@pytest.mark.parametrize("n_threads", [1, 2])
def test_prediction_takes_wide_rows_by_their_values_and_not_by_their_zeros(monkeypatch, n_threads):
    """Each call of the engine is a rendezvous of threads: many small ones take longer than the rows."""
    calls = []

    class Counted:
        def __init__(self, *arguments):
            self.predictor = Predictor(*arguments)

        def logits(self, out, *rows):
            calls.append(len(out))
            self.predictor.logits(out, *rows)

    monkeypatch.setattr(network_module, "Predictor", Counted)
    network, n, k = fastmlp.MLP((20_000, 256, 3), n_threads=n_threads), 1500, 20_000
    X = sparse.csr_array((np.ones(5 * n), np.arange(5 * n) % k, np.arange(0, 5 * n + 1, 5)), shape=(n, k))
    network.predict(X)
    assert calls == [n]
    network.predict(X.toarray())
    assert len(calls) > 3


def test_unsorted_and_repeated_entries():
    begin, columns = [0, 3, 3, 5], [2, 0, 2, 1, 0]
    matrix = sparse.csr_array(([1.0, 2.0, 4.0, 8.0, 16.0], columns, begin), shape=(3, 3))
    assert matrix.has_sorted_indices in (True, False)
    matrix.has_sorted_indices = matrix.has_canonical_format = True  # what it says of itself may be out of date
    rows = SparseRows(matrix)
    assert rows.columns.tolist() == [0, 2, 0, 1]
    np.testing.assert_array_equal(rows.dense(0, 3), [[2, 0, 5], [0, 0, 0], [16, 8, 0]])
    assert matrix.indices.tolist() == columns  # the caller's own is as it was


def test_read_only_matrices():
    X, y = problem(60, 70, 0.2)
    matrix = sparse.csr_array(X)
    for array in (matrix.data, matrix.indices, matrix.indptr):
        array.flags.writeable = False
    assert np.array_equal(trained(matrix, y, (70, 70, 3)).parameters, trained(X, y, (70, 70, 3)).parameters)


def test_arrays_with_gaps_and_between_two_places():
    matrix = unsound()
    expected = SparseRows(matrix)
    gaps = np.repeat(matrix.data, 2)[::2]
    assert not gaps.flags.c_contiguous
    shifted = np.frombuffer(b"." + matrix.data.tobytes(), np.float32, offset=1)
    assert not shifted.flags.aligned
    for data in (gaps, shifted):
        indices, indptr = (np.repeat(array, 2)[::2] for array in (matrix.indices, matrix.indptr))
        rows = SparseRows(sparse.csr_array((data, indices, indptr), shape=matrix.shape))
        for name in ("begin", "columns", "values"):
            array = getattr(rows, name)
            np.testing.assert_array_equal(array, getattr(expected, name))
            assert array.flags.c_contiguous
            assert array.flags.aligned


@pytest.mark.parametrize("index_dtype", [np.int32, np.int64])
def test_places_are_copied_and_values_are_not(index_dtype):
    """Another thread may write to the matrix: what was checked must not change under the engine."""
    matrix = unsound()
    matrix.indices, matrix.indptr = matrix.indices.astype(index_dtype), matrix.indptr.astype(index_dtype)
    rows = SparseRows(matrix)
    assert (rows.begin.dtype, rows.columns.dtype) == (np.int64, np.int32)
    for own, others in ((rows.begin, matrix.indptr), (rows.columns, matrix.indices)):
        assert not np.may_share_memory(own, others)
    assert np.may_share_memory(rows.values, matrix.data)
    assert matrix.indices.dtype == index_dtype


def test_prediction_writes_few_zeros_out():
    matrix = sparse.csr_array((20_000, 5000), dtype=np.float32)  # dense: 400 MB
    network = fastmlp.MLP((5000, 2))
    tracemalloc.start()
    try:
        network.predict(matrix)
        assert tracemalloc.get_traced_memory()[1] < 60e6
    finally:
        tracemalloc.stop()


def unsound(**changes):
    matrix = sparse.csr_array(problem(30, 10, 0.3)[0])
    for name, (place, value) in changes.items():
        getattr(matrix, name)[place] = value
    return matrix


def replaced(**changes):
    matrix = unsound()
    for name, change in changes.items():
        setattr(matrix, name, change(getattr(matrix, name).astype(np.int64)))
    return matrix


BAD = {
    "a column beyond the others": (
        unsound(indices=(3, 10)),
        ValueError,
        "{X} must be a sound sparse matrix: its indices must be from 0 to 9; they are 0 to 10",
    ),
    "a negative column": (unsound(indices=(3, -1)), ValueError, "{X} must be a .*: .* they are -1 to 9"),
    "a column that int32 cannot hold": (
        replaced(indices=lambda indices: indices + 2**32),
        ValueError,
        "{X} must be a .*: .* they are 4294967296 to 4294967305",
    ),
    "a row that ends before it begins": (
        unsound(indptr=(2, 0)),
        ValueError,
        r"{X} must be a .*: its indptr must be 31 numbers that rise from 0 to at most \d+",
    ),
    "a first row that begins late": (unsound(indptr=(0, 1)), ValueError, "{X} must be a .*: its indptr must be"),
    "more values than there are": (unsound(indptr=(30, 1000)), ValueError, "{X} must be a .*: its indptr must be"),
    "fewer columns than values": (
        replaced(indices=lambda indices: indices[:-1]),
        ValueError,
        "{X} must be a .*: its indptr must be",
    ),
    "a row too few": (replaced(indptr=lambda indptr: indptr[:-1]), ValueError, "{X} must be a .*: its indptr must be"),
    "too wide": (sparse.csr_array((30, 11)), ValueError, r"{X} must have shape \(n, 10\), .* it has \(30, 11\)"),
    "complex": (sparse.csr_array((30, 10), dtype=complex), TypeError, "{X} must be a matrix of real numbers, not csr_"),
    "NaN": (unsound(data=(0, np.nan)), ValueError, r"{X} must be finite in float32; {X}\[0, \d\] is not"),
    "too large for float32": (unsound().astype(float) * 1e39, ValueError, r"{X}\[0, \d\] is not"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_matrices_are_refused(name):
    X, error, message = BAD[name]
    network = fastmlp.MLP((10, 8, 3))
    before = network.parameters.copy()
    y = np.zeros(30, np.int64)
    calls = {
        "X": [
            lambda: network.fit(X, y, **QUIET),
            lambda: network.predict(X),
            lambda: network.evaluate(X, y),
        ],
        r"validation_data\[0\]": [lambda: network.fit(unsound(), y, **QUIET, validation_data=(X, y))],
    }
    for argument, its_calls in calls.items():
        for call in its_calls:
            with pytest.raises(error, match=message.replace("{X}", argument)):
                call()
    np.testing.assert_array_equal(network.parameters, before)


def test_no_rows_are_refused():
    with pytest.raises(ValueError, match=r"X must have at least one row; it has shape \(0, 10\)"):
        fastmlp.MLP((10, 3)).fit(sparse.csr_array((0, 10)), np.zeros(0, np.int64), **QUIET)


def test_targets_are_dense():
    with pytest.raises(TypeError, match="y must be a dense array, not a sparse csr_array"):
        fastmlp.MLP((10, 3)).fit(unsound(), sparse.csr_array(np.eye(30, 3)), **QUIET)


def test_what_is_sparse(run_python):
    assert is_sparse(sparse.csr_array((1, 1)))
    assert not is_sparse(np.zeros((1, 1)))
    finished = run_python("import sys, fastmlp; fastmlp.MLP((2, 2)).predict([[0, 1]]); print('scipy' in sys.modules)")
    assert finished.stdout == "False\n", finished.stderr
