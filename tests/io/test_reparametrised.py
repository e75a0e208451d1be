"""Weights that PyTorch keeps as other arrays, and tensors that are not NumPy's: loaded rightly, or refused by name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden.load import load
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tinygrad_lstm.io import Weights, from_torch, save_weights
from tinygrad_lstm.io.recognition import recognised
from tinygrad_lstm.io.torch.reparametrised import whole_name
from tinygrad_lstm.models import LSTM

Arrays = dict[str, np.ndarray]

I, H = 3, 2
SHAPES = {"weight_ih": (4 * H, I), "weight_hh": (4 * H, H), "bias_ih": (4 * H,), "bias_hh": (4 * H,)}


def lstm(prefix: str = "", place: str = "_l0") -> Arrays:
    random = np.random.default_rng(0)
    return {
        f"{prefix}{role}{place}": random.standard_normal(shape).astype(np.float32) for role, shape in SHAPES.items()
    }


def with_parts(name: str, parts: Arrays, prefix: str = "") -> Arrays:
    """An LSTM's arrays, one of which is in parts."""
    arrays = lstm(prefix)
    del arrays[f"{prefix}{name}"]
    return arrays | {f"{prefix}{part}": array for part, array in parts.items()}


def weight_of(arrays: Arrays, name: str = "weight_hh_l0", prefix: str = "") -> np.ndarray:
    return LSTM.from_torch(arrays, prefix).state_dict()[name]


# --- Weights in parts -----------------------------------------------------------------------------

elements = st.floats(0.125, 4, width=32)


@given(hnp.arrays(np.float32, (4 * H, H), elements=elements), st.sampled_from([0, 1, None]), elements)
def test_weight_normalization(v: np.ndarray, dim: int | None, scale: float) -> None:
    """Each vector of v, or all of it, gets the length that g says."""
    if dim is None:
        g, expected = np.full((), scale, np.float32), scale * v / np.linalg.norm(v)
    elif dim == 0:
        g = scale * np.arange(1, 4 * H + 1, dtype=np.float32)[:, None]
        expected = np.stack([g[k, 0] * v[k] / np.linalg.norm(v[k]) for k in range(4 * H)])
    else:
        g = scale * np.arange(1, H + 1, dtype=np.float32)[None]
        expected = np.stack([g[0, k] * v[:, k] / np.linalg.norm(v[:, k]) for k in range(H)], axis=1)
    made = weight_of(with_parts("weight_hh_l0", {"weight_hh_l0_g": g, "weight_hh_l0_v": v}))
    assert made.dtype == np.float32 and np.allclose(made, expected, rtol=1e-5, atol=0)


def test_pruned_weights_and_biases() -> None:
    plain = lstm("rnn.")
    for name in ("weight_hh_l0", "bias_hh_l0"):
        mask = (np.arange(plain[f"rnn.{name}"].size) % 3 > 0).astype(np.float32).reshape(plain[f"rnn.{name}"].shape)
        parts = {f"{name}_orig": plain[f"rnn.{name}"], f"{name}_mask": mask}
        pruned = LSTM.from_torch(with_parts(name, parts, "rnn."), "rnn").state_dict()
        whole = LSTM.from_torch(plain | {f"rnn.{name}": plain[f"rnn.{name}"] * mask}, "rnn").state_dict()
        assert all(np.array_equal(pruned[key], whole[key]) for key in whole)


def test_whole_models_and_cells_in_parts() -> None:
    g, v = np.ones((4 * H, 1), np.float32), lstm()["weight_hh_l0"]
    arrays = with_parts("weight_hh_l0", {"weight_hh_l0_g": g, "weight_hh_l0_v": v}, "rnn.")
    assert sorted(from_torch(arrays)) == ["rnn.bias_l0", "rnn.weight_hh_l0", "rnn.weight_ih_l0"]
    cell = {name.replace("_l0", ""): array for name, array in arrays.items()}
    assert sorted(from_torch(cell)) == ["rnn.bias", "rnn.weight"]
    assert [str(found.network) for found in recognised(Weights(arrays))] == [f"LSTM({I}, {H})"]


