"""Recurrent layers over whole sequences, forward and backward, written with an array module only.

This code runs on every device. The kernels of one device must compute the same. A step makes few calls and no
temporaries: each result is written into an existing array.

Shapes: T steps, batch B, input size I, hidden size H. `operands` are the inputs of the op in their order. `lengths`, an
array on the host, has the number of steps of each sequence; None means T for all. With `reverse`, time runs backward.

- A forward function returns the outputs and `saved`: the states hs (T + 1, B, H) before and after each step, and the
  gates.
- A backward function takes `saved` and the gradients `g` of the outputs. It returns the gradients of the operands; one
  for which `needs_grad` is false may be None.
- A stepper prepares the weights once, for inference. It returns a function that computes the next states from an input
  (B, I) and states (B, H).
"""

from .gru import GRUKernels
from .lstm import LSTMKernels
from .rnn import RNNKernels

__all__ = ["RecurrentKernels"]


class RecurrentKernels(LSTMKernels, GRUKernels, RNNKernels):
    """The recurrent kernels of a backend; see `Backend`."""
