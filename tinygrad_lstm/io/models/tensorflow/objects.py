"""The objects of a SavedModel: variables, and functions.

If there is no signature, one of the functions has the inputs and outputs. Objects are numbered, and the first is the
model itself. A function has a graph for each signature with which it was called, and names the objects whose variables
it takes beside its arguments.

Reference: tensorflow/core/protobuf/saved_object_graph.proto, struct.proto
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import is_float

from ...errors import ContentError, shown
from ...tensorflow.wire import Message
from ..ports import Port
from .building import Variable
from .graphs import Graph, Node, Ref
from .signatures import port_of

__all__ = ["Traced", "traced_function", "trained"]

PREFERRED = ("_default_save_signature", "serve", "__call__")
"""The function that computes the model's outputs, of several: the first is that of Keras 2."""

HINT = "save it with signatures=, as in tf.saved_model.save(model, folder, signatures=model.__call__)"


@dataclass(frozen=True)
class Traced:
    """A graph that calls a function.

    Attributes:
        graph: with a node for each variable, and one that calls the function.
        ports: the function's arguments, by the values of the graph that they replace.
        outputs: what it returns, by name.
        variables: by the names of their nodes.
    """

    graph: Graph
    ports: Mapping[Ref, Port]
    outputs: Mapping[str, Ref]
    variables: Mapping[str, Variable]


def traced_function(objects: Message, graph: Graph, arrays: Mapping[str, HostArray]) -> Traced:
    """The function that computes a model's outputs.

    Args:
        objects: the message with the objects.
        graph: the graph, which has the function.
        arrays: those of the checkpoint, by the paths of objects.

    Raises:
        ContentError: there is no such function, or there are several; or it takes what is not in the file.
    """
    name = _chosen(objects)
    traced, function = objects["concrete_functions"][name], graph.functions.get(name)
    if function is None:
        raise ContentError(f"there is no function {shown(name)}")
    specs = [spec for _, spec in _specs(traced["canonicalized_input_signature"], "")]
    bound = traced["bound_inputs"]
    if len(specs) + len(bound) != len(function.inputs):
        raise ContentError(f"the function {shown(name)} takes {len(function.inputs)} inputs, not {len(specs)}")
    ports = {
        Ref(f"input {own.node}", 0): port_of(spec["name"] or own.node, spec["dtype"], spec["shape"])
        for own, spec in zip(function.inputs, specs, strict=False)
    }
    variables, captured = _captured(objects, bound, arrays)
    handles = {node: Node(node, "VarHandleOp", (), {}) for node in variables}
    call = Node(f"call {name}", name, (*ports, *captured), {})
    main = replace(graph.main, nodes={**graph.main.nodes, **handles, call.name: call})
    results = [
        f"output_{k}" if path.isdigit() or not path else path
        for k, (path, _) in enumerate(_specs(traced["output_signature"], ""))
    ]
    outputs = {path: Ref(call.name, k) for k, path in enumerate(results)}
    return Traced(replace(graph, main=main), ports, outputs, variables)


# -- which function ----------------------------------------------------------------------------------------------------


def _chosen(objects: Message) -> str:
    """The name of the function that computes the model's outputs."""
    traces = dict(_traces(objects))
    called = {name: own for name, own in traces.items() if own}
    if not called:
        there = f"; {', '.join(map(shown, traces))} was not called before it was saved" if traces else ""
        raise ContentError(f"it has no signature, and no function with a graph{there}; {HINT}")
    name = next((name for name in PREFERRED if name in called), "") or (next(iter(called)) if len(called) == 1 else "")
    if not name:
        raise ContentError(f"it has no signature, but several functions: {', '.join(map(shown, called))}; {HINT}")
    found = [each for each in called[name] if not _is_training(objects["concrete_functions"].get(each))]
    if len(found) != 1:
        raise ContentError(
            f"it has no signature, and its function {shown(name)} has {len(called[name])} graphs, of calls with "
            f"different arguments; {HINT}"
        )
    return found[0]


def _traces(objects: Message) -> Iterator[tuple[str, list[str]]]:
    """The functions of the model, each with the names of its graphs."""
    nodes = objects["nodes"]
    for child in nodes[0]["children"] if nodes else ():
        own = _object(objects, child["node_id"])
        name = own["bare_concrete_function"]["concrete_function_name"]
        if "function" in own or name:
            yield child["local_name"], [name] if name else own["function"]["concrete_functions"]


def _is_training(traced: Message | None) -> bool:
    """Whether a flag among the arguments of a call was true, such as `training`."""
    return traced is None or any(_flags(traced["canonicalized_input_signature"]))


def _flags(value: Message) -> Iterator[bool]:
    yield value["bool_value"]
    for _, part in _parts(value):
        yield from _flags(part)


def _object(objects: Message, number: int) -> Message:
    if not 0 <= number < len(objects["nodes"]):
        raise ContentError(f"there is no object {number}")
    found: Message = objects["nodes"][number]
    return found


# -- arguments and results ---------------------------------------------------------------------------------------------


def _specs(value: Message, path: str) -> Iterator[tuple[str, Message]]:
    """The tensors of nested values, each with its path, in TensorFlow's order."""
    for kind in ("tensor_spec_value", "bounded_tensor_spec_value"):
        if kind in value:
            yield path, value[kind]
    for name, part in _parts(value):
        yield from _specs(part, f"{path}_{name}" if path else name)


def _parts(value: Message) -> Iterator[tuple[str, Message]]:
    """The values of a list, tuple or dictionary, with their names."""
    for kind in ("list_value", "tuple_value"):
        yield from ((str(number), each) for number, each in enumerate(value[kind]["values"]))
    yield from sorted(value["dict_value"]["fields"].items())
    yield from ((pair["key"], pair["value"]) for pair in value["named_tuple_value"]["values"])


# -- variables ---------------------------------------------------------------------------------------------------------


def _captured(
    objects: Message, bound: list[int], arrays: Mapping[str, HostArray]
) -> tuple[dict[str, Variable], list[Ref]]:
    """The variables of objects, by the names of new nodes; and the nodes of all that a function takes from objects."""
    places = {number: path for path, number in _objects_at(objects, arrays).items()}
    variables: dict[str, Variable] = {}
    nodes = []
    for number in bound:
        own = _object(objects, number)
        if "variable" in own:
            node, found = f"variable {number}", own["variable"]
            if number not in places:
                raise ContentError(f"the checkpoint has no array of the variable {shown(found['name'])}")
            array = arrays[places[number]]
            variables[node] = Variable(found["name"] or node, array, found["trainable"] and is_float(array.dtype))
        elif "constant" in own:
            node = own["constant"]["operation"]
        else:
            raise ContentError("it takes a table or file, which models here cannot have")
        nodes.append(Ref(node, 0))
    return variables, nodes


def trained(objects: Message, arrays: Iterable[str]) -> dict[str, bool]:
    """Whether variables are trained, by the names of their arrays in the checkpoint."""
    found = {path: _object(objects, number) for path, number in _objects_at(objects, arrays).items()}
    return {path: own["variable"]["trainable"] for path, own in found.items() if "variable" in own}


def _objects_at(objects: Message, paths: Iterable[str]) -> dict[str, int]:
    """The objects at these paths, which lead from the model to them, and are the names of their arrays."""
    children = [{each["local_name"]: each["node_id"] for each in node["children"]} for node in objects["nodes"]]
    found = {}
    for path in paths:
        number: int | None = 0
        for part in path.split("/"):
            number = children[number].get(part) if number is not None and 0 <= number < len(children) else None
        if number is not None:
            found[path] = number
    return found
