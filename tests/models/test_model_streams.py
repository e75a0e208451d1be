"""Streams of whole models: chunk by chunk they compute what the model computes of the whole sequence."""

import copy
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygrad_lstm as tg
from tinygrad_lstm import Tensor
from tinygrad_lstm.models import GRU, LSTM, ModelStream

B = 2


class Applied(tg.nn.Module):
    """A function as a module, with the modules that it uses."""

    def __init__(self, function: Callable[..., Any], **modules: tg.nn.Module) -> None:
        self.function = function
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, x: Tensor, *others: Tensor, **named: Tensor) -> Any:
        return self.function(self, x, *others, **named)


def rows(T: int, *sizes: int, seed: int = 0) -> tg.backends.base.HostArray:
    return np.random.default_rng(seed).standard_normal((T, B, *sizes)).astype("float32")


def stream_of(model: tg.nn.Module, x: Any, **settings: Any) -> ModelStream:
    return tg.models.stream(model, {"x": tg.tensor(x[:6])}, B, **settings)


def in_chunks(stream: ModelStream, x: Any, cuts: Sequence[int], by_step: bool = False) -> Any:
    """The outputs for chunks that begin at 0 and at these steps, joined."""
    found = []
    for begin, end in zip([0, *cuts], [*cuts, len(x)], strict=True):
        step = by_step and end == begin + 1
        found.append(stream(x[begin] if step else x[begin:end]))
        found[-1] = found[-1][None] if step and stream_is_by_step(stream) else found[-1]
    found.append(stream.finish())
    return np.concatenate(found)


def stream_is_by_step(stream: ModelStream) -> bool:
    (output,) = stream._plan.outputs.values()
    return output.by_step


class Spotter(tg.nn.Module):
    """A causal convolution, a recurrent network and a layer for outputs."""

    def __init__(self) -> None:
        self.conv = tg.nn.Conv1d(3, 4, 4)
        self.lstm = LSTM(4, 5, num_layers=2)
        self.output = tg.nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        frames = tg.relu(self.conv(tg.pad(x.permute(1, 2, 0), (3, 0))))
        return self.output(self.lstm(frames.permute(2, 0, 1))[0])  # type: ignore[no-any-return]


def test_chunks_equal_the_whole() -> None:
    model, x = Spotter(), rows(20, 3)
    with tg.no_grad():
        whole = model(tg.tensor(x)).numpy()
    for cuts in ([], [1, 2, 7, 8], range(1, 20)):
        for by_step in (False, True):
            found = in_chunks(stream_of(model, x), x, list(cuts), by_step)
            np.testing.assert_allclose(found, whole, rtol=0, atol=1e-6)


def test_outputs_that_begin_later_do_so_again() -> None:
    """A difference has no output for the first step, also after a reset."""
    model, x = Applied(lambda self, x: tg.diff(x, dim=0)), rows(6, 3)
    stream = stream_of(model, x)
    for _ in range(2):
        found = [stream(each) for each in x]
        assert [len(each) for each in found] == [0, 1, 1, 1, 1, 1]
        np.testing.assert_allclose(np.concatenate(found), np.diff(x, axis=0), rtol=0, atol=1e-6)
        stream.reset()
    with pytest.raises(ValueError, match="all rows must begin anew together"):
        stream.reset([0])


def test_outputs_from_before_the_first_step_come_for_all_rows() -> None:
    x = rows(6, 3)
    stream = stream_of(Applied(lambda self, x: tg.pad(x, (0, 0, 0, 0, 2, 0))), x)
    assert [len(stream(each)) for each in x] == [3, 1, 1, 1, 1, 1]
    with pytest.raises(ValueError, match="all rows must begin anew together"):
        stream.reset([0])


def test_a_mean_of_the_steps_until_now() -> None:
    x = rows(9, 3)
    model = Applied(lambda self, x: x.cumsum(0) / tg.arange(1, x.shape[0] + 1).reshape(-1, 1, 1))
    stream = stream_of(model, x)
    found = np.stack([stream(each) for each in x])
    np.testing.assert_allclose(found, x.cumsum(0) / np.arange(1, 10)[:, None, None], rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="getitem takes a step that is not at a fixed distance from the last one"):
        stream_of(Applied(lambda self, x: x - x[0]), x)


