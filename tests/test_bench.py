"""The benchmark suite: its command line, what becomes of peers that are missing, fail or cheat, and its figures."""

import copy
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

# bench is not installed; last, so that fastmlp is the one that is tested.
sys.path.append(str(Path(__file__).parents[1]))

from bench import __main__, estimators, grid, growth, machine, profile, race, report, startup, tables
from bench.peers import PEERS, Entry
from bench.worker import Worker, WorkerError
from bench.workloads import PREDICTION, TRAINING, Problem, flop_of_training
from fastmlp.engine.table import isas

ROOT = Path(__file__).parents[1]
AVX2 = isas().get("avx2", False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workloads", "tiny,huge"], "--workloads: 'huge' is not one of seed, "),
        (["--workloads", ""], "--workloads: '' is not one of seed, "),
        (["--peers", "abacus"], "--peers: 'abacus' is not one of fastmlp, "),
        (["--threads", "two"], "--threads: 'two' is not a list of numbers"),
        (["--threads", "0"], "--threads: 0 is not from 1 to "),
        (["--threads", "100000"], "--threads: 100000 is not from 1 to "),
        (["--output", str(Path(__file__) / "below")], "--output: "),
        (["--isa", "mmx"], "argument --isa: invalid choice: 'mmx'"),
        (["--fast"], "unrecognized arguments: --fast"),
    ],
)
def test_usage_errors_are_one_line_and_status_2(capsys, arguments, message):
    with pytest.raises(SystemExit) as exit_:
        __main__.main(arguments)
    out, err = capsys.readouterr()
    assert (exit_.value.code, out) == (2, "")
    assert err.startswith(f"python -m bench: {message}")
    assert err.count("\n") == 1
    assert err.endswith("\n")


def test_flop_of_training():
    # Four rows through 2-3-1: outputs, weight gradients, and the second layer's input gradient.
    assert flop_of_training((2, 3, 1), 4) == 2 * 4 * ((2 * 3 + 3 * 1) + (2 * 3 + 3 * 1) + 3 * 1)
    assert TRAINING["seed"].flop == 66_626_560_000


@pytest.mark.parametrize("workload", TRAINING.values(), ids=TRAINING.keys())
def test_workloads_have_whole_batches(workload):
    for one in (workload, workload.quick()):
        assert one.rows % one.batch_size == 0


@pytest.mark.parametrize("name", ["tiny", "micro", "higgs", "table", "text"])
def test_random_labels_are_of_all_classes(name):
    problem = TRAINING[name].problem()
    shares = np.bincount(problem.y) / len(problem.y)
    assert len(shares) == problem.layer_sizes[-1]
    assert shares.min() > min(0.05, 0.5 / len(shares))


@pytest.mark.slow
def test_text_is_sparse_with_as_many_values_as_are_counted():
    workload = TRAINING["text"]
    problem = workload.problem()
    assert problem.X.shape == (workload.rows, workload.layer_sizes[0])
    assert problem.X.nnz == pytest.approx(67 * workload.rows, rel=0.02)
    assert workload.flop == flop_of_training((67, 64, 20), workload.rows)
    np.testing.assert_allclose((problem.X**2).sum(axis=1), 1, rtol=1e-5)
    columns = np.sort(np.bincount(problem.X.indices, minlength=50_000))[::-1]
    assert columns[:500].sum() > 0.3 * columns.sum()


