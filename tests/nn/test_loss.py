"""The loss modules."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinygrad_lstm as tg
from tinygrad_lstm import nn

_RNG = np.random.default_rng(0)
X, Y, Z = (_RNG.normal(size=(4, 3)) for _ in range(3))
P, Q = (_RNG.uniform(0.1, 0.9, (4, 3)) for _ in range(2))
IDS, SIGNS = np.array([0, 2, 1, -1]), np.where(X > 0, 1.0, -1.0)
WEIGHT = np.array([0.5, 1.0, 2.0])
CTC = (_RNG.normal(size=(6, 2, 4)), np.array([[1, 2], [3, 3]]), [6, 5], [2, 1])

MODULES: dict[str, tuple[nn.Module, Callable[..., Any], tuple[Any, ...]]] = {
    "MSELoss(reduction='mean')": (nn.MSELoss(), tg.mse_loss, (X, Y)),
    "L1Loss(reduction='sum')": (nn.L1Loss("sum"), lambda *a: tg.l1_loss(*a, reduction="sum"), (X, Y)),
    "SmoothL1Loss(reduction='mean', beta=0.5)": (
        nn.SmoothL1Loss(beta=0.5),
        lambda *a: tg.smooth_l1_loss(*a, beta=0.5),
        (X, Y),
    ),
    "HuberLoss(reduction='none', delta=0.5)": (
        nn.HuberLoss("none", 0.5),
        lambda *a: tg.huber_loss(*a, reduction="none", delta=0.5),
        (X, Y),
    ),
    "CrossEntropyLoss(ignore_index=-1, reduction='mean', label_smoothing=0.1)": (
        nn.CrossEntropyLoss(WEIGHT, -1, label_smoothing=0.1),
        lambda *a: tg.cross_entropy(*a, weight=WEIGHT, ignore_index=-1, label_smoothing=0.1),
        (X, IDS),
    ),
    "NLLLoss(ignore_index=-1, reduction='sum')": (
        nn.NLLLoss(WEIGHT, -1, "sum"),
        lambda *a: tg.nll_loss(*a, weight=WEIGHT, ignore_index=-1, reduction="sum"),
        (X, IDS),
    ),
    "BCELoss(reduction='mean')": (nn.BCELoss(WEIGHT), lambda *a: tg.binary_cross_entropy(*a, weight=WEIGHT), (P, Q)),
    "BCEWithLogitsLoss(reduction='none')": (
        nn.BCEWithLogitsLoss(WEIGHT, "none", WEIGHT[::-1].copy()),
        lambda *a: tg.binary_cross_entropy_with_logits(*a, WEIGHT, "none", WEIGHT[::-1].copy()),
        (X, P),
    ),
    "KLDivLoss(reduction='batchmean', log_target=True)": (
        nn.KLDivLoss("batchmean", True),
        lambda *a: tg.kl_div(*a, reduction="batchmean", log_target=True),
        (X, Y),
    ),
    "GaussianNLLLoss(full=True, eps=0.2, reduction='mean')": (
        nn.GaussianNLLLoss(full=True, eps=0.2),
        lambda *a: tg.gaussian_nll_loss(*a, full=True, eps=0.2),
        (X, Y, P),
    ),
    "CTCLoss(blank=0, reduction='sum', zero_infinity=True)": (
        nn.CTCLoss(reduction="sum", zero_infinity=True),
        lambda *a: tg.ctc_loss(*a, reduction="sum", zero_infinity=True),
        CTC,
    ),
    "CosineSimilarity(dim=0, eps=1e-08)": (nn.CosineSimilarity(0), lambda *a: tg.cosine_similarity(*a, dim=0), (X, Y)),
    "CosineEmbeddingLoss(margin=0.2, reduction='mean')": (
        nn.CosineEmbeddingLoss(0.2),
        lambda *a: tg.cosine_embedding_loss(*a, margin=0.2),
        (X, Y, SIGNS[:, 0]),
    ),
    "MarginRankingLoss(margin=0.0, reduction='mean')": (nn.MarginRankingLoss(), tg.margin_ranking_loss, (X, Y, SIGNS)),
    "HingeEmbeddingLoss(margin=1.0, reduction='mean')": (nn.HingeEmbeddingLoss(), tg.hinge_embedding_loss, (X, SIGNS)),
    "SoftMarginLoss(reduction='mean')": (nn.SoftMarginLoss(), tg.soft_margin_loss, (X, SIGNS)),
    "TripletMarginLoss(margin=2.0, p=1, eps=0.1, swap=True, reduction='sum')": (
        nn.TripletMarginLoss(2.0, 1, 0.1, True, "sum"),
        lambda *a: tg.triplet_margin_loss(*a, margin=2.0, p=1, eps=0.1, swap=True, reduction="sum"),
        (X, Y, Z),
    ),
}
"""The modules, the ops that they call, and their inputs, by their reprs."""


@pytest.mark.parametrize("text", MODULES)
def test_a_module_calls_its_op(text: str) -> None:
    module, function, arrays = MODULES[text]
    first, *others = arrays
    np.testing.assert_array_equal(
        module(tg.tensor(first), *others).numpy(), function(tg.tensor(first), *others).numpy()
    )
    assert repr(module).split("  ")[0] == text


def test_every_module_is_tested() -> None:
    assert {type(module).__name__ for module, _, _ in MODULES.values()} == set(nn.loss.__all__)


def test_weights_are_buffers(device: str) -> None:
    loss = nn.BCEWithLogitsLoss(pos_weight=WEIGHT).to(device=device, dtype="float32")
    assert {name: array.tolist() for name, array in loss.state_dict().items()} == {"pos_weight": WEIGHT.tolist()}
    x = tg.tensor(X, "float32", device, requires_grad=True)
    value = loss(x, tg.tensor(P, "float32", device))
    value.backward()
    assert value.dtype == np.float32 and x.grad is not None and str(value.device) == device


def test_a_tuple_is_refused() -> None:
    with pytest.raises(TypeError, match="MSELoss: input is a tuple of 2"):
        nn.MSELoss()((tg.ones(1), tg.ones(1)), tg.ones(1))
