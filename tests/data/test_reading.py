"""Labelled sequences: from tables, arrays and sounds."""

import csv
import sys
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_lstm.data import LabelledSequences, read_sequences

numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)
some_sequences = st.integers(1, 3).flatmap(
    lambda width: st.lists(
        st.tuples(
            st.lists(st.lists(numbers, min_size=width, max_size=width), min_size=1, max_size=4),
            st.sampled_from(["up", "down"]),
        ),
        min_size=1,
        max_size=4,
    )
)


def check(read: LabelledSequences, sequences: list[list[list[float]]], targets: list[Any] | None) -> None:
    assert len(read) == len(sequences) == len(read.names)
    for found, expected in zip(read.sequences, sequences, strict=True):
        assert found.dtype == np.float32
        assert found.tolist() == expected
        assert found.shape[1] == len(read.features)
    assert (None if read.targets is None else read.targets.tolist()) == targets


@given(some_sequences, st.data())
def test_long_tables(tmp_path_factory: pytest.TempPathFactory, labelled: list[Any], data: st.DataObject) -> None:
    """The rows of sequences may be mixed, as long as those of each are in order."""
    turns = data.draw(st.permutations([k for k, (steps, _) in enumerate(labelled) for _ in steps]))
    left = [list(enumerate(steps)) for steps, _ in labelled]
    rows = []
    for k in turns:
        step, values = left[k].pop(0)
        rows.append([f"id {k}", labelled[k][1], *values, step])
    width = len(rows[0]) - 3
    header = ["who", "label", *(f"x{place}" for place in range(width)), "when"]
    order = list(dict.fromkeys(turns))
    expected = [labelled[k][0] for k in order], [labelled[k][1] for k in order]

    folder = tmp_path_factory.mktemp("tables")
    with open(folder / "long.csv", "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    frame = pandas.DataFrame(rows, columns=header)
    frame.to_parquet(folder / "long.parquet")
    frame.to_csv(folder / "indexed.csv", sep=";")
    columns = {name: [row[place] for row in rows] for place, name in enumerate(header)}
    for source in (folder / "long.csv", str(folder / "indexed.csv"), folder / "long.parquet", frame, columns):
        read = read_sequences(source, target="label", id="who", time="when")
        check(read, *expected)
        assert read.features == header[2:-1] and read.names == [f"id {k}" for k in order]


@given(st.lists(st.lists(numbers, min_size=1, max_size=5), min_size=1, max_size=4), st.data())
def test_wide_tables(
    tmp_path_factory: pytest.TempPathFactory, sequences: list[list[float]], data: st.DataObject
) -> None:
    targets = data.draw(st.lists(st.integers(-3, 3), min_size=len(sequences), max_size=len(sequences)))
    longest = max(map(len, sequences))
    header = ["y", *(f"t{step}" for step in range(longest))]
    rows = [[y, *each, *[""] * (longest - len(each))] for y, each in zip(targets, sequences, strict=True)]
    path = tmp_path_factory.mktemp("tables") / "wide.csv"
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    read = read_sequences(path, target="y")
    check(read, [[[value] for value in each] for each in sequences], targets)
    assert read.targets is not None and read.targets.dtype == np.int64
    pandas.read_csv(path).to_parquet(path.with_suffix(".parquet"))
    check(read_sequences(path.with_suffix(".parquet"), target="y"), [s.tolist() for s in read.sequences], targets)


def table(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "a.csv"
    path.write_text(text)
    return path


def test_a_table_of_numbers_alone(tmp_path: Path) -> None:
    path = table(tmp_path, "1,2,0\n3,4,1\n")
    check(read_sequences(path), [[[1], [2], [0]], [[3], [4], [1]]], None)
    check(read_sequences(path, target="2"), [[[1], [2]], [[3], [4]]], [0, 1])


def test_a_table_of_one_series(tmp_path: Path) -> None:
    path = table(tmp_path, "day,sales\n2024-01-31,5\n2024-02-01,6\n")
    check(read_sequences(path, time="day"), [[[5], [6]]], None)


@pytest.mark.parametrize(
    ("written", "targets"),
    [
        (["1", "-2"], [1, -2]),
        (["1", "2.5"], [1, 2.5]),
        (["1", "b"], ["1", "b"]),
        (["0", "10"], [0, 10]),
        (["007", "10"], ["007", "10"]),
        (["9007199254740993", "9007199254740992"], ["9007199254740993", "9007199254740992"]),
    ],
)
def test_targets_are_integers_floats_or_strings(written: list[str], targets: list[Any], tmp_path: Path) -> None:
    path = table(tmp_path, "x,y\n" + "".join(f"0,{each}\n" for each in written))
    check(read_sequences(path, target="y"), [[[0]], [[0]]], targets)


def test_groups(tmp_path: Path) -> None:
    """A group is read for each sequence, and is not a feature."""
    columns = {"id": [1, 1, 2, 3], "x": [1.0, 2, 3, 4], "who": [7, 7, 8, 7]}
    frame = pandas.DataFrame(columns)
    frame.to_csv(tmp_path / "long.csv", index=False)
    frame.to_parquet(tmp_path / "long.parquet")
    for source in (tmp_path / "long.csv", tmp_path / "long.parquet", frame, columns):
        read = read_sequences(source, id="id", group="who")
        check(read, [[[1], [2]], [[3]], [[4]]], None)
        assert read.groups is not None and read.groups.tolist() == ["7", "8", "7"] and read.features == ["x"]
        assert read_sequences(source, id="id").groups is None
    wide = read_sequences(table(tmp_path, "who,a,b,y\nann,1,2,0\nbob,3,,1\n"), target="y", group="who")
    check(wide, [[[1], [2]], [[3]]], [0, 1])
    assert wide.groups is not None and wide.groups.tolist() == ["ann", "bob"]
    np.savez(tmp_path / "x.npz", x=np.ones((2, 1)), who=np.array(["ann", "bob"]))
    np.savez(tmp_path / "each.npz", first=np.ones((1, 1)), second=np.ones((1, 1)), who=np.array(["ann", "bob"]))
    for name in ("x.npz", "each.npz"):
        read = read_sequences(tmp_path / name, group="who")
        check(read, [[[1]], [[1]]], None)
        assert read.groups is not None and read.groups.tolist() == ["ann", "bob"]


LONG = {"id": "id", "time": "t", "target": "y"}
GROUPED = {**LONG, "group": "who"}


@pytest.mark.parametrize(
    ("text", "roles", "message"),
    [
        ("id,x\n1,2\n", LONG, "there is no column 'y' for target; its columns are 'id', 'x'"),
        ("id,t,x,y\n1,0,2,a\n1,1,,a\n", LONG, "line 3, column 'x': the number is NaN or missing; .*: fill in such"),
        ("id,t,x,y\n1,0,nan,a\n", LONG, "line 2, column 'x': the number is NaN"),
        ("id,t,x,y\n1,0,1e39,a\n", LONG, "line 2, column 'x': the number is infinite, or too large for float32"),
        ("id,t,x,y\n1,0,fast,a\n", LONG, "line 2, column 'x': expected a number, got 'fast'"),
        ("id,t,x,y\n1,0,2\n", LONG, "line 2 has 3 columns, and the first has 4"),
        ("id;t;x;y\n1;0;2,5;a\n", LONG, "line 2, column 'x': expected a number, got '2,5'"),
        ("id,t,x,y\n1,0,2_5,a\n", LONG, "line 2, column 'x': expected a number, got '2_5'"),
        (
            "id,t,x,y\n1,0,2,a\n2,0,2,b\n1,1,2,b\n",
            LONG,
            "line 4: the target of '1' is b, and a in line 2; expected",
        ),
        ("id,t,x,y\n1,1,2,a\n\n1,0,2,a\n", LONG, "line 4: the time 0.0 of '1' is not after 1.0 in line 2; expected"),
        ("id,t,x,y\n1,1,2,a\n1,1,2,a\n", LONG, "line 3: the time 1.0 of '1' is not after 1.0 in line 2"),
        ("id,t,x,y\n1,2024-02-01,2,a\n1,2024-01-31,2,a\n", LONG, "line 3: the time 2024-01-31.* of '1' is not after"),
        ("id,t,x,y\n1,noon,2,a\n", LONG, "the times are neither numbers nor dates"),
        ("id,t,x,y\n1,,2,a\n", LONG, "the times are neither|line 2: the time is missing"),
        ("id,t,x,y\n,0,2,a\n", LONG, "line 2, column 'id': the id is missing"),
        ("id,t,x,y,who\n1,0,2,a,\n", GROUPED, "line 2, column 'who': the group is missing; expected one in each row"),
        (
            "id,t,x,y,who\n1,0,2,a,ann\n1,1,2,a,bob\n",
            GROUPED,
            "line 3: the group of '1' is bob, and ann in line 2; expected one group for each id",
        ),
        ("id,t,x,y\n1,0,2,a\n", GROUPED, "there is no column 'who' for group; its columns are 'id', 't', 'x', 'y'"),
        ("id,x\n1,2\n", {"id": "id", "group": "id"}, "the column 'id' is given for id and group; expected one of"),
        ("id,x\n1,2\n", {"id": "id", "features": ["x", "x"]}, "the column 'x' is given for features twice"),
        ("id,t,x,y\n1,0,2,\n", LONG, "line 2, column 'y': the target is missing"),
        ("id,t,y\n1,0,a\n", LONG, "there are no columns of features"),
        ("id,t,x,x,y\n1,0,2,2,a\n", LONG, "two columns are called 'x'"),
        ("id,t,x,y\n", LONG, "it has no numbers"),
        ("id,x\n1,2\n", {"id": "id", "time": "id"}, "the column 'id' is given for id and time; expected one of them"),
        ("a,b,y\n1,2,0\n,,1\n", {"target": "y"}, "line 3: the sequence is empty"),
        ("a,b,y\n,2,0\n", {"target": "y"}, "line 2, column 'a': the number is NaN or missing"),
    ],
)
def test_faults_of_tables_are_one_line(text: str, roles: dict[str, str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"a.csv: {message}") as raised:
        read_sequences(table(tmp_path, text), **roles)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": [1, 1], "x": [1.0, None]}, "row 1, column 'x': the number is NaN or missing"),
        ({"id": [1, 1], "x": [1.0, "b"]}, "row 1, column 'x': expected a number, got 'b'"),
        ({"id": [1, None], "x": [1.0, 2.0]}, "row 1, column 'id': the id is missing"),
        ({"id": [1], "x": [[1.0, 2.0]]}, "the column 'x' has shape .1, 2.; expected .1,., as 'id' has"),
        ({"id": [1, 1], "x": [1.0]}, "the column 'x' has shape .1,.; expected .2,., as 'id' has"),
        ({"id": [1, 1], "x": np.array([1, 2], "M8[ns]")}, "the column 'x' has dates or times .datetime64.ns..; exp"),
        ({"id": [1, 1], "x": [[1.0], [1.0, 2.0]]}, "the column 'x' is not a list of numbers or strings"),
    ],
)
def test_faults_of_columns(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^read_sequences: {message}"):
        read_sequences(columns, id="id")


def test_a_feature_that_float32_would_round_away_is_float64(tmp_path: Path) -> None:
    seconds = np.array([1.7e9, 1.7e9 + 1, 1.7e9 + 2])
    np.savez(tmp_path / "a.npz", first=np.column_stack([seconds, [1.0, 2, 3]]))
    for read in (
        read_sequences({"id": [1, 1, 1], "t": seconds, "x": [1.0, 2, 3]}, id="id"),
        read_sequences(tmp_path / "a.npz"),
    ):
        assert read.sequences[0].dtype == np.float64 and read.sequences[0].T.tolist() == [seconds.tolist(), [1, 2, 3]]
    check(read_sequences({"id": [1, 1], "t": [1.7e9, 1.7e9 + 1024]}, id="id"), [[[1.7e9], [1.7e9 + 1024]]], None)


def test_dates_are_times_only() -> None:
    dates = pandas.DataFrame({"id": [1, 1], "x": [1.0, 2.0], "day": pandas.to_datetime(["2024-01-31", "2024-02-01"])})
    check(read_sequences(dates, id="id", time="day"), [[[1], [2]]], None)
    for roles in ({}, {"target": "day"}):
        with pytest.raises(ValueError, match=r"the column 'day' has dates or times"):
            read_sequences(dates, id="id", **roles)


@pytest.mark.parametrize("source", [[1.0, 2.0], np.ones((3, 2)), pyarrow.table({"x": [1.0]}), None])
def test_what_is_neither_a_path_nor_columns_is_named(source: Any) -> None:
    with pytest.raises(TypeError) as raised:
        read_sequences(source, target="y")
    expected = "read_sequences: expected a path, or columns by name such as a dict or DataFrame, got a "
    assert str(raised.value) == expected + type(source).__name__


@given(
    st.text('ab1.,;\t"\n -e', max_size=30),
    st.sampled_from([{}, {"id": "a"}, {"target": "b"}, {"id": "a", "time": "b"}]),
)
def test_any_text_is_a_table_or_has_one_fault(
    tmp_path_factory: pytest.TempPathFactory, text: str, roles: dict[str, str]
) -> None:
    path = table(tmp_path_factory.mktemp("tables"), "a,b\n" * bool(roles) + text)
    try:
        read = read_sequences(path, **roles)
    except ValueError as error:
        assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
    else:
        assert all(len(sequence) and np.isfinite(sequence).all() for sequence in read.sequences)


def test_a_file_that_is_not_of_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="not a table: it is not UTF-8"):
        read_sequences(tmp_path / "a.csv")


# -- Parquet -----------------------------------------------------------------------------------------------------------


def test_damaged_parquet(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"a.parquet: not a Parquet file that can be read"):
        read_sequences(tmp_path / "a.parquet")


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"a.parquet: Parquet files need pyarrow: pip install '.\[parquet\]'"):
        read_sequences(tmp_path / "a.parquet")


