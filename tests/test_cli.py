"""The commands, run as processes: what they print, what they leave, and what they say about bad input."""

import ctypes
import errno
import json
import os
import re
import resource
import shlex
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import COMMAND, environment, fail, reset_signals, run, succeed
from safetensors.numpy import save_file

import tinygrad_lstm as tg
from tinygrad_lstm import cli
from tinygrad_lstm.io import checkpoint as checkpoint_file
from tinygrad_lstm.models import CharLM
from tinygrad_lstm.train import Checkpoint, Trainer

TEXT = "the quick brown fox jumps over the lazy dog, and the dog sleeps on.\n" * 9
TINY = ["--hidden", "6", "--seq-len", "8", "--batch", "4"]
STOPPING = "\nstopping after this step; Ctrl-C again quits without saving\n"


def as_anyone() -> None:
    """Called in the child: lets file permissions hold for the superuser too."""
    drop_from_bounding_set, override, read_and_search = 24, 1, 2  # PR_CAPBSET_DROP, CAP_DAC_...
    prctl = ctypes.CDLL(None).prctl
    for capability in (override, read_and_search):
        prctl(drop_from_bounding_set, capability, 0, 0, 0)  # fails, as it may, for whoever has none


def popen(*arguments: object, command: list[str] = COMMAND, cwd: Path | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*command, *map(str, arguments)],
        cwd=cwd,
        env=environment(),
        preexec_fn=reset_signals,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("book") / "book.txt"
    path.write_text(TEXT)
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, book: Path) -> tuple[Path, str]:
    """The folder of a short run, and what it printed."""
    out = tmp_path_factory.mktemp("runs") / "deep" / "er"
    return out, succeed("train", "--data", book, "--out", out, "--steps", 30, *TINY)


# -- what they do -----------------------------------------------------------------------------------------------------


def test_train_leaves_its_files_and_says_where(runs: tuple[Path, str]) -> None:
    out, printed = runs
    expected = {"best.safetensors", "last.safetensors", "metrics.jsonl", "text.utf8"}
    assert expected <= {path.name for path in out.iterdir()} <= expected | {"loss.png"}
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [20, 30]
    best = lines[-1]["validation_loss"]
    assert f"step 30/30  loss {lines[-1]['loss']:.3f}" in printed
    assert f"validation loss: {best:.3f} nats a character ({best / np.log(2):.3f} bits)" in printed
    assert str(out / "best.safetensors") in printed and str(out / "last.safetensors") in printed
    assert len(printed.partition("a sample:\n\n")[2].partition("\n\nfiles:")[0]) > 100
    assert f"sample {out / 'best.safetensors'} --prompt" in printed


def test_train_goes_on_as_it_says(runs: tuple[Path, str], book: Path, tmp_path: Path) -> None:
    out, _ = runs
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("last.safetensors", "metrics.jsonl", "text.utf8"):
        (copy / name).write_bytes((out / name).read_bytes())
    # The text is found in the run's folder though it is not named.
    printed = succeed("train", "--resume", "--out", copy, "--steps", 45, cwd=tmp_path)
    assert "resuming" in printed and "step 45/45" in printed
    assert_resumed_exactly(copy, book, planned=30, stopped=30, steps=45)


def assert_resumed_exactly(out: Path, book: Path, planned: int, stopped: int, steps: int) -> None:
    """Checks that the run has the weights of one in this process that was stopped and resumed at the same steps."""
    resumed = Checkpoint.load(out / "last.safetensors")
    assert resumed.step == steps
    options = replace(resumed.options, steps=planned, log_every=1)
    trainer = Trainer.start(CharLM.from_options, book.read_text(), options, out / "again")
    trainer.run(lambda progress: trainer.stop() if progress.step == stopped else None)
    assert trainer.step == stopped
    checkpoint = Checkpoint.load(trainer.last_path)
    trainer = Trainer.resume(CharLM.from_options, book.read_text(), checkpoint, out / "again", steps)
    trainer.run()
    for name, array in trainer.model.state_dict().items():
        assert resumed.weights[name].tobytes() == array.tobytes(), name


# The command with steps that take a while, so that few of them are done when a signal arrives.
SLOW = """
import sys, time
from tinygrad_lstm import cli
from tinygrad_lstm.models import CharLM

loss = CharLM.loss

def slow(*args):
    print("in a step", flush=True)
    time.sleep(0.3)
    return loss(*args)

CharLM.loss = slow
cli.main()
"""


