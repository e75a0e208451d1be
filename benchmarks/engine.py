"""The engine beside its peers: one small op with its gradient, and a training step of the composed LSTM cell unrolled.

    pip install -e '.[bench]'
    python benchmarks/engine.py                 # all peers that are installed; two threads

Every side computes the same loss of the same data in float32, which is checked first. "numpy" makes the engine's NumPy
calls without an engine, with derivatives written by hand. Each side runs in its own process. The sides take turns, and
the ratios are medians over the turns, so that a change in the machine's speed affects all sides alike. Memory is the
growth of a process's peak resident size in the second step: the first imports and compiles, and its arrays are freed
before.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from harness import Case, Worker, check_agreement, row, take_turns, tells_memory

SHAPES = [(50, 50, 65, 128), (64, 32, 128, 256), (128, 16, 64, 64), (256, 1, 32, 64)]
PEERS = ["tinygrad_lstm", "numpy", "torch", "mygrad", "autograd"]

Step = Callable[[], tuple[float, Any]]  # a training step: the loss, and the gradient of the weights


def data_for(T: int, B: int, I: int, H: int) -> dict[str, Any]:
    """Inputs, the weights over [h, x] and a bias."""
    import numpy as np

    rng = np.random.default_rng(0)
    return {
        "x": rng.standard_normal((T, B, I)).astype(np.float32),
        "W": (rng.standard_normal((4 * H, H + I)) / (H + I) ** 0.5).astype(np.float32),
        "b": np.zeros(4 * H, np.float32),
        "H": H,
    }


def tinygrad_lstm_step(x: Any, W: Any, b: Any, H: int) -> Step:
    """The composed cell in this library."""
    import tinygrad_lstm as tg

    xs = tg.tensor(x).unbind(0)
    W, b = tg.tensor(W, requires_grad=True), tg.tensor(b, requires_grad=True)

    def step() -> tuple[float, Any]:
        W.grad = b.grad = None
        h = c = tg.zeros(xs[0].shape[0], H)
        outputs = []
        for x_t in xs:
            hx = tg.concat([h, x_t], dim=-1)
            i, f, g, o = tg.linear(hx, W, b).chunk(4, dim=-1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            outputs.append(h)
        loss = tg.stack(outputs).square().mean()
        loss.backward()
        return loss.item(), W.grad.data

    return step


def numpy_step(x: Any, W: Any, b: Any, H: int) -> Step:
    """The NumPy calls that the engine makes, written out: what a step costs without any engine."""
    import numpy as np

    transposed = W.swapaxes(0, 1)
    pieces = [(slice(None), slice(k * H, (k + 1) * H)) for k in range(4)]

    def sigmoid(net: Any) -> Any:
        e = np.exp(np.negative(net))
        e += 1
        return np.reciprocal(e)

    def step() -> tuple[float, Any]:
        h = c = np.zeros((x.shape[1], H), np.float32)
        kept, outputs = [], []
        for x_t in x:
            hx = np.concatenate([h, x_t], axis=-1)
            net = np.matmul(hx, transposed)
            net += b
            net_i, net_f, net_g, net_o = (net[piece] for piece in pieces)
            f, i, g = sigmoid(net_f), sigmoid(net_i), np.tanh(net_g)
            before, c = c, f * c + i * g
            o, tanh_c = sigmoid(net_o), np.tanh(c)
            h = o * tanh_c
            kept.append((hx, i, f, g, o, before, tanh_c))
            outputs.append(h)
        stacked = np.stack(outputs)
        loss = np.square(stacked).sum() / stacked.size
        d_stacked = stacked * (2 / stacked.size)
        dW, db = np.zeros_like(W), np.zeros_like(b)
        dh = dc = None
        rows: list[tuple[Any, Any]] = []
        for (hx, i, f, g, o, before, tanh_c), d_out in zip(reversed(kept), reversed(d_stacked)):
            dh = d_out if dh is None else d_out + dh
            d_tanh_c = dh * o
            through_h = d_tanh_c * (1 - tanh_c * tanh_c)
            dc = through_h if dc is None else dc + through_h
            d_net = np.concatenate(
                [
                    dc * g * (i * (1 - i)),
                    dc * before * (f * (1 - f)),
                    dc * i * (1 - g * g),
                    dh * tanh_c * (o * (1 - o)),
                ],
                axis=-1,
            )
            rows.append((d_net, hx))
            dc = dc * f
            dh = np.matmul(d_net, W)[:, :H]
        for start in range(0, len(rows), max(1, 1024 // x.shape[1])):
            some = rows[start : start + max(1, 1024 // x.shape[1])]
            d_nets, hxs = (np.concatenate(parts) for parts in zip(*some))
            dW += np.matmul(d_nets.swapaxes(0, 1), hxs)
            db += d_nets.sum(0)
        return float(loss), dW

    return step


def torch_step(x: Any, W: Any, b: Any, H: int) -> Step:
    """The composed cell in PyTorch."""
    import torch

    xs = torch.tensor(x).unbind(0)
    W, b = torch.tensor(W, requires_grad=True), torch.tensor(b, requires_grad=True)

    def step() -> tuple[float, Any]:
        W.grad = b.grad = None
        h = c = torch.zeros(xs[0].shape[0], H)
        outputs = []
        for x_t in xs:
            hx = torch.cat([h, x_t], dim=-1)
            i, f, g, o = torch.nn.functional.linear(hx, W, b).chunk(4, dim=-1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            outputs.append(h)
        loss = torch.stack(outputs).square().mean()
        loss.backward()
        return loss.item(), W.grad.numpy()

    return step


def mygrad_step(x: Any, W: Any, b: Any, H: int) -> Step:
    """The composed cell in MyGrad."""
    import mygrad as mg
    import numpy as np
    from mygrad.nnet.activations import sigmoid

    W, b = mg.tensor(W), mg.tensor(b)

    def step() -> tuple[float, Any]:
        W.null_grad(), b.null_grad()
        h = c = mg.tensor(np.zeros((x.shape[1], H), np.float32), constant=True)
        outputs = []
        for x_t in x:
            net = mg.matmul(mg.concatenate([h, x_t], axis=-1), W.T) + b
            i, f, g, o = (net[:, k * H : (k + 1) * H] for k in range(4))
            c = sigmoid(f) * c + sigmoid(i) * mg.tanh(g)
            h = sigmoid(o) * mg.tanh(c)
            outputs.append(h)
        loss = mg.mean(mg.square(mg.stack(outputs)))
        loss.backward()
        return loss.item(), W.grad

    return step


def autograd_step(x: Any, W: Any, b: Any, H: int) -> Step:
    """The composed cell in HIPS autograd, its sigmoid as in that project's own LSTM example."""
    import autograd.numpy as anp
    from autograd import value_and_grad

    def sigmoid(z: Any) -> Any:
        return 0.5 * (anp.tanh(0.5 * z) + 1.0)

    def loss_of(parameters: Any) -> Any:
        W, b = parameters
        h = c = anp.zeros((x.shape[1], H), dtype="float32")
        outputs = []
        for x_t in x:
            net = anp.dot(anp.concatenate([h, x_t], axis=-1), W.T) + b
            i, f, g, o = (net[:, k * H : (k + 1) * H] for k in range(4))
            c = sigmoid(f) * c + sigmoid(i) * anp.tanh(g)
            h = sigmoid(o) * anp.tanh(c)
            outputs.append(h)
        return anp.mean(anp.stack(outputs) ** 2)

    differentiated = value_and_grad(loss_of)

    def step() -> tuple[float, Any]:
        loss, (gradient, _) = differentiated((W, b))
        return float(loss), gradient

    return step


