"""Modules that a test writes to a file, for code that reads the sources of what it runs."""

import importlib.util
from pathlib import Path
from typing import Any

__all__ = ["module_of"]


def module_of(path: Path, source: str) -> Any:
    """The module of this source, which is written to a file."""
    path.write_text(source)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
