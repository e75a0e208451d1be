"""Golden cases of recurrent layers, their variants, cells and traces, as PyTorch computes them."""

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch_cases import BATCH, HIDDEN, INPUT, TIME, Arrays, Case, Settings, gradients, seed

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
