"""The tables of losses and activations: others ask them and compare no names, and decisions follow from outputs."""

import ast
from pathlib import Path

import numpy as np
import pytest

import fastmlp
from fastmlp.activations import ACTIVATIONS
from fastmlp.losses import LOGISTIC, LOSSES, SOFTMAX

PACKAGE = Path(fastmlp.__file__).parent


def compared_names(tree):
    """Names of losses or activations among what a module compares."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Compare, ast.MatchValue)):
            strings = {leaf.value for leaf in ast.walk(node) if isinstance(leaf, ast.Constant)}
            yield from strings & {*LOSSES, *ACTIVATIONS}


def test_no_name_is_compared_outside_the_tables():
    found = {
        path.name: names
        for path in PACKAGE.rglob("*.py")
        if (names := set(compared_names(ast.parse(path.read_text(encoding="utf-8")))))
    }
    assert found == {}


@pytest.mark.parametrize("line", ['if loss == "cross_entropy": pass', 'x = 1 if loss in ("a", "squared_error") else 2'])
def test_a_name_that_is_compared_would_be_found(line):
    assert list(compared_names(ast.parse(line)))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("m", [2, 3])
def test_what_is_decided_is_the_likelier(loss, m):
    logits = np.random.default_rng(m).normal(size=(50, m)).astype(np.float32)
    output = LOSSES[loss].output
    outputs, decided = output.forward(logits), output.decide(logits)
    if output is SOFTMAX:
        np.testing.assert_array_equal(decided, outputs.argmax(axis=1))
    elif output is LOGISTIC:
        np.testing.assert_array_equal(decided, outputs > 0.5)
    else:
        np.testing.assert_array_equal(decided, outputs)
