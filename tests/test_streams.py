"""Rows that are read while they are used: the same results as of rows in memory, wherever they come from."""

import gc
import itertools
import mmap
import os
import shutil
import signal
import sys
import threading
import time

import numpy as np
import pytest

import fastmlp
from fastmlp import MLP, Adam
from fastmlp.rows import Stream
from fastmlp.streams import ahead
from fastmlp.training.windows import Windows

K, M, N = 20, 3, 1000
SIZES = (K, 70, 40, M)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((N, K)).astype(np.float32)
    return X, X[:, :M].argmax(axis=1)


def chunks_of(X, y, *sizes, weights=None):
    """Chunks of these sizes, in turn, until the rows are over."""
    arrays = [X, y] if weights is None else [X, y, weights]
    found, first, each = [], 0, itertools.cycle(sizes)
    while first < X.shape[0]:
        end = first + next(each)
        found.append(tuple(array[first:end] for array in arrays))
        first = end
    return found


def trained(X, y=None, *, net=None, **options):
    net = net or MLP(SIZES, seed=3)
    options = {"epochs": 2, "batch_size": 32, "verbose": False, **options}
    history = net.fit(X, y, **options)
    return net, history


def assert_same(one, other):
    np.testing.assert_array_equal(one[0].parameters, other[0].parameters)
    assert one[1].loss == other[1].loss
    assert one[0]._state.epoch == other[0]._state.epoch


# -- The same bits as in memory


@pytest.mark.parametrize("sizes", [(N,), (100,), (1, 37, 400), (999, 1)])
@pytest.mark.parametrize("window", [None, 32, 100, 333])
def test_rows_in_their_order_give_the_bits_of_memory(data, sizes, window):
    stream = Stream(chunks_of(*data, *sizes), window_rows=window)
    assert_same(trained(stream, shuffle=False), trained(*data, shuffle=False))


@pytest.mark.parametrize("iterable", [list, iter, lambda chunks: lambda: iter(chunks)])
def test_one_window_is_shuffled_as_memory_is(data, iterable):
    stream = Stream(iterable(chunks_of(*data, 90)))
    assert_same(trained(stream, epochs=1), trained(*data, epochs=1))


@pytest.mark.parametrize("batch_size", [1, 7, N, 5 * N])
def test_batches_of_any_size(data, batch_size):
    X, y = data[0][:200], data[1][:200]
    stream = Stream(X, y, window_rows=50)
    options = {"batch_size": batch_size, "shuffle": False}
    assert_same(trained(stream, **options), trained(X, y, **options))


@pytest.mark.parametrize(
    "options",
    [
        {"batch_norm": True},
        {"max_norm": 1.0},
        {"activation": "gelu"},
        {"loss": "focal"},
        {"loss": fastmlp.losses.Custom(lambda z, t: ((z**2).sum(axis=1), 2 * z))},
    ],
    ids=lambda options: str(options).partition(" at ")[0],
)
@pytest.mark.parametrize("optimizer", [Adam(clip_norm=0.1, ema=0.9), Adam(fastmlp.schedules.Cosine(1e-2, warmup=3))])
def test_what_training_has_goes_through_windows(data, options, optimizer):
    stream = Stream(*data, window_rows=320)
    one = trained(stream, net=MLP(SIZES, **options), optimizer=optimizer, shuffle=False)
    assert_same(one, trained(*data, net=MLP(SIZES, **options), optimizer=optimizer, shuffle=False))


@pytest.mark.parametrize("density", [0.1, 0.5])
def test_rows_with_zeros(density):
    rng = np.random.default_rng(1)
    X = rng.random((600, 300), np.float32) * (rng.random((600, 300)) < density)
    y = rng.integers(M, size=600)
    sizes = 300, 128, M
    one = trained(Stream(X, y, window_rows=200), net=MLP(sizes), shuffle=False)
    other = trained(X, y, net=MLP(sizes), shuffle=False)
    np.testing.assert_allclose(one[0].parameters, other[0].parameters, atol=2e-5)
    assert_same(trained(Stream(X, y), net=MLP(sizes)), trained(X, y, net=MLP(sizes)))


@pytest.mark.parametrize("densities", [(0.1, 0.9), (0.9, 0.01), (0.02, 0.4), (0.3, 0.005), (0.0, 0.2)], ids=str)
def test_chunks_of_more_and_of_fewer_zeros(densities):
    """A window's rows are read as all of them ask for, not as the first chunk does."""
    rng = np.random.default_rng(1)
    X = rng.random((600, 800), np.float32)
    X[:100] *= rng.random((100, 800)) < densities[0]
    X[100:] *= rng.random((500, 800)) < densities[1]
    y = rng.integers(M, size=600)
    sizes = 800, 128, M
    for rows in (X, X.astype(np.float64)):
        assert_same(trained(Stream(chunks_of(rows, y, 100)), net=MLP(sizes)), trained(rows, y, net=MLP(sizes)))


def test_sparse_chunks():
    sparse = pytest.importorskip("scipy.sparse")
    rng = np.random.default_rng(2)
    X = sparse.random(500, 400, 0.03, "csr", np.float32, rng)
    y = rng.integers(M, size=500)
    sizes = 400, 50, M
    stream = Stream(chunks_of(X, y, 7, 120))
    assert_same(trained(stream, net=MLP(sizes)), trained(X, y, net=MLP(sizes)))
    net, _ = trained(Stream(chunks_of(X, y, 33), window_rows=96), net=MLP(sizes), shuffle=False)
    np.testing.assert_allclose(net.parameters, trained(X, y, net=MLP(sizes), shuffle=False)[0].parameters, atol=2e-5)
    np.testing.assert_array_equal(net.predict(stream), net.predict(X))


