"""The training loop, for any model."""

import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import numpy as np

from .._tensor import Tensor
from ..distributed.communicator import Communicator, LocalCommunicator
from ..distributed.shards import OptimizerShards
from ..optim import Optimizer, clip_grad_norm_
from ..optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from ..optim.swa_utils import AveragedModel, get_ema_avg_fn
from ..random import manual_seed, random_state, set_random_state
from .callbacks import check_callback
from .checkpoint import Checkpoint
from .evaluation import Loss, Metric, Trainable, check_validation, device_of, largest_weight, weight_of
from .folder import RunFolder
from .limits import Call, Limits, Recent, Stopwatch, number_of
from .micro_batches import MicroBatches, Split
from .progress import Progress, Summary
from .run_files import RunFiles
from .undoing import undone_by_errors
from .workers import Workers

__all__ = ["Trainer"]

M = TypeVar("M", bound=Trainable)


class Trainer(Generic[M]):
    """Trains a model on batches: validation, checkpoints, metrics.

    On the same device, a run that was stopped or killed and resumed has bit for bit the weights of a run that was
    never interrupted.

    Args:
        model: the model. It is trained in the mode that it is in: `model.eval()` turns off dropout here, too.
        loss: a function of the model, a batch and `carry`, which is None in the first batch of an epoch. It returns the
            mean loss of the batch, and the `carry` of the next batch: the states of truncated backpropagation through
            time, or None. Tensors in it are detached. With metrics, it returns the model's outputs as well.
        optimizer: the optimizer of the model's parameters.
        schedule: a schedule of `optimizer`, which advances after each step; a `ReduceLROnPlateau` after each
            validation, by its loss.
        metrics: further values of a validation, by name: functions of the outputs and a batch.
        callbacks: objects with any of the methods of `Callback`.
        out: a folder for checkpoints and metrics; None writes no file.
        clip: the maximum norm of the gradients; None leaves them.
        seed: the library's random numbers start from it in a new run; None leaves them.
        accumulate: the number of batches whose mean gradient makes a step.
        average: the decay of an exponential moving average of the weights, such as 0.999. It is validated in place of
            the weights, and saved as the best.
        about: what is stored in checkpoints beside the run's state: lists and dicts of arrays, numbers and strings.
        communicator: the workers that train together, from `tg.distributed.init()`; each has such a trainer. The first
            writes the files; the folder is on a file system that all can read. None is this process alone.
        micro_batches: the number of parts into which each batch is cut; each worker computes some of them. The run
            depends on this number, but not on the number of workers. Each part has random numbers and a `carry` of its
            own; batch normalization normalizes each part.
        shard_optimizer: whether the optimizer's state is spread over the workers, which then need less memory. The
            weights are the same. This is also known as ZeRO, stage 1.
        split: a function of a batch and a number, which cuts the batch into that many parts; None for those that there
            is nothing left for. By default the batch's method `split`.

    >>> import numpy as np
    >>> import tinygrad_lstm as tg
    >>> model = tg.nn.Linear(2, 1)
    >>> def loss(model, batch, carry):
    ...     x, y = batch
    ...     return tg.mse_loss(model(x), y), None
    >>> x = tg.randn(8, 2)
    >>> trainer = tg.train.Trainer(model, loss, tg.optim.Adam(model.parameters(), lr=0.1))
    >>> summary = trainer.fit([(x, x.sum(1, keepdim=True))], epochs=200)
    >>> summary.step, trainer.evaluate([(x, x.sum(1, keepdim=True))])["loss"] < 1e-3
    (200, True)
    """

    def __init__(
        self,
        model: M,
        loss: Loss,
        optimizer: Optimizer,
        schedule: LRScheduler | ReduceLROnPlateau | None = None,
        metrics: Mapping[str, Metric] | None = None,
        callbacks: Sequence[Any] = (),
        out: str | Path | RunFolder | None = None,
        clip: float | None = None,
        seed: int | None = 0,
        accumulate: int = 1,
        average: float | None = None,
        about: Mapping[str, Any] | None = None,
        communicator: Communicator | None = None,
        micro_batches: int = 1,
        split: Split | None = None,
        shard_optimizer: bool = False,
    ) -> None:
        if accumulate < 1:
            raise ValueError(f"Trainer: expected accumulate to be at least 1, got {accumulate}")
        if clip is not None and not 0 < clip < math.inf:
            raise ValueError(f"Trainer: expected clip to be above 0 and finite, or None, got {clip}")
        if "loss" in (metrics or {}):
            raise ValueError("Trainer: a metric is called 'loss'; choose a different name")
        if schedule is not None and schedule.optimizer is not optimizer:
            raise ValueError("Trainer: the schedule is of a different optimizer; expected one of `optimizer`")
        for callback in callbacks:
            check_callback(callback)
        self.model = model
        self.loss = loss
        self.optimizer = optimizer
        self.schedule = schedule
        self.metrics = dict(metrics or {})
        self.callbacks = list(callbacks)
        self.folder = out if out is None or isinstance(out, RunFolder) else RunFolder(out)
        self.clip = clip
        self.accumulate, self.average = accumulate, average
        self.averaged = None if average is None else AveragedModel(cast(Any, model), avg_fn=get_ema_avg_fn(average))
        self.about = dict(about or {})
        alone = LocalCommunicator()
        self._group = Workers(communicator or alone)
        self._shards = OptimizerShards(optimizer, communicator or alone if shard_optimizer else alone)
        self._parts = MicroBatches(micro_batches, communicator, split)
        self._files = RunFiles(self.folder, self.is_first)
        self.step = 0
        """Steps of the optimizer so far."""
        self.epoch = 0
        """Whole epochs so far."""
        self.batch = 0
        """Batches of the present epoch so far."""
        self.best: float | None = None
        """The lowest validation loss so far."""
        self.validation: dict[str, float] = {}
        """The values of the last validation; empty before the first one, also after a checkpoint is restored."""
        self.due = False
        """Whether a validation was due but has not ended: the next call of `fit` begins with it."""
        self.unit = ""  # of the loss, for plots
        self._seed = seed
        self.seconds = 0.0
        """The time that the run has taken."""
        self._recent = Recent()
        self._carry: Any = None
        self._best_weights: dict[str, Any] = {}
        self._saved: int | None = None

    # -- training ------------------------------------------------------------------------------------------------------

    def fit(
        self,
        batches: Iterable[Any],
        validation: Iterable[Any] | None = None,
        epochs: int | None = None,
        steps: int | None = None,
        minutes: float | None = None,
        resume: bool = False,
        validate_every: int | None = None,
        log_every: int = 20,
    ) -> Summary:
        """Trains until one of the limits is reached or `stop` is called. Called again, it goes on.

        The limits are totals of the run, from its first step.

        Args:
            batches: an iterable of batches, begun anew in each epoch. If it has a method `epoch(number, start)`, that
                returns the batches of an epoch from a position on; so the order can depend on the epoch.
            validation: batches to validate with, after which a checkpoint is saved.
            epochs, steps, minutes: the limits; at least one is needed.
            resume: continue from the last checkpoint in the folder. A run that has reached its end stays as it is.
            validate_every: steps between validations; by default the end of each epoch.
            log_every: steps between reports.

        Raises:
            FloatingPointError: the loss or a weight is not finite; earlier checkpoints are unchanged.
            OSError: a file cannot be written, or a different trainer is writing to the folder.
            ValueError: there is no limit, or an epoch without a batch; `validation` is empty or an iterator, or missing
                although the schedule needs it; or the checkpoint is of a different run.
        """
        if epochs is None and steps is None and minutes is None:
            raise ValueError("Trainer.fit: no limit was given; expected epochs, steps or minutes")
        for name, value in (("validate_every", validate_every), ("log_every", log_every)):
            if value is not None and value < 1:
                raise ValueError(f"Trainer.fit: expected {name} to be at least 1, got {value}")
        check_validation(validation)
        if validation is None and isinstance(self.schedule, ReduceLROnPlateau):
            raise ValueError(
                "Trainer.fit: the schedule is a ReduceLROnPlateau; expected `validation`, which it follows"
            )
        # A loss that is not finite raises an error, which says more than NumPy's warnings.
        with self._group.failing_together(), np.errstate(over="ignore", invalid="ignore"):
            if resume:
                self._resume()
            elif self._seed is not None and not self.step:
                manual_seed(self._seed)
            limits, lr = Limits(epochs, steps, minutes), self.optimizer.param_groups[0]["lr"]
            numbers = {"batches": number_of(batches), "validation": (validation is not None, number_of(validation))}
            self._group.begin(self, limits=limits, validate_every=validate_every, log_every=log_every, **numbers)
            stopwatch = Stopwatch(self.step, self.seconds)
            call = Call(batches, validation, limits, validate_every, log_every, stopwatch, lr)
            with self._files.locked():
                if self._saved is None and not self.step:
                    self._files.begin()
                try:
                    return self._run(call)
                except FloatingPointError:
                    self._recent = Recent()
                    raise
                finally:
                    self._group.forget()

    def _run(self, call: Call) -> Summary:
        self._tell("on_start")
        self.due = self.due and call.validation is not None
        if self.due and not self._stopped():
            self._report(call, validating=True)
        while not (self._stopped() or self._ends(call)):
            self._take_step(call)
        if self._stopped():
            self._save()
        finished = self._ends(call) and not self.due
        self.seconds = self._group.agree(call.stopwatch.seconds())
        summary = Summary(
            step=self.step,
            epoch=call.epochs(self),
            finished=finished,
            seconds=call.stopwatch.taken(),
            best=self.best,
            validation=self.validation,
            plot=self._files.plot(self.unit),
        )
        self._tell("on_end", summary)
        return summary

    def _ends(self, call: Call) -> bool:
        return self._group.finishing or call.limits.reached(self)

    def _take_step(self, call: Call) -> None:
        """Trains on the next batches, and reports if this is due."""
        tick = time.perf_counter()
        group = call.next_group(self)
        if call.number is None:
            self._group.check_same_end(bool(group))
        call.lr = self.optimizer.param_groups[0]["lr"]
        if group:
            self._group.saw(group, self.step)
            self._recent.add(self._train_on(group), sum(map(weight_of, group)))
        ended = not group or (call.number is not None and self.batch >= call.number)
        if ended:
            self.epoch, self.batch, self._carry = self.epoch + 1, 0, None
            call.begin_epoch()
        self._recent.seconds += time.perf_counter() - tick
        self.seconds = self._group.agree(call.stopwatch.seconds())
        validating = ended if call.validate_every is None else bool(group) and self.step % call.validate_every == 0
        self.due = call.validation is not None and (validating or self._ends(call))
        if group:
            self._tell("on_step")
        validating = validating or self._ends(call)
        if validating or self._stopped() or (group and self.step % call.log_every == 0):
            self._report(call, validating)
            if not validating and self._ends(call):  # a callback of the report has ended the run
                self._report(call, validating=True)

    def _report(self, call: Call, validating: bool) -> None:
        """Reports the steps since the last report, and validates and saves if this is due."""
        recent, tick = self._recent, time.perf_counter()
        loss = self._finite(recent.mean_loss(self._parts.everywhere))
        recent.seconds += time.perf_counter() - tick  # the device may finish the steps only now
        values: dict[str, float] = {}
        if validating and call.validation is not None:
            self.due = True
            values = self._validate(call.validation)
            if not values:
                return  # stopped: the validation stays due
            self.seconds = self._group.agree(call.stopwatch.seconds())
        progress = Progress(
            step=self.step,
            epoch=call.epochs(self),
            loss=loss,
            lr=call.lr,
            per_second=recent.per_second(),
            validation=values,
            seconds_left=call.limits.seconds_left(self, call.stopwatch, call.number),
        )
        recent.begin_anew()
        self._files.write(json.dumps(progress.values()) + "\n")
        if validating:
            states = [*self._stateful_callbacks(), *([] if self.schedule is None else [self.schedule])]
            with undone_by_errors(self, ("best", "due", "_best_weights"), states, self.optimizer.param_groups):
                self._follow(progress)
        self._tell("on_report", progress)

    def _follow(self, progress: Progress) -> None:
        """What follows a validation, or takes its place if there is none: callbacks, the schedule, a checkpoint."""
        loss = progress.validation_loss
        if loss is not None:
            self._tell("on_validation", progress)
            if isinstance(self.schedule, ReduceLROnPlateau):
                self.schedule.step(loss)
        self.due = False
        self._save(loss)

    def _train_on(self, group: Sequence[Any]) -> list[Tensor | None]:
        """A step of the optimizer, by the mean gradient of some batches. Returns the parts of their mean loss."""
        self.optimizer.zero_grad()
        losses, carry = self._parts.gradients(self.model, self.loss, group, self._carry, self._parameters())
        if self.clip is not None:
            clip_grad_norm_(self.model.parameters(), self.clip)
        self._shards.step()
        if isinstance(self.schedule, LRScheduler):
            self.schedule.step()
        # Only now, so that after an error in the step a checkpoint would be consistent.
        self._carry, self.step, self.batch = carry, self.step + 1, self.batch + len(group)
        if self.averaged is not None:
            self.averaged.update_parameters(cast(Any, self.model))
        return losses

    def _parameters(self) -> list[Tensor]:
        """The parameters of the model and of the optimizer, each once."""
        trained = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        return list({id(each): each for each in (*self.model.parameters(), *trained)}.values())

    def _finite(self, value: float, name: str = "loss") -> float:
        if not math.isfinite(value):
            lr = max(group["initial_lr" if "initial_lr" in group else "lr"] for group in self.optimizer.param_groups)
            raise FloatingPointError(
                f"the {name} is {value} at step {self.step}: training diverged; try a smaller lr than {lr}"
            )
        return value

    def _validate(self, batches: Iterable[Any]) -> dict[str, float]:
        """The values of a validation; empty if the run was stopped before its end."""

        def raise_if_stopped() -> None:
            if self._group.stops_at_once:
                raise _StoppedError

        try:
            values = self._parts.mean_values(self._evaluated(), self.loss, batches, self.metrics, raise_if_stopped)
        except _StoppedError:
            return {}
        self._finite(values["loss"])
        self.validation = values
        return values

    def _save(self, validation_loss: float | None = None) -> None:
        # The last step may have spoilt the weights, after a loss that was finite.
        self._finite(largest_weight(self._parameters()), "largest weight")
        better = validation_loss is not None and (self.best is None or validation_loss < self.best)
        if better:
            self.best = validation_loss
        if self.folder is None:
            if better:
                self._best_weights = {name: array.copy() for name, array in self._evaluated().state_dict().items()}
            return
        checkpoint = best = self.checkpoint()
        if self.averaged is not None:
            best = replace(checkpoint, weights=dict(self._evaluated().state_dict()), average={})
        self._files.save(checkpoint, best if better else None)
        self._saved = checkpoint.step

    def load_best(self) -> None:
        """Loads the weights with the lowest validation loss into the model, and into their average if there is one.

        Raises:
            ValueError: nothing was validated.
        """
        if self.best is None or (self.folder is None and not self._best_weights):
            raise ValueError("Trainer.load_best: nothing was validated yet; expected a `fit` with `validation`")
        self._group.wait_for_all()  # the first worker may still be writing
        best = self._best_weights if self.folder is None else Checkpoint.load(self.folder.best).weights
        self.model.load_state_dict(best)
        if self.averaged is not None:
            self.averaged.module.load_state_dict(best)

    def _resume(self) -> None:
        if self.folder is None:
            raise ValueError("Trainer.fit: resume=True needs a folder; expected `out` to be given to the trainer")
        with self._files.completed():
            self._group.wait_for_all()
            checkpoint = Checkpoint.load(self.folder.last)
            with checkpoint.blamed("of a different run, or invalid"):
                self.restore(checkpoint)
            self._files.rewind(checkpoint.step)

    @property
    def is_first(self) -> bool:
        """Whether this is the first worker, which writes files and shows progress."""
        return self._group.is_first

    def stop(self) -> None:
        """Lets `fit` save and return after its present step. A validation is cancelled.

        If called before `fit`, that call stops at once, and the one after it continues. Signal handlers may call it.
        """
        self._group.stop_asked = True

    def _stopped(self) -> bool:
        return self._group.stopping

    def finish(self) -> None:
        """Ends `fit` after its present step, as if a limit was reached. Callbacks may call it."""
        self._group.finish_asked = True

    def evaluate(self, batches: Iterable[Any]) -> dict[str, float]:
        """The mean loss and metrics over batches, by name, weighted by `weight_of`.

        Raises:
            ValueError: there is no batch.
        """
        return self._parts.mean_values(self._evaluated(), self.loss, batches, self.metrics)

    def _evaluated(self) -> Any:
        """What is validated: the averaged model, if there is one."""
        return self.averaged.module if self.averaged is not None and self.step else self.model

    def _tell(self, event: str, *arguments: Any) -> None:
        told = [method for callback in self.callbacks if (method := getattr(callback, event, None)) is not None]
        for method in told:
            method(self, *arguments)
        if told:
            self.seconds = self._group.agree(self.seconds)  # they may have asked to stop

    def _stateful_callbacks(self) -> list[Any]:
        return [callback for callback in self.callbacks if hasattr(callback, "state_dict")]

    # -- checkpoints ---------------------------------------------------------------------------------------------------

    @property
    def saved(self) -> int | None:
        """The step of the checkpoint in the folder; None until this run has saved one."""
        return self._saved

    def checkpoint(self) -> Checkpoint:
        """The present state of the run."""
        return Checkpoint(
            about=self.about,
            step=self.step,
            epoch=self.epoch,
            batch=self.batch,
            seconds=self.seconds,
            best=self.best,
            loss=self._recent.last,
            due=self.due,
            random_state=random_state(),
            weights=dict(self.model.state_dict()),
            average={} if self.averaged is None else dict(self.averaged.state_dict()),
            optimizer=self._shards.state_dict(),
            schedule={} if self.schedule is None else {type(self.schedule).__name__: self.schedule.state_dict()},
            micro_batches=self._parts.number,
            carry=self._parts.all_carried(self._carry),
            callbacks=[[type(each).__name__, each.state_dict()] for each in self._stateful_callbacks()],
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continues from a checkpoint of a run with the same model, optimizer, schedule and callbacks.

        Raises:
            ValueError: the checkpoint is of a different run. Nothing is changed then.
        """
        if checkpoint.micro_batches != self._parts.number:
            raise ValueError(
                f"the run has micro_batches={checkpoint.micro_batches}, the trainer micro_batches={self._parts.number}"
            )
        stateful = self._stateful_callbacks()
        for what, mine, given in (
            ("this schedule", [] if self.schedule is None else [type(self.schedule).__name__], [*checkpoint.schedule]),
            ("an average of its weights", self.averaged is not None, bool(checkpoint.average)),
            ("these callbacks", [type(each).__name__ for each in stateful], [name for name, _ in checkpoint.callbacks]),
        ):
            if mine != given:
                raise ValueError(f"the run and the trainer differ in whether they have {what}")
        states = [
            (self.model, checkpoint.weights),
            (self.optimizer, self._shards.part_of(checkpoint.optimizer)),
            *([] if self.schedule is None else [(self.schedule, state) for state in checkpoint.schedule.values()]),
            *([] if self.averaged is None else [(self.averaged, checkpoint.average)]),
            *[(callback, state) for callback, (_, state) in zip(stateful, checkpoint.callbacks, strict=True)],
        ]
        own_groups = self.optimizer.state_dict()["param_groups"]
        with undone_by_errors(self, ("_carry",), [each for each, _ in states], self.optimizer.param_groups):
            for each, state in states:
                each.load_state_dict(state)
            if _without_rates(self.optimizer.state_dict()["param_groups"]) != _without_rates(own_groups):
                raise ValueError("the optimizer's settings are not those of the run")
            self._carry = self._parts.restored_carry(checkpoint.carry, device_of(self.model))
            set_random_state(checkpoint.random_state)
        self.step, self.epoch, self.batch = checkpoint.step, checkpoint.epoch, checkpoint.batch
        self.best, self.seconds, self._saved = checkpoint.best, checkpoint.seconds, checkpoint.step
        self.due, self._recent, self.validation = checkpoint.due, Recent(checkpoint.loss), {}


def _without_rates(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in group.items() if name not in ("lr", "initial_lr")} for group in groups]


class _StoppedError(Exception):
    """Ends a validation when the run is stopped."""
