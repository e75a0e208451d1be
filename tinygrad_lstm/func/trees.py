"""Nested tuples, lists and dicts."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any


def leaves(tree: Any) -> Iterator[Any]:
    """What the nested tuples, lists and dicts hold, in order."""
    if isinstance(tree, tuple | list | dict):
        parts = tree.values() if isinstance(tree, dict) else tree
        yield from itertools.chain.from_iterable(map(leaves, parts))
    else:
        yield tree


def aligned(name: str, tree: Any, like: Any, origin: str) -> Iterator[Any]:
    """What `tree` holds where `like`, nested in the same way, holds its own.

    Raises:
        ValueError: it is nested in another way; the error begins with the name, and ends with where `like` is from.
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
    """The same nesting of tuples, lists and dicts, with each thing in it replaced."""
    if isinstance(tree, dict):
        return {key: mapped(function, part) for key, part in tree.items()}
    if isinstance(tree, tuple | list):
        parts = [mapped(function, part) for part in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    return function(tree)
