"""One answer for a sequence: it is the linear layer's of the last hidden state."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_lstm as tg
from tinygrad_lstm.models import GRU, LSTM, RNN, GRUCell, LSTMCell, ManyToOne, Recurrent, RNNCell

sizes = st.integers(1, 4)


def built(kind: Any, seed: int, **settings: Any) -> ManyToOne:
    tg.manual_seed(seed)
    return ManyToOne(kind(2, 3, **settings), 5).to(dtype="float64")


@pytest.mark.parametrize("kind", [LSTM, GRU, RNN])
@given(T=sizes, B=sizes, seed=st.integers(0, 99), both=st.booleans(), layers=st.integers(1, 2), data=st.data())
def test_the_answer_is_read_at_each_sequences_own_end(
    kind: Any, T: int, B: int, seed: int, both: bool, layers: int, data: st.DataObject
) -> None:
    model = built(kind, seed, bidirectional=both, num_layers=layers)
    lengths = np.array(data.draw(st.lists(st.integers(1, T), min_size=B, max_size=B)))
    x = tg.tensor(np.random.default_rng(seed).standard_normal((T, B, 2)))
    answers = model(x, lengths=lengths)
    assert answers.shape == (B, 5)
    for b, length in enumerate(lengths):
        out, _ = model.network(x[:length, b : b + 1])
        ends = tg.concat([out[-1, 0, :3], out[0, 0, 3:]])  # the backward direction ends at the first step
        np.testing.assert_allclose(answers[b].detach().numpy(), model.output(ends).detach().numpy(), atol=1e-12)


@pytest.mark.parametrize("kind", [LSTM, GRU, RNN])
def test_it_continues_from_a_state(kind: Any, device: str) -> None:
    model = built(kind, 0).to(device)
    x = tg.randn(6, 2, 2, dtype="float64", device=device)
    _, state = model.network(x[:4])
    whole, second = model(x), model(x[4:], state)
    np.testing.assert_allclose(second.detach().cpu().numpy(), whole.detach().cpu().numpy(), atol=1e-12)


def any_cells() -> list[Any]:
    tg.manual_seed(3)
    return [(GRUCell(2, 3), LSTMCell(2, 4)), (RNNCell(7, 2), GRUCell(7, 5))]


@pytest.mark.parametrize("cells", [lambda: LSTMCell(2, 3), any_cells])
def test_a_network_of_any_cells(cells: Any, tmp_path: Path, device: str) -> None:
    model = ManyToOne(Recurrent(cells()), 5).to(device)
    x = tg.randn(6, 3, 2, device=device)
    answers = model(x, lengths=[6, 1, 4])
    for b, length in enumerate([6, 1, 4]):
        alone = model(x[:length, b : b + 1])
        np.testing.assert_allclose(answers[b].detach().cpu().numpy(), alone[0].detach().cpu().numpy(), atol=1e-6)
    tg.io.export_onnx(model, tmp_path / "a.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx")
    given = {name: part.cpu().numpy() for name, part in model.example_inputs(6, 3).items()}
    given["x"] = x.cpu().numpy()
    outputs = session.run(["output"], given)
    np.testing.assert_allclose(outputs[0], model(x).detach().cpu().numpy(), atol=1e-5)
    if not model.network.bidirectional:
        stream, out = model.stream(3), None
        for x_t in x:
            out = stream(x_t.data)
        found = tg.tensor(out, device=device).cpu().numpy()
        np.testing.assert_allclose(found, model(x).detach().cpu().numpy(), atol=1e-6)


def test_a_network_of_cells_without_an_input_size_is_named() -> None:
    class Bare(tg.nn.Module):
        def __init__(self) -> None:
            self.weight = tg.nn.Parameter(tg.ones(3))

        def forward(self, x: tg.Tensor, h: Any = None) -> tg.Tensor:
            return x if h is None else h + x

    with pytest.raises(ValueError, match=r"Recurrent\.output_size: .* give the first cell an attribute input_size"):
        ManyToOne(Recurrent(Bare()), 5)


def test_invalid_inputs_are_refused() -> None:
    with pytest.raises(ValueError, match=r"GRU: expected an input of shape \(time, batch, 2\), got \(4, 3\)"):
        built(GRU, 0)(tg.ones(4, 3, dtype="float64"))


def test_a_user_defined_forward_needs_a_user_defined_named_forward() -> None:
    class Squashed(ManyToOne):
        def forward(self, *args: Any, **kwargs: Any) -> tg.Tensor:
            return tg.tanh(super().forward(*args, **kwargs))

    with pytest.raises(ValueError, match=r"Squashed\.named_forward: it overrides forward, .* define named_forw"):
        Squashed(GRU(2, 3), 5).named_forward(tg.ones(4, 1, 2))


def test_inputs_are_standardised_in_the_model_and_its_streams(device: str) -> None:
    tg.manual_seed(0)
    model = ManyToOne(GRU(2, 3), 5, standardize=True).to(device)
    x = (np.random.default_rng(0).normal(size=(20, 4, 2)) * [3, 0] + [100, 7]).astype("f")
    assert model.standardization is not None
    model.standardization.measure([x[:, b] for b in range(4)])
    by_hand = (x - x.mean((0, 1))) / [x[..., 0].std(), 1]
    plain = ManyToOne(model.network, 5)
    plain.output = model.output
    expected = plain(tg.tensor(by_hand.astype("f"), device=device)).detach().cpu().numpy()
    np.testing.assert_allclose(model(tg.tensor(x, device=device)).detach().cpu().numpy(), expected, atol=1e-4)
    stream, on_device = model.stream(4), tg.tensor(x, device=device).data
    stream(on_device[:2])
    stream(on_device[2])
    answers = tg.tensor(stream.copy()(on_device[3:]), device=device)  # more steps than run one by one
    np.testing.assert_allclose(answers[-1].cpu().numpy(), expected, atol=1e-4)


def test_dropout_is_for_training_only() -> None:
    model, x = ManyToOne(GRU(2, 30), 5, dropout=0.5), tg.ones(3, 1, 2)
    assert model(x).tolist() != model(x).tolist()
    with model.evaluating():
        assert model(x).tolist() == model(x).tolist()
