"""The graph behind a tensor as a drawing: the ops and leaves that it was computed from, with loops over time folded."""

import shutil
from bisect import bisect
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .._tensor import Tensor
from ..graph import GraphNode, Leaf, Node, Pick
from ..html import preformatted
from ..io.atomic import write_atomically
from ..kinds import kind_of_op
from ..nn import Module, Parameter
from .folding import Given, Item, Made, Place, find_loops
from .shapes import Value, inputs_of, value_of
from .unrolling import with_steps

__all__ = ["Graph", "graph"]

_TIMEOUT = 60  # seconds for `dot`, which takes minutes for thousands of nodes

_HEADER = """digraph {
  graph [rankdir=TB, bgcolor="white", fontname="Helvetica", fontsize=12, nodesep=0.3, ranksep=0.3]
  node [shape=box, style="rounded,filled", fillcolor="#f3f3f3", color="#888888", fontname="Helvetica", fontsize=11]
  edge [color="#555555", fontname="Helvetica", fontsize=10, arrowsize=0.7]"""
_LEAF = 'style="filled", fillcolor="#d6e6f5", color="#4878a8"'
_FUSED = 'fillcolor="#fbe6c8", color="#b08040"'
_CONSTANT = 'shape=plaintext, style="", fontcolor="#666666"'
_OUTPUT = 'style="filled", fillcolor="#d9efd9", color="#4f8f4f"'
_LOOP = 'style="rounded", color="#888888", bgcolor="#fafafa", labeljust="l"'
_CARRIED = 'style="dashed", constraint=false'


@dataclass(frozen=True)
class Graph:
    """A drawing of a graph, as a string. It keeps no tensor alive. Notebooks show it.

    Attributes:
        dot: the drawing in Graphviz's language.
        ops: how many ops were recorded.
        shown: how many of them are drawn; the others are repeated steps of loops.
    """

    dot: str = field(repr=False)
    ops: int
    shown: int

    def svg(self) -> str:
        """The drawing as SVG, made by the program `dot` of Graphviz.

        Raises:
            RuntimeError: it is not installed, fails, or does not end within a minute.
        """
        import subprocess

        program = shutil.which("dot")
        if program is None:
            raise RuntimeError(
                "Graph.svg: the program `dot` is not installed; install Graphviz (apt-get install graphviz, brew "
                "install graphviz, or https://graphviz.org/download), or take .dot, which websites draw too"
            )
        try:
            done = subprocess.run(
                [program, "-Tsvg"], input=self.dot.encode(), capture_output=True, timeout=_TIMEOUT, check=False
            )
        except subprocess.TimeoutExpired:
            raise RuntimeError(
                f"Graph.svg: `dot` did not arrange {self.shown:,} ops within {_TIMEOUT} s; draw less of the graph, or "
                "save it as .dot and use Graphviz's `sfdp`, made for large ones"
            ) from None
        if done.returncode:
            raise RuntimeError(f"Graph.svg: `dot` failed: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout.decode()

    def save(self, path: str | Path) -> None:
        """Writes the drawing, by the path's ending as DOT (.dot, .gv) or as SVG (.svg).

        Raises:
            ValueError: the path ends otherwise.
            RuntimeError: as `svg`.
            OSError: the path cannot be written.
        """
        suffix = Path(path).suffix
        if suffix not in (".dot", ".gv", ".svg"):
            raise ValueError(f"Graph.save: {str(path)!r} must end in .dot, .gv or .svg")
        write_atomically(path, (self.svg() if suffix == ".svg" else self.dot).encode())

    def _repr_html_(self) -> str:
        try:
            svg = self.svg()
        except RuntimeError as error:
            return preformatted(f"{error}\n\n{self.dot}")
        return svg[svg.index("<svg") :]


def graph(tensor: Tensor, names: Module | Mapping[str, Tensor] | None = None, fold: bool = True) -> Graph:
    """The recorded graph behind a tensor: the ops and leaves that it was computed from.

    Values flow from the top to the bottom. An op shows its output's shape and dtype, if these are known. A constant,
    for which no gradient is computed, is grey. An unrolled loop is drawn as one step in a frame, with the number of
    steps: dashed arrows lead from one step to the next. (The first step may lack ops on constants, such as an initial
    state of zeros, since these are not recorded.) Repeated calls of a module are steps of a loop; so are repeated ops.
    A compiled sequence is drawn as its steps, which are computed again; after `backward` has freed them, as one op.

    Args:
        tensor: a tensor that requires a gradient.
        names: names for leaves: a module, for the names of its parameters; or tensors by name, which may also be
            results of ops.
        fold: whether to draw only one step of a loop.

    Raises:
        RuntimeError: the tensor does not require a gradient.
        TypeError: `tensor` is not a Tensor, or `names` is neither a Module nor a mapping of Tensors.

    >>> import tinygrad_lstm as tg
    >>> model = tg.nn.Linear(3, 1)
    >>> drawn = tg.inspect.graph(model(tg.ones(2, 3)).square().mean(), model)
    >>> drawn
    Graph(ops=4, shown=4)
    >>> print(*(line for line in drawn.dot.splitlines() if "weight" in line))
      leaf0 [label="weight\\n(1, 3) float32", style="filled", fillcolor="#d6e6f5", color="#4878a8"]
    """
    if not isinstance(tensor, Tensor):
        raise TypeError(f"graph: expected a Tensor, got {type(tensor).__name__}")
    if not tensor.requires_grad:
        raise RuntimeError(
            f"graph: this tensor of shape {tensor.shape} requires no gradient: nothing that it was made "
            "from does, or it was made under no_grad, so no graph was recorded"
        )
    named = _named(names)
    if tensor.is_leaf:
        look = _leaf_look(tensor, Value(tensor.shape, tensor.dtype), named.get(_identity(tensor)))
        return Graph(f"{_HEADER}\n  leaf0 {look}\n}}\n", 0, 0)
    return _Drawing(tensor, named, fold).graph()


def _identity(tensor: Tensor) -> int:
    """The id of a tensor's node, or of a tensor without a node."""
    return id(tensor if tensor._node is None else tensor._node)


def _named(names: Module | Mapping[str, Tensor] | None) -> dict[int, str]:
    """The name of each tensor, by its identity; the first if it has several."""
    if names is None:
        return {}
    given: Mapping[str, Any]
    if isinstance(names, Module):
        given = dict(names.named_parameters())
    elif isinstance(names, Mapping):
        given = names
    else:
        raise TypeError(f"graph: names must be a Module or a mapping of Tensors, got {type(names).__name__}")
    found: dict[int, str] = {}
    for name, tensor in given.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f"graph: names[{name!r}] must be a Tensor, got {type(tensor).__name__}")
        found.setdefault(_identity(tensor), str(name))
    return found


