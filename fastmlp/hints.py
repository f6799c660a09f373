"""What is meant by names that come from Keras, PyTorch and scikit-learn. They are answered with ours, not accepted."""

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeVar

__all__ = ["for_argument", "for_arguments", "for_value"]

P = ParamSpec("P")
R = TypeVar("R")

# Our names of arguments, and what others call them.
_ARGUMENTS = {
    "X": ("x", "data"),
    "activation": ("act", "activation_function", "nonlinearity"),
    "batch_size": ("batch", "batchsize", "bs", "mini_batch_size", "minibatch_size"),
    "beta_1": ("beta1",),
    "beta_2": ("beta2",),
    "batch_norm": ("batch_normalisation", "batch_normalization", "batchnorm", "bn", "normalization", "use_batch_norm"),
    "callbacks": ("callback",),
    "class_weight": ("class_weights", "pos_weight"),
    "clip_norm": ("clip_grad_norm", "clipnorm", "global_clipnorm", "gradient_clip_norm", "max_grad_norm"),
    "clip_value": ("clip_grad_value", "clipvalue"),
    "ema": ("ema_decay", "ema_momentum", "polyak", "swa", "use_ema"),
    "dropout": ("drop", "dropout_rate", "hidden_dropout", "p_dropout"),
    "epochs": ("epoch", "iterations", "max_epochs", "max_iter", "n_epochs", "n_iter", "nb_epoch", "num_epochs"),
    "epsilon": ("eps",),
    "l2": ("kernel_regularizer", "l2_regularization"),
    "init": ("initializer", "kernel_initializer", "weight_init"),
    "input_dropout": ("dropout_input", "input_dropout_rate"),
    "learning_rate": ("eta", "eta0", "learning_rate_init", "lr", "step_size"),
    "loss": ("criterion", "loss_fn", "loss_function", "objective"),
    "max_norm": ("kernel_constraint", "max_col_norm", "maxnorm"),
    "metrics": ("metric",),
    "n_threads": ("n_jobs", "nthreads", "num_threads", "threads", "workers"),
    "nesterov": ("nesterovs_momentum",),
    "noise": ("gaussian_noise", "noise_std", "stddev"),
    "optimizer": ("optim", "optimiser"),
    "sample_weight": ("sample_weights", "weights"),
    "seed": ("random_seed", "random_state", "rng"),
    "validation_data": ("eval_set", "val_data", "valid_data", "validation", "validation_set"),
    "verbose": ("progress", "verbosity"),
    "y": ("labels", "target", "targets"),
}

# Arguments that no call has, and what to do instead.
_INSTEAD = {
    ("hidden_layer_sizes", "hidden", "hidden_dims", "hidden_sizes", "hidden_units", "n_hidden", "layers", "units"): (
        "layer_sizes names all layers, as in MLP((n_inputs, 100, n_outputs))"
    ),
    ("in_features", "input_dim", "input_shape", "n_inputs", "n_outputs", "out_features", "output_dim"): (
        "layer_sizes names all layers, as in MLP((n_inputs, 100, n_outputs))"
    ),
    ("solver",): "fit takes an optimizer, as in fit(X, y, optimizer=fastmlp.Adam(learning_rate=0.001))",
    ("alpha",): "optimizers hold weights back, as in fastmlp.Adam(l2=1e-4): scikit-learn's alpha / batch_size",
    ("betas",): "there are two, as in fastmlp.Adam(beta_1=0.9, beta_2=0.999)",
    ("validation_fraction", "validation_split"): (
        "split the rows, and hand fit a part of them: validation_data=(X_validation, y_validation)"
    ),
    ("early_stopping", "n_iter_no_change", "patience", "tol"): (
        "write fit(X, y, validation_data=..., callbacks=[fastmlp.callbacks.EarlyStopping(patience=10)])"
    ),
    ("decay", "learning_rate_schedule", "lr_schedule", "lr_scheduler", "schedule", "scheduler"): (
        "learning_rate takes schedules, as in fastmlp.Adam(learning_rate=fastmlp.schedules.Cosine(0.001))"
    ),
    ("warm_start",): "a second fit always goes on where the first one stopped",
    ("device",): "fastmlp computes on CPUs",
    ("dtype",): "fastmlp computes in float32",
}

