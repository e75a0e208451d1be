"""The sides of `cells.py` as Cases of the harness, and how a cell runs on ours and in PyTorch's operators."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
from cells_backward import BACKWARD, LINEAR, imported_torch, our_layer, torch_function
from cells_problem import Problem, problem_of
from harness import Case
from lstm_data import Sizes

from tinygrad_lstm.backends.threads import VARIABLES


@dataclass(frozen=True)
class Side:
    """Who computes.

    Args:
        package: without which it cannot.
        environment: variables that are set in its process.
        cells: the cells that it computes; None for all.
    """

    package: str = "numpy"
    environment: Mapping[str, str] = field(default_factory=dict)
    cells: frozenset[str] | None = None

    def installed(self) -> bool:
        return find_spec(self.package) is not None

    def computes(self, cell: str) -> bool:
        return self.installed() and (self.cells is None or cell in self.cells)

    def environment_for(self, threads: int) -> dict[str, str]:
        """The variables for a number of threads."""
        jax = {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false"} if threads == 1 else {}
        return {**dict.fromkeys(VARIABLES, str(threads)), "NPROC": str(threads), **jax, **self.environment}


SIDES = {
    "compiled": Side(environment={"TINYGRAD_LSTM_COMPILED": "1"}),
    "NumPy": Side(environment={"TINYGRAD_LSTM_COMPILED": "0"}),
    "torch loop": Side("torch"),
    "torch scan": Side("torch"),
    "torch associative scan": Side("torch", cells=frozenset(LINEAR)),
    "jax scan": Side("jax"),
}
"""Ours first."""

OURS = ("compiled", "NumPy")
AGAINST = {"torch": ("torch loop",), "scan": ("torch scan", "torch associative scan"), "jax": ("jax scan",)}
"""The sides by what the command line calls them."""


def prepare(side: str, problem: Problem) -> Case:
    """The problem as the side computes it, for the harness."""
    call, to_numpy = BACKWARD[side](problem)
    return Case(call, lambda results: {name: to_numpy(r) for name, r in zip(problem.results, results, strict=True)})


@cache
def how_it_runs(cell: str) -> str:
    """How `Recurrent(cell)` computes here: by C, by NumPy code, or step by step; and the reason if it is not C."""
    layer = our_layer(problem_of(cell, Sizes(2, 2, 3, 4)).to(np.float32))
    try:
        (program,) = layer.program()
    except ValueError as error:
        return f"steps: {error}"
    language, *_ = program.code
    return "C" if language == "C" else f"NumPy code: {program.code['C'].removeprefix('There is none: ')}"


def how_scan_runs(side: str, cell: str) -> str:
    """How PyTorch's operator computes a small problem: errors, and whether its derivatives are those of the loop."""
    torch = imported_torch()
    problem = problem_of(cell, Sizes(4, 2, 3, 4))
    try:
        values, first, second = _derivatives(torch, side, problem)
    except Exception as error:  # the operator is a prototype, which fails in many ways
        return f"does not run: {_in_one_line(error)}"
    expected = _derivatives(torch, "torch loop", problem)
    names = ("values", "gradients", "second derivatives")
    wrong = [
        f"{name} are wrong by up to {apart:.1g} of their size"
        for name, found, right in zip(names, (values, first, second), expected, strict=True)
        if (apart := _apart(found, right)) > 1e-9
    ]
    return "; ".join([*(wrong or ["all derivatives are right"]), _how_torch_compile_runs(torch, side, problem)])


def _how_torch_compile_runs(torch: Any, side: str, problem: Problem) -> str:
    """Whether `torch.compile` compiles the forward and the backward pass."""
    call, inputs = torch_function(torch, side, problem)
    try:
        torch.autograd.grad(torch.compile(call)().sum(), inputs)
    except Exception as error:
        return f"torch.compile fails: {_in_one_line(error)}"
    return "torch.compile works"


def _in_one_line(error: Exception) -> str:
    """The start of an error that may be of many lines, which would end a table's row."""
    return " ".join(f"{type(error).__name__}: {error}".replace("|", "/").split())[:120]


def _derivatives(torch: Any, side: str, problem: Problem) -> list[list[np.ndarray]]:
    """The outputs; the gradients of the sum of their squares; and those of the sum of the gradients' squares."""
    call, inputs = torch_function(torch, side, problem)
    out = call()
    first = torch.autograd.grad((out * out).sum(), inputs, create_graph=True)
    squares = sum((g * g).sum() for g in first)
    second = torch.autograd.grad(squares, inputs, allow_unused=True, materialize_grads=True)
    return [[tensor.detach().numpy() for tensor in tensors] for tensors in ([out], first, second)]


def _apart(found: list[np.ndarray], expected: list[np.ndarray]) -> float:
    """The largest distance of two lists of arrays, as a share of the largest magnitude in each array."""
    return max(float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-300)) for a, b in zip(found, expected, strict=True))