def test_weights_of_rows_and_of_classes(data):
    X, y = data
    weights = np.arange(N, dtype=np.float32) % 5
    weights[:100] = 0  # a chunk that weighs nothing
    stream = Stream(chunks_of(X, y, 100, weights=weights), window_rows=320)
    for class_weight in (None, {0: 2, 1: 1, 2: 0}, "balanced"):
        options = {"class_weight": class_weight, "shuffle": False}
        assert_same(trained(stream, **options), trained(X, y, sample_weight=weights, **options))
    stream = Stream(X, y, weights, window_rows=96)
    assert_same(trained(stream, shuffle=False), trained(X, y, sample_weight=weights, shuffle=False))


def test_values_and_noise_and_images(data):
    X = data[0]
    net = {"sizes": (K, 30, 2), "loss": "squared_error"}
    y = X[:, :2] ** 2
    one = trained(Stream(X, y, window_rows=64), net=MLP(net["sizes"], loss=net["loss"]), shuffle=False)
    assert_same(one, trained(X, y, net=MLP(net["sizes"], loss=net["loss"]), shuffle=False))
    noisy = {"dropout": 0.3, "input_dropout": 0.1, "input_noise": 0.1}
    labels = data[1]
    assert_same(trained(Stream(X, labels), net=MLP(SIZES, **noisy)), trained(X, labels, net=MLP(SIZES, **noisy)))
    # In several windows each has draws of its own.
    two = [trained(Stream(X, labels, window_rows=64), net=MLP(SIZES, seed=s, **noisy))[0].parameters for s in (0, 0, 1)]
    assert (two[0] == two[1]).all()
    assert (two[0] != two[2]).any()


@pytest.mark.parametrize("n_threads", [2, 3])
def test_the_bits_do_not_depend_on_threads(data, n_threads):
    everything = {"dropout": 0.2, "input_noise": 0.1, "batch_norm": True}
    stream = Stream(data[0], data[1], chunk_rows=50, window_rows=200)
    nets = [MLP((K, 200, 130, M), seed=5, n_threads=threads, **everything) for threads in (1, n_threads)]
    assert_same(*(trained(stream, net=net, optimizer=Adam(ema=0.9, clip_norm=1.0)) for net in nets))


@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_the_bits_do_not_depend_on_how_long_reading_takes(data, monkeypatch, n_threads):
    monkeypatch.setattr("fastmlp.threads._WORTH_A_THREAD", 1e-15)
    nets = []
    for crowded in (False, True):
        monkeypatch.setattr(Windows, "_is_crowded", lambda windows, crowded=crowded: crowded)
        nets.append(trained(Stream(*data, window_rows=320), net=MLP(SIZES, seed=5, n_threads=n_threads)))
    assert_same(*nets)


# -- Shuffling


def seen(stream, n_epochs=2, seed=0, batch_size=10, shuffle=True):
    """The labels of an epoch's rows in the order in which they are trained, for each window of each epoch."""
    windows = Windows(MLP((1, 1000), seed=seed), stream, batch_size, shuffle=shuffle)
    return [[part.targets.labels[part.order].tolist() for part in epoch] for epoch in windows.epochs(0, n_epochs)]


NUMBERED = np.arange(400, dtype=np.float32).reshape(-1, 1), np.arange(400)


