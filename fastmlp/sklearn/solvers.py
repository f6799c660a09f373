"""The solvers: around the engine, what scikit-learn does between its own batches and epochs."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils.optimize import _check_optimize_result

from fastmlp import threads
from fastmlp.arrays import Float32
from fastmlp.callbacks import Callback, Progress, TimeLimit
from fastmlp.engine.rows import Rows
from fastmlp.engine.trainer import Trainer
from fastmlp.errors import DivergenceError
from fastmlp.layers import engine_layers
from fastmlp.losses import loss_of
from fastmlp.network import MLP
from fastmlp.optimizers import SGD, Adam, AdamW, Optimizer
from fastmlp.rows import Targets
from fastmlp.runs import History
from fastmlp.sklearn import inputs
from fastmlp.sklearn.convergence import Convergence, Validation
from fastmlp.sklearn.inputs import Fingerprint
from fastmlp.training.jobs import checked_callbacks
from fastmlp.training.lbfgs import Objective, minimize
from fastmlp.training.loop import Run, whole
from fastmlp.training.state import first_state

__all__ = ["Data", "Kept", "are_kept", "begin", "require_plain", "train", "without_kept"]


class Data(NamedTuple):
    """What a fit learns from.

    Attributes
    ----------
    X : array or sparse matrix (n, k)
    y : array (n,) or (n, n_outputs), or sparse matrix
        As scikit-learn's scorers want it.
    targets : Targets
        As the network wants it.
    weights : float32 array (n,) or None
    mark : Fingerprint or None
        Of X, where it may come again.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp.rows import Targets
    >>> from fastmlp.sklearn.solvers import Data
    >>> y = np.array([0, 1])
    >>> Data(np.zeros((2, 3)), y, Targets(y, None), None).total
    2.0
    """

    X: Any
    y: Any
    targets: Targets
    weights: Float32 | None
    mark: Fingerprint | None = None

    @property
    def total(self) -> float:
        """Weight of all rows."""
        return float(self.X.shape[0] if self.weights is None else self.weights.sum(dtype=np.float64))

    def take(self, chosen: NDArray[np.int64]) -> Data:
        """Return some rows."""

        def some(array: Any) -> Any:
            return None if array is None else array[chosen]

        labels, values = self.targets
        return Data(self.X[chosen], self.y[chosen], Targets(some(labels), some(values)), some(self.weights))


class Kept(NamedTuple):
    """What is kept for the next call that goes on with a network: rows, and the engine that learned from them.

    Attributes
    ----------
    network : MLP
    data : Data
        Without X and y.
    options : tuple
        Size of a batch and number of threads.
    rows : Rows
        As the engine reads them, most of them listed: it takes some of a fit of one epoch.
    trainer : Trainer

    Examples
    --------
    >>> from fastmlp.sklearn import MLPRegressor
    >>> regressor = MLPRegressor().partial_fit([[0.0], [1.0]], [0.0, 1.0])
    >>> regressor._kept.network is regressor.network_
    True
    """

    network: MLP
    data: Data
    options: tuple[int, int | None]
    rows: Rows
    trainer: Trainer

    def suits(self, network: MLP, data: Data, options: tuple[int, int | None]) -> bool:
        """Whether it would be made anew as it is."""
        pairs = zip((*self.data.targets, self.data.weights), (*data.targets, data.weights), strict=True)
        return (
            self.network is network
            and self.options == options
            and self.data.mark == data.mark
            and all(a is b or (a is not None and b is not None and np.array_equal(a, b)) for a, b in pairs)
        )


def are_kept(estimator: Any, mark: Fingerprint | None) -> bool:
    """Whether the rows that have this mark are those of the last call.

    Examples
    --------
    >>> from fastmlp.sklearn import MLPRegressor
    >>> from fastmlp.sklearn.solvers import are_kept
    >>> are_kept(MLPRegressor(), None)
    False
    """
    kept = vars(estimator).get("_kept")
    return kept is not None and mark is not None and kept.data.mark == mark


def without_kept(state: dict[str, Any]) -> dict[str, Any]:
    """Return what is pickled and copied of an estimator: without what the next call can make anew.

    Examples
    --------
    >>> from fastmlp.sklearn.solvers import without_kept
    >>> without_kept({"tol": 1e-4, "_kept": None})
    {'tol': 0.0001}
    """
    return {name: value for name, value in state.items() if name != "_kept"}


def begin(estimator: Any) -> None:
    """Set what counts and remembers, of an estimator whose network is new.

    Examples
    --------
    >>> from fastmlp.sklearn import MLPRegressor
    >>> regressor = MLPRegressor(solver="lbfgs", hidden_layer_sizes=2).fit([[0.0], [1.0]], [0.0, 1.0])
    >>> regressor.t_  # rows that a stochastic solver has seen
    0
    """
    estimator.n_iter_ = 0
    estimator.t_ = 0
    if estimator.solver == "lbfgs":
        return
    estimator.loss_curve_, estimator.validation_loss_curve_ = [], []
    estimator._no_improvement_count = 0
    estimator._best_values = estimator.network_._values.copy()
    early = estimator.early_stopping
    estimator.validation_scores_ = [] if early else None
    estimator.best_validation_score_ = -np.inf if early else None
    estimator.best_loss_ = None if early else np.inf


def train(
    estimator: Any, data: Data, held_out: Data | None, random: np.random.RandomState, *, incremental: bool
) -> None:
    """Train an estimator's network by its solver; `incremental`: for one epoch, with the optimizer as it stands.

    Raises
    ------
    ArithmeticError
        Training diverged.

    Examples
    --------
    >>> from fastmlp.sklearn import MLPRegressor
    >>> regressor = MLPRegressor(hidden_layer_sizes=2, max_iter=5, tol=1e9, n_iter_no_change=1)
    >>> regressor.fit([[0.0], [1.0]], [0.0, 1.0]).n_iter_  # the first epoch gains, the next two do not
    3
    """
    if estimator.solver == "lbfgs":
        _minimize(estimator, data)
    else:
        _descend(estimator, data, held_out, random, incremental=incremental)


def require_plain(estimator: Any, X_val: Any) -> None:
    """Refuse what "lbfgs" cannot do: it wants one cost, and has no epochs.

    Examples
    --------
    >>> from fastmlp.sklearn import MLPRegressor
    >>> MLPRegressor(solver="lbfgs", dropout=0.5).fit([[0.0], [1.0]], [0.0, 1.0])
    Traceback (most recent call last):
    ValueError: dropout must not be asked for with solver='lbfgs', whose cost must be the same each time
    """
    if X_val is not None:
        raise ValueError("X_val must be None for solver='lbfgs', which has no epochs to judge")
    for name in ("dropout", "batch_norm"):
        if np.any(getattr(estimator, name)):
            raise ValueError(f"{name} must not be asked for with solver='lbfgs', whose cost must be the same each time")


def _minimize(estimator: Any, data: Data) -> None:
    network = estimator.network_
    seconds = threads.phase_seconds(data.X.shape[0], network.parameters.size, len(network.layers))
    rows = _rows(network, data, threads.choose(network.n_threads, seconds))
    objective = Objective(network, rows, estimator.alpha / data.total)

    def report(iteration: int, cost: float) -> None:
        print(f"Iteration {iteration}, loss = {cost:.8f}")

    result = minimize(
        objective,
        max_iter=estimator.max_iter,
        max_evaluations=estimator.max_fun,
        tolerance=estimator.tol,
        callback=report if estimator.verbose else None,
    )
    if not (np.isfinite(result.fun) and np.isfinite(network.parameters).all()):
        raise DivergenceError
    estimator.n_iter_ = _check_optimize_result("lbfgs", result, estimator.max_iter)
    decay = objective.decay(network.weights)
    factor, constant = estimator._loss_terms(data.targets.given, data.weights)
    estimator.loss_ = factor * (result.fun - decay) + constant + decay


def _descend(
    estimator: Any, data: Data, held_out: Data | None, random: np.random.RandomState, *, incremental: bool
) -> None:
    network = estimator.network_
    goes_on = incremental or estimator.warm_start
    if not (incremental or (goes_on and estimator.keep_optimizer)) or not hasattr(estimator, "_optimizer"):
        estimator._optimizer = _optimizer(estimator, incremental=incremental)
        network._state = None
    callbacks = _callbacks(estimator)
    learned, validation = _split(estimator, data, held_out, random)
    batch_size = _batch_size(estimator.batch_size, len(learned))
    if network.batch_norm and batch_size == 1:
        raise ValueError("batch_size must be at least 2 with batch_norm, and so must be the rows; one is its own mean")
    kept = _engine(estimator, data, batch_size)
    estimator._kept = kept if goes_on else None
    state = first_state(network, estimator._optimizer)
    kept.trainer.load(network._values, state.moments, state.step)
    epochs = 1 if incremental else estimator.max_iter
    convergence = Convergence(estimator, data, learned, kept.trainer, batch_size=batch_size, validation=validation)
    progress = Progress(
        network,
        History({name: [] for name in ("loss", *convergence.names, "learning_rate", "seconds")}),
        epochs=epochs,
        n_batches=-(-len(learned) // batch_size),
        optimizer=estimator._optimizer,
        callbacks=callbacks,
    )
    convergence.progress = progress
    run = Run(kept.trainer, progress, state=state, validation=convergence)
    estimator.n_iter_ = 0
    try:
        orders = islice(_orders(learned, random if estimator.shuffle else None), epochs)
        run.train(whole(kept.rows, data.targets, orders))
        if not (progress.stop or incremental):
            warnings.warn(
                f"Stochastic Optimizer: Maximum iterations ({epochs}) reached and the optimization hasn't converged "
                "yet.",
                ConvergenceWarning,
                stacklevel=2,
            )
    except KeyboardInterrupt:
        warnings.warn("Training interrupted by user.", stacklevel=2)
    except DivergenceError:
        if not estimator.early_stopping:
            raise
        estimator.validation_scores_.append(np.nan)
    if estimator.early_stopping:
        network._few_rows[:] = estimator._best_values


def _callbacks(estimator: Any) -> Sequence[Callback]:
    limit = [] if estimator.max_time is None else [TimeLimit(estimator.max_time)]
    return [*checked_callbacks(estimator.callbacks), *limit]


def _engine(estimator: Any, data: Data, batch_size: int) -> Kept:
    """The rows as the engine reads them, and a trainer for such batches: those of the last call, if they suit."""
    network, kept = estimator.network_, vars(estimator).get("_kept")
    options = batch_size, network.n_threads
    if kept is not None and data.mark is not None and kept.suits(network, data, options):
        return kept
    own = data._replace(X=None, y=None)
    sizes = batch_size, network.parameters.size, len(network.layers)
    n_threads = threads.choose_for_steps(network.n_threads, *sizes)
    trainer = Trainer(engine_layers(network.layers), loss_of(network.loss), batch_size, n_threads)
    return Kept(network, own, options, _rows(network, data, n_threads), trainer)


def _optimizer(estimator: Any, *, incremental: bool) -> Optimizer:
    rate, clips = estimator.learning_rate_init, {name: getattr(estimator, name) for name in ("clip_norm", "clip_value")}
    if callable(rate) and (incremental or (estimator.solver == "sgd" and estimator.learning_rate != "constant")):
        raise ValueError("learning_rate_init must be a number for partial_fit, 'invscaling' and 'adaptive'")
    optimizer: Optimizer
    if estimator.solver == "sgd":
        optimizer = SGD(rate, estimator.momentum, bool(estimator.nesterovs_momentum), **clips)
    else:
        numbers = rate, estimator.beta_1, estimator.beta_2, estimator.epsilon
        if estimator.solver == "adam":
            optimizer = Adam(*numbers, **clips)
        else:
            optimizer = AdamW(*numbers, estimator.weight_decay, **clips)
    optimizer.alpha, optimizer.epsilon_hat = estimator.alpha, True
    return optimizer


def _split(
    estimator: Any, data: Data, held_out: Data | None, random: np.random.RandomState
) -> tuple[NDArray[np.int64], Validation | None]:
    """The rows to learn from and, for early stopping, those by which it is judged: as scikit-learn parts them."""
    everything, network = np.arange(data.X.shape[0]), estimator.network_
    learned = everything
    if held_out is None:
        if not estimator.early_stopping:
            return everything, None
        stratify = None
        if loss_of(network.loss).targets == "probabilities" and network.layer_sizes[-1] == 1:
            stratify = data.targets.given.astype(bool)
        learned, chosen = train_test_split(
            everything, random_state=random, test_size=estimator.validation_fraction, stratify=stratify
        )
        held_out = data.take(chosen)
    if held_out.X.shape[0] < 2:
        raise ValueError("The validation set is too small. Increase 'validation_fraction' or the size of your dataset.")
    if held_out.weights is not None and not held_out.weights.any():
        raise ValueError("sample_weight must have a weight above 0 in the validation set; all are 0")
    return learned, Validation(estimator, held_out)


def _batch_size(batch_size: Any, n: int) -> int:
    if batch_size == "auto":
        return min(200, n)
    if batch_size > n:
        warnings.warn(
            "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped", stacklevel=2
        )
    return min(batch_size, n)


def _orders(learned: NDArray[np.int64], random: np.random.RandomState | None) -> Iterator[NDArray[np.int64]]:
    """The rows in the order of each epoch, as scikit-learn shuffles them."""
    order = learned
    while True:
        if random is not None:
            order = order[random.permutation(len(order))]
        yield order


def _rows(network: MLP, data: Data, n_threads: int) -> Rows:
    labels, values = data.targets
    return Rows(inputs.as_rows(data.X), network.layers[0].units, n_threads, labels, values, data.weights)
