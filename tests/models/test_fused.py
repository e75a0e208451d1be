"""Recurrent layers, which a backend computes at once, held against their cells, unrolled step by step.

Values and derivatives of any order, whichever kernels run; and that nothing which anyone can see is overwritten, though
the memory below is used again and again.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fused_problems import (
    CELLS,
    INTO,
    Parts,
    Problem,
    arguments,
    assert_close,
    assert_same,
    every_kind,
    gradients,
    host,
    large,
    of_nans,
    problem_of,
    weighted,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st

import tinygrad_lstm as tg
from tinygrad_lstm.backends import memory

one_of_each = example(drawn={"T": 1, "B": 1, "I": 1, "H": 1}, into="both", frozen=set(), of_grad=0)


# -- against the cell --------------------------------------------------------------------------------------------------


@every_kind
@one_of_each
@given(drawn=arguments(), into=INTO, frozen=st.sets(st.integers(0, 12)), of_grad=st.integers(0, 12))
def test_values_and_first_derivatives(
    kind: Any, compiled: bool, drawn: dict[str, Any], into: str, frozen: set[int], of_grad: int
) -> None:
    """For any subset of the inputs, and for a single one."""
    problem = problem_of(kind, **drawn)
    leaves = problem.leaves
    for k, leaf in enumerate(leaves.values()):
        leaf.requires_grad = k not in frozen
    fused, composed = problem.fused(), problem.composed()
    for what, actual, expected in zip(("out", "h", "c"), fused, composed):
        assert_close(actual, expected, problem.loose, what)
    learning = {name: leaf for name, leaf in leaves.items() if leaf.requires_grad}
    assert all(part.requires_grad == bool(learning) for part in fused)
    if not learning:
        return
    expected = dict(zip(learning, gradients(composed, learning.values(), into)))
    chosen = list(learning)[of_grad % len(learning)]
    (alone,) = gradients(fused, [learning[chosen]], into, retain_graph=True)
    assert_close(alone, expected[chosen], problem.loose, f"{chosen} alone")
    weighted(fused, into).backward()
    for name, leaf in leaves.items():
        if name in learning:
            assert_close(leaf.grad, expected[name], problem.loose, name)
        else:
            assert leaf.grad is None


@every_kind
@settings(max_examples=15)
@given(drawn=arguments(most_steps=4, scaled=("weights",)), into=INTO)
def test_saturated_by_large_weights(kind: Any, compiled: bool, drawn: dict[str, Any], into: str) -> None:
    """In float64, for what such weights do to a rounding error in a few steps."""
    problem = problem_of(kind, **{**drawn, "dtype": "float64"})
    fused, composed = problem.fused(), problem.composed()
    for actual, expected in zip(fused, composed):
        assert_close(actual, expected, 1e6)
    leaves = problem.leaves
    pairs = zip(leaves, gradients(fused, leaves.values(), into), gradients(composed, leaves.values(), into))
    for name, actual, expected in pairs:
        assert_close(actual, expected, 1e6, name)


@every_kind
@settings(max_examples=12)
@one_of_each
@given(
    drawn=arguments(most_steps=4, batches=st.sampled_from([0, 1, 2, 5, 16]), widths=st.sampled_from([1, 2, 3, 9, 17])),
    into=INTO,
    frozen=st.sets(st.integers(0, 12), max_size=3),
    of_grad=st.integers(0, 12),
)
def test_second_derivatives(
    kind: Any, compiled: bool, drawn: dict[str, Any], into: str, frozen: set[int], of_grad: int
) -> None:
    """Of a function of the gradients of all inputs, and of a single one, with respect to all inputs."""
    problem = problem_of(kind, **drawn)
    for k, leaf in enumerate(problem.leaves.values()):
        leaf.requires_grad = k not in frozen
    learning = {name: leaf for name, leaf in problem.leaves.items() if leaf.requires_grad}
    leaves = list(learning.values())
    for inputs in (leaves, leaves[of_grad % len(leaves) :][:1]):
        seconds = []
        for outputs in (problem.fused(), problem.composed()):
            first = gradients(outputs, inputs, into, create_graph=True)
            loss = weighted(tuple(first), seed=6) + weighted(outputs, seed=7)
            seconds.append([*first, *tg.grad(loss, leaves)])
        for k, (actual, expected) in enumerate(zip(*seconds, strict=True)):
            assert_close(actual, expected, problem.loose, f"{[*learning, *learning][k]}: {k}")


@every_kind
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_long_sequences(kind: Any, compiled: bool, dtype: str) -> None:
    """So long that kernels, which keep to what a cache holds, take them in several goes, each way."""
    T, B = 260, 64
    problem = problem_of(
        kind, T, B, 20, 66, dtype=dtype, lengths=[T - 11 * b % T for b in range(B)], bidirectional=True
    )
    outputs = problem.fused()
    with tg.no_grad():
        assert_same(problem.fused(), outputs)
    composed = problem.composed()
    leaves = problem.leaves
    found, expected = (gradients(parts, leaves.values()) for parts in (outputs, composed))
    for actual, other in zip([*outputs, *found], [*composed, *expected], strict=True):
        assert_close(actual, other, 10.0)


@every_kind
def test_third_derivatives(kind: Any, compiled: bool) -> None:
    problem = problem_of(kind, 3, 2, 2, 3, lengths=[3, 2], bidirectional=True)
    leaves = list(problem.leaves.values())
    thirds = []
    for outputs in (problem.fused(), problem.composed()):
        first = tuple(gradients(outputs, leaves, create_graph=True))
        second = tuple(tg.grad(weighted(first, seed=6), leaves, create_graph=True))
        thirds.append(tg.grad(weighted(second, seed=7), leaves))
    assert any(host(part).any() for part in thirds[0])
    for actual, expected in zip(*thirds, strict=True):
        assert_close(actual, expected)


@every_kind
def test_against_finite_differences(kind: Any, compiled: bool) -> None:
    problem = problem_of(kind, 3, 2, 1, 2, lengths=[3, 1])
    problem = replace(problem, x=tg.tensor(np.nan_to_num(host(problem.x)), requires_grad=True))  # NaNs do not move
    leaves = list(problem.leaves.values())
    assert tg.gradcheck(lambda *_: problem.fused(), leaves)
    assert tg.gradgradcheck(lambda *_: problem.fused(), leaves)


@every_kind
@pytest.mark.parametrize("bidirectional", [False, True])
def test_one_tensor_in_several_places(kind: Any, compiled: bool, bidirectional: bool) -> None:
    """Weights that are tied, and an initial state that is an input: gradients of all places are added up."""
    drawn = problem_of(kind, 4, 3, 5, 5, bidirectional=bidirectional)
    network, x = drawn.network, drawn.x
    network.weight_ih_l0 = network.weight_hh_l0
    state = tuple(x[: 1 + bidirectional] for _ in network.STATES)
    problem = Problem(network, x, state)
    leaves = [x, *network.parameters()]
    found = []
    for outputs in (problem.fused(), problem.composed()):
        plain = gradients(outputs, leaves, retain_graph=True)
        first = tuple(gradients(outputs, leaves, create_graph=True))
        found.append([*plain, *first, *tg.grad(weighted(first, seed=6), leaves)])
    for actual, expected in zip(*found, strict=True):
        assert_close(actual, expected)


@every_kind
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("lengths", [None, []])
def test_of_an_empty_batch_the_weights_get_zeros(kind: Any, compiled: bool, dtype: str, lengths: Any) -> None:
    problem = problem_of(kind, 3, 0, 17, 33, dtype=dtype, lengths=lengths)
    out, *final = problem.fused()
    assert out.shape == (3, 0, 33) and all(part.shape == (1, 0, 33) for part in final)
    for name, parameter in problem.network.named_parameters():
        used = np.full(parameter.shape, np.nan, dtype)  # what memory that is not written to would hold
        del used
        (gradient,) = gradients((out, *final), [parameter], retain_graph=True)
        assert gradient.shape == parameter.shape and not host(gradient).any(), name


@every_kind
def test_inputs_need_not_be_contiguous(kind: Any, compiled: bool) -> None:
    """Nor gradients that come in."""
    problem = problem_of(kind, 5, 4, 6, 7)
    wide = tg.tensor(np.random.default_rng(1).standard_normal((9, 5, 12)), requires_grad=True)
    x = wide[1::2].swapaxes(0, 1)[..., ::2]  # (5, 4, 6)
    assert x.shape == (5, 4, 6) and not x.data.flags.c_contiguous
    for name in ("weight_ih_l0", "weight_hh_l0"):
        parameter = getattr(problem.network, name)
        parameter.data = np.asfortranarray(parameter.data)
    problem = replace(problem, x=x)
    found = []
    for out, *final in (problem.fused(), problem.composed()):
        loss = weighted((out.permute(2, 0, 1), *final)) + out.sum()
        found.append(tg.grad(loss, [wide, *problem.network.parameters()]))
    for actual, expected in zip(*found, strict=True):
        assert_close(actual, expected)


# -- what may be relied upon -------------------------------------------------------------------------------------------


@every_kind
def test_walking_back_twice_computes_the_same_bits(kind: Any, compiled: bool) -> None:
    problem = large(kind)
    leaves = list(problem.leaves.values())
    outputs = problem.fused()
    first = gradients(outputs, leaves, retain_graph=True)
    second = gradients(outputs, leaves, retain_graph=True)
    assert_same(second, first)
    gradients(problem.fused(), leaves)  # another graph, whose memory becomes free
    assert_same(gradients(outputs, leaves), first)
    with pytest.raises(RuntimeError, match="retain_graph"):
        gradients(outputs, leaves)


@every_kind
@pytest.mark.parametrize("lengths", [None, [9, 0, 5] + [9] * 14])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_nothing_that_can_be_seen_is_overwritten(
    kind: Any, compiled: bool, lengths: list[int] | None, bidirectional: bool
) -> None:
    problem = large(kind, lengths=lengths, bidirectional=bidirectional)
    leaves = list(problem.leaves.values())
    before = [host(leaf).copy() for leaf in leaves]
    outputs = problem.fused()
    seen = [host(part).copy() for part in outputs]
    incoming = [tg.tensor(np.random.default_rng(k).standard_normal(part.shape)) for k, part in enumerate(outputs)]
    incoming = [g.to(dtype="float32") for g in incoming]
    given_in = [host(g).copy() for g in incoming]
    found = [part for keep in (True, False) for part in tg.grad(list(outputs), leaves, incoming, retain_graph=keep)]
    problem.fused()
    for values, arrays in ((before, leaves), (seen, outputs), (given_in, incoming)):
        for value, array in zip(values, arrays, strict=True):
            np.testing.assert_array_equal(host(array), value)
    arrays = [host(tensor) for tensor in (*leaves, *outputs, *incoming, *found)]
    for k, array in enumerate(arrays):
        assert not any(np.shares_memory(array, other) for other in arrays[:k])


@every_kind
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("recorded", [False, True])
def test_outputs_share_no_memory(kind: Any, compiled: bool, reverse: bool, recorded: bool) -> None:
    """They share none with the inputs either: a state does not keep all outputs alive."""
    cell, x = CELLS[kind](5, 6), tg.randn(4, 3, 5)
    states = tuple(tg.randn(3, 6) for _ in kind.STATES)
    with tg.enable_grad() if recorded else tg.no_grad():
        out, final = tg.scan(cell, x, states if len(states) > 1 else states[0], reverse=reverse)
    final = final if isinstance(final, tuple) else (final,)
    arrays = [tensor.data for tensor in (x, *states, *cell.parameters(), out, *final)]
    for k, array in enumerate(arrays):
        assert not any(np.shares_memory(array, other) for other in arrays[:k])


@every_kind
def test_states_handed_on_are_copies(kind: Any, compiled: bool) -> None:
    """A stream that changes its state in place changes nothing else."""
    problem = problem_of(kind, 3, 2, 4, 5)
    out, *final = problem.fused()
    kept, expected = host(out).copy(), [host(part) for part in gradients((out,), [problem.x], "out", retain_graph=True)]
    with tg.no_grad():
        for part in final:
            part.fill_(7.0)
    np.testing.assert_array_equal(host(out), kept)
    np.testing.assert_array_equal(host(gradients((out,), [problem.x], "out")[0]), expected[0])


CHANGED: dict[str, Callable[[Problem, Parts], tg.Tensor]] = {
    "outputs": lambda problem, outputs: outputs[0],
    "x": lambda problem, outputs: problem.x,
    "weight_ih": lambda problem, outputs: problem.network.weight_ih_l0,
    "weight_hh": lambda problem, outputs: problem.network.weight_hh_l0,
}


@every_kind
@pytest.mark.parametrize("what", CHANGED)
def test_a_change_in_place_before_walking_back_raises(kind: Any, compiled: bool, what: str) -> None:
    problem = problem_of(kind, 3, 2, 4, 5)
    outputs = problem.fused()
    with tg.no_grad():
        CHANGED[what](problem, outputs).mul_(2.0)
    for create_graph in (False, True):
        with pytest.raises(RuntimeError, match=f"op '{kind.__name__.lower()}'.*changed in place"):
            gradients(outputs, problem.leaves.values(), create_graph=create_graph)


@every_kind
def test_lengths_are_taken_as_they_are_at_the_call(kind: Any, compiled: bool) -> None:
    problem = problem_of(kind, 4, 3, 2, 3, lengths=[4, 2, 0])
    leaves = list(problem.leaves.values())
    expected = gradients(problem.fused(), leaves)
    outputs = problem.fused()
    assert problem.lengths is not None
    problem.lengths[:] = 1
    assert_same(gradients(outputs, leaves), expected)


@every_kind
def test_graphs_that_are_alive_together_do_not_disturb_one_another(kind: Any, compiled: bool) -> None:
    problems = [large(kind, seed) for seed in range(3)]
    leaves = [list(problem.leaves.values()) for problem in problems]
    outputs = [[host(part) for part in problem.fused()] for problem in problems]
    expected = [gradients(problem.fused(), inputs) for problem, inputs in zip(problems, leaves)]
    graphs = [problem.fused() for problem in problems]
    for k in (1, 2, 0):
        np.testing.assert_array_equal(host(graphs[k][0]), outputs[k][0])
        assert_same(gradients(graphs[k], leaves[k]), expected[k])
        graphs[k] = problems[k].fused()


@every_kind
@settings(max_examples=15)
@given(drawn=arguments())
def test_what_new_memory_holds_does_not_matter(kind: Any, compiled: bool, drawn: dict[str, Any]) -> None:
    problem = problem_of(kind, **drawn)
    leaves = list(problem.leaves.values())
    outputs = problem.fused()
    expected = [*outputs, *gradients(outputs, leaves)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "empty", of_nans)
        outputs = problem.fused()
        assert_same([*outputs, *gradients(outputs, leaves)], expected)


@every_kind
@pytest.mark.parametrize("lengths", [None, [9, 0, 5] + [9] * 14])
def test_without_a_graph_values_are_the_same(kind: Any, compiled: bool, lengths: list[int] | None) -> None:
    problem = large(kind, lengths=lengths)
    expected = problem.fused()
    with tg.no_grad():
        outputs = problem.fused()
    assert all(part.requires_grad for part in expected) and not any(part.requires_grad for part in outputs)
    assert_same(outputs, expected)