ONE, SQUARE = np.ones((4 * H, 1), np.float32), np.ones((4 * H, H), np.float32)
REFUSED: dict[str, tuple[Arrays, str]] = {
    "parametrized with odd shapes": (
        {"parametrizations.weight_hh_l0.original0": SQUARE, "parametrizations.weight_hh_l0.original1": SQUARE},
        "weight_hh_l0 is parametrized, .*remove_parametrizations",
    ),
    "orthogonal": (
        {"parametrizations.weight_hh_l0.original": SQUARE, "parametrizations.weight_hh_l0.0.base": SQUARE},
        "weight_hh_l0 is parametrized, .*remove_parametrizations",
    ),
    "spectral_norm": (
        {"weight_hh_l0_orig": SQUARE, "weight_hh_l0_u": ONE[:3, 0], "weight_hh_l0_v": ONE[:H, 0]},
        "weight_hh_l0 cannot be computed from only",
    ),
    "weight dropout": ({"weight_hh_l0_raw": SQUARE}, "rename rnn.weight_hh_l0_raw to rnn.weight_hh_l0"),
    "half": ({"weight_hh_l0_g": ONE}, "weight_hh_l0 cannot be computed from only rnn.weight_hh_l0_g"),
    "odd shapes": (
        {"weight_hh_l0_g": ONE[:3], "weight_hh_l0_v": SQUARE},
        "weight_hh_l0 cannot be computed from only rnn.weight_hh_l0_g, rnn.weight_hh_l0_v, or their shapes are wrong",
    ),
    "odd mask": (
        {"weight_hh_l0_orig": SQUARE, "weight_hh_l0_mask": ONE},
        "weight_hh_l0 cannot be computed from only rnn.weight_hh_l0_mask, rnn.weight_hh_l0_orig",
    ),
    "twice": (
        {"weight_hh_l0": SQUARE, "weight_hh_l0_g": ONE, "weight_hh_l0_v": SQUARE},
        r"weight_hh_l0 is there both as it is and in parts \(g, v\)",
    ),
}


@pytest.mark.parametrize("how", REFUSED)
def test_weights_that_their_parts_do_not_tell_are_named(how: str) -> None:
    parts, reason = REFUSED[how]
    arrays = with_parts("weight_hh_l0", parts, "rnn.")
    for read in (lambda: LSTM.from_torch(arrays, "rnn"), lambda: from_torch(arrays)):
        with pytest.raises(ValueError, match=reason):
            read()
    (found,) = recognised(Weights(arrays))
    assert found.network is None and "rnn.weight_hh_l0" in found.reason


@pytest.mark.parametrize(
    "case",
    [
        *("weight_norm", "weight_norm_of_columns", "weight_norm_of_all", "spectral_norm", "prune"),
        *("parametrized_weight_norm", "parametrized_spectral_norm"),
    ],
)
def test_pytorchs_weights_in_parts(case: str) -> None:
    """Of every layer: recurrent, linear, convolutions."""
    arrays = load("reparametrised", case)
    parts = {name.replace("in/", "model."): array for name, array in arrays.items() if name.startswith("in/")}
    whole = {name.removeprefix("out/"): array for name, array in arrays.items() if name.startswith("out/")}
    assert parts.keys() != whole.keys()
    made, expected = from_torch(parts, prefix="model"), from_torch(whole)
    assert made.keys() == expected.keys()
    for name, array in made.items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-5, atol=1e-6, err_msg=name)


def test_names_that_only_look_like_parts_are_kept() -> None:
    arrays = {"attention.bias_u": ONE, "attention.bias_v": ONE, "weight_g": ONE, "x.mask": ONE}
    assert from_torch(arrays).keys() == arrays.keys()


def test_a_prefix_of_a_whole_model() -> None:
    arrays = lstm("module.rnn.") | {"module.head.weight": SQUARE, "epoch": ONE}
    names = ["head.weight", "rnn.bias_l0", "rnn.weight_hh_l0", "rnn.weight_ih_l0"]
    assert sorted(from_torch(arrays, prefix="module")) == sorted(from_torch(arrays, prefix="module.")) == names
    with pytest.raises(ValueError, match="no array is under the prefix 'modul'; names begin with 'module', 'epoch'"):
        from_torch(arrays, prefix="modul")


def test_a_name_of_many_parts_is_looked_at_once() -> None:
    """A dot that stood for all but line breaks had it scanned once for each part: for minutes, in a file of 3 MB."""
    start = "parametrizations.weight_ih_l0." * 100_000
    assert whole_name(f"{start}original0\n") == start.removesuffix("parametrizations.weight_ih_l0.") + "weight_ih_l0"


# --- Names that wrappers lengthen -----------------------------------------------------------------


@pytest.mark.parametrize("actual", ["module.rnn", "_orig_mod.rnn", "_orig_mod.module.rnn", "rnn", "module.rnn.module"])
def test_wrappers_of_pytorch_may_be_left_out_of_the_prefix(actual: str) -> None:
    arrays = lstm(f"{actual}.") | {"module.head.weight": SQUARE}
    for prefix in ("rnn", actual):
        assert np.array_equal(weight_of(arrays, prefix=prefix), lstm()["weight_hh_l0"])


