"""A file whole or not at all: written beside its place, and put there in one step."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import shutil
from collections.abc import Iterator
from typing import BinaryIO

__all__ = ["replacing"]


@contextlib.contextmanager
def replacing(path: str) -> Iterator[BinaryIO]:
    """Open a stream whose bytes become the file `path` at the end of the block, unless that ends by an exception.

    Parameters
    ----------
    path : str
        The file, replaced if it exists: its permissions stay, and a symbolic link to it stays one.

    Raises
    ------
    OSError
        The file cannot be written; ``FileNotFoundError`` names the folder where that is missing.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from fastmlp.files.atomic import replacing
    >>> path = Path(tempfile.mkdtemp(), "greeting")
    >>> with replacing(str(path)) as stream:
    ...     _ = stream.write(b"hello")
    >>> path.read_bytes()
    b'hello'
    """
    target = os.path.realpath(path)
    if os.path.exists(target) and not os.path.isfile(target):
        raise OSError(f"{path} is a directory or a device, not a file that can be replaced")
    folder = os.path.dirname(target)
    _remove_leftovers(folder)
    stream = _create(folder)
    try:
        with stream:
            if os.path.exists(target):
                shutil.copymode(target, stream.name)
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
            os.replace(stream.name, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(stream.name)
        raise
    _sync(folder)


def _create(folder: str) -> BinaryIO:
    """Open a new file of a name that is short, as the target's own may be as long as names can be.

    It is locked for as long as it is open, so that `_remove_leftovers` can tell it from one whose writer was killed.
    """
    while True:
        name = os.path.join(folder, f"fastmlp-{os.urandom(8).hex()}.tmp")
        try:
            stream = open(name, "xb")  # noqa: SIM115 - replacing closes it
        except OSError as error:
            raise OSError(error.errno, error.strerror, folder) from None  # which the caller has heard of
        if _is_kept(stream):
            return stream
        stream.close()


def _is_kept(stream: BinaryIO) -> bool:
    """Lock a new file; False where another save was quicker, and removes it as a leftover."""
    try:
        _lock(stream)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks, where leftovers stay
        pass
    return os.path.exists(stream.name)


def _remove_leftovers(folder: str) -> None:
    for name in glob.glob(f"fastmlp-{'[0-9a-f]' * 16}.tmp", root_dir=folder):
        with contextlib.suppress(OSError), open(os.path.join(folder, name), "r+b") as stream:
            _lock(stream)
            os.unlink(stream.name)


def _lock(stream: BinaryIO) -> None:
    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _sync(folder: str) -> None:
    """See that the file's new name outlasts a power failure, where the file system can do that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
