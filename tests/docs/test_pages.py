"""Every block of code in README and docs/ is run: Python as it is, commands with fewer and smaller steps."""

import ast
import contextlib
import importlib.util
import io
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from commands import run, run_here
from small_book import TEXT

import tinygrad_lstm as tg

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
PAGES = sorted(path for path in (ROOT / "docs").rglob("*.md") if path.name != "engine.md")  # it has a test of its own
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
NEEDS = re.compile(r"^(?:from tinygrad_lstm\.estimators\.|from |import )(sktime|aeon|ray|dask)\b", re.MULTILINE)
"""A block that needs a library that the tests' environment does not have; `make test-adapters` runs some of them."""
RESULT = re.compile(r"print\(.*\)  # ([\d(\[-][^a-zA-Z:;\n]*)")
QUICK = {
    "train": ["--steps", "3", "--batch", "4", "--seq-len", "8", "--hidden", "8"],
    "--resume": ["--steps", "6"],
    "--init-from": ["--steps", "3", "--batch", "2", "--seq-len", "8"],
    "fit": ["--epochs", "2", "--hidden", "4"],
    "gradient-flow": ["--steps", "2", "--lag", "5", "--hidden", "4", "--seeds", "1"],
}
"""What is added to a command that has such an argument. The last of several values of an option holds."""


class Block(NamedTuple):
    language: str
    code: str
    line: int


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = [Block(block[1], block[2], text[: block.start()].count("\n") + 1) for block in BLOCK.finditer(text)]
    assert text.count("```") == 2 * len(found), "a block that is not closed, or that has no language"
    assert {block.language for block in found} <= {"python", "console", "text"}
    return found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, but for the files of the repository that examples name."""
    monkeypatch.chdir(tmp_path)
    for name in ("tests", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    tg.manual_seed(0)
    return tmp_path


def execute(block: Block, page: Path, namespace: dict[str, Any]) -> None:
    """Runs a block; what `print(...)  # (2, 5)` says of its result must be printed."""
    code = "\n" * block.line + block.code  # line numbers as in the page, so that a traceback says where
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(code, str(page), "exec"), namespace)
    for said in RESULT.findall(block.code):
        assert said.strip(" ,") in printed.getvalue(), f"{page.name}: {said!r} is not printed"


@pytest.mark.parametrize("block", [b for b in blocks(README) if b.language == "python"], ids=lambda b: str(b.line))
def test_each_block_of_readme_runs_alone(block: Block, folder: Path) -> None:
    execute(block, README, {"__name__": "readme"})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT / "docs").as_posix())
def test_blocks_of_a_page_run_in_order(page: Path, folder: Path) -> None:
    namespace: dict[str, Any] = {"__name__": page.stem}
    for block in blocks(page):
        needed = NEEDS.search(block.code)
        if block.language == "python" and (needed is None or importlib.util.find_spec(needed[1])):
            execute(block, page, namespace)


@pytest.mark.parametrize("page", [README, *PAGES], ids=lambda page: page.relative_to(ROOT).as_posix())
def test_statements_can_be_pasted_at_a_prompt(page: Path) -> None:
    """The prompts before Python 3.13 end a loop at an empty line, and only there.

    Classes have empty lines within, as README says, except in the tutorial, which is to be pasted.
    """
    for block in blocks(page):
        if block.language != "python":
            continue
        lines = [*block.code.splitlines(), ""]
        for node in ast.parse(block.code).body:
            if hasattr(node, "body") and (page.name == "tutorial.md" or not isinstance(node, ast.ClassDef)):
                last = node.end_lineno or node.lineno
                assert all(lines[node.lineno : last]), f"line {block.line + node.lineno}: an empty line within"
                assert not lines[last], f"line {block.line + last}: no empty line after"


# -- commands ----------------------------------------------------------------------------------------------------------


def commands(page: Path) -> Iterator[list[str]]:
    for block in blocks(page):
        if block.language == "console":
            for line in re.findall(r"^\$ (.+)", block.code, re.MULTILINE):
                yield from (shlex.split(command, comments=True) for command in line.split(" && "))


@pytest.mark.parametrize(
    "page",
    [page for page in (README, *ROOT.glob("*/README.md"), *PAGES) if any(commands(page))],
    ids=lambda page: page.relative_to(ROOT).as_posix(),
)
def test_commands_of_a_page_run_in_order(page: Path, folder: Path) -> None:
    environment = {}
    for command in commands(page):
        match command:
            case ["tinygrad-lstm", *arguments]:
                given = prepared(arguments, folder)
                result = run(*given, cwd=folder, **environment) if environment else run_here(*given, cwd=folder)
                assert result.returncode == 0, f"{shlex.join(command)}: {result.stderr}"
            case ["export", setting]:
                name, _, value = setting.partition("=")
                environment[name] = str(folder / Path(value).name)
            case ["make", target, *_]:
                assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
            case [pip, "install", package] if pip.endswith("pip"):
                extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
                named = set(filter(None, re.sub(r"^\.\[?|\]$", "", package).split(",")))
                assert named <= extras["optional-dependencies"].keys()
            case ["mpiexec", *_]:
                pass  # as tests/distributed does
            case ["python", program]:
                assert (ROOT / program).exists()  # it has a test of its own
            case ["python3", "-m", "venv", ".venv"]:
                pass
            case _:
                raise AssertionError(f"{page.name}: a command that is not tried: {shlex.join(command)}")


def prepared(arguments: list[str], folder: Path) -> list[str]:
    """A command's arguments for a quick run, and the files that they name."""
    for name in arguments:
        if name.endswith(".txt"):
            (folder / name).write_text(TEXT + TEXT.title(), encoding="utf-8")
        elif name.endswith(".csv") and not (folder / name).exists():
            (folder / name).write_text("ids\n3\n1\n2\n", encoding="utf-8")
        elif name.startswith("runs/") and name.endswith(".safetensors") and not (folder / name).exists():
            run("train", "--out", str(Path(name).parent), *QUICK["train"], cwd=folder)
    quick = [options for argument, options in QUICK.items() if argument in arguments]
    return [*arguments, *(quick[-1] if quick else []), *(["--trials", "2"] if "search" in arguments else [])]
