"""Whole models from PyTorch's files."""

from pathlib import Path

from ...errors import ContentError
from ...torch.file import open_torch
from ..loaded import Loaded
from .script import loaded_script

__all__ = ["torch_model"]


def torch_model(path: Path) -> Loaded:
    """The module of a TorchScript archive, or of a file of `torch.save(model)`.

    Raises:
        OSError, ValueError: as `load_model`.
    """
    with open_torch(path) as contents:
        names = contents.archive.names if contents.archive else ()
        if any(name.startswith(f"{contents.folder}/code/") for name in names):
            return loaded_script(path, contents)
        raise ContentError("a file of PyTorch that has only arrays; tg.io.load_weights reads them")
