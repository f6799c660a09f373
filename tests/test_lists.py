"""Rows as lists of their values that are not zero: of arrays that come in turn the same as of all at once."""

import numpy as np
import pytest

from fastmlp.engine.lists import Lists, lists_like


def sparse_array(n, k, density, seed=0):
    generator = np.random.default_rng(seed)
    return generator.random((n, k), np.float32) * (generator.random((n, k)) < density)


@pytest.mark.parametrize("k", [1, 15, 16, 64, 65, 100, 784])
@pytest.mark.parametrize("sizes", [[300], [1, 299], [64, 65, 171], [100, 0, 200]])
@pytest.mark.parametrize("density", [0.0, 0.01, 0.3, 1.0])
@pytest.mark.parametrize("count", [0, 10**6])
def test_what_is_added_is_there(k, sizes, density, count):
    X = sparse_array(300, k, density)
    X.flags.writeable = False
    lists, first = Lists(300, k, count), 0
    for size in sizes:
        lists.add(X[first : first + size])
        first += size
    assert (lists.n, lists.k, lists.n_entries) == (300, k, np.count_nonzero(X))
    np.testing.assert_array_equal(lists.dense(), X)


def test_rows_that_do_not_belong():
    lists = Lists(10, 20, 5)
    lists.add(np.ones((4, 20), np.float32))
    for rows in (np.ones((7, 20), np.float32), np.ones((1, 19), np.float32)):
        with pytest.raises(ValueError, match="X must have at most 6 rows of 20 values"):
            lists.add(rows)
    np.testing.assert_array_equal(lists.dense(), np.ones((4, 20), np.float32))


def test_lists_where_they_pay():
    sparse, dense = sparse_array(50, 100, 0.1), sparse_array(50, 100, 0.9)
    assert lists_like(sparse, 500, units=64).n == 0
    assert lists_like(dense, 500, units=64) is None
    assert lists_like(sparse, 500, units=10) is None
    assert lists_like(sparse[:0], 500, units=64) is None
