"""The ``fastmlp`` command: train, evaluate, predict, info."""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt

import fastmlp
from fastmlp import _arguments, callbacks, threads
from fastmlp.activations import ACTIVATIONS
from fastmlp.initial import INITS
from fastmlp.losses import loss_of
from fastmlp.network import MLP
from fastmlp.optimizers import OPTIMIZERS, Optimizer
from fastmlp.runs import History
from fastmlp.schedules import SCHEDULES

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the ``fastmlp`` command.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments after the command's name; those of the process by default.

    Returns
    -------
    int
        The exit status: 0; 2 for an error of usage or data, told in one line on standard error; 130 for
        Ctrl-C; 141 when the reader of standard output has gone. A warning is a line on standard error, too.

    Examples
    --------
    >>> from fastmlp.cli import main
    >>> main(["--version"])  # doctest: +ELLIPSIS
    fastmlp ...
    0
    """
    try:
        # only --help and --version make argparse exit: the errors of usage are ValueErrors
        status = 0
        with suppress(SystemExit), warnings.catch_warnings():
            warnings.simplefilter("always", UserWarning)
            warnings.showwarning = _show_warning
            options = _parser().parse_args(argv)
            status = options.run(options) or 0
        print(end="", flush=True)
        return status
    except KeyboardInterrupt as stop:
        kept = ": " + "; ".join(stop.args) if stop.args else ""
        return _fail(130, f"interrupted{kept}")
    except BrokenPipeError:
        return 141
    except OSError as error:
        return _fail(2, f"error: {_reason(error)}")
    except MemoryError as error:
        return _fail(2, f"error: not enough memory: {error}")
    except (ValueError, ImportError, fastmlp.DivergenceError) as error:
        return _fail(2, f"error: {error}")
    finally:
        # Python flushes once more when it exits: what cannot be written now goes into nothing then
        try:
            print(end="", flush=True)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(status: int, message: str) -> int:
    print("fastmlp:", " ".join(message.split()), file=sys.stderr)
    return status


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    print("fastmlp: warning:", " ".join(str(message).split()), file=sys.stderr)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)


# ---- the commands


def _train(options: argparse.Namespace) -> None:
    output = sys.stdout
    with redirect_stdout(sys.stderr if options.json == "-" else output):
        _train_and_report(options, output)


def _train_and_report(options: argparse.Namespace, output: TextIO) -> None:
    start = time.perf_counter()
    if options.plot:
        from fastmlp import plots  # noqa: PLC0415 - first, so that its absence does not cost a training

    X, y = _load(options.data, "train")
    Xv, yv = _load(options.data, "validation")
    Xt, yt = _load(options.data, "test")
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


def _load(data: str, split: str) -> tuple[npt.NDArray[np.float32], npt.NDArray[Any]]:
    return fastmlp.load_mnist(split, path=None if data == "mnist" else data)


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


def _evaluate(options: argparse.Namespace) -> None:
    result = fastmlp.load(options.model).evaluate(*_load(options.data, "test"))
    for name, value in result.items():
        print(f"{name.capitalize()}: {value:.4f}")


def _predict(options: argparse.Namespace) -> int:
    from fastmlp.images import read_prepared, read_rows  # noqa: PLC0415 - few commands need it

    network = fastmlp.load(options.model)
    n_inputs = network.layer_sizes[0]
    status = 0
    for file in options.images:
        try:
            rows, how = (read_rows(file, n_inputs), "") if options.raw else read_prepared(file, n_inputs)
        except (OSError, ValueError, ImportError) as error:
            status = _fail(2, f"error: {_reason(error)}")
            continue
        done = f"  ({how})" if how else ""
        for i, answer in enumerate(_answers(network, rows)):
            print(f"{file}: {answer}{done}" if len(rows) == 1 else f"{file}[{i}]: {answer}")
    return status


def _answers(network: MLP, rows: npt.NDArray[np.float32]) -> Iterator[str]:
    loss = loss_of(network.loss)
    if loss.targets == "classes":
        probabilities = network.predict_proba(rows).max(axis=1)
        for label, probability in zip(network.predict(rows), probabilities, strict=True):
            yield f"{label}  {probability:.4f}"
        return
    outputs = network.predict_proba(rows) if loss.output.is_probability else network.predict(rows)
    for values in outputs.reshape(len(rows), network.layer_sizes[-1]):
        yield " ".join(f"{value:.6g}" for value in values)


def _info(_: argparse.Namespace) -> None:
    fastmlp.show_config()


# ---- the command line


def _parser() -> argparse.ArgumentParser:
    parser = _arguments.Parser(
        prog="fastmlp",
        description="Trains multilayer perceptrons on CPUs, fast.",
        epilog="Exit status: 0; 2 after an error, told in one line on standard error; 130 after Ctrl-C.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"fastmlp {fastmlp.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    train = commands.add_parser(
        "train",
        help="train a network on MNIST, or on data in the same format",
        description="Trains a network on the training images but the first 5,000, reports its progress on "
        "those 5,000, and ends with its accuracy on the test images. After Ctrl-C, --save still writes the "
        "network, as it was after the last whole batch.",
        allow_abbrev=False,
    )
    train.set_defaults(run=_train)
    _add_data(train)
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

    evaluate = commands.add_parser(
        "evaluate",
        help="print a saved network's loss and accuracy on the test images",
        description="Prints the loss and the accuracy of a saved network on the test images.",
        allow_abbrev=False,
    )
    evaluate.set_defaults(run=_evaluate)
    _add_model(evaluate)
    _add_data(evaluate)

    predict = commands.add_parser(
        "predict",
        help="say what images are",
        description="Prints a line for each image: its file (and its row, where a file has several), the "
        "label and its probability; or the outputs, when the network was not trained for labels. An image file may "
        "be any picture of a digit: it is made one as MNIST has, and the line says how. A file that cannot be read "
        "has a line on standard error, and does not stop the others.",
        allow_abbrev=False,
    )
    predict.set_defaults(run=_predict)
    _add_model(predict)
    predict.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="an image file (needs Pillow); or rows or images in a .npy file (uint8, or floats in [0, 1]) or in an "
        "IDX file, which are taken as they are",
    )
    predict.add_argument(
        "--raw",
        action="store_true",
        help="take image files as they are too: of the network's size, light on dark as MNIST is (right for networks "
        "that read other things than digits)",
    )

    info = commands.add_parser(
        "info",
        help="print the version, the instruction set in use and the threads",
        description="Prints the version, the instruction set in use and those compiled in, and the threads.",
        allow_abbrev=False,
    )
    info.set_defaults(run=_info)
    return parser


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a network that 'fastmlp train --save' wrote")


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        type=_arguments.data,
        default="mnist",
        metavar="mnist|DIRECTORY",
        help="MNIST itself, or a directory with four files named as MNIST's (default: %(default)s)",
    )
