"""MNIST, which comes with the package, and readers for data sets in the same format."""

from fastmlp.datasets.digits import load_mnist
from fastmlp.datasets.idx import read_idx

__all__ = ["load_mnist", "read_idx"]
