"""Prints the oldest version of each dependency that pyproject.toml allows, as requirements for pip.

Those are the lower bounds of the requirements, of the extras that the tests use, and of the tests' own tools where they
have one. The build's requirements and CuPy, which needs a GPU, are left out.
"""

import re
import tomllib
from pathlib import Path

EXTRAS = ("onnx", "plot", "search", "test")
LEFT_OUT = ("setuptools",)

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
lines = [*project["dependencies"], *(line for extra in EXTRAS for line in project["optional-dependencies"][extra])]
for line in lines:
    match = re.fullmatch(r"([\w-]+)>=([\w.]+)", line)
    if match and match[1] not in LEFT_OUT:
        print(f"{match[1]}=={match[2]}")
