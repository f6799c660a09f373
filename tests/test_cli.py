"""The command: what it prints and writes, its exit status, and one clear line for every error."""

import fcntl
import gzip
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import numpy as np
import pytest

import fastmlp
from fastmlp.activations import ACTIVATIONS
from fastmlp.cli import main
from fastmlp.initial import INITS
from fastmlp.optimizers import OPTIMIZERS
from fastmlp.recipes import RECIPES
from fastmlp.schedules import SCHEDULES

SIDE, N_TEST = 6, 300
K = SIDE * SIDE
FAST = ("--hidden", "16", "--epochs", "2")
# Of what a recipe may say, what the tutorial's does not.
NOTHING_ELSE = {
    "batch_norm": False,
    "dropout": 0.0,
    "input_dropout": 0.0,
    "noise": 0.0,
    "input_noise": 0.0,
    "ema": None,
    "augment": None,
    "validation": "epochs",
}


def write_idx(path, array):
    data = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(data, 1) if path.suffix == ".gz" else data)


def images_of(labels, shape=(SIDE, SIDE)):
    """Return noisy images of 10 patterns, one a label, mostly zeros as digits are."""
    generator = np.random.default_rng(3)
    patterns = generator.integers(0, 256, (10, *shape)) * (generator.random((10, *shape)) < 0.4)
    noise = generator.integers(0, 60, (len(labels), *shape))
    return np.where(patterns[labels] > 0, np.clip(patterns[labels] + noise, 0, 255), 0).astype(np.uint8)