@dataclass
class _Edge:
    """All edges that are drawn as one.

    Attributes:
        lag: how many steps of a loop later the values are used.
        ports: which outputs of the source they are, if it has several.
        left: the steps of a loop that they leave.
        steps: the number of steps of that loop.
        is_first: whether they are used only in the first step of a loop.
    """

    source: str
    target: str
    lag: int = 0
    ports: set[str] = field(default_factory=set)
    left: set[int] = field(default_factory=set)
    steps: int = 0
    is_first: bool = False

    def __str__(self) -> str:
        notes = [self._carried(), self._left(), "first step" if self.is_first else self._port()]
        label = ", ".join(note for note in notes if note)
        settings = [f"label={_quoted(label)}"] * bool(label) + [_CARRIED] * (self.lag > 0)
        return f"{self.source} -> {self.target}" + (f" [{', '.join(settings)}]" if settings else "")

    def _carried(self) -> str:
        return "" if not self.lag else "next step" if self.lag == 1 else f"{self.lag} steps on"

    def _left(self) -> str:
        if len(self.left) == 1:
            (step,) = self.left
            return "last step" if step == self.steps - 1 else f"step {step + 1}"
        return "" if not self.left else "every step" if len(self.left) == self.steps else "some steps"

    def _port(self) -> str:
        return "" if not self.ports else min(self.ports) if len(self.ports) == 1 else "one a step"


