"""The random numbers of a fit."""

from typing import Any

import numpy as np

__all__ = ["generator_of", "seed_from"]


def generator_of(caller: str, random_state: Any) -> np.random.Generator:
    """The random numbers of a seed; of a generator, which goes on; or, for None, different ones in each call.

    Raises:
        TypeError, ValueError: it is something else, or a negative seed.
    """
    if isinstance(random_state, np.random.RandomState):
        return np.random.default_rng(random_state.randint(2**31))
    try:
        return np.random.default_rng(random_state)
    except (TypeError, ValueError) as error:
        expected = "a seed (an integer, 0 or more), a generator of NumPy, or None"
        raise type(error)(f"{caller}: expected random_state to be {expected}, got {random_state!r:.100}") from error


def seed_from(rng: np.random.Generator) -> int:
    """A seed that is drawn from a generator."""
    return int(rng.integers(2**31))
