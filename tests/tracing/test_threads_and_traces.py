"""Threads that change a module while a different thread traces its step."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

import tinygrad_lstm as tg
from tinygrad_lstm.models import Recurrent

T, B, H = 3, 2, 4


class Shared(tg.nn.Module):
    """Other threads set its attributes; its steps read one of them."""

    def __init__(self, counts: bool) -> None:
        self.weight, self.counts = tg.nn.Parameter(tg.full((H, H), 0.1)), counts
        self.served, self.calls, self.scale = 0, 0, 1.0

    def forward(self, x: tg.Tensor, h: Any = None) -> tg.Tensor:
        if self.counts:
            self.calls += 1
        return tg.tanh(x @ self.weight) * self.scale + (0 if h is None else 0.5 * h)


def test_what_other_threads_write_to_a_module_stays() -> None:
    for counts in (False, True):
        cell, layers, done = Shared(counts), 40, threading.Event()
        written = 0

        def serve(cell: Shared = cell, done: threading.Event = done) -> None:
            nonlocal written
            while not done.is_set():
                cell.served += 1
                written += 1

        thread, interval = threading.Thread(target=serve), sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        thread.start()
        try:
            for _ in range(layers):
                out, _ = Recurrent(cell)(tg.ones(T, B, H))
        finally:
            sys.setswitchinterval(interval)
            done.set()
            thread.join()
        assert cell.served == written
        assert cell.calls == (layers * T if counts else 0)
        expected = np.tanh(0.4) * np.array([1, 1.5, 1.75])
        np.testing.assert_allclose(out.detach().numpy()[:, 0, 0], expected, rtol=1e-5)


def test_gradients_that_other_threads_compute_stay() -> None:
    cell, done, sums = Shared(counts=False), threading.Event(), 0
    with tg.no_grad():
        cell.weight.fill_(0)

    def learn() -> None:
        nonlocal sums
        while not done.is_set():
            tg.sum(cell.weight * 1.0).backward()
            sums += 1
            if sums % 50 == 0:
                assert cell.weight.grad is not None
                assert cell.weight.grad.data[0, 0] == 50
                cell.zero_grad()

    with ThreadPoolExecutor(1) as pool:
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        learning = pool.submit(learn)
        try:
            for _ in range(100):
                Recurrent(cell, compiled=True)(tg.ones(T, B, H))
        finally:
            sys.setswitchinterval(interval)
            done.set()
        learning.result()
    assert sums % 50 == (0 if cell.weight.grad is None else cell.weight.grad.data[0, 0])