class _Drawing:
    """Draws the graph of a tensor."""

    def __init__(self, tensor: Tensor, named: dict[int, str], fold: bool) -> None:
        result = tensor._graph_node()
        nodes, self._instead = with_steps(result)
        self._result = self._instead.get(result, result)
        named = named | {id(self._instead[node]): named[id(node)] for node in self._instead if id(node) in named}
        ops = [node for node in nodes if not isinstance(node, Leaf | Pick)]
        leaves = [node for node in nodes if isinstance(node, Leaf)]
        self._numbers: dict[GraphNode, int] = {node: k for k, node in enumerate(ops)}
        self._leaves = {leaf: k for k, leaf in enumerate(leaves)}
        self._op_looks = [_op_look(node, named.get(id(node))) for node in ops]
        self._leaf_looks = [_leaf_look(leaf.tensor(), value_of(leaf), named.get(id(leaf))) for leaf in leaves]
        self._output_look = _look(named.get(id(self._result), "output"), _described(value_of(self._result)), _OUTPUT)
        self._ports = [_output_names(node) for node in ops]
        self._inputs = [
            [self._input(parent, value) for parent, value in zip(node.parents, inputs_of(node), strict=True)]
            for node in ops
        ]
        uses = Counter(value for row in self._inputs for value in row if isinstance(value, Leaf))
        # A leaf that is used once may differ from step to step, as inputs do; a leaf with a name is drawn by itself.
        self._apart = {leaf for leaf, number in uses.items() if number == 1 and id(leaf) not in named}

        self._places, self._loops = [Place(k, ()) for k in range(len(ops))], list[int]()
        if fold:
            givens = [[self._given(value) for value in row] for row in self._inputs]
            begins = _step_begins(ops)
            items = [Item(look, row, begins.get(k)) for k, (look, row) in enumerate(zip(self._op_looks, givens))]
            self._places, self._loops = find_loops(items)
        shown = dict.fromkeys(sorted(place.shown for place in self._places))
        self._ids = {k: f"op{number}" for number, k in enumerate(shown)}
        self._edges: dict[Any, _Edge] = {}
        self._frames: dict[tuple[int, ...], list[str]] = {(): []}  # the lines drawn in each loop, and outside of loops
        self._draw()

    def _input(self, parent: GraphNode | None, value: Value) -> "_Input":
        """An input of an op: a leaf, an output of an earlier op, or what is known of a constant."""
        if parent is None:
            return value
        parent = self._instead.get(parent, parent)
        if isinstance(parent, Leaf):
            return parent
        if not isinstance(parent, Pick):
            return Made(self._numbers[parent])
        maker = parent.parents[0]
        assert isinstance(maker, Node) and maker.parts is not None
        is_slice = len(set(maker.parts)) == 1  # a slice of a sequence, unlike h and c
        return Made(self._numbers[maker], *((None, parent.index) if is_slice else (parent.index, None)))

    def _given(self, value: "_Input") -> Given | Made:
        """An input in a form that can be compared with other ops' inputs."""
        if isinstance(value, Leaf):
            number = self._leaves[value]
            return Given(self._leaf_looks[number] if value in self._apart else number, False)
        return Given(value.shape, True) if isinstance(value, Value) else value

    def graph(self) -> Graph:
        """The drawing."""
        lines = [_HEADER, *self._framed((), "  "), *(f"  {edge}" for edge in self._edges.values()), "}"]
        return Graph("\n".join(lines) + "\n", len(self._places), len(self._ids))

    def _framed(self, path: tuple[int, ...], indent: str) -> Iterator[str]:
        """The lines drawn in a loop and in the loops within it. (Recursive, since these are few.)"""
        yield from (indent + line for line in self._frames[path])
        for inner in [other for other in self._frames if other[:-1] == path and other]:
            yield f"{indent}subgraph cluster{inner[-1]} {{"
            yield f'{indent}  graph [label="× {self._loops[inner[-1]]}", {_LOOP}]'
            yield from self._framed(inner, indent + "  ")
            yield f"{indent}}}"

    def _frame(self, place: Place) -> list[str]:
        path = tuple(loop for loop, _ in place.path)
        for depth in range(len(path)):
            self._frames.setdefault(path[:depth], [])
        return self._frames.setdefault(path, [])

    def _draw(self) -> None:
        for number, (leaf, look) in enumerate(zip(self._leaves, self._leaf_looks, strict=True)):
            if leaf not in self._apart:
                self._frames[()].append(f"leaf{number} {look}")
        constants: dict[tuple[int, int], dict[Value, None]] = {}
        for k, (place, row) in enumerate(zip(self._places, self._inputs, strict=True)):
            if place.shown == k:
                self._frame(place).append(f"{self._ids[k]} {self._op_looks[k]}")
            for n, (value, example) in enumerate(zip(row, self._inputs[place.shown], strict=True)):
                if isinstance(value, Made):
                    self._connect(value, place, n, example)
                elif isinstance(value, Leaf):
                    self._connect_leaf(value, place, n, example, is_shown=place.shown == k)
                elif isinstance(example, Value):  # and not an initial state
                    constants.setdefault((place.shown, n), {})[value] = None
        for (k, n), values in constants.items():
            self._connect_constant(k, n, list(values))
        root = self._input(self._result, Value())
        assert isinstance(root, Made)
        self._frames[()].append(f"output {self._output_look}")
        self._connect(root, None, 0, root)

    def _connect(self, value: Made, place: Place | None, n: int, example: "_Input") -> None:
        """Draws the edge to input `n` of the op at a place, or to the output if the place is None."""
        source = self._places[value.at]
        path = () if place is None else place.path
        depth = 0
        while depth < min(len(source.path), len(path)) and source.path[depth] == path[depth]:
            depth += 1
        left, entered = source.path[depth:], path[depth:]
        lag = entered[0][1] - left[0][1] if left and entered and left[0][0] == entered[0][0] else 0
        target = "output" if place is None else self._ids[place.shown]
        if left and not entered:
            n = -1  # values of all steps, to be stacked or summed, are one edge
        edge = self._edges.setdefault((target, n, source.shown, lag), _Edge(self._ids[source.shown], target, lag))
        index = value.port if value.step is None else value.step
        if isinstance(index, int):
            names = self._ports[value.at]
            edge.ports.add(names[index] if names else f"[{index}]")
        if left and not lag:
            edge.left.add(left[0][1])
            edge.steps = self._loops[left[0][0]]
        edge.is_first = bool(entered) and not lag and not self._comes_from(example, source.shown)

    def _comes_from(self, value: "_Input", shown: int) -> bool:
        return isinstance(value, Made) and self._places[value.at].shown == shown

    def _connect_leaf(self, leaf: Leaf, place: Place, n: int, example: "_Input", is_shown: bool) -> None:
        number, is_first = self._leaves[leaf], isinstance(example, Made)
        if leaf in self._apart:
            if not is_shown and not is_first:
                return  # the shown step has a similar leaf
            frame = self._frames[()] if is_first else self._frame(place)
            frame.append(f"leaf{number} {self._leaf_looks[number]}")
        edge = _Edge(f"leaf{number}", self._ids[place.shown], is_first=is_first)
        self._edges.setdefault((edge.target, n, leaf), edge)

    def _connect_constant(self, k: int, n: int, values: Sequence[Value]) -> None:
        """Draws the constant input `n` of an op, whose value may differ between the steps of a loop."""
        value = values[0] if len(values) == 1 else values[0]._replace(number=None)
        if value.shape is None:
            return
        own = f"{self._ids[k]}_input{n}"
        title, described = ("constant", _described(value)) if value.number is None else (f"{value.number:g}", "")
        self._frame(self._places[k]).append(f"{own} {_look(title, described, _CONSTANT)}")
        self._edges[k, n] = _Edge(own, self._ids[k])


