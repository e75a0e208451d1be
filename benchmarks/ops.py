"""Each op beside PyTorch's: forward and backward, float32, at sizes that sequence models use.

    python benchmarks/ops.py                        # every op; two threads; needs PyTorch
    python benchmarks/ops.py --only conv1d softmax  # ops whose names contain one of these
    python benchmarks/ops.py --above 2              # only rows whose ratio is above 2

Both sides compute the same call of the same arrays, whose results are compared first. Each side runs in its own
process; they take turns, and the ratio is the median over the turns.
"""

from __future__ import annotations

import argparse
import statistics
from types import SimpleNamespace
from typing import Any

import numpy as np
from harness import Case, Worker, check_agreement, ratio, take_turns

SEQUENCE = (32, 128, 256)  # batch, time, features
FLAT = (32 * 128, 256)
HEADS = (32, 8, 128, 32)  # batch, heads, time, features of a head

# The call of each op, in which `f` has the functions, and x, y, ... are arrays of the shapes beside it.
CALLS: dict[str, tuple[str, tuple[tuple[int, ...], ...]]] = {
    **{
        name: (f"f.{name}(x)", (SEQUENCE,))
        for name in (
            *("abs", "square", "exp", "expm1", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh"),
            *("asinh", "atanh", "sigmoid", "logsigmoid", "softplus", "relu", "leaky_relu", "elu", "selu", "gelu"),
            *("silu", "mish", "relu6", "hardtanh", "hardsigmoid", "softsign", "glu", "floor", "ceil", "trunc", "round"),
            *("nan_to_num", "sum", "mean", "var", "std", "erf", "isinf", "isnan"),
        )
    },
    **{name: (f"f.{name}(x.abs() + 1)", (SEQUENCE,)) for name in ("log", "log2", "log10", "sqrt", "rsqrt", "acosh")},
    **{
        name: (f"f.{name}(x, y)", (SEQUENCE, SEQUENCE))
        for name in (
            *("add", "mul", "div", "maximum", "minimum", "atan2", "hypot", "logaddexp", "remainder"),
            *("isclose", "mse_loss", "l1_loss", "smooth_l1_loss"),
        )
    },
    **{
        name: (f"f.{name}(x, dim=-1)", (SEQUENCE,))
        for name in (
            *("softmax", "log_softmax", "logsumexp", "cumsum", "cumprod", "logcumsumexp", "amax", "amin", "argmax"),
            *("diff", "norm"),
        )
    },
    **{name: (f"f.{name}(x, dim=-1)[0]", (SEQUENCE,)) for name in ("max", "min", "cummax", "median")},
    "cumprod, first": ("f.cumprod(x, dim=1)", (SEQUENCE,)),
    "sort": ("f.sort(x, dim=-1, stable=True)[0]", (SEQUENCE,)),
    "argsort": ("f.argsort(x, dim=-1, stable=True)", (SEQUENCE,)),
    "quantile": ("f.quantile(x, 0.3, dim=-1)", (SEQUENCE,)),
    "topk": ("f.topk(x, 8)[0]", (SEQUENCE,)),
    "topk of classes": ("f.topk(x, 8)[0]", ((64, 1000),)),
    "sort of classes": ("f.sort(x, dim=-1, stable=True)[0]", ((64, 1000),)),
    "searchsorted": ("f.searchsorted(x.detach().reshape(-1)[:4096].sort()[0], y.detach())", (FLAT, FLAT)),
    "searchsorted in rows": ("f.searchsorted(x.detach().square().cumsum(-1), y.detach())", (FLAT, FLAT)),
    "unique": ("f.unique((x.detach() * 20).round())", (FLAT,)),
    "nonzero": ("f.nonzero(x > 0)", (FLAT,)),
    "floor_divide": ("f.floor_divide(x.detach(), y.detach())", (SEQUENCE, SEQUENCE)),
    "prod": ("f.prod(x / x.detach().abs(), dim=-1)", (SEQUENCE,)),
    "prelu": ("f.prelu(x, y)", ((32, 256, 128), (256,))),
    "clamp": ("f.clamp(x, -0.5, 0.5)", (SEQUENCE,)),
    "conv1d": ("f.conv1d(x, y, z, padding=2)", ((32, 64, 256), (64, 64, 5), (64,))),
    "conv1d, short": ("f.conv1d(x, y, z, padding=1)", ((32, 64, 128), (64, 64, 3), (64,))),
    "conv1d, stride": ("f.conv1d(x, y, z, stride=2, padding=3)", ((32, 1, 4096), (32, 1, 7), (32,))),
    "conv1d, depthwise": ("f.conv1d(x, y, z, padding=2, groups=128)", ((32, 128, 256), (128, 1, 5), (128,))),
    "conv2d": ("f.conv2d(x, y, z, padding=1)", ((16, 16, 40, 80), (32, 16, 3, 3), (32,))),
    "conv2d, one channel": ("f.conv2d(x, y, z, padding=1)", ((16, 1, 40, 80), (16, 1, 3, 3), (16,))),
    "conv2d, three channels": ("f.conv2d(x, y, z, padding=1)", ((16, 3, 64, 64), (32, 3, 3, 3), (32,))),
    "conv_transpose1d": ("f.conv_transpose1d(x, y, z, stride=2, padding=1)", ((32, 64, 128), (64, 64, 4), (64,))),
    "conv_transpose1d, stride 1": ("f.conv_transpose1d(x, y, z)", ((32, 64, 128), (64, 64, 3), (64,))),
    "max_pool1d": ("f.max_pool1d(x, 2)", ((32, 64, 256),)),
    "max_pool1d, overlapping": ("f.max_pool1d(x, 3, 1, 1)", ((32, 64, 256),)),
    "max_pool2d": ("f.max_pool2d(x, 2)", ((16, 32, 40, 80),)),
    "max_pool2d, overlapping": ("f.max_pool2d(x, 3, 2, 1)", ((16, 32, 40, 80),)),
    "avg_pool1d": ("f.avg_pool1d(x, 2)", ((32, 64, 256),)),
    "avg_pool2d": ("f.avg_pool2d(x, 2)", ((16, 32, 40, 80),)),
    "avg_pool2d, overlapping": ("f.avg_pool2d(x, 3, 2, 1)", ((16, 32, 40, 80),)),
    "adaptive_avg_pool1d": ("f.adaptive_avg_pool1d(x, 1)", ((32, 64, 256),)),
    "adaptive_max_pool1d": ("f.adaptive_max_pool1d(x, 16)", ((32, 64, 256),)),
    "adaptive_avg_pool2d": ("f.adaptive_avg_pool2d(x, (10, 20))", ((16, 32, 40, 80),)),
    "adaptive_avg_pool2d, uneven": ("f.adaptive_avg_pool2d(x, (7, 9))", ((16, 32, 40, 80),)),
    "adaptive_max_pool2d": ("f.adaptive_max_pool2d(x, (10, 20))", ((16, 32, 40, 80),)),
    "adaptive_max_pool2d, uneven": ("f.adaptive_max_pool2d(x, (7, 9))", ((16, 32, 40, 80),)),
    "layer_norm": ("f.layer_norm(x, (256,), y, z)", (SEQUENCE, (256,), (256,))),
    "rms_norm": ("f.rms_norm(x, (256,), y)", (SEQUENCE, (256,))),
    "group_norm": ("f.group_norm(x, 8, y, z)", ((32, 64, 256), (64,), (64,))),
    "batch_norm": ("f.batch_norm(x, None, None, y, z, True)", ((32, 64, 256), (64,), (64,))),
    "pad, reflect": ("f.pad(x, (8, 8), mode='reflect')", ((32, 64, 256),)),
    "pad, replicate": ("f.pad(x, (8, 8), mode='replicate')", ((32, 64, 256),)),
    "pad, circular": ("f.pad(x, (8, 8), mode='circular')", ((32, 64, 256),)),
    "pad": ("f.pad(x, (8, -8))", ((32, 64, 256),)),
    "unfold": ("x.unfold(-1, 16, 8)", ((32, 64, 256),)),
    "attention": ("f.scaled_dot_product_attention(x, y, z)", (HEADS,) * 3),
    "attention, causal": ("f.scaled_dot_product_attention(x, y, z, is_causal=True)", (HEADS,) * 3),
    "attention, masked": ("f.scaled_dot_product_attention(x, y, z, i[:128, :128] % 3 > 0)", (HEADS,) * 3),
    "MultiheadAttention": ("layer(x, x, x)[0]", (SEQUENCE,)),
    "linear": ("f.linear(x, y, z)", (SEQUENCE, (256, 256), (256,))),
    "matmul": ("f.matmul(x, y)", (SEQUENCE, (256, 256))),
    "tensordot": ("f.tensordot(x, y, 1)", (SEQUENCE, (256, 256))),
    "gather": ("f.gather(x, 1, i % 256)", (FLAT,)),
    "scatter_add": ("f.scatter_add(x, 1, i % 256, y)", (FLAT, FLAT)),
    "scatter": ("f.scatter(x, 1, i[:, :128], y)", (FLAT, (FLAT[0], 128))),
    "index_add": ("f.index_add(x, 0, i.reshape(-1)[:4096] * 16, y)", (FLAT, FLAT)),
    "index_copy": ("f.index_copy(x, 0, i[0] * 16, y)", (FLAT, (256, 256))),
    "index_put": ("f.index_put(x, (i[0] * 16,), y)", (FLAT, (256, 256))),
    "index_put, accumulate": ("f.index_put(x, (i.reshape(-1)[:4096] * 16,), y, accumulate=True)", (FLAT, FLAT)),
    "index_select": ("f.index_select(x, 0, i[:, 0] % 4096)", (FLAT,)),
    "take": ("f.take(x, i * 4096 + f.arange(4096).reshape(-1, 1))", (FLAT,)),
    "put": ("x.put(i[:, :128] + f.arange(4096).reshape(-1, 1) * 256, y)", (FLAT, (FLAT[0], 128))),
    "masked_select": ("f.masked_select(x, x > 0)", (FLAT,)),
    "masked_scatter": ("f.masked_scatter(x, x > 0, y)", (FLAT, FLAT)),
    "masked_fill": ("f.masked_fill(x, y > 0, 0.0)", (FLAT, FLAT)),
    "one_hot": ("f.one_hot(i[:, 0] % 64, 64)", (FLAT,)),
    "repeat_interleave": ("f.repeat_interleave(x, 3, 0)", (FLAT,)),
    "tile": ("f.tile(x, (1, 3))", (FLAT,)),
    "movedim": ("f.movedim(x, 0, 1) * 1", (SEQUENCE,)),
    "diagonal": ("f.diagonal(x, 0, 1, 2)", (SEQUENCE,)),
    "trace": ("f.trace(x)", (FLAT,)),
    "cross_entropy": ("f.cross_entropy(x, i[:, 0] % 256)", (FLAT,)),
    "nll_loss": ("f.nll_loss(x, i[:, 0] % 256)", (FLAT,)),
    "binary_cross_entropy_with_logits": ("f.binary_cross_entropy_with_logits(x, y.sigmoid())", (FLAT, FLAT)),
    "binary_cross_entropy": ("f.binary_cross_entropy(x.sigmoid(), y.sigmoid())", (FLAT, FLAT)),
    "kl_div": ("f.kl_div(x, y.sigmoid(), reduction='sum')", (FLAT, FLAT)),
    "huber_loss": ("f.huber_loss(x, y)", (FLAT, FLAT)),
    "gaussian_nll_loss": ("f.gaussian_nll_loss(x, y, x.sigmoid())", (FLAT, FLAT)),
    "cosine_similarity": ("f.cosine_similarity(x, y)", (FLAT, FLAT)),
    "triplet_margin_loss": ("f.triplet_margin_loss(x, y, x * y)", (FLAT, FLAT)),
    "ctc_loss": ("f.ctc_loss(x.log_softmax(-1), 1 + i[:32, :20] % 39, [100] * 32, [20] * 32)", ((100, 32, 40),)),
    "ctc_loss, long": ("f.ctc_loss(x.log_softmax(-1), 1 + i[:16, :50] % 79, [500] * 16, [50] * 16)", ((500, 16, 80),)),
}

LAYERS = {"MultiheadAttention": "f.nn.MultiheadAttention(256, 8, batch_first=True)"}
"""What `layer` is in a call."""


def functions(side: str) -> Any:
    """The library's functions of all kinds in one namespace."""
    if side == "tinygrad_lstm":
        import tinygrad_lstm as tg

        return tg
    import torch

    return SimpleNamespace(**{**vars(torch), **vars(torch.nn.functional), "tensor": torch.tensor})


def prepare(side: str, name: str) -> Case:
    """The op with its backward pass, or alone if its result has no gradient."""
    call, shapes = CALLS[name]
    rng = np.random.default_rng(0)
    f = functions(side)
    arrays = {
        letter: f.tensor(rng.standard_normal(shape).astype(np.float32), requires_grad=True)
        for letter, shape in zip("xyz", shapes)
    }
    if name in ("asin", "acos", "atanh"):
        arrays["x"] = f.tensor((arrays["x"].detach().numpy() % 1) * 0.9, requires_grad=True)
    indices = f.tensor(np.tile(rng.permuted(np.arange(256)), (FLAT[0], 1)))
    layer = eval(LAYERS[name]) if name in LAYERS else None
    with f.no_grad():
        for parameter in layer.parameters() if layer else ():
            parameter.copy_(f.tensor(rng.standard_normal(tuple(parameter.shape)).astype(np.float32) / 16))
    function = eval(f"lambda f, i, x, y=None, z=None: {call}", {"layer": layer})
    weights: Any = None

    def run() -> Any:
        nonlocal weights
        for array in arrays.values():
            array.grad = None
        out = function(f, indices, **arrays)
        if out.requires_grad:
            if weights is None:
                weights = f.tensor(rng.standard_normal(tuple(out.shape)).astype(np.float32))
            out.backward(weights)
        return out

    def found(out: Any) -> dict[str, Any]:
        results = {"the output": out, **{letter: array.grad for letter, array in arrays.items()}}
        return {letter: value.detach().numpy() * 1.0 for letter, value in results.items() if value is not None}

    return Case(run, found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--above", type=float, default=0.0)
    options = parser.parse_args()
    workers = {side: Worker(prepare, side, options.threads) for side in ("tinygrad_lstm", "torch")}
    print("| op, forward and backward | ms | PyTorch, ms | ratio |\n| --- | --- | --- | --- |")
    for name in CALLS:
        if options.only and not any(part in name for part in options.only):
            continue
        check_agreement({side: worker.prepare(name) for side, worker in workers.items()}, tolerance=1e-3)
        seconds = take_turns(workers, options.turns)
        found = ratio(seconds["tinygrad_lstm"], seconds["torch"])
        if found > options.above:
            ours, theirs = (statistics.median(seconds[side]) * 1e3 for side in workers)
            print(f"| {name} | {ours:.2f} | {theirs:.2f} | {found:.2f} |", flush=True)
    for worker in workers.values():
        worker.close()


if __name__ == "__main__":
    main()
