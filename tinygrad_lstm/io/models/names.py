"""The names that the tensors and layers of a file have in the module that is made of them."""

import keyword
import re
import unicodedata
from collections.abc import Iterable

from ...nn import Module

__all__ = ["attribute_names", "batches_of", "free_name", "identifiers", "is_batch"]

_NOT_A_WORD = re.compile(r"\W")
_BETWEEN_MODULES = re.compile(r"[./]+|::")
MOST_MODULES = 32
"""The most modules within each other."""

_OF_LOADED = (
    *("body", "compute", "example_inputs", "free_lengths", "input_names", "inputs", "output_names", "states", "stream"),
    *(
        "title",
        "_attributes",
        "_check_shapes",
        "_check_time",
        "_constants",
        "_example_shapes",
        "_examples",
        "_file_dtype",
        "_getters",
    ),
    *("_given", "_like", "_lines", "_made", "_own_values", "_run", "_shapes", "_size"),
)
"""The attributes of `loaded.Loaded` that `Module` does not have."""

_TAKEN = frozenset((*dir(Module), *_OF_LOADED))


def attribute_names(names: Iterable[str]) -> dict[str, str]:
    """The dotted attribute name of each parameter, constant and layer of a file.

    A dot, a slash or a double colon in a name separates modules, so `model.encoder` has what the file calls
    "encoder.weight" or "encoder/weight". Any other character that an attribute cannot have becomes "_". "_" is
    appended to a name that the module uses itself, or that is also the beginning of a longer name ("lstm" beside
    "lstm.weight"), and "_2", "_3", ... to a name that another one has already. At most
    32 modules are within each other.

    >>> attribute_names(["onnx::MatMul_12", "/rnn/LSTM", "lstm", "lstm.weight", "my layer", "my-layer", "train"])
    ... # doctest: +NORMALIZE_WHITESPACE
    {'onnx::MatMul_12': 'onnx.MatMul_12', '/rnn/LSTM': 'rnn.LSTM', 'lstm': 'lstm_', 'lstm.weight': 'lstm.weight',
     'my layer': 'my_layer', 'my-layer': 'my_layer_2', 'train': 'train_'}
    """
    wanted = {name: _wanted(name) for name in names}
    modules = {".".join(parts[:end]) for parts in wanted.values() for end in range(1, len(parts))}
    found: dict[str, str] = {}
    taken = dict.fromkeys(modules, 1)
    for name, parts in wanted.items():
        stem = ".".join(parts)
        found[name] = free_name(f"{stem}_" if stem in modules else stem, taken)
    return found


def free_name(name: str, taken: dict[str, int]) -> str:
    """This name, with a number if it is taken; it is taken afterwards.

    Args:
        taken: for each name that is taken, the last number after it.
    """
    free = name
    while free in taken:
        taken[name] += 1
        free = f"{name}_{taken[name]}"
    taken[free] = 1
    return free


def _wanted(name: str) -> list[str]:
    parts = [part for part in _BETWEEN_MODULES.split(name.strip("./"), MOST_MODULES) if part] or ["unnamed"]
    fit = [_NOT_A_WORD.sub("_", part) for part in parts]
    return [f"{part}_" if part in _TAKEN else part for part in fit]


def identifiers(names: Iterable[str]) -> list[str]:
    """The names of inputs or outputs as Python's: of arguments, and of the fields of a named tuple.

    Characters that a name cannot have become "_"; a number is appended to a name that is there already.

    >>> identifiers(["input.1", "h0", "class", "1", "input_1", "x²"])
    ['input_1', 'h0', 'class_', 'n1', 'input_1_2', 'x2']
    """
    found: dict[str, int] = {}
    for name in names:
        normal = unicodedata.normalize("NFKC", name)  # as Python reads a name in a program
        fit = "".join(letter if f"n{letter}".isidentifier() else "_" for letter in normal).strip("_") or "unnamed"
        if not fit[0].isidentifier():
            fit = unicodedata.normalize("NFKC", f"n{fit}")
        if keyword.iskeyword(fit) or fit == "self":
            fit += "_"
        free_name(fit, found)
    return list(found)


def is_batch(length: str) -> bool:
    """Whether the name of a free length is that of the batch."""
    return "batch" in length.lower() or length in ("N", "B", "n", "b")


def batches_of(lengths: Iterable[str]) -> list[str]:
    """The names that are those of batches. "N" beside "batch" may be a number of samples."""
    named = [length for length in lengths if is_batch(length)]
    return [length for length in named if "batch" in length.lower()] or named
