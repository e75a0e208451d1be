"""Options of the commands: where training starts from, unknown characters, threads."""

import gzip
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import COMMAND, environment, fail, fail_here, run_here, succeed, succeed_here

from tinygrad_lstm.train import TextCheckpoint

TEXT = "the quick brown fox jumps over the lazy dog, and the dog sleeps on.\n" * 9
OTHER = "The Fox isn't lazy; the dog is!\n" * 20
TINY = ["--hidden", "6", "--seq-len", "8", "--batch", "4"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two texts, and a run on one of them."""
    place = tmp_path_factory.mktemp("options")
    (place / "book.txt").write_text(TEXT)
    (place / "other.txt").write_text(OTHER)
    succeed("train", "--data", place / "book.txt", "--out", place / "run", "--steps", 30, *TINY)
    return place


@pytest.fixture(scope="module")
def trained(folder: Path) -> Path:
    return folder / "run" / "best.safetensors"


# -- where training starts from ---------------------------------------------------------------------------------------


def test_training_starts_from_a_models_weights_on_a_different_text(folder: Path, trained: Path, tmp_path: Path) -> None:
    source = TextCheckpoint.load(trained)
    options = ["--steps", 1, "--lr", 1e-30, "--dropout", 0.1, *TINY[2:]]  # at this rate the weights stay as they are
    succeed_here("train", "--init-from", trained, "--data", folder / "other.txt", "--out", tmp_path, *options)
    made = TextCheckpoint.load(tmp_path / "last.safetensors")
    assert (made.options.hidden, made.options.dropout, made.options.lr) == (6, 0.1, 1e-30)
    assert made.vocabulary.characters == "".join(sorted(set(TEXT + OTHER)))
    for name in source.weights:
        if name.startswith("lstm"):
            np.testing.assert_allclose(made.weights[name], source.weights[name], atol=1e-20)
    rows = made.vocabulary.encode(source.vocabulary.characters)
    np.testing.assert_allclose(made.weights["embedding.weight"][rows], source.weights["embedding.weight"], atol=1e-20)
    printed = succeed_here("train", "--resume", "--data", folder / "other.txt", "--out", tmp_path, "--steps", 3)
    assert "step 3/3" in printed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--hidden", 7], "--hidden: the model to start from has 6, but 7 was given"),
        (["--layers", 2], "--layers: the model to start from has 1, but 2 was given"),
        (["--forget-bias", 1], "--forget-bias: the model to start from has 0.0, but 1.0 was given"),
        (["--resume"], "--init-from: expected none together with --resume, got "),
    ],
)
def test_what_contradicts_the_model_to_start_from_is_refused(
    folder: Path, trained: Path, tmp_path: Path, options: list[object], message: str
) -> None:
    given = ["train", "--init-from", trained, "--data", folder / "other.txt", "--out", tmp_path / "new", *options]
    assert fail_here(*given).startswith(message)
    assert not (tmp_path / "new").exists()


def test_a_model_to_start_from_that_is_not_there(tmp_path: Path) -> None:
    message = fail_here("train", "--init-from", tmp_path / "none.safetensors", "--out", tmp_path / "new")
    assert message == f"{tmp_path / 'none.safetensors'}: No such file or directory"


def test_the_forget_bias_is_an_option_of_the_run(folder: Path, tmp_path: Path) -> None:
    options = ["--steps", 1, "--lr", 1e-30, "--forget-bias", 2.5]
    succeed_here("train", "--data", folder / "book.txt", "--out", tmp_path, *options, *TINY)
    made = TextCheckpoint.load(tmp_path / "last.safetensors")
    np.testing.assert_allclose(made.weights["lstm.bias_l0"][6:12], 2.5)
    assert fail_here("train", "--forget-bias", "nan").startswith("--forget-bias: expected a finite number, got nan")


# -- unknown characters -----------------------------------------------------------------------------------------------


def test_eval_skips_unknown_characters(folder: Path, trained: Path, tmp_path: Path) -> None:
    advice = "; --unknown skip leaves such characters out"
    assert fail_here("eval", trained, "--data", folder / "other.txt").endswith(advice)
    result = run_here("eval", trained, "--data", folder / "other.txt", "--unknown", "skip")
    known = "".join(character for character in OTHER if character in TEXT)
    left_out = len(OTHER) - len(known)
    assert result.returncode == 0
    assert result.stderr == f"skipped {left_out} of {len(OTHER)} characters, which the model does not know\n"
    (tmp_path / "known.txt").write_text(known)
    assert result.stdout == succeed_here("eval", trained, "--data", tmp_path / "known.txt")


def test_eval_and_inspect_read_texts_as_train_does(trained: Path, tmp_path: Path) -> None:
    """In any encoding, compressed, and from standard input."""
    text, plain, wide = TEXT[:300], tmp_path / "a.txt", tmp_path / "b.txt.gz"
    plain.write_text(text)
    wide.write_bytes(gzip.compress(text.encode("utf-16")))
    expected = succeed_here("eval", trained, "--data", plain)
    assert succeed_here("eval", trained, "--data", wide, "--encoding", "utf-16") == expected
    more = ["--out", tmp_path / "page.html"]
    assert "a trace of 300 char" in succeed_here("inspect", trained, "--data", wide, "--encoding", "utf-16", *more)
    for command, options, printed in (("eval", [], expected), ("inspect", more, "a trace of 300 characters")):
        arguments = [*COMMAND, command, trained, "--data", "-", *options]
        result = subprocess.run(arguments, input=text, capture_output=True, text=True, env=environment(), check=True)
        assert printed in result.stdout
    message = "--encoding: expected one that Python knows, such as utf-8, latin-1 or cp1252, got 'klingon'"
    for command in ("eval", "inspect"):
        assert fail_here(command, trained, "--data", wide, "--encoding", "klingon") == message
    assert fail_here("inspect", trained, "--encoding", "utf-8") == "--encoding: expected --data with it, got none"


def test_sample_skips_unknown_characters(trained: Path) -> None:
    options = ["--length", 20, "--seed", 0]
    assert fail_here("sample", trained, "--prompt", "the Fox", *options).endswith("leaves such characters out")
    result = run_here("sample", trained, "--prompt", "the Fox", "--unknown", "skip", *options)
    assert result.stderr == "skipped 1 of 7 characters, which the model does not know\n"
    assert result.stdout == succeed_here("sample", trained, "--prompt", "the ox", *options)


def test_inspect_skips_unknown_characters(trained: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    result = run_here("inspect", trained, "--text", "the Fox", "--unknown", "skip", "--out", page)
    assert result.stderr == "skipped 1 of 7 characters, which the model does not know\n"
    assert "a trace of 6 characters" in result.stdout and page.exists()


@pytest.mark.parametrize(
    ("command", "options", "message"),
    [
        ("eval", ["--data", "{upper}"], "--data: expected at least two characters that the model knows, got 0"),
        ("sample", ["--prompt", "ÄÖÜ"], "--prompt: expected at least one character that the model knows, got none"),
        ("inspect", ["--text", "ÄÖÜ"], "--text: expected at least two characters, of which the second"),
    ],
)
def test_a_text_of_only_unknown_characters_is_refused(
    trained: Path, tmp_path: Path, command: str, options: list[str], message: str
) -> None:
    (tmp_path / "upper.txt").write_text("ÄÖÜ")
    given = [option.format(upper=tmp_path / "upper.txt") for option in options]
    result = run_here(command, trained, *given, "--unknown", "skip", cwd=tmp_path)
    assert result.returncode == 2
    said, error = result.stderr.splitlines()
    assert said == "skipped 3 of 3 characters, which the model does not know"
    assert error.startswith(f"error: {message}")


# -- threads ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 3])
def test_training_uses_the_threads_asked_for(folder: Path, tmp_path: Path, threads: int) -> None:
    out = tmp_path / "run"
    options = ["--data", folder / "book.txt", "--out", out, "--steps", 1, *TINY]
    assert f" {threads} thread" in succeed_here("train", *options, "--threads", threads).splitlines()[0]


def test_threads_must_be_at_least_one(folder: Path, tmp_path: Path) -> None:
    message = fail_here("train", "--data", folder / "book.txt", "--out", tmp_path / "run", "--threads", 0)
    assert message == "--threads: expected at least 1, got 0"


def test_the_rate_is_shown_at_each_report(folder: Path, tmp_path: Path) -> None:
    printed = succeed_here(
        "train", "--data", folder / "book.txt", "--out", tmp_path, "--steps", 120, "--lr", 0.01, *TINY
    )
    assert re.search(r"step 120/120 .* lr 0\.00069 ", printed)


# -- limits, rates and what is read -----------------------------------------------------------------------------------


def test_every_option_of_training_is_one_of_the_run(folder: Path, tmp_path: Path) -> None:
    given = {"embedding": 5, "epochs": 2, "patience": 9, "schedule": "cosine", "clip": 0.5, "weight_decay": 0.01}
    options = [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", value)]
    printed = succeed("train", "--data", folder / "book.txt", "--out", tmp_path, "--tie", *options, *TINY)
    made = TextCheckpoint.load(tmp_path / "last.safetensors")
    assert {name: getattr(made.options, name) for name in given} == given
    assert made.options.tie and made.options.steps is None and made.epoch == 2
    assert f"resume with: python -m tinygrad_lstm train --resume --out {tmp_path} --epochs 4" in printed.replace(
        sys.executable, "python"
    )
    assert len(succeed_here("sample", tmp_path / "best.safetensors", "--prompt", "the", "--length", 5)) >= 8
    printed = succeed_here(
        "train", "--resume", "--out", tmp_path, "--minutes", made.seconds / 60 + 0.02, "--patience", 1
    )
    assert re.search(r"\nstep \d+  loss", printed)
    message = "--clip: the run to resume has 0.5, but 2.0 was given"
    assert fail_here("train", "--resume", "--out", tmp_path, "--clip", 2) == message
    assert (
        fail_here("train", "--schedule", "steps") == "--schedule: expected one of linear, cosine, constant, got steps"
    )


def test_the_text_is_read_from_standard_input(folder: Path, tmp_path: Path) -> None:
    arguments = ["train", "--data", "-", "--out", str(tmp_path), "--steps", "2", *TINY]
    result = subprocess.run([*COMMAND, *arguments], input=TEXT, capture_output=True, text=True, env=environment())
    assert (result.returncode, result.stderr) == (0, "")
    assert f" on {len(TEXT)} characters of standard input, {len(set(TEXT))} different ones, " in result.stdout
    assert " characters of the run's text, " in succeed_here("train", "--resume", "--out", tmp_path, "--steps", 3)
    assert TextCheckpoint.load(tmp_path / "last.safetensors").sources == ["-"]
    for given, message in (
        (["--data", "-"], "--data: expected a text from standard input, got none"),
        (["--data", "-", "--data", "-"], "--data: expected standard input (-) once, got 2"),
    ):
        assert fail("train", *given, "--out", tmp_path / "new") == message


def test_what_was_read_is_said(folder: Path, tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    (texts / "a.txt.gz").write_bytes(gzip.compress("ein Bär\n".encode("latin-1") * 50))
    (texts / "b.txt").write_bytes("zwei Bären\n".encode("latin-1") * 50)
    arguments = ["train", "--data", texts, "--out", tmp_path / "run", "--steps", 1, *TINY]
    printed = succeed_here(*arguments, "--encoding", "latin-1")
    assert " parameters on 951 characters of 2 files, 10 different ones, on cpu" in printed
    assert fail_here(*arguments[:3], "--out", tmp_path / "new").endswith(
        "a.txt.gz: not UTF-8 text: byte 0xe4 at offset 5"
    )
    message = "--encoding: expected one that Python knows, such as utf-8, latin-1 or cp1252, got 'klingon'"
    assert fail_here(*arguments[:3], "--out", tmp_path / "new", "--encoding", "klingon") == message
    assert fail_here("train", "--encoding", "utf-8") == "--encoding: expected --data with it, got none"


def test_several_samples_are_drawn_from_the_likeliest(trained: Path) -> None:
    command = ["sample", trained, "--prompt", "the", "--length", 10, "--seed", 0]
    first, second = re.fullmatch(
        "--- sample 1 of 2 ---\n(the.{10})\n--- sample 2 of 2 ---\n(the.{10})\n",
        succeed_here(*command, "--count", 2, "--temperature", 2),
        re.DOTALL,
    ).groups()  # type: ignore[union-attr]
    assert first != second and succeed_here(*command, "--temperature", 2) == first + "\n"
    assert succeed_here(*command, "--top-p", 1e-9, "--temperature", 2) == succeed_here(*command, "--temperature", 0)
    assert succeed_here(*command) == succeed_here(*command, "--temperature", 0.7, "--top-p", 0.9)
    assert fail_here(*command, "--top-p", 0) == "--top-p: expected above 0 and at most 1, got 0.0"
    assert fail_here(*command, "--count", 0) == "--count: expected at least 1, got 0"


# -- cells ------------------------------------------------------------------------------------------------------------


def test_any_cell_is_trained_resumed_and_sampled(folder: Path, tmp_path: Path) -> None:
    book, page = folder / "book.txt", tmp_path / "page.html"
    succeed_here(
        "train", "--data", book, "--cell", "mlstm", "--layers", 2, *TINY, "--out", tmp_path / "a", "--steps", 4
    )
    best = tmp_path / "a" / "best.safetensors"
    assert TextCheckpoint.load(best).options.cell == "mlstm"
    assert "step 6/6" in succeed_here("train", "--resume", "--out", tmp_path / "a", "--steps", 6)
    assert len(succeed_here("sample", best, "--prompt", "the", "--length", 5)) >= 8
    succeed_here("inspect", best, "--text", "the dog", "--out", page)
    assert page.stat().st_size > 10_000
    assert (
        fail_here("explain", best, "--text", "the") == "CHECKPOINT: expected a model with the cell 'lstm', got 'mlstm'"
    )
    message = fail_here("train", "--init-from", best, "--data", book, "--out", tmp_path / "b", "--cell", "mgu")
    assert message == "--cell: the model to start from has mlstm, but mgu was given"


def test_an_unknown_cell_is_refused(folder: Path) -> None:
    given = ["train", "--data", folder / "book.txt"]
    message = "--cell: expected a cell of the atlas, such as mgu, min_gru, lstm_cifg, got 'mgx'"
    assert fail_here(*given, "--cell", "mgx") == message
    message = '--forget-bias: expected 0 for a cell except "lstm", got 1.0'
    assert fail_here(*given, "--cell", "mgu", "--forget-bias", 1) == message
