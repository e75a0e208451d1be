"""Devices: their names, the default one, moving between them, third parties' ones, and copies that must not happen."""

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strict_backend import STRICT, StrictArray, StrictBackend

import tinygrad_lstm as tg
from tinygrad_lstm import device as registry
from tinygrad_lstm.backends.base import Backend

try:
    import cupy
except ImportError:
    cupy = None


@pytest.mark.skipif(not tg.cuda.is_available(), reason="CuPy finds no CUDA device: nothing is run on device 'cuda'")
def test_cuda_is_among_the_devices() -> None:
    x = tg.ones(2, 3, device="cuda", requires_grad=True)
    (x @ x.T).sum().backward()
    assert x.grad.device == "cuda:0"
    assert x.grad.tolist() == [[4.0] * 3] * 2


# -- the strict device itself: what it is for --------------------------------------------------------------------------


def test_the_strict_device_is_a_backend() -> None:
    assert isinstance(STRICT, Backend)


@pytest.mark.parametrize(
    "leave",
    [np.asarray, float, int, bool, iter, list, lambda x: x.item(), lambda x: x.tolist(), lambda x: [1, 2][x]],
)
def test_its_arrays_do_not_leave_it(leave: Any) -> None:
    with STRICT.current(), pytest.raises(TypeError):
        leave(StrictArray(np.asarray(1)))


@pytest.mark.parametrize(
    "mix",
    [
        lambda x, y: x + y,
        lambda x, y: y + x,
        lambda x, y: y @ x,
        lambda x, y: x * y[0],
        lambda x, y: x.__iadd__(y),
        lambda x, y: y.__iadd__(x),
        lambda x, y: x == y,
        lambda x, y: np.add(x, y),
        lambda x, y: STRICT.xp.add(x, y),
        lambda x, y: STRICT.xp.add(x, 1, out=y),
        lambda x, y: STRICT.xp.concatenate([x, y]),
        lambda x, y: np.concatenate([x, y]),
        lambda x, y: STRICT.xp.where(x > 0, x, y),
        lambda x, y: x[y.astype(int)],
        lambda x, y: y[x.astype(int)],
        lambda x, y: x.__setitem__(0, y[0]),
        lambda x, y: y.__setitem__(slice(None), x),
    ],
)
def test_its_arrays_do_not_meet_numpys(mix: Any) -> None:
    with STRICT.current(), pytest.raises(TypeError):
        mix(StrictArray(np.zeros(2)), np.zeros(2))


def test_its_results_are_arrays_that_wrap_indices() -> None:
    with STRICT.current():
        x = StrictArray(np.arange(3.0))
        for result in (x.sum(), STRICT.xp.max(x), x[0], x + 1, STRICT.xp.zeros(2)):
            assert isinstance(result, StrictArray)
        assert STRICT.to_host(x[StrictArray(np.array([3, -4]))]).tolist() == [0.0, 2.0]


def test_it_has_to_be_the_current_one() -> None:
    x = STRICT.from_host(np.zeros(2))
    for compute in (lambda: x + 1, lambda: -x, lambda: x.sum(), lambda: STRICT.xp.exp(x), lambda: STRICT.xp.zeros(2)):
        with pytest.raises(RuntimeError, match="current"):
            compute()
        with STRICT.current():
            compute()
        with STRICT.current(), StrictBackend().current(), pytest.raises(RuntimeError, match="current"):
            compute() + x


def test_it_counts_copies() -> None:
    STRICT.counts.reset()
    x = tg.tensor([1.0, 2.0], device="strict")
    x.to("strict", "float64").tolist()
    x.cpu()
    x[x > 1]
    STRICT.synchronize()
    assert (STRICT.counts.host_to_device, STRICT.counts.device_to_host, STRICT.counts.synchronisations) == (1, 2, 2)


# -- names and defaults ------------------------------------------------------------------------------------------------


