"""Steps that have a program for one batch size only: they use tensors of the whole batch, or branch on its size."""

import contextlib
from collections.abc import Mapping, Sequence

from tinygrad_lstm.backends.emit.program import BATCH, mapped

from .._tensor import Tensor
from ..mode import mode, no_grad
from .run import Known, Like, Run, UntraceableError, like_of
from .step import Outside, TracedStep, constant_of

__all__ = ["WholeBatchStep"]


class WholeBatchStep(TracedStep):
    """The program of a step for one batch size.

    The step has run for this size. The ops of this run are applied for small sizes, to a few rows of the tensors whose
    first dimension is the batch. So the program has the ops and arguments of the run, in which some numbers are the
    batch size: for this size, it computes what the step computes.

    Args:
        seen: the run of the step.
        again: a second run, which shows which tensors the step makes.
        given: what it was given: inputs, states, and others.
        batch: the batch size.
    """

    def __init__(
        self, seen: tuple[Run, list[Known]], again: tuple[Run, list[Known]], given: Sequence[Sequence[Like]], batch: int
    ) -> None:
        run, outputs = seen
        if run.outside != again[0].outside:
            raise UntraceableError("the step applies different ops each time")
        rows = [k for k in run.outside if _has_rows(run.tensors[k], batch)]
        fixed = [k for k in run.outside if k not in rows]
        inputs, states, others = given

        def replayed(*given: Sequence[Tensor]) -> tuple[Tensor, ...]:
            known = {k: run.tensors[k] for k in fixed}
            flat = [tensor for part in given for tensor in part]
            known |= zip((*range(len(flat) - len(rows)), *rows), flat, strict=True)
            return _replayed(run, outputs, known, batch)

        made = [k for k in run.outside if run.tensors[k] is not again[0].tensors[k]]
        outside = {
            k: Outside(like_of(run.tensors[k]), constant_of(run.tensors[k]) if k in made else None)
            for k in (*rows, *fixed)
        }
        likes = [outside[k].like._replace(shape=(BATCH, *outside[k].like.shape[1:])) for k in rows]
        try:
            super().__init__(replayed, inputs, states, [*others, *likes])
        except UntraceableError as error:
            shapes = ", ".join(dict.fromkeys(str(outside[k].like.shape) for k in rows))
            way_out = f", with tensors of shape {shapes} from outside; make these states, which it returns unchanged"
            raise UntraceableError(
                f"the step runs for a batch of {batch} only{way_out * bool(rows)} ({error})"
            ) from error
        if [each.like for each in self.outside] != [outside[k].like for k in fixed]:
            raise UntraceableError("the step takes different tensors from outside for different batch sizes")
        self.outside, self.batch = [*outside.values()], batch
        self._notes, self._outputs, self._taken = run.notes, outputs, [*rows, *fixed]
        self._outside = {k: outside[k] for k in run.outside}


def _has_rows(tensor: Tensor, batch: int) -> bool:
    """Whether a tensor from outside has a row for each sequence; of a parameter it is by chance."""
    return tensor.shape[:1] == (batch,) and type(tensor) is Tensor


def _replayed(run: Run, outputs: Sequence[Known], known: Mapping[int, Tensor], batch: int) -> tuple[Tensor, ...]:
    """The outputs of a run, of which some tensors are replaced by others with a different number of rows."""
    tensors, number, tracer = dict(known), len(known[0]), mode().value.tracer
    assert tracer is not None
    for k, p in zip(run.masks, run.dropped):
        mask = run.tensors[k]
        tensors[k] = tracer.see_dropout(_with_rows(mask, number) if mask.shape[:1] == (batch,) else mask, p)

    def tensor_of(part: object) -> object:
        return tensors[part.place] if isinstance(part, Known) else part

    for note in run.notes:
        arguments = [
            (number, *argument[1:]) if name == "shape" and tuple(argument[:1]) == (batch,) else argument
            for name, argument in zip(note.op.names, note.arguments, strict=True)
        ]
        with no_grad() if note.detached else contextlib.nullcontext():
            made = note.op.call(*mapped(arguments, tensor_of))
        tensors.update(zip(note.places, made if isinstance(made, tuple) else (made,), strict=True))
    return tuple(tensors[output.place] for output in outputs)


def _with_rows(like: Tensor, number: int) -> Tensor:
    """A tensor of this number of rows."""
    device = like.device
    with device.current():
        return Tensor._wrap(device.xp.ones((number, *like.shape[1:]), like.dtype), device)
