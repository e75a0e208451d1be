"""Builds the module of a TensorFlow graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import is_float

from ...._tensor import tensor
from ....nn import Parameter
from ...errors import ContentError, shown
from ..body import Body, Step, captured, needed
from ..limits import Limits, Missing
from ..loaded import Loaded
from ..names import attribute_names, free_name
from ..ports import Port
from ..rules import is_small, rule_for
from ..states import paired
from . import ops  # noqa: F401  (they register their rules)
from .control import If, While
from .forms import form_of
from .graphs import OUTPUTS, Function, Graph, Node, Ref, attribute_of, ordered
from .layers import Found, Scan, layer_of
from .lowered import structured
from .outside import Outside
from .rules import DOMAIN, IGNORED
from .values import Term, folded, named

__all__ = ["Builder", "Variable"]

MADE_A_BYTE, ALWAYS_ALLOWED = 8, 2**24
"""The most bytes of constants for each byte of the file, and of any file; of some, the file has only one element."""

MOST_CALLS = 100
"""The most functions within functions."""

MOST_OUTPUTS = 10_000
"""The most outputs of a node."""

MOST_LOOPS = 200
"""The most loops that are looked at more closely."""

SAME = frozenset(
    {
        *("Identity", "ReadVariableOp", "StopGradient", "PreventGradient", "Snapshot", "CheckNumerics", "EnsureShape"),
        *("PlaceholderWithDefault", "Enter", "DisableCopyOnRead"),
    }
)
"""Ops whose result is their first input."""

SAME_EACH = frozenset(("IdentityN",))
HANDLES = frozenset(("VarHandleOp", "VariableV2", "Variable", "VarIsInitializedOp"))
CALLS = frozenset(("PartitionedCall", "StatefulPartitionedCall"))
LOOPS, BRANCHES = frozenset(("While", "StatelessWhile")), frozenset(("If", "StatelessIf"))
CASES = frozenset(("Case", "StatelessCase"))
ASSIGNS = frozenset(("AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp", "Assign", "AssignAdd"))


@dataclass(frozen=True)
class Variable:
    """A variable of a model: its name in the file, its array, and whether it is trained."""

    name: str
    array: HostArray
    trainable: bool


class Builder:
    """Makes steps of the nodes of a graph.

    Args:
        graph: the graph and its functions.
        variables: by the names of the nodes that are their handles.
        size: the file's size in bytes, which limits memory and time.
        constants: the arrays of constants that the graph itself does not have, by the names of nodes.
        with_layers: whether loops that are an LSTM, GRU or RNN become layers.
    """

    def __init__(
        self,
        graph: Graph,
        variables: Mapping[str, Variable],
        size: int,
        constants: Mapping[str, HostArray] | None = None,
        *,
        with_layers: bool = True,
    ) -> None:
        self._made_of = graph, variables, size, constants
        self._graph = structured(graph)
        self._library = graph.functions.keys()
        self._frozen = not variables
        self._given = constants or {}
        self._taken = {"": 1}
        self._missing = Missing()
        self._limits = Limits(size, MADE_A_BYTE * size + ALWAYS_ALLOWED)
        self._read: dict[int, HostArray] = {}
        self._with_layers = with_layers
        self._loops_left = MOST_LOOPS
        self._layers: dict[tuple[str, ...], str] = {}
        self._stored: dict[str, HostArray] = {}
        self._wanted: dict[str, str] = {}
        self._same_as: dict[tuple[str, int], str] = {}
        self.contents: dict[str, Any] = {}
        self.constants: dict[str, HostArray] = {}
        self._variables = {
            node: Term(self._unique(each.name), each.array, each.trainable, each.name)
            for node, each in variables.items()
        }

    def built(
        self, title: str, ports: Mapping[Ref, Port], outputs: Mapping[str, Ref], states: Mapping[str, str] | None
    ) -> Loaded:
        """The module that computes values of the graph.

        Args:
            title: the file's name.
            ports: the inputs, by the values of the graph that they replace.
            outputs: the values, by the names of outputs.
            states: as of `load_model`.

        Raises:
            ContentError: ops are not supported (one error names all), or the graph is invalid.
        """
        if not outputs:
            raise ContentError("it has no outputs")
        for name in (*(port.name for port in ports.values()), *outputs):
            self._taken.setdefault(name, 1)
        scope = {ref: Term(port.name) for ref, port in ports.items()}
        steps: list[Step] = []
        terms = self._run(self._graph.main, scope, list(outputs.values()), steps, ())
        self._missing.check()
        names = [self._used(term, "tensor") for term in terms]
        inputs = tuple(port.name for port in ports.values())
        body = Body(inputs, tuple(named(needed(steps, names), dict(zip(outputs, names, strict=True)))), tuple(outputs))
        used = {*captured(body), *body.outputs}
        contents = {name: content for name, content in self.contents.items() if name in used}
        if any(name in contents for weights in self._layers for name in weights):  # they would no longer be shared
            return Builder(*self._made_of, with_layers=False).built(title, ports, outputs, states)
        taken: dict[str, int] = {}
        wanted = {name: free_name(self._wanted[name], taken) for name in contents}
        attributes = attribute_names(wanted.values())
        constants = {name: array for name, array in self.constants.items() if name in used}
        names_of = {name: attributes[each] for name, each in wanted.items()}
        own_ports = list(ports.values())
        pairs = paired(own_ports, [Port(name) for name in outputs], states)
        return Loaded(title, own_ports, body, contents, names_of, constants, pairs).eval()

    # -- graphs and functions ------------------------------------------------------------------------------------------

    def _run(
        self,
        function: Function,
        scope: dict[Ref, Term],
        wanted: Sequence[Ref],
        steps: list[Step],
        calls: tuple[str, ...],
    ) -> list[Term]:
        """The values of a function or graph, of which the steps are appended.

        Args:
            scope: the values that are known, such as arguments.
            calls: the names of the functions that are being run.
        """
        inner = replace(function, inputs=(*function.inputs, *scope))
        for node in ordered(inner, wanted):
            self._limits.count_node()
            terms = self._node(node, [self._value(scope, ref) for ref in node.inputs], steps, calls)
            scope |= {Ref(node.name, number): term for number, term in enumerate(terms)}
        return [self._value(scope, ref) for ref in wanted]

    def _value(self, scope: Mapping[Ref, Term], ref: Ref) -> Term:
        term = scope.get(ref)
        if term is None and not self._missing:  # the number of outputs of an op that is not supported is unknown
            raise ContentError(f"the node {shown(ref.node)} has no output {ref.output}")
        return term or Term(ref.node)

    def _call(self, name: Any, given: Sequence[Term], steps: list[Step], calls: tuple[str, ...]) -> list[Term]:
        """What a function returns for these values."""
        function = self._function(name, len(given), calls)
        self._refuse_assignments(function)
        scope = dict(zip(function.inputs, given, strict=True))
        return self._run(function, scope, function.outputs, steps, (*calls, function.name))

    def _function(self, name: Any, inputs: int, calls: tuple[str, ...]) -> Function:
        function = self._graph.functions.get(name)
        if function is None:
            raise ContentError(f"there is no function {shown(str(name))}")
        if len(calls) >= MOST_CALLS or name in calls:
            raise ContentError(f"the function {shown(name)} calls itself, or functions are nested too deeply")
        if len(function.inputs) != inputs:
            raise ContentError(f"the function {shown(name)} takes {len(function.inputs)} inputs, not {inputs}")
        return function

    def _refuse_assignments(self, function: Function) -> None:
        """Values that a model keeps between calls, in variables, are not supported."""
        for node in function.nodes.values() if function.name in self._library else ():
            if node.op in ASSIGNS:
                self._missing.add(f"{node.op}, which keeps a state in a variable", node.name)

    # -- nodes ---------------------------------------------------------------------------------------------------------

    def _node(self, node: Node, given: list[Term], steps: list[Step], calls: tuple[str, ...]) -> list[Term]:
        """The outputs of a node, of which the steps are appended."""
        match node.op:
            case "Const":
                return [self._constant(node)]
            case op if op in HANDLES:
                if node.name not in self._variables:
                    raise ContentError(f"the variable {shown(node.name)} has no array")
                return [self._variables[node.name]]
            case op if op in SAME and given:
                return [given[0]]
            case op if op in SAME_EACH:
                return given
            case op if op in CALLS:
                return self._call(self._attribute(node, "f"), given, steps, calls)
            case op if op in self._graph.functions:
                return self._call(op, given, steps, calls)
            case op if op in LOOPS:
                return self._loop(node, given, steps, calls)
            case op if op in BRANCHES | CASES and given:
                return self._branches(node, given[0], given[1:], steps, calls)
        return self._op(node, given, steps)

    def _constant(self, node: Node) -> Term:
        array = self._given.get(node.name)
        if array is None:
            array = self._read.get(id(node))  # in a function that is called again
        if array is None:
            array = self._attribute(node, "value")
            if array is None:  # strings, such as the names of files
                array = np.zeros(0, bool)
            if not isinstance(array, np.ndarray):
                raise ContentError(f"damaged: the constant {shown(node.name)} has no tensor as its value")
            self._limits.take(array.nbytes)
            self._read[id(node)] = array
        trainable = self._frozen and is_float(array.dtype) and array.ndim > 0 and array.size > 1
        return Term(self._unique(node.name), array, trainable, node.name)

    def _op(self, node: Node, given: Sequence[Term], steps: list[Step]) -> list[Term]:
        found = rule_for(DOMAIN, node.op, 1)
        if found is None:
            self._missing.add(node.op, node.name)
            return []
        messages = {name: value for name, value in node.attributes.items() if not name.startswith("_")}
        own = {name: attribute_of(node.name, value) for name, value in messages.items()}
        if getattr(own.get("T"), "kind", "") == "c" and "any" not in found.conversions:
            self._missing.add(f"{node.op} of complex numbers", node.name)
            return []
        attributes = {name: value for name, value in own.items() if name in found.attributes}
        origin = f"the node {shown(node.name)}"
        try:
            types = {name for name, value in messages.items() if "type" in value}
            if unknown := own.keys() - attributes.keys() - IGNORED - types:
                raise ContentError(f"unknown attributes of {node.op}: {', '.join(map(shown, sorted(unknown)))}")
            outputs = self._number_of_outputs(node)
            call = found.call(attributes, 1, outputs)
            kinds = found.kinds(len(given))
        except ContentError as error:
            raise ContentError(f"{origin}: {error}") from error
        names = [self._unique(f"{node.name}:{k}" if k else node.name) for k in range(outputs)]
        if arrays := folded(node.op, call, given):
            return [Term(name, array) for name, array in zip(names, arrays, strict=True)]
        inputs = tuple(self._used(term, kind) for term, kind in zip(given, kinds, strict=True))
        settings = ", ".join(f"{name}={value}" for name, value in attributes.items())
        steps.append(Step(node.op, call, inputs, tuple(names), settings, origin))
        return [Term(name) for name in names]

    def _number_of_outputs(self, node: Node) -> int:
        match node.op:
            case "Split" | "SplitV":
                number = self._attribute(node, "num_split")
            case "Unpack":
                number = self._attribute(node, "num")
            case "ShapeN":
                number = len(node.inputs)
            case op:
                return len(OUTPUTS.get(op, ("",)))
        if not isinstance(number, int) or not 0 < number <= MOST_OUTPUTS:
            raise ContentError(f"{shown(str(number))} outputs of {node.op}")
        return number

    def _attribute(self, node: Node, name: str) -> Any:
        return attribute_of(node.name, node.attributes[name]) if name in node.attributes else None

    def _loop(self, node: Node, given: list[Term], steps: list[Step], calls: tuple[str, ...]) -> list[Term]:
        """A loop: of the values that it carries, those that no step changes are taken from outside."""
        functions = [self._function(self._attribute(node, name), len(given), calls) for name in ("cond", "body")]
        fixed = _unchanged(functions[1])
        if len(functions[1].outputs) != len(given):
            raise ContentError("a loop whose body returns a different number of values than it takes")
        carried = [number for number in range(len(given)) if number not in fixed]
        bodies = []
        for function in functions:
            self._refuse_assignments(function)
            own: list[Step] = []
            terms = [
                given[number] if number in fixed else Term(self._unique(ref.node))
                for number, ref in enumerate(function.inputs)
            ]
            scope = dict(zip(function.inputs, terms, strict=True))
            wanted = function.outputs if function is functions[0] else [function.outputs[k] for k in carried]
            results = self._run(function, scope, wanted, own, (*calls, function.name))
            inputs = tuple(terms[number].name for number in carried)
            bodies.append(Body(inputs, tuple(own), tuple(self._used(term) for term in results)))
        taken = captured(*bodies)
        results = [
            term if number in fixed else Term(self._unique(f"{node.name}:{number}"))
            for number, term in enumerate(given)
        ]
        names = (*(self._used(given[number]) for number in carried), *taken)
        outputs = tuple(results[number].name for number in carried)
        cond, body = bodies
        op, loop, inputs = self._over_time(node, While(cond, body, taken), names, steps)
        steps.append(Step(op, loop, inputs, outputs, "", f"the node {shown(node.name)}"))
        return results

    def _over_time(
        self, node: Node, loop: While, names: tuple[str, ...], steps: Sequence[Step]
    ) -> tuple[str, Any, tuple[str, ...]]:
        """A loop as a layer or a scan, if it is one: the name of the op, its function and its inputs."""
        if not self._loops_left:
            return node.op, loop, names
        self._loops_left -= 1
        outside = Outside(self._arrays(), {name: step for step in steps for name in step.outputs})
        carried = names[: len(loop.body.inputs)]
        form = form_of(loop, carried, outside)
        if form is None:
            return node.op, loop, names
        found = layer_of(form, outside) if self._with_layers else None
        if found is None:
            return "scan", Scan(form, loop), names
        inputs = (self._layer(node, found), found.sequence, form.lengths, *carried)
        return type(found.module).__name__, found.function, inputs

    def _arrays(self) -> dict[str, HostArray]:
        """The arrays of constants and weights that steps have used."""
        return {**self.constants, **{name: self._stored[name] for name in self.contents if name in self._stored}}

    def _layer(self, node: Node, found: Found) -> str:
        """The name of the value of a layer, which is one for all loops with the same weights."""
        if found.weights not in self._layers:
            path = _common_path([self._wanted[name] for name in found.weights]).partition("/while/")[0]
            wanted = path or node.name.rpartition("/")[0] or node.name
            name = self._layers[found.weights] = self._unique(wanted)
            self.contents[name], self._wanted[name] = found.module, wanted
        return self._layers[found.weights]

    def _branches(
        self, node: Node, index: Term, given: Sequence[Term], steps: list[Step], calls: tuple[str, ...]
    ) -> list[Term]:
        """The results of one of several functions, which all get the same values."""
        names = (
            self._attribute(node, "branches")
            if node.op in CASES
            else [self._attribute(node, "then_branch"), self._attribute(node, "else_branch")]
        )
        bodies = []
        for name in names or []:
            own: list[Step] = []
            results = self._call(name, given, own, calls)
            bodies.append(Body((), tuple(own), tuple(self._used(term) for term in results)))
        if not bodies or len({len(body.outputs) for body in bodies}) > 1:
            raise ContentError("branches that return different numbers of values")
        outside = captured(*bodies)
        terms = [Term(self._unique(f"{node.name}:{number}")) for number in range(len(bodies[0].outputs))]
        function = If(tuple(bodies), outside, node.op in CASES)
        outputs = tuple(term.name for term in terms)
        origin = f"the node {shown(node.name)}"
        steps.append(Step(node.op, function, (self._used(index), *outside), outputs, "", origin))
        return terms

    # -- values --------------------------------------------------------------------------------------------------------

    def _used(self, term: Term, kind: str = "value") -> str:
        """The name of a value for a step that takes it in this way; see `Rule`."""
        array = term.stored
        if array is None:
            return term.name
        if kind in ("ints", "floats") or (kind in ("value", "any") and not term.trainable and is_small(array)):
            name = f"{term.name} (on the host)" if term.name in self.contents or term.trainable else term.name
            self.constants.setdefault(name, array)
            return name
        if term.name not in self.contents:
            wanted = term.wanted or term.name
            if (name := self._same_as.setdefault((wanted, id(array)), term.name)) != term.name:
                return name  # a constant of a function that is called again
            own = tensor(array)
            self.contents[term.name] = Parameter(own) if term.trainable and is_float(own.dtype) else own
            self._wanted[term.name] = wanted
            self._stored[term.name] = array
        return term.name

    def _unique(self, name: str) -> str:
        """A name for a value."""
        return free_name(name, self._taken)


def _unchanged(body: Function) -> set[int]:
    """The numbers of the arguments that the body of a loop returns as they are."""
    found = set()
    for number, ref in enumerate(body.outputs[: len(body.inputs)]):
        for _ in body.nodes:
            node = body.nodes.get(ref.node)
            if node is None or node.op != "Identity" or len(node.inputs) != 1:
                break
            (ref,) = node.inputs
        if ref == body.inputs[number]:
            found.add(number)
    return found


def _common_path(names: Sequence[str]) -> str:
    """The path that all names begin with."""
    paths = [name.split("/")[:-1] for name in names]
    common = []
    for parts in zip(*paths, strict=False):
        if len(set(parts)) > 1:
            break
        common.append(parts[0])
    return "/".join(common)
