"""What it takes to run a trained LSTM: what is installed, how soon it answers, how much memory it holds.

    pip install -e '.[bench]'
    python benchmarks/footprint.py              # makes an environment for each side in a temporary folder, with pip
    python benchmarks/footprint.py --threads 2

PyTorch saves an LSTM of one layer, 256 inputs and 256 units (2.1 MB), and it is exported to ONNX. Then each side, in an
environment that holds nothing else, loads it (onnxruntime the ONNX file, since it cannot read PyTorch's) and streams
1,000 steps, one sequence. All sides' last outputs must agree. Every run is a process of its own; the sides take turns,
and times are medians. What pip installs as `torch` depends on its index: on Linux the usual one has a build with CUDA,
which is several times as large as that for the CPU alone, of which the README's figures are. "Load" begins with the
imports; "whole" is from the start of the process to its end; memory is the most that was resident, as Linux tells it.
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
from dataclasses import dataclass
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
    """What is installed, what is imported, and what runs the model."""

    packages: Sequence[str]
    imported: str
    program: str


SIDES = {
    "tinygrad_lstm": Side([str(ROOT)], "tinygrad_lstm", OURS),
    "torch": Side(["torch==2.13.0", "numpy"], "torch", TORCH),
    "onnxruntime": Side(["onnxruntime"], "onnxruntime", ONNXRUNTIME),
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


def installed(side: Side, folder: Path) -> tuple[Path, float]:
    """The interpreter of a new environment that has a side's packages, and the MB that these take there."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    before = megabytes(folder)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *side.packages]
    subprocess.run(pip, check=True)
    return python, megabytes(folder) - before


def megabytes(folder: Path) -> float:
    """The size of all files of an environment but for pip's, whose bytecode is written as it runs."""
    return (
        sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir() and "pip" not in path.parts) / 1e6
    )


def run(python: Path, program: str, folder: Path, threads: int) -> dict[str, float]:
    """What a program prints as JSON, and how long it took as a whole."""
    started = time.perf_counter()
    environment = {**os.environ, **dict.fromkeys(VARIABLES, str(threads))}
    done = subprocess.run(
        [python, "-c", program, str(threads)], cwd=folder, env=environment, stdout=subprocess.PIPE, check=True
    )
    whole = time.perf_counter() - started
    return {**json.loads(done.stdout or "{}"), "whole": whole}


def measure(pythons: Mapping[str, Path], folder: Path, turns: int, threads: int) -> dict[str, dict[str, list[float]]]:
    """Of each side, turn by turn: seconds to start and import, and what its program says of itself."""
    figures: dict[str, dict[str, list[float]]] = {name: {} for name in pythons}
    for turn in range(-1, turns):  # the first is not counted: bytecode and machine code are written to disk
        for name, python in pythons.items():
            empty = run(python, "pass", folder, threads)["whole"]
            imported = run(python, f"import {SIDES[name].imported}", folder, threads)["whole"] - empty
            said = run(python, PROGRAM.format(side=SIDES[name].program), folder, threads)
            if turn >= 0:
                for figure, value in {**said, "import": imported}.items():
                    figures[name].setdefault(figure, []).append(value)
    check_agreement({name: {"y": np.array(said["y"][0])} for name, said in figures.items()})
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_model(folder)
        pythons, sizes = {}, {}
        for name, side in SIDES.items():
            print(f"installing {name}", file=sys.stderr)
            pythons[name], sizes[name] = installed(side, folder / name)
        figures = measure(pythons, folder, arguments.turns, arguments.threads)
    print("| | installed, MB | import, s | load, s | a step, µs | whole, s | memory, MB |\n|" + " --- |" * 7)
    for name, side_figures in figures.items():
        median = {figure: statistics.median(values) for figure, values in side_figures.items() if figure != "y"}
        print(
            f"| {name} | {sizes[name]:.0f} | {median['import']:.2f} | {median['load']:.2f} | {median['step']:.1f} | "
            f"{median['whole']:.2f} | {median['peak']:.0f} |"
        )


if __name__ == "__main__":
    main()
