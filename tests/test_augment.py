"""Distortions of images: against their specification, that against SciPy, and rows that are made in the engine."""

import pickle
import re

import numpy as np
import pytest

import fastmlp
from fastmlp import reference, reference_augment
from fastmlp.augment import Affine, Compose, Elastic

AFFINE = Affine(rotation=20, scale=0.2, shear=(-0.3, 0.1), shift=2)
DISTORTIONS = (AFFINE, Elastic(), Compose(AFFINE, Elastic(alpha=20, sigma=2.5)))
SHAPES = ((1, 1), (1, 9), (5, 4), (15, 16), (28, 28), (33, 65), (70, 17))


def shaped(augment, shape):
    """The same distortion, of images of this shape."""
    parts = [
        part
        for part in (
            augment.affine
            and Affine(
                augment.affine.rotation, augment.affine.scale, augment.affine.shear, augment.affine.shift, shape=shape
            ),
            augment.elastic and Elastic(augment.elastic.alpha, augment.elastic.sigma, shape=shape),
        )
        if part
    ]
    return Compose(*parts)


def images_of(n, shape, seed=0):
    """Random images, of which some pixels are 0."""
    rng = np.random.default_rng(seed)
    return (rng.random((n, *shape)) * (rng.random((n, *shape)) < 0.6)).astype(np.float32)


@pytest.mark.parametrize("augment", DISTORTIONS, ids=str)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n_threads", [1, 2])
def test_images_are_as_specified(augment, shape, n_threads, assert_close):
    images = images_of(9, shape)
    made = augment(images, 5, epoch=2, n_threads=n_threads)
    assert made.dtype == np.float32
    # What is summed: the terms of a pixel's place, 65 rounding errors of which move it between pixels.
    assert_close(made, reference_augment.distort(augment, images, 5, epoch=2), "distort", sum(shape), sum(shape))
    rows = images.reshape(9, -1)
    np.testing.assert_array_equal(shaped(augment, shape)(rows, 5, epoch=2), made.reshape(9, -1))


@pytest.mark.parametrize("shape", SHAPES)
def test_the_specification_is_that_of_scipy(shape):
    ndimage = pytest.importorskip("scipy.ndimage")
    (image,) = images_of(1, shape)
    for sigma in (0.4, 1, 4, 12.3):
        expected = ndimage.gaussian_filter(image.astype(np.float64), sigma, mode="constant")
        np.testing.assert_allclose(reference_augment.smoothed(image, sigma), expected, atol=1e-14)
    for augment in DISTORTIONS:
        columns, rows = reference_augment.sources(augment, shape, key=7, row=3)
        expected = ndimage.map_coordinates(image.astype(np.float64), (rows, columns), order=1, mode="grid-constant")
        np.testing.assert_allclose(reference_augment.bilinear(image, (columns, rows)), expected, atol=1e-14)


def test_an_affine_distortion_is_that_of_scipy():
    """Turned, larger and moved by fixed numbers: in SciPy's terms, from a place of the new image to one of the old."""
    ndimage = pytest.importorskip("scipy.ndimage")
    (image,) = images_of(1, (21, 30))
    angle, shape = np.deg2rad(30), np.array(image.shape)
    # Rows and columns count from the upper left corner, so against the clock is from columns to rows here.
    turned = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = np.linalg.inv(turned @ np.diag([1.25, 1.25]))
    offset = (shape - 1) / 2 - matrix @ ((shape - 1) / 2 + 2)
    expected = ndimage.affine_transform(image.astype(np.float64), matrix, offset, order=1, mode="grid-constant")
    affine = Affine(rotation=(30, 30), scale=(1.25, 1.25), shift=(2, 2))
    np.testing.assert_allclose(affine(image[np.newaxis])[0], expected, atol=1e-5)


def test_draws_are_uniform():
    n = 20000
    sources = reference.draws(11, range(n), range(8)) / 2**32
    assert np.abs(sources.mean(axis=0) - 0.5).max() < 4 / np.sqrt(12 * n)
    assert np.abs(np.corrcoef(sources.T) - np.eye(8)).max() < 4.5 / np.sqrt(n)
    assert np.abs(np.corrcoef(sources[1:, 0], sources[:-1, 0])[0, 1]) < 4 / np.sqrt(n)


