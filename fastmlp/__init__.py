"""fastmlp trains multilayer perceptrons on CPUs.

>>> import fastmlp
>>> X, y = fastmlp.load_mnist("validation")
>>> net = fastmlp.MLP((784, 32, 10))
>>> history = net.fit(X, y, epochs=3, verbose=False)
>>> net.evaluate(X, y)["accuracy"] > 0.9
True
"""

import importlib
import os
from types import ModuleType

from fastmlp import callbacks, kernels
from fastmlp.config import show_config
from fastmlp.datasets import load_mnist
from fastmlp.errors import DivergenceError, FileFormatError
from fastmlp.network import MLP
from fastmlp.optimizers import SGD, Adam, AdamW

__all__ = [
    "MLP",
    "SGD",
    "Adam",
    "AdamW",
    "DivergenceError",
    "FileFormatError",
    "callbacks",
    "kernels",
    "load",
    "load_mnist",
    "show_config",
]

__version__ = "0.1.0"


def __getattr__(name: str) -> ModuleType:
    """Import the modules that few need when they are first asked for."""
    if name in ("images", "plots", "training"):
        return importlib.import_module(f"fastmlp.{name}")
    raise AttributeError(f"module 'fastmlp' has no attribute {name!r}")


def load(path: str | bytes | os.PathLike[str]) -> MLP:
    """Read a network from a file that `MLP.save` wrote; see `fastmlp.files`.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    MLP

    Raises
    ------
    FileFormatError
        The file is not a network: the message names the key or the byte.
    OSError
        The file cannot be read.

    Examples
    --------
    >>> import fastmlp, tempfile, os
    >>> path = os.path.join(tempfile.mkdtemp(), "net.safetensors")
    >>> fastmlp.MLP((3, 4, 2)).save(path)
    >>> fastmlp.load(path)
    MLP((3, 4, 2), activation='relu', loss='cross_entropy', seed=0)
    """
    from fastmlp import files  # noqa: PLC0415 - safetensors is imported with it

    return files.load(path)
