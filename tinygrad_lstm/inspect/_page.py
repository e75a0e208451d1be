"""`page`: a trace as one HTML file, which any browser opens without a network or a library."""

import bisect
import html
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import HostArray

from ..io.atomic import write_atomically
from ..kinds import KINDS, Kind
from .data_path import with_numbers
from .drawing import Drawing, drawn
from .layers import LayerTrace, Trace
from .packing import LINEAR_PRECISION, Packer
from .series import input_names, results_of, series_of
from .tokens import TOP_SHOWN, Tokens

__all__ = ["PageTooLargeError", "page"]

_SCRIPTS = tuple(
    f"{name}.js" for name in ("dom", "data", "scales", "equations", "cell", "charts", "text", "series", "views", "main")
)
# The largest sizes in bytes: of the page without arrays, of a step without its tokens, of an array's description, of a
# column's scale.
_PAGE_BYTES, _STEP_BYTES, _ARRAY_BYTES, _COLUMN_BYTES = 90_000, 300, 200, 20


class PageTooLargeError(ValueError):
    """A page would be larger than allowed.

    Attributes:
        steps: a window of steps, with all units, that is small enough; None if there is none.
        units: a window of units, with all steps, that is small enough; None if there is none.
    """

    def __init__(self, reason: str, steps: slice | None, units: slice | None) -> None:
        windows = {"steps": steps, "units": units}
        fitting = [f"{name}=slice({w.start}, {w.stop})" for name, w in windows.items() if w is not None]
        advice = " or ".join(fitting) or "fewer sequences, or fewer of both steps and units"
        super().__init__(f"page: {reason}; give a window that fits: {advice}")
        self.reason, self.steps, self.units = reason, steps, units


def page(
    trace: Trace,
    path: str | Path,
    *,
    vocabulary: Sequence[str] | None = None,
    predictions: bool = True,
    names: Mapping[str, Sequence[str]] | None = None,
    batch_first: bool | None = None,
    title: str | None = None,
    loss_is: str = "",
    steps: slice | None = None,
    units: slice | Sequence[int] | None = None,
    max_bytes: int = 25_000_000,
) -> Path:
    """Writes a trace as a page that shows every number: the cell, step by step, and all units over time.

    The page is one file that loads nothing. Values are rounded to 16 bits; the page states the error. A drawing of the
    cell and its equations are shown. For layers with options, and cells of other kinds, both are made of the step's
    program, as `program` shows it. The h of an LSTM with proj_size has no number for each unit, so no numbers of it are
    shown. Inputs and outputs that have numbers for each step are drawn as lines.

    Args:
        trace: what `trace` returned.
        path: the file to write, such as "page.html".
        vocabulary: the string of each id, for a model that takes ids (T, B) and returns logits (T, B, V), or (B, T) and
            (B, T, V). The page then shows the text, the likeliest predictions, and the loss of each token.
        predictions: whether the output has these logits. A vocabulary is also for ids of a model that, with False,
            predicts something else; the page then shows only the text.
        names: for some inputs and outputs of the model, the names of their columns, such as
            {"x": ["temperature", "pressure"]}.
        batch_first: whether the ids are (B, T). By default this is inferred from their shape; if there are as many
            sequences as steps, from the first layer's inputs, then from the layers' `batch_first`.
        title: the page's heading; the model by default.
        loss_is: what the loss is, in words, if the trace has one.
        steps: which steps to show, all by default: `slice(0, 500)`.
        units: which units of each layer to show, all by default: `slice(0, 64)` or a list.
        max_bytes: the largest file to write.

    Returns:
        The path.

    Raises:
        PageTooLargeError: the file would be larger than `max_bytes`; the error names a window that is small enough.
        ValueError: the window is empty; the vocabulary, the names or `batch_first` is invalid for the trace; its layers
            ran on batches of different sizes.
        OSError: the file cannot be written.

    >>> import tinygrad_lstm as tg
    >>> from tinygrad_lstm.models import LSTM
    >>> traced = tg.inspect.trace(LSTM(3, 5), tg.ones(7, 2, 3))
    >>> tg.inspect.page(traced, "page.html").name
    'page.html'
    """
    window = _Window(trace, vocabulary, predictions, names or {}, batch_first, steps, units)
    if window.nbytes > max_bytes:
        raise window.too_large(max_bytes)
    packer = Packer()
    contents: dict[str, Any] = {
        "model": trace.model,
        "loss": trace.loss if trace.loss is not None and np.isfinite(trace.loss) else None,
        "lossIs": loss_is,
        "first": window.steps.start,
        "isText": window.tokens is not None and window.tokens.is_text,
        "series": [each.described() for each in window.series],
        "items": [
            {"number": b, **_item(b, window, packer), "results": results}
            for b, results in zip(window.items, results_of(trace, window.items), strict=True)
        ],
        "kinds": {layer.kind: _kind(KINDS[layer.kind]) for layer in window.layers if layer.kind in KINDS},
        "layers": [_layer(layer, drawing, window, packer) for layer, drawing in zip(window.layers, window.drawings)],
    }
    contents["precision"] = _precision(packer)
    place = Path(path)
    # A title may be the name of a file, which may not be valid Unicode.
    write_atomically(place, _filled(title or f"Inside {trace.model}", contents, packer).encode(errors="replace"))
    return place


