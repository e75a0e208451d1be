"""PyTorch's side of `lstm.py`."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from harness import Case
from lstm_data import (
    DEVICE,
    GRADIENTS,
    LEARNING_RATE,
    MAX_NORM,
    PRECISION,
    STREAMED,
    VOCABULARY,
    Arrays,
    Sizes,
    TextArrays,
    named,
)


def torch_numpy(tensor: Any) -> np.ndarray:
    array: np.ndarray = tensor.detach().cpu().numpy()
    return array


def import_torch() -> Any:
    """PyTorch, computing where DEVICE says, in float32 proper unless PRECISION says otherwise."""
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    if DEVICE in os.environ:
        torch.set_default_device(os.environ[DEVICE])
        # cuDNN's own default is TF32.
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = os.environ.get(PRECISION) == "tf32"
    return torch


def torch_weights(arrays: Arrays, ending: str = "") -> dict[str, Any]:
    """Its two biases are added to each other: one is ours, the other zero."""
    import torch

    return {
        f"weight_ih{ending}": torch.tensor(arrays.weight_ih),
        f"weight_hh{ending}": torch.tensor(arrays.weight_hh),
        f"bias_ih{ending}": torch.tensor(arrays.bias),
        f"bias_hh{ending}": torch.zeros(len(arrays.bias)),
    }


def torch_lstm(sizes: Sizes, arrays: Arrays) -> Any:
    torch = import_torch()
    lstm = torch.nn.LSTM(sizes.I, sizes.H)
    lstm.load_state_dict(torch_weights(arrays, "_l0"))
    return lstm


def torch_forward(sizes: Sizes) -> Case:
    torch = import_torch()
    arrays = Arrays(sizes)
    lstm, x = torch_lstm(sizes, arrays), torch.tensor(arrays.x, requires_grad=True)
    return Case(lambda: lstm(x)[:1], named(["out"], torch_numpy))


def torch_inference(sizes: Sizes) -> Case:
    torch = import_torch()
    arrays = Arrays(sizes)
    lstm, x = torch_lstm(sizes, arrays).eval(), torch.tensor(arrays.x)
    return Case(lambda: lstm(x)[:1], named(["out"], torch_numpy), within=torch.inference_mode)


def torch_backward(sizes: Sizes) -> Case:
    torch = import_torch()
    arrays = Arrays(sizes)
    lstm = torch_lstm(sizes, arrays)
    x, g_out = torch.tensor(arrays.x, requires_grad=True), torch.tensor(arrays.g_out)
    inputs = [x, lstm.weight_ih_l0, lstm.weight_hh_l0, lstm.bias_ih_l0]

    def call() -> list[Any]:
        x.grad = None
        lstm.zero_grad()
        out, _ = lstm(x)
        out.backward(g_out)
        return [out, *(tensor.grad for tensor in inputs)]

    return Case(call, named(GRADIENTS, torch_numpy))


def torch_charlm(sizes: Sizes, fused: bool = False) -> Case:
    """`fused`: with Adam as one kernel, which is not its default."""
    torch = import_torch()
    arrays, text = Arrays(sizes), TextArrays(sizes)
    embedding = torch.nn.Embedding.from_pretrained(torch.tensor(text.embedding), freeze=False)
    lstm = torch_lstm(sizes, arrays)
    output = torch.nn.Linear(sizes.H, VOCABULARY)
    output.load_state_dict({"weight": torch.tensor(text.weight), "bias": torch.tensor(text.bias)})
    ids, targets = torch.tensor(text.ids), torch.tensor(text.targets)
    model = torch.nn.ModuleDict({"embedding": embedding, "lstm": lstm, "output": output})
    # Its two biases have the same gradient: if both stepped, it would be at twice our rate.
    lstm.bias_hh_l0.requires_grad_(False)
    parameters = {name.replace("bias_ih", "bias"): p for name, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.Adam(parameters.values(), lr=LEARNING_RATE, fused=fused)

    def call() -> list[Any]:
        optimizer.zero_grad()
        out, _ = lstm(embedding(ids))
        loss = torch.nn.functional.cross_entropy(output(out).flatten(0, 1), targets.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters.values(), MAX_NORM)
        optimizer.step()
        return [loss, *(parameter.grad for parameter in parameters.values())]

    return Case(call, named(["loss", *(f"gradient of {name}" for name in parameters)], torch_numpy))


def torch_cell_streaming(sizes: Sizes) -> Case:
    """LSTMCell: states (B, H)."""
    torch = import_torch()
    arrays = Arrays(sizes)
    cell = torch.nn.LSTMCell(sizes.I, sizes.H).eval()
    cell.load_state_dict(torch_weights(arrays))
    x, state = torch.tensor(arrays.x[0]), (torch.zeros(1, sizes.H), torch.zeros(1, sizes.H))

    def call() -> list[Any]:
        nonlocal state
        state = cell(x, state)
        return [state[0], *state]

    return Case(call, named(STREAMED, torch_numpy), within=torch.inference_mode)


def torch_lstm_streaming(sizes: Sizes) -> Case:
    """LSTM over a sequence of one step: states (1, B, H)."""
    torch = import_torch()
    arrays = Arrays(sizes)
    lstm = torch_lstm(sizes, arrays).eval()
    x, state = torch.tensor(arrays.x), (torch.zeros(1, 1, sizes.H), torch.zeros(1, 1, sizes.H))

    def call() -> list[Any]:
        nonlocal state
        out, state = lstm(x, state)
        return [out, *state]

    return Case(call, named(STREAMED, torch_numpy), within=torch.inference_mode)
