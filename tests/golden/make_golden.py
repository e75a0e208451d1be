"""Write the golden reference values: what PyTorch 2.13 computes, in this project's parameter layout.

    pip install torch==2.13.0 numpy safetensors        # in an environment of its own: the project does not need torch
    python tests/golden/make_golden.py                 # rewrites every *.safetensors beside it, bit for bit

Everything is float64 (class ids, lengths and indices int64). An array's key is `case/array`; each case's settings are JSON in
the file's metadata; `load.py` reads both. Each case seeds its own random numbers, so adding one changes no other.
Wherever there are gradients, `grad_<array>` is that of the scalar `sum(out * w_out)`, or for recurrent cases of
`sum(out * w_out) + sum(h_n * w_h) + sum(c_n * w_c)` (terms that the cell lacks are left out).

| file | cases | arrays in each case |
| --- | --- | --- |
| lstm | plain, bidirectional_lengths, batch_first | x h0 c0 [lengths] out h_n c_n w_out w_h w_c, weight_ih_l{k}[_reverse] weight_hh_l{k}[_reverse] bias_l{k}[_reverse]; grad_ of x, h0, c0 and every parameter |
| gru | the same | the same without c, and bias_hn_l{k}[_reverse] |
| rnn | the same | the same as lstm without c |
| variants | lstm_proj rnn_relu; lstm_peephole lstm_norm_cell lstm_norm_output lstm_all gru_reset_before | as lstm, gru and rnn; also [weight_hr_l{k}[_reverse]] [peephole_l0] [norm_ih_l0 norm_hh_l0 norm_c_l0 bias_c_l0], and no bias_hn |
| cells | lstm, gru, rnn | x h0 [c0] h_n [c_n] w_h [w_c], weight_ih weight_hh bias [bias_hn]; grad_ of x, h0, c0 and every parameter |
| traces | lstm, gru, rnn | x h0 [c0] w_out, weight_ih weight_hh bias [bias_hn]; of each step every gate and state, i f g o c h, r z n h or h, each (T, B, H); grad_ of these, `out` being the h |
| losses | {loss}[_{variant}]_{mean, sum, none} | input target [weight] [pos_weight] out w_out grad_input [grad_target] |
| ops | {op}[_{variant}] | input [weight] [bias] out w_out; grad_ of each float input |
| optimizers | {optimizer}[_{variant}] | weight bias: initial values; {weight, bias}_grads, {weight, bias}_steps: the 20 gradients, and the values after each |
| schedules | step exponential cosine warmup plateau plateau_max_abs | lr (31,): the rate at first and after each of 30 steps; [metric (30,)] |
| schedule_pairs | {first}+{second} of step exponential cosine warmup sequential plateau | lr (31,): as above with two schedules, stepped in this order; after step 12 the rate is set by hand |
| clipping | norm_2 norm_inf norm_2_untouched value | before_{weight, bias} after_{weight, bias} [total_norm] |

Settings. lstm, gru, rnn: num_layers, bidirectional, batch_first. variants: kind, and the arguments of this project's network.
losses, ops: op, positional and keyword (arrays passed by place and
by name, in order), kwargs. optimizers: class, given (the arguments that differ from torch's defaults), hyperparameters (all of
them). schedules: class, kwargs, lr (the initial rate). schedule_pairs: schedules (class and kwargs of each; of SequentialLR
milestones and the class and kwargs of each of its own), lr, metric (of every step), by_hand (step and rate). clipping: function, kwargs.

Layouts. Torch's two bias vectors become one. LSTM and RNN: `bias` is their sum, and its gradient is that of either. GRU: `bias` is
the sum for the rows r and z and torch's b_in for n, and `bias_hn` is torch's b_hn, inside the reset gate's product.
Gate order: LSTM i, f, g, o; GRU r, z, n.
"""  # noqa: E501 (a table's row is one line)

import itertools
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.numpy import save
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.optim import lr_scheduler

FOLDER = Path(__file__).parent
TIME, BATCH, INPUT, HIDDEN = 5, 4, 3, 4
OPTIMIZER_STEPS, SCHEDULE_STEPS = 20, 30

Arrays = dict[str, Tensor]
Settings = dict[str, Any]
Case = tuple[str, Arrays, Settings]
Draw = Callable[[], Tensor]


def seed(file: str, case: str) -> None:
    """Start the random numbers of one case."""
    torch.manual_seed(zlib.crc32(f"{file}/{case}".encode()))


def gradients(loss: Tensor, inputs: Mapping[str, Tensor]) -> Arrays:
    """`grad_<name>` of a scalar loss for each named input."""
    return {f"grad_{name}": g for name, g in zip(inputs, torch.autograd.grad(loss, list(inputs.values())), strict=True)}


# --- Recurrent layers and cells -------------------------------------------------------------------

RECURRENT_CASES: dict[str, Settings] = {
    "plain": {"num_layers": 1, "bidirectional": False, "batch_first": False},
    "bidirectional_lengths": {"num_layers": 2, "bidirectional": True, "batch_first": False},
    "batch_first": {"num_layers": 2, "bidirectional": False, "batch_first": True},
}
LENGTHS = (3, 5, 1, 4)


