"""Where a step's time goes: ``python -m bench.profile WORKLOAD`` prints a row for each phase of fastmlp's step.

The engine reads the clock when a thread begins a phase, when it finds no more tasks in it, and when the others are
through as well. That costs some 0.1 us a phase and thread; the last line says how long a step took by the whole.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from bench import machine
from bench.markdown import table
from bench.worker import confine
from bench.workloads import LEARNING_RATE, TRAINING, Training, flop_of_training

__all__ = ["Phase", "Profile", "profile", "report"]

# Kinds of tasks (fastmlp.engine.program.KINDS) that are a layer's, and those of them that are products.
PRODUCTS = ("forward", "output", "backward", "update", "gradient", "add gradient")
OF_A_LAYER = (*PRODUCTS, "columns")

Tasks = Counter[tuple[str, int]]


class Phase(NamedTuple):
    """What a phase takes of a step.

    Attributes
    ----------
    name : str
        Its tasks' kinds, each with the layers they belong to.
    tasks : int
    busy, waiting : float
        Seconds a step, means over the threads.
    flop : float
        Of a step, as in dense arithmetic; 0 where it multiplies no matrices.
    """

    name: str
    tasks: int
    busy: float
    waiting: float
    flop: float


class Profile(NamedTuple):
    """The phases of a step, the seconds that the step takes by the caller's clock, and how many threads there were."""

    phases: list[Phase]
    step: float
    threads: int


def profile(workload: Training, threads: int, epochs: int) -> Profile:
    """Train one epoch to warm up, and then some epochs with the clock on; all have so many threads, or one a chain.

    Raises
    ------
    ValueError
        The last batch of the workload is smaller than the others.
    """
    from fastmlp import Adam  # noqa: PLC0415 - after `confine`: it counts the processors
    from fastmlp.engine.rows import Rows  # noqa: PLC0415
    from fastmlp.engine.trainer import Trainer  # noqa: PLC0415
    from fastmlp.layers import engine_layers, layers_of, n_parameters, views  # noqa: PLC0415
    from fastmlp.losses import CrossEntropy  # noqa: PLC0415
    from fastmlp.rows import checked_rows  # noqa: PLC0415

    if workload.rows % workload.batch_size:
        raise ValueError(f"the rows of {workload.name!r} make no whole batches")
    problem = workload.problem()
    layers = layers_of(problem.layer_sizes, problem.activation)
    parameters = np.zeros(n_parameters(layers), np.float32)
    for weights, first in zip(views(layers, parameters, "weights"), problem.weights, strict=True):
        weights[...] = first
    trainer = Trainer(engine_layers(layers), CrossEntropy(), workload.batch_size, threads)
    trainer.load(parameters, [np.zeros_like(parameters)] * 2, 0)
    trainer.set_optimizer(Adam(LEARNING_RATE))
    trainer.time_phases()
    rows = Rows(checked_rows("X", problem.X, problem.layer_sizes[0]), problem.layer_sizes[1], threads, problem.y)
    generator = np.random.default_rng(2)
    seconds = 0.0
    for epoch in range(1 + epochs):
        if epoch == 1:  # the warm-up is over
            trainer.phase_times()
            seconds = 0.0
        order = generator.permutation(workload.rows)
        started = time.perf_counter()
        trainer.start_epoch(rows, order)
        while trainer.batch < trainer.n_batches:
            trainer.run()
        seconds += time.perf_counter() - started
    steps = epochs * trainer.n_batches
    times = trainer.phase_times()
    flop = flop_of(times, workload)
    phases = [
        Phase(name_of(tasks), tasks.total(), statistics.mean(busy) / steps, statistics.mean(waiting) / steps, each)
        for (tasks, busy, waiting), each in zip(times, flop, strict=True)
    ]
    return Profile(phases, seconds / steps, len(times[0][1]))


