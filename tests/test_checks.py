"""Bad input, over the whole of the package: what is said, and that nothing happened."""

import copy
import pickle
import re
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest

import fastmlp
from fastmlp import MLP, SGD, Adam
from fastmlp.callbacks import Callback

N, K, M = 20_000, 20, 2
SIZES = (K, 8, M)

# float64, so that to read it as float32 would take 1.6 MB, more than a refusal may allocate.
X = np.random.default_rng(0).random((N, K))
Y = np.arange(N) % M
MOST_BYTES = 1_000_000


def spoiled(array, place, value):
    array = np.array(array)
    array[place] = value
    return array


def rowwise(*row):
    """Targets (N, m) of one row, without their memory."""
    return np.broadcast_to(np.array(row), (N, len(row)))


class Refuses:
    """An array of another library, one whose memory NumPy cannot reach."""

    def __array__(self, dtype=None, copy=None):
        raise TypeError("can't convert cuda:0 device type tensor to numpy")


SPARSE = type("csr_matrix", (), {"toarray": lambda self: X})()
RAGGED = [[0.0] * K, [0.0] * (K - 1)]

# ---- X, of fit, predict, predict_proba, logits and evaluate

BAD_X = {
    "None": (None, TypeError, "{X} must be an array of real numbers, not NoneType of object"),
    "a string": ("digits.csv", TypeError, "{X} must be an array of real numbers, not str of <U10"),
    "strings": (np.full((3, K), "1.0"), TypeError, "{X} must be an array of real numbers, not ndarray of <U3"),
    "objects": (np.full((3, K), 1.0, object), TypeError, "{X} must be an array of real numbers, not ndarray of object"),
    "a hole": ([[None] * K], TypeError, "{X} must be an array of real numbers, not list of object"),
    "complex": (np.ones((3, K), complex), TypeError, "{X} must be an array of real numbers, not ndarray of complex128"),
    "dates": (
        np.zeros((3, K), "M8[s]"),
        TypeError,
        r"{X} must be an array of real numbers, not ndarray of datetime64\[s\]",
    ),
    "records": (np.zeros(3, "f4,f4"), TypeError, "{X} must be an array of real numbers, not ndarray of"),
    "a dict": ({"X": X}, TypeError, "{X} must be an array of real numbers, not dict of object"),
    "a generator": ((row for row in X), TypeError, "{X} must be an array of real numbers, not generator of object"),
    "ragged": (RAGGED, ValueError, "{X} must be an array of real numbers: .* inhomogeneous shape"),
    "unreadable": (Refuses(), TypeError, "{X} must be an array of real numbers: can't convert cuda"),
    "sparse": (SPARSE, TypeError, r"{X} must be a dense array, not a sparse csr_matrix; its toarray\(\) makes one"),
    "masked": (
        np.ma.masked_greater(X, 0.5),
        TypeError,
        r"{X} must be an array without a mask, not a MaskedArray; {X}.filled",
    ),
    "a number": (3.5, ValueError, r"{X} must have shape \(n, 20\), as the network has 20 inputs; it has \(\)"),
    "a row": (X[0], ValueError, r"{X} must have shape \(n, 20\), as the network has 20 inputs; it has \(20,\)"),
    "too few columns": (X[:, 1:], ValueError, r"{X} must have shape \(n, 20\), .* it has \(20000, 19\)"),
    "transposed": (X.T, ValueError, r"{X} must have shape \(n, 20\), .* it has \(20, 20000\)"),
    "images": (X.reshape(N, 4, 5), ValueError, r"{X} must have shape \(n, 20\), .* it has \(20000, 4, 5\)"),
    "an empty list": ([], ValueError, r"{X} must have shape \(n, 20\), .* it has \(0,\)"),
    "NaN": (spoiled(X, (7, 3), np.nan), ValueError, r"{X} must be finite in float32; {X}\[7, 3\] is nan"),
    "infinity": (spoiled(X, (0, 19), np.inf), ValueError, r"{X} must be finite in float32; {X}\[0, 19\] is inf"),
    "minus infinity": (spoiled(X, (1, 0), -np.inf), ValueError, r"{X}\[1, 0\] is -inf"),
    "NaN in float32": (spoiled(np.float32(X), (7, 3), np.nan), ValueError, r"{X}\[7, 3\] is nan"),
    "NaN in float16": (spoiled(np.float16(X), (7, 3), np.nan), ValueError, r"{X}\[7, 3\] is nan"),
    "too large for float32": (spoiled(X, (2, 2), -1e39), ValueError, r"{X}\[2, 2\] is -1e\+39"),
}

