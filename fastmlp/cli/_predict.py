"""``fastmlp evaluate`` and ``fastmlp predict``: what a saved network is asked."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

import fastmlp
from fastmlp.cli import _arguments
from fastmlp.cli._messages import fail, reason
from fastmlp.ensemble import Ensemble
from fastmlp.losses import loss_of
from fastmlp.network import MLP


def add_commands(commands: Any) -> None:
    evaluate = commands.add_parser(
        "evaluate",
        help="print a saved network's loss and accuracy on the test images",
        description="Prints the loss and the accuracy of a saved network on the test images.",
        allow_abbrev=False,
    )
    evaluate.set_defaults(run=_evaluate)
    _add_model(evaluate)
    _arguments.add_data(evaluate)

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


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a network, or an ensemble, that 'fastmlp train --save' wrote")


def _evaluate(options: argparse.Namespace) -> None:
    test = fastmlp.load_mnist("test", path=_arguments.path_of(options.data))
    result = fastmlp.load(options.model).evaluate(*test)
    for name, value in result.items():
        print(f"{name.capitalize()}: {value:.4f}")


def _predict(options: argparse.Namespace) -> int:
    from fastmlp.images import read_prepared, read_rows  # noqa: PLC0415 - few commands need it

    model = fastmlp.load(options.model)
    n_inputs = (model.networks[0] if isinstance(model, Ensemble) else model).layer_sizes[0]
    status = 0
    for file in options.images:
        try:
            rows, how = (read_rows(file, n_inputs), "") if options.raw else read_prepared(file, n_inputs)
        except (OSError, ValueError, ImportError) as error:
            status = fail(2, f"error: {reason(error)}")
            continue
        done = f"  ({how})" if how else ""
        for i, answer in enumerate(_answers(model, rows)):
            print(f"{file}: {answer}{done}" if len(rows) == 1 else f"{file}[{i}]: {answer}")
    return status


def _answers(model: MLP | Ensemble, rows: npt.NDArray[np.float32]) -> Iterator[str]:
    loss = loss_of(model.loss)
    if loss.targets == "classes":
        probabilities = model.predict_proba(rows).max(axis=1)
        for label, probability in zip(model.predict(rows), probabilities, strict=True):
            yield f"{label}  {probability:.4f}"
        return
    outputs = model.predict_proba(rows) if loss.output.is_probability else model.predict(rows)
    for values in outputs if outputs.ndim == 2 else outputs[:, np.newaxis]:
        yield " ".join(f"{value:.6g}" for value in values)
