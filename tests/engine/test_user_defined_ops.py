"""User-defined ops."""

import weakref
from collections.abc import Callable, Sequence
from typing import Any, Optional

import numpy as np
import pytest
from leaves import F64, given, leaf

import tinygrad_lstm as tg
from tinygrad_lstm import Tensor
from tinygrad_lstm.backends.base import Array
from tinygrad_lstm.lengths import Length
from tinygrad_lstm.mode import Switch, Tracer
from tinygrad_lstm.ops.rules import AddsInto, OverRows


@tg.op(x=lambda g, x, F: g * F.cos(x))
def my_sin(xp: Any, x: tg.Array) -> Any:
    """The sine."""
    return xp.sin(x)


@tg.op(x=lambda g, x, F: F.neg(g * F(my_sin)(x)))
def my_cos(xp: Any, x: tg.Array) -> Any:
    return xp.cos(x)


@tg.op(promotion="common", broadcasts=True, x=lambda g, y: g * y, y=lambda g, x: g * x)
def my_mul(xp: Any, x: tg.Array, y: tg.Array) -> Any:
    return xp.multiply(x, y)


@tg.op(xs=lambda g, xs, k: [g * xs[1] * k, g * xs[0] * k])
def my_pair(xp: Any, xs: Sequence[tg.Array], k: float = 1.0) -> Any:
    return xs[0] * xs[1] * k


@tg.op(x=lambda g, out: g[0] * out[0] - g[1] * out[1])
def exp_both(xp: Any, x: tg.Array) -> Any:
    return xp.exp(x), xp.exp(-x)


@tg.op(x=lambda g, scale: g * scale)
def scaled(xp: Any, x: tg.Array, scale: float = 3.0) -> Any:
    return x * scale


def test_an_op_of_one_input() -> None:
    x = leaf(0.3, 0.7)
    assert my_sin.__doc__ == "The sine." and my_sin.__name__ == "my_sin"
    assert tg.gradcheck(my_sin, x) and tg.gradgradcheck(my_sin, x)
    np.testing.assert_array_equal(my_sin(x).detach().data, np.sin([0.3, 0.7]))
    assert my_sin(np.array([0.5])).tolist() == [np.sin(0.5)]


def test_a_user_defined_op_that_uses_a_second_one() -> None:
    x = leaf(0.3, 0.7)
    assert tg.gradcheck(my_cos, x) and tg.gradgradcheck(my_cos, x)


def test_an_op_of_two_inputs_broadcasts() -> None:
    x, y = tg.tensor([[1.0], [2.0]], dtype=F64, requires_grad=True), leaf(3.0, 4.0, 5.0)
    assert tg.gradcheck(my_mul, [x, y]) and tg.gradgradcheck(my_mul, [x, y])
    my_mul(x, y).sum().backward()
    assert given(x) == [[12.0], [12.0]] and given(y) == [3.0, 3.0, 3.0]
    assert my_mul(x, 2.0).shape == (2, 1) and my_mul(2, y).shape == (3,)


def test_settings_of_an_op() -> None:
    x = leaf(1.0, 2.0)
    assert scaled(x).tolist() == [3.0, 6.0] and scaled(x, scale=2.0).tolist() == [2.0, 4.0]
    scaled(x, 5.0).sum().backward()
    assert given(x) == [5.0, 5.0]
    with pytest.raises(TypeError, match="scaled: unexpected or repeated argument 'size'"):
        scaled(x, size=2)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="scaled: 3 arguments do not fit"):
        scaled(x, 1.0, 2.0)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="scaled"):
        scaled(scale=1.0)  # type: ignore[call-arg]


@pytest.mark.parametrize("kind", [list, tuple, iter])
def test_an_op_of_a_list(kind: Callable[[list[Tensor]], Any]) -> None:
    x, y = leaf(2.0, 3.0), leaf(5.0, 7.0)
    my_pair(kind([x, y]), 10.0).sum().backward()
    assert given(x) == [50.0, 70.0] and given(y) == [20.0, 30.0]
    assert tg.gradcheck(lambda x, y: my_pair(kind([x, y])), [x, y])
    assert tg.gradgradcheck(lambda x, y: my_pair(kind([x, y])), [x, y])