def write_data(folder, n_train=5600, shape=(SIDE, SIDE), ending=""):
    """Write a data set in MNIST's format; training files need more than the 5,000 rows for validation."""
    generator = np.random.default_rng(7)
    for split, n in (("train", n_train), ("t10k", N_TEST)):
        labels = generator.integers(0, 10, n, dtype=np.uint8)
        write_idx(folder / f"{split}-images-idx3-ubyte{ending}", images_of(labels, shape))
        write_idx(folder / f"{split}-labels-idx1-ubyte{ending}", labels)
    return str(folder)


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def model(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    flags = ["--hidden", "32", "--epochs", "20", "--learning-rate", "0.01", "--quiet"]
    assert main(["train", "--data", data, *flags, "--save", str(path)]) == 0
    return str(path)


@pytest.fixture
def run(capsys):
    """Run the command in this process: its exit status, standard output and standard error."""

    def call(*arguments):
        status = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return status, out, err

    return call


@pytest.fixture
def refused(run):
    """Run a command that must end with status 2 and one line on standard error; return the line."""

    def call(*arguments):
        status, out, err = run(*arguments)
        assert status == 2
        assert out == ""
        assert re.fullmatch(r"fastmlp: error: .+\n", err)
        return err

    return call


def start(*arguments, **options):
    """Start the command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "fastmlp", *map(str, arguments)],
        text=True,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
    )


# ---- train


def test_train_prints_a_line_an_epoch_and_the_accuracy(run, data):
    status, out, err = run("train", "--data", data, *FAST)
    *epochs, last = out.splitlines()
    assert status == 0
    assert err == ""
    number = r"\d+[.]\d+"
    for epoch, line in enumerate(epochs, start=1):
        assert re.fullmatch(
            f"Epoch: {epoch} cost={number} validation_loss={number} validation_accuracy={number} seconds={number}",
            line,
        )
    assert len(epochs) == 2
    assert re.fullmatch(r"Accuracy: [01]\.\d{4}", last)


def test_quiet_prints_the_accuracy_alone(run, data):
    status, out, err = run("train", "--data", data, *FAST, "--quiet")
    assert status == 0
    assert re.fullmatch(r"Accuracy: [01]\.\d{4}\n", out)
    assert err == ""


def test_the_same_seed_gives_the_same_network_and_another_another(run, data, tmp_path):
    costs = []
    for seed in (5, 5, 6):
        run("train", "--data", data, *FAST, "--seed", seed, "--json", tmp_path / "result.json")
        costs.append([epoch["cost"] for epoch in json.loads((tmp_path / "result.json").read_text())["epochs"]])
    assert costs[0] == costs[1]
    assert costs[0] != costs[2]


def test_json_has_the_whole_result(run, data, tmp_path):
    file = tmp_path / "result.json"
    options = {
        "data": data,
        "hidden": "12,8",
        "epochs": "3",
        "batch-size": "50",
        "activation": "tanh",
        "optimizer": "adamw",
        "learning-rate": "0.01",
        "schedule": "cosine",
        "init": "glorot",
        "seed": "11",
        "patience": "7",
        "threads": "1",
        "save": str(tmp_path / "network"),
        "plot": None,
        "json": str(file),
    }
    flags = [word for name, value in options.items() if value for word in (f"--{name}", value)]
    _, out, _ = run("train", *flags)
    result = json.loads(file.read_text())
    figures = ["training_seconds", "validation_loss", "validation_accuracy", "test_loss", "test_accuracy"]
    assert list(result) == ["config", "epochs", *figures, "total_seconds"]
    assert result["config"] == {
        "data": data,
        "recipe": "tutorial",
        "ensemble": 1,
        "hidden": [12, 8],
        "epochs": 3,
        "batch_size": 50,
        "activation": "tanh",
        "optimizer": "adamw",
        "learning_rate": 0.01,
        "schedule": "cosine",
        **NOTHING_ELSE,
        "init": "glorot",
        "seed": 11,
        "patience": 7,
        "threads": 1,
        "mpi": False,
        "sync_every": 1,
        "save": options["save"],
        "checkpoint": None,
        "plot": None,
        "json": str(file),
        "quiet": False,
        "layer_sizes": [K, 12, 8, 10],
    }
    assert [epoch["epoch"] for epoch in result["epochs"]] == [1, 2, 3]
    for epoch, line in zip(result["epochs"], out.splitlines(), strict=False):
        judged = ["validation_loss", "validation_accuracy"]
        assert list(epoch) == ["epoch", "loss", "cost", *judged, "learning_rate", "seconds"]
        assert epoch["loss"] == epoch["cost"]
        shown = dict(word.split("=") for word in line.split()[2:])
        for name, text in shown.items():
            assert epoch[name] == pytest.approx(float(text), rel=1e-2, abs=1e-2)
    assert f"Accuracy: {result['test_accuracy']:.4f}" == out.splitlines()[-1]
    assert result["test_loss"] > 0
    assert result["training_seconds"] == sum(epoch["seconds"] for epoch in result["epochs"])
    assert result["total_seconds"] > result["training_seconds"]
    assert result["validation_loss"] == pytest.approx(result["epochs"][-1]["validation_loss"])


def result_of(run, file, *arguments):
    status, _, err = run("train", *arguments, "--json", file)
    assert (status, err) == (0, "")
    return json.loads(Path(file).read_text())


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule(run, data, tmp_path, name):
    options = ["--data", data, *FAST, "--schedule", name, "--learning-rate", "0.02"]
    result = result_of(run, tmp_path / "json", *options)
    assert (result["config"]["schedule"], result["config"]["learning_rate"]) == (name, 0.02)
    rates = [epoch["learning_rate"] for epoch in result["epochs"]]
    assert 0 < rates[-1] < rates[0] <= 0.02


def test_patience_ends_a_training_with_its_best_network(run, data, tmp_path):
    options = ["--data", data, "--hidden", "8", "--epochs", "1000", "--learning-rate", "2", "--patience", "3"]
    epochs = result_of(run, tmp_path / "json", *options, "--save", tmp_path / "net")["epochs"]
    losses = [epoch["validation_loss"] for epoch in epochs]
    assert losses.index(min(losses)) == len(losses) - 4
    net = fastmlp.load(tmp_path / "net")
    scores = net.evaluate(*fastmlp.load_mnist("validation", path=data))
    assert scores["loss"] == pytest.approx(min(losses), rel=1e-6)


def test_a_checkpoint_is_gone_on_from(run, data, tmp_path):
    options = ["--data", data, *FAST, "--schedule", "one_cycle", "--epochs", "4"]
    whole = result_of(run, tmp_path / "json", *options)
    for _ in range(2):  # the second time it is there already
        result = result_of(run, tmp_path / "json", *options, "--checkpoint", tmp_path / "run")
        assert result["test_loss"] == whole["test_loss"]
        assert len(result["epochs"]) == 4
    status, _, err = run("train", "--data", data, *FAST, "--hidden", "9", "--checkpoint", tmp_path / "run")
    assert status == 2
    assert err.startswith("fastmlp: error: resume must name a checkpoint of MLP(")
    assert err.count("\n") == 1


def test_an_error_is_written_in_one_piece(monkeypatch, tmp_path):
    """Ranks that mpiexec starts write to one standard error, and pieces of theirs get between each other's."""
    pieces = []
    monkeypatch.setattr(sys.stderr, "write", pieces.append)
    assert main(["train", "--data", str(tmp_path)]) == 2
    assert [bool(re.fullmatch(r"fastmlp: error: .+\n", piece)) for piece in pieces if piece] == [True]


def test_json_on_standard_output_has_it_to_itself(run, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = run("train", "--data", data, *FAST, "--json", "-")
    assert status == 0
    assert len(json.loads(out)["epochs"]) == 2
    assert [line.split()[0] for line in err.splitlines()] == ["Epoch:", "Epoch:", "Accuracy:"]
    assert list(tmp_path.iterdir()) == []


def test_defaults_are_the_tutorials_job(run, data, tmp_path):
    file = tmp_path / "result.json"
    run("train", "--data", data, "--json", file)
    config = json.loads(file.read_text())["config"]
    assert config["layer_sizes"] == [K, 256, 256, 10]
    tutorials = {
        "epochs": 15,
        "batch_size": 100,
        "activation": "relu",
        "optimizer": "adam",
        "learning_rate": 0.001,
        "init": "he",
        "seed": 0,
        "quiet": False,
    }
    assert {name: config[name] for name in tutorials} == tutorials


def test_dropout_and_noise_reach_the_network(run, data, tmp_path):
    flags = ("--dropout", "0.5", "--noise", "0.1,0.2", "--input-dropout", "0.25", "--input-noise", "0.3")
    run("train", "--data", data, *FAST, "--hidden", "5,4", *flags, "--save", tmp_path / "network")
    net = fastmlp.load(tmp_path / "network")
    assert (net.dropout, net.noise, net.input_dropout, net.input_noise) == (0.5, (0.1, 0.2), 0.25, 0.3)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activation_reaches_the_network(run, data, tmp_path, activation):
    run("train", "--data", data, *FAST, "--activation", activation, "--save", tmp_path / "network")
    assert fastmlp.load(tmp_path / "network").activation == activation


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("flags", [(), ("--learning-rate", "0.02")])
def test_optimizer_trains_the_network_at_its_own_learning_rate_or_another(run, data, tmp_path, name, flags):
    run("train", "--data", data, *FAST, "--optimizer", name, *flags, "--json", tmp_path / "result.json")
    result = json.loads((tmp_path / "result.json").read_text())
    optimizer = OPTIMIZERS[name](*map(float, flags[1:]))
    assert result["config"]["learning_rate"] == optimizer.learning_rate
    net = fastmlp.MLP(result["config"]["layer_sizes"])
    history = net.fit(*fastmlp.load_mnist("train", path=data), epochs=2, optimizer=optimizer, verbose=False)
    assert [epoch["loss"] for epoch in result["epochs"]] == history.loss


def test_init_reaches_the_network(run, data, tmp_path):
    """The first epoch's costs from N(0, 1) weights are far above those from the scaled ones."""
    cost = {}
    for init in ("he", "glorot", "normal"):
        run("train", "--data", data, "--epochs", "1", "--init", init, "--json", tmp_path / "result.json")
        cost[init] = json.loads((tmp_path / "result.json").read_text())["epochs"][0]["cost"]
    assert cost["normal"] > 10 * cost["he"]
    assert cost["normal"] > 10 * cost["glorot"]
    assert cost["he"] != cost["glorot"]


@pytest.mark.slow
def test_plot_writes_the_pictures(run, data, tmp_path):
    pytest.importorskip("matplotlib", reason="draws with matplotlib")
    status, _, err = run("train", "--data", data, *FAST, "--plot", tmp_path / "new" / "pictures")
    assert (status, err) == (0, "")
    assert sorted(file.name for file in (tmp_path / "new" / "pictures").iterdir()) == [
        "confusion_matrix.png",
        "digits.png",
        "first_weights.png",
        "input_gradients.png",
        "learning_curves.png",
        "worst_mistakes.png",
    ]


@pytest.mark.slow
def test_plot_of_an_ensemble(run, data, tmp_path):
    pytest.importorskip("matplotlib", reason="draws with matplotlib")
    status, _, err = run("train", "--data", data, *FAST, "--ensemble", "2", "--plot", tmp_path)
    assert (status, err) == (0, "")
    assert "ensemble.png" in {file.name for file in tmp_path.iterdir()}


@pytest.mark.slow
def test_plot_leaves_out_what_is_not_square_and_says_so(run, tmp_path):
    pytest.importorskip("matplotlib", reason="draws with matplotlib")
    status, _, err = run("train", "--data", write_data(tmp_path, shape=(4, 5)), *FAST, "--plot", tmp_path / "pictures")
    assert status == 0
    assert err == "fastmlp: no pictures of images: 20 inputs are no square image\n"
    assert len(list((tmp_path / "pictures").iterdir())) == 2


def test_gzipped_data(run, tmp_path):
    status, out, _ = run("train", "--data", write_data(tmp_path, ending=".gz"), *FAST)
    assert status == 0
    assert "Accuracy: " in out


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("labels-idx1", np.full(N_TEST, 12, np.uint8), "the test labels go up to 12, those of the training file to 9"),
        ("images-idx3", np.zeros((N_TEST, 3, 3), np.uint8), f"the test images have 9 pixels, the training images {K}"),
        ("images-idx3", np.zeros((7, SIDE, SIDE), np.uint8), f"7 t10k images but {N_TEST} t10k labels"),
    ],
)
def test_test_images_that_do_not_fit_do_not_cost_the_training(run, tmp_path, name, array, message):
    """They are not read before it; what it has taught is saved."""
    folder = write_data(tmp_path)
    write_idx(tmp_path / f"t10k-{name}-ubyte", array)
    status, out, err = run("train", "--data", folder, *FAST, "--save", tmp_path / "net")
    assert (status, err.count("\n"), len(out.splitlines())) == (2, 1, 2)
    assert message in err
    assert fastmlp.load(tmp_path / "net").layer_sizes == (K, 16, 10)


