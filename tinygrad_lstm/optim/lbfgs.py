"""L-BFGS."""

import math
import sys
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import numpy as np

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import promoted_dtype, widened_dtype

from .._tensor import Tensor, cast_like
from ..creation import ones, zeros, zeros_like
from ..mode import no_grad
from ..ops import cat
from .line_search import Point, strong_wolfe
from .optimizer import Group, Optimizer, Parameters, State, evaluated

__all__ = ["LBFGS"]


class LBFGS(Optimizer):
    """Steps along H · g, where H approximates the inverse of the Hessian from the last changes of the gradient.

    With sₖ the last changes of all parameters and yₖ those of the gradient, the BFGS formula
    H = (I - ρ s yᵀ) H (I - ρ y sᵀ) + ρ s sᵀ, ρ = 1 / yᵀs, is applied for each k to H₀ = yᵀs / yᵀy · I.

    Liu and Nocedal, "On the limited memory BFGS method for large scale optimization" (1989); Nocedal and Wright,
    "Numerical optimization" (2006), algorithm 7.4.

    All parameters are in one group and on one device. The vectors s and y are in the parameters' dtype, or in float32
    for float16 parameters; a parameter without a gradient is not moved. Numbers are read on the host at each step.

    Args:
        params: tensors, or one group of them; see `Optimizer`.
        lr: the step length, or the first that a line search tries.
        max_iter: the number of iterations of a step.
        max_eval: the number of calls of the closure in a step; by default 1.25 `max_iter`.
        tolerance_grad: a step ends when no element of the gradient is larger.
        tolerance_change: a step ends when the loss or all parameters change by less.
        history_size: the number of changes that are kept.
        line_search_fn: "strong_wolfe", which satisfies the strong Wolfe conditions; None uses `lr`.
        maximize: whether to increase the objective instead of decreasing it.

    Raises:
        TypeError: as for `Optimizer`.
        ValueError: as for `Optimizer`; or there are two groups, or `line_search_fn` is unknown.

    >>> import tinygrad_lstm as tg
    >>> x = tg.tensor([-1.2, 1.0], requires_grad=True)
    >>> lbfgs = tg.optim.LBFGS([x], max_iter=50, line_search_fn="strong_wolfe")
    >>> def closure():
    ...     lbfgs.zero_grad()
    ...     loss = (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
    ...     loss.backward()
    ...     return loss
    >>> round(lbfgs.step(closure).item(), 2)
    24.2
    >>> [round(value, 2) for value in x.tolist()]
    [1.0, 1.0]
    """

    bounds: ClassVar[dict[str, tuple[float, float]]] = {
        "lr": (0.0, math.inf),
        "tolerance_grad": (0.0, math.inf),
        "tolerance_change": (0.0, math.inf),
    }
    counts: ClassVar[tuple[str, ...]] = ("max_iter", "max_eval", "history_size")

    def __init__(
        self,
        params: Parameters,
        lr: float = 1.0,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: Literal["strong_wolfe"] | None = None,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "max_iter": max_iter,
            "max_eval": max(1, max_iter * 5 // 4) if max_eval is None else max_eval,
            "tolerance_grad": tolerance_grad,
            "tolerance_change": tolerance_change,
            "history_size": history_size,
            "line_search_fn": line_search_fn,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Adds the group of all parameters, for the constructor.

        Raises:
            TypeError, ValueError: as for the constructor.
        """
        if self.param_groups:
            raise ValueError("LBFGS: all parameters must be in one group")
        super().add_param_group(group)

    def check_settings(self, settings: Group) -> None:
        super().check_settings(settings)
        for name in self.counts:
            if not isinstance(settings[name], int) or isinstance(settings[name], bool):
                raise TypeError(f"LBFGS: {name} must be an integer, got {settings[name]!r}")
            if settings[name] < 1:
                raise ValueError(f"LBFGS: {name} must be 1 or more, got {settings[name]}")
        if settings["line_search_fn"] not in (None, "strong_wolfe"):
            raise ValueError(
                f"LBFGS: line_search_fn must be 'strong_wolfe' or None, got {settings['line_search_fn']!r}"
            )

    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Makes `max_iter` iterations, or fewer, and calls the closure for each.

        Args:
            closure: a function that clears the gradients, computes the loss, calls its `backward` and returns it.

        Returns:
            What the closure returned at first.

        Raises:
            TypeError: there is no closure; or a setting in `param_groups` was changed to an invalid one.
            ValueError: parameters are on several devices; or a setting is out of bounds.
            RuntimeError: the device or the shape of a gradient differs from its parameter's.
        """
        (group,) = self.param_groups
        self.check_settings(group)
        if closure is None:
            raise TypeError("LBFGS: step needs a closure, a function that computes the loss anew")
        if len(devices := {str(p.device) for p in group["params"]}) > 1:
            raise ValueError(f"LBFGS: parameters are on {', '.join(sorted(devices))}; move them to one device")
        with no_grad():
            return self._minimize(closure, group)

    def _minimize(self, closure: Callable[[], Tensor], group: Group) -> Tensor:
        sign = -1.0 if group["maximize"] else 1.0
        state = self._present_state(group)

        def evaluate() -> tuple[Tensor, float, Tensor]:
            result = evaluated(closure)
            state["func_evals"] += 1
            return result, sign * result.item(), sign * self._flat_gradient(group)

        def point(t: float) -> Point:
            """The point of a step length; the parameters are where they were."""
            self._move(group, before + t * d)
            try:
                _, loss, gradient = evaluate()
            finally:
                self._move(group, before)
            return Point(t, loss, (gradient @ d).item(), gradient)

        first_evals = state["func_evals"]
        result, loss, gradient = evaluate()
        if _largest(gradient) <= group["tolerance_grad"]:
            return result
        for iteration in range(1, group["max_iter"] + 1):
            d = _direction(state, gradient, group["history_size"])
            t = float(group["lr"])
            if state["n_iter"] == 0:
                t *= min(1.0, 1.0 / gradient.abs().sum().item())
            start = Point(0.0, loss, (gradient @ d).item(), gradient)
            state.update(n_iter=state["n_iter"] + 1, d=d, t=t, prev_flat_grad=gradient, prev_loss=loss)
            if start.slope > -group["tolerance_change"]:
                break
            before = self._flat_parameters(group)
            if group["line_search_fn"] is not None:
                left = group["max_eval"] - (state["func_evals"] - first_evals)
                shortest = group["tolerance_change"] / max(_largest(d), sys.float_info.min)
                t, loss, _, gradient = strong_wolfe(point, start, t, left, shortest)
                state["t"] = t
            self._move(group, before + t * d)
            if group["line_search_fn"] is None and iteration < group["max_iter"]:
                _, loss, gradient = evaluate()
            if (
                state["func_evals"] - first_evals >= group["max_eval"]
                or _largest(gradient) <= group["tolerance_grad"]
                or _largest(t * d) <= group["tolerance_change"]
                or abs(loss - start.loss) < group["tolerance_change"]
            ):
                break
        return result

    # -- all parameters as one vector ----------------------------------------------------------------------------------

    def _flat_parameters(self, group: Group) -> Tensor:
        dtype = widened_dtype(promoted_dtype({p.dtype for p in group["params"]}))
        return cat([p.detach().reshape(-1).to(dtype=dtype) for p in group["params"]])

    def _flat_gradient(self, group: Group) -> Tensor:
        dtype = widened_dtype(promoted_dtype({p.dtype for p in group["params"]}))
        gradients = [(p, self._gradient(p)) for p in group["params"]]
        parts = [zeros(p.size, device=p.device) if g is None else g.detach().reshape(-1) for p, g in gradients]
        return cat([part.to(dtype=dtype) for part in parts])

    def _move(self, group: Group, flat: Tensor) -> None:
        begin = 0
        for p in group["params"]:
            p.copy_(flat[begin : begin + p.size].reshape(p.shape))
            begin += p.size

    # -- state ---------------------------------------------------------------------------------------------------------

    def _present_state(self, group: Group) -> State:
        """The state, under the first parameter, on its device."""
        first, like = group["params"][0], self._flat_parameters(group)
        if first not in self.state:
            self.state[first] = _initial_state(like)
        state = self.state[first]
        for name, value in state.items():
            if isinstance(value, Tensor):
                state[name] = value.to(like.device, like.dtype)
            elif isinstance(value, list):
                state[name] = [part.to(like.device, like.dtype) for part in value]
        return state

    def _saved_state(self) -> dict[str, HostArray]:
        (group,) = self.param_groups
        state, size = self.state.get(group["params"][0], {}), sum(p.size for p in group["params"])
        arrays: dict[str, HostArray] = {}
        for name, value in state.items():
            if isinstance(value, list):
                rows = [part.cpu().numpy() for part in value]
                dtype = state["d"].dtype
                arrays[f"0.{name}"] = np.array(rows, dtype).reshape(len(rows), *[size] * (name != "ro"))
            else:
                arrays[f"0.{name}"] = value.cpu().numpy().copy() if isinstance(value, Tensor) else np.asarray(value)
        return arrays

    def _loaded_state(self, given: Mapping[str, Any], groups: list[Group]) -> dict[Tensor, State]:
        if not given:
            return {}
        (group,) = groups
        like = _initial_state(self._flat_parameters(group))
        if given.keys() != {f"0.{name}" for name in like}:
            raise ValueError("LBFGS: the state has other names than LBFGS's; is it another optimizer's?")
        kept = np.size(given["0.ro"])
        state: State = {}
        for name, start in like.items():
            try:
                row = like["H_diag"] if name == "ro" else like["d"]
                state[name] = _loaded_value(given[f"0.{name}"], start, row, kept)
            except ValueError as error:
                raise ValueError(f"LBFGS: 0.{name} is invalid: {error}") from error
        return {group["params"][0]: state}


def _initial_state(flat: Tensor) -> State:
    """The initial state for a vector of parameters. The names are PyTorch's: `old_dirs` has y, and `old_stps` s."""
    return {
        "n_iter": 0,
        "func_evals": 0,
        "t": 0.0,
        "prev_loss": 0.0,
        "H_diag": ones((), dtype=flat.dtype, device=flat.device),
        "d": zeros_like(flat),
        "prev_flat_grad": zeros_like(flat),
        "old_dirs": [],
        "old_stps": [],
        "ro": [],
    }


def _loaded_value(given: Any, start: Any, row: Tensor, kept: int) -> Any:
    """A value of a saved state, like `start`; of a list, `kept` values like `row`."""
    if isinstance(start, Tensor):
        return cast_like(given, start).clone()
    if isinstance(start, list):
        rows = cast_like(given, zeros((kept, *row.shape), dtype=row.dtype, device=row.device))
        return [rows[k].clone() for k in range(kept)]
    value = cast_like(given, Tensor(start, dtype="int64" if isinstance(start, int) else "float64", device="cpu")).item()
    if isinstance(start, int) and value < 0:
        raise ValueError(f"a counter, got {value}")
    return value


def _direction(state: State, gradient: Tensor, history_size: int) -> Tensor:
    """-H · g, after the last change is added to those that are kept."""
    if state["n_iter"] == 0:
        return -gradient
    y, s = gradient - state["prev_flat_grad"], state["t"] * state["d"]
    ys = y @ s
    if ys.item() > 1e-10:
        for name, value in (("old_dirs", y), ("old_stps", s), ("ro", 1 / ys)):
            state[name] = [*state[name], value][-history_size:]
        state["H_diag"] = ys / (y @ y)
    q, alphas = -gradient, []
    changes = list(zip(state["old_dirs"], state["old_stps"], state["ro"], strict=True))
    for y, s, ro in reversed(changes):
        alphas.append(ro * (s @ q))
        q = q - alphas[-1] * y
    d: Tensor = state["H_diag"] * q
    for (y, s, ro), alpha in zip(changes, reversed(alphas), strict=True):
        d = d + (alpha - ro * (y @ d)) * s
    return d


def _largest(x: Tensor) -> float:
    """The largest absolute value; 0 of an empty tensor."""
    return float(x.abs().max().item()) if x.size else 0.0
