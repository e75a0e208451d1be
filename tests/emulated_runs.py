"""The emulated device for tests of its kernels: networks that run there and on the CPU, and settings for one test."""

from collections.abc import Iterator
from typing import Any

import hypothesis.strategies as st
import numpy as np
from emulated_backend import EMULATED

import tinygrad_lstm as tg

HostArray = np.ndarray[Any, Any]
TOLERANCE = {"float16": 4e-3, "float32": 2e-6, "float64": 1e-14}
dtypes = st.sampled_from(list(TOLERANCE))


def as_before() -> Iterator[None]:
    """A fixture after which the device is as it was."""
    before = EMULATED.order, EMULATED.multiprocessors, EMULATED.shared_bytes
    yield
    EMULATED.order, EMULATED.multiprocessors, EMULATED.shared_bytes = before


def drawn(seed: int, *shapes: tuple[int, ...], dtype: str) -> list[HostArray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(dtype) for shape in shapes]


def run(network: Any, x: HostArray, lengths: list[int] | None, device: str) -> list[HostArray]:
    """Outputs, states and gradients."""
    network.to(device)
    network.zero_grad()
    inputs = tg.tensor(x, device=device, requires_grad=True)
    with tg.compiled_kernels(False):
        out, state = network(inputs, lengths=lengths)
        parts = [out, *(state if isinstance(state, tuple) else (state,))]
        sum((part * part).sum() * (k + 1) for k, part in enumerate(parts)).backward()
    found = [*parts, inputs.grad, *(parameter.grad for parameter in network.parameters())]
    return [part.detach().cpu().numpy().copy() for part in found]


def check_network(network: Any, x: HostArray, lengths: list[int] | None) -> set[str]:
    """The kernels that were launched; the CPU agrees with what they computed."""
    EMULATED.launches.clear()
    for ours, numpys in zip(*(run(network, x, lengths, device) for device in ("emulated", "cpu")), strict=True):
        scale = max(np.abs(numpys).max(initial=0), 1)
        np.testing.assert_allclose(ours / scale, numpys / scale, rtol=0, atol=2 * TOLERANCE[str(x.dtype)])
    return set(EMULATED.launches)
