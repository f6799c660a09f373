"""What this installation is made of."""

from fastmlp import threads
from fastmlp.engine import table

__all__ = ["show_config"]

__version__ = "0.1.0"


def show_config() -> None:
    """Print version, instruction sets, OpenMP and threads.

    Examples
    --------
    >>> import fastmlp
    >>> fastmlp.show_config()  # doctest: +ELLIPSIS
    fastmlp ...
    instruction set: ...
    """
    runs = ", ".join(name if runs else f"{name} (not on this processor)" for name, runs in table.isas().items())
    print(f"fastmlp {__version__}")
    print(f"instruction set: {table.isa()}; compiled in: {runs}")
    print(f"OpenMP: {'yes' if table.OPENMP else 'no'}")
    print(f"threads: {threads.available()}")
