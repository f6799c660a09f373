"""Memory-mapped files that are read in pieces."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np

__all__ = ["MappedFile"]

# Bytes of a mapped file that Linux may map on either side of what is read.
AROUND = 1 << 16


class MappedFile:
    """What the system should know of a memory-mapped array that is read in pieces; of another one nothing.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp.mapped import MappedFile
    >>> MappedFile("X", np.eye(3)).mapping is None
    True
    """

    def __init__(self, name: str, array: Any) -> None:
        self.name, self.array = name, array
        base = whole = array
        while isinstance(base, np.ndarray):
            base, whole = base.base, base
        self.mapping = base if isinstance(base, mmap.mmap) and isinstance(whole, np.memmap) and len(array) else None
        if self.mapping is not None:
            self.start = np.frombuffer(self.mapping, np.uint8).ctypes.data
            self.begin = whole.offset - whole.offset % mmap.ALLOCATIONGRANULARITY  # of the mapping, within the file
            self.in_turn = whole.mode != "c" and array.flags.c_contiguous
            self.end = self._bytes(slice(None)).stop

    def require(self, rows: slice) -> None:
        """See that the file still has these rows: reading beyond its end would end the process.

        Raises
        ------
        OSError
            It has not.
        """
        if self.mapping is not None and self.mapping.size() < self.begin + self._bytes(rows).stop:
            here = f"rows {rows.start} to {rows.stop - 1}"
            raise OSError(f"{here} cannot be read: the file of {self.name} has been cut to {self.mapping.size()} bytes")

    def expect(self, rows: slice) -> None:
        """Have them read at one go, and not a page at a time as they are touched."""
        self._advise("MADV_WILLNEED", rows)

    def forget(self, rows: slice) -> None:
        """Take their pages from the process; the system may keep them for who reads the file next."""
        self._advise("MADV_DONTNEED", rows, AROUND)

    def _bytes(self, rows: slice) -> slice:
        """From where to where in the mapping they lie."""
        some = self.array[rows]
        start = stop = some.ctypes.data - self.start
        for n, stride in zip(some.shape, some.strides, strict=True):
            start, stop = start + min(0, (n - 1) * stride), stop + max(0, (n - 1) * stride)
        return slice(start, stop + some.itemsize)

    def _advise(self, advice: str, rows: slice, around: int = 0) -> None:
        if self.mapping is not None and self.in_turn and hasattr(mmap, advice):
            bytes_ = self._bytes(rows)
            start = max(0, bytes_.start - around) // mmap.PAGESIZE * mmap.PAGESIZE
            self.mapping.madvise(getattr(mmap, advice), start, min(bytes_.stop + around, self.end) - start)
