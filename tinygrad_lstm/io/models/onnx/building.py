"""Builds the module of an ONNX graph.

Reference: onnx.proto.
"""

from collections import ChainMap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import is_float
from tinygrad_lstm.kinds import KINDS

from ...._tensor import tensor
from ....nn import Module, Parameter
from ...errors import ContentError, naming_file, shown
from ...onnx.constants import Depends, Term, Values, results_of
from ...onnx.file import MADE_A_BYTE, parsed
from ...onnx.nodes import WEIGHTS, is_default, settings_of
from ...onnx.protos import constant_of, domain_of, stored_arrays
from ...onnx.tensors import array_of, dtype_of
from ..body import Body, Step, needed
from ..limits import Limits, Missing
from ..loaded import Loaded
from ..names import attribute_names, free_name
from ..ports import Port
from ..rules import is_small, rule_for
from ..states import paired
from . import ops  # noqa: F401  (they register their rules)
from .cells import equations_of
from .control import CONTROL, control_step
from .folding import Folding
from .graphs import Frame, attribute_value, label, ordered, resolved, title_of
from .recurrent import QUANTIZED_LSTM, SCALES, FunctionalCall, NetworkCall, dequantized, network_for

if TYPE_CHECKING:
    from onnx import FunctionProto, GraphProto, ModelProto, NodeProto, ValueInfoProto

__all__ = ["Builder", "model_of"]

LAYERS = frozenset(("Conv", "ConvTranspose", "Gemm", "MatMul", *KINDS))
"""Ops with weights."""

IR_OF_DEFAULTS = 4
"""The first version of the format in which constants need not be inputs."""


def model_of(path: Path, states: Mapping[str, str] | None = None) -> Loaded:
    """The module of an ONNX file.

    Raises:
        OSError, RuntimeError, ValueError: as `load_model`.
    """
    with naming_file(path):
        model, size = parsed(path)
        return Builder(model, size).built(path.name, states)


