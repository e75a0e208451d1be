"""Gradients for each example of a batch: those of one example after the other."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_lstm as tg
from tinygrad_lstm import func, nn
from tinygrad_lstm.models import GRU, LSTM, RNN, ManyToOne

SEEDS = st.integers(0, 2**32 - 1)


def loss(w: Any, x: tg.Tensor, y: tg.Tensor, scale: float = 1.0, *, power: int = 2) -> tg.Tensor:
    """Of one example: x (I,), y (O,); w a dict of a matrix (O, I) and a float."""
    return ((((w["matrix"] @ x).tanh() - y) * w["factor"]) ** power).sum() * scale


@given(SEEDS, st.integers(0, 4))
def test_rows_are_the_gradients_of_the_examples(seed: int, B: int) -> None:
    rng = np.random.default_rng(seed)
    w = {"matrix": rng.standard_normal((2, 3)), "factor": 1.5}
    x, y = rng.standard_normal((B, 3)), rng.standard_normal((B, 2))
    g = func.per_example_grad(loss)(w, x, y, 3.0, power=4)
    assert type(g["matrix"]) is np.ndarray and g["matrix"].shape == (B, 2, 3) and g["factor"].shape == (B,)
    for b in range(B):
        one = func.grad(loss)(w, x[b], y[b], 3.0, power=4)
        np.testing.assert_array_equal(g["matrix"][b], one["matrix"])
        assert g["factor"][b] == one["factor"]


def test_argnums_and_trees_of_batches() -> None:
    rng = np.random.default_rng(0)
    w, v = rng.standard_normal((2, 3)), rng.standard_normal(2)
    batch = {"x": rng.standard_normal((4, 3)), "ids": [np.array([0, 1, 1, 0])], "name": "any"}

    def function(batch: Any, w: tg.Tensor, v: tg.Tensor) -> tg.Tensor:
        assert batch["x"].shape == (3,) and batch["ids"][0].shape == () and batch["name"] == "any"
        return (w @ batch["x"] * v)[batch["ids"][0]]

    for argnums in ((1, 2), (-2, -1)):
        gw, gv = func.per_example_grad(function, argnums)(batch, w, v)
        for b, k in enumerate(batch["ids"][0]):
            np.testing.assert_allclose(gw[b], v[k] * np.eye(2)[k][:, None] * batch["x"][b])
            np.testing.assert_allclose(gv[b], np.eye(2)[k] * (w @ batch["x"][b]))


@pytest.mark.parametrize("kind", [LSTM, GRU, RNN], ids=lambda kind: kind.__name__)
def test_of_a_recurrent_model_they_are_what_the_batch_adds_up(kind: Any, device: str) -> None:
    """Of padded sequences; and their mean is the gradient of the mean loss of the whole batch."""
    tg.manual_seed(0)
    model = ManyToOne(kind(3, 4, num_layers=2, bidirectional=True), 5).to(device, "float64")
    place = tg.zeros(1, device=device).device.backend
    x = tg.randn(3, 6, 3, dtype="float64", device=device)  # examples first
    y, lengths = np.array([1, 0, 4]), np.array([6, 1, 4])
    parameters = {name: place.from_host(value) for name, value in model.state_dict().items()}

    def one(parameters: Any, x: tg.Tensor, y: tg.Tensor, length: tg.Tensor) -> tg.Tensor:
        out = func.functional_call(model, parameters, (x.reshape(6, 1, 3), None, length.reshape(1)))
        return tg.cross_entropy(out, y.reshape(1))

    def mean(parameters: Any) -> tg.Tensor:
        out = func.functional_call(model, parameters, (x.permute((1, 0, 2)), None, lengths))
        return tg.cross_entropy(out, tg.tensor(y, device=device))

    found = func.per_example_grad(one)(parameters, x, place.from_host(y), place.from_host(lengths))
    expected = func.grad(mean)(parameters)
    for name, g in found.items():
        assert g.shape == (3, *expected[name].shape) and place.owns(g)
        mean_of_rows = place.to_host(g).mean(0)
        np.testing.assert_allclose(mean_of_rows, place.to_host(expected[name]), rtol=1e-9, atol=1e-12)


def test_within_other_transformations_they_stay_in_the_graph() -> None:
    rng = np.random.default_rng(1)
    w, x = rng.standard_normal(3), rng.standard_normal((4, 3))
    function = lambda w, x: (w * x).sum() ** 3  # noqa: E731

    def mean_squared_norm(w: Any, x: Any) -> tg.Tensor:
        return (func.per_example_grad(function)(w, x) ** 2).sum()

    # The gradient of an example is 3 s² x, with s = w·x; its squared norm 9 s⁴ |x|².
    gw, gx = func.grad(mean_squared_norm, (0, 1))(w, x)
    s, n = x @ w, (x**2).sum(1)
    np.testing.assert_allclose(gw, (36 * s**3 * n) @ x)
    np.testing.assert_allclose(gx, 36 * (s**3 * n)[:, None] * w + 18 * (s**4)[:, None] * x)
    _, tangent = func.jvp(lambda w: func.per_example_grad(function)(w, x), (w,), (np.ones(3),))
    np.testing.assert_allclose(tangent, (6 * s * x.sum(1))[:, None] * x)

    weight = tg.tensor(w, requires_grad=True)
    rows = func.per_example_grad(function)(weight, x)
    assert rows.requires_grad and weight.grad is None
    assert not func.per_example_grad(function)(weight.detach(), x).requires_grad


def test_only_some_examples_have_a_graph() -> None:
    """Where the function decides by value; what is constant has the gradient zero."""
    scale = tg.tensor(2.0, dtype="float64", requires_grad=True)
    function = lambda w, x: w * scale if x.item() > 0 else w * 3  # noqa: E731
    rows = func.per_example_grad(function)(tg.tensor(1.0, dtype="float64"), np.array([1.0, -1.0, 1.0]))
    assert rows.tolist() == [2.0, 3.0, 2.0]
    assert tg.grad(rows.sum(), scale)[0].item() == 2.0


def test_dropout_differs_between_examples() -> None:
    rows = func.per_example_grad(lambda w, x: tg.dropout(w, 0.5).sum() * x)(np.ones(64), np.ones(2))
    assert set(np.unique(rows)) == {0.0, 2.0} and not np.array_equal(rows[0], rows[1])


def test_errors() -> None:
    w = np.ones(3)
    g = func.per_example_grad(lambda w, *rest: w.sum())
    with pytest.raises(ValueError, match=r"^per_example_grad: expected arrays .*, got \(2, 3\) and \(4,\)$"):
        g(w, np.ones((2, 3)), np.ones(4))
    with pytest.raises(ValueError, match=r"^per_example_grad: expected arrays .*, got no array$"):
        g(w, 3)
    with pytest.raises(ValueError, match=r"^per_example_grad: expected arrays .*, got \(\)$"):
        g(w, np.array(3.0))
    with pytest.raises(ValueError, match=r"^per_example_grad: the function returned \(3,\); it must return a scalar"):
        func.per_example_grad(lambda w, x: w * x)(w, np.ones(2))
    with pytest.raises(TypeError, match=r"^per_example_grad: expected floats"):
        g(np.arange(3), np.ones((0, 3)))
    with pytest.raises(ValueError, match=r"^per_example_grad: argnums 1 names no argument"):
        func.per_example_grad(lambda w: w, 1)(w)
    assert func.per_example_grad(nn.Linear.forward).__name__ == "forward"
