"""Protobuf messages, read without the protobuf package: from their bytes, and from their JSON.

Reference: https://protobuf.dev/programming-guides/encoding/ and https://protobuf.dev/programming-guides/json/
"""

import base64
import functools
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from ..errors import ContentError, shown

__all__ = ["Enum", "Message", "Schema", "from_json", "from_wire", "varint"]

Kind: TypeAlias = Any
"""Of a field: "int", "bool", "float", "double", "fixed32", "string" or "bytes"; an `Enum`; a `Schema`; a list with the
kind of a repeated field's items; or a tuple with the kind of a map's values, whose keys are strings."""

Schema: TypeAlias = Mapping[int, tuple[str, Kind]]
"""The fields of a type of messages that are read, by their numbers: name and kind. Other fields are skipped."""

VARINT, EIGHT_BYTES, LENGTH_PREFIXED, FOUR_BYTES = 0, 1, 2, 5
WIRE_TYPES = {
    **{"int": VARINT, "bool": VARINT, "float": FOUR_BYTES, "double": EIGHT_BYTES, "fixed32": FOUR_BYTES},
    **{"string": LENGTH_PREFIXED, "bytes": LENGTH_PREFIXED},
}
FIXED = {"float": "<f", "double": "<d", "fixed32": "<I"}
DEFAULTS: dict[str, Any] = {
    **{"int": 0, "bool": False, "float": 0.0, "double": 0.0, "fixed32": 0},
    **{"string": "", "bytes": b""},
}
MAP_KEY, MAP_VALUE = 1, 2
DEEPEST = 100  # messages within messages, as protobuf's own readers allow


class Enum(dict[str, int]):
    """The numbers of an enum by name."""


class Message(dict[str, Any]):
    """The fields of a message by name. A field that is not set has its default; `in` says whether one is set."""

    __slots__ = ("schema",)

    def __init__(self, schema: Schema) -> None:
        self.schema = schema

    def __missing__(self, name: str) -> Any:
        kind = next(kind for each, kind in self.schema.values() if each == name)
        if isinstance(kind, list | tuple):
            return [] if isinstance(kind, list) else {}
        if isinstance(kind, str):
            return DEFAULTS[kind]
        return 0 if isinstance(kind, Enum) else Message(kind)


def from_wire(content: bytes | memoryview, schema: Schema, depth: int = 0) -> Message:
    """A message from its bytes.

    Raises:
        ContentError: they are cut off, or not a message of this type.
    """
    if depth > DEEPEST:
        raise ContentError(f"messages are nested more than {DEEPEST} deep")
    message = Message(schema)
    for number, wire_type, value in _fields(memoryview(content)):
        if number not in schema:
            continue
        name, kind = schema[number]
        if isinstance(kind, list):
            items = message.setdefault(name, [])
            if wire_type == LENGTH_PREFIXED and _wire_type(kind[0]) != LENGTH_PREFIXED:
                items.extend(_packed(value, kind[0], name))
            else:
                items.append(_value(value, wire_type, kind[0], name, depth))
        elif isinstance(kind, tuple):
            entry: Schema = {MAP_KEY: ("key", "string"), MAP_VALUE: ("value", kind[0])}
            pair = from_wire(value, entry, depth + 1) if wire_type == LENGTH_PREFIXED else Message(entry)
            message.setdefault(name, {})[pair["key"]] = pair["value"]
        else:
            message[name] = _value(value, wire_type, kind, name, depth)
    return message


