"""PyTorch's whole models: what is read of their code, what their pickles have, and what is refused."""

import json
import textwrap
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch_pickles import archive, dictionary, number, tensor, text

import tinygrad_lstm as tg
from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.io.safetensors_file import read_safetensors
from tinygrad_lstm.models import LSTM

FOLDER = Path(__file__).parents[2] / "golden" / "models"


def script(
    path: Path, forward: str, attributes: Mapping[str, bytes] | None = None, others: Mapping[str, str] | None = None
) -> Path:
    """An archive of one module with this body of `forward(self, x)`; its parameter `weight` (2, 3) is zeros."""
    attributes = {"weight": tensor(), "training": b"\x89"} | dict(attributes or {})
    body = textwrap.indent(textwrap.dedent(forward).strip(), " " * 4)
    start = 'class Net(Module):\n  __parameters__ = ["weight", ]\n'
    code = f"{start}  def forward(self: __torch__.Net, x: Tensor) -> Tensor:\n{body}\n"
    pickle = b"c__torch__\nNet\n)\x81" + dictionary(attributes) + b"b"
    path.write_bytes(archive(pickle, code={"__torch__.py": code, **(others or {})}))
    return path


def error_of(path: Path) -> str:
    with pytest.raises(ValueError, match=str(path)) as caught:
        tg.io.load_model(path)
    message = str(caught.value)
    assert message.isprintable()
    return message.removeprefix(f"{path}: ")


# -- what a script computes --------------------------------------------------------------------------------------------


@tg.no_grad()
def test_code_is_read_as_a_graph(tmp_path: Path) -> None:
    """Constant branches and loops, lists, slices, ops on lengths, and ops in place."""
    model = tg.io.load_model(
        script(
            tmp_path / "model.pt",
            """
            weight = self.weight
            n = torch.size(x, 0)
            if self.training:
              y = torch.neg(x)
            else:
              y = torch.add(x, 1., alpha=2)
            parts = annotate(List[Tensor], [])
            for i in range(3):
              _0 = torch.append(parts, torch.mul(y, i))
            if torch.ne(torch.dim(x), 2):
              ops.prim.RaiseException("expected 2 dimensions", "builtins.ValueError")
            else:
              pass
            z = torch.add_(torch.clone(torch.stack(parts, 0)), 10, alpha=1)
            whole = torch.view(z, [3, torch.mul(n, 3)])
            first, rest, = torch.split_with_sizes(torch.slice(whole, 1, 0, 3, 1), [1, 2], 1)
            total = torch.sum(torch.linear(torch.to(x, 6), weight, None))
            return (first, {"rest": rest, "total": total})
            """,
        )
    )
    x = np.arange(6, dtype="f4").reshape(2, 3)
    whole = np.stack([(x + 2) * i for i in range(3)]).reshape(3, 6) + 10
    outputs = model(x)
    assert outputs._fields == ("first", "rest", "total")
    np.testing.assert_array_equal(outputs.first.numpy(), whole[:, :1])
    np.testing.assert_array_equal(outputs.rest.numpy(), whole[:, 1:3])
    assert outputs.total.item() == 0
    assert [name for name, _ in model.named_parameters()] == ["weight"]


