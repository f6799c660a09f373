"""The exceptions that fastmlp raises beyond ``ValueError`` and ``TypeError``, and what a failed import says."""

import os
import sys
from typing import NoReturn

__all__ = ["DivergenceError", "FileFormatError", "FitError"]


class DivergenceError(ArithmeticError):
    """Training produced a loss or a weight that is NaN or infinite.

    The network keeps the weights and the optimizer state of the last finite epoch.
    """


class FitError(RuntimeError):
    """Some networks of a call of `fit_many` were not trained to the end; the others were.

    Attributes
    ----------
    errors : dict of int to exception
        What each of them raised, by its number in `networks`.
    """

    def __init__(self, errors: dict[int, Exception]) -> None:
        super().__init__(errors)
        self.errors = errors

    def __str__(self) -> str:
        failed = [f"networks[{i}]" for i in self.errors]
        first = next(iter(self.errors.values()))
        return f"{', '.join(failed)} failed; {failed[0]} by {type(first).__name__}: {first}"


class FileFormatError(ValueError):
    """A file is not what its name or its header says; the message names the byte or the key."""


def refuse_import(error: ImportError) -> NoReturn:
    """Raise why the package cannot be imported; where the ``fastmlp`` command is what started, end it with one line."""
    if error.name == "fastmlp.engine.table" and isinstance(error, ModuleNotFoundError):
        folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        error = ImportError(
            f"{folder} holds the sources of fastmlp, not compiled for this Python: "
            "type 'pip install .' there, or start Python in another folder to use what is installed"
        )
    # the command's own `main` cannot be reached, being part of the package; -m is `python -m fastmlp`
    if os.path.basename("".join(sys.argv[:1])) in ("fastmlp", "-m"):
        print("fastmlp: error:", error, file=sys.stderr)
        raise SystemExit(2)
    raise error from None
