"""Recurrent layers, which a backend computes at once, held against their cells, unrolled step by step.

Values and derivatives of any order, whichever kernels run and in however many threads; and that nothing which anyone
can see is overwritten, though the memory below is used again and again.
"""

import gc
import multiprocessing
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from strict_backend import STRICT, StrictBackend

import tinygrad_lstm as tg
from tinygrad_lstm.backends import memory
from tinygrad_lstm.backends.compiled import available
from tinygrad_lstm.models import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell
from tinygrad_lstm.ops.recurrent import LAYERS

Parts = tuple[tg.Tensor, ...]

CELLS = {LSTM: LSTMCell, GRU: GRUCell, RNN: RNNCell}
every_kind = pytest.mark.parametrize("kind", CELLS, ids=lambda kind: kind.__name__)

forks = pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="this system does not fork: nothing is inherited"
)
needs_numba = pytest.mark.skipif(not available(), reason="numba is not installed (the extra 'fast')")


# -- problems: a network, what it is given, and the same computed by its cells -----------------------------------------


@dataclass(frozen=True)
class Problem:
    """One layer of a network and its arguments, all of them leaves.

    Attributes:
        state: the initial states, h or (h, c), each (D, B, H); None for zeros.
        loose: how much more than by rounding errors results may differ, which large numbers make larger.
    """

    network: Any
    x: tg.Tensor
    state: Parts | None = None
    lengths: np.ndarray | None = None
    loose: float = 1.0

    @property
    def leaves(self) -> dict[str, tg.Tensor]:
        """x, the states, and all parameters."""
        states = dict(zip("hc", self.state or ()))
        return {"x": self.x, **states, **dict(self.network.named_parameters())}

    def fused(self) -> Parts:
        """The outputs, and the final states."""
        state = self.state if self.state is None or isinstance(self.network, LSTM) else self.state[0]
        out, final = self.network(self.x, state, self.lengths)
        return out, *(final if isinstance(final, tuple) else (final,))

    def composed(self) -> Parts:
        """The same by cells, one for each direction, step by step."""
        network, x = self.network, self.x
        x = x.transpose(0, 1) if network.batch_first else x
        T, B, _ = x.shape
        going = None
        if self.lengths is not None:
            going = tg.tensor(np.arange(T)[:, None, None] < self.lengths[None, :, None], device=x.device)
            x = tg.where(going, x, 0.0)
        zeros = tg.zeros(2, B, network.hidden_size, dtype=x.dtype, device=x.device)
        state = self.state or (zeros,) * len(network.STATES)
        outs, finals = [], []
        for k, direction in enumerate(("", "_reverse")[: 1 + network.bidirectional]):
            cell = self._cell(direction)
            states = tuple(part[k] for part in state)
            steps: list[Any] = [None] * T
            for t in range(T) if k == 0 else reversed(range(T)):
                new = cell(x[t], states if len(states) > 1 else states[0])
                new = new if isinstance(new, tuple) else (new,)
                steps[t] = new[0] if going is None else tg.where(going[t], new[0], 0.0)
                states = new if going is None else tuple(map(lambda a, b: tg.where(going[t], a, b), new, states))
            outs.append(tg.stack(steps))
            finals.append(states)
        out = tg.cat(outs, -1)
        final = (tg.stack(list(parts)) for parts in zip(*finals, strict=True))
        return out.transpose(0, 1) if network.batch_first else out, *final

    def _cell(self, direction: str) -> Any:
        """The cell of a direction, made of the network's own parameters, so that gradients arrive there."""
        network = self.network
        cell = CELLS[type(network)](network.input_size, network.hidden_size)
        own = network.layer_parameters(f"l0{direction}")
        if not isinstance(network, GRU):
            own["weight"] = tg.cat([own.pop("weight_hh"), own.pop("weight_ih")], 1)
        vars(cell).update(own)  # beside Module's guard: tensors of a graph in place of parameters
        return cell


