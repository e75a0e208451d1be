"""Loops and branches of TensorFlow 1, which are made of many nodes, as the nodes While and If of TensorFlow 2.

Models of TensorFlow.js have them too. In a loop, Enter nodes bring values in, a Merge takes the first value or that of
the run before, from a NextIteration; Switch nodes send it to the body, or to an Exit. In a branch, Switch nodes send
values to one side, and a Merge takes the result of the side that ran.

Reference: http://download.tensorflow.org/paper/white_paper_tf_control_flow_implementation_2017_11_1.pdf
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace

from ...errors import ContentError, shown
from ...tensorflow.messages import ATTRIBUTE
from ...tensorflow.wire import Message, from_json
from .graphs import Function, Graph, Node, Ref

__all__ = ["structured"]

ENTERS = frozenset(("Enter", "RefEnter"))
EXITS = frozenset(("Exit", "RefExit"))
MERGES = frozenset(("Merge", "RefMerge"))
SWITCHES = frozenset(("Switch", "RefSwitch"))
NEXT = frozenset(("NextIteration", "RefNextIteration"))

MOST_VISITS = 10**7
"""The most nodes that are looked at to find branches."""


def structured(graph: Graph) -> Graph:
    """The graph with nodes While and If, whose functions are added to it.

    Raises:
        ContentError: a loop or branch is not complete.
    """
    functions: dict[str, Function] = dict(graph.functions)
    done = {}
    for name, function in {"": graph.main, **graph.functions}.items():
        if any(node.op in MERGES for node in function.nodes.values()):
            done[name] = _structured(function, functions)
    return Graph(done.get("", graph.main), {**functions, **{name: each for name, each in done.items() if name}})


def _structured(function: Function, functions: dict[str, Function]) -> Function:
    nodes = dict(function.nodes)
    added: list[Function] = []
    loops: set[str] = set()
    for frame, enters in _frames(nodes).items():
        loops |= _loop(function, frame, enters, nodes, added)
    branches = [node for node in function.nodes.values() if node.op in MERGES and node.name not in loops]
    if len(branches) * len(nodes) > MOST_VISITS:
        raise ContentError("it has too many branches")
    for merge in branches:
        _branch(function, merge, nodes, added)
    for each in added:
        functions[each.name] = replace(each, nodes=nodes)
    return replace(function, nodes=nodes)


def _free(name: str, nodes: Mapping[str, Node]) -> str:
    """A name for a new node."""
    free, number = name or "loop", 1
    while free in nodes:
        number += 1
        free = f"{name}_{number}"
    return free


def _function_names(**names: str) -> dict[str, Message]:
    return {key: from_json({"func": {"name": name}}, ATTRIBUTE) for key, name in names.items()}


# -- loops -------------------------------------------------------------------------------------------------------------


def _frames(nodes: Mapping[str, Node]) -> dict[str, list[Node]]:
    """The Enter nodes of each loop."""
    found: defaultdict[str, list[Node]] = defaultdict(list)
    for node in nodes.values():
        if node.op in ENTERS and len(node.inputs) == 1:
            frame = node.attributes.get("frame_name")
            found[str(frame["s"], "utf-8", "backslashreplace") if frame else ""].append(node)
    return found


def _loop(
    function: Function,
    frame: str,
    enters: Iterable[Node],
    nodes: dict[str, Node],
    added: list[Function],
) -> set[str]:
    """Adds a node While, of which the Exit nodes become results. Returns the names of the Merge nodes."""
    given = function.nodes
    enter_of = {each.name: each for each in enters}
    merges = [
        node
        for node in given.values()
        if node.op in MERGES and len(node.inputs) == 2 and any(ref.node in enter_of for ref in node.inputs)
    ]
    switches = {node.inputs[0].node: node for node in given.values() if node.op in SWITCHES and len(node.inputs) == 2}
    exits = {node.inputs[0].node: node for node in given.values() if node.op in EXITS and len(node.inputs) == 1}
    name = _free(merges[0].name.rpartition("/")[0] if merges else frame, nodes)
    first: list[Ref] = []
    after: list[Ref] = []
    bound: list[Ref] = []
    starts: list[Ref] = []
    conditions: set[Ref] = set()
    for merge in merges:
        (enter,) = [ref.node for ref in merge.inputs if ref.node in enter_of][:1]
        (other,) = [ref.node for ref in merge.inputs if ref.node != enter][:1] or [""]
        last, switch = given.get(other), switches.get(merge.name)
        if last is None or last.op not in NEXT or len(last.inputs) != 1:
            raise ContentError(f"the loop {shown(frame)} is not complete at {shown(merge.name)}")
        if switch is None:  # a counter that only the condition uses
            switch = merge
        else:
            conditions.add(switch.inputs[1])
            if switch.name in exits:
                leaving = exits[switch.name]
                nodes[leaving.name] = Node(leaving.name, "Identity", (Ref(name, len(first)),), {})
        first.append(enter_of[enter].inputs[0])
        after.append(last.inputs[0])
        starts.append(Ref(merge.name, 0))
        bound.append(Ref(switch.name, 1 if switch is not merge else 0))
    if len(conditions) != 1:
        raise ContentError(f"the loop {shown(frame)} has {len(conditions)} conditions")
    condition = given.get(conditions.pop().node)
    if condition is None or condition.op != "LoopCond" or len(condition.inputs) != 1:
        raise ContentError(f"the loop {shown(frame)} has no condition")
    used = {ref.node for merge in merges for ref in merge.inputs}
    fixed = [each for each in enter_of.values() if each.name not in used]
    outside = [Ref(each.name, 0) for each in fixed]
    cond, body = (f"{function.name}/{name} {part}" for part in ("condition", "body"))
    added.append(Function(cond, (*starts, *outside), condition.inputs, {}))
    added.append(Function(body, (*bound, *outside), (*after, *outside), {}))
    attributes = _function_names(cond=cond, body=body)
    inputs = (*first, *(each.inputs[0] for each in fixed))
    nodes[name] = Node(name, "While", inputs, attributes)
    return {merge.name for merge in merges}


# -- branches ----------------------------------------------------------------------------------------------------------


def _branch(function: Function, merge: Node, nodes: dict[str, Node], added: list[Function]) -> None:
    """Makes of a Merge node a node If."""
    name = f"{function.name}/{merge.name}"
    if len(merge.inputs) != 2:
        raise ContentError(f"the branches at {shown(merge.name)} are not two")
    sides = [_switched(ref, merge, nodes) for ref in merge.inputs]
    of_false, of_true = ([(switch.inputs[1], side) for switch, side in each] for each in sides)
    chosen = [
        (condition, side)
        for condition, side in of_false
        if (condition, 1 - side) in of_true
        and (condition, 1 - side) not in of_false
        and (condition, side) not in of_true
    ]
    if not chosen:
        raise ContentError(f"the branches at {shown(merge.name)} are not those of one condition")
    condition, side = chosen[0]
    switches = {switch.name: switch for each in sides for switch, _ in each if switch.inputs[1] == condition}
    taken = {1 - side: merge.inputs[1], side: merge.inputs[0]}
    for output, branch in ((1, "then"), (0, "else")):
        added.append(Function(f"{name} {branch}", tuple(Ref(each, output) for each in switches), (taken[output],), {}))
    inputs = (condition, *(each.inputs[0] for each in switches.values()))
    attributes = _function_names(then_branch=f"{name} then", else_branch=f"{name} else")
    nodes[merge.name] = Node(merge.name, "If", inputs, attributes)


def _switched(start: Ref, merge: Node, nodes: Mapping[str, Node]) -> list[tuple[Node, int]]:
    """The Switch nodes that a value depends on, each with its output."""
    found: dict[tuple[str, int], tuple[Node, int]] = {}
    seen: set[Ref] = set()
    stack = [start]
    while stack:
        ref = stack.pop()
        if ref in seen:
            continue
        seen.add(ref)
        node = nodes.get(ref.node)
        if node is None or node is merge:
            continue
        if node.op in SWITCHES and len(node.inputs) == 2:
            found[ref.node, ref.output] = (node, ref.output)
        stack += node.inputs
        stack += [Ref(name, 0) for name in node.runs_after]
    return list(found.values())
