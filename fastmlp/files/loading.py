"""What is in a file: a network, or an ensemble."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from fastmlp import checks
from fastmlp.activations import ACTIVATIONS
from fastmlp.ensemble import Ensemble
from fastmlp.files import safetensors
from fastmlp.files.ensemble import ENSEMBLE, read_ensemble
from fastmlp.files.network import read, reading
from fastmlp.losses import Loss, loss_of, short
from fastmlp.network import MLP

__all__ = ["load"]


def load(
    path: str | bytes | os.PathLike[str],
    *,
    activation: str | Sequence[str] | None = None,
    loss: str | Loss | None = None,
) -> MLP | Ensemble:
    """Load a network or an ensemble that ``save`` wrote, or the dense layers that PyTorch or another program wrote.

    Nothing in the file is executed, and no more memory is used than a network of the file's size takes.

    Parameters
    ----------
    path
        The file, in the safetensors format. One that ``save`` did not write must hold the tensors of dense layers and
        no others: weights (m, k) and biases (m,), of float64, float32, float16 or bfloat16, with names that differ in
        their numbers and end in ``weight`` and ``bias``, as ``"0.weight"`` or ``"net.fc1.bias"``. The numbers, in
        order, may have gaps, which ``ReLU``, ``Dropout`` and ``Flatten`` leave in the names of a ``Sequential``.
        Where a layer has no bias, it is 0. Between them may stand those of ``BatchNorm1d``, one after each layer but
        the last, with the momentum and the epsilon that PyTorch gives it.
    activation
        Of the hidden layers, or of each: such a file does not say it. For a file of ``save`` it may be left out.
    loss
        Likewise; default ``"cross_entropy"``.

    Returns
    -------
    MLP or Ensemble
        One that computes the same bits as the one that was saved; or, of another program's file, the same
        function.

    Raises
    ------
    TypeError, ValueError
        The path is none; activation or loss is unknown, or not what the file says.
    FileFormatError
        The file is not a safetensors file, not a network, or damaged: the message names the key and what is wrong.
    OSError
        The file cannot be read; ``FileNotFoundError`` when there is none.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> import fastmlp
    >>> network = fastmlp.MLP((4, 3, 2), activation="tanh", seed=1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "small.safetensors")
    ...     network.save(path)
    ...     loaded = fastmlp.load(path)
    >>> loaded.activation, np.array_equal(loaded.parameters, network.parameters)
    ('tanh', True)
    """
    path = checks.path("path", path)
    given: dict[str, Any] = {}
    if activation is not None:
        given["activation"] = checks.one_or_each("activation", activation, ACTIVATIONS, None, "hidden layers")
    if loss is not None:
        given["loss"] = short(loss_of(loss))
    with reading(path) as stream:
        header = safetensors.read_header(stream)
        reader = read_ensemble if ENSEMBLE in header.metadata else read
        model: MLP | Ensemble = reader(stream, header, given)
    for network in model.networks if isinstance(model, Ensemble) else (model,):
        if activation is not None:
            checks.one_or_each("activation", activation, ACTIVATIONS, len(network.layers) - 1, "hidden layers")
        for name, value in given.items():
            if value != getattr(network, name):
                raise ValueError(
                    f"{name} must be {getattr(network, name)!r}, as {path} says, or left out; not {value!r}"
                )
    return model
