"""One network on many ranks: here they are threads; tests/test_mpiexec.py has some that are processes."""

import copy
import re
import sys
import threading
import time
from collections import defaultdict, deque
from functools import reduce
from itertools import pairwise
from types import ModuleType

import numpy as np
import pytest

import fastmlp
from fastmlp import MLP, SGD, Adam, AdamW, DivergenceError, fit_many, threads
from fastmlp.callbacks import Callback, Checkpoint, CSVLog, EarlyStopping, ReduceOnPlateau
from fastmlp.errors import RankError
from fastmlp.rows import Stream
from fastmlp.training import ranks


class Aborted(BaseException):
    """In the place of the end of a process."""


class Request:
    def __init__(self, test):
        self.Test = test


class Rank:
    """A communicator, as one rank sees it."""

    def __init__(self, rank, world):
        self.rank, self.world, self.size, self.calls = rank, world, world.size, 0

    def Iallreduce(self, sendbuf, recvbuf):  # noqa: N802
        call, self.calls = self.calls, self.calls + 1
        self.world.sums[call][self.rank] = sendbuf.copy()

        def test():
            arrays = self.world.sums[call]
            if self.world.aborted is not None:
                raise Aborted
            if len(arrays) < self.size:
                return False
            assert len({(array.shape, array.dtype) for array in arrays.values()}) == 1
            recvbuf[...] = reduce(np.add, (arrays[rank] for rank in range(self.size)))
            return True

        return Request(test)

    def Isend(self, buf, dest, tag):  # noqa: N802
        self.world.post[self.rank, dest].append(buf)
        return Request(lambda: True)

    def Irecv(self, buf, source, tag):  # noqa: N802
        return Request(lambda: bool(self.world.post[source, self.rank]))

    def Abort(self, errorcode):  # noqa: N802
        self.world.aborted = self.rank
        raise Aborted