class _Window:
    """The part of a trace that is shown: some steps, some units of each layer, the sequences that have such steps."""

    def __init__(
        self,
        trace: Trace,
        vocabulary: Sequence[str] | None,
        predictions: bool,
        names: Mapping[str, Sequence[str]],
        batch_first: bool | None,
        steps: slice | None,
        units: slice | Sequence[int] | None,
    ) -> None:
        T, B, _ = trace.layers[0].shape
        for layer in trace.layers:
            if layer.shape[1] != B:
                raise ValueError(
                    f"page: layer {trace.layers[0].name!r} ran on {B} sequences, {layer.name!r} on {layer.shape[1]}; "
                    "trace a part of the model whose layers share a batch"
                )
        self.steps = range(*(steps or slice(None)).indices(T))
        self.items = [b for b in range(B) if self.rows(trace.layers[0].going, b).any()]
        if not self.steps or self.steps.step != 1 or not self.items:
            raise ValueError(f"page: {steps} of {T} steps has nothing to show; expected a slice of neighbouring steps")
        self.layers = [
            _shown(layer) for layer in trace.layers if all(self.rows(layer.going, b).any() for b in self.items)
        ]  # a layer may have run for fewer steps
        self.drawings = [drawn(layer.data_path) if layer.data_path else None for layer in self.layers]
        self.tokens = Tokens.of(trace, vocabulary, batch_first, predictions)
        self.series = series_of(trace, self.tokens, names)
        self._units = units
        longest = max((len(_as_json(token)) for token in vocabulary or ()), default=0)
        self._step_bytes = _STEP_BYTES + (TOP_SHOWN + 2) * longest  # its token, the next one, and predictions
        self.nbytes = self._bytes(len(self.steps), 1.0)

    def units(self, layer: LayerTrace) -> list[int]:
        """The units of a layer that are shown.

        Raises:
            ValueError: there are none, or one is out of range.
        """
        H, units = layer.shape[2], self._units
        numbers = list(range(H)[units]) if isinstance(units, slice) else list(range(H) if units is None else units)
        if not numbers or not all(0 <= unit < H for unit in numbers):
            raise ValueError(f"page: layer {layer.name!r} has units 0 to {H - 1}; got {units}")
        return numbers

    def rows(self, array: HostArray, b: int) -> HostArray:
        """The shown steps (steps, ·) of a sequence in an array (T, B, ·)."""
        return array[self.steps.start : self.steps.stop, b]

    def too_large(self, max_bytes: int) -> PageTooLargeError:
        """The error for a page that is too large, with windows that are small enough."""
        first, H = self.steps.start, max(layer.shape[2] for layer in self.layers)
        steps = _largest(lambda number: self._bytes(number, 1.0) <= max_bytes, len(self.steps))
        units = _largest(lambda number: self._bytes(len(self.steps), number / H) <= max_bytes, H)
        return PageTooLargeError(
            f"{self} would make a file of {self.nbytes:,} bytes, and max_bytes allows {max_bytes:,}",
            slice(first, first + steps) if steps else None,
            slice(0, units) if units else None,
        )

    def _bytes(self, steps: int, share: float) -> int:
        """The largest size of a file with this number of steps and share of the units."""
        items = len(self.items)
        drawn_columns = sum(each.rows.shape[2] for each in self.series)
        numbers, columns = float(steps * items * drawn_columns), float(items * drawn_columns)
        specs = items * len(self.series)
        said = sum(len(_as_json(drawing.shapes)) for drawing in self.drawings if drawing)
        for layer in self.layers:
            units = share * len(self.units(layer))
            values, gradients = _packed(layer)
            arrays = len(values) + len(gradients)
            width = arrays * units
            said += sum(len(_as_json(equation)) for equation in layer.equations)
            specs += items * (arrays + len(layer.before) + 1) + len(layer.parameters)
            if units == layer.shape[2]:
                width += layer.inputs.shape[2]
                numbers += sum(parameter.size for parameter in layer.parameters.values())
                columns += sum(parameter.shape[-1] for parameter in layer.parameters.values())
            numbers += steps * items * width
            columns += items * (width + len(layer.before) * units)
        said += sum(len(_as_json(each.described())) for each in self.series)
        said += _PAGE_BYTES + specs * _ARRAY_BYTES + steps * items * self._step_bytes
        return math.ceil(numbers * 2 * 4 / 3 + columns * _COLUMN_BYTES) + said

    def __str__(self) -> str:
        layers = "1 layer" if len(self.layers) == 1 else f"{len(self.layers)} layers"
        batch = "" if len(self.items) == 1 else f" × {len(self.items)} sequences"
        return f"{len(self.steps)} steps × {len(self.units(self.layers[0]))} units × {layers}{batch}"


