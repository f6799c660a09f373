"""The IDX reader and the MNIST files."""

import contextlib
import gzip
import hashlib
import os
import shutil
import struct
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from fastmlp.datasets import digits, load_mnist, read_idx
from fastmlp.errors import FileFormatError

CODES = {"uint8": 0x08, "int8": 0x09, "int16": 0x0B, "int32": 0x0C, "float32": 0x0D, "float64": 0x0E}


def header(code: int, *shape: int) -> bytes:
    return struct.pack(f">HBB{len(shape)}I", 0, code, len(shape), *shape)


def idx(array: np.ndarray) -> bytes:
    big_endian = array.astype(array.dtype.newbyteorder(">"))
    return header(CODES[array.dtype.name], *array.shape) + big_endian.tobytes()


def written(folder: Path | str, content: bytes) -> Path:
    path = Path(folder) / "file.idx"
    path.write_bytes(content)
    return path


# ---- read_idx: what is right


@pytest.mark.slow
@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
@given(
    array=st.sampled_from(sorted(CODES)).flatmap(
        lambda dtype: npst.arrays(dtype, npst.array_shapes(min_dims=0, max_dims=6, min_side=0, max_side=4))
    )
)
@settings(deadline=None)
def test_round_trip_of_every_type_and_rank(compress, array):
    with tempfile.TemporaryDirectory() as folder:
        read = read_idx(written(folder, compress(idx(array))))
    assert read.shape == array.shape
    assert read.dtype == array.dtype
    assert read.dtype.isnative
    assert read.tobytes() == array.tobytes()
    assert read.flags.c_contiguous
    assert read.flags.writeable


def test_rank_zero_is_one_item(tmp_path):
    assert read_idx(written(tmp_path, b"\0\0\x0b\0" + b"\x01\x02")) == 0x0102


def test_as_many_dimensions_as_numpy_always_had(tmp_path):
    array = np.arange(2, dtype=np.int16).reshape((1,) * 31 + (2,))
    np.testing.assert_array_equal(read_idx(written(tmp_path, idx(array))), array)


def test_gzip_is_told_from_the_content(tmp_path):
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    for name, content in [("plain.gz", idx(array)), ("zipped", gzip.compress(idx(array)))]:
        (tmp_path / name).write_bytes(content)
        np.testing.assert_array_equal(read_idx(str(tmp_path / name)), array)


def test_more_than_a_chunk(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, 2_500_001).astype(np.uint8)
    for content in idx(array), gzip.compress(idx(array), 1):
        np.testing.assert_array_equal(read_idx(written(tmp_path, content)), array)


def test_gzip_in_several_members(tmp_path):
    array = np.arange(200, dtype=np.float32)
    content = gzip.compress(idx(array)[:100]) + gzip.compress(idx(array)[100:])
    np.testing.assert_array_equal(read_idx(written(tmp_path, content)), array)


# ---- read_idx: what is wrong

SHORTS = header(0x0B, 2, 3) + bytes(12)

DEFECTS = {
    "empty": (b"", "ends at byte 0, within the 4 bytes"),
    "three bytes": (SHORTS[:3], "ends at byte 3, within the 4 bytes"),
    "not IDX": (b"PK\x03\x04" + bytes(40), "bytes 0 and 1 are 0x504b, an IDX file begins with 0x0000"),
    "second byte": (b"\0\x01" + SHORTS[2:], "bytes 0 and 1 are 0x0001"),
    "unknown type": (b"\0\0\x0a\x01" + bytes(40), "byte 2 is 0x0a, the IDX types are 0x08, 0x09, 0x0b"),
    "within the dimensions": (SHORTS[:10], "ends at byte 10, the sizes of 2 dimensions take 12 bytes"),
    "one byte too many": (SHORTS + b"x", r"goes on after byte 24, where shape \(2, 3\) of int16 from byte 4"),
    "too many dimensions": (header(0x08, *[1] * 255) + b"x", "from byte 4 on is too much for NumPy"),
    "empty but too large": (header(0x08, 0, *[2**32 - 1] * 3), "from byte 4 on is too much for NumPy"),
}


