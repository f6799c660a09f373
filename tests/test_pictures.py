"""Pictures of digits: prepared, they are read as MNIST's own are, whatever their size, colours, ground and light."""

import io

import numpy as np
import pytest

import fastmlp
from fastmlp.images import prepare, read_prepared, read_rows

Image = pytest.importorskip("PIL.Image", reason="makes pictures")
ImageDraw = pytest.importorskip("PIL.ImageDraw", reason="draws digits")
ImageFont = pytest.importorskip("PIL.ImageFont", reason="draws digits")

BLACK, WHITE = (0, 0, 0), (255, 255, 255)
FONTS = ["DejaVuSans", "DejaVuSerif", "STIXGeneral"]


@pytest.fixture(scope="module")
def network():
    network = fastmlp.MLP((784, 128, 10))
    network.fit(*fastmlp.load_mnist("train"), epochs=6, verbose=False)
    return network


@pytest.fixture(scope="module")
def digits():
    """Return 1,000 test digits, float32 (1000, 784)."""
    return fastmlp.load_mnist("test")[0][:1000]


@pytest.fixture(scope="module")
def fonts():
    folder = pytest.importorskip("matplotlib", reason="has fonts").get_data_path() + "/fonts/ttf/"
    return {name: f"{folder}{name}.ttf" for name in FONTS}


def painted(coverage, ink=BLACK, paper=WHITE):
    """Return the picture of ink on paper, uint8 (h, w, 3)."""
    return np.rint(coverage[..., None] * ink + (1 - coverage[..., None]) * paper).astype(np.uint8)


