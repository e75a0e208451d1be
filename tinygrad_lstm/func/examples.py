"""Gradients for each example of a batch."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

from .._tensor import Tensor
from .call import Argnums, Call, stacked
from .trees import leaves, mapped

__all__ = ["per_example_grad"]


def per_example_grad(function: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., Any]:
    """The gradient of a scalar function of one example, for each example of a batch: (B, *argument shape).

    It is called like the function, but with a batch for each positional argument that is not in `argnums`: its arrays
    and Tensors have B examples in their first dimension. The function receives one example at a time, without that
    dimension. Numbers and other settings, and keyword arguments, are passed on unchanged. The result is otherwise as
    for `grad`. In PyTorch this is `vmap(grad(function), in_dims=(None, 0, ...))`.

    The function runs B times, each time followed by a backward pass. This is exact for any function, costs as much as B
    calls of `grad`, and keeps one example's graph in memory at a time. Dropout draws a mask for each example.

    Raises:
        ValueError: (when called) the other arguments contain no array, one is 0-d, or they have different numbers of
            examples; or as for `grad`.
        TypeError: as for `grad`.

    >>> import numpy as np
    >>> import tinygrad_lstm as tg
    >>> model = tg.nn.Linear(3, 1)
    >>> def loss(parameters, x, y):  # of one example: x (3,), y ()
    ...     return tg.mse_loss(tg.func.functional_call(model, parameters, (x,))[0], y)
    >>> x, y = np.ones((5, 3), "float32"), np.zeros(5, "float32")
    >>> gradients = tg.func.per_example_grad(loss)(model.state_dict(), x, y)
    >>> {name: g.shape for name, g in gradients.items()}
    {'weight': (5, 1, 3), 'bias': (5, 1)}
    """

    @functools.wraps(function, updated=())
    def gradients(*args: Any, **kwargs: Any) -> Any:
        call = Call("per_example_grad", function, argnums, args, kwargs)
        number = _number_of_examples(call.others)

        def rows() -> Iterator[list[Tensor]]:
            for b in range(number):
                call.run(_example(call.others, b))
                yield call.walk([call.one()], retain_graph=False)

        return call.like_argument(stacked(rows(), number, call.inputs))

    return gradients


def _number_of_examples(batches: Any) -> int:
    shapes = [part.shape for part in leaves(batches) if isinstance(part, Tensor)]
    numbers = {shape[:1] for shape in shapes}
    if len(numbers) != 1 or () in numbers:
        found = " and ".join(map(str, shapes)) or "no array"
        raise ValueError(
            "per_example_grad: expected arrays with one number of examples in their first dimension in the arguments "
            f"that argnums does not name, got {found}"
        )
    return shapes[0][0]


def _example(batches: Any, b: int) -> Any:
    return mapped(lambda part: part[b] if isinstance(part, Tensor) else part, batches)
