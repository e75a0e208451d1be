"""One step of each cell of the atlas, in PyTorch: its paper's equations, or a cell of a library that has the same.

A step takes the parameters by name, x (B, I) and the states before, and returns the states after. Rows of stacked
parameters are in the order in which `chunk` names them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torchrecurrent
from torch import Tensor, nn, sigmoid, tanh
from torch.func import functional_call
from torch.nn.functional import layer_norm, logsigmoid

INPUT, HIDDEN, PROJECTED = 4, 6, 3
TORCHRECURRENT = "torchrecurrent 0.2.5"

Parameters = Mapping[str, Tensor]
States = tuple[Tensor, ...]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Cell:
    """A cell: its step, and the shapes of states (without B) and parameters as functions of the case's settings."""

    source: str
    step: Callable[..., States]
    states: Callable[..., dict[str, Shape]]
    parameters: Callable[..., dict[str, Shape]]
    cases: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {"plain": {}})


CELLS: dict[str, Cell] = {}


def cell(
    source: str,
    states: str,
    parameters: Callable[..., dict[str, Shape]],
    cases: Mapping[str, Mapping[str, Any]] | None = None,
    shapes: Callable[..., dict[str, Shape]] | None = None,
) -> Callable[[Callable[..., States]], Callable[..., States]]:
    """Adds a step to `CELLS` by its function's name. States, named by letters, have H units if no shapes are given."""

    def add(step: Callable[..., States]) -> Callable[..., States]:
        of_states = shapes or (lambda **settings: {state: (HIDDEN,) for state in states})
        CELLS[step.__name__] = Cell(source, step, of_states, parameters, cases or {"plain": {}})
        return step

    return add


def stacked(gates: int, **others: Shape) -> Callable[..., dict[str, Shape]]:
    """The parameters of gates that read x and h."""
    rows = gates * HIDDEN
    return lambda **settings: {"weight_ih": (rows, INPUT), "weight_hh": (rows, HIDDEN), "bias": (rows,), **others}


def of_input(gates: int, **others: Shape) -> Callable[..., dict[str, Shape]]:
    """The parameters of gates that read only x."""
    rows = gates * HIDDEN
    return lambda **settings: {"weight_ih": (rows, INPUT), "bias": (rows,), **others}


def net(p: Parameters, x: Tensor, h: Tensor) -> Tensor:
    return x @ p["weight_ih"].T + h @ p["weight_hh"].T + p["bias"]


