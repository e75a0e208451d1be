"""The layers of `cells.py --layers`: any cell's layer and layers with options, beside the plain layer."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from cells_reach import Measured, print_line
from harness import Case, Worker, check_agreement, ratio, take_turns
from lstm import SHAPES
from lstm_data import Sizes

import tinygrad_lstm as tg
from tinygrad_lstm.models import GRU, LSTM, RNN, GRUCell, LSTMCell, Recurrent, RNNCell
from tinygrad_lstm.models.atlas import CIFGLSTMCell

COMPILED, NUMPY = {"TINYGRAD_LSTM_COMPILED": "1"}, {"TINYGRAD_LSTM_COMPILED": "0"}
SIDES = {
    "compiled": ("layer", COMPILED),
    "reference compiled": ("reference", COMPILED),
    "NumPy": ("layer", NUMPY),
    "reference NumPy": ("reference", NUMPY),
}
"""What each side computes, and the variables of its process."""


LAYERS: dict[str, Callable[[int, int], Any]] = {
    "LSTM": LSTM,
    "GRU": GRU,
    "RNN": RNN,
    "Recurrent(LSTMCell)": lambda I, H: Recurrent(LSTMCell(I, H)),
    "Recurrent(GRUCell)": lambda I, H: Recurrent(GRUCell(I, H)),
    "Recurrent(RNNCell)": lambda I, H: Recurrent(RNNCell(I, H)),
    "LSTM with peepholes": lambda I, H: LSTM(I, H, peephole=True),
    "LSTM with projection": lambda I, H: LSTM(I, H, proj_size=H // 2),
    "CIFG LSTM": lambda I, H: Recurrent(CIFGLSTMCell(I, H)),
    "LSTM with hard sigmoid": lambda I, H: LSTM(I, H, activations=("hard_sigmoid", "tanh", "tanh")),
    "GRU with reset before": lambda I, H: GRU(I, H, reset_after=False),
    "RNN with relu": lambda I, H: RNN(I, H, nonlinearity="relu"),
    "LSTM with layer norm": lambda I, H: LSTM(I, H, layer_norm="output"),
}


class Pair(NamedTuple):
    """A layer, and the layer that its time is divided by.

    Args:
        layer, reference: names in `LAYERS`.
        compiled, numpy: the ratios that should be reached.
        equal: whether both compute the same; the layer is then a `Recurrent`.
    """

    layer: str
    reference: str
    compiled: float
    numpy: float
    equal: bool = False


PAIRS = [
    *(Pair(f"Recurrent({kind}Cell)", kind, 1.05, 1.05, equal=True) for kind in ("LSTM", "GRU", "RNN")),
    Pair("LSTM with peepholes", "LSTM", 1.3, 1.5),
    Pair("LSTM with projection", "LSTM", 1.3, 1.5),
    Pair("CIFG LSTM", "LSTM", 1.3, 1.5),
    Pair("LSTM with hard sigmoid", "LSTM", 1.3, 1.5),
    Pair("GRU with reset before", "GRU", 1.3, 1.5),
    Pair("RNN with relu", "RNN", 1.3, 1.5),
    Pair("LSTM with layer norm", "LSTM", 1.6, 1.6),
]


def prepare(side: str, pair: Pair, sizes: Sizes) -> Case:
    """Forward and backward of one of a pair. Layers that compute the same have the same parameters."""
    T, B, I, H = sizes
    made = LAYERS[getattr(pair, SIDES[side][0])](I, H)
    if pair.equal:
        generated = LAYERS[pair.layer](I, H)
        rng = np.random.default_rng(0)
        for parameter in generated.parameters():
            parameter.data[...] = rng.uniform(-(H**-0.5), H**-0.5, parameter.shape)
        if isinstance(made, LSTM | GRU | RNN):
            weights = generated.cells[0].layer_parameters()
            made.load_state_dict({f"{name}_l0": weight.detach().numpy() for name, weight in weights.items()})
        else:
            made = generated
    rng = np.random.default_rng(1)
    x = tg.tensor(rng.standard_normal((T, B, I), np.float32), requires_grad=True)
    with tg.no_grad():
        out, _ = made(x)
    g_out = tg.tensor(rng.standard_normal(out.shape, np.float32))
    inputs = [x, *made.parameters()]

    def call() -> Sequence[Any]:
        out, _ = made(x)
        return [out, *tg.grad(out, inputs, g_out)]

    def arrays(results: Sequence[Any]) -> dict[str, Any]:
        """The outputs and the gradient of x; parameters of equal layers are laid out in different ways."""
        return {name: np.array(r.detach().numpy()) for name, r in zip(("out", "gradient of x"), results)}

    return Case(call, arrays)


def measure_layers(threads: Sequence[int], turns: int, quick: bool) -> None:
    """Prints a table for each number of threads, and the reach."""
    measured: list[tuple[Pair, Measured]] = []
    pairs, shapes = (PAIRS[:1], [SHAPES[3]]) if quick else (PAIRS, SHAPES)
    for number in threads[:1] if quick else threads:
        print(f"\n### Layers, forward and backward, {number} thread{'s' * (number > 1)}, ms\n")
        print("In parentheses: the layer's time divided by that of the reference.\n")
        print("| layer | reference | (T, B, I, H) | " + " | ".join(SIDES) + " |\n|" + " --- |" * (len(SIDES) + 3))
        workers = {side: Worker(prepare, side, number, environment) for side, (_, environment) in SIDES.items()}
        for pair in pairs:
            for sizes in shapes:
                results = {side: worker.prepare(pair, sizes) for side, worker in workers.items()}
                if pair.equal:
                    check_agreement(results)
                seconds = take_turns(workers, turns)
                found = Measured(f"{pair.layer} / {pair.reference}", sizes, number, seconds)
                measured.append((pair, found))
                print(_row(pair, found), flush=True)
        for worker in workers.values():
            worker.close()
    print("\n### Reach\n")
    for pair_kind, layers in ((True, "Recurrent of a cell"), (False, "with an option")):
        for side in ("compiled", "NumPy"):
            of_these = [(pair, each) for pair, each in measured if pair.equal == pair_kind]
            for limit in sorted({_limit(pair, side) for pair, _ in of_these}):
                ratios = [(str(each), _ratio(each, side)) for pair, each in of_these if _limit(pair, side) == limit]
                print_line(f"{layers}, by the plain layer, {side}, at most {limit}", ratios, limit)


def _limit(pair: Pair, side: str) -> float:
    return pair.compiled if side == "compiled" else pair.numpy


def _ratio(measured: Measured, side: str) -> float:
    assert measured.seconds is not None
    return ratio(measured.seconds[side], measured.seconds[f"reference {side}"])


def _row(pair: Pair, measured: Measured) -> str:
    assert measured.seconds is not None
    cells = [pair.layer, pair.reference, str(measured.sizes)]
    for side in ("compiled", "NumPy"):
        ours, theirs = (statistics.median(measured.seconds[name]) * 1e3 for name in (side, f"reference {side}"))
        cells += [f"{ours:.2f}", f"{theirs:.2f} ({_ratio(measured, side):.2f})"]
    return f"| {' | '.join(cells)} |"
