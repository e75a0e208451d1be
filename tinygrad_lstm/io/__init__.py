"""Files: weights and checkpoints."""

from .contents import *
from .onnx.export import *
from .torch_names import export_torch as export_torch
from .torch_names import from_torch as from_torch
from .torch_names import to_torch as to_torch
from .weights import *
