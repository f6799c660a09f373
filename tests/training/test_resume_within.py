"""A run that was stopped within an epoch goes on from there, to the same bits as one that was never stopped."""

import numpy as np
import pytest

import fastmlp
from fastmlp import MLP, SGD, Adam, AdamW, FileFormatError
from fastmlp.augment import Affine
from fastmlp.callbacks import Callback, Checkpoint, EarlyStopping, TimeLimit
from fastmlp.files import checkpoint
from fastmlp.losses import Custom
from fastmlp.rows import Stream
from fastmlp.schedules import OneCycle
from fastmlp.training.loop import Run

generator = np.random.default_rng(0)
X = (generator.normal(size=(97, 36)) * (generator.random((97, 36)) < 0.2)).astype(np.float32)
Y = generator.integers(0, 3, 97)


@Custom
def squares(logits, targets):
    return (logits**2).mean(axis=1), 2 * logits / logits.shape[1]


@pytest.fixture(autouse=True)
def short_slices(monkeypatch):
    """Of a batch each: callbacks hear of all."""

    def run_slice(run, targets):
        run.trainer.run(1)
        while run.trainer.at_cut:
            run._compute_losses(targets)
            run.trainer.run()

    monkeypatch.setattr(Run, "_run_slice", run_slice)


@pytest.fixture
def files(monkeypatch, tmp_path):
    """All that are written, each under a name of its own."""
    found, save = [], checkpoint.save

    def save_another(path, network, run):
        found.append(f"{path}.{len(found)}")
        save(found[-1], network, run)

    monkeypatch.setattr(checkpoint, "save", save_another)
    return found


def network(**options):
    return MLP((36, 128, 70, 3), **{"n_threads": 1, **options})


def fit(net, *callbacks, rows=(X, Y), **options):
    options = {"epochs": 3, "batch_size": 8, "verbose": False, **options}
    return net.fit(*rows, callbacks=callbacks, **options)


def windows():
    return Stream(X, Y, chunk_rows=7, window_rows=32)


JOBS = {
    "adam": dict,
    "momentum": lambda: {"optimizer": SGD(0.1, 0.9, clip_norm=0.5), "shuffle": False},
    "schedule": lambda: {"optimizer": AdamW(OneCycle(0.05), ema=0.9)},
    "weights": lambda: {"class_weight": "balanced", "sample_weight": np.linspace(0.5, 2, 97)},
    "judged": lambda: {"validation_data": (X[:20], Y[:20])},
    "distortion": lambda: {"augment": Affine(rotation=20)},
    "one window": lambda: {"rows": (Stream(X, Y), None)},
    "windows": lambda: {"rows": (windows(), None)},
    "windows in order": lambda: {"rows": (windows(), None), "shuffle": False},
    "chunks of unknown number": lambda: {"rows": (Stream(lambda: iter(windows()), window_rows=24), None)},
}
NETS = {
    "plain": {},
    "no zeros": {"activation": "softplus"},
    "small": {"activation": "tanh"},
    "drawn": {"dropout": 0.3, "input_dropout": 0.1, "input_noise": 0.1, "noise": 0.1},
    "normalised": {"batch_norm": True, "max_norm": 1},
    "loss of Python": {"loss": squares},
}


@pytest.mark.slow
@pytest.mark.parametrize(("job", "net"), [*((job, "plain") for job in JOBS), *(("windows", net) for net in NETS)])
def test_the_same_bits_as_a_run_that_was_never_stopped(job, net, files, tmp_path, *, state, without_seconds):
    whole, written = network(**NETS[net]), network(**NETS[net])
    expected = fit(whole, **JOBS[job]())
    history = fit(written, Checkpoint(tmp_path / "run", seconds=0), **JOBS[job]())
    assert without_seconds(history) == without_seconds(expected)
    assert state(written) == state(whole)
    assert len(files) == 3 * 13
    for file in files[::2]:
        resumed = network(**NETS[net])
        history = fit(resumed, resume=file, **JOBS[job]())
        assert without_seconds(history) == without_seconds(expected)
        assert state(resumed) == state(whole)