def problem_of(
    kind: Any,
    T: int,
    B: int,
    I: int,
    H: int,
    *,
    dtype: str = "float64",
    device: str = "cpu",
    lengths: Sequence[int] | None = None,
    with_state: bool = True,
    bidirectional: bool = False,
    batch_first: bool = False,
    scaled: str = "",
    seed: int = 0,
) -> Problem:
    """A problem of these sizes, with NaNs past a length; what is `scaled`, "x" or "weights", is 50 times as large."""
    rng = np.random.default_rng(seed)
    network = kind(I, H, bidirectional=bidirectional, batch_first=batch_first).to(device, dtype)

    def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
        return (rng.standard_normal(shape) * scale).astype(dtype)

    def leaf(array: np.ndarray) -> tg.Tensor:
        return tg.tensor(array, device=device, requires_grad=True)

    for name, parameter in network.named_parameters():
        scale = H**-0.5 if "hh" in name else I**-0.5 if "ih" in name else 0.5
        with tg.no_grad():
            values = normal(*parameter.shape, scale=scale * (50 if scaled == "weights" else 1))
            parameter.copy_(tg.tensor(values, device=device))
    x = normal(T, B, I, scale=50 if scaled == "x" else 1)
    if lengths is not None:
        for b, length in enumerate(lengths):
            x[length:, b] = np.nan
    state = tuple(leaf(normal(1 + bidirectional, B, H)) for _ in network.STATES) if with_state else None
    return Problem(
        network,
        leaf(np.ascontiguousarray(x.swapaxes(0, 1)) if batch_first else x),
        state,
        None if lengths is None else np.array(lengths, np.int64),
        100.0 if scaled else 1.0,
    )


# Sizes about the widths of vector registers and of the tiles that products are computed in.
WIDTHS = st.integers(1, 5) | st.sampled_from([7, 8, 9, 15, 16, 17, 31, 33])
BATCHES = st.integers(0, 5) | st.sampled_from([13, 14, 15, 16, 29, 33])


@st.composite
def arguments(
    draw: st.DrawFn, most_steps: int = 6, batches: Any = BATCHES, widths: Any = WIDTHS, scaled: Any = ("", "", "x")
) -> dict[str, Any]:
    """Arguments of `problem_of`, but for the kind."""
    T, B = draw(st.integers(1, most_steps)), draw(batches)
    lengths = draw(st.none() | st.lists(st.integers(0, T), min_size=B, max_size=B))
    return {
        "T": T,
        "B": B,
        "I": draw(widths),
        "H": draw(widths),
        "dtype": draw(st.sampled_from(["float32", "float64"])),
        "lengths": lengths,
        "with_state": draw(st.booleans()),
        "bidirectional": draw(st.booleans()),
        "batch_first": draw(st.booleans()),
        "scaled": draw(st.sampled_from(scaled)),
        "seed": draw(st.integers(0, 999)),
    }


def host(tensor: tg.Tensor | None) -> np.ndarray:
    assert tensor is not None
    return tensor.detach().cpu().numpy()


def assert_close(actual: Any, expected: Any, loose: float = 1.0, what: str = "") -> None:
    """Equal but for rounding errors of the dtype, of numbers as large as the largest.

    Where a gate is nearly 1, what is left to 1 has lost digits, and derivatives of several steps multiply such numbers.
    """
    a, b = host(actual), host(expected)
    assert (a.dtype, a.shape) == (b.dtype, b.shape), what
    largest = max(1.0, float(np.abs(b).max(initial=0)))
    np.testing.assert_allclose(a, b, rtol=0, atol=2000 * loose * largest * np.finfo(b.dtype).eps, err_msg=what)


def assert_same(actual: Sequence[tg.Tensor], expected: Sequence[tg.Tensor]) -> None:
    """Equal to the bit."""
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(host(a), host(b))


