"""Reading labelled sequences from files."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import is_float, is_integer, is_real
from tinygrad_lstm.backends.installing import how_to_install

from ..files import open_file, read_file
from ..io.errors import ContentError, naming_file, shown
from ..io.npz_file import read_npy, read_npz
from ..io.tables import parse_table
from ..io.wav import read_wav
from .checking import check_finite, check_shapes, in_sequences
from .labelled import LabelledSequences, Roles, sequences_of_table
from .rounding import narrowed_if_kept

__all__ = ["is_table", "read_roles", "read_sequences"]

PARQUET = (".parquet", ".pq")


def read_sequences(
    source: str | Path | Mapping[str, Any],
    target: str | None = None,
    id: str | None = None,
    time: str | None = None,
    *,
    features: Sequence[str] | None = None,
    drop: Sequence[str] = (),
    group: str | None = None,
) -> LabelledSequences:
    """Reads sequences, and a target for each, from a table, arrays or sounds.

    - **A table**: a .csv file, a Parquet file (which needs pyarrow), a DataFrame, or a dict of columns. It is *long* if
      `id` or `time` is given: each row is a step, and the columns except `id`, `time`, `target` and `group` are the
      features.
      Otherwise it is *wide*: each row is a sequence of one feature, and empty cells at its end make it shorter.
    - **An .npz file**: an array "x", (N, T, F) or (N, T), with the steps of each sequence in "lengths" if they are not
      all T; or an array (T, F) for each sequence. The targets are the array `target`, by default "y". Beside "x",
      further arrays are refused.
    - **An .npy file**: sequences without targets, (N, T, F) or (N, T).
    - **A folder**: the .wav files in each of its folders, whose names are the targets; or .wav files, without targets.

    Args:
        source: the path of a file or folder, or the columns of a table by name.
        target: the name of the column, or array, of the targets.
        id: the column that says which sequence a row belongs to. Without it, a long table is one sequence.
        time: the column of the times, in whose order the rows of a sequence must be. They are numbers or dates.
        features: the columns of a table that are the features, in this order; by default all others. Further columns
            are ignored, and may have text.
        drop: the columns, or arrays, that are ignored.
        group: the name of the column, or array, of the groups: sequences that belong together, such as those of one
            person. `LabelledSequences.groups` has them.

    Raises:
        OSError: a file is not there or cannot be read.
        ImportError: the file needs a package that is not installed.
        TypeError: the source is neither a path nor columns by name.
        ValueError: a column is missing; a sequence is empty, has NaN or a different width, has several targets or
            groups, or is not in the order of time; or a file is damaged. The message says in which row and column.

    >>> table = {"who": ["a", "a", "b"], "x": [1.0, 2.0, 3.0], "label": ["up", "up", "down"]}
    >>> read = read_sequences(table, target="label", id="who")
    >>> [sequence.tolist() for sequence in read.sequences], read.targets.tolist(), read.names
    ([[[1.0], [2.0]], [[3.0]]], ['up', 'down'], ['a', 'b'])
    """
    return read_roles(source, Roles(target, id, time, features, drop, group))


def is_table(path: Path) -> bool:
    """Whether the file of a path is read as a table."""
    return path.suffix.lower() not in (".npz", ".npy") and not path.is_dir()


def read_roles(source: str | Path | Mapping[str, Any], roles: Roles) -> LabelledSequences:
    """What `read_sequences` returns for columns in these roles. Raises its errors."""
    if not isinstance(source, str | Path):
        if not hasattr(source, "keys"):
            raise TypeError(
                "read_sequences: expected a path, or columns by name such as a dict or DataFrame, got a "
                f"{type(source).__name__}"
            )
        with naming_file("read_sequences"):
            return sequences_of_table(source, roles, lambda row: f"row {row}")
    path = Path(source)
    with naming_file(path):
        if not is_table(path):
            if any(each is not None for each in (roles.id, roles.time, roles.features)):
                raise ContentError("id, time and features are for tables, such as .csv files")
            if path.suffix.lower() == ".npz":
                return _of_npz(path, roles)
            if roles.drop and not roles.lenient:
                raise ContentError("drop is for tables and .npz files")
            if roles.named and not roles.lenient:
                role, name = next(iter(roles.named.items()))
                raise ContentError(f"it has no column {shown(name)}; {role} is for tables and .npz files")
            return _of_folder(path) if path.is_dir() else _of_npy(path)
        if path.suffix.lower() in PARQUET:
            return sequences_of_table(_parquet(path), roles, lambda row: f"row {row}")
        return _of_csv(path, roles)


def _of_csv(path: Path, roles: Roles) -> LabelledSequences:
    def strings(columns: tuple[str, ...]) -> list[str]:
        named = [name for place, name in enumerate(columns) if name or place]
        features = roles.among(named).features_of(named) if columns else []
        return [name for name in columns if name not in features or not name]

    try:
        table = parse_table(read_file(path), strings, blank=np.nan, advice=roles.advice())
    except UnicodeDecodeError as error:
        raise ContentError("not a table: it is not UTF-8; expected .csv, .parquet, .npz, .npy or a folder") from error
    of_numbers = iter(table.numbers.T)
    columns: dict[str, Any] = {}
    for place, name in enumerate(table.columns or map(str, range(table.numbers.shape[1]))):
        column = table.strings[name] if name in table.strings else next(of_numbers)
        if name in columns:
            raise ContentError(f"two columns are called {shown(name)}")
        if name or place:  # pandas writes its index as a first column without a name
            columns[name] = column
    return sequences_of_table(columns, roles, lambda row: f"line {table.lines[row]}")


def _parquet(path: Path) -> dict[str, HostArray]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(f"{path}: Parquet files need pyarrow: {how_to_install('parquet')}") from error
    with open_file(path) as file:
        try:
            table = pyarrow.parquet.read_table(file)
        except (pyarrow.ArrowException, OSError) as error:  # OSError: damaged content, too
            raise ContentError(f"not a Parquet file that can be read: {shown(str(error))}") from error
    if len({*table.column_names}) < len(table.column_names):
        raise ContentError("two columns have one name")
    return {name: table[name].to_numpy() for name in table.column_names}


def _of_npz(path: Path, roles: Roles) -> LabelledSequences:
    arrays = dict(read_npz(path))
    for role, name in [*roles.named.items(), *[("drop", name) for name in roles.drop]]:
        if name not in arrays and not roles.lenient:
            raise ContentError(f"there is no array {shown(name)} for {role}; it has {', '.join(map(shown, arrays))}")
    for name in roles.drop:
        arrays.pop(name, None)
    for role, name in roles.named.items():
        if name in ("x", "lengths") and "x" in arrays:
            raise ContentError(f"the array {shown(name)} is given for {role}; it is that of the sequences")
    target = "y" if roles.target is None else roles.target
    if target == roles.group:
        raise ContentError(f"the array {shown(target)} is given for target and group; expected one of them")
    targets = arrays.pop(target, None)
    groups = None if roles.group is None else arrays.pop(roles.group, None)
    if "x" in arrays:
        sequences = _cut("x", arrays.pop("x"), arrays.pop("lengths", None))
        if arrays and not roles.lenient:
            raise ContentError(
                f"the array {shown(next(iter(arrays)))} is beside x, and not used; expected x, lengths, and those of "
                f"target and group{roles.advice('an array')}"
            )
        names = [f"row {number}" for number in range(len(sequences))]
    elif "lengths" in arrays:
        raise ContentError("it has an array 'lengths' and no 'x', whose lengths it would be; expected both, or neither")
    else:
        sequences, names = [_steps(f"the array {shown(key)}", array) for key, array in arrays.items()], list(arrays)
    if not sequences:
        raise ContentError("it has no sequences")
    _check_one_each("target", target, targets, names)
    if groups is None or roles.lenient:
        return _checked(sequences, targets, names)
    _check_one_each("group", str(roles.group), groups, names)
    return replace(_checked(sequences, targets, names), groups=groups.astype(np.str_))


def _check_one_each(role: str, array_name: str, array: HostArray | None, names: list[str]) -> None:
    """Raises ContentError unless an array has a value for each sequence."""
    if array is None:
        return
    if array.shape != (len(names),):
        raise ContentError(
            f"the {role}s {shown(array_name)} have shape {array.shape}; expected ({len(names)},), one for each sequence"
        )
    if is_float(array.dtype) and (missing := np.flatnonzero(np.isnan(array))).size:
        raise ContentError(f"the {role} of {names[missing[0]]} is NaN")


def _of_npy(path: Path) -> LabelledSequences:
    sequences = _cut("it", read_npy(path), None)
    return _checked(sequences, None, [f"row {number}" for number in range(len(sequences))])


def _cut(name: str, array: HostArray, lengths: HostArray | None) -> list[HostArray]:
    """The sequences of an array (N, T, F) or (N, T)."""
    if array.ndim not in (2, 3) or not len(array):
        raise ContentError(f"{name} has shape {array.shape}; expected (N, T, F) or (N, T), with at least one sequence")
    steps = array.shape[1]
    lengths = np.full(len(array), steps) if lengths is None else lengths
    if lengths.shape != (len(array),) or not is_integer(lengths.dtype):
        raise ContentError(f"lengths has shape {lengths.shape} of {lengths.dtype}; expected {len(array)} integers")
    for row, length in enumerate(lengths.tolist()):
        if not 0 < length <= steps:
            raise ContentError(f"row {row}: its length is {length}; expected 1 to {steps}")
    return [_steps(f"row {row}", each[:length]) for row, (each, length) in enumerate(zip(array, lengths))]


def _steps(name: str, array: HostArray) -> HostArray:
    """A sequence (T, F) of floats, from (T, F) or (T,)."""
    if not is_real(array.dtype) or array.ndim not in (1, 2):
        raise ContentError(f"{name} has shape {array.shape} of {array.dtype}; expected numbers, (T, F) or (T,)")
    return narrowed_if_kept(array if array.ndim == 2 else array[:, None])


def _of_folder(folder: Path) -> LabelledSequences:
    visible = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    loose, classes = _sounds(visible), [path for path in visible if path.is_dir()]
    if loose and classes:
        raise ContentError(f"it has {shown(loose[0].name)} beside folders; expected .wav files in a folder each class")
    found = [(path, each.name) for each in classes for path in _sounds(sorted(each.iterdir()))]
    if empty := [each.name for each in classes if each.name not in {name for _, name in found}]:
        raise ContentError(f"its folder {shown(empty[0])} has no .wav files")
    paths = loose or [path for path, _ in found]
    if not paths:
        raise ContentError("it has no .wav files, nor folders of them")
    read = [read_wav(path) for path in paths]
    names = [path.relative_to(folder).as_posix() for path in paths]
    for name, (_, rate) in zip(names, read):
        if rate != read[0][1]:
            raise ContentError(f"{name}: {rate} samples a second; expected {read[0][1]}, as {names[0]} has")
    return _checked(
        [_steps(name, sound) for name, (sound, _) in zip(names, read)],
        np.array([name for _, name in found]) if found else None,
        names,
        "channel",
        read[0][1],
    )


def _sounds(paths: list[Path]) -> list[Path]:
    return [path for path in paths if path.suffix.lower() == ".wav" and not path.name.startswith(".")]


def _checked(
    sequences: list[HostArray],
    targets: HostArray | None,
    names: list[str],
    feature: str = "feature",
    rate: int | None = None,
) -> LabelledSequences:
    """The sequences, if they are of one width, none is empty, and all numbers are finite."""
    check_shapes(sequences, names.__getitem__, feature=feature)
    features = [f"{feature} {number}" for number in range(sequences[0].shape[1])]
    for name, sequence in zip(names, sequences):
        check_finite(sequence, in_sequences(name, features))
    return LabelledSequences(sequences, targets, features, names, rate)
