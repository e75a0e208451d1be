"""The character language model: loss, sampling."""

import itertools
import math
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_lstm as tg
from tinygrad_lstm.data import Vocabulary
from tinygrad_lstm.models import CharLM
from tinygrad_lstm.models.atlas import ATLAS
from tinygrad_lstm.train import TextCheckpoint, TextTrainer, TrainingOptions, evaluate


def model(seed: int = 0, **settings: float) -> CharLM:
    tg.manual_seed(seed)
    return CharLM(7, 4, 6, **settings)  # type: ignore[arg-type]


CELLS = [name for name in ATLAS if name != "lstm"]


def model_of(cell: str, layers: int = 2) -> CharLM:
    tg.manual_seed(0)
    return CharLM(7, 4, 6, layers, cell=cell).to(dtype="float64")


def ids(T: int, B: int, seed: int = 0) -> tg.Tensor:
    return tg.tensor(np.random.default_rng(seed).integers(0, 7, (T, B)))


def test_untrained_loss_is_near_that_of_chance(device: str) -> None:
    lm = model().to(device)
    loss, (h, c) = lm.loss(ids(20, 8).to(device), ids(20, 8, 1).to(device))
    assert loss.item() == pytest.approx(np.log(7), abs=0.3)
    assert h.shape == c.shape == (1, 8, 6)


@given(T=st.integers(2, 8), cut=st.integers(1, 7), layers=st.integers(1, 2))
def test_text_in_chunks_equals_the_whole(T: int, cut: int, layers: int) -> None:
    cut = min(cut, T - 1)
    lm, text = model(num_layers=layers).to(dtype="float64"), ids(T, 3)
    whole, _ = lm(text)
    first, state = lm(text[:cut])
    second, _ = lm(text[cut:], state)
    np.testing.assert_allclose(tg.cat([first, second]).detach().numpy(), whole.detach().numpy(), atol=1e-12)


def test_it_learns_a_repeating_text(device: str) -> None:
    lm = model().to(device)
    text = tg.tensor([k % 5 for k in range(41)], device=device).unsqueeze(1)
    optimizer = tg.optim.Adam(lm.parameters(), lr=0.03)
    for _ in range(60):
        optimizer.zero_grad()
        loss, _ = lm.loss(text[:-1], text[1:])
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
    assert lm.generate([0, 1], 8, temperature=0) == [2, 3, 4, 0, 1, 2, 3, 4]


def test_generation_repeats_with_its_generator_and_keeps_the_training_mode() -> None:
    lm = model(dropout=0.5)
    lm.train()
    first = lm.generate([1, 2], 20, rng=np.random.default_rng(3))
    assert first == lm.generate([1, 2], 20, rng=np.random.default_rng(3))
    assert first != lm.generate([1, 2], 20, rng=np.random.default_rng(4))
    assert lm.training
    assert all(0 <= drawn < 7 for drawn in first)


def test_generation_leaves_each_module_in_the_mode_that_it_is_in() -> None:
    lm = model()
    lm.lstm.eval()
    before = {name: module.training for name, module in lm.named_modules()}
    lm.generate([1], 2)
    assert {name: module.training for name, module in lm.named_modules()} == before
    ids = lm.sample([1])
    next(ids)
    lm.eval()
    next(ids)
    assert not any(module.training for module in lm.modules())


def test_evaluating_ends_with_its_block() -> None:
    lm = model()
    lm.lstm.eval()
    with pytest.raises(KeyError), lm.evaluating() as same:
        assert same is lm and not any(module.training for module in lm.modules())
        raise KeyError
    assert lm.training and lm.output.training and not lm.lstm.training


def test_sample_is_what_generate_returns() -> None:
    lm = model()
    sampled = list(itertools.islice(lm.sample([1], rng=np.random.default_rng(0)), 10))
    assert sampled == lm.generate([1], 10, rng=np.random.default_rng(0))


def test_top_k_draws_only_from_the_likeliest() -> None:
    lm = model()
    logits, _ = lm(tg.tensor([[1]]))
    likeliest = set(np.argsort(logits.detach().numpy()[0, 0])[-2:].tolist())
    rng = np.random.default_rng(0)
    drawn = {lm.generate([1], 1, temperature=5.0, top_k=2, rng=rng)[0] for _ in range(50)}
    assert drawn == likeliest


