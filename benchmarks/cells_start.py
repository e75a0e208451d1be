"""What a new cell costs before its first result, and the memory that it takes, in a process that does nothing else.

    python cells_start.py SIDE PROBLEM [BEFORE]     # what `starts` runs: two pickled problems; prints JSON

The process first computes another cell, if BEFORE is given, so that all imports and everything that cells share are
ready. Then it makes the cell and computes it forward and backward. The time of this first call, less that of a later
one, is what it takes to trace, generate, compile and load the code.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

STARTED = time.perf_counter()


class Start(NamedTuple):
    """Seconds until a cell is ready, in new caches and in used ones; MB of a process at its largest."""

    cold: float
    warm: float
    memory: float


def starts(side: str, environment: dict[str, str], problem: Any, before: Any) -> Start:
    """Measures a side, twice: the second process finds the caches of the first.

    Args:
        environment: the variables of the processes.
        before: the problem that is computed before; with None, everything from the interpreter's start on is counted.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        caches = {
            "TINYGRAD_LSTM_CACHE": str(folder / "ours"),
            "JAX_COMPILATION_CACHE_DIR": str(folder / "jax"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
            "TORCHINDUCTOR_CACHE_DIR": str(folder / "torch"),
        }
        given = []
        for name, each in (("problem", problem), ("before", before)):
            if each is not None:
                (folder / name).write_bytes(pickle.dumps(each))
                given.append(folder / name)
        command = [sys.executable, __file__, side, *map(str, given)]

        def run() -> dict[str, float]:
            done = subprocess.run(command, env={**os.environ, **caches, **environment}, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"{side}: {(done.stderr.splitlines() or ['no message'])[-1]}")
            found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
            return found

        cold, warm = run(), run()
        return Start(cold["seconds"], warm["seconds"], warm["memory"])


def main(side: str, problem: str, *before: str) -> None:
    import resource

    from cells_backward import BACKWARD

    for path in before:
        BACKWARD[side](_read(path))[0]()
    began = time.perf_counter() if before else STARTED
    call, _ = BACKWARD[side](_read(problem))
    call()
    first = time.perf_counter() - began
    steady = min(_seconds(call) for _ in range(3))
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    print(json.dumps({"seconds": max(first - steady, 0.0), "memory": megabytes}))


def _read(path: str) -> Any:
    return pickle.loads(Path(path).read_bytes()).to(np.float32)


def _seconds(call: Any) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


if __name__ == "__main__":
    main(*sys.argv[1:])
