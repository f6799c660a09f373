"""Schedules: their rates against PyTorch's, and that the engine takes each step with its own rate."""

import copy
import math
import pickle

import numpy as np
import pytest

from fastmlp import MLP, SGD, Adam, AdamW, schedules, threads
from fastmlp.callbacks import Callback
from fastmlp.schedules import SCHEDULES, Cosine, Exponential, LinearToZero, OneCycle, Schedule, Step, rates, try_rates

X = np.random.default_rng(0).normal(size=(43, 4)).astype(np.float32)
Y = (X.sum(axis=1) > 0).astype(int)
EXAMPLES = [
    Step(0.1, every=7, factor=0.5),
    Step(0.1, warmup=5),
    Exponential(0.1, warmup=0.25),
    Cosine(0.1, end=0.1),
    OneCycle(0.1),
    OneCycle(0.1, rise=0.5, start=0.5, end=0, warmup=3),
    LinearToZero(0.1, warmup=0.5),
]


def all_rates(schedule, n_steps):
    return np.array([schedule(step, n_steps) for step in range(n_steps)])


# ---- Against PyTorch


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="compares with PyTorch")


def theirs(torch, make, n_steps):
    """The rates of one of PyTorch's schedulers, which starts from 0.1."""
    optimizer = torch.optim.SGD([torch.zeros(1)], 0.1)
    scheduler = make(torch.optim.lr_scheduler, optimizer)
    found = []
    for _ in range(n_steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


PAIRS = {
    "step": (Step(0.1, 7, 0.5), lambda lr, o, n: lr.StepLR(o, 7, 0.5)),
    "exponential": (Exponential(0.1, 0.02), lambda lr, o, n: lr.ExponentialLR(o, 0.02 ** (1 / n))),
    "cosine": (Cosine(0.1, 0.05), lambda lr, o, n: lr.CosineAnnealingLR(o, n, 0.005)),
    "one_cycle": (OneCycle(0.1), lambda lr, o, n: lr.OneCycleLR(o, 0.1, total_steps=n + 1)),
    "linear": (LinearToZero(0.1), lambda lr, o, n: lr.LinearLR(o, 1, 0, n)),
}


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("n_steps", [10, 100, 101])
def test_rates_are_those_of_pytorch(torch, name, n_steps):
    ours, make = PAIRS[name]
    if name == "one_cycle":  # PyTorch refuses a step after the last one, which the helper takes
        expected = theirs(torch, lambda lr, o: make(lr, o, n_steps - 1), n_steps - 1)
        expected.append(ours.learning_rate * ours.end)
    else:
        expected = theirs(torch, lambda lr, o: make(lr, o, n_steps), n_steps)
    np.testing.assert_allclose(all_rates(ours, n_steps), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("warmup", [1, 9, 0.2])
def test_a_warmup_is_that_of_pytorch(torch, warmup):
    n, w = 50, 10 if warmup == 0.2 else warmup

    def make(lr, optimizer):
        rise = lr.LinearLR(optimizer, 1 / (w + 1), 1, w)
        return lr.SequentialLR(optimizer, [rise, lr.CosineAnnealingLR(optimizer, n - w)], [w])

    expected = theirs(torch, make, n)
    np.testing.assert_allclose(all_rates(Cosine(0.1, warmup=warmup), n), expected, rtol=1e-9)


# ---- What a schedule is


@pytest.mark.parametrize("schedule", EXAMPLES, ids=repr)
@pytest.mark.parametrize("n_steps", [1, 2, 3, 4, 5, 33, 1000])
def test_rates_are_sound_whatever_the_number_of_steps(schedule, n_steps):
    found = all_rates(schedule, n_steps)
    assert ((found >= 0) & (found <= 0.1 + 1e-12)).all()
    assert found[:-1].all()
    np.testing.assert_array_equal(found, schedule.rates(np.arange(n_steps), n_steps))
    np.testing.assert_array_equal(found[n_steps // 2 :], rates(schedule, range(n_steps // 2, n_steps), n_steps))
    assert type(schedule(0, n_steps)) is float


@pytest.mark.parametrize("schedule", EXAMPLES, ids=repr)
def test_repr_equality_and_pickle(schedule):
    assert eval(repr(schedule), vars(schedules)) == schedule
    for twin in (copy.copy(schedule), copy.deepcopy(schedule), pickle.loads(pickle.dumps(schedule))):
        assert twin == schedule
        assert hash(twin) == hash(schedule)
    assert sum(other == schedule for other in EXAMPLES) == 1
    assert schedule != 0.1
    assert pickle.loads(pickle.dumps(Adam(schedule))).learning_rate == schedule


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Cosine(0), "learning_rate must be finite and greater than 0, not 0.0"),
        (lambda: Cosine(math.nan), "learning_rate must be finite and greater than 0, not nan"),
        (lambda: Cosine("0.1"), "learning_rate must be a number, not '0.1'"),
        (lambda: Cosine(Cosine(0.1)), "learning_rate must be a number, not Cosine"),
        (lambda: Cosine(0.1, end=1.5), r"end must be finite and in \[0, 1\], not 1.5"),
        (lambda: Cosine(0.1, warmup=-1), "warmup must be at least 0, not -1"),
        (lambda: Cosine(0.1, warmup=1.0), r"warmup must be finite and in \[0, 1\) where it is a share of the steps"),
        (lambda: Cosine(0.1, warmup=True), "warmup must be a whole number, not True"),
        (lambda: Step(0.1, every=0), "every must be at least 1, not 0"),
        (lambda: Step(0.1, every=1.0), r"every must be finite and in \(0, 1\) where it is a share of the steps"),
        (lambda: Step(0.1, factor=0), r"factor must be finite and in \(0, 1\], not 0.0"),
        (lambda: Exponential(0.1, end=0), r"end must be finite and in \(0, 1\], not 0.0"),
        (lambda: OneCycle(0.1, rise=1), r"rise must be finite and in \(0, 1\), not 1.0"),
        (lambda: OneCycle(0.1, start=0), r"start must be finite and in \(0, 1\], not 0.0"),
        (lambda: Adam(Cosine), r"learning_rate must be a number, not the class Cosine; Cosine\(0.001\) is a schedule"),
        (lambda: Adam("cosine"), r"not 'cosine'; or a schedule, a function of \(step, n_steps\)"),
    ],
)
def test_what_is_wrong_is_refused(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()


# ---- In training


def fit(net, optimizer, **options):
    return net.fit(X, Y, **{"epochs": 3, "batch_size": 10, "optimizer": optimizer, "verbose": False, **options})


def state(net):
    return pickle.dumps([net.parameters, net._state])


@pytest.mark.parametrize("kind", [SGD, Adam, AdamW])
@pytest.mark.parametrize("rate", [Cosine(0.1), OneCycle(0.05, warmup=3), lambda step, n: 0.1 / (1 + step + n)])
@pytest.mark.parametrize("n_threads", [1, 2])
def test_each_step_has_its_own_rate(monkeypatch, kind, rate, n_threads):
    monkeypatch.setattr(threads, "_WORTH_A_THREAD", 1e-15)
    nets = [MLP((4, 70, 2), n_threads=n_threads) for _ in range(2)]
    history = fit(nets[0], kind(rate), shuffle=False)
    for step in range(15):
        rows = np.arange(43)[step % 5 * 10 :][:10]
        options = {"optimizer": kind(rate(step, 15)), "shuffle": False, "verbose": False}
        nets[1].fit(X[rows], Y[rows], epochs=1, batch_size=10, **options)
    np.testing.assert_array_equal(nets[0].parameters, nets[1].parameters)
    assert nets[0]._state.moments[0].tobytes() == nets[1]._state.moments[0].tobytes()
    assert history.learning_rate == [rate(4, 15), rate(9, 15), rate(14, 15)]


def test_a_schedule_of_one_rate_is_that_rate():
    nets = [MLP((4, 6, 2)) for _ in range(2)]
    for net, rate in zip(nets, [0.1, lambda step, n_steps: 0.1], strict=True):
        fit(net, AdamW(rate))
    assert state(nets[0]) == state(nets[1])


def test_a_rate_of_zero_changes_nothing():
    net = MLP((4, 6, 2))
    before = net.parameters.copy()
    fit(net, AdamW(lambda step, n_steps: 0))
    np.testing.assert_array_equal(net.parameters, before)


def test_a_function_is_asked_of_each_step_of_the_call():
    asked = []

    def rate(step, n_steps):
        asked.append((step, n_steps))
        return 0.1

    fit(MLP((4, 2)), SGD(rate))
    assert asked[-15:] == [(step, 15) for step in range(15)]
    assert {type(value) for pair in asked for value in pair} == {int}


@pytest.mark.parametrize("occasion", ["on_fit_begin", "on_batches", "on_epoch_end"])
@pytest.mark.parametrize("new", [0.5, lambda step, n: 0.5], ids=["number", "function"])
def test_a_rate_that_a_callback_sets_takes_the_schedules_place(occasion, new):
    """From the next batch on, to the end."""

    def write(progress):
        if not changed and (occasion != "on_batches" or progress.batch < progress.n_batches):
            changed.append(5 * len(progress.history.loss) + progress.batch * (occasion == "on_batches"))
            progress.optimizer.learning_rate = new

    changed, callback = [], Callback()
    setattr(callback, occasion, write)
    nets = [MLP((4, 6, 2)) for _ in range(2)]
    history = fit(nets[0], SGD(Cosine(0.1)), callbacks=[callback])
    (step_changed,) = changed
    fit(nets[1], SGD(lambda step, n: Cosine(0.1)(step, n) if step < step_changed else 0.5))
    np.testing.assert_array_equal(nets[0].parameters, nets[1].parameters)
    assert history.learning_rate[-1] == 0.5


def test_a_schedule_counts_the_steps_of_its_own_call():
    net = MLP((4, 6, 2))
    for _ in range(2):
        assert fit(net, SGD(LinearToZero(0.1))).learning_rate[-1] == pytest.approx(0.1 / 15)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (math.nan, "finite numbers from 0 on; of step 12 of 15 it returned nan"),
        (math.inf, "finite numbers from 0 on; of step 12 of 15 it returned inf"),
        (-0.5, "finite numbers from 0 on; of step 12 of 15 it returned -0.5"),
        (None, "numbers; it returned None"),
        ("0.1", "numbers; it returned '0.1'"),
        (True, "numbers; it returned True"),
        ([0.1], r"numbers; it returned \[0.1\]"),
    ],
)
def test_a_wrong_rate_is_found_before_training(wrong, message):
    net = MLP((4, 6, 2))
    with pytest.raises(ValueError, match=f"learning_rate must be a function that returns {message}"):
        fit(net, Adam(lambda step, n: wrong if step == 12 else 0.1))
    assert state(net) == state(MLP((4, 6, 2)))
    assert net.history == {}


def test_a_wrong_rate_of_ones_own_schedule():
    class Odd(Schedule):
        def _shares(self, steps, n_steps):
            return np.where(steps == 3, np.nan, 1.0)

    with pytest.raises(ValueError, match="of step 3 of 15 it returned nan"):
        fit(MLP((4, 6, 2)), Adam(Odd(0.1)))


def test_a_rate_that_is_wrong_later_leaves_the_last_epoch():
    class Spoil(Callback):
        def on_epoch_end(self, progress):
            values[0] = -1.0

    values, net, other = [0.1], MLP((4, 6, 2)), MLP((4, 6, 2))
    with pytest.raises(ValueError, match="of step 5 of 15 it returned -1"):
        fit(net, SGD(lambda step, n: values[0]), callbacks=[Spoil()])
    fit(other, SGD(0.1), epochs=1)
    assert state(net) == state(other)
    assert net.history.loss == other.history.loss


def test_long_trainings_are_tried_here_and_there():
    asked = []
    try_rates(lambda step, n: asked.append(step) or 0.1, 10**9)
    assert len(asked) < 20_000
    assert asked[0] == 0
    assert asked[-1] == 10**9 - 1
