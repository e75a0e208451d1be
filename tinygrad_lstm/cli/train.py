"""`tinygrad-lstm train`."""

import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as ProgressBar

from tinygrad_lstm.models import CharLM
from tinygrad_lstm.models.atlas import known_cell

from ..data.text import Vocabulary, manual_text, read_text
from ..device import get_device, get_num_threads
from ..train import Progress, Summary, TextCheckpoint, TextTrainer, TrainingOptions, nats_to_bits
from ..train.folder import RunFolder, newest_folder, next_folder
from .interruption import Stop, leave_standard_output, say, stopping_at_signals
from .shared import (
    DEFAULT_OUT,
    Device,
    Threads,
    data_hint,
    model_maker,
    path_option,
    program,
    require,
    use_threads,
)

__all__ = ["train"]

DEFAULTS = TrainingOptions()


def _option(name: str, text: str) -> Any:
    return typer.Option(help=f"{text}  [default: {getattr(DEFAULTS, name)}]")


def train(
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="A text file, or a folder of them; may be repeated.  [default: Python's own manual]", metavar="PATH"
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            help=f"The folder for checkpoints and metrics.  [default: the next free of {DEFAULT_OUT}, "
            f"{DEFAULT_OUT}-2, ...; with --resume the newest]",
            metavar="DIR",
        ),
    ] = None,
    steps: Annotated[int | None, _option("steps", "Total number of training steps.")] = None,
    cell: Annotated[str | None, _option("cell", "The recurrent cell; the command atlas lists all.")] = None,
    hidden: Annotated[int | None, _option("hidden", "Size of the hidden state.")] = None,
    layers: Annotated[int | None, _option("layers", "Recurrent layers.")] = None,
    seq_len: Annotated[int | None, _option("seq_len", "Characters through which gradients go back.")] = None,
    batch: Annotated[int | None, _option("batch", "Streams of text in a batch.")] = None,
    lr: Annotated[
        float | None, _option("lr", "Highest learning rate; it falls to a tenth of that by the last step.")
    ] = None,
    forget_bias: Annotated[
        float | None, _option("forget_bias", "Initial bias of the forget gates; long lags need 1 to 3.")
    ] = None,
    dropout: Annotated[float | None, _option("dropout", "Probability of dropout in training.")] = None,
    device: Device = None,
    threads: Threads = None,
    seed: Annotated[int | None, _option("seed", "Seed of all random numbers.")] = None,
    init_from: Annotated[
        str | None,
        typer.Option(
            help="Start from the weights of this checkpoint, with a different text or rate.", metavar="CHECKPOINT"
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in --out, on the text saved there.")
    ] = False,
) -> None:
    """Train a character model on text; Ctrl-C, SIGTERM and SIGHUP save."""
    options = {
        "steps": steps,
        "cell": cell,
        "hidden": hidden,
        "layers": layers,
        "seq_len": seq_len,
        "batch": batch,
        "lr": lr,
        "forget_bias": forget_bias,
        "dropout": dropout,
        "seed": seed,
    }
    given = {name: value for name, value in options.items() if value is not None}
    if cell is not None:
        known_cell("--cell", cell)
    use_threads(threads)
    place = str(get_device(device))
    folder = None if out is None else path_option("--out", out)
    paths = [path_option("--data", path).absolute() for path in data or []]
    if resume:
        require("--init-from", init_from is None, "none together with --resume", repr(init_from))
        trainer, text = _resumed(folder, paths, given, place)
    else:
        earlier = None if init_from is None else path_option("--init-from", init_from)
        trainer, text = _started(folder, paths, given, place, earlier)
    size = sum(parameter.size for parameter in trainer.model.parameters())
    summary, stop = _run(
        trainer,
        f"{'resuming' if resume else 'training'} a character model of {size:,} parameters on {len(text):,} "
        f"characters, {len(trainer.vocabulary)} different ones, on {place}{_with_threads(place)}, in {trainer.out}",
    )
    _conclude(trainer, summary, text, [] if device is None else ["--device", device])
    if stop.failure is not None or not summary.finished:
        stop.end()


def _resumed(out: Path | None, data: list[Path], given: dict[str, Any], device: str) -> tuple[TextTrainer[CharLM], str]:
    """The run to resume, and its text."""
    checkpoint, folder = _to_resume(out or newest_folder(DEFAULT_OUT) or DEFAULT_OUT)
    with _option_named():
        checkpoint.options.continued(given)
    with checkpoint.blamed():
        CharLM.check_sizes(checkpoint)
    text = read_text(data) if data else _text_of(checkpoint, folder)
    return TextTrainer.resume(model_maker(device), text, checkpoint, folder.path, steps=given.get("steps")), text


def _started(
    out: Path | None, data: list[Path], given: dict[str, Any], device: str, init_from: Path | None
) -> tuple[TextTrainer[CharLM], str]:
    """A new run, from the weights of a checkpoint if one is given, and its text."""
    if out is not None:
        _refuse_earlier_run(out)
    earlier = None if init_from is None else TextCheckpoint.load(init_from)
    with _option_named():
        options = TrainingOptions(**given) if earlier is None else earlier.options.started_anew(given)
    text = read_text(data) if data else manual_text()
    vocabulary = Vocabulary(text if earlier is None else earlier.vocabulary.characters + text)
    make_model = model_maker(device, earlier, vocabulary)
    with _new_folder(out) as folder:
        return TextTrainer.start(make_model, text, options, folder, map(str, data), vocabulary), text


def _with_threads(device: str) -> str:
    number = get_num_threads()
    return f" with {number} thread{'s' * (number > 1)}" if device == "cpu" else ""


