"""An LSTM learns how a sensor behaves, watches it value by value, survives a restart, and notices a fault.

    python examples/stream.py

It takes about 5 seconds, and writes stream.png and the saved state, sensor.safetensors.
"""

import matplotlib.pyplot as plt
import numpy as np

import tinygrad_lstm as tg
from tinygrad_lstm.models import LSTM, Stream

# %% A pump's pressure: two rhythms and noise. From step FAULT on, a worn valve lets the slower rhythm go faster.
rng = np.random.default_rng(0)
FAULT, LENGTH = 2600, 3000
steps = np.arange(LENGTH)
slow = np.sin(2 * np.pi / 40 * (steps + 0.25 * np.maximum(steps - FAULT, 0)))
pressure = (slow + 0.5 * np.sin(2 * np.pi / 9 * steps) + rng.normal(0, 0.1, LENGTH)).astype(np.float32)


# %% The model: an LSTM, and a layer that turns its output into the next value. A stream is made of the same parts.
class Forecaster(tg.nn.Module):
    def __init__(self) -> None:
        self.lstm = LSTM(1, 32)
        self.head = tg.nn.Linear(32, 1)

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        return self.head(self.lstm(x)[0])

    def stream(self) -> Stream:
        return Stream(self.lstm, output=self.head)


# %% Training, on windows of the first 1,600 values: (T, B, 1), each value to be predicted from those before it.
tg.manual_seed(0)
model = Forecaster()
optimizer = tg.optim.Adam(model.parameters(), lr=0.01)
for _ in range(400):
    windows = pressure[rng.integers(0, 1600 - 101, 16) + np.arange(101)[:, None], None]
    loss = tg.mse_loss(model(tg.tensor(windows[:-1])), tg.tensor(windows[1:]))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(f"root mean squared error {loss.item() ** 0.5:.3f}; that of the noise, which nobody can predict, is 0.1")

# %% Watching: each value as it comes in. The stream keeps its state, which is saved at step 2,000.
stream = model.stream()
predicted = np.zeros(LENGTH, np.float32)
for t in range(LENGTH - 1):
    if t == 2000:
        stream.save("sensor.safetensors")
    predicted[t + 1] = stream(pressure[t : t + 1])[0]

# %% After a restart, a new stream goes on from the file.
restarted = model.stream()
restarted.load("sensor.safetensors")
again = [restarted(pressure[t : t + 1])[0] for t in range(2000, LENGTH - 1)]
print(f"equal to the last bit after the restart: {np.array_equal(again, predicted[2001:])}")

# %% The alarm: a mean error of 20 steps that is well above the largest of 400 healthy steps, which were not learnt.
errors = np.convolve(np.abs(pressure - predicted), np.ones(20) / 20)[:LENGTH]
limit = 1.2 * errors[1600:2000].max()
alarm = 2000 + int(np.argmax(errors[2000:] > limit))
print(f"the fault began at step {FAULT}; the alarm came at step {alarm}, {alarm - FAULT} steps later")

# %% The picture: what came and what was predicted, and the error.
figure, (above, below) = plt.subplots(2, 1, figsize=(8, 5), sharex=True, layout="constrained")
above.plot(pressure, color="black", linewidth=1, label="pressure")
above.plot(predicted, color="#d55e00", linestyle="--", linewidth=1, label="predicted one step before")
above.set(title="A sensor, watched value by value", xlim=(2450, 2750), ylim=(-2, 2.9))
below.plot(errors, color="#0072b2", label="mean error of 20 steps")
below.axhline(limit, color="black", linestyle=":", label="limit")
below.set(xlabel="time (steps)", ylim=(0, 0.45))
for ax in (above, below):
    ax.axvline(FAULT, color="0.5", linewidth=3, label="fault")
    ax.axvline(alarm, color="#009e73", linestyle="-.", linewidth=2, label="alarm")
    ax.legend(loc="upper left", ncols=4)
figure.savefig("stream.png", dpi=100)
