"""The program of a step, as lists: which tasks, in which phases, over which rows."""

from collections import Counter

import pytest

from fastmlp.engine.program import KINDS, chained_step, layered_step

# Panels of inputs and of units, blocks of weights, tasks that list columns, normalised, groups of panels back and
# forward: 784-256-256-10, listed
SEED = [(13, 4, 5, 5, False, 13, 4), (4, 4, 4, 4, False, 2, 2), (4, 1, 4, 4, False, 4, 1)]
NORMALISED = [(*layer[:4], True, *layer[5:]) for layer in SEED[:2]] + SEED[2:]


def names(phases):
    """What each phase does, in the order of its tasks: "update 2, backward 1" (layers count from 0)."""
    return [", ".join(dict.fromkeys(f"{KINDS[kind]} {layer}" for kind, layer, *_ in tasks)) for _, tasks in phases]


def test_the_phases_of_the_tutorials_step():
    phases = layered_step(SEED, 100, 100, 2, 272)
    assert names(phases) == [
        "gather 0",
        "forward 0, columns 0",
        "forward 1, columns 1",
        "output 2, columns 2",
        "backward 2, cost 0",
        "update 2, backward 1",
        "update 1, update 0",
    ]
    assert [len(tasks) for _, tasks in phases] == [2, 9, 6, 6, 5, 6, 28]


def test_normalised_layers_have_phases_of_a_task_a_panel():
    phases = layered_step(NORMALISED, 2000, 2000, 2, 272)
    assert names(phases) == [
        "gather 0",
        "forward 0",
        "normalise 0, columns 0",
        "forward 1",
        "normalise 1, columns 1",
        "output 2, columns 2",
        "backward 2, cost 0",
        "normalise backward 1, update 2",
        "backward 1",
        "normalise backward 0, update 1",
        "update 0",
    ]
    for _, tasks in phases:
        rows = {task[3:] for task in tasks if KINDS[task[0]].startswith("normalise")}
        assert rows <= {(0, 2000)}


def test_a_wide_output_has_a_phase_of_its_own_for_the_loss():
    wide = [*SEED[:2], (4, 2, 4, 4, False, 4, 2)]
    assert names(layered_step(wide, 100, 100, 2, 272))[3:5] == ["forward 2, columns 2", "loss 3"]


def test_a_single_layer_takes_three_phases():
    assert names(layered_step(SEED[2:], 100, 100, 2, 272)) == ["gather 0", "output 0, columns 0", "update 0, cost 0"]


def test_each_thread_has_its_share_of_every_layer():
    *_, (_, tasks) = layered_step(SEED, 100, 100, 2, 272)
    for half in tasks[:14], tasks[14:]:
        assert Counter(layer for _, layer, *_ in half) == {0: 10, 1: 4}


def test_panels_that_do_not_share_out_go_by_strips():
    _, (_, tasks), *_ = layered_step([(5, 5, 5, 0, False, 5, 5), (5, 1, 5, 0, False, 5, 1)], 100, 100, 2, 272)
    assert [task[2:] for task in tasks] == [
        *[(0, 0, 100), (1, 0, 100), (4, 0, 48)],
        *[(2, 0, 100), (3, 0, 100), (4, 48, 52)],
    ]


def test_a_gradient_that_is_wanted_whole_is_applied_after_it_is_made():
    made = ["backward 2, cost 0", "gradient 2, backward 1", "gradient 1, gradient 0"]
    assert names(layered_step(SEED, 100, 100, 2, 272, whole=True))[-4:] == [*made, "apply 0"]
    assert names(layered_step(SEED, 100, 100, 2, 272, norm=True))[-5:] == [*made, "norm 0", "apply 0"]
    assert names(layered_step(SEED, 100, 100, 2, 272, cut_at_gradient=True))[-5:] == [*made, "cut 0", "apply 0"]


def test_a_loss_of_pythons_own_comes_before_its_gradient_goes_back():
    phases = names(layered_step(SEED, 100, 100, 2, 272, cut_at_loss=True))
    assert phases[3:6] == ["forward 2, columns 2", "cut 0", "backward 2, cost 0"]


def test_parts_of_a_batch_add_up():
    phases = layered_step(SEED, 1000, 400, 2, 272)
    found = Counter(KINDS[kind] for _, tasks in phases for kind in {task[0] for task in tasks})
    assert found["gather"] == found["output"] == found["cost"] == 3
    assert (found["gradient"], found["add gradient"], found["apply"]) == (2, 4, 1)
    kinds = [KINDS[kind] for _, tasks in phases for kind, *_ in tasks]
    last = len(kinds) - 1 - kinds[::-1].index("gradient")
    assert last < kinds.index("add gradient")
    bases = [base for base, tasks in phases if KINDS[tasks[0][0]] == "gather"]
    assert bases == [0, 333, 666]
    gathered = [
        base + row
        for base, tasks in phases
        if KINDS[tasks[0][0]] == "gather"
        for *_, first, n in tasks
        for row in range(first, first + n)
    ]
    assert gathered == list(range(1000))


@pytest.mark.parametrize("n_threads", [1, 2, 3, 16])
@pytest.mark.parametrize("rows", [1, 23, 24, 100, 513, 2000])
def test_strips_hold_each_row_once_and_not_too_many(rows, n_threads):
    for _, tasks in layered_step(SEED, rows, rows, n_threads, 272):
        by_panel = {}
        for kind, layer, index, first, n in tasks:
            if KINDS[kind] in ("gather", "forward", "output", "backward"):
                assert 0 < n < 512 + 6
                assert first % 2 == 0
                by_panel.setdefault((kind, layer, index), []).extend(range(first, first + n))
        assert all(found == list(range(rows)) for found in by_panel.values())


def test_a_chained_step_is_two_phases():
    phases = chained_step(300, 3, 5)
    assert names(phases) == ["chain 0", "cost 0, sum 0"]
    assert [task[3:] for task in phases[0][1]] == [(0, 100), (100, 100), (200, 100)]
    assert [KINDS[task[0]] for task in phases[1][1]] == ["cost"] + ["sum"] * 5
    assert all(task[4] == 3 for task in phases[1][1][1:])
