"""What only a CUDA device has to show: its gate kernels beside a copy, and the seconds to a program's first step."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

from cuda_gauges import CupyGauge

from tinygrad_lstm.device import get_device

__all__ = ["device_name", "gate_kernels", "start_up"]

GATE_SIZES = (8, 4096, 1024)  # (T, B, H): of each array a step's part is 16 MB, more than fits into a cache of all
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

    from tinygrad_lstm.backends.cuda.launching import THREADS, blocks

    backend: Any = get_device("cuda").backend
    T, B, H = GATE_SIZES
    size, width = B * H, 4

    def states(number: int) -> Any:
        return cupy.random.standard_normal((number, B, H), cupy.float32)

    gates, net, hs, cs, out = states(4 * T), states(4 * T), states(T + 1), states(T + 1), states(T)
    g_h, g_c, bias = states(1), states(1), cupy.zeros(4 * H, cupy.float32)
    # For each: the arguments at step t, and how many elements a unit of a sequence makes it read and write.
    of_steps = {
        ("lstm", "lstm_forward_step"): (lambda t: (gates, bias, hs, cs, T + 1, out, None, t, t, t + 1, B, H), 11),
        ("lstm", "lstm_backward_step"): (lambda t: (gates, cs, out, g_h, g_c, net, None, t, t, t + 1, B, H), 14),
        ("gru", "gru_forward_step"): (
            lambda t: (gates, net, bias, bias, hs, cs, T + 1, out, None, t, t, t + 1, B, H), 12,
        ),
        ("gru", "gru_backward_step"): (lambda t: (gates, cs, hs, out, g_h, net, None, t, t, B, H), 12),
        ("rnn", "rnn_forward_step"): (lambda t: (gates, bias, hs, out, None, t, t, t + 1, B, H), 2),
        ("rnn", "rnn_backward_step"): (lambda t: (hs, out, g_h, net, None, t, t + 1, B, H), 4),
    }  # fmt: skip
    copied, copy = states(4 * T), lambda: cupy.copyto(copied, gates)
    for (file, name), (arguments, elements) in of_steps.items():
        kernel = backend.kernel(file, name, cupy.float32, width)

        def launch(kernel: Any = kernel, arguments: Any = arguments) -> None:
            for t in range(T):
                kernel(blocks(size, width), THREADS, arguments(t))

        launch(), copy()
        shares, rates = [], []
        for _ in range(TURNS):
            rates.append(10 * T * size * elements * 4 / CupyGauge().seconds(launch, 10))
            shares.append(rates[-1] / (10 * 2 * gates.nbytes / CupyGauge().seconds(copy, 10)))
        yield name, statistics.median(rates), statistics.median(shares)


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