def written(digit, font, height, size, place):
    """Return what a printed digit covers of a square, float (size, size)."""
    square = Image.new("L", (size, size))
    face = ImageFont.truetype(font, height)
    left, top, right, bottom = face.getbbox(str(digit))
    x, y = place if place else ((size - right + left) // 2, (size - bottom + top) // 2)
    ImageDraw.Draw(square).text((x - left, y - top), str(digit), fill=255, font=face)
    return np.asarray(square) / 255


def redrawn(row, generator):
    """Return what a digit of MNIST covers when drawn at 20 to 400 pixels somewhere on a larger square."""
    side = int(generator.integers(20, 401))
    drawn = Image.fromarray((row.reshape(28, 28) * 255).astype(np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
    square = np.zeros((int(side * 1.6),) * 2)
    y, x = generator.integers(0, len(square) - side, 2)
    square[y : y + side, x : x + side] = np.asarray(drawn) / 255
    return square


def squeezed(picture):
    """Return the grey 28x28 pixels that someone gets who only resizes."""
    return np.asarray(Image.fromarray(picture).convert("L").resize((28, 28)), np.float32).ravel() / 255


def through(picture, kind, **options):
    """Return the picture as a file of a kind gives it back."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind, **options)
    return Image.open(buffer)


def opaque_by(coverage, colour):
    """Return RGBA of one colour, opaque where it is covered."""
    return np.dstack([np.full((*coverage.shape, 3), colour, np.uint8), np.rint(coverage * 255).astype(np.uint8)])


def uneven(coverage, generator):
    """Return a photograph of sorts: grey ink on grey paper, in light from one side, with noise, as a JPEG."""
    y, x = np.mgrid[0 : 1 : coverage.shape[0] * 1j, 0 : 1 : coverage.shape[1] * 1j]
    light = (1 - 0.3 * x - 0.2 * y)[..., None]
    noise = generator.normal(0, 6, (*coverage.shape, 3))
    pixels = painted(coverage, (50, 50, 60), (205, 200, 190)) * light + noise
    return through(np.clip(pixels, 0, 255).astype(np.uint8), "jpeg", quality=80)


def n_right(network, pictures, labels):
    rows = np.array([prepare(picture).pixels.ravel() for picture in pictures])
    return int((network.predict(rows) == labels).sum())


# ---- MNIST is the measure


@pytest.mark.slow
def test_digits_of_mnist_come_out_as_they_are(network, digits):
    prepared = [prepare(row.reshape(28, 28)) for row in digits]
    rows = np.array([picture.pixels.ravel() for picture in prepared])
    assert np.mean([picture.how == "as it is" for picture in prepared]) > 0.9
    assert np.mean(np.abs(rows - digits)) < 0.005
    labels = fastmlp.load_mnist("test")[1][: len(digits)]
    assert np.mean(network.predict(rows) == labels) >= np.mean(network.predict(digits) == labels) - 0.003


@pytest.mark.slow
def test_redrawn_digits_are_read_as_the_originals(network, digits):
    generator = np.random.default_rng(5)
    pictures = [painted(redrawn(row, generator)) for row in digits[:100]]
    labels = network.predict(digits[:100])
    assert n_right(network, pictures, labels) >= 95
    as_they_are = np.array([squeezed(picture) for picture in pictures])
    assert np.sum(network.predict(as_they_are) == labels) <= 30


# ---- printed digits


@pytest.mark.slow
@pytest.mark.parametrize("font", FONTS)
def test_printed_digits_of_every_style(network, fonts, font):
    generator = np.random.default_rng(6)
    styles = {
        "black on white": ((18, 28, None), painted),
        "white on black": ((18, 28, None), lambda covered: painted(covered, WHITE, BLACK)),
        "large": ((70, 100, None), painted),
        "in a corner": ((40, 300, (10, 10)), painted),
        "yellow on blue": ((70, 128, (40, 5)), lambda covered: painted(covered, (255, 255, 0), (0, 0, 255))),
        "low contrast": ((70, 128, (5, 40)), lambda covered: painted(covered, (120,) * 3, (140,) * 3)),
        "black on nothing": ((70, 128, (40, 5)), lambda covered: opaque_by(covered, 0)),
        "white on nothing": ((70, 128, (40, 5)), lambda covered: opaque_by(covered, 255)),
        "a photograph": ((160, 320, (100, 30)), lambda covered: uneven(covered, generator)),
        "a poor JPEG": ((60, 100, None), lambda covered: through(painted(covered), "jpeg", quality=20)),
    }
    right = {}
    for style, (where, paint) in styles.items():
        pictures = [paint(written(digit, fonts[font], *where)) for digit in range(10)]
        right[style] = n_right(network, pictures, np.arange(10))
    assert min(right.values()) >= 8, right
    plain = np.array([squeezed(painted(written(digit, fonts[font], 18, 28, None))) for digit in range(10)])
    assert np.sum(network.predict(plain) == np.arange(10)) <= 4


# ---- what is done


def bar(ink=0, paper=255, shape=(60, 50)):
    """Return a picture with a bar 40 pixels high and 8 wide, right of the middle."""
    picture = np.full(shape, paper, np.uint8)
    picture[10:50, 30:38] = ink
    return picture


@pytest.mark.parametrize("side", [8, 14, 28, 32, 64])
def test_the_box_and_the_centre_of_mass(side):
    pixels, _ = prepare(bar(), side)
    assert pixels.shape == (side, side)
    assert pixels.dtype == np.float32
    assert pixels.min() == 0
    assert pixels.max() == 1
    rows = np.flatnonzero((pixels > 0.5).any(axis=1))
    assert len(rows) == round(side * 20 / 28)
    centre = np.array([(np.arange(side) * pixels.sum(axis=axis)).sum() for axis in (1, 0)]) / pixels.sum()
    assert (np.abs(centre - side / 2) <= 0.51).all()


@pytest.mark.parametrize(
    ("picture", "how"),
    [
        (bar(), "inverted, scaled to 28x28"),
        (bar(255, 0), "scaled to 28x28"),
        (bar()[::2, ::2], "inverted"),
        (np.pad(np.full((20, 2), 255, np.uint8), ((4, 4), (13, 13))), "as it is"),
        (opaque_by(bar(255, 0) / 255, 0), "transparency taken as ground, scaled to 28x28"),
    ],
    ids=["dark", "light", "of the right size", "as MNIST", "transparent"],
)
def test_how_says_what_was_done(picture, how):
    assert prepare(picture).how == how


def test_uneven_light_is_told():
    assert "ground evened" in prepare(uneven(bar(255, 0) / 255, np.random.default_rng(0))).how


@pytest.mark.parametrize(
    "picture",
    [
        bar(200, 30),
        bar() / 255,
        bar().astype(np.float32) / 255,
        painted(bar(255, 0) / 255, (255, 255, 0), (0, 0, 255)),
        opaque_by(bar(255, 0) / 255, 0),
        opaque_by(bar(255, 0) / 255, 255),
        np.dstack([bar()] * 3 + [np.full_like(bar(), 255)]),
        Image.fromarray(bar()).convert("1"),
        Image.fromarray(bar()).convert("P"),
        Image.fromarray(bar()).convert("LA"),
        Image.fromarray(bar()).convert("RGBA"),
        Image.fromarray(bar()).convert("CMYK"),
        Image.fromarray(bar()).convert("F").point(lambda value: value / 255),
        Image.fromarray(bar().astype(np.uint16) * 257),
        through(bar(), "png", transparency=255),
        through(bar(255, 0), "gif", transparency=0),
    ],
    ids=lambda picture: getattr(picture, "mode", None) or f"{picture.dtype}-{picture.shape}",
)
def test_colours_and_modes_make_no_difference(picture):
    np.testing.assert_allclose(prepare(picture).pixels, prepare(bar()).pixels, atol=0.01)


def test_a_card_with_a_digit_is_no_digit():
    card = np.zeros((100, 90, 4), np.uint8)
    card[20:80, 20:70] = np.dstack([bar()] * 3 + [np.full_like(bar(), 255)])
    np.testing.assert_allclose(prepare(card).pixels, prepare(bar()).pixels, atol=0.01)


def test_the_camera_s_rotation_is_heeded():
    turned = Image.fromarray(np.rot90(bar()))
    exif = turned.getexif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    np.testing.assert_allclose(
        prepare(through(np.rot90(bar()), "png", exif=exif)).pixels, prepare(bar()).pixels, atol=0.01
    )


def test_a_large_photograph():
    large = np.kron(bar(), np.ones((40, 40), np.uint8))
    pixels = prepare(Image.fromarray(large)).pixels
    np.testing.assert_allclose(pixels, prepare(large).pixels, atol=0.01)
    assert (pixels > 0.5).any(axis=1).sum() == 20
    assert (pixels > 0.5).any(axis=0).sum() == 4


def test_specks_and_edges_are_left_out():
    dirty = bar(shape=(80, 80))
    dirty[70:72, 5:7] = 0
    dirty[:, 77:] = 0
    np.testing.assert_allclose(prepare(dirty).pixels, prepare(bar()).pixels, atol=0.01)


# ---- errors


@pytest.mark.parametrize("shape", [(1, 1), (28, 28), (300, 200)])
@pytest.mark.parametrize("level", [0, 130, 255])
def test_an_empty_picture(shape, level):
    with pytest.raises(ValueError, match="the picture is empty: nothing in it differs from its ground"):
        prepare(np.full(shape, level, np.uint8))
    with pytest.raises(ValueError, match="the picture is empty"):
        prepare(Image.new("RGBA", shape, (0, level, 0, 0)))


def test_noise_and_a_page_of_digits():
    noise = np.random.default_rng(2).normal(150, 15, (300, 300, 3)).astype(np.uint8)
    with pytest.raises(ValueError, match=r"no single digit: \d+ marks of like size stand out from its ground"):
        prepare(noise)
    with pytest.raises(ValueError, match="no single digit: 12 marks"):
        prepare(np.tile(bar(), (3, 4)))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(5), r"the shape is \(5,\), wanted \(h, w\), \(h, w, 3\) or \(h, w, 4\)"),
        (np.zeros((5, 5, 2)), r"the shape is \(5, 5, 2\)"),
        (np.zeros((0, 5)), r"the shape is \(0, 5\)"),
        (np.zeros((5, 5), int), "the dtype is int64, wanted uint8"),
        (np.full((5, 5), 2.0), r"the values go from 2 to 2, wanted floats in \[0, 1\]"),
        (np.full((5, 5), np.nan), "the values go from nan to nan"),
    ],
)
def test_arrays_that_are_no_pictures(array, message):
    with pytest.raises(ValueError, match=message):
        prepare(array)


# ---- files


def test_image_files_are_prepared_and_arrays_are_not(tmp_path):
    Image.fromarray(bar()).save(tmp_path / "bar.png")
    np.save(tmp_path / "bar.npy", bar()[:28, :28])
    rows, how = read_prepared(tmp_path / "bar.png", 784)
    np.testing.assert_array_equal(rows, prepare(bar()).pixels.reshape(1, 784))
    assert how == "inverted, scaled to 28x28"
    rows, how = read_prepared(tmp_path / "bar.npy", 784)
    np.testing.assert_array_equal(rows, read_rows(tmp_path / "bar.npy", 784))
    assert how == ""


def test_inputs_that_are_no_square_take_images_as_they_are(tmp_path):
    Image.fromarray(bar()).save(tmp_path / "bar.png")
    rows, how = read_prepared(tmp_path / "bar.png", 3000)
    np.testing.assert_array_equal(rows, read_rows(tmp_path / "bar.png", 3000))
    assert how == ""


def test_files_that_cannot_be_prepared_are_named(tmp_path):
    Image.new("L", (30, 30)).save(tmp_path / "empty.png")
    with pytest.raises(ValueError, match=r"/empty\.png: the picture is empty"):
        read_prepared(tmp_path / "empty.png", 784)
    whole = (tmp_path / "empty.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[:45])
    with pytest.raises(fastmlp.FileFormatError, match=r"/cut\.png: not a readable image"):
        read_prepared(tmp_path / "cut.png", 784)
