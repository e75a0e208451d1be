"""Low-rank adapters: what they add to weights, and how they come, go, and are saved."""

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_lstm as tg
from tinygrad_lstm import nn

ADAPTERS = ["0.weight_lora.A", "0.weight_lora.B", "2.weight_lora.A", "2.weight_lora.B"]


def network(device: str = "cpu", dtype: str = "float64") -> nn.Sequential:
    """(B, 4) to (B, 3), by way of 5 units."""
    tg.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), tg.tanh, nn.Linear(5, 3)).to(device, dtype)


def perturbed(model: nn.Module) -> nn.Module:
    """The model with numbers in its adapters' B, which start as zeros."""
    for name, parameter in model.named_parameters():
        if name.endswith("_lora.B"):
            nn.init.normal_(parameter)
    return model


def adapted(device: str = "cpu", dtype: str = "float64", rank: int = 2, alpha: float | None = 3.0) -> nn.Module:
    model = network(device, dtype)
    nn.add_lora(model, rank=rank, alpha=alpha)
    return perturbed(model)


def numbers(model: nn.Module, *shape: int) -> tg.Tensor:
    """An input for the model, which requires a gradient."""
    first = next(model.parameters())
    values = np.random.default_rng(1).standard_normal(shape)
    return tg.tensor(values, dtype=first.dtype, device=first.device, requires_grad=True)


def results(model: nn.Module) -> tuple[np.ndarray, np.ndarray]:
    """The outputs for an input, and the input's gradient."""
    x = numbers(model, 6, 4)
    out = model(x)
    (gradient,) = tg.grad((out * out).sum(), [x])
    return out.detach().cpu().numpy(), gradient.cpu().numpy()


def learning(model: nn.Module) -> list[str]:
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]


def snapshot(model: nn.Module) -> dict[str, Any]:
    """All that an adapter could change of a model."""
    frozen = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    return {"frozen": frozen, "modules": [name for name, _ in model.named_modules()], **model.state_dict()}


def check_same(model: nn.Module, before: dict[str, Any]) -> None:
    now = snapshot(model)
    assert now.keys() == before.keys()
    for name, value in before.items():
        np.testing.assert_array_equal(now[name], value)


# -- what an adapter computes -----------------------------------------------------------------------------------------


@given(
    out=st.integers(1, 6), into=st.integers(1, 6), data=st.data(), alpha=st.none() | st.floats(0.125, 64),
    dtype=st.sampled_from(["float32", "float64"]),
)  # fmt: skip
def test_an_adapter_is_its_equation(
    device: str, out: int, into: int, data: st.DataObject, alpha: float | None, dtype: str
) -> None:
    rank = data.draw(st.integers(1, min(out, into)))
    layer = nn.Linear(into, out).to(device, dtype)
    assert nn.add_lora(layer, rank=rank, alpha=alpha) == ["weight"]
    perturbed(layer)
    state = layer.state_dict()
    assert state["weight_lora.A"].shape == (rank, into) and state["weight_lora.B"].shape == (out, rank)
    scale = (rank if alpha is None else alpha) / rank
    expected = state["weight"] + scale * state["weight_lora.B"].astype(float) @ state["weight_lora.A"].astype(float)
    found = layer.adapted("weight")
    assert found.dtype == dtype and found.device == device
    tolerance = 20 * np.finfo(dtype).eps
    np.testing.assert_allclose(found.detach().cpu().numpy(), expected, rtol=tolerance, atol=tolerance * scale)


def test_outputs_start_as_those_of_the_base_to_the_bit(device: str) -> None:
    for dtype in ("float32", "float64"):
        model = network(device, dtype)
        before = results(model)
        nn.add_lora(model, rank=2, alpha=16)
        for mine, expected in zip(results(model), before, strict=True):
            np.testing.assert_array_equal(mine, expected)


def test_derivatives_of_first_and_second_order() -> None:
    model = adapted()
    leaves = [parameter for parameter in model.parameters() if parameter.requires_grad]
    x = numbers(model, 2, 4)
    assert len(leaves) == 4
    assert tg.gradcheck(lambda x, *leaves: model(x), [x, *leaves])
    assert tg.gradgradcheck(lambda x, *leaves: model(x), [x, *leaves])


def test_a_starts_with_variance_one_over_its_columns_and_b_as_zeros() -> None:
    tg.manual_seed(0)
    adapter = nn.LoRA(tg.zeros(300, 400), rank=200)
    A = adapter.A.detach().numpy()
    assert abs(A.mean()) < 1e-3
    assert A.std() == pytest.approx(400**-0.5, rel=0.01)
    assert not adapter.B.detach().numpy().any()
    assert adapter.alpha.item() == 200


