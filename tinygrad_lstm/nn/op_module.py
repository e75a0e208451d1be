"""The base class of modules that only call an op: activations, pools and losses."""

from collections.abc import Callable
from typing import Any, ClassVar

from .._tensor import Tensor
from .inputs import check_input
from .module import Module

__all__: list[str] = []


class OpModule(Module):
    """Calls an op with settings. A subclass names the op and the settings, and sets these as attributes.

    Attributes:
        function: the op.
        settings: the names of its settings, which the representation shows.
        hidden: the names of further arguments, such as weights.
    """

    function: ClassVar[Callable[..., Any]]
    settings: ClassVar[tuple[str, ...]] = ()
    hidden: ClassVar[tuple[str, ...]] = ()

    def forward(self, x: Tensor) -> Any:
        return self.called("x", x)

    def called(self, what: str, x: Tensor, *others: Any) -> Any:
        """The result of the op; `what` is the name of x in messages."""
        check_input(type(self).__name__, what, x, None)
        given = {name: getattr(self, name) for name in (*self.hidden, *self.settings)}
        return type(self).function(x, *others, **given)

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in self.settings)
