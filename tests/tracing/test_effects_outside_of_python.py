"""Steps that write to streams and files, or read what a run cannot follow: it is done once a step, compiled or not."""

import contextvars
import cProfile
import logging
import math
import os
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from any_cells import drawn

import tinygrad_lstm as tg
from tinygrad_lstm.models import Recurrent

T, B = 5, 3
LOG: list[int] = []


class Total:
    number = 0.0


class Scaling(tg.nn.Module):
    """Multiplies by a number that a function returns."""

    def __init__(self, scale: Callable[[], float]) -> None:
        self.scale = scale

    def forward(self, x: tg.Tensor, h: tg.Tensor) -> tg.Tensor:
        return tg.tanh(x + h) * self.scale()


LOGGER = logging.getLogger("steps")
SCALE: contextvars.ContextVar[list[float]] = contextvars.ContextVar("scale")
SCALE.set([0.0])


def logged() -> float:
    LOGGER.warning("a step")
    return 0.5


def logged_by_import() -> float:
    import logging as imported

    imported.getLogger("steps").warning("a step")
    return 0.5


def warned() -> float:
    warnings.warn("a step", stacklevel=1)
    return 0.5


def written() -> float:
    sys.stdout.write("a step\n")
    return 0.5


def written_by_os() -> float:
    os.write(2, b"a step\n")
    return 0.5


def in_a_file() -> float:
    with open(os.environ["STEPS_FILE"], "a") as file:
        file.write("a step\n")
    return 0.5


def in_the_environment() -> float:
    os.environ["STEPS"] = os.getenv("STEPS", "") + "a step"
    return float(len(os.environ["STEPS"]))


def in_globals() -> float:
    globals()["number_of_steps"] = globals().get("number_of_steps", 0) + 1
    return float(globals()["number_of_steps"])


def in_a_context() -> float:
    SCALE.get()[0] += 1
    return SCALE.get()[0]


def by_code() -> float:
    return float(eval("setattr(Total, 'number', Total.number + 1) or Total.number"))


def by_a_thread() -> float:
    thread = threading.Thread(target=LOG.append, args=[1])
    thread.start()
    thread.join()
    return float(len(LOG))


OUTSIDE: dict[str, tuple[Callable[[], float], str]] = {
    "logger": (logged, r"logging.Logger.warning"),
    "logger that is imported": (logged_by_import, r"logging.Logger.warning"),
    "warning": (warned, r"warnings.warn"),
    "standard output": (written, r"\w+.write"),
    "file descriptor": (written_by_os, r"posix.write|nt.write"),
    "file": (in_a_file, r"open"),
    "environment": (in_the_environment, r"os._Environ.__setitem__"),
    "globals": (in_globals, r"globals"),
    "context variable": (in_a_context, r"ContextVar.get"),
    "code in a string": (by_code, r"eval"),
    "thread": (by_a_thread, r"threading.Thread.start"),
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_what_a_step_does_outside_of_python_objects_is_done_once_a_step(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("STEPS_FILE", str(tmp_path / "steps"))
    monkeypatch.setenv("STEPS", "")
    act, called = OUTSIDE[name]
    x, h = tg.tensor(drawn(T, B, 3)), tg.zeros(B, 3, dtype="float64")

    def seen() -> str:
        file = tmp_path / "steps"
        counts = Total.number, SCALE.get(), os.environ["STEPS"], globals().get("number_of_steps"), len(LOG)
        outputs = len(caplog.records), [*capfd.readouterr()], file.read_text() if file.exists() else ""
        return repr((*counts, *outputs, [str(each.message) for each in noted]))

    found = []
    for compiled in (None, False):
        Total.number, SCALE.get()[0], os.environ["STEPS"] = 0.0, 0.0, ""
        globals()["number_of_steps"] = 0
        LOG.clear()
        caplog.clear()
        (tmp_path / "steps").unlink(missing_ok=True)
        with warnings.catch_warnings(record=True) as noted:
            warnings.simplefilter("always")
            out, _ = Recurrent(Scaling(act), compiled=compiled)(x, h)
            found.append((seen(), out.numpy().tolist()))
    assert found[0] == found[1]
    seen()  # which empties the streams
    before = seen()
    line = r" \(.*test_effects_outside_of_python.py:\d+: "
    with pytest.raises(ValueError, match=rf"the step calls ({called}), which must happen at each step{line}"):
        Recurrent(Scaling(act), compiled=True)(x, h)
    assert seen() == before


def test_what_a_step_reads_of_the_environment_is_what_it_is_at_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    scaled = Recurrent(Scaling(lambda: float(os.environ["STEPS"])), compiled=True)
    for scale in ("0.5", "2", "0.5"):
        monkeypatch.setenv("STEPS", scale)
        out, _ = scaled(tg.ones(1, B, 3), tg.zeros(B, 3))
        np.testing.assert_allclose(out.numpy(), np.full((1, B, 3), np.tanh(1) * float(scale)), rtol=1e-6)


def test_a_logger_that_drops_a_message_does_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def scale() -> float:
        LOGGER.debug("a step")
        return 1.0

    x, h = tg.ones(T, B, 3), tg.zeros(B, 3)
    with caplog.at_level(logging.INFO, "steps"):
        LOGGER.debug("which the logger then knows")
        Recurrent(Scaling(scale), compiled=True)(x, h)
    assert not caplog.records
    with caplog.at_level(logging.DEBUG, "steps"):
        Recurrent(Scaling(scale))(x, h)
    assert len(caplog.records) == T


def test_profilers_stay_active() -> None:
    def step(x: tg.Tensor, h: tg.Tensor) -> tg.Tensor:
        return x * math.floor(float(os.environ.get("STEPS_SCALE", "2"))) + h

    x, h = tg.ones(T, B, 3), tg.zeros(B, 3)
    with cProfile.Profile() as profile:
        out, _ = tg.scan(step, x, h)
        again, _ = tg.scan(step, x, h)
    assert out[:, 0, 0].tolist() == again[:, 0, 0].tolist() == [2.0, 4.0, 6.0, 8.0, 10.0]
    assert sum(entry.callcount for entry in profile.getstats()) > 100  # it was active until the end
    events = []
    sys.setprofile(lambda frame, event, argument: events.append(event))
    try:
        tg.scan(step, x, h)
        after = sys.getprofile()
    finally:
        sys.setprofile(None)
    assert after is not None and "c_call" in events
