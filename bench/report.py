"""What was measured, as tables in Markdown and as charts.

``python -m bench.report RESULTS.json`` prints and draws again what a run has written.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bench import estimators, grid
from bench.markdown import duration, table

__all__ = ["complaints", "draw", "tables"]

# How far costs may be from the median of all: after an epoch in the same order of the rows, where only rounding
# differs, and after the last epoch, where each has drawn its own orders.
SAME_ORDER, OWN_ORDER = 0.01, 0.25
SAME_LABELS = 0.999

Race = dict[str, Any]
Record = dict[str, Any]


def tables(results: dict[str, Any]) -> str:
    """Return everything that was measured, as Markdown."""
    return "\n\n".join(part for part in _parts(results) if part)


def complaints(results: dict[str, Any]) -> list[str]:
    """Return a line for each run that failed, and for each whose result is not that of the others."""
    lines = []
    for race in results["training"] + results["prediction"] + results.get("shapes", []):
        wrong = _wrong(race)
        for i, record in enumerate(race["runs"]):
            if i in wrong:
                lines.append(f"{race['workload']}: {_name(record)}: {wrong[i]}")
    for start in results.get("start", {}).get("goal", []):
        if "error" in start:
            lines.append(f"start: {start['peer']}: {start['error']}")
    wheel = results.get("start", {}).get("wheel", {})
    if "error" in wheel:
        lines.append(f"wheel: {wheel['error']}")
    lines += [f"{p['quantity']} {p['value']}: {p['error']}" for p in results.get("growth", []) if "error" in p]
    return lines


def draw(results: dict[str, Any], folder: Path) -> list[Path]:
    """Draw the charts that the results allow, as PNG files in a folder; return their paths.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError:
        raise ImportError("charts need matplotlib: pip install 'fastmlp[plot]'") from None
    paths = []
    races = [race for race in results["training"] if best(race, "fastmlp")]
    if races:
        figure = Figure(figsize=(8, 1 + 1.3 * len(races)), layout="constrained")
        _draw_races(figure, races)
        paths.append(folder / "training.png")
        figure.savefig(paths[-1], dpi=120)
    points = [point for point in results.get("growth", []) if "error" not in point]
    if points:
        figure = Figure(figsize=(9, 7), layout="constrained")
        _draw_growth(figure, points)
        paths.append(folder / "growth.png")
        figure.savefig(paths[-1], dpi=120)
    if results.get("grid"):
        figure = Figure(figsize=(16, 11), layout="constrained")
        grid.draw(figure, results["grid"])
        paths.append(folder / "grid.png")
        figure.savefig(paths[-1], dpi=80)
    return paths


def _parts(results: dict[str, Any]) -> Iterable[str]:
    yield _machine(results)
    if results["training"]:
        yield "## Training\n\nPeers: times fastmlp's epoch, each in its best form.\n\n" + _training(results)
        for race in results["training"]:
            yield _details(race, results["peak"])
            yield "\n".join(f"Left out: {peer}: {why}." for peer, why in race.get("left_out", {}).items())
    if results["prediction"]:
        yield "## Prediction\n\nTime of a call, each peer in its best form; the best one also as times fastmlp's."
        yield _prediction(results)
    if "start" in results:
        yield "## Start and size\n\n" + _start(results["start"])
    if results.get("growth"):
        yield "## Growth\n\n" + _growth(results["growth"])
    if results.get("grid"):
        yield "## Speed by shape\n\n" + grid.tables(results["grid"])
    if results.get("shapes"):
        yield "Some shapes beside the best form of others; times fastmlp's epoch.\n\n" + _shapes(results["shapes"])
    if results.get("estimators"):
        yield "## fastmlp.sklearn beside scikit-learn\n\n" + estimators.table_of(results["estimators"])
    if results["skipped"]:
        skipped = (f"{peer} ({', '.join(modules)})" for peer, modules in results["skipped"].items())
        yield f"Skipped, as not installed: {'; '.join(skipped)}."
    wrong = complaints(results)
    if wrong:
        yield "Not counted:\n\n" + "\n".join(f"- {line}" for line in wrong)