def lstm(nets: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """An LSTM's cell state after a step, and its output gate."""
    i, f, g, o = nets.chunk(4, dim=1)
    return sigmoid(f) * c + sigmoid(i) * tanh(g), sigmoid(o)


# Cells of other libraries. Their second biases are zeros.


def run(module: nn.Module, parameters: Parameters, *inputs: Any) -> Any:
    return functional_call(module.double(), dict(parameters), inputs)


def library_cell(name: str, **settings: Any) -> nn.Module:
    return getattr(torchrecurrent, name)(INPUT, HIDDEN, recurrent_bias=False, **settings)


ORIGINAL_LSTM = library_cell("OriginalLSTMCell")
PEEPHOLE_LSTM = library_cell("PeepholeLSTMCell")
MGU = library_cell("MGUCell")
LIGRU = library_cell("LiGRUCell")
INDRNN = library_cell("IndRNNCell", nonlinearity="relu")
JANET = library_cell("JANETCell")
UGRNN = library_cell("UGRNNCell")
PROJECTED_LSTM = nn.LSTM(INPUT, HIDDEN, proj_size=PROJECTED)
TORCH_GRU = nn.GRUCell(INPUT, HIDDEN)


def in_library_names(p: Parameters, **others: str) -> dict[str, Tensor]:
    """The parameters, each under another library's name: `bias` is bias_ih."""
    names = {"bias": "bias_ih", **others}
    return {names.get(name, name): parameter for name, parameter in p.items()}


@cell(f"{TORCHRECURRENT}: OriginalLSTMCell (Hochreiter & Schmidhuber 1997)", "hc", stacked(3))
def lstm_1997(p: Parameters, x: Tensor, h: Tensor, c: Tensor) -> States:
    return run(ORIGINAL_LSTM, in_library_names(p), x, (h, c))


@cell(f"{TORCHRECURRENT}: PeepholeLSTMCell (Gers et al. 2002)", "hc", stacked(4, peephole=(3 * HIDDEN,)))
def lstm_peephole(p: Parameters, x: Tensor, h: Tensor, c: Tensor) -> States:
    return run(PEEPHOLE_LSTM, in_library_names(p, peephole="weight_ph"), x, (h, c))


@cell(
    "torch 2.13.0: nn.LSTM with proj_size (Sak et al. 2014)",
    "hc",
    lambda proj_size: {
        "weight_ih": (4 * HIDDEN, INPUT),
        "weight_hh": (4 * HIDDEN, proj_size),
        "bias": (4 * HIDDEN,),
        "weight_hr": (proj_size, HIDDEN),
    },
    {"plain": {"proj_size": PROJECTED}},
    lambda proj_size: {"h": (proj_size,), "c": (HIDDEN,)},
)
def lstm_projection(p: Parameters, x: Tensor, h: Tensor, c: Tensor, proj_size: int) -> States:
    parameters = {f"{name}_l0": parameter for name, parameter in in_library_names(p).items()}
    parameters["bias_hh_l0"] = torch.zeros_like(p["bias"])
    _, (h, c) = run(PROJECTED_LSTM, parameters, x[None], (h[None], c[None]))
    return h[0], c[0]


@cell("torch 2.13.0: nn.GRUCell", "h", stacked(3, bias_hn=(HIDDEN,)))
def gru_reset_after(p: Parameters, x: Tensor, h: Tensor) -> States:
    parameters = in_library_names(p, bias_hn="bias_hh")
    parameters["bias_hh"] = torch.cat([torch.zeros(2 * HIDDEN), p["bias_hn"]])
    return (run(TORCH_GRU, parameters, x, h),)


@cell(f"{TORCHRECURRENT}: MGUCell (Zhou et al. 2016)", "h", stacked(2))
def mgu(p: Parameters, x: Tensor, h: Tensor) -> States:
    return (run(MGU, in_library_names(p), x, h),)


@cell(f"{TORCHRECURRENT}: LiGRUCell (Ravanelli et al. 2018, without batch normalization)", "h", stacked(2))
def li_gru(p: Parameters, x: Tensor, h: Tensor) -> States:
    return (run(LIGRU, in_library_names(p), x, h),)


@cell(
    f"{TORCHRECURRENT}: IndRNNCell of relu (Li et al. 2018)",
    "h",
    lambda: {"weight_ih": (HIDDEN, INPUT), "weight_hh": (HIDDEN,), "bias": (HIDDEN,)},
)
def ind_rnn(p: Parameters, x: Tensor, h: Tensor) -> States:
    return (run(INDRNN, in_library_names(p, weight_hh="vector_u"), x, h),)


@cell(
    f"{TORCHRECURRENT}: JANETCell (van der Westhuizen & Lasenby 2018), its c the same as its h",
    "h",
    stacked(2),
    {"plain": {"beta": 1.0}},
)
def janet(p: Parameters, x: Tensor, h: Tensor, beta: float) -> States:
    h, _ = run(JANET, in_library_names(p) | {"beta": torch.tensor(beta)}, x, (h, h))
    return (h,)


@cell(f"{TORCHRECURRENT}: UGRNNCell (Collins et al. 2017)", "h", stacked(2))
def ugrnn(p: Parameters, x: Tensor, h: Tensor) -> States:
    return (run(UGRNN, in_library_names(p), x, h),)


@cell(
    f"{TORCHRECURRENT}: coRNNCell (Rusch & Mishra 2021, eq. 3, explicit)",
    "yz",
    lambda **settings: {
        "weight_ih": (HIDDEN, INPUT),
        "weight_hh": (HIDDEN, HIDDEN),
        "weight_zh": (HIDDEN, HIDDEN),
        "bias": (HIDDEN,),
    },
    {"plain": {"dt": 0.25, "gamma": 1.5, "epsilon": 0.75}},
)
def co_rnn(p: Parameters, x: Tensor, y: Tensor, z: Tensor, **settings: float) -> States:
    module = library_cell("coRNNCell", cell_bias=False, **settings)
    return run(module, in_library_names(p, weight_zh="weight_ch"), x, (y, z))


# The papers' equations.


@cell("Greff et al. 2017: CIFG, without peepholes", "hc", stacked(3))
def lstm_cifg(p: Parameters, x: Tensor, h: Tensor, c: Tensor) -> States:
    net_i, net_g, net_o = net(p, x, h).chunk(3, dim=1)
    i = sigmoid(net_i)
    c = (1 - i) * c + i * tanh(net_g)
    return sigmoid(net_o) * tanh(c), c


NORMS = {"norm_ih": (4 * HIDDEN,), "norm_hh": (4 * HIDDEN,), "norm_c": (HIDDEN,), "bias_c": (HIDDEN,)}


def normalized_nets(p: Parameters, x: Tensor, h: Tensor) -> Tensor:
    of_x = layer_norm(x @ p["weight_ih"].T, (4 * HIDDEN,), p["norm_ih"])
    of_h = layer_norm(h @ p["weight_hh"].T, (4 * HIDDEN,), p["norm_hh"])
    return of_x + of_h + p["bias"]


@cell("Ba, Kiros & Hinton 2016, eq. 20-22", "hc", stacked(4, **NORMS))
def lstm_layer_norm(p: Parameters, x: Tensor, h: Tensor, c: Tensor) -> States:
    c, o = lstm(normalized_nets(p, x, h), c)
    return o * tanh(layer_norm(c, (HIDDEN,), p["norm_c"], p["bias_c"])), c


@cell("Ba, Kiros & Hinton 2016, the normalized cell being the state", "hc", stacked(4, **NORMS))
def lstm_layer_norm_cell(p: Parameters, x: Tensor, h: Tensor, c: Tensor) -> States:
    c, o = lstm(normalized_nets(p, x, h), c)
    c = layer_norm(c, (HIDDEN,), p["norm_c"], p["bias_c"])
    return o * tanh(c), c


@cell(
    "Krueger et al. 2017, in evaluation: the mean over the masks",
    "hc",
    stacked(4),
    {"plain": {"zoneout_c": 0.5, "zoneout_h": 0.05}},
)
def lstm_zoneout(p: Parameters, x: Tensor, h: Tensor, c: Tensor, zoneout_c: float, zoneout_h: float) -> States:
    new_c, o = lstm(net(p, x, h), c)
    new_h = o * tanh(new_c)
    return zoneout_h * h + (1 - zoneout_h) * new_h, zoneout_c * c + (1 - zoneout_c) * new_c


@cell("Cho et al. 2014, eq. 5-8", "h", stacked(3))
def gru_reset_before(p: Parameters, x: Tensor, h: Tensor) -> States:
    x_r, x_z, x_n = (x @ p["weight_ih"].T + p["bias"]).chunk(3, dim=1)
    U_r, U_z, U_n = p["weight_hh"].chunk(3)
    r, z = sigmoid(x_r + h @ U_r.T), sigmoid(x_z + h @ U_z.T)
    return (z * h + (1 - z) * tanh(x_n + (r * h) @ U_n.T),)


@cell("Feng et al. 2024, minGRU of section 3.1", "h", of_input(2))
def min_gru(p: Parameters, x: Tensor, h: Tensor) -> States:
    net_z, n = (x @ p["weight_ih"].T + p["bias"]).chunk(2, dim=1)
    z = sigmoid(net_z)
    return ((1 - z) * h + z * n,)


@cell("Feng et al. 2024, minLSTM of section 3.2", "h", of_input(3))
def min_lstm(p: Parameters, x: Tensor, h: Tensor) -> States:
    net_i, net_f, g = (x @ p["weight_ih"].T + p["bias"]).chunk(3, dim=1)
    i, f = sigmoid(net_i), sigmoid(net_f)
    return (f / (f + i) * h + i / (f + i) * g,)


@cell(
    "Lei et al. 2018, eq. 1-4, with the scale of the highway; with a product for the highway where I != H",
    "hc",
    lambda input_size=INPUT, **settings: {
        "weight_ih": ((3 if input_size == HIDDEN else 4) * HIDDEN, input_size),
        "peephole": (2 * HIDDEN,),
        "bias": (2 * HIDDEN,),
    },
    {"plain": {}, "highway": {"input_size": HIDDEN, "alpha": 3**0.5}},
)
def sru(p: Parameters, x: Tensor, h: Tensor, c: Tensor, input_size: int = INPUT, alpha: float = float("nan")) -> States:
    g, net_f, net_r, *skip = (x @ p["weight_ih"].T).split(HIDDEN, dim=1)
    v_f, v_r = p["peephole"].chunk(2)
    b_f, b_r = p["bias"].chunk(2)
    f, r = sigmoid(net_f + v_f * c + b_f), sigmoid(net_r + v_r * c + b_r)
    c = f * c + (1 - f) * g
    return r * c + (1 - r) * (skip[0] if skip else x * alpha), c


@cell(
    "Rusch et al. 2022, eq. 3",
    "yz",
    lambda dt: {
        "weight_ih": (4 * HIDDEN, INPUT),
        "weight_hh": (3 * HIDDEN, HIDDEN),
        "weight_zh": (HIDDEN, HIDDEN),
        "bias": (4 * HIDDEN,),
    },
    {"plain": {"dt": 0.5}},
)
def lem(p: Parameters, x: Tensor, y: Tensor, z: Tensor, dt: float) -> States:
    x_1, x_2, x_z, x_y = (x @ p["weight_ih"].T + p["bias"]).chunk(4, dim=1)
    y_1, y_2, y_z = (y @ p["weight_hh"].T).chunk(3, dim=1)
    dt_z, dt_y = dt * sigmoid(x_1 + y_1), dt * sigmoid(x_2 + y_2)
    z = (1 - dt_z) * z + dt_z * tanh(x_z + y_z)
    y = (1 - dt_y) * y + dt_y * tanh(x_y + z @ p["weight_zh"].T)
    return y, z


XLSTM_CASES = {"plain": {"num_heads": 1}, "heads": {"num_heads": 2}, "stabilised": {"num_heads": 2}}


def exponential_gates(net_i: Tensor, net_f: Tensor, m: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The input gate exp(net_i) and the forget gate σ(net_f), both times exp(m - m'), and the stabilizer m' after."""
    log_f = logsigmoid(net_f)
    after = torch.maximum(log_f + m, net_i)
    return torch.exp(net_i - after), torch.exp(log_f + m - after), after


@cell(
    "Beck et al. 2024, eq. 8-17, sigmoid forget gate",
    "hcnm",
    lambda num_heads: {
        "weight_ih": (4 * HIDDEN, INPUT),
        "weight_hh": (4 * HIDDEN, HIDDEN // num_heads),
        "bias": (4 * HIDDEN,),
    },
    XLSTM_CASES,
)
def slstm(p: Parameters, x: Tensor, h: Tensor, c: Tensor, n: Tensor, m: Tensor, num_heads: int) -> States:
    gates = []
    for of_x, U, b in zip(p["weight_ih"].chunk(4), p["weight_hh"].chunk(4), p["bias"].chunk(4), strict=True):
        gates.append(x @ of_x.T + h @ torch.block_diag(*U.chunk(num_heads)).T + b)
    net_i, net_f, net_g, net_o = gates
    i, f, m = exponential_gates(net_i, net_f, m)
    c = f * c + i * tanh(net_g)
    n = f * n + i
    return sigmoid(net_o) * c / n, c, n, m


def mlstm_states(num_heads: int) -> dict[str, Shape]:
    D = HIDDEN // num_heads
    return {"h": (HIDDEN,), "C": (num_heads, D, D), "n": (num_heads, D), "m": (num_heads,)}


def mlstm_parameters(num_heads: int) -> dict[str, Shape]:
    rows = 4 * HIDDEN + 2 * num_heads
    return {"weight_ih": (rows, INPUT), "bias": (rows,)}


@cell("Beck et al. 2024, eq. 19-27, sigmoid forget gate", "hCnm", mlstm_parameters, XLSTM_CASES, mlstm_states)
def mlstm(p: Parameters, x: Tensor, h: Tensor, C: Tensor, n: Tensor, m: Tensor, num_heads: int) -> States:
    D = HIDDEN // num_heads
    sizes = [HIDDEN] * 4 + [num_heads] * 2
    q, k, v, net_o, net_i, net_f = (x @ p["weight_ih"].T + p["bias"]).split(sizes, dim=1)
    q, k, v = (part.unflatten(1, (num_heads, D)) for part in (q, k / D**0.5, v))
    i, f, m = exponential_gates(net_i, net_f, m)
    C = f[..., None, None] * C + i[..., None, None] * torch.einsum("bnd,bne->bnde", v, k)
    n = f[..., None] * n + i[..., None] * k
    read = torch.einsum("bnde,bne->bnd", C, q)
    scale = torch.maximum(torch.einsum("bnd,bnd->bn", n, q).abs(), torch.exp(-m))
    return sigmoid(net_o) * (read / scale[..., None]).flatten(1), C, n, m
