"""Saving networks and loading them."""

import json
import os
import struct
import sys
import tracemalloc
import zlib
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from fastmlp.errors import FileFormatError
from fastmlp.files import load, safetensors, save
from fastmlp.network import MLP

SIZES = (5, 4, 3)


def network_of(layer_sizes=SIZES, **arguments):
    """Return a network whose biases are not zero, as they are after training."""
    network = MLP(layer_sizes, **arguments)
    network.parameters[:] = np.random.default_rng(7).normal(size=network.parameters.shape)
    return network


@pytest.fixture
def path(tmp_path):
    return tmp_path / "network.safetensors"


@pytest.fixture
def saved(path):
    save(network_of(), path)
    return path


def resaved(path, *, tensors=(), metadata=(), **fields):
    """Write the network's file again with some of it changed; None takes a thing away."""
    with safe_open(path, framework="numpy") as file:
        old = json.loads(file.metadata()["fastmlp"])
    contents = {**load_file(path), **dict(tensors)}
    described = {"fastmlp": json.dumps(without_none({**old, **fields})), **dict(metadata)}
    save_file(without_none(contents), path, metadata=without_none(described))
    return path


def without_none(entries):
    return {name: value for name, value in entries.items() if value is not None}


# ---- what is right


@pytest.mark.parametrize(
    ("layer_sizes", "arguments"),
    [
        ((5, 4, 3), {}),
        ((1, 1), {"loss": "squared_error", "seed": 2**40}),
        ((70, 130, 65, 10), {"activation": "tanh", "init": "normal", "seed": 3}),
        ((7, 13, 6, 10), {"activation": ("tanh", "relu"), "init": ("he", "lecun", "normal")}),
        ((7, 10), {"activation": ()}),
    ],
)
def test_round_trip(path, layer_sizes, arguments):
    network = network_of(layer_sizes, **arguments)
    save(network, path)
    loaded = load(str(path))
    assert isinstance(loaded, MLP)
    for name in "layer_sizes", "activation", "loss", "init", "seed":
        assert getattr(loaded, name) == getattr(network, name)
    assert loaded.parameters.tobytes() == network.parameters.tobytes()
    X = np.random.default_rng(0).normal(size=(17, layer_sizes[0])).astype(np.float32)
    assert loaded.logits(X).tobytes() == network.logits(X).tobytes()


def test_paths_may_be_bytes(path):
    save(network_of(), os.fsencode(path))
    assert load(os.fsencode(path)).parameters.tobytes() == network_of().parameters.tobytes()


@pytest.mark.parametrize("place", [None, 3, 3.5, ["network"]])
def test_what_is_no_path_is_refused(place):
    for call in (lambda: save(network_of(), place), lambda: load(place)):
        with pytest.raises(TypeError, match="path must be a path, not "):
            call()


def test_names_and_layout_are_those_of_a_torch_sequential(saved):
    network = network_of()
    tensors = load_file(saved)
    assert {name: tensor.shape for name, tensor in tensors.items()} == {
        "0.weight": (4, 5),
        "0.bias": (4,),
        "2.weight": (3, 4),
        "2.bias": (3,),
    }
    for layer, (weight, bias) in enumerate(zip(network.weights, network.biases, strict=True)):
        np.testing.assert_array_equal(tensors[f"{2 * layer}.weight"], weight.T)
        np.testing.assert_array_equal(tensors[f"{2 * layer}.bias"], bias)
    with safe_open(saved, framework="numpy") as file:
        fields = json.loads(file.metadata()["fastmlp"])
    crc32 = fields.pop("crc32")
    assert fields == {
        "format": 1,
        "layer_sizes": [5, 4, 3],
        "activation": "relu",
        "loss": "cross_entropy",
        "init": "he",
        "seed": 0,
    }
    values = b"".join(tensors[name].tobytes() for name in ("0.weight", "0.bias", "2.weight", "2.bias"))
    assert crc32 == zlib.crc32(json.dumps(fields).encode() + values)


