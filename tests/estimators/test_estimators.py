"""Classifiers and regressors of sequences: what they learn, refuse, show and save."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import tinygrad_lstm as tg
from tinygrad_lstm.estimators import SequenceClassifier, SequenceRegressor, load
from tinygrad_lstm.io import checkpoint
from tinygrad_lstm.train import Trainer

QUICK: dict[str, Any] = {"hidden_size": 6, "epochs": 4, "random_state": 0}


def recordings(number: int = 40, seed: int = 0) -> tuple[list[Any], list[str]]:
    """Recordings of 3 to 8 steps, around 0 or around 1."""
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(rng.integers(3, 9), 2)) + (k % 2) for k in range(number)], ["low", "high"] * (number // 2)


def sums(number: int = 60) -> tuple[list[Any], Any]:
    """Recordings and their last numbers, in large units."""
    rng = np.random.default_rng(1)
    X = [rng.normal(size=(rng.integers(3, 9), 2)) for _ in range(number)]
    return X, np.array([1000 + 50 * x[-1, 0] for x in X])


def test_a_classifier_learns_and_stops() -> None:
    X, y = recordings(80)
    classifier = SequenceClassifier(hidden_size=12, patience=3, batch_size=4, random_state=0).fit(X, y)
    assert classifier.score(*recordings(seed=1)) > 0.8
    validated = [epoch for epoch in classifier.history_ if epoch["validation_loss"] is not None]
    assert len(validated) == classifier.n_iter_ < 50 and len(classifier.history_) == 2 * classifier.n_iter_
    proba = classifier.predict_proba(X)
    np.testing.assert_allclose(proba.sum(1), 1)
    assert (classifier.classes_[proba.argmax(1)] == classifier.predict(X)).all()


def test_a_regressor_predicts_in_the_units_of_the_targets() -> None:
    X, y = sums()
    regressor = SequenceRegressor(hidden_size=16, random_state=0, validation=0).fit(X, y)
    assert regressor.score(X, y) > 0.8
    batch = tg.tensor(X[0][:, None].astype("f"))
    assert regressor.model_(batch).item() == pytest.approx(float(regressor.predict(X[:1])[0]), rel=1e-5)


@pytest.mark.parametrize("cell", ["rnn", "lem", "mlstm", "lstm_projection"])
def test_any_cell_of_the_atlas(cell: str, tmp_path: Path) -> None:
    X, y = recordings()
    settings = {**QUICK, "cell": cell, "num_layers": 2, "bidirectional": True, "dropout": 0.2}
    classifier = SequenceClassifier(**settings).fit(X, y)
    classifier.save(tmp_path / "a.safetensors")
    assert (load(tmp_path / "a.safetensors").predict_proba(X) == classifier.predict_proba(X)).all()


def test_a_seed_decides_everything_and_the_librarys_numbers_go_on() -> None:
    X, y = recordings()
    tg.manual_seed(5)
    expected = tg.randn(3).tolist()
    tg.manual_seed(5)
    first, second = (SequenceClassifier(**QUICK, dropout=0.3).fit(X, y).predict_proba(X) for _ in range(2))
    assert tg.randn(3).tolist() == expected
    assert (first == second).all()
    other = SequenceClassifier(**{**QUICK, "random_state": 1}).fit(X, y).predict_proba(X)
    assert (first != other).any()


def test_the_ways_to_give_sequences() -> None:
    table = np.random.default_rng(0).normal(size=(20, 5))
    y = [0, 1] * 10
    expected = SequenceClassifier(**QUICK).fit(table, y).predict_proba(table)
    for X in (table.tolist(), table[:, :, None], list(table), [list(row) for row in table]):
        assert (SequenceClassifier(**QUICK).fit(X, y).predict_proba(X) == expected).all()
    classifier = SequenceClassifier(**QUICK).fit([[1.0, 2.0], [3.0], [1.0, 0.0], [4.0]], y[:4])
    assert classifier.predict([[1.0], [2.0, 3.0, 4.0]]).shape == (2,)


def test_inputs_are_standardised_by_the_training_data() -> None:
    X, y = recordings()
    far = [100 + 1000 * x for x in X]
    one, other = SequenceClassifier(**QUICK).fit(X, y), SequenceClassifier(**QUICK).fit(far, y)
    np.testing.assert_allclose(one.predict_proba(X), other.predict_proba(far), atol=1e-3)
    steps = np.concatenate(far)
    scaling = other.model_.standardization
    assert scaling is not None
    np.testing.assert_allclose(scaling.mean.numpy(), steps.mean(0), rtol=1e-5)
    np.testing.assert_allclose(scaling.std.numpy(), steps.std(0), rtol=1e-5)
    constant = [np.concatenate([x, np.full((len(x), 1), 7.3)], axis=1) for x in X]
    assert np.isfinite(SequenceClassifier(**QUICK).fit(constant, y).predict_proba(constant)).all()


def test_partial_fits_go_on() -> None:
    X, y = recordings(80)
    classifier = SequenceClassifier(hidden_size=8, random_state=0)
    classifier.partial_fit(X[:20], y[:20], classes=["high", "low", "unseen"])
    for _ in range(30):
        classifier.partial_fit(X, y)
    assert classifier.score(X, y) > 0.9 and classifier.predict_proba(X).shape == (80, 3)
    regressor = SequenceRegressor(hidden_size=16, batch_size=2, random_state=0).partial_fit(*sums())
    assert [epoch["epoch"] for epoch in regressor.history_] == [1]
    regressor.set_params(batch_size=32)
    for _ in range(79):
        regressor.partial_fit(*sums())
    assert regressor.score(*sums()) > 0.7 and regressor.n_iter_ == 80


@pytest.mark.parametrize("kind", [SequenceClassifier, SequenceRegressor])
def test_it_is_saved_without_code(kind: Any, tmp_path: Path) -> None:
    X, labels = recordings()
    y = labels if kind is SequenceClassifier else sums(40)[1]
    estimator = kind(**QUICK).fit(X, y)
    estimator.save(tmp_path / "a.safetensors")
    again = load(tmp_path / "a.safetensors")
    assert again.get_params() == estimator.get_params() and again.n_features_in_ == 2
    for twin in (again, pickle.loads(pickle.dumps(estimator))):
        assert (twin.predict(X) == estimator.predict(X)).all()
        twin.partial_fit(X, y)
    network = tg.io.load_model(tmp_path / "a.safetensors")
    x = tg.tensor(X[0][:, None].astype("f"))
    assert network(x).tolist() == estimator.model_(x).tolist()


def test_predictions_have_the_order_of_the_sequences() -> None:
    """They are computed in batches of similar lengths."""
    X, y = recordings(300)
    classifier = SequenceClassifier(**QUICK).fit(X[:40], y[:40])
    together, alone = classifier.predict_proba(X), [classifier.predict_proba([x])[0] for x in X]
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert len(np.unique(together[:, 0])) > 200


def test_parameters_of_a_search_are_saved(tmp_path: Path) -> None:
    """They are NumPy's numbers."""
    X, y = recordings()
    settings = {"hidden_size": np.int64(6), "epochs": np.int64(2), "lr": np.float64(0.02), "random_state": np.int64(3)}
    classifier = SequenceClassifier(**settings, bidirectional=np.True_).fit(X, y, out=tmp_path / "run")
    classifier.save(tmp_path / "a.safetensors")
    again = load(tmp_path / "a.safetensors")
    assert again.get_params() == classifier.get_params() and type(again.hidden_size) is int
    resumed = SequenceClassifier(hidden_size=6, epochs=2, lr=0.02, random_state=3, bidirectional=True)
    resumed.fit(X, y, out=tmp_path / "run", resume=True)
    assert (resumed.predict_proba(X) == classifier.predict_proba(X)).all()


