"""Random numbers as functions of where they are used: any thread draws them, and a resumed run draws the same."""

from __future__ import annotations  # numpy.random is imported when it is used

import numpy as np
from numpy.typing import NDArray

from fastmlp.engine import operations

__all__ = ["CHUNKS", "ROWS", "WEIGHTS", "epoch_key", "random_bits", "shuffle"]

# Streams of a seed's bits, by number: of the first weights, of the orders of rows, and of those of chunks.
WEIGHTS, ROWS, CHUNKS = 0, 1, 2

_MASK = 2**64 - 1


def epoch_key(seed: int, epoch: int, window: int = 0) -> int:
    """Return the key of all that is drawn row by row in an epoch, or in a window of its rows: 64 bits.

    Of the first window it is number `epoch` of SplitMix64 from this seed (Steele, Lea & Flood 2014, "Fast splittable
    pseudorandom number generators"); windows step by another odd number. The kernels hash it with the row and the place
    in the row.

    Examples
    --------
    >>> from fastmlp.draws import epoch_key
    >>> hex(epoch_key(seed=0, epoch=0))
    '0xe220a8397b1dcdaf'
    """
    z = (seed + (epoch + 1) * 0x9E3779B97F4A7C15 + window * 0xD1B54A32D192ED03) & _MASK
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    z = (z ^ z >> 27) * 0x94D049BB133111EB & _MASK
    return z ^ z >> 31


def random_bits(seed: int, stream: int, epoch: int = 0, window: int = 0, part: int = 0) -> np.random.Philox:
    """Return a stream of the seed's random bits; to shuffle, each epoch from this one on has a block of four numbers.

    They are counter-based (Salmon et al. 2011), and others for each window of an epoch's rows, and for each part of the
    rows that is shuffled by itself.

    Examples
    --------
    >>> from fastmlp.draws import random_bits
    >>> bits = random_bits(seed=0, stream=1, epoch=0)
    >>> _ = bits.random_raw(4)
    >>> bool((bits.random_raw(4) == random_bits(seed=0, stream=1, epoch=1).random_raw(4)).all())
    True
    """
    counter = np.array([epoch, window, 0, part], np.uint64)
    return np.random.Philox(key=np.array([seed, stream], np.uint64), counter=counter)


def shuffle(order: NDArray[np.int64], bits: np.random.Philox) -> None:
    """Write the numbers from 0 to n - 1 to order (n), in the order that the next block of these bits decides.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp.draws import random_bits, shuffle
    >>> order = np.arange(5)
    >>> shuffle(order, random_bits(seed=0, stream=1, epoch=0))
    >>> sorted(order.tolist())
    [0, 1, 2, 3, 4]
    """
    operations.shuffle(order, bits.random_raw(4)[:3].view(np.uint32))
