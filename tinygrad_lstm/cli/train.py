"""`tinygrad-lstm train`."""

import shlex
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Any, NoReturn

import numpy as np
import typer

from tinygrad_lstm.models import CharLM
from tinygrad_lstm.models.atlas import known_cell

from ..data.encoded_text import EncodedText
from ..device import get_device
from ..train import Summary, TextCheckpoint, TextTrainer, TrainingOptions, nats_to_bits
from ..train.folder import RunFolder, newest_folder
from ..train.options import CHANGEABLE, with_only_limits
from .interruption import Stop, leave_standard_output, say, stopping_at_signals
from .shared import (
    DEFAULT_OUT,
    TEMPERATURE,
    TOP_P,
    Device,
    Threads,
    data_hint,
    model_maker,
    new_folder,
    path_option,
    program,
    require,
    use_threads,
    with_threads,
)
from .texts import STANDARD_INPUT, Encoding, data_sources, first_word, text_of_sources
from .train_progress import reporting
from .workers import (
    MICRO_BATCHES,
    MicroBatches,
    Restarts,
    Team,
    Workers,
    check_workers,
    is_worker,
    run_workers,
    team_of,
)

__all__ = ["option_named", "train"]

DEFAULTS = TrainingOptions()


def _option(name: str, text: str) -> Any:
    return typer.Option(help=f"{text}  [default: {getattr(DEFAULTS, name)}]")


