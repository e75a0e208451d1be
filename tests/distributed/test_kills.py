"""Workers that are killed: a sample of `python tests/kill_workers.py --kills 100`."""

import sys
from pathlib import Path

import kill_workers
import pytest


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc, which lists the workers")
@pytest.mark.skipif(not Path(sys.executable).with_name("mpiexec").exists(), reason="there is no mpiexec beside Python")
def test_three_kills(capsys: pytest.CaptureFixture[str]) -> None:
    kill_workers.main(["--kills", "3", "--quick"])
    assert "all with the weights of unbroken ones" in capsys.readouterr().out
