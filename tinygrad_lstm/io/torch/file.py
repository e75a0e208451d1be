"""Files of PyTorch, read without it: of `torch.save`, in the zip format and the older one, and of TorchScript.

Arrays of tensors that share a storage share memory.

Reference: PyTorch's `torch/serialization.py`.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
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
from .pickle_reader import Dictionary, Stream, read_pickle
from .pickled import NumpyArray, Storage, Tensor, TorchMaker

__all__ = [
    "TorchContents",
    "legacy_contents",
    "open_torch",
    "open_torch_legacy",
    "read_torch",
    "read_torch_legacy",
    "weights_of",
]

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_VERSION = 1001


@dataclass(frozen=True)
class TorchContents:
    """The contents of an open file.

    Attributes:
        root: the value of its pickle.
        arrays: makes the arrays that are described in the pickle.
        file_size: in bytes.
        archive: the archive, of a file in the zip format.
        folder: the folder within the archive that contains everything.
    """

    root: object
    arrays: TorchArrays
    file_size: int
    archive: Archive | None = None
    folder: str = ""

    def pickled(self, name: str, storages: str) -> tuple[object, TorchArrays]:
        """The value of another pickle of the archive, with the arrays whose storages are in this folder.

        Raises:
            ContentError: the pickle is damaged, or refused.
        """
        archive, folder = self.archive, self.folder
        if archive is None or archive.size(folder + name) > archive.file_size:
            raise ContentError(f"its {name.removeprefix('/')} unpacks to more than the whole file")
        pickle = archive.read(folder + name)
        value = read_pickle(Stream(BytesIO(pickle), len(pickle)), TorchMaker(), archive.file_size)

        def read(storage: Storage) -> bytearray:
            return archive.read(f"{folder}/{storages}/{storage.key}")

        return value, TorchArrays(read, _byte_order(archive, folder), archive.file_size)


@contextmanager
def open_torch(path: Path) -> Iterator[TorchContents]:
    """Opens a file of `torch.save`, in the zip format, or a TorchScript archive, for the duration of the context.

    Raises:
        OSError: the file is not there or cannot be read.
        ValueError: the file is cut off, damaged, or is refused; also a ContentError within the context.
    """
    with open_archive(path) as archive, naming_file(path):
        empty = TorchContents(None, TorchArrays(_no_storage, "little", 0), archive.file_size, archive, _folder(archive))
        root, arrays = empty.pickled(TORCH_PICKLE, "data")
        yield replace(empty, root=root, arrays=arrays)


def read_torch(path: Path) -> Weights:
    """The tensors of a file of `torch.save`, in the zip format, or of a TorchScript archive, by dotted names.

    Raises:
        OSError, ValueError: as `open_torch`; and if it holds no tensors.
    """
    with open_torch(path) as contents:
        return weights_of(contents, path.stem)


def _no_storage(storage: Storage) -> bytearray:
    raise ContentError(f"it has no storage {shown(storage.key)}")


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


@contextmanager
def open_torch_legacy(path: Path) -> Iterator[TorchContents]:
    """Opens a file of `torch.save`, in the format of PyTorch before 1.6; see `open_torch`."""
    with open_file(path) as file, naming_errors(path), naming_file(path):
        file_size = os.fstat(file.fileno()).st_size
        root, storages = legacy_contents(Stream(file, file_size), file_size)
        arrays = TorchArrays(lambda storage: storages.pop(storage.key), "little", file_size)
        yield TorchContents(root, arrays, file_size)


def legacy_contents(stream: Stream, file_size: int) -> tuple[object, dict[str, bytearray]]:
    """The value of a file in the older format, and the bytes of its storages by key.

    Raises:
        ContentError: the file is damaged, or refused.
    """
    maker = TorchMaker()
    magic = read_pickle(stream, maker, file_size)
    version = read_pickle(stream, maker, file_size)
    if magic != LEGACY_MAGIC or version != LEGACY_VERSION:
        raise ContentError("not a PyTorch file, or of a different version of the format")
    read_pickle(stream, maker, file_size)  # the system that it was saved on, which is not needed
    root = read_pickle(stream, maker, file_size)
    keys = read_pickle(stream, maker, file_size)
    return root, _legacy_storages(stream, keys, maker.storages)


def read_torch_legacy(path: Path) -> Weights:
    """The tensors of a file of `torch.save`, in the format of PyTorch before 1.6, by dotted names.

    Raises:
        OSError, ValueError: as `read_torch`.
    """
    with open_torch_legacy(path) as contents:
        return weights_of(contents, path.stem)


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


def weights_of(contents: TorchContents, name: str) -> Weights:
    """All arrays, by dotted names; `name` is that of an array without a container.

    Raises:
        ContentError: there are none, or one is damaged.
    """
    found: dict[str, HostArray] = {}
    types: dict[str, str] = {}
    root = contents.root
    if isinstance(root, Tensor | NumpyArray):
        root = Dictionary([name, root])
    for key, described in flattened(root, contents.file_size).items():
        try:
            found[key] = contents.arrays.array(described)
            types |= {key: BFLOAT16} if is_bfloat16(described) else {}
        except ContentError as error:
            raise ContentError(f"{shown(key)}: {error}") from error
    return Weights(found, types=types)
