"""Races: every form of every peer in its own process, all warmed up first, then taking turns."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from bench.peers import PEERS
from bench.worker import Worker, WorkerError
from bench.workloads import Prediction, Problem, Training

__all__ = ["Contender", "contenders", "predict", "stored", "train"]

# Threads that wait for work by spinning do so for some 0.2 s; the next one's turn is after that.
PAUSE = 0.3


class Contender(NamedTuple):
    """A peer in one of its forms, with a number of threads."""

    peer: str
    form: str
    threads: int

    def __str__(self) -> str:
        return f"{self.peer} {self.form}, {self.threads} thread{'s' * (self.threads > 1)}"


def contenders(peers: Sequence[str], threads: Sequence[int], sparse: bool = False) -> list[Contender]:
    """Return all forms of the peers, or all for sparse rows, with each number of threads."""
    forms = {peer: PEERS[peer].sparse if sparse else PEERS[peer].forms for peer in peers}
    return [Contender(peer, form, count) for peer in peers for form in forms[peer] for count in threads]


def train(workload: Training, field: Sequence[Contender], rounds: int) -> dict[str, Any]:
    """Race in training: each turn is a call of `workload.epochs` epochs, always from the same weights.

    The first call, which is not counted, is one epoch in the order of the rows: its cost must be the same for all.
    """
    with stored(workload.problem()) as path:
        runs = _race(
            workload.name,
            path,
            field,
            warm_up=lambda worker: worker.ask("fit", 1, False),
            turn=lambda worker: worker.ask("fit", workload.epochs, True),
            rounds=rounds,
        )
    return {
        "workload": workload.name,
        "layer_sizes": workload.layer_sizes,
        "rows": workload.rows,
        "batch_size": workload.batch_size,
        "epochs": workload.epochs,
        "flop": workload.flop,
        "target": workload.target,
        "runs": runs,
    }


def predict(workload: Prediction, field: Sequence[Contender], rounds: int, seconds: float) -> dict[str, Any]:
    """Race in prediction: each turn predicts the same rows for so many seconds, over and over."""
    with stored(workload.problem()) as path:
        runs = _race(
            workload.name,
            path,
            field,
            warm_up=lambda worker: worker.ask("labels"),
            turn=lambda worker: worker.ask("predict", seconds),
            rounds=rounds,
        )
    return {
        "workload": workload.name,
        "rows": workload.rows,
        "target": workload.target,
        "target_seconds": workload.target_seconds,
        "runs": runs,
    }


@contextmanager
def stored(problem: Problem) -> Iterator[Path]:
    """Write a problem to a temporary file, for the workers."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        path = Path(folder, "problem.npz")
        problem.save(path)
        yield path


def _race(
    name: str,
    path: Path,
    field: Sequence[Contender],
    *,
    warm_up: Callable[[Worker], dict[str, Any]],
    turn: Callable[[Worker], dict[str, Any]],
    rounds: int,
) -> list[dict[str, Any]]:
    """Return a record of each contender; one that fails keeps its error and takes no more turns."""
    with ExitStack() as stack:
        workers, records = [], []
        for contender in field:
            print(f"{name}: warming up {contender}", file=sys.stderr)
            worker = stack.enter_context(Worker(*contender, path))
            record: dict[str, Any] = {**contender._asdict(), "turns": []}
            try:
                record["prepare"] = worker.ask("prepare")["seconds"]
                record["warm_up"] = warm_up(worker)
            except WorkerError as error:
                record["error"] = str(error)
            workers.append(worker)
            records.append(record)
        for i in range(rounds):
            print(f"{name}: round {i + 1} of {rounds}", file=sys.stderr)
            for worker, record in zip(workers, records, strict=True):
                if "error" in record:
                    continue
                time.sleep(PAUSE)
                try:
                    record["turns"].append(turn(worker))
                except WorkerError as error:
                    record["error"] = str(error)
    return records