X = np.array([[-3.25, -0.4, 0.2], [0.7, 1.4, 5.0]], "f4")
CALLS = {
    "torch.roll(x, [1], [])": np.roll(X, 1),
    "torch.amax(x, annotate(List[int], []))": X.max(),
    "torch.var(x, False)": X.var(),
    "torch.mul(torch.std_mean(x, False)[0], 1)": X.std(),
    "torch.frobenius_norm(x, [1], True)": np.linalg.norm(X, axis=1, keepdims=True),
    "torch.linalg_norm(x, None)": np.linalg.norm(X),
    "torch.linalg_norm(x, 1, [0])": np.linalg.norm(X, 1, axis=0),
    'torch.linalg_norm(x, "fro")': np.linalg.norm(X, "fro"),
    "torch.hann_window(4, 7)": np.array([0, 0.5, 1, 0.5]),
    "torch.hamming_window(4, True, 0.75)": 0.75 - 0.46 * np.array([1.0, 0, -1, 0]),
    "torch.tile(x, [2])": np.tile(X, 2),
    "torch.fmod(x, 0.75)": np.fmod(X, np.float32(0.75)),
    'torch.div(torch.to(x, 4), -2, rounding_mode="trunc")': np.trunc(np.trunc(X) / -2),
    'torch.div(torch.to(x, 4), -2, rounding_mode="floor")': np.floor(np.trunc(X) / -2),
    "torch.hardshrink(x, 0.5)": np.where(abs(X) > 0.5, X, 0),
    "torch.softshrink(x, 0.5)": np.sign(X) * np.maximum(abs(X) - np.float32(0.5), 0),
    "torch.celu(x, 2.)": np.where(X > 0, X, 2 * np.expm1(X / 2)),
    "torch.to(torch.all(torch.gt(x, -1.), 1), 6)": np.array([0.0, 1.0]),
}


@tg.no_grad()
@pytest.mark.parametrize("call", CALLS)
def test_calls_compute_what_they_do_in_pytorch(tmp_path: Path, call: str) -> None:
    found = tg.io.load_model(script(tmp_path / "model.pt", f"return {call}"))(X)
    np.testing.assert_allclose(found.numpy(), CALLS[call], 1e-6)
    assert (found.dtype == np.int64) == ("rounding_mode" in call)


@tg.no_grad()
@pytest.mark.parametrize(("length", "factor", "places"), [(10, 0.35, [0, 2, 5]), (3, 2.5, [0, 0, 0, 1, 1, 2, 2])])
def test_nearest_places_are_those_of_the_scale_factor(
    tmp_path: Path, length: int, factor: float, places: list[int]
) -> None:
    """As in `nn.Upsample(scale_factor=factor)`: the length of the result is rounded down, the factor is not."""
    call = f"return torch.upsample_nearest1d(x, annotate(Optional[List[int]], None), [{factor}])"
    x = np.arange(length, dtype="f4").reshape(1, 1, length)
    assert tg.io.load_model(script(tmp_path / "model.pt", call))(x).tolist() == [[places]]


@tg.no_grad()
def test_a_transposed_convolution_of_pictures(tmp_path: Path) -> None:
    """With a kernel of one element it spreads the elements."""
    call = "return torch.conv_transpose2d(x, torch.ones([1, 1, 1, 1]), None, [2, 3], [0, 0], [1, 0])"
    x = np.arange(1, 5, dtype="f4").reshape(1, 1, 2, 2)
    expected = np.zeros((4, 4))
    expected[::2, ::3] = x
    np.testing.assert_array_equal(tg.io.load_model(script(tmp_path / "model.pt", call))(x).numpy()[0, 0], expected)


@tg.no_grad()
def test_a_complex_output_has_pairs(tmp_path: Path) -> None:
    found = tg.io.load_model(script(tmp_path / "model.pt", "return torch.fft_rfft(x)"))(X)
    expected = np.fft.rfft(X)
    np.testing.assert_allclose(found.numpy(), np.stack([expected.real, expected.imag], -1), rtol=1e-6, atol=1e-6)