def test_each_epoch_has_each_row_once_in_new_company():
    epochs = seen(Stream(*NUMBERED, chunk_rows=10, window_rows=100))
    for windows in epochs:
        assert [len(window) for window in windows] == [100] * 4
        assert sorted(itertools.chain(*windows)) == list(range(400))
    assert set(epochs[0][0]) != set(epochs[1][0])
    assert len({label // 100 for label in epochs[0][0]}) == 4  # of all of the file
    assert epochs[0] == seen(Stream(*NUMBERED, chunk_rows=10, window_rows=100), 1)[0]
    assert epochs[0] != seen(Stream(*NUMBERED, chunk_rows=10, window_rows=100), 1, seed=1)[0]


def test_what_comes_in_turn_is_shuffled_within_windows():
    windows = seen(Stream(lambda: iter(chunks_of(*NUMBERED, 33)), window_rows=100))[0]
    assert [sorted(window) for window in windows] == [list(range(first, first + 100)) for first in (0, 100, 200, 300)]
    assert all(window != sorted(window) for window in windows)


def test_a_window_is_whole_batches():
    windows = seen(Stream(*NUMBERED, window_rows=64), 1, batch_size=30, shuffle=False)[0]
    assert [len(window) for window in windows] == [90, 90, 90, 90, 40]
    assert list(itertools.chain(*windows)) == list(range(400))


def test_what_is_in_one_window_is_read_once_if_it_stays_the_same(data, monkeypatch):
    reads = []
    read = Stream.read
    monkeypatch.setattr(Stream, "read", lambda stream, order: reads.append(stream) or read(stream, order))
    for stream, times in [
        (Stream(*data), 1),
        (Stream(*data, window_rows=320), 3),
        (Stream([data]), 3),  # who may change the list
        (Stream(lambda: iter([data])), 3),
    ]:
        assert_same(trained(stream, epochs=3, shuffle=False), trained(*data, epochs=3, shuffle=False))
        assert reads.count(stream) == times


def test_a_window_is_at_most_as_large_as_it_is_said(data):
    """Of a chunk that is larger than all windows as well."""
    assert [len(window) for window in seen(Stream([NUMBERED]), 1)[0]] == [400]
    assert [len(window) for window in seen(Stream([NUMBERED], window_rows=50), 1)[0]] == [50] * 8


def test_a_buffer_may_be_used_for_each_chunk(data):
    X, y = data

    def refilled():
        rows, labels = np.empty((50, K), np.float32), np.empty(50, np.int64)
        for first in range(0, N, 50):
            rows[:], labels[:] = X[first : first + 50], y[first : first + 50]
            yield rows, labels
            rows[:], labels[:] = np.nan, -1

    stream = Stream(refilled, window_rows=333)
    net, history = trained(stream, shuffle=False)
    assert_same((net, history), trained(X, y, shuffle=False))
    np.testing.assert_allclose(net.logits(stream), net.logits(X), atol=1e-6)
    assert net.evaluate(stream) == pytest.approx(net.evaluate(X, y))


# -- Where rows come from


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
@pytest.mark.parametrize("offset", [0, 12, 5000])
def test_memory_mapped_files(data, tmp_path, mode, offset):
    X, y = data
    path = tmp_path / "rows"
    path.write_bytes(bytes(offset) + X.tobytes())
    mapped = np.memmap(path, np.float32, mode, offset, (N, K))
    for rows, labels in ((mapped, y), (mapped[100:], y[100:])):
        stream = Stream(rows, labels, chunk_rows=90, window_rows=320)
        assert_same(trained(stream, shuffle=False), trained(np.array(rows), labels, shuffle=False))
    assert mapped[5, 3] == X[5, 3]
    np.save(path.with_suffix(".npy"), X)
    assert_same(trained(Stream(np.load(path.with_suffix(".npy"), mmap_mode="r"), y)), trained(X, y))


def test_a_file_that_is_written_while_it_is_mapped_keeps_what_is_written(data, tmp_path):
    for mode in ("w+", "c"):
        (tmp_path / "rows").write_bytes(bytes(data[0].nbytes))
        mapped = np.memmap(tmp_path / "rows", np.float32, mode, shape=(N, K))
        mapped[:] = data[0]
        assert_same(trained(Stream(mapped, data[1], chunk_rows=30)), trained(*data))
        np.testing.assert_array_equal(mapped, data[0])


def test_bytes_with_a_scale(tmp_path, data):
    pixels = np.random.default_rng(0).integers(256, size=(N, K), dtype=np.uint8)
    pixels.tofile(tmp_path / "pixels")
    stream = Stream(np.memmap(tmp_path / "pixels", np.uint8, "r", shape=(N, K)), data[1], scale=1 / 255)
    assert_same(trained(stream), trained(pixels * np.float32(1 / 255), data[1]))
    assert next(iter(stream))[0].dtype == np.float32


def test_a_large_mapped_array_is_taken_for_a_stream(data, tmp_path, monkeypatch):
    monkeypatch.setattr("fastmlp.streams.MAPPED_BYTES", 4 * N * K - 1)
    X, y = data
    X.tofile(tmp_path / "rows")
    mapped = np.memmap(tmp_path / "rows", np.float32, "r", shape=(N, K))
    monkeypatch.setattr("fastmlp.streams.WINDOW_BYTES", 4 * K * 320)
    weights = np.ones(N)
    net, history = trained(mapped, y, sample_weight=weights, validation_data=(mapped, y))
    assert_same((net, history), trained(Stream(X, y, weights)))
    assert net.evaluate(mapped, y) == pytest.approx(net.evaluate(X, y))
    np.testing.assert_array_equal(net.logits(mapped), net.logits(X))
    assert history.validation_accuracy[-1] == pytest.approx(net.evaluate(X, y)["accuracy"])


@pytest.fixture
def tables(data, tmp_path):
    """A folder of three Parquet files of several row groups."""
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    X, y = data
    for i, part in enumerate(np.array_split(np.arange(N), 3)):
        columns = {f"x{j}": X[part, j] for j in range(K)}
        table = pa.table({"label": y[part], **columns, "weight": np.ones(len(part), np.float32)})
        parquet.write_table(table, tmp_path / f"part-{i}.parquet", row_group_size=128)
    return tmp_path


def test_parquet(data, tables):
    stream = Stream(tables, "label", "weight", chunk_rows=50, window_rows=320)
    assert (stream.n, stream.n_chunks) == (N, 9)
    weights = np.ones(N, np.float32)
    assert_same(trained(stream, shuffle=False), trained(*data, sample_weight=weights, shuffle=False))
    net, _ = trained(stream)
    np.testing.assert_array_equal(net.predict(stream), net.predict(data[0]))
    one = Stream(str(tables / "part-1.parquet"), "label", columns=[f"x{j}" for j in range(K)])
    assert one.n == 333
    assert one.n_chunks == 3


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"y": "labels"}, ValueError, "column 'labels' is missing in .*part-0.parquet, which has 'label', 'x0'"),
        ({"y": "label", "columns": ["x0", "x99"]}, ValueError, "column 'x99' is missing"),
        ({"y": 3}, TypeError, "y must be the name of a column"),
        ({"y": "label", "columns": "x1"}, TypeError, "columns must be a list of names of columns, not 'x1'"),
        ({"y": "label", "columns": ["x1", "label"]}, ValueError, "columns must be those of X; 'label' is that of y"),
        ({"y": "label", "sample_weight": [1.0]}, TypeError, "sample_weight must be the name of a column"),
    ],
)
def test_wrong_columns(tables, options, error, message):
    with pytest.raises(error, match=message):
        Stream(tables, **options)


