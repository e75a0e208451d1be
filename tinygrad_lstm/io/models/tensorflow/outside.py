"""What is known outside of a loop."""

from collections.abc import Mapping
from dataclasses import dataclass

from tinygrad_lstm.backends.base import HostArray

from ..body import Step

__all__ = ["Outside"]


@dataclass(frozen=True)
class Outside:
    """What is known outside of a loop: arrays by name, and the steps that compute other values."""

    arrays: Mapping[str, HostArray]
    steps: Mapping[str, Step]
