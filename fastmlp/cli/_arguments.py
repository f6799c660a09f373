"""How the command line is read: the parser, and what the values of options may be.

A value that is refused raises `argparse.ArgumentTypeError`, whose message argparse puts behind the option's name.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn


class Parser(argparse.ArgumentParser):
    """A parser that tells its errors as `main` tells all others."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message} (see {self.prog} --help)")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuse what is unknown in the command that it was given to: its help lists what is known."""
        args = sys.argv[1:] if args is None else list(args)
        self._require_command_first(args)
        namespace, unknown = super().parse_known_args(args, namespace)
        if unknown:
            meant = " or ".join(self._meant(unknown))
            self.error(f"unrecognized arguments: {' '.join(unknown)}{meant and f'; did you mean {meant}?'}")
        return namespace, unknown

    def _require_command_first(self, words: list[str]) -> None:
        """Refuse an option of a command where the command should be: argparse would take its value for the command."""
        commands = [action.choices for action in self._actions if isinstance(action, argparse._SubParsersAction)]
        option = words[0].partition("=")[0] if words else ""
        if commands and option.startswith("--") and option not in self._option_string_actions:
            given = [word for word in words if word in commands[0]]
            takers = [name for name, parser in commands[0].items() if option in parser._option_string_actions]
            command = [*given, *takers, *commands[0]][0]
            rest = " ".join(word for word in words if word != command)
            self.error(f"a command comes before its options: {self.prog} {command} {rest}")

    def _meant(self, words: list[str]) -> list[str]:
        """Return the options whose names are like a word, or have it for their initials, as --lr."""
        from difflib import get_close_matches  # noqa: PLC0415 - mistakes are rare

        names = {option[2:]: option for option in self._option_string_actions if option.startswith("--")}
        names |= {"".join(part[0] for part in name.split("-")): names[name] for name in names if "-" in name}
        options = [word.lstrip("-").partition("=")[0] for word in words if word.startswith("-")]
        return [names[name] for option in options for name in get_close_matches(option, names, n=1, cutoff=0.65)]


def data(text: str) -> str:
    if text != "mnist" and not Path(text).is_dir():
        raise argparse.ArgumentTypeError(
            f"wanted 'mnist', or a directory with four files named and made as MNIST's, got {text!r}"
        )
    return text


def count(text: str) -> int:
    with suppress(ValueError):
        # up to what a C int holds
        if 1 <= int(text) < 2**31:
            return int(text)
    raise argparse.ArgumentTypeError(f"wanted a whole number from 1, got {text!r}")


def seed(text: str) -> int:
    with suppress(ValueError):
        if 0 <= int(text) < 2**64:
            return int(text)
    raise argparse.ArgumentTypeError(f"wanted a whole number from 0 to 2**64 - 1, got {text!r}")


def rate(text: str) -> float:
    with suppress(ValueError):
        if 0 < float(text) < math.inf:
            return float(text)
    raise argparse.ArgumentTypeError(f"wanted a positive number, got {text!r}")


def number(text: str) -> float:
    with suppress(ValueError):
        return float(text)
    raise argparse.ArgumentTypeError(f"wanted a number, got {text!r}")


def numbers(text: str) -> float | tuple[float, ...]:
    each = tuple(number(one) for one in text.split(","))
    return each[0] if len(each) == 1 else each


def sizes(text: str) -> tuple[int, ...]:
    try:
        return tuple(count(size) for size in text.split(","))
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"wanted whole numbers from 1 as in 256,256, got {text!r}") from None


def file(text: str) -> str:
    """Refuse before the training what could not be written after it."""
    path = Path(text)
    if path.exists() and not path.is_file():
        raise argparse.ArgumentTypeError(f"{text!r} is no file")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} cannot be written: there is no directory {str(path.parent)!r}")
    if not _takes_files(path.parent) or (path.exists() and not os.access(path, os.W_OK)):
        raise argparse.ArgumentTypeError(f"{text!r} cannot be written: no permission")
    return text


def file_or_output(text: str) -> str:
    return text if text == "-" else file(text)


def directory(text: str) -> str:
    """Refuse before the training what could not be made or filled after it."""
    place = next(place for place in (Path(text), *Path(text).absolute().parents) if place.exists())
    if not place.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} cannot be a directory: {str(place)!r} is a file")
    if not _takes_files(place):
        raise argparse.ArgumentTypeError(f"{text!r} cannot be written: no permission in {str(place)!r}")
    return text


def add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        type=data,
        default="mnist",
        metavar="mnist|DIRECTORY",
        help="MNIST itself, or a directory with four files named as MNIST's (default: %(default)s)",
    )


def path_of(data: str) -> str | None:
    """Return what `load_mnist` takes for a value of ``--data``."""
    return None if data == "mnist" else data


def _takes_files(folder: Path) -> bool:
    """Whether a file can be made there: tried, since permissions know nothing of what even root may not write."""
    import tempfile  # noqa: PLC0415 - few commands need it

    with suppress(OSError), tempfile.TemporaryFile(dir=folder):
        return True
    return False