def merge_biases(arrays: Mapping[str, Tensor], *, gru: bool, gradient: bool) -> Arrays:
    """Torch's parameters (or their gradients) with each pair `bias_ih*`, `bias_hh*` in this project's layout."""
    merged: Arrays = {}
    for name, array in arrays.items():
        if "bias_hh" in name:
            continue
        if "bias_ih" not in name:
            merged[name] = array
            continue
        hidden_bias = arrays[name.replace("bias_ih", "bias_hh")]
        shared = slice(0, 2 * len(array) // 3 if gru else len(array))  # the rows where torch only ever adds the two
        one_bias = array.clone()
        if gradient:
            torch.testing.assert_close(array[shared], hidden_bias[shared], rtol=1e-12, atol=1e-12)
        else:
            one_bias[shared] += hidden_bias[shared]
        merged[name.replace("bias_ih", "bias")] = one_bias
        if gru:
            merged[name.replace("bias_ih", "bias_hn")] = hidden_bias[shared.stop :]
    return merged


def recurrent_arrays(module: nn.Module, inputs: Arrays, outputs: Arrays) -> Arrays:
    """Inputs, parameters, outputs, the loss's weights, and the gradients of inputs and parameters."""
    gru = isinstance(module, nn.GRU | nn.GRUCell)
    parameters = dict(module.named_parameters())
    weights = {f"w_{name.removesuffix('_n')}": torch.randn_like(out) for name, out in outputs.items()}
    loss = torch.stack([(out * w).sum() for out, w in zip(outputs.values(), weights.values(), strict=True)]).sum()
    grads = gradients(loss, inputs | parameters)
    return (
        inputs
        | merge_biases(parameters, gru=gru, gradient=False)
        | outputs
        | weights
        | merge_biases(grads, gru=gru, gradient=True)
    )


def recurrent_layers(file: str) -> Iterator[Case]:
    """LSTM, GRU or RNN: without an initial state (zeros), then with states given, lengths, layers and directions."""
    for case, settings in RECURRENT_CASES.items():
        seed(file, case)
        module = getattr(nn, file.upper())(INPUT, HIDDEN, **settings)
        is_padded = case == "bidirectional_lengths"
        yield case, layers_run(module, with_state=case != "plain", with_lengths=is_padded), settings


def layers_run(module: nn.RNNBase, *, with_state: bool, with_lengths: bool) -> Arrays:
    """A run of one of torch's networks, from an initial state or zeros, on sequences of one length or several."""
    is_lstm = isinstance(module, nn.LSTM)
    rows = module.num_layers * (2 if module.bidirectional else 1)
    sizes = {"h0": module.proj_size or HIDDEN, "c0": HIDDEN} if is_lstm else {"h0": HIDDEN}
    draw = torch.randn if with_state else torch.zeros
    shape = (BATCH, TIME, INPUT) if module.batch_first else (TIME, BATCH, INPUT)
    inputs = {"x": torch.randn(shape).requires_grad_()}
    inputs |= {name: draw(rows, BATCH, size).requires_grad_() for name, size in sizes.items()}
    state = (inputs["h0"], inputs["c0"]) if is_lstm else inputs["h0"]

    lengths: Arrays = {}
    if with_lengths:
        lengths["lengths"] = torch.tensor(LENGTHS)
        out, last = module(pack_padded_sequence(inputs["x"], lengths["lengths"], enforce_sorted=False), state)
        out, _ = pad_packed_sequence(out, total_length=TIME)
    else:
        out, last = module(inputs["x"], state)
    outputs = {"out": out} | (dict(zip(("h_n", "c_n"), last, strict=True)) if is_lstm else {"h_n": last})
    return lengths | recurrent_arrays(module, inputs, outputs)


TORCH_VARIANTS: dict[str, tuple[type[nn.RNNBase], Settings]] = {
    "lstm_proj": (nn.LSTM, {"proj_size": 2}),
    "rnn_relu": (nn.RNN, {"nonlinearity": "relu"}),
}
OTHER_VARIANTS: dict[str, tuple[str, Settings]] = {
    "lstm_peephole": ("lstm", {"peephole": True}),
    "lstm_norm_cell": ("lstm", {"layer_norm": "cell"}),
    "lstm_norm_output": ("lstm", {"layer_norm": "output"}),
    "lstm_all": ("lstm", {"proj_size": 2, "peephole": True, "layer_norm": "output"}),
    "gru_reset_before": ("gru", {"reset_after": False}),
}


def variants() -> Iterator[Case]:
    """Two layers in both directions of what torch has; one layer of what it has not, written out."""
    for case, (make, options) in TORCH_VARIANTS.items():
        seed("variants", case)
        settings = RECURRENT_CASES["bidirectional_lengths"] | options
        module = make(INPUT, HIDDEN, **settings)
        kind = make.__name__.lower()
        yield case, layers_run(module, with_state=True, with_lengths=True), {"kind": kind} | settings
    for case, (kind, options) in OTHER_VARIANTS.items():
        seed("variants", case)
        yield case, variant_run(kind, options), {"kind": kind} | options


def variant_run(kind: str, options: Settings) -> Arrays:
    """One layer of a variant, step by step, from an initial state."""
    P = options.get("proj_size", HIDDEN)
    rows = (4 if kind == "lstm" else 3) * HIDDEN
    shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, INPUT), "weight_hh": (rows, P), "bias": (rows,)}
    if "proj_size" in options:
        shapes["weight_hr"] = (P, HIDDEN)
    if "peephole" in options:
        shapes["peephole"] = (3 * HIDDEN,)
    if "layer_norm" in options:
        shapes |= {"norm_ih": (rows,), "norm_hh": (rows,), "norm_c": (HIDDEN,), "bias_c": (HIDDEN,)}
    parameters = {f"{name}_l0": torch.randn(shape).requires_grad_() for name, shape in shapes.items()}
    inputs = {"x": torch.randn(TIME, BATCH, INPUT).requires_grad_(), "h0": torch.randn(1, BATCH, P).requires_grad_()}
    if kind == "lstm":
        inputs["c0"] = torch.randn(1, BATCH, HIDDEN).requires_grad_()

    p = {name.removesuffix("_l0"): parameter for name, parameter in parameters.items()}
    states = {name.removesuffix("0"): inputs[name][0] for name in inputs if name != "x"}
    hs = []
    for x in inputs["x"]:
        states = lstm_variant(p, x, **states, **options) if kind == "lstm" else gru_reset_before(p, x, **states)
        hs.append(states["h"])
    outputs = {"out": torch.stack(hs)} | {f"{name}_n": state[None] for name, state in states.items()}

    weights = {f"w_{name.removesuffix('_n')}": torch.randn_like(out) for name, out in outputs.items()}
    loss = torch.stack([(out * w).sum() for out, w in zip(outputs.values(), weights.values(), strict=True)]).sum()
    return inputs | parameters | outputs | weights | gradients(loss, inputs | parameters)