def test_on_another_number_of_threads(files, monkeypatch, tmp_path, state):
    monkeypatch.setattr(fastmlp.threads, "_WORTH_A_THREAD", 1e-15)
    whole = network()
    fit(whole, Checkpoint(tmp_path / "run", seconds=0))
    for file in files[::5]:
        resumed = network(n_threads=2)
        fit(resumed, resume=file)
        assert state(resumed) == state(whole)


def biased():
    """A network whose first layer has few zeros, and the second one many: they go by other forms."""
    net = network()
    net.biases[0][:] = 5
    return net


def test_the_forms_are_those_that_the_last_batch_chose(files, tmp_path, state):
    net = biased()
    fit(net, epochs=1)
    fit(net, Checkpoint(tmp_path / "run", seconds=0))
    forms = {tuple(checkpoint.load(file)[1].position.forms) for file in files}
    assert len({len(one) for one in forms if one}) == 1
    assert any(set(one) == {True, False} for one in forms)
    for file in files[::3]:
        resumed = network()
        fit(resumed, resume=file)
        assert state(resumed) == state(net)


def test_the_seconds_of_the_epoch_are_those_of_both_runs(files, tmp_path):
    fit(network(), Checkpoint(tmp_path / "run", seconds=0), epochs=1)
    position = checkpoint.load(files[5])[1].position
    assert position.batch == 6
    assert fit(network(), resume=files[5], epochs=1).seconds[0] > position.seconds > 0


# ---- When it is written


def test_only_with_seconds(files, tmp_path):
    fit(network(), Checkpoint(tmp_path / "run"))
    assert len(files) == 3


def test_not_before_it_is_time(files, tmp_path):
    fit(network(), Checkpoint(tmp_path / "run", every=2, seconds=1000))
    assert len(files) == 2


class Interrupt(Callback):
    def on_batches(self, progress):
        if progress.batch == 5:
            raise KeyboardInterrupt


class StopAt(Callback):
    def on_batches(self, progress):
        progress.stop = progress.batch == 5


@pytest.mark.parametrize("callback", [Interrupt, StopAt])
def test_where_training_ends_within_an_epoch(callback, tmp_path, state):
    path = tmp_path / "run"
    whole, stopped, resumed = network(), network(), network()
    fit(whole)
    try:
        fit(stopped, callback(), Checkpoint(path, seconds=1000))
    except KeyboardInterrupt:
        assert callback is Interrupt
    assert checkpoint.load(str(path))[1].position.batch == 5
    fit(resumed, resume=path)
    assert state(resumed) == state(whole)


@pytest.mark.slow
def test_where_a_loss_of_python_fails(tmp_path, state, without_seconds):
    """In the second part of a batch: its first part is in no cost."""
    calls, rows = [], (np.repeat(X, 20, axis=0), np.repeat(Y, 20))

    def fails(logits, targets):
        calls.append(len(targets))
        if len(calls) == 5:
            raise KeyboardInterrupt
        return (logits**2).mean(axis=1), 2 * logits / logits.shape[1]

    def net():
        return MLP((36, 20000, 3), loss=Custom(fails), n_threads=1)

    path, options = tmp_path / "run", {"epochs": 1, "batch_size": 600, "shuffle": False, "rows": rows}
    stopped, whole, resumed = net(), net(), net()
    with pytest.raises(KeyboardInterrupt):
        fit(stopped, Checkpoint(path, seconds=1000), **options)
    assert calls[:2] == [200, 200]
    expected = fit(whole, **options)
    assert without_seconds(fit(resumed, resume=path, **options)) == without_seconds(expected)
    assert state(resumed) == state(whole)


