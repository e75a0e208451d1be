"""The page as a file: what it holds, how exactly, how large it is, and what is refused."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from page_files import contents_of, unpacked

import tinygrad_lstm as tg
from tinygrad_lstm.inspect import PageTooLargeError, Trace, page, trace
from tinygrad_lstm.inspect.packing import Packer
from tinygrad_lstm.models import GRU, LSTM, RNN, CharLM, LSTMCell

LETTERS = "abc <"


def traced(network: Any, *shape: int, **given: Any) -> Trace:
    tg.manual_seed(3)
    return trace(network, tg.randn(*shape), loss=lambda out: (out * out).sum(), **given)


@pytest.fixture(scope="module")
def language() -> Trace:
    tg.manual_seed(0)
    ids = np.random.default_rng(0).integers(0, len(LETTERS), (30, 2))
    return trace(CharLM(len(LETTERS), 4, 8), ids, loss=lambda logits: logits[-1].logsumexp(dim=-1).sum())


# -- packing -----------------------------------------------------------------------------------------------------------

ROWS = hnp.array_shapes(min_dims=2, max_dims=2, max_side=6)


@given(hnp.arrays(np.float64, ROWS, elements=st.floats(-1e100, 1e100)))
def test_linear_is_as_exact_as_it_says(rows: np.ndarray) -> None:
    packer = Packer()
    spec = json.loads(json.dumps(packer.linear(rows)))
    error = np.abs(unpacked(spec, packer.encoded) - rows)
    assert (error <= np.abs(rows).max(axis=0) / 65534 * (1 + 1e-9) + 1e-300).all()


@given(hnp.arrays(np.float64, ROWS, elements=st.floats(-1e100, 1e100)))
def test_logarithmic_is_as_exact_as_it_says(rows: np.ndarray) -> None:
    packer = Packer()
    spec = json.loads(json.dumps(packer.logarithmic(rows)))
    found = unpacked(spec, packer.encoded)
    np.testing.assert_array_equal(np.sign(found), np.sign(rows))
    assert (np.abs(found - rows) <= np.abs(rows) * (packer.precision + 1e-12)).all()


def test_nan_and_infinities_become_nan() -> None:
    packer = Packer()
    rows = np.array([[1.0, np.nan], [np.inf, -2.0]])
    for spec in (packer.linear(rows), packer.logarithmic(rows)):
        np.testing.assert_allclose(unpacked(spec, packer.encoded), [[1, np.nan], [np.nan, -2]], rtol=1e-4)


# -- what the page holds -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [LSTM, GRU, RNN])
def test_arrays_are_the_traces(kind: Any, tmp_path: Path) -> None:
    """Of each layer and sequence; arrays that are left out follow from the others."""
    shown = traced(kind(3, 5, num_layers=2, bidirectional=True), 7, 3, 3, lengths=[7, 2, 0])
    said, texts = contents_of(page(shown, tmp_path / "page.html"))
    assert len(said["items"]) == 2  # a sequence without steps has nothing to show
    assert [layer["name"] for layer in said["layers"]] == ["l0", "l0_reverse", "l1", "l1_reverse"]
    for layer, packed in zip(shown, said["layers"]):
        for b, length in enumerate([7, 2]):
            item = packed["items"][b]
            assert item["steps"] == length
            missing = {"LSTM": ({"h"}, {*"ifgo"}), "GRU": (set(), {*"zn"}), "RNN": (set(), set())}[layer.kind]
            for arrays, name, left_out in (
                (layer.values, "values", missing[0]),
                (layer.gradients, "gradients", missing[1]),
            ):
                assert set(item[name]) == set(arrays) - left_out
                for key, spec in item[name].items():
                    expected = arrays[key][:length, b]
                    np.testing.assert_allclose(
                        unpacked(spec, texts), expected, rtol=2e-3 if name == "gradients" else 0, atol=1e-4
                    )
            assert item["restarts"]["steps"] == [length - 1 if layer.reverse else 0]
            np.testing.assert_allclose(unpacked(item["inputs"], texts), layer.inputs[:length, b], atol=1e-3)
        for name, spec in packed["parameters"].items():
            np.testing.assert_allclose(unpacked(spec, texts), np.atleast_2d(layer.parameters[name]), atol=1e-4)


def test_states_that_begin_anew_are_there(tmp_path: Path) -> None:
    """A layer that is called twice, each time from its own first state."""

    class Twice(tg.nn.Module):
        def __init__(self) -> None:
            self.lstm = LSTM(3, 4)

        def forward(self, x: tg.Tensor) -> tg.Tensor:
            state = (tg.ones(1, 2, 4), tg.full((1, 2, 4), 2.0))
            return tg.cat([self.lstm(x[:3], state)[0], self.lstm(x[3:], state)[0]])

    said, texts = contents_of(page(trace(Twice(), tg.randn(5, 2, 3)), tmp_path / "page.html"))
    restarts = said["layers"][0]["items"][0]["restarts"]
    assert restarts["steps"] == [0, 3]
    np.testing.assert_allclose(unpacked(restarts["states"]["c"], texts), np.full((2, 4), 2.0), atol=1e-3)


@pytest.mark.parametrize(
    ("network", "described", "keeps"),
    [
        (LSTM(3, 5, proj_size=2, peephole=True), "LSTM(proj_size=2, peephole=True)", ["f", "c"]),
        (LSTM(3, 5, layer_norm="output"), "LSTM(layer_norm='output')", ["f", "c"]),
        (LSTM(3, 5, layer_norm="cell"), "LSTM(layer_norm='cell')", None),
        (GRU(3, 5, reset_after=False), "GRU(reset_after=False)", ["z", "h"]),
        (RNN(3, 5, nonlinearity="relu"), "RNN(nonlinearity='relu')", None),
    ],
)
def test_variants_have_all_of_their_units_and_no_equations(
    network: Any, described: str, keeps: list[str] | None, tmp_path: Path
) -> None:
    """Nothing is left out that plain layers' equations would give, but for an h that is no h of units."""
    shown = traced(network, 7, 2, 3, lengths=[7, 4])
    said, texts = contents_of(page(shown, tmp_path / "page.html"))
    (layer,), (packed,) = shown, said["layers"]
    assert (packed["described"], packed["plain"], packed["keeps"]) == (described, False, keeps)
    assert (packed["parameters"], packed["hidden"]) == ({}, 5)
    names = [name for name, array in layer.values.items() if array.shape[2] == 5]
    assert ("h" in names) == (network.state_sizes["h"] == 5)
    for b, length in enumerate([7, 4]):
        item = packed["items"][b]
        assert list(item["values"]) == list(item["gradients"]) == names
        assert list(item["restarts"]["states"]) == [name for name in network.STATES if name in names]
        for name, spec in item["values"].items():
            np.testing.assert_allclose(unpacked(spec, texts), layer.values[name][:length, b], atol=1e-3)
        for name, spec in item["gradients"].items():
            np.testing.assert_allclose(unpacked(spec, texts), layer.gradients[name][:length, b], rtol=2e-3, atol=1e-4)


