"""The options of a training run."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

__all__ = ["TrainingOptions"]


_ALLOWED: dict[Any, tuple[Any, str]] = {
    int: (int, "an integer"),
    float: (int | float, "a number"),
    str: (str, "a string"),
}


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """The options of a model and its training. All except `steps` are fixed for a run.

    Raises:
        TypeError: a value is not an integer, a number or a string, as its field requires.
        ValueError: a value is out of range.
    """

    steps: int = 1000
    """Steps to train for. The learning rate falls over all of them."""
    cell: str = "lstm"
    """The recurrent cell, such as "lstm" or "mgu": a name in `tinygrad_lstm.models.atlas.ATLAS`."""
    embedding: int = 64
    """The length of a character's vector."""
    hidden: int = 160
    """The size of the hidden state."""
    layers: int = 1
    """Recurrent layers."""
    forget_bias: float = 0.0
    """The initial bias of the forget gates, if the cell is "lstm"."""
    dropout: float = 0.0
    """The probability of dropout in training."""
    seq_len: int = 64
    """T: the number of characters that gradients go back through."""
    batch: int = 32
    """B: the number of streams in a batch."""
    lr: float = 5e-3
    """The highest learning rate."""
    warmup: int = 50
    """Steps over which the learning rate rises to `lr`. After them it falls to a tenth of `lr`."""
    clip: float = 1.0
    """The maximum norm of gradients."""
    seed: int = 0
    """The seed of the initial weights and all random numbers."""
    validate_every: int = 200
    """Steps between validations, each followed by a checkpoint."""
    log_every: int = 20
    """Steps between reports of the training loss."""

    def __post_init__(self) -> None:
        for option in fields(self):
            value = getattr(self, option.name)
            allowed, expected = _ALLOWED[option.type]
            if isinstance(value, bool) or not isinstance(value, allowed):
                raise TypeError(f"{option.name}: expected {expected}, got {value!r}")
        for name in ("steps", "embedding", "hidden", "layers", "seq_len", "batch", "warmup"):
            self._check(name, getattr(self, name) >= 1, "at least 1")
        for name in ("validate_every", "log_every"):
            self._check(name, getattr(self, name) >= 1, "at least 1")
        self._check("seed", self.seed >= 0, "at least 0")
        for name in ("lr", "clip"):
            self._check(name, 0 < getattr(self, name) < math.inf, "above 0 and finite")
        self._check("forget_bias", math.isfinite(self.forget_bias), "a finite number")
        self._check("forget_bias", self.cell == "lstm" or not self.forget_bias, '0 for a cell except "lstm"')
        self._check("dropout", 0 <= self.dropout < 1, "at least 0 and below 1")

    def _check(self, name: str, good: bool, expected: str) -> None:
        if not good:
            raise ValueError(f"{name}: expected {expected}, got {getattr(self, name)}")

    def continued(self, given: Mapping[str, Any]) -> "TrainingOptions":
        """These options with the given `steps`, if any.

        Raises:
            ValueError: a different option is given with a different value.
        """
        for name, value in given.items():
            if name != "steps" and getattr(self, name) != value:
                raise ValueError(f"{name}: the run to resume has {getattr(self, name)}, but {value} was given")
        return replace(self, steps=given.get("steps", self.steps))

    def started_anew(self, given: Mapping[str, Any]) -> "TrainingOptions":
        """The options of a new run that starts from the weights of a run with these options.

        The model's sizes are those of this run. All other options are as given, or the defaults.

        Raises:
            ValueError: a different cell, size or `forget_bias` is given.
        """
        sizes = {name: getattr(self, name) for name in ("cell", "embedding", "hidden", "layers", "forget_bias")}
        for name, value in sizes.items():
            if given.get(name, value) != value:
                raise ValueError(f"{name}: the model to start from has {value}, but {given[name]} was given")
        return TrainingOptions(**{**given, **sizes})