def test_torch_computes_the_same_logits(path):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    load_torch = pytest.importorskip("safetensors.torch", reason="compares with PyTorch").load_file
    network = network_of((20, 30, 25, 4))
    save(network, path)
    layers = [torch.nn.Linear(k, m) for k, m in pairwise(network.layer_sizes)]
    model = torch.nn.Sequential(layers[0], torch.nn.ReLU(), layers[1], torch.nn.ReLU(), layers[2])
    model.load_state_dict(load_torch(path))
    X = np.random.default_rng(0).uniform(size=(50, 20)).astype(np.float32)
    with torch.no_grad():
        logits = model(torch.from_numpy(X)).numpy()
    scale = np.abs(logits).max()
    np.testing.assert_allclose(network.logits(X) / scale, logits / scale, rtol=0, atol=1e-5)


def test_what_the_file_says_may_be_said_again_but_not_contradicted(path):
    save(network_of(activation="tanh", loss="squared_error"), path)
    assert load(path, activation="tanh", loss="squared_error").activation == "tanh"
    for name, said, value in [("activation", "tanh", "relu"), ("loss", "squared_error", "cross_entropy")]:
        with pytest.raises(ValueError, match=f"^{name} must be '{said}', as .*, or left out; not '{value}'") as caught:
            load(path, **{name: value})
        assert not isinstance(caught.value, FileFormatError)


def test_activations_of_each_layer_may_be_said_again_but_not_contradicted(path):
    save(network_of((5, 4, 3, 2), activation=("tanh", "relu")), path)
    assert load(path, activation=["tanh", "relu"]).activation == ("tanh", "relu")
    with pytest.raises(ValueError, match=r"^activation must be \('tanh', 'relu'\), as .*; not 'relu'"):
        load(path, activation="relu")
    save(network_of((5, 4, 3, 2)), path)
    assert load(path, activation=["relu", "relu"]).activation == "relu"
    with pytest.raises(ValueError, match="one for each of the 2 hidden layers; not 3"):
        load(path, activation=["relu"] * 3)


@pytest.mark.parametrize("name", ["activation", "loss"])
def test_arguments_are_checked_before_the_file_is_read(name):
    with pytest.raises(ValueError, match=f"^{name} must be one of .*; not 'swoosh'"):
        load("absent", **{name: "swoosh"})
    with pytest.raises(TypeError, match=f"^{name} must be a string"):
        load("absent", **{name: 3})


# ---- saving whole or not at all