def test_what_other_readers_pass_over_is_passed_over(tables):
    (tables / "folder.parquet").mkdir()
    for name in (
        ".part-0.parquet",
        "_part-0.parquet",
        ".ipynb_checkpoints/part-0.parquet",
        "_temporary/0/part-0.parquet",
    ):
        (tables / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tables / "part-0.parquet", tables / name)
    (tables / "more").mkdir()
    shutil.copy(tables / "part-0.parquet", tables / "more" / "part-0.parquet")
    assert Stream(tables, "label").n == N + 334


@pytest.mark.slow
def test_a_row_group_is_not_in_memory_at_once(tmp_path, run_python):
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    column = np.random.default_rng(0).random(1_000_000, np.float32)
    table = pa.table({"label": np.zeros(len(column), np.int8), **{f"x{i}": column for i in range(10)}})
    parquet.write_table(table, tmp_path / "rows.parquet", compression="none", use_dictionary=False)
    program = f"""
import pyarrow, fastmlp
stream = fastmlp.rows.Stream({str(tmp_path)!r}, "label", window_rows=1000)
assert (stream.n, stream.n_chunks) == (1_000_000, 1)
fastmlp.MLP((10, 2)).fit(stream, batch_size=1000, epochs=1, verbose=False)
assert pyarrow.default_memory_pool().max_memory() < 40e6 / 2
"""
    result = run_python(["-c", program])
    assert result.returncode == 0, result.stderr


def test_columns_of_y(tmp_path):
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {
        "x": [1.0, 2.0, 3.0],
        "text": ["a", "b", "c"],
        "null": [0, None, 1],
        "kind": pa.array([0, 1, 0]).dictionary_encode(),
    }
    parquet.write_table(pa.table(columns), tmp_path / "rows.parquet")
    with pytest.raises(TypeError, match=r"y must be of numbers; column 'text' of .*rows.parquet is string"):
        Stream(tmp_path, "text", columns=["x"])
    with pytest.raises(
        ValueError, match=r"row group 0 of .*: column 'null' must have a value in each row; some are nul"
    ):
        MLP((1, 2)).evaluate(Stream(tmp_path, "null", columns=["x"]))
    [(X, y)] = Stream(tmp_path, "kind", columns=["x"])
    assert (X.ravel().tolist(), y.tolist()) == ([1, 2, 3], [0, 1, 0])


def test_parquet_without_pyarrow(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"needs pyarrow: pip install 'fastmlp\[parquet\]'"):
        Stream(tmp_path, "label")


def test_parquet_files_that_are_none(tables, data):
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    with pytest.raises(FileNotFoundError):
        Stream(tables / "nowhere.parquet", "label")
    (tables / "sub").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no \*.parquet"):
        Stream(tables / "sub")
    parquet.write_table(pa.table({"label": [1], "x0": ["a"]}), tables / "sub" / "a.parquet")
    with pytest.raises(TypeError, match=r"column 'x0' of .*a.parquet is string"):
        Stream(tables / "sub", "label")
    with pytest.raises(ValueError, match=r"column 'x1' is missing in .*a.parquet"):
        Stream(tables, "label")
    (tables / "sub" / "a.parquet").write_bytes(b"no table at all")
    with pytest.raises(ValueError, match=r"a.parquet is none"):
        Stream(tables, "label")


