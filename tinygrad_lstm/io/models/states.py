"""Which inputs of a model are states, and which output is each of them afterwards."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from ..errors import ContentError, shown
from .names import identifiers
from .ports import Port

__all__ = ["paired"]

_BEFORE = {"in", "input", "prev", "previous", "init", "initial", "old", "last", "start"}
_AFTER = {"out", "output", "next", "new", "final", "updated", "n"}
_OF_STATES = {"h", "c", "hc", "hidden", "cell", "state", "states", "mem", "memory", "cache", "carry"}

MOST_ALIKE = 16
"""The most outputs whose names differ only in words for states before and after."""

_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")


def paired(inputs: Sequence[Port], outputs: Sequence[Port], states: Mapping[str, str] | None = None) -> dict[str, str]:
    """The inputs that are states, each with the output that is the state afterwards, by their names in the file.

    An input and an output are a pair if their dtypes and shapes are equal, as far as the file has them, and their names
    are those of a state before and after: equal but for words such as "in" and "out" or "prev" and "next"; or h0 and
    hn, h and h_out, hx and hy, state and stateN. One of the words must be one for states, such as "h", "state" or
    "cache". At most one length of a state is free. Neither may be in two such pairs.

    Args:
        states: the pairs, if they are given: by names in the file, or by those of arguments and outputs.

    Raises:
        ContentError: given names are not those of inputs and outputs, or their shapes or dtypes differ.

    >>> names = [Port(name, (2, "batch", 8), "float32") for name in ("x", "h0", "cell_in", "y", "hn", "cell_out")]
    >>> paired(names[:3], names[3:])
    {'h0': 'hn', 'cell_in': 'cell_out'}
    """
    if states is not None:
        return _checked(inputs, outputs, states)
    found: dict[str, str] = {}
    for loosely in (False, True):
        afterwards: dict[tuple[str, ...], list[Port]] = {}
        for b in outputs:
            for stem in _stems(b.name, _AFTER, "1", "nty", loosely):
                afterwards.setdefault(stem, []).append(b)
        taken = {*found.values()}
        pairs = {
            (a.name, b.name)
            for a in inputs
            if a.name not in found and _may_be_state(a)
            for stem in _stems(a.name, _BEFORE, "0", "x", loosely)
            if len(afterwards.get(stem, ())) <= MOST_ALIKE
            for b in afterwards.get(stem, ())
            if b.name not in taken and _is_alike(a, b)
        }
        times = Counter(end for a, b in pairs for end in (("input", a), ("output", b)))
        found |= {a: b for a, b in pairs if times["input", a] == times["output", b] == 1}
    return {port.name: found[port.name] for port in inputs if port.name in found}


def _stems(name: str, roles: set[str], number: str, letters: str, loosely: bool) -> set[tuple[str, ...]]:
    """What is left of a name without what says that it is a state before, or after; if it is one for states.

    Args:
        roles: words that say it.
        number, letters: a last word, or the second letter of one, that may say it.
        loosely: whether to leave out these.
    """
    words = tuple([word.lower() for word in _WORD.findall(name) if word.lower() not in roles])
    stems = {words}
    if loosely and words:
        *others, last = words
        if last == number:
            stems.add((*others,))
        elif len(last) == 2 and last[0] in _OF_STATES and last[1] in letters:
            stems.add((*others, last[0]))
    return {stem for stem in stems if not _OF_STATES.isdisjoint(stem)}


def _may_be_state(port: Port) -> bool:
    return port.is_float and port.shape is not None and sum(isinstance(length, str) for length in port.shape) <= 1


def _is_alike(a: Port, b: Port) -> bool:
    """Whether the dtypes and shapes of two ports are equal, as far as they are known."""
    if a.dtype and b.dtype and a.dtype != b.dtype:
        return False
    if a.shape is None or b.shape is None:
        return True
    lengths = zip(a.shape, b.shape, strict=False)
    return len(a.shape) == len(b.shape) and not any(
        isinstance(one, int) and isinstance(other, int) and one != other for one, other in lengths
    )


def _checked(inputs: Sequence[Port], outputs: Sequence[Port], states: Mapping[str, str]) -> dict[str, str]:
    by_name = []
    for ports in (inputs, outputs):
        known = dict(zip(identifiers(port.name for port in ports), ports, strict=True))
        by_name.append(known | {port.name: port for port in ports})
    found: dict[str, str] = {}
    for before, after in states.items():
        for name, known, what in ((before, by_name[0], "inputs"), (after, by_name[1], "outputs")):
            if name not in known:
                there = ", ".join(shown(port.name) for port in (inputs if what == "inputs" else outputs))
                raise ContentError(f"states: {shown(name)} is not among the {what}; they are {there}")
        a, b = by_name[0][before], by_name[1][after]
        if not _is_alike(a, b):
            raise ContentError(f"states: expected an input and an output of the same shape and dtype, got {a} and {b}")
        if a.name in found or b.name in found.values():
            raise ContentError(f"states: {shown(a.name)} or {shown(b.name)} is given twice")
        found[a.name] = b.name
    return found