def test_ctrl_c_saves_and_says_how_to_go_on(book: Path, tmp_path: Path) -> None:
    out = tmp_path / "a run"
    arguments = ["--data", book, "--out", out, "--steps", 1000000, "--dropout", 0.2, *TINY]
    process = popen("train", *arguments, command=[sys.executable, "-c", SLOW])
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("training")
        assert process.stdout.readline() == "in a step\n"
        process.send_signal(signal.SIGINT)
        printed, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert errors == STOPPING
    found = re.search(r"interrupted at step (\d+) of 1000000; saved in (.*)\n", printed)
    assert found is not None and found[2] == str(out / "last.safetensors")
    step = int(found[1])
    assert step >= 1
    assert Checkpoint.load(out / "last.safetensors").step == step
    shown = re.search(r"resume with: (.*)\n", printed)
    assert shown is not None
    resume = shlex.split(shown[1])
    assert resume == ["-c", "train", "--resume", "--out", str(out)]  # after the program's own name
    succeed(*resume[1:], "--steps", step + 5)
    assert_resumed_exactly(out, book, planned=1000000, stopped=step, steps=step + 5)


# The command with a model whose steps last; those of the training, where it trains.
WAITING = """
import sys, time
from tinygrad_lstm import cli
from tinygrad_lstm.models import CharLM

loss = CharLM.loss

def wait(model, *args):
    if sys.argv[1] == "train" and not model.training:
        return loss(model, *args)
    print("in a step", flush=True)
    time.sleep(60)

CharLM.loss = wait
cli.main()
"""


def test_a_second_ctrl_c_quits_and_says_what_is_saved(runs: tuple[Path, str], book: Path, tmp_path: Path) -> None:
    for arguments, said in (
        (["--data", book, "--out", tmp_path, *TINY], "quit at step 1; nothing is saved\n"),
        (
            ["--resume", "--steps", 50, "--out", runs[0]],
            f"quit at step 31; step 30 is saved in {runs[0] / 'last.safetensors'}\n",
        ),
    ):
        process = popen("train", *arguments, command=[sys.executable, "-c", WAITING])
        try:
            assert process.stdout is not None and process.stderr is not None
            while process.stdout.readline() != "in a step\n":
                assert process.poll() is None
            process.send_signal(signal.SIGINT)
            assert process.stderr.readline() + process.stderr.readline() == STOPPING
            process.send_signal(signal.SIGINT)
            printed, errors = process.communicate(timeout=60)
        finally:
            process.kill()
            process.wait()
        assert (process.returncode, errors) == (130, "")
        assert said in printed
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["sample", "eval"])
def test_ctrl_c_ends_other_commands_without_a_traceback(runs: tuple[Path, str], book: Path, name: str) -> None:
    if name == "sample":
        process = popen("sample", runs[0] / "best.safetensors", "--prompt", "the", "--length", 10**7)
    else:
        waiting = [sys.executable, "-c", WAITING]
        process = popen("eval", runs[0] / "best.safetensors", "--data", book, command=waiting)
    try:
        assert process.stdout is not None
        assert process.stdout.read(3) == {"sample": "the", "eval": "in "}[name]
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode > 0
    assert "Traceback" not in errors


@pytest.mark.skipif(sys.platform == "win32", reason="this system has no pseudo-terminals")
def test_a_terminal_shows_a_live_bar(book: Path, tmp_path: Path) -> None:
    import pty

    own, theirs = pty.openpty()
    arguments = ["train", "--data", str(book), "--out", str(tmp_path), "--steps", "25", *TINY]
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        env={**environment(), "TERM": "xterm", "COLUMNS": "80"},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.PIPE,
    )
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(own, 4096):
            shown += part
    except OSError as error:
        assert error.errno == errno.EIO  # how Linux says that the other end was closed
    finally:
        os.close(own)
    assert process.stderr is not None and process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 0
    assert re.search(rb"step 25/25  loss \d[^\r]* chars/s", shown)
    assert b"\r" in shown and "━".encode() in shown
    assert b"step 25: validation " in shown


