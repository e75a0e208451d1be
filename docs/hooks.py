"""What the site has beside the pages in docs/: the files of the repository that they link to, the API, the live cell.

MkDocs calls the functions `on_...`, and griffe, which reads the docstrings, the extension (`mkdocs.yml`).
"""

import ast
import importlib
import inspect
import json
import pkgutil
import re
import shutil
import textwrap
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath
from typing import Any

import griffe
import typer
from live import live_page
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from typer.core import TyperGroup
from typer.testing import CliRunner

import tinygrad_lstm
from tinygrad_lstm.cli import app

ROOT = Path(__file__).parent.parent
LAB = ROOT / "build" / "lab"
TORCH_NAMES = ROOT / "tests" / "golden" / "torch_names.json"

LINK = re.compile(r"\]\(([^)\s#:]+)(#[^)\s]*)?\)")
NAMES = re.compile(r"^\[\[names of ([\w.]+)(?: in ([\w.]+))?\]\]$", re.MULTILINE)
TO_LAB = re.compile(r"^<a [^>]*lab/index\.html.*\n", re.MULTILINE)
COMMANDS = "[[commands]]"
SAME_AS_TORCH = "[[the same names as torch]]"
DOCTEST = re.compile(r"^( *)>>> .*(?:\n.*\S.*)*", re.MULTILINE)
LANGUAGES = {".py": "python", ".cu": "cuda", ".cuh": "cuda", ".c": "c", ".h": "c"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the files that programs write: pages of the repository's files that are linked to, and the live cell."""
    found: dict[str, str] = {}
    waiting = [_origin(uri) for uri in re.findall(r"source/[^'\"]+", str(config.nav))]
    waiting += [path for page in files.documentation_pages() for path in _linked(page.content_string, page.src_uri)]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found[path] = _page(ROOT / path)
            waiting += _linked(found[path], _uri(path)) if _is_prose(path) else []
    for path, content in found.items():
        files.append(File.generated(config, _uri(path), content=content))
    page, unit = live_page()
    config.extra["remembering_unit"] = unit
    files.append(File.generated(config, "live.html", content=page))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Leads links to the repository's files to their pages, and writes out what is asked for in double brackets."""
    here = page.file.src_uri
    if _is_prose(_origin(here)):
        markdown = LINK.sub(lambda found: f"]({_target(found[1], here)}{found[2] or ''})", markdown)
    markdown = markdown.replace("unit=remembering", f"unit={config.extra['remembering_unit']}")
    markdown = NAMES.sub(lambda found: _names(found[1], found[2] or found[1]), markdown)
    markdown = markdown if LAB.is_dir() else TO_LAB.sub("", markdown)
    for asked, written in ((COMMANDS, _commands), (SAME_AS_TORCH, _same_as_torch)):
        markdown = markdown.replace(asked, written()) if asked in markdown else markdown
    return markdown


def on_post_build(config: MkDocsConfig) -> None:
    """Puts the laboratory into the site, if `make lab` has built it."""
    if LAB.is_dir():
        shutil.copytree(LAB, Path(config.site_dir) / "lab", dirs_exist_ok=True)


class Docstrings(griffe.Extension):
    """Shows examples as code, and the types of properties; leaves out values, and the methods that are ops."""

    def on_class_members(self, *, cls: griffe.Class, **_: Any) -> None:
        # `typing` adds aliases to protocols. Ops that are functions and methods have their docstrings in ops.md.
        cls.members = {
            name: member
            for name, member in cls.members.items()
            if not member.is_alias
            or (member.target_path.startswith("tinygrad_lstm.") and not hasattr(tinygrad_lstm, name))
        }

    def on_instance(self, *, node: griffe.ObjectNode, obj: griffe.Object, **_: Any) -> None:
        if isinstance(obj, griffe.Attribute):
            if isinstance(node.obj, property):
                obj.annotation = inspect.formatannotation(inspect.signature(node.obj.fget).return_annotation)
            else:
                obj.docstring = None  # that of the value's type
        if obj.docstring:
            obj.docstring.value = DOCTEST.sub(_fenced, inspect.cleandoc(obj.docstring.value))


def _fenced(example: re.Match[str]) -> str:
    return f"```pycon\n{textwrap.dedent(example[0])}\n```"


# -- pages of the repository's files -----------------------------------------------------------------------------------


def _uri(path: str) -> str:
    """Where the site has a file of the repository: a page of its text, or a notebook to download."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return f"source/{path}" if path.endswith(".ipynb") else f"source/{path}.md"


def _origin(uri: str) -> str:
    """The file of the repository that a page of the site shows."""
    return uri.removeprefix("source/").removesuffix(".md") if uri.startswith("source/") else f"docs/{uri}"


def _is_prose(path: str) -> bool:
    return path.endswith(".md") or (ROOT / path).is_dir()


def _target(link: str, uri: str) -> str:
    """A link of a page, as a path within the site."""
    path = _resolved(link, uri)
    return link if path is None else relpath(_uri(path), PurePosixPath(uri).parent)


def _linked(markdown: str, uri: str) -> Iterator[str]:
    """The files outside docs/ that a page links to."""
    for found in LINK.finditer(markdown):
        path = _resolved(found[1], uri)
        if path is not None and not path.startswith("docs/"):
            yield path


def _resolved(link: str, uri: str) -> str | None:
    """The file or folder of the repository that a page links to; None if it is a page that MkDocs knows by itself."""
    origin = PurePosixPath(_origin(uri))
    path = normpath((origin if (ROOT / origin).is_dir() else origin.parent) / link)
    if path.startswith("docs/") and uri == _origin(uri).removeprefix("docs/"):
        return None
    if not (ROOT / path).exists():
        raise PluginError(f"{origin} links to {link}, which is not a file of the repository")
    return path


def _page(path: Path) -> str:
    """A file, or what is in a folder, as a page that the site's search leaves out."""
    name = path.relative_to(ROOT).as_posix()
    if path.suffix == ".ipynb":
        return path.read_text(encoding="utf-8")
    if path.is_dir():
        shown = "\n".join(f"- [{file.name}]({file.name}) {_summary(file)}" for file in _sources(path))
        text = f"# {name}/\n\n{shown}\n"
    elif path.suffix == ".md":
        text = path.read_text(encoding="utf-8")
    else:
        code = path.read_text(encoding="utf-8")
        text = f'# {name}\n\n````{LANGUAGES.get(path.suffix, "text")} linenums="1"\n{code.rstrip()}\n````\n'
    return f"---\ntitle: {name}\nsearch:\n  exclude: true\n---\n\n{text}"


def _sources(folder: Path) -> list[Path]:
    """The folders, then the sources, in a folder."""
    inside = (path for path in folder.iterdir() if not path.is_symlink())
    folders = {path: any(path.rglob("*.py")) or any(path.rglob("*.c")) for path in inside if path.is_dir()}
    files = (path for path in folder.iterdir() if path.suffix in LANGUAGES)
    return [*sorted(path for path, holds in folders.items() if holds and path.name != "__pycache__"), *sorted(files)]


def _summary(path: Path) -> str:
    """The first line of a module's docstring."""
    module = path / "__init__.py" if path.is_dir() else path
    if module.suffix != ".py" or not module.exists():
        return ""
    return (ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or "").partition("\n")[0]


# -- the API -----------------------------------------------------------------------------------------------------------


def _names(module: str, public: str) -> str:
    """The public names of a module, each with its docstring, under the name by which users reach it."""
    found = importlib.import_module(module)
    names = sorted((name for name in found.__all__ if callable(getattr(found, name))), key=str.lower)
    return "\n\n".join(f"::: {public}.{name}" for name in names)


def _commands() -> str:
    """What `--help` prints for each command."""
    command = typer.main.get_command(app)
    assert isinstance(command, TyperGroup)
    runner = CliRunner(env={"COLUMNS": "96"})
    names = [name for name, each in command.commands.items() if not each.hidden]
    helps = {name: runner.invoke(app, [name, "--help"], prog_name="tinygrad-lstm").output for name in names}
    return "\n\n".join(f"## {name}\n\n```text\n{text.strip()}\n```" for name, text in helps.items())


def _same_as_torch() -> str:
    """A table of PyTorch's names that are the same here, each with a link to its docstring."""
    rows, listed = ["| module | names |", "| --- | --- |"], set[str]()
    for module, names in json.loads(TORCH_NAMES.read_text(encoding="utf-8")).items():
        here = module.replace("torch", "tinygrad_lstm").removesuffix(".nn.functional")
        entries = []
        for name in names:
            is_function = here == "tinygrad_lstm.Tensor" and callable(getattr(tinygrad_lstm, name, None))
            link = f"[`{name}`][{'tinygrad_lstm' if is_function else here}.{name}]"
            if callable(getattr(pkgutil.resolve_name(here), name, None)) and link not in listed:
                entries.append(link)
        listed.update(entries)
        rows.append(f"| `{module}` | {' '.join(entries)} |")
    return "\n".join(rows)
