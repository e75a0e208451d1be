"""A module's table: parameters, outputs, multiply-adds, memory kept; and that a run leaves no trace."""

from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_lstm as tg
from tinygrad_lstm import nn
from tinygrad_lstm.inspect import Summary, summary
from tinygrad_lstm.models import GRU, LSTM, RNN, CharLM, GRUCell, LSTMCell, RNNCell

SIZES = st.integers(1, 6)


def multiply_adds(module: nn.Module, *args: Any) -> int:
    found = summary(module, args).total.multiply_adds
    assert found is not None
    return found


# -- parameters --------------------------------------------------------------------------------------------------------


def test_without_an_input_only_parameters() -> None:
    model = CharLM(7, 4, 6, num_layers=2, dropout=0.5)
    table = summary(model)
    assert [(row.name, row.kind, row.depth, row.parameters, row.parameter_bytes) for row in table.rows] == [
        ("", "CharLM", 0, 653, 4 * 653),
        ("embedding", "Embedding(7, 4)", 1, 28, 4 * 28),
        ("lstm", "LSTM(4, 6, num_layers=2, dropout=0.5)", 1, 576, 4 * 576),
        ("dropout", "Dropout(p=0.5)", 1, 0, 0),
        ("output", "Linear(6, 7)", 1, 49, 4 * 49),
    ]
    assert table.total == table.rows[0]
    assert all(row.calls is row.outputs is row.multiply_adds is row.kept_bytes is None for row in table.rows)
    assert "multiply-adds" not in repr(table)


def test_modules_within_modules_follow_their_parents() -> None:
    model = nn.Sequential(nn.Sequential(nn.Linear(2, 2)), nn.Linear(2, 3)).to(dtype="float64")
    assert [(row.name, row.depth) for row in summary(model).rows] == [("", 0), ("0", 1), ("0.0", 2), ("1", 1)]
    assert summary(model).total.parameter_bytes == 8 * (6 + 9)


def test_shared_and_frozen_parameters() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    assert summary(model).total.parameters == 9 + 3 + 3
    model[0].bias.requires_grad = False
    table = summary(model)
    assert [row.trainable for row in table.rows] == [12, 9, 12]
    assert "15 parameters in 60 B, 12 of them trainable" in repr(table)


# -- multiply-adds -----------------------------------------------------------------------------------------------------


@given(N=SIZES, I=SIZES, O=SIZES, T=SIZES)
def test_linear(N: int, I: int, O: int, T: int) -> None:
    assert multiply_adds(nn.Linear(I, O), tg.ones(N, I)) == N * I * O
    assert multiply_adds(nn.Linear(I, O, bias=False), tg.ones(T, N, I)) == T * N * I * O


@given(N=SIZES, groups=st.integers(1, 3), depth=SIZES, filters=SIZES, size=st.integers(1, 3), stride=st.integers(1, 2))
def test_convolution(N: int, groups: int, depth: int, filters: int, size: int, stride: int) -> None:
    layer = nn.Conv1d(groups * depth, groups * filters, size, stride, padding=1, groups=groups)
    x = tg.ones(N, groups * depth, 9)
    assert multiply_adds(layer, x) == layer(x).size * depth * size
    plane = nn.Conv2d(groups * depth, groups * filters, (size, 2), stride, groups=groups)
    assert multiply_adds(plane, x := tg.ones(N, groups * depth, 5, 4)) == plane(x).size * depth * size * 2
    transposed = nn.ConvTranspose1d(groups * depth, groups * filters, size, stride, groups=groups)
    assert multiply_adds(transposed, x := tg.ones(N, groups * depth, 9)) == x.size * filters * size


@pytest.mark.parametrize(("kind", "gates"), [(LSTM, 4), (GRU, 3), (RNN, 1)])
@given(T=SIZES, B=SIZES, I=SIZES, H=SIZES, layers=st.integers(1, 3), both=st.booleans())
def test_recurrent_layers(kind: Any, gates: int, T: int, B: int, I: int, H: int, layers: int, both: bool) -> None:
    D = 2 if both else 1
    model = kind(I, H, num_layers=layers, bidirectional=both)
    per_step = D * gates * H * (I + H) + (layers - 1) * D * gates * H * (D * H + H)
    with tg.compiled_kernels(False):
        assert multiply_adds(model, tg.ones(T, B, I)) == T * B * per_step


