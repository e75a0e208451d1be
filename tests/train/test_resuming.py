"""A run that was interrupted and resumed ends as one that was not; what is not resumed."""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_runs import SMALL, SMALL_OPTIONS, STEPS, TEXT, assert_same_run, make_model, start

import tinygrad_lstm as tg
from tinygrad_lstm.data import Vocabulary
from tinygrad_lstm.io import checkpoint as checkpoint_file
from tinygrad_lstm.metrics import read_metrics
from tinygrad_lstm.models import CharLM
from tinygrad_lstm.train import (
    Progress,
    TextCheckpoint,
    TextTrainer,
    TrainingOptions,
)


def resume(out: Path, steps: int | None = None) -> TextTrainer[CharLM]:
    return TextTrainer.resume(make_model, TEXT, TextCheckpoint.load(out / "last.safetensors"), out, steps)


# -- resuming ---------------------------------------------------------------------------------------------------------


@settings(max_examples=8)
@given(stops=st.sets(st.integers(1, STEPS - 1), min_size=1, max_size=3))
def test_stopped_and_resumed_equals_unbroken(
    unbroken: Path, tmp_path_factory: pytest.TempPathFactory, stops: set[int]
) -> None:
    out = tmp_path_factory.mktemp("broken")
    trainer = start(out, log_every=1)
    for step in sorted(stops):

        def stop_there(progress: Progress, trainer: TextTrainer[CharLM] = trainer, step: int = step) -> None:
            if progress.step == step:
                trainer.stop()

        summary = trainer.run(stop_there)
        assert (summary.step, summary.finished) == (step, False)
        tg.manual_seed(step)  # what happened in between does not matter
        trainer = resume(out)
        assert trainer.step == step
    assert trainer.run().finished
    a, b = TextCheckpoint.load(unbroken / "last.safetensors"), TextCheckpoint.load(out / "last.safetensors")
    assert b.options.log_every == 1
    for name in a.weights:
        assert a.weights[name].tobytes() == b.weights[name].tobytes(), name
    assert a.random_state == b.random_state and a.best == b.best


def test_killed_and_resumed_equals_unbroken(unbroken: Path, tmp_path: Path) -> None:
    class Kill(BaseException):
        pass

    def kill(progress: Progress) -> None:
        if progress.step == 18:
            raise Kill

    with pytest.raises(Kill):
        start(tmp_path).run(kill)
    trainer = resume(tmp_path)
    assert trainer.step == 14  # the last validation
    assert [line["step"] for line in read_metrics(tmp_path / "metrics.jsonl")][-1] == 14
    trainer.run()
    assert_same_run(unbroken, tmp_path)
    steps = [[line["step"] for line in read_metrics(out / "metrics.jsonl")] for out in (unbroken, tmp_path)]
    assert steps[0] == steps[1] == [3, 6, 7, 9, 12, 14, 15, 18, 21, 24]
    losses = [[line["validation_loss"] for line in read_metrics(out / "metrics.jsonl")] for out in (unbroken, tmp_path)]
    assert losses[0] == losses[1]


def rates(out: Path) -> dict[int, float]:
    """The learning rate at each step that was reported."""
    return {line["step"]: line["lr"] for line in read_metrics(out / "metrics.jsonl")}


def test_the_rate_rises_and_falls_to_a_fiftieth_over_the_steps_asked_for(tmp_path: Path) -> None:
    assert start(tmp_path, lr=0.02, log_every=1).run().finished
    rise, fall = SMALL["warmup"], STEPS - SMALL["warmup"]
    expected = [0.02 * (1 + (rise - 1) * k / rise) / rise for k in range(rise)]
    expected += [0.02 - 0.0196 * k / fall for k in range(fall)]
    np.testing.assert_allclose(list(rates(tmp_path).values()), expected, rtol=1e-12)


