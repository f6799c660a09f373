"""The exceptions that fastmlp raises beyond ``ValueError`` and ``TypeError``, and what a failed import says."""

import os
import sys
from typing import NoReturn

__all__ = ["DivergenceError", "FileFormatError"]


class DivergenceError(ArithmeticError):
    """Training produced a loss or a weight that is NaN or infinite.

    The network keeps the weights and the optimizer state of the last finite epoch.
    """


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
