"""What the laboratory's page asks for, computed without a browser."""

import json
import shutil
import zipfile
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tinygrad_lstm.io import load_weights
from tinygrad_lstm.models import CharLM
from tinygrad_lstm.train import TextCheckpoint

TEXT = "the cat sat on the mat, and the dog sat on the log. " * 60


@pytest.fixture
def lab(laboratory: ModuleType, tmp_path: Path) -> Any:
    return laboratory.Laboratory(tmp_path / "run")


def trained(lab: Any, steps: int = 10, **options: Any) -> list[dict[str, Any]]:
    """The reports of a run."""
    lab.start(TEXT, **{"size": "small", "cell": "lstm", "steps": steps, "seed": 3} | options)
    reports = [json.loads(lab.advance())]
    while not reports[-1]["finished"]:
        reports.append(json.loads(lab.advance()))
    return reports


def assert_same_weights(first: Path, second: Path, step: int) -> None:
    a, b = TextCheckpoint.load(first), TextCheckpoint.load(second)
    assert a.step == b.step == step and a.weights.keys() == b.weights.keys()
    for name, array in a.weights.items():
        np.testing.assert_array_equal(array, b.weights[name])


def test_there_is_no_run_at_first(lab: Any) -> None:
    assert json.loads(lab.status()) is None


def test_a_run_reports_and_is_kept(lab: Any, laboratory: ModuleType) -> None:
    reports = trained(lab, 12)
    assert [report["step"] for report in reports] == [5, 10, 12]
    assert [len(report["reports"]) for report in reports] == [1, 1, 1]
    assert reports[-1]["reports"][0]["validation_loss"] is not None
    kept = json.loads(laboratory.Laboratory(lab.run.path).status())
    assert kept["step"] == 12 and kept["text"] == TEXT and kept["seed"] == 3
    assert kept["reports"] == [line for report in reports for line in report["reports"]]


def test_a_run_that_is_read_again_continues_as_if_it_had_not_ended(
    lab: Any, laboratory: ModuleType, tmp_path: Path
) -> None:
    trained(lab, 10)
    shutil.copytree(lab.run.path, tmp_path / "copy")
    for each in (lab, laboratory.Laboratory(tmp_path / "copy")):
        each.resume(10, "")
        while not json.loads(each.advance())["finished"]:
            pass
    assert_same_weights(lab.run.last, tmp_path / "copy" / "last.safetensors", 20)


def test_sampling_and_looking_inside_do_not_change_the_run(lab: Any, laboratory: ModuleType, tmp_path: Path) -> None:
    trained(lab, 15)
    other = laboratory.Laboratory(tmp_path / "other")
    other.start(TEXT, "small", "lstm", 15, 3)
    while not json.loads(other.advance())["finished"]:
        other.sample("the", 20, 0.7)
        other.page("")
    assert_same_weights(lab.run.last, other.run.last, 15)


@pytest.mark.parametrize("cell", ["lstm", "lstm_peephole", "gru_reset_after", "mgu", "rnn"])
def test_every_cell_of_the_page_is_trained_and_shown(lab: Any, cell: str) -> None:
    trained(lab, 5, cell=cell)
    sample = json.loads(lab.sample("the?", 20, 0.7))
    assert (sample["step"], sample["prompt"], len(sample["text"])) == (5, "the", 20)
    assert b"<title>Inside the model after 5 steps</title>" in lab.page("the cat?")


def test_the_page_of_the_folder_offers_known_cells_and_sizes(laboratory: ModuleType) -> None:
    from tinygrad_lstm.models.atlas import ATLAS

    page = (Path(laboratory.__file__ or "").parent / "web" / "index.html").read_text(encoding="utf-8")
    for select, known in (("size", laboratory.SIZES), ("cell", ATLAS)):
        options = page.partition(f'<select id="{select}">')[2].partition("</select>")[0]
        values = [part.partition('"')[0] for part in options.split('value="')[1:]]
        assert values and set(values) <= set(known)


def test_a_learning_rate_that_is_too_large_is_named(lab: Any) -> None:
    lab.start(TEXT, "small", "rnn", 300, 0, 1e38)
    with pytest.raises(FloatingPointError, match=r"try a smaller lr than 1e\+38"):
        while not json.loads(lab.advance())["finished"]:
            pass


