"""`tinygrad-lstm run`: what goes in by file, and what comes out."""

import wave
from pathlib import Path

import numpy as np
import pytest
from commands import fail_here, succeed, succeed_here
from golden_models import arrays, model_path

import tinygrad_lstm as tg
from tinygrad_lstm.models import LSTM

X = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)


@pytest.fixture
def expected(head: Path) -> list[np.ndarray]:
    with tg.no_grad():
        return [output.numpy() for output in tg.io.load_model(head)(X[:, None])]


def test_outputs_are_described(head: Path, tmp_path: Path, expected: list[np.ndarray]) -> None:
    np.save(tmp_path / "x.npy", X)
    title, *rows = [line.split() for line in succeed("run", head, "--input", tmp_path / "x.npy").splitlines()]
    assert title == ["output", "shape", "dtype", "lowest", "mean", "highest"]
    for name, row, array in zip(("y.0", "sum"), rows, expected, strict=True):
        assert row[:7] == [name, "4", "×", "1", "×", "5", "float32"]
        found = [float(each) for each in row[7:]]
        np.testing.assert_allclose(found, [array.min(), array.mean(), array.max()], rtol=1e-3)


def test_outputs_are_written(head: Path, tmp_path: Path, expected: list[np.ndarray]) -> None:
    np.savez(tmp_path / "x.npz", x=X.astype(np.float64)[:, None])
    succeed_here("run", head, "--input", tmp_path / "x.npz", "--out", tmp_path / "y.npz")
    with np.load(tmp_path / "y.npz") as written:
        assert written.files == ["y.0", "sum"]
        for name, array in zip(written.files, expected, strict=True):
            np.testing.assert_array_equal(written[name], array)


def test_one_output_is_written(head: Path, tmp_path: Path, expected: list[np.ndarray]) -> None:
    np.save(tmp_path / "x.npy", X)
    places = ["--out", f"sum={tmp_path / 'sum.csv'}", "--out", f"y.0={tmp_path / 'y.npy'}"]
    printed = succeed_here("run", head, "--input", tmp_path / "x.npy", *places)
    assert printed.splitlines()[-2:] == [f"wrote {tmp_path / 'sum.csv'}", f"wrote {tmp_path / 'y.npy'}"]
    title, *rows = (tmp_path / "sum.csv").read_text().splitlines()
    assert title == "sum_0,sum_1,sum_2,sum_3,sum_4"
    np.testing.assert_array_equal([[np.float32(cell) for cell in row.split(",")] for row in rows], expected[1][:, 0])
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), expected[0])


def test_a_shape_says_which_dimension_is_the_batch(head: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    arguments = ["run", head, "--input", tmp_path / "x.npy", "--shape", "x=batch,time,3"]
    assert succeed_here(*arguments).splitlines()[1].split()[:6] == ["y.0", "1", "×", "4", "×", "5"]
    message = fail_here(*arguments[:-1], "x=batch,time,4")
    assert message == "--shape: expected lengths of x (steps, batch, 3) float32, got batch,time,4"
    assert fail_here(*arguments[:-1], "y=2").startswith("--shape: expected INPUT=LENGTHS for one of x, got 'y=2'")


def test_a_table(head: Path, tmp_path: Path, expected: list[np.ndarray]) -> None:
    rows = [",".join(map(str, row)) for row in X]
    for path, lines in {"plain.csv": rows, "named.csv": ["first,second,third", *rows, ""]}.items():
        (tmp_path / path).write_text("\n".join(lines))
        succeed_here("run", head, "--input", f"x={tmp_path / path}", "--out", tmp_path / "y.npz")
        with np.load(tmp_path / "y.npz") as written:
            np.testing.assert_array_equal(written["sum"], expected[1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "missing inputs: x (steps, batch, 3) float32"),
        (["--input", "none.npy"], "none.npy: No such file or directory"),
        (["--input", "y=x.npy"], "--input: expected PATH or NAME=PATH with one of the inputs x, got 'y=x.npy'"),
        (["--input", "x.npy", "--input", "x=x.npy"], "--input: 2 files, and the inputs are 'x'"),
        (["--input", "x=x.npy", "--input", "x=x.npy"], "--input: the input 'x' is given twice"),
        (["--input", "wide.npy"], "--input: expected x (steps, batch, 3) float32, got shape (4, 5)"),
        (["--input", "x.npy", "--out", "y.txt"], "--out: expected a file that ends in .npy, .npz, .csv, got y.txt"),
        (
            ["--input", "x.npy", "--out", "y.csv"],
            "--out: expected a file that ends in .npz, or NAME=y.csv for one of y.0, sum, got y.csv",
        ),
        (["--input", "cut.npy"], "cut.npy: its shape (4, 3) does not have the 11 elements that are there"),
        (["--input", "words.csv"], "words.csv: line 2, column 2: expected a number, got 'two'"),
        (["--input", "ragged.csv"], "ragged.csv: line 2 has 2 columns, and the first has 3"),
        (["--input", "x.npy", "--state", "h0"], "--state: expected the names of an input and an output"),
    ],
)
def test_bad_input_is_one_line(head: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "wide.npy", np.ones((4, 5)))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:-4])
    (tmp_path / "words.csv").write_text("1,2,3\n1,two,3\n")
    (tmp_path / "ragged.csv").write_text("1,2,3\n1,2\n")
    assert fail_here("run", head, *arguments, cwd=tmp_path).startswith(message)