def test_a_list_given_to_an_op_may_be_changed_after() -> None:
    x, y = leaf(2.0), leaf(5.0)
    given_list = [x, y]
    z = my_pair(given_list)
    given_list[:] = []
    z.backward()
    assert given(x) == 5.0 and given(y) == 2.0


def test_a_changed_tensor_of_a_list_raises() -> None:
    for kind in (list, tuple):
        x, y = leaf(2.0), leaf(5.0)
        z = my_pair(kind([x, y]))
        with tg.no_grad():
            y.zero_()
        with pytest.raises(RuntimeError, match=r"'my_pair' .*changed in place"):
            z.backward()


def test_an_op_of_several_outputs() -> None:
    x = leaf(0.5, -0.5)
    assert tg.gradcheck(exp_both, x) and tg.gradgradcheck(exp_both, x)
    up, down = exp_both(x)
    (down * 2).sum().backward(retain_graph=True)
    np.testing.assert_allclose(given(x), -2 * np.exp([-0.5, 0.5]))
    with tg.no_grad():
        up.zero_()
    with pytest.raises(RuntimeError, match="its output that op 'exp_both' needs"):
        down.sum().backward()


def test_an_op_without_rules_records_nothing() -> None:
    @tg.op()
    def count(xp: Any, x: tg.Array) -> Any:
        return xp.sum(x > 0)

    assert not count(leaf(1.0, -1.0)).requires_grad and count(leaf(1.0, -1.0)).item() == 1


def test_rules_keep_only_what_they_ask_for() -> None:
    x = tg.ones(3, requires_grad=True) * 1
    kept, dropped = weakref.ref(x.data), weakref.ref(x.data)
    y = my_sin(x)
    del x
    assert kept() is not None
    del y
    x = tg.ones(3, requires_grad=True) * 1
    dropped = weakref.ref(x.data)
    y = scaled(x)
    del x
    assert dropped() is None and y.requires_grad


def test_bad_definitions() -> None:
    with pytest.raises(TypeError, match="op 'f': annotate its inputs"):

        @tg.op()
        def f(xp: Any, x: Any) -> Any:
            return x

    with pytest.raises(TypeError, match="op 'f': the forward rule's first parameter is 'x'"):

        @tg.op()
        def f(x: tg.Array, y: tg.Array) -> Any:
            return x

    with pytest.raises(TypeError, match="op 'f': a rule for 'y', but its inputs are x"):

        @tg.op(y=lambda g: g)
        def f(xp: Any, x: tg.Array) -> Any:
            return x

    with pytest.raises(TypeError, match="op 'f': the rule for 'x' asks for grad"):

        @tg.op(x=lambda grad: grad)
        def f(xp: Any, x: tg.Array) -> Any:
            return x

    with pytest.raises(TypeError, match="op 'f': annotate its inputs"):

        @tg.op()
        def f(xp: Any, xs: Sequence[tg.Array], y: tg.Array) -> Any:
            return y


def test_a_rule_that_returns_a_gradient_of_a_different_shape_or_dtype() -> None:
    @tg.op(x=lambda g: g.sum())
    def shrinks(xp: Any, x: tg.Array) -> Any:
        return x * 1

    @tg.op(x=lambda g: g * np.float64(2))
    def widens(xp: Any, x: tg.Array) -> Any:
        return x * 2

    x = tg.ones(3, requires_grad=True)
    with pytest.raises(RuntimeError, match=r"rule for 'x' of op 'shrinks' gave .* \(\); expected .* \(3,\)"):
        shrinks(x).sum().backward()
    with pytest.raises(RuntimeError, match=r"float32 tensor .* a float64 gradient"):
        tg.grad(widens(x).sum(), x)
    assert x.grad is None


def test_errors_of_a_forward_rule_name_the_op_and_its_inputs() -> None:
    with pytest.raises(ValueError, match=r"my_mul: .*float64 \(2,\) on cpu, float64 \(3,\) on cpu"):
        my_mul(leaf(1.0, 2.0), leaf(1.0, 2.0, 3.0))


