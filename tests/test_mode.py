"""Switches such as `no_grad`: exact for threads, asyncio tasks and generators, whatever the order in which they end."""

import asyncio
import contextvars
import functools
import gc
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_lstm as tg
from tinygrad_lstm.mode import mode

SWITCHES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "no_grad": tg.no_grad,
    "enable_grad": tg.enable_grad,
    "detect_anomaly": tg.detect_anomaly,
}


def records() -> bool:
    return bool((tg.ones(1, requires_grad=True) * 2).requires_grad)


def looks_for_nans() -> bool:
    try:
        with np.errstate(invalid="ignore"):
            tg.log(tg.tensor(-1.0))
    except FloatingPointError:
        return True
    return False


def suspended(switch: AbstractContextManager[Any]) -> Iterator[None]:
    with switch:
        yield


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    before = mode().value
    yield
    gc.collect()
    assert mode().value is before


# -- a law, over all orders and contexts -------------------------------------------------------------------------------


class Model:
    """What switches in several contexts are to do: each context has a list of those that it is within."""

    def __init__(self) -> None:
        self.within: list[list[tuple[str, int]]] = [[]]
        self.home: dict[int, int] = {}

    def open(self, name: str, number: int, context: int) -> None:
        self.within[context].append((name, number))
        self.home[number] = context

    def close(self, number: int, context: int) -> None:
        left = range(len(self.within)) if self.home[number] != context else [context]
        for k in left:
            self.within[k] = [entry for entry in self.within[k] if entry[1] != number]

    def state(self, context: int) -> tuple[bool, bool]:
        names = [name for name, _ in self.within[context]]
        recording = [name == "enable_grad" for name in names if name != "detect_anomaly"]
        return (recording or [True])[-1], "detect_anomaly" in names


@given(st.data())
def test_switches_in_any_order_in_any_context(data: st.DataObject) -> None:
    model, contexts, opened = Model(), [contextvars.Context()], dict[int, Iterator[None]]()
    for number in range(data.draw(st.integers(1, 12))):
        context = data.draw(st.integers(0, len(contexts) - 1))
        match data.draw(st.sampled_from(["open", "open", "close", "copy"])):
            case "open":
                name = data.draw(st.sampled_from(sorted(SWITCHES)))
                opened[number] = suspended(SWITCHES[name]())
                contexts[context].run(next, opened[number])
                model.open(name, number, context)
            case "close" if opened:
                chosen = data.draw(st.sampled_from(sorted(opened)))
                contexts[context].run(opened.pop(chosen).close)  # type: ignore[attr-defined]
                model.close(chosen, context)
            case "copy":
                contexts.append(contexts[context].copy())
                model.within.append(list(model.within[context]))
        for k, each in enumerate(contexts):
            assert (each.run(records), each.run(looks_for_nans)) == model.state(k)


# -- generators --------------------------------------------------------------------------------------------------------


def test_a_generator_closed_after_other_switches() -> None:
    quiet = suspended(tg.no_grad())
    with tg.detect_anomaly():
        next(quiet)
    assert not records() and not looks_for_nans()
    quiet.close()  # type: ignore[attr-defined]
    assert records() and not looks_for_nans()


def test_a_generator_that_is_collected() -> None:
    quiet = suspended(tg.no_grad())
    next(quiet)
    with tg.enable_grad():
        del quiet
        assert records()
    assert records()


@pytest.mark.parametrize("collected", [False, True])
def test_a_generator_closed_by_a_different_thread(collected: bool) -> None:
    quiet = [suspended(tg.no_grad())]
    next(quiet[0])
    with tg.detect_anomaly():
        thread = threading.Thread(target=quiet.clear if collected else quiet[0].close)  # type: ignore[attr-defined]
        thread.start()
        thread.join()
        assert records() and looks_for_nans()
    assert records() and not looks_for_nans()


def test_default_devices_and_kernels_in_generators() -> None:
    def within(switch: AbstractContextManager[Any]) -> Iterator[None]:
        with switch:
            yield

    before = tg.zeros(1).device
    for switch in (lambda: tg.default_device("cpu"), lambda: tg.compiled_kernels(False)):
        first, second = within(switch()), within(switch())
        next(first)
        next(second)
        first.close()  # type: ignore[attr-defined]
        second.close()  # type: ignore[attr-defined]
    assert tg.zeros(1).device is before


