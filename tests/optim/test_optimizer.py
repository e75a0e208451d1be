"""What all optimizers share: groups, saving and loading, moving. Errors: test_optimizer_errors.py."""

import copy
import json
import pickle

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from safetensors.numpy import load, save
from trained_optimizers import leaf, trained

import tinygrad_lstm as tg
from tinygrad_lstm import nn, optim

OPTIMIZERS = {
    "SGD": lambda params: optim.SGD(params, lr=0.1),
    "SGD momentum": lambda params: optim.SGD(params, lr=0.1, momentum=0.9, dampening=0.3),
    "RMSprop": lambda params: optim.RMSprop(params, lr=0.05),
    "RMSprop all": lambda params: optim.RMSprop(params, lr=0.05, centered=True, momentum=0.9, weight_decay=0.1),
    "Adagrad": lambda params: optim.Adagrad(params, lr=0.3, lr_decay=0.01, initial_accumulator_value=0.1),
    "Adam": lambda params: optim.Adam(params, lr=0.1),
    "Adam amsgrad": lambda params: optim.Adam(params, lr=0.1, amsgrad=True, weight_decay=0.1),
    "AdamW": lambda params: optim.AdamW(params, lr=0.1),
    "NAdam": lambda params: optim.NAdam(params, lr=0.05),
    "NAdam decoupled": lambda params: optim.NAdam(params, lr=0.05, weight_decay=0.1, decoupled_weight_decay=True),
    "RAdam": lambda params: optim.RAdam(params, lr=0.1, betas=(0.9, 0.9)),
    "RAdam all": lambda params: optim.RAdam(params, lr=0.1, weight_decay=0.01),
}


@pytest.fixture(params=OPTIMIZERS)
def make(request):
    return OPTIMIZERS[request.param]


def model_on(device: str) -> nn.Module:
    tg.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), tg.tanh, nn.Linear(4, 1)).to(device)


def train(model: nn.Module, optimizer: optim.Optimizer, steps: int) -> float:
    """Some steps towards a fixed function; the last loss."""
    first = next(model.parameters())
    x = tg.tensor(np.linspace(-1, 1, 24).reshape(8, 3), dtype=first.dtype, device=first.device)
    y = x.sum(1, keepdim=True) - 0.5
    for _ in range(steps):
        optimizer.zero_grad()
        loss = tg.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
    return loss.item()


def values(model: nn.Module) -> list[np.ndarray]:
    return list(model.state_dict().values())


def test_the_loss_falls_and_no_value_is_read(make, device):
    model = model_on(device)
    optimizer = make(model.parameters())
    first = train(model, optimizer, 1)
    arrays = [p.data for p in model.parameters()]
    counts = arrays and next(model.parameters()).device.backend.counts if device == "strict" else None
    if counts:
        for p in model.parameters():
            p.grad = tg.ones_like(p)
        counts.reset()
        optimizer.step()
        assert counts.host_to_device == counts.device_to_host == counts.synchronisations == 0
    assert train(model, optimizer, 60) < 0.3 * first
    assert all(p.data is array for p, array in zip(model.parameters(), arrays, strict=True))


def test_frozen_parameters_keep_their_values_and_learn_again(make, device: str) -> None:
    """Though there are running means of their gradients, and weights decay."""
    model = model_on(device)
    optimizer = make(model.parameters())
    train(model, optimizer, 3)
    for frozen in (["0.weight", "0.bias"], ["0.bias", "2.bias"], ["0.weight", "0.bias", "2.weight", "2.bias"]):
        model.unfreeze().freeze(*frozen)
        before = model.state_dict()
        if len(frozen) < len(before):
            train(model, optimizer, 2)
        optimizer.step()
        after = model.state_dict()
        assert [name for name in before if (before[name] == after[name]).all()] == frozen
    model.unfreeze()
    train(model, optimizer, 1)
    assert all((values != after[name]).any() for name, values in model.state_dict().items())


def test_groups_of_a_model_have_their_own_settings(device: str) -> None:
    model = model_on(device).freeze("0.bias")
    groups = model.parameter_groups({"0.*": {"lr": 0.25}, "*bias": {"lr": 0.0}})
    optimizer = optim.SGD(groups, lr=0.5)
    before = model.state_dict()
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = tg.ones_like(parameter)
    optimizer.step()
    after = model.state_dict()
    changes = {name: float((before[name] - after[name]).mean()) for name in before}
    assert changes == pytest.approx({"0.weight": 0.25, "0.bias": 0.0, "2.weight": 0.5, "2.bias": 0.0}, abs=1e-6)