@tg.no_grad()
def test_ops_in_place_change_what_is_used_later(tmp_path: Path) -> None:
    model = tg.io.load_model(script(tmp_path / "model.pt", "y = torch.mul(x, 2)\n_0 = torch.add_(y, 1)\nreturn y"))
    np.testing.assert_array_equal(model(np.ones((2, 2))).numpy(), np.full((2, 2), 3))
    x = tg.ones(2, 2)
    unchanged = tg.io.load_model(script(tmp_path / "input.pt", "_0 = torch.mul_(x, 2)\nreturn torch.neg(x)"))
    np.testing.assert_array_equal(unchanged(x).numpy(), np.full((2, 2), -2))
    assert x.sum().item() == 4
    seen = "y = torch.mul(x, 2)\nv, w, = torch.unbind(y, 0)\n_0 = torch.add_(v, 1)\nreturn y"
    assert "in place that is a view" in error_of(script(tmp_path / "view.pt", seen))
    assert "changes 'weight' in place" in error_of(
        script(tmp_path / "weight.pt", "weight = self.weight\n_0 = torch.add_(weight, 1)\nreturn weight")
    )


UNREAD = {
    "an op that is not there": (
        "y = torch.lgamma(x)\nz = torch.erfinv(y)\nreturn torch.lgamma(z)",
        "it has parts that are not supported: the op 'lgamma'; the op 'erfinv': export the model to ONNX; or write",
    ),
    "an if": (
        "if bool(torch.gt(torch.sum(x), 0)):\n  y = x\nelse:\n  y = torch.neg(x)\nreturn y",
        "an if that depends on the inputs in forward of a '__torch__.Net'",
    ),
    "a loop": (
        "for t in range(torch.size(x, 0)):\n  y = torch.neg(x)\nreturn x",
        "a loop that depends on the inputs in forward of a",
    ),
    "while": ("while True:\n  y = torch.neg(x)\nreturn x", "a loop that depends on the inputs in forward of a"),
    "an attribute": ("return self.missing", "damaged: a '__torch__.Net' has no 'missing'"),
    "a constant": ("return CONSTANTS.c0", "damaged: it has no constant 'c0'"),
    "no outputs": ("return None", "it has no outputs"),
    "no code": ("return __torch__.other.f(x)", "a call of 'other.f' in forward of a"),
    "an endless call": ("return (self).forward(x, )", "refuses functions that call each other so often, or so deep"),
    "a long loop": ("for i in range(1000000000):\n  pass\nreturn x", "refuses a loop of so many steps"),
    "a syntax error": ("return (((", "damaged: 'model/code/__torch__.py' cannot be parsed"),
    "deep nesting": ("return " + "-" * 30000 + "x", "damaged: 'model/code/__torch__.py' cannot be parsed"),
    "a long line": ("return " + "x" * 100000, "which has a line of more than 65536 bytes"),
    "an import": ("import os\nreturn x", "a statement (Import) that no graph has in forward"),
    "a lambda": ("return (lambda: x)()", "an expression (Lambda) that no graph has in forward"),
    "a large power": ("n = torch.pow(9, torch.pow(9, 9))\nreturn x", "refuses to compute 'pow' of such constants"),
    "a long list": ("n = torch.mul([0], 1000000000)\nreturn x", "refuses to compute 'mul' of such constants"),
    "numbers that grow": ("n = 3\nfor i in range(99):\n  n = torch.mul(n, n)\nreturn x", "such large numbers"),
    "lists that grow": ("a = [1]\nfor i in range(60):\n  a = torch.add(a, a)\nreturn x", "such long lists"),
    "lists of lists": ("a = [x]\nfor i in range(45):\n  a = [a, a]\nreturn a", "refuses lists that are nested so"),
    "a list in itself": ("a = [x]\n_0 = torch.append(a, a)\nreturn a", "refuses lists that are nested so deep"),
    "many statements": (
        "for i in range(19000):\n" + "  y = 1\n" * 20 + "return x",
        "refuses code of so many statements",
    ),
    "a constant op that fails": ("return torch.add(1, [2])", "damaged: 'add' fails for constants (TypeError)"),
}


@pytest.mark.parametrize("what", UNREAD)
def test_what_is_not_read_is_named(tmp_path: Path, what: str) -> None:
    forward, reason = UNREAD[what]
    assert reason in error_of(script(tmp_path / "model.pt", forward))