def weighted(outputs: Parts, into: str = "both", seed: int = 5) -> tg.Tensor:
    """A loss that depends on the outputs, on the final states, or on both, on each number in its own way."""
    rng = np.random.default_rng(seed)
    chosen = {"out": outputs[:1], "final": outputs[1:], "both": outputs}[into]
    return sum(
        (
            (part * tg.tensor(rng.standard_normal(part.shape).astype(part.dtype), device=part.device)).sum()
            for part in chosen
        ),
        start=0.0,
    )


def gradients(outputs: Parts, inputs: Sequence[tg.Tensor], into: str = "both", **options: Any) -> list[tg.Tensor]:
    return tg.grad(weighted(outputs, into), list(inputs), **options)


INTO = st.sampled_from(["out", "final", "both"])
one_of_each = example(drawn={"T": 1, "B": 1, "I": 1, "H": 1}, into="both", frozen=set(), of_grad=0)


# -- against the cell --------------------------------------------------------------------------------------------------


@every_kind
@one_of_each
@given(drawn=arguments(), into=INTO, frozen=st.sets(st.integers(0, 12)), of_grad=st.integers(0, 12))
def test_values_and_first_derivatives(
    kind: Any, compiled: bool, drawn: dict[str, Any], into: str, frozen: set[int], of_grad: int
) -> None:
    """For any of the inputs at all, and for one of those alone."""
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
    """Those of a function of the gradients, of all inputs and of one alone, with respect to all."""
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


def large(kind: Any, seed: int = 0, **options: Any) -> Problem:
    """A problem so large that its arrays lie in memory that is used again."""
    options = {"lengths": [9, 0, 5] + [9] * 14, "bidirectional": True, "dtype": "float32", **options}
    return problem_of(kind, 9, 17, 33, 40, seed=seed, **options)


@every_kind
def test_walking_back_twice_gives_the_same_to_the_bit(kind: Any, compiled: bool) -> None:
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
def test_the_ops_outputs_share_no_memory(kind: Any, compiled: bool, reverse: bool, recorded: bool) -> None:
    """Nor with what was given: a state handed on does not hold on to all outputs."""
    problem = problem_of(kind, 4, 3, 5, 6)
    assert problem.state is not None
    parameters = list(problem.network.layer_parameters("l0").values())
    operands = [problem.x.detach(), *(part[0].detach() for part in problem.state), *parameters]
    with tg.enable_grad() if recorded else tg.no_grad():
        outputs = LAYERS[kind.KIND](operands, kind.STEP, None, reverse)
    arrays = [tensor.data for tensor in (*operands, *outputs)]
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
        patch.setattr(memory, "empty", lambda shape, dtype: np.full(shape, np.nan, dtype))
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


# -- kernels and threads -----------------------------------------------------------------------------------------------


@needs_numba
@every_kind
@given(drawn=arguments(most_steps=12), into=INTO)
def test_compiled_and_plain_kernels_agree(kind: Any, drawn: dict[str, Any], into: str) -> None:
    problem = problem_of(kind, **drawn)
    leaves = problem.leaves
    found = []
    for enabled in (True, False):
        with tg.compiled_kernels(enabled):
            outputs = problem.fused()
            found.append([*outputs, *gradients(outputs, leaves.values(), into)])
    for what, actual, expected in zip([*("out", "h", "c")[: len(outputs)], *leaves], *found, strict=True):
        assert_close(actual, expected, problem.loose, what)


@needs_numba
@every_kind
@pytest.mark.parametrize("forward", [True, False], ids=["forward compiled", "forward plain"])
@pytest.mark.parametrize("H", [1, 4, 5, 33])
def test_either_kernels_walk_back_over_the_others_graph(kind: Any, forward: bool, H: int) -> None:
    problem = problem_of(kind, 5, 3, 4, H, lengths=[5, 2, 0], bidirectional=True)
    leaves = problem.leaves
    with tg.compiled_kernels(forward):
        outputs = problem.fused()
        expected = gradients(outputs, leaves.values(), retain_graph=True)
    with tg.compiled_kernels(not forward):
        found = gradients(outputs, leaves.values())
    for name, actual, other in zip(leaves, found, expected, strict=True):
        assert_close(actual, other, what=name)


