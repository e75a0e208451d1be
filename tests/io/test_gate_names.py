"""Arrays of single gates are recognised by their names, and loaded if these leave nothing open."""

import numpy as np
import pytest

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.io import Weights
from tinygrad_lstm.io.recognition import Recognised, recognised
from tinygrad_lstm.models import LSTM

I, H = 3, 4
GATES = "ifco"


def found(arrays: dict[str, HostArray]) -> list[Recognised]:
    return list(recognised(Weights(arrays)))


def drawn(*shape: int) -> HostArray:
    return np.random.default_rng(sum(shape)).standard_normal(shape)


@pytest.mark.parametrize(
    ("of_x", "of_h", "bias"),
    [("W_x", "W_h", "b_"), ("Wx", "Wh", "b"), ("W_", "U_", "b_"), ("W", "U", "b"), ("W_i", "W_h", "")],
)
@pytest.mark.parametrize("prefix", ["", "encoder/lstm/"])
@pytest.mark.parametrize("transposed", [False, True])
def test_an_lstm_by_its_gates(of_x: str, of_h: str, bias: str, prefix: str, transposed: bool) -> None:
    arrays = {f"{prefix}{of_x}{gate}": drawn(H, I) for gate in GATES} | {
        f"{prefix}{of_h}{gate}": drawn(H, H) for gate in GATES
    }
    if transposed:
        arrays = {name: array.T for name, array in arrays.items()}
    arrays |= {f"{prefix}{bias}{gate}": drawn(H) for gate in GATES} if bias else {}
    (own,) = found(arrays | {"head.weight": drawn(2, H)})
    assert (own.kind, own.prefix, str(own.network)) == ("LSTM", prefix.rstrip("/"), f"LSTM({I}, {H})")
    assert own.network is not None
    made = LSTM.from_arrays(arrays, dict(own.roles))
    for name, array in made.state_dict().items():
        np.testing.assert_array_equal(array, own.network.parameters[name])
    expected = arrays[f"{prefix}{of_x}f"]
    np.testing.assert_array_equal(made.state_dict()["weight_ih_l0"][H : 2 * H], expected.T if transposed else expected)


def test_what_names_leave_open_is_said() -> None:
    joined = {f"W_{gate}": drawn(H, H + I) for gate in GATES}
    (own,) = found(joined)
    assert own.network is None and 'joined="xh" or "hx"' in own.reason
    square = {f"{role}_{gate}": drawn(H, H) for role in "WU" for gate in GATES}
    (own,) = found(square)
    assert own.network is None and "which arrays are transposed" in own.reason
    gru = {f"{role}_{gate}": drawn(H, H) for role in ("W", "U") for gate in "zrh"}
    (own,) = found(gru)
    assert (own.kind, own.network) == ("GRU", None) and "reset_after" in own.reason


@pytest.mark.parametrize(
    "names",
    [
        ["W_i", "W_f", "W_o", "U_i", "U_f", "U_o"],  # without a candidate
        ["W_1", "W_2", "b_1", "b_2"],
        ["W", "U", "b"],
        ["a/W_i", "b/W_f", "c/W_c", "d/W_o"],
        ["W_q", "W_k", "W_v", "W_o"],
    ],
)
def test_other_arrays_are_not_taken_for_gates(names: list[str]) -> None:
    assert not found({name: drawn(H, H) for name in names})
