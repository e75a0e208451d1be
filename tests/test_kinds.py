"""The table of kinds: a kind that is added to it is known everywhere, and nothing else says what a kind is."""

import ast
import re
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
from browser import DRIVER, WITHOUT, browser, console_errors
from keras_files import layers_of
from selenium.webdriver.common.by import By

import tinygrad_lstm as tg
from tinygrad_lstm import ops
from tinygrad_lstm.cli.show import show
from tinygrad_lstm.inspect import Trace
from tinygrad_lstm.kinds import KINDS, Gate, Kind, State
from tinygrad_lstm.models.base import Network
from tinygrad_lstm.models.cells import GRUGates, LSTMGates, RNNGates

ROOT = Path(__file__).parents[1]
WEB = ROOT / "tinygrad_lstm" / "inspect" / "web"
SOURCES = [path for floor in ("models", "tinygrad_lstm") for path in sorted((ROOT / floor).rglob("*.py"))]

# -- a kind that is added ----------------------------------------------------------------------------------------------

MINIMAL = Kind(
    name="MGU",
    gates=(
        Gate("f", "forget gate", "σ", symbol="f", subscript="f"),
        Gate("n", "candidate", "tanh", symbol="ñ", subscript="n", alias="h"),
    ),
    states=(State("h", "hidden state"),),
    weights=KINDS["RNN"].weights,
    options={},
    keeps=None,
    follows="",
    gradients_follow="",
    one_product=False,
    orders={"keras": "hf", "onnx": "hf", "tensorflow": "fn"},
    keras_classes=("MGU", "MGUCell"),
    cudnn_class="",
    onnx_activations=("sigmoid", "tanh"),
    tensorflow_cells=r"mgu_cell",
)
"""The minimal gated unit (Zhou et al. 2016)."""


class MGUGates(NamedTuple):
    f: Any
    n: Any
    h: Any


class MGUStep:
    """f = σ(W_f·x + U_f·h + b_f), n = tanh(W_n·x + U_n·(f ⊙ h) + b_n), h' = (1 - f) ⊙ h + f ⊙ n."""

    def __init__(self, parameters: Any) -> None:
        self.parameters = parameters
        self.weight_f, self.weight_n = ops.chunk(parameters["weight_hh"], 2, dim=0)

    def inputs(self, x: Any) -> Any:
        return ops.linear(x, self.parameters["weight_ih"], self.parameters["bias"])

    def step(self, net_x: Any, h: Any) -> MGUGates:
        x_f, x_n = ops.chunk(net_x, 2, dim=-1)
        f = ops.sigmoid(x_f + ops.linear(h, self.weight_f, None))
        n = ops.tanh(x_n + ops.linear(f * h, self.weight_n, None))
        return MGUGates(f, n, h + f * (n - h))


class MGU(Network):
    """A network of this kind."""

    KIND, STATES = "MGU", MINIMAL.state_names

    def forward(self, x: Any, state: Any = None, lengths: Any = None) -> tuple[tg.Tensor, tg.Tensor]:
        out, (h,) = self._run(x, state, lengths)
        return out, h

    def _variant(self, parameters: Any) -> MGUStep:
        return MGUStep(parameters)


