"""What several commands share: their options, and how a saved model is loaded."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeAlias

import numpy as np
import typer

from tinygrad_lstm.backends import compiled, threads
from tinygrad_lstm.models import CharLM

from ..data.text import Unknown, Vocabulary
from ..device import default_device, get_device, set_num_threads
from ..io.atomic import check_writable
from ..io.errors import shown
from ..train import Checkpoint, TrainingOptions

__all__ = [
    "DEFAULT_OUT",
    "Device",
    "SavedModel",
    "Threads",
    "UnknownOption",
    "data_hint",
    "known_text",
    "load_model",
    "model_maker",
    "path_option",
    "program",
    "require",
    "use_threads",
    "writable_file",
]

Device: TypeAlias = Annotated[
    str | None, typer.Option(help="Where to compute: cpu, cuda, cuda:1; by default TINYGRAD_LSTM_DEVICE, or cpu.")
]
# Paths are left to the library to find fault with: it says in one line what is wrong.
SavedModel: TypeAlias = Annotated[str, typer.Argument(help="A checkpoint that train wrote.", metavar="CHECKPOINT")]
Threads: TypeAlias = Annotated[
    int | None,
    typer.Option(help="Threads that compute on the CPU.  [default: all cores with compiled kernels, else 1]"),
]
UnknownOption: TypeAlias = Annotated[
    Unknown, typer.Option(help="What to do with characters that the model does not know.")
]
DEFAULT_OUT = Path("runs/char-lm")
"""Runs for which no folder is named go here, the next ones to char-lm-2, char-lm-3, ..."""


def path_option(option: str, text: str) -> Path:
    """The path that an option was given."""
    require(option, bool(text), "a path", "an empty string")  # which pathlib takes for the folder that one is in
    return Path(text)


def writable_file(option: str, given: str) -> Path:
    """The path of a file to write, once it is known that its folder can be written to: before any work is done."""
    path = path_option(option, given)
    require(option, not path.is_dir(), "the path of a file", f"the folder {given!r}")
    check_writable(path)
    return path


def require(option: str, good: bool, expected: str, given: object) -> None:
    """Raises ValueError, naming the option, unless what it was given is good."""
    if not good:
        raise ValueError(f"{option}: expected {expected}, got {given}")


def use_threads(number: int | None) -> None:
    """Lets so many threads compute; by default all cores where that is known to be faster."""
    if number is not None:
        require("--threads", number >= 1, "at least 1", number)
        set_num_threads(number)
    elif not threads.set_by_environment() and compiled.serves(np.float32):
        set_num_threads(threads.number_of_cores())


def model_maker(
    device: str | None, earlier: Checkpoint | None = None, vocabulary: Vocabulary | None = None
) -> Callable[[int, TrainingOptions], CharLM]:
    """Makes models on a device, of so many characters and with these options.

    Args:
        device: where the models lie.
        earlier: a checkpoint from whose weights they start.
        vocabulary: the models' characters, those of `earlier` among them.
    """

    def make(characters: int, options: TrainingOptions) -> CharLM:
        if earlier is not None:
            with earlier.blamed():
                CharLM.check_sizes(earlier)
        with default_device(get_device(device)):
            model = CharLM.from_options(characters, options)
        if earlier is not None and vocabulary is not None:
            model.take_over(earlier, vocabulary)
        return model

    return make


def load_model(path: str, device: str | None) -> tuple[Checkpoint, CharLM]:
    """A checkpoint and its model, ready for use."""
    saved = Checkpoint.load(path)
    return saved, CharLM.load(saved, device)


def known_text(vocabulary: Vocabulary, text: str, unknown: Unknown) -> str:
    """The text; without characters that the vocabulary lacks if these are to be skipped, which it says."""
    if unknown == "error":
        try:
            vocabulary.encode(text)
        except ValueError as error:
            raise ValueError(f"{error}; --unknown skip leaves such characters out") from error
        return text
    known = vocabulary.known(text)
    if left_out := len(text) - len(known):
        print(f"skipped {left_out:,} of {len(text):,} characters, which the model does not know", file=sys.stderr)
    return known


def data_hint(checkpoint: Checkpoint) -> str:
    """How to name the text of a run that was started on files; they are not opened because a checkpoint names them."""
    return f"with --data, which was {' '.join(map(shown, checkpoint.sources))}"


def program() -> list[str]:
    """How this program was called."""
    if Path(sys.argv[0]).name == "__main__.py":
        return [sys.executable, "-m", "tinygrad_lstm"]
    name = Path(sys.argv[0]).name
    return [name if shutil.which(name) else sys.argv[0]]
