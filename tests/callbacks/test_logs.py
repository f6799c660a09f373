"""The history in files, read back; and the limit of time."""

import csv
import struct
import sys
import time

import numpy as np
import pytest

from fastmlp import MLP
from fastmlp.callbacks import Callback, CSVLog, TensorBoard, TimeLimit

X = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
Y = (X.sum(axis=1) > 0).astype(int)


def fit(*callbacks, **options):
    options = {"epochs": 3, "batch_size": 10, "validation_data": (X, Y), "verbose": False, **options}
    return MLP((4, 6, 2)).fit(X, Y, callbacks=callbacks, **options)


# ---- CSV


def test_a_line_after_each_epoch(tmp_path):
    seen = []

    class Look(Callback):
        def on_epoch_end(self, progress):
            seen.append(len((tmp_path / "log.csv").read_text().splitlines()))

    history = fit(CSVLog(tmp_path / "log.csv"), Look(), metrics={"a, b": lambda y_true, y_pred: 0.5})
    assert seen == [2, 3, 4]
    with open(tmp_path / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row.pop("epoch") for row in rows] == ["1", "2", "3"]
    assert list(rows[0]) == list(history)
    for name, values in history.items():
        assert [float(row[name]) for row in rows] == values


def test_a_log_is_of_the_last_fit(tmp_path):
    log = CSVLog(tmp_path / "log.csv")
    fit(log)
    fit(log, epochs=1)
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 2


def test_a_log_that_cannot_be_written(tmp_path):
    net = MLP((4, 2))
    with pytest.raises(FileNotFoundError):
        net.fit(X, Y, callbacks=[CSVLog(tmp_path / "nowhere" / "log.csv")], verbose=False)
    assert net._state is None
    with pytest.raises(TypeError, match="path must be a path, not 3"):
        CSVLog(3)


# ---- TensorBoard


def scalars(directory):
    """Read (name, step, value) from the files of a folder: length, checksum, event and checksum, again and again."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2", reason="reads what tensorboardX has written")
    for path in sorted(directory.iterdir()):
        data, place = path.read_bytes(), 0
        while place < len(data):
            (length,) = struct.unpack_from("<Q", data, place)
            event = event_pb2.Event.FromString(data[place + 12 : place + 12 + length])
            place += length + 16
            for value in event.summary.value:
                yield value.tag, event.step, value.simple_value


@pytest.mark.slow
def test_scalars_that_tensorboard_reads(tmp_path):
    pytest.importorskip("tensorboardX", reason="writes for TensorBoard")
    history = fit(TensorBoard(tmp_path / "runs"))
    found = list(scalars(tmp_path / "runs"))
    assert len(found) == 3 * len(history)
    for name, values in history.items():
        assert [(step, value) for tag, step, value in found if tag == name] == [
            (step, pytest.approx(value, rel=1e-6)) for step, value in enumerate(values, start=1)
        ]


@pytest.mark.slow
def test_tensorboard_itself_reads_them(tmp_path):
    pytest.importorskip("tensorboardX", reason="writes for TensorBoard")
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="reads it back")
    history = fit(TensorBoard(tmp_path))
    events = reader.EventAccumulator(str(tmp_path)).Reload()
    assert [event.value for event in events.Scalars("loss")] == pytest.approx(history.loss)


def test_without_the_library(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ImportError, match=r"TensorBoard needs tensorboardX: pip install 'fastmlp\[tensorboard\]'"):
        TensorBoard(tmp_path)


# ---- The clock


def test_a_time_limit():
    started = time.monotonic()
    history = fit(TimeLimit(0.1), epochs=10**6)
    assert 1 < len(history.loss) < 10**6
    assert time.monotonic() - started > 0.1


def test_a_time_limit_within_an_epoch():
    rows = np.repeat(X, 10_000, axis=0)
    net = MLP((4, 6, 2))
    history = net.fit(rows, np.repeat(Y, 10_000), epochs=2, batch_size=1, callbacks=[TimeLimit(0.05)], verbose=False)
    assert history == {"loss": [], "learning_rate": [], "seconds": []}
    assert 0 < net._state.step < len(rows)
    assert net._state.epoch == 0
    assert net.evaluate(X, Y)["accuracy"] > 0.7


@pytest.mark.parametrize("seconds", [0, -1, np.nan, "1", True])
def test_a_wrong_time(seconds):
    with pytest.raises((TypeError, ValueError), match="seconds must be"):
        TimeLimit(seconds)
