"""The engine, driven as `fastmlp.training` does, against the training step of `fastmlp.reference`."""

import time
import tracemalloc
from functools import partial
from itertools import pairwise, product
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fastmlp import SGD, Adam, AdamW, kernels, reference
from fastmlp.activations import ACTIVATIONS
from fastmlp.engine.prediction import FewRows, Predictor
from fastmlp.engine.rows import Rows
from fastmlp.engine.trainer import Trainer
from fastmlp.layers import engine_layers, layers_of
from fastmlp.losses import LOSSES

# One unit, odd numbers, both sides of a vector's 16 and a panel's 64, outputs of several panels, many layers
SHAPES = (
    (1, 1, 2),
    (2, 3),
    (7, 3),
    (5, 17, 2),
    (20, 64, 32, 3),
    (63, 65, 64, 10),
    (65, 100, 130),
    (30, 130),
    (12, 300, 5),
    (129, 128, 127, 2),
    (8, 9, 10, 11, 12, 13, 14, 15, 16, 17),
)
# Epsilon is large: at 1e-8 an entry's step has the sign of its gradient and the size of the learning rate, also where
# the gradient is rounding error.
OPTIMIZERS = (
    SGD(learning_rate=0.125),
    SGD(learning_rate=0.03125, momentum=0.9),
    SGD(learning_rate=0.03125, momentum=0.9, nesterov=True),
    Adam(learning_rate=0.0625, epsilon=0.01),
    Adam(learning_rate=0.0625, beta_1=0.5, beta_2=0.75, epsilon=0.01),
    AdamW(learning_rate=0.0625, epsilon=0.01, weight_decay=0.5),
)


class Problem(NamedTuple):
    """A network and what it is to learn."""

    sizes: tuple
    activation: str
    loss: str
    parameters: np.ndarray  # float32, flat
    X: np.ndarray
    labels: np.ndarray | None
    values: np.ndarray | None
    sample_weight: np.ndarray | None = None

    @property
    def targets(self):
        return self.values if self.labels is None else self.labels


class Run(NamedTuple):
    """What training leaves behind."""

    parameters: np.ndarray
    moments: list
    cost: float
    step: int


