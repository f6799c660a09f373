"""An estimator's file: that of its network, with what else the estimator is beside the weights."""

from __future__ import annotations

import json
import os
import zlib
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from fastmlp import checks
from fastmlp.files import safetensors
from fastmlp.files.atomic import replacing
from fastmlp.files.network import contents, read, reading
from fastmlp.network import MLP
from fastmlp.sklearn.exchange import RECORDS

__all__ = ["load", "save"]

# The metadata key of an estimator, and that of its checksum.
ESTIMATOR, CRC32 = "fastmlp.sklearn", "fastmlp.sklearn.crc32"
# What scikit-learn's estimators do not keep.
OWN = ("validation_loss_curve_", "_kind", "_sparse_answers")
KINDS = ("binary", "multiclass", "multilabel-indicator")


def save(estimator: Any, path: str | bytes | os.PathLike[str]) -> None:
    """Save a fitted estimator; `BaseMLP.save`.

    Examples
    --------
    >>> import os, tempfile
    >>> from fastmlp.sklearn import MLPClassifier
    >>> from fastmlp.sklearn.files import load, save
    >>> classifier = MLPClassifier(6, solver="lbfgs", random_state=0).fit([[0.0], [1.0]], ["no", "yes"])
    >>> path = os.path.join(tempfile.mkdtemp(), "classifier.safetensors")
    >>> save(classifier, path)
    >>> load(MLPClassifier, path).predict([[0.0], [1.0]]).tolist()
    ['no', 'yes']
    """
    check_is_fitted(estimator)
    path, network = checks.path("path", path), estimator.network_
    parameters = {}
    for name, value in estimator.get_params(deep=False).items():
        try:
            parameters[name] = _plain(value)
        except TypeError:  # a function, an object: the default takes its place
            continue
    own = vars(estimator)
    records = {name: _plain(own[name]) for name in (*RECORDS, *OWN) if name in own}
    if "classes_" in own:
        records["classes_"] = {"dtype": estimator.classes_.dtype.str, "values": records["classes_"]}
    fields = {"estimator": type(estimator).__name__, "parameters": parameters, "records": records}
    text = json.dumps(fields)
    tensors, metadata = contents(network, network._few_rows.read())
    metadata |= {ESTIMATOR: text, CRC32: str(zlib.crc32(text.encode()))}
    with replacing(path) as stream:
        safetensors.write(stream, tensors, metadata)


def load(kind: type[Any], path: str | bytes | os.PathLike[str]) -> Any:
    """Load an estimator of this kind; `BaseMLP.load`.

    Examples
    --------
    >>> import os, tempfile
    >>> import fastmlp
    >>> from fastmlp.sklearn import MLPClassifier
    >>> from fastmlp.sklearn.files import load
    >>> path = os.path.join(tempfile.mkdtemp(), "network.safetensors")
    >>> fastmlp.MLP((2, 2)).save(path)
    >>> load(MLPClassifier, path)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    fastmlp.errors.FileFormatError: ...: metadata key 'fastmlp.sklearn' is missing: it is a network alone; ...
    """
    with reading(checks.path("path", path)) as stream:
        header = safetensors.read_header(stream)
        fields = _fields(header.metadata, kind)
        network = read(stream, header, {})
        try:
            return _made(kind, network, fields["parameters"], fields["records"])
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"metadata key {ESTIMATOR!r} does not describe a {kind.__name__}: {error}") from error


def _fields(metadata: dict[str, str], kind: type[Any]) -> dict[str, Any]:
    if ESTIMATOR not in metadata:
        raise ValueError(f"metadata key {ESTIMATOR!r} is missing: it is a network alone; fastmlp.load reads it")
    text = metadata[ESTIMATOR]
    if metadata.get(CRC32) != str(zlib.crc32(text.encode())):
        raise ValueError(f"the checksum of {ESTIMATOR!r} is wrong: it has changed since the file was saved")
    fields = json.loads(text)
    if type(fields) is not dict or fields.keys() != {"estimator", "parameters", "records"}:
        raise ValueError(f"metadata key {ESTIMATOR!r} must hold an estimator, got {text:.80}")
    if fields["estimator"] != kind.__name__:
        raise ValueError(f"it holds a {fields['estimator']!s:.80}, not a {kind.__name__}")
    return fields


def _made(kind: type[Any], network: MLP, parameters: dict[str, Any], records: dict[str, Any]) -> Any:
    """Return the estimator, all of it looked at."""
    if "loss" in kind._parameter_constraints:
        parameters["loss"] = network.loss
    if isinstance(parameters.get("class_weight"), dict):
        parameters["class_weight"] = dict(parameters["class_weight"]["of"])
    estimator = kind(**parameters)
    estimator._validate_params()
    estimator.network_, estimator._best_values = network, network._values.copy()
    for name, value in records.items():
        if name not in (*RECORDS, *OWN):
            raise ValueError(f"metadata key {ESTIMATOR!r} must have no record {name!r:.80}")
        setattr(estimator, name, value)
    n_outputs = network.layer_sizes[-1]
    if "classes_" in records:
        estimator.classes_ = np.array(records["classes_"]["values"], np.dtype(records["classes_"]["dtype"]))
        n_classes = len(estimator.classes_)
        wanted = n_classes if estimator._kind != "binary" else 1
        if estimator._kind not in KINDS or n_outputs != wanted or (estimator._kind == "binary" and n_classes > 2):
            raise ValueError(
                f"its {n_outputs} outputs do not fit its classes, {n_classes} of kind {estimator._kind!r:.80}"
            )
    if "feature_names_in_" in records:
        estimator.feature_names_in_ = np.array(records["feature_names_in_"], object)
    names = records.get("feature_names_in_", network.layer_sizes[0] * [""])
    if not estimator.n_features_in_ == network.layer_sizes[0] == len(names):
        raise ValueError(f"its network reads {network.layer_sizes[0]} columns, and its records are of others")
    return estimator


def _plain(value: Any) -> Any:
    """What JSON has for it; a TypeError where that is nothing."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, dict):
        return {"of": [[_plain(key), _plain(item)] for key, item in value.items()]}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{value!r:.80} is not in JSON")
