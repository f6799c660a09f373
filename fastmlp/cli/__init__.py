"""The ``fastmlp`` command: train, evaluate, predict, info."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress

import fastmlp
from fastmlp.cli import _arguments, _predict, _train
from fastmlp.cli._messages import fail, reason, show_warning

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the ``fastmlp`` command.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments after the command's name; those of the process by default.

    Returns
    -------
    int
        The exit status: 0; 2 for an error of usage or data, told in one line on standard error; 130 for
        Ctrl-C; 141 when the reader of standard output has gone. A warning is a line on standard error, too.

    Examples
    --------
    >>> from fastmlp.cli import main
    >>> main(["--version"])  # doctest: +ELLIPSIS
    fastmlp ...
    0
    """
    try:
        # only --help and --version make argparse exit: the errors of usage are ValueErrors
        status = 0
        with suppress(SystemExit), warnings.catch_warnings():
            warnings.simplefilter("always", UserWarning)
            warnings.showwarning = show_warning
            options = _parser().parse_args(argv)
            status = options.run(options) or 0
        print(end="", flush=True)
        return status
    except KeyboardInterrupt as stop:
        kept = ": " + "; ".join(stop.args) if stop.args else ""
        return fail(130, f"interrupted{kept}")
    except BrokenPipeError:
        return 141
    except OSError as error:
        return fail(2, f"error: {reason(error)}")
    except MemoryError as error:
        return fail(2, f"error: not enough memory: {error}")
    except (ValueError, ImportError, fastmlp.DivergenceError, fastmlp.FitError) as error:
        return fail(2, f"error: {error}")
    finally:
        # Python flushes once more when it exits: what cannot be written now goes into nothing then
        try:
            print(end="", flush=True)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = _arguments.Parser(
        prog="fastmlp",
        description="Trains multilayer perceptrons on CPUs, fast.",
        epilog="Exit status: 0; 2 after an error, told in one line on standard error; 130 after Ctrl-C.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"fastmlp {fastmlp.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _train.add_command(commands)
    _predict.add_commands(commands)
    info = commands.add_parser(
        "info",
        help="print the version, the instruction set in use and the threads",
        description="Prints the version, the instruction set in use and those compiled in, and the threads.",
        allow_abbrev=False,
    )
    info.set_defaults(run=_info)
    return parser


def _info(_: argparse.Namespace) -> None:
    fastmlp.show_config()
