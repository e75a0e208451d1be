"""Recurrent layers in CUDA, built for the host: by generated kernels, and a plain LSTM in one launch."""

from contextlib import nullcontext
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from emulated_backend import EMULATED
from emulated_runs import as_before, check_network, drawn, dtypes, run
from hypothesis import given, settings
from kernels_on_host import needs_compiler

import tinygrad_lstm as tg
from tinygrad_lstm.backends.cuda import persistent
from tinygrad_lstm.models import GRU, LSTM, RNN

pytestmark = needs_compiler

restored = pytest.fixture(autouse=True)(as_before)


@given(st.data(), dtypes, st.integers(1, 4), st.integers(1, 5), st.sampled_from([1, 3, 8, 16]))
@pytest.mark.parametrize("kind", [LSTM, GRU, RNN])
def test_recurrent_layers_by_steps(kind: Any, data: st.DataObject, dtype: str, T: int, B: int, H: int) -> None:
    lengths = data.draw(st.none() | st.lists(st.integers(0, T), min_size=B, max_size=B))
    network = kind(3, H, bidirectional=True).to(dtype=dtype)
    (x,) = drawn(0, (T, B, 3), dtype=dtype)
    launched = check_network(network, x, lengths)
    assert {"forward_step", "backward_step"} <= launched
    assert not any(name.startswith("persistent") for name in launched)


# Units of one block, of several; padded to the next 128 and beyond; of half a block of sequences, and of several.
@pytest.mark.parametrize(
    ("H", "B", "multiprocessors", "shared_bytes", "dtype"),
    [
        (5, 3, 1, 2**16, "float32"),
        (16, 9, 2, 2**16, "float32"),
        (40, 9, 6, 2**16, "float16"),
        (130, 5, 9, 2**16, "float32"),
        (130, 10, 9, 9000, "float32"),
        (514, 2, 80, 2**16, "float32"),
    ],
)
@pytest.mark.parametrize("with_lengths", [False, True])
def test_an_lstm_at_once(
    H: int, B: int, multiprocessors: int, shared_bytes: int, dtype: str, with_lengths: bool
) -> None:
    T = 2 if H > 500 else 4
    EMULATED.multiprocessors, EMULATED.shared_bytes = multiprocessors, shared_bytes
    lengths = [k % (T + 1) for k in range(B)] if with_lengths else None
    (x,) = drawn(0, (T, B, 3), dtype=dtype)
    network = LSTM(3, H, bidirectional=H < 100).to(dtype=dtype)
    assert check_network(network, x, lengths) == {"persistent_lstm_forward", "persistent_lstm_backward"}
    with tg.no_grad():
        inference = network.to("emulated")(tg.tensor(x, device="emulated"), lengths=lengths)[0]
    np.testing.assert_array_equal(inference.cpu().numpy(), run(network, x, lengths, "emulated")[0])


class OwnLSTM(LSTM):
    """An LSTM whose step is written anew: plain, with the gates i and f swapped, or with o without a gradient."""

    CHANGED = ""

    def _step(self, x: tg.Tensor, states: Any, parameters: Any, layer: Any = None) -> Any:
        (h, c), (weight_ih, weight_hh, bias) = states, parameters.values()
        i, f, g, o = tg.split(tg.linear(x, weight_ih, bias) + tg.linear(h, weight_hh), h.shape[1], dim=1)
        i, f = (f, i) if self.CHANGED == "swapped" else (i, f)
        with tg.no_grad() if self.CHANGED == "no gradient" else nullcontext():
            o = tg.sigmoid(o)
        c = tg.sigmoid(f) * c + tg.sigmoid(i) * tg.tanh(g)
        return o * tg.tanh(c), c


class SwappedLSTM(OwnLSTM):
    CHANGED = "swapped"


class WithoutGradientLSTM(OwnLSTM):
    CHANGED = "no gradient"


@pytest.mark.parametrize("with_lengths", [False, True])
@pytest.mark.parametrize(
    ("kind", "options", "is_plain"),
    [
        (LSTM, {}, True),
        (LSTM, {"bias": False}, True),
        (OwnLSTM, {}, True),
        (SwappedLSTM, {}, False),
        (WithoutGradientLSTM, {}, False),
        (LSTM, {"proj_size": 3}, False),
        (LSTM, {"peephole": True}, False),
        (LSTM, {"activations": ("hard_sigmoid", "tanh", "tanh")}, False),
    ],
    ids=str,
)
def test_only_a_plain_lstm_is_one_launch(kind: Any, options: Any, is_plain: bool, with_lengths: bool) -> None:
    EMULATED.multiprocessors = 6
    (x,) = drawn(0, (3, 2, 3), dtype="float32")
    launched = check_network(kind(3, 6, **options), x, [3, 1] if with_lengths else None)
    assert any(name.startswith("persistent") for name in launched) == is_plain
    assert any(name.startswith("forward_step") for name in launched) != is_plain


def test_resets_within_a_batch_are_taken_step_by_step() -> None:
    EMULATED.multiprocessors = 6
    EMULATED.launches.clear()
    network = LSTM(3, 6).to("emulated")
    resets = tg.tensor([[False, False], [False, True], [True, False]], device="emulated")
    out, _ = network(tg.randn(3, 2, 3).to("emulated"), resets=resets)
    assert set(EMULATED.launches) == {"forward_step", "forward_step_2"}
    assert out.shape == (3, 2, 6)


@given(
    st.integers(1, 1100), st.integers(1, 2000), st.sampled_from(["float16", "float32"]), st.integers(1, 150),
    st.sampled_from([48, 100, 163, 227]),
)  # fmt: skip
@settings(max_examples=300)
def test_a_plan_covers_all_units_and_is_within_the_devices_limits(
    H: int, B: int, dtype: str, multiprocessors: int, kilobytes: int
) -> None:
    found = persistent.plan(H, B, dtype, multiprocessors, kilobytes * 1024)
    if found is None:
        slices = -(-H // (16 if H <= 512 else 8))
        assert H > 1024 or slices > multiprocessors or multiprocessors // slices * 60 < B or kilobytes < 100
        return
    assert found.slices * found.units >= H > (found.slices - 1) * found.units
    assert found.groups * found.rows >= B > (found.groups - 1) * found.rows
    assert found.slices * found.groups <= multiprocessors
    assert max(found.forward_bytes, found.backward_bytes) <= kilobytes * 1024
    sequences = 32 // (found.units // 2)  # of a warp at once
    assert found.rows % sequences == found.staged % sequences == 0 < found.staged <= found.rows


@pytest.mark.parametrize(
    ("H", "B", "dtype"), [(1025, 4, "float32"), (16, 0, "float32"), (16, 4, "float64"), (16, 10_000, "float32")]
)
def test_sizes_without_a_plan_are_computed_by_steps(H: int, B: int, dtype: str) -> None:
    assert persistent.plan(H, B, dtype, 132, 227 * 1024) is None
