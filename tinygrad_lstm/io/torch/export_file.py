"""The tensors of programs that `torch.export` saved, .pt2, of PyTorch 2.8 and later.

Reference: PyTorch's `torch/export/pt2_archive/constants.py`, and `torch/_export/serde/schema.py`.
"""

import json
from pathlib import Path
from typing import Any, Literal

from tinygrad_lstm.backends.base import HostArray

from ..archive import Archive, open_archive
from ..contents import Weights
from ..dtypes import item_size
from ..errors import ContentError, naming_file, shown
from ..formats import TORCH_EXPORT
from .arrays import TorchArrays
from .pickled import Storage, Tensor

__all__ = ["ExportFile", "dtype_of_number", "read_torch_export"]

_ALWAYS_ALLOWED = 2**20  # bytes of JSON
# The dtypes by their numbers; types that NumPy lacks are empty.
_TYPES = (
    *("", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64", "", "complex64", "complex128"),
    *("bool", "bfloat16"),
)


def read_torch_export(path: Path) -> Weights:
    """The parameters and buffers of a program that `torch.export.save` wrote, by their names in the model.

    Raises:
        OSError: the file is not there or cannot be read.
        ValueError: the file is cut off, damaged, or has no tensors.
    """
    with open_archive(path) as archive, naming_file(path):
        found = ExportFile(archive).tensors("weights")
        if not found:
            raise ContentError("it holds no arrays")
        return Weights(found)


class ExportFile:
    """The contents of an archive of `torch.export`."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._folder = next(name for name in archive.names if name.endswith(TORCH_EXPORT)).removesuffix(TORCH_EXPORT)
        self._arrays = TorchArrays(lambda storage: archive.read(storage.key), "little", archive.file_size)

    def json(self, name: str) -> Any:
        """The value of a JSON file.

        Raises:
            ContentError: it is damaged, or larger than the whole file.
            ValueError: it is not there.
        """
        path = f"{self._folder}/{name}"
        if path in self._archive.names and self._archive.size(path) > max(self._archive.file_size, _ALWAYS_ALLOWED):
            raise ContentError(f"its {shown(name)} unpacks to more than the whole file")
        try:
            return json.loads(self._archive.read(path).decode())
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ContentError(f"damaged: its {shown(name)} is not JSON") from error

    def tensors(self, kind: Literal["weights", "constants"]) -> dict[str, HostArray]:
        """All tensors of a kind by name.

        Raises:
            ContentError: a tensor is damaged, or of a type that is not supported.
        """
        config = self.json(f"data/{kind}/model_{kind}_config.json")
        found: dict[str, HostArray] = {}
        try:
            for name, own in config["config"].items():
                found[str(name)] = self._tensor(own, kind)
        except (KeyError, TypeError, AttributeError) as error:
            raise ContentError(f"damaged: the description of its {kind} lacks something") from error
        return found

    def _tensor(self, own: Any, kind: str) -> HostArray:
        name, meta = own["path_name"], own["tensor_meta"]
        if own["use_pickle"]:
            raise ContentError(f"refuses the tensor {shown(str(name))}, a pickle of a subclass of Tensor")
        type_name = dtype_of_number(meta["dtype"])
        key = f"{self._folder}/data/{kind}/{name}"
        if key not in self._archive.names:
            raise ContentError(f"damaged: it lacks {shown(str(name))}")
        storage = Storage(key, type_name, self._archive.size(key) // item_size(type_name))
        shape, strides = (tuple([each["as_int"] for each in meta[sizes]]) for sizes in ("sizes", "strides"))
        return self._arrays.array(Tensor(storage, meta["storage_offset"]["as_int"], shape, strides))


def dtype_of_number(number: Any) -> str:
    """A dtype by its number in the schema.

    Raises:
        ContentError: NumPy has no such type.
    """
    name = _TYPES[number] if isinstance(number, int) and 0 <= number < len(_TYPES) else ""
    if not name:
        raise ContentError(f"it has tensors of a type that NumPy lacks, number {shown(str(number))}")
    return name
