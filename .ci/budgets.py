#!/usr/bin/env python3
"""Check that files, classes and functions are of a size to be read: 400, 250 and 60 lines, docstrings included.

Of C only the files are measured. Exit status 1 where something is larger and not excepted below, and where an exception
is needed no more.
"""

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILE, CLASS, FUNCTION = 400, 250, 60

EXCEPTIONS = {
    "fastmlp/cli/_train.py:add_command": "a list of options, one after the other",
    "fastmlp/datasets/digits.py:load_mnist": "the docstring is most of it",
    "fastmlp/engine/trainer.pyx": "one class is most of it, which is excepted below",
    "fastmlp/engine/trainer.pyx:Trainer": "state, program and tasks of a step, which all touch the same buffers",
    "fastmlp/engine/parameters.pyx:Parameters": "all that a step changes, and between whom it passes; few lines each",
    "fastmlp/files/loading.py:load": "the docstring is most of it",
    "fastmlp/kernels.py:adam": "the docstring is most of it",
    "fastmlp/sklearn/classifier.py:MLPClassifier": "the docstring and the constructor are most of it",
    "fastmlp/network.py": "the public class; the docstrings are most of it",
    "fastmlp/network.py:MLP": "likewise",
    "fastmlp/network.py:MLP.fit": "the docstring is all of it",
    "fastmlp/plots/confusion.py:confusion_matrix": "one picture, drawn from left to right",
    "fastmlp/reference.py": "the specification, in one place",
    "fastmlp/reference.py:train_step": "the specification reads best in one piece",
    "fastmlp/recipes.py:fit": "the docstring is most of it",
    "fastmlp/training/many.py:fit_many": "the docstring is most of it",
    "tests/test_bench.py:results": "the results of a run, written out",
    "tests/test_cli.py:test_json_has_the_whole_result": "likewise",
}


def main():
    """Print what is wrong; return the exit status."""
    large = {name: f"{n} lines of {budget}" for name, n, budget in measured() if n > budget}
    wrong = [f"{name}: {large[name]}" for name in large if name not in EXCEPTIONS]
    wrong += [f"{name}: within its budget, or gone; drop the exception" for name in EXCEPTIONS if name not in large]
    print("\n".join(wrong) or f"within the budgets, but for {len(EXCEPTIONS)} exceptions")
    return 1 if wrong else 0


def measured():
    """Yield (name, lines, budget) of all files, classes and functions."""
    for path in sourcefiles():
        name, text = path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
        if not name.startswith("tests/"):  # a test file mirrors a module, however much there is to test
            yield name, text.count("\n"), FILE
        find = {".py": of_python, ".pyx": of_cython}.get(path.suffix, lambda _: ())
        for qualified, n, budget in find(text):
            yield f"{name}:{qualified}", n, budget


def sourcefiles():
    """Yield what is written by hand: no C that Cython has made."""
    for folder in ("fastmlp", "src", "bench", "tests"):
        for path in sorted((ROOT / folder).rglob("*.*")):
            made = path.suffix == ".c" and folder == "fastmlp"
            if path.suffix in {".py", ".pyx", ".pxd", ".pyi", ".h", ".c"} and not made:
                yield path


def of_python(text):
    """Yield the classes and functions of Python, by its own parser."""

    def walk(node, outer):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                qualified = f"{outer}{child.name}"
                budget = CLASS if isinstance(child, ast.ClassDef) else FUNCTION
                yield qualified, child.end_lineno - child.lineno + 1, budget
                yield from walk(child, f"{qualified}.")

    yield from walk(ast.parse(text), "")


def of_cython(text):
    """Yield the classes and functions of Cython, by their indentation."""
    lines = text.splitlines()
    for first, line in enumerate(lines):
        head = re.match(r"( *)(?:cdef |cpdef )?(class) (\w+)|( *)(?:cdef|cpdef|def) .*?(\w+)\(", line)
        if head is None:
            continue
        kind, name, indent = head[2], head[3] or head[5], len(head[1] or head[4] or "")
        inside = re.compile(rf" {{{indent + 1}}}| *\)|$")  # deeper, the end of a long signature, or empty
        last = first
        for i in range(first + 1, len(lines)):
            if not inside.match(lines[i]):
                break
            last = i if lines[i] else last
        yield name, last - first + 1, CLASS if kind else FUNCTION


if __name__ == "__main__":
    sys.exit(main())
