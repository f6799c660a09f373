"""What the figures were measured on, and how fast that is at its best.

``python -m bench.machine THREADS`` prints the peak measured in its own process.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.worker import confine, surroundings

__all__ = ["describe", "peak", "processors"]

# Names on the package index, of what the figures depend on.
DISTRIBUTIONS = ("numpy", "torch", "jax", "jaxlib", "optax", "keras", "tensorflow-cpu", "tensorflow", "scikit-learn")


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe() -> dict[str, Any]:
    """Return processor, instruction set, system, and the versions of what is compared."""
    import fastmlp  # noqa: PLC0415 - the parent of a race needs it only here

    versions = {"python": platform.python_version(), "fastmlp": fastmlp.__version__}
    for name in DISTRIBUTIONS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "date": datetime.date.today().isoformat(),
        "processor": _processor(),
        "processors": processors(),
        "instruction_set": fastmlp.kernels.isa(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "versions": versions,
    }


def peak(threads: int) -> dict[str, Any]:
    """Measure float32 multiply-adds with so many threads: {"gflops": ..., "by": the product that reached it}."""
    command = [sys.executable, "-m", "bench.machine", str(threads)]
    done = subprocess.run(command, **surroundings(threads), check=True, stdout=subprocess.PIPE)
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def _measure(threads: int) -> dict[str, Any]:
    """Take the fastest of NumPy's matrix product and fastmlp's, at sizes from the L1 cache to beyond the L2.

    Neither is the peak by definition, but the product of a good library is within a tenth of it.
    """
    confine(threads)
    import numpy as np  # noqa: PLC0415 - after `confine`: its library counts the processors on import

    from fastmlp import kernels  # noqa: PLC0415

    best = (0.0, "")
    for n, k, m in ((96, 144, 64), (100, 784, 256), (384, 384, 384), (1024, 1024, 1024)):
        x, weights = np.ones((n, k), np.float32), np.ones((k, m), np.float32)
        bias, out = np.zeros(m, np.float32), np.empty((n, m), np.float32)
        products: dict[str, Callable[[], Any]] = {
            "numpy": lambda x=x, w=weights, out=out: np.matmul(x, w, out=out),  # type: ignore[misc]
            "fastmlp": lambda x=x, w=weights, b=bias, out=out: kernels.matmul_bias(  # type: ignore[misc]
                x, w, b, out=out, n_threads=threads
            ),
        }
        for name, product in products.items():
            gflops = 2e-9 * n * k * m / _fastest(product)
            best = max(best, (gflops, f"{name} {n}x{k}x{m}"))
    return {"gflops": best[0], "by": best[1]}


def _fastest(call: Callable[[], Any]) -> float:
    seconds: list[float] = []
    until = time.perf_counter() + 0.15
    while len(seconds) < 5 or time.perf_counter() < until:
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def main(arguments: Sequence[str]) -> None:
    """Print the peak as JSON."""
    print(json.dumps(_measure(int(arguments[0]))))


if __name__ == "__main__":
    main(sys.argv[1:])
