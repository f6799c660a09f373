"""What comes in from outside, checked and brought to the form that the engine reads: float32 rows, int64 labels."""

from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Targets", "integer", "one_of", "rows", "sample_weights", "seed", "targets"]

Float32 = NDArray[np.float32]


class Targets(NamedTuple):
    """What a network is to learn: labels (n,), or rows of values (n, m); the other one is None."""

    labels: NDArray[np.int64] | None
    values: Float32 | None

    @property
    def given(self) -> NDArray[Any]:
        """The one that is not None."""
        given = self.values if self.labels is None else self.labels
        assert given is not None
        return given


def integer(name: str, value: object, least: int) -> int:
    """Return a whole number of at least `least`.

    Examples
    --------
    >>> from fastmlp.checks import integer
    >>> integer("epochs", 3, least=1)
    3
    """
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be a whole number, not {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, not {value}")
    return int(value)


def seed(value: object) -> int:
    """Return a seed: a whole number that fits 64 bits without a sign.

    Examples
    --------
    >>> from fastmlp.checks import seed
    >>> seed(7)
    7
    """
    number = integer("seed", value, least=0)
    if number >= 1 << 64:
        raise ValueError(f"seed must be less than 2**64, not {value}")
    return number


def one_of(name: str, value: object, names: Any) -> str:
    """Return a name that is in the table `names`.

    Examples
    --------
    >>> from fastmlp.checks import one_of
    >>> one_of("init", "he", ("he", "glorot", "normal"))
    'he'
    """
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, one of {', '.join(names)}; not {value!r}")
    if value not in names:
        raise ValueError(f"{name} must be one of {', '.join(names)}; not {value!r}")
    return value


def rows(name: str, X: ArrayLike, k: int) -> Float32:
    """Return X as C-contiguous float32 rows of k finite values; without a copy where it is that already.

    Examples
    --------
    >>> from fastmlp.checks import rows
    >>> rows("X", [[1, 2], [3, 4]], k=2).dtype
    dtype('float32')
    """
    array = _numbers(name, X)
    if array.ndim != 2 or array.shape[1] != k:
        raise ValueError(f"{name} must have shape (n, {k}), as the network has {k} inputs; it has {array.shape}")
    return _finite_float32(name, array)


def targets(name: str, y: ArrayLike, n: int, m: int, loss: str) -> Targets:
    """Return what the loss compares with the m outputs of n rows.

    Examples
    --------
    >>> from fastmlp.checks import targets
    >>> targets("y", [1, 0], n=2, m=2, loss="cross_entropy").labels
    array([1, 0])
    """
    array = _numbers(name, y)
    labels = loss == "cross_entropy" and array.ndim == 1
    wanted = f"({n},) labels or ({n}, {m})" if loss == "cross_entropy" else f"({n}, {m})"
    wanted += f" or ({n},)" if m == 1 else ""
    if array.ndim == 1 and m == 1 and not labels:
        array = array.reshape(-1, 1)
    if array.shape != ((n,) if labels else (n, m)):
        raise ValueError(f"{name} must have shape {wanted}, a row for each of X; it has {np.shape(y)}")
    if labels:
        return Targets(_labels(name, array, m), None)
    values = _finite_float32(name, array)
    if loss != "squared_error" and values.size and not (values.min() >= 0 and values.max() <= 1):
        raise ValueError(f"{name} must hold probabilities in [0, 1]; it has {values.min()} to {values.max()}")
    if loss == "cross_entropy" and not np.allclose(values.sum(axis=1), 1, atol=1e-3):
        row = int(np.argmax(np.abs(values.sum(axis=1) - 1)))
        raise ValueError(f"{name} must have rows that sum to 1; row {row} sums to {values[row].sum():g}")
    return Targets(None, values)


def sample_weights(weights: ArrayLike | None, n: int) -> Float32 | None:
    """Return n weights that are finite and not negative, with a sum above 0.

    Examples
    --------
    >>> from fastmlp.checks import sample_weights
    >>> sample_weights([1, 2], n=2)
    array([1., 2.], dtype=float32)
    """
    if weights is None:
        return None
    array = _numbers("sample_weight", weights)
    if array.shape != (n,):
        raise ValueError(f"sample_weight must have shape ({n},), a weight for each row of X; it has {array.shape}")
    array = _finite_float32("sample_weight", array)
    if array.min() < 0:
        raise ValueError(f"sample_weight must not be negative; row {int(array.argmin())} has {array.min()}")
    if not array.any():
        raise ValueError("sample_weight must have a weight above 0; all are 0")
    return array


def _numbers(name: str, values: ArrayLike) -> NDArray[Any]:
    try:
        array = np.asarray(values)
    except ValueError as error:  # rows of unequal length
        raise ValueError(f"{name} must be an array of numbers: {error}") from None
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be an array of real numbers, not of {array.dtype}")
    return array


def _finite_float32(name: str, array: NDArray[Any]) -> Float32:
    with np.errstate(over="ignore"):  # what does not fit float32 is found below
        values = np.ascontiguousarray(array, dtype=np.float32)
    # NaN and infinity both show in the extremes, which need no array of booleans as large as X.
    if values.size and not (np.isfinite(values.min()) and np.isfinite(values.max())):
        place = tuple(int(i) for i in np.argwhere(~np.isfinite(values))[0])
        index = place[0] if len(place) == 1 else place
        raise ValueError(f"{name} must be finite in float32; {name}[{index}] is {array[place]}")
    return values


def _labels(name: str, array: NDArray[Any], m: int) -> NDArray[np.int64]:
    if array.dtype.kind == "f":
        raise TypeError(f"{name} must hold labels of an integer type for loss='cross_entropy', not {array.dtype}")
    if array.size and not (array.min() >= 0 and array.max() < m):
        raise ValueError(
            f"{name} must hold labels from 0 to {m - 1}, as the network has {m} outputs; "
            f"it has {array.min()} to {array.max()}"
        )
    return np.ascontiguousarray(array, dtype=np.int64)
