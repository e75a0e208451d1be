"""Files of inputs and outputs: .npy, .npz, .csv and .wav, and how arrays are made to fit a model's inputs."""

import struct
import tempfile
import wave
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_lstm.cli.arrays import FileArray, read_arrays, write_arrays
from tinygrad_lstm.cli.inputs import fitted, given_inputs
from tinygrad_lstm.io.models.ports import Port

# -- sounds ------------------------------------------------------------------------------------------------------------


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"".join(name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for name, data in chunks)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body


def sound(kind: int, bits: int, data: bytes, channels: int = 1, more: bytes = b"") -> bytes:
    block = channels * bits // 8
    header = struct.pack("<HHIIHH", kind, channels, 8000, 8000 * block, block, bits) + more
    return riff((b"fmt ", header), (b"LIST", b"odd"), (b"data", data))


@pytest.mark.parametrize("width", [1, 2, 3, 4])
@pytest.mark.parametrize("channels", [1, 2])
def test_samples_that_python_wrote(width: int, channels: int, tmp_path: Path) -> None:
    half = 2 ** (8 * width - 1)
    numbers = np.array([-half, -half // 2, 0, 1, half // 2, half - 1])
    stored = [
        int(number + half if width == 1 else number).to_bytes(width, "little", signed=width > 1) for number in numbers
    ]
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(16000)
        file.writeframes(b"".join(stored))
    (read,) = read_arrays(tmp_path / "a.wav").values()
    assert read.rate == 16000 and read.array.dtype == np.float32
    expected = (numbers / half).astype(np.float32)
    np.testing.assert_array_equal(read.array, expected if channels == 1 else expected.reshape(-1, 2))
    (second,) = read_arrays(tmp_path / "a.wav", channel=channels - 1).values()
    np.testing.assert_array_equal(second.array, expected[channels - 1 :: channels])


@pytest.mark.parametrize("bits", [32, 64])
def test_samples_of_floats(bits: int, tmp_path: Path) -> None:
    numbers = np.array([-1, 0.25, 0, 1.5], f"<f{bits // 8}")
    extensible = struct.pack("<HHIH14s", 22, bits, 4, 3, b"")
    for content in (sound(3, bits, numbers.tobytes()), sound(0xFFFE, bits, numbers.tobytes(), more=extensible)):
        (tmp_path / "a.wav").write_bytes(content)
        np.testing.assert_array_equal(read_arrays(tmp_path / "a.wav")[""].array, numbers)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (sound(1, 16, b"abcd")[:-1], "cut off: its chunk b'data' of 4 bytes has only 3"),
        (sound(7, 8, b"abcd"), "its samples are mu-law of 8 bits; expected PCM"),
        (sound(1, 12, b"abcd"), "its samples are PCM of 12 bits"),
        (sound(1, 16, b"abcd", channels=0), "damaged: 0 channels"),
        (riff((b"fmt ", b"short"), (b"data", b"")), "damaged: its chunk 'fmt ' is too short"),
        (riff((b"data", b"")), r"a .wav file without the chunks b'fmt '"),
        (b"RIFF\0\0\0\0AVI ", "not a .wav file"),
    ],
)
def test_sounds_that_are_refused(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(ValueError, match=f"a.wav: {message}"):
        read_arrays(tmp_path / "a.wav")


@given(st.binary(max_size=80))
def test_damaged_sounds_raise_value_errors(end: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.wav"
        path.write_bytes(b"RIFF\x50\0\0\0WAVEfmt " + end)
        try:
            read_arrays(path)
        except ValueError as error:
            assert str(error).startswith(str(path))


# -- tables ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "columns", "rows"),
    [
        ("1,2\n3,4\n", (), [[1, 2], [3, 4]]),
        ("\ufeffa;b\n1;2.5\n", ("a", "b"), [[1, 2.5]]),
        ('"a, b"\tc\n-1e3\tnan\n', ("a, b", "c"), [[-1e3, np.nan]]),
        ("ids\n5\n\n7\n", ("ids",), [5, 7]),
        (" 1 , 2\r\n", (), [[1, 2]]),
    ],
)
def test_tables(text: str, columns: tuple[str, ...], rows: list[object], tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(text.encode())
    read = read_arrays(tmp_path / "a.csv")[""]
    assert read.columns == columns
    np.testing.assert_array_equal(read.array, rows)
    assert read.array.dtype == np.asarray(rows).dtype


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it has no numbers"),
        (b"a,b\n", "it has no numbers"),
        (b"1,2\n1,\n", "line 2, column 2: expected a number, got ''"),
        (b"1,2\n1\n", "line 2 has 1 columns, and the first has 2"),
        (b"\xff\xfe", "of no known kind; expected .npy, .npz, .csv or .wav"),
        (b"1\n" + b"9" * 200, "line 2, column 1: expected a number"),
    ],
)
def test_tables_that_are_refused(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(ValueError, match=f"a.csv: {message}"):
        read_arrays(tmp_path / "a.csv")


@pytest.mark.parametrize("shape", [(), (3,), (4, 3), (4, 1, 3), (1, 4, 1)])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_what_is_written_is_read_again(shape: tuple[int, ...], dtype: str, tmp_path: Path) -> None:
    array = (np.random.default_rng(0).standard_normal(shape) * 100).astype(dtype)
    for ending in (".npy", ".npz", ".csv"):
        write_arrays(tmp_path / f"a{ending}", {"y": array})
        (read,) = read_arrays(tmp_path / f"a{ending}").values()
        found = read.array if ending != ".csv" else read.array.astype(dtype).reshape(shape)
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)


