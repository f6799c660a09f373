"""Names from Keras, PyTorch and scikit-learn: each is answered with the one that is meant."""

import inspect
import pickle

import numpy as np
import pytest

import fastmlp
from fastmlp import MLP, SGD, Adam, AdamW, hints

X, Y = np.eye(2), [0, 1]
TAKEN = {"MLP": {"layer_sizes": (2, 2)}, "fit": {"X": X, "y": Y, "verbose": False}}
ALL_LAYERS = "layer_sizes names all layers, as in MLP((n_inputs, 100, n_outputs))"
RATE = "write fit(X, y, optimizer=fastmlp.Adam(learning_rate=...))"
DECAY = "the optimizer fastmlp.AdamW(weight_decay=0.01) holds weights back"
SPLIT = "split the rows, and hand fit a part of them: validation_data=(X_validation, y_validation)"

MISTAKES = [
    # scikit-learn
    ("MLP", "hidden_layer_sizes", ALL_LAYERS),
    ("MLP", "random_state", "it is called seed"),
    ("MLP", "alpha", "optimizers hold weights back, as in fastmlp.Adam(l2=1e-4): scikit-learn's alpha / batch_size"),
    ("Adam", "l2_regularization", "it is called l2"),
    ("MLP", "l2", "write fit(X, y, optimizer=fastmlp.Adam(l2=...))"),
    ("MLP", "solver", "fit takes an optimizer, as in fit(X, y, optimizer=fastmlp.Adam(learning_rate=0.001))"),
    ("MLP", "learning_rate", RATE),
    ("MLP", "learning_rate_init", RATE),
    ("MLP", "max_iter", "write fit(X, y, epochs=...)"),
    ("MLP", "batch_size", "write fit(X, y, batch_size=...)"),
    ("MLP", "momentum", "write fit(X, y, optimizer=fastmlp.SGD(momentum=...))"),
    ("MLP", "n_jobs", "it is called n_threads"),
    ("MLP", "early_stopping", "write fit(X, y, validation_data=..., callbacks=[fastmlp.callbacks.EarlySt"),
    ("MLP", "validation_fraction", SPLIT),
    ("MLP", "warm_start", "a second fit always goes on where the first one stopped"),
    ("SGD", "nesterovs_momentum", "it is called nesterov"),
    # Keras
    ("MLP", "units", ALL_LAYERS),
    ("MLP", "input_shape", ALL_LAYERS),
    ("MLP", "dropout_rate", "it is called dropout"),
    ("MLP", "kernel_initializer", "it is called init"),
    ("MLP", "optimizer", "write fit(X, y, optimizer=...)"),
    ("MLP", "metrics", "write fit(X, y, metrics=...)"),
    ("fit", "validation_split", SPLIT),
    ("fit", "class_weights", "it is called class_weight"),
    ("fit", "nb_epoch", "it is called epochs"),
    ("fit", "callback", "it is called callbacks"),
    ("SGD", "clipnorm", "it is called clip_norm"),
    ("Adam", "clipvalue", "it is called clip_value"),
    ("SGD", "use_ema", "it is called ema"),
    ("MLP", "kernel_constraint", "it is called max_norm"),
    ("fit", "x", "it is called X"),
    # PyTorch
    ("MLP", "in_features", ALL_LAYERS),
    ("MLP", "device", "fastmlp computes on CPUs"),
    ("fit", "lr", RATE),
    ("fit", "n_epochs", "it is called epochs"),
    ("fit", "criterion", "write MLP(layer_sizes, loss=...)"),
    ("fit", "scheduler", "learning_rate takes schedules, as in fastmlp.Adam(learning_rate=fastmlp.sche"),
    ("Adam", "lr", "it is called learning_rate"),
    ("Adam", "betas", "there are two, as in fastmlp.Adam(beta_1=0.9, beta_2=0.999)"),
    ("Adam", "eps", "it is called epsilon"),
    ("AdamW", "max_grad_norm", "it is called clip_norm"),
    ("fit", "max_grad_norm", "write fit(X, y, optimizer=fastmlp.Adam(clip_norm=...))"),
    ("Adam", "weight_decay", "write fit(X, y, optimizer=fastmlp.AdamW(weight_decay=...))"),
    ("SGD", "weight_decay", "write fit(X, y, optimizer=fastmlp.AdamW(weight_decay=...))"),
    ("SGD", "lr", "it is called learning_rate"),
    ("AdamW", "lr", "it is called learning_rate"),
    # What is in the wrong place
    ("MLP", "epochs", "write fit(X, y, epochs=...)"),
    ("fit", "random_state", "write MLP(layer_sizes, seed=...)"),
    ("fit", "activation", "write MLP(layer_sizes, activation=...)"),
    ("fit", "l2", "write fit(X, y, optimizer=fastmlp.Adam(l2=...))"),
    # Slips, and what nobody means
    ("fit", "validaton_data", "did you mean validation_data?"),
    ("SGD", "momntum", "did you mean momentum?"),
    ("MLP", "colour", "it has layer_sizes, activation, loss, init, batch_norm, dropout, "),
    ("Adam", "colour", "it has learning_rate, beta_1, beta_2, epsilon"),
]