def test_a_parquet_file_that_breaks_in_an_epoch(tables, data):
    stream = Stream(tables, "label", columns=[f"x{j}" for j in range(K)], window_rows=128)
    path = tables / "part-1.parquet"
    content = bytearray(path.read_bytes())
    content[100 : len(content) // 2] = bytes(len(content) // 2 - 100)
    path.write_bytes(content)
    net = MLP(SIZES, seed=3)
    with pytest.raises(OSError, match=r"row group 0 of .*part-1.parquet cannot be read"):
        trained(stream, net=net, shuffle=False)
    # All whole windows before the one that it was to be in: 334 rows, of which 256 are two windows.
    X, y = data
    np.testing.assert_array_equal(net.parameters, trained(X[:256], y[:256], epochs=1, shuffle=False)[0].parameters)


@pytest.mark.slow
def test_dask_arrays(data):
    da = pytest.importorskip("dask.array", reason="dask is not installed")
    X, y = da.from_array(data[0], chunks=(130, 7)), da.from_array(data[1], chunks=130)
    stream = Stream(X, y, window_rows=320)
    assert (stream.n, stream.n_chunks) == (N, 8)
    assert_same(trained(stream, shuffle=False), trained(*data, shuffle=False))
    assert_same(trained(Stream(X, y)), trained(*data))
    with pytest.raises(ValueError, match="y must be a Dask array in as many blocks of rows as X, 8"):
        Stream(X, y.rechunk(100))
    unknown = Stream(X[X[:, 0] > 0], y[X[:, 0] > 0])
    assert unknown.n is None
    kept = data[0][:, 0] > 0
    assert_same(trained(unknown, shuffle=False), trained(data[0][kept], data[1][kept], shuffle=False))


@pytest.mark.slow
def test_dask_data_frames(data):
    dd = pytest.importorskip("dask.dataframe", reason="dask.dataframe is not installed")
    pd = pytest.importorskip("pandas")
    X, y = data
    frame = pd.DataFrame(X, columns=[f"x{j}" for j in range(K)])
    frame.insert(0, "label", y)
    stream = Stream(dd.from_pandas(frame, npartitions=6), "label")
    assert stream.n is None
    assert_same(trained(stream, shuffle=False), trained(*data, shuffle=False))
    assert sorted(itertools.chain(*(y for _, y in stream))) == sorted(y)
    with pytest.raises(ValueError, match="column 'kind' is missing in the data frame"):
        Stream(dd.from_pandas(frame, npartitions=6), "kind")


# -- Evaluation, prediction, validation


@pytest.mark.parametrize(
    ("loss", "sizes", "targets"),
    [
        ("cross_entropy", SIZES, lambda X, y: y),
        ("cross_entropy", SIZES, lambda X, y: np.eye(M)[y]),
        ("binary_cross_entropy", (K, 8, 1), lambda X, y: y > 0),
        ("squared_error", (K, 8, 2), lambda X, y: X[:, :2] + 1000),
        ("squared_error", (K, 8, 2), lambda X, y: np.full((len(X), 2), 0.1)),
        ("poisson", (K, 8, 1), lambda X, y: y),
    ],
)
def test_evaluate_is_that_of_memory(data, loss, sizes, targets):
    X, y = data[0], targets(*data)
    net = MLP(sizes, loss=loss)
    weights = np.random.default_rng(0).random(N)
    expected = net.evaluate(X, y)
    assert net.evaluate(Stream(chunks_of(X, y, 1, 170))) == pytest.approx(expected, rel=1e-5)
    assert net.evaluate(Stream([(X, y)])) == expected
    doubled = np.repeat(np.arange(N), 1 + (weights > 0.5))
    weighted = net.evaluate(Stream(chunks_of(X, y, 170, weights=1.0 + (weights > 0.5))))
    assert weighted == pytest.approx(net.evaluate(X[doubled], y[doubled]), rel=1e-5)


def test_predictions(data):
    X, _ = data
    net = MLP(SIZES)
    stream = Stream([X[:1], X[1:400], X[:0], X[400:]])
    for of in (net.predict, net.predict_proba, net.logits):
        expected = of(X)
        np.testing.assert_allclose(of(stream), expected, atol=1e-6)
        assert of(stream).dtype == expected.dtype
        assert of(Stream([])).shape == (0, *expected.shape[1:])
    with pytest.raises(ValueError, match=r"chunk 1: X must have shape \(n, 20\)"):
        net.predict(Stream([X, X[:, :5]]))


def test_validation_by_a_stream_with_metrics(data):
    X, y = data

    def error(y_true, y_pred):
        return (y_true != y_pred).mean()

    def certainty(y_true, y_prob):
        return y_prob[np.arange(len(y_true)), y_true].mean()

    found = [
        trained(X, y, validation_data=validation, metrics=[error, certainty])[1]
        for validation in ((X, y), Stream(chunks_of(X, y, 300)))
    ]
    assert list(found[0]) == list(found[1])
    for name in ("validation_loss", "validation_accuracy", "validation_error", "validation_certainty"):
        assert found[1][name] == pytest.approx(found[0][name], rel=1e-5)


# -- What a run meets


def test_callbacks_and_progress(data, capsys):
    calls = []

    class Diary(fastmlp.callbacks.Callback):
        def on_fit_begin(self, progress):
            calls.append(("begin", progress.n_batches))

        def on_batches(self, progress):
            calls.append(progress.batch)

        def on_epoch_end(self, progress):
            calls.append(("end", progress.batch, progress.n_batches))

    trained(Stream(*data, window_rows=320), callbacks=[Diary()], epochs=1)
    assert calls[0] == ("begin", 32)
    assert calls[-1] == ("end", 32, 32)
    batches = calls[1:-1]
    assert batches == sorted(batches)
    assert {10, 20, 30, 32} <= set(batches)
    calls.clear()
    trained(Stream(lambda: iter(chunks_of(*data, 300)), window_rows=320), callbacks=[Diary()], epochs=2, verbose=True)
    assert [call for call in calls if isinstance(call, tuple)] == [("begin", 1), ("end", 32, 32), ("end", 32, 32)]
    assert "Epoch: 2 cost=" in capsys.readouterr().out


@pytest.mark.parametrize("batches", [10, 15])
def test_training_stops_within_an_epoch(data, batches):
    class Stop(fastmlp.callbacks.Callback):
        def on_batches(self, progress):
            progress.stop = progress.batch >= batches

    net, history = trained(Stream(*data, window_rows=160), callbacks=[Stop()])
    assert history.loss == []
    assert net._state.epoch == 0
    assert batches <= net._state.step < 32


def test_a_run_goes_on_from_a_checkpoint_to_the_same_bits(data, tmp_path):
    def run(epochs, resume=None):
        stream = Stream(*data, chunk_rows=64, window_rows=320)
        keep = fastmlp.callbacks.Checkpoint(tmp_path / "run")
        net = MLP(SIZES, dropout=0.2, seed=3)
        return trained(stream, net=net, epochs=epochs, callbacks=[keep], resume=resume)

    whole = run(4)
    run(2)
    assert_same(run(4, resume=tmp_path / "run"), whole)
    net, _ = trained(Stream(*data, window_rows=320), epochs=2)
    again, _ = trained(Stream(*data, window_rows=320), net=net, epochs=2)
    np.testing.assert_array_equal(again.parameters, trained(Stream(*data, window_rows=320), epochs=4)[0].parameters)


def failing(chunks, at, error):
    def read():
        for i, chunk in enumerate(chunks):
            if i == at:
                if isinstance(error, BaseException):
                    raise error
                yield error(*chunk)
            else:
                yield chunk

    return read


def spoiled(where, value):
    def spoil(X, y):
        X, y = X.copy(), y.copy()
        (X if where == "X" else y)[3] = value
        return X, y

    return spoil


LATE = {
    "a label out of range": (spoiled("y", 9), ValueError, "chunk 8: y must hold labels from 0 to 2"),
    "a NaN": (spoiled("X", np.nan), ValueError, r"chunk 8: X must be finite in float32; X\[3, 0\] is nan"),
    "fewer columns": (lambda X, y: (X[:, :5], y), ValueError, r"chunk 8: X must have shape \(n, 20\)"),
    "text": (lambda X, y: (X.astype(str), y), TypeError, "chunk 8: X must be an array of real numbers"),
    "labels as floats": (lambda X, y: (X, y.astype(float)), TypeError, "chunk 8: y must hold labels of an integer"),
    "probabilities": (lambda X, y: (X, np.eye(M)[y]), ValueError, "chunk 8: y must hold labels as in the first chunk"),
    "weights": (lambda X, y: (X, y, y + 1), ValueError, r"chunk 8: chunks must be \(X, y\) as in the first chunk"),
    "no y": (lambda X, y: (X,), ValueError, "chunk 8: y is missing"),
    "four arrays": (lambda X, y: (X, y, y, y), ValueError, r"chunk 8: it must be \(X, y\) or"),
    "another length": (lambda X, y: (X, y[1:]), ValueError, r"chunk 8: y must have shape"),
    "an error of the reader's own": (OSError("the line is dead"), OSError, "the line is dead"),
}


@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("wrong", LATE)
def test_a_late_chunk_that_is_wrong_leaves_the_network_as_after_the_window_before(data, wrong, watched):
    spoil, error, message = LATE[wrong]
    X, y = data

    class Watch(fastmlp.callbacks.Callback):
        def on_batches(self, progress):
            pass

    net = MLP(SIZES, seed=3)
    stream = Stream(failing(chunks_of(X, y, 60), 8, spoil), window_rows=160)
    with pytest.raises(error, match=message):
        trained(stream, net=net, shuffle=False, callbacks=[Watch()] if watched else [])
    expected, _ = trained(X[:480], y[:480], epochs=1, shuffle=False)  # which were sound, in three windows
    np.testing.assert_array_equal(net.parameters, expected.parameters)
    assert net._state.step == 15
    assert net._state.epoch == 0
    assert net.history.loss == []
    trained(X, y, net=net)  # can be trained further


def test_a_chunk_that_is_wrong_within_a_window_leaves_the_network_as_after_the_window_before(data):
    X, y = data
    net = MLP(SIZES, seed=3)
    chunks = failing(chunks_of(X, y, 50), 9, OSError("the line is dead"))
    with pytest.raises(OSError, match="the line is dead"):
        trained(Stream(chunks, window_rows=160), net=net, shuffle=False)
    expected, _ = trained(X[:320], y[:320], epochs=1, shuffle=False)  # of 450
    np.testing.assert_array_equal(net.parameters, expected.parameters)


def test_sparse_and_dense_chunks_do_not_mix(data):
    sparse = pytest.importorskip("scipy.sparse")
    chunks = chunks_of(*data, 100)
    chunks[4] = sparse.csr_array(chunks[4][0]), chunks[4][1]
    with pytest.raises(ValueError, match="chunk 4: X must be dense as in the first chunk, not sparse"):
        trained(Stream(chunks))


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (lambda X, y: Stream([]), "at least .* the stream has 0"),
        (lambda X, y: Stream([(X[:0], y[:0])]), "at least .* the stream has 0"),
        (lambda X, y: Stream(lambda: iter([])), "at least .* the stream has 0"),
        (lambda X, y: Stream(iter([(X, y)])), "chunks is an iterator, which can be read once, and epochs is 2"),
        (lambda X, y: Stream(X), "y is missing"),
        (lambda X, y: Stream(lambda: iter([(X, y)]), n=N + 1), "must have 1001 rows; the stream has 1000"),
    ],
)
def test_what_is_wrong_at_once_leaves_the_network_as_it_was(data, stream, message):
    net = MLP(SIZES)
    before = net.parameters.copy()
    with pytest.raises(ValueError, match=message):
        net.fit(stream(*data), epochs=2, batch_size=5000, verbose=False)
    np.testing.assert_array_equal(net.parameters, before)
    assert net._state is None