@contextmanager
def _option_named() -> Iterator[None]:
    """Within this context, an error that begins with a field of TrainingOptions begins with the command's option."""
    try:
        yield
    except ValueError as error:
        name, colon, rest = str(error).partition(":")
        raise ValueError(f"--{name.replace('_', '-')}{colon}{rest}") from error


def _refuse_earlier_run(out: Path) -> None:
    path = out / "last.safetensors"
    if path.exists():
        steps = TextCheckpoint.load(path).step
        raise ValueError(f"{out}: holds a run of {steps} steps; --resume continues it, or give another --out")


@contextmanager
def _new_folder(named: Path | None) -> Iterator[Path]:
    """The folder of a new run. If it was made here, an error removes it if it is empty."""
    if named is not None:
        yield named
        return
    made = next_folder(DEFAULT_OUT)
    try:
        yield made
    except BaseException:
        with suppress(OSError):
            made.rmdir()
        raise


def _to_resume(path: Path) -> tuple[TextCheckpoint, RunFolder]:
    folder = RunFolder(path)
    if not folder.last.exists():
        raise ValueError(
            f"{folder.last}: there is no run to resume; start one without --resume, or name its folder with --out"
        )
    with folder.locked():
        folder.complete()
        return TextCheckpoint.load(folder.last), folder


def _text_of(checkpoint: TextCheckpoint, folder: RunFolder) -> str:
    if folder.text.exists():
        return folder.read_text(checkpoint.text_digest)
    if checkpoint.sources:
        raise ValueError(f"{folder.text}: not there; give the text of this run again, {data_hint(checkpoint)}")
    return manual_text()


def _run(trainer: TextTrainer[CharLM], beginning: str) -> tuple[Summary, Stop]:
    """Trains and shows progress. A signal stops and saves the run, as does an error of writing output."""
    summary: Summary | None = None

    def report(progress: Progress) -> None:
        try:
            stop.showing = True
            try:
                show(progress)
            finally:
                stop.showing = False
        except OSError as error:
            give_up(error)

    def give_up(error: OSError) -> None:
        stop.failure = error
        trainer.stop()
        leave_standard_output()

    try:
        with stopping_at_signals(trainer.stop) as stop:
            print(beginning, flush=True)
            try:
                with _reporting(trainer) as show:
                    summary = trainer.run(report)
            except OSError as error:
                if summary is None:
                    raise
                give_up(error)  # at the end of a live bar, after saving
    except KeyboardInterrupt:
        saved = "nothing is saved" if trainer.saved is None else f"step {trainer.saved} is saved in {trainer.last_path}"
        say(f"quit at step {trainer.step}; {saved}")
        Stop().end()
    return summary, stop


@contextmanager
def _reporting(trainer: TextTrainer[CharLM]) -> Iterator[Callable[[Progress], None]]:
    """Yields a function that shows progress: a live bar on a terminal, otherwise lines."""
    console, steps = Console(), trainer.options.steps
    if not console.is_terminal:
        shown = time.monotonic()

        def print_line(progress: Progress) -> None:
            nonlocal shown
            if progress.validation_loss is not None or time.monotonic() - shown >= 5:
                shown = time.monotonic()
                print(_line(progress, steps), flush=True)

        yield print_line
        return
    columns = (BarColumn(10), TextColumn("{task.description}", markup=False))
    with ProgressBar(*columns, console=console) as bar:
        task = bar.add_task(f"step {trainer.step}/{steps}", total=steps, completed=trainer.step)

        def update(progress: Progress) -> None:
            bar.update(task, completed=progress.step, description=_line(replace(progress, validation={}), steps))
            if progress.validation_loss is not None:
                console.print(f"step {progress.step}: validation {progress.validation_loss:.3f}", highlight=False)

        yield update


def _line(progress: Progress, steps: int) -> str:
    minutes, seconds = divmod(round(progress.seconds_left or 0), 60)
    parts = [
        f"step {progress.step:>{len(str(steps))}}/{steps}",
        f"loss {progress.loss:.3f} ({nats_to_bits(progress.loss):.3f} bits)",
        f"lr {progress.lr:.2g}",
        f"{progress.per_second:,.0f} chars/s",
        f"{minutes}:{seconds:02} left",
    ]
    if progress.validation_loss is not None:
        parts.append(f"validation {progress.validation_loss:.3f}")
    return "  ".join(parts)


def _conclude(trainer: TextTrainer[CharLM], summary: Summary, text: str, device: list[str]) -> None:
    """Prints how the run ended, and the next commands."""
    resume = [*program(), "train", "--resume", "--out", str(trainer.out), *device]
    if not summary.finished:
        say(f"interrupted at step {summary.step} of {trainer.options.steps}; saved in {trainer.last_path}")
        say(f"resume with: {shlex.join(resume)}")
        return
    if summary.best is not None:
        bits = nats_to_bits(summary.best)
        print(f"validation loss: {summary.best:.3f} nats a character ({bits:.3f} bits), after {summary.seconds:.0f} s")
    vocabulary, rng = trainer.vocabulary, np.random.default_rng(trainer.options.seed)
    prompt = (text[:200].split() or [text[0]])[0][:20]
    ids = trainer.model.generate(vocabulary.encode(prompt).tolist(), 400, temperature=0.7, rng=rng)
    print(f"a sample:\n\n{prompt}{vocabulary.decode(ids)}\n")
    checkpoints = [*([trainer.best_path] if summary.best is not None else []), trainer.last_path]
    files = [*checkpoints, trainer.metrics_path, *([summary.plot] if summary.plot else [])]
    print(f"files:       {'  '.join(map(str, files))}")
    print(f"sample with: {shlex.join([*program(), 'sample', str(checkpoints[0]), '--prompt', prompt])}")
    print(f"resume with: {shlex.join([*resume, '--steps', str(2 * trainer.options.steps)])}")
