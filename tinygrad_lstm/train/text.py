"""Training a character model on a text."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from ..data.encoded_text import EncodedText
from ..data.text import TextBatch, TextBatches, Vocabulary, characters_needed, split_text
from ..distributed.communicator import Communicator
from ..mode import no_grad
from ..optim import AdamW
from ..random import manual_seed
from .callbacks import EarlyStopping
from .folder import RunFolder
from .options import TrainingOptions
from .progress import Progress, Summary
from .schedule import RunSchedule
from .text_checkpoint import TextCheckpoint, about_text
from .text_evaluation import EvaluationBatches, LanguageModel, text_loss
from .trainer import Trainer

__all__ = ["TextTrainer"]

M = TypeVar("M", bound=LanguageModel)


class TextTrainer(Generic[M]):
    """A run: a model, a text, and a folder that holds its checkpoints, its text and its metrics (`RunFolder`).

    Use `start` or `resume` to make one. Losses are in nats a character.
    """

    def __init__(
        self,
        model: M,
        text: EncodedText,
        options: TrainingOptions,
        out: str | Path,
        sources: list[str],
        communicator: Communicator | None = None,
        micro_batches: int = 1,
    ) -> None:
        if len(text) < characters_needed(options.batch, options.seq_len):
            raise ValueError(
                f"the text has {len(text)} characters; seq-len {options.seq_len} and batch {options.batch} need at "
                f"least {characters_needed(options.batch, options.seq_len)}: give more text, or make them smaller"
            )
        if micro_batches > options.batch:
            raise ValueError(
                f"micro-batches: expected at most {options.batch}, the number of streams in a batch, got "
                f"{micro_batches}"
            )
        self.model = model
        self.options = options
        self.vocabulary = text.vocabulary
        self.folder = RunFolder(out, text)
        training, validation = split_text(text.ids)
        self._batches = TextBatches(training, options.batch, options.seq_len)
        self._validation = EvaluationBatches(validation)
        self.last_step = options.last_step(len(self._batches))
        """The step at which the run ends; None if only the time limits it."""
        self._patience = EarlyStopping(math.inf if options.patience is None else options.patience)
        optimizer = AdamW(model.parameters(), lr=options.lr, weight_decay=options.weight_decay)
        self._schedule = RunSchedule(optimizer, replace(options, steps=self.last_step), self._steps_left)
        self.trainer = Trainer(
            model,
            text_loss,
            optimizer,
            self._schedule,
            callbacks=[self._patience],
            out=self.folder,
            clip=options.clip,
            seed=None,
            about=about_text(options, text.vocabulary, text.digest, sources),
            communicator=communicator,
            micro_batches=micro_batches,
        )
        self.trainer.unit = "nats a character"

    @classmethod
    def start(
        cls,
        make_model: Callable[[int, TrainingOptions], M],
        text: str | EncodedText,
        options: TrainingOptions,
        out: str | Path,
        sources: Iterable[str] = (),
        vocabulary: Vocabulary | None = None,
        communicator: Communicator | None = None,
        micro_batches: int = 1,
    ) -> "TextTrainer[M]":
        """A new run. Its first checkpoint replaces the files of an earlier run in the folder.

        Args:
            make_model: called with the size of the vocabulary and the options; uses the library's random generator.
            text: its last tenth is used for validation. A long one is better given as an `EncodedText`.
            options: the options of the model and its training.
            out: the folder, which is made if it does not exist.
            sources: the paths of the text, stored in the checkpoints.
            vocabulary: the characters that the model knows; by default those of the text.
            communicator, micro_batches: as `Trainer` has them. A batch is cut into micro-batches of some streams each.

        Raises:
            ValueError: the text is too short for the options, or has a character that is not in `vocabulary`; or there
                are more micro-batches than streams, or more workers than micro-batches.
            OSError: the folder cannot be made or written.
        """
        encoded = _encoded(text, vocabulary)
        manual_seed(options.seed)
        model = make_model(len(encoded.vocabulary), options)
        trainer = cls(model, encoded, options, out, list(sources), communicator, micro_batches)
        if trainer.trainer.is_first:
            trainer.folder.make()
        return trainer

    @classmethod
    def resume(
        cls,
        make_model: Callable[[int, TrainingOptions], M],
        text: str | EncodedText,
        checkpoint: TextCheckpoint,
        out: str | Path,
        steps: int | None = None,
        epochs: int | None = None,
        minutes: float | None = None,
        patience: int | None = None,
        communicator: Communicator | None = None,
        ended: bool = False,
    ) -> "TextTrainer[M]":
        """Continues the run of a checkpoint, as if it had never stopped.

        Args:
            make_model: called with the size of the vocabulary and the options, as for `start`.
            text: the text that the run was started with.
            checkpoint: the run's last checkpoint.
            out: the folder; lines of its metrics.jsonl from after the checkpoint are removed.
            steps, epochs, minutes: new limits of the whole run; by default those of the run.
            patience: a new one; by default that of the run.
            communicator: as `Trainer` has it. There may be a different number of workers than before.
            ended: whether the run may have ended, so that `run` has nothing to do.

        Raises:
            ValueError: the text is different, the run has ended already, there are more workers than micro-batches, the
                folder has a different run, or the contents of the checkpoint or of metrics.jsonl are invalid.
            OSError: the folder cannot be made or written, or a different trainer is writing to it.
        """
        given = {"steps": steps, "epochs": epochs, "minutes": minutes, "patience": patience}
        options = checkpoint.options.continued({name: value for name, value in given.items() if value is not None})
        encoded = _encoded(text)
        if encoded.digest != checkpoint.text_digest:
            raise ValueError("the text is not the one that this run was started with, so it cannot be resumed on it")
        if communicator is not None and communicator.size > checkpoint.micro_batches:
            raise ValueError(
                f"the run has {checkpoint.micro_batches} micro-batches; expected at most as many workers, got "
                f"{communicator.size}"
            )
        with checkpoint.blamed():
            model = make_model(len(checkpoint.vocabulary), options)
            known = encoded.with_vocabulary(checkpoint.vocabulary)
            run = cls(model, known, options, out, checkpoint.sources, communicator, checkpoint.micro_batches)
            run._restore(checkpoint)
        if not ended:
            run._check_not_ended()
        if not run.trainer.is_first:
            return run
        run.folder.make()
        with run.folder.locked():
            _check_same_run(run.folder, checkpoint)
            run.folder.complete()
            run.folder.keep_text()
            run.folder.rewind(checkpoint.step)
        return run

    def _restore(self, checkpoint: TextCheckpoint) -> None:
        """Restores the state of the checkpoint's run.

        Raises:
            ValueError: no run with these options can have this state. (Invalid types may raise other errors.)
        """
        step, optimizer = checkpoint.step, checkpoint.optimizer
        expected = self._schedule.state_dict()
        self.trainer.restore(checkpoint)
        counters = [int(value) for name, value in optimizer["state"].items() if name.endswith(".step")]
        learning = sum(parameter.requires_grad for parameter in self.model.parameters())
        if counters != [step] * (learning if step else 0):
            raise ValueError(f"the optimizer does not stand at step {step}")
        rates = [group["lr"] for group in optimizer["param_groups"]]
        if checkpoint.schedule != {type(self._schedule).__name__: {**expected, "last_epoch": step, "lrs": rates}}:
            raise ValueError(f"the schedule does not stand at step {step}")
        if divmod(step, len(self._batches)) != (checkpoint.epoch, checkpoint.batch):
            raise ValueError(f"the text does not stand at step {step}")
        if self._carried(checkpoint.carry) != self._expected_to_be_carried(checkpoint.batch > 0):
            raise ValueError("the state is not one of this model")

    @property
    def ended_by(self) -> str | None:
        """The option that ended the run: "steps", "epochs", "minutes" or "patience"; None if it has not ended."""
        options = self.options
        if self.trainer.due:
            return None
        if self.last_step is not None and self.step >= self.last_step:
            return "steps" if self.last_step == options.steps else "epochs"
        if options.minutes is not None and self.trainer.seconds >= 60 * options.minutes:
            return "minutes"
        return "patience" if self._patience.without_improvement >= self._patience.patience else None

    def share_done(self) -> float:
        """How much of the run is done, from 0 to 1, by its limits."""
        by_steps = 0.0 if self.last_step is None else self.step / self.last_step
        by_time = 0.0 if self.options.minutes is None else self.trainer.seconds / (60 * self.options.minutes)
        return min(1.0, max(by_steps, by_time))

    def _check_not_ended(self) -> None:
        """Raises ValueError if the run has nothing left to do."""
        done = {
            "steps": f"done {self.step} steps",
            "epochs": f"read its text {self.options.epochs} times",
            "minutes": f"taken {self.trainer.seconds / 60:.3g} minutes",
            "patience": f"had {self._patience.without_improvement} validations without a lower loss",
        }
        if self.ended_by is not None:
            raise ValueError(f"the run has {done[self.ended_by]} already; give it more than that in all")

    def _steps_left(self) -> float:
        """The number of steps that the run has time for, by its speed so far."""
        if self.options.minutes is None or not self.trainer.step:
            return math.inf
        left = 60 * self.options.minutes - self.trainer.seconds
        return left * self.trainer.step / self.trainer.seconds

    def _carried(self, carry: Any) -> list[list[tuple[Any, ...]]]:
        """The shapes and dtypes of the states in a checkpoint, for each micro-batch; empty if there are none."""
        each = carry if self.trainer._parts.number > 1 and carry is not None else [carry]
        return [_shapes_and_dtypes(state) for state in each] if carry is not None else []

    def _expected_to_be_carried(self, carried: bool) -> list[list[tuple[Any, ...]]]:
        """Those of the states that a batch passes on; empty if none is passed on, as after an epoch."""
        if not carried:
            return []
        ids = np.zeros((1, self.options.batch), np.int64)
        parts = self.trainer._parts.parts(TextBatch(ids, ids, True))
        # Weights that are not finite are not an error here; the loss will show them.
        with np.errstate(over="ignore", invalid="ignore"), self.model.evaluating(), no_grad():
            states = [None if part is None else text_loss(self.model, part, None)[1] for part in parts]
        return [_shapes_and_dtypes(state) for state in states]

    @property
    def step(self) -> int:
        """The number of steps done."""
        return self.trainer.step

    @property
    def saved(self) -> int | None:
        """The step of the checkpoint in `last_path`; None until this run has saved one."""
        return self.trainer.saved

    @property
    def best(self) -> float | None:
        """The lowest validation loss so far."""
        return self.trainer.best

    @property
    def out(self) -> Path:
        """The run's folder."""
        return self.folder.path

    @property
    def last_path(self) -> Path:
        """The path of the checkpoint of the last validation, or of the end."""
        return self.folder.last

    @property
    def best_path(self) -> Path:
        """The path of the checkpoint with the lowest validation loss."""
        return self.folder.best

    @property
    def metrics_path(self) -> Path:
        """The file to which each report is written as a line of JSON."""
        return self.folder.metrics

    @property
    def plot_path(self) -> Path:
        """The path of the loss curve."""
        return self.folder.plot

    def stop(self) -> None:
        """Lets `run` save and return after its present step. A validation is cancelled.

        If called before `run`, that `run` stops at once, and the one after it continues. Signal handlers may call it.
        """
        self.trainer.stop()

    def run(self, report: Callable[[Progress], None] = lambda progress: None) -> Summary:
        """Trains until the end of the run or until `stop` is called, and saves last.safetensors.

        Args:
            report: called every `log_every` steps and after each validation.

        Raises:
            FloatingPointError: the loss is not finite; earlier checkpoints are unchanged.
            OSError: a file cannot be written, or a different trainer is writing to the folder.
            ValueError: a file in the folder is a symbolic link.
        """
        options = self.options
        self.trainer.callbacks = [self._patience, _Report(report)]
        return self.trainer.fit(
            self._batches,
            self._validation,
            steps=self.last_step,
            minutes=options.minutes,
            validate_every=options.validate_every,
            log_every=options.log_every,
        )


@dataclass(frozen=True)
class _Report:
    """The callback that passes reports on."""

    report: Callable[[Progress], None]

    def on_report(self, trainer: Any, progress: Progress) -> None:
        self.report(progress)


def _encoded(text: str | EncodedText, vocabulary: Vocabulary | None = None) -> EncodedText:
    if isinstance(text, str):
        return EncodedText.of(text, vocabulary)
    return text if vocabulary is None else text.with_vocabulary(vocabulary)


def _check_same_run(folder: RunFolder, checkpoint: TextCheckpoint) -> None:
    """Raises ValueError if the folder has a run, and the checkpoint is of a different one."""
    if checkpoint.path == folder.last or not folder.last.exists():
        return
    here = TextCheckpoint.load(folder.last)
    if not here.options.is_same_run(checkpoint.options) or here.text_digest != checkpoint.text_digest:
        raise ValueError(f"{folder.path}: holds a different run than the one to resume")


def _shapes_and_dtypes(state: Any) -> list[tuple[Any, ...]]:
    return [(part.shape, str(part.dtype)) for part in state or ()]