class World:
    """So many ranks."""

    def __init__(self, size):
        self.size, self.aborted = size, None
        self.sums, self.post = defaultdict(dict), defaultdict(deque)

    def run(self, work):
        """Call work(communicator) on each rank, in a thread. Return what came of it, exceptions too."""
        results = [None] * self.size

        def call(rank):
            try:
                results[rank] = work(Rank(rank, self))
            except BaseException as error:
                results[rank] = error

        workers = [threading.Thread(target=call, args=[rank], daemon=True) for rank in range(self.size)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
            assert not worker.is_alive(), "a rank hangs"
        return results


QUIET = {"epochs": 3, "verbose": False}


def shares(n, size, uneven):
    """Where each rank's rows begin and end, of n."""
    if uneven:
        return [0, *np.sort(np.random.default_rng(0).integers(0, n // 2, size - 1)), n]
    return [n * rank // size for rank in range(size + 1)]


def share(array, ends, rank):
    return None if array is None else array[ends[rank] : ends[rank + 1]]


def fit_shares(network, X, y, ends, *, batch_size, sample_weight=None, sync_every=1, callbacks=None, **arguments):
    """Train a copy of the network on each rank, which has its share. Return the networks, or exceptions."""

    def work(communicator):
        net, rank = copy.deepcopy(network), communicator.rank
        net.fit(
            share(X, ends, rank),
            share(y, ends, rank),
            batch_size=batch_size,
            sample_weight=share(sample_weight, ends, rank),
            communicator=communicator,
            sync_every=sync_every,
            callbacks=callbacks(rank) if callbacks else [],
            **{**QUIET, **arguments},
        )
        return net

    return World(len(ends) - 1).run(work)


def in_one(network, X, y, ends, *, batch_size, **arguments):
    """Train a copy in one process, whose batches are those of the ranks together."""
    sizes = np.diff(ends)
    rows = [
        np.arange(first + batch * batch_size, min(first + (batch + 1) * batch_size, end))
        for batch in range(-(-max(sizes) // batch_size))
        for first, end in pairwise(ends)
    ]
    net = copy.deepcopy(network)
    lengths = [sum(map(len, rows[i : i + len(sizes)])) for i in range(0, len(rows), len(sizes))]
    assert all(length == lengths[0] for length in lengths[:-1])  # as the engine takes them
    fit_many([net], X, y, rows=[np.concatenate(rows)], batch_size=lengths[0], **{**QUIET, **arguments})
    return net


def squares(logits, targets):
    with np.errstate(over="ignore"):
        return ((logits - targets) ** 2).sum(axis=1) / 2, logits - targets


CASES = {
    "sgd": ({}, {"optimizer": SGD(0.1)}),
    "momentum": ({}, {"optimizer": SGD(0.05, 0.9, nesterov=True)}),
    "adam": ({}, {"optimizer": Adam(1e-3, epsilon=1e-3)}),
    "decay": ({"max_norm": 1.0}, {"optimizer": AdamW(1e-3, epsilon=1e-3, l2=1e-3, ema=0.9)}),
    "clipped": ({}, {"optimizer": SGD(0.1, clip_norm=0.3)}),
    "dropout": ({"dropout": 0.3, "input_dropout": 0.2}, {"optimizer": SGD(0.1)}),
    "noise": ({"noise": 0.2, "input_noise": 0.1, "dropout": 0.1}, {"optimizer": SGD(0.1)}),
    "weights": ({}, {"optimizer": SGD(0.1), "sample_weight": np.linspace(0.1, 2, 96)}),
    "classes": ({}, {"optimizer": SGD(0.1), "class_weight": "balanced"}),
    "custom": ({"loss": fastmlp.losses.Custom(squares)}, {"optimizer": SGD(0.01)}),
    "schedule": ({}, {"optimizer": SGD(fastmlp.schedules.Cosine(0.1, warmup=2))}),
}


@pytest.fixture(scope="module")
def data(digits):
    return digits(96, k=70)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("hidden", [(), (17,), (65, 20)])
def test_ranks_come_to_what_one_process_comes_to(data, case, size, hidden, assert_close):
    X, y = data
    how, arguments = CASES[case]
    y = np.eye(10, dtype=np.float32)[y] if case == "custom" else y
    network = MLP((70, *hidden, 10), **how)
    ends = shares(96, size, uneven=False)
    arguments = {**arguments, "shuffle": False, "batch_size": 8}
    expected = in_one(network, X, y, ends, **arguments)
    found = fit_shares(network, X, y, ends, **arguments)
    for net in found:
        assert isinstance(net, MLP), found
        assert net.parameters.tobytes() == found[0].parameters.tobytes()
        assert_close(net.parameters, expected.parameters, "steps", 96 * 9)
    assert_close(found[0].history.loss, expected.history.loss, "cost", 96 * 9)


def test_ranks_that_are_wrong_are_seen(data, assert_close):
    """The comparison's control: a rank whose rows are others comes to something else."""
    X, y = data
    network, ends, arguments = MLP((70, 17, 10)), [0, 48, 96], {"shuffle": False, "batch_size": 8}
    found = fit_shares(network, X, np.roll(y, 1), ends, optimizer=SGD(0.1), **arguments)
    expected = in_one(network, X, y, ends, optimizer=SGD(0.1), **arguments)
    with pytest.raises(AssertionError, match="steps"):
        assert_close(found[0].parameters, expected.parameters, "steps", 96 * 9)


def test_sparse_rows(data, assert_close):
    sparse = pytest.importorskip("scipy.sparse")
    X, y = data
    network, arguments = MLP((70, 64, 10), dropout=0.2), {"optimizer": SGD(0.1), "shuffle": False, "batch_size": 8}
    found = fit_shares(network, sparse.csr_array(X), y, [0, 48, 96], **arguments)
    assert_close(found[1].parameters, in_one(network, X, y, [0, 48, 96], **arguments).parameters, "steps", 96 * 9)


def test_images_are_distorted_as_in_one_process(assert_close):
    X = np.random.default_rng(0).random((64, 64), np.float32)
    y, network = np.arange(64) % 3, MLP((64, 12, 3))
    arguments = {"optimizer": SGD(0.1), "augment": fastmlp.augment.Affine(rotation=20), "shuffle": False}
    found = fit_shares(network, X, y, [0, 32, 64], batch_size=8, **arguments)
    expected = in_one(network, X, y, [0, 32, 64], batch_size=8, **arguments)
    assert_close(found[1].parameters, expected.parameters, "steps", 64 * 9)


@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("how", [{}, {"batch_norm": True}, {"dropout": 0.3}])
def test_uneven_and_empty_shares_do_not_hang(data, size, shuffle, how):
    X, y = data
    for ends in (shares(96, size, uneven=True), [0, *[96] * size], [*[0] * size, 96]):
        nets = fit_shares(MLP((70, 17, 10), **how), X, y, ends, batch_size=7, shuffle=shuffle)
        assert {net._values.tobytes() for net in nets} == {nets[0]._values.tobytes()}
        assert all(net.history.loss == nets[0].history.loss for net in nets)
        assert np.isfinite(nets[0].history.loss).all()
        assert {net._state.step for net in nets} == {3 * -(-max(np.diff(ends)) // 7)}


def test_a_rank_without_rows_changes_nothing(data, assert_close):
    X, y = data
    arguments = {"batch_size": 10, "shuffle": False, "optimizer": SGD(0.1, clip_norm=1.0)}
    alone = in_one(MLP((70, 17, 10)), X, y, [0, 96], **arguments)
    for net in fit_shares(MLP((70, 17, 10)), X, y, [0, 0, 96, 96], **arguments):
        assert_close(net.parameters, alone.parameters, "steps", 96 * 9)


def test_normalised_by_each_ranks_own_rows(data, assert_close):
    """Ranks with the same rows come to what one of them comes to; of others, running statistics are the ranks' mean."""
    X, y = data
    X, y = X[:48], y[:48]
    network = MLP((70, 17, 10), batch_norm=True)
    arguments = {"batch_size": 8, "optimizer": SGD(0.1), "shuffle": False}
    alone = in_one(network, X, y, [0, 48], **arguments)
    for net in fit_shares(network, np.r_[X, X], np.r_[y, y], [0, 48, 96], **arguments):
        assert_close(net._values, alone._values, "normalised", 48 * 9)
    still = {**arguments, "optimizer": SGD(1e-30), "epochs": 1}  # steps that do nothing
    halves = [in_one(network, X[i::2], y[i::2], [0, 24], **still) for i in range(2)]
    net = fit_shares(network, np.r_[X[::2], X[1::2]], np.r_[y[::2], y[1::2]], [0, 24, 48], **still)[1]
    expected = [np.mean([half.running_means[0] for half in halves], axis=0)]
    assert_close(net.running_means[0], expected[0], "normalised", 48)


# ---- Between syncs


def test_parameters_are_averaged_every_so_many_steps(data, assert_close):
    X, y = data
    network, ends = MLP((70, 17, 10)), [0, 32, 96]
    arguments = {"batch_size": 8, "optimizer": SGD(0.1, 0.9), "shuffle": False, "epochs": 1}
    alone = [
        in_one(network, share(X, ends, i), share(y, ends, i), [0, ends[i + 1] - ends[i]], **arguments) for i in (0, 1)
    ]
    for net in fit_shares(network, X, y, ends, sync_every=100, **arguments):
        assert_close(net.parameters, (32 * alone[0].parameters + 64 * alone[1].parameters) / 96, "steps", 96)
        velocity = (32 * alone[0]._state.moments[0] + 64 * alone[1]._state.moments[0]) / 96
        assert_close(net._state.moments[0], velocity, "steps", 96)


@pytest.mark.parametrize("sync_every", [2, 3, 5])
@pytest.mark.parametrize("how", [{}, {"batch_norm": True}, {"dropout": 0.3}])
@pytest.mark.parametrize("uneven", [False, True])
def test_ranks_agree_after_each_epoch(data, sync_every, how, uneven):
    X, y = data
    ends = shares(96, 3, uneven)
    arguments = {"batch_size": 7, "sync_every": sync_every, "optimizer": Adam(0.01, ema=0.9)}
    nets = fit_shares(MLP((70, 17, 10), **how), X, y, ends, **arguments)
    for net in nets:
        assert net._values.tobytes() == nets[0]._values.tobytes()
        assert net._state.averages.tobytes() == nets[0]._state.averages.tobytes()
        assert net.history.loss == nets[0].history.loss
        assert net.history.loss[-1] < net.history.loss[0]


# ---- One rank


def test_one_rank_is_no_mpi_at_all(data, state):
    X, y = data
    alone, rank = MLP((70, 17, 10), dropout=0.1), MLP((70, 17, 10), dropout=0.1)
    alone.fit(X, y, **QUIET)
    assert World(1).run(lambda communicator: rank.fit(X, y, communicator=communicator, **QUIET))[0].loss
    assert state(alone) == state(rank)


def test_one_rank_takes_streams_as_no_mpi_does(data, state):
    alone, rank = MLP((70, 17, 10)), MLP((70, 17, 10))
    alone.fit(Stream(*data), **QUIET)
    World(1).run(lambda communicator: rank.fit(Stream(*data), communicator=communicator, **QUIET))
    assert state(alone) == state(rank)


# ---- Rows that are read as they are used


def fit_streams(network, X, y, ends, *, batch_size, window_rows=None, **arguments):
    """Train a copy of the network on each rank, which reads its share in windows. Return what came of it."""

    def work(communicator):
        net, rank = copy.deepcopy(network), communicator.rank
        stream = Stream(share(X, ends, rank), share(y, ends, rank), chunk_rows=5, window_rows=window_rows)
        net.fit(stream, batch_size=batch_size, communicator=communicator, **{**QUIET, **arguments})
        return net

    return World(len(ends) - 1).run(work)


@pytest.mark.parametrize("uneven", [False, True])
@pytest.mark.parametrize(
    ("how", "arguments"),
    [
        ({}, {"window_rows": 14}),
        ({}, {"window_rows": 14, "sync_every": 3}),
        ({}, {"shuffle": True}),
        ({"dropout": 0.3, "input_dropout": 0.2, "batch_norm": True}, {"shuffle": True}),
        ({}, {"window_rows": 21, "class_weight": "balanced"}),
    ],
)
def test_streams_give_the_bits_of_memory(blobs, uneven, how, arguments):
    X, y = blobs(96, k=70)
    network, ends = MLP((70, 17, 3), **how), shares(96, 3, uneven)
    arguments = {"batch_size": 7, "shuffle": False, **arguments}
    streamed = fit_streams(network, X, y, ends, **arguments)
    arguments.pop("window_rows", None)
    for net, expected in zip(streamed, fit_shares(network, X, y, ends, **arguments), strict=True):
        assert net._values.tobytes() == expected._values.tobytes()
        assert net.history.loss == expected.history.loss


@pytest.mark.parametrize("sync_every", [1, 4])
def test_streams_in_windows_of_rows_of_the_ranks_own(blobs, sync_every):
    X, y = blobs(96, k=70)
    network = MLP((70, 17, 3), dropout=0.3, batch_norm=True)
    for ends in (shares(96, 4, uneven=True), [0, 96, 96]):
        nets = fit_streams(network, X, y, ends, batch_size=7, window_rows=14, sync_every=sync_every)
        assert {net._values.tobytes() for net in nets} == {nets[0]._values.tobytes()}
        assert nets[0].history.loss[-1] < nets[0].history.loss[0]
        assert {net._state.step for net in nets} == {3 * -(-max(np.diff(ends)) // 7)}


def test_shares_of_a_stream(blobs, assert_close):
    X, y = blobs(96, k=70)
    whole = Stream(X, y, chunk_rows=8)
    arguments = {"optimizer": SGD(0.1), "shuffle": False}

    def work(communicator):
        net = MLP((70, 17, 3))
        net.fit(whole.share(communicator.rank, 2), batch_size=8, communicator=communicator, **arguments, **QUIET)
        return net

    expected = in_one(MLP((70, 17, 3)), X, y, [0, 96], batch_size=16, **arguments)
    for net in World(2).run(work):
        assert_close(net.parameters, expected.parameters, "steps", 96 * 9)


def test_streams_that_ranks_cannot_share(data):
    X, y = data
    chunks = Stream(lambda: iter([(X, y)]))
    with pytest.raises(TypeError, match="chunks that only come one after the other have no shares"):
        chunks.share(0, 2)
    with pytest.raises(ValueError, match="part must be below parts, 2, not 2"):
        Stream(X, y).share(2, 2)

    def fit(*streams, **arguments):
        def work(communicator):
            stream = streams[communicator.rank]
            return MLP((70, 10)).fit(stream, batch_size=8, communicator=communicator, **{**QUIET, **arguments})

        return World(2).run(work)

    message = fails(fit(Stream(X, y), chunks), RankError, ValueError)[1]
    assert message.startswith("n must be given, Stream(chunks, n=...), with several ranks")
    assert all(fit(Stream(X, y), Stream(lambda: iter([(X, y)]), n=96)))
    # As soon as it is seen, before the rank takes steps that the others do not.
    found = fit(Stream(X, y), Stream(lambda: iter([(X[:50], y[:50])] * 2), n=60), epochs=1)
    assert [type(one) for one in found] == [Aborted, Aborted]
    assert all(net.history.loss for net in fit_streams(MLP((70, 10)), X, y, [0, 0, 96], batch_size=8))


def test_a_checkpoint_within_an_epoch_is_not_for_ranks(data, tmp_path):
    X, y = data
    path = tmp_path / "run.safetensors"

    class Stop(Callback):
        def on_batches(self, progress):
            progress.stop = True

    loss = fastmlp.losses.Custom(squares)  # of which each batch is a slice
    arguments = {"batch_size": 8, **QUIET}
    y = np.eye(10, dtype=np.float32)[y]
    MLP((70, 10), loss=loss).fit(X, y, callbacks=[Checkpoint(path, seconds=0), Stop()], **arguments)

    def work(communicator):
        return MLP((70, 10), loss=loss).fit(X, y, resume=path, communicator=communicator, **arguments)

    assert fails(World(2).run(work), ValueError, ValueError)[1].startswith("resume must name a checkpoint of the end")


# ---- Who judges, prints and writes


class Note(Callback):
    def __init__(self):
        self.heard = []

    def on_epoch_end(self, progress):
        self.heard.append(list(progress.history.validation_loss))


def test_rank_0_judges_and_all_know(data):
    X, y = data
    notes = [Note(), Note()]
    stops = [EarlyStopping(patience=2), EarlyStopping(patience=2)]

    def work(communicator):
        rank = communicator.rank
        net = MLP((70, 17, 10))
        data = (X, y) if rank == 0 else None
        callbacks = [notes[rank], stops[rank], ReduceOnPlateau(patience=1, min_delta=1e9)]
        arguments = {
            "optimizer": SGD(1e-9),
            "callbacks": callbacks,
            "validation_data": data,
            "communicator": communicator,
        }
        return net.fit(X[rank::2], y[rank::2], **{**QUIET, **arguments, "epochs": 50})

    histories = World(2).run(work)
    assert histories[0] == histories[1]
    assert notes[0].heard == notes[1].heard
    assert len(histories[0].loss) < 50
    assert stops[0].best_epoch == stops[1].best_epoch


def test_rank_0_prints_and_writes(data, tmp_path, capsys):
    X, y = data

    def callbacks(rank):
        return [CSVLog(tmp_path / f"log{rank}"), Checkpoint(tmp_path / f"run{rank}")]

    fit_shares(MLP((70, 10)), X, y, [0, 48, 96], batch_size=8, callbacks=callbacks, verbose=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log0", "run0"]
    assert [line.split(" cost")[0] for line in capsys.readouterr().out.splitlines()] == [
        f"Epoch: {i}" for i in (1, 2, 3)
    ]


@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_run_goes_on_with_another_number_of_ranks(data, tmp_path, size, assert_close):
    X, y = data
    arguments = {"shuffle": False, "optimizer": Adam(1e-3, epsilon=1e-3), "epochs": 4}
    path = tmp_path / "run"
    ends = shares(96, 3, uneven=False)
    whole = in_one(MLP((70, 17, 10)), X, y, [0, 96], batch_size=96, **arguments)

    def callbacks(rank):
        return [Checkpoint(path)] if rank == 0 else []

    fit_shares(MLP((70, 17, 10)), X, y, ends, batch_size=32, callbacks=callbacks, **{**arguments, "epochs": 2})

    def work(communicator):
        rows = slice(communicator.rank, None, size)
        resume = path if communicator.rank == 0 else tmp_path / "not here"
        net = MLP((70, 17, 10))
        net.fit(X[rows], y[rows], batch_size=96, resume=resume, communicator=communicator, **{**QUIET, **arguments})
        return net

    for net in World(size).run(work):
        assert len(net.history.loss) == 4
        assert_close(net.parameters, whole.parameters, "steps", 96 * 4)


def test_threads_by_ranks_are_within_the_cores(data, monkeypatch):
    X, y = data
    seen = []

    class See(Callback):
        def on_epoch_end(self, progress):
            seen.append(progress.network.n_threads)

    monkeypatch.setattr(threads, "cpus", lambda: 8)
    # A network's own limit, and OMP_NUM_THREADS, are each rank's.
    for n_threads, environment, found in ((7, "", 2), (None, "", 2), (1, "", 1), (None, "1", 1), (None, "4", 2)):
        monkeypatch.setenv("OMP_NUM_THREADS", environment)
        net = MLP((70, 10), n_threads=n_threads)
        [net, *_] = fit_shares(net, X, y, [0, 32, 64, 96], batch_size=8, callbacks=lambda _: [See()])
        assert set(seen) == {found}
        assert net.n_threads == n_threads
        seen.clear()


# ---- What goes wrong


def fails(nets, *kinds):
    assert [type(net) for net in nets] == list(kinds), nets
    return [str(net) for net in nets]


def test_a_wrong_argument_of_one_rank_is_heard_of_on_all(data):
    X, y = data
    X = X.copy()
    X[50, 3] = np.nan
    messages = fails(fit_shares(MLP((70, 10)), X, y, [0, 48, 72, 96], batch_size=8), RankError, ValueError, RankError)
    assert messages[0] == messages[2]
    assert re.match("rank 1 of 3 failed: ValueError: X must be finite", messages[0])


def test_different_arguments_are_named(data):
    X, y = data

    def run(network=lambda rank: MLP((70, 10)), **arguments):
        def work(communicator):
            own = {name: value(communicator.rank) for name, value in arguments.items()}
            net = network(communicator.rank)
            return net.fit(X, y, **{**QUIET, **own}, communicator=communicator)

        return fails(World(2).run(work), ValueError, ValueError)[0]

    assert (
        run(batch_size=lambda rank: 10 + rank)
        == "batch_size must be the same on all ranks; it is 10 on rank 0, 11 on rank 1"
    )
    assert run(epochs=lambda rank: 2 + rank).startswith("epochs must be the same")
    assert run(sync_every=lambda rank: 2 + rank).startswith("sync_every must be the same")
    assert run(optimizer=lambda rank: SGD(0.1 + rank)).startswith("optimizer must be the same on all ranks; it is SGD")
    assert run(optimizer=lambda rank: SGD(0.1, clip_norm=1 + rank)).startswith("optimizer must be")
    assert run(callbacks=lambda rank: [Note()] * rank).startswith("callbacks must be the same on all ranks; it is []")
    assert run(class_weight=lambda rank: ["balanced", None][rank]).startswith("class_weight must be")
    assert run(lambda rank: MLP((70, 10), seed=rank)).startswith(
        "network must be the same on all ranks; it is MLP((70, 10)"
    )
    assert run(lambda rank: MLP((70, 5 + rank, 10))).startswith("network must be")


def test_functions_are_the_same_wherever_they_lie(data):
    X, y = data

    def work(communicator):
        rate = SGD(lambda step, n: 0.1)
        return MLP((70, 10)).fit(X, y, optimizer=rate, communicator=communicator, **QUIET)

    assert [len(history.loss) for history in World(2).run(work)] == [3, 3]


def test_no_rows_at_all(data):
    X, y = data
    messages = fails(fit_shares(MLP((70, 10)), X[:0], y[:0], [0, 0, 0], batch_size=8), ValueError, ValueError)
    assert messages[0] == "X must have at least one row on one of the ranks"


class Raise(Callback):
    def __init__(self, error):
        self.error = error

    def on_epoch_end(self, progress):
        if self.error is not None and len(progress.history.loss) == 2:
            raise self.error


def test_a_rank_that_raises_ends_all_and_says_so(data, capsys):
    X, y = data

    def callbacks(rank):
        return [Raise(ZeroDivisionError("of mine") if rank == 1 else None)]

    nets = fit_shares(MLP((70, 10)), X, y, [0, 32, 64, 96], batch_size=8, callbacks=callbacks)
    fails(nets, Aborted, Aborted, Aborted)
    error = capsys.readouterr().err
    assert "fastmlp: rank 1 of 3 failed: ZeroDivisionError: of mine; all ranks end\n" in error
    assert "Traceback" in error


@pytest.mark.slow
def test_a_rank_that_is_silent_is_named_after_a_while(data, monkeypatch, capsys):
    X, y = data
    monkeypatch.setattr(ranks, "TIMEOUT", 0.3)
    monkeypatch.setattr(ranks, "ANSWER", 0.3)

    class Sleep(Callback):
        def on_epoch_end(self, progress):
            if self.rank == 2:
                time.sleep(1.5)

    def callbacks(rank):
        sleep = Sleep()
        sleep.rank = rank
        return [sleep]

    fails(fit_shares(MLP((70, 10)), X, y, [0, 32, 64, 96], batch_size=8, callbacks=callbacks), *[Aborted] * 3)
    assert re.search(
        r"fastmlp: rank [01] of 3 has waited 0.3 seconds for rank 2; all ranks end", capsys.readouterr().err
    )


@pytest.mark.slow
def test_a_rank_that_cannot_even_ask_ends_itself(monkeypatch, capsys):
    """As by Open MPI, whose first message to a rank waits for one that is cut off."""
    for name in ("TIMEOUT", "ANSWER"):
        monkeypatch.setattr(ranks, name, 0.1)
    left = threading.Event()

    class CutOff(Rank):
        def Isend(self, buf, dest, tag):  # noqa: N802
            assert left.wait(60)
            raise Aborted

    monkeypatch.setattr(ranks.os, "_exit", lambda status: left.set())
    with pytest.raises(Aborted):
        ranks.Ranks(CutOff(0, World(2))).sum(np.ones(1))
    assert capsys.readouterr().err == (
        "fastmlp: rank 0 of 2 has waited 0.1 seconds for ranks that it does not reach; all ranks end\n"
    )


def test_divergence_is_seen_on_all_ranks(data):
    X, y = data
    for sync_every in (1, 3):
        nets = fit_shares(
            MLP((70, 17, 10)), X, y, [0, 48, 96], batch_size=8, optimizer=SGD(1e30), sync_every=sync_every
        )
        fails(nets, DivergenceError, DivergenceError)


def test_a_custom_loss_that_diverges_on_one_rank(data):
    X, y = data
    network = MLP((70, 10), loss=fastmlp.losses.Custom(lambda logits, _: (logits[:, 0] * 0, logits * 0)))
    X = X.copy()
    X[50] = 3e38  # whose logits are not finite
    y = np.eye(10, dtype=np.float32)[y]
    fails(fit_shares(network, X, y, [0, 48, 96], batch_size=8), DivergenceError, DivergenceError)


def test_parameters_that_differ_are_seen(data):
    class Write(Callback):
        def on_epoch_end(self, progress):
            if self.rank == 1:
                progress.network.parameters[0] += 1

    def callbacks(rank):
        write = Write()
        write.rank = rank
        return [write]

    X, y = data
    nets = fit_shares(MLP((70, 10)), X, y, [0, 32, 64, 96], batch_size=8, callbacks=callbacks)
    messages = fails(nets, RankError, RankError, RankError)
    assert messages[0].startswith(
        "after epoch 1 the parameters on rank 1 are not those on rank 0; what callbacks write"
    )


@pytest.mark.parametrize("occasion", ["on_batches", "on_epoch_end"])
@pytest.mark.parametrize("sync_every", [1, 4])
def test_when_one_rank_stops_all_do(data, occasion, sync_every):
    class Stop(Callback):
        pass

    def callbacks(rank):
        stop = Stop()
        setattr(stop, occasion, lambda progress: setattr(progress, "stop", rank == 1))
        return [stop]

    X, y = data
    arguments = {"batch_size": 2, "callbacks": callbacks, "sync_every": sync_every, "epochs": 50}
    nets = fit_shares(MLP((70, 10)), X, y, [0, 48, 96], **arguments)
    assert {(net._state.step, len(net.history.loss)) for net in nets} == {
        (nets[0]._state.step, len(nets[0].history.loss))
    }
    assert nets[0]._state.step < 30
    assert nets[0]._values.tobytes() == nets[1]._values.tobytes()


def other(change):
    """A function of the same name, of other code."""
    if change:
        return lambda *values: 0.2
    return lambda *values: 0.1


@pytest.mark.parametrize(
    ("name", "of_rank"),
    [
        ("learning_rate", lambda rank: (MLP((70, 10)), {"optimizer": SGD(other(rank))})),
        ("loss", lambda rank: (MLP((70, 10), loss=fastmlp.losses.Custom(other(rank))), {})),
    ],
)
def test_functions_are_told_by_their_code(data, name, of_rank):
    X, y = data

    def work(communicator):
        net, arguments = of_rank(communicator.rank)
        targets = np.eye(10)[y] if name == "loss" else y
        net.fit(X, targets, communicator=communicator, **{**QUIET, **arguments})

    for message in fails(World(2).run(work), ValueError, ValueError):
        assert re.match(rf"{name} must be the same on all ranks; it is other.<locals>.<lambda> of code \w+ on", message)


@pytest.mark.parametrize("when", ["on_fit_begin", "on_batches", "on_epoch_end"])
@pytest.mark.parametrize("error", [DivergenceError("mine"), RankError("mine")])
def test_what_one_callback_raises_ends_all(data, error, when, capsys):
    class Raise(Callback):
        def raise_it(self, progress):
            if self.rank == 1:
                raise error

    setattr(Raise, when, Raise.raise_it)

    def callbacks(rank):
        one = Raise()
        one.rank = rank
        return [one]

    fails(fit_shares(MLP((70, 10)), *data, [0, 48, 96], batch_size=8, callbacks=callbacks), Aborted, Aborted)
    assert f"fastmlp: rank 1 of 2 failed: {type(error).__name__}: mine; all ranks end" in capsys.readouterr().err


def test_what_is_warned_of_is_warned_of_by_rank_0(data):
    X, _ = data
    with pytest.warns(UserWarning, match="X is unscaled") as caught:
        fit_shares(MLP((70, 10)), X * np.float32(1e5), np.arange(96) % 10, [0, 48, 96], batch_size=8)
    assert len(caught) == 1
    with pytest.warns(UserWarning, match="y has no row of class 9, of the 10"):
        fit_shares(MLP((70, 10)), X, np.arange(96) % 9, [0, 48, 96], batch_size=8)
    fit_shares(MLP((70, 10)), X, np.sort(np.arange(96) % 10), [0, 48, 96], batch_size=8)  # whose classes come to 10


def test_a_share_may_have_no_weight(data, assert_close):
    X, y = data
    weights = np.r_[np.zeros(48), np.linspace(0.1, 1, 48)]
    arguments = {"batch_size": 8, "sample_weight": weights, "optimizer": SGD(0.1), "shuffle": False}
    expected = in_one(MLP((70, 17, 10)), X, y, [0, 48, 96], **arguments)
    for net in fit_shares(MLP((70, 17, 10)), X, y, [0, 48, 96], **arguments):
        assert_close(net.parameters, expected.parameters, "steps", 96 * 6)
    arguments["sample_weight"] = np.zeros(96)
    for message in fails(fit_shares(MLP((70, 10)), X, y, [0, 48, 96], **arguments), ValueError, ValueError):
        assert message.startswith("sample_weight or class_weight must have a weight above 0 on one of the ranks")


def test_an_empty_share_has_the_networks_width(data):
    X, y = data
    found = fit_shares(MLP((70, 10)), X[:, :60], y, [0, 0, 96], batch_size=8)
    message = fails(found, RankError, ValueError)[0] if isinstance(found[0], RankError) else str(found[0])
    assert "X must have shape (n, 70)" in message


class Inter(Rank):
    """Between two groups: a sum is the other group's."""

    is_inter = True


class Null(Rank):
    """As MPI.COMM_NULL."""

    @property
    def rank(self):
        raise RuntimeError("Invalid communicator")

    @rank.setter
    def rank(self, value):
        pass


@pytest.mark.parametrize("communicator", [Inter(0, World(2)), Null(0, World(2)), Rank, "world"])
def test_what_is_no_communicator(data, communicator):
    with pytest.raises(TypeError, match="communicator must be one of mpi4py's"):
        MLP((70, 10)).fit(*data, communicator=communicator)


def test_sync_every_is_checked_on_all_ranks(data):
    def work(communicator):
        MLP((70, 10)).fit(*data, communicator=communicator, sync_every=1 - communicator.rank, **QUIET)

    messages = fails(World(2).run(work), RankError, ValueError)
    assert messages == [f"rank 1 of 2 failed: ValueError: {messages[1]}", "sync_every must be at least 1, not 0"]
    with pytest.raises(ValueError, match="sync_every must be at least 1"):
        MLP((70, 10)).fit(*data, sync_every=0)


def test_ctrl_c_says_so(data, capsys):
    class Press(Callback):
        def on_epoch_end(self, progress):
            raise KeyboardInterrupt

    fails(fit_shares(MLP((70, 10)), *data, [0, 96], batch_size=8, callbacks=lambda _: [Press()]), KeyboardInterrupt)
    found = fit_shares(MLP((70, 10)), *data, [0, 48, 96], batch_size=8, callbacks=lambda _: [Press()])
    fails(found, Aborted, Aborted)
    assert re.search(r"fastmlp: rank [01] of 2 was interrupted; all ranks end", capsys.readouterr().err)


def test_no_communicator(data):
    with pytest.raises(TypeError, match="communicator must be one of mpi4py's"):
        MLP((70, 10)).fit(*data, communicator="world")
    with pytest.raises(ValueError, match="sync_every must be at least 1"):
        MLP((70, 10)).fit(*data, communicator=Rank(0, World(1)), sync_every=0)


# ---- The world


class Named:
    """In the place of mpi4py.MPI, where so many processes are."""

    def __init__(self, size):
        self.COMM_WORLD = Rank(0, World(size))


def test_without_mpi4py(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(ImportError, match=r"MPI needs mpi4py and an MPI: pip install 'fastmlp\[mpi\]' mpich"):
        ranks.world()


@pytest.mark.parametrize(
    ("size", "environment", "message"),
    [
        (1, {}, "MPI is for processes that mpiexec starts, as by mpiexec -n 4 fastmlp train --mpi"),
        (1, {"PMI_SIZE": "4"}, "mpiexec has started 4 processes, of which mpi4py knows one: they are of two MPIs"),
        (1, {"OMPI_COMM_WORLD_SIZE": "1"}, None),
        (4, {"PMI_SIZE": "4"}, None),
        (4, {}, None),
    ],
)
def test_who_has_started_the_processes(monkeypatch, size, environment, message):
    for name in ranks._STARTED:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    package = ModuleType("mpi4py")
    package.MPI = Named(size)
    monkeypatch.setitem(sys.modules, "mpi4py", package)
    if message is None:
        assert ranks.world().size == size
    else:
        with pytest.raises(ValueError, match=message):
            ranks.world()


def test_who_leaves_ends_the_others(monkeypatch):
    assert ranks.leave(2) == 2
    monkeypatch.setitem(sys.modules, "mpi4py.MPI", Named(1))
    assert ranks.leave(2) == 2
    monkeypatch.setitem(sys.modules, "mpi4py.MPI", Named(2))
    with pytest.raises(Aborted):
        ranks.leave(2)
