"""Rows that are read while they are used, as they may be more than the memory holds."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

from fastmlp import checks
from fastmlp.sources import Arrays, Chunk, Iterated, Share, Source

__all__ = ["Stream", "ahead", "as_stream", "scaled", "source_of"]

T = TypeVar("T")

# Of a window's rows as float32.
WINDOW_BYTES = 1 << 28
# A memory-mapped array of more bytes than this, as float32, is taken for a stream.
MAPPED_BYTES = 1 << 30
# Seconds that the end of a loop over what is made ahead waits for the thread that makes it.
PATIENCE = 0.1


class Stream:
    """Rows that are read in chunks, the next ones in a thread while the engine works: for `fit`, `evaluate`, `predict`.

    Parameters
    ----------
    chunks : array, path, Dask array or data frame, iterable, or function
        An array of rows (n, k), as of `numpy.memmap`, and whatever else has a shape and is cut like one, as h5py's
        datasets; the path of a Parquet file or of a folder of these, which are read by pyarrow (the extra
        ``parquet``); a Dask collection (the extra ``dask``), by its blocks or partitions; or an iterable of chunks X,
        (X, y) or (X, y, weight), or a function that returns a new iterator over such at each call. X of a chunk is
        what `fit` takes, an array or a sparse matrix; so are y and weight. An iterator itself can be read only once,
        for an epoch.
    y : array or str, optional
        Of an array of rows the targets, an array; of Parquet and data frames the column of the targets.
    sample_weight : array or str, optional
        Likewise.
    columns : sequence of str, optional
        Of Parquet and data frames the columns of X, in this order; all others by default.
    scale : float, optional
        X is multiplied by it: ``scale=1 / 255`` for pixels of 8 bits.
    n : int, optional
        How many rows an iterable has. Schedules of the learning rate need to know it.
    chunk_rows : int, optional
        Rows that are read at one go, of an array and of Parquet; some 4 MB of float32 by default.
    window_rows : int, optional
        Rows that are shuffled with each other; see Notes. 256 MB of float32 by default.

    Attributes
    ----------
    n : int or None
        Rows, where they are counted.

    Raises
    ------
    TypeError, ValueError
        An argument is not as described, or a column is missing.
    OSError
        A file cannot be read.
    ImportError
        pyarrow is missing.

    Notes
    -----
    `fit` goes through windows of `window_rows` rows, brought up to a multiple of the batch, of which the last one may
    have fewer. A window is filled across the borders of chunks, so that results do not depend on these, and each batch
    but an epoch's last one is full. With ``shuffle=True`` the rows of a window are shuffled. Besides, chunks of an
    array or a list, Dask's blocks and partitions, and the row groups of Parquet come in a new order each epoch. Those
    of other iterables come as they come: what is in the order of its labels, for one, wants to be shuffled before, or a
    larger window. Both orders are functions of the network's seed and the epoch alone, so that any number of
    threads gives the same bits, and a run goes on from a checkpoint to those of one that was not stopped; from one
    within an epoch it reads the chunks that were learned from, to pass them over. Where all rows are in one window,
    and chunks that come in a new order are counted, as Dask's may not be, or ``shuffle=False``, they are the bits of
    the same rows in memory; unless many values are zero, and not everywhere as many, which rounds otherwise, or there
    is dropout or noise and more than one window.

    Two windows are in memory, that of the engine and the one that is being read, each with the lists of what is not
    zero where X has many zeros: with 256 MB at most 0.6 GB, however many rows there are. To that pyarrow adds a
    page of each column of Parquet, up to 1 MB as most are written; 0.1 GB were measured for 500 columns. What is in one
    window all told is read only once, unless it comes from an iterable, which may yield other rows each time.

    Empty chunks are passed over. What is wrong with a chunk is said with its name, and leaves the network as after the
    window before: its last batch is whole. Callbacks hear nothing while a window is waited for, so that `TimeLimit`,
    other than Ctrl-C, comes after it.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np, fastmlp
    >>> path = os.path.join(tempfile.mkdtemp(), "pixels")
    >>> np.random.default_rng(0).integers(256, size=(1000, 20), dtype=np.uint8).tofile(path)
    >>> pixels = np.memmap(path, np.uint8, "r", shape=(1000, 20))
    >>> stream = fastmlp.rows.Stream(pixels, np.arange(1000) % 2, scale=1 / 255, window_rows=400)
    >>> net = fastmlp.MLP((20, 8, 2))
    >>> history = net.fit(stream, epochs=2, verbose=False)
    >>> net.predict(stream).shape
    (1000,)

    A function of one's own reads anything; here each chunk has a column less:

    >>> narrower = fastmlp.rows.Stream(lambda: ((X[:, :19], y) for X, y in stream), n=stream.n)
    >>> sorted(fastmlp.MLP((19, 2)).evaluate(narrower))
    ['accuracy', 'loss']
    """

    def __init__(
        self,
        chunks: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        columns: Sequence[str] | None = None,
        scale: float | None = None,
        n: int | None = None,
        chunk_rows: int | None = None,
        window_rows: int | None = None,
    ) -> None:
        for name, number in (("n", n), ("chunk_rows", chunk_rows), ("window_rows", window_rows)):
            if number is not None:
                checks.integer(name, number, least=1)
        self.scale = None if scale is None else checks.number("scale", scale, "not 0", lambda x: x != 0)
        self.window_rows = window_rows
        self._source = source_of(chunks, y, sample_weight, columns=columns, chunk_rows=chunk_rows)
        if None not in (n, self._source.n) and n != self._source.n:
            raise ValueError(f"n must be the number of rows, {self._source.n}, not {n}")
        self.n = self._source.n if n is None else n

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        """Yield the chunks in their own order: (X,), (X, y) or (X, y, weight), as they come, X scaled."""
        for _, X, *others in self.read(None):
            yield scaled(X, self.scale), *(array for array in others if array is not None)

    def __repr__(self) -> str:
        return f"Stream({type(self._source).__name__}, n={self.n})"

    @property
    def one_shot(self) -> bool:
        """Whether it can be read only once."""
        return self._source.one_shot

    @property
    def is_fixed(self) -> bool:
        """Whether its rows are the same each time."""
        return self._source.is_fixed

    @property
    def n_chunks(self) -> int | None:
        """Chunks that may be read in any order; None where they only come one after the other."""
        return self._source.n_chunks

    def read(self, order: Sequence[int] | None) -> Iterator[Chunk]:
        """Yield the chunks in this order, None is their own, before X is scaled."""
        whole = None if self.n_chunks is None else range(self.n_chunks)
        return self._source.read(whole if order is None else order)

    def share(self, part: int, parts: int) -> Stream:
        """Return one of so many parts of the stream, for one of as many ranks: every `parts`-th chunk, from `part` on.

        Parameters
        ----------
        part : int
            From 0 to ``parts - 1``.
        parts : int

        Raises
        ------
        TypeError, ValueError
            An argument is not as described; or the chunks only come one after the other, as those of a function do.

        Examples
        --------
        >>> import numpy as np
        >>> from fastmlp.rows import Stream
        >>> stream = Stream(np.eye(5), np.arange(5), chunk_rows=1)
        >>> [[int(y[0]) for _, y in stream.share(rank, 2)] for rank in (0, 1)]
        [[0, 2, 4], [1, 3]]
        """
        parts = checks.integer("parts", parts, least=1)
        if checks.integer("part", part, least=0) >= parts:
            raise ValueError(f"part must be below parts, {parts}, not {part}")
        return Stream(Share(self._source, part, parts), scale=self.scale, window_rows=self.window_rows)

    def window(self, k: int, batch_size: int) -> int:
        """Return how many rows of k values a window has, for batches of that many."""
        rows = self.window_rows or WINDOW_BYTES // (4 * k)
        return max(1, -(-rows // batch_size)) * batch_size


def scaled(X: Any, scale: float | None) -> Any:
    """Return X, an array or a sparse matrix, times the scale, as float32; as it is where that is None.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp.streams import scaled
    >>> scaled(np.array([0, 255], np.uint8), 1 / 255)
    array([0., 1.], dtype=float32)
    """
    if scale is None:
        return X
    # In two steps, where a product of two types would go through a small buffer.
    values = X.astype(np.float32) if hasattr(X, "astype") else np.array(X, np.float32)
    with np.errstate(over="ignore"):  # what is checked afterwards
        values *= np.float32(scale)
    return values


def source_of(chunks: Any, y: Any, weight: Any, *, columns: Sequence[str] | None, chunk_rows: int | None) -> Source:
    """Return the source that a stream's arguments describe; `fastmlp.rows.Stream` says what they may be.

    Examples
    --------
    >>> from fastmlp.streams import source_of
    >>> source_of(lambda: iter([([[1, 2]], [0])]), None, None, columns=None, chunk_rows=None).n_chunks is None
    True
    """
    if isinstance(chunks, Source):
        return chunks
    if getattr(chunks, "shape", None) == ():
        raise TypeError(f"chunks must have rows; this {type(chunks).__name__} is one number")
    is_path = isinstance(chunks, (str, bytes, os.PathLike))
    if is_path or (hasattr(chunks, "partitions") and hasattr(chunks, "columns")):
        from fastmlp import tables  # noqa: PLC0415 - pathlib comes with it, 5 ms

        if is_path:
            return tables.Parquet(chunks, y, weight, columns, chunk_rows)
        return tables.DaskFrame(chunks, y, weight, columns)
    if columns is not None:
        raise TypeError(f"columns names those of a Parquet file or a data frame; chunks are {type(chunks).__name__}")
    if hasattr(chunks, "numblocks"):
        from fastmlp.tables import DaskArray  # noqa: PLC0415 - likewise

        return DaskArray(chunks, y, weight)
    if hasattr(chunks, "shape"):
        return Arrays(chunks, y, weight, chunk_rows)
    if y is not None or weight is not None:
        raise TypeError(f"y and sample_weight must be in the chunks, (X, y, weight), of {type(chunks).__name__}")
    if callable(chunks) or hasattr(chunks, "__iter__"):
        return Iterated(chunks)
    raise TypeError(
        "chunks must be an array, the path of a Parquet file, a Dask collection, an iterable of (X, y) or a function "
        f"that returns one; not {chunks!r:.80}"
    )


def as_stream(X: Any, y: Any = None, sample_weight: Any = None) -> Stream | None:
    """Return a stream of what is one, or of a memory-mapped array that is so large that it is taken for one; else None.

    Raises
    ------
    TypeError
        A stream comes with y or weights beside it.

    Examples
    --------
    >>> from fastmlp.streams import as_stream
    >>> as_stream([[1, 2]], [0]) is None
    True
    """
    if isinstance(X, Stream):
        if y is not None or sample_weight is not None:
            raise TypeError("y and sample_weight must be in the stream, Stream(X, y, sample_weight), not beside it")
        return X
    return Stream(X, y, sample_weight) if isinstance(X, np.memmap) and 4 * X.size > MAPPED_BYTES else None


def ahead(items: Iterable[T]) -> Generator[T, None, None]:
    """Yield what is iterated over; while one is in use, a thread makes the next.

    Closing it lets the thread end once it has made the one at hand.

    Examples
    --------
    >>> from fastmlp.streams import ahead
    >>> list(ahead(i * i for i in range(4)))
    [0, 1, 4, 9]
    """
    import queue  # noqa: PLC0415 - with threading, which only streams are worth
    import threading  # noqa: PLC0415

    asked: queue.SimpleQueue[bool] = queue.SimpleQueue()
    made: queue.SimpleQueue[tuple[list[T], BaseException | None]] = queue.SimpleQueue()

    def make() -> None:
        iterator = iter(items)
        while asked.get():
            try:
                made.put(([next(iterator)], None))  # in a list, to be taken out: nothing here holds what is in use
            except BaseException as error:
                made.put(([], error))
                return

    thread = threading.Thread(target=make, name="fastmlp stream", daemon=True)
    thread.start()
    asked.put(True)
    try:
        while True:
            item, error = made.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            asked.put(True)
            yield item.pop()
    finally:
        asked.put(False)
        thread.join(PATIENCE)
