"""A classifier of sequences of different lengths beside the same in PyTorch, by hand and through skorch.

    pip install -e '.[bench]'
    python benchmarks/estimators.py              # two threads; --threads 1, --turns 5

1,000 sequences of 10 to 200 steps with 12 channels, an LSTM of 100 units with a linear layer on its last state, AdamW
with clipped gradients, batches of 32, three epochs, no validation. Each side is a process of its own, and the sides
take turns. PyTorch by hand gets the batches of this library's `SequenceBatches`, of similar lengths, as packed
sequences; "padded" reads past their ends, and takes the outputs of their last steps; "shuffled" has packed sequences as
a `DataLoader` with `pad_sequence` gives them, which is what most programs do, and so has skorch. PyTorch by hand
predicts in batches of similar lengths, as this library does. Start-up is the time from the start of the process until
the data are there and the imports are done. All sides must learn. The learning rate falls only on our side, so the
accuracies differ.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from pathlib import Path

from harness import ratio

from tinygrad_lstm.backends.threads import VARIABLES

OURS = """
from tinygrad_lstm.estimators import SequenceClassifier
model = SequenceClassifier(hidden_size=100, epochs=3, validation=0, random_state=0)
ready()
model.fit(X, y)
done(model.predict(X))
"""

NET = """
import torch
torch.set_num_threads(threads)
torch.manual_seed(0)

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = torch.nn.LSTM(12, 100, batch_first=True)
        self.output = torch.nn.Linear(100, 4)

    def forward(self, x, lengths):
        packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return self.output(self.lstm(packed)[1][0][-1])
"""

TORCH = """
net = Net()
optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2, weight_decay=0.3)
{batches}
ready()
for epoch in range(3):
    for x, lengths, targets in batches(epoch):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(x, lengths), targets).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
net.eval()
predicted = np.empty(len(X), int)
with torch.inference_mode():
    for rows in np.split(np.argsort([len(x) for x in X]), range(128, len(X), 128)):
        xs = [torch.from_numpy(X[row]) for row in rows]
        padded = torch.nn.utils.rnn.pad_sequence(xs, batch_first=True)
        predicted[rows] = net(padded, torch.tensor([len(x) for x in xs])).argmax(1).numpy()
done(predicted)
"""

BUCKETED = """
from tinygrad_lstm.data import SequenceBatches
found = SequenceBatches(X, y, 32)

def batches(epoch):
    for batch in found.epoch(epoch):
        yield torch.from_numpy(batch.x).transpose(0, 1), torch.tensor(batch.lengths), torch.from_numpy(batch.y)
"""

SHUFFLED = """
def collate(rows):
    xs, targets = zip(*rows)
    padded = torch.nn.utils.rnn.pad_sequence(xs, batch_first=True)
    return padded, torch.tensor([len(x) for x in xs]), torch.tensor(targets)

pairs = [(torch.from_numpy(x), int(target)) for x, target in zip(X, y)]
loader = torch.utils.data.DataLoader(pairs, batch_size=32, shuffle=True, collate_fn=collate)

def batches(epoch):
    return loader
"""

SKORCH = """
from skorch import NeuralNetClassifier
from skorch.callbacks import GradientNormClipping

def collate(rows):
    xs, targets = zip(*rows)
    padded = torch.nn.utils.rnn.pad_sequence([torch.as_tensor(x) for x in xs], batch_first=True)
    return {"x": padded, "lengths": torch.tensor([len(x) for x in xs])}, torch.as_tensor(targets)

class Pairs(torch.utils.data.Dataset):
    def __len__(self):
        return len(X)

    def __getitem__(self, row):
        return X[row], int(y[row])

net = NeuralNetClassifier(
    Net, criterion=torch.nn.CrossEntropyLoss, optimizer=torch.optim.AdamW, optimizer__weight_decay=0.3,
    lr=1e-2, max_epochs=3, batch_size=32, callbacks=[GradientNormClipping(1.0)],
    train_split=None, iterator_train__shuffle=True, iterator_train__collate_fn=collate,
    iterator_valid__collate_fn=collate, verbose=0, classes=[0, 1, 2, 3],
)
ready()
net.fit(Pairs(), None)
done(net.predict(Pairs()))
"""

PADDED = NET.replace(
    """packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return self.output(self.lstm(packed)[1][0][-1])""",
    "return self.output(self.lstm(x)[0][torch.arange(len(x)), lengths - 1])",
)

SIDES = {
    "ours": OURS,
    "PyTorch": NET + TORCH.replace("{batches}", BUCKETED),
    "PyTorch, padded": PADDED + TORCH.replace("{batches}", BUCKETED),
    "PyTorch, shuffled": NET + TORCH.replace("{batches}", SHUFFLED),
    "skorch": NET + SKORCH,
}

PROGRAM = """
import sys, time
started = float(sys.argv[1])
import numpy as np
threads = int(sys.argv[2])
draw = np.random.default_rng(0)
y = draw.integers(0, 4, 1000)
X = [draw.standard_normal((draw.integers(10, 201), 12)).astype(np.float32) + 0.5 * np.eye(12, dtype=np.float32)[k]
     for k in y]
times = []

def ready():
    times.append(time.time())

def done(predicted):
    import json
    times.append(time.time())
    print(json.dumps([times[0] - started, times[1] - times[0], float((predicted == y).mean())]))

{side}
"""


def run(side: str, threads: int, folder: str) -> tuple[float, float, float]:
    """Seconds of start-up and of training and predicting, and the accuracy on what was learnt."""
    path = Path(folder) / "side.py"
    path.write_text(PROGRAM.replace("{side}", SIDES[side]))
    environment = {**os.environ, **dict.fromkeys(VARIABLES, str(threads))}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # modules are compiled once, as those of installed packages are
    command = [sys.executable, str(path), str(time.time()), str(threads)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{side}: {(done.stderr.splitlines() or ['no message'])[-1]}")
    start_up, fit, accuracy = json.loads(done.stdout.splitlines()[-1])
    if accuracy < 0.5:  # four classes
        raise RuntimeError(f"{side}: only {accuracy:.2f} of the sequences have the right class after training")
    return start_up, fit, accuracy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=5)
    given = parser.parse_args()
    figures: dict[str, list[tuple[float, float, float]]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as folder:
        for side in SIDES:  # the first process of each builds or caches what it needs
            run(side, given.threads, folder)
        order = deque(SIDES)
        for _ in range(given.turns):
            for side in order:
                figures[side].append(run(side, given.threads, folder))
            order.rotate()
    print("| side | start-up, s | ours / its | fit and predict, s | ours / its | accuracy |")
    print("| --- | --- | --- | --- | --- | --- |")
    for side, rows in figures.items():
        starts, fits, accuracies = ([each[k] for each in rows] for k in range(3))
        own_starts, own_fits = ([each[k] for each in figures["ours"]] for k in range(2))
        print(
            f"| {side} | {statistics.median(starts):.2f} | {ratio(own_starts, starts):.2f} | "
            f"{statistics.median(fits):.2f} | {ratio(own_fits, fits):.2f} | {statistics.mean(accuracies):.3f} |"
        )


if __name__ == "__main__":
    main()
