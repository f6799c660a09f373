"""Images put out of shape, at random, so that a network sees each of them in many forms.

A distortion is given to `fastmlp.MLP.fit` as ``augment=``: each epoch then trains on new forms of the images, made in
the engine's threads as a batch is gathered. It may also be called, as ``distortion(images, seed)``. What is drawn for
an image is a function of the seed, the epoch and the number of its row, however many threads there are.

A pixel of the new image is read from a place nearby in the old one, between the four pixels around it (bilinear), and
beyond the image there are zeros. `fastmlp.reference_augment` is the specification.
"""

from __future__ import annotations

import math
from numbers import Real

import numpy as np
from numpy.typing import ArrayLike

from fastmlp import checks, threads
from fastmlp.arrays import Float32, Float64
from fastmlp.draws import epoch_key
from fastmlp.engine import distortion
from fastmlp.rows import checked_rows

__all__ = ["PIXEL", "Affine", "Compose", "Distortion", "Elastic"]

# Time of a thread for a pixel, about, by which the number of threads is chosen.
PIXEL = 4e-9
_STILL = ((0.0, 0.0), (1.0, 1.0), (1.0, 1.0), (0.0, 0.0), (0.0, 0.0), (0.0, 0.0))


class Distortion:
    """Base of all distortions: a call distorts images, and `fit` asks for what the engine needs.

    Attributes
    ----------
    shape : (int, int) or None
        Height and width of the images; None where they are square.
    affine : Affine or None
    elastic : Elastic or None

    Examples
    --------
    >>> from fastmlp.augment import Affine
    >>> Affine(shift=2).affine
    Affine(rotation=(0.0, 0.0), scale=(1.0, 1.0), shear=(0.0, 0.0), shift=(-2.0, 2.0))
    """

    shape: tuple[int, int] | None
    affine: Affine | None = None
    elastic: Elastic | None = None

    def __call__(self, images: ArrayLike, seed: int = 0, *, epoch: int = 0, n_threads: int | None = None) -> Float32:
        """Return images as `fit` has them in an epoch of a network with this seed, its epochs counted from 0.

        Parameters
        ----------
        images : array (n, height * width) or (n, height, width)
            Finite numbers, read as float32: those of uint8 remain from 0 to 255.
        seed : int, default 0
            From 0 to 2**64 - 1.
        epoch : int, default 0
        n_threads : int or None

        Returns
        -------
        float32 array
            Of the shape of `images`.

        Raises
        ------
        TypeError, ValueError
            An argument is not as described; rows of another length than the images'.

        Examples
        --------
        >>> from fastmlp.augment import Affine
        >>> Affine(shift=(1, 1))([[[1, 2], [3, 4]]], seed=0)
        array([[[0., 0.],
                [0., 1.]]], dtype=float32)
        """
        array = np.asarray(images)
        if array.dtype.kind not in "biuf":
            raise TypeError(f"images must be an array of real numbers, not {type(images).__name__} of {array.dtype}")
        if array.ndim not in (2, 3):
            raise ValueError(f"images must have shape (n, height * width) or (n, height, width); it has {array.shape}")
        seed = checks.integer("seed", seed, least=0, most=2**64 - 1)
        epoch = checks.integer("epoch", epoch, least=0)
        k = math.prod(array.shape[1:])
        how = self.engine_distortion("images", k, array.shape[1:] if array.ndim == 3 else None)
        rows = np.require(checked_rows("images", array.reshape(len(array), k), k), np.float32, ["C", "A"])
        out = np.empty_like(rows)
        if n_threads is not None:
            n_threads = checks.integer("n_threads", n_threads, least=1, most=threads.MAX_THREADS)
        distortion.distort(out, rows, how, epoch_key(seed, epoch), threads.choose(n_threads, out.size * PIXEL))
        return out.reshape(array.shape)

    def engine_distortion(self, name: str, k: int, shape: tuple[int, ...] | None = None) -> distortion.Distortion:
        """Return what the engine does to rows of k values; the name is that of the argument that has them.

        Examples
        --------
        >>> from fastmlp.augment import Affine
        >>> Affine(shift=2).engine_distortion("X", k=785)
        Traceback (most recent call last):
        ...
        ValueError: X must have rows that are square images, or augment a shape=(height, width); 785 is no square number
        """
        height, width = self._shape_of(name, k, shape)
        ranges = _STILL if self.affine is None else self.affine.ranges
        if self.elastic is None:
            return distortion.Distortion(height, width, ranges)
        along_columns = self.elastic.alpha * _smoothing(height, self.elastic.sigma)
        along_rows = _smoothing(width, self.elastic.sigma)
        smoothing = along_columns.astype(np.float32), along_rows.astype(np.float32)
        return distortion.Distortion(height, width, ranges, *smoothing)

    def _shape_of(self, name: str, k: int, shape: tuple[int, ...] | None) -> tuple[int, int]:
        wanted = self.shape or shape
        if wanted is None:
            side = math.isqrt(k)
            if k == 0 or side * side != k:
                raise ValueError(
                    f"{name} must have rows that are square images, or augment a shape=(height, width); "
                    f"{k} is no square number"
                )
            return side, side
        height, width = wanted
        if height * width != k or (shape is not None and shape != wanted):
            raise ValueError(
                f"{name} must have rows of {height * width} pixels, as augment has shape={wanted}; "
                f"they have {shape or k}"
            )
        return height, width