@pytest.fixture(autouse=True)
def added(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.function.__name__.startswith("test_an_added_kind"):
        monkeypatch.setitem(KINDS, "MGU", MINIMAL)


def drawn(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def stacked(order: str, kernel: np.ndarray) -> np.ndarray:
    """The two gates' rows f, n in a different order."""
    f, n = np.split(kernel, 2)
    return np.concatenate([n, f] if order == "nf" else [f, n])


W, U, B = drawn(10, 3), drawn(10, 5), drawn(10)


def assert_holds(network: Network) -> None:
    assert isinstance(network, MGU)
    for name, expected in (("weight_ih", W), ("weight_hh", U), ("bias", B)):
        np.testing.assert_array_equal(getattr(network, f"{name}_l0").data, expected)


def test_an_added_kind_has_a_network() -> None:
    """It is trained, stepped and exported from only its table and its equations."""
    network = MGU(3, 5, num_layers=2, bidirectional=True)
    assert {name: p.shape for name, p in network.named_parameters() if "l1" in name and "reverse" not in name} == {
        "weight_ih_l1": (10, 10), "weight_hh_l1": (10, 5), "bias_l1": (10,),
    }  # fmt: skip
    out, h = network(tg.tensor(drawn(7, 2, 3)), lengths=[7, 4])
    out.sum().backward()
    assert out.shape == (7, 2, 10) and h.shape == (4, 2, 5) and all(p.grad is not None for p in network.parameters())
    forward = MGU(3, 5)
    expected, _ = forward(tg.tensor(drawn(7, 2, 3)))
    np.testing.assert_allclose(forward.stream(batch=2)(drawn(7, 2, 3)), expected.detach().numpy(), atol=1e-6)
    with pytest.raises(ValueError, match=r"MGU: expected a state of shape \(1, 2, 5\)"):
        forward(tg.tensor(drawn(7, 2, 3)), tg.zeros(1, 2, 4))


def test_an_added_kind_comes_from_torch_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arrays = {"rnn.weight_ih_l0": W, "rnn.weight_hh_l0": U, "rnn.bias_ih_l0": B, "rnn.bias_hh_l0": 0 * B}
    assert_holds(MGU.from_torch(arrays, "rnn"))
    theirs = {name: stacked("nf", array) for name, array in arrays.items()}
    assert_holds(MGU.from_torch(theirs, "rnn", gates="hf"))
    with pytest.raises(ValueError, match="expected the letters of 'fn'"):
        MGU.from_torch(theirs, "rnn", gates="ifgo")
    back = MGU.from_torch(arrays, "rnn").to_torch()
    assert {f"rnn.{name}" for name in back} == set(arrays)
    tg.io.save_weights(tmp_path / "a.safetensors", arrays)
    show(str(tmp_path / "a.safetensors"))
    assert "rnn: MGU(3, 5), by MGU.from_torch(weights, prefix='rnn')" in capsys.readouterr().out


def test_an_added_kind_comes_from_keras(tmp_path: Path) -> None:
    kernels = [stacked("nf", array) for array in (W, U, B)]
    assert_holds(MGU.from_keras([kernels[0].T, kernels[1].T, kernels[2]]))
    layer = {"class_name": "MGU", "config": {"name": "unit", "units": 5, "recurrent_activation": "sigmoid", "odd": 1}}
    config = {"class_name": "Sequential", "config": {"name": "model", "layers": [layer]}}
    arrays = {f"layers/mgu/cell/vars/{k}": array for k, array in enumerate([kernels[0].T, kernels[1].T, kernels[2]])}
    (found,) = layers_of(tmp_path, config, arrays).values()
    assert (found.kind, list(found.unsupported)) == ("MGU", ["the setting 'odd'"])


def test_an_added_kind_comes_from_onnx(tmp_path: Path) -> None:
    both = np.concatenate([stacked("nf", B), 0 * B])
    arrays = {"W": stacked("nf", W)[None], "R": stacked("nf", U)[None], "B": both[None]}
    assert_holds(MGU.from_onnx(arrays))
    node = onnx.helper.make_node("MGU", ["X", *arrays, "", "H"], ["Y"], "unit", activations=["Sigmoid", "Tanh"])
    given = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in ("X", "H")]
    made = onnx.helper.make_tensor_value_info("Y", onnx.TensorProto.FLOAT, None)
    stored = [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = onnx.helper.make_graph([node], "graph", given, [made], stored)
    onnx.save(onnx.helper.make_model(graph), tmp_path / "a.onnx")
    assert_holds(MGU.from_onnx(tmp_path / "a.onnx"))


def traced() -> Trace:
    return tg.inspect.trace(MGU(3, 5), tg.tensor(drawn(7, 2, 3)), loss=lambda out: out.sum())


def test_an_added_kind_is_traced() -> None:
    network = MGU(3, 5)
    (layer,) = shown = tg.inspect.trace(network, drawn(7, 2, 3), loss=lambda out: out.sum())
    assert shown.nbytes == tg.inspect.trace_memory(network, drawn(7, 2, 3), gradients=True)
    assert (layer.kind, tuple(layer.values), layer.gates, layer.memory) == ("MGU", MINIMAL.values, ("f",), "h")
    assert (layer.named("f"), layer.keeps) == ("forget gate f", None)
    assert tg.inspect.plots.plot_gates(layer, 0).get_yticklabels(minor=True)[0].get_text() == "forget gate f"


@pytest.mark.skipif(DRIVER is None, reason=WITHOUT)
def test_an_added_kind_has_a_page(tmp_path: Path) -> None:
    path = tg.inspect.page(traced(), tmp_path / "page.html")
    with browser(tmp_path) as driver:
        driver.get(path.as_uri())
        offered = {option.text for option in driver.find_elements(By.CSS_SELECTOR, "#quantity option")}
        assert {"f, forget gate", "n, candidate ñ", "h, hidden state"} <= offered
        assert console_errors(driver) == []


# -- the table and the equations ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "gates"), [("LSTM", LSTMGates), ("GRU", GRUGates), ("RNN", RNNGates)])
def test_the_table_has_what_the_equations_compute(name: str, gates: Any) -> None:
    assert KINDS[name].values == gates._fields


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_rows_and_orders_are_of_all_gates(kind: Kind) -> None:
    assert [row for gate in kind.letters for row in range(20)[kind.rows(gate, 5)]] == list(range(5 * len(kind.gates)))
    for theirs in kind.orders.values():
        assert sorted(kind.order(theirs.upper())) == sorted(kind.letters)
    assert set(kind.follows) <= set(kind.values) and set(kind.gradients_follow) <= set(kind.values)


def test_the_page_derives_what_is_left_out_of_it() -> None:
    """By `DERIVED`, whose equations are JavaScript."""
    script = (WEB / "data.js").read_text(encoding="utf-8")
    for name, kind in KINDS.items():
        block = re.search(rf"^  {name}\(run\) \{{\n(.*?)^  \}},$", script, re.MULTILINE | re.DOTALL)
        derived = re.findall(r"\b(\w): new Derived", block[1]) if block else []
        assert sorted(derived) == sorted(kind.follows + kind.gradients_follow)


# -- nothing else says it ----------------------------------------------------------------------------------------------

ORDERS = {"".join(order) for letters in ("ifgo", "ifco", "rzn", "rzh") for order in permutations(letters)}

ALLOWED = {
    "gradient_flow.py": 1,  # a label for the networks that it compares
    "independent.py": 1,  # the states of the SRU
    "config.py": 3,  # Keras's RNN, which runs any cell, and is no kind
}


def said_again(tree: ast.AST) -> Iterator[str]:
    """Gates in an order, a choice by a kind's name, and tables by these names."""

    def text(node: ast.AST | None) -> str:
        return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""

    def says(node: ast.AST) -> bool:
        match node:
            case ast.Constant():
                return text(node) in ORDERS
            case ast.Tuple(elts=parts) | ast.List(elts=parts) | ast.Set(elts=parts):
                return "".join(map(text, parts)) in {*ORDERS, "hc", "ch"}
            case ast.Compare(left=left, comparators=others):
                listed = [part for other in others for part in getattr(other, "elts", [other])]
                return not KINDS.keys().isdisjoint(map(text, (left, *listed)))
        return False

    for node in ast.walk(tree):
        if says(node):
            yield ast.unparse(node)
        elif isinstance(node, ast.Dict):
            yield from (text(key) for key in node.keys if text(key) in KINDS)


def test_sources_read_it_from_the_table() -> None:
    for path in SOURCES:
        found = list(said_again(ast.parse(path.read_text(encoding="utf-8"))))
        if path.name == "kinds.py":
            assert len(found) >= 5  # so it would be found elsewhere
        else:
            assert len(found) == ALLOWED.get(path.name, 0), (path, found)


def test_scripts_read_it_from_the_table() -> None:
    """A kind's equations and its drawing are its own; no script has more of it."""
    tables = {"equations.js": 3, "cell.js": 3, "data.js": 2}  # lines that begin what is by kind
    words = {gate.meaning for kind in KINDS.values() for gate in kind.gates if "gate" in gate.meaning}
    for path in sorted(WEB.glob("*.js")):
        script = path.read_text(encoding="utf-8")
        strings = re.findall(r'"([^"\n]*)"', script)
        arrays = [re.sub(r"\W", "", array) for array in re.findall(r'\[("\w"(?:, "\w")+)\]', script)]
        assert words.union(ORDERS, KINDS).isdisjoint([*strings, *arrays]), path
        by_kind = re.findall(rf"^ +(?:{'|'.join(KINDS)})[:(]", script, re.MULTILINE)
        assert len(by_kind) == tables.get(path.name, 0), path