def test_a_resumed_run_is_bit_for_bit_the_unbroken_one(make, device):
    unbroken = model_on(device)
    optimizer = make(unbroken.parameters())
    train(unbroken, optimizer, 5)

    # Through a file, as a checkpoint goes: arrays in safetensors, the rest in JSON.
    saved = optimizer.state_dict()
    state = {"state": load(save(saved["state"])), "param_groups": json.loads(json.dumps(saved["param_groups"]))}
    weights = unbroken.state_dict()
    train(unbroken, optimizer, 5)

    resumed = model_on(device)
    resumed.load_state_dict(weights)
    again = make(resumed.parameters())
    again.load_state_dict(state)
    train(resumed, again, 5)
    for mine, expected in zip(values(resumed), values(unbroken), strict=True):
        np.testing.assert_array_equal(mine, expected)
    for name, array in again.state_dict()["state"].items():
        np.testing.assert_array_equal(array, optimizer.state_dict()["state"][name])


@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.sampled_from([(), (0,), (1,), (37,), (5, 7), (2, 3, 4)]),
    dtype=st.sampled_from(["float32", "float64"]),
    amsgrad=st.booleans(),
    decoupled=st.booleans(),
    weight_decay=st.sampled_from([0.0, 0.1]),
    betas=st.sampled_from([(0.9, 0.999), (0.5, 0.3), (0.0, 0.0)]),
    strided=st.booleans(),
)
def test_adam_is_its_equations(kernels, seed, shape, dtype, amsgrad, decoupled, weight_decay, betas, strided, device):
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(size=(*shape, 2)).astype(dtype) for _ in range(5)]
    start, *gradients = [array[..., 0] if strided else array[..., 0].copy() for array in arrays]
    p = tg.as_tensor(start.copy() if device == "strict" else start, device).requires_grad_()
    kind = optim.AdamW if decoupled else optim.Adam
    optimizer = kind([p], lr=0.1, betas=betas, eps=1e-3, weight_decay=weight_decay, amsgrad=amsgrad)
    expected = start.astype(np.float64)
    m, v, largest = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for t, g in enumerate(gradients, start=1):
        p.grad = tg.tensor(g, device=device)
        with tg.compiled_kernels(kernels):
            optimizer.step()
        np.testing.assert_array_equal(p.grad.cpu(), g)
        g = g.astype(np.float64)
        if decoupled:
            expected = expected * (1 - 0.1 * weight_decay)
        else:
            g = g + weight_decay * expected
        m, v = betas[0] * m + (1 - betas[0]) * g, betas[1] * v + (1 - betas[1]) * g * g
        largest = np.maximum(largest, v)
        root = np.sqrt((largest if amsgrad else v) / (1 - betas[1] ** t))
        expected = expected - 0.1 * m / (1 - betas[0] ** t) / (root + 1e-3)
    tolerance = {"float32": 1e-5, "float64": 1e-12}[dtype]
    np.testing.assert_allclose(p.detach().cpu().numpy(), expected, rtol=tolerance, atol=tolerance)


def test_a_state_dict_is_a_snapshot(make):
    model = model_on("cpu")
    optimizer = make(model.parameters())
    train(model, optimizer, 2)
    saved = optimizer.state_dict()
    before = {name: array.copy() for name, array in saved["state"].items()}
    train(model, optimizer, 1)
    for name, array in saved["state"].items():
        np.testing.assert_array_equal(array, before[name])
    assert saved["param_groups"][0]["params"] == [0, 1, 2, 3]


def test_a_moved_module_can_still_be_trained(make, device):
    stays, moves = model_on("cpu").to(dtype="float64"), model_on("cpu").to(dtype="float64")
    of_stays, of_moves = make(stays.parameters()), make(moves.parameters())
    train(stays, of_stays, 4)
    train(moves, of_moves, 4)
    moves.to(device)
    train(stays, of_stays, 4)
    train(moves, of_moves, 4)
    for mine, expected in zip(values(moves), values(stays), strict=True):
        np.testing.assert_allclose(mine, expected, rtol=1e-12, atol=1e-14)
    moves.to(dtype="float32")
    train(moves, of_moves, 1)
    assert all(array.dtype == np.float32 for array in values(moves))
    kept = of_moves.state_dict()["state"].items()
    assert {array.dtype.name for name, array in kept if not name.endswith("mu_product")} <= {"float32", "int64"}


@pytest.mark.parametrize("gradient", [0.0, 1e-5, 1e-3, 300.0])
def test_float16_parameters_step_as_float32_ones(make, device, gradient):
    """Their state is float32: in float16, squares of gradients vanish or overflow, and running means stick."""
    parameters = [tg.ones(3, dtype=dtype, device=device, requires_grad=True) for dtype in ("float16", "float32")]
    optimizers = [make([p]) for p in parameters]
    half, single = parameters
    for _ in range(4):
        for p, optimizer in zip(parameters, optimizers, strict=True):
            p.grad = tg.full((3,), gradient, dtype="float16", device=device).to(dtype=p.dtype)
            optimizer.step()
        np.testing.assert_allclose(half.detach().cpu().numpy(), single.detach().cpu().numpy(), rtol=3e-3)
        with tg.no_grad():
            single[...] = half.to(dtype="float32")  # so that roundings do not add up
    assert half.dtype == np.float16
    kept = [value for value in optimizers[0].state_dict()["state"].values() if value.ndim]
    assert all(value.dtype == np.float32 for value in kept)