def test_empty_chunks_are_passed_over(data):
    X, y = data
    chunks = [(X[:0], y[:0]), (X[:500], y[:500]), (X[:0], y[:0]), (X[500:], y[500:]), (X[:0], y[:0])]
    assert_same(trained(Stream(chunks)), trained(X, y))


def test_predictions_pass_over_empty_chunks_and_count_rows(data):
    X, _ = data
    net = MLP(SIZES)
    chunks = [(X[:500],), ([],), (np.empty((0, 3)),), (X[500:],)]
    np.testing.assert_array_equal(net.logits(Stream(lambda: iter(chunks), n=N)), net.logits(X))
    with pytest.raises(ValueError, match="X must have 1001 rows; the stream has 1000"):
        net.predict(Stream(lambda: iter(chunks), n=N + 1))


def test_no_rows_have_no_score(data):
    X, y = data
    net = MLP(SIZES)
    for stream in (Stream(X[:0], y[:0]), Stream(lambda: iter([]))):
        with pytest.raises(ValueError, match="X must have at least one row; the stream has 0"):
            net.evaluate(stream)
    with pytest.raises(ValueError, match="validation_data must have at least one row; the stream has 0"):
        net.fit(X, y, validation_data=Stream([]), metrics={"one": lambda *_: 1.0}, verbose=False)
    assert net.predict(Stream([])).shape == (0,)


