"""Workers of MPI: what they take and what they refuse."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mpi4py", reason="there is no mpi4py: pip install '.[mpi]'")

TESTS = Path(__file__).parents[1]
SEND_STRICT_ARRAYS = """
import numpy as np
import tinygrad_lstm as tg
from mpi4py import MPI
from strict_backend import STRICT, StrictArray
from tinygrad_lstm.distributed.mpi import MPICommunicator

place = tg.register_backend("strict", STRICT)
del StrictArray.__array__, StrictArray.__dlpack__, StrictArray.__dlpack_device__
StrictArray.__cuda_array_interface__ = property(lambda self: self._host.__array_interface__)
group = MPICommunicator(MPI.COMM_SELF)  # which sends to itself
for shape in [(), (0,), (3,), (2, 3)]:
    sent = place.backend.from_host(np.arange(-1, np.prod(shape, dtype=int) - 1, dtype=np.float16).reshape(shape))
    received = place.backend.from_host(np.zeros(shape, np.float16))
    STRICT.counts.reset()
    with place.current():
        group.exchange({0: sent}, {0: received}).wait()
    counts = STRICT.counts
    print(received._host.tolist(), counts.device_to_host, counts.host_to_device, counts.synchronisations)
try:
    group.exchange({}, {0: np.zeros((2, 3)).T})
except ValueError as error:
    print(error)
"""
TRUNCATED = """
import numpy as np
import tinygrad_lstm as tg
from mpi4py import MPI
from tinygrad_lstm.distributed.mpi import MPICommunicator

try:
    MPICommunicator(MPI.COMM_SELF).exchange({0: np.zeros(3)}, {0: np.zeros(2)}).wait()
except tg.distributed.WorkerError as error:
    print(error)
"""
SERIALIZED = """
import mpi4py
import tinygrad_lstm as tg
mpi4py.rc.thread_level = "serialized"
tg.distributed.init()
"""
ARRAYS = ["-1.0", "[]", "[-1.0, 0.0, 1.0]", "[[-1.0, 0.0, 1.0], [2.0, 3.0, 4.0]]"]


def run(program: str, **variables: str) -> tuple[str, str]:
    """What a process writes."""
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1", **variables}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, env=environment, check=False
    )
    return done.stdout, done.stderr


@pytest.mark.parametrize(("knows_cuda", "counts"), [("1", "0 0 1"), ("0", "1 1 0"), ("", "1 1 0")])
def test_arrays_of_a_device(knows_cuda: str, counts: str) -> None:
    """An MPI that knows CUDA gets them when they are computed; to others their copies are sent."""
    out, err = run(SEND_STRICT_ARRAYS, TINYGRAD_LSTM_MPI_CUDA=knows_cuda)
    refused = "exchange: expected contiguous arrays, got one of shape (3, 2) that is not"
    assert out.splitlines() == [*(f"{array} {counts}" for array in ARRAYS), refused], err


def test_errors_of_mpi_are_those_of_a_worker() -> None:
    """MPICH has them when a worker is killed; that is a fault that may pass, so the launcher starts the run again."""
    out, err = run(TRUNCATED)
    assert out.startswith("a message to or from a different worker failed: "), err


def test_an_mpi_without_threads_is_refused() -> None:
    _, err = run(SERIALIZED, PMI_SIZE="1")
    assert "RuntimeError: tg.distributed: MPI was started without MPI_THREAD_MULTIPLE" in err


def test_backends_that_are_not_there() -> None:
    _, err = run("import tinygrad_lstm as tg; tg.distributed.init(backend='gloo')")
    assert "ValueError: tg.distributed.init: expected backend to be 'mpi', 'nccl' or None, got 'gloo'" in err
    mpiexec = Path(sys.executable).with_name("mpiexec")
    if not mpiexec.exists() or importlib.util.find_spec("cupy") is not None:
        pytest.skip("there is no mpiexec beside Python, or there is a CuPy")
    program = "import tinygrad_lstm as tg; tg.distributed.init(backend='nccl')"
    command = [mpiexec, "-n", "2", sys.executable, "-c", program]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    # The first worker that ends may end the other one before that says so, too.
    assert "ImportError: tg.distributed.init: backend 'nccl' needs CuPy with NCCL, but" in done.stderr
