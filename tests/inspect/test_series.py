"""The inputs and outputs of a model that the page draws as lines."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from page_files import contents_of, unpacked
from traced_models import drawn

import tinygrad_lstm as tg
from tinygrad_lstm.inspect import page, trace
from tinygrad_lstm.models import LSTM

T, B, C = 6, 2, 3


class Forecast(tg.nn.Module):
    """Two series to a series, the states, and a summary of each sequence; or batch first."""

    def __init__(self, batch_first: bool = False) -> None:
        self.lstm = LSTM(C + 1, 4, batch_first=batch_first)
        self.head = tg.nn.Linear(4, 2)

    def forward(self, x: Any, y: Any) -> dict[str, tg.Tensor]:
        out, (h, _) = self.lstm(tg.cat([x, y[..., None]], -1))
        return {"forecast": self.head(out), "out": out, "last": h[0]}


@pytest.mark.parametrize("batch_first", [False, True])
def test_inputs_and_outputs_of_each_sequence(batch_first: bool, tmp_path: Path) -> None:
    """An output that is the state of a layer, and one that has no steps, are not drawn."""
    x, y = drawn(T, B, C).astype("f4"), drawn(T, B).astype("f4")
    given = (x.swapaxes(0, 1), y.T) if batch_first else (x, y)
    traced = trace(Forecast(batch_first), *given)
    path = page(traced, tmp_path / "page.html", names={"x": ["a", "b", "<c>"]}, steps=slice(1, 5))
    said, texts = contents_of(path)
    assert said["series"] == [
        {"side": "input", "name": "x", "columns": ["a", "b", "<c>"], "length": T, "total": C, "perStep": 1},
        {"side": "input", "name": "y", "columns": ["0"], "length": T, "total": 1, "perStep": 1},
        {"side": "output", "name": "forecast", "columns": ["0", "1"], "length": T, "total": 2, "perStep": 1},
    ]
    forecast = traced.all_outputs["forecast"]
    forecast = forecast.swapaxes(0, 1) if batch_first else forecast
    for b, item in enumerate(said["items"]):
        for spec, array in zip(item["series"], (x, y[:, :, None], forecast), strict=True):
            np.testing.assert_allclose(unpacked(spec, texts), array[1:5, b], atol=1e-4 * np.abs(array).max())


def test_many_columns(tmp_path: Path) -> None:
    traced = trace(LSTM(100, 3), drawn(T, 1, 100).astype("f4"))
    (said,) = contents_of(page(traced, tmp_path / "page.html"))[0]["series"]
    assert said["columns"] == [*map(str, range(32))] and said["total"] == 100


class Classifier(tg.nn.Module):
    def __init__(self) -> None:
        self.lstm = LSTM(C, 20)

    def forward(self, x: tg.Tensor) -> tuple[tg.Tensor, ...]:
        out, _ = self.lstm(x)
        return out[-1, :, :2], out[-1, :, 0], out[-1]


def test_outputs_without_steps_are_numbers(tmp_path: Path) -> None:
    traced = trace(Classifier(), drawn(T, B, C).astype("f4"), lengths=None)
    said, _ = contents_of(page(traced, tmp_path / "page.html"))
    for b, item in enumerate(said["items"]):
        assert [(each["name"], each["total"]) for each in item["results"]] == [
            ("output", 2), ("output_1", 1), ("output_2", 20),
        ]  # fmt: skip
        for each in item["results"]:
            expected = traced.all_outputs[each["name"]][b].ravel()[:12]
            np.testing.assert_allclose(each["values"], expected, rtol=1e-5)


class Framed(tg.nn.Module):
    """Frames of a sound (B, samples), with features (B, columns, samples)."""

    def __init__(self) -> None:
        self.lstm = LSTM(4, 3)

    def forward(self, sound: tg.Tensor, features: tg.Tensor) -> tg.Tensor:
        del features
        return self.lstm(sound.reshape(2, -1, 4).swapaxes(0, 1))[0].sum(-1)


def test_a_sound_has_several_numbers_for_each_step(tmp_path: Path) -> None:
    sound, features = drawn(2, 20).astype("f4"), drawn(2, 3, 10).astype("f4")
    said, texts = contents_of(page(trace(Framed(), sound, features), tmp_path / "page.html"))
    assert [(each["columns"], each["perStep"]) for each in said["series"]] == [
        (["lowest", "highest"], 4),
        (["0", "1", "2"], 2),
        (["0"], 1),
    ]
    frames = sound.reshape(2, 5, 4)
    for b, item in enumerate(said["items"]):
        found = unpacked(item["series"][0], texts)
        np.testing.assert_allclose(found, np.stack([frames[b].min(-1), frames[b].max(-1)], -1), atol=1e-3)
        np.testing.assert_allclose(
            unpacked(item["series"][1], texts), features[b].reshape(3, 5, 2).mean(-1).T, atol=1e-3
        )


def test_names_of_a_layers_inputs(tmp_path: Path) -> None:
    traced = trace(LSTM(C, 3, num_layers=2), drawn(T, 1, C).astype("f4"))
    said = contents_of(page(traced, tmp_path / "page.html", names={"x": "abc"}))[0]
    assert [layer["inputNames"] for layer in said["layers"]] == [["a", "b", "c"], []]


def test_names_that_are_refused(tmp_path: Path) -> None:
    traced = trace(LSTM(C, 3), drawn(T, 1, C).astype("f4"))
    for names, message in [
        ({"z": ["a"]}, "page: names has 'z'; the inputs and outputs are x, output"),
        ({"x": ["a"]}, "page: 'x' has 3 columns, and names has 1 names for it"),
    ]:
        with pytest.raises(ValueError, match=re.escape(message)):
            page(traced, tmp_path / "page.html", names=names)
    assert not [*tmp_path.iterdir()]
