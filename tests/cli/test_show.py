"""`tinygrad-lstm show`, run as a process: what it shows of a file, and what it says about bad ones."""

from pathlib import Path

import numpy as np
from commands import fail, fail_here, succeed, succeed_here
from onnx_graphs import Graph
from torch_pickles import archive, dictionary, tensor

from tinygrad_lstm.io import save_weights
from tinygrad_lstm.models import GRU, LSTM

FILES = Path(__file__).parents[1] / "golden" / "files"
MODELS = Path(__file__).parents[1] / "golden" / "models"
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "bring-a-model.md"


def test_it_lists_arrays_and_recurrent_layers() -> None:
    printed = succeed("show", FILES / "char_rnn.pt")
    lines = printed.splitlines()
    assert lines[0].split() == ["embedding.weight", "27", "×", "8", "float32"]
    assert lines[-4:] == [
        "7 arrays, 2,339 numbers, 0.01 MB",
        "recurrent layers:",
        "  lstm: LSTM(8, 16), by LSTM.from_torch(weights, prefix='lstm')",
        "no whole model: it has only arrays; tg.io.load_weights reads the arrays",
    ]
    assert printed in PAGE.read_text(encoding="utf-8")


def test_types_that_numpy_lacks_are_named() -> None:
    assert "weight_ih_l0  16 × 3  bfloat16" in succeed("show", FILES / "bfloat16.pt")


def test_a_keras_file_is_understood() -> None:
    printed = succeed("show", FILES / "keras_lstm.keras")
    assert "LSTM(3, 4), by LSTM.from_keras(weights, prefix='layers/lstm')" in printed


def test_layers_that_cannot_be_loaded_say_why(tmp_path: Path) -> None:
    arrays = {f"gru.{name}": array for name, array in GRU(2, 3).to_torch().items() if name != "bias_ih_l0"}
    save_weights(tmp_path / "a.safetensors", arrays)
    assert "make no GRU: missing: gru.bias_ih_l0" in succeed("show", tmp_path / "a.safetensors")


def test_what_it_says_is_what_loading_does(tmp_path: Path) -> None:
    arrays = {**LSTM(2, 3).to_torch(), "head.weight": np.ones((1, 3))}
    save_weights(tmp_path / "a.safetensors", arrays)
    assert "(at the top): LSTM.from_torch: the arrays under the prefix '' make no LSTM: extra: head.weight" in succeed(
        "show", tmp_path / "a.safetensors"
    )


def test_what_is_below_a_layer_is_left_over(tmp_path: Path) -> None:
    """Names that only begin alike are not below it."""
    layers = {"a": LSTM(2, 3), "a.b": GRU(2, 3), "a.bc": GRU(2, 3), "ab": LSTM(2, 3)}
    arrays = {f"{prefix}.{name}": array for prefix, layer in layers.items() for name, array in layer.to_torch().items()}
    save_weights(tmp_path / "a.safetensors", arrays | {"a-b.weight": np.ones(1)})
    found = succeed("show", tmp_path / "a.safetensors").splitlines()[-5:-1]
    below, *whole = sorted(found, key=lambda line: line.partition(":")[0])
    assert below.startswith("  a: LSTM.from_torch: the arrays under the prefix 'a' make no LSTM: extra: a.b.")
    assert "a-b" not in below and " ab." not in below and " a.bc.weight_hh_l0" in below
    assert whole == [
        "  a.b: GRU(2, 3), by GRU.from_torch(weights, prefix='a.b')",
        "  a.bc: GRU(2, 3), by GRU.from_torch(weights, prefix='a.bc')",
        "  ab: LSTM(2, 3), by LSTM.from_torch(weights, prefix='ab')",
    ]


def test_a_long_name_does_not_make_all_lines_long(tmp_path: Path) -> None:
    save_weights(tmp_path / "a.safetensors", {"k" * 5000: np.ones(1), "x": np.ones(1)})
    lines = succeed("show", tmp_path / "a.safetensors").splitlines()
    assert lines[0] == "k" * 5000 + "  1  float64" and lines[1] == "x" + " " * 81 + "1  float64"


def test_without_recurrent_layers_it_says_so(tmp_path: Path) -> None:
    save_weights(tmp_path / "a.safetensors", {"x": np.float32(3), "y": np.ones((2, 3))})
    printed = succeed("show", tmp_path / "a.safetensors").splitlines()
    assert printed == [
        "x  a number  float32",
        "y  2 × 3     float64",
        "2 arrays, 7 numbers, 0.00 MB",
        "no recurrent layers are recognised",
        "no whole model: it has only arrays; tg.io.load_weights reads them",
    ]


