"""What imports what: each room only rooms below it, so that one can be read, and changed, without those above."""

import ast
import graphlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Imports that run upward: who asks, and for what. Each is within the method that needs it.
DOORS = {
    ("fastmlp.network.MLP.fit", "fastmlp.training"): "training stands where a user looks for it",
    ("fastmlp.network.MLP.save", "fastmlp.files"): "likewise",
    ("fastmlp.ensemble.Ensemble.save", "fastmlp.files.ensemble"): "likewise",
}
CYTHON = re.compile(r"^[ \t]*(?:from[ \t]+(fastmlp[\w.]*)[ \t]+c?import|c?import[ \t]+(fastmlp[\w.]*))\b", re.MULTILINE)


def sources(root):
    """The text of each file of Python and Cython, by the name of its module and its suffix."""
    for path in sorted((root / "fastmlp").rglob("*.p*")):
        if path.suffix in {".py", ".pyx", ".pxd", ".pyi"}:
            name = ".".join(path.relative_to(root).with_suffix("").parts)
            yield name.removesuffix(".__init__"), path.suffix, path.read_text(encoding="utf-8")


def imports_of(node, scope, modules):
    """Yield (class or function, module) of all imports within a node, wherever they stand."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from ((scope, alias.name) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"{scope} imports by a relative name"
            names = {alias.name: f"{child.module}.{alias.name}" for alias in child.names}
            yield from ((scope, full if full in modules else child.module) for full in names.values())
        named = isinstance(child, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        yield from imports_of(child, f"{scope}.{child.name}" if named else scope, modules)


def imports(files):
    """Yield (module, where in it, imported module), for those of this package."""
    files = list(files)
    modules = {module for module, _, _ in files}
    for module, suffix, text in files:
        if suffix in {".py", ".pyi"}:
            found = imports_of(ast.parse(text), module, modules)
        else:
            found = ((module, match[1] or match[2]) for match in CYTHON.finditer(text))
        for scope, target in found:
            if target in modules - {module}:
                yield module, scope, target


def circle(edges):
    """The modules of a circle, or nothing."""
    graph = {}
    for module, target in edges:
        graph.setdefault(module, set()).add(target)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


@pytest.fixture(scope="module")
def found():
    return list(imports(sources(ROOT)))


def test_no_circle_but_through_the_doors(found):
    assert len(found) > 100
    assert circle((module, target) for module, scope, target in found if (scope, target) not in DOORS) == []


@pytest.mark.parametrize("door", DOORS)
def test_a_door_is_there_and_runs_upward(found, door):
    others = [(module, target) for module, scope, target in found if (scope, target) not in DOORS]
    through = [(module, target) for module, scope, target in found if (scope, target) == door]
    assert len(circle(others + through)) > 1


def test_the_engine_imports_nothing_from_above(found):
    engine = {target for module, _, target in found if module.startswith("fastmlp.engine")}
    assert len(engine) > 5
    assert all(target.startswith("fastmlp.engine.") for target in engine)


@pytest.mark.parametrize(
    "text",
    [
        "import fastmlp.b",
        "from fastmlp import b",
        "from fastmlp.b import name",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from fastmlp.b import name",
        "class A:\n    def method(self):\n        from fastmlp import b",
    ],
)
def test_a_circle_is_seen_wherever_the_import_stands(text):
    files = [("fastmlp", ".py", ""), ("fastmlp.a", ".py", text), ("fastmlp.b", ".py", "from fastmlp.c import name")]
    there = [(module, target) for module, _, target in imports([*files, ("fastmlp.c", ".py", "")])]
    assert there == [("fastmlp.a", "fastmlp.b"), ("fastmlp.b", "fastmlp.c")]
    assert circle(there) == []
    for suffix, way_back in [(".py", "import fastmlp.a"), (".pyx", "from fastmlp.a cimport Name")]:
        round_trip = [(module, target) for module, _, target in imports([*files, ("fastmlp.c", suffix, way_back)])]
        assert set(circle(round_trip)) == {"fastmlp.a", "fastmlp.b", "fastmlp.c"}
