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
from collections.abc import Sequence
from typing import Any

try:
    import fastmlp.engine.table as _table  # noqa: F401 - says of itself that it is not there
except ImportError as error:
    from fastmlp.errors import refuse_import

    refuse_import(error)

from fastmlp import augment, callbacks, kernels, losses, schedules, training
from fastmlp.config import __version__ as __version__
from fastmlp.config import show_config
from fastmlp.datasets import load_mnist
from fastmlp.ensemble import Ensemble
from fastmlp.errors import DivergenceError, FileFormatError, FitError
from fastmlp.losses import Loss
from fastmlp.network import MLP
from fastmlp.optimizers import SGD, Adam, AdamW
from fastmlp.training import fit_many

__all__ = [
    "MLP",
    "SGD",
    "Adam",
    "AdamW",
    "DivergenceError",
    "Ensemble",
    "FileFormatError",
    "FitError",
    "augment",
    "callbacks",
    "fit_many",
    "kernels",
    "load",
    "load_mnist",
    "losses",
    "schedules",
    "show_config",
    "training",
]


def __getattr__(name: str) -> Any:
    """Import what few need when it is first asked for."""
    if name in ("images", "plots", "recipes", "sklearn"):
        return importlib.import_module(f"fastmlp.{name}")
    if name in ("MLPClassifier", "MLPRegressor"):
        return getattr(importlib.import_module("fastmlp.sklearn"), name)
    raise AttributeError(f"module 'fastmlp' has no attribute {name!r}")


def load(
    path: str | bytes | os.PathLike[str],
    *,
    activation: str | Sequence[str] | None = None,
    loss: str | Loss | None = None,
) -> MLP | Ensemble:
    """Read what a safetensors file holds that `MLP.save`, `Ensemble.save` or PyTorch wrote; see `fastmlp.files.load`.

    Parameters
    ----------
    path : path-like
    activation : str or sequence of str
    loss : str or fastmlp.losses.Loss
        For dense layers that PyTorch or another program wrote, where the file does not say them. `loss` is then
        "cross_entropy" by default.

    Returns
    -------
    MLP or Ensemble

    Raises
    ------
    FileFormatError
        The file is not a network, or damaged: the message names the key or the byte.
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
    from fastmlp import files  # noqa: PLC0415 - json is imported with it

    return files.load(path, activation=activation, loss=loss)
