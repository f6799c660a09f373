"""The estimators' parameters: what each may be, in scikit-learn's own terms, and the check of them all."""

from __future__ import annotations

import functools
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, TypeVar

import numpy as np
from sklearn import get_config
from sklearn.metrics import get_scorer_names
from sklearn.utils._param_validation import Interval, Options, StrOptions, validate_parameter_constraints

from fastmlp.activations import ACTIVATIONS

__all__ = ["CONSTRAINTS", "check", "checking"]

Fit = TypeVar("Fit", bound=Callable[..., Any])

NONNEGATIVE = Interval(Real, 0, None, closed="left")
POSITIVE = Interval(Real, 0, None, closed="neither")
COUNT = Interval(Integral, 1, None, closed="left")
SHARE = Interval(Real, 0, 1, closed="left")

# What the parameters may be; the network and its callbacks look into sequences themselves.
CONSTRAINTS: dict[str, Any] = {
    "hidden_layer_sizes": ["array-like", COUNT],
    "activation": [StrOptions(set(ACTIVATIONS)), tuple, list],
    "solver": [StrOptions({"lbfgs", "sgd", "adam", "adamw"})],
    "alpha": [NONNEGATIVE],
    "batch_size": [StrOptions({"auto"}), COUNT],
    "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"})],
    "learning_rate_init": [POSITIVE, callable],
    "power_t": [NONNEGATIVE],
    "max_iter": [COUNT],
    "shuffle": ["boolean"],
    "random_state": ["random_state"],
    "tol": [NONNEGATIVE],
    "verbose": ["verbose"],
    "warm_start": ["boolean"],
    "momentum": [Interval(Real, 0, 1, closed="both")],
    "nesterovs_momentum": ["boolean"],
    "early_stopping": ["boolean"],
    "validation_fraction": [SHARE],
    "beta_1": [SHARE],
    "beta_2": [SHARE],
    "epsilon": [POSITIVE],
    "n_iter_no_change": [COUNT, Options(Real, {np.inf})],
    "max_fun": [COUNT],
    "n_threads": [COUNT, None],
    "weight_decay": [NONNEGATIVE],
    "clip_norm": [POSITIVE, None],
    "clip_value": [POSITIVE, None],
    "dropout": [SHARE, tuple, list],
    "batch_norm": ["boolean"],
    "scoring": [StrOptions({"loss", *get_scorer_names()}), callable, None],
    "keep_optimizer": ["boolean"],
    "max_time": [POSITIVE, None],
    "callbacks": "no_validation",
}


def check(estimator: Any) -> None:
    """Refuse parameters that are not what they may be; those that were good in a fit before are known to be.

    Raises
    ------
    InvalidParameterError
        scikit-learn's, which is a ValueError and a TypeError.

    Examples
    --------
    >>> from fastmlp.sklearn import MLPClassifier
    >>> from fastmlp.sklearn.parameters import check
    >>> check(MLPClassifier(tol=-1))
    Traceback (most recent call last):
    sklearn.utils._param_validation.InvalidParameterError: The 'tol' parameter of MLPClassifier must be a float in the \
range [0.0, inf). Got -1 instead.
    """
    kind: Any = type(estimator)
    values = tuple(getattr(estimator, name) for name in _checked(kind))
    try:
        hash(values)
    except TypeError:  # a list, a dictionary
        _check.__wrapped__(kind, *values)
    else:
        _check(kind, *values)


@functools.lru_cache(maxsize=64, typed=True)
def _check(kind: Any, *values: Any) -> None:
    given = dict(zip(_checked(kind), values, strict=True))
    validate_parameter_constraints(kind._parameter_constraints, given, caller_name=kind.__name__)


@functools.cache
def _checked(kind: Any) -> list[str]:
    """Names of the parameters that are checked here."""
    return [name for name, wanted in kind._parameter_constraints.items() if wanted != "no_validation"]


def checking(fit: Fit) -> Fit:
    """Have a method check the parameters first, as scikit-learn's own `_fit_context` does, in a tenth of the time.

    Examples
    --------
    Of `fit` and `partial_fit`; the latter checks them in its first call alone:

    >>> from fastmlp.sklearn import MLPClassifier
    >>> classifier = MLPClassifier(6).partial_fit([[0.0], [1.0]], [0, 1], classes=[0, 1])
    >>> classifier.set_params(tol=-1).partial_fit([[0.0], [1.0]], [0, 1]).t_
    4
    """

    @functools.wraps(fit)
    def checked(estimator: Any, *args: Any, **kwargs: Any) -> Any:
        goes_on = fit.__name__ == "partial_fit" and "network_" in vars(estimator)
        if not (goes_on or get_config()["skip_parameter_validation"]):
            estimator._validate_params()
        return fit(estimator, *args, **kwargs)

    return checked  # type: ignore[return-value]
