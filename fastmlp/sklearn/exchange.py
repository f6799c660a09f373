"""From scikit-learn's fitted estimators to these, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import csr_matrix
from sklearn import neural_network
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils.validation import check_is_fitted

from fastmlp.layers import views
from fastmlp.network import MLP
from fastmlp.normalisation import fold

__all__ = ["from_sklearn", "to_sklearn"]

# What a fit leaves behind, where it does.
RECORDS = (
    *("n_features_in_", "feature_names_in_", "classes_", "n_iter_", "t_", "loss_", "loss_curve_", "best_loss_"),
    *("validation_scores_", "best_validation_score_", "_no_improvement_count"),
)


def from_sklearn(kind: type[Any], fitted: Any) -> Any:
    """Return an estimator of this kind that predicts what scikit-learn's fitted one does; `BaseMLP.from_sklearn`.

    Examples
    --------
    >>> from sklearn.neural_network import MLPRegressor as Theirs
    >>> from fastmlp.sklearn import MLPRegressor
    >>> from fastmlp.sklearn.exchange import from_sklearn
    >>> from_sklearn(MLPRegressor, Theirs(hidden_layer_sizes=3, solver="lbfgs").fit([[0.0], [1.0]], [0.0, 1.0]))
    MLPRegressor(hidden_layer_sizes=3, solver='lbfgs')
    """
    theirs = getattr(neural_network, kind.__name__)
    if not isinstance(fitted, theirs):
        raise TypeError(f"fitted must be scikit-learn's {kind.__name__}, not {fitted!r:.80}")
    check_is_fitted(fitted)
    estimator = kind(**fitted.get_params(deep=False))
    _copy_records(fitted, estimator)
    if hasattr(fitted, "_label_binarizer"):
        estimator._kind = fitted._label_binarizer.y_type_
        estimator._sparse_answers = fitted._label_binarizer.sparse_input_
    sizes = (fitted.coefs_[0].shape[0], *(weights.shape[1] for weights in fitted.coefs_))
    estimator.network_ = MLP._unfilled(sizes, activation=fitted.activation, loss=estimator._loss())
    estimator.coefs_, estimator.intercepts_ = fitted.coefs_, fitted.intercepts_
    estimator.network_._require_finite()
    estimator.validation_loss_curve_ = []
    estimator._best_values = estimator.network_._values.copy()
    return estimator


def to_sklearn(estimator: Any) -> Any:
    """Return scikit-learn's own estimator that predicts what a fitted one does; `BaseMLP.to_sklearn`.

    Examples
    --------
    >>> from fastmlp.sklearn import MLPRegressor
    >>> from fastmlp.sklearn.exchange import to_sklearn
    >>> to_sklearn(MLPRegressor(hidden_layer_sizes=3, solver="lbfgs").fit([[0.0], [1.0]], [0.0, 1.0])).n_layers_
    3
    """
    check_is_fitted(estimator)
    kind = getattr(neural_network, type(estimator).__name__)
    theirs = kind()
    theirs.set_params(**{name: value for name, value in estimator.get_params().items() if hasattr(theirs, name)})
    theirs._validate_params()  # it has fewer activations, solvers and losses
    _copy_records(estimator, theirs)
    layers, values = estimator.network_.layers, estimator.network_._few_rows.read()
    if estimator.network_.batch_norm:
        fold(layers, values)
    theirs.coefs_, theirs.intercepts_ = list(views(layers, values, "weights")), list(views(layers, values, "bias"))
    theirs._best_coefs, theirs._best_intercepts = list(theirs.coefs_), list(theirs.intercepts_)
    for name in ("n_layers_", "n_outputs_", "out_activation_"):
        setattr(theirs, name, getattr(estimator, name))
    if hasattr(estimator, "classes_"):
        several = estimator._kind.startswith("multilabel")
        answers = np.eye(len(estimator.classes_), dtype=np.int64) if several else estimator.classes_
        theirs._label_binarizer = LabelBinarizer().fit(csr_matrix(answers) if estimator._sparse_answers else answers)
    return theirs


def _copy_records(source: Any, target: Any) -> None:
    for name in RECORDS:
        if name in vars(source):
            value = vars(source)[name]
            setattr(target, name, value.copy() if isinstance(value, (list, np.ndarray)) else value)
