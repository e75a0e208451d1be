"""How `fuzz_files.py` damages files: their bytes, or the structure that is in them."""

import contextlib
import copy
import io
import json
import random
import re
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

from fuzz_formats import NEXT_FILE, whole_files
from onnx import ModelProto

from tinygrad_lstm.io.tensorflow.checksum import masked_crc32c
from tinygrad_lstm.io.tensorflow.table import MAGIC, read_table
from tinygrad_lstm.io.tensorflow.wire import varint

Damage = Callable[[random.Random, bytes], bytes]

ODD_BYTES = [0, 1, 0x7F, 0x80, 0xFE, 0xFF]
ODD_NUMBERS = [0, 1, -1, 2, 3, 7, 255, 2**31 - 1, -(2**31), 2**40, 2**62, 2**63 - 1, -(2**63), 10**6]
ODD_STRINGS = ["", "x" * 2000, "\x1b[31m", "a\nb", "\ud800", "../../etc/passwd", "float32", "0", "nan", "/", "W", "é"]
ODD_NAMES = ["", *"WRXh", "LSTM", "GRU", "Concat", "Slice", "Split", "Tile", "Expand", "Shape", "Cast", "axis", "to"]
ODD_VALUES: list[Any] = [*ODD_NUMBERS, *ODD_STRINGS, 2**64, 1e308, 0.5, True, None, [], {}, [[]], {"a": 1}, [0] * 70]


def bytes_changed(rng: random.Random, whole: bytes) -> bytes:
    """Some bytes changed, left out, put in, or taken from elsewhere."""
    content = bytearray(whole)
    for _ in range(rng.choice([1, 1, 2, 4, 8])):
        at, size = rng.randrange(len(content) + 1), rng.choice([1, 2, 4, 8, rng.randrange(1, 64)])
        source = bytes(content)
        if rng.random() < 0.2:
            source = rng.choice(list(rng.choice(list(whole_files().values())).values()))
        other = rng.randrange(len(source) + 1)
        match rng.randrange(8):
            case 0 if at < len(content):
                content[at] ^= 1 << rng.randrange(8)
            case 1:
                content[at : at + 1] = bytes([rng.choice(ODD_BYTES)])
            case 2:
                del content[at : at + size]
            case 3:
                content[at:at] = source[other : other + size]
            case 4:
                content[at : at + size] = source[other : other + size]
            case 5:
                content[at : at + size] = rng.randbytes(size)
            case 6 if rng.random() < 0.3:
                del content[at:]
            case _:
                content[at:at] = bytes(content[at : at + size]) * rng.randrange(1, 40)
    return bytes(content)


