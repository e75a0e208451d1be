"""An experiment: the gradient flow of several networks, before and after training on a long-time-lag task."""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .. import ops
from .._tensor import Tensor, tensor
from ..data.long_lag import LongLagBatch, adding, distant_symbol, noisy_signal
from ..mode import no_grad
from ..nn import Module
from ..optim import Adam, clip_grad_norm_
from ..random import manual_seed, random_state, restored_random_state
from .flow import GradientFlow, gradient_flow, median_flow
from .tables import aligned

__all__ = ["TASKS", "LongLagTask", "NetworkFlow", "compare_flow", "flow_csv", "flow_table"]

_TESTED = 512  # the number of test sequences for a trained network


@dataclass(frozen=True)
class LongLagTask:
    """A task of `tinygrad_lstm.data`, and which outputs are correct.

    Attributes:
        draw: draws a batch from a generator, the lag (about the minimum length) and the number of sequences.
        outputs: O, the number of outputs: one, or a score for each of two classes.
        tolerance: an output, or a class's probability, is correct if its error is smaller than this.
    """

    draw: Callable[[np.random.Generator, int, int], LongLagBatch]
    outputs: int
    tolerance: float

    def loss(self, answers: Tensor, targets: Tensor) -> Tensor:
        """The mean squared error for one output (B, 1), the mean cross entropy for scores (B, 2)."""
        return ops.mse_loss(answers, targets) if self.outputs == 1 else ops.cross_entropy(answers, targets)

    def share_right(self, answers: Tensor, targets: Tensor) -> float:
        """The share of correct answers."""
        if self.outputs == 1:
            errors = (answers - targets).abs()
        else:
            errors = 1 - ops.softmax(answers, dim=1).gather(1, targets.unsqueeze(1))
        return float((errors.cpu().numpy() < self.tolerance).mean())


TASKS: Mapping[str, LongLagTask] = {
    "adding": LongLagTask(adding, outputs=1, tolerance=0.04),
    "signal": LongLagTask(noisy_signal, outputs=2, tolerance=0.2),
    "symbol": LongLagTask(distant_symbol, outputs=2, tolerance=0.2),
}
"""The tasks by name, with the tolerances of Hochreiter & Schmidhuber 1997."""


@dataclass(frozen=True, eq=False)
class NetworkFlow:
    """The measurements of a network, one for each seed.

    Attributes:
        label: the network's name.
        seeds: the seeds with which it was made and trained.
        untrained, trained: the gradient flow before and after training.
        right: the share of test sequences that the trained network answers correctly.
    """

    label: str
    seeds: tuple[int, ...]
    untrained: tuple[GradientFlow, ...]
    trained: tuple[GradientFlow, ...]
    right: tuple[float, ...]

    @property
    def learnt(self) -> int:
        """The number of seeds that learnt the task: at least 99 of 100 answers are correct."""
        return sum(share >= 0.99 for share in self.right)


