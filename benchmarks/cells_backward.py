"""Forward and backward of a cell over sequences, as each side of `cells.py` does it.

Each function takes a problem, and returns a call and what makes NumPy arrays of the call's results. It imports what it
needs itself, so that a side's process has nothing else in memory.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
from cells_equations import STEPS
from cells_problem import Problem

Results = Sequence[Any]
Ready = tuple[Callable[[], Results], Callable[[Any], np.ndarray]]
Run = Callable[[dict[str, Any], Any, tuple[Any, ...]], Any]  # of the parameters, the inputs, and the states before


def ours(problem: Problem) -> Ready:
    """`Recurrent(cell)`."""
    import tinygrad_lstm as tg

    layer = our_layer(problem)
    x, g_out = tg.tensor(problem.x, requires_grad=True), tg.tensor(problem.g_out)
    weights = dict(layer.cells[0].named_parameters())
    inputs = [x, *(weights[name] for name in problem.parameters)]

    def call() -> Results:
        out, _ = layer(x)
        return [out, *tg.grad(out, inputs, g_out)]

    return call, lambda tensor: np.array(tensor.detach().numpy())


def our_layer(problem: Problem) -> Any:
    from tinygrad_lstm.models import Recurrent
    from tinygrad_lstm.models.atlas import ATLAS

    cell = ATLAS[problem.cell](problem.sizes.I, problem.sizes.H).to(dtype=problem.x.dtype.name)
    cell.load_state_dict(problem.parameters)
    return Recurrent(cell).eval()


def torch_loop(torch: Any, problem: Problem) -> Run:
    """A loop over the steps."""
    step = partial(STEPS[problem.cell], torch_functions(torch))

    def run(p: dict[str, Any], x: Any, states: tuple[Any, ...]) -> Any:
        outputs = []
        for x_t in x.unbind(0):
            states = step(p, x_t, *states)
            outputs.append(states[0])
        return torch.stack(outputs)

    return run


def torch_scan(torch: Any, problem: Problem) -> Run:
    """The operator `scan`, a prototype."""
    from torch._higher_order_ops import scan

    step = partial(STEPS[problem.cell], torch_functions(torch))

    def run(p: dict[str, Any], x: Any, states: tuple[Any, ...]) -> Any:
        def combine(states: tuple[Any, ...], x_t: Any) -> tuple[tuple[Any, ...], Any]:
            states = step(p, x_t, *states)
            return states, states[0].clone()  # the operator refuses outputs that share memory

        return scan(combine, states, x)[1]

    return run


def torch_associative_scan(torch: Any, problem: Problem) -> Run:
    """The operator `associative_scan`, a prototype, for cells of the form h' = a ⊙ h + b."""
    from torch._higher_order_ops import associative_scan

    coefficients = LINEAR[problem.cell]

    def combine(first: tuple[Any, Any], second: tuple[Any, Any]) -> tuple[Any, Any]:
        (a, b), (a_next, b_next) = first, second
        return a * a_next, a_next * b + b_next

    def run(p: dict[str, Any], x: Any, states: tuple[Any, ...]) -> Any:
        return associative_scan(combine, coefficients(torch, p, x), dim=0, combine_mode="generic")[1]

    return run


def min_gru_coefficients(torch: Any, p: dict[str, Any], x: Any) -> tuple[Any, Any]:
    z, n = torch.nn.functional.linear(x, p["weight_ih"], p["bias"]).chunk(2, -1)
    z = z.sigmoid()
    return 1 - z, z * n


def min_lstm_coefficients(torch: Any, p: dict[str, Any], x: Any) -> tuple[Any, Any]:
    i, f, g = torch.nn.functional.linear(x, p["weight_ih"], p["bias"]).chunk(3, -1)
    i, f = i.sigmoid(), f.sigmoid()
    return f / (f + i), i * g / (f + i)


LINEAR = {"min_gru": min_gru_coefficients, "min_lstm": min_lstm_coefficients}

TORCH: dict[str, Callable[[Any, Problem], Run]] = {
    "torch loop": torch_loop,
    "torch scan": torch_scan,
    "torch associative scan": torch_associative_scan,
}