# ---- y, of fit and evaluate: by the loss of the network

BAD_Y = {
    "None": ("cross_entropy", None, TypeError, "{y} must be an array of real numbers, not None"),
    "float labels": (
        "cross_entropy",
        Y.astype(float),
        TypeError,
        "{y} must hold labels of an integer type .*, not float64",
    ),
    "names": (
        "cross_entropy",
        np.array(["cat", "dog"])[Y],
        TypeError,
        "{y} must be an array of real numbers, not ndarray of <U3",
    ),
    "complex": ("cross_entropy", Y + 0j, TypeError, "{y} must be an array of real numbers, not ndarray of complex128"),
    "masked": ("cross_entropy", np.ma.masked_equal(Y, 1), TypeError, "{y} must be an array without a mask"),
    "sparse": ("cross_entropy", SPARSE, TypeError, "{y} must be a dense array, not a sparse csr_matrix"),
    "ragged": ("cross_entropy", RAGGED, ValueError, "{y} must be an array of real numbers: "),
    "negative": (
        "cross_entropy",
        Y - 1,
        ValueError,
        "{y} must hold labels from 0 to 1, as the network has 2 outputs; it has -1 to 0",
    ),
    "from 1": ("cross_entropy", Y + 1, ValueError, "{y} must hold labels from 0 to 1, .* it has 1 to 2"),
    "huge": ("cross_entropy", np.uint64(2**64 - 1) - Y.astype(np.uint64), ValueError, "it has 18446744073709551614 to"),
    "too few": (
        "cross_entropy",
        Y[1:],
        ValueError,
        r"{y} must have shape \(20000,\) labels or \(20000, 2\), .* it has \(19999,\)",
    ),
    "a short column": (
        "cross_entropy",
        Y[1:, None],
        ValueError,
        r"{y} must have shape \(20000,\) labels or .* it has \(19999, 1\)",
    ),
    "a label": ("cross_entropy", 1, ValueError, r"{y} must have shape .* it has \(\)"),
    "of another width": (
        "cross_entropy",
        rowwise(1.0, 0.0, 0.0),
        ValueError,
        r"{y} must have shape .* it has \(20000, 3\)",
    ),
    "too deep": ("cross_entropy", np.zeros((N, M, 1)), ValueError, r"{y} must have shape .* it has \(20000, 2, 1\)"),
    "sums above 1": (
        "cross_entropy",
        rowwise(0.5, 0.75),
        ValueError,
        r"{y} must have rows that sum to 1; row 0 sums to 1.25",
    ),
    "a sum of 0": (
        "cross_entropy",
        spoiled(rowwise(0.5, 0.5), 9, 0),
        ValueError,
        "{y} must have rows that sum to 1; row 9 sums to 0",
    ),
    "percents": (
        "cross_entropy",
        rowwise(25, 75),
        ValueError,
        r"{y} must hold probabilities in \[0, 1\]; it has 25.0 to 75.0",
    ),
    "NaN probability": ("cross_entropy", spoiled(rowwise(0.5, 0.5), (3, 1), np.nan), ValueError, r"{y}\[3, 1\] is nan"),
    "labels -1 and 1": (
        "binary_cross_entropy",
        rowwise(-1, 1),
        ValueError,
        r"{y} must hold probabilities in \[0, 1\]; it has -1.0 to 1.0",
    ),
    "labels for two": (
        "binary_cross_entropy",
        Y,
        ValueError,
        r"{y} must have shape \(20000, 2\), .* it has \(20000,\)",
    ),
    "NaN answer": ("binary_cross_entropy", rowwise(np.nan, 1), ValueError, r"{y}\[0, 0\] is nan"),
    "one value for two": ("squared_error", Y, ValueError, r"{y} must have shape \(20000, 2\), .* it has \(20000,\)"),
    "transposed": (
        "squared_error",
        np.zeros((M, N)),
        ValueError,
        r"{y} must have shape \(20000, 2\), .* it has \(2, 20000\)",
    ),
    "NaN value": (
        "squared_error",
        spoiled(np.zeros((N, M)), (5, 1), np.nan),
        ValueError,
        r"{y} must be finite in float32; {y}\[5, 1\] is nan",
    ),
    "infinity": ("squared_error", spoiled(np.zeros((N, M)), (5, 1), -np.inf), ValueError, r"{y}\[5, 1\] is -inf"),
    "too large": ("squared_error", rowwise(1e39, 0), ValueError, r"{y}\[0, 0\] is 1e\+39"),
}

