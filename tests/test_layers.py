"""The house: arrows point down only, models -> tinygrad_lstm -> backends."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = {"models": 2, "tinygrad_lstm": 1, "backends": 0}
FILES = [path for floor in FLOORS for path in sorted((ROOT / floor).rglob("*.py"))]

# The command line, estimators, searches and whole models stand above all floors, though they are installed with the
# library; so does what offers `tg.models`.
ABOVE = tuple(f"tinygrad_lstm/{name}" for name in ("cli/", "estimators/", "io/models/", "search/", "__init__.py"))


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


def modules_imported(path: Path, known: dict[tuple[str, ...], Path]) -> set[Path]:
    """The files that a file's imports name, for type checkers and within functions too."""
    package = module_of(path)[: None if path.name == "__init__.py" else -1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [tuple(alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            stem = (*base, *(node.module.split(".") if node.module else ()))
            names = [(*stem, alias.name) if (*stem, alias.name) in known else stem for alias in node.names]
        else:
            continue
        found |= {known[name] for name in names if name in known}
    return found - {path}


def module_of(path: Path) -> tuple[str, ...]:
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts[:-1] if parts[-1] == "__init__" else parts
    return parts if parts[0] == "tinygrad_lstm" else ("tinygrad_lstm", *parts)


FORMATS = ("keras", "onnx", "tensorflow", "torch")


@pytest.mark.parametrize("format", FORMATS)
def test_a_format_of_models_uses_no_other_format(format: str) -> None:
    """What several have in common is beside their folders, and in `io/models/shared/`."""
    folder = ROOT / "tinygrad_lstm" / "io" / "models"
    known = {module_of(path): path for path in FILES}
    imported = {other for path in (folder / format).rglob("*.py") for other in modules_imported(path, known)}
    others = {name for name in FORMATS for other in imported if other.is_relative_to(folder / name)} - {format}
    assert others == ({"keras"} if format == "tensorflow" else set())  # a SavedModel may have the layers of Keras


def test_no_files_import_each_other_in_a_circle() -> None:
    known = {module_of(path): path for path in FILES}
    left = {path: modules_imported(path, known) for path in FILES}
    while free := [path for path, imported in left.items() if not imported & left.keys()]:
        for path in free:
            del left[path]
    assert [path.relative_to(ROOT).as_posix() for path in left] == []
