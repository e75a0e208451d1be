"""What measures calls that compute on a CUDA device: events on its stream, and what its allocator gives out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["CupyGauge", "TorchGauge"]


class CupyGauge:
    """Measures what CuPy computes."""

    def seconds(self, call: Callable[[], Any], calls: int) -> float:
        import cupy

        first, last = cupy.cuda.Event(), cupy.cuda.Event()
        cupy.cuda.Device().synchronize()
        first.record()
        for _ in range(calls):
            call()
        last.record()
        last.synchronize()
        return float(cupy.cuda.get_elapsed_time(first, last)) / 1e3

    def peak(self, call: Callable[[], Any]) -> float:
        import cupy

        class Peak(cupy.cuda.MemoryHook):  # type: ignore[misc]
            """Follows what is in use; CuPy's pool does not tell the most that it was."""

            name = "peak"
            in_use = most = 0

            def malloc_postprocess(self, **given: Any) -> None:
                self.in_use += given["mem_size"]
                self.most = max(self.most, self.in_use)

            def free_postprocess(self, **given: Any) -> None:
                self.in_use -= given["mem_size"]

        with Peak() as peak:
            call()
        return float(peak.most) / 1e6


class TorchGauge:
    """Measures what PyTorch computes."""

    def seconds(self, call: Callable[[], Any], calls: int) -> float:
        import torch

        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        first.record()
        for _ in range(calls):
            call()
        last.record()
        last.synchronize()
        return float(first.elapsed_time(last)) / 1e3

    def peak(self, call: Callable[[], Any]) -> float:
        import torch

        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return float(torch.cuda.max_memory_allocated() - before) / 1e6
