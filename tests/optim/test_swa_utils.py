"""Averages of weights: PyTorch's values, saving and loading, buffers, devices, and what is refused."""

import copy
import pickle

import numpy as np
import pytest
from golden.load import load, options
from safetensors.numpy import load as read
from safetensors.numpy import save

import tinygrad_lstm as tg
from tinygrad_lstm import nn
from tinygrad_lstm.optim.swa_utils import AveragedModel, get_ema_avg_fn, get_swa_avg_fn, update_bn

FUNCTIONS = {"default": None, "swa": get_swa_avg_fn(), "ema": get_ema_avg_fn(0.75)}


class Counting(nn.Module):
    """A module with a weight, a float buffer and an integer buffer."""

    def __init__(self) -> None:
        self.weight = nn.Parameter(tg.zeros(2))
        self.register_buffer("mean", tg.zeros(2))
        self.register_buffer("seen", tg.tensor(0))

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        return x * self.weight

    def set(self, value: int) -> None:
        with tg.no_grad():
            for tensor in (self.weight, self.mean, self.seen):
                tensor.fill_(value)


@pytest.mark.parametrize("case", options("averages"))
def test_a_hundred_averages_are_torchs(case: str, device: str) -> None:
    expected, settings = load("averages", case)["average"], options("averages")[case]
    layer = nn.Linear(2, 3, bias=False).to(device, "float64")
    averaged = AveragedModel(layer, avg_fn=get_ema_avg_fn(settings["decay"]) if "decay" in settings else None)
    kept = []
    for step in range(1, settings["kept"][-1] + 1):
        with tg.no_grad():
            layer.weight.copy_(tg.tensor(np.cos(step * np.arange(1.0, 7.0)).reshape(3, 2), device=device))
        averaged.update_parameters(layer)
        if step in settings["kept"]:
            kept.append(averaged.module.weight.detach().cpu().numpy().copy())
    np.testing.assert_allclose(kept, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_loaded_average_continues(function: str, device: str) -> None:
    model = Counting().to(device)
    averaged = AveragedModel(model, avg_fn=FUNCTIONS[function])
    for value in (1, 5):
        model.set(value)
        averaged.update_parameters(model)
    saved = read(save(averaged.state_dict()))
    assert saved.keys() == {"module.weight", "module.mean", "module.seen", "n_averaged"} and saved["n_averaged"] == 2
    others = [AveragedModel(Counting().to(device), avg_fn=FUNCTIONS[function]), copy.deepcopy(averaged)]
    others[0].load_state_dict(saved)
    others.append(pickle.loads(pickle.dumps(averaged)))
    model.set(9)
    for each in (averaged, *others):
        each.update_parameters(model)
        assert each.module.weight.tolist() == ([5, 5] if function != "ema" else [3.75, 3.75])
        assert each.n_averaged.item() == 3
        assert each(tg.ones(2, device=device)).tolist() == each.module.weight.tolist()


@pytest.mark.parametrize("use_buffers", [False, True])
def test_buffers_are_copied_or_averaged_if_they_are_floats(use_buffers: bool) -> None:
    model = Counting()
    averaged = AveragedModel(model, use_buffers=use_buffers)
    for value in (1, 4):
        model.set(value)
        averaged.update_parameters(model)
    assert averaged.module.weight.tolist() == [2.5, 2.5]
    assert averaged.module.mean.tolist() == ([2.5, 2.5] if use_buffers else [4, 4])
    assert averaged.module.seen.item() == 4


def test_averages_can_be_on_another_device_in_another_dtype(device: str) -> None:
    model = nn.Linear(3, 2).to(dtype="float16")
    averaged = AveragedModel(model, device=device, avg_fn=get_ema_avg_fn(0.999)).to(dtype="float32")
    start = model.weight.detach().numpy().astype(np.float32)
    averaged.update_parameters(model)
    nn.init.zeros_(model.weight)
    for _ in range(100):
        averaged.update_parameters(model)
    assert averaged.module.weight.device == device and model.weight.device == "cpu"
    np.testing.assert_allclose(averaged.module.weight.detach().cpu(), start * 0.999**100, rtol=1e-5)


def test_the_model_is_copied_without_its_gradients_and_is_not_changed() -> None:
    model = nn.Linear(2, 1)
    model(tg.ones(2)).sum().backward()
    gradient, before = model.weight.grad, model.state_dict()
    averaged = AveragedModel(model)
    averaged.update_parameters(model)
    assert model.weight.grad is gradient and averaged.module.weight.grad is None
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    optimizer = tg.optim.SGD(model.parameters(), lr=0.1)
    optimizer.step()
    assert averaged.module.weight.tolist() != model.weight.tolist()


def test_a_recurrent_model_is_averaged_while_it_is_trained(device: str) -> None:
    tg.manual_seed(0)
    lstm, seen = tg.models.LSTM(2, 3).to(device), []
    averaged, optimizer = AveragedModel(lstm), tg.optim.Adam(lstm.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        lstm(tg.ones(4, 1, 2, device=device))[0].sum().backward()
        optimizer.step()
        averaged.update_parameters(lstm)
        seen.append(lstm.state_dict())
    for name, array in averaged.module.state_dict().items():
        np.testing.assert_allclose(array, np.mean([state[name] for state in seen], 0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (lambda: get_ema_avg_fn(1.5), ValueError, r"get_ema_avg_fn: decay must be within \[0, 1\], got 1.5"),
        (lambda: AveragedModel(tg.tanh), TypeError, "AveragedModel: expected a Module, got "),
        (
            lambda: AveragedModel(nn.Linear(2, 1)).update_parameters(nn.Linear(2, 1, bias=False)),
            ValueError,
            "update_parameters: the averaged model and this one differ in bias",
        ),
        (
            lambda: AveragedModel(nn.Linear(2, 1)).update_parameters(nn.Linear(3, 1)),
            ValueError,
            r"update_parameters: weight has shape \(1, 3\), its average \(1, 2\)",
        ),
    ],
)
def test_invalid_arguments_are_refused(wrong, error, message) -> None:
    with pytest.raises(error, match=message):
        wrong()


@pytest.mark.parametrize("as_pairs", [False, True])
def test_update_bn_averages_the_statistics_of_all_batches(as_pairs: bool, device: str) -> None:
    tg.manual_seed(0)
    layer = tg.nn.BatchNorm1d(3, momentum=0.3)
    model = tg.nn.Sequential(tg.nn.Linear(2, 3), layer, tg.nn.Dropout(0.5).eval()).to(device)
    batches = [tg.randn(number, 2) for number in (4, 5, 9)]
    model(batches[0].to(device))  # which is forgotten
    update_bn([(x, None) for x in batches] if as_pairs else batches, model, device)
    with tg.no_grad():
        seen = [model[0](x.to(device)).cpu().numpy() for x in batches]
    assert layer.running_mean is not None and layer.running_var is not None and layer.num_batches_tracked is not None
    mean, var = layer.running_mean.cpu().numpy(), layer.running_var.cpu().numpy()
    np.testing.assert_allclose(mean, np.mean([x.mean(0) for x in seen], 0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(var, np.mean([x.var(0, ddof=1) for x in seen], 0), rtol=1e-5)
    assert layer.num_batches_tracked.item() == 3 and layer.momentum == 0.3
    assert [module.training for module in model] == [True, True, False]
    assert all(parameter.grad is None for parameter in model.parameters())


def test_update_bn_leaves_a_model_as_it_was_if_a_batch_fails() -> None:
    model = tg.nn.Sequential(tg.nn.BatchNorm1d(3)).eval()
    with pytest.raises(ValueError, match="expected x of shape"):
        update_bn([tg.ones(2, 4)], model)
    assert not model.training and not model[0].training and model[0].momentum == 0.1
    update_bn([None], tg.nn.Linear(1, 1))  # which has no statistics
