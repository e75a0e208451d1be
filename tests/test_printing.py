"""Nothing that comes from a file controls the terminal on which it is shown."""

import json
import re
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import run, run_here
from hypothesis import given
from hypothesis import strategies as st
from onnx_graphs import Graph
from safetensors.numpy import save_file

from tinygrad_lstm import nn
from tinygrad_lstm.io import Weights, from_torch, load_weights, save_weights
from tinygrad_lstm.io import checkpoint as checkpoint_file
from tinygrad_lstm.io.contents import FileLayer
from tinygrad_lstm.models import GRU, LSTM, CharLM
from tinygrad_lstm.optim import Adam
from tinygrad_lstm.printable import printable
from tinygrad_lstm.train import TextCheckpoint, TextTrainer, TrainingOptions

HOSTILE = "\x1b[31m\x1b]0;title\x07\r\x9b2J\x00\x08\x7f\u2028\u202e\u2066\x85"
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
LINE_ENDS = re.compile("[\n\t]")


@given(st.text(), st.sampled_from(["", "\n", "\n\t"]))
def test_what_is_printable_is_kept_and_the_rest_is_escaped(text: str, keep: str) -> None:
    shown = printable(text, keep)
    for character in set(shown) - set(keep):
        assert unicodedata.category(character) not in ("Cc", "Cs", "Zl", "Zp") and not CONTROLS.match(character)
    if shown == text:
        return
    # Each escape is one that Python reads back as the character.
    text = text.replace("\\", "")
    assert re.sub(r"\\x(..)|\\u(....)", lambda found: chr(int(found[1] or found[2], 16)), printable(text, keep)) == text


def test_letters_of_all_scripts_are_kept() -> None:
    for text in ("naïve façade", "日本語\u3000テスト", "हिन्\u200dदी", "עברית\u200f", "👩\u200d🔬", "a\u00a0b"):
        assert printable(text) == text


# --- Commands -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files whose names, texts, keys and versions are hostile, and a model that generates only such characters."""
    folder = tmp_path_factory.mktemp("hostile")
    text = (HOSTILE + "a\n\tb") * 40
    (folder / "text.txt").write_text(text, encoding="utf-8", newline="")
    read = text.replace("\r\n", "\n").replace("\r", "\n")
    options = TrainingOptions(steps=2, embedding=3, hidden=4, seq_len=8, batch=2)
    TextTrainer.start(CharLM.from_options, read, options, folder / "run", [f"{folder}/{HOSTILE[1:]}"]).run()
    (folder / f"run/{HOSTILE[:5]}.safetensors").write_bytes((folder / "run/last.safetensors").read_bytes())
    save_weights(folder / "names.safetensors", {f"{HOSTILE}.weight_hh_l0": np.ones((8, 2)), HOSTILE: np.ones(2)})
    header = {"format": "tinygrad_lstm.checkpoint", "version": HOSTILE}
    save_file({"x": np.ones(1)}, folder / "version.safetensors", header)
    checkpoint_file.save(folder / "keys.safetensors", {HOSTILE: 1})
    graph = Graph(inputs={HOSTILE: np.ones((2, 3), "f4")})
    graph.node("Tanh", HOSTILE, name=f"{HOSTILE}y")
    graph.saved(folder / "model.onnx", f"{HOSTILE}y")
    graph.node(f"{HOSTILE}op", HOSTILE, name=f"{HOSTILE}z")
    graph.saved(folder / "ops.onnx", f"{HOSTILE}z")
    np.savez(folder / "x.npz", x=np.ones((2, 3), np.float32))
    (folder / "x.csv").write_text(f"1,2\n{HOSTILE[:5]},2\n")
    return folder