def test_a_sequence_is_as_much_as_its_steps() -> None:
    """With lengths too, and with products of any kind."""

    class Blocks(nn.Module):
        def __init__(self, function: Any) -> None:
            self.weight = nn.Parameter(tg.ones(2, 3, 3))
            self.function = function

        def forward(self, x: tg.Tensor) -> tg.Tensor:
            def step(x: tg.Tensor, h: tg.Tensor) -> tg.Tensor:
                return tg.tanh(tg.einsum("bgi,gij->bgj", x + h, self.weight))

            return self.function(step, x)

    def looped(step: Any, x: tg.Tensor) -> tg.Tensor:
        h = tg.zeros_like(x[0])
        for x_t in x:
            h = step(x_t, h)
        return h

    x = tg.ones(6, 4, 2, 3)
    scan = Blocks(lambda step, x: tg.scan(step, x, tg.zeros_like(x[0]), lengths=[6, 1, 0, 3])[1])
    assert multiply_adds(scan, x) == multiply_adds(Blocks(looped), x) == 6 * 4 * 2 * 3 * 3
    assert summary(scan, x).uncounted == 0
    (row,) = summary(LSTM(3, 5), tg.ones(6, 4, 3)).rows
    assert row.kept_bytes is not None and row.kept_bytes >= 2 * 7 * 4 * 5 * 4, "the op keeps the states h and c"


@pytest.mark.parametrize(("kind", "gates"), [(LSTMCell, 4), (GRUCell, 3), (RNNCell, 1)])
def test_a_cell_is_as_much_as_a_step_of_its_layer(kind: Any, gates: int) -> None:
    assert multiply_adds(kind(3, 5), tg.ones(2, 3)) == 2 * gates * 5 * (3 + 5)


class Attention(nn.Module):
    """Products written in several ways."""

    def __init__(self) -> None:
        self.query = nn.Linear(4, 4)

    def forward(self, x: tg.Tensor) -> tg.Tensor:  # (B, T, 4)
        scores = self.query(x) @ x.mT  # (B, T, T)
        return tg.einsum("bij,bjk->bik", tg.softmax(scores), x)


def test_products_are_counted_where_they_run() -> None:
    table = summary(Attention(), tg.ones(2, 3, 4))
    query, product = 2 * 3 * 4 * 4, 2 * 3 * 3 * 4
    assert [row.multiply_adds for row in table.rows] == [query + 2 * product, query]
    assert table.uncounted == 0


def test_an_einsum_that_is_not_counted_is_reported() -> None:
    model, x = Attention(), tg.ones(2, 3, 4)
    with tg.no_grad():
        table = summary(model, x)
    assert table.uncounted == 1
    assert table.total.multiply_adds == 2 * 3 * 4 * 4 + 2 * 3 * 3 * 4
    assert "168 multiply-adds (without 1 einsum" in repr(table)


def test_what_multiplies_no_matrices_counts_nothing() -> None:
    model = nn.Sequential(nn.Embedding(7, 4), nn.LayerNorm(4), tg.gelu, nn.Dropout(0.5), lambda x: x.sum(-1))
    assert multiply_adds(model, tg.tensor([[1, 2, 3]])) == 0


def test_user_defined_ops_may_have_any_name() -> None:
    @tg.op(x=lambda g: g, name="lstm")
    def mine(xp: Any, x: tg.Array) -> Any:
        return x + 1

    assert multiply_adds(nn.Sequential(mine, nn.Linear(2, 2)), tg.ones(1, 2)) == 4


def test_frozen_modules_and_no_grad_count_as_much() -> None:
    model, x = CharLM(7, 4, 6), tg.tensor([[1, 2], [3, 4], [5, 6]])
    expected = 6 * 24 * (4 + 6) + 6 * 6 * 7
    assert multiply_adds(model, x) == expected
    with tg.no_grad():
        assert multiply_adds(model, x) == expected
    assert multiply_adds(model.requires_grad_(False), x) == expected


def test_every_device_tells_the_same(device: str) -> None:
    model, ids = CharLM(7, 4, 6, num_layers=2, dropout=0.3), tg.tensor([[1, 2], [3, 4], [5, 6]])
    expected = [(row.calls, row.outputs, row.multiply_adds) for row in summary(model, ids).rows]
    there = summary(model.to(device), ids.to(device))
    assert [(row.calls, row.outputs, row.multiply_adds) for row in there.rows] == expected