@pytest.mark.parametrize("call", [MLP.fit, MLP.evaluate])
def test_weights_that_are_all_0(data, call):
    X, y = data
    with pytest.raises(ValueError, match="sample_weight must have a weight above 0; all of the stream's are 0"):
        call(MLP(SIZES), Stream(X, y, np.zeros(N), chunk_rows=100))
    assert MLP(SIZES).evaluate(Stream(X, y, np.r_[np.zeros(N - 1), 1], chunk_rows=100))["loss"] > 0


NUMBERS = {
    "text": (np.full((5, 20), "1.5"), TypeError, "rows 0 to 4: X must be an array of real numbers"),
    "complex": (np.ones((5, 20), np.complex64), TypeError, "rows 0 to 4: X must be an array of real numbers"),
    "too large": (np.full((5, 20), 1e30), ValueError, "rows 0 to 4: X must be finite in float32"),
}


@pytest.mark.parametrize("case", NUMBERS)
def test_a_scale_makes_no_numbers(case):
    X, error, message = NUMBERS[case]
    stream = Stream(X, np.zeros(5, int), scale=1e10)
    for call in (MLP(SIZES).fit, MLP(SIZES).evaluate, MLP(SIZES).predict):
        with pytest.raises(error, match=message):
            call(stream)


@pytest.mark.parametrize("call", [MLP.fit, MLP.evaluate, MLP.predict])
@pytest.mark.parametrize("chunk", [None, 5, (None, [0]), (iter([]), [0]), (np.float32(3), [0])])
def test_chunks_that_are_none(call, chunk):
    with pytest.raises(TypeError, match="chunk 1: X must be an array of rows, not "):
        call(MLP((2, 2)), Stream(lambda: iter([(np.eye(2), [0, 1]), chunk])))


def test_an_iterator_is_read_once(data):
    stream = Stream(iter(chunks_of(*data, 100)))
    trained(stream, epochs=1)
    with pytest.raises(ValueError, match="chunks is an iterator that has been read"):
        trained(stream, epochs=1)
    with pytest.raises(ValueError, match="validation_data must be a stream that can be read after each epoch"):
        trained(*data, validation_data=Stream(iter([data])))
    with pytest.raises(ValueError, match="class_weight='balanced' reads a stream twice"):
        trained(Stream(iter([data])), epochs=1, class_weight="balanced")


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((3,), {}, TypeError, "chunks must be an array, the path of a Parquet file"),
        (([], [0]), {}, TypeError, "y and sample_weight must be in the chunks"),
        ((np.eye(3), [0, 1]), {}, ValueError, r"y must have a row for each row of X, 3; it has shape \(2,\)"),
        ((np.eye(3), [0, 1, 2], [1]), {}, ValueError, "sample_weight must have a row for each row of X"),
        (([[[1.0]], 3],), {}, TypeError, "chunk 1: X must be an array of rows, not 3"),
        ((np.array(3.0),), {}, TypeError, "chunks must have rows; this ndarray is one number"),
        ((np.eye(3),), {"n": 2}, ValueError, "n must be the number of rows, 3, not 2"),
        ((np.eye(3),), {"columns": ["a"]}, TypeError, "columns names those of a Parquet file"),
        ((np.eye(3),), {"chunk_rows": 0}, ValueError, "chunk_rows must be at least 1"),
        ((np.eye(3),), {"window_rows": 2.0}, TypeError, "window_rows must be a whole number"),
        ((np.eye(3),), {"scale": 0}, ValueError, "scale must be finite and not 0"),
        ((np.eye(3),), {"scale": "1/255"}, TypeError, "scale must be a number"),
    ],
)
def test_arguments(arguments, options, error, message):
    with pytest.raises(error, match=message):
        Stream(*arguments, **options)


def test_arguments_beside_a_stream(data):
    X, y = data
    net, stream = MLP(SIZES), Stream(X, y)
    for call in (
        lambda: net.fit(stream, y),
        lambda: net.fit(stream, sample_weight=y),
        lambda: net.evaluate(stream, y),
    ):
        with pytest.raises(TypeError, match="y and sample_weight must be in the stream"):
            call()
    for call in (lambda: net.fit(X), lambda: net.evaluate(X)):
        with pytest.raises(
            TypeError, match=r"y must be an array of real numbers, not None: only a fastmlp.rows.Stream"
        ):
            call()
    with pytest.raises(ValueError, match=r"n must be given, Stream\(chunks, n=...\), where the learning_rate is"):
        trained(Stream(lambda: iter([data])), optimizer=Adam(fastmlp.schedules.Cosine(0.01)))
    with pytest.raises(ValueError, match="class_weight must have a weight for each label of y; 2 has none"):
        trained(stream, class_weight={0: 1, 1: 1})


def test_warnings_of_unscaled_rows(data):
    X, y = data
    with pytest.warns(UserWarning, match="X is unscaled") as caught:
        trained(Stream(X * np.float32(1e5), y))
    assert caught[0].filename == __file__


