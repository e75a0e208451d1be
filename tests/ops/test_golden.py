"""Every golden case of the losses and ops: values and gradients as PyTorch has them."""

import json
from typing import Any

import numpy as np
import pytest
from golden.load import FOLDER, load, options

import tinygrad_lstm as tg

FILES = (
    *("losses", "ops", "ops_arrays", "ops_attention", "ops_elementwise", "ops_first", "ops_losses"),
    *(
        "ops_normalization",
        "ops_padding",
        "ops_pooling",
        "ops_scattering",
        "ops_sorting",
        "ops_spectral",
        "ops_windows",
    ),
)
HELD_ELSEWHERE = {
    **dict.fromkeys(("bernoulli", "dropout", "multinomial"), "random: tests/ops/test_sampling.py and test_network.py"),
    **dict.fromkeys(("empty_like", "full_like", "ones_like", "zeros_like"), "a constant"),
    "allclose": "a bool of Python: tests/ops/test_edges.py",
    "equal": "a bool of Python: tests/ops/test_torch_keywords.py",
    "ctc_loss": "tests/ops/test_ctc.py",
    "einsum": "tests/ops/test_laws.py",
}
"""Ops of which PyTorch's results are not in these files, and why or where they are tested."""
CASES = [(file, case) for file in FILES for case in options(file)]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the edges of what floats are
@pytest.mark.parametrize(("file", "case"), CASES, ids=[f"{file}-{case}" for file, case in CASES])
def test_values_and_gradients(file: str, case: str, device: str) -> None:
    settings: dict[str, Any] = options(file)[case]
    arrays = load(file, case)
    named = {name: tg.tensor(arrays[name], device=device) for name in settings["positional"] + settings["keyword"]}
    differentiated = [name for name in named if f"grad_{name}" in arrays]
    for name in differentiated:
        named[name].requires_grad_()

    positional = [named[name] for name in settings["positional"]]

    def run() -> Any:
        return (getattr(tg, settings["op"], None) or getattr(tg.Tensor, settings["op"]))(
            *([positional] if settings.get("listed") else positional),
            *settings.get("args", ()),
            **{name: named[name] for name in settings["keyword"]},
            **settings["kwargs"],
        )

    if settings.get("refused"):
        with pytest.raises((ValueError, IndexError, TypeError)):
            run()
        return
    found = run()
    outs = {"out": found} if isinstance(found, tg.Tensor) else {f"out_{place}": out for place, out in enumerate(found)}
    weighted = [name for name in outs if f"w_{name}" in arrays]
    assert weighted or not differentiated
    if weighted:
        tg.autograd.backward([outs[name] for name in weighted], [arrays[f"w_{name}"] for name in weighted])

    assert set(outs) == {name for name in arrays if name.startswith("out")}
    for name, out in outs.items():
        assert out.shape == arrays[name].shape and out.dtype == arrays[name].dtype
        np.testing.assert_allclose(out.detach().cpu().numpy(), arrays[name], rtol=1e-10, atol=1e-10)
    for name in differentiated:
        grad = named[name].grad
        assert grad is not None
        np.testing.assert_allclose(
            grad.cpu().numpy(), arrays[f"grad_{name}"], rtol=1e-10, atol=1e-10, err_msg=f"gradient of {name}"
        )


def test_every_op_that_pytorch_has_is_compared() -> None:
    names = json.loads((FOLDER / "torch_names.json").read_text(encoding="utf-8"))
    ops = {name for module in ("torch", "torch.nn.functional", "torch.Tensor") for name in names[module]}
    ops = {name for name in ops if callable(getattr(tg, name, None))}
    compared = {options(file)[case]["op"] for file, case in CASES}
    assert ops - compared == set(HELD_ELSEWHERE)
