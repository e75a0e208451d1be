"""Files: weights and checkpoints."""

from .weights import *
