"""Whole models from PyTorch's files."""

from collections.abc import Mapping
from pathlib import Path

from ....nn import Module
from ...torch.file import TorchContents, open_torch, open_torch_legacy
from .pickled import loaded_pickle
from .script import loaded_script

__all__ = ["torch_legacy_model", "torch_model"]


def torch_model(path: Path, states: Mapping[str, str] | None = None) -> Module:
    """The module of a TorchScript archive, or of a file of `torch.save(model)`.

    Raises:
        OSError, ValueError: as `load_model`.
    """
    with open_torch(path) as contents:
        names = contents.archive.names if contents.archive else ()
        has_code = any(name.startswith(f"{contents.folder}/code/") for name in names)
        return loaded_script(path, contents, states) if has_code else _pickled(path, contents, states)


def torch_legacy_model(path: Path, states: Mapping[str, str] | None = None) -> Module:
    """The same for a file in the format of PyTorch before 1.6."""
    with open_torch_legacy(path) as contents:
        return _pickled(path, contents, states)


def _pickled(path: Path, contents: TorchContents, states: Mapping[str, str] | None) -> Module:
    if states:
        raise ValueError(f"{path}: a file of torch.save(model) has no inputs that are states; leave out states=")
    return loaded_pickle(path, contents)
