"""What several commands share: their options, and how a saved model is loaded."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from ..device import default_device, get_device
from ..io.atomic import check_writable
from ..models import CharLM
from ..train import Checkpoint, TrainingOptions

__all__ = [
    "DEFAULT_OUT",
    "Device",
    "SavedModel",
    "load_model",
    "model_maker",
    "path_option",
    "program",
    "require",
    "writable_file",
]

Device: TypeAlias = Annotated[
    str | None, typer.Option(help="Where to compute: cpu, cuda, cuda:1; by default TINYGRAD_LSTM_DEVICE, or cpu.")
]
# Paths are left to the library to find fault with: it says in one line what is wrong.
SavedModel: TypeAlias = Annotated[str, typer.Argument(help="A checkpoint that train wrote.", metavar="CHECKPOINT")]
DEFAULT_OUT = Path("runs/char-lm")


def path_option(option: str, text: str) -> Path:
    """The path that an option was given."""
    require(option, bool(text), "a path", "an empty text")  # which pathlib takes for the folder that one is in
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


def model_maker(device: str | None) -> Callable[[int, TrainingOptions], CharLM]:
    """Makes models on a device, of so many characters and with these options."""

    def make(characters: int, options: TrainingOptions) -> CharLM:
        with default_device(get_device(device)):
            return CharLM.from_options(characters, options)

    return make


def load_model(path: str, device: str | None) -> tuple[Checkpoint, CharLM]:
    """A checkpoint and its model, ready for use."""
    saved = Checkpoint.load(path)
    return saved, CharLM.load(saved, device)


def program() -> list[str]:
    """How this program was called."""
    if Path(sys.argv[0]).name == "__main__.py":
        return [sys.executable, "-m", "tinygrad_lstm"]
    name = Path(sys.argv[0]).name
    return [name if shutil.which(name) else sys.argv[0]]
