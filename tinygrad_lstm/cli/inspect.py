"""`tinygrad-lstm inspect`."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from .. import ops
from .._tensor import Tensor, tensor
from ..data.encoded_text import EncodedText
from ..data.text import Unknown, split_text
from ..data.text_files import manual_text, read_text
from ..inspect import (
    PageTooLargeError,
    flow_of,
    page,
    plot_cell_states,
    plot_gates,
    plot_gradient_flow,
    plot_saturation,
    plot_text,
    trace,
    trace_memory,
)
from ..inspect.plots import new_figure, write_figure
from ..train import TextCheckpoint
from ..train.folder import RunFolder, newest_folder
from .inputs import Channel, Inputs, inputs_of
from .inspecting import Inspected, of_inputs
from .models import Shapes, StatePairs, WholeModel
from .shared import (
    DEFAULT_OUT,
    Device,
    UnknownOption,
    data_hint,
    known_characters,
    known_text,
    load_model,
    path_option,
    require,
    writable_file,
)
from .texts import Encoding, data_sources, text_of_sources

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["inspect"]

_SHOWN = 600  # characters, if no text is given
_DRAWN = 2000  # characters in a plot of the text


def inspect(
    checkpoint: Annotated[
        str | None,
        typer.Argument(
            help="A checkpoint that train wrote, or the folder of a run; with --input, a model of any file, or the "
            "folder of a SavedModel.  [default: the newest run without --out]",
            metavar="FILE",
        ),
    ] = None,
    input: Inputs = None,
    channel: Channel = None,
    vocabulary: Annotated[
        str | None,
        typer.Option(
            help="With --input: the strings of the model's ids, a line each, from id 0.  [default: the checkpoint's]",
            metavar="PATH",
        ),
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(help="The text to follow the model through.  [default: some that it was not trained on]"),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="The text from a file, or a folder of them, or - for standard input; may be repeated.", metavar="PATH"
        ),
    ] = None,
    encoding: Encoding = None,
    out: Annotated[
        str | None,
        typer.Option(help="The page to write.  [default: page.html, in the folder of a run]", metavar="FILE"),
    ] = None,
    loss: Annotated[
        Literal["last", "mean"],
        typer.Option(
            help="Whose gradients to show: of the last character's loss, or of the mean of all. With --input: of the "
            "sum of the first output at the last step, or at all steps."
        ),
    ] = "last",
    steps: Annotated[str | None, typer.Option(help="Show only these steps, as 0:500.", metavar="FROM:TO")] = None,
    units: Annotated[str | None, typer.Option(help="Show only these units, as 0:64.", metavar="FROM:TO")] = None,
    plots: Annotated[
        str | None,
        typer.Option(help="Draw the last layer's gates and states there too, for papers.", metavar="DIR"),
    ] = None,
    unknown: UnknownOption = "error",
    shape: Shapes = None,
    state: StatePairs = None,
    device: Device = None,
) -> None:
    """Write a page of every gate, state and gradient of a model."""
    path, run = _to_inspect(checkpoint)
    place = writable_file("--out", str(run.page if run else "page.html") if out is None else out)
    windows = _slice("--steps", steps), _slice("--units", units)
    folder = None if plots is None else path_option("--plots", plots)
    if folder is not None:
        new_figure()  # raises now if matplotlib is missing
    of_all = loss == "mean"
    require("--encoding", encoding is None or bool(data), "--data with it", "none")
    if input:
        require("--input", text is None and not data, "either inputs or a text", "both")
        model = WholeModel.load(str(path), device, state, shape)
        words = None if vocabulary is None else _lines(path_option("--vocabulary", vocabulary))
        shown = of_inputs(str(path), model, inputs_of(model, input, channel), words, of_all)
    else:
        if run is None and path.is_dir():
            raise ValueError(f"{path}: not the folder of a run; for the folder of a SavedModel, give --input")
        require("--vocabulary", vocabulary is None, "it together with --input", vocabulary)
        given = partial(_text, run=run, text=text, data=data, encoding=encoding, unknown=unknown)
        shown = _of_text(path, given, device, of_all)
    _write_page(shown, place, f"Inside {path.name}", *windows)
    print(f"page: {place} ({place.stat().st_size / 1e6:,.1f} MB); open it in a browser")
    if folder is not None:
        print(f"plots: {'  '.join(map(str, _drawn(shown, folder)))}")


def _write_page(shown: Inspected, place: Path, title: str, steps: slice | None, units: slice | None) -> None:
    """Writes the page of a trace, or of some of its steps and units."""
    try:
        page(
            shown.trace,
            place,
            vocabulary=shown.vocabulary,
            predictions=shown.predictions,
            names=shown.names,
            title=title,
            loss_is=shown.loss_is,
            steps=steps,
            units=units,
        )
    except PageTooLargeError as error:
        allowed = {"--steps": error.steps, "--units": error.units}
        options = [f"{option} {window.start}:{window.stop}" for option, window in allowed.items() if window is not None]
        raise ValueError(f"{error.reason}; give {' or '.join(options) or 'both fewer --steps and --units'}") from error


def _of_text(path: Path, text_for: Callable[[TextCheckpoint], str], device: str | None, of_all: bool) -> Inspected:
    """A trace of a character model, with the gradients of the last character's loss or of the mean loss."""
    try:
        saved, model = load_model(str(path), device)
    except ValueError as error:
        raise ValueError(f"{error}; for a model from a different program, give --input") from error
    text = text_for(saved)
    ids = tensor(saved.vocabulary.encode(text), device=next(model.parameters()).device).unsqueeze(1)  # (T, 1)
    megabytes = trace_memory(model, ids, gradients=True) / 1e6
    print(f"a trace of {len(ids):,} characters takes {megabytes:,.1f} MB", flush=True)

    def loss(logits: Tensor) -> Tensor:
        if of_all:
            return ops.cross_entropy(ops.flatten(logits[:-1], 0, 1), ops.flatten(ids[1:]))
        return ops.cross_entropy(logits[-2], ids[-1])

    loss_is = "the mean loss of all characters" if of_all else "the loss of the last character"
    return Inspected(trace(model, ids, loss=loss), loss_is, saved.vocabulary.characters, text=text)


