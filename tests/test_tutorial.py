"""The tutorial's job on MNIST: 784-256-256-10, ReLU, Adam at 0.001, batches of 100, 15 epochs; several seeds."""

import numpy as np
import pytest

import fastmlp

pytestmark = pytest.mark.slow

# The tutorial's own run, with weights and biases from N(0, 1): the cost of each epoch.
PUBLISHED = [175.70, 39.18, 24.84, 17.43, 12.69, 9.46, 7.14, 5.25, 3.82, 2.86, 2.13, 1.63, 1.21, 1.02, 0.83]
# What five seeds of another implementation gave, least and most.
FIRST_COST, LAST_COST, ACCURACY = (146, 192), (0.67, 1.00), (0.942, 0.948)


@pytest.fixture(scope="module")
def train():
    X, y = fastmlp.load_mnist("train")
    Xt, yt = fastmlp.load_mnist("test")

    def run(init, n_seeds):
        """Costs (n_seeds, 15) and test accuracies (n_seeds,)."""
        costs, accuracies = [], []
        for seed in range(n_seeds):
            net = fastmlp.MLP((784, 256, 256, 10), init=init, seed=seed)
            history = net.fit(X, y, epochs=15, batch_size=100, optimizer=fastmlp.Adam(1e-3), verbose=False)
            costs.append(history.loss)
            accuracies.append(net.evaluate(Xt, yt)["accuracy"])
        return np.array(costs), np.array(accuracies)

    return run


def assert_agree(values, spread):
    """Five values and another five, of which the least and the most are known, come from one distribution.

    The mean of five lies within the spread of five others; and each of them within that spread and half of it more on
    both sides. As five normal values are expected to spread over 2.33 standard deviations, that is 2.33 from the
    middle; within the bare spread every third new value would fall outside.
    """
    least, most = spread
    assert least <= values.mean() <= most
    margin = (most - least) / 2
    assert values.min() >= least - margin
    assert values.max() <= most + margin


def test_training_follows_the_tutorial(train):
    costs, accuracies = train("normal", n_seeds=5)
    assert_agree(costs[:, 0], FIRST_COST)
    assert_agree(costs[:, -1], LAST_COST)
    assert_agree(accuracies, ACCURACY)
    # From seed to seed a cost varies by 6 to 12 % (standard deviation), by 17 % in the last epoch. The published curve
    # is one run: its difference from a mean of five has 1.1 times that. Ours was 8 % off at most.
    np.testing.assert_allclose(costs.mean(axis=0), PUBLISHED, rtol=0.2)


def test_the_usual_initial_weights_do_better(train):
    costs, accuracies = train("he", n_seeds=2)
    assert accuracies.mean() >= 0.975
    assert accuracies.min() >= 0.97  # of twelve seeds 0.9738 was the least, and 0.979 the mean
    assert (costs[:, -1] < 0.1 * costs[:, 0]).all()
