"""How a model is made and trained."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

__all__ = ["TrainingOptions"]


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How a model is made and trained; all but `steps` belong to a run for good.

    Raises:
        TypeError: a value is not a number, or not an integer where one is needed.
        ValueError: a value is out of its range.
    """

    steps: int = 1000
    """Steps to train for. The learning rate falls over all of them."""
    embedding: int = 64
    """The length of a character's vector."""
    hidden: int = 160
    """The size of the hidden state."""
    layers: int = 1
    """LSTM layers."""
    forget_bias: float = 0.0
    """Where the bias of the forget gates starts."""
    dropout: float = 0.0
    """The share of values dropped in training."""
    seq_len: int = 64
    """T: through how many characters gradients go back."""
    batch: int = 32
    """B: the streams that are read side by side."""
    lr: float = 5e-3
    """The highest learning rate."""
    warmup: int = 50
    """Steps over which the learning rate rises to `lr`; over the others it falls to a tenth of that."""
    clip: float = 1.0
    """The norm to which longer gradients are cut."""
    seed: int = 0
    """From which the initial weights and all random numbers come."""
    validate_every: int = 200
    """Steps between validations, each followed by a checkpoint."""
    log_every: int = 20
    """Steps between the readings of the training loss."""

    def __post_init__(self) -> None:
        for option in fields(self):
            value = getattr(self, option.name)
            if isinstance(value, bool) or not isinstance(value, int if option.type is int else int | float):
                expected = "an integer" if option.type is int else "a number"
                raise TypeError(f"{option.name}: expected {expected}, got {value!r}")
        for name in ("steps", "embedding", "hidden", "layers", "seq_len", "batch", "warmup"):
            self._check(name, getattr(self, name) >= 1, "at least 1")
        for name in ("validate_every", "log_every"):
            self._check(name, getattr(self, name) >= 1, "at least 1")
        self._check("seed", self.seed >= 0, "at least 0")
        for name in ("lr", "clip"):
            self._check(name, 0 < getattr(self, name) < math.inf, "above 0 and finite")
        self._check("forget_bias", math.isfinite(self.forget_bias), "a finite number")
        self._check("dropout", 0 <= self.dropout < 1, "at least 0 and below 1")

    def _check(self, name: str, good: bool, expected: str) -> None:
        if not good:
            raise ValueError(f"{name}: expected {expected}, got {getattr(self, name)}")

    def continued(self, given: Mapping[str, Any]) -> "TrainingOptions":
        """These options with other `steps`, if given.

        Raises:
            ValueError: another option is given that differs.
        """
        for name, value in given.items():
            if name != "steps" and getattr(self, name) != value:
                raise ValueError(f"{name}: the run to resume has {getattr(self, name)}, but {value} was given")
        return replace(self, steps=given.get("steps", self.steps))

    def started_anew(self, given: Mapping[str, Any]) -> "TrainingOptions":
        """The options of a new run that starts from the weights of a run with these.

        The model's sizes are this run's. All else is as given, or as usual.

        Raises:
            ValueError: a size is given that differs, or where the bias of the forget gates starts, which is learnt.
        """
        sizes = {name: getattr(self, name) for name in ("embedding", "hidden", "layers", "forget_bias")}
        for name, value in sizes.items():
            if given.get(name, value) != value:
                raise ValueError(f"{name}: the model to start from has {value}, but {given[name]} was given")
        return TrainingOptions(**{**given, **sizes})