def test_top_p_draws_only_from_the_likeliest_with_that_probability() -> None:
    lm = CharLM(5, 2, 3)
    with tg.no_grad():
        for parameter in lm.parameters():
            parameter.zero_()
        for id, probability in enumerate([0.1, 0.4, 0.2, 0.05, 0.25]):
            lm.output.bias[id] = math.log(probability)
    rng = np.random.default_rng(0)
    for top_p, likeliest in ((0.3, {1}), (0.41, {1, 4}), (0.64, {1, 4}), (0.66, {1, 4, 2}), (1.0, {0, 1, 2, 3, 4})):
        assert {next(lm.sample([0], rng=rng, top_p=top_p)) for _ in range(300)} == likeliest, top_p
    # Of the ids that top_k leaves, and at the temperature: 0.4² is 0.62 of 0.4² + 0.25² + 0.2².
    assert {next(lm.sample([0], 0.5, 3, rng, top_p=0.6)) for _ in range(50)} == {1}


@pytest.mark.parametrize(("embedding_size", "cell"), [(6, "lstm"), (4, "lstm"), (4, "mgu")])
def test_a_tied_model_has_its_embedding_as_output(embedding_size: int, cell: str, device: str) -> None:
    lm = CharLM(7, embedding_size, 6, cell=cell, tie=True).to(device)
    names = [name for name, _ in lm.named_parameters()]
    assert ("projection.weight" in names) == (embedding_size != 6) and "output.weight" not in names
    ids = tg.tensor(np.arange(24).reshape(12, 2) % 7, device=device)
    loss, _ = lm.loss(ids, ids)
    loss.backward()
    tg.optim.SGD(lm.parameters(), lr=0.1).step()
    state = lm.state_dict()
    np.testing.assert_array_equal(state["output.weight"], state["embedding.weight"])
    logits, _ = lm.eval()(ids)
    streamed = tg.tensor(lm.stream(2)(ids.data), device=device)
    np.testing.assert_allclose(streamed.cpu().numpy(), logits.detach().cpu().numpy(), rtol=1e-4, atol=1e-6)


def test_top_k_draws_no_more_than_k_of_equally_likely_ones() -> None:
    lm = model()
    with tg.no_grad():
        lm.output.weight.zero_()
        lm.output.bias.zero_()
    rng = np.random.default_rng(0)
    for k in (1, 2, 3):
        assert len({lm.generate([1], 1, top_k=k, rng=rng)[0] for _ in range(40)}) == k
    assert lm.generate([1], 3, top_k=1, rng=rng) == lm.generate([1], 3, temperature=0)


@pytest.mark.parametrize("temperature", [5e-324, 1e-300, 1e-45])
@pytest.mark.parametrize("top_k", [None, 3])
def test_the_lowest_temperatures_take_the_likeliest(temperature: float, top_k: int | None) -> None:
    lm = model()
    assert lm.generate([1], 5, temperature, top_k) == lm.generate([1], 5, temperature=0)


def test_generation_follows_the_distribution() -> None:
    lm = model()
    logits = lm(tg.tensor([[1]]))[0].detach().numpy()[0, 0].astype(np.float64)
    expected = np.exp(logits / 0.5) / np.exp(logits / 0.5).sum()
    rng = np.random.default_rng(0)
    drawn = [lm.generate([1], 1, temperature=0.5, rng=rng)[0] for _ in range(2000)]
    np.testing.assert_allclose(np.bincount(drawn, minlength=7) / 2000, expected, atol=0.04)


