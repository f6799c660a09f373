"""How time and memory of a fit grow with the network's width and depth, the batch, and the rows."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator
from typing import Any

from bench.race import stored
from bench.worker import Worker, WorkerError
from bench.workloads import Training

__all__ = ["grow", "series"]

ROWS, WIDTH, BATCH, EPOCHS = 10_000, 256, 100, 2

VALUES = {
    "width": (32, 64, 128, 256, 512, 1024, 2048),
    "depth": (1, 2, 4, 8, 16),
    "batch": (10, 50, 100, 500, 1000, 5000),
    "rows": (1000, 3000, 10_000, 30_000, 55_000),
}
QUICK_VALUES = {"width": (32, 256), "depth": (1, 4), "batch": (50, 500), "rows": (500, 1000)}


def series(quick: bool) -> Iterator[tuple[str, int, Training]]:
    """Yield (quantity, its value, workload): one quantity varies, the others are those of "seed" on fewer rows."""
    for quantity, values in (QUICK_VALUES if quick else VALUES).items():
        for value in values:
            width = value if quantity == "width" else WIDTH
            depth = value if quantity == "depth" else 2
            batch = value if quantity == "batch" else BATCH
            rows = value if quantity == "rows" else 1000 if quick else ROWS
            sizes = (784, *[width] * depth, 10)
            yield quantity, value, Training(f"{quantity} {value}", sizes, "relu", "mnist", rows, batch, EPOCHS, 1.0)


def grow(threads: int, quick: bool, rounds: int) -> list[dict[str, Any]]:
    """Measure fastmlp on each point of the series: seconds an epoch, and memory beyond the arrays given to it."""
    points = []
    for quantity, value, workload in series(quick):
        print(f"growth: {workload.name}", file=sys.stderr)
        point: dict[str, Any] = {"quantity": quantity, "value": value, "flop": workload.flop}
        with stored(workload.problem()) as path, Worker("fastmlp", "fit", threads, path) as worker:
            try:
                worker.ask("prepare")
                point["memory"] = worker.ask("fit", 1, False)["memory"]
                turns = [worker.ask("fit", workload.epochs, True)["seconds"] for _ in range(rounds)]
                point["seconds"] = statistics.median(turns) / workload.epochs
            except WorkerError as error:
                point["error"] = str(error)
        points.append(point)
    return points