def lstm_variant(
    p: Arrays,
    x: Tensor,
    h: Tensor,
    c: Tensor,
    layer_norm: str | None = None,
    peephole: bool = False,
    proj_size: int = 0,
) -> Arrays:
    """The states after a step of an LSTM with these options."""
    net_x, net_h = x @ p["weight_ih"].T, h @ p["weight_hh"].T
    if layer_norm:
        net_x = functional.layer_norm(net_x, net_x.shape[1:], p["norm_ih"])
        net_h = functional.layer_norm(net_h, net_h.shape[1:], p["norm_hh"])
    p_i, p_f, p_o = p["peephole"].chunk(3) if peephole else torch.zeros(3)
    net_i, net_f, net_g, net_o = (net_x + net_h + p["bias"]).chunk(4, dim=1)
    c = torch.sigmoid(net_f + p_f * c) * c + torch.sigmoid(net_i + p_i * c) * torch.tanh(net_g)
    normed = functional.layer_norm(c, c.shape[1:], p["norm_c"], p["bias_c"]) if layer_norm else c
    c = normed if layer_norm == "cell" else c
    h = torch.sigmoid(net_o + p_o * c) * torch.tanh(normed)
    return {"h": h @ p["weight_hr"].T if proj_size else h, "c": c}


def gru_reset_before(p: Arrays, x: Tensor, h: Tensor) -> Arrays:
    """The state after a step of a GRU whose reset gate comes before the product."""
    x_r, x_z, x_n = (x @ p["weight_ih"].T + p["bias"]).chunk(3, dim=1)
    of_r, of_z, of_n = p["weight_hh"].chunk(3)
    r, z = torch.sigmoid(x_r + h @ of_r.T), torch.sigmoid(x_z + h @ of_z.T)
    n = torch.tanh(x_n + (r * h) @ of_n.T)
    return {"h": (1 - z) * n + z * h}


CELLS: dict[str, Callable[..., nn.RNNCellBase]] = {"lstm": nn.LSTMCell, "gru": nn.GRUCell, "rnn": nn.RNNCell}


def cells() -> Iterator[Case]:
    """One step of each cell."""
    for case, cell in CELLS.items():
        seed("cells", case)
        module = cell(INPUT, HIDDEN)
        names = ["h0", "c0"] if case == "lstm" else ["h0"]
        inputs = {"x": torch.randn(BATCH, INPUT).requires_grad_()}
        inputs |= {name: torch.randn(BATCH, HIDDEN).requires_grad_() for name in names}
        if case == "lstm":
            h, c = module(inputs["x"], (inputs["h0"], inputs["c0"]))
            outputs = {"h_n": h, "c_n": c}
        else:
            outputs = {"h_n": module(inputs["x"], inputs["h0"])}
        yield case, recurrent_arrays(module, inputs, outputs), {}