def test_a_window_has_its_steps_and_units(language: Trace, tmp_path: Path) -> None:
    path = page(language, tmp_path / "page.html", vocabulary=LETTERS, steps=slice(10, 15), units=[6, 1])
    said, texts = contents_of(path)
    (layer,) = said["layers"]
    assert (said["first"], layer["units"], layer["hidden"], layer["parameters"]) == (10, [6, 1], 8, {})
    for b, item in enumerate(layer["items"]):
        assert item["steps"] == 5
        np.testing.assert_allclose(unpacked(item["values"]["f"], texts), language[0].f[10:15, b][:, [6, 1]], atol=1e-4)
        assert item["restarts"]["steps"] == [0]  # what came before the window is not in it
        before = unpacked(item["restarts"]["states"]["c"], texts)
        np.testing.assert_allclose(before, language[0].before["c"][10:11, b][:, [6, 1]], atol=1e-3)
        tokens = [LETTERS[k] for k in language.inputs[10:16, b]]
        assert said["items"][b]["tokens"] == tokens[:5]
        assert said["items"][b]["predictions"]["next"] == tokens[1:]


def test_predictions_are_the_models(language: Trace, tmp_path: Path) -> None:
    said, _ = contents_of(page(language, tmp_path / "page.html", vocabulary=LETTERS))
    assert language.output is not None
    for b, item in enumerate(said["items"]):
        scores = np.exp(language.output[:, b].astype(float))
        probabilities = scores / scores.sum(axis=1, keepdims=True)
        predictions = item["predictions"]
        for t, row in enumerate(probabilities):
            assert [token for token, _ in predictions["top"][t]] == [LETTERS[k] for k in np.argsort(-row)]
            assert [share for _, share in predictions["top"][t]] == pytest.approx(np.sort(row)[::-1], abs=1e-5)
        following = language.inputs[1:, b]
        expected = -np.log(probabilities[np.arange(29), following])
        assert predictions["loss"] == [*(pytest.approx(loss, abs=1e-5) for loss in expected), None]
        assert predictions["next"] == [*(LETTERS[k] for k in following), None]


