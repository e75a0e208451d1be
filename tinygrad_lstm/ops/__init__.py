"""Every op on tensors, one file for each family; `define` explains what an op is."""

from . import (
    _softmax,
    activation,
    attention,
    clamping,
    class_loss,
    comparison,
    convolution,
    ctc,
    cumulative,
    elementwise,
    indexing,
    linalg,
    loss,
    margin_loss,
    normalization,
    padding,
    pooling,
    random,
    recurrent,
    reduction,
    rounding,
    scattering,
    shape,
    sorting,
    spectral,
    trigonometric,
)
from . import numpy_protocol as numpy_protocol
from . import operators as operators
from . import torch_names as torch_names
from . import transfer as transfer
from ._softmax import *
from .activation import *
from .attention import *
from .clamping import *
from .class_loss import *
from .comparison import *
from .convolution import *
from .ctc import *
from .cumulative import *
from .define import op as op
from .elementwise import *
from .indexing import *
from .linalg import *
from .loss import *
from .margin_loss import *
from .normalization import *
from .padding import *
from .pooling import *
from .random import *
from .reduction import *
from .rounding import *
from .rules import Functions
from .scattering import *
from .shape import *
from .sorting import *
from .spectral import *
from .trigonometric import *

Functions.families = (
    _softmax,
    activation,
    attention,
    clamping,
    class_loss,
    comparison,
    convolution,
    ctc,
    cumulative,
    elementwise,
    indexing,
    linalg,
    loss,
    margin_loss,
    normalization,
    padding,
    pooling,
    random,
    recurrent,
    reduction,
    rounding,
    scattering,
    shape,
    sorting,
    spectral,
    trigonometric,
)
