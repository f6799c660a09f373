"""What `fastmlp.augment` computes, in float64 NumPy: the specification, and the oracle of the tests.

The number of an image's row and the epoch's key decide 32-bit draws, and those an affine map and two fields of
displacements. Pixel p of the new image, (column, row) from the centre, is read from the old one at ::

    scale^-1 shear^-1 rotation^-1 (p - shift) + displacement(p)
"""

import math

import numpy as np
from numpy.typing import ArrayLike

from fastmlp.activations import float64
from fastmlp.arrays import Float64
from fastmlp.augment import Distortion
from fastmlp.draws import epoch_key
from fastmlp.reference import draws

__all__ = ["bilinear", "distort", "smoothed", "sources"]

# An image's first draws are its affine map: rotation, factors of width and height, shear, shifts right and down.
AFFINE = 6


def smoothed(field: ArrayLike, sigma: float) -> Float64:
    """A field (h, w) smoothed by a Gaussian that sums to 1 and ends at 4 sigma; beyond the field are zeros.

    Examples
    --------
    >>> from fastmlp.reference_augment import smoothed
    >>> smoothed([[0, 0, 1, 0, 0]], sigma=0.5).round(3).tolist()
    [[0.0, 0.084, 0.619, 0.084, 0.0]]
    """
    field = np.asarray(field, np.float64)
    reach = int(4 * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weights /= weights.sum()
    for axis in (0, 1):
        field = np.apply_along_axis(lambda line: np.convolve(line, weights)[reach : reach + len(line)], axis, field)
    return field


def sources(augment: Distortion, shape: tuple[int, int], key: int, row: int) -> Float64:
    """Where the pixels of a new image (h, w) are read from in the old one: columns and rows, (2, h, w).

    Examples
    --------
    >>> from fastmlp.augment import Affine
    >>> from fastmlp.reference_augment import sources
    >>> sources(Affine(shift=(1, 1)), (1, 3), key=0, row=0).tolist()
    [[[-1.0, 0.0, 1.0]], [[-1.0, -1.0, -1.0]]]
    """
    h, w = shape
    affine, elastic = augment.affine, augment.elastic
    centre = np.array([w - 1, h - 1]).reshape(2, 1, 1) / 2
    places = np.array(np.meshgrid(np.arange(w), np.arange(h))) - centre
    if affine is not None:
        share = (draws(key, [row], range(AFFINE))[0] >> 8) / 2**24
        low, high = np.array(affine.ranges).T
        angle, width, height, shear, right, down = low + (high - low) * share
        rotation = [[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]
        forward = rotation @ np.array([[1, shear], [0, 1]]) @ np.diag([width, height])
        places -= np.array([right, down]).reshape(2, 1, 1)
        places = np.einsum("ij,jhw->ihw", np.linalg.inv(forward), places)
    places += centre
    if elastic is not None:
        bits = draws(key, [row], AFFINE + np.arange(h * w)).reshape(h, w)
        for axis, half in enumerate((bits & 0xFFFF, bits >> 16)):
            places[axis] += elastic.alpha * smoothed((2.0 * half - 65535) / 65536, elastic.sigma)
    return places


def bilinear(image: ArrayLike, places: ArrayLike) -> Float64:
    """An image (h, w), among zeros, read between its pixels at places (2, ...): columns and rows.

    Examples
    --------
    >>> from fastmlp.reference_augment import bilinear
    >>> bilinear([[1, 3]], [[0.5, 1.25], [0, 0]]).tolist()
    [2.0, 2.25]
    """
    framed = np.pad(float64(image), 1)
    h, w = framed.shape
    x, y = float64(places) + 1
    x, y = np.clip(x, 0, w - 1), np.clip(y, 0, h - 1)
    column, row = np.minimum(x.astype(int), w - 2), np.minimum(y.astype(int), h - 2)
    right, below = x - column, y - row
    upper = (1 - right) * framed[row, column] + right * framed[row, column + 1]
    lower = (1 - right) * framed[row + 1, column] + right * framed[row + 1, column + 1]
    return float64((1 - below) * upper + below * lower)


def distort(augment: Distortion, images: ArrayLike, seed: int, epoch: int = 0) -> Float64:
    """Images (n, h, w) as `augment(images, seed, epoch=epoch)` makes them.

    Examples
    --------
    >>> from fastmlp.augment import Affine
    >>> from fastmlp.reference_augment import distort
    >>> distort(Affine(shift=(1, 1)), [[[1, 2], [3, 4]]], seed=0).tolist()
    [[[0.0, 0.0], [0.0, 1.0]]]
    """
    images, key = np.asarray(images, np.float64), epoch_key(seed, epoch)
    new = [bilinear(image, sources(augment, image.shape, key, row)) for row, image in enumerate(images)]
    return np.array(new).reshape(images.shape)
