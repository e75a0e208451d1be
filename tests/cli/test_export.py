"""`tinygrad-lstm export`: the model of a file in a different format."""

from pathlib import Path

import numpy as np
import pytest
from commands import fail_here, succeed, succeed_here
from golden_models import model_path

import tinygrad_lstm as tg

ENDINGS = {"onnx": ".onnx", "torch": ".torch.safetensors", "safetensors": ".safetensors"}


@pytest.fixture
def copied(head: Path, tmp_path: Path) -> Path:
    path = tmp_path / "head.v1.onnx"
    path.write_bytes(head.read_bytes())
    return path


@pytest.mark.parametrize("to", ["torch", "safetensors"])
def test_arrays_are_written_beside_the_file(copied: Path, to: str) -> None:
    place = copied.with_name(f"head.v1{ENDINGS[to]}")
    assert succeed("export", copied, "--to", to) == f"{to}: {place} (0.00 MB)\n"
    written, own = tg.io.load_weights(place), tg.io.load_model(copied).state_dict()
    assert written.keys() == own.keys()
    for name, array in own.items():
        np.testing.assert_array_equal(written[name], array)


def test_a_whole_model_is_written(copied: Path, tmp_path: Path) -> None:
    succeed_here("export", copied, "--to", "onnx", "--out", tmp_path / "again.onnx")
    x = np.ones((4, 2, 3), np.float32)
    with tg.no_grad():
        for again, before in zip(*(tg.io.load_model(path)(x) for path in (tmp_path / "again.onnx", copied))):
            np.testing.assert_array_equal(again.numpy(), before.numpy())


def test_examples_are_asked_for(tmp_path: Path) -> None:
    message = fail_here("export", model_path("torch_script_cells"), "--to", "onnx", "--out", tmp_path / "cells.onnx")
    assert message.strip() == "--input: expected examples, as the file does not have the shape of x, got none"


def test_a_checkpoint_of_ours_becomes_onnx(runs: tuple[Path, str], tmp_path: Path) -> None:
    succeed_here("export", runs[0] / "best.safetensors", "--to", "onnx", "--out", tmp_path / "model.onnx")
    assert "lstm.l0" in succeed_here("show", tmp_path / "model.onnx")


def test_a_file_is_replaced_only_if_it_is_named(copied: Path) -> None:
    before = copied.read_bytes()
    assert (
        fail_here("export", copied, "--to", "onnx")
        == f"--out: expected a path, got none, and {copied} is there already"
    )
    assert copied.read_bytes() == before
    succeed_here("export", copied, "--to", "onnx", "--out", copied)
    assert copied.read_bytes() != before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["head.v1.onnx", "--to", "onnx", "--out", "model.pt"],
            "--out: expected a file that ends in .onnx, got model.pt",
        ),
        (["head.v1.onnx", "--to", "torch", "--out", "none/a.safetensors"], "none/a.safetensors: No such file"),
        (["none.onnx", "--to", "torch"], "none.onnx: No such file"),
        (["a.safetensors", "--to", "onnx"], "a.safetensors: it has only arrays"),
    ],
)
def test_bad_input_is_one_line(copied: Path, arguments: list[str], message: str) -> None:
    tg.io.save_weights(copied.with_name("a.safetensors"), {"x": np.ones(1)})
    before = sorted(copied.parent.iterdir())
    assert fail_here("export", *arguments, cwd=copied.parent).startswith(message)
    assert sorted(copied.parent.iterdir()) == before
