"""The network: its parameters, what it predicts, and how well."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastmlp import _prediction, checks, kernels, threads
from fastmlp.activations import ACTIVATIONS
from fastmlp.losses import LOSSES
from fastmlp.optimizers import Optimizer
from fastmlp.sparse import SparseRows

if TYPE_CHECKING:
    from fastmlp.callbacks import Callback
    from fastmlp.training import History, TrainingState

__all__ = ["MLP"]

Float32 = NDArray[np.float32]

INITS = ("he", "glorot", "normal")

# Multiply-adds a second of one thread, for choosing the number of threads: a cautious figure, as an
# overestimate of the work would start threads that cost more than they do.
RATE = 50e9

# Values of sparse rows that are made dense at a time.
DENSE_VALUES = 4 << 20

# Beyond any machine; a process that asks for more threads than it may start is ended by OpenMP.
MAX_THREADS = 1024


class MLP:
    """A multilayer perceptron: dense layers with one activation between them, and a loss at the end.

    Parameters
    ----------
    layer_sizes : sequence of int
        Inputs, units of each hidden layer, outputs: at least two numbers.
    activation : {"relu", "tanh", "logistic", "identity"}, default "relu"
        Of the hidden layers.
    loss : {"cross_entropy", "binary_cross_entropy", "squared_error"}, default "cross_entropy"
        What `fit` minimises, and with it the activation of the outputs: softmax, logistic or none.
    init : {"he", "glorot", "normal"}, default "he"
        "he": weights from N(0, 2 / fan_in) (He et al. 2015); "glorot": uniform within
        sqrt(6 / (fan_in + fan_out)) (Glorot & Bengio 2010); both with biases 0. "normal": weights and biases from
        N(0, 1), as the tutorial does.
    seed : int, default 0
        Of the first weights and of the order in which `fit` visits the rows. The same seed gives the same bits for
        any number of threads.
    n_threads : int or None, default None
        Threads that a call uses at most, up to 1024; fewer where its work is too small to share. None:
        `OMP_NUM_THREADS`, or the CPUs that the process may use.

    Raises
    ------
    TypeError, ValueError
        An argument is of the wrong type or out of its range.

    Examples
    --------
    >>> import numpy as np, fastmlp
    >>> X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=np.float32)
    >>> y = np.array([0, 1, 1, 0])
    >>> net = fastmlp.MLP((2, 16, 2), seed=1)
    >>> history = net.fit(X, y, epochs=200, optimizer=fastmlp.Adam(learning_rate=0.01), verbose=False)
    >>> net.predict(X)
    array([0, 1, 1, 0])
    """

    def __init__(
        self,
        layer_sizes: Sequence[int],
        *,
        activation: str = "relu",
        loss: str = "cross_entropy",
        init: str = "he",
        seed: int = 0,
        n_threads: int | None = None,
    ) -> None:
        self._layer_sizes = _sizes(layer_sizes)
        self._activation = checks.one_of("activation", activation, ACTIVATIONS)
        self._loss = checks.one_of("loss", loss, LOSSES)
        self.init = checks.one_of("init", init, INITS)
        self.seed = checks.integer("seed", seed, least=0, most=2**64 - 1)
        self.n_threads = None if n_threads is None else checks.integer("n_threads", n_threads, 1, MAX_THREADS)
        if loss == "cross_entropy" and self.layer_sizes[-1] < 2:
            raise ValueError("layer_sizes must end in at least 2 outputs for loss='cross_entropy', not 1")
        self._parameters = _initial(self.layer_sizes, self.init, self.seed)
        self._state: TrainingState | None = None
        self._few_rows = self._reader()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_few_rows"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._few_rows = self._reader()

    def __repr__(self) -> str:
        return f"MLP({self.layer_sizes}, activation={self.activation!r}, loss={self.loss!r}, seed={self.seed})"

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        """Inputs, units of each hidden layer, outputs."""
        return self._layer_sizes

    @property
    def activation(self) -> str:
        """Name of the hidden layers' activation."""
        return self._activation

    @property
    def loss(self) -> str:
        """Name of the loss."""
        return self._loss

    @property
    def parameters(self) -> Float32:
        """All parameters, flat (n_parameters,): each layer's weights, row by row, and then its bias.

        The network's own memory: what is written to it changes the network.
        """
        return self._parameters

    @property
    def weights(self) -> list[Float32]:
        """Weights of each layer, (n_in, n_out): views of `parameters`."""
        return [matrix[:-1] for matrix in self._matrices()]

    @property
    def biases(self) -> list[Float32]:
        """Bias of each layer, (n_out,): views of `parameters`."""
        return [matrix[-1] for matrix in self._matrices()]

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        epochs: int = 15,
        batch_size: int = 100,
        optimizer: Optimizer | None = None,
        validation_data: tuple[ArrayLike, ArrayLike] | None = None,
        sample_weight: ArrayLike | None = None,
        shuffle: bool = True,
        callbacks: Sequence[Callback] = (),
        verbose: bool | int = True,
    ) -> History:
        """Train the network, from where it stands: a second call goes on, optimizer state included.

        Parameters
        ----------
        X : array or SciPy sparse matrix (n, k)
            Rows of finite numbers, read as float32; an array that is so, in C order, without a copy. The zeros of a
            sparse matrix never take memory.
        y : array
            For "cross_entropy" labels (n,) of an integer type, or rows (n, m) of probabilities, one-hot or not; for
            "binary_cross_entropy" values in [0, 1], (n, m), or (n,) for one output; for "squared_error" values of
            that shape.
        epochs : int, default 15
        batch_size : int, default 100
            Rows of a step; the last batch of an epoch may be smaller.
        optimizer : SGD, Adam or AdamW; default Adam()
            Its state carries on from the last call where that used the same kind of optimizer.
        validation_data : (X, y) or None
            Evaluated after each epoch.
        sample_weight : array (n,) or None
            Not negative. The cost of a batch is the mean of its rows' losses by these weights.
        shuffle : bool, default True
            A new order of the rows each epoch, drawn from the seed.
        callbacks : sequence of Callback
        verbose : bool or int, default True
            Show progress: on standard output lines of epochs, at least half a second apart, or every k epochs for a
            number k; and a bar on a terminal or in a notebook. False or 0: nothing.

        Returns
        -------
        History
            Of this call's epochs.

        Raises
        ------
        TypeError, ValueError
            An argument is not as described; the network is as it was.
        DivergenceError
            The loss or a parameter is no longer finite; the network is as after the last finite epoch.
        KeyboardInterrupt
            On Ctrl-C, between two batches; the network is as after the last whole batch and may be used on.

        Examples
        --------
        >>> import numpy as np, fastmlp
        >>> X = np.linspace(-1, 1, 64, dtype=np.float32).reshape(-1, 1)
        >>> net = fastmlp.MLP((1, 8, 1), activation="tanh", loss="squared_error")
        >>> history = net.fit(X, X**2, epochs=20, batch_size=8, verbose=False)
        >>> history.loss[-1] < history.loss[0]
        True
        """
        # The one call upward, so that training stands where a user looks for it.
        from fastmlp import training  # noqa: PLC0415

        return training.fit(
            self,
            X,
            y,
            epochs=epochs,
            batch_size=batch_size,
            optimizer=optimizer,
            validation_data=validation_data,
            sample_weight=sample_weight,
            shuffle=shuffle,
            callbacks=callbacks,
            verbose=verbose,
        )

    def logits(self, X: ArrayLike) -> Float32:
        """Return the outputs before softmax or logistic, float32 (n, m).

        Parameters
        ----------
        X : array or SciPy sparse matrix (n, k)

        Raises
        ------
        TypeError, ValueError
            X is not a matrix (n, k) of finite numbers.

        Examples
        --------
        >>> import fastmlp
        >>> fastmlp.MLP((3, 4, 2)).logits([[0, 0, 0]])
        array([[0., 0.]], dtype=float32)
        """
        outputs = self._few_rows.logits(X)
        return self._logits(checks.rows("X", X, self.layer_sizes[0])) if outputs is None else outputs

    def predict_proba(self, X: ArrayLike) -> Float32:
        """Return probabilities, float32 (n, m): of each class, or of each output being 1.

        Parameters
        ----------
        X : array or SciPy sparse matrix (n, k)

        Raises
        ------
        TypeError, ValueError
            X is not a matrix (n, k) of finite numbers, or the loss is "squared_error", which has no probabilities.

        Examples
        --------
        >>> import fastmlp
        >>> fastmlp.MLP((3, 4, 2)).predict_proba([[0, 0, 0]])
        array([[0.5, 0.5]], dtype=float32)
        """
        if self.loss == "squared_error":
            raise ValueError("predict_proba needs a network with probabilities; this one has loss='squared_error'")
        outputs = self.logits(X)
        if self.loss == "cross_entropy":
            kernels.softmax(outputs, out=outputs)
        else:
            kernels.activate(outputs, "logistic", out=outputs)
        return outputs

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return what the network says of each row.

        Parameters
        ----------
        X : array or SciPy sparse matrix (n, k)

        Returns
        -------
        array
            "cross_entropy": labels, int64 (n,). "binary_cross_entropy": 0 or 1, int64. "squared_error": the values,
            float32. The last two have shape (n,) for one output, else (n, m).

        Raises
        ------
        TypeError, ValueError
            X is not a matrix (n, k) of finite numbers.

        Examples
        --------
        >>> import fastmlp
        >>> fastmlp.MLP((3, 4, 2)).predict([[0, 0, 0]])
        array([0])
        """
        return self._decide(self.logits(X))

    def evaluate(self, X: ArrayLike, y: ArrayLike) -> dict[str, float]:
        """Return the mean loss and, but for "squared_error", the accuracy: the share of rows predicted right.

        Parameters
        ----------
        X : array or SciPy sparse matrix (n, k)
        y : array
            As in `fit`; at least one row. A row of probabilities counts by its largest one, a binary row when every
            output is on its side of 0.5.

        Returns
        -------
        dict
            "loss" and, but for "squared_error", "accuracy".

        Raises
        ------
        TypeError, ValueError
            X or y is not as described.

        Examples
        --------
        >>> import fastmlp
        >>> scores = fastmlp.MLP((3, 4, 2)).evaluate([[0, 0, 0]], [0])
        >>> round(scores["loss"], 4), scores["accuracy"]
        (0.6931, 1.0)
        """
        names, task = ("X", "y"), (self.layer_sizes, self.loss)
        return self._evaluate(*checks.examples(names, *checks.shapes(names, X, y, *task), *task))

    def save(self, path: str | bytes | os.PathLike[str]) -> None:
        """Write the network to a safetensors file, which `fastmlp.load` and PyTorch read; see `fastmlp.files`.

        Parameters
        ----------
        path : path-like

        Raises
        ------
        ValueError
            A parameter is not finite.
        OSError
            The file cannot be written.

        Examples
        --------
        >>> import fastmlp, tempfile, os
        >>> path = os.path.join(tempfile.mkdtemp(), "net.safetensors")
        >>> fastmlp.MLP((3, 4, 2)).save(path)
        >>> fastmlp.load(path).layer_sizes
        (3, 4, 2)
        """
        from fastmlp import files  # noqa: PLC0415 - safetensors is imported with it

        files.save(self, path)

    def _matrices(self) -> list[Float32]:
        """Each layer's weights and, as their last row, its bias."""
        matrices, start = [], 0
        for k, m in pairwise(self.layer_sizes):
            matrices.append(self._parameters[start : start + (k + 1) * m].reshape(k + 1, m))
            start += (k + 1) * m
        return matrices

    def _reader(self) -> _prediction.FewRows:
        return _prediction.FewRows(self.layer_sizes, self._parameters, ACTIVATIONS[self.activation].code)

    def _logits(self, rows: Float32 | SparseRows) -> Float32:
        outputs = np.empty((len(rows), self.layer_sizes[-1]), np.float32)
        # Sparse rows are made dense some at a time: the engine lists their values again, in passing.
        step = max(1, DENSE_VALUES // self.layer_sizes[0]) if isinstance(rows, SparseRows) else max(1, len(rows))
        code = ACTIVATIONS[self.activation].code
        for first in range(0, len(rows), step):
            part = outputs[first : first + step]
            dense = rows.dense(first, first + len(part)) if isinstance(rows, SparseRows) else rows
            n_threads = threads.choose(self.n_threads, len(part) * self._parameters.size / RATE)
            _prediction.logits(part, self.layer_sizes, self._parameters, code, dense, n_threads)
        if not np.isfinite(outputs).all():
            self._require_finite()
        return outputs

    def _require_finite(self) -> None:
        if not np.isfinite(self._parameters).all():
            raise ValueError("parameters of the network must be finite; they have NaN or infinity")

    def _decide(self, outputs: Float32) -> NDArray[Any]:
        if self.loss == "cross_entropy":
            return np.asarray(outputs.argmax(axis=1))
        decided = (outputs > 0).astype(np.int64) if self.loss == "binary_cross_entropy" else outputs
        return decided[:, 0] if decided.shape[1] == 1 else decided

    def _evaluate(self, rows: Float32 | SparseRows, targets: checks.Targets) -> dict[str, float]:
        outputs = self._logits(rows)
        scores = {}
        if self.loss != "squared_error":
            scores["accuracy"] = float(np.mean(self._is_right(outputs, targets)))
        losses = kernels.losses(outputs, targets.given, self.loss)
        return {"loss": float(losses.mean(dtype=np.float64)), **scores}

    def _is_right(self, outputs: Float32, targets: checks.Targets) -> NDArray[np.bool_]:
        if self.loss == "binary_cross_entropy":
            return np.asarray(((outputs > 0) == (targets.given > 0.5)).all(axis=1))
        labels = targets.given.argmax(axis=1) if targets.labels is None else targets.labels
        return np.asarray(outputs.argmax(axis=1) == labels)


def _sizes(layer_sizes: Sequence[int]) -> tuple[int, ...]:
    if isinstance(layer_sizes, (str, bytes)) or not isinstance(layer_sizes, (Sequence, np.ndarray)):
        raise TypeError(f"layer_sizes must be a sequence of whole numbers, not {layer_sizes!r:.80}")
    sizes = tuple(
        checks.integer(f"layer_sizes[{i}]", size, least=1, most=2**31 - 1) for i, size in enumerate(layer_sizes)
    )
    if len(sizes) < 2:
        raise ValueError(f"layer_sizes must have at least inputs and outputs, not {sizes}")
    n_parameters = sum((k + 1) * m for k, m in pairwise(sizes))
    if n_parameters >= 2**60:  # 4 bytes each: no array can be longer
        raise ValueError(f"layer_sizes must make less than 2**60 parameters; {sizes} makes {n_parameters}")
    return sizes


def _initial(layer_sizes: tuple[int, ...], init: str, seed: int) -> Float32:
    """First parameters, drawn layer by layer from the seed."""
    generator = np.random.Generator(np.random.Philox(key=np.array([seed, 0], np.uint64)))
    pieces = []
    for k, m in pairwise(layer_sizes):
        if init == "normal":
            pieces.append(generator.standard_normal((k + 1) * m, dtype=np.float32))
            continue
        if init == "he":
            weights = generator.standard_normal(k * m, dtype=np.float32) * np.float32(np.sqrt(2 / k))
        else:
            limit = np.float32(np.sqrt(6 / (k + m)))
            weights = (2 * generator.random(k * m, dtype=np.float32) - 1) * limit
        pieces += [weights, np.zeros(m, np.float32)]
    return np.concatenate(pieces)