class Affine(Distortion):
    """Images rotated, scaled, sheared and shifted, about their centre; each number is drawn uniformly from a range.

    An image is scaled, then sheared, then rotated, then shifted. A range is a pair (low, high), or a number.

    Parameters
    ----------
    rotation : float or pair, default 0
        Degrees, against the clock. A number r is (-r, r).
    scale : float or pair, default 0
        Factors, greater than 0, of which width and height have one each. A number s is (1 - s, 1 + s).
    shear : float or pair, default 0
        Columns to the right by which a row is ahead of the one above it. A number s is (-s, s).
    shift : float or pair, default 0
        Pixels to the right, and pixels down. A number s is (-s, s).
    shape : (int, int), optional
        Height and width, where images are not square.

    Raises
    ------
    TypeError, ValueError
        A range is no number or pair of them, or not as described.

    Examples
    --------
    >>> from fastmlp.augment import Affine
    >>> Affine(rotation=15, scale=0.15)
    Affine(rotation=(-15.0, 15.0), scale=(0.85, 1.15), shear=(0.0, 0.0), shift=(0.0, 0.0))
    """

    def __init__(
        self,
        rotation: float | tuple[float, float] = 0.0,
        scale: float | tuple[float, float] = 0.0,
        shear: float | tuple[float, float] = 0.0,
        shift: float | tuple[float, float] = 0.0,
        *,
        shape: tuple[int, int] | None = None,
    ) -> None:
        self.rotation = _range("rotation", rotation)
        self.scale = _range("scale", scale, about=1.0)
        if self.scale[0] <= 0:
            raise ValueError(f"scale must be factors greater than 0, not {self.scale}")
        self.shear = _range("shear", shear)
        self.shift = _range("shift", shift)
        self.shape = _checked_shape(shape)
        self.affine = self

    @property
    def ranges(self) -> tuple[tuple[float, float], ...]:
        """The ranges of the six numbers that the engine draws, in its order."""
        low, high = self.rotation
        return (math.radians(low), math.radians(high)), self.scale, self.scale, self.shear, self.shift, self.shift

    def __repr__(self) -> str:
        ranges = f"rotation={self.rotation}, scale={self.scale}, shear={self.shear}, shift={self.shift}"
        return f"Affine({ranges}{_shape_text(self.shape)})"


