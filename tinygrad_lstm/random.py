"""The random numbers of the library: one generator on the host, the same stream whatever the device."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

__all__ = ["manual_seed"]

_generator = np.random.default_rng()


def generator() -> np.random.Generator:
    """The generator that initial weights, dropout masks, `rand` and sampling draw from."""
    return _generator


def manual_seed(seed: int) -> None:
    """Starts the random numbers of the library anew, the same for the same seed on every device."""
    global _generator
    _generator = np.random.default_rng(seed)


def random_state() -> dict[str, Any]:
    """Where the random numbers stand: plain values, for `set_random_state`."""
    return dict(_generator.bit_generator.state)


def set_random_state(state: dict[str, Any]) -> None:
    """Puts the random numbers back to where `random_state` found them."""
    _generator.bit_generator.state = state


@contextmanager
def restored_random_state(state: dict[str, Any]) -> Iterator[None]:
    """Within it, random numbers go on from `state`; afterwards, from where they stood before."""
    before = random_state()
    set_random_state(state)
    try:
        yield
    finally:
        set_random_state(before)
