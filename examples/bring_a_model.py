"""A model of PyTorch, without PyTorch: listed, read, checked, streamed, adapted to a text, and exported.

    pip install onnx onnxruntime            # for the export, and to run it
    python examples/bring_a_model.py        # a small file of this repository, whose weights are random
    python examples/bring_a_model.py FILE   # a state_dict of your character model with the same names and characters

It takes a few seconds, and writes bring_a_model.png, adapters.safetensors and adapted.onnx.
"""

import re
import sys
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import tinygrad_lstm as tg
from tinygrad_lstm.data import TextBatches, manual_text
from tinygrad_lstm.models import CharLM

CHARACTERS = "abcdefghijklmnopqrstuvwxyz "
path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "tests/golden/files/char_rnn.pt"

# %% What is in the file? No code in it is run.
weights = tg.io.load_weights(path)
for name, array in weights.items():
    print(f"{name:20} {array.dtype} {array.shape}")

# %% The same model here. Its sizes are those of the arrays; PyTorch's two biases of a layer become one.
model = CharLM.from_torch(weights)
print(model)

# %% Does it compute what PyTorch computes? The repository has PyTorch's results for its own file.
if (golden := path.with_suffix(".expected.safetensors")).exists():
    expected = tg.io.load_weights(golden)
    logits, _ = model(tg.tensor(expected["ids"]))
    print(f"largest difference from PyTorch: {np.abs(logits.detach().numpy() - expected['logits']).max():.1e}")

# %% Adapting it to a text: small matrices beside the LSTM's weights (LoRA), and the last layer. All else is frozen.
text = " ".join(re.findall("[a-z]+", manual_text().lower()))
ids = np.array([CHARACTERS.index(character) for character in text])
tg.manual_seed(0)
tg.nn.add_lora(model, "lstm.*", rank=4)
model.unfreeze("output.*")
print(f"learning: {', '.join(name for name, parameter in model.named_parameters() if parameter.requires_grad)}")
optimizer = tg.optim.Adam(model.parameter_groups({"output.*": {"lr": 0.01}}), lr=0.03)
losses = []
for inputs, targets, _ in islice(TextBatches(ids, batch=20, seq_len=50), 400):
    loss, _ = model.loss(tg.tensor(inputs), tg.tensor(targets))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
print(f"loss: {losses[0]:.2f} nats a character before, {np.mean(losses[-20:]):.2f} after")
tg.io.save_weights("adapters.safetensors", tg.nn.lora_state_dict(model))
tg.nn.merge_lora(model)

# %% A stream of characters as they come in; and the same in ONNX, for any runtime.
read = ids[:60]
stream = model.stream()
streamed = np.concatenate([stream([character]) for character in read])
if find_spec("onnx"):
    tg.io.export_onnx(model, "adapted.onnx")
if find_spec("onnx") and find_spec("onnxruntime"):
    from onnxruntime import InferenceSession

    start = np.zeros((model.num_layers, 1, model.lstm.hidden_size), np.float32)
    (logits,) = InferenceSession("adapted.onnx").run(["logits"], {"ids": read[:, None], "h0": start, "c0": start})
    print(f"largest difference of onnxruntime from the stream: {np.abs(logits[:, 0] - streamed).max():.1e}")

# %% The picture: how the loss fell, and the gates of the unit that varies most while the model reads.
figure, (above, below) = plt.subplots(2, 1, figsize=(8, 6), layout="constrained")
tg.inspect.plot_losses({"LoRA and the last layer": losses}, above).set(ylabel="loss (nats a character)")
layer = tg.inspect.trace(model, tg.tensor(read[:, None]))["lstm.l0"]
tg.inspect.plot_gates(layer, unit=int(layer.c.var(axis=0).argmax()), ax=below)
below.set(xlabel="what it reads", xticks=range(len(read)), xticklabels=[CHARACTERS[id] for id in read])
figure.savefig("bring_a_model.png", dpi=100)
