"""What the command says on standard error: a line for each error and each warning."""

import sys


def say(message: str) -> None:
    # In one piece, its end too: `print` writes a piece an argument, and ranks of mpiexec write beside each other.
    print(f"fastmlp: {' '.join(message.split())}\n", end="", file=sys.stderr)


def fail(status: int, message: str) -> int:
    say(message)
    return status


def show_warning(message: Warning | str, *_: object, **__: object) -> None:
    say(f"warning: {message}")


def reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)
