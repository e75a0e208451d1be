"""A step on a batch that is cut into micro-batches, which several workers may share."""

import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import FLOAT64

from .._tensor import Tensor
from ..autograd import backward
from ..device import Device
from ..distributed.collectives import agree, all_gather
from ..distributed.communicator import Communicator, LocalCommunicator
from ..distributed.micro_sums import Addend, MicroSums
from ..distributed.trees import SumTree
from ..func.trees import mapped
from ..mode import no_grad
from ..random import seeded_draws
from .evaluation import Loss, Metric, as_carry, as_returned, detached, weight_of
from .micro_step import MicroStep
from .workers import checksum

__all__ = ["MicroBatches", "Split"]

Split = Callable[[Any, int], Sequence[Any]]
"""split(batch, number) -> that many batches, of which some may be None: there is nothing left for them."""


def split_by_method(batch: Any, number: int) -> Sequence[Any]:
    """Cuts a batch by its method `split`."""
    split = getattr(batch, "split", None)
    if not callable(split):
        raise TypeError(
            f"Trainer: micro_batches is {number}, but a {type(batch).__name__} has no method `split`; give the batches "
            "one, or the trainer a function as `split`, such as tg.data.split_rows"
        )
    parts: Sequence[Any] = split(number)
    return parts


class MicroBatches:
    """Cuts batches into micro-batches, and combines what those of all workers give.

    The result depends on the number of micro-batches, not on that of the workers: a micro-batch has its own random
    numbers and its own `carry`, and sums are computed in the order of a tree over micro-batches.

    Args:
        number: the number of micro-batches.
        communicator: the workers.
        split: cuts a batch.

    Raises:
        ValueError: there are fewer micro-batches than workers.
    """

    def __init__(
        self,
        number: int = 1,
        communicator: Communicator | None = None,
        split: Split | None = None,
    ) -> None:
        communicator = LocalCommunicator() if communicator is None else communicator
        if number < 1:
            raise ValueError(f"Trainer: expected micro_batches to be at least 1, got {number}")
        if number < communicator.size:
            raise ValueError(
                f"Trainer: {communicator.size} workers need at least as many micro-batches; got micro_batches={number}"
            )
        self.number, self.communicator = number, communicator
        self._split = split_by_method if split is None else split
        self._tree = SumTree(number, communicator.size)
        self.mine = self._tree.batches_of(communicator.rank)
        """The micro-batches of this worker."""
        self._sums: MicroSums | None = None
        self._has_begun = False

    def parts(self, batch: Any) -> Sequence[Any]:
        """The micro-batches of a batch, some of them None.

        Raises:
            ValueError: `split` returns a different number.
        """
        if self.number == 1:
            return [batch]
        parts = self._split(batch, self.number)
        if len(parts) != self.number:
            raise ValueError(f"Trainer: expected split to return {self.number} micro-batches, got {len(parts)}")
        return parts

    # -- a step --------------------------------------------------------------------------------------------------------

    def gradients(
        self, model: Any, loss: Loss, group: Sequence[Any], carry: Any, parameters: Sequence[Tensor]
    ) -> tuple[list[Tensor | None], Any]:
        """Sets the gradients of parameters to those of the mean loss of some batches.

        Args:
            model, loss: as the trainer has them.
            group: the batches.
            carry: what this returned for the batches before; None at first.
            parameters: all that the loss may depend on. Their gradients are None.

        Returns:
            The share in the loss of each micro-batch of this worker, None if there was nothing left for it; and the
            `carry` for the next batches.
        """
        cut = [self.parts(batch) for batch in group]
        if len(self.mine) < self.number:
            self._check_all_have_work(cut[0])
        totals = [sum(weight_of(part) for part in parts if part is not None) for parts in cut]
        carries = list(carry) if self.number > 1 and carry is not None else [carry] * self.number
        step = None if self.number == 1 else MicroStep(model, parameters, self._sums_of)
        losses: list[Tensor | None] = []
        for k in self.mine:
            own = [(parts[k], total) for parts, total in zip(cut, totals, strict=True) if parts[k] is not None]
            shares = [weight_of(part) / total / len(group) for part, total in own]
            values: list[Tensor] = []
            with nullcontext() if step is None else step.micro_batch(k, sum(shares)):
                for (part, _), share in zip(own, shares, strict=True):
                    value, carried, *_ = as_returned(loss(model, part, carries[k]))
                    value = value if share == 1 else value * share
                    is_last = k == self.mine[-1] and len(values) == len(own) - 1
                    early = is_last and self.communicator.size > 1
                    backward([value], on_leaf=step.on_leaf if step is not None and early else None)
                    carries[k] = detached(carried)
                    values.append(value.detach())
            losses.append(sum(values[1:], values[0]) if values else None)
        if step is not None:
            step.end()
        return losses, carries if self.number > 1 else carries[0]

    def _check_all_have_work(self, parts: Sequence[Any]) -> None:
        for rank in range(self.communicator.size):
            if not any(parts[k] is not None for k in self._tree.batches_of(rank)) and not self._has_begun:
                number = sum(part is not None for part in parts)
                raise ValueError(
                    f"Trainer: the first batch can be cut into {number} micro-batches, too few for "
                    f"{self.communicator.size} workers; use larger batches or fewer workers"
                )
        self._has_begun = True

    def _sums_of(self, addends: list[Addend]) -> MicroSums:
        """The sums of a step of arrays like these."""
        if self._sums is None or self._sums.addends != addends:
            self._sums = MicroSums(addends, self._tree, self.communicator)
        self._sums.begin()
        return self._sums

    # -- values of all workers -----------------------------------------------------------------------------------------

    def everywhere(self, own: HostArray) -> HostArray:
        """The values of all micro-batches, (N, M, ...), from those of this worker's, (N, number of them, ...)."""
        if self.communicator.size == 1:
            return own
        theirs = all_gather(self.communicator, np.ascontiguousarray(own).tobytes())
        each = [np.frombuffer(data, own.dtype).reshape(len(own), -1, *own.shape[2:]) for data in theirs]
        return np.concatenate(each, axis=1)

    def all_carried(self, carry: Any) -> Any:
        """What is carried to the next batches by all micro-batches, on every worker, as NumPy's arrays."""
        stored = mapped(lambda part: part.cpu().numpy() if isinstance(part, Tensor) else part, carry)
        if self.communicator.size == 1 or carry is None:
            return stored
        each = all_gather(self.communicator, pickle.dumps([stored[k] for k in self.mine]))
        return [part for data in each for part in pickle.loads(data)]

    def restored_carry(self, stored: Any, device: Device) -> Any:
        """What is carried, from what `all_carried` returned."""
        if self.number == 1 or stored is None:
            return as_carry(stored, device)
        if not isinstance(stored, list) or len(stored) != self.number:
            raise ValueError(f"expected what is carried to be a list of {self.number}, one for each micro-batch")
        return [as_carry(part, device) if k in self.mine else None for k, part in enumerate(stored)]

    # -- evaluation ----------------------------------------------------------------------------------------------------

    def mean_values(
        self,
        model: Any,
        loss: Loss,
        batches: Iterable[Any],
        metrics: Mapping[str, Metric],
        before_batch: Callable[[], None] = lambda: None,
    ) -> dict[str, float]:
        """The means of the loss and of metrics over batches, weighted by `weight_of`.

        Args:
            model: is in evaluation mode meanwhile.
            before_batch: called before each batch; an exception ends the evaluation.

        Raises:
            ValueError: there is no batch; or there are metrics, but the loss returns no outputs.
        """
        found: list[list[tuple[list[Any], int]]] = []
        carries: list[Any] = [None] * self.number
        seen = 0
        with model.evaluating(), no_grad():
            for batch in batches:
                before_batch()
                parts, of_batch = self.parts(batch), []
                if self.communicator.size > 1:
                    seen = checksum(batch, seen)
                for k in self.mine:
                    if parts[k] is None:
                        of_batch.append(([0.0] * (1 + len(metrics)), 0))
                        continue
                    # Random numbers are those of the micro-batch, and the run's are not used up.
                    with nullcontext() if self.number == 1 else seeded_draws(len(found), k):
                        value, carries[k], *rest = as_returned(loss(model, parts[k], carries[k]))
                        if metrics and len(rest) != 1:
                            raise ValueError(
                                "Trainer: there are metrics, so the loss must return (loss, carry, outputs)"
                            )
                        values = [value, *[metric(rest[0], parts[k]) for metric in metrics.values()]]
                    of_batch.append((values, weight_of(parts[k])))
                found.append(of_batch)
        if not found:
            raise ValueError("Trainer: there is no batch to evaluate; expected at least one")
        if self.communicator.size > 1:
            agree(self.communicator, "Trainer", {"batches to evaluate": f"{len(found)} ({seen:x})"})
        own = [[[*map(_number, values), weight] for values, weight in of_batch] for of_batch in found]
        rows = self.everywhere(np.array(own, FLOAT64)).reshape(-1, 2 + len(metrics)).tolist()
        total = sum(row[-1] for row in rows)
        sums = [sum(row[k] * row[-1] for row in rows) for k in range(1 + len(metrics))]
        return {name: value / total for name, value in zip(["loss", *metrics], sums, strict=True)}


def _number(value: Any) -> float:
    """A number that may be on a device. It is read only now, so that the batches wait for no device."""
    return value.item() if isinstance(value, Tensor) else float(value)
