"""Write model files with PyTorch 2.13, and beside each what its model computes.

    pip install torch==2.13.0 numpy safetensors        # in an environment of its own: the project does not need torch
    python tests/golden/files/make_torch_files.py      # rewrites the files of the table, and NAME.expected.safetensors

| file | holds |
| --- | --- |
| lstm.pt | a checkpoint: the state_dict of a module with an LSTM, `lstm`, of two layers in both directions, under "model", its optimizer under "optimizer", and plain values |
| lstm_legacy.pt | the state_dict of such a module, in the format of before PyTorch 1.6 |
| lstm_script.pt | such a module as a TorchScript archive |
| lstm_proj.pt | the state_dict of an LSTM with proj_size |
| gru.pt, rnn.pt | the state_dict of a GRU of two layers; of an RNN of relu |
| bfloat16.pt, float16.safetensors | the state_dict of an LSTM in these types |
| layer_norm.pt | the state_dict of an LSTM whose cell normalises, "layers.0.cell." before its names; equations in its class |
| char_rnn.pt | the state_dict of a character model: embedding, LSTM, linear |
| types.pt, types_legacy.pt | tensors of all types and layouts, and values of other kinds, in both formats |

Expected values: `file.<name>`, the arrays of the file by dotted names, bfloat16 as float32, and what the model computes in
float32 (of 16 bits, widened). `x` (T, B, I); `out` (T, B, D*P), `h` and `c` (L*D, B, .) from a state of zeros; with the
loss sum(out ** 2) / 2, `grad.x`, and `grad.<name>` for each parameter by its name in the recurrent layer. Of char_rnn:
`ids` (T, B), `logits` (T, B, 27), `h`, `c`, and, with the loss sum(logits ** 2) / 2, `grad.<name>` by the names in the
file.

The files of the old format and of TorchScript differ from run to run: PyTorch writes memory addresses into them.
"""  # noqa: E501 (a table's row is one line)

import io
import zipfile
import zlib
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

FOLDER = Path(__file__).parent
TIME, BATCH, INPUT, HIDDEN = 5, 2, 3, 4
CHARACTERS, EMBEDDED, CHAR_HIDDEN = 27, 8, 16

Arrays = Mapping[str, Tensor]


