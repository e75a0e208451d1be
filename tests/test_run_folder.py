"""The folder of a run: wherever a program is killed, or a disk is full, it holds one whole run that can be resumed."""

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tinygrad_lstm.metrics import read_metrics
from tinygrad_lstm.models import CharLM
from tinygrad_lstm.random import random_state, set_random_state
from tinygrad_lstm.train import TextCheckpoint, TextTrainer, TrainingOptions
from tinygrad_lstm.train.folder import RunFolder, newest_folder, next_folder

TEXT = "the quick brown fox jumps over the lazy dog, and the dog sleeps on.\n" * 4
OTHER_TEXT = TEXT[::-1]
# Validated, and saved, at steps 2, 4 and 5.
OPTIONS = {"embedding": 3, "hidden": 4, "seq_len": 8, "batch": 2, "warmup": 2, "steps": 5}
OPTIONS |= {"validate_every": 2, "log_every": 1}


@pytest.fixture(autouse=True)
def _random_numbers_as_before() -> Iterator[None]:
    before = random_state()
    yield
    set_random_state(before)


def start(out: Path, seed: int, text: str = TEXT) -> TextTrainer[CharLM]:
    return TextTrainer.start(CharLM.from_options, text, TrainingOptions(**OPTIONS, seed=seed), out)  # type: ignore[arg-type]


def resume(out: Path, text: str, steps: int | None = None) -> TextTrainer[CharLM]:
    return TextTrainer.resume(CharLM.from_options, text, TextCheckpoint.load(out / "last.safetensors"), out, steps)


def losses(out: Path) -> list[tuple[int, float | None]]:
    return [(line["step"], line["validation_loss"]) for line in read_metrics(out / "metrics.jsonl")]


class Runs:
    """Two runs that nothing interrupted, and what they are: one that lies in the folder, and one that replaces it."""

    def __init__(self, place: Path) -> None:
        self.old, self.new = place / "old", place / "new"
        start(self.old, 0).run()
        start(self.new, 1, OTHER_TEXT).run()

    def check(self, out: Path) -> str:
        """Which of the runs lies in a folder, once it is known to be there whole and to end as it would have."""
        if not (out / "last.safetensors").exists():
            return "none"
        last = TextCheckpoint.load(out / "last.safetensors")
        whole, text = (self.old, TEXT) if last.options.seed == 0 else (self.new, OTHER_TEXT)
        folder = RunFolder(out)
        folder.complete()
        assert folder.read_text(last.text_digest)[:] == text
        resumed = resume(out, text, steps=6 if last.step == 5 else None)
        if last.step < 5:
            resumed.run()
        for name in ("last.safetensors", "best.safetensors"):
            mine, theirs = TextCheckpoint.load(out / name), TextCheckpoint.load(whole / name)
            assert (mine.step, mine.best, mine.text_digest) == (theirs.step, theirs.best, theirs.text_digest)
            for key, array in theirs.weights.items():
                assert mine.weights[key].tobytes() == array.tobytes(), (name, key)
        assert losses(out) == losses(whole)
        expected = {path.name for path in whole.iterdir()}
        found = {path.name for path in out.iterdir() if not path.name.endswith(".tmp")}
        assert expected - {"loss.png"} <= found <= expected
        return whole.name


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("runs"))


