"""Weights that PyTorch keeps in parts, and what they are: `python tests/golden/torch_reparametrised.py`.

Writes reparametrised.safetensors: the arrays of a model's state_dict are `case/in/name`, and the weights that its
modules compute from them `case/out/name`. The model is in evaluation mode.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

Arrays = dict[str, np.ndarray]
INPUTS = {"lstm": (2, 2, 3), "head": (2, 4), "conv": (2, 3, 5), "transposed": (2, 4, 5)}
WEIGHTS = {"lstm": "weight_hh_l0", "head": "weight", "conv": "weight", "transposed": "weight"}


def model() -> nn.ModuleDict:
    return nn.ModuleDict(
        {
            "lstm": nn.LSTM(3, 4),
            "head": nn.Linear(4, 2),
            "conv": nn.Conv1d(3, 4, 3),
            "transposed": nn.ConvTranspose1d(4, 4, 3),
        }
    )


def pruned(layer: nn.Module, weight: str) -> None:
    prune.random_unstructured(layer, weight, 0.5)
    if hasattr(layer, "bias") and isinstance(layer.bias, torch.Tensor):
        prune.random_unstructured(layer, "bias", 0.5)


CASES: dict[str, Callable[[nn.Module, str], object]] = {
    "weight_norm": weight_norm,
    "weight_norm_of_columns": lambda layer, weight: weight_norm(layer, weight, dim=1),
    "weight_norm_of_all": lambda layer, weight: weight_norm(layer, weight, dim=None),
    "spectral_norm": spectral_norm,
    "prune": pruned,
    "parametrized_weight_norm": parametrizations.weight_norm,
    "parametrized_spectral_norm": parametrizations.spectral_norm,
}


def case(wrap: Callable[[nn.Module, str], object]) -> tuple[Arrays, Arrays]:
    made = model()
    for name, layer in made.items():
        wrap(layer, WEIGHTS[name])
        layer(
            torch.randn(INPUTS[name])
        )  # spectral_norm iterates in training, and the older one computes its weight here
    made.eval()
    for name, layer in made.items():
        layer(torch.randn(INPUTS[name]))
    weights = {}
    for name, layer in made.items():
        for own in ("weight", "bias", "weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
            if isinstance(value := getattr(layer, own, None), torch.Tensor):
                weights[f"{name}.{own}"] = value.detach().numpy().copy()
    return {name: value.numpy().copy() for name, value in made.state_dict().items()}, weights


if __name__ == "__main__":
    arrays: Arrays = {}
    for name, wrap in CASES.items():
        torch.manual_seed(0)
        parts, weights = case(wrap)
        arrays |= {f"{name}/in/{key}": value for key, value in parts.items()}
        arrays |= {f"{name}/out/{key}": value for key, value in weights.items()}
    path = Path(__file__).parent / "reparametrised.safetensors"
    save_file(arrays, path)
    path.chmod(0o644)
