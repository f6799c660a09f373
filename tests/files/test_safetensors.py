"""The safetensors format, against its own library."""

import io
import json
import struct
import tempfile
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors import SafetensorError, safe_open
from safetensors import numpy as library

from fastmlp.errors import FileFormatError
from fastmlp.files import load, safetensors

FLOATS = arrays.arrays(np.float32, arrays.array_shapes(min_dims=1, max_dims=3, max_side=5))
TENSORS = st.dictionaries(st.text(min_size=1), FLOATS, max_size=5).filter(lambda tensors: "__metadata__" not in tensors)
METADATA = st.dictionaries(st.text(), st.text(), max_size=3)


def read(content):
    """Read what `content` says, from a file, and its tensors."""
    with tempfile.TemporaryFile() as stream:
        stream.write(content)
        stream.seek(0)
        header = safetensors.read_header(stream)
        return header, {name: safetensors.read_tensor(stream, name, t) for name, t in header.tensors.items()}


def described(header, values=b""):
    """Return a file of this header, as text or as what JSON makes of it."""
    text = header if isinstance(header, str) else json.dumps(header)
    return struct.pack("<Q", len(text.encode())) + text.encode() + values


def entry(start, end, shape, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


# ---- what is right


@pytest.mark.slow
@given(tensors=TENSORS, metadata=METADATA)
@settings(deadline=None, max_examples=100)
def test_the_library_reads_what_is_written(tensors, metadata):
    stream = io.BytesIO()
    safetensors.write(stream, tensors, metadata)
    content = stream.getvalue()
    assert struct.unpack("<Q", content[:8])[0] % 8 == 0
    same(library.load(content), tensors)
    header, values = read(content)
    assert header.metadata == metadata
    same(values, tensors)


def test_the_library_reads_the_metadata_too(tmp_path):
    with open(tmp_path / "file", "wb") as stream:
        safetensors.write(stream, {"0.bias": np.ones(2, np.float32)}, {"author": "Zoë"})
    with safe_open(tmp_path / "file", framework="numpy") as file:
        assert file.metadata() == {"author": "Zoë"}


@pytest.mark.slow
@given(tensors=TENSORS.filter(len), metadata=METADATA)  # without tensors the library writes no JSON
@settings(deadline=None, max_examples=100)
def test_what_the_library_writes_is_read(tensors, metadata):
    header, values = read(library.save(tensors, metadata))
    assert header.metadata == metadata
    same(values, tensors)


def same(tensors, expected):
    assert tensors.keys() == expected.keys()
    for name, tensor in tensors.items():
        assert tensor.dtype == np.float32
        assert tensor.shape == expected[name].shape
        assert tensor.tobytes() == expected[name].tobytes()


@pytest.mark.parametrize("dtype", ["F64", "F32", "F16", "BF16"])
def test_values_of_other_types_become_float32(dtype):
    values = [[1.0, -2.5], [0.0, 2.0**15]]
    content = {
        "F64": np.float64(values),
        "F32": np.float32(values),
        "F16": np.float16(values),
        "BF16": (np.float32(values).view(np.uint32) >> 16).astype(np.uint16),
    }[dtype].tobytes()
    _, tensors = read(described({"x": entry(0, len(content), [2, 2], dtype)}, content))
    same(tensors, {"x": np.float32(values)})


def test_what_float32_cannot_hold_is_infinite():
    _, tensors = read(described({"x": entry(0, 8, [1], "F64")}, np.float64([1e300]).tobytes()))
    assert tensors["x"].tolist() == [np.inf]


# ---- what is wrong

GOOD = {"0.weight": entry(0, 24, [2, 3]), "0.bias": entry(24, 32, [2])}
VALUES = np.arange(8, dtype=np.float32).tobytes()


def with_entry(**changes):
    return described({**GOOD, "0.weight": {**GOOD["0.weight"], **changes}}, VALUES)


NONE = "is no safetensors file"
BAD = {
    "nothing": (b"", NONE),
    "seven bytes": (b"{}     ", NONE),
    "a PNG": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", NONE),
    "JSON": (b'{"layer_sizes": [2, 3]}', NONE),
    "text": (b"to be or not to be", NONE),
    "zeros": (bytes(100), NONE),
    "a length beyond all": (b"\xff" * 8 + b"{}", NONE),
    "a length of one more": (struct.pack("<Q", 3) + b"{}", NONE),
    "a zip of torch.save": (b"PK\3\4\0\0\x08\x08" + bytes(100), "torch.load, .* safetensors.torch.save_file"),
    "a pickle of torch.save": (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j" + bytes(100), "perhaps one of torch.save"),
    "no object": (described("[]"), NONE),
    "a space before": (described(" {}"), NONE),
    "not UTF-8": (struct.pack("<Q", 4) + b'{"\xff"', "is not JSON"),
    "half an object": (described('{"0.weight": {'), "is not JSON"),
    "text after it": (described("{} {}"), "is not JSON"),
    "many brackets": (described('{"a":' + "[" * 100_000), "is not JSON"),
    "a very long number": (described('{"a":' + "9" * 100_000 + "}"), "is not JSON|must have dtype"),
    "NaN": (described('{"a": NaN}'), "is not JSON: NaN"),
    "a key twice": (described('{"a": 1, "b": 2, "a": 1}'), "key 'a' is there twice"),
    "an inner key twice": (
        described('{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4], "shape": [1]}}', VALUES[:4]),
        "key 'shape' is there twice",
    ),
    "metadata of numbers": (described({"__metadata__": {"a": 1}}), "__metadata__"),
    "metadata that is a list": (described({"__metadata__": []}), "__metadata__"),
    "a tensor that is a number": (described({"a": 1}), "tensor 'a' must have dtype, shape and data_offsets, got 1"),
    "a tensor without shape": (
        described({"a": {"dtype": "F32", "data_offsets": [0, 0]}}),
        "tensor 'a' must have dtype",
    ),
    "a dtype that is a number": (with_entry(dtype=32), "tensor '0.weight' must have the name of a dtype, got 32"),
    "another dtype": (with_entry(dtype="F16"), r"tensor '0.weight' of F16 \[2, 3\] cannot have data_offsets \[0, 24\]"),
    "a shape that is a number": (with_entry(shape=6), "tensor '0.weight' must have a shape of whole numbers, got 6"),
    "a shape with a fraction": (with_entry(shape=[2, 3.0]), "must have a shape of whole numbers"),
    "a shape with a truth": (with_entry(shape=[6, True]), "must have a shape of whole numbers"),
    "a shape below zero": (with_entry(shape=[-2, -3]), "must have a shape of whole numbers"),
    "a shape of many": (with_entry(shape=[1] * 100_000), "must have a shape of whole numbers"),
    "another shape": (with_entry(shape=[3, 3]), "cannot have data_offsets"),
    "a shape beyond all": (with_entry(shape=[2**62, 2**62]), "cannot have data_offsets"),
    "one offset": (with_entry(data_offsets=[24]), "must have data_offsets of two whole numbers"),
    "offsets below zero": (with_entry(data_offsets=[-24, 0]), "must have data_offsets of two whole numbers"),
    "offsets backwards": (with_entry(data_offsets=[24, 0]), "cannot have data_offsets"),
    "offsets beyond the file": (with_entry(data_offsets=[2**62, 2**62 + 24]), "must start at byte"),
    "an overlap": (described({"a": entry(0, 24, [6]), "b": entry(20, 32, [3])}, VALUES), "must start at byte 24"),
    "the same place": (described({"a": entry(0, 32, [8]), "b": entry(0, 32, [8])}, VALUES), "must start at byte 32"),
    "a hole": (described({"a": entry(0, 24, [6]), "b": entry(28, 32, [1])}, VALUES), "must start at byte 24"),
    "a hole at the start": (described({"a": entry(4, 32, [7])}, VALUES), "must start at byte 0"),
    "bytes after the end": (described(GOOD, VALUES + b"\0"), "must end where the file does"),
    "bytes that lack": (described(GOOD, VALUES[:-1]), "must end where the file does"),
    "offsets backwards of no known type": (
        described({"a": entry(0, 40, [5], "I64"), "b": entry(40, 32, [1], "I64")}, VALUES),
        "must start at byte 40",
    ),
}
# Where reading is stricter than the library.
STRICTER = {"a space before", "a key twice", "an inner key twice", "a shape of many"}


def test_the_bad_files_are_bad_for_their_one_fault():
    header, tensors = read(described(GOOD, VALUES))
    assert header.tensors["0.weight"].shape == [2, 3]
    assert tensors["0.bias"].tolist() == [6, 7]


@pytest.mark.parametrize("case", BAD)
def test_bad_files(case, tmp_path):
    content, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        read(content)
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(FileFormatError, match=rf"file \({len(content)} bytes\): .*"):
        load(tmp_path / "file", activation="relu")


@pytest.mark.parametrize("case", sorted(BAD.keys() - STRICTER))
def test_the_library_refuses_them_too(case):
    with pytest.raises(SafetensorError):
        library.load(BAD[case][0])


@pytest.mark.slow
def test_what_the_library_refuses_of_a_damaged_header_is_refused(tmp_path_factory):
    path = tmp_path_factory.mktemp("fuzz") / "file"
    whole = described(GOOD, VALUES)
    signs = st.one_of(st.integers(0, 255), st.sampled_from(b'0123456789[]{},:" -.eE'))
    changes = st.lists(st.tuples(st.integers(0, len(whole) - len(VALUES) - 1), signs), min_size=1, max_size=3)
    refused = []

    @given(changes=changes)
    @settings(deadline=None, max_examples=400)
    def check(changes):
        content = bytearray(whole)
        for place, value in changes:
            content[place] = value
        try:
            library.load(bytes(content))
        except Exception:
            refused.append(content)
            path.write_bytes(content)
            with pytest.raises(FileFormatError):
                load(path, activation="relu")

    check()
    assert len(refused) > 100


@pytest.mark.parametrize("text", ['{"a":' + "[]," * 10**6 + "1}", " " * (5 << 20)])
def test_a_header_costs_little_memory(text):
    content = described(text)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="header"):
            read(content)
        assert tracemalloc.get_traced_memory()[1] < 100_000_000
    finally:
        tracemalloc.stop()


def test_a_header_that_would_not_be_read_is_not_written():
    tensors = {f"{'n' * 10_000}{i}": np.zeros(1, np.float32) for i in range(500)}
    stream = io.BytesIO()
    with pytest.raises(ValueError, match=r"500 tensors have a header of 50[0-9]+ bytes; at most 4194304 are read"):
        safetensors.write(stream, tensors, {})
    assert not stream.getvalue()