# ---- recipes and ensembles

SMALL = ("--hidden", "16", "--epochs", "2", "--batch-size", "50")


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_is_what_is_trained_unless_the_options_say_otherwise(run, data, tmp_path, recipe):
    result = result_of(run, tmp_path / "json", "--data", data, "--recipe", recipe, *SMALL, "--save", tmp_path / "net")
    changed = {"hidden": [16], "epochs": 2, "batch_size": 50, "init": "he"}
    said = RECIPES[recipe]._asdict()
    said["augment"] = said["augment"] and repr(said["augment"])
    assert {name: result["config"][name] for name in said} == {**said, **changed}
    assert result["config"]["recipe"] == recipe
    net = fastmlp.load(tmp_path / "net")
    assert net.layer_sizes == (K, 16, 10)
    assert (net.batch_norm, net.noise, net.input_noise) == (said["batch_norm"], said["noise"], said["input_noise"])


def test_the_command_trains_what_the_function_does(run, data, tmp_path):
    run("train", "--data", data, "--recipe", "fast", "--ensemble", "2", "--seed", "3", "--save", tmp_path / "nets")
    ensemble = fastmlp.recipes.train("fast", 3, 2, path=data, verbose=False)
    X, _ = fastmlp.load_mnist("test", path=data)
    np.testing.assert_array_equal(fastmlp.load(tmp_path / "nets").predict_proba(X), ensemble.predict_proba(X))


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--recipe", "fast"], {"optimizer": "adam", "learning_rate": 0.006, "schedule": "one_cycle"}),
        (["--recipe", "fast", "--learning-rate", "0.1"], {"learning_rate": 0.1, "schedule": "one_cycle"}),
        (["--recipe", "fast", "--schedule", "linear"], {"learning_rate": 0.006, "schedule": "linear"}),
        (["--recipe", "fast", "--schedule", "none"], {"learning_rate": 0.006, "schedule": None}),
        (["--recipe", "fast", "--optimizer", "adam"], {"learning_rate": 0.006, "schedule": "one_cycle"}),
        (["--recipe", "fast", "--optimizer", "sgd"], {"learning_rate": 0.01, "schedule": "one_cycle"}),
        (["--recipe", "fast", "--optimizer", "sgd", "--learning-rate", "0.1"], {"learning_rate": 0.1}),
        (["--recipe", "accurate", "--no-batch-norm"], {"batch_norm": False, "noise": 0.3}),
        (["--recipe", "accurate", "--noise", "0"], {"batch_norm": True, "noise": 0.0}),
        (["--batch-norm"], {"batch_norm": True}),
        (["--recipe", "best", "--validation", "end"], {"validation": "end"}),
        (["--recipe", "best", "--patience", "3"], {"validation": "epochs"}),
    ],
)
def test_options_change_one_thing_of_a_recipe(run, data, tmp_path, flags, expected):
    config = result_of(run, tmp_path / "json", "--data", data, *SMALL, *flags)["config"]
    assert {name: config[name] for name in expected} == expected


