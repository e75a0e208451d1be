"""The options of a training run."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, get_args

__all__ = ["CHANGEABLE", "SCHEDULES", "TrainingOptions", "with_only_limits"]

LIMITS = ("steps", "epochs", "minutes")
"""The options that limit a run."""

CHANGEABLE = (*LIMITS, "patience")
"""The options that may change when a run is resumed."""

SCHEDULES = ("linear", "cosine", "constant")

_ALLOWED: dict[Any, tuple[Any, str]] = {
    bool: (bool, "True or False"),
    int: (int, "an integer"),
    float: (int | float, "a number"),
    str: (str, "a string"),
}


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """The options of a model and its training.

    All except `patience` and the limits are fixed for a run. The limits are `steps`, `epochs` and `minutes`: the run
    ends at the first of them, and the learning rate falls until then. A limit of None is not set.

    Raises:
        TypeError: a value does not have the type of its field.
        ValueError: a value is out of range, or there is no limit.
    """

    steps: int | None = 2000
    """Steps to train for."""
    epochs: int | None = None
    """How often to read the text."""
    minutes: float | None = None
    """The time to train for, that before a run was resumed included. Such a run depends on the speed of the machine."""
    cell: str = "lstm"
    """The recurrent cell, such as "lstm" or "mgu": a name in `tinygrad_lstm.models.atlas.ATLAS`."""
    embedding: int = 32
    """The length of a character's vector."""
    tie: bool = False
    """Whether the output layer has the weights of the embedding; see `models.CharLM`."""
    hidden: int = 160
    """The size of the hidden state."""
    layers: int = 1
    """Recurrent layers."""
    forget_bias: float = 0.0
    """The initial bias of the forget gates, if the cell is "lstm"."""
    dropout: float = 0.0
    """The probability of dropout in training."""
    seq_len: int = 32
    """T: the number of characters that gradients go back through."""
    batch: int = 32
    """B: the number of streams in a batch."""
    lr: float = 2e-2
    """The highest learning rate."""
    warmup: int = 100
    """Steps over which the learning rate rises to `lr`."""
    schedule: str = "linear"
    """After the warmup, the learning rate falls to a fiftieth of `lr` in a line ("linear") or along a cosine
    ("cosine"), or stays ("constant")."""
    weight_decay: float = 0.0
    """Each step multiplies the weights by 1 - lr * weight_decay, as `optim.AdamW` does."""
    clip: float = 1.0
    """The maximum norm of gradients."""
    seed: int = 0
    """The seed of the initial weights and all random numbers."""
    validate_every: int = 400
    """Steps between validations, each followed by a checkpoint."""
    patience: int | None = None
    """The number of validations in a row without a lower loss after which the run ends; None for never."""
    log_every: int = 20
    """Steps between reports of the training loss."""

    def __post_init__(self) -> None:
        for option in fields(self):
            value = getattr(self, option.name)
            kind, *none = get_args(option.type) or (option.type,)
            allowed, expected = _ALLOWED[kind]
            if value is None and none:
                continue
            if isinstance(value, bool) is not (kind is bool) or not isinstance(value, allowed):
                raise TypeError(f"{option.name}: expected {expected}, got {value!r}")
        for name in ("steps", "epochs", "patience"):
            self._check(name, getattr(self, name) is None or getattr(self, name) >= 1, "at least 1")
        self._check("minutes", self.minutes is None or 0 < self.minutes < math.inf, "above 0 and finite")
        self._check("steps", any(getattr(self, name) is not None for name in LIMITS), "a limit, or epochs or minutes")
        for name in ("embedding", "hidden", "layers", "seq_len", "batch", "warmup", "validate_every", "log_every"):
            self._check(name, getattr(self, name) >= 1, "at least 1")
        self._check("seed", self.seed >= 0, "at least 0")
        for name in ("lr", "clip"):
            self._check(name, 0 < getattr(self, name) < math.inf, "above 0 and finite")
        self._check("schedule", self.schedule in SCHEDULES, f"one of {', '.join(SCHEDULES)}")
        self._check("weight_decay", 0 <= self.weight_decay < math.inf, "at least 0 and finite")
        self._check("forget_bias", math.isfinite(self.forget_bias), "a finite number")
        self._check("forget_bias", self.cell == "lstm" or not self.forget_bias, '0 for a cell except "lstm"')
        self._check("dropout", 0 <= self.dropout < 1, "at least 0 and below 1")

    def _check(self, name: str, good: bool, expected: str) -> None:
        if not good:
            raise ValueError(f"{name}: expected {expected}, got {getattr(self, name)}")

    def last_step(self, batches: int) -> int | None:
        """The step at which the run ends, for epochs of this many batches; None if only the time limits it."""
        steps = [self.steps, None if self.epochs is None else self.epochs * batches]
        return min((number for number in steps if number is not None), default=None)

    def continued(self, given: Mapping[str, Any]) -> "TrainingOptions":
        """These options with the given limits and `patience`. Given limits replace all limits.

        Raises:
            ValueError: a different option is given with a different value.
        """
        for name, value in given.items():
            if name not in CHANGEABLE and getattr(self, name) != value:
                raise ValueError(f"{name}: the run to resume has {getattr(self, name)}, but {value} was given")
        changed = with_only_limits({name: value for name, value in given.items() if name in CHANGEABLE})
        return replace(self, **changed)

    def is_same_run(self, other: "TrainingOptions") -> bool:
        """Whether a run with these options can have the other ones after it is resumed."""
        own = {name: getattr(self, name) for name in CHANGEABLE}
        return self == replace(other, **own)

    def started_anew(self, given: Mapping[str, Any]) -> "TrainingOptions":
        """The options of a new run that starts from the weights of a run with these options.

        The model's sizes are those of this run. All other options are as given, or the defaults.

        Raises:
            ValueError: a different cell, size or `forget_bias` is given.
        """
        names = ("cell", "embedding", "tie", "hidden", "layers", "forget_bias")
        sizes = {name: getattr(self, name) for name in names}
        for name, value in sizes.items():
            if given.get(name, value) != value:
                raise ValueError(f"{name}: the model to start from has {value}, but {given[name]} was given")
        return TrainingOptions(**{**given, **sizes})


def with_only_limits(given: Mapping[str, Any]) -> dict[str, Any]:
    """The given options; if there are limits among them, all other limits are None."""
    limited = any(given.get(name) is not None for name in LIMITS)
    return {**(dict.fromkeys(LIMITS) if limited else {}), **given}
