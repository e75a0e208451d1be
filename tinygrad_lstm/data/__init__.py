"""Sequences and batches."""

from .. import _public
from .batches import prefetched as prefetched
from .long_lag import *
from .sequences import *
from .standardization import *
from .text import *
from .windows import *

_public.publish_gathered(globals())