# ---- The other arguments of fit

BAD_WEIGHTS = {
    "a name": ("balanced", TypeError, "sample_weight must be an array of real numbers, not str of <U8"),
    "of classes": ({0: 1.0, 1: 2.0}, TypeError, "sample_weight must be an array of real numbers, not dict of object"),
    "a number": (2.0, ValueError, r"sample_weight must have shape \(20000,\), a weight for each row of X; it has \(\)"),
    "too few": (np.ones(N - 1), ValueError, r"sample_weight must have shape \(20000,\), .* it has \(19999,\)"),
    "a column": (np.ones((N, 1)), ValueError, r"sample_weight must have shape \(20000,\), .* it has \(20000, 1\)"),
    "negative": (spoiled(np.ones(N), 4, -0.5), ValueError, "sample_weight must not be negative; row 4 has -0.5"),
    "zeros": (np.zeros(N), ValueError, "sample_weight must have a weight above 0; all are 0"),
    "NaN": (
        spoiled(np.ones(N), 6, np.nan),
        ValueError,
        r"sample_weight must be finite in float32; sample_weight\[6\] is nan",
    ),
    "infinity": (spoiled(np.ones(N), 6, np.inf), ValueError, r"sample_weight\[6\] is inf"),
    "masked": (np.ma.masked_less(np.ones(N), 0), TypeError, "sample_weight must be an array without a mask"),
}

BAD_OPTIONS = {
    "no epochs": ({"epochs": 0}, ValueError, "epochs must be at least 1, not 0"),
    "negative epochs": ({"epochs": -3}, ValueError, "epochs must be at least 1, not -3"),
    "half an epoch": ({"epochs": 2.5}, TypeError, "epochs must be a whole number, not 2.5"),
    "float epochs": ({"epochs": 2.0}, TypeError, "epochs must be a whole number, not 2.0"),
    "epochs True": ({"epochs": True}, TypeError, "epochs must be a whole number, not True"),
    "epochs None": ({"epochs": None}, TypeError, "epochs must be a whole number, not None"),
    "epochs of an array": (
        {"epochs": np.ones(1, int)},
        TypeError,
        r"epochs must be a whole number, not array\(\[1\]\)",
    ),
    "no batch": ({"batch_size": 0}, ValueError, "batch_size must be at least 1, not 0"),
    "negative batch": ({"batch_size": -1}, ValueError, "batch_size must be at least 1, not -1"),
    "float batch": ({"batch_size": 2.5}, TypeError, "batch_size must be a whole number, not 2.5"),
    "string batch": ({"batch_size": "100"}, TypeError, "batch_size must be a whole number, not '100'"),
    "optimizer by name": (
        {"optimizer": "adam"},
        TypeError,
        "optimizer must be a fastmlp.SGD, Adam or AdamW, not 'adam'",
    ),
    "optimizer class": ({"optimizer": Adam}, TypeError, "optimizer must be a fastmlp.SGD, Adam or AdamW, not <class"),
    "optimizer of another library": (
        {"optimizer": SimpleNamespace(learning_rate=1, rule="adam")},
        TypeError,
        "optimizer must be",
    ),
    "callbacks None": (
        {"callbacks": None},
        TypeError,
        "callbacks must be a sequence of fastmlp.callbacks.Callback, not None",
    ),
    "one callback": (
        {"callbacks": Callback()},
        TypeError,
        "callbacks must be a sequence of .*, not <fastmlp.callbacks.protocol.Callback",
    ),
    "a function": (
        {"callbacks": [print]},
        TypeError,
        "callbacks must hold instances of fastmlp.callbacks.Callback, not <built-in",
    ),
    "a callback class": (
        {"callbacks": [Callback(), Callback]},
        TypeError,
        "callbacks must hold instances of .*, not <class",
    ),
    "shuffle by name": ({"shuffle": "no"}, TypeError, "shuffle must be True or False, not 'no'"),
    "shuffle None": ({"shuffle": None}, TypeError, "shuffle must be True or False, not None"),
    "verbose by name": (
        {"verbose": "yes"},
        TypeError,
        "verbose must be True, False or a whole number of epochs, not 'yes'",
    ),
    "verbose half": ({"verbose": 0.5}, TypeError, "verbose must be True, False or a whole number of epochs, not 0.5"),
    "verbose -1": ({"verbose": -1}, ValueError, "verbose must be at least 0, not -1"),
    "a validation split": ({"validation_data": 0.2}, TypeError, r"validation_data must be a pair \(X, y\), not float"),
    "validation X alone": ({"validation_data": X}, TypeError, r"validation_data must be a pair \(X, y\), not ndarray"),
    "validation of three": ({"validation_data": (X, Y, Y)}, TypeError, r"must be a pair \(X, y\), not a tuple of 3"),
    "no validation rows": (
        {"validation_data": (X[:0], Y[:0])},
        ValueError,
        r"validation_data\[0\] must have at least one row",
    ),
    "validation columns": (
        {"validation_data": (X[:, 1:], Y)},
        ValueError,
        r"validation_data\[0\] must have shape \(n, 20\), .* \(20000, 19\)",
    ),
    "validation lengths": (
        {"validation_data": (X, Y[1:])},
        ValueError,
        r"validation_data\[1\] must have shape \(20000,\) .* \(19999,\)",
    ),
    "validation NaN": (
        {"validation_data": (spoiled(X, (1, 2), np.nan), Y)},
        ValueError,
        r"validation_data\[0\]\[1, 2\] is nan",
    ),
    "validation labels": (
        {"validation_data": (X, Y + 1)},
        ValueError,
        r"validation_data\[1\] must hold labels from 0 to 1",
    ),
}


