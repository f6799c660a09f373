"""How soon one can begin, and how much one has to carry: imports, time to a good network, size of the wheel.

``python -m bench.startup PEER THREADS ROWS GOAL`` trains until the goal in its own process.
"""

from __future__ import annotations

import importlib
import json
import math
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench.peers import PEERS
from bench.worker import confine, surroundings
from bench.workloads import TRAINING

__all__ = ["imports", "to_accuracy", "wheel"]

ROOT = Path(__file__).parents[1]
MOST_EPOCHS = 40


def imports(peers: Sequence[str], rounds: int) -> dict[str, float]:
    """Return the seconds by which importing each peer takes longer than importing NumPy; "numpy": over nothing.

    A peer that cannot be imported is left out.
    """
    statements = {"nothing": "pass"}
    statements |= {peer: f"import numpy, {', '.join(PEERS[peer].requires)}" for peer in ["numpy", *peers]}
    seconds: dict[str, list[float]] = {name: [] for name in statements}
    for _ in range(rounds):
        for name, statement in statements.items():
            started = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-c", statement], **surroundings(1), check=False, capture_output=True
            )
            if done.returncode == 0:
                seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(values) for name, values in seconds.items() if values}
    nothing, numpy = medians.pop("nothing"), medians.pop("numpy")
    return {"numpy": numpy - nothing} | {name: value - numpy for name, value in medians.items()}


def to_accuracy(peers: Sequence[str], threads: int, accuracy: float, rows: int, rounds: int) -> list[dict[str, Any]]:
    """Time a new process that imports, loads MNIST and trains "seed" until it has this accuracy on the test set.

    The peers take turns; of the rounds of each counts the one with the median time.

    Returns
    -------
    list of dict
        Of each "peer" the "seconds" from the start of the process, of them "import", "data" and "training", with a
        check after each epoch; "epochs" and "accuracy"; or "error".
    """
    runs: dict[str, list[dict[str, Any]]] = {peer: [] for peer in peers}
    for _ in range(rounds):
        for peer in peers:
            print(f"start: {peer}", file=sys.stderr)
            runs[peer].append(_time_to(peer, threads, rows, accuracy))
    return [sorted(run, key=lambda one: one.get("seconds", math.inf))[rounds // 2] for run in runs.values()]


def wheel() -> dict[str, Any]:
    """Build the wheel from a copy of the sources: bytes of the file, unpacked, and of the MNIST files in it."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        source, target = Path(folder, "source"), Path(folder, "wheel")
        ignored = shutil.ignore_patterns(".*", "build", "dist", "tests", "bench", "*.so", "__pycache__", "*.egg-info")
        shutil.copytree(ROOT, source, ignore=ignored)
        command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", str(target)]
        done = subprocess.run([*command, str(source)], check=False, text=True, capture_output=True)
        if done.returncode:
            return {"error": done.stderr.strip().rsplit("\n", 1)[-1]}
        (path,) = target.glob("*.whl")
        with zipfile.ZipFile(path) as archive:
            sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
        digits = sum(size for name, size in sizes.items() if "/mnist/" in name)
        return {"file": path.stat().st_size, "unpacked": sum(sizes.values()), "mnist": digits}


def _time_to(peer: str, threads: int, rows: int, accuracy: float) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.startup", peer, str(threads), str(rows), str(accuracy)]
    started = time.perf_counter()
    done = subprocess.run(command, **surroundings(threads), check=False, capture_output=True)
    seconds = time.perf_counter() - started
    if done.returncode:
        return {"peer": peer, "error": done.stderr.strip().rsplit("\n", 1)[-1]}
    return {"peer": peer, "seconds": seconds, **json.loads(done.stdout.rsplit("\n", 2)[-2])}


def main(peer: str, threads: str, rows: str, accuracy: str) -> None:
    """Train until the goal, and print how long each part took as JSON."""
    marks = [time.perf_counter()]
    confine(int(threads))
    module = importlib.import_module(f"bench.peers.{peer}")
    marks.append(time.perf_counter())
    import numpy as np  # noqa: PLC0415 - the peer has imported it

    from fastmlp import load_mnist  # noqa: PLC0415

    problem = replace(TRAINING["seed"], rows=int(rows)).problem()
    X, y = load_mnist("test")
    marks.append(time.perf_counter())
    network = module.Peer(problem, PEERS[peer].forms[0], int(threads))
    reached, epochs = 0.0, 0
    while reached < float(accuracy) and epochs < MOST_EPOCHS:
        network.fit(1, True)
        epochs += 1
        reached = float(np.mean(network.predict(X) == y))
    marks.append(time.perf_counter())
    parts = [after - before for before, after in pairwise(marks)]
    answer = dict(zip(("import", "data", "training"), parts, strict=True))
    print(json.dumps({**answer, "epochs": epochs, "accuracy": reached}))


if __name__ == "__main__":
    main(*sys.argv[1:])
