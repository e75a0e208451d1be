"""CUDA devices: their number, synchronization, and the precision of their matrix products."""

from .device import cuda_device_count as device_count
from .device import get_device, get_precision, set_precision

__all__ = ["device_count", "get_precision", "is_available", "set_precision", "synchronize"]


def is_available() -> bool:
    """Whether `"cuda"` can be used: CuPy is installed and finds a device."""
    return device_count() > 0


def synchronize(device: str = "cuda") -> None:
    """Waits until all work queued on the device is done."""
    get_device(device).backend.synchronize()