def test_an_adapter_is_the_same_on_every_device(device: str) -> None:
    found, expected = (nn.lora_state_dict(adapted(place)) for place in (device, "cpu"))
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)


def test_nothing_is_read_from_the_device(device: str) -> None:
    model = adapted(device)
    counts = next(model.parameters()).device.backend.counts if device == "strict" else None
    x = numbers(model, 6, 4)
    if counts:
        counts.reset()
    model(x).sum().backward()
    if counts:
        assert counts.device_to_host == counts.synchronisations == counts.host_to_device == 0
    assert all((parameter.grad is not None) == parameter.requires_grad for parameter in model.parameters())


# -- adding and merging -----------------------------------------------------------------------------------------------


def test_only_adapters_learn() -> None:
    model = network()
    assert nn.add_lora(model, rank=2) == ["0.weight", "2.weight"]
    assert learning(model) == ADAPTERS
    model.unfreeze("*.bias")
    assert learning(model) == ["0.bias", *ADAPTERS[:2], "2.bias", *ADAPTERS[2:]]


def test_in_training_only_adapters_change_and_the_loss_falls(device: str) -> None:
    model = network(device, "float32")
    x = numbers(model, 32, 4).detach()
    wanted = x[:, :3] - x[:, 1:]
    nn.add_lora(model, rank=2, alpha=4)
    optimizer = tg.optim.AdamW(model.parameters(), lr=0.05, weight_decay=0.1)
    before = model.state_dict()
    losses = []
    for _ in range(60):
        loss = tg.mse_loss(model(x), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
    changed = [name for name, values in model.state_dict().items() if (values != before[name]).any()]
    assert changed == ADAPTERS


def test_merged_equals_adapted(device: str) -> None:
    model, base = adapted(device), network(device)
    parameters = {name: parameter for name, parameter in model.named_parameters() if "_lora" not in name}
    expected = results(model)
    assert nn.merge_lora(model) == ["0.weight", "2.weight"]
    found = dict(model.named_parameters())
    assert list(found) == list(parameters)
    assert all(found[name] is parameter for name, parameter in parameters.items()), "an optimizer would lose it"
    assert learning(model) == []
    for mine, want, other in zip(results(model), expected, results(base), strict=True):
        np.testing.assert_allclose(mine, want, rtol=1e-14, atol=1e-14)
        assert not np.allclose(mine, other)
    assert nn.add_lora(model, rank=1) == ["0.weight", "2.weight"]  # anew


def test_patterns_choose_among_what_can_be_adapted() -> None:
    model = network()
    assert nn.add_lora(model, "2.*", rank=2) == ["2.weight"]
    assert learning(model) == ADAPTERS[2:]
    perturbed(model)
    before = model.state_dict()
    assert nn.add_lora(model, "0.w*", rank=3) == ["0.weight"]
    assert learning(model) == ADAPTERS
    after = model.state_dict()
    for name, values in before.items():
        np.testing.assert_array_equal(after[name], values)


class Bilinear(nn.Module):
    """A matrix that is read by way of `adapted`; a vector, integers and a second matrix that are not."""

    adaptable = ("weight", "scale", "table")

    def __init__(self) -> None:
        self.weight = nn.Parameter(tg.randn(3, 3))
        self.scale = nn.Parameter(tg.ones(3))
        self.table = nn.Parameter([[1, 2], [3, 4]], requires_grad=False)
        self.other = nn.Parameter(tg.randn(3, 3))

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        return x @ self.adapted("weight") @ self.other * self.scale


def test_a_user_defined_module_takes_part() -> None:
    model = Bilinear()
    assert nn.add_lora(model, rank=2) == ["weight"]
    x = tg.randn(4, 3)
    before = model(x)
    perturbed(model)
    after = model(x)
    assert not np.allclose(after.detach().numpy(), before.detach().numpy())
    nn.merge_lora(model)
    np.testing.assert_array_equal(model(x).detach().numpy(), after.detach().numpy())


class Twice(nn.Module):
    """One weight in two layers, and one layer under two names."""

    def __init__(self) -> None:
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.again = self.first

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        return self.again(tg.tanh(self.second(tg.tanh(self.first(x)))))


def test_a_weight_in_several_places_has_one_adapter() -> None:
    model = Twice()
    assert nn.add_lora(model, "second.*", rank=2) == ["first.weight"]
    assert learning(model) == ["first.weight_lora.A", "first.weight_lora.B"]
    perturbed(model)
    expected = results(model)
    fresh = Twice()
    fresh.load_state_dict({name: array for name, array in model.state_dict().items() if "_lora" not in name})
    for saved in (nn.lora_state_dict(model), {n: a for n, a in model.state_dict().items() if "_lora" in n}):
        again = copy.deepcopy(fresh)
        assert nn.load_lora(again, saved) == ["first.weight"]
        np.testing.assert_array_equal(results(again)[0], expected[0])
    assert nn.merge_lora(model) == ["first.weight"]
    assert [name for name, _ in model.named_modules()] == ["", "first", "second"]
    np.testing.assert_allclose(results(model)[0], expected[0], rtol=1e-6)


def test_a_weight_that_is_an_embedding_too_cannot_be_adapted() -> None:
    model = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 3), nn.Linear(3, 5, bias=False))
    model[2].weight = model[0].weight
    before = snapshot(model)
    for pattern in ("2.weight", "0.weight"):
        with pytest.raises(ValueError, match=f"'{pattern}' matches no weight that can be adapted; .* are 1.weight"):
            nn.add_lora(model, pattern, rank=1)
    check_same(model, before)
    assert nn.add_lora(model, rank=1) == ["1.weight"]


