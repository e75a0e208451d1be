"""A training gives the same bits for any number of workers, and after it is continued with a different number."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from shared_runs import MICRO_BATCHES, PROBLEMS, trained
from thread_workers import ThreadCommunicator, together

import tinygrad_lstm as tg
from tinygrad_lstm.models import CharLM

ROOT = Path(__file__).parents[2]
STEPS = 12


@pytest.fixture(scope="module", params=PROBLEMS)
def problem(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=["cpu", "strict"])
def run(problem: str, request: pytest.FixtureRequest) -> Callable[[ThreadCommunicator], str]:
    """A function that trains on a device and returns the digest."""

    def run(communicator: ThreadCommunicator) -> str:
        with tg.default_device(request.param):
            return trained(problem, communicator, STEPS)

    return run


@pytest.fixture(scope="module")
def alone(run: Callable[[ThreadCommunicator], str]) -> str:
    """The digest of a process without other workers."""
    return together(1, run)[0]


@pytest.mark.parametrize("workers", [2, 3, 4, 8])
def test_threads(run: Callable[[ThreadCommunicator], str], alone: str, workers: int) -> None:
    assert together(workers, run) == [alone] * workers


def test_another_number_of_micro_batches_gives_almost_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The micro-batches have the weights of their parts of the batch."""

    def losses(number: int) -> tuple[list[float], list[float]]:
        model, loss, batches, validation, _ = PROBLEMS["characters"]()
        for dropout in [model.dropout, model.lstm]:
            dropout.p = dropout.dropout = 0.0
        optimizer = tg.optim.SGD(model.parameters(), lr=0.1)
        trainer = tg.train.Trainer(model, loss, optimizer, micro_batches=number)
        summary = trainer.fit(batches, validation, steps=10)
        return [array.sum() for array in model.state_dict().values()], [summary.validation["loss"]]

    tg.manual_seed(3)
    whole = losses(1)
    for number in (2, 5, 7, 9):
        tg.manual_seed(3)
        for expected, found in zip(whole, losses(number), strict=True):
            np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-5)


def mpi(workers: int, problem: str, steps: int, out: Path) -> list[str]:
    """The digests of workers that mpiexec starts, which continue the run in a folder if there is one."""
    mpiexec = Path(sys.executable).with_name("mpiexec")
    if not mpiexec.exists():
        pytest.skip("there is no mpiexec beside Python: pip install '.[mpi]'")
    command = [mpiexec, "-n", str(workers), sys.executable, ROOT / "tests" / "shared_runs.py", problem, str(steps), out]
    subprocess.run([*map(str, command)], check=True, timeout=120, env={**os.environ, "OMP_NUM_THREADS": "1"})
    found = [json.loads((out / f"{rank}.json").read_text()) for rank in range(workers)]
    assert [each[:2] for each in found] == [[rank, workers] for rank in range(workers)]
    return [each[2] for each in found]


def test_mpi(problem: str, tmp_path: Path) -> None:
    """Workers of MPI, of different numbers, and one that continues with a different number."""
    digests = set()
    for workers in (1, 3):  # 2 and 4 continue below
        (tmp_path / str(workers)).mkdir()
        digests.update(mpi(workers, problem, STEPS, tmp_path / str(workers)))
    for before, after in ((3, 2), (1, 4)):
        out = tmp_path / f"{before}-{after}"
        out.mkdir()
        mpi(before, problem, 7, out)
        shutil.copytree(out / "run", out / "earlier")
        digests.update(mpi(after, problem, STEPS, out))
    assert len(digests) == 1


def test_an_error_of_one_worker_ends_all() -> None:
    def work(communicator: ThreadCommunicator) -> str:
        model, loss, batches, _, _ = PROBLEMS["characters"]()

        def failing(*arguments: object) -> object:
            if communicator.rank == 1:
                raise MemoryError("no memory left")
            return loss(*arguments)

        trainer = tg.train.Trainer(
            model,
            failing,  # type: ignore[arg-type]
            tg.optim.SGD(model.parameters()),
            communicator=communicator,
            micro_batches=MICRO_BATCHES,
        )
        with pytest.raises((tg.distributed.WorkerError, MemoryError)) as error:
            trainer.fit(batches, steps=3)
        return str(error.value)

    first, second, third = together(3, work)
    assert second == "no memory left"
    assert first == third == "worker 1: MemoryError: no memory left"


