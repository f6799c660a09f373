"""A peer in a process of its own, which runs what it is told, when it is told, so that peers can take turns.

`Worker` is the end that asks; ``python -m bench.worker PEER FORM THREADS PROBLEM`` is the one that answers. A request
is a line of JSON on its standard input, a list of a method's name and its arguments; the answer is a line on its
standard output: what the method returned, or ``{"error": ...}``.
"""

from __future__ import annotations

import json
import os
import select
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.peers import Peer

__all__ = ["ISAS", "Worker", "WorkerError", "confine", "surroundings", "use_isa"]

TIME_LIMIT = 900.0

# What keeps each library to an instruction set. XLA obeys in what it compiles itself; of its libraries for matrix
# products YNNPACK does not, and is left out: oneDNN takes its place, and is as fast. NumPy 2.4 renamed its features.
ISAS = {
    "avx2": {
        "FASTMLP_ISA": "avx2",
        "ATEN_CPU_CAPABILITY": "avx2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "OPENBLAS_CORETYPE": "Haswell",
        "XLA_FLAGS": "--xla_cpu_max_isa=AVX2 --xla_cpu_experimental_ynn_fusion_type=",
    }
}


class WorkerError(Exception):
    """The worker's own error, or that it died or took longer than `TIME_LIMIT`."""


def surroundings(threads: int) -> dict[str, Any]:
    """Return arguments for `subprocess`: libraries use so many threads, and the processor rather than a device.

    Modules are found where this process finds them, and not in the folder in which it runs.
    """
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
    device = {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    path = {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
    environment = {**os.environ, **path, **quiet, **device, **dict.fromkeys(names, str(threads))}
    return {"cwd": os.sep, "env": environment, "text": True}


def use_isa(isa: str) -> None:
    """Keep all processes that start from here to an instruction set of `ISAS`; this one only in what it imports yet."""
    os.environ.update(ISAS[isa])


def confine(threads: int) -> None:
    """Confine this process to so many processors, where the system can; libraries that count them then obey."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


class Worker:
    """A peer at work; a context manager, which ends the process.

    Parameters
    ----------
    peer, form : str
        As in `bench.peers.PEERS`.
    threads : int
    problem : Path
        What `bench.workloads.Problem.save` wrote.
    """

    def __init__(self, peer: str, form: str, threads: int, problem: Path) -> None:
        self._errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 - open as long as the worker
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.worker", peer, form, str(threads), str(problem)],
            **surroundings(threads),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def ask(self, request: str, *arguments: Any) -> dict[str, Any]:
        """Have a method of `Session` called in the worker, and return its answer.

        Raises
        ------
        WorkerError
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps([request, *arguments]) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise WorkerError(self._epitaph()) from None
        if not select.select([self._process.stdout], [], [], TIME_LIMIT)[0]:
            self._process.kill()
            raise WorkerError(f"no answer within {TIME_LIMIT:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            raise WorkerError(self._epitaph())
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer

    def _epitaph(self) -> str:
        status = self._process.wait()
        self._errors.seek(0)
        said = self._errors.read().strip().rsplit("\n", 1)[-1]
        return f"ended with status {status}" + (f": {said}" if said else "")


class Session:
    """What a worker can be asked."""

    def __init__(self, peer: str, form: str, threads: int, problem: Path) -> None:
        self._make = peer, form, threads, problem
        self._peer: Peer

    def prepare(self) -> dict[str, Any]:
        """Import the library, and make the network and the data as the library wants them."""
        peer, form, threads, path = self._make
        started = time.perf_counter()
        confine(threads)
        import importlib  # noqa: PLC0415 - after `confine`, as with all that may start threads

        from bench.workloads import Problem  # noqa: PLC0415

        self._problem = Problem.load(path)
        self._peer = importlib.import_module(f"bench.peers.{peer}").Peer(self._problem, form, threads)
        return {"seconds": time.perf_counter() - started}

    def fit(self, epochs: int, shuffle: bool) -> dict[str, Any]:
        """Train from the first weights: seconds, costs, and memory beyond what the process had before, in bytes."""
        self._peer.reset()
        before = _memory_mark()
        started = time.perf_counter()
        costs = self._peer.fit(epochs, shuffle)
        seconds = time.perf_counter() - started
        peak = _peak_memory()
        memory = None if before is None or peak is None else max(0, peak - before)
        return {"seconds": seconds, "costs": costs, "epoch_seconds": self._peer.epoch_seconds, "memory": memory}

    def labels(self) -> dict[str, Any]:
        """Predict the problem's rows once: seconds, and the labels, a character each."""
        started = time.perf_counter()
        labels = self._peer.predict(self._problem.X)
        return {"seconds": time.perf_counter() - started, "labels": "".join(map(str, labels))}

    def predict(self, seconds: float) -> dict[str, Any]:
        """Predict the problem's rows again and again, for so long: median seconds of a call."""
        calls: list[tuple[float, float]] = []
        until = time.perf_counter() + seconds
        while len(calls) < 3 or calls[-1][1] < until:
            started = time.perf_counter()
            self._peer.predict(self._problem.X)
            calls.append((started, time.perf_counter()))
        return {"seconds": statistics.median(end - start for start, end in calls)}


def _memory_mark() -> int | None:
    """Set the peak of this process's memory back to what it has now, and return that (Linux only)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    return _status("VmRSS")


def _peak_memory() -> int | None:
    return _status("VmHWM")


def _status(key: str) -> int | None:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return 1024 * int(line.split()[1])
    return None


def main(peer: str, form: str, threads: str, problem: str) -> None:
    """Answer requests until there are no more."""
    # Libraries may print: what they print must not come between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    session = Session(peer, form, int(threads), Path(problem))
    for line in sys.stdin:
        request, *arguments = json.loads(line)
        try:
            answer = getattr(session, request)(*arguments)
        except Exception as error:
            answer = {"error": " ".join(f"{type(error).__name__}: {error}".split())}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
