"""What cannot be exported to ONNX is named, with the reason."""

import copy
import inspect
import itertools
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_exports import Applied, Function, Inputs, Spotter, Tensor, rows

import tinygrad_lstm as tg
from tinygrad_lstm.io.onnx import model as onnx_model
from tinygrad_lstm.mode import mode
from tinygrad_lstm.models import LSTM, RNN


@tg.op()
def of_ones_own(xp: Any, x: tg.Array) -> tg.Array:
    """An op that the export does not know."""
    return x * 2


def in_a_loop(x: Tensor) -> Tensor:
    h = tg.zeros(x.shape[1], 3)
    for step in x:
        h = tg.tanh(step + h)
    return h


def changing(x: Tensor) -> Tensor:
    y = x * 2
    y[0] = 0
    return y + 1


def changing_its_output(x: Tensor) -> Tensor:
    y = x * 2
    y += 1
    return y


NETWORK = RNN(3, 2)


def with_weights_of_the_input(x: Tensor) -> Any:
    network = copy.copy(NETWORK)
    vars(network)["weight_ih_l0"] = tg.ones(2, 3) * x.mean()
    return network(x)


def with_step(step: Callable[[Tensor, Tensor], Tensor]) -> Function:
    return lambda x: tg.scan(step, x, x[0])[0]


def counting_its_steps(x: Tensor) -> Any:
    steps = itertools.count()
    return tg.scan(lambda x_t, h: x_t * next(steps) + h, x, x[0])


@pytest.mark.parametrize(("function", "message"), [
    (of_ones_own, "op 'of_ones_own' cannot be exported to ONNX; replace it with ops that can be: abs, acos, acosh"),
    (in_a_loop, "forward applies .* ops to inputs of one length, .*: it loops over the steps"),
    (lambda x: x * 2 if len(x) > 9 else x + 2, "'mul' in place of 'add'.: it loops .* or branches on a length"),
    (
        lambda x: [x * 2, x + 1][len(x) % 2],
        "an output is given the result of 'mul' in one run and the result of 'add' in",
    ),
    (changing, r"op 'add' is given a tensor of shape \(4, 2, 3\) that was changed in place"),
    (changing_its_output, "output 'output' is given a tensor of shape .* that was changed in place"),
    (lambda x: x[x > 0.5], "op 'getitem' is given a mask"),
    (lambda x: x[:, 0, [0, 1]], "'getitem' is given arrays as an index together with numbers"),
    (lambda x: x[:, [0, 1], [0, 1]], "'getitem' is given arrays .* for dimensions that are not the first"),
    (lambda x: x + tg.tensor(x.numpy()), "op 'add' is given an array, of shape .* not made of them by ops"),
    (lambda x: x * x.numpy().max(), "op 'mul' is given .* in one run and .* in another"),
    (lambda x: x * len(x) ** 0.5, "op 'mul' is given 2.0 in one run and 5.74.* in another"),
    (lambda x: x[: math.isqrt(len(x))], "op 'getitem' takes the number 2 or 5, by the lengths of the inputs"),
    (lambda x: x[: int(x.shape[0]) - 1], "op 'getitem' takes the number 3 or 32, by the lengths .*, without int"),
    (lambda x: x + tg.zeros(math.isqrt(len(x)), 1, 1, 1), "op 'full' takes the number 2 or 5"),
    (lambda x: x.sum() + tg.zeros(2 * math.isqrt(len(x)), x.shape[1]), "op 'full' takes the number 4 or 10"),
    (lambda x: x + tg.tensor(np.arange(len(x)))[:, None, None], "op 'getitem' is given an array, of shape"),
    (lambda x: x[:: len(x)], "'getitem' takes the number 4 or 33, .* that is not always the same"),
    (lambda x: tg.max_pool1d(x.permute(1, 2, 0), len(x)), "'max_pool1d' takes the number 4 or 33, .* always the same"),
    (lambda x: tg.conv1d(x.permute(1, 2, 0), x.permute(1, 2, 0)), "'conv1d' takes the number .* always the same"),
    (lambda x: tg.stack(x.unbind(0)[:2]), "op 'unbind' returns 4 results in one run and 33 in another"),
    (with_step(lambda x_t, h: h * 2), "a step takes no element of a sequence"),
    (counting_its_steps, "op 'mul' takes the number 0 or 32, by the lengths"),
    (lambda x: x * 2 if x.max() > 100 else x, "forward reads the result of 'gt' as Python numbers"),
    (lambda x: x[:1] if x.tolist() else x, "forward reads an input as Python numbers"),
    (lambda x: (x > 1).amax(0), r"ONNX does not take what forward computes: .*\(bool\); if it names a type"),
    (lambda x: tg.softmax(x, (0, 1)), "op 'softmax' goes over the dimensions"),
    (lambda x: tg.maximum(x > 1, x < 2), "op 'maximum' is given bool tensors"),
    (lambda x: tg.dropout(x, 0.5), "op 'dropout' cannot be exported to ONNX"),
    (lambda x: x + tg.randn(3), "op 'add' is given an array"),
    (with_weights_of_the_input, "weight_ih of .* depends on an input"),
    (lambda x: {}, "forward returned nothing"),
    (lambda x: (x, None), "expected forward to return tensors, .* but 'output_1' is NoneType"),
    (lambda x: {0: x}, "expected forward to return tensors by name, in a dict, but one is 0"),
    (lambda x: {"x": x * 2}, "x is the name of an input and of an output"),
])  # fmt: skip
def test_what_cannot_be_written_is_named(tmp_path: Path, function: Function, message: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"before")
    outside = mode().value
    with pytest.raises(ValueError, match=r"^export_onnx: ") as raised:
        tg.io.export_onnx(Applied(function), path, {"x": rows(4, 2)})
    told, _, line = str(raised.value).partition(f" ({__file__}:")  # the line's own code may hold the message
    assert re.search(message, told) and "\n" not in told + line
    assert path.read_bytes() == b"before" and list(tmp_path.iterdir()) == [path]
    assert mode().value is outside


