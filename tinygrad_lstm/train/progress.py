"""What a run reports: its progress, and how it ended."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Progress", "Summary", "time_left"]


def time_left(seconds: float) -> str:
    """A time in minutes and seconds, as 1:05."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}"


@dataclass(frozen=True, kw_only=True)
class Progress:
    """The progress of a run, as reported and written to metrics.jsonl."""

    step: int
    """Steps of the optimizer so far."""
    epoch: float
    """Epochs so far; with a fraction if the number of batches is known."""
    loss: float
    """The mean over the steps since the last report."""
    lr: float
    per_second: float
    """The number of sequences, characters or other items that were trained on in a second; see `train.weight_of`."""
    seconds_left: float | None = None
    """None if the end of the run is not known."""
    validation: Mapping[str, float] = field(default_factory=dict)
    """The loss and the metrics of the validation, by name; empty if this step was not validated."""

    @property
    def validation_loss(self) -> float | None:
        """None if this step was not validated."""
        return self.validation.get("loss")

    def line(self) -> str:
        """What matters of it, in one line."""
        parts = [f"step {self.step}", f"epoch {self.epoch:.2f}", f"loss {self.loss:.4g}", f"lr {self.lr:.2g}"]
        parts.append(f"{self.per_second:,.0f}/s")
        if self.seconds_left is not None:
            parts.append(f"{time_left(self.seconds_left)} left")
        parts += [f"validation {name} {value:.4g}" for name, value in self.validation.items()]
        return "  ".join(parts)

    def values(self) -> dict[str, Any]:
        """These fields, and each value of the validation as validation_NAME: a line of metrics.jsonl.

        JSON has no NaN and no infinities: they are None.
        """
        fields: dict[str, Any] = asdict(self)
        validation = {"loss": None} | fields.pop("validation")
        fields |= {f"validation_{name}": value for name, value in validation.items()}
        return {name: value if value is None or math.isfinite(value) else None for name, value in fields.items()}


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The end of a run."""

    step: int
    """Steps of the optimizer in all."""
    epoch: float
    finished: bool
    """False if the run was stopped by `Trainer.stop` before its end."""
    seconds: float
    """The time that it took, without that before it was resumed."""
    best: float | None
    """The lowest validation loss, that of best.safetensors; None if there was no validation."""
    validation: Mapping[str, float]
    """The values of the last validation by this trainer; empty if there was none."""
    plot: Path | None
    """The loss curve, if the run has a folder and matplotlib is installed."""