class Tagger(tg.nn.Module):
    """Logits for each of some ids, by an LSTM that takes sequences first or not."""

    def __init__(self, size: int, batch_first: bool) -> None:
        self.embed, self.lstm = tg.nn.Embedding(size, 4), LSTM(4, 3, batch_first=batch_first)
        self.head = tg.nn.Linear(3, size)

    def forward(self, ids: tg.Tensor, lengths: Any = None) -> tg.Tensor:
        logits: tg.Tensor = self.head(self.lstm(self.embed(ids), lengths=lengths)[0])
        return logits


class Transposing(Tagger):
    """One that takes sequences first, though its LSTM does not."""

    def __init__(self, size: int) -> None:
        super().__init__(size, batch_first=False)

    def forward(self, ids: tg.Tensor, lengths: Any = None) -> tg.Tensor:
        return super().forward(ids.T, lengths).transpose(0, 1)


class Looping(Tagger):
    """One that takes sequences first, and goes through their steps itself."""

    def __init__(self, size: int) -> None:
        super().__init__(size, batch_first=False)
        self.lstm = LSTMCell(4, 3)

    def forward(self, ids: tg.Tensor) -> tg.Tensor:
        state, outputs = None, []
        for x in self.embed(ids).unbind(1):
            state = self.lstm(x, state)
            outputs.append(self.head(state[0]))
        return tg.stack(outputs, dim=1)


TAGGERS = {
    "time first": (lambda size: Tagger(size, batch_first=False), False),
    "batch first": (lambda size: Tagger(size, batch_first=True), True),
    "transposing": (Transposing, True),
    "looping": (Looping, True),
}


def ids_that_tell(rng: np.random.Generator, steps: int, sequences: int) -> np.ndarray:
    """Ids (B, T): two sequences begin alike, and one of them goes on differently."""
    ids = rng.integers(0, 6, (sequences, steps))
    ids[:2, 0], ids[0, 1] = [0, 0], 1
    return ids


@pytest.mark.parametrize("name", TAGGERS)
@given(st.integers(2, 5), st.integers(2, 5), st.booleans(), st.sampled_from(["u1", "i2", "i8"]), st.integers(0, 99))
def test_each_step_has_its_own_token(
    tmp_path_factory: pytest.TempPathFactory, name: str, T: int, B: int, is_square: bool, dtype: str, seed: int
) -> None:
    """In whichever order a model takes its ids, and whichever shape they have."""
    make, batch_first = TAGGERS[name]
    rng = np.random.default_rng(seed)
    ids = ids_that_tell(rng, T, T if is_square else B).astype(dtype)
    lengths = None if name == "looping" else rng.integers(1, T + 1, len(ids))
    model = make(6)
    shown = trace(model, ids if batch_first else ids.T, lengths=lengths)
    path = tmp_path_factory.mktemp("page") / "page.html"
    said, _ = contents_of(page(shown, path, vocabulary="abcdef"))
    plain, _ = contents_of(page(shown, path))
    assert shown.output is not None
    logits = shown.output if batch_first else shown.output.swapaxes(0, 1)
    for b, sequence in enumerate(ids):
        ended = sequence[: T if lengths is None else lengths[b]].tolist()
        assert plain["items"][b]["tokens"] == [str(k) for k in ended]
        assert said["items"][b]["tokens"] == ["abcdef"[k] for k in ended]
        assert said["items"][b]["predictions"]["next"] == [*("abcdef"[k] for k in ended[1:]), None]
        for t, following in enumerate(ended[1:]):
            scores = logits[b, t].astype(float)
            loss = np.log(np.exp(scores).sum()) - scores[following]
            assert said["items"][b]["predictions"]["loss"][t] == pytest.approx(loss, abs=1e-5)
            came = said["items"][b]["predictions"]["came"][t]
            assert (None if came is None else np.argsort(-scores)[came]) in (following, None)
    assert said["layers"][0]["aligned"] and plain["layers"][0]["aligned"]