def test_a_float16_state_is_loaded_as_float32(make):
    p = tg.ones(3, dtype="float16", requires_grad=True)
    optimizer = make([p])
    p.grad = tg.full((3,), 0.5, dtype="float16")
    optimizer.step()
    saved = optimizer.state_dict()
    saved["state"] = {
        name: value.astype(np.float16) if value.dtype == np.float32 else value for name, value in saved["state"].items()
    }
    optimizer.load_state_dict(saved)
    loaded = optimizer.state_dict()["state"]
    for name, value in saved["state"].items():
        np.testing.assert_array_equal(loaded[name], value)
        number = np.float64 if name.endswith("mu_product") else np.int64
        assert loaded[name].dtype == (np.float32 if value.ndim else number)
    optimizer.step()
    assert np.isfinite(p.detach().numpy()).all()


def test_groups_have_settings_of_their_own(device):
    parameters = [tg.tensor([1.0, 1.0], device=device, requires_grad=True) for _ in range(3)]
    optimizer = optim.SGD([{"params": parameters[:1], "lr": 0.5}, {"params": parameters[1]}], lr=0.1)
    optimizer.add_param_group({"params": parameters[2:], "lr": 0.0})
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.1, 0.0]
    for p in parameters:
        p.grad = tg.ones_like(p)
    optimizer.step()
    np.testing.assert_allclose([p.tolist() for p in parameters], [[0.5] * 2, [0.9] * 2, [1.0] * 2], rtol=1e-6)
    saved = optimizer.state_dict()["param_groups"]
    assert [group["params"] for group in saved] == [[0], [1], [2]]
    other = optim.SGD([{"params": [p]} for p in parameters], lr=0.7)
    other.load_state_dict(optimizer.state_dict())
    assert [group["lr"] for group in other.param_groups] == [0.5, 0.1, 0.0]


def test_parameters_without_a_gradient_stay(make):
    used, unused = tg.ones(2, requires_grad=True), tg.ones(2, requires_grad=True)
    optimizer = make([unused, used])
    used.grad = tg.ones(2)
    optimizer.step()
    assert unused.tolist() == [1, 1]
    assert used.tolist() != [1, 1]
    assert not any(name.startswith("0.") for name in optimizer.state_dict()["state"])
    other = make([unused, used])
    other.load_state_dict(optimizer.state_dict())
    assert other.state_dict()["state"].keys() == optimizer.state_dict()["state"].keys()
    optimizer.zero_grad()
    assert used.grad is None


@pytest.mark.parametrize("shape", [(), (0,), (2, 0), (2, 3, 1)])
def test_any_shape_can_be_trained(make, shape, device):
    p = tg.ones(shape, device=device, requires_grad=True)
    optimizer = make([p])
    for _ in range(2):
        p.grad = tg.ones_like(p)
        optimizer.step()
    assert p.shape == shape
    assert p.data is not None and bool((p.detach() < 1).all())


def test_an_array_that_is_not_contiguous_is_trained_in_place(make):
    base = np.ones((4, 6), np.float32)
    plain, view = tg.ones(3, 4, requires_grad=True), tg.from_dlpack(base).T[::2].requires_grad_()
    assert not view.data.flags.c_contiguous
    for p in (plain, view):
        optimizer = make([p])
        for k in range(3):
            p.grad = tg.full(p.shape, float(k))
            optimizer.step()
    np.testing.assert_array_equal(view.detach(), plain.detach())
    assert (base.T[::2] != 1).all() and (base.T[1::2] == 1).all()


def test_a_step_between_forward_and_backward_is_noticed(make):
    w = tg.ones(2, requires_grad=True)
    optimizer = make([w])
    w.grad = tg.ones(2)
    loss = (w * w).sum()
    optimizer.step()
    with pytest.raises(RuntimeError, match="changed in place"):
        loss.backward()


def test_a_variance_that_rounds_below_zero_makes_no_nan():
    p = tg.zeros(100, requires_grad=True)
    optimizer = optim.RMSprop([p], alpha=0.5, centered=True)
    for _ in range(50):
        p.grad = tg.tensor(np.linspace(1, 7, 100), dtype="float32")
        optimizer.step()
    assert np.isfinite(p.detach().numpy()).all()