def step_in_parts(module: nn.RNNCellBase, x: Tensor, states: Arrays) -> Arrays:
    """Every gate and state that a cell computes in a step, of its own weights, given the states before, h first."""
    net_x = functional.linear(x, module.weight_ih, module.bias_ih)
    net_h = functional.linear(states["h"], module.weight_hh, module.bias_hh)
    if isinstance(module, nn.LSTMCell):
        net_i, net_f, net_g, net_o = (net_x + net_h).chunk(4, dim=1)
        i, f, g, o = torch.sigmoid(net_i), torch.sigmoid(net_f), torch.tanh(net_g), torch.sigmoid(net_o)
        c = f * states["c"] + i * g
        parts = {"i": i, "f": f, "g": g, "o": o, "c": c, "h": o * torch.tanh(c)}
    elif isinstance(module, nn.GRUCell):
        (x_r, x_z, x_n), (h_r, h_z, h_n) = net_x.chunk(3, dim=1), net_h.chunk(3, dim=1)
        r, z = torch.sigmoid(x_r + h_r), torch.sigmoid(x_z + h_z)
        n = torch.tanh(x_n + r * h_n)
        parts = {"r": r, "z": z, "n": n, "h": (1 - z) * n + z * states["h"]}
    else:
        parts = {"h": torch.tanh(net_x + net_h)}
    whole = module(x, tuple(states.values()) if len(states) > 1 else states["h"])
    for name, expected in zip(states, whole if len(states) > 1 else (whole,), strict=True):
        torch.testing.assert_close(parts[name], expected, rtol=1e-12, atol=1e-12)
    return parts


def traces() -> Iterator[Case]:
    """Each cell over a sequence: every gate and state of every step, and their gradients."""
    for case, cell in CELLS.items():
        seed("traces", case)
        module = cell(INPUT, HIDDEN)
        x, w_out = torch.randn(TIME, BATCH, INPUT), torch.randn(TIME, BATCH, HIDDEN)
        states = {name: torch.randn(BATCH, HIDDEN) for name in ("hc" if case == "lstm" else "h")}
        arrays = {"x": x, "w_out": w_out} | {f"{name}0": state for name, state in states.items()}
        steps: list[Arrays] = []
        for x_t in x:
            steps.append(step_in_parts(module, x_t, states))
            states = {name: steps[-1][name] for name in states}
        loss = (torch.stack([step["h"] for step in steps]) * w_out).sum()
        for name in steps[0]:
            of_all_steps = [step[name] for step in steps]
            arrays[name] = torch.stack(of_all_steps)
            arrays[f"grad_{name}"] = torch.stack(torch.autograd.grad(loss, of_all_steps, retain_graph=True))
        yield case, arrays | merge_biases(dict(module.named_parameters()), gru=case == "gru", gradient=False), {}


# --- Losses and ops: one call of one function each ------------------------------------------------


@dataclass(frozen=True)
class Call:
    """One call of `op`: its arrays by place and by name, its other arguments, and what to differentiate (in `grad`)."""

    op: str
    positional: dict[str, Draw]
    kwargs: Settings = field(default_factory=dict)
    keyword: dict[str, Draw] = field(default_factory=dict)
    grad: tuple[str, ...] = ("input",)

    def run(self, **more: Any) -> tuple[Arrays, Settings]:
        """The call's arrays and settings; `more` are further arguments that are not arrays."""
        arrays = {name: draw() for name, draw in (self.positional | self.keyword).items()}
        inputs = {name: arrays[name].requires_grad_() for name in self.grad}
        kwargs = self.kwargs | more
        function = getattr(functional, self.op, None) or getattr(torch, self.op)
        out = function(*[arrays[n] for n in self.positional], **{n: arrays[n] for n in self.keyword}, **kwargs)
        w_out = torch.randn_like(out)
        settings = {"op": self.op, "positional": list(self.positional), "keyword": list(self.keyword), "kwargs": kwargs}
        return arrays | {"out": out, "w_out": w_out} | gradients((out * w_out).sum(), inputs), settings


def normal(*shape: int, scale: float = 1.0) -> Draw:
    """Normal numbers."""
    return lambda: scale * torch.randn(shape)


def positive(*shape: int) -> Draw:
    """Numbers in [0.2, 2.2), for class weights."""
    return lambda: 0.2 + 2.0 * torch.rand(shape)


def unit(*shape: int) -> Draw:
    """Numbers in [0, 1)."""
    return lambda: torch.rand(shape)


def log_probabilities(*shape: int) -> Draw:
    """Logarithms of probabilities over dimension 1."""
    return lambda: torch.log_softmax(torch.randn(shape), dim=1)


def probabilities(*shape: int) -> Draw:
    """Probabilities over dimension 1."""
    return lambda: torch.softmax(torch.randn(shape), dim=1)


def classes(*shape: int, ignored: int | None = None) -> Draw:
    """Class ids below CLASSES; with `ignored`, every third of them is that id."""

    def draw() -> Tensor:
        ids = torch.randint(CLASSES, shape)
        if ignored is not None:
            ids.view(-1)[::3] = ignored
        return ids

    return draw


def values(*numbers: float) -> Draw:
    """The numbers given."""
    return lambda: torch.tensor(numbers, dtype=torch.float64)


def indices(rows: list[list[int]]) -> Draw:
    """The indices given."""
    return lambda: torch.tensor(rows)


