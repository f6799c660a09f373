"""``fastmlp train``."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, TextIO

from numpy.typing import NDArray

from fastmlp import recipes, threads
from fastmlp.activations import ACTIVATIONS
from fastmlp.arrays import Float32
from fastmlp.cli import _arguments
from fastmlp.cli._messages import say
from fastmlp.cli._report import Report
from fastmlp.datasets.digits import find_mnist, load_mnist
from fastmlp.initial import INITS
from fastmlp.network import MLP
from fastmlp.optimizers import OPTIMIZERS
from fastmlp.recipes import RECIPES, Data, Recipe
from fastmlp.schedules import SCHEDULES
from fastmlp.training.ranks import world


def add_command(commands: Any) -> None:
    train = commands.add_parser(
        "train",
        help="train a network on MNIST, or on data in the same format",
        description="Trains a network on the training images but the first 5,000, reports its progress on "
        "those 5,000, and ends with its accuracy on the test images, which are read then. The recipes accurate and "
        "best, for which those 5,000 have done their work, learn from them, too. After Ctrl-C, --save still writes the "
        "network, as it was after the last whole batch.",
        allow_abbrev=False,
    )
    train.set_defaults(run=_train)
    _arguments.add_data(train)
    train.add_argument(
        "--recipe",
        choices=RECIPES,
        default="tutorial",
        help="what to train, and how: the tutorial's job; 98 %% of the digits in the least time; 99 %% without knowing "
        "what an image is; or the best, by images put out of shape (default: %(default)s)",
    )
    train.add_argument(
        "--ensemble",
        type=_arguments.count,
        default=1,
        metavar="K",
        help="train K networks of seeds N, N + 1 ..., and average what they say (default: %(default)s)",
    )
    tutorial = RECIPES["tutorial"]
    group = train.add_argument_group(
        "what the recipe says, unless you say otherwise",
        f"The tutorial's says --hidden {','.join(map(str, tutorial.hidden))} --epochs {tutorial.epochs} --batch-size "
        f"{tutorial.batch_size} --activation {tutorial.activation} --optimizer {tutorial.optimizer} --learning-rate "
        f"{tutorial.learning_rate}; fastmlp.recipes.RECIPES has all of them.",
    )
    _add_changes(group)
    train.add_argument(
        "--seed",
        type=_arguments.seed,
        default=0,
        metavar="N",
        help="the same seed gives the same network (default: %(default)s)",
    )
    train.add_argument(
        "--patience",
        type=_arguments.count,
        metavar="N",
        help="end after N epochs without a better validation loss, with the network of the best epoch",
    )
    train.add_argument("--threads", type=_arguments.count, metavar="N", help="at most N threads (default: as it pays)")
    train.add_argument(
        "--mpi",
        action="store_true",
        help="train one network in all processes that mpiexec has started: each has its share of the images and of a "
        "step's rows, which are brought up to as many for each, and the first one prints and writes; Ctrl-C ends all "
        "at once, and only --checkpoint keeps what was done (needs mpi4py)",
    )
    train.add_argument(
        "--sync-every",
        type=_arguments.count,
        default=1,
        metavar="K",
        help="with --mpi: let each process take K steps by itself between two means of their parameters; for slow "
        "networks (default: %(default)s)",
    )
    train.add_argument(
        "--save", type=_arguments.file, metavar="FILE", help="write the network, or all of them, as safetensors"
    )
    train.add_argument(
        "--checkpoint",
        type=_arguments.file,
        metavar="FILE",
        help="write the state of the training after each epoch, and go on from it where there is such a file; of "
        "several networks each has its own, FILE with its seed behind the name",
    )
    train.add_argument(
        "--plot",
        type=_arguments.directory,
        metavar="DIRECTORY",
        help="write pictures: learning curves, digits, confusion matrix, worst mistakes, what the network looks at, "
        "and how far the networks of an ensemble are apart (needs matplotlib)",
    )
    train.add_argument(
        "--json",
        type=_arguments.file_or_output,
        metavar="FILE",
        help="write options, losses (each epoch's also as cost, its name in the lines), accuracies and times; "
        "training_seconds are those of the epochs, or of several networks at once by the clock, total_seconds from the "
        "loading of the data to the result of the test; - is standard output, and all else goes to standard error then",
    )
    train.add_argument("--quiet", action="store_true", help="print the last line alone, the accuracy")


def _add_changes(group: argparse._ArgumentGroup) -> None:
    """Add the options that are fields of a `Recipe`; those that are not given stay None."""
    count, number, numbers = _arguments.count, _arguments.number, _arguments.numbers
    group.add_argument("--hidden", type=_arguments.sizes, metavar="N,N...", help="units of the hidden layers")
    group.add_argument("--epochs", type=count, metavar="N", help="passes over the training images")
    group.add_argument("--batch-size", type=count, metavar="N", help="rows a step")
    group.add_argument("--activation", choices=ACTIVATIONS, help="of the hidden layers")
    group.add_argument(
        "--batch-norm", action=argparse.BooleanOptionalAction, help="normalise the hidden layers over each batch"
    )
    for name, kind, metavar, what in (
        ("--dropout", numbers, "X[,X...]", "share of hidden units left out, or that of each hidden layer,"),
        ("--input-dropout", number, "X", "share of pixels left out"),
        ("--noise", numbers, "X[,X...]", "deviation of noise before each activation, or of each,"),
        ("--input-noise", number, "X", "deviation of noise on the pixels"),
    ):
        group.add_argument(name, type=kind, metavar=metavar, help=f"{what} in training")
    group.add_argument("--optimizer", choices=OPTIMIZERS, help="rule of a step")
    rates = ", ".join(f"{name} {kind().learning_rate}" for name, kind in OPTIMIZERS.items())
    group.add_argument(
        "--learning-rate",
        type=_arguments.rate,
        metavar="X",
        help=f"of the optimizer; with another --optimizer than the recipe's by default {rates}",
    )
    group.add_argument(
        "--schedule",
        choices=[*SCHEDULES, "none"],
        help="how the learning rate changes from step to step, up to the last one",
    )
    group.add_argument(
        "--init",
        choices=INITS,
        help="how the weights are drawn; normal: weights and biases from N(0, 1) (default: what fits the activation)",
    )
    group.add_argument(
        "--validation",
        choices=["epochs", "end", "none"],
        help="what the first 5,000 images are for: to judge each epoch, or the trained network, or to be learned from",
    )


_TRAINED = "Trained: seconds={training_seconds:.2f}"
_JUDGED = " validation_loss={validation_loss:.4f} validation_accuracy={validation_accuracy:.4f}"


def _train(options: argparse.Namespace) -> None:
    output = sys.stdout
    with redirect_stdout(sys.stderr if options.json == "-" else output):
        _train_and_report(options, output)


def _train_and_report(options: argparse.Namespace, output: TextIO) -> None:
    start = time.perf_counter()
    if options.plot:
        from fastmlp import plots  # noqa: PLC0415 - first, so that its absence does not cost a training

    if options.mpi and options.ensemble > 1:
        raise ValueError("--mpi trains one network, not an --ensemble: fastmlp.fit_many trains several at once")
    communicator = world() if options.mpi else None
    recipe, path = _recipe(options), _arguments.path_of(options.data)
    data = Data.load(recipe, path)
    if path:
        find_mnist("test", path)  # read in the end, but missed now
    networks = recipes.make_networks(recipe, data, options.seed, options.ensemble, options.threads)
    begin = time.perf_counter()
    try:
        recipes.fit(
            networks,
            recipe,
            data,
            checkpoint=options.checkpoint,
            patience=options.patience,
            communicator=communicator,
            sync_every=options.sync_every,
            verbose=0 if options.quiet else 1,  # a line every epoch
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(*_kept(options, networks)) from None
    seconds = time.perf_counter() - begin
    if communicator is not None and communicator.rank > 0:
        return
    model = recipes.together(networks)
    if options.save:
        model.save(options.save)

    report = Report(model, data, seconds)
    if options.recipe != "tutorial" or options.ensemble > 1:
        _print(options, report.lines(_TRAINED + ("" if data.validation is None else _JUDGED)))
    Xt, yt = _test_images(path, data)
    report.test(Xt, yt)
    if options.json:
        text = report.as_json(_config(options, recipe, networks[0]), time.perf_counter() - start)
        if options.json == "-":
            output.write(text)
        else:
            Path(options.json).write_text(text, encoding="utf-8")
    if options.plot:
        written = plots.write_all(options.plot, networks[0].history, Xt, yt, model.predict_proba(Xt), model=model)
        if "digits.png" not in written:
            say(f"no pictures of images: {data.X.shape[1]} inputs are no square image")
    *each, last = report.lines("Accuracy: {test_accuracy:.4f}")
    _print(options, each)
    print(last)


def _print(options: argparse.Namespace, lines: Sequence[str]) -> None:
    if not options.quiet:
        for line in lines:
            print(line)


def _recipe(options: argparse.Namespace) -> Recipe:
    """Return the recipe with all that the command line says otherwise."""
    recipe = RECIPES[options.recipe]
    given = {name: getattr(options, name, None) for name in Recipe._fields}
    said = {name: value for name, value in given.items() if value is not None}
    if options.optimizer not in (None, recipe.optimizer):
        said = {"learning_rate": OPTIMIZERS[options.optimizer]().learning_rate, **said}
    if options.schedule == "none":
        said["schedule"] = None
    if options.patience:
        if options.validation not in (None, "epochs"):
            raise ValueError(f"--patience wants --validation epochs, not {options.validation}")
        said["validation"] = "epochs"
    return recipe._replace(**said)


def _kept(options: argparse.Namespace, networks: Sequence[MLP]) -> Iterator[str]:
    """Save what is trained when Ctrl-C comes, and yield what there is to tell of it."""
    alone = len(networks) == 1
    trained = networks if alone else [network for network in networks if network.history.loss]
    if options.save and trained:
        recipes.together(trained).save(options.save)
        which = "best epoch" if options.patience else "last whole batch"
        what = f"the network of the {which}" if alone else f"{len(trained)} of {len(networks)} networks"
        yield f"{options.save} holds {what}"
    if options.checkpoint:
        files = [file for file in recipes.checkpoint_files(options.checkpoint, networks) if os.path.exists(file)]
        yield f"the same command goes on from {', '.join(files) or 'the beginning'}"


def _test_images(path: str | None, data: Data) -> tuple[Float32, NDArray[Any]]:
    """Read the test images: for the first time, now that there is nothing left to choose."""
    X, y = load_mnist("test", path=path)
    k, n_classes = data.X.shape[1], data.n_classes
    if X.shape[1] != k:
        raise ValueError(f"{path}: the test images have {X.shape[1]} pixels, the training images {k}")
    if y.max() >= n_classes:
        raise ValueError(f"{path}: the test labels go up to {y.max()}, those of the training file to {n_classes - 1}")
    return X, y


def _config(options: argparse.Namespace, recipe: Recipe, network: MLP) -> dict[str, Any]:
    """Return all that was chosen, by the command line or by the recipe."""
    given = {name: value for name, value in vars(options).items() if name not in ("command", "run")}
    used = {"layer_sizes": network.layer_sizes, "threads": options.threads or threads.available()}
    augment = None if recipe.augment is None else repr(recipe.augment)
    return {**given, **recipe._asdict(), "augment": augment, "init": network.init, **used}
