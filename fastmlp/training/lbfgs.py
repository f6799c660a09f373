"""L-BFGS: SciPy's minimiser over the engine's cost and gradient of all rows at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from fastmlp import threads
from fastmlp.arrays import Float32, Float64
from fastmlp.engine.rows import Rows
from fastmlp.engine.trainer import Trainer
from fastmlp.layers import engine_layers, squared_norm, views
from fastmlp.losses import loss_of
from fastmlp.network import MLP
from fastmlp.optimizers import SGD

__all__ = ["Objective", "minimize"]


class Objective:
    """The cost of all rows and its gradient, as functions of a network's parameters.

    The engine takes the rows in parts where they are many, always the same ones and in the same order: its memory does
    not grow with their number, and the sums have the same bits for any number of threads.

    Parameters
    ----------
    network : MLP
        It has the parameters that were asked for last.
    rows : Rows
    l2 : float
        The cost has l2 / 2 times the sum of the squares of the weights, biases left out.

    Examples
    --------
    >>> import numpy as np, fastmlp
    >>> from fastmlp.engine.rows import Rows
    >>> from fastmlp.training.lbfgs import Objective
    >>> net = fastmlp.MLP((1, 1), loss="squared_error")
    >>> rows = Rows(np.float32([[1], [2]]), 1, n_threads=1, targets=np.float32([[2], [4]]))
    >>> cost, gradient = Objective(net, rows)(np.array([1.0, 0.0]))
    >>> cost, gradient.tolist()
    (1.25, [-2.5, -1.5])
    """

    def __init__(self, network: MLP, rows: Rows, l2: float = 0.0) -> None:
        seconds = threads.phase_seconds(rows.n, network.parameters.size, len(network.layers))
        n_threads = threads.choose(network.n_threads, seconds)
        loss = loss_of(network.loss)
        self.network = network
        self.rows = rows
        self.l2 = l2
        self._trainer = Trainer(engine_layers(network.layers), loss, rows.n, n_threads, cut_at_gradient=True)
        self._trainer.set_optimizer(SGD())  # the step beyond the cut, which nobody asks for
        self._moments = np.zeros_like(network.parameters), np.zeros_like(network.parameters)
        self._order = np.arange(rows.n)
        self._here, self._gradient = np.empty_like(network.parameters), np.empty_like(network.parameters)
        self._weights, self._dweights = (
            views(network.layers, array, "weights") for array in (self._here, self._gradient)
        )

    def __call__(self, parameters: Float64) -> tuple[float, Float64]:
        """Return the cost and its gradient at these parameters, flat (n_parameters,) as `MLP.parameters`."""
        self._here[:] = parameters
        trainer = self._trainer
        trainer.load(self._here, self._moments)
        trainer.start_epoch(self.rows, self._order)
        trainer.run()
        trainer.store_gradient(self._gradient)
        trainer.run()  # to the end of the step, where the cost is whole
        for dweights, weights in zip(self._dweights, self._weights, strict=True):
            dweights[...] += self.l2 * weights
        self.network._few_rows[:] = self._here
        return trainer.cost + self.decay(self._weights), self._gradient.astype(np.float64)

    def decay(self, weights: Iterable[Float32]) -> float:
        """Return what the weights add to the cost."""
        return self.l2 / 2 * squared_norm(weights)


def minimize(
    objective: Objective,
    *,
    max_iter: int,
    max_evaluations: int,
    tolerance: float,
    callback: Callable[[int, float], None] | None = None,
) -> Any:
    """Move the objective's network to a minimum of it, by L-BFGS-B of SciPy (Byrd et al. 1995; Zhu et al. 1997).

    Parameters
    ----------
    objective : Objective
    max_iter, max_evaluations : int
        Iterations, and evaluations of the objective, at most.
    tolerance : float
        It ends where no derivative is larger.
    callback : callable or None
        Called after each iteration with its number and its cost.

    Returns
    -------
    scipy.optimize.OptimizeResult

    Examples
    --------
    >>> import numpy as np, fastmlp
    >>> from fastmlp.engine.rows import Rows
    >>> from fastmlp.training.lbfgs import Objective, minimize
    >>> net = fastmlp.MLP((1, 1), loss="squared_error")
    >>> rows = Rows(np.float32([[1], [2]]), 1, n_threads=1, targets=np.float32([[3], [5]]))
    >>> result = minimize(Objective(net, rows), max_iter=20, max_evaluations=100, tolerance=1e-6)
    >>> result.success, net.parameters.round(3).tolist()
    (True, [2.0, 1.0])
    """
    from scipy.optimize import minimize  # noqa: PLC0415 - an extra, and 200 ms

    done = 0

    def report(intermediate_result: Any) -> None:
        nonlocal done
        done += 1
        if callback is not None:
            callback(done, float(intermediate_result.fun))

    result = minimize(
        objective,
        objective.network.parameters.astype(np.float64),
        method="L-BFGS-B",
        jac=True,
        callback=report,
        options={"maxiter": max_iter, "maxfun": max_evaluations, "gtol": tolerance},
    )
    objective.network._few_rows[:] = result.x.astype(np.float32)
    return result