def _shown(layer: LayerTrace) -> LayerTrace:
    """What is shown of a layer: the arrays that have a number for each unit, so not an h that is a projection.

    Parameters are only for the equations, which are shown for plain layers.
    """
    H = layer.shape[2]

    def of_units(arrays: dict[str, HostArray]) -> dict[str, HostArray]:
        return {name: array for name, array in arrays.items() if array.shape[2] == H}

    values, before = of_units(layer.values), of_units(layer.before)
    return replace(
        layer,
        values=values,
        gradients=of_units(layer.gradients),
        before=before,
        data_path=with_numbers(layer.data_path, {*values, *(f"{name}_before" for name in before)}),
        parameters={} if layer.options or layer.kind not in KINDS else layer.parameters,
    )


def _largest(fits: Callable[[int], bool], limit: int) -> int:
    """The largest number up to the limit that fits, if all smaller ones fit too; 0 if there is none."""
    return bisect.bisect_left(range(1, limit + 1), True, key=lambda number: not fits(number))


def _as_json(value: Any) -> str:
    """JSON without "<", which could be read as the end of the script that holds it."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _kind(kind: Kind) -> dict[str, Any]:
    """What the page needs of a kind."""
    return {
        "gates": [asdict(gate) for gate in kind.gates],
        "states": [asdict(state) for state in kind.states],
        "apart": {gate: weight.name for weight in kind.weights if weight.part_of for gate in weight.gates},
    }


def _packed(layer: LayerTrace) -> tuple[dict[str, HostArray], dict[str, HostArray]]:
    """The values and gradients that are stored in the page, without those that it computes from them."""
    computed = ("", "")
    if layer.kind in KINDS and not layer.options:
        computed = KINDS[layer.kind].follows, KINDS[layer.kind].gradients_follow
    values, gradients = (
        {name: array for name, array in arrays.items() if name not in left_out}
        for arrays, left_out in zip((layer.values, layer.gradients), computed, strict=True)
    )
    return values, gradients


def _is_share(array: HostArray) -> bool:
    """Whether all values are between 0 and 1, as those of a gate; not known beforehand for a user-defined cell."""
    return not ((array < 0) | (array > 1)).any()


def _layer(layer: LayerTrace, drawing: Drawing | None, window: _Window, packer: Packer) -> dict[str, Any]:
    units = window.units(layer)
    # A gate's inputs can be shown only if all units are.
    whole = units == list(range(layer.shape[2]))
    parameters = {name: np.atleast_2d(array) for name, array in layer.parameters.items()} if whole else {}
    return {
        "name": layer.name,
        "kind": layer.kind,
        "described": layer.described,
        "plain": not layer.options,
        "keeps": layer.keeps,
        "reverse": layer.reverse,
        "length": len(layer.going),
        "inputNames": input_names(layer, window.series),
        "aligned": window.tokens is not None and window.tokens.matches(layer),
        "gates": [name for name in layer.gates if _is_share(layer.values[name])],
        "units": units,
        "hidden": layer.shape[2],
        "equations": layer.equations,
        "drawing": drawing and {"size": drawing.size, "shapes": drawing.shapes},
        "parameters": {name: packer.linear(array) for name, array in parameters.items()},
        "items": [_run(layer, b, window, units, whole and bool(parameters), packer) for b in window.items],
    }


def _run(
    layer: LayerTrace, b: int, window: _Window, units: list[int], with_inputs: bool, packer: Packer
) -> dict[str, Any]:
    """One sequence's part of a layer."""
    going = window.rows(layer.going, b)
    steps = int(going.sum())

    def rows(array: HostArray) -> HostArray:
        return window.rows(array, b)[:steps][:, units]

    (values, gradients), before = _packed(layer), layer.before
    restarts = _restarts({name: (rows(layer.values[name]), rows(before[name])) for name in before}, layer.reverse)
    return {
        "steps": steps,
        "values": {name: packer.linear(rows(array)) for name, array in values.items()},
        "gradients": {name: packer.logarithmic(rows(array)) for name, array in gradients.items()},
        "restarts": {
            "steps": restarts.tolist(),
            "states": {name: packer.linear(rows(before[name])[restarts]) for name in before},
        },
        "inputs": packer.linear(window.rows(layer.inputs, b)[:steps]) if with_inputs else None,
    }