def test_a_file_has_the_parameters_of_its_network(tmp_path: Path) -> None:
    """Not those that are set for a later fit."""
    X, y = recordings()
    classifier = SequenceClassifier(**QUICK).fit(X, y).set_params(hidden_size=20, cell="mgu", lr=0.5)
    classifier.save(tmp_path / "a.safetensors")
    again = load(tmp_path / "a.safetensors")
    assert (again.hidden_size, again.cell, again.lr) == (6, "lstm", 0.5)
    assert (again.predict_proba(X) == classifier.predict_proba(X)).all()


def test_a_partial_fit_has_the_learning_rate_of_its_call() -> None:
    X, y = recordings()
    classifier = SequenceClassifier(**QUICK).partial_fit(X, y)
    before = classifier.model_.output.weight.detach().numpy().copy()
    classifier.set_params(lr=1e-30).partial_fit(X, y)
    np.testing.assert_array_equal(classifier.model_.output.weight.detach().numpy(), before)


@pytest.mark.parametrize("kind", [SequenceClassifier, SequenceRegressor])
def test_partial_fits_go_on_after_a_file_as_without_it(kind: Any, tmp_path: Path) -> None:
    X, labels = recordings()
    y = labels if kind is SequenceClassifier else sums(40)[1]
    estimator = kind(**QUICK).partial_fit(X, y).partial_fit(X, y)
    estimator.save(tmp_path / "a.safetensors")
    again = load(tmp_path / "a.safetensors").partial_fit(X, y)
    estimator.partial_fit(X, y)
    assert (again.model_.output.weight == estimator.model_.output.weight).all()
    assert (again.predict(X) == estimator.predict(X)).all()


