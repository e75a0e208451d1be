"""An LSTM reads handwritten digits row by row, and is watched while it makes up its mind.

    pip install scikit-learn matplotlib
    python examples/digits_by_rows.py

It takes a few seconds, and writes digits_by_rows.png.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import tinygrad_lstm as tg
from tinygrad_lstm.models import LSTM, ManyToOne

# %% 1,797 digits of 8 × 8 pixels. A row is a step: the sequences are (T, B, I) with T = 8 rows and I = 8 pixels.
digits = load_digits()
rows = (digits.images / 16).astype(np.float32).swapaxes(0, 1)
labels = digits.target

# %% The writers filled in one form after the other, of 130 digits each. So that nobody's hand is both learnt and
# tested, the parts are not drawn at random: the first forms are for training, two are to choose the epoch by.
train, validation, test = np.split(np.arange(len(labels)), [8 * 130, 10 * 130])
print(f"{len(train)} digits for training, {len(validation)} for validation, {len(test)} for the test")


def accuracy(model: ManyToOne, part: np.ndarray) -> float:
    with tg.no_grad():
        scores = model(tg.tensor(rows[:, part])).numpy()
    return float((scores.argmax(axis=1) == labels[part]).mean())


# %% Training, with noise on the pixels, since 1,040 digits are soon learnt by heart. The best epoch's weights are kept.
tg.manual_seed(0)
rng = np.random.default_rng(0)
model = ManyToOne(LSTM(8, 64), output_size=10)
optimizer = tg.optim.Adam(model.parameters(), lr=0.01)
best = 0.0
for _ in range(30):
    for batch in np.array_split(rng.permutation(train), 20):
        noisy = rows[:, batch] + rng.normal(0, 0.3, (8, len(batch), 8)).astype(np.float32)
        loss = tg.cross_entropy(model(tg.tensor(noisy)), tg.tensor(labels[batch]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if (reached := accuracy(model, validation)) > best:
        best, weights = reached, model.state_dict()
model.load_state_dict(weights)
print(f"accuracy: {best:.1%} in validation, {accuracy(model, test):.1%} in the test")

# %% A stream of all test digits at once: the probability of each class after each row.
stream = model.stream(batch=len(test))
beliefs = np.stack([tg.tensor(stream(row)).softmax(dim=-1).numpy() for row in rows[:, test]])  # (T, B, 10)
after = [(belief.argmax(axis=1) == labels[test]).mean() for belief in beliefs]
print("right after each row: " + " ".join(f"{share:.0%}" for share in after))

# %% The digit on which the model changes its mind most often, and is right in the end.
minds = beliefs.argmax(axis=2)
changes = (minds[1:] != minds[:-1]).sum(axis=0) * (minds[-1] == labels[test])
chosen = int(changes.argmax())
print(f"a {labels[test][chosen]}, taken for: {' '.join(map(str, minds[:, chosen]))}")

# %% The picture: the digit, the probabilities, and the cell states, row by row.
figure, axes = plt.subplots(1, 3, figsize=(9, 3.5), layout="constrained", width_ratios=[2, 2.4, 3])
axes[0].imshow(rows[:, test[chosen]], cmap="Greys", aspect="auto")
axes[0].set(title=f"A {labels[test][chosen]}, row by row", ylabel="row (time step)", xticks=[])
axes[1].imshow(beliefs[:, chosen], cmap="Blues", vmin=0, vmax=1, aspect="auto")
axes[1].set(title="Probability of each class", xlabel="class", xticks=range(10))
layer = tg.inspect.trace(model, tg.tensor(rows[:, test[chosen]][:, None]))["network.l0"]
tg.inspect.plot_cell_states(layer, axes[2]).set(title="Cell states")
figure.savefig("digits_by_rows.png", dpi=100)
