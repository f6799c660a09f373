"""The program of a step, as lists: which tasks, in which phases, over which rows."""

from collections import Counter

import pytest

from fastmlp.engine.program import KINDS, chained_step, layered_step

# Panels of inputs and of units, blocks of weights, tasks that list columns: 784-256-256-10, listed
SEED = [(13, 4, 5, 5), (4, 4, 4, 4), (4, 1, 4, 4)]


def names(phases):
    return [KINDS[tasks[0][0]] for _, tasks in phases]


def test_the_phases_of_the_tutorials_step():
    phases = layered_step(SEED, 100, 100, 2, 272)
    assert names(phases) == ["gather", *["forward"] * 3, "loss", "cost", "backward", "backward", *["update"] * 3]
    assert [len(tasks) for _, tasks in phases] == [2, 4, 4, 2, 2, 14, 4, 4, 20, 16, 4]


def test_a_gradient_that_is_wanted_whole_is_applied_after_it_is_made():
    assert names(layered_step(SEED, 100, 100, 2, 272, whole=True))[-4:] == ["gradient"] * 3 + ["apply"]
    assert names(layered_step(SEED, 100, 100, 2, 272, norm=True))[-3:] == ["gradient", "norm", "apply"]
    assert names(layered_step(SEED, 100, 100, 2, 272, cut_at_gradient=True))[-3:] == ["gradient", "cut", "apply"]
    assert names(layered_step(SEED, 100, 100, 2, 272, cut_at_loss=True))[3:6] == ["forward", "cut", "cost"]


def test_parts_of_a_batch_add_up():
    phases = layered_step(SEED, 1000, 400, 2, 272)
    found = names(phases)
    assert Counter(found) == {
        "gather": 3,
        "forward": 9,
        "loss": 3,
        "cost": 3,
        "backward": 6,
        "gradient": 3,
        "add gradient": 6,
        "apply": 1,
    }
    assert found.index("gradient") < found.index("add gradient")
    bases = [base for base, tasks in phases if KINDS[tasks[0][0]] == "gather"]
    assert bases == [0, 332, 666]
    gathered = [
        base + row
        for base, tasks in phases
        if KINDS[tasks[0][0]] == "gather"
        for *_, first, n in tasks
        for row in range(first, first + n)
    ]
    assert gathered == list(range(1000))


@pytest.mark.parametrize("n_threads", [1, 2, 3, 16])
@pytest.mark.parametrize("rows", [1, 23, 24, 100, 129, 1000])
def test_strips_hold_each_row_once_and_not_too_many(rows, n_threads):
    for _, tasks in layered_step(SEED, rows, rows, n_threads, 272):
        by_panel = {}
        for kind, layer, index, first, n in tasks:
            if KINDS[kind] in ("gather", "forward", "loss", "backward"):
                assert 0 < n <= 128
                by_panel.setdefault((layer, index), []).extend(range(first, first + n))
        assert all(found == list(range(rows)) for found in by_panel.values())


def test_a_chained_step_is_two_phases():
    phases = chained_step(300, 3, 5)
    assert names(phases) == ["chain", "cost"]
    assert [task[3:] for task in phases[0][1]] == [(0, 100), (100, 100), (200, 100)]
    assert [KINDS[task[0]] for task in phases[1][1]] == ["cost"] + ["sum"] * 5
    assert all(task[4] == 3 for task in phases[1][1][1:])
