"""Each picture shows the numbers it was given; pyplot and displays are left alone."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastmlp
from fastmlp.augment import Affine
from fastmlp.runs import History

plots = pytest.importorskip("fastmlp.plots", reason="draws with matplotlib", exc_type=ImportError)

LEGEND, _percent = plots.images.LEGEND, plots.images._percent
PNG = b"\x89PNG\r\n\x1a\n"


def history(loss, **others):
    return History(loss=loss, seconds=[1.0] * len(loss), **others)


def answers(n, m=10, k=64, seed=0):
    """Return images, labels, predictions and probabilities, some of the predictions wrong."""
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet(np.full(m, 0.2), n)
    predictions = probabilities.argmax(axis=1)
    labels = np.where(generator.random(n) < 0.3, generator.integers(0, m, n), predictions)
    return generator.random((n, k), dtype=np.float32), labels, predictions, probabilities


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def frames(figure):
    return [patch.get_edgecolor() for patch in figure.axes[0].patches]


def drawn(figure, tmp_path):
    figure.savefig(tmp_path / "figure.png")
    return (tmp_path / "figure.png").read_bytes()


@pytest.mark.slow
def test_learning_curves_show_the_history(tmp_path):
    others = {"validation_accuracy": [0.8, 0.95, 0.9], "learning_rate": [1e-3, 5e-4, 2e-4]}
    figure = plots.learning_curves(history([0.5, 0.3, 0.2], validation_loss=[0.6, 0.4, 0.45], **others))
    loss, accuracy, rate = figure.axes
    assert loss.get_title(loc="left") == "Loss"
    *lines, mark, best = loss.lines
    assert (mark.get_xdata()[0], best.get_xdata()[0], best.get_ydata()[0]) == (2, 2, 0.4)
    for line, values in zip(lines, [[0.5, 0.3, 0.2], [0.6, 0.4, 0.45]], strict=True):
        np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3])
        np.testing.assert_array_equal(line.get_ydata(), values)
    curve, best = accuracy.lines
    np.testing.assert_allclose(curve.get_ydata(), [80, 95, 90])
    assert (best.get_xdata()[0], best.get_ydata()[0]) == (2, 95)
    assert [text.get_text() for text in loss.get_legend().get_texts()] == [
        "training: 0.2 at the end",
        "validation: 0.45 at the end",
        "best: 0.4 in epoch 2",
    ]
    assert [text.get_text() for text in accuracy.get_legend().get_texts()] == [
        "90.00% at the end",
        "best: 95.00% in epoch 2",
    ]
    assert rate.get_title(loc="left") == "Learning rate"
    np.testing.assert_array_equal(rate.lines[0].get_ydata(), [1e-3, 5e-4, 2e-4])
    assert rate.get_ylim()[0] == 0
    assert drawn(figure, tmp_path).startswith(PNG)


def test_learning_curves_without_validation(tmp_path):
    figure = plots.learning_curves(history([0.5]))
    assert len(figure.axes) == 1
    assert len(figure.axes[0].lines) == 1
    assert drawn(figure, tmp_path).startswith(PNG)


@pytest.mark.parametrize(
    ("loss", "scale"), [([175.7, 39.18, 0.83], "log"), ([0.25, 0.1, 0.05], "linear"), ([1.0, 0.0], "linear")]
)
def test_the_loss_is_logarithmic_when_it_falls_far(loss, scale, tmp_path):
    figure = plots.learning_curves(history(loss))
    assert figure.axes[0].get_yscale() == scale
    assert drawn(figure, tmp_path).startswith(PNG)


@pytest.mark.slow
def test_digits_show_the_first_50_with_what_is_said_of_them(tmp_path):
    images, labels, predictions, probabilities = answers(60)
    figure = plots.digits(images, labels, predictions, probabilities)
    shown = [image.get_array() for image in figure.axes[0].images]
    np.testing.assert_array_equal(shown, images[:50].reshape(50, 8, 8))
    expected = []
    for label, guess, row in zip(labels[:50], predictions, probabilities, strict=False):
        expected += [f"{guess}" if guess == label else f"{guess}, is {label}", _percent(row[guess])]
    assert texts(figure) == expected
    wrong = (labels != predictions)[:50]
    assert figure.axes[0].get_title(loc="left") == f"The first 50 rows: {wrong.sum()} wrong. {LEGEND}"
    assert drawn(figure, tmp_path).startswith(PNG)


def test_wrong_digits_and_only_those_are_framed_in_red():
    images, labels, predictions, probabilities = answers(30)
    figure = plots.digits(images, labels, predictions, probabilities)
    red = np.array([frame[0] > 0.5 > frame[1] for frame in frames(figure)])
    np.testing.assert_array_equal(red, labels != predictions)


@pytest.mark.parametrize("side", [1, 2, 8, 28])
@pytest.mark.parametrize("flat", [True, False])
def test_images_of_any_square_size(side, flat, tmp_path):
    images, labels, predictions, probabilities = answers(7, k=side * side)
    images = images if flat else images.reshape(7, side, side)
    for draw in (plots.digits, plots.worst_mistakes):
        figure = draw(images, labels, predictions, probabilities)
        assert all(image.get_array().shape == (side, side) for image in figure.axes[0].images)
        assert drawn(figure, tmp_path).startswith(PNG)


@pytest.mark.slow
def test_worst_mistakes_are_the_surest_wrong_answers_in_order(tmp_path):
    images, labels, predictions, probabilities = answers(200)
    figure = plots.worst_mistakes(images, labels, predictions, probabilities)
    confidence = probabilities.max(axis=1)
    wrong = sorted(np.flatnonzero(labels != predictions), key=lambda i: -confidence[i])
    assert len(wrong) > 24
    expected = []
    for i in wrong[:24]:
        expected += [f"{predictions[i]}, is {labels[i]}", f"{_percent(confidence[i])}, row {i}"]
    assert texts(figure) == expected
    shown = [image.get_array() for image in figure.axes[0].images]
    np.testing.assert_array_equal(shown, images[wrong[:24]].reshape(24, 8, 8))
    title = f"{len(wrong)} of 200 rows are wrong; the 24 surest of them. {LEGEND}"
    assert figure.axes[0].get_title(loc="left") == title
    assert drawn(figure, tmp_path).startswith(PNG)


@pytest.mark.parametrize(
    ("probability", "shown"), [(1.0, "100.0%"), (0.9999, ">99.9%"), (0.9994, "99.9%"), (0.5, "50.0%")]
)
def test_nothing_but_certainty_is_shown_as_100_percent(probability, shown):
    figure = plots.digits([[0.5]], [0], [0], [[probability, 1 - probability]])
    assert texts(figure) == ["0", shown]


def test_no_mistakes(tmp_path):
    images, _, predictions, probabilities = answers(5)
    figure = plots.worst_mistakes(images, predictions, predictions, probabilities)
    assert figure.axes[0].get_title(loc="left") == "0 of 5 rows are wrong"
    assert texts(figure) == []
    assert drawn(figure, tmp_path).startswith(PNG)


@pytest.mark.slow
@settings(deadline=None, max_examples=25)
@given(pairs=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60))
def test_confusion_matrix_counts(pairs):
    truth, guess = np.array(pairs).T
    figure = plots.confusion_matrix(truth, guess)
    names = sorted({*truth.tolist(), *guess.tolist()})
    expected = [f"{pairs.count((i, j))}" for i in names for j in names]
    shares = [f"{np.mean(guess[truth == i] == i):.1%}" if (truth == i).any() else "none" for i in names]
    assert texts(figure) == [*expected, "recognised", *shares]
    assert figure.axes[0].get_title(loc="left").startswith(f"{(truth == guess).sum()} of {len(truth)} right")


@pytest.mark.parametrize(
    ("truth", "guess"),
    [([7], [7]), (["cat", "dog", "cat"], ["cat", "cat", "dog"]), (range(15), [*range(1, 15), 0])],
    ids=["one class", "names", "15 classes, all wrong"],
)
def test_confusion_matrix_of_unusual_labels(truth, guess, tmp_path):
    figure = plots.confusion_matrix(list(truth), guess)
    names = [f"{name}" for name in sorted({*truth, *guess})]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == names
    assert drawn(figure, tmp_path).startswith(PNG)


def test_the_weaker_a_class_the_paler_its_cell_of_right_answers():
    truth = np.repeat([0, 1, 2, 3], [10, 10, 10, 100])
    guess = truth.copy()
    guess[[0, 10, 11, 12, 13]] = 2  # 9 of 10, 6 of 10, 10 of 10; and all of 100, of which there are more
    colours = plots.confusion_matrix(truth, guess).axes[0].images[0].get_array()
    brightness = colours[..., :3].sum(axis=2).diagonal()
    assert brightness[1] > brightness[0] > brightness[2] == brightness[3]


def test_a_class_that_is_never_right_has_no_blue():
    colours = plots.confusion_matrix([0, 1], [0, 0]).axes[0].images[0].get_array()
    np.testing.assert_array_equal(colours[1, 1], [1, 1, 1, 1])


def test_a_notebook_shows_a_figure_by_itself():
    figure = plots.learning_curves(history([0.5, 0.3]))
    assert figure._repr_png_().startswith(PNG)


def test_large_counts_have_separators():
    assert texts(plots.confusion_matrix([1] * 1234, [1] * 1234)) == ["1,234", "recognised", "100.0%"]


GOOD = dict(zip(("images", "labels", "predictions", "probabilities"), answers(4), strict=True))


@pytest.mark.parametrize("draw", [plots.digits, plots.worst_mistakes])
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"images": np.zeros((4, 20))}, r"images must be square.*got shape \(4, 20\)"),
        ({"images": np.zeros((4, 4, 16))}, r"images must be square.*got shape \(4, 4, 16\)"),
        ({"images": np.zeros((0, 64))}, r"images must have at least one row: got shape \(0, 64\)"),
        ({"images": 3.0}, r"images must have at least one row: got shape \(\)"),
        ({"labels": np.zeros(5)}, r"labels must be \(4,\), one for each image: got shape \(5,\)"),
        ({"predictions": np.zeros((4, 1))}, r"predictions must be \(4,\).*got shape \(4, 1\)"),
        ({"probabilities": np.zeros(4)}, r"probabilities must be \(4, m\).*got shape \(4,\)"),
        ({"probabilities": np.zeros((3, 10))}, r"probabilities must be \(4, m\).*got shape \(3, 10\)"),
    ],
)
def test_shapes_that_disagree(draw, changed, message):
    with pytest.raises(ValueError, match=message):
        draw(**{**GOOD, **changed})


@pytest.mark.parametrize(("truth", "guess"), [([1, 2], [1]), ([], []), ([[1]], [[1]]), (1, 1)])
def test_labels_that_disagree(truth, guess):
    with pytest.raises(ValueError, match=r"y_true and y_pred must both be \(n,\)"):
        plots.confusion_matrix(truth, guess)


def test_distortions_are_those_of_training():
    images, *_ = answers(7)
    augment = Affine(rotation=20, shift=1)
    (ax,) = plots.distortions(images, augment, seed=3).axes
    assert len(ax.images) == 50  # of five rows
    np.testing.assert_array_equal(ax.images[10].get_array().ravel(), images[1].ravel())
    np.testing.assert_array_equal(ax.images[19].get_array(), augment(images, 3, epoch=8)[1].reshape(8, 8))
    assert [text.get_text() for text in ax.texts[::2]] == [
        "as it is",
        *(f"epoch {epoch}" for epoch in range(1, 10)),
    ] * 5


@pytest.mark.parametrize(
    ("images", "message"), [(np.zeros((0, 64)), "at least one row"), (np.zeros((2, 20)), "square")]
)
def test_distortions_need_images(images, message):
    with pytest.raises(ValueError, match=message):
        plots.distortions(images, Affine())


def test_input_gradients_stand_beside_their_images(tmp_path):
    images, labels, *_ = answers(30)
    net = fastmlp.MLP((64, 8, 10))
    gradients = net.input_gradient(images, labels)
    gradients[3] = 0  # as where the network is quite sure
    figure = plots.input_gradients(images, labels, gradients)
    (ax,) = figure.axes
    assert len(ax.images) == 40  # of 20 rows
    for i, (image, gradient) in enumerate(zip(images[:20], gradients, strict=False)):
        ink, drawn_map = ax.images[2 * i : 2 * i + 2]
        np.testing.assert_array_equal(ink.get_array().ravel(), image)
        np.testing.assert_array_equal(drawn_map.get_array().ravel(), gradient)
        assert ink.get_clim() == (images[:20].min(), images[:20].max())
        largest = np.abs(gradient).max() or 1
        assert drawn_map.get_clim() == pytest.approx((-largest, largest))  # 0 is white
        assert [text.get_text() for text in ax.texts[4 * i : 4 * i + 4]] == [
            f"{labels[i]}",
            "",
            "",
            f"±{np.abs(gradient).max():.2g}",
        ]
    assert drawn(figure, tmp_path).startswith(PNG)


def test_first_weights_are_pictures_of_units(tmp_path):
    net = fastmlp.MLP((64, 70, 10))
    (ax,) = plots.first_weights(net.weights[0]).axes
    assert ax.get_title(loc="left") == "Weights into the first 60 of 70 units: red positive, blue negative"
    assert len(ax.images) == 60
    for unit, picture in enumerate(ax.images):
        np.testing.assert_array_equal(picture.get_array().ravel(), net.weights[0][:, unit])
    few = plots.first_weights(net.weights[0][:, :3])
    assert few.axes[0].get_title(loc="left") == "Weights into 3 units: red positive, blue negative"
    assert drawn(few, tmp_path).startswith(PNG)


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.first_weights(np.zeros(9)), r"weights must be \(k, m\)"),
        (lambda: plots.first_weights(np.zeros((20, 3))), "weights, of each unit, must be square"),
        (lambda: plots.input_gradients(np.zeros((2, 20)), [0, 1], np.zeros((2, 20))), "images must be square"),
        (lambda: plots.input_gradients(np.zeros((2, 9)), [0, 1], np.zeros((2, 16))), "as many rows and pixels"),
        (lambda: plots.input_gradients(np.zeros((2, 9)), [0], np.zeros((2, 9))), "as many rows and pixels"),
        (lambda: plots.spread([], [], 0.9), "accuracies must be"),
        (lambda: plots.spread([history([0.5])], [0.9, 0.8], 0.9), r"accuracies must be \(1,\), one for each history"),
    ],
)
def test_maps_and_spreads_that_cannot_be_drawn(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()


@pytest.mark.slow
def test_the_spread_has_every_networks_curves_and_accuracy(tmp_path):
    losses = [[0.9, 0.5, 0.1], [0.8, 0.4], [0.7, 0.3, 0.02]]  # the second one has stopped early
    histories = [
        history(loss, validation_loss=loss[::-1], validation_accuracy=[0.9 + i / 100] * len(loss))
        for i, loss in enumerate(losses)
    ]
    figure = plots.spread(histories, [0.97, 0.98, 0.975], together=0.985)
    loss, accuracy, test = figure.axes
    for ax, expected in ((loss, [*losses, *(one[::-1] for one in losses)]), (accuracy, [[90] * 3, [91] * 2, [92] * 3])):
        for line, values in zip(ax.lines, expected, strict=True):
            np.testing.assert_array_equal(line.get_xdata(), range(1, len(values) + 1))
            np.testing.assert_allclose(line.get_ydata(), values)
    assert loss.get_yscale() == "log"
    whole, mean, each = test.lines
    assert (whole.get_ydata()[0], mean.get_ydata()[0]) == (98.5, pytest.approx(97.5))
    np.testing.assert_allclose(each.get_ydata(), [97, 98, 97.5])
    words = [[text.get_text() for text in ax.get_legend().get_texts()] for ax in figure.axes]
    assert words == [
        ["training: 0.02 to 0.4 at the end", "validation: 0.7 to 0.9 at the end"],
        ["90.00 to 92.00% at the end"],
        ["the ensemble: 98.50%", "mean of the networks: 97.50%", "each network"],
    ]
    assert drawn(figure, tmp_path).startswith(PNG)


def test_the_spread_of_networks_that_were_not_judged():
    figure = plots.spread([history([0.5]), history([0.6])], [0.5, 0.6], 0.7)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["Loss", "Accuracy on the test set, %"]
    assert len(figure.axes[0].lines) == 2


@pytest.mark.slow
@pytest.mark.parametrize("count", [0, 1, 2])
def test_write_all_writes_what_there_is(count, tmp_path):
    """Without a model, with a network, with an ensemble."""
    images, labels, _, probabilities = answers(30)
    networks = [fastmlp.MLP((64, 8, 10), seed=seed) for seed in range(count)]
    for network in networks:
        network.fit(images, labels, epochs=2, verbose=False)
    model = fastmlp.Ensemble(networks) if count > 1 else networks[0] if count else None
    folder = tmp_path / "new" / "folder"
    names = plots.write_all(folder, history([0.5, 0.2]), images, labels, probabilities, model=model)
    curves = "ensemble.png" if count > 1 else "learning_curves.png"
    maps = ["input_gradients.png", "first_weights.png"] if count else []
    assert sorted(names) == sorted(["confusion_matrix.png", "digits.png", "worst_mistakes.png", curves, *maps])
    assert sorted(file.name for file in folder.iterdir()) == sorted(names)
    assert all((folder / name).read_bytes().startswith(PNG) for name in names)


@pytest.mark.slow
def test_write_all_leaves_out_images_that_are_not_square(tmp_path):
    _, labels, _, probabilities = answers(60)
    names = plots.write_all(tmp_path, history([0.5]), np.zeros((60, 20)), labels, probabilities)
    assert sorted(names) == ["confusion_matrix.png", "learning_curves.png"]
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(names)


@pytest.mark.slow
def test_pyplot_is_left_alone(tmp_path):
    script = f"""
import sys
import numpy as np
import fastmlp
from fastmlp import plots
history = fastmlp.training.History(loss=[1.0], validation_loss=[1.0], validation_accuracy=[1.0], learning_rate=[1.0])
plots.write_all({str(tmp_path)!r}, history, np.eye(4), [0, 1, 1, 1], np.eye(4))
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_without_matplotlib_the_extra_is_named():
    script = """
import sys
sys.modules["matplotlib"] = None
try:
    import fastmlp.plots
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "plots need matplotlib: pip install 'fastmlp[plot]'\n"