def problem(sizes, n, *, activation="relu", loss="cross_entropy", zeros=0.0, probabilities=False, seed=0):
    """Draw a network and n rows, of whose values a share of `zeros` is zero."""
    rng = np.random.default_rng([seed, n, *sizes])
    sizes = (*sizes[:-1], sizes[-1] * LOSSES[loss].outputs_a_target)
    k, m = sizes[0], sizes[-1]
    X = rng.standard_normal((n, k)) * (rng.random((n, k)) >= zeros)
    layers = [rng.standard_normal((k + 1, m)) / np.sqrt(k + 1) for k, m in pairwise(sizes)]
    labels = rng.integers(m, size=n) if LOSSES[loss].targets == "classes" and not probabilities else None
    values = {
        "classes": lambda: rng.dirichlet(np.ones(m), n),
        "probabilities": lambda: rng.random((n, m)),
        "values": lambda: rng.standard_normal((n, m // LOSSES[loss].outputs_a_target)),
        "counts": lambda: rng.poisson(2, (n, m)),
    }[LOSSES[loss].targets]()
    arrays = flat(layers), X, values
    parameters, X, values = (np.ascontiguousarray(array, np.float32) for array in arrays)
    for array in (parameters, X, values):
        array.flags.writeable = False
    return Problem(sizes, activation, loss, parameters, X, labels, values if labels is None else None)


def flat(layers):
    return np.concatenate([np.ravel(layer) for layer in layers])


def matrices(parameters, sizes):
    """Each layer's weights (k, m) with the bias as their last row."""
    ends = np.cumsum([(k + 1) * m for k, m in pairwise(sizes)])
    return [
        piece.reshape(k + 1, m) for piece, (k, m) in zip(np.split(parameters, ends[:-1]), pairwise(sizes), strict=True)
    ]


def weights_and_biases(parameters, sizes):
    layers = matrices(np.asarray(parameters, np.float64), sizes)
    return [layer[:-1] for layer in layers], [layer[-1] for layer in layers]


def layers_of_problem(problem):
    return engine_layers(layers_of(problem.sizes, problem.activation))


def order(problem, epoch):
    return np.random.default_rng(epoch).permutation(len(problem.X))


def start(problem, optimizer, batch_size, *, n_threads=1, state=None):
    """Set up a run, from the problem's parameters or from where another run ended."""
    state = state or Run(problem.parameters, [np.zeros_like(problem.parameters)] * 2, 0.0, 0)
    trainer = Trainer(layers_of_problem(problem), LOSSES[problem.loss], batch_size, n_threads)
    trainer.load(state.parameters, state.moments, state.step)
    trainer.set_optimizer(optimizer)
    return trainer


def rows_of(problem, n_threads=1):
    return Rows(problem.X, problem.sizes[1], n_threads, problem.labels, problem.values, problem.sample_weight)


def train(problem, optimizer, batch_size, *, epochs=1, n_threads=1, state=None, first_epoch=0):
    trainer = start(problem, optimizer, batch_size, n_threads=n_threads, state=state)
    rows = rows_of(problem, n_threads)
    for epoch in range(first_epoch, first_epoch + epochs):
        trainer.start_epoch(rows, order(problem, epoch))
        while trainer.batch < trainer.n_batches:
            trainer.run()
    return stored(trainer, problem)


def stored(trainer, problem):
    parameters, *moments = (np.full_like(problem.parameters, np.nan) for _ in range(3))
    trainer.store(parameters, moments)
    return Run(parameters, moments, trainer.cost, trainer.step)


def follow(problem, optimizer, batch_size, *, epochs=1):
    """Compute in float64 what `train` is to compute."""
    weights, biases = weights_and_biases(problem.parameters, problem.sizes)
    is_adam = optimizer.rule == "adam"
    state = [(np.zeros_like(p),) * (2 if is_adam else 1) for p in [*weights, *biases]]
    step = 0
    for epoch in range(epochs):
        costs = []
        rows = order(problem, epoch)
        for batch in np.split(rows, range(batch_size, len(rows), batch_size)):
            step += 1
            cost, weights, biases, state = reference.train_step(
                weights,
                biases,
                state,
                problem.X[batch],
                problem.targets[batch],
                activation=problem.activation,
                loss=problem.loss,
                update=partial(reference.adam, step=step, **vars_of(optimizer))
                if is_adam
                else partial(reference.sgd, **vars_of(optimizer)),
                sample_weight=None if problem.sample_weight is None else problem.sample_weight[batch],
            )
            costs.append(cost)
    moments = [
        join([remembered[i] for remembered in state[: len(weights)]], [r[i] for r in state[len(weights) :]])
        for i in range(len(state[0]))
    ]
    return Run(join(weights, biases), moments, np.mean(costs), step)


def vars_of(optimizer):
    return {
        name: getattr(optimizer, name)
        for name in ("learning_rate", "momentum", "nesterov", "beta_1", "beta_2", "epsilon", "weight_decay")
        if hasattr(optimizer, name)
    }


def join(weights, biases):
    return flat([np.vstack([w, b]) for w, b in zip(weights, biases, strict=True)])


def bits(run):
    return run.parameters.tobytes(), *(moment.tobytes() for moment in run.moments), run.cost, run.step


# ---- One step --------------------------------------------------------------------------------------------------------

# The velocity of its first step is the gradient.
GRADIENT = SGD(learning_rate=1.0, momentum=0.5)


def assert_gradient_is_right(assert_close, problem, gradient, cost=None):
    expected_cost, dweights, dbiases = reference.gradients(
        *weights_and_biases(problem.parameters, problem.sizes),
        problem.X,
        problem.targets,
        activation=problem.activation,
        loss=problem.loss,
        sample_weight=problem.sample_weight,
    )
    summed = max(*problem.sizes, len(problem.X))
    if cost is not None:
        assert_close(cost, expected_cost, "cost", summed, terms=1)
    layers = (matrices(array, problem.sizes) for array in (gradient, join(dweights, dbiases)))
    for actual, wanted, terms in zip(*layers, magnitudes(problem), strict=True):
        assert_close(actual, wanted, "gradient", summed, terms)


def magnitudes(problem):
    """How large each layer's gradient would be if nothing behind it cancelled: the root of its terms' squares."""
    weights, biases = weights_and_biases(problem.parameters, problem.sizes)
    outputs = [problem.X, *reference.forward(weights, biases, problem.X, problem.activation)]
    h = [problem.X.astype(np.float64)]
    for w, b in zip(weights[:-1], biases[:-1], strict=True):
        h.append(np.sqrt(h[-1] ** 2 @ w**2 + b**2))
    dz = np.full(outputs[-1].shape, 1 / len(problem.X))
    found = []
    for i in reversed(range(len(weights))):
        inputs = np.column_stack([h[i], np.ones(len(dz))])
        found.insert(0, np.sqrt((inputs.T**2 @ dz**2).max()))
        if i > 0:
            z = reference.matmul_bias(outputs[i - 1], weights[i - 1], biases[i - 1])
            dz = np.sqrt(dz**2 @ weights[i].T ** 2) * ACTIVATIONS[problem.activation].derivative(z)
    return found


def check_one_step(assert_close, problem, n_threads=1):
    run = train(problem, GRADIENT, len(problem.X), n_threads=n_threads)
    assert run.step == 1
    assert_gradient_is_right(assert_close, problem, run.moments[0], run.cost)
    np.testing.assert_array_equal(run.parameters, problem.parameters - run.moments[0])
    np.testing.assert_array_equal(run.moments[1], 0)
    return run


@pytest.mark.parametrize("sizes", SHAPES, ids=str)
@pytest.mark.parametrize(
    ("activation", "loss"),
    [*((activation, "cross_entropy") for activation in ACTIVATIONS), *(("tanh", loss) for loss in list(LOSSES)[1:])],
)
def test_gradient_of_every_activation_and_loss(activation, loss, sizes, assert_close):
    check_one_step(assert_close, problem(sizes, 7, activation=activation, loss=loss))


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("n", [1, 2, 25, 100, 112, 113, 128, 129, 250])
@pytest.mark.parametrize("zeros", [0.0, 0.85, 1.0])
def test_gradient_of_every_batch_size(zeros, n, n_threads, assert_close):
    for sizes in ((130, 70, 65, 5), (5, 17, 2), (100, 64, 64, 64, 10)):
        check_one_step(assert_close, problem(sizes, n, zeros=zeros), n_threads)


@pytest.mark.parametrize("n_threads", [1, 2, 3])
@pytest.mark.parametrize("n", [1, 64, 100, 150])
@pytest.mark.parametrize("sizes", [(70, 128, 128), (130, 64, 113), (64, 250, 320, 200), (90, 192, 384, 250)], ids=str)
def test_panels_two_by_two(sizes, n, n_threads, assert_close):
    """Of hidden layers, whole or not and in any number; outputs are whole rows, and no panels, however many."""
    case = problem(sizes, n, zeros=0.5)
    check_one_step(assert_close, case, n_threads)
    assert_logits_are_right(assert_close, case, predict(case, n_threads))


@pytest.mark.parametrize("n", [256 * 128, 256 * 128 + 1, 70_000])
def test_gradient_of_a_batch_that_is_large_for_its_network(n, assert_close):
    check_one_step(assert_close, problem((2, 3), n), 2)


@pytest.mark.parametrize("zeros", [0.0, 0.8])
def test_gradient_of_the_tutorials_network(zeros, assert_close):
    check_one_step(assert_close, problem((784, 256, 256, 10), 100, zeros=zeros))


@pytest.mark.parametrize("sizes", SHAPES, ids=str)
def test_gradient_for_rows_of_probabilities(sizes, assert_close):
    check_one_step(assert_close, problem(sizes, 20, probabilities=True))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_comparison_notices_a_gradient_that_is_off_by_one_percent(activation, assert_close):
    case = problem((30, 65, 64, 10), 25, activation=activation)
    gradient = train(case, GRADIENT, 25).moments[0]
    assert_gradient_is_right(assert_close, case, gradient)
    wrong = [1.01 * gradient, np.zeros_like(gradient), np.full_like(gradient, np.nan)]
    layers = matrices(gradient, case.sizes)
    for i, layer in enumerate(layers):
        # In the largest entry of a layer, and in the smallest that is a hundredth of it; in the whole layer
        magnitudes = np.abs(layer).ravel()
        for entry in magnitudes.argmax(), np.where(magnitudes < magnitudes.max() / 100, np.inf, magnitudes).argmin():
            changed = layer.copy()
            changed.flat[entry] *= 1.01
            wrong.append(flat([*layers[:i], changed, *layers[i + 1 :]]))
        wrong.append(flat([*layers[:i], 1.01 * layer, *layers[i + 1 :]]))
    for changed in wrong:
        with pytest.raises(AssertionError, match="gradient"):
            assert_gradient_is_right(assert_close, case, changed)


@pytest.mark.parametrize("zeros", [0.0, 0.8])
@pytest.mark.parametrize("sizes", [(100, 65, 64, 10), (20, 64, 32, 3)], ids=str)
def test_a_step_may_be_cut_before_the_gradient_is_applied(sizes, zeros, assert_close):
    case = problem(sizes, 30, zeros=zeros)
    trainer = Trainer(layers_of_problem(case), LOSSES[case.loss], 30, 2, cut_at_gradient=True)
    trainer.load(case.parameters, [np.zeros_like(case.parameters)] * 2, 0)
    trainer.set_optimizer(GRADIENT)
    trainer.start_epoch(rows_of(case), order(case, 0))
    trainer.run()
    assert trainer.at_cut
    gradient = np.full_like(case.parameters, np.nan)
    trainer.store_gradient(gradient)
    assert trainer.batch == 0
    np.testing.assert_array_equal(stored(trainer, case).parameters, case.parameters)
    trainer.run()
    assert (trainer.batch, trainer.at_cut) == (1, False)
    assert_gradient_is_right(assert_close, case, gradient, trainer.cost)
    np.testing.assert_array_equal(stored(trainer, case).parameters, case.parameters - gradient)


def far_from_kinks(problem):
    """Whether no unit is so near to a corner, as ReLU's, that rounding could take it to the other side."""
    f = ACTIVATIONS[problem.activation]
    if np.ptp(f.derivative([-1e-9, 1e-9])) < 1e-3:
        return True
    weights, biases = weights_and_biases(problem.parameters, problem.sizes)
    h = problem.X
    for w, b in zip(weights[:-1], biases[:-1], strict=True):
        z = reference.matmul_bias(h, w, b)
        if np.abs(z).min() < 1e-5:
            return False
        h = f.forward(z)
    return True


@settings(max_examples=100, deadline=None)
@given(
    case=st.builds(
        problem,
        sizes=st.lists(st.integers(1, 80), min_size=2, max_size=5).filter(lambda sizes: sizes[-1] > 1).map(tuple),
        n=st.integers(1, 130),
        activation=st.sampled_from(list(ACTIVATIONS)),
        loss=st.sampled_from(list(LOSSES)),
        zeros=st.sampled_from([0.0, 0.5, 0.95]),
    ),
    n_threads=st.integers(1, 3),
)
def test_gradient_of_any_network(assert_close, case, n_threads):
    assume(far_from_kinks(case))
    check_one_step(assert_close, case, n_threads)


# ---- Lists of non-zero values ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("k", "m", "zeros", "form"),
    [
        (64, 64, 0.8, "listed"),
        (100, 128, 0.6, "masked"),
        (100, 70, 0.6, "dense"),  # the second panel is narrow
        (64, 64, 0.1, "dense"),
        (63, 64, 0.8, "dense"),
        (64, 17, 0.8, "listed"),
        (64, 63, 0.6, "dense"),
        (64, 16, 0.8, "dense"),
    ],
)
def test_inputs_are_listed_or_masked_where_that_pays(k, m, zeros, form):
    X = problem((k, m), 40, zeros=zeros).X
    for n_threads in (1, 2):
        rows = Rows(X, m, n_threads)
        assert (rows.listed, rows.masked) == (form == "listed", form == "masked")


@pytest.mark.parametrize("n", [1, 2, 63, 64, 65, 200])
@pytest.mark.parametrize("k", [64, 65, 130])
def test_masked_inputs_of_any_shape(k, n, assert_close):
    case = problem((k, 70, 5), n, zeros=0.5)
    for n_threads in (1, 2):
        check_one_step(assert_close, case, n_threads)


@pytest.mark.parametrize("n", [1, 512, 513, 1100])
@pytest.mark.parametrize("k", [64, 65, 112, 113, 300])
def test_lists_of_any_shape_hold_the_inputs(k, n, assert_close):
    """Rows are listed by 512 at a time, and columns in blocks of at most 112."""
    case = problem((k, 64), n, zeros=0.9)
    assert Rows(case.X, 64, 2).listed
    check_one_step(assert_close, case, n_threads=2)


@pytest.mark.parametrize("bias", [-6.0, 6.0], ids=["dead", "all positive"])
def test_hidden_units_that_are_all_zero_or_never(bias, assert_close):
    """Masks give way to the dense product where the batch before was full, and come back with the next epoch."""
    case = problem((70, 128, 130, 5), 300, loss="squared_error")
    layers = [layer.copy() for layer in matrices(case.parameters, case.sizes)]
    for layer in layers[:-1]:
        layer[-1] = bias
    if bias > 0:
        layers[1][:-1] = np.abs(layers[1][:-1]) / 16
    case = case._replace(parameters=flat(layers))
    h = reference.forward(*weights_and_biases(case.parameters, case.sizes), case.X, "relu")[:-1]
    assert all((layer > 0).all() if bias > 0 else not layer.any() for layer in h)
    optimizer = SGD(learning_rate=2.0**-10)
    run, expected = (how(case, optimizer, 70, epochs=3) for how in (train, follow))
    assert_close(run.parameters, expected.parameters, "steps", max(case.sizes))
    assert_close(run.cost, expected.cost, "cost", max(case.sizes))


# ---- Several steps ---------------------------------------------------------------------------------------------------


def check_steps(assert_close, problem, optimizer, batch_size, epochs):
    run, expected = (how(problem, optimizer, batch_size, epochs=epochs) for how in (train, follow))
    assert run.step == expected.step
    summed = run.step * max(*problem.sizes, batch_size)
    assert_close(run.cost, expected.cost, "cost", summed, terms=1)
    assert_close(run.parameters, expected.parameters, "steps", summed)
    for actual, wanted in zip(run.moments, expected.moments, strict=False):
        assert_close(actual, wanted, "steps", summed)
    return run, expected


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
@pytest.mark.parametrize("steps", [1, 6])
@pytest.mark.parametrize("zeros", [0.0, 0.8])
def test_parameters_after_some_steps(zeros, steps, optimizer, assert_close):
    for sizes in ((7, 3), (20, 64, 32, 3), (100, 65, 64, 10)):
        for activation in ("tanh", "relu"):
            case = problem(sizes, 30, activation=activation, zeros=zeros)
            run, expected = check_steps(assert_close, case, optimizer, 30, epochs=steps)
            # The comparison notices if one parameter has gone 1 % too far.
            way = expected.parameters - case.parameters
            far = np.abs(way).argmax()
            wrong = run.parameters.copy()
            wrong[far] += 0.01 * way[far]
            with pytest.raises(AssertionError, match="steps"):
                assert_close(wrong, expected.parameters, "steps", steps * max(*sizes, 30))


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
@pytest.mark.parametrize(("n", "batch_size"), [(250, 113), (101, 100), (10, 1), (30, 7), (9, 30)])
def test_an_epoch_whose_last_batch_is_smaller(n, batch_size, optimizer, assert_close):
    for zeros in (0.0, 0.8):
        case = problem((65, 64, 70, 10), n, activation="tanh", zeros=zeros)
        batch = min(n, batch_size)
        run, _ = check_steps(assert_close, case, optimizer, batch, epochs=2)
        assert run.step == 2 * -(-n // batch)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_training_goes_on_from_what_was_stored(optimizer):
    case = problem((65, 64, 10), 40, zeros=0.5)
    whole = train(case, optimizer, 15, epochs=3)
    part = train(case, optimizer, 15, epochs=2)
    assert bits(train(case, optimizer, 15, state=part, first_epoch=2)) == bits(whole)


def test_costs_of_an_epoch_are_averaged_over_its_batches(assert_close):
    case = problem((5, 4), 9)
    run, expected = (how(case, SGD(learning_rate=2.0**-20), 4) for how in (train, follow))
    assert_close(run.cost, expected.cost, "cost", 5)
    over_rows = reference.cost(
        *weights_and_biases(case.parameters, case.sizes),
        case.X,
        case.targets,
        activation=case.activation,
        loss=case.loss,
    )
    with pytest.raises(AssertionError, match="cost"):  # since the last batch has but one row
        assert_close(run.cost, over_rows, "cost", 5)


# ---- Batches in parts, folds, cuts, clipping -------------------------------------------------------------------------


@pytest.mark.parametrize("zeros", [0.0, 0.8])
@pytest.mark.parametrize("sizes", [(100, 65, 64, 10), (70, 4)], ids=str)
def test_a_batch_too_large_for_its_buffers_goes_in_parts(sizes, zeros, assert_close):
    """A part has 4096 rows at most; the last batch of an epoch is smaller than one."""
    case = problem(sizes, 9500, zeros=zeros)
    run, _ = check_steps(assert_close, case, SGD(learning_rate=0.125), 9000, epochs=1)
    assert bits(train(case, SGD(learning_rate=0.125), 9000, n_threads=2)) == bits(run)


def test_an_epoch_may_visit_some_of_the_rows(assert_close):
    """Folds are orders over rows that several trainers share."""
    case = problem((70, 65, 5), 60, zeros=0.5)
    shared, folds = rows_of(case), np.split(order(case, 0), 3)
    for fold in folds:
        trainer = start(case, SGD(learning_rate=0.125), 8)
        trainer.start_epoch(shared, fold)
        while trainer.batch < trainer.n_batches:
            trainer.run()
        part = case._replace(X=case.X[fold], labels=case.labels[fold])
        alone = start(case, SGD(learning_rate=0.125), 8)
        alone.start_epoch(rows_of(part), np.arange(len(fold)))
        while alone.batch < alone.n_batches:
            alone.run()
        assert bits(stored(trainer, case)) == bits(stored(alone, case))


def test_rows_may_change_from_epoch_to_epoch():
    """As those of a stream do: other rows, another number of them, listed or not."""
    cases = [problem((70, 65, 5), n, zeros=zeros) for n, zeros in ((60, 0.5), (33, 0.0), (90, 0.9))]
    first, optimizer = cases[0], Adam()
    trainer, state = start(first, optimizer, 16), None
    for case in cases:
        trainer.start_epoch(rows_of(case), order(case, 0))
        while trainer.batch < trainer.n_batches:
            trainer.run()
        state = train(case._replace(parameters=first.parameters), optimizer, 16, state=state)
    assert bits(stored(trainer, first)) == bits(state)


@pytest.mark.parametrize("wrong", [[], [0, 60], [-1]], ids=str)
def test_an_order_beyond_the_rows_is_refused(wrong):
    case = problem((70, 65, 5), 60)
    trainer = start(case, Adam(), 16)
    with pytest.raises(ValueError, match="order must have at least one row, all from 0 to 59"):
        trainer.start_epoch(rows_of(case), np.array(wrong, np.int64))


def test_a_run_past_the_end_of_an_epoch_is_refused():
    case = problem((7, 5), 60)
    trainer = start(case, Adam(), 60)
    with pytest.raises(RuntimeError, match="start_epoch"):
        trainer.run()
    trainer.start_epoch(rows_of(case), order(case, 0))
    trainer.run()
    with pytest.raises(RuntimeError, match="start_epoch"):
        trainer.run()


def test_rows_that_do_not_fit_the_network_are_refused():
    case = problem((7, 5), 60)
    for changed, message in (
        (case._replace(X=case.X[:, :6].copy()), "7 columns, not 6"),
        (case._replace(labels=case.labels + 1), "from 0 to 4, not"),
        (case._replace(labels=None), "labels or targets"),
        (case._replace(labels=None, values=np.zeros((60, 4), np.float32)), "5 columns, not 4"),
        (case._replace(labels=case.labels[:59]), "60 rows, not 59"),
    ):
        with pytest.raises(ValueError, match=message):
            start(case, Adam(), 60).start_epoch(rows_of(changed), order(case, 0))


@pytest.mark.parametrize("zeros", [0.0, 0.8])
@pytest.mark.parametrize("n_threads", [1, 2])
def test_a_step_may_be_cut_for_a_loss_in_python(zeros, n_threads, assert_close):
    case = problem((100, 65, 64, 10), 50, zeros=zeros, loss="squared_error")
    trainer = Trainer(layers_of_problem(case), None, 20, n_threads)
    trainer.load(case.parameters, [np.zeros_like(case.parameters)] * 2, 0)
    trainer.set_optimizer(GRADIENT)
    rows = Rows(case.X, case.sizes[1], n_threads)
    trainer.start_epoch(rows, order(case, 0))
    while trainer.batch < trainer.n_batches:
        trainer.run()  # to the loss, or to the step's end
        if trainer.at_cut:
            difference = trainer.logits() - case.values[trainer.cut_rows()]
            trainer.set_losses((difference**2).sum(axis=1) / 2, difference)
    expected = follow(case, GRADIENT, 20)
    summed = 3 * max(*case.sizes, 20)
    assert_close(trainer.cost, expected.cost, "cost", summed, terms=1)
    assert_close(stored(trainer, case).parameters, expected.parameters, "steps", summed)


@pytest.mark.parametrize("sizes", [(100, 65, 64, 10), (20, 64, 32, 3)], ids=str)
def test_phases_are_timed_where_that_is_asked_for_and_the_bits_are_the_same(sizes):
    case = problem(sizes, 280, zeros=0.8 if sizes[0] == 100 else 0.0)
    trainer = start(case, Adam(), 260, n_threads=2)
    trainer.time_phases()
    trainer.start_epoch(rows_of(case, 2), order(case, 0))
    started = time.perf_counter()
    while trainer.batch < trainer.n_batches:
        trainer.run()
    seconds = time.perf_counter() - started
    taken = trainer.phase_times()
    kinds = [kind for tasks, _, _ in taken for kind, _ in tasks]
    assert kinds[0] == ("gather" if sizes[0] == 100 else "chain")
    for tasks, busy, waiting in taken:
        assert tasks.total() > 0
        assert len(busy) == len(waiting) == 2
        assert sum(busy) > 0
    assert 0 < sum(sum(busy) + sum(waiting) for _, busy, waiting in taken) < 2 * seconds
    assert all(sum(busy) + sum(waiting) == 0 for _, busy, waiting in trainer.phase_times())
    assert bits(stored(trainer, case)) == bits(train(case, Adam(), 260, n_threads=2))


@pytest.mark.parametrize(
    ("sizes", "batch_size", "chains"),
    [
        ((20, 64, 32, 3), 32, 1),
        ((20, 64, 32, 3), 200, 2),
        ((4, 32, 16, 4), 2000, 16),
        ((100, 64, 64, 2), 100, 2),
        ((100, 64, 64, 64, 64, 10), 63, None),
        ((100, 64, 64, 64, 64, 10), 64, 2),
        ((100, 64, 64, 64, 64, 10), 192, 4),
        ((100, 64, 64, 64, 64, 10), 500, 4),
        ((100, 64, 64, 64, 64, 10), 600, 6),
        ((100, 64, 64, 64, 64, 10), 50_000, None),  # gradients that take more than 16 MB
        ((50, 200, 100, 10), 100, None),
        ((200, 100, 100, 100, 100, 100, 10), 100, None),
    ],
    ids=str,
)
def test_small_networks_are_chained(sizes, batch_size, chains, assert_close):
    case = problem(sizes, batch_size)
    trainer = start(case, Adam(), batch_size)
    trainer.time_phases()
    trainer.start_epoch(rows_of(case), order(case, 0))
    trainer.run()
    tasks, _, _ = trainer.phase_times()[0]
    assert tasks.get(("chain", 0)) == chains
    if batch_size < 50_000:
        check_one_step(assert_close, case, 2)


@pytest.mark.parametrize("n_threads", [5, 16])
@pytest.mark.parametrize(
    ("sizes", "batch_size"),
    [
        ((784, 256, 256, 10), 100),
        ((28, 300, 300, 300, 2), 100),
        ((100, 1024, 1024, 10), 256),
        ((4, 32, 16, 4), 2000),  # sixteen chains
    ],
    ids=str,
)
def test_more_threads_than_processors_come_to_the_same_bits(sizes, batch_size, n_threads):
    case = problem(sizes, 2 * batch_size + 30, zeros=0.7)
    trainer = start(case, Adam(), batch_size, n_threads=n_threads)
    trainer.time_phases()  # so that all threads take all steps
    for epoch in range(2):
        trainer.start_epoch(rows_of(case, n_threads), order(case, epoch))
        while trainer.batch < trainer.n_batches:
            trainer.run()
    assert all(len(waiting) == n_threads for _, _, waiting in trainer.phase_times())
    assert bits(stored(trainer, case)) == bits(train(case, Adam(), batch_size, epochs=2))


def test_phases_are_not_timed_unasked():
    case = problem((7, 5), 20)
    trainer = start(case, Adam(), 20)
    trainer.start_epoch(rows_of(case), order(case, 0))
    trainer.run()
    assert [(busy, waiting) for _, busy, waiting in trainer.phase_times()] == [([], [])] * 2


def test_losses_of_another_shape_are_refused():
    case = problem((7, 5), 20, loss="squared_error")
    trainer = Trainer(layers_of_problem(case), None, 20, 1)
    trainer.load(case.parameters, [np.zeros_like(case.parameters)] * 2, 0)
    trainer.set_optimizer(GRADIENT)
    trainer.start_epoch(Rows(case.X, 5, 1), order(case, 0))
    trainer.run()
    for losses, dlogits in (((19,), (20, 5)), ((20,), (19, 5)), ((20,), (20, 4))):
        with pytest.raises(ValueError, match=r"losses must have shape \(20,\), dlogits \(20, 5\)"):
            trainer.set_losses(np.zeros(losses, np.float32), np.zeros(dlogits, np.float32))


def test_a_cut_that_is_none_has_nothing_to_give():
    case = problem((7, 5), 20)
    trainer = start(case, Adam(), 20)
    with pytest.raises(RuntimeError, match="no gradient is kept"):
        trainer.store_gradient(np.empty_like(case.parameters))
    for ask in (trainer.cut_rows, trainer.logits, lambda: trainer.set_losses(np.zeros(20), np.zeros((20, 5)))):
        with pytest.raises((RuntimeError, ValueError)):
            ask()
    trainer = Trainer(layers_of_problem(case), None, 20, 1)
    with pytest.raises(RuntimeError, match="no step is cut"):
        trainer.logits()


@pytest.mark.parametrize("sizes", [(100, 65, 64, 10), (20, 64, 32, 3)], ids=str)
@pytest.mark.parametrize("clip_norm", [0.25, 1e6])
def test_gradients_are_clipped_by_their_norm(clip_norm, sizes, assert_close):
    case = problem(sizes, 30, zeros=0.5)
    optimizer = SGD(learning_rate=1.0, momentum=0.5, clip_norm=clip_norm)
    clipped, plain = (train(case, how, 30) for how in (optimizer, GRADIENT))
    norm = np.linalg.norm(plain.moments[0].astype(np.float64))
    assert 0.25 < norm < 1e6
    expected = plain.moments[0] * min(1, clip_norm / norm)
    assert_close(clipped.moments[0], expected, "gradient", 30)
    assert bits(train(case, optimizer, 30, epochs=2)) == bits(train(case, optimizer, 30, epochs=2, n_threads=2))


# ---- Weights of rows -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_rows_count_by_their_weights(optimizer, loss, assert_close):
    case = problem((20, 30, 4), 50, activation="tanh", loss=loss)
    weight = np.random.default_rng(0).exponential(size=50).astype(np.float32)
    weight[::3] = 0
    check_steps(assert_close, case._replace(sample_weight=weight), optimizer, 20, epochs=2)


def test_equal_weights_change_nothing():
    case = problem((20, 30, 4), 32)
    runs = [case._replace(sample_weight=weight) for weight in (None, np.full(32, 0.25, np.float32))]
    assert len({bits(train(run, Adam(), 8)) for run in runs}) == 1


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_a_batch_without_weight_has_no_gradient(optimizer, assert_close):
    case = problem((20, 30, 4), 30, activation="tanh")
    weight = np.ones(30, np.float32)
    weight[order(case, 0)[10:20]] = 0  # the second of three batches
    check_steps(assert_close, case._replace(sample_weight=weight), optimizer, 10, epochs=1)
    nothing = train(case._replace(sample_weight=np.zeros(30, np.float32)), optimizer, 10)
    assert nothing.cost == 0
    decay = (1 - optimizer.learning_rate * getattr(optimizer, "weight_decay", 0)) ** 3
    np.testing.assert_allclose(nothing.parameters, case.parameters * decay, rtol=1e-6)
    assert not any(moment.any() for moment in nothing.moments)


# ---- The same bits, whatever the threads -----------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu"])
@pytest.mark.parametrize("zeros", [0.0, 0.8])
def test_same_bits_for_any_number_of_threads(zeros, activation):
    for sizes, n, batch_size in (
        ((130, 100, 70, 10), 250, 113),
        ((3, 2), 20, 7),
        ((200, 300, 4), 20, 1),
        ((20, 70, 40), 900, 700),  # a chain of rows for each thread, and more
        ((30, 150, 100, 60, 10), 450, 200),
    ):
        case = problem(sizes, n, activation=activation, zeros=zeros)
        assert len({bits(train(case, Adam(), batch_size, epochs=2, n_threads=t)) for t in (1, 2, 3, 5)}) == 1


def test_a_longer_slice_of_steps_changes_nothing():
    """How many steps a call of `run` takes depends on the clock; what they compute does not."""
    case = problem((10, 8, 3), 300)
    assert len({bits(train(case, Adam(), 2, epochs=4, n_threads=n_threads)) for n_threads in (1, 1, 2)}) == 1


# ---- Denormal numbers ------------------------------------------------------------------------------------------------

DENORMAL = np.float32(1e-40)


@pytest.mark.parametrize("n_threads", [1, 2])
def test_moments_do_not_decay_into_denormal_numbers(n_threads):
    case = problem((70, 64, 2), 5)
    X = case.X.copy()
    X[:, 10:60] = 0
    moments = [np.full_like(case.parameters, 1e-3) for _ in range(2)]
    steps = 1100
    with np.errstate(under="ignore"):
        decayed = moments[0][:1].copy()
        for _ in range(steps):
            decayed *= np.float32(0.9)
    assert 0 < decayed < np.finfo(np.float32).tiny  # what would happen
    state = Run(case.parameters, moments, 0.0, 0)
    run = train(case._replace(X=X), Adam(), 5, epochs=steps, n_threads=n_threads, state=state)
    for moment in run.moments:
        assert not np.any((moment != 0) & (np.abs(moment) < np.finfo(np.float32).tiny))
    assert not matrices(run.moments[0], case.sizes)[0][10:60].any()


@pytest.mark.parametrize("n_threads", [1, 2])
def test_denormal_numbers_are_back_after_training(n_threads, monkeypatch):
    monkeypatch.setattr("fastmlp.threads._WORTH_A_THREAD", 1e-15)
    train(problem((70, 64, 2), 20), Adam(), 5, n_threads=n_threads)
    assert DENORMAL * np.float32(1) != 0
    # ... in the other threads as well
    assert kernels.activate(np.full(50_000, DENORMAL), "tanh", n_threads=n_threads).all()


# ---- Memory ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_threads", [1, 2])
def test_nothing_is_allocated_while_training_runs(n_threads):
    case = problem((70, 64, 10), 40)
    trainer = start(case, Adam(), 4, n_threads=n_threads)
    rows, rows_in_order = rows_of(case), order(case, 0)

    def epochs(count):
        for _ in range(count):
            trainer.start_epoch(rows, rows_in_order)
            while trainer.batch < trainer.n_batches:
                trainer.run()

    epochs(5)
    tracemalloc.start()
    try:
        epochs(5)
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        epochs(50)
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 200
    assert peak - before < 2000  # numbers and views that come and go


@pytest.mark.parametrize("zeros", [0.0, 0.8])
@pytest.mark.parametrize("sizes", [(7, 3), (65, 70, 10), (113, 64, 65, 2)], ids=str)
def test_nothing_beyond_the_arrays_is_read_or_written(sizes, zeros, at_the_end):
    for loss, n in product(LOSSES, (1, 13)):
        case = problem(sizes, n, zeros=zeros, loss=loss)._replace(sample_weight=np.ones(n, np.float32))
        fenced = case._replace(
            **{name: at_the_end(value) for name, value in case._asdict().items() if isinstance(value, np.ndarray)}
        )
        assert bits(train(fenced, Adam(), 5)) == bits(train(case, Adam(), 5))
        trainer = start(case, Adam(), 5)
        trainer.start_epoch(rows_of(case), at_the_end(order(case, 0)))
        trainer.run()
        places = [at_the_end(case.parameters) for _ in range(3)]
        trainer.store(places[0], places[1:])
        out = at_the_end(np.empty((n, case.sizes[-1]), np.float32))
        Predictor(layers_of_problem(case), fenced.parameters, 1).logits(out, fenced.X)


# ---- Prediction ------------------------------------------------------------------------------------------------------


def predict(problem, n_threads=1):
    out = np.full((len(problem.X), problem.sizes[-1]), np.nan, np.float32)
    Predictor(layers_of_problem(problem), problem.parameters, n_threads).logits(out, problem.X)
    return out


def logits_of(problem):
    """By the specification."""
    network = weights_and_biases(problem.parameters, problem.sizes)
    return reference.forward(*network, problem.X, problem.activation)[-1]


def assert_logits_are_right(assert_close, problem, out, terms=1):
    assert_close(out, logits_of(problem), "logits", max(problem.sizes), terms)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("n", [1, 2, 95, 96, 97, 300])
def test_logits_follow_the_specification(n, activation, assert_close):
    for sizes, zeros in product(SHAPES, (0.0, 0.8)):
        case = problem(sizes, n, activation=activation, zeros=zeros)
        out, wanted = predict(case), (logits_of(case), "logits", max(sizes), 1)
        assert_close(out, *wanted)
        wrong = out.copy()
        wrong.flat[np.abs(wrong).argmax()] *= 1.01
        with pytest.raises(AssertionError, match="logits"):
            assert_close(wrong, *wanted)


@pytest.mark.parametrize("n", [1, 96, 97, 300])
def test_logits_have_the_same_bits_for_any_number_of_threads(n):
    case = problem((100, 130, 64, 10), n)
    assert len({predict(case, n_threads).tobytes() for n_threads in (1, 2, 3, 5)}) == 1


def test_a_pair_of_rows_has_the_same_logits_alone():
    case = problem((100, 130, 64, 10), 200)
    out = predict(case)
    for i in (0, 4, 94, 96, 198):
        np.testing.assert_array_equal(predict(case._replace(X=case.X[i : i + 2])), out[i : i + 2])


def test_logits_with_hidden_units_that_are_all_zero_or_never(assert_close):
    for bias in (-50.0, 50.0):
        case = problem((70, 128, 130, 5), 100)
        layers = [layer.copy() for layer in matrices(case.parameters, case.sizes)]
        layers[0][-1] = bias
        case = case._replace(parameters=flat(layers))
        assert_logits_are_right(assert_close, case, predict(case), terms=abs(bias))


def few_rows(problem):
    return FewRows(layers_of_problem(problem), problem.parameters)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("n", [1, 2, 16])
def test_logits_of_a_few_rows_follow_the_specification(n, activation, assert_close, at_the_end):
    for sizes, zeros in product(SHAPES, (0.0, 0.8, 1.0)):
        case = problem(sizes, n, activation=activation, zeros=zeros)
        assert_logits_are_right(assert_close, case, few_rows(case).logits(case.X))
        fenced = case._replace(parameters=at_the_end(case.parameters), X=at_the_end(case.X))
        assert_logits_are_right(assert_close, case, few_rows(fenced).logits(fenced.X))


def test_logits_of_a_few_rows_are_those_of_the_parameters_as_they_are(assert_close):
    case = problem((7, 20, 3), 4)
    parameters = np.zeros_like(case.parameters)
    reader = few_rows(case._replace(parameters=parameters))
    assert not reader.logits(case.X).any()
    parameters[:] = case.parameters
    assert_logits_are_right(assert_close, case, reader.logits(case.X))


def test_what_is_not_a_few_sound_rows_is_left_to_others():
    case = problem((7, 20, 3), 16)
    logits = few_rows(case).logits
    assert logits(case.X) is not None
    broken = case.X.copy()
    for value in (np.nan, np.inf, -np.inf):
        broken[15, 6] = value
        assert logits(broken) is None
    for X in (
        case.X[:0],
        np.tile(case.X, (2, 1)),
        case.X[:, :6].copy(),
        case.X[::2],
        case.X[0],
        np.asfortranarray(case.X),
    ):
        assert logits(X) is None
    for X in (case.X.astype(float), case.X.tolist(), None, np.ma.array(case.X)):
        assert logits(X) is None


def test_few_rows_leaves_networks_that_are_wide_deep_or_overflow_to_others():
    for sizes in ((2, 4097, 2), (2, *[3] * 16, 2)):
        case = problem(sizes, 1)
        assert few_rows(case).logits(case.X) is None
    case = problem((2, 4096, *[3] * 14, 2), 1)
    assert few_rows(case).logits(case.X) is not None
    huge = problem((2, 3, 2), 1, activation="identity")
    assert few_rows(huge._replace(parameters=np.full_like(huge.parameters, 3e38))).logits(huge.X) is None
