"""Rules of TensorFlow's ops; see `io.models.rules`, whose mechanism they share.

A rule's positional parameters are the op's inputs, its keyword-only ones the attributes that change what it computes.
Attributes are as `graphs.attribute_of` returns them.
"""

from collections.abc import Callable
from typing import Any

from ..rules import rule as rule_of_domain

__all__ = ["DOMAIN", "IGNORED", "rule"]

DOMAIN = "tensorflow"

IGNORED = frozenset(
    {
        *("N", "element_shape", "num_elements", "validate_indices", "grad_a", "grad_b", "grad_x", "grad_y", "num_args"),
        *("use_cudnn_on_gpu", "exponential_avg_factor", "incompatible_shape_error", "message", "swap_memory", "sorted"),
        *("container", "shared_name", "bad_indices_policy", "dynamic_size", "clear_after_read", "tensor_array_name"),
        *("identical_element_shapes", "resize_if_index_out_of_bounds"),
    }
)
"""Attributes that do not change what an op computes, beside element types and those that begin with an underscore."""


def rule(op: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers a function as the rule of an op of TensorFlow."""
    return rule_of_domain(op, domain=DOMAIN)
