"""The drawing of a tensor's graph: what is in it, how it is made and saved, and what is refused."""

import gc
import os
import re
import shutil
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from dot_reader import read
from drawn_graphs import by_step, drawn, in_blocks, inputs, layer_by_layer, unrolled, with_attention
from hypothesis import given
from hypothesis import strategies as st
from ops.case import Case
from ops.cases import CASES

import tinygrad_lstm as tg
from tinygrad_lstm.inspect import graph
from tinygrad_lstm.models import GRU, LSTM, RNN, CharLM, LSTMCell, RNNCell

needs_dot = pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz's program `dot` is not installed")


# -- what is drawn -----------------------------------------------------------------------------------------------------


def test_a_small_network_is_drawn_as_it_is() -> None:
    model = tg.nn.Sequential(tg.nn.Linear(4, 5), tg.relu, tg.nn.Linear(5, 3, bias=False))
    loss = tg.cross_entropy(model(tg.ones(2, 4)), tg.tensor([0, 2]))
    drawing = drawn(loss, model)
    assert sorted(drawing.labels()) == sorted(
        [
            *("0.weight (5, 4) float32", "0.bias (5,) float32", "2.weight (3, 5) float32", "constant (2, 4) float32"),
            *("linear (2, 5) float32", "relu (2, 5) float32", "linear (2, 3) float32", "cross_entropy () float32"),
            "output () float32",
        ]
    )
    assert sorted(drawing.arrows()) == sorted(
        [
            *("0.weight -> linear", "0.bias -> linear", "constant -> linear", "linear -> relu", "relu -> linear"),
            *("2.weight -> linear", "linear -> cross_entropy", "cross_entropy -> output"),
        ]
    )
    assert not drawing.loops()


def test_an_input_used_twice_has_two_edges() -> None:
    x = tg.tensor(2.0, requires_grad=True)
    assert sorted(drawn(x * x, {"x": x}).arrows()) == ["mul -> output", "x -> mul", "x -> mul"]


def test_numbers_are_shown() -> None:
    x = tg.tensor([2.0], requires_grad=True)
    assert "0.5 -> mul" in drawn(x * 0.5).arrows()


def test_outputs_of_an_op_are_distinguished() -> None:
    first, second = tg.split(tg.ones(4, 3, requires_grad=True), 2)
    drawing = drawn(first.exp() * second)
    assert "split 2 × (2, 3) float32" in drawing.labels()
    assert {"split -> exp ([0])", "split -> mul ([1])"} <= set(drawing.arrows())
    uneven = tg.split(tg.ones(9, requires_grad=True), [1, 2, 3, 3])
    assert "split (1,), (2,), (3,), … float32" in drawn(uneven[0]).labels()


@pytest.mark.parametrize(("kind", "op"), [(LSTM, "lstm"), (GRU, "gru"), (RNN, "rnn")])
def test_a_recurrent_layer_is_one_op_with_its_sizes(kind: Any, op: str) -> None:
    model = kind(3, 5, num_layers=2)
    out, _ = model(tg.ones(7, 2, 3))
    drawing = drawn(out.sum(), model)
    assert [label for label in drawing.labels() if label.startswith(op)] == [
        f"{op} T=7, B=2, I=3, H=5 float32",
        f"{op} T=7, B=2, I=5, H=5 float32",
    ]
    assert f"{op} -> {op} (out)" in drawing.arrows()


def test_every_parameter_has_its_name() -> None:
    model = CharLM(7, 4, 6, num_layers=2, dropout=0.5)
    ids = tg.tensor(np.arange(12).reshape(6, 2) % 7)
    loss, _ = model.loss(ids, ids)
    drawing = drawn(loss, model)
    for name, parameter in model.named_parameters():
        assert f"{name} {parameter.shape} float32" in drawing.labels()


def test_tensors_may_be_named_one_by_one() -> None:
    w, x = tg.ones(3, 2, requires_grad=True), tg.ones(2, requires_grad=True)
    hidden = w @ x
    loss = hidden.tanh().sum()
    drawing = drawn(loss, {"w": w, "tanh of it": hidden, "loss": loss, "unused": tg.ones(1, requires_grad=True)})
    assert {"w (3, 2) float32", "leaf (2,) float32", "loss () float32"} <= set(drawing.labels())
    assert "tanh of it = reshape" in drawing.ops()