def test_a_device_equals_its_name() -> None:
    x = tg.zeros(2)
    assert x.device == "cpu"
    assert x.device != "strict"
    assert (str(x.device), repr(x.device)) == ("cpu", "device('cpu')")
    assert {x.device: 1}[tg.ones(3).device] == 1


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cuda:", "cpu:1", ""])
def test_an_unknown_device_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=f"unknown device {name!r}.*'cpu'.*'cuda'") as raised:
        tg.zeros(2, device=name)
    assert "\n" not in str(raised.value)


def test_default_device() -> None:
    with tg.default_device("strict") as device:
        assert device == "strict"
        made = [tg.tensor(1.0), tg.zeros(2), tg.arange(3), tg.rand(2), tg.eye(2), tg.linspace(0, 1, 3), tg.exp(1.0)]
        made += [tg.full((2,), 1), tg.tensor([1, 2]) + 1]
        assert {str(x.device) for x in made} == {"strict"}
        with tg.default_device("cpu"):
            assert tg.zeros(2).device == "cpu"
        assert tg.zeros(2).device == "strict"
        assert tg.zeros(2, device="cpu").device == "cpu"
    assert tg.zeros(2).device == "cpu"


@given(st.text(max_size=6) | st.sampled_from(["cpu", "strict", "cpu:0", "CPU"]))
def test_a_device_that_equals_a_string_has_its_hash(name: str) -> None:
    for device in (tg.zeros(1).device, tg.zeros(1, device="strict").device):
        assert (device == name) == (name in {device}) == (device in {name}) == (str(device) == name)


def test_devices_are_registered_while_a_different_thread_iterates_over_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_devices", dict(registry._devices))
    monkeypatch.setattr(registry, "_factories", dict(registry._factories))
    done, looked = threading.Event(), []

    def look() -> None:
        while not done.is_set():
            looked.append(registry.device_of(object()))

    monkeypatch.setattr(StrictBackend, "owns", lambda self, array: bool(time.sleep(0)))
    with ThreadPoolExecutor(6) as threads:
        looking = threads.submit(look)
        made = [threads.submit(tg.register_backend, f"strict-{k // 2}", StrictBackend()) for k in range(200)]
        faults = [future.exception() for future in made]
        done.set()
        looking.result()
    assert sum(isinstance(fault, ValueError) for fault in faults) == faults.count(None) == 100
    assert looked and set(looked) == {None}


def test_default_device_is_put_back_after_an_error() -> None:
    with pytest.raises(KeyError), tg.default_device("strict"):
        raise KeyError
    assert tg.zeros(2).device == "cpu"
    with pytest.raises(ValueError, match="unknown device"), tg.default_device("gpu"):
        pass
    assert tg.zeros(2).device == "cpu"


def test_set_default_device() -> None:
    tg.set_default_device("strict")
    try:
        assert tg.zeros(2).device == "strict"
        with tg.default_device("cpu"):
            assert tg.zeros(2).device == "cpu"
    finally:
        tg.set_default_device("cpu")
    assert tg.zeros(2).device == "cpu"


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("value", ["cpu", ""])
def test_the_environment_names_the_default_device(value: str) -> None:
    result = run("import tinygrad_lstm as tg; print(tg.zeros(2).device)", TINYGRAD_LSTM_DEVICE=value)
    assert (result.stdout, result.stderr) == ("cpu\n", "")


def test_the_environments_device_must_exist() -> None:
    code = "import tinygrad_lstm as tg\ntry: tg.zeros(2)\nexcept ValueError as error: print(error)"
    result = run(code, TINYGRAD_LSTM_DEVICE="abacus")
    assert "'abacus'" in result.stdout
    assert result.stderr == ""