def test_names_cannot_control_the_terminal(tmp_path: Path) -> None:
    save_weights(tmp_path / "a.safetensors", {"\x1b[31mred\n": np.ones(1)})
    printed = succeed("show", tmp_path / "a.safetensors")
    assert "\x1b" not in printed and printed.startswith("\\x1b[31mred\\x0a  1  float64\n")


def test_a_model_is_summarised(head: Path) -> None:
    lines = succeed_here("show", head).splitlines()
    assert lines[-6:] == [
        "a whole model, by tg.io.load_model(path): 20 parameters",
        "  inputs   x (steps, batch, 3) float32",
        "  outputs  y.0",
        "           sum",
        "  streams  by model.stream(), step by step",
        "  ops      MatMul, Add, Tanh",
    ]
    assert lines[0].split() == ["fc.weight", "3", "×", "5", "float32"]


def test_the_program_is_shown(head: Path) -> None:
    lines = succeed_here("show", head, "--program").splitlines()
    assert "  sum (steps, batch, 5) = Add(product, fc.bias)" in lines and lines[-1] == "  outputs: y.0, sum"


def test_the_program_has_the_lengths_that_are_given(head: Path) -> None:
    lines = succeed_here("show", head, "--program", "--shape", "x=100,1,3").splitlines()
    assert "  inputs   x (100, 1, 3) float32" in lines
    assert "  sum (100, 1, 5) = Add(product, fc.bias)" in lines
    named = succeed_here("show", head, "--program", "--shape", "x=time,1,3")
    assert "  sum (time, 1, 5) = Add(product, fc.bias)" in named
    message = fail_here("show", head, "--shape", "x=100,1,4")
    assert message == "--shape: expected lengths of x (steps, batch, 3) float32, got 100,1,4"
    for bad in ("x=", "x=-1,1,3", "x=0,1,3", "x=2.5,1,3"):
        message = fail_here("show", head, "--shape", bad)
        assert message == f"--shape: expected lengths or names, as in x=batch,time,80, got {bad!r}"


def test_a_shape_that_the_file_does_not_say_can_be_given() -> None:
    encoder = MODELS / "torch_script_encoder.pt"
    assert "does not say the shape of the input 'src'; give it with --shape, as in --shape src=batch,time,80" in (
        succeed_here("show", encoder)
    )
    printed = succeed_here("show", encoder, "--shape", "src=batch,time,8")
    assert "src (batch, time, 8)" in printed and "--shape" not in printed


def test_a_single_layer_has_no_shapes_of_inputs(tmp_path: Path) -> None:
    parameters = dictionary({"weight": tensor(), "bias": b"N"})
    attributes = dictionary({"_parameters": parameters, "_buffers": b"}", "_modules": b"}"})
    (tmp_path / "a.pt").write_bytes(archive(b"ctorch.nn.modules.linear\nLinear\n)\x81" + attributes + b"b"))
    message = "one Linear, without the shapes of its inputs; tg.io.load_model returns it"
    assert succeed_here("show", tmp_path / "a.pt").splitlines()[-1] == f"no whole model: {message}"


def test_lengths_of_one_name_are_equal_in_all_inputs() -> None:
    printed = succeed_here("show", MODELS / "torch_export_vad.pt2", "--shape", "audio=2,32")
    assert "h0 (1, 2, 6) float32" in printed


def test_a_checkpoint_of_ours_is_a_model(runs: tuple[Path, str]) -> None:
    lines = [" ".join(line.split()) for line in succeed_here("show", runs[0] / "best.safetensors").splitlines()]
    assert "inputs ids (time, batch) int64" in lines
    assert "states h0 (1, batch, 6) float32, afterwards h" in lines
    assert "outputs logits" in lines and "lstm: LSTM(32, 6)" in lines


def test_ops_that_are_not_there_are_named(tmp_path: Path) -> None:
    graph = Graph(inputs={"x": np.ones((2, 3), "f4")})
    graph.node("NonMaxSuppression", "x", name="boxes")
    printed = succeed_here("show", graph.saved(tmp_path / "a.onnx", "boxes"))
    assert printed.splitlines()[-1].startswith("no whole model: it has ops that are not supported: NonMaxSuppression")


def test_the_earlier_name_of_the_command(head: Path) -> None:
    assert succeed_here("inspect-weights", head) == succeed_here("show", head)
    assert "inspect-weights" not in succeed_here("--help")


def test_bad_files_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "story.pt").write_text("once upon a time")
    assert fail("show", tmp_path / "story.pt").startswith(f"{tmp_path / 'story.pt'}: ")
    assert "No such file" in fail("show", tmp_path / "none.pt")
