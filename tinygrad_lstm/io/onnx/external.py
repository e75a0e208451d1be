"""Arrays of an ONNX model that are in files beside it, as PyTorch's exporter stores those of large models.

Reference: https://onnx.ai/onnx/repo-docs/ExternalData.html
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ...files import open_file
from ..archive import OUTSIDE
from ..errors import ContentError, shown

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

__all__ = ["read_external"]

MOST_TIMES = 2
"""How many times the bytes of a data file may be read, since several arrays may share some."""


def read_external(model: "ModelProto", path: Path) -> int:
    """Moves the arrays that are in files beside the model's into the model; returns the size of these files in bytes.

    As in onnxruntime, a file is within the model's folder, or within the folder to which a link at `path` leads: in the
    cache of Hugging Face, the model and its arrays are links to files of one folder. Links to other files are refused:
    a model of unknown origin could have the bytes of a private file as its weights.

    Raises:
        ContentError: a file is missing, is in a different folder, or does not have the bytes of an array; or arrays
            refer to more bytes than there are.
    """
    with ExitStack() as opened:
        files: dict[str, BinaryIO] = {}
        sizes: dict[str, int] = {}
        left: dict[str, int] = {}
        for tensor in _tensors(model):
            if tensor.data_location != tensor.EXTERNAL:
                continue
            name = shown(tensor.name)
            where = {str(each.key): str(each.value) for each in tensor.external_data}
            location = where.get("location", "")
            if location not in files:
                files[location] = opened.enter_context(_opened(path, location, name))
                sizes[location] = os.fstat(files[location].fileno()).st_size
                left[location] = MOST_TIMES * sizes[location]
            offset, length = _range(where, sizes[location], name)
            left[location] -= length
            if left[location] < 0:
                raise ContentError(f"its arrays refer to more bytes than {shown(location)} has")
            files[location].seek(offset)
            tensor.raw_data = files[location].read(length)
            tensor.data_location = tensor.DEFAULT
        return sum(sizes.values())


def _opened(model: Path, location: str, name: str) -> BinaryIO:
    try:
        path = (model.parent / location).resolve()
        folders = model.parent.resolve(), model.resolve().parent
        if not location or OUTSIDE.search(location) or not any(map(path.is_relative_to, folders)):
            raise ContentError(f"the array {name} is in {shown(location)}, which is not a file in the model's folder")
        return open_file(path)
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: links in a circle, in Python 3.12 and before
        reason = error.strerror if isinstance(error, OSError) else "not a regular file"
        raise ContentError(
            f"the array {name} is in the file {shown(location)} beside the model, which cannot be read: {reason}"
        ) from error


def _range(where: dict[str, str], size: int, name: str) -> tuple[int, int]:
    """The offset and the number of bytes of an array."""
    try:
        offset = int(where.get("offset", "0"))
        length = int(where.get("length", str(size - offset)))
    except ValueError as error:
        raise ContentError(f"the array {name} has no valid place in its file") from error
    if not 0 <= offset <= offset + length <= size:
        raise ContentError(f"the array {name} is at bytes {offset} to {offset + length} of a file of {size}")
    return offset, length


def _tensors(model: "ModelProto") -> Iterator["TensorProto"]:
    """The tensors of the graph, of the graphs within its nodes, and of functions."""
    graphs: list[GraphProto] = [model.graph]
    nodes: list[NodeProto] = [node for function in model.functions for node in function.node]
    while graphs or nodes:
        if graphs:
            graph = graphs.pop()
            yield from graph.initializer
            nodes += graph.node
        while nodes:
            for attribute in nodes.pop().attribute:
                yield from [attribute.t] * attribute.HasField("t")
                yield from attribute.tensors
                graphs += [attribute.g] * attribute.HasField("g")
                graphs += attribute.graphs
