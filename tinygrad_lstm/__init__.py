"""Tensors with reverse-mode autograd on NumPy or CuPy, for recurrent networks that can be inspected."""

from importlib import import_module as _import_module
from pathlib import Path as _Path
from types import ModuleType as _ModuleType
from typing import TYPE_CHECKING as _TYPE_CHECKING

# In a checkout the outer floors, backends and models, are beside this folder; once installed they are inside it.
if not (_Path(__file__).parent / "backends" / "__init__.py").exists():
    from ._checkout import ENTRY as _ENTRY

    __path__.append(_ENTRY)

from tinygrad_lstm.backends.base import Array as Array

from . import _public
from . import cuda as cuda
from . import func as func
from . import nn as nn
from . import optim as optim
from ._gradcheck import *
from ._scan import *
from ._tensor import *
from ._version import __version__ as __version__
from .autograd import *
from .checkpointing import *
from .creation import *
from .device import *
from .mode import *
from .ops._softmax import *
from .ops.activation import *
from .ops.attention import *
from .ops.clamping import *
from .ops.class_loss import *
from .ops.comparison import *
from .ops.convolution import *
from .ops.ctc import *
from .ops.cumulative import *
from .ops.define import op as op
from .ops.elementwise import *
from .ops.indexing import *
from .ops.linalg import *
from .ops.loss import *
from .ops.margin_loss import *
from .ops.normalization import *
from .ops.padding import *
from .ops.pooling import *
from .ops.random import *
from .ops.reduction import *
from .ops.rounding import *
from .ops.scattering import *
from .ops.shape import *
from .ops.sorting import *
from .ops.spectral import *
from .ops.trigonometric import *
from .random import *

if _TYPE_CHECKING:
    from . import data as data
    from . import distributed as distributed
    from . import estimators as estimators
    from . import inspect as inspect
    from . import io as io
    from . import models as models
    from . import search as search
    from . import train as train


# Imported when first used, to keep the import of the package quick.
_LAZY = ("data", "distributed", "estimators", "inspect", "io", "models", "search", "train")


def __getattr__(name: str) -> _ModuleType:
    if name in _LAZY:
        return _import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


_public.publish_gathered(globals(), "cuda", "func", "nn", "optim", "random", *_LAZY)