def test_workers_that_differ_are_named() -> None:
    def work(communicator: ThreadCommunicator) -> str:
        model = tg.nn.Linear(2, 1)
        trainer = tg.train.Trainer(
            model,
            lambda model, batch, carry: (model(batch).mean(), None),
            tg.optim.SGD(model.parameters(), lr=0.1 + 0.1 * (communicator.rank == 2)),
            communicator=communicator,
            micro_batches=4,
        )
        differ = "workers 0 and 2 must have the same optimizer"
        with pytest.raises((ValueError, tg.distributed.WorkerError), match=differ):  # one may have told the others
            trainer.fit([tg.ones(8, 2)], steps=3)
        return "refused"

    assert together(3, work) == ["refused"] * 3


def test_processors_that_round_differently_are_named() -> None:
    def work(communicator: ThreadCommunicator) -> None:
        trainer = tg.train.Trainer(
            model := tg.nn.Linear(2, 1),
            lambda model, batch, carry: (model(batch).mean(), None),
            tg.optim.SGD(model.parameters()),
            communicator=communicator,
            micro_batches=2,
        )
        with pytest.raises((ValueError, tg.distributed.WorkerError), match="workers 0 and 1 must have the same BLAS"):
            trainer.fit([tg.ones(8, 2)], steps=1)

    with mock.patch("tinygrad_lstm.train.workers.blas_kernels", side_effect=["Haswell", "SkylakeX"]):
        together(2, work)


def test_options_and_batches_that_differ_are_named() -> None:
    def work(communicator: ThreadCommunicator, rate: float, rows: int) -> str:
        odd = communicator.rank == 1
        model = tg.nn.Linear(2, 1)
        trainer = tg.train.Trainer(
            model,
            lambda model, batch, carry: (model(batch).mean(), None),
            tg.optim.SGD(model.parameters()),
            about={"options": {"rate": rate if odd else 0.1, "size": 3}},
            communicator=communicator,
            micro_batches=4,
            split=lambda batch, number: list(tg.chunk(batch, number)),
        )
        with pytest.raises((ValueError, tg.distributed.WorkerError)) as error:
            trainer.fit([tg.ones(8, 2), tg.ones(rows if odd else 8, 2)], steps=3)
        return re.sub(r"^worker \d: ValueError: ", "", str(error.value))  # one may have told the others

    assert set(together(3, lambda communicator: work(communicator, 1.1, 8))) == {
        "Trainer.fit: workers 0 and 1 must have the same options: rate, but have options: rate: 0.1 and 1.1"
    }
    assert set(together(3, lambda communicator: work(communicator, 0.1, 4))) == {
        "Trainer.fit: workers 0 and 1 have different batches for step 2; expected the same data in the same order"
    }


class Draws:
    """A callback that uses up random numbers on some workers only."""

    def __init__(self, number: int) -> None:
        self.number = number

    def on_step(self, trainer: object) -> None:
        tg.randn(self.number)


