"""The package as a whole: what importing it costs, its public names, and its documentation."""

import doctest
import importlib
import importlib.metadata
import inspect
import os
import pkgutil
import re
import shutil
import warnings
from pathlib import Path

import pytest

import fastmlp
from fastmlp import threads
from fastmlp.engine import table

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # packages are imported for it: an old matplotlib warns of a new pyparsing
    MODULES = ["fastmlp", *(info.name for info in pkgutil.walk_packages(fastmlp.__path__, "fastmlp."))]
# Importing this one runs the command.
MODULES.remove("fastmlp.__main__")
MODULES.remove("fastmlp.engine._shared")  # Cython's own
# What some commands and files need, and what only extras need.
HEAVY = {
    *("argparse", "dataclasses", "gzip", "hashlib", "json", "logging", "multiprocessing", "pickle", "tempfile", "zlib"),
    *("pathlib", "queue", "threading", "traceback", "urllib"),
    *("safetensors", "tqdm", "matplotlib", "pandas", "PIL", "scipy", "sklearn", "torch", "numpy.ma"),
}


def public(module):
    """The public classes and functions that a module defines."""
    for name in getattr(module, "__all__", []):
        value = getattr(module, name)
        if getattr(value, "__module__", None) == module.__name__ and callable(value):
            yield name, value


def module_of(name):
    if name.startswith("fastmlp.sklearn"):
        pytest.importorskip("sklearn", reason="the estimators need scikit-learn")
    return importlib.import_module(name)


def imported(run_python, statement):
    result = run_python(f"{statement}\nimport sys\nprint(*sorted(sys.modules))")
    assert result.returncode == 0, result.stderr
    return set(result.stdout.split())


# ---- Importing


@pytest.mark.slow
def test_importing_loads_nothing_that_only_some_need(run_python):
    before, after = imported(run_python, "import numpy"), imported(run_python, "import fastmlp")
    assert "fastmlp.network" in after - before
    assert not (after - before) & HEAVY


@pytest.mark.slow
def test_training_and_predicting_load_nothing_either(run_python):
    program = "import fastmlp, numpy as np\nnet = fastmlp.MLP((2, 2))\nnet.fit(np.eye(2), [0, 1], verbose=False)\n"
    before = imported(run_python, "import numpy, numpy.random")
    after = imported(run_python, program + "net.evaluate(np.eye(2), [0, 1]), net.predict_proba(np.eye(2))")
    assert not (after - before) & HEAVY


@pytest.mark.slow
def test_the_first_fit_imports_nothing(run_python):
    """A Cython module that is imported when Ctrl-C comes goes on as if nothing were: better not within a fit."""
    program = "import fastmlp, numpy as np\nnet = fastmlp.MLP((2, 2))\n"
    before = imported(run_python, program)
    assert "fastmlp.engine.trainer" in before
    assert imported(run_python, program + "net.fit(np.eye(2), [0, 1], epochs=1, verbose=False)") == before


def test_importing_leaves_the_process_as_it_was(run_python):
    program = """
import os, signal, threading, warnings
import numpy as np
def state():
    return (dict(os.environ), signal.getsignal(signal.SIGINT), threading.active_count(), list(warnings.filters),
            np.geterr(), np.random.get_state()[1].tolist(), os.getcwd())
before = state()
import fastmlp
print(state() == before)
"""
    result = run_python(program)
    assert (result.returncode, result.stdout, result.stderr) == (0, "True\n", "")


@pytest.fixture(scope="module")
def uncompiled(tmp_path_factory):
    """A folder with the package's Python files alone, as in a clone in which nothing has been built."""
    folder = tmp_path_factory.mktemp("clone")
    ignored = shutil.ignore_patterns("*.so", "mnist", "__pycache__")
    shutil.copytree(Path(fastmlp.__file__).parent, folder / "fastmlp", ignore=ignored)
    return folder


def test_sources_that_are_not_compiled_say_so_and_what_to_type(run_python, uncompiled):
    finished = run_python("import fastmlp", env={"PYTHONPATH": str(uncompiled)})
    assert finished.returncode == 1
    assert finished.stderr.splitlines()[-1] == (
        f"ImportError: {uncompiled} holds the sources of fastmlp, not compiled for this Python: "
        "type 'pip install .' there, or start Python in another folder to use what is installed"
    )


def test_other_failures_of_the_import_keep_their_own_words(run_python, uncompiled, tmp_path):
    (tmp_path / "numpy.py").write_text("raise ImportError('no NumPy today')")
    path = os.pathsep.join([str(tmp_path), str(Path(fastmlp.__file__).parents[1])])
    finished = run_python("import fastmlp", env={"PYTHONPATH": path})
    assert finished.stderr.splitlines()[-1] == "ImportError: no NumPy today"


