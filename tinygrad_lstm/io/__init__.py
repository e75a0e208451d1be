"""Files: weights and checkpoints."""

from .. import _public
from .contents import *
from .loading import load_model as load_model
from .onnx.export import *
from .torch.names import export_torch as export_torch
from .torch.names import from_torch as from_torch
from .torch.names import to_torch as to_torch
from .weights import *

_public.publish_gathered(globals())
