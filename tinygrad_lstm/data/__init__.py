"""Sequences and batches."""

from .long_lag import *
from .text import *
