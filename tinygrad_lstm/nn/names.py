"""Dotted names: joined, and selected by shell patterns."""

from collections.abc import Collection, Iterable
from fnmatch import fnmatchcase

__all__ = ["joined", "matching"]


def joined(path: str, name: str) -> str:
    """A dotted name below a path; either may be empty."""
    return f"{path}.{name}" if path and name else path or name


def matching(caller: str, patterns: Iterable[str], names: Collection[str], what: str = "parameter") -> list[str]:
    """The names that match at least one of the patterns, in the order of `names`.

    Args:
        caller: the name of the function, for errors.
        patterns: as in a shell: `*` matches any string, with dots too; `?` one character; `[01]` one of these.
        names: the names to select from.
        what: what is named, for errors.

    Raises:
        ValueError: a pattern matches none of the names.
        TypeError: a pattern is not a string.
    """
    patterns = list(patterns)
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise TypeError(f"{caller}: expected patterns such as 'lstm.*', got {type(pattern).__name__}")
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ValueError(f"{caller}: {pattern!r} matches no {what}; {_nearest(pattern, names)}")
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]


def _nearest(pattern: str, names: Collection[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(pattern, names, n=3, cutoff=0.0)
    return f"the nearest are {', '.join(near)}" if near else "there is none"
