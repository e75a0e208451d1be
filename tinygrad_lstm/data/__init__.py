"""Sequences and batches."""

from .. import _public
from .long_lag import *
from .sequences import *
from .text import *

_public.publish_gathered(globals())
