"""What a case is: an op, with how to call it, draw its inputs, and compute it with NumPy; and how inputs are drawn.

A case holds what differs between ops; `test_ops.py` holds what is true of all.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
from hypothesis import strategies as st

import tinygrad_lstm as tg

HostArray = np.ndarray[Any, Any]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Drawn:
    """What one example of an op is called with: float64 arrays, then settings by name."""

    arrays: list[HostArray]
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """One op.

    Attributes:
        name: its public name.
        reference: the same function of NumPy arrays, with the op's own settings.
        drawn: its inputs.
        call: the op on tensors; by default `tg.<name>(*tensors, **settings)`.
        differentiable: whether it has a derivative.
        out: the result's dtype: "same" as the input's, "float" (float32 of integers), or a dtype's name.
        ints: whether it takes integers.
        bools: whether it takes bool.
        variant: tells several cases of one op apart.
    """

    name: str
    reference: Callable[..., Any]
    drawn: st.SearchStrategy[Drawn]
    call: Callable[..., Any]
    differentiable: bool = True
    out: str = "float"
    ints: bool = True
    bools: bool = True
    variant: str = ""

    @property
    def called_plainly(self) -> bool:
        """Whether it is called as `tg.<name>(*tensors, **settings)`."""
        return self.call is getattr(tg, self.name)

    def __str__(self) -> str:
        return f"{self.name}-{self.variant}" if self.variant else self.name


CASES: list[Case] = []


def case(
    name: str,
    reference: Callable[..., Any],
    drawn: st.SearchStrategy[Drawn],
    call: Callable[..., Any] | None = None,
    **options: Any,
) -> None:
    CASES.append(Case(name, reference, drawn, call or getattr(tg, name), **options))


# -- values: each domain keeps away from where its ops have no derivative ----------------------------------------------

Domain = Callable[[np.random.Generator, Shape], HostArray]


def nonzero(rng: np.random.Generator, shape: Shape) -> HostArray:
    return np.asarray(rng.uniform(0.2, 2, shape) * rng.choice([-1, 1], shape))


def positive(rng: np.random.Generator, shape: Shape) -> HostArray:
    return np.asarray(rng.uniform(0.3, 3, shape))


def above_minus_one(rng: np.random.Generator, shape: Shape) -> HostArray:
    return np.asarray(rng.uniform(-0.6, 2, shape))


def above_one(rng: np.random.Generator, shape: Shape) -> HostArray:
    return np.asarray(rng.uniform(1.2, 4, shape))


def inside_one(rng: np.random.Generator, shape: Shape) -> HostArray:
    return np.asarray(rng.uniform(-0.9, 0.9, shape))


def between_integers(rng: np.random.Generator, shape: Shape) -> HostArray:
    return np.asarray(rng.integers(-3, 3, shape) + rng.uniform(0.1, 0.4, shape))


def distinct(rng: np.random.Generator, shape: Shape) -> HostArray:
    """No two values closer than 0.05, none nearer to 0 than 0.02."""
    size = math.prod(shape)
    return (rng.permutation(size) * 0.05 - size * 0.025 + 0.02).reshape(shape)


def distinct_of_halves(rng: np.random.Generator, shape: Shape) -> HostArray:
    """Numbers that no divisor divides, not nearly."""
    return rng.integers(-8, 8, shape) / 2 + 0.25


def some_divisors(rng: np.random.Generator, shape: Shape) -> HostArray:
    return np.asarray(rng.choice([-2.0, -1.0, 1.0, 1.5, 3.0], shape))


def some_equal(rng: np.random.Generator, shape: Shape) -> HostArray:
    return rng.integers(-1, 2, shape).astype(np.float64)


SEEDS = st.integers(0, 2**32 - 1)


def shapes(least: int = 0, most: int = 4, side: int = 3, smallest: int = 0) -> st.SearchStrategy[Shape]:
    return hnp.array_shapes(min_dims=least, max_dims=most, min_side=smallest, max_side=side)


@st.composite
def unary(
    draw: st.DrawFn,
    domain: Domain = nonzero,
    settings: Callable[[Shape], st.SearchStrategy[dict[str, Any]]] = lambda shape: st.just({}),
    least: int = 0,
    smallest: int = 0,
) -> Drawn:
    """One array, and settings that may depend on its shape."""
    shape = draw(shapes(least, smallest=smallest))
    rng = np.random.default_rng(draw(SEEDS))
    return Drawn([domain(rng, shape)], draw(settings(shape)))


@st.composite
def several(draw: st.DrawFn, *domains: Domain, apart: bool = False) -> Drawn:
    """Arrays that broadcast against each other; `apart`: of different values everywhere."""
    drawn = draw(hnp.mutually_broadcastable_shapes(num_shapes=len(domains), max_dims=4, min_side=0, max_side=3))
    rng = np.random.default_rng(draw(SEEDS))
    arrays = [domain(rng, shape) for domain, shape in zip(domains, drawn.input_shapes, strict=True)]
    if apart:
        arrays[0] = np.where(np.abs(arrays[0] * 4 % 1 - 0.5) < 0.3, np.round(arrays[0]), np.round(arrays[0]) + 1)
        arrays[1] = np.round(arrays[1]) + rng.choice([-0.4, 0.4], arrays[1].shape)
    return Drawn(arrays)


def settings(**strategies: st.SearchStrategy[Any]) -> Callable[[Shape], st.SearchStrategy[dict[str, Any]]]:
    """Settings that do not depend on the shape; each may be left out."""
    return lambda shape: st.fixed_dictionaries({}, optional=strategies)


def a_dim(shape: Shape) -> st.SearchStrategy[int]:
    return st.integers(-len(shape), len(shape) - 1)


def some_dims(shape: Shape) -> st.SearchStrategy[Any]:
    """An int, a tuple of ints or None, negative ones among them."""
    if not shape:
        return st.sampled_from([None, ()])
    several_dims = st.sets(st.integers(0, len(shape) - 1)).flatmap(
        lambda dims: st.tuples(*[st.sampled_from([d, d - len(shape)]) for d in sorted(dims)])
    )
    return st.none() | a_dim(shape) | several_dims


def reduced(shape: Shape) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional={"dim": some_dims(shape), "keepdim": st.booleans()})


def along(shape: Shape) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"dim": a_dim(shape)})
