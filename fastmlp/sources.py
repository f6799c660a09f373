"""Where the chunks of a stream come from: arrays, memory-mapped files, Parquet, Dask, or what a user iterates over."""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["CHUNK_BYTES", "Chunk", "Share", "Source", "source_of"]

# Of rows as float32: large enough that a disk reads them at full speed, small enough to stay in a cache until they are
# checked and copied.
CHUNK_BYTES = 1 << 22
# Chunks of a mapped file that the disk is asked for ahead: enough that it is never idle.
DEPTH = 4
# Bytes of a mapped file, that Linux may map on either side of what is read.
AROUND = 1 << 16


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
        """Rows, before anything is checked."""
        return int(self.X.shape[0]) if getattr(self.X, "shape", ()) else len(self.X)


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
    >>> from fastmlp.sources import source_of
    >>> source = source_of(np.eye(5), np.arange(5), None, columns=None, chunk_rows=2)
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
    >>> from fastmlp.sources import Share, source_of
    >>> source = source_of(np.eye(5), np.arange(5), None, columns=None, chunk_rows=2)
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


def source_of(chunks: Any, y: Any, weight: Any, *, columns: Sequence[str] | None, chunk_rows: int | None) -> Source:
    """Return the source that a stream's arguments describe; `fastmlp.rows.Stream` says what they may be.

    Examples
    --------
    >>> from fastmlp.sources import source_of
    >>> source_of(lambda: iter([([[1, 2]], [0])]), None, None, columns=None, chunk_rows=None).n_chunks is None
    True
    """
    if isinstance(chunks, Source):
        return chunks
    if isinstance(chunks, (str, bytes, os.PathLike)):
        from pathlib import Path  # noqa: PLC0415 - 5 ms, which only a file is worth

        return _Parquet(Path(os.fsdecode(chunks)), y, weight, columns, chunk_rows)
    if hasattr(chunks, "partitions") and hasattr(chunks, "columns"):
        return _DaskFrame(chunks, y, weight, columns)
    if columns is not None:
        raise TypeError(f"columns names those of a Parquet file or a data frame; chunks are {type(chunks).__name__}")
    if hasattr(chunks, "numblocks"):
        return _DaskArray(chunks, y, weight)
    if hasattr(chunks, "shape"):
        return _Arrays(chunks, y, weight, chunk_rows)
    if y is not None or weight is not None:
        raise TypeError(f"y and sample_weight must be in the chunks, (X, y, weight), of {type(chunks).__name__}")
    if callable(chunks) or hasattr(chunks, "__iter__"):
        return _Iterable(chunks)
    raise TypeError(
        "chunks must be an array, the path of a Parquet file, a Dask collection, an iterable of (X, y) or a function "
        f"that returns one; not {chunks!r:.80}"
    )


