"""Tensors with reverse-mode autograd on NumPy or CuPy, for recurrent networks that can be looked into."""

from importlib import import_module as _import_module
from pathlib import Path as _Path
from types import ModuleType as _ModuleType
from typing import TYPE_CHECKING as _TYPE_CHECKING

# In a checkout the outer floors, backends and models, stand beside this folder; once installed they lie inside it.
if not (_Path(__file__).parent / "backends").exists():
    __path__.append(str(_Path(__file__).parents[1]))

from tinygrad_lstm.backends.base import Array as Array

from . import cuda as cuda
from . import data as data
from . import func as func
from . import io as io
from . import nn as nn
from . import optim as optim
from ._gradcheck import *
from ._tensor import *
from .autograd import *
from .checkpointing import *
from .creation import *
from .device import *
from .mode import *
from .ops.activation import *
from .ops.comparison import *
from .ops.convolution import *
from .ops.define import op as op
from .ops.elementwise import *
from .ops.indexing import *
from .ops.linalg import *
from .ops.loss import *
from .ops.normalization import *
from .ops.random import *
from .ops.reduction import *
from .ops.shape import *
from .random import *

if _TYPE_CHECKING:
    from . import inspect as inspect

__version__ = "0.1.0"


def __getattr__(name: str) -> _ModuleType:
    """Imports `inspect` when it is first used: it takes half as long as all else."""
    if name == "inspect":
        return _import_module(".inspect", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), "inspect"]
