"""Text in columns."""

from collections.abc import Sequence

__all__ = ["aligned"]


def aligned(rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Rows of cells as lines: the first `left` columns flush left, the others, numbers, flush right.

    >>> print(aligned([["gate", "mean"], ["f", "0.731"]]))
    gate   mean
    f     0.731
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]

    def placed(column: int, cell: str) -> str:
        return cell.ljust(widths[column]) if column < left else cell.rjust(widths[column])

    return "\n".join("  ".join(placed(*cell) for cell in enumerate(row)).rstrip() for row in rows)