def test_a_quick_recipe_is_judged_at_its_end(run, data):
    status, out, err = run("train", "--data", data, "--recipe", "fast")
    *epochs, trained, last = out.splitlines()
    assert (status, err, len(epochs)) == (0, "", 3)
    number = r"\d+[.]\d+"
    assert all(re.fullmatch(rf"Epoch: \d cost={number} seconds={number}", line) for line in epochs)
    assert re.fullmatch(f"Trained: seconds={number} validation_loss={number} validation_accuracy={number}", trained)
    assert re.fullmatch(r"Accuracy: [01]\.\d{4}", last)


def test_a_quick_recipe_may_have_patience(run, data, tmp_path):
    flags = ["--recipe", "fast", "--patience", "2", "--epochs", "30", "--learning-rate", "0.05"]
    epochs = result_of(run, tmp_path / "json", "--data", data, *flags)["epochs"]
    assert "validation_loss" in epochs[0]


@pytest.mark.parametrize("flags", [["--recipe", "accurate"], ["--validation", "none"]])
def test_what_learns_from_all_images_is_judged_by_the_test_images_alone(run, data, tmp_path, flags):
    flags = ["--data", data, *SMALL, *flags]
    result = result_of(run, tmp_path / "json", *flags, "--ensemble", "2", "--save", tmp_path / "nets")
    assert not [name for name in (*result, *result["networks"][0]) if name.startswith("validation")]
    assert list(result["networks"][0]["epochs"][0]) == ["epoch", "loss", "cost", "learning_rate", "seconds"]
    recipe = result["config"]
    X, y = fastmlp.load_mnist("train+validation", path=data)
    net = fastmlp.load(tmp_path / "nets").networks[0]
    other = RECIPES[recipe["recipe"]]._replace(hidden=(16,)).make_network(K, 10, seed=0)
    optimizer = RECIPES[recipe["recipe"]].make_optimizer()
    other.fit(X, y, epochs=2, batch_size=50, optimizer=optimizer, verbose=False)
    np.testing.assert_array_equal(net.parameters, other.parameters)
    status, out, err = run("train", *flags)
    assert (status, err) == (0, "")
    assert re.search(r"^Trained: seconds=[\d.]+$", out, re.MULTILINE) or "--recipe" not in flags
    assert "validation" not in out


def test_every_line_of_an_ensemble_says_of_which_network_it_is(run, data):
    status, out, err = run("train", "--data", data, *FAST, "--ensemble", "3")
    lines = out.splitlines()
    assert (status, err) == (0, "")
    for i, line in enumerate(sorted(lines[:6])):  # they are trained at once
        assert line.startswith(f"Network: {i // 2} Epoch: {i % 2 + 1} cost=")
    for i, line in enumerate(lines[6:9]):
        assert line.startswith(f"Network: {i} Trained: seconds=")
    assert lines[9].startswith("Trained: seconds=")
    for i, line in enumerate(lines[10:13]):
        assert re.fullmatch(rf"Network: {i} Accuracy: [01]\.\d{{4}}", line)
    assert re.fullmatch(r"Accuracy: [01]\.\d{4}", lines[13])
    assert run("train", "--data", data, *FAST, "--ensemble", "3", "--quiet")[1] == lines[13] + "\n"


def test_an_ensemble_is_the_networks_of_its_seeds_in_one_file(run, data, tmp_path):
    flags = ["--data", data, *FAST, "--seed", "5"]
    result = result_of(run, tmp_path / "json", *flags, "--ensemble", "2", "--save", tmp_path / "both")
    figures = ["training_seconds", "validation_loss", "validation_accuracy", "test_loss", "test_accuracy"]
    assert list(result) == ["config", "networks", *figures, "total_seconds"]
    both = fastmlp.load(tmp_path / "both")
    X, y = fastmlp.load_mnist("test", path=data)
    for i, own in enumerate(result["networks"]):
        assert list(own) == ["seed", "epochs", *figures]
        alone = result_of(run, tmp_path / "one", "--data", data, *FAST, "--seed", str(5 + i))
        assert own["seed"] == 5 + i == both.networks[i].seed
        for name in ("loss", "validation_loss", "learning_rate"):
            assert [epoch[name] for epoch in own["epochs"]] == [epoch[name] for epoch in alone["epochs"]]
        assert own["test_loss"] == alone["test_loss"]
    scores = both.evaluate(X, y)
    assert (result["test_loss"], result["test_accuracy"]) == (scores["loss"], scores["accuracy"])
    assert result["training_seconds"] > max(own["training_seconds"] for own in result["networks"])


def test_a_saved_ensemble_is_evaluated_and_predicts(run, data, tmp_path):
    _, trained, _ = run("train", "--data", data, *FAST, "--ensemble", "2", "--save", tmp_path / "both")
    status, out, err = run("evaluate", tmp_path / "both", "--data", data)
    assert (status, err) == (0, "")
    assert out.splitlines()[1] == trained.splitlines()[-1]
    np.save(tmp_path / "ten.npy", images_of(np.arange(10)))
    status, out, err = run("predict", tmp_path / "both", tmp_path / "ten.npy")
    assert (status, err) == (0, "")
    chances = fastmlp.load(tmp_path / "both").predict_proba(images_of(np.arange(10)).reshape(10, K) / np.float32(255))
    for line, row in zip(out.splitlines(), chances, strict=True):
        assert line.split(": ")[1] == f"{row.argmax()}  {row.max():.4f}"