@pytest.mark.parametrize(
    ("prompt", "settings", "message"),
    [
        ([], {}, "prompt is empty"),
        ([1], {"temperature": -1.0}, "temperature is -1.0"),
        ([1], {"temperature": np.nan}, "temperature is nan; expected 0 or more, and finite"),
        ([1], {"temperature": np.inf}, "temperature is inf"),
        ([1], {"top_k": 0}, "top_k is 0"),
        ([1], {"top_p": 0.0}, "top_p is 0"),
        ([1], {"top_p": 1.5}, "top_p is 1.5"),
    ],
)
def test_bad_generation_settings(prompt: list[int], settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model().generate(prompt, 1, **settings)  # type: ignore[arg-type]


def test_targets_must_have_the_shape_of_the_ids() -> None:
    with pytest.raises(ValueError, match=r"ids' shape \(3, 2\), got \(2, 3\)"):
        model().loss(ids(3, 2), ids(2, 3))


def test_unknown_id_is_an_index_error() -> None:
    with pytest.raises(IndexError, match="index 7 is out of range"):
        model()(tg.tensor([[7]]))


def test_named_forward_is_forward_of_a_subclass_too() -> None:
    class Cool(CharLM):
        def forward(self, ids: tg.Tensor, state: Any = None) -> Any:
            logits, state = super().forward(ids, state)
            return logits / 2, state

    model = Cool(7, 4, 5, num_layers=2)
    given = model.example_inputs(6, 2)
    assert list(given) == ["ids", "h0", "c0"]
    logits, (h, c) = model(given["ids"], (given["h0"], given["c0"]))
    named = model.named_forward(**given)
    assert list(named) == ["logits", "h", "c"]
    for found, expected in zip(named.values(), (logits, h, c), strict=True):
        np.testing.assert_array_equal(found.detach().numpy(), expected.detach().numpy())
    with pytest.raises(ValueError, match="CharLM: expected the states h0, c0, got h0"):
        model.named_forward(given["ids"], h0=given["h0"])


@pytest.mark.parametrize("temperature", [0, 1])
@pytest.mark.parametrize("weight", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_named_as_the_fault(weight: float, temperature: float) -> None:
    lm = model()
    lm.output.bias.data[3] = weight
    with pytest.raises(ValueError, match=f"sample: the highest of the model's logits is {weight}"):
        lm.generate([1], 1, temperature)


# -- checkpoints ------------------------------------------------------------------------------------------------------


TEXT = "the quick brown fox jumps over the lazy dog.\n" * 9


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    options = TrainingOptions(embedding=3, hidden=5, layers=2, seq_len=10, batch=3, steps=2, dropout=0.2)
    trainer = TextTrainer.start(CharLM.from_options, TEXT, options, tmp_path)
    trainer.run()
    return trainer.last_path


def test_a_model_is_loaded_from_its_checkpoint(checkpoint: Path, device: str) -> None:
    lm, saved = CharLM.load(checkpoint, device), TextCheckpoint.load(checkpoint)
    assert not lm.training and lm.lstm.num_layers == 2
    assert all(parameter.device == device for parameter in lm.parameters())
    ids = saved.vocabulary.encode("the fox").tolist()
    again = CharLM.load(saved, device)
    assert lm.generate(ids, 20, temperature=0) == again.generate(ids, 20, temperature=0)
    by_hand = CharLM(len(saved.vocabulary), 3, 5, 2)
    by_hand.load_state_dict(saved.weights)
    for name, array in by_hand.state_dict().items():
        np.testing.assert_array_equal(array, lm.state_dict()[name])


def test_a_user_defined_class_is_loaded_too(checkpoint: Path) -> None:
    class Mine(CharLM):
        pass

    assert type(Mine.load(checkpoint)) is Mine


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        ({"layers": 10**7}, "the options have 10000000 layers, the weights 2"),
        (
            {"hidden": 10**6},
            r"the options give lstm.weight_hh_l0 the shape \(4000000, 1000000\), the weights have \(20, 5\)",
        ),
        ({"embedding": 10**9}, r"the options give embedding.weight the shape \(\d+, 1000000000\)"),
    ],
)
def test_sizes_are_compared_before_a_model_of_them_is_made(checkpoint: Path, wrong: dict[str, int], fault: str) -> None:
    saved = TextCheckpoint.load(checkpoint)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=fault):
            CharLM.load(saved.with_options(replace(saved.options, **wrong)))  # type: ignore[arg-type]
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_weights_are_taken_over_character_by_character(checkpoint: Path, device: str) -> None:
    saved = TextCheckpoint.load(checkpoint)
    vocabulary = Vocabulary(saved.vocabulary.characters + "!Zé")
    lm = CharLM.from_options(len(vocabulary), saved.options).to(device)
    before = {name: array.copy() for name, array in lm.state_dict().items()}
    lm.take_over(saved, vocabulary)
    new = vocabulary.encode("!Zé")
    known = vocabulary.encode(saved.vocabulary.characters)
    for name, array in lm.state_dict().items():
        if name.startswith("lstm"):
            np.testing.assert_array_equal(array, saved.weights[name])
        else:
            np.testing.assert_array_equal(array[known], saved.weights[name])
            np.testing.assert_array_equal(array[new], before[name][new])


