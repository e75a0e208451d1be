"""`tinygrad-lstm inspect-weights`."""

from typing import Annotated

import typer

from ..io import load_weights
from ..io.recognition import Recognised, recognised
from .shared import path_option

__all__ = ["inspect_weights"]


def inspect_weights(
    file: Annotated[str, typer.Argument(help="A file of weights: safetensors, PyTorch, Keras, ONNX, NumPy.")],
) -> None:
    """List what a file of weights holds, and the recurrent layers among it."""
    weights = load_weights(path_option("FILE", file))
    rows = [
        (_shown(name), " × ".join(map(str, a.shape)) or "a number", weights.types.get(name, str(a.dtype)))
        for name, a in weights.items()
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)] if rows else []
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    size, nbytes = sum(array.size for array in weights.values()), sum(array.nbytes for array in weights.values())
    print(f"{len(weights):,} array{'' if len(weights) == 1 else 's'}, {size:,} numbers, {nbytes / 1e6:,.2f} MB")
    found = recognised(weights)
    print("recurrent layers:" if found else "no recurrent layers are recognised")
    for each in found:
        called = f" ({_shown(each.name)})" if each.name not in ("", each.prefix) else ""
        print(f"  {_shown(each.prefix) or '(at the top)'}{called}: {_described(each)}")


def _described(found: Recognised) -> str:
    if found.network is None:
        return _shown(found.reason)
    return f"{found.network}, by {found.kind}.from_{found.framework}(weights, prefix={_shown(found.prefix)!r})"


def _shown(text: str) -> str:
    """A file's text as a terminal may show it: without what would control it."""
    return "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in text)
