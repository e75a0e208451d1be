"""The CTC loss: every path is counted, PyTorch's values, derivatives of both orders, all kernels, and bad arguments."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
from golden.load import load, options
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_lstm as tg

SEEDS = st.integers(0, 2**32 - 1)


def drawn(seed: int, most_steps: int = 5) -> dict[str, Any]:
    """Arguments of `ctc_loss`, with targets of several lengths, some of which are longer than their input."""
    rng = np.random.default_rng(seed)
    T, N, C, S = rng.integers(1, most_steps + 1), rng.integers(1, 4), rng.integers(2, 4), rng.integers(0, 4)
    blank = int(rng.integers(0, C))
    classes = [c for c in range(C) if c != blank]
    return {
        "log_probs": rng.standard_normal((T, N, C)),
        "targets": rng.choice(classes, (N, S)).astype(np.int64),
        "input_lengths": rng.integers(0, T + 1, N),
        "target_lengths": rng.integers(0, S + 1, N),
        "blank": blank,
    }


def by_paths(log_probs: Any, targets: Any, input_lengths: Any, target_lengths: Any, blank: int) -> Any:
    """The losses, from the probability of each path: without repetitions and then blanks, it is the target."""
    losses = []
    for row, target in enumerate(targets):
        total, length = 0.0, input_lengths[row]
        for path in itertools.product(range(log_probs.shape[2]), repeat=length):
            labels = [label for label, _ in itertools.groupby(path) if label != blank]
            if labels == target[: target_lengths[row]].tolist():
                total += math.exp(sum(log_probs[t, row, label] for t, label in enumerate(path)))
        losses.append(-math.log(total) if total else math.inf)
    return np.array(losses)


@given(SEEDS)
def test_every_path_is_counted(device: str, seed: int) -> None:
    arguments = drawn(seed)
    expected = by_paths(**arguments)
    log_probs = tg.tensor(arguments.pop("log_probs"), device=device)
    losses = tg.ctc_loss(log_probs, **arguments, reduction="none")
    np.testing.assert_allclose(losses.cpu().numpy(), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("case", options("ctc"))
def test_values_and_gradients_are_pytorchs(case: str, device: str) -> None:
    arrays = load("ctc", case)
    x = tg.tensor(arrays["x"], device=device, requires_grad=True)
    given = [arrays[name] for name in ("targets", "input_lengths", "target_lengths")]
    out = tg.ctc_loss(x.log_softmax(-1), *given, **options("ctc")[case])
    out.backward(arrays["w_out"])
    np.testing.assert_allclose(out.detach().cpu().numpy(), arrays["out"], rtol=1e-10, atol=1e-10)
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.cpu().numpy(), arrays["grad_x"], rtol=1e-10, atol=1e-10)


@given(SEEDS)
@settings(max_examples=10)
def test_derivatives_of_both_orders(seed: int) -> None:
    arguments = drawn(seed, most_steps=3)
    log_probs = arguments.pop("log_probs")

    def loss(x: tg.Tensor) -> tg.Tensor:
        return tg.ctc_loss(x, **arguments, reduction="none", zero_infinity=True)

    assert tg.gradcheck(loss, [tg.tensor(log_probs, requires_grad=True)])
    assert tg.gradgradcheck(loss, [tg.tensor(log_probs, requires_grad=True)])


@given(SEEDS, st.booleans())
def test_the_gradient_recorded_is_the_same(device: str, seed: int, compiled: bool) -> None:
    arguments = drawn(seed, most_steps=9)
    x = tg.tensor(arguments.pop("log_probs"), device=device, requires_grad=True)
    with tg.compiled_kernels(compiled and None):
        (kernels,) = tg.grad(tg.ctc_loss(x, **arguments, reduction="sum"), [x])
        (composed,) = tg.grad(tg.ctc_loss(x, **arguments, reduction="sum"), [x], create_graph=True)
    np.testing.assert_allclose(kernels.cpu().numpy(), composed.detach().cpu().numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_dtypes(dtype: str, device: str) -> None:
    rng = np.random.default_rng(0)
    exact = rng.standard_normal((30, 3, 5)).astype(dtype)
    found = []
    for array in (exact, exact.astype(np.float64)):
        x = tg.tensor(array, device=device, requires_grad=True)
        loss = tg.ctc_loss(x, [[1, 2, 2], [3, 4, 1], [1, 1, 1]], [30, 7, 20], [3, 2, 0])
        loss.backward()
        assert x.grad is not None and loss.dtype == x.dtype == x.grad.dtype
        found.append([loss.item(), *x.grad.cpu().numpy().ravel()])
    digits = 3e-3 if dtype == "float16" else 2e-6
    np.testing.assert_allclose(*found, rtol=digits, atol=digits)


def test_one_sequence_without_a_batch(device: str) -> None:
    x = tg.tensor(np.random.default_rng(0).standard_normal((6, 4)), device=device)
    alone = tg.ctc_loss(x, [1, 2, 2], [6], [3], reduction="none")
    batch = tg.ctc_loss(x.unsqueeze(1), [[1, 2, 2]], [6], [3], reduction="none")
    assert alone.shape == () and alone.item() == batch.item()
    assert tg.ctc_loss(x, [1, 2, 2], 6, 3, reduction="none").item() == alone.item()


def test_impossible_targets(device: str) -> None:
    x = tg.zeros(2, 1, 3, device=device, requires_grad=True)
    loss = tg.ctc_loss(x, [[1, 1]], [2], [2])  # equal labels need a blank between them
    loss.backward()
    assert loss.item() == math.inf and x.grad is not None and not x.grad.any().item()
    assert tg.ctc_loss(x, [[1, 1]], [2], [2], zero_infinity=True).item() == 0


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"log_probs": tg.zeros(3)}, ValueError, r"log_probs of shape \(3,\); expected \(T, N, C\) or \(T, C\)"),
    ({"blank": 5}, ValueError, "blank is 5; expected one of the 4 classes"),
    ({"blank": 1.0}, TypeError, "blank"),
    ({"targets": [[1, 0], [2, 3]]}, ValueError, "a target is the blank 0; leave blanks out"),
    ({"targets": [[1, 4], [2, 3]]}, IndexError, "4 is out of range"),
    ({"targets": [[1, -1], [2, 3]]}, IndexError, "-1 is out of range"),
    ({"targets": [[1.0, 2.0], [2.0, 3.0]]}, TypeError, "targets must be integers, got float32"),
    ({"targets": [[1], [2]]}, ValueError, r"targets of shape \(2, 1\) do not match target_lengths \[2, 1\]"),
    ({"targets": [1, 2]}, ValueError, r"targets of shape \(2,\) do not match target_lengths \[2, 1\]"),
    ({"input_lengths": [5, 6]}, ValueError, "input_lengths has 6; expected 0 to 5"),
    ({"input_lengths": [5]}, ValueError, r"input_lengths has shape \(1,\); expected \(2,\)"),
    ({"input_lengths": [5.0, 5.0]}, TypeError, "input_lengths must be integers, got float64"),
    ({"target_lengths": [2, -1]}, ValueError, "target_lengths has -1"),
    ({"reduction": "max"}, ValueError, "reduction is 'max'; expected 'mean', 'sum' or 'none'"),
]


@pytest.mark.parametrize(("changed", "error", "message"), BAD)
def test_bad_arguments(changed: dict[str, Any], error: type[Exception], message: str) -> None:
    usual: dict[str, Any] = {
        "log_probs": tg.zeros(5, 2, 4),
        "targets": [[1, 2], [3, 1]],
        "input_lengths": [5, 5],
        "target_lengths": [2, 1],
        "blank": 0,
        "reduction": "mean",
    }
    with pytest.raises(error, match=f"ctc_loss: .*{message}" if error is not TypeError else message):
        tg.ctc_loss(*{**usual, **changed}.values())
