"""MNIST and the data sets made in its image, split for training, validation and test."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.datasets.idx import read_idx
from fastmlp.errors import FileFormatError

__all__ = ["find_mnist", "load_mnist"]

_BUILT_IN = os.path.join(os.path.dirname(__file__), "mnist")
_SHA256 = {
    "train-images-idx3-ubyte.gz": "0b367032e93c5d0cea0925647cfdb18614af8ee15f83e6f2fc2ad904a6835971",
    "train-labels-idx1-ubyte.gz": "1787548bbe0bff1ec2ecdc0ef292b02df999e2d1a6002d27500982c652b17203",
    "t10k-images-idx3-ubyte.gz": "1a1a05eab793c14bb050b398624a11b0ffd1a2953baed553b1b9bd079e2a20be",
    "t10k-labels-idx1-ubyte.gz": "b91679a0acfe4ba0e50a2437a903084cba1f5f92592b016a25a7dfd00455798b",
}
_N_VALIDATION = 5000
_SPLITS = {  # the file's prefix and its rows
    "train": ("train", slice(_N_VALIDATION, None)),
    "validation": ("train", slice(_N_VALIDATION)),
    "test": ("t10k", slice(None)),
    "train+validation": ("train", slice(None)),
}


def load_mnist(
    split: str = "train", *, one_hot: bool = False, path: str | os.PathLike[str] | None = None
) -> tuple[npt.NDArray[np.float32], npt.NDArray[Any]]:
    """Load the images and labels of MNIST, or of a data set in the same files.

    Parameters
    ----------
    split
        ``"train"``: all rows of the official training file but its first 5,000 (55,000 rows of MNIST);
        ``"validation"``: those 5,000; ``"train+validation"``: the whole training file, in its order;
        ``"test"``: the test file (10,000 rows).
    one_hot
        Return a row of zeros and a one for each label.
    path
        A directory with four files of one's own, Fashion-MNIST for instance: ``train-images-idx3-ubyte``,
        ``train-labels-idx1-ubyte``, ``t10k-images-idx3-ubyte`` and ``t10k-labels-idx1-ubyte``, each with
        or without ``.gz``, or with a dot before ``idx``. Only the files that the split needs are read; for
        ``one_hot`` those are both label files. None: the MNIST that comes with the package, whose files
        are verified against their SHA-256.

    Returns
    -------
    X : numpy.ndarray, float32 (n, 784)
        A row per image, its pixels row by row, each divided by 255: from 0 to 1.
    y : numpy.ndarray, int64 (n,) or float32 (n, n_classes)
        The labels, or with ``one_hot`` a row per label. The number of classes is one more than the largest
        label in the training and the test file, thus the same for every split; 10 for MNIST.

    Raises
    ------
    FileFormatError
        A file is not IDX, is damaged, or does not hold what it should, or images and labels differ in rows.
    FileNotFoundError
        ``path`` or a file in it does not exist.
    ValueError
        ``split`` is unknown, or a training file has too few rows to set 5,000 aside.

    References
    ----------
    Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-based learning applied to document recognition",
    Proceedings of the IEEE 86(11), 1998. © Yann LeCun and Corinna Cortes, CC BY-SA 3.0.

    Examples
    --------
    >>> from fastmlp.datasets import load_mnist
    >>> X, y = load_mnist("test")
    >>> X.shape, X.dtype, y[:5]
    ((10000, 784), dtype('float32'), array([7, 2, 1, 0, 4]))
    """
    if not isinstance(split, str) or split not in _SPLITS:
        raise ValueError(f"split must be one of {', '.join(map(repr, _SPLITS))}, got {split!r}")
    prefix, rows = _SPLITS[split]
    labels = _read(path, f"{prefix}-labels-idx1-ubyte", "labels")
    if split in ("train", "validation") and len(labels) <= _N_VALIDATION:
        raise ValueError(
            f"split {split!r} needs more than the {_N_VALIDATION} rows that are for validation, "
            f"the training labels in {path} are {len(labels)}"
        )
    pixels = _read(path, f"{prefix}-images-idx3-ubyte", "images")
    if len(pixels) != len(labels):
        raise FileFormatError(f"{path or _BUILT_IN}: {len(pixels)} {prefix} images but {len(labels)} {prefix} labels")

    selected = pixels.reshape(len(pixels), pixels.shape[1] * pixels.shape[2])[rows]
    X = np.divide(selected, np.float32(255), dtype=np.float32)
    y = labels[rows].astype(np.int64)
    if not one_hot:
        return X, y
    other = _read(path, f"{'train' if prefix == 't10k' else 't10k'}-labels-idx1-ubyte", "labels")
    n_classes = 1 + max(int(labels.max(initial=0)), int(other.max(initial=0)))
    return X, np.eye(n_classes, dtype=np.float32)[y]


def find_mnist(split: str, path: str | os.PathLike[str]) -> tuple[str, str]:
    """Return the names of the files of images and labels that `load_mnist` would read; they are not opened.

    Raises
    ------
    FileNotFoundError
        ``path`` or a file in it does not exist.

    Examples
    --------
    >>> import tempfile
    >>> from fastmlp.datasets.digits import find_mnist
    >>> find_mnist("test", tempfile.mkdtemp())  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    FileNotFoundError: ... holds neither t10k-images-idx3-ubyte nor t10k-images.idx3-ubyte, with or without .gz
    """
    prefix, _ = _SPLITS[split]
    folder = os.fspath(path)
    return _find(folder, f"{prefix}-images-idx3-ubyte"), _find(folder, f"{prefix}-labels-idx1-ubyte")


def _read(path: str | os.PathLike[str] | None, name: str, kind: str) -> npt.NDArray[np.uint8]:
    """Read a file of images (rank 3) or labels (rank 1), the built-in one when ``path`` is None."""
    file = _verified(name) if path is None else _find(os.fspath(path), name)
    array = read_idx(file)
    rank = {"images": 3, "labels": 1}[kind]
    if array.ndim != rank or array.dtype != np.uint8:
        raise FileFormatError(
            f"{file}: bytes 2 and 3 declare {array.dtype} of rank {array.ndim}, wanted uint8 of rank {rank}"
        )
    return array


def _verified(name: str) -> str:
    import hashlib  # noqa: PLC0415 - only the built-in files are verified

    file = os.path.join(_BUILT_IN, f"{name}.gz")
    with open(file, "rb") as stream:
        digest = hashlib.sha256(stream.read()).hexdigest()
    wanted = _SHA256[f"{name}.gz"]
    if digest != wanted:
        raise FileFormatError(f"{file}: SHA-256 is {digest}, wanted {wanted}: it is damaged, install fastmlp again")
    return file


def _find(folder: str, name: str) -> str:
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"path must be an existing directory, got {folder!r}")
    dotted = name.replace("-idx", ".idx")
    for candidate in (name, f"{name}.gz", dotted, f"{dotted}.gz"):
        file = os.path.join(folder, candidate)
        if os.path.exists(file):
            return file
    raise FileNotFoundError(f"{folder} holds neither {name} nor {dotted}, with or without .gz")
