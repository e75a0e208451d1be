"""`tinygrad-lstm eval`."""

from typing import Annotated

import typer

from ..data.text_files import read_text
from ..train import evaluate as evaluate_model
from ..train import nats_to_bits
from .shared import Device, SavedModel, UnknownOption, known_text, load_model, path_option, require

__all__ = ["evaluate"]


def evaluate(
    checkpoint: SavedModel,
    data: Annotated[list[str], typer.Option(help="A text file, or a folder of them; may be repeated.", metavar="PATH")],
    unknown: UnknownOption = "error",
    device: Device = None,
) -> None:
    """Measure how well a trained model predicts a text."""
    saved, model = load_model(checkpoint, device)
    text = known_text(saved.vocabulary, read_text([path_option("--data", path) for path in data]), unknown)
    require("--data", len(text) >= 2, "at least two characters that the model knows", len(text))
    ids = saved.vocabulary.encode(text)
    nats = evaluate_model(model, ids)
    print(f"{nats:.4f} nats a character, {nats_to_bits(nats):.4f} bits a character, over {len(ids) - 1:,} characters")