@every_kind
@given(drawn=arguments(most_steps=8, scaled=[""]))
def test_float32_is_float64_to_its_own_rounding(kind: Any, compiled: bool, drawn: dict[str, Any]) -> None:
    """Closer than the bounds elsewhere, which leave room for numbers of any size."""
    narrow, wide = (problem_of(kind, **drawn | {"dtype": dtype}) for dtype in ("float32", "float64"))
    for leaf, exact in zip(narrow.leaves.values(), wide.leaves.values(), strict=True):
        exact.data[...] = host(leaf)
    for actual, expected in zip(narrow.fused(), wide.fused(), strict=True):
        np.testing.assert_allclose(host(actual), host(expected), rtol=0, atol=30 * np.finfo("float32").eps)


class Interruption(BaseException):
    """In place of KeyboardInterrupt, which would end the tests."""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timer that interrupts")
@pytest.mark.skipif(threading.current_thread() is not threading.main_thread(), reason="signals go to the main thread")
def test_an_interrupt_is_not_lost(compiled: bool, threads: Callable[[int], None]) -> None:
    def interrupt(number: int, frame: Any) -> None:
        raise Interruption

    threads(2)
    network, x = LSTM(64, 128), tg.randn(40, 32, 64, requires_grad=True)

    def work() -> None:
        out, _ = network(x)
        out.sum().backward()

    work()  # what is compiled at first use, is
    before = signal.signal(signal.SIGALRM, interrupt)
    gc.disable()  # hypothesis has it call Python code, in which an interrupt is lost
    try:
        for k in range(20):
            with pytest.raises(Interruption):
                signal.setitimer(signal.ITIMER_REAL, 0.01 + 0.0007 * k)
                end = time.monotonic() + 10
                while time.monotonic() < end:
                    work()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        gc.enable()
    problem = large(LSTM, 0)  # and all goes on
    assert_same(problem.fused(), problem.fused())


# Work enough for several threads: for many rows, and for few through many steps.
WORK = {"rows": (20, 41, 130, 193), "steps": (900, 3, 33, 130)}


@every_kind
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", WORK)
def test_results_do_not_depend_on_the_number_of_threads(
    kind: Any, compiled: bool, threads: Callable[[int], None], dtype: str, sizes: str
) -> None:
    """To the bit where kernels are compiled; matrix libraries may add in another order."""
    T, B, I, H = WORK[sizes]
    problem = problem_of(kind, T, B, I, H, dtype=dtype, lengths=[T - 3 * b % T for b in range(B)])
    leaves = list(problem.leaves.values())
    found = []
    for number in (1, 2, 3):
        threads(number)
        outputs = problem.fused()
        found.append([*outputs, *gradients(outputs, leaves)])
    for other in found[1:]:
        if compiled:
            assert_same(other, found[0])
        else:
            for actual, expected in zip(other, found[0], strict=True):
                assert_close(actual, expected, 100.0)


def trained(kind: Any, seed: int, compiled: bool) -> list[tg.Tensor]:
    """What a few steps of descent make of a network; the switch counts for this thread alone."""
    with tg.compiled_kernels(compiled):
        problem = large(kind, seed)
        optimizer = tg.optim.SGD(problem.network.parameters(), lr=0.01)
        for _ in range(4):
            optimizer.zero_grad()
            weighted(problem.fused()).backward()
            optimizer.step()
        return list(problem.network.parameters())


