"""Streams of spectra of windows."""

from __future__ import annotations

from .._tensor import Tensor
from ..ops import spectral
from ..programs.program import Call
from .layout import Layout
from .planning import Flow, Planner, streams
from .pointwise import Full, check_free, rest

__all__: list[str] = []


@streams(spectral.rfft)
def _rfft(p: Planner, call: Call, x: Flow, twice: bool) -> list[Flow]:
    """(..., T, n) to (..., n // 2 + 1, T, 2)."""
    *outer, number, _ = x.layout.dims
    check_free(x.layout, len(outer) + 1)
    frequencies = int(call.result.shape[-3])
    layout = Layout((*outer, (frequencies,) if frequencies > 1 else (), number, (2,)))
    full, alone = Full(x.layout), any(isinstance(each, str) for each in number)

    def function(lead: int, frames: Tensor) -> Tensor:
        windows = full(lead, frames)
        return rest(layout, lead, spectral.rfft(windows.unsqueeze(-2) if alone else windows, twice))

    return p.map(call, [x], [layout], function)
