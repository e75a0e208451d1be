"""Every example that a docstring shows is run."""

import doctest
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import tinygrad_lstm as tg

GPU = tg.cuda.is_available()
MODULES = sorted(
    {"tinygrad_lstm", *(found.name for found in pkgutil.walk_packages(tg.__path__, "tinygrad_lstm."))}
    - {"tinygrad_lstm.__main__"}  # runs the command when imported
    - {f"tinygrad_lstm.estimators.{name}" for name in ("sktime", "aeon")}  # tests/estimators/test_adapters.py runs them
    - ({f"tinygrad_lstm.{name}" for name in ("backends.cupy_backend", "distributed.nccl")} if not GPU else set())
)


def documented(owner: Any, module: ModuleType, prefix: str) -> Iterator[tuple[str, Any]]:
    """Everything with a docstring that a module defines: functions, ops, classes and what these hold."""
    for name, value in list(vars(owner).items()):
        value = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
        if getattr(value, "__module__", None) != module.__name__ or not getattr(value, "__doc__", None):
            continue
        if isinstance(value, type):
            yield f"{prefix}.{name}", value
            yield from documented(value, module, f"{prefix}.{name}")
        elif callable(value):
            yield f"{prefix}.{name}", value


def examples_of(module: ModuleType) -> list[doctest.DocTest]:
    parser, found = doctest.DocTestParser(), []
    source = Path(module.__file__ or "").read_text(encoding="utf-8")
    for name, value in [(module.__name__, module), *documented(module, module, module.__name__)]:
        text = value.__doc__ or ""
        line = max(source.find(text), 0)
        test = parser.get_doctest(text, dict(vars(module)), name, module.__file__, source[:line].count("\n"))
        if test.examples:
            found.append(test)
    return found


def shown(module: ModuleType) -> int:
    """How many prompts the file's docstrings show."""
    return len(re.findall(r"^\s+>>> ", Path(module.__file__ or "").read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module(name)
    tests = examples_of(module)
    assert sum(len(test.examples) for test in tests) == shown(module), "examples that no test has found"
    monkeypatch.chdir(tmp_path)
    tg.manual_seed(0)
    report: list[str] = []
    for test in tests:
        doctest.DocTestRunner().run(test, out=report.append)
    assert not report, "".join(report)


def test_the_examples_of_ops_are_found() -> None:
    module = importlib.import_module("tinygrad_lstm.ops.define")
    assert any(test.name.endswith(".op") for test in examples_of(module))

    class Home:
        @tg.op()
        def shown_op(xp: Any, x: tg.Array) -> Any:  # noqa: N805
            """An op with an example.

            >>> 1 + 1
            2
            """
            return x

    assert [name for name, _ in documented(Home, ModuleType(__name__), "home")] == ["home.shown_op"]
