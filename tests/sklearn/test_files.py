"""Estimators in files: of their own, of pickle, joblib and skops."""

import json
import pickle
import zlib

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the estimators need it")

import joblib
from sklearn.base import clone
from sklearn.datasets import load_iris, make_multilabel_classification, make_regression
from sklearn.exceptions import NotFittedError

import fastmlp
from fastmlp import losses
from fastmlp.files import safetensors
from fastmlp.sklearn import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def cases():
    X, y = load_iris(return_X_y=True)
    short = {"max_iter": 3, "random_state": 0}
    yield MLPClassifier((6,), **short), X, y
    yield MLPClassifier([6, 4], activation=("gelu", "tanh"), **short), X[:100], np.array(["n", "yes"])[y[:100]]
    yield MLPClassifier((6,), class_weight={0: 1, 1: 2, 2: 3}, early_stopping=True, **short), X, y
    yield MLPClassifier((6,), batch_norm=True, label_smoothing=0.1, **short), X, y.astype(bool)
    yield MLPClassifier((6,), solver="lbfgs", **short), X, np.array(["a", "b", "c"], object)[y]
    yield MLPClassifier((6,), n_iter_no_change=np.inf, **short), X, np.zeros(150)
    X, y = make_multilabel_classification(random_state=0)
    yield MLPClassifier((6,), **short), X, y
    X, y = make_regression(n_samples=60, n_features=4, n_targets=2, random_state=0)
    yield MLPRegressor(hidden_layer_sizes=(), **short), X, y
    yield MLPRegressor(losses.Quantile((0.1, 0.9)), (6,), **short), X, y[:, 0]
    yield MLPRegressor("poisson", (6,), **short), X, np.abs(y)


CASES = list(cases())


@pytest.fixture(params=range(len(CASES)))
def fitted(request):
    """A fitted estimator, and the rows."""
    estimator, X, y = CASES[request.param]
    return clone(estimator).fit(X, y), X


@pytest.fixture
def saved(tmp_path):
    """The file of a classifier."""
    estimator, X, y = CASES[0]
    clone(estimator).fit(X, y).save(tmp_path / "a")
    return tmp_path / "a"


def assert_same(loaded, estimator, X):
    assert type(loaded) is type(estimator)
    assert repr(loaded.network_) == repr(estimator.network_)
    for name in ("predict", "predict_proba"):
        if hasattr(estimator, name):
            expected, actual = getattr(estimator, name)(X), getattr(loaded, name)(X)
            assert np.array_equal(expected, actual)
            assert expected.dtype == actual.dtype
    own = {name: value for name, value in vars(estimator).items() if name.endswith("_") and name != "network_"}
    for name, value in own.items():
        np.testing.assert_equal(vars(loaded)[name], value)


def test_own_files(fitted, tmp_path):
    estimator, X = fitted
    path = tmp_path / "estimator.safetensors"
    estimator.save(path)
    loaded = type(estimator).load(path)
    assert_same(loaded, estimator, X)
    for name, value in estimator.get_params().items():
        assert loaded.get_params()[name] == (list(value) if isinstance(value, tuple) else value)
    network = fastmlp.load(path)
    assert np.array_equal(network.logits(X), estimator.network_.logits(X))
    y = estimator.predict(X) if loaded.n_outputs_ == 1 or hasattr(loaded, "classes_") else None
    if y is not None and loaded.solver != "lbfgs" and not loaded.early_stopping:
        loaded.partial_fit(X, np.abs(y) if y.dtype.kind == "f" and not hasattr(loaded, "classes_") else y)


def test_pickle_and_joblib(fitted, tmp_path):
    estimator, X = fitted
    joblib.dump(estimator, tmp_path / "estimator.joblib")
    for loaded in (pickle.loads(pickle.dumps(estimator)), joblib.load(tmp_path / "estimator.joblib", mmap_mode="r")):
        assert_same(loaded, estimator, X)


