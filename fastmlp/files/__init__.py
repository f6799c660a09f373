"""Networks in files: `save` and `load`."""

from fastmlp.files.loading import load
from fastmlp.files.network import save

__all__ = ["load", "save"]
