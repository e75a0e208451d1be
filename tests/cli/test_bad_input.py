"""The commands: what they say of bad input."""

import ctypes
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import fail, fail_here, run, run_here, succeed
from safetensors.numpy import save_file
from small_book import TEXT, TINY

from tinygrad_lstm import cli
from tinygrad_lstm.io import checkpoint as checkpoint_file
from tinygrad_lstm.train import TextCheckpoint


def as_anyone() -> None:
    """Called in the child: lets file permissions hold for the superuser too."""
    drop_from_bounding_set, override, read_and_search = 24, 1, 2  # PR_CAPBSET_DROP, CAP_DAC_...
    prctl = ctypes.CDLL(None).prctl
    for capability in (override, read_and_search):
        prctl(drop_from_bounding_set, capability, 0, 0, 0)  # fails, as it may, for whoever has none


def test_a_missing_text(tmp_path: Path) -> None:
    assert fail_here("train", "--data", tmp_path / "none.txt") == f"{tmp_path / 'none.txt'}: No such file or directory"


def test_an_empty_text(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").touch()
    assert fail_here("train", "--data", tmp_path / "empty.txt") == f"{tmp_path / 'empty.txt'}: the file is empty"


def test_a_folder_without_text_files(tmp_path: Path) -> None:
    assert f"{tmp_path}: the folder contains no text" in fail_here("train", "--data", tmp_path)


def test_too_short_a_text(book: Path) -> None:
    message = fail_here("train", "--data", book, "--seq-len", 50, "--batch", 20)
    assert "the text has 612 characters; seq-len 50 and batch 20 need at least 1112" in message


def test_an_undecodable_text(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes("naïve".encode("latin-1"))
    assert fail_here("train", "--data", tmp_path / "latin.txt").endswith(
        "latin.txt: not UTF-8 text: byte 0xef at offset 2"
    )


@pytest.mark.parametrize("prompt", ["the Q", "the \N{SNOWMAN}"])
def test_an_unknown_character_in_a_prompt(runs: tuple[Path, str], prompt: str) -> None:
    message = fail_here("sample", runs[0] / "best.safetensors", "--prompt", prompt)
    assert message.startswith(f"the character {prompt[-1]!r} at position 4 is not among the 30 of the vocabulary")


def test_an_empty_prompt(runs: tuple[Path, str]) -> None:
    assert "--prompt: expected at least one character" in fail_here(
        "sample", runs[0] / "best.safetensors", "--prompt", ""
    )


@pytest.mark.parametrize("length", [0, 5, 500, -1])
def test_a_truncated_checkpoint(runs: tuple[Path, str], tmp_path: Path, length: int) -> None:
    path = tmp_path / "last.safetensors"
    path.write_bytes((runs[0] / "last.safetensors").read_bytes()[:length])
    assert fail_here("sample", path, "--prompt", "t").startswith(f"{path}: not a whole safetensors file")
    if length == -1:
        assert fail_here("train", "--resume", "--out", tmp_path).startswith(f"{path}: not a whole safetensors file")
        assert fail_here("eval", path, "--data", path).startswith(f"{path}: not a whole safetensors file")


def test_a_checkpoint_of_something_else(runs: tuple[Path, str], book: Path, tmp_path: Path) -> None:
    assert "not a whole safetensors file" in fail_here("sample", book, "--prompt", "t")
    save_file({"x": np.ones(2)}, tmp_path / "theirs")
    assert "not a checkpoint of tinygrad_lstm" in fail_here("sample", tmp_path / "theirs", "--prompt", "t")
    checkpoint_file.save(tmp_path / "ours", {"x": np.ones(2)})
    assert "not one of a training run" in fail_here("eval", tmp_path / "ours", "--data", book)
    assert fail_here("sample", tmp_path, "--prompt", "t") == f"{tmp_path}: Is a directory"
    assert fail_here("sample", "/dev/null", "--prompt", "t").startswith("/dev/null: ")
    contents = checkpoint_file.load(runs[0] / "best.safetensors")
    checkpoint_file.save(tmp_path / "odd", {**contents, "weights": {}})
    assert fail_here("eval", tmp_path / "odd", "--data", book).startswith(
        f"{tmp_path / 'odd'}: its contents are invalid"
    )
    assert fail_here("sample", tmp_path / "none", "--prompt", "t") == f"{tmp_path / 'none'}: No such file or directory"


def test_a_model_that_is_not_finite(runs: tuple[Path, str], tmp_path: Path) -> None:
    saved = TextCheckpoint.load(runs[0] / "best.safetensors")
    weights = {name: np.full_like(array, np.nan) for name, array in saved.weights.items()}
    replace(saved, weights=weights).save(tmp_path / "nan")
    result = run_here("sample", tmp_path / "nan", "--prompt", "the")
    assert (result.returncode, result.stdout) == (2, "the\n")
    assert result.stderr == "error: sample: the highest of the model's logits is nan; are its weights finite?\n"


def test_a_text_with_a_character_outside_the_vocabulary(runs: tuple[Path, str], tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text(TEXT + "Ω", encoding="utf-8")
    message = fail_here("eval", runs[0] / "best.safetensors", "--data", other)
    assert message.startswith("the character 'Ω' at position 612 is not among the 30 of the vocabulary")
    message = fail_here("train", "--resume", "--out", runs[0], "--data", other, "--steps", 40)
    assert "the text is not the one that this run was started with" in message


@pytest.mark.skipif(sys.platform == "win32", reason="this system has no limit on a process's memory")
@pytest.mark.parametrize("wrong", [{"hidden": 10**5}, {"layers": 10**7}, {"embedding": 10**8}])
def test_a_checkpoint_that_asks_for_more_than_it_holds(
    runs: tuple[Path, str], book: Path, tmp_path: Path, wrong: dict[str, int]
) -> None:
    """Every command that makes a model of it refuses at once, in little memory."""
    saved = TextCheckpoint.load(runs[0] / "last.safetensors")
    path = tmp_path / "last.safetensors"
    saved.with_options(replace(saved.options, steps=40, **wrong)).save(path)

    import resource

    def little_memory() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (2**32, 2**32))

    for arguments in (
        ["sample", path, "--prompt", "t"],
        ["train", "--data", book, "--resume", "--out", tmp_path],
        ["train", "--data", book, "--init-from", path, "--out", tmp_path / "new"],
    ):
        message = fail(*arguments, before=little_memory, OPENBLAS_NUM_THREADS="1")
        assert message.startswith(f"{path}: its contents are invalid (the options "), message


def test_a_folder_that_cannot_be_written(book: Path, tmp_path: Path) -> None:
    message = fail_here("train", "--data", book, "--out", book / "runs", *TINY)
    assert message == f"{book / 'runs'}: Not a directory"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the superuser cannot be kept from reading and writing")
def test_what_may_not_be_read_or_written(book: Path, tmp_path: Path) -> None:
    closed, unlisted, unread = tmp_path / "closed", tmp_path / "texts" / "below", tmp_path / "unread.txt"
    closed.mkdir(mode=0o500)
    unlisted.mkdir(parents=True)
    (tmp_path / "texts" / "a.txt").write_text(TEXT)
    unlisted.chmod(0)
    unread.write_text(TEXT)
    unread.chmod(0)
    try:
        message = fail("train", "--data", book, "--out", closed, *TINY, before=as_anyone)
        assert message == f"{closed}: Permission denied"
        assert fail("train", "--data", unread, before=as_anyone) == f"{unread}: Permission denied"
        assert fail("train", "--data", unlisted.parent, before=as_anyone) == f"{unlisted}: Permission denied"
        assert fail("sample", unread, "--prompt", "t", before=as_anyone) == f"{unread}: Permission denied"
    finally:
        unlisted.chmod(0o700)


@pytest.mark.skipif(sys.platform == "win32", reason="this system has no limit on the size of files")
def test_a_full_disk(book: Path, tmp_path: Path) -> None:
    import resource

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    arguments = ["train", "--data", book, "--out", tmp_path, "--steps", 1, *TINY]
    result = run(*arguments, before=limit, PYTHONDONTWRITEBYTECODE="1")
    assert result.returncode == 2
    assert result.stderr == f"error: {tmp_path / 'best.safetensors'}: File too large\n"
    assert not [path for path in tmp_path.iterdir() if "safetensors" in path.name]


def test_an_earlier_run_is_not_overwritten(runs: tuple[Path, str], book: Path) -> None:
    before = {path: path.read_bytes() for path in runs[0].iterdir()}
    message = fail_here("train", "--data", book, "--out", runs[0], *TINY)
    assert message == f"{runs[0]}: holds a run of 30 steps; --resume continues it, or give another --out"
    assert {path: path.read_bytes() for path in runs[0].iterdir()} == before
    assert fail_here("train", "--data", book, "--out", "") == "--out: expected a path, got an empty string"


def test_a_device_that_is_not_there(runs: tuple[Path, str], book: Path) -> None:
    out = runs[0] / "elsewhere"
    assert "unknown device 'tpu'" in fail_here("train", "--data", book, "--device", "tpu", "--out", out)
    assert "CuPy" in fail_here("train", "--data", book, "--device", "cuda:77", "--out", out)
    assert "CuPy" in fail("sample", runs[0] / "best.safetensors", "--prompt", "t", TINYGRAD_LSTM_DEVICE="cuda:77")
    assert not out.exists()
    # What is named goes before the environment.
    command = ["sample", runs[0] / "best.safetensors", "--prompt", "t", "--length", 1, "--device", "cpu"]
    succeed(*command, TINYGRAD_LSTM_DEVICE="cuda:77")
    command = ["train", "--data", book, "--out", out, "--steps", 2, "--device", "cpu", *TINY]
    succeed(*command, TINYGRAD_LSTM_DEVICE="cuda:77")
    succeed("train", "--resume", "--out", out, "--steps", 3, "--device", "cpu", TINYGRAD_LSTM_DEVICE="cuda:77")


def test_resuming_with_other_options(runs: tuple[Path, str], book: Path, tmp_path: Path) -> None:
    message = fail_here("train", "--resume", "--out", runs[0], "--hidden", 7)
    assert message == "--hidden: the run to resume has 6, but 7 was given"
    message = fail_here("train", "--resume", "--out", runs[0])
    assert message == "the run has done 30 steps already; give it more than that in all"
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "last.safetensors").write_bytes((runs[0] / "last.safetensors").read_bytes())
    (tmp_path / "odd" / "metrics.jsonl").write_text("{}\n")
    message = fail_here("train", "--resume", "--steps", 40, "--out", tmp_path / "odd", "--data", book)
    assert message.startswith(f"{tmp_path / 'odd' / 'metrics.jsonl'}: line 1 is not a line of metrics")
    message = fail_here("train", "--resume", "--out", tmp_path)
    assert message.startswith(f"{tmp_path / 'last.safetensors'}: there is no run to resume")


@pytest.mark.parametrize(
    ("option", "value"), [("hidden", 0), ("steps", -1), ("lr", 0.0), ("dropout", 1.0), ("seq-len", 0), ("batch", 0)]
)
def test_an_option_out_of_its_range(book: Path, tmp_path: Path, option: str, value: float) -> None:
    message = fail_here("train", "--data", book, "--out", tmp_path / "out", f"--{option}", value)
    assert message.startswith(f"--{option}: expected ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("option", "value"),
    [("temperature", -1), ("temperature", "nan"), ("temperature", "inf"), ("top-k", 0), ("length", 0), ("seed", -1)],
)
def test_a_sample_option_out_of_its_range(runs: tuple[Path, str], option: str, value: object) -> None:
    message = fail_here("sample", runs[0] / "best.safetensors", "--prompt", "t", f"--{option}", value)
    assert message.startswith(f"--{option}: expected at least ")


def test_an_invalid_number() -> None:
    result = run_here("train", "--steps", "many")
    assert result.returncode == 2 and "--steps" in result.stderr and "Traceback" not in result.stderr


def test_a_loss_that_is_not_finite(book: Path, tmp_path: Path) -> None:
    result = run_here("train", "--data", book, "--out", tmp_path, "--lr", 1e38, "--steps", 60, *TINY)
    assert result.returncode == 2
    # Whether the sum of the infinite terms is inf or nan is the kernels' own affair.
    assert re.fullmatch(
        r"error: the loss is (nan|inf) at step 20: training diverged; try a smaller lr than 1e\+38\n", result.stderr
    )


def test_notes_of_an_error_are_shown_in_its_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing() -> None:
        error = np.linalg.LinAlgError("Singular\nmatrix")
        error.add_note("in op 'inverse'")
        raise error

    monkeypatch.setattr(cli, "app", failing)
    monkeypatch.setattr(cli, "end_at_signals", lambda: None)
    monkeypatch.setattr(cli, "open_standard_streams", lambda: None)
    monkeypatch.setattr(cli, "settle_output", lambda: None)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: Singular matrix in op 'inverse'\n"
