"""Networks that answer together: the mean of what they answer alone, for every loss."""

import copy
import pickle

import numpy as np
import pytest

import fastmlp
from fastmlp import MLP, Ensemble
from fastmlp.losses import LOSSES, CrossEntropy, Custom, Quantile, loss_of

K, M, N = 5, 4, 23


def half_square(logits, targets):
    errors = logits - targets
    return (errors**2).sum(axis=1) / 2, errors


def members(loss="cross_entropy", m=M, count=3, **arguments):
    """Return networks of unlike hidden layers whose outputs are far from each other."""
    networks = [MLP((K, 3 + i, m), loss=loss, seed=i, **arguments) for i in range(count)]
    for network in networks:
        network.parameters[:] = np.random.default_rng(network.seed).normal(size=network.parameters.shape)
    return networks


def rows(n=N):
    return np.random.default_rng(3).normal(size=(n, K)).astype(np.float32)


def targets_for(loss, n=N, m=M):
    generator = np.random.default_rng(4)
    kind = loss_of(loss).targets
    if kind == "classes":
        return generator.integers(0, m, n)
    m //= loss_of(loss).outputs_a_target
    return generator.integers(0, 2, (n, m)) if kind == "probabilities" else generator.random((n, m), dtype=np.float32)


LOSS_OBJECTS = [*LOSSES, CrossEntropy(label_smoothing=0.1), Quantile(levels=(0.1, 0.9)), Custom(half_square)]
each_loss = pytest.mark.parametrize("loss", LOSS_OBJECTS, ids=lambda loss: repr(loss).partition(" at ")[0])


@each_loss
def test_the_answer_is_the_mean_of_the_answers(loss, assert_close):
    m = 6
    networks, X = members(loss, m), rows()
    ensemble, output = Ensemble(networks), loss_of(loss).output
    mean = np.mean([output.forward(network.logits(X)) for network in networks], axis=0)
    if output.is_probability:
        assert_close(ensemble.predict_proba(X), mean, "softmax", m)
        decided = mean.argmax(axis=1) if output.name == "softmax" else (mean > 0.5).astype(int)
        np.testing.assert_array_equal(ensemble.predict(X), decided)
    else:
        assert_close(ensemble.predict(X), mean, "softmax", m)
        with pytest.raises(ValueError, match="predict_proba needs networks with probabilities; these have loss="):
            ensemble.predict_proba(X)
    assert ensemble.predict(X).dtype == networks[0].predict(X).dtype


@each_loss
def test_its_loss_is_that_of_the_mean_and_below_the_mean_of_the_losses(loss):
    m = 6
    networks, X, y = members(loss, m), rows(), targets_for(loss, m=6)
    ensemble = Ensemble(networks)
    found, alone = ensemble.evaluate(X, y), [network.evaluate(X, y) for network in networks]
    assert found.keys() == alone[0].keys()
    pooled = loss_of(loss).output.pool([network.logits(X) for network in networks])
    if loss != "focal" and not isinstance(loss, Custom):
        values = loss_of(loss).value(pooled, np.eye(m)[y] if loss_of(loss).targets == "classes" else y)
        assert found["loss"] == pytest.approx(values.mean(), rel=1e-5)
        assert found["loss"] <= np.mean([scores["loss"] for scores in alone])
    if "accuracy" in found:
        right = ensemble.predict(X) == y
        assert found["accuracy"] == pytest.approx((right if right.ndim == 1 else right.all(axis=1)).mean())


