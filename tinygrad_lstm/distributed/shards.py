"""An optimizer whose state is spread over workers."""

import pickle
from collections.abc import Mapping
from typing import Any

from .._tensor import Tensor
from ..graph import set_gradient
from ..optim import Optimizer
from ..optim.elementwise import ElementwiseOptimizer
from .collectives import gather, spread
from .communicator import Communicator

__all__ = ["OptimizerShards"]


class OptimizerShards:
    """The steps of an optimizer, each worker those of its share of the parameters: ZeRO's first stage.

    The state of a parameter, such as Adam's running means, is only on the worker that owns the parameter, which sends
    the new values to the others. They have the bits that they have without shards.

    Rajbhandari, Rasley, Ruwase and He, "ZeRO: memory optimizations toward training trillion parameter models" (2020).

    Args:
        optimizer: the optimizer of all parameters; each worker has one with the same groups.
        communicator: the workers. One alone owns all parameters.

    Raises:
        TypeError: the optimizer computes the step of one parameter from others, as `LBFGS` does.
    """

    def __init__(self, optimizer: Optimizer, communicator: Communicator) -> None:
        if communicator.size > 1 and not isinstance(optimizer, ElementwiseOptimizer):
            raise TypeError(
                f"{type(optimizer).__name__} has one state for all parameters, which cannot be spread over workers; "
                "expected an ElementwiseOptimizer such as AdamW, or shard_optimizer=False"
            )
        self.optimizer, self.communicator = optimizer, communicator
        self._owners: dict[Tensor, int] = {}
        self._loads = [0] * communicator.size

    @property
    def are_spread(self) -> bool:
        """Whether workers have different parts of the state."""
        return self.communicator.size > 1

    def owner_of(self, parameter: Tensor) -> int:
        """The worker that has the state of a parameter of the optimizer.

        The largest parameters are given out first, each to the worker with the fewest elements. Parameters that are
        added later are given out later.
        """
        if parameter not in self._owners:
            fresh = [each for each in self._parameters() if each not in self._owners]
            for each in sorted(fresh, key=lambda each: -each.size):
                owner = self._loads.index(min(self._loads))
                self._owners[each] = owner
                self._loads[owner] += each.size
        return self._owners[parameter]

    def _parameters(self) -> list[Tensor]:
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def _is_mine(self, parameter: Tensor) -> bool:
        return self.owner_of(parameter) == self.communicator.rank

    def step(self) -> None:
        """Changes each parameter that has a gradient, on all workers. Gradients are the same on all of them.

        Raises:
            MemoryError, RuntimeError, TypeError, ValueError: as for the optimizer's step.
            WorkerError: a worker failed, or does not answer.
        """
        if not self.are_spread:
            self.optimizer.step()
            return
        changing = [parameter for parameter in self._parameters() if parameter.grad is not None]
        theirs = [(each, each.grad) for each in changing if not self._is_mine(each)]
        for parameter in [each for each in self.optimizer.state if not self._is_mine(each)]:
            del self.optimizer.state[parameter]  # of steps before there were shards
        try:
            for parameter, _ in theirs:
                set_gradient(parameter, None)
            self.optimizer.step()
        finally:
            for parameter, gradient in theirs:
                set_gradient(parameter, gradient)
        for parameter, _ in theirs:
            parameter._mark_written()
        spread(self.communicator, [(each._array, each.device, self.owner_of(each)) for each in changing])

    def state_dict(self) -> dict[str, Any]:
        """The optimizer's `state_dict`: on the first worker the whole state, on others their part of it.

        All workers call this at the same time.
        """
        own = self.optimizer.state_dict()
        if not self.are_spread:
            return own
        everyone = gather(self.communicator, pickle.dumps(self.part_of(own)["state"]))
        if everyone is None:
            return own
        state = {name: array for data in everyone for name, array in pickle.loads(data).items()}
        return {**own, "state": dict(sorted(state.items(), key=lambda item: _number(item[0])))}

    def part_of(self, state_dict: Mapping[str, Any]) -> dict[str, Any]:
        """What the optimizer of this worker needs of a whole state, for its `load_state_dict`."""
        if not self.are_spread:
            return dict(state_dict)
        theirs = {str(k) for k, parameter in enumerate(self._parameters()) if not self._is_mine(parameter)}
        state = {name: array for name, array in state_dict["state"].items() if name.partition(".")[0] not in theirs}
        return {**state_dict, "state": state}


def _number(name: str) -> int:
    """The number of the parameter that a state belongs to."""
    return int(name.partition(".")[0])
