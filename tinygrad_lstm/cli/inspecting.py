"""Traces of models from files, of arrays: what `inspect` shows with --input."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tinygrad_lstm.backends.dtypes import is_float
from tinygrad_lstm.models import CharLM

from .._tensor import Tensor
from ..inspect import Trace, trace
from ..train import TextCheckpoint
from .arrays import FileArray
from .models import WholeModel

__all__ = ["Inspected", "of_inputs"]


@dataclass(frozen=True)
class Inspected:
    """A trace, and what a page says of it.

    Attributes:
        trace: the trace.
        loss_is: what the loss is, in words.
        vocabulary: the string of each id.
        predictions: whether the output predicts the next id.
        names: the names of the columns of inputs.
        text: the text that the model read.
    """

    trace: Trace
    loss_is: str = ""
    vocabulary: Sequence[str] | None = None
    predictions: bool = True
    names: Mapping[str, Sequence[str]] | None = None
    text: str | None = None


def of_inputs(
    file: str, model: WholeModel, given: Mapping[str, FileArray], vocabulary: Sequence[str] | None, of_all: bool
) -> Inspected:
    """A trace of any model.

    The loss is the sum of the first output of floats: at the last step, or if `of_all`, at all steps.
    """
    arguments = _arguments(model, given)
    with model.running(given):
        steps = trace(model.module, *arguments)[0].shape[:2]
    said: list[str] = []

    def loss(outputs: Any) -> Tensor:
        named = zip(model.outputs, outputs if hasattr(outputs, "_fields") else (outputs,))
        floats = [(name, out) for name, out in named if isinstance(out, Tensor) and is_float(out.dtype)]
        if not floats:
            raise ValueError(f"{file}: none of its outputs has floats, so nothing has a gradient")
        name, out = next(((name, out) for name, out in floats if name not in model.states.values()), floats[0])
        last = None if of_all else _at_last_step(out, *steps)
        said.append(f"the sum of {name}" if last is None else f"the sum of {name} at the last step")
        return (out if last is None else last).sum()

    traced = trace(model.module, *arguments, loss=loss)
    layers = "1 layer" if len(traced) == 1 else f"{len(traced)} layers"
    print(f"a trace of {layers} takes {traced.nbytes / 1e6:,.1f} MB", flush=True)
    if vocabulary is None and isinstance(model.module, CharLM):
        vocabulary = TextCheckpoint.load(file).vocabulary.characters
    names = {model.parameters[name]: each.columns for name, each in given.items() if _are_columns(each)}
    output = traced.output
    predicts = output is not None and output.shape == (*traced.inputs.shape, len(vocabulary or ()))
    return Inspected(traced, said[0], vocabulary, predicts, names)


def _are_columns(given: FileArray) -> bool:
    return bool(given.columns) and given.array.shape[-1:] == (len(given.columns),)


def _arguments(model: WholeModel, given: Mapping[str, FileArray]) -> list[Any]:
    arrays = {name: each.array for name, each in given.items()}
    if not isinstance(model.module, CharLM):
        return [arrays.get(port.name) for port in model.inputs]
    inputs = [arrays[port.name] for port in model.inputs if port.name not in model.states]
    states = tuple(arrays[name] for name in model.states if name in arrays)
    return [*inputs, states] if states else inputs


def _at_last_step(out: Tensor, T: int, B: int) -> Tensor | None:
    """The last step of an output (T, B, ...), (B, T, ...) or (B, ..., T); None if it has no dimension of time."""
    if out.shape[:2] == (T, B):
        return out[-1]
    if out.shape[:2] == (B, T):
        return out[:, -1]
    return out[..., -1] if out.ndim > 1 and (out.shape[0], out.shape[-1]) == (B, T) else None
