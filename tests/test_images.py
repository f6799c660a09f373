"""Files become rows: every kind of file, every shape, and what is said of those that do not fit."""

import gzip
import io
import pickle
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastmlp import FileFormatError
from fastmlp.images import read_rows

SIDE = 4
K = SIDE * SIDE
PIXELS = np.arange(3 * K, dtype=np.uint8).reshape(3, SIDE, SIDE) * 5
ROWS = PIXELS.reshape(3, K).astype(np.float32) / np.float32(255)


def idx_bytes(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def npy_bytes(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def png_bytes(array: np.ndarray, mode: str | None = None, **options) -> bytes:
    images = pytest.importorskip("PIL.Image", reason="writes an image file")
    image = images.fromarray(array)
    buffer = io.BytesIO()
    (image.convert(mode) if mode else image).save(buffer, "png", **options)
    return buffer.getvalue()


@pytest.fixture
def file(tmp_path):
    """Write a file and return its path."""

    def write(content: bytes, name: str = "a file"):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64, ">f4", np.longdouble])
@pytest.mark.parametrize("shape", [(3, K), (3, SIDE, SIDE), (K,), (SIDE, SIDE)])
def test_npy_of_every_shape_and_dtype(file, shape, dtype):
    n = 3 if shape[0] == 3 else 1
    array = PIXELS[:n].reshape(shape)
    array = array if dtype is np.uint8 else (array / 255).astype(dtype)
    rows = read_rows(file(npy_bytes(array)), K)
    assert rows.dtype == np.float32
    assert rows.flags.c_contiguous
    np.testing.assert_allclose(rows, ROWS[:n], rtol=1e-3 if dtype is np.float16 else 1e-6)


def test_npy_in_fortran_order(file):
    np.testing.assert_array_equal(read_rows(file(npy_bytes(np.asfortranarray(PIXELS))), K), ROWS)


def test_npy_without_rows(file):
    assert read_rows(file(npy_bytes(np.zeros((0, K), np.float32))), K).shape == (0, K)


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("array", [PIXELS, PIXELS.reshape(3, K), PIXELS[0]], ids=["images", "rows", "one image"])
def test_idx(file, array, pack):
    path = file(pack(idx_bytes(array)))
    np.testing.assert_array_equal(read_rows(path, K), ROWS[: 1 if array.ndim == 2 and len(array) == SIDE else 3])


def test_str_and_path_are_taken(file):
    path = file(npy_bytes(PIXELS))
    np.testing.assert_array_equal(read_rows(str(path), K), read_rows(path, K))


@pytest.mark.parametrize("name", ["digit.png", "digit.npy", "digit"])
def test_the_first_bytes_count_not_the_name(file, name):
    np.testing.assert_array_equal(read_rows(file(png_bytes(PIXELS[0]), name), K), ROWS[:1])


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P"])
def test_image_modes(file, mode):
    np.testing.assert_allclose(read_rows(file(png_bytes(PIXELS[1], mode)), K), ROWS[1:2], atol=1 / 255)


def test_bilevel_image(file):
    bits = PIXELS[2] > PIXELS[2].mean()
    np.testing.assert_array_equal(read_rows(file(png_bytes(bits)), K), bits.reshape(1, K))


def test_16_bit_image_keeps_its_range(file):
    deep = (PIXELS[2].astype(np.uint16) * 257).astype(np.uint16)
    np.testing.assert_allclose(read_rows(file(png_bytes(deep)), K), ROWS[2:], rtol=1e-6)


def test_float_image(file, tmp_path):
    images = pytest.importorskip("PIL.Image", reason="writes an image file")
    images.fromarray(ROWS[0].reshape(SIDE, SIDE)).save(tmp_path / "float.tiff")
    np.testing.assert_array_equal(read_rows(tmp_path / "float.tiff", K), ROWS[:1])


