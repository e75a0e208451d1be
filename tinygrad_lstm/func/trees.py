"""Nested tuples, lists and dicts."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any


def leaves(tree: Any) -> Iterator[Any]:
    """The leaves of nested tuples, lists and dicts, in order."""
    if isinstance(tree, tuple | list | dict):
        parts = tree.values() if isinstance(tree, dict) else tree
        yield from itertools.chain.from_iterable(map(leaves, parts))
    else:
        yield tree


def aligned(name: str, tree: Any, like: Any, origin: str) -> Iterator[Any]:
    """The parts of `tree` at the positions of the leaves of `like`, which must be nested in the same way.

    Raises:
        ValueError: the nesting differs. The message begins with `name` and ends with `origin`, the source of `like`.
    """
    if isinstance(like, dict):
        if not isinstance(tree, dict) or tree.keys() != like.keys():
            raise ValueError(f"{name}: expected a dict with the keys {', '.join(map(repr, like))}, as {origin}")
        keys: Iterable[Any] = like.keys()
    elif isinstance(like, tuple | list):
        if not isinstance(tree, tuple | list) or len(tree) != len(like):
            raise ValueError(f"{name}: expected a {type(like).__name__} of {len(like)} parts, as {origin}")
        keys = range(len(like))
    else:
        yield tree
        return
    for key in keys:
        yield from aligned(name, tree[key], like[key], origin)


def mapped(function: Callable[[Any], Any], tree: Any) -> Any:
    """The same nesting of tuples, lists and dicts, with the function applied to each leaf."""
    if isinstance(tree, dict):
        return {key: mapped(function, part) for key, part in tree.items()}
    if isinstance(tree, tuple | list):
        parts = [mapped(function, part) for part in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    return function(tree)