def test_resets_and_a_mask_come_with_the_steps() -> None:
    class Marked(tg.nn.Module):
        def __init__(self) -> None:
            self.lstm = LSTM(3, 4, num_layers=2)

        def forward(self, x: Tensor, mask: Tensor, resets: Tensor) -> Tensor:
            return self.lstm(x, mask=mask, resets=resets)[0]

    model, x, rng = Marked(), rows(12, 3), np.random.default_rng(1)
    mask, resets = rng.random((12, B)) > 0.3, rng.random((12, B)) > 0.7
    x[~mask] = np.nan  # a step that is skipped is not read
    with tg.no_grad():
        whole = model(tg.tensor(x), tg.tensor(mask), tg.tensor(resets)).numpy()
    named = {"x": x, "mask": mask, "resets": resets}
    stream = tg.models.stream(model, {name: tg.tensor(each[:6]) for name, each in named.items()}, B)
    found = [stream(*each) for each in zip(x[:6], mask[:6], resets[:6], strict=True)]
    found += [*stream(x[6:], mask[6:], resets[6:])]
    np.testing.assert_allclose(np.stack(found), whole, rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match=r"expected mask as bool of shape \(2,\), .* got float64"):
        stream(x[0], mask[0] * 1.0, resets[0])


UNBATCHED = {
    "zeros of each step": lambda self, x: tg.zeros(x.shape[0], 3),
    "ones": lambda self, x: tg.ones_like(x),
    "ones of each row": lambda self, x: tg.ones(x.shape[1], 3),
    "numbers of the steps": lambda self, x: tg.arange(x.shape[0]),
    "those from 1": lambda self, x: tg.arange(1, x.shape[0] + 1),
    "their rows of a table": lambda self, x: self.table(tg.arange(x.shape[0])),
    "those for each row": lambda self, x: self.table(tg.arange(x.shape[0]).unsqueeze(1)).expand(*x.shape[:2], 3),
    "a convolution of them": lambda self, x: self.conv(
        tg.pad(self.table(tg.arange(x.shape[0])).T.unsqueeze(0), (1, 0))
    ),
    "a norm of them": lambda self, x: self.norm(self.table(tg.arange(x.shape[0]))),
}  # fmt: skip


@pytest.mark.parametrize("name", UNBATCHED)
def test_outputs_that_do_not_depend_on_the_input(name: str) -> None:
    """They have as many steps and rows as the model returns, in chunks and step by step."""
    modules = {"table": tg.nn.Embedding(40, 3), "conv": tg.nn.Conv1d(3, 3, 2), "norm": tg.nn.GroupNorm(1, 3)}
    model = Applied(lambda self, x: (x * 2, UNBATCHED[name](self, x)), **modules)
    x = rows(8, 3)
    with tg.no_grad():
        whole = model(tg.tensor(x))[1].numpy()
    stream = stream_of(model, x)
    time = list(stream.output_times.values())[1]
    parts = [stream(x[t])[1] for t in range(3)] + [stream(x[3:])[1]]
    if time is None:
        found = parts[-1]
        parts[0][:] = 7  # an array of its own
    else:
        found = np.concatenate([*(np.expand_dims(part, time) for part in parts[:3]), parts[3]], time)
    np.testing.assert_allclose(found, whole, rtol=0, atol=1e-6)
    assert (found.dtype, found.shape) == (whole.dtype, whole.shape)


def test_rows_of_an_output_without_a_batch_begin_together() -> None:
    x = rows(8, 3)
    stream = stream_of(Applied(lambda self, x: (x * 2, tg.arange(x.shape[0]))), x)
    stream(x[:3])
    with pytest.raises(ValueError, match="all rows must begin anew together, since an output has no batch dimension"):
        stream.reset([0])
    assert str(stream) == "ModelStream(Applied, batch=2; 3 steps until now)"


def test_states_have_names_and_can_be_set(tmp_path: Path) -> None:
    model, x = Spotter(), rows(20, 3)
    stream = stream_of(model, x)
    stream(x[:7])
    state = stream.state
    assert {name: part.shape for name, part in state.items()} == {
        "conv.frames": (B, 3, 3),
        "lstm.l0.h": (B, 5),
        "lstm.l0.c": (B, 5),
        "lstm.l1.h": (B, 5),
        "lstm.l1.c": (B, 5),
        "steps": (),
    }
    stream.save(tmp_path / "state.safetensors")
    copies = [stream.copy(), copy.deepcopy(stream), pickle.loads(pickle.dumps(stream))]
    expected = stream(x[7])
    restored, loaded = stream_of(model, x), stream_of(model, x)
    restored.state = state
    loaded.load(tmp_path / "state.safetensors")
    for other in (*copies, restored, loaded):
        np.testing.assert_array_equal(other(x[7]), expected)


