"""The adapters for sktime and aeon pass these libraries' own checks, in the environment of `make test-adapters`."""

import doctest
import importlib
from typing import Any

import numpy as np
import pytest

WITHOUT = "it is not installed here; `make test-adapters` runs this file"
pytest.importorskip("sktime", reason=WITHOUT)
pytest.importorskip("aeon", reason=WITHOUT)

from aeon.testing.estimator_checking import parametrize_with_checks as parametrize_with_aeons_checks  # noqa: E402
from sktime.utils.estimator_checks import check_estimator  # noqa: E402
from sktime.utils.estimator_checks import parametrize_with_checks as parametrize_with_sktimes_checks  # noqa: E402

from tinygrad_lstm.estimators import SequenceClassifier, SequenceRegressor  # noqa: E402
from tinygrad_lstm.estimators import aeon as for_aeon  # noqa: E402
from tinygrad_lstm.estimators import sktime as for_sktime  # noqa: E402


@parametrize_with_sktimes_checks([for_sktime.SequenceClassifier, for_sktime.SequenceRegressor])
def test_sktimes_checks_pass(obj: Any, test_name: str) -> None:
    results = check_estimator(obj, tests_to_run=test_name, raise_exceptions=True, verbose=False)
    assert all(result == "PASSED" for result in results.values())


@parametrize_with_aeons_checks([for_aeon.SequenceClassifier, for_aeon.SequenceRegressor])
def test_aeons_checks_pass(check: Any) -> None:
    check()


@pytest.mark.parametrize("module", [for_sktime, for_aeon], ids=["sktime", "aeon"])
def test_examples(module: Any) -> None:
    found = doctest.testmod(module)
    assert found.attempted and not found.failed


def recordings() -> tuple[list[Any], Any, Any]:
    """Sequences (T_b, 2), and a label and a number of each."""
    rng = np.random.default_rng(0)
    X = [rng.normal(size=(rng.integers(3, 9), 2)) + (k % 2) for k in range(30)]
    return X, np.array(["low", "high"] * 15), np.array([sequence[-1, 0] for sequence in X])


@pytest.mark.parametrize("framework", ["sktime", "aeon"])
@pytest.mark.parametrize("plain", [SequenceClassifier, SequenceRegressor])
def test_it_learns_what_the_plain_estimator_learns(framework: str, plain: Any) -> None:
    """Series of several variables and different lengths arrive step by step, not transposed."""
    import pandas as pd

    X, labels, numbers = recordings()
    y = labels if plain is SequenceClassifier else numbers
    as_series: Any = [sequence.T for sequence in X] if framework == "aeon" else [pd.DataFrame(each) for each in X]
    module = importlib.import_module(f"tinygrad_lstm.estimators.{framework}")
    parameters = {"cell": "mgu", "hidden_size": 5, "epochs": 3, "lr": 0.02, "random_state": 7}
    adapter = getattr(module, plain.__name__)(**parameters).fit(as_series, y)
    expected = plain(**parameters).fit(X, y)
    assert (adapter.predict(as_series) == expected.predict(X)).all()
    if plain is SequenceClassifier:
        assert (adapter.predict_proba(as_series) == expected.predict_proba(X)).all()
    assert isinstance(adapter.estimator_, plain) and adapter.estimator_.history_ == expected.history_
