"""Trials of character models."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tinygrad_lstm.models import CharLM

from ..data.encoded_text import EncodedText
from ..data.text import TextBatches, split_text
from ..device import default_device, get_device
from ..train import TextTrainer, TrainingOptions
from .pruning import Pruning

__all__ = ["TextTask"]

VALIDATIONS = 10
"""The least number of validations in a trial: pruning needs some."""


@dataclass(frozen=True)
class TextTask:
    """A character model of a text, which trials train with different `TrainingOptions`.

    A trial is a run of `TextTrainer`. It is validated at least ten times (unless `patience` is set, which counts
    validations), so that it can be pruned. The weights do not depend on it.

    Args:
        text: the text, of which the last tenth is for validation.
        options: the options of all trials. Those of a trial replace some of them.
        device: where to compute, such as "cuda"; None for the default device.
        sources: the paths of the text, stored in the checkpoints.
    """

    text: str | EncodedText
    options: TrainingOptions = field(default_factory=TrainingOptions)
    device: str | None = None
    sources: tuple[str, ...] = ()

    def with_options(self, options: Mapping[str, Any]) -> TrainingOptions:
        """The options of a trial.

        Raises:
            TypeError, ValueError: one is unknown or invalid.
        """
        known = [each.name for each in fields(TrainingOptions)]
        for name in options:
            if name not in known:
                raise ValueError(f"TextTask: expected options among {', '.join(known)}, got {name!r}")
        return replace(self.options, **options)

    def train(self, options: Mapping[str, Any], out: Path | None, pruning: Pruning) -> tuple[int, float]:
        """Trains a model in a folder, by default a temporary one. Returns the steps and epochs."""
        if out is None:
            with TemporaryDirectory() as folder:
                return self.train(options, Path(folder), pruning)
        text = self.text if isinstance(self.text, EncodedText) else EncodedText.of(self.text)
        chosen = self.with_options(options)

        def make(characters: int, options: TrainingOptions) -> CharLM:
            with default_device(get_device(self.device)):
                return CharLM.from_options(characters, options)

        chosen = replace(chosen, validate_every=_validate_every(text, chosen))
        run = TextTrainer.start(make, text, chosen, out, self.sources)
        summary = run.run(lambda progress: pruning.on_report(run, progress))
        return summary.step, summary.epoch


def _validate_every(text: EncodedText, options: TrainingOptions) -> int:
    """The number of steps between validations."""
    if options.patience is not None:
        return options.validate_every
    training, _ = split_text(text.ids)
    try:
        last = options.last_step(len(TextBatches(training, options.batch, options.seq_len)))
    except ValueError:  # the text is too short, as the trainer says in its own words
        last = None
    return options.validate_every if last is None else min(options.validate_every, max(1, last // VALIDATIONS))
