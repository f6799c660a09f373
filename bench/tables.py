"""The tables of README.md and bench/README.md, made from the figures kept in ``bench/results/VERSION.json``.

``python -m bench.tables`` writes those of the latest version between their markers; ``python -m bench.tables
RESULTS.json`` first keeps the results of a run as the figures of the version that it measured.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import report
from bench.markdown import duration, table
from bench.workloads import PREDICTION, TRAINING

__all__ = ["PAGES", "latest", "rewritten"]

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results"
PAGES = (ROOT / "README.md", ROOT / "bench" / "README.md")

NAMES = {"pytorch": "PyTorch", "jax": "JAX", "keras": "Keras", "sklearn": "scikit-learn", "numpy": "NumPy"}
# Those with a column of their own in README.md, and where their versions stand.
SHOWN = {"pytorch": "torch", "sklearn": "scikit-learn"}


def latest() -> dict[str, Any]:
    """Return the figures of the latest version that has some."""
    path = max(RESULTS.glob("*.json"), key=lambda path: [int(part) for part in path.stem.split(".")])
    results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return results


def rewritten(page: str, results: dict[str, Any]) -> str:
    """Return a page with what stands between its markers, ``<!-- figures: NAME -->``, made anew."""
    marked = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
    return marked.sub(lambda found: f"{found[1]}\n{TABLES[found[2]](results)}\n\n{found[3]}", page)


def _everything(results: dict[str, Any]) -> str:
    """All tables; their headings are a level deeper there."""
    return re.sub(r"^#", "##", report.tables(results), flags=re.MULTILINE)


def _training(results: dict[str, Any]) -> str:
    versions = results["machine"]["versions"]
    heads = [f"{NAMES[peer]} {'.'.join(versions[name].split('.')[:2])}" for peer, name in SHOWN.items()]
    rows = []
    for race in results["training"]:
        workload = TRAINING[race["workload"]]
        activation = {"relu": "ReLU"}.get(workload.activation, workload.activation)
        data = {"mnist": "MNIST", "random": "dense rows", "text": "sparse rows"}[workload.data]
        network = f"{_sizes(workload.layer_sizes)}, {activation}, {data}, batch {workload.batch_size:,}"
        ours, theirs = _times(race)
        ratios = [min(theirs.values()) / ours, *(theirs[peer] / ours for peer in SHOWN)]
        texts = [f"{ratio:.1f}" if ratio < 9.95 else f"{ratio:.0f}" for ratio in ratios]
        rows.append([workload.name, network, duration(ours), *texts])
    return table(["", "network", "fastmlp, an epoch", "best peer", *heads], rows)


def _prediction(results: dict[str, Any]) -> str:
    rows = []
    for race in results["prediction"]:
        workload = PREDICTION[race["workload"]]
        count = "a row" if workload.rows == 1 else f"{workload.rows:,} rows"
        ours, theirs = _times(race)
        best = min(theirs, key=lambda peer: theirs[peer])
        row = [f"{count}, {_sizes(workload.layer_sizes)}", duration(ours)]
        row.append(f"{NAMES[best]}, {duration(theirs[best])}")
        rows.append([*row, *(duration(theirs[peer]) for peer in SHOWN)])
    return table(["prediction", "fastmlp", "best peer", *(NAMES[peer] for peer in SHOWN)], rows)


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "everything": _everything,
    "training": _training,
    "prediction": _prediction,
}


def _times(race: report.Race) -> tuple[float, dict[str, float]]:
    """Seconds of fastmlp and of each peer, in their best forms."""
    best = {peer: report.best(race, peer) for peer in ("fastmlp", *report.peers_of([race]))}
    times = {peer: report.seconds_of(race, record) for peer, record in best.items() if record is not None}
    return times.pop("fastmlp"), times


def _sizes(layer_sizes: tuple[int, ...]) -> str:
    return "-".join(map(str, layer_sizes))


def main(path: str | None = None) -> None:
    """Keep the figures of a run, if one is given, and write the tables."""
    if path is not None:
        version = json.loads(Path(path).read_text(encoding="utf-8"))["machine"]["versions"]["fastmlp"]
        shutil.copy(path, RESULTS / f"{version}.json")
    for page in PAGES:
        page.write_text(rewritten(page.read_text(encoding="utf-8"), latest()), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
