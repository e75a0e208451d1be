"""Checkpoints: all that a training run needs to continue, in one safetensors file."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import HostArray

from ..printable import printable
from .atomic import write_atomically
from .safetensors_file import encode_safetensors, read_metadata, read_safetensors

__all__ = ["encode", "is_checkpoint", "load", "save"]

FORMAT = "tinygrad_lstm.checkpoint"
VERSION = 5
"""Must be increased with each change of the contents of `train.Checkpoint` or `train.TrainingOptions`."""
ARRAY = "$array"

# The number of lists and dicts allowed for each tensor, and in addition: each takes 20 times as much memory as in the
# file.
CONTAINERS_A_TENSOR, CONTAINERS_ALLOWED = 10, 10_000
DEEPEST = 100  # nested more deeply, JSON would end the process where the stack is small, as in WebAssembly
BRACKET = re.compile(r"[\[\]{}]")
STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"')


def save(path: str | Path, contents: dict[str, Any]) -> None:
    """Writes a checkpoint, atomically.

    Args:
        path: the file; an existing one is replaced, or unchanged if writing fails.
        contents: as for `encode`.

    Raises:
        OSError: the file cannot be written.
        TypeError, ValueError: `contents` cannot be stored; see `encode`.
    """
    write_atomically(path, encode(contents))


def encode(contents: dict[str, Any]) -> bytes:
    """The bytes of a checkpoint's file.

    The arrays become tensors of a safetensors file, named by their paths ("weights/output.bias"); everything else is
    JSON in its metadata. It contains no pickle, so reading it runs no code.

    Args:
        contents: dicts, with strings as keys, and lists, of NumPy arrays, numbers, strings, booleans and None.

    Raises:
        TypeError: `contents` holds something else.
        ValueError: it could not be read again: two arrays have one path, a dict's only key is "$array", an array's
            type or name is not supported, or lists and dicts are nested more than 100 deep.
    """
    tensors: dict[str, HostArray] = {}
    rest = json.dumps(_without_arrays(contents, "", tensors))
    _check_depth(STRING.sub("", rest))
    return encode_safetensors(tensors, {"format": FORMAT, "version": str(VERSION), "contents": rest})


def is_checkpoint(path: str | Path) -> bool:
    """Whether a safetensors file is a checkpoint, of any version. Raises the errors of `read_safetensors`."""
    return read_metadata(path).get("format") == FORMAT


def load(path: str | Path) -> dict[str, Any]:
    """The contents of a checkpoint, as they were saved.

    Raises:
        OSError: the file is not there or cannot be read.
        ValueError: the file is truncated, is not a checkpoint, or is of a different version.
    """
    tensors, header, _ = read_safetensors(path)
    if header.get("format") != FORMAT:
        raise ValueError(f"{path}: a safetensors file, but not a checkpoint of tinygrad_lstm")
    _check_version(path, header.get("version", "none"))
    try:
        _check_containers(header["contents"], CONTAINERS_A_TENSOR * len(tensors) + CONTAINERS_ALLOWED)
        contents = _with_arrays(json.loads(header["contents"]), tensors)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: a checkpoint whose contents cannot be read ({error!r:.200})") from error
    if not isinstance(contents, dict):
        raise ValueError(f"{path}: a checkpoint whose contents are a {type(contents).__name__}; expected a dict")
    return contents


def _check_version(path: str | Path, version: str) -> None:
    if version == str(VERSION):
        return
    said = f"a checkpoint of version {printable(version[:100])}"
    if re.fullmatch("[0-9]{1,9}", version):
        age = "an older" if int(version) < VERSION else "a newer"
        said = f"a checkpoint of {age} tinygrad_lstm (version {version})"
    raise ValueError(f"{path}: {said}; this release reads version {VERSION} only: train the model again")


def _check_containers(text: str, allowed: int) -> None:
    without_strings = STRING.sub("", text)
    if sum(map(without_strings.count, "[{")) > allowed or sum(map(without_strings.count, "]}")) > allowed:
        raise ValueError("more lists and dicts than a checkpoint of so many arrays has")
    _check_depth(without_strings)


def _check_depth(without_strings: str) -> None:
    depth = 0
    for bracket in BRACKET.finditer(without_strings):
        depth += 1 if bracket[0] in "[{" else -1
        if depth > DEEPEST:
            raise ValueError(f"checkpoint: lists and dicts are nested more than {DEEPEST} deep")


def _without_arrays(value: Any, place: str, tensors: dict[str, HostArray]) -> Any:
    """`value` with a reference in place of each array, which is added to `tensors`."""
    if isinstance(value, np.ndarray):
        if place in tensors:
            raise ValueError(
                f"checkpoint: two arrays stand at {place!r}; keys with a slash in them name one as another"
            )
        tensors[place] = value
        return {ARRAY: place}
    if isinstance(value, list | tuple):
        return [_without_arrays(part, _below(place, k), tensors) for k, part in enumerate(value)]
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"checkpoint: expected strings as keys, got {key!r} in {place or 'the contents'}")
        if value.keys() == {ARRAY}:
            raise ValueError(f"checkpoint: {place or 'the contents'} would be read as an array; rename {ARRAY!r}")
        return {key: _without_arrays(part, _below(place, key), tensors) for key, part in value.items()}
    if value is not None and type(value) not in (bool, int, float, str):
        raise TypeError(f"checkpoint: cannot store {place}, a {type(value).__name__}")
    return value


def _with_arrays(value: Any, tensors: dict[str, HostArray]) -> Any:
    if isinstance(value, list):
        return [_with_arrays(part, tensors) for part in value]
    if isinstance(value, dict):
        if value.keys() == {ARRAY}:
            return tensors.pop(value[ARRAY])  # once, so that the result is not larger than the file
        return {key: _with_arrays(part, tensors) for key, part in value.items()}
    return value


def _below(place: str, key: str | int) -> str:
    return f"{place}/{key}" if place else str(key)
