"""``fastmlp train``."""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, TextIO

import fastmlp
from fastmlp import callbacks, threads
from fastmlp.activations import ACTIVATIONS
from fastmlp.cli import _arguments
from fastmlp.initial import INITS
from fastmlp.network import MLP
from fastmlp.optimizers import OPTIMIZERS, Optimizer
from fastmlp.runs import History
from fastmlp.schedules import SCHEDULES


def add_command(commands: Any) -> None:
    train = commands.add_parser(
        "train",
        help="train a network on MNIST, or on data in the same format",
        description="Trains a network on the training images but the first 5,000, reports its progress on "
        "those 5,000, and ends with its accuracy on the test images. After Ctrl-C, --save still writes the "
        "network, as it was after the last whole batch.",
        allow_abbrev=False,
    )
    train.set_defaults(run=_train)
    _arguments.add_data(train)
    train.add_argument(
        "--hidden",
        type=_arguments.sizes,
        default="256,256",
        metavar="N,N...",
        help="units of the hidden layers (default: %(default)s)",
    )
    train.add_argument(
        "--epochs",
        type=_arguments.count,
        default=15,
        metavar="N",
        help="passes over the training images (default: %(default)s)",
    )
    train.add_argument(
        "--batch-size", type=_arguments.count, default=100, metavar="N", help="rows a step (default: %(default)s)"
    )
    train.add_argument(
        "--activation", choices=ACTIVATIONS, default="relu", help="of the hidden layers (default: %(default)s)"
    )
    train.add_argument("--batch-norm", action="store_true", help="normalise the hidden layers over each batch")
    _arguments.add_noise(train)
    train.add_argument("--optimizer", choices=OPTIMIZERS, default="adam", help="rule of a step (default: %(default)s)")
    rates = ", ".join(f"{name} {kind().learning_rate}" for name, kind in OPTIMIZERS.items())
    train.add_argument(
        "--learning-rate", type=_arguments.rate, metavar="X", help=f"of the optimizer (default: {rates})"
    )
    train.add_argument(
        "--schedule",
        choices=SCHEDULES,
        help="how the learning rate changes from step to step, up to the last one (default: not at all)",
    )
    train.add_argument(
        "--init",
        choices=INITS,
        help="how the weights are drawn; normal: weights and biases from N(0, 1) (default: what fits the activation)",
    )
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
    train.add_argument("--save", type=_arguments.file, metavar="FILE", help="write the network, as safetensors")
    train.add_argument(
        "--checkpoint",
        type=_arguments.file,
        metavar="FILE",
        help="write the state of the training after each epoch; where there is such a file, go on from it",
    )
    train.add_argument(
        "--plot",
        type=_arguments.directory,
        metavar="DIRECTORY",
        help="write pictures: learning curves, digits, confusion matrix, worst mistakes (needs matplotlib)",
    )
    train.add_argument(
        "--json",
        type=_arguments.file_or_output,
        metavar="FILE",
        help="write options, losses (each epoch's also as cost, its name in the lines), accuracies and times; "
        "total_seconds is from the loading of the data to the result of the test; - is standard output, and all "
        "else goes to standard error then",
    )
    train.add_argument("--quiet", action="store_true", help="print the last line alone, the accuracy")


def _train(options: argparse.Namespace) -> None:
    output = sys.stdout
    with redirect_stdout(sys.stderr if options.json == "-" else output):
        _train_and_report(options, output)


def _train_and_report(options: argparse.Namespace, output: TextIO) -> None:
    start = time.perf_counter()
    if options.plot:
        from fastmlp import plots  # noqa: PLC0415 - first, so that its absence does not cost a training

    X, y = _arguments.load(options.data, "train")
    Xv, yv = _arguments.load(options.data, "validation")
    Xt, yt = _arguments.load(options.data, "test")
    if Xt.shape[1] != X.shape[1]:
        raise ValueError(f"{options.data}: the test images have {Xt.shape[1]} pixels, the training images {X.shape[1]}")
    n_classes = 1 + max(int(labels.max()) for labels in (y, yv, yt))
    optimizer = _optimizer(options)
    network = fastmlp.MLP(
        (X.shape[1], *options.hidden, n_classes),
        activation=options.activation,
        init=options.init,
        batch_norm=options.batch_norm,
        **{name: getattr(options, name) for name in ("dropout", "input_dropout", "noise", "input_noise")},
        seed=options.seed,
        n_threads=options.threads,
    )
    options.init = network.init
    try:
        history = network.fit(
            X,
            y,
            epochs=options.epochs,
            batch_size=options.batch_size,
            optimizer=optimizer,
            validation_data=(Xv, yv),
            callbacks=_callbacks(options),
            resume=options.checkpoint,
            verbose=0 if options.quiet else 1,  # a line every epoch
        )
    except KeyboardInterrupt:
        kept = []
        if options.save:
            network.save(options.save)
            which = "best epoch" if options.patience else "last whole batch"
            kept.append(f"{options.save} holds the network of the {which}")
        if options.checkpoint:
            kept.append(f"the same command goes on from {options.checkpoint}")
        raise KeyboardInterrupt(*kept) from None
    if options.save:
        network.save(options.save)

    test = network.evaluate(Xt, yt)
    if options.json:
        text = _as_json(options, network, history, test, time.perf_counter() - start)
        if options.json == "-":
            output.write(text)
        else:
            Path(options.json).write_text(text, encoding="utf-8")
    if options.plot:
        written = plots.write_all(options.plot, history, Xt, yt, network.predict_proba(Xt))
        if "digits.png" not in written:
            missing = f"no digits.png, no worst_mistakes.png: {X.shape[1]} inputs are no square image"
            print("fastmlp:", missing, file=sys.stderr)
    print(f"Accuracy: {test['accuracy']:.4f}")


def _optimizer(options: argparse.Namespace) -> Optimizer:
    kind = OPTIMIZERS[options.optimizer]
    if options.learning_rate is None:
        options.learning_rate = kind().learning_rate  # for --json, too
    return kind(SCHEDULES[options.schedule](options.learning_rate) if options.schedule else options.learning_rate)


def _callbacks(options: argparse.Namespace) -> list[callbacks.Callback]:
    stop = [callbacks.EarlyStopping(patience=options.patience)] if options.patience else []
    keep = [callbacks.Checkpoint(options.checkpoint)] if options.checkpoint else []
    return [*stop, *keep]


def _as_json(
    options: argparse.Namespace, network: MLP, history: History, test: dict[str, float], seconds: float
) -> str:
    import json  # noqa: PLC0415 - few commands need it

    config = {name: value for name, value in vars(options).items() if name not in ("command", "run")}
    # the loss also by the name that the tutorial's lines have for it
    columns = {"loss": history.loss, "cost": history.loss, **history}
    rows = zip(*columns.values(), strict=True)
    result = {
        "config": {**config, "layer_sizes": network.layer_sizes, "threads": options.threads or threads.available()},
        "epochs": [{"epoch": epoch, **dict(zip(columns, row, strict=True))} for epoch, row in enumerate(rows, start=1)],
        "test_loss": test["loss"],
        "test_accuracy": test["accuracy"],
        "total_seconds": seconds,
    }
    return json.dumps(result, indent=2, allow_nan=False) + "\n"