@pytest.mark.parametrize("other", [nn.Linear(4, 4), nn.Embedding(4, 4)])
def test_a_weight_tied_after_it_was_adapted_cannot_be_merged(other: nn.Module) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    nn.add_lora(model, rank=1)
    model.append(other)
    other.weight = model[1].weight
    before = snapshot(model)
    with pytest.raises(ValueError, match=r"merge_lora: 1.weight, 2.weight are one weight with different adapters"):
        nn.merge_lora(model)
    check_same(model, before)


# -- saving, loading, moving ------------------------------------------------------------------------------------------


def test_adapters_travel_in_a_small_file(device: str, tmp_path: Path) -> None:
    model, path = adapted(device), tmp_path / "adapters.safetensors"
    tg.io.save_weights(path, nn.lora_state_dict(model))
    saved = tg.io.load_weights(path)
    assert sorted(saved) == sorted([*ADAPTERS, "0.weight_lora.alpha", "2.weight_lora.alpha"])
    fresh = network(device)
    assert nn.load_lora(fresh, saved) == ["0.weight", "2.weight"]
    assert learning(fresh) == ADAPTERS
    for mine, expected in zip(results(fresh), results(model), strict=True):
        np.testing.assert_array_equal(mine, expected)

    other = network(device)
    nn.add_lora(other, rank=2, alpha=7)
    other.load_state_dict(saved, strict=False)
    np.testing.assert_array_equal(results(other)[0], results(model)[0])  # alpha is in the file


def test_a_whole_state_round_trips() -> None:
    model, other = adapted(), network()
    nn.add_lora(other, rank=2)
    other.load_state_dict(model.state_dict())
    np.testing.assert_array_equal(results(other)[0], results(model)[0])
    with pytest.raises(ValueError, match=r"missing: 0.weight_lora.A, .*2.weight_lora.alpha$"):
        other.load_state_dict(network().state_dict())


def test_adapters_move_with_the_model(device: str) -> None:
    model = adapted(dtype="float32").to(device, "float64")
    assert all(tensor.device == device and tensor.dtype == "float64" for tensor in model._named_tensors().values())
    results(model)
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(results(copied)[0], results(model)[0])
        nn.init.zeros_(copied[0].weight_lora.B)
        assert (results(copied)[0] != results(model)[0]).any()


def test_float16_adapters(device: str) -> None:
    model = adapted(device, "float16")
    expected, _ = results(adapted())
    np.testing.assert_allclose(results(model)[0], expected, atol=0.05)


def test_repr_shows_adapters() -> None:
    assert repr(adapted(alpha=None)).splitlines() == [
        "Sequential                                  77 parameters",
        "  0: Linear(4, 5)                           43",
        "    weight_lora: LoRA(rank=2, alpha=2)      18",
        "  1: Function(tanh)                         0",
        "  2: Linear(5, 3)                           34",
        "    weight_lora: LoRA(rank=2, alpha=2)      16",
    ]