def json_changed(rng: random.Random, text: bytes | str) -> str:
    """JSON in which values are changed or left out, also within strings that are JSON."""
    whole = json.loads(text)
    for _ in range(rng.choice([1, 1, 2, 3])):
        places = list(_places(whole))
        if not places:
            break
        parent, key = rng.choice(places)
        value = parent[key]
        if isinstance(value, str) and value[:1] in ("{", "[") and rng.random() < 0.8:
            parent[key] = json_changed(rng, value)
        elif rng.random() < 0.15:
            del parent[key]
        elif isinstance(value, int) and rng.random() < 0.5:
            parent[key] = value + rng.choice([-1, 1, 10, -value * 2])
        else:
            other_parent, other = rng.choice(places)
            new = rng.choice(ODD_VALUES) if rng.random() < 0.6 else other_parent[other]
            parent[key] = copy.deepcopy(new)
    return json.dumps(whole)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Where values stand in a nested one: what holds each, and its key there."""
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])


def safetensors_changed(rng: random.Random, whole: bytes) -> bytes:
    """Another header before the same arrays."""
    size = int.from_bytes(whole[:8], "little")
    header = json_changed(rng, whole[8 : 8 + size]).encode(errors="surrogatepass")
    return len(header).to_bytes(8, "little") + header + whole[8 + size :]


def zip_changed(rng: random.Random, whole: bytes) -> bytes:
    """A sound archive, in which one file is damaged: no checksum tells it."""
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice(list(files))
    if name.endswith(".json") and rng.random() < 0.7:
        files[name] = json_changed(rng, files[name]).encode(errors="surrogatepass")
    else:
        files[name] = bytes_changed(rng, files[name])
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as archive:
        for each, content in files.items():
            # Without the time of day, so that a number always makes the same file.
            archive.writestr(zipfile.ZipInfo(each), content, archive.compression)
    return packed.getvalue()


def onnx_changed(rng: random.Random, whole: bytes) -> bytes:
    """A valid message in which fields are changed, left out, repeated or exchanged."""
    model = ModelProto.FromString(whole)
    for _ in range(rng.choice([1, 1, 2, 4])):
        messages = list(_messages(model))
        message = rng.choice(messages)
        fields = message.ListFields()
        if not fields:
            continue
        field, value = rng.choice(fields)
        alike = [each for each in messages if type(each) is type(message) and each is not message]
        choice = rng.random()
        if choice < 0.1:
            message.ClearField(field.name)
        elif choice < 0.25 and alike:
            message.CopyFrom(type(message).FromString(rng.choice(alike).SerializeToString()))
        elif field.enum_type is not None:
            setattr(message, field.name, rng.choice(field.enum_type.values).number)
        elif isinstance(value, int | float | str | bytes):
            setattr(message, field.name, _odd(rng, value))
        elif hasattr(value, "append") and value:
            _change_items(rng, value)
    return model.SerializeToString()


def _messages(message: Any) -> Iterator[Any]:
    """A message of protobuf's, and those within it."""
    yield message
    for _, value in message.ListFields():
        for each in value if hasattr(value, "append") else [value]:
            if hasattr(each, "ListFields"):
                yield from _messages(each)


def _change_items(rng: random.Random, items: Any) -> None:
    """Leaves out one of several items, repeats it, or replaces it by a different one."""
    at = rng.randrange(len(items))
    if rng.random() < 0.3:
        del items[at]
    elif hasattr(items[at], "ListFields"):
        items.add().CopyFrom(items[at])
    elif rng.random() < 0.3:
        items.append(items[at])
    else:
        items[at] = _odd(rng, items[at]) if rng.random() < 0.6 else rng.choice(list(items))


def _odd(rng: random.Random, value: Any) -> Any:
    """Another value of the same type, that some field of it may have."""
    if isinstance(value, bool | int):
        return rng.choice([number for number in ODD_NUMBERS if -(2**31) <= number < 2**31] + [value ^ 1])
    if isinstance(value, float):
        return rng.choice([0.0, -1.0, float("nan"), float("inf"), 1e30])
    if isinstance(value, str):
        return rng.choice([*ODD_NAMES, "x" * 300])
    return bytes_changed(rng, value) if value else b"\x00"


def table_changed(rng: random.Random, whole: bytes) -> bytes:
    """A table with other cells, or lines that are missing, doubled or exchanged."""
    lines = whole.decode().splitlines()
    for _ in range(rng.randint(1, 3)):
        at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
        cells = re.split("([,;])", lines[at])
        cells[rng.randrange(len(cells))] = rng.choice(ODD_CELLS)
        changed = rng.choice([["".join(cells)], [], [lines[at]] * 2, [lines[other]]])
        lines[at : at + 1] = changed
        if not lines:
            break
    return "\n".join(lines).encode()


ODD_CELLS = [
    "",
    " ",
    "nan",
    "-inf",
    "1e400",
    "1e39",
    "x",
    "-1",
    "1_0",
    '"',
    '"a,b;c"',
    "9" * 200,
    "2024-02-30",
    ",",
    "\0",
]


def one_changed(*changes: Damage) -> Damage:
    """Damages one of the first files that are joined, each in its own way, or leaves one out."""

    def changed(rng: random.Random, whole: bytes) -> bytes:
        parts = whole.split(NEXT_FILE)
        if rng.random() < 0.05:
            parts[rng.randrange(len(parts))] = b""
        else:
            place, change = rng.choice(list(enumerate(changes))[: len(parts)])
            parts[place] = change(rng, parts[place])
        return NEXT_FILE.join(parts)

    return changed


