"""How many threads there are, and what fork, other threads and Ctrl-C do to a network in training."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import fastmlp
from fastmlp import threads
from fastmlp.engine.table import OPENMP

needs_openmp = pytest.mark.skipif(not OPENMP, reason="built without OpenMP, for one thread")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
needs_affinity = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")

SIZES = (70, 64, 64, 5)


def data(n=600, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, SIZES[0]), dtype=np.float32), rng.integers(SIZES[-1], size=n)


def fitted(seed=0, *, n_threads=1, **arguments):
    network = fastmlp.MLP(SIZES, seed=seed, n_threads=n_threads)
    network.fit(*data(seed=seed), verbose=False, **{"epochs": 3, **arguments})
    return network


# ---- How many --------------------------------------------------------------------------------------------------------

AVAILABLE = "from fastmlp import threads; print(threads.available())"


@needs_openmp
@pytest.mark.parametrize(
    ("value", "count"),
    [("1", 1), ("3", 3), ("2,4", 2), (" 5 ", 5), ("007", 7), ("100000", 1024), ("9" * 5000, 1024)],
)
def test_omp_num_threads_is_honoured(value, count, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert threads.available() == count


@pytest.mark.parametrize("value", ["", "0", "-1", "many", "2.5", "\u00b2", "\u0660"])
def test_omp_num_threads_without_a_number_is_no_limit(value, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    without = threads.available()
    assert 1 <= without <= os.cpu_count()
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert threads.available() == without


OWN = "proc_self_cgroup"


@needs_affinity
def test_affinity_is_honoured(run_python):
    one = min(os.sched_getaffinity(0))
    program = f"import os; os.sched_setaffinity(0, [{one}]); {AVAILABLE}"
    finished = run_python(program, env={"OMP_NUM_THREADS": None})
    assert finished.stdout == "1\n", finished.stderr


@pytest.mark.parametrize(
    ("files", "count"),
    [
        ({"cpu.max": "200000 100000\n"}, 2),
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "max 100000\n"}, 64),
        ({"cpu.max": "200000\n"}, 64),
        ({"cpu.max": "some 100000\n"}, 64),
        ({"cpu.max": "200000 0\n"}, 64),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 64),
        ({"cpu/cpu.cfs_quota_us": "300000\n"}, 64),
        ({}, 64),
        # groups in groups: the tightest one counts, and that of another process does not
        ({OWN: "0::/a.slice/b c.service\n", "a.slice/b c.service/cpu.max": "300000 100000\n"}, 3),
        ({OWN: "0::/a.slice/b.service\n", "a.slice/cpu.max": "300000 100000\n"}, 3),
        ({OWN: "0::/a/b\n", "a/b/cpu.max": "200000 100000\n", "a/cpu.max": "900000 100000\n"}, 2),
        ({OWN: "0::/a/b\n", "a/b/cpu.max": "max 100000\n", "a/cpu.max": "900000 100000\n"}, 9),
        ({OWN: "0::/a\n", "b/cpu.max": "300000 100000\n"}, 64),
        (
            {
                OWN: "3:cpuset:/c\n2:cpu,cpuacct:/a/b\n1:name=systemd:/c\n0::/c\n",
                "cpu/a/cpu.cfs_quota_us": "300000\n",
                "cpu/a/cpu.cfs_period_us": "100000\n",
                "cpu/c/cpu.cfs_quota_us": "100000\n",
                "cpu/c/cpu.cfs_period_us": "100000\n",
            },
            3,
        ),
        # in a container: the name is the one outside, the files are the group's own
        ({OWN: "0::/docker/0123\n", "cpu.max": "300000 100000\n"}, 3),
        ({OWN: "odd\n\n:\n1:cpu://\n", "cpu.max": "300000 100000\n"}, 3),
    ],
)
@needs_openmp
def test_the_control_group_is_honoured(files, count, tmp_path, monkeypatch):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(
        "builtins.open",
        lambda path, original=open: original(
            path.replace("/sys/fs/cgroup", str(tmp_path)).replace("/proc/self/cgroup", str(tmp_path / OWN))
        ),
    )
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    threads._cgroup_limit.cache_clear()
    try:
        assert threads.available() == count
    finally:
        threads._cgroup_limit.cache_clear()


@needs_openmp
def test_work_decides_within_the_limit(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert [threads.choose(None, seconds) for seconds in (0, 1e-9, 1)] == [1, 1, 4]
    assert [threads.choose(n_threads, 1) for n_threads in (1, 2, 7)] == [1, 2, 7]
    assert threads.choose(10**6, 1) == threads.MAX_THREADS
    monkeypatch.setenv("OMP_NUM_THREADS", str(10**6))
    assert threads.choose(None, 1) == threads.available() == threads.MAX_THREADS
    steps = [(32, 3523, 3), (100, 10_754, 3), (100, 63_762, 5), (100, 269_322, 3), (10, 269_322, 3)]
    assert [threads.choose_for_steps(2, *step) for step in steps] == [1, 2, 2, 2, 2]
    assert threads.choose_for_steps(2, *steps[0], beside=1.0) == 2
    chosen = [threads.choose(8, seconds) for seconds in np.linspace(0, 1e-3, 500)]
    assert chosen == sorted(chosen)
    assert set(chosen) == set(range(1, 9))


# ---- Fork ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@needs_fork
@needs_openmp
def test_a_forked_child_trains_to_the_same_bits(run_python):
    """OpenMP's threads stay behind in the parent; a child that waited for them would wait for ever."""
    program = """
import os, warnings
import numpy as np, fastmlp
from fastmlp import threads

threads._WORTH_A_THREAD = 1e-15
rng = np.random.default_rng(0)
X, y = rng.standard_normal((600, 70), dtype=np.float32), rng.integers(5, size=600)

def work():
    network = fastmlp.MLP((70, 64, 64, 5), n_threads=2)
    network.fit(X, y, epochs=3, verbose=False)
    return network.parameters.tobytes() + network.logits(X).tobytes() + fastmlp.kernels.relu(X, n_threads=2).tobytes()

expected = work()
assert threads._Pool.started
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of forking where there are threads
    child = os.fork()
if not child:
    os._exit(0 if threads.available() == 1 and work() == expected else 3)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), work() == expected)
"""
    finished = run_python(program)
    assert finished.stdout == "0 True\n", finished


