"""The lines that ran, with the variables they set."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tinygrad_lstm.inspect.lines import lines_run

SOURCE = """\
import math


def half(number):
    return number / 2


def length(count):
    squares = 0
    for number in range(count):
        squares += number * number
    root = math.sqrt(half(squares))
    return root


def inverse(number):
    return 1 / number
"""


@pytest.fixture
def module(tmp_path: Path) -> ModuleType:
    path = tmp_path / "sums.py"
    path.write_text(SOURCE)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_each_line_is_noted_as_often_as_it_ran(module: ModuleType) -> None:
    assert [(line.number, dict(line.variables)) for line in lines_run(module.length, 3)] == [
        (9, {"squares": 0}),
        (10, {"number": 0}),
        (10, {"number": 1}),  # adding 0 has changed nothing
        (11, {"squares": 1}),
        (10, {"number": 2}),
        (11, {"squares": 5}),
        (12, {"number": 5}),  # the argument of half
        (12, {"root": 2.5**0.5}),
    ]


def test_lines_are_those_of_the_file(module: ModuleType, tmp_path: Path) -> None:
    for line in lines_run(module.length, 3):
        assert line.path == str(tmp_path / "sums.py") and line.file == f"{tmp_path.name}/sums.py"
        assert line.text == SOURCE.splitlines()[line.number - 1].strip()


def test_whoever_traced_before_goes_on(module: ModuleType) -> None:
    def own(*_: object) -> None:
        pass

    before = sys.gettrace()
    sys.settrace(own)
    try:
        lines_run(module.length, 3)
        after = sys.gettrace()
        with pytest.raises(ZeroDivisionError):
            lines_run(module.inverse, 0)
        after_error = sys.gettrace()
    finally:
        sys.settrace(before)
    assert after is own and after_error is own
