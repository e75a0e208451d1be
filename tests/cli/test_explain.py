"""The command explain: the story of its tiny memory, a step of a checkpoint, and how it waits on a terminal."""

import os
import re
import subprocess
import sys
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from commands import COMMAND, environment, fail_here, succeed, succeed_here
from hypothesis import given

import tinygrad_lstm as tg
from tinygrad_lstm.cli.brackets import CHARACTERS, YES, answers, one_hot, trained_memory
from tinygrad_lstm.cli.shared import load_model
from tinygrad_lstm.inspect import trace
from tinygrad_lstm.models import LSTM

TITLES = ["Concatenation", "Forget gate", "Input gate and candidate", "Cell update", "Output gate", "Hidden state"]
READ = "the dog,\nand the fox"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained model of two layers of six units."""
    out = tmp_path_factory.mktemp("run")
    (out / "book").write_text("the dog, and the quick fox.\n" * 20)
    options = ["--steps", 20, "--hidden", 6, "--layers", 2, "--seq-len", 8, "--batch", 4]
    succeed("train", "--data", out / "book", "--out", out, *options)
    return out / "last.safetensors"


@pytest.fixture(scope="module")
def memory() -> LSTM:
    return trained_memory()


def titles(printed: str) -> list[str]:
    return re.findall(r"^── (.*?) ─+$", printed, re.MULTILINE)


def told(printed: str) -> list[list[tuple[str, float]]]:
    """What each step says of each unit's forget gate, input gate and output gate: what it does, and the cell state."""
    pattern = r"^Unit \d: the \w+ gate is \d\.\d+: (.*) the (?:cell state|candidate), (-?\d\.\d+)\.$"
    steps = printed.split("Concatenation")[1:]
    return [[(done, float(state)) for done, state in re.findall(pattern, step, re.MULTILINE)] for step in steps]


# -- the tiny memory --------------------------------------------------------------------------------------------------


def test_without_a_checkpoint_a_tiny_memory_is_explained() -> None:
    printed = succeed_here("explain")
    assert titles(printed) == TITLES
    assert "Step 2 reads '[':  (.[.)?\n" + " " * 21 + "^\n" in printed
    assert all(len(line.replace("\N{COMBINING TILDE}", "")) <= 80 for line in printed.splitlines())
    # Unit 0 remembers the round bracket; unit 1 takes note of the square one; both are silent.
    [((kept, c), _, (left, _), (written, g), (hidden, _), (also_hidden, _))] = told(printed)
    assert (kept, left, written, hidden, also_hidden) == ("keep", "do not write", "write", "hide", "hide")
    assert c > 0.8 and g > 0.8
    assert succeed_here("explain") == printed
    assert succeed("explain", TINYGRAD_LSTM_COMPILED="0") == printed


