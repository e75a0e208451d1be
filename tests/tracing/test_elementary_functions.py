"""Elementary functions in a step: `tg.scan` of it computes the values and gradients of a loop."""

from any_cells import checked_derivatives, drawn, elementary_functions

import tinygrad_lstm as tg

T, B, I = 3, 2, 5


def test_a_scan_of_elementary_functions_is_a_loop(device: str) -> None:
    x = tg.tensor(drawn(T, B, I), device=device, requires_grad=True)
    h = tg.tensor(drawn(B, I) * 0.3, device=device, requires_grad=True)
    out, final = tg.scan(elementary_functions, x, h)
    expected, state = [], h
    for row in x:
        state = elementary_functions(row, state)
        expected.append(state)
    checked_derivatives([out, final], [tg.stack(expected), state], [x, h])