# -- arrays ------------------------------------------------------------------------------------------------------------


def test_arrays_by_lengths(tmp_path: Path) -> None:
    x = np.arange(12).reshape(2, 3, 2)
    np.savez(tmp_path / "a.npz", x=x, lengths=np.array([3, 1]), y=np.array(["a", "b"]))
    check(read_sequences(tmp_path / "a.npz"), [x[0].tolist(), x[1, :1].tolist()], ["a", "b"])
    np.save(tmp_path / "a.npy", x[:, :, 0])
    check(read_sequences(tmp_path / "a.npy"), x[:, :, :1].tolist(), None)


def test_an_array_for_each_sequence(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", first=np.ones((3, 2)), second=np.ones((1, 2)), label=np.array([0.5, 1]))
    read = read_sequences(tmp_path / "a.npz", target="label")
    check(read, [np.ones((3, 2)).tolist(), np.ones((1, 2)).tolist()], [0.5, 1])
    assert read.names == ["first", "second"]
    assert read_sequences(tmp_path / "a.npz", drop=["label"]).targets is None


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": np.ones((2, 3)), "b": np.ones((2, 2))}, "b: 2 features; expected 3, as a has"),
        ({"a": np.ones((2, 3)), "b": np.ones((0, 3))}, "b: the sequence is empty"),
        ({"a": np.array([[1], [np.nan]])}, "a, step 1, feature 0: the number is NaN"),
        ({"a": np.array([["x"]])}, "the array 'a' has shape .1, 1. of <U1; expected numbers"),
        ({"x": np.ones((2, 3)), "lengths": np.array([3, 4])}, "row 1: its length is 4; expected 1 to 3"),
        ({"x": np.ones((2, 3)), "lengths": np.array([3.0, 2])}, "lengths has shape .2,. of float64; expected 2 int"),
        ({"x": np.ones(3)}, "x has shape .3,.; expected .N, T, F. or .N, T."),
        ({"x": np.ones((2, 3)), "y": np.ones(3)}, "the targets 'y' have shape .3,.; expected .2,., one for each"),
        ({"x": np.ones((2, 3)), "y": np.array([0, np.nan])}, "the target of row 1 is NaN"),
        ({"y": np.ones(3)}, "it has no sequences"),
        ({"a": np.ones((2, 3)), "lengths": np.array([2])}, "it has an array 'lengths' and no 'x'"),
        (
            {"x": np.ones((2, 3)), "y": np.ones(2), "who": np.ones(2)},
            "the array 'who' is beside x, and not used; .*; drop can leave an array out",
        ),
    ],
)
def test_faults_of_arrays(arrays: dict[str, Any], message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValueError, match=f"a.npz: {message}"):
        read_sequences(tmp_path / "a.npz")