def test_a_problem_survives_its_file(tmp_path):
    problem = TRAINING["tiny"].quick().problem()
    problem.save(tmp_path / "problem.npz")
    loaded = Problem.load(tmp_path / "problem.npz")
    assert (loaded.layer_sizes, loaded.activation, loaded.batch_size) == ((20, 64, 32, 3), "relu", 32)
    np.testing.assert_array_equal(loaded.X, problem.X)
    np.testing.assert_array_equal(loaded.y, problem.y)
    for ours, theirs in zip(loaded.weights, problem.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_sparse_problem_survives_its_file(tmp_path):
    problem = TRAINING["text"].quick().problem()
    problem.save(tmp_path / "problem.npz")
    loaded = Problem.load(tmp_path / "problem.npz")
    assert (loaded.layer_sizes, loaded.X.shape) == ((50_000, 64, 20), (800, 50_000))
    assert (loaded.X != problem.X).nnz == 0 < problem.X.nnz


def test_a_worker_says_what_went_wrong_and_how_it_ended(tmp_path):
    path = tmp_path / "problem.npz"
    with Worker("numpy", "loop", 1, path) as worker:
        with pytest.raises(WorkerError, match=r"FileNotFoundError: .*problem\.npz"):
            worker.ask("prepare")
        PREDICTION["tiny-row"].problem().save(path)
        assert worker.ask("prepare")["seconds"] > 0
        assert worker.ask("labels")["labels"] in {"0", "1", "2"}
        worker._process.kill()
        with pytest.raises(WorkerError, match="ended with status -9"):
            worker.ask("labels")


def test_a_worker_that_takes_too_long_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr("bench.worker.TIME_LIMIT", 0.0)
    with (
        Worker("numpy", "loop", 1, tmp_path / "problem.npz") as worker,
        pytest.raises(WorkerError, match="no answer within 0 s"),
    ):
        worker.ask("prepare")


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments", [[], pytest.param(["--isa", "avx2"], marks=pytest.mark.skipif(not AVX2, reason="no AVX2 here"))]
)
def test_the_command(tmp_path, arguments):
    command = [sys.executable, "-m", "bench", "--quick", "--threads", "1", "--output", str(tmp_path)]
    command += ["--workloads", "tiny,tiny-row", "--peers", "fastmlp,numpy", *arguments]
    done = subprocess.run(command, check=False, cwd=ROOT, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert "| tiny " in done.stdout
    assert "A quick run" in done.stdout
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["peak"]["1"]["gflops"] > 0
    assert results["isa"] == (arguments[1] if arguments else None)
    assert ("avx2, to which all are confined" in done.stdout) == bool(arguments)
    (training,) = results["training"]
    ours, theirs = training["runs"]
    assert (ours["peer"], theirs["peer"]) == ("fastmlp", "numpy")
    # The same weights, the same rows in the same order: the same cost, but for rounding.
    assert ours["warm_up"]["costs"] == pytest.approx(theirs["warm_up"]["costs"], rel=1e-5)
    (prediction,) = results["prediction"]
    assert len({run["warm_up"]["labels"] for run in prediction["runs"]}) == 1
    assert report.tables(results) == done.stdout.rstrip("\n")


@pytest.mark.slow
def test_missing_and_failing_peers_do_not_stop_the_rest(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(PEERS, "absent", Entry(("no_such_module",), ("fit",)))
    monkeypatch.setitem(PEERS, "broken", Entry(("numpy",), ("fit",)))  # but there is no bench.peers.broken
    monkeypatch.setattr(machine, "peak", lambda threads: {"gflops": 100.0, "by": "assumption"})
    options = ["--quick", "--threads", "1", "--workloads", "tiny", "--output", str(tmp_path)]
    assert __main__.main([*options, "--peers", "absent,broken,numpy"]) == 1
    out, _ = capsys.readouterr()
    assert "Skipped, as not installed: absent (no_such_module)." in out
    assert "- tiny: broken fit, 1 thr: ModuleNotFoundError: No module named 'bench.peers.broken'" in out
    (training,) = json.loads((tmp_path / "results.json").read_text())["training"]
    assert [(run["peer"], len(run["turns"])) for run in training["runs"]] == [("broken", 0), ("numpy", 1)]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["table", "text"])
def test_peers_agree_on_the_first_cost_of_a_workload(name):
    workload = TRAINING[name].quick()
    names = [peer for peer in ("fastmlp", "pytorch", "jax", "sklearn", "numpy") if not PEERS[peer].missing()]
    field = [one for one in race.contenders(names, [1], workload.sparse) if one.form != "compile"]
    found = race.train(workload, field, rounds=1)
    assert len(found["runs"]) == len(names)
    assert report._wrong(found) == {}


def test_who_cannot_take_sparse_rows_is_left_out_with_the_reason(results):
    assert [str(one) for one in race.contenders(["keras", "numpy"], [1], sparse=True)] == ["numpy loop, 1 thread"]
    assert all(bool(entry.sparse) != bool(entry.left_out) for entry in PEERS.values())
    results["training"][0]["left_out"] = {"keras": "no luck"}
    assert "Left out: keras: no luck." in report.tables(results)


@pytest.mark.slow
def test_start_leaves_out_what_cannot_be_imported(monkeypatch):
    monkeypatch.setitem(PEERS, "broken", Entry(("no_such_module",), ("fit",)))
    assert set(startup.imports(["broken", "fastmlp"], rounds=1)) == {"numpy", "fastmlp"}
    ours, broken = startup.to_accuracy(["fastmlp", "broken"], threads=1, accuracy=0.5, rows=1000, rounds=1)
    assert ours["accuracy"] >= 0.5
    assert ours["import"] + ours["data"] + ours["training"] < ours["seconds"]
    assert broken == {"peer": "broken", "error": "ModuleNotFoundError: No module named 'bench.peers.broken'"}


@pytest.mark.parametrize("quick", [False, True])
def test_growth_varies_one_quantity_over_whole_batches(quick):
    points = list(growth.series(quick))
    assert {quantity for quantity, _, _ in points} == {"width", "depth", "batch", "rows"}
    for quantity, value, workload in points:
        assert workload.rows % workload.batch_size == 0
        hidden = workload.layer_sizes[1:-1]
        measures = {"width": hidden[0], "depth": len(hidden), "batch": workload.batch_size, "rows": workload.rows}
        assert measures[quantity] == value


@pytest.mark.slow
def test_growth_measures_time_and_memory(monkeypatch):
    monkeypatch.setattr(growth, "QUICK_VALUES", {"width": (8, 256)})
    small, large = growth.grow(threads=1, quick=True, rounds=1)
    assert min(small["seconds"], large["seconds"]) > 0
    assert large["flop"] == flop_of_training((784, 256, 256, 10), 1000)
    if sys.platform == "linux":
        # Weights, their gradient or moments, and more in the engine's own order.
        assert large["memory"] - small["memory"] > 3 * 4 * 784 * 256


def cells_of_a_grid(speeds, columns=(64, 128)):
    place = {"activation": "relu", "threads": 2, "rows": "batch", "columns": "width"}
    return [
        {**place, "row": 10 * (i + 1), "column": column, "gflops": speed}
        for i, row in enumerate(speeds)
        for column, speed in zip(columns, row, strict=True)
    ]


def test_cells_that_fall_by_a_quarter_are_marked():
    found = cells_of_a_grid([[100.0, 76.0], [74.0, 110.0], [80.0, 59.0]])
    assert grid.slow(found) == [False, False, True, False, False, True]
    text = grid.tables(found)
    assert cells(text, "10") == ["10", "100", "76"]
    assert cells(text, "20") == ["20", "74 (!)", "110"]
    # What is slow for its width in one grid says nothing of another.
    other = [{**cell, "activation": "tanh", "gflops": 1.0} for cell in found]
    assert grid.tables(found + other).count("(!)") == 3


@pytest.mark.slow
def test_a_grid_is_measured_cell_by_cell():
    found = grid.measure([1], quick=True)
    assert [(cell["activation"], cell["row"], cell["column"]) for cell in found] == [
        (activation, batch, width) for activation in ("relu", "tanh") for batch in (8, 100) for width in (16, 64)
    ]
    assert min(cell["gflops"] for cell in found) > 0


def test_shapes_have_whole_batches_and_names_of_their_own():
    workloads = list(grid.shapes(quick=False))
    assert len({workload.name for workload in workloads}) == len(workloads) == 12
    assert [workload.name for workload in workloads[:2]] == [
        "300-1000-5 relu, batch 200",
        "200-100x8-4 relu, batch 100",
    ]
    assert all(workload.rows % workload.batch_size == 0 for workload in workloads)


@pytest.mark.slow
def test_estimators_take_turns():
    pytest.importorskip("sklearn", reason="it is the other one")
    found = estimators.measure([1], quick=True)
    assert {"fit iris", "predict a row", "fit micro, an epoch"} <= {r["task"] for r in found}
    assert all(seconds > 0 for r in found for name in ("fastmlp", "sklearn") for seconds in r["seconds"][name])
    assert estimators.table_of(found).count("\n") == len(found) + 1


def test_a_profile_has_all_the_arithmetic_of_a_step():
    for name in ("seed", "tiny"):  # layer by layer, and chained
        workload = TRAINING[name].quick()
        found = profile.profile(workload, threads=2, epochs=1)
        batches = workload.rows // workload.batch_size
        assert sum(phase.flop for phase in found.phases) * batches == pytest.approx(workload.flop)
        assert 0 < sum(phase.busy + phase.waiting for phase in found.phases) < found.step
    text = profile.report(found, peak=100.0)
    (chain,) = [phase for phase in found.phases if phase.name == "chain"]
    assert cells(text, "chain")[5] == f"{1e-9 * chain.flop / chain.busy:.0f}"


def test_a_phase_of_several_kinds_is_named_by_all_and_has_its_share_of_each():
    first = Counter({("cost", 0): 1, ("columns", 0): 5, ("columns", 1): 4, ("update", 1): 1})
    second = Counter({("backward", 1): 4, ("update", 1): 3})
    assert [profile.name_of(tasks) for tasks in (first, second)] == [
        "cost, columns 1 2, update 2",
        "backward 2, update 2",
    ]
    workload = TRAINING["tiny"]
    product = 2 * 32 * 64 * 32
    assert profile.flop_of([(first, [], []), (second, [], [])], workload) == [product / 4, 7 * product / 4]


def test_contenders_are_all_forms_with_all_threads():
    field = race.contenders(["fastmlp", "pytorch"], [1, 2])
    assert len(field) == 2 * (1 + len(PEERS["pytorch"].forms))
    assert str(field[0]) == "fastmlp fit, 1 thread"
    assert str(field[1]) == "fastmlp fit, 2 threads"


def record(peer, seconds, costs=(2.0, 0.5), threads=1, form="fit"):
    turns = [
        {"seconds": 5 * each, "costs": [1.0, costs[1]], "epoch_seconds": [0.9 * each], "memory": 0}
        for each in (seconds, 0.9 * seconds, 3 * seconds)
    ]
    warm_up = {"seconds": 1.0, "costs": [costs[0]], "memory": 2_000_000}
    return {
        "peer": peer,
        "form": form,
        "threads": threads,
        "prepare": 0.5,
        "warm_up": warm_up,
        "turns": turns,
    }


@pytest.fixture
def results():
    """Results in which fastmlp takes 0.2 s, and the best honest peer, JAX with 2 threads, three times as long."""
    runs = [
        record("fastmlp", 0.4),
        record("fastmlp", 0.2, threads=2),
        record("jax", 0.9),
        record("jax", 0.6, threads=2),
        record("numpy", 2.0),
    ]
    training = {
        "workload": "seed",
        "layer_sizes": [784, 256, 256, 10],
        "rows": 55_000,
        "batch_size": 100,
        "epochs": 5,
        "flop": 20_000_000_000,
        "target": 2.5,
        "runs": runs,
    }
    warm_up = {"seconds": 1.0, "labels": "0123456789"}
    common = {"form": "fit", "threads": 1, "prepare": 0.5, "warm_up": warm_up}
    prediction = {
        "workload": "seed-row",
        "rows": 10,
        "target": None,
        "target_seconds": 1e-5,
        "runs": [
            {"peer": "fastmlp", "turns": [{"seconds": 2e-5}], **common},
            {"peer": "jax", "turns": [{"seconds": 5e-5}], **common},
        ],
    }
    start = {
        "accuracy": 0.98,
        "imports": {"numpy": 0.1, "fastmlp": 0.02, "jax": 0.8},
        "goal": [
            {
                "peer": "fastmlp",
                "seconds": 4.0,
                "import": 0.2,
                "data": 0.5,
                "training": 3.0,
                "epochs": 8,
                "accuracy": 0.981,
            },
            {"peer": "jax", "error": "RuntimeError: no luck"},
        ],
        "wheel": {"file": 11_000_000, "unpacked": 13_000_000, "mnist": 11_500_000},
    }
    growth = [
        {"quantity": quantity, "value": value, "flop": 10**9, "memory": 10**6 * value, "seconds": 1e-3 * value**2}
        for quantity in ("width", "depth", "batch", "rows")
        for value in (1, 10)
    ]
    return {
        "quick": False,
        "machine": {
            "date": "2026-01-31",
            "processor": "Abacus",
            "processors": 2,
            "instruction_set": "beads",
            "system": "none",
            "versions": {"python": "3.11"},
        },
        "peak": {"1": {"gflops": 100.0, "by": "numpy"}, "2": {"gflops": 200.0, "by": "fastmlp"}},
        "skipped": {"keras": ["tensorflow"]},
        "training": [training],
        "prediction": [prediction],
        "start": start,
        "growth": growth,
        "grid": cells_of_a_grid([[100.0, 120.0], [110.0, 50.0]]),
        "estimators": [
            {
                "task": "fit iris",
                "threads": 2,
                "target": 8.0,
                "seconds": {"fastmlp": [1.0, 2.0, 9], "sklearn": [18.0]},
            }
        ],
        "shapes": [{**training, "workload": "300-1000-5 relu, batch 200"}],
    }


def cells(text, first):
    """Return the cells of the first table row that begins with these words."""
    line = next(line for line in text.splitlines() if line.startswith(f"| {first} "))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_tables(results):
    text = report.tables(results)
    row = cells(text, "seed")
    assert row[1:5] == ["200 ms", "180 ms", "100", "50%"]
    assert row[5:7] == ["3.00", "10.00"]
    assert row[7:] == ["3.00 (jax fit, 2 thr)", "2.5, met"]
    assert cells(text, "seed-row")[1:] == ["20 µs", "50 µs", "2.50 (jax fit, 1 thr)", "10 µs, missed"]
    assert cells(text.split("## Start")[1], "fastmlp")[1:] == ["20 ms", "4 s", "200 ms", "500 ms", "3 s", "8", "0.9810"]
    assert "time grows as width to the power of 2.00" in text
    assert "Wheel: 11.00 MB; unpacked 13.00 MB, of it 11.50 MB MNIST." in text
    assert cells(text, "20") == ["20", "110", "50 (!)"]
    assert cells(text, "300-1000-5 relu, batch 200")[1:] == ["200 ms", "3.00 (jax fit, 2 thr)"]
    assert cells(text, "fit iris")[1:] == ["2", "2 s", "18 s", "9.0", "8, met"]
    assert "keras (tensorflow)" in text
    assert report.complaints(results) == ["start: jax: RuntimeError: no luck"]


@pytest.mark.parametrize(
    ("costs", "complaint"),
    [
        ((2.1, 0.5), "its first cost is 2.1, the median of all is 2"),
        ((2.0, 0.8), "its last cost is 0.8, the median of all is 0.5"),
        ((2.0, float("nan")), "its last cost is nan, the median of all is 0.5"),
    ],
)
def test_who_did_other_work_is_named_and_does_not_count(results, costs, complaint):
    results["training"][0]["runs"][3] = record("jax", 0.1, costs, threads=2)
    text = report.tables(results)
    assert f"seed: jax fit, 2 thr: {complaint}" in report.complaints(results)
    assert cells(text, "seed")[7] == "4.50 (jax fit, 1 thr)"
    assert f"{costs[1]:.4f} (!)" in text


def test_a_cost_that_is_not_a_number_makes_no_other_wrong(results):
    runs = results["training"][0]["runs"]
    nothing = record("keras", 0.1, (float("nan"), float("nan")), threads=2)
    for place in range(len(runs) + 1):
        results["training"][0]["runs"] = [*runs[:place], nothing, *runs[place:]]
        said = [line for line in report.complaints(results) if line.startswith("seed: ")]
        assert [line.partition(":")[2][:18] for line in said] == [" keras fit, 2 thr:"]


def test_differences_of_rounding_and_of_order_are_no_complaint(results):
    results["training"][0]["runs"][3] = record("jax", 0.6, (2.01, 0.6), threads=2)
    assert report.complaints(results) == ["start: jax: RuntimeError: no luck"]


def test_who_predicts_other_labels_is_named(results):
    runs = results["prediction"][0]["runs"]
    runs += [copy.deepcopy(runs[1]) for _ in range(2)]
    runs[1]["warm_up"]["labels"] = "0123456780"
    assert "seed-row: jax fit, 1 thr: 1 of 10 labels are not those of the others" in report.complaints(results)


def test_a_failed_run_is_shown(results):
    failed = {"peer": "numpy", "form": "fit", "threads": 1, "turns": [], "error": "MemoryError: "}
    results["training"][0]["runs"][4] = failed
    text = report.tables(results)
    assert cells(text, "seed")[6] == "-"
    assert "- seed: numpy fit, 1 thr: MemoryError: " in text
    assert cells(text, "numpy fit")[2] == "failed"


def test_tables_without_fastmlp(results):
    results["training"][0]["runs"] = results["training"][0]["runs"][2:]
    assert cells(report.tables(results), "seed")[1:] == ["-", "-", "-", "-", "-", "-", "-", "2.5"]


@pytest.mark.slow
def test_charts(results, tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="charts are drawn by matplotlib")
    (tmp_path / "results.json").write_text(json.dumps(results))
    report.main(str(tmp_path / "results.json"))
    out, err = capsys.readouterr()
    names = ("training.png", "growth.png", "grid.png")
    assert out == report.tables(results) + "\n"
    assert err.split() == [str(tmp_path / name) for name in names]
    for name in names:
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_charts_name_the_extra(results, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'fastmlp\[plot\]'"):
        report.draw(results, tmp_path)


@pytest.mark.parametrize("path", tables.PAGES, ids=lambda path: path.parent.name)
def test_the_readmes_show_the_figures_that_are_kept(path):
    page, figures = path.read_text(encoding="utf-8"), tables.latest()
    assert tables.rewritten(page, figures) == page, "run: python -m bench.tables"
    assert page.count("<!-- figures: ") == page.count("<!-- end -->") > 0
    for run in figures["training"][0]["runs"]:
        if run["peer"] == "fastmlp":
            run["turns"] = [{**turn, "seconds": 1.01 * turn["seconds"]} for turn in run["turns"]]
    assert tables.rewritten(page, figures) != page