def test_predict_prints_the_mean_of_regressions(run, tmp_path):
    networks = [fastmlp.MLP((4, 3, 1), loss="squared_error", seed=seed) for seed in range(2)]
    fastmlp.Ensemble(networks).save(tmp_path / "both")
    np.save(tmp_path / "rows.npy", np.eye(4, dtype=np.float32))
    status, out, _ = run("predict", tmp_path / "both", tmp_path / "rows.npy")
    assert status == 0
    said = [float(line.split(": ")[1]) for line in out.splitlines()]
    np.testing.assert_allclose(said, np.mean([net.predict(np.eye(4)) for net in networks], axis=0), rtol=1e-5)


def test_each_network_of_an_ensemble_has_a_checkpoint(run, data, tmp_path):
    flags = ["--data", data, "--recipe", "best", *SMALL, "--ensemble", "2"]
    whole = result_of(run, tmp_path / "json", *flags)
    files = [tmp_path / f"run-{seed}.net" for seed in range(2)]
    for gone in ([], files[1:]):
        for file in gone:
            file.unlink()
        again = result_of(run, tmp_path / "json", *flags, "--checkpoint", tmp_path / "run.net")
        assert all(file.exists() for file in files)
        assert again["test_loss"] == whole["test_loss"]


def test_the_test_images_are_read_once_and_after_all_else(run, data, tmp_path, monkeypatch):
    told = []

    def loaded(split, **others):
        told.append(split)
        return fastmlp.load_mnist(split, **others)

    def fitted(*arguments, **others):
        told.append("fit")
        return fit_many(*arguments, **others)

    fit_many = fastmlp.fit_many
    monkeypatch.setattr(fastmlp.recipes, "fit_many", fitted)
    for module in (fastmlp.recipes, fastmlp.cli._train):
        monkeypatch.setattr(module, "load_mnist", loaded)
    run("train", "--data", data, *FAST, "--ensemble", "2", "--json", tmp_path / "json")
    assert told == ["train", "validation", "fit", "test"]


# ---- evaluate, predict, info


def test_a_saved_network_is_evaluated_as_it_was_trained(run, data, tmp_path):
    file = tmp_path / "network.safetensors"
    _, trained, _ = run("train", "--data", data, *FAST, "--save", file, "--json", tmp_path / "result.json")
    status, out, err = run("evaluate", file, "--data", data)
    loss, accuracy = out.splitlines()
    assert (status, err) == (0, "")
    assert loss == f"Loss: {json.loads((tmp_path / 'result.json').read_text())['test_loss']:.4f}"
    assert accuracy == trained.splitlines()[-1]


def test_training_learns_and_predict_says_so(run, model, tmp_path):
    labels = np.arange(10)
    np.save(tmp_path / "ten.npy", images_of(labels))
    status, out, err = run("predict", model, tmp_path / "ten.npy")
    lines = out.splitlines()
    assert (status, err) == (0, "")
    for i, line in enumerate(lines):
        said = re.fullmatch(rf"{re.escape(str(tmp_path))}/ten\.npy\[{i}\]: (\d)  ([01]\.\d{{4}})", line)
        assert said
        assert 0.1 <= float(said[2]) <= 1
    assert np.mean([int(line.split()[-2]) == label for line, label in zip(lines, labels, strict=True)]) >= 0.8


def test_predict_gives_every_kind_of_file_the_same_answer(run, model, tmp_path):
    images = pytest.importorskip("PIL.Image", reason="writes an image file")
    digit = images_of([4])
    images.fromarray(digit[0]).save(tmp_path / "digit.png")
    np.save(tmp_path / "digit.npy", digit[0])
    np.save(tmp_path / "floats.npy", (digit / 255).reshape(1, K))
    write_idx(tmp_path / "digit.idx", digit)
    write_idx(tmp_path / "digit.gz", digit)
    names = [tmp_path / name for name in ("digit.png", "digit.npy", "floats.npy", "digit.idx", "digit.gz")]
    status, out, _ = run("predict", "--raw", model, *names)
    assert status == 0
    said = [line.split(": ") for line in out.splitlines()]
    assert [name for name, _ in said] == [str(name) for name in names]
    assert len({answer for _, answer in said}) == 1
    network = fastmlp.load(model)
    probability = network.predict_proba(digit.reshape(1, K).astype(np.float32) / 255)[0]
    assert said[0][1] == f"{probability.argmax()}  {probability.max():.4f}"


def test_a_file_given_twice_is_answered_twice(run, model, tmp_path):
    np.save(tmp_path / "digit.npy", images_of([4]))
    _, out, _ = run("predict", model, tmp_path / "digit.npy", tmp_path / "digit.npy")
    assert len(out.splitlines()) == 2


def test_predict_prints_the_outputs_of_a_regression(run, tmp_path):
    network = fastmlp.MLP((4, 3, 2), loss="squared_error")
    network.save(str(tmp_path / "regression"))
    rows = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    np.save(tmp_path / "rows.npy", rows)
    status, out, _ = run("predict", tmp_path / "regression", tmp_path / "rows.npy")
    assert status == 0
    said = np.array([line.split(": ")[1].split() for line in out.splitlines()], float)
    np.testing.assert_allclose(said, network.predict(rows), rtol=1e-5)


def test_info_shows_the_configuration(run, capsys):
    fastmlp.show_config()
    expected = capsys.readouterr().out
    assert run("info") == (0, expected, "")
    assert fastmlp.__version__ in expected


def test_version_and_help(run):
    assert run("--version") == (0, f"fastmlp {fastmlp.__version__}\n", "")
    for arguments in (["--help"], ["train", "--help"], ["evaluate", "-h"], ["predict", "-h"], ["info", "-h"]):
        status, out, err = run(*arguments)
        assert (status, err) == (0, "")
        assert out.startswith("usage: fastmlp")