def test_a_file_that_is_cut_while_it_is_read(data, tmp_path):
    path = tmp_path / "rows"
    data[0].tofile(path)
    mapped = np.memmap(path, np.float32, "r", shape=(N, K))
    os.truncate(path, data[0].nbytes // 2)
    with pytest.raises(OSError, match=r"rows 500 to 599 cannot be read: the file of X has been cut to 40000 bytes"):
        trained(Stream(mapped, data[1], chunk_rows=100), shuffle=False)


@pytest.mark.parametrize("chunk_rows", [100, 70])
def test_a_file_that_is_cut_while_a_window_is_learned(tmp_path, run_python, chunk_rows):
    """Whose next chunk has been looked at; reading beyond the end of a mapped file would end the process."""
    program = f"""
import os, time, numpy as np, fastmlp
path = {str(tmp_path / "rows")!r}
np.random.default_rng(0).random((1000, 20), np.float32).tofile(path)

class Cut(fastmlp.callbacks.Callback):
    def on_batches(self, progress):
        time.sleep(0.2)  # until the next window is there
        os.truncate(path, 100)

mapped = np.memmap(path, np.float32, "r", shape=(1000, 20))
stream = fastmlp.rows.Stream(mapped, np.zeros(1000, int), chunk_rows={chunk_rows}, window_rows=200)
try:
    fastmlp.MLP((20, 2)).fit(stream, callbacks=[Cut()], verbose=False)
except OSError as error:
    print(error)
"""
    result = run_python(program)
    assert result.returncode == 0, result.stderr
    assert "cannot be read: the file of X has been cut to 100 bytes" in result.stdout


@pytest.mark.parametrize("kind", ["y", "weights", "columns", "Fortran", "plain", "copy on write"])
def test_whatever_is_mapped_may_be_cut(data, tmp_path, kind):
    X, y = data
    path, mode = tmp_path / "rows", "c" if kind == "copy on write" else "r"
    X.tofile(path)
    mapped = np.memmap(path, np.float32, mode, shape=(N, K), order="F" if kind == "Fortran" else "C")
    np.ones(N, np.int16).tofile(tmp_path / "ones")
    arrays = {
        "y": (X, np.memmap(tmp_path / "ones", np.int16, "r")),
        "weights": (X, y, np.memmap(tmp_path / "ones", np.int16, "r")),
        "columns": (mapped[:, 3:12], y),
        "plain": (np.asarray(mapped), y),
    }
    stream = Stream(*arrays.get(kind, (mapped, y)), chunk_rows=100)
    for file in (path, tmp_path / "ones"):
        os.truncate(file, 500)
    name = {"y": "y", "weights": "sample_weight"}.get(kind, "X")
    with pytest.raises(OSError, match=rf"rows .* cannot be read: the file of {name} has been cut to 500 bytes"):
        trained(stream, net=MLP((9, 3)) if kind == "columns" else None, shuffle=False)


@pytest.mark.parametrize("flip", [slice(None), slice(None, None, -1)])
def test_parts_of_mapped_files(data, tmp_path, flip):
    X, y = data
    X.tofile(tmp_path / "rows")
    part = np.memmap(tmp_path / "rows", np.float32, "r", shape=(N, K))[flip, 2:9]
    net, _ = trained(Stream(part, y, chunk_rows=90), net=MLP((7, 3)))
    other, _ = trained(np.array(part), y, net=MLP((7, 3)))
    np.testing.assert_array_equal(net.parameters, other.parameters)


# -- The thread that reads


def test_ahead_makes_one_while_one_is_in_use():
    made = []

    def items():
        for i in range(5):
            made.append(i)
            yield i

    iterator = ahead(items())
    assert next(iterator) == 0
    deadline = time.monotonic() + 10
    while len(made) < 2 and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.02)
    assert made == [0, 1]
    assert list(iterator) == [1, 2, 3, 4]


def test_ahead_raises_where_the_item_would_have_come():
    def items():
        yield 1
        raise KeyError("no more")

    iterator = ahead(items())
    assert next(iterator) == 1
    with pytest.raises(KeyError, match="no more"):
        next(iterator)


def reading():
    return [thread for thread in threading.enumerate() if thread.name == "fastmlp stream"]


@pytest.mark.slow
def test_no_thread_is_left(data):
    trained(Stream(*data, window_rows=64))
    net = MLP(SIZES)
    with pytest.raises(ValueError, match="chunk 8"):
        trained(Stream(failing(chunks_of(*data, 60), 8, spoiled("y", 9)), window_rows=64), net=net)
    net.evaluate(Stream(*data, chunk_rows=10))
    with pytest.raises(ValueError, match="chunk 1"):
        net.predict(Stream([data[0], data[0][:, 1:]]))
    gc.collect()
    deadline = time.monotonic() + 10
    while reading() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not reading()


@pytest.mark.skipif(os.name != "posix", reason="needs signals of POSIX")
def test_ctrl_c_while_waiting_for_rows(data):
    X, y = data
    done = threading.Event()

    def slow():
        yield X[:320], y[:320]
        yield X[320:640], y[320:640]
        os.kill(os.getpid(), signal.SIGINT)
        done.wait(20)

    net = MLP(SIZES, seed=3)
    with pytest.raises(KeyboardInterrupt):
        trained(Stream(slow, window_rows=320), net=net, shuffle=False)
    done.set()
    steps = net._state.step if net._state else 0
    assert steps <= 10
    if steps:
        expected, _ = trained(X[: 32 * steps], y[: 32 * steps], epochs=1, shuffle=False)
        np.testing.assert_array_equal(net.parameters, expected.parameters)
    trained(X, y, net=net)


@pytest.mark.skipif(not hasattr(mmap, "MADV_DONTNEED") or not os.path.exists("/proc/self/smaps"), reason="needs Linux")
def test_pages_that_have_been_read_are_given_back(tmp_path):
    n = 200_000
    (tmp_path / "rows").write_bytes(b"")
    os.truncate(tmp_path / "rows", n * 400)
    mapped = np.memmap(tmp_path / "rows", np.float32, "r", shape=(n, 100))

    def resident():
        with open("/proc/self/smaps") as maps:
            lines = maps.read().split(str(tmp_path / "rows"))[1].splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("Rss"))

    MLP((100, 2)).predict(Stream(mapped))
    assert resident() < n * 400 // 1024 / 4
    assert mapped[:].sum() == 0
    assert resident() > n * 400 // 1024 / 2