def test_colours_are_weighted_as_the_eye_does(file):
    colours = np.zeros((SIDE, SIDE, 3), np.uint8)
    colours[0, :3] = [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
    rows = read_rows(file(png_bytes(colours)), K)
    np.testing.assert_allclose(rows[0, :3], [0.299, 0.587, 0.114], atol=1 / 255)


@pytest.mark.parametrize("ink", [0, 255])
def test_transparent_is_black(file, ink):
    image = np.full((SIDE, SIDE, 4), ink, np.uint8)
    image[..., 3] = 0
    image[0, 0] = 255
    expected = np.zeros((1, K))
    expected[0, 0] = 1
    np.testing.assert_array_equal(read_rows(file(png_bytes(image)), K), expected)


def test_transparent_palette_colour_is_black(file):
    levels = np.where(PIXELS[0] > 0, np.uint8(200), np.uint8(0))
    rows = read_rows(file(png_bytes(levels, transparency=200)), K)
    np.testing.assert_array_equal(rows, np.zeros((1, K)))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (
            np.zeros((3, 15)),
            r"the shape is \(3, 15\), the network takes \(16,\), \(n, 16\), \(4, 4\) or \(n, 4, 4\)",
        ),
        (np.zeros((2, 8)), r"the shape is \(2, 8\), the network takes"),
        (np.zeros(()), r"the shape is \(\), the network takes"),
        (np.zeros((1, 1, 4, 4)), r"the shape is \(1, 1, 4, 4\), the network takes"),
        (np.zeros((0,)), r"the shape is \(0,\), the network takes"),
        (np.zeros(16, int), r"the dtype is int64, wanted uint8 \(0 to 255\) or floats in \[0, 1\]"),
        (np.zeros(16, np.uint16), "the dtype is uint16, wanted uint8"),
        (np.zeros(16, bool), "the dtype is bool, wanted uint8"),
        (np.zeros(16, complex), "the dtype is complex128, wanted uint8"),
        (np.array(["a"] * 16), "the dtype is <U1, wanted uint8"),
        (np.linspace(0, 255, 16), r"the values go from 0 to 255, wanted floats in \[0, 1\]"),
        (np.linspace(-1, 1, 16), "the values go from -1 to 1, wanted"),
        (np.full(16, np.nan), "the values go from nan to nan, wanted"),
        (np.full(16, np.inf), "the values go from inf to inf, wanted"),
    ],
)
def test_arrays_that_do_not_fit(file, array, message):
    with pytest.raises(ValueError, match=message) as caught:
        read_rows(file(npy_bytes(array), "wrong.npy"), K)
    assert "wrong.npy: " in str(caught.value)


def test_labels_are_no_images(file):
    with pytest.raises(ValueError, match=r"the shape is \(5,\), the network takes \(16,\)"):
        read_rows(file(idx_bytes(np.zeros(5, np.uint8))), K)


def test_image_of_another_size(file):
    with pytest.raises(ValueError, match=r"tall.png: the image is 4x6, the network takes 4x4"):
        read_rows(file(png_bytes(np.zeros((6, 4), np.uint8)), "tall.png"), K)
    with pytest.raises(ValueError, match="the image is 2x8, the network takes 4x4"):
        read_rows(file(png_bytes(np.zeros((8, 2), np.uint8))), K)


def test_inputs_that_are_no_square(file):
    assert read_rows(file(npy_bytes(np.ones((2, 3, 5)))), 15).shape == (2, 15)
    assert read_rows(file(png_bytes(np.zeros((5, 3), np.uint8))), 15).shape == (1, 15)
    with pytest.raises(ValueError, match=r"\(15,\), \(n, 15\) or images of 15 pixels"):
        read_rows(file(npy_bytes(np.ones((2, 16)))), 15)
    with pytest.raises(ValueError, match="the image is 4x4, the network takes 15 pixels"):
        read_rows(file(png_bytes(np.zeros((4, 4), np.uint8))), 15)