def in_torch(side: str, problem: Problem) -> Ready:
    """One of PyTorch's sides."""
    torch = imported_torch()
    compute, inputs = torch_function(torch, side, problem)
    g_out = torch.tensor(problem.g_out)

    def call() -> Results:
        out = compute()
        return [out, *torch.autograd.grad(out, inputs, g_out)]

    return call, lambda tensor: tensor.detach().numpy()


def torch_function(torch: Any, side: str, problem: Problem) -> tuple[Callable[[], Any], list[Any]]:
    """What computes the outputs, and the tensors that they depend on: the inputs and the parameters."""
    torch.compiler.reset()  # what is traced for a second shape has free sizes, which the operator `scan` refuses
    p = {name: torch.tensor(array, requires_grad=True) for name, array in problem.parameters.items()}
    x = torch.tensor(problem.x, requires_grad=True)
    states = tuple(torch.zeros(problem.sizes.B, *shape, dtype=x.dtype) for shape in problem.states)
    return partial(TORCH[side](torch, problem), p, x, states), [x, *p.values()]


def imported_torch() -> Any:
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 1)))
    return torch


def torch_functions(torch: Any) -> Any:
    """The functions F of the equations."""
    functional = torch.nn.functional
    return SimpleNamespace(
        **{name: getattr(torch, name) for name in ("sigmoid", "tanh", "relu", "exp", "abs", "maximum")},
        linear=functional.linear,
        logsigmoid=functional.logsigmoid,
        concat=lambda parts: torch.cat(parts, -1),
        chunk=lambda x, n: x.chunk(n, -1),
        layer_norm=lambda x, weight, bias=None: functional.layer_norm(x, x.shape[-1:], weight, bias, 1e-5),
    )


def jax_scan(problem: Problem) -> Ready:
    """JAX's `lax.scan`, under `jit`."""
    import jax

    jax.config.update("jax_enable_x64", problem.x.dtype == np.float64)
    jnp = jax.numpy
    step = partial(STEPS[problem.cell], jax_functions(jax))
    p = {name: jnp.asarray(array) for name, array in problem.parameters.items()}
    x, g_out = jnp.asarray(problem.x), jnp.asarray(problem.g_out)
    states = tuple(jnp.zeros((problem.sizes.B, *shape), x.dtype) for shape in problem.states)

    @jax.jit
    def forward_and_backward(x: Any, p: dict[str, Any], states: tuple[Any, ...], g_out: Any) -> Results:
        def run(x: Any, p: dict[str, Any]) -> Any:
            def one(states: tuple[Any, ...], x_t: Any) -> tuple[tuple[Any, ...], Any]:
                states = step(p, x_t, *states)
                return states, states[0]

            return jax.lax.scan(one, states, x)[1]

        out, backward = jax.vjp(run, x, p)
        g_x, g_p = backward(g_out)
        return [out, g_x, *(g_p[name] for name in problem.parameters)]

    return lambda: jax.block_until_ready(forward_and_backward(x, p, states, g_out)), np.asarray


def jax_functions(jax: Any) -> Any:
    """The functions F of the equations."""
    jnp = jax.numpy

    def linear(x: Any, weight: Any, bias: Any = None) -> Any:
        return x @ weight.T if bias is None else x @ weight.T + bias

    def layer_norm(x: Any, weight: Any, bias: Any = None) -> Any:
        centred = x - x.mean(-1, keepdims=True)
        normalized = centred * jax.lax.rsqrt((centred * centred).mean(-1, keepdims=True) + 1e-5) * weight
        return normalized if bias is None else normalized + bias

    return SimpleNamespace(
        **{name: getattr(jnp, name) for name in ("tanh", "exp", "abs", "maximum")},
        sigmoid=jax.nn.sigmoid,
        relu=jax.nn.relu,
        logsigmoid=jax.nn.log_sigmoid,
        linear=linear,
        layer_norm=layer_norm,
        concat=lambda parts: jnp.concatenate(parts, -1),
        chunk=lambda x, n: jnp.split(x, n, -1),
    )


BACKWARD: dict[str, Callable[[Problem], Ready]] = {
    "compiled": ours,
    "NumPy": ours,
    **{side: partial(in_torch, side) for side in TORCH},
    "jax scan": jax_scan,
}
"""By side."""
