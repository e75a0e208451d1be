"""What is built and installed: the wheel, the sdist, the metadata, and what importing the package costs."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable
from email.message import Message
from email.parser import Parser
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import safetensors

import tinygrad_lstm as tg

CHECKOUT = Path(__file__).resolve().parent.parent
# Where each top-level folder of the checkout is installed.
FOLDERS = {
    "tinygrad_lstm": "tinygrad_lstm",
    "backends": "tinygrad_lstm/backends",
    "models": "tinygrad_lstm/models",
}
# Folders holding the runtime dependencies that `import tinygrad_lstm` may use.
SITE_PACKAGES = sorted({str(Path(module.__file__ or "").parent.parent) for module in (np, safetensors)})

# Prints the files of the three folders' packages, and then what else of the checkout can be imported with them.
PRINT_FILES = f"""
import importlib.util
import tinygrad_lstm, tinygrad_lstm.backends, tinygrad_lstm.models
for module in (tinygrad_lstm, tinygrad_lstm.backends, tinygrad_lstm.models):
    print(module.__file__)
others = {sorted({path.stem for path in CHECKOUT.iterdir() if "." not in path.stem} - {"backends", "models"})}
print(*(name for name in others if importlib.util.find_spec("tinygrad_lstm." + name)))
"""


def imported_from(root: Path, folders: Iterable[str]) -> list[str]:
    """What `PRINT_FILES` prints where the three packages lie in these folders and nothing else is found."""
    return [*(str(root / folder / "__init__.py") for folder in folders), ""]


def source_files(pattern: str) -> set[str]:
    """Paths in the checkout, relative to it, of the files of the three folders that match `pattern`."""
    return {path.relative_to(CHECKOUT).as_posix() for folder in FOLDERS for path in (CHECKOUT / folder).rglob(pattern)}


def installed_name(source: str) -> str:
    folder, _, rest = source.partition("/")
    return f"{FOLDERS[folder]}/{rest}"


def run_python(code: str, *, cwd: Path, path: Iterable[str | Path] = (), no_site: bool = False) -> list[str]:
    """Lines that `code` prints in a fresh interpreter in `cwd`, with `path` as its PYTHONPATH.

    Without site, what is installed beside this interpreter (an editable install of this very project) is not seen.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, path))
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    command = [sys.executable, *(["-S"] if no_site else []), "-c", code]
    result = subprocess.run(
        command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


class Built(NamedTuple):
    """The sdist, and the wheel that was built from it."""

    sdist: Path
    wheel: Path

    def metadata(self) -> Message:
        with zipfile.ZipFile(self.wheel) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
            return Parser().parsestr(archive.read(name).decode())

    def unpack(self, folder: Path) -> Path:
        with zipfile.ZipFile(self.wheel) as archive:
            archive.extractall(folder)
        return folder


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Build from a copy of the sources: a build in the checkout would leave files, and could pick up stale ones."""
    copy = tmp_path_factory.mktemp("checkout")
    out = tmp_path_factory.mktemp("dist")
    for folder in FOLDERS:
        shutil.copytree(CHECKOUT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / file, copy / file)
    (copy / "tests").mkdir()
    shutil.copy(Path(__file__), copy / "tests")
    result = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", out, copy],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    (sdist,) = out.glob("*.tar.gz")
    (wheel,) = out.glob("*.whl")
    return Built(sdist, wheel)


def test_wheel_holds_one_top_level_package(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as archive:
        top = {name.partition("/")[0] for name in archive.namelist()}
    assert top == {"tinygrad_lstm", f"tinygrad_lstm-{tg.__version__}.dist-info"}


@pytest.mark.parametrize("pattern", ["*.py", "*.cu", "*.[ch]", "py.typed"])
def test_wheel_holds_every_file_of_the_three_folders(built: Built, pattern: str) -> None:
    with zipfile.ZipFile(built.wheel) as archive:
        packed = {name for name in archive.namelist() if Path(name).match(pattern)}
    assert packed == {installed_name(source) for source in source_files(pattern)}


def test_wheel_says_that_it_is_typed(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as archive:
        assert "tinygrad_lstm/py.typed" in archive.namelist()


def test_sdist_holds_what_a_build_needs(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    sources = set().union(*map(source_files, ("*.py", "*.cu", "*.[ch]", "py.typed")))
    assert {"pyproject.toml", "README.md", "LICENSE"} | sources <= packed
    # setuptools would take some of the tests' files by itself, without what these need.
    assert not [name for name in packed if name.startswith("tests/")]


def test_metadata(built: Built) -> None:
    metadata = built.metadata()
    assert metadata["Name"] == "tinygrad-lstm"
    assert metadata["Version"] == tg.__version__
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Requires-Python"] == ">=3.11"
    requirements = metadata.get_all("Requires-Dist", [])
    bounded = {"numpy>=2.0", "rich>=13.8", "safetensors>=0.4", "typer>=0.26"}
    assert {line for line in requirements if ";" not in line} == bounded
    extras = {line for line in requirements if ";" in line}
    assert {
        'matplotlib>=3.8.4; extra == "plot"',
        'onnx>=1.16; extra == "onnx"',
        'cupy-cuda12x[ctk]>=14; extra == "cuda12"',
        'cupy-cuda13x[ctk]>=14; extra == "cuda13"',
    } <= extras
    provided = {
        "mpi",
        "parquet",
        "search",
        "sktime",
        "aeon",
        "tensorboard",
        "plot",
        "onnx",
        "keras",
        "cuda12",
        "cuda13",
        "examples",
        "bench",
        "test",
        "docs",
        "dev",
    }
    assert set(metadata.get_all("Provides-Extra", [])) == provided


def test_wheel_is_imported_from_a_different_folder(built: Built, tmp_path: Path) -> None:
    site = built.unpack(tmp_path / "site")
    elsewhere = tmp_path / "elsewhere"
    # Folders of the same names, as a user's own project has them, shadow nothing.
    for folder in ("backends", "models"):
        (elsewhere / folder).mkdir(parents=True)
        (elsewhere / folder / "__init__.py").write_text("raise ImportError('the wrong one')\n")
    files = run_python(PRINT_FILES, cwd=elsewhere, path=[site, *SITE_PACKAGES], no_site=True)
    assert files == imported_from(site, FOLDERS.values())
    code = "import sys, tinygrad_lstm; print(tinygrad_lstm.__path__, 'tinygrad_lstm._checkout' in sys.modules)"
    assert run_python(code, cwd=elsewhere, path=[site]) == [f"{[str(site / 'tinygrad_lstm')]} False"]


USERS_SCRIPT = """
from typing import assert_type

import tinygrad_lstm as tg
from tinygrad_lstm.models import LSTM

x = tg.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
assert_type(x, tg.Tensor)
assert_type(tg.sum(x, dim=0), tg.Tensor)
assert_type(tg.softmax(x, dim=-1), tg.Tensor)
assert_type(tg.concat([x, x], dim=1), tg.Tensor)
assert_type(tg.dropout(x, 0.5), tg.Tensor)
assert_type(x.sum(dim=0), tg.Tensor)
assert_type(x @ x + 1.0, tg.Tensor)
tg.random.manual_seed(0)


@tg.op(x=lambda g: g * 2)
def twice(xp: object, x: tg.Array) -> tg.Array:
    return x * 2


assert_type(twice(x), tg.Tensor)
lstm = LSTM(2, 3)
out, (h, c) = lstm(x.unsqueeze(1))
tg.mse_loss(out, tg.zeros_like(out)).backward()
"""


def test_a_users_script_is_well_typed(built: Built, tmp_path: Path) -> None:
    site = built.unpack(tmp_path / "site")
    script = tmp_path / "script.py"
    script.write_text(USERS_SCRIPT)
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--cache-dir", tmp_path / "cache"]
    result = subprocess.run(
        [*command, "--config-file=", script],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(site)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    # What the type checker takes for right is what runs.
    run_python(USERS_SCRIPT, cwd=tmp_path, path=[site])


def test_checkout_is_imported_whole_where_a_wheel_is_installed(built: Built, tmp_path: Path) -> None:
    site = built.unpack(tmp_path / "site")
    files = run_python(PRINT_FILES, cwd=CHECKOUT, path=[site, *SITE_PACKAGES], no_site=True)
    assert files == imported_from(CHECKOUT, FOLDERS)


@pytest.mark.parametrize("installed", [False, True], ids=["on the path", "installed"])
@pytest.mark.parametrize("where", ["inside", "elsewhere"])
def test_checkout_is_imported_whole_and_nothing_else_of_it(installed: bool, where: str, tmp_path: Path) -> None:
    """By its editable install, which the tests run with, and with nothing installed."""
    cwd = CHECKOUT if where == "inside" else tmp_path
    path = [] if installed else ["." if where == "inside" else CHECKOUT, *SITE_PACKAGES]
    assert run_python(PRINT_FILES, cwd=cwd, path=path, no_site=not installed) == imported_from(CHECKOUT, FOLDERS)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A checkout that is called as the package, with the stubs that `make install` writes."""
    copy = tmp_path / "tinygrad_lstm"
    for folder in FOLDERS:
        shutil.copytree(CHECKOUT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__", "*.pyi"))
    shutil.copy(CHECKOUT / "pyproject.toml", copy)
    (copy / "tests").mkdir()
    subprocess.run([sys.executable, CHECKOUT / ".ci" / "stubs.py", copy], check=True)
    return copy


def test_checkout_is_imported_from_the_folder_above(copied: Path) -> None:
    """From there the checkout itself looks like a package of that name without an `__init__.py`."""
    path = [copied, *SITE_PACKAGES]
    assert run_python(PRINT_FILES, cwd=copied.parent, path=path, no_site=True) == imported_from(copied, FOLDERS)


CHECKOUTS_TYPES = """
import tinygrad_lstm as tg
import tinygrad_lstm.cli  # leads to every other module
from tinygrad_lstm.backends import numpy_backend
from tinygrad_lstm.models import LSTM
from tinygrad_lstm.models.networks import GRU

lstm: tg.models.LSTM = LSTM(2, 3)
reveal_type(lstm)
reveal_type(GRU(2, 3).stream())
reveal_type(numpy_backend.NumpyBackend())
reveal_type(tg.sum(tg.zeros(2, 3)))
reveal_type(tg.inspect.trace(lstm, tg.zeros(4, 1, 2)))
reveal_type(tg.train.TrainingOptions())
"""
REVEALED = [
    "models.networks.LSTM",
    "models.streaming.Stream",
    "backends.numpy_backend.NumpyBackend",
    "tinygrad_lstm._tensor.Tensor",
    "tinygrad_lstm.inspect.layers.Trace",
    "tinygrad_lstm.train.options.TrainingOptions",
]


def test_checkout_is_well_typed_without_a_build(copied: Path) -> None:
    """Every import of every module is found, and by whatever name a class is imported, it is one class."""
    (copied / "script.py").write_text(CHECKOUTS_TYPES)
    result = subprocess.run(
        [sys.executable, "-m", "mypy", "--cache-dir", copied / "cache", "script.py"],
        cwd=copied,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.findall(r'Revealed type is "(.*)"', result.stdout) == REVEALED


def test_installed_package_puts_nothing_else_on_the_import_path(tmp_path: Path) -> None:
    code = """
import importlib.util
import tinygrad_lstm.models
print([name for name in ("backends", "models", "tests") if importlib.util.find_spec(name)])
"""
    assert run_python(code, cwd=tmp_path) == ["[]"]


def test_import_loads_nothing_heavy(tmp_path: Path) -> None:
    unwanted = (
        "cupy",
        "matplotlib",
        "typer",
        "rich",
        "tinygrad_lstm.inspect",
        "tinygrad_lstm.models",
        "tinygrad_lstm.train",
    )
    code = f"""
import sys
import tinygrad_lstm
print([name for name in {unwanted} if name in sys.modules])
"""
    assert run_python(code, cwd=tmp_path, path=[CHECKOUT]) == ["[]"]
