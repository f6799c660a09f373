"""What README.md shows is what happens: its Python runs, its commands run, and their output looks like that."""

import doctest
import re
import shlex
import subprocess
import sys
from pathlib import Path

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


@pytest.mark.slow
def test_python_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for line, text in blocks("python"):
        # the blocks go on from one another; the empty lines let a traceback name the README's own
        exec(compile("\n" * (line - 1) + text, README, "exec"), names)
    assert names["net"].evaluate(*names["test"])["accuracy"] > 0.97
    assert {path.suffix for path in tmp_path.iterdir()} >= {".safetensors", ".png"}


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