def test_a_missing_file_and_a_directory(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_rows(tmp_path / "absent.png", K)
    with pytest.raises(IsADirectoryError):
        read_rows(tmp_path, K)


@pytest.mark.parametrize("content", [b"", b"\0", b"\0\0\x08", b"\x93", b"a text, no image", b"\0\0\x0a\0 a TGA?"])
def test_a_file_of_no_known_kind(file, content):
    pytest.importorskip("PIL", reason="what is neither .npy nor IDX is left to Pillow")
    with pytest.raises(FileFormatError, match=r"neither an image, nor a \.npy file, nor an IDX file"):
        read_rows(file(content), K)


@pytest.mark.parametrize("keep", [5, 9, 60, 127, 140])
def test_truncated_npy(file, keep):
    with pytest.raises(FileFormatError, match=r"not a readable \.npy file"):
        read_rows(file(npy_bytes(PIXELS)[:keep]), K)


def test_truncated_idx(file):
    with pytest.raises(FileFormatError):
        read_rows(file(idx_bytes(PIXELS)[:-1]), K)


def test_truncated_image(file):
    whole = png_bytes(PIXELS[0])
    # the last bytes are checksums, which Pillow does not need
    for keep in range(8, whole.index(b"IDAT") + 10):
        with pytest.raises(FileFormatError):
            read_rows(file(whole[:keep]), K)


class Bomb:
    def __reduce__(self):
        return (exec, ("raise SystemExit('executed')",))


def test_pickles_are_not_executed(file):
    header = npy_bytes(np.array([None] * K))
    with pytest.raises(FileFormatError, match="Python objects"):
        read_rows(file(header[: header.index(b"\x80")] + pickle.dumps(Bomb())), K)


@pytest.mark.parametrize(
    ("side", "message"),
    [(12_000, "the image is 12000x12000"), (200_000, "not a readable image: .*exceeds limit")],
)
def test_an_enormous_image_is_refused_unread(file, side, message):
    whole = bytearray(png_bytes(PIXELS[0]))
    whole[16:24] = struct.pack(">II", side, side)
    whole[29:33] = struct.pack(">I", zlib.crc32(whole[12:29]))
    with pytest.raises(ValueError, match=message):
        read_rows(file(bytes(whole)), K)


def test_a_huge_array_is_refused_unread(tmp_path):
    # a sparse file of 64 GiB
    path = tmp_path / "huge.npy"
    np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(2**34,)).flush()
    with pytest.raises(ValueError, match=r"the shape is \(17179869184,\)"):
        read_rows(path, K)


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    start=st.sampled_from(
        [b"", b"\x93NUMPY\x01\0", b"\0\0\x08\x02", b"\x1f\x8b\x08", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM"]
    ),
    rest=st.binary(max_size=80),
)
def test_any_bytes_give_rows_or_an_error_that_names_the_file(file, start, rest):
    path = file(start + rest)
    try:
        told, shape = str(path), read_rows(path, K).shape
    except ValueError as error:
        told, shape = str(error), (0, K)
    assert told.startswith(str(path))
    assert shape[1:] == (K,)


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(side=st.integers(1, 9), n=st.integers(0, 5), square=st.booleans(), seed=st.integers(0, 99))
def test_rows_of_any_size(file, side, n, square, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (n, side, side), dtype=np.uint8)
    array = pixels if square else pixels.reshape(n, side * side)
    rows = read_rows(file(npy_bytes(array)), side * side)
    np.testing.assert_allclose(rows * 255, pixels.reshape(n, side * side), rtol=1e-6)


def test_without_pillow_images_name_the_extra_and_arrays_work(file, tmp_path):
    image, array = file(png_bytes(PIXELS[0]), "a.png"), file(npy_bytes(PIXELS), "a.npy")
    script = f"""
import sys
sys.modules["PIL"] = None
from fastmlp.images import read_rows
assert read_rows({str(array)!r}, {K}).shape == (3, {K})
try:
    read_rows({str(image)!r}, {K})
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == f"{image}: image files need Pillow: pip install 'fastmlp[images]'\n"
