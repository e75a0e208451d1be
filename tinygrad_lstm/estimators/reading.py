"""Sequences and targets as users have them, checked and as arrays."""

import math
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import is_string, is_time

from ..data.checking import check_finite, check_shapes, in_sequences, narrowed
from ..data.rounding import check_variation
from ..io.errors import naming_file
from ..printable import printable
from .scikit_learn import conversion_warning

__all__ = ["groups_of", "labels_of", "listed", "numbers_of", "sequences_of"]


def sequences_of(caller: str, X: Any, learns: bool) -> tuple[list[HostArray], int | None]:
    """The sequences in X, and the number of columns if X is a table, (N, T), whose rows are sequences of one feature.

    Args:
        X: a list of arrays (T_b, F) or (T_b,), an array (N, T, F), or a table (N, T).
        learns: whether a network is to learn from them, which needs features that vary, also in float32.

    Returns:
        Arrays (T_b, F) of float32.

    Raises:
        TypeError: X is sparse, or holds objects that are not numbers.
        ValueError: there is no sequence; one is empty, has a different number of features, or holds NaN or infinity; or
            float32 would round away the variation of a feature.
    """
    if hasattr(X, "toarray"):
        raise TypeError(f"{caller}: X is sparse; expected sequences, such as those of X.toarray()")
    arrays = [np.asarray(sequence) for sequence in X] if _is_list_of_arrays(X) else _rows_of(caller, X)
    if not arrays:
        raise ValueError(f"{caller}: X has no sequences; expected at least one")
    is_table = not _is_list_of_arrays(X) and all(array.shape == (arrays[0].size,) for array in arrays)
    columns = len(arrays[0]) if is_table else None
    if columns == 0:
        raise ValueError(f"{caller}: X has 0 feature(s) (shape=({len(arrays)}, 0)) while a minimum of 1 is required.")
    with naming_file(caller):
        floats = [_as_floats(caller, f"row {row} of X", array) for row, array in enumerate(arrays)]
        sequences = [array[:, None] if array.ndim == 1 else array for array in floats]
        check_shapes(sequences, "row {} of X".format)
        for row, sequence in enumerate(sequences):
            check_finite(sequence, partial(_place_in_table, row) if is_table else in_sequences(f"row {row} of X"))
        if learns:
            wide = (array[:, None] if array.ndim == 1 else array for array in arrays)
            check_variation(wide, (lambda _: "X") if is_table else "feature {} of X".format)
    return sequences, columns


def _is_list_of_arrays(X: Any) -> bool:
    return isinstance(X, list | tuple) and bool(X) and all(hasattr(sequence, "__array__") for sequence in X)


def _rows_of(caller: str, X: Any) -> list[HostArray]:
    """The rows of an array, of what can be made one, or of a list of lists of different lengths."""
    if isinstance(X, list | tuple):
        return [np.asarray(row) for row in X]
    array = np.asarray(X)
    if np.iscomplexobj(array):
        raise ValueError(f"{caller}: Complex data not supported, X is {array.dtype}; expected real numbers")
    if array.dtype == object and array.ndim == 1:
        return [np.asarray(row) for row in array]
    if array.ndim not in (2, 3):
        found = f"has shape {array.shape}" if array.ndim else f"is of type {type(X).__name__}"
        raise ValueError(
            f"{caller}: X {found}; expected a list of arrays (T, F), an array (N, T, F) or a 2-D table "
            "(N, T). Reshape your data: X.reshape(-1, 1) if each number is a sequence, X.reshape(1, -1) if it is one"
        )
    return list(array)


def _as_floats(caller: str, what: str, array: HostArray) -> HostArray:
    """The array as float32.

    Raises:
        TypeError: it holds objects that are not numbers.
        ValueError: it is complex, or holds strings that are not numbers.
    """
    if np.iscomplexobj(array):
        raise ValueError(f"{caller}: Complex data not supported, {what} is {array.dtype}; expected real numbers")
    if is_time(array.dtype):
        raise ValueError(f"{caller}: {what} has dates or times ({array.dtype}); expected numbers")
    try:
        return narrowed(array)
    except TypeError as error:
        raise TypeError(f"{caller}: {what}: {error}") from error
    except ValueError as error:
        raise ValueError(f"{caller}: {what} has something that is not a number ({printable(str(error))})") from error


