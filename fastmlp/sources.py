"""Where the chunks of a stream come from: what all have in common, and arrays and what a user iterates over."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np

from fastmlp.mapped import MappedFile

__all__ = ["CHUNK_BYTES", "Arrays", "Chunk", "Iterated", "Share", "Source", "naming"]

# Of rows as float32: large enough that a disk reads them at full speed, small enough to stay in a cache until they are
# checked and copied.
CHUNK_BYTES = 1 << 22
# Chunks of a mapped file that the disk is asked for ahead: enough that it is never idle.
DEPTH = 4


class Chunk(NamedTuple):
    """Some rows as they come, and where they stand, for messages.

    Examples
    --------
    >>> from fastmlp.sources import Chunk
    >>> Chunk("chunk 0", [[1, 2]], [0]).n
    1
    """

    name: str
    X: Any
    y: Any = None
    weight: Any = None

    @property
    def n(self) -> int:
        """Rows, before anything else is checked."""
        if getattr(self.X, "shape", ()):
            return int(self.X.shape[0])
        if not hasattr(self.X, "__len__") or hasattr(self.X, "shape"):
            raise TypeError(f"X must be an array of rows, not {self.X!r:.80}")
        return len(self.X)


class Source:
    """What can be read again, chunk by chunk.

    Attributes
    ----------
    sizes : sequence of float, or None
        Rows of each chunk, where these may be read in any order: NaN of one that is not counted. None where they only
        come one after the other.
    one_shot : bool
        Whether it can be read only once.
    is_fixed : bool
        Whether its rows are the same each time.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp.sources import Arrays
    >>> source = Arrays(np.eye(5), np.arange(5), None, chunk_rows=2)
    >>> [chunk.name for chunk in source.read([2, 0])]
    ['rows 4 to 4', 'rows 0 to 1']
    """

    sizes: Sequence[float] | None = None
    one_shot = False
    is_fixed = True

    @property
    def n(self) -> int | None:
        """Rows, where they are counted."""
        n = math.nan if self.sizes is None else sum(self.sizes)
        return None if math.isnan(n) else int(n)

    @property
    def n_chunks(self) -> int | None:
        """Chunks that may be read in any order; None where they only come one after the other."""
        return None if self.sizes is None else len(self.sizes)

    def read(self, order: Sequence[int] | None) -> Iterator[Chunk]:
        """Yield the chunks in this order; None where they have no other than their own."""
        raise NotImplementedError


class Share(Source):
    """One of so many parts of a source: every `parts`-th of its chunks, from number `part` on.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp.sources import Arrays, Share
    >>> source = Arrays(np.eye(5), np.arange(5), None, chunk_rows=2)
    >>> share = Share(source, part=0, parts=2)
    >>> share.n, [chunk.name for chunk in share.read([0, 1])]
    (3, ['rows 0 to 1', 'rows 4 to 4'])
    """

    def __init__(self, source: Source, part: int, parts: int) -> None:
        if source.sizes is None:
            raise TypeError("chunks that only come one after the other have no shares; a function can yield a rank's")
        self.source, self.is_fixed = source, source.is_fixed
        self.numbers, self.sizes = range(part, len(source.sizes), parts), source.sizes[part::parts]

    def read(self, order: Sequence[int] | None) -> Iterator[Chunk]:
        """Yield these of its chunks."""
        return self.source.read([self.numbers[i] for i in order or ()])


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Begin the message of what is wrong with a chunk with its name.

    Examples
    --------
    >>> from fastmlp.sources import naming
    >>> with naming("chunk 3"):
    ...     raise ValueError("y is missing")
    Traceback (most recent call last):
    ValueError: chunk 3: y is missing
    """
    try:
        yield
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{name}: {error}") from error


