"""Runs the examples, each in an empty folder, and keeps what the repository shows of them.

    python .ci/examples.py pictures     # docs/pictures/NAME.png of each example, and of the page of `fit`
    python .ci/examples.py notebooks    # examples/NAME.ipynb of two of them, with their outputs

A notebook is its program: the docstring and the comments that begin with `# %%` become text, and the lines between them
code. Before a program that takes a file, a cell of its own sets `sys.argv`, which in a notebook is Jupyter's.
"""

import ast
import os
import re
import subprocess
import sys
import tempfile
from base64 import b64decode, b64encode
from io import BytesIO
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROGRAMS = sorted((ROOT / "examples").glob("*.py"))
NOTEBOOKS = ("own_cell", "own_text")
ARGUMENTS = 'import sys\n\nsys.argv = ["{name}.py"]  # or ["{name}.py", "book.txt"], a text of yours'


def smaller(png: bytes) -> bytes:
    """A picture with a palette, which takes a third of the space if there are few colours."""
    from PIL import Image

    with Image.open(BytesIO(png)) as picture:
        kept = BytesIO()
        picture.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
            kept, "png", optimize=True
        )
    return kept.getvalue()


def make_pictures() -> None:
    for program in PROGRAMS:
        with tempfile.TemporaryDirectory() as folder:
            print(f"{program.name} ...", flush=True)
            environment = {**os.environ, "MPLBACKEND": "agg"}
            subprocess.run([sys.executable, program], cwd=folder, env=environment, check=True)
            picture = smaller(Path(folder, f"{program.stem}.png").read_bytes())
        (ROOT / "docs" / "pictures" / f"{program.stem}.png").write_bytes(picture)
    make_picture_of_fit()


def make_picture_of_fit() -> None:
    """The page that `tinygrad-lstm fit` writes about the recordings of an example, as Chromium shows it."""
    roles = ["--id", "recording", "--time", "t", "--target", "gesture"]
    with tempfile.TemporaryDirectory() as folder:
        print("fit ...", flush=True)
        command = [sys.executable, "-m", "tinygrad_lstm", "fit", "classify", ROOT / "examples" / "gestures.csv", *roles]
        subprocess.run([*command, "--threads", "1", "--out", folder], check=True, stdout=subprocess.DEVNULL)
        options = [
            "--headless",
            "--no-sandbox",
            "--hide-scrollbars",
            "--window-size=1160,812",
            "--virtual-time-budget=3000",
        ]
        shot = Path(folder, "page.png")
        subprocess.run(
            ["chromium", *options, f"--screenshot={shot}", Path(folder, "page.html").as_uri()],
            check=True,
            stderr=subprocess.DEVNULL,
        )
        (ROOT / "docs" / "pictures" / "fit.png").write_bytes(smaller(shot.read_bytes()))


def cells_of(source: str) -> list[tuple[str, str]]:
    """The cells of a program's notebook: their kinds, "markdown" or "code", and contents."""
    docstring = ast.get_docstring(ast.parse(source)) or ""
    cells = [("markdown", docstring)]
    beginning, *sections = re.split(r"^# %% ", source.partition('"""\n\n')[2], flags=re.MULTILINE)
    cells.append(("code", beginning.strip()))
    for section in sections:
        lines = section.splitlines()
        comments = next(k for k, line in enumerate(lines) if k and not line.startswith("# "))
        cells.append(("markdown", " ".join(line.removeprefix("# ") for line in lines[:comments])))
        cells.append(("code", "\n".join(lines[comments:]).strip()))
    return cells


def make_notebooks() -> None:
    import nbformat
    from nbclient import NotebookClient

    for name in NOTEBOOKS:
        print(f"{name}.ipynb ...", flush=True)
        source = (ROOT / "examples" / f"{name}.py").read_text(encoding="utf-8")
        cells = cells_of(source)
        if "sys.argv" in source:
            cells.insert(1, ("code", ARGUMENTS.format(name=name)))
        make = {"markdown": nbformat.v4.new_markdown_cell, "code": nbformat.v4.new_code_cell}
        made = [make[kind](content, id=f"{name}-{k}") for k, (kind, content) in enumerate(cells)]
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        notebook = nbformat.v4.new_notebook(cells=made, metadata={"kernelspec": kernel})
        with tempfile.TemporaryDirectory() as folder:
            NotebookClient(
                notebook, record_timing=False, coalesce_streams=True, resources={"metadata": {"path": folder}}
            ).execute()
        for output in (output for cell in notebook.cells for output in cell.get("outputs", ())):
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = b64encode(smaller(b64decode(output.data["image/png"]))).decode()
        notebook.metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
        nbformat.write(notebook, ROOT / "examples" / f"{name}.ipynb")


if __name__ == "__main__":
    {"pictures": make_pictures, "notebooks": make_notebooks}[sys.argv[1]]()