def test_with_more_steps_the_rate_continues_from_the_last_one(tmp_path: Path) -> None:
    trainer = start(tmp_path, lr=0.02, log_every=1)
    trainer.run(lambda progress: trainer.stop() if progress.step == 14 else None)
    assert resume(tmp_path, steps=40).run().finished
    reached = 0.02 - 0.0196 * 10 / 20
    found = [rate for step, rate in rates(tmp_path).items() if step > 14]
    np.testing.assert_allclose(found, [reached + (0.0004 - reached) * k / 26 for k in range(26)], rtol=1e-9)
    assert resume(tmp_path, steps=43).run().finished
    np.testing.assert_allclose([rates(tmp_path)[step] for step in (41, 42, 43)], 0.0004, rtol=1e-9)


@pytest.mark.parametrize("steps", [None, 10, STEPS])
def test_a_finished_run_is_not_resumed_without_more_steps(unbroken: Path, steps: int | None) -> None:
    before = {path: path.read_bytes() for path in unbroken.iterdir()}
    with pytest.raises(ValueError, match=f"the run has done {STEPS} steps already"):
        resume(unbroken, steps)
    assert {path: path.read_bytes() for path in unbroken.iterdir()} == before


@pytest.mark.parametrize(
    "options",
    [
        {"schedule": "cosine", "weight_decay": 0.1, "clip": 0.05},
        {"schedule": "constant", "tie": True, "patience": 2},
        {"steps": None, "epochs": 2, "validate_every": 9},
        {"steps": None, "minutes": 1e9, "epochs": 1},
    ],
)
def test_every_option_of_a_run_is_resumed(tmp_path: Path, options: dict[str, Any]) -> None:
    assert start(tmp_path / "whole", **options).run().finished
    trainer = start(tmp_path / "broken", **options)
    trainer.run(lambda progress: trainer.stop() if progress.step == 9 else None)
    assert resume(tmp_path / "broken").run().finished
    a, b = (TextCheckpoint.load(tmp_path / name / "last.safetensors") for name in ("whole", "broken"))
    assert (a.step, a.best, a.options, a.callbacks) == (b.step, b.best, b.options, b.callbacks)
    if options.get("minutes") is None:  # its rates depend on the time that is left
        assert {name: array.tobytes() for name, array in a.weights.items()} == {
            name: array.tobytes() for name, array in b.weights.items()
        }


def test_epochs_limit_a_run(tmp_path: Path) -> None:
    trainer = start(tmp_path, steps=None, epochs=2, log_every=1)
    summary = trainer.run()
    assert (summary.epoch, summary.step, trainer.last_step, trainer.ended_by) == (2, 38, 38, "epochs")
    assert rates(tmp_path)[38] == pytest.approx(2e-2 * (1 - 0.98 * 33 / 34))
    with pytest.raises(ValueError, match="the run has read its text 2 times already"):
        resume(tmp_path)
    # A limit that is given replaces those of the run.
    trainer = TextTrainer.resume(make_model, TEXT, TextCheckpoint.load(tmp_path / "last.safetensors"), tmp_path, 40)
    assert (trainer.options.steps, trainer.options.epochs, trainer.run().step) == (40, None, 40)


def test_the_time_limits_a_run(tmp_path: Path) -> None:
    trainer = start(tmp_path, steps=None, minutes=0.01, log_every=1)
    assert trainer.run().finished and trainer.ended_by == "minutes" and trainer.last_step is None
    saved = TextCheckpoint.load(tmp_path / "last.safetensors")
    assert saved.step == trainer.step and saved.seconds >= 0.6
    assert rates(tmp_path)[saved.step] < 1e-2  # it falls with the time
    with pytest.raises(ValueError, match=r"the run has taken .* minutes already"):
        resume(tmp_path)
    trainer = TextTrainer.resume(make_model, TEXT, saved, tmp_path, minutes=0.02)
    assert trainer.run().step > saved.step


def test_a_run_ends_when_its_loss_has_not_fallen_for_long(tmp_path: Path) -> None:
    options = {"lr": 1e-30, "patience": 2, "validate_every": 3, "steps": 90}
    trainer = start(tmp_path, **options)
    summary = trainer.run()
    assert (summary.step, summary.finished, trainer.ended_by) == (9, True, "patience")
    with pytest.raises(ValueError, match="the run has had 2 validations without a lower loss already"):
        resume(tmp_path)
    saved = TextCheckpoint.load(tmp_path / "last.safetensors")
    assert TextTrainer.resume(make_model, TEXT, saved, tmp_path, patience=4).run().step == 15


