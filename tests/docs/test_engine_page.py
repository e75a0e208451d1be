"""docs/design/engine.md: its program runs, is short, and computes the library's gradients; its claims hold."""

import contextlib
import doctest
import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_lstm as tg
from tinygrad_lstm.models import LSTMCell

PAGE = Path(__file__).parents[2] / "docs" / "design" / "engine.md"
TEXT = PAGE.read_text(encoding="utf-8")


def blocks(language: str) -> str:
    return "\n".join(re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL))


@pytest.fixture(scope="module")
def engine() -> SimpleNamespace:
    """What the page's program defines, and what it `printed`."""
    names: dict[str, Any] = {"__name__": "engine_page"}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(blocks("python"), str(PAGE), "exec"), names)
    return SimpleNamespace(**names, printed=printed.getvalue())


def test_a_hundred_lines() -> None:
    lines = [line for line in blocks("python").splitlines() if line.strip() and not line.lstrip().startswith("#")]
    assert 80 < len(lines) <= 100
    assert f"an engine of {len(lines)} lines" in TEXT


def test_what_the_program_prints(engine: SimpleNamespace) -> None:
    *derivatives, loss = engine.printed.split("\n")[:-1]
    x = np.tanh([0.5, 1.0])
    shown = [float(number) for number in re.findall(r"-?\d+\.\d+", " ".join(derivatives))]
    np.testing.assert_allclose(shown, [*(1 - x**2), *(-2 * x * (1 - x**2))], atol=1e-6)
    assert float(loss) < 0.05, "the LSTM has not learnt"


# -- the same gradients as ours ----------------------------------------------------------------------------------------


class Side(NamedTuple):
    """How an engine is called."""

    leaf: Callable[[np.ndarray], Any]
    array: Callable[[Any], np.ndarray]
    grad: Callable[..., Sequence[Any]]
    tanh: Callable[[Any], Any]
    sigmoid: Callable[[Any], Any]
    total: Callable[[Any], Any]


def theirs(engine: SimpleNamespace) -> Side:
    return Side(
        lambda array: engine.Tensor(array, requires_grad=True),
        engine.array_of,
        engine.grad,
        engine.tanh,
        engine.sigmoid,
        lambda x: engine.sum_to(x, ()),
    )


OURS = Side(
    lambda array: tg.tensor(array, requires_grad=True),
    lambda tensor: tensor.detach().numpy(),
    tg.grad,
    tg.tanh,
    tg.sigmoid,
    lambda x: x.sum(),
)
STEPS = {
    "tanh": lambda side, x, y: side.tanh(x),
    "sigmoid": lambda side, x, y: side.sigmoid(x),
    "add": lambda side, x, y: x + y,
    "sub": lambda side, x, y: x - y,
    "mul": lambda side, x, y: x * y,
    "affine": lambda side, x, y: 2.0 - 0.5 * x,
    "transpose": lambda side, x, y: x.T,
    "matmul": lambda side, x, y: x @ y,
}
SHAPES = [(3, 2), (2, 3), (1, 2), (3, 1), (2,), ()]


def derivatives(side: Side, arrays: Sequence[np.ndarray], steps: Sequence[tuple[str, int, int]]) -> list[np.ndarray]:
    """The value of an expression and its gradients of first and second order, with respect to all leaves."""
    leaves = [side.leaf(array) for array in arrays]
    made = list(leaves)
    for name, first, second in steps:
        x, y = made[first % len(made)], made[second % len(made)]
        shapes = side.array(x).shape, side.array(y).shape
        if name in ("transpose", "matmul") and not (len(shapes[0]) == len(shapes[1]) == 2):
            continue
        try:
            made.append(STEPS[name](side, x, y))
        except ValueError:  # the shapes do not fit
            continue
    value = sum(side.total(side.tanh(x)) for x in made)
    first_order = side.grad(value, leaves, create_graph=True)
    scalar = sum(side.total(g * leaf * leaf) for g, leaf in zip(first_order, leaves, strict=True))
    return [side.array(x) for x in [value, *first_order, *side.grad(scalar, leaves)]]


@given(
    st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.integers(0, 20), st.integers(0, 20)), max_size=8),
    st.integers(0, 2**32 - 1),
)
def test_gradients_are_ours(engine: SimpleNamespace, steps: list[tuple[str, int, int]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(0, 0.5, shape) for shape in SHAPES]
    for own, our in zip(derivatives(theirs(engine), arrays, steps), derivatives(OURS, arrays, steps), strict=True):
        assert own.shape == our.shape
        np.testing.assert_allclose(own, our, rtol=1e-9, atol=1e-12)


def test_its_lstm_cell_is_ours(engine: SimpleNamespace) -> None:
    cell = LSTMCell(1, 8).to(dtype="float64")
    order = [1, 0, 2, 3]  # its gates are f, i, g, o; ours i, f, g, o
    h_and_x = np.stack([np.concatenate([engine.U[k].array, engine.W[k].array]).T for k in order])
    cell.load_state_dict({"weight": h_and_x.reshape(32, 9), "bias": np.concatenate([engine.b[k].array for k in order])})
    x, h, c = np.random.default_rng(1).normal(0, 1, (3, 5, 8))
    own = [engine.Tensor(value, True) for value in (x[:, :1], h, c)]
    our = [tg.tensor(value, requires_grad=True) for value in (x[:, :1], h, c)]
    own_h, own_c = engine.lstm_cell(*own)
    our_h, our_c = cell(our[0], (our[1], our[2]))
    np.testing.assert_allclose(own_h.array, our_h.detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(own_c.array, our_c.detach().numpy(), rtol=1e-12)
    for g, expected in zip(engine.grad(own_h * own_c, own), tg.grad((our_h * our_c).sum(), our), strict=True):
        np.testing.assert_allclose(g, expected.numpy(), rtol=1e-9, atol=1e-12)


def test_a_deep_graph(engine: SimpleNamespace) -> None:
    x = engine.Tensor(1.0, requires_grad=True)
    y = x
    for _ in range(20_000):
        y = y + 0.0
    assert engine.grad(y, [x])[0] == 1


# -- what the page says of the library ---------------------------------------------------------------------------------


def test_sessions_of_the_page() -> None:
    tg.manual_seed(0)
    test = doctest.DocTestParser().get_doctest(blocks("pycon"), {}, PAGE.name, str(PAGE), 0)
    report: list[str] = []
    doctest.DocTestRunner().run(test, out=report.append)
    assert test.examples
    assert not report, "".join(report)


def test_what_is_quoted_stands_in_the_sources() -> None:
    quoted = re.findall(r"^```py\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    assert quoted
    assert all(code in (PAGE.parents[2] / "tinygrad_lstm/ops/elementwise.py").read_text("utf-8") for code in quoted)


@pytest.mark.parametrize(("name", "target"), re.findall(r"\[`([^`]+)`\]\(([^)#]+)\)", TEXT))
def test_what_is_named_stands_there(name: str, target: str) -> None:
    path = PAGE.parent / target
    assert path.exists()
    if not name.endswith((".py", "/")):
        defined = rf"^\s*(def|class) {name}\b|^{name} = |^@op\(.*\b{name}=|^\s*{name}: "
        assert re.search(defined, path.read_text(encoding="utf-8"), re.MULTILINE), f"{name} is not defined in {target}"


def test_files_that_the_drawing_names_are_there() -> None:
    drawn = re.findall(r"[\w/]+\.py", (PAGE.parent / "road.svg").read_text("utf-8"))
    assert len(drawn) >= 4
    assert all((PAGE.parents[2] / "tinygrad_lstm" / name).exists() for name in drawn)