@pytest.mark.parametrize(
    ("before", "change", "kept"),
    [
        (lambda params: optim.Adam(params, lr=0.1), {"amsgrad": True}, "max_exp_avg_sq"),
        (lambda params: optim.RMSprop(params, lr=0.1), {"centered": True}, "grad_avg"),
        (lambda params: optim.RMSprop(params, lr=0.1), {"momentum": 0.5}, "momentum_buffer"),
        (lambda params: optim.SGD(params, lr=0.1), {"momentum": 0.5}, "momentum_buffer"),
    ],
)
def test_a_setting_that_needs_more_state_can_be_turned_on_and_off(before, change, kept, device):
    p = tg.ones(3, device=device, requires_grad=True)
    optimizer = before([p])

    def stepped() -> list[str]:
        old = p.tolist()
        p.grad = tg.ones_like(p)
        optimizer.step()
        assert all(0 < was - now < 2 for was, now in zip(old, p.tolist(), strict=True))
        # What is kept fits the settings, so it can be loaded.
        saved = optimizer.state_dict()
        other = before([p])
        other.load_state_dict(saved)
        assert other.state_dict()["state"].keys() == saved["state"].keys()
        return [name.removeprefix("0.") for name in saved["state"]]

    usual = dict(optimizer.param_groups[0])
    first = stepped()
    assert kept not in first
    optimizer.param_groups[0].update(change)
    assert kept in stepped()
    optimizer.param_groups[0].update({name: usual[name] for name in change})
    assert stepped() == first


def test_a_changed_setting_is_saved_before_the_next_step():
    optimizer = trained(optim.Adam)
    optimizer.param_groups[0]["amsgrad"] = True
    other = trained(optim.Adam)
    other.load_state_dict(optimizer.state_dict())
    assert "0.max_exp_avg_sq" in other.state_dict()["state"]


def test_settings_are_saved_as_plain_values():
    optimizer = optim.Adam([leaf()], lr=np.float32(0.5), betas=(np.float64(0.5), 0.9))
    groups = json.loads(json.dumps(optimizer.state_dict()["param_groups"]))
    assert groups[0]["lr"] == 0.5
    assert groups[0]["betas"] == [0.5, 0.9]


@pytest.mark.parametrize("again", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))])
def test_a_model_and_its_optimizer_are_copied_together(make, again):
    model = model_on("cpu")
    optimizer = make(model.parameters())
    train(model, optimizer, 3)
    copied, of_copied = again((model, optimizer))
    train(model, optimizer, 3)
    train(copied, of_copied, 3)
    for mine, expected in zip(values(copied), values(model), strict=True):
        np.testing.assert_array_equal(mine, expected)


def test_maximizing_is_minimizing_the_negative(make, device: str) -> None:
    p, q = (tg.tensor([1.0, -2.0], device=device, requires_grad=True) for _ in range(2))
    optimizers = [make([p]), make([q])]
    optimizers[1].param_groups[0]["maximize"] = True
    for k in range(3):
        p.grad, q.grad = (tg.tensor([sign * (k + 1), sign * 0.5], device=device) for sign in (1.0, -1.0))
        for optimizer in optimizers:
            optimizer.step()
        assert q.grad.tolist() == [-(k + 1), -0.5]
    assert p.tolist() == q.tolist() != [1, -2]


def test_a_closure_is_called_once_with_recording_on(make):
    p = tg.tensor([1.0, 2.0], requires_grad=True)
    optimizer, calls = make([p]), []

    def closure() -> tg.Tensor:
        optimizer.zero_grad()
        calls.append((p * p).sum())
        calls[-1].backward()
        return calls[-1]

    with tg.no_grad():
        assert optimizer.step(closure) is calls[0]
    assert len(calls) == 1 and p.tolist() != [1, 2]
    p.grad = tg.ones(2)
    assert optimizer.step() is None


@pytest.mark.parametrize("create_graph", [False, True])
def test_gradients_become_none_or_zeros_in_place(create_graph: bool, device: str) -> None:
    used, unused = (tg.ones(2, device=device, requires_grad=True) for _ in range(2))
    optimizer = optim.SGD([used, unused], lr=0.1)
    (used * used * used).sum().backward(create_graph=create_graph)
    array = used.grad.data
    optimizer.zero_grad(set_to_none=False)
    assert used.grad.data is array and used.grad.tolist() == [0, 0] and not used.grad.requires_grad
    assert unused.grad is None
    optimizer.zero_grad()
    assert used.grad is None


def test_a_state_without_maximize_is_loaded():
    """As states were saved before there was this setting."""
    optimizer = trained(optim.Adam)
    saved = optimizer.state_dict()
    del saved["param_groups"][0]["maximize"]
    other = trained(optim.Adam)
    other.load_state_dict(saved)
    assert other.state_dict()["param_groups"] == optimizer.state_dict()["param_groups"]
