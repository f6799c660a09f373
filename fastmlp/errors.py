"""The exceptions that fastmlp raises beyond ``ValueError`` and ``TypeError``."""

__all__ = ["DivergenceError", "FileFormatError"]


class DivergenceError(ArithmeticError):
    """Training produced a cost or a weight that is NaN or infinite.

    The network keeps the weights and the optimizer state of the last finite epoch.
    """


class FileFormatError(ValueError):
    """A file is not what its name or its header says; the message names the byte or the key."""
