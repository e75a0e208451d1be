"""What the library needs of each of its dependencies; `make test` runs this with the oldest versions allowed, too."""

import importlib.util
import re
import tomllib
from importlib.metadata import requires, version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import fail, succeed

import tinygrad_lstm as tg
from tinygrad_lstm.backends import compiled
from tinygrad_lstm.backends.compiled import building
from tinygrad_lstm.models import GRU, LSTM, RNN, CharLM

PROJECT = Path(__file__).parents[1] / "pyproject.toml"
# A whole training, of a model so small that it takes no time.
TINY = ["--hidden", "6", "--seq-len", "8", "--batch", "4", "--steps", "20"]


def bounds(*extras: str) -> dict[str, tuple[int, ...]]:
    """Lower bounds of the requirements, and of these extras'."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
    found = (re.fullmatch(r"([\w-]+)>=([\d.]+)", line.partition(";")[0].strip()) for line in lines)
    return {match[1]: tuple(map(int, match[2].split("."))) for match in found if match}


def test_every_runtime_dependency_has_a_lower_bound_and_is_there() -> None:
    named = {re.split(r"[^\w-]", line)[0] for line in requires("tinygrad-lstm") or () if "extra ==" not in line}
    assert named == set(bounds()) == {"numpy", "rich", "safetensors", "typer"}
    for name, bound in bounds("fast", "plot", "onnx").items():
        if importlib.util.find_spec(name):
            assert tuple(map(int, re.findall(r"\d+", version(name))[: len(bound)])) >= bound


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numpy(dtype: str) -> None:
    """A sample of what ops ask of it: values that are known, dtypes, and gradients."""
    x = tg.tensor([[1.0, -2.5], [0.5, 4.0]], dtype=dtype, requires_grad=True)
    out = (
        x.softmax(-1) @ x.T + x.exp().log1p().cumsum(0) * tg.where(x > 0, x, 0.1 * x).flip(0) + x.square().sum(1).sqrt()
    )
    assert (out.dtype, out.shape) == (dtype, (2, 2))
    tg.einsum("ij,ji->", out, x[[1, 0]]).backward()
    assert x.grad is not None and x.grad.dtype == dtype
    if dtype == "float64":
        tg.gradcheck(lambda x: (x @ x.T).logsumexp(1), [x])
    integers = tg.tensor([3, -1, 3])
    assert (integers.floor().dtype, (integers * x[0, 0]).dtype) == ("int64", dtype)
    rounded = integers.round()
    rounded[0] = 7
    assert integers.tolist() == [3, -1, 3] and rounded.tolist() == [7, -1, 3]
    assert tg.tensor(np.arange(4, dtype=np.float16)).sum().dtype == "float16"
    with pytest.raises((ValueError, OverflowError)):
        tg.tensor([300], dtype="uint8")


@pytest.mark.parametrize("kind", [LSTM, GRU, RNN])
def test_numba(kind: Any) -> None:
    """Compiled kernels compute NumPy's values and gradients; so does a stream."""
    pytest.importorskip("numba", reason="numba is not installed (the extra 'fast')")
    assert compiled.why_no_numba() is None
    tg.manual_seed(0)
    layer, x = kind(5, 7, num_layers=2), tg.randn(6, 3, 5, requires_grad=True)
    found = []
    for wanted in (True, False):
        with tg.compiled_kernels(wanted):
            out, _ = layer(x, lengths=[6, 2, 4])
            gradients = tg.grad(out.square().sum(), [x, *layer.parameters()])
            stream = layer.stream(3)
            steps = [stream(step) for step in x.detach().numpy()]
            found.append([out.detach().numpy(), *(gradient.numpy() for gradient in gradients), *steps])
    for fast, plain in zip(*found, strict=True):
        np.testing.assert_allclose(fast, plain, rtol=1e-4, atol=1e-5)
    assert compiled.why_no_numba() is None


