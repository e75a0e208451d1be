"""`from_arrays`: any layout of a network's arrays, under any names, makes the same network."""

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.kinds import KINDS
from tinygrad_lstm.models import GRU, LSTM, RNN

NETWORKS: dict[str, Any] = {"LSTM": LSTM, "GRU": GRU, "RNN": RNN}


def divided(data: st.DataObject, array: HostArray, letters: str, order: str, transposed: bool) -> list[HostArray]:
    """The rows of gates in another order, in one array or one for each gate; transposed or not."""
    by_gate = dict(zip(letters, np.split(array, len(letters)), strict=True))
    parts = [by_gate[letter] for letter in order]
    if not data.draw(st.booleans()):
        parts = [np.concatenate(parts)]
    return [np.ascontiguousarray(part.T) if transposed else part for part in parts]


@given(st.data())
def test_any_layout_makes_the_same_network(data: st.DataObject) -> None:
    kind = KINDS[data.draw(st.sampled_from(sorted(NETWORKS)))]
    I, H, L = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4)), data.draw(st.integers(1, 2))
    both, transposed = data.draw(st.booleans()), data.draw(st.booleans())
    options = {"reset_after": data.draw(st.booleans())} if kind.name == "GRU" else {}
    network = NETWORKS[kind.name](I, H, L, bidirectional=both, **options)
    order = "".join(data.draw(st.permutations(kind.letters)))
    joined = data.draw(st.sampled_from(["xh", "hx", None]))
    two_biases = options.get("reset_after", False) or data.draw(st.booleans())
    forget_bias = data.draw(st.sampled_from([0.0, 1.0])) if kind.name == "LSTM" else 0.0

    rng = np.random.default_rng(0)
    with_values = {name: rng.standard_normal(p.shape).astype("f4") for name, p in network.named_parameters()}
    network.load_state_dict(with_values)
    arrays: dict[str, HostArray] = {"other": np.ones(3)}
    roles: dict[str, str | list[str]] = {}
    for layer in range(L):
        for reverse in ("", "_reverse")[: 1 + both]:
            place = f"l{layer}{reverse}"
            own = dict(with_values)
            if options.get("reset_after", True):
                own = network.to_torch()
            else:
                own |= {f"bias_ih_{place}": own[f"bias_{place}"], f"bias_hh_{place}": 0 * own[f"bias_{place}"]}
            layer_arrays = {role: own[f"{role}_{place}"] for role in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
            bias = layer_arrays["bias_ih"].copy()
            if forget_bias:
                bias[kind.rows("f", H)] -= forget_bias
            layer_arrays["bias_ih"] = bias
            if not two_biases:
                layer_arrays["bias"] = layer_arrays.pop("bias_ih") + layer_arrays.pop("bias_hh")
            if joined:
                of_x, of_h = layer_arrays.pop("weight_ih"), layer_arrays.pop("weight_hh")
                layer_arrays["weight"] = np.concatenate([of_x, of_h] if joined == "xh" else [of_h, of_x], axis=1)
            for role, array in layer_arrays.items():
                turned = transposed and role.startswith("weight")
                parts = divided(data, array, kind.letters, order, turned)
                names = [f"layer{layer}{reverse}/{role}/{number}" for number in range(len(parts))]
                arrays |= dict(zip(names, parts, strict=True))
                roles[f"{role}_{place}"] = names if len(names) > 1 else names[0]
    made = NETWORKS[kind.name].from_arrays(
        arrays, roles, gates=order, joined=joined, transposed=transposed, forget_bias=forget_bias, **options
    )
    assert repr(made) == repr(network)
    for name, array in made.state_dict().items():
        np.testing.assert_allclose(array, with_values[name], rtol=1e-6, atol=1e-6, err_msg=name)

    # What the shapes show need not be said.
    try:
        found = NETWORKS[kind.name].from_arrays(
            arrays, roles, gates=order, joined=joined, forget_bias=forget_bias, **options
        )
    except ValueError as error:
        assert "do not show which arrays are transposed" in str(error)
        assert I == H or kind.name == "RNN" or joined
    else:
        for name, array in found.state_dict().items():
            np.testing.assert_array_equal(array, made.state_dict()[name])


def textbook(I: int = 3, H: int = 5) -> dict[str, HostArray]:
    """The arrays of an LSTM in code that is written after the equations."""
    rng = np.random.default_rng(1)
    weights = {f"W_{gate}": rng.standard_normal((H, H + I)) for gate in "ifco"}
    return weights | {f"b_{gate}": rng.standard_normal((H, 1)) for gate in "ifco"}


def test_one_role_for_each_gate() -> None:
    arrays = textbook()
    roles = {f"weight_{gate}": f"W_{gate}" for gate in "ifco"} | {f"bias_{gate}": f"b_{gate}" for gate in "ifco"}
    lstm = LSTM.from_arrays(arrays, roles, joined="hx")
    x, h, c = np.ones(3), np.zeros(5), np.zeros(5)

    def sigmoid(x: HostArray) -> HostArray:
        return 1 / (1 + np.exp(-x))

    for _ in range(3):
        i, f, g, o = (arrays[f"W_{gate}"] @ np.concatenate([h, x]) + arrays[f"b_{gate}"][:, 0] for gate in "ifco")
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
    out, _ = lstm(np.ones((3, 1, 3)))
    np.testing.assert_allclose(out.detach().numpy()[-1, 0], h, rtol=1e-6)


def test_layers_by_numbers_in_names() -> None:
    rng = np.random.default_rng(0)
    arrays = {f"rnn/{d}{k}/kernel": rng.standard_normal((I + 4, 16)) for d in ("fw", "bw") for k, I in ((1, 3), (2, 8))}
    roles = {"weight": "rnn/fw{layer}/kernel", "weight_reverse": "rnn/bw{layer}/kernel"}
    lstm = LSTM.from_arrays(arrays, roles, gates="icfo", joined="xh", forget_bias=1.0)
    assert repr(lstm).startswith("LSTM(3, 4, num_layers=2, bidirectional=True)")
    np.testing.assert_array_equal(lstm.state_dict()["bias_l1_reverse"], [0] * 4 + [1] * 4 + [0] * 8)
    listed = [{"weight": f"rnn/fw{k}/kernel", "weight_reverse": f"rnn/bw{k}/kernel"} for k in (1, 2)]
    again = LSTM.from_arrays(arrays, listed, gates="icfo", joined="xh", forget_bias=1.0)
    for name, array in again.state_dict().items():
        np.testing.assert_array_equal(array, lstm.state_dict()[name])


W, U, B = np.ones((3, 20)), np.ones((5, 20)), np.ones(20)


@pytest.mark.parametrize(
    ("arrays", "roles", "settings", "reason"),
    [
        ({"W": W}, {"weight_ih": "W", "weight_hh": "U", "bias": "b"}, {}, "missing: U, b"),
        ({"W": W, "U": U}, {"weight_ih": "W", "weights_hh": "U"}, {}, "'weights_hh' is not a role; roles are weight"),
        ({"W": W, "U": U}, {"weight_ih": "W"}, {}, "missing roles: weight_hh"),
        ({"W": W}, {"weight": "W"}, {}, 'give joined="xh" if'),
        ({"W": W, "U": np.ones((5, 21))}, {"weight_ih": "W", "weight_hh": "U"}, {}, "U ((5, 21)"),
        ({"W": W, "U": U, "b": np.ones(7)}, {"weight_ih": "W", "weight_hh": "U", "bias": "b"}, {}, "b ((7,)"),
        ({"W": W, "U": U}, {"weight_ih": "W", "weight_hh_f": "U"}, {}, "weight_hh needs each gate once, of i, g, o"),
        ({"W": W, "U": U}, {"weight_ih": ["W", "W"], "weight_hh": "U"}, {}, "weight_ih has 2 arrays for the 4 gates"),
        ({"W": np.ones((8, 8)), "U": np.ones((8, 2))}, {"weight_ih_l1": "W", "weight_hh_l1": "U"}, {}, "first layer"),
        ({"W": W, "U": U}, {"weight_ih": "W", "weight_hh": "U"}, {"transposed": ["b"]}, "transposed names b"),
        ({"W": W, "U": U}, {"weight_ih": "W", "weight_hh": "U"}, {"gates": "ifgh"}, "gates: expected the letters"),
    ],
)
def test_everything_that_is_wrong_is_named(
    arrays: dict[str, HostArray], roles: dict[str, Any], settings: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        LSTM.from_arrays(arrays, roles, **settings)


def test_square_arrays_need_to_be_explained() -> None:
    arrays = {f"{name}_{gate}": np.full((4, 4), 2.0) for name in "WU" for gate in "ifgo"}
    roles = {"weight_ih": [f"W_{gate}" for gate in "ifgo"], "weight_hh": [f"U_{gate}" for gate in "ifgo"]}
    with pytest.raises(ValueError, match="give transposed=False if"):
        LSTM.from_arrays(arrays, roles)
    assert LSTM.from_arrays(arrays, roles, transposed=True).hidden_size == 4


def test_only_an_lstm_has_a_forget_bias() -> None:
    with pytest.raises(ValueError, match="forget_bias is for an LSTM"):
        GRU.from_arrays({"W": W}, {"weight": "W"}, forget_bias=1.0)


def test_roles_and_forget_biases_that_are_invalid() -> None:
    arrays = {"W": np.ones((20, 3)), "U": np.ones((20, 5))}
    roles = {"weight_ih": "W", "weight_hh": "U"}
    with pytest.raises(ValueError, match="expected roles to be a dict, or a list with one for each layer, got 'W'"):
        LSTM.from_arrays(arrays, "W")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected a finite forget_bias, got nan"):
        LSTM.from_arrays(arrays, roles, forget_bias=float("nan"))