# -- what is refused, with nothing changed ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"rank": 0}, ValueError, "add_lora: rank must be 1 or more, got 0"),
        ({"rank": 4}, ValueError, r"rank 4 is above a length of 2.weight \(3, 5\); give a smaller rank"),
        ({"rank": 6}, ValueError, r"rank 6 is above a length of 0.weight \(5, 4\), 2.weight \(3, 5\)"),
        ({"rank": 2.0}, TypeError, "rank must be an integer, got 2.0"),
        ({"rank": True}, TypeError, "rank must be an integer, got True"),
        ({"rank": 2, "alpha": 0}, ValueError, "alpha must be above 0 and finite, got 0"),
        ({"rank": 2, "alpha": float("nan")}, ValueError, "alpha must be above 0 and finite, got nan"),
        ({"rank": 2, "alpha": "16"}, TypeError, "alpha must be a number, got '16'"),
    ],
)
def test_settings_out_of_range(settings: dict[str, Any], error: type[Exception], said: str) -> None:
    model = network()
    before = snapshot(model)
    with pytest.raises(error, match=said):
        nn.add_lora(model, **settings)
    check_same(model, before)


def test_patterns_that_match_nothing() -> None:
    model = network()
    before = snapshot(model)
    with pytest.raises(ValueError, match=r"'2.wieght' matches no weight that can be adapted; the nearest are 2.weight"):
        nn.add_lora(model, "0.*", "2.wieght", rank=2)
    with pytest.raises(ValueError, match=r"'\*.bias' matches no weight that can be adapted"):
        nn.add_lora(model, "*.bias", rank=2)
    with pytest.raises(ValueError, match="matches no weight that can be adapted; there is none"):
        nn.add_lora(nn.Embedding(3, 3), rank=1)
    with pytest.raises(TypeError, match=r"expected patterns such as 'lstm.\*', got list"):
        nn.add_lora(model, ["0.*"], rank=2)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="add_lora: expected a Module, got list"):
        nn.add_lora([model], rank=2)  # type: ignore[arg-type]
    check_same(model, before)


def test_a_second_adapter_is_refused() -> None:
    model = network()
    nn.add_lora(model, "0.*", rank=2)
    before = snapshot(model)
    with pytest.raises(ValueError, match=r"add_lora: 0.weight has an adapter already"):
        nn.add_lora(model, rank=2)
    with pytest.raises(ValueError, match=r"load_lora: 0.weight has an adapter already"):
        nn.load_lora(model, nn.lora_state_dict(adapted()))
    check_same(model, before)


@pytest.mark.parametrize("function", [nn.merge_lora, nn.lora_state_dict])
def test_a_model_without_adapters(function: Any) -> None:
    model = network()
    before = snapshot(model)
    with pytest.raises(ValueError, match=f"{function.__name__}: this Sequential has no adapters"):
        function(model)
    check_same(model, before)


def test_one_error_lists_all_that_cannot_be_loaded() -> None:
    model = network()
    before, saved = snapshot(model), nn.lora_state_dict(adapted())
    with pytest.raises(ValueError, match=r"that can be adapted in this Sequential: 1.weight_lora.A, 2.weight$"):
        nn.load_lora(model, {**saved, "1.weight_lora.A": np.ones((1, 1)), "2.weight": np.ones((3, 5))})
    del saved["0.weight_lora.alpha"], saved["0.weight_lora.B"]
    saved["2.weight_lora.B"] = np.ones((4, 2))
    with pytest.raises(ValueError) as caught:
        nn.load_lora(model, saved)
    assert "0.weight: missing B, alpha" in str(caught.value)
    assert "2.weight: load_state_dict: " in str(caught.value)
    assert "B (given float64 (4, 2), expected float64 (3, 2))" in str(caught.value)
    for rank, said in ((4, r"2.weight: LoRA: .* both at least the rank 4, got \(3, 5\)"), (0, "1 or more, got 0")):
        with pytest.raises(ValueError, match=said):
            nn.load_lora(model, {**nn.lora_state_dict(adapted()), "2.weight_lora.A": np.ones((rank, 5))})
    for alpha in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match=r"2.weight: LoRA: alpha must be above 0 and finite"):
            nn.load_lora(model, {**nn.lora_state_dict(adapted()), "2.weight_lora.alpha": np.array(alpha)})
    with pytest.raises(ValueError, match="load_lora: there are no adapters to load"):
        nn.load_lora(model, {})
    with pytest.raises(ValueError, match="unexpected: C"):
        nn.load_lora(model, {**nn.lora_state_dict(adapted()), "2.weight_lora.C": np.ones(1)})
    check_same(model, before)
