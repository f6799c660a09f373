"""The solvers: around the engine, what scikit-learn does between its own batches and epochs."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils.optimize import _check_optimize_result

from fastmlp import threads
from fastmlp.arrays import Array, Float32
from fastmlp.callbacks import Progress
from fastmlp.engine.rows import Rows
from fastmlp.engine.trainer import Trainer
from fastmlp.errors import DivergenceError
from fastmlp.layers import engine_layers
from fastmlp.losses import loss_of
from fastmlp.network import MLP
from fastmlp.optimizers import SGD, Adam, AdamW, Optimizer
from fastmlp.rows import Targets
from fastmlp.runs import History
from fastmlp.sklearn.convergence import Convergence, Validation
from fastmlp.sparse import SparseRows, is_sparse
from fastmlp.training.lbfgs import Objective, minimize
from fastmlp.training.loop import Run, whole
from fastmlp.training.state import first_state

__all__ = ["Data", "as_rows", "begin", "train"]


class Data(NamedTuple):
    """What a fit learns from.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp.rows import Targets
    >>> from fastmlp.sklearn.solvers import Data
    >>> Data(np.zeros((2, 3)), Targets(np.array([0, 1]), None), None).total
    2.0
    """

    X: Any
    targets: Targets
    weights: Float32 | None

    @property
    def total(self) -> float:
        """Weight of all rows."""
        return float(self.X.shape[0] if self.weights is None else self.weights.sum(dtype=np.float64))

    def take(self, chosen: NDArray[np.int64]) -> Data:
        """Return some rows."""

        def some(array: Any) -> Any:
            return None if array is None else array[chosen]

        labels, values = self.targets
        return Data(self.X[chosen], Targets(some(labels), some(values)), some(self.weights))


def as_rows(X: Any) -> Array | SparseRows:
    """Return X, checked by scikit-learn, as the engine reads it.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp.sklearn.solvers import as_rows
    >>> as_rows(np.zeros((2, 3))).shape
    (2, 3)
    """
    return SparseRows(X) if is_sparse(X) else X


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
    estimator._best_parameters = estimator.network_.parameters.copy()
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


def _minimize(estimator: Any, data: Data) -> None:
    network = estimator.network_
    scale = estimator._loss_scale()
    objective = Objective(network, _rows(network, data), estimator.alpha / data.total)

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
    decay = objective.decay(network.parameters)
    estimator.loss_ = scale * (result.fun - decay) + decay


def _descend(
    estimator: Any, data: Data, held_out: Data | None, random: np.random.RandomState, *, incremental: bool
) -> None:
    network = estimator.network_
    kept = incremental or (estimator.warm_start and estimator.keep_optimizer)
    if not kept or not hasattr(estimator, "_optimizer"):
        estimator._optimizer = _optimizer(estimator, incremental=incremental)
        network._state = None
    learned, validation = _split(estimator, data, held_out, random)
    n = len(learned)
    batch_size = _batch_size(estimator.batch_size, n)
    trainer = _trainer(network, batch_size)
    state = first_state(network, estimator._optimizer)
    trainer.load(network.parameters, state.moments, state.step)
    n_batches = -(-n // batch_size)
    total = n if data.weights is None else float(data.weights[learned].sum(dtype=np.float64))
    decay = estimator.alpha / 2 * n_batches / total
    convergence = Convergence(
        estimator, trainer, n, batch_size=batch_size, decay=decay, scale=estimator._loss_scale(), validation=validation
    )
    epochs = 1 if incremental else estimator.max_iter
    history = History(loss=[], learning_rate=[], seconds=[])
    progress = Progress(
        network,
        history,
        epochs=epochs,
        n_batches=n_batches,
        optimizer=estimator._optimizer,
        callbacks=[*estimator.callbacks, convergence],
    )
    run = Run(trainer, progress, state=state, validation=None)
    estimator.n_iter_ = 0
    try:
        orders = islice(_orders(learned, random if estimator.shuffle else None), epochs)
        run.train(whole(_rows(network, data), data.targets, orders))
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
        network._few_rows[:] = estimator._best_parameters


def _optimizer(estimator: Any, *, incremental: bool) -> Optimizer:
    rate, clip_norm = estimator.learning_rate_init, estimator.clip_norm
    if callable(rate) and (incremental or (estimator.solver == "sgd" and estimator.learning_rate != "constant")):
        raise ValueError("learning_rate_init must be a number for partial_fit, 'invscaling' and 'adaptive'")
    optimizer: Optimizer
    if estimator.solver == "sgd":
        optimizer = SGD(rate, estimator.momentum, bool(estimator.nesterovs_momentum), clip_norm=clip_norm)
    else:
        numbers = rate, estimator.beta_1, estimator.beta_2, estimator.epsilon
        if estimator.solver == "adam":
            optimizer = Adam(*numbers, clip_norm=clip_norm)
        else:
            optimizer = AdamW(*numbers, estimator.weight_decay, clip_norm=clip_norm)
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
    X, targets, weights = held_out
    if X.shape[0] < 2:
        raise ValueError("The validation set is too small. Increase 'validation_fraction' or the size of your dataset.")
    if weights is not None and not weights.any():
        raise ValueError("sample_weight must have a weight above 0 in the validation set; all are 0")
    return learned, Validation(as_rows(X), targets, weights)


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


def _trainer(network: MLP, batch_size: int) -> Trainer:
    seconds = threads.phase_seconds(batch_size, network.parameters.size, len(network.layers))
    n_threads = threads.choose(network.n_threads, seconds)
    return Trainer(engine_layers(network.layers), loss_of(network.loss), batch_size, n_threads)


def _rows(network: MLP, data: Data) -> Rows:
    n_threads = threads.choose(network.n_threads, data.X.shape[0] * network.parameters.size / threads.RATE)
    labels, values = data.targets
    return Rows(as_rows(data.X), network.layers[0].units, n_threads, labels, values, data.weights)
