"""The chunks of a stream, checked as rows in memory are, and copied where they are used beside the next ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from fastmlp.arrays import Array
from fastmlp.losses import Loss
from fastmlp.rows import Examples, Targets, checked_examples, checked_rows, checked_shapes, weights_from_0
from fastmlp.sources import Chunk
from fastmlp.sparse import SparseRows
from fastmlp.streams import Stream, ahead

__all__ = ["checked_chunks", "chunks_ahead", "naming", "rows_ahead"]


def checked_chunks(
    stream: Stream, layer_sizes: Sequence[int], loss: str | Loss, order: Sequence[int] | None = None
) -> Iterator[tuple[str, Examples]]:
    """Yield the name of each chunk of a stream that has rows, and these: read, in this order, as they are asked for.

    They may lie in the stream's own memory, and be others when the next chunk comes.

    Raises
    ------
    TypeError, ValueError
        A chunk is not what it should be, or of another kind than the first: its message begins with the name. Or there
        is no row, or another number of them than was said.

    Examples
    --------
    >>> from fastmlp.chunks import checked_chunks
    >>> from fastmlp.rows import Stream
    >>> chunks = checked_chunks(Stream([([[1, 2]], [0]), ([[3, 4]], [2])]), layer_sizes=(2, 2), loss="cross_entropy")
    >>> next(chunks)[1].targets.labels
    array([0])
    >>> next(chunks)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: chunk 1: y must hold labels from 0 to 1, as the network has 2 outputs; it has 2 to 2...
    """
    first: Examples | None = None
    n = 0
    for chunk in stream.read(order):
        if not chunk.n:
            continue
        with naming(chunk.name):
            found = _examples(chunk, layer_sizes, loss)
            first = first or found
            _require_alike(found, first)
        n += len(found.rows)
        if stream.n is not None and n > stream.n:
            raise ValueError(f"X must have {stream.n} rows; the stream has {n} up to the end of {chunk.name}, or more")
        yield chunk.name, found
    if n != stream.n and (stream.n is not None or n == 0):
        raise ValueError(f"X must have {stream.n or 'at least 1'} rows; the stream has {n}")


def chunks_ahead(stream: Stream, layer_sizes: Sequence[int], loss: str | Loss) -> Iterator[Examples]:
    """Yield copies of what `checked_chunks` does, of which a thread makes the next while one is in use.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp.chunks import chunks_ahead
    >>> from fastmlp.rows import Stream
    >>> stream = Stream(np.eye(5), np.arange(5), chunk_rows=3)
    >>> [found.targets.labels for found in chunks_ahead(stream, layer_sizes=(5, 5), loss="cross_entropy")]
    [array([0, 1, 2]), array([3, 4])]
    """

    def copy(found: Examples) -> Examples:
        labels, values = found.targets
        targets = Targets(labels, None if values is None else values.copy())  # labels are a copy already
        return Examples(_copied(found.rows), targets, None if found.weights is None else found.weights.copy())

    return ahead(copy(found) for _, found in checked_chunks(stream, layer_sizes, loss))


def rows_ahead(stream: Stream, k: int) -> Iterator[Array | SparseRows]:
    """Yield the rows of each chunk of a stream, likewise checked, copied and made ahead.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp.chunks import rows_ahead
    >>> from fastmlp.rows import Stream
    >>> [len(rows) for rows in rows_ahead(Stream([np.zeros((1, 2)), np.zeros((3, 2))]), k=2)]
    [1, 3]
    """

    def rows_of(chunk: Chunk) -> Array | SparseRows:
        with naming(chunk.name):
            return _copied(checked_rows("X", chunk.X, k))

    return ahead(map(rows_of, stream.read(None)))


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Begin the message of what is wrong with a chunk with its name.

    Examples
    --------
    >>> from fastmlp.chunks import naming
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


def _copied(rows: Array | SparseRows) -> Array | SparseRows:
    """Rows in memory of their own: who makes chunks may use the same for each, or take it away, as of a file."""
    return rows.part(0, len(rows)) if isinstance(rows, SparseRows) else np.array(rows, np.float32, order="C")


def _examples(chunk: Chunk, layer_sizes: Sequence[int], loss: str | Loss) -> Examples:
    """The rows of a chunk, of which there is one at least, checked."""
    names, task = ("X", "y"), (layer_sizes, loss)
    if chunk.y is None:
        raise ValueError("y is missing: chunks must be (X, y)")
    X, y = checked_shapes(names, chunk.X, chunk.y, *task)
    weights = None if chunk.weight is None else weights_from_0("weight", chunk.weight, X.shape[0])
    return Examples(*checked_examples(names, X, y, *task), weights)


def _require_alike(found: Examples, first: Examples) -> None:
    """Check that a chunk is of the kind of the first one, as they are put together."""
    kinds = (
        ("X must be", ("dense", "sparse"), [isinstance(one.rows, SparseRows) for one in (found, first)]),
        ("y must hold", ("rows of values", "labels"), [one.targets.labels is not None for one in (found, first)]),
        ("chunks must be", ("(X, y)", "(X, y, weight)"), [one.weights is not None for one in (found, first)]),
    )
    for what, names, (came, wanted) in kinds:
        if came != wanted:
            raise ValueError(f"{what} {names[wanted]} as in the first chunk, not {names[came]}")