@pytest.mark.parametrize("length", [60, 200, 1000])
def test_a_short_text_has_a_smaller_batch(lab: Any, length: int) -> None:
    lab.start(TEXT[:length], "small", "lstm", 5, 0)
    assert json.loads(lab.advance())["finished"]


def test_a_text_that_is_too_short_is_refused_and_the_run_stays(lab: Any) -> None:
    trained(lab, 5)
    with pytest.raises(ValueError, match="the text has 9 characters"):
        lab.start("too short", "small", "lstm", 5, 0)
    assert json.loads(lab.status())["step"] == 5


def test_weights_leave_and_come_back(lab: Any, laboratory: ModuleType, tmp_path: Path) -> None:
    trained(lab, 5)
    content, sample = lab.weights("checkpoint"), lab.sample("the", 30, 0.7)
    other = laboratory.Laboratory(tmp_path / "other")
    status = json.loads(other.load(content))
    assert status["step"] == 5 and status["text"] == "" and status["reports"] == []
    assert other.sample("the", 30, 0.7) == sample
    other.resume(5, TEXT)  # the text that it was trained on
    assert json.loads(other.advance())["step"] == 10
    with pytest.raises(ValueError, match="expected at least two characters"):
        laboratory.Laboratory(tmp_path / "other").page("?")


def test_a_new_run_may_begin_with_the_earlier_weights(lab: Any) -> None:
    trained(lab, 5)
    before = TextCheckpoint.load(lab.run.last)
    lab.start(TEXT + "NEW WORDS", "large", "mgu", 5, 0, continued=True)
    after = TextCheckpoint.load(lab.run.last)
    assert after.step == 0 and after.options.hidden == before.options.hidden and after.options.cell == "lstm"
    np.testing.assert_array_equal(after.weights["lstm.weight_hh_l0"], before.weights["lstm.weight_hh_l0"])


def test_a_file_that_is_no_checkpoint_is_refused_and_the_run_stays(lab: Any) -> None:
    trained(lab, 5)
    for content in (b"", b"no checkpoint", lab.weights("pytorch")):
        with pytest.raises(ValueError, match="safetensors file") as caught:
            lab.load(content)
        assert "loaded.safetensors" not in str(caught.value)
    assert json.loads(lab.status())["step"] == 5
    assert {path.name for path in lab.run.path.iterdir()} <= {
        "last.safetensors", "best.safetensors", "metrics.jsonl", "text.utf8", "loss.png",
    }  # fmt: skip


def test_weights_under_pytorchs_names(lab: Any, tmp_path: Path) -> None:
    trained(lab, 5)
    (tmp_path / "weights.safetensors").write_bytes(lab.weights("pytorch"))
    names = set(load_weights(tmp_path / "weights.safetensors"))
    assert {"lstm.weight_ih_l0", "lstm.bias_ih_l0", "lstm.bias_hh_l0", "output.weight"} <= names


def test_removing_leaves_nothing(lab: Any) -> None:
    trained(lab, 5)
    lab.page("")
    lab.remove()
    assert json.loads(lab.status()) is None and {path.suffix for path in lab.run.path.iterdir()} <= {".png"}


def test_the_folder_has_only_the_library_and_its_licences(built: Path) -> None:
    with zipfile.ZipFile(BytesIO((built / "tinygrad_lstm.zip").read_bytes())) as archive:
        names = archive.namelist()
    assert "tinygrad_lstm/models/cells.py" in names and "tinygrad_lstm/inspect/web/page.html" in names
    assert not [name for name in names if "/cli/" in name or name.endswith((".c", ".h", ".cu"))]
    apart = sum(path.stat().st_size for path in built.iterdir() if path.is_file())
    assert apart < 5e6  # beside the interpreter and NumPy
    licences = (built / "LICENSES.txt").read_text(encoding="utf-8")
    assert all(words in licences for words in ("MIT License", "Mozilla Public License", "NumPy Developers"))


def test_checkpoints_of_the_laboratory_are_models(lab: Any) -> None:
    trained(lab, 5)
    assert CharLM.load(lab.run.last).lstm.hidden_size == 64
