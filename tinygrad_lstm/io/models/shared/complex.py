"""Complex tensors between the steps of a model: there are no complex dtypes here."""

from dataclasses import dataclass

from .... import ops
from ...._tensor import Tensor

__all__ = ["Complex"]


@dataclass(frozen=True)
class Complex:
    """A complex tensor, as its real and imaginary parts."""

    real: Tensor
    imag: Tensor

    @classmethod
    def of_pairs(cls, pairs: Tensor) -> "Complex":
        """The tensor whose real and imaginary parts are beside each other: of (*shape, 2)."""
        return cls(pairs[..., 0], pairs[..., 1])

    @property
    def shape(self) -> tuple[int, ...]:
        return self.real.shape

    @property
    def ndim(self) -> int:
        return self.real.ndim

    def pairs(self) -> Tensor:
        """The real and the imaginary part beside each other: (*shape, 2)."""
        return ops.stack([self.real, self.imag], -1)
