"""Tables and blocks that others keep, as chunks of a stream: Parquet's row groups, Dask's blocks and partitions."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastmlp.sources import CHUNK_BYTES, Chunk, Source, naming

__all__ = ["DaskArray", "DaskFrame", "Parquet"]

# Bytes of a Parquet file's column that are read at a time, at least.
LEAST_BUFFER = 1 << 14


class Parquet(Source):
    """A Parquet file, or all of a folder, by row group; of a large row group some rows at a time.

    Examples
    --------
    >>> import fastmlp
    >>> fastmlp.rows.Stream("rows.parquet", y="label")  # doctest: +SKIP
    Stream(Parquet, n=60000)
    """

    def __init__(
        self,
        name: str | bytes | os.PathLike[str] | os.PathLike[bytes],
        y: Any,
        weight: Any,
        columns: Sequence[str] | None,
        chunk_rows: int | None,
    ) -> None:
        path = Path(os.fsdecode(name))
        self.parquet = _pyarrow_parquet()
        files = _files(path) if path.is_dir() else [path]
        if not files:
            raise FileNotFoundError(f"chunks must name a Parquet file or a folder of them; {path} has no *.parquet")
        metadata, schemas = {}, {}
        for file in files:
            opened = self._opened(file)
            metadata[file], schemas[file] = opened.metadata, opened.schema_arrow
        self.names = _names(schemas[files[0]].names, y, weight, columns, str(files[0]))
        for file in files:
            self._require_columns(file, schemas[file])
        self.groups = [(file, i, metadata[file]) for file in files for i in range(metadata[file].num_row_groups)]
        self.sizes = [found.row_group(i).num_rows for _, i, found in self.groups]
        self.chunk_rows = chunk_rows or max(1, CHUNK_BYTES // (4 * max(1, len(self.names.X))))

    def read(self, order: Sequence[int] | None) -> Iterator[Chunk]:
        """Yield row groups, some rows at a time."""
        for i in order or ():
            path, group, metadata = self.groups[i]
            name = f"row group {group} of {path}"
            wanted = list(dict.fromkeys((*self.names.X, *self.names.others)))
            for batch in self._batches(path, metadata, group, wanted):
                with naming(name):
                    chunk = self._chunk(name, batch)
                yield chunk

    def _batches(self, path: Path, metadata: Any, group: int, wanted: list[Any]) -> Iterator[Any]:
        # What pyarrow reads at a time, of each column: by default it would be all of the row group.
        buffer_size = max(LEAST_BUFFER, CHUNK_BYTES // len(wanted))
        try:
            with self.parquet.ParquetFile(path, metadata=metadata, buffer_size=buffer_size, pre_buffer=False) as file:
                yield from file.iter_batches(self.chunk_rows, [group], wanted, use_threads=False)
        except (OSError, ValueError) as error:  # which pyarrow's are
            raise OSError(f"row group {group} of {path} cannot be read: {error}") from error

    def _opened(self, path: Path) -> Any:
        try:
            return self.parquet.ParquetFile(path)
        except ValueError as error:  # pyarrow's, of what is no such file
            raise ValueError(f"chunks must name Parquet files; {path} is none: {error}") from error

    def _require_columns(self, path: Path, schema: Any) -> None:
        """Each file has the columns, and they are numbers."""
        from pyarrow import types  # noqa: PLC0415 - an extra, as below

        _require_names((*self.names.X, *self.names.others), schema.names, str(path))
        uses = [*(("X", name) for name in self.names.X), ("y", self.names.y), ("sample_weight", self.names.weight)]
        for use, name in uses:
            if name is None:
                continue
            kind = schema.field(name).type
            kind = kind.value_type if types.is_dictionary(kind) else kind
            if not (types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)):
                raise TypeError(f"{use} must be of numbers; column {name!r} of {path} is {kind}")

    def _chunk(self, name: str, batch: Any) -> Chunk:
        def column(name: str) -> Any:
            return batch.column(name).to_numpy(zero_copy_only=False)

        for wanted in self.names.others:
            if batch.column(wanted).null_count:
                raise ValueError(f"column {wanted!r} must have a value in each row; some are null")
        X = np.empty((batch.num_rows, len(self.names.X)), np.float32)
        for j, wanted in enumerate(self.names.X):
            X[:, j] = column(wanted)
        others = (self.names.y, self.names.weight)
        return Chunk(name, X, *(None if wanted is None else column(wanted) for wanted in others))


def _files(folder: Path) -> list[Path]:
    """The files of a folder and of those in it, but for hidden ones and what is being written, as others read them."""

    def is_hidden(path: Path) -> bool:
        return any(part.startswith((".", "_")) for part in path.relative_to(folder).parts)

    return sorted(path for path in folder.rglob("*.parquet") if path.is_file() and not is_hidden(path))


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
    if isinstance(columns, str):
        raise TypeError(f"columns must be a list of names of columns, not {columns!r}")
    wanted = [name for name in there if name not in (y, weight)] if columns is None else list(columns)
    for name in wanted:
        if name in (y, weight):
            raise ValueError(f"columns must be those of X; {name!r} is that of y or sample_weight")
        if there.count(name) > 1:
            raise ValueError(f"column {name!r} is there {there.count(name)} times in {where}")
    names = _Names(wanted, y, weight)
    _require_names((*names.X, *names.others), there, where)
    return names


def _require_names(wanted: Iterable[Any], there: Sequence[Any], where: str) -> None:
    for name in wanted:
        if name not in there:
            shown = ", ".join(map(repr, there[:8])) + (", ..." if len(there) > 8 else "")
            raise ValueError(f"column {name!r} is missing in {where}, which has {shown}")


class DaskArray(Source):
    """A Dask array by its blocks of rows.

    Examples
    --------
    >>> import fastmlp
    >>> from dask import array  # doctest: +SKIP
    >>> fastmlp.rows.Stream(array.ones((6, 2), chunks=(3, -1)))  # doctest: +SKIP
    Stream(DaskArray, n=6)
    """

    def __init__(self, X: Any, y: Any, weight: Any) -> None:
        if X.ndim == 2 and X.numblocks[1] > 1:
            X = X.rechunk({1: -1})
        for name, array in (("y", y), ("sample_weight", weight)):
            if array is not None and getattr(array, "numblocks", (0,))[0] != X.numblocks[0]:
                raise ValueError(f"{name} must be a Dask array in as many blocks of rows as X, {X.numblocks[0]}")
        self.arrays = X, y, weight
        self.sizes = X.chunks[0]

    def read(self, order: Sequence[int] | None) -> Iterator[Chunk]:
        """Yield blocks."""
        from dask.base import compute  # noqa: PLC0415 - who has such an array has it

        for i in order or ():
            yield Chunk(f"block {i}", *compute(*(None if array is None else array.blocks[i] for array in self.arrays)))


class DaskFrame(Source):
    """A Dask data frame by its partitions.

    Examples
    --------
    >>> import fastmlp
    >>> fastmlp.rows.Stream(frame, y="label", n=len(frame))  # doctest: +SKIP
    Stream(DaskFrame, n=60000)
    """

    def __init__(self, frame: Any, y: Any, weight: Any, columns: Sequence[str] | None) -> None:
        self.frame = frame
        self.names = _names(frame.columns, y, weight, columns, "the data frame")
        self.sizes = [math.nan] * frame.npartitions

    def read(self, order: Sequence[int] | None) -> Iterator[Chunk]:
        """Yield partitions."""
        for i in order or ():
            part = self.frame.partitions[i].compute()
            others = (None if name is None else part[name].to_numpy() for name in (self.names.y, self.names.weight))
            yield Chunk(f"partition {i}", part[self.names.X], *others)
