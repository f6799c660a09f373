"""What the command says on standard error: a line for each error and each warning."""

import sys


def fail(status: int, message: str) -> int:
    print("fastmlp:", " ".join(message.split()), file=sys.stderr)
    return status


def show_warning(message: Warning | str, *_: object, **__: object) -> None:
    print("fastmlp: warning:", " ".join(str(message).split()), file=sys.stderr)


def reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)
