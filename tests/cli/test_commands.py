"""The commands, run as processes: what they print, and what they leave."""

import errno
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import COMMAND, environment, fail, reset_signals, run, succeed
from small_book import TEXT, TINY

import tinygrad_lstm as tg
from tinygrad_lstm.backends.compiled import building
from tinygrad_lstm.io import checkpoint as checkpoint_file
from tinygrad_lstm.models import CharLM
from tinygrad_lstm.train import TextCheckpoint, TextTrainer

STOPPING = "\nstopping after this step; Ctrl-C again quits without saving\n"


needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="a process cannot be sent Ctrl-C there")


def popen(*arguments: object, command: list[str] = COMMAND, cwd: Path | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*command, *map(str, arguments)],
        cwd=cwd,
        env=environment(),
        preexec_fn=None if sys.platform == "win32" else reset_signals,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


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


def test_train_resumes_with_the_printed_command(runs: tuple[Path, str], book: Path, tmp_path: Path) -> None:
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
    resumed = TextCheckpoint.load(out / "last.safetensors")
    assert resumed.step == steps
    options = replace(resumed.options, steps=planned, log_every=1)
    trainer = TextTrainer.start(CharLM.from_options, book.read_text(), options, out / "again")
    trainer.run(lambda progress: trainer.stop() if progress.step == stopped else None)
    assert trainer.step == stopped
    checkpoint = TextCheckpoint.load(trainer.last_path)
    trainer = TextTrainer.resume(CharLM.from_options, book.read_text(), checkpoint, out / "again", steps)
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


@needs_signals
def test_ctrl_c_saves_and_prints_how_to_resume(book: Path, tmp_path: Path) -> None:
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
    assert TextCheckpoint.load(out / "last.safetensors").step == step
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


@needs_signals
def test_a_second_ctrl_c_quits_and_says_what_is_saved(runs: tuple[Path, str], book: Path, tmp_path: Path) -> None:
    for arguments, said in (
        (["--data", book, "--out", tmp_path, *TINY], "quit at step 0; nothing is saved\n"),
        (
            ["--resume", "--steps", 50, "--out", runs[0]],
            f"quit at step 30; step 30 is saved in {runs[0] / 'last.safetensors'}\n",
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


@needs_signals
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


def on_terminal(*arguments: object) -> bytes:
    """What a command that succeeds writes to a terminal."""
    import pty

    own, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
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
    assert b"\x1b[2K" in shown and "━".encode() in shown
    assert rb"\x1b[2K" not in shown
    return shown


@pytest.mark.skipif(sys.platform == "win32", reason="this system has no pseudo-terminals")
def test_a_terminal_shows_a_live_bar(book: Path, tmp_path: Path) -> None:
    shown = on_terminal("train", "--data", book, "--out", tmp_path, "--steps", 25, *TINY)
    assert re.search(rb"step 25/25  loss \d[^\r]* chars/s", shown)
    assert b"step 25: validation " in shown


@pytest.mark.skipif(sys.platform == "win32", reason="this system has no pseudo-terminals")
def test_lines_above_a_live_bar_are_as_they_were_given(tmp_path: Path) -> None:
    """Rich would take [red] for a colour, and :snake: for a picture."""
    table, out = tmp_path / "table.csv", tmp_path / "[red]:snake:\x1b[31m"
    table.write_text("x1,x2,y\n" + "".join(f"{k % 2},{k},{k % 2}\n" for k in range(20)))
    shown = on_terminal("fit", "classify", table, "--target", "y", "--epochs", 3, "--hidden", 4, "--out", out)
    assert f"in {tmp_path}/[red]:snake:".encode() + rb"\x1b[31m" in shown
    assert b"finding the number of epochs: epoch 3 of 3" in shown


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
        assert TextCheckpoint.load(base / name / "last.safetensors").step == 1
    for said, _ in printed:
        (named,) = re.findall(r"resume with: .* --out (\S+) ", said)
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


@pytest.mark.skipif(sys.platform == "win32", reason="this system has no locks on folders")
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
    checkpoint_file.save(
        theirs / "last.safetensors", {**contents, "about": {**contents["about"], "sources": [str(secret)]}}
    )
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


def test_sample_continues_the_prompt(runs: tuple[Path, str]) -> None:
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
        f"{best['validation_loss']:.4f} nats a character, {best['validation_loss'] / np.log(2):.4f} bits a character, "
        f"over {len(TEXT) // 10 - 1} characters\n"
    )


def test_info_names_versions_devices_and_threads() -> None:
    printed = succeed("info")
    assert np.__version__ in printed and "devices" in printed and "cpu" in printed
    assert "threads        1 " in succeed("info", OPENBLAS_NUM_THREADS="1")
    assert "any cell is one op, in " in printed
    no_compiler = "any cell is one op, in NumPy (C is not used: CC is no-such-compiler, which is not found)"
    assert no_compiler in succeed("info", CC="no-such-compiler")


@pytest.mark.skipif(building.why_not() is not None, reason="there is no C compiler")
def test_info_says_why_libraries_are_not_cached(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    printed = succeed("info", TINYGRAD_LSTM_CACHE=str(tmp_path / "file"))
    assert f" (not cached: {tmp_path / 'file'}: File exists)" in printed


def test_the_version_is_shown() -> None:
    assert succeed("--version") == f"tinygrad-lstm {tg.__version__}\n"


def test_help_names_the_commands_and_options() -> None:
    printed = succeed("--help")
    commands = ("train", "sample", "eval", "explain", "gradient-flow", "inspect", "atlas", "info")
    assert all(f"\n  {command} " in printed for command in commands)
    printed = succeed("train", "--help")
    assert "[default: 2000]" in printed and "(2000)" not in printed
    options = (
        "data encoding out steps epochs minutes patience cell embedding tie hidden layers seq-len batch lr schedule "
        "clip weight-decay forget-bias dropout device threads seed init-from resume"
    )
    assert all(f"--{option} " in printed for option in options.split())


def test_a_closed_pipe_is_not_an_error(runs: tuple[Path, str]) -> None:
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
