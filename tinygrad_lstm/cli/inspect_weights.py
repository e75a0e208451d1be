"""`tinygrad-lstm inspect-weights`."""

from typing import Annotated

import typer

from ..io import load_weights
from ..io.recognition import Recognised, recognised
from ..printable import printable
from .shared import path_option

__all__ = ["inspect_weights"]

WIDEST = 80  # characters of a column; only rows with longer cells exceed it


def inspect_weights(
    file: Annotated[str, typer.Argument(help="A file of weights: safetensors, PyTorch, Keras, ONNX, NumPy.")],
) -> None:
    """List the arrays of a file of weights, and the recurrent layers among them."""
    weights = load_weights(path_option("FILE", file))
    rows = [
        (printable(name), " × ".join(map(str, a.shape)) or "a number", weights.types.get(name, str(a.dtype)))
        for name, a in weights.items()
    ]
    widths = [min(max(map(len, column)), WIDEST) for column in zip(*rows, strict=True)] if rows else []
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    size, nbytes = sum(array.size for array in weights.values()), sum(array.nbytes for array in weights.values())
    print(f"{len(weights):,} array{'' if len(weights) == 1 else 's'}, {size:,} numbers, {nbytes / 1e6:,.2f} MB")
    found = [_line(each) for each in recognised(weights)]
    print("\n".join(["recurrent layers:", *found] if found else ["no recurrent layers are recognised"]))


def _line(found: Recognised) -> str:
    called = f" ({printable(found.name)})" if found.name not in ("", found.prefix) else ""
    return f"  {printable(found.prefix) or '(at the top)'}{called}: {_described(found)}"


def _described(found: Recognised) -> str:
    if found.network is None:
        return printable(found.reason)
    return f"{found.network}, by {found.kind}.from_{found.framework}(weights, prefix={found.prefix!r})"
