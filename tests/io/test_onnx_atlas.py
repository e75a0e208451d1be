"""Models of the atlas's cells exported to ONNX: onnxruntime computes what they do, for any batch and any length."""

from pathlib import Path

import pytest
from onnx_exports import Runner, assert_near

import tinygrad_lstm as tg
from tinygrad_lstm.models import CharLM
from tinygrad_lstm.models.atlas import ATLAS


@pytest.mark.parametrize("cell", ATLAS)
def test_a_model_of_any_cell_is_exported(cell: str, tmp_path: Path) -> None:
    tg.manual_seed(0)
    lm = CharLM(7, 3, 4, num_layers=2, cell=cell).eval()
    run = Runner(lm, folder=tmp_path)
    for T, B in ((5, 3), (1, 2)):
        ids = lm.example_inputs(T, B)["ids"]
        before = {f"{name}0": state for name, state in lm.named_forward(ids).items() if name != "logits"}
        assert_near(run(ids=ids, **before), lm.named_forward(ids, **before))
