"""What is written against CuPy, on a module that stands in for it: devices, moving, kernels, products, errors.

On a machine with a GPU the rest of the suite runs on CuPy itself.
"""

import importlib.metadata
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fake_cupy import COMPUTE_32F, COMPUTE_64F, COMPUTE_FAST_16F, COMPUTE_FAST_TF32, FakeCupy
from kernels_on_host import needs_compiler
from strict_backend import StrictArray, current_device

import tinygrad_lstm as tg
from tinygrad_lstm import device
from tinygrad_lstm.models import LSTM, CharLM, Recurrent
from tinygrad_lstm.models.atlas import ATLAS


@pytest.fixture
def two(install: Callable[[Any], None]) -> FakeCupy:
    """Two CUDA devices."""
    module = FakeCupy(devices=2)
    install(module)
    return module


# -- devices -----------------------------------------------------------------------------------------------------------


def test_devices_are_known_by_their_index(two: FakeCupy) -> None:
    assert tg.cuda.is_available()
    assert tg.cuda.device_count() == 2
    x = tg.ones(3, device="cuda:1")
    assert str(x.device) == "cuda:1"
    assert str(tg.ones(3).cuda().device) == str(tg.zeros(1, device="cuda").device) == "cuda:0"
    assert tg.exp(two.cuda.Device(1).from_host(np.zeros(2))).device == "cuda:1"


def test_a_device_equals_only_its_whole_name_and_has_its_hash(two: FakeCupy) -> None:
    first, second = (tg.ones(1, device=name).device for name in ("cuda", "cuda:1"))
    assert first == "cuda:0" and second == "cuda:1" and first.type == second.type == "cuda"
    assert {first: 0, second: 1} == {"cuda:0": 0, "cuda:1": 1}
    with pytest.warns(UserWarning, match="compared with 'cuda', but its name is 'cuda:0'.*device.type with 'cuda'"):
        assert first != "cuda"
    assert second != "cuda" and first != second


