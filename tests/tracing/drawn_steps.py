"""A hypothesis strategy that draws recurrent steps: random programs of this library's ops."""

import linecache
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st
from tracing.step_writer import KINDS, Shape, Writer, state_names

import tinygrad_lstm as tg

State = Any
"""As a step takes and returns it: one Tensor, or a tuple of several."""


class DrawnStep:
    """A drawn step.

    Attributes:
        source: the program, which reads its parameters and constants as global variables.
        step: the function, `step(x, state) -> next state`, for x (B, x_size) and each state (B, *its shape).
        parameters: its parameters by name, leaves. Constants do not require a gradient and are not among them.
        x_size: the length of an input.
        state_shapes: the shapes of the states, without B.
    """

    def __init__(
        self,
        source: str,
        arrays: dict[str, np.ndarray],
        x_size: int,
        state_shapes: tuple[Shape, ...],
        device: str = "cpu",
        dtype: str = "float64",
    ) -> None:
        self.source, self.arrays, self.x_size, self.state_shapes = source, arrays, x_size, state_shapes
        self.device, self.dtype = device, dtype
        used = {name: self.leaf(array, not name.startswith("constant")) for name, array in arrays.items()}
        self.parameters = {name: tensor for name, tensor in used.items() if tensor.requires_grad}
        file = f"<drawn step {hash(source)}>"
        linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)  # for tracebacks
        scope: dict[str, Any] = {"tg": tg, **used}
        exec(compile(source, file, "exec"), scope)
        self.step: Callable[[tg.Tensor, State], State] = scope["step"]

    def leaf(self, array: np.ndarray, requires_grad: bool = True) -> tg.Tensor:
        return tg.tensor(array, dtype=self.dtype, device=self.device, requires_grad=requires_grad)

    def to(self, device: str = "cpu", dtype: str = "float64") -> "DrawnStep":
        """The same step with its parameters there."""
        return DrawnStep(self.source, self.arrays, self.x_size, self.state_shapes, device, dtype)

    def inputs(self, T: int, B: int, seed: int = 0) -> tuple[tg.Tensor, State]:
        """Inputs (T, B, x_size) and initial states for `step`, leaves of random numbers within [-1, 1]."""
        rng = np.random.default_rng(seed)
        x = self.leaf(rng.uniform(-1, 1, (T, B, self.x_size)))
        states = tuple(self.leaf(rng.uniform(-1, 1, (B, *shape))) for shape in self.state_shapes)
        return x, states if len(states) > 1 else states[0]

    def __repr__(self) -> str:
        shapes = {"x": (self.x_size,), **dict(zip(state_names(self.state_shapes), self.state_shapes, strict=True))}
        of_batch = [f"{name} (B, {', '.join(map(str, shape))})" for name, shape in shapes.items()]
        others = [f"{name} {array.shape}" for name, array in self.arrays.items()]
        return f"# {'; '.join(of_batch + others)}\n{self.source}"


@st.composite
def drawn_steps(draw: st.DrawFn, detached: bool = False, most_genes: int = 8) -> DrawnStep:
    """A step with one to three states: vectors, the last one perhaps a matrix.

    Args:
        detached: whether values may be detached, so that the derivatives are not those of the numbers.
        most_genes: how many genes there are at most, each of one line or a few.
    """
    x_size = draw(st.integers(1, 4))
    vectors = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    shapes: list[Shape] = [(width,) for width in vectors]
    if len(shapes) < 3 and draw(st.integers(0, 3)) == 3:
        shapes.append(draw(st.tuples(st.integers(1, 3), st.integers(1, 3))))
    gene = st.tuples(st.integers(0, 7), st.integers(0, 7), st.integers(0, 11))
    kinds = (*KINDS, *["detached"] * detached)
    genes = draw(st.lists(st.tuples(st.sampled_from(kinds), gene), max_size=most_genes))
    ends = draw(st.lists(gene, min_size=len(shapes), max_size=len(shapes)))
    writer = Writer(x_size, tuple(shapes), draw(st.integers(0, 99)))
    source = writer.source(genes, ends)
    used = {name: array for name, array in writer.arrays.items() if name in source}
    return DrawnStep(source, used, x_size, tuple(shapes))
