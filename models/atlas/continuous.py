"""Cells that are steps of a differential equation in continuous time."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

from tinygrad_lstm import ops
from tinygrad_lstm._tensor import Tensor

from ..cells import Shapes, check_finite
from .cell import AtlasCell

__all__ = ["CoRNNCell", "LEMCell"]

CoRNNGates = namedtuple("CoRNNGates", "z y")


class CoRNNCell(AtlasCell):
    """The coupled oscillatory network: damped oscillators, driven by the input (Rusch & Mishra 2021).

        z' = z + Δt (tanh(W·x + U·y + V·z + b) - γ y - ε z)     velocities
        y' = y + Δt z'                                          positions: the output

    The damping term has the old z, as in the paper's explicit scheme.

    Rusch and Mishra, "Coupled oscillatory recurrent neural network (coRNN): an accurate and (gradient) stable
    architecture for learning long time dependencies", ICLR 2021.

    Args:
        dt: Δt, the length of a step.
        gamma: γ, the square of the frequency. The defaults are those of the paper's sequential MNIST.
        epsilon: ε, the damping.

    Parameters: weight_ih (H, I), the W; weight_hh (H, H), the U; weight_zh (H, H), the V; bias (H,), the b.
    """

    STATES, GATES, ROWS = ("y", "z"), CoRNNGates, "z"

    def __init__(
        self, input_size: int, hidden_size: int, *, dt: float = 0.042, gamma: float = 2.7, epsilon: float = 4.7
    ) -> None:
        check_finite(self, dt=dt, gamma=gamma, epsilon=epsilon)
        self.dt = dt
        self.gamma = gamma
        self.epsilon = epsilon
        super().__init__(input_size, hidden_size)

    @classmethod
    def parameter_shapes(cls, I: int, H: int, **options: Any) -> Shapes:
        return {**super().parameter_shapes(I, H), "weight_zh": (H, H)}

    def step(self, x: Tensor, y: Tensor, z: Tensor) -> CoRNNGates:
        (net,) = self.nets(x, y)
        force = ops.tanh(net + ops.linear(z, self.adapted("weight_zh")))
        z = z + self.dt * (force - self.gamma * y - self.epsilon * z)
        return CoRNNGates(z, y + self.dt * z)


LEMGates = namedtuple("LEMGates", "dt_z dt_y z y")


class LEMCell(AtlasCell):
    """The long expressive memory, which learns how far in time each step goes (Rusch et al. 2022).

        dt_z = Δt σ(W_1·x + U_1·y + b_1)                            the time of a step of z
        dt_y = Δt σ(W_2·x + U_2·y + b_2)                            the time of a step of y
        z'   = (1 - dt_z) ⊙ z + dt_z ⊙ tanh(W_z·x + U_z·y + b_z)    hidden state
        y'   = (1 - dt_y) ⊙ y + dt_y ⊙ tanh(W_y·x + V·z' + b_y)     output

    Rusch, Mishra, Erichson and Mahoney, "Long expressive memory for sequence modeling", ICLR 2022.

    Args:
        dt: Δt, the largest time of a step.

    Parameters, rows in the order 1, 2, z, y:
        weight_ih (4H, I), the W; weight_hh (3H, H), the U of 1, 2, z; weight_zh (H, H), the V; bias (4H,).
    """

    STATES, GATES, ROWS = ("y", "z"), LEMGates, "12zy"

    def __init__(self, input_size: int, hidden_size: int, *, dt: float = 1.0) -> None:
        check_finite(self, dt=dt)
        self.dt = dt
        super().__init__(input_size, hidden_size)

    @classmethod
    def parameter_shapes(cls, I: int, H: int, **options: Any) -> Shapes:
        return {**super().parameter_shapes(I, H), "weight_hh": (3 * H, H), "weight_zh": (H, H)}

    def step(self, x: Tensor, y: Tensor, z: Tensor) -> LEMGates:
        x_1, x_2, x_z, x_y = self.input_nets(x)
        y_1, y_2, y_z = ops.chunk(ops.linear(y, self.adapted("weight_hh")), 3, dim=-1)
        dt_z = self.dt * ops.sigmoid(x_1 + y_1)
        dt_y = self.dt * ops.sigmoid(x_2 + y_2)
        z = (1 - dt_z) * z + dt_z * ops.tanh(x_z + y_z)
        y = (1 - dt_y) * y + dt_y * ops.tanh(x_y + ops.linear(z, self.adapted("weight_zh")))
        return LEMGates(dt_z, dt_y, z, y)