def _machine(results: dict[str, Any]) -> str:
    machine = results["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    peaks = "; ".join(
        f"{peak['gflops']:.0f} GFLOP/s with {threads} thread{'s' * (threads != '1')} ({peak['by']})"
        for threads, peak in results["peak"].items()
    )
    confined = ", to which all are confined" if results.get("isa") else ""
    text = (
        f"{machine['date']}: {machine['processor']}, {machine['processors']} processors in use, "
        f"{machine['instruction_set']}{confined}; {machine['system']}; {versions}.\nMeasured float32 peak: {peaks}."
    )
    if results["quick"]:
        text += "\n\n**A quick run: few rows, few epochs. Its figures say only that everything runs.**"
    return text


def _training(results: dict[str, Any]) -> str:
    peers = peers_of(results["training"])
    rows = []
    for race in results["training"]:
        ours = best(race, "fastmlp")
        row = [race["workload"]]
        if ours is None:
            row += ["-"] * 4
        else:
            speed = race["flop"] / seconds_of(race, ours) / 1e9
            row += [duration(seconds_of(race, ours)), duration(_own_seconds(ours)), f"{speed:.0f}"]
            row.append(_share(speed, results["peak"], ours["threads"]))
        row += [_ratio(race, ours, best(race, peer)) for peer in peers]
        rows.append([*row, *_verdict(race, ours, peers)])
    heads = ["workload", "fastmlp, an epoch", "by its own clock", "GFLOP/s", "of peak"]
    return table([*heads, *peers, "best peer", "target"], rows)


def _details(race: Race, peak: dict[str, Any]) -> str:
    sizes = "-".join(map(str, race["layer_sizes"]))
    title = (
        f"### {race['workload']}: {sizes}, batch {race['batch_size']}, {race['rows']:,} rows, "
        f"{race['flop'] / 1e9:.3g} GFLOP an epoch"
    )
    wrong = _wrong(race)
    rows = []
    for i, record in enumerate(race["runs"]):
        row = [f"{record['peer']} {record['form']}", str(record["threads"])]
        if not record["turns"]:
            rows.append([*row, "failed", *["-"] * 7])
            continue
        seconds = [turn["seconds"] / race["epochs"] for turn in record["turns"]]
        speed = race["flop"] / seconds_of(race, record) / 1e9
        memory = record["warm_up"]["memory"]
        row += [
            duration(seconds_of(race, record)),
            f"{duration(min(seconds))} - {duration(max(seconds))}",
            f"{speed:.3g}",
        ]
        row += [_share(speed, peak, record["threads"])]
        row += [f"{record['warm_up']['costs'][0]:.4f}", f"{_last_cost(record):.4f}" + " (!)" * (i in wrong)]
        row += [duration(record["prepare"] + record["warm_up"]["seconds"])]
        row += ["-" if memory is None else f"{memory / 1e6:.0f}"]
        rows.append(row)
    heads = ["", "threads", "an epoch", "from - to", "GFLOP/s", "of peak", "first cost", "last cost", "warm-up"]
    return f"{title}\n\n" + table([*heads, "memory, MB"], rows)


def _prediction(results: dict[str, Any]) -> str:
    peers = peers_of(results["prediction"])
    rows = []
    for race in results["prediction"]:
        row = [race["workload"]]
        ours = best(race, "fastmlp")
        for record in (best(race, peer) for peer in ["fastmlp", *peers]):
            row.append("-" if record is None else duration(seconds_of(race, record)))
        if race["target_seconds"] is None:
            row += _verdict(race, ours, peers)
        else:
            target = f"{duration(race['target_seconds'])}"
            if ours is not None:
                target += ", met" if seconds_of(race, ours) <= race["target_seconds"] else ", missed"
            row += [_verdict({**race, "target": 0}, ours, peers)[0], target]
        rows.append(row)
    return table(["workload", "fastmlp", *peers, "best peer", "target"], rows)