def _place_in_table(row: int, step: int, feature: int) -> str:
    return f"row {row} of X, column {step}"


def column_of(caller: str, y: Any, rows: int) -> HostArray:
    """The targets as an array (N,).

    Raises:
        ValueError: there is none, there are several for each row, or a different number of them.
    """
    if y is None:
        raise ValueError(f"{caller}: requires y to be passed, but the target y is None")
    array = np.asarray(y)
    if np.iscomplexobj(array):
        raise ValueError(f"{caller}: Complex data not supported, y is {array.dtype}; expected labels or real numbers")
    if array.ndim == 2 and array.shape[1] == 1:
        message = "A column-vector y was passed when a 1d array was expected; give y.ravel()"
        warnings.warn(message, conversion_warning(), stacklevel=4)
        array = array[:, 0]
    if array.ndim != 1:
        raise ValueError(f"{caller}: y has shape {array.shape}; expected ({rows},), one target for each sequence")
    if len(array) != rows:
        raise ValueError(f"{caller}: y has {len(array)} targets, X {rows} sequences; expected one for each")
    return array


def labels_of(caller: str, y: Any, rows: int) -> HostArray:
    """The classes of sequences: integers, strings or booleans.

    Raises:
        ValueError: a label is missing, is a number with a fraction, or is something else; they are of different types;
            and as `column_of`.
    """
    labels = column_of(caller, y, rows)
    # NumPy makes strings of all elements of a list with strings: numbers, and also the NaN of a missing label.
    given = y if isinstance(y, list | tuple) and is_string(labels.dtype) and np.ndim(y) == 1 else labels.tolist()
    for row, label in enumerate(given):
        if label is None or (isinstance(label, float) and not math.isfinite(label)):
            raise ValueError(f"{caller}: y has {label} in row {row}; expected a label")
        if isinstance(label, float) and not label.is_integer():
            raise ValueError(
                f"{caller}: Unknown label type: continuous, y has {label} in row {row}; expected classes, or use a "
                "SequenceRegressor"
            )
        if not isinstance(label, bool | int | float | str):
            raise ValueError(
                f"{caller}: y has the label {printable(f'{label!r:.100}')} in row {row}, of type "
                f"{type(label).__name__}; expected an integer, a string or a boolean"
            )
    kinds = sorted({"str" if isinstance(label, str) else type(label).__name__ for label in given})
    if len(kinds) > 1:
        raise ValueError(f"{caller}: y has labels of the types {', '.join(kinds)}; expected one type")
    return labels


def numbers_of(caller: str, y: Any, rows: int) -> HostArray:
    """The numbers to predict, as float64. They must be in the range of float32, which predictions have.

    Raises:
        TypeError, ValueError: one is not a finite number; and as `column_of`.
    """
    column = column_of(caller, y, rows)
    narrow = _as_floats(caller, "y", column)
    with naming_file(caller):
        check_finite(narrow[:, None], lambda row, _: f"row {row} of y")
    return column.astype(np.float64)


def groups_of(caller: str, groups: Any, rows: int) -> HostArray:
    """The number of each sequence's group, (N,), from the groups' names.

    Raises:
        ValueError: a group is missing, or there is a different number of them.
    """
    array = np.asarray(groups)
    if array.shape != (rows,):
        raise ValueError(f"{caller}: groups has shape {array.shape}; expected ({rows},), the group of each sequence")
    numbers: dict[Any, int] = {}
    for row, name in enumerate(array.tolist()):
        if name is None or name != name:
            raise ValueError(f"{caller}: groups has {name} in row {row}; expected the name or number of a group")
        numbers.setdefault(name, len(numbers))
    return np.array([numbers[name] for name in array.tolist()], np.int64)


def listed(values: Sequence[Any], limit: int = 10) -> str:
    """The first values, for messages."""
    return ", ".join(printable(repr(value)) for value in values[:limit]) + ", ..." * (len(values) > limit)