@every_kind
def test_two_threads_train_at_once(kind: Any, compiled: bool, threads: Callable[[int], None]) -> None:
    threads(2)
    expected = [trained(kind, seed, compiled) for seed in range(2)]
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(trained, kind, seed, compiled) for seed in range(2)]
        found = [future.result() for future in futures]
    for actual, alone in zip(found, expected, strict=True):
        if compiled:
            assert_same(actual, alone)
        else:
            for parameter, other in zip(actual, alone, strict=True):
                assert_close(parameter, other, 10.0)


def _gradients_in_a_fork(problem: Problem, answers: Any) -> None:
    outputs = problem.fused()
    answers.put([host(part) for part in (*outputs, *gradients(outputs, problem.leaves.values()))])


@forks
@every_kind
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_after_use_computes_on_its_own(kind: Any, compiled: bool, threads: Callable[[int], None]) -> None:
    """With a graph of the parent's alive, which still gives the same."""
    threads(2)
    T, B, I, H = WORK["rows"]
    problem = problem_of(kind, T, B, I, H, dtype="float32")
    leaves = list(problem.leaves.values())
    outputs = problem.fused()
    expected = [host(part).copy() for part in (*outputs, *gradients(outputs, leaves, retain_graph=True))]
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    process = context.Process(target=_gradients_in_a_fork, args=(problem, answers))
    process.start()
    try:
        found = answers.get(timeout=60)
    finally:
        process.terminate()
        process.join()
    again = [host(part) for part in (*outputs, *gradients(outputs, leaves))]
    for actual, later, value in zip(found, again, expected, strict=True):
        np.testing.assert_allclose(actual, value, rtol=0, atol=0 if compiled else 1e-3)
        np.testing.assert_array_equal(later, value)


# -- beside the rest of the library ------------------------------------------------------------------------------------


@every_kind
def test_checkpointed(kind: Any, compiled: bool) -> None:
    """First derivatives the same to the bit; second ones right."""
    problem = problem_of(kind, 4, 3, 3, 5, lengths=[4, 2, 0], bidirectional=True)
    leaves = list(problem.leaves.values())
    expected = gradients(problem.fused(), leaves)
    assert_same(gradients(tg.checkpoint(problem.fused), leaves), expected)
    found = []
    for outputs in (tg.checkpoint(problem.fused), problem.composed()):
        first = tuple(gradients(outputs, leaves, create_graph=True))
        found.append(tg.grad(weighted(first, seed=6), leaves))
    for actual, second in zip(*found, strict=True):
        assert_close(actual, second)


@every_kind
def test_anomalies_are_named(kind: Any, compiled: bool) -> None:
    name = kind.__name__.lower()
    with np.errstate(all="ignore"), tg.detect_anomaly():
        problem = problem_of(kind, 2, 2, 3, 4)
        out, *_ = problem.fused()
        with pytest.raises(FloatingPointError, match=f"'{name}'.*test_fused.py"):
            tg.grad(out, problem.x, tg.full(out.shape, np.inf, dtype="float64"))  # times weights of both signs
        bad = host(problem.x).copy()
        bad[0] = np.inf
        with tg.no_grad():
            problem.network.weight_ih_l0[:, 0] = 1.0
            problem.network.weight_ih_l0[:, 1] = -1.0
        with pytest.raises(FloatingPointError, match=f"op '{name}' made a NaN at .*test_fused.py"):
            replace(problem, x=tg.tensor(bad)).fused()


@every_kind
def test_on_every_device(kind: Any, device: str) -> None:
    options: dict[str, Any] = {"lengths": [4, 2, 0], "bidirectional": True}
    problem = problem_of(kind, 4, 3, 3, 5, device=device, **options)
    leaves = problem.leaves
    found = []
    for outputs in (problem.fused(), problem.composed()):
        assert all(part.device == device for part in outputs)
        plain = gradients(outputs, leaves.values(), retain_graph=True)
        first = tuple(gradients(outputs, leaves.values(), create_graph=True))
        found.append([*outputs, *plain, *first, *tg.grad(weighted(first, seed=6), list(leaves.values()))])
    for actual, expected in zip(*found, strict=True):
        assert_close(actual, expected)


