"""A model of a user, trained by the trainer, goes the whole way that CharLM goes: resumed, looked into, exported."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

import tinygrad_lstm as tg
from tinygrad_lstm.data import SequenceBatch, SequenceBatches
from tinygrad_lstm.models import LSTM
from tinygrad_lstm.train import Checkpoint, Progress, Trainer


class Tagger(tg.nn.Module):
    """Scores of two classes for each sequence, from the mean of an LSTM's outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = LSTM(2, 6)
        self.dropout = tg.nn.Dropout(0.1)
        self.scores = tg.nn.Linear(6, 2)

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        out, _ = self.lstm(x)
        scores: tg.Tensor = self.scores(self.dropout(out.mean(dim=0)))
        return scores


def loss_of(model: Tagger, batch: SequenceBatch, carry: Any) -> tuple[tg.Tensor, None]:
    return tg.cross_entropy(model(tg.tensor(batch.x)), tg.tensor(batch.y)), None


class StopAt:
    def __init__(self, epoch: float) -> None:
        self.epoch = epoch

    def on_report(self, trainer: Trainer[Any], progress: Progress) -> None:
        if progress.epoch == self.epoch:
            trainer.stop()


def batches(seed: int) -> SequenceBatches:
    rng = np.random.default_rng(seed)
    labels = np.arange(24) % 2
    return SequenceBatches([rng.normal(k, 1, (9, 2)).astype("f") for k in labels], labels, 8)


def trainer_in(folder: Path, *callbacks: Any) -> Trainer[Tagger]:
    tg.manual_seed(0)
    model = Tagger()
    return Trainer(model, loss_of, tg.optim.Adam(model.parameters(), lr=0.02), callbacks=callbacks, out=folder)


def test_a_model_of_a_user_is_resumed_looked_into_and_exported(tmp_path: Path) -> None:
    whole = trainer_in(tmp_path / "whole")
    whole.fit(batches(0), batches(1), epochs=6)
    assert not trainer_in(tmp_path / "run", StopAt(2)).fit(batches(0), batches(1), epochs=6).finished
    resumed = trainer_in(tmp_path / "run")
    assert resumed.fit(batches(0), batches(1), epochs=6, resume=True).finished
    for name, array in whole.model.state_dict().items():
        assert (resumed.model.state_dict()[name] == array).all(), name

    model = Tagger().eval()
    model.load_state_dict(Checkpoint.load(tmp_path / "run" / "last.safetensors").weights)
    x = next(batches(2).epoch(0)).x
    with tg.no_grad():
        expected = model(tg.tensor(x)).numpy()

    traced = tg.inspect.trace(model, tg.tensor(x), loss=lambda scores: scores[:, 1].sum())
    assert traced["lstm.l0"].f.shape == (9, 8, 6) and traced.loss is not None
    assert (traced["lstm.l0"].gradients["c"] != 0).any()
    assert "Tagger" in tg.inspect.page(traced, tmp_path / "page.html").read_text(encoding="utf-8")

    tg.io.export_onnx(model, tmp_path / "tagger.onnx", {"x": tg.tensor(x)})
    session = onnxruntime.InferenceSession(tmp_path / "tagger.onnx")
    np.testing.assert_allclose(session.run(None, {"x": x})[0], expected, atol=1e-5)
    with tg.no_grad():
        np.testing.assert_allclose(tg.io.load_model(tmp_path / "tagger.onnx")(x).numpy(), expected, atol=1e-5)
