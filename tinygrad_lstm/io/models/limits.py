"""What building a model from a file may take, measured by the file's size, and what it lacks."""

from collections.abc import Mapping, Sequence

from ..errors import ContentError, shown

__all__ = ["Limits", "Missing"]

MOST_NODES = 50_000
"""The most nodes of a model whose functions are expanded, or the number of bytes of a larger file."""

MOST_NAMED = 4
"""The most nodes that an error names for one op."""


class Limits:
    """Counts the nodes and the memory of a model: a function takes them again in each call.

    Args:
        size: the file's size in bytes.
        memory: the bytes that its arrays may take.
    """

    def __init__(self, size: int, memory: int) -> None:
        self._nodes_left = max(MOST_NODES, size)
        self._bytes_left = memory

    def count_node(self) -> None:
        """Counts a node.

        Raises:
            ContentError: there are too many.
        """
        self._nodes_left -= 1
        if self._nodes_left < 0:
            raise ContentError("it has too many nodes, measured by its size, when its functions are expanded")

    def take(self, nbytes: int) -> None:
        """Counts the memory of arrays.

        Raises:
            ContentError: it is too much.
        """
        self._bytes_left -= nbytes
        if self._bytes_left < 0:
            raise ContentError("its arrays take too much memory, measured by its size")


class Missing:
    """The ops of a model that are not supported, with the nodes that need each."""

    def __init__(self) -> None:
        self._nodes_of: dict[str, list[str]] = {}

    def __bool__(self) -> bool:
        return bool(self._nodes_of)

    def add(self, op: str, node: str) -> None:
        """Notes an op that is not supported, or how it is used."""
        self._nodes_of.setdefault(op, []).append(node)

    def check(self) -> None:
        """Raises a ContentError that names all ops, if there are any."""
        if self._nodes_of:
            raise ContentError(f"it has ops that are not supported: {_listed(self._nodes_of)}")


def _listed(nodes_of: Mapping[str, Sequence[str]]) -> str:
    return "; ".join(
        f"{shown(op)[1:-1]} ({', '.join(shown(name)[1:-1] for name in names[:MOST_NAMED])}"
        f"{f' and {len(names) - MOST_NAMED} more' if len(names) > MOST_NAMED else ''})"
        for op, names in nodes_of.items()
    )