def test_columns_are_of_tables(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.ones((2, 3)))
    np.save(tmp_path / "a.npy", np.ones((2, 3)))
    with pytest.raises(ValueError, match="id, time and features are for tables"):
        read_sequences(tmp_path / "a.npz", id="id")
    with pytest.raises(ValueError, match=r"drop is for tables and \.npz files"):
        read_sequences(tmp_path / "a.npy", drop=["x"])
    with pytest.raises(ValueError, match="there is no array 'label' for target; it has 'x'"):
        read_sequences(tmp_path / "a.npz", target="label")
    with pytest.raises(ValueError, match="it has no column 'label'; target is for tables"):
        read_sequences(tmp_path / "a.npy", target="label")
    with pytest.raises(ValueError, match=r"it has no column 'who'; group is for tables and \.npz files"):
        read_sequences(tmp_path, group="who")
    np.savez(tmp_path / "b.npz", x=np.ones((2, 3)), lengths=np.array([3, 1]), y=np.ones(2), who=np.ones(3))

    def fault(**roles: Any) -> str:
        with pytest.raises(ValueError) as raised:
            read_sequences(tmp_path / "b.npz", **roles)
        return str(raised.value).removeprefix(f"{tmp_path / 'b.npz'}: ")

    check(read_sequences(tmp_path / "b.npz", drop=["who"]), [[[1]] * 3, [[1]]], [1, 1])
    assert fault(drop=["nobody"]).startswith("there is no array 'nobody' for drop; it has ")
    assert fault(group="person").startswith("there is no array 'person' for group; it has ")
    assert fault(group="who") == "the groups 'who' have shape (3,); expected (2,), one for each sequence"
    assert fault(group="y") == "the array 'y' is given for target and group; expected one of them"
    assert fault(target="lengths") == "the array 'lengths' is given for target; it is that of the sequences"


