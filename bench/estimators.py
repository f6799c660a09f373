"""fastmlp.sklearn beside scikit-learn's own estimators, as a user calls them.

``python -m bench.estimators THREADS QUICK`` measures in its own process, where the two take turns, and prints JSON.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from bench.markdown import duration, table
from bench.race import PAUSE
from bench.worker import confine, surroundings
from bench.workloads import LEARNING_RATE, TRAINING

__all__ = ["measure", "table_of"]

SMALL = ("iris", "wine", "breast_cancer", "digits")
WORKLOADS = ("seed", "wide", "big", "higgs", "tiny", "micro")
EPOCHS = 20
# Seconds of a turn, of as many calls as fit; and turns.
TURN, ROUNDS = 0.1, 5
SPEEDS = {"fit": 5.0, "small": 8.0, "row": 10.0, "search": 8.0}

Record = dict[str, Any]


class Task(NamedTuple):
    """Something that both do.

    Attributes
    ----------
    name : str
    target : float or None
        How many times as fast as scikit-learn fastmlp is to be.
    make : callable
        module -> a function that is timed.
    """

    name: str
    target: float | None
    make: Callable[[Any], Callable[[], object]]


def measure(threads: Sequence[int], quick: bool) -> list[Record]:
    """Return the seconds of both in each task, by the number of threads."""
    records: list[Record] = []
    for count in threads:
        print(f"estimators: {count} threads", file=sys.stderr)
        command = [sys.executable, "-m", "bench.estimators", str(count), str(int(quick))]
        done = subprocess.run(command, **surroundings(count), check=True, stdout=subprocess.PIPE)
        records += json.loads(done.stdout)
    return records


def table_of(records: Sequence[Record]) -> str:
    """Return the medians side by side."""
    rows = []
    for record in records:
        mine, theirs = (statistics.median(record["seconds"][name]) for name in ("fastmlp", "sklearn"))
        target = record["target"]
        verdict = "" if target is None else f"{target:g}, {'met' if theirs / mine >= target else 'missed'}"
        rows.append([record["task"], str(record["threads"]), duration(mine), duration(theirs), f"{theirs / mine:.1f}"])
        rows[-1].append(verdict)
    return table(["", "threads", "fastmlp", "scikit-learn", "times as fast", "target"], rows)


def _tasks(quick: bool) -> Iterator[Task]:
    from sklearn import datasets  # noqa: PLC0415 - after `confine`, as all that counts the processors

    data = {name: getattr(datasets, f"load_{name}")(return_X_y=True) for name in SMALL}
    parameters = {"max_iter": 2 if quick else EPOCHS, "random_state": 0}
    for name, (X, y) in data.items():
        yield Task(f"fit {name}", SPEEDS["small"], _fit((100,), X, y, parameters))
    X, y = data["digits"]
    early = {**parameters, "early_stopping": True, "n_iter_no_change": EPOCHS}
    yield Task("fit digits, early stopping", SPEEDS["small"], _fit((100,), X, y, early))
    yield Task("partial_fit digits, all epochs", None, _partial_fits((100,), X, y, parameters))
    yield Task("predict a row", SPEEDS["row"], _row((100,), X, y, parameters))
    yield Task("GridSearchCV digits, 24 x 5", SPEEDS["search"], _search(X, y, parameters, quick))
    for name in ("tiny", "micro") if quick else WORKLOADS:
        workload = TRAINING[name].quick() if quick else TRAINING[name]
        problem = workload.problem()
        own = {"max_iter": 1, "random_state": 0, "batch_size": problem.batch_size, "activation": problem.activation}
        own["learning_rate_init"] = LEARNING_RATE
        task = problem.layer_sizes[1:-1], problem.X, problem.y, own
        yield Task(f"fit {name}, an epoch", SPEEDS["fit"], _fit(*task))


def _fit(hidden: Any, X: Any, y: Any, parameters: Any) -> Callable[[Any], Callable[[], object]]:
    return lambda module: lambda: module.MLPClassifier(hidden, **parameters).fit(X, y)


def _partial_fits(hidden: Any, X: Any, y: Any, parameters: Any) -> Callable[[Any], Callable[[], object]]:
    def run(module: Any) -> None:
        model, classes = module.MLPClassifier(hidden, **parameters), np.unique(y)
        for _ in range(parameters["max_iter"]):
            model.partial_fit(X, y, classes=classes)

    return lambda module: lambda: run(module)


def _row(hidden: Any, X: Any, y: Any, parameters: Any) -> Callable[[Any], Callable[[], object]]:
    def make(module: Any) -> Callable[[], object]:
        model, row = module.MLPClassifier(hidden, **parameters).fit(X, y), X[:1]
        return lambda: model.predict(row)

    return make


def _search(X: Any, y: Any, parameters: Any, quick: bool) -> Callable[[Any], Callable[[], object]]:
    from sklearn.model_selection import GridSearchCV  # noqa: PLC0415

    grid = {"hidden_layer_sizes": [(50,), (100,)], "alpha": [1e-5, 1e-3, 0.1], "learning_rate_init": [1e-3, 3e-3]}
    grid |= {"activation": ["relu"]} if quick else {"activation": ["relu", "tanh"]}

    def make(module: Any) -> Callable[[], object]:
        return lambda: GridSearchCV(module.MLPClassifier(**parameters), grid, cv=2 if quick else 5).fit(X, y)

    return make


def _turn(call: Callable[[], object], count: int) -> list[float]:
    """Seconds of so many calls, after a pause in which the other's threads cease to spin."""
    time.sleep(PAUSE)
    seconds = []
    for _ in range(count):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return seconds


def main(threads: str, quick: str) -> None:
    """Measure, and print the records."""
    confine(int(threads))
    from sklearn import neural_network  # noqa: PLC0415

    import fastmlp.sklearn  # noqa: PLC0415

    warnings.simplefilter("ignore")  # of fits that have not converged
    modules = {"fastmlp": fastmlp.sklearn, "sklearn": neural_network}
    records = []
    for task in _tasks(bool(int(quick))):
        calls = {name: task.make(module) for name, module in modules.items()}
        warm = {name: _turn(call, 2)[1] for name, call in calls.items()}
        counts = {name: max(1, round(TURN / seconds)) for name, seconds in warm.items()}
        rounds = 1 if int(quick) else 2 if max(warm.values()) > 1 else ROUNDS
        turns = [{name: _turn(call, counts[name]) for name, call in calls.items()} for _ in range(rounds)]
        seconds = {name: [statistics.median(turn[name]) for turn in turns] for name in modules}
        records.append({"task": task.name, "threads": int(threads), "target": task.target, "seconds": seconds})
        print(f"estimators: {task.name}", file=sys.stderr)
    print(json.dumps(records))


if __name__ == "__main__":
    main(*sys.argv[1:])