N, CLASSES = 6, 5
LOGITS, LOG_PROBS = normal(N, CLASSES), log_probabilities(N, CLASSES)
IDS, IDS_IGNORED = classes(N), classes(N, ignored=-100)
CLASS_WEIGHT = {"weight": positive(CLASSES)}
LOGITS_3D, LOG_PROBS_3D = normal(N, CLASSES, TIME), log_probabilities(N, CLASSES, TIME)
IDS_3D, IDS_3D_IGNORED = classes(N, TIME), classes(N, TIME, ignored=-100)
BOTH = ("input", "target")
PAIR = {"input": normal(N, 4, scale=1.5), "target": normal(N, 4)}
SOFT = {"input": LOGITS, "target": probabilities(N, CLASSES)}
BINARY = {"input": normal(N, 4, scale=3.0), "target": unit(N, 4)}
POS_WEIGHT = {"pos_weight": positive(4)}

LOSS_CASES: dict[str, Call] = {
    "cross_entropy": Call("cross_entropy", {"input": LOGITS, "target": IDS}),
    "cross_entropy_ignore": Call("cross_entropy", {"input": LOGITS, "target": IDS_IGNORED}),
    "cross_entropy_ignore_class_2": Call(
        "cross_entropy", {"input": LOGITS, "target": classes(N, ignored=2)}, {"ignore_index": 2}
    ),
    "cross_entropy_smoothing": Call("cross_entropy", {"input": LOGITS, "target": IDS}, {"label_smoothing": 0.1}),
    "cross_entropy_weight": Call("cross_entropy", {"input": LOGITS, "target": IDS}, {}, CLASS_WEIGHT),
    "cross_entropy_weight_smoothing_ignore": Call(
        "cross_entropy",
        {"input": LOGITS, "target": IDS_IGNORED},
        {"ignore_index": -100, "label_smoothing": 0.1},
        CLASS_WEIGHT,
    ),
    "cross_entropy_probabilities": Call("cross_entropy", SOFT, grad=BOTH),
    "cross_entropy_probabilities_weight_smoothing": Call(
        "cross_entropy", SOFT, {"label_smoothing": 0.1}, CLASS_WEIGHT, grad=BOTH
    ),
    "cross_entropy_3d": Call("cross_entropy", {"input": LOGITS_3D, "target": IDS_3D}),
    "cross_entropy_3d_weight_smoothing_ignore": Call(
        "cross_entropy", {"input": LOGITS_3D, "target": IDS_3D_IGNORED}, {"label_smoothing": 0.1}, CLASS_WEIGHT
    ),
    "cross_entropy_3d_probabilities": Call(
        "cross_entropy", {"input": LOGITS_3D, "target": probabilities(N, CLASSES, TIME)}, grad=BOTH
    ),
    "nll": Call("nll_loss", {"input": LOG_PROBS, "target": IDS}),
    "nll_ignore": Call("nll_loss", {"input": LOG_PROBS, "target": IDS_IGNORED}),
    "nll_weight": Call("nll_loss", {"input": LOG_PROBS, "target": IDS}, {}, CLASS_WEIGHT),
    "nll_weight_ignore": Call("nll_loss", {"input": LOG_PROBS, "target": IDS_IGNORED}, {}, CLASS_WEIGHT),
    "nll_3d_weight_ignore": Call("nll_loss", {"input": LOG_PROBS_3D, "target": IDS_3D_IGNORED}, {}, CLASS_WEIGHT),
    "mse": Call("mse_loss", PAIR, grad=BOTH),
    "l1": Call("l1_loss", PAIR, grad=BOTH),
    "smooth_l1": Call("smooth_l1_loss", PAIR, {"beta": 1.0}, grad=BOTH),
    "smooth_l1_beta_half": Call("smooth_l1_loss", PAIR, {"beta": 0.5}, grad=BOTH),
    "bce_logits": Call("binary_cross_entropy_with_logits", BINARY, grad=BOTH),
    "bce_logits_weight": Call("binary_cross_entropy_with_logits", BINARY, {}, {"weight": positive(N, 4)}, grad=BOTH),
    "bce_logits_pos_weight": Call("binary_cross_entropy_with_logits", BINARY, {}, POS_WEIGHT, grad=BOTH),
    "bce_logits_weight_pos_weight": Call(
        "binary_cross_entropy_with_logits", BINARY, {}, {"weight": positive(N, 4)} | POS_WEIGHT, grad=BOTH
    ),
}

X = {"input": normal(3, 4, scale=2.0)}
CUBE = {"input": normal(2, 3, 4)}
AFFINE = ("input", "weight", "bias")
# The first and last numbers lie where softplus and elu go over to their asymptotes.
WIDE = {"input": values(-30.0, -5.0, -1.5, -0.25, 0.0, 0.25, 1.5, 5.0, 19.0, 21.0, 30.0)}
TOKENS = indices([[1, 0, 3, 1], [2, 1, 0, 5]])