def network(loss="cross_entropy"):
    """A network with a past: parameters and an optimizer's state to lose."""
    net = MLP(SIZES, loss=loss)
    y = np.arange(10) % 2
    net.fit(X[:10], y if loss == "cross_entropy" else np.eye(2)[y], epochs=1, verbose=False)
    return net


def assert_refused(call, error, message, net=None):
    """The call raises just this, allocates next to nothing, and leaves the network as it was."""
    before = pickle.dumps(net)
    tracemalloc.start()
    try:
        with pytest.raises(error, match=message) as caught:
            call()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert type(caught.value) is error or isinstance(error, tuple)
    assert len(str(caught.value)) < 300
    assert peak < MOST_BYTES
    assert pickle.dumps(net) == before


@pytest.mark.parametrize("case", BAD_X)
@pytest.mark.parametrize("method", ["fit", "predict", "predict_proba", "logits", "evaluate", "validation"])
def test_bad_rows(method, case):
    bad, error, message = BAD_X[case]
    message = message.replace("{X}", r"validation_data\[0\]" if method == "validation" else "X")
    net = network()
    calls = {
        "fit": lambda: net.fit(bad, Y, epochs=1, verbose=False),
        "evaluate": lambda: net.evaluate(bad, Y),
        "validation": lambda: net.fit(X, Y, validation_data=(bad, Y), epochs=1, verbose=False),
    }
    assert_refused(calls.get(method, lambda: getattr(net, method)(bad)), error, message, net)


@pytest.mark.parametrize("case", BAD_Y)
@pytest.mark.parametrize("method", ["fit", "evaluate", "validation"])
def test_bad_targets(method, case):
    loss, bad, error, message = BAD_Y[case]
    message = message.replace("{y}", r"validation_data\[1\]" if method == "validation" else "y")
    net = network(loss)
    good = Y if loss == "cross_entropy" else np.broadcast_to(np.float32([0, 1]), (N, M))
    calls = {
        "fit": lambda: net.fit(X, bad, epochs=1, verbose=False),
        "evaluate": lambda: net.evaluate(X, bad),
        "validation": lambda: net.fit(X, good, validation_data=(X, bad), epochs=1, verbose=False),
    }
    assert_refused(calls[method], error, message, net)


@pytest.mark.parametrize("case", BAD_WEIGHTS)
def test_bad_weights(case):
    bad, error, message = BAD_WEIGHTS[case]
    net = network()
    assert_refused(lambda: net.fit(X, Y, sample_weight=bad, epochs=1, verbose=False), error, message, net)


@pytest.mark.parametrize("case", BAD_OPTIONS)
def test_bad_options(case):
    bad, error, message = BAD_OPTIONS[case]
    net = network()
    assert_refused(lambda: net.fit(X, Y, **{"epochs": 1, "verbose": False, **bad}), error, message, net)


