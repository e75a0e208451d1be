"""Where a system lacks what Linux has, the library does without: a process of it is made to lack the same."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from without_posix import MODULES, NAMES

TESTS = Path(__file__).parent

# All modules are imported, a layer is trained and saved, and commands are run; prints what they say of the kernels.
USED = """
import importlib, pkgutil, sys
from pathlib import Path

sys.path.insert(0, sys.argv[2])
import without_posix
without_posix.leave_out(sys.argv[1])

import tinygrad_lstm as tg
from tinygrad_lstm.cli import main
from tinygrad_lstm.models import LSTM

for module in pkgutil.walk_packages(tg.__path__, "tinygrad_lstm."):
    # These need arguments, or what is not here.
    if module.name.rpartition(".")[2] not in ("__main__", "cupy_backend", "aeon", "sktime", "mpi", "nccl"):
        importlib.import_module(module.name)
assert tg.get_num_threads() >= 1

lstm = LSTM(3, 4).to(dtype="float64")
tg.gradcheck(lambda x: lstm(x)[0], [tg.randn(5, 2, 3, dtype="float64", requires_grad=True)])
optimizer = tg.optim.Adam(lstm.parameters())
lstm(tg.randn(5, 2, 3, dtype="float64"))[0].square().mean().backward()
optimizer.step()
for _ in range(2):  # the second replaces the file
    tg.io.save_weights("lstm.safetensors", lstm.state_dict())
assert tg.io.load_weights("lstm.safetensors").keys() == lstm.state_dict().keys()
stream = lstm.eval().stream()
assert stream(tg.randn(1, 3, dtype="float64").numpy()).shape == (1, 4)

Path("book.txt").write_text("to be or not to be, that is the question. " * 60)
for command in (
    "train --data book.txt --out run --steps 4 --hidden 4 --batch 4 --seq-len 8",
    "train --resume --data book.txt --out run --steps 8",
    "sample run/best.safetensors --prompt to --length 5",
    "inspect run/best.safetensors --text to",
    "info",
):
    sys.argv = ["tinygrad-lstm", *command.split()]
    try:
        main()
    except SystemExit as end:
        assert not end.code, (command, end.code)
assert {path.name for path in Path("run").iterdir()} >= {"best.safetensors", "last.safetensors", "metrics.jsonl"}
"""

# What a test needs is looked for when it runs, not when its file is imported.
COLLECTED = """
import sys
import pytest

sys.path.insert(0, sys.argv[2])
import without_posix


class LeavingOut:
    @pytest.hookimpl(tryfirst=True)
    def pytest_load_initial_conftests(self):
        without_posix.leave_out(sys.argv[1], "hypothesis")


options = ["-W", "ignore", "--collect-only", "-qq", "-p", "no:faulthandler", "-p", "no:cacheprovider"]
sys.exit(pytest.main([*options, *sys.argv[3:]], plugins=[LeavingOut()]))
"""


def run(program: str, system: str, folder: Path, *arguments: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, system, TESTS, *arguments],
        cwd=folder,
        env={**os.environ, "CC": "", "TINYGRAD_LSTM_COMPILED": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="it makes a process of Linux lack what others lack")
@pytest.mark.parametrize("system", ["win32", "darwin"])
def test_the_library_does_without(system: str, tmp_path: Path) -> None:
    printed = run(USED, system, tmp_path)
    assert "step 8/8" in printed
    assert "CPU kernels    NumPy (" in printed
    if system == "win32":
        assert "NumPy (on Windows, C is compiled only if CC names a compiler; faster ones" in printed


@pytest.mark.skipif(sys.platform != "linux", reason="it makes a process of Linux lack what others lack")
def test_tests_are_collected_on_windows() -> None:
    """The files that name what Windows lacks."""
    names = [*MODULES, *" ".join(NAMES.values()).split()]
    naming = re.compile(rf"\b(import|os\.|signal\.|select\.) ?({'|'.join(names)})\b")
    files = [path for path in sorted(TESTS.rglob("test_*.py")) if naming.search(path.read_text(encoding="utf-8"))]
    collected = run(COLLECTED, "win32", TESTS.parent, *files, TESTS / "io" / "test_fuzz.py")
    assert "tests/cli/test_bad_input.py" in collected and "tests/io/test_atomic.py" not in collected
