"""`search`: what it prints and leaves, how it goes on, and what it refuses."""

import csv
import os
import re
import shlex
import signal
import sys
import time
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from cli_signals import running, wait_for
from commands import COMMAND, fail_here, run, run_here, succeed, succeed_here
from labelled_tables import LONG, long_table
from small_book import TEXT

from tinygrad_lstm.train import TextCheckpoint

SPACE = ["--space", "lr=1e-3:1e-1:log", "--space", "hidden=4,6", "--space", "dropout=0:0.2"]
TRAIN = ["train", "--data", "book.txt", "--steps", "20", "--seq-len", "8", "--batch", "4"]
FIT = ["fit", "classify", "table.csv", *LONG, "--epochs", "4"]


def trials_of(folder: Path) -> list[dict[str, str]]:
    """The rows of trials.csv without the times."""
    with open(folder / "trials.csv", newline="") as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with a text, a table, and a search in out; and what was printed."""
    folder = tmp_path_factory.mktemp("searched")
    (folder / "book.txt").write_text(TEXT)
    long_table(folder / "table.csv", 40)
    return folder, succeed_here("search", *TRAIN, *SPACE, "--trials", 7, "--out", "out", cwd=folder)


def test_it_says_which_trial_is_the_best_and_how_to_train_so(searched: tuple[Path, str], tmp_path: Path) -> None:
    folder, printed = searched
    rows = trials_of(folder / "out")
    assert [row["trial"] for row in rows] == [str(number) for number in range(7)]
    best = min((row for row in rows if row["outcome"] == "finished"), key=lambda row: float(row["validation"]))
    assert re.search(rf"^{best['trial']} +{float(best['validation']):.4f} .* finished$", printed, re.MULTILINE)
    typed = re.search(r"^train with:  (.*)$", printed, re.MULTILINE)
    assert typed is not None
    command = shlex.split(typed[1])
    assert command[:1] + command[1 : 1 + len(TRAIN)] == ["tinygrad-lstm", *TRAIN]
    assert dict(zip(command[-6::2], command[-5::2], strict=True)) == {
        f"--{name}": best[name] for name in ("lr", "hidden", "dropout")
    }
    succeed_here(*command[1:], "--threads", 1, "--out", tmp_path, cwd=folder)
    made, expected = (
        TextCheckpoint.load(place / "last.safetensors")
        for place in (tmp_path, folder / "out" / f"trial-{best['trial']}")
    )
    for name, array in expected.weights.items():
        np.testing.assert_array_equal(made.weights[name], array, err_msg=name)


def test_each_trial_is_a_run_that_other_commands_take(searched: tuple[Path, str], tmp_path: Path) -> None:
    folder, printed = searched
    tried = re.search(r"^try it with: tinygrad-lstm (.*)$", printed, re.MULTILINE)
    assert tried is not None
    assert succeed_here(*shlex.split(tried[1]), "--length", 9, cwd=folder)
    for number in range(7):
        assert (folder / "out" / f"trial-{number}" / "last.safetensors").exists()
    assert (folder / "out" / "search.png").read_bytes().startswith(b"\x89PNG")
    trial = folder / "out" / "trial-0"
    best = trial / "best.safetensors"
    assert len(succeed_here("sample", best, "--prompt", "the ", "--length", 9)) >= 9
    assert " nats " in succeed_here("eval", best, "--data", folder / "book.txt")
    assert "page.html" in succeed_here("inspect", trial, "--out", tmp_path / "page.html")


def test_the_same_seed_has_the_same_trials_and_a_higher_number_goes_on(searched: tuple[Path, str]) -> None:
    folder, _ = searched
    again = ["search", *TRAIN, *SPACE, "--out", "again", "--trials"]
    succeed_here(*again, 1, cwd=folder)
    printed = succeed_here(*again, 2, cwd=folder)
    assert "\n2 trials, of which 1 ended earlier, by 1 process, in again\ntrial 1: " in printed
    assert trials_of(folder / "again") == trials_of(folder / "out")[:2]
    printed = succeed_here(*again, 2, cwd=folder)  # it is done: the result once more
    assert "2 trials, of which 2 ended earlier" in printed and "\ntrain with: " in printed


needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="a process cannot be sent Ctrl-C there")


@needs_signals
def test_a_kill_and_ctrl_c_keep_what_was_done(searched: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = searched
    command = [*COMMAND, "search", *TRAIN, *SPACE, "--trials", "7", "--out", str(tmp_path / "out")]
    with running(command, cwd=folder) as process:
        wait_for(process, "trial 0: ")
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)  # until no process has its output: the worker has ended, too
    with open(tmp_path / "out" / "journal.log", "a") as file:
        file.write('{"op_code": 5, "wor')  # as a kill may leave it
    with running(command, cwd=folder) as process:
        wait_for(process, "trial 1: ")
        process.send_signal(signal.SIGINT)
        printed, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == "\nending the trials that run; Ctrl-C again quits at once\n"
    assert re.search(r"^interrupted; .* keeps [2-6] of 7 trials$", printed, re.MULTILINE)
    again = re.search(r"^continue with: (.*)$", printed, re.MULTILINE)
    assert again is not None
    result = run(*shlex.split(again[1])[3:], "--trials", 3, cwd=folder)
    assert (result.returncode, result.stderr) == (0, "")
    found = trials_of(tmp_path / "out")
    assert len(found) >= 3 and found == trials_of(folder / "out")[: len(found)]


needs_children = pytest.mark.skipif(
    not Path("/proc/self/task").exists(), reason="this system does not list a process's children"
)


@needs_children
def test_the_end_of_a_process_is_that_of_its_trial(searched: tuple[Path, str], tmp_path: Path) -> None:
    command = [*COMMAND, "search", *TRAIN, "--steps", "1000000", *SPACE, "--trials", "1", "--out", str(tmp_path)]
    with running(command, cwd=searched[0]) as process:
        wait_for(process, "1 trial, by 1 process")
        while not (worker := worker_of(process.pid)) or not (tmp_path / "trial-0" / "metrics.jsonl").exists():
            time.sleep(0.02)
            assert process.poll() is None
        os.kill(worker, signal.SIGKILL)
        printed, errors = process.communicate(timeout=60)
    assert "\ntrial 0: failed: its process ended by signal 9  " in "\n" + printed
    assert process.returncode == 2 and errors.startswith("error: no trial has finished: 1 failed; trial 0 failed: its ")


@needs_children
def test_ctrl_c_while_a_process_starts_is_one_line(searched: tuple[Path, str], tmp_path: Path) -> None:
    command = [*COMMAND, "search", *TRAIN, "--steps", "1000000", *SPACE, "--trials", "1", "--out", str(tmp_path)]
    with running(command, cwd=searched[0], start_new_session=True) as process:
        wait_for(process, "1 trial, by 1 process")
        while not (worker := worker_of(process.pid)):
            assert process.poll() is None
        blocked = re.search(r"^SigBlk:\s*(\w+)$", Path(f"/proc/{worker}/status").read_text(), re.MULTILINE)
        assert blocked is not None and int(blocked[1], 16) & 1 << (signal.SIGINT - 1)
        os.killpg(process.pid, signal.SIGINT)  # to all processes, as a terminal does
        printed, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "\nending the trials that run; Ctrl-C again quits at once\n")
    assert "keeps 0 of 1 trial\n" in printed


def worker_of(search: int) -> int | None:
    """The process that runs a trial."""
    for child in map(int, Path(f"/proc/{search}/task/{search}/children").read_text().split()):
        if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
            return child
    return None


def test_several_processes_search_a_fit(searched: tuple[Path, str]) -> None:
    folder, _ = searched
    options = ["--space", "hidden-size=4:8:2", "--space", "bidirectional=true,false", "--trials", 3, "--workers", 2]
    printed = succeed("search", *options, "--out", "fits", *FIT, cwd=folder)
    assert printed.startswith("read table.csv: 40 sequences of 3 to 8 steps")
    assert "searching options of a SequenceClassifier: hidden=4:8:2 bidirectional=true,false\n" in printed
    assert "by 2 processes, in fits\n" in printed
    assert sorted(row["trial"] for row in trials_of(folder / "fits")) == ["0", "1", "2"]
    typed = re.search(r"^train with: .* fit classify table.csv (.*)$", printed, re.MULTILINE)
    assert typed is not None and re.search(r" --hidden [468]( --bidirectional)?$", typed[1])
    result = run_here("predict", Path("fits", "trial-0"), "table.csv", cwd=folder)
    assert result.returncode == 0 and len(result.stdout.splitlines()) == 41


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["foo"], "search: expected train or fit and their options, as in .*, got 'foo'"),
        (["--trials", 0], "--trials: expected at least 1, got 0"),
        (["--workers", 0], "--workers: expected at least 1, got 0"),
        (["--space", "lr"], "--space: expected NAME=VALUES, as in .*, got 'lr'"),
        (["--space", "steps=3,4"], "--space: expected one of lr, .*, got 'steps'"),
        (["--space", "lr=1:0.1"], "--space lr=1:0.1: expected LOW below HIGH, got 1 and 0.1: the range is empty"),
        (["--space", "lr="], "--space lr=: expected at least two values, as LOW:HIGH, .*, got ''; .*"),
        (["--space", "lr=0.1"], "--space lr=0.1: expected at least two values, .*; a fixed one is given as an option"),
        (["--space", "lr=0:1:log"], "--space lr=0:1:log: expected LOW above 0 with log, got 0"),
        (["--space", "lr=1:2:3:4"], "--space lr=1:2:3:4: expected LOW:HIGH, .*, got '1:2:3:4'"),
        (["--space", "hidden=4:8:9"], "--space hidden=4:8:9: expected STEP above 0 and at most 4, got 9"),
        (["--space", "hidden=4.5,8"], "--space hidden=4.5,8: expected an integer, got '4.5'"),
        (["--space", "lr=nan,1"], "--space lr=nan,1: expected a number, got 'nan'"),
        (["--space", "tie=0,1"], "--space tie=0,1: expected true and false, got '0'"),
        (["--space", "cell=lstm,foo"], "--space cell=lstm,foo: cell: expected a cell of the atlas, .*, got 'foo'"),
        (["--space", "cell=a:b"], "--space cell=a:b: expected values separated by commas, got the range 'a:b'"),
        (["--space", "lr=1,1.0"], "--space lr=1,1.0: expected different values, got one twice"),
        (["--space", "lr=1,2", "--space", "lr=1,3"], "--space: expected lr once, got it twice"),
        (["--space", "seq-len=0,4"], "--space seq-len=0,4: seq-len: expected at least 1, got 0"),
        ([*FIT, "--space", "dropout=0:1.5"], "--space dropout=0:1.5: dropout: expected from 0 to below 1, got 1.5"),
        (["--space", "dropout=0:1.5"], "--space dropout=0:1.5: dropout: expected .* below 1, got 1.5"),
        (["train", "--lr", 1, "--space", "lr=1,2"], "--lr: it is searched over 1.0,2.0; leave out either --lr or .*"),
        (["train", "--resume"], "--resume: expected none in a search, got True"),
        (["train", "--data", "-"], "--data: expected files, which each trial reads, got -"),
        (["train", "--hidden", 0], "--hidden: expected at least 1, got 0"),
        (["train", "--data", "none.txt"], ".*none.txt: No such file or directory"),
        ([*FIT, "--validation", 0], "--validation: expected above 0, since trials are compared by it, got 0"),
        ([*FIT, "--lr", -1], "--lr: expected above 0 and finite, got -1.0"),
        (
            ["--out", "out", *TRAIN, "--space", "lr=1,2"],
            r"out: holds a different search: --space lr 0.001:0.1:log, not .*",
        ),
        (
            ["--out", "out", *TRAIN, *SPACE, "--seed", 1, "--clip", 2],
            r"out: .*: --clip 1.0, not 2.0, --seed 0, not 1; .*",
        ),
        (["--out", "out/trial-0", *TRAIN], "out/trial-0: holds a run of train; give another --out"),
    ],
)
def test_bad_input_is_one_line(searched: tuple[Path, str], arguments: list[object], message: str) -> None:
    said = fail_here("search", *arguments, cwd=searched[0])
    assert re.fullmatch(message, said), said
    assert not (searched[0] / "runs").exists()


def test_a_folder_of_something_else_is_left_alone(searched: tuple[Path, str], tmp_path: Path) -> None:
    (tmp_path / "trial-0").mkdir()
    (tmp_path / "trial-0" / "mine").write_text("")
    result = run_here("search", *TRAIN, "--trials", 1, "--out", tmp_path, cwd=searched[0])
    assert (result.returncode, result.stderr) == (2, f"error: {tmp_path / 'trial-0'}: File exists\n")
    assert (tmp_path / "trial-0" / "mine").exists()


def test_unknown_options_are_those_of_the_command(searched: tuple[Path, str]) -> None:
    result = run("search", "train", "--foo", 3, cwd=searched[0])
    assert result.returncode == 2 and "No such option: --foo" in result.stderr


def test_without_optuna_one_line_says_how_to_install_it(searched: tuple[Path, str]) -> None:
    with mock.patch.dict(sys.modules, {"optuna": None}):
        assert re.fullmatch(
            r"search: Optuna is not installed; pip install '.\[search\]' .*",
            fail_here("search", *TRAIN, cwd=searched[0]),
        )


@pytest.mark.parametrize("content", [b"{}\n", b"text\n", b"\xff\n", b'{"op_code": 99}\n'])
def test_a_damaged_journal(searched: tuple[Path, str], tmp_path: Path, content: bytes) -> None:
    (tmp_path / "journal.log").write_bytes(content)
    said = fail_here("search", *TRAIN, "--out", tmp_path, cwd=searched[0])
    assert said.startswith(f"{tmp_path / 'journal.log'}: not the file of a search, or damaged (")


def test_all_trials_fail(searched: tuple[Path, str], tmp_path: Path) -> None:
    options = ["--trials", 2, "--out", tmp_path, "--space", "seq-len=5000,6000"]
    result = run_here("search", "train", "--data", "book.txt", *options, cwd=searched[0])
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    assert result.stderr.startswith(
        "error: no trial has finished: 2 failed; trial 0 failed: the text has 612 characters"
    )
    result = run_here(
        "search", *FIT, "--trials", 2, "--out", tmp_path / "far", "--space", "lr=1e37,1e38", cwd=searched[0]
    )
    assert result.returncode == 2
    assert result.stderr.startswith("error: no trial has finished: 2 diverged; search other values with --space")