REMEDIES = {
    "names": ("cross_entropy", np.array(["cat", "dog"])[Y], "classes, y = np.unique(y, return_inverse=True) numbers"),
    "objects": ("cross_entropy", np.array(["cat", "dog"], object)[Y], "classes, y = np.unique(y, return_inverse=True)"),
    "from 1": ("cross_entropy", Y + 1, "classes, y = np.unique(y, return_inverse=True) numbers labels from 0"),
    "-1 and 1": ("cross_entropy", 2 * Y - 1, "classes, y = np.unique(y, return_inverse=True) numbers labels from 0"),
    "three of two": ("cross_entropy", np.arange(N) % 3, "it has 0 to 2, 3 classes: layer_sizes must end in as many"),
    "floats": ("cross_entropy", Y * 1.0, "for labels, y.astype(int); for values to predict, loss='squared_error'"),
    "a column of floats": ("cross_entropy", Y[:, None] * 1.0, "for labels, y.astype(int)"),
    "answers in words": ("binary_cross_entropy", np.array(["no", "yes"])[Y], "classes, y = np.unique(y, return_inv"),
    "answers -1 and 1": ("binary_cross_entropy", rowwise(-1, 1), r"np.equal(y, 1) makes answers of its two values"),
    "answers 1 and 2": ("binary_cross_entropy", rowwise(1, 2), r"np.equal(y, 2) makes answers of its two values"),
    "three answers": ("binary_cross_entropy", rowwise(1, 2) * Y[:, None], "labels want loss='cross_entropy' and an"),
    "labels as answers": ("binary_cross_entropy", Y, "labels want loss='cross_entropy' and an output for each class"),
    "labels as values": ("squared_error", Y, "labels want loss='cross_entropy' and an output for each class"),
    "values in text": ("squared_error", np.full((N, M), "1"), "np.array(y, float) reads numbers that are text or"),
}


@pytest.mark.parametrize("case", REMEDIES)
def test_refused_targets_are_told_what_mends_them(case):
    loss, bad, remedy = REMEDIES[case]
    net = network(loss)
    assert_refused(lambda: net.fit(X, bad, verbose=False), (TypeError, ValueError), re.escape(remedy), net)


def test_the_remedies_mend():
    names, rows = np.array(["cat", "dog"])[Y], X[:, :3]
    classes, labels = np.unique(names, return_inverse=True)
    np.testing.assert_array_equal(labels, Y)
    np.testing.assert_array_equal(np.searchsorted(classes, names[::-1]), Y[::-1])
    evaluate = MLP((3, 2)).evaluate
    assert evaluate(rows, (Y * 1.0).astype(int)) == evaluate(rows, labels)
    answer = MLP((3, 1), loss="binary_cross_entropy").evaluate
    assert answer(rows, np.equal(2 * Y - 1, 1)) == answer(rows, Y)
    predict = MLP((3, 2)).predict
    for form in (X[0, :3], X[0, :3].tolist()):
        assert predict(np.reshape(form, (-1, 3))) == predict(rows[:1])


def test_columns_of_targets_are_taken_where_their_meaning_is_clear():
    for loss, m in [("cross_entropy", 2), ("binary_cross_entropy", 1), ("squared_error", 1)]:
        evaluate = MLP((K, m), loss=loss).evaluate
        for column in (Y[:, None], Y[:, None].astype(bool), Frame({"y": Y})):
            assert evaluate(X, column) == evaluate(X, Y)


@pytest.mark.parametrize(
    ("shape", "k", "is_told"),
    [((5,), 5, True), ((7,), 1, True), ((3, 4, 5), 20, True), ((3, 5), 20, False), ((7,), 5, False)],
)
def test_rows_of_another_shape_are_told_what_mends_them(shape, k, is_told):
    with pytest.raises(ValueError, match=r"X must have shape \(n, ") as caught:
        MLP((k, 2)).predict(np.zeros(shape))
    assert (f"; np.reshape(X, (-1, {k})) makes rows of it" in str(caught.value)) == is_told


def test_a_value_that_is_not_finite_has_the_place_that_the_user_sees():
    values = spoiled(np.zeros(N), 5, np.nan)
    for y, place in [(values, r"y\[5\] is nan"), (values[:, None], r"y\[5, 0\] is nan")]:
        net = MLP((K, 1), loss="squared_error")
        assert_refused(lambda net=net, y=y: net.fit(X, y, verbose=False), ValueError, place, net)


# ---- Data frames


class Frame:
    """What pandas.DataFrame has of what is asked for, and what it gives: objects, where its columns differ."""

    def __init__(self, columns):
        self.arrays = columns
        self.columns = list(columns)
        self.dtypes = {name: array.dtype for name, array in columns.items()}

    def __array__(self, dtype=None, copy=None):
        common = object if len(set(self.dtypes.values())) > 1 else next(iter(self.dtypes.values()))
        return np.stack(list(self.arrays.values()), axis=1, dtype=dtype or common, casting="unsafe")


