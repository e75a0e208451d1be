"""Modules as functions of their parameters, and what is differentiated through them."""

from typing import Any

import numpy as np
import pytest

import tinygrad_lstm as tg
from tinygrad_lstm import func, nn
from tinygrad_lstm.models import GRU, LSTM, RNN

every_kind = pytest.mark.parametrize("kind", [LSTM, GRU, RNN], ids=lambda kind: kind.__name__)


class Net(nn.Module):
    """Has a buffer, tied weights, a penalty over all of its parameters, and a part that can be checkpointed."""

    def __init__(self, checkpointed: bool = False) -> None:
        self.first = nn.Linear(3, 3)
        self.second = nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.register_buffer("scale", tg.tensor(2.0))
        self.checkpointed = checkpointed

    def forward(self, x: tg.Tensor, shift: float = 0.0) -> tg.Tensor:
        hidden = tg.checkpoint(self.inner, x) if self.checkpointed else self.inner(x)
        return hidden * self.scale + shift + sum(p.square().sum() for p in self.parameters())

    def inner(self, x: tg.Tensor) -> tg.Tensor:
        return self.second(self.first(x).tanh())


def some_values(module: nn.Module) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(value.shape).astype(value.dtype) for name, value in module.state_dict().items()}


@pytest.mark.parametrize("checkpointed", [False, True])
def test_it_computes_and_differentiates_as_a_module_with_these_values(checkpointed: bool) -> None:
    model, other, x = Net(checkpointed), Net(), tg.randn(2, 3)
    given = some_values(model)
    del given["second.weight"]
    before, objects = model.state_dict(), dict(model.named_parameters(remove_duplicate=False))

    def loss(parameters: dict[str, Any]) -> tg.Tensor:
        return func.functional_call(model, parameters, (x,), {"shift": 1.0}).sum()

    value, gradient = func.value_and_grad(loss)(given)
    other.load_state_dict({**given, "second.weight": given["first.weight"]})
    expected = other(x, shift=1.0).sum()
    expected.backward()
    np.testing.assert_allclose(value, expected.item(), rtol=1e-6)
    assert gradient.keys() == given.keys()
    for name, parameter in other.named_parameters():
        np.testing.assert_allclose(gradient[name], parameter.grad.data, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(gradient["scale"], other.inner(x).sum().item(), rtol=1e-5)

    after = model.state_dict()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert all(p is objects[name] for name, p in model.named_parameters(remove_duplicate=False))
    assert all(parameter.grad is None for parameter in model.parameters())


def test_tied_weights() -> None:
    model = Net()
    x, values = tg.randn(2, 3), some_values(model)

    def loss(parameters: dict[str, Any]) -> tg.Tensor:
        return func.functional_call(model, parameters, x).sum()

    one = func.grad(loss)({"first.weight": values["first.weight"]})
    same = func.grad(loss)({"second.weight": values["first.weight"]})
    np.testing.assert_array_equal(one["first.weight"], same["second.weight"])
    # Given under both names it is two weights, whose gradients add up but for the penalty, which counts both then.
    both = func.grad(loss)({"first.weight": values["first.weight"], "second.weight": values["first.weight"]})
    together = both["first.weight"] + both["second.weight"] - 2 * values["first.weight"] * 6
    np.testing.assert_allclose(together, one["first.weight"], rtol=1e-4, atol=1e-4)


def test_a_module_in_two_places() -> None:
    layer = nn.Linear(3, 3)
    model, weight = nn.Sequential(layer, tg.tanh, layer), np.eye(3, dtype="float32")
    (g,) = func.grad(lambda p: func.functional_call(model, p, tg.ones(1, 3)).sum())({"2.weight": weight}).values()
    assert np.count_nonzero(g) == 9
    with pytest.raises(ValueError, match=r"^functional_call: '0.weight' and '2.weight' are one attribute"):
        func.functional_call(model, {"0.weight": weight, "2.weight": weight}, tg.ones(1, 3))


def test_parameters_of_a_different_dtype_and_device(device: str) -> None:
    """Second derivatives in float64 of a float32 model; arrays are brought to the model's device."""
    model = nn.Linear(2, 1).to(device)
    x = tg.tensor([[1.0, 2.0]], dtype="float64", device=device)
    loss = lambda p: (func.functional_call(model, p, x) ** 2).sum()  # noqa: E731
    weights = {"weight": np.array([[0.5, 0.25]]), "bias": np.zeros(1)}
    place = x.device.backend
    hessian = func.hessian(loss)({name: place.from_host(value) for name, value in weights.items()})
    np.testing.assert_allclose(place.to_host(hessian["weight"]["weight"])[0, :, 0], [[2, 4], [4, 8]])
    assert func.functional_call(model, weights, x).tolist() == [[1.0]]
    assert {p.dtype.name for p in model.parameters()} == {"float32"}


@every_kind
@pytest.mark.parametrize("checkpointed", [False, True])
def test_recurrent_layers_along_a_direction_of_all_their_parameters(kind: Any, checkpointed: bool) -> None:
    tg.manual_seed(0)
    layer = kind(2, 3, num_layers=2, bidirectional=True).to(dtype="float64")
    x, parameters = tg.randn(4, 2, 2, dtype="float64"), layer.state_dict()
    rng = np.random.default_rng(1)
    direction = {name: rng.standard_normal(value.shape) for name, value in parameters.items()}

    class Whole(nn.Module):
        def __init__(self) -> None:
            self.layer = layer

        def forward(self) -> tg.Tensor:
            run = lambda: layer(x, lengths=[4, 2])[0]  # noqa: E731
            return tg.checkpoint(run) if checkpointed else run()

    def out(parameters: dict[str, Any]) -> tg.Tensor:
        named = {f"layer.{name}": value for name, value in parameters.items()}
        return func.functional_call(Whole(), named)

    def moved(by: float) -> Any:
        return func.functional_call(layer, {k: v + by * direction[k] for k, v in parameters.items()}, (x, None, [4, 2]))

    value, tangent = func.jvp(out, (parameters,), (direction,))
    np.testing.assert_array_equal(value, moved(0.0)[0].data)
    step = 1e-6
    np.testing.assert_allclose(tangent, (moved(step)[0].data - moved(-step)[0].data) / (2 * step), atol=1e-8)


def test_calls_within_calls() -> None:
    """A step of descent within the loss, as in meta-learning: differentiated through, and nothing stays behind."""
    model, x = nn.Linear(1, 1, bias=False).to(dtype="float64"), tg.tensor([[3.0]], dtype="float64")
    loss = lambda p: (func.functional_call(model, p, x) ** 2).sum()  # noqa: E731
    before = model.state_dict()

    def after_a_step(p: dict[str, tg.Tensor]) -> tg.Tensor:
        g = func.grad(loss)(p)
        return loss({name: value - 0.01 * g[name] for name, value in p.items()})

    # The loss is 9w²; a step makes w(1 - 0.18) of w.
    g = func.grad(after_a_step)({"weight": np.array([[2.0]])})
    np.testing.assert_allclose(g["weight"], [[18 * 2 * 0.82**2]])
    assert np.array_equal(model.weight.data, before["weight"])


def test_errors_leave_the_module_as_it_was() -> None:
    model = nn.Linear(3, 1)
    weight = model.weight
    with pytest.raises(ValueError, match=r"^functional_call: Linear has no parameter or buffer 'weigth'$"):
        func.functional_call(model, {"weigth": weight}, tg.ones(1, 3))
    with pytest.raises(ValueError, match=r"^functional_call: 'weight' has shape \(1, 3\), got \(3, 1\)$"):
        func.functional_call(model, {"weight": np.ones((3, 1))}, tg.ones(1, 3))
    with pytest.raises(TypeError, match=r"^functional_call: expected a Module, got function$"):
        func.functional_call(lambda x: x, {}, 1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^Linear: x is float32, but the parameters are float64"):
        func.functional_call(model, {"weight": np.ones((1, 3))}, tg.ones(1, 3))
    assert model.weight is weight
