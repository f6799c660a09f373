"""The epochs of a stream: parts that are read, checked and listed in a thread while the engine works."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp import cautions, checks, draws, threads
from fastmlp.arrays import Array, Float32
from fastmlp.chunks import checked_chunks, copied
from fastmlp.class_weights import balanced, counts_of, weights_of_rows
from fastmlp.engine.distortion import Distortion
from fastmlp.engine.lists import Lists, lists_like
from fastmlp.engine.rows import Rows
from fastmlp.losses import loss_of
from fastmlp.network import MLP
from fastmlp.rows import Examples, Stream, Targets
from fastmlp.sources import naming
from fastmlp.sparse import SparseRows
from fastmlp.streams import ahead
from fastmlp.training.loop import Epoch, Part

__all__ = ["Windows", "rows_of"]

# Of a first window, in which what is odd is looked for.
SAMPLE_ROWS = 1000


def rows_of(network: MLP, examples: Examples, distortion: Distortion | None, n_threads: int, first: int = 0) -> Rows:
    """Return rows as the engine reads them, which are numbered from `first` on.

    Examples
    --------
    >>> import numpy as np, fastmlp
    >>> from fastmlp.rows import Examples, Targets
    >>> from fastmlp.training.windows import rows_of
    >>> examples = Examples(np.eye(2, dtype=np.float32), Targets(np.array([0, 1]), None))
    >>> rows_of(fastmlp.MLP((2, 2)), examples, None, n_threads=1).n
    2
    """
    labels, values = (None, None) if loss_of(network.loss).code is None else examples.targets
    return Rows(
        examples.rows,
        network.layers[0].units,
        n_threads,
        labels,
        values,
        examples.weights,
        distortion,
        network.input_dropout,
        network.input_noise,
        first,
    )


class Windows:
    """What a network learns from of a stream: `fastmlp.rows.Stream` says how it is cut and shuffled.

    Parameters
    ----------
    network : MLP
    stream : Stream
    batch_size : int
    shuffle : bool
    class_weight : mapping of label to weight, "balanced" or None
        "balanced" reads all chunks once, to count the rows of each label.
    distortion : Distortion or None
    cautious : bool
        Warn of what the network will hardly learn from.

    Examples
    --------
    >>> import numpy as np, fastmlp
    >>> from fastmlp.rows import Stream
    >>> from fastmlp.training.windows import Windows
    >>> stream = Stream([(np.eye(2), [0, 1])] * 3, window_rows=4)
    >>> windows = Windows(fastmlp.MLP((2, 2)), stream, batch_size=4, shuffle=False)
    >>> [[len(part.order) for part in epoch] for epoch in windows.epochs(first=0, n=1)]
    [[4, 2]]
    """

    def __init__(
        self,
        network: MLP,
        stream: Stream,
        batch_size: int,
        *,
        shuffle: bool,
        class_weight: Mapping[int, float] | str | None = None,
        distortion: Distortion | None = None,
        cautious: bool = True,
    ) -> None:
        self.network = network
        self.stream = stream
        self.shuffle = shuffle
        self.distortion = distortion
        self.cautious = cautious
        self.task = network.layer_sizes, network.loss
        self.batch_size = batch_size
        self.size = stream.window(network.layer_sizes[0], batch_size)
        self.is_reading = False
        self.sample: Examples | None = None  # of the first rows, to be looked at
        self.kept: Part | None = None  # all rows, where they are one window
        self.part, self.first_row = 0, 0
        if isinstance(class_weight, str):
            checks.one_of("class_weight", class_weight, ("balanced",))
            class_weight = balanced(self.counts())
        self.class_weight = class_weight

    def counts(self) -> NDArray[np.int64]:
        """Read the stream once; return how many rows each class has."""
        if self.stream.one_shot:
            raise ValueError("class_weight='balanced' reads a stream twice; chunks is an iterator, which can be once")
        m, loss = self.network.layer_sizes[-1], self.network.loss
        counts = [counts_of(found.targets, m, loss) for _, found in ahead(checked_chunks(self.stream, *self.task))]
        total: NDArray[np.int64] = np.sum(counts, axis=0)
        return total

    def epochs(
        self, first: int, n: int, batches: int = 0, *, part: int = 0, first_row: int = 0
    ) -> Generator[Epoch, None, None]:
        """Yield n epochs from this one on, each of whose first windows is read while the last one before is used.

        Of the first epoch so many batches are done: it begins with the window that has the next one. The stream is this
        part of the rows, with numbers from `first_row` on.
        """
        self.part, self.first_row = part, first_row
        with closing(ahead(self._all_windows(first, n, batches))) as parts:
            for _ in range(n):
                yield self._parts(parts)

    def _parts(self, parts: Iterator[Part]) -> Epoch:
        """The parts of one epoch."""
        for part in parts:
            if self.sample is not None:
                self._caution(self.sample)
                self.sample = None
            yield part
            if part.is_last:
                return

    def _caution(self, examples: Examples) -> None:
        """Warn, in a network's first fit alone, of what it will hardly learn from."""
        cautions.about_inputs(examples.rows)
        if loss_of(self.network.loss).targets == "values":
            cautions.about_values(examples.targets.given)

    def _all_windows(self, first: int, n: int, batches: int) -> Iterator[Part]:
        """What the thread makes, noting when it is at work."""
        try:
            self.is_reading = True
            for epoch in range(first, first + n):
                for part in self._windows(epoch, batches if epoch == first else 0):
                    self.is_reading = False
                    yield part
                    self.is_reading = True
        finally:
            self.is_reading = False

    def _is_crowded(self) -> bool:
        """Whether the thread that reads has work, and no processor that the engine leaves free."""
        most = self.network.n_threads
        return self.is_reading and (most is None or most >= threads.available())

    def _windows(self, epoch: int, batches: int) -> Iterator[Part]:
        """The windows of an epoch of which so many batches are done."""
        if self.kept is not None:
            yield self.kept._replace(order=self._order_of_rows(self.kept.rows.n, epoch, 0))
            return
        per_window = self.size // self.batch_size
        chunks = self._chunks(epoch)
        first = batches // per_window
        left: Examples | Exception | None = self._pass_over(chunks, first * self.size)
        for window in count(first):
            if left is None:
                return
            if isinstance(left, Exception):
                raise left
            sampled = window == 0 and self.cautious and self.network._state is None
            examples, left = self._fill(chunks, left, sampled=sampled)
            rows = rows_of(self.network, examples, self.distortion, 1, self.first_row)
            order = self._order_of_rows(rows.n, epoch, window)
            part = Part(
                rows,
                examples.targets,
                order,
                is_last=left is None,
                is_crowded=self._is_crowded,
                window=window,
                first=window * per_window,
            )
            if window == 0 and part.is_last and self.stream.is_fixed:
                self.kept = part
            yield part

    def _pass_over(self, chunks: Iterator[Examples], n: int) -> Examples | None:
        """Take n rows that nothing is learned from; return those that are left of the chunk, or the next one."""
        left = next(chunks, None)
        while left is not None and n >= len(left.rows):
            n -= len(left.rows)
            left = next(chunks, None)
        if left is None:
            raise ValueError("resume names a checkpoint within an epoch of more rows than the stream has")
        return left.part(n, len(left.rows)) if n else left

    def _order_of_rows(self, n: int, epoch: int, window: int) -> NDArray[np.int64]:
        order = np.arange(n)
        if self.shuffle:
            draws.shuffle(order, draws.random_bits(self.network.seed, draws.ROWS, epoch, window, self.part))
        return order

    def _chunks(self, epoch: int) -> Iterator[Examples]:
        """The chunks in the order of an epoch, with the weights of their classes."""
        m, loss = self.task[0][-1], self.task[1]
        for name, found in checked_chunks(self.stream, *self.task, self._order(epoch)):
            if self.class_weight is None:
                yield found
            else:
                with naming(name):
                    weights = weights_of_rows(self.class_weight, found.targets, m, loss, found.weights)
                yield found._replace(weights=weights)

    def _order(self, epoch: int) -> list[int] | None:
        """The chunks in the order of an epoch; those of a window, whose rows are shuffled anyway, as they lie."""
        n_chunks, n = self.stream.n_chunks, self.stream.n
        if not self.shuffle or not n_chunks:
            return None
        order = np.arange(n_chunks)
        draws.shuffle(order, draws.random_bits(self.network.seed, draws.CHUNKS, epoch, part=self.part))
        together = 1 if n is None else max(1, min(n, self.size) * n_chunks // n)
        windows = [order[i : i + together] for i in range(0, n_chunks, together)]
        return [int(i) for window in windows for i in np.sort(window)]

    def _fill(
        self, chunks: Iterator[Examples], left: Examples, sampled: bool
    ) -> tuple[Examples, Examples | Exception | None]:
        """Take rows until the window is full; return them, and those of the next chunk or what is wrong with it.

        Both are in memory of their own. Of the first rows keep a sample, where that is wanted.
        """
        window = _Window(self.size if self.stream.n is None else min(self.size, self.stream.n), self._lists_like)
        sample = _Window(SAMPLE_ROWS if sampled else 0)
        following: Examples | Exception | None = left
        while isinstance(following, Examples) and window.left:
            there = len(following.rows)
            n = min(window.left, there)
            if sample.left:
                sample.take(following.part(0, min(n, sample.left)))
            window.take(following.part(0, n))
            following = following.part(n, there) if n < there else self._next(chunks, is_whole=not window.left)
        if sampled:
            self.sample = sample.examples()
        return window.examples(), copied(following) if isinstance(following, Examples) else following

    def _next(self, chunks: Iterator[Examples], *, is_whole: bool) -> Examples | Exception | None:
        """The next chunk; what is wrong with it only comes after the window, where that is whole without it."""
        try:
            return next(chunks, None)
        except Exception as error:
            if is_whole:
                return error
            raise

    def _lists_like(self, rows: Array, most: int) -> Lists | None:
        """Lists for rows like these, if that is how the engine reads them."""
        if self.distortion is not None or self.network.input_noise > 0:
            return None
        return lists_like(rows, most, self.network.layers[0].units)


class _Window:
    """Rows, put together and copied, as who makes chunks may use the same memory for each; or listed at once.

    Listed while a cache has the chunk, an epoch of MNIST took 68 ms of a processor; 100 where copies were listed.
    """

    def __init__(self, size: int, lists_like: Callable[[Float32, int], Lists | None] | None = None) -> None:
        self.size = self.left = size
        self.lists_like = lists_like
        self.X: Float32 | None = None
        self.lists: Lists | None = None
        self.parts: list[SparseRows] = []
        self.others: tuple[list[Array], ...] = [], [], []

    def take(self, examples: Examples) -> None:
        rows, n = examples.rows, len(examples.rows)
        if isinstance(rows, SparseRows):
            self.parts.append(rows)
        else:
            self._take_dense(rows)
        self.left -= n
        for array, copies in zip((*examples.targets, examples.weights), self.others, strict=True):
            if array is not None:
                copies.append(array.copy())

    def _take_dense(self, rows: Array) -> None:
        if self.left == self.size and self.lists_like is not None:
            self.lists = self.lists_like(np.require(rows, np.float32, ["C", "A"]), self.size)
        if self.lists is not None:
            self.lists.add(np.require(rows, np.float32, ["C", "A"]))
            return
        if self.X is None:
            self.X = np.empty((self.size, rows.shape[1]), np.float32)
        done = self.size - self.left
        self.X[done : done + len(rows)] = rows

    def examples(self) -> Examples:
        labels, values, weights = (np.concatenate(copies) if copies else None for copies in self.others)
        rows: Any = self.lists
        if self.X is not None:
            rows = self.X[: self.size - self.left]
        elif self.parts:
            rows = SparseRows.joined(self.parts)
        return Examples(rows, Targets(labels, values), weights)