class Unsized:
    """Batches of which the number is not known."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __iter__(self) -> Iterator[tg.Tensor]:
        return iter([tg.ones(8, 2)] * self.number)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("callbacks", ([], [Draws(1)]), r"the same callbacks, but have callbacks: \[\] and \['Draws'\]"),
        ("callbacks", ([Draws(1)], [Draws(2)]), "workers 0 and 1 have different random numbers for step 2"),
        ("metrics", ({}, {"zero": lambda outputs, batch: 0.0}), "the same metrics"),
        ("out", (None, "run"), "the same out, but have out: None and a folder"),
        ("average", (0.5, 0.6), "the same clip, accumulate and average"),
        ("steps", (3, 4), "the same limits"),
        ("log_every", (1, 2), "the same log_every, but have log_every: 1 and 2"),
        ("validate_every", (None, 2), "the same validate_every"),
        ("batches", ([tg.ones(8, 2)] * 3, [tg.ones(8, 2)] * 2), "the same batches, but have batches: 3 and 2"),
        ("batches", (Unsized(3), Unsized(2)), "different numbers of batches in an epoch"),
        ("validation", (None, [tg.ones(8, 2)]), "the same validation"),
        ("validation", ([tg.ones(8, 2)], [tg.zeros(8, 2)]), "the same batches to evaluate"),
    ],
)
def test_what_else_differs_is_named(name: str, values: tuple[Any, Any], message: str) -> None:
    """What would let workers wait for different messages of each other, or give different values."""

    def work(communicator: ThreadCommunicator) -> None:
        given = {"batches": [tg.ones(8, 2)] * 3, "steps": 6, name: values[communicator.rank]}
        of_fit = {"batches", "validation", "steps", "log_every", "validate_every"}
        model = tg.nn.Linear(2, 1)
        trainer = tg.train.Trainer(
            model,
            lambda model, batch, carry: (model(batch).mean(), None, None),
            tg.optim.SGD(model.parameters()),
            communicator=communicator,
            micro_batches=4,
            split=lambda batch, number: list(tg.chunk(batch, number)),
            **{name: value for name, value in given.items() if name not in of_fit},
        )
        with pytest.raises((ValueError, tg.distributed.WorkerError), match=message):  # one may have told the other
            trainer.fit(**{name: value for name, value in given.items() if name in of_fit})

    together(2, work)


def test_random_numbers_of_a_loss_in_evaluations() -> None:
    """They depend on the micro-batch; and evaluations change no training."""

    def work(communicator: ThreadCommunicator, validate_every: int = 2) -> tuple[list[bytes], dict[str, float]]:
        model = tg.nn.Sequential(tg.nn.Linear(2, 3), tg.nn.Dropout(0.3), tg.nn.Linear(3, 1))

        def loss(model: tg.nn.Sequential, batch: Any, carry: object) -> tuple[tg.Tensor, None]:
            return model(batch[0] + 0.1 * tg.randn(*batch[0].shape)).square().mean(), None

        trainer = tg.train.Trainer(
            model,
            loss,
            tg.optim.SGD(model.parameters(), lr=0.1),
            average=0.5,
            communicator=communicator,
            micro_batches=5,
            split=tg.data.split_rows,
        )
        data = [(tg.tensor(np.random.default_rng(rows).normal(size=(rows, 2)), dtype="float32"),) for rows in (13, 3)]
        summary = trainer.fit(data, data, steps=8, validate_every=validate_every)
        return [array.tobytes() for array in model.state_dict().values()], summary.validation

    (alone,) = together(1, work)
    for workers in (2, 3, 5):
        assert together(workers, work) == [alone] * workers
    assert together(2, lambda communicator: work(communicator, 3)) == [alone] * 2


def test_a_character_model_continues_with_a_different_number(tmp_path: Path) -> None:
    text = "the quick brown fox jumps over the lazy dog. " * 20

    def make_model(characters: int, options: tg.train.TrainingOptions) -> CharLM:
        return CharLM.from_options(characters, options)

    def work(communicator: ThreadCommunicator, steps: int, out: Path) -> str:
        options = tg.train.TrainingOptions(steps=40, hidden=6, embedding=4, seq_len=6, batch=5, dropout=0.2)
        last = out / "last.safetensors"
        if last.exists():
            checkpoint = tg.train.TextCheckpoint.load(last)
            run = tg.train.TextTrainer.resume(make_model, text, checkpoint, out, communicator=communicator)
        else:
            run = tg.train.TextTrainer.start(make_model, text, options, out, communicator=communicator, micro_batches=4)
        run.run(lambda progress: run.stop() if progress.step == steps else None)
        return hashlib.sha256(b"".join(each.tobytes() for each in run.model.state_dict().values())).hexdigest()

    whole = together(1, lambda communicator: work(communicator, 40, tmp_path / "whole"))
    together(3, lambda communicator: work(communicator, 20, tmp_path / "parts"))
    assert together(2, lambda communicator: work(communicator, 40, tmp_path / "parts")) == whole * 2
    with pytest.raises(ValueError, match="the run has 4 micro-batches; expected at most as many workers, got 5"):
        together(5, lambda communicator: work(communicator, 40, tmp_path / "parts"))


def test_too_few_micro_batches_or_rows_are_refused() -> None:
    def trainer(communicator: ThreadCommunicator, micro_batches: int) -> tg.train.Trainer[tg.nn.Linear]:
        model = tg.nn.Linear(2, 1)

        def loss(model: tg.nn.Linear, batch: object, carry: object) -> tuple[tg.Tensor, None]:
            return model(batch[0]).mean(), None  # type: ignore[index]

        optimizer = tg.optim.SGD(model.parameters())
        return tg.train.Trainer(
            model,
            loss,
            optimizer,
            communicator=communicator,
            micro_batches=micro_batches,
            split=tg.data.split_rows,
        )

    def work(communicator: ThreadCommunicator) -> None:
        with pytest.raises(ValueError, match="3 workers need at least as many micro-batches; got micro_batches=2"):
            trainer(communicator, 2)
        with pytest.raises(ValueError, match="can be cut into 2 micro-batches, too few for 3 workers"):
            trainer(communicator, 8).fit([(tg.ones(2, 2),)], steps=1)

    together(3, work)


def test_collectives() -> None:
    def work(communicator: ThreadCommunicator) -> tuple[list[float], list[bytes], float]:
        rank = communicator.rank
        total = tg.distributed.all_reduce(communicator, tg.tensor([1.0, 2.0 * rank, 5.0]))
        gathered = tg.distributed.all_gather(communicator, b"x" * rank)
        tg.manual_seed(rank)
        model = tg.nn.BatchNorm1d(3)
        model.weight.data[:] = rank
        tg.distributed.broadcast_parameters(model, communicator, root=2)
        tg.distributed.barrier(communicator)
        return total.tolist(), gathered, float(model.weight.sum().item())

    for found in together(4, work):
        assert found == ([4.0, 12.0, 20.0], [b"", b"x", b"xx", b"xxx"], 6.0)


def test_alone_without_mpi() -> None:
    assert (tg.distributed.rank(), tg.distributed.size()) == (0, 1)
    group = tg.distributed.init()
    assert tg.distributed.all_reduce(group, tg.ones(2)).tolist() == [1.0, 1.0]


class Oddities(tg.nn.Module):
    """Buffers of all kinds: one that a step replaces, constants without a difference, integers, truth values."""

    def __init__(self) -> None:
        self.linear = tg.nn.Linear(2, 1)
        self.register_buffer("replaced", tg.zeros(2))
        self.register_buffer("constant", tg.tensor([float("inf"), float("nan"), -0.0]))
        self.register_buffer("large", tg.tensor([2**62 + 1]))
        self.register_buffer("bytes", tg.tensor([7, 9], dtype="uint8"))
        self.register_buffer("seen", tg.tensor([False, True]))

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        if self.training:
            with tg.no_grad():
                self.replaced = self.replaced * 0.5 + x.mean(0)
                self.bytes -= 3
                self.seen.copy_(tg.tensor([True, False]))
        return self.linear(x)


def test_buffers_of_all_kinds() -> None:
    def work(communicator: ThreadCommunicator) -> list[bytes]:
        model = Oddities()
        trainer = tg.train.Trainer(
            model,
            lambda model, batch, carry: (model(batch[0]).mean(), None),
            tg.optim.SGD(model.parameters(), lr=0.1),
            communicator=communicator,
            micro_batches=6,
            split=tg.data.split_rows,
        )
        trainer.fit([(tg.randn(12, 2),)], steps=2)
        state = model.state_dict()
        assert state["large"] == [2**62 + 1] and state["bytes"].tolist() == [1, 3]
        assert state["seen"].tolist() == [True, False]
        np.testing.assert_array_equal(state["constant"], [np.inf, np.nan, -0.0])
        assert np.signbit(state["constant"][2])
        return [array.tobytes() for array in state.values()]

    (alone,) = together(1, work)
    for workers in (2, 3, 5):
        assert together(workers, work) == [alone] * workers


class Sharing(tg.nn.Module):
    """With a weight of two layers, an empty parameter, and a layer that only some rows use, which is recomputed."""

    def __init__(self) -> None:
        self.first, self.second, self.some = (tg.nn.Linear(4, 4) for _ in range(3))
        self.second.weight = self.first.weight
        self.empty = tg.nn.Parameter(tg.zeros(0, 3))
        self.output = tg.nn.Linear(4, 1)

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        h = tg.tanh(self.second(tg.tanh(self.first(x))))
        if (x.numpy()[:, 0] > 0.8).any():
            h = tg.checkpoint(lambda h: tg.tanh(self.some(h)), h)
        return self.output(h) + self.empty.sum()


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_parameters_of_all_kinds(dtype: str) -> None:
    """Some are frozen between calls of `fit`, which is called several times; one is only the optimizer's."""

    def work(communicator: ThreadCommunicator) -> list[bytes]:
        model = Sharing().to(dtype=dtype)
        rng = np.random.default_rng(0)
        data = [tuple(tg.tensor(rng.normal(size=(13, n)), dtype=dtype) for n in (4, 1)) for _ in range(4)]
        scale = tg.nn.Parameter(tg.tensor([1.0 + communicator.rank], dtype=dtype))
        trainer = tg.train.Trainer(
            model,
            lambda model, batch, carry: (((model(batch[0]) * scale - batch[1]) ** 2).mean(), None),
            tg.optim.Adam([*model.parameters(), scale], lr=0.01),
            accumulate=2,
            clip=0.5,
            communicator=communicator,
            micro_batches=7,
            split=tg.data.split_rows,
        )
        trainer.fit(data, steps=3)
        model.some.requires_grad_(False)
        trainer.fit(data, steps=5)
        model.some.requires_grad_(True)
        model.first.bias.requires_grad_(False)
        trainer.fit(data, steps=8)
        return [*(array.tobytes() for array in model.state_dict().values()), scale.detach().numpy().tobytes()]

    (alone,) = together(1, work)
    for workers in (2, 3, 7):
        assert together(workers, work) == [alone] * workers
