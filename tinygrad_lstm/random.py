"""The random numbers of the library: one generator on the host, the same stream whatever the device."""

import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np

from tinygrad_lstm.backends.scoped import Scoped

__all__ = ["manual_seed"]


class _Source:
    """What random numbers are drawn from."""

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator

    def next(self) -> np.random.Generator:
        """The generator, for one draw."""
        return self._generator

    def restart(self, generator: np.random.Generator) -> None:
        """Draws from this generator from now on."""
        self._generator = generator


class _Noted(_Source):
    """Another source, noting the state before each draw."""

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
    """The draws that were noted, by a generator that nobody else draws from."""

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
        """Nothing: what was drawn after it at first was noted too."""


def _generator_at(state: Any) -> np.random.Generator:
    """A new generator in this state of one such as `default_rng` makes."""
    bits = np.random.PCG64(0)
    bits.state = state
    return np.random.Generator(bits)


_source = Scoped("random numbers", _Source(np.random.default_rng()))
_lock = threading.RLock()
if hasattr(os, "register_at_fork"):  # a fork while another thread draws would leave the lock held for good
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


class _Drawing:
    """Gives the generator to one thread at a time."""

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
    """The generator of initial weights, dropout masks, `rand` and sampling, for one draw; other threads wait.

    >>> with drawing() as rng:
    ...     ids = rng.integers(10, size=3)
    """
    return _DRAWING


def manual_seed(seed: int) -> None:
    """Starts the random numbers of the library anew, the same for the same seed on every device."""
    generator = np.random.default_rng(seed)
    with _lock:
        _source.value.restart(generator)


def random_state() -> dict[str, Any]:
    """Where the random numbers stand: plain values, for `set_random_state`."""
    with drawing() as rng:
        return dict(rng.bit_generator.state)


def set_random_state(state: dict[str, Any]) -> None:
    """Puts the random numbers back to where `random_state` found them."""
    generator = _generator_at(state)
    with _lock:
        _source.value.restart(generator)


@contextmanager
def restored_random_state(state: dict[str, Any]) -> Iterator[None]:
    """Within it, this thread's random numbers go on from `state`, and those of others are not touched."""
    with _source.set_to(_Source(_generator_at(state))):
        yield


@contextmanager
def noted_draws(states: list[Any]) -> Iterator[None]:
    """Within it, the state before each draw of this thread is added to the list, for `repeated_draws`."""
    with _source.set_to(_Noted(_source.value, states)):
        yield


@contextmanager
def repeated_draws(states: list[Any]) -> Iterator[None]:
    """Within it, this thread's draws are those that were noted, whatever others draw meanwhile.

    Raises:
        RuntimeError: at a draw, if more are made than were noted.
    """
    with _source.set_to(_Repeated(states)):
        yield
