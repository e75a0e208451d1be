"""`tinygrad-lstm inspect --input`: the page of any model with recurrent layers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import run_here, succeed_here
from golden_models import model_path
from page_files import contents_of

import tinygrad_lstm as tg
from tinygrad_lstm.models import LSTM

X = np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32)


class Forecast(tg.nn.Module):
    """Two layers, and a head that predicts a number at each step."""

    def __init__(self) -> None:
        self.lstm, self.head = LSTM(3, 4, num_layers=2), tg.nn.Linear(4, 1)

    def forward(self, x: tg.Tensor, h0: tg.Tensor, c0: tg.Tensor) -> dict[str, tg.Tensor]:
        out, (h, c) = self.lstm(x, (h0, c0))
        return {"forecast": self.head(out), "hn": h, "cn": c}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("forecast")
    tg.manual_seed(0)
    states = {name: tg.zeros(2, 2, 4) for name in ("h0", "c0")}
    dynamic = {name: {1: "batch"} for name in states}
    tg.io.export_onnx(Forecast(), folder / "forecast.onnx", {"x": tg.randn(5, 2, 3), **states}, dynamic=dynamic)
    rows = "\n".join(",".join(map(str, row)) for row in X)
    (folder / "x.csv").write_text(f"wind,rain,sun\n{rows}\n")
    np.savez(folder / "state.npz", h0=np.full((2, 1, 4), 0.25, np.float32), c0=np.full((2, 1, 4), 0.5, np.float32))
    return folder / "forecast.onnx"


def inspected(model: Path, *arguments: object) -> Any:
    page = model.with_name("page.html")
    inputs = ["--input", model.with_name("x.csv"), "--input", model.with_name("state.npz")]
    printed = succeed_here("inspect", model, *inputs, "--out", page, *arguments)
    assert f"page: {page} (" in printed
    return contents_of(page)[0]


@pytest.mark.parametrize("loss", ["last", "mean"])
def test_the_layers_and_series_of_a_model(model: Path, loss: str) -> None:
    said = inspected(model, "--loss", loss)
    assert said["model"] == "Loaded(forecast.onnx)"
    assert [(layer["kind"], layer["hidden"], layer["length"]) for layer in said["layers"]] == [("LSTM", 4, 20)] * 2
    assert said["layers"][0]["inputNames"] == ["wind", "rain", "sun"]
    assert [(each["side"], each["name"], each["columns"]) for each in said["series"]] == [
        ("input", "x", ["wind", "rain", "sun"]),
        ("output", "forecast", ["0"]),
    ]
    with tg.no_grad():
        state = (np.full((2, 1, 4), value, np.float32) for value in (0.25, 0.5))
        forecast = tg.io.load_model(model)(X[:, None], *state).forecast.numpy()
    assert said["loss"] == pytest.approx(float(forecast[-1].sum() if loss == "last" else forecast.sum()), rel=1e-5)
    assert said["lossIs"] == "the sum of forecast" + (" at the last step" if loss == "last" else "")


def test_plots_and_windows(model: Path, tmp_path: Path) -> None:
    said = inspected(model, "--steps", "5:9", "--units", ":2", "--plots", tmp_path / "plots")
    assert said["first"] == 5 and said["layers"][0]["units"] == [0, 1]
    names = ["cell-states.png", "gates.png", "gradient-flow.png", "saturation.png"]
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == names


def test_a_checkpoint_has_its_own_vocabulary(runs: tuple[Path, str], tmp_path: Path) -> None:
    (tmp_path / "ids.csv").write_text("ids\n3\n1\n2\n0\n")
    page = tmp_path / "page.html"
    succeed_here("inspect", runs[0] / "best.safetensors", "--input", tmp_path / "ids.csv", "--out", page)
    said = contents_of(page)[0]
    assert len(said["items"][0]["tokens"]) == 4 and "predictions" in said["items"][0]


def test_a_saved_model_is_a_folder(tmp_path: Path) -> None:
    ids, page = tmp_path / "ids.npy", tmp_path / "page.html"
    np.save(ids, np.array([[1, 2, 3, 4]], np.int32))
    succeed_here("inspect", model_path("tf_keras3_lstm"), "--input", ids, "--out", page)
    layers = contents_of(page)[0]["layers"]
    assert [(layer["kind"], layer["hidden"], layer["length"]) for layer in layers] == [("LSTM", 4, 4)]


def test_bad_input_is_one_line(model: Path, head: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "x0.npy", X[:0])
    for arguments, message in [
        ([model, "--input", "x.npy", "--text", "a"], "--input: expected either inputs or a text, got both"),
        ([model, "--input", "h0=x.npy"], "--input: expected h0 (2, batch, 4) float32, got shape (20, 3)"),
        ([head, "--input", "x.npy"], "trace: no recurrent layer or cell of the model has run"),
        ([head], f"{head}: not a whole safetensors file"),
        ([tmp_path], f"{tmp_path}: not the folder of a run; for the folder of a SavedModel, give --input"),
        (["none.onnx", "--input", "x.npy"], "none.onnx: No such file"),
    ]:
        result = run_here("inspect", *arguments, "--out", "page.html", cwd=tmp_path)
        assert result.returncode == 2 and result.stderr.count("\n") == 1
        assert result.stderr.startswith(f"error: {message}")
        assert result.stderr.endswith("; for a model from a different program, give --input\n") == (arguments == [head])
    assert not (tmp_path / "page.html").exists()


class Tagger(tg.nn.Module):
    """Scores of 3 tags for each of 4 words."""

    def __init__(self, scores: int) -> None:
        self.embedding, self.lstm, self.head = tg.nn.Embedding(4, 3), LSTM(3, 4), tg.nn.Linear(4, scores)

    def forward(self, ids: tg.Tensor) -> tg.Tensor:
        return self.head(self.lstm(self.embedding(ids))[0])


@pytest.mark.parametrize("scores", [3, 4])
def test_words_of_a_model_of_ids(scores: int, tmp_path: Path) -> None:
    """Scores of all words are predictions of the next one."""
    tg.io.export_onnx(Tagger(scores), tmp_path / "tagger.onnx", {"ids": np.zeros((5, 2), np.int64)})
    (tmp_path / "words.txt").write_text("the\ncat\nNew York\nsat\n")
    (tmp_path / "ids.csv").write_text("0\n1\n3\n")
    arguments = ["tagger.onnx", "--input", "ids.csv", "--vocabulary", "words.txt", "--out", "page.html"]
    succeed_here("inspect", *arguments, cwd=tmp_path)
    said = contents_of(tmp_path / "page.html")[0]
    assert said["items"][0]["tokens"] == ["the", "cat", "sat"]
    assert ("predictions" in said["items"][0]) == (scores == 4)
    assert len(said["series"]) == (scores == 3)
    (tmp_path / "words.txt").write_text("the\ncat\n")
    result = run_here("inspect", *arguments, cwd=tmp_path)
    assert result.returncode == 2 and "a vocabulary of 2 is for ids from 0 to 1" in result.stderr
