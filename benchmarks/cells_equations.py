"""The cells of the atlas as users of PyTorch and JAX write them: a function of one step for each.

A step takes the functions F that it computes with, the parameters by name, an input x (B, I), and the states before. It
returns the states after, the output first. The parameters and states have the names and shapes of the atlas's cells,
and options have the atlas's defaults. `cells.py` compares values and gradients with the atlas's before it measures a
time.

F has PyTorch's names: `sigmoid`, `tanh`, `relu`, `exp`, `abs`, `maximum`, `logsigmoid`, `linear`. Over the last
dimension are `layer_norm(x, weight, bias)`, `concat(parts)`, and `chunk(x, n)`, which splits x into n equal parts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

Values = Any
Parameters = Mapping[str, Any]
States = tuple[Any, ...]


def nets(F: Any, p: Parameters, x: Values, h: Values) -> Values:
    """W·x + U·h + b of all gates."""
    return F.linear(x, p["weight_ih"], p["bias"]) + F.linear(h, p["weight_hh"])


def lstm(F: Any, p: Parameters, x: Values, h: Values, c: Values) -> States:
    return lstm_states(F, F.linear(F.concat([h, x]), p["weight"], p["bias"]), c)


def lstm_states(F: Any, net: Values, c: Values) -> States:
    i, f, g, o = F.chunk(net, 4)
    c = F.sigmoid(f) * c + F.sigmoid(i) * F.tanh(g)
    return F.sigmoid(o) * F.tanh(c), c


def lstm_1997(F: Any, p: Parameters, x: Values, h: Values, c: Values) -> States:
    i, g, o = F.chunk(nets(F, p, x, h), 3)
    c = c + F.sigmoid(i) * F.tanh(g)
    return F.sigmoid(o) * F.tanh(c), c


def lstm_peephole(F: Any, p: Parameters, x: Values, h: Values, c: Values) -> States:
    i, f, g, o = F.chunk(nets(F, p, x, h), 4)
    p_i, p_f, p_o = F.chunk(p["peephole"], 3)
    c = F.sigmoid(f + p_f * c) * c + F.sigmoid(i + p_i * c) * F.tanh(g)
    return F.sigmoid(o + p_o * c) * F.tanh(c), c


def lstm_cifg(F: Any, p: Parameters, x: Values, h: Values, c: Values) -> States:
    i, g, o = F.chunk(nets(F, p, x, h), 3)
    i = F.sigmoid(i)
    c = (1 - i) * c + i * F.tanh(g)
    return F.sigmoid(o) * F.tanh(c), c


def lstm_projection(F: Any, p: Parameters, x: Values, h: Values, c: Values) -> States:
    h, c = lstm_states(F, nets(F, p, x, h), c)
    return F.linear(h, p["weight_hr"]), c


def normalized_gates(F: Any, p: Parameters, x: Values, h: Values) -> tuple[Values, ...]:
    net_x = F.layer_norm(F.linear(x, p["weight_ih"]), p["norm_ih"], p["bias"])
    i, f, g, o = F.chunk(net_x + F.layer_norm(F.linear(h, p["weight_hh"]), p["norm_hh"]), 4)
    return F.sigmoid(i), F.sigmoid(f), F.tanh(g), F.sigmoid(o)


def lstm_layer_norm(F: Any, p: Parameters, x: Values, h: Values, c: Values) -> States:
    i, f, g, o = normalized_gates(F, p, x, h)
    c = f * c + i * g
    return o * F.tanh(F.layer_norm(c, p["norm_c"], p["bias_c"])), c


def lstm_layer_norm_cell(F: Any, p: Parameters, x: Values, h: Values, c: Values) -> States:
    i, f, g, o = normalized_gates(F, p, x, h)
    c = F.layer_norm(f * c + i * g, p["norm_c"], p["bias_c"])
    return o * F.tanh(c), c


def lstm_zoneout(F: Any, p: Parameters, x: Values, h: Values, c: Values) -> States:
    """In evaluation: random masks would be different ones on each side."""
    new_h, new_c = lstm_states(F, nets(F, p, x, h), c)
    return 0.05 * h + 0.95 * new_h, 0.5 * c + 0.5 * new_c


def janet(F: Any, p: Parameters, x: Values, h: Values) -> States:
    f, g = F.chunk(nets(F, p, x, h), 2)
    return (F.sigmoid(f) * h + (1 - F.sigmoid(f - 1.0)) * F.tanh(g),)


def gru_reset_after(F: Any, p: Parameters, x: Values, h: Values) -> States:
    x_r, x_z, x_n = F.chunk(F.linear(x, p["weight_ih"], p["bias"]), 3)
    h_r, h_z, h_n = F.chunk(F.linear(h, p["weight_hh"]), 3)
    r, z = F.sigmoid(x_r + h_r), F.sigmoid(x_z + h_z)
    n = F.tanh(x_n + r * (h_n + p["bias_hn"]))
    return ((1 - z) * n + z * h,)


def gru_reset_before(F: Any, p: Parameters, x: Values, h: Values) -> States:
    H = h.shape[-1]
    x_r, x_z, x_n = F.chunk(F.linear(x, p["weight_ih"], p["bias"]), 3)
    h_r, h_z = F.chunk(F.linear(h, p["weight_hh"][: 2 * H]), 2)
    r, z = F.sigmoid(x_r + h_r), F.sigmoid(x_z + h_z)
    n = F.tanh(x_n + F.linear(r * h, p["weight_hh"][2 * H :]))
    return ((1 - z) * n + z * h,)


def mgu(F: Any, p: Parameters, x: Values, h: Values) -> States:
    H = h.shape[-1]
    x_f, x_n = F.chunk(F.linear(x, p["weight_ih"], p["bias"]), 2)
    f = F.sigmoid(x_f + F.linear(h, p["weight_hh"][:H]))
    n = F.tanh(x_n + F.linear(f * h, p["weight_hh"][H:]))
    return ((1 - f) * h + f * n,)


def li_gru(F: Any, p: Parameters, x: Values, h: Values) -> States:
    z, n = F.chunk(nets(F, p, x, h), 2)
    z = F.sigmoid(z)
    return (z * h + (1 - z) * F.relu(n),)


def ugrnn(F: Any, p: Parameters, x: Values, h: Values) -> States:
    c, g = F.chunk(nets(F, p, x, h), 2)
    g = F.sigmoid(g)
    return (g * h + (1 - g) * F.tanh(c),)


def rnn(F: Any, p: Parameters, x: Values, h: Values) -> States:
    return (F.tanh(F.linear(F.concat([h, x]), p["weight"], p["bias"])),)


def ind_rnn(F: Any, p: Parameters, x: Values, h: Values) -> States:
    return (F.relu(F.linear(x, p["weight_ih"], p["bias"]) + p["weight_hh"] * h),)


def sru(F: Any, p: Parameters, x: Values, h: Values, c: Values) -> States:
    H = h.shape[-1]
    g, x_f, x_r, *projected = F.chunk(F.linear(x, p["weight_ih"]), len(p["weight_ih"]) // H)
    v_f, v_r = F.chunk(p["peephole"], 2)
    b_f, b_r = F.chunk(p["bias"], 2)
    f, r = F.sigmoid(x_f + v_f * c + b_f), F.sigmoid(x_r + v_r * c + b_r)
    c = f * c + (1 - f) * g
    (s,) = projected or [math.sqrt(3) * x]
    return r * c + (1 - r) * s, c


def min_gru(F: Any, p: Parameters, x: Values, h: Values) -> States:
    z, n = F.chunk(F.linear(x, p["weight_ih"], p["bias"]), 2)
    z = F.sigmoid(z)
    return ((1 - z) * h + z * n,)


def min_lstm(F: Any, p: Parameters, x: Values, h: Values) -> States:
    i, f, g = F.chunk(F.linear(x, p["weight_ih"], p["bias"]), 3)
    i, f = F.sigmoid(i), F.sigmoid(f)
    return ((f * h + i * g) / (f + i),)


def co_rnn(F: Any, p: Parameters, x: Values, y: Values, z: Values) -> States:
    force = F.tanh(nets(F, p, x, y) + F.linear(z, p["weight_zh"]))
    z = z + 0.042 * (force - 2.7 * y - 4.7 * z)
    return y + 0.042 * z, z


def lem(F: Any, p: Parameters, x: Values, y: Values, z: Values) -> States:
    x_1, x_2, x_z, x_y = F.chunk(F.linear(x, p["weight_ih"], p["bias"]), 4)
    y_1, y_2, y_z = F.chunk(F.linear(y, p["weight_hh"]), 3)
    dt_z, dt_y = F.sigmoid(x_1 + y_1), F.sigmoid(x_2 + y_2)
    z = (1 - dt_z) * z + dt_z * F.tanh(x_z + y_z)
    y = (1 - dt_y) * y + dt_y * F.tanh(x_y + F.linear(z, p["weight_zh"]))
    return y, z


def exponential_gates(F: Any, i: Values, f: Values, m: Values) -> tuple[Values, Values, Values]:
    log_f = F.logsigmoid(f) + m
    m = F.maximum(log_f, i)
    return F.exp(i - m), F.exp(log_f - m), m


def slstm(F: Any, p: Parameters, x: Values, h: Values, c: Values, n: Values, m: Values) -> States:
    i, f, g, o = F.chunk(nets(F, p, x, h), 4)
    i, f, m = exponential_gates(F, i, f, m)
    c = f * c + i * F.tanh(g)
    n = f * n + i
    return F.sigmoid(o) * (c / n), c, n, m


def mlstm(F: Any, p: Parameters, x: Values, h: Values, C: Values, n: Values, m: Values) -> States:
    """Of one head: C (B, 1, H, H), n (B, 1, H), m (B, 1)."""
    H = h.shape[-1]
    net = F.linear(x, p["weight_ih"], p["bias"])
    q, k, v, o = (each[:, None] for each in F.chunk(net[:, : 4 * H], 4))  # each (B, 1, H)
    k = k / math.sqrt(H)
    i, f, m = exponential_gates(F, net[:, 4 * H : 4 * H + 1], net[:, 4 * H + 1 :], m)  # each (B, 1)
    C = f[..., None, None] * C + (i[..., None] * v)[..., None] * k[..., None, :]
    n = f[..., None] * n + i[..., None] * k
    found = (C @ q[..., None])[..., 0]
    size = F.maximum(F.abs((n * q).sum(-1)), F.exp(-m))[..., None]
    return (F.sigmoid(o) * (found / size))[:, 0], C, n, m


STEPS: dict[str, Callable[..., States]] = {
    step.__name__: step
    for step in (
        *(lstm, lstm_1997, lstm_peephole, lstm_cifg, lstm_projection, lstm_layer_norm, lstm_layer_norm_cell),
        *(lstm_zoneout, janet, gru_reset_after, gru_reset_before, mgu, li_gru, ugrnn, rnn, ind_rnn, sru),
        *(min_gru, min_lstm, co_rnn, lem, slstm, mlstm),
    )
}
"""By the cell's name in the atlas."""
