"""What is true of every tree of modules: state dicts, freezing and parameter groups."""

import re

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from small_modules import learning

import tinygrad_lstm as tg
from tinygrad_lstm import nn

trees = st.recursive(
    st.integers(0, 3),
    lambda below: st.lists(st.tuples(st.sampled_from("abcd"), below), max_size=3, unique_by=lambda pair: pair[0]),
    max_leaves=8,
)


def grown(tree) -> nn.Module:
    """A module with as many parameters as a leaf of the tree says, and a child for each branch."""
    module = nn.Module()
    if isinstance(tree, int):
        for k in range(tree):
            setattr(module, f"p{k}", nn.Parameter(tg.randn(k + 1)))
    else:
        for name, below in tree:
            setattr(module, name, grown(below))
    return module


def counted(tree) -> int:
    return tree * (tree + 1) // 2 if isinstance(tree, int) else sum(counted(below) for _, below in tree)


@given(trees)
def test_any_tree_of_modules_round_trips(tree):
    module, other = grown(tree), grown(tree)
    state = module.state_dict()
    names = [name for name, _ in module.named_parameters()]
    assert list(state) == names
    assert len(set(names)) == len(names) == len(list(module.parameters()))
    assert sum(p.size for p in module.parameters()) == counted(tree)
    other.load_state_dict(state)
    for name, array in other.state_dict().items():
        np.testing.assert_array_equal(array, state[name])


likely = st.sampled_from(["*", "*p0", "*p1", "p?", "a*", "b.*", "[cd].*", "?.p*", "*.p?", "*a*"])
patterns = st.lists(likely | st.text(alphabet="abcdp01.*?", min_size=1, max_size=4), max_size=3)


def matched(name: str, pattern: str) -> bool:
    """Whether a shell pattern matches, computed by a regular expression."""
    return re.fullmatch(pattern.replace(".", r"\.").replace("*", ".*").replace("?", "."), name) is not None


@given(trees, patterns)
def test_what_is_frozen_is_what_patterns_match(tree, patterns: list[str]) -> None:
    module = grown(tree)
    names = learning(module)
    if not all(any(matched(name, pattern) for name in names) for pattern in patterns):
        with pytest.raises(ValueError, match="matches no parameter"):
            module.freeze(*patterns)
        assert learning(module) == names
        return
    chosen = [name for name in names if not patterns or any(matched(name, pattern) for pattern in patterns)]
    module.freeze(*patterns)
    assert learning(module) == [name for name in names if name not in chosen]
    module.freeze().unfreeze(*patterns)
    assert learning(module) == chosen


@given(trees, patterns, st.data())
def test_every_parameter_that_learns_is_in_the_group_of_its_first_pattern(
    tree, patterns: list[str], data: st.DataObject
) -> None:
    module = grown(tree)
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    for parameter in module.parameters():
        parameter.requires_grad = data.draw(st.booleans())
    expected: dict[str | None, list[str]] = {pattern: [] for pattern in patterns}
    for name in learning(module):
        first = next((pattern for pattern in expected if pattern is not None and matched(name, pattern)), None)
        expected.setdefault(first, []).append(name)
    settings = {pattern: {"lr": float(k)} for k, pattern in enumerate(expected) if pattern is not None}
    if not all(expected.values()):
        with pytest.raises(ValueError, match=r"matches no parameter|all that .* matches is frozen"):
            module.parameter_groups(settings)
        return
    groups = module.parameter_groups(settings)
    assert [[names[id(p)] for p in group["params"]] for group in groups] == list(expected.values())
    assert [group["lr"] for group in groups[: len(settings)]] == [own["lr"] for own in settings.values()]
    assert all(group.keys() == {"params"} for group in groups[len(settings) :])
