"""What `lstm.py` measures: each task as each side does it, from the same weights and inputs, in float32.

The tasks:
    forward     the outputs, recorded for a backward to follow
    inference   the outputs, nothing recorded
    backward    forward and backward: the gradients of the input and of all weights, that of the output being given
    charlm      a training step of a character model: embedding, LSTM, linear, cross-entropy, backward, clipping, Adam
    streaming   one step at batch 1, from the state that the step before left
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.util import find_spec

from cuda_gauges import CupyGauge, TorchGauge
from harness import Case, Gauge, HostGauge
from lstm_data import DEVICE, PRECISION, Sizes
from lstm_floor import products_backward, products_forward
from lstm_onnx import onnx_bound_streaming, onnx_streaming
from lstm_ours import our_backward, our_charlm, our_checkpointed_backward, our_forward, our_inference, our_streaming
from lstm_torch import (
    torch_backward,
    torch_cell_streaming,
    torch_charlm,
    torch_forward,
    torch_inference,
    torch_lstm_streaming,
)

from tinygrad_lstm.backends.compiled.building import why_not

Task = Callable[[Sizes], Case]

OURS: dict[str, Task] = {
    "forward": our_forward,
    "inference": our_inference,
    "backward": our_backward,
    "charlm": our_charlm,
    "streaming": our_streaming,
}
CHECKPOINTED: dict[str, Task] = {"backward": our_checkpointed_backward}
TORCH: dict[str, Task] = {
    "forward": torch_forward,
    "inference": torch_inference,
    "backward": torch_backward,
    "charlm": torch_charlm,
}
PRODUCTS: dict[str, Task] = {
    "forward": products_forward,
    "inference": products_forward,
    "backward": products_backward,
    "streaming": products_forward,
}


@dataclass(frozen=True)
class Side:
    """Who computes.

    Args:
        needs: the packages without which it cannot.
        tasks: how it does those that it does.
        environment: variables that it finds set.
        gauge: makes what measures it.
    """

    needs: tuple[str, ...]
    tasks: Mapping[str, Task]
    environment: Mapping[str, str] = field(default_factory=dict)
    gauge: Callable[[], Gauge] = HostGauge

    def installed(self) -> bool:
        compiled = self.environment == WITH_COMPILED
        return all(find_spec(package) for package in self.needs) and not (compiled and why_not())


WITH_COMPILED, WITHOUT = {"TINYGRAD_LSTM_COMPILED": "1"}, {"TINYGRAD_LSTM_COMPILED": "0"}
OUR_CUDA, TORCH_CUDA = {"TINYGRAD_LSTM_DEVICE": "cuda"}, {DEVICE: "cuda"}

SIDES = {
    "compiled": Side((), OURS, WITH_COMPILED),
    "NumPy": Side((), OURS, WITHOUT),
    "compiled, checkpointed": Side((), CHECKPOINTED, WITH_COMPILED),
    "NumPy, checkpointed": Side((), CHECKPOINTED, WITHOUT),
    "torch": Side(("torch",), TORCH),
    "torch, fused Adam": Side(("torch",), {"charlm": partial(torch_charlm, fused=True)}),
    "torch LSTMCell": Side(("torch",), {"streaming": torch_cell_streaming}),
    "torch LSTM": Side(("torch",), {"streaming": torch_lstm_streaming}),
    "onnxruntime": Side(("onnx", "onnxruntime"), {"streaming": onnx_streaming}),
    "onnxruntime, bound": Side(("onnx", "onnxruntime"), {"streaming": onnx_bound_streaming}),
    "products": Side((), PRODUCTS),
    "ours, CUDA": Side(("cupy",), OURS, OUR_CUDA, CupyGauge),
    "torch, CUDA": Side(("torch",), TORCH, TORCH_CUDA, TorchGauge),
    "torch, CUDA, fused Adam": Side(("torch",), {"charlm": partial(torch_charlm, fused=True)}, TORCH_CUDA, TorchGauge),
}
"""Ours first, for each device; `products` is the floor."""


def prepare(side: str, task: str, sizes: Sizes) -> Case:
    """The task as the side does it."""
    if side == "ours, CUDA":
        import tinygrad_lstm as tg

        tg.cuda.set_precision(os.environ.get(PRECISION, "float32"))
    return replace(SIDES[side].tasks[task](sizes), gauge=SIDES[side].gauge())
