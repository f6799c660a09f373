from collections.abc import Sequence
from typing import TypeAlias

KINDS: tuple[str, ...]
Task: TypeAlias = tuple[int, int, int, int, int]
Phase: TypeAlias = tuple[int, list[Task]]

def chained_step(rows: int, chains: int, slabs: int) -> list[Phase]: ...
def layered_step(
    layers: Sequence[tuple[int, int, int, int, bool, int, int]],
    rows: int,
    capacity: int,
    n_threads: int,
    slabs: int,
    *,
    whole: bool = False,
    norm: bool = False,
    cut_at_loss: bool = False,
    cut_at_gradient: bool = False,
) -> list[Phase]: ...
