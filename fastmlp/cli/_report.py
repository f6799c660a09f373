"""What ``fastmlp train`` tells of what it has trained: the last lines, and the JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from fastmlp.arrays import Float32
from fastmlp.ensemble import Ensemble
from fastmlp.network import MLP
from fastmlp.recipes import Data
from fastmlp.runs import History


class Report:
    """Figures of the trained network; or of each of several, and last of their ensemble.

    Several are trained at once, in `seconds` by the clock; the time of one is that of its epochs.
    """

    def __init__(self, model: MLP | Ensemble, data: Data, seconds: float) -> None:
        self.networks = model.networks if isinstance(model, Ensemble) else (model,)
        self.models: list[MLP | Ensemble] = [*self.networks, model] if isinstance(model, Ensemble) else [model]
        times = [sum(network.history.seconds) for network in self.networks]
        times += [seconds] if isinstance(model, Ensemble) else []
        self.figures = [{"training_seconds": time} for time in times]
        if data.validation is not None:
            self._judge("validation", *data.validation)

    def test(self, X: Float32, y: NDArray[Any]) -> None:
        """Add what each is worth on the test images."""
        self._judge("test", X, y)

    def _judge(self, kind: str, X: Float32, y: NDArray[Any]) -> None:
        for model, known in zip(self.models, self.figures, strict=True):
            known.update({f"{kind}_{name}": value for name, value in model.evaluate(X, y).items()})

    def lines(self, form: str) -> list[str]:
        """Return a line for each, with its figures in their places; the last one is of all together."""
        *own, whole = (form.format_map(known) for known in self.figures)
        return [*(f"Network: {number} {line}" for number, line in enumerate(own)), whole]

    def as_json(self, config: Mapping[str, Any], total_seconds: float) -> str:
        """Return all of it as JSON: of several networks each has its own figures and epochs."""
        import json  # noqa: PLC0415 - few commands need it

        *own, whole = self.figures
        epochs = [{"epochs": _epochs(network.history)} for network in self.networks]
        seeds = [{"seed": network.seed} for network in self.networks]
        members = [seed | rows | known for seed, rows, known in zip(seeds, epochs, own, strict=False)]
        parts = {"networks": members} if members else epochs[0]
        result = {"config": config, **parts, **whole, "total_seconds": total_seconds}
        return json.dumps(result, indent=2, allow_nan=False) + "\n"


def _epochs(history: History) -> list[dict[str, float]]:
    # the loss also by the name that the tutorial's lines have for it
    columns = {"loss": history.loss, "cost": history.loss, **history}
    rows = zip(*columns.values(), strict=True)
    return [{"epoch": epoch, **dict(zip(columns, row, strict=True))} for epoch, row in enumerate(rows, start=1)]
