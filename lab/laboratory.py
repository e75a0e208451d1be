"""The laboratory's run: what the page in the browser asks for, computed by the library.

It runs in the browser, in a Web Worker (`web/worker.js`), and as well in any other Python. Results are JSON or bytes,
which JavaScript can read.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

import tinygrad_lstm as tg
from tinygrad_lstm import inspect, train
from tinygrad_lstm.data import Vocabulary, characters_needed, split_text
from tinygrad_lstm.io.atomic import write_atomically
from tinygrad_lstm.metrics import read_metrics
from tinygrad_lstm.models import CharLM
from tinygrad_lstm.train.folder import RunFolder

__all__ = ["SIZES", "Laboratory"]

SIZES: dict[str, dict[str, Any]] = {
    "small": {"embedding": 32, "hidden": 64, "seq_len": 32, "batch": 16, "lr": 2e-2, "warmup": 20},
    "medium": {"embedding": 48, "hidden": 128, "seq_len": 48, "batch": 16, "lr": 1e-2, "warmup": 30},
    "large": {"embedding": 64, "hidden": 256, "seq_len": 64, "batch": 32, "lr": 5e-3, "warmup": 50},
}
LOG_EVERY, VALIDATE_EVERY = 5, 50
SHOWN = 400
"""The number of characters that the page of the gates shows, if it is given no text."""


class Laboratory:
    """One run, in a folder that the browser keeps.

    Args:
        folder: the run's folder.
    """

    def __init__(self, folder: str | Path) -> None:
        self.run = RunFolder(folder)
        self._trainer: train.TextTrainer[CharLM] | None = None

    def status(self) -> str:
        """What is known of the run, as JSON: null if there is none.

        Raises:
            OSError, ValueError: the folder's files are damaged.
        """
        if not self.run.last.exists():
            return json.dumps(None)
        saved = train.TextCheckpoint.load(self.run.last)
        parameters = sum(array.size for array in saved.weights.values())
        about = _about(saved.step, saved.options, saved.vocabulary, parameters)
        return json.dumps({**about, "text": self._text(), "reports": read_metrics(self.run.metrics)})

    def start(
        self,
        text: str,
        size: str,
        cell: str,
        steps: int,
        seed: int,
        lr: float | None = None,
        continued: bool = False,
    ) -> str:
        """Starts a new run, which replaces the earlier one; see `status`.

        Args:
            text: the text; for a short one the batch is smaller.
            size: a key of `SIZES`.
            cell: the cell, such as "lstm".
            steps: how many.
            seed: of all random numbers.
            lr: the highest learning rate; by default that of the size.
            continued: whether to start from the weights of the earlier run, which then give the size and the cell.

        Raises:
            ValueError: the text is too short, or an option is invalid.
        """
        wanted = {**SIZES[size], "cell": cell, "steps": steps, "seed": seed}
        wanted |= {"log_every": LOG_EVERY, "validate_every": VALIDATE_EVERY}
        wanted |= {} if lr is None else {"lr": lr}
        while wanted["batch"] > 1 and characters_needed(wanted["batch"], wanted["seq_len"]) > len(text):
            wanted["batch"] //= 2
        earlier = train.TextCheckpoint.load(self.run.last) if continued else None
        if earlier is None:
            options, vocabulary = train.TrainingOptions(**wanted), Vocabulary(text)
        else:
            sizes = {name: getattr(earlier.options, name) for name in ("cell", "embedding", "hidden")}
            options = earlier.options.started_anew({**wanted, **sizes})
            vocabulary = Vocabulary(earlier.vocabulary.characters + text)

        def make_model(characters: int, options: train.TrainingOptions) -> CharLM:
            model = CharLM.from_options(characters, options)
            if earlier is not None:
                model.take_over(earlier, vocabulary)
            return model

        self._trainer = train.TextTrainer.start(make_model, text, options, self.run.path, vocabulary=vocabulary)
        return self.advance(steps=False)

    def resume(self, more: int, text: str) -> str:
        """Continues the run; if it has done all its steps, for `more` steps.

        Args:
            more: the number of steps.
            text: the run's text, needed only for a run that was loaded from a file.

        Raises:
            ValueError: the text is a different one.
        """
        saved = train.TextCheckpoint.load(self.run.last)
        text = self._text() or text
        planned = saved.options.steps or 0
        steps = planned if saved.step < planned else saved.step + more
        self._trainer = train.TextTrainer.resume(CharLM.from_options, text, saved, self.run.path, steps=steps)
        return self.advance(steps=False)

    def advance(self, steps: bool = True) -> str:
        """Trains up to the next report, and saves. Returns what is known of the run as JSON, with the new reports.

        Args:
            steps: whether to train; if not, the run is only saved.

        Raises:
            FloatingPointError: the loss is not finite.
        """
        trainer, made = self._training(), list[train.Progress]()

        def report(progress: train.Progress) -> None:
            made.append(progress)
            trainer.stop()

        if not steps:
            trainer.stop()
        summary = trainer.run(report)
        parameters = sum(parameter.size for parameter in trainer.model.parameters())
        about = _about(trainer.step, trainer.options, trainer.vocabulary, parameters)
        reports = [progress.values() for progress in made]
        return json.dumps({**about, "finished": summary.finished, "reports": reports})

    def _training(self) -> train.TextTrainer[CharLM]:
        if self._trainer is None:
            raise RuntimeError("nothing is trained: call start or resume first")
        return self._trainer

    def _text(self) -> str:
        """The run's text; empty if the run was loaded from a file."""
        return self.run.text.read_bytes().decode("utf-8", "surrogatepass") if self.run.text.exists() else ""

    def _model(self) -> tuple[CharLM, Vocabulary, int, int]:
        """The present model, its vocabulary, its seed, and the number of steps that it was trained for."""
        if (trainer := self._trainer) is not None:
            return trainer.model, trainer.vocabulary, trainer.options.seed, trainer.step
        saved = train.TextCheckpoint.load(self.run.last)
        return CharLM.load(saved), saved.vocabulary, saved.options.seed, saved.step

    def sample(self, prompt: str, length: int, temperature: float) -> str:
        """The characters of the prompt that the model knows, and the text that it writes after them, as JSON.

        Raises:
            ValueError: the temperature is negative.
        """
        model, vocabulary, seed, step = self._model()
        prompt = vocabulary.known(prompt) or vocabulary.characters[0]
        rng = np.random.default_rng(seed)
        with model.evaluating():
            ids = model.generate(vocabulary.encode(prompt).tolist(), length, temperature, rng=rng)
        return json.dumps({"step": step, "prompt": prompt, "text": vocabulary.decode(ids)})

    def page(self, text: str) -> bytes:
        """The page of every gate, state and gradient while the model reads a text.

        Args:
            text: characters that the model does not know are left out. If it is empty, a part of the run's text that
                it was not trained on.

        Raises:
            ValueError: fewer than two characters are known.
        """
        model, vocabulary, _, step = self._model()
        known = vocabulary.known(text or split_text(self._text())[1][:SHOWN])
        if len(known) < 2:
            raise ValueError(f"expected at least two characters that the model knows, got {len(known)}")
        ids = tg.tensor(vocabulary.encode(known)).unsqueeze(1)  # (T, 1)
        with model.evaluating():
            traced = inspect.trace(model, ids, loss=lambda logits: tg.cross_entropy(logits[-2], ids[-1]))
        path = inspect.page(
            traced,
            self.run.page,
            vocabulary=vocabulary.characters,
            title=f"Inside the model after {step} steps",
            loss_is="the loss of the last character",
        )
        return path.read_bytes()

    def weights(self, names: str) -> bytes:
        """The bytes of a safetensors file.

        Args:
            names: "checkpoint" for the run's checkpoint, which the command line reads as well, or "pytorch" for the
                weights under PyTorch's names.
        """
        if names == "checkpoint":
            return self.run.last.read_bytes()
        path = self.run.path / "pytorch.safetensors"
        tg.io.export_torch(self._model()[0], path)
        content = path.read_bytes()
        path.unlink()
        return content

    def load(self, content: bytes) -> str:
        """Replaces the run by a checkpoint; see `status`.

        Raises:
            ValueError: it is not a checkpoint; the run is unchanged.
        """
        self.run.make()
        path = self.run.path / "loaded.safetensors"
        try:
            write_atomically(path, content)
            try:
                CharLM.load(path)
            except ValueError as error:
                raise ValueError(str(error).removeprefix(f"{path}: ")) from error
            self.remove()
            path.replace(self.run.last)
        finally:
            path.unlink(missing_ok=True)
        return self.status()

    def remove(self) -> None:
        """Removes the run's files."""
        self._trainer = None
        for path in (self.run.last, self.run.best, self.run.metrics, self.run.text, self.run.page):
            path.unlink(missing_ok=True)


def _about(step: int, options: train.TrainingOptions, vocabulary: Vocabulary, parameters: int) -> dict[str, Any]:
    """What the page says about a run."""
    of_options = {name: getattr(options, name) for name in ("steps", "seed", "cell", "hidden")}
    return {"step": step, **of_options, "characters": len(vocabulary), "parameters": parameters}
