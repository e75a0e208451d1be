"""Sequences and batches."""

from .. import _public
from .batches import prefetched as prefetched
from .encoded_text import *
from .labelled import LabelledSequences as LabelledSequences
from .long_lag import *
from .reading import read_sequences as read_sequences
from .sequences import *
from .splitting import *
from .standardization import *
from .text import *
from .text_files import *
from .windows import *

_public.publish_gathered(globals())
