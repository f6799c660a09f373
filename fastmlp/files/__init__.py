"""Networks in files: `save` and `load`."""

from fastmlp.files.network import load, save

__all__ = ["load", "save"]
