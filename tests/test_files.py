"""What is read must be a regular file: nothing else is waited for, or read without end."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tinygrad_lstm.data import read_text
from tinygrad_lstm.files import open_file, read_file
from tinygrad_lstm.io import load_weights
from tinygrad_lstm.metrics import read_metrics
from tinygrad_lstm.models import GRU, LSTM
from tinygrad_lstm.train import TextCheckpoint

READERS: dict[str, Callable[[Path], object]] = {
    "weights": load_weights,
    "a layer's weights": LSTM.from_torch,
    "Keras": GRU.from_keras,
    "checkpoints": TextCheckpoint.load,
    "texts": read_text,
    "metrics": read_metrics,
    "files": open_file,
}


@pytest.fixture(params=["pipe", "device", "socket", "link"])
def special(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Something to which nobody writes, or which has no end."""
    path = tmp_path / "special"
    if request.param == "device":
        return Path("/dev/zero")
    if request.param == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
        return path
    os.mkfifo(tmp_path / "pipe")
    if request.param == "pipe":
        return tmp_path / "pipe"
    path.symlink_to(tmp_path / "pipe")
    return path


@pytest.mark.skipif(os.name != "posix", reason="named pipes and devices are POSIX's")
@pytest.mark.parametrize("reader", READERS)
def test_only_regular_files_are_read(reader: str, special: Path) -> None:
    with pytest.raises(ValueError, match=f"^{special}: a pipe or a device, not a file$"):
        READERS[reader](special)


@pytest.mark.skipif(os.name != "posix", reason="named pipes are POSIX's")
def test_a_file_that_becomes_a_pipe_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "text"
    path.write_text("a")
    seen = os.stat(path)
    path.unlink()
    os.mkfifo(path)
    monkeypatch.setattr(os, "stat", lambda path: seen)
    with pytest.raises(ValueError, match="a pipe or a device"):
        open_file(path)


def test_regular_files_and_links_to_them_are_read(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"abc")
    (tmp_path / "link").symlink_to(tmp_path / "text")
    assert read_file(tmp_path / "link") == b"abc"
    with pytest.raises(FileNotFoundError) as missing:
        read_file(tmp_path / "none")
    with pytest.raises(IsADirectoryError) as folder:
        read_file(tmp_path)
    assert (missing.value.filename, folder.value.filename) == (str(tmp_path / "none"), str(tmp_path))