def train(
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="A text file, or a folder of them, or - for standard input; may be repeated. Files that end in .gz, "
            ".bz2 or .xz are decompressed.  [default: Python's own manual]",
            metavar="PATH",
        ),
    ] = None,
    encoding: Encoding = None,
    out: Annotated[
        str | None,
        typer.Option(
            help=f"The folder for checkpoints and metrics.  [default: the next free of {DEFAULT_OUT}, "
            f"{DEFAULT_OUT}-2, ...; with --resume the newest]",
            metavar="DIR",
        ),
    ] = None,
    steps: Annotated[
        int | None, _option("steps", "Total number of training steps; no limit if --epochs or --minutes is given.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="How often to read the text in all.")] = None,
    minutes: Annotated[float | None, typer.Option(help="The time to train for in all.")] = None,
    patience: Annotated[
        int | None, typer.Option(help="End after this many validations in a row without a lower loss.")
    ] = None,
    cell: Annotated[str | None, _option("cell", "The recurrent cell; the command atlas lists all.")] = None,
    embedding: Annotated[int | None, _option("embedding", "Length of a character's vector.")] = None,
    hidden: Annotated[int | None, _option("hidden", "Size of the hidden state.")] = None,
    layers: Annotated[int | None, _option("layers", "Recurrent layers.")] = None,
    seq_len: Annotated[int | None, _option("seq_len", "Characters through which gradients go back.")] = None,
    batch: Annotated[int | None, _option("batch", "Streams of text in a batch.")] = None,
    lr: Annotated[float | None, _option("lr", "Highest learning rate.")] = None,
    schedule: Annotated[
        str | None,
        _option("schedule", "How the rate falls to a fiftieth by the last step: linear, cosine; or constant."),
    ] = None,
    clip: Annotated[float | None, _option("clip", "Maximum norm of the gradients.")] = None,
    weight_decay: Annotated[float | None, _option("weight_decay", "Decay of the weights, as that of AdamW.")] = None,
    tie: Annotated[
        bool | None,
        typer.Option("--tie", help="The output layer shares the embedding's weights, through a projection."),
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
    workers: Workers = None,
    micro_batches: MicroBatches = None,
    restarts: Restarts = 3,
) -> None:
    """Train a character model on text; Ctrl-C, SIGTERM and SIGHUP save."""
    options = {
        "steps": steps,
        "epochs": epochs,
        "minutes": minutes,
        "patience": patience,
        "cell": cell,
        "embedding": embedding,
        "tie": tie,
        "hidden": hidden,
        "layers": layers,
        "seq_len": seq_len,
        "batch": batch,
        "lr": lr,
        "schedule": schedule,
        "clip": clip,
        "weight_decay": weight_decay,
        "forget_bias": forget_bias,
        "dropout": dropout,
        "seed": seed,
    }
    given = {name: value for name, value in options.items() if value is not None}
    if cell is not None:
        known_cell("--cell", cell)
    folder = None if out is None else path_option("--out", out)
    sources = data_sources(data or [])
    if not resume and micro_batches is None:
        micro_batches = 1 if workers is None else min(MICRO_BATCHES, batch or DEFAULTS.batch)
    check_workers(workers, micro_batches, restarts, None if resume else batch or DEFAULTS.batch)
    if workers is not None and not is_worker():
        _launch(workers, restarts, folder, resume, sources)
    with team_of(workers, device) as team, ExitStack() as stack:
        use_threads(1 if threads is None and workers is not None else threads)
        place = str(get_device(device) if team.device is None else team.device)
        if team.is_restarted and folder is not None and RunFolder(folder).last.exists():
            resume, sources, encoding, init_from = True, [], None, None
        if resume:
            require("--init-from", init_from is None, "none together with --resume", repr(init_from))
            trainer, text, read = _resumed(folder, sources, encoding, given, place, team, micro_batches)
        else:
            earlier = None if init_from is None else path_option("--init-from", init_from)
            made = stack.enter_context(team.new_folder(folder, DEFAULT_OUT))
            trainer, text, read = _started(made, sources, encoding, given, place, earlier, team, micro_batches or 1)
        size = sum(parameter.size for parameter in trainer.model.parameters())
        summary, stop = _run(
            trainer,
            team,
            f"{'resuming' if resume else 'training'} a character model of {size:,} parameters on {len(text):,} "
            f"characters of {read}, {len(trainer.vocabulary)} different ones, on {with_threads(place)}"
            f"{'' if workers is None else f', by {workers} worker' + 's' * (workers > 1)}, in {trainer.out}",
        )
        if team.is_first:
            more = [] if workers is None else ["--workers", str(workers)]
            _conclude(trainer, summary, text, [*more, *([] if device is None else ["--device", device])])
        if stop.failure is not None or not summary.finished:
            stop.end()


def _resumed(
    out: Path | None,
    sources: list[str],
    encoding: str | None,
    given: dict[str, Any],
    device: str,
    team: Team,
    micro_batches: int | None,
) -> tuple[TextTrainer[CharLM], EncodedText, str]:
    """The run to resume, its text, and where that was read from."""
    checkpoint, folder = _to_resume(out or newest_folder(DEFAULT_OUT) or DEFAULT_OUT, team)
    parts = checkpoint.micro_batches
    require("--micro-batches", micro_batches in (None, parts), f"{parts}, which the run has", micro_batches)
    check_workers(team.communicator.size, parts)
    with option_named():
        checkpoint.options.continued(given)
    with checkpoint.blamed():
        CharLM.check_sizes(checkpoint)
    if sources or not (folder.text.exists() or checkpoint.sources):
        text, read = text_of_sources(sources, encoding)
    else:
        require("--encoding", encoding is None, "--data with it", "none")
        text, read = _text_of(checkpoint, folder), "the run's text"
    changed = {name: given[name] for name in CHANGEABLE if name in given}
    trainer = TextTrainer.resume(
        model_maker(device),
        text,
        checkpoint,
        folder.path,
        **changed,
        communicator=team.communicator,
        ended=team.is_restarted,
    )
    return trainer, text, read


def _started(
    out: Path,
    sources: list[str],
    encoding: str | None,
    given: dict[str, Any],
    device: str,
    init_from: Path | None,
    team: Team,
    micro_batches: int,
) -> tuple[TextTrainer[CharLM], EncodedText, str]:
    """A new run, from the weights of a checkpoint if one is given; its text, and where that was read from."""
    _refuse_earlier_run(out)
    earlier = None if init_from is None else TextCheckpoint.load(init_from)
    given = with_only_limits(given)
    with option_named():
        options = TrainingOptions(**given) if earlier is None else earlier.options.started_anew(given)
    text, read = text_of_sources(sources, encoding, "" if earlier is None else earlier.vocabulary.characters)
    make_model = model_maker(device, earlier, text.vocabulary)
    trainer = TextTrainer.start(
        make_model,
        text,
        options,
        out,
        sources,
        communicator=team.communicator,
        micro_batches=micro_batches,
    )
    return trainer, text, read


@contextmanager
def option_named() -> Iterator[None]:
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


def _to_resume(path: Path, team: Team) -> tuple[TextCheckpoint, RunFolder]:
    folder = RunFolder(path)
    if not folder.last.exists():
        raise ValueError(
            f"{folder.last}: there is no run to resume; start one without --resume, or name its folder with --out"
        )
    if team.is_first:
        with folder.locked():
            folder.complete()
    team.barrier()
    return TextCheckpoint.load(folder.last), folder


def _launch(workers: int, restarts: int, out: Path | None, resume: bool, sources: list[str]) -> NoReturn:
    """Starts the same command in workers."""
    with nullcontext(out or newest_folder(DEFAULT_OUT)) if resume else new_folder(out, DEFAULT_OUT) as folder:
        more = [] if folder is None or out is not None else ["--out", str(folder)]

        def saved() -> str:
            path = None if folder is None else RunFolder(folder).last
            if path is None or not path.exists():
                return "nothing is saved"
            return f"step {TextCheckpoint.load(path).step} is saved in {path}"

        run_workers(workers, restarts, [*sys.argv[1:], *more], STANDARD_INPUT in sources, saved)


def _text_of(checkpoint: TextCheckpoint, folder: RunFolder) -> EncodedText:
    if not folder.text.exists():
        raise ValueError(f"{folder.text}: not there; give the text of this run again, {data_hint(checkpoint)}")
    return folder.read_text(checkpoint.text_digest)


def _run(trainer: TextTrainer[CharLM], team: Team, beginning: str) -> tuple[Summary, Stop]:
    """Trains and shows progress. A signal stops and saves the run, as does an error of writing output."""
    summary: Summary | None = None

    try:
        with stopping_at_signals(trainer.stop) as stop:
            team.when_asked_to_stop(trainer.stop)
            print(beginning, flush=True)
            try:
                with reporting(trainer) as show:
                    summary = trainer.run(lambda progress: stop.shown(lambda: show(progress), trainer.stop))
            except OSError as error:
                if summary is None:
                    raise
                stop.failure = error  # at the end of a live bar, after saving
                leave_standard_output()
    except KeyboardInterrupt:
        saved = "nothing is saved" if trainer.saved is None else f"step {trainer.saved} is saved in {trainer.last_path}"
        say(f"quit at step {trainer.step}; {saved}")
        Stop().end()
    return summary, stop


def _conclude(trainer: TextTrainer[CharLM], summary: Summary, text: EncodedText, more: list[str]) -> None:
    """Prints how the run ended, and the next commands."""
    resume = [*program(), "train", "--resume", "--out", str(trainer.out), *more]
    if not summary.finished:
        of = "" if trainer.last_step is None else f" of {trainer.last_step}"
        say(f"interrupted at step {summary.step}{of}; saved in {trainer.last_path}")
        say(f"resume with: {shlex.join(resume)}")
        return
    if summary.best is not None:
        bits = nats_to_bits(summary.best)
        print(f"validation loss: {summary.best:.3f} nats a character ({bits:.3f} bits), after {summary.seconds:.0f} s")
    vocabulary, rng = trainer.vocabulary, np.random.default_rng(trainer.options.seed)
    prompt = first_word(text)
    ids = trainer.model.generate(vocabulary.encode(prompt).tolist(), 400, TEMPERATURE, rng=rng, top_p=TOP_P)
    print(f"a sample:\n\n{prompt}{vocabulary.decode(ids)}\n")
    checkpoints = [*([trainer.best_path] if summary.best is not None else []), trainer.last_path]
    files = [*checkpoints, trainer.metrics_path, *([summary.plot] if summary.plot else [])]
    print(f"files:       {'  '.join(map(str, files))}")
    print(f"sample with: {shlex.join([*program(), 'sample', str(checkpoints[0]), '--prompt', prompt])}")
    name = trainer.ended_by or "steps"
    print(f"resume with: {shlex.join([*resume, f'--{name}', f'{2 * getattr(trainer.options, name)}'])}")
