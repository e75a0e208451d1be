"""Runs tests with the kernels in C built for AddressSanitizer and UndefinedBehaviorSanitizer: `make sanitize`.

It takes some five minutes on two cores. Many more steps are drawn than in `make test`.

Python itself is not built for them, so their libraries are loaded before it. Accesses to NumPy's arrays are checked,
except to large arrays, which are parts of a pool (`backends/memory.py`).
"""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

TESTS = Path(__file__).parent
KERNELS = ("runtime_functions", "runtime_product", "runtime_team", "training", "normalizing", "matrices", "c_sequences")
FILES = (
    *(f"backends/test_{name}.py" for name in KERNELS),
    "backends/test_scans.py",
    "ops/test_ctc.py",
    "ops/test_one_pass.py",
    "models/test_stepping_of_cells.py",
)
DRAWN_STEPS = 100


def environment() -> dict[str, str] | None:
    """The environment in which C is built for the sanitizers; None if there is no GCC that has them."""
    compiler = shutil.which("gcc")
    if compiler is None:
        return None
    names = ("libasan.so", "libubsan.so")
    asked = (subprocess.run([compiler, f"-print-file-name={name}"], capture_output=True, text=True) for name in names)
    libraries = [Path(answer.stdout.strip()) for answer in asked]
    if not all(library.is_absolute() and library.exists() for library in libraries):
        return None
    return {
        **os.environ,
        "CC": shlex.quote(str(TESTS / "sanitizing_cc")),
        "LD_PRELOAD": " ".join(map(str, libraries)),
        "ASAN_OPTIONS": "detect_leaks=0",  # Python's own
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "DRAWN_STEPS": str(DRAWN_STEPS),
    }


def run(arguments: Iterable[str], capture: bool = False) -> subprocess.CompletedProcess[str]:
    """Runs Python with these arguments in the environment."""
    return subprocess.run(
        [sys.executable, *arguments], env=environment(), stdin=subprocess.DEVNULL, capture_output=capture, text=True
    )


def main() -> int:
    if environment() is None:
        print(
            "error: GCC with AddressSanitizer is needed; on Debian and Ubuntu: sudo apt-get install gcc",
            file=sys.stderr,
        )
        return 2
    chosen = sys.argv[1:] or [str(TESTS / name) for name in FILES]
    return run(["-m", "pytest", "-n", "0", *chosen]).returncode


if __name__ == "__main__":
    sys.exit(main())
