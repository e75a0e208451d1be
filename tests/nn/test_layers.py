"""The layers and containers."""

import math

import numpy as np
import pytest

import tinygrad_lstm as tg
from tinygrad_lstm import nn


def host(tensor: tg.Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()


class SelfAttention(nn.MultiheadAttention):
    def forward(self, x):
        out, weights = super().forward(x, x, x[..., : self.vdim])
        return out.sum() + weights.sum()


LAYERS = {
    "Linear": (lambda: nn.Linear(4, 3), lambda: tg.randn(2, 4)),
    "Linear without bias": (lambda: nn.Linear(4, 3, bias=False), lambda: tg.randn(4)),
    "Embedding": (lambda: nn.Embedding(5, 3), lambda: tg.tensor([[0, 4], [1, 1]])),
    "Conv1d": (lambda: nn.Conv1d(4, 6, 3, stride=2, padding=1, groups=2), lambda: tg.randn(2, 4, 9)),
    "Conv2d": (lambda: nn.Conv2d(4, 6, (3, 2), padding=(1, 0), groups=2), lambda: tg.randn(2, 4, 5, 6)),
    "ConvTranspose1d": (
        lambda: nn.ConvTranspose1d(4, 6, 3, stride=2, output_padding=1, groups=2),
        lambda: tg.randn(2, 4, 5),
    ),
    "Conv1d, same": (lambda: nn.Conv1d(4, 6, 4, padding="same"), lambda: tg.randn(2, 4, 9)),
    "LayerNorm": (lambda: nn.LayerNorm((3, 4)), lambda: tg.randn(2, 3, 4)),
    "RMSNorm": (lambda: nn.RMSNorm((3, 4)), lambda: tg.randn(2, 3, 4)),
    "GroupNorm": (lambda: nn.GroupNorm(2, 4), lambda: tg.randn(2, 4, 3)),
    "BatchNorm1d": (lambda: nn.BatchNorm1d(4), lambda: tg.randn(2, 4, 3)),
    "BatchNorm1d, average of all": (lambda: nn.BatchNorm1d(4, momentum=None), lambda: tg.randn(2, 4)),
    "BatchNorm1d in evaluation": (lambda: nn.BatchNorm1d(4).eval(), lambda: tg.randn(2, 4)),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(4), lambda: tg.randn(2, 4, 3, 2)),
    "BatchNorm3d": (lambda: nn.BatchNorm3d(4), lambda: tg.randn(2, 4, 3, 2, 1)),
    "MultiheadAttention": (lambda: SelfAttention(4, 2, add_bias_kv=True), lambda: tg.randn(5, 2, 4)),
    "MultiheadAttention of sizes": (lambda: SelfAttention(4, 2, kdim=4, vdim=3), lambda: tg.randn(5, 2, 4)),
    "Dropout": (lambda: nn.Dropout(0.5), lambda: tg.randn(20, requires_grad=True)),
    "Sequential": (lambda: nn.Sequential(nn.Linear(4, 8), tg.tanh, nn.Linear(8, 1)), lambda: tg.randn(2, 4)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_computes_all_its_parameters_gradients_without_reading_values(name, device, place):
    make, make_input = LAYERS[name]
    layer, x = make(), make_input()
    counts = x.device.backend.counts if device == "strict" else None
    if counts:
        counts.reset()
    layer(x).sum().backward()
    if counts:
        assert counts.device_to_host == counts.synchronisations == 0
    for parameter_name, parameter in layer.named_parameters():
        assert parameter.device == device
        assert parameter.dtype == np.float32
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.shape == parameter.shape


@pytest.mark.parametrize("name", LAYERS)
def test_initial_weights_are_the_same_on_every_device(name, device):
    make, _ = LAYERS[name]
    tg.manual_seed(3)
    with tg.default_device(device):
        there = make().state_dict()
    tg.manual_seed(3)
    for parameter_name, values in make().state_dict().items():
        np.testing.assert_array_equal(there[parameter_name], values)


def test_linear_is_its_equation(place):
    layer, x = nn.Linear(4, 3), tg.randn(2, 5, 4)
    W, b = host(layer.weight), host(layer.bias)
    assert W.shape == (3, 4) and b.shape == (3,)
    np.testing.assert_allclose(host(layer(x)), host(x) @ W.T + b, rtol=1e-5, atol=1e-6)
    bare = nn.Linear(4, 3, bias=False)
    assert bare.bias is None
    np.testing.assert_allclose(host(bare(x)), host(x) @ host(bare.weight).T, rtol=1e-5, atol=1e-6)


def test_embedding_returns_rows_and_no_gradient_of_the_padding(place):
    layer = nn.Embedding(5, 3, padding_idx=-1)
    ids = tg.tensor([[0, 4], [1, 1]])
    rows = layer(ids)
    np.testing.assert_array_equal(host(rows), host(layer.weight)[[[0, 4], [1, 1]]])
    assert layer.padding_idx == 4
    assert host(layer.weight)[4].tolist() == [0, 0, 0]
    rows.sum().backward()
    assert host(layer.weight.grad).tolist() == [[1] * 3, [2] * 3, [0] * 3, [0] * 3, [0] * 3]


def test_conv1d_is_its_op(place):
    layer, x = nn.Conv1d(4, 6, 3, stride=2, padding=1, dilation=2, groups=2), tg.randn(2, 4, 9)
    assert layer.weight.shape == (6, 2, 3)
    expected = tg.conv1d(x, layer.weight, layer.bias, stride=2, padding=1, dilation=2, groups=2)
    np.testing.assert_array_equal(host(layer(x)), host(expected))
    assert layer(x).shape == (2, 6, 4)


def test_dropout_drops_only_in_training(place):
    layer, x = nn.Dropout(0.25), tg.ones(2000)
    dropped = host(layer(x))
    np.testing.assert_allclose(np.unique(dropped), [0, 4 / 3], rtol=1e-6)
    assert 0.2 < (dropped == 0).mean() < 0.3
    assert host(layer.eval()(x)).tolist() == [1] * 2000


def test_sequential_runs_in_order_and_takes_functions(place):
    first, last = nn.Linear(4, 8), nn.Linear(8, 1)
    model, x = nn.Sequential(first, tg.tanh, last), tg.randn(2, 4)
    np.testing.assert_array_equal(host(model(x)), host(last(tg.tanh(first(x)))))
    assert [name for name, _ in model.named_parameters()] == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert model[0] is first and model[-1] is last and len(model) == 3
    assert "1: Function(tanh)" in repr(model)
    assert nn.Sequential()(x) is x


def test_module_list_holds_modules():
    layers = nn.ModuleList([nn.Linear(1, 1)])
    assert layers.append(nn.Linear(1, 2)) is layers
    assert [layer.out_features for layer in layers] == [1, 2]
    assert layers[-1].out_features == 2
    with pytest.raises(IndexError):
        layers[2]
    with pytest.raises(TypeError, match="ModuleList: expected a Module, got function"):
        layers.append(lambda x: x)
    with pytest.raises(TypeError, match="Sequential: expected modules or functions, got Tensor"):
        nn.Sequential(tg.ones(1))


def test_module_dict_holds_modules_by_name(place):
    first, second = nn.Linear(1, 1), nn.Linear(1, 2)
    heads = nn.ModuleDict({"first": first})
    heads["second"] = second
    assert list(heads) == list(heads.keys()) == ["first", "second"] and len(heads) == 2
    assert list(heads.values()) == [first, second] and dict(heads.items()) == {"first": first, "second": second}
    assert list(heads.state_dict()) == ["first.weight", "first.bias", "second.weight", "second.bias"]
    heads["first"] = second  # replaces
    assert heads["first"] is second and "training" not in heads
    assert heads.pop("first") is second and list(heads) == ["second"]
    del heads["second"]
    assert len(heads) == 0 and list(heads.parameters()) == []


@pytest.mark.parametrize("name", ["", "a.b", "forward", "training", "keys"])
def test_module_dict_refuses_names_of_attributes(name):
    with pytest.raises(KeyError, match="cannot be a name"):
        nn.ModuleDict({name: nn.Linear(1, 1)})


def test_module_dict_refuses_what_is_not_there_or_not_a_module():
    heads = nn.ModuleDict([("words", nn.Linear(1, 1))])
    for missing in ("tags", "forward"):
        with pytest.raises(KeyError, match=f"no module '{missing}'; the names are words"):
            heads[missing]
    with pytest.raises(TypeError, match="expected a string and a Module, got str and function"):
        heads["words"] = lambda x: x


def test_parameter_list_holds_parameters(place):
    weight = nn.Parameter(tg.ones(2))
    rates = nn.ParameterList([weight, [1.0, 2.0, 3.0]])
    assert rates.append(tg.zeros(1)) is rates and len(rates) == 3
    assert rates[0] is weight and rates[1].tolist() == [1, 2, 3] and rates[-1].shape == (1,)
    assert [name for name, _ in rates.named_parameters()] == ["0", "1", "2"]
    assert all(rate.requires_grad and rate.device == place for rate in rates)
    assert repr(rates).startswith("ParameterList((2,), (3,), (1,)) ")


def test_flatten_and_identity(place):
    x = tg.randn(2, 3, 4)
    assert nn.Flatten()(x).shape == (2, 12) and nn.Flatten(0, 1)(x).shape == (6, 4)
    assert repr(nn.Flatten(0, 1)).startswith("Flatten(start_dim=0, end_dim=1) ")
    assert nn.Identity(54, unused=True)(x) is x


@pytest.mark.parametrize(
    ("make", "fan_in"),
    [(lambda: nn.Linear(16, 4000), 16), (lambda: nn.Conv1d(8, 2000, 4, groups=2), 16)],
    ids=["Linear", "Conv1d"],
)
def test_weights_start_uniform_by_fan_in(make, fan_in):
    tg.manual_seed(0)
    layer, bound = make(), 1 / math.sqrt(fan_in)
    for parameter in layer.parameters():
        values = host(parameter)
        assert np.abs(values).max() <= bound
        assert np.abs(values).max() > 0.99 * bound
        assert abs(values.mean()) < 0.05 * bound
        np.testing.assert_allclose(values.std(), bound / math.sqrt(3), rtol=0.05)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.Linear(0, 3), ValueError, "Linear: in_features must be 1 or more, got 0"),
        (lambda: nn.Linear(3, -1), ValueError, "Linear: out_features must be 1 or more, got -1"),
        (lambda: nn.Embedding(0, 3), ValueError, "Embedding: num_embeddings"),
        (lambda: nn.Embedding(4, 3, padding_idx=4), IndexError, "padding_idx 4 is not an id of 4"),
        (lambda: nn.Conv1d(3, 4, 2, groups=2), ValueError, "groups=2 must divide in_channels=3"),
        (lambda: nn.Conv1d(3, 4, 0), ValueError, "Conv1d: kernel_size"),
        (lambda: nn.Conv1d(3, 4, 1, stride=0), ValueError, "Conv1d: stride"),
        (lambda: nn.Conv1d(3, 4, 1, padding=-1), ValueError, "Conv1d: padding is -1; expected an integer of 0 or more"),
        (
            lambda: nn.Conv1d(3, 4, 1, padding="full"),
            ValueError,
            "padding is 'full'; expected an integer of 0 or more, 'valid' or 'same'",
        ),
        (lambda: nn.Conv1d(3, 4, 1, stride=2, padding="same"), ValueError, "needs stride 1, got stride 2"),
        (lambda: nn.Dropout(1.5), ValueError, r"Dropout: p must be within \[0, 1\], got 1\.5"),
        (lambda: nn.Linear(3, 2)(tg.ones(2, 4)), ValueError, r"\(2, 4\)"),
        (lambda: nn.Embedding(3, 2)(tg.tensor([3])), IndexError, "3"),
        (lambda: nn.Embedding(3, 2)(tg.ones(2)), TypeError, r"integers, got float32 of shape \(2,\)"),
    ],
)
def test_invalid_arguments_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()
