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


class Spectra(nn.Module):
    """Transforms of waves, and what is done with complex numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(16))
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, audio: Tensor) -> dict[str, Tensor]:
        audio = audio * self.gain
        spectrum = torch.stft(audio, 16, 4, window=self.window, return_complex=True)
        half = torch.fft.rfft(audio, dim=1, norm="ortho")
        return {
            "magnitude": spectrum.abs(),
            "phase": torch.view_as_real(spectrum * spectrum.conj() / (1 + spectrum)),
            "again": torch.istft(spectrum, 16, 4, window=self.window, length=60),
            "filtered": torch.fft.irfft(half[:, :9] * 2, n=32, dim=1),
            "mixed": torch.fft.fft2(audio.view(2, 8, 8)).real,
            "unmixed": torch.fft.ifft(torch.fft.fft(audio, n=40)).real,
            "windows": torch.hamming_window(9, periodic=False) + torch.blackman_window(9),
        }


class Resized(nn.Module):
    """Interpolation, and elements that move between channels and places."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = x * self.gain
        up = nn.functional.interpolate
        return {
            "linear": up(x[:, 0], scale_factor=1.6, mode="linear"),
            "bilinear": up(x, size=[5, 9], mode="bilinear", align_corners=True),
            "bicubic": up(x, scale_factor=[2.0, 1.5], mode="bicubic"),
            "smooth": up(x, size=[2, 3], mode="bilinear", antialias=True),
            "exact": up(x, size=[3, 7], mode="nearest-exact"),
            "area": up(x, size=[3, 2], mode="area"),
            "trilinear": up(x.unsqueeze(1), scale_factor=2.0, mode="trilinear"),
            "shuffled": nn.functional.pixel_shuffle(x, 2),
            "unfolded": nn.functional.unfold(x, [3, 2], padding=1),
            "sampled": nn.functional.grid_sample(x, torch.tanh(x[:, :2].permute(0, 2, 3, 1)), align_corners=False),
        }


class Writer(nn.Module):
    """Parts of tensors that are written in place, and sums by index."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor, ids: Tensor) -> dict[str, Tensor]:
        x = x * self.gain
        y = torch.zeros(2, 5, 3)
        y[:, 1:] = x
        y[:, 0] += 1.0
        z = x.clone()
        z[:, 2].mul_(2).add_(1)
        z.transpose(1, 2)[:, 0] = 0.5
        masked = x.clone()
        masked[masked > 0] = 3.0
        return {
            "y": y * 1,
            "z": z * 1,
            "masked": masked * 1,
            "put": x.index_put((ids, ids), torch.ones(2, 3), accumulate=True),
            "largest": torch.zeros(2, 4, 3).scatter_reduce(1, ids.view(1, 2, 1).expand(2, 2, 3), x, "amax"),
            "product": x.scatter_reduce(1, ids.view(1, 2, 1).expand(2, 2, 3), x, "prod", include_self=False),
            "filled": x.index_fill(1, ids, 5.0),
            "parts": torch.tensor_split(x, 3, 1)[0],
            "median": x.median(1)[1],
            "product_so_far": x.cumprod(1),
            "second": x.kthvalue(2, dim=1)[0],
            "variance": torch.var_mean(x, dim=1)[0],
            "steps": x[..., :1] * torch.linspace(0, 1, 5),
            "crossed": torch.cross(x, x + 1, dim=2),
            "diagonal": torch.diag_embed(x, 1),
            "distances": torch.cdist(x, -x),
        }


class Bags(nn.Module):
    """Bags of words: of equal lengths, and with the places where they begin."""

    def __init__(self) -> None:
        super().__init__()
        self.means = nn.EmbeddingBag(11, 4)
        self.largest = nn.EmbeddingBag(11, 4, mode="max", padding_idx=2)

    def forward(self, ids: Tensor, starts: Tensor) -> dict[str, Tensor]:
        return {"means": self.means(ids), "largest": self.largest(ids.view(-1), starts)}


def volumes() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(2, 4, (3, 2, 3), stride=(1, 2, 1), padding=1, groups=2),
        nn.BatchNorm3d(4),
        nn.Hardswish(),
        nn.MaxPool3d(2, stride=1),
        nn.ConvTranspose3d(4, 3, 3, stride=2, padding=1),
        nn.AvgPool3d(2, padding=1),
        nn.AdaptiveAvgPool3d((2, 3, 2)),
    )


def pictures() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        nn.InstanceNorm2d(4, affine=True),
        nn.LocalResponseNorm(3),
        nn.ConvTranspose2d(4, 8, 3, stride=2, output_padding=1),
        nn.PixelShuffle(2),
        nn.Upsample(scale_factor=0.5, mode="bilinear"),
        nn.Unfold(2, stride=2),
        nn.Tanhshrink(),
    )


def norms() -> nn.Sequential:
    """Layers whose calls say little of their settings when they are traced."""
    return nn.Sequential(nn.SyncBatchNorm(4), nn.GroupNorm(2, 4, affine=False), nn.BatchNorm2d(4, momentum=None))


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
            for each in value.values() if isinstance(value, dict) else value:
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
    torch.manual_seed(1)
    audio, picture = {"audio": torch.randn(2, 64)}, {"x": torch.randn(2, 4, 4, 6)}
    places = {"x": torch.randn(2, 4, 3), "ids": torch.tensor([1, 0])}
    bags = {"ids": torch.randint(0, 11, (2, 5)), "starts": torch.tensor([0, 3, 3, 7])}
    for name, model, inputs in (
        ("spectra", Spectra(), audio),
        ("resized", Resized(), picture),
        ("writer", Writer(), places),
        ("bags", Bags(), bags),
    ):
        written(name, model, inputs, list(model(*inputs.values())), "script")
    for name, model, inputs in (
        ("volumes", volumes(), torch.randn(2, 2, 5, 6, 7)),
        ("pictures", pictures(), picture["x"]),
    ):
        nn.init.normal_(model[1].weight)
        for how in ("script", "pickle"):
            written(name, model, {"input": inputs}, ["output"], how)
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2, nn.LayerNorm(8))
    for how in ("script", "trace"):
        written("encoder", encoder, {"src": torch.randn(2, 5, 8)}, ["output"], how)
    torch.manual_seed(2)
    written("norms", norms(), {"input": torch.randn(2, 4, 3, 2)}, ["output"], "trace")
    torch.save({"epoch": 3, "model": nn.DataParallel(tagger)}, FOLDER / "torch_pickle_tagger.pt")
    without_sources(str(FOLDER / "torch_pickle_tagger.pt"))


if __name__ == "__main__":
    main()
