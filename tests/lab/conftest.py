"""The laboratory, built, and the run that its page makes, without the page."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

LAB = Path(__file__).parents[2] / "lab"


def imported(name: str) -> ModuleType:
    """A file of the folder lab/, which is not on the path."""
    spec = importlib.util.spec_from_file_location(name, LAB / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def laboratory() -> ModuleType:
    """The module that the worker runs."""
    return imported("laboratory")


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The laboratory's folder; skips the test if Python for WebAssembly cannot be had."""
    build = imported("build")
    folder = tmp_path_factory.mktemp("lab") / "built"
    try:
        build.build(folder, LAB.parent / ".venv" / "lab-parts")
    except build.PartsError as error:
        pytest.skip(str(error))
    return folder