@every_kind
def test_values_stay_on_their_device(kind: Any) -> None:
    problem = problem_of(kind, 4, 3, 3, 5, device="strict", lengths=[4, 2, 0], bidirectional=True)
    STRICT.counts.reset()
    out, *_ = problem.fused()
    out.sum().backward()
    assert STRICT.counts.device_to_host == STRICT.counts.synchronisations == 0


class OwnKernels(StrictBackend):
    """A third party's device, with kernels of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.called: list[str] = []

    def __getattribute__(self, name: str) -> Any:
        if name.endswith(("_forward", "_backward")):
            self.called.append(name)
        return super().__getattribute__(name)


OWN = OwnKernels()
tg.register_backend("own-kernels", OWN)


@every_kind
def test_the_kernels_of_a_registered_backend_are_used(kind: Any) -> None:
    problem = problem_of(kind, 2, 3, 2, 3, device="own-kernels")
    OWN.called.clear()
    out, *_ = problem.fused()
    out.sum().backward()
    name = kind.__name__.lower()
    assert OWN.called == [f"{name}_forward", f"{name}_backward"]
    expected = gradients(problem.composed(), [problem.x], "out")
    assert_close(gradients(problem.fused(), [problem.x], "out")[0], expected[0])


@every_kind
@pytest.mark.parametrize("wide", ["x", "h", "weight_hh_l0"])
def test_the_ops_promote_and_gradients_keep_their_own_dtype(kind: Any, compiled: bool, wide: str) -> None:
    leaves = problem_of(kind, 3, 2, 4, 5, dtype="float32").leaves
    leaves |= {name: tg.tensor(host(leaves[name])[0], requires_grad=True) for name in kind.STATES}
    leaves[wide] = tg.tensor(host(leaves[wide]).astype(np.float64), requires_grad=True)

    def outputs(operands: list[tg.Tensor]) -> Parts:
        return LAYERS[kind.KIND](operands, kind.STEP, None, False)

    mixed = outputs(list(leaves.values()))
    all_wide = outputs([leaf.to(dtype="float64") for leaf in leaves.values()])
    assert mixed[0].dtype == np.float64
    assert_same(mixed, all_wide)
    pairs = zip(leaves, gradients(mixed, leaves.values()), gradients(all_wide, leaves.values()), strict=True)
    for name, actual, expected in pairs:
        assert actual.dtype == leaves[name].dtype
        assert_close(actual, expected, what=name)


@every_kind
def test_half_precision(kind: Any, compiled: bool) -> None:
    problem = problem_of(kind, 4, 3, 4, 5, dtype="float16", lengths=[4, 2, 0])
    leaves = problem.leaves
    fused, composed = problem.fused(), problem.composed()
    found, expected = (gradients(outputs, leaves.values()) for outputs in (fused, composed))
    for actual, other in zip([*fused, *found], [*composed, *expected], strict=True):
        assert host(actual).dtype == np.float16
        np.testing.assert_allclose(host(actual), host(other), atol=0.05)


@every_kind
@pytest.mark.parametrize("elsewhere", ["x", "state", "network"])
def test_mixed_devices_are_named(kind: Any, elsewhere: str) -> None:
    problem = problem_of(kind, 3, 2, 4, 5)
    if elsewhere == "x":
        problem = replace(problem, x=problem.x.to("strict"))
    elif elsewhere == "state":
        assert problem.state is not None
        problem = replace(problem, state=tuple(part.to("strict") for part in problem.state))
    else:
        problem.network.to("strict")
    with pytest.raises(RuntimeError, match=r"'cpu'.*'strict'|'strict'.*'cpu'") as raised:
        problem.fused()
    assert "\n" not in str(raised.value)
