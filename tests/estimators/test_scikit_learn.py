"""scikit-learn's own checks of an estimator, and its tools on sequences of different lengths."""

import subprocess
import sys
import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import tinygrad_lstm as tg
from tinygrad_lstm.estimators import SequenceClassifier, SequenceRegressor

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message=".*does not inherit from `sklearn.base.BaseEstimator`")
    scikit_learns_checks = parametrize_with_checks([SequenceClassifier(), SequenceRegressor()])


@pytest.mark.filterwarnings("ignore")
@scikit_learns_checks
def test_scikit_learns_checks_pass(estimator: Any, check: Any) -> None:
    check(estimator)


def recordings(number: int = 30) -> tuple[list[Any], list[str]]:
    rng = np.random.default_rng(0)
    X = [rng.normal(size=(rng.integers(3, 9), 2)) + (k % 2) for k in range(number)]
    return X, ["low", "high"] * (number // 2)


def test_a_grid_search_over_sequences_of_different_lengths() -> None:
    X, y = recordings()
    search = GridSearchCV(
        SequenceClassifier(epochs=20, random_state=0), {"cell": ["gru_reset_after", "mgu"], "hidden_size": [2, 8]}, cv=3
    )
    search.fit(X, y)
    assert search.cv_results_["mean_test_score"].shape == (4,)
    assert search.best_score_ > 0.7
    assert search.predict(X[:3]).shape == (3,)


def test_it_is_cloned_and_part_of_a_pipeline() -> None:
    twin = clone(SequenceRegressor(cell="mgu", hidden_size=3))
    assert twin.get_params() == SequenceRegressor(cell="mgu", hidden_size=3).get_params()
    table = np.random.default_rng(0).normal(size=(20, 4))
    pipeline = make_pipeline(StandardScaler(), twin.set_params(epochs=2)).fit(table, table[:, 0])
    assert pipeline.predict(table).shape == (20,)


def test_it_needs_no_scikit_learn() -> None:
    code = """
import sys
sys.modules["sklearn"] = None
import numpy as np
from tinygrad_lstm.estimators import SequenceClassifier
classifier = SequenceClassifier(hidden_size=2, epochs=1)
try:
    classifier.predict(np.ones((2, 3)))
except ValueError as error:
    assert type(error).__name__ == "NotFittedError" and "call fit first" in str(error)
classifier.fit(np.eye(4), [0, 1, 0, 1]).predict(np.eye(4))
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("library", ["sktime", "aeon"])
def test_an_adapter_without_its_library_says_what_to_install(library: str) -> None:
    code = f"""
import sys
sys.modules[{library!r}] = None
try:
    import tinygrad_lstm.estimators.{library}
except ImportError as error:
    assert str(error).endswith("pip install '.[{library}]' in a checkout of tinygrad_lstm"), error
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_import_loads_neither_plots_nor_formats() -> None:
    code = """
import sys
import tinygrad_lstm.estimators
assert not {"aeon", "matplotlib", "onnx", "rich", "scipy", "sklearn", "sktime", "typer"} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_it_is_imported_when_it_is_used() -> None:
    assert tg.estimators.SequenceClassifier is SequenceClassifier
