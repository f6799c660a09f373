"""How fast fastmlp trains networks of many shapes: grids of two quantities, with each activation and number of threads.

``python -m bench.grid ACTIVATION THREADS QUICK`` measures those of one activation in its own process, and prints JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from bench.markdown import table
from bench.worker import confine, surroundings
from bench.workloads import Training, flop_of_training

__all__ = ["draw", "measure", "shapes", "slow", "tables"]

# Of a cell, where it does not vary; and about how many seconds each is timed, after an epoch to warm up.
SHAPE = {"width": 256, "depth": 2, "batch": 100, "inputs": 784, "density": 1.0}
CLASSES, SECONDS = 10, 0.15
# Of each quantity the values in an order in which the GFLOP/s should not fall.
WIDTHS, INPUTS, DENSITIES = (16, 32, 64, 128, 256, 512, 1024, 2048), (8, 32, 100, 300, 784), (1.0, 0.7, 0.4, 0.2, 0.05)
GRIDS: tuple[dict[str, Sequence[float]], ...] = (
    {"batch": (8, 32, 100, 500, 2000, 5000), "width": WIDTHS},
    {"depth": (1, 2, 4, 8, 16), "width": WIDTHS},
    {"inputs": INPUTS, "density": DENSITIES},
)
QUICK_GRIDS: tuple[dict[str, Sequence[float]], ...] = ({"batch": (8, 100), "width": (16, 64)},)
FALL = 0.75

# Layers, activation, batch of the shapes that others train as well.
SHAPES = (
    ((300, 1000, 5), "relu", 200),
    ((200, *[100] * 8, 4), "relu", 100),
    ((784, 128, 10), "relu", 32),
    ((784, 512, 512, 10), "relu", 128),
    ((784, 2048, 10), "relu", 500),
    ((100, 64, 64, 2), "tanh", 100),
    ((100, 256, 256, 256, 2), "tanh", 256),
    ((30, 16, 2), "relu", 8),
    ((30, 100, 2), "relu", 1000),
    ((8, 64, 64, 2), "relu", 5000),
    ((500, *[512] * 4, 20), "relu", 250),
    ((64, *[32] * 16, 4), "tanh", 64),
)

Cell = dict[str, Any]


class Group(NamedTuple):
    """The cells of one picture."""

    activation: str
    threads: int
    rows: str
    columns: str


def shapes(quick: bool) -> Iterator[Training]:
    """Yield workloads of some shapes, of random dense rows."""
    for sizes, activation, batch in SHAPES[: 1 if quick else None]:
        middle = f"{sizes[1]}x{len(sizes) - 2}" if len(sizes) > 4 else "-".join(map(str, sizes[1:-1]))
        name = f"{sizes[0]}-{middle}-{sizes[-1]} {activation}, batch {batch}"
        workload = Training(name, sizes, activation, "random", 40 * batch, batch, 5, 1.0)
        yield workload.quick() if quick else workload


def measure(threads: Sequence[int], quick: bool) -> list[Cell]:
    """Measure all grids: of each cell its place, and the GFLOP/s of the dense arithmetic."""
    cells: list[Cell] = []
    for activation, count in product(("relu", "tanh"), threads):
        print(f"grid: {activation}, threads: {count}", file=sys.stderr)
        command = [sys.executable, "-m", "bench.grid", activation, str(count), str(int(quick))]
        done = subprocess.run(command, **surroundings(count), check=True, stdout=subprocess.PIPE)
        cells += json.loads(done.stdout)
    return cells


def slow(cells: Sequence[Cell]) -> list[bool]:
    """Return of each cell of a grid whether it is over 25 % slower than the one before it, in its row or its column.

    It should not be: before it is one with less work a step, to which the same costs add more, or with fewer zeros.
    """
    speeds = {(cell["row"], cell["column"]): float(cell["gflops"]) for cell in cells}
    rows, columns = (list(dict.fromkeys(cell[axis] for cell in cells)) for axis in ("row", "column"))

    def is_slow(row: float, column: float) -> bool:
        i, j = rows.index(row), columns.index(column)
        before = [(rows[i - 1], column)] * (i > 0) + [(row, columns[j - 1])] * (j > 0)
        return any(speeds[row, column] < FALL * speeds[place] for place in before)

    return [is_slow(cell["row"], cell["column"]) for cell in cells]


def tables(cells: Sequence[Cell]) -> str:
    """Return a table for each grid, with (!) after the cells that are slow."""
    texts = [
        "GFLOP/s of the dense arithmetic; elsewhere "
        + ", ".join(f"{name} {value:g}" for name, value in SHAPE.items())
        + ". (!): over 25 % less than in the cell above or to the left."
    ]
    for group, chosen in _groups(cells).items():
        marked = [f"{cell['gflops']:.3g}" + " (!)" * bad for cell, bad in zip(chosen, slow(chosen), strict=True)]
        columns = list(dict.fromkeys(cell["column"] for cell in chosen))
        starts = range(0, len(chosen), len(columns))
        rows = [[f"{chosen[i]['row']:g}", *marked[i : i + len(columns)]] for i in starts]
        heads = [f"{group.rows} \\ {group.columns}", *(f"{column:g}" for column in columns)]
        texts.append(f"{group.activation}, threads: {group.threads}\n\n" + table(heads, rows))
    return "\n\n".join(texts)


def draw(figure: Any, cells: Sequence[Cell]) -> None:
    """Draw each grid as a field of colours, with a cross in the cells that are slow."""
    groups = _groups(cells)
    kinds = list(dict.fromkeys((group.rows, group.columns) for group in groups))
    most = max(cell["gflops"] for cell in cells)
    axes = figure.subplots(len(kinds), len(groups) // len(kinds), squeeze=False).T.ravel()
    for one, (group, chosen) in zip(axes, groups.items(), strict=True):
        rows, columns = (list(dict.fromkeys(cell[axis] for cell in chosen)) for axis in ("row", "column"))
        speeds, crossed = (
            np.reshape(values, (len(rows), len(columns)))
            for values in ([cell["gflops"] for cell in chosen], slow(chosen))
        )
        image = one.imshow(speeds, vmin=0, vmax=most, aspect="auto", cmap="viridis")
        for (i, j), speed in np.ndenumerate(speeds):
            cross = " x" if crossed[i, j] else ""
            one.text(j, i, f"{speed:.3g}{cross}", ha="center", va="center", color="r" if cross else "w", fontsize=8)
        one.set_xticks(range(len(columns)), [f"{column:g}" for column in columns])
        one.set_yticks(range(len(rows)), [f"{row:g}" for row in rows])
        one.set(xlabel=group.columns, ylabel=group.rows, title=f"{group.activation}, threads: {group.threads}")
    figure.colorbar(image, ax=list(axes), label="GFLOP/s, dense; x: over 25 % less than above or to the left")


def _groups(cells: Sequence[Cell]) -> dict[Group, list[Cell]]:
    groups: dict[Group, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(Group(*(cell[name] for name in Group._fields)), []).append(cell)
    return groups


def _time(activation: str, threads: int, shape: dict[str, Any]) -> float:
    """Return the GFLOP/s of the fastest epoch of a network of that shape."""
    import fastmlp  # noqa: PLC0415 - after `confine`: it counts the processors

    batch, k = int(shape["batch"]), int(shape["inputs"])
    sizes = (k, *[int(shape["width"])] * int(shape["depth"]), CLASSES)
    # Epochs of some 50 ms, as a call of `fit` would otherwise be timed for its preparations.
    n = batch * int(np.clip(3e9 / flop_of_training(sizes, batch), 2, max(2, 40_000 // batch)))
    generator = np.random.default_rng(0)
    X = generator.standard_normal((n, k), dtype=np.float32)
    X *= generator.random((n, k), dtype=np.float32) < shape["density"]
    network = fastmlp.MLP(sizes, activation=activation, n_threads=threads)
    y, seconds = generator.integers(CLASSES, size=n), [SECONDS]
    for _ in range(2):
        epochs = int(np.clip(SECONDS / min(seconds), 1, 50))
        seconds = network.fit(X, y, epochs=epochs, batch_size=batch, optimizer=fastmlp.Adam(), verbose=False).seconds
    return 1e-9 * flop_of_training(sizes, n) / min(seconds)


def main(activation: str, threads: str, quick: str) -> None:
    """Measure the grids of an activation, and print their cells."""
    confine(int(threads))
    cells = []
    for grid in QUICK_GRIDS if int(quick) else GRIDS:
        rows, columns = grid
        for row, column in product(grid[rows], grid[columns]):
            place = Group(activation, int(threads), rows, columns)._asdict()
            speed = _time(activation, int(threads), {**SHAPE, rows: row, columns: column})
            cells.append({**place, "row": row, "column": column, "gflops": speed})
    print(json.dumps(cells))


if __name__ == "__main__":
    main(*sys.argv[1:])
