"""Fine-tuning of recurrent cells, networks and models: frozen parameters, and low-rank adapters."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_lstm as tg
from tinygrad_lstm import nn
from tinygrad_lstm.models import GRU, LSTM, RNN, CharLM, GRUCell, LSTMCell, ManyToOne, RNNCell
from tinygrad_lstm.train import TextCheckpoint, TextTrainer, TrainingOptions

HostArray = np.ndarray[Any, Any]

NETWORKS: list[tuple[Any, dict[str, Any]]] = [
    (LSTM, {}),
    (LSTM, {"num_layers": 2, "bidirectional": True, "batch_first": True}),
    (LSTM, {"proj_size": 2}),
    (LSTM, {"peephole": True, "layer_norm": "cell"}),
    (GRU, {"num_layers": 2}),
    (GRU, {"reset_after": False, "bidirectional": True}),
    (RNN, {"num_layers": 2}),
    (RNN, {"nonlinearity": "relu"}),
]
CELLS: list[tuple[Any, dict[str, Any]]] = [(LSTMCell, {}), (GRUCell, {}), (RNNCell, {})]
T, B, I, H = 5, 3, 4, 6


def named(kinds: list[tuple[Any, dict[str, Any]]]) -> Any:
    return pytest.mark.parametrize(
        ("kind", "options"), kinds, ids=["-".join([kind.__name__, *options]) for kind, options in kinds]
    )


def made(kind: Any, options: dict[str, Any], device: str = "cpu", dtype: str = "float64") -> Any:
    tg.manual_seed(0)
    return kind(I, H, **options).to(device, dtype)


def perturbed(model: Any) -> Any:
    """The model with small numbers in its adapters' B, which start as zeros."""
    for name, parameter in model.named_parameters():
        if name.endswith("_lora.B"):
            nn.init.normal_(parameter, std=0.3)
    return model


def adapted(kind: Any, options: dict[str, Any], device: str = "cpu", dtype: str = "float64") -> Any:
    model = made(kind, options, device, dtype)
    nn.add_lora(model, rank=2, alpha=3)
    return perturbed(model)


def by_hand(model: Any) -> Any:
    """A model without adapters, whose weights are what the adapted ones' equation says."""
    plain, state = copy.deepcopy(model), model.state_dict()
    nn.merge_lora(plain)
    values = {name: array for name, array in state.items() if "_lora." not in name}
    for name in values:
        if f"{name}_lora.A" in state:
            A, B, alpha = (state[f"{name}_lora.{part}"] for part in ("A", "B", "alpha"))
            values[name] = values[name] + alpha / len(A) * (B @ A)
    plain.load_state_dict(values)
    return plain


def numbers(model: Any, *shape: int) -> tg.Tensor:
    first = next(model.parameters())
    values = np.random.default_rng(1).standard_normal(shape)
    return tg.tensor(values, dtype=first.dtype, device=first.device, requires_grad=True)


def input_of(model: Any) -> tg.Tensor:
    if not isinstance(model, LSTM | GRU | RNN):
        return numbers(model, B, I)
    return numbers(model, *((B, T) if model.batch_first else (T, B)), I)


def flat(given: Any) -> list[tg.Tensor]:
    return [given] if isinstance(given, tg.Tensor) else [part for own in given for part in flat(own)]


def results(model: Any, x: tg.Tensor) -> list[HostArray]:
    """All outputs and final states for x, and the gradient of x."""
    outputs = flat(model(x))
    (gradient,) = tg.grad(sum((out * out).sum() for out in outputs), [x])
    return [tensor.detach().cpu().numpy() for tensor in (*outputs, gradient)]


def check_close(found: list[HostArray], expected: list[HostArray], tolerance: float = 1e-12) -> None:
    for mine, want in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, want, rtol=tolerance, atol=tolerance)


# -- frozen parameters ------------------------------------------------------------------------------------------------