def test_one_switch_in_two_generators() -> None:
    switch = tg.no_grad()
    first, second = suspended(switch), suspended(switch)
    next(first)
    next(second)
    first.close()  # type: ignore[attr-defined]
    assert not records()
    second.close()  # type: ignore[attr-defined]
    assert records()


# -- asyncio -----------------------------------------------------------------------------------------------------------


def test_switches_in_two_tasks() -> None:
    seen: list[tuple[str, bool, bool]] = []

    async def work(name: str, switch: AbstractContextManager[Any], pauses: int) -> None:
        with switch:
            for _ in range(pauses):
                await asyncio.sleep(0)
            seen.append((name, records(), looks_for_nans()))
        await asyncio.sleep(0)
        seen.append((name, records(), looks_for_nans()))

    async def main() -> None:
        await asyncio.gather(work("a", tg.no_grad(), 1), work("b", tg.detect_anomaly(), 2), work("c", tg.no_grad(), 3))
        assert records() and not looks_for_nans()

    asyncio.run(main())
    assert sorted(seen) == [
        ("a", False, False),
        ("a", True, False),
        ("b", True, False),
        ("b", True, True),
        ("c", False, False),
        ("c", True, False),
    ]


def test_a_task_keeps_the_mode_in_which_it_was_created() -> None:
    async def later() -> bool:
        await asyncio.sleep(0)
        with tg.detect_anomaly():
            await asyncio.sleep(0)
        return records()

    async def main() -> None:
        with tg.no_grad():
            task = asyncio.create_task(later())
        assert records() and not await task and records()

    asyncio.run(main())


def test_an_asynchronous_generator_that_is_abandoned() -> None:
    async def values() -> AsyncIterator[int]:
        with tg.no_grad():
            yield 1
            yield 2

    async def main() -> None:
        async for value in values():
            assert value == 1 and not records()
            break
        gc.collect()
        for _ in range(5):  # the event loop closes it, in a task of its own
            await asyncio.sleep(0)
        assert records()

    asyncio.run(main())


def test_no_grad_decorates_coroutine_functions() -> None:
    @tg.no_grad()
    async def quiet(pause: float) -> bool:
        """Says."""
        await asyncio.sleep(pause)
        return records()

    async def main() -> list[bool]:
        return [*await asyncio.gather(quiet(0.0), quiet(0.001)), await quiet(0.0), records()]

    assert quiet.__doc__ == "Says."
    assert asyncio.run(main()) == [False, False, False, True]


def test_a_coroutine_of_several_steps_run_by_hand() -> None:
    class Pause:
        def __await__(self) -> Iterator[None]:
            yield

    @tg.no_grad()
    async def quiet() -> bool:
        await Pause()
        return records()

    first: Coroutine[Any, Any, bool]
    first, second = quiet(), quiet()
    first.send(None)
    second.send(None)
    for each in (first, second):
        with pytest.raises(StopIteration) as ended:
            each.send(None)
        assert ended.value.value is False
    assert records()


# -- decorators --------------------------------------------------------------------------------------------------------


async def asynchronous_steps() -> AsyncIterator[int]:
    yield 1


class Quiet:
    pass


@pytest.mark.parametrize("what, message", [
    (suspended, "no_grad: suspended is a generator"),
    (asynchronous_steps, "no_grad: asynchronous_steps is a generator"),
    (Quiet, "no_grad: Quiet is a class; decorate its methods"),
    (staticmethod(records), "no_grad: expected a function, got staticmethod; put it next to the def line"),
    (classmethod(lambda cls: None), "no_grad: expected a function, got classmethod"),
    (property(lambda self: None), "no_grad: expected a function, got property"),
    (3, "no_grad: expected a function, got int"),
])  # fmt: skip
def test_no_grad_refuses_what_it_cannot_hold_for(what: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        tg.no_grad()(what)


def test_no_grad_decorates_callables() -> None:
    assert not tg.no_grad()(functools.partial(records))()
    assert not tg.no_grad()(lambda: records())()
    assert records()