class Elastic(Distortion):
    """Images distorted as by the muscles of a hand: Simard, Steinkraus & Platt 2003.

    "Best practices for convolutional neural networks applied to visual document analysis", section 2: each pixel is
    displaced to the right and down by numbers drawn uniformly from [-1, 1], smoothed over the image by a Gaussian and
    multiplied by alpha. The Gaussian sums to 1, ends at four times sigma, and meets zeros beyond the image, as that of
    `scipy.ndimage.gaussian_filter` with ``mode="constant"``: with sigma 4, pixels of a large image move by
    0.041 alpha, in the root of the mean square.

    Parameters
    ----------
    alpha : float, default 34
        In pixels; from 0 to 1e6.
    sigma : float, default 4
        Standard deviation of the Gaussian, in pixels; greater than 0.
    shape : (int, int), optional
        Height and width, where images are not square.

    Raises
    ------
    TypeError, ValueError
        A number is not one, or out of its range.

    Examples
    --------
    >>> from fastmlp.augment import Elastic
    >>> Elastic(alpha=36, sigma=5)
    Elastic(alpha=36.0, sigma=5.0)
    """

    def __init__(self, alpha: float = 34.0, sigma: float = 4.0, *, shape: tuple[int, int] | None = None) -> None:
        self.alpha, self.sigma = _number("alpha", alpha), _number("sigma", sigma)
        if not 0 <= self.alpha <= 1e6:
            raise ValueError(f"alpha must be from 0 to 1e6 pixels, not {self.alpha}")
        if self.sigma <= 0:
            raise ValueError(f"sigma must be greater than 0, not {self.sigma}")
        self.shape = _checked_shape(shape)
        self.elastic = self

    def __repr__(self) -> str:
        return f"Elastic(alpha={self.alpha}, sigma={self.sigma}{_shape_text(self.shape)})"


class Compose(Distortion):
    """An affine and an elastic distortion at once: their displacements are added, and the image is read once.

    Parameters
    ----------
    *distortions : Affine and Elastic
        One of each at most, in either order.

    Raises
    ------
    TypeError, ValueError
        Another thing than these, two of a kind, or images of two shapes.

    Examples
    --------
    >>> from fastmlp.augment import Affine, Compose, Elastic
    >>> Compose(Affine(rotation=15), Elastic()).elastic
    Elastic(alpha=34.0, sigma=4.0)
    """

    def __init__(self, *distortions: Distortion) -> None:
        for part in distortions:
            if not isinstance(part, (Affine, Elastic)):
                raise TypeError(f"distortions must be Affine and Elastic, not {part!r:.80}")
        if not distortions or len({type(part) for part in distortions}) < len(distortions):
            raise ValueError(f"distortions must be one Affine and one Elastic at most, not {distortions}")
        shapes = {part.shape for part in distortions if part.shape}
        if len(shapes) > 1:
            raise ValueError(f"distortions must be of images of one shape, not {distortions}")
        self.shape = next(iter(shapes), None)
        self.affine = next((part for part in distortions if isinstance(part, Affine)), None)
        self.elastic = next((part for part in distortions if isinstance(part, Elastic)), None)

    def __repr__(self) -> str:
        return f"Compose({', '.join(repr(part) for part in (self.affine, self.elastic) if part)})"


def _smoothing(size: int, sigma: float) -> Float64:
    """The matrix (size, size) that takes the place of a Gaussian along an axis of so many pixels."""
    reach = int(4 * sigma + 0.5)
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    weights /= weights.sum()
    apart = np.abs(np.subtract.outer(np.arange(size), np.arange(size)))
    within: Float64 = np.where(apart <= reach, weights[reach + np.minimum(apart, reach)], 0)
    return within


def _number(name: str, value: object) -> float:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real) or not math.isfinite(value):
        raise TypeError(f"{name} must be a finite number, not {value!r:.80}")
    return float(value)


def _range(name: str, value: object, about: float = 0.0) -> tuple[float, float]:
    """A pair (low, high); a number stands for as much on both sides of `about`."""
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise TypeError(f"{name} must be a number or a pair (low, high), not {value!r:.80}")
        low, high = (_number(name, end) for end in value)
        if low > high:
            raise ValueError(f"{name} must be a pair (low, high), not {value!r:.80}")
        return low, high
    number = _number(name, value)
    if number < 0:
        raise ValueError(f"{name} must be at least 0, or a pair (low, high), not {value!r:.80}")
    return about - number, about + number


def _checked_shape(shape: object) -> tuple[int, int] | None:
    if shape is None:
        return None
    if not isinstance(shape, (tuple, list)) or len(shape) != 2:
        raise TypeError(f"shape must be a pair (height, width), not {shape!r:.80}")
    height, width = (checks.integer("shape", size, least=1) for size in shape)
    return height, width


def _shape_text(shape: tuple[int, int] | None) -> str:
    return "" if shape is None else f", shape={shape}"
