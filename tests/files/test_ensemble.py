"""Ensembles in files."""

import json

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import fastmlp
from fastmlp import MLP, Ensemble
from fastmlp.errors import FileFormatError
from fastmlp.files import load
from fastmlp.files.ensemble import ENSEMBLE
from fastmlp.losses import CrossEntropy, Custom, Huber


def networks_of(count=2, **arguments):
    networks = [MLP((3, 4 + i, 2), seed=i, **arguments) for i in range(count)]
    for network in networks:
        network.parameters[:] = np.random.default_rng(network.seed).normal(size=network.parameters.shape)
    return networks


X = np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ensemble.safetensors"


@pytest.fixture
def saved(path):
    Ensemble(networks_of()).save(path)
    return path


def resaved(path, *, tensors=(), change=lambda fields: fields, key=ENSEMBLE):
    """Write the file again with some of it changed; a tensor that is None is left out."""
    with safe_open(path, framework="numpy") as file:
        fields = json.loads(file.metadata()[ENSEMBLE])
    contents = {name: tensor for name, tensor in {**load_file(path), **dict(tensors)}.items() if tensor is not None}
    changed = change(fields)
    save_file(contents, path, metadata={key: changed if isinstance(changed, str) else json.dumps(changed)})


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"activation": "tanh", "loss": CrossEntropy(label_smoothing=0.1)},
        {"batch_norm": True, "dropout": 0.5, "input_noise": 0.1, "max_norm": 2.0},
        {"loss": Huber(delta=0.5)},
    ],
)
@pytest.mark.parametrize("count", [1, 2, 12])
def test_what_is_saved_is_loaded(path, arguments, count):
    ensemble = Ensemble(networks_of(count, **arguments))
    ensemble.save(path)
    loaded = fastmlp.load(path)
    assert isinstance(loaded, Ensemble)
    assert repr(loaded) == repr(ensemble)
    np.testing.assert_array_equal(loaded.predict(X), ensemble.predict(X))
    for ours, theirs in zip(loaded.networks, ensemble.networks, strict=True):
        np.testing.assert_array_equal(ours._values, theirs._values)


def test_folded_networks_are_plain_and_answer_the_same(path):
    ensemble = Ensemble(networks_of(batch_norm=True))
    ensemble.save(path, fold=True)
    loaded = load(path)
    assert not any(network.batch_norm for network in loaded.networks)
    np.testing.assert_allclose(loaded.predict_proba(X), ensemble.predict_proba(X), rtol=1e-5)


def test_pytorch_takes_it_as_a_list_of_its_own_networks(saved):
    torch = pytest.importorskip("torch", reason="reads what torch reads")
    from safetensors.torch import load_file as load_torch  # noqa: PLC0415

    nn = torch.nn
    models = nn.ModuleList(nn.Sequential(nn.Linear(3, 4 + i), nn.ReLU(), nn.Linear(4 + i, 2)) for i in range(2))
    models.load_state_dict(load_torch(saved))
    with torch.no_grad():
        mean = torch.stack([model(torch.tensor(X)).softmax(dim=1) for model in models]).mean(dim=0).numpy()
    np.testing.assert_allclose(load(saved).predict_proba(X), mean, rtol=1e-5)


def test_a_loss_in_python_is_given_again(path):
    def half_square(logits, targets):
        return ((logits - targets) ** 2).sum(axis=1) / 2, logits - targets

    Ensemble(networks_of(loss=Custom(half_square))).save(path)
    loss = Custom(half_square)
    assert load(path, loss=loss).loss == loss
    with pytest.raises(FileFormatError, match="network 0 of 2: the network was trained by a loss in Python"):
        load(path)


def test_what_the_file_says_may_be_repeated_but_not_changed(saved):
    assert len(load(saved, activation="relu", loss="cross_entropy").networks) == 2
    with pytest.raises(ValueError, match=r"activation must be 'relu', as .* says, or left out; not 'tanh'"):
        load(saved, activation="tanh")
    with pytest.raises(ValueError, match="loss must be 'cross_entropy'"):
        load(saved, loss="focal")


def test_the_file_appears_whole_or_not_at_all(saved):
    before = saved.read_bytes()
    networks = networks_of()
    networks[1].parameters[0] = np.nan
    with pytest.raises(ValueError, match=r"tensor '0\.weight' has NaN or infinity"):
        Ensemble(networks).save(saved)
    assert saved.read_bytes() == before
    assert [file.name for file in saved.parent.iterdir()] == [saved.name]


