"""The training loop."""

import json
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from .._tensor import Tensor, tensor
from ..data.text import TextBatch, TextBatches, Vocabulary, characters_needed, split_text
from ..io.atomic import naming_errors, write_atomically
from ..metrics import plot_metrics, read_metrics
from ..mode import no_grad
from ..optim import Adam, clip_grad_norm_
from ..random import manual_seed, random_state, set_random_state
from .checkpoint import Checkpoint, text_digest
from .evaluation import LanguageModel, State, device_of, evaluate, nats_to_bits, on_device_of
from .folder import RunFolder
from .options import TrainingOptions
from .schedule import WarmupLinearDecay

__all__ = ["Progress", "Summary", "Trainer"]

M = TypeVar("M", bound=LanguageModel)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """The progress of a run, as reported and written to metrics.jsonl; losses are in nats a character."""

    step: int
    epoch: float
    loss: float
    """The mean over the steps since the last report."""
    bits: float
    """The same in bits a character."""
    lr: float
    characters_per_second: float
    validation_loss: float | None = None
    """None if this step was not validated."""
    validation_bits: float | None = None
    seconds_left: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The end of a run; losses are in nats a character."""

    step: int
    finished: bool
    """False if the run was stopped before its last step."""
    seconds: float
    best: float | None
    """The lowest validation loss, that of best.safetensors."""
    plot: Path | None
    """The loss curve, if matplotlib is installed."""


class Trainer(Generic[M]):
    """A run: a model, a text, and a folder that holds its checkpoints, its text and its metrics (`RunFolder`).

    Use `start` or `resume` to make one. On the same device, a resumed run has bit for bit the weights of a run that was
    never interrupted.
    """

    def __init__(
        self,
        model: M,
        text: str,
        options: TrainingOptions,
        out: str | Path,
        vocabulary: Vocabulary,
        sources: list[str],
    ) -> None:
        if len(text) < characters_needed(options.batch, options.seq_len):
            raise ValueError(
                f"the text has {len(text)} characters; seq-len {options.seq_len} and batch {options.batch} need at "
                f"least {characters_needed(options.batch, options.seq_len)}: give more text, or make them smaller"
            )
        self.model = model
        self.options = options
        self.vocabulary = vocabulary
        self.folder = RunFolder(out)
        self.best: float | None = None
        training, validation = split_text(text)
        self._batches = TextBatches(vocabulary.encode(training), options.batch, options.seq_len)
        self._validation = vocabulary.encode(validation)
        self._text = text
        self._digest = text_digest(text)
        self._sources = sources
        self._optimizer = Adam(model.parameters(), lr=options.lr)
        self._schedule = WarmupLinearDecay(self._optimizer, options)
        self._state: State | None = None
        self._stop_asked = False
        self._saved: int | None = None
        self._unwritten: list[str] | None = None

    @classmethod
    def start(
        cls,
        make_model: Callable[[int, TrainingOptions], M],
        text: str,
        options: TrainingOptions,
        out: str | Path,
        sources: Iterable[str] = (),
        vocabulary: Vocabulary | None = None,
    ) -> "Trainer[M]":
        """A new run. Its first checkpoint replaces the files of an earlier run in the folder.

        Args:
            make_model: called with the size of the vocabulary and the options; uses the library's random generator.
            text: its last tenth is used for validation.
            options: the options of the model and its training.
            out: the folder, which is made if it does not exist.
            sources: the paths of the text, stored in the checkpoints.
            vocabulary: the characters that the model knows; by default those of the text.

        Raises:
            ValueError: the text is too short for the options, or has a character that is not in `vocabulary`.
            OSError: the folder cannot be made or written.
        """
        vocabulary = vocabulary or Vocabulary(text)
        manual_seed(options.seed)
        trainer = cls(make_model(len(vocabulary), options), text, options, out, vocabulary, list(sources))
        trainer.folder.make()
        return trainer

    @classmethod
    def resume(
        cls,
        make_model: Callable[[int, TrainingOptions], M],
        text: str,
        checkpoint: Checkpoint,
        out: str | Path,
        steps: int | None = None,
    ) -> "Trainer[M]":
        """Continues the run of a checkpoint, as if it had never stopped.

        Args:
            make_model: called with the size of the vocabulary and the options, as for `start`.
            text: the text that the run was started with.
            checkpoint: the run's last checkpoint.
            out: the folder; lines of its metrics.jsonl from after the checkpoint are removed.
            steps: a new total number of steps; by default that of the run.

        Raises:
            ValueError: the text is different, the run has done all its steps, the folder has a different run, or the
                contents of the checkpoint or of metrics.jsonl are invalid.
            OSError: the folder cannot be made or written, or a different trainer is writing to it.
        """
        options = checkpoint.options if steps is None else replace(checkpoint.options, steps=steps)
        if checkpoint.step >= options.steps:
            raise ValueError(f"the run has done {checkpoint.step} steps already; give it more than that in all")
        if text_digest(text) != checkpoint.text_digest:
            raise ValueError("the text is not the one that this run was started with, so it cannot be resumed on it")
        with checkpoint.blamed():
            model = make_model(len(checkpoint.vocabulary), options)
            model.load_state_dict(checkpoint.weights)
            trainer = cls(model, text, options, out, checkpoint.vocabulary, checkpoint.sources)
            trainer._restore(checkpoint)
        trainer.folder.make()
        with trainer.folder.locked():
            trainer.folder.check_same_run(checkpoint)
            trainer.folder.complete()
            trainer.folder.keep_text(text)
            kept = [line for line in read_metrics(trainer.metrics_path) if line["step"] <= checkpoint.step]
            write_atomically(trainer.metrics_path, "".join(json.dumps(line) + "\n" for line in kept).encode())
        return trainer

    def _restore(self, checkpoint: Checkpoint) -> None:
        """Restores the state of the checkpoint's run.

        Raises:
            ValueError: no run with these options can have this state. (Invalid types may raise other errors.)
        """
        step, optimizer = checkpoint.step, checkpoint.optimizer
        own_groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict(optimizer)
        if _without_rates(self._optimizer.state_dict()["param_groups"]) != _without_rates(own_groups):
            raise ValueError("the optimizer's settings are not those of the options")
        counters = [int(value) for name, value in optimizer["state"].items() if name.endswith(".step")]
        learning = sum(parameter.requires_grad for parameter in self.model.parameters())
        if counters != [step] * (learning if step else 0):
            raise ValueError(f"the optimizer does not stand at step {step}")
        rates = [group["lr"] for group in optimizer["param_groups"]]
        if checkpoint.schedule != {**self._schedule.state_dict(), "last_epoch": step, "lrs": rates}:
            raise ValueError(f"the schedule does not stand at step {step}")
        self._schedule.load_state_dict(checkpoint.schedule)
        self._batches.position = step
        self._state = tuple(tensor(part, device=device_of(self.model)) for part in checkpoint.state) or None
        if _shapes_and_dtypes(self._state) != (_shapes_and_dtypes(self._any_state()) if step else []):
            raise ValueError("the state is not one of this model")
        self.best = checkpoint.best
        self._saved = step
        set_random_state(checkpoint.random_state)

    def _any_state(self) -> State:
        """A state with the right shapes: that after one character of each stream."""
        ids = np.zeros((1, self.options.batch), np.int64)
        # Weights that are not finite are not an error here; the loss will show them.
        with np.errstate(over="ignore", invalid="ignore"), self.model.evaluating(), no_grad():
            _, state = self.model.loss(*on_device_of(self.model, TextBatch(ids, ids, True)))
        return tuple(state)

    @property
    def step(self) -> int:
        """The number of steps done."""
        return self._batches.position

    @property
    def saved(self) -> int | None:
        """The step of the checkpoint in `last_path`; None until this run has saved one."""
        return self._saved

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
        self._stop_asked = True

    def _stopped(self) -> bool:
        return self._stop_asked

    def run(self, report: Callable[[Progress], None] = lambda progress: None) -> Summary:
        """Trains until all steps are done or `stop` is called, and saves last.safetensors.

        Args:
            report: called every `log_every` steps and after each validation.

        Raises:
            FloatingPointError: the loss is not finite; earlier checkpoints are unchanged.
            OSError: a file cannot be written, or a different trainer is writing to the folder.
            ValueError: a file in the folder is a symbolic link.
        """
        # A loss that is not finite raises an error, which says more than NumPy's warnings.
        with np.errstate(over="ignore", invalid="ignore"), self.folder.locked():
            if self._saved is None and self.folder.is_used():
                self._unwritten = []
            return self._run(report)

    def _run(self, report: Callable[[Progress], None]) -> Summary:
        options, began, first_step = self.options, time.perf_counter(), self.step
        losses: list[Tensor] = []
        characters, seconds = 0, 0.0
        while self.step < options.steps and not self._stopped():
            tick = time.perf_counter()
            (lr,) = self._schedule.get_last_lr()
            try:
                loss, size = self._train_on(next(self._batches))
            except Exception:
                self._batches.position -= 1  # so that a checkpoint saved from now on is consistent
                raise
            losses.append(loss)
            characters += size
            seconds += time.perf_counter() - tick
            validating = self.step % options.validate_every == 0 or self.step == options.steps
            if not (validating or self._stopped() or self.step % options.log_every == 0):
                continue
            tick = time.perf_counter()
            mean_loss = self._finite(sum(loss.item() for loss in losses) / len(losses))
            seconds += time.perf_counter() - tick  # the device may finish the steps only now
            validation_loss = self._validate() if validating else None
            step_seconds = (time.perf_counter() - began) / (self.step - first_step)
            progress = Progress(
                step=self.step,
                epoch=self._batches.epoch,
                loss=mean_loss,
                bits=nats_to_bits(mean_loss),
                lr=lr,
                characters_per_second=characters / seconds,
                validation_loss=validation_loss,
                validation_bits=None if validation_loss is None else nats_to_bits(validation_loss),
                seconds_left=step_seconds * (options.steps - self.step),
            )
            losses, characters, seconds = [], 0, 0.0
            self._write(json.dumps(asdict(progress)) + "\n")
            if validation_loss is not None:
                self._save(validation_loss)
            report(progress)
        if self._stopped():
            self._save()
            self._stop_asked = False
        return Summary(
            step=self.step,
            finished=self.step >= options.steps,
            seconds=time.perf_counter() - began,
            best=self.best,
            plot=plot_metrics(self.metrics_path, self.plot_path),
        )

    def _train_on(self, batch: TextBatch) -> tuple[Tensor, int]:
        """One step of truncated backpropagation. Returns the loss, on its device, and the number of characters read."""
        loss, state = self.model.loss(*on_device_of(self.model, batch), None if batch.first else self._state)
        self._optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(self.model.parameters(), self.options.clip)
        self._optimizer.step()
        self._schedule.step()
        self._state = tuple(part.detach() for part in state)
        return loss.detach(), batch.inputs.size

    def _finite(self, loss: float) -> float:
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the loss is {loss} at step {self.step}: training diverged; try a smaller lr than {self.options.lr}"
            )
        return loss

    def _validate(self) -> float | None:
        """The validation loss; None if the run was stopped before the end of the validation."""

        def raise_if_stopped() -> None:
            if self._stopped():
                raise _StoppedError

        try:
            return self._finite(evaluate(self.model, self._validation, before_window=raise_if_stopped))
        except _StoppedError:
            return None

    def _write(self, line: str) -> None:
        """Appends a line to metrics.jsonl, or keeps it while the file is still that of an earlier run."""
        if self._unwritten is not None:
            self._unwritten.append(line)
            return
        with naming_errors(self.metrics_path), open(self.metrics_path, "a", encoding="utf-8") as file:
            file.write(line)

    def _save(self, validation_loss: float | None = None) -> None:
        better = validation_loss is not None and (self.best is None or validation_loss < self.best)
        if better:
            self.best = validation_loss
        checkpoint = self.checkpoint()
        if self._unwritten is not None:
            self.folder.replace(checkpoint, self._text, "".join(self._unwritten))
            self._unwritten = None
        else:
            if self._saved is None:
                self.folder.keep_text(self._text)
            self.folder.save(checkpoint, better)
        self._saved = checkpoint.step

    def checkpoint(self) -> Checkpoint:
        """The present state of the run."""
        return Checkpoint(
            options=self.options,
            vocabulary=self.vocabulary,
            text_digest=self._digest,
            sources=self._sources,
            step=self.step,
            best=self.best,
            random_state=random_state(),
            weights=dict(self.model.state_dict()),
            optimizer=self._optimizer.state_dict(),
            schedule=self._schedule.state_dict(),
            state=[part.cpu().numpy() for part in self._state or ()],
        )


def _without_rates(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in group.items() if name != "lr"} for group in groups]


def _shapes_and_dtypes(state: State | None) -> list[tuple[Any, ...]]:
    return [(part.shape, part.dtype) for part in state or ()]


class _StoppedError(Exception):
    """Ends a validation when the run is stopped."""
