"""A language model over characters, or any ids: embedding, recurrent layers, linear."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import ArrayLike

from tinygrad_lstm import ops
from tinygrad_lstm._tensor import Tensor, tensor
from tinygrad_lstm.backends.base import Array
from tinygrad_lstm.creation import randn
from tinygrad_lstm.device import Device, default_device, get_device
from tinygrad_lstm.io.torch.names import from_torch
from tinygrad_lstm.kinds import KINDS
from tinygrad_lstm.mode import no_grad
from tinygrad_lstm.nn import Dropout, Embedding, Linear, Module, Sequential
from tinygrad_lstm.random import drawing

from .atlas import known_cell
from .cells import parts_of, state_of_parts
from .networks import LSTM
from .recurrent import Recurrent
from .streaming import Stream, check_forward

if TYPE_CHECKING:
    from tinygrad_lstm.data.text import Vocabulary
    from tinygrad_lstm.train import TextCheckpoint, TrainingOptions

State = tuple[Tensor, ...]


class CharLM(Module):
    """Predicts the next character from all characters before it.

    Args:
        vocab_size: V, the number of characters.
        embedding_size: the length of a character's vector.
        hidden_size: H, the number of units of a layer.
        num_layers: L, the number of recurrent layers.
        dropout: the probability of dropout, in training, of the inputs and outputs of the recurrent layers, and between
            them.
        forget_bias: the initial bias of the forget gates, for the cell "lstm". Texts are learnt faster from 0 than from
            1, the default of `LSTM`.
        cell: the recurrent cell, a name in `models.atlas.ATLAS`. The layers are `lstm`, an `LSTM`, if it is "lstm";
            otherwise `recurrent`, a `Recurrent`.
        tie: whether `output` has the weights of `embedding`, as in Press and Wolf, "Using the output embedding to
            improve language models" (2017). If H and the length of a character's vector differ, `projection` is between
            the recurrent layers and `output`.

    Raises:
        ValueError: a size is below 1, or the cell is unknown.
    """

    lstm: LSTM
    recurrent: Recurrent
    projection: Linear | None

    def __init__(
        self,
        vocab_size: int,
        embedding_size: int,
        hidden_size: int,
        num_layers: int = 1,
        dropout: float = 0.0,
        forget_bias: float = 0.0,
        cell: str = "lstm",
        tie: bool = False,
    ) -> None:
        super().__init__()
        kind = known_cell("CharLM", cell)
        self.cell = cell
        self.embedding = Embedding(vocab_size, embedding_size)
        self.num_layers = num_layers
        self.state_shapes = kind.state_shapes_of(hidden_size)
        outputs = next(iter(self.state_shapes.values()))[0]
        if cell == "lstm":
            self.lstm = LSTM(embedding_size, hidden_size, num_layers, dropout=dropout, forget_bias=forget_bias)
        else:
            inputs = [embedding_size, *[outputs] * (num_layers - 1)]
            self.recurrent = Recurrent([kind(size, hidden_size) for size in inputs], dropout=dropout)
        self.dropout = Dropout(dropout)
        self.projection = Linear(outputs, embedding_size, bias=False) if tie and outputs != embedding_size else None
        self.output = Linear(embedding_size if tie else outputs, vocab_size)
        if tie:
            with no_grad():
                self.embedding.weight *= embedding_size**-0.5  # as weights of the output, they would be too large
            self.output.weight = self.embedding.weight

    @classmethod
    def from_options(cls, vocab_size: int, options: TrainingOptions) -> Self:
        """A new model with the sizes of a training run's options."""
        return cls(
            vocab_size,
            options.embedding,
            options.hidden,
            options.layers,
            options.dropout,
            options.forget_bias,
            options.cell,
            options.tie,
        )

    @classmethod
    def load(cls, checkpoint: str | Path | TextCheckpoint, device: str | Device | None = None) -> Self:
        """The model of a checkpoint that `tinygrad-lstm train` or a `train.TextTrainer` wrote, in evaluation mode.

        Args:
            checkpoint: the file, or a `train.TextCheckpoint`, whose `vocabulary` has the characters' ids.
            device: the model's device; by default the default device.

        Raises:
            OSError: the file does not exist or cannot be read.
            ValueError: it is not a checkpoint, or of a model with different parameters.

        >>> from tinygrad_lstm.train import TextCheckpoint
        >>> saved = TextCheckpoint.load("runs/char-lm/best.safetensors")  # doctest: +SKIP
        >>> model = CharLM.load(saved)  # doctest: +SKIP
        >>> ids = model.generate(saved.vocabulary.encode("The ").tolist(), length=100)  # doctest: +SKIP
        >>> print(saved.vocabulary.decode(ids))  # doctest: +SKIP
        """
        from tinygrad_lstm.train import TextCheckpoint  # only loading needs the training loop

        saved = checkpoint if isinstance(checkpoint, TextCheckpoint) else TextCheckpoint.load(checkpoint)
        with saved.blamed():
            cls.check_sizes(saved)
            with default_device(get_device(device)):
                model = cls.from_options(len(saved.vocabulary), saved.options)
            model.load_state_dict(saved.weights)
        return model.eval()

    @classmethod
    def from_torch(cls, weights: Mapping[str, ArrayLike]) -> Self:
        """The model of a PyTorch model with the parts `embedding`, `lstm` and `output`; the arrays say sizes and dtype.

        Args:
            weights: arrays by name, as `tg.io.load_weights` returns them, or PyTorch's tensors.

        Raises:
            ValueError: names are missing or extra, or shapes are invalid.

        >>> import numpy as np
        >>> arrays = {"embedding.weight": np.ones((9, 3)), "output.weight": np.ones((9, 5)), "output.bias": np.ones(9)}
        >>> arrays |= {"lstm.weight_ih_l0": np.ones((20, 3)), "lstm.weight_hh_l0": np.ones((20, 5))}
        >>> arrays |= {"lstm.bias_ih_l0": np.ones(20), "lstm.bias_hh_l0": np.ones(20)}
        >>> CharLM.from_torch(arrays).lstm
        LSTM(3, 5)      180 parameters
        """
        lstm = LSTM.from_torch(weights, "lstm")
        converted = from_torch(weights)
        if "embedding.weight" not in converted:
            raise ValueError(f"{cls.__name__}.from_torch: expected embedding.weight, got {', '.join(converted)}")
        model = cls(len(converted["embedding.weight"]), lstm.input_size, lstm.hidden_size, lstm.num_layers)
        model.to(dtype=next(lstm.parameters()).dtype)
        model.load_state_dict(converted)
        return model

    @staticmethod
    def check_sizes(saved: TextCheckpoint) -> None:
        """Compares a checkpoint's options with its arrays, before a model of these sizes is made.

        So a checkpoint from an unknown source cannot ask for more memory than its own size.

        Raises:
            ValueError: their sizes are different.
        """
        options, shapes = saved.options, {name: array.shape for name, array in saved.weights.items()}
        V, E, H = len(saved.vocabulary), options.embedding, options.hidden
        kind = known_cell("the options", options.cell)
        first = "lstm.weight_hh_l{k}" if options.cell == "lstm" else "recurrent.cells.{k}.bias"
        layers = next(k for k in count() if first.format(k=k) not in shapes)
        if layers != options.layers:
            raise ValueError(f"the options have {options.layers} layers, the weights {layers}")
        outputs = next(iter(kind.state_shapes_of(H).values()))[0]
        expected: dict[str, tuple[int, ...]] = {"embedding.weight": (V, E)}
        rows = len(KINDS["LSTM"].gates) * H
        for k in range(layers):
            inputs = outputs if k else E
            if options.cell == "lstm":
                expected |= {f"lstm.weight_hh_l{k}": (rows, H), f"lstm.weight_ih_l{k}": (rows, inputs)}
            else:
                own = kind.parameter_shapes(inputs, H)
                expected |= {f"recurrent.cells.{k}.{name}": shape for name, shape in own.items()}
        if options.tie and outputs != E:
            expected["projection.weight"] = (E, outputs)
        expected |= {"output.weight": (V, E if options.tie else outputs), "output.bias": (V,)}
        for name, shape in expected.items():
            if shapes.get(name) != shape:
                raise ValueError(f"the options give {name} the shape {shape}, the weights have {shapes.get(name)}")

    def take_over(self, saved: TextCheckpoint, vocabulary: Vocabulary) -> None:
        """Takes the weights of a trained model, which may know fewer characters than this one.

        Args:
            saved: the checkpoint of a model with the same sizes.
            vocabulary: this model's. Characters that the trained model does not know keep their initial weights.

        Raises:
            ValueError: a character of the trained model is not in `vocabulary`, or a weight has a different shape.
        """
        rows = vocabulary.encode(saved.vocabulary.characters)
        weights = dict(saved.weights)
        with saved.blamed():
            self.check_sizes(saved)
            for name in ("embedding.weight", "output.weight", "output.bias"):
                own = self.state_dict()[name].copy()
                own[rows] = weights[name]
                weights[name] = own
            self.load_state_dict(weights)

    def forward(self, ids: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Scores of each character as the next one.

        Args:
            ids: integers (T, B).
            state: the state after the text before: a tuple of the cell's states, those of all layers stacked, as in
                (h, c), each (L, B, H). A text fed in chunks, each with the state returned for the chunk before, equals
                the text fed whole.

        Returns:
            logits (T, B, V), and the state after the last step.
        """
        x = self.dropout(self.embedding(ids))  # (T, B, E)
        out, state = self.lstm(x, state) if self.cell == "lstm" else self._through_cells(x, state)  # (T, B, H)
        out = self.dropout(out)
        return self.output(out if self.projection is None else self.projection(out)), state  # (T, B, V)

    def _through_cells(self, x: Tensor, state: State | None) -> tuple[Tensor, State]:
        """What `recurrent` computes, with the states of all layers stacked."""
        layers = None if state is None else [state_of_parts(parts) for parts in zip(*(ops.unbind(s, 0) for s in state))]
        out, after = self.recurrent(x, layers if layers is None or self.num_layers > 1 else layers[0])
        each = [parts_of(layer) for layer in (after if self.num_layers > 1 else [after])]
        return out, tuple(ops.stack(list(parts)) for parts in zip(*each, strict=True))

    def example_inputs(self, T: int, B: int) -> dict[str, Tensor]:
        """Random inputs of `named_forward`, T steps of B texts."""
        with drawing() as rng:
            ids = rng.integers(self.embedding.num_embeddings, size=(T, B))
        weight, L = self.output.weight, self.num_layers
        states = {
            f"{name}0": randn(L, B, *shape, dtype=weight.dtype, device=weight.device)
            for name, shape in self.state_shapes.items()
        }
        return {"ids": tensor(ids, device=weight.device), **states}

    def named_forward(self, ids: Tensor, **states: Tensor) -> dict[str, Tensor]:
        """`forward` with the tensor names of an exported file: ids, h0, c0 to logits, h, c.

        Raises:
            ValueError: the states have different names, or a shape is invalid.
        """
        names = [f"{name}0" for name in self.state_shapes]
        if states and sorted(states) != sorted(names):
            raise ValueError(f"CharLM: expected the states {', '.join(names)}, got {', '.join(states)}")
        logits, state = self(ids, tuple(states[name] for name in names) if states else None)
        return {"logits": logits, **dict(zip(self.state_shapes, state, strict=True))}

    def loss(self, ids: Tensor, targets: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """The mean cross-entropy, in nats a character, of the targets (T, B); and the state after the last step.

        Raises:
            ValueError: the targets and ids have different shapes.
        """
        if targets.shape != ids.shape:
            raise ValueError(f"CharLM.loss: expected targets of the ids' shape {ids.shape}, got {targets.shape}")
        logits, state = self(ids, state)
        return ops.cross_entropy(ops.flatten(logits, 0, 1), ops.flatten(targets)), state

    def stream(self, batch: int = 1, state: Array | Sequence[Array] | None = None) -> Stream:
        """Inference on `batch` texts as they come in: ids (B,) to logits (B, V); see `Stream`.

        The stream's state is that of `lstm` or `recurrent`.

        Raises:
            ValueError: a subclass overrides `forward`; and as `Stream`.
        """
        check_forward(self, CharLM, "stream")
        network = self.lstm if self.cell == "lstm" else self.recurrent
        output = self.output if self.projection is None else Sequential(self.projection, self.output)
        return Stream(network, batch, state, self.embedding, output)

    def sample(
        self,
        prompt: Sequence[int],
        temperature: float = 1.0,
        top_k: int | None = None,
        rng: np.random.Generator | None = None,
        top_p: float | None = None,
    ) -> Iterator[int]:
        """Ids sampled from the model after a prompt, without end, with the weights at the time of the first one.

        Args:
            prompt: ids, at least one.
            temperature: below 1 favours likely ids, above 1 unlikely ones; 0 always takes the most likely.
            top_k: draw only from the k most likely ids; among equally likely ones, the lowest come first.
            rng: draws the ids; by default the library's generator.
            top_p: draw only from the most likely ids whose probabilities sum up to at least this (Holtzman and others,
                "The curious case of neural text degeneration", 2020). The probabilities are those at the temperature.

        Raises:
            ValueError: the prompt is empty, the temperature is negative or not finite, `top_k` is below 1, or `top_p`
                is not above 0 and at most 1; later, if logits are NaN or infinite.
        """
        if not len(prompt):
            raise ValueError("sample: the prompt is empty; give one id at least")
        if not 0 <= temperature < math.inf:
            raise ValueError(f"sample: temperature is {temperature}; expected 0 or more, and finite")
        if top_k is not None and top_k < 1:
            raise ValueError(f"sample: top_k is {top_k}; expected 1 or more")
        if top_p is not None and not 0 < top_p <= 1:
            raise ValueError(f"sample: top_p is {top_p}; expected above 0 and at most 1")
        return self._sample(list(prompt), temperature, top_k, top_p, rng)

    def _sample(
        self,
        prompt: list[int],
        temperature: float,
        top_k: int | None,
        top_p: float | None,
        rng: np.random.Generator | None,
    ) -> Iterator[int]:
        stream, to_host = self.stream(), self.output.weight.device.backend.to_host
        logits = stream([[known] for known in prompt])[-1, 0]
        while True:
            drawn = _draw(np.asarray(to_host(logits), np.float64), temperature, top_k, top_p, rng)
            yield drawn
            logits = stream(drawn)

    def generate(
        self,
        prompt: Sequence[int],
        length: int,
        temperature: float = 1.0,
        top_k: int | None = None,
        rng: np.random.Generator | None = None,
        top_p: float | None = None,
    ) -> list[int]:
        """The first `length` ids of `sample`."""
        ids = self.sample(prompt, temperature, top_k, rng, top_p)
        return [next(ids) for _ in range(length)]


def _draw(
    logits: np.ndarray,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    rng: np.random.Generator | None,
) -> int:
    """An index drawn with the probabilities softmax(logits / temperature)."""
    if not math.isfinite(highest := logits.max()):
        raise ValueError(f"sample: the highest of the model's logits is {highest}; are its weights finite?")
    if temperature == 0:
        return int(logits.argmax())
    likeliest = np.argsort(-logits, kind="stable")[:top_k]
    with np.errstate(over="ignore"):  # at a low temperature all except the first may become -inf
        weights = np.exp((logits[likeliest] - logits[likeliest[0]]) / temperature)
    if top_p is not None:
        sums = np.cumsum(weights)
        kept = 1 + int(np.searchsorted(sums, top_p * sums[-1]))
        likeliest, weights = likeliest[:kept], weights[:kept]
    with drawing() if rng is None else nullcontext(rng) as source:
        return int(source.choice(likeliest, p=weights / weights.sum()))