# Trains in copies of a folder, and is killed in the k-th of them at the k-th call that changes what is on the disk.
KILLED = """
import os, shutil, sys
from pathlib import Path
from tinygrad_lstm.device import set_num_threads
from tinygrad_lstm.models import CharLM
from tinygrad_lstm.train import TextTrainer, TrainingOptions

earlier, place, text, options = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], eval(sys.argv[4])

def train(out):
    TextTrainer.start(CharLM.from_options, text, TrainingOptions(**options), out).run()

set_num_threads(1)  # a copied process has no other threads
train(place.with_name("first"))  # so that all is imported, once
changing = ("fsync", "replace", "unlink", "mkdir")
for k in range(1, 200):
    out = place / str(k)
    shutil.copytree(earlier, out)
    child = os.fork()
    if child == 0:
        calls = 0
        def killed_before(function):
            def call(*args, **more):
                global calls
                calls += 1
                if calls == k:
                    os._exit(9)
                return function(*args, **more)
            return call
        for name in changing:
            setattr(os, name, killed_before(getattr(os, name)))
        train(out)
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
        break
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot copy processes")
@pytest.mark.parametrize("over", ["a run", "nothing"])
def test_a_kill_at_any_point_leaves_one_run_whole(runs: Runs, tmp_path: Path, over: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "killed").mkdir()
    earlier = runs.old if over == "a run" else tmp_path / "empty"
    options = repr(OPTIONS | {"seed": 1})
    command = [sys.executable, "-c", KILLED, str(earlier), str(tmp_path / "killed"), OTHER_TEXT, options]
    subprocess.run(command, check=True, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"}, stdin=subprocess.DEVNULL)
    folders = sorted((tmp_path / "killed").iterdir(), key=lambda path: int(path.name))
    found = [runs.check(out) for out in folders]
    first = "old" if over == "a run" else "none"
    switched = found.index("new")
    assert found == [first] * switched + ["new"] * (len(found) - switched)
    assert switched > 5 and len(found) - switched > 15
    for out in folders[:switched]:
        if first == "old":
            for path in runs.old.iterdir():  # untouched
                if path.name != "metrics.jsonl":  # written anew by resuming
                    assert (out / path.name).read_bytes() == path.read_bytes()
        else:
            start(out, 1, OTHER_TEXT).run()
            assert runs.check(out) == "new"


def test_a_full_disk_at_any_point_leaves_one_run_whole(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, fsync = [], os.fsync
    for k in range(1, 200):
        out, calls = tmp_path / str(k), 0
        shutil.copytree(runs.old, out)

        def fill_up(descriptor: int, k: int = k) -> None:
            nonlocal calls
            calls += 1
            if calls >= k:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            fsync(descriptor)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fill_up)
            try:
                start(out, 1, OTHER_TEXT).run()
                break
            except OSError as error:
                assert error.errno == errno.ENOSPC
        assert not [path for path in out.iterdir() if path.name.endswith(".tmp")]
        found.append(runs.check(out))
    switched = found.index("new")
    assert found == ["old"] * switched + ["new"] * (len(found) - switched)
    assert switched > 3 and len(found) > 10


def test_a_run_stopped_before_it_is_validated_replaces_the_best_one_too(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    shutil.copytree(runs.old, out)
    trainer = start(out, 1, OTHER_TEXT)
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "complete", lambda folder: None)  # as if it had been killed before
        trainer.run(lambda progress: trainer.stop())
    assert TextCheckpoint.load(out / "last.safetensors").step == 1
    assert TextCheckpoint.load(out / "best.safetensors").options.seed == 0
    resumed = resume(out, OTHER_TEXT)
    assert not (out / "best.safetensors").exists()
    resumed.run()
    assert runs.check(out) == "new"


def test_a_run_is_not_resumed_over_a_different_run(runs: Runs, tmp_path: Path) -> None:
    shutil.copytree(runs.old, tmp_path / "out")
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    with pytest.raises(ValueError, match="out: holds a different run than the one to resume"):
        TextTrainer.resume(
            CharLM.from_options, OTHER_TEXT, TextCheckpoint.load(runs.new / "last.safetensors"), tmp_path / "out", 6
        )
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    # A copy of a checkpoint of the same run is fine, and so is a new folder.
    for folder in (tmp_path / "out", tmp_path / "new"):
        TextTrainer.resume(
            CharLM.from_options, TEXT, TextCheckpoint.load(runs.old / "last.safetensors"), folder, 6
        ).run()
        assert TextCheckpoint.load(folder / "last.safetensors").step == 6


@pytest.mark.skipif(sys.platform == "win32", reason="this system has no locks on folders")
def test_one_trainer_at_a_time_writes(tmp_path: Path) -> None:
    other = start(tmp_path, 1)
    refused = []

    def try_too(progress: Any) -> None:
        for attempt in (other.run, lambda: resume(tmp_path, TEXT)) if progress.step == 3 else ():
            with pytest.raises(OSError, match="another training is writing into this folder"):
                attempt()  # type: ignore[operator]
            refused.append(progress.step)

    start(tmp_path, 0).run(try_too)
    assert refused == [3, 3]
    other.run()  # now it may, and replaces the run that the folder has got meanwhile
    assert TextCheckpoint.load(tmp_path / "last.safetensors").options.seed == 1
    assert [step for step, _ in losses(tmp_path)] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "name",
    ["last.safetensors", "best.safetensors", "metrics.jsonl", "loss.png", "text.utf8", f".text.utf8.{'0' * 16}.next"],
)
@pytest.mark.parametrize("there", [True, False])
def test_nothing_is_written_through_links_in_a_folder(runs: Runs, tmp_path: Path, name: str, there: bool) -> None:
    out, mine = tmp_path / "theirs", tmp_path / "mine"
    shutil.copytree(runs.old, out)
    checkpoint = TextCheckpoint.load(out / "last.safetensors")
    link = out / name
    if there:
        mine.write_bytes(link.read_bytes() if link.exists() else b"")
        before = mine.read_bytes()
    link.unlink(missing_ok=True)
    link.symlink_to(mine)
    for attempt in (
        lambda: start(out, 1, OTHER_TEXT).run(),
        lambda: TextTrainer.resume(CharLM.from_options, TEXT, checkpoint, out, 6),
    ):
        with pytest.raises(ValueError, match=f"{link.name}: a symbolic link; expected a file of the run itself"):
            attempt()
    assert mine.read_bytes() == before if there else not mine.exists()


def test_texts_of_any_characters_are_kept(tmp_path: Path) -> None:
    text = TEXT + "\r\n\ufeff\ud800ü😀"
    start(tmp_path, 0, text).run()
    folder = RunFolder(tmp_path)
    assert folder.text.stat().st_mode & 0o077 == 0 or os.name != "posix"  # others need not be able to read it
    assert folder.read_text(TextCheckpoint.load(folder.last).text_digest)[:] == text
    folder.text.unlink()
    resume(tmp_path, text, steps=6).run()  # and once more, if they were removed
    assert folder.read_text(TextCheckpoint.load(folder.last).text_digest)[:] == text


def test_folders_are_numbered(tmp_path: Path) -> None:
    base = tmp_path / "below" / "run"
    assert newest_folder(base) is None
    assert [next_folder(base).name for _ in range(3)] == ["run", "run-2", "run-3"]
    assert newest_folder(base) is None
    (base / "last.safetensors").touch()
    (tmp_path / "below" / "run-2" / "last.safetensors").touch()
    newest = newest_folder(base)
    assert newest is not None and newest.name == "run-2"
    (tmp_path / "below" / "run-x").mkdir()
    (tmp_path / "below" / "run-1").mkdir()
    (tmp_path / "below" / "run-7").touch()
    assert next_folder(base).name == "run-8"
    base.rename(tmp_path / "elsewhere")
    assert next_folder(base).name == "run-9"


def test_several_programs_get_several_folders(tmp_path: Path) -> None:
    program = "import sys; from pathlib import Path; from tinygrad_lstm.train.folder import next_folder\n"
    program += "for _ in range(20): print(next_folder(Path(sys.argv[1])).name)"
    command = [sys.executable, "-c", program, str(tmp_path / "run")]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    names = [name for process in processes for name in process.communicate()[0].split()]
    assert sorted(names) == sorted(path.name for path in tmp_path.iterdir()) and len(set(names)) == 60