@pytest.mark.parametrize(("place", "name", "advice"), MISTAKES)
def test_arguments_are_answered_with_what_is_meant(place, name, advice):
    net = MLP((2, 2))
    before = pickle.dumps(net)
    call = {"MLP": MLP, "fit": net.fit, "SGD": SGD, "Adam": Adam, "AdamW": AdamW}[place]
    label = "MLP.fit" if place == "fit" else place
    with pytest.raises(TypeError) as caught:
        call(**TAKEN.get(place, {}), **{name: 1})
    assert str(caught.value).startswith(f"{label} has no argument {name!r}; {advice}")
    assert len(str(caught.value)) < 200
    assert caught.value.__context__ is None  # no second traceback above this one
    assert pickle.dumps(net) == before


def test_no_advice_contradicts_an_argument_that_there_is():
    """No advice is about a name that is an argument by now; what is meant is always one."""
    arguments = set()
    for function in hints._functions.values():
        arguments |= set(inspect.signature(function).parameters)
    theirs = [name for names in [*hints._ARGUMENTS.values(), *hints._INSTEAD] for name in names]
    assert not arguments & set(theirs)
    assert len(set(theirs)) == len(theirs)
    assert set(hints._ARGUMENTS) <= arguments
    assert set(hints._PLACES) == set(hints._functions)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda net: MLP(5, 8, 3), r"layer_sizes is one sequence: write MLP((5, 8, 3))"),
        (
            lambda net: MLP((5, 3), "tanh"),
            "MLP takes only layer_sizes without a name; the others have names: activation,",
        ),
        (
            lambda net: net.fit(X, Y, 10),
            "MLP.fit takes only X, y without a name; the others have names: epochs, batch_s",
        ),
        (lambda net: Adam(1, 0, 0, 1, 1), "Adam takes only learning_rate, beta_1, beta_2, epsilon without a name"),
        (lambda net: MLP(), "MLP.__init__() missing 1 required positional argument: 'layer_sizes'"),
        (lambda net: net.fit(X), "y must be an array of real numbers, not None"),
        # the call is right, what stands in it is wrong
        (lambda net: MLP(784), "layer_sizes must be a sequence of whole numbers, not 784; as in MLP((784, 256, 10))"),
        (lambda net: net.fit(X, Y, epochs="3"), "epochs must be a whole number, not '3'"),
    ],
)
def test_arguments_without_a_name(call, message):
    with pytest.raises(TypeError) as caught:
        call(MLP((2, 2)))
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("name", "value", "ours"),
    [
        ("activation", "sigmoid", "logistic"),
        ("activation", "linear", "identity"),
        ("activation", None, "identity"),
        ("activation", "swish", "silu"),
        ("activation", "LeakyReLU", "leaky_relu"),
        ("activation", "ReLU", "relu"),
        ("loss", "mse", "squared_error"),
        ("loss", "mean_squared_error", "squared_error"),
        ("loss", "MSELoss", "squared_error"),
        ("loss", "bce", "binary_cross_entropy"),
        ("loss", "binary_crossentropy", "binary_cross_entropy"),
        ("loss", "categorical_crossentropy", "cross_entropy"),
        ("loss", "sparse_categorical_crossentropy", "cross_entropy"),
        ("loss", "log_loss", "cross_entropy"),
        ("loss", "cross-entropy", "cross_entropy"),
        ("loss", "mae", "absolute_error"),
        ("loss", "poisson_nll", "poisson"),
        ("init", "kaiming", "he"),
        ("init", "xavier", "glorot"),
    ],
)
def test_values_are_answered_with_what_is_meant(name, value, ours):
    with pytest.raises((TypeError, ValueError)) as caught:
        MLP((2, 2), **{name: value})
    assert str(caught.value).endswith(f"not {value!r}; it is called {ours!r} here")
    MLP((2, 2), **{name: ours})


@pytest.mark.parametrize(("name", "value"), [("activation", "mse"), ("loss", "sigmoid"), ("init", "zeros")])
def test_other_values_get_no_advice(name, value):
    with pytest.raises(ValueError, match=f"{name} must be one of .*; not {value!r}$"):
        MLP((2, 2), **{name: value})


def test_signatures_and_documentation_are_those_of_the_functions():
    assert list(inspect.signature(MLP).parameters)[:2] == ["layer_sizes", "activation"]
    assert inspect.signature(MLP.fit).parameters["epochs"].default == 15
    assert "weight_decay" in inspect.signature(AdamW).parameters
    assert MLP.fit.__doc__.startswith("Train the network")
    assert all(p.kind is not p.VAR_KEYWORD for p in inspect.signature(fastmlp.MLP).parameters.values())
