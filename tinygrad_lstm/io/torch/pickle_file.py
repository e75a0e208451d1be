"""Pickles of arrays in dictionaries, lists and tuples: NumPy's, or PyTorch's tensors; nothing in them is executed."""

import os
from io import BytesIO
from pathlib import Path

from ...files import open_file
from ..atomic import naming_errors
from ..contents import Weights
from ..errors import ContentError, naming_file
from .arrays import TorchArrays
from .file import TorchContents, legacy_contents, weights_of
from .pickle_reader import Name, Stream, read_pickle
from .pickled import Arguments, NumpyArray, Storage, TorchMaker

__all__ = ["pickled_weights", "read_pickle_file"]

LOAD_FROM_BYTES = "torch.storage._load_from_bytes"
JOBLIB = "joblib.numpy_pickle.NumpyArrayWrapper"


def read_pickle_file(path: Path) -> Weights:
    """The arrays of a pickle by dotted names; of several pickles one after the other, by their numbers first.

    One array, without a container, has the file's name without its ending.

    Raises:
        OSError: the file is not there or cannot be read.
        ValueError: the file is cut off, damaged, holds no arrays, or is refused.
    """
    with open_file(path) as file, naming_errors(path), naming_file(path):
        size = os.fstat(file.fileno()).st_size
        return pickled_weights(Stream(file, size), size, path.stem)


def pickled_weights(stream: Stream, file_size: int, name: str) -> Weights:
    """The arrays of the pickles in a stream; `name` is that of an array without a container.

    Raises:
        ContentError: the pickle is damaged, holds no arrays, or is refused.
    """
    maker = _PickleMaker()
    roots = [read_pickle(stream, maker, file_size)]
    while stream.remaining:
        roots.append(read_pickle(stream, maker, file_size))
    root = roots[0] if len(roots) == 1 else roots
    while isinstance(root, NumpyArray) and isinstance(root.content, list):  # an array of objects, as of numpy.save
        root = root.content[0] if len(root.content) == 1 else root.content
    return weights_of(TorchContents(root, TorchArrays(maker.read, "little", file_size), file_size), name)


class _PickleMaker(TorchMaker):
    """Also makes the storages that PyTorch's tensors have in a pickle, as files of `torch.save` within it."""

    def __init__(self) -> None:
        super().__init__()
        self._contents: dict[str, bytearray] = {}

    def make(self, name: Name, arguments: Arguments) -> object:
        match arguments:
            case (bytes() | str() as content,) if str(name) == LOAD_FROM_BYTES:
                try:
                    return self._loaded(content.encode("latin-1") if isinstance(content, str) else content)
                except UnicodeEncodeError as error:
                    raise ContentError("damaged: the content of a storage is not bytes") from error
        return super().make(name, arguments)

    def instance(self, name: Name, arguments: Arguments) -> object:
        if str(name) == JOBLIB:
            raise ContentError("refuses a file of joblib, whose arrays lie between pickles: save with numpy.savez")
        return super().instance(name, arguments)

    def _loaded(self, content: bytes) -> object:
        """The storage of a file of `torch.save`."""
        root, storages = legacy_contents(Stream(BytesIO(content), len(content)), len(content))
        if not isinstance(root, Storage) or root.key not in storages:
            raise ContentError("damaged: the bytes of a storage hold something else")
        storage = Storage(f"{len(self._contents)}", root.type_name, root.size)
        self._contents[storage.key] = storages[root.key]
        return storage

    def read(self, storage: Storage) -> bytearray:
        if storage.key not in self._contents:
            raise ContentError("its elements are not in the file")
        return self._contents[storage.key]
