"""Fits that are followed by callbacks, kept in folders, stopped and resumed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinygrad_lstm.estimators import SequenceClassifier, SequenceRegressor, load
from tinygrad_lstm.train import Checkpoint, Progress, Trainer

SETTINGS: dict[str, Any] = {"hidden_size": 5, "epochs": 4, "batch_size": 8, "dropout": 0.2, "random_state": 3}
rng = np.random.default_rng(0)
X = [rng.normal(size=(rng.integers(3, 9), 2)) + (k % 2) for k in range(40)]
LABELS = ["low", "high"] * 20
NUMBERS = [100 + 50 * x[-1, 0] for x in X]


class StopAt:
    """Stops a fit after a number of steps of both trainings together."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def on_step(self, trainer: Trainer[Any]) -> None:
        self.left -= 1
        if not self.left:
            trainer.stop()


class Notes:
    """Notes the names of the folders and the epochs that it is told of."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, float]] = []

    def on_report(self, trainer: Trainer[Any], progress: Progress) -> None:
        assert trainer.folder is not None
        self.seen.append((trainer.folder.path.name, progress.epoch))


# 36 sequences are searched with, 5 steps in an epoch; so are all 40.
@pytest.mark.parametrize("steps", [3, 10, 20, 23, 40])
@pytest.mark.parametrize("kind", [SequenceClassifier, SequenceRegressor])
def test_a_stopped_fit_is_resumed_bit_for_bit(kind: Any, steps: int, tmp_path: Path) -> None:
    y = LABELS if kind is SequenceClassifier else NUMBERS
    whole, stopped, resumed = (kind(**SETTINGS) for _ in range(3))
    whole.fit(X, y, out=tmp_path / "whole")
    stopped.fit(X, y, callbacks=[StopAt(steps)], out=tmp_path / "stopped")
    assert np.isfinite(stopped.predict(X) if kind is SequenceRegressor else stopped.predict_proba(X)).all()
    notes = Notes()
    resumed.fit(X, y, callbacks=[notes], out=tmp_path / "stopped", resume=True)
    assert (resumed.model_.output.weight == whole.model_.output.weight).all()
    assert (resumed.predict(X) == whole.predict(X)).all()
    assert resumed.n_iter_ == whole.n_iter_ == 4
    assert resumed.history_[-1]["loss"] == whole.history_[-1]["loss"] and len(resumed.history_) == 8
    assert notes.seen[-1:] == ([("final", 4.0)] if steps < 40 else [])


def test_a_stopped_search_keeps_its_best_network(tmp_path: Path) -> None:
    stopped = SequenceClassifier(**SETTINGS).fit(X, LABELS, callbacks=[StopAt(12)], out=tmp_path)
    best = Checkpoint.load(tmp_path / "search" / "best.safetensors").weights
    assert stopped.n_iter_ == 2 and not (tmp_path / "final").exists()
    assert (stopped.model_.output.weight.detach().numpy() == best["output.weight"]).all()


def test_a_folder_has_one_training(tmp_path: Path) -> None:
    def fit(y: Any = LABELS, resume: bool = True, **changed: Any) -> None:
        SequenceClassifier(**{**SETTINGS, **changed}).fit(X, y, out=tmp_path, resume=resume)

    with pytest.raises(ValueError, match="has no training to resume"):
        fit()
    fit(resume=False)
    with pytest.raises(ValueError, match="has a training already; give a different out"):
        fit(resume=False)
    with pytest.raises(ValueError, match=r"is of different parameters$"):
        fit(lr=0.1)
    with pytest.raises(ValueError, match=r"is of different data$"):
        fit([*LABELS[1:], "low"])
    with pytest.raises(ValueError, match=r"is of different groups$"):
        SequenceClassifier(**SETTINGS).fit(X, LABELS, groups=np.arange(len(X)) // 4, out=tmp_path, resume=True)
    with pytest.raises(ValueError, match="expected random_state to be a seed"):
        fit(random_state=None)
    with pytest.raises(ValueError, match="resume=True needs the folder"):
        SequenceClassifier(**SETTINGS).fit(X, LABELS, resume=True)


def test_notes_are_saved_with_it(tmp_path: Path) -> None:
    classifier = SequenceClassifier(**SETTINGS).fit(X, LABELS)
    assert classifier.about_ == {}
    classifier.about_ = {"features": ["left", "right"]}
    classifier.save(tmp_path / "a.safetensors")
    assert load(tmp_path / "a.safetensors").about_ == {"features": ["left", "right"]}
    assert classifier.fit(X, LABELS).about_ == {}
