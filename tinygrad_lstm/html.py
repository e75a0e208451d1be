"""HTML for notebooks, without colours, so that it suits light and dark pages."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import numpy as np

__all__ = ["preformatted", "table", "tensor_html"]

_LEFT, _RIGHT = "text-align: left; white-space: pre", "text-align: right"


def preformatted(text: str) -> str:
    """Preformatted text, in a monospaced font."""
    return f"<pre>{escape(text)}</pre>"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """A table. The first `left` columns are strings, which keep their spaces; the others are numbers.

    >>> table(["name", "size"], [["  a<b", "3"]]).count("a&lt;b")
    1
    """
    lines = [("th", header), *(("td", row) for row in rows)]
    return "\n".join(["<table>", *(f"<tr>{_cells(tag, row, left)}</tr>" for tag, row in lines), "</table>"])


def _cells(tag: str, row: Sequence[str], left: int) -> str:
    return "".join(
        f'<{tag} style="{_LEFT if k < left else _RIGHT}">{escape(text)}</{tag}>' for k, text in enumerate(row)
    )


def tensor_html(tensor: Any) -> str:
    """A tensor's shape, dtype, device and gradient, and its values, abbreviated if there are many."""
    gradient = "not required"
    if tensor.requires_grad:
        state = "is None" if tensor.grad is None else "is there"
        gradient = (
            f"required, .grad {state}" if tensor.is_leaf else f"required, made by op {tensor._graph_node().op.name}"
        )
    facts = [str(tensor.shape), str(tensor.dtype), str(tensor.device), gradient]
    values = np.array2string(tensor.detach().cpu().numpy(), separator=", ", threshold=200)
    return table(["shape", "dtype", "device", "gradient"], [facts], left=len(facts)) + preformatted(values)
