"""Tensors in memory, of PyTorch or other libraries, as NumPy arrays, without importing these libraries."""

from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import HostArray

__all__ = ["host_array"]


def host_array(name: str, value: Any) -> HostArray:
    """The array of a tensor, on any device, whether or not it requires a gradient; bfloat16 as float32.

    Args:
        name: its name, for the error.
        value: an array; a tensor with the methods `detach`, `cpu` and `numpy`; or anything that NumPy converts to an
            array.

    Raises:
        ValueError: NumPy cannot represent it, such as a quantized or sparse tensor.
    """
    array: HostArray
    if isinstance(value, np.ndarray):
        array = value
    else:
        try:
            if hasattr(value, "detach"):
                value = value.detach().cpu()
                value = (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()
            array = np.asarray(value)
        except (TypeError, ValueError, RuntimeError, NotImplementedError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{name!r} is a {type(value).__name__} that NumPy has no array for: {reason}") from error
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array