def flop_of(times: Sequence[tuple[Tasks, Any, Any]], workload: Training) -> list[float]:
    """Return the operations of each phase: its share of the tasks of a kind and layer is its share of their product."""
    every: Tasks = sum((tasks for tasks, _, _ in times), Counter())
    return [sum(_product(*key, workload) * n / every[key] for key, n in tasks.items()) for tasks, _, _ in times]


def _product(kind: str, layer: int, workload: Training) -> int:
    """Operations of all tasks of a kind in a layer, in a step."""
    if kind == "chain":
        return flop_of_training(workload.layer_sizes, workload.batch_size)
    if kind in PRODUCTS:
        k, m = list(pairwise(workload.layer_sizes))[layer]
        return 2 * workload.batch_size * k * m
    return 0


def name_of(tasks: Tasks) -> str:
    """Return the kinds of a phase's tasks, each followed by its layers, counted from 1, where it belongs to some."""
    layers: dict[str, list[str]] = {}
    for kind, layer in tasks:
        layers.setdefault(kind, []).append(str(layer + 1))
    return ", ".join(" ".join([kind, *found]) if kind in OF_A_LAYER else kind for kind, found in layers.items())


def report(found: Profile, peak: float) -> str:
    """Return the table of a profile, with shares of a peak in GFLOP/s."""
    rows = []
    for phase in found.phases:
        taken = phase.busy + phase.waiting
        row = [phase.name, f"{phase.tasks:,}", _us(phase.busy), _us(phase.waiting), f"{taken / found.step:.1%}"]
        speed = 1e-9 * phase.flop / phase.busy
        rows.append(row + ([f"{speed:.0f}", f"{speed / peak:.0%}"] if phase.flop else ["", ""]))
    busy, waiting = (sum(getattr(phase, part) for phase in found.phases) for part in ("busy", "waiting"))
    speed = 1e-9 * sum(phase.flop for phase in found.phases) / found.step
    between = found.step - busy - waiting
    rows.append(["between slices", "", _us(between), "", f"{between / found.step:.1%}", "", ""])
    tasks = sum(phase.tasks for phase in found.phases)
    shares = [f"{1:.1%}", f"{speed:.0f}", f"{speed / peak:.0%}"]
    rows.append([f"a step: {_us(found.step)}", f"{tasks:,}", _us(busy + between), _us(waiting), *shares])
    return table(["phase", "tasks", "busy, us", "waiting, us", "of the step", "GFLOP/s", "of peak"], rows)


def _us(seconds: float) -> str:
    return f"{1e6 * seconds:,.1f}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table of a workload."""
    cpus = machine.processors()
    parser = argparse.ArgumentParser("python -m bench.profile", description="Print where a step's time goes.")
    parser.add_argument("workload", choices=TRAINING)
    parser.add_argument("--threads", type=int, default=cpus, choices=range(1, cpus + 1), help="default: %(default)s")
    parser.add_argument("--epochs", type=int, default=3, help="after one to warm up; default: %(default)s")
    options = parser.parse_args(arguments)
    if options.epochs < 1:
        parser.error("--epochs must be at least 1")
    workload = TRAINING[options.workload]
    confine(options.threads)
    found = profile(workload, options.threads, options.epochs)
    peak = machine.peak(found.threads)
    sizes = "-".join(map(str, workload.layer_sizes))
    print(
        f"{workload.name}: {sizes}, batch {workload.batch_size:,}, threads: {found.threads}, epochs: {options.epochs}\n"
    )
    print(report(found, peak["gflops"]))
    print(
        f"\nTimes are means over the threads. GFLOP/s: the dense arithmetic, whatever is left out, in the busy time.\n"
        f"Peak: {peak['gflops']:.0f} GFLOP/s, measured right after this as the fastest matrix product of NumPy's and "
        f"fastmlp's at\nsome sizes ({peak['by']}): a lower bound of what the multiply-adds could do."
    )


if __name__ == "__main__":
    main(sys.argv[1:])