def test_weights_of_other_sizes_or_characters_are_not_taken_over(checkpoint: Path) -> None:
    saved = TextCheckpoint.load(checkpoint)
    with pytest.raises(ValueError, match=r"at position \d+ is not among"):
        CharLM(3, 3, 5, 2).take_over(saved, Vocabulary("abc"))
    for sizes in ((3, 6, 2), (3, 5, 1), (4, 5, 2)):
        lm = CharLM(len(saved.vocabulary), *sizes)
        before = {name: array.copy() for name, array in lm.state_dict().items()}
        with pytest.raises(ValueError, match="its contents are invalid"):
            lm.take_over(saved, saved.vocabulary)
        for name, array in lm.state_dict().items():
            np.testing.assert_array_equal(array, before[name])


def test_a_bias_of_one_number_is_not_spread_over_all_characters(checkpoint: Path) -> None:
    saved = TextCheckpoint.load(checkpoint)
    wrong = replace(saved, weights={**saved.weights, "output.bias": np.zeros(1, np.float32)})
    with pytest.raises(ValueError, match=r"give output\.bias the shape \(29,\), the weights have \(1,\)"):
        CharLM.from_options(len(saved.vocabulary), saved.options).take_over(wrong, saved.vocabulary)


# -- cells of the atlas ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("layers", [1, 2])
def test_a_model_of_any_cell_reads_a_text_in_chunks(cell: str, layers: int) -> None:
    lm, text = model_of(cell, layers).eval(), ids(6, 3)
    whole, state = lm(text)
    first, between = lm(text[:2])
    second, after = lm(text[2:], between)
    np.testing.assert_allclose(tg.cat([first, second]).detach().numpy(), whole.detach().numpy(), atol=1e-12)
    shapes = [(layers, 3, *shape) for shape in ATLAS[cell](4, 6).state_shapes().values()]
    assert [part.shape for part in state] == [part.shape for part in after] == shapes


@pytest.mark.parametrize("cell", CELLS)
def test_a_model_of_any_cell_is_trained_and_sampled(cell: str) -> None:
    lm = model_of(cell)
    loss, _ = lm.loss(ids(5, 3), ids(5, 3, 1))
    loss.backward()
    assert all(p.grad is not None and p.grad.numpy().any() for name, p in lm.named_parameters() if "embed" not in name)
    drawn = lm.generate([1, 2], 4, temperature=0)
    text = [1, 2]
    for _ in range(4):
        logits, _ = lm.eval()(tg.tensor(text).unsqueeze(1))
        text.append(int(logits[-1, 0].detach().numpy().argmax()))
    assert drawn == text[2:]
    out = lm.named_forward(**lm.example_inputs(3, 2))
    assert list(out) == ["logits", *ATLAS[cell].STATES]


def test_what_a_model_of_another_cell_does_not_have_is_named() -> None:
    with pytest.raises(ValueError, match=r"CharLM: expected a cell of the atlas, such as mgu, .*, got 'mgx'"):
        CharLM(7, 4, 6, cell="mgx")
    with pytest.raises(ValueError, match=r"CharLM: expected the states y0, z0, got h0"):
        model_of("lem").named_forward(ids(2, 3), h0=tg.zeros(2, 3, 6))


@pytest.mark.parametrize("cell", ["mgu", "lstm_projection", "mlstm"])
@pytest.mark.parametrize("changed", [{"hidden": 10**6}, {"embedding": 10**6}, {"layers": 3}, {"cell": "lem"}])
def test_options_that_the_weights_contradict_make_no_model(cell: str, changed: dict[str, Any], tmp_path: Path) -> None:
    text = "the quick brown fox jumps over the lazy dog" * 9
    options = TrainingOptions(steps=1, cell=cell, embedding=3, hidden=4, layers=2, seq_len=8, batch=2)
    TextTrainer.start(CharLM.from_options, text, options, tmp_path).run()
    saved = TextCheckpoint.load(tmp_path / "last.safetensors")
    loaded = CharLM.load(saved)
    assert loaded.cell == cell and evaluate(loaded, saved.vocabulary.encode(text)) > 0
    with pytest.raises(ValueError, match=r"its contents are invalid \(the options "):
        CharLM.load(saved.with_options(replace(saved.options, **changed)))
