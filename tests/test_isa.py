"""The choice of an instruction set, which is made at import: each one in an interpreter of its own."""

import re
from pathlib import Path

import pytest

from fastmlp import kernels
from fastmlp.engine import table

TESTS = Path(__file__).parent
RUNS = [name for name, runs in table.isas().items() if runs]
ABSENT = sorted({"scalar", "avx2", "avx512", "neon"} - set(table.isas()))
NOT_HERE = [name for name, runs in table.isas().items() if not runs]


@pytest.mark.slow
@pytest.mark.parametrize("isa", [name for name in RUNS if name != kernels.isa()])
def test_the_other_instruction_sets_compute_the_same(isa, run_python):
    """The tests of kernels and engine, one of which asks for the name of the instruction set that it runs with."""
    settings = ["-c", str(TESTS.parent / "pyproject.toml"), "-p", "no:cacheprovider", "-q"]
    files = [str(TESTS / name) for name in ("test_kernels.py", "test_engine.py")]
    finished = run_python(["-m", "pytest", *settings, *files], env={"FASTMLP_ISA": isa}, timeout=900)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    passed = re.search(r"(\d+) passed", finished.stdout)
    assert passed is not None
    assert int(passed[1]) > 400


def test_every_build_has_the_baseline():
    assert list(table.isas())[-1] == "scalar"
    assert "scalar" in RUNS


@pytest.mark.slow
@pytest.mark.parametrize("isa", RUNS)
def test_the_environment_chooses(isa, run_python):
    finished = run_python("from fastmlp import kernels; print(kernels.isa())", env={"FASTMLP_ISA": isa})
    assert finished.stdout == isa + "\n", finished.stderr


@pytest.mark.slow
@pytest.mark.parametrize("unset", [None, ""])
def test_the_best_one_is_used_where_none_is_asked_for(unset, run_python):
    finished = run_python("from fastmlp import kernels; print(kernels.isa())", env={"FASTMLP_ISA": unset})
    assert finished.stdout == RUNS[0] + "\n", finished.stderr


def last_line_of_import(run_python, isa):
    finished = run_python("import fastmlp", env={"FASTMLP_ISA": isa})
    assert finished.returncode == 1
    return finished.stderr.splitlines()[-1]


@pytest.mark.parametrize("isa", ["bogus", "AVX2", *ABSENT])
def test_an_instruction_set_that_is_not_compiled_in(isa, run_python):
    compiled = ", ".join(table.isas())
    expected = f"ImportError: FASTMLP_ISA={isa}: not compiled in; this build has {compiled}"
    assert last_line_of_import(run_python, isa) == expected


@pytest.mark.parametrize("isa", NOT_HERE)
def test_an_instruction_set_that_this_processor_lacks(isa, run_python):
    expected = f"ImportError: FASTMLP_ISA={isa}: this processor cannot run {isa} instructions"
    assert last_line_of_import(run_python, isa) == expected


def test_the_configuration_names_the_instruction_set(run_python):
    finished = run_python("import fastmlp; fastmlp.show_config()", env={"FASTMLP_ISA": "scalar"})
    assert "instruction set: scalar; compiled in: " in finished.stdout
    assert all(isa in finished.stdout for isa in table.isas())