def test_the_order_of_ids_that_do_not_tell_can_be_given(tmp_path: Path) -> None:
    """A layer's batch_first tells where no id is there twice; what the model does by itself, nothing but its author."""
    ids = np.arange(9).reshape(3, 3)
    rows = [["0", "1", "2"], ["3", "4", "5"], ["6", "7", "8"]]
    columns = [list(column) for column in zip(*rows)]
    path = tmp_path / "page.html"

    def tokens(model: Any, batch_first: bool | None = None) -> list[list[str]]:
        said, _ = contents_of(page(trace(model, ids), path, batch_first=batch_first))
        return [item["tokens"] for item in said["items"]]

    assert tokens(Tagger(9, batch_first=True)) == rows
    assert tokens(Tagger(9, batch_first=False)) == columns
    assert tokens(Transposing(9), batch_first=True) == rows
    assert tokens(Tagger(9, batch_first=True), batch_first=False) == columns
    wide = trace(Tagger(9, batch_first=False), ids[:2])
    with pytest.raises(
        ValueError, match=re.escape("page: batch_first=True is for a model of ids (B, T); this one was")
    ):
        page(wide, path, batch_first=True)
    with pytest.raises(ValueError, match=re.escape("and its first layer ran for (T, B) = (4, 1)")):
        page(traced(LSTM(3, 5), 4, 1, 3), path, batch_first=False)


def test_an_id_without_a_token_is_refused(tmp_path: Path) -> None:
    class Larger(Tagger):
        def __init__(self) -> None:
            super().__init__(4, batch_first=False)
            self.embed = tg.nn.Embedding(9, 4)

    ids = np.array([[0, 3], [2, 8]])
    message = "page: a vocabulary of 4 is for ids from 0 to 3; this model was given ids from 0 to 8"
    with pytest.raises(ValueError, match=re.escape(message)):
        page(trace(Larger(), ids), tmp_path / "page.html", vocabulary="abcd")
    assert page(trace(Larger(), ids, lengths=[2, 1]), tmp_path / "page.html", vocabulary="abcd").exists()


def test_it_is_one_file_that_names_no_other(language: Trace, tmp_path: Path) -> None:
    path = page(language, tmp_path / "page.html", vocabulary=LETTERS, title="</title><script>alert(1)</script>")
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"\b(src|href)=|@import|url\((?!#)|fetch\(|XMLHttpRequest|import\(", text)
    assert [*tmp_path.iterdir()] == [path]
    assert "<script>alert" not in text and "&lt;script&gt;alert(1)" in text
    data, _ = contents_of(path)
    assert "<" in data["items"][0]["tokens"]  # written so that no "<" ends the script that holds it
    assert "{{" not in text


def test_the_same_trace_writes_the_same_file(language: Trace, tmp_path: Path) -> None:
    first = page(language, tmp_path / "a.html", vocabulary=LETTERS).read_bytes()
    assert page(language, str(tmp_path / "b.html"), vocabulary=LETTERS).read_bytes() == first


# -- how large it is, and what is refused ------------------------------------------------------------------------------


@given(
    kind=st.sampled_from([LSTM, GRU, RNN]),
    T=st.integers(1, 40),
    B=st.integers(1, 3),
    H=st.integers(1, 20),
    layers=st.integers(1, 2),
    share=st.floats(0.3, 1.2),
)
def test_the_advice_keeps_the_page_within_its_limit(
    tmp_path_factory: pytest.TempPathFactory, kind: Any, T: int, B: int, H: int, layers: int, share: float
) -> None:
    """A file is never larger than allowed; what is proposed instead is written."""
    with tg.compiled_kernels(False):
        shown = traced(kind(2, H, num_layers=layers), T, B, 2)
    path = tmp_path_factory.mktemp("page") / "page.html"
    allowed = 100_000 + int(share * T * B * (500 + 20 * H * layers))
    try:
        page(shown, path, max_bytes=allowed)
        assert path.stat().st_size <= allowed
    except ValueError as error:
        assert not path.exists()
        for window in re.findall(r"(steps|units)=slice\((\d+), (\d+)\)", str(error)):
            page(shown, path, max_bytes=allowed, **{window[0]: slice(int(window[1]), int(window[2]))})
            assert path.stat().st_size <= allowed