@pytest.mark.parametrize("program", ["the script", "python -m"])
@pytest.mark.parametrize("fault", ["not compiled", "FASTMLP_ISA"])
def test_the_command_says_in_one_line_why_it_cannot_start(run_python, uncompiled, tmp_path, program, fault):
    folder = uncompiled if fault == "not compiled" else Path(fastmlp.__file__).parents[1]
    script = tmp_path / "fastmlp"  # as pip writes it
    script.write_text("import sys\nfrom fastmlp.cli import main\nsys.exit(main())\n")
    arguments = [str(script)] if program == "the script" else ["-m", "fastmlp"]
    environment = {"PYTHONPATH": str(folder), "FASTMLP_ISA": "bogus" if fault == "FASTMLP_ISA" else None}
    finished = run_python([*arguments, "info"], env=environment)
    assert (finished.returncode, finished.stdout) == (2, "")
    assert re.fullmatch(rf"fastmlp: error: .*{fault}.*\n", finished.stderr)


# ---- Names


@pytest.mark.parametrize("name", MODULES)
def test_all_names_what_is_there(name):
    module = module_of(name)
    if name.rpartition(".")[2].startswith("_") or name.startswith("fastmlp.engine"):
        return  # for the package's own use
    exported = module.__all__
    assert sorted(set(exported)) == sorted(exported)
    for each in exported:
        assert not each.startswith("_")
        assert hasattr(module, each), each


def test_the_names_a_user_types():
    assert set(fastmlp.__all__) >= {
        "MLP",
        "SGD",
        "Adam",
        "AdamW",
        "DivergenceError",
        "FileFormatError",
        "load",
        "load_mnist",
        "show_config",
        "callbacks",
        "kernels",
    }
    assert set(fastmlp.__all__) <= set(dir(fastmlp))
    namespace = {}
    exec("from fastmlp import *", namespace)
    assert set(fastmlp.__all__) <= set(namespace)


@pytest.mark.slow
def test_modules_that_few_need_are_attributes_too(run_python):
    pytest.importorskip("matplotlib", reason="plots need it")
    program = "import fastmlp\nprint(fastmlp.images.prepare, fastmlp.plots.write_all, fastmlp.recipes.train)"
    result = run_python(["-c", program])  # an old matplotlib is warned of by what it stands on
    assert (result.returncode, result.stderr) == (0, "")
    with pytest.raises(AttributeError, match="module 'fastmlp' has no attribute 'image'"):
        _ = fastmlp.image


def test_errors_are_of_the_kinds_that_python_has():
    assert issubclass(fastmlp.DivergenceError, ArithmeticError)
    assert issubclass(fastmlp.FileFormatError, ValueError)


def test_the_version():
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+|rc\d+)?", fastmlp.__version__)
    try:
        installed = importlib.metadata.version("fastmlp")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("fastmlp is imported from its sources, not installed")
    assert installed == fastmlp.__version__


def test_show_config(capsys):
    fastmlp.show_config()
    version, isa, openmp, n_threads = capsys.readouterr().out.splitlines()
    assert version == f"fastmlp {fastmlp.__version__}"
    assert isa.startswith(f"instruction set: {table.isa()}; compiled in: ")
    assert all(name in isa for name in table.isas())
    assert openmp == f"OpenMP: {'yes' if table.OPENMP else 'no'}"
    assert n_threads == f"threads: {threads.available()}"


def test_show_config_tells_the_forced_instruction_set_and_threads(run_python):
    environment = {"FASTMLP_ISA": "scalar", "OMP_NUM_THREADS": "3"}
    result = run_python("import fastmlp; fastmlp.show_config()", env=environment)
    assert "instruction set: scalar; compiled in: " in result.stdout
    assert f"threads: {3 if table.OPENMP else 1}\n" in result.stdout


# ---- Documentation


@pytest.mark.parametrize("name", MODULES)
def test_everything_public_is_documented_with_an_example(name):
    module = module_of(name)
    assert module.__doc__
    for each, value in public(module):
        assert inspect.getdoc(value), f"{name}.{each}"
        if not (inspect.isclass(value) and issubclass(value, Exception)):
            assert ">>>" in value.__doc__, f"{name}.{each} has no example"
        if inspect.isclass(value):
            for member, attribute in vars(value).items():
                if not member.startswith("_") and (callable(attribute) or isinstance(attribute, property)):
                    assert inspect.getdoc(attribute), f"{name}.{each}.{member}"


@pytest.mark.parametrize("method", ["fit", "predict", "predict_proba", "logits", "evaluate", "save"])
def test_every_method_of_a_network_has_an_example(method):
    assert ">>>" in getattr(fastmlp.MLP, method).__doc__


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_run(name):
    module = module_of(name)
    drawn = dict.fromkeys([module for module in MODULES if module.startswith("fastmlp.plots")], "matplotlib")
    needs = {**drawn, "fastmlp.images": "PIL", "fastmlp.pictures": "PIL"}
    if name in needs:
        pytest.importorskip(needs[name], reason="the examples need an extra")
    examples = [test for test in doctest.DocTestFinder(exclude_empty=True).find(module, name) if test.examples]
    assert examples or not list(public(module)) or all(issubclass(v, Exception) for _, v in public(module))
    report = []
    for test in examples:
        runner = doctest.DocTestRunner(verbose=False)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            runner.run(test, out=report.append)
    assert not report, "".join(report)