@pytest.mark.skipif(cupy is not None, reason="CuPy is installed")
@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_cuda_without_cupy_names_the_extra(name: str) -> None:
    assert not tg.cuda.is_available()
    assert tg.cuda.device_count() == 0
    for ask in (
        lambda: tg.zeros(2, device=name),
        lambda: tg.ones(2).to(name),
        lambda: tg.default_device(name).__enter__(),
    ):
        with pytest.raises(tg.DeviceUnavailableError, match=r"\.\[cuda12\]") as raised:
            ask()
        assert isinstance(raised.value, RuntimeError)
        assert "\n" not in str(raised.value)


# -- moving ------------------------------------------------------------------------------------------------------------


def test_moving_is_differentiable_both_ways() -> None:
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    there = (x * 3).to("strict")
    back = (there * there).cpu()
    assert (there.device, back.device) == ("strict", "cpu")
    (g,) = tg.grad(back.sum(), x, create_graph=True)
    assert g.device == "cpu"
    assert g.tolist() == [18.0, 36.0]
    (second,) = tg.grad(g.sum(), x)
    assert second.tolist() == [18.0, 18.0]
    y = tg.tensor([1.0, 2.0], device="strict", requires_grad=True)
    y.cpu().exp().sum().backward()
    assert y.grad.device == "strict"


def test_moving_nowhere_is_free() -> None:
    x = tg.zeros(2, device="strict")
    assert x.to("strict") is x
    assert x.to(x.device, x.dtype) is x
    moved = x.to("cpu", "float64")
    assert (moved.device, moved.dtype) == ("cpu", np.float64)
    assert x.to(dtype="float16").device == "strict"
    assert x.to("float16").dtype == np.float16


def test_a_moved_tensor_shares_no_memory() -> None:
    x = tg.zeros(2)
    y = x.to("strict")
    x.fill_(1.0)
    assert y.tolist() == [0.0, 0.0]
    z = y.cpu()
    y.fill_(2.0)
    assert z.tolist() == [0.0, 0.0]


MIXES = {
    "add": lambda x, y: x + y,
    "where": lambda x, y: tg.where(x > 0, x, y),
    "matmul": lambda x, y: x @ y.T,
    "cat": lambda x, y: tg.cat([x, y]),
    "stack": lambda x, y: tg.stack([x, y]),
    "einsum": lambda x, y: tg.einsum("ij,ij", x, y),
    "linear": lambda x, y: tg.linear(x, y),
    "getitem": lambda x, y: x[y.to(dtype="int64")],
}


@pytest.mark.parametrize("name", MIXES)
def test_mixed_devices_name_the_op_and_both(name: str) -> None:
    x, y = tg.ones(2, 3), tg.ones(2, 3, device="strict")
    for pair in ((x, y), (y, x)):
        with pytest.raises(RuntimeError, match=f"^{name}: ") as raised:
            MIXES[name](*pair)
        assert "cpu" in str(raised.value)
        assert "strict" in str(raised.value)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["add", "mul", "matmul", "where"])
def test_a_numpy_array_is_not_moved_to_a_device(name: str) -> None:
    x = tg.ones(3, 3, device="strict")
    for pair in ((x, np.ones((3, 3))), (np.ones((3, 3)), x)):
        with pytest.raises(RuntimeError, match="strict"):
            MIXES.get(name, getattr(tg, name))(*pair) if name != "where" else tg.where(True, *pair)


def test_numpy_asks_for_the_cpu_first() -> None:
    x = tg.ones(2, device="strict")
    for read in (x.numpy, lambda: np.asarray(x)):
        with pytest.raises(RuntimeError, match=r"strict.*cpu"):
            read()
    assert x.cpu().numpy().tolist() == [1.0, 1.0]


# -- third parties' devices --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cpu", "cuda", "cuda:7", "strict"])
def test_a_devices_name_is_given_once(name: str) -> None:
    with pytest.raises(ValueError, match="taken"):
        tg.register_backend(name, StrictBackend())


