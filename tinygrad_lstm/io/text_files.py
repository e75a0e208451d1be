"""Arrays in files of text: JSON, and tables of numbers as of `numpy.savetxt` and pandas.

Text has no dtypes: as in `tg.tensor`, numbers are float32.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import HostArray

from ..files import read_file
from .contents import Weights
from .errors import ContentError, naming_file, shown
from .formats import NPY_SUFFIX
from .tables import parse_table

__all__ = ["read_folder", "read_json", "read_table"]

DEEPEST = 100
LONGEST_NAMES = 100  # bytes of names for each byte of the file

TOO_LARGE = "a number in it is too large for float32"

# Objects of JSON that are one array: the keys of its sizes and of its numbers.
_FLAT = ((("shape",), ("data", "values", "weights")), (("rows", "columns"), ("weights", "data", "values")))


def read_json(path: Path) -> Weights:
    """The arrays of a JSON file: lists of numbers, of equally long lists of numbers, and so on.

    Their names are the keys and indices that lead to them, joined by dots. An object with a shape and flat numbers,
    such as `{"shape": [2, 3], "data": [...]}` or `{"rows": 2, "columns": 3, "weights": [...]}`, is one array, as is one
    with the keys "0", "1", ..., which JavaScript writes for a typed array. Strings and single numbers are skipped.

    Raises:
        OSError: the file is not there or cannot be read.
        ValueError: the file is not JSON, an object has a key twice, or there are no arrays.
    """
    content = read_file(path)
    with naming_file(path):
        try:
            root = json.loads(content.decode("utf-8-sig"), object_pairs_hook=_object)
        except ContentError:
            raise
        except (ValueError, RecursionError) as error:
            raise ContentError(f"not a JSON file: {shown(str(error))}") from error
        return Weights(_named_arrays(root, path.stem, len(content)))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, from its keys and values."""
    found = dict(pairs)
    if len(found) < len(pairs):
        ((key, number),) = Counter(key for key, _ in pairs).most_common(1)
        raise ContentError(f"an object in it has the key {shown(key)} {number} times; expected different keys")
    return found


def _named_arrays(root: Any, name: str, size: int) -> dict[str, HostArray]:
    found: dict[str, HostArray] = {}
    room = LONGEST_NAMES * size + 2**16
    walk: list[tuple[list[str], Any]] = [([], root)]
    while walk:
        keys, value = walk.pop()
        if len(keys) > DEEPEST:
            raise ContentError(f"its lists and objects are nested more than {DEEPEST} deep")
        array = _array_of(value)
        if array is not None:
            own = ".".join(keys) or name
            room -= len(own) + 100
            if own in found or room < 0:
                raise ContentError(
                    f"two arrays have the name {shown(own)}" if own in found else "its names are too long"
                )
            found[own] = array
        elif isinstance(value, dict):
            walk += [([*keys, key], each) for key, each in reversed(value.items()) if isinstance(each, dict | list)]
        elif isinstance(value, list):
            pairs = [(str(k), each) for k, each in enumerate(value) if isinstance(each, dict | list)]
            walk += [([*keys, key], each) for key, each in reversed(pairs)]
    if not found:
        raise ContentError("it has no arrays: no list of numbers")
    return found


def _array_of(value: Any) -> HostArray | None:
    """The array of a value of JSON; None if it is not one."""
    if isinstance(value, dict):
        return _flat_array(value)
    if not isinstance(value, list) or not value or not isinstance(_first(value), int | float):
        return None
    shape: list[int] = []
    level = value
    while isinstance(level[0], list):
        shape.append(len(level))
        if not level[0] or not all(isinstance(each, list) and len(each) == len(level[0]) for each in level):
            return None
        level = [item for each in level for item in each]
        if len(shape) > 30:
            return None
    return _numbers(level, (*shape, len(level) // max(math.prod(shape), 1)))


def _first(value: Any) -> Any:
    for _ in range(DEEPEST):
        if not isinstance(value, list) or not value:
            break
        value = value[0]
    return value


def _numbers(values: list[Any], shape: tuple[int, ...]) -> HostArray | None:
    if not all(isinstance(each, int | float) for each in values):
        return None
    try:
        wide = np.array(values, np.float64)
    except OverflowError as error:
        raise ContentError(TOO_LARGE) from error
    return _narrowed(wide).reshape(shape)


def _narrowed(wide: HostArray) -> HostArray:
    """Numbers as float32.

    Raises:
        ContentError: one is too large.
    """
    with np.errstate(over="ignore"):
        array: HostArray = wide.astype(np.float32)
    if (np.isinf(array) & ~np.isinf(wide)).any():
        raise ContentError(TOO_LARGE)
    return array


def _flat_array(value: Mapping[str, Any]) -> HostArray | None:
    for sizes, contents in _FLAT:
        if all(key in value for key in sizes):
            given = value["shape"] if sizes == ("shape",) else [value[key] for key in sizes]
            flat = next((value[key] for key in contents if isinstance(value.get(key), list | dict)), None)
            flat = _array_of(flat) if flat is not None else None
            if flat is not None and isinstance(given, list) and all(type(size) is int and size >= 0 for size in given):
                if len(given) > 30 or math.prod(given) != flat.size:
                    raise ContentError(f"an array of shape {tuple(given)!s:.100} has {flat.size} numbers")
                return flat.reshape(given)
    is_typed_array = bool(value) and list(value) == [str(number) for number in range(len(value))]
    return _numbers(list(value.values()), (len(value),)) if is_typed_array else None


def read_table(path: Path) -> Weights:
    """The array of a table of numbers, which has the file's name without its ending.

    Between numbers are tabs, semicolons, commas or white space, as `numpy.savetxt` and pandas write them; lines that
    begin with # are skipped. A first row of names, and a first column without a name, are left out, as are the row
    0, 1, 2, ... and the column that pandas writes by default. One row or one column is a vector.

    Raises:
        OSError: the file is not there or cannot be read.
        ValueError: the rows differ in length, or a cell is not a number.
    """
    return Weights({path.stem: _table(path)})


def _table(path: Path) -> HostArray:
    content = read_file(path)
    with naming_file(path):
        try:
            table = parse_table(content, _index, by_spaces=True)
        except UnicodeDecodeError as error:
            raise ContentError("not a table: it is not UTF-8") from error
        numbers = table.numbers
        counted = np.array_equal(numbers[0], np.arange(numbers.shape[1])) and table.integers[0] and numbers.shape[1] > 1
        if counted and not table.columns and len(numbers) > 1 and not table.integers[1]:
            numbers = numbers[1:]
        if not numbers.size:
            raise ContentError("it has no numbers")
        array = _narrowed(numbers)
        return array.ravel() if 1 in array.shape else array


def _index(columns: tuple[str, ...]) -> tuple[str, ...]:
    """A first column without a name, which is not of numbers to use."""
    return columns[:1] if len(columns) > 1 and not columns[0] else ()


def read_folder(path: Path) -> Weights:
    """The arrays of a folder of .npy files and tables, each with its file's name without the ending.

    Raises:
        OSError: a file cannot be read.
        ValueError: a file is damaged, or two arrays have one name.
    """
    from .npz_file import read_npy

    found: dict[str, HostArray] = {}
    for each in sorted(path.iterdir()):
        if each.name.startswith("."):
            continue
        if each.stem in found:
            raise ValueError(f"{path}: two files are called {shown(each.stem)}")
        found[each.stem] = read_npy(each) if each.name.endswith(NPY_SUFFIX) else _table(each)
    return Weights(found)