# -- fitting -----------------------------------------------------------------------------------------------------------

SERIES, SOUND = Port("x", ("time", "batch", 3), "float32"), Port("x", ("N", "L"), "float32")


@pytest.mark.parametrize(
    ("port", "shape", "expected"),
    [
        (SERIES, (5, 2, 3), (5, 2, 3)),
        (SERIES, (5, 3), (5, 1, 3)),
        (SERIES, (3,), (1, 1, 3)),
        (SOUND, (7,), (1, 7)),
        (Port("x", (1, "x_1", 3), "float32"), (5, 3), (1, 5, 3)),
        (Port("x", ("batch", 1, "samples"), "float32"), (7,), (1, 1, 7)),
        (Port("x", ("time", "batch", 1), "float32"), (5,), (5, 1, 1)),
        (Port("sr", (), "float32"), (), ()),
        (Port("x", None, "float32"), (5, 3), (5, 3)),
    ],
)
def test_dimensions_are_added(port: Port, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape), dtype="f4").reshape(shape)
    found = fitted(port, array)
    assert found.shape == expected
    np.testing.assert_array_equal(found.ravel(), array.ravel())


@pytest.mark.parametrize(
    ("port", "array", "message"),
    [
        (SERIES, np.ones((5, 4)), r"expected x \(time, batch, 3\) float32, got shape \(5, 4\)"),
        (SERIES, np.ones((1, 5, 2, 3)), r"got shape \(1, 5, 2, 3\)"),
        (
            Port("x", ("p", "q", 3)),
            np.ones((5, 3)),
            r"\(5, 1, 3\): say which, as in --shape x=batch,time,3",
        ),
        (Port("ids", ("T",), "int64"), np.array([1, 2.5]), "expected int64 for ids, and 2.5 is not one"),
        (Port("ids", ("T",), "int8"), np.array([1, 300]), "expected int8 for ids, and 300 is not one"),
        (Port("x", ("T",), "float32"), np.array([1, 1e300]), r"expected float32 for x, and 1e\+300 is not one"),
        (Port("x", ("T",), "float32"), np.array(["a"]), "expected numbers for x"),
    ],
)
def test_arrays_that_do_not_fit(port: Port, array: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=f"^--input: .*{message}"):
        fitted(port, array)


def test_conversions_are_exact_or_roundings() -> None:
    assert fitted(Port("ids", ("T",), "int64"), np.array([1.0, 2.0])).dtype == np.int64
    assert fitted(Port("x", ("T",), "float32"), np.array([1, 2])).dtype == np.float32
    rounded = fitted(Port("x", ("T",), "float32"), np.array([0.1, np.inf, np.nan]))
    np.testing.assert_array_equal(rounded, np.array([0.1, np.inf, np.nan], np.float32))


def test_inputs_by_position_name_and_file() -> None:
    ports = [Port("a", ("T",)), Port("b", ("T",)), Port("sr", (), "int64"), Port("h", ("T",))]
    one, two, three = (FileArray(np.full(2, number, np.float32)) for number in (1, 2, 3))

    def numbers(*files: tuple[str | None, dict[str, FileArray]]) -> dict[str, float]:
        return {
            name: float(each.array.flat[0]) for name, each in given_inputs(ports, ["a", "b", "sr", "h"], files).items()
        }

    assert numbers((None, {"": one}), (None, {"": two})) == {"a": 1, "b": 2}
    assert numbers((None, {"": one}), ("a", {"": two})) == {"b": 1, "a": 2}
    assert numbers((None, {"": one}), (None, {"h": two, "a": three})) == {"b": 1, "h": 2, "a": 3}
    sounding = FileArray(one.array, rate=16000)
    assert numbers((None, {"": sounding})) == {"a": 1, "sr": 16000}
    with pytest.raises(ValueError, match="a file has the arrays 'a', 'z', and the inputs are 'a', 'b', 'sr', 'h'"):
        numbers((None, {"a": one, "z": two}))
