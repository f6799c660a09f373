"""Loading dense layers that PyTorch and other programs wrote."""

from itertools import pairwise

import numpy as np
import pytest
from safetensors.numpy import save_file

import fastmlp
from fastmlp import FileFormatError, reference

SIZES = (5, 4, 3)
NAMES = ("0", "2")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def dense(layer_sizes=SIZES, names=NAMES, dtype=np.float32):
    """Return the tensors of dense layers, as PyTorch's state has them."""
    generator = np.random.default_rng(3)
    tensors = {}
    for name, (k, m) in zip(names, pairwise(layer_sizes), strict=True):
        tensors[f"{name}.weight"] = generator.normal(size=(m, k)).astype(dtype)
        tensors[f"{name}.bias"] = generator.normal(size=m).astype(dtype)
    return tensors


def assert_holds(network, tensors, names=NAMES):
    for name, weights, bias in zip(names, network.weights, network.biases, strict=True):
        np.testing.assert_array_equal(weights, tensors[f"{name}.weight"].T.astype(np.float32))
        np.testing.assert_array_equal(bias, tensors[f"{name}.bias"].astype(np.float32))


# ---- what is right


@pytest.mark.parametrize(
    "names",
    [
        ("0", "2", "4"),
        ("1", "4", "7"),  # Flatten, Linear, ReLU, Dropout, Linear ...
        ("2", "9", "10"),  # whose order is not that of the alphabet
        ("net.0", "net.2", "net.4"),
        ("model.fc1", "model.fc2", "model.fc10"),
        ("layers.0.linear", "layers.1.linear", "layers.2.linear"),
        ("blocks.0.0", "blocks.0.1", "blocks.1.0"),
    ],
)
def test_layers_stand_in_the_order_of_their_numbers(path, names):
    tensors = dense((5, 4, 4, 4), names)
    save_file(dict(reversed(tensors.items())), path)
    network = fastmlp.load(path, activation="tanh")
    assert (network.layer_sizes, network.activation, network.loss) == ((5, 4, 4, 4), "tanh", "cross_entropy")
    assert_holds(network, tensors, names)
    X = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
    expected = reference.forward(network.weights, network.biases, X, "tanh")[-1]
    np.testing.assert_allclose(network.logits(X), expected, atol=1e-5)


@pytest.mark.parametrize("names", [("fc",), ("",)])
def test_a_single_layer(path, names):
    tensors = {name.lstrip("."): tensor for name, tensor in dense((5, 3), names).items()}
    save_file(tensors, path)
    network = fastmlp.load(path, activation="relu")
    np.testing.assert_array_equal(network.weights[0].T, next(t for t in tensors.values() if t.ndim == 2))


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_types_of_float(path, dtype):
    tensors = dense(dtype=dtype)
    save_file(tensors, path, metadata={"format": "pt"})
    assert_holds(fastmlp.load(path, activation="relu"), tensors)


def test_a_layer_without_bias_has_a_bias_of_zero(path):
    tensors = dense()
    del tensors["0.bias"]
    save_file(tensors, path)
    network = fastmlp.load(path, activation="relu")
    assert_holds(network, {**tensors, "0.bias": np.zeros(4)})


def test_a_network_that_is_loaded_is_trained_and_saved_on(path):
    save_file(dense((5, 4, 1)), path)
    network = fastmlp.load(path, activation="tanh", loss="squared_error")
    assert network.loss == "squared_error"
    X = np.random.default_rng(0).normal(size=(64, 5))
    history = network.fit(X, X[:, 0], epochs=5, batch_size=8, verbose=False)
    assert history.loss[-1] < history.loss[0]
    network.save(path)
    assert repr(fastmlp.load(path)) == repr(network)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_torch_computes_the_same_logits(path, dtype):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    nn = torch.nn
    save = pytest.importorskip("safetensors.torch", reason="compares with PyTorch").save_file
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Flatten(), nn.Linear(20, 30), nn.ReLU(), nn.Dropout(0.5)),
        *(nn.Linear(30, 25, bias=False), nn.ReLU(), nn.Linear(25, 4)),
    )
    model = model.to(getattr(torch, dtype)).eval()
    save(model.state_dict(), path)
    network = fastmlp.load(path, activation="relu")
    X = np.random.default_rng(0).uniform(size=(50, 20)).astype(np.float32)
    with torch.no_grad():
        logits = model.float()(torch.from_numpy(X)).numpy()
    scale = np.abs(logits).max()
    np.testing.assert_allclose(network.logits(X) / scale, logits / scale, rtol=0, atol=1e-5)
    assert np.abs(fastmlp.load(path, activation="tanh").logits(X) - logits).max() > 1e-2 * scale