def test_one_network_answers_as_alone(assert_close):
    (network,), X, y = members(count=1), rows(), targets_for("cross_entropy")
    ensemble = Ensemble([network])
    assert_close(ensemble.predict_proba(X), network.predict_proba(X), "softmax", M)
    np.testing.assert_array_equal(ensemble.predict(X), network.predict(X))
    assert ensemble.evaluate(X, y) == pytest.approx(network.evaluate(X, y), rel=1e-5)


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy", "focal"])
def test_probabilities_that_round_to_zero_cost_what_they_should(loss):
    """Two networks that are quite sure of what is wrong: no logarithm of 0."""
    networks = members(loss, 2, 2)
    for network, bias in zip(networks, (1000, 2000), strict=True):
        network.parameters[:] = 0
        network.biases[-1][:] = (bias, -bias)
    # Half of exp(-2000) + exp(-4000); of yes and no there are two such answers.
    y, answers = ([[0, 1]], 2) if loss == "binary_cross_entropy" else ([1], 1)
    least = {"binary_cross_entropy": 1000}.get(loss, 2000)
    assert Ensemble(networks).evaluate(rows(1), y)["loss"] == pytest.approx(answers * (least + np.log(2)), 1e-6)


@pytest.mark.parametrize("n", [1, 2, 7, 300])
@pytest.mark.parametrize("n_threads", [1, 2])
def test_any_number_of_rows_and_threads(n, n_threads):
    networks, X = members(), rows(n)
    ensemble = Ensemble(networks)
    expected = ensemble.predict_proba(X)
    ensemble.n_threads = n_threads
    assert [network.n_threads for network in networks] == [n_threads] * 3
    np.testing.assert_array_equal(ensemble.predict_proba(X), expected)
    assert ensemble.predict_proba(X.tolist()).shape == (n, M)


def test_sparse_rows():
    sparse = pytest.importorskip("scipy.sparse", reason="X is one of SciPy's matrices")
    X = rows() * (np.random.default_rng(5).random((N, K)) < 0.3)
    ensemble, y = Ensemble(members()), targets_for("cross_entropy")
    for kind in (sparse.csr_matrix, sparse.csr_array):
        np.testing.assert_allclose(ensemble.predict_proba(kind(X)), ensemble.predict_proba(X), rtol=1e-5)
        np.testing.assert_array_equal(ensemble.predict(kind(X)), ensemble.predict(X))
        assert ensemble.evaluate(kind(X), y) == pytest.approx(ensemble.evaluate(X, y), rel=1e-5)