@pytest.mark.slow
@needs_fork
@needs_openmp
def test_a_child_forked_after_another_library_used_openmp_trains_on(run_python):
    """Its threads are lost, and this package cannot know of them: a forked process has one thread."""
    program = """
import ctypes, os, re, sys
import numpy as np, fastmlp
from fastmlp import threads
libraries = re.findall(r"\\S*libgomp\\S*", open("/proc/self/maps").read())
if not libraries:
    sys.exit("skip")
region = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: None)
ctypes.CDLL(libraries[0]).GOMP_parallel(region, None, 2, 0)
X, y = np.ones((2000, 784), np.float32), np.arange(2000) % 10
child = os.fork()
if not child:
    fastmlp.MLP((784, 256, 256, 10), n_threads=2).fit(X, y, epochs=1, verbose=False)
    os._exit(threads.available())
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    finished = run_python(program, timeout=60)
    if "skip" in finished.stderr:
        pytest.skip("OpenMP is not GCC's here")
    assert finished.stdout == "1\n", finished.stderr


@pytest.mark.slow
@needs_fork
@needs_openmp
def test_a_child_forked_in_a_callback_trains_on(run_python):
    program = """
import os
import numpy as np, fastmlp
class Fork(fastmlp.callbacks.Callback):
    child = None
    def on_epoch_end(self, progress):
        if self.child is None:
            self.child = os.fork()
