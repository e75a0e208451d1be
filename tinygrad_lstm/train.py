"""Training a character model on a text: the loop, its checkpoints and its measurements. It prints nothing."""

import hashlib
import json
import math
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import numpy as np

from .autograd import no_grad
from .backends.base import HostArray
from .data.text import Ids, TextBatch, TextBatches, Vocabulary, characters_needed, split_text
from .device import Device
from .io import checkpoint as checkpoint_file
from .io.atomic import naming_errors, write_atomically
from .metrics import plot_metrics, read_metrics
from .optim import Adam, Optimizer, clip_grad_norm_
from .optim.lr_scheduler import ExponentialLR, LinearLR, LRScheduler, SequentialLR
from .random import manual_seed, random_state, set_random_state
from .tensor import Tensor, tensor

__all__ = [
    "Checkpoint",
    "LanguageModel",
    "Progress",
    "Summary",
    "Trainer",
    "TrainingOptions",
    "evaluate",
    "nats_to_bits",
]

State: TypeAlias = tuple[Tensor, ...]


class LanguageModel(Protocol):
    """What is trained here: a module with a loss that carries a state, such as `tinygrad_lstm.models.CharLM`."""

    def loss(self, ids: Tensor, targets: Tensor, state: Any = None) -> tuple[Tensor, Any]: ...
    def parameters(self) -> Iterable[Tensor]: ...
    def state_dict(self) -> Mapping[str, HostArray]: ...
    def load_state_dict(self, state: Mapping[str, Any]) -> Any: ...
    def evaluating(self) -> AbstractContextManager[Any]: ...


M = TypeVar("M", bound=LanguageModel)


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How a model is made and trained; all but `steps` belong to a run for good.

    Raises:
        TypeError: a value is no number, or no whole one where it must be.
        ValueError: a value is out of its range.
    """

    steps: int = 1000
    """Steps to train for. Nothing else depends on it, so that a run of 100 steps is the start of one of 200."""
    embedding: int = 64
    """The length of a character's vector."""
    hidden: int = 160
    """The size of the hidden state."""
    layers: int = 1
    """LSTM layers."""
    dropout: float = 0.0
    """The share of values dropped in training."""
    seq_len: int = 64
    """T: through how many characters gradients go back."""
    batch: int = 32
    """B: the streams that are read side by side."""
    lr: float = 5e-3
    """The highest learning rate."""
    warmup: int = 50
    """Steps over which the learning rate rises to `lr`."""
    half_life: int = 400
    """Steps in which the learning rate falls by half after that."""
    clip: float = 1.0
    """The norm to which longer gradients are cut."""
    seed: int = 0
    """From which the initial weights and all random numbers come."""
    validate_every: int = 200
    """Steps between validations, each followed by a checkpoint."""
    log_every: int = 20
    """Steps between the readings of the training loss."""

    def __post_init__(self) -> None:
        for option in fields(self):
            value = getattr(self, option.name)
            if isinstance(value, bool) or not isinstance(value, int if option.type is int else int | float):
                expected = "a whole number" if option.type is int else "a number"
                raise TypeError(f"{option.name}: expected {expected}, got {value!r}")
        for name in ("steps", "embedding", "hidden", "layers", "seq_len", "batch", "warmup", "half_life"):
            self._check(name, getattr(self, name) >= 1, "at least 1")
        for name in ("validate_every", "log_every"):
            self._check(name, getattr(self, name) >= 1, "at least 1")
        self._check("seed", self.seed >= 0, "at least 0")
        for name in ("lr", "clip"):
            self._check(name, 0 < getattr(self, name) < math.inf, "above 0 and finite")
        self._check("dropout", 0 <= self.dropout < 1, "at least 0 and below 1")

    def _check(self, name: str, good: bool, expected: str) -> None:
        if not good:
            raise ValueError(f"{name}: expected {expected}, got {getattr(self, name)}")

    def continued(self, given: Mapping[str, Any]) -> "TrainingOptions":
        """These options with other `steps`, if given.

        Raises:
            ValueError: another option is given that differs.
        """
        for name, value in given.items():
            if name != "steps" and getattr(self, name) != value:
                raise ValueError(f"{name}: the run to resume has {getattr(self, name)}, but {value} was given")
        return replace(self, steps=given.get("steps", self.steps))


