"""docs/api/torch.md: each public name of PyTorch is the same here, is written in other words, or is left out."""

import fnmatch
import itertools
import json
import pkgutil
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
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


X, Y = np.random.default_rng(0).standard_normal((2, 5, 3))
RECIPES: dict[str, Callable[..., Any]] = {
    "cartesian_prod": lambda x, y: np.array(list(itertools.product(x, y))),
    "count_nonzero": lambda x, y: np.count_nonzero(x, -1),
    "cross": lambda x, y: np.cross(x, y),
    "float_power": lambda x, y: np.float_power(x, y),
    "inner": lambda x, y: np.inner(x, y),
    "nanmean": lambda x, y: np.nanmean(x, -1),
}
GIVEN: dict[str, Callable[..., Any]] = {
    "cartesian_prod": np.ravel,
    "float_power": np.abs,
    "nanmean": lambda x: np.where(x > 1, np.nan, x),
}


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_compute_what_numpy_does(name: str) -> None:
    recipe = re.search(rf"^\| `{name}` \| `(.*?)`", TEXT, re.MULTILINE)
    assert recipe
    x, y = (GIVEN.get(name, np.asarray)(array) for array in (X, Y))
    found = eval(recipe[1], vars(tg) | {"F": tg, "x": tg.tensor(x), "y": tg.tensor(y), "dim": -1})
    np.testing.assert_allclose(found.numpy(), RECIPES[name](x, y))
