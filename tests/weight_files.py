"""Damaged files of weights: what reading them may do."""

from pathlib import Path

from tinygrad_lstm.io import Weights, load_weights


def check_read_or_refused(path: Path, content: bytes, times_as_large: int) -> None:
    """Checks that a file of this content is read, as arrays not much larger than it, or refused in a line naming it."""
    path.write_bytes(content)
    try:
        weights = load_weights(path)
    except ValueError as error:
        assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
    else:
        assert isinstance(weights, Weights)
        assert sum(array.nbytes for array in weights.values()) <= times_as_large * len(content)
