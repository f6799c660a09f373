"""The protocol and the bar: what callbacks are told and when, and the progress that fit shows."""

import io
import re
import sys
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from tqdm import tqdm

from fastmlp import MLP, SGD, DivergenceError
from fastmlp.callbacks import Callback, Progress, ProgressBar, bar
from fastmlp.callbacks.bar import epoch_line
from fastmlp.training import History

OCCASIONS = ("on_fit_begin", "on_batches", "on_epoch_end", "on_fit_end")


def problem(n=400, loss="cross_entropy"):
    generator = np.random.default_rng(0)
    X = generator.normal(size=(n, 4)).astype(np.float32)
    return MLP((4, 16, 2), loss=loss), X, (X.sum(axis=1) > 0).astype(int)


class Diary(Callback):
    """Writes down each occasion, with the epochs and batches done and the network's parameters."""

    def __init__(self):
        self.entries = []

    def write(self, occasion, progress):
        done = (len(progress.history.loss), progress.batch)
        self.entries.append((occasion, *done, progress.network.parameters.copy()))

    def __getattribute__(self, name):
        if name in OCCASIONS:
            return lambda progress: self.write(name, progress)
        return super().__getattribute__(name)

    def named(self, occasion):
        return [entry for entry in self.entries if entry[0] == occasion]


class Failing(Callback):
    def __init__(self, occasion, error):
        def fail(progress):
            raise error

        setattr(self, occasion, fail)


def test_the_base_does_nothing_at_every_occasion():
    net, X, y = problem()
    twin = MLP((4, 16, 2))
    net.fit(X, y, epochs=2, callbacks=[Callback()], verbose=False)
    twin.fit(X, y, epochs=2, verbose=False)
    np.testing.assert_array_equal(net.parameters, twin.parameters)


def test_the_occasions_in_their_order():
    net, X, y = problem()
    first = net.parameters.copy()
    diary = Diary()
    net.fit(X, y, epochs=3, batch_size=4, callbacks=[diary], verbose=False)

    occasions = [entry[0] for entry in diary.entries]
    assert occasions[0] == "on_fit_begin"
    assert occasions[-1] == "on_fit_end"
    assert occasions.count("on_epoch_end") == 3
    assert [entry[1:3] for entry in diary.named("on_epoch_end")] == [(1, 100), (2, 100), (3, 100)]
    for epoch in range(3):
        batches = [entry[2] for entry in diary.named("on_batches") if entry[1] == epoch]
        assert batches == sorted(set(batches))
        assert batches[0] >= 1
        assert batches[-1] == 100

    # After each slice the network has other parameters; at an epoch's end they are those of its last slice.
    seen = [first, *(entry[3] for entry in diary.named("on_batches"))]
    assert not any(np.array_equal(one, next_one) for one, next_one in pairwise(seen))
    at_end = [entry[3] for entry in diary.named("on_epoch_end")]
    np.testing.assert_array_equal(at_end, [entry[3] for entry in diary.named("on_batches") if entry[2] == 100])
    np.testing.assert_array_equal(at_end[2], net.parameters)


def test_progress_says_where_training_stands():
    net, X, y = problem()
    seen = []

    class Look(Callback):
        def on_epoch_end(self, progress):
            seen.append(progress)
            assert len(progress.history.validation_loss) == len(progress.history.loss) == len(progress.history.seconds)

    history = net.fit(X, y, epochs=2, batch_size=7, validation_data=(X, y), callbacks=(Look(),), verbose=False)
    assert seen[0] is seen[1]
    assert isinstance(seen[0], Progress)
    assert (seen[0].network, seen[0].history, seen[0].epochs, seen[0].n_batches) == (net, history, 2, 58)


def test_callbacks_are_called_in_the_order_given():
    calls = []

    class Named(Callback):
        def __init__(self, name):
            self.name = name

        def on_epoch_end(self, progress):
            calls.append(self.name)

    net, X, y = problem()
    net.fit(X, y, epochs=2, callbacks=[Named("a"), Named("b")], verbose=False)
    assert calls == ["a", "b", "a", "b"]


@pytest.mark.parametrize("error", [RuntimeError("stop"), KeyboardInterrupt()])
@pytest.mark.parametrize("occasion", ["on_batches", "on_epoch_end"])
def test_what_a_callback_raises_ends_training_in_order(occasion, error):
    net, X, y = problem()
    diary = Diary()
    with pytest.raises(type(error)):
        net.fit(X, y, epochs=3, callbacks=[diary, Failing(occasion, error)], verbose=False)
    assert diary.entries[-1][0] == "on_fit_end"
    assert len(diary.named("on_fit_end")) == 1
    assert diary.entries[-1][1] == (1 if occasion == "on_epoch_end" else 0)
    assert np.isfinite(net.fit(X, y, epochs=1, verbose=False).loss[0])