# -- sounds ------------------------------------------------------------------------------------------------------------


def sound(path: Path, samples: list[int], rate: int = 8000, channels: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.array(samples, "<i2").tobytes())


def test_folders_of_sounds(tmp_path: Path) -> None:
    sound(tmp_path / "no" / "1.wav", [0, 2**14])
    sound(tmp_path / "no" / "2.WAV", [-(2**15)])
    sound(tmp_path / "yes" / "1.wav", [2**13])
    (tmp_path / "yes" / "notes.txt").write_text("left out")
    (tmp_path / ".hidden").mkdir()
    read = read_sequences(tmp_path)
    check(read, [[[0], [0.5]], [[-1]], [[0.25]]], ["no", "no", "yes"])
    assert (read.names, read.rate) == (["no/1.wav", "no/2.WAV", "yes/1.wav"], 8000)
    check(read_sequences(tmp_path / "no"), [[[0], [0.5]], [[-1]]], None)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            lambda folder: sound(folder / "b" / "1.wav", [1], rate=16000),
            "b/1.wav: 16000 samples a second; exp",
        ),
        (lambda folder: sound(folder / "b" / "1.wav", [1, 2], channels=2), "b/1.wav: 2 channels; expected 1, as a/1"),
        (lambda folder: sound(folder / "b" / "1.wav", []), "b/1.wav: the sequence is empty"),
        (lambda folder: sound(folder / "1.wav", [1]), "it has '1.wav' beside folders"),
        (lambda folder: (folder / "b").mkdir(), "its folder 'b' has no .wav files"),
        (lambda folder: (folder / "a" / "1.wav").unlink(), "its folder 'a' has no .wav files"),
    ],
)
def test_faults_of_sounds(more: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    sound(tmp_path / "a" / "1.wav", [1])
    more(tmp_path)
    with pytest.raises(ValueError, match=message):
        read_sequences(tmp_path)


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"it has no \.wav files, nor folders of them"):
        read_sequences(tmp_path)
