"""Compares gradients with finite differences."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import FLOAT64, is_float

from ._tensor import Tensor, as_tensor, tensor
from .autograd import grad
from .mode import enable_grad

__all__ = ["gradcheck", "gradgradcheck"]


def gradcheck(
    function: Callable[..., Any],
    inputs: Any,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
) -> bool:
    """Whether the derivatives of a function are correct: the full Jacobian is compared with central differences.

    It also checks that the function and the backward pass return the same results when repeated, and that neither
    changes the inputs or the given gradients. The function may also use the inputs without taking them as arguments.

    Args:
        function: returns a Tensor, or a tuple or list of Tensors; those that are not floats are skipped.
        inputs: the argument, or a sequence of arguments. Tensors that require a gradient are checked.
        eps: the step of the differences, to each side.
        atol, rtol: the tolerance: atol + rtol * abs(numerical).
        raise_exception: whether to raise if a derivative is wrong; otherwise False is returned.

    Raises:
        RuntimeError: a derivative is wrong; the message names the output, the input and the error.
        TypeError: a checked input is not float64; differences in a smaller dtype are too inexact.
        ValueError: no input requires a gradient, or no output is a float.

    >>> import tinygrad_lstm as tg
    >>> x = tg.tensor([0.5, 1.5], dtype="float64", requires_grad=True)
    >>> tg.gradcheck(lambda x: x.tanh() * x, x)
    True
    """
    return _checked("gradcheck", function, _listed(inputs), eps, atol, rtol, raise_exception)


def gradgradcheck(
    function: Callable[..., Any],
    inputs: Any,
    grad_outputs: Any = None,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
) -> bool:
    """Whether the second derivatives of a function are correct: `gradcheck` of its gradient.

    Args:
        function, inputs: as for `gradcheck`.
        grad_outputs: the gradient of each float output. The derivatives in these gradients are checked as well. By
            default they are random numbers, the same at each call.
        eps, atol, rtol, raise_exception: as for `gradcheck`.

    Raises:
        RuntimeError, TypeError, ValueError: as for `gradcheck`.

    >>> import tinygrad_lstm as tg
    >>> x = tg.tensor([0.5, 1.5], dtype="float64", requires_grad=True)
    >>> tg.gradgradcheck(lambda x: x.exp() * x, x)
    True
    """
    given = _listed(inputs)
    checked = _checked_inputs("gradgradcheck", given)
    outputs = _float_outputs("gradgradcheck", function, given)
    rng = np.random.default_rng(0)
    if grad_outputs is None:
        grad_outputs = [tensor(rng.standard_normal(out.shape), out.dtype, out.device) for out in outputs]
    weights = [as_tensor(weight).detach().clone().requires_grad_() for weight in _listed(grad_outputs)]
    if len(weights) != len(outputs):
        raise ValueError(f"gradgradcheck: {len(outputs)} float outputs, but {len(weights)} grad_outputs")

    def gradients(*arguments: Any) -> list[Tensor]:
        walked = [
            (output, weight)
            for output, weight in zip(
                _float_outputs("gradgradcheck", function, list(arguments[: len(given)])), arguments[len(given) :]
            )
            if output.requires_grad
        ]
        if not walked:
            raise ValueError("gradgradcheck: no output of the function requires a gradient")
        starts, starting = zip(*walked, strict=True)
        found: Sequence[Tensor | None] = grad(
            list(starts), checked, list(starting), create_graph=True, allow_unused=True
        )
        return [g for g in found if g is not None]

    return _checked("gradgradcheck", gradients, [*given, *weights], eps, atol, rtol, raise_exception)


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, tuple | list) else [value]


def _checked_inputs(name: str, inputs: Sequence[Any]) -> list[Tensor]:
    checked = [value for value in inputs if isinstance(value, Tensor) and value.requires_grad]
    if not checked:
        raise ValueError(f"{name}: none of the {len(inputs)} inputs is a Tensor that requires a gradient")
    for value in checked:
        if value.dtype != FLOAT64:
            raise TypeError(
                f"{name}: an input of shape {value.shape} is {value.dtype}; differences need float64: use .double()"
            )
    return checked


def _float_outputs(name: str, function: Callable[..., Any], inputs: Sequence[Any]) -> list[Tensor]:
    with enable_grad():
        given = _listed(function(*inputs))
    for value in given:
        if not isinstance(value, Tensor):
            raise TypeError(f"{name}: the function returned a {type(value).__name__}; it must return Tensors")
    outputs = [value for value in given if is_float(value.dtype)]
    if not outputs:
        raise ValueError(f"{name}: the function returned no Tensor of floats")
    return outputs


def _values(tensors: Sequence[Any]) -> list[HostArray]:
    """Copies, on the host, of all the tensors among the arguments."""
    return [np.array(t.device.backend.to_host(t.data)) for t in tensors if isinstance(t, Tensor)]


def _same(a: Sequence[HostArray], b: Sequence[HostArray], rtol: float = 0.0) -> bool:
    return len(a) == len(b) and all(
        x.shape == y.shape and np.allclose(x, y, rtol=rtol, atol=rtol, equal_nan=True) for x, y in zip(a, b)
    )


_ROUNDING = 1e-9
"""The tolerance for sums that are added up in a different order, on a device or in a second run."""


def _checked(
    name: str,
    function: Callable[..., Any],
    inputs: list[Any],
    eps: float,
    atol: float,
    rtol: float,
    raise_exception: bool,
) -> bool:
    checked = _checked_inputs(name, inputs)
    outputs = _float_outputs(name, function, inputs)
    try:
        _verify(name, function, inputs, checked, outputs, eps, atol, rtol)
    except _Wrong as wrong:
        if raise_exception:
            raise RuntimeError(f"{name}: {wrong}") from None
        return False
    return True


class _Wrong(Exception):  # noqa: N818
    """A derivative is wrong."""


def _verify(
    name: str,
    function: Callable[..., Any],
    inputs: list[Any],
    checked: list[Tensor],
    outputs: list[Tensor],
    eps: float,
    atol: float,
    rtol: float,
) -> None:
    """Raises _Wrong if a check fails."""
    before, results = _values(inputs), _values(outputs)
    if not _same(results, _values(_float_outputs(name, function, inputs)), _ROUNDING):
        raise _Wrong("the function returns different values when it is called again; it must not be random")
    if not _same(before, _values(inputs)):
        raise _Wrong("the function changes its inputs")
    analytical, again = ([_analytical(output, checked) for output in outputs] for _ in range(2))
    if not _same([j for row in analytical for j in row], [j for row in again for j in row], _ROUNDING):
        raise _Wrong("two backward passes return different gradients")
    if not (_same(before, _values(inputs)) and _same(results, _values(outputs))):
        raise _Wrong("the backward pass changes the inputs or outputs")
    for i, moved in enumerate(checked):
        numerical = _numerical(name, function, inputs, moved, results, eps)
        for o in range(len(outputs)):
            if wrong := _difference(analytical[o][i], numerical[o], outputs[o].shape, moved.shape, atol, rtol):
                where = next(k for k, value in enumerate(inputs) if value is moved)
                raise _Wrong(
                    f"the derivative of output {o} in input {where} is wrong in {wrong} (atol {atol}, rtol {rtol})"
                )


def _analytical(output: Tensor, inputs: list[Tensor]) -> list[HostArray]:
    """The Jacobian of the output in each input: (output.size, input.size)."""
    jacobians = [np.zeros((output.size, value.size)) for value in inputs]
    if not output.requires_grad:
        return jacobians
    for row in range(output.size):
        one = np.zeros(output.size, output.dtype)
        one[row] = 1
        weight = tensor(one.reshape(output.shape), device=output.device)
        found = grad(output, inputs, weight, retain_graph=True, allow_unused=True)
        if not _same(_values([weight]), [one.reshape(output.shape)]):
            raise _Wrong("the backward pass changes the gradient that it was given")
        for jacobian, g in zip(jacobians, found, strict=True):
            if g is not None:
                jacobian[row] = _values([g])[0].reshape(-1)
    return jacobians


def _numerical(
    name: str, function: Callable[..., Any], inputs: list[Any], moved: Tensor, results: list[HostArray], eps: float
) -> list[HostArray]:
    """The Jacobian of each output in the input `moved`, by central differences."""
    jacobians = [np.zeros((result.size, moved.size)) for result in results]
    array = moved._array
    values = np.array(moved.device.backend.to_host(array))
    try:
        for column in range(moved.size):
            sides, places = [], []
            for step in (eps, -eps):
                shifted = values.copy()
                shifted.reshape(-1)[column] += step
                places.append(shifted.reshape(-1)[column])
                # The tensor itself is changed, so that the function sees the values even if it is not an argument.
                moved._array = moved.device.backend.from_host(shifted)
                sides.append(_values(_float_outputs(name, function, inputs)))
            for jacobian, above, below in zip(jacobians, *sides, strict=True):
                jacobian[:, column] = (above - below).reshape(-1) / (places[0] - places[1])
    finally:
        moved._array = array
    return jacobians


def _difference(
    analytical: HostArray,
    numerical: HostArray,
    output_shape: tuple[int, ...],
    input_shape: tuple[int, ...],
    atol: float,
    rtol: float,
) -> str | None:
    """The number of wrong elements, and the worst one; None if all are correct."""
    wrong = ~np.isclose(analytical, numerical, rtol=rtol, atol=atol)
    if not wrong.any():
        return None
    errors = np.where(wrong, np.nan_to_num(np.abs(analytical - numerical), nan=np.inf), -1.0)
    row, column = np.unravel_index(int(errors.argmax()), errors.shape)
    output_index = [int(k) for k in np.unravel_index(int(row), output_shape)] if output_shape else []
    input_index = [int(k) for k in np.unravel_index(int(column), input_shape)] if input_shape else []
    return (
        f"{int(wrong.sum())} of {wrong.size} elements; worst: d output{output_index} / d input{input_index} is "
        f"{analytical[row, column]:.9g} analytically, {numerical[row, column]:.9g} numerically"
    )
