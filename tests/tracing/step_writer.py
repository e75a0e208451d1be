"""Writes random programs of ops, each the step of a recurrent cell: what `drawn_steps` draws, in text.

A program is made of genes, each some small integers. A gene that cannot be used as it is takes what comes closest, so
that any of them may be removed or made smaller. Every value is known to be within an interval: where an op would leave
its domain, or numbers would grow, the program squashes its operand first, and every state stays within [-1, 1].
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Gene = tuple[int, int, int]
Shape = tuple[int, ...]


def state_names(shapes: Sequence[Shape]) -> list[str]:
    """h and further letters for vectors, capitals for matrices."""
    return [(letter if len(shape) == 1 else letter.upper()) for letter, shape in zip("hcn", shapes, strict=False)]


@dataclass(frozen=True)
class Value:
    """A variable of a program: its shape without B, and the interval that its numbers are within."""

    text: str
    shape: Shape
    low: float = -1.0
    high: float = 1.0
    batched: bool = True

    @property
    def width(self) -> int:
        return self.shape[-1]

    @property
    def most(self) -> float:
        """The largest magnitude."""
        return max(-self.low, self.high)


MOST = 6.0
"""Values of a larger magnitude are squashed."""

NUMBERS = (0.5, 2.0, -1.5, 1.0, 3.0)


def increasing(function: Callable[[float], float]) -> Callable[[Value], tuple[float, float]]:
    return lambda v: (function(v.low), function(v.high))


def within(low: float, high: float) -> Callable[[Value], tuple[float, float]]:
    return lambda v: (low, high)


UNARY: dict[str, Callable[[Value], tuple[float, float]]] = {
    "tg.tanh({})": increasing(math.tanh),
    "tg.sigmoid({})": increasing(lambda x: 1 / (1 + math.exp(-x))),
    "tg.relu({})": increasing(lambda x: max(x, 0.0)),
    "tg.leaky_relu({}, 0.1)": increasing(lambda x: max(x, 0.1 * x)),
    "tg.elu({})": increasing(lambda x: x if x > 0 else math.expm1(x)),
    "tg.softplus({})": increasing(lambda x: math.log1p(math.exp(x))),
    "tg.logsigmoid({})": increasing(lambda x: -math.log1p(math.exp(-x))),
    "tg.exp({})": increasing(math.exp),
    "tg.expm1({})": increasing(math.expm1),
    "tg.erf({})": increasing(math.erf),
    "tg.clamp({}, -0.5, 0.75)": increasing(lambda x: min(max(x, -0.5), 0.75)),
    "tg.clamp({}, min=0.1)": increasing(lambda x: max(x, 0.1)),
    "-{}": lambda v: (-v.high, -v.low),
    "tg.abs({})": lambda v: (0.0, v.most),
    "tg.square({})": lambda v: (0.0, v.most**2),
    "{} ** 3": increasing(lambda x: x**3),
    "2.0 ** {}": increasing(lambda x: 2.0**x),
    "tg.sign({})": within(-1, 1),
    "tg.sin({})": within(-1, 1),
    "tg.cos({})": within(-1, 1),
    "tg.silu({})": lambda v: (-0.3, max(v.high, 0.0)),
    "tg.gelu({})": lambda v: (-0.2, max(v.high, 0.0)),
}
OF_POSITIVE = {
    "tg.sqrt({})": increasing(math.sqrt),
    "tg.log({})": increasing(math.log),
    "tg.log1p({})": increasing(math.log1p),
    "tg.reciprocal({})": lambda v: (1 / v.high, 1 / v.low),
    "tg.rsqrt({})": lambda v: (v.high**-0.5, v.low**-0.5),
}
REDUCTIONS: dict[str, Callable[[Value], tuple[float, float]]] = {
    "tg.sum({}, dim=-1, keepdim=True)": lambda v: (v.low * v.width, v.high * v.width),
    "tg.mean({}, dim=-1, keepdim=True)": lambda v: (v.low, v.high),
    "tg.amax({}, dim=-1, keepdim=True)": lambda v: (v.low, v.high),
    "tg.amin({}, dim=-1, keepdim=True)": lambda v: (v.low, v.high),
    "tg.logsumexp({}, dim=-1, keepdim=True)": lambda v: (v.low, v.high + math.log(v.width)),
    "tg.var({}, dim=-1, correction=0, keepdim=True)": lambda v: (0.0, v.most**2),
    "tg.prod({}, dim=-1, keepdim=True)": lambda v: (-(max(v.most, 1) ** v.width), max(v.most, 1) ** v.width),
}
ALONG_UNITS: dict[str, Callable[[Value], tuple[float, float]]] = {
    "tg.softmax({}, dim=-1)": within(0, 1),
    "tg.log_softmax({}, dim=-1)": lambda v: (v.low - v.high - math.log(v.width), 0.0),
    "tg.cumprod({}, dim=-1)": lambda v: (-(max(v.most, 1) ** v.width), max(v.most, 1) ** v.width),
    "tg.logcumsumexp({}, dim=-1)": lambda v: (v.low, v.high + math.log(v.width)),
    "tg.cumsum({}, dim=-1)": lambda v: (-v.most * v.width, v.most * v.width),
    "tg.flip({}, -1)": lambda v: (v.low, v.high),
    "tg.roll({}, 1, -1)": lambda v: (v.low, v.high),
    "tg.roll({}, (1, 2), (-1, -1))": lambda v: (v.low, v.high),
}


class Writer:
    """Writes a program line by line, and draws the parameters that it needs."""

    def __init__(self, x_size: int, state_shapes: tuple[Shape, ...], seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.lines: list[str] = []
        self.arrays: dict[str, np.ndarray] = {}
        names = state_names(state_shapes)
        self.states = [Value(name, shape) for name, shape in zip(names, state_shapes, strict=True)]
        self.rows = [state for state in self.states if len(state.shape) == 1] + [Value("x", (x_size,))]
        self.matrices = [state for state in self.states if len(state.shape) == 2]
        if len(names) > 1:
            self.lines.append(f"{', '.join(names)} = state")
        self.count = 0

    # -- what a line is made of ----------------------------------------------------------------------------------------

    def line(self, text: str, shape: Shape, interval: tuple[float, float], batched: bool = True) -> Value:
        """Adds a line for a new variable."""
        name = f"v{self.count}"
        self.count += 1
        self.lines.append(f"{name} = {text}")
        return self.add(Value(name, shape, *interval, batched=batched))

    def add(self, value: Value) -> Value:
        """Makes a variable known to later lines, squashed if it may be large."""
        if value.most > MOST:
            return self.apply("tg.tanh({})", increasing(math.tanh), value)
        if value.batched:
            (self.rows if len(value.shape) == 1 else self.matrices).append(value)
        return value

    def apply(self, template: str, interval: Callable[[Value], tuple[float, float]], v: Value) -> Value:
        return self.line(template.format(v.text), v.shape, interval(v), v.batched)

    def row(self, k: int) -> Value:
        """A vector, for k = 0 the newest."""
        return self.rows[-1 - k % len(self.rows)]

    def matrix(self, k: int) -> Value:
        """A matrix, for k = 0 the newest; a new one if there is none."""
        return self.matrices[-1 - k % len(self.matrices)] if self.matrices else self.outer(k, k + 1, 0)

    def parameter(self, shape: Shape, fresh: int, kind: str = "vector") -> Value:
        """A parameter, by `fresh` a new one or one of this shape that the program uses already."""
        known = [name for name, array in self.arrays.items() if array.shape == shape and name.startswith(kind)]
        name = known[fresh % len(known)] if known and fresh % 2 else f"{kind}{len(self.arrays)}"
        if name not in self.arrays:
            self.arrays[name] = self.rng.uniform(-0.8, 0.8, shape)
        return Value(name, shape, -0.8, 0.8, batched=False)

    def product(self, v: Value, width: int, mode: int = 0) -> Value:
        """A linear function of a vector."""
        if mode % 5 == 4:
            text = f"{v.text} @ {self.parameter((v.width, width), mode // 5, 'weight').text}"
        else:
            weight = self.parameter((width, v.width), mode // 5, "weight").text
            bias = self.parameter((width,), mode // 5, "bias").text
            text = (
                f"tg.linear({v.text}, {weight}, {bias})",
                f"tg.linear({v.text}, {weight})",
                f"{v.text} @ {weight}.T",
                f'tg.einsum("bi,oi->bo", {v.text}, {weight})',
            )[mode % 5]
        most = 0.8 * (v.width * v.most + 1)
        return self.line(text, (width,), (-most, most))

    def of_width(self, v: Value, width: int, also: int = 0) -> Value:
        """A vector made to be of a width; one of width `also` stays."""
        if v.width in (width, also):
            return v
        if v.width > width:
            return self.line(f"{v.text}[:, {v.width - width}:]", (width,), (v.low, v.high))
        return self.product(v, width)

    def positive(self, v: Value) -> Value:
        return (
            v if v.low >= 0.1 else self.line(f"{v.text} * {v.text} + 0.5", v.shape, (0.5, v.most**2 + 0.5), v.batched)
        )

    def bounded(self, v: Value) -> Value:
        return v if v.most <= 1 else self.apply("tg.tanh({})", increasing(math.tanh), v)

    def matched(self, a: int, b: int) -> tuple[Value, Value, Shape]:
        """Two vectors whose shapes broadcast, and the result's shape."""
        left = self.row(a)
        right = self.of_width(self.row(b), left.width, also=1)
        return left, right, (max(left.width, right.width),)

    # -- one method per kind of gene -----------------------------------------------------------------------------------

    def unary(self, a: int, b: int, c: int) -> None:
        functions = list(UNARY.items()) + list(OF_POSITIVE.items())
        template, interval = functions[(c + 12 * a) % len(functions)]
        v = self.row(b)
        self.apply(template, interval, self.positive(v) if template in OF_POSITIVE else v)

    def of_parameter(self, a: int, b: int, c: int) -> None:
        """A value that is the same in each step, used in it."""
        v = self.row(a)
        p = self.apply("tg.sigmoid({})", within(0, 1), self.parameter((v.width,), c))
        self.line(f"{v.text} * {p.text}", v.shape, (-v.most, v.most))

    def linear(self, a: int, b: int, c: int) -> None:
        self.product(self.row(a), 1 + b % 5, c)

    def binary(self, a: int, b: int, c: int) -> None:
        left, right, shape = self.matched(a, b)
        most = left.most + right.most
        texts = (
            (f"{left.text} + {right.text}", most),
            (f"{left.text} - {right.text}", most),
            (f"{left.text} * {right.text}", left.most * right.most),
            (f"tg.maximum({left.text}, {right.text})", max(left.most, right.most)),
            (f"tg.minimum({left.text}, {right.text})", max(left.most, right.most)),
        )
        text, most = texts[c % len(texts)]
        self.line(text, shape, (-most, most))

    def divide(self, a: int, b: int, c: int) -> None:
        left, right, shape = self.matched(a, b)
        right = self.positive(right)
        most = left.most / right.low
        self.line(f"{left.text} / {right.text}", shape, (-most, most))

    def with_parameter(self, a: int, b: int, c: int) -> None:
        v = self.row(a)
        p = self.parameter((v.width,), b, "constant" if c >= 6 else "vector").text
        texts = (f"{v.text} * {p}", f"{v.text} + {p}", f"{p} - {v.text}")
        most = v.most + 0.8
        self.line(texts[c % 3], v.shape, (-most, most))

    def with_number(self, a: int, b: int, c: int) -> None:
        v, number = self.row(a), NUMBERS[b % len(NUMBERS)]
        texts = (
            f"{number} - {v.text}",
            f"{v.text} * {number}",
            f"{v.text} + {number}",
            f"{number} * {v.text}",
            f"{v.text} / {number}",
            f"tg.maximum({v.text}, {number / 4})",
        )
        most = max(v.most + abs(number), v.most * abs(number), v.most / abs(number))
        self.line(texts[c % len(texts)], v.shape, (-most, most))

    def choice(self, a: int, b: int, c: int) -> None:
        """A value that depends on a comparison."""
        left, right, shape = self.matched(a, b)
        number = NUMBERS[b % len(NUMBERS)] / 7
        tests = (
            f"{left.text} > {number}",
            f"{right.text} <= {left.text}",
            f"tg.logical_and({left.text} > {-abs(number)}, {right.text} < 0.4)",
        )
        test = tests[c % 3]
        texts = (
            f"tg.where({test}, {left.text}, {right.text})",
            f"tg.where({test}, 0.0, {right.text})",
            f"({test}) * {right.text}",
        )
        most = max(left.most, right.most)
        self.line(texts[c // 3 % 3], shape, (-most, most))

    def join(self, a: int, b: int, c: int) -> None:
        parts = [self.row(a), self.row(b)] + ([self.row(c)] if c % 3 == 2 else [])
        most = max(part.most for part in parts)
        width = sum(part.width for part in parts)
        self.line(f"tg.concat([{', '.join(part.text for part in parts)}], dim=-1)", (width,), (-most, most))

    def parts(self, a: int, b: int, c: int) -> None:
        """Both halves, or two parts of different widths."""
        v = self.row(a)
        if v.width == 1:
            return self.linear(a, 1 + b, c)
        widths = [v.width // 2] * 2 if v.width % 2 == 0 and c % 2 == 0 else [1 + b % (v.width - 1)]
        widths = widths if len(widths) == 2 else [widths[0], v.width - widths[0]]
        call = (
            f"tg.chunk({v.text}, 2, dim=-1)"
            if c % 2 == 0 and v.width % 2 == 0
            else f"tg.split({v.text}, {widths}, dim=1)"
        )
        names = [f"v{self.count}", f"v{self.count + 1}"]
        self.count += 2
        self.lines.append(f"{', '.join(names)} = {call}")
        for name, width in zip(names, widths, strict=True):
            self.add(Value(name, (width,), v.low, v.high))
        return None

    def item(self, a: int, b: int, c: int) -> None:
        v = self.row(a)
        start = b % v.width
        stop = start + 1 + c % (v.width - start)
        texts = {
            f"{v.text}[:, {start}:{stop}]": stop - start,
            f"{v.text}[..., {start}:]": v.width - start,
            f"{v.text}[:, ::2]": -(-v.width // 2),
        }
        text = list(texts)[b % 3]
        self.line(text, (texts[text],), (v.low, v.high))

    def widened(self, a: int, b: int, c: int) -> None:
        v = self.row(a)
        texts = {
            f"tg.pad({v.text}, (1, 0))": v.width + 1,
            f"tg.repeat({v.text}, 1, 2)": 2 * v.width,
            f"tg.concat([{v.text}, tg.ones_like({v.text})], dim=1)": 2 * v.width,
            f"tg.concat([tg.ones(len(x), 1, dtype=x.dtype, device=x.device), {v.text}], dim=1)": v.width + 1,
        }
        text = list(texts)[c % 4]
        most = max(v.most, 1.0)
        self.line(text, (texts[text],), (-most, most))

    def detached(self, a: int, b: int, c: int) -> None:
        v = self.row(a)
        self.line(f"{v.text}.detach()", v.shape, (v.low, v.high))

    def reduction(self, a: int, b: int, c: int) -> None:
        template, interval = list(REDUCTIONS.items())[b % len(REDUCTIONS)]
        v = self.row(a)
        self.line(template.format(v.text), (1,), interval(v))

    def along_units(self, a: int, b: int, c: int) -> None:
        template, interval = list(ALONG_UNITS.items())[b % len(ALONG_UNITS)]
        self.apply(template, interval, self.row(a))

    def normalized(self, a: int, b: int, c: int) -> None:
        v = self.row(a)
        weight, bias = (self.parameter((v.width,), b, kind).text for kind in ("norm", "bias"))
        texts = (f"{v.width}", f"{v.width}, {weight}, {bias}", f"{v.width}, {weight}")
        most = math.sqrt(v.width) + 0.8
        self.line(f"tg.layer_norm({v.text}, {texts[c % 3]}, eps=0.01)", v.shape, (-most, most))

    # Matrices.

    def outer(self, a: int, b: int, c: int) -> Value:
        left, right = self.row(a), self.row(b)
        texts = (
            f'tg.einsum("bi,bj->bij", {left.text}, {right.text})',
            f"{left.text}[:, :, None] * {right.text}[:, None, :]",
            f"{left.text}.unsqueeze(-1) * {right.text}.unsqueeze(1)",
        )
        most = left.most * right.most
        return self.line(texts[c % 3], (left.width, right.width), (-most, most))

    def read(self, a: int, b: int, c: int) -> None:
        """A matrix times a vector."""
        M = self.matrix(a)
        q = self.of_width(self.row(b), M.width)
        texts = (f'tg.einsum("bij,bj->bi", {M.text}, {q.text})', f"tg.sum({M.text} * {q.text}[:, None, :], dim=-1)")
        most = M.width * M.most * q.most
        self.line(texts[c % 2], M.shape[:1], (-most, most))

    def of_matrix(self, a: int, b: int, c: int) -> None:
        M = self.matrix(a)
        D, E = M.shape
        scale = self.of_width(self.row(b), D, also=1)
        texts: tuple[tuple[str, Shape, float], ...] = (
            (f"tg.tanh({M.text})", M.shape, M.most),
            (f"{M.text} * {scale.text}[:, :, None]", M.shape, M.most * scale.most),
            (f"{M.text}.transpose(1, 2)", (E, D), M.most),
            (f"{M.text}.reshape(-1, {D * E})", (D * E,), M.most),
            (f"{M.text}.reshape(x.shape[0], {D * E})", (D * E,), M.most),
            (f"tg.flatten({M.text}, 1)", (D * E,), M.most),
            (f"tg.sum({M.text}, dim=1)", (E,), D * M.most),
            (f"{M.text} @ {M.text}.transpose(1, 2)", (D, D), E * M.most**2),
            (f"1.0 - {M.text}", M.shape, 1 + M.most),
            (f"{M.text}[:, {b % D}]", (E,), M.most),
            (f"tg.unbind({M.text}, 2)[{b % E}]", (D,), M.most),
        )
        text, shape, most = texts[c % len(texts)]
        self.line(text, shape, (-most, most))

    def to_matrix(self, a: int, b: int, c: int) -> None:
        v = self.row(a)
        if c % 2:
            other = self.of_width(self.row(b), v.width)
            most = max(v.most, other.most)
            self.line(f"tg.stack([{v.text}, {other.text}], dim=1)", (2, v.width), (-most, most))
        else:
            D = next(D for D in (3, 2, 1) if v.width % D == 0)
            batch = ("-1", "len(x)", "x.shape[0]")[c // 2 % 3]
            self.line(f"{v.text}.reshape({batch}, {D}, {v.width // D})", (D, v.width // D), (v.low, v.high))

    # -- the end -------------------------------------------------------------------------------------------------------

    def next_state(self, state: Value, a: int, b: int, c: int) -> Value:
        """A state after the step: a value of its shape within [-1, 1], mixed with the state before if c says so."""
        new = self.bounded(self.of_shape(state.shape, a, b))
        if c % 3 == 0:
            return new
        if c % 3 == 1 or len(state.shape) == 2:
            return self.line(f"0.75 * {state.text} + 0.25 * {new.text}", state.shape, (-1.0, 1.0))
        f = self.apply("tg.sigmoid({})", within(0, 1), self.of_width(self.row(b), state.width, also=1))
        return self.line(f"{f.text} * {state.text} + (1.0 - {f.text}) * {new.text}", state.shape, (-1.0, 1.0))

    def of_shape(self, shape: Shape, a: int, b: int) -> Value:
        if len(shape) == 1:
            return self.of_width(self.row(a), shape[0])
        fitting = [M for M in self.matrices if M.shape == shape and M not in self.states]
        if fitting:
            return fitting[-1 - a % len(fitting)]
        left, right = self.of_width(self.row(a), shape[0]), self.of_width(self.row(b), shape[1])
        self.rows += [right, left]  # so that these are the newest
        return self.outer(0, 1, a)

    def source(self, genes: Sequence[tuple[str, Gene]], ends: Sequence[Gene]) -> str:
        for kind, gene in genes:
            getattr(self, kind)(*gene)
        # The states after the step are chosen from what the genes wrote, not from each other.
        rows, matrices, after = list(self.rows), list(self.matrices), []
        for state, gene in zip(self.states, ends, strict=True):
            self.rows, self.matrices = list(rows), list(matrices)
            after.append(self.next_state(state, *gene).text)
        head = f"def step(x, {self.states[0].text if len(self.states) == 1 else 'state'}):"
        return "\n    ".join([head, *self.lines, f"return {', '.join(after)}"]) + "\n"


KINDS = (
    *["unary"] * 5,  # so often since there are so many
    *["linear", "binary"] * 2,
    "with_number",
    "with_parameter",
    "of_parameter",
    "divide",
    "choice",
    "join",
    "parts",
    "item",
    "widened",
    "reduction",
    "along_units",
    "normalized",
    "outer",
    "read",
    "of_matrix",
    "to_matrix",
)
