"""What the library does leaves the process as it was: settings of NumPy, Python and the system, files and threads."""

import gc
import locale
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygrad_lstm as tg
from tinygrad_lstm.backends import threads
from tinygrad_lstm.backends.compiled.building import why_not
from tinygrad_lstm.mode import mode
from tinygrad_lstm.models import CharLM

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGSEGV]


def matplotlib_state() -> Any:
    matplotlib = sys.modules.get("matplotlib")
    return None if matplotlib is None else (dict(matplotlib.rcParams), matplotlib.get_backend())


def process_state() -> dict[str, Any]:
    """All that belongs to the process, and not to the library."""
    return {
        "errstate": np.geterr(),
        "error callback": np.geterrcall(),
        "print options": np.get_printoptions(),
        "NumPy's generator": [np.asarray(part).tolist() for part in np.random.get_state()],
        "Python's generator": random.getstate(),
        "warnings": list(warnings.filters),
        "showwarning": warnings.showwarning,
        "environment": dict(os.environ),
        "working folder": os.getcwd(),
        "files there": sorted(os.listdir()),
        "signals": [signal.getsignal(number) for number in SIGNALS],
        "locale": locale.setlocale(locale.LC_ALL),
        "tracing": (sys.gettrace(), sys.getprofile()),
        "hooks": (sys.excepthook, sys.displayhook, threading.excepthook, sys.unraisablehook),
        "recursion": sys.getrecursionlimit(),
        "switching": sys.getswitchinterval(),
        "path": list(sys.path),
        "collector": (gc.isenabled(), gc.get_threshold(), gc.get_freeze_count(), gc.callbacks[:]),
        "streams": (sys.stdin, sys.stdout, sys.stderr),
        "threads of BLAS": threads.number_of_blas_threads(),
        "threads": [thread for thread in threading.enumerate() if not thread.name.startswith("tinygrad_lstm")],
        "affinity": os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None,
        "matplotlib": matplotlib_state(),
        "mode": mode().value,
        "default device": tg.zeros(1).device,
    }


def trained(folder: Path) -> CharLM:
    model = CharLM(5, 4, 6, dropout=0.1)
    optimizer = tg.optim.AdamW(model.parameters(), lr=0.1)
    ids = tg.tensor(np.arange(12).reshape(6, 2) % 5)
    loss, _ = model.loss(ids, ids)
    loss.backward()
    tg.optim.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    model.generate([1, 2], 3)
    return model


def compiled(folder: Path) -> None:
    if why_not() is not None:
        pytest.skip("there is no C compiler")
    with tg.compiled_kernels(True):
        layer = tg.models.LSTM(60, 60)
        x = tg.randn(50, 40, 60, requires_grad=True)
        layer(x)[0].sum().backward()
        (tg.randn(90, 90) @ tg.randn(90, 90)).sum()


def ops_at_extremes(folder: Path) -> None:
    x = tg.tensor([0.0, -1.0, np.inf, np.nan, 3e38], requires_grad=True)
    for name in ("log", "exp", "sqrt", "tanh", "sigmoid", "softmax", "logsumexp", "erf", "std"):
        (y := getattr(tg, name)(x, *([0] if name in ("softmax", "logsumexp") else []))).sum().backward()
        repr(y)
    _ = (x / 0, x**-1, x @ x)


def failing(folder: Path) -> None:
    for call in (
        lambda: tg.ones(2, 3) @ tg.ones(2),
        lambda: CharLM(5, 4, 6).load_state_dict({}),
        lambda: tg.io.load_weights(folder / "none.npz"),
        lambda: tg.checkpoint(lambda x: 1 / 0, tg.ones(1)),
        lambda: tg.inspect.summary(tg.nn.Linear(3, 2), tg.ones(4)),
        lambda: tg.inspect.trace(tg.nn.Linear(3, 2), tg.ones(4, 3)),
    ):
        with pytest.raises(Exception):  # noqa: B017 (which one, others' tests say)
            call()


def looked_into(folder: Path) -> None:
    model, ids = trained(folder), tg.tensor([[0, 1], [2, 3]])
    traced = tg.inspect.trace(model, ids, loss=lambda out: out.sum())
    tg.inspect.summary(model, ids)
    tg.inspect.graph(model(ids)[0].sum())
    tg.inspect.page(traced, folder / "page.html")
    tg.inspect.explain(tg.models.LSTMCell(2, 3), tg.ones(1, 2))


def plotted(folder: Path) -> None:
    traced = tg.inspect.trace(tg.models.LSTM(2, 3), tg.ones(4, 1, 2), loss=lambda out: out.sum())
    figure = tg.inspect.plots.new_figure()
    tg.inspect.plot_gates(traced["l0"], 0, figure.add_subplot())
    tg.inspect.plots.write_figure(folder / "gates.png", figure)


def written_and_read(folder: Path) -> None:
    model = tg.models.LSTM(2, 3)
    for ending in ("npz", "safetensors"):
        tg.io.save_weights(folder / f"weights.{ending}", model.state_dict())
        model.load_state_dict(tg.io.load_weights(folder / f"weights.{ending}"))
    tg.io.export_onnx(model, folder / "model.onnx")


def differentiated(folder: Path) -> None:
    x = tg.tensor([1.0, 2.0], dtype="float64", requires_grad=True)
    tg.checkpoint(lambda x: tg.dropout(x.exp(), 0.5), x).sum().backward()
    tg.gradcheck(lambda x: x.sin().sum(), x)
    tg.func.hessian(lambda x: (x**3).sum())(np.ones(2))
    tg.func.jvp(lambda x: tg.where(x > 0, x * 0, x), (np.ones(2),), (np.ones(2),))
    with tg.detect_anomaly(), tg.no_grad():
        x.exp()


@pytest.mark.parametrize(
    "use",
    [trained, compiled, ops_at_extremes, failing, looked_into, plotted, written_and_read, differentiated],
    ids=lambda use: use.__name__,
)
def test_the_process_is_left_as_it_was(
    use: Callable[[Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    if use is plotted:
        pytest.importorskip("matplotlib.pyplot")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = process_state()
        use(tmp_path / "out")
        after = process_state()
    changed = {name: (before[name], after[name]) for name in before if repr(before[name]) != repr(after[name])}
    assert changed == {}