@pytest.mark.parametrize("depth", [1500, 20_000])
def test_deep_expressions_are_refused(tmp_path: Path, depth: int) -> None:
    reason = error_of(script(tmp_path / "model.pt", "return x" + "[0]" * depth))
    assert reason in ("refuses code that is nested so deep", "damaged: 'model/code/__torch__.py' cannot be parsed")


def test_functions_that_double_are_refused(tmp_path: Path) -> None:
    """Forty functions, each of which calls the one before twice, are a trillion calls."""
    code = "def f0(x: Tensor) -> Tensor:\n  return torch.neg(x)\n"
    for k in range(1, 41):
        code += f"def f{k}(x: Tensor) -> Tensor:\n  _0 = __torch__.g.f{k - 1}\n  return _0(_0(x, ), )\n"
    path = script(tmp_path / "model.pt", "return __torch__.g.f40(x)", others={"__torch__/g.py": code})
    assert "refuses" in error_of(path)


# -- layers ------------------------------------------------------------------------------------------------------------


FORWARD = "  def forward(self: Module, x: Tensor) -> Tensor:\n    return x\n"


def layer(name: str, attributes: Mapping[str, bytes]) -> bytes:
    return b"c__torch__.torch.nn.modules.%s\n)\x81" % name.encode() + dictionary(attributes) + b"b"


def test_settings_are_constants_of_the_code(tmp_path: Path) -> None:
    code = f"class Softplus(Module):\n  beta : Final[float] = 2.\n  threshold : Final[float] = 1.\n{FORWARD}"
    path = script(
        tmp_path / "model.pt",
        "act = self.act\nreturn (act).forward(x, )",
        {"act": layer("activation\nSoftplus", {})},
        {"__torch__/torch/nn/modules/activation.py": code},
    )
    with tg.no_grad():
        x = np.linspace(-1, 1, 5)
        np.testing.assert_allclose(tg.io.load_model(path)(x).numpy(), tg.nn.Softplus(2.0, 1.0)(tg.tensor(x)).numpy())


def test_settings_that_are_not_supported_are_named(tmp_path: Path) -> None:
    code = "class Conv3d(Module):\n  groups : Final[int] = 1\n"
    path = script(
        tmp_path / "model.pt",
        "c = self.c\nreturn (c).forward(x, )",
        {"c": layer("conv\nConv3d", {})},
        {"__torch__/torch/nn/modules/conv.py": code},
    )
    assert error_of(path) == "damaged: a '__torch__.torch.nn.modules.conv.Conv3d' has no 'forward'"
    code = f"class Linear(Module):\n  in_features : Final[int] = 1000000000\n{FORWARD}"
    path = script(
        tmp_path / "model.pt",
        "c = self.c\nreturn (c).forward(x, )",
        {"c": layer("linear\nLinear", {"bias": b"N"})},
        {"__torch__/torch/nn/modules/linear.py": code},
    )
    assert error_of(path) == "Linear: missing 'weight'"


# -- training ----------------------------------------------------------------------------------------------------------


def one_layer(path: Path, kind: str, **settings: bytes) -> Any:
    """A Sequential of one layer, from a pickle."""
    inner = {"0": module(f"torch.nn.modules.{kind}", None, **settings)}
    path.write_bytes(archive(module("torch.nn.modules.container\nSequential", inner)))
    return tg.io.load_model(path)