def test_without_data_the_manual_is_the_text(tmp_path: Path) -> None:
    printed = succeed("train", "--steps", 1, "--hidden", 4, cwd=tmp_path)
    assert (tmp_path / "runs" / "char-lm" / "last.safetensors").exists()
    characters = re.search(r"parameters on ([\d,]+) characters", printed)
    assert characters is not None and int(characters[1].replace(",", "")) > 100_000


def test_without_out_each_run_has_a_folder_of_its_own(book: Path, tmp_path: Path) -> None:
    base = tmp_path / "runs"
    command = ["train", "--data", book, "--steps", 1, *TINY]
    processes = [popen(*command, cwd=tmp_path) for _ in range(2)]
    printed = [process.communicate(timeout=100) for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert all(errors == "" for _, errors in printed)
    (base / "char-lm-9").mkdir()  # a run that has no checkpoint yet
    (base / "char-lm-x").mkdir()
    (base / "char-lm-012").mkdir()
    printed += [(succeed(*command, cwd=tmp_path), "")]
    folders = ["char-lm", "char-lm-2", "char-lm-10"]
    for name in folders:
        assert Checkpoint.load(base / name / "last.safetensors").step == 1
    for said, _ in printed:
        (named,) = re.findall(r"go on with: .* --out (\S+) ", said)
        folders.remove(Path(named).name)
        assert f", in {named}\n" in said and f"sample {named}/best.safetensors" in said
    assert folders == []
    # Too short a text: no folder is left.
    message = fail("train", "--data", book, "--seq-len", 500, cwd=tmp_path)
    assert "need at least" in message and not (base / "char-lm-11").exists()
    # The newest is gone on with, and looked at.
    assert "in runs/char-lm-10\n" in succeed("train", "--resume", "--steps", 2, cwd=tmp_path)
    succeed("inspect", "--text", "the dog", cwd=tmp_path)
    assert (base / "char-lm-10" / "page.html").exists()


def test_two_trainings_in_one_folder_are_refused(book: Path, tmp_path: Path) -> None:
    process = popen("train", "--data", book, "--out", tmp_path, "--steps", 1000000, *TINY)
    try:
        assert process.stdout is not None
        while not process.stdout.readline().startswith("step "):
            assert process.poll() is None
        result = run("train", "--resume", "--out", tmp_path)
    finally:
        process.kill()
        process.communicate()
    assert result.returncode == 2
    assert result.stderr == f"error: {tmp_path}: another training is writing into this folder\n"


def test_what_a_checkpoint_names_is_not_opened(runs: tuple[Path, str], tmp_path: Path) -> None:
    secret = tmp_path / "secret\x1b[31m.txt"
    secret.write_text(TEXT)
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    contents = checkpoint_file.load(runs[0] / "last.safetensors")
    checkpoint_file.save(theirs / "last.safetensors", {**contents, "sources": [str(secret)]})
    page = tmp_path / "page.html"
    hint = f"--data, which was {str(secret)!a}"
    message = fail("train", "--resume", "--steps", 40, "--out", theirs)
    assert message == f"{theirs / 'text.utf8'}: not there; give the text of this run again, with {hint}"
    for given in (theirs, theirs / "last.safetensors"):
        message = fail("inspect", given, "--out", page)
        assert message.startswith(f"{theirs / 'last.safetensors'}: give a text with --text, ")
        assert message.endswith(hint)
    # Nor is what the text of the run is a link to.
    (theirs / "text.utf8").symlink_to(secret)
    for command in (["train", "--resume", "--steps", 40, "--out", theirs], ["inspect", theirs, "--out", page]):
        assert fail(*command) == f"{theirs / 'text.utf8'}: a symbolic link; expected a file of the run itself"
    (theirs / "text.utf8").unlink()
    (theirs / "text.utf8").write_text("another")
    assert fail("inspect", theirs, "--out", page).endswith("text.utf8: not the text that this run was started with")
    assert not page.exists()
    # What the command line names is.
    assert "step 40/40" in succeed("train", "--resume", "--steps", 40, "--out", theirs, "--data", secret)
    assert (theirs / "text.utf8").read_text() == TEXT
    succeed("inspect", theirs / "last.safetensors", "--data", secret, "--out", page)
    # The page is not written through a link.
    (theirs / "page.html").symlink_to(secret)
    message = fail("inspect", theirs)
    assert message == f"{theirs / 'page.html'}: a symbolic link; expected a file of the run itself"


def test_sample_goes_on_from_the_prompt(runs: tuple[Path, str]) -> None:
    path = runs[0] / "best.safetensors"
    command = ["sample", path, "--prompt", "the dog", "--length", 40]
    first = succeed(*command, "--seed", 3)
    assert first.startswith("the dog") and len(first) == len("the dog") + 40 + 1
    assert succeed(*command, "--seed", 3) == first
    assert succeed(*command, "--seed", 4) != first
    likeliest = succeed(*command, "--temperature", 0)
    assert succeed(*command, "--top-k", 1, "--temperature", 2) == likeliest


def test_characters_that_the_terminal_lacks_are_replaced(tmp_path: Path) -> None:
    book = tmp_path / "book"
    book.write_text("äöü" * 100, encoding="utf-8")
    succeed("train", "--data", book, "--out", tmp_path, "--steps", 1, *TINY, PYTHONIOENCODING="ascii")
    printed = succeed("sample", tmp_path / "last.safetensors", "--prompt", "ä", "--length", 5, PYTHONIOENCODING="ascii")
    assert printed == "??????\n"


def test_eval_measures_a_text(runs: tuple[Path, str], tmp_path: Path) -> None:
    held_back = tmp_path / "held_back.txt"
    held_back.write_text(TEXT[len(TEXT) - len(TEXT) // 10 :])
    best = json.loads((runs[0] / "metrics.jsonl").read_text().splitlines()[-1])
    assert succeed("eval", runs[0] / "best.safetensors", "--data", held_back) == (
        f"{best['validation_loss']:.4f} nats a character, {best['validation_bits']:.4f} bits a character, "
        f"over {len(TEXT) // 10 - 1} characters\n"
    )


def test_info_names_versions_devices_and_threads() -> None:
    printed = succeed("info")
    assert np.__version__ in printed and "devices" in printed and "cpu" in printed
    assert "threads        1 " in succeed("info", OPENBLAS_NUM_THREADS="1")


def test_the_version_is_shown() -> None:
    assert succeed("--version") == f"tinygrad-lstm {tg.__version__}\n"


def test_help_names_the_commands_and_options() -> None:
    printed = succeed("--help")
    commands = ("train", "sample", "eval", "explain", "gradient-flow", "inspect", "info")
    assert all(f"\n  {command} " in printed for command in commands)
    printed = succeed("train", "--help")
    assert "[default: 1000]" in printed and "(1000)" not in printed
    options = "data out steps hidden layers seq-len batch lr forget-bias dropout device threads seed init-from resume"
    assert all(f"--{option} " in printed for option in options.split())


def test_a_reader_that_leaves_is_no_error(runs: tuple[Path, str]) -> None:
    command = [*COMMAND, "sample", str(runs[0] / "best.safetensors"), "--prompt", "the", "--length", "100000"]
    process = subprocess.Popen(
        command, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    process.wait()


# -- bad input --------------------------------------------------------------------------------------------------------


def test_a_missing_text(tmp_path: Path) -> None:
    assert fail("train", "--data", tmp_path / "none.txt") == f"{tmp_path / 'none.txt'}: No such file or directory"


def test_an_empty_text(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").touch()
    assert fail("train", "--data", tmp_path / "empty.txt") == f"{tmp_path / 'empty.txt'}: the file is empty"


def test_a_folder_without_text(tmp_path: Path) -> None:
    assert f"{tmp_path}: the folder holds no text" in fail("train", "--data", tmp_path)


def test_too_short_a_text(book: Path) -> None:
    message = fail("train", "--data", book, "--seq-len", 50, "--batch", 20)
    assert "the text has 612 characters; seq-len 50 and batch 20 need at least 1112" in message


def test_an_undecodable_text(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes("naïve".encode("latin-1"))
    assert fail("train", "--data", tmp_path / "latin.txt").endswith("latin.txt: not UTF-8 text: byte 0xef at offset 2")


@pytest.mark.parametrize("prompt", ["the Q", "the \N{SNOWMAN}"])
def test_an_unknown_character_in_a_prompt(runs: tuple[Path, str], prompt: str) -> None:
    message = fail("sample", runs[0] / "best.safetensors", "--prompt", prompt, PYTHONIOENCODING="utf-8")
    assert message.startswith(f"the character {prompt[-1]!r} at position 4 is not among the 30 of the vocabulary")


def test_an_empty_prompt(runs: tuple[Path, str]) -> None:
    assert "--prompt: expected at least one character" in fail("sample", runs[0] / "best.safetensors", "--prompt", "")


@pytest.mark.parametrize("length", [0, 5, 500, -1])
def test_a_truncated_checkpoint(runs: tuple[Path, str], tmp_path: Path, length: int) -> None:
    path = tmp_path / "last.safetensors"
    path.write_bytes((runs[0] / "last.safetensors").read_bytes()[:length])
    assert fail("sample", path, "--prompt", "t").startswith(f"{path}: not a whole safetensors file")
    if length == -1:
        assert fail("train", "--resume", "--out", tmp_path).startswith(f"{path}: not a whole safetensors file")
        assert fail("eval", path, "--data", path).startswith(f"{path}: not a whole safetensors file")


def test_a_foreign_checkpoint(runs: tuple[Path, str], book: Path, tmp_path: Path) -> None:
    assert "not a whole safetensors file" in fail("sample", book, "--prompt", "t")
    save_file({"x": np.ones(2)}, tmp_path / "theirs")
    assert "not a checkpoint of tinygrad_lstm" in fail("sample", tmp_path / "theirs", "--prompt", "t")
    checkpoint_file.save(tmp_path / "ours", {"x": np.ones(2)})
    assert "not one of a training run" in fail("eval", tmp_path / "ours", "--data", book)
    assert fail("sample", tmp_path, "--prompt", "t") == f"{tmp_path}: Is a directory"
    assert fail("sample", "/dev/null", "--prompt", "t").startswith("/dev/null: ")
    contents = checkpoint_file.load(runs[0] / "best.safetensors")
    checkpoint_file.save(tmp_path / "odd", {**contents, "weights": {}})
    assert fail("eval", tmp_path / "odd", "--data", book).startswith(f"{tmp_path / 'odd'}: its contents do not fit")
    assert fail("sample", tmp_path / "none", "--prompt", "t") == f"{tmp_path / 'none'}: No such file or directory"


def test_a_model_that_is_not_finite(runs: tuple[Path, str], tmp_path: Path) -> None:
    saved = Checkpoint.load(runs[0] / "best.safetensors")
    weights = {name: np.full_like(array, np.nan) for name, array in saved.weights.items()}
    replace(saved, weights=weights).save(tmp_path / "nan")
    result = run("sample", tmp_path / "nan", "--prompt", "the")
    assert (result.returncode, result.stdout) == (2, "the\n")
    assert result.stderr == "error: sample: the highest of the model's logits is nan; are its weights finite?\n"


def test_a_vocabulary_that_does_not_fit(runs: tuple[Path, str], tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text(TEXT + "Ω", encoding="utf-8")
    message = fail("eval", runs[0] / "best.safetensors", "--data", other, PYTHONIOENCODING="utf-8")
    assert message.startswith("the character 'Ω' at position 612 is not among the 30 of the vocabulary")
    message = fail("train", "--resume", "--out", runs[0], "--data", other, "--steps", 40)
    assert "the text is not the one that this run was started with" in message


@pytest.mark.parametrize("wrong", [{"hidden": 10**5}, {"layers": 10**7}, {"embedding": 10**8}])
def test_a_checkpoint_that_asks_for_more_than_it_holds(
    runs: tuple[Path, str], book: Path, tmp_path: Path, wrong: dict[str, int]
) -> None:
    """Every command that makes a model of it refuses at once, in little memory."""
    saved = Checkpoint.load(runs[0] / "last.safetensors")
    path = tmp_path / "last.safetensors"
    replace(saved, options=replace(saved.options, steps=40, **wrong)).save(path)

    def little_memory() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (2**32, 2**32))

    for arguments in (
        ["sample", path, "--prompt", "t"],
        ["train", "--data", book, "--resume", "--out", tmp_path],
        ["train", "--data", book, "--init-from", path, "--out", tmp_path / "new"],
    ):
        message = fail(*arguments, before=little_memory, OPENBLAS_NUM_THREADS="1")
        assert message.startswith(f"{path}: its contents do not fit (the options "), message


def test_a_folder_that_cannot_be_written(book: Path, tmp_path: Path) -> None:
    message = fail("train", "--data", book, "--out", book / "runs", *TINY)
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


def test_an_earlier_run_is_spared(runs: tuple[Path, str], book: Path) -> None:
    before = {path: path.read_bytes() for path in runs[0].iterdir()}
    message = fail("train", "--data", book, "--out", runs[0], *TINY)
    assert message == f"{runs[0]}: holds a run of 30 steps; --resume goes on with it, or give another --out"
    assert {path: path.read_bytes() for path in runs[0].iterdir()} == before
    assert fail("train", "--data", book, "--out", "") == "--out: expected a path, got an empty string"


def test_a_device_that_is_not_there(runs: tuple[Path, str], book: Path) -> None:
    out = runs[0] / "elsewhere"
    assert "unknown device 'tpu'" in fail("train", "--data", book, "--device", "tpu", "--out", out)
    assert "CuPy" in fail("train", "--data", book, "--device", "cuda:77", "--out", out)
    assert "CuPy" in fail("sample", runs[0] / "best.safetensors", "--prompt", "t", TINYGRAD_LSTM_DEVICE="cuda:77")
    assert not out.exists()
    # What is named goes before the environment.
    command = ["sample", runs[0] / "best.safetensors", "--prompt", "t", "--length", 1, "--device", "cpu"]
    succeed(*command, TINYGRAD_LSTM_DEVICE="cuda:77")
    command = ["train", "--data", book, "--out", out, "--steps", 2, "--device", "cpu", *TINY]
    succeed(*command, TINYGRAD_LSTM_DEVICE="cuda:77")
    succeed("train", "--resume", "--out", out, "--steps", 3, "--device", "cpu", TINYGRAD_LSTM_DEVICE="cuda:77")


def test_resuming_with_other_options(runs: tuple[Path, str], book: Path, tmp_path: Path) -> None:
    message = fail("train", "--resume", "--out", runs[0], "--hidden", 7)
    assert message == "--hidden: the run to resume has 6, but 7 was given"
    message = fail("train", "--resume", "--out", runs[0])
    assert message == "the run has done 30 steps already; give it more than that in all"
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "last.safetensors").write_bytes((runs[0] / "last.safetensors").read_bytes())
    (tmp_path / "odd" / "metrics.jsonl").write_text("{}\n")
    message = fail("train", "--resume", "--steps", 40, "--out", tmp_path / "odd", "--data", book)
    assert message.startswith(f"{tmp_path / 'odd' / 'metrics.jsonl'}: line 1 is no line of metrics")
    message = fail("train", "--resume", "--out", tmp_path)
    assert message.startswith(f"{tmp_path / 'last.safetensors'}: there is no run to resume")


@pytest.mark.parametrize(
    ("option", "value"), [("hidden", 0), ("steps", -1), ("lr", 0.0), ("dropout", 1.0), ("seq-len", 0), ("batch", 0)]
)
def test_an_option_out_of_its_range(book: Path, tmp_path: Path, option: str, value: float) -> None:
    message = fail("train", "--data", book, "--out", tmp_path / "out", f"--{option}", value)
    assert message.startswith(f"--{option}: expected ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("option", "value"),
    [("temperature", -1), ("temperature", "nan"), ("temperature", "inf"), ("top-k", 0), ("length", 0), ("seed", -1)],
)
def test_a_sample_option_out_of_its_range(runs: tuple[Path, str], option: str, value: object) -> None:
    message = fail("sample", runs[0] / "best.safetensors", "--prompt", "t", f"--{option}", value)
    assert message.startswith(f"--{option}: expected at least ")


def test_a_number_that_is_none() -> None:
    result = run("train", "--steps", "many")
    assert result.returncode == 2 and "--steps" in result.stderr and "Traceback" not in result.stderr


def test_training_that_goes_astray(book: Path, tmp_path: Path) -> None:
    result = run("train", "--data", book, "--out", tmp_path, "--lr", 1e38, "--steps", 60, *TINY)
    assert result.returncode == 2
    # Whether the sum of the infinite terms is inf or nan is the kernels' own affair.
    assert re.fullmatch(
        r"error: the loss is (nan|inf) at step 20: training went astray; try a smaller lr than 1e\+38\n", result.stderr
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
