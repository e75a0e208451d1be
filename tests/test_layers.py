"""The house: arrows point down only, models -> tinygrad_lstm -> backends."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = {"models": 2, "tinygrad_lstm": 1, "backends": 0}
FILES = [path for floor in FLOORS for path in sorted((ROOT / floor).rglob("*.py"))]

# The command line stands above all floors, though it is installed with the library; so does what offers `tg.models`.
ABOVE = ("tinygrad_lstm/cli/", "tinygrad_lstm/__init__.py")


def floors_imported(path: Path) -> set[str]:
    """The floors that a file's imports name, wherever in the file they stand."""
    package = ["tinygrad_lstm", *path.relative_to(ROOT).parent.parts]
    if package[1] == "tinygrad_lstm":
        package.pop(1)
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = base + (node.module.split(".") if node.module else [])
            names = [stem] if node.module else [[*stem, alias.name] for alias in node.names]
        else:
            continue
        for name in names:
            if name[0] == "tinygrad_lstm":
                found.add(name[1] if len(name) > 1 and name[1] in FLOORS else "tinygrad_lstm")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_point_down(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    floor = 3 if name.startswith(ABOVE) else FLOORS[path.relative_to(ROOT).parts[0]]
    assert {other for other in floors_imported(path) if FLOORS[other] > floor} == set()


def test_only_device_reaches_a_backend() -> None:
    """All other modules see only the protocol."""
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        if path.parts[-2] != "backends" and ("numpy_backend" in text or "cupy_backend" in text):
            assert path.name == "device.py"