def test_too_large_a_trace_is_refused_with_advice(language: Trace, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="page: ") as caught:
        page(language, tmp_path / "page.html", max_bytes=116_000)
    assert str(caught.value) == (
        "page: 30 steps × 8 units × 1 layer × 2 sequences would make a file of 128,729 bytes, and max_bytes allows "
        "116,000; give a window that fits: steps=slice(0, 16) or units=slice(0, 1)"
    )
    assert not [*tmp_path.iterdir()]


def test_what_is_refused(language: Trace, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    for arguments, message in [
        ({"steps": slice(50, 60)}, "page: slice(50, 60, None) of 30 steps has nothing to show"),
        ({"steps": slice(0, 10, 2)}, "page: slice(0, 10, 2) of 30 steps has nothing to show"),
        ({"units": [3, 8]}, "page: layer 'lstm.l0' has units 0 to 7; got [3, 8]"),
        ({"units": slice(9, 12)}, "page: layer 'lstm.l0' has units 0 to 7; got slice(9, 12, None)"),
        ({"vocabulary": "abc"}, "page: a vocabulary of 3 is for a model of ids (T, B) that returns logits (T, B, 3)"),
    ]:
        with pytest.raises(ValueError, match=re.escape(message)) as caught:
            page(language, path, **arguments)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"this one was given float32 \(4, 1, 3\) and returned \(4, 1, 5\)"):
        page(traced(LSTM(3, 5), 4, 1, 3), path, vocabulary="abcde")
    assert not [*tmp_path.iterdir()]


def test_layers_of_different_batches_are_refused(tmp_path: Path) -> None:
    class Folded(tg.nn.Module):
        def __init__(self) -> None:
            self.outer, self.inner = LSTM(2, 3), LSTM(3, 4)

        def forward(self, x: tg.Tensor) -> tg.Tensor:
            return self.inner(tg.reshape(self.outer(x)[0], (2, 4, 3)))[0]

    message = "page: layer 'outer.l0' ran on 2 sequences, 'inner.l0' on 4; trace a part of the model whose layers share"
    with pytest.raises(ValueError, match=re.escape(message)):
        page(traced(Folded(), 4, 2, 2), tmp_path / "page.html")
    assert not [*tmp_path.iterdir()]


def test_many_small_layers_are_counted(tmp_path: Path) -> None:
    shown = traced(LSTM(1, 1, num_layers=6, bidirectional=True), 1, 20, 1)
    allowed = 300_000
    with pytest.raises(PageTooLargeError):
        page(shown, tmp_path / "page.html", max_bytes=allowed)
    size = page(shown, tmp_path / "page.html", max_bytes=1_000_000).stat().st_size
    assert size > allowed  # so it was right to refuse


def test_long_tokens_are_counted(tmp_path: Path) -> None:
    tokens = [letter * 300 + "<é" for letter in "abcdef"]
    shown = trace(CharLM(6, 2, 2), np.arange(60)[:, None] % 6)
    with pytest.raises(PageTooLargeError) as caught:
        page(shown, tmp_path / "page.html", vocabulary=tokens, max_bytes=200_000)
    assert caught.value.steps is not None
    path = page(shown, tmp_path / "page.html", vocabulary=tokens, max_bytes=200_000, steps=caught.value.steps)
    assert path.stat().st_size <= 200_000


def test_nan_and_infinities_are_written_as_null(tmp_path: Path) -> None:
    model = CharLM(5, 4, 6)
    weights = {name: np.full_like(array, np.nan) for name, array in model.state_dict().items()}
    model.load_state_dict(weights)
    said, texts = contents_of(page(trace(model, np.arange(5)[:, None]), tmp_path / "page.html", vocabulary="abcde"))
    predictions = said["items"][0]["predictions"]
    assert predictions["loss"] == [None] * 5
    assert {share for row in predictions["top"] for _, share in row} == {None}
    assert said["layers"][0]["items"][0]["restarts"]["steps"] == [0]
    assert np.isnan(unpacked(said["layers"][0]["items"][0]["values"]["c"], texts)).all()


def test_a_place_that_cannot_be_written_is_named(language: Trace, tmp_path: Path) -> None:
    path = tmp_path / "none" / "page.html"
    with pytest.raises(FileNotFoundError) as caught:
        page(language, path)
    assert caught.value.filename == str(path)
    occupied = tmp_path / "folder"
    occupied.mkdir()
    with pytest.raises(OSError, match=re.escape(str(occupied))):
        page(language, occupied)
    assert [*tmp_path.iterdir()] == [occupied]
