"""`tinygrad-lstm eval`."""

from typing import Annotated

import typer

from ..train import evaluate as evaluate_model
from ..train import nats_to_bits
from .shared import Device, SavedModel, UnknownOption, known_characters, load_model, require
from .texts import Encoding, data_sources, text_of_sources

__all__ = ["evaluate"]


def evaluate(
    checkpoint: SavedModel,
    data: Annotated[
        list[str],
        typer.Option(
            help="A text file, or a folder of them, or - for standard input; may be repeated.", metavar="PATH"
        ),
    ],
    encoding: Encoding = None,
    unknown: UnknownOption = "error",
    device: Device = None,
) -> None:
    """Measure how well a trained model predicts a text."""
    sources = data_sources(data)
    saved, model = load_model(checkpoint, device)
    text, _ = text_of_sources(sources, encoding)
    ids = known_characters(saved.vocabulary, text, unknown).ids
    require("--data", len(ids) >= 2, "at least two characters that the model knows", len(ids))
    nats = evaluate_model(model, ids)
    print(f"{nats:.4f} nats a character, {nats_to_bits(nats):.4f} bits a character, over {len(ids) - 1:,} characters")