STEPS: dict[str, Callable[..., Step]] = {
    "tinygrad_lstm": tinygrad_lstm_step,
    "numpy": numpy_step,
    "torch": torch_step,
    "mygrad": mygrad_step,
    "autograd": autograd_step,
}


def small_op(peer: str) -> Callable[[], Any]:
    """tanh(x · y), summed, of 10 numbers, and its gradient."""
    import numpy as np

    x, y = np.linspace(0, 1, 10, dtype=np.float32), np.linspace(1, 2, 10, dtype=np.float32)
    if peer == "tinygrad_lstm":
        import tinygrad_lstm as tg

        a, b = tg.tensor(x, requires_grad=True), tg.tensor(y)
        return lambda: (a * b).tanh().sum().backward()
    if peer == "numpy":

        def differentiated_by_hand() -> Any:
            out = np.tanh(x * y)
            return np.add.reduce(out), np.ones_like(out) * (1 - out * out) * y

        return differentiated_by_hand
    if peer == "torch":
        import torch

        c, d = torch.tensor(x, requires_grad=True), torch.tensor(y)
        return lambda: (c * d).tanh().sum().backward()
    if peer == "mygrad":
        import mygrad as mg

        e, f = mg.tensor(x), mg.tensor(y, constant=True)
        return lambda: mg.sum(mg.tanh(e * f)).backward()
    import autograd.numpy as anp
    from autograd import grad

    differentiated = grad(lambda z: anp.sum(anp.tanh(z * y)))
    return lambda: differentiated(x)


def prepare(peer: str, *shape: int) -> Case:
    """The training step of a shape or, without one, the small op."""
    if not shape:
        return Case(small_op(peer))
    return Case(
        STEPS[peer](**data_for(*shape)), lambda result: dict(zip(("the loss", "the gradient"), result, strict=True))
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=[peer for peer in PEERS if find_spec(peer)])
    options = parser.parse_args()
    ours = ["tinygrad_lstm"]
    peers = [*ours, *(peer for peer in options.peers if peer not in ours)]
    workers = {peer: Worker(prepare, peer, options.threads) for peer in peers}

    print(f"| training step of the composed cell, ms | {' | '.join(peers)} |")
    print("|" + " --- |" * (len(peers) + 1))
    for shape in SHAPES:
        check_agreement({peer: worker.prepare(*shape) for peer, worker in workers.items()})
        print(row(f"(T, B, I, H) = {shape}", take_turns(workers, options.turns), ours, 1e3), flush=True)
    for worker in workers.values():
        worker.prepare()
    small = take_turns(workers, options.turns)
    print(row("tanh(x·y).sum() of 10 numbers and its gradient, µs", small, ours, 1e6), flush=True)
    for worker in workers.values():
        worker.close()
    for shape in SHAPES if tells_memory() else []:
        grown = {}
        for peer in peers:
            fresh = Worker(prepare, peer, options.threads)
            grown[peer] = [fresh.peak_growth(*shape)]
            fresh.close()
        print(row(f"peak memory of the step {shape}, MB", grown, ours, 1), flush=True)
    print("\nIn parentheses: ours divided by theirs, the median over the turns; below 1 we are ahead.")


if __name__ == "__main__":
    main()