def test_skops(fitted, tmp_path):
    estimator, X = fitted
    skops = pytest.importorskip("skops.io", reason="skops writes such files")
    path = tmp_path / "estimator.skops"
    skops.dump(estimator, path)
    assert_same(skops.load(path, trusted=skops.get_untrusted_types(file=path)), estimator, X)


def test_a_pickled_network_is_looked_at():
    state = fastmlp.MLP((3, 4, 2)).__getstate__()
    other = fastmlp.MLP.__new__(fastmlp.MLP)
    with pytest.raises(ValueError, match=r"shape \(26\)"):
        other.__setstate__({**state, "_values": state["_values"][:-1]})
    with pytest.raises(TypeError, match="float32"):
        other.__setstate__({**state, "_values": state["_values"].astype(np.float64)})


def test_what_is_not_in_a_file_is_the_default(tmp_path):
    X, y = load_iris(return_X_y=True)
    parameters = {"random_state": np.random.RandomState(0), "callbacks": [fastmlp.callbacks.TimeLimit(60)]}
    schedule = fastmlp.schedules.Cosine(0.01)
    MLPClassifier(4, max_iter=2, learning_rate_init=schedule, **parameters).fit(X, y).save(tmp_path / "a")
    loaded = MLPClassifier.load(tmp_path / "a")
    assert loaded.random_state is None
    assert loaded.learning_rate_init == 0.001
    assert loaded.max_iter == 2


def changed(path, change):
    """Rewrite what a file says of its estimator, and its checksum."""
    with open(path, "rb") as stream:
        metadata, described = safetensors.read_header(stream)
        tensors = {name: safetensors.read_tensor(stream, name, tensor) for name, tensor in described.items()}
    fields = json.loads(metadata["fastmlp.sklearn"])
    change(fields)
    text = json.dumps(fields)
    metadata |= {"fastmlp.sklearn": text, "fastmlp.sklearn.crc32": str(zlib.crc32(text.encode()))}
    with open(path, "wb") as stream:
        safetensors.write(stream, tensors, metadata)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda fields: None, None),
        (lambda fields: fields.update(estimator="MLPRegressor"), "MLPRegressor, not a MLPClassifier"),
        (lambda fields: fields.update(more=1), "must hold an estimator"),
        (lambda fields: fields["parameters"].update(tol=-1), "'tol' parameter"),
        (lambda fields: fields["parameters"].update(colour="red"), "colour"),
        (lambda fields: fields["records"].update(predict="red"), "no record 'predict'"),
        (lambda fields: fields["records"].update(n_features_in_=5), "columns"),
        (lambda fields: fields["records"]["classes_"]["values"].pop(), "3 outputs do not fit its classes, 2"),
        (lambda fields: fields["records"].update(_kind="binary"), "3 outputs do not fit its classes, 3"),
        (lambda fields: fields["records"]["classes_"].update(dtype="colour"), "colour"),
        (lambda fields: fields["records"].pop("n_features_in_"), "n_features_in_"),
    ],
)
def test_files_are_looked_at(change, match, saved):
    changed(saved, change)
    if match is None:
        MLPClassifier.load(saved)
        return
    with pytest.raises(fastmlp.FileFormatError, match=match):
        MLPClassifier.load(saved)


def test_other_files_are_refused(tmp_path, saved):
    path = tmp_path / "b"
    with pytest.raises(NotFittedError):
        MLPClassifier().save(path)
    with pytest.raises(FileNotFoundError):
        MLPClassifier.load(path)
    fastmlp.MLP((2, 2)).save(path)
    with pytest.raises(fastmlp.FileFormatError, match="a network alone"):
        MLPClassifier.load(path)
    path.write_bytes(saved.read_bytes().replace(b'tol\\": 0.0001', b'tol\\": 0.0002'))
    with pytest.raises(fastmlp.FileFormatError, match="checksum"):
        MLPClassifier.load(path)
