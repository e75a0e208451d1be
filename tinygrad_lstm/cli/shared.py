"""Options and functions that several commands use."""

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, TypeAlias

import numpy as np
import typer

from tinygrad_lstm.backends import compiled, threads
from tinygrad_lstm.models import CharLM

from ..data.encoded_text import EncodedText
from ..data.text import Unknown, Vocabulary
from ..device import default_device, get_device, get_num_threads, set_num_threads
from ..io.atomic import check_writable
from ..io.errors import shown
from ..train import TextCheckpoint, TrainingOptions
from ..train.folder import next_folder

__all__ = [
    "DEFAULT_OUT",
    "TEMPERATURE",
    "TOP_P",
    "Device",
    "SavedModel",
    "Threads",
    "UnknownOption",
    "data_hint",
    "in_one_line",
    "known_characters",
    "known_text",
    "load_model",
    "model_maker",
    "new_folder",
    "path_option",
    "program",
    "require",
    "use_threads",
    "with_notes",
    "with_threads",
    "writable_file",
]

Device: TypeAlias = Annotated[
    str | None, typer.Option(help="Where to compute: cpu, cuda, cuda:1; by default TINYGRAD_LSTM_DEVICE, or cpu.")
]
# Paths are strings here, since the library checks them, with errors of one line.
SavedModel: TypeAlias = Annotated[str, typer.Argument(help="A checkpoint that train wrote.", metavar="CHECKPOINT")]
Threads: TypeAlias = Annotated[
    int | None,
    typer.Option(help="Threads that compute on the CPU.  [default: all cores with compiled kernels, else 1]"),
]
UnknownOption: TypeAlias = Annotated[
    Unknown, typer.Option(help="What to do with characters that the model does not know.")
]
DEFAULT_OUT = Path("runs/char-lm")
"""The folder of the first run without --out; the next ones are char-lm-2, char-lm-3, ..."""

TEMPERATURE, TOP_P = 0.7, 0.9
"""How `sample` draws by default, and `train` at its end. Without a limit of the probability, an unlikely character
every few lines leads a small model astray."""


def path_option(option: str, text: str) -> Path:
    """The path given for an option."""
    require(option, bool(text), "a path", "an empty string")  # pathlib would take it for the current folder
    return Path(text)


def writable_file(option: str, given: str) -> Path:
    """The path of a file to write. Raises before any work is done if its folder cannot be written to."""
    path = path_option(option, given)
    require(option, not path.is_dir(), "the path of a file", f"the folder {given!r}")
    check_writable(path)
    return path


@contextmanager
def new_folder(named: Path | None, base: Path) -> Iterator[Path]:
    """The folder of a new run: the named one, which the run makes; or the next free of base, base-2, ...

    An error removes it and the folders that it is in, those of them that did not exist before and are empty.
    """
    place = base if named is None else named
    new = [parent for parent in place.parents if not parent.exists()]
    folder = next_folder(base) if named is None else named
    if named is None or not named.exists():
        new.insert(0, folder)
    try:
        yield folder
    except BaseException:
        for each in new:
            with suppress(OSError):
                each.rmdir()
        raise


def require(option: str, good: bool, expected: str, given: object) -> None:
    """Raises ValueError that names the option unless its value is good."""
    if not good:
        raise ValueError(f"{option}: expected {expected}, got {given}")


def with_notes(error: Exception) -> str:
    """What an error says, with the notes that were added to it, such as the layer in which it was raised."""
    return " ".join([str(error) or type(error).__name__, *getattr(error, "__notes__", [])])


def in_one_line(error: Exception) -> str:
    """What an error says, in one line; an error of the system with the file's name."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(with_notes(error).split())


def use_threads(number: int | None) -> None:
    """Sets the number of threads; by default all cores if that is known to be faster."""
    if number is not None:
        require("--threads", number >= 1, "at least 1", number)
        set_num_threads(number)
    elif not threads.set_by_environment() and compiled.serves(np.float32):
        set_num_threads(threads.number_of_cores())


def with_threads(device: str) -> str:
    """A device, and the number of threads if it is the CPU, in words."""
    number = get_num_threads()
    return f"{device} with {number} thread{'s' * (number > 1)}" if device == "cpu" else device


def model_maker(
    device: str | None, earlier: TextCheckpoint | None = None, vocabulary: Vocabulary | None = None
) -> Callable[[int, TrainingOptions], CharLM]:
    """Returns a function that makes a model, given the number of characters and the options.

    Args:
        device: the models' device.
        earlier: a checkpoint whose weights they start from.
        vocabulary: the models' characters, which include those of `earlier`.
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


def load_model(path: str, device: str | None) -> tuple[TextCheckpoint, CharLM]:
    """A checkpoint and its model."""
    saved = TextCheckpoint.load(path)
    return saved, CharLM.load(saved, device)


def known_text(vocabulary: Vocabulary, text: str, unknown: Unknown) -> str:
    """The text; if `unknown` is "skip", without unknown characters, whose number is printed."""
    return known_characters(vocabulary, EncodedText.of(text), unknown)[:] if text else ""


def known_characters(vocabulary: Vocabulary, text: EncodedText, unknown: Unknown) -> EncodedText:
    """The same for a long text."""
    try:
        known = text.with_vocabulary(vocabulary, unknown)
    except ValueError as error:
        raise ValueError(f"{error}; --unknown skip leaves such characters out") from error
    if left_out := len(text) - len(known):
        print(f"skipped {left_out:,} of {len(text):,} characters, which the model does not know", file=sys.stderr)
    return known


def data_hint(checkpoint: TextCheckpoint) -> str:
    """How to give the text of a run that was started on files. Paths in a checkpoint are not opened."""
    return f"with --data, which was {' '.join(map(shown, checkpoint.sources))}"


def program() -> list[str]:
    """The command that runs this program."""
    if Path(sys.argv[0]).name == "__main__.py":
        return [sys.executable, "-m", "tinygrad_lstm"]
    name = Path(sys.argv[0]).name
    return [name if shutil.which(name) else sys.argv[0]]