def test_the_environment_names_the_default_device(two: FakeCupy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_default", None)  # none was set in the program
    monkeypatch.setenv("TINYGRAD_LSTM_DEVICE", "cuda:1")
    assert tg.zeros(2).device == "cuda:1"


def test_what_lies_on_two_devices_does_not_meet(two: FakeCupy) -> None:
    x, y = tg.ones(2, device="cuda:0"), tg.ones(2, device="cuda:1")
    with pytest.raises(RuntimeError, match="inputs on 'cuda:0' and 'cuda:1'; move them to one device"):
        x + y


def test_values_and_gradients_move_between_devices(two: FakeCupy) -> None:
    x = tg.tensor([1.0, 2.0], device="cuda:1", requires_grad=True)
    y = (x * 3).to("cuda:0")
    (y * y).sum().cpu().backward()
    assert y.device == "cuda:0"
    assert x.grad.device == "cuda:1"
    assert x.grad.tolist() == [18.0, 36.0]
    counts = [two.cuda.Device(k).counts for k in range(2)]
    assert [count.synchronisations for count in counts] == [0, 0]


def test_a_device_has_one_name(two: FakeCupy) -> None:
    assert tg.zeros(1, device="cuda:01").device is tg.zeros(1, device="cuda:1").device
    assert tg.zeros(1, device="cuda:01").device == "cuda:1"


def test_a_number_moves_as_one(two: FakeCupy) -> None:
    x = tg.tensor(2.0, requires_grad=True)
    moved = x.to("cuda:0")
    (moved.to("cuda:1") * 3).backward()
    assert moved.shape == x.grad.shape == ()
    assert x.grad.item() == 3.0


@needs_compiler
@pytest.mark.parametrize("algorithm", [tg.optim.SGD, tg.optim.Adam, tg.optim.RMSprop, tg.optim.Adagrad])
def test_parameters_that_are_numbers(two: FakeCupy, algorithm: Any) -> None:
    found = []
    for place in ("cpu", "cuda:1"):
        tg.manual_seed(0)
        x = tg.tensor(3.0, device=place, requires_grad=True)
        optimizer = algorithm([x], lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            (tg.dropout(x * x, 0.1)).backward()
            tg.optim.clip_grad_norm_([x], 1.0)
            optimizer.step()
        found.append(x.item())
    np.testing.assert_allclose(*found, rtol=1e-6)


def test_a_move_waits_for_the_source_and_the_source_for_the_move(two: FakeCupy) -> None:
    x = tg.tensor([1.0, 2.0], device="cuda:0")
    two.events.clear()
    x.to("cuda:1")
    assert two.events == [("cuda:0", "record 0"), ("cuda:1", "wait 0"), ("cuda:1", "record 1"), ("cuda:0", "wait 1")]


def test_anomalies_are_found_across_devices(two: FakeCupy) -> None:
    x = tg.tensor([0.0, 4.0], device="cuda:1", requires_grad=True)
    with np.errstate(all="ignore"), tg.detect_anomaly():
        (x.square().to("cuda:0") * 2).sum().backward()
        with pytest.raises(FloatingPointError, match="op 'log' made a NaN"):
            (x - 1).log()
        with pytest.raises(FloatingPointError, match="the derivative of op 'sqrt'"):
            (x.sqrt().to("cuda:0") * 0).sum().backward()


def test_a_different_library_waits_for_the_tensors_device(two: FakeCupy, monkeypatch: pytest.MonkeyPatch) -> None:
    x = tg.ones(2, device="cuda:1")
    monkeypatch.setattr(StrictArray, "__dlpack__", lambda array, **options: current_device())
    assert x.__dlpack__() is two.cuda.Device(1)


def test_what_is_not_contiguous_moves_too(two: FakeCupy) -> None:
    x = tg.tensor([[1.0, 2.0], [3.0, 4.0]], device="cuda:1", requires_grad=True)
    moved = x.T[:, :1].to("cuda:0")
    assert moved.tolist() == [[1.0], [2.0]]
    moved.sum().backward()  # whose gradient is one number, seen as many
    assert x.grad.tolist() == [[1.0, 1.0], [0.0, 0.0]]


@needs_compiler
@pytest.mark.parametrize("devices", [1, 2])
def test_a_model_trains_on_the_last_device(install: Callable[[Any], None], devices: int) -> None:
    """It trains as on the CPU while a different device is current, and reads nothing on the host."""
    module = FakeCupy(devices)
    install(module)
    name = f"cuda:{devices - 1}"
    results = []
    for place in ("cpu", name):
        tg.manual_seed(1)
        model = CharLM(7, 5, 6, num_layers=2, dropout=0.2).to(place)
        optimizer = tg.optim.AdamW(model.parameters(), lr=0.1)
        ids = tg.tensor(np.arange(24).reshape(8, 3) % 7, device=place)
        for _ in range(3):
            counts = module.cuda.Device(devices - 1).counts
            counts.reset()
            loss, _ = model.loss(ids[:-1], ids[1:])
            optimizer.zero_grad()
            loss.backward()
            tg.optim.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            assert counts.device_to_host == counts.synchronisations == 0
        results.append([loss.item(), *(parameter.tolist() for parameter in model.parameters())])
    for ours, cpus in zip(*results, strict=True):
        np.testing.assert_allclose(ours, cpus, rtol=1e-4, atol=1e-5)


@needs_compiler
def test_a_step_has_generated_kernels_on_each_device(two: FakeCupy) -> None:
    results = []
    for place in ("cpu", "cuda:0", "cuda:1"):
        tg.manual_seed(1)
        layer = Recurrent(ATLAS["lem"](3, 5)).to(place)
        x = tg.tensor(np.random.default_rng(0).normal(size=(4, 2, 3)), dtype="float32", device=place)
        (layer(x)[0] ** 2).sum().backward()
        results.append([parameter.grad.tolist() for parameter in layer.parameters()])
    for ours in results[1:]:
        for mine, cpus in zip(ours, results[0], strict=True):
            np.testing.assert_allclose(mine, cpus, rtol=1e-4, atol=1e-5)


# -- kernels and products ----------------------------------------------------------------------------------------------


@needs_compiler
@pytest.mark.parametrize("H", [3, 40])
def test_more_blocks_than_run_at_once_are_refused(two: FakeCupy, H: int) -> None:
    """CuPy would not launch some of the blocks, and the rest would wait for them forever."""
    network = LSTM(2, H).to("cuda:1")
    x = tg.randn(3, 90, 2, device="cuda:1")
    network(x)
    two.cuda.Device(1).attributes["MultiProcessorCount"] = 1  # fewer than were promised
    with pytest.raises(ValueError, match="exceeds the limit"):
        network(x)


@needs_compiler
def test_old_devices_take_the_steps_one_by_one(two: FakeCupy) -> None:
    two.cuda.Device(1).attributes["ComputeCapabilityMajor"] = 6
    assert tg.zeros(1, device="cuda:0").device.backend.multiprocessors > 0
    assert tg.zeros(1, device="cuda:1").device.backend.multiprocessors == 0


@needs_compiler
def test_a_kernel_may_have_much_shared_memory(two: FakeCupy) -> None:
    """More than the 48 KB that every kernel may have."""
    for k in range(2):
        two.cuda.Device(k).attributes.update(MultiProcessorCount=20, MaxSharedMemoryPerBlockOptin=227 * 1024)
    network = LSTM(2, 300)
    x = tg.randn(2, 30, 2)
    expected = network(x)[0]
    out = network.to("cuda:1")(x.to("cuda:1"))[0]
    np.testing.assert_allclose(out.tolist(), expected.tolist(), atol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "precision", "compute"),
    [
        ("float32", "float32", COMPUTE_32F),
        ("float32", "tf32", COMPUTE_FAST_TF32),
        ("float32", "float16", COMPUTE_FAST_16F),
        ("float16", "float32", COMPUTE_32F),
        ("float16", "float16", COMPUTE_32F),
        ("float64", "tf32", COMPUTE_64F),
    ],
)
def test_products_are_summed_in_the_requested_precision(
    two: FakeCupy, dtype: str, precision: Any, compute: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["tinygrad_lstm.backends.cuda.precision"], "_precision", precision)
    x, y = (tg.randn(*shape, dtype=dtype, device="cuda:1") for shape in ((3, 4), (5, 4)))
    found = (x @ y.T).tolist()
    assert two.cuda.Device(1).products == [compute]
    expected = np.array(x.tolist()) @ np.array(y.tolist()).T
    np.testing.assert_allclose(found, expected, rtol=1e-2 if dtype == "float16" else 1e-5, atol=1e-3)


# -- what is wrong -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (None, r"CuPy, which CUDA devices need: .*cupy.*; pip install '\.\[cuda12\]' in a checkout"),
        (ModuleType("cupy"), "the module named cupy that Python found is not CuPy; pip install"),
        (FakeCupy(1, version="13.6.0"), r"need: 13.6.0 is installed, but it must be 14 or newer; pip install"),
        (
            FakeCupy(0, driver=0, trouble="no driver"),
            "'cuda:0' was asked for, but there is no NVIDIA driver; install one",
        ),
        (
            FakeCupy(0, driver=12020, trouble="insufficient driver"),
            r"driver is too old: it serves CUDA 12.2, but CuPy is built for 13.0; update the driver, or install",
        ),
        (FakeCupy(0), "finds no device; see nvidia-smi and CUDA_VISIBLE_DEVICES"),
        (
            FakeCupy(0, trouble="cudaErrorUnknown: x"),
            r"finds no device \(cudaErrorUnknown: x\);",
        ),
    ],
)
def test_no_cuda_device_says_why(install: Callable[[Any], None], module: Any, message: str) -> None:
    install(module)
    assert not tg.cuda.is_available()
    assert tg.cuda.device_count() == 0
    with pytest.raises(tg.DeviceUnavailableError, match=message) as raised:
        tg.zeros(2, device="cuda")
    assert "\n" not in str(raised.value)