def test_where_rows_cannot_be_read(tmp_path, state):
    class Lost(Exception):  # noqa: N818
        pass

    def chunks(end):
        for i, chunk in enumerate(windows()):
            if i == end:
                raise Lost
            yield chunk

    path, options = tmp_path / "run", {"epochs": 1, "shuffle": False}
    whole, stopped, resumed = network(), network(), network()
    fit(whole, rows=(windows(), None), **options)
    with pytest.raises(Lost):
        fit(stopped, Checkpoint(path, seconds=1000), rows=(Stream(lambda: chunks(11), window_rows=32), None), **options)
    assert checkpoint.load(str(path))[1].position.batch == 8
    fit(resumed, rows=(Stream(lambda: chunks(99), window_rows=32), None), resume=path, **options)
    assert state(resumed) == state(whole)


def test_an_epoch_that_is_undone_is_not_written(files, tmp_path):
    class Fail(Callback):
        def on_batches(self, progress):
            if len(progress.history.loss) == 1 and progress.batch == 9:
                raise ZeroDivisionError

    net = network()
    with pytest.raises(ZeroDivisionError):
        fit(net, Fail(), Checkpoint(tmp_path / "run", seconds=1000))
    assert len(files) == 1
    np.testing.assert_array_equal(net.parameters, fastmlp.load(files[0]).parameters)


def test_a_time_limit_may_be_followed_by_more_time(tmp_path, state):
    path, nets = tmp_path / "run", [network(), network()]
    fit(nets[0])
    for _ in range(3 * 13):  # a batch each
        history = fit(nets[1], TimeLimit(1e-9), Checkpoint(path, seconds=1000), resume=path)
    assert len(history.loss) == 3
    assert state(nets[0]) == state(nets[1])


def test_the_best_parameters_come_from_before_the_stop(files, tmp_path):
    options = {"epochs": 40, "validation_data": (X[:20], Y[::-1][:20]), "optimizer": Adam(0.01)}
    stops, whole, resumed = [EarlyStopping(patience=2) for _ in range(2)], network(), network()
    fit(whole, stops[0], Checkpoint(tmp_path / "run", seconds=0), **options)
    fit(resumed, stops[1], resume=files[len(files) // 2], **options)
    assert whole._values.tobytes() == resumed._values.tobytes()
    assert stops[0].best == stops[1].best


# ---- What is refused


def refused(file, message, kind=ValueError, **options):
    net = network()
    before = net.parameters.copy()
    with pytest.raises(kind, match=message):
        fit(net, resume=file, **options)
    np.testing.assert_array_equal(net.parameters, before)


def test_other_batches(files, tmp_path):
    fit(network(), Checkpoint(tmp_path / "run", seconds=0), epochs=1)
    message = "resume goes on within an epoch, after 4 batches of 8; batch_size must be that, not 9"
    refused(files[3], message, batch_size=9)
    refused(files[3], "after 4 batches of 8; X has 31 rows", rows=(X[:31], Y[:31]))
    fit(network(), resume=files[-1], batch_size=9)  # an epoch's end


def test_fewer_rows_of_a_stream(files, tmp_path):
    fit(network(), Checkpoint(tmp_path / "run", seconds=0), rows=(windows(), None), epochs=1)
    few = Stream(lambda: [(X[:30], Y[:30])], window_rows=32)
    with pytest.raises(ValueError, match="resume names a checkpoint within an epoch of more rows than the stream has"):
        fit(network(), resume=files[8], rows=(few, None))


@pytest.mark.parametrize("position", [{}, {"batch": 1}, {"batch": "1"}, {"more": 1}])
def test_a_position_that_is_none(position, tmp_path, monkeypatch):
    path, net = str(tmp_path / "run"), network()
    fit(net, Checkpoint(path))
    run = checkpoint.load(path)[1]
    wrong = run.position._asdict() if position else {}
    wrong.update(position)
    monkeypatch.setattr(type(run.position), "_asdict", lambda self: wrong)
    if position == {"batch": 1}:
        wrong.pop("forms")
    checkpoint.save(path, net, run)
    monkeypatch.undo()
    refused(path, "must have a position of batch, batch_size, total_cost, seconds, forms, got", FileFormatError)


@pytest.mark.parametrize("seconds", [-1, "1", float("nan"), True])
def test_wrong_seconds(seconds):
    with pytest.raises((TypeError, ValueError), match="seconds must be"):
        Checkpoint("run", seconds=seconds)
