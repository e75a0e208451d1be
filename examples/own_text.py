"""A character model learns a text, writes some of its own, and shows what one of its units has learnt.

    python examples/own_text.py             # Python's manual
    python examples/own_text.py book.txt    # a text of yours, of 50,000 characters or more

It takes about 10 seconds, and writes own_text.png, own_text.html and the folder own_text of the training run.
"""

import sys

import matplotlib.pyplot as plt
import numpy as np

import tinygrad_lstm as tg
from tinygrad_lstm.data import manual_text, read_text, split_text
from tinygrad_lstm.metrics import read_metrics
from tinygrad_lstm.models import CharLM
from tinygrad_lstm.train import TextTrainer, TrainingOptions

# %% The text. Its last tenth is held back: the model is judged by text that it has not seen.
text = read_text(sys.argv[1]) if len(sys.argv) > 1 else manual_text()
_, held_back = split_text(text)
unseen = held_back[held_back.find("\n\n") + 2 :][:4000]
print(f"{len(text):,} characters, {len(set(text))} different ones")

# %% The model, and what it writes before it has learnt anything.
options = TrainingOptions(hidden=96, seq_len=64, batch=16, steps=1400, validate_every=200, seed=0)
trainer = TextTrainer.start(CharLM.from_options, text, options, out="own_text")
model, vocabulary = trainer.model, trainer.vocabulary
prompt = unseen[:30]


def written(length: int) -> str:
    ids = model.generate(vocabulary.encode(prompt).tolist(), length, temperature=0.7)
    return prompt + vocabulary.decode(ids)


print(f"\nBefore training:\n{written(100)}\n")

# %% Training. At each step the model reads the next 64 characters at 16 places of the text.
trainer.run(report=lambda now: now.validation_loss and print(f"step {now.step}: {now.validation_loss:.2f} nats"))
print(f"\nAfter training:\n{written(400)}\n")

# %% Looking inside: every gate, state and gradient while the model reads unseen text, as a page to step through.
ids = tg.tensor(vocabulary.encode(unseen)).unsqueeze(1)  # (T, B), with B = 1 text
traced = tg.inspect.trace(model, ids, loss=lambda logits: tg.cross_entropy(logits[:-1].squeeze(1), ids[1:].squeeze(1)))
tg.inspect.page(traced, "own_text.html", vocabulary=vocabulary.characters, steps=slice(0, 600))


# %% Which unit has learnt something that we have a name for? The one that is correlated with it most.
def standardized(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-9)


named = {
    "inside quotes": [unseen.count('"', 0, t + 1) % 2 for t in range(len(unseen))],
    "position in the line": [t - unseen.rfind("\n", 0, t) for t in range(len(unseen))],
    "letter": [character.isalpha() for character in unseen],
}
states = standardized(np.tanh(traced["lstm.l0"].c[:, 0]))  # (T, H)
correlations = {name: states.T @ standardized(np.array(values)) / len(unseen) for name, values in named.items()}
name = max(correlations, key=lambda name: np.abs(correlations[name]).max())
unit = int(np.abs(correlations[name]).argmax())
print(f"Unit {unit} has learnt: {name} (correlation {correlations[name][unit]:.2f})")
print(f"Its gates: own_text.html#unit={unit}, in a browser")

# %% The picture: how the loss fell, and the text coloured by that unit.
figure, (above, below) = plt.subplots(2, 1, figsize=(8, 7), height_ratios=[1, 2], layout="constrained")
tg.inspect.plot_losses({"": read_metrics(trainer.metrics_path)}, above)
tg.inspect.plot_text(traced["lstm.l0"], unit, unseen, below, steps=slice(0, 500))
below.set_title(f"Unit {unit} has learnt: {name}")
figure.savefig("own_text.png", dpi=100)