class UnfitError(ValueError):
    """An error with more than a message."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def failing(error: Exception) -> Callable[..., Tensor]:
    @tg.op(x=lambda g: g)
    def my_check(xp: Any, x: Array) -> Array:
        raise error

    return my_check


@pytest.mark.parametrize("error", [
    np.linalg.LinAlgError("singular"),
    UnfitError("too wide", 7),
    KeyError("x"),
    FloatingPointError("divided"),
    UnicodeDecodeError("utf-8", b"x", 0, 1, "why"),
    np.exceptions.AxisError(3, 2),
], ids=lambda error: type(error).__name__)  # fmt: skip
@pytest.mark.parametrize("watched", [False, True])
def test_errors_of_a_forward_rule_stay_what_they_are(error: Exception, watched: bool) -> None:
    before, attributes = str(error), dict(vars(error))
    with pytest.raises(type(error)) as raised, tg.detect_anomaly() if watched else tg.enable_grad():
        failing(error)(leaf(1.0, 2.0))
    assert raised.value is error and str(error) == before
    assert {name: value for name, value in vars(error).items() if name != "__notes__"} == attributes
    assert error.__notes__ == ["in op 'my_check' (inputs: float64 (2,) on cpu)"]
    del error.__notes__


def division_by_zero(*arguments: Any) -> Any:
    raise ZeroDivisionError("division by zero")


@pytest.mark.parametrize("rules", [
    {"x": lambda g: division_by_zero()},
    {"x": lambda g, x, F: F.exp(division_by_zero())},
    {"x": AddsInto(lambda g: g, add=lambda buffer, g: division_by_zero())},
    {"x": OverRows(lambda g: division_by_zero(), rows=("g",))},
], ids=["on arrays", "with F", "into", "by rows"])  # fmt: skip
@pytest.mark.parametrize("times", [1, 2])
def test_errors_of_a_derivative_rule_name_the_op(rules: dict[str, Any], times: int) -> None:
    @tg.op(**rules)
    def my_copy(xp: Any, x: Array) -> Array:
        return x.copy()

    x = leaf(1.0, 2.0)
    y = my_copy(x) if times == 1 else my_copy(x) + my_copy(x)
    with pytest.raises(ZeroDivisionError, match="division by zero") as raised:
        (y + x).sum().backward()
    assert raised.value.__notes__ == ["in the derivative of op 'my_copy'"]
    assert x.grad is None


def test_errors_of_the_derivative_rule_of_an_op_of_a_list_name_the_op() -> None:
    @tg.op(parts=lambda g: [division_by_zero()])
    def my_sum(xp: Any, parts: Sequence[Array]) -> Array:
        return sum(parts)

    with pytest.raises(ZeroDivisionError) as raised:
        my_sum([leaf(1.0), leaf(2.0)]).backward()
    assert raised.value.__notes__ == ["in the derivative of op 'my_sum'"]


def test_plain_errors_of_a_forward_rule_name_the_op_in_their_message() -> None:
    error = ValueError("too wide")
    with pytest.raises(ValueError) as raised:
        failing(error)(leaf(1.0, 2.0))
    assert raised.value is error and str(error) == "my_check: too wide (inputs: float64 (2,) on cpu)"


def test_singular_matrices_in_a_forward_rule() -> None:
    @tg.op(x=lambda g, out: g)
    def inverse(xp: Any, x: Array) -> Array:
        return xp.linalg.inv(x)

    with pytest.raises(np.linalg.LinAlgError, match="Singular"):
        inverse(tg.zeros(2, 2))


def test_a_rule_of_the_wrong_shape_is_found_where_it_stands() -> None:
    """Not only at a leaf: broadcasting on the way there could hide it."""

    @tg.op(x=lambda g, x: (g * x).sum())
    def wrong(xp: Any, x: tg.Array) -> Any:
        return x * x / 2

    x, w = tg.tensor([1.0, 2.0, 3.0], requires_grad=True), tg.tensor([1.0, 2.0, 3.0])
    with pytest.raises(RuntimeError, match="rule for 'x' of op 'wrong'"):
        wrong(x * w).sum().backward()
    assert x.grad is None


def test_a_rule_that_returns_none_is_an_error() -> None:
    @tg.op(x=lambda g: None)
    def forgets(xp: Any, x: tg.Array) -> Any:
        return x * 2

    x = tg.ones(3, requires_grad=True)
    with pytest.raises(RuntimeError, match="op 'forgets' gave NoneType"):
        forgets(x).sum().backward()


def test_a_forward_rule_may_return_its_input() -> None:
    @tg.op(x=lambda g: g)
    def same(xp: Any, x: tg.Array) -> Any:
        return x

    x = tg.ones(2, requires_grad=True)
    y = x * 1
    z = (y * y).sum()
    same(y).mul_(10.0)
    z.backward()
    assert given(x) == [2.0, 2.0]


def test_a_forward_rule_that_returns_a_list_is_an_error() -> None:
    @tg.op(x=lambda g: g[0])
    def listed(xp: Any, x: tg.Array) -> Any:
        return [x, x]

    with pytest.raises(TypeError, match="listed: the forward rule gave a list"):
        listed(tg.ones(2))


@pytest.mark.parametrize(
    "name",
    [
        "mask",
        "now",
        "device",
        "number",
        "node",
        "keep",
        "shapes",
        "wrap",
        "record",
        "mode",
        "Tensor",
        "call",
        "op",
        "derivative",
        "isinstance",
        "tuple",
        "list",
        "dict",
        "bool",
        "map",
        "rule",
        "x_rule",
        "x_default",
    ],
)
def test_parameters_may_have_any_name(name: str) -> None:
    names: dict[str, Any] = {"tg": tg, "Array": tg.Array, "Sequence": Sequence}
    source = (
        "@tg.op(x=lambda g, {0}: g * {0}, {0}=lambda g, x: g * x)\n"
        "def product(xp, x: Array, {0}: Array): return x * {0}\n"
        "@tg.op({0}=lambda g, {0}: [g * len({0})] * 2)\ndef total(xp, {0}: Sequence[Array]): return {0}[0] + {0}[1]\n"
        "@tg.op(x=lambda g, {0}: g * {0})\ndef scale(xp, x: Array, {0}=1.0): return x * {0}\n"
    )
    exec(source.format(name), names)
    x, y = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    names["product"](x, y).sum().backward()
    assert (given(x), given(y)) == ([3.0, 4.0], [1.0, 2.0])
    x.grad = y.grad = None
    names["total"]([x, y]).sum().backward()
    assert given(x) == given(y) == [2.0, 2.0]
    x.grad = None
    names["scale"](x.to("float32"), **{name: 5.0}).sum().backward()
    assert given(x) == [5.0, 5.0]


def test_an_op_that_is_given_no_tensor_at_all() -> None:
    @tg.op(x=lambda g: [g for _ in range(3)])
    def total(xp: Any, x: Sequence[tg.Array]) -> Any:
        return sum(x, xp.zeros(2))

    @tg.op(x=lambda g: g)
    def or_zeros(xp: Any, x: tg.Array | None) -> Any:
        return xp.zeros(2) if x is None else x

    assert total([]).tolist() == or_zeros(None).tolist() == [0.0, 0.0]
    with pytest.raises(TypeError, match="add: unsupported operand"):
        tg.add(None, None)


def test_a_forward_rule_may_return_a_named_tuple() -> None:
    @tg.op()
    def eigenvalues(xp: Any, x: tg.Array) -> Any:
        return xp.linalg.eigh(x)

    values, vectors = eigenvalues(tg.tensor([[2.0, 0.0], [0.0, 3.0]]))
    assert values.tolist() == [2.0, 3.0]
    assert vectors.shape == (2, 2)


def test_a_forward_rule_that_returns_an_array_of_a_subclass() -> None:
    class Subclass(np.ndarray[Any, Any]):
        pass

    @tg.op()
    def as_subclass(xp: Any, x: tg.Array) -> Any:
        return (x + 1).view(Subclass)

    assert type(as_subclass(tg.ones(2, 2)).data) is np.ndarray


def test_settings_may_come_before_inputs() -> None:
    @tg.op(x=lambda g, k: g * k)
    def times(xp: Any, k: int, x: Array) -> Array:
        return x * k

    @tg.op(xs=lambda g, k: [g * k, g * k], promotion="common")
    def sum_times(xp: Any, k: int, xs: Sequence[Array]) -> Array:
        return (xs[0] + xs[1]) * k

    x = leaf(1.0, 2.0)
    (times(3, x) + times(x=x, k=4) + sum_times(5, [x, np.ones(2)])).sum().backward()
    assert given(x) == [12.0, 12.0]
    assert times(3, np.ones(2)).tolist() == [3.0, 3.0]
    with pytest.raises(TypeError, match="times: an argument is missing"):
        times(3)  # type: ignore[call-arg]


@pytest.mark.parametrize("annotation", ["Optional[Array]", "None | Array", "A", "tg.Array | None", "Hidden[Array]"])
def test_annotations_that_are_strings(annotation: str) -> None:
    names: dict[str, Any] = {"tg": tg, "Array": tg.Array, "A": tg.Array, "Optional": Optional}
    source = f"from __future__ import annotations\ndef same(xp, x: Array, y: {annotation}): return x"
    exec(source, names)
    made: Any = tg.op(x=lambda g: g)(names["same"])
    assert made.op.inputs == (["x"] if "Hidden" in annotation else ["x", "y"])


def test_a_fused_rule_may_return_one_array_for_several_inputs() -> None:
    @tg.op(composed=lambda xs: xs[0] + xs[1], xs=lambda g: [g, g])
    def fused_add(backend: Any, xs: Sequence[tg.Array], saving: bool) -> Any:
        return xs[0] + xs[1], None

    x, y = leaf([1.0, 1.0]), leaf([1.0, 1.0])
    a, b = x * 1, y * 1
    other = a * 5
    (fused_add([a, b]).sum() + other.sum()).backward()
    assert (given(x), given(y)) == ([6.0, 6.0], [1.0, 1.0])
    g = tg.tensor([1.0, 1.0], dtype=x.dtype)
    for found in tg.grad(fused_add([x, y]), [x, y], g):
        found.add_(7.0)
    assert g.tolist() == [1.0, 1.0]


def test_sums_over_rows_with_different_settings_are_separate() -> None:
    rule = OverRows(lambda g, x, scale: (g * x).sum(0) * scale, rows=("g", "x"))

    @tg.op(weight=rule)
    def scaled_by(xp: Any, weight: tg.Array, x: tg.Array, scale: Any = 1.0) -> Any:
        return weight * x * xp.asarray(scale)

    weight, x = leaf([1.0, 2.0]), tg.ones(3, 2, dtype=F64)
    (scaled_by(weight, x, 2.0) + scaled_by(weight, x, 5.0)).sum().backward()
    assert given(weight) == [21.0, 21.0]
    weight.grad = None
    twos, fives = np.full(2, 2.0), np.full(2, 5.0)  # cannot be hashed
    (scaled_by(weight, x, twos) + scaled_by(weight, x, fives)).sum().backward()
    assert given(weight) == [21.0, 21.0]


def test_an_output_and_its_own_derivative_in_one_sum() -> None:
    @tg.op(x=lambda g, out: g[0] * out[0] + g[1] * out[1])
    def two_exp(xp: Any, x: tg.Array) -> Any:
        return xp.exp(x), xp.exp(x)

    x = leaf([0.5])
    first, second = two_exp(x)
    (derivative,) = tg.grad((first * first + second).sum(), x, create_graph=True)
    (found,) = tg.grad((derivative + first).sum(), x)
    assert found.item() == pytest.approx(4 * np.exp(1.0) + 2 * np.exp(0.5))


def test_a_number_that_a_traced_run_computes_from_lengths_is_recorded_as_a_plain_one() -> None:
    x = leaf([1.0, 2.0])
    with Switch(tracer=Tracer()):
        y = x * Length(2, 3)
    y.sum().backward()
    assert given(x) == [3.0, 3.0]


def test_keyword_only_parameters_are_refused() -> None:
    with pytest.raises(TypeError, match=r"op 'scaled_by': parameter 'k=2' is not a plain one"):

        @tg.op()
        def scaled_by(xp: Any, x: tg.Array, *, k=2) -> Any:  # type: ignore[no-untyped-def]
            return x * k
