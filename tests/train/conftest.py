"""A run that was not interrupted, and its checkpoint; random numbers are as before after each test."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from small_runs import start

from tinygrad_lstm.io import checkpoint as checkpoint_file
from tinygrad_lstm.random import random_state, set_random_state


@pytest.fixture(autouse=True)
def _random_numbers_as_before() -> Iterator[None]:
    before = random_state()
    yield
    set_random_state(before)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was not interrupted."""
    out = tmp_path_factory.mktemp("unbroken")
    assert start(out).run().finished
    return out


@pytest.fixture(scope="module")
def saved(unbroken: Path) -> dict[str, Any]:
    return checkpoint_file.load(unbroken / "last.safetensors")
