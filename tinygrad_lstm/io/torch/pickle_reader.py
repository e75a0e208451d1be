"""Reading a pickle without executing anything.

A pickle is a program for a stack machine. Python's machine imports and calls whatever the program names. This machine
has the opcodes that `torch.save` writes, treats names as two strings, and asks a `Maker` for the results of calls. For
any pickle it takes less than twenty bytes of memory for each byte of the file.

Reference: the comments of Python's `pickletools`, whose functions read the opcodes' arguments here.
"""

import codecs
import pickletools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BufferedIOBase
from typing import IO, Any, Protocol, cast

from ..errors import ContentError

__all__ = ["Dictionary", "Maker", "Name", "Stream", "read_pickle"]

# One container (a list, dictionary, tuple, or a Maker's result) is allowed for this many bytes of the file, and some in
# addition. PyTorch writes at most one for nine bytes.
BYTES_A_CONTAINER = 4
ALWAYS_ALLOWED = 10_000

LONGEST_NAME = 1000
NEWEST_PROTOCOL = 5


class Dictionary(list[object]):
    """A dictionary of a pickle: its keys and values, alternating.

    Not a dict, since in a hostile file all keys may have the same hash.
    """

    __slots__ = ()

    def pairs(self) -> Iterator[tuple[object, object]]:
        turns = iter(self)
        return zip(turns, turns)


@dataclass(frozen=True, slots=True, eq=False)
class Name:
    """The name of a function or class."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class Maker(Protocol):
    """Makes the results of a pickle's calls. A call that it refuses raises a ContentError."""

    def make(self, name: Name, arguments: tuple[object, ...]) -> object:
        """The result of calling the function or class of this name."""

    def instance(self, name: Name, arguments: tuple[object, ...]) -> object:
        """An instance of the class of this name, as its `__new__` makes it."""

    def set_state(self, value: object, state: object) -> None:
        """Sets the state of a value that was made."""

    def look_up(self, identifier: object) -> object:
        """The value that is stored outside the pickle under this identifier."""


class Stream:
    """A file, read from its position to a known end."""

    def __init__(self, file: BufferedIOBase, size: int) -> None:
        self._file = file
        self.remaining = size

    def read(self, size: int) -> bytes:
        """Exactly this number of next bytes.

        Raises:
            ContentError: there are fewer.
        """
        self._advance(size)
        return self._file.read(size)

    def read_writable(self, size: int) -> bytearray:
        """The same, as a bytearray."""
        self._advance(size)
        content = bytearray(size)
        self._file.readinto(content)
        return content

    def _advance(self, size: int) -> None:
        if size > self.remaining:
            raise ContentError("cut off or damaged: it ends too early")
        self.remaining -= size

    def readline(self) -> bytes:
        """The next line, however long, with its end."""
        line = self._file.readline(self.remaining)
        self.remaining -= len(line)
        return line

    def read_line(self) -> bytes:
        """The next line, without its end.

        Raises:
            ContentError: the line is too long for a name.
        """
        line = self._file.readline(min(self.remaining, LONGEST_NAME))
        self.remaining -= len(line)
        if not line.endswith(b"\n"):
            raise ContentError("damaged: a name has no end")
        return line[:-1]


