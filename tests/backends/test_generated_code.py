"""The code that is generated for cells."""

import sys
from collections import OrderedDict
from typing import Any

import pytest

import tinygrad_lstm as tg
from tinygrad_lstm.backends.compiled import building, sequence
from tinygrad_lstm.backends.emit import sequence as arrays
from tinygrad_lstm.backends.emit.sequence import emitted
from tinygrad_lstm.models import Recurrent
from tinygrad_lstm.models.atlas import ATLAS


def code_of(cell: tg.nn.Module, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The code that is generated for a cell, which is traced anew: in C if there is any, and with NumPy."""
    found: list[str] = []

    def make(name: str, source: str, names: dict[str, Any]) -> Any:
        found.append(source)
        return emitted(name, source, names)

    def build(name: str, source: str, dtype: Any) -> None:
        found.append(source)
        raise building.BuildError("not built")

    monkeypatch.setattr(arrays, "emitted", make)
    monkeypatch.setattr(sequence, "kernel_library", build)
    monkeypatch.setattr(sys.modules["tinygrad_lstm.ops.sequence"], "_fused", OrderedDict())
    out, _ = Recurrent(cell, compiled=True)(tg.ones(2, 2, 3))
    out.sum().backward()
    return found


@pytest.mark.parametrize("name", ATLAS)
def test_code_is_the_same_each_time(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the cache on disk would not have it in the next process."""
    cell = ATLAS[name](3, 4).eval()
    first = code_of(cell, monkeypatch)
    objects = [object() for _ in range(1000)]  # so that objects have other addresses, by which sets are ordered
    assert code_of(cell, monkeypatch) == first != []
    assert objects
