"""Recurrent networks over whole sequences, forward and backward, in terms of an array module alone.

What runs on every device, and what the kernels for one in particular must equal. A step costs few calls and no
temporaries: each result goes into an array that was there before.

Throughout: T steps, batch B, input size I, hidden size H. `operands` are the inputs of the network in the order of its
docstring; `lengths` says, on the host, how many steps each sequence has, or None for T each; with `reverse` time runs
from the end. A forward function gives its outputs, and what its backward function wants to be given as `saved`: the
states hs (T + 1, B, H), each before and after its step, and the gates. A backward function takes the gradients `g` of
the outputs, and gives those of the operands; one that nobody asks for, as `wanted` says, may be None. A stepper
prepares the weights once, for inference: it gives a function that from an input (B, I) and states (B, H) writes the
next states.
"""

from .gru import GRUKernels
from .lstm import LSTMKernels
from .rnn import RNNKernels

__all__ = ["RecurrentKernels"]


class RecurrentKernels(LSTMKernels, GRUKernels, RNNKernels):
    """The recurrent part of a backend: what `Backend` says of it."""
