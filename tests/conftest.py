"""What all tests share: the strict device, the devices and kernels to run on, and how hypothesis searches."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import hypothesis
import pytest
from emulated_backend import EMULATED
from fake_cupy import replacing_cupy
from kernels_on_host import COMPILER, WITHOUT
from strict_backend import STRICT

import tinygrad_lstm as tg
from tinygrad_lstm.backends.compiled.building import why_not

hypothesis.settings.register_profile(
    "tests",
    deadline=None,
    max_examples=30,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("tests")

tg.register_backend("strict", STRICT)
tg.register_backend("emulated", EMULATED)

DEVICES = ["cpu", "strict", "emulated", *(["cuda:0"] if tg.cuda.is_available() else [])]


# Of the session's scope: hypothesis runs a test many times within one of a function's.
@pytest.fixture(scope="session", params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    """The name of a device; a test that takes it runs on every device that there is."""
    name: str = request.param
    if name == "emulated" and COMPILER is None:
        pytest.skip(WITHOUT)
    return name


@pytest.fixture
def place(device: str) -> Iterator[str]:
    """The device, as the default one, with seeded random numbers."""
    tg.manual_seed(0)
    with tg.default_device(device):
        yield device


@pytest.fixture(scope="session", params=[False, True], ids=["plain", "compiled"])
def kernels(request: pytest.FixtureRequest) -> bool:
    """Whether to compute with compiled kernels, for `tg.compiled_kernels`."""
    if request.param and why_not() is not None:
        pytest.skip("there is no C compiler")
    return bool(request.param)


# Of the module's scope, for hypothesis again.
@pytest.fixture(scope="module")
def compiled(kernels: bool) -> Iterator[bool]:
    """Whether the CPU uses compiled kernels; a test that takes it runs on those and on plain NumPy."""
    with tg.compiled_kernels(kernels):
        yield kernels


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Any], None]]:
    """Puts a module in the place of CuPy, for this test."""
    with replacing_cupy(monkeypatch) as put:
        yield put


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Sets how many threads compute, until the test ends."""
    before = tg.get_num_threads()
    yield tg.set_num_threads
    tg.set_num_threads(before)
