"""Random numbers as functions of where they are used: any thread draws them, and a resumed run draws the same."""

__all__ = ["epoch_key"]

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
