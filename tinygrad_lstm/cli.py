"""The command line: `tinygrad-lstm train | sample | eval | info`, thin over the library.

It is the one module that stands above models/: it is where a model and the training loop meet.
"""

import os
import platform
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as ProgressBar

from . import __version__, blas, cuda
from .data.text import manual_text, read_text
from .device import DeviceUnavailableError, get_device
from .models import CharLM
from .train import Checkpoint, Progress, Summary, Trainer, TrainingOptions, evaluate, nats_to_bits

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Trains character models on text, and tries them out.",
)

DEFAULTS = TrainingOptions()
Device: TypeAlias = Annotated[
    str | None, typer.Option(help="Where to compute: cpu, cuda, cuda:1; by default TINYGRAD_LSTM_DEVICE, or cpu.")
]
SavedModel: TypeAlias = Annotated[Path, typer.Argument(help="A checkpoint that train wrote.", show_default=False)]


def main() -> None:
    """Runs the command line. What the library finds wrong with what it was given is one line, and exit status 2."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a model's characters may not be the terminal's
    try:
        app()
    except (ValueError, OSError, RuntimeError, FloatingPointError, MemoryError) as error:
        print(f"error: {_in_one_line(error)}", file=sys.stderr)
        sys.exit(2)


def _in_one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


@app.callback()
def _prepare() -> None:
    # The products of a small LSTM gain little from a second thread, but wait long for one that another program's work
    # holds up; and sums come out the same on every machine.
    if not blas.threads_from_environment():
        blas.set_threads(1)


def _option(name: str, text: str) -> Any:
    return typer.Option(help=text, show_default=str(getattr(DEFAULTS, name)))


@app.command()
def train(
    data: Annotated[
        list[Path] | None,
        typer.Option(help="A text file, or a folder of them; may be repeated.", show_default="Python's own manual"),
    ] = None,
    out: Annotated[Path, typer.Option(help="The folder for checkpoints and metrics.")] = Path("runs/char-lm"),
    steps: Annotated[int | None, _option("steps", "Training steps in all.")] = None,
    hidden: Annotated[int | None, _option("hidden", "Size of the hidden state.")] = None,
    layers: Annotated[int | None, _option("layers", "LSTM layers.")] = None,
    seq_len: Annotated[int | None, _option("seq_len", "Characters through which gradients go back.")] = None,
    batch: Annotated[int | None, _option("batch", "Streams of text read side by side.")] = None,
    lr: Annotated[float | None, _option("lr", "Highest learning rate.")] = None,
    dropout: Annotated[float | None, _option("dropout", "Share of values dropped in training.")] = None,
    device: Device = None,
    seed: Annotated[int | None, _option("seed", "Where all random numbers start.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
) -> None:
    """Train a character model on text; Ctrl-C saves."""
    options: dict[str, Any] = {
        "steps": steps,
        "hidden": hidden,
        "layers": layers,
        "seq_len": seq_len,
        "batch": batch,
        "lr": lr,
    }
    options |= {"dropout": dropout, "seed": seed}
    given = {name: value for name, value in options.items() if value is not None}
    place = str(get_device(device))
    make_model = _model_maker(place)
    paths = [path.absolute() for path in data or []]
    if resume:
        checkpoint = Checkpoint.load(_to_resume(out))
        checkpoint.options.continued(given)
        text = _text(paths or [Path(source) for source in checkpoint.sources])
        trainer = Trainer.resume(make_model, text, checkpoint, out, steps=given.get("steps"))
    else:
        text = _text(paths)
        trainer = Trainer.start(make_model, text, TrainingOptions(**given), out, map(str, paths))

    with _stopping_at_interrupt(trainer):
        size = sum(parameter.size for parameter in trainer.model.parameters())
        print(
            f"{'resuming' if resume else 'training'} a character model of {size:,} parameters on {len(text):,} "
            f"characters, {len(trainer.vocabulary)} different ones, on {place}",
            flush=True,
        )
        with _reporting(trainer) as report:
            summary = trainer.run(report)
    _conclude(trainer, summary, text, [] if device is None else ["--device", device])
    if not summary.finished:
        sys.exit(128 + signal.SIGINT)


@app.command()
def sample(
    checkpoint: SavedModel,
    prompt: Annotated[str, typer.Option(help="The text to go on from.")],
    length: Annotated[int, typer.Option(help="Characters to generate.", min=1)] = 500,
    temperature: Annotated[
        float, typer.Option(help="Below 1 bolder in the likely, above 1 in the unlikely; 0 takes the likeliest.")
    ] = 0.7,
    top_k: Annotated[int | None, typer.Option(help="Draw from this many likeliest characters alone.")] = None,
    device: Device = None,
    seed: Annotated[int | None, typer.Option(help="Repeats a sample.")] = None,
) -> None:
    """Let a trained model go on with a text."""
    saved, model = _load(checkpoint, device)
    ids = saved.vocabulary.encode(prompt).tolist()
    stream = model.stream(ids, temperature, top_k, np.random.default_rng(seed))
    print(prompt, end="", flush=True)
    for _ in range(length):
        print(saved.vocabulary.decode([next(stream)]), end="", flush=True)
    print()


@app.command("eval")
def evaluate_(
    checkpoint: SavedModel,
    data: Annotated[list[Path], typer.Option(help="A text file, or a folder of them; may be repeated.")],
    device: Device = None,
) -> None:
    """Measure how well a trained model predicts a text."""
    saved, model = _load(checkpoint, device)
    ids = saved.vocabulary.encode(read_text(data))
    nats = evaluate(model, ids)
    print(f"{nats:.4f} nats a character, {nats_to_bits(nats):.4f} bits a character, over {len(ids) - 1:,} characters")


@app.command()
def info() -> None:
    """Show versions, devices and the matrix library."""
    threads = blas.threads()
    rows = {
        "tinygrad_lstm": __version__,
        "Python": f"{platform.python_version()} ({sys.executable})",
        "NumPy": np.__version__,
        "BLAS": blas.library(),
        "BLAS threads": f"{'unknown' if threads is None else threads} (OPENBLAS_NUM_THREADS sets it)",
        "cores": str(os.cpu_count()),
        "system": platform.platform(),
        "devices": _devices(),
    }
    for name, value in rows.items():
        print(f"{name:<14} {value}")


def _devices() -> str:
    """The devices that there are, or why cuda is none of them."""
    if cuda.is_available():
        return ", ".join(["cpu", *(f"cuda:{index}" for index in range(cuda.device_count()))])
    try:
        get_device("cuda")
    except DeviceUnavailableError as error:
        return f"cpu (no cuda: {error})"
    return "cpu"


def _text(paths: list[Path]) -> str:
    return read_text(paths) if paths else manual_text()


def _model_maker(device: str | None) -> Callable[[int, TrainingOptions], CharLM]:
    def make(characters: int, options: TrainingOptions) -> CharLM:
        model = CharLM(characters, options.embedding, options.hidden, options.layers, options.dropout)
        return model.to(get_device(device))

    return make


def _load(path: Path, device: str | None) -> tuple[Checkpoint, CharLM]:
    """A checkpoint and its model, ready for use."""
    saved = Checkpoint.load(path)
    model = _model_maker(device)(len(saved.vocabulary), saved.options)
    model.load_state_dict(saved.weights)
    model.eval()
    return saved, model


def _to_resume(out: Path) -> Path:
    path = out / "last.safetensors"
    if not path.exists():
        raise ValueError(
            f"{path}: there is no run to resume; start one without --resume, or name its folder with --out"
        )
    return path


@contextmanager
def _stopping_at_interrupt(trainer: Trainer[CharLM]) -> Iterator[None]:
    """Within it, the first Ctrl-C lets the trainer finish its step and save; a second one acts as usual."""
    before = signal.getsignal(signal.SIGINT)

    def stop(*_: Any) -> None:
        trainer.stop()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _reporting(trainer: Trainer[CharLM]) -> Iterator[Callable[[Progress], None]]:
    """Gives a function that shows progress: a live bar on a terminal, lines elsewhere."""
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
            bar.update(task, completed=progress.step, description=_line(replace(progress, validation_loss=None), steps))
            if progress.validation_loss is not None:
                console.print(f"step {progress.step}: validation {progress.validation_loss:.3f}", highlight=False)

        yield update


def _line(progress: Progress, steps: int) -> str:
    minutes, seconds = divmod(round(progress.seconds_left), 60)
    parts = [
        f"step {progress.step:>{len(str(steps))}}/{steps}",
        f"loss {progress.loss:.3f} ({progress.bits:.3f} bits)",
        f"{progress.characters_per_second:,.0f} chars/s",
        f"{minutes}:{seconds:02} left",
    ]
    if progress.validation_loss is not None:
        parts.append(f"validation {progress.validation_loss:.3f}")
    return "  ".join(parts)


def _conclude(trainer: Trainer[CharLM], summary: Summary, text: str, device: list[str]) -> None:
    """Prints how the run ended, and what can be done next."""
    resume = [*_program(), "train", "--resume", "--out", str(trainer.out), *device]
    if not summary.finished:
        print(f"interrupted at step {summary.step} of {trainer.options.steps}; saved in {trainer.last_path}")
        print(f"resume with: {shlex.join(resume)}")
        return
    if summary.best is not None:
        bits = nats_to_bits(summary.best)
        print(f"validation loss: {summary.best:.3f} nats a character ({bits:.3f} bits), after {summary.seconds:.0f} s")
    vocabulary, rng = trainer.vocabulary, np.random.default_rng(trainer.options.seed)
    prompt = (text[:200].split() or [text[0]])[0][:20]
    ids = trainer.model.generate(vocabulary.encode(prompt).tolist(), 400, temperature=0.7, rng=rng)
    print(f"a sample:\n\n{prompt}{vocabulary.decode(ids)}\n")
    files = [trainer.best_path, trainer.last_path, trainer.metrics, *([summary.plot] if summary.plot else [])]
    print(f"files:       {'  '.join(map(str, files))}")
    print(f"sample with: {shlex.join([*_program(), 'sample', str(trainer.best_path), '--prompt', prompt])}")
    print(f"go on with:  {shlex.join([*resume, '--steps', str(2 * trainer.options.steps)])}")


def _program() -> list[str]:
    """How this program was called."""
    if Path(sys.argv[0]).name == "__main__.py":
        return ["python", "-m", "tinygrad_lstm"]
    name = Path(sys.argv[0]).name
    return [name if shutil.which(name) else sys.argv[0]]
