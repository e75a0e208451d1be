"""The models in tests/golden/models, and what their frameworks computed with them."""

import atexit
import functools
import shutil
import tempfile
import zipfile
from pathlib import Path

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.io.safetensors_file import read_safetensors

__all__ = ["NAMES", "arrays", "model_path"]

FOLDER = Path(__file__).parent / "golden" / "models"
EXPECTED = ".expected.safetensors"
NAMES = sorted(path.name.removesuffix(EXPECTED) for path in FOLDER.glob(f"*{EXPECTED}"))


def model_path(name: str) -> Path:
    """The model's file or folder: `name` with any ending."""
    found = [path for path in FOLDER.iterdir() if path.stem == name and not path.name.endswith((EXPECTED, ".py"))]
    assert len(found) == 1, f"expected one model called {name}, found {found}"
    return unpacked(found[0]) if found[0].suffix == ".zip" else found[0]


@functools.cache
def unpacked(path: Path) -> Path:
    """The folder that is packed in a zip archive: a SavedModel, or a model of TensorFlow.js."""
    folder = Path(tempfile.mkdtemp()) / path.stem
    atexit.register(shutil.rmtree, folder.parent)
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder)
    return folder


def arrays(name: str, kind: str) -> dict[str, HostArray]:
    """The inputs ("in.") or outputs ("out.") of a model."""
    tensors = read_safetensors(FOLDER / f"{name}{EXPECTED}").tensors
    return {key.removeprefix(kind): array for key, array in tensors.items() if key.startswith(kind)}