def _start(start: dict[str, Any]) -> str:
    goals = {goal["peer"]: goal for goal in start["goal"]}
    rows = []
    for name, seconds in start["imports"].items():
        row = [name, duration(seconds)]
        goal = goals.get(name, {"error": ""})
        if "error" in goal:
            row += ["-"] * 6
        else:
            row += [duration(goal[part]) for part in ("seconds", "import", "data", "training")]
            row += [str(goal["epochs"]), f"{goal['accuracy']:.4f}"]
        rows.append(row)
    to = f"to {start['accuracy']:.0%} on the test set"
    text = "Imports alone are beyond NumPy's, that of NumPy beyond an empty process.\n\n"
    text += table(["", "import alone", to, "import", "data", "training", "epochs", "accuracy"], rows)
    wheel = start.get("wheel", {"error": ""})
    if "error" not in wheel:
        file, unpacked, mnist = (wheel[key] / 1e6 for key in ("file", "unpacked", "mnist"))
        text += f"\n\nWheel: {file:.2f} MB; unpacked {unpacked:.2f} MB, of it {mnist:.2f} MB MNIST."
    return text


def _shapes(races: Sequence[Race]) -> str:
    rows = []
    for race in races:
        ours, peers = best(race, "fastmlp"), peers_of([race])
        time = "-" if ours is None else duration(seconds_of(race, ours))
        rows.append([race["workload"], time, _verdict({**race, "target": 0}, ours, peers)[0]])
    return table(["shape", "fastmlp, an epoch", "best peer"], rows)


def _growth(points: Sequence[dict[str, Any]]) -> str:
    text = []
    for quantity, chosen in _quantities(points).items():
        rows = [
            [
                f"{point['value']:,}",
                duration(point["seconds"]),
                f"{point['flop'] / point['seconds'] / 1e9:.3g}",
                "-" if point["memory"] is None else f"{point['memory'] / 1e6:.1f}",
            ]
            for point in chosen
        ]
        text.append(table([quantity, "an epoch", "GFLOP/s", "memory of a fit, MB"], rows))
        if len(chosen) > 1:
            first, last = chosen[0], chosen[-1]
            power = math.log(last["seconds"] / first["seconds"]) / math.log(last["value"] / first["value"])
            text.append(f"From first to last, time grows as {quantity} to the power of {power:.2f}.")
    return "\n\n".join(text)


def _draw_races(figure: Any, races: Sequence[Race]) -> None:
    axes = figure.add_subplot()
    peers = ["fastmlp", *peers_of(races)]
    height = 0.8 / len(peers)
    for i, peer in enumerate(peers):
        places, lengths = [], []
        for j, race in enumerate(races):
            ours, theirs = best(race, "fastmlp"), best(race, peer)
            if ours is not None and theirs is not None:
                places.append(j + i * height)
                lengths.append(seconds_of(race, theirs) / seconds_of(race, ours))
        bars = axes.barh(places, lengths, height * 0.9, label=peer, color=f"C{i}")
        axes.bar_label(bars, fmt="%.1f", padding=2, fontsize=7)
    axes.set_xlabel("time of an epoch, fastmlp = 1 (shorter is faster)")
    axes.set_yticks([j + 0.4 - height / 2 for j in range(len(races))], [race["workload"] for race in races])
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8)


def _draw_growth(figure: Any, points: Sequence[dict[str, Any]]) -> None:
    from matplotlib.ticker import NullLocator  # noqa: PLC0415

    for i, (quantity, chosen) in enumerate(_quantities(points).items()):
        axes = figure.add_subplot(2, 2, i + 1)
        values = [point["value"] for point in chosen]
        _draw_line(axes, values, [1e3 * point["seconds"] for point in chosen], "C0o-", "ms an epoch")
        if all(point["memory"] for point in chosen):
            _draw_line(axes.twinx(), values, [point["memory"] / 1e6 for point in chosen], "C1s--", "MB of a fit")
        axes.set_xticks(values, [f"{value:,}" for value in values], fontsize=7)
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel(quantity)


def _draw_line(axes: Any, x: Sequence[float], y: Sequence[float], style: str, label: str) -> None:
    from matplotlib.ticker import LogFormatter  # noqa: PLC0415

    axes.loglog(x, y, style)
    axes.set_ylabel(label, color=style[:2])
    axes.yaxis.set_major_formatter(LogFormatter())
    axes.yaxis.set_minor_formatter(LogFormatter())