def conv1d(channels: int, filters: int, **kwargs: int) -> Call:
    """A convolution of width 3 over 9 steps, with its bias."""
    weight = normal(filters, channels // kwargs.get("groups", 1), 3)
    return Call(
        "conv1d", {"input": normal(2, channels, 9), "weight": weight, "bias": normal(filters)}, kwargs, {}, AFFINE
    )


OP_CASES: dict[str, Call] = {
    "gelu": Call("gelu", WIDE),
    "gelu_tanh": Call("gelu", WIDE, {"approximate": "tanh"}),
    "softplus": Call("softplus", WIDE),
    "softplus_beta_threshold": Call("softplus", WIDE, {"beta": 2.5, "threshold": 4.0}),
    "silu": Call("silu", WIDE),
    "elu": Call("elu", WIDE),
    "elu_alpha": Call("elu", WIDE, {"alpha": 0.5}),
    "leaky_relu": Call("leaky_relu", WIDE),
    "leaky_relu_slope": Call("leaky_relu", WIDE, {"negative_slope": 0.2}),
    "clamp": Call("clamp", X, {"min": -1.0, "max": 1.5}),
    "clamp_min": Call("clamp", X, {"min": 0.5}),
    "clamp_at_bounds": Call("clamp", {"input": values(-2.0, -1.0, 0.0, 1.0, 2.0)}, {"min": -1.0, "max": 1.0}),
    "layer_norm": Call("layer_norm", CUBE, {"normalized_shape": [4]}),
    "layer_norm_affine": Call(
        "layer_norm", CUBE, {"normalized_shape": [4]}, {"weight": normal(4), "bias": normal(4)}, AFFINE
    ),
    "layer_norm_affine_2d": Call(
        "layer_norm",
        CUBE,
        {"normalized_shape": [3, 4], "eps": 1e-3},
        {"weight": normal(3, 4), "bias": normal(3, 4)},
        AFFINE,
    ),
    "conv1d": conv1d(3, 4),
    "conv1d_stride": conv1d(3, 4, stride=2),
    "conv1d_padding": conv1d(3, 4, padding=2),
    "conv1d_dilation": conv1d(3, 4, dilation=3),
    "conv1d_groups": conv1d(4, 6, groups=2),
    "conv1d_depthwise": conv1d(4, 4, groups=4, padding=1),
    "conv1d_all": conv1d(4, 6, stride=2, padding=3, dilation=2, groups=2),
    "conv1d_no_bias": Call("conv1d", {"input": normal(2, 3, 9), "weight": normal(4, 3, 2)}, grad=("input", "weight")),
    "var": Call("var", X),
    "var_dim": Call("var", X, {"dim": 1, "correction": 1}),
    "var_population": Call("var", X, {"dim": 0, "correction": 0, "keepdim": True}),
    "std": Call("std", X),
    "std_dim": Call("std", X, {"dim": 1, "correction": 1}),
    "std_population": Call("std", X, {"dim": 0, "correction": 0, "keepdim": True}),
    "norm_1": Call("norm", X, {"p": 1.0}),
    "norm_2": Call("norm", X, {"p": 2.0}),
    "norm_inf": Call("norm", X, {"p": float("inf")}),
    "norm_1_dim": Call("norm", X, {"p": 1.0, "dim": 1}),
    "norm_2_dim": Call("norm", X, {"p": 2.0, "dim": 0, "keepdim": True}),
    "norm_inf_dim": Call("norm", X, {"p": float("inf"), "dim": 1}),
    "norm_2_zero": Call("norm", {"input": values(0.0, 0.0, 0.0)}, {"p": 2.0}),
    "prod": Call("prod", X),
    "prod_dim": Call("prod", X, {"dim": 1}),
    "prod_one_zero": Call("prod", {"input": values(2.0, 0.0, -3.0, 0.5)}),
    "prod_two_zeros": Call("prod", {"input": values(2.0, 0.0, -3.0, 0.0)}),
    "prod_one_zero_dim": Call("prod", {"input": lambda: torch.tensor([[2.0, 0.0, -3.0], [4.0, 0.5, 1.5]])}, {"dim": 1}),
    "logsumexp": Call("logsumexp", X, {"dim": 1}),
    "logsumexp_dims": Call("logsumexp", CUBE, {"dim": [0, 2], "keepdim": True}),
    "logsumexp_large": Call("logsumexp", {"input": values(1e4, 1e4 - 1.0, -1e4)}, {"dim": 0}),
    "cumsum": Call("cumsum", CUBE, {"dim": 1}),
    "cumsum_last": Call("cumsum", CUBE, {"dim": -1}),
    "embedding": Call("embedding", {"input": TOKENS, "weight": normal(6, 3)}, grad=("weight",)),
    "embedding_padding_idx": Call(
        "embedding", {"input": TOKENS, "weight": normal(6, 3)}, {"padding_idx": 1}, grad=("weight",)
    ),
}


def losses() -> Iterator[Case]:
    """Every loss with every reduction."""
    for loss, call in LOSS_CASES.items():
        for reduction in ("mean", "sum", "none"):
            case = f"{loss}_{reduction}"
            seed("losses", case)
            yield case, *call.run(reduction=reduction)


def ops() -> Iterator[Case]:
    """The ops that have conventions of their own."""
    for case, call in OP_CASES.items():
        seed("ops", case)
        yield case, *call.run()


# --- Optimizers, schedules, clipping --------------------------------------------------------------

OPTIMIZER_CASES: dict[str, tuple[type[torch.optim.Optimizer], Settings]] = {
    "sgd": (torch.optim.SGD, {}),
    "sgd_momentum": (torch.optim.SGD, {"momentum": 0.9}),
    "sgd_nesterov": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    "sgd_weight_decay": (torch.optim.SGD, {"weight_decay": 0.1}),
    "sgd_dampening": (torch.optim.SGD, {"momentum": 0.9, "dampening": 0.5}),
    "sgd_nesterov_weight_decay": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    "rmsprop": (torch.optim.RMSprop, {}),
    "rmsprop_centered": (torch.optim.RMSprop, {"centered": True}),
    "rmsprop_momentum": (torch.optim.RMSprop, {"momentum": 0.9}),
    "rmsprop_all": (torch.optim.RMSprop, {"centered": True, "momentum": 0.9, "weight_decay": 0.1, "alpha": 0.9}),
    "adagrad": (torch.optim.Adagrad, {}),
    "adagrad_lr_decay": (torch.optim.Adagrad, {"lr_decay": 0.1}),
    "adagrad_weight_decay": (torch.optim.Adagrad, {"weight_decay": 0.1}),
    "adam": (torch.optim.Adam, {}),
    "adam_amsgrad": (torch.optim.Adam, {"amsgrad": True}),
    "adam_weight_decay": (torch.optim.Adam, {"weight_decay": 0.1}),
    "adamw": (torch.optim.AdamW, {}),
    "adamw_amsgrad_betas": (
        torch.optim.AdamW,
        {"lr": 0.1, "betas": [0.5, 0.9], "eps": 1e-6, "weight_decay": 0.1, "amsgrad": True},
    ),
}
# How torch runs a step, and which way: not what the step is.
NOT_HYPERPARAMETERS = {
    "params", "foreach", "fused", "maximize", "capturable", "differentiable", "decoupled_weight_decay",
}  # fmt: skip


def drawn_parameters() -> Arrays:
    """Two small parameters (or their gradients)."""
    return {"weight": torch.randn(3, 2), "bias": torch.randn(3)}


def optimizers() -> Iterator[Case]:
    """Steps down a quadratic bowl, with noise on its gradients."""
    for case, (optimizer_class, given) in OPTIMIZER_CASES.items():
        seed("optimizers", case)
        arrays = drawn_parameters()
        parameters = {name: nn.Parameter(initial.clone()) for name, initial in arrays.items()}
        optimum = drawn_parameters()
        curvature = {name: 0.5 + torch.rand_like(p) for name, p in parameters.items()}
        make: Callable[..., torch.optim.Optimizer] = optimizer_class
        optimizer = make(parameters.values(), **given)
        history: dict[str, list[Tensor]] = {f"{name}_{kind}": [] for name in parameters for kind in ("grads", "steps")}
        for _ in range(OPTIMIZER_STEPS):
            for name, p in parameters.items():
                p.grad = curvature[name] * (p.detach() - optimum[name]) + 0.3 * torch.randn_like(p)
                history[f"{name}_grads"].append(p.grad.clone())
            optimizer.step()
            for name, p in parameters.items():
                history[f"{name}_steps"].append(p.detach().clone())
        arrays |= {name: torch.stack(steps) for name, steps in history.items()}
        used = {name: v for name, v in optimizer.param_groups[0].items() if name not in NOT_HYPERPARAMETERS}
        yield case, arrays, {"class": optimizer_class.__name__, "given": given, "hyperparameters": used}


SCHEDULE_CASES: dict[str, tuple[str, Settings]] = {
    "step": ("StepLR", {"step_size": 7, "gamma": 0.5}),
    "exponential": ("ExponentialLR", {"gamma": 0.9}),
    "cosine": ("CosineAnnealingLR", {"T_max": 30, "eta_min": 0.001}),
    "warmup": ("LinearLR", {"start_factor": 0.1, "total_iters": 5}),
    "plateau": ("ReduceLROnPlateau", {"factor": 0.4, "patience": 2, "cooldown": 2, "min_lr": 0.01}),
    "plateau_max_abs": (
        "ReduceLROnPlateau",
        {"mode": "max", "factor": 0.5, "patience": 2, "threshold": 0.05, "threshold_mode": "abs"},
    ),
}
INITIAL_RATE = 0.1


def schedules() -> Iterator[Case]:
    """The learning rate at first and after each step."""
    for case, (name, kwargs) in SCHEDULE_CASES.items():
        seed("schedules", case)
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=INITIAL_RATE)
        scheduler = getattr(lr_scheduler, name)(optimizer, **kwargs)
        arrays: Arrays = {}
        if name == "ReduceLROnPlateau":
            falling = torch.exp(-torch.arange(float(SCHEDULE_STEPS)) / 2.0) + 0.1 * torch.rand(SCHEDULE_STEPS)
            arrays["metric"] = 1.0 - falling if kwargs.get("mode") == "max" else falling
        rates = [optimizer.param_groups[0]["lr"]]
        for step in range(SCHEDULE_STEPS):
            optimizer.step()
            if "metric" in arrays:
                scheduler.step(arrays["metric"][step].item())
            else:
                scheduler.step()
            rates.append(optimizer.param_groups[0]["lr"])
        yield case, arrays | {"lr": torch.tensor(rates)}, {"class": name, "kwargs": kwargs, "lr": INITIAL_RATE}


