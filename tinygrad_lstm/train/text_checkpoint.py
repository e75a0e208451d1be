"""The checkpoint of a character model's run."""

from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from typing import Any, ClassVar, Self

from ..data.text import Vocabulary
from .checkpoint import Checkpoint
from .folder import TEXT_DIGEST
from .options import TrainingOptions

__all__ = ["TextCheckpoint", "about_text"]

_STRINGS = {"vocabulary", TEXT_DIGEST}


def about_text(
    options: TrainingOptions, vocabulary: Vocabulary, text_digest: str, sources: list[str]
) -> dict[str, Any]:
    """`Checkpoint.about` of a run on a text."""
    return {
        "options": asdict(options),
        "vocabulary": vocabulary.characters,
        TEXT_DIGEST: text_digest,
        "sources": sources,
    }


@dataclass(frozen=True, kw_only=True)
class TextCheckpoint(Checkpoint):
    """A checkpoint of a `TextTrainer`, or of the command `train`."""

    RUN: ClassVar = "a training run on a text"

    @cached_property
    def options(self) -> TrainingOptions:
        """The options of the model and its training."""
        return TrainingOptions(**self.about["options"])

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The characters that the model knows."""
        return Vocabulary(self.about["vocabulary"])

    @property
    def text_digest(self) -> str:
        """A digest of the text that the run was started with."""
        return str(self.about[TEXT_DIGEST])

    @property
    def sources(self) -> list[str]:
        """The paths of the text, only to be shown: they are not opened. Empty for Python's manual."""
        return list(self.about["sources"])

    def with_options(self, options: TrainingOptions) -> Self:
        """The same checkpoint with different options."""
        return replace(self, about={**self.about, "options": asdict(options)})

    def check_about(self) -> None:
        about = self.about
        if about.keys() != {"options", "sources", *_STRINGS}:
            raise ValueError("of a Trainer's run, make the model in Python, and load Checkpoint.load(path).weights")
        options, sources = about["options"], about["sources"]
        good = {name: isinstance(about[name], str) for name in sorted(_STRINGS)}
        names = {each.name for each in fields(TrainingOptions)}
        good["options"] = isinstance(options, dict) and options.keys() == names
        good["sources"] = isinstance(sources, list) and all(isinstance(path, str) for path in sources)
        if faults := [name for name, right in good.items() if not right]:
            raise ValueError(f"not as expected: {', '.join(faults)}")
        _ = self.options, self.vocabulary