def test_an_index_that_is_not_there(two: FakeCupy) -> None:
    with pytest.raises(tg.DeviceUnavailableError, match=r"'cuda:2' was asked .* there is only 'cuda:0', 'cuda:1'"):
        tg.zeros(2, device="cuda:2")


def test_cupys_error_message_is_kept(
    install: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """CuPy frames its errors with rulers."""
    (tmp_path / "cupy.py").write_text("raise ImportError('\\n=====\\nFailed to import CuPy.\\n\\n')")
    install(None)
    monkeypatch.delitem(sys.modules, "cupy")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(tg.DeviceUnavailableError, match=r"need: Failed to import CuPy\.; pip install"):
        tg.zeros(2, device="cuda")


def test_two_packages_of_cupy_at_once(two: FakeCupy, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = [SimpleNamespace(metadata={"Name": name}) for name in ("numpy", "cupy-cuda13x", "cupy-cuda12x")]
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: installed)
    with pytest.raises(
        tg.DeviceUnavailableError, match=r"cupy-cuda12x cupy-cuda13x.*pip uninstall cupy-cuda12x cupy-cuda13x, then pip"
    ):
        tg.zeros(2, device="cuda")


def test_libraries_of_cuda_that_are_not_there(two: FakeCupy) -> None:
    del two.cuda.cublas
    with pytest.raises(tg.DeviceUnavailableError, match=r"'cuda:1' needs CUDA's libraries beside CuPy.*pip install"):
        tg.zeros(2, device="cuda:1")