# ---- errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "the following arguments are required: COMMAND"),
        (("tarin",), "invalid choice: 'tarin'"),
        (("train", "--hiden", "3"), "unrecognized arguments: --hiden 3"),
        (("train", "--epoch", "3"), "unrecognized arguments: --epoch 3"),
        (
            ("train", "--hidden", "256,x"),
            "argument --hidden: wanted whole numbers from 1 as in 256,256, got '256,x'",
        ),
        (("train", "--hidden", "256,0"), "argument --hidden: wanted whole numbers from 1"),
        (("train", "--hidden", ""), "argument --hidden: wanted whole numbers from 1 as in 256,256, got ''"),
        (("train", "--epochs", "0"), "argument --epochs: wanted a whole number from 1, got '0'"),
        (("train", "--epochs", "1.5"), "argument --epochs: wanted a whole number from 1, got '1.5'"),
        (("train", "--epochs", "99999999999"), "argument --epochs: wanted a whole number from 1"),
        (("train", "--epochs"), "argument --epochs: expected one argument"),
        (("train", "--batch-size", "-1"), "argument --batch-size: wanted a whole number from 1, got '-1'"),
        (("train", "--learning-rate", "0"), "argument --learning-rate: wanted a positive number, got '0'"),
        (
            ("train", "--learning-rate", "nan"),
            "argument --learning-rate: wanted a positive number, got 'nan'",
        ),
        (
            ("train", "--learning-rate", "inf"),
            "argument --learning-rate: wanted a positive number, got 'inf'",
        ),
        (
            ("train", "--learning-rate", "fast"),
            "argument --learning-rate: wanted a positive number, got 'fast'",
        ),
        (("train", "--dropout", "1"), "dropout must be finite and in [0, 1), not 1.0"),
        (("train", "--noise", "0.1,loud"), "argument --noise: wanted a number, got 'loud'"),
        (("train", "--init", "zeros"), "argument --init: invalid choice: 'zeros'"),
        (("train", "--optimizer", "lbfgs"), "argument --optimizer: invalid choice: 'lbfgs' (choose from "),
        (("train", "--activation", "swoosh"), "argument --activation: invalid choice: 'swoosh' (choose from "),
        (("train", "--recipe", "fastest"), "argument --recipe: invalid choice: 'fastest' (choose from "),
        (("train", "--patience", "3", "--validation", "none"), "--patience wants --validation epochs, not none"),
        (("train", "--validation", "all"), "argument --validation: invalid choice: 'all' (choose from "),
        (("train", "--ensemble", "0"), "argument --ensemble: wanted a whole number from 1, got '0'"),
        (
            ("train", "--recipe", "accurate", "--noise", "0.1,0.2"),
            "noise must be one, or one for each of the 3 hidden layers; not 2",
        ),
        (("train", "--ensemble", "2", "--seed", str(2**64 - 1)), "seed must be from 0 to 18446744073709551615, not"),
        (("train", "--seed", "-1"), "argument --seed: wanted a whole number from 0"),
        (("train", "--seed", "lucky"), "argument --seed: wanted a whole number from 0"),
        (("train", "--threads", "0"), "argument --threads: wanted a whole number from 1, got '0'"),
        (
            ("train", "--save", "/no/such/place"),
            "argument --save: '/no/such/place' cannot be written: there is no",
        ),
        (("train", "--save", "/"), "argument --save: '/' is no file"),
        (("train", "--save", "/dev/null"), "argument --save: '/dev/null' is no file"),
        (
            ("train", "--json", "/no/such/place"),
            "argument --json: '/no/such/place' cannot be written: there is no",
        ),
        (("train", "--json", ""), "argument --json: '' is no file"),
        (("train", "--plot", f"{__file__}/x"), "argument --plot: "),
        (("train", "--data", "/no/such/place"), "argument --data: wanted 'mnist', or a directory with four files"),
        (("evaluate", "model", "--data", __file__), "argument --data: wanted 'mnist', or a directory with four files"),
        (("train", "digits"), "unrecognized arguments: digits"),
        (("evaluate",), "the following arguments are required: MODEL"),
        (("evaluate", "/no/such/model"), "/no/such/model: No such file or directory"),
        (("evaluate", "/"), "/: Is a directory"),
        (("evaluate", __file__), __file__),
        (("predict", "model"), "the following arguments are required: IMAGE"),
        (("predict", "/no/such/model", "image"), "/no/such/model: No such file or directory"),
        (("info", "more"), "unrecognized arguments: more"),
    ],
    ids=lambda value: " ".join(value) or "nothing" if isinstance(value, tuple) else "",
)
def test_bad_command_lines(refused, arguments, message):
    assert message in refused(*arguments)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("--epochs 3", "train --epochs 3"),
        ("--epochs=3 --quiet", "train --epochs=3 --quiet"),
        ("--raw MODEL IMAGE", "predict --raw MODEL IMAGE"),
        ("--data . evaluate MODEL", "evaluate --data . MODEL"),
        ("--lr 3", "train --lr 3"),
    ],
)
def test_options_without_a_command_are_told_where_they_belong(refused, given, meant):
    assert refused(*given.split()) == (
        f"fastmlp: error: a command comes before its options: fastmlp {meant} (see fastmlp --help)\n"
    )


def test_help_lists_what_the_tables_have(run):
    _, out, _ = run("train", "--help")
    for table in (ACTIVATIONS, INITS, OPTIMIZERS):
        assert f"{{{','.join(table)}}}" in out
    assert "sgd 0.01, adam 0.001" in " ".join(out.split())
    assert f"{{{','.join(RECIPES)}}}" in out


def test_usage_errors_point_to_the_help(refused):
    assert refused("train", "--epochs", "0").endswith("(see fastmlp train --help)\n")
    assert refused("tarin").endswith("(see fastmlp --help)\n")