def test_the_documentation_shows_what_it_prints() -> None:
    """Numbers are not compared: a different processor may round their last digits differently."""
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "look-inside.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"^── Forget gate.*?^```", page, re.MULTILINE | re.DOTALL)
    printed = re.sub(r"\d\.\d+", "#", succeed_here("explain"))
    lines = re.sub(r"\d\.\d+", "#", shown).splitlines()[:-1]
    kept = [line for line in lines if "%" not in line and "█" not in line]
    assert len(kept) > 10 and all(line in printed.splitlines() for line in kept)


def test_the_following_steps_keep_forget_and_answer() -> None:
    printed = succeed_here("explain", "--steps", 4)
    assert titles(printed) == TITLES * 4
    _, between, closed, asked = told(printed)
    assert [done for done, _ in between] == ["keep"] * 2 + ["do not write"] * 2 + ["hide"] * 2
    assert [done for done, _ in closed[:2]] == ["forget", "keep"]
    assert [done for done, _ in asked[4:]] == ["show", "show"]
    assert abs(asked[4][1]) < 0.1 and asked[5][1] > 0.8


def test_the_tiny_memory_explains_a_different_text() -> None:
    printed = succeed_here("explain", "--text", "[]((?", "--units", 1)
    assert "Step 4 reads '?':  []((?" in printed
    assert "Unit 1:" in printed and "Unit 0:" not in printed
    assert succeed_here("explain", "--text", "[]((?", "--units", "0, 1", "--step", 0).count("Unit 0:") == 5


@given(st.text(CHARACTERS.characters, min_size=1, max_size=30))
def test_the_tiny_memory_answers_right(memory: LSTM, text: str) -> None:
    out, _ = memory(tg.tensor(one_hot(text)[:, None]))
    open_brackets = [False, False]
    for character, answer in zip(text, out[:, 0].tolist(), strict=True):
        for k, pair in enumerate(("()", "[]")):
            if character in pair:
                open_brackets[k] = character == pair[0]
            assert answer[k] == pytest.approx(YES * (character == "?" and open_brackets[k]), abs=0.25)


def test_answers() -> None:
    np.testing.assert_array_equal(
        answers("?(?[)?]") / np.float32(YES), [[0, 0]] * 2 + [[1, 0]] + [[0, 0]] * 2 + [[0, 1], [0, 0]]
    )


def test_training_a_memory_does_not_change_the_random_state() -> None:
    tg.manual_seed(1)
    expected = tg.rand(3).tolist()
    tg.manual_seed(1)
    trained_memory()
    assert tg.rand(3).tolist() == expected


# -- a checkpoint -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [0, 1])
def test_a_step_of_a_checkpoint(checkpoint: Path, layer: int) -> None:
    step = READ.index(",")
    printed = succeed_here("explain", checkpoint, "--text", READ, "--step", step, "--layer", layer, "--units", "5,2")
    assert printed.startswith(f"{checkpoint}, layer {layer} of 2: 6 units.\n")
    assert f"Step {step} reads ',':  {READ.replace(chr(10), ' ')}\n" in printed
    assert titles(printed) == TITLES
    saved, model = load_model(str(checkpoint), None)
    traced = trace(model, saved.vocabulary.encode(READ)[:, None])[layer]
    for unit in (5, 2):
        for gate in "ifo":
            assert (
                f" = {traced.values[gate][step, 0, unit]:.3f}  " in re.findall(rf"unit {unit}  {gate} = .*", printed)[0]
            )
        for state in "ch":
            after = traced.values[state][step, 0, unit]
            assert re.findall(rf"unit {unit}  {state}' = .*", printed)[0].endswith(f" = {after:z.3f}")


def test_by_default_the_last_step_is_explained(checkpoint: Path) -> None:
    printed = succeed_here("explain", checkpoint, "--text", READ)
    assert f"Step {len(READ) - 1} reads 'x':" in printed and "layer 0 of 2" in printed
    assert {"Unit 0:", "Unit 1:"} == set(re.findall(r"^Unit \d:", printed, re.MULTILINE))


def test_of_a_long_text_the_surroundings_are_shown(checkpoint: Path) -> None:
    text = "the dog and the fox, " * 20
    step = text.index(",", 200)
    reading, pointer = succeed_here("explain", checkpoint, "--text", text, "--step", step).splitlines()[3:5]
    assert len(reading) <= 80 and reading[pointer.index("^")] == ","


# -- terminals --------------------------------------------------------------------------------------------------------


def test_a_terminal_without_the_signs_gets_others() -> None:
    printed = succeed("explain", PYTHONIOENCODING="ascii")
    assert printed.isascii() and printed.count("?") == succeed_here("explain").count(
        "?"
    )  # which stands for what is missing
    assert "f = sigmoid(W_f*[h, x] + b_f)" in printed and "c' = f * c + i * c~" in printed and "##########" in printed


@pytest.mark.skipif(sys.platform == "win32", reason="this system has no pseudo-terminals")
class TestOnATerminal:
    def pages(self, keys: str, *arguments: str) -> list[str]:
        """What is shown up to each wait, and after the last one, when these lines are typed."""
        text = re.sub(r"\x1b\[[\d;]*m", "", self.shown(keys, *arguments))
        return re.split(r"(?<=q: end )", text)

    def shown(self, keys: str, *arguments: str, **more: str) -> str:
        """What a terminal is sent, when these lines are typed."""
        import pty

        own, theirs = pty.openpty()
        process = subprocess.Popen(
            [*COMMAND, "explain", *arguments],
            env={**environment(), "TERM": "xterm", "COLUMNS": "80", "LINES": "24", **more},
            stdin=theirs,
            stdout=theirs,
            stderr=subprocess.PIPE,
        )
        os.close(theirs)
        shown, typed = b"", keys.splitlines(keepends=True)
        try:
            while part := os.read(own, 4096):
                shown += part
                if shown.endswith(b"q: end "):
                    os.write(own, (typed.pop(0) if typed else "q\n").encode())
        except OSError:  # how Linux says that the other end was closed
            pass
        finally:
            os.close(own)
        assert process.stderr is not None and process.stderr.read() == b""
        process.stderr.close()
        assert process.wait() == 0 and not typed
        return shown.decode().replace("\r\n", "\n")

    def test_it_waits_after_each_stage_and_continues_with_the_next_step(self) -> None:
        pages = self.pages("\n" * 23)
        assert [titles(page) for page in pages] == [[title] for title in TITLES * 4]
        assert pages[0].endswith("Enter: forget gate   q: end ")
        assert pages[5].endswith("Enter: step 3   q: end ") and "Step 3 reads '.':" in pages[6]
        assert all(page.count("\n") < 24 for page in pages)

    @pytest.mark.parametrize("last", ["q\n", " Q\n", "\x04"])
    def test_it_ends_when_asked_to(self, last: str) -> None:
        assert [titles(page) for page in self.pages(f"\n{last}")[:2]] == [TITLES[:1], TITLES[1:2]]

    def test_as_many_steps_as_asked_for(self) -> None:
        assert len(self.pages("\n" * 11, "--steps", "2", "--step", "0")) == 12

    def test_all_at_once(self) -> None:
        (page,) = self.pages("", "--all")
        assert titles(page) == TITLES

    def test_colours_are_left_out_on_request(self) -> None:
        assert "\x1b[36m" in self.shown("q\n") and "\x1b[3" not in self.shown("q\n", NO_COLOR="1")


# -- bad input --------------------------------------------------------------------------------------------------------


def test_unknown_characters(checkpoint: Path) -> None:
    assert (
        fail_here("explain", "--text", "(a)") == "the character 'a' at position 1 is not among the 6 of the vocabulary"
    )
    message = fail_here("explain", checkpoint, "--text", "the Dog")
    assert message.startswith("the character 'D' at position 4 is not among the ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--step", 6], "--step: expected a number from 0 to 5, the last character's, got 6"),
        (["--step", -1], "--step: expected a number from 0 to 5, the last character's, got -1"),
        (["--steps", 0], "--steps: expected a number from 1 to 4, as the text goes on, got 0"),
        (["--step", 4, "--steps", 3], "--steps: expected a number from 1 to 2, as the text goes on, got 3"),
        (["--text", ""], "--text: expected at least one character, got none"),
        (["--layer", 1], "--layer: expected a number from 0 to 0, got 1"),
        (["--units", "2"], "--units: expected numbers from 0 to 1 with commas between, got '2'"),
        (["--units", "0,-1"], "--units: expected numbers from 0 to 1 with commas between, got '0,-1'"),
        (["--units", "0;1"], "--units: expected numbers from 0 to 1 with commas between, got '0;1'"),
        (["--units", ""], "--units: expected numbers from 0 to 1 with commas between, got ''"),
        (["--device", "tpu"], "unknown device 'tpu'"),
    ],
)
def test_options_out_of_range(arguments: list[object], message: str) -> None:
    assert fail_here("explain", *arguments).startswith(message)


def test_a_file_that_is_not_a_checkpoint(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("the dog")
    assert "not a whole safetensors file" in fail_here("explain", tmp_path / "text", "--text", "t")
    assert fail_here("explain", tmp_path / "none", "--text", "t") == f"{tmp_path / 'none'}: No such file or directory"
    assert fail_here("explain", checkpoint) == "--text: expected the text that the model is to read, got none"