def _text(
    saved: TextCheckpoint,
    run: RunFolder | None,
    text: str | None,
    data: list[str] | None,
    encoding: str | None,
    unknown: Unknown,
) -> str:
    """The text that the model reads."""
    if data:
        require("--text", text is None, "either a text or --data", "both")
        read, _ = text_of_sources(data_sources(data), encoding)
        text = known_characters(saved.vocabulary, read, unknown)[:]
    else:
        text = known_text(saved.vocabulary, _unseen_text(saved, run) if text is None else text, unknown)
    require("--text", len(text) >= 2, "at least two characters, of which the second can be predicted", len(text))
    return text


def _to_inspect(given: str | None) -> tuple[Path, RunFolder | None]:
    """The model's file or folder, and the run's folder if that was given; by default those of the newest run."""
    path = newest_folder(DEFAULT_OUT) if given is None else path_option("FILE", given)
    if path is None:
        raise ValueError(f"{DEFAULT_OUT}: there is no run; train a model first, or name a checkpoint")
    folder = RunFolder(path)
    if not folder.is_used():  # a file, or the folder of a SavedModel
        return path, None
    folder.check_links()
    return folder.best if folder.best.exists() else folder.last, folder


def _drawn(shown: Inspected, folder: Path) -> list[Path]:
    """Writes plots of a trace's last layer to a folder."""
    layer = shown.trace[-1]
    # If the state is a matrix, it has more elements than the layer has gates.
    units = min(layer.values[name].shape[2] for name in (layer.memory, *layer.gates))
    most_varying = int(layer.values[layer.memory][:, 0, :units].var(axis=0).argmax())
    drawings = {
        "cell-states": plot_cell_states(layer),
        "gradient-flow": plot_gradient_flow(flow_of(shown.trace)),
    }
    if shown.text is not None:
        drawings["text"] = plot_text(layer, most_varying, shown.text, steps=slice(0, _DRAWN))
    if layer.gates:
        drawings |= {"gates": plot_gates(layer, most_varying), "saturation": plot_saturation(layer)}
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.png" for name in drawings]
    for path, ax in zip(paths, drawings.values(), strict=True):
        write_figure(path, cast("Figure", ax.figure), dpi=120)
    return paths


def _unseen_text(saved: TextCheckpoint, folder: RunFolder | None) -> str:
    """The beginning of the validation text, from the start of a line.

    Paths in a checkpoint are not opened: the text is that in the run's folder, if the folder was given, or Python's own
    manual.
    """
    if folder is not None and folder.text.exists():
        whole = folder.read_text(saved.text_digest)
    elif not saved.sources and (manual := EncodedText.of(manual_text())).digest == saved.text_digest:
        whole = manual
    else:
        hint = data_hint(saved) if saved.sources else "with --data; it is not the manual of this Python"
        raise ValueError(f"{saved.path}: give a text with --text, the folder of the run, or its text {hint}")
    _, held_back = split_text(whole.ids)
    beginning = len(whole) - len(held_back)
    unseen = whole[beginning : beginning + 2 * _SHOWN]
    _, _, lines = unseen.partition("\n")
    return (lines if len(lines) > 1 else unseen)[:_SHOWN]


def _lines(path: Path) -> list[str]:
    return read_text([path]).removesuffix("\n").split("\n")


def _slice(option: str, text: str | None) -> slice | None:
    if text is None:
        return None
    first, colon, last = text.partition(":")
    good = colon == ":" and all(part.isdecimal() or not part for part in (first, last))
    require(option, good, "two numbers as in 0:500", text)
    return slice(int(first) if first else None, int(last) if last else None)