@named(NETWORKS)
@settings(max_examples=8)
@given(data=st.data())
def test_gradients_beside_frozen_parameters(
    kind: Any, options: dict[str, Any], device: str, compiled: bool, data: st.DataObject
) -> None:
    model = made(kind, options, device)
    x = input_of(model)

    def gradients() -> dict[str, HostArray]:
        x.grad = None
        model.zero_grad()
        sum((out * out).sum() for out in flat(model(x))).backward()
        leaves = {"x": x, **dict(model.named_parameters())}
        return {name: leaf.grad.cpu().numpy() for name, leaf in leaves.items() if leaf.grad is not None}

    expected = gradients()
    names = [name for name, _ in model.named_parameters()]
    frozen = data.draw(st.lists(st.sampled_from(names), unique=True, min_size=1))
    model.freeze(*frozen)
    x.requires_grad = data.draw(st.booleans()) or len(frozen) == len(names)
    found = gradients()
    assert list(found) == [name for name in (*["x"] * x.requires_grad, *names) if name not in frozen]
    check_close(list(found.values()), [expected[name] for name in found])


# -- adapters ---------------------------------------------------------------------------------------------------------


@named([*NETWORKS, *CELLS])
def test_adapted_networks(kind: Any, options: dict[str, Any], device: str, compiled: bool) -> None:
    """At B = 0 they are the base, to the bit; then what their equation says; merged, they stay as they are."""
    model = made(kind, options, device)
    x, names = input_of(model), [name for name, _ in model.named_parameters()]
    base = results(model, x)
    weights = nn.add_lora(model, rank=2, alpha=3)
    assert weights == [name for name in names if name.startswith("weight")]
    for mine, expected in zip(results(model, x), base, strict=True):
        np.testing.assert_array_equal(mine, expected)

    found = results(perturbed(model), x)
    assert all(not np.allclose(mine, before) for mine, before in zip(found, base, strict=True))
    check_close(found, results(by_hand(model), x))
    assert nn.merge_lora(model) == weights
    check_close(results(model, x), found)
    assert [name for name, _ in model.named_parameters()] == names


@named([*NETWORKS, *CELLS])
def test_derivatives_of_adapters(kind: Any, options: dict[str, Any]) -> None:
    model = adapted(kind, options)
    x = input_of(model)
    x = x[:, :2, :] if x.ndim == 3 else x
    leaves = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert all("_lora." in name for name in leaves)
    few = [leaf for name, leaf in leaves.items() if name.startswith("weight_hh_l0_lora") or len(leaves) < 5]
    assert tg.gradcheck(lambda *leaves: flat(model(x)), list(leaves.values()))
    assert tg.gradgradcheck(lambda *leaves: flat(model(x))[0], few)


def test_adapters_are_trained_and_nothing_else_changes(device: str, compiled: bool) -> None:
    """A network learns the sum of its inputs; then only its adapters are trained to compute their difference."""
    tg.manual_seed(0)
    model = ManyToOne(LSTM(2, 12), 1).to(device)
    x = numbers(model, 4, 32, 2).detach()
    first, second = x[:, :, 0].sum(0).unsqueeze(1), x[:, :, 1].sum(0).unsqueeze(1)

    def trained(target: tg.Tensor, steps: int) -> list[float]:
        optimizer = tg.optim.AdamW(model.parameters(), lr=0.02, weight_decay=0.01)
        losses = []
        for _ in range(steps):
            loss = tg.mse_loss(model(x), target)
            optimizer.zero_grad()
            loss.backward()
            tg.optim.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            losses.append(loss.item())
        return losses

    trained(first + second, 60)
    nn.add_lora(model, "network.*", "output.weight", rank=1, alpha=2)
    before = model.state_dict()
    losses = trained(first - second, 60)
    assert losses[-1] < 0.4 * losses[0]
    changed = {name for name, values in model.state_dict().items() if (values != before[name]).any()}
    assert changed == {name for name in before if name.endswith(("_lora.A", "_lora.B"))}


@named([(kind, options) for kind, options in NETWORKS if not options.get("bidirectional")])
def test_steps_and_streams_of_adapted_networks(kind: Any, options: dict[str, Any], device: str, compiled: bool) -> None:
    model = adapted(kind, options, device)
    x = input_of(model).detach()
    with tg.no_grad():
        expected = model(x)[0].cpu().numpy()
    step, stream, state, outs = model.stepper(), model.stream(batch=B), None, []
    for t in range(T):
        out, state = step(x[t].data, state)
        outs.append(tg.as_tensor(out).cpu().numpy())
    check_close(outs, list(expected))
    chunks = [tg.as_tensor(stream(chunk.data)).cpu().numpy() for chunk in (x[:1], x[1:])]
    check_close([np.concatenate(chunks)], [expected])


