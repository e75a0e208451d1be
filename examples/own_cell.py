"""A cell of your own in ten lines, against the LSTM: what it learns, the code that it becomes, and a stream.

    python examples/own_cell.py

It takes about 10 seconds, and writes own_cell.png.
"""

import matplotlib.pyplot as plt
import numpy as np

import tinygrad_lstm as tg
from tinygrad_lstm.data import adding
from tinygrad_lstm.models import LSTM, ManyToOne, Recurrent


# %% The cell: a fast state, and a slow one, to which a gate lets the fast one write. At first the gate is 5 % open.
class TwoScales(tg.nn.Module):
    STATES = ("fast", "slow")

    def __init__(self, input_size: int, hidden_size: int) -> None:
        self.input_size, self.hidden_size = input_size, hidden_size
        self.linear = tg.nn.Linear(2 * hidden_size + input_size, 2 * hidden_size)

    def forward(self, x: tg.Tensor, state: tuple[tg.Tensor, tg.Tensor] | None = None) -> tuple[tg.Tensor, tg.Tensor]:
        fast, slow = state or (tg.zeros(len(x), self.hidden_size), tg.zeros(len(x), self.hidden_size))
        net_fast, net_write = tg.chunk(self.linear(tg.cat([fast, slow, x], dim=-1)), 2, dim=-1)
        fast, write = tg.tanh(net_fast), tg.sigmoid(net_write - 3)
        return fast, (1 - write) * slow + write * fast


# %% The task: the sum of two numbers that are marked in the first half of a sequence of 60 to 66 numbers.
def trained(network: LSTM | Recurrent, steps: int = 800) -> tuple[ManyToOne, list[float]]:
    model, rng, losses = ManyToOne(network, output_size=1), np.random.default_rng(0), []
    optimizer = tg.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(steps):
        x, targets, lengths = adding(rng, length=60, batch=32)
        loss = tg.mse_loss(model(tg.tensor(x), lengths=lengths), tg.tensor(targets))
        optimizer.zero_grad()
        loss.backward()
        tg.optim.clip_grad_norm_(model.parameters(), max_norm=1.0)
        optimizer.step()
        losses.append(loss.item())
    return model, losses


# %% Three networks of 24 units learn it. An LSTM forgets less at first if the bias of its forget gates is larger.
networks = {
    "LSTM": lambda: LSTM(2, 24),
    "LSTM, forget bias 3": lambda: LSTM(2, 24, forget_bias=3.0),
    "TwoScales": lambda: Recurrent(TwoScales(2, 24)),
}
curves = {}
for name, network in networks.items():
    tg.manual_seed(0)
    model, curves[name] = trained(network())
    print(f"{name}: mean squared error {np.mean(curves[name][-50:]):.5f}")

# %% The cell runs as one op over the sequence. This is its derivative in the loop, as it was found and compiled.
(program,) = model.network.program()
loop = program.backward.partition("# loop")[2].partition("\n\n")[0]
print(f"\nCompiled to: {', '.join(program.code)}\n# loop{loop}")

# %% The last model as a stream, one step at a time: its last answer is that for the whole sequence.
x, targets, lengths = adding(np.random.default_rng(7), length=60, batch=1)
stream = model.stream()
for step in x:
    answer = stream(step)
whole = model(tg.tensor(x))
print(f"\nThe stream answers {answer.item():.4f}, the whole sequence {whole.item():.4f}; right is {targets.item():.4f}")

# %% The picture: how they learnt, and how the slow state keeps the two numbers. White lines are where they were marked.
figure, (above, below) = plt.subplots(2, 1, figsize=(8, 7), layout="constrained")
smooth = {name: np.convolve(losses, np.ones(20) / 20, "valid") for name, losses in curves.items()}
tg.inspect.plot_losses(smooth, above).set(yscale="log", ylabel="mean squared error", title="Adding two marked numbers")
layer = tg.inspect.trace(model, tg.tensor(x))["network.cells.0"]
tg.inspect.plot_cell_states(layer, below).set(title="The slow state of TwoScales")
for marked in np.flatnonzero(x[:, 0, 1] == 1):
    below.axvline(marked, color="white", linestyle="--")
figure.savefig("own_cell.png", dpi=100)
