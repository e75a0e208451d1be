"""Every op on tensors, a file a family; `define` says what an op is."""

from . import convolution, elementwise, indexing, linalg, loss, normalization, random, reduction, shape
from . import transfer as transfer
from .convolution import *
from .define import op
from .elementwise import *
from .indexing import *
from .linalg import *
from .loss import *
from .normalization import *
from .random import *
from .reduction import *
from .shape import *

# The ops alone: not the files, one of which is called as tinygrad_lstm.random is.
__all__ = ["op"]
__all__ += convolution.__all__
__all__ += elementwise.__all__
__all__ += indexing.__all__
__all__ += linalg.__all__
__all__ += loss.__all__
__all__ += normalization.__all__
__all__ += random.__all__
__all__ += reduction.__all__
__all__ += shape.__all__
