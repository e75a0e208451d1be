"""`tinygrad-lstm explain`."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, TypeAlias

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.models import LSTMCell

from .._tensor import tensor
from ..device import compiled_kernels, default_device, get_device
from ..inspect._explain import explain as explain_step
from ..inspect._stage_text import StageLine, needs_ascii, stage_lines
from ..inspect._trace import trace
from ..inspect.layers import LayerTrace
from ..io.torch.names import as_cell
from ..nn import Module
from ..printable import printable
from .brackets import CHARACTERS, YES, one_hot, trained_memory
from .shared import Device, load_model, require

__all__ = ["explain"]

Page: TypeAlias = tuple[str, list[StageLine]]
"""A name, and lines that are shown together."""

TEXT, STEP = "(.[.)?", 2
"""The default text, and a step at which the tiny memory both keeps and writes."""

WINDOW = 50
"""The maximum number of characters of a text that are shown."""

STYLES = {"title": "bold", "code": "cyan", "meaning": "green"}

MEMORY = (
    "A tiny memory, trained just now: unit 0 remembers whether a ( is open, unit 1",
    f"whether a [ is. At ? they say so: h is near {YES:.2f} if it is open, else near 0.",
    f"The input x has a 1 at the character's place among {CHARACTERS.characters}",
)
ROUNDED = "Numbers are rounded to 3 decimals; products with an exact 0 are left out."


def explain(
    checkpoint: Annotated[
        str | None,
        typer.Argument(
            help="A checkpoint that train wrote; without one, a tiny memory is trained.", metavar="CHECKPOINT"
        ),
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(help=f"The text to read; for the tiny memory, only the characters ()[]?.  [default: {TEXT}]"),
    ] = None,
    step: Annotated[int | None, typer.Option(help="The step, from 0.  [default: the last character's]")] = None,
    steps: Annotated[int | None, typer.Option(help="How many.  [default: 1; where it waits, all that follow]")] = None,
    layer: Annotated[int, typer.Option(help="The layer, from 0.")] = 0,
    units: Annotated[str | None, typer.Option(help="The units, as in 0,3.  [default: the first two]")] = None,
    at_once: Annotated[bool, typer.Option("--all", help="Do not wait after each stage.")] = False,
    device: Device = None,
) -> None:
    """Go through a step of an LSTM, stage by stage."""
    if checkpoint is None and text is None:
        text, step = TEXT, STEP if step is None else step
    if text is None:
        raise ValueError("--text: expected the text that the model is to read, got none")
    waits = sys.stdin.isatty() and sys.stdout.isatty() and not at_once
    explained = _steps(text, step, steps, waits)
    # Loading compiled kernels would take longer than this computation.
    with default_device(get_device(device)), compiled_kernels(False):
        model, inputs = _memory(text) if checkpoint is None else _saved(checkpoint, text, device)
        layers = trace(model, inputs[: explained.stop]).layers
        require("--layer", 0 <= layer < len(layers), f"a number from 0 to {len(layers) - 1}", layer)
        traced = layers[layer]
        H = traced.shape[2]
        about = MEMORY if checkpoint is None else (f"{checkpoint}, layer {layer} of {len(layers)}: {H} units.",)
        console = Console(highlight=False)
        pages = _pages(traced, text, explained, _units(units, H), needs_ascii(console.encoding))
        _show(console, pages, (*about, ROUNDED), waits)


def _steps(text: str, step: int | None, steps: int | None, waits: bool) -> range:
    """The steps to explain."""
    require("--text", bool(text), "at least one character", "none")
    first = len(text) - 1 if step is None else step
    require("--step", 0 <= first < len(text), f"a number from 0 to {len(text) - 1}, the last character's", first)
    following = len(text) - first
    number = (following if waits else 1) if steps is None else steps
    require("--steps", 1 <= number <= following, f"a number from 1 to {following}, as the text goes on", number)
    return range(first, first + number)


def _units(units: str | None, size: int) -> list[int] | None:
    """The units to explain, of `size` units."""
    if units is None:
        return None
    named = [unit.strip() for unit in units.split(",")]
    good = all(unit.isdecimal() and int(unit) < size for unit in named)
    require("--units", good, f"numbers from 0 to {size - 1} with commas between", repr(units))
    return [int(unit) for unit in named]


def _memory(text: str) -> tuple[Module, HostArray]:
    """The tiny memory, and its inputs."""
    inputs = one_hot(text)[:, None]  # (T, 1, 6)
    return trained_memory(), inputs


def _saved(checkpoint: str, text: str, device: str | None) -> tuple[Module, HostArray]:
    """A model that train saved, and its inputs."""
    saved, model = load_model(checkpoint, device)
    require("CHECKPOINT", model.cell == "lstm", "a model with the cell 'lstm'", repr(model.cell))
    return model, saved.vocabulary.encode(text)[:, None]  # (T, 1)


def _cell(layer: LayerTrace) -> LSTMCell:
    """A cell with the layer's parameters."""
    cell = LSTMCell(layer.inputs.shape[2], layer.shape[2])
    cell.load_state_dict(as_cell(layer.kind, layer.parameters))
    return cell


def _pages(layer: LayerTrace, text: str, explained: range, units: Sequence[int] | None, ascii: bool) -> Iterator[Page]:
    """The stages of each step; the first one also shows the step's place in the text."""
    cell = _cell(layer)
    for t in explained:
        h, c = (tensor(layer.before[state][t]) for state in cell.STATES)
        stages = explain_step(cell, tensor(layer.inputs[t]), (h, c), units)
        first, *others = stages
        yield f"step {t}", [*_reading(text, t), *stage_lines(first, ascii)]
        for stage in others:
            yield stage.title, stage_lines(stage, ascii)


def _reading(text: str, t: int) -> list[StageLine]:
    start = max(0, min(t - WINDOW // 2, len(text) - WINDOW))
    shown = "".join(character if character.isprintable() else " " for character in text[start : start + WINDOW])
    before = f"Step {t} reads {text[t]!r}:  "
    pointed = " " * cell_len(before + shown[: t - start])
    return [StageLine("title", before + shown), StageLine("title", f"{pointed}^"), StageLine("empty", "")]


def _show(console: Console, pages: Iterable[Page], about: Sequence[str], waits: bool) -> None:
    """Prints pages one after the other, or waits for Enter before each page after the first."""
    for line in (*about, ""):
        console.print(Text(printable(line)), soft_wrap=True)
    for number, (name, lines) in enumerate(pages):
        if number and waits and not _asked_for(name):
            return
        for kind, line in lines:
            console.print(Text(printable(line), STYLES.get(kind, "")), soft_wrap=True)
        console.print()


def _asked_for(name: str) -> bool:
    print(f"Enter: {name.lower()}   q: end ", end="", flush=True)
    answer = sys.stdin.readline()
    if not answer:  # the end of the input, which does not end the line
        print()
    return bool(answer) and answer.strip().lower() != "q"
