"""Weights that are computed from other parameters: weight normalization.

Salimans and Kingma, "Weight normalization: A simple reparameterization to accelerate training of deep neural networks"
(2016).
"""

from tinygrad_lstm.backends.dtypes import is_float

from .._tensor import Tensor
from ..arguments import integer
from ..mode import no_grad
from ..ops import norm
from .containers import ModuleDict
from .module import Module
from .parameter import Parameter

__all__ = ["remove_parametrizations", "weight_norm"]


class WeightNorm(Module):
    """The weight g · v / ‖v‖, with a norm for each index of `dim`, or one norm for all if it is None.

    Parameters: `original0`, the g, with length 1 in all dimensions except `dim`; and `original1`, the v.
    """

    def __init__(self, weight: Parameter, dim: int | None) -> None:
        self.dim = dim
        with no_grad():
            self.original0 = Parameter(self._norm(weight), requires_grad=weight.requires_grad)
            self.original1 = Parameter(weight, requires_grad=weight.requires_grad)

    def _norm(self, v: Tensor) -> Tensor:
        if self.dim is None:
            return norm(v)
        return norm(v, dim=tuple(d for d in range(v.ndim) if d != self.dim), keepdim=True) if v.ndim > 1 else v.abs()

    def forward(self) -> Tensor:
        return self.original1 * (self.original0 / self._norm(self.original1))

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


def weight_norm(module: Module, name: str = "weight", dim: int | None = 0) -> Module:
    """Replaces a weight by its length g and its direction v, which are trained instead: weight = g · v / ‖v‖.

    `torch.nn.utils.parametrizations.weight_norm`: the parameters are `parametrizations.{name}.original0`, the g, and
    `parametrizations.{name}.original1`, the v, as in PyTorch's files. The weight is no longer a parameter: it is
    computed each time that it is read as an attribute. `remove_parametrizations` makes it one again. An optimizer must
    be created after this call.

    Args:
        module: any module that owns the parameter, such as `Linear`, `Conv1d` or `LSTM`; changed in place.
        name: the name of the parameter: "weight", "weight_hh_l0".
        dim: the dimension with a norm for each index; None for one norm of the whole weight.

    Returns:
        The module.

    Raises:
        ValueError: the module has no parameter of this name, the parameter has an adapter, or `dim` is out of range.
        TypeError: the parameter is not of floats, or `dim` is not an integer or None.

    >>> import tinygrad_lstm as tg
    >>> layer = weight_norm(tg.nn.Linear(3, 4))
    >>> {name: parameter.shape for name, parameter in layer.named_parameters()}
    {'bias': (4,), 'parametrizations.weight.original0': (4, 1), 'parametrizations.weight.original1': (4, 3)}
    >>> layer(tg.ones(2, 3)).shape, layer.weight.shape
    ((2, 4), (4, 3))
    """
    weight = vars(module).get(name)
    if not isinstance(weight, Parameter):
        reason = "is parametrized already" if name in module._parametrized else "is not one of its parameters"
        raise ValueError(f"weight_norm: {name!r} {reason}: {type(module).__name__}")
    if not is_float(weight.dtype):
        raise TypeError(f"weight_norm: {name!r} must be of floats, got {weight.dtype}")
    if f"{name}_lora" in vars(module):
        raise ValueError(f"weight_norm: {name!r} has an adapter; call merge_lora before")
    if dim is not None and not 0 <= integer("weight_norm", "dim", dim) < weight.ndim:
        raise ValueError(f"weight_norm: dim {dim} is out of range for {name!r} of shape {weight.shape}; or give None")
    made = WeightNorm(weight, dim)
    if "parametrizations" not in vars(module):
        module.parametrizations = ModuleDict()
    module.parametrizations[name] = made
    delattr(module, name)
    module._parametrized = module._parametrized | {name}
    return module


def remove_parametrizations(module: Module, name: str) -> Module:
    """Makes a weight that `weight_norm` replaced a parameter again, with its present value.

    `torch.nn.utils.parametrize.remove_parametrizations`. An optimizer must be created after this call.

    Returns:
        The module.

    Raises:
        ValueError: the weight is not parametrized.

    >>> import tinygrad_lstm as tg
    >>> layer = weight_norm(tg.nn.Linear(3, 4))
    >>> [name for name, _ in remove_parametrizations(layer, "weight").named_parameters()]
    ['bias', 'weight']
    """
    if name not in module._parametrized:
        raise ValueError(f"remove_parametrizations: {name!r} of this {type(module).__name__} is not parametrized")
    originals = list(module.parametrizations[name].parameters())
    with no_grad():
        weight = Parameter(getattr(module, name), requires_grad=any(each.requires_grad for each in originals))
    module._parametrized = module._parametrized - {name}
    del module.parametrizations[name]
    if not module.parametrizations:
        del module.parametrizations
    setattr(module, name, weight)
    return module
