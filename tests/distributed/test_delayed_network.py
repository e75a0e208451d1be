"""Workers on hosts with a slow network between them, and after it is cut."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import delayed_network
import pytest
import shared_runs
from delayed_network import DelayedNetwork
from thread_workers import together

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(shared_runs.__file__).parent)}

UNTIL_THE_CUT = """
import sys, pathlib, shared_runs, tinygrad_lstm as tg
group = tg.distributed.init(timeout=1.0)
print("begun", flush=True)
try:
    shared_runs.trained("characters", group, steps=10**6)
except tg.distributed.WorkerError as error:
    pathlib.Path(sys.argv[1], str(group.rank)).write_text(str(error))
"""


@pytest.fixture
def network() -> Iterator[DelayedNetwork]:
    """Two hosts; a packet takes 2 ms."""
    if importlib.util.find_spec("mpi4py") is None:
        pytest.skip("there is no mpi4py: pip install '.[mpi]'")
    if not Path(sys.executable).with_name("mpiexec").exists():
        pytest.skip("there is no mpiexec beside Python: pip install '.[mpi]'")
    if reason := delayed_network.missing():
        pytest.skip(f"no network namespaces with TUN devices: {reason}")
    with DelayedNetwork(2, delay=0.002, bandwidth=1e8) as network:
        yield network


def test_the_bits_are_those_of_one_process(network: DelayedNetwork, tmp_path: Path) -> None:
    steps = 6
    alone = together(1, lambda communicator: shared_runs.trained("characters", communicator, steps, tmp_path / "one"))
    program = [sys.executable, shared_runs.__file__, "characters", str(steps), str(tmp_path)]
    subprocess.run(network.mpiexec(program), check=True, timeout=60, env=ENVIRONMENT)
    digests = [json.loads((tmp_path / f"{rank}.json").read_text())[2] for rank in (0, 1)]
    assert digests == alone * 2


def test_a_cut_ends_both_sides(network: DelayedNetwork, tmp_path: Path) -> None:
    program = [sys.executable, "-c", UNTIL_THE_CUT, str(tmp_path)]
    with subprocess.Popen(network.mpiexec(program), stdout=subprocess.PIPE, text=True, env=ENVIRONMENT) as workers:
        assert workers.stdout is not None
        assert [workers.stdout.readline() for _ in range(2)] == ["begun\n"] * 2
        network.set(open=False)
        workers.wait(timeout=60)
    for rank, other in ((0, 1), (1, 0)):
        message = (tmp_path / str(rank)).read_text()
        assert re.fullmatch(rf"worker {other} has not answered for \d s", message)