def compare_flow(
    makers: Mapping[str, Callable[[int, int], Module]],
    task: LongLagTask,
    lag: int,
    *,
    steps: int = 400,
    batch: int = 32,
    lr: float = 5e-3,
    clip: float = 1.0,
    seeds: Sequence[int] = (0, 1, 2),
) -> Iterator[NetworkFlow]:
    """Measures networks one by one, each before and after training with Adam.

    The training sequences of a seed are the same for all networks. The sequences for measurements and tests are the
    same for all seeds too. The measured gradient is that of the task's loss. The state of the library's random
    generator is unchanged afterwards.

    Args:
        makers: for each label a function of the input size and the output size that makes a network: a module that,
            called as `model(x, lengths=lengths)`, returns answers (B, O), such as `tinygrad_lstm.models.ManyToOne`.
        task: the task to learn.
        lag: the time lag of the task, in steps.
        steps: training steps, each on a new batch.
        batch: the number of sequences in a training batch, and of measured sequences.
        lr: the learning rate.
        clip: the norm to which gradients are clipped.
        seeds: weights and training sequences are drawn once for each.

    Raises:
        ValueError: the lag or the batch is too small for the task; `seeds` is empty; `steps` is negative.

    >>> from tinygrad_lstm.models import LSTM, ManyToOne
    >>> makers = {"LSTM": lambda inputs, outputs: ManyToOne(LSTM(inputs, 8), outputs)}
    >>> (lstm,) = compare_flow(makers, TASKS["signal"], lag=5, steps=40, lr=0.02, seeds=[0])
    >>> lstm.right, lstm.learnt
    ((1.0,), 1)
    """
    if not seeds:
        raise ValueError("compare_flow: expected at least one seed, got none")
    if steps < 0:
        raise ValueError(f"compare_flow: expected steps to be at least 0, got {steps}")
    measured = task.draw(np.random.default_rng(seeds[0]), lag, batch)
    test = task.draw(np.random.default_rng(seeds[0] + 1), lag, _TESTED)

    def measure(label: str, make: Callable[[int, int], Module]) -> NetworkFlow:
        untrained, trained, right = [], [], []
        for seed in seeds:
            with restored_random_state(random_state()):
                manual_seed(seed)
                model = make(measured.x.shape[2], task.outputs)
            rng = np.random.default_rng([seed, 1])
            untrained.append(_flow(model, task, measured))
            _train(model, task, (task.draw(rng, lag, batch) for _ in range(steps)), lr, clip)
            trained.append(_flow(model, task, measured))
            right.append(_share_right(model, task, test))
        return NetworkFlow(label, tuple(seeds), tuple(untrained), tuple(trained), tuple(right))

    return (measure(label, make) for label, make in makers.items())


def _on_device_of(model: Module, drawn: LongLagBatch) -> tuple[Tensor, Tensor]:
    device = next(model.parameters()).device
    return tensor(drawn.x, device=device), tensor(drawn.targets, device=device)


def _flow(model: Module, task: LongLagTask, drawn: LongLagBatch) -> GradientFlow:
    x, targets = _on_device_of(model, drawn)
    with model.evaluating():
        return gradient_flow(model, x, lambda answers: task.loss(answers, targets), lengths=drawn.lengths)


def _train(model: Module, task: LongLagTask, batches: Iterable[LongLagBatch], lr: float, clip: float) -> None:
    optimizer = Adam(model.parameters(), lr=lr)
    for drawn in batches:
        x, targets = _on_device_of(model, drawn)
        loss = task.loss(model(x, lengths=drawn.lengths), targets)
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(model.parameters(), clip)
        optimizer.step()


def _share_right(model: Module, task: LongLagTask, test: LongLagBatch) -> float:
    x, targets = _on_device_of(model, test)
    with model.evaluating(), no_grad():
        return task.share_right(model(x, lengths=test.lengths), targets)


def flow_table(results: Sequence[NetworkFlow], distances: Sequence[int]) -> str:
    """A table of the medians over the seeds: decay rates, half-lives, and relative norms at distances.

    Relative norms are divided by the norm at the last step. Each network and state has two lines: before and after
    training.
    """
    header = ["network", "state", "trained", "rate", "half-life", "fit", *(f"at {d}" for d in distances), "learnt"]
    rows = []
    for result in results:
        for trained, flows in enumerate((result.untrained, result.trained)):
            for curve in median_flow(flows):
                there = [curve.norms[d] / curve.norms[0] if d < len(curve.norms) else np.nan for d in distances]
                rows.append(
                    [
                        result.label,
                        curve.state,
                        "yes" if trained else "no",
                        *curve.decay.columns,
                        *(f"{share:.1e}" for share in there),
                        f"{result.learnt} of {len(result.seeds)}" if trained else "",
                    ]
                )
    return aligned([header, *rows], left=3)


def flow_csv(results: Sequence[NetworkFlow]) -> str:
    """Every norm of every seed, as CSV: network, seed, trained (0 or 1), layer, state, distance, norm."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["network", "seed", "trained", "layer", "state", "distance", "norm"])
    for result in results:
        for trained, flows in enumerate((result.untrained, result.trained)):
            for seed, flow in zip(result.seeds, flows, strict=True):
                for curve in flow:
                    for distance, norm in enumerate(curve.norms.tolist()):
                        writer.writerow([result.label, seed, trained, curve.layer, curve.state, distance, norm])
    return text.getvalue()
