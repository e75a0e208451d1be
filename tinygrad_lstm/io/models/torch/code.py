"""The code of a TorchScript archive, parsed: the classes of its modules, and functions. It is never run.

TorchScript's language is a subset of Python's, and so Python's parser reads it.

Reference: PyTorch's `torch/csrc/jit/serialization/python_print.cpp`.
"""

import ast
import warnings
from dataclasses import dataclass, field
from typing import Any

from ...archive import Archive
from ...errors import ContentError, shown

__all__ = ["Class", "Code", "traced_settings"]

SMALLEST_LIMIT = 2**20  # bytes of code that even a small archive may have
LONGEST_LINE = 2**16


@dataclass(frozen=True)
class Class:
    """A module's class.

    Attributes:
        settings: its constants by name: the values of its lines `name : Final[type] = value`.
        methods: its methods by name.
        parameters: the names of its parameters; other tensors are buffers.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    methods: dict[str, ast.FunctionDef] = field(default_factory=dict)
    parameters: set[str] = field(default_factory=set)


class Code:
    """The code of an archive; each file is parsed when it is first needed.

    Args:
        archive: the archive.
        folder: the folder within the archive that contains everything.
    """

    def __init__(self, archive: Archive, folder: str) -> None:
        self._archive = archive
        self._folder = folder
        self._room = max(archive.file_size, SMALLEST_LIMIT)
        self._files: dict[str, dict[str, ast.stmt]] = {}
        self._classes: dict[str, Class] = {}

    def class_of(self, name: str) -> Class:
        """The class of a dotted name, such as `__torch__.torch.nn.modules.linear.Linear`; an empty one if unknown.

        Raises:
            ContentError: its file is damaged or too large.
        """
        if name not in self._classes:
            node = self._node(name)
            self._classes[name] = _class(node) if isinstance(node, ast.ClassDef) else Class()
        return self._classes[name]

    def function(self, name: str) -> ast.FunctionDef | None:
        """The function of a dotted name, or None.

        Raises:
            ContentError: its file is damaged or too large.
        """
        node = self._node(name)
        return node if isinstance(node, ast.FunctionDef) else None

    def _node(self, name: str) -> ast.stmt | None:
        module, _, last = name.rpartition(".")
        if module not in self._files:
            path = f"{self._folder}/code/{module.replace('.', '/')}.py"
            self._files[module] = self._parsed(path) if path in self._archive.names else {}
        return self._files[module].get(last)

    def _parsed(self, path: str) -> dict[str, ast.stmt]:
        self._room -= self._archive.size(path)
        if self._room < 0:
            raise ContentError("its code unpacks to more than the whole file")
        content = bytes(self._archive.read(path))
        if max(map(len, content.split(b"\n"))) > LONGEST_LINE:
            raise ContentError(f"refuses {shown(path)}, which has a line of more than {LONGEST_LINE} bytes")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(content)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise ContentError(f"damaged: {shown(path)} cannot be parsed") from error
        return {node.name: node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}


def _class(node: ast.ClassDef) -> Class:
    found = Class()
    for each in node.body:
        if isinstance(each, ast.FunctionDef):
            found.methods[each.name] = each
        elif isinstance(each, ast.Assign) and ast.unparse(each.targets[0]) == "__parameters__":
            names = each.value.elts if isinstance(each.value, ast.List) else []
            found.parameters.update(str(name.value) for name in names if isinstance(name, ast.Constant))
        elif isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name) and each.value is not None:
            try:
                found.settings[each.target.id] = ast.literal_eval(each.value)
            except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
                found.settings[each.target.id] = ...
    return found


_CONV = {"stride": 3, "padding": 4, "dilation": 5}

_BATCH_NORMS = [("Batch", "1d"), ("Batch", "2d"), ("Batch", "3d"), ("SyncBatch", "")]

# The settings of traced layers: the places among the arguments of the op that a layer calls.
_TRACED: dict[tuple[str, str], dict[str, int]] = {
    ("Linear", "linear"): {},
    ("Embedding", "embedding"): {"padding_idx": 2},
    ("Dropout", "dropout"): {"p": 1},
    **{(f"Conv{dims}d", "_convolution"): {**_CONV, "groups": 8} for dims in (1, 2)},
    **{(f"Conv{dims}d", "_convolution_mode"): {**_CONV, "groups": 6} for dims in (1, 2)},
    ("ConvTranspose1d", "_convolution"): {**_CONV, "output_padding": 7, "groups": 8},
    **{(f"{name}Norm{dims}", "batch_norm"): {"momentum": 6, "eps": 7} for name, dims in _BATCH_NORMS},
    ("LayerNorm", "layer_norm"): {"normalized_shape": 1, "eps": 4},
    ("GroupNorm", "group_norm"): {"num_groups": 1, "eps": 4},
}


def traced_settings(kind: str, forward: ast.FunctionDef | None) -> dict[str, Any] | None:
    """The settings of a traced layer, which has no constants, from the one op that it calls; None if it calls others.

    Args:
        kind: the type of the layer.
        forward: its method.
    """
    if forward is None or len(forward.args.args) != 2:
        return None
    match [node for node in ast.walk(forward) if isinstance(node, ast.Call)]:
        case [ast.Call(ast.Attribute(ast.Name("torch"), op), args)] if (kind, op) in _TRACED:
            places = _TRACED[kind, op]
        case _:
            return None
    settings: dict[str, Any] = {}
    for name, place in places.items():
        try:
            settings[name] = ast.literal_eval(args[place])
        except (ValueError, TypeError, IndexError, RecursionError, MemoryError):
            return None
    if settings.get("padding_idx") == -1:
        settings["padding_idx"] = None
    if settings.get("momentum") == 0:  # what PyTorch passes for None
        settings["momentum"] = None
    return settings