def protobuf_changed(rng: random.Random, whole: bytes) -> bytes:
    """A message in which fields, or those of messages within it, are changed, left out, repeated or exchanged."""
    fields = list(_protobuf_fields(whole))
    if not fields:
        return bytes_changed(rng, whole)
    at = rng.randrange(len(fields))
    number, kind, value = fields[at]
    choice = rng.random()
    if kind == 2 and value and choice < 0.85:
        with contextlib.suppress(Exception):
            list(_protobuf_fields(value))
            fields[at] = (number, kind, protobuf_changed(rng, value))
    elif choice < 0.3:
        del fields[at]
    elif choice < 0.5:
        fields.append(rng.choice(fields))
    elif choice < 0.6:
        fields[at] = (rng.choice([number + 1, rng.randrange(1, 20)]), kind, value)
    elif kind == 2:
        new = rng.choice(
            [name.encode(errors="ignore") for name in ODD_NAMES] + [each for _, k, each in fields if k == 2]
        )
        fields[at] = (number, kind, new)
    else:
        size = 10 if kind == 0 else len(value)
        new = rng.choice(ODD_NUMBERS) % 2**64
        fields[at] = (number, kind, encoded(new) if kind == 0 else new.to_bytes(8, "little")[:size])
    return b"".join(
        encoded(number << 3 | kind) + (encoded(len(value)) if kind == 2 else b"") + value
        for number, kind, value in fields
    )


def _protobuf_fields(content: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Number, wire type and bytes of each field."""
    at = 0
    while at < len(content):
        tag, at = varint(content, at)
        start = at
        if tag % 8 == 0:
            _, at = varint(content, at)
        elif tag % 8 == 2:
            size, start = varint(content, at)
            at = start + size
        elif tag % 8 in (1, 5):
            at += 8 if tag % 8 == 1 else 4
        else:
            raise ValueError("not a message")
        yield tag >> 3, tag % 8, content[start:at]


def encoded(number: int) -> bytes:
    """An integer as protobuf writes it."""
    content = bytearray()
    while number >= 0x80:
        content.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*content, number])


def index_changed(rng: random.Random, whole: bytes) -> bytes:
    """The index of a checkpoint in which entries are damaged: no checksum tells it."""
    entries = {key: bytes(value) for key, value in read_table(whole).items()}
    for _ in range(rng.choice([1, 1, 2, 3])):
        key = rng.choice(list(entries))
        if rng.random() < 0.2:
            new = bytes_changed(rng, key)
            entries[new] = entries.pop(key)
        else:
            entries[key] = protobuf_changed(rng, entries[key])
    content = b"".join(
        encoded(0) + encoded(len(key)) + encoded(len(value)) + key + value for key, value in sorted(entries.items())
    )
    block = _with_trailer(content)
    handle = encoded(0) + encoded(len(block) - 5)
    index = _with_trailer(encoded(0) + encoded(1) + encoded(len(handle)) + b"z" + handle)
    handles = encoded(0) * 2 + encoded(len(block)) + encoded(len(index) - 5)
    return block + index + handles.ljust(40, b"\0") + MAGIC


def _with_trailer(entries: bytes) -> bytes:
    """A block of a table with these entries, and its checksum."""
    content = entries + (0).to_bytes(4, "little") + (1).to_bytes(4, "little") + b"\0"
    return content + masked_crc32c(content).to_bytes(4, "little")


STRUCTURED: dict[str, Damage] = {
    "table of sequences": table_changed,
    "safetensors": safetensors_changed,
    "checkpoint": safetensors_changed,
    "state": safetensors_changed,
    "ONNX": onnx_changed,
    "ONNX model": protobuf_changed,
    "ONNX model with data": one_changed(protobuf_changed),
    "TensorFlow checkpoint": one_changed(index_changed),
    "SavedModel": one_changed(protobuf_changed, index_changed),
    "TensorFlow graph": protobuf_changed,
    "TensorFlow.js": one_changed(lambda rng, whole: json_changed(rng, whole).encode(errors="surrogatepass")),
}
