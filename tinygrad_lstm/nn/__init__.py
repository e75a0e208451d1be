"""Modules: layers, containers, initial values, and adapters."""

from .. import _public
from . import init as init
from .activation import *
from .attention import *
from .containers import *
from .convolution import *
from .layers import *
from .lora import *
from .loss import *
from .module import *
from .normalization import *
from .parameter import *
from .parametrization import *
from .pooling import *

_public.publish_gathered(globals(), "init")