@pytest.mark.parametrize(("content", "message"), DEFECTS.values(), ids=DEFECTS)
def test_defects(tmp_path, content, message):
    path = written(tmp_path, content)
    with pytest.raises(FileFormatError, match=message) as plain:
        read_idx(path)
    assert str(path) in str(plain.value)
    written(tmp_path, gzip.compress(content))
    with pytest.raises(FileFormatError, match=f"decompressed: .*{message}"):
        read_idx(path)


def test_truncated_data(tmp_path):
    with pytest.raises(FileFormatError, match="needs 24 bytes, the file can hold no more than 23"):
        read_idx(written(tmp_path, SHORTS[:-1]))
    with pytest.raises(FileFormatError, match=r"decompressed: ends at byte 23, .* needs 24 bytes"):
        read_idx(written(tmp_path, gzip.compress(SHORTS[:-1])))


def test_truncated_gzip_names_the_byte_of_the_compressed_file(tmp_path):
    zipped = gzip.compress(SHORTS)
    for length in range(2, len(zipped)):
        with pytest.raises(FileFormatError, match=f"broken gzip data at or before byte {length} of {length}: "):
            read_idx(written(tmp_path, zipped[:length]))


def test_wrong_gzip_checksum(tmp_path):
    zipped = bytearray(gzip.compress(SHORTS))
    zipped[-8] ^= 1
    with pytest.raises(FileFormatError, match="CRC"):
        read_idx(written(tmp_path, zipped))


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
@given(data=st.data())
@settings(deadline=None)
def test_no_damaged_file_gives_another_error(compress, data):
    content = bytearray(compress(idx(np.arange(12, dtype=np.int16).reshape(3, 4))))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))]
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(FileFormatError):
        assert isinstance(read_idx(written(folder, content)), np.ndarray)


@pytest.mark.parametrize(
    "content",
    [
        header(0x0E, 2**20, 2**20),
        gzip.compress(header(0x0E, 2**20, 2**20)),
        gzip.compress(header(0x08, 2**20, 2**20) + bytes(50_000_000)),
        gzip.compress(header(0x08, 10) + bytes(50_000_000)),
        gzip.compress(header(0x08, 2**29) + np.random.default_rng(0).bytes(600_000)),
        header(0x0E, *[2**32 - 1] * 255),
        header(0x08, 2**32 - 1, 2**32 - 1, 2**32 - 1, 2**32 - 1, 2**31),
    ],
    ids=[
        "plain",
        "gzip",
        "bomb, too short",
        "bomb, too long",
        "just possible",
        "huge product",
        "product 0 modulo 2**64",
    ],
)
def test_a_lying_header_costs_no_memory(tmp_path, content):
    path = written(tmp_path, content)
    tracemalloc.start()
    try:
        with pytest.raises(FileFormatError, match=r"can hold no more than|(goes on after|ends at) byte"):
            read_idx(path)
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


