"""The random numbers of a fit."""

from typing import Any

import numpy as np

__all__ = ["generator_of", "seed_from"]


def generator_of(random_state: Any) -> np.random.Generator:
    """The random numbers of a seed, or of a generator, which goes on; None is a seed of its own.

    Raises:
        TypeError: it is something else.
    """
    if isinstance(random_state, np.random.RandomState):
        return np.random.default_rng(random_state.randint(2**31))
    return np.random.default_rng(random_state)


def seed_from(rng: np.random.Generator) -> int:
    """A seed that is drawn from a generator."""
    return int(rng.integers(2**31))
