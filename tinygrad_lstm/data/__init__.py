"""Sequences and batches."""

from .. import _public
from .batches import prefetched as prefetched
from .labelled import LabelledSequences as LabelledSequences
from .long_lag import *
from .reading import *
from .sequences import *
from .standardization import *
from .text import *
from .windows import *

_public.publish_gathered(globals())