def test_parameters_are_known_without_names() -> None:
    layer = tg.nn.Linear(2, 3)
    assert drawn(layer(tg.ones(1, 2))).labels().count("parameter (3, 2) float32") == 1


def test_a_single_leaf_is_drawn() -> None:
    w = tg.ones(2, requires_grad=True)
    for _ in range(2):  # before it is part of a graph, and then
        drawing = read(graph(w, {"w": w}).dot)
        assert drawing.labels() == ["w (2,) float32"] and not drawing.edges
        w.exp()


@pytest.mark.parametrize("name", ['a "b"', "back\\slash \\N", "two\nlines", "<b>&amp;</b>", "äπ∂", "}; x -> y {", ""])
def test_any_name_is_drawn_as_it_is(name: str) -> None:
    w = tg.ones(2, requires_grad=True)
    drawing = drawn(w.exp(), {name: w})
    assert f"{name or 'leaf'}\n(2,) float32" in [attributes["label"] for attributes in drawing.nodes.values()]


@pytest.mark.parametrize("case", [case for case in CASES if case.differentiable], ids=str)
@given(st.data())
def test_the_shape_of_every_op_is_known(case: Case, data: st.DataObject) -> None:
    """Though the node of an op need not hold its output."""
    chosen = data.draw(case.drawn)
    tensors = [tg.tensor(array, requires_grad=True) for array in chosen.arrays]
    results = case.call(*tensors, **chosen.settings)
    for result in results if isinstance(results, list | tuple) else [results]:
        drawing = drawn(-result, fold=False)  # an op after it that tells nothing of its input
        (target,) = [source for source, target, _ in drawing.edges if target == "output"]
        (op,) = [source for source, other, _ in drawing.edges if other == target]
        if drawing.label(op).partition("\n")[0] not in ("split", "unbind"):
            assert drawing.label(op).endswith(f"\n{result.shape} {result.dtype}")


def test_a_user_defined_op_has_its_shape() -> None:
    @tg.op(x=lambda g: g[:2])
    def shortened(xp: Any, x: tg.Array) -> Any:
        return x[:2] + 0

    x = tg.ones(3, requires_grad=True)
    assert "shortened (2,) float32" in drawn(-shortened(x)).labels()


def test_a_graph_on_any_device_is_drawn_without_reading_values(device: str) -> None:
    cell = LSTMCell(3, 5).to(device)
    loss = unrolled(cell, [x.to(device) for x in inputs(6)])[-1].square().mean()
    counts = getattr(loss.device.backend, "counts", None)
    before = None if counts is None else (counts.device_to_host, counts.synchronisations)
    assert drawn(loss, cell).loops() == ["× 6"]
    assert counts is None or (counts.device_to_host, counts.synchronisations) == before


def test_gradients_of_gradients_are_drawn() -> None:
    cell = RNNCell(3, 5)
    loss = unrolled(cell, inputs(6))[-1].sum()
    (slope,) = tg.grad(loss, cell.weight, create_graph=True)
    drawing = drawn(slope.square().sum(), cell)
    assert {"weight (5, 8) float32", "bias (5,) float32"} <= set(drawing.labels())


def test_checkpointed_and_freed_graphs_are_drawn() -> None:
    cell = LSTMCell(3, 5)
    plain = unrolled(cell, inputs(6))[-1].sum()
    expected = drawn(plain, cell).ops()
    plain.backward()
    assert drawn(plain, cell).ops() == expected
    checked = tg.checkpoint(lambda: unrolled(cell, inputs(6))[-1].sum())
    assert drawn(checked, cell).ops() == expected


# -- how it is made ----------------------------------------------------------------------------------------------------


def test_long_graphs_need_no_recursion() -> None:
    x = tg.ones(1, requires_grad=True)
    y = x
    for _ in range(100_000):
        y = y + 1.0
    made = graph(y)
    assert (made.ops, made.shown) == (100_000, 1)


def test_two_equal_programs_are_drawn_alike() -> None:
    texts = {graph(program(9)).dot for _ in range(2) for program in (by_step,)}
    assert len(texts) == 1