def test_numba_in_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cross entropy, the gradient of an embedding, a large product and Adam, too, if there is no C compiler."""
    pytest.importorskip("numba", reason="numba is not installed (the extra 'fast')")

    def fail(*args: Any) -> None:
        raise building.BuildError("there is no compiler")

    for module in ("training", "matrices"):
        monkeypatch.setattr(f"tinygrad_lstm.backends.compiled.{module}._kernels", fail)
    monkeypatch.setattr(compiled, "_not_built", set())
    losses = []
    for wanted in (True, False):
        with tg.compiled_kernels(wanted):
            tg.manual_seed(0)
            model = CharLM(160, 16, 160)
            optimizer = tg.optim.Adam(model.parameters(), lr=0.01)
            ids = tg.tensor(np.random.default_rng(0).integers(0, 160, (9, 10)))
            for _ in range(3):
                optimizer.zero_grad()
                loss = tg.cross_entropy(model(ids[:-1])[0].flatten(0, 1), ids[1:].flatten())
                loss.backward()
                optimizer.step()
            losses.append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-4) and losses[0] < 5
    assert compiled.why_no_numba() is None


def test_typer_and_rich(tmp_path: Path) -> None:
    """The command: help, an error in one line, a training with its files, a sample, one step explained."""
    assert "inspect-weights" in succeed("--help")
    assert "--resume" in succeed("train", "--help")
    assert fail("train", "--steps", 0).startswith("--steps: ")
    text = tmp_path / "text.txt"
    text.write_text("to be or not to be, that is the question\n" * 30)
    assert "step 20/20" in succeed("train", "--data", text, "--out", tmp_path / "run", *TINY)
    model = tmp_path / "run" / "best.safetensors"
    assert len(succeed("sample", model, "--prompt", "to ", "--length", 20)) >= 20
    assert "sigmoid" in succeed("explain")
    assert "embedding" in succeed("inspect-weights", model)
    assert f"numba {version('numba')}" in succeed("info") or importlib.util.find_spec("numba") is None


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64", "bool"])
def test_safetensors(dtype: str, tmp_path: Path) -> None:
    arrays = {"a": np.arange(6).reshape(2, 3).astype(dtype), "b.c": np.ones((), dtype), "empty": np.ones((0, 2), dtype)}
    tg.io.save_weights(tmp_path / "weights.safetensors", arrays)
    loaded = tg.io.load_weights(tmp_path / "weights.safetensors")
    assert set(loaded) == set(arrays)
    for name, array in arrays.items():
        assert loaded[name].dtype == array.dtype
        np.testing.assert_array_equal(loaded[name], array)


def test_onnx(tmp_path: Path) -> None:
    """A network that is exported and read again."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed (the extra 'onnx')")
    tg.manual_seed(0)
    lstm = LSTM(3, 4, bidirectional=True)
    tg.io.export_onnx(lstm, tmp_path / "lstm.onnx")
    onnx.checker.check_model(str(tmp_path / "lstm.onnx"))
    again = LSTM.from_onnx(tg.io.load_weights(tmp_path / "lstm.onnx"))
    x = tg.randn(5, 2, 3)
    np.testing.assert_allclose(again(x)[0].detach().numpy(), lstm(x)[0].detach().numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # matplotlib's own, of its parsers
def test_matplotlib(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (the extra 'plot')")
    from tinygrad_lstm.inspect.plots import new_figure, write_figure

    traced = tg.inspect.trace(LSTM(3, 4), tg.randn(9, 2, 3), loss=lambda out: out[-1].sum())
    drawings = [
        lambda ax: tg.inspect.plot_gates(traced[0], 1, ax),
        lambda ax: tg.inspect.plot_cell_states(traced[0], ax),
        lambda ax: tg.inspect.plot_saturation(traced[0], ax),
        lambda ax: tg.inspect.plot_gradient_flow(tg.inspect.flow_of(traced), ax),
    ]
    for draw in drawings:
        figure = new_figure()
        draw(figure.add_subplot())
        write_figure(tmp_path / "plot.png", figure)
        assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