def test_errors_of_the_operating_system(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent"):
        read_idx(tmp_path / "absent.idx")
    with pytest.raises(OSError, match=tmp_path.name):
        read_idx(tmp_path)
    with pytest.raises(TypeError, match="not int"):
        read_idx(3)


# ---- load_mnist: the built-in files

FIRST_ROWS = {
    "train": [7, 3, 4, 6, 1, 8, 1, 0, 9, 8],
    "validation": [5, 0, 4, 1, 9, 2, 1, 3, 1, 4],
    "test": [7, 2, 1, 0, 4, 1, 4, 9, 5, 9],
    "train+validation": [5, 0, 4, 1, 9, 2, 1, 3, 1, 4],
}
LABEL_COUNTS = {
    "train": [5444, 6179, 5470, 5638, 5307, 4987, 5417, 5715, 5389, 5454],
    "validation": [479, 563, 488, 493, 535, 434, 501, 550, 462, 495],
    "test": [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
    "train+validation": [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
}


@pytest.mark.slow
@pytest.mark.parametrize("split", FIRST_ROWS)
def test_splits(split):
    X, y = load_mnist(split)
    n = sum(LABEL_COUNTS[split])
    assert X.shape == (n, 784)
    assert X.dtype == np.float32
    assert X.flags.c_contiguous
    assert X.min() == 0
    assert X.max() == 1
    assert y.shape == (n,)
    assert y.dtype == np.int64
    assert y[:10].tolist() == FIRST_ROWS[split]
    assert np.bincount(y).tolist() == LABEL_COUNTS[split]


@pytest.mark.slow
def test_train_and_validation_are_the_training_file():
    X, y = load_mnist("train+validation")
    for split, rows in [("validation", slice(5000)), ("train", slice(5000, None))]:
        part_X, part_y = load_mnist(split)
        np.testing.assert_array_equal(part_X, X[rows])
        np.testing.assert_array_equal(part_y, y[rows])
    assert np.count_nonzero((X != 0).any(axis=0)) == 717
    assert round(float((X != 0).mean()), 3) == 0.191
    pixels = read_idx(Path(digits._BUILT_IN) / "train-images-idx3-ubyte.gz")
    np.testing.assert_array_equal(X[12345], pixels[12345].ravel() / np.float32(255))


def test_one_hot():
    _, y = load_mnist("test")
    X, rows = load_mnist("test", one_hot=True)
    assert X.shape == (10000, 784)
    assert rows.shape == (10000, 10)
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows.argmax(axis=1), y)
    np.testing.assert_array_equal(rows.sum(axis=1), 1)


@pytest.mark.slow
def test_memory_is_the_result_and_the_bytes():
    tracemalloc.start()
    try:
        X, _ = load_mnist("train")
        assert tracemalloc.get_traced_memory()[1] < X.nbytes + 60_000 * 784 + 10_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_the_licence_lists_the_data_as_they_are():
    licence = (Path(digits._BUILT_IN) / "LICENSE.md").read_text(encoding="utf-8")
    for name in digits._SHA256:
        content = gzip.decompress((Path(digits._BUILT_IN) / name).read_bytes())
        assert f"{hashlib.sha256(content).hexdigest()}  {name.removesuffix('.gz')}\n" in licence


@pytest.mark.slow
def test_a_changed_built_in_file_is_refused(tmp_path, monkeypatch):
    folder = shutil.copytree(digits._BUILT_IN, tmp_path / "mnist")
    monkeypatch.setattr(digits, "_BUILT_IN", str(folder))
    load_mnist("test")
    labels = gzip.decompress((folder / "t10k-labels-idx1-ubyte.gz").read_bytes())
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels[:-1] + b"\0"))
    with pytest.raises(FileFormatError, match=r"t10k-labels-idx1-ubyte\.gz: SHA-256 is [0-9a-f]{64}, wanted b916"):
        load_mnist("test")
    load_mnist("validation")


@pytest.mark.parametrize("split", ["Train", "", "val", None, ["test"]])
def test_unknown_split(split):
    with pytest.raises(ValueError, match=r"split must be one of 'train', 'validation', 'test', .*, got"):
        load_mnist(split)


# ---- load_mnist: a directory of one's own

NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5003, 2, 3)).astype(np.uint8)
    test_images = rng.integers(0, 256, (4, 2, 3)).astype(np.uint8)
    labels = (np.arange(5003) % 7).astype(np.uint8)
    return dict(zip(NAMES, (images, labels, test_images, np.uint8([3, 11, 0, 1])), strict=True))


@pytest.fixture(params=["plain", "gzip", "dot", "dot gzip"])
def folder(request, tmp_path, arrays):
    for name, array in arrays.items():
        file = name.replace("-idx", ".idx") if "dot" in request.param else name
        if "gzip" in request.param:
            (tmp_path / f"{file}.gz").write_bytes(gzip.compress(idx(array)))
        else:
            (tmp_path / file).write_bytes(idx(array))
    return tmp_path