def test_a_sound_of_several_channels_is_no_batch(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "two.wav"), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(400))
    model = model_path("torch_script_vad")
    message = fail_here("run", model, "--input", tmp_path / "two.wav")
    expected = "--input: expected audio (batch, time) float32, got a sound of 2 channels; take one with --channel"
    assert message.strip() == expected
    succeed_here("run", model, "--input", tmp_path / "two.wav", "--channel", "1")


@pytest.mark.parametrize("command", [["run"], ["export", "--to", "torch"]])
def test_a_model_without_its_code_is_named(command: list[str]) -> None:
    message = fail_here(*command, model_path("torch_pickle_tagger"))
    assert "the file has its layers but not its forward, which is code" in message


class Forecast(tg.nn.Module):
    """A prediction for each step, and the states after the last."""

    def __init__(self) -> None:
        self.lstm, self.head = LSTM(3, 4), tg.nn.Linear(4, 2)

    def forward(self, x: tg.Tensor, h0: tg.Tensor, c0: tg.Tensor) -> dict[str, tg.Tensor]:
        out, (h, c) = self.lstm(x, (h0, c0))
        return {"y": self.head(out), "hn": h, "cn": c}


@pytest.fixture(scope="module")
def forecast(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recurrent model, with an input and a state in files beside it."""
    path = tmp_path_factory.mktemp("forecast") / "forecast.onnx"
    tg.manual_seed(0)
    states = {name: tg.zeros(1, 2, 4) for name in ("h0", "c0")}
    dynamic = {name: {1: "batch"} for name in states}
    tg.io.export_onnx(Forecast(), path, {"x": tg.randn(5, 2, 3), **states}, dynamic=dynamic)
    np.save(path.with_name("x.npy"), X)
    np.save(path.with_name("h.npy"), np.full((1, 1, 4), 0.5, np.float32))
    return path


@pytest.mark.parametrize("steps", [1, 3, 100])
def test_a_stream_has_the_same_outputs(forecast: Path, steps: int) -> None:
    arguments = ["run", forecast, "--input", "x.npy", "--input", "h0=h.npy"]
    succeed_here(*arguments, "--out", "whole.npz", cwd=forecast.parent)
    printed = succeed_here(*arguments, "--stream", steps, "--out", "streamed.npz", cwd=forecast.parent)
    assert printed.startswith(f"{-(-len(X) // steps)} chunks of {steps} steps; a chunk takes ")
    with np.load(forecast.with_name("whole.npz")) as whole, np.load(forecast.with_name("streamed.npz")) as streamed:
        assert whole.files == streamed.files == ["y", "hn", "cn"]
        for name in whole.files:
            assert streamed[name].shape == whole[name].shape
            np.testing.assert_allclose(streamed[name], whole[name], atol=1e-6)


def test_a_stream_of_a_checkpoint(runs: tuple[Path, str], tmp_path: Path) -> None:
    (tmp_path / "ids.csv").write_text("1\n2\n3\n4\n5\n")
    arguments = ["run", runs[0] / "best.safetensors", "--input", "ids.csv"]
    succeed_here(*arguments, "--out", "whole.npy", cwd=tmp_path)
    succeed_here(*arguments, "--stream", 2, "--out", "streamed.npy", cwd=tmp_path)
    np.testing.assert_allclose(np.load(tmp_path / "streamed.npy"), np.load(tmp_path / "whole.npy"), atol=1e-5)


def test_a_stream_of_a_model_that_looks_ahead(tmp_path: Path) -> None:
    """Its last outputs come at the end."""
    inputs = arrays("torch_script_vad", "in.")
    np.savez(tmp_path / "in.npz", **inputs)
    arguments = ["run", model_path("torch_script_vad"), "--input", "in.npz"]
    printed = succeed_here(*arguments, "--stream", 8, "--out", "y.npz", cwd=tmp_path)
    assert printed.startswith("4 chunks of 8 steps")
    with np.load(tmp_path / "y.npz") as written:
        for name, array in arrays("torch_script_vad", "out.").items():
            np.testing.assert_allclose(written[name], array, atol=1e-5)


def test_what_cannot_be_streamed_is_named(tmp_path: Path) -> None:
    np.save(tmp_path / "ids.npy", np.array([[1, 2, 3, 4, 5]]))
    arguments = ["run", model_path("torch_script_tagger"), "--input", "ids.npy", "--stream", 2]
    for more in ([], ["--shape", "ids=batch,time"]):
        message = fail_here(*arguments, *more, cwd=tmp_path)
        assert "cannot be computed step by step" in message and "lstm" in message


def test_chunks_of_no_steps(forecast: Path) -> None:
    message = fail_here("run", forecast, "--input", "x.npy", "--stream", 0, cwd=forecast.parent)
    assert message == "--stream: expected at least 1, got 0"


class Sum(tg.nn.Module):
    """The sum of two inputs."""

    def forward(self, x: tg.Tensor, y: tg.Tensor) -> tg.Tensor:
        return x + y


def test_inputs_of_a_stream_have_as_many_steps(tmp_path: Path) -> None:
    tg.io.export_onnx(Sum(), tmp_path / "sum.onnx", {"x": tg.randn(5, 2, 3), "y": tg.randn(5, 2, 3)})
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", X[:3])
    arguments = ["run", "sum.onnx", "--input", "x.npy", "--input", "y.npy", "--stream", 2]
    message = fail_here(*arguments, cwd=tmp_path)
    assert message == "--input: expected as many steps of each input, got x 4, y 3"
    np.save(tmp_path / "y.npy", X)
    succeed_here(*arguments, "--out", "sum.npy", cwd=tmp_path)
    np.testing.assert_array_equal(np.load(tmp_path / "sum.npy"), 2 * X[:, None])
