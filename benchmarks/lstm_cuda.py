"""What only a CUDA device has to show: its gate kernels beside a copy, and the seconds to a program's first step."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Any

from cuda_gauges import CupyGauge

import tinygrad_lstm as tg
from tinygrad_lstm.device import get_device
from tinygrad_lstm.models.atlas import ATLAS
from tinygrad_lstm.ops.sequence import fused_step

__all__ = ["device_name", "gate_kernels", "start_up"]

GATE_SIZES = (4096, 1024)  # (B, H): of each array a step's part is 16 MB, more than fits into a cache of all
TURNS = 11

OUR_STEP = """
import tinygrad_lstm as tg
from tinygrad_lstm.models import CharLM
model = CharLM(65, 256, 256).to("cuda")
ids = tg.tensor([[k % 65] * 32 for k in range(65)], device="cuda")
optimizer = tg.optim.Adam(model.parameters())
loss, _ = model.loss(ids[:-1], ids[1:])
loss.backward()
optimizer.step()
loss.item()
"""
TORCH_STEP = """
import torch
torch.set_default_device("cuda")
embedding, lstm, output = torch.nn.Embedding(65, 256), torch.nn.LSTM(256, 256), torch.nn.Linear(256, 65)
ids = torch.tensor([[k % 65] * 32 for k in range(65)])
optimizer = torch.optim.Adam([*embedding.parameters(), *lstm.parameters(), *output.parameters()])
logits = output(lstm(embedding(ids[:-1]))[0])
loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[1:].flatten())
loss.backward()
optimizer.step()
loss.item()
"""


def device_name() -> str:
    """What the first device calls itself; a DeviceUnavailableError says why there is none."""
    get_device("cuda")
    import cupy

    name: bytes = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)["name"]
    return name.decode()


def gate_kernels() -> Iterator[tuple[str, float, float]]:
    """For each kernel of a step: its name, the bytes that it has to move a second, and that as a share of a copy's."""
    import cupy

    backend: Any = get_device("cuda").backend
    B, H = GATE_SIZES

    def array(value: Any) -> Any:
        return cupy.random.standard_normal((B if value.has_batch else 1, value.row_size), cupy.float32)

    copied, source = cupy.empty((4 * B, H), cupy.float32), cupy.ones((4 * B, H), cupy.float32)
    for name in ("lstm", "gru_reset_after", "rnn"):
        cell = ATLAS[name](H, H).to("cuda")
        for group in _sequence(cell).groups:
            launch = group.op.forward(backend, B)
            arrays = [[array(value) for value in values] for values in (group.inputs, group.results)]
            moved = sum(each.nbytes for part in arrays for each in part)

            def compute(launch: Any = launch, arrays: Any = arrays) -> None:
                launch(*arrays)

            def copy() -> None:
                cupy.copyto(copied, source)

            compute(), copy()
            shares, rates = [], []
            for _ in range(TURNS):
                rates.append(10 * moved / CupyGauge().seconds(compute, 10))
                shares.append(rates[-1] / (10 * 2 * source.nbytes / CupyGauge().seconds(copy, 10)))
            yield f"{name} {group.op.name}", statistics.median(rates), statistics.median(shares)


def _sequence(cell: Any) -> Any:
    """The functions of a cell over a sequence, with those of the derivative."""

    def step(inputs: Sequence[tg.Tensor], states: Sequence[tg.Tensor], _: Any) -> tuple[tg.Tensor, ...]:
        after = parts(cell(inputs[0], tuple(states) if len(states) > 1 else states[0]))
        return after[0], *after

    def parts(state: Any) -> tuple[tg.Tensor, ...]:
        return state if isinstance(state, tuple) else (state,)

    x = tg.zeros(1, 2, GATE_SIZES[1], device="cuda")
    return fused_step(step, [x], parts(cell(x[0])), [])[0].functions(True)


def start_up() -> Iterator[tuple[str, float]]:
    """Seconds from the start of the interpreter to the end of a first training step."""
    with tempfile.TemporaryDirectory() as cache:
        yield "ours, nothing cached", _seconds_of(OUR_STEP, CUPY_CACHE_DIR=cache)
        yield "ours, kernels cached", statistics.median(_seconds_of(OUR_STEP, CUPY_CACHE_DIR=cache) for _ in range(3))
    if find_spec("torch"):
        yield "torch", statistics.median(_seconds_of(TORCH_STEP) for _ in range(3))


def _seconds_of(program: str, **environment: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], env={**os.environ, **environment}, check=True)
    return time.perf_counter() - started