def test_errors_name_the_line(tmp_path: Path) -> None:
    """Of what is seen in the second run, of what is seen in writing, and of what is within a step."""

    def another_op(x: Tensor) -> Tensor:
        y = x.sum(0)
        return y + 1 if len(x) > 9 else y - 1  # the line

    def a_number(x: Tensor) -> Tensor:
        y = x[: math.isqrt(len(x))]  # the line
        return y.sum(0)

    def an_op(x: Tensor) -> Tensor:
        return of_ones_own(x).sum(0)  # the line

    def in_a_step(x: Tensor) -> Any:
        def step(x_t: Tensor, h: Tensor) -> Tensor:
            y = x_t + h
            return of_ones_own(y)  # the line

        return tg.scan(step, x, x[0])[0]

    def a_read(x: Tensor) -> Tensor:
        if x.sum() > 1:  # the line
            return x
        return -x

    def a_write(x: Tensor) -> Tensor:
        y = x * 2
        y[0] = 1
        return tg.exp(y)  # the line

    for function in (another_op, a_number, an_op, in_a_step, a_read, a_write):
        source, first = inspect.getsourcelines(function)
        (at,) = [k for k, line in enumerate(source) if line.endswith("# the line\n")]
        with pytest.raises(ValueError, match=r"^export_onnx: ") as raised:
            tg.io.export_onnx(Applied(function), tmp_path / "model.onnx", {"x": rows(4, 2)})
        assert str(raised.value).endswith(f" ({__file__}:{first + at}: {source[at].strip()})")


