"""Files of PyTorch, read without it: of `torch.save`, in the zip format and the older one, and of TorchScript.

Arrays of tensors that share a storage share memory.

Reference: PyTorch's `torch/serialization.py`.
"""

import os
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path

from tinygrad_lstm.backends.base import HostArray

from ...files import open_file
from ..archive import Archive, open_archive
from ..atomic import naming_errors
from ..contents import Weights
from ..dtypes import BFLOAT16, ByteOrder, item_size
from ..errors import ContentError, naming_file, shown
from ..formats import TORCH_PICKLE
from .arrays import TorchArrays, is_bfloat16
from .nesting import flattened
from .pickle_reader import Stream, read_pickle
from .pickled import Storage, TorchMaker

__all__ = ["read_torch", "read_torch_legacy"]

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_VERSION = 1001


def read_torch(path: Path) -> Weights:
    """The tensors of a file of `torch.save`, in the zip format, or of a TorchScript archive, by dotted names.

    Raises:
        OSError: the file is not there or cannot be read.
        ValueError: the file is cut off, damaged, holds no tensors, or is refused.
    """
    with open_archive(path) as archive, naming_file(path):
        folder = _folder(archive)
        if archive.size(folder + TORCH_PICKLE) > archive.file_size:
            raise ContentError("its data.pkl unpacks to more than the whole file")
        pickle = archive.read(folder + TORCH_PICKLE)
        root = read_pickle(Stream(BytesIO(pickle), len(pickle)), TorchMaker(), archive.file_size)
        return _weights(
            root,
            lambda storage: archive.read(f"{folder}/data/{storage.key}"),
            _byte_order(archive, folder),
            archive.file_size,
        )


def _folder(archive: Archive) -> str:
    """The folder that contains everything, which has the file's name at the time it was saved."""
    pickles = [name for name in archive.names if name.endswith(TORCH_PICKLE)]
    if not pickles:
        raise ContentError("a zip archive without the data.pkl of PyTorch")
    return min(pickles, key=len).removesuffix(TORCH_PICKLE)


def _byte_order(archive: Archive, folder: str) -> ByteOrder:
    name = f"{folder}/byteorder"
    written = bytes(archive.read(name)) if name in archive.names else b"little"
    if written == b"little":
        return "little"
    if written == b"big":
        return "big"
    raise ContentError("its byte order is neither little nor big")


def read_torch_legacy(path: Path) -> Weights:
    """The tensors of a file of `torch.save`, in the format of PyTorch before 1.6, by dotted names.

    Raises:
        OSError: the file is not there or cannot be read.
        ValueError: the file is cut off, damaged, holds no tensors, or is refused.
    """
    with open_file(path) as file, naming_errors(path), naming_file(path):
        file_size = os.fstat(file.fileno()).st_size
        stream = Stream(file, file_size)
        maker = TorchMaker()
        magic = read_pickle(stream, maker, file_size)
        version = read_pickle(stream, maker, file_size)
        if magic != LEGACY_MAGIC or version != LEGACY_VERSION:
            raise ContentError("not a PyTorch file, or of a different version of the format")
        read_pickle(stream, maker, file_size)  # the system that it was saved on, which is not needed
        root = read_pickle(stream, maker, file_size)
        keys = read_pickle(stream, maker, file_size)
        storages = _legacy_storages(stream, keys, maker.storages)
        return _weights(root, lambda storage: storages.pop(storage.key), "little", file_size)


def _legacy_storages(stream: Stream, keys: object, expected: Mapping[str, Storage]) -> dict[str, bytearray]:
    """The bytes of the storages by key; they follow the pickles in the order of `keys`."""
    order = [key for key in keys if isinstance(key, str)] if isinstance(keys, list) else []
    if sorted(order) != sorted(expected):
        raise ContentError("damaged: its storages are not those that its tensors refer to")
    found: dict[str, bytearray] = {}
    for key in order:
        storage = expected[key]
        if int.from_bytes(stream.read(8), "little", signed=True) != storage.size:
            raise ContentError(f"damaged: the size of its storage {shown(key)} is wrong")
        found[key] = stream.read_writable(storage.size * item_size(storage.type_name))
    if stream.remaining:
        raise ContentError(f"{stream.remaining} bytes follow where it should end")
    return found


def _weights(root: object, read: Callable[[Storage], bytearray], byte_order: ByteOrder, file_size: int) -> Weights:
    arrays = TorchArrays(read, byte_order, file_size)
    found: dict[str, HostArray] = {}
    types: dict[str, str] = {}
    for name, described in flattened(root, file_size).items():
        try:
            found[name] = arrays.array(described)
            types |= {name: BFLOAT16} if is_bfloat16(described) else {}
        except ContentError as error:
            raise ContentError(f"{shown(name)}: {error}") from error
    return Weights(found, types=types)
