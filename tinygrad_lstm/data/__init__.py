"""Sequences and batches."""

from .text import *
