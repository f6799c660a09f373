"""Callbacks: what is told how training goes, while it goes, and may change how it goes on."""

from fastmlp.callbacks.bar import ProgressBar
from fastmlp.callbacks.checkpoint import Checkpoint
from fastmlp.callbacks.logs import CSVLog, TensorBoard
from fastmlp.callbacks.monitors import EarlyStopping, ReduceOnPlateau
from fastmlp.callbacks.protocol import Callback, Progress
from fastmlp.callbacks.time_limit import TimeLimit

__all__ = [
    "CSVLog",
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "Progress",
    "ProgressBar",
    "ReduceOnPlateau",
    "TensorBoard",
    "TimeLimit",
]

# Those that write nothing to a network in training, and need none of its parameters within an epoch.
ONLY_WATCHING = (CSVLog, Checkpoint, EarlyStopping, ProgressBar, ReduceOnPlateau, TensorBoard, TimeLimit)
