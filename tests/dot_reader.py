"""Reads drawings in Graphviz's language, as strictly as its grammar is: https://graphviz.org/doc/info/lang.html."""

import re
from dataclasses import dataclass, field

TOKEN = re.compile(r'\s*(?:("(?:[^"\\]|\\.)*")|([A-Za-z_][A-Za-z_0-9]*|-?[0-9.]+)|(->)|([\[\]{}=,;]))')


@dataclass
class Drawing:
    """What a drawing holds.

    Attributes:
        nodes: their attributes by identifier.
        frames: for each node the clusters around it, outermost first.
        titles: the clusters' labels.
        edges: source, target, attributes.
    """

    nodes: dict[str, dict[str, str]] = field(default_factory=dict)
    frames: dict[str, tuple[str, ...]] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)
    edges: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    def label(self, node: str) -> str:
        return self.nodes[node]["label"]

    def labels(self) -> list[str]:
        """The labels of all nodes, lines joined by a space."""
        return [attributes["label"].replace("\n", " ") for attributes in self.nodes.values()]

    def ops(self) -> list[str]:
        """The names of the ops drawn, in order."""
        return [self.label(node).partition("\n")[0] for node in self.nodes if re.fullmatch(r"op\d+", node)]

    def loops(self) -> list[str]:
        """The labels of the clusters, each after those around it."""
        found = dict.fromkeys(frames for frames in self.frames.values() if frames)
        return [" ".join(self.titles[frame] for frame in frames) for frames in found]

    def arrows(self) -> list[str]:
        """The edges as "cat -> linear", with their labels."""
        first = {node: self.label(node).partition("\n")[0] for node in self.nodes}
        return [
            f"{first[source]} -> {first[target]}" + (f" ({attributes['label']})" if "label" in attributes else "")
            for source, target, attributes in self.edges
        ]


def read(text: str) -> Drawing:
    """The drawing that a text says.

    Raises:
        ValueError: it is not in the language, or an edge leads to a node that is not declared.
    """
    tokens = tokens_of(text)
    drawing = Drawing()
    clusters: list[str] = []

    def expect(token: str) -> None:
        if tokens.pop() != token:
            raise ValueError(f"expected {token!r}")

    def attributes() -> dict[str, str]:
        found: dict[str, str] = {}
        expect("[")
        while tokens[-1] != "]":
            name = tokens.pop()
            expect("=")
            found[name] = unquoted(tokens.pop())
            if tokens[-1] in ",;":
                tokens.pop()
        expect("]")
        return found

    expect("digraph")
    expect("{")
    clusters.append("")
    while clusters:
        token = tokens.pop()
        if token == "}":
            clusters.pop()
        elif token == "subgraph":
            clusters.append(tokens.pop())
            expect("{")
        elif token == "graph":
            drawing.titles[clusters[-1]] = attributes().get("label", "")
        elif token in ("node", "edge"):
            attributes()
        elif tokens[-1] == "->":
            tokens.pop()
            target = tokens.pop()
            drawing.edges.append((token, target, attributes() if tokens[-1] == "[" else {}))
        else:
            if token in drawing.nodes:
                raise ValueError(f"{token} is declared twice")
            drawing.nodes[token] = attributes()
            drawing.frames[token] = tuple(clusters[1:])
    if tokens:
        raise ValueError(f"{tokens[-1]!r} after the end")
    for source, target, _ in drawing.edges:
        if not {source, target} <= drawing.nodes.keys():
            raise ValueError(f"{source} -> {target}: not declared")
    return drawing


def tokens_of(text: str) -> list[str]:
    """The words and signs, the last first."""
    tokens, at = [], 0
    text = text.rstrip()
    while at < len(text):
        match = TOKEN.match(text, at)
        if match is None:
            raise ValueError(f"no token at {text[at : at + 20]!r}")
        tokens.append(match[match.lastindex or 0])
        at = match.end()
    return tokens[::-1]


def unquoted(token: str) -> str:
    if not token.startswith('"'):
        return token
    signs = {"n": "\n", "\\": "\\", '"': '"'}
    return re.sub(r"\\(.)", lambda match: signs[match[1]], token[1:-1])