class Builder:
    """Makes steps of the nodes of a model.

    Args:
        model: the file's content.
        size: the size of its files in bytes, which limits memory and time.

    Attributes:
        contents: what the module has: parameters, buffers and modules, by the names of values.
        constants: arrays on the host, by the names of values.
    """

    def __init__(self, model: "ModelProto", size: int) -> None:
        self._model = model
        self._functions = {(domain_of(each.domain), each.name): each for each in model.functions}
        self._values = Values(MADE_A_BYTE * size + 2**20)
        self._folding = Folding(self._values)
        # PaddlePaddle's exporter stores parameters in Constant nodes, and nothing in initializers.
        has_layers = any(node.op_type in LAYERS for node in model.graph.node)
        self._trains_constants = has_layers and not any(each.dims for each in model.graph.initializer)
        self._taken = {"": 1}
        self._wanted: dict[str, str] = {}  # the names of contents of which attributes are made
        self._taken_contents: dict[str, int] = {}
        self._layers: dict[Any, str] = {}  # the names of networks by their settings and weights
        self._missing = Missing()
        self._limits = Limits(size, MADE_A_BYTE * size + 2**20)
        self.contents: dict[str, Any] = {}
        self.constants: dict[str, HostArray] = {}

    def built(self, title: str, states: Mapping[str, str] | None) -> Loaded:
        graph = self._model.graph
        opsets = {domain_of(each.domain): each.version for each in self._model.opset_import}
        frame = Frame(ChainMap(), opsets)
        stored = {each.name for each in graph.initializer}
        given = [each for each in graph.input if each.name not in stored]
        if self._model.ir_version >= IR_OF_DEFAULTS and not stored <= {each.name for each in graph.input}:
            given = list(graph.input)  # an input with an initializer is optional
        if not graph.output:
            raise ContentError("the graph has no outputs")
        ports = [port_of(each) for each in given]
        for port in ports:
            frame.scope[port.name] = Term(self._unique(port.name), Depends.VALUES)
        body = _with_outputs(self.body(graph, frame, tuple(port.name for port in ports)), graph)
        self._missing.check()
        used = {*body.inputs, *body.outputs}.union(*(step.inputs for step in body.steps))
        contents = {name: content for name, content in self.contents.items() if name in used}
        constants = {name: array for name, array in self.constants.items() if name in used}
        names = attribute_names(self._wanted[name] for name in contents)
        attributes = {name: names[self._wanted[name]] for name in contents}
        own_states = paired(ports, [port_of(each) for each in graph.output], states)
        return Loaded(title, ports, body, contents, attributes, constants, own_states).eval()

    # -- graphs --------------------------------------------------------------------------------------------------------

    def body(self, graph: "GraphProto", frame: Frame, inputs: tuple[str, ...]) -> Body:
        """The body of a graph whose inputs are in the frame's scope: their names are `inputs`."""
        for name, each in stored_arrays(graph):
            array = self._counted(array_of(name, each))
            if given := frame.scope.maps[0].get(name):  # the default of an input
                self._keep(given.name, array, trainable=True)
                continue
            term = Term(self._unique(name), stored=array)
            if is_float(array.dtype) and array.ndim:
                self._folding.trainable.add(term)
            frame.scope[name] = term
        outputs = [each.name for each in graph.output]
        steps = self.steps(graph.node, frame, outputs)
        used = tuple(self.used(frame.scope[name], "tensor") for name in outputs)
        return Body(inputs, tuple(needed(steps, used)), used)

    def _inner_body(self, graph: "GraphProto", frame: Frame) -> Body:
        """The body of a graph within a node."""
        inner = frame.inner()
        terms = {each.name: Term(self._unique(each.name), Depends.VALUES) for each in graph.input}
        inner.scope.update(terms)
        return self.body(graph, inner, tuple(term.name for term in terms.values()))

    def steps(self, nodes: "Sequence[NodeProto]", frame: Frame, outputs: Iterable[str]) -> list[Step]:
        """The steps of the nodes that outputs depend on; adds their results to the scope."""
        where = f"the function {shown(frame.calls[-1])}" if frame.calls else "the graph"
        steps = []
        for node in ordered(nodes, frame.scope, outputs, where):
            self._limits.count_node()
            own = resolved(node, frame.attributes)
            if own is not node:
                self._limits.take(own.ByteSize())
            steps += self._steps_of(own, frame)
        return steps

    def _steps_of(self, node: "NodeProto", frame: Frame) -> list[Step]:
        """The steps of a node, of which its function has several, and a constant none."""
        domain, op, scope = domain_of(node.domain), node.op_type, frame.scope
        given = [scope[name] if name else None for name in node.input]
        if (domain, op) in self._functions:
            return self._called(self._functions[domain, op], node, given, frame)
        if (domain, op) == ("", "Constant") and node.output:
            array = self._counted(_constant_array(node))
            scope[node.output[0]] = term = Term(self._unique(node.output[0]), stored=array)
            if self._trains_constants and is_float(array.dtype) and array.size > 1:
                self._folding.trainable.add(term)
            return []
        if (domain, op) == ("", "Identity") and len(given) == len(node.output) == 1 and given[0]:
            scope[node.output[0]] = given[0]
            return []
        has_graphs = domain == "" and op in CONTROL
        results = results_of(node, given, Depends.VALUES if has_graphs else Depends.NOTHING)
        terms = {term.name: term for term in results if term.name}
        for term in terms.values():
            term.name = self._unique(term.name)
        scope.update(terms)
        origin = title_of(node)
        step: Step | None
        if has_graphs:
            used, opset = [self.used(term) for term in given], frame.opsets.get("", 1)
            step = control_step(node, used, lambda graph: self._inner_body(graph, frame), opset, origin)
        elif (domain == "" and op in KINDS) or (domain, op) == QUANTIZED_LSTM:
            step = self._recurrent(node, op if op in KINDS else "LSTM", given, origin)
        else:
            step = self._ruled(node, given, terms, frame, origin)
        return [] if step is None else [replace(step, outputs=tuple(term.name for term in results))]

    def _ruled(
        self,
        node: "NodeProto",
        given: Sequence[Term | None],
        terms: Mapping[str, Term],
        frame: Frame,
        origin: str,
    ) -> Step | None:
        """The step of a node whose op has a rule; None if its results are known, or it has no rule, which is noted."""
        domain = domain_of(node.domain)
        opset = frame.opsets.get(domain, 1)
        found = rule_for(domain, node.op_type, opset)
        if found is None:
            self._missing.add(label(domain, node.op_type), node.name or next(iter(terms), ""))
            return None
        try:
            attributes = {each.name: self._counted(attribute_value(each)) for each in node.attribute}
            call = found.call(attributes, opset, len(node.output))
            kinds = found.kinds(len(given))
            found.check_given([term is not None for term in given])
        except ContentError as error:
            raise ContentError(f"{origin}: {error}") from error
        if self._folding.folded(node, call, given, terms):
            return None
        inputs = tuple(self.used(term, kind) for term, kind in zip(given, kinds, strict=True))
        return Step(node.op_type, call, inputs, (), _settings(attributes, found.attributes), origin)

    def _recurrent(self, node: "NodeProto", kind: str, terms: Sequence[Term | None], origin: str) -> Step:
        """The step of a recurrent node, without its outputs."""
        settings = settings_of(node, kind)
        quantized = node.op_type != kind
        names = (*settings.inputs, *SCALES * quantized)
        given = {role: term for role, term in zip(names, terms, strict=False) if term is not None}
        if settings.strange:
            raise ContentError(f"{origin}: a {kind} with {' and '.join(settings.strange)}, which is not supported")
        if missing := [role for role in ("X", "W", "R") if role not in given]:
            raise ContentError(f"{origin}: missing the inputs {', '.join(missing)}")
        if any(terms[len(names) :]):
            raise ContentError(f"{origin}: {len(terms)} inputs, expected at most {len(names)}")
        call = NetworkCall(kind, settings.direction == "reverse", settings.batch_first, len(node.output))
        others = [
            ""
            if role not in given or is_default(role, given, self._values, settings.batch_first)
            else self.used(given[role], "value" if role == "sequence_lens" else "tensor")
            for role in settings.inputs
            if role not in ("X", *WEIGHTS)
        ]
        inputs = [self.used(given["X"], "tensor"), *others]
        roles = [role for role in (*WEIGHTS, *SCALES) if role in given]
        values = {role: self._values.of(given[role]) for role in roles}
        arrays = {role: value for role, value in values.items() if isinstance(value, np.ndarray)}
        if len(arrays) < len(values) and not quantized:
            function = FunctionalCall(equations_of(settings), call, tuple(roles))
            weights = [self.used(given[role], "tensor") for role in roles]
            return Step(node.op_type, function, (*inputs, *weights), (), "", origin)
        directions = settings if settings.directions == 2 else replace(settings, direction="forward")
        layer = (directions, *(given.get(role) for role in (*WEIGHTS, *SCALES)))
        if layer not in self._layers:  # or else it runs again, as in an unrolled loop
            self._limits.take(sum(array.nbytes for array in arrays.values()))
            try:
                network = network_for(settings, dequantized(arrays) if quantized else arrays)
            except ContentError as error:
                raise ContentError(f"{origin}: {error}") from error
            name = node.name or next(filter(None, node.output), node.op_type)
            self._layers[layer] = self._unique(name)
            self.add_content(self._layers[layer], network, name)
        return Step(node.op_type, call, (self._layers[layer], *inputs), (), "", origin)

    def _called(
        self, function: "FunctionProto", node: "NodeProto", given: Sequence[Term | None], frame: Frame
    ) -> list[Step]:
        """The steps of a function that a node calls."""
        actual = {**dict.fromkeys(function.input), **dict(zip(function.input, given, strict=False))}
        inner = frame.called(function, actual, {each.name: each for each in node.attribute})
        steps = self.steps(function.node, inner, function.output)
        for name, result in zip(function.output, node.output, strict=False):
            if result:
                frame.scope[result] = inner.scope[name]
        return steps

    def _counted(self, value: Any) -> Any:
        """A value of the file; its memory is counted if it is an array."""
        self._limits.take(value.nbytes if isinstance(value, np.ndarray) else 0)
        return value

    # -- values --------------------------------------------------------------------------------------------------------

    def used(self, term: Term | None, kind: str = "value") -> str:
        """The name of a value for a step that uses it; "" for None.

        Args:
            kind: how the step's rule takes it; see `Rule`.
        """
        if term is None:
            return ""
        array = term.stored
        if not isinstance(array, np.ndarray):
            return term.name
        trainable = term in self._folding.trainable and kind != "statistic"
        on_host = kind in ("ints", "floats") or (kind in ("value", "operand") and not trainable and is_small(array))
        if not on_host:
            self._keep(term.name, array, trainable=trainable)
            return term.name
        name = f"{term.name} (on the host)" if term.name in self.contents or trainable else term.name
        self.constants.setdefault(name, array)
        return name

    def _keep(self, name: str, array: HostArray, *, trainable: bool) -> None:
        """Adds an array to the contents of the module."""
        if name not in self.contents:
            own = tensor(array)
            self.add_content(name, Parameter(own) if trainable and is_float(own.dtype) and own.ndim else own, name)

    def add_content(self, key: str, content: Module | Any, name: str) -> None:
        """Adds a parameter, a buffer or a module.

        Args:
            key: the name of the value.
            name: its name in the file, of which that of the attribute is made.
        """
        self.contents[key] = content
        self._wanted[key] = free_name(name, self._taken_contents)

    def _unique(self, name: str) -> str:
        """A name for a value."""
        return free_name(name, self._taken)


