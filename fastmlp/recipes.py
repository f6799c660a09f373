"""What reaches 98, 99 and 99.5 % on MNIST: recipes, and what trains by them.

Everything in a recipe was chosen by the validation rows, from which the last two then learn, too. Nothing here reads
the test images: who trains by a recipe asks what it is worth by ``network.evaluate(*fastmlp.load_mnist("test"))``, as
``fastmlp train --recipe`` does at its end.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy.typing as npt

from fastmlp import checks
from fastmlp.arrays import Float32
from fastmlp.augment import Affine, Compose, Distortion, Elastic
from fastmlp.callbacks import Callback, Checkpoint, EarlyStopping, ProgressBar
from fastmlp.datasets import load_mnist
from fastmlp.ensemble import Ensemble
from fastmlp.network import MLP
from fastmlp.optimizers import OPTIMIZERS, Optimizer
from fastmlp.schedules import SCHEDULES, Rate
from fastmlp.training import fit_many
from fastmlp.training.ranks import Communicator

__all__ = ["RECIPES", "Data", "Recipe", "checkpoint_files", "fit", "make_networks", "together", "train"]


class Recipe(NamedTuple):
    """A network and how it is trained: what the options of those names of ``fastmlp train`` say, and more.

    Attributes
    ----------
    hidden : tuple of int
        Units of the hidden layers.
    epochs, batch_size : int
    optimizer : str
        A name of `fastmlp.optimizers.OPTIMIZERS`.
    learning_rate : float
        Of the optimizer, or the one that the schedule goes by.
    schedule : str or None
        A name of `fastmlp.schedules.SCHEDULES`.
    ema : float or None
        Of the optimizer. The result of the training is then the network of the averages.
    augment : fastmlp.augment.Distortion or None
        Of the images, for `MLP.fit`.
    activation, init, batch_norm, dropout, input_dropout, noise, input_noise
        As in `MLP`.
    validation : {"epochs", "end", "none"}
        What the validation rows are for: to judge each epoch; or the trained network alone, where judging would take
        too large a part of the time; or to be learned from like the others, when nothing is left to be chosen.

    Examples
    --------
    >>> from fastmlp.recipes import RECIPES
    >>> RECIPES["fast"]._replace(epochs=1).make_optimizer()  # doctest: +ELLIPSIS
    Adam(learning_rate=OneCycle(0.006, ...
    """

    hidden: tuple[int, ...]
    epochs: int
    batch_size: int
    learning_rate: float
    optimizer: str = "adam"
    schedule: str | None = None
    ema: float | None = None
    augment: Distortion | None = None
    activation: str = "relu"
    init: str | None = None
    batch_norm: bool = False
    dropout: float | tuple[float, ...] = 0.0
    input_dropout: float = 0.0
    noise: float | tuple[float, ...] = 0.0
    input_noise: float = 0.0
    validation: str = "epochs"

    def make_optimizer(self) -> Optimizer:
        """Return a new optimizer, for one network."""
        rate: Rate = SCHEDULES[self.schedule](self.learning_rate) if self.schedule else self.learning_rate
        return OPTIMIZERS[self.optimizer](rate, ema=self.ema)

    def make_network(self, n_inputs: int, n_outputs: int, seed: int, n_threads: int | None = None) -> MLP:
        """Return a network that is not trained yet."""
        return MLP(
            (n_inputs, *self.hidden, n_outputs),
            activation=self.activation,
            init=self.init,
            batch_norm=self.batch_norm,
            dropout=self.dropout,
            input_dropout=self.input_dropout,
            noise=self.noise,
            input_noise=self.input_noise,
            seed=seed,
            n_threads=n_threads,
        )


RECIPES = {
    # The tutorial's own job.
    "tutorial": Recipe(hidden=(256, 256), epochs=15, batch_size=100, learning_rate=1e-3),
    # 98 % in the least time.
    "fast": Recipe(
        hidden=(256, 128),
        epochs=3,
        batch_size=250,
        learning_rate=6e-3,
        schedule="one_cycle",
        validation="end",
    ),
    # Without knowledge of what an image is: the pixels might come in any order. The supervised part of a ladder network
    # (Rasmus et al. 2015, arXiv:1507.02672).
    "accurate": Recipe(
        hidden=(1000, 500, 250),
        epochs=40,
        batch_size=200,
        optimizer="adamw",
        learning_rate=3e-3,
        schedule="one_cycle",
        batch_norm=True,
        noise=0.3,
        input_noise=0.3,
        validation="none",
    ),
    # New forms of every image in every epoch, as Simard et al. (2003) and Cireşan et al. (2010, arXiv:1003.0358).
    "best": Recipe(
        hidden=(1000, 500),
        epochs=150,
        batch_size=250,
        optimizer="adamw",
        learning_rate=1e-3,
        schedule="one_cycle",
        augment=Compose(Affine(rotation=12, scale=0.15, shear=0.15, shift=1), Elastic(alpha=36, sigma=6)),
        validation="none",
    ),
}


class Data(NamedTuple):
    """What recipes learn from and are judged by while they do: the training file, and not the test file.

    Attributes
    ----------
    X, y : array
        The split "train" of `load_mnist` or, without `validation`, "train+validation".
    validation : pair of arrays or None
        The split "validation".

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp.recipes import Data
    >>> X, y = np.eye(3), np.array([0, 1, 2])
    >>> Data(X, y, validation=(X, y)).n_classes
    3
    """

    X: Float32
    y: npt.NDArray[Any]
    validation: tuple[Float32, npt.NDArray[Any]] | None

    @classmethod
    def load(cls, recipe: Recipe, path: str | os.PathLike[str] | None = None) -> Data:
        """Read what a recipe wants: of MNIST, or of the data set in a directory; see `load_mnist`."""
        if recipe.validation == "none":
            return cls(*load_mnist("train+validation", path=path), None)
        return cls(*load_mnist("train", path=path), load_mnist("validation", path=path))

    @property
    def n_classes(self) -> int:
        """One more than the largest label."""
        labels = [self.y] if self.validation is None else [self.y, self.validation[1]]
        return 1 + max(int(each.max()) for each in labels)


def train(
    name: str,
    seed: int = 0,
    ensemble: int = 1,
    *,
    path: str | os.PathLike[str] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    n_threads: int | None = None,
    verbose: bool | int = True,
) -> MLP | Ensemble:
    """Train a network, or several, on MNIST by a recipe.

    The time of the training is the sum of the network's ``history.seconds``. Several are trained at once.

    Parameters
    ----------
    name : {"tutorial", "fast", "accurate", "best"}
    seed : int, default 0
        Of the network; of several, that of the first one: each of the others has one more than the one before it.
    ensemble : int, default 1
        How many networks.
    path : path-like or None
        A directory with a data set in MNIST's format, as for `load_mnist`. None: MNIST.
    checkpoint : path-like or None
        A file in which the state of the training is kept after each epoch and from which it goes on, if it is there; of
        several networks each has one of its own, with the seed behind its name: ``run-0.safetensors`` and so on.
    n_threads : int or None
        As in `MLP`.
    verbose : bool or int, default True
        As in `MLP.fit`.

    Returns
    -------
    MLP or Ensemble
        A network or, for `ensemble` above 1, their ensemble.

    Raises
    ------
    TypeError, ValueError, FileFormatError, OSError
        An argument is not as described; the data or a checkpoint cannot be read.
    DivergenceError, FitError
        The loss of the network, or of some of several, is no longer finite.
    KeyboardInterrupt
        On Ctrl-C; with `checkpoint` the same call goes on where it stopped.

    Examples
    --------
    >>> import fastmlp
    >>> net = fastmlp.recipes.train("fast", verbose=False)
    >>> net.evaluate(*fastmlp.load_mnist("validation"))["accuracy"] > 0.975
    True
    """
    recipe = RECIPES[checks.one_of("name", name, RECIPES)]
    verbose = checks.verbosity(verbose)
    file = None if checkpoint is None else checks.path("checkpoint", checkpoint)
    data = Data.load(recipe, path)
    members = make_networks(recipe, data, seed, ensemble, n_threads)
    fit(members, recipe, data, checkpoint=file, verbose=verbose)
    return together(members)


def make_networks(recipe: Recipe, data: Data, seed: int, count: int, n_threads: int | None = None) -> list[MLP]:
    """Return so many networks for these data, of seeds from `seed` on.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp.recipes import RECIPES, Data, make_networks
    >>> X, y = np.eye(2), np.array([0, 1])
    >>> make_networks(RECIPES["fast"], Data(X, y, validation=(X, y)), seed=3, count=2)[1]
    MLP((2, 256, 128, 2), activation='relu', loss='cross_entropy', seed=4)
    """
    first, count = checks.integer("seed", seed, least=0), checks.integer("ensemble", count, least=1)
    sizes = data.X.shape[1], data.n_classes
    return [recipe.make_network(*sizes, seed, n_threads) for seed in range(first, first + count)]


def fit(
    networks: Sequence[MLP],
    recipe: Recipe,
    data: Data,
    *,
    checkpoint: str | None = None,
    patience: int | None = None,
    communicator: Communicator | None = None,
    sync_every: int = 1,
    verbose: bool | int = True,
) -> None:
    """Train networks by a recipe, several at once as `fit_many` does.

    Parameters
    ----------
    networks : sequence of MLP
    recipe : Recipe
    data : Data
    checkpoint : str or None
        As in `train`.
    patience : int or None
        Epochs without a better validation loss after which a network's training ends, with its best parameters. Each
        epoch is then judged, whatever the recipe says of that.
    communicator, sync_every
        As in `MLP.fit`, of one network: the ranks take turns in the rows, and have their shares of each batch.
    verbose : bool or int
        As in `MLP.fit`; of several networks each line says of which one it is, from 0.

    Raises
    ------
    FitError
        Some of several networks failed, as by `DivergenceError`.
    ValueError
        `patience`, and no validation rows.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp.recipes import RECIPES, Data, fit, make_networks
    >>> X, y = np.eye(2), np.array([0, 1])
    >>> recipe, data = RECIPES["fast"]._replace(epochs=1), Data(X, y, validation=(X, y))
    >>> fit(make_networks(recipe, data, seed=0, count=2), recipe, data)  # doctest: +ELLIPSIS
    Network: ... Epoch: 1 cost=...
    Network: ... Epoch: 1 cost=...
    """
    if patience and data.validation is None:
        raise ValueError("patience must be None where there are no validation rows: nothing else judges an epoch")
    count = len(networks)
    files: list[str | None] = [None] * count
    if checkpoint:
        files = [*checkpoint_files(checkpoint, networks)]
    labels = [f"Network: {i} " for i in range(count)] if count > 1 else [""]
    callbacks = [_callbacks(file, patience, verbose, label) for file, label in zip(files, labels, strict=True)]
    options: dict[str, Any] = {
        "epochs": recipe.epochs,
        "batch_size": recipe.batch_size,
        "optimizer": recipe.make_optimizer(),
        "validation_data": data.validation if recipe.validation == "epochs" or patience else None,
        "augment": recipe.augment,
        "verbose": False,
    }
    if count == 1:
        rank, size = (0, 1) if communicator is None else (communicator.rank, communicator.size)
        options |= {"batch_size": -(-recipe.batch_size // size), "communicator": communicator, "sync_every": sync_every}
        networks[0].fit(data.X[rank::size], data.y[rank::size], callbacks=callbacks[0], resume=files[0], **options)
    else:
        n_threads = networks[0].n_threads
        fit_many(networks, data.X, data.y, n_threads=n_threads, callbacks=callbacks, resume=files, **options)


def _callbacks(file: str | None, patience: int | None, verbose: bool | int, label: str) -> list[Callback]:
    """Return those of one network."""
    stop = [EarlyStopping(patience=patience)] if patience else []
    keep = [Checkpoint(file)] if file else []
    show = [ProgressBar(None if verbose is True else verbose, label=label)] if verbose else []
    return [*stop, *keep, *show]


def together(networks: Sequence[MLP]) -> MLP | Ensemble:
    """Return the one network, or the ensemble of several; of averages where their training kept some.

    Examples
    --------
    >>> import fastmlp
    >>> from fastmlp.recipes import together
    >>> together([fastmlp.MLP((3, 2))])
    MLP((3, 2), activation='relu', loss='cross_entropy', seed=0)
    """
    judged = [network._judged() for network in networks]
    return judged[0] if len(judged) == 1 else Ensemble(judged)


def checkpoint_files(path: str, networks: Sequence[MLP]) -> list[str]:
    """Return the file of each network's checkpoints: of several, with its seed behind the name.

    Examples
    --------
    >>> import fastmlp
    >>> from fastmlp.recipes import checkpoint_files
    >>> checkpoint_files("run.safetensors", [fastmlp.MLP((3, 2), seed=seed) for seed in (7, 8)])
    ['run-7.safetensors', 'run-8.safetensors']
    """
    root, extension = os.path.splitext(path)
    return [path] if len(networks) == 1 else [f"{root}-{network.seed}{extension}" for network in networks]
