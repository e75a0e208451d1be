"""Golden cases of losses of numbers, probabilities and margins with drawn arguments, as PyTorch computes them."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch_cases import Arrays, Case, Settings, called, one_of, seed

CASES_OF_EACH = 8


def number(least: float, most: float) -> float:
    """A number with one decimal within two bounds."""
    return round(float(torch.empty(()).uniform_(least, most)), 1)


def shape() -> tuple[int, ...]:
    """One to three lengths of 1 to 4."""
    return tuple(torch.randint(1, 5, (int(torch.randint(1, 4, ())),)).tolist())


def signs(*lengths: int) -> Tensor:
    """Targets 1 and -1."""
    return torch.randint(0, 2, lengths) * 2.0 - 1


def normal(*lengths: int) -> Tensor:
    """Numbers to both sides of the margins."""
    return 1.5 * torch.randn(lengths)


def inside(*lengths: int) -> Tensor:
    """Probabilities, none of which is 0 or 1."""
    return 0.01 + 0.98 * torch.rand(lengths)


def _binary_cross_entropy() -> tuple[Arrays, Settings]:
    lengths = shape()
    weight = {"weight": torch.rand(lengths[-1:])} if one_of(0, 1) else {}
    return {"input": inside(*lengths), "target": torch.rand(lengths), **weight}, {}


def _kl_div() -> tuple[Arrays, Settings]:
    lengths, logs = shape(), one_of(False, True)
    target = torch.softmax(normal(*lengths), -1)
    arrays = {"input": torch.log_softmax(normal(*lengths), -1), "target": target.log() if logs else target}
    return arrays, {"log_target": logs, "reduction": one_of("none", "sum", "mean", "batchmean")}


def _huber_loss() -> tuple[Arrays, Settings]:
    lengths = shape()
    weight = {"weight": torch.rand(lengths)} if one_of(0, 1) else {}
    return {"input": normal(*lengths), "target": normal(*lengths), **weight}, {"delta": number(0.1, 3.0)}


def _gaussian_nll_loss() -> tuple[Arrays, Settings]:
    lengths = shape()
    var = torch.rand(one_of(lengths, (*lengths[:-1], 1), lengths[:-1] or lengths))
    arrays = {"input": normal(*lengths), "target": normal(*lengths), "var": var}
    return arrays, {"full": one_of(False, True), "eps": one_of(1e-6, 0.3)}


def _cosine_similarity() -> tuple[Arrays, Settings]:
    lengths = shape()
    dim = int(torch.randint(-len(lengths), len(lengths), ()))
    second = [1 if one_of(0, 0, 1) else length for length in lengths]
    return {"x1": normal(*lengths), "x2": normal(*second)}, {"dim": dim}


def _cosine_embedding_loss() -> tuple[Arrays, Settings]:
    lengths = shape()[:2]
    arrays = {"input1": normal(*lengths), "input2": normal(*lengths), "target": signs(*lengths[:-1])}
    return arrays, {"margin": number(-0.5, 0.5)}


def _hinge_embedding_loss() -> tuple[Arrays, Settings]:
    lengths = shape()
    return {"input": normal(*lengths), "target": signs(*lengths)}, {"margin": number(-1, 2)}


def _margin_ranking_loss() -> tuple[Arrays, Settings]:
    lengths = shape()
    return {"input1": normal(*lengths), "input2": normal(*lengths), "target": signs(*lengths)}, {
        "margin": number(-1, 2)
    }


def _soft_margin_loss() -> tuple[Arrays, Settings]:
    lengths = shape()
    return {"input": normal(*lengths), "target": signs(*lengths)}, {}


def _triplet_margin_loss() -> tuple[Arrays, Settings]:
    lengths = shape()[-2:]
    arrays = {name: normal(*lengths) for name in ("anchor", "positive", "negative")}
    return arrays, {"margin": number(0.1, 3.0), "p": one_of(1.0, 2.0, 3.0), "swap": one_of(False, True)}


DRAWS: dict[str, Callable[[], tuple[Arrays, Settings]]] = {
    "binary_cross_entropy": _binary_cross_entropy,
    "kl_div": _kl_div,
    "huber_loss": _huber_loss,
    "gaussian_nll_loss": _gaussian_nll_loss,
    "cosine_similarity": _cosine_similarity,
    "cosine_embedding_loss": _cosine_embedding_loss,
    "hinge_embedding_loss": _hinge_embedding_loss,
    "margin_ranking_loss": _margin_ranking_loss,
    "soft_margin_loss": _soft_margin_loss,
    "triplet_margin_loss": _triplet_margin_loss,
}
OF_SIGNS = ("cosine_embedding_loss", "hinge_embedding_loss", "margin_ranking_loss", "soft_margin_loss")
"""Losses whose target is 1 or -1."""


def drawn(name: str) -> tuple[Arrays, Settings]:
    """The arrays and results of one call, and its settings."""
    arrays, kwargs = DRAWS[name]()
    if name != "cosine_similarity":
        kwargs = {"reduction": one_of("none", "sum", "mean"), **kwargs}
    positional, keyword = dict(list(arrays.items())[:2]), dict(list(arrays.items())[2:])
    constant = ("weight", "target") if name in OF_SIGNS else ("weight",)  # PyTorch has no derivative for weights
    return called(name, positional, kwargs, keyword, constant=constant)


def ops_losses() -> Iterator[Case]:
    """Cases of each loss."""
    for name in DRAWS:
        for place in range(CASES_OF_EACH):
            case = f"{name}_{place}"
            seed("ops_losses", case)
            yield case, *drawn(name)