PAIRED_SCHEDULES: dict[str, tuple[str, Settings]] = {
    "step": ("StepLR", {"step_size": 4, "gamma": 0.5}),
    "exponential": ("ExponentialLR", {"gamma": 0.9}),
    "cosine": ("CosineAnnealingLR", {"T_max": 9, "eta_min": 0.001}),
    "warmup": ("LinearLR", {"start_factor": 0.1, "total_iters": 5}),
    "sequential": (
        "SequentialLR",
        {
            "milestones": [3, 15],
            "schedulers": [
                ("LinearLR", {"start_factor": 0.25, "total_iters": 3}),
                ("CosineAnnealingLR", {"T_max": 6}),
                ("ExponentialLR", {"gamma": 0.8}),
            ],
        },
    ),
    "plateau": ("ReduceLROnPlateau", {"factor": 0.5, "patience": 2}),
}
BY_HAND = (12, 0.05)


def made_schedule(optimizer: torch.optim.Optimizer, name: str, kwargs: Settings) -> Any:
    """A schedule of this class; those of a SequentialLR are described in its arguments."""
    if name == "SequentialLR":
        kwargs = {**kwargs, "schedulers": [made_schedule(optimizer, *own) for own in kwargs["schedulers"]]}
    return getattr(lr_scheduler, name)(optimizer, **kwargs)