# ---- what is wrong


def test_the_activation_must_be_given(path):
    save_file(dense(), path)
    with pytest.raises(
        FileFormatError, match=r"metadata key 'fastmlp' is missing: .* PyTorch, give activation=, one of"
    ):
        fastmlp.load(path)
    assert_holds(fastmlp.load(path, activation="relu"), dense())


def test_one_output_needs_another_loss(path):
    save_file(dense((5, 4, 1)), path)
    with pytest.raises(FileFormatError, match="at least 2 outputs for loss='cross_entropy', not 1; 'binary"):
        fastmlp.load(path, activation="relu")
    assert fastmlp.load(path, activation="relu", loss="binary_cross_entropy").layer_sizes == (5, 4, 1)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"1.running_max": np.zeros(4, np.float32)}, "tensor '1.running_max' is neither the weight nor the bias"),
        ({"1.running_mean": np.zeros(4, np.float32)}, "tensor '1.running_mean' has no weight beside it"),
        ({"1.num_batches_tracked": np.array(3)}, "tensor '1.num_batches_tracked' has no weight"),
        ({"1.weight": np.ones(4, np.float32)}, r"tensor '1.weight' must have shape \[m, k\], .*, got \[4\]"),  # norms
        (
            {"1.weight": np.ones((4, 4, 3, 3), np.float32)},
            r"tensor '1.weight' must have shape \[m, k\], .*, got \[4, 4",
        ),
        ({"2.bias": np.ones((3, 1), np.float32)}, r"tensor '2.bias' must have shape \[m\], .*, got \[3, 1\]"),
        ({"2.bias": np.ones(4, np.float32)}, r"tensor '2.bias' must have shape \[3\], as '2.weight', got \[4\]"),
        ({"2.weight": np.ones((3, 5), np.float32)}, "tensor '2.weight' takes 5 inputs, and '0.weight' has 4 outputs"),
        ({"4.weight": np.ones((2, 2), np.float32)}, "tensor '4.weight' takes 2 inputs, and '2.weight' has 3 outputs"),
        ({"4.bias": np.ones(3, np.float32)}, "tensor '4.bias' has no weight beside it"),
        ({"head.weight": np.ones((3, 3), np.float32)}, "layers '0' and 'head' must differ in numbers alone"),
        ({"0.weight": np.ones((4, 5), np.int32)}, "tensor '0.weight' must be one of F64, F32, F16, BF16, got I32"),
        ({"0.weight": np.full((4, 5), np.nan, np.float32)}, "tensor '0.weight' has NaN or infinity, as float32"),
        ({"0.weight": np.full((4, 5), 1e300)}, "tensor '0.weight' has NaN or infinity, as float32"),
        ({"0.weight": np.ones((4, 0), np.float32)}, r"layer_sizes\[0\] must be from 1"),
    ],
)
def test_what_is_no_network(path, tensors, message):
    save_file({**dense(), **tensors}, path)
    with pytest.raises(FileFormatError, match=message) as caught:
        fastmlp.load(path, activation="relu")
    assert str(path) in str(caught.value)
    save_file(dense(), path)
    fastmlp.load(path, activation="relu")


def test_a_file_without_tensors(path):
    path.write_bytes(b"\2\0\0\0\0\0\0\0{}")
    with pytest.raises(FileFormatError, match="there are no tensors"):
        fastmlp.load(path, activation="relu")
    with pytest.raises(FileFormatError, match="there are no tensors"):
        fastmlp.load(path)


def test_names_with_very_long_numbers(path):
    names = ("9" * 10_000, "1" + "0" * 10_000)
    save_file(dense(names=names), path)
    assert_holds(fastmlp.load(path, activation="relu"), dense(names=names), names)


def test_what_torch_saves_by_itself(tmp_path):
    torch = pytest.importorskip("torch", reason="reads PyTorch's own format")
    for name, legacy in [("zip.pt", False), ("pickle.pt", True)]:
        state = torch.nn.Linear(3, 2).state_dict()
        torch.save(state, tmp_path / name, _use_new_zipfile_serialization=not legacy)
        with pytest.raises(
            FileFormatError, match=r"is no safetensors file, .* torch\.load, .*safetensors\.torch\.save_"
        ):
            fastmlp.load(tmp_path / name, activation="relu")
