"""What the tests share: the one table of tolerances, memory with an end, and a fresh interpreter."""

import ctypes
import mmap
import os
import signal
import subprocess
import sys
from pathlib import Path

import hypothesis
import numpy as np
import pytest

import fastmlp

# In CI each run draws the same examples, so that a red one can be repeated: CI=1 pytest.
hypothesis.settings.register_profile("ci", derandomize=True, print_blob=True, deadline=None)
if os.environ.get("CI"):
    hypothesis.settings.load_profile("ci")

# Some tests press Ctrl-C, which a shell's background jobs, and what they start, are told to ignore.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Largest error, for float32 against float64, in units of: float32's epsilon x the square root of the summed length x
# the largest magnitude of the expected array, or of its terms where these may cancel. The rounding errors of a sum add
# up like a random walk, hence the root. What is only moved or compared is exact.
TOLERANCES = {
    "identity": 0,
    "relu": 0,
    "relu_backward": 0,
    "leaky_relu": 1,
    "elu": 1,
    "selu": 1,
    "gelu": 1,
    "gelu_tanh": 1,
    "silu": 1,
    "mish": 1,
    "softplus": 1,
    "tanh": 1,
    "logistic": 1,
    "matmul_bias": 3,
    "softmax": 2,
    "softmax_cross_entropy": 2,
    "losses": 2,
    "adam": 2,
    "distort": 2,
    # of the engine: several products, one after the other
    "logits": 2,
    "cost": 2,
    "gradient": 3,
    "steps": 6,
    # the same through batch normalisation, which divides by deviations: errors grow with each layer
    "normalised": 20,
}


NO_ACCESS = 0  # POSIX's PROT_NONE


def _assert_close(actual, expected, kernel, summed=1, terms=0.0):
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape
    assert np.isfinite(expected).all(), "these expected values are no measure"
    magnitude = np.abs(expected).max(initial=terms)
    tolerance = TOLERANCES[kernel] * np.finfo(np.float32).eps * np.sqrt(summed) * magnitude
    right = np.abs(actual - expected) <= tolerance  # in this order a NaN is wrong
    if not right.all():
        first = tuple(np.argwhere(~right)[0].tolist())
        raise AssertionError(
            f"{kernel}: {np.sum(~right)} entries of {actual.shape} are off by more than {tolerance:.3g}, "
            f"at worst by {np.abs(actual - expected).max():.3g}; {first} is {actual[first]}, not {expected[first]}"
        )


@pytest.fixture(scope="session", autouse=True)
def _new_interpreters_find_this_package(tmp_path_factory):
    """Programs that tests start have the fastmlp under test, and not the sources in the folder that pytest began in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("elsewhere"))
        patch.setenv("PYTHONPATH", str(Path(fastmlp.__file__).parents[1]), prepend=os.pathsep)
        yield


# The helpers are fixtures because test modules cannot import each other; of the whole session, for hypothesis.


@pytest.fixture(scope="session")
def assert_close():
    """Return assert_close(actual, expected, kernel, summed, terms), which fails unless float32 `actual` is `expected`.

    As closely as the kernel's entry in the table asks. `summed` is the length of the longest sum behind an entry;
    `terms` is the magnitude of what is summed, where the sum may be smaller.
    """
    return _assert_close


@pytest.fixture(scope="session")
def at_the_end():
    """Return at_the_end(array): its copy that ends where memory without access begins, so that to read on is fatal."""

    def copy_to_the_end(array):
        n_bytes = -(-array.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
        memory = mmap.mmap(-1, n_bytes + mmap.PAGESIZE)
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory)) + n_bytes
        assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(address), ctypes.c_size_t(mmap.PAGESIZE), NO_ACCESS) == 0
        copy = np.frombuffer(memory, array.dtype, array.size, n_bytes - array.nbytes).reshape(array.shape)
        copy[...] = array
        return copy

    return copy_to_the_end


@pytest.fixture(scope="session")
def run_python():
    """Return run_python(program or arguments, env, timeout), which runs a new interpreter with this fastmlp.

    Variables of `env` that are None are taken out of its environment.
    """

    def run(program, *, env=(), timeout=100):
        arguments = ["-W", "error", "-c", program] if isinstance(program, str) else program
        environment = {**os.environ, **dict(env)}
        return subprocess.run(
            [sys.executable, *arguments],
            env={name: value for name, value in environment.items() if value is not None},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run
