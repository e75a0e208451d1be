"""docs/api/torch.md: each public name of PyTorch is the same here, is written in other words, or is left out."""

import fnmatch
import json
import pkgutil
import re
from pathlib import Path

import pytest

import tinygrad_lstm as tg

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "api" / "torch.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (`.*?) \| (.*?) \|$", TEXT, re.MULTILINE)
LISTED = {pattern for names, _ in ROWS for pattern in re.findall(r"`([\w*]+)`", names)}
NAMES: dict[str, list[str]] = json.loads((ROOT / "tests" / "golden" / "torch_names.json").read_text(encoding="utf-8"))


def is_here(name: str, module: str) -> bool:
    """Whether the library has a function or class of this name at the same place, or a method instead of a function."""
    holder = pkgutil.resolve_name(module.replace("torch", "tinygrad_lstm").removesuffix(".nn.functional"))
    return any(callable(getattr(found, name, None)) for found in (holder, tg.Tensor if module == "torch" else holder))


def is_listed(name: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in LISTED)


@pytest.mark.parametrize("module", NAMES)
def test_every_name_is_accounted_for(module: str) -> None:
    here = {name for name in NAMES[module] if is_here(name, module)}
    other = {name for name in NAMES[module] if name not in here and not is_listed(name)}
    in_place = {name for name in other if name.endswith("_") and module == "torch.Tensor"}
    assert not other - in_place, "neither here nor on the page"


def test_the_page_lists_nothing_else() -> None:
    names = {name for found in NAMES.values() for name in found}
    assert LISTED
    assert not [pattern for pattern in LISTED if not fnmatch.filter(names, pattern)], "PyTorch has no such name"


@pytest.mark.parametrize("module", NAMES)
def test_what_is_listed_is_not_here_under_the_same_name(module: str) -> None:
    assert not [name for name in NAMES[module] if is_listed(name) and is_here(name, module)]