# Our values of arguments, and what others call them.
_VALUES = {
    "logistic": ("sigmoid",),
    "identity": ("linear", "none"),
    "leaky_relu": ("leakyrelu", "lrelu"),
    "silu": ("swish",),
    "gelu_tanh": ("gelu_approximate", "gelu_new", "gelu_pytorch_tanh", "tanh_gelu"),
    "cross_entropy": (
        *("categorical_crossentropy", "ce", "crossentropy", "crossentropyloss", "log_loss", "nll", "nll_loss"),
        *("softmax", "softmax_cross_entropy", "sparse_categorical_crossentropy", "xent"),
    ),
    "binary_cross_entropy": ("bce", "bceloss", "bcewithlogits", "bcewithlogitsloss", "binary_crossentropy"),
    "squared_error": ("l2", "mean_squared_error", "mse", "mse_loss", "mseloss"),
    "focal": ("categorical_focal_crossentropy", "focal_loss", "focalloss"),
    "absolute_error": ("l1", "l1_loss", "l1loss", "mae", "mean_absolute_error"),
    "huber": ("huber_loss", "huberloss", "smooth_l1", "smooth_l1_loss", "smoothl1loss"),
    "quantile": ("pinball", "pinball_loss", "quantile_loss"),
    "poisson": ("poisson_nll", "poisson_nll_loss", "poissonnllloss"),
    "he": ("he_normal", "kaiming", "kaiming_normal"),
    "glorot": ("glorot_uniform", "xavier", "xavier_uniform"),
    "lecun": ("lecun_normal",),
    "normal": ("gaussian", "random_normal"),
}

# Where an argument may belong, the likeliest place first, and how it is written there.
_PLACES = {
    "MLP": "MLP(layer_sizes, {}=...)",
    "MLP.fit": "fit(X, y, {}=...)",
    "Adam": "fit(X, y, optimizer=fastmlp.Adam({}=...))",
    "SGD": "fit(X, y, optimizer=fastmlp.SGD({}=...))",
    "AdamW": "fit(X, y, optimizer=fastmlp.AdamW({}=...))",
}

_functions: dict[str, Callable[..., Any]] = {}


def for_arguments(function: Callable[P, R]) -> Callable[P, R]:
    """Answer arguments that `function` does not take with those that are meant: a TypeError still, but a helpful one.

    Examples
    --------
    >>> from fastmlp import hints
    >>> @hints.for_arguments
    ... def train(*, epochs):
    ...     pass
    >>> train(n_epochs=3)
    Traceback (most recent call last):
    TypeError: train has no argument 'n_epochs'; it is called epochs
    """
    name = function.__qualname__.removesuffix(".__init__")
    _functions[name] = function

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except TypeError:
            message = _wrong_call(name, args, kwargs)
            if message is None:  # the call was right, and an argument's value wrong
                raise
        raise TypeError(message)

    return call


def for_argument(function: str, keyword: str, own: list[str]) -> str:
    """Return what to say of an argument that a function, whose own arguments these are, does not take.

    Examples
    --------
    >>> from fastmlp import hints
    >>> hints.for_argument("train", "n_epochs", ["epochs"])
    "train has no argument 'n_epochs'; it is called epochs"
    """
    return f"{function} has no argument {keyword!r}; {_advice(keyword, own)}"


def for_value(value: object, names: Iterable[str]) -> str:
    """Return the end of a message about a value that is none of `names`: which one is meant, or nothing.

    Examples
    --------
    >>> from fastmlp import hints
    >>> hints.for_value("sigmoid", ("relu", "logistic"))
    "; it is called 'logistic' here"
    """
    plain = str(value).lower().replace("-", "_").replace(" ", "_")
    candidates = [ours for ours in names if plain in (ours, *_VALUES.get(ours, ()))]
    return f"; it is called {candidates[0]!r} here" if candidates else ""


def _wrong_call(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """What is wrong about the names or the number of arguments, if anything is."""
    parameters = inspect.signature(_functions[name]).parameters
    for keyword in kwargs:
        if keyword not in parameters:
            return for_argument(name, keyword, [p for p in parameters if p != "self"])
    places = [p.name for p in parameters.values() if p.kind is not p.KEYWORD_ONLY]
    if len(args) <= len(places):
        return None
    if places[-1] == "layer_sizes" and all(isinstance(size, int) for size in args[1:]):
        return f"layer_sizes is one sequence: write {name}({args[1:]!r:.80})"
    taken, others = [p for p in places if p != "self"], [p for p in parameters if p not in places]
    named = f"; the others have names: {', '.join(others)}" if others else ""
    return f"{name} takes only {', '.join(taken)} without a name{named}"


def _advice(keyword: str, own: list[str]) -> str:
    meant = next((ours for ours, theirs in _ARGUMENTS.items() if keyword in theirs), keyword)
    if meant in own:
        return f"it is called {meant}"
    for place, example in _PLACES.items():
        if meant in inspect.signature(_functions[place]).parameters:
            return f"write {example.format(meant)}"
    for theirs, instead in _INSTEAD.items():
        if keyword in theirs:
            return instead
    import difflib  # noqa: PLC0415 - for a mistake alone

    close = difflib.get_close_matches(keyword, own, n=1)
    return f"did you mean {close[0]}?" if close else f"it has {', '.join(own)}"
