"""The models in tests/golden/models, and what their frameworks computed with them."""

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
    return found[0]


def arrays(name: str, kind: str) -> dict[str, HostArray]:
    """The inputs ("in.") or outputs ("out.") of a model."""
    tensors = read_safetensors(FOLDER / f"{name}{EXPECTED}").tensors
    return {key.removeprefix(kind): array for key, array in tensors.items() if key.startswith(kind)}
