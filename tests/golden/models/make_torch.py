"""Makes the models torch_* of this folder, with PyTorch 2.13: `python make_torch.py`.

Each is a TorchScript archive, with its inputs and outputs beside it.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import Tensor, nn

FOLDER = Path(__file__).parent


class Tagger(nn.Module):
    """Words to tags: an embedding, a bidirectional LSTM of two layers, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(11, 4, padding_idx=0)
        self.lstm = nn.LSTM(4, 5, num_layers=2, batch_first=True, bidirectional=True, dropout=0.2)
        self.head = nn.Linear(10, 3)

    def forward(self, ids: Tensor) -> Tensor:
        out, _ = self.lstm(self.words(ids))
        return torch.log_softmax(self.head(torch.relu(out)), dim=-1)


class Vad(nn.Module):
    """A frame of audio and a state: convolutions, an LSTM whose states go in and come out, a probability."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv1d(1, 4, 5, stride=2, padding=2), nn.BatchNorm1d(4), nn.LeakyReLU(0.2), nn.MaxPool1d(2)
        )
        self.rnn = nn.LSTM(4, 6, batch_first=True)
        self.head = nn.Sequential(nn.Dropout(0.1), nn.Linear(6, 1))

    def forward(self, audio: Tensor, h0: Tensor, c0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.features(audio.unsqueeze(1)).transpose(1, 2)
        out, (hn, cn) = self.rnn(x, (h0, c0))
        probability = torch.sigmoid(self.head(out)).squeeze(-1)
        return probability, hn, cn


def sequential() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(3, 4, 3, padding="same"),
        nn.GroupNorm(2, 4),
        nn.GELU(),
        nn.AvgPool1d(2),
        nn.Flatten(),
        nn.Linear(16, 6),
        nn.LayerNorm(6),
        nn.Tanh(),
        nn.GRU(6, 4, num_layers=2, bidirectional=True),
    )


def written(name: str, model: nn.Module, inputs: dict[str, Tensor], outputs: list[str], *, script: bool) -> None:
    """Saves an archive, and what the model computes."""
    for buffer_name, buffer in model.named_buffers():
        if buffer_name.endswith("running_mean"):
            nn.init.normal_(buffer)
    model.eval()
    with torch.no_grad():
        result: Any = model(*inputs.values())
        archive = torch.jit.script(model) if script else torch.jit.trace(model, tuple(inputs.values()))
    archive.save(str(FOLDER / f"{name}.pt"))
    results = [result] if isinstance(result, Tensor) else list(result)
    arrays = {f"in.{key}": np.ascontiguousarray(each.numpy()) for key, each in inputs.items()}
    arrays |= {f"out.{key}": np.ascontiguousarray(each.numpy()) for key, each in zip(outputs, results, strict=True)}
    how = "script" if script else "trace"
    save_file(arrays, FOLDER / f"{name}.expected.safetensors", {"framework": f"PyTorch {torch.__version__}, {how}"})


def main() -> None:
    torch.manual_seed(0)
    ids = {"ids": torch.randint(0, 11, (2, 7))}
    audio = {"audio": torch.randn(2, 32), "h0": torch.randn(1, 2, 6), "c0": torch.randn(1, 2, 6)}
    for how, script in (("script", True), ("trace", False)):
        written(f"torch_{how}_tagger", Tagger(), ids, ["output"], script=script)
        names = ["probability", "hn", "cn"] if script else ["output", "output_1", "output_2"]
        written(f"torch_{how}_vad", Vad(), audio, names, script=script)
        x = {"input": torch.randn(5, 3, 8)}
        written(f"torch_{how}_sequential", sequential(), x, ["output", "output_1"], script=script)


if __name__ == "__main__":
    main()
