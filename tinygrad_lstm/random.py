"""The random numbers of the library: one generator on the host, with the same stream for every device."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np

from tinygrad_lstm.backends.scoped import Scoped

__all__ = ["manual_seed"]


class _Source:
    """The source of random numbers."""

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator

    def next(self) -> np.random.Generator:
        """The generator, for one draw."""
        return self._generator

    def restart(self, generator: np.random.Generator) -> None:
        """Uses this generator from now on."""
        self._generator = generator


class _Noted(_Source):
    """A source that records the state of a different source before each draw."""

    def __init__(self, source: _Source, states: list[Any]) -> None:
        self._source = source
        self._states = states

    def next(self) -> np.random.Generator:
        generator = self._source.next()
        self._states.append(generator.bit_generator.state)
        return generator

    def restart(self, generator: np.random.Generator) -> None:
        self._source.restart(generator)


class _Repeated(_Source):
    """Repeats the recorded draws, with its own generators."""

    def __init__(self, states: list[Any]) -> None:
        self._states = iter(states)

    def next(self) -> np.random.Generator:
        state = next(self._states, None)
        if state is None:
            raise RuntimeError(
                "checkpoint: the function draws random numbers more often when run again; it must do the same each "
                "time it is called"
            )
        return _generator_at(state)

    def restart(self, generator: np.random.Generator) -> None:
        """Does nothing: the draws after the first restart were recorded too."""


class _Forked(_Source):
    """Continues from the state of a different source, which does not change."""

    def __init__(self, source: _Source) -> None:
        self._source = source
        self._state: Any = None
        self.begun: np.random.Generator | None = None

    def next(self) -> np.random.Generator:
        if self.begun is None:
            self._state = self._source.next().bit_generator.state if self._state is None else self._state
            self.begun = _generator_at(self._state)
        return self.begun

    def restart(self, generator: np.random.Generator) -> None:
        self.begun = generator


class _Refused(_Source):
    """Raises an error at every draw."""

    def __init__(self, error: Callable[[], Exception]) -> None:
        self._error = error

    def next(self) -> np.random.Generator:
        raise self._error()


def _generator_at(state: Any) -> np.random.Generator:
    """A new generator, like `default_rng`'s, in this state."""
    bits = np.random.PCG64(0)
    bits.state = state
    return np.random.Generator(bits)


_source = Scoped("random numbers", _Source(np.random.default_rng()))
_lock = threading.RLock()
if hasattr(os, "register_at_fork"):  # a fork while a different thread draws would leave the lock held forever
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


class _Drawing:
    """Returns the generator, to one thread at a time."""

    def __enter__(self) -> np.random.Generator:
        _lock.acquire()
        try:
            return _source.value.next()
        except BaseException:
            _lock.release()
            raise

    def __exit__(self, *exception: object) -> None:
        _lock.release()


_DRAWING = _Drawing()


def drawing() -> AbstractContextManager[np.random.Generator]:
    """The generator of initial weights, dropout masks, `rand` and sampling, for one draw. Other threads wait.

    >>> with drawing() as rng:
    ...     ids = rng.integers(10, size=3)
    """
    return _DRAWING


def draw_key() -> int:
    """Draws the key of a mask of dropout."""
    with drawing() as rng:
        return int(rng.integers(2**63))


def manual_seed(seed: int) -> None:
    """Seeds the random numbers of the library, which are the same on every device."""
    generator = np.random.default_rng(seed)
    with _lock:
        _source.value.restart(generator)


def random_state() -> dict[str, Any]:
    """The state of the random numbers, as plain values, for `set_random_state`."""
    with drawing() as rng:
        return dict(rng.bit_generator.state)


def set_random_state(state: dict[str, Any]) -> None:
    """Restores a state that `random_state` returned."""
    generator = _generator_at(state)
    with _lock:
        _source.value.restart(generator)


@contextmanager
def seeded_draws(*seed: int) -> Iterator[None]:
    """In a `with` block, this thread's random numbers are those of a seed of several integers."""
    with _source.set_to(_Source(np.random.default_rng(seed))):
        yield


@contextmanager
def restored_random_state(state: dict[str, Any]) -> Iterator[None]:
    """In a `with` block, this thread's random numbers continue from `state`; those of other threads are unchanged."""
    with _source.set_to(_Source(_generator_at(state))):
        yield


def forked_draws() -> Callable[[], AbstractContextManager[None]]:
    """Makes `with` blocks whose draws, in this thread, all begin where the random numbers are now, and use up none."""
    source = _Forked(_source.value)

    @contextmanager
    def block() -> Iterator[None]:
        source.begun = None
        with _source.set_to(source):
            yield

    return block


@contextmanager
def no_draws(error: Callable[[], Exception]) -> Iterator[None]:
    """In a `with` block, draws of this thread raise the error that the function returns."""
    with _source.set_to(_Refused(error)):
        yield


@contextmanager
def noted_draws(states: list[Any]) -> Iterator[None]:
    """In a `with` block, the state before each draw of this thread is appended to the list, for `repeated_draws`."""
    with _source.set_to(_Noted(_source.value, states)):
        yield


@contextmanager
def repeated_draws(states: list[Any]) -> Iterator[None]:
    """In a `with` block, this thread repeats the recorded draws. Draws of other threads have no effect.

    Raises:
        RuntimeError: (at a draw) there are more draws than were recorded.
    """
    with _source.set_to(_Repeated(states)):
        yield
