"""Lengths in exported models: numbers that are made of them, wherever they come from, are right for any lengths."""

import builtins
import copy
import math
import operator
import pickle
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx_exports import Applied, Runner, Tensor, assert_same_function, rows

import tinygrad_lstm as tg
from tinygrad_lstm.lengths import Length, Quotient
from tinygrad_lstm.models import LSTM

OPERATORS = {sign: getattr(operator, name) for sign, name in [
    ("+", "add"), ("-", "sub"), ("*", "mul"), ("//", "floordiv"), ("%", "mod"), ("/", "truediv"), (">>", "rshift")
]}  # fmt: skip
SOURCES = ["T", "B", "T - 1", "half"]

Tree = tuple[str, Any, Any] | str | int | float
"""A sign and two operands; the name of a length; or a number."""


def trees() -> st.SearchStrategy[Tree]:
    leaves = st.sampled_from(SOURCES) | st.integers(-9, 9)
    integers = st.recursive(
        leaves, lambda below: st.tuples(st.sampled_from(["+", "-", "*", "//", "%"]), below, below), max_leaves=6
    ) | st.tuples(st.just(">>"), st.sampled_from(SOURCES), st.integers(0, 3))
    floats = st.tuples(st.just("/"), integers, st.integers(1, 9)) | st.sampled_from([0.5, -2.5])
    return integers | st.tuples(st.sampled_from(["+", "-", "*"]), floats, integers)


def computed(tree: Tree, lengths: dict[str, int]) -> Any:
    if isinstance(tree, tuple):
        sign, a, b = tree
        return OPERATORS[sign](computed(a, lengths), computed(b, lengths))
    return lengths[tree] if isinstance(tree, str) else tree


@given(tree=trees())
def test_numbers_made_of_lengths(tmp_path_factory: pytest.TempPathFactory, tree: Tree) -> None:
    """Of inputs' lengths, and of those of what ops make; with Python's rounding, of negative numbers too."""

    def function(x: Tensor) -> Tensor:
        lengths = {"T": len(x), "B": x.shape[1], "T - 1": len(x[1:]), "half": x[::2].shape[0]}
        return x.sum().detach() * 0 + computed(tree, lengths)

    try:
        run = Runner(Applied(function), {"x": rows(4, 2)}, tmp_path_factory.mktemp("export"))
    except ZeroDivisionError:
        return
    for T, B in ((1, 1), (2, 5), (9, 4), (12, 31)):
        try:
            expected = function(tg.tensor(rows(T, B)))
        except ZeroDivisionError:
            continue
        np.testing.assert_allclose(run(x=rows(T, B))["output"], expected.numpy(), 1e-5)