class _Arrays(Source):
    """Arrays and what is cut like one, as HDF5's and Zarr's; a memory-mapped file in large pieces."""

    def __init__(self, X: Any, y: Any, weight: Any, chunk_rows: int | None) -> None:
        self.arrays = X, *(None if array is None else _sliceable(array) for array in (y, weight))
        n = X.shape[0]
        for name, array in zip(("y", "sample_weight"), self.arrays[1:], strict=True):
            if array is not None and array.shape[:1] != (n,):
                raise ValueError(f"{name} must have a row for each row of X, {n}; it has shape {array.shape}")
        self.chunk_rows = chunk_rows or max(1, CHUNK_BYTES // (4 * max(1, math.prod(X.shape[1:]))))
        self.sizes = [min(self.chunk_rows, n - first) for first in range(0, n, self.chunk_rows)]

    def read(self, order: Sequence[int] | None) -> Iterator[Chunk]:
        file = _MappedFile(self.arrays[0])
        n = self.arrays[0].shape[0]
        places = [slice(i * self.chunk_rows, min(n, (i + 1) * self.chunk_rows)) for i in order or ()]
        for here in places[:DEPTH]:
            file.expect(here)
        for here, later in zip_longest(places, places[DEPTH:]):
            name = f"rows {here.start} to {here.stop - 1}"
            file.require(here, name)
            if later is not None:
                file.expect(later)
            yield Chunk(name, *(None if array is None else array[here] for array in self.arrays))
            file.forget(here)


def _sliceable(array: Any) -> Any:
    return array if hasattr(array, "shape") else np.asarray(array)


class _MappedFile:
    """What the system should know of a memory-mapped array that is read in pieces; of another one nothing."""

    def __init__(self, X: Any) -> None:
        base = X
        while isinstance(base, np.ndarray):
            base = base.base
        shared = isinstance(X, np.memmap) and X.mode != "c" and X.flags.c_contiguous
        self.mapping = base if shared and isinstance(base, mmap.mmap) and len(X) else None
        if self.mapping is not None:
            self.row_bytes = X.strides[0]
            self.place = X.ctypes.data - np.frombuffer(self.mapping, np.uint8).ctypes.data
            self.begin = X.offset - X.offset % mmap.ALLOCATIONGRANULARITY  # of the mapping, within the file
            self.end = self.place + X.nbytes

    def require(self, rows: slice, name: str) -> None:
        """See that the file still has them: reading beyond its end would end the process."""
        if self.mapping is not None and self.mapping.size() < self.begin + self._bytes(rows).stop:
            raise OSError(f"{name} cannot be read: the file of X has been cut to {self.mapping.size()} bytes")

    def expect(self, rows: slice) -> None:
        """Have them read at one go, and not a page at a time as they are touched."""
        self._advise("MADV_WILLNEED", rows)

    def forget(self, rows: slice) -> None:
        """Take their pages from the process; the system may keep them for who reads the file next."""
        self._advise("MADV_DONTNEED", rows, AROUND)

    def _bytes(self, rows: slice) -> slice:
        return slice(self.place + rows.start * self.row_bytes, min(self.end, self.place + rows.stop * self.row_bytes))

    def _advise(self, advice: str, rows: slice, around: int = 0) -> None:
        if self.mapping is not None and hasattr(mmap, advice):
            bytes_ = self._bytes(rows)
            start = max(0, bytes_.start - around) // mmap.PAGESIZE * mmap.PAGESIZE
            self.mapping.madvise(getattr(mmap, advice), start, min(bytes_.stop + around, self.end) - start)


class _Iterable(Source):
    """What yields X, (X, y) or (X, y, weight); a list of these may be read in any order."""

    is_fixed = False

    def __init__(self, chunks: Iterable[Any] | Callable[[], Iterable[Any]]) -> None:
        self.chunks = chunks
        self.one_shot = isinstance(chunks, Iterator)
        self.spent = False
        if isinstance(chunks, (list, tuple)):
            self.sizes = [_chunk(i, chunk).n for i, chunk in enumerate(chunks)]

    def read(self, order: Sequence[int] | None) -> Iterator[Chunk]:
        if self.spent:
            raise ValueError("chunks is an iterator that has been read; a function that returns one is read anew")
        self.spent = self.one_shot
        if isinstance(self.chunks, (list, tuple)):
            numbered: Iterable[tuple[int, Any]] = ((i, self.chunks[i]) for i in order or ())
        else:
            numbered = enumerate(self.chunks() if callable(self.chunks) else self.chunks)
        for i, chunk in numbered:
            yield _chunk(i, chunk)


def _chunk(i: int, chunk: Any) -> Chunk:
    if not isinstance(chunk, (tuple, list)):
        return Chunk(f"chunk {i}", chunk)
    if not 1 <= len(chunk) <= 3:
        came = f"{type(chunk).__name__} of {len(chunk)}"
        raise ValueError(f"chunk {i}: it must be (X, y) or (X, y, weight), not a {came}")
    return Chunk(f"chunk {i}", *chunk)


class _Parquet(Source):
    """A Parquet file, or all of a folder, by row group; of a large row group some rows at a time."""

    def __init__(self, path: Path, y: Any, weight: Any, columns: Sequence[str] | None, chunk_rows: int | None) -> None:
        self.parquet = _pyarrow_parquet()
        files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
        if not files:
            raise FileNotFoundError(f"chunks must name a Parquet file or a folder of them; {path} has no *.parquet")
        metadata = {file: self._opened(file).metadata for file in files}
        schema = self._opened(files[0]).schema_arrow
        self.names = _names(schema.names, y, weight, columns, str(files[0]))
        for file in files:
            self._require_columns(file)
        self.groups = [(file, i, metadata[file]) for file in files for i in range(metadata[file].num_row_groups)]
        self.sizes = [found.row_group(i).num_rows for _, i, found in self.groups]
        self.chunk_rows = chunk_rows or max(1, CHUNK_BYTES // (4 * max(1, len(self.names.X))))

    def read(self, order: Sequence[int] | None) -> Iterator[Chunk]:
        for i in order or ():
            path, group, metadata = self.groups[i]
            name = f"row group {group} of {path}"
            wanted = list(dict.fromkeys((*self.names.X, *self.names.others)))
            try:
                with self.parquet.ParquetFile(path, metadata=metadata) as file:
                    for batch in file.iter_batches(self.chunk_rows, [group], wanted, use_threads=False):
                        yield self._chunk(name, batch)
            except (OSError, ValueError) as error:  # which pyarrow's are
                raise OSError(f"{name} cannot be read: {error}") from error

    def _opened(self, path: Path) -> Any:
        try:
            return self.parquet.ParquetFile(path)
        except ValueError as error:  # pyarrow's, of what is no such file
            raise ValueError(f"chunks must name Parquet files; {path} is none: {error}") from error

    def _require_columns(self, path: Path) -> None:
        """Each file has the columns, and those of X are numbers."""
        from pyarrow import types  # noqa: PLC0415 - an extra, as below

        schema = self._opened(path).schema_arrow
        _require_names((*self.names.X, *self.names.others), schema.names, str(path))
        for name in self.names.X:
            kind = schema.field(name).type
            if not (types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)):
                raise TypeError(f"X must have columns of numbers; column {name!r} of {path} is {kind}")

    def _chunk(self, name: str, batch: Any) -> Chunk:
        def column(name: str) -> Any:
            return batch.column(name).to_numpy(zero_copy_only=False)

        X = np.empty((batch.num_rows, len(self.names.X)), np.float32)
        for j, wanted in enumerate(self.names.X):
            X[:, j] = column(wanted)
        others = (self.names.y, self.names.weight)
        return Chunk(name, X, *(None if wanted is None else column(wanted) for wanted in others))


def _pyarrow_parquet() -> Any:
    try:
        from pyarrow import parquet  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ImportError(f"a stream of Parquet needs pyarrow: pip install 'fastmlp[parquet]' ({error})") from None
    return parquet


class _Names(NamedTuple):
    """Columns of a table: those of X, and those of y and the weights where there are some."""

    X: list[Any]
    y: Any
    weight: Any

    @property
    def others(self) -> list[Any]:
        return [name for name in (self.y, self.weight) if name is not None]


def _names(there: Iterable[Any], y: Any, weight: Any, columns: Sequence[Any] | None, where: str) -> _Names:
    there = list(there)
    for argument, name in (("y", y), ("sample_weight", weight)):
        if not (name is None or isinstance(name, str)):
            raise TypeError(f"{argument} must be the name of a column of {where}, not {type(name).__name__}")
    wanted = [name for name in there if name not in (y, weight)] if columns is None else list(columns)
    names = _Names(wanted, y, weight)
    _require_names((*names.X, *names.others), there, where)
    return names


def _require_names(wanted: Iterable[Any], there: Sequence[Any], where: str) -> None:
    for name in wanted:
        if name not in there:
            shown = ", ".join(map(repr, there[:8])) + (", ..." if len(there) > 8 else "")
            raise ValueError(f"column {name!r} is missing in {where}, which has {shown}")


class _DaskArray(Source):
    """A Dask array by its blocks of rows."""

    def __init__(self, X: Any, y: Any, weight: Any) -> None:
        if X.ndim == 2 and X.numblocks[1] > 1:
            X = X.rechunk({1: -1})
        for name, array in (("y", y), ("sample_weight", weight)):
            if array is not None and getattr(array, "numblocks", (0,))[0] != X.numblocks[0]:
                raise ValueError(f"{name} must be a Dask array in as many blocks of rows as X, {X.numblocks[0]}")
        self.arrays = X, y, weight
        self.sizes = X.chunks[0]

    def read(self, order: Sequence[int] | None) -> Iterator[Chunk]:
        from dask.base import compute  # noqa: PLC0415 - who has such an array has it

        for i in order or ():
            yield Chunk(f"block {i}", *compute(*(None if array is None else array.blocks[i] for array in self.arrays)))


class _DaskFrame(Source):
    """A Dask data frame by its partitions."""

    def __init__(self, frame: Any, y: Any, weight: Any, columns: Sequence[str] | None) -> None:
        self.frame = frame
        self.names = _names(frame.columns, y, weight, columns, "the data frame")
        self.sizes = [math.nan] * frame.npartitions

    def read(self, order: Sequence[int] | None) -> Iterator[Chunk]:
        for i in order or ():
            part = self.frame.partitions[i].compute()
            others = (None if name is None else part[name].to_numpy() for name in (self.names.y, self.names.weight))
            yield Chunk(f"partition {i}", part[self.names.X], *others)