@pytest.mark.parametrize(
    "change",
    [
        {"estimator": "Other"},
        {"parameters": {"hidden_size": 10**9}},
        {"parameters": {"num_layers": 10**9}},
        {"parameters": {"unknown": 1}},
        {"features": 10**9},
        {"columns": -1},
        {"labels": []},
        {"labels": ["b", "a"]},
        {"labels_dtype": "V8"},
        {"weights": {}},
        {"epochs": None},
        {"optimizer": {}},
        {"optimizer": {"state": {}, "param_groups": []}},
    ],
    ids=str,
)
def test_invalid_files_are_refused(change: dict[str, Any], tmp_path: Path) -> None:
    SequenceClassifier(**QUICK).fit(*recordings()).save(tmp_path / "a.safetensors")
    contents = checkpoint.load(tmp_path / "a.safetensors")
    changed = {**contents, **change}
    if "parameters" in change:
        changed["parameters"] = {**contents["parameters"], **change["parameters"]}
    checkpoint.save(tmp_path / "b.safetensors", changed)
    with pytest.raises(ValueError, match=r"b\.safetensors: (its contents are invalid|a checkpoint, but not of)"):
        load(tmp_path / "b.safetensors")


def test_a_prediction_is_looked_into(tmp_path: Path) -> None:
    X, y = recordings()
    classifier = SequenceClassifier(**QUICK).fit(X, y)
    traced = classifier.inspect(X[:2], tmp_path / "page.html", features=["left", "right"])
    assert traced["network.l0"].f.shape[1:] == (2, 6) and (traced["network.l0"].gradients["c"] != 0).any()
    assert traced.loss == pytest.approx(np.log(classifier.predict_proba(X[:2]).max(1)).sum(), abs=1e-5)
    assert "left" in (tmp_path / "page.html").read_text()


def test_the_network_is_streamed_and_exported(tmp_path: Path) -> None:
    X, y = recordings()
    model = SequenceClassifier(**QUICK).fit([5 + 3 * x for x in X], y).model_
    x = (5 + 3 * X[0][:, None]).astype("f")
    expected = model(tg.tensor(x)).detach().numpy()
    stream = model.stream()
    np.testing.assert_allclose([stream(step) for step in x][-1], expected, atol=1e-6)
    np.testing.assert_allclose(model.stream()(x)[-1], expected, atol=1e-6)
    np.testing.assert_allclose(pickle.loads(pickle.dumps(model.stream()))(x)[-1], expected, atol=1e-6)
    tg.io.export_onnx(model, tmp_path / "a.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx")
    given = {name: part.numpy() for name, part in model.example_inputs(len(x), 1).items()}
    given |= {"x": x, "lengths": np.array([len(x)])}
    states = {name: np.zeros_like(given[name]) for name in ("h0", "c0")}
    names = {each.name for each in session.get_inputs()}
    feeds = {name: value for name, value in {**given, **states}.items() if name in names}
    np.testing.assert_allclose(session.run(["output"], feeds)[0], expected, atol=1e-5)


