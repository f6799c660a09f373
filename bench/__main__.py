"""``python -m bench``: measure fastmlp and its peers, print tables, write JSON, draw charts."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from bench import estimators, grid, growth, machine, race, report, startup
from bench.peers import PEERS
from bench.worker import ISAS, use_isa
from bench.workloads import PREDICTION, TRAINING

WORKLOADS = [*TRAINING, *PREDICTION, "start", "growth", "estimators"]
ROUNDS = 5
# Accuracy to reach on the test set, and the rows to train on.
GOAL, QUICK_GOAL = (0.98, TRAINING["seed"].rows), (0.80, 5000)


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """End with status 2."""
        self.exit(2, f"{self.prog}: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the suite; return 0, or 1 where a run failed or did other work than the rest, or 130 on Ctrl-C."""
    options = _options(arguments)
    if options.isa:
        use_isa(options.isa)
    missing = {peer: PEERS[peer].missing() for peer in options.peers}
    results: dict[str, Any] = {
        "quick": options.quick,
        "isa": options.isa,
        "machine": machine.describe(),
        "peak": {str(threads): machine.peak(threads) for threads in options.threads},
        "skipped": {peer: modules for peer, modules in missing.items() if modules},
        "training": [],
        "prediction": [],
    }
    peers = [peer for peer, modules in missing.items() if not modules]
    try:
        for name in options.workloads:
            _measure(name, peers, options, results)
            # After each, as all of them take a while.
            (options.output / "results.json").write_text(json.dumps(results, indent=1))
    except KeyboardInterrupt:
        return 130
    print(report.tables(results))
    try:
        report.draw(results, options.output)
    except ImportError as error:
        print(error, file=sys.stderr)
    return 1 if report.complaints(results) else 0


def _measure(name: str, peers: Sequence[str], options: argparse.Namespace, results: dict[str, Any]) -> None:
    quick, threads = options.quick, options.threads
    rounds = 1 if quick else ROUNDS
    if name in TRAINING:
        workload = TRAINING[name].quick() if quick else TRAINING[name]
        field = race.contenders(peers, threads, workload.sparse)
        left_out = {peer: PEERS[peer].left_out for peer in peers if workload.sparse and not PEERS[peer].sparse}
        results["training"].append({**race.train(workload, field, rounds), "left_out": left_out})
    elif name in PREDICTION:
        seconds = 0.02 if quick else 0.5
        results["prediction"].append(race.predict(PREDICTION[name], race.contenders(peers, threads), rounds, seconds))
    elif name == "growth":
        results["growth"] = growth.grow(max(threads), quick, rounds)
        results["grid"] = grid.measure(threads, quick)
        others = [peer for peer in peers if peer in ("jax", "pytorch")]
        field = race.contenders(["fastmlp", *others], [max(threads)])
        results["shapes"] = [race.train(shape, field, rounds) for shape in grid.shapes(quick)] if others else []
    elif name == "estimators":
        if "sklearn" in peers:
            results["estimators"] = estimators.measure([max(threads)], quick)
    else:
        accuracy, rows = QUICK_GOAL if quick else GOAL
        results["start"] = {
            "accuracy": accuracy,
            "imports": startup.imports(peers, rounds),
            "goal": startup.to_accuracy(peers, max(threads), accuracy, rows, 1 if quick else 3),
        }
        if not quick:
            results["start"]["wheel"] = startup.wheel()


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser("python -m bench", description=__doc__)
    cpus = machine.processors()
    names = {"workloads": WORKLOADS, "peers": list(PEERS)}
    for option, known in names.items():
        parser.add_argument(f"--{option}", default=",".join(known), help=f"of {', '.join(known)}; default: all")
    parser.add_argument(
        "--threads", default=",".join(map(str, sorted({1, cpus}))), help="numbers to try; default: %(default)s"
    )
    parser.add_argument("--isa", choices=ISAS, help="keep all to this instruction set; default: each to its best")
    parser.add_argument("--quick", action="store_true", help="few rows and epochs: does everything run?")
    parser.add_argument(
        "--output", type=Path, default=Path("build/bench"), help="folder for results; default: %(default)s"
    )
    options = parser.parse_args(arguments)
    for option, known in names.items():
        chosen = list(dict.fromkeys(getattr(options, option).split(",")))
        for name in chosen:
            if name not in known:
                parser.error(f"--{option}: {name!r} is not one of {', '.join(known)}")
        setattr(options, option, chosen)
    try:
        options.threads = sorted({int(count) for count in options.threads.split(",")})
    except ValueError:
        parser.error(f"--threads: {options.threads!r} is not a list of numbers such as 1,2")
    for count in options.threads:
        if not 1 <= count <= cpus:
            parser.error(f"--threads: {count} is not from 1 to {cpus}, the processors that may be used")
    try:
        options.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--output: {error}")
    return options


if __name__ == "__main__":
    sys.exit(main())