def test_columns_that_are_not_numbers_are_named():
    numbers, words, dates = np.arange(3.0), np.array(["a", "b", "c"], object), np.zeros(3, "M8[s]")
    frame = Frame({"age": numbers, "colour": words, "since": dates})
    message = r"X must have columns of numbers: 'colour' is object, 'since' is datetime64\[s\]; pandas.get_dummies or"
    net = MLP((3, 2))
    assert_refused(lambda: net.predict(frame), TypeError, message, net)
    assert_refused(lambda: net.fit(frame, [0, 1, 0], verbose=False), TypeError, message, net)
    many = Frame(dict.fromkeys(range(90), words))
    message = "'?0'? is object, 1 is object, 2 is object, and 87 more; "
    assert_refused(lambda: net.fit(many, [0, 1, 0], verbose=False), TypeError, message, net)


def test_columns_of_several_kinds_of_numbers_are_numbers():
    frame = Frame({"age": np.arange(3.0), "is_red": np.array([True, False, True]), "size": np.arange(3)})
    assert np.asarray(frame).dtype == object
    logits = MLP((3, 2)).logits
    np.testing.assert_array_equal(logits(frame), logits([[0, 1, 0], [1, 0, 1], [2, 1, 2]]))


def test_no_rows():
    net = network()
    for call in (lambda: net.fit(X[:0], Y[:0]), lambda: net.evaluate(X[:0], Y[:0])):
        assert_refused(call, ValueError, r"X must have at least one row; it has shape \(0, 20\)", net)


def test_arrays_that_are_larger_than_memory():
    """Types and shapes are looked at before anything of an array's size is made."""
    net = network()
    huge = np.broadcast_to(np.float64(0), (10**12, K))
    assert_refused(
        lambda: net.fit(huge, Y), ValueError, r"y must have shape \(1000000000000,\) labels .* \(20000,\)", net
    )
    assert_refused(lambda: net.evaluate(huge, Y), ValueError, r"y must have shape \(1000000000000,\)", net)
    assert_refused(lambda: net.predict(huge[:, 1:]), ValueError, r"it has \(1000000000000, 19\)", net)
    assert_refused(lambda: net.fit(X, huge), ValueError, r"it has \(1000000000000, 20\)", net)
    assert_refused(lambda: net.fit(X, Y, sample_weight=huge[:, 0]), ValueError, r"it has \(1000000000000,\)", net)
    assert_refused(lambda: net.fit(X, Y, validation_data=(huge, Y)), ValueError, r"validation_data\[1\] must have", net)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, -1])
def test_parameters_that_are_not_finite(value, place, tmp_path):
    net = network()
    net.parameters[place] = value
    message = "parameters of the network must be finite; they have NaN or infinity"
    assert_refused(lambda: net.fit(X, Y, verbose=False), ValueError, message, net)
    assert_refused(lambda: net.save(tmp_path / "net"), ValueError, "has NaN or infinity", net)
    assert list(tmp_path.iterdir()) == []


def test_parameters_that_are_read_only():
    net = network()
    net.parameters.flags.writeable = False
    message = "parameters of the network must be writable, for fit; copy.deepcopy(network) has its own"
    assert_refused(lambda: net.fit(X, Y, epochs=1, verbose=False), ValueError, re.escape(message), net)
    before = net.parameters.copy()
    copy.deepcopy(net).fit(X, Y, epochs=1, verbose=False)
    np.testing.assert_array_equal(net.parameters, before)
    assert net.predict(X[:20]).shape == (20,)


def test_more_rows_than_can_be_shuffled():
    net = MLP((1, 2))
    n = 2**32 + 1
    rows, labels = np.broadcast_to(np.float32(0), (n, 1)), np.broadcast_to(np.int64(0), n)
    message = "shuffle must be False for more than 2**32 rows; X has 4294967297"
    assert_refused(lambda: net.fit(rows, labels), ValueError, re.escape(message), net)


# ---- MLP itself