def test_a_backend_must_be_whole() -> None:
    with pytest.raises(TypeError, match=r"to_host.*protocol"):
        tg.register_backend("half", SimpleNamespace(xp=np, array_type=np.ndarray))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="half"):
        tg.zeros(2, device="half")


def test_a_gradient_from_a_different_device_is_not_moved_silently() -> None:
    x = tg.tensor([1.0, 2.0], device="strict", requires_grad=True)
    message = "a tensor on 'cpu' was given for one on 'strict'; move it with .to"
    with pytest.raises(RuntimeError, match=message):
        (x * 2).backward(tg.ones(2))
    y = x * 2
    y.register_hook(lambda g: tg.ones(2))
    with pytest.raises(RuntimeError, match=message):
        y.sum().backward()
    assert x.grad is None


def test_anomalies_are_found_on_every_device(device: str) -> None:
    x = tg.tensor([-1.0, 4.0], device=device, requires_grad=True)
    with np.errstate(all="ignore"), tg.detect_anomaly():
        x.square().sum().backward()
        with pytest.raises(FloatingPointError, match="op 'log' made a NaN"):
            x.log()


def test_no_memory_within_a_backward_is_explained_once(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = MemoryError("nothing left")

    def fail(*arguments: Any) -> None:
        raise raw

    monkeypatch.setattr(STRICT, "matmul", fail)
    x = tg.ones(2, 2, device="strict", requires_grad=True)
    y = x * 2
    y.register_hook(lambda g: g @ g)
    with pytest.raises(MemoryError, match=r"matmul: 'strict' has no memory left \(nothing left\); make") as raised:
        y.sum().backward()
    assert raised.value.__cause__ is raw


def test_a_devices_own_arrays_find_it() -> None:
    x = tg.tensor(STRICT.from_host(np.ones(2)), device="strict")
    assert x.device == "strict"
    result = tg.exp(STRICT.from_host(np.zeros(2)))
    assert result.device == "strict"
    assert result.tolist() == [1.0, 1.0]


def test_random_numbers_are_the_same_on_every_device(device: str) -> None:
    tg.manual_seed(3)
    expected = tg.randn(4), tg.rand(2, 2)
    tg.manual_seed(3)
    for x, y in zip((tg.randn(4, device=device), tg.rand(2, 2, device=device)), expected, strict=True):
        assert x.device == device
        assert x.tolist() == y.tolist()


# -- copies that must not happen ---------------------------------------------------------------------------------------


def test_a_training_step_makes_no_copy() -> None:
    tg.manual_seed(0)
    weight = tg.randn(5, 3, device="strict", requires_grad=True)
    table = tg.randn(7, 3, device="strict", requires_grad=True)
    bias = tg.zeros(5, device="strict", requires_grad=True)
    ids = tg.tensor([[0, 6, 6], [2, 0, 1]], device="strict")
    target = tg.tensor([[1, 0, 4], [2, 2, 3]], device="strict")
    losses = []
    STRICT.counts.reset()
    for _ in range(5):
        x = tg.embedding(ids, table, padding_idx=0)
        scores = tg.linear(x, weight, bias).tanh()
        x, gate = scores.split([2, 3], -1)
        scores = tg.cat([x * x.sigmoid(), gate.clamp(-0.9, 0.9).softplus()], -1)
        chosen = scores.take_along_axis(target.unsqueeze(-1), -1).squeeze(-1)
        loss = (scores.logsumexp(-1) - chosen).mean() + weight.norm() * 0.01 + tg.where(bias > 0, bias, 0.0).var()
        loss.backward()
        with tg.no_grad():
            for parameter in (weight, table, bias):
                parameter -= parameter.grad * 0.5
                parameter.grad = None
        losses.append(loss.detach())
    assert (STRICT.counts.host_to_device, STRICT.counts.device_to_host, STRICT.counts.synchronisations) == (0, 0, 0)
    assert losses[-1].item() < losses[0].item()
