"""What CUDA devices there are."""

from .device import cuda_device_count as device_count
from .device import get_device

__all__ = ["device_count", "is_available", "synchronize"]


def is_available() -> bool:
    """Whether `"cuda"` can be used: CuPy is installed and finds a device."""
    return device_count() > 0


def synchronize(device: str = "cuda") -> None:
    """Returns when all work queued on the device is done."""
    get_device(device).backend.synchronize()