@pytest.mark.parametrize("dtype", ["int64", "int32", "bool", "float32"])
def test_numbers_made_of_values_are_seen(tmp_path: Path, dtype: str) -> None:
    def function(x: Tensor, lengths: Tensor) -> Tensor:
        return x[: int(10 * lengths.numpy().sum())]

    inputs = {"x": rows(4, 3), "lengths": np.array([1, 0, 0], dtype)}
    with pytest.raises(ValueError, match="op 'getitem' takes the number"):
        tg.io.export_onnx(Applied(function), tmp_path / "model.onnx", inputs)


class Counter(tg.nn.Module):
    """A module that changes a buffer of its own."""

    def __init__(self) -> None:
        self.register_buffer("seen", tg.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        y = x + self.seen
        self.seen += 1
        return y


def test_a_model_that_keeps_something_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="forward changes 'seen' in place"):
        tg.io.export_onnx(Counter(), tmp_path / "model.onnx", {"x": rows(4, 2)})


X, LETTERS = rows(4, 2), "abcdefghijklmnopqrstuvw"


@pytest.mark.parametrize(("model", "inputs", "dynamic", "message"), [
    (Spotter(), None, None, "a Spotter does not define its inputs; give examples"),
    (Spotter(), {"y": X}, None, r"Spotter.forward\(x\) cannot be given the inputs y: missing a required argument: 'x'"),
    (Spotter(), {"x": X}, {"y": {}}, "dynamic names y, but the inputs are x"),
    (Spotter(), {"x": X}, {"x": {3: "time"}}, r"'time' is to be dimension 3 of 'x', .* has shape \(4, 2, 3\)"),
    (Spotter(), {"x": X[:0]}, None, "'time' is to be dimension 0 of 'x', .* expected a dimension of length 1 or more"),
    (Applied(tg.add), {"x": X, "y": X[:3]}, None, "'time' is 4 of 'x' and 3 of 'y'; say which dimensions"),
    (Applied(tg.add), {"x": X, "y": np.ones((1,) * 23)}, {"y": dict(enumerate(LETTERS))}, "at most 6 dynamic dim"),
])  # fmt: skip
def test_invalid_inputs_are_named(
    tmp_path: Path, model: tg.nn.Module, inputs: Inputs | None, dynamic: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=f"^export_onnx: .*{message}"):
        tg.io.export_onnx(model, tmp_path / "model.onnx", inputs, dynamic=dynamic)
    assert not list(tmp_path.iterdir())


def test_an_error_raised_by_the_model_is_shown_with_the_shapes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="conv1d: x of shape") as raised:
        tg.io.export_onnx(Spotter(), tmp_path / "model.onnx", {"x": rows(4, 2, 5)})
    assert raised.value.__notes__ == ["when Spotter was run with x (4, 2, 5), made of the examples"]


def test_states_have_names() -> None:
    with pytest.raises(ValueError, match="LSTM: expected the states h0, c0, got h0"):
        LSTM(3, 4).named_forward(tg.ones(2, 1, 3), h0=tg.ones(1, 1, 4))


def test_inputs_are_a_dict(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"expected the inputs in a dict, .*; got Tensor"):
        tg.io.export_onnx(LSTM(3, 4), tmp_path / "model.onnx", tg.ones(5, 2, 3))  # type: ignore[arg-type]


def test_only_modules_are_exported(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="expected a Module, got function"):
        tg.io.export_onnx(in_a_loop, tmp_path / "model.onnx", {"x": X})  # type: ignore[arg-type]


def test_too_large_a_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_model, "LARGEST_FILE", 1000)
    with pytest.raises(ValueError, match=r"the weights take 1,.* bytes, and an ONNX file holds at most 1,000"):
        tg.io.export_onnx(LSTM(3, 8), tmp_path / "model.onnx")


def test_without_onnx_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(RuntimeError, match=r"pip install '\.\[onnx\]' in a checkout"):
        tg.io.export_onnx(LSTM(3, 8), tmp_path / "model.onnx")


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none.model\.onnx"):
        tg.io.export_onnx(LSTM(3, 8), tmp_path / "none" / "model.onnx")