def test_a_run_is_resumed_only_on_its_own_text(unbroken: Path) -> None:
    checkpoint = TextCheckpoint.load(unbroken / "last.safetensors")
    with pytest.raises(ValueError, match="the text is not the one"):
        TextTrainer.resume(make_model, TEXT + "x", checkpoint, unbroken, STEPS + 1)


def test_weights_that_are_not_finite_resume_without_a_warning(unbroken: Path, tmp_path: Path) -> None:
    checkpoint = TextCheckpoint.load(unbroken / "last.safetensors")
    output = np.copysign(np.float32(np.inf), checkpoint.weights["output.weight"])
    damaged = replace(checkpoint, weights={**checkpoint.weights, "output.weight": output})
    trainer = TextTrainer.resume(make_model, TEXT, damaged, tmp_path, STEPS + 1)
    with pytest.raises(FloatingPointError, match="the loss is nan"):
        trainer.run()


def test_a_checkpoint_whose_optimizer_has_no_maximize_resumes(unbroken: Path, tmp_path: Path) -> None:
    """As checkpoints were saved before optimizers had this setting."""
    checkpoint = TextCheckpoint.load(unbroken / "last.safetensors")
    groups = [
        {name: v for name, v in group.items() if name != "maximize"} for group in checkpoint.optimizer["param_groups"]
    ]
    older = replace(checkpoint, optimizer={**checkpoint.optimizer, "param_groups": groups})
    assert older.optimizer["param_groups"] != checkpoint.optimizer["param_groups"]
    trainer = TextTrainer.resume(make_model, TEXT, older, tmp_path, STEPS + 1)
    assert trainer.run().step == STEPS + 1


def test_weights_of_different_shapes_are_refused(unbroken: Path) -> None:
    checkpoint = TextCheckpoint.load(unbroken / "last.safetensors")
    with pytest.raises(ValueError, match=r"last\.safetensors: its contents are invalid .*lstm\.weight_hh_l0"):
        TextTrainer.resume(
            lambda characters, options: CharLM(characters, 3, 6, 2), TEXT, checkpoint, unbroken, STEPS + 1
        )


def test_names_in_errors_about_a_checkpoint_are_printable(unbroken: Path) -> None:
    checkpoint = TextCheckpoint.load(unbroken / "last.safetensors")
    group, *_ = checkpoint.optimizer["param_groups"]
    odd = replace(checkpoint, optimizer={**checkpoint.optimizer, "param_groups": [{**group, "a\n\x7f": 1}]})
    with pytest.raises(ValueError, match=r"unknown setting a\\x0a\\x7f;"):
        TextTrainer.resume(make_model, TEXT, odd, unbroken, STEPS + 1)


def test_options_of_a_run_stay() -> None:
    assert SMALL_OPTIONS.continued({"steps": 99, "hidden": 5}).steps == 99
    assert SMALL_OPTIONS.continued({}) == SMALL_OPTIONS
    with pytest.raises(ValueError, match="hidden: the run to resume has 5, but 6 was given"):
        SMALL_OPTIONS.continued({"hidden": 6})


# -- measuring --------------------------------------------------------------------------------------------------------


def test_a_trainer_that_was_stopped_continues(unbroken: Path, tmp_path: Path) -> None:
    trainer = start(tmp_path)
    trainer.stop()
    assert trainer.run().step == 0
    assert trainer.run(lambda progress: trainer.stop() if progress.step == 9 else None).step == 9
    assert trainer.run().finished
    assert_same_run(unbroken, tmp_path)


def test_checkpoints_say_what_they_hold(unbroken: Path) -> None:
    checkpoint = TextCheckpoint.load(unbroken / "last.safetensors")
    assert checkpoint.options == SMALL_OPTIONS
    assert checkpoint.vocabulary == Vocabulary(TEXT)
    assert checkpoint.step == STEPS
    assert checkpoint.sources == []
    weights = make_model(len(checkpoint.vocabulary), checkpoint.options).state_dict()
    assert {name: array.shape for name, array in checkpoint.weights.items()} == {
        name: array.shape for name, array in weights.items()
    }