@pytest.mark.parametrize("occasion", ["on_fit_begin", "on_fit_end"])
@pytest.mark.parametrize("error", [RuntimeError("stop"), KeyboardInterrupt()])
def test_who_heard_of_the_beginning_hears_of_the_end(occasion, error):
    net, X, y = problem()
    before, after = Diary(), Diary()
    with pytest.raises(type(error)):
        net.fit(X, y, epochs=1, callbacks=[before, Failing(occasion, error), after], verbose=False)
    for diary, heard in ((before, True), (after, occasion == "on_fit_end")):
        assert len(diary.named("on_fit_begin")) == len(diary.named("on_fit_end")) == int(heard)


def test_the_first_of_several_errors_leaves_fit():
    net, X, y = problem()
    ends = [Failing("on_fit_end", ValueError(word)) for word in ("one", "two")]
    with pytest.raises(ValueError, match="one") as raised:
        net.fit(X, y, epochs=1, callbacks=ends, verbose=False)
    with pytest.raises(KeyboardInterrupt) as interrupted:
        net.fit(X, y, epochs=1, callbacks=[Failing("on_epoch_end", KeyboardInterrupt()), *ends], verbose=False)
    if sys.version_info >= (3, 11):
        (note,) = raised.value.__notes__
        assert "on_fit_end, ValueError('two') was raised" in note
        assert len(interrupted.value.__notes__) == 2


def test_an_error_within_an_epoch_leaves_the_network_as_before_it():
    net, X, y = problem()
    twin = MLP((4, 16, 2))
    with pytest.raises(RuntimeError):
        net.fit(X, y, epochs=3, callbacks=[Failing("on_batches", RuntimeError())], verbose=False)
    np.testing.assert_array_equal(net.parameters, twin.parameters)
    assert net.fit(X, y, epochs=2, verbose=False).loss == twin.fit(X, y, epochs=2, verbose=False).loss


def test_a_divergence_ends_the_fit_for_callbacks_too():
    net, X, y = problem(loss="squared_error")
    diary = Diary()
    with pytest.raises(DivergenceError):
        net.fit(X, np.eye(2)[y], epochs=3, optimizer=SGD(1e20), callbacks=[diary], verbose=False)
    assert diary.entries[-1][0] == "on_fit_end"
    assert not diary.named("on_epoch_end")


def test_a_callback_may_use_the_network():
    net, X, y = problem()
    answers = []

    class Use(Callback):
        def on_batches(self, progress):
            answers.append(progress.network.evaluate(X, y)["accuracy"])

    net.fit(X, y, epochs=20, batch_size=50, callbacks=[Use()], verbose=False)
    assert answers[-1] > answers[0]


# ---- What is shown


def test_a_line_an_epoch(capsys):
    net, X, y = problem()
    history = net.fit(X, y, epochs=2, validation_data=(X, y))
    out, err = capsys.readouterr()
    assert out == "".join(
        f"Epoch: {i + 1} cost={history.loss[i]:.4f} validation_loss={history.validation_loss[i]:.4f} "
        f"validation_accuracy={history.validation_accuracy[i]:.4f} seconds={history.seconds[i]:.2f}\n"
        for i in range(2)
    )
    assert err == ""


@pytest.mark.parametrize("verbose", [False, 0])
def test_silence(capsys, verbose):
    net, X, y = problem()
    net.fit(X, y, epochs=2, verbose=verbose)
    assert capsys.readouterr() == ("", "")


