"""`tinygrad-lstm inspect`: the page of a trained model, and what it says about bad input."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import run_here, succeed, succeed_here

import tinygrad_lstm as tg
from tinygrad_lstm.models import CharLM
from tinygrad_lstm.train import TextCheckpoint

TEXT = 'the quick brown fox "jumps" over the lazy dog,\nand the dog sleeps on.\n' * 20


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    (folder / "book.txt").write_text(TEXT)
    tiny = ["--hidden", "6", "--layers", "2", "--seq-len", "8", "--batch", "4", "--steps", "20"]
    succeed("train", "--data", folder / "book.txt", "--out", folder, *tiny)
    return folder / "best.safetensors"


def contents(path: Path) -> Any:
    (data,) = re.findall(r'id="trace">(.*?)</script>', path.read_text(encoding="utf-8"))
    return json.loads(data)


def loss_of(checkpoint: Path, text: str, last: bool) -> float:
    saved = TextCheckpoint.load(checkpoint)
    model = CharLM(len(saved.vocabulary), saved.options.embedding, 6, 2)
    model.load_state_dict(saved.weights)
    ids = tg.tensor(saved.vocabulary.encode(text)).unsqueeze(1)
    logits = model(ids[:-1])[0].squeeze(1)
    targets = ids[1:].squeeze(1)
    return float(tg.cross_entropy(logits[-1:] if last else logits, targets[-1:] if last else targets).item())


@pytest.mark.parametrize("loss", ["last", "mean"])
def test_it_writes_a_page_of_the_text(checkpoint: Path, tmp_path: Path, loss: str) -> None:
    path = tmp_path / "page.html"
    text = 'the dog "jumps"'
    printed = succeed_here("inspect", checkpoint, "--text", text, "--out", path, "--loss", loss)
    assert printed.startswith("a trace of 15 characters takes ")
    assert f"page: {path} (" in printed
    said = contents(path)
    assert "".join(said["items"][0]["tokens"]) == text
    assert [(layer["name"], layer["hidden"]) for layer in said["layers"]] == [("lstm.l0", 6), ("lstm.l1", 6)]
    assert said["loss"] == pytest.approx(loss_of(checkpoint, text, last=loss == "last"), rel=1e-5)
    assert said["items"][0]["predictions"]["next"] == [*text[1:], None]
    assert {*said["layers"][0]["items"][0]["gradients"]} == {"c", "h"}


def test_without_a_text_it_shows_one_that_was_not_trained_on(checkpoint: Path, tmp_path: Path) -> None:
    succeed_here("inspect", checkpoint.parent, "--out", tmp_path / "page.html")
    shown = "".join(contents(tmp_path / "page.html")["items"][0]["tokens"])
    held_back = TEXT[-len(TEXT) // 10 :]
    assert len(shown) > 50 and shown in held_back


def test_plots_are_drawn_too(checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "plots"
    printed = succeed_here(
        "inspect", checkpoint, "--text", TEXT[:60], "--out", tmp_path / "page.html", "--plots", folder
    )
    names = ["cell-states.png", "gates.png", "gradient-flow.png", "saturation.png", "text.png"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert all(path.read_bytes().startswith(b"\x89PNG") and str(path) in printed for path in folder.iterdir())


@pytest.mark.parametrize(("cell", "plots"), [("mlstm", 5), ("rnn", 3)])
def test_plots_of_other_cells(cell: str, plots: int, tmp_path: Path) -> None:
    """With a state that is a matrix; without a cell state and gates."""
    (tmp_path / "book.txt").write_text(TEXT)
    tiny = ["--hidden", "6", "--seq-len", "8", "--batch", "4", "--steps", "1"]
    succeed_here("train", "--cell", cell, "--data", "book.txt", "--out", "run", *tiny, cwd=tmp_path)
    succeed_here("inspect", "run", "--text", TEXT[:60], "--plots", "plots", cwd=tmp_path)
    assert len([*(tmp_path / "plots").iterdir()]) == plots


def test_a_window(checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    succeed_here("inspect", checkpoint, "--text", TEXT[:40], "--out", path, "--steps", "10:20", "--units", ":3")
    said = contents(path)
    assert "".join(said["items"][0]["tokens"]) == TEXT[10:20]
    assert said["first"] == 10
    assert [layer["units"] for layer in said["layers"]] == [[0, 1, 2]] * 2


def refused(*arguments: object) -> str:
    """The one line that the command prints to say what is wrong, wherever on its way it finds that."""
    result = run_here("inspect", *arguments)
    assert result.returncode == 2
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    return result.stderr


def test_bad_input_is_one_line(checkpoint: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    for arguments, message in [
        (["--text", "the ZOO"], "the character 'Z' at position 4 is not among the"),
        (["--text", "t"], "--text: expected at least two characters, of which the second can be predicted, got 1"),
        (["--text", "the", "--data", checkpoint], "--text: expected either a text or --data, got both"),
        (["--text", ""], "--text: expected at least two characters"),
        (["--text", "the", "--steps", "5"], "--steps: expected two numbers as in 0:500, got 5"),
        (["--text", "the", "--steps", "7:9"], "page: slice(7, 9, None) of 3 steps has nothing to show"),
        (["--text", "the", "--units", "9:12"], "page: layer 'lstm.l0' has units 0 to 5; got slice(9, 12, None)"),
        (["--text", "the", "--out", ""], "--out: expected a path, got an empty string"),
        (
            ["--text", "the", "--out", tmp_path / "no" / "page.html"],
            f"{tmp_path}/no/page.html: No such file or directory",
        ),
    ]:
        assert message in refused(checkpoint, *([] if "--out" in arguments else ["--out", page]), *arguments)
    assert "No such file" in refused(tmp_path / "none.safetensors", "--text", "the")
    assert not page.exists()


def test_a_place_that_cannot_be_written_is_found_before_the_work(checkpoint: Path, tmp_path: Path) -> None:
    for place in (tmp_path / "no" / "page.html", tmp_path):
        result = run_here("inspect", checkpoint.parent, "--out", place)
        assert (result.returncode, result.stdout) == (2, "")
        assert str(place) in result.stderr and result.stderr.count("\n") == 1


def test_too_much_for_a_page_gets_advice(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text("the " * 15_000)
    asked = [checkpoint, "--data", tmp_path / "long.txt", "--out", tmp_path / "page.html"]
    said = refused(*asked)
    assert "60000 steps × 6 units × 2 layers would make a file of " in said
    (end,) = re.findall(r"give --steps 0:(\d+) or --units 0:\d$", said.strip())
    succeed_here("inspect", *asked, "--steps", f"0:{end}")
    assert (tmp_path / "page.html").stat().st_size < 25_000_000


def test_the_trace_is_of_the_model_in_use(checkpoint: Path, tmp_path: Path) -> None:
    """Dropout drops nothing, and the same text makes the same page."""
    for name in ("a.html", "b.html"):
        succeed_here("inspect", checkpoint, "--text", TEXT[:30], "--out", tmp_path / name)
    first, second = contents(tmp_path / "a.html"), contents(tmp_path / "b.html")
    assert first == second
    assert np.isfinite(first["loss"])