@pytest.mark.parametrize("command", ["train", "evaluate MODEL", "predict MODEL IMAGE", "info"])
def test_an_unknown_option_leads_to_the_help_that_lists_the_known(refused, run, command):
    line = refused(*command.split(), "--nonsense", "3")
    name = command.split()[0]
    assert line.endswith(f"unrecognized arguments: --nonsense 3 (see fastmlp {name} --help)\n")
    assert run(name, "--help")[1].startswith(f"usage: fastmlp {name} ")


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (["--lr", "1"], "--learning-rate"),
        (["--learning_rate=1"], "--learning-rate"),
        (["--bs", "5"], "--batch-size"),
        (["--epoch", "3"], "--epochs"),
        (["--epoch", "3", "--hiden", "4"], "--epochs or --hidden"),
    ],
)
def test_an_unknown_option_is_answered_with_the_one_that_is_meant(refused, given, meant):
    expected = f"unrecognized arguments: {' '.join(given)}; did you mean {meant}? (see fastmlp train --help)\n"
    assert refused("train", *given).endswith(expected)


def test_places_without_permission(refused, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "file").chmod(0o400)
    if os.access(tmp_path / "file", os.W_OK):
        pytest.skip("this user may write everywhere")
    assert "cannot be written: no permission" in refused("train", "--save", tmp_path / "file")
    tmp_path.chmod(0o500)
    assert "cannot be written: no permission" in refused("train", "--json", tmp_path / "new")
    assert "cannot be written: no permission in" in refused("train", "--plot", tmp_path / "new")


@pytest.mark.skipif(sys.platform != "linux", reason="the place that nobody may write is Linux's")
@pytest.mark.parametrize("option", ["--plot", "--save", "--json"])
def test_places_without_permission_even_for_root(refused, option):
    assert f"argument {option}: '/proc/x' cannot be written: no permission" in refused("train", option, "/proc/x")


def test_nothing_is_made_by_a_refused_command(refused, tmp_path):
    refused(
        "train",
        "--save",
        tmp_path / "s",
        "--json",
        tmp_path / "j",
        "--plot",
        tmp_path / "p",
        "--data",
        tmp_path,
    )
    assert list(tmp_path.iterdir()) == []