X, y = np.ones((2000, 784), np.float32), np.arange(2000) % 10
fork = Fork()
net = fastmlp.MLP((784, 64, 10), n_threads=2)
net.fit(X, y, epochs=3, callbacks=[fork], verbose=False)
if not fork.child:
    os._exit(len(net.predict(X)) == 2000)
print(os.waitstatus_to_exitcode(os.waitpid(fork.child, 0)[1]))
"""
    finished = run_python(program, timeout=60)
    assert finished.stdout == "1\n", finished.stderr


@needs_openmp
def test_no_more_threads_are_asked_for_than_the_system_grants(monkeypatch):
    """OpenMP would end the process."""

    def start(self):
        if len(started) == 2:
            raise RuntimeError("can't start new thread")
        started.append(self)
        real_start(self)

    started, real_start = [], threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", start)
    monkeypatch.setattr(threads._Pool, "started", 1)
    assert threads.choose(8, 1.0) == 3
    assert not any(thread.is_alive() for thread in started)


# ---- Python's threads ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_threads", [1, 2])
def test_many_threads_predict_with_one_network(n_threads, monkeypatch):
    monkeypatch.setattr(threads, "_WORTH_A_THREAD", 1e-15)
    network = fitted(n_threads=n_threads, epochs=1)
    X, _ = data()
    pieces = [X, X[:100], X[:1], X[5:9]] * 20
    expected = [network.logits(piece).tobytes() for piece in pieces]
    with ThreadPoolExecutor(8) as pool:
        assert [logits.tobytes() for logits in pool.map(network.logits, pieces)] == expected


@pytest.mark.parametrize("n_threads", [1, 2])
def test_networks_fitted_side_by_side_are_those_fitted_alone(n_threads, monkeypatch):
    monkeypatch.setattr(threads, "_WORTH_A_THREAD", 1e-15)
    alone = [fitted(seed, n_threads=n_threads).parameters.tobytes() for seed in range(6)]
    assert len(set(alone)) == 6
    with ThreadPoolExecutor(6) as pool:
        together = pool.map(lambda seed: fitted(seed, n_threads=n_threads).parameters.tobytes(), range(6))
        assert list(together) == alone


class Clock(fastmlp.callbacks.Callback):
    """Notes when the batches were done."""

    def on_batches(self, progress):
        self.end = time.perf_counter()


def test_training_lets_other_threads_run():
    """Without the GIL: this thread counts on while the other one takes a long step."""
    rows, labels = np.zeros((20_000, 70), np.float32), np.arange(20_000) % 5
    network, clock = fastmlp.MLP((70, 256, 256, 5), n_threads=1), Clock()
    with ThreadPoolExecutor(1) as pool:
        fit = pool.submit(network.fit, rows, labels, epochs=1, batch_size=len(rows), callbacks=[clock], verbose=False)
        turns = []
        while not fit.done():
            turns.append(time.perf_counter())
            time.sleep(0.001)
        (seconds,) = fit.result().seconds
    assert sum(clock.end - seconds < turn < clock.end for turn in turns) > 3


# ---- Ctrl-C ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("n_threads", [1, 2])
def test_ctrl_c_stops_a_process_that_trains(n_threads, run_python):
    program = f"""
import os, signal, threading
import numpy as np, fastmlp
from fastmlp import threads

threads._WORTH_A_THREAD = 1e-15
rng = np.random.default_rng(0)
X, y = rng.standard_normal((600, 70), dtype=np.float32), rng.integers(5, size=600)
network = fastmlp.MLP((70, 64, 5), n_threads={n_threads})
before = network.parameters.copy()
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    network.fit(X, y, epochs=10**9, verbose=False)
except KeyboardInterrupt:
    assert np.isfinite(network.parameters).all() and (network.parameters != before).any()
    history = network.fit(X, y, epochs=1, verbose=False)
    assert np.isfinite(history.loss).all()
    print("stopped")
"""
    assert run_python(program).stdout == "stopped\n"
