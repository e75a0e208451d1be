"""Arrays for the tests of networks' ops: drawn inputs, values on the host, and gradients."""

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

import tinygrad_lstm as tg

HostArray = np.ndarray[Any, Any]
Function = Callable[..., tg.Tensor]

SEEDS = st.integers(0, 2**32 - 1)


def host(tensor: tg.Tensor) -> HostArray:
    return tensor.detach().cpu().numpy()


def gradient(out: tg.Tensor, x: tg.Tensor) -> HostArray:
    return host(tg.grad(out, x, tg.ones_like(out))[0])


def drawn(*shape: int, seed: int = 0) -> HostArray:
    return np.random.default_rng([seed, *shape]).normal(size=shape)