def test_an_adapted_model_streams() -> None:
    tg.manual_seed(0)
    model = CharLM(5, 3, 4, num_layers=2)
    nn.add_lora(model, rank=2)
    perturbed(model)
    ids = tg.tensor([[0], [3], [1], [4]])
    expected = model(ids)[0].detach().numpy()
    np.testing.assert_allclose(model.stream()(ids.numpy()), expected, rtol=1e-5, atol=1e-6)
    assert not np.allclose(expected, without_adapters(model)(ids)[0].detach().numpy())


def without_adapters(model: CharLM) -> CharLM:
    """The model as it was before it was adapted."""
    plain = CharLM(5, 3, 4, num_layers=2)
    plain.load_state_dict({name: array for name, array in model.state_dict().items() if "_lora." not in name})
    return plain


def test_adapters_travel_without_their_model(tmp_path: Path) -> None:
    tg.manual_seed(0)
    model, path = CharLM(5, 3, 4, num_layers=2), tmp_path / "adapters.safetensors"
    nn.add_lora(model, "lstm.*", rank=2, alpha=5)
    perturbed(model)
    tg.io.save_weights(path, nn.lora_state_dict(model))
    fresh = without_adapters(model)
    names = [f"lstm.weight_{part}_l{layer}" for layer in (0, 1) for part in ("ih", "hh")]
    assert nn.load_lora(fresh, tg.io.load_weights(path)) == names
    ids = tg.tensor([[0, 1], [3, 2], [1, 1]])
    np.testing.assert_array_equal(fresh(ids)[0].detach().numpy(), model(ids)[0].detach().numpy())


def test_a_training_run_with_adapters_resumes_to_the_bit(tmp_path: Path) -> None:
    text = "the quick brown fox jumps over the lazy dog. " * 12
    options = TrainingOptions(embedding=3, hidden=5, seq_len=10, batch=3, warmup=2, steps=6, validate_every=3)

    def model_of(characters: int, options: TrainingOptions) -> CharLM:
        model = CharLM(characters, options.embedding, options.hidden)
        nn.add_lora(model, rank=2)
        return model

    whole, broken = tmp_path / "whole", tmp_path / "broken"
    TextTrainer.start(model_of, text, options, whole).run()
    first = TextTrainer.start(model_of, text, options, broken)
    start = first.model.state_dict()
    first.run(lambda progress: first.stop() if progress.step == 3 else None)
    TextTrainer.resume(model_of, text, TextCheckpoint.load(broken / "last.safetensors"), broken).run()
    expected, found = (TextCheckpoint.load(folder / "last.safetensors").weights for folder in (whole, broken))
    assert expected.keys() == found.keys() == start.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)
        assert (values == start[name]).all() == (not name.endswith(("_lora.A", "_lora.B")))


@named([*NETWORKS, *CELLS])
def test_a_trace_of_an_adapted_network_is_that_of_the_merged_one(kind: Any, options: dict[str, Any]) -> None:
    model = adapted(kind, options)
    merged = copy.deepcopy(model)
    nn.merge_lora(merged)
    x = input_of(model).detach() if kind in (LSTM, GRU, RNN) else numbers(model, T, B, I).detach()
    found, expected = (tg.inspect.trace(one, x, loss=lambda out: (out * out).sum()) for one in (model, merged))
    assert [layer.name for layer in found] == [layer.name for layer in expected]
    for mine, want in zip(found, expected, strict=True):
        for arrays in ("values", "gradients", "before", "parameters"):
            own, other = getattr(mine, arrays), getattr(want, arrays)
            assert own.keys() == other.keys()
            check_close(list(own.values()), list(other.values()))


def test_an_adapted_cell_is_explained_by_the_numbers_that_it_computes_with() -> None:
    cell = adapted(LSTMCell, {})
    merged, x = copy.deepcopy(cell), numbers(cell, 1, I).detach()
    nn.merge_lora(merged)
    for mine, want in zip(tg.inspect.explain(cell, x), tg.inspect.explain(merged, x), strict=True):
        for own, other in zip(mine.calculations, want.calculations, strict=True):
            assert own.argument == pytest.approx(other.argument, abs=1e-12)
            assert own.argument == pytest.approx(sum(np.prod(factors) for factors in own.terms), abs=1e-12)
