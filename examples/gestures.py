"""An LSTM learns to tell four gestures apart, of recordings of different lengths in a table.

    pip install matplotlib
    python examples/gestures.py

It takes a few seconds, and writes gestures.csv and gestures.png.
"""

import csv

import matplotlib.pyplot as plt
import numpy as np

from tinygrad_lstm.data import read_sequences
from tinygrad_lstm.estimators import SequenceClassifier

# %% Made-up recordings: somebody moves a phone in the air, and it notes its acceleration twenty times a second. Each
# gesture begins anywhere, and is fast or slow. Clockwise or not: the numbers are the same, only their order differs.
GESTURES = ["clockwise", "anticlockwise", "eight", "shake"]
rng = np.random.default_rng(0)


def recording(gesture: str) -> np.ndarray:
    """Accelerations (T, 2), to the right and upwards."""
    steps, turns = rng.integers(14, 26), rng.uniform(1.0, 1.6)
    angle = rng.uniform(0, 2 * np.pi) + np.linspace(0, 2 * np.pi * turns, steps)
    if gesture == "shake":
        tilt = rng.uniform(0, 2 * np.pi)
        path = [np.cos(tilt) * np.cos(angle), np.sin(tilt) * np.cos(angle)]
    else:
        path = [np.cos(angle), np.sin({"clockwise": -angle, "anticlockwise": angle, "eight": 2 * angle}[gesture])]
    return np.stack(path, axis=1) * rng.uniform(0.7, 1.3) + rng.normal(0, 0.25, (steps, 2))


with open("gestures.csv", "w", encoding="utf-8", newline="") as file:
    table = csv.writer(file, lineterminator="\n")
    table.writerow(["recording", "t", "x", "y", "gesture"])
    for number in range(160):
        gesture = GESTURES[number % 4]
        for step, (x, y) in enumerate(recording(gesture)):
            table.writerow([f"r{number:03}", f"{step / 20:.2f}", f"{x:.2f}", f"{y:.2f}", gesture])

# %% Five lines. The last forty recordings are the test.
data = read_sequences("gestures.csv", target="gesture", id="recording", time="t")
classifier = SequenceClassifier(random_state=0).fit(data.sequences[:120], data.targets[:120])
test, truth = data.sequences[120:], data.targets[120:]
print(f"{classifier.score(test, truth):.0%} of {len(test)} new recordings are right")
found = classifier.predict(test)

# %% The picture: a recording of each gesture, and how often each was taken for which.
figure, axes = plt.subplots(1, 5, figsize=(11, 2.8), layout="constrained", width_ratios=[1, 1, 1, 1, 1.4])
for ax, gesture in zip(axes, GESTURES):
    example = test[list(truth).index(gesture)]
    ax.plot(*example.T, color="0.8")
    ax.scatter(*example.T, c=np.arange(len(example)), cmap="viridis", s=14)
    ax.set(title=gesture, xticks=[], yticks=[], aspect="equal", xlim=(-2.2, 2.2), ylim=(-2.2, 2.2))
counts = [[int(np.sum((truth == true) & (found == other))) for other in GESTURES] for true in GESTURES]
axes[4].imshow(counts, cmap="Blues")
for (row, column), count in np.ndenumerate(counts):
    axes[4].text(column, row, count, ha="center", va="center", color="white" if count > 6 else "black")
axes[4].set(title="how often taken for each", xticks=[], yticks=range(4), yticklabels=GESTURES)
figure.savefig("gestures.png", dpi=100)
