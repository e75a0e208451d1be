"""Read the golden reference values: `from golden.load import load, options`.

`make_golden.py` and `atlas/make.py` write them.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

FOLDER = Path(__file__).parent


def load(name: str, case: str = "") -> dict[str, np.ndarray]:
    """Arrays of the golden file `name` (without suffix), each under its key `case/array`.

    With `case`, only that case's arrays, under `array` alone.
    Raises FileNotFoundError for an unknown file and KeyError for an unknown case.

    >>> load("cells", "lstm")["weight_ih"].shape
    (16, 3)
    """
    prefix = f"{case}/" if case else ""
    with safe_open(FOLDER / f"{name}.safetensors", framework="numpy") as file:
        keys = [key for key in file.offset_keys() if key.startswith(prefix)]
        arrays = {key.removeprefix(prefix): file.get_tensor(key) for key in keys}
    if not arrays:
        raise KeyError(f"golden file {name!r} has no case {case!r}; its cases: {', '.join(options(name))}")
    return arrays


def options(name: str) -> dict[str, dict[str, Any]]:
    """Every case of the golden file `name`, in order, with the settings that it was made with.

    >>> options("schedules")["step"]["kwargs"]
    {'step_size': 7, 'gamma': 0.5}
    """
    with safe_open(FOLDER / f"{name}.safetensors", framework="numpy") as file:
        cases: dict[str, dict[str, Any]] = json.loads(file.metadata()["options"])
    return cases
