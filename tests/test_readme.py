"""What README.md shows is what happens: its Python runs, its commands run, and their output looks like that."""

import doctest
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

README = Path(__file__).parents[1] / "README.md"

# Installing and testing are for a bare machine, not for a test.
NOT_RUN = {"pip", "pytest"}


def blocks(language):
    """Return (line number, text) of each fenced block in a language."""
    text = README.read_text(encoding="utf-8")
    found = re.finditer(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(text.count("\n", 0, match.start(1)) + 1, match.group(1)) for match in found]


def commands():
    """Yield (command, output shown) of each `$ ` line in console blocks, one of a chain after the other."""
    for _, text in blocks("console"):
        for line, output in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", text, re.MULTILINE):
            *first, last = line.split(" && ")
            yield from ((command, "") for command in first)
            yield last, output


def without_numbers(text):
    return re.sub(r"\d+(\.\d+)*", "0", text)


def run_section(title):
    """Run a section's Python, of which one block goes on from the other; return its names."""
    names, lines = {}, README.read_text(encoding="utf-8").split("\n")
    for line, text in blocks("python"):
        if title == next(above for above in reversed(lines[:line]) if above.startswith("## ")):
            # the empty lines let a traceback name the README's own
            exec(compile("\n" * (line - 1) + text, README, "exec"), names)
    return names


def test_every_python_block_is_in_a_section_that_is_run():
    text = README.read_text(encoding="utf-8")
    sections = re.findall(r"^(## .*)\n((?:(?!## ).*\n)*)", text, re.MULTILINE)
    assert [title for title, body in sections if "```python" in body] == [
        "## Five minutes",
        "## Images put out of shape",
        "## Your own data",
    ]


@pytest.mark.slow
def test_the_digits_are_learnt_and_drawn_and_saved(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = run_section("## Five minutes")
    assert names["net"].evaluate(*names["test"])["accuracy"] > 0.97
    assert {path.suffix for path in tmp_path.iterdir()} >= {".safetensors", ".png"}


@pytest.mark.slow
def test_images_out_of_shape_teach_more():
    names = run_section("## Images put out of shape")
    assert names["net"].evaluate(*names["validation"])["accuracy"] > 0.99


def test_a_table_of_ones_own_is_learnt(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    labels = generator.integers(3, size=300)
    # columns of unlike scale, one of them constant, and labels that do not begin at 0
    columns = 1e4 + 5 * labels, 1e-3 * (labels == 1), np.zeros(300), generator.normal(size=300)
    columns = [column * (1 + 1e-4 * generator.normal(size=300)) for column in columns]
    header, table = "length,width,colour,weight,kind", np.column_stack([*columns, 7 + labels])
    np.savetxt("table.csv", table, delimiter=",", header=header, comments="")

    names = run_section("## Your own data")
    X, y, n, net, curve = (names[name] for name in ("X", "y", "n", "net", "curve"))
    assert (len(X), n) == (300, 240)
    np.testing.assert_allclose(X[:n].std(axis=0), [1, 1, 0, 1], rtol=1e-9)
    assert net.evaluate(X[n:], y[n:])["accuracy"] > 0.95
    assert set(names["classes"][net.predict(X[n:])]) == {7, 8, 9}
    x, price, mean, std = (names[name] for name in ("x", "price", "mean", "std"))
    assert curve.evaluate(x, (price - mean) / std)["r2"] > 0.999
    assert curve.predict([[0.5]]) * std + mean == pytest.approx(300 + 40 * np.sin(0.5), abs=1)


@pytest.mark.slow
def test_commands_run_and_print_what_is_shown(tmp_path):
    programs = set()
    for command, expected in commands():
        program, *arguments = shlex.split(command, comments=True)
        programs.add(program)
        if program in NOT_RUN:
            continue
        assert program == "fastmlp"
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", program, *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), command
        wanted, got = without_numbers(expected), without_numbers(done.stdout)
        assert not wanted or doctest.OutputChecker().check_output(wanted, got, doctest.ELLIPSIS), done.stdout
    assert programs == {*NOT_RUN, "fastmlp"}


def test_links_lead_somewhere():
    links = re.findall(r"\]\(([^)#]+)", README.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (README.parent / link).exists()]
    assert links
    assert not missing