def test_nothing_is_changed() -> None:
    cell = LSTMCell(3, 5)
    fresh = tg.nn.Linear(2, 2)
    loss = unrolled(cell, inputs(9))[-1].sum()
    graph(loss, {"weight": cell.weight, "fresh": fresh.weight})
    assert cell.weight.grad is None and fresh.weight.grad is None
    loss.backward()
    expected = tg.grad(unrolled(cell, inputs(9))[-1].sum(), cell.weight)[0]
    np.testing.assert_array_equal(cell.weight.grad.numpy(), expected.numpy())


def test_a_drawing_holds_on_to_nothing() -> None:
    x = tg.ones(3, requires_grad=True)
    y = x.exp()
    node = weakref.ref(y._graph_node())
    made = graph(y.log(), {"y": y})
    del y
    gc.collect()
    assert node() is None and "y = exp" in made.dot


# -- files and notebooks -----------------------------------------------------------------------------------------------


def small() -> Any:
    w = tg.ones(3, requires_grad=True)
    return graph((w * 2).sum(), {'<w> & "co"': w})


def svg_texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


@needs_dot
def test_svg(tmp_path: Path) -> None:
    made = small()
    assert {'<w> & "co"', "(3,) float32", "mul", "sum", "output"} <= set(svg_texts(made.svg()))
    made.save(tmp_path / "graph.svg")
    assert svg_texts((tmp_path / "graph.svg").read_text(encoding="utf-8")) == svg_texts(made.svg())
    assert made._repr_html_().startswith("<svg")


@needs_dot
@pytest.mark.parametrize("program", [by_step, layer_by_layer, with_attention, in_blocks])
def test_dot_draws_loops_in_frames(program: Callable[[int], tg.Tensor]) -> None:
    made = graph(program(12))
    assert svg_texts(made.svg()).count("× 12") == len([loop for loop in read(made.dot).loops() if loop == "× 12"])


@pytest.mark.parametrize("suffix", [".dot", ".gv"])
def test_dot_is_saved(suffix: str, tmp_path: Path) -> None:
    made = small()
    made.save(str(tmp_path / f"graph{suffix}"))
    assert (tmp_path / f"graph{suffix}").read_text(encoding="utf-8") == made.dot


def test_saving_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"graph\.pdf' must end in \.dot, \.gv or \.svg"):
        small().save(tmp_path / "graph.pdf")
    with pytest.raises(OSError, match=re.escape(str(tmp_path / "nowhere" / "graph.dot"))):
        small().save(tmp_path / "nowhere" / "graph.dot")
    assert not list(tmp_path.iterdir())


def test_without_dot_the_source_is_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="install Graphviz") as caught:
        small().svg()
    assert "\n" not in str(caught.value)
    html = small()._repr_html_()
    assert html.startswith("<pre>") and "install Graphviz" in html and "&lt;w&gt; &amp; \\&quot;co" in html


@pytest.mark.skipif(os.name != "posix", reason="the stand-in for `dot` is a shell script")
@pytest.mark.parametrize(
    ("script", "message"),
    [("echo 'syntax error' >&2; exit 1", "failed: syntax error"), ("exec sleep 5", "within 0.2 s")],
)
def test_a_dot_that_fails_is_an_error(
    script: str, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "dot"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(sys.modules["tinygrad_lstm.inspect._graph"], "_TIMEOUT", 0.2)
    with pytest.raises(RuntimeError, match=message):
        small().svg()


# -- bad input ---------------------------------------------------------------------------------------------------------


def test_errors_are_one_line() -> None:
    x = tg.ones(2, requires_grad=True)
    with tg.no_grad():
        unrecorded = x * 2
    for wrong, kind, message in [
        (lambda: graph(tg.ones(2)), RuntimeError, r"shape \(2,\) requires no gradient"),
        (lambda: graph(unrecorded), RuntimeError, "under no_grad"),
        (lambda: graph(x.detach()), RuntimeError, "requires no gradient"),
        (lambda: graph(np.ones(2)), TypeError, "expected a Tensor, got ndarray"),  # type: ignore[arg-type]
        (lambda: graph(x * 2, [x]), TypeError, "a Module or a mapping of Tensors, got list"),  # type: ignore[arg-type]
        (lambda: graph(x * 2, {"x": 3}), TypeError, r"names\['x'\] must be a Tensor, got int"),  # type: ignore[dict-item]
    ]:
        with pytest.raises(kind, match=message) as caught:
            wrong()
        assert "\n" not in str(caught.value)
