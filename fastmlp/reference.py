"""What the fast engine computes, in plain float64 NumPy: the specification, and the oracle of the tests.

A network of L layers turns a batch X of n rows into logits::

    h_0 = X
    z_i = h_(i-1) @ weights_i + bias_i           forward
    h_i = activation(z_i)                        for i < L; the last layer's z_L are the logits

    cost = sum_r w_r loss(z_L[r], targets[r]) / sum_r w_r          w: sample weights, 1 if not given

    dz_L = w / sum(w) * loss'(z_L, targets)                        backward
    dweights_i = h_(i-1).T @ dz_i,    dbias_i = sum of dz_i over the rows
    dz_(i-1) = (dz_i @ weights_i.T) * activation'(z_(i-1))

and an optimizer turns each parameter and its gradient into the parameter's next value. This is Rumelhart,
Hinton & Williams 1986, "Learning representations by back-propagating errors", in matrix form; Bishop 2006,
"Pattern Recognition and Machine Learning", equations 5.53 to 5.56.

In training, noise a_i may be added and a mask m_i multiplied, which `normals` and `dropout` draw for each row::

    h_0 = (X + a_0) * m_0
    h_i = activation(z_i + a_i) * m_i
    dz_(i-1) = (dz_i @ weights_i.T) * m_(i-1) * activation'(z_(i-1) + a_(i-1))
A layer may be normalised over the batch; then its bias is (2, m), bias and scale, and `normalise` stands in the place
of the sum::

    z_i = normalise(h_(i-1) @ weights_i, bias_i)

Any array that NumPy can read comes in, float64 goes out, and no argument is changed. The first functions have
the names and arguments of `fastmlp.kernels`, the others are the training step. Activations and losses are the
names of `fastmlp.activations` and `fastmlp.losses`, or losses themselves.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastmlp.activations import ACTIVATIONS, float64
from fastmlp.arrays import Float64
from fastmlp.losses import CrossEntropy, Loss, loss_of
from fastmlp.normalisation import EPSILON

__all__ = [
    "adam",
    "clip",
    "cost",
    "draws",
    "dropout",
    "fold",
    "forward",
    "gradients",
    "layer_key",
    "matmul_bias",
    "mixed",
    "normalise",
    "normalise_backward",
    "normals",
    "relu",
    "relu_backward",
    "running_statistics",
    "sgd",
    "shuffle",
    "softmax_cross_entropy",
    "train_step",
]


def matmul_bias(x: ArrayLike, weights: ArrayLike, bias: ArrayLike) -> Float64:
    """One layer before its activation: x (n, k) @ weights (k, m) + bias (m,) -> (n, m).

    Examples
    --------
    >>> from fastmlp.reference import matmul_bias
    >>> matmul_bias([[1, 2]], [[1, 0], [0, 10]], [0.5, 0.5]).tolist()
    [[1.5, 20.5]]
    """
    return float64(x) @ float64(weights) + float64(bias)


def relu(z: ArrayLike) -> Float64:
    """max(z, 0), elementwise (Nair & Hinton 2010).

    Examples
    --------
    >>> from fastmlp.reference import relu
    >>> relu([-1, 0, 2]).tolist()
    [0.0, 0.0, 2.0]
    """
    return ACTIVATIONS["relu"].forward(z)


def relu_backward(dh: ArrayLike, h: ArrayLike) -> Float64:
    """Gradient by z of h = relu(z), given the gradient dh by h: dh where h > 0, else 0.

    Examples
    --------
    >>> from fastmlp.reference import relu_backward
    >>> relu_backward([5, 6, 7], [0, 1, 2]).tolist()
    [0.0, 6.0, 7.0]
    """
    return np.where(np.greater(h, 0), float64(dh), 0.0)


def normalise(z: ArrayLike, bias: ArrayLike) -> Float64:
    """Batch normalisation of the sums z (n, m): scale * (z - mean) / sqrt(variance + 1e-5) + bias, (n, m).

    Ioffe & Szegedy 2015, "Batch normalization: accelerating deep network training by reducing internal covariate
    shift", algorithm 1: mean and variance (of n, not n - 1) are those of each column over the batch. One row alone is
    its own mean, and becomes the bias.

    Parameters
    ----------
    z : array (n, m)
    bias : array (2, m)
        Bias and scale: beta and gamma of the paper.

    Examples
    --------
    >>> from fastmlp.reference import normalise
    >>> normalise([[1], [3]], bias=[[10], [2]]).round(3).tolist()
    [[8.0], [12.0]]
    """
    bias, scale = float64(bias)
    normalised: Float64 = scale * _standardised(float64(z)) + bias
    return normalised


def normalise_backward(dy: ArrayLike, z: ArrayLike, bias: ArrayLike) -> tuple[Float64, Float64]:
    """Gradients by z (n, m) and by bias and scale (2, m) of `normalise`, given the gradient dy by its result.

    The first equations of section 3 of the paper, with mean and variance put in: what dy has in common over the batch,
    and what it has along z, changes nothing.

    Examples
    --------
    >>> from fastmlp.reference import normalise_backward
    >>> dz, dbias = normalise_backward([[1], [1], [4]], [[0], [1], [2]], bias=[[0], [1]])
    >>> dz.round(3).tolist(), dbias.round(3).tolist()
    ([[0.612], [-1.225], [0.612]], [[6.0], [3.674]])
    """
    dy, z = float64(dy), float64(z)
    x = _standardised(z)
    dbias = np.stack([dy.sum(axis=0), (dy * x).sum(axis=0)])
    factor = float64(bias)[1] / np.sqrt(z.var(axis=0) + EPSILON)
    return factor * (dy - (dbias[0] + x * dbias[1]) / len(z)), dbias


def running_statistics(mean: ArrayLike, variance: ArrayLike, z: ArrayLike) -> tuple[Float64, Float64]:
    """Running mean and variance (m,) of a normalised layer after another batch of sums z (n, m).

    As in PyTorch: 0.9 of what they were and 0.1 of the batch's, whose variance is the unbiased one, of n - 1. A batch
    of one row has none, and changes neither.

    Examples
    --------
    >>> from fastmlp.reference import running_statistics
    >>> mean, variance = running_statistics([0], [1], z=[[1], [3]])
    >>> mean.round(3).tolist(), variance.round(3).tolist()
    ([0.2], [1.1])
    """
    mean, variance, z = float64(mean), float64(variance), float64(z)
    if len(z) == 1:
        return mean, variance
    return 0.9 * mean + 0.1 * z.mean(axis=0), 0.9 * variance + 0.1 * z.var(axis=0, ddof=1)


def fold(weights: ArrayLike, bias: ArrayLike, mean: ArrayLike, variance: ArrayLike) -> tuple[Float64, Float64]:
    """Weights (k, m) and bias (m,) of the plain layer that a normalised one is in prediction, by running statistics.

    Ioffe & Szegedy 2015, algorithm 2, lines 10 and 11.

    Examples
    --------
    >>> from fastmlp.reference import fold
    >>> weights, bias = fold([[1]], bias=[[10], [2]], mean=[3], variance=[4])
    >>> weights.round(3).tolist(), bias.round(3).tolist()
    ([[1.0]], [7.0])
    """
    bias, scale = float64(bias)
    factor = scale / np.sqrt(float64(variance) + EPSILON)
    return float64(weights) * factor, bias - float64(mean) * factor


def softmax_cross_entropy(logits: ArrayLike, targets: ArrayLike) -> tuple[Float64, Float64]:
    """Cross-entropy of softmax(logits) against the targets, and its gradient (Bishop 2006, 4.108 and 4.109).

    Parameters
    ----------
    logits : array (n, m)
    targets : array (n,) of integer labels from 0 to m - 1, or (n, m) of rows of probabilities that sum to 1

    Returns
    -------
    loss_rows : array (n,)
        The loss of each row, in nats.
    dlogits : array (n, m)
        softmax(logits) - targets: the gradient of the *sum* of the rows' losses, not divided by n.

    Examples
    --------
    >>> from fastmlp.reference import softmax_cross_entropy
    >>> loss_rows, dlogits = softmax_cross_entropy([[0, 0]], [1])
    >>> loss_rows.round(4).tolist(), dlogits.tolist()
    ([0.6931], [[0.5, -0.5]])
    """
    loss = CrossEntropy()
    rows = _target_rows(targets, np.shape(logits), loss)
    return loss.value(logits, rows), loss.gradient(logits, rows)


def adam(
    weights: ArrayLike,
    m: ArrayLike,
    v: ArrayLike,
    gradient: ArrayLike,
    step: int,
    *,
    learning_rate: float = 1e-3,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-8,
    weight_decay: float = 0.0,
) -> tuple[Float64, Float64, Float64]:
    """One step of Adam, or of AdamW where weight_decay is not 0.

    Kingma & Ba 2015, "Adam: a method for stochastic optimization", algorithm 1: epsilon is added to the root
    of the bias-corrected v, as in PyTorch. The decay is that of Loshchilov & Hutter 2019, "Decoupled weight
    decay regularization", in PyTorch's form: first, learning_rate * weight_decay of the weights is taken off.

    Parameters
    ----------
    weights, m, v, gradient : arrays of one shape
        m and v are the running means of the gradient and of its square; zeros before the first step.
    step : int
        The number of this step, counted from 1.

    Returns
    -------
    weights, m, v : arrays

    Examples
    --------
    The first step is learning_rate long, whatever the size of the gradient:

    >>> from fastmlp.reference import adam
    >>> weights, m, v = adam([1.0, 1.0], [0, 0], [0, 0], gradient=[5, -0.01], step=1, learning_rate=0.1)
    >>> weights.round(4).tolist()
    [0.9, 1.1]
    """
    weights, m, v, gradient = float64(weights), float64(m), float64(v), float64(gradient)
    weights = weights * (1.0 - learning_rate * weight_decay)
    m = beta_1 * m + (1.0 - beta_1) * gradient
    v = beta_2 * v + (1.0 - beta_2) * gradient**2
    m_corrected = m / (1.0 - beta_1**step)
    v_corrected = v / (1.0 - beta_2**step)
    return weights - learning_rate * m_corrected / (np.sqrt(v_corrected) + epsilon), m, v


def sgd(
    weights: ArrayLike,
    velocity: ArrayLike,
    gradient: ArrayLike,
    *,
    learning_rate: float = 0.01,
    momentum: float = 0.0,
    nesterov: bool = False,
) -> tuple[Float64, Float64]:
    """One step of stochastic gradient descent with momentum, in PyTorch's form.

    Sutskever et al. 2013, "On the importance of initialization and momentum in deep learning", equations 1
    and 2, or 3 and 4 for Nesterov's variant; but the velocity is a sum of gradients, which meets the learning
    rate when it is used, where theirs is a sum of steps.

    Parameters
    ----------
    weights, velocity, gradient : arrays of one shape
        velocity is zeros before the first step.

    Returns
    -------
    weights, velocity : arrays

    Examples
    --------
    >>> from fastmlp.reference import sgd
    >>> weights, velocity = sgd([1.0], velocity=[2.0], gradient=[1.0], learning_rate=0.1, momentum=0.5)
    >>> weights.tolist(), velocity.tolist()
    ([0.8], [2.0])
    """
    weights, velocity, gradient = float64(weights), float64(velocity), float64(gradient)
    velocity = momentum * velocity + gradient
    direction = gradient + momentum * velocity if nesterov else velocity
    return weights - learning_rate * direction, velocity


def clip(gradients: Sequence[ArrayLike], clip_norm: float) -> list[Float64]:
    """Gradients of all parameters, multiplied down where the norm of all of them together is above clip_norm.

    Pascanu, Mikolov & Bengio 2013, "On the difficulty of training recurrent neural networks", algorithm 1.

    Examples
    --------
    >>> from fastmlp.reference import clip
    >>> [gradient.tolist() for gradient in clip([[6, 0], [8]], clip_norm=5)]
    [[3.0, 0.0], [4.0]]
    """
    arrays = [float64(gradient) for gradient in gradients]
    norm = np.sqrt(sum((array**2).sum() for array in arrays))
    return [array * (clip_norm / norm) if norm > clip_norm else array for array in arrays]


def clip_values(gradients: Sequence[ArrayLike], clip_value: float) -> list[Float64]:
    """Gradients of all parameters, each component held within -clip_value and clip_value.

    Examples
    --------
    >>> from fastmlp.reference import clip_values
    >>> [gradient.tolist() for gradient in clip_values([[6, 0], [-8]], clip_value=7)]
    [[6.0, 0.0], [-7.0]]
    """
    return [np.clip(float64(gradient), -clip_value, clip_value) for gradient in gradients]


def constrain(weights: ArrayLike, max_norm: float) -> Float64:
    """Weights (k, m), the columns whose norm is above max_norm multiplied down to it.

    Srivastava et al. 2014, "Dropout: a simple way to prevent neural networks from overfitting", section 5.1.

    Examples
    --------
    >>> from fastmlp.reference import constrain
    >>> constrain([[6, 0], [8, 1]], max_norm=5).tolist()
    [[3.0, 0.0], [4.0, 1.0]]
    """
    weights = float64(weights)
    norms = np.sqrt((weights**2).sum(axis=0))
    return weights * np.where(norms > max_norm, max_norm / np.where(norms > 0, norms, 1), 1)


def average(averages: ArrayLike, parameters: ArrayLike, step: int, ema: float) -> Float64:
    """Averages of the parameters after step `step`, counted from 1, from those after the step before.

    They are the mean over all steps so far, in which each weighs ema times the next one. That is the running mean
    ``a = ema * a + (1 - ema) * parameters`` from 0 on, divided by 1 - ema**step: the bias-corrected one of Kingma & Ba
    2015, section 7.2, after Polyak & Juditsky 1992, "Acceleration of stochastic approximation by averaging".

    Examples
    --------
    >>> from fastmlp.reference import average
    >>> average([0.0], [8.0], step=1, ema=0.5).tolist(), average([8.0], [2.0], step=2, ema=0.5).tolist()
    ([8.0], [4.0])
    """
    averages = float64(averages)
    return averages + (1.0 - ema) / (1.0 - ema**step) * (float64(parameters) - averages)


# For the input and each hidden layer: what is added, and by what is multiplied.
Noise: TypeAlias = Sequence[tuple[ArrayLike, ArrayLike]]


def forward(
    weights: Sequence[ArrayLike],
    biases: Sequence[ArrayLike],
    X: ArrayLike,
    activation: str | Sequence[str],
    noise: Noise | None = None,
) -> list[Float64]:
    """Output of every layer for a batch X: [h_1, ..., h_(L-1), logits]; activation is of all of them, or of each.

    `noise` has a pair (a_i, m_i) for the input and each hidden layer, arrays that fit (n, units); None is none of it.

    Examples
    --------
    >>> from fastmlp.reference import forward
    >>> h, logits = forward([[[1, -1]], [[2], [3]]], [[0, 0], [10]], X=[[1], [-1]], activation="relu")
    >>> h.tolist(), logits.tolist()
    ([[1.0, 0.0], [0.0, 1.0]], [[12.0], [13.0]])
    >>> noise = [(0, 1), ([[0, 0], [5, 0]], [2, 0])]
    >>> forward([[[1, -1]], [[2], [3]]], [[0, 0], [10]], X=[[1], [-1]], activation="relu", noise=noise)[0].tolist()
    [[2.0, 0.0], [8.0, 0.0]]
    """
    inputs, _ = _inputs(weights, biases, X, activation, noise)
    return [*inputs[1:], matmul_bias(inputs[-1], weights[-1], biases[-1])]


def cost(
    weights: Sequence[ArrayLike],
    biases: Sequence[ArrayLike],
    X: ArrayLike,
    targets: ArrayLike,
    *,
    activation: str | Sequence[str],
    loss: str | Loss,
    sample_weight: ArrayLike | None = None,
    noise: Noise | None = None,
) -> float:
    """Cost of a batch: the mean of its rows' losses, weighted by sample_weight (n,) where that is given.

    A batch whose weights sum to 0 costs 0. For ``cross_entropy`` the targets may be labels (n,). `noise` is that of
    `forward`.

    Examples
    --------
    >>> from fastmlp.reference import cost
    >>> network = [[[1]]], [[0]]
    >>> cost(*network, X=[[1], [2]], targets=[[0], [0]], activation="relu", loss="squared_error")
    1.25
    """
    logits = forward(weights, biases, X, activation, noise)[-1]
    row_losses = loss_of(loss).value(logits, _target_rows(targets, logits.shape, loss))
    return float(_shares(sample_weight, len(logits)) @ row_losses)


def gradients(
    weights: Sequence[ArrayLike],
    biases: Sequence[ArrayLike],
    X: ArrayLike,
    targets: ArrayLike,
    *,
    activation: str | Sequence[str],
    loss: str | Loss,
    sample_weight: ArrayLike | None = None,
    noise: Noise | None = None,
) -> tuple[float, list[Float64], list[Float64]]:
    """Cost of a batch and its gradients by every layer's weights and bias: (cost, dweights, dbiases).

    The arguments are those of `cost`.

    Examples
    --------
    >>> from fastmlp.reference import gradients
    >>> network = [[[1]]], [[0]]
    >>> gradients(*network, X=[[1], [2]], targets=[[0], [0]], activation="relu", loss="squared_error")
    (1.25, [array([[2.5]])], [array([1.5])])
    """
    inputs, sums = _inputs(weights, biases, X, activation, noise)
    logits = matmul_bias(inputs[-1], weights[-1], biases[-1])
    rows = _target_rows(targets, logits.shape, loss)
    shares = _shares(sample_weight, len(logits))
    batch_cost = float(shares @ loss_of(loss).value(logits, rows))

    dz = shares[:, np.newaxis] * loss_of(loss).gradient(logits, rows)
    names = _each(activation, len(weights) - 1)
    dweights: list[Float64] = []
    dbiases: list[Float64] = []
    for i in reversed(range(len(weights))):
        dbias = dz.sum(axis=0)
        if np.ndim(biases[i]) == 2:
            dz, dbias = normalise_backward(dz, inputs[i] @ float64(weights[i]), biases[i])
        dbiases.insert(0, dbias)
        dweights.insert(0, inputs[i].T @ dz)
        if i > 0:
            mask = 1.0 if noise is None else float64(noise[i][1])
            dz = (dz @ float64(weights[i]).T) * mask * ACTIVATIONS[names[i - 1]].derivative(sums[i])
    return batch_cost, dweights, dbiases


def train_step(
    weights: Sequence[ArrayLike],
    biases: Sequence[ArrayLike],
    state: Sequence[tuple[ArrayLike, ...]],
    X: ArrayLike,
    targets: ArrayLike,
    *,
    activation: str | Sequence[str],
    loss: str | Loss,
    update: Callable[..., tuple[Float64, ...]],
    sample_weight: ArrayLike | None = None,
    l2: float = 0.0,
    noise: Noise | None = None,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    max_norm: float | None = None,
) -> tuple[float, list[Float64], list[Float64], list[tuple[Float64, ...]]]:
    """One step of training on a batch; all gradients are those at the old parameters.

    Parameters
    ----------
    weights, biases, X, targets, activation, loss, sample_weight, noise
        As for `cost`.
    state : sequence of tuples of arrays
        What the optimizer remembers of each of ``[*weights, *biases]``, in this order: (m, v) for `adam`,
        (velocity,) for `sgd`; zeros before the first step.
    update : callable
        ``update(parameter, *state, gradient) -> (parameter, *state)``: `sgd` or `adam` with their
        hyper-parameters and step filled in. Biases are treated as weights are, weight decay included.
    l2 : float
        The update takes the gradient of cost + l2 / 2 * the sum of all squared weights; biases are not in it.
    clip_norm : float or None
        What `clip` holds the gradients of the cost within, before the update.
    clip_value : float or None
        What `clip_values` holds them within, after that.
    max_norm : float or None
        What `constrain` holds all weights within, after the update.

    Returns
    -------
    cost : float
        Of the batch, before the step.
    weights, biases, state : lists

    Examples
    --------
    A network learns the exclusive or:

    >>> import functools
    >>> import numpy as np
    >>> from fastmlp.reference import adam, forward, train_step
    >>> X, targets = [[0, 0], [0, 1], [1, 0], [1, 1]], [[0], [1], [1], [0]]
    >>> weights = [np.random.default_rng(0).normal(size=(2, 8)), np.zeros((8, 1))]
    >>> biases = [np.zeros(8), np.zeros(1)]
    >>> state = [(np.zeros_like(p), np.zeros_like(p)) for p in weights + biases]
    >>> names = {"activation": "tanh", "loss": "binary_cross_entropy"}
    >>> for step in range(1, 101):
    ...     update = functools.partial(adam, step=step, learning_rate=0.1)
    ...     cost, weights, biases, state = train_step(
    ...         weights, biases, state, X, targets, **names, update=update
    ...     )
    >>> (forward(weights, biases, X, "tanh")[-1] > 0).astype(int).tolist()
    [[0], [1], [1], [0]]
    """
    batch_cost, dweights, dbiases = gradients(
        weights, biases, X, targets, activation=activation, loss=loss, sample_weight=sample_weight, noise=noise
    )
    steps = [*dweights, *dbiases]
    if clip_norm is not None:
        steps = clip(steps, clip_norm)
    if clip_value is not None:
        steps = clip_values(steps, clip_value)
    depth = len(weights)
    steps = [*(step + l2 * float64(w) for step, w in zip(steps, weights, strict=False)), *steps[depth:]]
    updated = [
        update(parameter, *remembered, gradient)
        for parameter, remembered, gradient in zip([*weights, *biases], state, steps, strict=True)
    ]
    parameters = [new[0] for new in updated]
    if max_norm is not None:
        parameters[:depth] = [constrain(weights, max_norm) for weights in parameters[:depth]]
    return batch_cost, parameters[:depth], parameters[depth:], [new[1:] for new in updated]


def mixed(x: ArrayLike, key: ArrayLike) -> NDArray[np.uint32]:
    """32 bits made of 32 bits and a key, on which all random numbers of the engine rest: one to one for each key.

    Examples
    --------
    >>> from fastmlp.reference import mixed
    >>> len(set(mixed(range(1000), key=7).tolist()))
    1000
    """
    x = (np.asarray(x, np.uint32) ^ np.asarray(key, np.uint32)) * np.uint32(0x9E3779B1)
    x = (x ^ x >> np.uint32(15)) * np.uint32(0x85EBCA77)
    return np.asarray(x ^ x >> np.uint32(13), np.uint32)


def shuffle(n: int, keys: ArrayLike) -> NDArray[np.int64]:
    """The numbers from 0 to n - 1 in the order that six 32-bit keys decide.

    A Feistel network permutes the numbers of `bits` bits, the least that hold n, but 10 at least; those from n on are
    left out. Its rounds are pseudo-random functions of one half of the bits, each with its key (Luby & Rackoff 1988,
    "How to construct pseudorandom permutations from pseudorandom functions"; Black & Rogaway 2002, "Ciphers with
    arbitrary finite domains").

    Examples
    --------
    >>> from fastmlp.reference import shuffle
    >>> sorted(shuffle(5, [1, 2, 3, 4, 5, 6]).tolist())
    [0, 1, 2, 3, 4]
    """
    bits = max(10, (n - 1).bit_length())
    low = (bits + 1) // 2
    x = np.arange(2**bits, dtype=np.uint32)
    a, b = x & np.uint32(2**low - 1), x >> low
    for even, odd in np.asarray(keys, np.uint32).reshape(3, 2):
        b = b ^ mixed(a, even) & np.uint32(2 ** (bits - low) - 1)
        a = a ^ mixed(b, odd) & np.uint32(2**low - 1)
    x = b << low | a
    return x[x < n].astype(np.int64)


def _each(activation: str | Sequence[str], count: int) -> Sequence[str]:
    """Names of so many hidden layers' activations."""
    return [activation] * count if isinstance(activation, str) else activation


def draws(key: int, rows: ArrayLike, places: ArrayLike) -> NDArray[np.uint32]:
    """32 random bits for each of the rows (n,) and each of the places in its stream (m,), from 0 to 2^32 - 1: (n, m).

    A function of these numbers and a key of 64 bits alone, in whichever order they are asked for (Salmon et al. 2011,
    "Parallel random numbers: as easy as 1, 2, 3").

    Examples
    --------
    >>> from fastmlp.reference import draws
    >>> draws(7, [5, 3], [0, 1])[1].tolist() == draws(7, [3], [0, 1])[0].tolist()
    True
    """
    a, b = key % 2**32, key >> 32
    rows = np.asarray(rows)[:, np.newaxis]
    return mixed(mixed(places, mixed(mixed(rows, a), b)), mixed(mixed(rows, b), a))


def layer_key(key: int, layer: int) -> int:
    """The key for the units of a layer, from 1, or for the input, 0, in an epoch: the next ones of SplitMix64.

    Examples
    --------
    >>> from fastmlp.reference import layer_key
    >>> hex(layer_key(0x10, layer=0))
    '0x9e3779b97f4a7c25'
    """
    return (key + (layer + 1) * 0x9E3779B97F4A7C15) % 2**64


def dropout(key: int, rows: ArrayLike, units: int, rate: float) -> Float64:
    """By what the units of a layer are multiplied for each of the rows (n,): 0, or 1 / (1 - rate); (n, units).

    Srivastava et al. 2014, "Dropout: a simple way to prevent neural networks from overfitting", in the inverted form
    of its section 10. The rate is rounded to a multiple of 2^-16, and less than 1: 16 bits decide for a unit, of every
    64 units those of the first 32 being the lower halves of 32 draws, those of the others the upper halves.

    Examples
    --------
    >>> from fastmlp.reference import dropout
    >>> sorted(set(dropout(7, range(10), 10, rate=0.75).ravel().tolist()))
    [0.0, 4.0]
    """
    unit = np.arange(units)
    bits = draws(key, rows, unit // 64 * 32 + unit % 32)
    dropped = min(65535, int(65536 * rate + 0.5))
    return np.where((bits >> (unit % 64 // 32 * 16).astype(np.uint32) & 0xFFFF) < dropped, 0, 65536 / (65536 - dropped))


def normals(key: int, rows: ArrayLike, units: int) -> Float64:
    """Numbers of N(0, 1) for the units of a layer and each of the rows (n,): (n, units).

    Of every 64 units, j and 32 + j are a pair from two draws (Box & Muller 1958, "A note on the generation of random
    normal deviates"), in the half of the row's stream that `dropout` does not use. None is beyond 5.8.

    Examples
    --------
    >>> from fastmlp.reference import normals
    >>> sample = normals(7, range(1000), 100)
    >>> sample.shape, bool(abs(sample.mean()) < 0.01), bool(0.99 < sample.std() < 1.01)
    ((1000, 100), True, True)
    """
    unit = np.arange(units)
    place = 2**31 + unit // 64 * 64 + unit % 32 * 2
    length = ((draws(key, rows, place) >> 9) + 0.5) / 2**23
    turn = 2 * np.pi * draws(key, rows, place + 1) / 2**32
    radius: Float64 = np.sqrt(-2 * np.log(length))
    return radius * np.where(unit % 64 < 32, np.cos(turn), np.sin(turn))


def _inputs(
    weights: Sequence[ArrayLike],
    biases: Sequence[ArrayLike],
    X: ArrayLike,
    activation: str | Sequence[str],
    noise: Noise | None,
) -> tuple[list[Float64], list[Float64]]:
    """What each layer reads, [h_0, ..., h_(L-1)], and, from h_1 on, what its activation reads."""
    names = _each(activation, len(weights) - 1)
    noise = [(0.0, 1.0)] * len(weights) if noise is None else noise
    inputs = [(float64(X) + float64(noise[0][0])) * float64(noise[0][1])]
    sums = [inputs[0]]
    for layer, name, (added, mask) in zip(zip(weights, biases, strict=True), names, noise[1:], strict=False):
        sums.append(_sums(inputs[-1], *layer) + float64(added))
        inputs.append(ACTIVATIONS[name].forward(sums[-1]) * float64(mask))
    return inputs, sums


def _sums(x: ArrayLike, weights: ArrayLike, bias: ArrayLike) -> Float64:
    """What the activation of a layer gets, (n, m): normalised where there is a scale beside the bias, (2, m)."""
    if np.ndim(bias) == 2:
        return normalise(float64(x) @ float64(weights), bias)
    return matmul_bias(x, weights, bias)


def _standardised(z: Float64) -> Float64:
    """Columns of z (n, m) of mean 0 and, but for EPSILON, variance 1."""
    standardised: Float64 = (z - z.mean(axis=0)) / np.sqrt(z.var(axis=0) + EPSILON)
    return standardised


def _target_rows(targets: ArrayLike, shape: tuple[int, ...], loss: str | Loss) -> Float64:
    """Targets as rows of the logits' shape (n, m); where those are classes, labels (n,) become one-hot rows."""
    targets = np.asarray(targets)
    n, m = shape
    if loss_of(loss).targets == "classes" and targets.shape == (n,):
        if not np.issubdtype(targets.dtype, np.integer):
            raise TypeError(f"targets of one dimension must be integer labels, got dtype {targets.dtype}")
        if np.any((targets < 0) | (targets >= m)):
            raise ValueError(f"targets must be labels from 0 to {m - 1}, got {targets.min()} to {targets.max()}")
        return float64(targets[:, np.newaxis] == np.arange(m))
    shape = n, m // loss_of(loss).outputs_a_target
    if targets.shape != shape:
        raise ValueError(f"targets must have a value for each output, {shape}, got {targets.shape}")
    return float64(targets)


def _shares(sample_weight: ArrayLike | None, n: int) -> Float64:
    """Each row's share (n,) in the cost: weights that sum to 1, or all zero where their sum is 0."""
    weight = np.ones(n) if sample_weight is None else float64(sample_weight)
    if weight.shape != (n,):
        raise ValueError(f"sample_weight must have shape {(n,)}, got {weight.shape}")
    total = weight.sum()
    return weight / total if total != 0 else np.zeros(n)