def test_a_state_of_a_different_model_is_refused() -> None:
    model, x = Spotter(), rows(20, 3)
    stream = stream_of(model, x)
    state = stream.state
    with pytest.raises(ValueError, match=r"expected the arrays conv\.frames, lstm\.l0\.h, .*, steps, got steps"):
        stream.state = {"steps": state["steps"]}
    with pytest.raises(ValueError, match=r"expected lstm\.l1\.c as float32 \(2, 5\), got float32 \(2, 4\)"):
        stream.state = state | {"lstm.l1.c": state["lstm.l1.c"][:, :4]}


def test_rows_begin_anew() -> None:
    model, x = Spotter(), rows(20, 3)
    stream = stream_of(model, x)
    first = stream(x[:5])
    stream.reset([1])
    again = stream(x[:5])
    np.testing.assert_allclose(again[:, 1], first[:, 1], rtol=0, atol=1e-6)
    assert np.abs(again[:, 0] - first[:, 0]).max() > 1e-4
    stream.reset()
    np.testing.assert_array_equal(stream(x[:5]), first)


def test_the_present_state_is_an_output() -> None:
    def forward(self: Any, x: Tensor) -> Any:
        out, h = self.gru(x)
        return {"out": out, "h": h}

    x = rows(12, 3)
    model = Applied(forward, gru=GRU(3, 4))
    stream = stream_of(model, x)
    for begin, end in ((0, 1), (1, 6), (6, 12)):
        found = stream(x[begin:end])
        with tg.no_grad():
            whole = model(tg.tensor(x[:end]))
        np.testing.assert_allclose(found.h, whole["h"].numpy(), rtol=0, atol=1e-6)
        np.testing.assert_allclose(found.out, whole["out"].numpy()[begin:], rtol=0, atol=1e-6)


def test_what_looks_ahead_says_by_how_much() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        return self.second(self.first(x.permute(1, 2, 0))).permute(2, 0, 1)  # type: ignore[no-any-return]

    x = rows(20, 3)
    model = Applied(forward, first=tg.nn.Conv1d(3, 4, 3, padding=1), second=tg.nn.Conv1d(4, 2, 5, padding=2))
    message = r"looks ahead by 3 steps \(conv1d 'first' by 1, conv1d 'second' by 2\); with lookahead=3 its outputs"
    with pytest.raises(ValueError, match=message):
        stream_of(model, x)
    stream = stream_of(model, x, lookahead=3)
    with tg.no_grad():
        whole = model(tg.tensor(x)).numpy()
    assert len(stream(x[:10])) == 7
    np.testing.assert_allclose(stream(x[10:]), whole[7:17], rtol=0, atol=1e-6)
    np.testing.assert_allclose(stream.finish(), whole[17:], rtol=0, atol=1e-6)
    assert len(stream(x[:4])) == 1  # at its start again


class Pair(tg.nn.Module):
    """Two networks for two inputs, whose branches come at different times, and an input without time."""

    def __init__(self) -> None:
        self.ids = tg.nn.Embedding(7, 4)
        self.words, self.sounds = GRU(4, 3), LSTM(2, 3)
        self.conv = tg.nn.Conv1d(2, 2, 3)

    def forward(self, words: Tensor, sounds: Tensor, speaker: Tensor) -> Any:
        frames = self.conv(sounds.permute(1, 2, 0)).permute(2, 0, 1)
        read, h = self.words(self.ids(words))
        heard, _ = self.sounds(frames)
        return {"both": tg.cat([read[2:] * speaker, heard], -1), "read": read, "h": h}


def test_several_inputs_and_outputs() -> None:
    model, T = Pair(), 15
    given = {"words": np.random.default_rng(0).integers(0, 7, (T, B)), "sounds": rows(T, 2), "speaker": rows(1, 3)[0]}
    dynamic = {"words": {0: "time", 1: "batch"}, "sounds": {0: "time", 1: "batch"}, "speaker": {0: "batch"}}
    with tg.no_grad():
        whole = model(**{name: tg.tensor(each) for name, each in given.items()})
    stream = tg.models.stream(model, given, B, dynamic=dynamic, fixed={"speaker": given["speaker"]})
    assert [name for name in stream.state if name.endswith((".h", ".c"))] == [
        "words.l0.h",
        "sounds.l0.h",
        "sounds.l0.c",
    ]
    found = [stream(given["words"][t], sounds=given["sounds"][t]) for t in range(T)]
    np.testing.assert_allclose(np.concatenate([each.both for each in found]), whole["both"].numpy(), rtol=0, atol=1e-6)
    np.testing.assert_allclose(np.stack([each.read for each in found]), whole["read"].numpy(), rtol=0, atol=1e-6)
    np.testing.assert_allclose(found[-1].h, whole["h"].numpy(), rtol=0, atol=1e-6)
    with pytest.raises(TypeError, match="expected the inputs words, sounds"):
        stream(given["words"][0])
    with pytest.raises(IndexError, match="index 7 is out of range"):
        stream(np.full(B, 7), given["sounds"][0])