# -- calls and outputs -------------------------------------------------------------------------------------------------


class Unrolled(nn.Module):
    """A cell called at every step, a layer that is not called, and several outputs."""

    def __init__(self) -> None:
        self.cell = LSTMCell(3, 5)
        self.unused = nn.Linear(1, 1)

    def forward(self, x: tg.Tensor, scale: float = 1.0) -> dict[str, Any]:
        state = None
        for x_t in x:
            state = self.cell(x_t * scale, state)
        return {"state": state, "none": None, "list": [x.sum()]}


def test_calls_and_outputs() -> None:
    table = summary(Unrolled(), tg.ones(7, 2, 3))
    whole, cell, unused = table.rows
    assert (whole.calls, cell.calls, unused.calls) == (1, 7, 0)
    assert whole.outputs == ((2, 5), (2, 5), ()) and cell.outputs == ((2, 5), (2, 5)) and unused.outputs == ()
    assert whole.multiply_adds == cell.multiply_adds == 7 * 2 * 20 * 8
    lines = repr(table).splitlines()
    assert "(2, 5), (2, 5) × 7" in lines[2] and lines[3].endswith("not called")


def test_several_arguments_are_a_tuple() -> None:
    assert summary(Unrolled(), (tg.ones(7, 2, 3), 2.0)).total.calls == 1


def test_an_array_is_an_input_too() -> None:
    assert summary(LSTM(3, 5), np.ones((7, 2, 3), np.float32)).total.outputs == ((7, 2, 5), (1, 2, 5), (1, 2, 5))


def test_what_other_methods_do_is_their_callers() -> None:
    class Gates(nn.Module):
        def __init__(self) -> None:
            self.cell = LSTMCell(3, 5)

        def forward(self, x: tg.Tensor) -> tg.Tensor:
            return self.cell.gates(x).f

    whole, cell = summary(Gates(), tg.ones(2, 3)).rows
    assert (whole.multiply_adds, cell.multiply_adds, cell.calls) == (2 * 20 * 8, 0, 0)


# -- memory ------------------------------------------------------------------------------------------------------------


def kept(module: nn.Module, x: Any) -> int:
    found = summary(module, x).total.kept_bytes
    assert found is not None
    return found


def test_memory_is_what_derivatives_need() -> None:
    x = tg.ones(10, 4)
    assert kept(nn.Linear(4, 3), x) == 0, "the weight's gradient needs x alone"
    assert kept(nn.Sequential(nn.Linear(4, 3), tg.tanh, tg.exp), x) == 2 * 10 * 3 * 4, "tanh and exp keep their outputs"
    assert kept(nn.Sequential(nn.Linear(4, 3), tg.tanh, nn.Linear(3, 3), tg.tanh), x) == 2 * 10 * 3 * 4
    assert kept(nn.Sequential(nn.Linear(4, 3), lambda y: y + 1), x) == 0
    assert kept(nn.Sequential(nn.Linear(4, 3).to(dtype="float64"), tg.exp), x.double()) == 10 * 3 * 8


def test_memory_is_counted_once_and_whole() -> None:
    class Parts(nn.Module):
        def __init__(self) -> None:
            self.layer = nn.Linear(4, 6)

        def forward(self, x: tg.Tensor) -> tg.Tensor:
            y = self.layer(x)
            first, second = tg.split(y, 3, dim=1)
            return (first * second).reshape(-1) * tg.exp(y).sum()

    x = tg.ones(10, 4)
    layer, exp, product, sums = 10 * 6, 10 * 6, 10 * 3, 1  # both parts are views of the layer's output
    assert kept(Parts(), x) == 4 * (layer + exp + product + sums)


def test_memory_of_a_chain_of_steps_grows_with_them() -> None:
    by_steps = [kept(Unrolled(), tg.ones(T, 2, 3)) for T in (2, 4, 6)]
    assert by_steps[1] - by_steps[0] == by_steps[2] - by_steps[1] > 0


def test_what_no_output_needs_is_not_kept() -> None:
    class Wasteful(nn.Module):
        def __init__(self) -> None:
            self.layer = nn.Linear(4, 3)

        def forward(self, x: tg.Tensor) -> tg.Tensor:
            y = self.layer(x)
            y.exp().tanh()
            return y

    assert kept(Wasteful(), tg.ones(10, 4)) == 0


