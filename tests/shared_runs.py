"""Small trainings that several workers share, and digests of what they lead to. Also a program: see `main`."""

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import tinygrad_lstm as tg
from tinygrad_lstm.models import LSTM, CharLM
from tinygrad_lstm.train.text_evaluation import text_loss

MICRO_BATCHES = 8


class Classifier(tg.nn.Module):
    """With batch normalization, whose buffers change, dropout, and a layer that gets no gradient."""

    def __init__(self) -> None:
        self.lstm = LSTM(3, 5, bidirectional=True)
        self.norm = tg.nn.BatchNorm1d(10)
        self.dropout = tg.nn.Dropout(0.3)
        self.output = tg.nn.Linear(10, 3)
        self.unused = tg.nn.Linear(2, 2)

    def forward(self, x: Any, lengths: Any) -> Any:
        _, state = self.lstm(x, lengths=lengths)
        return self.output(self.dropout(self.norm(self.lstm.final_output(state))))


def classifier_loss(model: Any, batch: Any, carry: Any) -> tuple[Any, ...]:
    scores = model(tg.tensor(batch.x), batch.lengths)
    return tg.cross_entropy(scores, tg.tensor(batch.y)), None, scores


def accuracy(scores: Any, batch: Any) -> float:
    return float((scores.cpu().numpy().argmax(1) == batch.y).mean())


def character_model() -> tuple[Any, Any, Any, Any, dict[str, Any]]:
    """A model, its loss, batches, validation and metrics: a character model with dropout, whose states are carried."""
    ids = np.random.default_rng(1).integers(0, 12, 500)
    batches = tg.data.TextBatches(ids, batch=9, seq_len=9)
    return CharLM(12, 4, 6, 2, dropout=0.2), text_loss, batches, batches[:3], {}


def classifier() -> tuple[Any, Any, Any, Any, dict[str, Any]]:
    """The same of a classifier of sequences of different lengths."""
    rng = np.random.default_rng(2)
    sequences = [rng.normal(size=(length, 3)).astype(np.float32) for length in rng.integers(2, 9, 50)]
    batches = tg.data.SequenceBatches(sequences, rng.integers(0, 3, 50), batch_size=32)
    return Classifier(), classifier_loss, batches, list(batches), {"accuracy": accuracy}


PROBLEMS: dict[str, Callable[[], tuple[Any, Any, Any, Any, dict[str, Any]]]] = {
    "characters": character_model,
    "classes": classifier,
}


def trained(problem: str, communicator: Any, steps: int, out: Path | None = None, resume: bool = False) -> str:
    """A digest of the weights, buffers, values and losses of a training."""
    model, loss, batches, validation, metrics = PROBLEMS[problem]()
    trainer = tg.train.Trainer(
        model,
        loss,
        tg.optim.AdamW(model.parameters(), lr=0.01),
        metrics=metrics,
        clip=0.5,
        out=out,
        communicator=communicator,
        micro_batches=MICRO_BATCHES,
    )
    losses: list[Any] = []
    trainer.callbacks = [_Losses(losses)]
    summary = trainer.fit(batches, validation, steps=steps, validate_every=5, log_every=3, resume=resume)
    digest = hashlib.sha256(repr((summary.step, summary.validation, losses if out is None else 0)).encode())
    for name, array in model.state_dict().items():
        digest.update(name.encode() + array.tobytes())
    return digest.hexdigest()[:16]


class _Losses:
    def __init__(self, losses: list[Any]) -> None:
        self.losses = losses

    def on_report(self, trainer: Any, progress: Any) -> None:
        self.losses.append(progress.loss)


def main() -> None:
    """Started by `mpiexec`, with a problem, a number of steps and perhaps a folder to resume: writes each digest."""
    problem, steps, out = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    group = tg.distributed.init()
    tg.set_num_threads(1)
    tg.manual_seed(0)
    run, resume = out / "run", (out / "run" / "last.safetensors").exists()
    found = trained(problem, group, steps, run, resume)
    (out / f"{group.rank}.json").write_text(json.dumps([group.rank, group.size, found]))


if __name__ == "__main__":
    main()