def test_a_wrapper_is_not_left_out_where_that_would_be_a_guess() -> None:
    arrays = lstm("module.rnn.") | lstm("_orig_mod.rnn.")
    with pytest.raises(ValueError, match=r"recurrent layers are under 'module\.rnn', '_orig_mod\.rnn'"):
        LSTM.from_torch(arrays, "rnn")
    with pytest.raises(ValueError, match="no recurrent layer is under the prefix 'rnn'"):
        LSTM.from_torch(lstm("ema.rnn."), "rnn")


def test_a_compiled_model_loads_as_the_model(tmp_path: Path) -> None:
    arrays = lstm("_orig_mod.rnn.") | {"_orig_mod.head._orig_mod.weight": SQUARE}
    assert sorted(from_torch(arrays)) == ["head.weight", "rnn.bias_l0", "rnn.weight_hh_l0", "rnn.weight_ih_l0"]
    with pytest.raises(ValueError, match="some names differ only by the _orig_mod"):
        from_torch(arrays | {"head.weight": SQUARE})
    save_weights(tmp_path / "a", arrays)
    assert np.array_equal(LSTM.from_torch(tmp_path / "a", "rnn").state_dict()["weight_hh_l0"], lstm()["weight_hh_l0"])


def test_quantized_layers_are_named() -> None:
    with pytest.raises(ValueError, match=r"'rnn\._all_weight_values\.0\.param' belongs to a quantized layer"):
        LSTM.from_torch({"rnn._all_weight_values.0.param": np.ones(3)}, "rnn")


# --- Tensors of other libraries -------------------------------------------------------------------


class TorchTensor:
    """A tensor as PyTorch's are: NumPy cannot have it before it is detached, on the host, and of a type of NumPy's."""

    def __init__(self, array: np.ndarray, dtype: str = "torch.float32", ready: tuple[str, ...] = ()) -> None:
        self.array, self.dtype, self.ready = array, dtype, ready

    def detach(self) -> "TorchTensor":
        return TorchTensor(self.array, self.dtype, (*self.ready, "detached"))

    def cpu(self) -> "TorchTensor":
        return TorchTensor(self.array, self.dtype, (*self.ready, "on the host"))

    def float(self) -> "TorchTensor":
        return TorchTensor(self.array.astype(np.float32), "torch.float32", self.ready)

    def numpy(self) -> np.ndarray:
        if set(self.ready) != {"detached", "on the host"}:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")
        if self.dtype not in ("torch.float32", "torch.float16"):
            raise TypeError(f"Got unsupported ScalarType {self.dtype}")
        return self.array

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        return self.numpy()


@pytest.mark.parametrize(
    ("tensor", "dtype"),
    [
        (TorchTensor, "float32"),
        (lambda array: TorchTensor(array.astype("f8"), "torch.bfloat16"), "float32"),
        (lambda array: TorchTensor(array.astype("f2"), "torch.float16"), "float16"),
        (lambda array: array.tolist(), "float64"),
    ],
)
def test_tensors_in_memory(tensor: Callable[[np.ndarray], Any], dtype: str) -> None:
    plain = {name: np.round(array * 8) / 8 for name, array in lstm("rnn.").items()}
    tensors = {name: tensor(array) for name, array in plain.items()}
    network, expected = LSTM.from_torch(tensors, "rnn"), LSTM.from_torch(plain, "rnn")
    for name, array in expected.state_dict().items():
        assert network.state_dict()[name].dtype == dtype and np.array_equal(network.state_dict()[name], array)
    assert all(isinstance(array, np.ndarray) for array in from_torch(tensors).values())


def test_arrays_of_bfloat16() -> None:
    """As JAX's arrays are: NumPy has the dtype from a different package."""
    ml_dtypes = pytest.importorskip("ml_dtypes")
    plain = {name: np.round(array * 8) / 8 for name, array in lstm().items()}
    network = LSTM.from_torch({name: array.astype(ml_dtypes.bfloat16) for name, array in plain.items()})
    for name, array in LSTM.from_torch(plain).state_dict().items():
        assert network.state_dict()[name].dtype == np.float32 and np.array_equal(network.state_dict()[name], array)


def test_tensors_that_numpy_has_no_array_for_are_named() -> None:
    tensors = {**lstm(), "weight_hh_l0": TorchTensor(SQUARE, "torch.qint8")}
    with pytest.raises(ValueError, match=r"'weight_hh_l0' is a TorchTensor that NumPy has no array for: Got unsupp"):
        LSTM.from_torch(tensors)
