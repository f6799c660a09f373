"""The network: its parameters, what it predicts, and how well."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastmlp import arrays, checks, hints, kernels, metrics, threads
from fastmlp.activations import ACTIVATIONS
from fastmlp.arrays import Array, Float32, are_floats
from fastmlp.augment import Distortion
from fastmlp.chunks import chunks_ahead, rows_ahead
from fastmlp.engine.prediction import PREDICT_ROWS, FewRows, Predictor
from fastmlp.engine.rows import Rows
from fastmlp.initial import INITS, fitting, initial_values
from fastmlp.layers import Layer, checked_sizes, engine_layers, layers_of, n_parameters, n_values, views
from fastmlp.losses import LOSSES, SOFTMAX, Loss, loss_of, short
from fastmlp.normalisation import fold
from fastmlp.optimizers import Optimizer
from fastmlp.rows import Stream, checked_examples, checked_rows, checked_shapes, rows_to_predict
from fastmlp.runs import History, Listener, RunState
from fastmlp.sensitivity import input_gradient
from fastmlp.sparse import SparseRows
from fastmlp.streams import as_stream

__all__ = ["MLP"]

# Seconds of prediction between two looks at signals.
SLICE = 0.02
# Multiply-adds that a value of a sparse row takes with each unit, in time: its weights lie anywhere in memory.
SCATTERED = 8

# What dropout and the standard deviation of noise may be.
_RATE = "in [0, 1)", lambda x: 0 <= x < 1
_DEVIATION = "at least 0", lambda x: x >= 0

_ATTRIBUTES = (
    *("_layers", "_activation", "_loss", "_init", "_batch_norm", "_seed", "_n_threads"),
    *("_dropout", "_input_dropout", "_noise", "_input_noise", "_max_norm"),
    *("_values", "_state", "_history", "_few_rows"),
)


class MLP:
    """A multilayer perceptron: dense layers with activations between them, and a loss at the end.

    Parameters
    ----------
    layer_sizes : sequence of int
        Inputs, units of each hidden layer, outputs: at least two numbers.
    activation : str or sequence of str, default "relu"
        Of all hidden layers, or of each: "relu", "leaky_relu" (of slope 0.01), "elu", "selu", "gelu", "gelu_tanh"
        (PyTorch's ``GELU(approximate="tanh")``), "silu", "mish", "softplus", "tanh", "logistic", "identity";
        `fastmlp.activations` has their formulas.
    loss : str or fastmlp.losses.Loss, default "cross_entropy"
        What `fit` minimises, and with it the activation of the outputs: softmax, logistic, exponential or none. See
        Notes; a name stands for the default parameters, and `fastmlp.losses.Custom` takes a function of your own.
    init : {"he", "glorot", "lecun", "normal"}, a sequence of these, one for each layer, or None, default None
        "he": weights from N(0, 2 / fan_in) (He et al. 2015); "glorot": uniform within
        sqrt(6 / (fan_in + fan_out)) (Glorot & Bengio 2010); "lecun": from N(0, 1 / fan_in) (LeCun et al. 1998); all
        with biases 0. "normal": weights and biases from N(0, 1), as the tutorial does. None: for each hidden layer
        what fits its activation, "lecun" for "selu", "glorot" for "softplus", "tanh", "logistic" and "identity", "he"
        for the others; the outputs' layer is drawn as the one before it.
    batch_norm : bool, default False
        Normalise the sums before each hidden layer's activation to mean 0 and variance 1 over the batch, with a scale
        and a shift for each unit that are learned (Ioffe & Szegedy 2015). See Notes.
    dropout : float in [0, 1) or a sequence of these, default 0.0
        Share of the units of all hidden layers, or of each, that training leaves out: others for each row and epoch.
        The rest is multiplied by 1 / (1 - dropout), and prediction uses all as they are (Srivastava et al. 2014). The
        zeros that it makes also make training faster. Rates are rounded to multiples of 2**-16.
    input_dropout : float in [0, 1), default 0.0
        The same for the values of X.
    noise : float or a sequence of floats, default 0.0
        Standard deviation of the Gaussian noise that training adds to the sums of all hidden layers, or of each, before
        their activation; at least 0.
    input_noise : float, default 0.0
        The same for the values of X, before `input_dropout`.
    max_norm : float or None, default None
        At least 1e-30: after each step of training the weights into a unit, of any layer, whose norm is above it are
        multiplied down to it (Srivastava et al. 2014, section 5.1); biases are not. None: no norm is too large.
    seed : int, default 0
        Of the first weights, of dropout and noise, and of the order in which `fit` visits the rows. The same seed
        gives the same bits for any number of threads.
    n_threads : int or None, default None
        Threads that a call uses at most, up to 1024; fewer where its work is too small to share. None:
        `OMP_NUM_THREADS`, or the CPUs that the process may use.

    Raises
    ------
    TypeError, ValueError
        An argument is of the wrong type or out of its range.

    Notes
    -----
    The loss of a row with logits z_j and targets t_j, j = 1 ... m, is a sum over its outputs::

        cross_entropy          -sum_j t_j log softmax(z)_j, for a label c: -log softmax(z)_c
        binary_cross_entropy   -sum_j (t_j log s_j + (1 - t_j) log(1 - s_j)), s = logistic(z)
        focal                  -sum_j t_j (1 - p_j)**gamma log p_j, p = softmax(z)
        squared_error          1/2 sum_j (z_j - t_j)**2
        absolute_error         sum_j |z_j - t_j|
        huber                  sum_j of (z_j - t_j)**2 / 2, but linear from delta on
        quantile               sum_j max(q_j (t_j - z_j), (q_j - 1) (t_j - z_j)), an output for each target and level q
        poisson                sum_j (exp(z_j) - t_j z_j)

    The cost of a batch is the mean of its rows' losses, weighted by `sample_weight`. PyTorch and Keras mean the same
    by their (categorical) cross-entropy, but average over outputs too elsewhere: their binary cross-entropy is 1 / m
    of this one, their mean squared error 2 / m; scikit-learn's loss of an `MLPRegressor` is 1 / m of this one.

    With `batch_norm` a hidden layer computes activation(scale (z - mean) / sqrt(variance + 1e-5) + bias) of
    z = x weights. Scales begin at 1. In training, mean and variance are those of the batch's rows, all of them, however
    large it is, and whatever their `sample_weight`; a last batch of one row is its own mean, so that it trains nothing
    below the shift. Prediction, and validation, have running ones in their place: after each batch 0.9 of what they
    were and 0.1 of the batch's, with the unbiased variance, as in PyTorch. They are folded into weights and biases,
    and take no time. Optimizers treat the scale as they do a bias. `init` draws the weights as without.

    `pickle` and `copy.deepcopy` keep where training stands, optimizer state included; `save` does not.

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

    __slots__ = (*_ATTRIBUTES, "__weakref__")  # a mistyped attribute is an error

    @hints.for_arguments
    def __init__(
        self,
        layer_sizes: Sequence[int],
        *,
        activation: str | Sequence[str] = "relu",
        loss: str | Loss = "cross_entropy",
        init: str | Sequence[str] | None = None,
        batch_norm: bool = False,
        dropout: float | Sequence[float] = 0.0,
        input_dropout: float = 0.0,
        noise: float | Sequence[float] = 0.0,
        input_noise: float = 0.0,
        max_norm: float | None = None,
        seed: int = 0,
        n_threads: int | None = None,
    ) -> None:
        self._describe(
            layer_sizes,
            activation=activation,
            loss=loss,
            init=init,
            batch_norm=batch_norm,
            dropout=dropout,
            input_dropout=input_dropout,
            noise=noise,
            input_noise=input_noise,
            max_norm=max_norm,
            seed=seed,
            n_threads=n_threads,
        )
        self._hold(initial_values(self.layers, self.init, self.seed))

    @classmethod
    def _unfilled(cls, layer_sizes: Sequence[int], **arguments: Any) -> MLP:
        """Return a network of no values yet, for one who has them all and need not wait for random ones."""
        network = cls.__new__(cls)
        network._describe(layer_sizes, **arguments)
        network._hold(np.empty(n_values(network.layers), np.float32))
        return network

    def _describe(
        self,
        layer_sizes: Sequence[int],
        *,
        activation: str | Sequence[str],
        loss: str | Loss = "cross_entropy",
        init: str | Sequence[str] | None = None,
        batch_norm: bool = False,
        dropout: float | Sequence[float] = 0.0,
        input_dropout: float = 0.0,
        noise: float | Sequence[float] = 0.0,
        input_noise: float = 0.0,
        max_norm: float | None = None,
        seed: int = 0,
        n_threads: int | None = None,
    ) -> None:
        sizes = checked_sizes(layer_sizes)
        hidden = len(sizes) - 2, "hidden layers"
        self._activation = checks.one_or_each("activation", activation, ACTIVATIONS, *hidden)
        self._batch_norm = checks.boolean("batch_norm", batch_norm)
        self._dropout = checks.number_or_each("dropout", dropout, _RATE, *hidden)
        self._input_dropout = checks.number("input_dropout", input_dropout, *_RATE)
        self._noise = checks.number_or_each("noise", noise, _DEVIATION, *hidden)
        self._input_noise = checks.number("input_noise", input_noise, *_DEVIATION)
        self._layers = layers_of(
            sizes, self._activation, batch_norm=self._batch_norm, dropout=self._dropout, noise=self._noise
        )
        self._loss = loss_of(loss)
        init = fitting(self._activation) if init is None else init
        self._init = checks.one_or_each("init", init, INITS, len(self._layers), "layers")
        self._max_norm = (
            None if max_norm is None else checks.number("max_norm", max_norm, "at least 1e-30", lambda x: x >= 1e-30)
        )
        self.seed = seed
        self.n_threads = n_threads
        m, least, each = self.layer_sizes[-1], self._loss.least_outputs, self._loss.outputs_a_target
        if m < least:
            others = " and ".join(repr(name) for name, other in LOSSES.items() if other.least_outputs <= m)
            raise ValueError(
                f"layer_sizes must end in at least {least} outputs for loss={loss!r}, not {m}; {others} take so few"
            )
        if m % each:
            raise ValueError(
                f"layer_sizes must end in {each} outputs for each target, by loss={loss!r:.80}; not in {m}"
            )

    def _hold(self, values: Float32) -> None:
        self._values = values  # parameters and running statistics: what `fastmlp.layers.layout` says
        self._state: RunState | None = None
        self._history = History()
        self._few_rows = self._reader()

    def __getstate__(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in _ATTRIBUTES if name != "_few_rows"}
        own["_values"], own["_state"] = self._snapshot()
        return {**own, **getattr(self, "__dict__", {})}  # a subclass may have more

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)
        # Memory that pickle was given, as a mapped file's, may start between two values.
        self._values = np.require(self._values, requirements="A")
        arrays.check("parameters", self._values, (n_values(self.layers),))
        self._few_rows = self._reader()

    def __repr__(self) -> str:
        options = ("batch_norm", "dropout", "input_dropout", "noise", "input_noise", "max_norm")
        changed = "".join(f"{name}={getattr(self, name)!r}, " for name in options if getattr(self, name))
        main = f"{self.layer_sizes}, activation={self.activation!r}, loss={self.loss!r}"
        return f"MLP({main}, {changed}seed={self.seed})"

    @property
    def layers(self) -> tuple[Layer, ...]:
        """What each layer is: its inputs, its units, its activation."""
        return self._layers

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        """Inputs, units of each hidden layer, outputs."""
        return self.layers[0].inputs, *(layer.units for layer in self.layers)

    @property
    def activation(self) -> str | tuple[str, ...]:
        """Name of the hidden layers' activation; the name of each where they differ."""
        return self._activation

    @property
    def loss(self) -> str | Loss:
        """Name of the loss or, where that is not enough, the loss itself."""
        return short(self._loss)

    @property
    def init(self) -> str | tuple[str, ...]:
        """How the first parameters were drawn; of each layer where that differs."""
        return self._init

    @property
    def batch_norm(self) -> bool:
        """Whether the hidden layers are normalised over the batch."""
        return self._batch_norm

    @property
    def max_norm(self) -> float | None:
        """The largest norm that the weights into a unit have after a step of training; None for any."""
        return self._max_norm

    @property
    def dropout(self) -> float | tuple[float, ...]:
        """Share of the hidden units that training leaves out; of each hidden layer where that differs."""
        return self._dropout

    @property
    def input_dropout(self) -> float:
        """Share of the values of X that training leaves out."""
        return self._input_dropout

    @property
    def noise(self) -> float | tuple[float, ...]:
        """Standard deviation of the noise before the hidden layers' activations; of each where that differs."""
        return self._noise

    @property
    def input_noise(self) -> float:
        """Standard deviation of the noise on the values of X in training."""
        return self._input_noise

    @property
    def seed(self) -> int:
        """Of the order in which `fit` visits the rows, of dropout and noise; it may be set.

        It was that of the first weights.
        """
        return self._seed

    @seed.setter
    def seed(self, seed: int) -> None:
        self._seed = checks.integer("seed", seed, least=0, most=2**64 - 1)

    @property
    def n_threads(self) -> int | None:
        """Threads that a call uses at most; it may be set."""
        return self._n_threads

    @n_threads.setter
    def n_threads(self, n_threads: int | None) -> None:
        self._n_threads = None if n_threads is None else checks.integer("n_threads", n_threads, 1, threads.MAX_THREADS)

    @property
    def parameters(self) -> Float32:
        """All parameters, flat (n_parameters,): each layer's weights, row by row, then its bias, then its scale if any.

        The network's own memory: what is written to it changes the network.
        """
        # Without statistics the array itself, so that it can be made read-only.
        return self._values[: n_parameters(self.layers)] if self.batch_norm else self._values

    @property
    def weights(self) -> tuple[Float32, ...]:
        """Weights of each layer, (n_in, n_out): views of `parameters`, to be changed by ``net.weights[0][...] = W``."""
        return views(self.layers, self._values, "weights")

    @property
    def biases(self) -> tuple[Float32, ...]:
        """Bias of each layer, (n_out,): views of `parameters`, to be changed like `weights`.

        That of a normalised layer is added to what is normalised already: the shift, beta.
        """
        return views(self.layers, self._values, "bias")

    @property
    def scales(self) -> tuple[Float32, ...]:
        """Scale of each normalised layer, gamma, (n_out,): views of `parameters`; none without `batch_norm`."""
        return views(self.layers, self._values, "scale")

    @property
    def running_means(self) -> tuple[Float32, ...]:
        """Running mean of each normalised layer's sums, (n_out,), by which it predicts: views, to be changed likewise.

        `fit` changes them, but no optimizer: they are no part of `parameters`.
        """
        return views(self.layers, self._values, "running_mean")

    @property
    def running_variances(self) -> tuple[Float32, ...]:
        """Running variance of each normalised layer's sums, (n_out,); see `running_means`."""
        return views(self.layers, self._values, "running_variance")

    @property
    def history(self) -> History:
        """Of the last `fit`, also where an exception or Ctrl-C ended it: its whole epochs. Empty before the first."""
        return self._history

    @hints.for_arguments
    def fit(
        self,
        X: ArrayLike | Stream,
        y: ArrayLike | None = None,
        *,
        epochs: int = 15,
        batch_size: int = 100,
        optimizer: Optimizer | None = None,
        validation_data: tuple[ArrayLike, ArrayLike] | Stream | None = None,
        sample_weight: ArrayLike | None = None,
        class_weight: Mapping[int, float] | str | None = None,
        metrics: Mapping[str, Callable[..., float]] | Sequence[Callable[..., float]] | None = None,
        augment: Distortion | None = None,
        shuffle: bool = True,
        callbacks: Sequence[Listener] = (),
        resume: str | bytes | os.PathLike[str] | None = None,
        communicator: Any = None,
        sync_every: int = 1,
        verbose: bool | int = True,
    ) -> History:
        """Train the network, from where it stands: a second call goes on, optimizer state included.

        Parameters
        ----------
        X : array or SciPy sparse matrix (n, k), or fastmlp.rows.Stream
            Rows of finite numbers, read as float32; an array that is so, in C order, without a copy. The zeros of a
            sparse matrix never take memory. A stream reads rows that need not fit the memory, their targets and weights
            with them; a `numpy.memmap` of more than 1 GB as float32 is taken for ``Stream(X, y, sample_weight)``.
        y : array
            For "cross_entropy" and "focal" labels (n,) or (n, 1) of an integer type, or rows (n, m) of probabilities,
            one-hot or not; for "binary_cross_entropy" values in [0, 1], (n, m), or (n,) for one output; for "poisson"
            values from 0 on, for the other losses any values, of that shape; for "quantile" a value for each target;
            for a custom loss anything with a row for each row of X.
        epochs : int, default 15
        batch_size : int, default 100
            Rows of a step; the last batch of an epoch may be smaller. With `batch_norm` at least 2.
        optimizer : SGD, Adam or AdamW; default Adam()
            Its state carries on from the last call where that used the same kind of optimizer.
        validation_data : (X, y), fastmlp.rows.Stream or None
            Evaluated after each epoch.
        sample_weight : array (n,) or None
            Not negative. The cost of a batch is the mean of its rows' losses by these weights.
        class_weight : dict of label to weight, "balanced" or None
            Each row's weight is also multiplied by that of its label, of which y has no other. "balanced" gives all
            classes of y the same sum: n / (number of classes * rows of the class), for which a stream is read once
            before. For y of labels, of one-hot rows, or
            of 0 and 1 for one output. The validation data have no weights.
        metrics : dict of name to function, list of functions, or None
            Of (y_true, y_pred), as scikit-learn's are: computed on the validation data after each epoch, and in the
            history by "validation_" and their name. y_true are labels, int64 (n,); for "binary_cross_entropy" 0 and 1
            and for "squared_error" values, (n,) for one output, else (n, m); y_pred is what `predict` returns. A
            function whose second argument has a name that begins with y_prob or y_score gets probabilities in its
            place: what `predict_proba` returns, (n,) for one output. Before training each is tried on y_true as its own
            prediction.
        augment : fastmlp.augment.Affine, Elastic or Compose; optional
            Distorts the rows, which are images, anew each epoch.
        shuffle : bool, default True
            A new order of the rows each epoch, drawn from the seed.
        callbacks : sequence of fastmlp.callbacks.Callback
            Those of type `Checkpoint` are told last.
        resume : path-like or None
            A file of `fastmlp.callbacks.Checkpoint`. Where it exists, network, optimizer's state and history are those
            of the run that wrote it, and `epochs` are counted with its own. With the same arguments as that run had,
            this one goes on to the same bits.
        communicator : mpi4py.MPI.Comm or None, default None
            Of the processes, the ranks, that train this network together, as `mpi4py.MPI.COMM_WORLD`; all of them call
            `fit`. Each has its share of the rows for X, y and `sample_weight`, or none; or a stream of it, which knows
            its `n`, as `Stream.share` does. `batch_size` are a rank's rows of a step. What they come to are, to
            rounding, the parameters of one process with all their rows, rank after rank, whose batches are those of the
            ranks together. With `batch_norm` each rank normalises by its own rows; the running statistics are the
            ranks' mean, after each epoch. Shuffled is each rank's share. Rank 0 judges by `validation_data`, prints,
            writes, and reads `resume`: the others' files and data are ignored. All other arguments, and what callbacks
            write to the network, must be the same on all ranks. A rank that fails alone, or waits 10 minutes for others
            in vain, says so and ends all. See docs/scaling.md.
        sync_every : int, default 1
            Steps between two exchanges of the ranks. 1: each step is taken by the gradient of all ranks' rows. More,
            for slow networks: each rank takes steps of its own, and then all take the mean of their parameters.
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
        RuntimeError
            `fit` is already running on this network: in another thread, or around the callback that calls it. With a
            `communicator` also `fastmlp.errors.RankError`: another rank's arguments are wrong, or parameters differ.
        FileFormatError
            `resume` is no checkpoint, or damaged.
        DivergenceError
            The loss or a parameter is no longer finite; the network is as after the last finite epoch.
        KeyboardInterrupt
            On Ctrl-C, between two batches; the network is as after the last whole batch and may be used on.

        Warns
        -----
        UserWarning
            In a network's first fit: columns of X differ in spread by over 1,000 times, X has values from 10,000 or
            y from 1,000 on, or a class has no row.

        Examples
        --------
        >>> import numpy as np, fastmlp
        >>> X = np.linspace(-1, 1, 64, dtype=np.float32).reshape(-1, 1)
        >>> net = fastmlp.MLP((1, 8, 1), activation="tanh", loss="squared_error")
        >>> history = net.fit(X, X**2, epochs=20, batch_size=8, verbose=False)
        >>> history.loss[-1] < history.loss[0]
        True
        """
        from fastmlp import training  # noqa: PLC0415 - upward, so that training stands where a user looks for it

        return training.fit(
            self,
            X,
            y,
            epochs=epochs,
            batch_size=batch_size,
            optimizer=optimizer,
            validation_data=validation_data,
            sample_weight=sample_weight,
            class_weight=class_weight,
            metrics=metrics,
            augment=augment,
            shuffle=shuffle,
            callbacks=callbacks,
            resume=resume,
            communicator=communicator,
            sync_every=sync_every,
            verbose=verbose,
        )

    def logits(self, X: ArrayLike | Stream) -> Float32:
        """Return the outputs before softmax or logistic, float32 (n, m).

        Parameters
        ----------
        X : array or SciPy sparse matrix (n, k), or fastmlp.rows.Stream

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
        return self._of_rows(X, self._logits) if outputs is None else outputs

    def _of_rows(self, X: Any, function: Callable[[Array | SparseRows], Array]) -> Array:
        """What a function makes of rows; of those of a stream, chunk by chunk."""
        stream, k = as_stream(X), self.layer_sizes[0]
        if stream is None:
            return function(rows_to_predict("X", X, k))
        found = [function(np.empty((0, k), np.float32)), *map(function, rows_ahead(stream, k))]
        return np.concatenate(found)

    def predict_proba(self, X: ArrayLike | Stream) -> Float32:
        """Return probabilities, float32 (n, m): of each class, or of each output being 1.

        Parameters
        ----------
        X : array or SciPy sparse matrix (n, k), or fastmlp.rows.Stream

        Raises
        ------
        TypeError, ValueError
            X is not a matrix (n, k) of finite numbers, or the loss is one of values, which has no probabilities.

        Examples
        --------
        >>> import fastmlp
        >>> fastmlp.MLP((3, 4, 2)).predict_proba([[0, 0, 0]])
        array([[0.5, 0.5]], dtype=float32)
        """
        output = self._loss.output
        if not output.is_probability:
            raise ValueError(f"predict_proba needs a network with probabilities; this one has loss={self.loss!r}")
        return self._probabilities(self.logits(X))

    def predict(self, X: ArrayLike | Stream) -> NDArray[Any]:
        """Return what the network says of each row.

        Parameters
        ----------
        X : array or SciPy sparse matrix (n, k), or fastmlp.rows.Stream

        Returns
        -------
        array
            "cross_entropy", "focal": labels, int64 (n,). "binary_cross_entropy": 0 or 1, int64. Others: the values,
            float32; for "poisson" the rates. All but labels have shape (n,) for one output, else (n, m).

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

    def evaluate(self, X: ArrayLike | Stream, y: ArrayLike | None = None) -> dict[str, float]:
        """Return how well the network predicts y: the mean loss, and the accuracy or R2.

        Parameters
        ----------
        X : array or SciPy sparse matrix (n, k), or fastmlp.rows.Stream
        y : array
            As in `fit`; at least one row. A stream has its own, and its weights of rows, if any, count.

        Returns
        -------
        dict
            "loss": mean over the rows of the loss that `MLP` defines, a sum over the outputs; of quantiles and custom
            losses no more. For losses of values also "mse", the mean of (prediction - y)**2 over rows and outputs (2 /
            m of "squared_error"); and "r2", the mean
            over the outputs of 1 - sum((prediction - y)**2) / sum((y - mean(y))**2): 1 is perfect, 0 as good as
            mean(y), whatever the scale of y. An output whose y are all equal counts 1 where they are met, else 0;
            r2 of a single row is NaN. For the others "accuracy", the share of rows predicted right: a row of
            probabilities counts by its largest one, a binary row when every output is on its side of 0.5.

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
        return self._scores(X, y, self._logits)

    def _scores(
        self, X: ArrayLike | Stream, y: ArrayLike | None, logits: Callable[[Array | SparseRows], Float32]
    ) -> dict[str, float]:
        """How well logits predict y, those of a function of rows: the network's own, or of several together."""
        names, task = ("X", "y"), (self.layer_sizes, self.loss)
        stream = as_stream(X, y)
        if stream is not None:
            found = metrics.Scores(self.loss)
            for rows, targets, weights in chunks_ahead(stream, *task):
                found.add(logits(rows), targets, weights)
            return found.values()
        if y is None:
            raise TypeError("y must be an array of real numbers, not None: only a fastmlp.rows.Stream has its own")
        arrays: Any = X
        rows, targets = checked_examples(names, *checked_shapes(names, arrays, y, *task), *task)
        return metrics.scores(logits(rows), targets, self.loss)

    def input_gradient(self, X: ArrayLike, y: ArrayLike) -> Float32:
        """Return the gradient of each row's own loss by its inputs, float32 (n, k).

        It says which inputs matter to a row (Simonyan, Vedaldi & Zisserman 2014), and which way they would have to
        change to mislead the network: ``X + epsilon * np.sign(gradient)`` are the adversarial examples of Goodfellow,
        Shlens & Szegedy (2015). A normalised network is taken as it predicts, with its running statistics.

        Parameters
        ----------
        X : array or SciPy sparse matrix (n, k)
        y : array
            As in `fit`.

        Raises
        ------
        TypeError, ValueError
            X or y is not as described.

        Examples
        --------
        >>> import numpy as np, fastmlp
        >>> X, y = np.array([[0.5, -0.25]], np.float32), np.array([0])
        >>> net = fastmlp.MLP((2, 8, 2), seed=1)
        >>> misleading = X + 0.1 * np.sign(net.input_gradient(X, y))
        >>> net.evaluate(misleading, y)["loss"] > net.evaluate(X, y)["loss"]
        True
        """
        names, task = ("X", "y"), (self.layer_sizes, self.loss)
        rows, targets = checked_examples(names, *checked_shapes(names, X, y, *task), *task)
        self._require_finite()
        layers, values = self.layers, self._few_rows.read()
        if self.batch_norm:
            fold(layers, values)
        n_threads = threads.choose(self.n_threads, 3 * len(rows) * _seconds_a_row(self.layers, rows))
        return input_gradient(layers, values, rows, targets, loss=self.loss, n_threads=n_threads)

    def averaged(self) -> MLP:
        """Return a network with this one's parameters averaged over the steps of training, by the optimizer's `ema`.

        That is the one by which `fit` validates. It predicts, evaluates and is saved as any other, and shares nothing
        with this network, which keeps the parameters of the last step.

        Raises
        ------
        ValueError
            The last `fit` had an optimizer without `ema`, or there was none.

        Examples
        --------
        >>> import fastmlp
        >>> net = fastmlp.MLP((2, 8, 2))
        >>> history = net.fit([[0, 1], [1, 0]], [0, 1], optimizer=fastmlp.Adam(ema=0.9), verbose=False)
        >>> net.averaged().predict([[0, 1]])
        array([0])
        """
        own = self.__getstate__()
        state = own["_state"]
        if state is None or state.averages is None:
            raise ValueError("averaged needs a fit whose optimizer has ema, as fastmlp.Adam(ema=0.999); there was none")
        other = self.__class__.__new__(self.__class__)
        values = np.concatenate([state.averages, own["_values"][state.averages.size :]])
        other.__setstate__({**own, "_values": values, "_state": None})
        return other

    def _judged(self) -> MLP:
        """Return what `fit` validates: this network, or the one of its averages where the optimizer keeps some."""
        return self if self._state is None or self._state.averages is None else self.averaged()

    def save(self, path: str | bytes | os.PathLike[str], *, fold: bool = False) -> None:
        """Write the network to a safetensors file, which `fastmlp.load` and PyTorch read; see `fastmlp.files`.

        The file does not hold the state of the optimizer nor the epochs done: after `load`, `fit` begins with a new
        optimizer and the first epoch's order. A pickle holds both, and goes on to the same bits; so does a checkpoint,
        by `fit(resume=)`.

        Parameters
        ----------
        path : path-like
        fold : bool, default False
            Write a network with `batch_norm` as the plain one that predicts the same, with its running statistics
            folded into weights and biases: for programs that do not know of normalisation. It can be trained further,
            but as a plain one.

        Raises
        ------
        TypeError, ValueError
            An argument is not as described; a parameter is not finite.
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
        from fastmlp import files  # noqa: PLC0415 - upward, as in `fit`

        files.save(self, path, fold=fold)

    def _reader(self) -> FewRows:
        return FewRows(engine_layers(self.layers), self._values)

    def _logits(self, rows: Array | SparseRows) -> Float32:
        """The outputs before softmax or logistic; a ValueError where rows are not finite in float32."""
        outputs = np.empty((len(rows), self.layer_sizes[-1]), np.float32)
        seconds = _seconds_a_row(self.layers, rows)
        n_threads = threads.choose(self.n_threads, len(rows) * seconds)
        listed = None
        if isinstance(rows, SparseRows) and rows.is_sparse:
            listed = Rows(rows, self.layers[0].units, n_threads)
        values = self._values
        if self.batch_norm:
            values = self._few_rows.read()
            fold(self.layers, values)
        predictor = Predictor(engine_layers(self.layers, folded=True), values, n_threads, listed)
        # Some rows at a time, so that Ctrl-C is heard between them, and what is made float32 takes memory in turn.
        step = max(int(SLICE * n_threads / seconds), PREDICT_ROWS * n_threads)
        for first in range(0, len(rows), step):
            part = outputs[first : first + step]
            if listed is not None:
                predictor.logits(part, None, first)
            else:
                end = first + len(part)
                dense = rows.dense(first, end) if isinstance(rows, SparseRows) else rows[first:end]
                dense = dense if are_floats(dense) else np.require(dense, np.float32, ["C", "A"])
                if not predictor.logits(part, dense) and isinstance(rows, np.ndarray):
                    checked_rows("X", rows, self.layer_sizes[0])
        if not np.isfinite(outputs).all():
            self._require_finite()
        return outputs

    def _snapshot(self) -> tuple[Float32, RunState | None]:
        """Return copies of values and state as they are at one moment, even where another thread trains."""
        while True:
            state = self._state
            if state is None:
                values = self._few_rows.read()
                copied = None
            else:
                averages = [] if state.averages is None else [state.averages]
                values, first, second, *averages = self._few_rows.read_with(*state.moments, *averages)
                copied = state._replace(moments=(first, second), averages=averages[0] if averages else None)
            if state is self._state:
                return values, copied

    def _require_finite(self) -> None:
        if not np.isfinite(self._values).all():
            raise ValueError("parameters of the network must be finite; they have NaN or infinity")

    def _require_writable(self) -> None:
        if not self._values.flags.writeable:
            raise ValueError("parameters of the network must be writable, for fit; copy.deepcopy(network) has its own")

    def _probabilities(self, outputs: Float32) -> Float32:
        """What the logits (n, m) mean, in their place."""
        output = self._loss.output
        if output is SOFTMAX:
            return kernels.softmax(outputs, out=outputs)
        return kernels.activate(outputs, output.name, out=outputs)

    def _decide(self, outputs: Float32) -> NDArray[Any]:
        decided = self._loss.output.decide(outputs)
        return decided[:, 0] if decided.shape[1:] == (1,) else decided


def _seconds_a_row(layers: Sequence[Layer], rows: Array | SparseRows) -> float:
    """Time of one thread for the prediction of one of these rows, at a guess."""
    operations: float = n_parameters(layers)
    if isinstance(rows, SparseRows) and rows.is_sparse:
        values = len(rows.values) / max(1, len(rows))
        operations += (SCATTERED * values - layers[0].inputs) * layers[0].units
    return operations / threads.RATE
