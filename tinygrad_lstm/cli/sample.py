"""`tinygrad-lstm sample`."""

import math
from typing import Annotated

import numpy as np
import typer

from .shared import TEMPERATURE, TOP_P, Device, SavedModel, UnknownOption, known_text, load_model, require

__all__ = ["sample"]


def sample(
    checkpoint: SavedModel,
    prompt: Annotated[str, typer.Option(help="The text to continue.")],
    length: Annotated[int, typer.Option(help="Characters to generate.")] = 500,
    temperature: Annotated[
        float, typer.Option(help="0 always takes the most likely character; higher values vary the text more.")
    ] = TEMPERATURE,
    top_k: Annotated[int | None, typer.Option(help="Draw only from this many most likely characters.")] = None,
    top_p: Annotated[
        float,
        typer.Option(help="Draw only from the most likely characters with this probability in sum; 1 for all."),
    ] = TOP_P,
    count: Annotated[int, typer.Option(help="The number of samples.")] = 1,
    unknown: UnknownOption = "error",
    device: Device = None,
    seed: Annotated[int | None, typer.Option(help="Repeats a sample.")] = None,
) -> None:
    """Let a trained model continue a text."""
    require("--prompt", bool(prompt), "at least one character to continue", "none")
    require("--length", length >= 1, "at least 1", length)
    require("--temperature", 0 <= temperature < math.inf, "at least 0 and finite", temperature)
    require("--top-k", top_k is None or top_k >= 1, "at least 1", top_k)
    require("--top-p", 0 < top_p <= 1, "above 0 and at most 1", top_p)
    require("--count", count >= 1, "at least 1", count)
    require("--seed", seed is None or seed >= 0, "at least 0", seed)
    saved, model = load_model(checkpoint, device)
    prompt = known_text(saved.vocabulary, prompt, unknown)
    require("--prompt", bool(prompt), "at least one character that the model knows", "none")
    ids = saved.vocabulary.encode(prompt).tolist()
    rng = np.random.default_rng(seed)
    for number in range(1, count + 1):
        if count > 1:
            print(f"--- sample {number} of {count} ---")
        drawn = model.sample(ids, temperature, top_k, rng, top_p)
        print(prompt, end="", flush=True)
        try:
            for _ in range(length):
                print(saved.vocabulary.decode([next(drawn)]), end="", flush=True)
        finally:
            print()
