"""An optimizer whose state is spread over workers gives the same bits, and the same files, as one that is not."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from thread_workers import ThreadCommunicator, together

import tinygrad_lstm as tg
from tinygrad_lstm.train.checkpoint import Checkpoint

OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "SGD": lambda groups: tg.optim.SGD(groups, lr=0.1, momentum=0.9),
    "plain SGD": lambda groups: tg.optim.SGD(groups, lr=0.1),
    "AdamW": lambda groups: tg.optim.AdamW(groups, lr=0.01, amsgrad=True),
    "NAdam": lambda groups: tg.optim.NAdam(groups, lr=0.01),
    "RAdam": lambda groups: tg.optim.RAdam(groups, lr=0.01),
    "RMSprop": lambda groups: tg.optim.RMSprop(groups, lr=0.01, centered=True),
    "Adagrad": lambda groups: tg.optim.Adagrad(groups, lr=0.1),
}


def made(name: str, communicator: Any, shard: bool, out: Path | None = None) -> tg.train.Trainer[Any]:
    """A trainer with all that may meet an optimizer: groups, a schedule, clipping, averages, dtypes."""
    model = tg.nn.Sequential(tg.nn.Linear(3, 5), tg.nn.Tanh(), tg.nn.Linear(5, 4), tg.nn.Tanh(), tg.nn.Linear(4, 1))
    model[2].to(dtype="float64")
    model[4].weight = model[4].weight.requires_grad_(False)  # it has no gradient, and no state

    def loss(model: Any, batch: Any, carry: Any) -> tuple[tg.Tensor, None]:
        x, y = (tg.tensor(part) for part in batch)
        hidden = model[1](model[0](x)).to(dtype="float64")
        return tg.mse_loss(model[4](model[3](model[2](hidden)).to(dtype="float32")), y), None

    groups = [
        {"params": model[0].parameters(), "lr": 0.02},
        {"params": [*model[2].parameters(), *model[4].parameters()]},
    ]
    optimizer = OPTIMIZERS[name](groups)
    return tg.train.Trainer(
        model,
        loss,
        optimizer,
        schedule=tg.optim.lr_scheduler.StepLR(optimizer, 2, 0.5),
        clip=0.1,
        average=0.9,
        out=out,
        communicator=communicator,
        micro_batches=6,
        split=tg.data.split_rows,
        shard_optimizer=shard,
    )


def batches() -> list[tuple[Any, Any]]:
    rng = np.random.default_rng(1)
    return [(rng.normal(size=(12, 3)).astype("f4"), rng.normal(size=(12, 1)).astype("f4")) for _ in range(2)]


def shown(value: Any) -> Any:
    """What can be compared: bytes in place of arrays."""
    if isinstance(value, dict):
        return [(name, shown(part)) for name, part in value.items()]
    return (str(value.dtype), value.shape, value.tobytes()) if isinstance(value, np.ndarray) else value


def parts(checkpoint: Checkpoint) -> list[Any]:
    checkpoint = replace(checkpoint, seconds=0.0)
    return [
        shown(getattr(checkpoint, name)) for name in ("weights", "average", "optimizer", "schedule", "step", "carry")
    ]


@pytest.mark.parametrize("device", ["cpu", "strict"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_same_bits(name: str, device: str) -> None:
    def work(communicator: ThreadCommunicator, shard: bool) -> tuple[list[Any], set[int]]:
        with tg.default_device(device):
            trainer = made(name, communicator, shard)
            trainer.fit(batches(), steps=5)
            checkpoint = trainer.checkpoint()
            tensors = [p for group in trainer.optimizer.param_groups for p in group["params"]]
            found = parts(checkpoint)
            return found, {k for k, p in enumerate(tensors) if p in trainer.optimizer.state}

    ((alone, whole),) = together(1, lambda communicator: work(communicator, False))
    for workers in (2, 3):
        found = together(workers, lambda communicator: work(communicator, True))
        assert found[0][0] == alone
        assert all(each[:2] == alone[:2] for each, _ in found)  # the weights and their averages
        owned = [numbers for _, numbers in found]
        assert sorted(number for numbers in owned for number in numbers) == sorted(whole)  # each on one worker
        assert not whole or all(owned)


@pytest.mark.parametrize("order", [((3, True), (2, False), (1, True)), ((1, False), (4, True), (2, True))])
def test_a_run_continues_with_other_workers(order: Any, tmp_path: Path) -> None:
    def run(workers: int, shard: bool, steps: int, out: Path, resume: bool) -> None:
        def work(communicator: ThreadCommunicator) -> None:
            made("AdamW", communicator, shard, out).fit(batches(), steps=steps, resume=resume)

        together(workers, work)

    run(1, False, 9, tmp_path / "whole", resume=False)
    for k, (workers, shard) in enumerate(order):
        run(workers, shard, 3 * (k + 1), tmp_path / "parts", resume=k > 0)
    whole, continued = (Checkpoint.load(tmp_path / name / "last.safetensors") for name in ("whole", "parts"))
    assert parts(continued) == parts(whole)


def test_a_state_from_before_is_spread() -> None:
    """The trainer is given an optimizer that has made steps, with the whole state on each worker."""

    def work(communicator: ThreadCommunicator) -> tuple[list[Any], int]:
        trainer = made("AdamW", communicator, shard=True)
        for group in trainer.optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = tg.ones(parameter.shape, dtype=parameter.dtype)
        trainer.optimizer.step()
        trainer.fit(batches(), steps=2)
        return parts(trainer.checkpoint()), sum(parameter.size for parameter in trainer.optimizer.state)

    ((alone, size),) = together(1, work)
    (first, some), (_, rest) = together(2, work)
    assert first == alone
    assert some + rest == size and max(some, rest) < 0.7 * size


def test_lbfgs_is_refused() -> None:
    def work(communicator: ThreadCommunicator) -> None:
        model = tg.nn.Linear(1, 1)
        with pytest.raises(TypeError, match=r"LBFGS has one state.*expected an ElementwiseOptimizer"):
            tg.train.Trainer(
                model,
                lambda model, batch, carry: (model(batch).mean(), None),
                tg.optim.LBFGS(model.parameters()),
                communicator=communicator,
                micro_batches=2,
                shard_optimizer=True,
            )

    together(2, work)
