"""The commands whose options can be searched, as a search sees them."""

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, ClassVar

import typer

from tinygrad_lstm.models.atlas import known_cell

from ..data.encoded_text import EncodedText
from ..device import get_device
from ..estimators import SequenceClassifier, SequenceRegressor
from ..search import SequenceTask, TextTask
from ..search.text_trials import VALIDATIONS
from ..train import TrainingOptions
from ..train.folder import RunFolder
from ..train.options import with_only_limits
from .fit import OPTIONS, check_options, fit
from .fit_parts import parts_of
from .labelled import roles_to_fit
from .search_space import Space, described, space_of
from .shared import path_option, require
from .texts import data_sources, first_word, text_of_sources
from .train import option_named, train

__all__ = ["Searched", "command_of"]


class Searched(ABC):
    """A command and the options that all trials have.

    Args:
        arguments: the command's arguments, as they are typed.
        seed: the seed of all trials.

    Raises:
        ValueError: an option is invalid.
    """

    NAME: ClassVar[str]
    FUNCTION: ClassVar[Callable[..., None]]
    SEARCHABLE: ClassVar[tuple[str, ...]]
    """The options that can be searched."""
    DEFAULT: ClassVar[str]
    """What is searched by default, as --space has it."""
    REFUSED: ClassVar[tuple[str, ...]]
    """The options that a trial cannot have."""
    NAMES: ClassVar[Mapping[str, str]] = {}
    """The library's names of options, if they are different."""

    def __init__(self, arguments: Sequence[str], seed: int) -> None:
        self.arguments = list(arguments)
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        app.command(self.NAME)(type(self).FUNCTION)
        command = typer.main.get_command(app)
        context = command.make_context(f"tinygrad-lstm {self.NAME}", self.arguments.copy())
        self.given = {**context.params, "seed": seed}
        """The values of all options."""
        self._options: dict[str, Any] = {str(each.name): each for each in command.params}
        sources = {name: context.get_parameter_source(name) for name in context.params}
        self._set = {name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"}
        for name in self.REFUSED:
            require(self._options[name].opts[0], name not in self._set, "none in a search", repr(self.given[name]))
        self.common = self.with_values({})
        """What the library makes of the options that all trials have."""
        get_device(self.given["device"])
        self.text: EncodedText | None = None
        """The text that was read."""

    @abstractmethod
    def with_values(self, values: Mapping[str, Any]) -> Any:
        """What the library makes of the options, with the values of a trial.

        Raises:
            ValueError: an option is invalid; the message begins with it.
        """

    @property
    @abstractmethod
    def validations(self) -> int:
        """The number of validations of a whole trial, about."""

    @abstractmethod
    def task(self) -> TextTask | SequenceTask:
        """Reads the data.

        Raises:
            OSError, ValueError: it cannot be read or has a fault.
        """

    @abstractmethod
    def described(self, task: Any) -> str:
        """What was read, and what is searched, in words."""

    @abstractmethod
    def looking(self, run: Path) -> list[str]:
        """A command that tries the model of a trial."""

    @abstractmethod
    def facts(self, task: Any) -> dict[str, Any]:
        """What must be the same when a search is continued, by names that users know."""

    def prepare(self, folder: Path, run: Path) -> None:
        """Lets the runs of all trials share one file of the text, if there is one and the disk can."""
        if self.text is not None:
            shared = RunFolder(folder, self.text)
            shared.keep_text()
            with suppress(OSError):
                os.link(shared.text, RunFolder(run).text)

    def space(self, given: Sequence[str]) -> Space:
        """The space that is searched: that of --space, by default one of the command without the options that are set.

        Raises:
            ValueError: it is invalid, or has an option that is set.
        """
        default = [each for each in self.DEFAULT.split() if each.partition("=")[0] not in self._set]
        kinds = {name: type(getattr(self.common, self.NAMES.get(name, name))) for name in self.SEARCHABLE}
        spellings = {written: name for name in self.SEARCHABLE for written in self._options[name].opts}
        space = space_of(given or default, kinds, spellings)
        for name, values in space.items():
            option = self._options[name].opts[0]
            if name in self._set:
                raise ValueError(f"{option}: it is searched over {values}; leave out either {option} or its --space")
            for value in values.values:
                try:
                    self.with_values({name: value})
                except ValueError as error:
                    blamed = described({name: values})
                    raise ValueError(f"--space {blamed}: {str(error).removeprefix('--')}") from error
        require("--space", bool(space), "options to search, since all of the default ones are set", "none")
        return space

    def options_of(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values of a trial, by the library's names."""
        return {self.NAMES.get(name, name): value for name, value in values.items()}

    def typed(self, values: Mapping[str, Any]) -> list[str]:
        """The command's arguments with the values of a trial."""
        typed = [self.NAME, *self.arguments]
        for name, value in values.items():
            option = self._options[name]
            if isinstance(value, bool):
                typed += [option.opts[0]] if value else option.secondary_opts[:1]
            else:
                typed += [option.opts[0], str(value)]
        return typed


class SearchedTrain(Searched):
    """The command `train`."""

    NAME = "train"
    FUNCTION = train
    SEARCHABLE = (
        *("lr", "hidden", "layers", "dropout", "embedding", "seq_len", "batch", "cell", "schedule", "clip"),
        *("weight_decay", "tie", "forget_bias"),
    )
    DEFAULT = "lr=2e-3:1e-1:log hidden=64,128,192,256 layers=1,2 dropout=0:0.4 embedding=16,32,64 seq_len=16,32,64"
    REFUSED = ("out", "resume", "init_from", "seed", "threads", "workers", "micro_batches", "restarts")

    common: TrainingOptions

    def with_values(self, values: Mapping[str, Any]) -> TrainingOptions:
        given = {**self.given, **values}
        require("--data", "-" not in (given["data"] or ()), "files, which each trial reads", "-")
        if given["cell"] is not None:
            known_cell("--cell", given["cell"])
        names = [each.name for each in fields(TrainingOptions)]
        with option_named():
            return TrainingOptions(
                **with_only_limits({name: given[name] for name in names if given.get(name) is not None})
            )

    @property
    def validations(self) -> int:
        return VALIDATIONS

    def task(self) -> TextTask:
        sources = data_sources(self.given["data"] or [])
        self.text, self._read = text_of_sources(sources, self.given["encoding"])
        return TextTask(self.text, self.common, self.given["device"], tuple(sources))

    def described(self, task: TextTask) -> str:
        return f"searching options of a character model on {len(task.text):,} characters of {self._read}"

    def looking(self, run: Path) -> list[str]:
        assert self.text is not None
        return ["sample", str(run / "best.safetensors"), "--prompt", first_word(self.text)]

    def facts(self, task: TextTask) -> dict[str, Any]:
        assert not isinstance(task.text, str)
        options = {f"--{name.replace('_', '-')}": value for name, value in asdict(self.common).items()}
        return {"the command": self.NAME, "the text": task.text.digest, **options}


class SearchedFit(Searched):
    """The command `fit`."""

    NAME = "fit"
    FUNCTION = fit
    SEARCHABLE = ("lr", "hidden", "layers", "dropout", "batch", "cell", "bidirectional", "standardize")
    DEFAULT = (
        "lr=1e-3:5e-2:log hidden=16,32,64,128 layers=1,2 dropout=0:0.5 batch=8,16,32,64 cell=lstm,gru_reset_after "
        "bidirectional=false,true"
    )
    REFUSED = ("out", "resume", "seed", "threads")
    NAMES: ClassVar[Mapping[str, str]] = {option: name for name, option in OPTIONS.items()} | {"seed": "random_state"}
    FIXED = ("epochs", "patience", "validation", "device", "seed")
    """The other options of the estimator."""

    common: SequenceClassifier | SequenceRegressor

    def with_values(self, values: Mapping[str, Any]) -> SequenceClassifier | SequenceRegressor:
        given = {**self.given, **values}
        require("--validation", given["validation"] != 0, "above 0, since trials are compared by it", 0)
        make = SequenceClassifier if given["task"] == "classify" else SequenceRegressor
        estimator = make(**self.options_of({name: given[name] for name in (*self.SEARCHABLE, *self.FIXED)}))
        check_options(estimator)
        return estimator

    @property
    def validations(self) -> int:
        return self.common.epochs

    def task(self) -> SequenceTask:
        given, path = self.given, path_option("DATA", self.given["data"])
        target, id, time, features = (given[name] for name in ("target", "id", "time", "features"))
        roles = roles_to_fit(path, target, id, time, features, given["drop"] or (), given["group"])
        parts = parts_of(path, roles, given["task"] == "classify", given["test"], given["validation"], given["seed"])
        self._read = parts.described
        about = {"columns": parts.columns, "rate": parts.train.rate}
        return SequenceTask(self.common, parts.train.sequences, parts.targets, about, parts.train.groups)

    def described(self, task: SequenceTask) -> str:
        return f"{self._read}\nsearching options of a {type(self.common).__name__}"

    def looking(self, run: Path) -> list[str]:
        return ["predict", str(run), f"new{Path(self.given['data']).suffix}"]

    def facts(self, task: SequenceTask) -> dict[str, Any]:
        digest = hashlib.sha256()
        for array in (*task.sequences, task.targets, *([] if task.groups is None else [task.groups])):
            digest.update(repr((array.shape, str(array.dtype))).encode())
            digest.update(array.tobytes())
        options = {f"--{name}": self.given[name] for name in (*self.SEARCHABLE, *self.FIXED)}
        return {"the command": f"{self.NAME} {self.given['task']}", "the data": digest.hexdigest(), **options}


def command_of(arguments: Sequence[str], seed: int) -> Searched:
    """The command that is searched; without arguments `train` on Python's manual.

    Raises:
        ValueError: it is a different command, or an option is invalid.
    """
    name, *rest = arguments or ["train"]
    for command in (SearchedTrain, SearchedFit):
        if name == command.NAME:
            return command(rest, seed)
    raise ValueError(
        f"search: expected train or fit and their options, as in tinygrad-lstm search train --data book.txt, got "
        f"{name!r}"
    )
