"""A loss that is a Python function."""

from collections.abc import Callable

import numpy as np

from fastmlp.arrays import Array, Float32
from fastmlp.losses.base import Loss

__all__ = ["Custom"]


class Custom(Loss):
    """A loss of your own: a Python function that the engine calls for each batch, or for each part of a large one.

    It is pickled with the network where the function can be. A file has only the name "custom" of it:
    ``fastmlp.load(path, loss=Custom(function))`` reads it.

    Parameters
    ----------
    function : callable
        ``function(logits, targets) -> losses, dlogits``, with float32 logits (n, m), the rows of y that belong to them,
        the loss of each row (n,), and its derivatives by the logits (n, m): not divided by n. y may be anything with a
        row for each row of X: whole numbers come as they are, others as float32.

    Raises
    ------
    TypeError
        It is not callable.

    Examples
    --------
    >>> import numpy as np, fastmlp
    >>> def fourth_power(logits, targets):
    ...     d = logits - targets[:, None]
    ...     return (d**4).sum(axis=1), 4 * d**3
    >>> net = fastmlp.MLP((1, 8, 1), loss=fastmlp.losses.Custom(fourth_power))
    >>> X = np.linspace(-1, 1, 50)
    >>> history = net.fit(X[:, None], X**2, epochs=20, verbose=False)
    >>> history.loss[-1] < history.loss[0]
    True
    """

    name = "custom"
    code = None
    targets = "any"
    scores = ("loss",)

    function: Callable[[Float32, Array], tuple[Array, Array]]

    def __init__(self, function: Callable[[Float32, Array], tuple[Array, Array]]) -> None:
        if not callable(function):
            raise TypeError(f"function must be callable, as function(logits, targets); not {function!r:.80}")
        vars(self)["function"] = function

    def evaluated(self, logits: Float32, targets: Array) -> tuple[Float32, Float32]:
        """Return what the function says of n rows: losses (n,) and dlogits (n, m), finite float32.

        Raises
        ------
        ValueError
            It returns something else. What it raises itself passes through.
        """
        name = getattr(self.function, "__name__", repr(self.function))
        returned = self.function(logits.copy(), targets)
        if not isinstance(returned, (tuple, list)) or len(returned) != 2:
            raise ValueError(f"the custom loss {name} must return losses and dlogits; it returned {returned!r:.80}")
        wanted = {"losses": logits.shape[:1], "dlogits": logits.shape}
        found = []
        for (what, shape), array in zip(wanted.items(), returned, strict=True):
            try:
                with np.errstate(over="ignore"):
                    values = np.require(array, np.float32, "C")
            except (TypeError, ValueError, RuntimeError) as error:
                raise ValueError(f"the custom loss {name} must return arrays of numbers; {what}: {error}") from error
            if values.shape != shape:
                raise ValueError(
                    f"the custom loss {name} must return {what} of shape {shape}; they have {values.shape}"
                )
            if not np.isfinite(values).all():
                raise ValueError(f"the custom loss {name} must return finite {what}; they have NaN or infinity")
            found.append(values)
        return found[0], found[1]
