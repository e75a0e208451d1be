"""The engine beside its peers: one small op with its gradient, and a training step of the composed LSTM cell unrolled.

    pip install -e '.[bench]'
    python benchmarks/engine.py                 # all peers that are installed; two threads

Every side computes the same loss of the same data in float32, which is checked first. The sides, each in a process of
its own, take turns within one run; the figures are medians of the ratios turn by turn, so that a machine's drift falls
on all alike. Memory is the growth of a fresh process's peak resident size over one step.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

SHAPES = [(50, 50, 65, 128), (64, 32, 128, 256), (128, 16, 64, 64), (256, 1, 32, 64)]
PEERS = ["tinygrad_lstm", "torch", "mygrad", "autograd"]

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


class Worker:
    """A side, in a process of its own: no side's idle threads or garbage are in another's way."""

    def __init__(self, peer: str, threads: int) -> None:
        command = [sys.executable, __file__, "--serve", peer, "--threads", str(threads)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, *request: Any) -> Any:
        """The worker's answer to a request that `serve` knows."""
        assert self._process.stdin is not None and self._process.stdout is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the worker ended with {self._process.wait()} on {request}")
        return json.loads(answer)

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()


def serve(peer: str) -> None:
    """Answers requests, one JSON line each, until there are no more."""
    call: Callable[[], Any] = small_op(peer)
    for line in sys.stdin:
        request, *arguments = json.loads(line)
        answer: Any = None
        if request == "step":
            call = STEPS[peer](**data_for(*arguments))
            loss, gradient = call()
            answer = [loss, gradient.ravel()[:1000].tolist()]
            # What imports left behind is no side's garbage, to be looked through at every collection.
            gc.collect()
            gc.freeze()
        elif request == "small op":
            call = small_op(peer)
            call()
        elif request == "seconds":
            call()
            started = time.perf_counter()
            for _ in range(arguments[0]):
                call()
            answer = (time.perf_counter() - started) / arguments[0]
        elif request == "memory":
            answer = peak_growth(STEPS[peer](**data_for(*arguments)))
        print(json.dumps(answer), flush=True)


def check_agreement(answers: dict[str, tuple[float, list[float]]]) -> None:
    """Raises if the sides do not compute the same loss and gradient."""
    import numpy as np

    loss, gradient = answers["tinygrad_lstm"]
    for peer, (other_loss, other_gradient) in answers.items():
        np.testing.assert_allclose(other_loss, loss, rtol=1e-4, err_msg=f"the loss of {peer}")
        np.testing.assert_allclose(other_gradient, gradient, atol=1e-5, err_msg=f"the gradient of {peer}")


def take_turns(workers: dict[str, Worker], turns: int, repeat: int = 2) -> dict[str, list[float]]:
    """Seconds a call, of each side, turn by turn."""
    seconds: dict[str, list[float]] = {peer: [] for peer in workers}
    for _ in range(turns):
        for peer, worker in workers.items():
            # The threads of the side before spin a while after their work, on a core that this one needs.
            time.sleep(0.2)
            seconds[peer].append(worker.ask("seconds", repeat))
    return seconds


def row(figures: dict[str, list[float]], unit: float) -> str:
    """The median of ours, and for each peer the median of its own and of ours by its, turn by turn."""
    ours = figures["tinygrad_lstm"]
    cells = [f"{statistics.median(ours) * unit:.1f}"]
    for peer, theirs in figures.items():
        if peer != "tinygrad_lstm":
            ratio = statistics.median(a / b for a, b in zip(ours, theirs))
            cells.append(f"{statistics.median(theirs) * unit:.1f} ({ratio:.2f})")
    return " | ".join(cells)


def peak_growth(step: Step) -> float:
    """MB by which this process's peak resident size grows in the first step it takes."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = resident("VmRSS")
    step()
    return (resident("VmHWM") - before) / 1e3


def resident(field: str) -> float:
    """kB, as Linux tells them."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return float(line.split()[1])
    raise RuntimeError(f"/proc/self/status has no {field}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=[peer for peer in PEERS if find_spec(peer)])
    parser.add_argument("--serve", metavar="PEER", help=argparse.SUPPRESS)
    options = parser.parse_args()
    # Before NumPy is imported, which reads it.
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(options.threads)
    if options.serve:
        serve(options.serve)
        return
    peers = ["tinygrad_lstm", *(peer for peer in options.peers if peer != "tinygrad_lstm")]
    workers = {peer: Worker(peer, options.threads) for peer in peers}

    print(f"| training step of the composed cell, ms | {' | '.join(peers)} |")
    print("|" + " --- |" * (len(peers) + 1))
    for shape in SHAPES:
        check_agreement({peer: worker.ask("step", *shape) for peer, worker in workers.items()})
        print(f"| (T, B, I, H) = {shape} | {row(take_turns(workers, options.turns), 1e3)} |", flush=True)
    for worker in workers.values():
        worker.ask("small op")
    small = take_turns(workers, options.turns, repeat=500)
    print(f"| tanh(x·y).sum() of 10 numbers and its gradient, µs | {row(small, 1e6)} |", flush=True)
    for worker in workers.values():
        worker.close()
    for shape in SHAPES if Path("/proc/self/clear_refs").exists() else []:
        grown = {}
        for peer in peers:
            fresh = Worker(peer, options.threads)
            fresh.ask("step", 2, 2, 2, 2)
            grown[peer] = [fresh.ask("memory", *shape)]
            fresh.close()
        print(f"| peak memory of the step {shape}, MB | {row(grown, 1)} |", flush=True)
    print("\nIn parentheses: ours divided by theirs, the median over the turns; below 1 we are ahead.")


if __name__ == "__main__":
    main()
