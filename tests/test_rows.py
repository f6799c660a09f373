"""Rows and targets that are taken; what is refused is in test_checks.py, sparse rows are in test_sparse.py."""

import numpy as np
import pytest

from fastmlp import MLP
from fastmlp.rows import checked_rows


def test_values_at_the_limits_are_allowed():
    largest = np.finfo(np.float32).max
    assert checked_rows("X", [[float(largest), -float(largest)]], 2).tolist() == [[largest, -largest]]
    between = np.array([[float.fromhex("0x1.ffffffp127"), 0]])  # and what would be the next float: it rounds to that
    assert checked_rows("X", np.nextafter(between, 0), 2)[0, 0] > largest
    for X in (between, between.T.copy().T, -between):
        with pytest.raises(ValueError, match=r"X\[0, 0\] is"):
            checked_rows("X", X, 2)
    for X in (np.float16([[6e4, -6e4]]), np.array([[2**64 - 1, 0]], np.uint64)):
        assert checked_rows("X", X, 2) is X
    for y in ([[1e-4, 1 - 2e-4]], [[0.3334, 0.6667]]):
        net = MLP((1, 2))
        assert np.isfinite(net.evaluate([[1]], y)["loss"])


@pytest.mark.parametrize("zeros", [0.0, 0.7])
def test_rows_of_any_type_and_layout_are_read_alike(zeros):
    rng = np.random.default_rng(0)
    X = np.float32(rng.random((1500, 80)) * (rng.random((1500, 80)) >= zeros))
    assert checked_rows("X", X, 80) is X
    unaligned = np.frombuffer(b"." + X.tobytes(), np.float32, offset=1).reshape(X.shape)
    assert not unaligned.flags.aligned
    twice = np.repeat(X, 2, axis=0)[::2]
    y = np.arange(len(X)) % 3
    found = set()
    for other in (X, X.astype(np.float64), np.asfortranarray(X), X.astype(">f4"), unaligned, twice):
        net = MLP((80, 64, 3))
        net.fit(other, y, epochs=1, verbose=False)
        found.add((net.parameters.tobytes(), net.logits(other).tobytes()))
    assert len(found) == 1