def test_no_distortion_leaves_images_as_they_are():
    images = images_of(5, (28, 28))
    for augment in (Affine(), Elastic(alpha=0), Compose(Affine(), Elastic(alpha=0))):
        np.testing.assert_array_equal(augment(images), images)


def test_images_differ_by_seed_epoch_and_row():
    images = np.repeat(images_of(1, (28, 28)), 3, axis=0)
    for augment in DISTORTIONS:
        made = [image for seed in (0, 1) for epoch in (0, 1) for image in augment(images, seed, epoch=epoch)]
        assert len({image.tobytes() for image in made}) == 12


def test_what_images_may_be():
    bytes_of_pixels = (255 * images_of(3, (8, 8))).astype(np.uint8)
    made = AFFINE(bytes_of_pixels, 1)
    np.testing.assert_array_equal(made, AFFINE(bytes_of_pixels.astype(np.float32), 1))
    np.testing.assert_array_equal(made, AFFINE(np.asfortranarray(bytes_of_pixels.astype(float)), 1))
    assert AFFINE(np.zeros((0, 64)), 1).shape == (0, 64)


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (ValueError, "images must have rows that are square images", lambda: AFFINE(np.zeros((2, 785)))),
        (ValueError, "images must have rows of 20 pixels", lambda: Affine(shape=(4, 5))(np.zeros((2, 16)))),
        (ValueError, "images must have rows of 20 pixels", lambda: Affine(shape=(4, 5))(np.zeros((2, 5, 4)))),
        (ValueError, r"images must have shape", lambda: AFFINE(np.zeros(784))),
        (ValueError, "images must be finite", lambda: AFFINE(np.full((1, 4), np.nan))),
        (TypeError, "images must be an array of real numbers", lambda: AFFINE([["a"]])),
        (TypeError, "images must be an array of real numbers, not NoneType", lambda: AFFINE(None)),
        (TypeError, "seed", lambda: AFFINE(np.zeros((1, 4)), 0.5)),
        (ValueError, "epoch", lambda: AFFINE(np.zeros((1, 4)), epoch=-1)),
        (ValueError, "n_threads", lambda: AFFINE(np.zeros((1, 4)), n_threads=0)),
        (ValueError, "rotation must be at least 0", lambda: Affine(rotation=-1)),
        (TypeError, "rotation must be a finite number", lambda: Affine(rotation=np.inf)),
        (TypeError, "rotation must be a number or a pair", lambda: Affine(rotation=(1, 2, 3))),
        (ValueError, "shift must be a pair", lambda: Affine(shift=(1, -1))),
        (ValueError, "scale must be factors", lambda: Affine(scale=1)),
        (ValueError, "scale must be factors", lambda: Affine(scale=(0, 2))),
        (TypeError, "shear must be a finite number", lambda: Affine(shear="x")),
        (ValueError, "shape must be at least 1", lambda: Affine(shape=(0, 2))),
        (TypeError, "shape must be a pair", lambda: Elastic(shape=28)),
        (ValueError, "alpha must be from 0 to 1e6", lambda: Elastic(alpha=-1)),
        (ValueError, "alpha must be from 0 to 1e6", lambda: Elastic(alpha=1e40)),
        (ValueError, "sigma must be greater than 0", lambda: Elastic(sigma=0)),
        (TypeError, "sigma must be a finite number", lambda: Elastic(sigma=None)),
        (ValueError, "one Affine and one Elastic", Compose),
        (ValueError, "one Affine and one Elastic", lambda: Compose(Affine(), Affine())),
        (TypeError, "distortions must be Affine and Elastic", lambda: Compose(Affine)),
        (ValueError, "images of one shape", lambda: Compose(Affine(shape=(2, 3)), Elastic(shape=(3, 2)))),
    ],
)
def test_what_is_refused(error, message, call):
    with pytest.raises(error, match=message):
        call()


