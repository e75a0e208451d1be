"""Models of files, run as streams: chunk by chunk."""

import time
from collections.abc import Mapping
from statistics import median
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import HostArray

from ..device import get_device
from ..io.models.loaded import Loaded
from ..io.models.names import is_batch
from ..io.models.ports import UnknownShapeError
from ..printable import printable
from .models import WholeModel, shape_advice
from .shared import require, with_notes

__all__ = ["streamed", "streams"]

FURTHEST = 1_000_000
"""The steps by which a model may look ahead."""


def streams(model: WholeModel) -> str:
    """How a model streams, or why it does not, in a line."""
    module: Any = model.module
    try:
        stream = module.stream(lookahead=FURTHEST) if isinstance(module, Loaded) else module.stream()
    except UnknownShapeError as error:
        return f"not known: {shape_advice(error)}"
    except (ValueError, TypeError, LookupError) as error:
        return f"no: {with_notes(error).removeprefix('stream: ')}"
    lookahead = getattr(stream, "lookahead", 0)
    given = f"lookahead={lookahead}" if lookahead else ""
    how = "step by step" if getattr(stream, "is_by_step", True) else "in chunks: outputs do not come at every step"
    return f"by model.stream({given}), {how}"


def streamed(model: WholeModel, given: Mapping[str, HostArray], steps: int) -> dict[str, HostArray]:
    """The outputs of a model that takes its inputs in chunks of some steps. Prints how long a chunk takes.

    Outputs without steps are those after the last chunk. A character model has only its first output.

    Raises:
        ValueError: the model cannot be streamed, or inputs are missing or do not fit.
    """
    require("--stream", steps >= 1, "at least 1", steps)
    named = {model.parameters[name]: array for name, array in given.items()}
    with model.running(given):
        stream, times, outputs = _stream(model, named)
        whole = {name: array for name, array in named.items() if name in times}
        numbers = {name: array.shape[times[name]] for name, array in whole.items()}
        T, *others = set(numbers.values())
        if others:
            told = ", ".join(f"{printable(name)} {number}" for name, number in numbers.items())
            raise ValueError(f"--input: expected as many steps of each input, got {told}")
        device = next((each.device for each in model.module.parameters()), get_device())
        seconds, parts = [], []
        for begin in range(0, T, steps):
            chunk = {
                name: device.backend.from_host(array.take(range(begin, min(begin + steps, T)), times[name]))
                for name, array in whole.items()
            }
            started = time.perf_counter()
            parts.append(_by_name(stream(*chunk.values()), outputs))
            seconds.append(time.perf_counter() - started)
        if hasattr(stream, "finish"):
            parts.append(_by_name(stream.finish(), outputs))
    print(f"{len(seconds):,} chunks of {steps:,} steps; a chunk takes {1000 * median(seconds):.3g} ms")
    found = {name: [device.backend.to_host(part[name]) for part in parts] for name in outputs}
    return {name: found[name][-1] if dim is None else np.concatenate(found[name], dim) for name, dim in outputs.items()}


def _stream(model: WholeModel, named: Mapping[str, HostArray]) -> tuple[Any, Mapping[str, int], dict[str, int | None]]:
    """The stream, the time dimensions of the inputs, and those of the outputs by the names of the file."""
    module: Any = model.module
    ports = {model.parameters[port.name]: port for port in model.inputs}
    batches = [
        n
        for name, array in named.items()
        for length, n in zip(ports[name].shape or (), array.shape, strict=False)
        if isinstance(length, str) and is_batch(length)
    ]
    batch = batches[0] if batches else 1
    if not isinstance(module, Loaded):
        (first, *states) = named
        require("--stream", not states, "no states, which start from zeros", ", ".join(states))
        return module.stream(batch), {first: 0}, {model.outputs[0]: 0}
    stream = module.stream(batch, lookahead=FURTHEST)
    if fixed := {name: array for name, array in named.items() if name not in stream.input_times}:
        stream = module.stream(batch, fixed=fixed, lookahead=FURTHEST)
    outputs = dict(zip(model.outputs, stream.output_times.values(), strict=True))
    return stream, stream.input_times, outputs


def _by_name(outputs: Any, names: Mapping[str, Any]) -> dict[str, Any]:
    return dict(zip(names, outputs if isinstance(outputs, tuple) else (outputs,), strict=True))