def test_nothing_is_kept_without_gradients() -> None:
    model, x = Unrolled(), tg.ones(7, 2, 3)
    with tg.no_grad():
        assert kept(model, x) == 0
    assert kept(model.requires_grad_(False), x) == 0


def test_memory_belongs_to_where_it_was_made() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Sequential(tg.tanh, nn.Linear(3, 2)), tg.exp)
    rows = {row.name: row.kept_bytes for row in summary(model, tg.ones(10, 4)).rows}
    assert rows == {"": 200, "0": 0, "1": 120, "1.0": 120, "1.1": 0, "2": 80}


def test_an_input_that_was_computed_is_not_the_modules() -> None:
    before = tg.ones(10, 4, requires_grad=True).exp().tanh()
    assert kept(nn.Linear(4, 3), before) == 0


# -- what a run leaves -------------------------------------------------------------------------------------------------


def modes(model: nn.Module) -> list[Any]:
    return [dict(vars(module)) for module in model.modules()]


def test_a_model_that_looks_at_its_own_forward_is_followed() -> None:
    class Looking(tg.nn.Module):
        def __init__(self) -> None:
            self.layer = tg.nn.Linear(3, 2)

        def forward(self, x: tg.Tensor) -> Any:
            assert "forward" not in vars(self) | vars(self.layer)
            assert self.layer.forward.__func__ is tg.nn.Linear.forward
            return self.layer(x)

    seen: list[tuple[int, ...]] = []
    model = Looking()
    with model.layer.register_forward_hook(lambda module, args, y: seen.append(y.shape)):
        assert [row.calls for row in summary(model, tg.ones(4, 3)).rows] == [1, 1]
        assert seen == [(4, 2)]
        model(tg.ones(1, 3))
    assert seen == [(4, 2), (1, 2)]


def test_a_run_leaves_no_trace() -> None:
    model, x = CharLM(7, 4, 6, num_layers=2, dropout=0.5), tg.tensor([[1, 2], [3, 4]])
    model.lstm.eval()
    before = modes(model)
    tg.manual_seed(1)
    expected = tg.rand(3)
    tg.manual_seed(1)
    summary(model, x)
    np.testing.assert_array_equal(tg.rand(3).numpy(), expected.numpy())
    assert modes(model) == before
    assert all(parameter.grad is None for parameter in model.parameters())


def test_an_error_raised_by_a_module_is_not_changed_and_leaves_nothing_behind() -> None:
    model = CharLM(7, 4, 6)
    before = modes(model)
    with pytest.raises(IndexError, match="embedding"):
        summary(model, tg.tensor([[9]]))
    assert modes(model) == before
    with pytest.raises(NotImplementedError, match="ModuleList"):
        summary(nn.ModuleList([nn.Linear(1, 1)]), tg.ones(1))


def test_a_forward_set_on_an_instance_comes_back() -> None:
    layer = nn.Linear(2, 2)
    own = layer.forward = lambda x: x * 2  # type: ignore[method-assign, assignment]
    assert summary(layer, tg.ones(3, 2)).total.outputs == ((3, 2),)
    assert vars(layer)["forward"] is own


def test_a_module_is_expected() -> None:
    with pytest.raises(TypeError, match="summary: expected a Module, got Tensor"):
        summary(tg.ones(2))  # type: ignore[arg-type]


# -- what it looks like ------------------------------------------------------------------------------------------------


class Cells(HTMLParser):
    """The cells of a table, row by row."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.open: list[str] = []
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def lines(table: Summary) -> Iterator[list[str]]:
    for line in repr(table).splitlines()[:-1]:
        yield [cell for cell in line.split("  ") if cell.strip()]


@pytest.mark.parametrize("x", [None, tg.ones(7, 2, 3)], ids=["without input", "with input"])
def test_notebooks_show_the_same_table(x: Any) -> None:
    table = summary(Unrolled(), x)
    for text, html in zip(lines(table), Cells(table._repr_html_()).rows, strict=True):
        assert [cell.strip() for cell in text] == [cell.strip() for cell in html if cell]


@pytest.mark.parametrize(
    ("size", "text"), [(1, "4 B"), (249, "996 B"), (250, "1.0 KB"), (3_000, "12.0 KB"), (1_000_000, "4.0 MB")]
)
def test_memory_for_people(size: int, text: str) -> None:
    assert f"parameters in {text}" in repr(summary(nn.LayerNorm(size, bias=False)))
