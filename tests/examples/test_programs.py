"""examples/: each program runs in an empty folder, is short, and prints what is true; notebooks are their programs."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from tinygrad_lstm.data import read_sequences

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
PICTURES = ROOT / "docs" / "pictures"
PROGRAMS = sorted(EXAMPLES.glob("*.py"))
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


def run(program: Path, folder: Path, *arguments: object) -> str:
    """What a program prints."""
    if missing := [
        name
        for name in ("matplotlib", "sklearn")
        if name in program.read_text(encoding="utf-8") and not find_spec(name)
    ]:
        pytest.skip(f"{' and '.join(missing)}: not installed (the extra 'examples')")
    result = subprocess.run(
        [sys.executable, "-W", "error", program, *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def number(pattern: str, printed: str) -> float:
    """The number in the only line that matches."""
    (found,) = re.findall(pattern, printed)
    return float(found)


def check_own_text(printed: str) -> None:
    losses = [float(loss) for loss in re.findall(r"step \d+: (\d\.\d\d) nats", printed)]
    assert len(losses) == 7 and losses[-1] < losses[0] - 0.3 and losses[-1] < 1.6
    assert abs(number(r"Unit \d+ has learnt: .* \(correlation (-?\d\.\d\d)\)", printed)) > 0.5


def check_own_cell(printed: str) -> None:
    assert number(r"TwoScales: mean squared error (.*)", printed) < 0.001  # that of always 0.5 is 0.04
    assert "g_slow = " in printed
    (found,) = re.findall(r"stream answers (.*), the whole sequence (.*); right is (.*)", printed)
    streamed, whole, right = map(float, found)
    assert abs(streamed - whole) < 1.1e-4 and abs(whole - right) < 0.1


def check_digits_by_rows(printed: str) -> None:
    assert number(r"validation, (.*)% in the test", printed) > 85
    after = [int(share) for share in re.findall(r"(\d+)%", printed.split("right after each row:")[1])]
    assert len(after) == 8 and after[-1] > after[3] + 40


def check_stream(printed: str) -> None:
    assert "equal to the last bit after the restart: True" in printed
    assert 0 < number(r"alarm came at step \d+, (-?\d+) steps later", printed) < 50


def check_gestures(printed: str) -> None:
    assert number(r"^(.*)% of 40 new recordings are right", printed) > 85


def check_bring_a_model(printed: str) -> None:
    assert "lstm.weight_hh_l0    float32 (64, 16)" in printed
    assert number(r"difference from PyTorch: (.*)", printed) < 1e-6
    before, after = (float(loss) for loss in re.findall(r"loss: (.*) nats a character before, (.*) after", printed)[0])
    assert before > 3.2 and after < 2.5
    if find_spec("onnx") and find_spec("onnxruntime"):
        assert number(r"onnxruntime from the stream: (.*)", printed) < 1e-4


def check_recordings(folder: Path) -> None:
    """Those that gestures.py wrote are the repository's, except for the last digits, which depend on the machine."""
    made, kept = (
        read_sequences(path / "gestures.csv", target="gesture", id="recording", time="t") for path in (folder, EXAMPLES)
    )
    assert made.names == kept.names and made.targets.tolist() == kept.targets.tolist()
    for one, other in zip(made.sequences, kept.sequences, strict=True):
        np.testing.assert_allclose(one, other, atol=0.0101)


CHECKS: dict[str, Callable[[str], None]] = {
    "bring_a_model": check_bring_a_model,
    "digits_by_rows": check_digits_by_rows,
    "gestures": check_gestures,
    "own_cell": check_own_cell,
    "own_text": check_own_text,
    "stream": check_stream,
}

WRITES = {
    "bring_a_model": ["bring_a_model.png", "adapters.safetensors", *["adapted.onnx"] * bool(find_spec("onnx"))],
    "digits_by_rows": ["digits_by_rows.png"],
    "gestures": ["gestures.csv", "gestures.png"],
    "own_cell": ["own_cell.png"],
    "own_text": ["own_text.png", "own_text.html", "own_text"],
    "stream": ["stream.png", "sensor.safetensors"],
}


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_a_program_runs_in_an_empty_folder(program: Path, tmp_path: Path) -> None:
    printed = run(program, tmp_path)
    CHECKS[program.stem](printed)
    assert (tmp_path / f"{program.stem}.png").read_bytes().startswith(b"\x89PNG")
    if program.stem == "gestures":
        check_recordings(tmp_path)
    said = re.search(r"and writes (.+?)\.\n", program.read_text(encoding="utf-8"))
    assert said and {path.name for path in tmp_path.iterdir()} == {*WRITES[program.stem]}
    assert all(name in said[1] for name in WRITES[program.stem])


def test_a_text_of_ones_own(tmp_path: Path) -> None:
    """A short one, in which there are no quotes."""
    text = tmp_path / "book.txt"
    text.write_text("To be or not to be\n\nthat is the question: ünd $so wéiter.\n" * 400, encoding="utf-8")
    program, few_steps = (EXAMPLES / "own_text.py").read_text(encoding="utf-8"), tmp_path / "own_text.py"
    few_steps.write_text(program.replace("steps=1400", "steps=200"), encoding="utf-8")
    printed = run(few_steps, tmp_path, text)
    assert re.search(r"^23,200 characters", printed) and printed.count(" nats") == 1 and "has learnt: " in printed


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_a_program_is_short_and_shown(program: Path) -> None:
    assert len(program.read_text(encoding="utf-8").splitlines()) < 80
    page = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert f"]({program.name})" in page and f"](../docs/pictures/{program.stem}.png)" in page
    picture = (PICTURES / f"{program.stem}.png").read_bytes()
    assert picture.startswith(b"\x89PNG") and len(picture) < 80_000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_its_program(path: Path) -> None:
    """Its text and code in their order are the program's; it was run, and shows the picture."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if not "".join(cell["source"]).startswith("import sys\n\nsys.argv =")]
    text, *rest = ["".join(cell["source"]) for cell in cells]
    marked = "".join(
        f"\n{source}\n" if cell["cell_type"] == "code" else f"\n# %% {source}"
        for cell, source in zip(cells[1:], rest, strict=True)
    )

    def words(source: str) -> str:
        return " ".join(re.sub(r"^# (?!%%)", "", source, flags=re.MULTILINE).split())

    program = path.with_suffix(".py").read_text(encoding="utf-8")
    assert words(f'"""{text}\n"""{marked}') == words(program)
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not any(output["output_type"] == "error" for output in outputs)


def test_two_programs_are_notebooks_too() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["own_cell", "own_text"]
