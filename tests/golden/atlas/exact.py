"""The outputs of sLSTM and mLSTM without a stabilizer, in the numbers of mpmath, whose exponents have no bound."""

from typing import Any

import mpmath
from mpmath import exp, fdot, sqrt, tanh
from torch import Tensor

mpmath.mp.dps = 40


def sigmoid(value: Any) -> Any:
    return 1 / (1 + exp(-value))


def exact_outputs(name: str, arrays: dict[str, Tensor], num_heads: int) -> list[Any]:
    """The outputs, nested lists of (T, B, H), given a case's arrays."""
    sequence = slstm if name == "slstm" else mlstm
    _, B, H = arrays["h"].shape
    rows = []
    for row in range(B):
        given = {key: array[row].tolist() for key, array in arrays.items() if key.startswith("initial_")}
        nets = [[fdot(w, x) + b for w, b in weights_and_biases(arrays)] for x in arrays["x"][:, row].tolist()]
        rows.append(sequence(arrays, nets, given, H, H // num_heads))
    return list(zip(*rows, strict=True))


def weights_and_biases(arrays: dict[str, Tensor]) -> list[tuple[list[float], float]]:
    return list(zip(arrays["weight_ih"].tolist(), arrays["bias"].tolist(), strict=True))


def slstm(arrays: dict[str, Tensor], nets: list[Any], given: dict[str, Any], H: int, D: int) -> list[Any]:
    """The outputs (T, H) of one sequence; the state before it is c * exp(m), n * exp(m)."""
    U, m, h = arrays["weight_hh"].tolist(), given["initial_m"], given["initial_h"]
    c = [exp(m[j]) * value for j, value in enumerate(given["initial_c"])]
    n = [exp(m[j]) * value for j, value in enumerate(given["initial_n"])]
    outputs = []
    for net in nets:
        before, h = h, []
        for j in range(H):
            start = j // D * D
            of_head = before[start : start + D]
            i, f, g, o = (net[row] + fdot(U[row], of_head) for row in range(j, 4 * H, H))
            c[j] = sigmoid(f) * c[j] + exp(i) * tanh(g)
            n[j] = sigmoid(f) * n[j] + exp(i)
            h.append(sigmoid(o) * c[j] / n[j])
        outputs.append(h)
    return outputs


def mlstm(arrays: dict[str, Tensor], nets: list[Any], given: dict[str, Any], H: int, D: int) -> list[Any]:
    """The outputs (T, H) of one sequence; the state before it is C * exp(m), n * exp(m)."""
    m = given["initial_m"]
    C = [[[exp(m[k]) * value for value in row] for row in head] for k, head in enumerate(given["initial_C"])]
    n = [[exp(m[k]) * value for value in head] for k, head in enumerate(given["initial_n"])]
    outputs = []
    for net in nets:
        h = []
        for head in range(len(m)):
            q, k, v, o = (net[start : start + D] for start in range(head * D, 4 * H, H))
            k = [value / sqrt(D) for value in k]
            i, f = exp(net[4 * H + head]), sigmoid(net[4 * H + len(m) + head])
            C[head] = [[f * C[head][d][e] + i * v[d] * k[e] for e in range(D)] for d in range(D)]
            n[head] = [f * n[head][e] + i * k[e] for e in range(D)]
            scale = max(abs(fdot(n[head], q)), 1)
            h += [sigmoid(o[d]) * fdot(C[head][d], q) / scale for d in range(D)]
        outputs.append(h)
    return outputs
