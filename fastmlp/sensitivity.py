"""How the loss of each row changes with its inputs: the pass back through all layers, down to X."""

from collections.abc import Sequence

import numpy as np

from fastmlp import kernels
from fastmlp.activations import ACTIVATIONS
from fastmlp.arrays import Array, Float32
from fastmlp.engine import operations
from fastmlp.layers import Layer, views
from fastmlp.losses import Custom, Loss, loss_of
from fastmlp.rows import Targets
from fastmlp.sparse import SparseRows

__all__ = ["input_gradient"]

# Values of the widest layer at a time, about: bounded memory, and Ctrl-C is heard between them.
_VALUES = 1 << 20


def input_gradient(
    layers: Sequence[Layer],
    parameters: Float32,
    rows: Array | SparseRows,
    targets: Targets,
    *,
    loss: str | Loss,
    n_threads: int,
) -> Float32:
    """Return the gradient of each row's loss by its inputs, float32 (n, k): `fastmlp.MLP.input_gradient`.

    Parameters
    ----------
    layers : sequence of Layer
        Without normalisation: `fastmlp.normalisation.folded` makes such.
    parameters : float32 array
    rows : array or SparseRows (n, k)
    targets : Targets
    loss : str or fastmlp.losses.Loss
    n_threads : int
        At most. Any number gives the same bits.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp.layers import Layer
    >>> from fastmlp.rows import Targets
    >>> from fastmlp.sensitivity import input_gradient
    >>> targets = Targets(labels=None, values=np.float32([[1]]))
    >>> layers, parameters, X = [Layer(1, 1, "identity")], np.float32([3, 0]), np.float32([[2]])
    >>> input_gradient(layers, parameters, X, targets, loss="squared_error", n_threads=1)
    array([[15.]], dtype=float32)
    """
    weights, biases = (views(layers, parameters, name) for name in ("weights", "bias"))
    # Backward is the same product with the weights transposed.
    transposed = [np.ascontiguousarray(w.T) for w in weights]
    step = max(1, _VALUES // max(max(w.shape) for w in weights))
    out = np.empty((len(rows), layers[0].inputs), np.float32)
    for first in range(0, len(rows), step):
        part = slice(first, min(first + step, len(rows)))
        dense = rows.dense(part.start, part.stop) if isinstance(rows, SparseRows) else rows[part]
        h, read = np.require(dense, np.float32, ["C", "A"]), []
        for layer, w, b in zip(layers, weights, biases, strict=True):
            z = kernels.matmul_bias(h, w, b, n_threads=n_threads)
            h = kernels.activate(z, layer.activation, n_threads=n_threads)
            read.append(z if ACTIVATIONS[layer.activation].reads == "sum" else h)
        dz = _dlogits(h, targets, part, loss_of(loss), n_threads)
        for i in reversed(range(len(layers))):
            no_bias = np.zeros(layers[i].inputs, np.float32)
            dz = kernels.matmul_bias(dz, transposed[i], no_bias, n_threads=n_threads)
            if i > 0:
                code = ACTIVATIONS[layers[i - 1].activation].code
                operations.activate_backward(dz.reshape(-1), read[i - 1].reshape(-1), code, n_threads)
        out[part] = dz
    return out


def _dlogits(logits: Float32, targets: Targets, part: slice, loss: Loss, n_threads: int) -> Float32:
    """Return the gradient of a part's losses by their logits (n, m), in the place of these where the engine has it."""
    if isinstance(loss, Custom):
        return loss.evaluated(logits, targets.given[part])[1]
    labels = None if targets.labels is None else targets.labels[part]
    values = None if targets.values is None else targets.values[part]
    ones, parameters = np.ones(len(logits), np.float32), np.array(loss.parameters, np.float32)
    assert loss.code is not None
    operations.loss_gradient(logits, np.empty_like(ones), labels, values, ones, loss.code, parameters, n_threads)
    return logits
