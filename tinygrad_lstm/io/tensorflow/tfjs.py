"""Models of TensorFlow.js: a `model.json`, and files with the bytes of the weights beside it.

Reference: https://github.com/tensorflow/tfjs/blob/master/tfjs-core/src/io/types.ts
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import is_float

from ...files import open_file, read_file
from ..archive import OUTSIDE
from ..atomic import naming_errors
from ..contents import Weights
from ..dtypes import array_dtype, elements, item_size, shaped
from ..errors import ContentError, naming_file, shown
from ..formats import TFJS_MODEL
from .layers import recurrent_layers

__all__ = ["read_model_json", "read_tfjs"]

TYPES = {"float32", "float16", "int32", "int16", "int8", "uint8", "uint16", "bool", "complex64"}
STRING = "string"  # each begins with its length, in four bytes
SCALED = {"uint8", "uint16"}  # weights that are `value * scale + min`
MOST_DIMENSIONS = 32
MOST_NAMED = 20  # the most files in one message


def read_tfjs(path: Path) -> Weights:
    """The arrays of a model of TensorFlow.js by name. Quantized weights become float32; strings are skipped.

    Raises:
        OSError: a file is not there or cannot be read.
        ValueError: files of weights are missing (one error names all), or files are damaged, or hostile.
    """
    return read_model_json(path)[1]


def read_model_json(path: Path) -> tuple[dict[str, Any], Weights]:
    """The content of a `model.json`, and its arrays.

    Args:
        path: the file, or its folder.

    Raises:
        OSError, ValueError: as `read_tfjs`.
    """
    path = path / TFJS_MODEL if path.is_dir() else path
    with naming_file(path):
        try:
            model = json.loads(read_file(path))
        except (ValueError, RecursionError) as error:
            raise ContentError(f"the JSON cannot be read ({error})") from error
        if not isinstance(model, dict):
            raise ContentError("not a model of TensorFlow.js: the JSON is not an object")
        groups = [_checked(group, dict, "the weights' manifest") for group in _list(model, "weightsManifest")]
        paths = [[_beside(path, name) for name in _list(group, "paths")] for group in groups]
        if missing := [each.name for group in paths for each in group if not each.exists()]:
            raise ContentError(f"missing are the files {', '.join(map(shown, missing[:MOST_NAMED]))}")
        if len({each for group in paths for each in group}) < sum(map(len, paths)):
            raise ContentError("a file of weights is named twice")
        arrays: dict[str, HostArray] = {}
        for group, shards in zip(groups, paths, strict=True):
            specs = [_checked(spec, dict, "a weight") for spec in _list(group, "weights")]
            for name, array in _arrays(specs, _joined(shards)):
                if name in arrays:
                    raise ContentError(f"there are two weights {shown(name)}")
                arrays[name] = array
        return model, Weights(arrays, recurrent_layers(arrays, model.get("modelTopology")))


def _checked(value: Any, kind: Any, what: str) -> Any:
    if not isinstance(value, kind):
        raise ContentError(f"{what} is missing or of a wrong type, {shown(str(value))}")
    return value


def _list(value: Mapping[str, Any], key: str) -> list[Any]:
    found: list[Any] = _checked(value.get(key), list, f"{key!r}")
    return found


def _beside(path: Path, name: Any) -> Path:
    """The path of a file of weights, which is in the folder of the `model.json` or below."""
    relative: str = _checked(name, str, "the path of a file of weights")
    if not relative or "\0" in relative or OUTSIDE.search(relative):
        raise ContentError(f"refuses the file {shown(relative)}, which is outside the folder of the model")
    return path.parent / relative


def _joined(paths: Sequence[Path]) -> bytearray:
    """The bytes of several files, one after the other."""
    content = bytearray()
    for path in paths:
        with open_file(path) as file, naming_errors(path):
            content += file.read()
    return content


def _arrays(specs: Sequence[Mapping[str, Any]], content: bytearray) -> Iterator[tuple[str, HostArray]]:
    """The arrays that these bytes contain, in order."""
    at = 0
    view = memoryview(content)
    for spec in specs:
        name = _checked(spec.get("name"), str, "the name of a weight")
        shape = tuple(_list(spec, "shape"))
        if len(shape) > MOST_DIMENSIONS or any(type(length) is not int or length < 0 for length in shape):
            raise ContentError(f"{shown(name)} has an invalid shape")
        number, quantization = math.prod(shape), spec.get("quantization")
        if spec.get("dtype") == STRING:
            at = _after_strings(name, view, at, number)
            continue
        scaling = {} if quantization is None else _checked(quantization, dict, f"the quantization of {shown(name)}")
        stored = scaling.get("dtype", spec.get("dtype"))
        if not isinstance(stored, str) or stored not in TYPES:
            raise ContentError(f"{shown(name)} has the unknown element type {shown(str(stored))}")
        size = number * item_size(stored)
        if size > len(view) - at:
            raise ContentError(f"the files of weights are cut off within {shown(name)}")
        array = shaped(elements(view[at : at + size], stored), shape, shown(name))
        yield name, _dequantized(name, array, scaling, spec) if scaling else array.copy()
        at += size
    if at < len(view):
        raise ContentError(f"the files of weights have {len(view) - at} bytes too many")


def _after_strings(name: str, view: memoryview, at: int, number: int) -> int:
    """Where the next weight begins."""
    if 4 * number > len(view) - at:
        raise ContentError(f"the files of weights are cut off within {shown(name)}")
    for _ in range(number):
        at += 4 + int.from_bytes(view[at : at + 4], "little")
        if at > len(view):
            raise ContentError(f"the files of weights are cut off within {shown(name)}")
    return at


def _dequantized(name: str, array: HostArray, scaling: Mapping[str, Any], spec: Mapping[str, Any]) -> HostArray:
    dtype = _checked(scaling.get("original_dtype", spec.get("dtype")), str, f"the element type of {shown(name)}")
    if dtype not in TYPES:
        raise ContentError(f"{shown(name)} has the unknown element type {shown(dtype)}")
    with np.errstate(all="ignore"):  # a file may have infinities
        if scaling.get("dtype") in SCALED:
            array = array * _number(scaling, "scale", name) + _number(scaling, "min", name)
            if not is_float(array_dtype(dtype)):
                array = array.round()
        return array.astype(dtype)


def _number(scaling: Mapping[str, Any], key: str, name: str) -> float:
    try:
        return float(_checked(scaling.get(key), int | float, f"the {key} of {shown(name)}"))
    except OverflowError as error:
        raise ContentError(f"the {key} of {shown(name)} is too large") from error