def test_lengths_are_given_once() -> None:
    def forward(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
        return self.gru(x, lengths=lengths)[0]  # type: ignore[no-any-return]

    model, x, lengths = Applied(forward, gru=GRU(3, 4)), rows(9, 3), np.array([4, 9])
    dynamic = {"x": {0: "time", 1: "batch"}, "lengths": {0: "batch"}}
    examples = {"x": x[:5], "lengths": np.array([3, 5])}
    stream = tg.models.stream(model, examples, B, dynamic=dynamic, fixed={"lengths": lengths})
    with tg.no_grad():
        whole = model(tg.tensor(x), tg.tensor(lengths)).numpy()
    found = [stream(x[0])[None], stream(x[1:3]), stream(x[3:])]
    np.testing.assert_allclose(np.concatenate(found), whole, rtol=0, atol=1e-6)


def test_the_state_does_not_grow() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        frames = self.conv(x.permute(1, 2, 0)).permute(2, 0, 1)
        return tg.cumsum(frames, 0)[1:] - frames[:-1]

    x = rows(200, 3)
    stream = stream_of(Applied(forward, conv=tg.nn.Conv1d(3, 4, 5, stride=3)), x)
    sizes = []
    for each in x:
        stream(each)
        sizes.append(sum(part.size for part in stream.state.values()))
    assert max(sizes[100:]) == max(sizes[20:100])


WHOLE: list[tuple[Callable[[Any, Tensor], Any], str]] = [
    (lambda self, x: x - x.mean(0), "mean goes over all steps"),
    (lambda self, x: tg.softmax(x, 0), "softmax goes over all steps"),
    (lambda self, x: x.flip(0), "flip goes over all steps"),
    (
        lambda self, x: tg.pad(x, [0, 0, 0, 0, 2, 2], "reflect"),
        "flip takes steps backward, as padding by",
    ),
    (lambda self, x: self.both(x)[0], r"scan 'both\.l0_reverse' goes through the sequence backward"),
    (lambda self, x: tg.cat([x, x], 0), "cat joins two sequences, one after the other"),
    (lambda self, x: x * self.gru(x)[1][0], "mul needs, at each step, a value of the whole sequence"),
    (lambda self, x: x / len(x), "div is given a number that depends on the number of steps"),
]


@pytest.mark.parametrize(("function", "message"), WHOLE)
def test_what_needs_the_whole_sequence_is_named(function: Callable[[Any, Tensor], Any], message: str) -> None:
    model = Applied(function, both=LSTM(3, 4, bidirectional=True), gru=GRU(3, 3))
    with pytest.raises(ValueError, match=f"^stream: .*{message}"):
        stream_of(model, rows(8, 3))


def test_invalid_inputs_are_refused() -> None:
    x = rows(8, 3)
    stream = stream_of(Spotter(), x)
    before = stream.state
    for given, message in (
        (
            x[0, :, :2],
            r"expected x as float32 of shape \(2, 3\), or \(T, 2, 3\) for T steps, got float32 of shape \(2, 2\)",
        ),
        (x[0].astype("float64"), "got float64"),
        ({"x": 1}, "expected an array on 'cpu', where the model is, or a list of numbers, got a builtins.dict"),
    ):
        with pytest.raises(ValueError, match=message):
            stream(given)
    with pytest.raises(TypeError, match="expected the inputs x"):
        stream(x, x)
    assert all((before[name] == part).all() for name, part in stream.state.items())


def test_sums_of_groups_of_groups_of_steps() -> None:
    """Two rates, one after the other, whose numbers of frames repeat after 6 steps."""

    def grouped(x: Tensor, size: int) -> Tensor:
        return x[: x.shape[0] // size * size].reshape(-1, size, *x.shape[1:]).sum(1)

    model, x = Applied(lambda self, x: grouped(grouped(self.lstm(x)[0], 2), 3), lstm=LSTM(2, 4)), rows(40, 2)
    stream = tg.models.stream(model, {"x": tg.tensor(x)}, B)
    with tg.no_grad():
        whole = model(tg.tensor(x)).numpy()
    np.testing.assert_allclose(in_chunks(stream, x, [1, 2, 7, 20, 33]), whole, rtol=1e-5, atol=1e-5)
