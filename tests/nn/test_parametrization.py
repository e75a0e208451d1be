"""Weight normalization."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_exports import Runner

import tinygrad_lstm as tg
from tinygrad_lstm import nn
from tinygrad_lstm.models import LSTM, LSTMCell, Recurrent


def host(tensor: tg.Tensor) -> np.ndarray[Any, Any]:
    return tensor.detach().cpu().numpy()


def first(given: Any) -> tg.Tensor:
    found: tg.Tensor = given[0] if isinstance(given, tuple) else given
    return found


Make = tuple[Callable[[], nn.Module], str, tuple[int, ...]]
MODULES: dict[str, Make] = {
    "Linear": (lambda: nn.Linear(3, 4), "weight", (5, 3)),
    "Conv1d": (lambda: nn.Conv1d(3, 4, 2), "weight", (5, 3, 6)),
    "LSTM": (lambda: LSTM(3, 4), "weight_hh_l0", (5, 2, 3)),
    "Recurrent": (lambda: Recurrent(nn.weight_norm(LSTMCell(3, 4), "weight")), "", (5, 2, 3)),
}


def normalized(name: str, dim: int | None = 0) -> tuple[nn.Module, nn.Module, str]:
    """A module before and after weight_norm, and where its weight is."""
    make, weight, _ = MODULES[name]
    if not weight:
        layer = make()
        return layer, layer.cells[0], "weight"
    module = make()
    return module, nn.weight_norm(module, weight, dim), weight


@pytest.mark.parametrize("dim", [0, 1, None])
@pytest.mark.parametrize("name", ["Linear", "Conv1d", "LSTM"])
def test_the_weight_is_a_length_times_a_direction(name: str, dim: int | None, place: str) -> None:
    make, weight, shape = MODULES[name]
    module, x = make(), tg.randn(*shape)
    before, out = host(getattr(module, weight)), host(first(module(x)))
    assert nn.weight_norm(module, weight, dim) is module
    np.testing.assert_allclose(host(getattr(module, weight)), before, rtol=1e-5)
    np.testing.assert_allclose(host(first(module(x))), out, rtol=1e-4, atol=1e-5)
    names = [name for name, _ in module.named_parameters()]
    assert names[-2:] == [f"parametrizations.{weight}.original0", f"parametrizations.{weight}.original1"]
    assert weight not in names and list(module.state_dict()) == names
    g, v = (dict(module.named_parameters())[name] for name in names[-2:])
    with tg.no_grad():
        g.mul_(2)
        v.mul_(3)
    axes = tuple(axis for axis in range(v.ndim) if axis != dim)
    assert g.shape == (() if dim is None else tuple(1 if axis in axes else n for axis, n in enumerate(v.shape)))
    expected = host(g) * host(v) / np.sqrt((host(v) ** 2).sum(axes, keepdims=dim is not None))
    np.testing.assert_allclose(host(getattr(module, weight)), expected, rtol=1e-5)
    np.testing.assert_allclose(expected, 2 * before, rtol=1e-5)


@pytest.mark.parametrize("name", MODULES)
def test_length_and_direction_are_trained(name: str, place: str) -> None:
    model, owner, weight = normalized(name)
    shape = MODULES[name][2]
    x, trained = tg.randn(*shape), dict(owner.named_parameters())
    optimizer = tg.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = (first(model(x)) - 0.3).square().mean()
        loss.backward()
        losses.append(loss.item())
        optimizer.step()
    optimizer.zero_grad()
    assert losses == sorted(losses, reverse=True)
    first(model(x)).square().sum().backward()
    for part in ("original0", "original1"):
        assert trained[f"parametrizations.{weight}.{part}"].grad is not None
    v = owner.parametrizations[weight].original1  # whose length has no effect
    np.testing.assert_allclose((host(v) * host(v.grad)).sum(), 0, atol=1e-4)


def test_derivatives(device: str) -> None:
    layer = nn.weight_norm(nn.Linear(3, 2).to(device, "float64"))
    x = tg.tensor(np.random.default_rng(0).normal(size=(4, 3)), device=device)
    names = ["parametrizations.weight.original0", "parametrizations.weight.original1"]

    def function(g: tg.Tensor, v: tg.Tensor) -> Any:
        return tg.func.functional_call(layer, dict(zip(names, (g, v), strict=True)), (x,))

    inputs = [tg.tensor(layer.state_dict()[name], device=device, requires_grad=True) for name in names]
    assert tg.gradcheck(function, inputs, atol=1e-6) and tg.gradgradcheck(function, inputs, atol=1e-6)


@pytest.mark.parametrize("name", MODULES)
def test_a_removed_parametrization_leaves_the_weight(name: str, place: str) -> None:
    model, owner, weight = normalized(name)
    x = tg.randn(*MODULES[name][2])
    out, value = host(first(model(x))), host(getattr(owner, weight))
    for same in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(host(first(same(x))), out)
    assert nn.remove_parametrizations(owner, weight) is owner
    assert isinstance(vars(owner)[weight], nn.Parameter) and not hasattr(owner, "parametrizations")
    np.testing.assert_array_equal(host(getattr(owner, weight)), value)
    np.testing.assert_allclose(host(first(model(x))), out, rtol=1e-5, atol=1e-6)


def test_several_weights_of_a_module(place: str) -> None:
    layer = LSTM(3, 4)
    for name in ("weight_ih_l0", "weight_hh_l0"):
        nn.weight_norm(layer, name)
    assert [name for name, _ in layer.parametrizations.named_children()] == ["weight_ih_l0", "weight_hh_l0"]
    nn.remove_parametrizations(layer, "weight_ih_l0")
    assert [name for name, _ in layer.named_parameters()][:2] == ["bias_l0", "weight_ih_l0"]
    twin = nn.weight_norm(LSTM(3, 4), "weight_hh_l0")
    twin.load_state_dict(layer.state_dict())
    x = tg.randn(5, 2, 3)
    np.testing.assert_array_equal(host(twin(x)[0]), host(layer(x)[0]))


def test_a_frozen_weight_stays_frozen() -> None:
    layer = nn.weight_norm(nn.Linear(3, 4).freeze("weight"))
    assert [name for name, parameter in layer.named_parameters() if parameter.requires_grad] == ["bias"]
    assert not nn.remove_parametrizations(layer, "weight").weight.requires_grad


@pytest.mark.parametrize("name", ["Linear", "LSTM"])
def test_export(name: str, tmp_path: Path) -> None:
    tg.manual_seed(0)
    model, _, weight = normalized(name)
    x = tg.randn(*MODULES[name][2])
    run = Runner(model, {"x": x}, tmp_path, **({} if name == "LSTM" else {"dynamic": {"x": {0: "batch"}}}))
    np.testing.assert_allclose(next(iter(run(x=x).values())), host(first(model(x))), rtol=1e-4, atol=1e-5)
    if name == "LSTM":
        tg.io.export_torch(model, tmp_path / "model.safetensors")
        np.testing.assert_array_equal(
            tg.io.load_weights(tmp_path / "model.safetensors")[weight], host(getattr(model, weight))
        )


def test_what_properties_raise_is_not_hidden() -> None:
    class WithProperty(nn.Module):
        @property
        def broken(self) -> Any:
            return self.missing  # type: ignore[attr-defined]

    with pytest.raises(AttributeError, match="'WithProperty' object has no attribute 'missing'"):
        _ = WithProperty().broken


def with_adapter() -> nn.Module:
    layer = nn.Linear(3, 4)
    nn.add_lora(layer, rank=2)
    return layer


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nn.weight_norm(nn.Linear(3, 4), "w"), ValueError, "'w' is not one of its parameters: Linear"),
        (lambda: nn.weight_norm(nn.weight_norm(nn.Linear(3, 4))), ValueError, "'weight' is parametrized already"),
        (
            lambda: nn.weight_norm(nn.Linear(3, 4), dim=2),
            ValueError,
            r"dim 2 is out of range .* \(4, 3\); or give None",
        ),
        (lambda: nn.weight_norm(nn.Linear(3, 4), dim=-1), ValueError, "dim -1 is out of range"),
        (lambda: nn.weight_norm(with_adapter()), ValueError, "has an adapter; call merge_lora before"),
        (lambda: nn.remove_parametrizations(nn.Linear(3, 4), "weight"), ValueError, "'weight' of this Linear is not"),
        (lambda: setattr(nn.weight_norm(nn.Linear(3, 4)), "weight", None), TypeError, "remove_parametrizations before"),
    ],
)
def test_invalid_arguments_are_refused(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