def varint(content: bytes | memoryview, at: int) -> tuple[int, int]:
    """The integer that begins at this byte, without a sign, and where the next value begins.

    Raises:
        ContentError: it is cut off, or longer than 64 bits.
    """
    if at < len(content) and content[at] < 0x80:  # most integers are one byte
        return content[at], at + 1
    number = 0
    for shift in range(0, 70, 7):
        if at >= len(content):
            raise ContentError("cut off within an integer")
        byte = content[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number & (2**64 - 1), at
    raise ContentError("an integer has more than 64 bits")


def _fields(content: memoryview) -> Iterator[tuple[int, int, Any]]:
    """Number, wire type, and the integer or bytes of each field."""
    at, end = 0, len(content)
    while at < end:
        tag, at = varint(content, at)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == VARINT:
            value, at = varint(content, at)
            yield number, wire_type, value
            continue
        if wire_type == LENGTH_PREFIXED:
            size, at = varint(content, at)
        elif wire_type in (EIGHT_BYTES, FOUR_BYTES):
            size = 8 if wire_type == EIGHT_BYTES else 4
        else:
            raise ContentError(f"a field with the unknown wire type {wire_type}")
        if size > end - at:
            raise ContentError("cut off within a field")
        yield number, wire_type, content[at : at + size]
        at += size


def _wire_type(kind: Kind) -> int:
    if isinstance(kind, str):
        return WIRE_TYPES[kind]
    return VARINT if isinstance(kind, Enum) else LENGTH_PREFIXED


def _value(value: Any, wire_type: int, kind: Kind, name: str, depth: int) -> Any:
    if wire_type != _wire_type(kind):
        raise ContentError(f"the field {name} has the wire type {wire_type}")
    if not isinstance(kind, str):
        return _signed(value) if isinstance(kind, Enum) else from_wire(value, kind, depth + 1)
    match kind:
        case "int":
            return _signed(value)
        case "bool":
            return bool(value)
        case "bytes":
            return value
        case "string":
            try:
                return str(value, "utf-8")
            except UnicodeDecodeError as error:
                raise ContentError(f"the field {name} is not UTF-8") from error
    return struct.unpack(FIXED[kind], value)[0]


def _signed(number: int) -> int:
    return number - 2**64 if number >= 2**63 else number


def _packed(content: memoryview, kind: Kind, name: str) -> Iterator[Any]:
    """The numbers of a packed repeated field."""
    if isinstance(kind, str) and kind in FIXED:
        code = FIXED[kind]
        if len(content) % struct.calcsize(code):
            raise ContentError(f"the field {name} is cut off within a number")
        yield from (number for (number,) in struct.iter_unpack(code, content))
        return
    at = 0
    while at < len(content):
        number, at = varint(content, at)
        yield bool(number) if kind == "bool" else _signed(number)


def from_json(value: Any, schema: Schema) -> Message:
    """A message from its JSON, which has been parsed. Names may be in camelCase; unknown fields are skipped.

    Raises:
        ContentError: a field is not of its type.
    """
    if not isinstance(value, dict):
        raise ContentError(f"expected a JSON object with {', '.join(name for name, _ in schema.values())}")
    message = Message(schema)
    kinds = {spelt: (name, kind) for name, kind in schema.values() for spelt in (name, _camel_case(name))}
    for key, given in value.items():
        if key not in kinds or given is None:
            continue
        name, kind = kinds[key]
        if isinstance(kind, list):
            if not isinstance(given, list):
                raise ContentError(f"the field {name} is not a list")
            message[name] = [_json_value(each, kind[0], name) for each in given]
        elif isinstance(kind, tuple):
            if not isinstance(given, dict):
                raise ContentError(f"the field {name} is not a JSON object")
            message[name] = {each: _json_value(value, kind[0], name) for each, value in given.items()}
        else:
            message[name] = _json_value(given, kind, name)
    return message


@functools.cache
def _camel_case(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def _json_value(value: Any, kind: Kind, name: str) -> Any:
    if not isinstance(kind, str):
        if not isinstance(kind, Enum):
            return from_json(value, kind)
        return kind[value] if isinstance(value, str) and value in kind else _json_value(value, "int", name)
    convert: Callable[[Any], Any]
    match kind:
        case "bool":
            convert = bool
        case "int" | "fixed32":
            convert = int
        case "float" | "double":
            convert = float
        case "bytes":
            convert = _from_base64
        case _:
            convert = str
    try:
        if isinstance(value, list | dict):
            raise TypeError
        return convert(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise ContentError(f"the field {name} is {shown(str(value))}, which is not of the type {kind}") from error


def _from_base64(value: str) -> memoryview:
    return memoryview(base64.b64decode(value, validate=True))