# ---- Training on what is distorted -----------------------------------------------------------------------------------


@pytest.fixture(params=["wide", "narrow"])
def net(request):
    """A network whose inputs have masks, and a small one, of which each thread takes rows through all layers."""
    return fastmlp.MLP((100, 70, 3) if request.param == "wide" else (100, 7, 3), seed=4)


@pytest.fixture
def digits():
    return images_of(330, (10, 10)).reshape(330, 100), np.arange(330) % 3


def fitted(net, X, y, epochs=2, **arguments):
    net.fit(X, y, epochs=epochs, batch_size=100, augment=DISTORTIONS[2], verbose=False, **arguments)
    return net.parameters.copy()


def test_an_epoch_trains_on_what_a_call_makes(net, digits):
    X, y = digits
    other = pickle.loads(pickle.dumps(net))
    distorted = fitted(net, X, y, epochs=1)
    other.fit(DISTORTIONS[2](X, net.seed, epoch=0), y, epochs=1, batch_size=100, verbose=False)
    np.testing.assert_allclose(distorted, other.parameters, atol=2e-5)
    fitted(net, X, y, epochs=1)
    other.fit(DISTORTIONS[2](X, net.seed, epoch=1), y, epochs=1, batch_size=100, verbose=False)
    np.testing.assert_allclose(net.parameters, other.parameters, atol=1e-4)
    assert np.abs(net.parameters - distorted).max() > 1e-3


@pytest.mark.parametrize("kind", ["float32", "float64", "uint8", "csr"])
def test_the_bits_depend_on_nothing_but_the_seed(net, digits, kind):
    X, y = digits
    X = np.round(8 * X)
    given = pytest.importorskip("scipy.sparse").csr_array(X * (X < 3)) if kind == "csr" else X.astype(kind)
    before = given.copy()
    weights = np.arange(330) % 4
    expected = None
    for n_threads in (1, 2, 5):
        own = pickle.loads(pickle.dumps(net))
        own.n_threads = n_threads
        found = fitted(own, given, y, sample_weight=weights)
        assert np.array_equal(found, expected if expected is not None else found)
        expected = found
    assert (given != before).sum() == 0
    one = fitted(net, X * (X < 3) if kind == "csr" else X, y, epochs=1, sample_weight=weights)
    again = fitted(net, given, y, epochs=1, sample_weight=weights)
    assert not np.array_equal(one, again)
    assert np.array_equal(again, expected)  # in two calls of fit as in one


def test_what_fit_refuses(digits):
    X, y = digits
    net = fastmlp.MLP((99, 4, 3))
    before = net.parameters.copy()
    with pytest.raises(ValueError, match=r"X must have rows that are square images.*99 is no square"):
        net.fit(X[:, 1:], y, augment=AFFINE)
    with pytest.raises(TypeError, match=re.escape("augment must be fastmlp.augment.Affine, Elastic or Compose")):
        net.fit(X[:, 1:], y, augment="affine")
    assert np.array_equal(net.parameters, before)
    net.fit(X[:, 1:], y, augment=Affine(shift=1, shape=(9, 11)), epochs=1, verbose=False)


@pytest.mark.slow
@pytest.mark.parametrize("density", [0.05, 0.9])
def test_a_batch_in_parts_has_the_same_bits(density):
    """Of more rows than go through 20,000 units at once; and with so few zeros that masks do not pay."""
    rng = np.random.default_rng(1)
    X, y = images_of(300, (8, 8)).reshape(300, 64) * (rng.random((300, 64)) < density), np.arange(300) % 3
    found = set()
    for n_threads in (1, 2):
        net = fastmlp.MLP((64, 20000, 3), seed=2, n_threads=n_threads)
        net.fit(X, y, epochs=1, batch_size=300, augment=DISTORTIONS[2], verbose=False)
        found.add(net.parameters.tobytes())
    assert len(found) == 1


@pytest.mark.parametrize("augment", DISTORTIONS, ids=str)
def test_distortions_are_pickled(augment):
    images = images_of(2, (6, 6))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(augment))(images), augment(images))
