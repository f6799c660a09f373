"""The chunks of a stream, checked as rows in memory are, and copied where they are used beside the next ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from fastmlp.arrays import Array
from fastmlp.losses import Loss
from fastmlp.rows import (
    Examples,
    Targets,
    checked_examples,
    checked_rows,
    checked_shapes,
    rows_to_predict,
    weights_from_0,
)
from fastmlp.sources import Chunk, naming
from fastmlp.sparse import SparseRows
from fastmlp.streams import Stream, ahead, scaled

__all__ = ["checked_chunks", "chunks_ahead", "copied", "rows_ahead"]


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
    has_weight = False
    for chunk in _counted(stream, order):
        with naming(chunk.name):
            found = _examples(chunk, stream.scale, layer_sizes, loss)
            first = first or found
            _require_alike(found, first)
        has_weight = has_weight or found.weights is None or bool(found.weights.any())
        yield chunk.name, found
    if first is None:
        raise ValueError("X must have at least one row; the stream has 0")
    if not has_weight:
        raise ValueError("sample_weight must have a weight above 0; all of the stream's are 0")


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
    return ahead(copied(found) for _, found in checked_chunks(stream, layer_sizes, loss))


def copied(found: Examples) -> Examples:
    """Return rows in memory of their own: who makes chunks may use the same for each, or take it away, as of a file.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp.chunks import copied
    >>> from fastmlp.rows import Examples, Targets
    >>> found = Examples(np.eye(2), Targets(np.array([0, 1]), None))
    >>> np.shares_memory(copied(found).rows, found.rows)
    False
    """
    labels, values = found.targets
    targets = Targets(labels, None if values is None else values.copy())  # labels are a copy already
    return Examples(_copied(found.rows), targets, None if found.weights is None else found.weights.copy())


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
            if stream.scale is None:
                return _copied(checked_rows("X", chunk.X, k))
            rows_to_predict("X", chunk.X, k)  # of numbers, which scaling would make of text
            return checked_rows("X", scaled(chunk.X, stream.scale), k)

    return ahead(map(rows_of, _counted(stream)))


def _counted(stream: Stream, order: Sequence[int] | None = None) -> Iterator[Chunk]:
    """The chunks that have rows, which are as many as the stream is said to have."""
    n = 0
    for chunk in stream.read(order):
        with naming(chunk.name):
            n += chunk.n
        if stream.n is not None and n > stream.n:
            raise ValueError(f"X must have {stream.n} rows; the stream has {n} up to the end of {chunk.name}, or more")
        if chunk.n:
            yield chunk
    if n != stream.n and stream.n is not None:
        raise ValueError(f"X must have {stream.n} rows; the stream has {n}")


def _copied(rows: Array | SparseRows) -> Array | SparseRows:
    return rows.part(0, len(rows)) if isinstance(rows, SparseRows) else np.array(rows, np.float32, order="C")


def _examples(chunk: Chunk, scale: float | None, layer_sizes: Sequence[int], loss: str | Loss) -> Examples:
    """The rows of a chunk, of which there is one at least, checked."""
    names, task = ("X", "y"), (layer_sizes, loss)
    if chunk.y is None:
        raise ValueError("y is missing: chunks must be (X, y), and Stream([(X, y)]) has one")
    X, y = checked_shapes(names, chunk.X, chunk.y, *task)
    weights = None if chunk.weight is None else weights_from_0("weight", chunk.weight, X.shape[0])
    return Examples(*checked_examples(names, scaled(X, scale), y, *task), weights)


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
