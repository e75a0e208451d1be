"""Files as PyTorch would write them, or never would, opcode by opcode: for the tests of what reads them."""

import io
import struct
import zipfile
from collections.abc import Mapping, Sequence

__all__ = ["REBUILD", "archive", "dictionary", "legacy", "number", "storage", "tensor", "text"]

REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"

# The older format begins with three pickles: a number, a version, and what is said of the system.
LEGACY_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19." + b"\x80\x02M\xe9\x03." + b"\x80\x02}."


def text(value: str) -> bytes:
    """What pushes a text."""
    content = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(content)) + content


def number(value: int) -> bytes:
    """The opcodes that push an integer."""
    content = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8b" + struct.pack("<i", len(content)) + content


def dictionary(items: Mapping[str, bytes]) -> bytes:
    """What pushes a dictionary of what its values' opcodes push."""
    return b"}(" + b"".join(text(key) + value for key, value in items.items()) + b"u"


def storage(key: str = "0", size: int = 6, kind: str = "torch\nFloatStorage") -> bytes:
    """What pushes a storage, whose elements lie outside the pickle."""
    return b"(" + text("storage") + b"c" + kind.encode() + b"\n" + text(key) + text("cpu") + number(size) + b"tQ"


def tensor(
    stored: bytes = storage(), offset: int = 0, shape: Sequence[int] = (2, 3), strides: Sequence[int] = (3, 1)
) -> bytes:
    """What pushes a tensor."""
    sizes = [b"(" + b"".join(map(number, values)) + b"t" for values in (shape, strides)]
    return REBUILD + b"(" + stored + number(offset) + b"".join(sizes) + b"\x89ccollections\nOrderedDict\n)RtR"


def archive(
    pickle: bytes,
    storages: Mapping[str, bytes] | None = None,
    byte_order: str | None = None,
    code: Mapping[str, str] | None = None,
) -> bytes:
    """A file of the zip format. Unless given, there is one storage, "0", of six zeros in float32.

    `code` has the files of a TorchScript archive, such as "__torch__.py".
    """
    records = {f"data/{key}": content for key, content in ({"0": bytes(24)} if storages is None else storages).items()}
    records |= {f"code/{name}": content.encode() for name, content in (code or {}).items()}
    if byte_order is not None:
        records["byteorder"] = byte_order.encode()
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as zipped:
        for name, content in {"data.pkl": b"\x80\x02" + pickle + b".", **records}.items():
            zipped.writestr(f"model/{name}", content)
    return file.getvalue()


def legacy(pickle: bytes, keys: Sequence[str] = ("0",), size: int = 6, content: bytes = bytes(24)) -> bytes:
    """A file of the older format, with one storage: its size in elements, and its bytes."""
    order = b"\x80\x02](" + b"".join(map(text, keys)) + b"e."
    return LEGACY_START + b"\x80\x02" + pickle + b"." + order + struct.pack("<q", size) + content
