"""Builds the module of an ONNX graph.

Reference: onnx.proto.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import is_float

from ...._tensor import tensor
from ....nn import Parameter
from ...errors import ContentError, naming_file, shown
from ...onnx.file import parsed
from ...onnx.tensors import array_of, dtype_of
from ..body import Body, Step
from ..loaded import Loaded, Port
from ..names import attribute_names
from . import ops  # noqa: F401  (they register their rules)
from .rules import MOST_ON_HOST, rule_for

if TYPE_CHECKING:
    from onnx import AttributeProto, ModelProto, NodeProto, ValueInfoProto

__all__ = ["model_of"]


def model_of(path: Path, states: Mapping[str, str] | None = None) -> Loaded:
    """The module of an ONNX file.

    Raises:
        OSError, RuntimeError, ValueError: as `load_model`.
    """
    with naming_file(path):
        model = parsed(path)
        return _Builder(model, path.name).built(states)


class _Builder:
    def __init__(self, model: "ModelProto", title: str) -> None:
        self.graph = model.graph
        self.title = title
        self.opset = {each.domain: each.version for each in model.opset_import}
        self.contents: dict[str, Any] = {}
        self.constants: dict[str, HostArray] = {}
        self.missing: dict[str, list[str]] = {}

    def built(self, states: Mapping[str, str] | None) -> Loaded:
        for initializer in self.graph.initializer:
            self._add_tensor(initializer.name, array_of(initializer.name, initializer), trainable=True)
        steps = [self._step(node) for node in self.graph.node if not self._is_constant(node)]
        if self.missing:
            ops = "; ".join(f"{op} ({', '.join(nodes[:4])})" for op, nodes in self.missing.items())
            raise ContentError(f"it has ops that are not there: {ops}")
        ports = [_port(each) for each in self.graph.input if each.name not in self.contents.keys() | self.constants]
        outputs = tuple(each.name for each in self.graph.output)
        body = Body(tuple(port.name for port in ports), tuple(step for step in steps if step), outputs)
        return Loaded(
            self.title, ports, body, self.contents, attribute_names(self.contents), self.constants, states
        ).eval()

    def _add_tensor(self, name: str, array: HostArray, *, trainable: bool) -> None:
        if is_float(array.dtype):
            own = tensor(array)
            self.contents[name] = Parameter(own) if trainable and array.ndim else own
        elif array.ndim <= 1 and array.size <= MOST_ON_HOST:
            self.constants[name] = array
        else:
            self.contents[name] = tensor(array)

    def _is_constant(self, node: "NodeProto") -> bool:
        """Adds the tensor of a Constant node."""
        if node.op_type != "Constant":
            return False
        (attribute,) = node.attribute
        self._add_tensor(node.output[0], np.asarray(_attribute(attribute)), trainable=False)
        return True

    def _step(self, node: "NodeProto") -> Step | None:
        origin = f"the node {shown(node.name or next(iter(node.output), ''))}"
        found = rule_for(node.domain, node.op_type, self.opset.get(node.domain, 1))
        if found is None:
            self.missing.setdefault(node.op_type, []).append(node.name)
            return None
        given = {each.name: _attribute(each) for each in node.attribute}
        try:
            call = found.call(given, self.opset.get(node.domain, 1), len(node.output))
        except ContentError as error:
            raise ContentError(f"{origin}: {error}") from error
        settings = ", ".join(f"{name}={value}" for name, value in given.items())
        return Step(node.op_type, call, tuple(node.input), tuple(node.output), settings, origin)


def _attribute(attribute: "AttributeProto") -> Any:
    from onnx import helper

    value = helper.get_attribute_value(attribute)
    match attribute.type:
        case attribute.STRING:
            return value.decode()
        case attribute.STRINGS:
            return [each.decode() for each in value]
        case attribute.TENSOR:
            return array_of(attribute.name, value)
        case attribute.INTS | attribute.FLOATS:
            return list(value)
    return value


def _port(info: "ValueInfoProto") -> Port:
    kind = info.type.tensor_type
    shape = tuple(
        dim.dim_value if dim.HasField("dim_value") else dim.dim_param or f"{info.name}_{k}"
        for k, dim in enumerate(kind.shape.dim)
    )
    dtype = dtype_of(kind.elem_type).name if kind.elem_type else ""
    return Port(info.name, shape if kind.HasField("shape") else None, dtype)