def test_the_bytes_depend_on_the_network_only(saved, tmp_path):
    save(network_of(), tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == saved.read_bytes()


def test_a_save_that_fails_leaves_the_old_file(saved, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    before = saved.read_bytes()
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        save(network_of(activation="tanh"), saved)
    assert saved.read_bytes() == before
    monkeypatch.undo()
    save(network_of(activation="tanh"), saved)
    assert load(saved).activation == "tanh"
    assert os.listdir(saved.parent) == [saved.name]


def test_saving_and_loading_take_little_more_memory_than_the_parameters(path):
    network = network_of((300, 400, 400, 10))
    for call in (lambda: save(network, path), lambda: load(path)):
        tracemalloc.start()
        try:
            call()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert network.parameters.nbytes < peak < 1.8 * network.parameters.nbytes


NO_MEMORY = """
import resource, sys
import fastmlp
from fastmlp import files
net = fastmlp.MLP((784, 1000, 1000, 10))
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (int(sys.argv[2]) << 20), resource.RLIM_INFINITY))
try:
    net.save(sys.argv[1])
except MemoryError:
    print("MemoryError")
else:
    print("saved")
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_without_memory_a_save_is_a_memory_error(path, run_python):
    said = set()
    for megabytes in (2, 7, 10, 40):
        done = run_python(["-c", NO_MEMORY, str(path), str(megabytes)])
        assert done.returncode == 0, done.stderr
        said.add(done.stdout)
        assert path.exists() == ("saved\n" in said)
    assert said == {"MemoryError\n", "saved\n"}
    assert os.listdir(path.parent) == [path.name]


def test_loading_draws_no_random_numbers(saved, monkeypatch):
    monkeypatch.setattr(np.random, "Generator", None)
    load(saved)
    with pytest.raises(TypeError):
        MLP(SIZES)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_load_would_refuse_is_not_written(saved, value):
    before = saved.read_bytes()
    network = network_of()
    network.weights[1][0, 2] = value
    with pytest.raises(ValueError, match=r"tensor '2\.weight' has NaN or infinity"):
        save(network, saved)
    assert saved.read_bytes() == before


# ---- loading what is wrong


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"format": 2}, "metadata key 'format' must be 1, the one that is known, got 2"),
        ({"format": True}, "metadata key 'format' must be 1"),
        ({"format": None}, "metadata key 'format' must be 1, .* got None"),
        ({"seed": None}, r"metadata keys must be layer_sizes, .*; missing or unknown: \['seed'\]"),
        ({"momentum": 0.5}, r"missing or unknown: \['momentum'\]"),
        ({"dropout": "much"}, "metadata key 'dropout' must be float or list, got 'much'"),
        ({"noise": [0.5, "much"]}, "metadata key 'noise' must be a list of float"),
        ({"input_noise": -1.0}, "input_noise must be finite and at least 0, not -1.0"),
        ({"layer_sizes": "5-4-3"}, "metadata key 'layer_sizes' must be list, got '5-4-3'"),
        ({"layer_sizes": [5]}, r"metadata key 'layer_sizes' must be two sizes or more, got \[5\]"),
        ({"layer_sizes": [5, 4.0, 3]}, r"metadata key 'layer_sizes' must be .*, got \[5, 4.0, 3\]"),
        ({"layer_sizes": [5, True, 3]}, "metadata key 'layer_sizes' must be"),
        ({"layer_sizes": [5, -4, 3]}, "metadata key 'layer_sizes' must be"),
        ({"layer_sizes": [5, 0, 3]}, "metadata key 'layer_sizes' must be"),
        ({"activation": 3}, "metadata key 'activation' must be str or list, got 3"),
        ({"activation": ["relu", "tanh"]}, "activation must be one, or one for each of the 1 hidden layers"),
        ({"activation": [3]}, r"metadata key 'activation' must be a list of str, got \[3\]"),
        ({"activation": "swoosh"}, "activation"),
        ({"loss": ["cross_entropy"]}, "metadata key 'loss' must be str"),
        ({"loss": "swoosh"}, "loss"),
        ({"init": 1.5}, "metadata key 'init' must be str or list, got 1.5"),
        ({"init": "swoosh"}, "init"),
        ({"seed": 1.5}, "metadata key 'seed' must be int, got 1.5"),
        ({"seed": False}, "metadata key 'seed' must be int"),
        ({"seed": -1}, "seed"),
        ({"seed": 1}, "the checksum is wrong"),
        ({"activation": "tanh"}, "the checksum is wrong"),
        ({"crc32": 0}, "the checksum is wrong"),
        ({"crc32": None}, r"missing or unknown: \['crc32'\]"),
        ({"crc32": "0"}, "metadata key 'crc32' must be int, got '0'"),
        ({"layer_sizes": [4, 5, 3]}, r"tensor '0.weight' must have shape \[5, 4\] by .*, got \[4, 5\]"),
        ({"layer_sizes": [5, 4, 2]}, r"tensor '2.weight' must have shape \[2, 4\] by .*, got \[3, 4\]"),
        ({"layer_sizes": [5, 4, 3, 2]}, r"tensor '4\.weight' is missing"),
        ({"layer_sizes": [5, 4]}, r"tensor '2\.bias' does not belong to a network of 2 layer sizes"),
    ],
)
def test_wrong_fields(saved, fields, message):
    with pytest.raises(FileFormatError, match=message) as caught:
        load(resaved(saved, **fields))
    assert str(saved) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("2.bias", None, "tensor '2.bias' is missing"),
        ("0.bias", np.zeros(4, np.float32), "the checksum is wrong: a parameter or a metadata key has changed"),
        ("1.weight", np.zeros(3, np.float32), "tensor '1.weight' does not belong"),
        ("0.bias", np.zeros(4, np.float64), "tensor '0.bias' must be F32, got F64"),
        ("0.bias", np.zeros(4, np.int32), "tensor '0.bias' must be F32, got I32"),
        ("0.bias", np.zeros(5, np.float32), r"tensor '0.bias' must have shape \[4\] by .*, got \[5\]"),
        (
            "0.bias",
            np.zeros((4, 1), np.float32),
            r"tensor '0.bias' must have shape \[4\] by .*, got \[4, 1\]",
        ),
        ("0.bias", np.float32([0, np.nan, 0, 0]), "tensor '0.bias' has NaN or infinity"),
        ("2.weight", np.full((3, 4), np.inf, np.float32), "tensor '2.weight' has NaN or infinity"),
    ],
)
def test_wrong_tensors(saved, name, tensor, message):
    with pytest.raises(FileFormatError, match=message):
        load(resaved(saved, tensors={name: tensor}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "metadata key 'fastmlp' is missing: .* give activation=, one of relu, leaky_relu, "),
        ("{", "metadata key 'fastmlp' is not JSON: "),
        ("[" * 100_000, "metadata key 'fastmlp' is not JSON: "),
        ("[1]", r"metadata key 'fastmlp' must hold a JSON object, got \[1\]"),
        ("null", "metadata key 'fastmlp' must hold a JSON object, got None"),
        ("{}", "metadata key 'format' must be 1"),
        (f'{{"format": 1, "seed": {"9" * 5000}}}', "metadata key"),
    ],
)
def test_wrong_metadata(saved, text, message):
    with pytest.raises(FileFormatError, match=message):
        load(resaved(saved, metadata={"fastmlp": text, "other": "kept"}))


def test_every_truncation_and_extension_is_refused(saved):
    whole = saved.read_bytes()
    for content in [*(whole[:length] for length in range(len(whole))), whole + b"\0"]:
        saved.write_bytes(content)
        with pytest.raises(FileFormatError, match=rf"\({len(content)} bytes\): "):
            load(saved)


def test_a_flipped_bit_in_any_byte_is_found(path):
    save(network_of((3, 4, 2), activation="tanh", seed=7), path)
    whole = path.read_bytes()
    load(path)
    for place in range(len(whole)):
        content = bytearray(whole)
        content[place] ^= 1 << place % 8
        path.write_bytes(content)
        with pytest.raises(FileFormatError):
            load(path)


@pytest.mark.slow
def test_a_damaged_file_gives_its_error_or_the_network(tmp_path_factory):
    path = tmp_path_factory.mktemp("fuzz") / "network.safetensors"
    save(network_of(), path)
    whole = path.read_bytes()
    header_end = 8 + struct.unpack("<Q", whole[:8])[0]

    position = st.one_of(st.integers(0, header_end - 1), st.integers(0, len(whole) - 1))
    changes = st.lists(st.tuples(position, st.integers(0, 255)), min_size=1, max_size=3)

    @given(changes=changes, length=st.one_of(st.just(len(whole)), st.integers(0, len(whole))))
    @settings(deadline=None, max_examples=400)
    def check(changes, length):
        content = bytearray(whole)
        for place, value in changes:
            content[place] = value
        path.write_bytes(content[:length])
        try:
            network = load(path)
        except FileFormatError:
            return
        assert network.parameters.tobytes() == network_of().parameters.tobytes()
        assert repr(network) == repr(network_of())

    check()


@pytest.mark.slow
@pytest.mark.parametrize("layer_sizes", [[2**20, 2**20], [5, 2**40, 3], [1] * 100_000])
def test_sizes_that_are_not_in_the_file_cost_no_memory(saved, layer_sizes):
    resaved(saved, layer_sizes=layer_sizes)
    tracemalloc.start()
    try:
        with pytest.raises(FileFormatError, match=r"tensor '0\.weight' must have shape"):
            load(saved)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_a_file_that_is_cut_while_it_is_read(path, monkeypatch):
    save(network_of((50, 40, 3)), path)
    read_header = safetensors.read_header

    def cut(stream):
        header = read_header(stream)
        os.truncate(path, header.tensors["2.weight"].start)
        return header

    monkeypatch.setattr(safetensors, "read_header", cut)
    with pytest.raises(FileFormatError, match=r"tensor '2\.weight' is no longer there: the file has become shorter"):
        load(path)


def test_errors_of_the_operating_system(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent"):
        load(tmp_path / "absent.safetensors")
    with pytest.raises(OSError, match=tmp_path.name):
        load(tmp_path)
