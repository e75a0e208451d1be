"""The page around which the chapter "What an LSTM does" is written: a small model reads a text that it has learnt."""

import functools
import random
import tempfile
from pathlib import Path

import numpy as np

import tinygrad_lstm as tg
from tinygrad_lstm.data import Vocabulary
from tinygrad_lstm.models import CharLM
from tinygrad_lstm.train import TextTrainer, TrainingOptions

__all__ = ["READ", "live_page", "remembering_unit", "traced_model"]

WORDS = "a cat and dog saw the sun go to bed on red sea sand while two old men sang it low"
READ = "the cat saw (THE SUN GO TO BED ON RED SAND) and the dog sang (LOW) to two old men"


@functools.cache  # `mkdocs serve` builds the site again whenever a page changes
def live_page() -> tuple[str, int]:
    """The page, and the number of the unit that remembers best whether a bracket is open."""
    traced, vocabulary = traced_model()
    with tempfile.TemporaryDirectory() as folder:
        page = tg.inspect.page(
            traced,
            Path(folder) / "page.html",
            vocabulary=vocabulary.characters,
            title="A small LSTM reads a text with brackets",
            loss_is="the loss of the last character",
        )
        return page.read_text(encoding="utf-8"), remembering_unit(traced)


def traced_model() -> tuple[tg.inspect.Trace, Vocabulary]:
    """What a model that was just trained computes when it reads `READ`, and its characters."""
    with tempfile.TemporaryDirectory() as folder:
        options = TrainingOptions(steps=600, embedding=12, hidden=20, batch=16, seq_len=64, lr=0.02)
        trainer = TextTrainer.start(CharLM.from_options, text(40_000), options, out=folder)
        trainer.run()
        ids = tg.tensor(trainer.vocabulary.encode(READ)).unsqueeze(1)  # (T, 1)
        model = CharLM.load(trainer.last_path)
    return tg.inspect.trace(model, ids, loss=lambda logits: tg.cross_entropy(logits[-2], ids[-1])), trainer.vocabulary


def text(length: int) -> str:
    """Words in small letters, and in brackets words in capitals."""
    draw = random.Random(0)
    phrases: list[str] = []
    while sum(map(len, phrases)) < length:
        words = " ".join(draw.choices(WORDS.split(), k=draw.randint(1, 7)))
        phrases.append(f"({words.upper()})" if len(phrases) % 2 else words)
    return " ".join(phrases)


def remembering_unit(traced: tg.inspect.Trace) -> int:
    """The unit whose cell state correlates best with "a bracket is open"."""
    is_open = np.array([READ[: step + 1].count("(") > READ[: step + 1].count(")") for step in range(len(READ))])
    c = traced[0].c[:, 0]  # (T, H)
    return int(np.argmax([abs(np.corrcoef(c[:, unit], is_open)[0, 1]) for unit in range(c.shape[1])]))