_Input = Leaf | Made | Value


def _step_begins(ops: Sequence[GraphNode]) -> dict[int, int]:
    """The ops at which a step begins, each with its loop, as modules and `scan` declare them."""
    numbers = [node.number for node in ops]
    steps = (node.step for node in ops if hasattr(node, "step"))
    return {bisect(numbers, began): loop for loop, began in steps}


def _op_look(node: GraphNode, name: str | None) -> str:
    """An op's label and style: its name, its output's shape and dtype."""
    title = node.op.name if name is None else f"{name} = {node.op.name}"
    parts = node.parts if isinstance(node, Node) else None
    if parts is None:
        return _look(title, _described(value_of(node)))
    if _is_layer(node):
        (T, B, H), dtype = parts[0]
        x = inputs_of(node)[0].shape
        sizes = {"T": T, "B": B, "I": x[2] if x else "?", "H": H}
        return _look(title, f"{', '.join(f'{size}={n}' for size, n in sizes.items())}\n{dtype}", _FUSED)
    texts = [str(shape) for shape, _ in parts]
    if len(set(texts)) == 1:
        return _look(title, f"{len(texts)} × {texts[0]} {parts[0][1]}")
    return _look(title, f"{', '.join(texts[:3])}{', …' if len(texts) > 3 else ''} {parts[0][1]}")


def _output_names(node: GraphNode) -> tuple[str, ...]:
    """The names of a recurrent layer's outputs; none for other ops."""
    kind = kind_of_op(node.op.name)
    return () if kind is None else ("out", *kind.state_names)


def _is_layer(node: GraphNode) -> bool:
    """Whether the op is one of the library's recurrent layers."""
    return kind_of_op(node.op.name) is not None


def _leaf_look(tensor: Tensor | None, value: Value, name: str | None) -> str:
    title = name or ("parameter" if isinstance(tensor, Parameter) else "leaf")
    return _look(title, _described(value), _LEAF)


def _look(title: str, described: str, *style: str) -> str:
    """A label and style in Graphviz's language."""
    label = _quoted(f"{title}\n{described}" if described else title)
    return f"[{', '.join([f'label={label}', *style])}]"


def _described(value: Value) -> str:
    return " ".join(str(part) for part in (value.shape, value.dtype) if part is not None)


def _quoted(text: str) -> str:
    """A quoted string of Graphviz's language, without escapes that it expands."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