class WithLstm(nn.Module):
    """A module that has an LSTM within it."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(INPUT, HIDDEN, num_layers=2, bidirectional=True)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        out, state = self.lstm(x)
        return out, state


class LayerNormCell(nn.Module):
    """gates = LN_i(W x) + LN_h(U h); c' = LN_c(f c + i g); h' = o tanh(c'); rows of the gates i, f, g, o."""

    def __init__(self) -> None:
        super().__init__()
        self.weight_ih = nn.Parameter(torch.randn(4 * HIDDEN, INPUT))
        self.weight_hh = nn.Parameter(torch.randn(4 * HIDDEN, HIDDEN))
        self.layernorm_i = nn.LayerNorm(4 * HIDDEN)
        self.layernorm_h = nn.LayerNorm(4 * HIDDEN)
        self.layernorm_c = nn.LayerNorm(HIDDEN)
        for norm in (self.layernorm_i, self.layernorm_h, self.layernorm_c):
            nn.init.normal_(norm.weight, 1.0, 0.2)
            nn.init.normal_(norm.bias, 0.0, 0.5)

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        gates = self.layernorm_i(x @ self.weight_ih.T) + self.layernorm_h(h @ self.weight_hh.T)
        i, f, g, o = gates.chunk(4, 1)
        c = self.layernorm_c(f.sigmoid() * c + i.sigmoid() * g.tanh())
        return o.sigmoid() * c.tanh(), c


class LayerNormLayer(nn.Module):
    """All steps of one cell."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = LayerNormCell()

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        h = c = x.new_zeros(x.shape[1], HIDDEN)
        outputs = []
        for x_t in x:
            h, c = self.cell(x_t, h, c)
            outputs.append(h)
        return torch.stack(outputs), (h[None], c[None])


class CharRnn(nn.Module):
    """A model of characters."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(CHARACTERS, EMBEDDED)
        self.lstm = nn.LSTM(EMBEDDED, CHAR_HIDDEN)
        self.output = nn.Linear(CHAR_HIDDEN, CHARACTERS)

    def forward(self, ids: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        out, state = self.lstm(self.embedding(ids))
        return self.output(out), state


def seed(name: str) -> None:
    """Start the random numbers of one file."""
    torch.manual_seed(zlib.crc32(name.encode()))


def write_expected(name: str, saved: Arrays, model: nn.Module, layer: nn.Module) -> None:
    """What a file holds, what its recurrent model computes, and gradients; of `layer` those of its parameters."""
    x = torch.randn(TIME, BATCH, INPUT, requires_grad=True)
    out, state = model(x)
    h, c = state if isinstance(state, tuple) else (state, None)
    parameters = dict(layer.named_parameters())
    gradients = torch.autograd.grad((out**2).sum() / 2, [x, *parameters.values()])
    arrays = {"x": x, "out": out, "h": h, **({} if c is None else {"c": c})}
    arrays |= {f"grad.{key}": gradient for key, gradient in zip(["x", *parameters], gradients, strict=True)}
    write(f"{name}.expected", arrays | with_prefix("file.", saved))


def with_prefix(prefix: str, arrays: Arrays) -> dict[str, Tensor]:
    return {prefix + name: array for name, array in arrays.items()}


def write(name: str, arrays: Arrays) -> None:
    separate = {key: array.detach().clone().contiguous() for key, array in arrays.items()}
    save_file(separate, FOLDER / f"{name}.safetensors")


def make_checkpoint() -> None:
    seed("lstm")
    model = WithLstm()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    loss = model(torch.randn(TIME, BATCH, INPUT))[0].square().mean()
    loss.backward()
    optimizer.step()
    contents = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "epoch": 3,
        "loss": np.float64(loss.item()),
        "device": torch.device("cpu"),
    }
    torch.save(contents, FOLDER / "lstm.pt")
    saved = with_prefix("model.", model.state_dict())
    for number, state in optimizer.state_dict()["state"].items():
        saved |= with_prefix(f"optimizer.state.{number}.", state)
    write_expected("lstm", saved, model, model.lstm)


def make_legacy() -> None:
    seed("lstm_legacy")
    model = WithLstm()
    torch.save(model.state_dict(), FOLDER / "lstm_legacy.pt", _use_new_zipfile_serialization=False)
    write_expected("lstm_legacy", model.state_dict(), model, model.lstm)


def make_script() -> None:
    seed("lstm_script")
    model = WithLstm()
    saved = io.BytesIO()
    torch.jit.save(torch.jit.script(model), saved)
    # Without the records for debugging, which have the paths of the machine that this runs on.
    with zipfile.ZipFile(saved) as archive, zipfile.ZipFile(FOLDER / "lstm_script.pt", "w") as kept:
        for info in archive.infolist():
            if not info.filename.endswith(".debug_pkl"):
                kept.writestr(zipfile.ZipInfo(info.filename), archive.read(info), info.compress_type)
    torch.jit.load(FOLDER / "lstm_script.pt")
    write_expected("lstm_script", model.state_dict(), model, model.lstm)


def make_state_dict(name: str, layer: nn.Module) -> None:
    torch.save(layer.state_dict(), FOLDER / f"{name}.pt")
    write_expected(name, layer.state_dict(), layer, layer)


def make_narrow() -> None:
    for name, dtype in (("bfloat16", torch.bfloat16), ("float16", torch.float16)):
        seed(name)
        layer = nn.LSTM(INPUT, HIDDEN).to(dtype)
        saved = {key: array.clone() for key, array in layer.state_dict().items()}
        if dtype == torch.bfloat16:
            torch.save(saved, FOLDER / f"{name}.pt")
            saved = {key: array.float() for key, array in saved.items()}
        else:
            write(name, saved)
        layer.float()
        write_expected(name, saved, layer, layer)


def make_layer_norm() -> None:
    seed("layer_norm")
    model = nn.Module()
    model.layers = nn.ModuleList([LayerNormLayer()])
    torch.save(model.state_dict(), FOLDER / "layer_norm.pt")
    write_expected("layer_norm", model.state_dict(), model.layers[0], model.layers[0].cell)


def make_char_rnn() -> None:
    seed("char_rnn")
    model = CharRnn()
    torch.save(model.state_dict(), FOLDER / "char_rnn.pt")
    ids = torch.randint(CHARACTERS, (TIME, BATCH))
    logits, (h, c) = model(ids)
    parameters = dict(model.named_parameters())
    gradients = torch.autograd.grad((logits**2).sum() / 2, list(parameters.values()))
    named = {f"grad.{name}": gradient for name, gradient in zip(parameters, gradients, strict=True)}
    computed = {"ids": ids, "logits": logits, "h": h, "c": c, **named}
    write("char_rnn.expected", computed | with_prefix("file.", model.state_dict()))


def make_types() -> None:
    seed("types")
    base = torch.randn(4, 6)
    weight = nn.Parameter(torch.randn(2, 3))
    noted = nn.Parameter(torch.randn(2))
    noted.note = "an attribute"
    types = ("float16", "float32", "float64", "complex64", "bool", "int8", "int16", "int32", "int64")
    unsigned = ("uint8", "uint16", "uint32", "uint64")
    tensors = {
        "types": {name: torch.arange(6).reshape(2, 3).to(getattr(torch, name)) for name in (*types, *unsigned)},
        "bfloat16": torch.randn(5).bfloat16(),
        "layouts": [base, base.T, base[1:3, ::2], base[0], base[0, 0], base.as_strided((3, 3), (2, 1))],
        "empty": (torch.zeros(0), torch.zeros(2, 0, 3), base[4:]),
        "tied": {"encoder": weight, "decoder": weight},
        "noted": noted,
        "buffer": nn.Buffer(torch.randn(2)),
        7: torch.tensor(1.5),
    }
    arrays = {
        "numpy": np.arange(6.0).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6, dtype=np.int32).reshape(2, 3)),
        "big_endian": np.arange(3, dtype=">i2"),
    }
    plain = {
        "values": [None, True, 1, -(2**40), 2**100, 1.5, 1j, "text", b"bytes", bytearray(b"bytes"), {1, 2}, (), [], {}],
        "frozen": frozenset({1}),
        "numpy": [np.float64(0.5), np.int64(3), np.bool_(True)],
        "torch": [torch.Size([1, 2]), torch.device("cpu"), torch.float32, torch.UntypedStorage(3)],
        "collections": [OrderedDict(a=1), defaultdict(list, a=[1]), Counter("aab")],
        ("not", "a", "text"): 1,
    }
    contents = {**tensors, **arrays, "plain": plain}
    torch.save(contents, FOLDER / "types.pt")
    torch.save(contents, FOLDER / "types_legacy.pt", _use_new_zipfile_serialization=False)

    native = {name: array.astype(array.dtype.newbyteorder("=")) for name, array in arrays.items()}
    saved = {**tensors, **{name: torch.from_numpy(array) for name, array in native.items()}}
    for name in ("types", "types_legacy"):
        write(f"{name}.expected", with_prefix("file.", dict(flattened(saved))))


def flattened(value: object, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """The tensors within dictionaries, lists and tuples, by dotted names; bfloat16 as float32."""
    if isinstance(value, Tensor):
        yield prefix, value.float() if value.dtype == torch.bfloat16 else value
    elif isinstance(value, dict | list | tuple):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, part in items:
            yield from flattened(part, f"{prefix}.{key}" if prefix else str(key))


def main() -> None:
    make_checkpoint()
    make_legacy()
    make_script()
    for name, layer_class, options in (
        ("lstm_proj", nn.LSTM, {"proj_size": 2}),
        ("gru", nn.GRU, {"num_layers": 2}),
        ("rnn", nn.RNN, {"nonlinearity": "relu"}),
    ):
        seed(name)
        make_state_dict(name, layer_class(INPUT, HIDDEN, **options))
    make_narrow()
    make_layer_norm()
    make_char_rnn()
    make_types()


if __name__ == "__main__":
    main()
