"""Recipes: what they say is what is trained; on small data of every kind, and the quick one on MNIST itself."""

import gzip
import struct

import numpy as np
import pytest

import fastmlp
from fastmlp import Ensemble, recipes
from fastmlp.callbacks import ProgressBar
from fastmlp.recipes import RECIPES, Data, Recipe

SIDE, N = 6, 130


def images_of(labels, seed=3):
    generator = np.random.default_rng(seed)
    patterns = generator.random((10, SIDE * SIDE)) * (generator.random((10, SIDE * SIDE)) < 0.4)
    return np.float32(patterns[labels] * np.random.default_rng(len(labels)).uniform(0.5, 1, (len(labels), SIDE**2)))


@pytest.fixture(scope="module")
def data():
    generator = np.random.default_rng(5)
    y, yv = generator.integers(0, 10, 7 * N), generator.integers(0, 10, N)
    y[:10] = range(10)
    return Data(images_of(y), y, (images_of(yv), yv))


@pytest.fixture
def folder(tmp_path):
    """A folder with files as MNIST's, but for those of the test images."""
    labels = np.random.default_rng(8).integers(0, 10, 5300, dtype=np.uint8)
    images = np.uint8(255 * images_of(labels)).reshape(-1, SIDE, SIDE)
    for name, array in (("images-idx3", images), ("labels-idx1", labels)):
        header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
        (tmp_path / f"train-{name}-ubyte.gz").write_bytes(gzip.compress(header + array.tobytes(), 1))
    return tmp_path


def small(name, **changes):
    """A recipe that takes little time, with all else as it is."""
    hidden = tuple(range(20, 20 + len(RECIPES[name].hidden)))
    return RECIPES[name]._replace(**{"hidden": hidden, "epochs": 3, "batch_size": 32, **changes})


def trained(recipe, data, seed=0, count=1, n_threads=None, **options):
    networks = recipes.make_networks(recipe, data, seed, count, n_threads)
    recipes.fit(networks, recipe, data, **{"verbose": False, **options})
    return networks


def test_the_tutorials_recipe_is_the_default_job(data):
    data = data._replace(X=data.X[:150], y=data.y[:150])
    net = fastmlp.MLP((SIDE**2, 256, 256, 10), seed=3)
    history = net.fit(data.X, data.y, verbose=False)
    (other,) = trained(RECIPES["tutorial"], data, seed=3)
    assert other.history.loss == history.loss
    assert repr(other) == repr(net)


@pytest.mark.parametrize("name", RECIPES)
def test_what_a_recipe_says_is_what_is_trained(name, data):
    recipe = small(name)
    (net,) = trained(recipe, data)
    assert net.layer_sizes == (SIDE**2, *recipe.hidden, 10)
    for option in ("activation", "batch_norm", "dropout", "input_dropout", "noise", "input_noise"):
        assert getattr(net, option) == getattr(recipe, option)
    optimizer = recipe.make_optimizer()
    other = recipe.make_network(SIDE**2, 10, seed=0)
    options = {"optimizer": optimizer, "augment": recipe.augment, "verbose": False}
    history = other.fit(data.X, data.y, epochs=3, batch_size=32, **options)
    assert net.history.loss == history.loss
    assert type(optimizer).__name__.lower() == recipe.optimizer
    assert len(net.history.validation_loss) == (3 if recipe.validation == "epochs" else 0)


@pytest.mark.parametrize("name", RECIPES)
def test_threads_make_no_difference_and_seeds_do(name, data):
    recipe = small(name, ema=0.9)
    results = [
        [network.parameters for network in trained(recipe, data, seed, 2, n_threads)]
        for seed, n_threads in ((0, 1), (0, 2), (1, 2))
    ]
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[1][1], results[2][0])  # of seed 1, in two ensembles
    assert (results[2][0] != results[2][1]).any()


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_learns(name, data):
    changes = {"epochs": 15, "hidden": (64, 32), "augment": None}
    (net,) = trained(small(name, **changes), data, seed=77)
    assert recipes.together([net]).evaluate(*data.validation)["accuracy"] > 0.9


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("ema", [None, 0.9])
def test_what_is_returned_answers_by_the_averages_where_there_are_some(data, count, ema):
    networks = trained(small("fast", ema=ema), data, count=count)
    model = recipes.together(networks)
    assert isinstance(model, fastmlp.MLP if count == 1 else Ensemble)
    asked = networks if ema is None else [network.averaged() for network in networks]
    mean = np.mean([network.predict_proba(data.X) for network in asked], axis=0)
    np.testing.assert_allclose(model.predict_proba(data.X), mean, rtol=2e-5)
    members = model.networks if count > 1 else (model,)
    assert [len(network.history.seconds) for network in members] == [3] * count


def test_lines_say_of_which_network_they_are(data, capsys):
    trained(small("fast"), data, count=2, verbose=1)
    lines = capsys.readouterr().out.splitlines()
    assert sorted(line.partition(" cost")[0] for line in lines) == [
        f"Network: {i} Epoch: {epoch}" for i in (0, 1) for epoch in (1, 2, 3)
    ]
    trained(small("fast"), data, verbose=3)
    assert [line.partition(" cost")[0] for line in capsys.readouterr().out.splitlines()] == ["Epoch: 1", "Epoch: 3"]
    for verbose in (False, 0):
        trained(small("fast"), data, verbose=verbose)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("ema", [None, 0.9])