BAD_NETWORKS = {
    "a number": ({"layer_sizes": 784}, TypeError, "layer_sizes must be a sequence of whole numbers, not 784"),
    "None": ({"layer_sizes": None}, TypeError, "layer_sizes must be a sequence of whole numbers, not None"),
    "a string": ({"layer_sizes": "784"}, TypeError, "layer_sizes must be a sequence of whole numbers, not '784'"),
    "a set": ({"layer_sizes": {2, 3}}, TypeError, "layer_sizes must be a sequence of whole numbers, not {2, 3}"),
    "a generator": (
        {"layer_sizes": iter((2, 3))},
        TypeError,
        "layer_sizes must be a sequence of whole numbers, not <tuple_it",
    ),
    "a float size": ({"layer_sizes": (2, 3.0)}, TypeError, r"layer_sizes\[1\] must be a whole number, not 3.0"),
    "a size True": ({"layer_sizes": (2, True)}, TypeError, r"layer_sizes\[1\] must be a whole number, not True"),
    "an array of no dimension": (
        {"layer_sizes": np.array(3)},
        TypeError,
        r"layer_sizes must be a sequence of whole numbers, not array\(3\)",
    ),
    "a nested size": (
        {"layer_sizes": (2, (3, 3), 2)},
        TypeError,
        r"layer_sizes\[1\] must be a whole number, not \(3, 3\)",
    ),
    "a size in text": ({"layer_sizes": ["2", "3"]}, TypeError, r"layer_sizes\[0\] must be a whole number, not '2'"),
    "sizes of two dimensions": (
        {"layer_sizes": np.ones((2, 2), int)},
        TypeError,
        r"layer_sizes\[0\] must be a whole number",
    ),
    "no inputs": ({"layer_sizes": (0, 2)}, ValueError, r"layer_sizes\[0\] must be from 1 to 2147483647, not 0"),
    "a negative size": (
        {"layer_sizes": (2, -3, 2)},
        ValueError,
        r"layer_sizes\[1\] must be from 1 to 2147483647, not -3",
    ),
    "a huge size": (
        {"layer_sizes": (2, 2**31)},
        ValueError,
        r"layer_sizes\[1\] must be from 1 to 2147483647, not 2147483648",
    ),
    "huge sizes": (
        {"layer_sizes": (2**31 - 1,) * 2},
        ValueError,
        r"layer_sizes must make less than 2\*\*60 parameters; .* makes 4611",
    ),
    "one size": ({"layer_sizes": (2,)}, ValueError, r"layer_sizes must have at least inputs and outputs, not \(2,\)"),
    "no size": ({"layer_sizes": ()}, ValueError, r"layer_sizes must have at least inputs and outputs, not \(\)"),
    "one class": (
        {"layer_sizes": (2, 1)},
        ValueError,
        "layer_sizes must end in at least 2 outputs for loss='cross_entropy', not 1",
    ),
    "unknown activation": (
        {"activation": "swoosh"},
        ValueError,
        "activation must be one of relu, leaky_relu, .*, tanh, logistic, identity; not 'swoosh'",
    ),
    "capital activation": ({"activation": "ReLU"}, ValueError, "activation must be one of relu, .* not 'ReLU'"),
    "a function": (
        {"activation": np.tanh},
        TypeError,
        "activation must be a string, one of relu, .* not <ufunc 'tanh'>",
    ),
    "too many activations": (
        {"layer_sizes": (2, 3, 2), "activation": ["relu", "tanh"]},
        ValueError,
        r"activation must be one, or one for each of the 1 hidden layers; not 2: \('relu', 'tanh'\)",
    ),
    "too few activations": (
        {"layer_sizes": (2, 3, 3, 2), "activation": ("relu",)},
        ValueError,
        "one for each of the 2 hidden layers; not 1",
    ),
    "one activation unknown": (
        {"layer_sizes": (2, 3, 3, 2), "activation": ("relu", "swoosh")},
        ValueError,
        r"activation\[1\] must be one of relu, .* not 'swoosh'",
    ),
    "one activation None": (
        {"layer_sizes": (2, 3, 3, 2), "activation": [None, "relu"]},
        TypeError,
        r"activation\[0\] must be a string, one of relu, .* not None",
    ),
    "too few inits": (
        {"layer_sizes": (2, 3, 3, 2), "init": ("he", "glorot")},
        ValueError,
        "init must be one, or one for each of the 3 layers; not 2",
    ),
    "unknown loss": ({"loss": "mse"}, ValueError, "loss must be one of cross_entropy, .* not 'mse'"),
    "loss None": ({"loss": None}, TypeError, "loss must be a string, one of cross_entropy, .* not None"),
    "unknown init": ({"init": "zeros"}, ValueError, "init must be one of he, glorot, lecun, normal; not 'zeros'"),
    "seed None": ({"seed": None}, TypeError, "seed must be a whole number, not None"),
    "a negative seed": ({"seed": -1}, ValueError, "seed must be from 0 to 18446744073709551615, not -1"),
    "a huge seed": ({"seed": 2**64}, ValueError, "seed must be from 0 to .*, not 18446744073709551616"),
    "a float seed": ({"seed": 1.0}, TypeError, "seed must be a whole number, not 1.0"),
    "no threads": ({"n_threads": 0}, ValueError, "n_threads must be from 1 to 1024, not 0"),
    "all threads, as elsewhere": ({"n_threads": -1}, ValueError, "n_threads must be from 1 to 1024, not -1"),
    "too many threads": ({"n_threads": 10**6}, ValueError, "n_threads must be from 1 to 1024, not 1000000"),
    "threads in text": ({"n_threads": "2"}, TypeError, "n_threads must be a whole number, not '2'"),
}