LARGE = 100_000
RANDOM = {
    "Dropout1d, unbatched": ((LARGE, 3), "feature_dropout(torch.unsqueeze(x, 0), 0.25, False)"),
    "Dropout1d": ((1, LARGE, 3), "feature_dropout_(torch.mul(x, 1), 0.25, False)"),
    "Dropout2d": ((2, LARGE // 2, 2, 2), "feature_dropout(x, 0.25, False)"),
    "Dropout3d, unbatched": ((LARGE, 1, 2, 1), "feature_dropout(torch.unsqueeze(x, 0), 0.25, False)"),
    "AlphaDropout": ((10, LARGE // 10), "alpha_dropout(x, 0.25, False)"),
    "FeatureAlphaDropout": ((2, LARGE // 2, 3), "feature_alpha_dropout(x, 0.25, False)"),
}


@tg.no_grad()
@pytest.mark.parametrize("form", ["layer", "op"])
@pytest.mark.parametrize("what", RANDOM)
def test_layers_and_ops_that_drop_elements_do_so_in_training(tmp_path: Path, what: str, form: str) -> None:
    shape, call = RANDOM[what]
    path = tmp_path / "model.pt"
    if form == "layer":
        kind = what.partition(",")[0]
        model = one_layer(path, f"dropout\n{kind}", p=b"G\x3f\xd0\x00\x00\x00\x00\x00\x00")
    else:
        model = tg.io.load_model(script(path, f"return torch.{call}"))
    x = np.ones(shape, "f4")
    assert (model(x).numpy() == 1).all()
    tg.manual_seed(0)
    found = model.train()(x).numpy().reshape(shape)
    values, counts = np.unique(found, return_counts=True)
    if "Alpha" in what:  # PyTorch's formula
        alpha = 1.7580993408473766
        a = ((alpha**2 * 0.25 + 1) * 0.75) ** -0.5
        expected = [a * alpha * (0.25 - 1), a * (1 + alpha * 0.25)]
    else:
        expected = [0, 4 / 3]
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    assert abs(counts[0] / x.size - 0.25) < 0.01
    if what != "AlphaDropout":  # whole channels
        channel = 0 if "unbatched" in what else 1
        assert (np.ptp(found, axis=tuple(range(channel + 1, x.ndim))) == 0).all()


@tg.no_grad()
def test_the_slopes_of_rrelu_are_random_in_training(tmp_path: Path) -> None:
    model = tg.io.load_model(script(tmp_path / "model.pt", "return torch.rrelu(x, 0.25, 0.75, False, None)"))
    x = np.linspace(-1, 1, 1000, dtype="f4")
    np.testing.assert_allclose(model(x).numpy(), np.where(x < 0, x / 2, x), rtol=1e-6)
    found = model.train()(x).numpy()
    np.testing.assert_array_equal(found[x >= 0], x[x >= 0])
    slopes = found[x < 0] / x[x < 0]
    assert 0.25 <= slopes.min() < 0.3 < 0.7 < slopes.max() <= 0.75


@pytest.mark.parametrize("how", ["script", "pickle"])
def test_batch_normalization_of_volumes_follows_the_batches_in_training(how: str) -> None:
    model = tg.io.load_model(FOLDER / f"torch_{how}_volumes.pt")
    x = read_safetensors(FOLDER / f"torch_{how}_volumes.expected.safetensors").tensors["in.input"]
    convolution, norm, *_ = model.children()
    before, convolved = norm.running_mean.numpy().copy(), convolution(tg.tensor(x)).detach().numpy()
    model.train()(x)
    np.testing.assert_allclose(
        norm.running_mean.numpy(), 0.9 * before + 0.1 * convolved.mean((0, 2, 3, 4)), rtol=0, atol=1e-6
    )


@tg.no_grad()
def test_batch_normalizations_that_were_traced_follow_the_batches_in_training() -> None:
    model = tg.io.load_model(FOLDER / "torch_trace_norms.pt").train()
    x = read_safetensors(FOLDER / "torch_trace_norms.expected.safetensors").tensors["in.input"]
    model(x)
    first, second, *_ = model.children()
    np.testing.assert_allclose(first.running_mean.numpy(), 0.1 * x.mean((0, 2, 3)), rtol=0, atol=1e-6)
    x = (x - x.mean((0, 2, 3), keepdims=True)) / x.std((0, 2, 3), keepdims=True)
    grouped = tg.group_norm(tg.tensor(x), 2).numpy()
    np.testing.assert_allclose(second.running_var.numpy(), grouped.var((0, 2, 3), ddof=1), rtol=1e-3)
    assert second.momentum is None


@tg.no_grad()
def test_tracked_statistics_of_instance_normalization_are_refused_in_training(tmp_path: Path) -> None:
    settings = {"track_running_stats": b"\x88", "eps": number(1)}
    zeros = tensor(shape=(3,), strides=(1,))
    buffers = dictionary({"running_mean": zeros, "running_var": zeros})
    model = one_layer(tmp_path / "model.pt", "instancenorm\nInstanceNorm1d", _buffers=buffers, **settings)
    assert (model(np.ones((2, 3, 4), "f4")).numpy() == 1).all()
    with pytest.raises(ValueError, match=r"InstanceNorm with track_running_stats=True is not supported in training"):
        model.train()(np.ones((2, 3, 4), "f4"))


# -- pickles of whole models -------------------------------------------------------------------------------------------


@tg.no_grad()
def test_a_user_defined_module_has_its_layers() -> None:
    model = tg.io.load_model(FOLDER / "torch_pickle_tagger.pt")
    lines = [line.split("  ")[1] for line in repr(model).splitlines()[1:]]
    assert lines == [
        "words: Embedding(11, 4, padding_idx=0)",
        "lstm: LSTM(4, 5, num_layers=2, batch_first=True, dropout=0.2, bidirectional=True)",
        "head: Linear(10, 3)",
    ]
    with pytest.raises(TypeError, match=r"__main__\.Tagger: .*call the layers \(words, lstm, head\) in a forward that"):
        model(tg.ones(2, 3))
    expected = read_safetensors(FOLDER / "torch_script_tagger.expected.safetensors").tensors
    out, _ = model.lstm(model.words(expected["in.ids"]))
    scores = tg.log_softmax(model.head(tg.relu(out)), dim=-1)
    np.testing.assert_allclose(scores.numpy(), expected["out.output"], rtol=0, atol=1e-5)
    weights = tg.io.load_weights(FOLDER / "torch_pickle_tagger.pt")
    assert repr(LSTM.from_torch(weights, "model.module.lstm", batch_first=True, dropout=0.2)) == repr(model.lstm)


def module(class_name: str, modules: Mapping[str, bytes] | None = None, **attributes: bytes) -> bytes:
    own = {"_parameters": b"}", "_buffers": b"}", "_modules": dictionary(modules or {}), **attributes}
    return b"c" + class_name.encode() + b"\n)\x81" + dictionary(own) + b"b"


@pytest.mark.parametrize("container", ["ModuleDict", "ModuleList", "Sequential"])
@pytest.mark.parametrize("name", ["__class__", "__dict__", "forward", "items", "training", "a.b", ""])
def test_modules_in_a_container_may_have_any_name(tmp_path: Path, container: str, name: str) -> None:
    path, relu = tmp_path / "model.pt", module("torch.nn.modules.activation\nReLU", inplace=b"\x89")
    own = module(f"torch.nn.modules.container\n{container}", {name: relu, "last": relu})
    path.write_bytes(archive(module("mine\nNet", {"parts": own})))
    parts = tg.io.load_model(path).parts
    assert type(parts).__name__ == container and not parts.training
    assert [type(each).__name__ for each in parts.children()] == ["ReLU", "ReLU"]
    assert isinstance(parts.last, tg.nn.ReLU)
    if container == "Sequential":
        assert parts(tg.tensor([-1.0, 2.0])).tolist() == [0.0, 2.0]


def test_only_wrappers_are_left_out(tmp_path: Path) -> None:
    """A module without a name is not that of a wrapper such as DataParallel."""
    path, relu = tmp_path / "model.pt", module("torch.nn.modules.activation\nReLU", inplace=b"\x89")
    path.write_bytes(archive(module("mine\nNet", {"": relu, "last": relu})))
    assert [type(each).__name__ for each in tg.io.load_model(path).children()] == ["ReLU", "ReLU"]


def test_a_layer_that_cannot_be_built_is_named_once(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    inner = {"0": module("torch.nn.modules.pooling\nMaxPool1d")}
    path.write_bytes(archive(module("torch.nn.modules.container\nSequential", inner)))
    assert error_of(path) == ("it has layers that are not supported: 0 (MaxPool1d: 'missing the settings kernel_size')")


def test_parts_of_a_sequential_that_are_not_there_are_named(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    unknown = module("torch.nn.modules.pooling\nMaxUnpool1d")
    inner = module("torch.nn.modules.container\nSequential", {"a": unknown, "b": module("mine\nNet")})
    path.write_bytes(archive(module("torch.nn.modules.container\nSequential", {"0": inner})))
    assert error_of(path) == (
        "it has layers that are not supported: 0.a ('torch.nn.modules.pooling.MaxUnpool1d'); 0.b ('mine.Net')"
    )
    path.write_bytes(archive(module("mine\nNet", {"up": unknown})))
    assert error_of(path).startswith("it has no layer whose type is known, but up ('torch.nn.modules.pooling.")


def test_files_without_one_model_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(archive(b"c__torch__\nNet\n)\x81" + dictionary({"training": b"\x89"}) + b"b"))
    assert error_of(path) == "a TorchScript archive without its code"
    path.write_bytes(archive(dictionary({"a": tensor()})))
    assert error_of(path) == "it has only arrays; tg.io.load_weights reads the arrays"
    path.write_bytes(archive(dictionary({"a": module("mine\nA"), "b": module("mine\nB")})))
    assert error_of(path) == "it has 2 models, and one is expected; tg.io.load_weights reads the arrays"


def test_settings_and_tensors_of_a_user_defined_module(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    relu = module("torch.nn.modules.activation\nReLU")
    parts = {"train": relu, "a.b": relu}
    own = {"size": b"K\x05", "name": text("x"), "_parameters": dictionary({"scale": tensor()})}
    path.write_bytes(archive(module("mine\nNet", parts, **own)))
    model = tg.io.load_model(path)
    assert (model.size, model.name, model.scale.shape) == (5, "x", (2, 3))
    assert [name for name, _ in model.named_children()] == ["train_", "a_b"]
    assert not model.training


def test_modules_of_pytorch_before_1_4_have_a_backend(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    weights = {"weight": tensor(), "bias": b"N"}
    own = {"_backend": b"ctorch.nn.backends.thnn\n_get_thnn_function_backend\n)R", "_parameters": dictionary(weights)}
    path.write_bytes(
        archive(module("torch.nn.modules.linear\nLinear", in_features=b"K\x03", out_features=b"K\x02", **own))
    )
    assert tg.io.load_model(path)(tg.ones(4, 3)).shape == (4, 2)


def test_parameters_that_layers_share_are_one(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    linear = module("torch.nn.modules.linear\nLinear", _parameters=dictionary({"weight": tensor(), "bias": b"N"}))
    path.write_bytes(archive(module("mine\nNet", {"a": linear, "b": linear})))
    model = tg.io.load_model(path)
    assert model.a is not model.b and model.a.weight is model.b.weight
    assert sum(parameter.size for parameter in model.parameters()) == 6


@tg.no_grad()
@pytest.mark.parametrize(
    ("kind", "settings", "expected"),
    [
        ("activation\nHardswish", {}, lambda x: x * np.clip(x / 6 + 0.5, 0, 1)),
        ("activation\nThreshold", {"threshold": number(0), "value": number(7)}, lambda x: np.where(x > 0, x, 7)),
        ("padding\nZeroPad1d", {"padding": b"K\x01K\x02\x86"}, lambda x: np.pad(x, [(0, 0)] * 2 + [(1, 2)])),
        (
            "padding\nReplicationPad1d",
            {"padding": b"K\x01K\x01\x86"},
            lambda x: np.pad(x, [(0, 0)] * 2 + [(1, 1)], "edge"),
        ),
        (
            "upsampling\nUpsample",
            {
                **{"mode": text("nearest"), "size": b"N", "scale_factor": number(2)},
                **{"align_corners": b"N", "recompute_scale_factor": b"N"},
            },
            lambda x: x.repeat(2, axis=-1),
        ),
        (
            "instancenorm\nInstanceNorm1d",
            {"track_running_stats": b"\x89", "momentum": number(0), "eps": number(0)},
            lambda x: (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True),
        ),
    ],
)
def test_layers_without_parameters(
    tmp_path: Path, kind: str, settings: dict[str, bytes], expected: Callable[[HostArray], HostArray]
) -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 5))
    found = one_layer(tmp_path / "model.pt", kind, **settings)(x).numpy()
    np.testing.assert_allclose(found, expected(x), rtol=1e-6, atol=1e-9)


# -- exported programs -------------------------------------------------------------------------------------------------


def exported(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A golden program whose model.json is changed."""
    with zipfile.ZipFile(FOLDER / "torch_export_tagger.pt2") as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name.endswith("models/model.json"):
                program = json.loads(content)
                change(program["graph_module"])
                content = json.dumps(program).encode()
            target.writestr(name, content)
    return path


def test_programs_that_are_not_supported_are_named(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"

    def other_ops(module: dict[str, Any]) -> None:
        for node, op in zip(module["graph"]["nodes"][-2:], ("lgamma.default", "erfinv.default"), strict=True):
            node["target"] = f"torch.ops.aten.{op}"

    reason = error_of(exported(path, other_ops))
    assert reason.startswith("it has parts that are not supported: the op 'lgamma' (the node '")
    assert "; the op 'erfinv' (the node '" in reason
    reason = error_of(exported(path, lambda module: module["graph"]["nodes"].pop(0)))
    assert reason.startswith("damaged: its program uses '") and reason.endswith("before it is computed")
    assert error_of(exported(path, lambda module: module.pop("signature"))) == (
        "damaged: its program lacks something (KeyError)"
    )


def test_inputs_of_programs_are_checked() -> None:
    model = tg.io.load_model(FOLDER / "torch_export_vad.pt2", states={"h0": "output_1", "c0": "output_2"})
    assert [str(port) for port in model.inputs] == [
        "audio (batch, 32) float32",
        "h0 (1, batch, 6) float32",
        "c0 (1, batch, 6) float32",
    ]
    with pytest.raises(ValueError, match=r"expected audio \(batch, 32\) float32, got float32 \(2, 31\)"):
        model(np.ones((2, 31), np.float32))
    with tg.no_grad():  # states are zeros if they are not given
        x = np.ones((2, 32), np.float32)
        given = model(x, np.zeros((1, 2, 6)), np.zeros((1, 2, 6)))
        np.testing.assert_array_equal(model(x).output.numpy(), given.output.numpy())
    weights = tg.io.load_weights(FOLDER / "torch_export_vad.pt2")
    assert weights["rnn.weight_ih_l0"].shape == (24, 4)


def test_inputs_of_scripts_have_the_shapes_that_layers_need() -> None:
    model = tg.io.load_model(FOLDER / "torch_script_vad.pt")
    assert [str(port) for port in model.inputs] == [
        "audio (batch, time) float32",
        "h0 (1, batch, 6) float32",
        "c0 (1, batch, 6) float32",
    ]
    assert model.states == {"h0": "hn", "c0": "cn"}
    assert [str(port) for port in tg.io.load_model(FOLDER / "torch_trace_tagger.pt").inputs] == [
        "ids (batch, time) int64"
    ]