def _schedule(optimizer: Optimizer, options: TrainingOptions) -> LRScheduler:
    """A linear rise, then an exponential fall.

    The fall does not depend on how many steps there are to be: a run that is given more of them later goes on as if it
    had had them from the start.
    """
    rise = LinearLR(optimizer, start_factor=1 / options.warmup, total_iters=options.warmup)
    fall = ExponentialLR(optimizer, gamma=0.5 ** (1 / options.half_life))
    return SequentialLR(optimizer, [rise, fall], milestones=[options.warmup])


def nats_to_bits(nats: float) -> float:
    """A cross-entropy in bits."""
    return nats / math.log(2)


def _device(model: LanguageModel) -> Device:
    return next(iter(model.parameters())).device


def _on_device_of(model: LanguageModel, batch: TextBatch) -> tuple[Tensor, Tensor]:
    device = _device(model)
    return tensor(batch.inputs, device=device), tensor(batch.targets, device=device)


def evaluate(
    model: LanguageModel,
    ids: Ids,
    batch: int = 32,
    seq_len: int = 64,
    before_window: Callable[[], None] = lambda: None,
) -> float:
    """The mean cross-entropy, in nats a character, of a text of which the model sees all that came before.

    A long text is read as `batch` streams side by side, each of which starts without a past.

    Args:
        model: put into evaluation mode for it, and back into the mode that it was in afterwards.
        ids: the text's characters as numbers, of shape (n,), n at least 2; each but the first is predicted.
        before_window: called before each `seq_len` characters; what it raises ends the evaluation.

    Raises:
        ValueError: the text is shorter than two characters.
    """
    predicted = len(ids) - 1
    if predicted < 1:
        raise ValueError(f"evaluate: expected a text of at least 2 characters, got {len(ids)}")
    streams = max(1, min(batch, predicted // seq_len))
    batches = TextBatches(ids, streams, min(seq_len, predicted))
    windows = [next(batches) for _ in range(len(batches))]
    rest = ids[predicted // streams * streams :]
    losses: list[tuple[Tensor, int]] = []
    state: State | None = None
    with model.evaluating(), no_grad():
        for window in windows:
            before_window()
            loss, state = model.loss(*_on_device_of(model, window), state)
            losses.append((loss, window.targets.size))
        if len(rest) > 1 and state is not None:
            # What is left after equal streams goes on from the last of them.
            window = TextBatch(rest[:-1, None], rest[1:, None], False)
            loss, _ = model.loss(*_on_device_of(model, window), tuple(part[:, -1:] for part in state))
            losses.append((loss, len(rest) - 1))
    return float(sum(loss.item() * size for loss, size in losses) / predicted)


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """All of a run that stands in its checkpoints."""

    options: TrainingOptions
    vocabulary: Vocabulary
    text_digest: str
    """Tells whether a text is the one that the run was started with."""
    sources: list[str]
    """The paths from which the text was read, for whoever resumes; none for the interpreter's manual."""
    step: int
    """Steps done; also the position in the text, since each step reads one batch."""
    best: float | None
    """The lowest validation loss so far, in nats a character."""
    random_state: dict[str, Any]
    weights: dict[str, HostArray]
    optimizer: dict[str, Any]
    schedule: dict[str, Any]
    state: list[HostArray]
    """What the model remembers at the position, carried into the next step; empty before the first one."""
    path: Path | None = field(default=None, compare=False)
    """The file from which it was read; not stored."""

    def save(self, path: str | Path) -> None:
        """Writes the checkpoint, atomically.

        Raises:
            OSError: the file cannot be written; one that was there before stays whole.
        """
        contents = {name: getattr(self, name) for name in CONTENTS}
        contents |= {"options": asdict(self.options), "vocabulary": self.vocabulary.characters}
        checkpoint_file.save(path, contents)

    @classmethod
    def load(cls, path: str | Path) -> "Checkpoint":
        """Reads a checkpoint.

        Raises:
            OSError: the file is not there or cannot be read.
            ValueError: the file is truncated, is something else than a checkpoint, or is one of another version.
        """
        contents = checkpoint_file.load(path)
        try:
            _check_contents(contents)
            options, vocabulary = TrainingOptions(**contents.pop("options")), Vocabulary(contents.pop("vocabulary"))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: a checkpoint, but not one of a training run ({error})") from error
        return cls(options=options, vocabulary=vocabulary, path=Path(path), **contents)

    @contextmanager
    def blamed(self) -> Iterator[None]:
        """Within it, what goes wrong is due to what stands in the file, and becomes a ValueError that names it."""
        try:
            yield
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise ValueError(f"{self.path or 'the checkpoint'}: its contents do not fit ({error})") from error


CONTENTS: dict[str, Callable[[Any], bool]] = {
    "options": lambda value: (
        isinstance(value, dict) and value.keys() == {option.name for option in fields(TrainingOptions)}
    ),
    "vocabulary": lambda value: isinstance(value, str),
    "text_digest": lambda value: isinstance(value, str),
    "sources": lambda value: isinstance(value, list) and all(isinstance(path, str) for path in value),
    "step": lambda value: type(value) is int and value >= 0,
    "best": lambda value: value is None or (isinstance(value, float) and math.isfinite(value)),
    "random_state": lambda value: isinstance(value, dict),
    "weights": lambda value: isinstance(value, dict) and _are_arrays(value.values()),
    "optimizer": lambda value: (
        isinstance(value, dict)
        and value.keys() == {"state", "param_groups"}
        and isinstance(value["state"], dict)
        and _are_arrays(value["state"].values())
    ),
    "schedule": lambda value: isinstance(value, dict),
    "state": lambda value: isinstance(value, list) and _are_arrays(value),
}
"""What a checkpoint's file holds, and how its values look; whether they fit each other is seen when they are used."""


def _are_arrays(values: Iterable[Any]) -> bool:
    return all(isinstance(value, np.ndarray) for value in values)


def _check_contents(contents: Mapping[str, Any]) -> None:
    if faults := sorted(contents.keys() ^ CONTENTS.keys()):
        raise ValueError(f"missing or unexpected: {', '.join(faults)}")
    if faults := [name for name, looks_right in CONTENTS.items() if not looks_right(contents[name])]:
        raise ValueError(f"not as expected: {', '.join(faults)}")


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How a run stands, as it is reported and written to metrics.jsonl; losses in nats a character."""

    step: int
    epoch: float
    loss: float
    """The mean over the steps since the last report."""
    bits: float
    """The same in bits a character."""
    lr: float
    characters_per_second: float
    validation_loss: float | None = None
    """Where this step was validated."""
    validation_bits: float | None = None
    seconds_left: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Summary:
    """How a run ended; losses in nats a character."""

    step: int
    finished: bool
    """False if the run was stopped before its last step."""
    seconds: float
    best: float | None
    """The lowest validation loss, that of best.safetensors."""
    plot: Path | None
    """The loss curve, where matplotlib is installed."""


class Trainer(Generic[M]):
    """A run: a model, a text, and a folder that holds last.safetensors, best.safetensors and metrics.jsonl.

    Made by `start` or `resume`. A resumed run gives, on the same device, bit for bit the weights of one that was never
    interrupted.
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
        self.out = Path(out)
        self.best: float | None = None
        training, validation = split_text(text)
        self._batches = TextBatches(vocabulary.encode(training), options.batch, options.seq_len)
        self._validation = vocabulary.encode(validation)
        self._digest = _digest(text)
        self._sources = sources
        self._optimizer = Adam(model.parameters(), lr=options.lr)
        self._schedule = _schedule(self._optimizer, options)
        self._state: State | None = None
        self._stop = threading.Event()
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
    ) -> "Trainer[M]":
        """A new run. What an earlier one left in the folder is replaced once this one has a checkpoint to leave.

        Args:
            make_model: called with the size of the vocabulary and the options; draws its weights from the library's
                generator.
            text: the last tenth is held back for validation.
            options: how to make and train the model.
            out: the folder, made if it is not there.
            sources: where the text came from, to be kept in the checkpoints.

        Raises:
            ValueError: the text is too short for the options.
            OSError: the folder cannot be made or written.
        """
        vocabulary = Vocabulary(text)
        manual_seed(options.seed)
        trainer = cls(make_model(len(vocabulary), options), text, options, out, vocabulary, list(sources))
        trainer.out.mkdir(parents=True, exist_ok=True)
        with naming_errors(trainer.out), tempfile.TemporaryFile(dir=trainer.out):
            pass  # better now than at the first checkpoint
        earlier = (trainer.last_path, trainer.best_path, trainer.metrics_path, trainer.plot_path)
        if any(path.exists() for path in earlier):
            trainer._unwritten = []
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
        """Goes on with the run of a checkpoint, as if it had never stopped.

        Args:
            make_model: called with the size of the vocabulary and the options, as it was to start the run.
            text: the text that the run was started with.
            checkpoint: the run's last one.
            out: the folder; lines in its metrics.jsonl from after the checkpoint are removed.
            steps: a new number of steps in all; by default that of the run.

        Raises:
            ValueError: the text is another one, the run has done all its steps already, or what stands in the
                checkpoint, or in metrics.jsonl, does not fit.
            OSError: the folder cannot be made or written.
        """
        options = checkpoint.options if steps is None else replace(checkpoint.options, steps=steps)
        if checkpoint.step >= options.steps:
            raise ValueError(f"the run has done {checkpoint.step} steps already; give it more than that in all")
        if _digest(text) != checkpoint.text_digest:
            raise ValueError("the text is not the one that this run was started with, so it cannot be resumed on it")
        with checkpoint.blamed():
            model = make_model(len(checkpoint.vocabulary), options)
            model.load_state_dict(checkpoint.weights)
            trainer = cls(model, text, options, out, checkpoint.vocabulary, checkpoint.sources)
            trainer._restore(checkpoint)
        trainer.out.mkdir(parents=True, exist_ok=True)
        kept = [line for line in read_metrics(trainer.metrics_path) if line["step"] <= checkpoint.step]
        write_atomically(trainer.metrics_path, "".join(json.dumps(line) + "\n" for line in kept).encode())
        return trainer

    def _restore(self, checkpoint: Checkpoint) -> None:
        """Stands where the checkpoint's run stood.

        Raises:
            ValueError: no run with these options can have stood there. (Other errors too, for values of odd types.)
        """
        step, optimizer = checkpoint.step, checkpoint.optimizer
        own_groups = self._optimizer.state_dict()["param_groups"]
        if _without_rates(optimizer["param_groups"]) != _without_rates(own_groups):
            raise ValueError("the optimizer's settings are not those of the options")
        counters = [int(value) for name, value in optimizer["state"].items() if name.endswith(".step")]
        learning = sum(parameter.requires_grad for parameter in self.model.parameters())
        if counters != [step] * (learning if step else 0):
            raise ValueError(f"the optimizer does not stand at step {step}")
        if checkpoint.schedule != {**self._schedule.state_dict(), "last_epoch": step}:
            raise ValueError(f"the schedule does not stand at step {step}")
        self._optimizer.load_state_dict(optimizer)
        self._schedule.load_state_dict(checkpoint.schedule)
        self._batches.position = step
        self._state = tuple(tensor(part, device=_device(self.model)) for part in checkpoint.state) or None
        if _looks(self._state) != (_looks(self._any_state()) if step else []):
            raise ValueError("the state is not one of this model")
        self.best = checkpoint.best
        self._saved = step
        set_random_state(checkpoint.random_state)

    def _any_state(self) -> State:
        """A state of the right shapes: that after one character of each stream."""
        ids = np.zeros((1, self.options.batch), np.int64)
        with self.model.evaluating(), no_grad():
            _, state = self.model.loss(*_on_device_of(self.model, TextBatch(ids, ids, True)))
        return tuple(state)

    @property
    def step(self) -> int:
        """Steps done."""
        return self._batches.position

    @property
    def saved(self) -> int | None:
        """The step of the checkpoint in `last_path`; None while this run has left none."""
        return self._saved

    @property
    def last_path(self) -> Path:
        """Where the checkpoint of the last validation, or of the end, lies."""
        return self.out / "last.safetensors"

    @property
    def best_path(self) -> Path:
        """Where the checkpoint with the lowest validation loss lies."""
        return self.out / "best.safetensors"

    @property
    def metrics_path(self) -> Path:
        """Where each report is written as a line of JSON."""
        return self.out / "metrics.jsonl"

    @property
    def plot_path(self) -> Path:
        """Where the loss curve lies."""
        return self.out / "loss.png"

    def stop(self) -> None:
        """Lets `run` save and return after the step that it is in, or amid a validation, which is given up.

        May be called from a signal handler.
        """
        self._stop.set()

    def run(self, report: Callable[[Progress], None] = lambda progress: None) -> Summary:
        """Trains until all steps are done or `stop` is called, and saves last.safetensors.

        Args:
            report: called every `log_every` steps and after each validation.

        Raises:
            FloatingPointError: the loss is no longer a number; checkpoints from before stay.
            OSError: a file cannot be written.
        """
        # A loss that is no number is an error of ours; the warnings on the way there say less.
        with np.errstate(over="ignore", invalid="ignore"):
            return self._run(report)

    def _run(self, report: Callable[[Progress], None]) -> Summary:
        options, began, first_step = self.options, time.perf_counter(), self.step
        losses: list[Tensor] = []
        characters, seconds = 0, 0.0
        while self.step < options.steps and not self._stop.is_set():
            tick = time.perf_counter()
            (lr,) = self._schedule.get_last_lr()
            try:
                loss, size = self._train_on(next(self._batches))
            except Exception:
                self._batches.position -= 1  # so that what is saved from now on is of one step
                raise
            losses.append(loss)
            characters += size
            seconds += time.perf_counter() - tick
            validating = self.step % options.validate_every == 0 or self.step == options.steps
            if not (validating or self._stop.is_set() or self.step % options.log_every == 0):
                continue
            tick = time.perf_counter()
            mean_loss = self._finite(sum(loss.item() for loss in losses) / len(losses))
            seconds += time.perf_counter() - tick  # a device may only now have finished the steps
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
        if self._stop.is_set():
            self._save()
        return Summary(
            step=self.step,
            finished=self.step >= options.steps,
            seconds=time.perf_counter() - began,
            best=self.best,
            plot=plot_metrics(self.metrics_path, self.plot_path),
        )

    def _train_on(self, batch: TextBatch) -> tuple[Tensor, int]:
        """One step of truncated backpropagation; the loss, still on its device, and the number of characters read."""
        loss, state = self.model.loss(*_on_device_of(self.model, batch), None if batch.first else self._state)
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
                f"the loss is {loss} at step {self.step}: training went astray; try a smaller lr than {self.options.lr}"
            )
        return loss

    def _validate(self) -> float | None:
        """The validation loss; None if the run was stopped before it was known."""

        def give_up_if_stopped() -> None:
            if self._stop.is_set():
                raise _StoppedError

        try:
            return self._finite(evaluate(self.model, self._validation, before_window=give_up_if_stopped))
        except _StoppedError:
            return None

    def _write(self, line: str) -> None:
        """Adds a line to metrics.jsonl, or keeps it while that is still an earlier run's."""
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
            write_atomically(self.metrics_path, "".join(self._unwritten).encode())
            for leftover in (self.best_path, self.plot_path):
                leftover.unlink(missing_ok=True)
            self._unwritten = None
        if better:
            checkpoint.save(self.best_path)
        checkpoint.save(self.last_path)
        self._saved = checkpoint.step

    def checkpoint(self) -> Checkpoint:
        """The run as it stands."""
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


def _looks(state: State | None) -> list[tuple[Any, ...]]:
    return [(part.shape, part.dtype) for part in state or ()]


class _StoppedError(Exception):
    """Ends a validation when the run is stopped."""


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
