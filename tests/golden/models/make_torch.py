"""Makes the models torch_* of this folder, with PyTorch 2.13: `python make_torch.py`.

Each is a TorchScript archive, an exported program or a pickle of a whole model, with its inputs and outputs beside it.
"""

import json
import zipfile
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


class Packer(nn.Module):
    """Sequences of different lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(3, 4, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        out, h = self.rnn(packed)
        padded, _ = nn.utils.rnn.pad_packed_sequence(out, batch_first=True)
        return padded, h


class Cells(nn.Module):
    """Cells, called in a loop over a constant number of steps; an op in place; a buffer; a number as a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTMCell(3, 4)
        self.gru = nn.GRUCell(4, 3)
        self.register_buffer("mean", torch.randn(3))
        self.weight = nn.Parameter(torch.randn(3))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros(x.shape[0], 4)
        c = torch.zeros(x.shape[0], 4)
        g = torch.zeros(x.shape[0], 3)
        x = (x - self.mean) / 2.0
        out = []
        for t in range(5):
            h, c = self.lstm(x[:, t], (h, c))
            g = self.gru(h, g)
            out.append(g * self.weight)
        y = torch.stack(out, dim=1)
        y += 1.0
        return y


def written(name: str, model: nn.Module, inputs: dict[str, Tensor], outputs: list[str], how: str) -> None:
    """Saves a model, scripted, traced, exported or pickled, and what it computes."""
    model.eval()
    path = str(FOLDER / f"torch_{how}_{name}.{'pt2' if how == 'export' else 'pt'}")
    with torch.no_grad():
        result: Any = model(*inputs.values())
        match how:
            case "script":
                torch.jit.script(model).save(path)
            case "trace":
                torch.jit.trace(model, tuple(inputs.values())).save(path)
            case "export":
                batch = torch.export.Dim("batch")
                shapes = tuple({1 if key in ("h0", "c0") else 0: batch} for key in inputs)
                program = torch.export.export(model, tuple(inputs.values()), dynamic_shapes=shapes)
                torch.export.save(program, path)
            case "pickle":
                torch.save(model, path)
    without_sources(path)
    results: list[Tensor] = []

    def flatten(value: Any) -> None:
        if isinstance(value, Tensor):
            results.append(value)
        else:
            for each in value:
                flatten(each)

    flatten(result)
    arrays = {f"in.{key}": np.ascontiguousarray(each.numpy()) for key, each in inputs.items()}
    arrays |= {f"out.{key}": np.ascontiguousarray(each.numpy()) for key, each in zip(outputs, results, strict=True)}
    path = str(FOLDER / f"torch_{how}_{name}.expected.safetensors")
    save_file(arrays, path, {"made by": f"PyTorch {torch.__version__}, {how}"})
    Path(path).chmod(0o644)


def without_sources(path: str) -> None:
    """Leaves out of an archive where its lines of code were: paths of the machine that wrote it."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist() if not name.endswith(".debug_pkl")}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            if name.endswith("/models/model.json"):
                program = json.loads(content)
                for node in program["graph_module"]["graph"]["nodes"]:
                    node["metadata"].pop("stack_trace", None)
                content = json.dumps(program).encode()
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)


def main() -> None:
    torch.manual_seed(0)
    tagger, vad, layers, packer, cells = Tagger(), Vad(), sequential(), Packer(), Cells()
    nn.init.normal_(vad.features[1].running_mean)
    ids = {"ids": torch.randint(0, 11, (2, 7))}
    audio = {"audio": torch.randn(2, 32), "h0": torch.randn(1, 2, 6), "c0": torch.randn(1, 2, 6)}
    lengths = {"x": torch.randn(3, 5, 3), "lengths": torch.tensor([3, 5, 1])}
    steps = {"x": torch.randn(2, 5, 3)}
    for how in ("script", "trace", "export"):
        written("tagger", tagger, ids, ["output"], how)
        unnamed = ["output", "output_1", "output_2"]
        written("vad", vad, audio, ["probability", "hn", "cn"] if how == "script" else unnamed, how)
        if how != "export":
            written("packer", packer, lengths, ["padded", "h"] if how == "script" else unnamed[:2], how)
            written("cells", cells, steps, ["output"], how)
    written("sequential", layers, {"input": torch.randn(5, 3, 8)}, ["output", "output_1"], "script")
    written("sequential", layers, {"input": torch.randn(5, 3, 8)}, ["output", "output_1"], "pickle")
    torch.save({"epoch": 3, "model": nn.DataParallel(tagger)}, FOLDER / "torch_pickle_tagger.pt")
    without_sources(str(FOLDER / "torch_pickle_tagger.pt"))


if __name__ == "__main__":
    main()
