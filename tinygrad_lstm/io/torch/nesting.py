"""The arrays within the nested dictionaries and lists of a PyTorch checkpoint, by dotted names."""

from collections.abc import Iterator

from ..errors import ContentError, shown
from .pickle_reader import Dictionary
from .pickled import NumpyArray, Record, Tensor, described

__all__ = ["flattened"]

DEEPEST = 100

# How much room names may take, and how many steps it may take to find them: so much for each byte of the file, and
# this much in a small one. What PyTorch writes needs less, even for thousands of views of one storage.
ROOM = 10
ALWAYS_ALLOWED = 2**16
ROOM_OF_AN_ARRAY = 200

LARGEST_NUMBER = 2**63


def flattened(root: object, file_size: int) -> dict[str, Tensor | NumpyArray]:
    """Tensors and NumPy arrays, each by the keys and places that lead to it, with dots in between.

    All else is left out. Of a module of TorchScript these are its parameters and buffers, as in its `state_dict()`.

    Args:
        root: what a pickle holds.
        file_size: in bytes: it bounds the memory and the time taken.

    Raises:
        ContentError: there are none, two have one name, one has no name, they lie deeper than 100 containers, or their
            names take more room than in any file of this size.
    """
    if isinstance(root, Tensor | NumpyArray):
        raise ContentError("it holds one array, which has no name: save it in a dictionary")
    found: dict[str, Tensor | NumpyArray] = {}
    room = _Room(ROOM * file_size + ALWAYS_ALLOWED)
    walk: list[tuple[str | None, Iterator[tuple[object, object]]]] = [("", _children(root))]
    while walk:
        prefix, children = walk[-1]
        for key, child in children:
            room.take(1)
            if isinstance(child, Tensor | NumpyArray):
                name = _joined(prefix, key)
                if name is None:
                    raise ContentError("an array stands under a key that is neither a text nor a whole number")
                if name in found:
                    raise ContentError(f"two of its arrays have the name {shown(name)}")
                room.take(len(name) + ROOM_OF_AN_ARRAY)
                found[name] = child
            elif isinstance(child, Dictionary | list | tuple | Record):
                name = _joined(prefix, key)
                room.take(len(name or ""))
                walk.append((None if name is None else name + ".", _children(child)))
                break
        else:
            walk.pop()
        if len(walk) > DEEPEST:
            raise ContentError(f"its containers lie more than {DEEPEST} deep in each other")
    if not found:
        raise ContentError(f"it holds no array that has a name, but {described(root)}")
    return found


class _Room:
    def __init__(self, size: int) -> None:
        self._left = size

    def take(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise ContentError("the names of its arrays would take more room than in any file of its size")


def _children(value: object) -> Iterator[tuple[object, object]]:
    """What a container holds, by keys or places."""
    if isinstance(value, Dictionary):
        yield from value.pairs()
    elif isinstance(value, list | tuple):
        yield from enumerate(value)
    elif isinstance(value, Record) and value.attributes is not None:
        for key, child in value.attributes.pairs():
            # A module's lists and dictionaries are no part of its state_dict, and may hold its parameters again.
            yield key, child if isinstance(child, Tensor | Record) else None


def _joined(prefix: str | None, key: object) -> str | None:
    """The name of what stands under a key; None if it can have none."""
    if prefix is None:
        return None
    if isinstance(key, int) and abs(key) < LARGEST_NUMBER:
        return f"{prefix}{key}"
    if isinstance(key, str) and _is_unicode(key):
        return prefix + key
    return None


def _is_unicode(text: str) -> bool:
    """Whether it can be written in UTF-8: a pickle may have halves of characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
