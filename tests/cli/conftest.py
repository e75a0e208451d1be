"""A text, and a short run on it."""

from pathlib import Path

import pytest
from commands import succeed
from small_book import TEXT, TINY


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("book") / "book.txt"
    path.write_text(TEXT)
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, book: Path) -> tuple[Path, str]:
    """The folder of a short run, and what it printed."""
    out = tmp_path_factory.mktemp("runs") / "deep" / "er"
    return out, succeed("train", "--data", book, "--out", out, "--steps", 30, *TINY)