def schedule_pairs() -> Iterator[Case]:
    """The learning rate of an optimizer with two schedules, at first and after each step."""
    for first, second in itertools.permutations(PAIRED_SCHEDULES, 2):
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=INITIAL_RATE)
        described = [PAIRED_SCHEDULES[first], PAIRED_SCHEDULES[second]]
        made = [made_schedule(optimizer, *own) for own in described]
        rates = [optimizer.param_groups[0]["lr"]]
        for step in range(1, SCHEDULE_STEPS + 1):
            optimizer.step()
            for scheduler in made:
                scheduler.step(*[1.0] if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau) else [])
            if step == BY_HAND[0]:
                optimizer.param_groups[0]["lr"] = BY_HAND[1]
            rates.append(optimizer.param_groups[0]["lr"])
        settings = {"schedules": described, "lr": INITIAL_RATE, "metric": 1.0, "by_hand": BY_HAND}
        yield f"{first}+{second}", {"lr": torch.tensor(rates)}, settings


CLIPPING_CASES: dict[str, tuple[str, Settings]] = {
    "norm_2": ("clip_grad_norm_", {"max_norm": 1.0}),
    "norm_inf": ("clip_grad_norm_", {"max_norm": 0.5, "norm_type": float("inf")}),
    "norm_2_untouched": ("clip_grad_norm_", {"max_norm": 100.0}),
    "value": ("clip_grad_value_", {"clip_value": 0.5}),
}


def clipping() -> Iterator[Case]:
    """Gradients before and after clipping, and the norm that clipping by norm returns."""
    for case, (function, kwargs) in CLIPPING_CASES.items():
        seed("clipping", case)
        before = drawn_parameters()
        parameters = {name: nn.Parameter(torch.zeros_like(grad)) for name, grad in before.items()}
        for name, p in parameters.items():
            p.grad = before[name].clone()
        total = getattr(nn.utils, function)(parameters.values(), **kwargs)
        arrays = {f"before_{name}": grad for name, grad in before.items()}
        arrays |= {f"after_{name}": p.grad for name, p in parameters.items() if p.grad is not None}
        yield case, arrays | ({} if total is None else {"total_norm": total}), {"function": function, "kwargs": kwargs}


# --- Writing --------------------------------------------------------------------------------------


def write(name: str, cases: Iterator[Case]) -> None:
    """Write one family's cases as `<name>.safetensors`, their settings as JSON in its metadata."""
    arrays: Arrays = {}
    options: dict[str, Settings] = {}
    for case, case_arrays, settings in cases:
        arrays |= {f"{case}/{key}": array for key, array in case_arrays.items()}
        options[case] = settings
    path = FOLDER / f"{name}.safetensors"
    # One metadata entry only: the file format does not fix the order of several.
    contents = {key: array.detach().contiguous().numpy() for key, array in arrays.items()}
    path.write_bytes(save(contents, metadata={"options": json.dumps(options)}))
    print(f"{path.name}: {len(options)} cases, {len(arrays)} arrays, {path.stat().st_size} bytes")


def main() -> None:
    """Write every file."""
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)  # sums in one order
    for name in ("lstm", "gru", "rnn"):
        write(name, recurrent_layers(name))
    families = (variants, cells, traces, losses, ops, optimizers, schedules, schedule_pairs, clipping)
    for family in families:
        write(family.__name__, family())


if __name__ == "__main__":
    main()