@pytest.mark.parametrize("function", [
    lambda x: x[: x.shape[1]] + tg.zeros(x[: x.shape[1]].shape[0], 1, 1),
    lambda x: tg.zeros(*x[: 2 * x.shape[1], 1:].shape[:2]),
    lambda x: tg.cat([x[: len(x) // 2], x[: 2 * (len(x) // 4)]]).reshape(-1, 3),
    lambda x: tg.zeros(len(x[: 2 * (len(x) // 4)]) + 1) + tg.zeros(len(x[: len(x) // 2]), 1),
    lambda x: tg.full((2,), x.size) + x.ndim,
    lambda x: tg.full((2,), divmod(len(x), 3)[1] + math.ceil(len(x)) + round(+len(x))),
    lambda x: tg.full((2,), math.ceil(len(x) / 3) + 10 * math.floor(x.shape[1] / 2) - math.ceil(-len(x) / 2)),
    lambda x: tg.full((2,), sum(x.shape[:2])) + math.prod(x.shape),
    lambda x: tg.zeros_like(x[1:]) + tg.ones_like(x[:-1]),
    lambda x: x.float().detach()[: x.detach().shape[0] - 1],
    lambda x: tg.linear(x[1:], tg.ones(2, 3)) + x[1:, :, :2],
])  # fmt: skip
def test_lengths_of_what_ops_return(tmp_path: Path, function: Any) -> None:
    """Two that are the same for some inputs, as where a slice ends beyond a dimension, are kept apart."""
    others = [{"x": rows(T, B)} for T, B in ((2, 9), (6, 2), (7, 7), (5, 1), (33, 39))]
    assert_same_function(function, {"x": rows(4, 2)}, *others, folder=tmp_path)


@pytest.mark.parametrize("shape", [(4, 2), (2, 4), (3, 3), (1, 1)])
@pytest.mark.parametrize("function", [
    lambda x: x[: min(x.shape[:2])],
    lambda x: x[: max(x.shape[:2])],
    lambda x: x[: len(x) if len(x) > x.shape[1] else x.shape[1] + 1],
])  # fmt: skip
def test_a_choice_between_lengths_is_refused(tmp_path: Path, function: Any, shape: tuple[int, int]) -> None:
    with pytest.raises(
        ValueError,
        match=r"op 'getitem' is given .* in one run and .* in another|takes the number .* it does not say how",
    ):
        tg.io.export_onnx(Applied(function), tmp_path / "model.onnx", {"x": rows(*shape)})


def test_a_long_example_is_exported_with_short_inputs(tmp_path: Path) -> None:
    seen = []

    def function(x: Tensor) -> Tensor:
        seen.append(int(x.size))
        return x[: len(x) // 2]

    assert_same_function(function, {"x": rows(5000, 7)}, {"x": rows(9, 3)}, folder=tmp_path)
    assert len(seen) == 4 and seen[1] < seen[0]  # two runs for the export


def test_lengths_that_a_model_keeps_are_copied_and_pickled_as_integers(tmp_path: Path) -> None:
    model = Applied(lambda x: x)
    model.function = lambda x: setattr(model, "kept", [len(x), x.shape[1] * 0.5]) or x * 2
    tg.io.export_onnx(model, tmp_path / "model.onnx", {"x": rows(4, 2)})
    assert [type(number) for number in model.kept] == [Length, Quotient]
    for number, plain in zip(model.kept, (33, 19.5), strict=True):  # and computed with as such, outside of the run
        for function in (tg.mul, tg.maximum, lambda x, y: tg.where(x > 0, x, y)):
            result = function(tg.ones(3), number)
            assert result.dtype == "float32" and result.tolist() == function(tg.ones(3), plain).tolist()
    for copied in (copy.deepcopy(model.kept), pickle.loads(pickle.dumps(model.kept))):
        assert copied == [33, 19.5] and [type(number) for number in copied] == [int, float]


def test_shifts_and_rounding_are_those_of_integers() -> None:
    length = Length(10, 20)
    assert (1 << length, 1 << 21 >> length, length << 2, length >> 2) == (1 << 20, 2, 80, 5)
    for digits in (None, 1, 0, -1, -2):
        assert round(length, digits) == round(20, digits)
    for number in (1 << length, round(length, -1)):
        assert type(number) is int  # its expression is lost


def test_a_length_rounded_to_tens_is_refused(tmp_path: Path) -> None:
    """Also if the example's length is a multiple of ten."""
    with pytest.raises(ValueError, match="op 'mul' takes the number 10 or 30, by the lengths of the inputs"):
        tg.io.export_onnx(Applied(lambda x: x * round(len(x), -1)), tmp_path / "model.onnx", {"x": rows(10, 2)})


def test_a_model_is_run_twice(tmp_path: Path) -> None:
    runs = []

    class Counted(LSTM):
        def forward(self, *given: Any, **named: Any) -> Any:
            runs.append(given)
            return super().forward(*given, **named)

    tg.io.export_onnx(Counted(3, 4, 2, proj_size=2), tmp_path / "model.onnx")
    assert len(runs) == 2


def test_what_is_replaced_for_a_run_comes_back(tmp_path: Path) -> None:
    before = builtins.len
    inside = []

    def function(x: Tensor) -> Tensor:
        inside.append(builtins.len is before)
        if x.shape[1] > 30:
            tg.io.export_onnx(Applied(lambda y: y[: len(y) - 1]), tmp_path / "inner.onnx", {"y": rows(4, 2)})
            assert inside.pop() is False and builtins.len is not before
        return x[: len(x) - 1]

    assert_same_function(function, {"x": rows(4, 2)}, folder=tmp_path)
    assert builtins.len is before
    with pytest.raises(ValueError, match="forward reads"):
        tg.io.export_onnx(Applied(lambda x: x if x.sum() else -x), tmp_path / "model.onnx", {"x": rows(4, 2)})
    assert builtins.len is before


@pytest.mark.parametrize("T", [12, 32, 100, 127])
def test_windows_are_not_as_many_in_both_runs(T: int, tmp_path: Path) -> None:
    """One step more may not be one window more."""

    def function(x: Tensor) -> Tensor:  # (T, B) to (T / 4, B)
        return tg.max_pool1d(x.T.unsqueeze(1), 4).squeeze(1).T

    assert_same_function(function, {"x": rows(T, 2)[..., 0]}, {"x": rows(9, 3)[..., 0]}, folder=tmp_path)


def test_other_threads_see_plain_shapes(tmp_path: Path) -> None:
    """And may export at the same time."""
    inside, before = threading.Barrier(2, timeout=30), builtins.len

    def function(x: Tensor) -> Tensor:
        if len(x) > 30:
            inside.wait()
            inside.wait()
        return x[: len(x) - 1]

    thread = threading.Thread(target=lambda: tg.io.export_onnx(Applied(function), tmp_path / "a", {"x": rows(4, 2)}))
    thread.start()
    inside.wait()
    x = tg.ones(3, 4)
    seen = [type(length) for length in (*x.shape, len(x), len([1]))]
    assert_same_function(lambda x: x[: len(x) // 2], {"x": rows(4, 2)}, {"x": rows(7, 2)}, folder=tmp_path)
    inside.wait()
    thread.join()
    assert seen == [int] * 4 and builtins.len is before and (tmp_path / "a").exists()
