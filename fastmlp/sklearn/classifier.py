"""The classifier: labels of any kind in, and out again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_matrix
from sklearn.base import ClassifierMixin
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import column_or_1d
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import _check_partial_fit_first_call, type_of_target

from fastmlp.callbacks import Callback
from fastmlp.losses import CrossEntropy, Loss
from fastmlp.rows import Targets
from fastmlp.sklearn import inputs
from fastmlp.sklearn.base import BaseMLP, is_stochastic
from fastmlp.sklearn.growth import grow
from fastmlp.sklearn.parameters import SHARE, checking
from fastmlp.sparse import is_sparse

__all__ = ["MLPClassifier"]


class MLPClassifier(ClassifierMixin, BaseMLP):
    """scikit-learn's MLPClassifier, trained by fastmlp: its parameters, its attributes, its results.

    With the same `random_state` it starts from the weights that scikit-learn's starts from, visits the rows in the same
    order and steps by the same rules, so that its losses are the same but for the rounding of float32. What differs,
    and why, is in docs/coming-from-scikit-learn.md.

    Parameters
    ----------
    hidden_layer_sizes : int or array-like of int, default (100,)
        Units of each hidden layer.
    activation : str or tuple of str, default "relu"
        Of the hidden layers, any that `fastmlp.MLP` has: of all of them, or of each.
    solver : {"lbfgs", "sgd", "adam", "adamw"}, default "adam"
        "lbfgs" is SciPy's L-BFGS-B over all rows at once; the others take batches. "adamw" also takes `weight_decay`.
    alpha : float, default 0.0001
        Of the L2 penalty: alpha / 2 times the sum of the squared weights, by the rows of the batch, is added to its
        mean loss.
    batch_size : int or "auto", default "auto"
        "auto" is min(200, n_samples).
    learning_rate : {"constant", "invscaling", "adaptive"}, default "constant"
        Of "sgd": the rate as it is; divided after each epoch by the `power_t`-th power of the rows seen so far; or
        divided by 5 where `n_iter_no_change` epochs have gained less than `tol`.
    learning_rate_init : float or schedule, default 0.001
        A schedule of `fastmlp.schedules`, or any function of step and steps, runs over the `max_iter` epochs of `fit`.
    power_t : float, default 0.5
    max_iter : int, default 200
        Epochs or, of "lbfgs", iterations at most.
    shuffle : bool, default True
        A new order of the rows each epoch.
    random_state : int, RandomState or None, default None
        Of the first weights, the rows that are held out, and their order.
    tol : float, default 1e-4
        What an epoch must gain; of "lbfgs", the largest derivative at the end.
    verbose : bool or int, default False
        Print a line an epoch.
    warm_start : bool, default False
        `fit` goes on from the weights that there are, with a new optimizer.
    momentum : float, default 0.9
        Of "sgd", in [0, 1).
    nesterovs_momentum : bool, default True
    early_stopping : bool, default False
        Hold out `validation_fraction` of the rows, judge epochs by the accuracy on them, and keep the best weights.
    validation_fraction : float, default 0.1
    beta_1, beta_2, epsilon : float, default 0.9, 0.999 and 1e-8
        Of "adam".
    n_iter_no_change : int or inf, default 10
        Epochs without a gain of `tol` before training ends.
    max_fun : int, default 15000
        Evaluations of "lbfgs" at most.
    n_threads : int or None, default None
        Threads at most, as of `fastmlp.MLP`.
    weight_decay : float, default 0.01
        Of "adamw", decoupled from the gradient (Loshchilov & Hutter 2019).
    clip_norm : float or None, default None
        The largest norm of a batch's gradient; those above it are scaled down.
    clip_value : float or None, default None
        Each component of the gradient is held within -clip_value and clip_value.
    dropout : float in [0, 1) or a sequence of these, default 0.0
        Share of the units of all hidden layers, or of each, that training leaves out.
    batch_norm : bool, default False
        Normalise the hidden layers over each batch, as `fastmlp.MLP` does.
    scoring : str, callable or None, default None
        By what rows that are held out are judged, the larger the better: the name of a scorer of scikit-learn's, a
        function of (estimator, X, y), or "loss" for minus the loss. None: the accuracy.
    keep_optimizer : bool, default False
        With `warm_start`, `fit` goes on with the optimizer's state, too.
    max_time : float or None, default None
        Seconds after which training ends, between two batches; not of "lbfgs".
    callbacks : sequence of fastmlp.callbacks.Callback, default ()
        Told how training goes, as by `fastmlp.MLP.fit`: `ProgressBar`, `CSVLog`, `EarlyStopping` or your own; not by
        "lbfgs". The history has also "validation_loss", "validation_accuracy" (of a regressor "validation_r2") and
        "validation_score" where rows are held out.
    class_weight : dict, "balanced" or None, default None
        By which the weights of a class's rows are multiplied; "balanced": all classes weigh the same.
    label_smoothing : float in [0, 1), default 0.0
        Share of each target that goes to all classes alike; of a single or a multilabel answer, to yes and no.
    grow_classes : bool, default False
        `partial_fit` takes classes that it has not seen, and then the network gets outputs for them; `classes` may be
        left out of the first call.

    Attributes
    ----------
    classes_ : array (n_classes,)
    network_ : fastmlp.MLP
        The network itself.
    coefs_, intercepts_ : list of float32 arrays (n_in, n_out) and (n_out,)
        The network's own memory: what is written to them changes the network.
    loss_, best_loss_, loss_curve_ : float, float or None, list of float
        Of the last epoch, of the best one without `early_stopping`, and of all.
    validation_scores_, best_validation_score_ : list of float and float, or None
        With `early_stopping`; the scores with `X_val` as well.
    validation_loss_curve_ : list of float
        The mean loss of the rows that are held out, after each epoch and without the penalty.
    n_iter_, t_ : int
        Epochs of the last fit; rows that have been learnt from.
    n_layers_, n_outputs_ : int
    out_activation_ : str
    n_features_in_ : int
    feature_names_in_ : array of str
        Where X was a data frame with such names.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from fastmlp.sklearn import MLPClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> MLPClassifier(solver="lbfgs", max_iter=500, random_state=0).fit(X, y).score(X, y) > 0.95
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseMLP._parameter_constraints,
        "class_weight": [dict, list, StrOptions({"balanced"}), None],
        "label_smoothing": [SHARE],
        "grow_classes": ["boolean"],
    }

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: str = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool | int = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        n_threads: int | None = None,
        weight_decay: float = 0.01,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        dropout: float | Sequence[float] = 0.0,
        batch_norm: bool = False,
        scoring: Any = None,
        keep_optimizer: bool = False,
        max_time: float | None = None,
        callbacks: Sequence[Callback] = (),
        class_weight: Any = None,
        label_smoothing: float = 0.0,
        grow_classes: bool = False,
    ) -> None:
        self._take(locals())

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    @available_if(is_stochastic)
    @checking
    def partial_fit(
        self, X: Any, y: Any, sample_weight: ArrayLike | None = None, classes: ArrayLike | None = None
    ) -> MLPClassifier:
        """Train for one epoch of these rows, from where training stands, optimizer included.

        Parameters
        ----------
        X : array or SciPy sparse matrix (n, k)
        y : array (n,) or (n, n_outputs)
        sample_weight : array (n,) or None
        classes : array (n_classes,) or None
            All that will ever come, in the first call; later ones may leave it out. With `grow_classes` some of them.

        Returns
        -------
        self
        """
        if classes is None and self.grow_classes and not hasattr(self, "classes_"):
            classes = _classes_of(y)[0]
        # scikit-learn takes half a millisecond to see that classes are those of before.
        known = "classes_" in vars(self) and classes is not None and np.array_equal(self.classes_, classes)
        if not known and _check_partial_fit_first_call(self, classes):
            _, self._kind = _classes_of(y if type_of_target(y).startswith("multilabel") else classes)
            self._sparse_answers = is_sparse(y)
        self._fit(X, y, sample_weight, incremental=True)
        return self

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the label of each row, (n,); of several answers, 0 or 1, (n, n_outputs).

        Parameters
        ----------
        X : array or SciPy sparse matrix (n, k)
        """
        logits = self._logits(X)
        if self._kind == "multiclass":
            return self.classes_[logits.argmax(axis=1)]
        answers = (logits > 0).astype(np.int64)
        if self._kind == "binary":
            return self.classes_[answers[:, 0] if len(self.classes_) == 2 else 0 * answers[:, 0]]
        return csr_matrix(answers) if self._sparse_answers else answers

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Return the probability of each class in each row, (n, n_classes); of several answers, of each being 1.

        Parameters
        ----------
        X : array or SciPy sparse matrix (n, k)
        """
        outputs = self._outputs(X)
        return np.hstack([1 - outputs, outputs]) if outputs.shape[1] == 1 else outputs

    def predict_log_proba(self, X: Any) -> NDArray[Any]:
        """Return the logarithm of what `predict_proba` returns.

        Parameters
        ----------
        X : array or SciPy sparse matrix (n, k)
        """
        return np.log(self.predict_proba(X))

    def _loss(self) -> str | Loss:
        if self._kind == "multiclass":
            return CrossEntropy(self.label_smoothing) if self.label_smoothing else "cross_entropy"
        return "binary_cross_entropy"  # whose targets are smoothed themselves

    def _validated(self, X: Any, y: Any, *, classes: str, reset: bool, known: bool) -> tuple[Any, Any, Any]:
        X, y = inputs.examples(self, X, y, reset=reset, known=known)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        found, kind = _classes_of(y)
        if classes == "new":
            self.classes_, self._kind = found, kind
            self._sparse_answers = is_sparse(y)
        elif classes == "more" and self.grow_classes and "multilabel-indicator" not in (kind, self._kind):
            self._kind = grow(self, found)
        else:
            self._check_classes(found, all_of_them=classes == "same")
        return X, y, None if self.class_weight is None else compute_sample_weight(self.class_weight, y)

    def _check_classes(self, classes: NDArray[Any], *, all_of_them: bool) -> None:
        found, known = set(classes.tolist()), set(self.classes_.tolist())
        if all_of_them and found != known:
            raise ValueError(
                "warm_start can only be used where `y` has the same classes as in the previous call to fit. "
                f"Previously got {self.classes_}, `y` has {classes}"
            )
        if not found <= known:
            raise ValueError(
                f"`y` has classes not in `self.classes_`. `self.classes_` has {self.classes_}. 'y' has {classes}."
            )

    def _targets(self, y: Any) -> Targets:
        """Labels from 0 on or, of one output or of several answers, 0 and 1."""
        if y.ndim == 2:
            y = y.toarray() if is_sparse(y) else y
            answers = (y != 0).astype(np.float32)
        else:
            labels = np.searchsorted(self.classes_, y)
            if self._kind == "multiclass":
                return Targets(labels.astype(np.int64, copy=False), None)
            answers = labels.astype(np.float32).reshape(-1, 1)
        if self.label_smoothing:
            answers = answers * np.float32(1 - self.label_smoothing) + np.float32(self.label_smoothing / 2)
        return Targets(None, answers)


def _classes_of(y: Any) -> tuple[NDArray[Any], str]:
    """Return the classes, sorted, and "binary", "multiclass" or "multilabel-indicator"; anything else is refused."""
    array = np.asarray(y) if isinstance(y, (list, tuple)) else y
    if isinstance(array, np.ndarray) and array.ndim == 1 and array.dtype.kind in "biuU":  # labels without a doubt
        classes = _distinct(array)
        return classes, "multiclass" if len(classes) > 2 else "binary"
    binarizer = LabelBinarizer().fit(y)
    return binarizer.classes_, binarizer.y_type_


def _distinct(labels: NDArray[Any]) -> NDArray[Any]:
    """The labels that there are, (n_classes,), sorted: small integers are counted, in a fifth of the time of others."""
    if labels.dtype.kind == "i" and labels.size and labels.min() >= 0 and labels.max() < labels.size:
        return np.flatnonzero(np.bincount(labels)).astype(labels.dtype)
    return np.unique(labels)