@pytest.mark.parametrize("case", BAD_NETWORKS)
def test_bad_networks(case):
    bad, error, message = BAD_NETWORKS[case]
    assert_refused(lambda: MLP(**{"layer_sizes": SIZES, **bad}), error, message)


def test_arguments_that_are_unknown_or_missing():
    """What is said of each is in test_hints.py."""
    net = network()
    for call, message in [
        (MLP, "layer_sizes"),
        (lambda: MLP(2, 3, 2), r"write MLP\(\(2, 3, 2\)\)"),
        (lambda: MLP(SIZES, hidden=3), "hidden"),
        (lambda: net.fit(X), "y must be an array of real numbers, not None"),
        (lambda: net.fit(X, Y, 10), "without a name"),
        (lambda: net.fit(X, Y, learning_rate=0.1), "learning_rate"),
        (net.predict, "'X'"),
    ]:
        assert_refused(call, TypeError, message, net)


# ---- Files and data

BAD_FILES = {
    "load of a number": (lambda path: fastmlp.load(3), TypeError, "path must be a path, not 3"),
    "load of None": (lambda path: fastmlp.load(None), TypeError, "path must be a path, not None"),
    "load of nothing": (lambda path: fastmlp.load(path / "none"), FileNotFoundError, "none"),
    "load of a directory": (fastmlp.load, IsADirectoryError, "directory"),
    "load of text": (lambda path: fastmlp.load(__file__), fastmlp.FileFormatError, "test_checks.py"),
    "save to a number": (lambda path: MLP(SIZES).save(3), TypeError, "path must be a path, not 3"),
    "save to an empty path": (lambda path: MLP(SIZES).save(""), ValueError, "path must not be empty"),
    "load of an empty path": (lambda path: fastmlp.load(b""), ValueError, "path must not be empty"),
    "save to a path with a NUL": (lambda path: MLP(SIZES).save("a\0b"), ValueError, "path must not .* a NUL in it"),
    "save to a directory": (lambda path: MLP(SIZES).save(path), OSError, "directory"),
    "save into nothing": (lambda path: MLP(SIZES).save(path / "none" / "net"), FileNotFoundError, "none"),
    "an unknown split": (
        lambda path: fastmlp.load_mnist("valid"),
        ValueError,
        "split must be one of 'train', .* got 'valid'",
    ),
    "split None": (lambda path: fastmlp.load_mnist(None), ValueError, "split must be one of 'train', .* got None"),
    "no such directory": (
        lambda path: fastmlp.load_mnist(path=path / "none"),
        FileNotFoundError,
        "path must be .*none",
    ),
    "an empty directory": (lambda path: fastmlp.load_mnist(path=path), FileNotFoundError, "train-labels-idx1-ubyte"),
    "a path of a number": (lambda path: fastmlp.load_mnist(path=3), TypeError, "not int"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files(case, tmp_path):
    call, error, message = BAD_FILES[case]
    with pytest.raises(error, match=message):
        call(tmp_path)
    assert list(tmp_path.iterdir()) == []


# ---- What is good


def test_the_cases_are_bad_for_their_one_fault():
    """What every bad call above has in common is accepted."""
    for loss in ("cross_entropy", "binary_cross_entropy", "squared_error"):
        net = network(loss)
        y = Y if loss == "cross_entropy" else rowwise(0.0, 1.0)
        net.fit(X, y, epochs=1, validation_data=(X, y), sample_weight=np.ones(N), optimizer=SGD(1e-3), verbose=False)
        net.evaluate(X, y)


def test_a_good_call_takes_more_memory_than_a_bad_one_may():
    net = network()
    tracemalloc.start()
    try:
        net.fit(X, Y, epochs=1, verbose=False)
        assert tracemalloc.get_traced_memory()[1] > MOST_BYTES
    finally:
        tracemalloc.stop()


def test_limits_that_are_allowed():
    assert MLP((2, 2), seed=2**64 - 1, n_threads=1024).n_threads == 1024