def test_patience_judges_each_epoch_and_ends_with_the_best(data, ema):
    recipe = small("fast", epochs=200, learning_rate=0.3, ema=ema)
    net = recipes.together(trained(recipe, data, patience=2))
    losses = net.history.validation_loss
    assert losses.index(min(losses)) == len(losses) - 3
    assert net.evaluate(*data.validation)["loss"] == pytest.approx(min(losses), rel=1e-6)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("count", [1, 2])
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(name, count, data, tmp_path, monkeypatch):
    recipe, path = small(name, ema=0.9), str(tmp_path / "run.safetensors")
    whole = [network.parameters for network in trained(recipe, data, count=count)]
    tell, told = ProgressBar.on_epoch_end, []

    def stopping(bar, progress):
        told.append(len(progress.history.loss))
        if len(told) == 2:
            raise KeyboardInterrupt
        tell(bar, progress)

    monkeypatch.setattr(ProgressBar, "on_epoch_end", stopping)
    with pytest.raises(KeyboardInterrupt):
        trained(recipe, data, count=count, checkpoint=path, verbose=1)
    networks = trained(recipe, data, count=count, checkpoint=path, verbose=1)
    assert count > 1 or told == [1, 2, 3]
    np.testing.assert_array_equal([network.parameters for network in networks], whole)
    names = ["run.safetensors"] if count == 1 else ["run-0.safetensors", "run-1.safetensors"]
    assert sorted(file.name for file in tmp_path.iterdir()) == names


def test_train_reads_a_directory_that_has_no_test_images(folder):
    ensemble = recipes.train("fast", seed=2, ensemble=2, path=folder, checkpoint=folder / "run", verbose=False)
    assert [network.seed for network in ensemble.networks] == [2, 3]
    assert [network.history.validation_loss for network in ensemble.networks] == [[], []]
    assert ensemble.evaluate(*fastmlp.load_mnist("validation", path=folder))["accuracy"] > 0.5
    assert (folder / "run-2").exists()
    net = recipes.train("fast", 3, path=folder, n_threads=1, verbose=False)
    assert net.n_threads == 1
    np.testing.assert_array_equal(net.parameters, ensemble.networks[1].parameters)


@pytest.mark.parametrize(("kind", "learned"), [("epochs", "train"), ("end", "train"), ("none", "train+validation")])
def test_what_the_validation_rows_are_for(folder, kind, learned):
    data = Data.load(RECIPES["fast"]._replace(validation=kind), folder)
    X, y = fastmlp.load_mnist(learned, path=folder)
    np.testing.assert_array_equal(data.X, X)
    np.testing.assert_array_equal(data.y, y)
    assert data.n_classes == 10
    assert (data.validation is None) == (kind == "none")
    if data.validation is None:
        with pytest.raises(ValueError, match="patience must be None where there are no validation rows"):
            trained(small("fast"), data, patience=1)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"name": "fastest"}, ValueError, "name must be one of tutorial, fast, accurate, best; not 'fastest'"),
        ({"name": None}, TypeError, "name must be a string"),
        ({"ensemble": 0}, ValueError, "ensemble must be at least 1, not 0"),
        ({"ensemble": "2"}, TypeError, "ensemble must be a whole number"),
        ({"seed": -1}, ValueError, "seed must be at least 0, not -1"),
        ({"seed": 2**64 - 1, "ensemble": 2}, ValueError, "seed must be from 0 to 18446744073709551615"),
        ({"seed": 1.5}, TypeError, "seed must be a whole number"),
        ({"n_threads": 0}, ValueError, "n_threads must be from 1 to 1024"),
        ({"verbose": "much"}, TypeError, "verbose must be"),
        ({"checkpoint": ""}, ValueError, "checkpoint must not be empty"),
        ({"path": "/no/such/folder"}, FileNotFoundError, "path must be an existing directory"),
    ],
)
def test_bad_arguments(arguments, error, message, folder):
    before = sorted(folder.iterdir())
    with pytest.raises(error, match=message):
        recipes.train(**{"name": "fast", "path": folder, **arguments})
    assert sorted(folder.iterdir()) == before


def test_images_that_are_not_square_are_no_images_to_distort(data):
    narrow = data._replace(X=data.X[:, :30], validation=(data.validation[0][:, :30], data.validation[1]))
    with pytest.raises(ValueError, match="X must have rows that are square images"):
        trained(small("best"), narrow)
    assert trained(small("accurate"), narrow)


def test_a_recipe_does_not_change():
    with pytest.raises(AttributeError):
        RECIPES["fast"].epochs = 1
    first, second = (RECIPES["best"].make_optimizer() for _ in range(2))
    first.learning_rate = 1.0
    assert second.learning_rate != 1.0
    assert set(Recipe._field_defaults) >= {"dropout", "ema", "augment", "validation"}


@pytest.mark.slow
def test_the_fast_recipe_on_a_seed_that_nobody_tuned_on():
    net = recipes.train("fast", seed=31337, verbose=False)
    assert net.evaluate(*fastmlp.load_mnist("validation"))["accuracy"] > 0.975


@pytest.mark.slow
@pytest.mark.parametrize(("name", "least"), [("accurate", 0.97), ("best", 0.97)])
def test_recipes_cut_short(name, least):
    """Three epochs of so many, of smaller networks: they learn, and the schedule comes to its end."""
    recipe = RECIPES[name]._replace(epochs=3, hidden=(300, 100), validation="end")
    data = Data.load(recipe)
    (net,) = trained(recipe, data, seed=4242)
    assert recipes.together([net]).evaluate(*data.validation)["accuracy"] > least
    assert net.history.learning_rate[-1] < 1e-3 * recipe.learning_rate