@pytest.mark.parametrize(("arguments", "error"), [(("",), ValueError), ((3,), TypeError), (("file", "yes"), TypeError)])
def test_bad_arguments(tmp_path, monkeypatch, arguments, error):
    monkeypatch.chdir(tmp_path)
    path, *fold = arguments
    with pytest.raises(error):
        Ensemble(networks_of()).save(path, **dict(zip(["fold"], fold, strict=False)))
    assert not list(tmp_path.iterdir())


def network_1(**changed):
    def change(fields):
        fields["networks"][1].update(changed)
        return fields

    return change


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"change": lambda fields: "{"}, f"metadata key '{ENSEMBLE}' is not JSON"),
        ({"change": lambda fields: "[" * 100_000}, f"metadata key '{ENSEMBLE}' is not JSON"),
        ({"change": lambda fields: [1]}, f"metadata key '{ENSEMBLE}' must hold format and networks"),
        ({"change": lambda fields: {"format": 1}}, "must hold format and networks"),
        ({"change": lambda fields: {**fields, "more": 1}}, "must hold format and networks"),
        ({"change": lambda fields: {**fields, "networks": {}}}, "must hold format and networks"),
        ({"change": lambda fields: {**fields, "format": 2}}, "must have format 1"),
        ({"change": lambda fields: {**fields, "format": True}}, "must have format 1"),
        ({"change": lambda fields: {**fields, "networks": []}}, "tensor '0.0.bias' belongs to none of 0 networks"),
        ({"change": lambda fields: {**fields, "networks": [3, 4]}}, "network 0 of 2: metadata key 'fastmlp' must hold"),
        ({"change": lambda fields: {**fields, "networks": fields["networks"][:1]}}, "'1.0.bias' belongs to none of 1"),
        (
            {"change": lambda fields: {**fields, "networks": fields["networks"] * 2}},
            "network 2 of 4: tensor '0.weight'",
        ),
        ({"change": network_1(seed=7)}, "network 1 of 2: the checksum is wrong"),
        ({"change": network_1(layer_sizes=[3, 9, 2])}, "network 1 of 2: tensor '0.weight' must have shape"),
        ({"change": network_1(loss="focal")}, "network 1 of 2: the checksum is wrong"),
        ({"tensors": {"1.0.bias": None}}, "network 1 of 2: tensor '0.bias' is missing"),
        ({"tensors": {"1.9.bias": np.zeros(3, np.float32)}}, "network 1 of 2: tensor '9.bias' does not belong"),
        ({"tensors": {"01.0.bias": np.zeros(3, np.float32)}}, "tensor '01.0.bias' belongs to none of 2 networks"),
        ({"tensors": {"0.0.bias": np.zeros(4, np.float32)}}, "network 0 of 2: the checksum is wrong"),
        ({"tensors": {"0.0.bias": np.full(4, np.nan, np.float32)}}, "network 0 of 2: tensor '0.bias' has NaN"),
        ({"key": "other"}, "metadata key 'fastmlp' is missing"),
    ],
)
def test_damage_is_told(saved, changed, message):
    resaved(saved, **changed)
    with pytest.raises(FileFormatError, match=message):
        load(saved)


def test_networks_of_two_ensembles_are_none(path):
    Ensemble([MLP((3, 4, 2))]).save(path)
    first = load_file(path)
    with safe_open(path, framework="numpy") as file:
        one = json.loads(file.metadata()[ENSEMBLE])["networks"]
    Ensemble([MLP((3, 4, 5))]).save(path)
    second = {name.replace("0.", "1.", 1): tensor for name, tensor in load_file(path).items()}
    with safe_open(path, framework="numpy") as file:
        other = json.loads(file.metadata()[ENSEMBLE])["networks"]
    metadata = {ENSEMBLE: json.dumps({"format": 1, "networks": one + other})}
    save_file({**first, **second}, path, metadata=metadata)
    with pytest.raises(FileFormatError, match="networks must have the same inputs, outputs and loss"):
        load(path)


@pytest.mark.slow
def test_every_changed_byte_is_found(saved):
    """One bit of each byte: of the header all, of the values some."""
    whole = saved.read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    for place in [*range(start), *range(start, len(whole), 7)]:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        saved.write_bytes(damaged)
        try:
            loaded = load(saved)
        except FileFormatError:
            continue
        # a space of the padding, or the number of an order that JSON does not keep
        assert repr(loaded) == repr(Ensemble(networks_of())), place
        raise AssertionError(f"byte {place} of {len(whole)}: {whole[place : place + 1]} -> {damaged[place]}")


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_a_file_cut_short(saved, keep):
    saved.write_bytes(saved.read_bytes()[:keep])
    with pytest.raises(FileFormatError):
        load(saved)
