"""Recurrent layers with every set of kernels, in any number of threads, and together with other functions."""

import gc
import multiprocessing
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fused_problems import (
    INTO,
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
from hypothesis import given, settings
from strict_backend import STRICT, StrictBackend

import tinygrad_lstm as tg
from tinygrad_lstm.backends.compiled.building import why_not
from tinygrad_lstm.backends.emit.schedule import Backward, Forward
from tinygrad_lstm.backends.emit.sequence import ArraySequence
from tinygrad_lstm.models import LSTM

forks = pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="this system does not fork: nothing is inherited"
)
needs_c = pytest.mark.skipif(why_not() is not None, reason="there is no C compiler")


# -- kernels and threads -----------------------------------------------------------------------------------------------


@needs_c
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


@needs_c
@every_kind
@pytest.mark.parametrize("forward", [True, False], ids=["forward compiled", "forward plain"])
@pytest.mark.parametrize("H", [1, 4, 5, 33])
def test_either_kernels_walk_back_over_the_others_graph(
    kind: Any, forward: bool, H: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the memory that the compiled kernels do not write to, for inactive steps, is NaN."""
    empty = "tinygrad_lstm.backends.memory.empty"
    monkeypatch.setattr(empty, of_nans)
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
@settings(max_examples=12)
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
    """A network after a few steps of descent; the switch applies only to this thread."""
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
    """The parent's graph stays alive and computes the same afterwards."""
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
    """By the op of a step that made it."""
    with np.errstate(all="ignore"), tg.detect_anomaly():
        problem = problem_of(kind, 2, 2, 3, 4)
        out, *_ = problem.fused()
        with pytest.raises(FloatingPointError, match=r"(derivative of op 'linear'|gave of 'tanh').*fused_problems.py"):
            tg.grad(out, problem.x, tg.full(out.shape, np.inf, dtype="float64"))  # times weights of both signs
        bad = host(problem.x).copy()
        bad[0] = np.inf
        with tg.no_grad():
            problem.network.weight_ih_l0[:, 0] = 1.0
            problem.network.weight_ih_l0[:, 1] = -1.0
        with pytest.raises(FloatingPointError, match=r"op 'linear' made a NaN at .*fused_problems.py"):
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
        self.made: list[Any] = []

    def sequence(self, forward: Forward, backward: Backward | None) -> ArraySequence:
        self.made.append(super().sequence(forward, backward))
        return self.made[-1]


OWN = OwnKernels()
tg.register_backend("own-kernels", OWN)


@every_kind
def test_the_kernels_of_a_registered_backend_are_used(kind: Any) -> None:
    problem = problem_of(kind, 2, 3, 2, 3, device="own-kernels")
    OWN.made.clear()
    out, *_ = problem.fused()
    out.sum().backward()
    assert OWN.made
    expected = gradients(problem.composed(), [problem.x], "out")
    assert_close(gradients(problem.fused(), [problem.x], "out")[0], expected[0])


@every_kind
def test_parameters_of_several_dtypes_promote_and_gradients_keep_their_own_dtype(kind: Any, compiled: bool) -> None:
    mixed, all_wide = (problem_of(kind, 3, 2, 4, 5, dtype=dtype) for dtype in ("float32", "float64"))
    for name, parameter in mixed.network.named_parameters():
        dtype = "float64" if name == "weight_hh_l0" else "float32"
        setattr(mixed.network, name, tg.nn.Parameter(parameter.to(dtype=dtype).detach()))
        setattr(all_wide.network, name, tg.nn.Parameter(parameter.to(dtype="float64").detach()))
    all_wide.x.data[...] = host(mixed.x)
    for part, other in zip(all_wide.state or (), mixed.state or (), strict=True):
        part.data[...] = host(other)
    found, expected = mixed.fused(), all_wide.fused()
    assert found[0].dtype == np.float64
    for actual, exact in zip(found, expected, strict=True):
        np.testing.assert_allclose(host(actual), host(exact), rtol=0, atol=1e-6)  # W·x is float32
    leaves = mixed.leaves
    both = zip(leaves, gradients(found, leaves.values()), gradients(expected, all_wide.leaves.values()), strict=True)
    for name, actual, exact in both:
        assert actual.dtype == leaves[name].dtype
        np.testing.assert_allclose(host(actual), host(exact), rtol=1e-4, atol=1e-5, err_msg=name)


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
