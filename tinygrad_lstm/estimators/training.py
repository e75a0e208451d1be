"""How an estimator's network is trained."""

import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.models import ManyToOne

from ..data.sequences import SequenceBatches
from ..optim import Adam
from ..optim.lr_scheduler import CosineAnnealingLR
from ..train import EarlyStopping, Progress, Trainer
from ..train.evaluation import Loss
from .splitting import Rows

__all__ = ["NEVER", "History", "Recipe", "Trained", "trained"]

PATIENT_STEPS = 300
"""Early stopping waits at least for this number of steps: few sequences are few steps in an epoch."""
NEVER = sys.maxsize
"""Steps between reports, of which there is one after each epoch anyway."""


@dataclass(frozen=True)
class Recipe:
    """The settings of a training."""

    lr: float
    batch_size: int
    epochs: int
    patience: int
    verbose: bool


class History:
    """A callback that notes the losses of each epoch, and prints them if it is asked to.

    Args:
        verbose: whether to print them.
        before: the number of epochs before the first.
    """

    def __init__(self, verbose: bool, before: int = 0) -> None:
        self.epochs: list[dict[str, Any]] = []
        self.verbose, self.before = verbose, before

    def on_report(self, trainer: Trainer[Any], progress: Progress) -> None:
        number = self.before + len(self.epochs) + 1
        self.epochs.append({"epoch": number, "loss": progress.loss, "validation_loss": progress.validation_loss})
        if self.verbose:
            validated = "" if progress.validation_loss is None else f", validation {progress.validation_loss:.4f}"
            print(f"epoch {number}: loss {progress.loss:.4f}{validated}", flush=True)


@dataclass(frozen=True)
class Trained:
    """The end of a training."""

    model: ManyToOne
    history: list[dict[str, Any]]
    """The losses of each epoch, first those of the network that was validated."""
    epochs: int
    """The epochs of the model's own training."""


def trained(
    make: Callable[[Sequence[HostArray]], ManyToOne],
    loss: Loss,
    sequences: Sequence[HostArray],
    targets: HostArray,
    validation: Rows | None,
    recipe: Recipe,
    seed: int,
) -> Trained:
    """Trains a network on all sequences, while the learning rate falls along a cosine.

    The number of epochs is found first, if there is a validation part: a first network is trained without it, until its
    loss there has not improved for `patience` epochs, and for `PATIENT_STEPS` steps. If the second training is
    interrupted, the first network is returned.

    Args:
        make: makes a network that is standardised by some sequences.
        validation: the rows to validate with.
    """
    history, every = History(recipe.verbose), np.arange(len(sequences))

    def batches(rows: Rows, shuffle: bool = True) -> SequenceBatches:
        chosen = [sequences[row] for row in rows.tolist()]
        return SequenceBatches(chosen, targets[rows], recipe.batch_size, shuffle, seed=seed)

    def new_trainer(rows: Rows, epochs: int, *callbacks: Any) -> Trainer[ManyToOne]:
        model = make([sequences[row] for row in rows.tolist()])
        optimizer = Adam(model.parameters(), lr=recipe.lr)
        schedule = CosineAnnealingLR(optimizer, epochs * -(-len(rows) // recipe.batch_size))
        trainers.append(Trainer(model, loss, optimizer, schedule, callbacks=[*callbacks, history], seed=None))
        return trainers[-1]

    trainers: list[Trainer[ManyToOne]] = []
    epochs = recipe.epochs
    try:
        if validation is not None:
            rest = np.setdiff1d(every, validation)
            patience = max(recipe.patience, -(-PATIENT_STEPS // len(batches(rest))))
            first = new_trainer(rest, epochs, EarlyStopping(patience))
            first.fit(batches(rest), batches(validation, shuffle=False), epochs=epochs, log_every=NEVER)
            epochs = first.epoch
        last = new_trainer(every, epochs)
        last.fit(batches(every), epochs=epochs, log_every=NEVER)
    except KeyboardInterrupt:
        usable = [trainer for trainer in trainers if trainer.epoch]
        if not usable:
            raise
        last = usable[0]
        if last.best is not None:
            last.load_best()
        warnings.warn(f"fit: interrupted; the network of {last.epoch} epochs is kept", stacklevel=3)
    return Trained(last.model, history.epochs, last.epoch)