def test_data_that_is_missing_malformed_or_too_small(refused, tmp_path):
    assert "train-labels-idx1-ubyte" in refused("train", "--data", tmp_path)
    folder = write_data(tmp_path, n_train=5000)
    assert "5000" in refused("train", "--data", folder, *FAST)
    write_data(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    assert "t10k-labels-idx1-ubyte" in refused("train", "--data", folder, *FAST)  # before it trains


def test_a_network_beyond_the_memory(refused, data):
    refused("train", "--data", data, "--hidden", "2147483647,2147483647")


def test_evaluate_on_data_of_another_size(refused, model):
    assert f"{K}" in refused("evaluate", model, "--data", "mnist")


def test_a_damaged_model(refused, model, tmp_path):
    whole = Path(model).read_bytes()
    for keep in (0, 7, 100, len(whole) - 1):
        (tmp_path / "damaged").write_bytes(whole[:keep])
        assert str(tmp_path / "damaged") in refused("evaluate", tmp_path / "damaged")


def test_a_file_that_does_not_fit_does_not_stop_the_others(run, refused, model, tmp_path):
    np.save(tmp_path / "good.npy", images_of([1]))
    np.save(tmp_path / "bad.npy", np.zeros((28, 28), np.uint8))
    files = [tmp_path / name for name in ("good.npy", "bad.npy", "absent.npy", "good.npy")]
    status, out, err = run("predict", model, *files)
    assert status == 2
    assert re.fullmatch(r"(.*/good\.npy: 1  [01]\.\d{4}\n){2}", out)
    assert re.fullmatch(r"fastmlp: error: .*/bad\.npy: .*\nfastmlp: error: .*/absent\.npy: No such file.*\n", err)
    line = refused("predict", model, tmp_path / "bad.npy")
    assert f"bad.npy: the shape is (28, 28), the network takes ({K},), (n, {K}), (6, 6) or (n, 6, 6)" in line
    assert f"{tmp_path}/absent.png: No such file" in refused("predict", model, tmp_path / "absent.png")
    assert f"{tmp_path}: Is a directory" in refused("predict", model, tmp_path)


def test_an_image_of_another_size(refused, model, tmp_path):
    images = pytest.importorskip("PIL.Image", reason="writes an image file")
    images.new("L", (28, 28)).save(tmp_path / "large.png")
    line = refused("predict", "--raw", model, tmp_path / "large.png")
    assert "large.png: the image is 28x28, the network takes 6x6" in line
    assert "large.png: the picture is empty: nothing" in refused("predict", model, tmp_path / "large.png")


def test_predict_prepares_pictures_and_says_how(run, model, tmp_path):
    images = pytest.importorskip("PIL.Image", reason="writes an image file")
    paper = np.full((90, 60), 255, np.uint8)
    paper[10:70, 20:28] = 0
    images.fromarray(paper).save(tmp_path / "one.png")
    np.save(tmp_path / "one.npy", np.zeros((SIDE, SIDE), np.uint8))
    status, out, err = run("predict", model, tmp_path / "one.png", tmp_path / "one.npy")
    assert (status, err) == (0, "")
    picture, array = out.splitlines()
    assert re.fullmatch(r".*/one\.png: \d  [01]\.\d{4}  \(inverted, scaled to 6x6\)", picture)
    assert re.fullmatch(r".*/one\.npy: \d  [01]\.\d{4}", array)


def test_divergence_of_an_ensemble(refused, data):
    line = refused("train", "--data", data, *FAST, "--quiet", "--learning-rate", "1e38", "--ensemble", "2")
    assert "networks[0], networks[1] failed; networks[0] by DivergenceError: training diverged in epoch 1" in line


def test_divergence(refused, data, tmp_path):
    line = refused("train", "--data", data, *FAST, "--quiet", "--learning-rate", "1e38", "--save", tmp_path / "s")
    assert "epoch" in line
    assert not (tmp_path / "s").exists()


def test_a_missing_matplotlib_is_told_before_the_training(data, tmp_path):
    script = f"""
import sys
sys.modules["matplotlib"] = None
from fastmlp.activations import ACTIVATIONS
from fastmlp.cli import main
from fastmlp.initial import INITS
from fastmlp.optimizers import OPTIMIZERS
sys.exit(main(["train", "--data", {data!r}, "--plot", {str(tmp_path)!r}]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "fastmlp: error: plots need matplotlib: pip install 'fastmlp[plot]'\n"


# ---- as a process


@pytest.mark.slow
def test_python_m_fastmlp_is_the_command(data):
    process = start("train", "--data", data, *FAST, "--quiet")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert re.fullmatch(r"Accuracy: [01]\.\d{4}\n", out)
    assert err == ""


@pytest.mark.slow
def test_exit_status_and_one_line_of_a_process():
    process = start("train", "--epochs", "0")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert out == ""
    assert err.count("\n") == 1


@pytest.fixture
def interruptible():
    """Let children obey SIGINT, which a process that ignores it would have them ignore as well."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.slow
@pytest.mark.parametrize("save", [True, False])
@pytest.mark.usefixtures("interruptible")
def test_ctrl_c(run, data, tmp_path, save):
    file = tmp_path / "network.safetensors"
    flags = ["--save", file] if save else []
    process = start("train", "--data", data, "--epochs", "1000000", *flags)
    assert process.stdout.readline().startswith("Epoch: 1 cost=")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    if save:
        assert err == f"fastmlp: interrupted: {file} holds the network of the last whole batch\n"
        assert run("evaluate", file, "--data", data)[0] == 0
    else:
        assert err == "fastmlp: interrupted\n"


@pytest.mark.slow
@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_in_an_ensemble(run, data, tmp_path):
    file, checkpoint = tmp_path / "networks", tmp_path / "run"
    flags = ["--data", data, "--hidden", "8", "--epochs", "1000000", "--threads", "2", "--ensemble", "4"]
    process = start("train", *flags, "--save", file, "--checkpoint", checkpoint)
    begun = set()
    while len(begun) < 2:
        begun.add(process.stdout.readline().partition(" Epoch: ")[0])
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert begun == {"Network: 0", "Network: 1"}
    files = f"{checkpoint}-0, {checkpoint}-1"
    kept = f"{file} holds 2 of 4 networks; the same command goes on from {files}"
    assert err == f"fastmlp: interrupted: {kept}\n"
    assert run("evaluate", file, "--data", data)[0] == 0
    assert [network.seed for network in fastmlp.load(file).networks] == [0, 1]


@pytest.mark.slow
@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_with_a_checkpoint(data, tmp_path):
    flags = ["--data", data, "--checkpoint", tmp_path / "run"]
    process = start("train", *flags, "--epochs", "1000000")
    seen = [process.stdout.readline() for _ in range(3)]
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == f"fastmlp: interrupted: the same command goes on from {tmp_path / 'run'}\n"
    assert [line.startswith("Epoch: ") for line in seen] == [True] * 3
    run_on = start("train", *flags, "--epochs", "1000000")
    assert int(run_on.stdout.readline().split()[1]) > 3
    run_on.send_signal(signal.SIGINT)
    run_on.communicate(timeout=60)


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["predict"], ["train"]])
def test_a_reader_that_goes_away(data, model, tmp_path, arguments):
    if arguments == ["predict"]:
        np.save(tmp_path / "many.npy", np.zeros((20_000, K), np.float32))
        process = start("predict", model, tmp_path / "many.npy")
    else:
        process = start("train", "--data", data, "--hidden", "8", "--epochs", "1000000")
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(timeout=60) == 141


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no /dev/full")
def test_a_full_disk():
    with open("/dev/full", "w") as full:
        process = start("info", stdout=full)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert re.fullmatch(r"fastmlp: error: .*No space left on device\n", err)


def read_terminal(*arguments):
    """Run the command with a terminal for both its outputs; return what the terminal got."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 100, 0, 0))
    process = start(*arguments, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    # Linux reports the end of a terminal as an input/output error
    while chunk := _read_or_nothing(ours):
        shown += chunk
    os.close(ours)
    assert process.wait(timeout=60) == 0
    return shown.decode()


def _read_or_nothing(descriptor):
    try:
        return os.read(descriptor, 4096)
    except OSError:
        return b""


@pytest.mark.slow
def test_a_terminal_gets_a_progress_bar(data):
    shown = read_terminal("train", "--data", data, *FAST)
    assert re.search(r"Epoch 2/2: +\d+%\|", shown)
    assert re.search(r"\rEpoch: 2 cost=[^\r]+\r\n", shown)
    assert re.search(r"Accuracy: [01]\.\d{4}\r\n$", shown)


@pytest.mark.slow
def test_quiet_on_a_terminal(data):
    shown = read_terminal("train", "--data", data, *FAST, "--quiet")
    assert re.fullmatch(r"Accuracy: [01]\.\d{4}\r\n", shown)


def test_a_pipe_gets_plain_lines(data):
    process = start("train", "--data", data, *FAST)
    out, err = process.communicate(timeout=60)
    assert err == ""
    assert "\r" not in out
    assert [line.split()[0] for line in out.splitlines()] == ["Epoch:", "Epoch:", "Accuracy:"]


@pytest.mark.slow
def test_the_command_starts_without_what_it_may_not_need():
    script = """
import sys
import numpy
before = set(sys.modules)
import fastmlp.cli
print({"matplotlib", "PIL", "tqdm", "safetensors", "json"} & (set(sys.modules) - before))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