class Arrays(Source):
    """Arrays and what is cut like one, as HDF5's and Zarr's; a memory-mapped file in large pieces.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp.sources import Arrays
    >>> Arrays(np.eye(5), None, None, chunk_rows=3).sizes
    [3, 2]
    """

    def __init__(self, X: Any, y: Any, weight: Any, chunk_rows: int | None) -> None:
        self.arrays = X, *(None if array is None else _sliceable(array) for array in (y, weight))
        n = X.shape[0]
        for name, array in zip(("y", "sample_weight"), self.arrays[1:], strict=True):
            if array is not None and array.shape[:1] != (n,):
                raise ValueError(f"{name} must have a row for each row of X, {n}; it has shape {array.shape}")
        self.files = [
            MappedFile(name, array)
            for name, array in zip(("X", "y", "sample_weight"), self.arrays, strict=True)
            if array is not None
        ]
        self.chunk_rows = chunk_rows or max(1, CHUNK_BYTES // (4 * max(1, math.prod(X.shape[1:]))))
        self.sizes = [min(self.chunk_rows, n - first) for first in range(0, n, self.chunk_rows)]

    def read(self, order: Sequence[int] | None) -> Iterator[Chunk]:
        """Yield rows, the next ones of mapped files asked for."""
        n = self.arrays[0].shape[0]
        places = [slice(i * self.chunk_rows, min(n, (i + 1) * self.chunk_rows)) for i in order or ()]
        for here in places[:DEPTH]:
            self._each(MappedFile.expect, here)
        for here, later in zip_longest(places, places[DEPTH:]):
            self._each(MappedFile.require, here)
            if later is not None:
                self._each(MappedFile.expect, later)
            name = f"rows {here.start} to {here.stop - 1}"
            yield Chunk(name, *(None if array is None else array[here] for array in self.arrays))
            self._each(MappedFile.forget, here)

    def _each(self, what: Callable[[MappedFile, slice], None], rows: slice) -> None:
        for file in self.files:
            what(file, rows)


def _sliceable(array: Any) -> Any:
    return array if hasattr(array, "shape") else np.asarray(array)


class Iterated(Source):
    """What yields X, (X, y) or (X, y, weight); a list of these may be read in any order.

    Examples
    --------
    >>> from fastmlp.sources import Iterated
    >>> Iterated(iter([([[1, 2]], [0])])).one_shot
    True
    """

    is_fixed = False

    def __init__(self, chunks: Iterable[Any] | Callable[[], Iterable[Any]]) -> None:
        self.chunks = chunks
        self.one_shot = isinstance(chunks, Iterator)
        self.spent = False
        if isinstance(chunks, (list, tuple)):
            self.sizes = []
            for i, chunk in enumerate(chunks):
                with naming(f"chunk {i}"):
                    self.sizes.append(_chunk(i, chunk).n)

    def read(self, order: Sequence[int] | None) -> Iterator[Chunk]:
        """Yield chunks as they come."""
        if self.spent:
            raise ValueError("chunks is an iterator that has been read; a function that returns one is read anew")
        self.spent = self.one_shot
        if isinstance(self.chunks, (list, tuple)):
            numbered: Iterable[tuple[int, Any]] = ((i, self.chunks[i]) for i in order or ())
        else:
            chunks = self.chunks() if callable(self.chunks) else self.chunks
            if not hasattr(chunks, "__iter__"):
                raise TypeError(f"chunks() must return an iterable of (X, y), not {chunks!r:.80}")
            numbered = enumerate(chunks)
        for i, chunk in numbered:
            with naming(f"chunk {i}"):
                found = _chunk(i, chunk)
            yield found


def _chunk(i: int, chunk: Any) -> Chunk:
    if not isinstance(chunk, (tuple, list)):
        return Chunk(f"chunk {i}", chunk)
    if not 1 <= len(chunk) <= 3:
        came = f"{type(chunk).__name__} of {len(chunk)}"
        raise ValueError(f"it must be (X, y) or (X, y, weight), not a {came}")
    return Chunk(f"chunk {i}", *chunk)
