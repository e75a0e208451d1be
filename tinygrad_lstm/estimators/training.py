"""How an estimator's network is trained."""

import hashlib
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.models import ManyToOne

from ..data.sequences import SequenceBatches
from ..metrics import read_metrics
from ..optim import AdamW
from ..optim.lr_scheduler import CosineAnnealingLR
from ..train import Checkpoint, EarlyStopping, Progress, Summary, Trainer
from ..train.evaluation import Loss
from ..train.folder import RunFolder
from .splitting import Rows

__all__ = ["CLIP", "NEVER", "Following", "History", "Recipe", "Trained", "optimizer_of", "trained"]

WEIGHT_DECAY, CLIP = 0.3, 1.0
"""Of AdamW, and the largest norm of the gradients. Chosen by cross-validation on the training parts of Japanese vowels
(log-loss 0.16 without both, 0.10 with them) and of BasicMotions (0.62 and 0.61)."""
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


@dataclass(frozen=True)
class Following:
    """Who follows a training, and where it is kept."""

    callbacks: Sequence[Any] = ()
    search: RunFolder | None = None
    """The folder of the training that finds the number of epochs; None keeps nothing."""
    final: RunFolder | None = None
    """The folder of the final network's training."""
    about: Mapping[str, Any] | None = None
    """What checkpoints say of the data and the parameters."""

    @classmethod
    def of(
        cls,
        caller: str,
        callbacks: Sequence[Any],
        out: str | Path | None,
        resume: bool,
        parameters: Mapping[str, Any],
        sequences: Sequence[HostArray],
        targets: HostArray,
        groups: HostArray | None,
    ) -> Self:
        """How a call of `fit` asks for it.

        Raises:
            ValueError: there is no seed; there is a training, and it is not to be resumed, or is of something else; or
                there is none to resume.
        """
        if out is None:
            if resume:
                raise ValueError(f"{caller}: resume=True needs the folder of the training; give out")
            return cls(callbacks)
        if not isinstance(parameters["random_state"], int):
            raise ValueError(f"{caller}: expected random_state to be a seed if out is given, got None or a generator")
        search, final = RunFolder(Path(out, "search")), RunFolder(Path(out, "final"))
        earlier = [folder.last for folder in (search, final) if folder.last.exists()]
        if earlier and not resume:
            raise ValueError(f"{caller}: {out} has a training already; give a different out, or resume=True")
        if resume and not earlier:
            raise ValueError(f"{caller}: {out} has no training to resume; leave out resume=True")
        about = _about(parameters, sequences, targets, groups)
        for found in (Checkpoint.load(path).about for path in earlier):
            if different := [what for what, expected in about.items() if found.get(what) != expected]:
                raise ValueError(f"{caller}: the training in {out} is of different {' and '.join(different)}")
        return cls(callbacks, search, final, about)


def _about(
    parameters: Mapping[str, Any], sequences: Sequence[HostArray], targets: HostArray, groups: HostArray | None
) -> dict[str, Any]:
    """What must be the same when a training is resumed."""
    digest = hashlib.sha256(repr([sequence.shape for sequence in sequences]).encode())
    for array in (*sequences, targets):
        digest.update(array.tobytes())
    decisive = {name: value for name, value in parameters.items() if name not in ("device", "verbose")}
    of_groups = None if groups is None else hashlib.sha256(groups.tobytes()).hexdigest()
    return {"parameters": decisive, "data": digest.hexdigest(), "groups": of_groups}


class History:
    """A callback that notes the losses of each epoch, and prints them if it is asked to.

    Args:
        verbose: whether to print them.
        before: the number of epochs before the first.
    """

    def __init__(self, verbose: bool, before: int = 0) -> None:
        self.epochs: list[dict[str, Any]] = []
        self.verbose, self.before = verbose, before
        self._earlier = 0

    def on_start(self, trainer: Trainer[Any]) -> None:
        """Notes the epochs of a training that is resumed."""
        self._earlier = len(self.epochs)
        if trainer.step and trainer.folder is not None:
            lines = [line for line in read_metrics(trainer.folder.metrics) if _is_epoch(line["epoch"])]
            self.epochs += [
                {"epoch": number, "loss": line["loss"], "validation_loss": line["validation_loss"]}
                for number, line in enumerate(lines, 1)
            ]

    def on_report(self, trainer: Trainer[Any], progress: Progress) -> None:
        if not _is_epoch(progress.epoch):
            return  # stopped within an epoch
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


def optimizer_of(model: ManyToOne, lr: float) -> AdamW:
    """The optimizer of a network."""
    return AdamW(model.parameters(), lr=lr, weight_decay=WEIGHT_DECAY)


def trained(
    make: Callable[[Sequence[HostArray]], ManyToOne],
    loss: Loss,
    sequences: Sequence[HostArray],
    targets: HostArray,
    validation: Rows | None,
    recipe: Recipe,
    following: Following,
    seed: int,
) -> Trained:
    """Trains a network on all sequences, while the learning rate falls along a cosine.

    The number of epochs is found first, if there is a validation part: a first network is trained without it, until its
    loss there has not improved for `patience` epochs, and for `PATIENT_STEPS` steps. If one of the trainings is
    interrupted or stopped, the first network is returned.

    Args:
        make: makes a network that is standardised by some sequences.
        validation: the rows to validate with.
    """
    history, every = History(recipe.verbose), np.arange(len(sequences))

    def batches(rows: Rows, shuffle: bool = True) -> SequenceBatches:
        chosen = [sequences[row] for row in rows.tolist()]
        return SequenceBatches(chosen, targets[rows], recipe.batch_size, shuffle, seed=seed)

    def run(rows: Rows, epochs: int, folder: RunFolder | None, *callbacks: Any) -> Summary:
        model = make([sequences[row] for row in rows.tolist()])
        optimizer = optimizer_of(model, recipe.lr)
        schedule = CosineAnnealingLR(optimizer, epochs * -(-len(rows) // recipe.batch_size))
        everyone = [*callbacks, history, *following.callbacks]
        trainers.append(
            Trainer(model, loss, optimizer, schedule, None, everyone, folder, CLIP, seed=None, about=following.about)
        )
        resume = folder is not None and folder.last.exists()
        held_back = batches(validation, shuffle=False) if callbacks and validation is not None else None
        return trainers[-1].fit(batches(rows), held_back, epochs=epochs, log_every=NEVER, resume=resume)

    trainers: list[Trainer[ManyToOne]] = []
    epochs, finished = recipe.epochs, True
    try:
        if validation is not None:
            rest = np.setdiff1d(every, validation)
            patience = max(recipe.patience, -(-PATIENT_STEPS // len(batches(rest))))
            finished = run(rest, epochs, following.search, EarlyStopping(patience)).finished
            epochs = trainers[0].epoch
        if finished:
            finished = run(every, epochs, following.final).finished
    except KeyboardInterrupt:
        usable = [trainer for trainer in trainers if trainer.epoch]
        if not usable:
            raise
        warnings.warn(f"fit: interrupted; the network of {usable[0].epoch} epochs is kept", stacklevel=3)
        finished = False
    best = trainers[-1] if finished else next((trainer for trainer in trainers if trainer.epoch), trainers[0])
    if best.best is not None:
        best.load_best()
    return Trained(best.model, history.epochs, best.epoch)


def _is_epoch(epochs: float) -> bool:
    """Whether a number of epochs, which may have a fraction, is a whole number."""
    return epochs == int(epochs)
