"""What all tests share: the strict device, the devices to run on, and how hypothesis searches."""

import os

import hypothesis
import pytest
from strict_backend import STRICT

import tinygrad_lstm as tg

hypothesis.settings.register_profile(
    "tests",
    deadline=None,
    max_examples=30,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("tests")

tg.register_backend("strict", STRICT)

DEVICES = ["cpu", "strict", *(["cuda"] if tg.cuda.is_available() else [])]


# Of the session's scope: hypothesis runs a test many times within one of a function's.
@pytest.fixture(scope="session", params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    """The name of a device; a test that takes it runs on every device that there is."""
    name: str = request.param
    return name