def test_directory(folder, arrays):
    images, labels, test_images, test_labels = arrays.values()
    X, y = load_mnist(path=folder)
    np.testing.assert_array_equal(X, images[5000:].reshape(3, 6) / np.float32(255))
    np.testing.assert_array_equal(y, labels[5000:])
    assert load_mnist("validation", path=str(folder))[0].shape == (5000, 6)
    X, y = load_mnist("train+validation", path=folder)
    np.testing.assert_array_equal(y, labels)
    X, y = load_mnist("test", path=folder)
    np.testing.assert_array_equal(X, test_images.reshape(4, 6) / np.float32(255))
    np.testing.assert_array_equal(y, test_labels)


def test_every_split_has_the_same_number_of_classes(folder):
    for split in FIRST_ROWS:
        assert load_mnist(split, one_hot=True, path=folder)[1].shape[1] == 12


@pytest.fixture
def plain(tmp_path, arrays):
    for name, array in arrays.items():
        (tmp_path / name).write_bytes(idx(array))
    return tmp_path


def test_only_the_files_of_the_split_are_read(plain):
    for name in NAMES[:2]:
        (plain / name).write_bytes(b"not IDX")
    assert load_mnist("test", path=plain)[1].tolist() == [3, 11, 0, 1]
    with pytest.raises(FileFormatError, match="train-labels-idx1-ubyte: bytes 0 and 1"):
        load_mnist("test", path=plain, one_hot=True)


def test_missing_directory_and_file(plain):
    with pytest.raises(FileNotFoundError, match=r"path must be an existing directory, got .*absent"):
        load_mnist(path=plain / "absent")
    (plain / NAMES[2]).unlink()
    with pytest.raises(FileNotFoundError, match=r"neither t10k-images-idx3-ubyte nor t10k-images\.idx3-ubyte"):
        load_mnist("test", path=plain)
    with pytest.raises(TypeError, match="not int"):
        load_mnist("test", path=3)


def test_images_and_labels_of_different_numbers(plain):
    (plain / NAMES[3]).write_bytes(idx(np.zeros(5, np.uint8)))
    with pytest.raises(FileFormatError, match="4 t10k images but 5 t10k labels"):
        load_mnist("test", path=plain)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        (NAMES[2], np.zeros((4, 6), np.uint8), "declare uint8 of rank 2, wanted uint8 of rank 3"),
        (NAMES[2], np.zeros((4, 2, 3), np.float32), "declare float32 of rank 3, wanted uint8 of rank 3"),
        (NAMES[3], np.zeros((4, 1), np.uint8), "declare uint8 of rank 2, wanted uint8 of rank 1"),
        (NAMES[3], np.zeros(4, np.int32), "declare int32 of rank 1, wanted uint8 of rank 1"),
    ],
)
def test_wrong_type_or_rank(plain, name, array, message):
    (plain / name).write_bytes(idx(array))
    with pytest.raises(FileFormatError, match=f"{name}: bytes 2 and 3 {message}"):
        load_mnist("test", path=plain)


def test_too_few_rows_to_validate(plain):
    (plain / NAMES[0]).write_bytes(idx(np.zeros((5000, 2, 3), np.uint8)))
    (plain / NAMES[1]).write_bytes(idx(np.zeros(5000, np.uint8)))
    for split in "train", "validation":
        with pytest.raises(ValueError, match=f"split '{split}' needs more than the 5000 rows .* are 5000"):
            load_mnist(split, path=plain)
    assert len(load_mnist("train+validation", path=plain)[0]) == 5000


def test_no_rows(plain):
    (plain / NAMES[2]).write_bytes(idx(np.zeros((0, 2, 3), np.uint8)))
    (plain / NAMES[3]).write_bytes(idx(np.zeros(0, np.uint8)))
    X, y = load_mnist("test", path=os.fspath(plain), one_hot=True)
    assert X.shape == (0, 6)
    assert y.shape == (0, 7)