def test_the_version_tells_what_a_checkpoint_holds() -> None:
    """Whoever changes this raises `checkpoint.VERSION`, so that older checkpoints are refused as what they are."""
    held = [field.name for kind in (TextCheckpoint, TrainingOptions) for field in fields(kind)]
    assert (checkpoint_file.VERSION, " ".join(held)) == (
        5,
        "about step epoch batch seconds best loss due random_state weights average optimizer schedule micro_batches "
        "carry callbacks path "
        "steps epochs minutes cell embedding tie hidden layers forget_bias dropout seq_len batch lr warmup schedule "
        "weight_decay clip seed validate_every patience log_every",
    )


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    checkpoint_file.save(tmp_path / "a", {"weights": {}})
    with pytest.raises(ValueError, match="a: a checkpoint, but not one of a training run"):
        TextCheckpoint.load(tmp_path / "a")


def test_a_checkpoint_of_a_different_model_says_how_it_is_loaded(tmp_path: Path) -> None:
    model = tg.nn.Linear(1, 1)
    optimizer = tg.optim.SGD(model.parameters(), lr=0.1)
    tg.train.Trainer(model, lambda model, batch, carry: (model(batch).sum(), None), optimizer, out=tmp_path).fit(
        [tg.ones(1)], steps=1
    )
    with pytest.raises(ValueError, match=r"not one of a training run on a text \(of a Trainer's run, .*\.weights\)$"):
        TextCheckpoint.load(tmp_path / "last.safetensors")


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all values, containers included; of many arrays in one container, the first three."""
    if place:
        yield place
    parts = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ())
    for key, part in parts[:3] if all(isinstance(part, np.ndarray) for _, part in parts) else parts:
        yield from places(part, (*place, key))


def with_part(value: Any, place: tuple[Any, ...], part: Any) -> Any:
    if not place:
        return part
    copy = value.copy()
    copy[place[0]] = with_part(value[place[0]], place[1:], part)
    return copy


ODD = [None, [None], {}, "x", -1, 3, 1.5, math.nan, 10**30, np.ones((2, 3)), np.zeros(0, bool)]


def test_invalid_contents_are_refused_or_harmless(saved: dict[str, Any], tmp_path: Path) -> None:
    path, refused, taken = tmp_path / "last.safetensors", set(), set()
    # Sizes with which there is not the memory for the model.
    huge = [("about", "options", name) for name in ("hidden", "embedding", "layers", "steps")]
    for place in places(saved):
        for value in ODD:
            if place in huge and isinstance(value, int) and value > 3:
                continue
            checkpoint_file.save(path, with_part(saved, place, value))
            try:
                trainer = resume(tmp_path, STEPS + 1)
            except ValueError as error:
                assert str(error).startswith((f"{path}: ", "the run has done", "the text is not")), (place, value)
                refused.add(place)
            else:
                taken.add(place)
                with contextlib.suppress(FloatingPointError):
                    trainer.run()
    always = {
        ("about", "options"),
        ("about", "vocabulary"),
        ("about", "text_digest"),
        ("step",),
        ("epoch",),
        ("batch",),
    }
    always |= {("carry", 0), ("weights", "embedding.weight"), ("optimizer", "state")}
    assert always <= refused and not always & taken
    assert not {place[0] for place in taken} & {"carry", "schedule", "weights"}


def test_any_of_the_contents_missing_is_named(saved: dict[str, Any], tmp_path: Path) -> None:
    for name in saved:
        path = tmp_path / name
        checkpoint_file.save(path, {key: value for key, value in saved.items() if key != name})
        with pytest.raises(ValueError, match=f"{name}: a checkpoint, but .*missing or unexpected: {name}"):
            TextCheckpoint.load(path)
    checkpoint_file.save(tmp_path / "more", {**saved, "more": 1})
    with pytest.raises(ValueError, match=r"more: a checkpoint, but .*missing or unexpected: more"):
        TextCheckpoint.load(tmp_path / "more")