def _with_outputs(body: Body, graph: "GraphProto") -> Body:
    """The body of a model with the file's names of outputs, which may be those of values with different names."""
    names = tuple(each.name for each in graph.output)
    copies = [
        Step("Identity", _same, (value,), (name,))
        for name, value in zip(names, body.outputs, strict=True)
        if name != value
    ]
    return Body(body.inputs, (*body.steps, *copies), names)


def _same(value: Any) -> Any:
    return value


def _constant_array(node: "NodeProto") -> HostArray:
    """The array of a Constant node.

    Raises:
        ContentError: it has none, or it is sparse, or of strings.
    """
    constant = constant_of(node)
    if constant is None:
        raise ContentError(f"{title_of(node)} is a constant without numbers")
    return constant if isinstance(constant, np.ndarray) else array_of(node.output[0], constant)


def _settings(attributes: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """Attributes, except those with the default value, as `print` shows them."""
    return ", ".join(
        f"{name}={_setting(value)}"
        for name, value in attributes.items()
        if isinstance(value, np.ndarray) or value != defaults[name]
    )


def _setting(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return str(value.tolist()) if value.size <= 4 else f"{value.dtype} {value.shape}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def port_of(info: "ValueInfoProto") -> Port:
    """An input or output of the model. Of a sequence neither shape nor dtype are known."""
    optional = info.type.HasField("optional_type")
    kind = info.type.optional_type.elem_type if optional else info.type
    if not kind.HasField("tensor_type"):
        return Port(info.name, optional=optional)
    shape = tuple(
        dim.dim_value if dim.dim_value > 0 else _free_name(dim.dim_param) or f"{info.name}_{k}"
        for k, dim in enumerate(kind.tensor_type.shape.dim)
    )
    elements = kind.tensor_type.elem_type
    return Port(
        info.name,
        shape if kind.tensor_type.HasField("shape") else None,
        dtype_of(elements).name if elements else "",
        optional,
    )


def _free_name(name: str) -> str:
    """The name of a free length; "" if it is not a name, such as "?" of several lengths."""
    return name if any(map(str.isalpha, name)) and name != "None" else ""
