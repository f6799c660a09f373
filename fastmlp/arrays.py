"""The types of arrays, and what the kernels ask of one before C reads it or writes to it."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "Float32", "Float64", "apart", "are_floats", "check", "out_of"]

Array: TypeAlias = NDArray[Any]
Float32: TypeAlias = NDArray[np.float32]
Float64: TypeAlias = NDArray[np.float64]


def check(
    name: str, array: object, shape: tuple[int | None, ...] | None, dtype: type = np.float32, *, writable: bool = False
) -> None:
    """Check an array's type, shape and layout; None stands for any size, or for any shape.

    Subclasses are refused, but for memory-mapped files: a mask, for one, hides values that C would read.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp import arrays
    >>> arrays.check("bias", np.zeros(3, np.float32), (None,))
    """
    if type(array) not in (np.ndarray, np.memmap):
        raise TypeError(f"{name} must be an array of {np.dtype(dtype)}, not {type(array).__name__}")
    assert isinstance(array, np.ndarray)
    if array.dtype != dtype:
        raise TypeError(f"{name} must be an array of {np.dtype(dtype)}, not an array of {array.dtype}")
    if shape is not None and not _fits(array.shape, shape):
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise ValueError(f"{name} must have shape ({wanted}), not {array.shape}")
    if not (array.flags.c_contiguous and array.flags.aligned):
        raise ValueError(f"{name} must be C-contiguous and aligned; {name}.copy() is")
    if writable and not array.flags.writeable:
        raise ValueError(f"{name} must be writable")


def are_floats(array: Array) -> bool:
    """Whether the engine reads this array's values where they are: float32 or float64, one after the other.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp import arrays
    >>> arrays.are_floats(np.zeros((2, 3))), arrays.are_floats(np.zeros((2, 3)).T)
    (True, False)
    """
    return array.dtype in (np.float32, np.float64) and array.flags.c_contiguous and array.flags.aligned


def out_of(shape: tuple[int, ...], out: Float32 | None) -> Float32:
    """Return `out`, checked, or a new array in its place.

    Examples
    --------
    >>> from fastmlp import arrays
    >>> arrays.out_of((2, 3), None).shape
    (2, 3)
    """
    if out is None:
        return np.empty(shape, np.float32)
    check("out", out, shape, writable=True)
    return out


def apart(name: str, array: Array, **others: Array) -> None:
    """Check that an array that is written shares no memory with others.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp import arrays
    >>> arrays.apart("out", np.zeros(3), x=np.zeros(3))
    """
    for other_name, other in others.items():
        if np.may_share_memory(array, other):
            raise ValueError(f"{name} must not share memory with {other_name}")


def _fits(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    return len(shape) == len(wanted) and all(w in (None, s) for s, w in zip(shape, wanted, strict=True))
