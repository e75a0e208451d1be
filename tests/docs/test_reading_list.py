"""docs/design/reading.md, the reading list: the files are there, and as long as it says."""

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "design" / "reading.md"
LIST = PAGE.read_text(encoding="utf-8")
ROW = r"^\| (\[.+?) \| ([\d,]+) \| .+ \|$"
ROWS = re.findall(ROW, LIST, re.MULTILINE)
NOT_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
    tokenize.ENCODING,
}


def code_lines(source: str) -> int:
    """The lines of a program without blank lines, comments and docstrings."""
    found = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in NOT_CODE:
            found |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            found -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(found)


def code_of(path: Path) -> str:
    """A file's program; of a page, its Python blocks."""
    assert path.exists(), f"the reading list names {path}, which is not there"
    text = path.read_text(encoding="utf-8")
    return text if path.suffix == ".py" else "\n".join(re.findall(r"^```python\n(.*?)^```", text, re.M | re.S))


def files_of(row: str) -> list[Path]:
    return [(PAGE.parent / target).resolve() for target in re.findall(r"\]\((.+?)\)", row)]


def test_code_lines_are_counted() -> None:
    assert (
        code_lines('"""A module."""\n\n# why\nx = 1  # what\n\ndef f():\n    """Doc."""\n    return """a\nb"""\n') == 4
    )


@pytest.mark.parametrize(("row", "lines"), ROWS)
def test_files_are_as_long_as_they_are_said_to_be(row: str, lines: str) -> None:
    actual = sum(code_lines(code_of(path)) for path in files_of(row))
    said = int(lines.replace(",", ""))
    assert abs(said - actual) <= max(10, 0.15 * actual), f"the page says {said} lines of code; it is {actual}"


def test_what_is_said_of_all() -> None:
    """The engine is an afternoon: four hours and a half, at 500 lines of code an hour."""
    engine, rest = (int(number.replace(",", "")) for number in re.findall(r"^\*\*The .+?([\d,]+) lines", LIST, re.M))
    said = [int(lines.replace(",", "")) for _, lines in ROWS]
    split = len(re.findall(ROW, LIST[: LIST.index("**The LSTM")], re.M))
    assert abs(sum(said[:split]) - engine) <= 10
    assert abs(sum(said[split:]) - rest) <= 10
    assert engine <= 2250


def test_it_has_all_of_the_core() -> None:
    """The modules that `ops/elementwise.py` and `nn/module.py` rest on, but for those beside the engine."""
    beside = {"arguments", "device", "exchange", "html", "lengths", "methods", "printable", "tracer_hooks", "tracing"}
    core = ROOT / "tinygrad_lstm"
    found, left = set(), [core / "ops" / "elementwise.py", core / "nn" / "module.py"]
    while left:
        path = left.pop()
        if path in found or beside.intersection([path.stem, path.parent.name]):
            continue
        found.add(path)
        left += imported(path)
    listed = {path for row, _ in ROWS for path in files_of(row)}
    assert {path for path in found if path.parent.name != "nn"} <= listed


def imported(path: Path) -> list[Path]:
    """The modules that a module's relative imports name."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level and node.module:
            base = path.parents[node.level - 1]
            found.append(base.joinpath(*node.module.split(".")).with_suffix(".py"))
    return [each for each in found if each.exists()]