@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error"])
def test_streams_of_rows(loss):
    ensemble, X, y = Ensemble(members(loss)), rows(), targets_for(loss)
    stream = fastmlp.rows.Stream([(X[:5], y[:5]), (X[5:6], y[5:6]), (X[6:], y[6:])])
    np.testing.assert_allclose(ensemble.predict(stream), ensemble.predict(X), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(ensemble.logits(stream), ensemble.logits(X), rtol=1e-4, atol=1e-6)
    assert ensemble.evaluate(stream) == pytest.approx(ensemble.evaluate(X, y), rel=1e-5)
    with pytest.raises(TypeError, match="only a fastmlp"):
        ensemble.evaluate(X)


def test_one_output():
    X = rows()
    assert Ensemble(members("squared_error", 1)).predict(X).shape == (N,)
    yes = Ensemble(members("binary_cross_entropy", 1))
    assert yes.predict(X).shape == (N,)
    assert yes.predict_proba(X).shape == (N, 1)


def test_threads_that_differ_are_told():
    first, second = members(count=2)
    ensemble = Ensemble([first, second])
    assert ensemble.n_threads is None
    first.n_threads = 2
    assert ensemble.n_threads == (2, None)
    with pytest.raises(ValueError, match="n_threads must be from 1 to 1024"):
        ensemble.n_threads = 0
    assert ensemble.n_threads == (2, None)


def test_fit_trains_each_by_itself():
    X, y = rows(), targets_for("cross_entropy")
    samples = [np.arange(N - 3 * i) for i in range(3)]
    rates, options = [0.001 * (i + 1) for i in range(3)], {"epochs": 3, "batch_size": 4, "verbose": False}
    ensemble = Ensemble(members())
    histories = ensemble.fit(X, y, rows=samples, optimizer=[fastmlp.Adam(rate) for rate in rates], **options)
    for i, network in enumerate(members()):
        history = network.fit(X[samples[i]], y[samples[i]], optimizer=fastmlp.Adam(rates[i]), **options)
        assert histories[i].loss == history.loss
        np.testing.assert_array_equal(ensemble.networks[i].parameters, network.parameters)


def test_the_networks_are_not_copied():
    networks, X = members(), rows()
    ensemble = Ensemble(iter(networks))
    before = ensemble.predict_proba(X)
    assert ensemble.networks == tuple(networks)
    networks[0].parameters[:] = 0
    assert (ensemble.predict_proba(X) != before).any()


@pytest.mark.parametrize(
    "copied", [lambda it: pickle.loads(pickle.dumps(it)), copy.deepcopy], ids=["pickle", "deepcopy"]
)
def test_copies_answer_the_same_and_share_nothing(copied):
    networks, X = members(CrossEntropy(label_smoothing=0.1)), rows()
    ensemble = Ensemble(networks)
    other, expected = copied(ensemble), ensemble.predict_proba(X)
    networks[0].parameters[:] = 0
    np.testing.assert_array_equal(other.predict_proba(X), expected)
    assert repr(other) == repr(ensemble) == f"Ensemble({networks})"


def test_attributes_it_does_not_have_are_refused():
    with pytest.raises(AttributeError):
        Ensemble(members()).network = 3


def test_networks_of_an_early_stop_and_of_averages_may_be_members():
    X, y = rows(64), targets_for("cross_entropy", 64)
    plain, averaged = MLP((K, 8, M)), MLP((K, 8, M), batch_norm=True)
    for network, optimizer in ((plain, fastmlp.SGD()), (averaged, fastmlp.Adam(ema=0.9))):
        network.fit(X, y, epochs=2, optimizer=optimizer, verbose=False)
    assert Ensemble([plain, averaged.averaged()]).evaluate(X, y)["loss"] > 0


@pytest.mark.parametrize(
    ("networks", "error", "message"),
    [
        ([], ValueError, "networks must hold at least one network; there is none"),
        (3, TypeError, "networks must be a list of fastmlp.MLP, not 3"),
        (MLP((2, 2)), TypeError, r"networks must be a list of fastmlp.MLP, not MLP\(\(2, 2\)"),
        ([MLP((2, 2)), "net"], TypeError, "networks must hold instances of fastmlp.MLP, not 'net'"),
        ([MLP((2, 2)), MLP((3, 2))], ValueError, r"networks\[0\] has 2, 2 and .*, networks\[1\] has 3, 2 and"),
        ([MLP((2, 2)), MLP((2, 2)), MLP((2, 3))], ValueError, r"networks\[2\] has 2, 3 and 'cross_entropy'"),
        ([MLP((2, 2)), MLP((2, 2), loss="squared_error")], ValueError, "'squared_error'"),
        ([MLP((2, 2)), MLP((2, 2), loss=CrossEntropy(0.1))], ValueError, "CrossEntropy"),
    ],
)
def test_networks_that_are_no_ensemble(networks, error, message):
    with pytest.raises(error, match=message):
        Ensemble(networks)


@pytest.mark.parametrize(
    ("X", "message"), [(np.zeros((3, 4)), r"X must have shape \(n, 5\)"), (np.full((3, 5), np.nan), "X must be finite")]
)
def test_bad_rows(X, message):
    ensemble = Ensemble(members())
    for ask in (
        ensemble.logits,
        ensemble.predict,
        ensemble.predict_proba,
        lambda X: ensemble.evaluate(X, [0] * len(X)),
    ):
        with pytest.raises(ValueError, match=message):
            ask(X)


def test_bad_targets():
    with pytest.raises(ValueError, match="y must hold labels from 0 to 3"):
        Ensemble(members()).evaluate(rows(2), [0, 4])
