"""The inputs of a model: the options for them, and the arrays of files in the shapes and dtypes that the model has."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Annotated, TypeAlias

import numpy as np
import typer

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import is_bool, is_float, is_integer

from ..io.errors import shown
from ..io.models.names import is_batch
from ..io.models.ports import Port
from ..printable import printable
from .arrays import FileArray, read_arrays
from .models import WholeModel
from .shared import path_option, require

__all__ = ["Channel", "Inputs", "fitted", "given_inputs", "inputs_of"]

Inputs: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        help="A file for an input: .npy, .npz, .csv or .wav; may be repeated. Without a name, for the first input "
        "that has none.",
        metavar="[NAME=]PATH",
    ),
]
Channel: TypeAlias = Annotated[
    int | None, typer.Option(help="The channel of .wav files to take, from 0.  [default: all]")
]

RATES = {"sr", "rate", "samplerate", "samplingrate", "fs"}
"""The names of inputs for the number of samples a second, in lower case and without "_"."""


def inputs_of(model: WholeModel, options: Sequence[str], channel: int | None) -> dict[str, FileArray]:
    """The inputs of a model by name, as --input and --channel give them. States come after the others.

    Raises:
        OSError, ValueError: a file cannot be read; as `given_inputs`.
    """
    free = [port.name for port in model.inputs if port.name not in model.states]
    return given_inputs(model.inputs, [*free, *model.states], [_input(each, model, channel) for each in options])


def _input(given: str, model: WholeModel, channel: int | None) -> tuple[str | None, Mapping[str, FileArray]]:
    """The name of an input, if one is given, and the arrays of its file."""
    name, equals, path = given.partition("=")
    if equals and name in [port.name for port in model.inputs]:
        return name, read_arrays(path_option("--input", path), channel)
    if equals and not Path(given).exists():
        names = ", ".join(printable(port.name) for port in model.inputs)
        require("--input", False, f"PATH or NAME=PATH with one of the inputs {names}", repr(given))
    return None, read_arrays(path_option("--input", given), channel)


def given_inputs(
    ports: Sequence[Port], names: Sequence[str], given: Sequence[tuple[str | None, Mapping[str, FileArray]]]
) -> dict[str, FileArray]:
    """The inputs of a model by name, from files, in the shapes and dtypes that they have.

    Args:
        ports: the inputs.
        names: the inputs that files without names are for, in order.
        given: the arrays of each file with the name of the input, or None. Arrays that have names in a file are for the
            inputs of these names, if they all are inputs.

    Raises:
        ValueError: a file has several arrays and they have different names; an input is unknown or given twice; an
            array does not fit.
    """
    by_name = {port.name: port for port in ports}
    pairs: list[tuple[str | None, FileArray]] = []
    for name, arrays in given:
        if name is None and all(each in by_name for each in arrays):
            pairs += arrays.items()
        elif len(arrays) == 1:
            pairs += [(name, each) for each in arrays.values()]
        else:
            raise ValueError(f"--input: a file has the arrays {_listed(arrays)}, and the inputs are {_listed(by_name)}")
    named = [name for name, _ in pairs if name is not None]
    if twice := [name for name in named if named.count(name) > 1]:
        raise ValueError(f"--input: the input {shown(twice[0])} is given twice")
    left = [name for name in names if name not in named]
    if len(pairs) - len(named) > len(left):
        raise ValueError(f"--input: {len(pairs)} files, and the inputs are {_listed(by_name)}")
    following = iter(left)
    found = {next(following) if name is None else name: each for name, each in pairs}
    for name, each in found.items():
        _check_channels(by_name[name], each)
    inputs = {name: replace(each, array=fitted(by_name[name], each.array)) for name, each in found.items()}
    rates = {each.rate for each in found.values() if each.rate is not None}
    for port in ports:
        is_rate = port.name.lower().replace("_", "") in RATES and not port.is_float
        if is_rate and port.name not in found and len(rates) == 1:
            inputs[port.name] = FileArray(fitted(port, np.array(rates.pop())))
    return inputs


def _check_channels(port: Port, each: FileArray) -> None:
    """Raises ValueError if the steps and channels of a sound would be taken for a batch of sequences."""
    lengths = port.shape or ()
    if each.rate is not None and each.array.ndim == len(lengths) == 2 and any(map(_is_batch, lengths)):
        channels = each.array.shape[1]
        raise ValueError(
            f"--input: expected {printable(str(port))}, got a sound of {channels} channels; take one with --channel"
        )


def _is_batch(length: int | str) -> bool:
    return isinstance(length, str) and is_batch(length)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(shown, names))


def fitted(port: Port, array: HostArray) -> HostArray:
    """An array of the shape and dtype of an input.

    Dimensions of length 1 are added where the input has the batch, a free length or 1. Floats are rounded to the
    input's dtype, or to float32 if the file of the model has none; other conversions are exact.

    Raises:
        ValueError: the shape or the numbers do not fit.
    """
    if not (is_float(array.dtype) or is_integer(array.dtype) or is_bool(array.dtype)):
        raise ValueError(f"--input: expected numbers for {printable(str(port))}, got {array.dtype}")
    return _converted(port, _with_dimensions(port, array))


def _with_dimensions(port: Port, array: HostArray) -> HostArray:
    if port.shape is None or len(port.shape) == array.ndim:
        return array
    ways: dict[tuple[int, ...], int] = {}
    for added in combinations(range(len(port.shape)), max(len(port.shape) - array.ndim, 0)):
        kept = [length for k, length in enumerate(port.shape) if k not in added]
        new = [port.shape[k] for k in added]
        fits = len(kept) == array.ndim and all(isinstance(n, str) or n == m for n, m in zip(kept, array.shape))
        if fits and all(isinstance(n, str) or n == 1 for n in new):
            ways[added] = sum(isinstance(n, str) and not _is_batch(n) for n in new)
    best = [added for added, others in ways.items() if others == min(ways.values())]
    if len(best) == 1:
        return np.expand_dims(array, best[0])
    expected = f"--input: expected {printable(str(port))}, got shape {array.shape}"
    if best:
        shapes = " or ".join(str(np.expand_dims(array, added).shape) for added in best)
        named = ["batch" if k in best[0] else "time" if isinstance(n, str) else n for k, n in enumerate(port.shape)]
        hint = f"--shape {port.name}={','.join(map(str, named))}"
        raise ValueError(f"{expected}; it could be {shapes}: say which, as in {printable(hint)}")
    raise ValueError(expected)


def _converted(port: Port, array: HostArray) -> HostArray:
    dtype = port.dtype or ("float32" if is_float(array.dtype) else str(array.dtype))
    with np.errstate(over="ignore", invalid="ignore"):
        converted = array.astype(dtype)
    rounds = port.is_float and is_float(array.dtype)
    same = np.isfinite(converted) == np.isfinite(array) if rounds else converted == array
    if not same.all():
        odd = array[~same].flat[0]
        raise ValueError(f"--input: expected {dtype} for {printable(port.name)}, and {odd} is not one")
    return converted