def _restarts(states: dict[str, tuple[HostArray, HostArray]], reverse: bool) -> HostArray:
    """The steps whose state before differs from the state after the previous step: the first, and new beginnings."""
    steps = len(next(iter(states.values()))[0])
    fresh = np.zeros(steps, bool)
    fresh[-1 if reverse else 0] = True
    for after, before in states.values():
        if reverse:
            fresh[:-1] |= _differs(before[:-1], after[1:])
        else:
            fresh[1:] |= _differs(before[1:], after[:-1])
    return np.flatnonzero(fresh)


def _differs(a: HostArray, b: HostArray) -> HostArray:
    """Which rows differ; NaNs are equal."""
    differs: HostArray = ((a != b) & ~(np.isnan(a) & np.isnan(b))).any(axis=1)
    return differs


def _item(b: int, window: _Window, packer: Packer) -> dict[str, Any]:
    """The tokens of one sequence, and the model's predictions; its inputs and outputs."""
    said: dict[str, Any] = {"tokens": None} if window.tokens is None else window.tokens.said(b, window.steps)
    return {**said, "series": [packer.linear(window.rows(each.rows, b)) for each in window.series]}


def _precision(packer: Packer) -> str:
    said = (
        f"Values are rounded to 16 bits, which changes them by at most {100 * LINEAR_PRECISION:.4f} % of the largest "
        "magnitude that the unit has"
    )
    if packer.precision:
        said += f", gradients by at most {100 * packer.precision:.2g} % of themselves"
    return f"{said}. What equations show is computed in this page, of these values."


def _filled(title: str, contents: dict[str, Any], packer: Packer) -> str:
    """The page's HTML."""
    folder = files(__package__) / "web"

    def read(name: str) -> str:
        return (folder / name).read_text(encoding="utf-8").rstrip()

    filling = {
        "title": html.escape(title),
        "style": read("page.css"),
        "script": "\n\n".join(read(name) for name in _SCRIPTS),
        "trace": _as_json(contents),
        "arrays": "\n".join(
            f'<script type="text/plain" id="{name}">{text}</script>' for name, text in packer.encoded.items()
        ),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: filling[found[1]], read("page.html"))