TINY = ["--hidden", "4", "--seq-len", "8", "--batch", "2"]
COMMANDS: dict[str, tuple[list[str], int]] = {
    "sample": (["sample", "run/last.safetensors", "--prompt", "a", "--length", "200", "--temperature", "5"], 0),
    "sample of other characters": (["sample", "run/last.safetensors", "--prompt", "a\x1b\x02"], 2),
    "explain": (["explain", "run/last.safetensors", "--text", "a\x1b\u202eb\r", "--steps", "1"], 2),
    "explain a path": (["explain", f"run/{HOSTILE[:5]}.safetensors", "--text", "a\x1b\u202eb\n"], 0),
    "eval": (["eval", "run/last.safetensors", "--data", "text.txt"], 0),
    "eval of other characters": (["eval", "run/last.safetensors", "--data", "names.safetensors"], 2),
    "inspect": (["inspect", "run/last.safetensors", "--text", "a\x1b\u202eb\n"], 0),
    "show": (["show", "names.safetensors"], 0),
    "show a model": (["show", "model.onnx", "--program"], 0),
    "show ops that are not there": (["show", "ops.onnx"], 0),
    "run": (["run", "model.onnx", "--input", "x.npz"], 0),
    "run without inputs": (["run", "model.onnx"], 2),
    "run a table": (["run", "model.onnx", "--input", "x.csv"], 2),
    "run with two": (["run", "model.onnx", "--input", "x.npz", "--input", "x.npz"], 2),
    "export ops that are not there": (["export", "ops.onnx", "--to", "torch"], 2),
    "inspect inputs": (["inspect", "ops.onnx", "--input", "x.npz", "--out", "page.html"], 2),
    "atlas": (["atlas", f"none{HOSTILE[:8]}"], 2),
    "version": (["sample", "version.safetensors", "--prompt", "a"], 2),
    "keys": (["sample", "keys.safetensors", "--prompt", "a"], 2),
    "a path": (["eval", f"none{HOSTILE[:8]}", "--data", "text.txt"], 2),
    "resume": (["train", "--resume", "--out", "run", "--steps", "4"], 0),
    "train": (["train", "--data", "text.txt", "--out", f"out{HOSTILE[:5]}", "--steps", "2", *TINY], 0),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_prints_control_characters(folder: Path, name: str) -> None:
    arguments, status = COMMANDS[name]
    result = (run if name in ("sample", "train") else run_here)(*arguments, cwd=folder)
    printed = LINE_ENDS.sub("", result.stdout + result.stderr)
    assert result.returncode == status, result.stderr
    assert printed and not CONTROLS.search(printed)
    if name in ("sample", "train", "atlas", "version", "keys", "a path") or name.startswith(("show", "run", "export")):
        assert r"\x1b" in printed


def test_line_ends_and_tabs_of_a_sample_are_kept(folder: Path) -> None:
    arguments = ["sample", "run/last.safetensors", "--prompt", "a\n\tb", "--length", "1", "--temperature", "0"]
    assert run(*arguments, cwd=folder).stdout.startswith("a\n\tb")


# --- Errors ---------------------------------------------------------------------------------------


def keras_layer(**more: Any) -> Weights:
    names = {"kernel": HOSTILE, "recurrent_kernel": f"{HOSTILE}r"}
    arrays = {HOSTILE: np.ones((2, 11)), f"{HOSTILE}r": np.ones((3, 12))}
    return Weights(arrays, {HOSTILE: FileLayer("LSTM", "keras", [names], name=HOSTILE, **more)})


LSTM_ARRAYS = {f"{HOSTILE}.weight_hh_l0": np.ones((8, 3)), f"{HOSTILE}.weight_ih_l0": np.ones((7, 2))}
ERRORS = {
    "from_torch": lambda: LSTM.from_torch(LSTM_ARRAYS, HOSTILE),
    "from_torch, another prefix": lambda: LSTM.from_torch(LSTM_ARRAYS, "x"),
    "from_torch, another kind": lambda: GRU.from_torch({f"{HOSTILE}.weight_hh_l0": np.ones((8, 2))}, HOSTILE),
    "from_torch, parts": lambda: LSTM.from_torch({f"{HOSTILE}.weight_hh_l0_g": np.ones(2)}, HOSTILE),
    "from_torch, quantized": lambda: LSTM.from_torch({f"{HOSTILE}._packed_params": np.ones(2)}),
    "from_torch, no array": lambda: LSTM.from_torch({f"{HOSTILE}.weight_hh_l0": [[1], [1, 2]]}, HOSTILE),
    "from_torch, a model": lambda: from_torch(LSTM_ARRAYS),
    "from_keras": lambda: LSTM.from_keras(keras_layer()),
    "from_keras, another": lambda: LSTM.from_keras(keras_layer(), "x"),
    "from_keras, another kind": lambda: GRU.from_keras(keras_layer()),
    "from_onnx": lambda: LSTM.from_onnx({f"{HOSTILE}/W": np.ones((1, 8, 2)), f"{HOSTILE}/R": np.ones((1, 7, 2))}),
    "load_state_dict": lambda: nn.Linear(1, 1).load_state_dict({HOSTILE: np.ones(1)}),
    "load_lora": lambda: nn.load_lora(nn.Linear(1, 1), {f"{HOSTILE}_lora.A": np.ones(1), HOSTILE: np.ones(1)}),
    "an optimizer": lambda: odd_optimizer_state(),
}


def odd_optimizer_state() -> None:
    adam = Adam(nn.Linear(1, 1).parameters())
    state = adam.state_dict()
    adam.load_state_dict({**state, "state": {**state["state"], HOSTILE: np.ones(1)}})


@pytest.mark.parametrize("what", ERRORS)
def test_no_error_has_control_characters(what: str) -> None:
    with pytest.raises(ValueError, match=r"\\x1b") as raised:
        ERRORS[what]()
    assert not CONTROLS.search(LINE_ENDS.sub("", str(raised.value)))


def test_no_reader_names_a_file_s_text_raw(tmp_path: Path) -> None:
    header = {HOSTILE: {"dtype": HOSTILE, "shape": [1], "data_offsets": [0, 4]}}
    text = json.dumps(header).encode()
    (tmp_path / "a").write_bytes(len(text).to_bytes(8, "little") + text + bytes(4))
    for read in (load_weights, TextCheckpoint.load):
        with pytest.raises(ValueError, match=r"\\x1b") as raised:
            read(tmp_path / "a")
        assert not CONTROLS.search(str(raised.value))