def told(capsys):
    """The epochs whose lines were printed."""
    return [int(re.match(r"Epoch: (\d+) cost=", line)[1]) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize(
    ("verbose", "lines"), [(1, [1, 2, 3, 4, 5, 6, 7]), (3, [1, 3, 6, 7]), (np.int64(7), [1, 7]), (100, [1, 7])]
)
def test_a_line_every_so_many_epochs_and_for_the_first_and_the_last(capsys, verbose, lines):
    net, X, y = problem()
    net.fit(X, y, epochs=7, verbose=verbose)
    assert told(capsys) == lines


def test_lines_of_quick_epochs_are_half_a_second_apart(capsys, monkeypatch):
    net, X, y = problem()
    now = iter(np.arange(0, 1e6, 0.125))  # each look at the clock, one an epoch and one a line, is an eighth later
    monkeypatch.setattr(bar, "time", SimpleNamespace(perf_counter=lambda: next(now)))
    net.fit(X, y, epochs=10)
    # a line at 0.125, the next one is due from 0.625 on
    assert told(capsys) == [1, 5, 9, 10]


@pytest.mark.parametrize("error", [RuntimeError(), KeyboardInterrupt()])
def test_the_last_epoch_has_its_line_also_where_training_ends_early(capsys, error):
    net, X, y = problem()

    class Stop(Callback):
        def on_epoch_end(self, progress):
            if len(progress.history.loss) == 3:
                raise error

    with pytest.raises(type(error)):
        net.fit(X, y, epochs=9, callbacks=[Stop()], verbose=100)
    assert told(capsys) == [1, 3]


def test_a_bar_may_be_used_again(capsys):
    net, X, y = problem()
    bar = ProgressBar(every=2)
    for _ in range(2):
        net.fit(X, y, epochs=3, callbacks=[bar], verbose=False)
        assert told(capsys) == [1, 2, 3]


@pytest.mark.parametrize("every", [0, True, 0.5])
def test_every_is_a_whole_number_from_1(every):
    with pytest.raises((ValueError, TypeError), match="every must be"):
        ProgressBar(every)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_bar_on_a_terminal(capsys, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    net, X, y = problem()
    net.fit(X, y, epochs=2, batch_size=4, verbose=True)
    assert [line.split(" ")[:2] for line in capsys.readouterr().out.splitlines()] == [["Epoch:", "1"], ["Epoch:", "2"]]
    shown = terminal.getvalue()
    assert "/100" in shown
    assert not shown.rsplit("\r", 1)[-1].strip()  # nothing is left of it
    assert "\n" not in shown


def test_the_bar_is_closed_when_training_fails(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    net, X, y = problem()
    bar = ProgressBar()
    with pytest.raises(RuntimeError):
        net.fit(X, y, callbacks=[bar, Failing("on_batches", RuntimeError())], verbose=False)
    assert bar._bar.disable  # as tqdm is after close


def test_the_bar_is_closed_whatever_other_callbacks_raise(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    net, X, y = problem()
    bar = ProgressBar()
    with pytest.raises(RuntimeError):
        net.fit(X, y, epochs=1, callbacks=[Failing("on_fit_end", RuntimeError()), bar], verbose=False)
    assert bar._bar.disable


@pytest.fixture
def notebook(monkeypatch):
    """A function that makes this process look like the kernel of a notebook, and gives the bars that it makes."""

    def begin(shell):
        made = []
        chosen = SimpleNamespace(tqdm=lambda **options: made.append(tqdm(**options)) or made[-1])
        monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
        monkeypatch.setitem(sys.modules, "tqdm.autonotebook", chosen)
        return made

    return begin


def test_a_notebook_has_a_bar_on_the_output_of_the_lines(notebook, monkeypatch):
    page = io.StringIO()
    monkeypatch.setattr(sys, "stdout", page)
    made = notebook(SimpleNamespace(kernel=object()))
    net, X, y = problem()
    net.fit(X, y, epochs=2, batch_size=4, verbose=1)
    assert len(made) == 1
    assert made[0].fp.getvalue() == page.getvalue()
    assert re.search(r"\d+/100 .*\rEpoch: 1 cost=\S+ seconds=\S+\n.*\rEpoch: 2 cost=", page.getvalue(), re.DOTALL)


@pytest.mark.parametrize("shell", [None, SimpleNamespace()], ids=["IPython imported alone", "IPython in a terminal"])
def test_what_is_no_notebook_has_a_bar_on_terminals_only(notebook, shell):
    made = notebook(shell)
    net, X, y = problem()
    net.fit(X, y, epochs=1)
    assert not made


def test_the_choice_of_a_bar_warns_of_nothing(notebook, monkeypatch, recwarn):
    notebook(SimpleNamespace(kernel=object()))
    monkeypatch.delitem(sys.modules, "tqdm.autonotebook")
    monkeypatch.setitem(sys.modules, "ipykernel.zmqshell", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    net, X, y = problem()
    net.fit(X, y, epochs=1)
    assert not recwarn.list


def test_no_standard_error_at_all(capsys, monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)  # as for a program without a console
    net, X, y = problem()
    net.fit(X, y, epochs=1)
    assert capsys.readouterr().out.startswith("Epoch: 1 cost=")


def test_the_line_of_an_epoch():
    history = History(loss=[2.0, 0.12347], seconds=[1.0, 61.237])
    assert epoch_line(history) == "Epoch: 2 cost=0.1235 seconds=61.24"
    history.validation_loss = [3.0, 0.5]
    assert "validation_loss=0.5000 seconds" in epoch_line(history)
    history.validation_accuracy = [0.5, 0.98767]
    assert "validation_loss=0.5000 validation_accuracy=0.9877 seconds" in epoch_line(history)