def read_pickle(stream: Stream, maker: Maker, file_size: int) -> object:
    """The value of a pickle.

    None, booleans, numbers, strings, bytes, tuples and lists are Python's; sets become lists, dictionaries
    `Dictionary`, functions and classes `Name`. The maker makes all other values. Containers may contain themselves.

    Args:
        stream: read up to the end of the pickle.
        file_size: of the whole file, in bytes; it limits the memory.

    Raises:
        ContentError: the pickle is cut off, damaged, or refused.
    """
    machine = _Machine(maker, file_size // BYTES_A_CONTAINER + ALWAYS_ALLOWED)
    while True:
        code = stream.read(1)
        opcode = OPCODES.get(code)
        if opcode is None:
            raise ContentError(f"damaged: 0x{code.hex()} is not an opcode of a pickle")
        if opcode.name == "STOP":
            return machine.pop()
        if opcode.name not in ACTIONS:
            raise ContentError(f"refuses the pickle opcode {opcode.name}, which only code needs")
        ACTIONS[opcode.name](machine, _argument(opcode, stream))


def _argument(opcode: pickletools.OpcodeInfo, stream: Stream) -> Any:
    try:
        if opcode.name == "GLOBAL":  # pickletools would treat backslashes in it as escapes
            return stream.read_line().decode(), stream.read_line().decode()
        if opcode.name == "STRING":  # pickletools would take only ASCII; Python 2 wrote bytes so
            line = stream.readline().strip()
            if len(line) < 2 or line[:1] not in (b"'", b'"') or line[-1:] != line[:1]:
                raise ContentError("damaged: a string has no quotes")
            return codecs.escape_decode(line[1:-1])[0].decode("latin-1")
        return opcode.arg.reader(cast(IO[bytes], stream)) if opcode.arg else None
    except ValueError as error:
        raise ContentError(f"damaged: {error}") from error


class _Machine:
    """The stack of values, the positions of marks in it, and the memo of values that are used again."""

    def __init__(self, maker: Maker, containers_allowed: int) -> None:
        self._maker = maker
        self._containers_allowed = containers_allowed
        self._stack: list[object] = []
        self._marks: list[int] = []
        self._memo: list[object] = []

    def push(self, value: object) -> None:
        self._stack.append(value)

    def push_container(self, value: object) -> None:
        self._containers_allowed -= 1
        if self._containers_allowed < 0:
            raise ContentError("refuses to make more containers than a file of its size would have")
        self._stack.append(value)

    def pop(self) -> object:
        self._check_depth()
        return self._stack.pop()

    def top(self) -> object:
        self._check_depth()
        return self._stack[-1]

    def mark(self) -> None:
        self._marks.append(len(self._stack))

    def pop_to_mark(self) -> list[object]:
        if not self._marks:
            raise ContentError("damaged: a mark is missing")
        start = self._marks.pop()
        values = self._stack[start:]
        del self._stack[start:]
        return values

    def _check_depth(self) -> None:
        if len(self._stack) <= (self._marks[-1] if self._marks else 0):
            raise ContentError("damaged: a value is missing")

    def check_protocol(self, protocol: int) -> None:
        if protocol > NEWEST_PROTOCOL:
            raise ContentError(f"a pickle of protocol {protocol}; those up to {NEWEST_PROTOCOL} are read")

    def make_tuple(self, size: int) -> None:
        values = [self.pop() for _ in range(size)]
        self.push_container(tuple(reversed(values)))

    def extend(self, values: list[object]) -> None:
        target = self.top()
        if type(target) is not list:
            raise ContentError("damaged: items without a list")
        target.extend(values)

    def set_items(self, values: list[object]) -> None:
        target = self.top()
        if not isinstance(target, Dictionary) or len(values) % 2:
            raise ContentError("damaged: items without a dictionary")
        target.extend(values)

    def set_item(self) -> None:
        value = self.pop()
        key = self.pop()
        self.set_items([key, value])

    def memoize(self, index: int) -> None:
        # Indices count up from 0, or from 1 in the files of Python 2.
        if not 0 <= index <= len(self._memo) + 1:
            raise ContentError(f"damaged: a number in its memo is {'negative' if index < 0 else 'too large'}")
        self._memo.extend([None] * (index + 1 - len(self._memo)))
        self._memo[index] = self.top()

    def memoize_next(self) -> None:
        self.memoize(len(self._memo))

    def recall(self, index: int) -> None:
        if not 0 <= index < len(self._memo):
            raise ContentError("damaged: its memo lacks a value")
        self.push(self._memo[index])

    def name(self) -> None:
        name = self.pop()
        module = self.pop()
        if not (isinstance(module, str) and isinstance(name, str) and len(module) + len(name) <= LONGEST_NAME):
            raise ContentError("damaged: a name is not valid")
        self.push_container(Name(module, name))

    def call(self) -> None:
        self.push_container(self._maker.make(*self._call()))

    def instance(self) -> None:
        self.push_container(self._maker.instance(*self._call()))

    def _call(self) -> tuple[Name, tuple[object, ...]]:
        arguments = self.pop()
        name = self.pop()
        if not (isinstance(name, Name) and isinstance(arguments, tuple)):
            raise ContentError("damaged: it calls something that is not a function")
        return name, arguments

    def build(self) -> None:
        state = self.pop()
        self._maker.set_state(self.top(), state)

    def look_up(self) -> None:
        self.push_container(self._maker.look_up(self.pop()))


OPCODES = {opcode.code.encode("latin-1"): opcode for opcode in pickletools.opcodes}

# What each opcode does, given its argument, or None.
ACTIONS: dict[str, Callable[[_Machine, Any], object]] = {
    "PROTO": _Machine.check_protocol,
    "FRAME": lambda machine, size: None,
    # Plain values
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"), _Machine.push),
    **dict.fromkeys(("INT", "LONG", "FLOAT", "STRING", "UNICODE"), _Machine.push),  # of protocol 0
    **dict.fromkeys(("BINSTRING", "SHORT_BINSTRING"), _Machine.push),
    **dict.fromkeys(("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"), _Machine.push),
    **dict.fromkeys(("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"), _Machine.push),
    # Containers
    "MARK": lambda machine, _: machine.mark(),
    "POP": lambda machine, _: machine.pop(),
    "POP_MARK": lambda machine, _: machine.pop_to_mark(),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "TUPLE": lambda machine, _: machine.push_container(tuple(machine.pop_to_mark())),
    "TUPLE1": lambda machine, _: machine.make_tuple(1),
    "TUPLE2": lambda machine, _: machine.make_tuple(2),
    "TUPLE3": lambda machine, _: machine.make_tuple(3),
    "LIST": lambda machine, _: machine.push_container(machine.pop_to_mark()),
    "DICT": lambda machine, _: machine.push_container(Dictionary(machine.pop_to_mark())),
    "EMPTY_LIST": lambda machine, _: machine.push_container([]),
    "EMPTY_SET": lambda machine, _: machine.push_container([]),
    "FROZENSET": lambda machine, _: machine.push_container(machine.pop_to_mark()),
    "APPEND": lambda machine, _: machine.extend([machine.pop()]),
    "APPENDS": lambda machine, _: machine.extend(machine.pop_to_mark()),
    "ADDITEMS": lambda machine, _: machine.extend(machine.pop_to_mark()),
    "EMPTY_DICT": lambda machine, _: machine.push_container(Dictionary()),
    "SETITEM": lambda machine, _: machine.set_item(),
    "SETITEMS": lambda machine, _: machine.set_items(machine.pop_to_mark()),
    # The memo
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _Machine.memoize),
    "MEMOIZE": lambda machine, _: machine.memoize_next(),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine.recall),
    # Names and what they make
    "GLOBAL": lambda machine, name: machine.push_container(Name(*name)),
    "STACK_GLOBAL": lambda machine, _: machine.name(),
    "REDUCE": lambda machine, _: machine.call(),
    "NEWOBJ": lambda machine, _: machine.instance(),
    "BUILD": lambda machine, _: machine.build(),
    "BINPERSID": lambda machine, _: machine.look_up(),
}
