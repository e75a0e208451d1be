"""A trial is a function of its options; what follows it may end it."""

import multiprocessing
import pickle
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_book import TEXT

import tinygrad_lstm as tg
from tinygrad_lstm.models import CharLM
from tinygrad_lstm.search import Pruning, SequenceTask, TextTask, TrialSummary, run_trial
from tinygrad_lstm.train import TextCheckpoint, TextTrainer, TrainingOptions

OPTIONS = TrainingOptions(steps=20, hidden=6, seq_len=8, batch=4, dropout=0.2)
BOOK = TextTask(TEXT, OPTIONS)
RNG = np.random.default_rng(0)
X = [RNG.normal(size=(RNG.integers(3, 7), 2)) + k % 2 for k in range(40)]
CLASSES = np.array(["low", "high"] * 20)
GESTURES = SequenceTask(
    tg.estimators.SequenceClassifier(hidden_size=4, epochs=4, validation=0.2, dropout=0.1, random_state=3),
    X,
    CLASSES,
    {"columns": {"target": "y"}},
)
TASKS: dict[str, Any] = {"text": BOOK, "sequences": GESTURES}
all_tasks = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)


@all_tasks
def test_the_same_options_have_the_same_summary(task: Any, tmp_path: Path) -> None:
    first = run_trial(task, {"lr": 0.03})
    tg.manual_seed(17)
    expected = tg.random.random_state()
    second = run_trial(pickle.loads(pickle.dumps(task)), {"lr": 0.03}, tmp_path / "run")
    assert tg.random.random_state() == expected  # a trial uses none of the random numbers
    assert first == second and first.outcome == "finished" and first.loss == min(first.losses)
    assert (first.folder, second.folder) == (None, tmp_path / "run")
    assert first != run_trial(task, {"lr": 0.02})


def test_trials_in_other_processes_are_the_same() -> None:
    """As joblib, Ray and Dask run them."""
    trials = [{"lr": 0.03}, {"lr": 0.01, "hidden": 8}]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(partial(run_trial, BOOK), trials) == [run_trial(BOOK, options) for options in trials]


def test_a_trial_of_a_text_is_the_run_of_its_options(tmp_path: Path) -> None:
    options = {"lr": 0.03, "hidden": 7}
    trial = run_trial(BOOK, options, tmp_path / "trial")
    run = TextTrainer.start(CharLM.from_options, TEXT, replace(OPTIONS, **options), tmp_path / "run")
    summary = run.run()
    made, expected = (TextCheckpoint.load(tmp_path / name / "last.safetensors") for name in ("trial", "run"))
    for name, array in expected.weights.items():
        np.testing.assert_array_equal(made.weights[name], array, err_msg=name)
    assert trial.losses[-1] == summary.validation["loss"] and len(trial.losses) == 10
    assert (trial.step, trial.epoch) == (summary.step, summary.epoch)


def test_a_trial_of_sequences_keeps_the_network_that_was_validated(tmp_path: Path) -> None:
    trial = run_trial(GESTURES, {"cell": "gru_reset_after"}, tmp_path)
    made = tg.estimators.load(tmp_path / "model.safetensors")
    assert made.cell == "gru_reset_after" and made.hidden_size == 4 and made.about_ == GESTURES.about
    assert len(trial.losses) == 4 and trial.epoch == 4
    best = tg.train.Checkpoint.load(tmp_path / "search" / "best.safetensors")
    np.testing.assert_array_equal(made.model_.state_dict()["output.weight"], best.weights["output.weight"])
    assert GESTURES.estimator.cell == "lstm" and not hasattr(GESTURES.estimator, "model_")


@all_tasks
def test_a_trial_ends_when_its_report_says_so(task: Any, tmp_path: Path) -> None:
    reported: list[tuple[int, float]] = []

    def report(number: int, loss: float) -> bool:
        reported.append((number, loss))
        return number == 3

    whole, trial = run_trial(task, {}), run_trial(task, {}, tmp_path, report)
    assert trial.outcome == "pruned" and trial.losses == whole.losses[:3] and trial.step < whole.step
    assert reported == list(enumerate(trial.losses, 1))
    if task is BOOK:  # and can be continued
        checkpoint = TextCheckpoint.load(tmp_path / "last.safetensors")
        run = TextTrainer.resume(CharLM.from_options, TEXT, checkpoint, tmp_path)
        assert run.run().validation["loss"] == whole.losses[-1]
    else:
        assert tg.estimators.load(tmp_path / "model.safetensors").n_iter_ == 3


@all_tasks
def test_a_trial_that_diverges_has_a_summary(task: Any) -> None:
    trial = run_trial(task, {"lr": 1e38})
    assert (trial.outcome, trial.step) == ("diverged", 0) and len(trial.losses) < 4
    assert isinstance(trial, TrialSummary) and trial.options == {"lr": 1e38}


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        (BOOK, {"hiden": 3}, r"TextTask: expected options among steps, .*, got 'hiden'"),
        (BOOK, {"hidden": 0}, r"hidden: expected at least 1, got 0"),
        (BOOK, {"seq_len": 5000}, r"the text has 612 characters; seq-len 5000"),
        (GESTURES, {"hidden": 3}, r"SequenceClassifier: expected parameters among .*, got 'hidden'"),
        (GESTURES, {"dropout": 1.5}, r"expected dropout to be from 0 to below 1, got 1.5"),
    ],
)
def test_invalid_options(task: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run_trial(task, options)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"random_state": None}, r"whose random_state is a seed, got None"),
        ({"validation": 0}, r"whose validation is above 0, .* got 0"),
    ],
)
def test_an_estimator_that_cannot_be_compared(parameters: dict[str, Any], message: str) -> None:
    estimator = tg.estimators.SequenceRegressor(**{"random_state": 0, **parameters})
    with pytest.raises(ValueError, match=f"SequenceTask: expected a SequenceRegressor {message}"):
        SequenceTask(estimator, X, np.arange(40.0))


def test_ctrl_c_ends_a_trial_of_sequences() -> None:
    """A fit of its own would keep the best network so far."""

    def interrupt(number: int, loss: float) -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_trial(GESTURES, {}, None, interrupt)


def test_pruning_ignores_steps_without_a_validation() -> None:
    model = tg.nn.Linear(1, 1)
    pruning = Pruning()
    optimizer = tg.optim.SGD(model.parameters(), lr=0.1)
    trainer = tg.train.Trainer(
        model, lambda model, batch, carry: (model(batch).square().mean(), None), optimizer, callbacks=[pruning]
    )
    trainer.fit([tg.ones(1)] * 4, [tg.ones(1)], epochs=2, log_every=1)
    assert len(pruning.losses) == 2 and not pruning.pruned
