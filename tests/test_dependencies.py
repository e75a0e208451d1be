"""What the library needs of each of its dependencies; `make test` runs this with the oldest versions allowed, too."""

import importlib.util
import re
import tomllib
from importlib.metadata import requires, version
from pathlib import Path

import numpy as np
import pytest
from commands import fail, succeed

import tinygrad_lstm as tg
from tinygrad_lstm.models import LSTM

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
    for name, bound in bounds("plot", "onnx", "search").items():
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


def test_typer_and_rich(tmp_path: Path) -> None:
    """The command: help, an error in one line, a training with its files, a sample, one step explained."""
    assert "show" in succeed("--help")
    assert "--resume" in succeed("train", "--help")
    assert fail("train", "--steps", 0).startswith("--steps: ")
    text = tmp_path / "text.txt"
    text.write_text("to be or not to be, that is the question\n" * 30)
    assert "step 20/20" in succeed("train", "--data", text, "--out", tmp_path / "run", *TINY)
    model = tmp_path / "run" / "best.safetensors"
    assert len(succeed("sample", model, "--prompt", "to ", "--length", 20)) >= 20
    assert "sigmoid" in succeed("explain")
    assert "embedding" in succeed("show", model)


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
        lambda ax: tg.inspect.plot_text(traced[0], 1, "to be or\n", ax),
        lambda ax: tg.inspect.plot_gradient_flow(tg.inspect.flow_of(traced), ax),
    ]
    for draw in drawings:
        figure = new_figure()
        draw(figure.add_subplot())
        write_figure(tmp_path / "plot.png", figure)
        assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_optuna(tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="optuna is not installed (the extra 'search')")
    text = tmp_path / "text.txt"
    text.write_text("to be or not to be, that is the question\n" * 30)
    space = ["--space", "lr=1e-3:1e-1:log", "--space", "dropout=0,0.1"]
    command = ["search", *space, "--out", tmp_path / "out", "train", "--data", text, *TINY, "--trials"]
    assert "trial 0: finished" in succeed(*command, 1)
    assert "trial 1: finished" in succeed(*command, 2)
