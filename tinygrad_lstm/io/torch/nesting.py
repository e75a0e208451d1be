"""The arrays within the nested dictionaries and lists of a PyTorch checkpoint, by dotted names."""

from collections.abc import Iterator, Sequence

from ..errors import ContentError, shown
from .pickle_reader import Dictionary
from .pickled import NumpyArray, Record, Tensor, described

__all__ = ["flattened"]

DEEPEST = 100

# The memory that names may take, and the steps to find them: for each byte of the file, and in addition. PyTorch's
# files need less, even for thousands of views of one storage.
ROOM = 10
ALWAYS_ALLOWED = 2**16
ROOM_OF_AN_ARRAY = 200

# The attributes of a module, saved whole by `torch.save`, that contain what its state_dict has.
_STATE = ("_parameters", "_buffers", "_modules")

LARGEST_NUMBER, LONGEST_NUMBER = 2**63, 20


def flattened(root: object, file_size: int) -> dict[str, Tensor | NumpyArray]:
    """Tensors and NumPy arrays, each by the keys and indices that lead to it, joined by dots.

    Everything else is skipped. For a TorchScript module these are its parameters and buffers, as in its `state_dict()`.

    Args:
        root: the value of a pickle.
        file_size: in bytes; it limits the memory and the time.

    Raises:
        ContentError: there are none, two have one name, they are nested deeper than 100 containers, or
            their names take more memory than in a valid file of this size.
    """
    found: dict[str, Tensor | NumpyArray] = {}
    room = _Room(ROOM * file_size + ALWAYS_ALLOWED)
    walk = [_children(root)]
    keys: list[object] = []  # the keys on the current path
    while walk:
        for key, child in walk[-1]:
            room.take(1)
            if isinstance(child, Tensor | NumpyArray):
                room.take(_most_bytes([*keys, key]) + ROOM_OF_AN_ARRAY)
                name = _joined([*keys, key])
                if name in found:
                    raise ContentError(f"two of its arrays have the name {shown(name)}")
                found[name] = child
            elif isinstance(child, Dictionary | list | tuple | Record):
                walk.append(_children(child))
                keys.append(key)
                break
        else:
            walk.pop()
            del keys[-1:]  # the root has no key
        if len(walk) > DEEPEST:
            raise ContentError(f"its containers lie more than {DEEPEST} deep in each other")
    if not found:
        hint = ": of a module that was frozen, save the one before" if _is_script(root) else ""
        raise ContentError(f"it holds no array that has a name, but {described(root)}{hint}")
    return found


def _is_script(root: object) -> bool:
    return isinstance(root, Record) and str(root.name).startswith("__torch__.")


class _Room:
    def __init__(self, size: int) -> None:
        self._left = size

    def take(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise ContentError("the names of its arrays would take more room than in any file of its size")


def _children(value: object) -> Iterator[tuple[object, object]]:
    """The contents of a container, by keys or indices."""
    if isinstance(value, Dictionary):
        yield from value.pairs()
    elif isinstance(value, list | tuple):
        yield from enumerate(value)
    elif isinstance(value, Record) and value.attributes is not None:
        is_pickled_module = any(key == "_parameters" for key, _ in value.attributes.pairs())
        for key, child in value.attributes.pairs():
            if not is_pickled_module:
                # Lists and dictionaries are not part of a module's state_dict, and may contain its parameters again.
                yield key, child if isinstance(child, Tensor | Record) else None
            elif key in _STATE and isinstance(child, Dictionary):
                yield from child.pairs()


def _most_bytes(keys: Sequence[object]) -> int:
    """The most memory that the name of these keys can take: all characters take as much as the widest."""
    strings = [key for key in keys if isinstance(key, str)]
    width = 1 if all(string.isascii() for string in strings) else 4
    return width * (sum(map(len, strings)) + LONGEST_NUMBER * (len(keys) - len(strings)))


def _joined(keys: Sequence[object]) -> str:
    """The name of the value under these nested keys."""
    parts = []
    for key in keys:
        if isinstance(key, int) and abs(key) < LARGEST_NUMBER:
            parts.append(str(key))
        elif isinstance(key, str) and _is_unicode(key):
            parts.append(key)
        else:
            raise ContentError("an array is under a key that is neither a string nor an integer")
    return ".".join(parts)


def _is_unicode(string: str) -> bool:
    """Whether it can be encoded as UTF-8: a pickle may contain surrogates."""
    try:
        string.encode()
    except UnicodeEncodeError:
        return False
    return True
