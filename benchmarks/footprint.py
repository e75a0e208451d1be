"""What it takes to run a trained LSTM: what is installed, how soon it answers, how much memory it needs.

    pip install -e '.[bench]'
    python benchmarks/footprint.py              # makes an environment for each side in a temporary folder, with pip
    python benchmarks/footprint.py --threads 2

PyTorch saves an LSTM of one layer, 256 inputs and 256 units (2.1 MB), and it is exported to ONNX. Then each side, in an
environment with nothing else, loads it (onnxruntime loads the ONNX file, since it cannot read PyTorch's) and streams
1,000 steps of one sequence. The last outputs of all sides must agree. Each run is a separate process; the sides take
turns, and times are medians. This library runs twice: with compiled kernels, if there is a C compiler, and without.

What pip installs as `torch` depends on its index: on Linux the usual one has a build with CUDA, which is several times
as large as the build for the CPU, of which the README's figures are. "First" is the whole first process, which is not
counted otherwise: it builds the kernels. "Load" begins with the imports; "whole" is from the start of the process to
its end; memory is the largest resident size, as Linux reports it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from harness import check_agreement

from tinygrad_lstm.backends.threads import VARIABLES

ROOT = Path(__file__).parents[1]
SIZE, STEPS = 256, 1000

OURS = """
from tinygrad_lstm.models import LSTM
stream = LSTM.from_torch("lstm.pt", prefix="lstm").stream(batch=1)
loaded = time.perf_counter()
for x in xs:
    y = stream(x)
"""

TORCH = """
import torch
torch.set_num_threads(threads)
lstm = torch.nn.LSTM(xs.shape[2], xs.shape[2])
saved = torch.load("lstm.pt", weights_only=True)
lstm.load_state_dict({name.removeprefix("lstm."): array for name, array in saved.items()})
state, xs = None, torch.from_numpy(xs)
loaded = time.perf_counter()
with torch.inference_mode():
    for x in xs:
        y, state = lstm(x[None], state)
y = y.numpy()
"""

ONNXRUNTIME = """
import onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = threads
session = onnxruntime.InferenceSession("lstm.onnx", options, providers=["CPUExecutionProvider"])
h = c = np.zeros((1, 1, xs.shape[2]), np.float32)
loaded = time.perf_counter()
for x in xs:
    y, h, c = session.run(None, {"x": x[None], "h0": h, "c0": c})
"""

PROGRAM = """
import sys, time
started = time.perf_counter()
import json
import numpy as np
threads = int(sys.argv[1])
xs = np.load("inputs.npy")
{side}
ended = time.perf_counter()
(peak,) = [int(line.split()[1]) / 1e3 for line in open("/proc/self/status") if line.startswith("VmHWM")]
steps = (ended - loaded) / len(xs) * 1e6
print(json.dumps(dict(load=loaded - started, step=steps, peak=peak, y=y.ravel().tolist())))
"""


@dataclass(frozen=True)
class Side:
    """What is installed, what is imported, what runs the model, and in which environment variables."""

    packages: tuple[str, ...]
    imported: str
    program: str
    variables: Mapping[str, str] = field(default_factory=dict)


SIDES = {
    "tinygrad_lstm": Side((str(ROOT),), "tinygrad_lstm", OURS),
    "tinygrad_lstm, only NumPy": Side((str(ROOT),), "tinygrad_lstm", OURS, {"TINYGRAD_LSTM_COMPILED": "0"}),
    "torch": Side(("torch==2.13.0", "numpy"), "torch", TORCH),
    "onnxruntime": Side(("onnxruntime",), "onnxruntime", ONNXRUNTIME),
}


def write_model(folder: Path) -> None:
    """The model as PyTorch saves it and as ONNX, and the inputs."""
    import torch

    from tinygrad_lstm.io import export_onnx
    from tinygrad_lstm.models import LSTM

    torch.manual_seed(0)
    model = torch.nn.ModuleDict({"lstm": torch.nn.LSTM(SIZE, SIZE)})
    torch.save(model.state_dict(), folder / "lstm.pt")
    export_onnx(LSTM.from_torch(folder / "lstm.pt", prefix="lstm"), folder / "lstm.onnx")
    np.save(folder / "inputs.npy", np.random.default_rng(0).standard_normal((STEPS, 1, SIZE), np.float32))


def installed(packages: Sequence[str], folder: Path) -> tuple[Path, float]:
    """The interpreter of a new environment with these packages, and their size in MB."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    before = megabytes(folder)
    pip = [python, "-I", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
    subprocess.run(pip, check=True)
    return python, megabytes(folder) - before


def megabytes(folder: Path) -> float:
    """The size of all files of an environment except pip's, whose bytecode is written when it runs."""
    return (
        sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir() and "pip" not in path.parts) / 1e6
    )


def run(python: Path, program: str, folder: Path, threads: int, variables: Mapping[str, str]) -> dict[str, float]:
    """What a program prints as JSON, and how long it took as a whole."""
    others = {**dict.fromkeys(VARIABLES, str(threads)), "TINYGRAD_LSTM_CACHE": str(folder / "cache"), **variables}
    environment = {**os.environ, **others}
    started = time.perf_counter()
    done = subprocess.run(
        [python, "-I", "-c", program, str(threads)], cwd=folder, env=environment, stdout=subprocess.PIPE, check=True
    )
    whole = time.perf_counter() - started
    return {**json.loads(done.stdout or "{}"), "whole": whole}


def measure(pythons: Mapping[str, Path], folder: Path, turns: int, threads: int) -> dict[str, dict[str, list[float]]]:
    """The figures of each side, turn by turn: the time of an import, and what its program prints."""
    figures: dict[str, dict[str, list[float]]] = {name: {} for name in pythons}
    for name, side in SIDES.items():  # before anything is imported, and the kernels are built
        first = run(pythons[name], PROGRAM.format(side=side.program), folder, threads, side.variables)
        figures[name]["first"] = [first["whole"]]
    for _ in range(turns):
        for name, side in SIDES.items():
            python = pythons[name]
            empty = run(python, "pass", folder, threads, {})["whole"]
            imported = run(python, f"import {side.imported}", folder, threads, side.variables)["whole"] - empty
            printed = run(python, PROGRAM.format(side=side.program), folder, threads, side.variables)
            for figure, value in {**printed, "import": imported}.items():
                figures[name].setdefault(figure, []).append(value)
    check_agreement({name: {"y": np.array(printed["y"][0])} for name, printed in figures.items()})
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_model(folder)
        environments: dict[tuple[str, ...], tuple[Path, float]] = {}
        for name, side in SIDES.items():
            if side.packages not in environments:
                print(f"installing {name}", file=sys.stderr)
                environments[side.packages] = installed(side.packages, folder / name)
        pythons = {name: environments[side.packages][0] for name, side in SIDES.items()}
        figures = measure(pythons, folder, arguments.turns, arguments.threads)
    print("| | installed, MB | first, s | import, s | load, s | a step, µs | whole, s | memory, MB |\n|" + " --- |" * 8)
    for name, of_side in figures.items():
        median = {figure: statistics.median(values) for figure, values in of_side.items() if figure != "y"}
        _, size = environments[SIDES[name].packages]
        print(
            f"| {name} | {size:.0f} | {median['first']:.2f} | {median['import']:.2f} | "
            f"{median['load']:.2f} | {median['step']:.1f} | {median['whole']:.2f} | {median['peak']:.0f} |"
        )


if __name__ == "__main__":
    main()