def _quantities(points: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    chosen: dict[str, list[dict[str, Any]]] = {}
    for point in points:
        if "error" not in point:
            chosen.setdefault(point["quantity"], []).append(point)
    return chosen


def peers_of(races: Sequence[Race]) -> list[str]:
    """Names of all but fastmlp, in the order in which they ran."""
    names = dict.fromkeys(record["peer"] for race in races for record in race["runs"])
    return [name for name in names if name != "fastmlp"]


def best(race: Race, peer: str) -> Record | None:
    """Return the fastest of a peer's runs that did the work, if one did."""
    wrong = _wrong(race)
    runs = [record for i, record in enumerate(race["runs"]) if i not in wrong and record["peer"] == peer]
    return min(runs, key=lambda record: seconds_of(race, record), default=None)


def _wrong(race: Race) -> dict[int, str]:
    """Return what is wrong with the race's runs, by their place."""
    wrong = {i: record["error"] for i, record in enumerate(race["runs"]) if "error" in record}
    sound = [(i, record) for i, record in enumerate(race["runs"]) if i not in wrong]
    if not sound:
        return wrong
    if "epochs" in race:
        first = _median_of_finite(record["warm_up"]["costs"][0] for _, record in sound)
        last = _median_of_finite(_last_cost(record) for _, record in sound)
        for i, record in sound:
            for name, cost, wanted, tolerance in (
                ("first", record["warm_up"]["costs"][0], first, SAME_ORDER),
                ("last", _last_cost(record), last, OWN_ORDER),
            ):
                if not abs(cost - wanted) <= tolerance * wanted:
                    wrong[i] = f"its {name} cost is {cost:.4g}, the median of all is {wanted:.4g}"
    else:
        labels = statistics.mode(record["warm_up"]["labels"] for _, record in sound)
        for i, record in sound:
            same = sum(a == b for a, b in zip(labels, record["warm_up"]["labels"], strict=True))
            if same < SAME_LABELS * len(labels):
                wrong[i] = f"{len(labels) - same} of {len(labels)} labels are not those of the others"
    return wrong


def _median_of_finite(costs: Iterable[float]) -> float:
    # NaN has no place in an order: where one of the runs has it, any other could seem to be wrong.
    median: float = statistics.median([cost for cost in costs if math.isfinite(cost)] or [math.nan])
    return median


def seconds_of(race: Race, record: Record) -> float:
    """Median of the turns: seconds an epoch, or a call of `predict`."""
    median: float = statistics.median(turn["seconds"] for turn in record["turns"])
    return median / int(race.get("epochs", 1))


def _own_seconds(record: Record) -> float:
    median: float = statistics.median(seconds for turn in record["turns"] for seconds in turn["epoch_seconds"])
    return median


def _last_cost(record: Record) -> float:
    median: float = statistics.median(turn["costs"][-1] for turn in record["turns"])
    return median


def _ratio(race: Race, ours: Record | None, theirs: Record | None) -> str:
    if ours is None or theirs is None:
        return "-"
    return f"{seconds_of(race, theirs) / seconds_of(race, ours):.2f}"


def _verdict(race: Race, ours: Record | None, peers: Sequence[str]) -> list[str]:
    """Return the best peer with its ratio, and the target with whether it is met."""
    theirs = [record for record in (best(race, peer) for peer in peers) if record is not None]
    target = f"{race['target']}"
    if ours is None or not theirs:
        return ["-", target]
    fastest = min(theirs, key=lambda record: seconds_of(race, record))
    ratio = seconds_of(race, fastest) / seconds_of(race, ours)
    verdict = "met" if ratio >= race["target"] else "missed"
    return [f"{ratio:.2f} ({_name(fastest)})", f"{target}, {verdict}"]


def _share(speed: float, peak: dict[str, Any], threads: int) -> str:
    return f"{speed / peak[str(threads)]['gflops']:.0%}"


def _name(record: Record) -> str:
    return f"{record['peer']} {record['form']}, {record['threads']} thr"


def main(path: str) -> None:
    """Print the tables of a run and draw its charts beside it."""
    results = json.loads(Path(path).read_text())
    print(tables(results))
    for chart in draw(results, Path(path).parent):
        print(chart, file=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:])
