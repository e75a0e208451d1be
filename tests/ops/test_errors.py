"""What ops say of invalid shapes, dims and other arguments."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinygrad_lstm as tg

BROADCASTING = [
    *("add", "sub", "mul", "div", "pow", "maximum", "minimum", "eq", "ne", "lt", "le", "gt", "ge"),
    *("logical_and", "logical_or", "logical_xor"),
]


@pytest.mark.parametrize("name", [*BROADCASTING, "matmul"])
def test_incompatible_shapes_are_named(name: str, device: str) -> None:
    x, y = tg.ones(2, 3, device=device), tg.ones(4, dtype="float64", device=device)
    y = y.to(dtype="float32") if name.startswith("logical") else y
    with pytest.raises(ValueError, match=rf"^{name}: ") as raised:
        getattr(tg, name)(x, y)
    for part in ("(2, 3)", "(4,", "float", device):
        assert part in str(raised.value)


DIMMED = [
    *(
        "sum",
        "prod",
        "mean",
        "var",
        "std",
        "max",
        "min",
        "logsumexp",
        "norm",
        "cumsum",
        "any",
        "all",
        "argmax",
        "argmin",
    ),
    *("squeeze", "unsqueeze", "flip", "roll", "unbind", "split", "chunk", "cat", "stack", "swapaxes", "permute"),
    *("flatten", "gather", "take_along_axis", "index_select"),
    *("sort", "argsort", "topk", "median", "nanmedian", "quantile", "unique", "cumprod", "logcumsumexp", "cummax"),
    *("cummin", "diff"),
]


@pytest.mark.parametrize("dim", [3, -4])
@pytest.mark.parametrize("name", DIMMED)
def test_a_dim_that_is_not_there_is_named(name: str, dim: int, device: str) -> None:
    x = tg.ones(2, 3, device=device)
    index = tg.tensor([[0]], device=device)
    arguments = {
        "roll": (x, 1, dim),
        "split": (x, 1, dim),
        "chunk": (x, 1, dim),
        "cat": ([x], dim),
        "stack": ([x], dim),
        "swapaxes": (x, 0, dim),
        "permute": (x, 0, dim),
        "gather": (x, dim, index),
        "take_along_axis": (x, index, dim),
        "index_select": (x, dim, index),
        "unique": (x, True, False, False, dim),
    }
    first = {"norm": (2,), "diff": (1,), "topk": (2,), "quantile": (0.5,)}
    given = arguments.get(name) or (x, *first.get(name, ()), dim)
    with pytest.raises(IndexError, match=rf"^{name}: .*{dim}"):
        getattr(tg, name)(*given)


WRONG: dict[str, tuple[Callable[[Any], Any], type[Exception], list[str]]] = {
    "reshape": (lambda x: x.reshape(4), ValueError, ["(2, 3)", "(4,)"]),
    "flatten": (lambda x: x.flatten(1, 0), ValueError, ["(2, 3)"]),
    "permute": (lambda x: x.permute(0), ValueError, ["(2, 3)"]),
    "broadcast_to": (lambda x: x.broadcast_to(2, 4), ValueError, ["(2, 3)", "(2, 4)"]),
    "expand": (lambda x: x.expand(3), ValueError, ["(2, 3)", "(3,)"]),
    "repeat": (lambda x: x.repeat(2), ValueError, ["(2, 3)", "(2,)"]),
    "pad": (lambda x: x.pad((1,)), ValueError, ["(2, 3)", "(1,)"]),
    "pad of a mode": (lambda x: x.pad((1, 1), "mirror"), ValueError, ["mirror", "reflect", "constant"]),
    "pad of a value": (lambda x: x.pad((1, 1), 7.0), ValueError, ["7.0", "constant"]),
    "tril": (lambda x: x[0].tril(), ValueError, ["(3,)"]),
    "triu": (lambda x: x[0].triu(), ValueError, ["(3,)"]),
    "cat": (lambda x: tg.cat([x, x.T]), ValueError, ["(2, 3)", "(3, 2)"]),
    "stack": (lambda x: tg.stack([x, x.T]), ValueError, ["(2, 3)", "(3, 2)"]),
    "split": (lambda x: x.split([1, 2]), ValueError, ["(2, 3)", "[1, 2]"]),
    "chunk": (lambda x: x.chunk(0), ValueError, ["0"]),
    "unbind": (lambda x: x[0, 0].unbind(), TypeError, ["0-d"]),
    "mean": (lambda x: x[:0].mean(), ValueError, ["(0, 3)"]),
    "var": (lambda x: x[0, 0].var(), ValueError, ["()"]),
    "max": (lambda x: x[:0].max(), ValueError, ["(0, 3)", "float32"]),
    "min": (lambda x: x[:0].min(0), ValueError, ["(0, 3)", "float32"]),
    "argmax": (lambda x: x[:0].argmax(0), ValueError, ["(0, 3)", "float32"]),
    "argmin": (lambda x: x[:, :0].argmin(), ValueError, ["(2, 0)", "float32"]),
    "norm": (lambda x: x.norm(-1), ValueError, ["-1"]),
    "norm of a name": (lambda x: x.norm("fro"), TypeError, ["'fro'", "number"]),
    "norm of nan": (lambda x: x.norm(math.nan), ValueError, ["nan"]),
    "sum over a float": (lambda x: x.sum(0.5), TypeError, ["0.5", "integer"]),
    "sum over floats": (lambda x: x.sum((0.5,)), TypeError, ["0.5", "integer"]),
    "gather along none": (lambda x: x.gather(None, [[0]]), TypeError, ["None", "one integer"]),
    "cumsum along none": (lambda x: x.cumsum(None), TypeError, ["None", "one integer"]),
    "topk": (lambda x: x.topk(4), ValueError, ["4", "0 to 3", "(2, 3)"]),
    "topk of -1": (lambda x: x.topk(-1, 0), ValueError, ["-1", "0 to 2", "(2, 3)"]),
    "topk of a float": (lambda x: x.topk(1.0), TypeError, ["1.0", "integer"]),
    "median": (lambda x: x[:0].median(0), ValueError, ["(0, 3)"]),
    "nanmedian": (lambda x: x[:0].nanmedian(), ValueError, ["(0, 3)"]),
    "quantile": (lambda x: x.quantile(1.5), ValueError, ["1.5", "[0, 1]"]),
    "quantile of nan": (lambda x: x.quantile([0.5, math.nan]), ValueError, ["nan", "[0, 1]"]),
    "quantile of 2-D": (lambda x: x.quantile([[0.5]]), ValueError, ["(1, 1)", "one dimension"]),
    "quantile of none": (lambda x: x[:0].quantile(0.5, 0), ValueError, ["(0, 3)"]),
    "quantile by a name": (lambda x: x.quantile(0.5, 0, interpolation="cubic"), ValueError, ["cubic", "nearest"]),
    "searchsorted": (lambda x: tg.searchsorted(x, x.T), ValueError, ["(2, 3)", "(3, 2)"]),
    "searchsorted of a side": (lambda x: x[0].searchsorted(x, side="up"), ValueError, ["'up'", "'left'"]),
    "searchsorted of sides": (lambda x: x[0].searchsorted(x, side="left", right=True), ValueError, ["left", "True"]),
    "bucketize": (lambda x: tg.bucketize(x, x), ValueError, ["(2, 3)", "one dimension"]),
    "diff": (lambda x: x.diff(-1), ValueError, ["-1"]),
    "diff of a shape": (lambda x: x.diff(prepend=x.T), ValueError, ["(2, 3)", "(3, 2)"]),
    "argmax along two": (lambda x: x.argmax((0, 1)), TypeError, ["(0, 1)", "one integer"]),
    "split along two": (lambda x: x.split(1, (0, 1)), TypeError, ["(0, 1)", "one integer"]),
    "gelu": (lambda x: x.gelu("exact"), ValueError, ["exact"]),
    "sum": (lambda x: x.sum((0, -2)), ValueError, ["(2, 3)", "(0, -2)"]),
    "matmul": (lambda x: x.reshape(1, 2, 3) @ x, ValueError, ["(1, 2, 3)", "(2, 3)"]),
    "linear": (lambda x: tg.linear(x, x.T), ValueError, ["(2, 3)", "(3, 2)"]),
    "linear of 3-D": (lambda x: tg.linear(x.unsqueeze(0), x.T), ValueError, ["linear", "(3, 2)"]),
    "linear of 0-d": (lambda x: tg.linear(x[0, 0], x), ValueError, ["linear", "0-d"]),
    "linear of a bias": (lambda x: tg.linear(x, x, x[0]), ValueError, ["bias", "(2,)", "(2, 3)", "(3,)"]),
    "linear of a number": (lambda x: tg.linear(x, x, 1.0), ValueError, ["bias", "(2,)"]),
    "einsum": (lambda x: tg.einsum("ij,jk", x, x), ValueError, ["ij,jk", "3", "2"]),
    "gather": (lambda x: x.gather(0, tg.tensor([0], device=x.device)), ValueError, ["(2, 3)", "(1,)"]),
    "take_along_axis": (lambda x: x.take_along_axis([0], 0), ValueError, ["(2, 3)", "(1,)"]),
    "index_select": (lambda x: x.index_select(0, [[0]]), ValueError, ["(1, 1)"]),
    "embedding": (lambda x: tg.embedding([0.5], x), TypeError, ["float32", "(1,)"]),
    "getitem": (lambda x: x[0, 0, 0], IndexError, ["(2, 3)", "float32"]),
    "setitem": (lambda x: x.__setitem__(0, tg.ones(2, device=x.device)), ValueError, ["(2, 3)", "(2,)"]),
    "neg": (lambda x: -(x > 0), TypeError, ["bool", "(2, 3)"]),
    "sub": (lambda x: (x > 0) - (x > 0), TypeError, ["bool", "(2, 3)"]),
    "exp": (lambda x: tg.exp(x, 2), TypeError, ["argument"]),
    "clamp": (lambda x: tg.clamp(x, low=2), TypeError, ["low"]),
}


@pytest.mark.parametrize(
    "call",
    [
        lambda x: x.reshape(2.7, 2),
        lambda x: x.split(1.5),
        lambda x: x.split([0.5, 1.5]),
        lambda x: x.chunk(1.5),
        lambda x: x.roll(0.5),
        lambda x: x.pad((0.5, 1)),
    ],
)
def test_a_float_is_not_a_number_of_elements(call: Callable[[Any], Any], device: str) -> None:
    with pytest.raises(TypeError, match="integer"):
        call(tg.ones(2, 3, device=device))


def test_integers_of_numpys_count_as_numbers_of_elements(device: str) -> None:
    x = tg.tensor([1.0, 2.0, 3.0, 4.0], device=device, requires_grad=True)
    weights = tg.tensor([1.0, 2.0, 3.0, 4.0], device=device)
    for shifts, dim in ((np.int64(1), None), (np.int64(1), np.int64(0)), ((np.int64(1),), (0,))):
        rolled = x.roll(shifts, dim)
        assert rolled.tolist() == [4.0, 1.0, 2.0, 3.0]
        assert tg.grad((rolled * weights).sum(), x)[0].tolist() == [2.0, 3.0, 4.0, 1.0]
    for pieces in (x.split(np.int64(2)), x.split(np.array([2, 2])), x.chunk(np.int64(2))):
        assert [piece.tolist() for piece in pieces] == [[1.0, 2.0], [3.0, 4.0]]
    assert x.reshape(np.int64(2), np.int8(-1)).shape == (2, 2)


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_are_named(name: str, device: str) -> None:
    call, kind, parts = WRONG[name]
    with pytest.raises(kind) as raised:
        call(tg.ones(2, 3, device=device))
    message = str(raised.value)
    assert "\n" not in message
    for part in [name.partition(" ")[0], *parts]:
        assert part.replace(" ", "") in message.replace(" ", "")