def test_an_interrupted_fit_keeps_the_best_network(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = recordings()
    train_on, steps = Trainer._train_on, []

    def interrupted(self: Any, group: Any) -> Any:
        steps.append(group)
        if len(steps) == 6:
            raise KeyboardInterrupt
        return train_on(self, group)

    monkeypatch.setattr(Trainer, "_train_on", interrupted)
    with pytest.warns(UserWarning, match=r"fit: interrupted; the network of 2 epochs is kept"):
        classifier = SequenceClassifier(**QUICK).fit(X, y)
    assert classifier.predict(X).shape == (40,)
    steps[:] = [None] * 5
    with pytest.raises(KeyboardInterrupt):
        SequenceClassifier(**QUICK).fit(X, y)


def same_in_a_group(seed: int) -> tuple[list[Any], Any, list[str]]:
    """Sequences that differ only between groups, as do their targets, which nothing else tells."""
    rng = np.random.default_rng(seed)
    level, target = rng.normal(size=(12, 3)), rng.normal(size=12)
    group_of = rng.permutation(np.repeat(np.arange(12), 5))
    return [np.tile(level[k], (4, 1)) for k in group_of], target[group_of], [f"person {k}" for k in group_of]


@pytest.mark.parametrize("kind", [SequenceClassifier, SequenceRegressor])
def test_no_group_is_validated_and_trained_on(kind: Any) -> None:
    """A network that has seen a sequence of a group knows the targets of all."""
    X, y, groups = same_in_a_group(0)
    y = (y > np.median(y)).astype(int) if kind is SequenceClassifier else y / y.std()
    settings: dict[str, Any] = {"epochs": 40, "validation": 0.5, "batch_size": 8, "lr": 0.02, "random_state": 0}

    def lowest(**given: Any) -> float:
        history = kind(**settings).fit(X, y, **given).history_
        return min(each["validation_loss"] for each in history if each["validation_loss"] is not None)

    assert lowest() < 0.05 and lowest(groups=groups) > 0.2


def test_groups_that_cannot_be_divided() -> None:
    X, y = recordings()

    def fault(groups: Any, **changed: Any) -> str:
        with pytest.raises(ValueError, match=r"^SequenceClassifier\.fit: ") as raised:
            SequenceClassifier(**{**QUICK, **changed}).fit(X, y, groups=groups)
        return str(raised.value).partition(": ")[2]

    assert fault(["a"] * 40) == "there is 1 group, none for training and validation; give more, or validation=0"
    assert fault(["a"] * 3) == "groups has shape (3,); expected (40,), the group of each sequence"
    assert fault(["a"] * 39 + [None]) == "groups has None in row 39; expected the name or number of a group"
    assert fault(y).startswith("each group has a class that no other group has, so none can be put aside")
    # "first" has all rows of a class but one, so it is never put aside, whatever the seed.
    groups = ["first" if label == "low" else f"other {k % 3}" for k, label in enumerate(y)]
    groups[0] = "last"
    for seed in range(5):
        SequenceClassifier(**{**QUICK, "epochs": 1, "random_state": seed, "validation": 0.9}).fit(X, y, groups=groups)
    SequenceClassifier(**QUICK, validation=0).fit(X, y, groups=y)


GOOD = [np.ones((2, 2)), np.zeros((3, 2)), np.ones((4, 2)), np.zeros((2, 2))]
WITH_NAN = [*GOOD[:2], np.array([[0, 1], [2, np.nan]]), GOOD[3]]


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        (
            WITH_NAN,
            [0, 1, 0, 1],
            "row 2 of X, step 1, feature 1: the number is NaN or missing; expected finite numbers",
        ),
        ([[0, 1], [np.inf, 0]], [0, 1], "row 1 of X, column 0: the number is infinite, or too large"),
        ([*GOOD[:3], np.ones((0, 2))], [0, 1, 0, 1], "row 3 of X: the sequence is empty; expected at least one step"),
        ([*GOOD[:3], np.ones((2, 3))], [0, 1, 0, 1], "row 3 of X: 3 features; expected 2, as row 0 of X has"),
        (
            [*GOOD[:3], np.ones((2, 3, 4))],
            [0, 1, 0, 1],
            r"row 3 of X: the sequence has shape \(2, 3, 4\); expected \(T, F\)",
        ),
        ([[0, 1], ["a", 0]], [0, 1], "row 1 of X has something that is not a number"),
        ([], [], "X has no sequences; expected at least one"),
        (np.ones(4), [0, 1, 0, 1], r"X has shape \(4,\); expected a list of arrays"),
        (GOOD, [0, 1, 0], "y has 3 targets, X 4 sequences"),
        (GOOD, [1, 1, 1, 1], "y has 1 class, 1; expected at least two"),
        (GOOD, ["a", "a", "b", "a"], "class 'b' has only one member, row 2; .* or validation=0"),
        (GOOD, [0, 1, float("nan"), 1], "y has nan in row 2; expected a label"),
        (GOOD, [0, 1, 0.5, 1], "Unknown label type: continuous, y has 0.5 in row 2"),
        (GOOD, np.array([0, "a", None, 1], object), "y has None in row 2; expected a label"),
        (GOOD, np.ones((4, 2)), r"y has shape \(4, 2\); expected \(4,\)"),
        (GOOD, ["a", float("nan"), "b", "a"], "y has nan in row 1; expected a label"),
        (GOOD, ["a", 1, "a", 1], "y has labels of the types int, str; expected one type"),
        (GOOD, [b"a", b"b", b"a", b"b"], "y has the label b'a' in row 0, of type bytes; expected an integer"),
        ([1, 2, 3, 4], [0, 1, 0, 1], r"row 0 of X: the sequence has shape \(\); expected \(T, F\)"),
        (None, [0, 1, 0, 1], "X is of type NoneType; expected a list of arrays"),
    ],
)
def test_invalid_data_is_named_before_training(X: Any, y: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^SequenceClassifier.fit: {message}"):
        SequenceClassifier(**QUICK).fit(X, y)


def test_invalid_data_after_training_is_named() -> None:
    classifier = SequenceClassifier(**QUICK).fit(*recordings())
    X, _ = recordings()
    with pytest.raises(ValueError, match=r"score: y has the label 'new' in row 1, which was not in training; .*'low'"):
        classifier.score(X[:2], ["low", "new"])
    with pytest.raises(ValueError, match="X has 3 features, but SequenceClassifier is expecting 2 features"):
        classifier.predict([np.ones((2, 3))])
    with pytest.raises(ValueError, match="row 1 of y: the number is NaN or missing; expected finite numbers"):
        SequenceRegressor().fit(X[:2], [1.0, np.nan])
    with pytest.raises(ValueError, match="row 1 of y: the number is infinite, or too large for float32"):
        SequenceRegressor().fit(X[:2], [1.0, 1e300])
    with pytest.raises(ValueError, match=r"y varies by only 0.5 around 1e\+06, .* float32"):
        SequenceRegressor().fit(X[:2], [1e6, 1e6 + 1])
    before = classifier.predict_proba(X)
    with pytest.raises(ValueError, match="1 class"):
        classifier.fit(X, ["low"] * 40)
    assert (classifier.predict_proba(X) == before).all()


def test_a_feature_that_float32_would_round_away_is_named() -> None:
    X, y = recordings()
    seconds = [np.column_stack([x, 1.7e9 + np.arange(len(x))]) for x in X]
    for learn in (SequenceClassifier.fit, SequenceClassifier.partial_fit):
        with pytest.raises(ValueError, match=r"fit: feature 2 of X varies by only .* around 1\.7e\+09, .*; subtract a"):
            learn(SequenceClassifier(**QUICK), seconds, y)
    with pytest.raises(ValueError, match=r"fit: X varies by only 1 around 1e\+09, .* float32"):
        SequenceClassifier(**QUICK).fit(np.array([[10**9, 10**9 + 2]] * 4), [0, 1, 0, 1])
    # Days are kept; and numbers that only the rounding of float64 tells apart are one number.
    kept = [
        np.column_stack([x, 1.7e9 + 86400.0 * np.arange(len(x)), np.tile([0.3, 0.1 + 0.2], len(x))[: len(x)]])
        for x in X
    ]
    classifier = SequenceClassifier(**QUICK).fit(kept, y)
    classifier.predict([np.column_stack([X[0], 1.7e9 + np.arange(len(X[0])), X[0][:, 0]])])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cell", "lstmm"),
        ("cell", None),
        ("hidden_size", 0),
        ("epochs", 1.5),
        ("bidirectional", "no"),
        ("lr", 0),
        ("lr", "0.1"),
        ("dropout", 1),
        ("validation", 1.0),
        ("random_state", -1),
    ],
)
def test_invalid_parameters_are_named(name: str, value: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=rf"SequenceClassifier(\.fit)?: .*{name}"):
        SequenceClassifier(**{name: value}).fit(*recordings())
    with pytest.raises(ValueError, match=r"expected parameters among .*, got 'size'"):
        SequenceClassifier().set_params(size=3)


def test_it_shows_what_is_not_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert repr(SequenceRegressor(cell="mgu", lr=0.1)) == "SequenceRegressor(cell='mgu', lr=0.1)"
    SequenceClassifier(**{**QUICK, "epochs": 1}, verbose=1).fit(*recordings())
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 2 and printed[0].startswith("epoch 1: loss 0.") and ", validation 0." in printed[0]
