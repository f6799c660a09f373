"""Data for the tests of training, and what it changes."""

import numpy as np
import pytest


def _blobs(n, k=2, m=3, seed=0):
    """Points around m centres, and which centre."""
    generator = np.random.default_rng(seed)
    y = generator.integers(0, m, n)
    centres = 4 * generator.normal(size=(m, k))
    return (centres[y] + generator.normal(size=(n, k))).astype(np.float32), y


def _digits(n, k=100, m=10, density=0.2, seed=0):
    """Rows that are mostly zero, and what a random network says of them; but every label is there."""
    generator = np.random.default_rng(seed)
    X = (generator.random((n, k)) * (generator.random((n, k)) < density)).astype(np.float32)
    y = (X @ generator.normal(size=(k, m))).argmax(axis=1)
    y[:m] = np.arange(m)
    return X, y


def _state(net):
    """Everything that training changes, to the bit."""
    return _bits([net.parameters, net._state])


def _bits(value):
    """A value with bytes for arrays: pickles differ for arrays that come from another process."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    return tuple(map(_bits, value)) if isinstance(value, (tuple, list)) else value


def _without_seconds(history):
    return {name: values for name, values in history.items() if name != "seconds"}


@pytest.fixture(scope="session")
def blobs():
    """Return blobs(n, k, m, seed)."""
    return _blobs


@pytest.fixture(scope="session")
def digits():
    """Return digits(n, k, m, density, seed)."""
    return _digits


@pytest.fixture(scope="session")
def state():
    """Return state(net)."""
    return _state


@pytest.fixture(scope="session")
def without_seconds():
    """Return without_seconds(history): what must be the same in two runs of a job."""
    return _without_seconds
