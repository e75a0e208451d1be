"""The ops that a function applied, each with the line of code that applied it."""

from pathlib import Path
from typing import Any

import pytest
from written_modules import module_of

import tinygrad_lstm as tg
from tinygrad_lstm.inspect.lines import OpsRun, lines_of
from tinygrad_lstm.mode import mode

SOURCE = """\
import tinygrad_lstm as tg


def half(x):
    return x / 2


def length(xs, pick):
    squares = 0
    for x in xs:
        squares = x * x + squares
    return tg.sqrt(half(pick(squares)))


def fails(x):
    return x @ x.sum()
"""


@pytest.fixture
def module(tmp_path: Path) -> Any:
    return module_of(tmp_path / "sums.py", SOURCE)


def elsewhere(x: tg.Tensor) -> tg.Tensor:
    return x.exp().log()


def test_each_op_is_noted_with_its_line_as_often_as_it_was_applied(module: Any, tmp_path: Path) -> None:
    run = OpsRun(module.length, [tg.ones(3), tg.ones(3)], elsewhere)
    assert [(op.name, op.line.number) for op in run.ops] == [
        *[("mul", 11), ("add", 11)] * 2,
        *[("exp", 12), ("log", 12)],  # in another file: the line that called it
        ("div", 5),
        ("sqrt", 12),
    ]
    for op in run.ops:
        assert op.line.path == str(tmp_path / "sums.py") and op.line.file == f"{tmp_path.name}/sums.py"
        assert op.line.text == SOURCE.splitlines()[op.line.number - 1].strip()
    assert run.result is run.ops[-1].outputs[0]


def test_lines_are_found_back_from_a_tensor(module: Any) -> None:
    first, second = tg.ones(3), tg.ones(3)
    run = OpsRun(module.length, [first, second], elsewhere)
    assert len(run.behind(run.result)) == len(run.ops)
    assert [line.number for line in lines_of(run.behind(run.result), run)] == [11, 12, 5]
    squares = run.ops[3].outputs[0]
    assert [line.number for line in lines_of(run.behind(run.result, [squares]), run)] == [12, 5]
    assert run.maker(first) is None and run.behind(first) == set()


def test_after_an_error_nothing_is_noted_any_more(module: Any) -> None:
    with pytest.raises(ValueError, match="matmul"):
        OpsRun(module.fails, tg.ones(3))
    assert mode().value.tracer is None
