"""Small modules for the tests of `Module`, and what is asked of their parameters."""

import numpy as np

import tinygrad_lstm as tg
from tinygrad_lstm import nn


class Block(nn.Module):
    """A parameter, a buffer, children and a plain attribute."""

    def __init__(self, width: int = 3) -> None:
        self.scale = nn.Parameter(tg.ones(width))
        self.register_buffer("offset", tg.arange(width, dtype="float32"))
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.dropout = nn.Dropout(0.5)
        self.width = width

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        x = x * self.scale + self.offset
        for layer in self.layers:
            x = layer(x)
        return self.dropout(x)


NAMES = ["scale", "layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.1.bias"]


def values(module: nn.Module) -> list[np.ndarray]:
    return list(module.state_dict().values())


def learning(module: nn.Module) -> list[str]:
    return [name for name, parameter in module.named_parameters() if parameter.requires_grad]
